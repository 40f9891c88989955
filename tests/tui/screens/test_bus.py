"""A driver at work: keys pressed on the real validator, with a real station and simulated cards behind it."""

import itertools
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from fleet.playground import Playground, TearPlace, open_playground
from hardwallet.riders import Rider
from tests.tui.screens.bus_stage import (
    ADULT,
    BLOCKED,
    DENIED,
    EMPTY,
    FOREIGN,
    SENIOR,
    STUDENT,
    Driver,
    bus_of,
    quick,
)
from tests.tui.screens.stage import drive, shown, until
from tui.screens.bus.counts import CountsBar
from tui.screens.bus.screen import LIST_GAP_S
from tui.screens.layout import spaced
from tui.text import language


@pytest.fixture
def world() -> Iterator[Playground]:
    with open_playground("bus", clearing=False) as made:
        yield quick(made)


def counted(driver: Driver) -> dict[Rider, int]:
    sight = driver.app.driving.sight
    assert sight is not None
    return {rider: count for rider, count in sight.counts.riders.items() if count}


def test_riders_pay_by_class_and_are_counted(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.view("Present the card")
        await driver.tap(ADULT, "Approved")
        await driver.see("Adult 1 · All 1", "CNY 2.00", "Last: ✓ Approved 2.00 Balance 198.00")
        await driver.tap(STUDENT, "Approved")
        await driver.tap(SENIOR, "Free ride")
        await driver.tap(EMPTY, "Not paid")
        await driver.see("Not enough balance")
        await driver.tap(BLOCKED, "Not paid")
        await driver.tap(FOREIGN, "Not paid")
        await driver.tap(DENIED, "Not paid")
        await driver.settle()

        sight = driver.app.driving.sight
        assert sight is not None
        assert counted(driver) == {Rider.ADULT: 1, Rider.STUDENT: 1, Rider.SENIOR: 1}
        assert (sight.counts.amount_fen, sight.counts.free, sight.counts.refused) == (300, 1, 4)
        await driver.see("Adult 1 · Student 1 · Senior 1 · All 3", "CNY 3.00 · ✗ 4")

    with bus_of(world) as app:
        drive(app, script)


def test_a_result_gives_way_by_itself_and_stays_in_small(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.tap(ADULT, "Approved")
        await driver.view("Present the card")

        assert "Last: ✓ Approved 2.00" in shown(driver.app)

    with bus_of(world) as app:
        drive(app, script)


def test_a_card_pays_once_and_for_a_companion_when_it_is_asked_to(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.tap(ADULT, "Approved")
        await driver.tap(ADULT, "Already paid")
        await driver.see("Nothing was taken again.", "For a companion: T")

        await driver.press("t")
        await driver.view("Present the card")
        assert driver.app.driving.face().figures == "2.00 ×2"
        await driver.press("escape")
        assert driver.app.driving.face().figures == "2.00"
        await driver.press("t")
        await driver.tap(ADULT, "Approved")
        await driver.see("for the companion")
        await driver.settle()

        sight = driver.app.driving.sight
        assert sight is not None
        assert sight.more == 0
        assert (sight.counts.total, sight.counts.amount_fen, sight.counts.again) == (2, 400, 1)

    with bus_of(world) as app:
        drive(app, script)


def test_stops_go_on_and_back_and_say_where_they_end(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.see("Stop 1/8: Railway Station", "Next: East Gate Market")
        await driver.press("b")
        await driver.see("This is the first stop.")
        await driver.press("n")
        await driver.see("Stop 2/8: East Gate Market", "Next: People's Hospital")
        await driver.press("n", "n", "n", "n", "n", "n")
        await driver.see("Stop 8/8: Lakeside Park", "Last stop")
        await driver.press("N")
        await driver.see("This is the last stop")
        await driver.press("B")
        await driver.see("Stop 7/8: Museum")

    with bus_of(world) as app:
        drive(app, script)


def test_a_distance_line_is_chosen_and_the_rider_says_where_to(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.press("l")
        await driver.see("Line and direction", "4 Line 101 · to Railway Station")
        await driver.press(*"bamboo", "enter")
        await driver.see("Line 101 · to Bamboo Creek", "Run 2", "to any stop: highest fare")
        assert driver.app.driving.face().figures == "6.00"
        await driver.press("down")
        await driver.see("to South of the Bridge")
        assert driver.app.driving.face().figures == "2.00"
        await driver.press("up")
        await driver.see("to any stop: highest fare")
        await driver.press("d")
        await driver.see("Where to?", "5 Orchard Village  4.00")
        await driver.press("4", "enter")
        await driver.see("to Industrial Park")
        await driver.tap(ADULT, "Approved")
        assert driver.app.driving.last is not None
        assert driver.app.driving.last.balance_fen == 19_700
        await driver.view("Present the card")
        await driver.see("to any stop: highest fare")

    with bus_of(world) as app:
        drive(app, script)


def test_the_list_of_stops_takes_a_click_in_a_wide_window(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.see("Bamboo Creek", "Riders of this run")
        await pilot.click("#stops", offset=(8, 4))
        await driver.settle()
        await driver.see("to Industrial Park")
        await pilot.click("KeyBar", offset=(1, 0))
        await driver.see("Stop 2/8: South of the Bridge")

    with bus_of(world, line="101") as app:
        drive(app, script, (120, 40))


def test_choosing_stops_takes_nothing_from_the_tray_and_esc_changes_nothing(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.press("l")
        await driver.press("9", "9", "down", "enter")
        assert driver.app.driving.last is None
        await driver.press("escape")
        await driver.see("Line 7 · to Lakeside Park", "Run 1")
        await driver.tap(ADULT, "Approved")

    with bus_of(world) as app:
        drive(app, script)


def test_an_inspector_sees_who_has_tapped_here_and_takes_nothing(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.tap(ADULT, "Approved")
        await driver.press("i")
        await driver.view("Inspection")
        await driver.tap(ADULT, "Tapped here")
        await driver.see("Adult", "CNY 2.00 at", "balance 198.00")
        await driver.tap(STUDENT, "Not tapped here")
        await driver.tap(DENIED, "Card refused")
        await driver.see("The card is on its issuer's denylist.")
        await driver.press("escape")
        await driver.view("Present the card")
        await driver.tap(ADULT, "Already paid")
        await driver.settle()
        assert counted(driver) == {Rider.ADULT: 1}

    with bus_of(world) as app:
        drive(app, script)


def test_the_end_of_a_run_is_asked_once_more_reported_and_followed_by_the_way_back(
    world: Playground,
) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.tap(ADULT, "Approved")
        await driver.press("e")
        await driver.see("End the run? In the next one every card pays anew.")
        await driver.press("enter")
        assert driver.app.driving.is_driving
        await driver.press("e", "tab", "enter")
        await driver.view("Run ended")
        await driver.see("Report of the run", "1 of vehicle B042", "Next: Line 7 · to Railway Station")
        await driver.press(str(ADULT))
        assert driver.app.driving.face().word == "Run ended"
        await driver.press("enter")
        await driver.see("Line 7 · to Railway Station", "Run 2")
        await driver.tap(ADULT, "Approved")

    with bus_of(world) as app:
        drive(app, script)


def test_after_a_power_cut_the_run_is_there_with_its_riders_and_its_stop(world: Playground) -> None:
    async def before(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.tap(ADULT, "Approved")
        await driver.tap(SENIOR, "Free ride")
        await driver.press("n", "n")

    async def after(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.see("The run that was open goes on.", "Stop 3/8", "Adult 1 · Senior 1 · All 2", "Run 1")
        await driver.tap(ADULT, "Already paid")

    with bus_of(world) as app:
        drive(app, before)
    with bus_of(world, keep_run=True) as app:
        drive(app, after)


@pytest.mark.parametrize("place", [TearPlace.BEFORE_PAY, TearPlace.AFTER_PAY])
def test_a_torn_tap_holds_nobody_up_and_is_paid_once(world: Playground, place: TearPlace) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        world.set_tear(place)
        await driver.tap(ADULT, "Present the same card again")
        await driver.tap(STUDENT, "Approved")
        await driver.tap(ADULT, "Approved")
        await driver.tap(ADULT, "Already paid")
        last = driver.app.driving.last
        assert last is not None
        assert last.balance_fen == 19_800
        await driver.settle()
        assert counted(driver) == {Rider.ADULT: 1, Rider.STUDENT: 1}

    with bus_of(world) as app:
        drive(app, script)


def test_the_language_changes_while_riders_tap(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await driver.press("n", str(ADULT), "f2")
        assert language() == "zh"
        await driver.view("已批准")
        await driver.see(
            "7路 · 开往 湖滨公园",
            "本站 2/8：东门市场",
            "下一站：人民医院",
            "成人 1 · 合计 1",
            "上一位：✓ 已批准",
        )
        await driver.press("f2")
        await driver.see("Stop 2/8: East Gate Market")

    with bus_of(world) as app:
        drive(app, script)


def test_a_busy_bus_draws_results_at_once_and_counts_seldom(
    world: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    reword = CountsBar.reword

    def note(bar: CountsBar) -> None:
        drawn.append(time.monotonic())
        reword(bar)

    monkeypatch.setattr(CountsBar, "reword", note)

    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        drawn.clear()
        await driver.press("f8", "f8", "f8")
        await driver.see("5 riders/s")
        await until(pilot, lambda: sum(counted(driver).values()) >= 6, "six riders")
        await driver.press("n")
        await driver.see("Stop 2/8")

        gaps = [later - earlier for earlier, later in itertools.pairwise(drawn)]
        assert min(gaps) > LIST_GAP_S * 0.9  # a timer is no clock

    with bus_of(world) as app:
        drive(app, script)


def test_a_small_window_says_so_and_recovers(world: Playground) -> None:
    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.running()
        await pilot.resize_terminal(40, 12)
        await driver.see("窗口太小")
        await driver.press("n")
        await pilot.resize_terminal(80, 24)
        await driver.see("Stop 1/8", spaced("Present the card"))

    with bus_of(world) as app:
        drive(app, script)


def test_a_feed_that_lacks_files_is_told_in_words(world: Playground, tmp_path: Path) -> None:
    broken = tmp_path / "feed.zip"
    with zipfile.ZipFile(broken, "w") as made:
        made.writestr("agency.txt", "agency_id\n1\n")

    async def script(pilot: Pilot[int]) -> None:
        driver = Driver(pilot)
        await driver.view("Out of service")
        await driver.see("routes.txt")
        assert driver.app.driving.news() == ""  # the driver's view says it, once
        assert driver.app.driving.sight is None
        assert driver.app.station.task is None

    with bus_of(world, fares=broken) as app:
        drive(app, script)
