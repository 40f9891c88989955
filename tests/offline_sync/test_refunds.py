"""Refunds in the books: they need the card's receipt and the merchant's order, however they arrive."""

import itertools

import pytest

from hardwallet import records
from hardwallet.records import Record
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.clearing import Clearing
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from tests.offline_sync.factory import NOW, Card, Scheme, Terminal
from tests.offline_sync.test_clearing import (
    Item,
    Till,
    card_fen,
    carried,
    money,
    open_clearing,
    own,
    payee_fen,
)

LOADED_FEN = 20_000
PAID_FEN = 1_250


class World:
    """A card that paid a shop, whose other till refunds; a bus that carries."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.card = scheme.card(7)
        self.shop = scheme.terminal(1, 1, retail=True)
        self.bus = scheme.terminal(2, 1)
        self.load = scheme.load(self.card, LOADED_FEN)
        self.payment = scheme.payment(self.card, self.shop, PAID_FEN)

    def receipt(self, amount_fen: int, total_fen: int, transaction: int = 50) -> Record:
        """A refund receipt as the card signs it."""
        reference = self.payment.sequence.to_bytes(4, "big") + total_fen.to_bytes(4, "big") + bytes(4)
        return self.scheme.payment(
            self.card,
            self.shop,
            amount_fen,
            reference=reference,
            kind=records.REFUND,
            transaction=transaction,
        )

    def order(self, total_fen: int, transaction: int = 50, card: Card | None = None) -> Item:
        """The order in the shop's journal."""
        parts = (self.payment.sequence, total_fen, transaction)
        reference = b"".join(part.to_bytes(4, "big") for part in parts)
        number = (card or self.card).number
        sale = Sale(reference, total_fen, 0x0156, REFUND_PROFILE, transaction, NOW, card=number)
        return Kind.SALE_OPENED, chain.pack_opened(sale)

    def opened(self) -> Clearing:
        """A clearing that knows the load."""
        clearing = open_clearing(self.scheme)
        clearing.book_load(self.load.raw, self.card.raw_certificate)
        return clearing

    def till(self, terminal: Terminal, *items: Item) -> Till:
        return Till(terminal, [self.card]).add(*items)


@pytest.fixture
def world() -> World:
    return World(Scheme())


def balances(clearing: Clearing, world: World) -> tuple[int, int]:
    report = clearing.report()
    assert report.conservation.ok
    return payee_fen(report, world.shop), card_fen(report, world.card)


def test_order_and_receipt_give_back(world: World) -> None:
    """The merchant is debited, the card's account credited."""
    clearing = world.opened()
    items = [own(world.payment), world.order(500), carried(world.receipt(500, 500))]
    assert clearing.accept(world.till(world.shop, *items).batch()).rejections == []
    assert balances(clearing, world) == (750, 19_250)
    report = clearing.report()
    assert (report.refunds, report.conservation.refunds_fen, report.suspended_refunds) == (1, 500, [])


def test_any_order_of_arrival_gives_the_same_books(world: World) -> None:
    """The receipt by way of the bus, the order from the till, the payment: however they come."""
    receipt = world.receipt(500, 500)
    shop = world.till(world.shop, world.order(500), own(world.payment))
    bus = world.till(world.bus, carried(receipt))
    batches = [shop.batch(1, 1), shop.batch(2, 2), bus.batch()]
    seen = []
    for arrangement in itertools.permutations(batches):
        clearing = world.opened()
        for batch in (*arrangement, *arrangement):
            clearing.accept(batch)
        assert balances(clearing, world) == (750, 19_250)
        seen.append(money(clearing.report()))
    assert all(one == seen[0] for one in seen)


def test_a_receipt_that_nobody_ordered_moves_nothing(world: World) -> None:
    """A card cannot take money from a merchant by its own signature."""
    clearing = world.opened()
    clearing.accept(world.till(world.shop, own(world.payment)).batch())
    clearing.accept(world.till(world.bus, carried(world.receipt(500, 500))).batch())
    assert balances(clearing, world) == (PAID_FEN, 18_750)
    assert [line.amount_fen for line in clearing.report().suspended_refunds] == [500]


def test_an_order_without_a_receipt_moves_nothing(world: World) -> None:
    """The card may never have got it."""
    clearing = world.opened()
    clearing.accept(world.till(world.shop, own(world.payment), world.order(500)).batch())
    assert balances(clearing, world) == (PAID_FEN, 18_750)


@pytest.mark.parametrize("order", ["total", "card"])
def test_an_order_for_something_else_moves_nothing(world: World, order: str) -> None:
    """The receipt has to be what was ordered."""
    other = world.scheme.card(8)
    item = world.order(400) if order == "total" else world.order(500, card=other)
    clearing = world.opened()
    clearing.accept(
        world.till(world.shop, own(world.payment), item, carried(world.receipt(500, 500))).batch()
    )
    assert balances(clearing, world) == (PAID_FEN, 18_750)
    if order == "total":
        assert [line.kind for line in clearing.report().evidence] == ["refund"]


def test_a_sale_of_goods_is_no_order(world: World) -> None:
    """Though its reference and transaction number are those that an order would bear."""
    kind, payload = world.order(500)
    sale = kind, payload[:18] + bytes([2]) + payload[19:]
    clearing = world.opened()
    clearing.accept(
        world.till(world.shop, own(world.payment), sale, carried(world.receipt(500, 500))).batch()
    )
    assert balances(clearing, world) == (PAID_FEN, 18_750)
    assert [line.amount_fen for line in clearing.report().suspended_refunds] == [500]


def test_another_terminals_order_is_no_order(world: World) -> None:
    """The bus cannot order a refund in the shop's name."""
    clearing = world.opened()
    clearing.accept(world.till(world.shop, own(world.payment)).batch())
    clearing.accept(world.till(world.bus, world.order(500), carried(world.receipt(500, 500))).batch())
    assert balances(clearing, world) == (PAID_FEN, 18_750)


def test_one_order_pays_once(world: World) -> None:
    """A copied card brings a second receipt for it: noted, not booked."""
    first, second = world.receipt(500, 500), world.receipt(500, 500)
    assert first.sequence != second.sequence
    clearing = world.opened()
    items = [own(world.payment), world.order(500), carried(first), carried(second)]
    clearing.accept(world.till(world.shop, *items).batch())
    assert balances(clearing, world) == (750, 19_250)
    assert "a second receipt for one refund order" in [line.detail for line in clearing.report().evidence]


def test_two_refunds_of_one_payment_add_up(world: World) -> None:
    """5.00, then the rest: the totals are 5.00 and 12.50, the credits 5.00 and 7.50."""
    clearing = world.opened()
    items = [own(world.payment), world.order(500), carried(world.receipt(500, 500))]
    items += [world.order(1_250, 51), carried(world.receipt(750, 1_250, 51))]
    clearing.accept(world.till(world.shop, *items).batch())
    assert balances(clearing, world) == (0, LOADED_FEN)


@pytest.mark.parametrize("batches", [1, 2])
def test_credits_never_exceed_the_total(world: World, batches: int) -> None:
    """A broken card that claims the whole total again gets what was ordered, not more."""
    clearing = world.opened()
    items = [own(world.payment), world.order(500), carried(world.receipt(500, 500))]
    items += [world.order(1_250, 51), carried(world.receipt(1_250, 1_250, 51))]
    till = world.till(world.shop, *items)
    if batches == 1:
        clearing.accept(till.batch())
    else:
        clearing.accept(till.batch(1, 3))
        clearing.accept(till.batch(4, 5))
    assert balances(clearing, world) == (750, 19_250)
    assert any("add up to more" in line.detail for line in clearing.report().evidence)


def test_the_state_of_an_order_is_no_state_of_a_sale(world: World) -> None:
    """`granted` on a refund order grants no payment."""
    clearing = world.opened()
    order = world.order(500)
    ended = Kind.SALE_CHANGED, chain.pack_changed(order[1][:12], SaleState.GRANTED, "refunded")
    till = world.till(world.shop, own(world.payment), order, carried(world.receipt(500, 500)), ended)
    clearing.accept(till.batch())
    (line,) = clearing.report().payees
    assert (line.granted.count, line.granted.amount_fen) == (1, PAID_FEN)
