"""Every outcome has a word in both languages, a symbol, a style with colours, and a count of bells."""

from collections.abc import Iterator

import pytest

from fleet.station_events import Board, Decided, Sell
from pos_terminal.terminal import Charge
from pos_terminal.visit import Outcome, Tap
from tui import signals
from tui.text import language, say, set_language


@pytest.fixture(params=["en", "zh"])
def spoken(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each language in turn."""
    before = language()
    set_language(request.param)
    yield request.param
    set_language(before)


def no_charge() -> Charge:
    """Never asked for here."""
    raise NotImplementedError


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("refund", [False, True])
def test_each_outcome_is_seen_and_heard(outcome: Outcome, refund: bool, spoken: str) -> None:
    signal = signals.signal_of(outcome, refund=refund)
    assert signal.word
    assert signal.word.isascii() is (spoken == "en")
    assert len(signal.symbol) == 1
    assert signal.style in signals.STYLES
    assert 1 <= signal.bells <= 4
    assert signal.message_id == outcome.message_id


def test_no_two_meanings_sound_or_look_alike() -> None:
    by_style: dict[str, set[int]] = {}
    for outcome in Outcome:
        signal = signals.signal_of(outcome)
        by_style.setdefault(signal.style, set()).add(signal.bells)
    assert by_style[signals.APPROVED] == {1}
    assert by_style[signals.REFUSED] == {2}
    assert by_style[signals.AGAIN] == {3}
    assert by_style[signals.ASKING] == {4}
    approved = [outcome for outcome in Outcome if signals.signal_of(outcome).bells == 1]
    assert approved == [Outcome.GRANTED], "one bell: this card paid now, and no other way"


def test_words_tell_paid_from_not_paid() -> None:
    words = {outcome: signals.signal_of(outcome).word for outcome in Outcome}
    assert len(set(words.values())) == len(words)
    assert words[Outcome.GRANTED] == "Approved"
    assert signals.signal_of(Outcome.DECLINED, refund=True).word == "Not refunded"
    set_language("zh")
    try:
        assert signals.signal_of(Outcome.GRANTED).word == "已批准"
        assert say("Not paid") == "未付款"
    finally:
        set_language("en")


@pytest.mark.parametrize("outcome", [Outcome.PIN_WANTED, Outcome.PIN_WRONG])
def test_a_card_that_wants_a_pin_on_a_bus_has_not_paid(outcome: Outcome) -> None:
    """As it is shown, so it sounds."""
    assert signals.signal_of(outcome, fare=True) == signals.signal_of(Outcome.DECLINED)
    assert signals.bells_of(Decided(Board(no_charge), Tap(outcome))) == signals.BELLS_STOP
    assert signals.bells_of(Decided(Sell(100), Tap(outcome))) == signals.BELLS_ASK


def test_the_reader_has_signals_too() -> None:
    found = [signals.present_card(), signals.processing(), signals.one_card_only()]
    assert [signal.message_id for signal in found] == [0x15, 0x16, 0x19]
    assert [signal.bells for signal in found] == [0, 0, 3]
