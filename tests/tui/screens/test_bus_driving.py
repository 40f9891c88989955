"""The bus behind its screen, without Textual: setting out, errands, words, and the line mode."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet.playground import Playground, open_playground
from fleet.station import (
    Decided,
    Fault,
    Freshness,
    Health,
    Inspected,
    ReaderChanged,
    Removed,
    SendFailed,
    Sending,
    Sent,
    StatusChanged,
)
from hardwallet.riders import Rider
from pos_terminal.errors import FaresRefused
from pos_terminal.fares import Network
from pos_terminal.inspection import Inspection
from pos_terminal.run_store import RUN_FILE
from pos_terminal.tap import Outcome
from tests.tui.screens.bus_stage import CARD, a_tap, backing_of
from tests.tui.screens.stage import NOON_S, WELL, FakeStation
from tui.errors import BadUsage
from tui.plain.bus import BusFace
from tui.screens.bus import faces
from tui.screens.bus.driving import Driving
from tui.screens.bus.setup import Setup, setup_of
from tui.screens.bus.sight import report_lines
from tui.signals import STYLES
from tui.text import LANGUAGES, set_language

SEEN = Inspection(
    reason="",
    card=CARD,
    rider=Rider.STUDENT,
    genuine=True,
    tapped=True,
    passengers=0,
    time_s=NOON_S,
    amount_fen=100,
    torn=False,
    denied=False,
    blocked=False,
    balance_fen=4900,
)


@pytest.fixture(scope="module")
def world() -> Iterator[Playground]:
    with open_playground("bus", clearing=False, clock=lambda: NOON_S) as made:
        yield made


@pytest.fixture
def station() -> FakeStation:
    return FakeStation(None, None, lambda _event: None)


@pytest.fixture
def driving(world: Playground, station: FakeStation) -> Iterator[Driving]:
    """Errands are done at once. No run is under way yet."""
    (world.session.folder.path / RUN_FILE).unlink(missing_ok=True)
    made = Driving(station, world.session, lambda errand: errand(), lambda: None)
    yield made
    made.close()


def set_out(driving: Driving, world: Playground, line: str = "", *, begin: bool = True) -> None:
    driving.open(replace(setup_of(backing_of(world), None, line, ""), begin=begin))


# ------------------------------------------------------------------------------------------ setting out


def terminal_with(**settings: str) -> Any:
    named = SimpleNamespace(**({"fares": "", "line": ""} | settings))
    folder = SimpleNamespace(settings=named, path=Path("bus"))
    return SimpleNamespace(playground=None, session=SimpleNamespace(folder=folder))


def test_a_terminal_without_fares_is_told_what_to_give() -> None:
    with pytest.raises(BadUsage, match="--fares FILE") as told:
        setup_of(terminal_with(), None, "", "")

    assert "settings.json" in str(told.value)
    assert "--amount 2.00" in str(told.value)


def test_one_fare_for_everybody_goes_without_a_line() -> None:
    with pytest.raises(BadUsage, match="--amount"):
        setup_of(terminal_with(), None, "7", "", 200)

    network = setup_of(terminal_with(), None, "", "", 200).read(lambda _done, _all: None)
    (line,) = network.lines
    assert line.highest(line.directions[0], 0) == dict.fromkeys(Rider, 200)


def test_a_line_of_the_settings_waits_for_its_driver_and_a_named_one_begins() -> None:
    assert setup_of(terminal_with(fares="a.toml", line="7"), None, "", "").line == "7"
    assert not setup_of(terminal_with(fares="a.toml", line="7"), None, "", "").begin
    assert setup_of(terminal_with(fares="a.toml"), None, "101", "").begin


def test_a_line_that_is_not_there_is_told_with_those_that_are(driving: Driving, world: Playground) -> None:
    set_out(driving, world, "99")

    assert driving.news() == "there is no line 99; the lines are 7, 101"
    assert driving.face().word == "No run yet"
    assert driving.face().hint == "L chooses line and direction."
    driving.begin_run()
    assert "choose line and direction" in driving.news()
    line = driving.network.line("101")
    driving.begin_run(line, line.directions[0])
    assert driving.is_driving


def test_a_line_that_is_gone_does_not_stand_in_the_way_of_an_open_run(
    driving: Driving, world: Playground, station: FakeStation
) -> None:
    set_out(driving, world)
    driving.close()
    again = Driving(station, world.session, lambda errand: errand(), lambda: None)
    set_out(again, world, "99")

    assert again.face().word == "Present the card"
    assert again.news() == "The run that was open goes on."
    again.close()


def test_reading_tells_how_far_it_is_and_stops_when_nobody_waits(driving: Driving) -> None:
    told: list[str] = []

    def read(tell: Callable[[int, int], None]) -> Network:
        for done in (0, 100, 101, 200):
            tell(done, 200)
            told.append(driving.face().lines[0])
        driving.give_way()
        tell(200, 200)
        told.append("it goes on reading")
        return Network(())

    driving.open(Setup(read, "", "", begin=True))

    assert told == [
        "Fares are being read…",
        *["Fares are being read: 50 %"] * 2,
        "Fares are being read: 100 %",
    ]
    assert "given up" in driving.face().lines[0]


def asks(station: FakeStation) -> bool:
    """Whether a card is awaited."""
    return station.task is not None


def test_between_runs_no_card_is_asked(driving: Driving, world: Playground, station: FakeStation) -> None:
    set_out(driving, world, begin=False)
    assert driving.face().word == "No run yet"
    assert not asks(station)

    driving.begin_run()
    assert driving.face().word == "Present the card"
    assert asks(station)
    driving.end_run()
    assert driving.face().word == "Run ended"
    assert not asks(station)


def test_the_line_that_is_driven_goes_on_and_another_begins_a_run(
    driving: Driving, world: Playground
) -> None:
    set_out(driving, world)
    line = driving.network.line("7")
    driving.begin_run(line, line.directions[0])
    assert driving.sight is not None
    assert driving.sight.number == 1

    driving.begin_run(line, line.directions[1])
    assert (driving.sight.number, driving.sight.direction_id) == (2, "back")
    assert driving.report is None


def test_where_to_goes_round_by_nobody_said(driving: Driving, world: Playground) -> None:
    set_out(driving, world, "101")
    seen = []
    for _ in range(8):
        driving.move_destination(1)
        assert driving.sight is not None
        seen.append(driving.sight.destination)
    assert seen == [1, 2, 3, 4, 5, 6, 7, None]
    driving.move_destination(-1)
    assert driving.sight is not None
    assert driving.sight.destination == 7


# ------------------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_outcome_has_a_word_a_symbol_a_picture_and_a_style(language: str) -> None:
    set_language(language)
    made = [faces.of_tap(a_tap(outcome, reason="not enough balance", balance_fen=50)) for outcome in Outcome]

    assert all(face.word and face.symbol and face.picture and face.style in STYLES for face in made)
    looks = {(face.symbol, face.word): face.style for face in made}
    assert len(looks) >= 5


def test_approved_and_already_paid_are_told_apart_by_all_means() -> None:
    paid, again = (faces.of_tap(a_tap(one)) for one in (Outcome.GRANTED, Outcome.ALREADY_GRANTED))

    for name in ("word", "symbol", "style", "picture", "bells"):
        assert getattr(paid, name) != getattr(again, name), name


def test_a_card_that_asks_for_its_pin_is_not_paid_on_a_bus() -> None:
    face = faces.of_tap(a_tap(Outcome.PIN_WANTED))

    assert face.word == "Not paid"
    assert "PIN" in face.lines[0]


@pytest.mark.parametrize(
    ("changes", "word", "symbol"),
    [
        ({}, "Tapped here", "✓"),
        ({"tapped": False}, "Not tapped here", "✗"),
        ({"denied": True}, "Card refused", "✗"),
        ({"blocked": True}, "Card refused", "✗"),
        ({"genuine": False, "reason": "the card can't prove itself"}, "Not proven", "✗"),
        ({"tapped": False, "torn": True}, "Tap broke off", "✗"),
        ({"card": b"", "reason": "the card left", "tapped": False}, "Not read", "↻"),
    ],
)
def test_an_inspector_reads_the_gravest_first(changes: dict[str, Any], word: str, symbol: str) -> None:
    face = faces.of_inspection(replace(SEEN, **changes))

    assert (face.word, face.symbol) == (word, symbol)


def test_what_an_inspector_found_stays_until_the_next_card(
    driving: Driving, world: Playground, station: FakeStation
) -> None:
    set_out(driving, world)
    driving.inspect()
    driving.take(Inspected(SEEN))
    driving.take(Removed())
    driving.calm()
    assert driving.face().word == "Tapped here"
    driving.drive_on()
    assert driving.face().word == "Present the card"
    assert station.task is not None


def test_a_driver_who_presses_a_key_sees_what_it_did(driving: Driving, world: Playground) -> None:
    set_out(driving, world)
    driving.take(Decided(cast("Any", None), a_tap(Outcome.GRANTED)))
    driving.take(Removed())
    assert driving.face().word == "Approved"
    driving.pay_for_two()
    assert driving.face().figures == "2.00 ×2"


def test_trouble_is_said_and_goes_with_its_cause(driving: Driving, world: Playground) -> None:
    set_out(driving, world)
    for wrong, word in (
        ({"trouble": "the disk is full"}, "Out of service"),
        ({"locked": "this terminal was revoked"}, "Out of service"),
        ({"reader": Health(False, "gone", "plug it in")}, "Reader missing"),
    ):
        driving.take(StatusChanged(replace(WELL, **cast("Any", wrong))))
        assert driving.face().word == word
        driving.take(StatusChanged(WELL))
        assert driving.face().word == "Present the card"
    driving.take(StatusChanged(replace(WELL, denylist=Freshness.STOPPED)))
    assert "too old" in driving.face().lines[0]


def test_a_fault_stays_until_somebody_tries_again(driving: Driving, world: Playground) -> None:
    set_out(driving, world)
    driving.take(Fault("store_failed", "nothing was kept"))
    driving.take(StatusChanged(WELL))
    driving.take(ReaderChanged(WELL.reader))
    assert driving.face().word == "Out of service"
    driving.try_again()
    assert driving.face().word == "Present the card"


def test_an_upload_says_how_far_it_is_and_what_came_down(driving: Driving, world: Playground) -> None:
    set_out(driving, world)
    driving.upload()
    driving.take(Sending(40, 300))
    assert driving.news() == "Upload: 40 of 300"
    driving.take(StatusChanged(replace(WELL, waiting_count=300)))
    driving.take(Sent(300, 2, 1, 3))
    assert driving.news() == "Sent 300."
    driving.take(StatusChanged(WELL))
    arrived = [driving.arrived]
    assert driving.news() == "Everything has arrived. Clearing did not take 2. New denylist. New orders: 3."
    driving.take(StatusChanged(replace(WELL, waiting_count=2)))
    assert [*arrived, driving.arrived] == [True, False]
    assert driving.news().startswith("Sent 300; 2 newer ones wait.")
    driving.upload()
    driving.take(SendFailed("clearing can't be reached"))
    assert driving.news() == "Not sent: clearing can't be reached"
    driving.take(Sent(1, 0, 0, 0))
    assert driving.news() == "Not sent: clearing can't be reached"


def test_the_report_has_every_figure(driving: Driving, world: Playground) -> None:
    set_out(driving, world)
    driving.end_run()
    assert driving.report is not None
    counts = replace(
        driving.report.counts,
        riders={Rider.ADULT: 7, Rider.REDUCED: 2},
        free=3,
        amount_fen=1250,
        refused=4,
        again=5,
        torn=6,
    )
    lines = report_lines(replace(driving.report, counts=counts), driving.network)

    figures = {" ".join(line.split()[:-1]): line.split()[-1] for line in lines}
    assert figures["Adult"] == "7"
    assert figures["Reduced"] == "2"
    assert figures["all riders"] == "9"
    assert figures["of them free"] == "3"
    assert figures["fares, yuan"] == "12.50"
    assert (figures["not paid"], figures["already paid"], figures["left too early"]) == ("4", "5", "6")


# ------------------------------------------------------------------------------------------ line by line


@pytest.fixture
def lines(driving: Driving, world: Playground, station: FakeStation) -> BusFace:
    holds: list[object] = []
    loop = SimpleNamespace(station=station, hold=holds.append, holds=holds)
    return BusFace(cast("Any", loop), driving, setup_of(backing_of(world), None, "101", ""))


def said(face: BusFace, typed: str) -> list[str]:
    """What the line mode answers to a typed line."""
    word, _, rest = typed.partition(" ")
    (command,) = [one for one in face.commands() if word in one.names]
    return list(command.run(rest))


def test_the_line_mode_says_what_the_screen_shows(lines: BusFace) -> None:
    greeting = list(lines.greeting())
    assert greeting[:3] == [
        "Line 101 · to Bamboo Creek  Run 1",
        "Stop 1/8: Railway Station  Next: South of the Bridge",
        "Fare: 6.00",
    ]
    assert said(lines, "next") == ["Stop 2/8: South of the Bridge  Next: Normal University"]
    assert said(lines, "back") == ["Stop 1/8: Railway Station  Next: South of the Bridge"]
    assert said(lines, "back") == ["This is the first stop."]
    assert said(lines, "to")[2] == "  4 Industrial Park  3.00"
    assert said(lines, "to 4") == ["to Industrial Park"]
    assert said(lines, "to 1") == ["There is no stop 1 ahead."]
    assert said(lines, "two") == [
        "> Present the card  3.00 ×2",
        "This tap pays for a companion.",
        "to Industrial Park",
    ]
    assert said(lines, "one")[0] == "> Present the card  3.00"
    tapped = Decided(cast("Any", None), a_tap(Outcome.GRANTED, 300, balance_fen=19_700))
    assert list(lines.on_station(tapped)) == ["✓ Approved  3.00  Balance 197.00", "Adult"]
    assert said(lines, "inspect")[0] == "? Inspection"
    assert next(iter(lines.on_station(Inspected(SEEN)))) == "✓ Tapped here"
    assert said(lines, "drive")[0].startswith("> Present the card")


def test_the_line_mode_ends_runs_begins_them_and_changes_lines(lines: BusFace) -> None:
    list(lines.greeting())
    assert said(lines, "end")[0].split()[-2:] == ["Line", "101"]
    assert said(lines, "next") == ["no run is under way; choose line and direction to begin one"]
    assert said(lines, "begin")[0] == "Line 101 · to Railway Station  Run 2"
    assert said(lines, "line")[0] == "  1 Line 7 · to Lakeside Park"
    assert said(lines, "line 9") == ["There is no line 9."]
    assert said(lines, "line 1")[0] == "Line 7 · to Lakeside Park  Run 3"
    assert said(lines, "to 3") == ["Every ride costs the same here."]
    assert said(lines, "upload") == ["Upload begins…"]
    assert list(lines.on_station(Sent(3, 0, 0, 0))) == ["Everything has arrived."]


def test_fares_that_cannot_be_read_are_said_once(lines: BusFace) -> None:
    def refuse(_tell: object) -> Network:
        raise FaresRefused("fares.toml, line 3: this is not UTF-8; save the file as UTF-8")

    lines._setup = replace(lines._setup, read=refuse)
    greeting = list(lines.greeting())

    assert greeting == ["✗ Out of service", "fares.toml, line 3: this is not UTF-8; save the file as UTF-8"]
