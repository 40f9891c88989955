"""Pictures of the till in every state and on every page, in both languages and sizes: looked at and kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual.app import App
from textual.pilot import Pilot

from fleet import history
from fleet.history import Piece, Row
from fleet.station_events import (
    Asked,
    CardSeen,
    Decided,
    Done,
    Fault,
    Health,
    Network,
    ReaderChanged,
    Sell,
    Sending,
    StatusChanged,
    Task,
    TooMany,
    Waiting,
)
from hardwallet.records import LOAD
from offline_sync.outbox import RowState
from pos_terminal.inquiry import Answer, Inquiry, Line
from pos_terminal.sale import SaleState
from pos_terminal.shift import Closing, Item, Movement, Shift, ShiftReport, Tally, Totals, Unsynced, report
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
)
from tests.tui.screens.till_stage import (
    CARD,
    LOCKED,
    NOT_ENOUGH,
    OTHER,
    PAYEE,
    FakeShifts,
    a_record,
    a_refund_sale,
    a_sale,
    a_tap,
)
from tui.screens.cashier import history as page
from tui.screens.cashier.app import CashierApp
from tui.screens.cashier.history import HistoryScreen
from tui.text import set_language

Snapshot = Callable[[App[int], str], None]

pytestmark = [
    pytest.mark.usefixtures("fake_station"),
    pytest.mark.parametrize("language", LANGUAGES),
    pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}"),
]

DENIED = "the card is on its issuer's denylist and can't pay here; its holder has to ask the issuer"
GIVEN_UP = "the sale was given up before; the payment returns to the card's account"
LEFT = "The card left the reader. Present the same card again."
FULL = (
    "The disk that holds the journal till/journal.sqlite is full. Free some space; "
    "no card is asked to pay until then"
)
SELL = Sell(1250)
BUSY = replace(
    WELL, network=Network.OFFLINE, waiting_count=23, waiting_fen=312_550, oldest_s=5400, clock_offset_s=2
)
SHIFT = Shift(
    7,
    NOON_S - 14_400,
    "王芳",
    20_000,
    100,
    movements=(
        Movement(5_000, "零钱", "王芳", NOON_S - 7_200),
        Movement(-10_000, "交银行", "王芳", NOON_S - 3_600),
    ),
)
TOTALS = Totals(Tally(41, 98_700), Tally(1, 500), Tally(1, 1250), Tally(0, 0), Tally(2, 900), 3, 0, 160)
WAITING = Unsynced(
    Tally(23, 312_550), 3, 50, (Item(120, 4711, NOON_S - 60, 1250, "payment", RowState.QUEUED.value),)
)
X_REPORT = report(SHIFT, TOTALS, NOON_S, unsynced=WAITING)
Z_REPORT = report(
    SHIFT,
    TOTALS,
    NOON_S,
    unsynced=WAITING,
    closing=Closing(14_000, "", "少找了钱", "王芳", NOON_S),
)
FOUND = Inquiry(
    "",
    CARD,
    18_750,
    False,
    False,
    [
        Line(a_record(), Answer.GRANTED, True),
        Line(a_record(600, sequence=8), Answer.GIVEN_UP, True),
        Line(a_record(200, sequence=7), Answer.ELSEWHERE, False),
        Line(a_record(20_000, sequence=1, kind=LOAD, profile=0), None, False),
    ],
    [],
)
ROWS = [
    Row(90, NOON_S, RowState.QUEUED, a_sale(900), None),
    Row(89, NOON_S - 60, RowState.QUEUED, a_sale(1250, SaleState.GRANTED), a_record()),
    Row(84, NOON_S - 120, RowState.SENDING, replace(a_refund_sale(), state=SaleState.GRANTED), a_record(500)),
    Row(80, NOON_S - 3_000, RowState.ACKNOWLEDGED, a_sale(4_000, SaleState.GRANTED), a_record(4_000), 500),
    Row(70, NOON_S - 4_000, RowState.ACKNOWLEDGED, a_sale(99_999, SaleState.DECLINED, card=OTHER)),
    Row(60, NOON_S - 5_000, RowState.NEEDS_REVIEW, a_sale(700, SaleState.PAID_NOT_GRANTED), a_record(700)),
    Row(50, NOON_S - 6_000, RowState.ACKNOWLEDGED, a_sale(300, SaleState.GIVEN_UP)),
    Row(40, NOON_S - 7_000, RowState.DAMAGED),
]


class Shifts(FakeShifts):
    """A shift that goes on until it is closed."""

    blind = torn = False
    damage = ""
    current: Shift | None = SHIFT

    def read(self) -> ShiftReport:
        return X_REPORT

    def past(self, _limit: int) -> list[ShiftReport]:
        return [Z_REPORT]


class Walk:
    """The history has these rows, and no more."""

    def __init__(self, *_wanted: object) -> None:
        pass

    def more(self, _rows: int, look_at: int = 0) -> Piece:
        return Piece(ROWS, 90, 90, True)


def till(*, simulated: bool) -> CashierApp:
    certificate = SimpleNamespace(payee=PAYEE, terminal=bytes.fromhex("00000002"))
    folder = SimpleNamespace(
        path=Path("till"),
        settings=SimpleNamespace(printer=SimpleNamespace(uri="", columns=32, heading="")),
        identity=SimpleNamespace(certificate=certificate),
    )
    session = SimpleNamespace(
        folder=folder,
        terminal=SimpleNamespace(limits=SimpleNamespace(single_fen=500_000, stored_fen=50_000_000)),
        journal=SimpleNamespace(waiting_fen=lambda: 0, acknowledged=lambda: 0),
    )
    app = CashierApp(
        backing(FakePlayground() if simulated else None, session), cast("Any", Shifts()), mute=True
    )
    station = cast("FakeStation", app.station)
    station.now = app.status = BUSY
    return app


class Camera:
    """Tells the till what happens, and takes its picture."""

    def __init__(self, pilot: Pilot[int], snapshot: Snapshot, language: str, size: tuple[int, int]) -> None:
        self.pilot, self._snapshot = pilot, snapshot
        self._name = f"{language}-{size[0]}x{size[1]}"
        self.app = cast("CashierApp", pilot.app)

    async def told(self, *events: Any) -> None:
        for event in events:
            cast("FakeStation", self.app.station).post(event)
        await self.pilot.pause()

    async def picture(self, state: str) -> None:
        await self.app.workers.wait_for_complete()
        await self.pilot.pause()
        await self.pilot.pause()
        self._snapshot(self.app, f"till-{state}-{self._name}")

    async def tapped(self, state: str, tap: Tap, task: Task = SELL) -> None:
        await self.told(CardSeen(task), Decided(task, tap), Done(task, tap))
        await self.picture(state)


def test_the_till_in_every_state(snapshot: Snapshot, size: tuple[int, int], language: str) -> None:
    set_language(language)

    async def script(pilot: Pilot[int]) -> None:
        camera = Camera(pilot, snapshot, language, size)
        await camera.told(StatusChanged(BUSY))
        await camera.picture("empty")
        await pilot.press("1", "2", "full_stop", "5")
        await camera.picture("amount")
        await pilot.press("x")
        await camera.picture("bad-amount")
        await pilot.press("enter")
        await camera.picture("amount-in-doubt")
        await pilot.press("enter")
        await camera.picture("card")
        await camera.told(CardSeen(Sell(1250)))
        await camera.picture("hold")
        await camera.told(TooMany())
        await camera.picture("two-cards")
        await camera.tapped("approved", a_tap(Outcome.GRANTED))
        await camera.tapped("not-enough", a_tap(Outcome.DECLINED, **NOT_ENOUGH))
        await camera.tapped("denied", a_tap(Outcome.DECLINED, reason=DENIED))
        await camera.tapped("pin", a_tap(Outcome.PIN_WANTED))
        await camera.tapped("pin-wrong", a_tap(Outcome.PIN_WRONG, status_word=0x63C2))
        await camera.tapped("locked", a_tap(Outcome.DECLINED, **LOCKED))
        await camera.tapped("not-granted", a_tap(Outcome.PAID_NOT_GRANTED, reason=GIVEN_UP))
        await camera.told(Sending(400, 1_000))
        await camera.tapped("torn", a_tap(Outcome.UNRESOLVED, reason=LEFT))
        await camera.tapped("other-card", a_tap(Outcome.OTHER_CARD))
        gone = Health(False, "reader_gone", "The reader ACS ACR122U 00 00 is gone. Plug it in again.")
        await camera.told(ReaderChanged(gone), StatusChanged(replace(BUSY, reader=gone)))
        await camera.picture("no-reader")
        await camera.told(StatusChanged(BUSY))
        await pilot.press("g")
        await camera.picture("give-up")
        await pilot.press("escape")
        camera.app.desk.was_given_up("—")
        await camera.told(Waiting(Sell(1250)))
        await camera.picture("given-up")
        await camera.told(Fault("journal_full", FULL))
        await camera.picture("fault")

    drive(till(simulated=True), script, size)


def test_the_pages_of_the_till(
    snapshot: Snapshot, size: tuple[int, int], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_language(language)
    monkeypatch.setattr(history, "Walk", Walk)
    monkeypatch.setattr("tui.screens.cashier.jobs.Walk", Walk)
    assert page.PAGE == 50

    async def script(pilot: Pilot[int]) -> None:
        camera = Camera(pilot, snapshot, language, size)
        await camera.told(StatusChanged(BUSY))
        await pilot.press("h")
        await camera.picture("history")
        assert isinstance(camera.app.screen, HistoryScreen)
        await pilot.press("a")
        await camera.picture("filters")
        await pilot.press("escape", "slash")
        await camera.picture("search")
        await pilot.press("escape", "down", "enter")
        await camera.picture("receipt")
        await pilot.press("p")
        await camera.picture("printer")
        await pilot.press("escape", "escape", "escape", "i")
        await camera.told(Asked(FOUND))
        await camera.picture("inquired")
        await pilot.press("r")
        await camera.picture("refund")
        await pilot.press("escape", "s")
        await camera.picture("shift")
        await pilot.press("z")
        await camera.picture("count")
        await pilot.press("escape", "l")
        await camera.picture("closed")
        await pilot.press("f1")
        await camera.picture("help")

    drive(till(simulated=False), script, size)
