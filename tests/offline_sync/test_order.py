"""Whatever the order, however often: the same ledger. Random histories, cut, repeated, shuffled."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardwallet.records import Owed, Record
from offline_sync.chain import Kind, pack_opened
from offline_sync.clearing import Clearing, Report
from offline_sync.errors import RecordRefused
from offline_sync.messages import Batch
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from tests.offline_sync.factory import NOW, Card, Scheme, Terminal
from tests.offline_sync.test_clearing import Item, Till, carried, changed, money, open_clearing, own

SCHEME = Scheme(seed="order")

Step = Callable[[Clearing], object]


class History:
    """What happened: two tills and a bus, torn and carried payments, a clone, sales given up, a sibling that
    granted, gaps, refunds, loads with what was owed, one of them cancelled. Each step is one arrival.
    """

    def __init__(self) -> None:
        self.cards = [SCHEME.card(number, balance_fen=0) for number in (1, 2, 3, 4)]
        self.shop = SCHEME.terminal(1, 1, retail=True)
        self.sibling = SCHEME.terminal(1, 2, retail=True)
        self.bus = SCHEME.terminal(2, 1)
        self.tills = [Till(terminal, self.cards) for terminal in (self.shop, self.sibling, self.bus)]
        self.loads = [(SCHEME.load(card, 20_000), card) for card in self.cards]
        self.orders: list[tuple[bytes, list[Owed]]] = []
        for card in self.cards[:3]:
            self._trade(card)
        clone = SCHEME.payment(self.cards[0], self.sibling, 5, sequence=2)
        self.tills[1].add(own(clone), carried(self.loads[2][0]))
        self._return(self.cards[3])
        self.steps = self._steps()

    def _trade(self, card: Card) -> None:
        shop, sibling, bus = self.tills
        shop.add(own(SCHEME.payment(card, self.shop, 1_250)))
        bus.add(own(SCHEME.payment(card, self.bus, 200)))
        torn = SCHEME.payment(card, self.sibling, 333)
        bus.add(carried(torn), own(SCHEME.payment(card, self.bus, 200)))
        sibling.add(changed(torn.reference, SaleState.GIVEN_UP))
        back = SCHEME.payment(card, self.shop, 77)
        bus.add(carried(back))
        shop.add(own(back, SaleState.PAID_NOT_GRANTED), changed(back.reference, SaleState.GRANTED))

    def _return(self, card: Card) -> None:
        """Four payments that were not granted: one is refunded in part and goes back with a load after one
        that was cancelled, one was granted by the sibling, one is granted after it went back, one is owed.
        """
        shop, sibling, bus = self.tills
        torn = [SCHEME.payment(card, self.shop, amount_fen) for amount_fen in (600, 700, 800, 900)]
        for payment in torn:
            bus.add(carried(payment))
            shop.add(changed(payment.reference, SaleState.GIVEN_UP))
        sibling.add(changed(torn[1].reference, SaleState.GRANTED), carried(torn[0]))
        order, receipt = refund(card, self.shop, torn[0], 100)
        shop.add(order)
        bus.add(carried(receipt))
        back = [owed(torn[0], 500), owed(torn[2], 800)]
        self.orders.append((SCHEME.load_order(card, 2, 1_300), back))
        self.loads.append((SCHEME.load(card, 0), card))
        self.orders.append((SCHEME.load_order(card, 3, 2_300), back))
        self.loads.append((SCHEME.load(card, 2_300), card))
        sibling.add(changed(torn[2].reference, SaleState.GRANTED))

    def _steps(self) -> list[Step]:
        shop, sibling, bus = self.tills
        batches = [shop.batch(1, 4), shop.batch(5, 11), shop.batch(12), sibling.batch(1, 2)]
        batches += [sibling.batch(3, 6), sibling.batch(7), bus.batch(1, 5), bus.batch(4, 13), bus.batch(14)]
        return [
            *(accepting(batch) for batch in batches),
            *(loading(load, card) for load, card in self.loads),
            *(ordering(order, back) for order, back in self.orders),
        ]


def accepting(batch: Batch) -> Step:
    """An upload arrives."""
    return lambda clearing: clearing.accept(batch)


def loading(load: Record, card: Card) -> Step:
    """A load receipt arrives."""
    return lambda clearing: clearing.book_load(load.raw, card.raw_certificate)


def ordering(order: bytes, back: list[Owed]) -> Step:
    """A load order arrives."""
    return lambda clearing: clearing.book_order(order, back)


def owed(payment: Record, amount_fen: int) -> Owed:
    """As clearing tells it."""
    return Owed(payment.sequence, sha256(payment.body).digest(), amount_fen)


def refund(card: Card, terminal: Terminal, payment: Record, amount_fen: int) -> tuple[Item, Record]:
    """A merchant's order and the card's receipt of it."""
    reference = b"".join(part.to_bytes(4, "big") for part in (payment.sequence, amount_fen, 900))
    sale = Sale(reference, amount_fen, 0x0156, REFUND_PROFILE, 900, NOW, card=card.number)
    receipt = SCHEME.payment(
        card, terminal, amount_fen, reference=reference[:8] + bytes(4), kind=0xD3, transaction=900
    )
    return (Kind.SALE_OPENED, pack_opened(sale)), receipt


HISTORY = History()
ALL = list(range(len(HISTORY.steps)))


def settle(clearing: Clearing, steps: list[int]) -> Report:
    """What is refused for now is handed over again at the end, as an issuer does with all of its orders."""
    later = []
    for step in steps:
        try:
            HISTORY.steps[step](clearing)
        except RecordRefused:
            later.append(step)
    if len(later) < len(steps) and set(steps) == set(ALL):
        for step in later:
            HISTORY.steps[step](clearing)
    report = clearing.report()
    clearing.close()
    return report


@pytest.fixture(scope="module")
def expected() -> Report:
    return settle(open_clearing(SCHEME), ALL)


def test_the_expected_ledger_is_what_was_paid(expected: Report) -> None:
    sums = expected.conservation
    assert sums.ok
    assert (sums.loads_fen, sums.returned_fen) == (80_000 + 2_300, 1_300)
    # Of the last card's payments the shop keeps only what the sibling granted; the 8.00 went back for good.
    assert sums.payees_fen == 3 * (1_250 + 200 + 200 + 77) + 5 + 700
    assert sums.owed_fen == 3 * 333 + 900
    assert sums.refunds_fen == 100
    assert [(line.card, line.amount_fen) for line in expected.losses] == [
        ((1).to_bytes(8, "big").hex(), 1_250)
    ]
    assert [line.amount_fen for line in expected.paid_not_granted] == [333, 333, 333, 600, 900]
    assert expected.evidence_counts == {"clone": 1, "granted-after-return": 1}
    assert expected.loads_without_order[0].counter == 1


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
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
    assert report.evidence_counts == expected.evidence_counts
    assert (report.owed, report.losses, report.gaps) == (expected.owed, expected.losses, expected.gaps)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(order=st.permutations(ALL), cut=st.integers(0, len(ALL)))
def test_the_books_balance_at_every_moment(order: list[int], cut: int) -> None:
    report = settle(open_clearing(SCHEME), list(order)[:cut])
    assert report.conservation.ok
