"""What the journal does not look up while a card waits comes out as if it had: same payments, same sales."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offline_sync import journal
from offline_sync.journal import SqliteJournal
from pos_terminal.sale import Sale, SaleState
from tests.offline_sync.factory import NOW, Card, Scheme, Terminal, journal_of

REFERENCE = b"reference-01"

Write = Callable[[], None]


@pytest.fixture
def scheme() -> Scheme:
    return Scheme(seed="shortcuts")


@pytest.fixture
def card(scheme: Scheme) -> Card:
    return scheme.card(7)


@pytest.fixture
def terminal(scheme: Scheme) -> Terminal:
    return scheme.terminal(1, 1, retail=True)


@pytest.fixture
def store(terminal: Terminal, tmp_path: Path) -> Iterator[SqliteJournal]:
    with journal_of(terminal, tmp_path / "journal.sqlite") as opened:
        yield opened


@pytest.fixture
def write_index(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> Write:
    """Keeps one more payment, with which everything kept so far is indexed."""

    def write() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(journal, "CHECKPOINT_EVERY", 1)
            patch.setattr(journal, "INDEX_EVERY", 1)
            other = scheme.card(int.from_bytes(scheme.entropy(4), "big"))
            store.keep_payment(scheme.payment(other, terminal), SaleState.GRANTED, NOW)
        assert not store._new_sales

    return write


@pytest.mark.parametrize("indexed_between", [False, True])
def test_a_fresh_payment_is_kept_once(
    indexed_between: bool,
    store: SqliteJournal,
    scheme: Scheme,
    card: Card,
    terminal: Terminal,
    write_index: Write,
) -> None:
    number = store.reserve_transactions(NOW)[0]
    record = scheme.payment(card, terminal, transaction=number)
    store.keep_payment(record, SaleState.GRANTED, NOW)
    if indexed_between:
        write_index()
    count = store.waiting().count
    store.keep_payment(record, SaleState.GRANTED, NOW)
    store.reserve_transactions(NOW)
    store.keep_payment(record, SaleState.GRANTED, NOW)
    assert store.waiting().count == count


def test_two_bodies_with_one_fresh_number_are_both_kept(
    store: SqliteJournal, scheme: Scheme, card: Card, terminal: Terminal
) -> None:
    number = store.reserve_transactions(NOW)[0]
    for _ in range(2):
        record = scheme.payment(card, terminal, transaction=number, sequence=5)
        store.keep_payment(record, SaleState.GRANTED, NOW)
        store.keep_payment(record, SaleState.GRANTED, NOW)
    assert store.waiting().count == 2


@pytest.mark.parametrize("indexed_before", [False, True])
@pytest.mark.parametrize("indexed_after", [False, True])
def test_a_payment_finds_its_sale(
    indexed_before: bool,
    indexed_after: bool,
    store: SqliteJournal,
    scheme: Scheme,
    card: Card,
    terminal: Terminal,
    write_index: Write,
) -> None:
    store.open_sale(Sale(REFERENCE, 1250, 0x0156, 2, 5, NOW, card=card.number))
    if indexed_before:
        write_index()
    paid = scheme.payment(card, terminal, 1250, reference=REFERENCE, transaction=5)
    store.keep_payment(paid, SaleState.GRANTED, NOW)
    if indexed_after:
        write_index()
    sale = store.sale(REFERENCE)
    assert sale is not None
    assert (sale.state, sale.transaction, sale.sequence) == (SaleState.GRANTED, 5, paid.sequence)
    assert store.unresolved() == []
    assert store.verify_all().ok


@pytest.mark.parametrize("indexed_before", [False, True])
@pytest.mark.parametrize("indexed_after", [False, True])
def test_the_first_payment_of_a_sale_stays_its_payment(
    indexed_before: bool,
    indexed_after: bool,
    store: SqliteJournal,
    scheme: Scheme,
    card: Card,
    terminal: Terminal,
    write_index: Write,
) -> None:
    first, second = (scheme.payment(card, terminal, reference=REFERENCE) for _ in range(2))
    store.keep_payment(first, SaleState.GRANTED, NOW)
    store.change_sale(REFERENCE, SaleState.GIVEN_UP, "the customer left", NOW)
    if indexed_before:
        write_index()
    store.keep_payment(second, SaleState.GRANTED, NOW)
    if indexed_after:
        write_index()
    sale = store.sale(REFERENCE)
    assert sale is not None
    assert (sale.state, sale.reason, sale.sequence) == (
        SaleState.GIVEN_UP,
        "the customer left",
        first.sequence,
    )
