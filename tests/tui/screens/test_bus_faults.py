"""What goes wrong on a bus: the validator says so, takes nothing that it can't keep, and comes back."""

from collections.abc import Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from firmware_bridge.errors import ReaderGone
from firmware_bridge.link import CardLink, LinkProcessor
from fleet.playground import Playground, open_playground
from hardwallet.messages import INS_PAY
from hardwallet.riders import Rider
from pos_terminal.errors import StoreFailed
from pos_terminal.run_store import RunStore
from tests.tui.screens.bus_stage import ADULT, SENIOR, STUDENT, Driver, bus_of, quick
from tests.tui.screens.stage import NOON_S, drive, until
from tui.screens.bus.driving import Driving


@pytest.fixture
def world() -> Iterator[Playground]:
    with open_playground("bus", clearing=False) as made:
        yield quick(made)


class _Unplugged:
    """A reader that goes away in the middle of a payment, and comes back after a while."""

    def __init__(self, world: Playground) -> None:
        self._field = world.field
        self.pulled = False
        self.gone = 0

    @property
    def reader(self) -> Any:
        return self._field.reader

    def modelled_ms(self) -> float:
        return 0.0

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        if self.gone:
            self.gone -= 1
            raise ReaderGone("The reader ACS is gone. Plug it in again.")
        return _PulledLink(self._field.wait_for_card(timeout_s), self)


class _PulledLink(LinkProcessor):
    def __init__(self, inner: CardLink, field: _Unplugged) -> None:
        super().__init__(inner)
        self._field = field

    def transmit(self, command: bytes) -> bytes:
        reply = super().transmit(command)
        if command[1] == INS_PAY and not self._field.pulled:
            self._field.pulled, self._field.gone = True, 2
            raise ReaderGone("The reader ACS is gone. Plug it in again.")
        return reply


def test_a_reader_unplugged_in_mid_tap_is_said_and_the_ride_is_paid_once(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.press(str(ADULT))
        await driver.view("Reader missing")
        await driver.see("The reader ACS is gone. Plug it in again.", "Last: ↻ Present the same card again")
        await driver.view("Present the card")
        await driver.tap(ADULT, "Approved")
        last = driver.app.driving.last
        assert last is not None
        assert last.balance_fen == 19_800

    with bus_of(world, field=_Unplugged(world)) as app:
        drive(app, script)


def test_a_full_disk_puts_the_validator_out_of_service_until_there_is_room(
    world: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        monkeypatch.setattr(world.session.journal, "_free", lambda _folder: 0)
        await driver.press(str(ADULT))
        await until(pilot, lambda: driver.app.driving.last is not None, "the refusal")
        await driver.view("Out of service")
        await driver.see("is full", "Nothing is taken.")
        monkeypatch.undo()
        await driver.tap(ADULT, "Approved")
        await driver.view("Present the card")

    with bus_of(world) as app:
        drive(app, script)


def test_a_free_ride_that_cannot_be_kept_is_not_granted(
    world: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_store: RunStore, _line: object) -> None:
        raise StoreFailed("run.jsonl can't be written (No space left on device); nothing was kept")

    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        monkeypatch.setattr(RunStore, "append", full)
        await driver.press(str(SENIOR))
        await driver.view("Out of service")
        await driver.see("nothing was kept", "Enter tries again.")
        assert driver.app.driving.last is None
        await driver.press("n")
        await driver.see("Stop 1/8", "can't be written")
        monkeypatch.undo()
        await driver.press("enter")
        await driver.view("Present the card")
        await driver.tap(SENIOR, "Free ride")

    with bus_of(world) as app:
        drive(app, script)


def test_a_wrong_clock_takes_no_fare_and_is_never_stamped_over(world: Playground) -> None:
    session = world.session
    before = session.terminal.clock

    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        session.terminal.clock = lambda: NOON_S - 40_000_000
        await driver.press(str(ADULT))
        await driver.view("Out of service")
        await driver.see("clock")
        await driver.press("enter", str(ADULT))
        await driver.view("Out of service")
        assert driver.app.driving.last is None
        session.terminal.clock = before
        await driver.press("enter")
        await driver.tap(ADULT, "Approved")

    with bus_of(world) as app:
        drive(app, script)


def test_clearing_that_is_down_is_said_and_riders_ride_on(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.tap(ADULT, "Approved")
        await driver.press("u")
        await driver.see("Not sent:")
        await driver.tap(STUDENT, "Approved")
        await driver.see("Adult 1 · Student 1 · All 2")

    with bus_of(world) as app:
        drive(app, script)


def test_two_cards_at_once_pay_nothing(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.press("0")
        await driver.view("One card only")
        await driver.see("Nothing was taken.")
        await driver.view("Present the card")
        assert driver.app.driving.last is None
        await driver.tap(ADULT, "Approved")

    with bus_of(world) as app:
        drive(app, script)


def test_leaving_in_mid_tap_finishes_the_ride_which_the_next_start_counts(world: Playground) -> None:
    async def leave(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await pilot.press(str(ADULT), "n", "ctrl+c")
        await until(pilot, lambda: driver.app._exit, "the program ends")

    async def look(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        sight = driver.app.driving.sight
        assert sight is not None
        assert (sight.place, sight.counts.riders[Rider.ADULT]) in ((1, 0), (1, 1))
        await driver.press(str(ADULT))
        await until(pilot, lambda: driver.app.driving.last is not None, "a tap")
        last = driver.app.driving.last
        assert last is not None
        assert last.balance_fen == 19_800
        assert world.session.journal.unresolved() == []

    with bus_of(world) as app:
        drive(app, leave)
    with bus_of(world, keep_run=True) as app:
        drive(app, look)


def test_a_defect_in_an_errand_ends_the_program_and_is_not_swallowed(
    world: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(_driving: Driving) -> None:
        raise RuntimeError("a defect")

    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        monkeypatch.setattr(Driving, "_go_on", defect)
        await pilot.press("n")
        await until(pilot, lambda: driver.app.broken is not None, "the defect")

    with bus_of(world) as app:
        with pytest.raises(RuntimeError, match="a defect"):
            drive(app, script)
        assert isinstance(app.broken, RuntimeError)
