"""Gaps and what they moved, cards that contradict themselves, and cards that overspend."""

import pytest

from hardwallet.records import Record
from offline_sync.clearing import Clearing
from tests.offline_sync.factory import Card, Scheme, Terminal
from tests.offline_sync.test_clearing import Till, carried, open_clearing, own

LOADED_FEN = 5_000


class World:
    """A card that was loaded once, and a shop."""

    def __init__(self) -> None:
        self.scheme = Scheme(seed="suspense")
        self.card = self.scheme.card(7, balance_fen=0)
        self.shop: Terminal = self.scheme.terminal(1, 1, retail=True)
        self.load = self.scheme.load(self.card, LOADED_FEN)
        self.till = Till(self.shop, [self.card])
        self.clearing: Clearing = open_clearing(self.scheme)

    def pay(self, amount_fen: int, card: Card | None = None) -> Record:
        return self.scheme.payment(card or self.card, self.shop, amount_fen)

    def arrive(self, *records: Record) -> None:
        first = len(self.till.entries) + 1
        self.till.add(*(own(record) for record in records))
        self.clearing.accept(self.till.batch(first))

    def loaded(self) -> None:
        self.clearing.book_load(self.load.raw, self.card.raw_certificate)


@pytest.fixture
def world() -> World:
    return World()


def gaps(world: World) -> list[tuple[int, int, int]]:
    return [(line.first, line.last, line.amount_fen) for line in world.clearing.report().gaps]


def test_nothing_is_missing(world: World) -> None:
    world.loaded()
    world.arrive(world.pay(100), world.pay(200))
    report = world.clearing.report()
    assert (report.gaps, report.gaps_count, report.suspense_fen) == ([], 0, 0)
    assert (report.contradictions, report.overspent) == ([], [])


def test_a_gap_tells_its_amount_by_the_balances_around_it(world: World) -> None:
    """Payments 3 and 4, of 1.00 and 2.00, have not arrived."""
    one, two, three, four = (world.pay(fen) for fen in (50, 100, 200, 70))
    world.loaded()
    world.arrive(one, four)
    assert gaps(world) == [(3, 4, 300)]
    report = world.clearing.report()
    assert (report.gaps_count, report.suspense_fen) == (1, 300)
    world.arrive(three)
    assert gaps(world) == [(3, 3, 100)]
    world.arrive(two)
    assert gaps(world) == []


def test_the_load_at_the_beginning_is_missing(world: World) -> None:
    """A card begins with nothing: what it has was loaded. It does not wait in suspense."""
    world.arrive(world.pay(100))
    assert gaps(world) == [(1, 1, -LOADED_FEN)]
    assert world.clearing.report().suspense_fen == 0


def test_a_refund_beside_a_gap(world: World) -> None:
    """A refund raises the balance: what was before it is worked out the other way round."""
    world.loaded()
    one, _ = world.pay(400), world.pay(100)
    receipt = refund(world, one, 150)
    world.arrive(one)
    world.till.add(carried(receipt))
    world.clearing.accept(world.till.batch(2))
    assert gaps(world) == [(3, 3, 100)]


def refund(world: World, payment: Record, amount_fen: int) -> Record:
    """A receipt, with the balance that a card would name."""
    world.card.balance_fen += 2 * amount_fen
    reference = b"".join(n.to_bytes(4, "big") for n in (payment.sequence, amount_fen, 0))
    return world.scheme.payment(world.card, world.shop, amount_fen, kind=0xD3, reference=reference)


def test_records_that_contradict_each_other(world: World) -> None:
    """The second one begins with 10.00 more than the first one left."""
    world.loaded()
    first = world.pay(100)
    world.card.balance_fen += 1_000
    second = world.pay(200)
    world.arrive(first, second)
    report = world.clearing.report()
    assert [(line.sequence, line.amount_fen) for line in report.contradictions] == [(3, 1_000)]
    assert report.gaps == []


def test_a_first_record_that_begins_with_money(world: World) -> None:
    other = world.scheme.card(8, balance_fen=700)
    world.till.cards.append(other)
    world.arrive(world.pay(100, other))
    (line,) = world.clearing.report().contradictions
    assert (line.card, line.sequence, line.amount_fen) == (other.number.hex(), 1, 700)


def test_a_cloned_cards_records_are_no_further_news(world: World) -> None:
    world.loaded()
    one, two = world.pay(100), world.pay(200)
    copy = world.scheme.payment(world.card, world.shop, 300, sequence=2)
    world.arrive(one, two, copy)
    report = world.clearing.report()
    assert report.contradictions == []
    assert report.evidence_counts == {"clone": 1}


def test_a_card_that_pays_more_than_it_had(world: World) -> None:
    """Nothing is missing that could explain it: it was broken open."""
    world.loaded()
    world.card.balance_fen = 9_000
    world.arrive(world.pay(6_000))
    report = world.clearing.report()
    assert [(line.card, line.amount_fen) for line in report.overspent] == [(world.card.number.hex(), 1_000)]


@pytest.mark.parametrize("missing", ["load", "order"])
def test_what_is_missing_may_explain_an_account_below_zero(world: World, missing: str) -> None:
    if missing == "order":
        world.loaded()
        world.clearing.book_order(world.scheme.load_order(world.card, 2, 4_000))
        world.card.balance_fen += 4_000
    world.arrive(world.pay(6_000))
    report = world.clearing.report()
    assert report.overspent == []
    assert report.cards[0].balance_fen < 0
