"""A sale that is asked for again: recovered, already paid, given up, paid next door, or another card's."""

from dataclasses import replace

import pytest

from firmware_bridge.virtual.tear import TearMoment
from hardwallet import messages as m
from hardwallet import status as sw
from offline_sync.journal import SqliteJournal
from pos_terminal.errors import NoSuchSale, SaleOpen
from pos_terminal.sale import Sale, SaleState
from pos_terminal.tap import Outcome
from pos_terminal.terminal import Terminal
from tests.pos_terminal.bench import PAY_KNOWN, PIN, Counter, Holder, Mill, hold, know
from tests.pos_terminal.wiretap import Wiretap

TORN: tuple[int, TearMoment] = (PAY_KNOWN, "after")


def state_of(terminal: Terminal, sale: Sale) -> SaleState:
    kept = terminal.journal.sale(sale.reference)
    assert kept is not None
    return kept.state


def torn_sale(shop: Terminal, holder: Holder, amount_fen: int = 900) -> Sale:
    """A sale that the card has paid and the till does not know about."""
    know(shop, holder)
    sale = shop.new_sale(amount_fen)
    assert hold(shop, holder, sale, tear=TORN).outcome is Outcome.UNRESOLVED
    return sale


# ---------------------------------------------------------------------- the same terminal


def test_torn_after_the_card_paid(counter: Counter, holder: Holder) -> None:
    """Fault 2: recovered, granted, no second debit."""
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    assert holder.balance_fen == 20_000 - 900
    assert state_of(shop, sale) is SaleState.UNRESOLVED
    assert [open_sale.reference for open_sale in shop.journal.unresolved()] == [sale.reference]
    assert shop.journal.unresolved()[0].card == holder.number
    result = hold(shop, holder, sale)
    assert result.granted
    assert result.recovered
    assert result.ratified
    assert holder.balance_fen == 20_000 - 900
    assert state_of(shop, sale) is SaleState.GRANTED
    assert shop.journal.waiting_fen() == 900


def test_torn_before_the_card_paid(counter: Counter, holder: Holder) -> None:
    """Fault 1: the card is unchanged, and the sale is not known to be so until the card is back."""
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(900)
    assert hold(shop, holder, sale, tear=(PAY_KNOWN, "before")).outcome is Outcome.UNRESOLVED
    assert holder.balance_fen == 20_000
    result = hold(shop, holder, sale)
    assert result.granted
    assert not result.recovered
    assert holder.balance_fen == 20_000 - 900


@pytest.mark.parametrize("restart", [False, True])
def test_an_unresolved_sale_survives_the_program(counter: Counter, holder: Holder, restart: bool) -> None:
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    if restart:
        shop = counter.restart(shop)
    with pytest.raises(SaleOpen, match="same card"):
        shop.new_sale(100)
    (found,) = shop.journal.unresolved()
    assert (found.reference, found.amount_fen, found.card) == (sale.reference, 900, holder.number)
    assert hold(shop, holder, found).granted
    assert shop.new_sale(100).amount_fen == 100


def test_granted_once_however_often_it_is_presented(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    outcomes = [hold(shop, holder, sale).outcome for _ in range(4)]
    assert outcomes == [Outcome.GRANTED] + [Outcome.ALREADY_GRANTED] * 3
    assert holder.balance_fen == 20_000 - 900
    assert shop.journal.waiting().count == 1


def test_the_bus_grants_a_ride_once(counter: Counter, holder: Holder) -> None:
    """Also after RATIFY: the card's own search finds the ride, and the proof is fresh each time."""
    bus = counter.bus()
    fare = counter.fare()
    assert hold(bus, holder, fare).granted
    replies = []
    for _ in range(3):
        tapped = Wiretap()
        result = hold(bus, holder, fare, wrap=tapped)
        assert result.outcome is Outcome.ALREADY_GRANTED
        assert result.recovered
        assert tapped.replies[1][0] == m.ALREADY_PAID_RATIFIED
        replies.append(tapped.replies[1])
    assert len(set(replies)) == 3
    assert len({reply[:161] for reply in replies}) == 1
    assert holder.balance_fen == 20_000 - 200
    assert bus.journal.waiting().count == 1


def test_torn_on_the_bus_and_tapped_again(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    know(bus, holder)
    fare = counter.fare()
    assert hold(bus, holder, fare, tear=TORN).outcome is Outcome.UNRESOLVED
    result = hold(bus, holder, fare)
    assert result.granted
    assert result.recovered
    assert holder.balance_fen == 20_000 - 200
    assert hold(bus, holder, fare).outcome is Outcome.ALREADY_GRANTED


def test_a_record_ratified_and_lost_by_nobody_is_found_in_a_new_journal_row(
    counter: Counter, holder: Holder
) -> None:
    """Torn before RATIFY (fault 4): durable here, counted once, ratified by the next tap."""
    bus = counter.bus()
    know(bus, holder)
    fare = counter.fare()
    result = hold(bus, holder, fare, tear=(3, "before"))
    assert result.granted
    assert not result.ratified
    assert holder.unratified == 1
    again = hold(bus, holder, counter.fare())
    assert again.granted
    assert again.carried == 0
    assert holder.unratified == 0
    assert bus.journal.waiting().count == 2
    assert bus.journal.waiting().carried == 0


def test_with_a_pin(counter: Counter, rich: Holder) -> None:
    """The card finds the payment before it asks for a PIN: the try is not needed again."""
    shop = counter.shop()
    know(shop, rich)
    sale = shop.new_sale(38_000)
    assert hold(shop, rich, sale, PIN, tear=TORN).outcome is Outcome.UNRESOLVED
    assert rich.balance_fen == 42_000
    result = hold(shop, rich, sale)
    assert result.granted
    assert result.recovered
    assert rich.balance_fen == 42_000


def test_an_attempt_with_the_wrong_pin_that_is_torn(counter: Counter, rich: Holder) -> None:
    """Fault 34e: the try is spent, nothing was paid, and the sale ends in a plain *no*."""
    shop = counter.shop()
    know(shop, rich)
    sale = shop.new_sale(38_000)
    assert hold(shop, rich, sale, "314159", tear=TORN).outcome is Outcome.UNRESOLVED
    assert rich.card.card_state().tries == 2
    result = hold(shop, rich, sale, "314159")
    assert result.outcome is Outcome.PIN_WRONG
    assert state_of(shop, sale) is SaleState.OPEN
    assert hold(shop, rich, sale, PIN).granted
    assert rich.balance_fen == 42_000


# ---------------------------------------------------------------------- given up


def test_given_up_and_the_payment_arrives_later(counter: Counter, holder: Holder) -> None:
    """Fault 3c: stored as paid, not granted; never granted by itself."""
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    shop.give_up(sale.reference, "paid in cash")
    assert state_of(shop, sale) is SaleState.GIVEN_UP
    next_sale = shop.new_sale(100)
    result = hold(shop, holder, next_sale)
    assert result.granted
    assert result.carried == 1
    assert state_of(shop, sale) is SaleState.PAID_NOT_GRANTED
    assert shop.journal.waiting().count == 2
    assert shop.journal.waiting_fen() == 1_000
    stored = shop.journal.payment(holder.number, holder.sequence - 1)
    assert stored is not None
    assert stored.own
    assert not stored.granted
    assert holder.unratified == 0
    again = hold(shop, holder, sale)
    assert again.outcome is Outcome.PAID_NOT_GRANTED
    assert holder.balance_fen == 20_000 - 1_000


def test_given_up_and_presented_again(counter: Counter, holder: Holder) -> None:
    """Asked for by its own reference it is refused, and its record taken in."""
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    shop.give_up(sale.reference, "paid in cash")
    result = hold(shop, holder, sale)
    assert result.outcome is Outcome.DECLINED
    assert "given up" in result.reason
    assert state_of(shop, sale) is SaleState.PAID_NOT_GRANTED
    assert hold(shop, holder, sale).outcome is Outcome.PAID_NOT_GRANTED
    assert holder.balance_fen == 20_000 - 900
    assert shop.journal.waiting().count == 1


def test_given_up_and_never_paid(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(900)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "before"))
    shop.give_up(sale.reference, "the customer left")
    assert hold(shop, holder, sale).outcome is Outcome.DECLINED
    assert state_of(shop, sale) is SaleState.GIVEN_UP
    assert holder.balance_fen == 20_000


def test_only_an_unresolved_sale_is_given_up(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    with pytest.raises(NoSuchSale):
        shop.give_up(bytes(12), "there is none")
    granted = shop.new_sale(100)
    hold(shop, holder, granted)
    with pytest.raises(NoSuchSale):
        shop.give_up(granted.reference, "no")
    assert state_of(shop, granted) is SaleState.GRANTED


def test_on_the_bus_a_ride_that_was_carried_in_is_paid_not_granted(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    know(bus, holder)
    torn = counter.fare()
    hold(bus, holder, torn, tear=TORN)
    later = hold(bus, holder, counter.fare())
    assert later.granted
    assert later.carried == 1
    result = hold(bus, holder, torn)
    assert result.outcome is Outcome.PAID_NOT_GRANTED
    assert "returns to the card's account" in result.reason
    assert holder.balance_fen == 20_000 - 400
    assert bus.journal.waiting().count == 2


# ---------------------------------------------------------------------- other terminals


@pytest.mark.parametrize("restart", [False, True])
def test_carried_by_a_bus_and_back_at_the_till(counter: Counter, holder: Holder, restart: bool) -> None:
    """Faults 3 and 3b: the right payee is paid, and the card is not debited again."""
    shop, bus = counter.shop(), counter.bus()
    know(bus, holder)
    sale = torn_sale(shop, holder)
    ride = hold(bus, holder, counter.fare())
    assert ride.granted
    assert ride.carried == 1
    assert holder.unratified == 0
    (carried,) = [record for record in holder.records if record.payee == shop.identity.certificate.payee]
    stored = bus.journal.payment(holder.number, carried.sequence)
    assert stored is not None
    assert stored.record == carried
    assert not stored.own
    assert bus.journal.waiting().carried == 1
    assert bus.journal.waiting_fen() == 200
    if restart:
        shop = counter.restart(shop)
    result = hold(shop, holder, sale)
    assert result.granted
    assert result.recovered
    assert not result.ratified  # the bus was first
    assert holder.balance_fen == 20_000 - 900 - 200
    assert hold(shop, holder, sale).outcome is Outcome.ALREADY_GRANTED


def test_carrying_twice_keeps_once(counter: Counter, holder: Holder) -> None:
    shop, bus = counter.shop(), counter.bus()
    know(bus, holder)
    torn_sale(shop, holder)
    first = hold(bus, holder, counter.fare(), tear=(6, "before"))  # read, not ratified
    assert first.granted
    assert holder.unratified == 1
    second = hold(bus, holder, counter.fare())
    assert second.carried == 0
    assert holder.unratified == 0
    assert bus.journal.waiting().carried == 1


def test_paid_at_a_sibling(counter: Counter, mill: Mill, holder: Holder) -> None:
    """The next till of the same shop: nothing is debited, nothing granted, the record is taken along."""
    shop = counter.shop(merchant=5)
    sale = shop.new_sale(700)
    paid = hold(shop, holder, sale)
    assert paid.granted
    sibling = counter.shop(merchant=5)
    result = hold(sibling, holder, sale)
    assert result.outcome is Outcome.ALREADY_GRANTED
    assert not result.granted
    assert shop.identity.certificate.terminal.hex() in result.reason
    assert holder.balance_fen == 20_000 - 700
    assert sibling.journal.waiting_fen() == 0
    assert sibling.journal.waiting().carried == 1
    assert sibling.journal.unresolved() == []
    assert state_of(sibling, sale) is SaleState.GIVEN_UP
    assert sibling.new_sale(100).amount_fen == 100


def test_a_sibling_validator(counter: Counter, holder: Holder) -> None:
    """Fault 3d: the second door of the bus sees the same ride."""
    front, rear = counter.bus(merchant=6), counter.bus(merchant=6)
    fare = counter.fare()
    assert hold(front, holder, fare).granted
    result = hold(rear, holder, fare)
    assert result.outcome is Outcome.ALREADY_GRANTED
    assert holder.balance_fen == 20_000 - 200
    assert rear.journal.waiting_fen() == 0


def test_the_same_reference_elsewhere_is_another_sale(counter: Counter, holder: Holder) -> None:
    """Another payee: the card pays him too."""
    shop, other = counter.shop(merchant=8), counter.shop(merchant=9)
    sale = shop.new_sale(300)
    assert hold(shop, holder, sale).granted
    assert hold(other, holder, sale).granted
    assert holder.balance_fen == 20_000 - 600


# ---------------------------------------------------------------------- another card


def test_another_card_is_refused_for_a_recovery(counter: Counter, mill: Mill, holder: Holder) -> None:
    """Fault 7: refused; the open tap stays open."""
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    other = Holder(mill.blank(balance_fen=10_000))
    result = hold(shop, other, sale)
    assert result.outcome is Outcome.OTHER_CARD
    assert other.balance_fen == 10_000
    assert state_of(shop, sale) is SaleState.UNRESOLVED
    assert hold(shop, holder, sale).granted
    assert hold(shop, other, sale).outcome is Outcome.ALREADY_GRANTED
    assert other.balance_fen == 10_000


def test_after_a_plain_no_another_card_may_pay(counter: Counter, mill: Mill) -> None:
    poor, holder = Holder(mill.blank(balance_fen=100)), mill.holder()
    shop = counter.shop()
    sale = shop.new_sale(900)
    refused = hold(shop, poor, sale)
    assert refused.outcome is Outcome.DECLINED
    assert refused.status_word == sw.BALANCE_TOO_LOW
    assert refused.balance_fen == 100
    assert hold(shop, holder, sale).granted
    assert poor.balance_fen == 100


# ---------------------------------------------------------------------- never *no* while it may be paid


def forget_terminals(holder: Holder) -> None:
    """The card met eight other terminals since."""
    state = holder.memory.state()
    holder.memory.commit(state.changed(terminals_valid=0).to_bytes())
    holder.card.reset()


@pytest.mark.parametrize("when", ["before", "after"])
def test_torn_again_before_the_card_could_look(counter: Counter, holder: Holder, when: TearMoment) -> None:
    """The card wants the certificate before it looks for the sale: leaving then says nothing about it."""
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    forget_terminals(holder)
    again = hold(shop, holder, sale, tear=(3, when))
    assert again.outcome is Outcome.UNRESOLVED
    assert state_of(shop, sale) is SaleState.UNRESOLVED
    assert hold(shop, holder, sale).granted
    assert holder.balance_fen == 20_000 - 900


@pytest.mark.parametrize("word", [0x940F, 0x940E, 0x9411, 0x6985, 0x6A80, 0x6700, 0x6F00])
def test_a_refusal_that_comes_before_the_search_leaves_it_unresolved(
    counter: Counter, holder: Holder, word: int
) -> None:
    shop = counter.shop()
    sale = torn_sale(shop, holder)

    def refusing(command: bytes, reply: bytes) -> bytes:
        return word.to_bytes(2, "big") if command[1] == m.INS_PAY else reply

    result = hold(shop, holder, sale, wrap=Wiretap(refusing))
    assert result.outcome is Outcome.UNRESOLVED
    assert result.status_word == word
    assert state_of(shop, sale) is SaleState.UNRESOLVED
    assert holder.unratified == 1  # nothing was carried as paid, not granted, either
    assert hold(shop, holder, sale).granted


@pytest.mark.parametrize("word", [0x940C, 0x9402, 0x9407, 0x9406, 0x9404, 0x9403, 0x63C1, 0x6983])
def test_a_refusal_after_the_search_is_a_no(counter: Counter, holder: Holder, word: int) -> None:
    """The card looked, and never paid this sale."""
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(900)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "before"))

    def refusing(command: bytes, reply: bytes) -> bytes:
        return word.to_bytes(2, "big") if command[1] == m.INS_PAY else reply

    result = hold(shop, holder, sale, wrap=Wiretap(refusing))
    assert result.outcome in (Outcome.DECLINED, Outcome.PIN_WANTED, Outcome.PIN_WRONG)
    assert state_of(shop, sale) is SaleState.OPEN


@pytest.mark.parametrize("word", [0x6F01, 0x6400, 0x6581, 0x9000, 0x94FF, 0x0000, 0xFFFF, 0x6283])
def test_an_unknown_status_word_says_nothing(counter: Counter, holder: Holder, word: int) -> None:
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(900)

    def odd(command: bytes, reply: bytes) -> bytes:
        return word.to_bytes(2, "big") if command[1] == m.INS_PAY else reply

    result = hold(shop, holder, sale, wrap=Wiretap(odd))
    assert result.outcome is Outcome.UNRESOLVED
    assert state_of(shop, sale) is SaleState.UNRESOLVED
    assert hold(shop, holder, sale).granted
    assert holder.balance_fen == 20_000 - 900


def test_too_slow_for_a_recovery_is_not_a_no(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    sale = torn_sale(shop, holder)

    def slow(command: bytes, reply: bytes) -> bytes:
        counter.time.watch_s += 2
        return reply

    result = hold(shop, holder, sale, wrap=Wiretap(slow))
    assert result.outcome is Outcome.UNRESOLVED
    assert "slowly" in result.reason
    assert state_of(shop, sale) is SaleState.UNRESOLVED


@pytest.mark.parametrize("tear", [(1, "before"), (1, "after")])
def test_torn_at_select_for_a_recovery(
    counter: Counter, holder: Holder, tear: tuple[int, TearMoment]
) -> None:
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    assert hold(shop, holder, sale, tear=tear).outcome is Outcome.UNRESOLVED
    fresh = counter.shop()
    know(fresh, holder)
    assert hold(fresh, holder, fresh.new_sale(10), tear=tear).outcome is Outcome.TRY_AGAIN


# ---------------------------------------------------------------------- references


def test_the_same_reference_with_another_amount(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    sale = shop.new_sale(900)
    assert hold(shop, holder, sale).granted
    result = hold(shop, holder, replace(sale, amount_fen=901))
    assert result.outcome is Outcome.DECLINED
    assert "another amount" in result.reason
    assert holder.balance_fen == 20_000 - 900


def test_the_same_reference_with_another_amount_while_unresolved(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    sale = torn_sale(shop, holder)
    result = hold(shop, holder, replace(sale, amount_fen=901))
    assert result.outcome is Outcome.UNRESOLVED
    assert result.sale is not None
    assert result.sale.amount_fen == 900
    assert state_of(shop, sale) is SaleState.UNRESOLVED
    assert holder.balance_fen == 20_000 - 900
    assert hold(shop, holder, sale).granted


def test_another_fare_for_the_same_ride_is_another_payment(counter: Counter, holder: Holder) -> None:
    """What a card pays once is (payee, reference, amount, currency)."""
    bus = counter.bus()
    fare = counter.fare(200)
    assert hold(bus, holder, fare).granted
    assert hold(bus, holder, replace(fare, amount_fen=300)).granted
    assert holder.balance_fen == 20_000 - 500


# ---------------------------------------------------------------------- clones


def test_two_payments_with_one_sequence(counter: Counter, holder: Holder) -> None:
    """Fault 25: both bodies are kept as evidence; the second is never granted by recovery."""
    bus = counter.bus()
    know(bus, holder)
    clone = Holder(holder.copy(), seed=2)
    assert hold(bus, holder, counter.fare()).granted
    torn = counter.fare()
    assert hold(bus, clone, torn, tear=TORN).outcome is Outcome.UNRESOLVED
    assert clone.sequence == holder.sequence
    for _ in range(2):
        result = hold(bus, clone, torn)
        assert result.outcome is Outcome.PAID_NOT_GRANTED
        assert "copy" in result.reason
    assert isinstance(bus.journal, SqliteJournal)
    bodies = {entry.payload[1:97] for entry in bus.journal.entries(1, 10) if entry.kind == 3}
    assert len(bodies) == 2


def test_a_clones_ride_is_granted_once(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    know(bus, holder)
    clone = Holder(holder.copy(), seed=2)
    assert hold(bus, holder, counter.fare()).granted
    fare = counter.fare()
    assert hold(bus, clone, fare).granted  # it was debited
    assert [hold(bus, clone, fare).granted for _ in range(2)] == [False, False]


def test_records_of_a_blocked_card_are_carried(counter: Counter, mill: Mill, holder: Holder) -> None:
    """Refused to pay, never refused to bring what it has paid."""
    shop, bus = counter.shop(), counter.bus()
    know(bus, holder)
    sale = torn_sale(shop, holder)
    state = holder.memory.state()
    holder.memory.commit(state.changed(flags=state.flags | 1).to_bytes())
    result = hold(bus, holder, counter.fare())
    assert result.outcome is Outcome.DECLINED
    assert result.status_word == sw.BLOCKED
    assert result.carried == 1
    assert holder.unratified == 0
    back = hold(shop, holder, sale)
    assert back.granted  # it had paid before it was blocked
    assert holder.balance_fen == 20_000 - 900


def test_a_terminal_that_the_card_forgot_can_still_carry(counter: Counter, holder: Holder) -> None:
    """PROVE is refused with 9412: the certificate is shown again."""
    shop, bus = counter.shop(), counter.bus()
    know(bus, holder)
    torn_sale(shop, holder)
    validator = counter.bus()  # of the same payee: PAY needs no certificate of its own
    tapped = Wiretap()
    result = hold(validator, holder, counter.fare(), wrap=tapped)
    assert result.granted
    assert result.carried == 1
    assert sw.CERTIFICATE_UNKNOWN in tapped.words
