"""The hand that lays simulated cards on a reader: takes each away after its visit, and tears it when told.

What a person does at a counter, for a playground: nothing here knows what a tap is for.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final

from firmware_bridge.errors import CardGone
from firmware_bridge.link import CardLink, LinkProcessor, VirtualCard
from firmware_bridge.virtual.in_process import InProcessReader
from fleet.station import Field
from hardwallet import status as sw
from hardwallet.messages import INS_PAY, INS_RATIFY, INS_REFUND, INS_SELECT

LEAVES_AFTER_S: Final = 0.8
"""A card lies a moment longer than its visit."""
LIES_S: Final = 10.0
"""The longest that a card lies there while nobody asks it."""
PIN_S: Final = 60.0
"""The longest that a card lies there for its PIN to be entered."""
CROWD_S: Final = 2.0
"""How long two cards lie there."""
_GONE: Final = "The card left the reader. Present the same card again."
_MONEY: Final = (INS_PAY, INS_REFUND)


class TearPlace(Enum):
    """Where the next tap is torn, once."""

    OFF = "nowhere"
    AT_SELECT = "at SELECT: the card leaves before it has said anything"
    BEFORE_PAY = "before PAY reaches the card: nothing is taken"
    AFTER_PAY = "after the card has paid: the answer is lost"
    BEFORE_RATIFY = "before RATIFY: the payment stands, the card keeps its record"


@dataclass(slots=True)
class Tear:
    """The order for a tear."""

    place: TearPlace = TearPlace.OFF

    def before(self, instruction: int) -> bool:
        """Whether the card leaves now, before this instruction reaches it."""
        return self._done(
            (self.place is TearPlace.AT_SELECT and instruction == INS_SELECT)
            or (self.place is TearPlace.BEFORE_PAY and instruction in _MONEY)
            or (self.place is TearPlace.BEFORE_RATIFY and instruction == INS_RATIFY)
        )

    def after(self, instruction: int, word: int) -> bool:
        """Whether the card leaves now, having carried this instruction out."""
        carried_out = instruction in _MONEY and word == sw.OK
        return self._done(self.place is TearPlace.AFTER_PAY and carried_out)

    def _done(self, torn: bool) -> bool:
        if torn:
            self.place = TearPlace.OFF
        return torn


class HandledCard:
    """A simulated card in a hand that may tear it away. `wants_pin`: its last answer asked for its PIN."""

    def __init__(self, card: VirtualCard, tear: Tear) -> None:
        self._card = card
        self._tear = tear
        self.wants_pin = False
        self.atr = card.atr
        self.power_on = card.power_on
        self.power_off = card.power_off
        self.reset = card.reset

    def execute(self, command: bytes) -> bytes:
        """The card's answer, any length. Raises CardGone where it is torn away."""
        instruction = command[1] if len(command) > 1 else -1
        if self._tear.before(instruction):
            raise CardGone(_GONE)
        reply = self._card.execute(command)
        word = int.from_bytes(reply[-2:], "big")
        if self._tear.after(instruction, word):
            raise CardGone(_GONE)
        if instruction in _MONEY:
            self.wants_pin = word == sw.PIN_WANTED or bool(sw.tries_left(word))
        return reply


class WatchedField:
    """A reader whose visits are told: nothing is modelled."""

    def __init__(self, reader: InProcessReader, visited: Callable[[], None]) -> None:
        self.reader = reader
        self._visited = visited

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A link to the next card. Raises as Reader.wait_for_card."""
        return _WatchedLink(self.reader.wait_for_card(timeout_s), self._visited)

    def modelled_ms(self) -> float:
        """Nothing."""
        return 0.0


class LentField:
    """The one card of a simulated reader, in a hand that holds it there whenever a card is awaited and takes
    it away after its visit. Close it when done."""

    def __init__(self, field: Field, reader: InProcessReader) -> None:
        """`field` is the reader as it was opened; `reader` the same one, below whatever records it."""
        self.reader = field.reader
        self._field = field
        reader.remove()
        self._card = HandledCard(reader.card, Tear())
        self._hand = Hand(reader)

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A link to the card. Raises as Reader.wait_for_card."""
        return _WatchedLink(self._field.wait_for_card(timeout_s), self._hand.visited)

    def modelled_ms(self) -> float:
        """Modelled air and card time so far."""
        return self._field.modelled_ms()

    def awaited(self) -> None:
        """Hold the card there, unless it is on its way."""
        if self._hand.done:
            self._hand.lay(self._card)

    def close(self) -> None:
        """Take the card away for good."""
        self._hand.close()


class _WatchedLink(LinkProcessor):
    """Tells when the session with the card ends."""

    __slots__ = ("_ended",)

    def __init__(self, inner: CardLink, ended: Callable[[], None]) -> None:
        super().__init__(inner)
        self._ended = ended

    def close(self, *, unpower: bool = False) -> None:
        super().close(unpower=unpower)
        self._ended()


@dataclass(frozen=True, slots=True)
class _Laid:
    """What lies there next, and how long after its visit it leaves. Two cards have no visit."""

    card: HandledCard
    leaves_after_s: float
    two: bool = False


class Hand:
    """One hand, one reader: what it is told to lay down it lays down one after the other."""

    def __init__(self, reader: InProcessReader) -> None:
        self._reader = reader
        self._changed = threading.Condition()
        self._next: deque[_Laid] = deque()
        self._lying: HandledCard | None = None
        self._visits = 0
        self._visits_before = 0  # what lies there now was laid down
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="hand", daemon=True)
        self._thread.start()

    def lay(self, card: HandledCard, leaves_after_s: float = LEAVES_AFTER_S) -> None:
        """Lay it down once what lies there has been asked. Returns at once."""
        self._put(_Laid(card, leaves_after_s))

    def lay_two(self, card: HandledCard) -> None:
        """Lay two at once, and take both away again. Returns at once."""
        self._put(_Laid(card, CROWD_S, two=True))

    @property
    def free(self) -> bool:
        """Nothing lies there, and nothing is to be laid down."""
        with self._changed:
            return self._lying is None and not self._next

    @property
    def done(self) -> bool:
        """Nothing is to be laid down, and what lies there was asked already."""
        with self._changed:
            return not self._next and (self._lying is None or self._visits > self._visits_before)

    def visited(self) -> None:
        """The card that lies there was asked."""
        with self._changed:
            self._visits += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Take away what lies there, and lay nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _put(self, laid: _Laid) -> None:
        with self._changed:
            self._next.append(laid)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._next)
                if self._closing:
                    return
                laid = self._next.popleft()
                self._lying, self._visits_before = laid.card, self._visits
            laid.card.wants_pin = False
            if laid.two:
                self._reader.crowd(laid.card)
                self._wait(CROWD_S, lambda: False)
                self._take_away()
                continue
            self._reader.present(laid.card)
            if self._wait(LIES_S, partial(self._visited_since, self._visits_before)):
                self._linger(laid)
            self._take_away()

    def _take_away(self) -> None:
        self._reader.remove()
        with self._changed:
            self._lying = None

    def _linger(self, laid: _Laid) -> None:
        """After its visit: a moment, or until it was asked again with its PIN."""
        while laid.card.wants_pin:
            laid.card.wants_pin = False
            if not self._wait(PIN_S, partial(self._visited_since, self._visits, or_next=True)):
                return
        self._wait(laid.leaves_after_s, lambda: bool(self._next))

    def _visited_since(self, visits: int, *, or_next: bool = False) -> bool:
        return self._visits > visits or (or_next and bool(self._next))

    def _wait(self, longest_s: float, over: Callable[[], bool]) -> bool:
        """Whether it was over in time, and not because everything ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or over(), longest_s)
            return over() and not self._closing
