"""Pictures of the validator in every state, in both languages and sizes: looked at, then kept."""

from collections.abc import Callable, Iterator

import pytest
from textual.app import App
from textual.pilot import Pilot

from fleet.playground import Playground, open_playground
from fleet.station import Decided, Fault, Health, Inspected, ReaderChanged, Sent, TooMany, Waiting
from hardwallet.riders import Rider
from pos_terminal.inspection import Inspection
from pos_terminal.run import Run
from pos_terminal.tap import Outcome
from pos_terminal.visit import Tap
from tests.tui.screens.bus_stage import CARD, COUNTS, Driver, a_tap, bus_of
from tests.tui.screens.stage import LANGUAGES, NOON_S, SIZES, FakeStation, drive
from tui.text import set_language

Snapshot = Callable[[App[int], str], None]
DENIED = "the card is on its issuer's denylist and can't pay here; its holder has to ask the issuer"
CLOCK = "this machine's clock went back behind its newest sale; set the clock first"
FOUND = Inspection(
    reason="",
    card=CARD,
    rider=Rider.STUDENT,
    genuine=True,
    tapped=True,
    passengers=1,
    time_s=NOON_S,
    amount_fen=100,
    torn=False,
    denied=False,
    blocked=False,
    balance_fen=4900,
)
GONE = "The reader ACS ACR122U 00 00 is gone. Plug it in again."


@pytest.fixture(scope="module")
def world() -> Iterator[Playground]:
    with open_playground("bus", clearing=False, clock=lambda: NOON_S) as made:
        yield made


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.usefixtures("fake_station")
def test_every_state_looks_as_it_was_approved(
    world: Playground,
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    language: str,
) -> None:
    set_language(language)
    monkeypatch.setattr(Run, "counts", property(lambda _run: COUNTS))

    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        station: FakeStation = driver.app.station  # type: ignore[assignment]

        async def picture(state: str) -> None:
            await driver.settle()
            snapshot(driver.app, f"bus-{state}-{language}-{size[0]}x{size[1]}")

        await driver.running()
        task = station.task
        assert task is not None

        async def told(state: str, result: Tap) -> None:
            station.post(Decided(task, result))
            await picture(state)

        await picture("ready")
        await told("approved", a_tap(Outcome.GRANTED, balance_fen=19_800))
        await told("free", a_tap(Outcome.GRANTED, 0, free=True, rider=Rider.SENIOR))
        await told("already", a_tap(Outcome.ALREADY_GRANTED, balance_fen=19_800))
        await told("refused", a_tap(Outcome.DECLINED, reason=DENIED))
        await told("empty", a_tap(Outcome.DECLINED, reason="not enough balance", balance_fen=150))
        await told("torn", a_tap(Outcome.UNRESOLVED))
        station.post(TooMany())
        await picture("two-cards")
        station.post(ReaderChanged(Health(False, "reader_gone", GONE)))
        await picture("no-reader")
        station.post(Fault("clock_wrong", CLOCK))
        station.post(ReaderChanged(Health(True, "ready", "the reader is ready")))
        await picture("out-of-service")
        await driver.press("enter")
        station.post(Waiting(task))
        await driver.press("i")
        station.post(Inspected(FOUND))
        await picture("inspected")
        await driver.press("escape")
        await driver.press("l")
        await picture("lines")
        await driver.press("down", "down", "enter")
        await driver.press("down")
        await driver.press("down")
        await driver.press("t", "u")
        station.post(Sent(19, 0, 1, 2))
        await picture("by-distance")
        await driver.press("d")
        await picture("stops")
        await driver.press("escape", "e", "tab", "enter")
        await picture("report")

    with bus_of(world, clock=lambda: NOON_S) as app:
        drive(app, script, size)
