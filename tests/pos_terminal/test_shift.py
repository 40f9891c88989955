"""The arithmetic of a shift: what the drawer has to hold, what differs, and who has to say why."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardwallet.records import MAX_AMOUNT_FEN
from pos_terminal.errors import (
    BadAmount,
    CashShort,
    DifferenceUnexplained,
    NameMissing,
    ReasonMissing,
)
from pos_terminal.shift import (
    LISTED,
    MAX_MOVEMENTS,
    Shift,
    Tally,
    Totals,
    Unfinished,
    clean,
    count,
    move_cash,
    open_shift,
    report,
)

NOW = 1_790_000_000


def shift_of(float_fen: int = 20_000, *moves_fen: int) -> Shift:
    shift = open_shift(1, float_fen, "Li", NOW, 7)
    for amount_fen in moves_fen:
        moved = move_cash(shift, amount_fen, "change", "Li", NOW)
        shift = msgspec.structs.replace(shift, movements=(*shift.movements, moved))
    return shift


def test_the_drawer_holds_the_float_and_what_went_in_less_what_went_out() -> None:
    shift = shift_of(20_000, 5_000, -1_250, 30, -80)
    assert (shift.cash_in_fen, shift.cash_out_fen) == (5_030, 1_330)
    assert shift.expected_fen == 20_000 + 5_030 - 1_330


def test_what_cards_pay_is_not_in_the_drawer() -> None:
    paid = Totals(granted=Tally(3, 9_900), refunded=Tally(1, 400))
    read = report(shift_of(20_000), paid, NOW)
    assert read.expected_fen == 20_000
    assert read.totals.net_fen == 9_500


@pytest.mark.parametrize(("counted_fen", "difference_fen"), [(20_000, 0), (19_995, -5), (20_300, 300)])
def test_the_difference_is_what_was_counted_less_what_was_expected(
    counted_fen: int, difference_fen: int
) -> None:
    shift = shift_of(20_000)
    closing = count(shift, counted_fen, "", "a coin was lost", "Wang", NOW + 9)
    closed = report(shift, Totals(), NOW + 9, closing=closing)
    assert closed.difference_fen == difference_fen
    assert closed.letter == "Z"
    assert closing.difference_reason == ("a coin was lost" if difference_fen else "")


@pytest.mark.parametrize(
    ("counted_fen", "words"),
    [(19_999, "0.01 is missing"), (20_100, "1.00 too much"), (0, "200.00 is missing")],
)
def test_a_difference_wants_a_reason(counted_fen: int, words: str) -> None:
    with pytest.raises(DifferenceUnexplained, match=words) as raised:
        count(shift_of(20_000), counted_fen, "a note is no reason", " ", "Li", NOW)
    assert raised.value.difference_fen == counted_fen - 20_000


def test_a_blind_count_is_not_told_by_how_much_it_differs() -> None:
    with pytest.raises(DifferenceUnexplained) as raised:
        count(shift_of(20_000), 19_999, "", "", "Li", NOW, blind=True)
    assert raised.value.difference_fen is None
    assert not any(character.isdigit() for character in str(raised.value))


def test_x_and_z_have_the_same_figures_and_a_blind_x_hides_the_sum() -> None:
    shift, totals = shift_of(20_000, 500), Totals(granted=Tally(1, 700), last=9)
    x = report(shift, totals, NOW, blind=True)
    z = report(shift, totals, NOW, blind=True, closing=count(shift, 20_500, "", "", "Li", NOW, blind=True))
    assert (x.letter, x.expected_fen, x.difference_fen) == ("X", None, None)
    assert (z.letter, z.expected_fen, z.difference_fen) == ("Z", 20_500, 0)
    assert msgspec.structs.replace(z, closing=None) == x
    assert report(shift, totals, NOW).expected_fen == 20_500


@pytest.mark.parametrize("amount_fen", [0, MAX_AMOUNT_FEN + 1, -MAX_AMOUNT_FEN - 1])
def test_an_impossible_movement_is_refused(amount_fen: int) -> None:
    with pytest.raises(BadAmount):
        move_cash(shift_of(), amount_fen, "change", "Li", NOW)


@pytest.mark.parametrize("float_fen", [-1, MAX_AMOUNT_FEN + 1])
def test_an_impossible_float_or_count_is_refused(float_fen: int) -> None:
    with pytest.raises(BadAmount):
        open_shift(1, float_fen, "Li", NOW, 0)
    with pytest.raises(BadAmount):
        count(shift_of(), float_fen, "", "because", "Li", NOW)
    assert open_shift(1, 0, "Li", NOW, 0).expected_fen == 0


def test_no_more_goes_out_than_the_drawer_holds() -> None:
    shift = shift_of(1_000, 500)
    with pytest.raises(CashShort):
        move_cash(shift, -1_501, "bank", "Li", NOW)
    assert move_cash(shift, -1_500, "bank", "Li", NOW).amount_fen == -1_500


@pytest.mark.parametrize("text", ["", "  ", "\x1b\n\t", "\u200b"])
def test_nobody_moves_cash_without_a_reason_or_a_name(text: str) -> None:
    with pytest.raises(ReasonMissing):
        move_cash(shift_of(), 5, text, "Li", NOW)
    with pytest.raises(NameMissing):
        move_cash(shift_of(), 5, "change", text, NOW)
    with pytest.raises(NameMissing):
        open_shift(1, 0, text, NOW, 0)
    with pytest.raises(NameMissing):
        count(shift_of(5), 5, "", "", text, NOW)


def test_a_report_lists_so_many_and_counts_all() -> None:
    many = [Unfinished(number, NOW, 100, "payment", "00" * 8) for number in range(LISTED + 3)]
    read = report(shift_of(), Totals(), NOW, unfinished=many)
    assert (len(read.unfinished), read.unfinished_count) == (LISTED, LISTED + 3)


@given(st.text())
def test_words_that_are_kept_can_be_kept_and_printed(text: str) -> None:
    kept = clean(text)
    assert len(kept) <= 100
    assert kept.isprintable()
    assert kept.encode().decode() == kept
    assert clean(kept) == kept


def test_words_from_a_broken_argument_can_be_kept() -> None:
    assert clean("caf\udce9") == "caf?"


@given(st.lists(st.integers(-3_000, 3_000).filter(bool), max_size=30))
def test_cash_is_neither_made_nor_lost(moves_fen: list[int]) -> None:
    shift, held_fen = shift_of(10_000), 10_000
    for amount_fen in moves_fen:
        if held_fen + amount_fen < 0:
            with pytest.raises(CashShort):
                move_cash(shift, amount_fen, "x", "Li", NOW)
            continue
        moved = move_cash(shift, amount_fen, "x", "Li", NOW)
        shift = msgspec.structs.replace(shift, movements=(*shift.movements, moved))
        held_fen += amount_fen
    assert shift.expected_fen == held_fen
    assert len(shift.movements) <= MAX_MOVEMENTS
