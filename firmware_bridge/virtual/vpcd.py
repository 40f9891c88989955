"""Shows a simulated card to pcscd through its vpcd driver, so that any PC/SC program meets it.

Wire: a 16-bit big-endian length, then that many bytes. One byte is control (0 power off, 1 power on, 2
reset, 4 asks for the ATR); anything longer is a command APDU, answered with the response APDU in the same
framing.

vpcd writes length and payload apart, which meets Nagle and delayed acknowledgements (48 ms an APDU): hence
TCP_NODELAY once and TCP_QUICKACK before every read.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

from firmware_bridge.errors import BridgeError, CardGone, LinkTimeout, ServiceNotRunning
from firmware_bridge.link import VirtualCard
from firmware_bridge.virtual.tear import TearMoment, TearOrder

VPCD_HOST = "127.0.0.1"
VPCD_PORT = 35_963
"""The first virtual reader; the second one is a port higher."""

MAX_MESSAGE_LENGTH = 65_535
PCSCD_SOCKET = "/run/pcscd/pcscd.comm"

_POWER_OFF = 0
_POWER_ON = 1
_RESET = 2
_GET_ATR = 4

_CONNECT_TIMEOUT_S = 5.0
_FIRST_BACKOFF_S = 0.05
_LAST_BACKOFF_S = 2.0
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)

_NOT_THERE = (
    "No virtual reader answers on {host}:{port}. Install it and start the service: "
    "`sudo apt install pcscd vsmartcard-vpcd && sudo systemctl restart pcscd`."
)


class VpcdCard:
    """A simulated card in pcscd's virtual reader: `insert` and `remove` it, `close` in the end.

    A thread of its own answers pcscd while the card is in. When pcscd restarts, the card is connected again.
    """

    def __init__(
        self,
        card: VirtualCard,
        *,
        host: str = VPCD_HOST,
        port: int = VPCD_PORT,
        ready: Callable[[], None] | None = None,
    ) -> None:
        """`ready` is called, from the serving thread, each time that pcscd has taken the card in."""
        self._card = card
        self._address = (host, port)
        self._ready = ready
        self._changed = threading.Condition(threading.RLock())
        self._inside = False
        self._taken = False
        self._closed = False
        self._socket: socket.socket | None = None
        self._failure: BaseException | None = None
        self._tear = TearOrder()
        self._powered = False
        self._thread: threading.Thread | None = None
        self.exchanges = 0
        """Command APDUs that reached this card's wire, torn ones included."""

    def insert(self, card: VirtualCard | None = None, *, timeout_s: float = 10.0) -> None:
        """Puts the card in (another one where given) and waits until pcscd has taken it.

        Raises ServiceNotRunning when nothing listens, LinkTimeout when pcscd doesn't take the card in that
        time.
        """
        self.remove(timeout_s=timeout_s)
        with self._changed:
            if self._closed:
                raise ServiceNotRunning("This virtual card was closed. Make a new one.")
            if card is not None:
                self._card = card
        first = _connect(self._address)
        with self._changed:
            self._socket = first
            self._inside = True
            self._ensure_thread()
            self._changed.notify_all()
        if not self._wait(lambda: self._taken or not self._inside, timeout_s):
            self.remove(timeout_s=timeout_s)
            raise LinkTimeout(
                "pcscd didn't take the virtual card: is another one in its virtual reader? Remove it."
            )

    def remove(self, *, timeout_s: float = 10.0) -> None:
        """Takes the card out: its power is cut. Does nothing when it is out."""
        with self._changed:
            self._take_out()
        self._wait(lambda: not self._taken and self._socket is None, timeout_s)

    @property
    def inserted(self) -> bool:
        """Whether the card is in; a tear takes it out."""
        with self._changed:
            return self._inside

    def tear_at(self, exchange_number: int, when: TearMoment = "before") -> None:
        """The card leaves at the exchange with that number, 1 being the next; see InProcessReader.tear_at."""
        with self._changed:
            self._tear.order(exchange_number, when)

    def close(self) -> None:
        """Takes the card out and ends the thread. Closing twice does nothing."""
        with self._changed:
            self._closed = True
            self._take_out()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def wait_closed(self, timeout_s: float | None = None) -> bool:
        """Whether `close` was called, or the card failed, within the time; raises the card's failure."""
        closed = self._wait(lambda: self._closed or self._failure is not None, timeout_s)
        if self._failure is not None:
            raise self._failure
        return closed

    def __enter__(self) -> "VpcdCard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(done, timeout_s)

    def _take_out(self) -> None:
        self._inside = False
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._changed.notify_all()

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vpcd card", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while self._wait_inserted():
                self._serve_once()
        except Exception as error:  # noqa: BLE001 - whatever the card raises, wait_closed raises it in turn
            with self._changed:
                self._failure = error
                self._inside = False
        finally:
            self._let_go()

    def _wait_inserted(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._inside or self._closed)
            return not self._closed

    def _serve_once(self) -> None:
        try:
            connection = self._connection()
            if connection is not None:
                self._answer_until_out(connection)
        except (OSError, EOFError):
            pass  # pcscd ended or the card was taken out: the next round finds out which
        except CardGone:
            self._take_out_locked()
        finally:
            self._let_go()

    def _connection(self) -> socket.socket | None:
        """The connection made by insert, or after pcscd went away a new one, tried until the card is out."""
        delay_s = _FIRST_BACKOFF_S
        while True:
            with self._changed:
                if not self._inside:
                    return None
                if self._socket is not None:
                    return self._socket
            try:
                made = _connect(self._address)
            except BridgeError:
                self._wait(lambda: not self._inside, delay_s)
                delay_s = min(delay_s * 2, _LAST_BACKOFF_S)
                continue
            self._take_over(made)

    def _take_over(self, made: socket.socket) -> None:
        with self._changed:
            if self._socket is None:
                self._socket = made
            else:
                made.close()  # insert was quicker

    def _take_out_locked(self) -> None:
        with self._changed:
            self._take_out()

    def _let_go(self) -> None:
        with self._changed:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            if self._powered:
                self._powered = False
                self._card.power_off()
            self._taken = False
            self._changed.notify_all()

    def _answer_until_out(self, connection: socket.socket) -> None:
        while self.inserted:
            message = _receive(connection)
            if len(message) == 1:
                self._control(connection, message[0])
            elif message:
                _send(connection, self._answer(message))

    def _control(self, connection: socket.socket, code: int) -> None:
        if code == _POWER_OFF:
            self._power(on=False)
        elif code == _POWER_ON:
            self._power(on=True)
        elif code == _RESET:
            self._reset()
        elif code == _GET_ATR:
            _send(connection, self._card.atr)
            self._note_taken()

    def _power(self, *, on: bool) -> None:
        if on and not self._powered:
            self._card.power_on()
        elif self._powered and not on:
            self._card.power_off()
        self._powered = on

    def _reset(self) -> None:
        if self._powered:
            self._card.reset()
        else:
            self._power(on=True)

    def _note_taken(self) -> None:
        with self._changed:
            if self._taken:
                return
            self._taken = True
            self._changed.notify_all()
        if self._ready is not None:
            self._ready()

    def _answer(self, command: bytes) -> bytes:
        with self._changed:
            self.exchanges += 1
            torn = self._tear.begin_exchange()
        if torn == "before":
            raise CardGone("The virtual card left before the command reached it.")
        self._power(on=True)
        reply = self._card.execute(command)
        if torn == "after":
            raise CardGone("The virtual card left before its reply.")
        return reply


def serve(
    card: VirtualCard,
    stop: threading.Event,
    *,
    host: str = VPCD_HOST,
    port: int = VPCD_PORT,
    ready: Callable[[], None] | None = None,
    timeout_s: float = 30.0,
) -> None:
    """Shows the card until `stop` is set. Raises as VpcdCard.insert, and what the card itself raises."""
    with VpcdCard(card, host=host, port=port, ready=ready) as shown:
        shown.insert(timeout_s=timeout_s)
        while not stop.is_set() and not shown.wait_closed(0.2):
            pass


def wake_service(path: str = PCSCD_SOCKET) -> bool:
    """Knocks at pcscd's socket, which starts it where systemd listens for it. Whether anyone was there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        try:
            knock.connect(path)
        except OSError:
            return False
    return True


def _connect(address: tuple[str, int]) -> socket.socket:
    """A connection to the driver, which listens only while pcscd runs; hence the knock and the retries."""
    end_s = time.monotonic() + _CONNECT_TIMEOUT_S
    woken = False
    while True:
        try:
            made = socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S)
        except OSError as error:
            woken = woken or wake_service()
            if not woken or time.monotonic() >= end_s:
                host, port = address
                raise ServiceNotRunning(_NOT_THERE.format(host=host, port=port)) from error
            time.sleep(_FIRST_BACKOFF_S)
            continue
        made.settimeout(None)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


def _receive(connection: socket.socket) -> bytes:
    return _receive_exactly(connection, int.from_bytes(_receive_exactly(connection, 2), "big"))


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        if _QUICKACK is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        piece = connection.recv(length - len(received))
        if not piece:
            raise EOFError
        received += piece
    return received


def _send(connection: socket.socket, message: bytes) -> None:
    if len(message) > MAX_MESSAGE_LENGTH:
        raise CardGone(f"The virtual card answered {len(message)} bytes, more than its reader can carry.")
    connection.sendall(len(message).to_bytes(2, "big") + message)
