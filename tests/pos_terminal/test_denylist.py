"""A card on its issuer's denylist is asked for nothing and loses nothing; without a good list nobody pays."""

from collections.abc import Callable

import pytest

from hardwallet import messages as m
from hardwallet.certificates import CLASS_TRANSIT
from hardwallet.denylist import Denylist
from hardwallet.errors import DenylistRefused
from hardwallet.issuing import ISSUER
from hardwallet.records import RECORD_LENGTH, RETAIL
from offline_sync import chain
from offline_sync.chain import Kind
from pos_terminal.denylist import Denylists
from pos_terminal.limits import DAY_S, TerminalLimits, stale_refusal
from pos_terminal.refund import Refund, refund
from pos_terminal.sale import SaleState
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Charge, Terminal
from tests.pos_terminal.bench import (
    NOW,
    PAY_KNOWN,
    VEHICLE,
    Counter,
    Holder,
    Mill,
    hold,
    journal_of,
    know,
)
from tests.pos_terminal.wiretap import Wiretap

WORDS = "denylist"


def deny(counter: Counter, terminal: Terminal, holder: Holder, version: int = 2) -> None:
    """The list arrives at the terminal: this card is on it."""
    assert isinstance(terminal.denylists, Denylists)
    terminal.denylists.take(counter.mill.denylist(holder.number, version=version, time_s=counter.time.now))


def taken(terminal: Terminal, kind: Kind) -> list[bytes]:
    """The records in the journal's entries of a kind."""
    entries = journal_of(terminal).entries(1, 1_000)
    found = (chain.record_in(entry.kind, entry.payload) for entry in entries if entry.kind == kind)
    return [raw for raw in found if raw is not None]


def instructions(tapped: Wiretap) -> list[int]:
    return [command[1] for command in tapped.commands]


def charges(counter: Counter) -> list[tuple[Terminal, Callable[[], Charge]]]:
    """A shop and a bus, and what each asks for."""
    shop, bus = counter.shop(), counter.bus()
    return [(shop, lambda: shop.new_sale(300)), (bus, counter.fare)]


# ---------------------------------------------------------------------- refused, and carried


def test_a_denied_card_is_not_asked(counter: Counter, holder: Holder) -> None:
    for terminal, charge in charges(counter):
        deny(counter, terminal, holder)
        tapped = Wiretap()
        result = hold(terminal, holder, charge(), wrap=tapped)
        assert result.outcome is Outcome.DECLINED
        assert WORDS in result.reason
        assert (result.sale is not None) == (terminal.profile == RETAIL)
        assert m.INS_PAY not in instructions(tapped)
        assert terminal.journal.unresolved() == []
        assert taken(terminal, Kind.OWN_PAYMENT) == []
    assert (holder.balance_fen, holder.sequence) == (20_000, 1)


def test_another_card_is_asked(counter: Counter, mill: Mill, holder: Holder) -> None:
    other = Holder(mill.new_blank())
    for terminal, charge in charges(counter):
        deny(counter, terminal, other)
        assert hold(terminal, holder, charge()).granted


def test_a_card_that_was_known_is_looked_up_again(counter: Counter, holder: Holder) -> None:
    for terminal, charge in charges(counter):
        assert hold(terminal, holder, charge()).granted
        deny(counter, terminal, holder)
        assert hold(terminal, holder, charge()).outcome is Outcome.DECLINED


def test_its_records_are_carried(counter: Counter, holder: Holder) -> None:
    """Read, verified, kept, ratified, apart from what was paid here."""
    other = counter.shop(merchant=9)
    know(other, holder)
    for amount_fen in (100, 200, 300):
        hold(other, holder, other.new_sale(amount_fen), tear=(PAY_KNOWN, "after"))
        other.give_up(other.journal.unresolved()[0].reference, "gone")
    for terminal, charge in charges(counter):
        copy = Holder(holder.copy())
        assert copy.unratified == 3
        deny(counter, terminal, copy)
        result = hold(terminal, copy, charge())
        assert (result.outcome, result.carried) == (Outcome.DECLINED, 3)
        assert taken(terminal, Kind.CARRIED) == [record.raw for record in holder.records]
        assert taken(terminal, Kind.OWN_PAYMENT) == []
        assert copy.unratified == 0
        assert copy.balance_fen == holder.balance_fen


def test_a_record_that_does_not_verify_is_not_kept(counter: Counter, holder: Holder) -> None:
    other, shop = counter.shop(merchant=9), counter.shop()
    know(other, holder)
    hold(other, holder, other.new_sale(100), tear=(PAY_KNOWN, "after"))
    deny(counter, shop, holder)

    def alter(command: bytes, reply: bytes) -> bytes:
        if command[1] == m.INS_READ_RECORD and len(reply) > RECORD_LENGTH:
            return reply[:51] + bytes((reply[51] ^ 1,)) + reply[52:]  # the amount
        return reply

    result = hold(shop, holder, shop.new_sale(300), wrap=Wiretap(alter))
    assert (result.outcome, result.carried) == (Outcome.DECLINED, 0)
    assert taken(shop, Kind.CARRIED) == []
    assert holder.unratified == 1


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("exchange", range(1, 8))
def test_torn_anywhere_it_is_carried_next_time(
    counter: Counter, holder: Holder, exchange: int, moment: str
) -> None:
    other, shop = counter.shop(merchant=9), counter.shop()
    know(other, holder)
    for amount_fen in (100, 200):
        hold(other, holder, other.new_sale(amount_fen), tear=(PAY_KNOWN, "after"))
        other.give_up(other.journal.unresolved()[0].reference, "gone")
    deny(counter, shop, holder)
    know(shop, holder)
    torn = hold(shop, holder, shop.new_sale(300), tear=(exchange, moment))  # type: ignore[arg-type]
    assert not torn.granted
    kept = taken(shop, Kind.CARRIED)
    assert len(kept) >= 2 - holder.unratified  # nothing was ratified that is not kept
    assert hold(shop, holder, shop.new_sale(300)).outcome is Outcome.DECLINED
    assert taken(shop, Kind.CARRIED) == [record.raw for record in holder.records]
    assert holder.unratified == 0
    assert holder.balance_fen == 20_000 - 300


@pytest.mark.parametrize("state", ["new", "allowance", "full", "unknown certificate"])
def test_no_remedy_leads_around_the_list(counter: Counter, holder: Holder, state: str) -> None:
    """Whatever the card would ask for before it pays."""
    shop, bus = counter.shop(), counter.bus()
    if state in ("allowance", "full"):
        know(bus, holder)
        for _ in range(8 if state == "full" else 4):
            hold(bus, holder, counter.fare(), tear=(3, "before"))
    if state == "unknown certificate":
        for number in range(9):
            know(counter.shop(merchant=20 + number), holder)
    before = holder.balance_fen, holder.sequence
    for terminal, charge in ((shop, shop.new_sale(300)), (bus, counter.fare())):
        deny(counter, terminal, holder)
        tapped = Wiretap()
        assert hold(terminal, holder, charge, wrap=tapped).outcome is Outcome.DECLINED
        assert m.INS_PAY not in instructions(tapped)
    assert (holder.balance_fen, holder.sequence) == before
    assert holder.unratified == 0


# ---------------------------------------------------------------------- it had paid before the list came


def torn_sale(counter: Counter, shop: Terminal, holder: Holder) -> Charge:
    know(shop, holder)
    sale = shop.new_sale(300)
    assert hold(shop, holder, sale, tear=(PAY_KNOWN, "after")).outcome is Outcome.UNRESOLVED
    deny(counter, shop, holder)
    return sale


def test_a_torn_sale_that_it_had_paid_is_kept_and_not_granted(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    sale = torn_sale(counter, shop, holder)
    tapped = Wiretap()
    lights: list[Tap] = []
    result = hold(shop, holder, sale, wrap=tapped, decided=lights.append)
    assert result.outcome is Outcome.PAID_NOT_GRANTED
    assert WORDS in result.reason
    assert [light.granted for light in lights] == [False]
    assert m.INS_PAY not in instructions(tapped)
    assert taken(shop, Kind.OWN_PAYMENT) == [record.raw for record in holder.records]
    assert shop.journal.unresolved() == []
    assert result.sale is not None
    kept = shop.journal.sale(result.sale.reference)
    assert kept is not None
    assert kept.state is SaleState.PAID_NOT_GRANTED
    assert holder.unratified == 0
    again = hold(shop, holder, sale)
    assert again.outcome is Outcome.PAID_NOT_GRANTED
    assert holder.balance_fen == 20_000 - 300


def test_a_torn_sale_whose_record_was_carried_elsewhere_stays_open(counter: Counter, holder: Holder) -> None:
    """The card shows nothing any more: nobody says *no*, the cashier gives the sale up."""
    shop, other = counter.shop(), counter.shop(merchant=9)
    sale = torn_sale(counter, shop, holder)
    assert hold(other, holder, other.new_sale(50)).carried == 1
    result = hold(shop, holder, sale)
    assert result.outcome is Outcome.UNRESOLVED
    assert "give the sale up" in result.reason
    waiting = shop.journal.unresolved()
    assert len(waiting) == 1
    shop.give_up(waiting[0].reference, "denied")
    assert holder.balance_fen == 20_000 - 350


def test_a_torn_sale_that_it_had_not_paid(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(300)
    assert hold(shop, holder, sale, tear=(PAY_KNOWN, "before")).outcome is Outcome.UNRESOLVED
    deny(counter, shop, holder)
    assert hold(shop, holder, sale).outcome is Outcome.UNRESOLVED
    assert holder.balance_fen == 20_000


def test_a_denied_card_instead_of_the_one_that_was_asked(
    counter: Counter, mill: Mill, holder: Holder
) -> None:
    """It is told from the card that is wanted; what it holds is carried all the same."""
    shop, other = counter.shop(), counter.shop(merchant=9)
    know(shop, holder)
    sale = shop.new_sale(300)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    denied = Holder(mill.new_blank())
    know(other, denied)
    hold(other, denied, other.new_sale(100), tear=(PAY_KNOWN, "after"))
    deny(counter, shop, denied)
    result = hold(shop, denied, sale)
    assert (result.outcome, result.carried) == (Outcome.OTHER_CARD, 1)
    assert denied.unratified == 0
    assert hold(shop, holder, sale).granted


def test_a_torn_ride_that_it_had_paid_is_kept_and_not_granted(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    assert hold(bus, holder, counter.fare()).granted
    ride = counter.fare()
    assert hold(bus, holder, ride, tear=(PAY_KNOWN, "after")).outcome is Outcome.UNRESOLVED
    deny(counter, bus, holder)
    result = hold(bus, holder, ride)
    assert (result.outcome, result.carried) == (Outcome.DECLINED, 1)
    raw = holder.records[-1].raw
    assert taken(bus, Kind.OWN_PAYMENT)[-1] == raw
    states = [entry.payload[0] for entry in journal_of(bus).entries(1, 99) if entry.kind == Kind.OWN_PAYMENT]
    assert states == [SaleState.GRANTED, SaleState.PAID_NOT_GRANTED]


def test_what_was_granted_before_stays_granted(counter: Counter, holder: Holder) -> None:
    """The light was green before the list came: nothing changes about that."""
    bus = counter.bus()
    assert hold(bus, holder, counter.fare()).granted
    ride = counter.fare()
    assert hold(bus, holder, ride, tear=(3, "before")).granted
    deny(counter, bus, holder)
    assert hold(bus, holder, ride).outcome is Outcome.DECLINED
    stored = bus.journal.payment(holder.number, holder.sequence)
    assert stored is not None
    assert stored.granted
    assert holder.unratified == 0


# ---------------------------------------------------------------------- refunds


def give_back(terminal: Terminal, holder: Holder, wanted: object, tear: int = 0) -> Tap:
    holder.reader.present()
    holder.reader.tear_at(tear, "after" if tear else "before")
    link = holder.reader.wait_for_card(0)
    try:
        return refund(terminal, link, wanted)  # type: ignore[arg-type]
    finally:
        link.close()
        holder.reader.remove()


def test_a_denied_card_gets_no_refund(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    assert hold(shop, holder, shop.new_sale(300)).granted
    wanted = Refund(holder.number, holder.sequence, 100)
    deny(counter, shop, holder)
    result = give_back(shop, holder, wanted)
    assert result.outcome is Outcome.DECLINED
    assert "online" in result.reason
    assert holder.balance_fen == 20_000 - 300
    assert shop.journal.unresolved() == []


def test_no_list_no_refund(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    assert hold(shop, holder, shop.new_sale(300)).granted
    shop.denylists = Denylists()
    assert give_back(shop, holder, Refund(holder.number, holder.sequence, 100)).outcome is Outcome.DECLINED
    assert holder.balance_fen == 20_000 - 300


def test_a_torn_refund_of_a_denied_card_is_not_tried_again(counter: Counter, holder: Holder) -> None:
    """Its receipt, if it had been credited, is carried."""
    shop = counter.shop()
    assert hold(shop, holder, shop.new_sale(300)).granted
    for exchange in range(2, 7):
        if (
            give_back(shop, holder, Refund(holder.number, 2, 100), tear=exchange).outcome
            is Outcome.UNRESOLVED
        ):
            break
    (waiting,) = shop.journal.unresolved()
    deny(counter, shop, holder)
    before = holder.balance_fen
    result = give_back(shop, holder, waiting)
    assert result.outcome is Outcome.UNRESOLVED
    assert holder.balance_fen == before
    assert holder.unratified == 0
    shop.give_up(waiting.reference, "denied")


# ---------------------------------------------------------------------- no list, an old list


@pytest.mark.parametrize("operator", [None, b"\x00\x00\x01\x02"])
def test_a_missing_list_is_not_an_empty_one(
    counter: Counter, mill: Mill, holder: Holder, operator: bytes | None
) -> None:
    empty = mill.denylist()
    lists = [Denylist(empty.scheme, operator, 1, NOW, empty.numbers)] if operator else []
    for terminal, charge in charges(counter):
        terminal.denylists = Denylists(lists)
        tapped = Wiretap()
        result = hold(terminal, holder, charge(), wrap=tapped)
        assert result.outcome is Outcome.DECLINED
        assert ISSUER.hex() in result.reason
        assert "hardwallet denylist import" in result.reason
        assert m.INS_PAY not in instructions(tapped)
        terminal.denylists = mill.empty_denylists()
        assert hold(terminal, holder, charge()).granted


def test_a_card_whose_number_is_not_its_issuers(counter: Counter, mill: Mill, holder: Holder) -> None:
    """It would be looked for in one list, and could be named by another only."""
    blank = mill.with_certificate(mill.blank(), subject=b"\x00\x00\x01\x02" + holder.number[4:] + bytes(4))
    stranger = Holder(blank)
    for terminal, charge in charges(counter):
        result = hold(terminal, stranger, charge())
        assert result.outcome is Outcome.DECLINED
        assert "not one of its issuer's" in result.reason
    assert stranger.sequence == 1


@pytest.mark.parametrize(
    ("age_s", "allowed_fen", "refused_fen"),
    [
        (-DAY_S, 10_000, None),
        (-DAY_S - 1, None, 1),
        (0, 10_000, None),
        (7 * DAY_S, 10_000, None),
        (7 * DAY_S + 1, 5_000, 5_001),
        (30 * DAY_S, 5_000, 5_001),
        (30 * DAY_S + 1, None, 1),
    ],
)
def test_an_old_list_tightens_and_then_stops(
    counter: Counter, holder: Holder, age_s: int, allowed_fen: int | None, refused_fen: int | None
) -> None:
    shop, bus = counter.shop(), counter.bus()
    for terminal in (shop, bus):
        assert isinstance(terminal.denylists, Denylists)
        terminal.denylists.take(counter.mill.denylist(version=2, time_s=counter.time.now - age_s))
    for terminal in (shop, bus):
        if refused_fen is not None:
            charge: Charge = shop.new_sale(refused_fen) if terminal is shop else counter.fare(refused_fen)
            result = hold(terminal, holder, charge)
            assert result.outcome is Outcome.DECLINED
            assert WORDS in result.reason
        if allowed_fen is not None:
            charge = shop.new_sale(allowed_fen) if terminal is shop else counter.fare(allowed_fen)
            result = hold(terminal, holder, charge)
            assert WORDS not in result.reason
            assert result.granted == (terminal is shop or allowed_fen <= 5_000)


def test_the_words_for_an_old_list() -> None:
    limits = TerminalLimits()
    tightened = stale_refusal(limits, 5_001, 9 * DAY_S)
    stopped = stale_refusal(limits, 1, 31 * DAY_S + 5)
    assert tightened is not None
    assert stopped is not None
    assert "9 days old" in tightened
    assert "50.00" in tightened
    assert "31 days old" in stopped
    assert stale_refusal(limits, 5_000, 9 * DAY_S) is None
    assert stale_refusal(limits, 10**6, 0) is None
    ahead = stale_refusal(limits, 1, -2 * DAY_S)
    assert ahead is not None
    assert "clock" in ahead


def test_the_settings_count(counter: Counter, holder: Holder) -> None:
    limits = TerminalLimits(denylist_tighten_s=10, denylist_stop_s=100, stale_single_fen=7)
    shop = counter.shop(limits=limits)
    counter.time.now = NOW + 11
    assert hold(shop, holder, shop.new_sale(8)).outcome is Outcome.DECLINED
    assert hold(shop, holder, shop.new_sale(7)).granted
    counter.time.now = NOW + 101
    assert hold(shop, holder, shop.new_sale(1)).outcome is Outcome.DECLINED


def test_a_torn_sale_under_an_old_list_stays_open(counter: Counter, holder: Holder) -> None:
    """It is not told as a *no*, and goes on as soon as there is a list."""
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(300)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    shop.denylists = Denylists()
    assert hold(shop, holder, sale).outcome is Outcome.UNRESOLVED
    assert holder.unratified == 1
    shop.denylists = counter.mill.empty_denylists()
    result = hold(shop, holder, sale)
    assert result.granted
    assert result.recovered


def test_records_are_carried_under_an_old_list(counter: Counter, holder: Holder) -> None:
    other, bus = counter.shop(merchant=9), counter.bus()
    know(other, holder)
    hold(other, holder, other.new_sale(100), tear=(PAY_KNOWN, "after"))
    bus.denylists = Denylists()
    assert hold(bus, holder, counter.fare()).carried == 1
    assert holder.unratified == 0


# ---------------------------------------------------------------------- lists never go back


def test_a_list_never_goes_back(mill: Mill, holder: Holder) -> None:
    held = Denylists([mill.denylist(version=3)])
    for version, cards, time_s in ((2, [holder.number], NOW), (3, [holder.number], NOW), (3, [], NOW + 1)):
        with pytest.raises(DenylistRefused) as raised:
            held.take(mill.denylist(*cards, version=version, time_s=time_s))
        assert raised.value.code == "older"
    assert held.take(mill.denylist(version=3)) is held.of(ISSUER)
    assert held.take(mill.denylist(holder.number, version=4)) is held.of(ISSUER)
    assert [one.version for one in held.held] == [4]


def test_lists_of_two_issuers_stand_beside_each_other(mill: Mill, holder: Holder) -> None:
    ours = mill.denylist(holder.number)
    other = Denylist(ours.scheme, b"\x00\x00\x01\x02", 9, NOW, mill.denylist().numbers)
    held = Denylists([ours])
    held.take(other)
    assert held.held == [ours, other]
    assert held.of(ISSUER) is ours


def test_the_ride_is_the_same_vehicle(counter: Counter) -> None:
    """What the rides of these tests name."""
    assert counter.fare().vehicle == VEHICLE
    assert counter.bus().identity.certificate.klass == CLASS_TRANSIT
