"""Shifts of a till that takes cards: what each has, what lies between them, what can not stop a close."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.shift_desk import ShiftDesk
from hardwallet import keys
from offline_sync.journal import SqliteJournal
from offline_sync.shift_totals import TotalsCursor
from pos_terminal.errors import ClockWrong, JournalFailed, ShiftFailed, ShiftNotOpen
from pos_terminal.refund import Refund, refund
from pos_terminal.sale import SaleState
from pos_terminal.shift import Tally
from pos_terminal.shift_store import ShiftBook
from pos_terminal.tap import Outcome
from pos_terminal.terminal import Terminal
from tests.pos_terminal.bench import PAY_KNOWN, Counter, Holder, Mill, hold, journal_of, make_mill
from tests.pos_terminal.conftest import MEMORY


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", 2)
        yield make_mill(tmp_path_factory.mktemp("scheme"))


class Till:
    """A shop with its book of shifts and a customer."""

    def __init__(self, mill: Mill, folder: Path) -> None:
        self.counter = Counter(mill, folder)
        self.shop: Terminal = self.counter.shop()
        self.holder: Holder = mill.holder()
        self.folder = folder
        self.book = ShiftBook(folder)
        self.desk = self.new_desk()

    def new_desk(self) -> ShiftDesk:
        return ShiftDesk(self.shop, journal_of(self.shop), self.book)

    def restart(self) -> None:
        """The program ends and starts again."""
        self.book.close_book()
        self.shop = self.counter.restart(self.shop)
        self.book = ShiftBook(self.folder)
        self.desk = self.new_desk()

    def sell(self, amount_fen: int) -> int:
        """A sale that is paid; the payment's sequence number."""
        result = hold(self.shop, self.holder, self.shop.new_sale(amount_fen))
        assert result.record is not None
        return result.record.sequence

    def tear(self, amount_fen: int) -> bytes:
        """A sale whose card leaves before its answer is known; its reference."""
        sale = self.shop.new_sale(amount_fen)
        assert hold(self.shop, self.holder, sale, tear=(PAY_KNOWN, "before")).outcome is Outcome.UNRESOLVED
        return sale.reference

    def give_back(self, sequence: int, amount_fen: int) -> None:
        self.holder.reader.present()
        link = self.holder.reader.wait_for_card(0)
        assert refund(self.shop, link, Refund(self.holder.number, sequence, amount_fen)).granted
        link.close()

    def close(self) -> None:
        self.book.close_book()
        self.counter.close()


@pytest.fixture
def till(mill: Mill) -> Iterator[Till]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        made = Till(mill, Path(folder))
        yield made
        made.close()


def test_a_day_at_the_till(till: Till) -> None:
    till.desk.open(20_000, "Li")
    sequence = till.sell(1_250)
    till.sell(700)
    till.give_back(sequence, 500)
    till.desk.cash_in(3_000, "change", "Li")
    till.desk.cash_out(1_000, "milk", "Li")
    x = till.desk.read()
    assert x.totals.granted == Tally(2, 1_950)
    assert x.totals.refunded == Tally(1, 500)
    assert x.expected_fen == 22_000
    assert x.unsynced.payments == Tally(2, 1_950)
    assert [item.kind for item in x.unsynced.items] == ["payment", "payment", "refund"]
    z = till.desk.close(22_000, "", "", "Wang")
    assert (z.totals, z.unsynced, z.difference_fen) == (x.totals, x.unsynced, 0)
    assert till.desk.current is None
    assert till.desk.past(3) == [z]
    assert till.desk.closed(1) == z


def test_a_shift_has_what_was_sold_in_it_and_what_lies_between_is_told(till: Till) -> None:
    till.sell(100)  # before the very first shift
    till.desk.open(0, "Li")
    till.sell(200)
    assert till.desk.close(0, "", "", "Li").totals.granted == Tally(1, 200)
    till.sell(300)
    till.sell(50)
    assert till.desk.open(0, "Li").outside == Tally(2, 350)
    till.sell(400)
    z = till.desk.close(0, "", "", "Li")
    assert z.totals.granted == Tally(1, 400)
    assert till.desk.open(0, "Li").outside == Tally()


def test_a_reading_costs_what_is_new(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """An X report late in a long day reads no entry that the one before has read."""
    begun: list[int] = []

    class Watched(TotalsCursor):
        def __init__(self, journal: SqliteJournal, first: int) -> None:
            begun.append(first)
            super().__init__(journal, first)

    monkeypatch.setattr("fleet.shift_desk.TotalsCursor", Watched)
    till.desk.open(0, "Li")
    for amount_fen in (100, 50):
        till.sell(amount_fen)
        till.desk.read()
    assert till.desk.close(0, "", "", "Li").totals.granted == Tally(2, 150)
    middle = journal_of(till.shop).head()[0]
    till.desk.open(0, "Li")
    till.sell(20)
    assert till.desk.read().totals.granted == Tally(1, 20)
    assert begun == [0, middle]


def test_it_goes_on_after_a_restart(till: Till) -> None:
    till.desk.open(500, "Li")
    till.sell(100)
    x = till.desk.read()
    till.restart()
    assert till.desk.read() == x
    till.sell(50)
    assert till.desk.close(500, "", "", "Li").totals.granted == Tally(2, 150)


def test_an_unfinished_sale_is_listed_and_closing_is_possible(till: Till) -> None:
    till.sell(10)  # card and till know each other
    till.desk.open(0, "Li")
    reference = till.tear(900)
    z = till.desk.close(0, "", "", "Li")
    assert [(sale.amount_fen, sale.kind, sale.card) for sale in z.unfinished] == [
        (900, "payment", till.holder.number.hex())
    ]
    assert z.totals.granted == Tally()
    till.desk.open(0, "Wang")
    till.shop.give_up(reference, "customer left")
    x = till.desk.read()
    assert x.totals.given_up == Tally(1, 900)
    assert x.unfinished == ()


def test_the_card_of_a_sale_that_was_given_up_comes_back(till: Till) -> None:
    till.sell(10)
    till.desk.open(0, "Li")
    sale = till.shop.new_sale(900)
    hold(till.shop, till.holder, sale, tear=(PAY_KNOWN, "after"))
    till.shop.give_up(sale.reference, "customer left")
    till.desk.close(0, "", "", "Li")
    till.desk.open(0, "Wang")
    till.sell(20)  # its card brings the payment along
    kept = till.shop.journal.sale(sale.reference)
    assert kept is not None
    assert kept.state is SaleState.PAID_NOT_GRANTED
    x = till.desk.read()
    assert (x.totals.granted, x.totals.paid_not_granted) == (Tally(1, 20), Tally(1, 900))


def test_no_shift_at_a_time_that_can_not_be_right(till: Till) -> None:
    till.sell(10)
    till.counter.time.now -= 86_400
    with pytest.raises(ClockWrong):
        till.desk.open(0, "Li")
    assert till.desk.current is None
    till.counter.time.now += 86_400
    till.desk.open(0, "Li")
    till.counter.time.now -= 86_400
    with pytest.raises(ClockWrong):
        till.desk.close(0, "", "", "Li")
    with pytest.raises(ClockWrong):
        till.desk.cash_in(1, "change", "Li")
    assert till.desk.read().letter == "X"
    till.counter.time.now += 86_400
    assert till.desk.close(0, "", "", "Li").closing is not None


def test_a_close_that_fails_can_be_repeated(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    till.desk.open(0, "Li")
    till.sell(10)

    def failing(*_: object) -> None:
        raise JournalFailed("a write did not reach the disk")

    with monkeypatch.context() as patch:
        patch.setattr(till.shop.journal, "waiting", failing)
        with pytest.raises(JournalFailed):
            till.desk.close(0, "", "", "Li")
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", lambda *_: 0)
        with pytest.raises(ShiftFailed, match="try again"):
            till.desk.close(0, "", "", "Li")
    till.sell(20)
    assert till.desk.close(0, "", "", "Li").totals.granted == Tally(2, 30)


def test_selling_only_in_shifts(till: Till) -> None:
    strict = ShiftDesk(till.shop, journal_of(till.shop), till.book, required=True)
    with pytest.raises(ShiftNotOpen, match="sells in shifts only"):
        strict.require_open()
    till.desk.require_open()
    strict.open(0, "Li")
    strict.require_open()


def test_nothing_is_read_without_a_shift(till: Till) -> None:
    with pytest.raises(ShiftNotOpen):
        till.desk.read()
    with pytest.raises(ShiftNotOpen):
        till.desk.close(0, "", "", "Li")
