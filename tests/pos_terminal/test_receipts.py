"""Receipts: their exact text, and that every line fits a roll of paper 32 columns wide."""

from base64 import b32decode
from datetime import UTC, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardwallet.records import CVM_NONE, CVM_PIN, RETAIL, TRANSIT, Record
from pos_terminal.receipts import BEIJING, LANGUAGES, WIDTH, columns, profile_name, receipt, record_code
from pos_terminal.sale import SaleState

FIELDS: dict[str, Any] = {
    "kind": 0xD1,
    "version": 1,
    "suite": 1,
    "application": 1,
    "scheme": bytes.fromhex("0a0b0c0d"),
    "card": bytes.fromhex("0000010100000007"),
    "certificate_digest": bytes(8),
    "sequence": 42,
    "payee": bytes.fromhex("0000020100000001"),
    "reference": bytes(12),
    "amount_fen": 1_250,
    "currency": 0x0156,
    "terminal": bytes.fromhex("00000003"),
    "transaction": 9_001,
    "nonce": bytes(16),
    "time_s": 1_790_000_000,
    "profile": RETAIL,
    "cvm": CVM_PIN,
    "limit_state": 0,
    "balance_fen": 18_750,
    "offline_total_fen": 0,
    "offline_count": 1,
    "body": b"the body of a record",
    "signature": bytes(64),
}
ZONE = timezone(BEIJING)

ENGLISH = """\
            PAYMENT
--------------------------------
Merchant        0000020100000001
Terminal                00000003
Number                      9001
Card            0000010100000007
Sequence                      42
Time         2026-09-21 22:13:20
Amount                 CNY 12.50
Balance               CNY 187.50
PIN                      entered
Code                  QE3LN3G53A
--------------------------------
Paid offline, signed by the card
"""

CHINESE = """\
            付款凭证
--------------------------------
商户            0000020100000001
终端                    00000003
流水号                      9001
卡号            0000010100000007
卡序号                        42
时间         2026-09-21 22:13:20
金额                    12.50 元
余额                   187.50 元
查询码                QE3LN3G53A
--------------------------------
      离线支付，由卡片签名
         已付款，未放行
         款项退回卡账户
"""


def record(**changes: Any) -> Record:
    return Record(**(FIELDS | changes))


def test_english() -> None:
    assert receipt(record(), SaleState.GRANTED, "en", ZONE) == ENGLISH


def test_chinese() -> None:
    shown = receipt(record(cvm=CVM_NONE), SaleState.PAID_NOT_GRANTED, "zh", ZONE)
    assert shown == CHINESE


def test_utc_unless_told_otherwise() -> None:
    assert "2026-09-21 14:13:20" in receipt(record(), SaleState.GRANTED)


def test_not_granted_is_said_in_english_too() -> None:
    shown = receipt(record(), SaleState.PAID_NOT_GRANTED)
    assert "PAID, NOT GRANTED" in shown
    assert "NOT GRANTED" not in receipt(record(), SaleState.GRANTED)


@given(
    st.sampled_from(LANGUAGES),
    st.sampled_from([SaleState.GRANTED, SaleState.PAID_NOT_GRANTED]),
    st.builds(
        dict,
        amount_fen=st.integers(1, 2**31 - 1),
        balance_fen=st.integers(0, 2**32 - 1),
        sequence=st.integers(1, 2**32 - 1),
        transaction=st.integers(0, 2**32 - 1),
        time_s=st.integers(0, 2**32 - 1),
        cvm=st.sampled_from([CVM_NONE, CVM_PIN]),
        card=st.binary(min_size=8, max_size=8),
        payee=st.binary(min_size=8, max_size=8),
        terminal=st.binary(min_size=4, max_size=4),
        body=st.binary(min_size=96, max_size=96),
    ),
    st.sampled_from([ZONE, UTC, timezone(timedelta(hours=-12))]),
)
def test_no_line_is_wider_than_the_paper(
    language: str, state: SaleState, changes: dict[str, Any], zone: timezone
) -> None:
    lines = receipt(record(**changes), state, language, zone).splitlines()
    assert max(columns(line) for line in lines) == WIDTH == 32
    for line in lines:
        assert line == line.rstrip()


def test_printers_of_the_country_can_print_it() -> None:
    """GB18030 bytes; ¥ misprints on many of them, so it is not there."""
    shown = receipt(record(), SaleState.PAID_NOT_GRANTED, "zh")
    assert shown.encode("gb18030").decode("gb18030") == shown
    assert "¥" not in shown
    assert "￥" not in shown


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("abc", 3), ("付款", 4), ("，", 2), ("Ａ", 2), ("é", 1)]
)
def test_columns(text: str, width: int) -> None:
    assert columns(text) == width


def test_the_code_names_the_body_and_not_the_signature() -> None:
    """A signature can be altered and still verify; the code stays."""
    code = record_code(record())
    assert code == record_code(record(signature=b"\1" * 64))
    assert code != record_code(record(body=b"another body"))
    assert len(code) == 10
    assert sha256(FIELDS["body"]).digest()[:6] == b32decode(code + "======")[:6]


@pytest.mark.parametrize("language", ["", "fr", "zh_CN"])
def test_a_language_that_is_not_there_is_an_error_of_the_caller(language: str) -> None:
    assert LANGUAGES == ("en", "zh")
    with pytest.raises(LookupError, match="no language"):
        receipt(record(), SaleState.GRANTED, language)


@pytest.mark.parametrize(("profile", "name"), [(RETAIL, "retail"), (TRANSIT, "transit")])
def test_profiles_have_names(profile: int, name: str) -> None:
    assert profile_name(record(profile=profile)) == name


def test_every_field_is_there() -> None:
    assert set(FIELDS) == set(Record._fields)
