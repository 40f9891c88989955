"""Modelled time of a tap: the air from the lengths that went over it, the card from what it computed.

Nothing here is measured on a real card: the figures come from `firmware_bridge.air_time`, and whoever shows
them
calls them modelled.
"""

from dataclasses import dataclass
from typing import Final

from firmware_bridge.air_time import (
    J3R180,
    CardProfile,
    Operation,
    activation_ms,
    block_count,
    exchange_air_ms,
)
from firmware_bridge.link import CardLink, LinkProcessor

FRAME_SIZE: Final = 256
JOURNAL_SEARCH_MS: Final = 2.0
"""Looking through 128 entries for one sale. An assumption: no public profile of a card has such a loop."""
_PAY: Final = 0x20


@dataclass(slots=True)
class TapModel:
    """Adds up modelled milliseconds: give `operation` to the card as its meter, and wrap the link in
    `ModelledLink`."""

    profile: CardProfile = J3R180
    rate_kbps: int = 106
    fsc: int = FRAME_SIZE
    air_ms: float = 0.0
    card_ms: float = 0.0
    exchanges: int = 0
    chained: int = 0

    def arrive(self) -> None:
        """The card enters the field: anticollision and RATS."""
        self.air_ms += activation_ms(self.rate_kbps)

    def operation(self, operation: Operation) -> None:
        """The card computed something."""
        self.card_ms += self.profile.operation_ms(operation)

    def exchange(self, command: bytes, reply: bytes) -> None:
        """An APDU went over the air and came back."""
        self.exchanges += 1
        self.chained += block_count(len(command), self.fsc) + block_count(len(reply), FRAME_SIZE) - 2
        self.air_ms += exchange_air_ms(
            len(command), len(reply), rate_kbps=self.rate_kbps, fsd=FRAME_SIZE, fsc=self.fsc
        )
        if command[1:2] == bytes((_PAY,)):
            self.card_ms += JOURNAL_SEARCH_MS

    def total_ms(self) -> float:
        """Everything so far."""
        return self.air_ms + self.card_ms


class ModelledLink(LinkProcessor):
    """A link that tells a model what passes."""

    __slots__ = ("_model",)

    def __init__(self, inner: CardLink, model: TapModel) -> None:
        super().__init__(inner)
        self._model = model
        model.arrive()

    def transmit(self, command: bytes) -> bytes:
        """Passes the command APDU on; an exchange without a reply took no time that a model knows.

        Raises as CardLink.transmit.
        """
        reply = super().transmit(command)
        self._model.exchange(command, reply)
        return reply
