"""Suspense: what cards must have paid, or been loaded with, in records that have not arrived.

One number counts a card's payments, loads and refunds, and each record holds the balance after it. So the
records on both sides of a gap give what the gap moved:

    moved = balance after the record before it − balance before the record after it

A card begins with nothing, before number 1. Records that are next to each other must agree in the same way: a
card whose records do not was broken open. Cards with two bodies under one number are left out of that: their
records contradict each other by nature. Nothing is posted; all of it is read from `records`.
"""

from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, func, select

from hardwallet.records import LOAD, PAYMENT, REFUND
from offline_sync.clearing.schema import (
    AccountKind,
    accounts,
    forks,
    loads,
    orders,
    records,
    refund_orders,
)


class GapLine(msgspec.Struct, frozen=True):
    """Records of a card that have not arrived, `first` to `last`. `amount_fen`: what was paid in them; below
    zero, what was loaded or refunded, on balance.
    """

    card: str
    first: int
    last: int
    amount_fen: int


class ContradictionLine(msgspec.Struct, frozen=True):
    """A record that begins with another balance than the one before it ended with. `amount_fen`: how much
    more.
    """

    card: str
    sequence: int
    amount_fen: int


class OverspentLine(msgspec.Struct, frozen=True):
    """A card that paid more than it had, and nothing that is missing explains it."""

    card: str
    amount_fen: int


class Suspense(NamedTuple):
    """What the records' neighbours tell. Lists are bounded, counts and sums are of everything."""

    gaps: list[GapLine]
    gaps_count: int
    paid_fen: int
    """What was paid in the gaps in which more was paid than loaded."""
    contradictions: list[ContradictionLine]


def look(connection: Connection, limit: int) -> Suspense:
    """Gaps and contradictions by card and number, the first `limit` of each. One pass over all records."""
    near = _neighbours()
    rows = connection.execute(
        select(near.c.card, near.c.before_sequence, near.c.sequence, near.c.moved)
        .where(
            sa.or_(
                near.c.sequence > near.c.before_sequence + 1,
                sa.and_(near.c.sequence == near.c.before_sequence + 1, near.c.moved != 0),
            )
        )
        .order_by(near.c.card, near.c.sequence)
    )
    cloned = set(connection.scalars(select(forks.c.card)))
    gaps: list[GapLine] = []
    contradictions: list[ContradictionLine] = []
    count = paid_fen = 0
    for card, before, sequence, moved in rows:
        if sequence > before + 1:
            count += 1
            paid_fen += max(0, int(moved))
            if len(gaps) < limit:
                gaps.append(GapLine(card.hex(), before + 1, sequence - 1, int(moved)))
        elif card not in cloned and len(contradictions) < limit:
            contradictions.append(ContradictionLine(card.hex(), sequence, -int(moved)))
    return Suspense(gaps, count, paid_fen, contradictions)


def overspent(connection: Connection, limit: int) -> list[OverspentLine]:
    """The first `limit` cards whose account is below zero though no record, receipt or order is missing."""
    owner = accounts.c.owner
    numbers = (
        select(func.count(func.distinct(records.c.sequence)) - func.max(records.c.sequence))
        .where(records.c.card == owner)
        .scalar_subquery()
    )
    unanswered = (
        select(orders.c.card)
        .select_from(
            orders.outerjoin(
                loads, sa.and_(loads.c.card == orders.c.card, loads.c.counter == orders.c.counter)
            )
        )
        .where(orders.c.card == owner, loads.c.record.is_(None))
        .exists()
    )
    booked = select(refund_orders.c.record).where(refund_orders.c.record.is_not(None))
    suspended = (
        select(records.c.id)
        .where(records.c.card == owner, records.c.kind == REFUND, records.c.id.not_in(booked))
        .exists()
    )
    rows = connection.execute(
        select(owner, -accounts.c.balance_fen)
        .where(
            accounts.c.kind == AccountKind.CARD,
            accounts.c.balance_fen < 0,
            numbers == 0,
            ~unanswered,
            ~suspended,
        )
        .order_by(owner)
        .limit(limit)
    )
    return [OverspentLine(card.hex(), int(amount_fen)) for card, amount_fen in rows]


def _neighbours() -> Any:
    """Each record with the one before it on its card: numbers, and what the balances say moved between them.

    Of several bodies under one number the last by digest stands for it.
    """
    c = records.c
    by_card, in_order = c.card, (c.sequence, c.body_digest)
    began = c.balance_fen + sa.case(
        (c.kind == PAYMENT, c.amount_fen), (c.kind.in_([LOAD, REFUND]), -c.amount_fen), else_=0
    )
    before = func.coalesce(func.lag(c.balance_fen).over(partition_by=by_card, order_by=in_order), 0)
    return select(
        c.card,
        c.sequence,
        func.coalesce(func.lag(c.sequence).over(partition_by=by_card, order_by=in_order), 0).label(
            "before_sequence"
        ),
        (before - began).label("moved"),
    ).subquery()
