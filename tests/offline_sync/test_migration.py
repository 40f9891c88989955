"""Books of version 1 are brought up to date when they are opened: then they say what fresh ones would."""

import sqlite3
from pathlib import Path

import pytest

from offline_sync.clearing import Clearing, Report
from offline_sync.errors import LedgerError
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import Scheme
from tests.offline_sync.test_clearing import Till, carried, changed, open_clearing, own

VERSION_1 = """
CREATE TABLE meta ("key" VARCHAR(40) NOT NULL, value BLOB NOT NULL, PRIMARY KEY ("key"));
CREATE TABLE accounts (id INTEGER NOT NULL, kind SMALLINT NOT NULL, owner BLOB NOT NULL,
    balance_fen BIGINT NOT NULL, PRIMARY KEY (id), UNIQUE (kind, owner));
CREATE TABLE certificates (digest BLOB NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (digest));
CREATE TABLE evidence (digest BLOB NOT NULL, kind VARCHAR(40) NOT NULL, subject BLOB NOT NULL,
    detail VARCHAR(300) NOT NULL, first_proof BLOB NOT NULL, second_proof BLOB NOT NULL,
    received_s BIGINT NOT NULL, PRIMARY KEY (digest));
CREATE INDEX evidence_by_kind ON evidence (kind);
CREATE TABLE orders (card BLOB NOT NULL, counter BIGINT NOT NULL, operator BLOB NOT NULL,
    amount_fen BIGINT NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (card, counter));
CREATE TABLE records (id INTEGER NOT NULL, kind SMALLINT NOT NULL, card BLOB NOT NULL,
    sequence BIGINT NOT NULL, body_digest BLOB NOT NULL, amount_fen BIGINT NOT NULL, state SMALLINT NOT NULL,
    received_s BIGINT NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (id), UNIQUE (card, sequence, body_digest));
CREATE TABLE rejected (payee BLOB NOT NULL, terminal BLOB NOT NULL, entry BIGINT NOT NULL,
    payload_digest BLOB NOT NULL, code VARCHAR(40) NOT NULL, reason VARCHAR(300) NOT NULL,
    payload BLOB NOT NULL, certificate BLOB NOT NULL,
    PRIMARY KEY (payee, terminal, entry, payload_digest));
CREATE TABLE sales (payee BLOB NOT NULL, terminal BLOB NOT NULL, reference BLOB NOT NULL,
    entry BIGINT NOT NULL, state SMALLINT NOT NULL, PRIMARY KEY (payee, terminal, reference));
CREATE TABLE uploads (id INTEGER NOT NULL, batch_key BLOB NOT NULL, payee BLOB NOT NULL,
    terminal BLOB NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, before_hash BLOB NOT NULL,
    hashes BLOB NOT NULL, signed_s BIGINT NOT NULL, head BLOB NOT NULL, receipt BLOB NOT NULL,
    PRIMARY KEY (id), UNIQUE (batch_key));
CREATE INDEX uploads_by_terminal ON uploads (payee, terminal, last);
CREATE TABLE loads (card BLOB NOT NULL, counter BIGINT NOT NULL, record INTEGER NOT NULL,
    amount_fen BIGINT NOT NULL, PRIMARY KEY (card, counter),
    FOREIGN KEY(record) REFERENCES records (id));
CREATE TABLE refund_orders (payee BLOB NOT NULL, terminal BLOB NOT NULL, "transaction" BIGINT NOT NULL,
    card BLOB NOT NULL, sequence BIGINT NOT NULL, total_fen BIGINT NOT NULL, record INTEGER,
    PRIMARY KEY (payee, terminal, "transaction"), FOREIGN KEY(record) REFERENCES records (id));
CREATE INDEX refund_orders_by_payment ON refund_orders (card, sequence);
CREATE TABLE transfers (id INTEGER NOT NULL, reason SMALLINT NOT NULL, record INTEGER NOT NULL,
    debit INTEGER NOT NULL, credit INTEGER NOT NULL, amount_fen BIGINT NOT NULL CHECK (amount_fen > 0),
    PRIMARY KEY (id), CHECK (debit <> credit), FOREIGN KEY(record) REFERENCES records (id),
    FOREIGN KEY(debit) REFERENCES accounts (id), FOREIGN KEY(credit) REFERENCES accounts (id));
"""
COLUMNS = {
    "meta": "key, value",
    "accounts": "id, kind, owner, balance_fen",
    "certificates": "digest, raw",
    "evidence": "digest, kind, subject, detail, first_proof, second_proof, received_s",
    "orders": "card, counter, operator, amount_fen, raw",
    "records": "id, kind, card, sequence, body_digest, amount_fen, state, received_s, raw",
    "sales": "payee, terminal, reference, entry, state",
    "uploads": "id, batch_key, payee, terminal, first, last, before_hash, hashes, signed_s, head, receipt",
    "loads": "card, counter, record, amount_fen",
    "refund_orders": 'payee, terminal, "transaction", card, sequence, total_fen, record',
    "transfers": "id, reason, record, debit, credit, amount_fen",
}
NO_RETURNS_NO_LOSSES = """
DELETE FROM transfers WHERE reason > 3;
UPDATE accounts SET balance_fen =
    (SELECT coalesce(sum(amount_fen), 0) FROM transfers WHERE credit = accounts.id)
    - (SELECT coalesce(sum(amount_fen), 0) FROM transfers WHERE debit = accounts.id);
DELETE FROM accounts WHERE kind > 3;
UPDATE meta SET value = x'01' WHERE "key" = 'schema';
"""


def history(clearing: Clearing, scheme: Scheme) -> Report:
    """A load, a sale given up whose payment came by bus, a payment not granted, a clone, a gap."""
    card, other = scheme.card(1, balance_fen=0), scheme.card(2, balance_fen=0)
    shop, bus = scheme.terminal(1, 1, retail=True), scheme.terminal(2, 1)
    for one in (card, other):
        clearing.book_load(scheme.load(one, 20_000).raw, one.raw_certificate)
    torn = scheme.payment(card, shop, 1_250)
    refused = scheme.payment(card, shop, 300)
    scheme.payment(card, bus, 200)  # never arrives
    bus_till = Till(bus, [card, other]).add(carried(torn), own(scheme.payment(card, bus, 400)))
    bus_till.add(own(scheme.payment(other, bus, 70)), own(scheme.payment(other, bus, 90, sequence=2)))
    shop_till = Till(shop, [card]).add(changed(torn.reference, SaleState.GIVEN_UP))
    clearing.accept(shop_till.add(own(refused, SaleState.PAID_NOT_GRANTED)).batch())
    clearing.accept(bus_till.batch())
    return clearing.report()


@pytest.fixture
def version_1(tmp_path: Path) -> tuple[Scheme, str, Report]:
    """Books as version 1 wrote them, and what books of today say of the same arrivals."""
    scheme = Scheme(seed="migration")
    today, old = tmp_path / "today.sqlite", tmp_path / "old.sqlite"
    clearing = open_clearing(scheme, f"sqlite:///{today}")
    report = history(clearing, scheme)
    clearing.close()
    with sqlite3.connect(old) as database:
        database.executescript(VERSION_1)
        database.execute("ATTACH ? AS today", (str(today),))
        for table, columns in COLUMNS.items():
            database.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM today.{table}")  # noqa: S608
        database.commit()
        database.execute("DETACH today")
        database.executescript(NO_RETURNS_NO_LOSSES)
    database.close()
    return scheme, f"sqlite:///{old}", report


def test_the_history_has_what_version_1_did_not_know(version_1: tuple[Scheme, str, Report]) -> None:
    """Otherwise the next test would show nothing."""
    _, _, report = version_1
    assert report.conservation.ok
    assert [line.amount_fen for line in report.owed] == [1_250, 300]
    assert [line.amount_fen for line in report.losses] == [90]
    assert [(line.first, line.last, line.amount_fen) for line in report.gaps] == [(4, 4, 200)]


def test_books_of_version_1_say_afterwards_what_fresh_ones_do(version_1: tuple[Scheme, str, Report]) -> None:
    scheme, url, report = version_1
    for _ in range(2):
        clearing = open_clearing(scheme, url)
        assert clearing.report() == report
        clearing.close()


def test_what_arrives_afterwards_is_booked(version_1: tuple[Scheme, str, Report]) -> None:
    """The index of references works on what was there before: a late state finds its payment."""
    scheme, url, _ = version_1
    clearing = open_clearing(scheme, url)
    (first, _) = clearing.owed((1).to_bytes(8, "big"))
    shop = scheme.terminal(1, 2, retail=True)
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    (reference,) = database.execute(
        "SELECT reference FROM ungranted WHERE sequence = ?", (first.sequence,)
    ).fetchone()
    database.close()
    clearing.accept(Till(shop, []).add(changed(reference, SaleState.GRANTED)).batch())
    assert [line.amount_fen for line in clearing.report().owed] == [300]
    clearing.close()


def test_a_later_version_is_refused(version_1: tuple[Scheme, str, Report]) -> None:
    scheme, url, _ = version_1
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    database.execute("UPDATE meta SET value = x'09' WHERE key = 'schema'")
    database.commit()
    database.close()
    with pytest.raises(LedgerError, match="another version"):
        open_clearing(scheme, url)


def test_an_upgrade_that_fails_changes_nothing(version_1: tuple[Scheme, str, Report]) -> None:
    """A record that can't be read stops it; the books stay as they were."""
    scheme, url, _ = version_1
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    database.execute("UPDATE records SET raw = zeroblob(160) WHERE id = 3")
    database.commit()
    with pytest.raises(LedgerError, match="restore it from a backup"):
        open_clearing(scheme, url)
    columns = {row[1] for row in database.execute("PRAGMA table_info(records)")}
    assert "balance_fen" not in columns
    assert database.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == (b"\x01",)
    database.close()
