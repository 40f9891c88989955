"""Printers: what reaches them, that every wait ends, and that one which is off is told and loses nothing."""

import os
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from pos_terminal import escpos
from pos_terminal.errors import (
    BadPrinterUri,
    PrinterAway,
    PrinterError,
    PrinterNotReady,
    PrinterStuck,
    TerminalError,
)
from pos_terminal.printing import MAX_BYTES, SerialPrinter, TcpPrinter, Waits, open_printer

SLIP = b"\x1b@\x1c&PAYMENT\n12.50\n\x1bd\x04\x1dVB\x00"
QUICK = Waits(connect_s=5.0, write_s=5.0, status_s=0.05)
SHORT = Waits(connect_s=0.2, write_s=0.2, status_s=0.02)
ASKS = escpos.ASK_OFFLINE, escpos.ASK_PAPER
WELL = 0x12
GENEROUS_S = 60


class FakePrinter:
    """What a printer is sent, and what it says of itself: answers to DLE EOT 2 and 4, None: none."""

    def __init__(self, offline: list[int | None], paper: list[int | None]) -> None:
        self.printed = bytearray()
        self._answers = {escpos.ASK_OFFLINE: offline, escpos.ASK_PAPER: paper}

    def take(self, some: bytes) -> bytes:
        """What it answers to some bytes; an ask may come in pieces, and anywhere."""
        self.printed += some
        said = b""
        while (place := self.printed.find(b"\x10\x04")) >= 0 and place + 3 <= len(self.printed):
            answers = self._answers[bytes(self.printed[place : place + 3])]
            del self.printed[place : place + 3]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            said += b"" if answer is None else bytes([0x14, answer])  # another byte lies before it
        return said


@contextmanager
def network_printer(fake: FakePrinter) -> Iterator[str]:
    """A printer on loopback that serves one slip after the other; its URI."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(GENEROUS_S)
                while some := connection.recv(65_536):
                    connection.sendall(fake.take(some))

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        serving.join(GENEROUS_S)


@contextmanager
def serial_printer(fake: FakePrinter) -> Iterator[str]:
    """A printer on a pseudo-terminal; its URI."""
    end, host = os.openpty()
    tty.setraw(end)
    tty.setraw(host)

    def serve() -> None:
        while True:
            try:
                some = os.read(end, 65_536)
            except OSError:
                return
            os.write(end, fake.take(some.removesuffix(b"bye")))
            if some.endswith(b"bye"):
                return

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield f"serial:{os.ttyname(host)}?baud=115200"
    finally:
        os.write(host, b"bye")
        serving.join(GENEROUS_S)
        os.close(end)
        os.close(host)


Served = Callable[[FakePrinter], AbstractContextManager[str]]
BOTH = pytest.mark.parametrize("served", [network_printer, serial_printer])


@BOTH
def test_a_slip_is_printed_as_it_is(served: Served) -> None:
    fake = FakePrinter([WELL], [WELL])
    with served(fake) as uri:
        open_printer(uri, QUICK).print(SLIP)
        open_printer(uri, QUICK).print(SLIP)
    assert bytes(fake.printed) == SLIP + SLIP


@BOTH
def test_a_printer_that_says_nothing_is_believed_to_be_well(served: Served) -> None:
    fake = FakePrinter([None], [None])
    with served(fake) as uri:
        open_printer(uri, QUICK).print(SLIP)
    assert bytes(fake.printed) == SLIP


@BOTH
@pytest.mark.parametrize(
    ("offline", "paper", "words"),
    [(0x16, WELL, "cover is open"), (WELL, 0x72, "paper is out"), (0x52, WELL, "reports an error")],
)
def test_a_printer_that_is_not_ready_gets_nothing(
    served: Served, offline: int, paper: int, words: str
) -> None:
    fake = FakePrinter([offline], [paper])
    said = rf"is not ready: .*{words}.*Nothing was printed"
    with served(fake) as uri, pytest.raises(PrinterNotReady, match=said):
        open_printer(uri, QUICK).print(SLIP)
    assert bytes(fake.printed) == b""


@BOTH
def test_paper_that_ends_in_the_middle_is_told(served: Served) -> None:
    fake = FakePrinter([WELL], [WELL, 0x72])
    said = r"did not print all: its paper is out.*print it again"
    with served(fake) as uri, pytest.raises(PrinterNotReady, match=said):
        open_printer(uri, QUICK).print(SLIP)
    assert bytes(fake.printed) == SLIP


# ------------------------------------------------------------------------------------------- off and away


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_network_printer_that_is_off_is_told_and_can_be_tried_again() -> None:
    port = closed_port()
    printer = open_printer(f"tcp:127.0.0.1:{port}", QUICK)
    with pytest.raises(PrinterAway, match=r"does not answer \(Connection refused\).*nothing is lost"):
        printer.print(SLIP)
    fake = FakePrinter([None], [None])
    with network_printer(fake) as uri:
        open_printer(uri, QUICK).print(SLIP)
    assert bytes(fake.printed) == SLIP


def test_a_printer_that_never_answers_the_call() -> None:
    """Its queue of calls is full: as behind a firewall that drops everything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with pytest.raises(PrinterAway, match="does not answer"):
            open_printer(f"tcp:127.0.0.1:{port}", SHORT).print(SLIP)
        for one in waiting:
            one.close()


def test_a_printer_that_takes_the_call_and_never_reads() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(PrinterStuck, match=r"takes no more.*Nothing is lost"):
            open_printer(f"tcp:127.0.0.1:{listener.getsockname()[1]}", SHORT).print(bytes(MAX_BYTES))


def test_a_printer_that_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.recv(1)
            connection.close()

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(PrinterAway, match="hung up"):
            open_printer(f"tcp:127.0.0.1:{listener.getsockname()[1]}", QUICK).print(bytes(MAX_BYTES))
        serving.join(GENEROUS_S)


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(PrinterAway, match=r"not found.*check its name"):
        open_printer("tcp:no-such-printer.invalid", QUICK).print(SLIP)


def test_a_serial_printer_that_is_not_there() -> None:
    with pytest.raises(PrinterAway, match=r"can't be reached: .*ttyUSB_none.*nothing is lost"):
        open_printer("serial:/dev/ttyUSB_none", QUICK).print(SLIP)


def test_a_serial_printer_that_never_reads() -> None:
    end, host = os.openpty()
    tty.setraw(host)
    try:
        with pytest.raises(PrinterStuck, match=r"takes no more.*Nothing is lost"):
            open_printer(f"serial:{os.ttyname(host)}?baud=4000000", SHORT).print(bytes(200_000))
    finally:
        os.close(end)
        os.close(host)


# ------------------------------------------------------------------------------------------------- files


def test_a_file_gets_slip_after_slip(tmp_path: Path) -> None:
    path = tmp_path / "roll 1.bin"
    printer = open_printer(f"file:{path}")
    printer.print(SLIP)
    printer.print(b"second")
    assert path.read_bytes() == SLIP + b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert printer.uri == f"file:{path}"


def test_a_slip_in_a_file_is_on_the_disk_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "roll.bin"
    printer = open_printer(f"file:{path}")
    synced: list[int] = []
    fsync, write = os.fsync, os.write

    def watched(handle: int) -> None:
        fsync(handle)
        synced.append(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", watched)
        printer.print(SLIP)
    assert synced
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, content: write(handle, content[:3]))
        with pytest.raises(PrinterAway, match=r"No space left.*print it again"):
            printer.print(SLIP)
    assert path.read_bytes() == SLIP


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dev/full", "No space left"),
        ("/dev/usb-printer-that-is-off", "No such file"),
        ("/no/such/folder/roll", "No such file"),
        ("/", "Is a directory"),
    ],
)
def test_a_file_that_can_not_be_written(path: str, words: str) -> None:
    with pytest.raises(PrinterAway, match=rf"{words}.*nothing is lost"):
        open_printer(f"file:{path}").print(SLIP)


def test_a_device_that_nobody_reads_ends_the_wait(tmp_path: Path) -> None:
    """A pipe stands for a printer's device."""
    pipe = tmp_path / "lp0"
    os.mkfifo(pipe)
    printer = open_printer(f"file:{pipe}", SHORT)
    with pytest.raises(PrinterAway, match="nothing is lost"):
        printer.print(SLIP)  # nobody has it open
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    printer.print(SLIP)
    assert os.read(reading, 999) == SLIP
    with pytest.raises(PrinterStuck, match=r"takes no more.*Nothing is lost"):
        printer.print(bytes(1_000_000))
    os.close(reading)


# ------------------------------------------------------------------------------------------------- names


def test_the_port_has_a_default() -> None:
    printer = open_printer("tcp:printer-1.shop.example")
    assert isinstance(printer, TcpPrinter)
    assert (printer.host, printer.port) == ("printer-1.shop.example", 9_100)
    bracketed = open_printer("tcp:[::1]:9101")
    assert isinstance(bracketed, TcpPrinter)
    assert (bracketed.host, bracketed.port) == ("::1", 9_101)


def test_a_serial_printer_has_a_speed() -> None:
    printer = open_printer("serial:/dev/ttyS0")
    assert isinstance(printer, SerialPrinter)
    assert (printer.path, printer.baud, printer.flow.value) == ("/dev/ttyS0", 9_600, "none")
    other = open_printer("serial:/dev/ttyS0?baud=19200&flow=rtscts")
    assert isinstance(other, SerialPrinter)
    assert (other.baud, other.flow.value) == (19_200, "rtscts")


@pytest.mark.parametrize(
    "uri",
    [
        *("", "file:", "printer", "usb:1", "tcp:", "tcp::9100", "tcp:host:", "tcp:host:0", "tcp:host:65536"),
        *(
            "tcp:host:9100x",
            "tcp:host:9100:1",
            "tcp:ho st",
            "tcp:-host",
            "tcp:[::1",
            "tcp:[x]:1",
            "tcp:[::1]x",
        ),
        *("tcp:host:\u0663", "tcp:host:999999999999", "file:a\nb", "file:" + "x" * 2_000, "tcp:::1"),
        *("serial:/dev/ttyS0?speed=5", "serial:/dev/ttyS0?baud=fast", "serial:/dev/ttyS0?baud=0"),
        *("serial:/dev/ttyS0?baud=9600&flow=up", "serial:/dev/ttyS0?baud"),
        *("serial:/dev/ttyS0?baud=99999999999999999999", "serial:", "TCP:host"),
    ],
)
def test_a_bad_name_is_told(uri: str) -> None:
    with pytest.raises(BadPrinterUri):
        open_printer(uri)
    assert issubclass(BadPrinterUri, PrinterError)
    assert issubclass(PrinterError, TerminalError)


def test_a_slip_without_an_end_is_not_begun(tmp_path: Path) -> None:
    for uri in (f"file:{tmp_path / 'roll'}", f"tcp:127.0.0.1:{closed_port()}", "serial:/dev/ttyUSB_none"):
        with pytest.raises(PrinterStuck, match="too long"):
            open_printer(uri).print(bytes(MAX_BYTES + 1))
    assert not (tmp_path / "roll").exists()
