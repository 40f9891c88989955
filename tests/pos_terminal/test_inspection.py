"""An inspector taps a card: what it shows, what it may not pretend, and that nothing changes."""

from collections.abc import Iterator

import pytest

from firmware_bridge.link import CardLink
from hardwallet import messages as m
from hardwallet.certificates import CLASS_TRANSIT
from hardwallet.riders import Rider
from pos_terminal.inspection import Inspection, inspect
from tests.pos_terminal.bench import Counter, Holder, Mill, Wrap, journal_of
from tests.pos_terminal.buses import Bus, bus_on, rider
from tests.pos_terminal.test_denylist import deny, instructions
from tests.pos_terminal.wiretap import Wiretap


@pytest.fixture
def bus(counter: Counter) -> Iterator[Bus]:
    """A bus on the flat line."""
    with bus_on(counter) as made:
        yield made


def look(bus: Bus, holder: Holder, wrap: Wrap = lambda link: link, *, tear: int = 0) -> Inspection:
    holder.reader.present()
    holder.reader.tear_at(tear, "before")
    link: CardLink = wrap(holder.reader.wait_for_card(0))
    try:
        return inspect(bus.terminal, link, bus.run)
    finally:
        link.close()
        holder.reader.remove()


def test_who_has_not_tapped(bus: Bus, mill: Mill) -> None:
    found = look(bus, rider(mill, Rider.STUDENT))
    assert (found.tapped, found.passengers, found.may_ride) == (False, 0, False)
    assert (found.rider, found.genuine, found.reason) == (Rider.STUDENT, True, "")
    assert (found.time_s, found.amount_fen, found.balance_fen) == (None, None, 20_000)


def test_who_has_tapped_for_two(bus: Bus, mill: Mill, counter: Counter) -> None:
    holder = rider(mill, Rider.STUDENT)
    bus.tap(holder)
    counter.time.now += 60
    bus.run.for_one_more()
    bus.tap(holder)
    found = look(bus, holder)
    assert (found.tapped, found.passengers, found.may_ride) == (True, 1, True)
    assert (found.time_s, found.amount_fen, found.balance_fen) == (counter.time.now, 200, 19_700)


def test_a_companion_is_not_the_rider(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.STUDENT)
    bus.run.for_one_more()
    bus.tap(holder)
    found = look(bus, holder)
    assert (found.tapped, found.passengers, found.may_ride) == (False, 1, False)


def test_a_free_ride_counts_and_ends_with_its_run(bus: Bus, mill: Mill) -> None:
    holder, paying = rider(mill, Rider.SENIOR), rider(mill, Rider.ADULT)
    bus.tap(holder)
    bus.tap(paying)
    bus.restart()
    found = look(bus, holder)
    assert (found.tapped, found.amount_fen, found.may_ride) == (True, None, True)
    bus.runs.end()
    bus.runs.begin("7", "out")
    assert not look(bus, holder).tapped
    assert not look(bus, paying).tapped


def test_what_another_validator_took_is_on_the_card(counter: Counter, mill: Mill) -> None:
    front, rear = (Bus(counter, mill.identity(CLASS_TRANSIT, 6)) for _ in range(2))
    elsewhere = Bus(counter, mill.identity(CLASS_TRANSIT, 7))
    for one in (front, rear, elsewhere):
        one.runs.begin("7", "out", 5)
    holder, other = rider(mill, Rider.ADULT), rider(mill, Rider.ADULT)
    front.tap(holder)
    elsewhere.tap(other)
    assert (look(rear, holder).tapped, look(rear, holder).amount_fen) == (True, 200)
    assert not look(rear, other).tapped  # the same ride by name, but paid to another operator
    for one in (front, rear, elsewhere):
        one.runs.close()


def test_a_tap_that_broke_off_is_told_and_can_be_finished(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    bus.torn(holder)
    found = look(bus, holder)
    assert (found.tapped, found.torn, found.may_ride) == (False, True, False)
    assert bus.tap(holder).granted
    found = look(bus, holder)
    assert (found.tapped, found.torn) == (True, False)


def test_what_was_not_granted_is_no_ride(bus: Bus, mill: Mill, counter: Counter) -> None:
    """Torn, and then carried from a card that may not ride."""
    holder = rider(mill, Rider.ADULT)
    bus.torn(holder)
    deny(counter, bus.terminal, holder)
    assert bus.tap(holder).carried == 1
    found = look(bus, holder)
    assert (found.tapped, found.passengers, found.torn, found.denied) == (False, 0, False, True)


def test_denied_or_blocked(bus: Bus, mill: Mill, counter: Counter) -> None:
    denied, blocked = rider(mill, Rider.ADULT), rider(mill, Rider.ADULT)
    for holder in (denied, blocked):
        assert bus.tap(holder).granted
    deny(counter, bus.terminal, denied)
    state = blocked.memory.state()
    blocked.memory.commit(state.changed(flags=state.flags | 1).to_bytes())
    found = look(bus, denied)
    assert (found.tapped, found.denied, found.blocked, found.may_ride) == (True, True, False, False)
    found = look(bus, blocked)
    assert (found.tapped, found.denied, found.blocked, found.may_ride) == (True, False, True, False)


def test_a_copy_is_not_genuine(bus: Bus, mill: Mill) -> None:
    """It shows the certificate and the records of a card that has tapped; it can't sign."""
    holder = rider(mill, Rider.ADULT)
    bus.tap(holder)
    forged = Wiretap(
        lambda command, reply: bytes(64) + b"\x90\x00" if command[1] == m.INS_INTERNAL_AUTHENTICATE else reply
    )
    found = look(bus, holder, forged)
    assert (found.tapped, found.genuine, found.may_ride) == (True, False, False)
    assert "copy" in found.reason


def test_a_card_that_leaves_shows_what_was_seen_until_there(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    bus.tap(holder)
    for exchange in (1, 2, 3, 4, 5):
        found = look(bus, holder, tear=exchange)
        assert found.reason
        assert found.genuine == (exchange > 2)
        assert found.tapped == (exchange > 1)
    assert look(bus, holder, tear=9).reason == ""


def test_nothing_changes(bus: Bus, mill: Mill) -> None:
    """Neither on the card, nor in the journal; a card that is new here is not kept."""
    holder, stranger = rider(mill, Rider.ADULT), rider(mill, Rider.ADULT)
    bus.tap(holder)
    bus.torn(stranger)
    known = dict(bus.terminal.known_cards)
    before = [(one.memory.image(), journal_of(bus.terminal).head()) for one in (holder, stranger)]
    states = [one.memory.state() for one in (holder, stranger)]
    tapped = Wiretap()
    for one in (holder, stranger):
        look(bus, one, tapped)
    changed = {m.INS_PAY, m.INS_RATIFY, m.INS_ORDER, m.INS_LOAD, m.INS_REFUND}
    assert not changed & set(instructions(tapped))
    for one, state in zip((holder, stranger), states, strict=True):
        after = one.memory.state()
        assert (after.balance_fen, after.sequence, after.unratified) == (
            state.balance_fen,
            state.sequence,
            state.unratified,
        )
    assert [head for _, head in before] == [journal_of(bus.terminal).head()] * 2
    assert bus.terminal.known_cards == known
