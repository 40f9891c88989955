"""Links that note what passes, and that alter, delay or lose it."""

from collections.abc import Callable

from firmware_bridge.link import CardLink, LinkProcessor

Alter = Callable[[bytes, bytes], bytes]
"""From a command and its reply to the reply that the terminal gets."""


class Wiretap:
    """Wraps a link: notes commands, replies and status words; `alter` changes the replies on their way."""

    def __init__(self, alter: Alter = lambda _command, reply: reply) -> None:
        self.alter = alter
        self.commands: list[bytes] = []
        self.replies: list[bytes] = []

    def __call__(self, link: CardLink) -> CardLink:
        return _Tapped(link, self)

    @property
    def words(self) -> list[int]:
        """The status words that the terminal got."""
        return [int.from_bytes(reply[-2:], "big") for reply in self.replies]


class _Tapped(LinkProcessor):
    __slots__ = ("_wiretap",)

    def __init__(self, inner: CardLink, wiretap: Wiretap) -> None:
        super().__init__(inner)
        self._wiretap = wiretap

    def transmit(self, command: bytes) -> bytes:
        self._wiretap.commands.append(command)
        reply = self._wiretap.alter(command, super().transmit(command))
        self._wiretap.replies.append(reply)
        return reply
