"""The tap that ends in green: each profile, first meetings, and the remedies that a card asks for."""

from dataclasses import replace

import pytest

from hardwallet import messages as m
from hardwallet import status as sw
from hardwallet.certificates import CLASS_TRANSIT
from hardwallet.limits import JOURNAL_ENTRIES
from hardwallet.records import CVM_NONE, CVM_PIN, RETAIL, TRANSIT
from pos_terminal.sale import SaleState
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Terminal, ride_reference
from tests.pos_terminal.bench import PIN, Counter, Holder, Mill, hold, know
from tests.pos_terminal.wiretap import Wiretap


def stored(terminal: Terminal, tap: Tap) -> bool:
    """Whether the terminal holds the tap's record as its own, granted."""
    assert tap.record is not None
    payment = terminal.journal.payment(tap.record.card, tap.record.sequence)
    return payment is not None and payment.own and payment.granted and payment.record == tap.record


def test_retail(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    sale = shop.new_sale(1_250)
    result = hold(shop, holder, sale)
    assert result.outcome is Outcome.GRANTED
    assert result.granted
    assert not result.recovered
    assert result.ratified
    assert result.record is not None
    assert stored(shop, result)
    assert (result.record.profile, result.record.cvm) == (RETAIL, CVM_NONE)
    assert result.record.sale == (shop.identity.certificate.payee, sale.reference, 1_250, 0x0156)
    assert result.record.transaction == sale.transaction
    assert result.record.time_s == counter.time.now
    assert result.balance_fen == holder.balance_fen == 20_000 - 1_250
    assert holder.unratified == 0
    kept = shop.journal.sale(sale.reference)
    assert kept is not None
    assert kept.state is SaleState.GRANTED
    assert (kept.card, kept.sequence) == (holder.number, result.record.sequence)
    assert shop.journal.unresolved() == []


def test_transit(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    fare = counter.fare()
    result = hold(bus, holder, fare)
    assert result.granted
    assert result.record is not None
    assert stored(bus, result)
    assert result.record.profile == TRANSIT
    assert result.record.reference == ride_reference(bus.suite.hash, fare, holder.number)
    assert holder.balance_fen == 20_000 - 200
    assert hold(bus, holder, counter.fare()).granted
    assert holder.balance_fen == 20_000 - 400


def test_pin(counter: Counter, rich: Holder) -> None:
    shop = counter.shop()
    sale = shop.new_sale(38_000)
    asked = hold(shop, rich, sale)
    assert asked.outcome is Outcome.PIN_WANTED
    assert asked.status_word == sw.PIN_WANTED
    kept = shop.journal.sale(sale.reference)
    assert kept is not None
    assert kept.state is SaleState.OPEN
    assert rich.balance_fen == 80_000
    result = hold(shop, rich, sale, PIN)
    assert result.granted
    assert result.record is not None
    assert result.record.cvm == CVM_PIN
    assert rich.balance_fen == 42_000


def test_a_pin_below_the_limit_is_checked_too(counter: Counter, rich: Holder) -> None:
    shop = counter.shop()
    result = hold(shop, rich, shop.new_sale(100), "999999")
    assert result.outcome is Outcome.PIN_WRONG
    assert sw.tries_left(result.status_word) == 2
    granted = hold(shop, rich, shop.new_sale(100), PIN)
    assert granted.record is not None
    assert granted.record.cvm == CVM_PIN


@pytest.mark.parametrize("pin", ["1", "123", "1234567890123", "12a4", "１２３４", "-123"])
def test_a_pin_that_is_none_never_reaches_the_card(counter: Counter, rich: Holder, pin: str) -> None:
    shop = counter.shop()
    tapped = Wiretap()
    result = hold(shop, rich, shop.new_sale(100), pin, wrap=tapped)
    assert result.outcome is Outcome.PIN_WANTED
    assert result.reason == "a PIN has 4 to 12 digits"
    assert tapped.commands == []
    assert shop.journal.unresolved() == []
    assert rich.card.card_state().tries == 3


def test_wrong_pin_costs_a_try_and_the_third_locks(counter: Counter, rich: Holder) -> None:
    shop = counter.shop()
    sale = shop.new_sale(38_000)
    for left in (2, 1):
        result = hold(shop, rich, sale, "314159")
        assert result.outcome is Outcome.PIN_WRONG
        assert result.status_word == 0x63C0 | left
    locked = hold(shop, rich, sale, "314159")
    assert locked.outcome is Outcome.DECLINED
    assert locked.status_word == sw.PIN_LOCKED
    assert hold(shop, rich, sale, PIN).status_word == sw.PIN_LOCKED
    assert rich.balance_fen == 80_000
    assert shop.journal.unresolved() == []


# ---------------------------------------------------------------------- exchanges, known and new


def names(tapped: Wiretap) -> list[int]:
    return [command[1] for command in tapped.commands]


def test_three_exchanges_when_known(counter: Counter, mill: Mill) -> None:
    holder = mill.holder(balance_fen=20_000)
    bus = counter.bus()
    hold(bus, holder, counter.fare())  # meets, and carries the load's receipt
    tapped = Wiretap()
    assert hold(bus, holder, counter.fare(), wrap=tapped).granted
    assert names(tapped) == [m.INS_SELECT, m.INS_PAY, m.INS_RATIFY]


def test_a_card_new_to_the_terminal_costs_one_more(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    hold(bus, holder, counter.fare())
    bus.known_cards.clear()
    fresh = counter.bus()  # of the same payee, which the card has met
    tapped = Wiretap()
    assert hold(fresh, holder, counter.fare(), wrap=tapped).granted
    assert names(tapped) == [m.INS_SELECT, m.INS_EXCHANGE_CERTIFICATES, m.INS_PAY, m.INS_RATIFY]


def test_a_certificate_outlives_the_program(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    hold(bus, holder, counter.fare())
    bus = counter.restart(bus)
    tapped = Wiretap()
    assert hold(bus, holder, counter.fare(), wrap=tapped).granted
    assert names(tapped) == [m.INS_SELECT, m.INS_PAY, m.INS_RATIFY]


def test_retail_swaps_both_certificates_in_one_exchange(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    tapped = Wiretap()
    hold(shop, holder, shop.new_sale(100), wrap=tapped)
    assert names(tapped)[:4] == [m.INS_SELECT, m.INS_EXCHANGE_CERTIFICATES, m.INS_PAY, m.INS_RATIFY]
    again = Wiretap()
    hold(shop, holder, shop.new_sale(100), wrap=again)
    assert names(again) == [m.INS_SELECT, m.INS_PAY, m.INS_RATIFY]


def test_the_agreement_key_is_fetched_when_a_pin_is_given(counter: Counter, rich: Holder) -> None:
    shop = counter.shop()
    hold(shop, rich, shop.new_sale(100))  # now known, without its agreement key
    tapped = Wiretap()
    assert hold(shop, rich, shop.new_sale(38_000), PIN, wrap=tapped).granted
    assert tapped.commands[1][1:4] == bytes((m.INS_EXCHANGE_CERTIFICATES, 0, m.P2_WITH_AGREEMENT_KEY))
    shop = counter.restart(shop)
    again = Wiretap()
    assert hold(shop, rich, shop.new_sale(100), PIN, wrap=again).granted
    assert names(again) == [m.INS_SELECT, m.INS_PAY, m.INS_RATIFY]


# ---------------------------------------------------------------------- remedies


def test_payee_unknown(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    tapped = Wiretap()
    assert hold(bus, holder, counter.fare(), wrap=tapped).granted
    assert names(tapped)[:5] == [
        m.INS_SELECT,
        m.INS_EXCHANGE_CERTIFICATES,
        m.INS_PAY,
        m.INS_EXCHANGE_CERTIFICATES,
        m.INS_PAY,
    ]
    assert tapped.words[2] == sw.PAYEE_UNKNOWN
    assert holder.balance_fen == 20_000 - 200


def test_certificate_unknown(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    know(shop, holder)
    for _ in range(8):  # the card keeps eight terminals
        know(counter.shop(), holder)
    tapped = Wiretap()
    assert hold(shop, holder, shop.new_sale(700), wrap=tapped).granted
    assert sw.CERTIFICATE_UNKNOWN in tapped.words
    assert holder.balance_fen == 20_000 - 700


def test_an_operator_that_the_card_does_not_know_is_introduced(counter: Counter, mill: Mill) -> None:
    blank = mill.blank()
    holder = Holder(blank)
    state = holder.memory.state()
    holder.memory.commit(state.changed(operators_valid=1).to_bytes())  # its issuer alone
    holder.card.reset()
    shop = counter.shop()
    tapped = Wiretap()
    assert hold(shop, holder, shop.new_sale(700), wrap=tapped).granted
    assert m.INS_INTRODUCE in names(tapped)


def test_the_transit_allowance_is_renewed_by_a_proof(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    words = []
    for _ in range(12):  # tier 5 allows ten rides since the last proof
        tapped = Wiretap()
        assert hold(bus, holder, counter.fare(), wrap=tapped).granted
        words += tapped.words
    assert words.count(sw.TRANSIT_ALLOWANCE_USED_UP) == 1
    assert holder.balance_fen == 20_000 - 12 * 200


def fill(counter: Counter, holder: Holder) -> None:
    """Eight payments that nobody ratified."""
    torn_at = counter.shop(merchant=7)
    know(torn_at, holder)
    for _ in range(8):
        assert hold(torn_at, holder, torn_at.new_sale(100), tear=(3, "before")).granted
    assert holder.unratified == 8


def test_too_many_unratified_records_are_carried_first(counter: Counter, mill: Mill) -> None:
    holder = mill.holder()
    fill(counter, holder)
    bus = counter.bus()
    tapped = Wiretap()
    result = hold(bus, holder, counter.fare(), wrap=tapped)
    assert result.granted
    assert sw.TOO_MANY_UNRATIFIED in tapped.words
    assert holder.unratified == 0
    assert bus.journal.waiting().carried == 8
    assert bus.journal.waiting_fen() == 200


def test_each_remedy_is_tried_once(counter: Counter, holder: Holder) -> None:
    """A card that asks for the same thing for ever is refused, not served for ever."""
    shop = counter.shop()
    know(shop, holder)

    def never(command: bytes, reply: bytes) -> bytes:
        return bytes.fromhex("9412") if command[1] == m.INS_PAY else reply

    tapped = Wiretap(never)
    result = hold(shop, holder, shop.new_sale(100), wrap=tapped)
    assert result.outcome is Outcome.DECLINED
    assert result.status_word == sw.CERTIFICATE_UNKNOWN
    assert names(tapped).count(m.INS_PAY) == 2


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("exchange", [4, 5])
def test_torn_in_a_remedy_is_no_payment(counter: Counter, mill: Mill, exchange: int, when: str) -> None:
    """The card asked for something before it paid; leaving then, it has not paid."""
    holder = mill.holder()
    fill(counter, holder)
    before_fen = holder.balance_fen
    shop = counter.shop()
    sale = shop.new_sale(500)
    result = hold(shop, holder, sale, tear=(exchange, "before" if when == "before" else "after"))
    assert result.outcome is Outcome.TRY_AGAIN
    assert holder.balance_fen == before_fen
    assert shop.journal.unresolved() == []
    assert hold(shop, holder, sale).granted
    assert holder.balance_fen == before_fen - 500


def test_a_full_round_of_the_cards_journal(counter: Counter, mill: Mill) -> None:
    """128 entries are the array: what is not acknowledged is never overwritten, so the card stops."""
    holder = mill.holder(4, 80_000, PIN)
    bus = counter.bus()
    for _ in range(JOURNAL_ENTRIES - 1):
        assert hold(bus, holder, counter.fare(100)).granted
    result = hold(bus, holder, counter.fare(100))
    assert result.outcome is Outcome.DECLINED
    assert result.status_word == sw.JOURNAL_FULL
    assert len(holder.records) == JOURNAL_ENTRIES - 1


# ---------------------------------------------------------------------- what the caller is told


def test_the_decision_is_told_before_anything_else_is_said_to_the_card(
    counter: Counter, holder: Holder
) -> None:
    bus = counter.bus()
    tapped, told = Wiretap(), []

    def decided(result: Tap) -> None:
        told.append((result.granted, names(tapped)[-1], result.ratified))

    assert hold(bus, holder, counter.fare(), wrap=tapped, decided=decided).ratified
    assert told == [(True, m.INS_PAY, False)]


def test_the_decision_is_told_once_for_every_outcome(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    told: list[Tap] = []
    hold(shop, holder, shop.new_sale(100), decided=told.append)
    hold(shop, holder, shop.new_sale(30_000), decided=told.append)
    hold(shop, holder, shop.new_sale(100), tear=(1, "before"), decided=told.append)
    hold(shop, holder, shop.new_sale(100), tear=(2, "after"), decided=told.append)
    assert [result.outcome for result in told] == [
        Outcome.GRANTED,
        Outcome.DECLINED,
        Outcome.TRY_AGAIN,
        Outcome.UNRESOLVED,
    ]


def test_phases_add_up_what_the_stopwatch_says(counter: Counter, holder: Holder) -> None:
    ticks = iter(range(10_000))
    bus = counter.bus(stopwatch=lambda: next(ticks) / 1000)
    result = hold(bus, holder, counter.fare())
    assert list(result.phases)[:4] == ["select", "certificates", "ask", "pay"]
    assert all(phase.host_ms > 0 for phase in result.phases.values())
    spent_ms = sum(phase.host_ms for phase in result.phases.values())
    assert spent_ms == pytest.approx(next(ticks) - 1)


MESSAGES = {
    Outcome.GRANTED: 0x03,
    Outcome.ALREADY_GRANTED: 0x03,
    Outcome.PAID_NOT_GRANTED: 0x07,
    Outcome.DECLINED: 0x07,
    Outcome.PIN_WANTED: 0x09,
    Outcome.PIN_WRONG: 0x0A,
    Outcome.UNRESOLVED: 0x21,
    Outcome.TRY_AGAIN: 0x21,
    Outcome.OTHER_CARD: 0x1C,
}


def test_message_identifiers() -> None:
    """EMV Book A 6.2: 03 approved, 07 not authorised, 09 enter PIN, 0A incorrect PIN, 21 present again."""
    assert {outcome: outcome.message_id for outcome in Outcome} == MESSAGES
    assert len({outcome.words for outcome in Outcome}) == len(Outcome)


# ---------------------------------------------------------------------- the terminal itself


def test_transaction_numbers_never_repeat(counter: Counter) -> None:
    shop = counter.shop()
    seen = [shop.new_sale(100).transaction for _ in range(70)]
    shop = counter.restart(shop)
    seen += [shop.new_sale(100).transaction for _ in range(70)]
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)


def test_references_never_repeat(counter: Counter) -> None:
    shop = counter.shop()
    sales = [shop.new_sale(100) for _ in range(50)]
    assert len({sale.reference for sale in sales}) == 50
    assert all(sale.reference[:4] == counter.time.now.to_bytes(4, "big") for sale in sales)


def test_rides_are_named_alike_by_every_validator(counter: Counter, holder: Holder) -> None:
    fare = counter.fare()
    hash_ = counter.bus().suite.hash
    named = b"\x54B042" + (20260921).to_bytes(4, "big") + fare.run.to_bytes(4, "big") + bytes(8)
    assert ride_reference(hash_, fare, bytes(8)) == hash_(named)[:12]
    others = [replace(fare, run=fare.run + 1), replace(fare, day=20260922), replace(fare, vehicle=b"B043")]
    references = {ride_reference(hash_, other, bytes(8)) for other in [fare, *others]}
    assert len(references | {ride_reference(hash_, fare, b"\1" + bytes(7))}) == 5


def test_known_cards_are_bounded(counter: Counter, holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pos_terminal.terminal._KNOWN_CARDS", 2)
    bus = counter.bus()
    know(bus, holder)
    known = next(iter(bus.known_cards.values()))
    for number in range(3):
        bus.remember(bytes((number,)) * 8, known)
    assert list(bus.known_cards) == [bytes((1,)) * 8, bytes((2,)) * 8]


def test_a_terminal_wants_a_certificate_under_its_own_trust(counter: Counter, mill: Mill) -> None:
    from hardwallet.errors import CertificateRefused

    identity = mill.identity(CLASS_TRANSIT)
    forged = mill.terminal_certificate(identity, scheme=b"\0\0\0\0")
    with pytest.raises(CertificateRefused):
        counter.at(forged, counter.journal(identity))
