"""Amounts as people write them: whatever is formatted can be read again, and nothing else can."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pos_terminal.errors import BadAmount
from pos_terminal.money import format_amount, parse_amount

MOST = 2**31 - 1


@pytest.mark.parametrize(
    ("text", "amount_fen"),
    [
        ("12.50", 1_250),
        ("12.5", 1_250),
        ("12", 1_200),
        ("0.01", 1),
        ("0.1", 10),
        (" 3.00\n", 300),
        ("007", 700),
        ("21474836.47", MOST),
    ],
)
def test_parse(text: str, amount_fen: int) -> None:
    assert parse_amount(text) == amount_fen


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "-1", "+1", "1.", ".5", "1.234", "1,50", "1 000", "1e3", "0x10", "NaN", "inf"),
        *("¥5", "5元", "１２", "٣", "1.5.0", "12.50 CNY", "None", "1_000", "12\n.50", "99999999999"),
    ],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(BadAmount, match=r"write it in yuan, like 12\.50"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["0", "0.0", "0.00", "000"])
def test_zero(text: str) -> None:
    with pytest.raises(BadAmount, match="zero"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["21474836.48", "21474837", "9999999999.99"])
def test_above_what_can_be_written(text: str) -> None:
    with pytest.raises(BadAmount, match=r"21474836\.47"):
        parse_amount(text)


def test_a_long_text_is_not_told_whole() -> None:
    with pytest.raises(BadAmount) as raised:
        parse_amount("9" * 10_000)
    assert len(str(raised.value)) < 100


@pytest.mark.parametrize(
    ("amount_fen", "text"),
    [(0, "0.00"), (1, "0.01"), (1_250, "12.50"), (-5, "-0.05"), (-1_250, "-12.50"), (MOST, "21474836.47")],
)
def test_format(amount_fen: int, text: str) -> None:
    assert format_amount(amount_fen) == text


@given(st.integers(1, MOST))
def test_what_is_formatted_is_read_again(amount_fen: int) -> None:
    assert parse_amount(format_amount(amount_fen)) == amount_fen


@given(st.integers(-(10**12), 10**12))
def test_format_is_the_decimal(amount_fen: int) -> None:
    assert Decimal(format_amount(amount_fen)) == Decimal(amount_fen) / 100


@given(st.text(max_size=30))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    """What is accepted is what `Decimal` reads, with at most two places."""
    try:
        amount_fen = parse_amount(text)
    except BadAmount:
        return
    assert Decimal(text.strip()) * 100 == amount_fen
    assert 1 <= amount_fen <= MOST
