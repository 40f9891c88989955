"""Returns: what a card paid and nobody granted is owed back to it, and reaches it with a load, once.

    owed back      its own terminal gave the sale up, declined it or says paid, not granted;
                   and no terminal of the payee reports that reference as granted
    how much       the payment, less what was refunded of it             PAYEE → RETURN
    loaded         a receipt of the order that claims it has arrived     RETURN → FUNDING
                   (the receipt itself credits the card with all that the order was for)

What stands in the books is a function of what has arrived, so that the order of arrival changes nothing:
whenever something arrives that concerns a payment, its two sums are worked out anew and the difference is
posted. What an issuer has put on a card stays there, whatever is reported later; that is evidence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from hardwallet import records as r
from hardwallet.messages import LoadOrder
from hardwallet.records import Owed
from offline_sync.clearing.prepared import chunks
from offline_sync.clearing.schema import (
    AccountKind,
    Reason,
    Transfer,
    claims,
    loads,
    record_payee,
    records,
    refund_orders,
    ungranted,
)
from offline_sync.errors import RecordRefused
from pos_terminal.sale import SaleState

if TYPE_CHECKING:
    from offline_sync.clearing.ledger import Ledger

NOT_SOLD: Final = (SaleState.DECLINED, SaleState.GIVEN_UP, SaleState.PAID_NOT_GRANTED)
"""States of a sale whose payment goes back to the card."""

Told = Mapping[tuple[bytes, bytes], Mapping[bytes, int]]
"""What a payee's terminals say of a reference: (payee, reference) → terminal → state."""


class Payment(NamedTuple):
    """A payment that came without a grant, and what is posted of it. `card` and `payee` have 8 bytes,
    `terminal` 4, `reference` 12, `raw` 160."""

    record: int
    card: bytes
    sequence: int
    payee: bytes
    terminal: bytes
    reference: bytes
    returned_fen: int
    loaded_fen: int
    amount_fen: int
    state: int
    raw: bytes


class Claim(NamedTuple):
    """A load order that puts a payment back on its card. `funding`: who funded the load, 8 bytes; empty as
    long as no receipt of this order has arrived, and for good when the load was cancelled.
    """

    amount_fen: int
    funding: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """What has to stand in the books for a payment, and what its terminals contradict. `funding`: who funded
    the load that returned it, 8 bytes or empty."""

    payment: Payment
    returned_fen: int
    loaded_fen: int
    funding: bytes
    objections: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether the books say something else so far."""
        payment = self.payment
        return (self.returned_fen, self.loaded_fen) != (payment.returned_fen, payment.loaded_fen)


def settle(connection: Connection, ledger: "Ledger", numbers: Iterable[int]) -> list[Due]:
    """Bring the returns of these payments (ids of records) to what has arrived; those that changed, or that
    are contradicted.
    """
    found = [due for due in work_out(connection, ledger, numbers) if due.changes or due.objections]
    changed = [due for due in found if due.changes]
    ledger.post_transfers(connection, [one for due in changed for one in _transfers(due)])
    for due in changed:
        connection.execute(
            sa.update(ungranted)
            .where(ungranted.c.record == due.payment.record)
            .values(returned_fen=due.returned_fen, loaded_fen=due.loaded_fen)
        )
    return found


def work_out(connection: Connection, ledger: "Ledger", numbers: Iterable[int]) -> list[Due]:
    """What has to stand in the books for these payments (ids of records), from what has arrived."""
    found = []
    for chunk in chunks(sorted(set(numbers))):
        payments = _payments(connection, chunk)
        told = ledger.told(connection, {(one.payee, one.reference) for one in payments})
        claimed = _claims(connection, [one.record for one in payments])
        found += [_due(connection, one, told, claimed.get(one.record, ())) for one in payments]
    return found


def _due(connection: Connection, payment: Payment, told: Told, claimed: Sequence[Claim]) -> Due:
    says = told.get((payment.payee, payment.reference), {})
    granted = payment.state == SaleState.GRANTED or SaleState.GRANTED in says.values()
    refused = payment.state == SaleState.PAID_NOT_GRANTED or says.get(payment.terminal) in NOT_SOLD
    applied = [claim for claim in claimed if claim.funding]
    if not applied and (granted or not refused):
        return Due(payment, 0, 0, b"", ())
    refunded_fen = refunded(connection, payment.card, payment.sequence, payment.payee)
    if not applied:
        return Due(payment, max(0, payment.amount_fen - refunded_fen), 0, b"", ())
    first = max(applied)
    loaded_fen = min(first.amount_fen, payment.amount_fen)
    objections = (
        (granted, "granted-after-return"),
        (refunded_fen + loaded_fen > payment.amount_fen, "refunded-after-return"),
        (len(applied) > 1, "returned-twice"),
    )
    kinds = tuple(kind for objected, kind in objections if objected)
    return Due(payment, loaded_fen, loaded_fen, first.funding, kinds)


def _transfers(due: Due) -> list[Transfer]:
    payment = due.payment
    payee, owed = (AccountKind.PAYEE, payment.payee), (AccountKind.RETURN, payment.card)
    rise_fen = due.returned_fen - payment.returned_fen
    loaded_fen = due.loaded_fen - payment.loaded_fen
    posted = []
    if rise_fen > 0:
        posted.append(Transfer(Reason.RETURN, payment.record, payee, owed, rise_fen))
    elif rise_fen < 0:
        posted.append(Transfer(Reason.RETURN_REVERSED, payment.record, owed, payee, -rise_fen))
    if loaded_fen:  # it only rises: a load's first receipt is final
        funding = (AccountKind.FUNDING, due.funding)
        posted.append(Transfer(Reason.RETURN_LOADED, payment.record, owed, funding, loaded_fen))
    return posted


def claim(connection: Connection, ledger: "Ledger", order: LoadOrder, returns: Sequence[Owed]) -> list[int]:
    """Note that a load order puts these payments back on its card; the ids of those that are here.

    Raises RecordRefused `return-claimed` when another order of the card holds one of them, `return-amount`.
    """
    _check_amounts(order, returns)
    if not _is_cancelled(connection, order):
        for one in returns:
            _check_free(connection, order, one)
    matched = []
    for one in returns:
        number = _record_of(connection, order.card, one)
        row = {
            "card": order.card,
            "counter": order.counter,
            "sequence": one.sequence,
            "body_digest": one.body_digest,
            "amount_fen": one.amount_fen,
            "order_fen": order.amount_fen,
            "record": number,
        }
        ledger.insert_new(connection, claims, [row])
        if number is not None:
            matched.append(number)
    open_rows(connection, ledger, matched)
    return matched


def _is_cancelled(connection: Connection, order: LoadOrder) -> bool:
    """Whether the receipt of this load is here, and is not for what was ordered."""
    loaded_fen = connection.execute(
        sa.select(loads.c.amount_fen).where(loads.c.card == order.card, loads.c.counter == order.counter)
    ).scalar()
    return loaded_fen not in (None, order.amount_fen)


def _check_amounts(order: LoadOrder, returns: Sequence[Owed]) -> None:
    if len({(one.sequence, one.body_digest) for one in returns}) != len(returns):
        raise RecordRefused("return-amount", "the load order names one payment twice")
    if any(one.amount_fen < 1 for one in returns):
        raise RecordRefused("return-amount", "the load order returns a payment of nothing")
    if sum(one.amount_fen for one in returns) > order.amount_fen:
        raise RecordRefused("return-amount", "the load order is for less than what it returns")


def _check_free(connection: Connection, order: LoadOrder, wanted: Owed) -> None:
    c = claims.c
    rows = connection.execute(
        sa.select(c.counter, c.order_fen, loads.c.amount_fen)
        .order_by(c.counter)
        .select_from(claims.outerjoin(loads, sa.and_(loads.c.card == c.card, loads.c.counter == c.counter)))
        .where(c.card == order.card, c.sequence == wanted.sequence, c.body_digest == wanted.body_digest)
    )
    held = [counter for counter, order_fen, loaded_fen in rows if loaded_fen in (None, order_fen)]
    if held and order.counter not in held:
        raise RecordRefused(
            "return-claimed",
            f"load {held[0]} of this card returns payment {wanted.sequence} already; leave it out",
        )


def _record_of(connection: Connection, card: bytes, wanted: Owed) -> int | None:
    c = records.c
    number: int | None = connection.execute(
        sa.select(c.id).where(
            c.card == card,
            c.sequence == wanted.sequence,
            c.body_digest == wanted.body_digest,
            c.kind == r.PAYMENT,
        )
    ).scalar()
    return number


def open_rows(connection: Connection, ledger: "Ledger", numbers: Iterable[int]) -> None:
    """A place to note what goes back of these payments (ids of records)."""
    for chunk in chunks(list(numbers)):
        raws = connection.execute(sa.select(records.c.id, records.c.raw).where(records.c.id.in_(chunk)))
        ledger.insert_new(connection, ungranted, [row_of(number, r.parse(raw)) for number, raw in raws])


def row_of(number: int, record: r.Record) -> dict[str, Any]:
    """The row of a payment that nothing goes back of so far."""
    return {
        "record": number,
        "card": record.card,
        "sequence": record.sequence,
        "payee": record.payee,
        "terminal": record.terminal,
        "reference": record.reference,
        "returned_fen": 0,
        "loaded_fen": 0,
    }


def owed(connection: Connection, card: bytes) -> list[Owed]:
    """What a card (8 bytes) is owed and no load order claims, by rising sequence number."""
    u, c = ungranted.c, claims.c
    claimed = (
        sa.select(c.record)
        .select_from(claims.outerjoin(loads, sa.and_(loads.c.card == c.card, loads.c.counter == c.counter)))
        .where(
            c.record == u.record,
            sa.or_(loads.c.record.is_(None), loads.c.amount_fen == c.order_fen),
        )
    )
    rows = connection.execute(
        sa.select(records.c.sequence, records.c.body_digest, u.returned_fen - u.loaded_fen)
        .select_from(ungranted.join(records, u.record == records.c.id))
        .where(u.card == card, u.returned_fen > u.loaded_fen, ~claimed.exists())
        .order_by(records.c.sequence, records.c.body_digest)
    )
    return [Owed(sequence, digest, int(amount_fen)) for sequence, digest, amount_fen in rows]


def refunded(connection: Connection, card: bytes, sequence: int, payee: bytes) -> int:
    """What was booked back of a card's (8 bytes) payment to a payee (8 bytes), in fen."""
    orders = refund_orders.c
    total = connection.execute(
        sa.select(sa.func.sum(records.c.amount_fen))
        .select_from(refund_orders.join(records, orders.record == records.c.id))
        .where(orders.card == card, orders.sequence == sequence, orders.payee == payee)
    ).scalar()
    return int(total or 0)


def _payments(connection: Connection, numbers: Sequence[int]) -> list[Payment]:
    u = ungranted.c
    rows = connection.execute(
        sa.select(
            *(u.record, u.card, u.sequence, u.payee, u.terminal, u.reference, u.returned_fen, u.loaded_fen),
            *(records.c.amount_fen, records.c.state, records.c.raw),
        )
        .select_from(ungranted.join(records, u.record == records.c.id))
        .where(u.record.in_(numbers))
    )
    return [Payment(*row) for row in rows]


def _claims(connection: Connection, numbers: Sequence[int]) -> dict[int, list[Claim]]:
    """The claims of these payments. A receipt for another amount than the order's is of its cancelling."""
    c = claims.c
    of_load = sa.and_(loads.c.card == c.card, loads.c.counter == c.counter)
    joined = claims.outerjoin(loads, of_load).outerjoin(records, loads.c.record == records.c.id)
    rows = connection.execute(
        sa.select(c.record, c.amount_fen, c.order_fen, loads.c.amount_fen, record_payee)
        .select_from(joined)
        .where(c.record.in_(numbers))
    )
    found: dict[int, list[Claim]] = {}
    for number, amount_fen, order_fen, loaded_fen, payee in rows:
        funding = payee if loaded_fen == order_fen else b""
        found.setdefault(number, []).append(Claim(amount_fen, funding))
    return found
