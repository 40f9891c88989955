"""A reader of one's own: a device that talks TCP. What to write is `SocketLink` and `SocketReader`.

    python examples/custom_reader.py TERMINAL CARD FEN        for example: till alice.card 1250

The device is played by this program (`Device`), with a simulated card on it, at a free port of this machine;
the terminal reaches it through the socket alone. A frame: length of the data (2) ‖ letter (1) ‖ data.

    to the device      W milliseconds (4)   wait for a card         answer  C ATR        N none in that time
                       R milliseconds (4)   wait until it is away   answer  Y it is      N not in that time
                       T command            exchange an APDU        answer  A reply      G the card has gone
                       U                    cut the card's power    answer  Y
"""

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from firmware_bridge.errors import Cancelled, CardGone, LinkTimeout, NoCard, NoReader, ReaderGone
from firmware_bridge.link import CardLink, ResponseChaining, VirtualCard
from fleet.open import open_session
from hardwallet.card.simulated import SimulatedCard
from pos_terminal.tap import tap

STEP_S: Final = 0.2
"""A wait is asked for in steps, so that `cancel` is heard between two of them."""
ANSWER_S: Final = 10.0
"""Longer than any card works on one command, waiting-time extensions included."""
_HEAD: Final = struct.Struct(">Hc")


def send(connection: socket.socket, letter: bytes, data: bytes = b"") -> None:
    """Send a frame with at most 65,535 bytes of data. Raises OSError."""
    connection.sendall(_HEAD.pack(len(data), letter) + data)


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """The next frame: its letter, and its data of any length. Raises OSError, also when it breaks off."""
    length, letter = _HEAD.unpack(_exactly(connection, _HEAD.size))
    return letter, _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise ConnectionResetError("the device hung up")
        data += piece
    return data


# --------------------------------------------------------------------------------------- what you write


class SocketLink:
    """A card in front of the device (firmware_bridge.link.CardLink)."""

    def __init__(self, connection: socket.socket, atr: bytes) -> None:
        """`atr`: 2 to 33 bytes."""
        self._connection = connection
        self._open = True
        self.atr = atr

    def transmit(self, command: bytes) -> bytes:
        """The reply to a command APDU. Raises CardGone, LinkTimeout, ReaderGone: then nobody knows whether
        the card carried it out, which the tap calls *unresolved*."""
        if not self._open:
            raise CardGone("The card has left. Present the same card again.")
        try:
            send(self._connection, b"T", command)
            letter, reply = receive(self._connection)
        except TimeoutError as error:
            self._hang_up()  # an answer that comes too late must not be taken for the next one
            raise LinkTimeout("The card did not answer in time. Present the same card again.") from error
        except OSError as error:
            self._hang_up()
            raise ReaderGone(f"The reader hung up ({error}). Connect it again.") from error
        if letter != b"A":
            self._open = False
            raise CardGone("The card left the reader. Present the same card again.")
        return reply

    def close(self, *, unpower: bool = False) -> None:
        """The card may go; `unpower` cuts its power at once."""
        if self._open and unpower:
            with suppress(OSError):
                send(self._connection, b"U")
                receive(self._connection)
        self._open = False

    def _hang_up(self) -> None:
        self._open = False
        self._connection.close()


class SocketReader:
    """A device behind a TCP socket (firmware_bridge.link.Reader). Any thread may cancel."""

    def __init__(self, host: str, port: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds. Raises NoReader when nothing listens there."""
        self.uri, self.name = f"tcp:{host}:{port}", f"tap device at {host}:{port}"
        self._address = host, port
        self._clock = clock
        self._cancelled = threading.Event()
        self._closed = threading.Event()
        self._connection: socket.socket | None = self._connect()

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A link to the next card; ResponseChaining settles 61xx and 6Cxx. None waits without end.

        Raises NoCard, Cancelled, NoReader, ReaderGone.
        """
        found = self._wait(b"W", timeout_s)
        if found is None:
            raise NoCard("No card was presented in time.")
        connection, atr = found
        return ResponseChaining(SocketLink(connection, atr))

    def wait_for_removal(self, timeout_s: float | None) -> bool:
        """Whether the card left within the time. Raises Cancelled, NoReader, ReaderGone."""
        return self._wait(b"R", timeout_s) is not None

    def cancel(self) -> None:
        """The wait that runs now, or else the next, ends with Cancelled."""
        self._cancelled.set()

    def close(self) -> None:
        """Hang up. A wait ends with Cancelled."""
        self._closed.set()
        self._drop()

    def _wait(self, letter: bytes, timeout_s: float | None) -> tuple[socket.socket, bytes] | None:
        end_s = None if timeout_s is None else self._clock() + timeout_s
        while True:
            if self._closed.is_set() or self._cancelled.is_set():
                self._cancelled.clear()
                raise Cancelled("The wait was cancelled.")
            left_s = STEP_S if end_s is None else max(0.0, min(STEP_S, end_s - self._clock()))
            connection = self._connected()
            try:
                send(connection, letter, int(left_s * 1000).to_bytes(4, "big"))
                answer, data = receive(connection)
            except OSError as error:
                self._drop()  # the next wait connects anew
                if not self._closed.is_set():
                    raise ReaderGone(f"{self.name} hung up ({error}). Connect it again.") from error
                continue
            if answer in (b"C", b"Y"):
                return connection, data
            if end_s is not None and self._clock() >= end_s:
                return None

    def _connected(self) -> socket.socket:
        if self._connection is None or self._connection.fileno() < 0:  # the link hung up
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> socket.socket:
        try:
            connection = socket.create_connection(self._address, ANSWER_S)
        except OSError as error:
            raise NoReader(f"Nothing answers as {self.name} ({error}). Is it switched on?") from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


# --------------------------------------------------------------------------------------- the other end


class Device:
    """The tap device, played: it listens on a free port of this machine, and a card lies on it."""

    def __init__(self, card: VirtualCard) -> None:
        """`card` lies there from the start; `present` may be changed at any time."""
        self._card = card
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.present = True
        self.hang_up_after: bytes | None = None
        """The INS of a command whose reply is lost, and the connection with it: the cable is pulled."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. A connection that is open ends when the reader hangs up."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    while True:
                        letter, data = receive(connection)
                        send(connection, *self._answer(letter, data))

    def _answer(self, letter: bytes, data: bytes) -> tuple[bytes, bytes]:
        if letter == b"T":
            return self._exchange(data)
        if letter == b"U":
            self._card.power_off()
            return b"Y", b""
        if self.present == (letter == b"W"):
            if letter == b"W":
                self._card.reset()
                return b"C", self._card.atr
            return b"Y", b""
        time.sleep(int.from_bytes(data, "big") / 1000)
        return b"N", b""

    def _exchange(self, command: bytes) -> tuple[bytes, bytes]:
        if not self.present:
            return b"G", b""
        reply = self._card.execute(command)
        if self.hang_up_after is not None and command[1:2] == self.hang_up_after:
            self.hang_up_after = None
            self._card.power_off()
            raise ConnectionAbortedError
        return b"A", reply


def main(folder: str, card: str, amount_fen: str) -> None:
    """Take one sale at the terminal in `folder` through the socket, and tell how it ended."""
    with (
        open_session(Path(folder)) as session,
        closing(SimulatedCard(Path(card))) as simulated,
        closing(Device(simulated)) as device,
        closing(SocketReader("127.0.0.1", device.port)) as reader,
        closing(reader.wait_for_card(5.0)) as link,
    ):
        result = tap(session.terminal, link, session.terminal.new_sale(int(amount_fen)))
        print(result.outcome.name, result.reason)
        if result.record is not None:
            print(f"balance {result.record.balance_fen} fen, ratified: {result.ratified}")


if __name__ == "__main__":
    main(*sys.argv[1:])
