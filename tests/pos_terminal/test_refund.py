"""Refunds at the terminal: once, at any till, never above what is left; and the grant of a sibling."""

import pytest

from firmware_bridge.virtual.tear import TearMoment
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.records import Record
from pos_terminal.errors import JournalFull, NoSuchSale
from pos_terminal.refund import Refund, open_refunds, refund, refund_terms
from pos_terminal.sale import Sale, SaleState
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Terminal
from tests.pos_terminal.bench import PAY_KNOWN, Counter, Holder, Mill, hold, know

REFUND_KNOWN = 5
"""SELECT, PROVE, READ RECORD, READ RECORD, then REFUND."""


def give_back(
    shop: Terminal, holder: Holder, wanted: Refund | Sale, tear: tuple[int, TearMoment] | None = None
) -> Tap:
    """The card is held to the reader for a refund."""
    holder.reader.present()
    if tear is not None:
        holder.reader.tear_at(*tear)
    link = holder.reader.wait_for_card(0)
    try:
        return refund(shop, link, wanted)
    finally:
        link.close()
        holder.reader.tear_at(0)


def buy(shop: Terminal, holder: Holder, amount_fen: int = 1_250) -> Record:
    """A purchase."""
    result = hold(shop, holder, shop.new_sale(amount_fen))
    assert result.record is not None
    return result.record


def kept(shop: Terminal, kind: int) -> list[Record]:
    """The records of a kind in the journal."""
    found = []
    for entry in shop.journal.entries(1, 1_000):  # type: ignore[attr-defined]
        raw = {3: entry.payload[1:], 4: entry.payload}.get(entry.kind)
        if raw is not None:
            found.append(r.parse(raw))
    return [record for record in found if record.kind == kind]


def test_a_part_goes_back(counter: Counter, holder: Holder) -> None:
    """Credited once; the receipt is kept, ratified, and the order has ended."""
    shop = counter.shop()
    payment = buy(shop, holder)
    result = give_back(shop, holder, Refund(holder.number, payment.sequence, 500))
    assert result.granted
    assert result.ratified
    assert result.balance_fen == holder.balance_fen == 20_000 - 750
    assert [record.amount_fen for record in kept(shop, r.REFUND)] == [500]
    assert open_refunds(shop) == []
    assert holder.unratified == 0


def test_another_till_of_the_merchant_refunds_and_keeps_the_payment(counter: Counter, holder: Holder) -> None:
    """It has never seen the payment: the card shows it."""
    first, second = counter.shop(merchant=7), counter.shop(merchant=7)
    payment = buy(first, holder)
    assert give_back(second, holder, Refund(holder.number, payment.sequence, 500)).granted
    assert holder.balance_fen == 20_000 - 750
    assert [record.body for record in kept(second, r.PAYMENT)] == [payment.body]


def test_the_rest_goes_back_and_no_more(counter: Counter, holder: Holder) -> None:
    """In two steps; a third is refused by the terminal, which tells what is left."""
    shop = counter.shop()
    payment = buy(shop, holder)
    assert give_back(shop, holder, Refund(holder.number, payment.sequence, 500)).granted
    too_much = give_back(shop, holder, Refund(holder.number, payment.sequence, 751))
    assert too_much.outcome is Outcome.DECLINED
    assert too_much.status_word == sw.REFUND_TOO_HIGH
    assert "7.50 is left" in too_much.reason
    assert give_back(shop, holder, Refund(holder.number, payment.sequence, 750)).granted
    assert give_back(shop, holder, Refund(holder.number, payment.sequence, 1)).outcome is Outcome.DECLINED
    assert holder.balance_fen == 20_000


@pytest.mark.parametrize("when", ["before", "after"])
def test_torn_and_tried_again(counter: Counter, holder: Holder, when: TearMoment) -> None:
    """Credited once, whether or not the card had it already; the same order is finished."""
    shop = counter.shop()
    payment = buy(shop, holder)
    wanted = Refund(holder.number, payment.sequence, 500)
    torn = give_back(shop, holder, wanted, tear=(REFUND_KNOWN, when))
    assert torn.outcome is Outcome.UNRESOLVED
    (waiting,) = open_refunds(shop)
    assert refund_terms(waiting) == (payment.sequence, 500)
    again = give_back(shop, holder, waiting)
    assert again.granted
    assert again.recovered is (when == "after")
    assert holder.balance_fen == 20_000 - 750
    assert open_refunds(shop) == []
    assert len(kept(shop, r.REFUND)) == 1


@pytest.mark.parametrize("exchange", range(1, REFUND_KNOWN))
@pytest.mark.parametrize("when", ["before", "after"])
def test_torn_before_the_order(counter: Counter, holder: Holder, exchange: int, when: TearMoment) -> None:
    """Nothing was ordered yet: the card is asked afresh."""
    shop = counter.shop()
    payment = buy(shop, holder)
    wanted = Refund(holder.number, payment.sequence, 500)
    assert give_back(shop, holder, wanted, tear=(exchange, when)).outcome is Outcome.TRY_AGAIN
    assert open_refunds(shop) == []
    assert give_back(shop, holder, wanted).granted
    assert holder.balance_fen == 20_000 - 750


def test_torn_at_one_till_and_finished_at_both(counter: Counter, holder: Holder) -> None:
    """The total makes it one refund: the first till learns that it had reached the card."""
    first, second = counter.shop(merchant=7), counter.shop(merchant=7)
    payment = buy(first, holder)
    wanted = Refund(holder.number, payment.sequence, 500)
    give_back(first, holder, wanted, tear=(REFUND_KNOWN, "after"))
    told = give_back(second, holder, Refund(holder.number, payment.sequence, 1_000))
    assert told.outcome is Outcome.DECLINED
    assert "5.00 was refunded" in told.reason
    (waiting,) = open_refunds(first)
    assert give_back(first, holder, waiting).granted
    assert holder.balance_fen == 20_000 - 750


def test_another_card_is_sent_away(counter: Counter, mill: Mill, holder: Holder) -> None:
    """Money goes back to the card that paid."""
    shop = counter.shop()
    payment = buy(shop, holder)
    other = Holder(mill.new_blank())
    result = give_back(shop, other, Refund(holder.number, payment.sequence, 500))
    assert result.outcome is Outcome.OTHER_CARD
    assert other.balance_fen == 20_000


def test_another_merchants_payment_is_refused(counter: Counter, holder: Holder) -> None:
    """By the terminal already."""
    paid, other = counter.shop(merchant=7), counter.shop(merchant=8)
    payment = buy(paid, holder)
    result = give_back(other, holder, Refund(holder.number, payment.sequence, 500))
    assert result.outcome is Outcome.DECLINED
    assert "somebody else" in result.reason


@pytest.mark.parametrize("amount_fen", [0, -1])
def test_nothing_is_no_refund(counter: Counter, holder: Holder, amount_fen: int) -> None:
    """Zero and less."""
    shop = counter.shop()
    payment = buy(shop, holder)
    result = give_back(shop, holder, Refund(holder.number, payment.sequence, amount_fen))
    assert result.outcome is Outcome.DECLINED
    assert "zero or negative" in result.reason


def test_a_payment_that_left_the_card_is_refunded_online(counter: Counter, holder: Holder) -> None:
    """A sequence number that the card no longer knows."""
    shop = counter.shop()
    buy(shop, holder)
    result = give_back(shop, holder, Refund(holder.number, 99, 500))
    assert result.outcome is Outcome.DECLINED
    assert "refund it online" in result.reason


def test_the_order_is_durable_before_the_card_gets_it(counter: Counter, holder: Holder) -> None:
    """A full disk: the card is not asked, and credits nothing."""
    shop = counter.shop()
    payment = buy(shop, holder)

    def full() -> None:
        raise JournalFull("The disk is full")

    shop.journal.require_space = full  # type: ignore[method-assign]
    result = give_back(shop, holder, Refund(holder.number, payment.sequence, 500))
    assert result.outcome is Outcome.DECLINED
    assert holder.balance_fen == 20_000 - 1_250


def test_a_refund_waits_until_the_card_has_room(counter: Counter, holder: Holder) -> None:
    """8 records wait on the card: they are carried first, then it credits."""
    shop = counter.shop()
    payment = buy(shop, holder)
    know(shop, holder)
    for _ in range(8):
        sale = shop.new_sale(10)
        hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
        shop.give_up(sale.reference, "the customer left")
    assert holder.unratified == 8
    assert give_back(shop, holder, Refund(holder.number, payment.sequence, 500)).granted
    assert holder.unratified == 0


def test_only_a_refund_has_refund_terms(counter: Counter) -> None:
    """A sale of goods is none."""
    with pytest.raises(NoSuchSale):
        refund_terms(counter.shop().new_sale(100))


def test_a_sibling_grants_a_fresh_torn_tap_once(counter: Counter, holder: Holder) -> None:
    """Torn at the front door, granted at the rear one, and then at neither."""
    front, rear = counter.bus(merchant=6), counter.bus(merchant=6)
    for bus in (front, rear):
        know(bus, holder)
    hold(front, holder, counter.fare())  # the card knows the payee from here on
    fare = counter.fare()
    assert hold(front, holder, fare, tear=(PAY_KNOWN, "after")).outcome is Outcome.UNRESOLVED
    granted = hold(rear, holder, fare)
    assert granted.granted
    assert granted.recovered
    assert holder.balance_fen == 20_000 - 400
    assert not hold(rear, holder, fare).granted
    assert rear.journal.waiting_fen() == 0
    assert holder.unratified == 0


def test_a_sibling_grants_nothing_old(counter: Counter, holder: Holder) -> None:
    """91 seconds are too many; the record is carried all the same."""
    front, rear = counter.bus(merchant=6), counter.bus(merchant=6)
    for bus in (front, rear):
        know(bus, holder)
    hold(front, holder, counter.fare())
    fare = counter.fare()
    hold(front, holder, fare, tear=(PAY_KNOWN, "after"))
    counter.time.now += 91
    late = hold(rear, holder, fare)
    assert late.outcome is Outcome.ALREADY_GRANTED
    assert rear.journal.waiting().carried == 1
    assert holder.unratified == 0


def test_a_sibling_needs_the_cards_word(counter: Counter, holder: Holder) -> None:
    """RATIFY's reply is lost: nobody may grant on it any more, and nothing is lost."""
    front, rear = counter.bus(merchant=6), counter.bus(merchant=6)
    for bus in (front, rear):
        know(bus, holder)
    hold(front, holder, counter.fare())
    fare = counter.fare()
    hold(front, holder, fare, tear=(PAY_KNOWN, "after"))
    assert not hold(rear, holder, fare, tear=(PAY_KNOWN + 1, "after")).granted
    assert not hold(rear, holder, fare).granted
    assert rear.journal.waiting().carried == 1


def test_states_of_a_refund(counter: Counter, holder: Holder) -> None:
    """Unresolved, then granted: like a sale."""
    shop = counter.shop()
    payment = buy(shop, holder)
    give_back(shop, holder, Refund(holder.number, payment.sequence, 500), tear=(REFUND_KNOWN, "after"))
    (waiting,) = open_refunds(shop)
    assert waiting.state is SaleState.UNRESOLVED
    give_back(shop, holder, waiting)
    ended = shop.journal.sale(waiting.reference)
    assert ended is not None
    assert ended.state is SaleState.GRANTED
