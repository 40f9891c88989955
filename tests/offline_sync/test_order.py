"""Whatever the order, however often: the same ledger. Random histories, cut, repeated, shuffled."""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardwallet.records import Record
from offline_sync.clearing import Clearing, Report
from offline_sync.messages import Batch
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import Card, Scheme
from tests.offline_sync.test_clearing import Till, carried, changed, money, open_clearing, own

SCHEME = Scheme(seed="order")


@dataclass
class History:
    """What happened: uploads, in the order in which they were made, and load receipts."""

    batches: list[Batch]
    receipts: list[tuple[Record, Card]]


def history() -> History:
    """Two tills and a bus, three cards, torn and carried payments, a clone, a sale given up, gaps, a fork."""
    cards = [SCHEME.card(number) for number in (1, 2, 3)]
    terminals = [
        SCHEME.terminal(1, 1, retail=True),
        SCHEME.terminal(1, 2, retail=True),
        SCHEME.terminal(2, 1),
    ]
    tills = [Till(terminal, cards) for terminal in terminals]
    shop, sibling, bus = tills
    receipts = [(SCHEME.load(card, 20_000), card) for card in cards]
    for card in cards:
        shop.add(own(SCHEME.payment(card, shop.terminal, 1_250)))
        bus.add(own(SCHEME.payment(card, bus.terminal, 200)))
        torn = SCHEME.payment(card, sibling.terminal, 333)
        bus.add(carried(torn), own(SCHEME.payment(card, bus.terminal, 200)))
        sibling.add(changed(torn.reference, SaleState.GIVEN_UP))
        back = SCHEME.payment(card, shop.terminal, 77)
        bus.add(carried(back))
        shop.add(own(back, SaleState.PAID_NOT_GRANTED), changed(back.reference, SaleState.GRANTED))
    clone = SCHEME.payment(cards[0], sibling.terminal, 5, sequence=2)
    sibling.add(own(clone), carried(receipts[2][0]))
    batches = [shop.batch(1, 4), shop.batch(5), sibling.batch(1, 2), sibling.batch(3)]
    batches += [bus.batch(1, 5), bus.batch(4, 9), bus.batch(10)]
    return History(batches, receipts)


HISTORY = history()


def settle(clearing: Clearing, steps: list[int]) -> Report:
    """Steps below 0 hand over a load receipt, others an upload."""
    for step in steps:
        if step < 0:
            record, card = HISTORY.receipts[-step - 1]
            clearing.book_load(record.raw, card.raw_certificate)
        else:
            clearing.accept(HISTORY.batches[step])
    report = clearing.report()
    clearing.close()
    return report


ALL = [*range(len(HISTORY.batches)), *(-n - 1 for n in range(len(HISTORY.receipts)))]


@pytest.fixture(scope="module")
def expected() -> Report:
    return settle(open_clearing(SCHEME), ALL)


def test_the_expected_ledger_is_what_was_paid(expected: Report) -> None:
    assert expected.conservation.ok
    assert expected.conservation.loads_fen == 60_000
    assert expected.conservation.payees_fen == 3 * (1_250 + 200 + 200 + 77) + 5
    assert expected.conservation.owed_fen == 3 * 333
    assert [(line.card, line.amount_fen) for line in expected.losses] == [
        ((1).to_bytes(8, "big").hex(), 1_250)
    ]
    assert [line.amount_fen for line in expected.paid_not_granted] == [333] * 3
    assert [line.kind for line in expected.evidence] == ["clone"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(order=st.permutations(ALL), again=st.lists(st.sampled_from(ALL), max_size=6), data=st.data())
def test_every_order_with_repeats_gives_the_same_ledger(
    expected: Report, order: list[int], again: list[int], data: st.DataObject
) -> None:
    steps = list(order)
    for step in again:
        steps.insert(data.draw(st.integers(0, len(steps))), step)
    report = settle(open_clearing(SCHEME), steps)
    assert money(report) == money(expected)
    assert report.payments == expected.payments
    assert [(line.payee, line.terminal, line.gaps) for line in report.terminals] == [
        (line.payee, line.terminal, line.gaps) for line in expected.terminals
    ]
    assert {line.kind for line in report.evidence} == {"clone"}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(order=st.permutations(ALL), cut=st.integers(0, len(ALL)))
def test_the_books_balance_at_every_moment(order: list[int], cut: int) -> None:
    report = settle(open_clearing(SCHEME), list(order)[:cut])
    assert report.conservation.ok
