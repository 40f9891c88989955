"""The line mode: what is typed is done in its order, what happens is a line, and its end is a clean one."""

import io
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from fleet.station import (
    CardSeen,
    Decided,
    Event,
    Fault,
    Freshness,
    Health,
    Network,
    ReaderChanged,
    Removed,
    Sell,
    SendFailed,
    Sent,
    StatusChanged,
    TooMany,
    Unwanted,
    Waiting,
)
from pos_terminal.errors import NoSuchSale
from pos_terminal.visit import Outcome, Tap
from tests.tui.screens.stage import WELL, FakePlayground, FakeStation, backing
from tests.tui.world import REPOSITORY
from tui.plain import loop as plain
from tui.plain.lines import MAX_LINE, Lines
from tui.plain.loop import Command, Face, Loop
from tui.text import language, set_language

LIMIT_S = 30


@pytest.fixture(autouse=True)
def _english_and_no_station(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plain, "Station", FakeStation)
    set_language("en")
    yield
    set_language("en")


class Clerk(Face):
    """A face with a command for each thing that may come of one."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.done: list[str] = []
        self.secrets: list[str] = []

    def greeting(self) -> Iterable[str]:
        return ["A clerk."]

    def commands(self) -> Sequence[Command]:
        def form() -> str:
            return "note TEXT"

        def note(rest: str) -> Iterable[str]:
            self.done.append(rest)
            return [f"noted {rest}"]

        def secret(_rest: str) -> Iterable[str]:
            self.loop.ask_secret(take)
            return ["PIN:"]

        def long(_rest: str) -> Iterable[str]:
            """In pieces; before each but the first a card is decided, in the end somebody leaves."""
            pieces = 1
            while self.loop.breathe():
                pieces += 1
                self.loop.station.post(Decided(Sell(100), Tap(Outcome.GRANTED)))  # type: ignore[attr-defined]
                if pieces == 3:
                    self.loop.leave()
            return [f"{pieces} pieces"]

        def take(text: str) -> Iterable[str]:
            self.secrets.append(text)
            return [f"{len(text)} characters"]

        def refuse(_rest: str) -> Iterable[str]:
            raise NoSuchSale("there is no unfinished sale to give up")

        return [
            Command(("note", "记"), form, form, note),
            Command(("pin", "密码"), form, form, secret),
            Command(("refuse", "拒"), form, form, refuse),
            Command(("long", "长"), form, form, long),
        ]

    def on_station(self, event: Event) -> Iterable[str]:
        return ["decided"] if isinstance(event, Decided) else []


class Stand:
    """A loop under test."""

    def __init__(self, *, simulated: bool = False, out: Any = None, **options: Any) -> None:
        self.read_end, self.write_end = os.pipe()
        self.out = io.StringIO() if out is None else out
        self.world = FakePlayground() if simulated else None
        self.loop = Loop(backing(self.world), self.read_end, self.out, **options)
        self.clerk = Clerk(self.loop)
        self.station: FakeStation = self.loop.station  # type: ignore[assignment]

    def type(self, text: str) -> None:
        os.write(self.write_end, text.encode())

    def end(self) -> None:
        os.close(self.write_end)
        self.write_end = -1

    def run(self, text: str = "") -> list[str]:
        """Types the text, ends the input, runs to the end; the lines said after the greeting."""
        self.type(text)
        self.end()
        try:
            assert self.loop.run(self.clerk) == 0
        finally:
            os.close(self.read_end)
        return self.said()

    def said(self) -> list[str]:
        lines: list[str] = self.out.getvalue().splitlines()
        start = lines.index("Type help for the commands.") + 1
        return lines[start:]


BYE = "Leaving; a payment under way is finished first."


def test_lines_are_done_in_their_order_and_the_end_of_input_ends_it() -> None:
    stand = Stand()
    assert stand.run("note one\n\n  note two \nnonsense\n记 三\nnote last") == [
        "noted one",
        "noted two",
        "There is no command 'nonsense'; type help.",
        "noted 三",
        "noted last",
        BYE,
    ]
    assert stand.station.asked == [("start",), ("close",)]


def test_the_greeting_says_what_is_simulated() -> None:
    stand = Stand(simulated=True)
    stand.run("")
    assert stand.out.getvalue().startswith("SIMULATED 模拟: nothing here is money.\nA clerk.\n")


def test_quit_leaves_and_reads_no_further() -> None:
    stand = Stand()
    assert stand.run("quit\nnote never\n") == [BYE]
    assert stand.clerk.done == []


def test_what_a_command_refuses_is_a_line() -> None:
    assert Stand().run("refuse\nnote on\n")[:2] == ["✗ there is no unfinished sale to give up", "noted on"]


def test_what_happens_is_said_while_a_command_takes_long_and_leaving_ends_it() -> None:
    assert Stand().run("long\nnote never\n") == ["decided", "decided", "3 pieces", BYE]


def test_a_secret_is_no_command_and_is_not_said() -> None:
    stand = Stand()
    said = stand.run("pin\n271828\nnote after\n")
    assert said == ["PIN:", "6 characters", "noted after", BYE]
    assert stand.clerk.secrets == ["271828"]
    assert "271828" not in stand.out.getvalue()


def test_help_lists_every_command_in_both_languages() -> None:
    said = Stand(simulated=True).run("help\nlanguage zh\n帮助\n语言 fr\n语言 en\n")
    assert "note TEXT (记): note TEXT" in said
    assert "tap NUMBER (碰卡): " in "\n".join(said)
    assert "现在是中文。" in said
    assert any(line.startswith("帮助（help）：") for line in said)
    assert said[-2:] == ["This is English.", BYE]
    assert language() == "en"
    assert not any("tap" in line for line in Stand().run("help\n")), "no tray, no tap"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Waiting(Sell(100)), "> Present the card"),
        (CardSeen(Sell(100)), "… Hold the card still"),
        (TooMany(), "! One card only"),
        (Unwanted(), "Nothing was asked for: nothing was taken from that card."),
        (Removed(), "Card removed."),
        (ReaderChanged(Health(False, "gone", "the reader is gone")), "the reader is gone"),
        (Fault("journal_full", "there is no room"), "✗ there is no room"),
        (Sent(3, 1, 0, 0), "Sent 3, of which 1 refused."),
        (SendFailed("no network"), "Not sent: no network"),
        (Decided(Sell(100), Tap(Outcome.GRANTED)), "decided"),
    ],
)
def test_what_happens_is_a_line(event: Event, line: str) -> None:
    stand = Stand()
    stand.station.post(event)
    assert line in stand.run("")


def test_only_news_of_what_is_always_in_sight_is_told() -> None:
    stand = Stand()
    stand.station.post(StatusChanged(replace(WELL, waiting_count=5, waiting_fen=500, oldest_s=5)))
    stand.station.post(StatusChanged(replace(WELL, network=Network.OFFLINE)))
    stand.station.post(StatusChanged(replace(WELL, network=Network.OFFLINE, denylist=Freshness.STOPPED)))
    said = stand.run("")
    assert said[0] == "! Offline, go on"
    assert "✗ Card list 2 h, can't sell" in said
    assert not any("5 to send" in line for line in said)


def test_status_is_told_when_asked_for() -> None:
    assert Stand().run("status\n")[:-1] == [
        "✓ Online",
        "✓ Nothing to send",
        "✓ Card list 2 h",
        "✓ 12:00 clock right",
        "✓ Reader ready",
    ]


def after(stand: Stand, asked: Callable[[], bool], *events: Event) -> threading.Thread:
    """Posts events once something was asked for."""

    def post() -> None:
        limit = time.monotonic() + LIMIT_S
        while not asked() and time.monotonic() < limit:
            time.sleep(0.005)
        for event in events:
            stand.station.post(event)

    thread = threading.Thread(target=post)
    thread.start()
    return thread


def test_a_tap_holds_back_the_lines_after_it() -> None:
    stand = Stand(simulated=True)
    assert stand.world is not None
    stand.station.task = Sell(100)
    done = stand.world.done
    thread = after(stand, lambda: bool(done), Decided(Sell(100), Tap(Outcome.GRANTED)), Removed())
    assert stand.run("tap 1\nnote after\n") == ["decided", "Card removed.", "noted after", BYE]
    thread.join()
    assert done == [("tap", 0)]


def test_forwarding_and_waiting_hold_back_too() -> None:
    stand = Stand()
    thread = after(stand, lambda: ("forward",) in stand.station.asked, Sent(1, 0, 0, 0))
    assert stand.run("send\nnote after\n") == ["Sent 1, of which 0 refused.", "noted after", BYE]
    thread.join()
    stand = Stand()
    stand.station.task = Sell(100)
    assert stand.run("wait 0\nnote after\n") == ["Nothing came.", "noted after", BYE]
    assert Stand().run("wait\nwait x\n") == [
        "No card is awaited.",
        "Write how many seconds, as in: wait 10",
        BYE,
    ]


def test_the_simulated_world_by_lines() -> None:
    stand = Stand(simulated=True)
    said = stand.run("tap\ntap 1\ntear\ntear 3\nnetwork off\nnetwork\ntap ２\n")
    assert said[0] == "1 adult"
    assert said[9] == "No card is awaited."
    assert said[10:15] == [
        "0 no tear",
        "1 tear at start",
        "2 tear before pay",
        "3 tear after pay",
        "4 tear at the end",
    ]
    assert said[15] == "tear after pay"
    assert said[16] == "Write network on or network off."
    assert stand.world is not None
    assert stand.world.uplink.on is False
    assert stand.world.done == []


def test_what_happens_while_it_closes_is_still_told() -> None:
    stand = Stand()
    stand.station.closing = lambda: stand.station.post(Decided(Sell(100), Tap(Outcome.GRANTED)))
    assert stand.run("") == [BYE, "decided"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_a_second_one_breaks_nothing_off(number: signal.Signals) -> None:
    stand = Stand()
    before = signal.getsignal(number)
    stand.station.closing = lambda: os.kill(os.getpid(), number)
    thread = after(stand, lambda: ("start",) in stand.station.asked)

    def interrupt() -> None:
        thread.join()
        os.kill(os.getpid(), number)

    killer = threading.Thread(target=interrupt)
    killer.start()
    try:
        assert stand.loop.run(stand.clerk) == 0
    finally:
        killer.join()
        os.close(stand.write_end)
        os.close(stand.read_end)
    assert stand.said() == [BYE]
    assert signal.getsignal(number) == before


class Gone(io.StringIO):
    """Output that nobody takes any more, from its third line on."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = 0

    def write(self, text: str) -> int:
        self.lines += 1
        if self.lines > 3:
            raise BrokenPipeError
        return super().write(text)


def test_output_that_nobody_takes_ends_it_after_the_payment() -> None:
    stand = Stand(out=Gone())
    with pytest.raises(BrokenPipeError):
        stand.run("note 1\nnote 2\nnote 3\nnote 4\n")
    assert stand.station.asked[-1] == ("close",)
    assert len(stand.clerk.done) < 4


def test_control_characters_do_not_reach_the_terminal() -> None:
    stand = Stand()
    stand.station.post(Fault("x", "bad \x1b[31m name"))
    stand.run("note \x07\x1b]0;x\x07\n")
    assert not set("\x07\x1b") & set(stand.out.getvalue())


class Teletype(io.StringIO):
    """A terminal that remembers its bells."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("muted", "bells"), [(False, 3), (True, 0)])
def test_the_bell_counts_at_a_terminal(monkeypatch: pytest.MonkeyPatch, muted: bool, bells: int) -> None:
    monkeypatch.setattr(plain, "BEEP_S", 0.01)
    stand = Stand(out=Teletype(), mute=muted)
    stand.station.task = Sell(100)
    stand.station.post(TooMany())
    stand.run("wait 0.2\n")
    assert stand.out.getvalue().count("\a") == bells


def test_bell_off_and_on() -> None:
    assert Stand().run("bell\nbell\n") == ["The bell is off.", "The bell is on.", BYE]


# -------------------------------------------------------------------------------------------------- lines


@contextmanager
def lines_of(descriptor: int) -> Iterator[list[str | None]]:
    """The lines read from there so far; None for their end."""
    found: list[str | None] = []
    ended = threading.Event()

    def end() -> None:
        found.append(None)
        ended.set()

    lines = Lines(descriptor, found.append, end)
    lines.start()
    yield found
    ended.wait(LIMIT_S)
    lines.close()


def test_a_line_without_end_is_bounded() -> None:
    read_end, write_end = os.pipe()
    with lines_of(read_end) as found:
        for _ in range(20):
            os.write(write_end, b"x" * 1000)
        os.write(write_end, b"\nshort\n\xff\xfe\n")
        os.close(write_end)
    os.close(read_end)
    assert found[-1] is None
    assert all(len(line or "") <= MAX_LINE for line in found)
    assert found[-3:-1] == ["short", "\ufffd\ufffd"]


def test_reading_can_be_ended_in_the_middle_of_a_line() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"half a li")
    lines = Lines(read_end, lambda _line: None, lambda: None)
    lines.start()
    lines.close()
    os.close(read_end)
    os.close(write_end)


def test_a_secret_is_not_echoed_by_the_terminal() -> None:
    main_end, terminal = pty.openpty()
    out = io.StringIO()
    loop = Loop(backing(), terminal, out)
    clerk = Clerk(loop)
    echoes: list[bool] = []
    take = clerk.secrets.append

    def echo() -> bool:
        return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)

    def watched(line: str) -> Iterable[str]:
        echoes.append(echo())
        take(line)
        loop.leave()
        return []

    loop.ask_secret(watched)
    echoes.append(echo())
    os.write(main_end, b"271828\n")
    assert loop.run(clerk) == 0
    assert echoes == [False, True], "unseen while it is typed, seen again afterwards"
    assert clerk.secrets == ["271828"]
    os.close(main_end)
    os.close(terminal)


# ----------------------------------------------------------------------------------------- the whole program


def test_the_line_mode_needs_no_textual() -> None:
    probe = "import tui.plain.loop, sys; print([name for name in sys.modules if name.startswith('textual')])"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout == "[]\n"
