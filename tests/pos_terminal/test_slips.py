"""Slips: refunds, copies and shift reports, exact and never wider than their paper."""

from dataclasses import replace
from datetime import timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardwallet.records import REFUND
from pos_terminal import escpos
from pos_terminal.paper import (
    NARROW,
    WIDE,
    Line,
    Style,
    as_text,
    centred,
    print_columns,
    row,
    words,
    wrapped,
)
from pos_terminal.receipts import (
    BEIJING,
    LANGUAGES,
    PRINTED,
    receipt,
    receipt_lines,
    record_code,
    shift_lines,
    shift_report,
)
from pos_terminal.sale import SaleState
from pos_terminal.shift import (
    Closing,
    Item,
    Movement,
    Shift,
    ShiftReport,
    Tally,
    Totals,
    Unfinished,
    Unsynced,
    report,
)
from tests.pos_terminal.test_receipts import record

ZONE = timezone(BEIJING)
TERMINAL = bytes.fromhex("00000003")
NOW = 1_790_000_000
WIDTHS = pytest.mark.parametrize("width", [NARROW, WIDE])

REFUND_EN = """\
          CORNER SHOP
             REFUND
      COPY, printed again
--------------------------------
Merchant        0000020100000001
Terminal                00000003
Number                      9001
Card            0000010100000007
Sequence                      42
Time         2026-09-21 22:13:20
Refunded               CNY 12.50
Balance               CNY 187.50
Of payment                    41
Refunded in all        CNY 20.00
PIN                      entered
Code                  QE3LN3G53A
--------------------------------
 Refunded offline, card-signed
"""

Z_ZH = """\
         Z 报表（交班）
--------------------------------
终端                    00000003
班次                           4
开班时间     2026-09-21 22:13:20
开班人                        李
交班时间     2026-09-22 00:43:20
交班人                        王
--------------------------------
            刷卡收款
付款 3 笔               99.00 元
退款 1 笔                5.00 元
合计                    94.00 元
已付款，未放行 1 笔      0.70 元
放弃 1 笔                1.00 元
拒绝 1 笔                0.05 元
开班前 2 笔              1.00 元
代传记录                       3
--------------------------------
            钱箱现金
备用金                 200.00 元
存入现金                50.00 元
取出现金               -12.00 元
 09-21 22:15 李           +50.00
                          换零钱
 09-21 22:16 王           -12.00
                            买水
应有金额               238.00 元
清点金额               237.00 元
差额                    -1.00 元
差额原因                少了一元
备注                        平静
--------------------------------
待上传 2 笔             25.00 元
 9001 09-21 22:18          12.50
                          待上传
 9002 09-21 22:20          12.50
                退款，待人工核查
                       另有 1 笔
代传，待上传                   1
未完成                         1
 9003 09-21 22:21           8.00
  付款          0000010100000007

签名            ________________
"""


def a_report(**changes: Any) -> ShiftReport:
    """Everything that a report can show."""
    moves = (
        Movement(5_000, "换零钱", "李", NOW + 100),
        Movement(-1_200, "买水", "王", NOW + 200),
    )
    shift = Shift(4, NOW, "李", 20_000, 3, Tally(2, 100), moves)
    totals = Totals(Tally(3, 9_900), Tally(1, 500), Tally(1, 100), Tally(1, 70), Tally(1, 5), 3, 0, 9)
    items = (
        Item(5, 9_001, NOW + 300, 1_250, "payment", "queued"),
        Item(6, 9_002, NOW + 400, 1_250, "refund", "needs review"),
    )
    made = report(
        *(shift, totals, NOW + 9_000),
        unsynced=Unsynced(Tally(2, 2_500), 1, 4, items),
        unfinished=[Unfinished(9_003, NOW + 500, 800, "payment", "0000010100000007")],
        closing=Closing(23_700, "平静", "少了一元", "王", NOW + 9_000),
    )
    return msgspec.structs.replace(made, **changes)


def a_refund() -> Any:
    reference = (41).to_bytes(4, "big") + (2_000).to_bytes(4, "big") + bytes(4)
    return record(kind=REFUND, reference=reference)


def test_a_refund_that_is_printed_again() -> None:
    shown = receipt(a_refund(), SaleState.GRANTED, "en", ZONE, again=True, heading="CORNER SHOP")
    assert shown == REFUND_EN


def test_a_closed_shift() -> None:
    assert shift_report(a_report(), TERMINAL, "zh", ZONE) == Z_ZH


def test_x_and_z_differ_by_the_count_alone() -> None:
    """Same figures: the lines of X that Z has not are its title and when it was read."""
    x = shift_report(a_report(closing=None), TERMINAL, "en", ZONE).splitlines()
    z = shift_report(a_report(), TERMINAL, "en", ZONE).splitlines()
    assert [line.split()[0] for line in x if line not in z] == ["X", "Read"]
    assert {line.split()[0] for line in z if line and line not in x} == {
        *("Z", "Closed", "Counted", "Difference", "Reason", "Note", "Signature")
    }


def test_a_blind_count_shows_no_sum_before_it_is_given() -> None:
    x = shift_report(a_report(closing=None, blind=True), TERMINAL)
    assert "after the count" in x
    assert "238.00" not in x
    assert "238.00" in shift_report(a_report(blind=True), TERMINAL)


@WIDTHS
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_every_receipt_carries(language: str, width: int) -> None:
    """Terminal, number, sequence, amount, balance, and the code that finds the record."""
    for one in (record(), a_refund()):
        shown = receipt(one, SaleState.GRANTED, language, ZONE, width=width)
        for part in ("00000003", "9001", " 42", "12.50", "187.50", record_code(one)):
            assert part in shown
        tall = [
            line for line in receipt_lines(one, SaleState.GRANTED, language) if line.style is Style.STRONG
        ]
        assert ["12.50" in line.text for line in tall] == [True]


TEXT = st.text(max_size=100)
MONEY = st.integers(0, 2**31 - 1)


@given(TEXT, MONEY, st.sampled_from(LANGUAGES), st.sampled_from([NARROW, WIDE]), st.booleans())
def test_no_line_is_wider_than_the_paper(
    text: str, amount_fen: int, language: str, width: int, again: bool
) -> None:
    """Whatever people are called, and however much it is."""
    given_report = a_report()
    shift = msgspec.structs.replace(
        given_report.shift, opened_by=text, movements=(Movement(-amount_fen, text, text, NOW),)
    )
    many = Tally(2**40, 2**50)
    changed = msgspec.structs.replace(
        given_report,
        shift=shift,
        totals=Totals(many, many, many, many, many, 2**40, 2**40, 9),
        closing=Closing(amount_fen, text, text, text, NOW),
    )
    for lines in (
        shift_lines(changed, TERMINAL, language, ZONE, width, again, text),
        receipt_lines(record(), SaleState.PAID_NOT_GRANTED, language, ZONE, width, again, text),
    ):
        assert max(print_columns(line.text) for line in lines) == width
        assert all(line.text.isprintable() for line in lines)
        for line in as_text(lines, width).splitlines():
            assert line == line.rstrip()
        printed = escpos.encode(lines)
        assert printed.count(b"\n") == len(lines)


@WIDTHS
def test_a_report_prints_so_many_of_each_and_counts_the_others(width: int) -> None:
    items = tuple(Item(n, n, NOW, 1, "payment", "queued") for n in range(1, PRINTED + 6))
    moves = tuple(Movement(1, "x", "y", NOW) for _ in range(PRINTED + 3))
    unfinished = tuple(Unfinished(n, NOW, 1, "refund", "00" * 8) for n in range(PRINTED + 1))
    base = a_report()
    shown = shift_report(
        a_report(
            shift=msgspec.structs.replace(base.shift, movements=moves),
            unsynced=Unsynced(Tally(PRINTED + 5, PRINTED + 5), 0, 99, items),
            unfinished=unfinished,
            unfinished_count=PRINTED + 1,
        ),
        *(TERMINAL, "en", ZONE),
        width=width,
    )
    assert shown.count("queued") == PRINTED
    for count in (5, 3, 1):
        assert f"and {count} more\n" in shown


@given(st.text(), st.integers(2, 60))
def test_wrapping_loses_nothing_but_spaces(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(print_columns(line) <= width for line in lines)
    plain = "".join(character if character.isprintable() else " " for character in text)
    assert "".join("".join(lines).split()) == "".join(plain.split())


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one two three", ["one two", "three"]),
        ("abcdefghijkl", ["abcdefgh", "ijkl"]),
        ("a bcdefghijkl", ["a bcdefg", "hijkl"]),
        ("钱箱里的钱", ["钱箱里的", "钱"]),
        ("a钱箱里的", ["a钱箱里", "的"]),
    ],
)
def test_where_lines_break(text: str, lines: list[str]) -> None:
    assert wrapped(text, 8) == lines


def test_a_row_that_does_not_fit_takes_lines_of_its_own() -> None:
    assert [line.text for line in row("name", "v", 6)] == ["name v"]
    assert [line.text for line in row("name", "va", 6)] == ["name", "    va"]
    assert [line.text for line in row("", "", 6)] == ["      "]
    assert centred("", 9) == []
    assert as_text([Line("ab", Style.TITLE)], 6) == "  ab\n"
    assert replace(Line("x"), style=Style.NOTE) == Line("x", Style.NOTE)


def test_a_language_that_is_not_there() -> None:
    with pytest.raises(LookupError):
        words("fr")
    assert words("zh")("REFUND") == "退款凭证"
    assert words("zh")("CNY {amount}", amount="1.00") == "1.00 元"
