"""Refunds at clearing: money goes back only when the card's receipt and the merchant's own order have both
arrived.

A card signs its receipt alone, so a broken card could invent one; the order stands in the journal of a
terminal of the payee,
under that terminal's signed head. Whichever comes first waits in suspense for the other. One order pays once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from hardwallet import records as r
from hardwallet.records import Record
from offline_sync.chain import Opened
from offline_sync.clearing.ledger import (
    AccountKind,
    Posting,
    Reason,
    Transfer,
    records,
    refund_orders,
)
from pos_terminal.sale import REFUND_PROFILE


class Key(NamedTuple):
    """What names an order: the terminal (4 bytes) of a payee (8 bytes), and its own transaction number."""

    payee: bytes
    terminal: bytes
    transaction: int


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """An order: of which payment of which card (8 bytes), up to which total. `record`: the receipt that was
    booked on it."""

    key: Key
    card: bytes
    sequence: int
    total_fen: int
    record: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A card's refund receipt, by the id of its row."""

    number: int
    record: Record

    @property
    def key(self) -> Key:
        """The order that it answers."""
        return Key(self.record.payee, self.record.terminal, self.record.transaction)


def order_of(payee: bytes, terminal: bytes, opened: Opened) -> RefundOrder | None:
    """The refund order in an entry of a terminal (4 bytes) of a payee (8 bytes); None when the entry opens a
    sale of goods."""
    if opened.profile != REFUND_PROFILE:
        return None
    sequence, total_fen = (int.from_bytes(opened.reference[at : at + 4], "big") for at in (0, 4))
    return RefundOrder(Key(payee, terminal, opened.transaction), opened.card, sequence, total_fen)


def settle(
    connection: Connection, orders: Iterable[RefundOrder], receipts: Iterable[Receipt], posting: Posting
) -> list[tuple[Receipt, str]]:
    """Bring new orders and new receipts together, and with what waits; what is to be booked goes into
    `posting`.

    Returns receipts that can't be booked on their order, and why.
    """
    new_receipts = list(receipts)
    known = _known_orders(connection, {receipt.key for receipt in new_receipts})
    for order in orders:
        if order.key not in known and not _known_orders(connection, {order.key}):
            known[order.key] = order
            posting.refund_orders.append(_row(order))
    refused = []
    waiting = _waiting(connection, {order.card for order in known.values()})
    booked_fen: dict[tuple[bytes, int], int] = {}
    for receipt in sorted({one.number: one for one in [*waiting, *new_receipts]}.values(), key=_number):
        if receipt.key not in known:
            continue
        order = known[receipt.key]
        reason = _objection(connection, order, receipt.record, booked_fen)
        if reason:
            refused.append((receipt, reason))
            continue
        known[receipt.key] = RefundOrder(
            order.key, order.card, order.sequence, order.total_fen, receipt.number
        )
        of_payment = order.card, order.sequence
        booked_fen[of_payment] = booked_fen.get(of_payment, 0) + receipt.record.amount_fen
        _book(receipt, posting)
    return refused


def _number(receipt: Receipt) -> int:
    return receipt.number


def _objection(
    connection: Connection,
    order: RefundOrder,
    record: Record,
    booked_fen: dict[tuple[bytes, int], int],
) -> str:
    if order.record is not None:
        return "a second receipt for one refund order"
    if (order.card, order.sequence, order.total_fen) != (
        record.card,
        r.refunded_payment(record),
        r.refunded_total_fen(record),
    ):
        return "a refund receipt that is not what the merchant ordered"
    earlier_fen, highest_fen = _booked_before(connection, order.card, order.sequence)
    earlier_fen += booked_fen.get((order.card, order.sequence), 0)
    if earlier_fen + record.amount_fen > max(highest_fen, order.total_fen):
        return "refund receipts that add up to more than the merchant ordered"
    return ""


def _book(receipt: Receipt, posting: Posting) -> None:
    record = receipt.record
    posting.transfers.append(
        Transfer(
            Reason.REFUND,
            receipt.number,
            (AccountKind.PAYEE, record.payee),
            (AccountKind.CARD, record.card),
            record.amount_fen,
        )
    )
    posting.refunds.append({**receipt.key._asdict(), "record": receipt.number})
    posting.refunded.append((record.card, r.refunded_payment(record)))


def _row(order: RefundOrder) -> dict[str, object]:
    return {
        **order.key._asdict(),
        "card": order.card,
        "sequence": order.sequence,
        "total_fen": order.total_fen,
        "record": None,
    }


def _known_orders(connection: Connection, keys: Iterable[Key]) -> dict[Key, RefundOrder]:
    """Refunds are few, so each is asked for by itself."""
    found = {}
    c = refund_orders.c
    for key in keys:
        row = connection.execute(
            sa.select(c.card, c.sequence, c.total_fen, c.record).where(
                c.payee == key.payee, c.terminal == key.terminal, c.transaction == key.transaction
            )
        ).first()
        if row is not None:
            found[key] = RefundOrder(key, *row)
    return found


def _waiting(connection: Connection, cards: Iterable[bytes]) -> list[Receipt]:
    """Receipts of these cards that no order was booked with yet."""
    booked = sa.select(refund_orders.c.record).where(refund_orders.c.record.is_not(None))
    found = []
    for card in cards:
        rows = connection.execute(
            sa.select(records.c.id, records.c.raw).where(
                records.c.card == card, records.c.kind == r.REFUND, records.c.id.not_in(booked)
            )
        )
        found += [Receipt(number, r.parse(raw)) for number, raw in rows]
    return found


def _booked_before(connection: Connection, card: bytes, sequence: int) -> tuple[int, int]:
    """What was booked back of a payment, and the highest total that was ordered with it."""
    joined = refund_orders.join(records, refund_orders.c.record == records.c.id)
    row = connection.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(records.c.amount_fen), 0),
            sa.func.coalesce(sa.func.max(refund_orders.c.total_fen), 0),
        )
        .select_from(joined)
        .where(refund_orders.c.card == card, refund_orders.c.sequence == sequence)
    ).one()
    return int(row[0]), int(row[1])
