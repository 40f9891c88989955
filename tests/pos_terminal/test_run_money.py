"""Taps, tears, presses, stops and power cuts in any order: each ride is debited once, and counted."""

import random

import pytest

from hardwallet.records import PAYMENT
from hardwallet.riders import Rider
from pos_terminal.tap import Outcome
from tests.pos_terminal.bench import Counter, Holder, Mill, journal_of
from tests.pos_terminal.buses import Bus, rider

CLASSES = (Rider.ADULT, Rider.STUDENT, Rider.SENIOR, Rider.REDUCED)


def spent(holder: Holder) -> list[tuple[bytes, int]]:
    """Reference and amount of every payment of the card."""
    records = holder.card.journal_records()
    return [(record.reference, record.amount_fen) for record in records if record.kind == PAYMENT]


def act(bus: Bus, holders: list[Holder], chance: random.Random) -> None:
    """Whatever happens next on the bus."""
    holder = chance.choice(holders)
    match chance.choice(("tap", "tap", "tap", "torn", "leaves", "more", "no more", "on", "to", "cut")):
        case "tap":
            bus.tap(holder)
        case "torn":
            bus.torn(holder)
        case "leaves":
            bus.tap(holder, torn=chance.randrange(1, 7))
        case "more":
            bus.run.for_one_more()
        case "no more":
            bus.run.for_no_more()
        case "on":
            bus.run.go_on()
        case "to":
            bus.run.set_destination(chance.randrange(len(bus.run.destinations)))
        case "cut":
            bus.restart()


@pytest.mark.parametrize("seed", range(6))
def test_each_ride_is_debited_once_and_counted(counter: Counter, mill: Mill, seed: int) -> None:
    chance = random.Random(seed)
    bus = Bus(counter)
    bus.runs.begin(chance.choice(("7", "101")), "out")
    holders = [rider(mill, klass) for klass in CLASSES]
    for _ in range(40):
        act(bus, holders, chance)
        for holder in holders:
            named = [reference for reference, _ in spent(holder)]
            assert len(set(named)) == len(named), "a ride was debited twice"
    bus.run.for_no_more()
    for holder in holders:
        for _ in range(2):  # what is torn is finished, what nobody asks for is carried
            assert bus.tap(holder).outcome in (Outcome.GRANTED, Outcome.ALREADY_GRANTED)
        assert holder.memory.state().unratified == []
    debited = sum(amount_fen for holder in holders for _, amount_fen in spent(holder))
    journal, returned = journal_of(bus.terminal), 0
    for holder in holders:
        for record in holder.card.journal_records():
            if record.kind == PAYMENT:
                stored = journal.payment(record.card, record.sequence)
                assert stored is not None
                assert stored.own
                returned += 0 if stored.granted else record.amount_fen
    counts = bus.run.counts
    assert counts.amount_fen + returned == debited
    bus.restart()
    assert (bus.run.counts.riders, bus.run.counts.amount_fen) == (counts.riders, counts.amount_fen)
    for holder in holders:
        assert bus.run.passengers_of(holder.number)[0]
    bus.runs.close()
