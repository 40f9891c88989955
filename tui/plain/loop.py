"""The line mode: commands in, a line out for whatever happens. It works through pipes and for screen readers.

Everything is one queue, worked off by the main thread: lines that were typed, events of the station, signals.
A command whose answer takes time (a tap of a tray's card) holds the lines after it back until that answer is
there, so that a file of commands does what it says, in that order.
"""

import contextlib
import queue
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TextIO

from fleet.playground import TearPlace
from fleet.station import (
    CardSeen,
    Done,
    Event,
    Fault,
    ReaderChanged,
    Removed,
    SendFailed,
    Sent,
    Station,
    Status,
    StatusChanged,
    TooMany,
    Unwanted,
    Waiting,
)
from pos_terminal.visit import Outcome
from tui import signals
from tui.backing import Backing
from tui.errors import EXPECTED, message
from tui.plain.lines import Lines, unseen
from tui.plain.standing import status_lines
from tui.plain.tray import SIMULATED, card_word, tear_word
from tui.text import LANGUAGES, harmless, language, say, set_language, told

HOLD_S: Final = 60.0
"""How long a command may hold back the lines after it."""
BEEP_S: Final = 0.22
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_END: Final = "end"
_STOP: Final = "stop"


@dataclass(frozen=True, slots=True)
class Command:
    """`names` are what may be typed, in either language whatever language is spoken; the first two are shown.

    `run` gets the rest of the line, and returns the lines to say. What it raises of EXPECTED becomes a line.
    """

    names: tuple[str, ...]
    form: Callable[[], str]
    help: Callable[[], str]
    run: Callable[[str], Iterable[str]]


class Face:
    """What is behind the lines: a till or a bus. Subclasses give their commands and words for events."""

    def __init__(self, loop: "Loop") -> None:
        self.loop = loop

    @property
    def station(self) -> Station:
        """The terminal at work."""
        return self.loop.station

    def commands(self) -> Sequence[Command]:
        """The commands besides those that every line mode has."""
        return ()

    def greeting(self) -> Iterable[str]:
        """The first lines."""
        return ()

    def other(self, line: str) -> Iterable[str]:
        """A line that is no command."""
        return [say("There is no command {word!r}; type help.", word=line.partition(" ")[0][:20])]

    def on_station(self, event: Event) -> Iterable[str]:  # noqa: ARG002 - for subclasses
        """The lines for what happened: results and inquiries. The loop says the rest."""
        return ()


class Loop:
    """Works off lines, events and signals until it is left. For the main thread."""

    def __init__(self, backing: Backing, descriptor: int, out: TextIO, *, mute: bool = False) -> None:
        """Lines come from the open file `descriptor`; `out` takes one line for each thing that happens."""
        self.backing = backing
        self.playground = backing.playground
        self.muted = mute
        self._out = out
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[str | tuple[str] | Event] = queue.SimpleQueue()
        self._typed: deque[str] = deque()
        self._ended = False
        self._stopping = False
        self._lost: OSError | None = None
        self._hold: Callable[[Event], bool] | None = None
        self._hold_until = 0.0
        self._secret: Callable[[str], Iterable[str]] | None = None
        self._unseen = ExitStack()
        self._beeps: deque[float] = deque()
        self.station = Station(backing.session, backing.field, self._queue.put, uplink=backing.uplink)
        backing.health.listen(self.station.note_health)
        self.status: Status = self.station.status()
        self._commands: dict[str, Command] = {}
        self._face = Face(self)

    # --------------------------------------------------------------------------------- what a face calls

    def tell(self, *lines: str) -> None:
        """Says lines, now."""
        try:
            for line in lines:
                self._out.write(harmless(line) + "\n")
            self._out.flush()
        except OSError as error:  # nobody listens any more; a tap under way is still finished
            self._lost = error
            self._stopping = True

    def hold(self, until: Callable[[Event], bool], seconds: float = HOLD_S) -> None:
        """The lines after this one wait until such an event, so many seconds at most."""
        self._hold, self._hold_until = until, time.monotonic() + seconds

    def breathe(self) -> bool:
        """For a command that takes long, between its pieces: says what has happened meanwhile; lines wait.
        False when it should end, as the program does."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._queue.get_nowait())
        return not self._stopping

    def ask_secret(self, take: Callable[[str], Iterable[str]]) -> None:
        """The next line is not shown while it is typed, and goes to `take` only."""
        self._secret = take
        self._unseen.enter_context(unseen(self._descriptor))

    def leave(self) -> None:
        """Ends, after what is under way."""
        self._stopping = True

    # ----------------------------------------------------------------------------------------- the loop

    def run(self, face: Face) -> int:
        """Until it is left; the exit code. A payment under way is finished first."""
        self._face = face
        for command in (*face.commands(), *self._own_commands()):
            for name in command.names:
                self._commands.setdefault(name, command)
        lines = Lines(self._descriptor, lambda line: self._queue.put((line,)), lambda: self._queue.put(_END))
        with _noted(lambda: self._queue.put(_STOP)):
            try:
                self._greet()
                self.station.start()
                lines.start()
                self._work()
                self.tell(say("Leaving; a payment under way is finished first."))
            finally:
                self._unseen.close()
                lines.close()
                self.station.close()
            self._say_what_is_left()
        if self._lost is not None:
            raise self._lost
        return 0

    def _greet(self) -> None:
        if self.playground is not None:
            self.tell(say("{simulated}: nothing here is money.", simulated=SIMULATED))
        self.tell(*self._face.greeting(), say("Type help for the commands."))

    def _work(self) -> None:
        while not self._stopping:
            if self._hold is None and self._typed:
                self._line(self._typed.popleft())
                continue
            if self._hold is None and self._ended:
                return
            try:
                self._take(self._queue.get(timeout=self._patience_s()))
            except queue.Empty:
                self._pass_time()

    def _take(self, item: str | tuple[str] | Event) -> None:
        if isinstance(item, Event):
            self._event(item)
        elif isinstance(item, tuple):
            self._typed.append(item[0])
        elif item == _END:
            self._ended = True
        else:
            self._stopping = True

    def _patience_s(self) -> float | None:
        """Seconds until something is due by itself; None when nothing is."""
        due = [self._beeps[0]] if self._beeps else []
        if self._hold is not None:
            due.append(self._hold_until)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _pass_time(self) -> None:
        now = time.monotonic()
        while self._beeps and self._beeps[0] <= now:
            self._beeps.popleft()
            self._beep()
        if self._hold is not None and self._hold_until <= now:
            self._hold = None
            self.tell(say("Nothing came."))

    def _say_what_is_left(self) -> None:
        """What happened while the station was closed."""
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, Event):
                    self._event(item)

    # ------------------------------------------------------------------------------------------- events

    def _event(self, event: Event) -> None:
        self.tell(*self._words(event), *self._face.on_station(event))
        self._ring(signals.bells_of(event))
        if self._hold is not None and self._hold(event):
            self._hold = None

    def _words(self, event: Event) -> Iterator[str]:
        match event:
            case Waiting():
                yield _signalled(signals.present_card())
            case CardSeen():
                yield _signalled(signals.processing())
            case TooMany():
                yield _signalled(signals.one_card_only())
            case Unwanted():
                yield say("Nothing was asked for: nothing was taken from that card.")
            case Removed():
                yield say("Card removed.")
            case ReaderChanged():
                yield told(event.health.sentence)
            case Fault():
                yield say("✗ {sentence}", sentence=told(event.sentence))
            case Sent():
                yield say(
                    "Sent {entries}, of which {rejected} refused.",
                    entries=event.entries,
                    rejected=event.rejected,
                )
            case SendFailed():
                yield say("Not sent: {why}", why=told(event.sentence))
            case StatusChanged():
                yield from self._changes(event.status)
            case _:
                pass

    def _changes(self, status: Status) -> Iterator[str]:
        """What is new of what is always in sight; counts and ages are told when they are asked for."""
        before, self.status = self.status, status
        if status.network is not before.network or status.denylist is not before.denylist:
            yield from status_lines(status, status.now_s)
        if status.locked and not before.locked:
            yield say("✗ {sentence}", sentence=told(status.locked))

    def _ring(self, times: int) -> None:
        if not times or self.muted or not self._out.isatty():
            return
        now = time.monotonic()
        self._beeps = deque(now + number * BEEP_S for number in range(1, times))
        self._beep()

    def _beep(self) -> None:
        with contextlib.suppress(OSError):
            self._out.write("\a")
            self._out.flush()

    # ----------------------------------------------------------------------------------------- commands

    def _line(self, line: str) -> None:
        if self._secret is not None:
            take, self._secret = self._secret, None
            self._unseen.close()
            self._run(lambda: take(line))
            return
        word, _, rest = line.partition(" ")
        if not word:
            return
        command = self._commands.get(word.lower())
        if command is None:
            self._run(lambda: self._face.other(line))
            return
        self._run(lambda: command.run(rest.strip()))

    def _run(self, work: Callable[[], Iterable[str]]) -> None:
        try:
            self.tell(*work())
        except EXPECTED as error:
            self.tell(say("✗ {sentence}", sentence=message(error)))

    def _own_commands(self) -> list[Command]:
        """The commands of every line mode; those of a simulated world only there."""
        own = [
            Command(
                ("help", "帮助", "?"), lambda: say("help"), lambda: say("Show the commands."), self._help
            ),
            Command(
                ("status", "状态"),
                lambda: say("status"),
                lambda: say("Say what is always in sight: network, what waits, card list, clock, reader."),
                lambda _: status_lines(self.status, self.backing.clock()),
            ),
            Command(
                ("send", "上传"),
                lambda: say("send"),
                lambda: say("Send what waits, now; it is also sent by itself."),
                self._forward,
            ),
            Command(
                ("wait", "等待"),
                lambda: say("wait SECONDS"),
                lambda: say("Read no further line until the card that is awaited has its result."),
                self._wait,
            ),
            Command(
                ("language", "语言"),
                lambda: say("language en|zh"),
                lambda: say("Switch between Chinese and English."),
                self._language,
            ),
            Command(
                ("bell", "提示音"),
                lambda: say("bell"),
                lambda: say("Turn the bell off and on."),
                self._bell,
            ),
            Command(
                ("quit", "退出", "exit"),
                lambda: say("quit"),
                lambda: say("Leave; a payment under way is finished first."),
                self._quit,
            ),
        ]
        return own if self.playground is None else [*own, *self._world_commands()]

    def _world_commands(self) -> list[Command]:
        return [
            Command(
                ("tap", "碰卡"),
                lambda: say("tap NUMBER"),
                lambda: say("Simulated: present that card of the tray; without a number: list the cards."),
                self._tap,
            ),
            Command(
                ("two-cards", "两张"),
                lambda: say("two-cards"),
                lambda: say("Simulated: present two cards at once."),
                self._two,
            ),
            Command(
                ("tear", "中断"),
                lambda: say("tear NUMBER"),
                lambda: say("Simulated: choose where the next card is taken away too early."),
                self._tear,
            ),
            Command(
                ("network", "网络"),
                lambda: say("network on|off"),
                lambda: say("Simulated: switch the network off and on."),
                self._network,
            ),
        ]

    def _help(self, _rest: str) -> Iterable[str]:
        other = 0 if language() == "zh" else 1  # the form has the name in this language
        return [
            say(
                "{form} ({name}): {help}", form=command.form(), name=command.names[other], help=command.help()
            )
            for command in dict.fromkeys(self._commands.values())
        ]

    def _forward(self, _rest: str) -> Iterable[str]:
        self.station.forward()
        self.hold(lambda event: isinstance(event, Sent | SendFailed))
        return ()

    def _wait(self, rest: str) -> Iterable[str]:
        try:
            seconds = min(float(rest), HOLD_S) if rest else HOLD_S
        except ValueError:
            return [say("Write how many seconds, as in: wait 10")]
        if self.station.task is None:
            return [say("No card is awaited.")]
        self.hold(lambda event: isinstance(event, Removed | Fault), max(0.0, seconds))
        return ()

    def _language(self, rest: str) -> Iterable[str]:
        if rest not in LANGUAGES:
            return [say("Write language en or language zh.")]
        set_language(rest)
        return [say("This is English.")]

    def _bell(self, _rest: str) -> Iterable[str]:
        self.muted = not self.muted
        return [say("The bell is off.") if self.muted else say("The bell is on.")]

    def _quit(self, _rest: str) -> Iterable[str]:
        self.leave()
        return ()

    def _tap(self, rest: str) -> Iterable[str]:
        world = self.playground
        if world is None:
            return ()
        place = int(rest) if rest.isascii() and rest.isdigit() else 0
        if not 1 <= place <= len(world.tray):
            return [f"{number} {card_word(card.name)}" for number, card in enumerate(world.tray, 1)]
        if self.station.task is None:
            return [say("No card is awaited.")]
        world.tap(place - 1)
        self.hold(lambda event: isinstance(event, Removed | Fault) or _wants_pin(event))
        return ()

    def _two(self, _rest: str) -> Iterable[str]:
        if self.playground is not None:
            self.playground.two_cards()
            self.hold(lambda event: isinstance(event, Removed | Fault))
        return ()

    def _tear(self, rest: str) -> Iterable[str]:
        places = list(TearPlace)
        place = int(rest) if rest.isascii() and rest.isdigit() else len(places)
        if self.playground is None or place >= len(places):
            return [f"{number} {tear_word(each)}" for number, each in enumerate(places)]
        self.playground.set_tear(places[place])
        return [tear_word(places[place])]

    def _network(self, rest: str) -> Iterable[str]:
        if self.playground is None or rest not in ("on", "off"):
            return [say("Write network on or network off.")]
        self.playground.set_network(rest == "on")
        return ()


def _signalled(signal_: signals.Signal) -> str:
    return f"{signal_.symbol} {signal_.word}"


def _wants_pin(event: Event) -> bool:
    """Whether the card that lies there goes on only with its PIN."""
    return isinstance(event, Done) and event.tap.outcome in (Outcome.PIN_WANTED, Outcome.PIN_WRONG)


@contextmanager
def _noted(tell: Callable[[], None]) -> Iterator[None]:
    """Meanwhile signals that ask the program to end are only told. For the main thread."""
    before: dict[signal.Signals, Any] = {
        number: signal.signal(number, lambda _number, _frame: tell()) for number in _SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
