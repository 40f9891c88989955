"""The tables of the operator's books, and the words for what moves in them. SQLAlchemy Core.

Nothing here is particular to one database. Other modules of clearing keep tables of their own in `tables`.
"""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

SCHEMA_VERSION: Final = 2
_Id = BigInteger().with_variant(Integer, "sqlite")
tables = MetaData()

meta = Table(
    "meta", tables, Column("key", String(40), primary_key=True), Column("value", LargeBinary, nullable=False)
)

accounts = Table(
    "accounts",
    tables,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("kind", SmallInteger, nullable=False),
    Column("owner", LargeBinary(8), nullable=False),
    Column("balance_fen", BigInteger, nullable=False),
    UniqueConstraint("kind", "owner"),
)

records = Table(
    "records",
    tables,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("card", LargeBinary(8), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("body_digest", LargeBinary(32), nullable=False),
    Column("amount_fen", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("received_s", BigInteger, nullable=False),
    Column("raw", LargeBinary(160), nullable=False),
    # What the card said it held afterwards: neighbouring balances give the amount of a gap.
    Column("balance_fen", BigInteger, nullable=False, server_default="0"),
    # Scheme and application are the database's own (meta), so card, sequence and body identify a payment.
    UniqueConstraint("card", "sequence", "body_digest"),
)

transfers = Table(
    "transfers",
    tables,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("reason", SmallInteger, nullable=False),
    Column("record", _Id, ForeignKey("records.id"), nullable=False),
    Column("debit", _Id, ForeignKey("accounts.id"), nullable=False),
    Column("credit", _Id, ForeignKey("accounts.id"), nullable=False),
    Column("amount_fen", BigInteger, CheckConstraint("amount_fen > 0"), nullable=False),
    CheckConstraint("debit <> credit"),
)

# Fields of a record's body that only reports ask for, by their place in it; substr counts from 1.
record_payee = sa.func.substr(records.c.raw, sa.literal_column("29"), sa.literal_column("8"))
record_reference = sa.func.substr(records.c.raw, sa.literal_column("37"), sa.literal_column("12"))
record_terminal = sa.func.substr(records.c.raw, sa.literal_column("55"), sa.literal_column("4"))

certificates = Table(
    "certificates",
    tables,
    Column("digest", LargeBinary(8), primary_key=True),
    Column("raw", LargeBinary(178), nullable=False),
)

uploads = Table(
    "uploads",
    tables,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("batch_key", LargeBinary(32), nullable=False, unique=True),
    Column("payee", LargeBinary(8), nullable=False),
    Column("terminal", LargeBinary(4), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("before_hash", LargeBinary(32), nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    Column("signed_s", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("receipt", LargeBinary, nullable=False),
)
UPLOAD_COLUMNS: Final = tuple(column.name for column in uploads.columns if column.name != "id")
Index("uploads_by_terminal", uploads.c.payee, uploads.c.terminal, uploads.c.last)

sales = Table(
    "sales",
    tables,
    Column("payee", LargeBinary(8), primary_key=True),
    Column("terminal", LargeBinary(4), primary_key=True),
    Column("reference", LargeBinary(12), primary_key=True),
    Column("entry", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
)
sales_by_reference = Index("sales_by_reference", sales.c.reference, sales.c.payee)

ungranted = Table(
    "ungranted",
    tables,
    # Payments that came without a grant by their own terminal, and what of them goes back to the card. They
    # are few; a payment that was granted when it came has no row.
    Column("record", _Id, ForeignKey("records.id"), primary_key=True, autoincrement=False),
    Column("card", LargeBinary(8), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("payee", LargeBinary(8), nullable=False),
    Column("terminal", LargeBinary(4), nullable=False),
    Column("reference", LargeBinary(12), nullable=False),
    Column("returned_fen", BigInteger, nullable=False),
    Column("loaded_fen", BigInteger, nullable=False),
)
Index("ungranted_by_reference", ungranted.c.reference, ungranted.c.payee)
Index("ungranted_by_card", ungranted.c.card, ungranted.c.sequence)

claims = Table(
    "claims",
    tables,
    # Payments that a load order puts back on their card. `record`: the payment, once it is here.
    Column("card", LargeBinary(8), primary_key=True),
    Column("counter", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("body_digest", LargeBinary(32), primary_key=True),
    Column("amount_fen", BigInteger, CheckConstraint("amount_fen > 0"), nullable=False),
    Column("order_fen", BigInteger, nullable=False),
    Column("record", _Id, ForeignKey("records.id"), nullable=True),
)
Index("claims_by_record", claims.c.record)

forks = Table(
    "forks",
    tables,
    # Cards with two bodies under one sequence number, and what their issuer has lost by them so far.
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("card", LargeBinary(8), nullable=False, unique=True),
    Column("issuer", LargeBinary(8), nullable=False),
    Column("record", _Id, ForeignKey("records.id"), nullable=False),
    Column("loss_fen", BigInteger, nullable=False),
)

orders = Table(
    "orders",
    tables,
    Column("card", LargeBinary(8), primary_key=True),
    Column("counter", BigInteger, primary_key=True),
    Column("operator", LargeBinary(4), nullable=False),
    Column("amount_fen", BigInteger, nullable=False),
    Column("raw", LargeBinary(122), nullable=False),
)

loads = Table(
    "loads",
    tables,
    Column("card", LargeBinary(8), primary_key=True),
    Column("counter", BigInteger, primary_key=True),
    Column("record", _Id, ForeignKey("records.id"), nullable=False),
    Column("amount_fen", BigInteger, nullable=False),
)

refund_orders = Table(
    "refund_orders",
    tables,
    Column("payee", LargeBinary(8), primary_key=True),
    Column("terminal", LargeBinary(4), primary_key=True),
    Column("transaction", BigInteger, primary_key=True),
    Column("card", LargeBinary(8), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("total_fen", BigInteger, nullable=False),
    Column("record", _Id, ForeignKey("records.id"), nullable=True),
)
Index("refund_orders_by_payment", refund_orders.c.card, refund_orders.c.sequence)

rejected = Table(
    "rejected",
    tables,
    Column("payee", LargeBinary(8), primary_key=True),
    Column("terminal", LargeBinary(4), primary_key=True),
    Column("entry", BigInteger, primary_key=True),
    Column("payload_digest", LargeBinary(32), primary_key=True),
    Column("code", String(40), nullable=False),
    Column("reason", String(300), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
)

evidence = Table(
    "evidence",
    tables,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("subject", LargeBinary(12), nullable=False),
    Column("detail", String(300), nullable=False),
    Column("first_proof", LargeBinary, nullable=False),
    Column("second_proof", LargeBinary, nullable=False),
    Column("received_s", BigInteger, nullable=False),
)
Index("evidence_by_kind", evidence.c.kind)


class AccountKind:
    """Whose account. The numbers are stored and never change. Plain integers: they are hashed for every
    payment.
    """

    FUNDING: Final = 1
    """An issuer's funding: what it has put on cards, as a debt."""
    CARD: Final = 2
    PAYEE: Final = 3
    LOSS: Final = 4
    """An issuer's losses by cloned cards."""
    RETURN: Final = 5
    """What is owed back to a card and is not on it yet."""


class Reason:
    """Why money moved. The numbers are stored and never change."""

    LOAD: Final = 1
    PAYMENT: Final = 2
    REFUND: Final = 3
    RETURN: Final = 4
    """Out of PAYEE into RETURN: paid, not granted."""
    RETURN_LOADED: Final = 5
    """Out of RETURN into FUNDING: this much of a load was no new money."""
    RETURN_REVERSED: Final = 6
    """Out of RETURN into PAYEE: granted or refunded after all."""
    LOSS: Final = 7
    """Out of LOSS into CARD: what a cloned card paid twice, or paid without having it."""
    LOSS_REVERSED: Final = 8
    """Out of CARD into LOSS."""


Account = tuple[int, bytes]
"""Kind and owner."""


class Transfer(NamedTuple):
    """One movement, of one record: out of `debit`, into `credit`, `amount_fen` above 0."""

    reason: int
    record: int
    debit: Account
    credit: Account
    amount_fen: int


class RecordRow(NamedTuple):
    """A row of `records`, its columns in their order: `card` has 8 bytes, `body_digest` 32, `raw` 160."""

    id: int
    kind: int
    card: bytes
    sequence: int
    body_digest: bytes
    amount_fen: int
    state: int
    received_s: int
    raw: bytes
    balance_fen: int


@dataclass(slots=True)
class Posting:
    """What one batch changes, collected before it is written at once."""

    records: list[RecordRow] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    loads: list[dict[str, Any]] = field(default_factory=list)
    refund_orders: list[dict[str, Any]] = field(default_factory=list)
    refunds: list[dict[str, Any]] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    sales: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    evidence: list[dict[str, Any]] = field(default_factory=list)
    ungranted: list[dict[str, Any]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    """Ids of records that were held, and whose terminal tells something new now."""
    refunded: list[tuple[bytes, int]] = field(default_factory=list)
    """Card and sequence of payments that something was booked back of."""
    forks: dict[bytes, RecordRow] = field(default_factory=dict)
    """For each card that showed a second body: that record."""
