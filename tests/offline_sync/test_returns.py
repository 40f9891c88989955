"""What was paid and not granted goes back to its card, with a load, once; whatever the order of arrival."""

import itertools
from hashlib import sha256

import pytest

from hardwallet.records import Owed, Record
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.clearing import Clearing, Report
from offline_sync.errors import RecordRefused
from offline_sync.messages import Batch
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from tests.offline_sync.factory import NOW, Scheme
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

LOADED_FEN = 20_000
PAID_FEN = 1_250


class World:
    """A card that paid a shop whose sale was given up, a sibling till, and a bus that carries."""

    def __init__(self) -> None:
        self.scheme = Scheme(seed="returns")
        self.card = self.scheme.card(7, balance_fen=0)
        self.shop = self.scheme.terminal(1, 1, retail=True)
        self.sibling = self.scheme.terminal(1, 2, retail=True)
        self.bus = self.scheme.terminal(2, 1)
        self.first_load = self.scheme.load(self.card, LOADED_FEN)
        self.torn = self.scheme.payment(self.card, self.shop, PAID_FEN)

    def clearing(self) -> Clearing:
        """One that knows the load."""
        clearing = open_clearing(self.scheme)
        clearing.book_load(self.first_load.raw, self.card.raw_certificate)
        return clearing

    def given_up(self) -> Batch:
        return Till(self.shop, []).add(changed(self.torn.reference, SaleState.GIVEN_UP)).batch()

    def by_bus(self) -> Batch:
        return Till(self.bus, [self.card]).add(carried(self.torn)).batch()

    def owed(self, amount_fen: int = PAID_FEN) -> Owed:
        return Owed(self.torn.sequence, sha256(self.torn.body).digest(), amount_fen)

    def returned(self) -> Clearing:
        """A clearing that owes the payment back."""
        clearing = self.clearing()
        clearing.accept(self.given_up())
        clearing.accept(self.by_bus())
        return clearing

    def load(self, amount_fen: int) -> Record:
        return self.scheme.load(self.card, amount_fen)

    def order(self, counter: int, amount_fen: int) -> bytes:
        return self.scheme.load_order(self.card, counter, amount_fen)

    def refund(self, amount_fen: int) -> list[Item]:
        """A merchant's order and the card's receipt of it."""
        parts = (self.torn.sequence, amount_fen, 50)
        reference = b"".join(part.to_bytes(4, "big") for part in parts)
        sale = Sale(reference, amount_fen, 0x0156, REFUND_PROFILE, 50, NOW, card=self.card.number)
        receipt = self.scheme.payment(
            self.card, self.shop, amount_fen, reference=reference[:8] + bytes(4), kind=0xD3, transaction=50
        )
        return [(Kind.SALE_OPENED, chain.pack_opened(sale)), carried(receipt)]


@pytest.fixture
def world() -> World:
    return World()


def balances(clearing: Clearing, world: World) -> tuple[int, int, int]:
    """Shop, card, owed to the card."""
    report = clearing.report()
    assert report.conservation.ok, report.conservation
    return payee_fen(report, world.shop), card_fen(report, world.card), report.conservation.owed_fen


class TestOwed:
    @pytest.mark.parametrize("state_first", [True, False])
    def test_given_up_and_carried(self, world: World, state_first: bool) -> None:
        """The cashier gave the sale up; the payment came by bus, before or after."""
        clearing = world.clearing()
        batches = [world.given_up(), world.by_bus()]
        for batch in batches if state_first else reversed(batches):
            clearing.accept(batch)
        assert balances(clearing, world) == (0, LOADED_FEN - PAID_FEN, PAID_FEN)
        assert clearing.owed(world.card.number) == [world.owed()]
        (line,) = clearing.report().owed
        assert (line.sequence, line.amount_fen, line.claimed) == (world.torn.sequence, PAID_FEN, False)

    @pytest.mark.parametrize("state", [SaleState.DECLINED, SaleState.PAID_NOT_GRANTED, SaleState.GIVEN_UP])
    def test_every_state_that_sold_nothing(self, world: World, state: SaleState) -> None:
        clearing = world.clearing()
        clearing.accept(Till(world.shop, []).add(changed(world.torn.reference, state)).batch())
        clearing.accept(world.by_bus())
        assert balances(clearing, world)[2] == PAID_FEN

    @pytest.mark.parametrize("state", [SaleState.OPEN, SaleState.UNRESOLVED, SaleState.GRANTED])
    def test_every_other_state(self, world: World, state: SaleState) -> None:
        clearing = world.clearing()
        clearing.accept(Till(world.shop, []).add(changed(world.torn.reference, state)).batch())
        clearing.accept(world.by_bus())
        assert balances(clearing, world) == (PAID_FEN, LOADED_FEN - PAID_FEN, 0)

    def test_as_its_own_terminal_kept_it(self, world: World) -> None:
        clearing = world.clearing()
        till = Till(world.shop, [world.card]).add(own(world.torn, SaleState.PAID_NOT_GRANTED))
        clearing.accept(till.batch())
        assert balances(clearing, world) == (0, LOADED_FEN - PAID_FEN, PAID_FEN)

    def test_only_carried_is_not_owed(self, world: World) -> None:
        """Its own terminal has not told what became of it."""
        clearing = world.clearing()
        clearing.accept(world.by_bus())
        assert balances(clearing, world) == (PAID_FEN, LOADED_FEN - PAID_FEN, 0)

    def test_another_terminals_no_is_no_no(self, world: World) -> None:
        """Neither a sibling's, which had a sale of the same reference, nor another payee's."""
        clearing = world.clearing()
        clearing.accept(world.by_bus())
        for terminal in (world.sibling, world.scheme.terminal(3, 1)):
            till = Till(terminal, []).add(changed(world.torn.reference, SaleState.GIVEN_UP))
            clearing.accept(till.batch())
        assert balances(clearing, world)[2] == 0

    def test_granted_later_it_is_owed_no_more(self, world: World) -> None:
        clearing = world.clearing()
        till = Till(world.shop, [world.card]).add(changed(world.torn.reference, SaleState.GIVEN_UP))
        till.add(own(world.torn))
        clearing.accept(world.by_bus())
        clearing.accept(till.batch(1, 1))
        assert balances(clearing, world)[2] == PAID_FEN
        clearing.accept(till.batch(2, 2))
        assert balances(clearing, world) == (PAID_FEN, LOADED_FEN - PAID_FEN, 0)
        assert clearing.owed(world.card.number) == []
        assert clearing.report().evidence == []

    def test_two_journals_with_one_number(self, world: World) -> None:
        """A forked journal says two things under one number: whichever comes first, granted counts."""
        one = Till(world.shop, []).add(changed(world.torn.reference, SaleState.GIVEN_UP)).batch()
        other = Till(world.shop, []).add(changed(world.torn.reference, SaleState.GRANTED)).batch()
        for batches in ((one, other), (other, one)):
            clearing = world.clearing()
            clearing.accept(world.by_bus())
            for batch in batches:
                clearing.accept(batch)
            assert balances(clearing, world)[2] == 0


class TestSiblings:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    def test_a_sibling_that_granted_it_is_believed(self, world: World, order: tuple[int, ...]) -> None:
        """It has a sale of its own with the same reference; the first till gave its sale up."""
        sibling = Till(world.sibling, [world.card]).add(
            carried(world.torn), changed(world.torn.reference, SaleState.GRANTED)
        )
        batches = [world.given_up(), world.by_bus(), sibling.batch()]
        clearing = world.clearing()
        for place in order:
            clearing.accept(batches[place])
        assert balances(clearing, world) == (PAID_FEN, LOADED_FEN - PAID_FEN, 0)
        report = clearing.report()
        assert report.paid_not_granted == []
        (line,) = [line for line in report.payees if line.payee == world.shop.payee.hex()]
        assert (line.granted.count, line.paid_not_granted.count, line.carried.count) == (1, 0, 0)

    def test_another_payees_terminal_grants_nothing(self, world: World) -> None:
        clearing = world.returned()
        stranger = Till(world.scheme.terminal(3, 1), []).add(changed(world.torn.reference, SaleState.GRANTED))
        clearing.accept(stranger.batch())
        assert balances(clearing, world)[2] == PAID_FEN
        assert len(clearing.report().paid_not_granted) == 1

    def test_another_card_that_paid_the_same_sale_grants_nothing(self, world: World) -> None:
        """The sale went to the next till, where another card paid it: the first one still gets its money."""
        other = world.scheme.card(8)
        paid = world.scheme.payment(other, world.sibling, PAID_FEN, reference=world.torn.reference)
        clearing = world.returned()
        clearing.accept(Till(world.sibling, [other]).add(own(paid)).batch())
        assert balances(clearing, world)[2] == PAID_FEN


class TestRefunds:
    @pytest.mark.parametrize("refund_first", [True, False])
    def test_what_was_refunded_is_not_owed_again(self, world: World, refund_first: bool) -> None:
        refund = Till(world.shop, [world.card]).add(
            changed(world.torn.reference, SaleState.GIVEN_UP), *world.refund(250)
        )
        batches = [world.by_bus(), refund.batch()]
        clearing = world.clearing()
        for batch in reversed(batches) if refund_first else batches:
            clearing.accept(batch)
        assert balances(clearing, world) == (0, LOADED_FEN - PAID_FEN + 250, PAID_FEN - 250)
        assert clearing.owed(world.card.number) == [world.owed(PAID_FEN - 250)]

    def test_wholly_refunded_nothing_is_owed(self, world: World) -> None:
        clearing = world.returned()
        clearing.accept(Till(world.shop, [world.card]).add(*world.refund(PAID_FEN)).batch())
        assert balances(clearing, world) == (0, LOADED_FEN, 0)
        assert clearing.owed(world.card.number) == []

    @pytest.mark.parametrize("refund_first", [True, False])
    def test_refunded_and_returned_is_evidence_and_money_stays(
        self, world: World, refund_first: bool
    ) -> None:
        """The card got both: the merchant ordered the one, and its terminal's state led to the other."""
        clearing = world.returned()
        refund = Till(world.shop, [world.card]).add(
            changed(world.torn.reference, SaleState.GIVEN_UP), *world.refund(PAID_FEN)
        )
        if refund_first:
            clearing.accept(refund.batch())
        with_returns(clearing, world)
        clearing.accept(refund.batch())
        assert balances(clearing, world) == (-PAID_FEN, LOADED_FEN + PAID_FEN, 0)
        assert [line.kind for line in clearing.report().evidence] == ["refunded-after-return"]


def with_returns(clearing: Clearing, world: World) -> None:
    """The second load: nothing new, only what goes back."""
    clearing.book_order(world.order(2, PAID_FEN), [world.owed()])
    clearing.book_load(world.load(PAID_FEN).raw, world.card.raw_certificate)


class TestLoads:
    @pytest.mark.parametrize("receipt_first", [True, False])
    def test_a_load_puts_it_on_the_card(self, world: World, receipt_first: bool) -> None:
        """5.00 of new money, and 12.50 that was owed: one receipt."""
        clearing = world.returned()
        receipt = world.load(500 + PAID_FEN)

        def order() -> None:
            clearing.book_order(world.order(2, 500 + PAID_FEN), [world.owed()])

        if not receipt_first:
            order()
            assert clearing.owed(world.card.number) == []
            assert [line.claimed for line in clearing.report().owed] == [True]
        clearing.book_load(receipt.raw, world.card.raw_certificate)
        if receipt_first:
            order()
        assert balances(clearing, world) == (0, LOADED_FEN + 500, 0)
        report = clearing.report()
        assert report.conservation.funding_fen == -(LOADED_FEN + 500)
        assert (report.conservation.loads_fen, report.conservation.returned_fen) == (
            LOADED_FEN + 500 + PAID_FEN,
            PAID_FEN,
        )
        assert clearing.owed(world.card.number) == []
        assert len(report.paid_not_granted) == 1

    def test_two_orders_for_one_payment(self, world: World) -> None:
        clearing = world.returned()
        clearing.book_order(world.order(2, PAID_FEN), [world.owed()])
        clearing.book_order(world.order(2, PAID_FEN), [world.owed()])
        with pytest.raises(RecordRefused) as refused:
            clearing.book_order(world.order(3, PAID_FEN), [world.owed()])
        assert refused.value.code == "return-claimed"
        assert [line.counter for line in clearing.report().outstanding_loads] == [2]
        clearing.book_load(world.load(PAID_FEN).raw, world.card.raw_certificate)
        with pytest.raises(RecordRefused, match="load 2 of this card"):
            clearing.book_order(world.order(3, PAID_FEN), [world.owed()])

    def test_a_cancelled_load_lets_it_go(self, world: World) -> None:
        """Owed again, and another order may claim it."""
        clearing = world.returned()
        clearing.book_order(world.order(2, PAID_FEN), [world.owed()])
        clearing.book_load(world.load(0).raw, world.card.raw_certificate)
        assert balances(clearing, world) == (0, LOADED_FEN - PAID_FEN, PAID_FEN)
        assert clearing.owed(world.card.number) == [world.owed()]
        clearing.book_order(world.order(3, PAID_FEN), [world.owed()])
        assert clearing.owed(world.card.number) == []
        clearing.book_load(world.load(PAID_FEN).raw, world.card.raw_certificate)
        assert balances(clearing, world) == (0, LOADED_FEN, 0)

    def test_all_orders_handed_over_again(self, world: World) -> None:
        """As at every opening of the books: the cancelled one is no quarrel with the one that came after."""
        clearing = world.returned()
        steps = [
            (world.load(0), world.order(2, PAID_FEN)),
            (world.load(PAID_FEN), world.order(3, PAID_FEN)),
        ]
        for _ in range(2):
            for receipt, _order in steps:
                clearing.book_load(receipt.raw, world.card.raw_certificate)
            for _receipt, order in steps:
                clearing.book_order(order, [world.owed()])
        assert balances(clearing, world) == (0, LOADED_FEN, 0)

    def test_granted_after_it_was_loaded_is_evidence_and_money_stays(self, world: World) -> None:
        clearing = world.returned()
        with_returns(clearing, world)
        granted = Till(world.sibling, []).add(changed(world.torn.reference, SaleState.GRANTED))
        clearing.accept(granted.batch())
        assert balances(clearing, world) == (0, LOADED_FEN, 0)
        assert [line.kind for line in clearing.report().evidence] == ["granted-after-return"]

    def test_granted_before_its_order_arrives(self, world: World) -> None:
        """The same in the other order of arrival: the card has the money, so it stays there."""
        clearing = world.returned()
        granted = Till(world.sibling, []).add(changed(world.torn.reference, SaleState.GRANTED))
        clearing.accept(granted.batch())
        with_returns(clearing, world)
        assert balances(clearing, world) == (0, LOADED_FEN, 0)
        assert [line.kind for line in clearing.report().evidence] == ["granted-after-return"]

    def test_an_order_before_the_payment(self, world: World) -> None:
        """Books that are filled anew see the order first."""
        clearing = world.clearing()
        with_returns(clearing, world)
        assert balances(clearing, world) == (0, LOADED_FEN + PAID_FEN, 0)
        clearing.accept(world.by_bus())
        assert balances(clearing, world) == (0, LOADED_FEN, 0)
        clearing.accept(world.given_up())
        assert balances(clearing, world) == (0, LOADED_FEN, 0)
        assert clearing.owed(world.card.number) == []

    def test_an_order_before_a_payment_that_comes_as_granted(self, world: World) -> None:
        clearing = world.clearing()
        with_returns(clearing, world)
        clearing.accept(Till(world.shop, [world.card]).add(own(world.torn)).batch())
        assert balances(clearing, world) == (0, LOADED_FEN, 0)
        assert [line.kind for line in clearing.report().evidence] == ["granted-after-return"]

    def test_no_more_goes_back_than_was_paid(self, world: World) -> None:
        """An order that names more than the payment: the rest is new money of the issuer's."""
        clearing = world.returned()
        clearing.book_order(world.order(2, 9_000), [world.owed(9_000)])
        clearing.book_load(world.load(9_000).raw, world.card.raw_certificate)
        assert balances(clearing, world) == (0, LOADED_FEN - PAID_FEN + 9_000, 0)
        assert clearing.report().conservation.returned_fen == PAID_FEN

    @pytest.mark.parametrize("fault", ["sum", "twice", "nothing"])
    def test_an_order_that_adds_up_to_less(self, world: World, fault: str) -> None:
        returns = {
            "sum": [world.owed()],
            "twice": [world.owed(400), world.owed(400)],
            "nothing": [world.owed(0)],
        }[fault]
        clearing = world.returned()
        with pytest.raises(RecordRefused) as refused:
            clearing.book_order(world.order(2, PAID_FEN - 1), returns)
        assert refused.value.code == "return-amount"
        assert clearing.owed(world.card.number) == [world.owed()]
        assert clearing.report().outstanding_loads == []


def test_two_payments_go_back_with_one_load(world: World) -> None:
    other = world.scheme.payment(world.card, world.shop, 300)
    clearing = world.returned()
    till = Till(world.shop, [world.card]).add(
        changed(world.torn.reference, SaleState.GIVEN_UP), own(other, SaleState.PAID_NOT_GRANTED)
    )
    clearing.accept(till.batch())
    owed = clearing.owed(world.card.number)
    assert [one.amount_fen for one in owed] == [PAID_FEN, 300]
    total_fen = PAID_FEN + 300
    clearing.book_order(world.order(2, total_fen), owed)
    clearing.book_load(world.load(total_fen).raw, world.card.raw_certificate)
    assert balances(clearing, world) == (0, LOADED_FEN, 0)


def test_the_report_notices_a_return_that_is_not_due(world: World) -> None:
    """Worked out anew from states, refunds and loads, whatever the transfers say."""
    clearing = world.returned()
    with clearing._ledger.write() as connection:
        connection.exec_driver_sql("UPDATE sales SET state = 3")
    report: Report = clearing.report()
    assert not report.conservation.ok
    assert report.conservation.difference_fen == PAID_FEN


def test_every_arrangement_gives_the_same_books(world: World) -> None:
    """State, record, order, receipt: 24 orders of arrival."""
    receipt, order_of_load = world.load(500 + PAID_FEN), world.order(2, 500 + PAID_FEN)
    given_up, by_bus = world.given_up(), world.by_bus()
    seen = []
    for order in itertools.permutations(range(4)):
        clearing = world.clearing()
        steps = [
            lambda c: c.accept(given_up),
            lambda c: c.accept(by_bus),
            lambda c: c.book_order(order_of_load, [world.owed()]),
            lambda c: c.book_load(receipt.raw, world.card.raw_certificate),
        ]
        for place in order:
            steps[place](clearing)
        report = clearing.report()
        assert report.conservation.ok
        seen.append(money(report))
        clearing.close()
    assert all(one == seen[0] for one in seen)
