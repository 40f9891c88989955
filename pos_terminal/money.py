"""Amounts as people write them, to integer fen and back. Pure."""

import re
from typing import Final

from hardwallet.records import MAX_AMOUNT_FEN
from pos_terminal.errors import BadAmount

_AMOUNT: Final = re.compile(r"(\d{1,10})(?:\.(\d{1,2}))?")


def parse_amount(text: str) -> int:
    """`12.50`, `12.5` or `12`, in yuan, as fen: 1 to 2^31 - 1. Raises BadAmount, saying why."""
    match = _AMOUNT.fullmatch(text.strip()) if text.isascii() else None
    if match is None:
        raise BadAmount(f"{text[:20]!r} is not an amount; write it in yuan, like 12.50")
    yuan, cents = match.groups()
    amount_fen = int(yuan) * 100 + int((cents or "0").ljust(2, "0"))
    if amount_fen == 0:
        raise BadAmount("the amount is zero; nothing can be charged")
    if amount_fen > MAX_AMOUNT_FEN:
        raise BadAmount(f"the amount is above {format_amount(MAX_AMOUNT_FEN)}, the most that can be written")
    return amount_fen


def format_amount(amount_fen: int) -> str:
    """Fen as yuan with two decimals: 1250 is `12.50`, -5 is `-0.05`."""
    sign = "-" if amount_fen < 0 else ""
    return f"{sign}{abs(amount_fen) // 100}.{abs(amount_fen) % 100:02d}"
