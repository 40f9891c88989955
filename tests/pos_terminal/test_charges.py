"""Which unresolved sale a new wish finishes, and which stands in its way."""

from dataclasses import replace

import pytest

from hardwallet.records import RETAIL, TRANSIT
from pos_terminal.charges import finishes, finishes_refund
from pos_terminal.errors import SaleOpen
from pos_terminal.refund import Refund
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState

CARD, OTHER = bytes(8), b"\x01" * 8
SALE = Sale(bytes(12), 700, 156, RETAIL, 1, 1_790_000_000, SaleState.UNRESOLVED, CARD)
TERMS = b"".join(part.to_bytes(4, "big") for part in (3, 900, 2))  # sequence, total afterwards, number
REFUND = Sale(TERMS, 400, 156, REFUND_PROFILE, 2, 1_790_000_000, SaleState.UNRESOLVED, CARD)


def test_nothing_stands_in_the_way_of_a_first_wish() -> None:
    assert finishes([], 700) is None
    assert finishes_refund([], Refund(CARD, 3, 400)) is None


def test_the_same_amount_finishes_the_sale() -> None:
    assert finishes([SALE], 700) is SALE
    assert finishes([REFUND, SALE], 700) is SALE
    for unresolved, amount_fen in (([SALE], 701), ([REFUND], 400), ([replace(SALE, profile=TRANSIT)], 700)):
        with pytest.raises(SaleOpen, match="same card"):
            finishes(unresolved, amount_fen)


def test_the_same_terms_finish_the_refund() -> None:
    assert finishes_refund([SALE, REFUND], Refund(CARD, 3, 400)) is REFUND
    assert finishes_refund([REFUND], replace(REFUND, reason="asked again")) is REFUND
    for wanted in (Refund(OTHER, 3, 400), Refund(CARD, 4, 400), Refund(CARD, 3, 401)):
        with pytest.raises(SaleOpen, match="same card"):
            finishes_refund([REFUND], wanted)
    with pytest.raises(SaleOpen):
        finishes_refund([SALE], Refund(CARD, 3, 400))
