"""A station on a simulated till, and what it told: for the tests of whatever stands on a station."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from firmware_bridge.link import CardLink, Reader, VirtualCard
from firmware_bridge.virtual.in_process import InProcessReader
from fleet.open import TerminalSession
from fleet.station import Event, Station
from hardwallet.messages import INS_PAY

PATIENCE_S = 20.0
E = TypeVar("E", bound=Event)


@dataclass(slots=True)
class PlainField:
    """A reader as it is, nothing modelled."""

    reader: Reader

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        return self.reader.wait_for_card(timeout_s)

    def modelled_ms(self) -> float:
        return 0.0


@dataclass(slots=True)
class Heard:
    """Keeps every event, and waits for one."""

    events: list[Event] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)
    read: int = 0

    def __call__(self, event: Event) -> None:
        with self.came:
            self.events.append(event)
            self.came.notify_all()

    def next(self, kind: type[E], such: Callable[[E], bool] = lambda _: True) -> E:
        """The next event of that kind behind those that were read; it and all before it are read then."""
        found: list[E] = []

        def look() -> bool:
            for place in range(self.read, len(self.events)):
                event = self.events[place]
                if isinstance(event, kind) and such(event):
                    self.read = place + 1
                    found.append(event)
                    return True
            return False

        with self.came:
            assert self.came.wait_for(look, PATIENCE_S), f"no {kind.__name__} in {self.events[self.read :]}"
        return found[0]

    def of(self, kind: type[E]) -> list[E]:
        """All of that kind so far."""
        with self.came:
            return [event for event in self.events if isinstance(event, kind)]


class Slow:
    """A card that stops before an instruction reaches it, until it is told to go on."""

    def __init__(self, card: VirtualCard, instruction: int = INS_PAY) -> None:
        self._card = card
        self._instruction = instruction
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.atr, self.reset = card.atr, card.reset
        self.power_on, self.power_off = card.power_on, card.power_off

    def execute(self, command: bytes) -> bytes:
        if command[1] == self._instruction and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(PATIENCE_S)
        return self._card.execute(command)


@dataclass(slots=True)
class Bench:
    """A station that runs, its reader, and what it told."""

    station: Station
    reader: InProcessReader
    heard: Heard


def until(true: Callable[[], bool]) -> None:
    """Waits until something holds that no event tells."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, "it never came"
        time.sleep(0.01)


@contextmanager
def running(session: TerminalSession, card: VirtualCard, **options: Any) -> Iterator[Bench]:
    """A station at work on a reader, where the card does not lie yet."""
    reader = InProcessReader(card, present=False)
    heard = Heard()
    station = Station(session, PlainField(reader), heard, **options)
    station.start()
    try:
        yield Bench(station, reader, heard)
    finally:
        station.close()
        reader.close()
