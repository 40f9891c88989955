"""The journal as the tap uses it: what it keeps, what it refuses, what it finds again."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offline_sync import chain, journal
from offline_sync.chain import Kind
from offline_sync.errors import JournalForeign, JournalLocked, JournalNewer
from offline_sync.journal import BLOCK, BLOCK_SECONDS, NUMBERS_BEGIN_S, Rejected, SqliteJournal
from pos_terminal.errors import (
    ClockWrong,
    JournalBusy,
    JournalDamaged,
    JournalFailed,
    JournalFull,
    NoSuchSale,
    ReferenceReused,
)
from pos_terminal.ports import CardCertificate, Journal
from pos_terminal.sale import Sale, SaleState
from tests.offline_sync.factory import NOW, SCHEME, Card, Scheme, Terminal, journal_of, resigned


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture
def card(scheme: Scheme) -> Card:
    return scheme.card(7)


@pytest.fixture
def terminal(scheme: Scheme) -> Terminal:
    return scheme.terminal(1, 1, retail=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def store(terminal: Terminal, path: Path) -> Iterator[SqliteJournal]:
    with journal_of(terminal, path) as opened:
        yield opened


def sale_of(card: Card, reference: bytes = b"reference-01", **changes: Any) -> Sale:
    return replace(Sale(reference, 1250, 0x0156, 2, 5, NOW, card=card.number), **changes)


def kinds(store: SqliteJournal) -> list[int]:
    return [entry.kind for entry in store.entries(1, 1_000)]


def test_it_is_the_port(store: SqliteJournal) -> None:
    port: Journal = store
    assert port.waiting().entries == 0


def test_durability_is_what_sqlite_says_it_is(store: SqliteJournal, path: Path) -> None:
    read = store._row
    assert read("PRAGMA journal_mode") == ("wal",)
    assert read("PRAGMA synchronous") == (2,)  # FULL
    assert read("PRAGMA locking_mode") == ("exclusive",)


class Lazy(sqlite3.Connection):
    """An SQLite that does not do what it is told about durability."""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return super().execute(sql.replace("synchronous = full", "synchronous = normal"), *values)


def test_a_store_that_cannot_be_made_durable_is_refused(terminal: Terminal, path: Path) -> None:
    def connect(*args: object, **options: object) -> sqlite3.Connection:
        return sqlite3.connect(*args, factory=Lazy, **options)  # type: ignore[call-overload,no-any-return]

    with pytest.raises(JournalFailed, match="cannot be made durable"):
        journal_of(terminal, path, connect=connect)


class TestTransactionNumbers:
    def test_blocks_do_not_overlap(self, store: SqliteJournal) -> None:
        blocks = [store.reserve_transactions(NOW) for _ in range(5)]
        numbers = [number for block in blocks for number in block]
        assert len(set(numbers)) == 5 * BLOCK

    def test_a_block_is_saved_before_it_is_given_out(self, terminal: Terminal, path: Path) -> None:
        with journal_of(terminal, path) as store:
            first = store.reserve_transactions(NOW)
        with journal_of(terminal, path) as store:
            assert store.reserve_transactions(NOW).start == first.stop

    def test_an_old_copy_put_back_repeats_none(self, terminal: Terminal, path: Path) -> None:
        with journal_of(terminal, path) as store:
            store.reserve_transactions(NOW)
        old = path.read_bytes()
        with journal_of(terminal, path) as store:
            given = [store.reserve_transactions(NOW + 60), store.reserve_transactions(NOW + 60)]
        path.write_bytes(old)
        with journal_of(terminal, path) as store:
            later = store.reserve_transactions(NOW + 60 + 3 * BLOCK_SECONDS)
        assert later.start >= given[-1].stop

    def test_a_clock_that_goes_back_changes_nothing(self, store: SqliteJournal) -> None:
        first = store.reserve_transactions(NOW)
        for earlier in (NOW - 86_400, 0, NUMBERS_BEGIN_S - 1):
            following = store.reserve_transactions(earlier)
            assert following.start == first.stop
            first = following

    def test_a_clock_in_2099_is_refused_and_uses_nothing_up(self, store: SqliteJournal) -> None:
        with pytest.raises(ClockWrong, match="future"):
            store.reserve_transactions(4_070_908_800)
        assert store.reserve_transactions(NOW).start == (NOW - NUMBERS_BEGIN_S) // BLOCK_SECONDS * BLOCK

    def test_numbers_begin_above_zero(self, store: SqliteJournal) -> None:
        assert store.reserve_transactions(0).start == 1


class TestSales:
    def test_an_opened_sale_is_unresolved(self, store: SqliteJournal, card: Card) -> None:
        store.open_sale(sale_of(card))
        kept = store.sale(b"reference-01")
        assert kept == sale_of(card, state=SaleState.UNRESOLVED)
        assert store.unresolved() == [kept]

    def test_unresolved_sales_survive_a_restart(self, terminal: Terminal, path: Path, card: Card) -> None:
        with journal_of(terminal, path) as store:
            store.open_sale(sale_of(card))
            store.open_sale(sale_of(card, b"reference-02", time_s=NOW - 5))
        with journal_of(terminal, path) as store:
            assert [sale.reference for sale in store.unresolved()] == [b"reference-02", b"reference-01"]

    def test_the_same_sale_and_card_again(self, store: SqliteJournal, card: Card) -> None:
        store.open_sale(sale_of(card))
        store.open_sale(sale_of(card, transaction=6))
        assert len(store.unresolved()) == 1

    @pytest.mark.parametrize("change", [{"amount_fen": 1251}, {"currency": 0x0840}, {"profile": 1}])
    def test_other_terms_under_a_reference_are_refused(
        self, store: SqliteJournal, card: Card, change: dict[str, Any]
    ) -> None:
        store.open_sale(sale_of(card))
        before = store.head()
        with pytest.raises(ReferenceReused):
            store.open_sale(sale_of(card, **change))
        assert store.head() == before

    def test_an_unresolved_sale_asks_no_other_card(
        self, store: SqliteJournal, card: Card, scheme: Scheme
    ) -> None:
        store.open_sale(sale_of(card))
        with pytest.raises(ReferenceReused):
            store.open_sale(sale_of(scheme.card(8)))

    @pytest.mark.parametrize("state", [SaleState.OPEN, SaleState.DECLINED])
    def test_a_sale_that_a_card_refused_may_ask_another(
        self, store: SqliteJournal, card: Card, scheme: Scheme, state: SaleState
    ) -> None:
        other = scheme.card(8)
        store.open_sale(sale_of(card))
        store.change_sale(b"reference-01", state, "not enough", NOW)
        assert store.unresolved() == []
        store.open_sale(sale_of(other))
        assert [sale.card for sale in store.unresolved()] == [other.number]

    @pytest.mark.parametrize("state", [SaleState.GIVEN_UP, SaleState.GRANTED, SaleState.PAID_NOT_GRANTED])
    def test_a_sale_that_has_ended_is_not_opened_again(
        self, store: SqliteJournal, card: Card, state: SaleState
    ) -> None:
        store.open_sale(sale_of(card))
        store.change_sale(b"reference-01", state, "", NOW)
        with pytest.raises(ReferenceReused):
            store.open_sale(sale_of(card))

    def test_a_change_is_kept_with_its_reason(self, store: SqliteJournal, card: Card) -> None:
        store.open_sale(sale_of(card))
        store.change_sale(b"reference-01", SaleState.GIVEN_UP, "paid in cash", NOW + 9)
        kept = store.sale(b"reference-01")
        assert kept is not None
        assert (kept.state, kept.reason) == (SaleState.GIVEN_UP, "paid in cash")
        assert store.unresolved() == []

    def test_a_change_of_no_sale_is_refused(self, store: SqliteJournal) -> None:
        with pytest.raises(NoSuchSale):
            store.change_sale(b"reference-01", SaleState.GIVEN_UP, "", NOW)
        assert store.sale(b"reference-01") is None


class TestPayments:
    def test_a_payment_makes_its_sale(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        record = scheme.payment(card, terminal, 380)
        store.keep_payment(record, SaleState.GRANTED, NOW)
        kept = store.sale(record.reference)
        assert kept is not None
        assert (kept.state, kept.amount_fen, kept.card) == (SaleState.GRANTED, 380, card.number)
        assert kept.sequence == record.sequence
        stored = store.payment(card.number, record.sequence)
        assert stored is not None
        assert (stored.record.raw, stored.own, stored.granted) == (record.raw, True, True)

    def test_a_payment_ends_the_sale_that_waited(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        store.open_sale(sale_of(card))
        record = scheme.payment(card, terminal, 1250, reference=b"reference-01")
        store.keep_payment(record, SaleState.GRANTED, NOW)
        assert store.unresolved() == []
        kept = store.sale(b"reference-01")
        assert kept is not None
        assert (kept.state, kept.sequence) == (SaleState.GRANTED, record.sequence)

    def test_a_payment_is_one_entry(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
        assert kinds(store) == [Kind.OWN_PAYMENT]

    def test_the_same_record_again_changes_nothing(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        record = scheme.payment(card, terminal)
        store.keep_payment(record, SaleState.GRANTED, NOW)
        before = store.head()
        store.keep_payment(record, SaleState.PAID_NOT_GRANTED, NOW + 1)
        store.keep_payment(resigned(card, record), SaleState.GRANTED, NOW + 1)
        store.keep_carried(record, NOW + 1)
        assert store.head() == before

    def test_another_record_with_its_number_is_kept_as_evidence(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        one = scheme.payment(card, terminal, sequence=1)
        other = scheme.payment(card, terminal, sequence=1)
        store.keep_payment(one, SaleState.GRANTED, NOW)
        store.keep_payment(other, SaleState.GRANTED, NOW)
        kept = {chain.record_in(entry.kind, entry.payload) for entry in store.entries(1, 10)}
        assert kept == {one.raw, other.raw}

    def test_a_carried_record_is_not_granted_and_may_become_own(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        record = scheme.payment(card, terminal)
        store.keep_carried(record, NOW)
        store.keep_carried(record, NOW)
        stored = store.payment(card.number, record.sequence)
        assert stored is not None
        assert (stored.own, stored.granted) == (False, False)
        store.keep_payment(record, SaleState.GRANTED, NOW)
        stored = store.payment(card.number, record.sequence)
        assert stored is not None
        assert (stored.own, stored.granted) == (True, True)
        assert kinds(store) == [Kind.CARRIED, Kind.OWN_PAYMENT]

    def test_a_payment_of_a_sale_given_up(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        store.open_sale(sale_of(card))
        store.change_sale(b"reference-01", SaleState.GIVEN_UP, "cash", NOW)
        record = scheme.payment(card, terminal, 1250, reference=b"reference-01")
        store.keep_payment(record, SaleState.PAID_NOT_GRANTED, NOW)
        kept = store.sale(b"reference-01")
        stored = store.payment(card.number, record.sequence)
        assert kept is not None
        assert kept.state is SaleState.PAID_NOT_GRANTED
        assert stored is not None
        assert not stored.granted

    def test_a_receipt_is_carried_like_a_payment(
        self, store: SqliteJournal, scheme: Scheme, card: Card
    ) -> None:
        receipt = scheme.load(card)
        store.keep_carried(receipt, NOW)
        stored = store.payment(card.number, receipt.sequence)
        assert stored is not None
        assert stored.record.raw == receipt.raw

    def test_a_delivered_order_is_kept_and_waits_to_be_sent(
        self, terminal: Terminal, path: Path, card: Card
    ) -> None:
        with journal_of(terminal, path) as store:
            store.keep_delivered(card.number, 7, 0x9000, NOW)
            assert store.waiting().entries == 1
        with journal_of(terminal, path) as store:
            (entry,) = store.entries(1, 10)
            assert (entry.kind, entry.time_s, entry.damaged) == (Kind.ORDER_DELIVERED, NOW, False)
            told = chain.parse_delivered(entry.payload)
            assert (told.card, told.number, told.status_word) == (card.number, 7, 0x9000)
            assert (store.waiting().count, store.waiting().carried) == (0, 0)
            assert store.verify_all().ok

    def test_what_is_kept_is_found_after_a_restart(
        self, terminal: Terminal, path: Path, scheme: Scheme, card: Card, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Below, at and above the step in which the index is written."""
        monkeypatch.setattr(journal, "INDEX_EVERY", 8)
        records = [scheme.payment(card, terminal) for _ in range(20)]
        with journal_of(terminal, path) as store:
            for record in records:
                store.keep_payment(record, SaleState.GRANTED, NOW)
            head = store.head()
        with journal_of(terminal, path) as store:
            assert store.head() == head
            for record in records:
                stored = store.payment(card.number, record.sequence)
                assert stored is not None
                assert stored.record.raw == record.raw
                assert stored.granted
                store.keep_payment(record, SaleState.GRANTED, NOW)
            assert store.head() == head
            assert store.verify_all().ok

    def test_a_time_that_no_entry_can_hold_is_refused(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        for time_s in (-1, 2**32):
            with pytest.raises(ClockWrong):
                store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, time_s)
        assert store.head()[0] == 0

    def test_the_newest_time(self, terminal: Terminal, path: Path, scheme: Scheme, card: Card) -> None:
        with journal_of(terminal, path) as store:
            assert store.last_time_s() == 0
            store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW + 7)
            assert store.last_time_s() == NOW + 7
        with journal_of(terminal, path) as store:
            assert store.last_time_s() == NOW + 7


class TestWaiting:
    def test_counts_and_sums_what_is_not_acknowledged(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        other = scheme.terminal(9, 9)
        for amount, time_s in ((100, NOW), (230, NOW + 1)):
            store.keep_payment(scheme.payment(card, terminal, amount), SaleState.GRANTED, time_s)
        store.keep_carried(scheme.payment(card, other, 999), NOW + 2)
        waiting = store.waiting()
        assert (waiting.count, waiting.amount_fen, waiting.carried, waiting.entries) == (2, 330, 1, 3)
        assert waiting.oldest_time_s == NOW
        store.acknowledge(1, store.hash_at(1))
        waiting = store.waiting()
        assert (waiting.count, waiting.amount_fen, waiting.oldest_time_s) == (1, 230, NOW + 1)
        store.acknowledge(*store.head())
        assert store.waiting().entries == 0
        assert store.waiting().oldest_time_s is None

    def test_it_is_the_same_after_a_restart(
        self, terminal: Terminal, path: Path, scheme: Scheme, card: Card, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "TAIL", 4)  # sums from below the verified tail
        with journal_of(terminal, path) as store:
            for amount in range(1, 12):
                store.keep_payment(scheme.payment(card, terminal, amount), SaleState.GRANTED, NOW)
            store.acknowledge(3, store.hash_at(3))
            waiting = store.waiting()
        assert waiting.amount_fen == sum(range(4, 12))
        with journal_of(terminal, path) as store:
            assert store.waiting() == waiting
            assert store.acknowledged() == 3

    def test_acknowledged_never_goes_back(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        for _ in range(3):
            store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
        store.acknowledge(3, store.hash_at(3))
        store.acknowledge(1, store.hash_at(1))
        assert store.acknowledged() == 3

    def test_rejected_rows_need_review_and_stay_listed(
        self, terminal: Terminal, path: Path, scheme: Scheme, card: Card
    ) -> None:
        with journal_of(terminal, path) as store:
            for _ in range(3):
                store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
            store.acknowledge(*store.head(), [Rejected(2, "signature: no")])
            store.acknowledge(*store.head(), [Rejected(2, "again")])
        with journal_of(terminal, path) as store:
            assert store.needs_review() == [Rejected(2, "signature: no")]
            assert store.entries(2, 1)[0].damaged is False


class TestLock:
    def test_an_acknowledgement_beyond_the_head_locks(
        self, terminal: Terminal, path: Path, scheme: Scheme, card: Card
    ) -> None:
        record = scheme.payment(card, terminal)
        with journal_of(terminal, path) as store:
            store.keep_payment(record, SaleState.GRANTED, NOW)
            with pytest.raises(JournalLocked, match="old copy"):
                store.acknowledge(5, bytes(32))
        with journal_of(terminal, path) as store:
            for refused in (
                store.require_space,
                lambda: store.reserve_transactions(NOW),
                lambda: store.open_sale(sale_of(card)),
            ):
                with pytest.raises(JournalLocked):
                    refused()
            assert store.acknowledged() == 0
            # What a card has already paid is kept, and what waits can be sent.
            store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
            assert [entry.index for entry in store.entries(1, 9)] == [1, 2]

    def test_another_entry_under_the_acknowledged_number_locks(
        self, store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
    ) -> None:
        store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
        with pytest.raises(JournalLocked):
            store.acknowledge(1, bytes(32))
        assert store.locked

    def test_entries_missing_below_what_was_acknowledged(
        self, terminal: Terminal, path: Path, scheme: Scheme, card: Card
    ) -> None:
        with journal_of(terminal, path) as store:
            for _ in range(4):
                store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
            store.acknowledge(*store.head())
        tamper(path, "DROP TRIGGER entries_are_never_deleted", "DELETE FROM entries WHERE idx > 2")
        with journal_of(terminal, path) as store, pytest.raises(JournalLocked, match="entries are missing"):
            store.require_space()


def tamper(path: Path, *statements: str) -> None:
    """Change the store behind the journal's back."""
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


class TestDamage:
    @pytest.fixture
    def records(self, terminal: Terminal, path: Path, scheme: Scheme, card: Card) -> list[bytes]:
        with journal_of(terminal, path) as store:
            for _ in range(6):
                store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
            return [entry.payload for entry in store.entries(1, 6)]

    @pytest.mark.parametrize(
        "column", ["kind = 4", "time_s = time_s + 1", "payload = zeroblob(161)", "payload = 'text'"]
    )
    def test_an_altered_row_is_quarantined_and_the_rest_works(
        self, terminal: Terminal, path: Path, records: list[bytes], column: str, scheme: Scheme, card: Card
    ) -> None:
        tamper(path, "DROP TRIGGER entries_are_never_changed", f"UPDATE entries SET {column} WHERE idx = 3")  # noqa: S608
        with journal_of(terminal, path) as store:
            assert store.quarantined() == [3]
            assert [entry.damaged for entry in store.entries(1, 6)] == [i == 3 for i in range(1, 7)]
            assert store.verify_all().damaged == [3]
            store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
            assert not store.entries(7, 1)[0].damaged
            assert store.locked is None

    def test_a_damaged_payment_is_not_held_any_more(
        self, terminal: Terminal, path: Path, scheme: Scheme, card: Card
    ) -> None:
        """The card comes back with it: it is kept anew, since the stored copy proves nothing."""
        record = scheme.payment(card, terminal)
        with journal_of(terminal, path) as store:
            store.keep_payment(record, SaleState.GRANTED, NOW)
        tamper(
            path,
            "DROP TRIGGER entries_are_never_changed",
            "UPDATE entries SET payload = zeroblob(161) WHERE idx = 1",
        )
        with journal_of(terminal, path) as store:
            assert store.payment(card.number, record.sequence) is None
            store.keep_payment(record, SaleState.GRANTED, NOW)
            stored = store.payment(card.number, record.sequence)
            assert stored is not None
            assert stored.record.raw == record.raw

    def test_a_damaged_entry_whose_record_is_whole_is_kept_anew(
        self, terminal: Terminal, path: Path, scheme: Scheme, card: Card
    ) -> None:
        """Its state could be the altered part."""
        record = scheme.payment(card, terminal)
        with journal_of(terminal, path) as store:
            store.keep_payment(record, SaleState.GRANTED, NOW)
        drop = "DROP TRIGGER entries_are_never_changed"
        tamper(path, drop, "UPDATE entries SET payload = x'06' || substr(payload, 2) WHERE idx = 1")
        with journal_of(terminal, path) as store:
            store.keep_payment(record, SaleState.GRANTED, NOW)
            assert store.head()[0] == 2
            stored = store.payment(card.number, record.sequence)
            assert stored is not None
            assert stored.granted

    def test_a_missing_row_is_told(self, terminal: Terminal, path: Path, records: list[bytes]) -> None:
        tamper(path, "DROP TRIGGER entries_are_never_deleted", "DELETE FROM entries WHERE idx = 3")
        with journal_of(terminal, path) as store:
            assert 3 in store.quarantined()
            assert 3 in store.verify_all().damaged
            assert [entry.index for entry in store.entries(1, 6)] == [1, 2, 3, 4, 5, 6]

    def test_missing_beginnings_lock(self, terminal: Terminal, path: Path, records: list[bytes]) -> None:
        tamper(path, "DROP TRIGGER entries_are_never_deleted", "DELETE FROM entries WHERE idx < 3")
        with journal_of(terminal, path) as store:
            assert store.locked is not None

    def test_wrong_sums_are_told(self, terminal: Terminal, path: Path, records: list[bytes]) -> None:
        tamper(path, "DROP TRIGGER entries_are_never_changed", "UPDATE entries SET own_fen = 1 WHERE idx = 3")
        with journal_of(terminal, path) as store:
            assert not store.verify_all().ok

    def test_a_lost_index_is_told(self, terminal: Terminal, path: Path, records: list[bytes]) -> None:
        tamper(path, "DELETE FROM payments WHERE sequence = 2")
        with journal_of(terminal, path) as store:
            assert "entry 2" in " ".join(store.verify_all().store)

    @pytest.mark.parametrize("key", ["next_transaction", "acknowledged", "indexed", "identity"])
    def test_damaged_bookkeeping_sells_nothing_and_sends_everything(
        self, terminal: Terminal, path: Path, records: list[bytes], key: str
    ) -> None:
        tamper(path, f"UPDATE meta SET value = zeroblob(length(value)) WHERE key = '{key}'")  # noqa: S608
        with journal_of(terminal, path) as store:
            with pytest.raises(JournalLocked, match="bookkeeping"):
                store.require_space()
            assert [entry.payload for entry in store.entries(1, 6)] == records

    def test_entries_can_neither_be_changed_nor_deleted(
        self, terminal: Terminal, path: Path, records: list[bytes]
    ) -> None:
        for statement in ("UPDATE entries SET kind = 1", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                tamper(path, statement)

    @pytest.mark.parametrize("content", [b"not a database at all" * 100, bytes(4096)])
    def test_what_is_no_journal_is_left_alone(self, terminal: Terminal, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(JournalDamaged):
            journal_of(terminal, path)
        assert path.read_bytes() == content

    def test_another_programs_database_is_left_alone(self, terminal: Terminal, path: Path) -> None:
        tamper(path, "CREATE TABLE other (x)")
        with pytest.raises(JournalDamaged, match="not a terminal's journal"):
            journal_of(terminal, path)


class TestOpening:
    def test_a_second_one_is_refused(self, store: SqliteJournal, terminal: Terminal, path: Path) -> None:
        with pytest.raises(JournalBusy, match="in use"):
            journal_of(terminal, path)

    def test_it_is_free_again_after_closing(self, terminal: Terminal, path: Path) -> None:
        journal_of(terminal, path).close()
        journal_of(terminal, path).close()

    def test_a_newer_format_is_refused(self, terminal: Terminal, path: Path) -> None:
        journal_of(terminal, path).close()
        tamper(path, "PRAGMA user_version = 2")
        with pytest.raises(JournalNewer, match="newer version"):
            journal_of(terminal, path)

    def test_another_terminals_journal_is_refused(self, terminal: Terminal, path: Path) -> None:
        journal_of(terminal, path).close()
        with pytest.raises(JournalForeign, match="another terminal"):
            SqliteJournal(path, scheme=SCHEME, payee=terminal.payee, terminal=b"\xff" * 4)

    def test_a_missing_folder_is_told(self, terminal: Terminal, tmp_path: Path) -> None:
        with pytest.raises(JournalFailed, match="cannot be opened"):
            journal_of(terminal, tmp_path / "none" / "journal.sqlite")

    def test_a_closed_one_refuses(self, terminal: Terminal, path: Path) -> None:
        store = journal_of(terminal, path)
        store.close()
        store.close()
        with pytest.raises(JournalFailed, match="closed"):
            store.head()


class TestSpace:
    def test_the_reserve_is_asked_for(self, terminal: Terminal, path: Path) -> None:
        free = [1_000]
        with journal_of(terminal, path, reserve_bytes=1_000, free=lambda _: free[0]) as store:
            store.require_space()
            free[0] = 999
            with pytest.raises(JournalFull, match="is full"):
                store.require_space()

    def test_a_disk_that_does_not_answer_is_no_space(self, terminal: Terminal, path: Path) -> None:
        def gone(_: Path) -> int:
            raise OSError(5, "Input/output error")

        with journal_of(terminal, path, free=gone) as store, pytest.raises(JournalFailed):
            store.require_space()


class TestCertificates:
    def test_they_are_kept(self, terminal: Terminal, path: Path) -> None:
        kept = CardCertificate(b"c" * 178, b"k" * 64)
        with journal_of(terminal, path) as store:
            store.keep_certificate(b"digest01", kept)
        with journal_of(terminal, path) as store:
            assert store.certificate(b"digest01") == kept
            assert store.certificate(b"digest02") is None

    def test_those_that_wait_stay_and_of_others_the_latest_used(
        self, terminal: Terminal, path: Path, scheme: Scheme
    ) -> None:
        cards = [scheme.card(number) for number in range(1, 7)]
        with journal_of(terminal, path, certificates_kept=3) as store:
            for card in cards:
                store.keep_certificate(card.digest, CardCertificate(card.raw_certificate, b""))
                store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
            store.certificate(cards[0].digest)
            store.acknowledge(4, store.hash_at(4))
            left = [store.certificate(card.digest) is not None for card in cards]
        assert left == [True, False, False, False, True, True]

    def test_those_that_wait_stay_though_others_were_used_later(
        self, terminal: Terminal, path: Path, scheme: Scheme
    ) -> None:
        cards = [scheme.card(number) for number in range(1, 7)]
        with journal_of(terminal, path, certificates_kept=3) as store:
            for card in cards:
                store.keep_certificate(card.digest, CardCertificate(card.raw_certificate, b""))
                store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
            for card in cards[:4]:
                store.certificate(card.digest)
            store.acknowledge(4, store.hash_at(4))
            left = [store.certificate(card.digest) is not None for card in cards]
        assert left[4:] == [True, True]
        assert sum(left[:4]) == 1


def test_taps_and_an_upload_at_once(
    store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
) -> None:
    """A thread sends while another sells: nothing is lost, and the chain holds."""
    records = [scheme.payment(card, terminal, 1) for _ in range(150)]
    done = threading.Event()

    def send() -> None:
        while not done.is_set() or store.waiting().entries:
            entries = store.entries(store.acknowledged() + 1, 7)
            if entries:
                store.acknowledge(entries[-1].index, entries[-1].hash)

    sender = threading.Thread(target=send)
    sender.start()
    for record in records:
        store.keep_payment(record, SaleState.GRANTED, NOW)
    done.set()
    sender.join()
    assert store.acknowledged() == 150
    assert store.verify_all().ok
