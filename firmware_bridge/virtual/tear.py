"""A card that leaves at a chosen exchange: the order for it, shared by the virtual readers."""

from typing import Literal

TearMoment = Literal["before", "after"]


class TearOrder:
    """At most one tear, so many exchanges from now. Not safe between threads: its owner holds the lock."""

    __slots__ = ("_left", "_moment")

    def __init__(self) -> None:
        self._left = 0
        self._moment: TearMoment = "before"

    def order(self, exchange_number: int, when: TearMoment) -> None:
        """Tear at that exchange, 1 being the next one; 0 takes the order back."""
        self._left = max(0, exchange_number)
        self._moment = when

    def begin_exchange(self) -> TearMoment | None:
        """Counts an exchange and says whether, and when in it, the card leaves."""
        if self._left == 0:
            return None
        self._left -= 1
        return self._moment if self._left == 0 else None
