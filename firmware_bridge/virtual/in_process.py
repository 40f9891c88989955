"""A reader without hardware or service: its card is an object in this process, pulled away at will."""

import threading
import time
from collections.abc import Callable
from functools import partial

from firmware_bridge.errors import Cancelled, CardGone, Garbled, NoCard, ReaderGone, TooManyCards
from firmware_bridge.link import CardLink, ResponseChaining, VirtualCard
from firmware_bridge.virtual.tear import TearMoment, TearOrder

_CROWD = "Two cards lie on the reader. Leave one only."
_GONE = "The card left the reader. Present the same card again."


class InProcessReader:
    """A reader with one card, presented from the start unless told otherwise.

    Every method may be called from any thread. A command in progress ends before `remove` acts.
    """

    def __init__(
        self,
        card: VirtualCard,
        uri: str = "sim:",
        *,
        present: bool = True,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """`on_close` is called once when the reader closes, to let the card's resources go."""
        self._card = card
        self._uri = uri
        self._on_close = on_close
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._present = present
        self._crowded = False
        self._arrivals = 0
        self._met: int | None = None
        self._powered = False
        self._session = 0
        self._closed = False
        self._cancelled = False
        self._tear = TearOrder()
        self.exchanges = 0
        """Commands that links of this reader have sent since it opened, torn ones included."""

    @property
    def uri(self) -> str:
        """The URI given when it was made."""
        return self._uri

    @property
    def name(self) -> str:
        """The name for people."""
        return f"simulated reader ({self._uri})"

    @property
    def card(self) -> VirtualCard:
        """The card that lies here or will."""
        return self._card

    def present(self, card: VirtualCard | None = None) -> None:
        """Lays the card on the reader; another one where given. A card that lay there is taken away first."""
        with self._changed:
            self._take_away()
            if card is not None:
                self._card = card
            self._present = True
            self._arrivals += 1
            self._changed.notify_all()

    def crowd(self, card: VirtualCard | None = None) -> None:
        """Lays a second card beside: a session that is open goes on, and no new one begins until one card is
        left. Where `card` is given, it and a second one are laid down at once."""
        with self._changed:
            if card is not None:
                self._take_away()
                self._card = card
                self._arrivals += 1
            self._present = self._crowded = True
            self._changed.notify_all()

    def leave_one(self) -> None:
        """Takes the second card away; the first one lies there."""
        with self._changed:
            self._crowded = False
            self._changed.notify_all()

    def remove(self) -> None:
        """Takes the card away, or both: its power is cut, open links raise CardGone."""
        with self._changed:
            self._take_away()
            self._changed.notify_all()

    def tear_at(self, exchange_number: int, when: TearMoment = "before") -> None:
        """The card leaves at the exchange with that number, 1 being the next one.

        "before": the command never reaches the card. "after": the card carries it out and the reply is lost.
        The link raises CardGone and the card stays away until `present`. 0 takes the order back.
        """
        with self._changed:
            self._tear.order(exchange_number, when)

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A link to the card, freshly reset; NoCard when none comes in time, TooManyCards when two lie
        there."""
        with self._changed:
            if not self._wait(lambda: self._present, timeout_s):
                raise NoCard("No card was presented in time. Hold the card to the reader.")
            if self._crowded:
                raise TooManyCards(_CROWD)
            if self._powered:
                self._card.reset()
            else:
                self._card.power_on()
                self._powered = True
            self._session += 1
            self._met = self._arrivals
            return ResponseChaining(
                _InProcessLink(
                    self._card.atr,
                    partial(self._exchange, self._session),
                    partial(self._end_session, self._session),
                )
            )

    def wait_for_removal(self, timeout_s: float | None) -> bool:
        """Whether the card that was waited for was taken away within the time, though another one may lie
        there by now."""
        with self._changed:
            met = self._arrivals if self._met is None else self._met
            return self._wait(lambda: not self._present or self._arrivals != met, timeout_s)

    def cancel(self) -> None:
        """Ends the wait that runs now, or the next one, with Cancelled."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def close(self) -> None:
        """Takes the card away and ends waits."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._take_away()
            self._changed.notify_all()
        if self._on_close is not None:
            self._on_close()

    def _wait(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._cancelled:
                self._cancelled = False
                raise Cancelled("The wait for a card was cancelled.")
            if self._closed:
                raise Cancelled("The reader was closed.")
            if done():
                return True
            left_s = None if end_s is None else end_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            self._changed.wait(left_s)

    def _take_away(self) -> None:
        self._session += 1
        if self._powered:
            self._powered = False
            self._card.power_off()
        self._present = self._crowded = False

    def _exchange(self, session: int, command: bytes) -> bytes:
        with self._lock:
            if session != self._session:
                raise ReaderGone("The reader is closed. Open it again.") if self._closed else CardGone(_GONE)
            self.exchanges += 1
            torn = self._tear.begin_exchange()
            if torn == "before":
                self.remove()
                raise CardGone(_GONE)
            reply = self._execute(command)
            if torn == "after":
                self.remove()
                raise CardGone(_GONE)
            return reply

    def _execute(self, command: bytes) -> bytes:
        try:
            reply = self._card.execute(command)
        except CardGone:
            self.remove()
            raise
        if len(reply) < 2:
            raise Garbled("The card's answer is too short to be a response. Present the card again.")
        return reply

    def _end_session(self, session: int, *, unpower: bool) -> None:
        with self._changed:
            if session != self._session:
                return
            self._session += 1
            if unpower and self._powered:
                self._powered = False
                self._card.power_off()


class _InProcessLink:
    """One session with the reader's card. `transmit` is the reader's own exchange, without a call between."""

    __slots__ = ("_atr", "_end", "transmit")

    def __init__(self, atr: bytes, exchange: Callable[[bytes], bytes], end: Callable[..., None]) -> None:
        self._atr = atr
        self.transmit = exchange
        self._end = end

    @property
    def atr(self) -> bytes:
        return self._atr

    def close(self, *, unpower: bool = False) -> None:
        self._end(unpower=unpower)
