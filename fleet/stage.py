"""Where simulated cards are laid in front of terminals: an in-process reader, or pcscd's virtual one.

Both take the same cards and tear them in the same ways; what lies between differs, and `stack` says which it
is.
"""

from pathlib import Path
from typing import Protocol

from firmware_bridge.link import Reader, VirtualCard
from firmware_bridge.readers import open_reader
from firmware_bridge.virtual.in_process import InProcessReader
from firmware_bridge.virtual.tear import TearMoment
from firmware_bridge.virtual.vpcd import VpcdCard

_REMOVAL_S = 10.0


class Stage(Protocol):
    """One place for cards, and the reader that looks at it."""

    @property
    def stack(self) -> str:
        """`sim` or `pcsc`: what the bytes go through."""

    @property
    def reader(self) -> Reader:
        """The reader, open."""

    def lay(self, card: VirtualCard) -> None:
        """Put a card down; one that lies there is taken away first."""

    def take(self) -> None:
        """Take the card away."""

    def tear_at(self, exchange_number: int, when: TearMoment) -> None:
        """The card leaves at that exchange, 1 being the next, before it arrives or after the card carried it
        out."""

    def close(self) -> None:
        """Let everything go."""


class InProcessStage:
    """No reader, no service: card and terminal in one process."""

    stack = "sim"

    def __init__(self) -> None:
        self._reader: InProcessReader | None = None

    @property
    def reader(self) -> Reader:
        """The in-process reader; there is one once a card was laid down."""
        if self._reader is None:
            raise RuntimeError("lay a card down first")
        return self._reader

    def lay(self, card: VirtualCard) -> None:
        """Put a card down."""
        if self._reader is None:
            self._reader = InProcessReader(card)
        self._reader.present(card)

    def take(self) -> None:
        """Take the card away."""
        if self._reader is not None:
            self._reader.remove()

    def tear_at(self, exchange_number: int, when: TearMoment) -> None:
        """The card leaves at that exchange."""
        if self._reader is not None:
            self._reader.tear_at(exchange_number, when)

    def close(self) -> None:
        """Close the reader."""
        if self._reader is not None:
            self._reader.close()


class PcscStage:
    """pcscd with its virtual reader in between, reached by pyscard as any other reader.

    Raises ServiceNotRunning or NoReader when there is none.
    """

    stack = "pcsc"

    def __init__(self, uri: str = "pcsc:0") -> None:
        self._reader = open_reader(uri)
        self._virtual: VpcdCard | None = None

    @property
    def reader(self) -> Reader:
        """The PC/SC reader."""
        return self._reader

    def lay(self, card: VirtualCard) -> None:
        """Put a card into the virtual reader and wait until pcscd has taken it."""
        if self._virtual is None:
            self._virtual = VpcdCard(card)
        else:
            self.take()
        self._virtual.insert(card)

    def take(self) -> None:
        """Take the card out, and wait until pcscd has seen that."""
        if self._virtual is not None:
            self._virtual.remove()
            self._reader.wait_for_removal(_REMOVAL_S)

    def tear_at(self, exchange_number: int, when: TearMoment) -> None:
        """The card leaves at that exchange."""
        if self._virtual is not None:
            self._virtual.tear_at(exchange_number, when)

    def close(self) -> None:
        """Take the card out and let the reader go."""
        if self._virtual is not None:
            self._virtual.close()
        self._reader.close()


def card_uri(path: Path) -> str:
    """The URI under which a card file is a reader with that card in it."""
    return f"sim:{path}"
