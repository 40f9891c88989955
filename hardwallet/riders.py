"""Rider classes: what a bus charges a card by, certified by the card's issuer (docs/protocol.md, section 3).

The class byte of a card's certificate is (rider class << 4) | tier. A certificate from before there were
rider classes has zero there: an adult's.
"""

from enum import IntEnum
from typing import Final

MAX_TIER: Final = 15
"""The highest tier that a certificate can name."""


class Rider(IntEnum):
    """The class of a card's holder as a rider. Numbers that are not here are unknown, and refused."""

    ADULT = 0
    STUDENT = 1
    SENIOR = 2
    CHILD = 3
    REDUCED = 4  # whoever else a city gives a reduced fare: disabled people, veterans

    @property
    def word(self) -> str:
        """The class in one word for files, options and programs, as in "student"."""
        return self.name.lower()


def rider_by_word(word: str) -> Rider | None:
    """The class of a word as `Rider.word` gives it; None when there is none."""
    return next((rider for rider in Rider if rider.word == word), None)


def class_byte(tier: int, rider: Rider) -> int:
    """The class of a card's certificate; `tier` is 0 to 15."""
    return rider << 4 | tier


def is_card_class(klass: int) -> bool:
    """Whether a card's certificate may have this class byte: its rider class is known."""
    return 0 <= klass <= 0xFF and klass >> 4 in frozenset(Rider)
