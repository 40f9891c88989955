"""What a terminal shows: the sale that a tap is for, the result of a tap, the sales in its journal."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.open import TerminalSession
from fleet.slips import find_receipt
from hardwallet.records import LOAD, PAYMENT, REFUND, RETAIL, Record, parse
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.journal import SqliteJournal
from pos_terminal.charges import charge_for, refund_for
from pos_terminal.errors import SaleOpen
from pos_terminal.inquiry import Inquiry, Line
from pos_terminal.receipts import CODE_LENGTH, receipt, record_code
from pos_terminal.refund import Refund, refund_terms
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Charge, Fare, service_day
from tui.errors import BadUsage
from tui.terms import term
from tui.text import LOCAL_ZONE, cny, facts, say, sentences, table, told, when, yuan

_CHUNK = 500
_KINDS = {PAYMENT: "payment", LOAD: "load", REFUND: "refund"}
_CARD_AND_SEQUENCE = re.compile(r"([0-9a-fA-F]{16}):([0-9]{1,10})")


@dataclass(frozen=True, slots=True)
class Ride:
    """What names a ride besides the vehicle and the day. `line` is for people."""

    line: str
    run: int


def choose_charge(session: TerminalSession, amount_fen: int, ride: Ride) -> tuple[Charge, bool]:
    """What the next tap is for, and whether it finishes a sale that is unresolved.

    Raises SaleOpen while a sale of another amount is unresolved, ClockWrong.
    """
    terminal = session.terminal
    if terminal.profile != RETAIL:
        return Fare(amount_fen, session.vehicle, service_day(terminal.now()), ride.run), False
    try:
        return charge_for(terminal, amount_fen)
    except SaleOpen:
        raise _unfinished_first(session) from None


def choose_refund(session: TerminalSession, amount_fen: int, payment: tuple[bytes, int]) -> Refund | Sale:
    """The refund of a payment (card, sequence), or the one of this amount that is unresolved.

    Raises SaleOpen while anything else is unresolved.
    """
    try:
        return refund_for(session.terminal, Refund(*payment, amount_fen))
    except SaleOpen:
        raise _unfinished_first(session) from None


def _unfinished_first(session: TerminalSession) -> SaleOpen:
    return SaleOpen(unfinished(sale_data(session.journal.unresolved()[0])))


def unfinished(sale: Mapping[str, Any]) -> str:
    """What to do about an unresolved sale or refund, given as sale_data."""
    amount = yuan(sale["amount_fen"])
    if sale["kind"] == "refund":
        return say(
            "the refund of CNY {amount} to card {card} is not finished: present that card again "
            "(hardwallet pos refund {amount} --of {card}:{sequence}), or give it up (hardwallet pos give-up)",
            amount=amount,
            card=sale["card"],
            sequence=sale["refunded_sequence"],
        )
    return say(
        "sale {number} of CNY {amount} with card {card} is not finished: present that card again "
        "(hardwallet pos pay {amount}), or give it up (hardwallet pos give-up)",
        number=sale["number"],
        amount=amount,
        card=sale["card"],
    )


def tap_words(tap: Tap) -> str:
    """The result of a tap in a sentence or two, and what to do next."""
    amount = yuan(tap.sale.amount_fen) if tap.sale is not None else ""
    reason = told(tap.reason.rstrip("."))
    templates = {
        Outcome.GRANTED: say("PAID: CNY {amount}.", amount=amount),
        Outcome.ALREADY_GRANTED: say("ALREADY PAID: {reason}. Nothing was taken again.", reason=reason),
        Outcome.PAID_NOT_GRANTED: say("PAID, NOT GRANTED: {reason}.", reason=reason),
        Outcome.DECLINED: say("NOT PAID: {reason}.", reason=reason),
        Outcome.PIN_WANTED: say(
            "NOT PAID: {reason}. Give the PIN with HARDWALLET_PIN, --pin-file or at a terminal.",
            reason=reason,
        ),
        Outcome.PIN_WRONG: say("NOT PAID: {reason}.", reason=reason),
        Outcome.UNRESOLVED: say(
            "NOT KNOWN YET: {reason}. Present the same card again and run the same command: it finishes this "
            "sale and takes nothing twice. If the card never comes back: hardwallet pos give-up.",
            reason=reason,
        ),
        Outcome.TRY_AGAIN: say(
            "NOT PAID: {reason}. Nothing was taken; present the card again.", reason=reason
        ),
        Outcome.OTHER_CARD: say("NOT PAID: {reason}.", reason=reason),
    }
    if tap.granted and tap.free:
        templates[Outcome.GRANTED] = say("FREE RIDE: the card proved itself. Nothing was taken.")
    more = []
    if tap.granted and tap.recovered:
        more.append(say("The card had paid this sale already and proved it; nothing was taken twice."))
    if tap.balance_fen is not None and not tap.granted:
        more.append(say("The card's balance is CNY {balance}.", balance=yuan(tap.balance_fen)))
    if tap.carried:
        more.append(say("Records carried for other terminals: {count}.", count=tap.carried))
    return sentences(templates[tap.outcome], *more)


def tap_data(tap: Tap, *, modelled: bool) -> dict[str, Any]:
    """The result of a tap for programs."""
    data: dict[str, Any] = {
        "outcome": tap.outcome.name.lower(),
        "granted": tap.granted,
        "message_id": tap.outcome.message_id,
        "reason": tap.reason,
        "status_word": f"{tap.status_word:04X}",
        "recovered": tap.recovered,
        "ratified": tap.ratified,
        "carried": tap.carried,
        "rider": tap.rider.word if tap.rider is not None else None,
        "passenger": tap.passenger,
        "free": tap.free,
        "balance_fen": tap.balance_fen,
        "sale": _charge_data(tap.sale) if tap.sale is not None else None,
        "record": record_data(tap.record) if tap.record is not None else None,
        "phases_ms": {
            name: {"host": round(phase.host_ms, 3)}
            | ({"modelled": round(phase.modelled_ms, 3)} if modelled else {})
            for name, phase in tap.phases.items()
        },
    }
    data["host_ms"] = round(sum(phase.host_ms for phase in tap.phases.values()), 3)
    if modelled:
        data["modelled_ms"] = round(sum(phase.modelled_ms for phase in tap.phases.values()), 3)
    return data


def sale_data(sale: Sale) -> dict[str, Any]:
    """A sale for programs."""
    data = {**_charge_data(sale), "kind": "payment", "state": sale.state.name.lower(), "reason": sale.reason}
    if sale.profile == REFUND_PROFILE:
        data |= {"kind": "refund", "refunded_sequence": refund_terms(sale)[0]}
    return data


def _charge_data(sale: Sale) -> dict[str, Any]:
    return {
        "number": sale.transaction,
        "reference": sale.reference.hex(),
        "amount_fen": sale.amount_fen,
        "card": sale.card.hex(),
        "time_s": sale.time_s,
    }


def record_data(record: Record) -> dict[str, Any]:
    """A payment's record for programs."""
    return {
        "card": record.card.hex(),
        "sequence": record.sequence,
        "amount_fen": record.amount_fen,
        "balance_fen": record.balance_fen,
        "terminal": record.terminal.hex(),
        "number": record.transaction,
        "code": record_code(record),
    }


def phase_lines(tap: Tap, *, modelled: bool) -> list[str]:
    """The phases of a tap: host time is measured, air and card time are modelled."""
    heads = [say("phase"), say("host ms")] + ([say("air + card ms, modelled")] if modelled else [])
    rows = [
        [term(name), f"{phase.host_ms:.2f}", *([f"{phase.modelled_ms:.1f}"] if modelled else [])]
        for name, phase in tap.phases.items()
    ]
    total = [
        say("all"),
        f"{sum(phase.host_ms for phase in tap.phases.values()):.2f}",
        *([f"{sum(phase.modelled_ms for phase in tap.phases.values()):.1f}"] if modelled else []),
    ]
    return table(heads, [*rows, total], right=range(1, len(heads)))


def inquiry_data(found: Inquiry) -> dict[str, Any]:
    """What a card shows, for programs."""
    return {
        "card": found.card.hex(),
        "balance_fen": found.balance_fen,
        "blocked": found.blocked,
        "denied": found.denied,
        "reason": found.reason,
        "records": [
            {
                **record_data(line.record),
                "kind": _KINDS[line.record.kind],
                "payee": line.record.payee.hex(),
                "time_s": line.record.time_s,
                "here": line.answer.name.lower() if line.answer is not None else None,
                "unratified": line.unratified,
            }
            for line in found.lines
        ],
        "unfinished": [sale_data(sale) for sale in found.unfinished],
    }


def inquiry_lines(found: Inquiry) -> list[str]:
    """What a card shows, for people."""
    rows: list[tuple[str, object]] = [(say("card"), found.card.hex() or say("not read"))]
    if found.balance_fen is not None:
        rows.append((say("balance"), cny(found.balance_fen)))
    if found.blocked:
        rows.append((say("blocked"), say("by its issuer")))
    if found.denied:
        rows.append((say("refused"), say("the card is on its issuer's denylist")))
    lines = facts(rows)
    if found.lines:
        heads = [say("sequence"), say("time"), say("amount"), say("what"), say("payee"), say("here")]
        lines += ["", *table(heads, map(_inquiry_row, found.lines), right=(0, 2))]
    lines += [say("Unfinished: {what}.", what=unfinished(sale_data(sale))) for sale in found.unfinished]
    if found.reason:
        lines.append(say("Not read to the end: {reason}.", reason=told(found.reason.rstrip("."))))
    return lines


def _inquiry_row(line: Line) -> tuple[object, ...]:
    record = line.record
    return (
        record.sequence,
        when(record.time_s),
        yuan(record.amount_fen),
        term(_KINDS[record.kind]),
        record.payee.hex(),
        told(line.answer.words) if line.answer is not None else "",
    )


def receipt_text(record: Record, state: SaleState, language: str) -> str:
    """A receipt in the terminal's zone."""
    return receipt(record, state, language, LOCAL_ZONE)


def recent_sales(journal: SqliteJournal, count: int, *, look_at: int = 2_000) -> list[Sale]:
    """The newest sales, newest first, as far as they lie among the last `look_at` entries."""
    found: dict[bytes, Sale] = {}
    for kind, payload in _backwards(journal, look_at):
        reference = _reference_in(kind, payload)
        if reference is None or reference in found:
            continue
        sale = journal.sale(reference)
        if sale is not None:
            found[reference] = sale
            if len(found) == count:
                break
    return list(found.values())


def refund_words(tap: Tap) -> str:
    """The result of a refund in a sentence or two, and what to do next."""
    amount = yuan(tap.sale.amount_fen) if tap.sale is not None else ""
    reason = told(tap.reason.rstrip("."))
    if tap.granted:
        before = say("It had reached the card before; nothing was given twice.") if tap.recovered else ""
        return sentences(say("REFUNDED: CNY {amount}.", amount=amount), before)
    if tap.outcome is Outcome.UNRESOLVED:
        return say(
            "NOT KNOWN YET: {reason}. Present the same card again and run the same command: it finishes this "
            "refund and gives nothing twice.",
            reason=reason,
        )
    return say("NOT REFUNDED: {reason}.", reason=reason)


def name_payment(journal: SqliteJournal, wanted: str) -> tuple[bytes, int]:
    """Card (8 bytes) and sequence of the payment that is meant: a number, a code, or CARD:SEQUENCE.

    Raises NoSuchSale, BadUsage.
    """
    named = _CARD_AND_SEQUENCE.fullmatch(wanted)
    if named is not None:
        return bytes.fromhex(named[1]), int(named[2])
    record, _ = find_payment(journal, wanted)
    return record.card, record.sequence


def find_payment(journal: SqliteJournal, wanted: str) -> tuple[Record, SaleState]:
    """The payment with that number, or that code, and the state of its sale. Raises NoSuchSale, BadUsage."""
    want_receipt_name(wanted)
    return find_receipt(journal, wanted, refunds=False)


def want_receipt_name(wanted: str) -> None:
    """Raises BadUsage unless a receipt can be found by it: a number, or a code."""
    by_number = wanted.isascii() and wanted.isdigit()
    if not by_number and not (len(wanted) == CODE_LENGTH and wanted.isascii() and wanted.isalnum()):
        raise BadUsage(say("a receipt is found by its number, or by the ten letters and digits of its code"))


def _backwards(journal: SqliteJournal, look_at: int) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of the undamaged entries, newest first."""
    last = journal.head()[0]
    oldest = max(1, last - look_at + 1)
    while last >= oldest:
        first = max(oldest, last - _CHUNK + 1)
        for entry in reversed(journal.entries(first, last - first + 1)):
            if not entry.damaged:
                yield entry.kind, entry.payload
        last = first - 1


def _reference_in(kind: int, payload: bytes) -> bytes | None:
    if kind == Kind.OWN_PAYMENT:
        raw = chain.record_in(kind, payload)
        return parse(raw).reference if raw is not None else None
    if kind in (Kind.SALE_OPENED, Kind.SALE_CHANGED):
        return payload[: chain.REFERENCE_LENGTH]
    return None
