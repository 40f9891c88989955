"""A pcscd that does what a test says: services stop, readers are unplugged, other programs hold cards.

It stands at the scard door, where pyscard stands otherwise, and has a clock of its own: waits cost no time,
and what is to happen during the next wait is given beforehand.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from firmware_bridge import pcsc
from firmware_bridge.link import VirtualCard


class ScriptedScard:
    """The functions of pyscard's scard over readers that a test moves."""

    def __init__(self, readers: list[str]) -> None:
        self.readers: dict[str, VirtualCard | None] = dict.fromkeys(readers)
        self.service_up = True
        self.refusing = 0
        self.now_s = 0.0
        self.during_waits: deque[Callable[[], None]] = deque()
        """What happens in the coming waits, one each: a wait sees it and ends."""
        self.arrivals = dict.fromkeys(readers, 0)
        self.connect_codes: deque[int] = deque()
        """What the coming connects answer instead of connecting."""
        self.transmit_codes: deque[int] = deque()
        self.mute: set[str] = set()
        self.protocol = pcsc.PROTOCOL_T1
        self.dispositions: list[int] = []
        self.waits_ms: list[int] = []
        self.contexts_open = 0
        self._context = 0
        self._generation = 0
        self._cancelled = False
        self._powered: set[str] = set()
        self.reconnect_codes: deque[int] = deque()

    # what a test does

    def clock(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        if self.during_waits:
            self.during_waits.popleft()()

    def insert(self, name: str, card: VirtualCard) -> None:
        self.readers[name] = card
        self.arrivals[name] = self.arrivals.get(name, 0) + 1

    def take(self, name: str) -> None:
        card, self.readers[name] = self.readers[name], None
        self.arrivals[name] += 1
        if card is not None and name in self._powered:
            self._powered.remove(name)
            card.power_off()

    def stop_service(self) -> None:
        self.service_up = False
        self._generation += 1
        self._powered.clear()

    def start_service(self) -> None:
        self.service_up = True

    # what a program calls

    def SCardEstablishContext(self, scope: int, /) -> tuple[int, Any]:  # noqa: N802
        assert scope == pcsc.SCOPE_SYSTEM
        if self.refusing:
            return _signed(self.refusing), 0
        if not self.service_up:
            return _signed(pcsc.E_NO_SERVICE), 0
        self.contexts_open += 1
        self._context += 1
        return 0, (self._context, self._generation)

    def SCardReleaseContext(self, context: Any, /) -> int:  # noqa: N802
        self.contexts_open -= 1
        return 0

    def SCardListReaders(self, context: Any, groups: list[str], /) -> tuple[int, list[str]]:  # noqa: N802
        if not self.readers:
            return _signed(pcsc.E_NO_READERS_AVAILABLE), []
        return 0, list(self.readers)

    def SCardGetStatusChange(  # noqa: N802
        self, context: Any, timeout_ms: int, states: list[tuple[str, int]], /
    ) -> tuple[int, list[tuple[str, int, list[int]]]]:
        if self._is_lost(context):
            return _signed(pcsc.E_NO_SERVICE), []
        names = [name for name, _ in states if name != pcsc.PNP_READER]
        if any(name not in self.readers for name in names):
            return _signed(pcsc.E_UNKNOWN_READER), []
        changed = self._changes(states)
        if not changed and timeout_ms:
            self.waits_ms.append(timeout_ms)
            return self._wait(context, timeout_ms, states)
        return 0, self._events(states)

    def _wait(
        self, context: Any, timeout_ms: int, states: list[tuple[str, int]]
    ) -> tuple[int, list[tuple[str, int, list[int]]]]:
        if not self.during_waits:
            self.now_s += timeout_ms / 1000
            return _signed(pcsc.E_TIMEOUT), self._events(states)
        self.during_waits.popleft()()
        if self._cancelled:
            self._cancelled = False
            return _signed(pcsc.E_CANCELLED), self._events(states)
        if self._is_lost(context):
            return _signed(pcsc.E_SERVICE_STOPPED), []
        return 0, self._events(states)

    def SCardCancel(self, context: Any, /) -> int:  # noqa: N802
        self._cancelled = True
        return 0

    def SCardConnect(  # noqa: N802
        self, context: Any, reader: str, share: int, protocols: int, /
    ) -> tuple[int, Any, int]:
        assert share == pcsc.SHARE_EXCLUSIVE
        if self.connect_codes:
            return _signed(self.connect_codes.popleft()), 0, 0
        card = self.readers.get(reader)
        if card is None:
            return _signed(pcsc.E_NO_SMARTCARD), 0, 0
        if reader not in self._powered:
            card.power_on()
            self._powered.add(reader)
        return 0, (reader, card), self.protocol

    def SCardReconnect(  # noqa: N802
        self, card: Any, share: int, protocols: int, initialization: int, /
    ) -> tuple[int, int]:
        assert share == pcsc.SHARE_EXCLUSIVE
        assert initialization == pcsc.RESET_CARD
        if self.reconnect_codes:
            return _signed(self.reconnect_codes.popleft()), 0
        card[1].reset()
        return 0, self.protocol

    def SCardStatus(self, card: Any, /) -> tuple[int, str, int, int, list[int]]:  # noqa: N802
        return 0, card[0], 0, self.protocol, list(card[1].atr)

    def SCardTransmit(self, card: Any, protocol: int, command: list[int], /) -> tuple[int, list[int]]:  # noqa: N802
        assert protocol == self.protocol
        if self.transmit_codes:
            return _signed(self.transmit_codes.popleft()), []
        there = self.readers.get(card[0])
        if there is None or there is not card[1]:
            return _signed(pcsc.W_REMOVED_CARD), []
        return 0, list(there.execute(bytes(command)))

    def SCardDisconnect(self, card: Any, disposition: int, /) -> int:  # noqa: N802
        self.dispositions.append(disposition)
        if disposition == pcsc.RESET_CARD and card[0] in self._powered:
            card[1].reset()
        if disposition == pcsc.UNPOWER_CARD and card[0] in self._powered:
            self._powered.remove(card[0])
            card[1].power_off()
        return 0

    def _is_lost(self, context: Any) -> bool:
        return not self.service_up or context[1] != self._generation

    def _state(self, name: str) -> int:
        if name == pcsc.PNP_READER:
            return len(self.readers) << 16
        if name not in self.readers:
            return pcsc.STATE_UNKNOWN
        count = self.arrivals.get(name, 0) << 16
        if self.readers[name] is None:
            return count | pcsc.STATE_EMPTY
        return count | pcsc.STATE_PRESENT | (pcsc.STATE_MUTE if name in self.mute else 0)

    def _changes(self, states: list[tuple[str, int]]) -> list[str]:
        return [name for name, known in states if known != self._state(name)]

    def _events(self, states: list[tuple[str, int]]) -> list[tuple[str, int, list[int]]]:
        changed = set(self._changes(states))
        return [
            (name, self._state(name) | (pcsc.STATE_CHANGED if name in changed else 0), [])
            for name, _ in states
        ]


def _signed(code: int) -> int:
    """As pyscard gives them on some platforms: 32 bits with a sign."""
    return code - (1 << 32) if code & 0x80000000 else code
