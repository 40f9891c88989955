"""What a till does that waits for a disk, a printer or a long journal: for workers. No Textual."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.history import Search, Show, Walk
from fleet.open import TerminalSession
from fleet.shift_desk import ShiftDesk, open_desk
from fleet.slips import print_slip, receipt_slip, settings_of, shift_slip
from fleet.station_events import Network, Status
from hardwallet.denylist import Denylist
from hardwallet.records import Record
from offline_sync.outbox import BATCH_ENTRIES
from pos_terminal.errors import NoSuchSale
from pos_terminal.paper import Line, as_text
from pos_terminal.printing import open_printer
from pos_terminal.sale import SaleState
from pos_terminal.shift import ShiftReport, parse_cash
from tui.backing import Backing
from tui.errors import BadUsage
from tui.export import export_file
from tui.screens.cashier.amount import plain
from tui.text import language, say, yuan
from tui.till import find_payment, name_payment

PRINTED_KEPT: Final = 1_000
"""Receipts of which it is remembered that they were printed."""


PLAYGROUND_FLOAT_FEN: Final = 20_000
"""What lies in the drawer of a simulated till."""

LATE: Final = 12
"""The newest entries of the journal: more than a card leaves there in one visit."""


@contextmanager
def open_shifts(backing: Backing) -> Iterator[ShiftDesk]:
    """The shifts behind a till; a simulated one has its shift open already. Raises as open_desk."""
    with open_desk(backing.session) as shifts:
        if backing.playground is not None and shifts.current is None:
            shifts.open(PLAYGROUND_FLOAT_FEN, say("Trainee"))
        yield shifts


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that may be refunded: its card (8 bytes) and sequence; what was paid, where it is known."""

    card: bytes
    sequence: int
    amount_fen: int | None


class Jobs:
    """All of it for one terminal. Raises TerminalError, SyncError, BridgeError, OSError."""

    def __init__(self, session: TerminalSession, shifts: ShiftDesk) -> None:
        self.session, self.shifts = session, shifts
        self._settings = settings_of(session)
        self.printer = self._settings.uri
        """Where slips go; may be changed for this run. Empty: nowhere yet."""
        self._printed: deque[bytes] = deque(maxlen=PRINTED_KEPT)

    def walk(self, show: Show, search: Search | None, status: Status) -> Walk:
        """The history from now on back."""
        journal = self.session.journal
        sending = status.network is Network.SENDING
        return Walk(journal, show, search, journal.acknowledged() + BATCH_ENTRIES if sending else 0)

    def payment(self, wanted: str) -> Payment:
        """The payment with that number or code here, or CARD:SEQUENCE from another till's receipt. Raises
        BadUsage."""
        text = wanted.strip()
        if ":" in text:
            card, sequence = name_payment(self.session.journal, text)
            return Payment(card, sequence, None)
        try:
            record, _ = find_payment(self.session.journal, text)
        except NoSuchSale:  # whose sentence names a command, which a cashier has not
            raise BadUsage(say("this till has no such receipt; history lists the last")) from None
        return Payment(record.card, record.sequence, record.amount_fen)

    def came_late(self, card: bytes) -> Callable[[], str] | None:
        """What a card (8 bytes) that was just here had paid for a sale given up; what to say of it."""
        walk = Walk(self.session.journal, Show.NOT_GRANTED, Search(card=card.hex()))
        sales = [row.sale for row in walk.more(LATE, look_at=LATE).rows if row.sale is not None]
        if not sales:
            return None
        amount_fen = sum(sale.amount_fen for sale in sales)
        return lambda: say(
            "This card had paid CNY {amount} for a sale that was given up: it returns to its account.",
            amount=yuan(amount_fen),
        )

    # ------------------------------------------------------------------ paper

    def receipt_text(self, record: Record, state: SaleState) -> str:
        """A receipt as it would be printed, in the language of now."""
        return as_text(receipt_slip(self._settings, record, state, language()), self._settings.columns)

    def report_text(self, report: ShiftReport) -> str:
        """An X or Z report as it would be printed, in the language of now."""
        return as_text(self._report_slip(report), self._settings.columns)

    def is_copy(self, record: Record) -> bool:
        """Whether this run has printed it before."""
        return record.body in self._printed

    def print_receipt(self, record: Record, state: SaleState, *, again: bool) -> Callable[[], str]:
        """Prints a receipt; what to say of it. `again`: it is marked as a copy, as it is when this run has
        printed it before. Raises PrinterError, BadPrinterUri: then it can be printed again."""
        again = again or self.is_copy(record)
        self._print(receipt_slip(self._settings, record, state, language(), again=again))
        self._printed.append(record.body)
        if again:
            return lambda: say("Receipt {number} is printed, marked as a copy.", number=record.transaction)
        return lambda: say("Receipt {number} is printed.", number=record.transaction)

    def print_report(self, report: ShiftReport, *, again: bool = False) -> Callable[[], str]:
        """Prints an X or Z report; what to say of it. Raises as print_receipt."""
        self._print(self._report_slip(report, again=again))
        return lambda: say("The report is printed.")

    def choose_printer(self, uri: str) -> None:
        """Slips go there from now on. Raises BadPrinterUri."""
        open_printer(uri)
        self.printer = uri

    def _print(self, lines: list[Line]) -> None:
        print_slip(self._settings, lines, self.printer)

    def _report_slip(self, report: ShiftReport, *, again: bool = False) -> list[Line]:
        terminal = self.session.folder.identity.certificate.terminal
        return shift_slip(self._settings, report, terminal, language(), again=again)

    # ------------------------------------------------------------------ files

    def export(self, path: str) -> Callable[[], str]:
        """Writes what waits to a file; what to say of it."""
        uploads, entries = export_file(self.session, named_file(path))
        return lambda: say(
            "{entries} entries in {uploads} uploads are in {path}; they wait here until clearing has them.",
            entries=entries,
            uploads=uploads,
            path=path,
        )

    def take_denylist(self, path: str) -> Callable[[], str]:
        """Takes a denylist, or a change of one, from a file; what to say of it."""
        held: Denylist = self.session.denylists.offer_file(named_file(path))
        return lambda: say(
            "Denylist {version} is held now: {count} cards are refused.",
            version=held.version,
            count=len(held),
        )


def cash_fen(text: str) -> int:
    """Cash that was counted, in fen, however its digits are typed. Raises BadAmount."""
    return parse_cash(plain(text))


def named_file(path: str) -> Path:
    """What a person named, `~` being the own folder. Raises BadUsage."""
    text = path.strip()
    if not text or "\0" in text:
        raise BadUsage(say("name a file"))
    return Path(text).expanduser()
