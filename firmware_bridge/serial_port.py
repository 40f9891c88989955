"""A serial port with bounded waits. The only importer of pyserial.

DTR and RTS stand as wanted before the port opens: common boards take a change of them for a reset.
"""

import contextlib
import errno
import os
import select
import termios
import time
from collections.abc import Callable, Iterator
from enum import Enum
from types import TracebackType
from typing import Final, Self

import serial

from firmware_bridge.errors import SerialAway, SerialStuck

MAX_READ: Final = 65_536
"""The most bytes that one read gives."""
_POLL_S: Final = 0.005
_CHUNK: Final = 4_096


class Flow(Enum):
    """How the other end says that it can take no more."""

    NONE = "none"
    RTSCTS = "rtscts"
    DSRDTR = "dsrdtr"
    XONXOFF = "xonxoff"


class SerialPort:
    """An open port: 8 data bits, no parity, 1 stop bit. One thread at a time. Close it when done.

    Raises SerialAway from every call when the port is not there, or is unplugged.
    """

    def __init__(
        self,
        path: str,
        *,
        baud: int = 115_200,
        flow: Flow = Flow.NONE,
        dtr: bool = False,
        rts: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the device `path`, for this program alone. `dtr`, `rts`: how the two lines stand from the
        beginning, as far as `flow` leaves them alone."""
        self.path = path
        self._clock = clock
        self._port = serial.Serial(
            None,
            baud,
            timeout=0,
            write_timeout=0,
            rtscts=flow is Flow.RTSCTS,
            dsrdtr=flow is Flow.DSRDTR,
            xonxoff=flow is Flow.XONXOFF,
            exclusive=True,
        )
        self._port.port = path
        self._port.dtr = dtr
        self._port.rts = rts
        try:
            self._port.open()
        except (OSError, ValueError, OverflowError, termios.error) as error:
            raise SerialAway(f"the serial port {path} can't be opened: {_why(error)}") from None

    def write(self, content: bytes, timeout_s: float) -> None:
        """All of `content`, sent to its last bit. Raises SerialStuck when that takes longer."""
        deadline_s = self._clock() + timeout_s
        view = memoryview(content)
        with _translated(self.path):
            while view:
                self._want(self._ready(deadline_s, to_write=True))
                view = view[self._port.write(view[:_CHUNK]) or 0 :]
            while self._port.out_waiting:
                self._want(self._clock() < deadline_s)
                time.sleep(_POLL_S)

    def read(self, count: int, timeout_s: float) -> bytes:
        """Up to `count` bytes: fewer when no more came within `timeout_s` seconds. At most 64 KiB."""
        wanted, deadline_s = min(count, MAX_READ), self._clock() + timeout_s
        found = bytearray()
        with _translated(self.path):
            while len(found) < wanted and self._ready(deadline_s, to_write=False):
                found += self._port.read(wanted - len(found))
        return bytes(found)

    def forget_input(self) -> None:
        """What came and was not read is dropped."""
        with _translated(self.path):
            self._port.reset_input_buffer()

    def close(self) -> None:
        """Let the port go. What it has not sent is dropped: to wait for it could take for ever."""
        with contextlib.suppress(OSError, termios.error):
            if self._port.is_open and self._port.out_waiting:
                self._port.reset_output_buffer()
        self._port.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ready(self, deadline_s: float, *, to_write: bool) -> bool:
        """Whether the port has something, or room, before the deadline. pyserial's own waits either take a
        core or forget how much was written."""
        port = [self._port.fileno()]
        left_s = max(0.0, deadline_s - self._clock())
        reading, writing, _ = select.select([] if to_write else port, port if to_write else [], [], left_s)
        return bool(reading or writing)

    def _want(self, ready: bool) -> None:
        if not ready:
            raise SerialStuck(f"the serial port {self.path} takes no more bytes; is the device on and ready?")


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, termios.error) as error:
        raise SerialAway(f"the serial port {path} has gone: {_why(error)}") from None


def _why(error: Exception) -> str:
    """The system's words for it: pyserial wraps its own around them."""
    for cause in (error, error.__context__):
        number = cause.args[0] if isinstance(cause, OSError | termios.error) and cause.args else None
        if number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EBUSY):
            return "another program has it"
        if number == errno.ENOTTY:
            return "it is no serial port"
        if isinstance(number, int):
            return os.strerror(number)
    return "it does not answer"
