"""What the books say: balances, what became of each payment, gaps, evidence, and whether all adds up."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, case, func, select

from hardwallet.records import LOAD, PAYMENT, REFUND
from offline_sync.clearing import losses, returns, suspense
from offline_sync.clearing.ledger import (
    AccountKind,
    Ledger,
    Reason,
    accounts,
    claims,
    evidence,
    forks,
    loads,
    orders,
    record_payee,
    record_reference,
    record_terminal,
    records,
    refund_orders,
    rejected,
    sales,
    transfers,
    ungranted,
    uploads,
)
from offline_sync.clearing.returns import NOT_SOLD
from offline_sync.clearing.suspense import ContradictionLine, GapLine, OverspentLine
from pos_terminal.sale import SaleState

LIST_LIMIT: Final = 1_000
"""The longest list in a report; counts and sums are always of everything."""


class Count(msgspec.Struct, frozen=True):
    """A number of payments, and their sum."""

    count: int = 0
    amount_fen: int = 0


class PayeeLine(msgspec.Struct, frozen=True):
    """One merchant. `carried`: arrived, and its own terminal has not reported it yet."""

    payee: str
    balance_fen: int
    granted: Count
    paid_not_granted: Count
    carried: Count


class CardLine(msgspec.Struct, frozen=True):
    """One card's account. `missing` counts sequence numbers below the highest that have not arrived."""

    card: str
    balance_fen: int
    highest_sequence: int
    missing: int


class TerminalLine(msgspec.Struct, frozen=True):
    """One terminal. `gaps`: entries [from, to] that are not held though later ones are. `flags` count
    evidence.
    """

    payee: str
    terminal: str
    highest: int
    gaps: list[tuple[int, int]]
    rejected: int
    flags: int


class PaymentLine(msgspec.Struct, frozen=True):
    """One payment."""

    payee: str
    card: str
    sequence: int
    reference: str
    amount_fen: int


class LoadLine(msgspec.Struct, frozen=True):
    """One load."""

    card: str
    counter: int
    amount_fen: int


class RejectedLine(msgspec.Struct, frozen=True):
    """An entry that was not booked."""

    payee: str
    terminal: str
    entry: int
    code: str
    reason: str


class EvidenceLine(msgspec.Struct, frozen=True):
    """Something that two signatures prove, or a terminal's store gave away."""

    kind: str
    subject: str
    detail: str


class OwedLine(msgspec.Struct, frozen=True):
    """A payment that nobody granted and that goes back to its card. `claimed`: a load order holds it, whose
    receipt has not arrived.
    """

    card: str
    sequence: int
    payee: str
    amount_fen: int
    claimed: bool


class LossLine(msgspec.Struct, frozen=True):
    """A cloned card, and what its issuer bears for it."""

    card: str
    amount_fen: int


class Conservation(msgspec.Struct, frozen=True):
    """Money only enters by loads: loads − returned with them + losses = cards + owed + payees.

    `difference_fen` sums what disagrees. `returned_fen`: what of the loads was no new money, but went back
    to cards. `losses_fen`: what issuers bear for cloned cards.
    """

    ok: bool
    difference_fen: int
    loads_fen: int
    payments_fen: int
    refunds_fen: int
    returned_fen: int
    funding_fen: int
    cards_fen: int
    owed_fen: int
    payees_fen: int
    losses_fen: int


class Report(msgspec.Struct, frozen=True):
    """The whole report. Lists end after LIST_LIMIT lines; `cards_count` and the like count everything."""

    conservation: Conservation
    float_fen: int
    payees: list[PayeeLine]
    cards: list[CardLine]
    cards_count: int
    terminals: list[TerminalLine]
    paid_not_granted: list[PaymentLine]
    outstanding_loads: list[LoadLine]
    loads_without_order: list[LoadLine]
    rejected: list[RejectedLine]
    evidence: list[EvidenceLine]
    payments: int
    loads: int
    refunds: int
    suspended_refunds: list[PaymentLine]
    """Receipts of cards whose merchant's own order has not arrived, or does not fit: not booked."""
    owed: list[OwedLine]
    losses: list[LossLine]
    gaps: list[GapLine]
    gaps_count: int
    suspense_fen: int
    """What was paid in records that have not arrived, as the balances around them tell."""
    contradictions: list[ContradictionLine]
    overspent: list[OverspentLine]
    evidence_counts: dict[str, int]
    """How much evidence there is, by its kind."""


def build(connection: Connection, ledger: Ledger) -> Report:
    """The report of one moment."""
    conservation = _conservation(connection, ledger)
    waiting = suspense.look(connection, LIST_LIMIT)
    return Report(
        conservation=conservation,
        float_fen=conservation.cards_fen,
        payees=_payees(connection),
        cards=_cards(connection),
        cards_count=_count(connection, accounts, accounts.c.kind == AccountKind.CARD),
        terminals=_terminals(connection),
        paid_not_granted=_paid_not_granted(connection),
        outstanding_loads=_outstanding(connection),
        loads_without_order=_unordered(connection),
        rejected=_rejected(connection),
        evidence=_evidence(connection),
        payments=_count(connection, records, records.c.kind == PAYMENT),
        loads=_count(connection, records, records.c.kind == LOAD),
        refunds=_count(connection, refund_orders, refund_orders.c.record.is_not(None)),
        suspended_refunds=_suspended_refunds(connection),
        owed=_owed(connection),
        losses=_losses(connection),
        gaps=waiting.gaps,
        gaps_count=waiting.gaps_count,
        suspense_fen=waiting.paid_fen,
        contradictions=waiting.contradictions,
        overspent=suspense.overspent(connection, LIST_LIMIT),
        evidence_counts=_evidence_counts(connection),
    )


def _owed(connection: Connection) -> list[OwedLine]:
    u, c = ungranted.c, claims.c
    pending = (
        select(c.record)
        .select_from(claims.outerjoin(loads, sa.and_(loads.c.card == c.card, loads.c.counter == c.counter)))
        .where(c.record == u.record, loads.c.record.is_(None))
        .exists()
    )
    rows = connection.execute(
        select(u.card, u.sequence, u.payee, u.returned_fen - u.loaded_fen, case((pending, 1), else_=0))
        .where(u.returned_fen > u.loaded_fen)
        .order_by(u.card, u.sequence, u.record)
        .limit(LIST_LIMIT)
    )
    return [
        OwedLine(card.hex(), sequence, payee.hex(), amount_fen, bool(claimed))
        for card, sequence, payee, amount_fen, claimed in rows
    ]


def _losses(connection: Connection) -> list[LossLine]:
    rows = connection.execute(select(forks.c.card, forks.c.loss_fen).order_by(forks.c.card).limit(LIST_LIMIT))
    return [LossLine(card.hex(), amount_fen) for card, amount_fen in rows]


def _suspended_refunds(connection: Connection) -> list[PaymentLine]:
    booked = select(refund_orders.c.record).where(refund_orders.c.record.is_not(None))
    rows = connection.execute(
        select(record_payee, records.c.card, records.c.sequence, record_reference, records.c.amount_fen)
        .where(records.c.kind == REFUND, records.c.id.not_in(booked))
        .order_by(records.c.id)
        .limit(LIST_LIMIT)
    )
    return [
        PaymentLine(payee.hex(), card.hex(), sequence, reference.hex(), amount_fen)
        for payee, card, sequence, reference, amount_fen in rows
    ]


def _conservation(connection: Connection, ledger: Ledger) -> Conservation:
    """Three ways to the same sums: the balances kept, the transfers, and the records behind them."""
    kept = _sums(
        connection, select(accounts.c.kind, func.sum(accounts.c.balance_fen)).group_by(accounts.c.kind)
    )
    moved = _sums(
        connection, select(transfers.c.reason, func.sum(transfers.c.amount_fen)).group_by(transfers.c.reason)
    )
    funding, cards, payees, lost, owed = (
        kept.get(kind, 0)
        for kind in (
            *(AccountKind.FUNDING, AccountKind.CARD, AccountKind.PAYEE, AccountKind.LOSS),
            AccountKind.RETURN,
        )
    )
    loaded, paid, refunded, returned, reloaded, reversed_, given, taken = (
        moved.get(reason, 0)
        for reason in (
            *(Reason.LOAD, Reason.PAYMENT, Reason.REFUND, Reason.RETURN, Reason.RETURN_LOADED),
            *(Reason.RETURN_REVERSED, Reason.LOSS, Reason.LOSS_REVERSED),
        )
    )
    difference = sum(
        abs(value)
        for value in (
            funding + cards + payees + lost + owed,
            funding + loaded - reloaded,
            cards - (loaded - paid + refunded + given - taken),
            payees - (paid - refunded - returned + reversed_),
            owed - (returned - reversed_ - reloaded),
            lost + given - taken,
            _signed_fen(connection) - paid,
            _scalar(connection, select(func.sum(loads.c.amount_fen))) - loaded,
            _booked_back_fen(connection) - refunded,
            _scalar(connection, select(func.sum(ungranted.c.returned_fen))) - (returned - reversed_),
            _scalar(connection, select(func.sum(ungranted.c.loaded_fen))) - reloaded,
            _scalar(connection, select(func.sum(forks.c.loss_fen))) - (given - taken),
            _returns_off(connection, ledger),
            _losses_off(connection),
            _misstated(connection),
        )
    )
    return Conservation(
        *(difference == 0, difference, loaded, paid, refunded, reloaded),
        *(funding, cards, owed, payees, -lost),
    )


def _signed_fen(connection: Connection) -> int:
    """What cards signed as payments."""
    return _scalar(connection, select(func.sum(records.c.amount_fen)).where(records.c.kind == PAYMENT))


def _booked_back_fen(connection: Connection) -> int:
    """What cards signed as refunds, in receipts that have their order."""
    joined = refund_orders.join(records, refund_orders.c.record == records.c.id)
    return _scalar(connection, select(func.sum(records.c.amount_fen)).select_from(joined))


def _returns_off(connection: Connection, ledger: Ledger) -> int:
    """By how much the returns noted differ from what the states, refunds and loads behind them give."""
    off = 0
    numbers = connection.scalars(select(ungranted.c.record).order_by(ungranted.c.record)).all()
    for due in returns.work_out(connection, ledger, numbers):
        off += abs(due.returned_fen - due.payment.returned_fen)
        off += abs(due.loaded_fen - due.payment.loaded_fen)
    return off


def _losses_off(connection: Connection) -> int:
    """By how much the losses noted differ from what the records of cloned cards give."""
    rows = connection.execute(select(forks.c.card, forks.c.loss_fen)).all()
    return sum(abs(losses.loss(connection, card, loss_fen) - loss_fen) for card, loss_fen in rows)


def _misstated(connection: Connection) -> int:
    """By how much the balances kept differ from what their transfers give, summed over the accounts."""
    sides = sa.union_all(
        select(transfers.c.debit.label("account"), (-transfers.c.amount_fen).label("change")),
        select(transfers.c.credit.label("account"), transfers.c.amount_fen.label("change")),
    ).subquery()
    worked_out = (
        select(sides.c.account, func.sum(sides.c.change).label("balance"))
        .group_by(sides.c.account)
        .subquery()
    )
    difference = accounts.c.balance_fen - func.coalesce(worked_out.c.balance, 0)
    joined = accounts.outerjoin(worked_out, accounts.c.id == worked_out.c.account)
    return _scalar(connection, select(func.sum(func.abs(difference))).select_from(joined))


def disposition_of() -> tuple[Any, Any]:
    """The records with what became of them: granted 1, paid and not granted 2, carried 0.

    Granted is what the payment's own terminal says, or a sibling, which has a sale of its own with the same
    reference (docs/adr/0017); not granted is only what its own terminal says.
    """
    refused = (
        select(sales.c.payee, sales.c.reference, sales.c.terminal)
        .where(sales.c.state.in_(NOT_SOLD))
        .subquery()
    )
    granted = (
        select(sales.c.payee, sales.c.reference)
        .where(sales.c.state == SaleState.GRANTED)
        .distinct()
        .subquery()
    )
    joined = records.outerjoin(
        refused,
        sa.and_(
            refused.c.payee == record_payee,
            refused.c.reference == record_reference,
            refused.c.terminal == record_terminal,
        ),
    ).outerjoin(granted, sa.and_(granted.c.payee == record_payee, granted.c.reference == record_reference))
    is_granted = sa.or_(records.c.state == SaleState.GRANTED, granted.c.payee.is_not(None))
    is_refused = sa.or_(records.c.state == SaleState.PAID_NOT_GRANTED, refused.c.payee.is_not(None))
    return joined, case((is_granted, 1), (is_refused, 2), else_=0)


def _payees(connection: Connection) -> list[PayeeLine]:
    joined, disposition = disposition_of()
    told = (
        select(record_payee.label("payee"), disposition.label("what"), records.c.amount_fen)
        .select_from(joined)
        .where(records.c.kind == PAYMENT)
        .subquery()
    )
    rows = connection.execute(
        select(told.c.payee, told.c.what, func.count(), func.sum(told.c.amount_fen)).group_by(
            told.c.payee, told.c.what
        )
    )
    counts: dict[tuple[bytes, int], Count] = {
        (payee, what): Count(number, int(amount)) for payee, what, number, amount in rows
    }
    balances = connection.execute(
        select(accounts.c.owner, accounts.c.balance_fen)
        .where(accounts.c.kind == AccountKind.PAYEE)
        .order_by(accounts.c.owner)
        .limit(LIST_LIMIT)
    )
    none = Count()
    return [
        PayeeLine(
            owner.hex(),
            balance,
            counts.get((owner, 1), none),
            counts.get((owner, 2), none),
            counts.get((owner, 0), none),
        )
        for owner, balance in balances
    ]


def _cards(connection: Connection) -> list[CardLine]:
    seen = (
        select(
            records.c.card,
            func.max(records.c.sequence).label("highest"),
            func.count(func.distinct(records.c.sequence)).label("arrived"),
        )
        .group_by(records.c.card)
        .subquery()
    )
    rows = connection.execute(
        select(accounts.c.owner, accounts.c.balance_fen, seen.c.highest, seen.c.arrived)
        .select_from(accounts.outerjoin(seen, seen.c.card == accounts.c.owner))
        .where(accounts.c.kind == AccountKind.CARD)
        .order_by(accounts.c.owner)
        .limit(LIST_LIMIT)
    )
    return [
        CardLine(owner.hex(), balance, highest or 0, (highest or 0) - (arrived or 0))
        for owner, balance, highest, arrived in rows
    ]


def _terminals(connection: Connection) -> list[TerminalLine]:
    spans = connection.execute(
        select(uploads.c.payee, uploads.c.terminal, uploads.c.first, uploads.c.last).order_by(
            uploads.c.payee, uploads.c.terminal, uploads.c.first
        )
    )
    refused = _by_terminal(connection, rejected.c.payee, rejected.c.terminal, rejected)
    counted = select(evidence.c.subject, func.count()).group_by(evidence.c.subject)
    flags: dict[bytes, int] = {row[0]: row[1] for row in connection.execute(counted)}
    lines = []
    for (payee, terminal), rows in groupby(spans, key=lambda row: (row.payee, row.terminal)):
        highest, missing = held((row.first, row.last) for row in rows)
        lines.append(
            TerminalLine(
                payee.hex(),
                terminal.hex(),
                highest,
                missing,
                refused.get((payee, terminal), 0),
                flags.get(payee + terminal, 0),
            )
        )
    return lines


def held(spans: Iterable[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
    """Of spans [first, last] by rising first: the highest last, and what is missing from 1 on."""
    missing = []
    upto = 0
    for first, last in spans:
        if first > upto + 1:
            missing.append((upto + 1, first - 1))
        upto = max(upto, last)
    return upto, missing


def _paid_not_granted(connection: Connection) -> list[PaymentLine]:
    joined, disposition = disposition_of()
    columns = (
        record_payee,
        records.c.card,
        records.c.sequence,
        record_reference,
        records.c.amount_fen,
    )
    rows = connection.execute(
        select(*columns)
        .select_from(joined)
        .where(records.c.kind == PAYMENT, records.c.state != SaleState.GRANTED, disposition == 2)
        .order_by(records.c.card, records.c.sequence)
        .limit(LIST_LIMIT)
    )
    return [
        PaymentLine(payee.hex(), card.hex(), sequence, reference.hex(), amount)
        for payee, card, sequence, reference, amount in rows
    ]


def _outstanding(connection: Connection) -> list[LoadLine]:
    """Orders whose receipts have not arrived."""
    joined = orders.outerjoin(
        loads, sa.and_(loads.c.card == orders.c.card, loads.c.counter == orders.c.counter)
    )
    return _loads(connection, orders, joined, loads.c.record.is_(None))


def _unordered(connection: Connection) -> list[LoadLine]:
    """Receipts with no order of the same amount behind them."""
    joined = loads.outerjoin(
        orders,
        sa.and_(
            loads.c.card == orders.c.card,
            loads.c.counter == orders.c.counter,
            loads.c.amount_fen == orders.c.amount_fen,
        ),
    )
    return _loads(connection, loads, joined, orders.c.card.is_(None))


def _loads(connection: Connection, table: sa.Table, joined: Any, where: Any) -> list[LoadLine]:
    rows = connection.execute(
        select(table.c.card, table.c.counter, table.c.amount_fen)
        .select_from(joined)
        .where(where)
        .order_by(table.c.card, table.c.counter)
        .limit(LIST_LIMIT)
    )
    return [LoadLine(card.hex(), counter, amount) for card, counter, amount in rows]


def _rejected(connection: Connection) -> list[RejectedLine]:
    rows = connection.execute(
        select(rejected.c.payee, rejected.c.terminal, rejected.c.entry, rejected.c.code, rejected.c.reason)
        .order_by(rejected.c.payee, rejected.c.terminal, rejected.c.entry)
        .limit(LIST_LIMIT)
    )
    return [
        RejectedLine(payee.hex(), terminal.hex(), entry, code, reason)
        for payee, terminal, entry, code, reason in rows
    ]


def _evidence(connection: Connection) -> list[EvidenceLine]:
    rows = connection.execute(
        select(evidence.c.kind, evidence.c.subject, evidence.c.detail)
        .order_by(evidence.c.kind, evidence.c.digest)
        .limit(LIST_LIMIT)
    )
    return [EvidenceLine(kind, subject.hex(), detail) for kind, subject, detail in rows]


def _evidence_counts(connection: Connection) -> dict[str, int]:
    counted = select(evidence.c.kind, func.count()).group_by(evidence.c.kind).order_by(evidence.c.kind)
    return {row[0]: row[1] for row in connection.execute(counted)}


def _by_terminal(
    connection: Connection, payee: Any, terminal: Any, table: sa.Table
) -> dict[tuple[bytes, bytes], int]:
    rows = connection.execute(
        select(payee, terminal, func.count()).select_from(table).group_by(payee, terminal)
    )
    return {(one, other): number for one, other, number in rows}


def _sums(connection: Connection, statement: Any) -> dict[int, int]:
    return {kind: int(amount) for kind, amount in connection.execute(statement)}


def _scalar(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).scalar() or 0)


def _count(connection: Connection, table: sa.Table, where: Any) -> int:
    return _scalar(connection, select(func.count()).select_from(table).where(where))
