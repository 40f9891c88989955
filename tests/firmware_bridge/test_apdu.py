"""Command and response APDUs: the seven forms, their bounds, the status words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.apdu import (
    MAX_COMMAND_LENGTH,
    Command,
    Response,
    SwClass,
    sw_class,
    sw_text,
    sw_tries_left,
)
from firmware_bridge.errors import Garbled, MalformedApdu

VECTORS = [
    ("1", "00A40400", Command(0x00, 0xA4, 0x04, 0x00)),
    ("2S", "00B0000010", Command(0x00, 0xB0, 0, 0, b"", 16)),
    ("2S, 256", "00B0000000", Command(0x00, 0xB0, 0, 0, b"", 256)),
    ("3S", "00A4040002A1B2", Command(0x00, 0xA4, 0x04, 0x00, b"\xa1\xb2")),
    ("4S", "80CA010203A1B2C305", Command(0x80, 0xCA, 1, 2, b"\xa1\xb2\xc3", 5)),
    ("4S, 256", "80CA010203A1B2C300", Command(0x80, 0xCA, 1, 2, b"\xa1\xb2\xc3", 256)),
    ("2E", "00B00000000101", Command(0x00, 0xB0, 0, 0, b"", 257)),
    ("2E, 65536", "00B00000000000", Command(0x00, 0xB0, 0, 0, b"", 65_536)),
    ("3E", "80D60000000100" + "5A" * 256, Command(0x80, 0xD6, 0, 0, b"\x5a" * 256)),
    ("4E", "80D60000000100" + "5A" * 256 + "0000", Command(0x80, 0xD6, 0, 0, b"\x5a" * 256, 65_536)),
    ("4E by Le", "80D6000000000277770101", Command(0x80, 0xD6, 0, 0, b"\x77\x77", 257)),
]

octets = st.integers(0, 255)
commands = st.builds(
    Command,
    octets,
    octets,
    octets,
    octets,
    st.binary(max_size=700),
    st.none() | st.integers(1, 65_536) | st.integers(1, 256),
)


@pytest.mark.parametrize(("form", "raw", "command"), VECTORS, ids=[vector[0] for vector in VECTORS])
def test_each_form_is_written_and_read(form: str, raw: str, command: Command) -> None:
    assert command.to_bytes() == bytes.fromhex(raw)
    assert Command.from_bytes(bytes.fromhex(raw)) == command


@given(commands)
def test_what_is_written_is_read_again(command: Command) -> None:
    assert Command.from_bytes(command.to_bytes()) == command
    assert Command.from_bytes(command.to_bytes(extended=True)) == command


@given(st.binary(max_size=300))
def test_any_bytes_are_a_command_or_malformed(raw: bytes) -> None:
    try:
        command = Command.from_bytes(raw)
    except MalformedApdu:
        return
    again = command.to_bytes(), command.to_bytes(extended=True)
    assert raw in again


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "00A404",
        "00A4040002A1",
        "00A4040002A1B2C3D4",
        "00A404000001",
        "00A40400000000A1",
        "00A40400000002A1",
        "00A40400000002A1B2C3",
        "00A40400000002A1B2C3D4E5",
    ],
)
def test_lengths_that_do_not_fit_are_refused(raw: str) -> None:
    with pytest.raises(MalformedApdu):
        Command.from_bytes(bytes.fromhex(raw))


def test_an_oversized_command_is_refused() -> None:
    longest = Command(0, 0, 0, 0, bytes(65_535), 65_536).to_bytes()
    assert len(longest) == MAX_COMMAND_LENGTH
    assert Command.from_bytes(longest).le == 65_536
    with pytest.raises(MalformedApdu):
        Command.from_bytes(longest + b"\x00")


@pytest.mark.parametrize(
    "fields",
    [
        (256, 0, 0, 0),
        (0, -1, 0, 0),
        (0, 0, 300, 0),
        (0, 0, 0, 1 << 40),
        (0, 0, 0, 0, bytes(65_536)),
        (0, 0, 0, 0, b"", 0),
        (0, 0, 0, 0, b"", 65_537),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: tuple[int, int, int, int]) -> None:
    with pytest.raises(MalformedApdu):
        Command(*fields)


@given(st.binary(max_size=300), st.integers(0x6100, 0x6FFF) | st.integers(0x9000, 0x9FFF))
def test_responses_are_read_again(data: bytes, sw: int) -> None:
    response = Response(data, sw)
    assert Response.from_bytes(response.to_bytes()) == response
    assert response.ok == (sw == 0x9000)


@pytest.mark.parametrize("raw", ["", "90", "0000", "6000", "FFFF", "AA8000", "00" * 65_537 + "9000"])
def test_what_is_no_response_is_garbled(raw: str) -> None:
    with pytest.raises(Garbled):
        Response.from_bytes(bytes.fromhex(raw))


@pytest.mark.parametrize(
    ("sw", "kind", "text"),
    [
        (0x9000, SwClass.OK, "done"),
        (0x6120, SwClass.MORE_DATA, "32 bytes more wait"),
        (0x6100, SwClass.MORE_DATA, "256 bytes more wait"),
        (0x6300, SwClass.WARNING, "warning, memory changed"),
        (0x63C2, SwClass.WARNING, "wrong, 2 tries left"),
        (0x6581, SwClass.EXECUTION_ERROR, "memory failure"),
        (0x6C0A, SwClass.CHECKING_ERROR, "wrong Le, 10 bytes are there"),
        (0x6983, SwClass.CHECKING_ERROR, "authentication method blocked"),
        (0x6999, SwClass.CHECKING_ERROR, "checking error"),
        (0x9101, SwClass.PROPRIETARY, "proprietary"),
        (0x6000, SwClass.INVALID, "no status word"),
    ],
)
def test_status_words_have_a_class_and_a_text(sw: int, kind: SwClass, text: str) -> None:
    assert sw_class(sw) is kind
    assert sw_text(sw) == text


def test_only_63cx_tells_tries() -> None:
    assert sw_tries_left(0x63C0) == 0
    assert sw_tries_left(0x63CF) == 15
    assert sw_tries_left(0x6300) is None
    assert sw_tries_left(0x9000) is None


def test_what_a_command_carries_is_not_in_its_repr() -> None:
    command = Command(0x00, 0x20, 0x00, 0x80, b"123456", None)
    assert repr(command) == str(command) == "Command(00 20 00 80, 6 bytes, le=None)"
