"""Serial ports on pseudo-terminals: bytes both ways, every wait ends, and what is not there is told."""

import os
import threading
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import serial

from firmware_bridge.errors import BridgeError, SerialAway, SerialStuck
from firmware_bridge.serial_port import MAX_READ, Flow, SerialPort


@dataclass
class Wire:
    """A pseudo-terminal: `end` is the device's side of it, `path` the host's."""

    end: int
    path: str
    host: int

    def hang_up(self) -> None:
        """The device is unplugged."""
        for handle in (self.end, self.host):
            if handle >= 0:
                os.close(handle)
        self.end = self.host = -1


@pytest.fixture
def wire() -> Iterator[Wire]:
    end, host = os.openpty()
    tty.setraw(end)
    tty.setraw(host)
    made = Wire(end, os.ttyname(host), host)
    yield made
    made.hang_up()


def test_bytes_go_both_ways(wire: Wire) -> None:
    everything = bytes(range(256))
    with SerialPort(wire.path) as port:
        port.write(everything, 5)
        assert os.read(wire.end, 999) == everything
        os.write(wire.end, everything)
        assert port.read(256, 5) == everything


def test_a_read_gives_what_came_in_its_time(wire: Wire) -> None:
    with SerialPort(wire.path) as port:
        assert port.read(10, 0.01) == b""
        assert port.read(0, 5) == b""
        os.write(wire.end, b"abc")
        assert port.read(10, 0.05) == b"abc"
        os.write(wire.end, b"defg")
        assert port.read(2, 5) == b"de"
        assert port.read(2, 5) == b"fg"
        os.write(wire.end, b"late")
        assert port.read(1, 5) == b"l"
        port.forget_input()
        assert port.read(9, 0.01) == b""
        assert MAX_READ == 65_536


def test_a_device_that_reads_nothing_ends_the_wait(wire: Wire) -> None:
    with SerialPort(wire.path) as port, pytest.raises(SerialStuck, match="takes no more bytes"):
        port.write(bytes(1_000_000), 0.05)


def test_a_slow_device_gets_all(wire: Wire) -> None:
    got = bytearray()

    def take() -> None:
        while len(got) < 300_000:
            got.extend(os.read(wire.end, 1_000))

    reading = threading.Thread(target=take)
    reading.start()
    with SerialPort(wire.path) as port:
        port.write(b"\x1b@z" * 100_000, 60)
        reading.join(60)
    assert got == b"\x1b@z" * 100_000


def test_one_program_has_the_port(wire: Wire) -> None:
    with SerialPort(wire.path), pytest.raises(SerialAway, match="another program has it"):
        SerialPort(wire.path)
    SerialPort(wire.path).close()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dev/ttyUSB_none", "No such file"),
        ("/dev/null", "no serial port"),
        ("", "opened"),
        ("/dev", "opened"),
    ],
)
def test_what_is_no_port_is_told(path: str, words: str) -> None:
    with pytest.raises(SerialAway, match=words):
        SerialPort(path)


def test_an_unplugged_device_is_told(wire: Wire) -> None:
    with SerialPort(wire.path) as port:
        wire.hang_up()
        with pytest.raises(SerialAway, match="has gone"):
            port.read(5, 1)
        with pytest.raises(SerialAway, match="has gone"):
            port.write(b"a", 1)
        port.close()
        port.close()
    with pytest.raises(BridgeError):
        port.write(b"a", 1)


@pytest.mark.parametrize("flow", Flow)
@pytest.mark.parametrize("lines", [(False, False), (True, True)])
def test_the_lines_stand_before_the_port_opens(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, flow: Flow, lines: tuple[bool, bool]
) -> None:
    """A board that watches DTR takes a change of it for a reset."""
    seen: list[tuple[bool, bool, bool]] = []
    opening = serial.Serial.open

    def watch(port: serial.Serial) -> None:
        seen.append((port.is_open, port.dtr, port.rts))
        opening(port)

    monkeypatch.setattr(serial.Serial, "open", watch)
    dtr, rts = lines
    with SerialPort(wire.path, baud=9_600, flow=flow, dtr=dtr, rts=rts) as port:
        port.write(b"ok", 5)
    assert seen == [(False, dtr, rts)]
    assert os.read(wire.end, 9) == b"ok"


def test_a_file_is_no_port(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SerialAway, match="no serial port"):
        SerialPort(str(tmp_path / "file"))
