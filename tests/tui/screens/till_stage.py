"""A till's desk with nothing real behind it, and what a station would tell it."""

from types import SimpleNamespace
from typing import Any, cast

from fleet.station_events import CardSeen, Decided, Done, Event, Sell, Task, Waiting
from hardwallet import records
from hardwallet import status as sw
from hardwallet.records import PAYMENT, Record
from pos_terminal.errors import ShiftNotOpen, TerminalError
from pos_terminal.limits import TerminalLimits
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from pos_terminal.visit import Outcome, Tap
from tests.tui.screens.stage import NOON_S, FakeStation
from tui.screens.cashier.desk import Desk, Phase

CARD = bytes.fromhex("0000010100000007")
OTHER = bytes.fromhex("0000010100000008")
PAYEE = bytes.fromhex("0000020100000001")
NUMBER = 4711


class FakeShifts:
    """A shift that is open, or not."""

    def __init__(self) -> None:
        self.required_and_missing = False

    def require_open(self) -> None:
        if self.required_and_missing:
            raise ShiftNotOpen("no shift is open, and this terminal sells in shifts only; open one first")


def a_sale(amount_fen: int = 1250, state: SaleState = SaleState.UNRESOLVED, **changes: Any) -> Sale:
    fields: dict[str, Any] = {"reference": b"reference-01", "profile": records.RETAIL, "card": CARD}
    fields |= changes
    return Sale(
        fields["reference"],
        amount_fen,
        0x0156,
        fields["profile"],
        NUMBER,
        NOON_S,
        state,
        fields["card"],
    )


def a_refund_sale(amount_fen: int = 500) -> Sale:
    return a_sale(amount_fen, profile=REFUND_PROFILE, reference=bytes((0, 0, 0, 9)) + bytes(8))


def a_record(amount_fen: int = 1250, balance_fen: int = 18_750, **changes: Any) -> Record:
    """A payment's record that nobody signed."""
    fields: dict[str, Any] = {
        "kind": PAYMENT,
        "sequence": 9,
        "payee": PAYEE,
        "card": CARD,
        "reference": b"reference-01",
        "terminal": bytes.fromhex("00000002"),
        "transaction": NUMBER,
        "time_s": NOON_S,
        "profile": records.RETAIL,
    } | changes
    body = records._BODY.pack(
        *(fields["kind"], 1, 1, 1, bytes(4), fields["card"], bytes(8), fields["sequence"], fields["payee"]),
        *(fields["reference"], amount_fen, 0x0156, fields["terminal"], fields["transaction"], bytes(16)),
        *(fields["time_s"], fields["profile"], 0, 0, balance_fen, 0, 1, 0),
    )
    return records.parse(body + bytes(64))


def a_tap(outcome: Outcome, **changes: Any) -> Tap:
    """What a tap of 12.50 may end in."""
    made = Tap(outcome, sale=a_sale())
    if outcome is Outcome.GRANTED:
        made.record, made.balance_fen = a_record(), 18_750
    for name, value in changes.items():
        setattr(made, name, value)
    return made


NOT_ENOUGH = {"status_word": sw.BALANCE_TOO_LOW, "reason": "not enough balance", "balance_fen": 300}
LOCKED = {"status_word": sw.PIN_LOCKED, "reason": "the PIN is locked after too many wrong tries"}


class Counter:
    """A desk, and the station behind it."""

    def __init__(self) -> None:
        self.stored_fen = 0
        self.failure: TerminalError | None = None
        session = SimpleNamespace(
            terminal=SimpleNamespace(limits=TerminalLimits()),
            journal=SimpleNamespace(waiting_fen=self._waiting_fen),
        )
        self.shifts = FakeShifts()
        self.station = FakeStation(session, None, lambda _event: None)
        self.desk = Desk(cast("Any", self.station), cast("Any", session), cast("Any", self.shifts))

    def _waiting_fen(self) -> int:
        if self.failure is not None:
            raise self.failure
        return self.stored_fen

    def types(self, keys: str) -> None:
        """Each character as a key; ⏎ is Enter, ⌫ backspace, ⎋ Esc."""
        special = {"⏎": self.desk.enter, "⌫": self.desk.back, "⎋": self.desk.cancel}
        for key in keys:
            special.get(key, lambda key=key: self.desk.type(key))()

    def told(self, *events: Event) -> None:
        for event in events:
            self.desk.take(event)

    def tapped(self, tap: Tap, task: Task | None = None) -> None:
        """A card comes and the tap ends like that."""
        wanted = task or self.station.task or Sell(1250)
        self.told(Waiting(wanted), CardSeen(wanted), Decided(wanted, tap), Done(wanted, tap))

    @property
    def phase(self) -> Phase:
        """What the till is doing."""
        return self.desk.phase

    @property
    def wanted(self) -> list[Task | None]:
        """All that the station was asked for."""
        return [cast("Task | None", each[1]) for each in self.station.asked if each[0] == "want"]
