"""A sale and the states that it goes through. Pure.

open ──► unresolved ──► granted                 the card was asked and the answer is durable
  │          ├───────► declined                 the card said no: nothing was debited
  │          └───────► given up ──► paid, not granted     its payment arrives after all: it goes back to the
  card's account
  └───────► declined
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

REFUND_PROFILE: Final = 3
"""The profile of a sale that gives money back; 1 and 2 are those of payments (hardwallet/records.py)."""


class SaleState(IntEnum):
    """The states of a sale. The numbers are stored in the journal and never change."""

    OPEN = 1
    UNRESOLVED = 2
    GRANTED = 3
    DECLINED = 4
    GIVEN_UP = 5
    PAID_NOT_GRANTED = 6

    @property
    def words(self) -> str:
        """The state as a person reads it."""
        return _WORDS[self]


_WORDS = {
    SaleState.OPEN: "open",
    SaleState.UNRESOLVED: "unresolved",
    SaleState.GRANTED: "paid",
    SaleState.DECLINED: "declined",
    SaleState.GIVEN_UP: "given up",
    SaleState.PAID_NOT_GRANTED: "paid, not granted",
}


@dataclass(frozen=True, slots=True)
class Sale:
    """One sale. `reference` is 12 bytes, `amount_fen` fen, `transaction` the terminal's own number, `time_s`
    seconds since 1970."""

    reference: bytes
    amount_fen: int
    currency: int
    profile: int
    transaction: int
    time_s: int
    state: SaleState = SaleState.OPEN
    card: bytes = b""
    sequence: int = 0
    reason: str = ""
