"""Receipts and shift reports of a terminal, as its settings want them printed; and the way to its printer."""

from datetime import timezone
from typing import Final

from fleet.open import TerminalSession
from hardwallet.errors import Malformed
from hardwallet.records import REFUND, Record, parse
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.journal import SqliteJournal
from offline_sync.shift_totals import is_own
from pos_terminal import escpos
from pos_terminal.errors import BadPrinterUri, NoSuchSale
from pos_terminal.folder import PrinterSettings
from pos_terminal.paper import Line
from pos_terminal.printing import Waits, open_printer
from pos_terminal.receipts import BEIJING, CODE_LENGTH, receipt_lines, record_code, shift_lines
from pos_terminal.sale import SaleState
from pos_terminal.shift import ShiftReport

ZONE: Final = timezone(BEIJING)
"""The zone of all that is printed: China has one."""
_PIECE: Final = 500


def receipt_slip(
    printer: PrinterSettings, record: Record, state: SaleState, language: str, *, again: bool = False
) -> list[Line]:
    """The receipt of a payment or refund. `again`: it may have been printed before, and says so."""
    return receipt_lines(record, state, language, ZONE, printer.columns, again, printer.heading)


def shift_slip(
    printer: PrinterSettings, report: ShiftReport, terminal: bytes, language: str, *, again: bool = False
) -> list[Line]:
    """An X or Z report. `terminal`: its number, 4 bytes."""
    return shift_lines(report, terminal, language, ZONE, printer.columns, again, printer.heading)


def print_slip(
    printer: PrinterSettings, lines: list[Line], uri: str = "", *, waits: Waits | None = None
) -> str:
    """Print on the printer `uri`, else on that of the settings; which one it was.

    Takes as long as the printer, up to half a minute: not for the thread of a screen. Raises PrinterError;
    then nothing is lost, and it can be printed again.
    """
    chosen = uri or printer.uri
    if not chosen:
        raise BadPrinterUri(
            "no printer is named; name it in the terminal's settings.json (printer, uri), as in "
            "tcp:192.168.1.50 or serial:/dev/ttyUSB0?baud=9600"
        )
    open_printer(chosen, waits).print(escpos.encode(lines))
    return chosen


def settings_of(session: TerminalSession) -> PrinterSettings:
    """The printer of a terminal's settings."""
    return session.folder.settings.printer


def find_receipt(journal: SqliteJournal, wanted: str, *, refunds: bool = True) -> tuple[Record, SaleState]:
    """The newest payment to this terminal with that number or code, and the state of its sale; with
    `refunds` also a refund that this terminal gave. Raises NoSuchSale."""
    by_number = wanted.isascii() and wanted.isdigit()
    by_code = wanted.isascii() and wanted.isalnum() and len(wanted) == CODE_LENGTH
    last = journal.head()[0] if by_number or by_code else 0
    while last > 0:
        first = max(1, last - _PIECE + 1)
        for entry in reversed(journal.entries(first, last - first + 1)):
            record = None if entry.damaged else _printed_record(journal, entry.kind, entry.payload)
            if record is None or (record.kind == REFUND and not refunds):
                continue
            if (by_number and str(record.transaction) == wanted.lstrip("0")) or (
                by_code and record_code(record) == wanted.upper()
            ):
                return record, _state(journal, record, entry.payload)
        last = first - 1
    raise NoSuchSale(f"this terminal holds no payment {wanted[:20]}; hardwallet pos status lists the last")


def _state(journal: SqliteJournal, record: Record, payload: bytes) -> SaleState:
    """A refund that has a receipt was given."""
    if record.kind == REFUND:
        return SaleState.GRANTED
    sale = journal.sale(record.reference)
    return sale.state if sale is not None else chain.parse_own(payload)[0]


def _printed_record(journal: SqliteJournal, kind: int, payload: bytes) -> Record | None:
    """The record of an entry that this terminal gives receipts for."""
    raw = chain.record_in(kind, payload)
    if raw is None:
        return None
    try:
        record = parse(raw)
    except Malformed:
        return None
    own_refund = record.kind == REFUND and is_own(journal, record)
    return record if kind == Kind.OWN_PAYMENT or own_refund else None
