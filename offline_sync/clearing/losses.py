"""Losses: a cloned card pays with money that it does not have, and every payee is credited all the same.

For a card with two bodies under one sequence number the issuer bears, out of LOSS into the card's account,

    the excess      of each such number: all payments, less what went back of them, but for the least one
    the overdraft   what the account, with what is owed back to the card, is still below zero after that

A function of what has arrived: whenever something arrives for such a card the sum is worked out anew and the
difference is posted, so that the order of arrival changes nothing. Other cards are left alone: a payment may
arrive before the load that it was paid from.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import Connection

from hardwallet import certificates
from hardwallet.records import PAYMENT
from offline_sync.clearing import returns
from offline_sync.clearing.schema import (
    AccountKind,
    Reason,
    RecordRow,
    Transfer,
    accounts,
    forks,
    record_payee,
    records,
    ungranted,
)

if TYPE_CHECKING:
    from offline_sync.clearing.ledger import Ledger


def note(connection: Connection, ledger: "Ledger", found: Mapping[bytes, RecordRow]) -> None:
    """Cards that showed a second body under one sequence number."""
    known = ledger.forked(connection)
    for card, row in found.items():
        if card not in known:
            digest = row.raw[16:24]
            raw = ledger.certificates_by_digest(connection, [digest])[digest]
            issuer = certificates.parse(raw).authority + bytes(4)
            place = {"card": card, "issuer": issuer, "record": row.id, "loss_fen": 0}
            ledger.insert_new(connection, forks, [place])


def settle(connection: Connection, ledger: "Ledger", cards: Iterable[bytes]) -> None:
    """Bring the losses by those of these cards that were cloned to what has arrived."""
    known = ledger.forked(connection)
    if known:
        for card in sorted(known.intersection(cards)):
            _settle(connection, ledger, card)


def _settle(connection: Connection, ledger: "Ledger", card: bytes) -> None:
    f = forks.c
    issuer, record, booked_fen = connection.execute(
        sa.select(f.issuer, f.record, f.loss_fen).where(f.card == card)
    ).one()
    change_fen = loss(connection, card, booked_fen) - booked_fen
    if not change_fen:
        return
    losses, account = (AccountKind.LOSS, issuer), (AccountKind.CARD, card)
    if change_fen > 0:
        posted = Transfer(Reason.LOSS, record, losses, account, change_fen)
    else:
        posted = Transfer(Reason.LOSS_REVERSED, record, account, losses, -change_fen)
    ledger.post_transfers(connection, [posted])
    connection.execute(sa.update(forks).where(f.card == card).values(loss_fen=booked_fen + change_fen))


def loss(connection: Connection, card: bytes, booked_fen: int) -> int:
    """What the issuer has to bear for a cloned card (8 bytes), in fen. `booked_fen`: what its account holds
    of that already.
    """
    balances = dict(
        connection.execute(
            sa.select(accounts.c.kind, accounts.c.balance_fen).where(
                accounts.c.owner == card, accounts.c.kind.in_([AccountKind.CARD, AccountKind.RETURN])
            )
        ).all()
    )
    left_fen = sum(balances.values()) - booked_fen
    excess_fen = _excess(connection, card)
    return excess_fen + max(0, -(left_fen + excess_fen))


def _excess(connection: Connection, card: bytes) -> int:
    """What was paid under numbers that bear several bodies, above the least one of each number."""
    c = records.c
    several = sa.select(c.sequence).where(c.card == card).group_by(c.sequence).having(sa.func.count() > 1)
    rows = connection.execute(
        sa.select(c.sequence, c.kind, c.amount_fen, record_payee, ungranted.c.returned_fen)
        .select_from(records.outerjoin(ungranted, ungranted.c.record == c.id))
        .where(c.card == card, c.sequence.in_(several))
        .order_by(c.sequence, c.amount_fen.desc(), c.body_digest)
    ).all()
    excess_fen = 0
    for sequence, bodies in groupby(rows, key=lambda row: row.sequence):
        paid = _net_payments(connection, card, int(sequence), list(bodies))
        excess_fen += sum(paid) - min(paid)
    return excess_fen


def _net_payments(connection: Connection, card: bytes, sequence: int, bodies: Iterable[Any]) -> list[int]:
    """What each of these bodies paid, less what went back of it; 0 for a body that is no payment."""
    refunds: dict[bytes, int] = {}
    paid = []
    for _, kind, amount_fen, payee, returned_fen in bodies:
        if kind != PAYMENT:
            paid.append(0)
            continue
        if payee not in refunds:
            refunds[payee] = returns.refunded(connection, card, sequence, payee)
        left_fen = amount_fen - (returned_fen or 0)
        refunded_fen = min(left_fen, refunds[payee])
        refunds[payee] -= refunded_fen
        paid.append(left_fen - refunded_fen)
    return paid
