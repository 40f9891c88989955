"""A shift's totals from the journal: every entry in one figure, read once, in pieces."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardwallet import records
from hardwallet.records import RETAIL
from offline_sync import shift_totals as module
from offline_sync.journal import Rejected, SqliteJournal
from offline_sync.shift_totals import TotalsCursor, shift_totals, unfinished, unsynced
from pos_terminal.errors import JournalFailed
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from pos_terminal.shift import LISTED, Tally
from tests.offline_sync.factory import NOW, Card, Scheme, Terminal, journal_of

CNY = 0x0156


class Till:
    """A retail terminal's journal, and what happens at the till."""

    def __init__(self, folder: Path) -> None:
        self.scheme = Scheme()
        self.terminal: Terminal = self.scheme.terminal(1, 1, retail=True)
        self.other: Terminal = self.scheme.terminal(2, 2, retail=True)
        self.card: Card = self.scheme.card(7)
        self.path = folder / "journal.sqlite"
        self.journal: SqliteJournal = journal_of(self.terminal, self.path)
        self._number = 0

    def open(self, amount_fen: int, profile: int = RETAIL) -> Sale:
        self._number += 1
        sale = Sale(
            *(self._number.to_bytes(12, "big"), amount_fen, CNY, profile, self._number, NOW),
            SaleState.UNRESOLVED,
            self.card.number,
        )
        self.journal.open_sale(sale)
        return sale

    def end(self, sale: Sale, state: SaleState) -> None:
        self.journal.change_sale(sale.reference, state, "", NOW)

    def pay(self, sale: Sale, state: SaleState = SaleState.GRANTED) -> records.Record:
        record = self.scheme.payment(
            self.card, self.terminal, sale.amount_fen, reference=sale.reference, transaction=sale.transaction
        )
        self.journal.keep_payment(record, state, NOW)
        return record

    def receipt(self, amount_fen: int, at: Terminal | None = None) -> records.Record:
        """A refund's receipt, kept as a card gives it."""
        self._number += 1
        reference = (1).to_bytes(4, "big") + amount_fen.to_bytes(4, "big") + bytes(4)
        changes: dict[str, Any] = {"kind": records.REFUND, "transaction": self._number}
        record = self.scheme.payment(
            self.card, at or self.terminal, amount_fen, reference=reference, **changes
        )
        self.journal.keep_carried(record, NOW)
        return record

    def all(self) -> Any:
        return shift_totals(self.journal, 0, self.journal.head()[0])


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    made = Till(tmp_path)
    yield made
    made.journal.close()


def a_day(till: Till) -> None:
    """One of everything."""
    till.pay(till.open(1_000))
    till.pay(till.open(250))
    till.end(till.open(70), SaleState.DECLINED)
    late = till.open(300)
    till.end(late, SaleState.GIVEN_UP)
    till.pay(late, SaleState.PAID_NOT_GRANTED)
    given_back = till.open(400, REFUND_PROFILE)
    till.receipt(400)
    till.end(given_back, SaleState.GRANTED)
    refused = till.open(40, REFUND_PROFILE)
    till.end(refused, SaleState.DECLINED)
    till.journal.keep_carried(till.scheme.payment(till.card, till.other, 9_999), NOW)
    till.receipt(77, till.other)
    till.journal.keep_delivered(till.card.number, 5, 0x9000, NOW)


def test_every_thing_that_happens_is_in_its_figure(till: Till) -> None:
    a_day(till)
    totals = till.all()
    assert totals.granted == Tally(2, 1_250)
    assert totals.refunded == Tally(1, 400)
    assert totals.declined == Tally(2, 110)
    assert totals.given_up == Tally(1, 300)
    assert totals.paid_not_granted == Tally(1, 300)
    assert totals.carried == 2
    assert totals.damaged == 0
    assert totals.last == till.journal.head()[0]
    assert totals.net_fen == 850


def test_it_adds_up_to_what_the_journal_has(till: Till) -> None:
    """The journal counts payments to this terminal by itself, granted or not."""
    a_day(till)
    totals, waiting = till.all(), till.journal.waiting()
    assert totals.granted.amount_fen + totals.paid_not_granted.amount_fen == waiting.amount_fen
    assert totals.granted.count + totals.paid_not_granted.count == waiting.count
    assert totals.carried + totals.refunded.count == waiting.carried


@pytest.mark.parametrize("piece", [1, 2, 3, 500])
def test_a_cursor_reads_what_is_new_and_no_more(
    till: Till, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    cursor = TotalsCursor(till.journal, 0)
    read: list[int] = []
    entries = till.journal.entries

    def counting(first: int, limit: int) -> Any:
        found = entries(first, limit)
        assert len(found) <= piece
        read.extend(entry.index for entry in found)
        return found

    monkeypatch.setattr(till.journal, "entries", counting)
    for _ in range(3):
        a_day(till)
        cursor.totals()
    assert read == list(range(1, till.journal.head()[0] + 1))
    monkeypatch.undo()
    assert cursor.totals() == till.all()


def test_a_journal_that_fails_in_the_middle_is_read_on_from_there(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = till.open(300)
    begin = till.journal.head()[0]
    till.pay(till.open(1_000))
    till.end(late, SaleState.GIVEN_UP)  # its amount stands before the shift: the journal is asked for it
    cursor = TotalsCursor(till.journal, begin)

    def failing(_: bytes) -> Any:
        raise JournalFailed("a write did not reach the disk")

    with monkeypatch.context() as patch:
        patch.setattr(till.journal, "sale", failing)
        with pytest.raises(JournalFailed):
            cursor.totals()
    totals = cursor.totals()
    assert (totals.granted, totals.given_up) == (Tally(1, 1_000), Tally(1, 300))


def test_two_shifts_have_every_entry_once(till: Till) -> None:
    """Cut anywhere, also between a sale's opening and its end."""
    a_day(till)
    head, whole = till.journal.head()[0], till.all()
    for cut in range(head + 1):
        first, second = shift_totals(till.journal, 0, cut), shift_totals(till.journal, cut, head)
        assert (first.last, second.last) == (cut, head)
        for name in ("granted", "refunded", "declined", "given_up", "paid_not_granted"):
            one, other, both = (getattr(part, name) for part in (first, second, whole))
            assert Tally(one.count + other.count, one.amount_fen + other.amount_fen) == both
        assert first.carried + second.carried == whole.carried


def test_a_sale_that_goes_to_another_card_is_still_one(till: Till) -> None:
    sale = till.open(500)
    till.end(sale, SaleState.OPEN)
    till.journal.open_sale(sale)
    till.pay(sale)
    assert till.all().granted == Tally(1, 500)
    assert till.all().declined == Tally()


def test_damage_is_counted_and_hinders_nothing(till: Till) -> None:
    a_day(till)
    till.journal.close()
    with sqlite3.connect(till.path) as database:
        database.execute("DROP TRIGGER entries_are_never_changed")
        database.execute("UPDATE entries SET payload = x'00' WHERE idx = 2")
        database.execute("UPDATE entries SET payload = x'00' WHERE idx = 5")
    database.close()
    till.journal = journal_of(till.terminal, till.path)
    totals = till.all()
    assert totals.damaged == 2
    assert totals.granted == Tally(1, 250)
    assert totals.declined == Tally(2, 40)  # what the other one was about stood in its damaged opening
    assert [item.state for item in unsynced(till.journal).items].count("damaged") == 2


def test_what_waits_is_counted_and_listed(till: Till) -> None:
    a_day(till)
    waiting = unsynced(till.journal)
    assert waiting.payments == Tally(3, 1_550)
    assert waiting.carried == 3
    assert waiting.entries == till.journal.head()[0]
    assert [(item.kind, item.number, item.amount_fen, item.state) for item in waiting.items] == [
        ("payment", 1, 1_000, "queued"),
        ("payment", 2, 250, "queued"),
        ("payment", 4, 300, "queued"),
        ("refund", 6, 400, "queued"),
    ]


def test_what_clearing_has_is_not_listed(till: Till) -> None:
    first = till.open(1_000)
    till.pay(first)
    index, digest = till.journal.head()
    till.pay(till.open(250))
    third = till.journal.head()[0]
    till.journal.acknowledge(index, digest, [Rejected(third, "for a look")])
    waiting = unsynced(till.journal)
    assert waiting.payments == Tally(1, 250)
    assert [(item.amount_fen, item.state) for item in waiting.items] == [(250, "needs review")]
    till.journal.acknowledge(*till.journal.head())
    assert unsynced(till.journal).items == ()


def test_a_long_queue_is_counted_whole_and_listed_in_part(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LISTED", 3)
    monkeypatch.setattr(module, "PIECE", 2)
    for _ in range(5):
        till.pay(till.open(10))
    waiting = unsynced(till.journal)
    assert waiting.payments == Tally(5, 50)
    assert [item.number for item in waiting.items] == [1, 2, 3]
    assert LISTED == 200


def test_what_nobody_knows_yet(till: Till) -> None:
    sale, back = till.open(120), till.open(50, REFUND_PROFILE)
    assert [(one.number, one.amount_fen, one.kind) for one in unfinished(till.journal)] == [
        (sale.transaction, 120, "payment"),
        (back.transaction, 50, "refund"),
    ]
    till.pay(sale)
    till.end(back, SaleState.DECLINED)
    assert unfinished(till.journal) == []
