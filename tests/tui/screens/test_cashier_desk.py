"""The till behind its screen: what each key and each event changes, and what is said. No Textual."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fleet.station_events import (
    Ask,
    Asked,
    CardSeen,
    Decided,
    Done,
    Fault,
    GiveBack,
    Health,
    ReaderChanged,
    Removed,
    Sell,
    Sending,
    Sent,
    TooMany,
    Unwanted,
    Waiting,
)
from hardwallet import status as sw
from pos_terminal.errors import JournalFailed
from pos_terminal.inquiry import Inquiry
from pos_terminal.refund import Refund
from pos_terminal.sale import SaleState
from pos_terminal.visit import Outcome
from tests.tui.screens.till_stage import (
    CARD,
    LOCKED,
    NOT_ENOUGH,
    Counter,
    a_refund_sale,
    a_sale,
    a_tap,
)
from tui.screens.cashier.amount import AmountEntry
from tui.screens.cashier.desk import Phase
from tui.screens.cashier.view import View, view_of
from tui.text import set_language

PIN = "271828"
REFUND = Refund(CARD, 9, 500)


@pytest.fixture
def till() -> Counter:
    return Counter()


def shown(till: Counter) -> View:
    return view_of(till.desk)


def said(till: Counter) -> str:
    view = shown(till)
    return "\n".join((view.headline, *view.lines, *view.hints))


# ---------------------------------------------------------------------------------------------- amounts


@pytest.mark.parametrize(
    ("keys", "text", "fen"),
    [
        ("12.50", "12.50", 1250),
        ("12,5", "12.5", 1250),
        ("12。5", "12.5", 1250),
        ("１２", "12", 1200),
        (".5", "0.5", 50),
        ("12.", "12.", 1200),
        ("0012", "0012", 1200),
        ("123⌫⌫", "1", 100),
        ("21474836.47", "21474836.47", 2_147_483_647),
    ],
)
def test_an_amount_is_typed_as_people_write_it(till: Counter, keys: str, text: str, fen: int) -> None:
    till.types(keys)
    assert till.desk.entry.text == text
    assert till.desk.entry.amount_fen() == fen
    assert till.desk.entry.problem == ""


@pytest.mark.parametrize(
    ("keys", "kept", "words"),
    [
        ("⏎", "", "Type an amount first"),
        ("0⏎", "0", "zero"),
        ("00.00⏎", "00.00", "zero"),
        ("1.234", "1.23", "Two digits after the dot"),
        ("1.234⏎", "1.23", "1.23 yuan: Enter if that is right"),
        ("12x5⏎", "125", "125.00 yuan: Enter if that is right"),
        ("999999991.5⏎", "99999999.5", "21474836.47"),
        ("1.2.", "1.2", "a dot already"),
        ("12x", "12", "digits and one dot only"),
        ("12-", "12", "digits and one dot only"),
        ("12元", "12", "digits and one dot only"),
        ("12٣", "12", "digits and one dot only"),
        ("99999999⏎", "99999999", "21474836.47"),
        ("999999999", "99999999", "too long"),
        ("21474836.48⏎", "21474836.48", "21474836.47"),
        ("6000⏎", "6000", "limit of 5000.00"),
    ],
)
def test_a_bad_amount_is_told_in_place_and_nothing_is_lost(
    till: Counter, keys: str, kept: str, words: str
) -> None:
    till.types(keys)
    view = shown(till)
    assert till.desk.entry.text == kept
    assert view.figures == (kept or "0")
    assert any(words in line for line in view.lines)
    assert view.symbol == "!", "never by colour alone"
    assert till.wanted == []
    till.types("⌫")
    assert shown(till).lines == ()


@pytest.mark.parametrize("pasted", ["1.234", "0", "12.50 12.50", "abc", "", "99999999999", "1e3", "12\n50"])
def test_a_bad_paste_changes_nothing(till: Counter, pasted: str) -> None:
    till.types("7.5")
    till.desk.paste(pasted)
    assert till.desk.entry.text == "7.5"
    assert shown(till).lines != ()


@pytest.mark.parametrize("look", ["1.234⏎⏎", "1.234⏎⌫3⏎", "1.234⌫3⏎", "1.23x⏎⏎", "9⌫x1.23⏎"])
def test_after_a_key_was_left_out_the_amount_is_looked_at_first(till: Counter, look: str) -> None:
    """Once: 1.234 in a hurry may have meant 12.34."""
    till.types(look[:-1])
    assert till.wanted == []
    till.types(look[-1])
    assert till.wanted == [Sell(123)]


def test_after_a_bad_paste_the_amount_is_looked_at_first(till: Counter) -> None:
    till.types("7.5")
    till.desk.paste("1.234")
    till.types("⏎")
    assert till.wanted == []
    till.desk.paste("1.23")
    till.types("⏎")
    assert till.wanted == [Sell(123)]


def test_a_good_paste_is_taken_whole(till: Counter) -> None:
    till.types("7.5")
    till.desk.paste(" 12,50\n")
    assert till.desk.entry.text == "12.50"


def test_too_much_stored_money_is_told_before_a_card_is_asked(till: Counter) -> None:
    till.stored_fen = 50_000_000
    till.types("5⏎")
    assert "too much money waits here" in said(till)
    assert till.wanted == []


def test_without_a_shift_nothing_is_sold_where_the_settings_want_one(till: Counter) -> None:
    till.shifts.required_and_missing = True
    till.types("5⏎")
    assert "press S" in said(till)
    assert till.wanted == []
    till.shifts.required_and_missing = False
    till.types("⏎")
    assert till.wanted == [Sell(500)]


def test_what_is_wrong_is_said_in_the_language_of_now() -> None:
    entry = AmountEntry()
    entry.type("x")
    english = entry.problem
    set_language("zh")
    assert entry.problem != english
    assert "金额" in entry.problem


# ---------------------------------------------------------------------------------------------- a sale


def test_a_sale_goes_through_and_the_next_digit_begins_the_next(till: Counter) -> None:
    till.types("12.50⏎")
    assert till.wanted == [Sell(1250)]
    assert till.phase is Phase.CARD
    assert shown(till).word == "Present the card"
    till.told(Waiting(Sell(1250)), CardSeen(Sell(1250)))
    assert shown(till).word == "Hold the card still"
    tap = a_tap(Outcome.GRANTED)
    till.told(Decided(Sell(1250), tap), Done(Sell(1250), tap), Removed())
    view = shown(till)
    assert (view.symbol, view.word, view.figures, view.style) == ("✓", "Approved", "12.50", "approved")
    assert "Balance left: CNY 187.50" in view.lines
    till.types("8")
    assert (till.phase, till.desk.entry.text) == (Phase.AMOUNT, "8")


def test_a_result_stands_until_a_key(till: Counter) -> None:
    till.types("12.50⏎")
    till.tapped(a_tap(Outcome.GRANTED))
    before = shown(till)
    till.told(Removed(), Waiting(Sell(1250)), Sending(1, 9), Sent(9, 0, 0, 0))
    assert shown(till) == before
    till.types("⎋")
    assert till.phase is Phase.AMOUNT


def test_what_is_printed_says_whether_it_was_granted(till: Counter) -> None:
    at_first = till.desk.printable
    assert at_first is None
    till.types("12.50⏎")
    till.tapped(a_tap(Outcome.GRANTED))
    granted = a_tap(Outcome.GRANTED).record
    assert till.desk.printable == (granted, SaleState.GRANTED)
    till.tapped(a_tap(Outcome.DECLINED, **NOT_ENOUGH))
    assert till.desk.printable == (granted, SaleState.GRANTED)
    till.tapped(a_tap(Outcome.PAID_NOT_GRANTED, record=granted))
    assert till.desk.printable == (granted, SaleState.PAID_NOT_GRANTED)


def test_a_journal_that_failed_is_told_before_a_card_is_asked(till: Counter) -> None:
    till.failure = JournalFailed("A write did not reach the disk")
    till.types("5⏎")
    assert "did not reach the disk" in said(till)
    assert till.wanted == []


def test_not_enough_shows_the_balance_and_enter_asks_another_card(till: Counter) -> None:
    till.types("12.50⏎")
    till.tapped(a_tap(Outcome.DECLINED, **NOT_ENOUGH))
    assert "Balance: CNY 3.00" in said(till)
    assert "CNY 9.50 is missing" in said(till)
    till.types("⏎")
    assert till.wanted == [Sell(1250), Sell(1250)]


def test_esc_asks_for_no_card_and_keeps_the_amount(till: Counter) -> None:
    till.types("12.50⏎⎋")
    assert till.wanted == [Sell(1250), None]
    assert (till.phase, till.desk.entry.text) == (Phase.AMOUNT, "12.50")
    till.told(Waiting(Sell(1250)))  # it was on its way already
    assert till.phase is Phase.AMOUNT
    till.types("⎋")
    assert till.desk.entry.text == ""


def test_keys_during_a_tap_change_nothing(till: Counter) -> None:
    till.types("12.50⏎")
    till.told(Waiting(Sell(1250)), CardSeen(Sell(1250)))
    till.station.willing = False
    till.types("99⏎⌫x⎋")
    till.desk.paste("1.00")
    till.desk.ask()
    till.desk.give_back(REFUND)
    assert till.phase is Phase.HOLD
    assert till.station.task == Sell(1250)
    till.told(Decided(Sell(1250), a_tap(Outcome.GRANTED)))
    assert shown(till).word == "Approved"


def test_what_is_typed_while_the_card_is_still_told_so_is_asked_for_afterwards(till: Counter) -> None:
    till.types("12.50⏎")
    tap = a_tap(Outcome.GRANTED)
    till.told(CardSeen(Sell(1250)), Decided(Sell(1250), tap))
    till.station.willing = False
    till.types("8⏎")
    assert till.wanted == [Sell(1250)]
    till.station.willing = True
    till.told(Done(Sell(1250), tap))
    assert till.wanted == [Sell(1250), Sell(800)]
    assert shown(till).figures == "8.00"


def test_a_card_that_still_lies_there_is_to_be_taken_away_first(till: Counter) -> None:
    till.types("12.50⏎")
    till.tapped(a_tap(Outcome.GRANTED))
    till.types("8⏎")
    assert "take away the card" in said(till)
    till.told(Removed())
    assert "take away" not in said(till)


def test_two_cards_are_told_and_one_is_enough(till: Counter) -> None:
    till.types("12.50⏎")
    till.told(TooMany())
    assert shown(till).word == "One card only"
    till.told(Removed(), Waiting(Sell(1250)))
    assert shown(till).word == "Present the card"


def test_a_card_that_nobody_asked_for_is_told_beside_the_amount(till: Counter) -> None:
    till.types("12")
    till.told(Unwanted())
    assert "nothing was taken" in said(till)
    assert till.desk.entry.text == "12"


def test_a_card_that_left_too_early_is_asked_for_again(till: Counter) -> None:
    till.types("12.50⏎")
    till.tapped(a_tap(Outcome.TRY_AGAIN, sale=None, reason="The card left"))
    assert till.phase is Phase.CARD
    assert "Nothing was taken" in said(till)
    assert not till.desk.is_torn


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.ALREADY_GRANTED, "Nothing was taken again"),
        (Outcome.PAID_NOT_GRANTED, "Hand nothing out"),
    ],
)
def test_a_payment_that_gives_nothing_is_explained(till: Counter, outcome: Outcome, words: str) -> None:
    till.types("12.50⏎")
    till.tapped(a_tap(outcome, reason="this payment was granted before"))
    assert words in said(till)
    assert till.phase is Phase.RESULT


# ---------------------------------------------------------------------------------------------- torn


@pytest.fixture
def torn(till: Counter) -> Counter:
    till.types("12.50⏎")
    till.tapped(a_tap(Outcome.UNRESOLVED, reason="The card left the reader."))
    return till


def test_a_torn_tap_wants_the_same_card_and_says_how_much(torn: Counter) -> None:
    view = shown(torn)
    assert (view.symbol, view.word, view.figures) == ("↻", "Present the same card again", "12.50")
    assert "4711" in said(torn)
    assert "…00000007" in said(torn)


def test_no_other_payment_while_one_is_torn(torn: Counter) -> None:
    torn.types("8⏎⎋")
    torn.desk.give_back(REFUND)
    assert torn.wanted == [Sell(1250)]
    assert (torn.phase, torn.desk.open_sale) == (Phase.TORN, a_sale())
    assert "G" in said(torn)


def test_the_same_card_finishes_it(torn: Counter) -> None:
    torn.tapped(a_tap(Outcome.GRANTED, recovered=True))
    assert shown(torn).word == "Approved"
    assert "nothing happened twice" in said(torn)
    assert not torn.desk.is_torn


def test_another_card_is_told_and_it_stays_torn(torn: Counter) -> None:
    torn.tapped(a_tap(Outcome.OTHER_CARD))
    assert shown(torn).word == "Present the earlier card"
    assert torn.desk.is_torn


def test_it_is_given_up_with_a_reason(torn: Counter) -> None:
    torn.desk.give_up("customer left")
    torn.desk.was_given_up("customer left")
    assert ("give_up", "customer left") in torn.station.asked
    assert "CNY 12.50 is given up: customer left" in said(torn)
    torn.types("8⏎")
    assert torn.wanted[-1] == Sell(800)


def test_did_i_pay_may_be_asked_meanwhile_and_the_sale_is_waited_for_again(torn: Counter) -> None:
    torn.desk.ask()
    assert torn.wanted == [Sell(1250), Ask()]
    torn.told(Waiting(Ask()))
    assert shown(torn).word == "Present the card"
    torn.told(CardSeen(Ask()), Asked(Inquiry("", CARD, 100, False, False, [], [a_sale()])))
    assert shown(torn).symbol == "?"
    assert torn.wanted == [Sell(1250), Ask(), Sell(1250)]
    torn.desk.cancel()
    assert torn.phase is Phase.TORN


def test_a_fault_leaves_it_torn_as_long_as_it_is_unresolved(torn: Counter) -> None:
    torn.station.now = replace(torn.station.now, open_sale=a_sale())
    torn.told(Fault("journal_full", "The disk is full"))
    assert torn.phase is Phase.TORN
    assert "The disk is full" in said(torn)


@pytest.mark.parametrize("sale", [a_sale(), a_refund_sale()], ids=["payment", "refund"])
def test_a_sale_that_was_open_at_the_start_comes_first(till: Counter, sale: object) -> None:
    till.station.now = replace(till.station.now, open_sale=sale)  # type: ignore[arg-type]
    till.desk.begin()
    assert till.phase is Phase.TORN
    assert "open when this terminal stopped" in said(till)
    assert till.wanted in ([Sell(1250)], [GiveBack(a_refund_sale())])


# ---------------------------------------------------------------------------------------------- PIN


@pytest.fixture
def asked_for_pin(till: Counter) -> Counter:
    till.types("600⏎")
    till.tapped(a_tap(Outcome.PIN_WANTED, status_word=sw.PIN_WANTED))
    return till


def test_a_pin_is_masked_taken_once_and_kept_nowhere(asked_for_pin: Counter) -> None:
    till = asked_for_pin
    till.types("27x.1⌫1828")
    assert shown(till).masked == "●" * 6
    assert PIN not in repr(till.desk.pin) + repr(vars(till.desk)) + said(till)
    till.types("⏎")
    assert ("enter_pin", PIN) in till.station.asked
    assert len(till.desk.pin) == 0
    assert shown(till).masked == ""


def test_a_pin_that_is_none_is_not_sent(asked_for_pin: Counter) -> None:
    asked_for_pin.types("123⏎")
    assert "4 to 12 digits" in said(asked_for_pin)
    assert len(asked_for_pin.desk.pin) == 3
    asked_for_pin.types("4" * 20)
    assert len(asked_for_pin.desk.pin) == 12


def test_a_pin_is_never_pasted(asked_for_pin: Counter) -> None:
    asked_for_pin.desk.paste(PIN)
    assert len(asked_for_pin.desk.pin) == 0
    assert PIN not in said(asked_for_pin)


def test_a_wrong_pin_tells_the_tries_and_the_third_locks(asked_for_pin: Counter) -> None:
    till = asked_for_pin
    for left in (2, 1):
        till.types("1111⏎")
        till.tapped(a_tap(Outcome.PIN_WRONG, status_word=0x63C0 + left))
        assert f"Tries left: {left}" in said(till)
        assert till.desk.types_pin
    till.types("1111⏎")
    till.tapped(a_tap(Outcome.DECLINED, **LOCKED))
    assert "locked after three wrong tries" in said(till)
    assert not till.desk.types_pin


def test_a_pin_typed_before_the_tap_has_ended_is_sent_when_it_has(till: Counter) -> None:
    till.types("600⏎")
    tap = a_tap(Outcome.PIN_WANTED)
    till.told(CardSeen(Sell(60_000)), Decided(Sell(60_000), tap))
    till.types(PIN + "⏎")
    assert ("enter_pin", PIN) not in till.station.asked
    till.told(Done(Sell(60_000), tap))
    assert ("enter_pin", PIN) in till.station.asked


def test_esc_forgets_the_pin(asked_for_pin: Counter) -> None:
    asked_for_pin.types("27⎋")
    assert len(asked_for_pin.desk.pin) == 0
    assert (asked_for_pin.phase, asked_for_pin.wanted[-1]) == (Phase.AMOUNT, None)


# ---------------------------------------------------------------------------------------------- others


def test_a_refund_is_waited_for_and_said_as_one(till: Counter) -> None:
    till.desk.give_back(REFUND)
    assert shown(till).figures == "5.00"
    assert "…00000007" in said(till)
    till.tapped(a_tap(Outcome.GRANTED, sale=a_refund_sale()), GiveBack(REFUND))
    assert shown(till).word == "Refunded"
    assert "Balance: CNY 187.50" in said(till)


def test_a_refund_for_another_card_waits_on_and_can_be_left(till: Counter) -> None:
    till.desk.give_back(REFUND)
    till.tapped(
        a_tap(Outcome.OTHER_CARD, sale=None, reason="this is not the card that paid"), GiveBack(REFUND)
    )
    assert till.phase is Phase.CARD
    assert "not the card that paid" in said(till).lower()
    till.types("⎋")
    assert till.wanted[-1] is None


def test_a_fault_is_told_and_selling_goes_on(till: Counter) -> None:
    till.types("12.50⏎")
    till.told(
        Fault("clock_wrong", "this machine's clock went back behind its newest sale; set the clock first")
    )
    assert "set the clock" in said(till)
    assert shown(till).symbol == "!"
    till.types("8⏎")
    assert till.wanted[-1] == Sell(800)


def test_a_reader_that_is_gone_changes_nothing_about_the_sale(till: Counter) -> None:
    till.types("12.50⏎")
    before = shown(till)
    till.told(ReaderChanged(Health(False, "reader_gone", "the reader is gone; plug it in")))
    assert shown(till) == before, "the frame's banner tells it"


def test_every_phase_has_words_in_both_languages(till: Counter) -> None:
    makers: list[Callable[[], None]] = [
        lambda: till.types("12.50⏎"),
        lambda: till.told(CardSeen(Sell(1250))),
        lambda: till.told(TooMany()),
        lambda: till.tapped(a_tap(Outcome.GRANTED)),
        lambda: till.types("5⏎"),
        lambda: till.tapped(a_tap(Outcome.UNRESOLVED)),
        lambda: till.tapped(a_tap(Outcome.OTHER_CARD)),
        lambda: till.desk.was_given_up("x"),
        lambda: till.types("600⏎"),
        lambda: till.tapped(a_tap(Outcome.PIN_WANTED)),
        lambda: till.told(Fault("x", "this machine's date lies outside")),
        till.desk.ask,
        lambda: till.told(Asked(Inquiry("", CARD, 100, False, False, [], []))),
    ]
    for make in makers:
        make()
        views = []
        for language in ("en", "zh"):
            set_language(language)
            views.append(shown(till))
        english, chinese = views
        assert english.word != chinese.word
        assert (english.figures, english.symbol, english.style) == (
            chinese.figures,
            chinese.symbol,
            chinese.style,
        )
        set_language("en")
