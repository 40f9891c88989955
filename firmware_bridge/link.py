"""The one narrow door for bytes: a reader waits for a card, a card link exchanges APDUs.

A VirtualCard is the other side of it: what a simulated card offers to the readers in virtual/.
Processors are links that wrap a link: `TracingLink(ResponseChaining(link))`.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from firmware_bridge.apdu import (
    INS_ENVELOPE,
    INS_GET_RESPONSE,
    MAX_LE,
    MAX_SHORT_DATA,
    MAX_SHORT_LE,
    Command,
    Response,
)
from firmware_bridge.errors import Garbled, MalformedApdu

MAX_CHAINED_RESPONSES = 512
"""GET RESPONSE commands sent for one command: enough for 65,536 bytes in pieces of 128."""


class CardLink(Protocol):
    """A powered card in front of a reader."""

    @property
    def atr(self) -> bytes:
        """The answer to reset, 2 to 33 bytes; of a contactless card the one that PC/SC part 3 makes up."""
        ...

    def transmit(self, command: bytes) -> bytes:
        """Sends a C-APDU and returns the R-APDU, status word included.

        Raises CardGone, LinkTimeout, Garbled or ReaderGone; after each of them but Garbled the link is of no
        more use, and nobody knows whether the card carried the command out.
        """
        ...

    def close(self, *, unpower: bool = False) -> None:
        """Ends the session. `unpower` cuts the card's power: a tear. Closing twice does nothing."""
        ...


class Reader(Protocol):
    """A place where cards come and go."""

    @property
    def uri(self) -> str:
        """The name that opens this reader again."""
        ...

    @property
    def name(self) -> str:
        """The name for people."""
        ...

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A freshly reset card, at once if one is there. None waits without end.

        Raises NoCard, TooManyCards, Cancelled, ReaderGone, ReaderBusy, ServiceNotRunning.
        """
        ...

    def wait_for_removal(self, timeout_s: float | None) -> bool:
        """Whether the card left within the time. Raises as wait_for_card, without NoCard and
        TooManyCards."""
        ...

    def cancel(self) -> None:
        """From any thread: the wait that runs now ends at once with Cancelled; without one, the next does."""
        ...

    def close(self) -> None:
        """Lets the reader go. Ends waits with Cancelled. Closing twice does nothing."""
        ...


class VirtualCard(Protocol):
    """A simulated card."""

    @property
    def atr(self) -> bytes:
        """Answer to reset, 2 to 33 bytes."""
        ...

    def power_on(self) -> None:
        """The field is there: volatile state is fresh."""
        ...

    def power_off(self) -> None:
        """The field is gone: volatile state is lost."""
        ...

    def reset(self) -> None:
        """As power_off and power_on."""
        ...

    def execute(self, command: bytes) -> bytes:
        """Answers a C-APDU (any bytes at all) with an R-APDU; CardGone if its power went while it worked."""
        ...


@runtime_checkable
class Closable(Protocol):
    """Something that holds a resource, such as a card file's lock."""

    def close(self) -> None:
        """Lets the resource go."""
        ...


def exchange(link: CardLink, command: Command) -> Response:
    """Sends a command and returns the card's response. Raises as CardLink.transmit."""
    return Response.from_bytes(link.transmit(command.to_bytes()))


class LinkProcessor:
    """A link around a link that passes everything on: the base of the processors."""

    __slots__ = ("_inner",)

    def __init__(self, inner: CardLink) -> None:
        self._inner = inner

    @property
    def atr(self) -> bytes:
        """The inner link's ATR, 2 to 33 bytes."""
        return self._inner.atr

    def transmit(self, command: bytes) -> bytes:
        """Passes the command APDU on and gives back the R-APDU. Raises as CardLink.transmit."""
        return self._inner.transmit(command)

    def close(self, *, unpower: bool = False) -> None:
        """Closes the inner link."""
        self._inner.close(unpower=unpower)


class ResponseChaining(LinkProcessor):
    """Hides how a reply travels: 61xx becomes GET RESPONSE, 6Cxx a repeat with the right Le (7816-4, 5.3.4).

    Bounded: one repeat a command, MAX_CHAINED_RESPONSES pieces, 65,536 bytes; more of either raises Garbled.
    """

    __slots__ = ()

    def transmit(self, command: bytes) -> bytes:
        """The whole reply to `command`, with the last piece's status word."""
        reply = self._inner.transmit(command)
        if len(reply) < 2:
            raise Garbled("The card's answer is too short to be a response. Present the card again.")
        sw1 = reply[-2]
        if sw1 != 0x61 and sw1 != 0x6C:
            return reply
        return self._settle(command, reply)

    def _settle(self, command: bytes, reply: bytes) -> bytes:
        reply = self._with_right_le(command, reply)
        collected = b""
        for _ in range(MAX_CHAINED_RESPONSES):
            if len(reply) < 2:
                raise Garbled("The card's answer broke off. Present the card again.")
            collected += reply[:-2]
            if len(collected) > MAX_LE:
                raise Garbled(f"The card's answer is longer than {MAX_LE} bytes. Present the card again.")
            if reply[-2] != 0x61:
                return collected + reply[-2:]
            le = reply[-1] or MAX_SHORT_LE
            fetch = Command(channel_of(command[0]), INS_GET_RESPONSE, 0, 0, b"", le).to_bytes()
            reply = self._with_right_le(fetch, self._inner.transmit(fetch))
        raise Garbled("The card's answer doesn't end. Present the card again.")

    def _with_right_le(self, command: bytes, reply: bytes) -> bytes:
        if len(reply) < 2 or reply[-2] != 0x6C:
            return reply
        try:
            parsed = Command.from_bytes(command)
        except MalformedApdu:
            return reply
        return self._inner.transmit(parsed.with_le(reply[-1] or MAX_SHORT_LE).to_bytes())


class T0Transport(LinkProcessor):
    """What T=0 can't carry, made from what it can (7816-3, 12.2): goes below ResponseChaining.

    A case 4 command travels without its Le and its reply is fetched; an extended Le travels as 256 and the
    rest is fetched; more than 255 bytes of data travel in ENVELOPE commands, an empty one ending them.
    """

    __slots__ = ()

    def transmit(self, command: bytes) -> bytes:
        """Sends `command` in forms that T=0 has; bytes that are no command APDU go as they are."""
        try:
            parsed = Command.from_bytes(command)
        except MalformedApdu:
            return self._inner.transmit(command)
        if len(parsed.data) > MAX_SHORT_DATA:
            return self._envelope(channel_of(parsed.cla), command)
        if parsed.data:
            return self._inner.transmit(parsed.with_le(None).to_bytes())
        if parsed.le is not None and parsed.le > MAX_SHORT_LE:
            return self._inner.transmit(parsed.with_le(MAX_SHORT_LE).to_bytes())
        return self._inner.transmit(parsed.to_bytes())

    def _envelope(self, cla: int, command: bytes) -> bytes:
        for start in range(0, len(command), MAX_SHORT_DATA):
            piece = command[start : start + MAX_SHORT_DATA]
            reply = self._inner.transmit(Command(cla, INS_ENVELOPE, 0, 0, piece).to_bytes())
            if reply[-2:] != b"\x90\x00":
                return reply
        return self._inner.transmit(Command(cla, INS_ENVELOPE, 0, 0, b"", MAX_SHORT_LE).to_bytes())


def channel_of(cla: int) -> int:
    """The plain interindustry CLA on the logical channel of `cla` (7816-4, 5.4.1)."""
    if cla & 0xC0 == 0x40:
        return 0x40 | cla & 0x0F
    return cla & 0x03


class TimedLink(LinkProcessor):
    """Tells an observer, after each exchange, the command, the reply and how long it took."""

    __slots__ = ("_clock", "_observe")

    def __init__(
        self,
        inner: CardLink,
        clock: Callable[[], float],
        observe: Callable[[bytes, bytes, float], None],
    ) -> None:
        """`clock` counts seconds; `observe(command, reply, ms)` is called after each exchange answered."""
        super().__init__(inner)
        self._clock = clock
        self._observe = observe

    def transmit(self, command: bytes) -> bytes:
        """Passes the command APDU on and reports it. Raises as CardLink.transmit."""
        start_s = self._clock()
        reply = self._inner.transmit(command)
        self._observe(command, reply, (self._clock() - start_s) * 1000)
        return reply
