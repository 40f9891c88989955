"""Printers by name. What is printed comes from the journal and the book of shifts, so that a printer that is
off loses nothing: it is printed again, any time.

    file:PATH                           appended to a file, or to a printer's device (/dev/usb/lp0)
    tcp:HOST[:PORT]                     a network printer; port 9100
    serial:PATH[?baud=9600&flow=none]   a serial printer; flow is none, rtscts, dsrdtr or xonxoff

Every wait has an end. Where a printer answers, it is asked before and after whether its paper is out or its
cover open; one that does not answer is believed to be well.
"""

import errno
import ipaddress
import os
import re
import select
import socket
import stat
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from typing import Final, Protocol
from urllib.parse import parse_qsl

from firmware_bridge.errors import SerialError, SerialStuck
from firmware_bridge.serial_port import Flow, SerialPort
from pos_terminal import escpos
from pos_terminal.errors import BadPrinterUri, PrinterAway, PrinterNotReady, PrinterStuck

PORT: Final = 9100
BAUD: Final = 9_600
CONNECT_S: Final = 3.0
"""How long a printer may take to answer the call."""
WRITE_S: Final = 15.0
"""How long it may take to take a slip."""
STATUS_S: Final = 0.4
"""How long it may take to say how it is."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""The longest slip, bytes."""
MAX_URI: Final = 1_024
_OUTPUT_LEFT: Final = 0x5411  # SIOCOUTQ: bytes that the other end has not acknowledged
_POLL_S: Final = 0.01
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_HELP: Final = "file:PATH, tcp:HOST:PORT or serial:/dev/ttyUSB0?baud=9600"
_SAFE: Final = "Nothing is lost: print it again when it is ready"
_AGAIN: Final = "nothing is lost: switch it on, then print it again"


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a printer may take, in seconds."""

    connect_s: float = CONNECT_S
    write_s: float = WRITE_S
    status_s: float = STATUS_S


class Printer(Protocol):
    """Where slips are printed. Each call opens the printer and lets it go again."""

    @property
    def uri(self) -> str:
        """Its name."""

    def print(self, content: bytes) -> None:
        """Print a slip (pos_terminal.escpos.encode), up to 4 MiB. Raises PrinterError; then it can be tried
        again."""


def open_printer(uri: str, waits: Waits | None = None) -> Printer:
    """The printer of that name; nothing is sent to it yet. Raises BadPrinterUri."""
    kind, colon, rest = uri.partition(":")
    if not colon or not rest or len(uri) > MAX_URI or not rest.isprintable():
        raise BadPrinterUri(f"a printer is named {_HELP}")
    waits = waits or Waits()
    if kind == "file":
        return FilePrinter(uri, rest, waits)
    if kind == "tcp":
        return TcpPrinter(uri, *_host_and_port(rest), waits)
    if kind == "serial":
        path, _, options = rest.partition("?")
        return SerialPrinter(uri, path, *_serial_options(options), waits)
    raise BadPrinterUri(f"there is no printer of the kind {kind[:20]!r}; a printer is named {_HELP}")


def _host_and_port(rest: str) -> tuple[str, int]:
    host, bracket, after = rest[1:].partition("]") if rest.startswith("[") else ("", "", "")
    if not bracket:
        host, _, after = rest.partition(":")
        after = ":" + after if _ else ""
    number = after[1:] if after.startswith(":") else "" if after else str(PORT)
    is_number = number.isascii() and number.isdigit() and len(number) <= 5
    if not is_number or not 1 <= int(number) <= 65_535 or not _is_host(host, bracketed=bool(bracket)):
        raise BadPrinterUri(
            f"{rest[:60]!r} is no network printer; name it as in tcp:192.168.1.50 or tcp:192.168.1.50:{PORT}"
        )
    return host, int(number)


def _is_host(host: str, *, bracketed: bool) -> bool:
    if not bracketed:
        return _HOST.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host) is not None
    except ValueError:
        return False


def _serial_options(options: str) -> tuple[int, Flow]:
    baud, flow = str(BAUD), Flow.NONE.value
    try:
        given = dict(parse_qsl(options, keep_blank_values=True, strict_parsing=True)) if options else {}
        baud, flow = given.pop("baud", baud), given.pop("flow", flow)
        if given or not (baud.isascii() and baud.isdigit() and 50 <= int(baud[:9]) <= 4_000_000):
            raise ValueError(options)
        return int(baud), Flow(flow)
    except ValueError:
        raise BadPrinterUri(
            "after a serial printer's path stands nothing, or ?baud=9600&flow=none (rtscts, dsrdtr, xonxoff)"
        ) from None


def _want_size(content: bytes) -> None:
    if len(content) > MAX_BYTES:
        raise PrinterStuck(f"a slip of {len(content)} bytes is too long to print")


# ------------------------------------------------------------------------------------------------- a file


@dataclass(frozen=True, slots=True)
class FilePrinter:
    """Appends to a file, durably and wholly or not at all; or writes to a device."""

    uri: str
    path: str
    waits: Waits

    def print(self, content: bytes) -> None:
        """Print a slip of up to 4 MiB. Raises PrinterAway, PrinterStuck."""
        _want_size(content)
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        if not self.path.startswith("/dev/"):  # the device of a printer that is off is not made as a file
            flags |= os.O_CREAT
        try:
            handle = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise PrinterAway(f"{self.path} can't be printed to: {error.strerror}; {_AGAIN}") from None
        try:
            status = os.fstat(handle)
            if stat.S_ISREG(status.st_mode):
                self._append(handle, content, status.st_size)
            else:
                self._feed(handle, content)
        finally:
            os.close(handle)

    def _append(self, handle: int, content: bytes, end: int) -> None:
        try:
            if os.write(handle, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(handle, end)  # no half slip
            raise PrinterAway(
                f"{self.path} can't be printed to: {error.strerror}; nothing is lost: print it again"
            ) from None

    def _feed(self, handle: int, content: bytes) -> None:
        deadline_s, view = time.monotonic() + self.waits.write_s, memoryview(content)
        while view:
            left_s = max(0.0, deadline_s - time.monotonic())
            _, ready, _ = select.select([], [handle], [], left_s)
            if not ready:
                raise PrinterStuck(f"the printer {self.path} takes no more; is it on, with paper? {_SAFE}")
            try:
                view = view[os.write(handle, view) :]
            except BlockingIOError:
                time.sleep(_POLL_S)
            except OSError as error:
                raise PrinterAway(
                    f"the printer {self.path} can't be written to: {error.strerror}; {_AGAIN}"
                ) from None


# ------------------------------------------------------------------------------------------ the network


@dataclass(frozen=True, slots=True)
class TcpPrinter:
    """A printer on the network."""

    uri: str
    host: str
    port: int
    waits: Waits

    def print(self, content: bytes) -> None:
        """Print a slip of up to 4 MiB. Raises PrinterAway, PrinterStuck, PrinterNotReady."""
        _want_size(content)
        with self._connect() as connection:
            connection.setblocking(False)
            try:
                _print_watched(
                    content,
                    self.uri,
                    lambda part: self._send(connection, part),
                    lambda: self._answer(connection),
                )
            except OSError as error:
                raise PrinterAway(
                    f"the printer {self.host}:{self.port} hung up ({_words(error)}); {_AGAIN}"
                ) from None

    def _connect(self) -> socket.socket:
        deadline_s, last = time.monotonic() + self.waits.connect_s, ""
        try:
            places = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise PrinterAway(
                f"the printer {self.host} is not found: {_words(error)}; check its name"
            ) from None
        for family, kind, protocol, _, address in places:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(left_s)
                connection.connect(address)
            except OSError as error:
                connection.close()
                last = _words(error)
                continue
            return connection
        raise PrinterAway(
            f"the printer {self.host}:{self.port} does not answer ({last or 'no time left'}); {_AGAIN}"
        )

    def _send(self, connection: socket.socket, content: bytes) -> None:
        """All of it, until the other end has acknowledged it."""
        deadline_s, view = time.monotonic() + self.waits.write_s, memoryview(content)
        while view:
            left_s = max(0.0, deadline_s - time.monotonic())
            _, ready, _ = select.select([], [connection], [], left_s)
            if not ready:
                raise PrinterStuck(f"the printer {self.host}:{self.port} takes no more. {_SAFE}")
            view = view[connection.send(view) :]
        while _unacknowledged(connection):
            if time.monotonic() >= deadline_s:
                raise PrinterStuck(f"the printer {self.host}:{self.port} takes no more. {_SAFE}")
            time.sleep(_POLL_S)

    def _answer(self, connection: socket.socket) -> int | None:
        deadline_s = time.monotonic() + self.waits.status_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            ready, _, _ = select.select([connection], [], [], left_s)
            if not ready:
                return None
            some = connection.recv(64)
            if not some:
                return None  # it never says anything more; what it was sent it may print all the same
            for answer in some:
                if escpos.is_status(answer):
                    return answer
        return None


def _words(error: Exception) -> str:
    """What went wrong, in the system's words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or "no answer in time"


def _unacknowledged(connection: socket.socket) -> int:
    (left,) = struct.unpack("i", ioctl(connection, _OUTPUT_LEFT, bytes(4)))
    return int(left)


# ---------------------------------------------------------------------------------------------- serial


@dataclass(frozen=True, slots=True)
class SerialPrinter:
    """A printer on a serial port."""

    uri: str
    path: str
    baud: int
    flow: Flow
    waits: Waits

    def print(self, content: bytes) -> None:
        """Print a slip of up to 4 MiB. Raises PrinterAway, PrinterStuck, PrinterNotReady."""
        _want_size(content)
        # At 10 bits a byte, and half as much again.
        write_s = self.waits.write_s + len(content) * 15 / self.baud
        try:
            with SerialPort(self.path, baud=self.baud, flow=self.flow, dtr=True, rts=True) as port:
                port.forget_input()
                _print_watched(
                    content,
                    self.uri,
                    lambda part: port.write(part, write_s),
                    lambda: self._answer(port),
                )
        except SerialStuck:
            raise PrinterStuck(f"the printer on {self.path} takes no more. {_SAFE}") from None
        except SerialError as error:
            raise PrinterAway(f"the printer can't be reached: {error}; {_AGAIN}") from None

    def _answer(self, port: SerialPort) -> int | None:
        for _ in range(8):
            some = port.read(1, self.waits.status_s)
            if not some:
                return None
            if escpos.is_status(some[0]):
                return some[0]
        return None


# ---------------------------------------------------------------------------------------------- status


def _print_watched(
    content: bytes, uri: str, send: Callable[[bytes], None], answer: Callable[[], int | None]
) -> None:
    """Ask, print, and ask again, as far as the printer answers. Raises PrinterNotReady."""
    if _trouble_of(send, answer, uri, "is not ready", "Nothing was printed, and nothing is lost"):
        send(content)
        _trouble_of(send, answer, uri, "did not print all", "Nothing is lost: print it again")
    else:
        send(content)


def _trouble_of(
    send: Callable[[bytes], None], answer: Callable[[], int | None], uri: str, what: str, then: str
) -> bool:
    """Whether the printer answers. Raises PrinterNotReady when it complains."""
    for ask, meaning in (
        (escpos.ASK_OFFLINE, escpos.offline_trouble),
        (escpos.ASK_PAPER, escpos.paper_trouble),
    ):
        send(ask)
        said = answer()
        if said is None:
            return False
        trouble = meaning(said)
        if trouble:
            raise PrinterNotReady(f"the printer {uri} {what}: {trouble}. {then}")
    return True
