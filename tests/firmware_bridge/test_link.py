"""Replies that travel in pieces, T=0, and the processors on a link."""

import itertools

import pytest

from firmware_bridge.apdu import Command, Response
from firmware_bridge.errors import Garbled
from firmware_bridge.link import (
    MAX_CHAINED_RESPONSES,
    CardLink,
    ResponseChaining,
    T0Transport,
    TimedLink,
    channel_of,
    exchange,
)


class ScriptedLink:
    """Answers with the replies given, and keeps what it was sent."""

    atr = b"\x3b\x00"

    def __init__(self, *replies: str) -> None:
        self._replies = iter(replies)
        self.sent: list[str] = []
        self.closed: list[bool] = []

    def transmit(self, command: bytes) -> bytes:
        self.sent.append(command.hex().upper())
        return bytes.fromhex(next(self._replies))

    def close(self, *, unpower: bool = False) -> None:
        self.closed.append(unpower)


def test_exchange_speaks_commands_and_responses() -> None:
    link = ScriptedLink("AABB9000")
    assert exchange(link, Command(0x80, 0x10, 1, 2, b"\x07", 256)) == Response(b"\xaa\xbb", 0x9000)
    assert link.sent == ["80100102010700"]


def test_exchange_refuses_what_is_no_response() -> None:
    with pytest.raises(Garbled):
        exchange(ScriptedLink("AABB"), Command(0, 0, 0, 0))


def test_waiting_data_is_fetched() -> None:
    inner = ScriptedLink("AA6102", "BBCC6101", "DD9000")
    assert ResponseChaining(inner).transmit(bytes.fromhex("80100000")) == bytes.fromhex("AABBCCDD9000")
    assert inner.sent == ["80100000", "00C0000002", "00C0000001"]


def test_a_last_piece_keeps_its_own_status_word() -> None:
    inner = ScriptedLink("AA6100", "BB6282")
    assert ResponseChaining(inner).transmit(bytes.fromhex("81100000")) == bytes.fromhex("AABB6282")
    assert inner.sent[1] == "01C0000000"


@pytest.mark.parametrize(
    ("command", "repeat"),
    [
        ("80B0000000", "80B000000A"),
        ("80B00000", "80B000000A"),
        ("80B00000021122", "80B000000211220A"),
        ("80B0000002112200", "80B000000211220A"),
    ],
)
def test_a_wrong_le_is_mended_once(command: str, repeat: str) -> None:
    inner = ScriptedLink("6C0A", "00" * 10 + "9000")
    assert ResponseChaining(inner).transmit(bytes.fromhex(command)) == bytes(10) + b"\x90\x00"
    assert inner.sent == [command, repeat]


def test_a_card_that_never_likes_le_is_not_asked_for_ever() -> None:
    inner = ScriptedLink("6C0A", "6C0B")
    assert ResponseChaining(inner).transmit(bytes.fromhex("80B0000000")) == b"\x6c\x0b"
    assert len(inner.sent) == 2


def test_wrong_le_after_more_data() -> None:
    inner = ScriptedLink("6105", "6C03", "AABBCC9000")
    assert ResponseChaining(inner).transmit(bytes.fromhex("80B0000000")) == bytes.fromhex("AABBCC9000")
    assert inner.sent == ["80B0000000", "00C0000005", "00C0000003"]


def test_a_reply_without_end_is_garbled() -> None:
    class Endless(ScriptedLink):
        def transmit(self, command: bytes) -> bytes:
            self.sent.append("")
            return b"\xaa\x61\x01"

    inner = Endless()
    with pytest.raises(Garbled, match="doesn't end"):
        ResponseChaining(inner).transmit(bytes(4))
    assert len(inner.sent) == MAX_CHAINED_RESPONSES + 1


def test_a_reply_without_bounds_is_garbled() -> None:
    class Flood(ScriptedLink):
        def transmit(self, command: bytes) -> bytes:
            return bytes(1000) + b"\x61\x00"

    with pytest.raises(Garbled, match="longer than"):
        ResponseChaining(Flood()).transmit(bytes(4))


@pytest.mark.parametrize("replies", [("90",), ("6102", "90"), ("",)])
def test_a_reply_cut_short_is_garbled(replies: tuple[str, ...]) -> None:
    with pytest.raises(Garbled):
        ResponseChaining(ScriptedLink(*replies)).transmit(bytes(4))


def test_t0_sends_no_le_with_data() -> None:
    inner = ScriptedLink("6102", "AABB9000")
    link = ResponseChaining(T0Transport(inner))
    assert link.transmit(bytes.fromhex("80CA000001AA00")) == bytes.fromhex("AABB9000")
    assert inner.sent == ["80CA000001AA", "00C0000002"]


def test_t0_asks_for_256_where_more_is_wanted() -> None:
    inner = ScriptedLink("9000")
    T0Transport(inner).transmit(Command(0x80, 0xB0, 0, 0, b"", 1000).to_bytes())
    assert inner.sent == ["80B0000000"]


def test_t0_carries_long_commands_in_envelopes() -> None:
    command = Command(0x80, 0xD6, 0, 0, bytes(range(256)), 10).to_bytes(extended=True)
    inner = ScriptedLink("9000", "9000", "AA9000")
    assert T0Transport(inner).transmit(command) == bytes.fromhex("AA9000")
    pieces = [Command.from_bytes(bytes.fromhex(sent)) for sent in inner.sent]
    assert {piece.ins for piece in pieces} == {0xC2}
    assert b"".join(piece.data for piece in pieces) == command
    assert pieces[-1].data == b""


def test_t0_stops_when_an_envelope_is_refused() -> None:
    inner = ScriptedLink("6D00")
    assert T0Transport(inner).transmit(Command(0x80, 0xD6, 0, 0, bytes(600)).to_bytes()) == b"\x6d\x00"
    assert len(inner.sent) == 1


def test_bytes_that_are_no_command_pass_t0() -> None:
    inner = ScriptedLink("6700")
    assert T0Transport(inner).transmit(b"\x00\xa4") == b"\x67\x00"


@pytest.mark.parametrize(
    ("cla", "plain"), [(0x00, 0), (0x80, 0), (0x83, 3), (0x1E, 2), (0x45, 0x45), (0x6F, 0x4F)]
)
def test_the_channel_survives(cla: int, plain: int) -> None:
    assert channel_of(cla) == plain


def test_a_timed_link_reports_milliseconds() -> None:
    ticks = itertools.count(0.0, 0.25)
    seen: list[tuple[bytes, bytes, float]] = []
    link: CardLink = TimedLink(
        ScriptedLink("9000"),
        lambda: next(ticks),
        lambda command, reply, ms: seen.append((command, reply, ms)),
    )
    link.transmit(b"\x00\x01\x02\x03")
    assert seen == [(b"\x00\x01\x02\x03", b"\x90\x00", 250.0)]


def test_closing_reaches_the_innermost_link() -> None:
    inner = ScriptedLink()
    link = ResponseChaining(T0Transport(inner))
    link.close(unpower=True)
    link.close()
    assert inner.closed == [True, False]
    assert link.atr == inner.atr
