"""Readers through PC/SC (pcscd): the only importer of pyscard, and only when a PC/SC reader is asked for.

One loop of our own on SCardGetStatusChange, instead of pyscard's monitor threads: one context, the
plug-and-play pseudo-reader, bounded waits, SCardCancel on cancel and close, a fresh context with backoff
when pcscd restarts. The scard functions come in as an object, so that tests can script a service that stops
or a reader that is unplugged.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, cast

from firmware_bridge.errors import (
    BadReaderUri,
    BridgeError,
    Cancelled,
    CardGone,
    Garbled,
    LinkTimeout,
    NoCard,
    NoReader,
    ReaderBusy,
    ReaderGone,
    ServiceNotRunning,
)
from firmware_bridge.link import CardLink, ResponseChaining, T0Transport

PNP_READER = "\\\\?PnP?\\Notification"

# Values of the PC/SC specification (winscard.h), so that a scripted scard needs nothing but functions.
SCOPE_SYSTEM = 2
SHARE_EXCLUSIVE = 1
PROTOCOL_T0 = 1
PROTOCOL_T1 = 2
LEAVE_CARD = 0
RESET_CARD = 1
UNPOWER_CARD = 2

STATE_UNAWARE = 0x0000
STATE_IGNORE = 0x0001
STATE_CHANGED = 0x0002
STATE_UNKNOWN = 0x0004
STATE_UNAVAILABLE = 0x0008
STATE_EMPTY = 0x0010
STATE_PRESENT = 0x0020
STATE_MUTE = 0x0200

S_SUCCESS = 0
E_CANCELLED = 0x80100002
E_INVALID_HANDLE = 0x80100003
E_INSUFFICIENT_BUFFER = 0x80100008
E_UNKNOWN_READER = 0x80100009
E_TIMEOUT = 0x8010000A
E_SHARING_VIOLATION = 0x8010000B
E_NO_SMARTCARD = 0x8010000C
E_PROTO_MISMATCH = 0x8010000F
E_NOT_READY = 0x80100010
E_NOT_TRANSACTED = 0x80100016
E_READER_UNAVAILABLE = 0x80100017
F_COMM_ERROR = 0x80100013
E_NO_SERVICE = 0x8010001D
E_SERVICE_STOPPED = 0x8010001E
E_NO_READERS_AVAILABLE = 0x8010002E
E_NO_ACCESS = 0x80100027
W_SECURITY_VIOLATION = 0x8010006A
W_UNSUPPORTED_CARD = 0x80100065
W_UNRESPONSIVE_CARD = 0x80100066
W_UNPOWERED_CARD = 0x80100067
W_RESET_CARD = 0x80100068
W_REMOVED_CARD = 0x80100069

_SERVICE_LOST = frozenset({E_NO_SERVICE, E_SERVICE_STOPPED, E_INVALID_HANDLE, F_COMM_ERROR})
_REFUSED = frozenset({E_NO_ACCESS, W_SECURITY_VIOLATION})
_READER_MISSING = frozenset({E_UNKNOWN_READER, E_READER_UNAVAILABLE, E_NO_READERS_AVAILABLE})
_CARD_LEFT = frozenset({E_NO_SMARTCARD, W_REMOVED_CARD, W_RESET_CARD})
_CARD_MUTE = frozenset(
    {
        W_UNRESPONSIVE_CARD,
        W_UNPOWERED_CARD,
        W_UNSUPPORTED_CARD,
        E_PROTO_MISMATCH,
        E_NOT_READY,
        E_NOT_TRANSACTED,
    }
)

MAX_WAIT_S: Final = 5.0
"""The longest single SCardGetStatusChange; a wait is made of as many as it takes."""

SERVICE_GRACE_S: Final = 3.0
"""How long an impatient reader waits for a pcscd that restarts."""

POLLING_S: Final = 0.6
"""Longer than pcscd takes between two looks at a reader."""

BUSY_GRACE_S: Final = 1.0
"""How long another program may look at a card that just came before it counts as busy."""

_FIRST_BACKOFF_S: Final = 0.05
_LAST_BACKOFF_S: Final = 2.0
_BUSY_RETRY_S: Final = 0.05
_CANCEL_REPEAT_S: Final = 0.02

_NO_SERVICE = (
    "The smart card service doesn't answer. Start it with `sudo systemctl start pcscd.socket`, "
    "or see what `hardwallet doctor` finds."
)
_CARD_GONE = "The card left the reader. Present the same card again."
_NO_PYSCARD = "PC/SC support isn't installed. Run `make setup`, which installs pyscard and what it needs."
_REFUSED_TEXT = (
    "The smart card service refused this user. See what `hardwallet doctor` finds about polkit, "
    "or run it from a local session."
)


class Scard(Protocol):
    """The functions of pyscard's `smartcard.scard` that are used; a result code comes first.

    They are those of PC/SC part 5, as pcsc-lite has them.
    """

    # ruff: noqa: N802 - the specification's names
    def SCardEstablishContext(self, scope: int, /) -> tuple[int, Any]:
        """(result, context)."""

    def SCardReleaseContext(self, context: Any, /) -> int:
        """The result; waits on the context end."""

    def SCardListReaders(self, context: Any, groups: list[str], /) -> tuple[int, list[str]]:
        """(result, names)."""

    def SCardGetStatusChange(
        self, context: Any, timeout_ms: int, states: list[tuple[str, int]], /
    ) -> tuple[int, list[tuple[str, int, list[int]]]]:
        """(result, (name, state, ATR) of each reader), once one differs from the state given for it."""

    def SCardCancel(self, context: Any, /) -> int:
        """The result; a wait on the context that runs now ends."""

    def SCardConnect(self, context: Any, reader: str, share: int, protocols: int, /) -> tuple[int, Any, int]:
        """(result, card, protocol)."""

    def SCardStatus(self, card: Any, /) -> tuple[int, str, int, int, list[int]]:
        """(result, reader, state, protocol, ATR)."""

    def SCardReconnect(
        self, card: Any, share: int, protocols: int, initialization: int, /
    ) -> tuple[int, int]:
        """(result, protocol)."""

    def SCardTransmit(self, card: Any, protocol: int, command: list[int], /) -> tuple[int, list[int]]:
        """(result, reply), both APDUs as numbers from 0 to 255."""

    def SCardDisconnect(self, card: Any, disposition: int, /) -> int:
        """The result; the disposition says what becomes of the card's power."""


class Health(Enum):
    """What happens to a reader besides cards."""

    SERVICE_LOST = "the smart card service went away"
    SERVICE_BACK = "the smart card service is back"
    READER_GONE = "the reader was unplugged"
    READER_BACK = "the reader is back"
    CARD_MUTE = "a card is there and doesn't answer: take it away and present it again"
    CARD_BUSY = "another program holds the card"
    CARD_AWAY = "the card that could not be used was taken away"


@dataclass(frozen=True, slots=True)
class HealthEvent:
    """A change in a reader's health."""

    reader: str
    health: Health

    def __str__(self) -> str:
        return f"{self.reader}: {self.health.value}"


def load_scard() -> Scard:
    """pyscard's functions; ServiceNotRunning when it isn't installed."""
    try:
        import smartcard.scard as scard
    except ImportError as error:
        raise ServiceNotRunning(_NO_PYSCARD) from error
    return cast(Scard, scard)


def list_pcsc_readers(scard: Scard | None = None) -> list[tuple[str, bool]]:
    """The readers pcscd knows, each with whether a card is in it. Raises ServiceNotRunning."""
    scard = scard or load_scard()
    context = _establish(scard)
    try:
        names = _reader_names(scard, context)
        if not names:
            return []
        code, states = scard.SCardGetStatusChange(context, 0, [(name, STATE_UNAWARE) for name in names])
        present = {name: bool(state & STATE_PRESENT) for name, state, _ in states} if _ok(code) else {}
        return [(name, present.get(name, False)) for name in names]
    finally:
        scard.SCardReleaseContext(context)


def open_pcsc_reader(
    wanted: str,
    *,
    scard: Scard | None = None,
    patient: bool = False,
    on_health: Callable[[HealthEvent], None] | None = None,
) -> "PcscReader":
    """Opens the reader with that name, that index (0 is the first), or the only one whose name has that part.

    Raises NoReader, BadReaderUri when several fit, ServiceNotRunning.
    """
    scard = scard or load_scard()
    context = _establish(scard)
    try:
        names = _reader_names(scard, context)
    finally:
        scard.SCardReleaseContext(context)
    return PcscReader(choose_reader(wanted, names), scard=scard, patient=patient, on_health=on_health)


def choose_reader(wanted: str, names: list[str]) -> str:
    """Which of `names` is meant by a name, an index or a part of a name. Raises NoReader, BadReaderUri."""
    if wanted in names:
        return wanted
    there = ", ".join(f"{index}: {name}" for index, name in enumerate(names))
    if not names:
        raise NoReader("No reader is connected. Plug one in, or see what `hardwallet doctor` finds.")
    if wanted.isascii() and wanted.isdigit():
        index = int(wanted[:9])
        if index < len(names):
            return names[index]
        raise NoReader(f"There is no reader number {wanted}. There are: {there}.")
    fitting = [name for name in names if wanted.casefold() in name.casefold()]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadReaderUri(f"'{wanted}' fits several readers; name one by its index. There are: {there}.")
    raise NoReader(f"There is no reader '{wanted}'. There are: {there}.")


class PcscReader:
    """A reader that pcscd knows by `name`.

    An impatient one (the default) raises when its service or the reader itself goes away. A patient one
    keeps waiting through that, up to the time given, and tells `on_health`. `cancel` and `close` may be
    called from any thread; everything else belongs to one thread at a time.
    """

    def __init__(
        self,
        name: str,
        *,
        scard: Scard | None = None,
        patient: bool = False,
        on_health: Callable[[HealthEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        """`clock` counts seconds; `pause(seconds)` waits between attempts; the default ends on cancel."""
        self._name = name
        self._scard = scard or load_scard()
        self._patient = patient
        self._on_health = on_health
        self._clock = clock
        self._pause = pause or self._pause_until_cancelled
        self._lock = threading.Lock()
        self._context: Any = None
        self._stop = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._closed = False
        self._unwell: Health | None = None
        self._link: _PcscLink | None = None
        # pcscd counts a reader's arrivals and removals in the upper half of its state.
        self._arrival = -1
        self._failed_arrival = -1

    @property
    def uri(self) -> str:
        """`pcsc:` and the reader's name."""
        return f"pcsc:{self._name}"

    @property
    def name(self) -> str:
        """The name that pcscd gives it."""
        return self._name

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A connected card, held exclusively. Raises as Reader.wait_for_card."""
        end_s = self._end(timeout_s)
        with self._waiting():
            while True:
                if not self._wait_for_state(_is_present, end_s):
                    raise self._no_card()
                self._settle_after_failure()
                link = self._connect(end_s)
                if link is not None:
                    self._link = link
                    below: CardLink = T0Transport(link) if link.protocol == PROTOCOL_T0 else link
                    return ResponseChaining(below)
                if self._over(end_s):
                    raise self._no_card()

    def wait_for_removal(self, timeout_s: float | None) -> bool:
        """Whether the card left within the time. Raises as Reader.wait_for_removal."""
        with self._waiting():
            return self._wait_for_state(_is_empty, self._end(timeout_s))

    def cancel(self) -> None:
        """Ends the wait that runs now, or the next one, with Cancelled."""
        self._stop.set()
        # A cancel that comes just before the wait begins is lost in pcscd: so repeat it until the wait has
        # ended.
        while not self._idle.is_set():
            with self._lock:
                if self._context is not None:
                    self._scard.SCardCancel(self._context)
            if self._idle.wait(_CANCEL_REPEAT_S):
                return

    def close(self) -> None:
        """Ends waits, disconnects the card and releases the context."""
        if self._closed:
            return
        self._closed = True
        self.cancel()
        if self._link is not None:
            self._link.close()
        self._drop_context()

    def __enter__(self) -> "PcscReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # waiting

    def _waiting(self) -> "_Waiting":
        return _Waiting(self._idle, self._stop, lambda: self._closed)

    def _end(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._clock() + timeout_s

    def _left(self, end_s: float | None) -> float:
        return MAX_WAIT_S if end_s is None else max(0.0, min(MAX_WAIT_S, end_s - self._clock()))

    def _over(self, end_s: float | None) -> bool:
        return end_s is not None and self._clock() >= end_s

    def _pause_until_cancelled(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _check_cancelled(self) -> None:
        if self._stop.is_set():
            raise Cancelled(
                "The reader was closed." if self._closed else "The wait for a card was cancelled."
            )

    def _no_card(self) -> BridgeError:
        if self._unwell is Health.CARD_MUTE:
            return NoCard("A card is there and doesn't answer. Take it away and present it again.")
        if self._unwell in (Health.SERVICE_LOST, Health.READER_GONE):
            return NoCard(f"No card came in time: {self._unwell.value}.")
        return NoCard("No card was presented in time. Hold the card to the reader.")

    def _wait_for_state(self, wanted: Callable[[int], bool], end_s: float | None) -> bool:
        """Waits until the reader's state is as wanted; False when the time is over. Looks at least once."""
        state, pnp_state = STATE_UNAWARE, STATE_UNAWARE
        looked = False
        while True:
            self._check_cancelled()
            if looked and self._over(end_s):
                return False
            context = self._context_or_wait(end_s)
            if context is None:
                return False
            # The first look answers at once; only then is it known whether there is anything to wait for.
            wait_ms = int(self._left(end_s) * 1000) if looked else 0
            asked = [(self._name, state), (PNP_READER, pnp_state)]
            code, states = self._scard.SCardGetStatusChange(context, wait_ms, asked)
            code &= 0xFFFFFFFF
            looked = True
            self._check_cancelled()
            if code in _SERVICE_LOST:
                self._lose_service(end_s)
                state, pnp_state = STATE_UNAWARE, STATE_UNAWARE
            elif code in _READER_MISSING:
                self._lose_reader(end_s)
                state = STATE_UNAWARE
            elif code in (S_SUCCESS, E_TIMEOUT):
                now = {name: event for name, event, _ in states}
                pnp_state = now.get(PNP_READER, pnp_state) & ~STATE_CHANGED
                event = now.get(self._name, STATE_UNKNOWN)
                if event & (STATE_UNKNOWN | STATE_IGNORE | STATE_UNAVAILABLE):
                    self._lose_reader(end_s)
                    state = STATE_UNAWARE
                    continue
                self._recover()
                self._arrival = event >> 16
                state = event & ~STATE_CHANGED
                if wanted(event):
                    return True
                self._note_mute(event)
            elif code != E_CANCELLED:
                raise _reader_error(code)

    # the service and the reader come and go

    def _context_or_wait(self, end_s: float | None) -> Any:
        """The context, a fresh one if need be; None when the time is over before pcscd is back."""
        if self._context is not None:
            return self._context
        delay_s = _FIRST_BACKOFF_S
        grace_end_s = self._clock() + SERVICE_GRACE_S
        while True:
            self._check_cancelled()
            code, context = self._scard.SCardEstablishContext(SCOPE_SYSTEM)
            if _ok(code):
                with self._lock:
                    self._context = context
                if self._unwell is Health.SERVICE_LOST:
                    self._tell(Health.SERVICE_BACK)
                return context
            if code & 0xFFFFFFFF in _REFUSED:
                raise _reader_error(code)
            self._fall(Health.SERVICE_LOST)
            if not self._patient and self._clock() >= grace_end_s:
                raise ServiceNotRunning(_NO_SERVICE)
            if self._over(end_s):
                if self._patient:
                    return None
                raise ServiceNotRunning(_NO_SERVICE)
            self._pause(delay_s)
            delay_s = min(delay_s * 2, _LAST_BACKOFF_S)

    def _lose_service(self, end_s: float | None) -> None:
        self._drop_context()
        self._fall(Health.SERVICE_LOST)
        if not self._over(end_s):
            self._pause(_FIRST_BACKOFF_S)

    def _lose_reader(self, end_s: float | None) -> None:
        self._fall(Health.READER_GONE)
        if not self._patient:
            self._drop_context()
            raise ReaderGone(f"The reader {self._name} is gone. Plug it in again.")
        # A fresh context: old ones have been seen to go on calling a replugged reader unknown.
        self._drop_context()
        if not self._over(end_s):
            self._pause(_FIRST_BACKOFF_S * 4)

    def _drop_context(self) -> None:
        with self._lock:
            context, self._context = self._context, None
        if context is not None:
            self._scard.SCardReleaseContext(context)

    def _fall(self, health: Health) -> None:
        if self._unwell is not health:
            self._unwell = health
            self._tell(health)

    def _recover(self) -> None:
        if self._unwell is Health.READER_GONE:
            self._tell(Health.READER_BACK)
        if self._unwell in (Health.READER_GONE, Health.SERVICE_LOST):
            self._unwell = None

    def _note_mute(self, event: int) -> None:
        if event & STATE_MUTE:
            self._fall(Health.CARD_MUTE)
        elif event & STATE_EMPTY and self._unwell in (Health.CARD_MUTE, Health.CARD_BUSY):
            self._unwell = None
            self._tell(Health.CARD_AWAY)

    def _tell(self, health: Health) -> None:
        if self._on_health is not None:
            self._on_health(HealthEvent(self._name, health))

    # the card

    def _connect(self, end_s: float | None) -> "_PcscLink | None":
        """A link to the card that is there; None when it left again or the service did."""
        busy_end_s = self._clock() + BUSY_GRACE_S
        while True:
            self._check_cancelled()
            code, card, protocol = self._scard.SCardConnect(
                self._context, self._name, SHARE_EXCLUSIVE, PROTOCOL_T0 | PROTOCOL_T1
            )
            code &= 0xFFFFFFFF
            if code == S_SUCCESS:
                return self._make_link(card, protocol)
            if code in _CARD_LEFT:
                return None
            if code in _SERVICE_LOST:
                self._lose_service(end_s)
                return None
            if code in _READER_MISSING:
                self._lose_reader(end_s)
                return None
            if code == E_SHARING_VIOLATION:
                self._fall(Health.CARD_BUSY)
                if self._clock() >= busy_end_s:
                    raise ReaderBusy(
                        "Another program holds the card. Close it (or present the card again) and retry."
                    )
            elif code in _CARD_MUTE:
                self._fall(Health.CARD_MUTE)
                if self._over(end_s):
                    raise self._no_card()
            else:
                raise _reader_error(code)
            self._pause(_BUSY_RETRY_S)
            if code != E_SHARING_VIOLATION:
                return None

    def _settle_after_failure(self) -> None:
        """Gives pcscd the time to notice that the card of a failed session left, and came back if it did.

        Without it a reset could meet a reader that is empty in truth: pcscd then takes it for empty and
        overlooks the card that comes before its next look.
        """
        if self._link is not None and self._link.failed:
            self._link = None
            self._failed_arrival = self._arrival
            self._wait_for_state(lambda _: self._arrival != self._failed_arrival, self._clock() + POLLING_S)

    def _make_link(self, card: Any, protocol: int) -> "_PcscLink | None":
        code = S_SUCCESS
        if self._arrival == self._failed_arrival:
            code, protocol = self._scard.SCardReconnect(
                card, SHARE_EXCLUSIVE, PROTOCOL_T0 | PROTOCOL_T1, RESET_CARD
            )
        if _ok(code):
            code, _, _, _, atr = self._scard.SCardStatus(card)
            if _ok(code):
                self._unwell = None
                self._failed_arrival = -1
                return _PcscLink(self._scard, card, protocol, bytes(byte & 0xFF for byte in atr))
        self._scard.SCardDisconnect(card, LEAVE_CARD)
        self._pause(_BUSY_RETRY_S)
        return None


class _Waiting:
    """Marks a reader as waiting, so that cancel knows whom to wake."""

    def __init__(self, idle: threading.Event, stop: threading.Event, closed: Callable[[], bool]) -> None:
        self._idle = idle
        self._stop = stop
        self._closed = closed

    def __enter__(self) -> None:
        if self._closed():
            raise Cancelled("The reader was closed.")
        self._idle.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, Cancelled):
            self._stop.clear()
        self._idle.set()


class _PcscLink:
    """One connection to a card."""

    def __init__(self, scard: Scard, card: Any, protocol: int, atr: bytes) -> None:
        self._scard = scard
        self._card = card
        self._atr = atr
        self._open = True
        self.protocol = protocol
        self.failed = False

    @property
    def atr(self) -> bytes:
        return self._atr

    def transmit(self, command: bytes) -> bytes:
        if not self._open:
            raise CardGone("This card session is closed. Present the card again.")
        code, reply = self._scard.SCardTransmit(self._card, self.protocol, list(command))
        if not code and len(reply) >= 2:
            return bytes(reply)
        self.failed = True
        if code:
            raise _transmit_error(code)
        if reply:
            raise Garbled("The card's answer is too short to be a response. Present the card again.")
        # What some drivers, vpcd among them, make of a card that left in mid-exchange.
        raise CardGone(_CARD_GONE)

    def close(self, *, unpower: bool = False) -> None:
        if not self._open:
            return
        self._open = False
        # After a failure the card has most likely left: see _settle_after_failure on a reset then.
        kept = LEAVE_CARD if self.failed else RESET_CARD
        self._scard.SCardDisconnect(self._card, UNPOWER_CARD if unpower else kept)


def _is_present(event: int) -> bool:
    return bool(event & STATE_PRESENT) and not event & STATE_MUTE


def _is_empty(event: int) -> bool:
    return bool(event & STATE_EMPTY)


def _ok(code: int) -> bool:
    return code & 0xFFFFFFFF == S_SUCCESS


def _establish(scard: Scard) -> Any:
    code, context = scard.SCardEstablishContext(SCOPE_SYSTEM)
    if not _ok(code):
        raise _reader_error(code)
    return context


def _reader_names(scard: Scard, context: Any) -> list[str]:
    code, names = scard.SCardListReaders(context, [])
    code &= 0xFFFFFFFF
    if code == E_NO_READERS_AVAILABLE:
        return []
    if code != S_SUCCESS:
        raise _reader_error(code)
    return list(names)


def _reader_error(code: int) -> BridgeError:
    code &= 0xFFFFFFFF
    if code in _REFUSED:
        return ServiceNotRunning(_REFUSED_TEXT)
    if code in _SERVICE_LOST:
        return ServiceNotRunning(_NO_SERVICE)
    if code == E_SHARING_VIOLATION:
        return ReaderBusy("Another program holds the reader. Close it and retry.")
    return ReaderGone(f"The reader failed (PC/SC code {code:08X}). Unplug it, plug it in again and retry.")


def _transmit_error(code: int) -> BridgeError:
    code &= 0xFFFFFFFF
    if code == E_TIMEOUT:
        return LinkTimeout("The card doesn't answer. Present it again.")
    if code == E_INSUFFICIENT_BUFFER:
        return Garbled("The card's answer is too long to be a response. Present the card again.")
    if code in (E_NO_SERVICE, E_SERVICE_STOPPED, E_INVALID_HANDLE):
        return ReaderGone("The smart card service stopped in mid-session. Present the card again.")
    if code in _READER_MISSING:
        return ReaderGone("The reader was unplugged in mid-session. Plug it in and present the card again.")
    return CardGone(_CARD_GONE)
