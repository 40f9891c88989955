"""The frame of every screen: bars, keys, dialogs, language, colours, bell, little room, leaving, faults."""

import asyncio
import threading
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from textual.app import ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input, Static

from fleet.playground import TearPlace
from fleet.station import (
    Decided,
    Event,
    Fault,
    Freshness,
    GiveBack,
    Health,
    Network,
    Sell,
    Sent,
    StatusChanged,
    TooMany,
    Waiting,
)
from pos_terminal.refund import Refund
from pos_terminal.visit import Outcome, Tap
from tests.tui.screens.stage import (
    LANGUAGES,
    NOON_S,
    SIZES,
    WELL,
    FakePlayground,
    FakeStation,
    backing,
    drive,
    shown,
    until,
)
from tui.plain import standing
from tui.screens import themes
from tui.screens.frame import BEEP_S, StationApp, StationScreen, run_screen
from tui.screens.help import Help
from tui.screens.keys import Key, bindings
from tui.screens.widgets.dialogs import AskPin, Choose, Confirm, LineOfText, Notice
from tui.screens.widgets.key_bar import lines_of
from tui.screens.widgets.status_bar import StatusBar
from tui.screens.words import Words
from tui.text import columns, language, say, set_language

pytestmark = pytest.mark.usefixtures("fake_station")

BUSY = replace(
    WELL,
    network=Network.OFFLINE,
    waiting_count=9999,
    waiting_fen=99_999_999,
    oldest_s=3540,
    review=99,
    denylist=Freshness.TIGHT,
    denylist_age_s=59 * 60,
    clock_offset_s=-500,
    reader=Health(
        False, "reader_gone", "No reader is connected. Plug one in, or see what `hardwallet doctor` finds."
    ),
)


class Counter(StationScreen):
    """A screen with a place to type, a result, and a key of its own."""

    KEYS: ClassVar[tuple[Key, ...]] = (
        Key("ctrl+t", "^T", "note", lambda: say("help"), lambda: say("Show the commands.")),
    )
    BINDINGS = bindings(KEYS)

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.notes = 0

    def body(self) -> ComposeResult:
        yield Input(id="typed")
        yield Static("", id="result", markup=False)
        yield Words(lambda: say("Not paid"), id="worded")

    def on_station(self, event: Event) -> None:
        self.events.append(event)

    def action_note(self) -> None:
        self.notes += 1


class CounterApp(StationApp):
    """An app with that screen, that counts its bells."""

    has_riders = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.bells = 0
        self.answers: list[object] = []

    def first_screen(self) -> StationScreen:
        return Counter()

    def bell(self) -> None:
        self.bells += 1

    @property
    def fake(self) -> FakeStation:
        station: Any = self.station
        assert isinstance(station, FakeStation)
        return station

    @property
    def counter(self) -> Counter:
        screen = self.screen_stack[0]
        assert isinstance(screen, Counter)
        return screen


def counter_app(*, simulated: bool = False, **options: Any) -> CounterApp:
    return CounterApp(backing(FakePlayground() if simulated else None), **options)


def a_tap(outcome: Outcome) -> Tap:
    return Tap(outcome)


# ---------------------------------------------------------------------------------------- always in sight


def test_the_bars_are_there_at_once_and_follow_the_station() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        assert "✓ Online" in shown(app)
        assert "SIMULATED" not in shown(app)
        app.fake.post(StatusChanged(replace(WELL, waiting_count=2, waiting_fen=1250, oldest_s=61)))
        await until(pilot, lambda: "2 to send" in shown(app))
        first, second = shown(app).splitlines()[:2]
        assert "! 2 to send, 12.50 yuan, oldest 1 min" in first
        assert "12:00 clock right" in second
        assert "✓ Reader ready" in second

    drive(app, script)


@pytest.mark.parametrize("tongue", LANGUAGES)
@pytest.mark.parametrize("status", [WELL, BUSY])
def test_what_is_always_in_sight_fits_80_columns(tongue: str, status: Any) -> None:
    set_language(tongue)
    bar = StatusBar()
    bar.tell(status, NOON_S, bell=False)
    lines = bar.lines(80)
    assert [columns(line) for line in lines] == [80, 80]
    for word in (
        standing.network_words(status),
        standing.waiting_words(status, NOON_S),
        standing.denylist_words(status, NOON_S),
        standing.clock_words(status, NOON_S),
        standing.reader_words(status),
        standing.review_words(status),
    ):
        assert word in "\n".join(lines)


@pytest.mark.parametrize("network", Network)
@pytest.mark.parametrize("freshness", Freshness)
def test_every_state_has_its_words(network: Network, freshness: Freshness) -> None:
    status = replace(WELL, network=network, denylist=freshness)
    said = {standing.network_words(status), standing.denylist_words(status, NOON_S)}
    assert all(words[0] in "✓!✗↑-?" for words in said), said


def test_ages_grow_by_themselves_and_say_their_unit() -> None:
    assert [standing.age(seconds) for seconds in (0, 59, 60, 3599, 3600, 172_799, 172_800)] == [
        "<1 min",
        "<1 min",
        "1 min",
        "59 min",
        "1 h",
        "47 h",
        "2 d",
    ]
    status = replace(WELL, waiting_count=1, waiting_fen=100, oldest_s=30)
    assert "oldest <1 min" in standing.waiting_words(status, NOON_S)
    assert "oldest 10 min" in standing.waiting_words(status, NOON_S + 600)


@pytest.mark.parametrize(
    ("offset_s", "words"),
    [
        (None, "12:00 not checked"),
        (0, "✓ 12:00 clock right"),
        (-4, "✓ 12:00 clock right"),
        (5, "! 12:00 clock off +5 s"),
        (-599, "! 12:00 clock off -599 s"),
        (3600, "! 12:00 clock off +60 min"),
    ],
)
def test_the_clock(offset_s: int | None, words: str) -> None:
    assert standing.clock_words(replace(WELL, clock_offset_s=offset_s), NOON_S) == words


def test_trouble_has_a_banner_of_its_own() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        gone = Health(
            False,
            "reader_gone",
            "No reader is connected. Plug one in, or see what `hardwallet doctor` finds.",
        )
        app.fake.post(StatusChanged(replace(WELL, reader=gone)))
        await until(pilot, lambda: "✗ No reader is connected" in shown(app))
        app.fake.post(StatusChanged(replace(WELL, reader=gone, trouble="The clock can't be right.")))
        await until(pilot, lambda: "✗ The clock can't be right." in shown(app))
        app.fake.post(Fault("journal_failed", "A write did not reach the disk."))
        await until(pilot, lambda: "✗ A write did not reach the disk." in shown(app))
        app.fake.post(StatusChanged(WELL))
        await pilot.pause()
        assert "did not reach the disk" in shown(app), "a fault stays until the next card is asked for"
        app.fake.post(Waiting(Sell(100)))
        await until(pilot, lambda: "did not reach" not in shown(app))

    drive(app, script)


def test_every_open_screen_is_told_while_a_dialog_is_open() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, Help))
        app.fake.post(Decided(Sell(100), a_tap(Outcome.GRANTED)))
        await until(pilot, lambda: app.counter.events)
        assert [type(event) for event in app.counter.events] == [Decided]

    drive(app, script)


# ---------------------------------------------------------------------------------------------------- bell


@pytest.mark.parametrize(
    ("event", "bells"),
    [
        (Decided(Sell(100), a_tap(Outcome.GRANTED)), 1),
        (Decided(Sell(100), a_tap(Outcome.DECLINED)), 2),
        (Decided(GiveBack(Refund(b"12345678", 1, 100)), a_tap(Outcome.GRANTED)), 1),
        (Decided(Sell(100), a_tap(Outcome.UNRESOLVED)), 3),
        (TooMany(), 3),
        (Decided(Sell(100), a_tap(Outcome.PIN_WANTED)), 4),
    ],
)
def test_the_bell_counts(event: Event, bells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.frame.BEEP_S", 0.01)
    assert BEEP_S > 0.1, "one beep and the next must not melt into one"
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        app.fake.post(event)
        await until(pilot, lambda: app.bells == bells)
        assert not app._beeps

    drive(app, script)


def test_the_bell_can_be_turned_off() -> None:
    app = counter_app(mute=True)

    async def script(pilot: Pilot[int]) -> None:
        assert "bell off" in shown(app)
        app.fake.post(Decided(Sell(100), a_tap(Outcome.GRANTED)))
        await until(pilot, lambda: app.counter.events)
        assert app.bells == 0
        await pilot.press("f4")
        assert "bell off" not in shown(app)
        app.fake.post(Decided(Sell(100), a_tap(Outcome.GRANTED)))
        await until(pilot, lambda: app.bells == 1)

    drive(app, script)


# ------------------------------------------------------------------------------------ language and colours


def test_the_language_changes_at_once_and_keeps_what_is_typed() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        await pilot.press("a", "b", "f2")
        assert language() == "zh"
        text = shown(app)
        assert "已联网" in text
        assert "未付款" in text
        assert "F10 退出" in text
        assert app.counter.query_one(Input).value == "ab"
        await pilot.press("c", "f2")
        assert app.counter.query_one(Input).value == "abc"
        assert "F10 leave" in shown(app)

    drive(app, script)


def test_a_dialog_changes_its_language_too() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        await pilot.press("f1", "f2")
        assert "按键说明" in shown(app)

    drive(app, script)


def test_the_colours_go_round() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        result = app.counter.query_one("#result", Static)
        result.set_class(True, "-approved")
        for name in (themes.LIGHT, themes.CONTRAST, themes.DARK):
            await pilot.press("f3")
            await pilot.pause()
            assert app.theme == name
            front, back = themes.pairs(name)["approved"]
            assert result.styles.background.hex == back
            assert result.styles.color.hex == front

    drive(app, script)


def test_no_color_leaves_words_and_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = counter_app(simulated=True)

    async def script(pilot: Pilot[int]) -> None:
        strips = app.screen._compositor.render_strips(app.size)
        for strip in strips:
            for segment in strip.apply_filter(app._filters[-1], app.screen.background_colors[1]):
                for colour in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                    if colour is not None and colour.triplet is not None:
                        assert len(set(colour.triplet)) == 1, colour
        assert "✓ Online" in shown(app)

    drive(app, script)


# ---------------------------------------------------------------------------------------------------- keys


def test_help_is_made_of_the_keys_that_work_now() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        await pilot.press("f1")
        await pilot.pause()
        text = shown(app)
        assert "^T" in text
        assert "F10" in text
        assert "Simulated" not in text, "no playground"
        await pilot.press("f1")
        assert not isinstance(app.screen, Help)
        await pilot.press("f1", "escape")
        assert not isinstance(app.screen, Help)

    drive(app, script)


def test_every_key_of_the_program_is_bound_and_explained() -> None:
    explained = {name for key in StationApp.KEYS for name in key.keys.split(",")}
    bound = {
        name
        for binding in StationApp.BINDINGS
        for name in (binding.key if not isinstance(binding, tuple) else binding[0]).split(",")
    }
    assert bound - explained == set("0234567890") - {"1"}, "the digits are explained by one line"
    for key in StationApp.KEYS:
        assert key.word()
        assert key.sentence().endswith(".")


def test_the_bar_of_keys_is_clicked_and_leaves_out_what_does_not_fit() -> None:
    assert lines_of([("F1", "help"), ("F2", "more")], 9) == [[("F1", "help")], [("F2", "more")]]
    assert lines_of([("F1", "a"), ("F2", "b"), ("F3", "c")], 5) == [[("F1", "a")], [("F3", "c")]]
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        bar = shown(app).splitlines()[-1]
        await pilot.click("KeyBar", offset=(bar.index("F2") + 1, 0))
        await pilot.pause()
        assert language() == "zh"

    drive(app, script)


def test_f5_forwards_and_says_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = counter_app()
    said: list[str] = []
    monkeypatch.setattr(app, "say_briefly", said.append)

    async def script(pilot: Pilot[int]) -> None:
        app.fake.post(Sent(1, 0, 0, 0))
        await until(pilot, lambda: app.counter.events)
        assert said == [], "what is sent by itself disturbs nobody"
        await pilot.press("f5")
        assert ("forward",) in app.fake.asked
        app.fake.post(Sent(3, 0, 0, 0))
        await until(pilot, lambda: said)
        app.fake.post(Sent(3, 1, 0, 0))
        await until(pilot, lambda: len(said) == 2)
        assert said[0] == "Sent 3 entries."
        assert "did not take 1" in said[1]

    drive(app, script)


def test_what_is_said_briefly_leaves_the_bar_of_keys_in_sight() -> None:
    app = counter_app()

    async def run() -> None:
        async with app.run_test(size=(60, 20), notifications=True) as pilot:
            await pilot.pause()
            before = shown(app).splitlines()[-2:]
            app.say_briefly("Everything had been sent already.")
            await until(pilot, lambda: "Everything" in shown(app))
            assert shown(app).splitlines()[-2:] == before

    asyncio.run(run())


def test_textual_says_nothing_of_its_own() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+p")
        await pilot.pause()
        assert app.screen is app.counter
        assert "alette" not in shown(app)

    drive(app, script)


# --------------------------------------------------------------------------------------- a simulated world


def test_the_tray_is_tapped_only_once_a_card_is_awaited() -> None:
    app = counter_app(simulated=True)
    world: Any = app.playground

    async def script(pilot: Pilot[int]) -> None:
        app.set_focus(None)
        await pilot.press("1")
        assert world.done == []
        app.fake.task = Sell(100)
        await pilot.press("1", "9", "0")
        assert world.done == [("tap", 0), ("tap", 8), ("two",)]
        app.counter.query_one(Input).focus()
        await pilot.press("2")
        assert world.done == [("tap", 0), ("tap", 8), ("two",)], "who types, types"
        assert app.counter.query_one(Input).value == "2"

    drive(app, script)


def test_tear_network_and_how_busy_are_keys() -> None:
    app = counter_app(simulated=True)
    world: Any = app.playground

    async def script(pilot: Pilot[int]) -> None:
        assert "SIMULATED 模拟" in shown(app)
        await pilot.press("f6", "down", "down", "down", "enter")
        await pilot.pause()
        assert world.tear is TearPlace.AFTER_PAY
        assert "tear after pay" in shown(app)
        await pilot.press("f7")
        assert world.uplink.on is False
        assert "network off" in shown(app)
        await pilot.press("f8", "f8")
        assert world.done == [("busy", 1), ("busy", 2)]
        assert "2 riders/s" in shown(app)

    drive(app, script)


@pytest.mark.parametrize("tongue", LANGUAGES)
@pytest.mark.parametrize("riders", [False, True])
def test_the_bar_of_the_simulation_fits_80_columns(tongue: str, riders: bool) -> None:
    set_language(tongue)
    app = counter_app(simulated=True)
    type(app).has_riders = riders
    world: Any = app.playground
    world.tear = TearPlace.BEFORE_RATIFY

    async def script(_pilot: Pilot[int]) -> None:
        lines = shown(app).splitlines()[2:4]
        assert lines[0].startswith("SIMULATED 模拟")
        for number in "0123456789":
            assert f"{number} " in "\n".join(lines), lines

    try:
        drive(app, script)
    finally:
        type(app).has_riders = True


# ------------------------------------------------------------------------------------------------ dialogs


def test_yes_and_no() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        for keys, answer in ((["enter"], False), (["tab", "enter"], True), (["escape"], None)):
            app.answers.clear()
            app.push_screen(
                Confirm(lambda: say("Not paid"), lambda: say("OK"), lambda: say("back")), app.answers.append
            )
            await pilot.pause()
            await pilot.press(*keys)
            await until(pilot, lambda: app.answers)
            assert app.answers == [answer], keys

    drive(app, script)


def test_a_line_of_text_stays_until_it_will_do() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        wrong = lambda text: "" if text == "ok" else say("Not paid")  # noqa: E731
        app.push_screen(LineOfText(lambda: say("OK"), wrong=wrong), app.answers.append)
        await pilot.pause()
        await pilot.press("o", "enter")
        assert app.answers == []
        assert "Not paid" in shown(app)
        await pilot.press("k", "enter")
        await until(pilot, lambda: app.answers)
        assert app.answers == ["ok"]

    drive(app, script)


def test_a_pin_is_never_shown() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        app.push_screen(AskPin(lambda: say("Enter the PIN")), app.answers.append)
        await pilot.pause()
        await pilot.press(*"12x", "enter")
        assert app.answers == []
        assert "4 to 12 digits" in shown(app)
        await pilot.press("backspace", *"345", "enter")
        await until(pilot, lambda: app.answers)
        assert app.answers == ["12345"]

    async def watch(pilot: Pilot[int]) -> None:
        app.push_screen(AskPin(lambda: say("Enter the PIN")))
        await pilot.pause()
        await pilot.press(*"271828")
        assert "2718" not in shown(app)
        await pilot.press("f2", "f3")
        assert "2718" not in shown(app)

    drive(app, script)
    app = counter_app()
    drive(app, watch)


def test_choosing_and_reading() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        app.push_screen(
            Choose(lambda: say("OK"), [lambda: say("Approved"), lambda: say("Not paid")], 1),
            app.answers.append,
        )
        await pilot.pause()
        await pilot.press("f2")
        assert "已批准" in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.answers)
        app.push_screen(Notice(lambda: say("OK"), lambda: say("Not paid")), app.answers.append)
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: len(app.answers) == 2)
        assert app.answers == [1, True]

    drive(app, script)


def test_an_answer_under_another_dialog_waits_for_it() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        dialog = AskPin(lambda: say("Enter the PIN"))
        app.push_screen(dialog, app.answers.append)
        await pilot.pause()
        await pilot.press("f1")
        dialog.answer(None)
        await pilot.pause()
        assert app.answers == []
        await pilot.press("escape")
        await until(pilot, lambda: app.answers == [None])
        assert app.screen is app.counter

    drive(app, script)


# --------------------------------------------------------------------------------------- too little room


def test_a_screen_without_room_says_so_in_both_languages_and_recovers() -> None:
    app = counter_app(simulated=True)

    async def script(pilot: Pilot[int]) -> None:
        await pilot.press("a")
        await pilot.resize_terminal(40, 12)
        await pilot.pause()
        text = shown(app)
        assert "Too small" in text
        assert "窗口太小" in text
        assert "Online" not in text
        await pilot.press("b", "f2", "f1")
        assert app.screen is app.counter
        assert language() == "en"
        app.fake.post(StatusChanged(replace(WELL, network=Network.OFFLINE)))
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "! Offline" in shown(app)
        assert app.counter.query_one(Input).value == "a"

    drive(app, script)


def test_a_dialog_without_room_recovers_too() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        await pilot.press("f1")
        await pilot.resize_terminal(59, 24)
        await pilot.pause()
        assert "窗口太小" in shown(app)
        assert "Show what" not in shown(app)
        await pilot.resize_terminal(60, 20)
        await pilot.pause()
        assert "Show what the keys do" in shown(app)

    drive(app, script)


# ------------------------------------------------------------------------------------- leaving and faults


@pytest.mark.parametrize("key", ["f10", "ctrl+c", "ctrl+q"])
def test_leaving_finishes_what_is_under_way(key: str) -> None:
    app = counter_app()
    finished = threading.Event()
    app.fake.closing = finished.wait  # type: ignore[assignment]

    async def script(pilot: Pilot[int]) -> None:
        await pilot.press(key)
        await until(pilot, lambda: "a payment under way is finished first" in shown(app))
        await pilot.press("ctrl+c", "escape", "enter", "f10")
        assert app.return_value is None, "not before the payment stands"
        assert app.is_running
        finished.set()
        await until(pilot, lambda: app.return_value == 0)

    drive(app, script)
    assert app.fake.asked.count(("close",)) == 1


def test_leaving_works_without_room() -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        await pilot.resize_terminal(40, 12)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app.return_value == 0)

    drive(app, script)


def test_a_bug_ends_the_screen_but_closes_the_station(monkeypatch: pytest.MonkeyPatch) -> None:
    """And shows no values: a PIN might be among them."""
    app = counter_app()

    def run() -> None:
        async def play() -> None:
            async with app.run_test() as pilot:
                await pilot.pause()

                def broken(_event: Event) -> None:
                    pin = "271828"
                    raise RuntimeError(f"a bug, {len(pin)}")

                monkeypatch.setattr(app.counter, "on_station", broken)
                app.fake.post(TooMany())
                await until(pilot, lambda: app.broken)

        with pytest.raises(RuntimeError, match="a bug"):
            asyncio.run(play())

    monkeypatch.setattr(app, "run", run)
    with pytest.raises(RuntimeError, match="a bug, 6"):
        run_screen(app)
    assert app.fake.asked[-1] == ("close",)
    assert not app._exit_renderables


@pytest.mark.parametrize("tongue", LANGUAGES)
@pytest.mark.parametrize("size", SIZES)
def test_pictures(snapshot: Any, tongue: str, size: tuple[int, int]) -> None:
    """The help over a screen in trouble, in both languages: everything that the frame draws."""
    set_language(tongue)
    app = counter_app(simulated=True)

    async def script(pilot: Pilot[int]) -> None:
        app.fake.post(StatusChanged(BUSY))
        await until(pilot, lambda: app.status is BUSY)
        snapshot(app, f"frame-trouble-{tongue}-{size[0]}x{size[1]}")
        await pilot.press("f1")
        await pilot.pause()
        snapshot(app, f"frame-help-{tongue}-{size[0]}x{size[1]}")

    drive(app, script, size)


@pytest.mark.parametrize("size", [(60, 20), (67, 20), (80, 24)])
def test_the_way_out_is_in_sight_from_the_first_frame(size: tuple[int, int]) -> None:
    app = counter_app()

    async def script(pilot: Pilot[int]) -> None:
        assert "F10 leave" in shown(app).splitlines()[-1]
        assert "F1 help" in shown(app)
        await pilot.resize_terminal(60, 21)
        await pilot.pause()
        assert "F10 leave" in shown(app).splitlines()[-1]

    drive(app, script, size)
