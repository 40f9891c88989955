"""Cloned cards: both payees are credited, the issuer bears what was paid twice; whoever comes first."""

import itertools

import pytest

from hardwallet.records import Record
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.clearing import Clearing
from offline_sync.messages import Batch
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from tests.offline_sync.factory import ISSUER, NOW, Scheme
from tests.offline_sync.test_clearing import (
    Item,
    Till,
    card_fen,
    carried,
    changed,
    money,
    open_clearing,
    own,
    payee_fen,
)

LOADED_FEN = 1_000


class World:
    """A card with 10.00, and three merchants."""

    def __init__(self) -> None:
        self.scheme = Scheme(seed="losses")
        self.card = self.scheme.card(7, balance_fen=0)
        self.terminals = [self.scheme.terminal(merchant, 1, retail=True) for merchant in (1, 2, 3)]
        self.load = self.scheme.load(self.card, LOADED_FEN)

    def pay(self, merchant: int, amount_fen: int, sequence: int) -> Record:
        return self.scheme.payment(self.card, self.terminals[merchant], amount_fen, sequence=sequence)

    def batch(self, merchant: int, *items: Item) -> Batch:
        return Till(self.terminals[merchant], [self.card]).add(*items).batch()

    def clearing(self, *, loaded: bool = True) -> Clearing:
        clearing = open_clearing(self.scheme)
        if loaded:
            self.book_load(clearing)
        return clearing

    def book_load(self, clearing: Clearing) -> None:
        clearing.book_load(self.load.raw, self.card.raw_certificate)


@pytest.fixture
def world() -> World:
    return World()


def books(clearing: Clearing, world: World) -> tuple[list[int], int, int]:
    """The merchants' balances, the card's, the issuer's losses."""
    report = clearing.report()
    assert report.conservation.ok, report.conservation
    payees = [payee_fen(report, terminal) for terminal in world.terminals]
    return payees, card_fen(report, world.card), report.conservation.losses_fen


def arrangements(world: World, batches: list[Batch], expected: tuple[list[int], int, int]) -> None:
    """Every order of arrival of these uploads and of the load gives these books."""
    seen = []
    for order in itertools.permutations(range(len(batches) + 1)):
        clearing = world.clearing(loaded=False)
        for place in order:
            if place == len(batches):
                world.book_load(clearing)
            else:
                clearing.accept(batches[place])
        assert books(clearing, world) == expected, order
        seen.append(money(clearing.report()))
        clearing.close()
    assert all(one == seen[0] for one in seen)


def test_the_second_body_is_the_issuers_loss(world: World) -> None:
    """3.00 and 2.00 under one number: both are credited, the card pays 2.00."""
    batches = [world.batch(0, own(world.pay(0, 300, 2))), world.batch(1, own(world.pay(1, 200, 2)))]
    arrangements(world, batches, ([300, 200, 0], LOADED_FEN - 200, 300))


def test_three_bodies(world: World) -> None:
    """All but the least."""
    amounts = (300, 200, 250)
    batches = [world.batch(place, own(world.pay(place, fen, 2))) for place, fen in enumerate(amounts)]
    arrangements(world, batches, ([300, 200, 250], LOADED_FEN - 200, 550))


def test_both_bodies_in_one_upload(world: World) -> None:
    clearing = world.clearing()
    clearing.accept(world.batch(0, own(world.pay(0, 300, 2)), carried(world.pay(1, 200, 2))))
    assert books(clearing, world) == ([300, 200, 0], LOADED_FEN - 200, 300)


def test_a_load_among_the_bodies(world: World) -> None:
    """The card was loaded under a number under which its copy paid: the whole payment is lost."""
    second = world.scheme.load(world.card, 500)
    assert second.sequence == 2
    payment = world.pay(0, 300, 2)
    for load_first in (True, False):
        clearing = world.clearing()
        steps = [
            lambda c: c.book_load(second.raw, world.card.raw_certificate),
            lambda c: c.accept(world.batch(0, own(payment))),
        ]
        for step in steps if load_first else reversed(steps):
            step(clearing)
        assert books(clearing, world) == ([300, 0, 0], LOADED_FEN + 500, 300)
        clearing.close()


def test_more_than_the_card_had(world: World) -> None:
    """The two went on under numbers of their own, beyond the 10.00: the rest is lost too."""
    batches = [
        world.batch(0, own(world.pay(0, 300, 2)), own(world.pay(0, 600, 3))),
        world.batch(1, own(world.pay(1, 200, 2))),
        world.batch(2, own(world.pay(2, 400, 4))),
    ]
    # 10.00 − 3.00 − 2.00 − 6.00 − 4.00 + 3.00 of excess leaves 2.00 to bear.
    arrangements(world, batches, ([900, 200, 400], 0, 500))


def test_a_card_that_is_no_clone_bears_itself(world: World) -> None:
    """It may pay before its load arrives; a loss is only proven by two bodies."""
    clearing = world.clearing(loaded=False)
    clearing.accept(world.batch(0, own(world.pay(0, 300, 2))))
    assert books(clearing, world) == ([300, 0, 0], -300, 0)
    assert clearing.report().losses == []


def test_a_load_that_comes_late_takes_the_loss_back(world: World) -> None:
    clearing = world.clearing(loaded=False)
    for merchant, amount_fen in enumerate((300, 200)):
        clearing.accept(world.batch(merchant, own(world.pay(merchant, amount_fen, 2))))
    assert books(clearing, world) == ([300, 200, 0], 0, 500)
    world.book_load(clearing)
    assert books(clearing, world) == ([300, 200, 0], LOADED_FEN - 200, 300)
    assert [(line.card, line.amount_fen) for line in clearing.report().losses] == [
        (world.card.number.hex(), 300)
    ]


def test_what_went_back_was_not_lost(world: World) -> None:
    """One body was never granted and returns to the card: with the other, only one was paid."""
    torn = world.pay(0, 300, 2)
    batches = [
        world.batch(0, own(torn, SaleState.PAID_NOT_GRANTED)),
        world.batch(1, own(world.pay(1, 200, 2))),
    ]
    # The card keeps 10.00 − 3.00 − 2.00, is owed 3.00 back, and gets the 2.00 of the one that might be false.
    arrangements(world, batches, ([0, 200, 0], LOADED_FEN - 300, 200))


def test_what_was_refunded_was_not_lost(world: World) -> None:
    payment = world.pay(0, 300, 2)
    reference = b"".join(part.to_bytes(4, "big") for part in (2, 300, 50))
    sale = Sale(reference, 300, 0x0156, REFUND_PROFILE, 50, NOW, card=world.card.number)
    receipt = world.scheme.payment(
        *(world.card, world.terminals[0], 300),
        reference=reference[:8] + bytes(4),
        kind=0xD3,
        transaction=50,
        sequence=3,
    )
    refund = [(Kind.SALE_OPENED, chain.pack_opened(sale)), carried(receipt)]
    batches = [world.batch(0, own(payment), *refund), world.batch(1, own(world.pay(1, 200, 2)))]
    arrangements(world, batches, ([0, 200, 0], LOADED_FEN, 200))


def test_a_sale_given_up_late(world: World) -> None:
    """The state comes after both bodies: the loss shrinks with what goes back."""
    torn = world.pay(0, 300, 2)
    clearing = world.clearing()
    clearing.accept(world.batch(1, own(world.pay(1, 200, 2)), carried(torn)))
    assert books(clearing, world) == ([300, 200, 0], LOADED_FEN - 200, 300)
    clearing.accept(world.batch(0, changed(torn.reference, SaleState.GIVEN_UP)))
    assert books(clearing, world) == ([0, 200, 0], LOADED_FEN - 300, 200)


def test_the_issuer_of_the_card_bears_it(world: World) -> None:
    clearing = world.clearing()
    for merchant, amount_fen in enumerate((300, 200)):
        clearing.accept(world.batch(merchant, own(world.pay(merchant, amount_fen, 2))))
    with clearing._ledger.read() as connection:
        rows = connection.exec_driver_sql("SELECT owner, balance_fen FROM accounts WHERE kind = 4").all()
    assert [(bytes(owner), fen) for owner, fen in rows] == [(ISSUER + bytes(4), -300)]


def test_clones_are_known_to_books_that_are_opened_again(world: World, tmp_path: object) -> None:
    """Another process may have found them: each batch asks."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    one, other = open_clearing(world.scheme, url), open_clearing(world.scheme, url)
    world.book_load(one)
    other.accept(world.batch(0, own(world.pay(0, 300, 2))))
    one.accept(world.batch(1, own(world.pay(1, 200, 2))))
    other.accept(world.batch(2, own(world.pay(2, 100, 2))))
    assert books(one, world) == books(other, world) == ([300, 200, 100], LOADED_FEN - 100, 500)
    one.close()
    other.close()


def test_the_report_notices_a_loss_that_is_not_due(world: World) -> None:
    clearing = world.clearing()
    for merchant, amount_fen in enumerate((300, 200)):
        clearing.accept(world.batch(merchant, own(world.pay(merchant, amount_fen, 2))))
    with clearing._ledger.write() as connection:
        connection.exec_driver_sql("UPDATE records SET amount_fen = 250 WHERE amount_fen = 300")
    assert not clearing.report().conservation.ok
