"""The in-process reader: cards come and go, tears fall where they were ordered, waits end when asked to."""

import threading
from collections.abc import Callable

import pytest

from firmware_bridge.errors import BridgeError, Cancelled, CardGone, Garbled, NoCard, ReaderGone, TooManyCards
from firmware_bridge.virtual.in_process import InProcessReader
from firmware_bridge.virtual.tear import TearMoment
from tests.firmware_bridge.cards import ECHO_ATR, EchoCard

ECHO = bytes.fromhex("80100000021234")
COUNT = bytes.fromhex("8016000000")


def test_a_card_that_is_there_answers_at_once() -> None:
    card = EchoCard()
    link = InProcessReader(card, "sim:x").wait_for_card(0)
    assert link.atr == ECHO_ATR
    assert link.transmit(ECHO) == bytes.fromhex("12349000")
    assert card.events == ["on"]


def test_each_session_starts_fresh() -> None:
    card = EchoCard()
    reader = InProcessReader(card)
    first = reader.wait_for_card(0)
    first.transmit(COUNT)
    assert first.transmit(COUNT) == b"\x02\x90\x00"
    first.close()
    assert reader.wait_for_card(0).transmit(COUNT) == b"\x01\x90\x00"
    assert card.events == ["on", "reset"]


def test_an_old_link_is_of_no_use_beside_a_new_one() -> None:
    reader = InProcessReader(EchoCard())
    old = reader.wait_for_card(0)
    reader.wait_for_card(0)
    with pytest.raises(CardGone):
        old.transmit(ECHO)


def test_unpower_cuts_the_power() -> None:
    card = EchoCard()
    reader = InProcessReader(card)
    link = reader.wait_for_card(0)
    link.close(unpower=True)
    link.close(unpower=True)
    assert card.events == ["on", "off"]
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    assert reader.wait_for_card(0).transmit(COUNT) == b"\x01\x90\x00"


def test_of_two_cards_none_is_spoken_to_until_one_is_left() -> None:
    card = EchoCard()
    reader = InProcessReader(card, present=False)
    reader.crowd()
    with pytest.raises(TooManyCards):
        reader.wait_for_card(0)
    assert card.events == []
    assert not reader.wait_for_removal(0)
    reader.leave_one()
    assert reader.wait_for_card(0).transmit(ECHO)[-2:] == b"\x90\x00"
    reader.crowd(EchoCard())
    reader.remove()
    with pytest.raises(NoCard):
        reader.wait_for_card(0)


def test_a_second_card_does_not_end_the_session_with_the_first() -> None:
    reader = InProcessReader(EchoCard())
    link = reader.wait_for_card(0)
    reader.crowd()
    assert link.transmit(ECHO)[-2:] == b"\x90\x00"
    with pytest.raises(TooManyCards):
        reader.wait_for_card(0)


def test_a_card_that_took_anothers_place_is_no_removal_missed() -> None:
    reader = InProcessReader(EchoCard())
    reader.wait_for_card(0)
    assert not reader.wait_for_removal(0)
    reader.present(EchoCard())
    assert reader.wait_for_removal(0)
    reader.wait_for_card(0)
    assert not reader.wait_for_removal(0)


def test_no_card_in_time() -> None:
    reader = InProcessReader(EchoCard(), present=False)
    with pytest.raises(NoCard):
        reader.wait_for_card(0)
    assert reader.wait_for_removal(0)


def test_a_removed_card_is_gone_and_comes_back() -> None:
    card = EchoCard()
    reader = InProcessReader(card)
    link = reader.wait_for_card(0)
    assert not reader.wait_for_removal(0)
    reader.remove()
    assert reader.wait_for_removal(0)
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    reader.present()
    reader.wait_for_card(0).transmit(ECHO)
    assert card.events == ["on", "off", "on"]


def test_another_card_can_be_presented() -> None:
    first, second = EchoCard(), EchoCard()
    reader = InProcessReader(first)
    reader.wait_for_card(0)
    reader.present(second)
    reader.wait_for_card(0).transmit(ECHO)
    assert first.events == ["on", "off"]
    assert (first.executed, second.executed) == (0, 1)
    assert reader.card is second


@pytest.mark.parametrize(("when", "executed"), [("before", 2), ("after", 3)])
def test_a_tear_falls_where_it_was_ordered(when: TearMoment, executed: int) -> None:
    card = EchoCard()
    reader = InProcessReader(card)
    reader.tear_at(3, when)
    link = reader.wait_for_card(0)
    link.transmit(ECHO)
    link.transmit(ECHO)
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    assert card.executed == executed
    assert card.events == ["on", "off"]
    assert reader.exchanges == 3
    with pytest.raises(NoCard):
        reader.wait_for_card(0)
    reader.present()
    again = reader.wait_for_card(0)
    for _ in range(5):
        again.transmit(ECHO)


def test_a_tear_can_be_taken_back() -> None:
    reader = InProcessReader(EchoCard())
    reader.tear_at(1)
    reader.tear_at(0)
    assert reader.wait_for_card(0).transmit(ECHO)


def test_a_card_that_loses_power_at_work_is_gone() -> None:
    class Torn(EchoCard):
        def execute(self, command: bytes) -> bytes:
            raise CardGone("power lost at a memory write")

    card = Torn()
    reader = InProcessReader(card)
    link = reader.wait_for_card(0)
    with pytest.raises(CardGone, match="memory write"):
        link.transmit(ECHO)
    assert card.events == ["on", "off"]
    assert reader.wait_for_removal(0)


def test_an_answer_too_short_is_garbled() -> None:
    class Mute(EchoCard):
        def execute(self, command: bytes) -> bytes:
            return b"\x90"

    with pytest.raises(Garbled):
        InProcessReader(Mute()).wait_for_card(0).transmit(ECHO)


def test_replies_in_pieces_are_put_together() -> None:
    link = InProcessReader(EchoCard()).wait_for_card(0)
    assert link.transmit(bytes.fromhex("8012012C00")) == (bytes(range(256)) * 2)[:300] + b"\x90\x00"
    assert link.transmit(bytes.fromhex("8014000000")) == bytes(10) + b"\x90\x00"


def in_thread(work: Callable[[], object]) -> Callable[[], BridgeError | None]:
    """Starts `work`; what is returned joins it and gives what it raised."""
    raised: list[BridgeError] = []

    def run() -> None:
        try:
            work()
        except BridgeError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join() -> BridgeError | None:
        thread.join(10)
        assert not thread.is_alive()
        return raised[0] if raised else None

    return join


def test_cancel_and_close_end_waits() -> None:
    reader = InProcessReader(EchoCard(), present=False)
    join = in_thread(lambda: reader.wait_for_card(None))
    reader.cancel()
    assert isinstance(join(), Cancelled)
    join = in_thread(lambda: reader.wait_for_card(None))
    reader.close()
    assert isinstance(join(), Cancelled)


def test_a_cancel_beforehand_ends_the_next_wait_only() -> None:
    reader = InProcessReader(EchoCard())
    reader.cancel()
    with pytest.raises(Cancelled):
        reader.wait_for_card(0)
    reader.wait_for_card(0)


def test_a_waiting_reader_sees_the_card_come() -> None:
    reader = InProcessReader(EchoCard(), present=False)
    join = in_thread(lambda: reader.wait_for_card(10).transmit(ECHO))
    reader.present()
    assert join() is None


def test_closing_lets_the_card_go_once() -> None:
    closed: list[bool] = []
    card = EchoCard()
    reader = InProcessReader(card, on_close=lambda: closed.append(True))
    link = reader.wait_for_card(0)
    reader.close()
    reader.close()
    assert closed == [True]
    assert card.events == ["on", "off"]
    with pytest.raises(ReaderGone):
        link.transmit(ECHO)
    with pytest.raises(Cancelled):
        reader.wait_for_card(0)
