"""Receipts and shift reports as lines for paper, in Chinese and English, 32 or 48 columns wide. Pure.

The code on a receipt names the signed record: it can be found again by it.
"""

from base64 import b32encode
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import sha256
from typing import Final
from unicodedata import east_asian_width

from hardwallet.records import CVM_PIN, REFUND, TRANSIT, Record, refunded_payment, refunded_total_fen
from pos_terminal.money import format_amount
from pos_terminal.paper import LANGUAGES, NARROW, Line, Say, Style, as_text, centred, row, rule, words
from pos_terminal.sale import SaleState
from pos_terminal.shift import Item, Movement, ShiftReport, Tally, Unfinished

__all__ = ("LANGUAGES",)

WIDTH: Final = NARROW
CODE_LENGTH: Final = 10
PRINTED: Final = 40
"""Movements of cash, unsynced items, and unfinished sales that a printed report lists of each; it counts the
others."""
BEIJING: Final = timedelta(hours=8)


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def record_code(record: Record) -> str:
    """The short code of a record: 10 letters and digits of base 32 over SHA-256 of its body."""
    return b32encode(sha256(record.body).digest())[:CODE_LENGTH].decode()


def receipt(
    record: Record,
    state: SaleState,
    language: str = "en",
    zone: tzinfo = UTC,
    *,
    width: int = WIDTH,
    again: bool = False,
    heading: str = "",
) -> str:
    """The receipt of a payment or a refund as text, lines of at most `width` columns. `language` is one of
    LANGUAGES. `again`: it was printed before, and says so. `heading`: the shop's name, or nothing."""
    return as_text(receipt_lines(record, state, language, zone, width, again, heading), width)


def receipt_lines(
    record: Record,
    state: SaleState,
    language: str = "en",
    zone: tzinfo = UTC,
    width: int = WIDTH,
    again: bool = False,
    heading: str = "",
) -> list[Line]:
    """The receipt of a payment or a refund, for paper of `width` columns, 32 or more. Arguments as in
    `receipt`."""
    say = words(language)
    is_refund = record.kind == REFUND
    # fits: 32
    title = say("REFUND") if is_refund else say("PAYMENT")
    lines = _head(say, title, width, again, heading)
    for name, value in _identity_rows(say, record, zone):
        lines += row(name, value, width)
    amount = say("Refunded") if is_refund else say("Amount")
    lines += row(amount, _cny(say, record.amount_fen), width, Style.STRONG)
    lines += row(say("Balance"), _cny(say, record.balance_fen), width)
    if is_refund:
        lines += row(say("Of payment"), str(refunded_payment(record)), width)
        lines += row(say("Refunded in all"), _cny(say, refunded_total_fen(record)), width)
    if record.cvm == CVM_PIN:
        lines += row(say("PIN"), say("entered"), width)
    lines += row(say("Code"), record_code(record), width)
    lines.append(rule(width))
    if is_refund:
        # fits: 32
        lines += centred(say("Refunded offline, card-signed"), width)
    else:
        # fits: 32
        lines += centred(say("Paid offline, signed by the card"), width)
    if state is SaleState.PAID_NOT_GRANTED and not is_refund:
        # fits: 32
        lines += centred(say("PAID, NOT GRANTED"), width, Style.TITLE)
        # fits: 32
        lines += centred(say("Returns to the card's account"), width)
    return lines


def _head(say: Say, title: str, width: int, again: bool, heading: str) -> list[Line]:
    lines = centred(heading, width, Style.TITLE) + centred(title, width, Style.TITLE)
    if again:
        # fits: 32
        lines += centred(say("COPY, printed again"), width, Style.TITLE)
    return [*lines, rule(width)]


def _identity_rows(say: Say, record: Record, zone: tzinfo) -> list[tuple[str, str]]:
    return [
        (say("Merchant"), record.payee.hex()),
        (say("Terminal"), record.terminal.hex()),
        (say("Number"), str(record.transaction)),
        (say("Card"), record.card.hex()),
        (say("Sequence"), str(record.sequence)),
        (say("Time"), _when(record.time_s, zone)),
    ]


# ------------------------------------------------------------------------------------------------- shifts


def shift_report(
    report: ShiftReport,
    terminal: bytes,
    language: str = "en",
    zone: tzinfo = UTC,
    *,
    width: int = WIDTH,
    again: bool = False,
    heading: str = "",
) -> str:
    """An X or Z report as text. `terminal`: its number, 4 bytes; the others as in `receipt`."""
    return as_text(shift_lines(report, terminal, language, zone, width, again, heading), width)


def shift_lines(
    report: ShiftReport,
    terminal: bytes,
    language: str = "en",
    zone: tzinfo = UTC,
    width: int = WIDTH,
    again: bool = False,
    heading: str = "",
) -> list[Line]:
    """An X or Z report, for paper of `width` columns, 32 or more. `terminal`: its number, 4 bytes."""
    say = words(language)
    # fits: 32
    title = say("X REPORT") if report.closing is None else say("Z REPORT")
    lines = _head(say, title, width, again, heading)
    shift, closing = report.shift, report.closing
    lines += row(say("Terminal"), terminal.hex(), width)
    lines += row(say("Shift"), str(shift.number), width)
    lines += row(say("Opened"), _when(shift.opened_s, zone), width)
    lines += row(say("Opened by"), shift.opened_by, width)
    if closing is None:
        lines += row(say("Read"), _when(report.time_s, zone), width)
    else:
        lines += row(say("Closed"), _when(closing.time_s, zone), width)
        lines += row(say("Closed by"), closing.who, width)
    lines += [rule(width), *_card_lines(say, report, width)]
    lines += [rule(width), *_cash_lines(say, report, zone, width)]
    lines += [rule(width), *_open_lines(say, report, zone, width)]
    if closing is not None:
        lines += [Line(""), *row(say("Signature"), "_" * 16, width)]
    return lines


def _card_lines(say: Say, report: ShiftReport, width: int) -> list[Line]:
    totals, lines = report.totals, centred(say("Cards"), width, Style.TITLE)

    def add(name: str, tally: Tally) -> None:
        lines.extend(row(name, _cny(say, tally.amount_fen), width))

    # fits: 16 count=99999
    add(say("Payments {count}", count=totals.granted.count), totals.granted)
    # fits: 16 count=99999
    add(say("Refunds {count}", count=totals.refunded.count), totals.refunded)
    lines.extend(row(say("Together"), _cny(say, totals.net_fen), width, Style.STRONG))
    if paid := totals.paid_not_granted.count:
        add(say("Paid, not granted {count}", count=paid), totals.paid_not_granted)
    if given_up := totals.given_up.count:
        add(say("Given up {count}", count=given_up), totals.given_up)
    if declined := totals.declined.count:
        add(say("Declined {count}", count=declined), totals.declined)
    if outside := report.shift.outside.count:
        add(say("Before the shift {count}", count=outside), report.shift.outside)
    lines.extend(row(say("Carried for others"), str(totals.carried), width))
    if totals.damaged:
        lines.extend(row(say("Damaged entries"), str(totals.damaged), width))
    return lines


def _cash_lines(say: Say, report: ShiftReport, zone: tzinfo, width: int) -> list[Line]:
    shift, closing = report.shift, report.closing
    lines = centred(say("Cash in the drawer"), width, Style.TITLE)
    lines += row(say("Float"), _cny(say, shift.float_fen), width)
    lines += row(say("Cash in"), _cny(say, shift.cash_in_fen), width)
    lines += row(say("Cash out"), _cny(say, -shift.cash_out_fen), width)
    for movement in shift.movements[-PRINTED:]:
        lines += _movement_lines(movement, zone, width)
    lines += _more(say, len(shift.movements) - PRINTED, width)
    if report.expected_fen is None:
        lines += row(say("Expected"), say("after the count"), width)
    else:
        lines += row(say("Expected"), _cny(say, report.expected_fen), width)
    if closing is None or report.difference_fen is None:
        return lines
    lines += row(say("Counted"), _cny(say, closing.counted_fen), width, Style.STRONG)
    lines += row(say("Difference"), _cny(say, report.difference_fen), width, Style.STRONG)
    if closing.difference_reason:
        lines += row(say("Reason"), closing.difference_reason, width)
    if closing.note:
        lines += row(say("Note"), closing.note, width)
    return lines


def _movement_lines(movement: Movement, zone: tzinfo, width: int) -> list[Line]:
    sign = "+" if movement.amount_fen > 0 else ""
    name = f" {_clock(movement.time_s, zone)} {movement.who}"
    return row(name, sign + format_amount(movement.amount_fen), width) + row("", movement.reason, width)


def _open_lines(say: Say, report: ShiftReport, zone: tzinfo, width: int) -> list[Line]:
    """What is not sent, and what nobody knows yet."""
    waiting = report.unsynced.payments
    name = say("Not sent yet {count}", count=waiting.count)
    lines = row(name, _cny(say, waiting.amount_fen), width)
    for item in report.unsynced.items[:PRINTED]:
        lines += _item_lines(say, item, zone, width)
    payments_listed = sum(item.kind == "payment" for item in report.unsynced.items[:PRINTED])
    lines += _more(say, waiting.count - payments_listed, width)
    if report.unsynced.carried:
        lines += row(say("For others, not sent"), str(report.unsynced.carried), width)
    lines += row(say("Unfinished"), str(report.unfinished_count), width)
    for sale in report.unfinished[:PRINTED]:
        lines += _unfinished_lines(say, sale, zone, width)
    return lines + _more(say, report.unfinished_count - PRINTED, width)


def _item_lines(say: Say, item: Item, zone: tzinfo, width: int) -> list[Line]:
    states = {
        "queued": say("queued"),
        "sending": say("sending"),
        "acknowledged": say("acknowledged"),
        "needs review": say("needs review"),
        "damaged": say("damaged"),
    }
    state = states.get(item.state, item.state)
    if item.kind == "refund":
        state = say("refund, {state}", state=state)
    lines = row(f" {item.number} {_clock(item.time_s, zone)}", format_amount(item.amount_fen), width)
    return lines + row("", state, width)


def _unfinished_lines(say: Say, sale: Unfinished, zone: tzinfo, width: int) -> list[Line]:
    name = f" {sale.number} {_clock(sale.time_s, zone)}"
    kind = say("refund") if sale.kind == "refund" else say("payment")
    return row(name, format_amount(sale.amount_fen), width) + row(f"  {kind}", sale.card, width)


def _more(say: Say, count: int, width: int) -> list[Line]:
    return row("", say("and {count} more", count=count), width) if count > 0 else []


def _cny(say: Say, amount_fen: int) -> str:
    """An amount with its currency in words: the sign of the yuan misprints on many printers."""
    # fits: 18 amount=-999999999.99
    return say("CNY {amount}", amount=format_amount(amount_fen))


def _when(time_s: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(time_s, zone).strftime("%Y-%m-%d %H:%M:%S")


def _clock(time_s: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(time_s, zone).strftime("%m-%d %H:%M")


def profile_name(record: Record) -> str:
    """`transit` or `retail`."""
    return "transit" if record.profile == TRANSIT else "retail"
