"""A terminal at work behind a screen: what it tells in which order, and what it takes."""

from collections.abc import Iterator

import pytest

from fleet.station import Ask, Asked, CardSeen, Decided, Done, Removed, Sell, Unwanted, Waiting
from fleet.world import World, WorldCard
from pos_terminal.tap import Outcome
from tests.fleet.stations import Bench, running


@pytest.fixture
def card(world: World) -> WorldCard:
    return world.cards["card"]


@pytest.fixture
def till(world: World, card: WorldCard) -> Iterator[Bench]:
    with running(world.terminals["shop"].session, card.card) as bench:
        yield bench


def test_a_sale_tells_each_step_and_ends(till: Bench, card: WorldCard) -> None:
    assert till.station.want(Sell(1250))
    till.heard.next(Waiting)
    till.reader.present()
    till.heard.next(CardSeen)
    decided = till.heard.next(Decided)
    assert (decided.tap.outcome, decided.tap.ratified) == (Outcome.GRANTED, False)
    done = till.heard.next(Done)
    assert done.tap.ratified
    assert till.station.task is None
    till.reader.remove()
    till.heard.next(Removed)
    assert card.balance_fen == 20_000 - 1_250


def test_a_card_that_nobody_asked_for_is_asked_once_somebody_does(till: Bench, card: WorldCard) -> None:
    till.reader.present()
    till.heard.next(Unwanted)
    assert till.station.want(Ask())
    assert till.heard.next(Asked).inquiry.balance_fen == 20_000
    assert till.station.want(Sell(100))
    till.reader.remove()
    till.heard.next(Removed)
    assert till.heard.of(Decided) == []
    till.reader.present()
    assert till.heard.next(Decided).tap.granted
