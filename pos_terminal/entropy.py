"""A terminal's random numbers, with the health test that stops it when they repeat (NIST SP 800-90B,
4.4.1)."""

from typing import Final

from pos_terminal.errors import UnhealthyEntropy
from pos_terminal.ports import Entropy

_REMEMBERED: Final = 64
_TESTED_LENGTH: Final = 16


class HealthyEntropy:
    """Passes random bytes on; draws of 16 bytes or more must not repeat, nor be one byte over and over.

    A true source repeats 128 bits among 64 draws with a chance below 2^-115. Once it failed, it stays failed.
    """

    def __init__(self, source: Entropy) -> None:
        self._source = source
        self._recent: dict[bytes, None] = {}  # the oldest first
        self._failed = False

    def __call__(self, length: int) -> bytes:
        """`length` bytes. Raises UnhealthyEntropy."""
        drawn = self._source(length)
        if len(drawn) != length:
            self._failed = True
        elif length >= _TESTED_LENGTH:
            head = drawn[:_TESTED_LENGTH]
            if head in self._recent or head == head[:1] * _TESTED_LENGTH:
                self._failed = True
            self._recent[head] = None
            if len(self._recent) > _REMEMBERED:
                del self._recent[next(iter(self._recent))]
        if self._failed:
            raise UnhealthyEntropy(
                "this machine's random source repeats itself, so no payment can be made safely; "
                "restart the machine, and have it looked at if this comes back"
            )
        return drawn
