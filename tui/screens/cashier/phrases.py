"""What a till says of sales, refunds and cards: whole sentences and short cells, said anew each time."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from fleet.history import Row, Show
from hardwallet.records import LOAD, PAYMENT, REFUND
from offline_sync.outbox import RowState
from pos_terminal.inquiry import Answer, Inquiry, Line
from pos_terminal.receipts import record_code
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from tui.text import LOCAL_ZONE, say, told, yuan

Say = Callable[[], str]

CARD_SHOWN: Final = 4
"""Bytes of a card's number that are told to people: its end."""


AMOUNT_COLUMNS: Final = 11
"""What the largest amount takes."""


def card_end(card: bytes) -> str:
    """A card (8 bytes) as people tell it from another: the last eight digits."""
    return f"…{card[-CARD_SHOWN:].hex()}"


def short_time(time_s: int) -> str:
    """Month, day and minute."""
    return datetime.fromtimestamp(time_s, LOCAL_ZONE).strftime("%m-%d %H:%M")


def _refunded() -> str:
    # fits: 10
    return say("refunded")


def _not_refunded() -> str:
    # fits: 10
    return say("not given")


def _not_paid() -> str:
    # fits: 10
    return say("not paid")


def _unfinished() -> str:
    # fits: 10
    return say("unfinished")


def _paid() -> str:
    # fits: 10
    return say("paid")


def _given_up() -> str:
    # fits: 10
    return say("given up")


def _not_granted() -> str:
    # fits: 10
    return say("to return")


_STATES: Final[Mapping[SaleState, Say]] = {
    SaleState.OPEN: _not_paid,
    SaleState.UNRESOLVED: _unfinished,
    SaleState.GRANTED: _paid,
    SaleState.DECLINED: _not_paid,
    SaleState.GIVEN_UP: _given_up,
    SaleState.PAID_NOT_GRANTED: _not_granted,
}
_REFUND_STATES: Final[Mapping[SaleState, Say]] = {
    SaleState.GRANTED: _refunded,
    SaleState.DECLINED: _not_refunded,
}


def state_word(row: Row) -> str:
    """What has become of a sale or a refund; of a damaged entry nobody knows."""
    sale = row.sale
    if sale is None:
        return ""
    if row.is_refund:
        return _REFUND_STATES.get(sale.state, _STATES[sale.state])()
    if not row.refunded_fen:
        return _STATES[sale.state]()
    if row.refunded_fen < sale.amount_fen:
        # fits: 10
        return say("part back")
    # fits: 10
    return say("all back")


def _queued() -> str:
    # fits: 10
    return say("↑ waits")


def _sending() -> str:
    # fits: 10
    return say("↑ sending")


def _acknowledged() -> str:
    # fits: 10
    return say("✓ received")


def _review() -> str:
    # fits: 10
    return say("! review")


def _damaged() -> str:
    # fits: 10
    return say("! damaged")


_QUEUE: Final[Mapping[RowState, Say]] = {
    RowState.QUEUED: _queued,
    RowState.SENDING: _sending,
    RowState.ACKNOWLEDGED: _acknowledged,
    RowState.NEEDS_REVIEW: _review,
    RowState.DAMAGED: _damaged,
}


def queue_word(state: RowState) -> str:
    """How far a sale is on its way to clearing, with a mark."""
    return _QUEUE[state]()


_SHOWS: Final[Mapping[Show, Say]] = {
    Show.ALL: lambda: say("All"),
    Show.UNFINISHED: lambda: say("Unfinished"),
    Show.QUEUED: lambda: say("Waiting to be sent"),
    Show.SENDING: lambda: say("Being sent now"),
    Show.ACKNOWLEDGED: lambda: say("Acknowledged by clearing"),
    Show.REVIEW: lambda: say("Needs review"),
    Show.GIVEN_UP: lambda: say("Given up"),
    Show.NOT_GRANTED: lambda: say("Paid, not granted"),
    Show.REFUNDS: lambda: say("Refunds"),
    Show.NOT_PAID: lambda: say("Not paid"),
}


def show_words(show: Show) -> str:
    """A filter of the history."""
    return _SHOWS[show]()


ROW_COLUMNS: Final = (9, 11, AMOUNT_COLUMNS, 10, 10, 9, 10)
"""How wide the columns of the history are; more than a cell needs is used, less is cut off."""
LINE_COLUMNS: Final = (8, 11, 7, AMOUNT_COLUMNS, 26)
"""How wide the columns of a card's records are."""


def row_heads() -> tuple[str, ...]:
    """What stands over the columns of the history."""
    return (
        say("Number"),
        say("Time"),
        say("Amount"),
        say("State"),
        say("Clearing"),
        say("Card"),
        say("Code"),
    )


def row_cells(row: Row) -> tuple[str, ...]:
    """A row of the history, a cell for each of `row_heads`."""
    sale = row.sale
    if sale is None:
        return (f"#{row.index}", short_time(row.time_s), "", "", queue_word(row.queue), "", "")
    amount = yuan(-sale.amount_fen if row.is_refund else sale.amount_fen)
    return (
        str(sale.transaction),
        short_time(row.time_s),
        amount.rjust(AMOUNT_COLUMNS),
        state_word(row),
        queue_word(row.queue),
        card_end(sale.card) if sale.card else "",
        record_code(row.record) if row.record is not None else "",
    )


def row_sentences(row: Row) -> list[str]:
    """All that is to be told about a row besides its cells and its receipt."""
    sale = row.sale
    if sale is None:
        return [say("This entry of the journal is damaged; it is kept, and sent as damaged.")]
    sentences = []
    if sale.reason:
        sentences.append(say("Reason: {reason}.", reason=told(sale.reason).rstrip(".。")))
    if row.refunded_fen:
        sentences.append(say("Refunded of it: CNY {amount}.", amount=yuan(row.refunded_fen)))
    if row.rejection:
        sentences.append(say("Clearing did not book it: {reason}.", reason=told(row.rejection).rstrip(".。")))
    if row.record is None:
        sentences.append(say("There is no receipt: the card signed nothing for this sale."))
    return sentences


_KINDS: Final[Mapping[int, Say]] = {
    PAYMENT: lambda: say("payment"),
    LOAD: lambda: say("load"),
    REFUND: lambda: say("refund"),
}


def _granted_here() -> str:
    # fits: 26
    return say("granted here")


def _not_granted_here() -> str:
    # fits: 26
    return say("here, not granted")


def _given_up_here() -> str:
    # fits: 26
    return say("here, sale given up")


def _unfinished_here() -> str:
    # fits: 26
    return say("here, not finished")


def _unread_here() -> str:
    # fits: 26
    return say("here, not taken yet")


def _sibling() -> str:
    # fits: 26
    return say("another till of the shop")


def _elsewhere() -> str:
    # fits: 26
    return say("elsewhere")


_ANSWERS: Final[Mapping[Answer, Say]] = {
    Answer.GRANTED: _granted_here,
    Answer.NOT_GRANTED: _not_granted_here,
    Answer.GIVEN_UP: _given_up_here,
    Answer.UNFINISHED: _unfinished_here,
    Answer.UNREAD: _unread_here,
    Answer.SIBLING: _sibling,
    Answer.ELSEWHERE: _elsewhere,
}


def line_sentence(line: Line) -> str:
    """What this till knows of a payment on the card, in full."""
    words = told(line.answer.words) if line.answer is not None else ""
    return say("{reason}.", reason=words[:1].upper() + words[1:]) if words else ""


def line_heads() -> tuple[str, ...]:
    """What stands over the columns of a card's records."""
    return (say("Sequence"), say("Time"), say("What"), say("Amount"), say("Where"))


def line_cells(line: Line) -> tuple[str, ...]:
    """One record of a card, a cell for each of `line_heads`."""
    record = line.record
    return (
        str(record.sequence),
        short_time(record.time_s),
        _KINDS[record.kind](),
        yuan(record.amount_fen).rjust(AMOUNT_COLUMNS),
        _ANSWERS[line.answer]() if line.answer is not None else "",
    )


def inquiry_sentences(found: Inquiry) -> list[str]:
    """What is to be told about a card, its records apart."""
    sentences = [say("Card {card}", card=found.card.hex())] if found.card else [say("The card was not read.")]
    if found.balance_fen is not None:
        sentences.append(say("Balance: CNY {amount}", amount=yuan(found.balance_fen)))
    if found.blocked:
        sentences.append(say("The card is blocked by its issuer."))
    if found.denied:
        sentences.append(say("The card is on its issuer's denylist."))
    sentences += [unfinished_words(sale) for sale in found.unfinished]
    if found.reason:
        sentences.append(say("Not read to the end: {reason}.", reason=told(found.reason).rstrip(".。")))
    if not found.lines and not found.reason:
        sentences.append(say("The card has paid nothing yet."))
    return sentences


def unfinished_words(sale: Sale) -> str:
    """An unresolved sale or refund, and its card."""
    values = {"number": sale.transaction, "amount": yuan(sale.amount_fen), "card": card_end(sale.card)}
    if sale.profile == REFUND_PROFILE:
        return say("Refund {number}, CNY {amount}, card {card}: not known yet.", **values)
    return say("Sale {number}, CNY {amount}, card {card}: not known yet.", **values)


def sale_words(sale: Sale) -> str:
    """A sale that has no receipt."""
    return say("Sale {number}, CNY {amount}", number=sale.transaction, amount=yuan(sale.amount_fen))


REASONS: Final[tuple[Say, ...]] = (
    lambda: say("The customer left with the card"),
    lambda: say("The card can't be read any more"),
    lambda: say("The customer pays in another way"),
    lambda: say("The amount was wrong"),
)
"""Why sales are given up, mostly. Kept in the journal as they are said."""
