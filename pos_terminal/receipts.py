"""Receipts as text, in Chinese and English, at most 32 columns wide. Pure.

A Chinese character takes two columns. The code at the end names the signed record: it can be found again by
it.
"""

from base64 import b32encode
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import sha256
from typing import Final
from unicodedata import east_asian_width

from hardwallet.records import CVM_PIN, TRANSIT, Record
from pos_terminal.money import format_amount
from pos_terminal.sale import SaleState

WIDTH: Final = 32
CODE_LENGTH: Final = 10

_WORDS: Final = {
    "en": {
        "title": "PAYMENT",
        "merchant": "Merchant",
        "terminal": "Terminal",
        "number": "Number",
        "card": "Card",
        "sequence": "Sequence",
        "time": "Time",
        "amount": "Amount",
        "balance": "Balance",
        "pin": "PIN",
        "pin_yes": "entered",
        "code": "Code",
        "offline": "Paid offline, signed by the card",
        "not_granted": "PAID, NOT GRANTED",
        "returns": "Returns to the card's account",
    },
    "zh": {
        "title": "付款凭证",
        "merchant": "商户",
        "terminal": "终端",
        "number": "流水号",
        "card": "卡号",
        "sequence": "卡序号",
        "time": "时间",
        "amount": "金额",
        "balance": "余额",
        "pin": "密码",
        "pin_yes": "已输入",
        "code": "查询码",
        "offline": "离线支付，由卡片签名",
        "not_granted": "已付款，未交付",
        "returns": "款项退回卡账户",
    },
}
LANGUAGES: Final = tuple(_WORDS)
BEIJING: Final = timedelta(hours=8)


def columns(text: str) -> int:
    """How many columns of a terminal or printer the text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def record_code(record: Record) -> str:
    """The short code of a record: 10 letters and digits of base 32 over SHA-256 of its body."""
    return b32encode(sha256(record.body).digest())[:CODE_LENGTH].decode()


def receipt(record: Record, state: SaleState, language: str = "en", zone: tzinfo = UTC) -> str:
    """The receipt of a payment, lines of at most 32 columns. `language` is one of LANGUAGES."""
    words = _WORDS[language]
    time = datetime.fromtimestamp(record.time_s, zone)
    rows = [
        (words["merchant"], record.payee.hex()),
        (words["terminal"], record.terminal.hex()),
        (words["number"], str(record.transaction)),
        (words["card"], record.card.hex()),
        (words["sequence"], str(record.sequence)),
        (words["time"], time.strftime("%Y-%m-%d %H:%M:%S")),
        (words["amount"], f"CNY {format_amount(record.amount_fen)}"),
        (words["balance"], f"CNY {format_amount(record.balance_fen)}"),
    ]
    if record.cvm == CVM_PIN:
        rows.append((words["pin"], words["pin_yes"]))
    rows.append((words["code"], record_code(record)))
    lines = [_centred(words["title"]), "-" * WIDTH]
    lines += [_row(name, value) for name, value in rows]
    lines.append("-" * WIDTH)
    lines.append(_centred(words["offline"]))
    if state is SaleState.PAID_NOT_GRANTED:
        lines += [_centred(words["not_granted"]), _centred(words["returns"])]
    return "\n".join(lines) + "\n"


def _centred(text: str) -> str:
    return " " * ((WIDTH - columns(text)) // 2) + text


def _row(name: str, value: str) -> str:
    return name + " " * (WIDTH - columns(name) - columns(value)) + value


def profile_name(record: Record) -> str:
    """`transit` or `retail`."""
    return "transit" if record.profile == TRANSIT else "retail"
