"""The list of a till's sales: each kind of sale, filters, searches, damaged entries, and how much is read."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import history
from fleet.history import CHUNK, Row, Show, Walk, parse_search
from hardwallet.records import REFUND, RETAIL, Record
from offline_sync import chain
from offline_sync.chain import Entry
from offline_sync.journal import Rejected, SqliteJournal
from offline_sync.outbox import RowState
from pos_terminal.receipts import record_code
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from tests.offline_sync.factory import NOW, Card, Scheme, Terminal, journal_of


class Till:
    """A journal in which sales are kept as a tap would keep them."""

    def __init__(self, scheme: Scheme, journal: SqliteJournal, terminal: Terminal) -> None:
        self.scheme, self.journal, self.terminal = scheme, journal, terminal
        self.number = 100

    def opened(self, card: Card, amount_fen: int, profile: int = RETAIL, reference: bytes = b"") -> Sale:
        """The card is about to be asked."""
        self.number += 1
        reference = reference or b"sale" + self.number.to_bytes(8, "big")
        sale = Sale(reference, amount_fen, 0x0156, profile, self.number, NOW + self.number, card=card.number)
        self.journal.open_sale(sale)
        return sale

    def changed(self, sale: Sale, state: SaleState, reason: str = "") -> None:
        self.journal.change_sale(sale.reference, state, reason, NOW + self.number)

    def paid(self, card: Card, sale: Sale, state: SaleState = SaleState.GRANTED) -> Record:
        record = self.scheme.payment(
            card,
            self.terminal,
            sale.amount_fen,
            reference=sale.reference,
            transaction=sale.transaction,
            time_s=sale.time_s,
        )
        self.journal.keep_payment(record, state, sale.time_s)
        return record

    def sold(self, card: Card, amount_fen: int) -> Record:
        return self.paid(card, self.opened(card, amount_fen))

    def refunded(self, card: Card, record: Record, amount_fen: int) -> Record:
        """Order, receipt and end of a refund."""
        name = record.sequence.to_bytes(4, "big") + amount_fen.to_bytes(4, "big")
        sale = self.opened(card, amount_fen, REFUND_PROFILE, name + self.number.to_bytes(4, "big"))
        card.sequence += 1
        receipt = self.scheme.payment(
            *(card, self.terminal, amount_fen),
            kind=REFUND,
            reference=name + bytes(4),
            sequence=card.sequence,
        )
        self.journal.keep_carried(receipt, NOW)
        self.changed(sale, SaleState.GRANTED, "refunded")
        return receipt

    def listed(self, show: Show = Show.ALL, search: str = "", sending_to: int = 0) -> list[Row]:
        """All rows, as they come in pieces of two."""
        walk = Walk(self.journal, show, parse_search(search), sending_to)
        rows: list[Row] = []
        for _ in range(10_000):
            piece = walk.more(2, look_at=7)
            assert len(piece.rows) <= 2
            rows += piece.rows
            if piece.done:
                return rows
        raise AssertionError("the walk does not end")

    def amounts(self, show: Show = Show.ALL, search: str = "", sending_to: int = 0) -> list[int]:
        return [row.sale.amount_fen if row.sale else -1 for row in self.listed(show, search, sending_to)]


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture
def till(scheme: Scheme) -> Iterator[Till]:
    terminal = scheme.terminal(1, 1, retail=True)
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        journal_of(terminal, Path(folder) / "journal.sqlite") as journal,
    ):
        yield Till(scheme, journal, terminal)


def test_every_kind_of_sale_stands_once_newest_first(till: Till, scheme: Scheme) -> None:
    card = scheme.card(7)
    first = till.sold(card, 100)
    given_up = till.opened(card, 200)
    till.changed(given_up, SaleState.GIVEN_UP, "customer left")
    declined = till.opened(card, 300)
    till.changed(declined, SaleState.OPEN, "balance too low")
    till.changed(declined, SaleState.DECLINED, "ended")
    late = till.opened(card, 400)
    till.changed(late, SaleState.GIVEN_UP, "customer left")
    receipt = till.refunded(card, first, 50)
    till.paid(card, late, SaleState.PAID_NOT_GRANTED)
    till.opened(card, 500)

    rows = till.listed()
    assert [row.sale.amount_fen for row in rows if row.sale] == [500, 400, 50, 300, 200, 100]
    states = [row.sale.state for row in rows if row.sale]
    assert states == [
        SaleState.UNRESOLVED,
        SaleState.PAID_NOT_GRANTED,
        SaleState.GRANTED,
        SaleState.DECLINED,
        SaleState.GIVEN_UP,
        SaleState.GRANTED,
    ]
    assert [row.is_refund for row in rows] == [False, False, True, False, False, False]
    assert rows[2].record == receipt
    assert rows[4].sale is not None
    assert rows[4].sale.reason == "customer left"
    assert rows[5].refunded_fen == 50
    assert rows[5].record == first
    assert till.amounts(Show.UNFINISHED) == [500]
    assert till.amounts(Show.NOT_GRANTED) == [400]
    assert till.amounts(Show.GIVEN_UP) == [200]
    assert till.amounts(Show.NOT_PAID) == [300]
    assert till.amounts(Show.REFUNDS) == [50, 100]


def test_queue_states_are_those_of_the_newest_entry(till: Till, scheme: Scheme) -> None:
    card = scheme.card(8)
    till.sold(card, 100)
    refused = till.journal.head()[0]
    till.sold(card, 200)
    sent = till.journal.head()
    till.journal.acknowledge(*sent, [Rejected(refused, "a copy")])
    begun = till.opened(card, 300)  # acknowledged while it was not finished
    till.journal.acknowledge(*till.journal.head())
    till.paid(card, begun)
    sending_to = till.journal.head()[0]
    till.sold(card, 400)

    rows = {row.sale.amount_fen: row for row in till.listed(sending_to=sending_to) if row.sale}
    assert {amount: row.queue for amount, row in rows.items()} == {
        100: RowState.NEEDS_REVIEW,
        200: RowState.ACKNOWLEDGED,
        300: RowState.SENDING,
        400: RowState.QUEUED,
    }
    assert rows[100].rejection == "a copy"
    assert [rows[amount].unsynced for amount in (100, 200, 300, 400)] == [True, False, True, True]
    for show, amount in (
        (Show.REVIEW, 100),
        (Show.ACKNOWLEDGED, 200),
        (Show.SENDING, 300),
        (Show.QUEUED, 400),
    ):
        assert till.amounts(show, sending_to=sending_to) == [amount]


def test_search_by_number_code_card_and_amount(till: Till, scheme: Scheme) -> None:
    alice, bob = scheme.card(0x1234567890ABCDEF), scheme.card(0x2222)
    first = till.sold(alice, 1250)
    till.sold(bob, 9900)
    till.opened(bob, 1200)
    assert till.amounts(search="12.50") == [1250]
    assert till.amounts(search=" 12.5 ") == [1250]
    assert till.amounts(search="12") == [1200]
    assert till.amounts(search=str(first.transaction)) == [1250]
    assert till.amounts(search=record_code(first)) == [1250]
    assert till.amounts(search=record_code(first)[:4].lower()) == [1250]
    assert till.amounts(search="abcdef") == [1250]
    assert till.amounts(search="ABCD EF") == [1250]
    assert till.amounts(search="2222") == [1200, 9900]
    assert till.amounts(Show.UNFINISHED, "2222") == [1200]
    for nothing in ("退款", "!", "x" * 500, "1.234", "ef", "-1", "١٢"):
        assert till.amounts(search=nothing) == []


def test_nothing_typed_is_no_search() -> None:
    assert parse_search("") is None
    assert parse_search("  \t") is None


def test_damaged_entries_stand_in_the_list(till: Till, scheme: Scheme) -> None:
    card = scheme.card(9)
    till.sold(card, 100)
    till.sold(card, 200)
    broken = _Broken(till.journal, {2})
    rows = Walk(broken).more(10).rows
    assert [(row.index, row.queue) for row in rows if row.sale is None] == [(2, RowState.DAMAGED)]
    assert [row.queue for row in Walk(broken, Show.REVIEW).more(10).rows] == [RowState.DAMAGED]
    assert Walk(broken, Show.ALL, parse_search("2")).more(10).rows[0].sale is not None


class _Broken:
    """A journal of which some entries were altered."""

    def __init__(self, journal: SqliteJournal, damaged: set[int]) -> None:
        self._journal, self._damaged = journal, damaged
        self.head, self.acknowledged, self.needs_review = (
            journal.head,
            journal.acknowledged,
            journal.needs_review,
        )
        self.sale = journal.sale

    def entries(self, first: int, limit: int) -> list[Entry]:
        return [
            Entry(entry.index, entry.kind, entry.time_s, entry.payload, entry.hash, damaged=True)
            if entry.index in self._damaged
            else entry
            for entry in self._journal.entries(first, limit)
        ]


class _Endless:
    """A journal of many entries that are made when they are read."""

    def __init__(self, entries: int, kind: int, payload: bytes) -> None:
        self.last, self._kind, self._payload = entries, kind, payload
        self.read: list[int] = []
        self.sales = 0

    def head(self) -> tuple[int, bytes]:
        return self.last, bytes(32)

    def acknowledged(self) -> int:
        return 0

    def needs_review(self) -> list[Rejected]:
        return []

    def entries(self, first: int, limit: int) -> list[Entry]:
        self.read.append(limit)
        return [
            Entry(
                index,
                self._kind,
                NOW,
                index.to_bytes(12, "big") + self._payload[12:],
                bytes(32),
            )
            for index in range(first, min(first + limit - 1, self.last) + 1)
        ]

    def sale(self, reference: bytes) -> Sale | None:
        self.sales += 1
        return Sale(reference, 100, 0x0156, RETAIL, 1, NOW, SaleState.UNRESOLVED)


def test_a_long_journal_is_read_in_bounded_pieces() -> None:
    payload = chain.pack_opened(Sale(bytes(12), 100, 0x0156, RETAIL, 1, NOW, card=bytes(8)))
    journal = _Endless(1_000_000, chain.Kind.SALE_OPENED, payload)
    walk = Walk(journal)
    first = walk.more(50)
    assert (len(first.rows), first.done, first.entries) == (50, False, 1_000_000)
    assert sum(journal.read) == CHUNK
    assert journal.sales == CHUNK, "only what was read is looked up"
    second = walk.more(50)
    assert sum(journal.read) == CHUNK, "rows that were found already come first"
    assert second.rows[0].index == first.rows[-1].index - 1


def test_a_search_that_finds_nothing_looks_at_a_bounded_number_of_entries() -> None:
    payload = chain.pack_opened(Sale(bytes(12), 100, 0x0156, RETAIL, 1, NOW, card=bytes(8)))
    journal = _Endless(20_000, chain.Kind.SALE_OPENED, payload)
    walk = Walk(journal, Show.ALL, parse_search("77.77"))
    piece = walk.more(50)
    assert (piece.rows, piece.looked_at, piece.done) == ([], history.LOOK_AT, False)
    assert max(journal.read) == CHUNK
    while not piece.done:
        piece = walk.more(50)
    assert sum(journal.read) == 20_000
    assert journal.sales == 0, "what can't be meant is not looked up"
    assert len(walk._trails) == history.REMEMBERED


def test_an_empty_journal_has_no_rows(till: Till) -> None:
    piece = Walk(till.journal).more(50)
    assert (piece.rows, piece.done, piece.entries) == ([], True, 0)
