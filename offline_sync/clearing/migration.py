"""Brings books of an earlier version of the tables up to date, in one transaction, when they are opened.

    1 → 2   records tell the balance after them; returns and losses are worked out for all that has arrived

Afterwards the books are what they would be had everything arrived anew.
"""

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from hardwallet.errors import Malformed
from hardwallet.records import PAYMENT, parse
from offline_sync.clearing import losses, returns
from offline_sync.clearing.schema import (
    SCHEMA_VERSION,
    RecordRow,
    forks,
    meta,
    records,
    sales_by_reference,
    ungranted,
)
from offline_sync.errors import LedgerError
from pos_terminal.sale import SaleState

if TYPE_CHECKING:
    from offline_sync.clearing.ledger import Ledger

_PAGE: Final = 5_000


def upgrade(connection: Connection, ledger: "Ledger") -> None:
    """From version 1 to SCHEMA_VERSION. Tables that version 1 did not have are there already."""
    connection.exec_driver_sql("ALTER TABLE records ADD COLUMN balance_fen BIGINT DEFAULT 0 NOT NULL")
    sales_by_reference.create(connection, checkfirst=True)
    _read_records(connection, ledger)
    returns.settle(connection, ledger, connection.scalars(sa.select(ungranted.c.record)).all())
    _find_forks(connection, ledger)
    losses.settle(connection, ledger, connection.scalars(sa.select(forks.c.card)).all())
    connection.execute(sa.update(meta).where(meta.c.key == "schema").values(value=bytes((SCHEMA_VERSION,))))


def _read_records(connection: Connection, ledger: "Ledger") -> None:
    """The balance in every record, and a row for each payment that was not granted."""
    c = records.c
    change = (
        sa.update(records).where(c.id == sa.bindparam("number")).values(balance_fen=sa.bindparam("balance"))
    )
    last = 0
    while True:
        rows = connection.execute(
            sa.select(c.id, c.state, c.raw).where(c.id > last).order_by(c.id).limit(_PAGE)
        ).all()
        if not rows:
            return
        try:
            parsed = [(number, state, parse(raw)) for number, state, raw in rows]
        except Malformed as error:
            raise LedgerError(
                f"The ledger can't be brought up to date, restore it from a backup: {error}"
            ) from None
        connection.execute(change, [{"number": n, "balance": record.balance_fen} for n, _, record in parsed])
        found = [
            returns.row_of(number, record)
            for number, state, record in parsed
            if record.kind == PAYMENT and state != SaleState.GRANTED
        ]
        ledger.insert_new(connection, ungranted, found)
        last = rows[-1].id


def _find_forks(connection: Connection, ledger: "Ledger") -> None:
    c = records.c
    second = sa.select(sa.func.max(c.id)).group_by(c.card, c.sequence).having(sa.func.count() > 1)
    columns = [c[name] for name in RecordRow._fields]
    rows = connection.execute(sa.select(*columns).where(c.id.in_(second)).order_by(c.id))
    losses.note(connection, ledger, {row.card: RecordRow(*row) for row in rows})
