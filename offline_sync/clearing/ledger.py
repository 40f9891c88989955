"""The operator's books: double entry in integer fen, and what was received.

A transfer debits one account and credits another, so that the books balance by construction. Balances are
kept beside the transfers, and the report works them out anew. Nothing here is particular to SQLite but the
pragmas.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from hardwallet.records import PAYMENT
from offline_sync.clearing import migration
from offline_sync.clearing.prepared import CHUNK, PairLookup, Prepared, chunks
from offline_sync.clearing.schema import (
    SCHEMA_VERSION,
    UPLOAD_COLUMNS,
    Account,
    AccountKind,
    Posting,
    Reason,
    RecordRow,
    Transfer,
    accounts,
    certificates,
    claims,
    evidence,
    forks,
    loads,
    meta,
    orders,
    record_payee,
    record_reference,
    record_terminal,
    records,
    refund_orders,
    rejected,
    sales,
    tables,
    transfers,
    ungranted,
    uploads,
)
from offline_sync.errors import LedgerError
from pos_terminal.sale import SaleState

__all__ = [
    "SCHEMA_VERSION",
    "UPLOAD_COLUMNS",
    "Account",
    "AccountKind",
    "Ledger",
    "Posting",
    "Reason",
    "RecordRow",
    "Transfer",
    "accounts",
    "certificates",
    "claims",
    "evidence",
    "forks",
    "loads",
    "meta",
    "orders",
    "record_payee",
    "record_reference",
    "record_terminal",
    "records",
    "refund_orders",
    "rejected",
    "sales",
    "tables",
    "transfers",
    "ungranted",
    "uploads",
]

_REMEMBERED: Final = 50_000
"""Accounts and certificates whose rows are known without asking."""


class Ledger:
    """The database. Writers take their turn; a reader sees one moment."""

    def __init__(self, url: str, scheme: bytes) -> None:
        """`url` as SQLAlchemy names databases; `scheme` is 4 bytes. Raises LedgerError."""
        self._engine = _engine(url)
        self._account_ids: dict[Account, int] = {}
        self._kept_certificates: set[bytes] = set()
        self._forked: set[bytes] = set()
        self._last_fork = 0
        self._prepare()
        try:
            tables.create_all(self._engine)
            with self.write() as connection:
                self._check_identity(connection, scheme)
        except SQLAlchemyError as error:
            self.close()
            raise LedgerError(f"The ledger cannot be opened: {_cause(error)}") from error
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """The statements that run for every payment, compiled once."""
        engine, moved = self._engine, transfers.c
        self._insert_records = Prepared(engine, sa.insert(records))
        self._insert_transfers = Prepared(
            engine,
            sa.insert(transfers).values(
                {
                    c.name: sa.bindparam(c.name)
                    for c in (moved.reason, moved.record, moved.debit, moved.credit)
                }
                | {"amount_fen": sa.bindparam("amount_fen")}
            ),
        )
        self._change_balance = Prepared(
            engine,
            sa.update(accounts)
            .where(accounts.c.id == sa.bindparam("account"))
            .values(balance_fen=accounts.c.balance_fen + sa.bindparam("change")),
        )
        self._find_bodies = PairLookup(
            engine,
            (
                records.c.card,
                records.c.sequence,
                records.c.body_digest,
                records.c.id,
                records.c.state,
                records.c.raw,
            ),
            records.c.card,
            records.c.sequence,
        )
        sent = uploads.c
        of_terminal = sa.and_(sent.payee == sa.bindparam("p"), sent.terminal == sa.bindparam("t"))
        self._find_receipt = Prepared(
            engine, sa.select(sent.receipt).where(sent.batch_key == sa.bindparam("key"))
        )
        self._find_highest = Prepared(engine, sa.select(sa.func.max(sent.last)).where(of_terminal))
        refused = rejected.c
        self._find_rejected = Prepared(
            engine,
            sa.select(sa.func.max(refused.entry))
            .where(refused.payee == sa.bindparam("p"), refused.terminal == sa.bindparam("t"))
            .having(sa.func.count() > sa.literal_column("0")),
        )
        kept = self._insert(certificates).values({name: sa.bindparam(name) for name in ("digest", "raw")})
        self._insert_certificates = Prepared(engine, kept.on_conflict_do_nothing())
        upload = self._insert(uploads).values({name: sa.bindparam(name) for name in UPLOAD_COLUMNS})
        self._insert_upload = Prepared(
            engine,
            upload.on_conflict_do_update(
                index_elements=[sent.batch_key], set_={"receipt": upload.excluded.receipt}
            ),
        )
        self._find_ending = Prepared(
            engine,
            sa.select(sent.last, sent.signed_s, sent.head).where(
                of_terminal, sent.last == sa.bindparam("last")
            ),
        )
        self._find_touching = Prepared(
            engine,
            sa.select(sent.first, sent.before_hash, sent.hashes, sent.head).where(
                of_terminal, sent.last >= sa.bindparam("begin"), sent.first <= sa.bindparam("end")
            ),
        )
        self._find_loads = PairLookup(
            engine, (loads.c.card, loads.c.counter, loads.c.record), loads.c.card, loads.c.counter
        )
        self._find_told = PairLookup(
            engine,
            (sales.c.payee, sales.c.reference, sales.c.terminal, sales.c.state),
            sales.c.reference,
            sales.c.payee,
        )
        place = ungranted.c
        self._find_told_of = PairLookup(engine, (place.record,), place.reference, place.payee)
        self._find_paid = PairLookup(engine, (place.record,), place.card, place.sequence)
        self._find_unmatched = Prepared(
            engine,
            sa.select(claims.c.card, claims.c.sequence, claims.c.body_digest).where(
                claims.c.record.is_(sa.null())
            ),
        )
        self._find_last_fork = Prepared(engine, sa.select(sa.func.max(forks.c.id)))
        self._find_accounts = PairLookup(
            engine, (accounts.c.id, accounts.c.kind, accounts.c.owner), accounts.c.kind, accounts.c.owner
        )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it or nothing. Raises LedgerError."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            self._forget()
            raise LedgerError(
                f"The ledger could not be written; nothing was booked: {_cause(error)}"
            ) from error
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        """What was remembered may never have been written."""
        self._account_ids.clear()
        self._kept_certificates.clear()
        self._forked.clear()
        self._last_fork = 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One moment of the books. Raises LedgerError."""
        try:
            with self._engine.connect().execution_options(reading=True) as connection:
                yield connection
        except SQLAlchemyError as error:
            raise LedgerError(f"The ledger could not be read: {_cause(error)}") from error

    def close(self) -> None:
        """Let the database go."""
        self._engine.dispose()

    @property
    def shared(self) -> bool:
        """All threads share one connection (a database in memory), so that readers must wait for a writer
        too.
        """
        return isinstance(self._engine.pool, StaticPool)

    def known_bodies(
        self, connection: Connection, keys: Iterable[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], dict[bytes, tuple[int, int, bytes]]]:
        """For each (card, sequence): body digest → (id, state, raw record)."""
        found: dict[tuple[bytes, int], dict[bytes, tuple[int, int, bytes]]] = {}
        for card, sequence, digest, number, state, raw in self._find_bodies(connection, keys):
            found.setdefault((card, sequence), {})[digest] = (number, state, raw)
        return found

    def known_loads(
        self, connection: Connection, keys: Iterable[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], int]:
        """For each (card, load counter) the id of its receipt."""
        return {(card, counter): record for card, counter, record in self._find_loads(connection, keys)}

    def next_record(self, connection: Connection) -> int:
        """The id of the next record. Writers take turns, so that it is free."""
        return (
            int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(records.c.id), 0))).scalar_one())
            + 1
        )

    def receipt(self, connection: Connection, batch_key: bytes) -> bytes | None:
        """The receipt that an upload got."""
        rows = self._find_receipt.find(connection, (batch_key,))
        return bytes(rows[0][0]) if rows else None

    def highest(self, connection: Connection, payee: bytes, terminal: bytes) -> int:
        """The highest entry that is held of a terminal, 0 for none."""
        return int(self._find_highest.find(connection, (payee, terminal))[0][0] or 0)

    def uploads_touching(
        self, connection: Connection, payee: bytes, terminal: bytes, first: int, last: int
    ) -> Sequence[Any]:
        """Uploads of a terminal that overlap, or border on, the entries first to last: (first, before,
        hashes, head).
        """
        return self._find_touching.find(connection, (payee, terminal, first - 1, last + 1))

    def latest_upload(self, connection: Connection, payee: bytes, terminal: bytes) -> Any:
        """(last, signed_s, head) of the upload that reaches furthest, or None."""
        highest = self.highest(connection, payee, terminal)
        rows = self._find_ending.find(connection, (payee, terminal, highest))
        return rows[0] if rows else None

    def keep_upload(self, connection: Connection, row: tuple[Any, ...]) -> None:
        """Keep an upload, in the order of UPLOAD_COLUMNS; one that came before gets the newer receipt."""
        self._insert_upload.run(connection, [row])

    def certificates_by_digest(self, connection: Connection, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Card certificates (178 bytes) that came earlier, by their digests."""
        columns = certificates.c.digest, certificates.c.raw
        return {
            digest: raw
            for chunk in chunks(list(digests))
            for digest, raw in connection.execute(sa.select(*columns).where(certificates.c.digest.in_(chunk)))
        }

    def keep_certificates(self, connection: Connection, found: Mapping[bytes, bytes]) -> None:
        """Keep verified card certificates by their digests."""
        new = [(digest, raw) for digest, raw in found.items() if digest not in self._kept_certificates]
        self._insert_certificates.run(connection, new)
        if len(self._kept_certificates) > _REMEMBERED:
            self._kept_certificates.clear()
        self._kept_certificates.update(digest for digest, _ in new)

    def post(self, connection: Connection, posting: Posting) -> None:
        """Write what a batch changes."""
        self._insert_records.run(connection, posting.records)
        self.post_transfers(connection, posting.transfers)
        if posting.loads:
            connection.execute(sa.insert(loads), posting.loads)
        self.insert_new(connection, refund_orders, posting.refund_orders)
        for booked in posting.refunds:
            connection.execute(
                sa.update(refund_orders)
                .where(
                    *(refund_orders.c[name] == booked[name] for name in ("payee", "terminal", "transaction"))
                )
                .values(record=booked["record"])
            )
        for change in posting.states:
            connection.execute(
                sa.update(records).where(records.c.id == change["id"]).values(state=change["state"])
            )
        self._post_sales(connection, posting.sales)
        self.insert_new(connection, ungranted, posting.ungranted)
        self.insert_new(connection, rejected, posting.rejected)
        self.insert_new(connection, evidence, posting.evidence)

    def settle_rejections(
        self,
        connection: Connection,
        payee: bytes,
        terminal: bytes,
        span: tuple[int, int],
        still: Iterable[int],
    ) -> None:
        """Forget rejections of a terminal's entries from span[0] to span[1], but for those rejected again."""
        again = list(still)
        for first in range(span[0], span[1] + 1, CHUNK):
            last = min(first + CHUNK - 1, span[1])
            connection.execute(
                sa.delete(rejected).where(
                    rejected.c.payee == payee,
                    rejected.c.terminal == terminal,
                    rejected.c.entry.between(first, last),
                    rejected.c.entry.not_in([index for index in again if first <= index <= last]),
                )
            )

    def has_rejections(self, connection: Connection, payee: bytes, terminal: bytes) -> bool:
        """Whether any entry of a terminal was rejected."""
        return bool(self._find_rejected.find(connection, (payee, terminal)))

    def bodies_of(self, connection: Connection, card: bytes) -> Iterator[tuple[int, int, int]]:
        """(sequence, kind, amount) of everything that arrived from a card, by rising sequence."""
        wanted = sa.select(records.c.sequence, records.c.kind, records.c.amount_fen)
        for row in connection.execute(wanted.where(records.c.card == card).order_by(records.c.sequence)):
            yield row[0], row[1], row[2]

    def told(
        self, connection: Connection, keys: Iterable[tuple[bytes, bytes]]
    ) -> dict[tuple[bytes, bytes], dict[bytes, int]]:
        """For each (payee, reference) what the payee's terminals say of that sale: terminal → state."""
        found: dict[tuple[bytes, bytes], dict[bytes, int]] = {}
        pairs = ((reference, payee) for payee, reference in keys)
        for payee, reference, terminal, state in self._find_told(connection, pairs):
            found.setdefault((payee, reference), {})[terminal] = state
        return found

    def ungranted_of(
        self, connection: Connection, told: Iterable[tuple[bytes, bytes]], paid: Iterable[tuple[bytes, int]]
    ) -> set[int]:
        """The payments without a grant of their own that bear one of these (reference, payee), or are one of
        these (card, sequence): ids of records.
        """
        found = {row.record for row in self._find_told_of(connection, told)}
        found.update(row.record for row in self._find_paid(connection, paid))
        return found

    def match_claims(self, connection: Connection, new: Sequence[RecordRow]) -> list[int]:
        """Payments among these new records that a load order had claimed before they arrived."""
        waiting = {tuple(row) for row in self._find_unmatched.find(connection, ())}
        if not waiting:
            return []
        matched = [
            row for row in new if row.kind == PAYMENT and (row.card, row.sequence, row.body_digest) in waiting
        ]
        for row in matched:
            connection.execute(
                sa.update(claims)
                .where(
                    claims.c.card == row.card,
                    claims.c.sequence == row.sequence,
                    claims.c.body_digest == row.body_digest,
                )
                .values(record=row.id)
            )
        return [row.id for row in matched]

    def claimed_by(self, connection: Connection, posted: Iterable[Mapping[str, Any]]) -> list[int]:
        """Payments that are here, and that the orders of these loads put back on their cards."""
        c = claims.c
        return [
            number
            for load in posted
            for number in connection.scalars(
                sa.select(c.record).where(
                    c.card == load["card"], c.counter == load["counter"], c.record.is_not(None)
                )
            )
        ]

    def forked(self, connection: Connection) -> set[bytes]:
        """The cards that were cloned. Remembered: they only grow more, and are asked for with every batch."""
        last = int(self._find_last_fork.find(connection, ())[0][0] or 0)
        if last != self._last_fork:
            self._forked = set(connection.scalars(sa.select(forks.c.card)))
            self._last_fork = last
        return self._forked

    def keep_order(self, connection: Connection, row: dict[str, Any]) -> None:
        """Keep a load order; the first one for a card's counter stays."""
        self.insert_new(connection, orders, [row])

    def post_transfers(self, connection: Connection, posted: Sequence[Transfer]) -> None:
        """Move money, and keep the balances with it."""
        if not posted:
            return
        ids = self._accounts(connection, {side for item in posted for side in (item.debit, item.credit)})
        changes: dict[int, int] = {}
        rows = []
        for item in posted:
            debit, credit = ids[item.debit], ids[item.credit]
            changes[debit] = changes.get(debit, 0) - item.amount_fen
            changes[credit] = changes.get(credit, 0) + item.amount_fen
            rows.append((item.reason, item.record, debit, credit, item.amount_fen))
        self._insert_transfers.run(connection, rows)
        self._change_balance.run(connection, [(change, number) for number, change in sorted(changes.items())])

    def _accounts(self, connection: Connection, wanted: Iterable[Account]) -> dict[Account, int]:
        """The ids of accounts; those that are new are opened with a balance of 0."""
        if len(self._account_ids) > _REMEMBERED:
            self._account_ids.clear()
        missing = [account for account in wanted if account not in self._account_ids]
        if missing:
            self._note_accounts(connection, missing)
            new = [account for account in missing if account not in self._account_ids]
            if new:
                rows = [{"kind": kind, "owner": owner, "balance_fen": 0} for kind, owner in new]
                connection.execute(sa.insert(accounts), rows)
                self._note_accounts(connection, new)
        return self._account_ids

    def _note_accounts(self, connection: Connection, wanted: Sequence[Account]) -> None:
        for number, kind, owner in self._find_accounts(connection, wanted):
            self._account_ids[kind, owner] = number

    def _post_sales(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """The latest entry of a sale tells its state, in whatever order uploads arrive."""
        if not rows:
            return
        statement = self._insert(sales).values({name: sa.bindparam(name) for name in rows[0]})
        update = statement.on_conflict_do_update(
            index_elements=[sales.c.payee, sales.c.terminal, sales.c.reference],
            set_={"entry": statement.excluded.entry, "state": statement.excluded.state},
            where=_tells_more(statement.excluded, sales.c),
        )
        connection.execute(update, list(rows))

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Rows of a table; those whose key is there already stay as they are."""
        if rows:
            statement = self._insert(table).values({name: sa.bindparam(name) for name in rows[0]})
            connection.execute(statement.on_conflict_do_nothing(), list(rows))

    def _insert(self, table: Table) -> Any:
        """ON CONFLICT is spelt alike in both, but SQLAlchemy has it by dialect."""
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)

    def _check_identity(self, connection: Connection, scheme: bytes) -> None:
        wanted = {"schema": bytes((SCHEMA_VERSION,)), "scheme": scheme}
        self.insert_new(connection, meta, [{"key": key, "value": value} for key, value in wanted.items()])
        rows = connection.execute(sa.select(meta.c.key, meta.c.value)).all()
        found = {row.key: row.value for row in rows}
        if found["scheme"] != scheme:
            raise LedgerError(f"The ledger belongs to another scheme ({found['scheme'].hex()})")
        if found["schema"] == b"\x01":
            migration.upgrade(connection, self)
        elif found["schema"] != wanted["schema"]:
            raise LedgerError(
                "The ledger was written by another version of this program; bring it up to date"
            )


def _tells_more(new: Any, held: Any) -> Any:
    """A later entry does. Of two journals with one number, granted does, else the higher state: so that it
    does not matter which came first.
    """
    granted: Any = sa.literal_column(str(int(SaleState.GRANTED)))
    rank, held_rank = (
        sa.case((of.state == granted, sa.literal_column("99")), else_=of.state) for of in (new, held)
    )
    return sa.or_(new.entry > held.entry, sa.and_(new.entry == held.entry, rank > held_rank))


def _engine(url: str) -> Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed)
        options: dict[str, Any] = {"connect_args": {"check_same_thread": False}}
        if parsed.database in (None, "", ":memory:"):
            options["poolclass"] = StaticPool
        engine = sa.create_engine(parsed, **options)
    except (SQLAlchemyError, ImportError) as error:
        raise LedgerError(f"The ledger cannot be opened: {_cause(error)}") from error
    sa.event.listen(engine, "connect", _make_durable)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _make_durable(connection: Any, _record: object) -> None:
    """WAL with synchronous FULL, read back: with less, a power cut loses what was acknowledged."""
    connection.isolation_level = None  # transactions are begun by hand, below
    try:
        _set_pragmas(connection)
    except BaseException:
        connection.close()
        raise


def _set_pragmas(connection: Any) -> None:
    cursor = connection.cursor()
    for name, value in (
        ("journal_mode", "wal"),
        ("synchronous", "full"),
        ("cache_size", "-65536"),
        ("wal_autocheckpoint", "20000"),
    ):
        cursor.execute(f"PRAGMA {name} = {value}")
    cursor.execute("PRAGMA busy_timeout = 10000")
    mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
    level = cursor.execute("PRAGMA synchronous").fetchone()[0]
    cursor.close()
    if mode not in ("wal", "memory") or level != 2:
        raise LedgerError(f"The ledger cannot be made durable here (journal {mode}, synchronous {level})")


def _begin(connection: Connection) -> None:
    """A writer takes its turn at once: two that read first and then both write would deadlock."""
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _cause(error: Exception) -> str:
    """The database's own words, without the statement and its values."""
    return str(getattr(error, "orig", None) or error)
