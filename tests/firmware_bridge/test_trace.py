"""Traces: what is written is read again, secrets are not in it, damage is told, recordings can be played."""

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import trace as trace_module
from firmware_bridge.errors import CardGone, MalformedTrace
from firmware_bridge.trace import (
    Description,
    ReplayCard,
    Trace,
    TraceExchange,
    TraceWriter,
    TracingReader,
    blank,
    explain,
    parse_trace,
    read_trace,
    redact_by_default,
)
from firmware_bridge.virtual.in_process import InProcessReader
from tests.firmware_bridge.cards import ECHO_ATR, EchoCard

ECHO = bytes.fromhex("80100000021234")
VERIFY = bytes.fromhex("0020008008") + b"SECRETPI"
HEADER = '{"trace": 1, "reader": "sim:x", "atr": "3B00", "clock": "monotonic"}\n'


def ticking() -> Callable[[], float]:
    """A clock that goes on by a millisecond each time it is read."""
    ticks = itertools.count()
    return lambda: next(ticks) / 1000


def recorded() -> str:
    """Two sessions with one card, the second torn."""
    stream = io.StringIO()
    inner = InProcessReader(EchoCard(), "sim:x")
    reader = TracingReader(
        inner, TraceWriter(stream, clock=ticking(), reader_uri=inner.uri, clock_source="test")
    )
    link = reader.wait_for_card(0)
    link.transmit(ECHO)
    link.transmit(VERIFY)
    link.close()
    inner.tear_at(1)
    link = reader.wait_for_card(0)
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    assert reader.wait_for_removal(0)
    assert (reader.uri, reader.name) == (inner.uri, inner.name)
    reader.close()
    return stream.getvalue()


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(recorded(), encoding="utf-8")
    trace = read_trace(path)
    assert (trace.reader_uri, trace.clock_source) == ("sim:x", "test")
    assert [len(session.exchanges) for session in trace.sessions] == [2, 1]
    assert {session.atr for session in trace.sessions} == {ECHO_ATR}
    echo, verify, torn = trace.exchanges
    assert echo.command_bytes == ECHO
    assert (echo.response, echo.sw, echo.error, echo.blanked) == ("12349000", 0x9000, None, False)
    assert (verify.sw, verify.blanked) == (0x6D00, True)
    assert (torn.response, torn.sw, torn.error) == (None, None, "CardGone")
    assert echo.ms == 1.0
    assert echo.t_ms < verify.t_ms < trace.sessions[1].t_ms < torn.t_ms


def test_secrets_are_not_in_it() -> None:
    text = recorded()
    assert b"SECRETPI".hex().upper() not in text
    assert '"0020008008xxxxxxxxxxxxxxxx"' in text


@pytest.mark.parametrize(
    ("command", "response", "kept"),
    [
        ("0020008004AABBCCDD", "63C2", ("0020008004xxxxxxxx", "63C2")),
        ("002000800000 02AABB".replace(" ", ""), "9000", ("00200080000002xxxx", "9000")),
        ("002A8086021122" + "00", "AABB9000", ("002A808602xxxx00", "xxxx9000")),
        ("0024000002AABB", "9000", ("0024000002xxxx", "9000")),
        ("002C000002AABB", "9000", ("002C000002xxxx", "9000")),
        ("00200080", "63C3", ("00200080", "63C3")),
        ("00200080FFAA", "6700", ("00200080xxxx", "6700")),
        ("80100000021234", "12349000", ("80100000021234", "12349000")),
        ("00", "", ("00", "")),
    ],
)
def test_the_default_redaction(command: str, response: str, kept: tuple[str, str]) -> None:
    assert redact_by_default(bytes.fromhex(command), bytes.fromhex(response)) == kept


def test_blanking_a_part() -> None:
    assert blank(b"\x01\x02\x03\x04", 1, 3) == "01xxxx04"
    assert blank(b"\x01\x02", 5) == "0102"
    assert blank(b"\x01\x02", 1, 9) == "01xx"


def test_a_redaction_of_the_layer_above_is_used() -> None:
    stream = io.StringIO()
    writer = TraceWriter(stream, lambda command, response: (blank(command, 5), blank(response, 0, 1)))
    writer.link(InProcessReader(EchoCard()).wait_for_card(0)).transmit(ECHO)
    line = json.loads(stream.getvalue().splitlines()[1])
    assert (line["command"], line["response"]) == ("8010000002xxxx", "xx349000")


def test_a_redaction_that_fails_hides_everything() -> None:
    def broken(command: bytes, response: bytes) -> tuple[str, str]:
        raise KeyError(command)

    stream = io.StringIO()
    writer = TraceWriter(stream, broken)
    assert writer.link(InProcessReader(EchoCard()).wait_for_card(0)).transmit(ECHO)
    line = json.loads(stream.getvalue().splitlines()[1])
    assert (line["command"], line["response"]) == ("80100000xxxxxx", "xxxx9000")


def test_a_full_disk_costs_no_tap() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    writer = TraceWriter(Full())
    link = writer.link(InProcessReader(EchoCard()).wait_for_card(0))
    assert link.transmit(ECHO) == bytes.fromhex("12349000")
    assert link.transmit(ECHO) == bytes.fromhex("12349000")
    assert writer.failure is not None


def test_every_line_is_flushed() -> None:
    class Counting(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    stream = Counting()
    link = TraceWriter(stream).link(InProcessReader(EchoCard()).wait_for_card(0))
    link.transmit(ECHO)
    assert stream.flushed == 2


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ("no JSON object", ""),
        ("header", "{}\n"),
        ("no JSON object", "hello\n"),
        ("no JSON object", "[1]\n"),
        ("no JSON object", "[" * 100_000 + "\n"),
        ("version 2", HEADER.replace('"trace": 1', '"trace": 2')),
        ("ATR", HEADER.replace("3B00", "3B" * 34)),
        ("hex", HEADER.replace("3B00", "3B0")),
        ("no text 'reader'", HEADER.replace('"sim:x"', "5")),
        ("line 2", HEADER.replace("monotonic", "m") + "nonsense\n"),
        ("no number 't_ms'", HEADER + '{"ms": 1, "command": "00", "response": "9000"}\n'),
        ("no number 'ms'", HEADER + '{"t_ms": 1, "ms": NaN, "command": "00", "response": "9000"}\n'),
        ("no number 'ms'", HEADER + '{"t_ms": 1, "ms": true, "command": "00", "response": "9000"}\n'),
        (
            "no number 'ms'",
            HEADER + '{"t_ms": 1, "ms": 1' + "0" * 400 + ', "command": "00", "response": ""}\n',
        ),
        ("hex", HEADER + '{"t_ms": 1, "ms": 1, "command": "0g", "response": "9000"}\n'),
        ("hex", HEADER + '{"t_ms": 1, "ms": 1, "command": "aa", "response": "9000"}\n'),
        ("no text 'command'", HEADER + '{"t_ms": 1, "ms": 1, "response": "9000"}\n'),
        ("either", HEADER + '{"t_ms": 1, "ms": 1, "command": "00"}\n'),
        (
            "either",
            HEADER + '{"t_ms": 1, "ms": 1, "command": "00", "response": "9000", "error": "CardGone"}\n',
        ),
    ],
)
def test_damaged_traces_are_told(why: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MalformedTrace, match=f"(?i){why}"):
        read_trace(path)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(MalformedTrace, match="No such file"):
        read_trace(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MalformedTrace, match="isn't text"):
        read_trace(tmp_path / "binary")


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"t_ms": 1, "ms": 1, "command": "00", "response": "9000"}\n'
    monkeypatch.setattr(trace_module, "MAX_EXCHANGES", 3)
    assert len(parse_trace([HEADER, line, line, line]).exchanges) == 3
    with pytest.raises(MalformedTrace, match="more than 3"):
        parse_trace([HEADER, line, line, line, line])
    monkeypatch.setattr(trace_module, "MAX_LINE_LENGTH", 100)
    path = tmp_path / "long"
    path.write_text(HEADER + "x" * 101 + "\n", encoding="utf-8")
    with pytest.raises(MalformedTrace, match="more than 100 characters"):
        read_trace(path)


def test_a_line_that_a_crash_cut_short_is_left_out() -> None:
    text = recorded()
    assert len(parse_trace(text[:-9].splitlines(keepends=True)).exchanges) == 2


@given(st.text(max_size=200))
def test_any_text_is_a_trace_or_malformed(text: str) -> None:
    try:
        parse_trace((HEADER + text + "\n").splitlines(keepends=True))
    except MalformedTrace:
        return


@given(
    st.dictionaries(
        st.sampled_from(["t_ms", "ms", "command", "response", "error", "atr"]), st.from_type(object)
    )
)
def test_any_fields_are_an_exchange_or_malformed(fields: dict[str, object]) -> None:
    line = json.dumps(fields, default=str) + "\n"
    try:
        trace = parse_trace([HEADER, line])
    except MalformedTrace:
        return
    assert list(explain(trace))


def test_explaining_names_commands_fields_and_time() -> None:
    def describe(exchange: TraceExchange) -> Description:
        names = {0x10: "ECHO", 0x20: "VERIFY"}
        return Description(names[exchange.command_bytes[1]], [("bytes", str(len(exchange.command_bytes)))])

    trace = parse_trace(recorded().splitlines(keepends=True))
    text = "\n".join(explain(trace, describe))
    assert "ECHO  (1.00 ms)  9000 done" in text
    assert "VERIFY  (1.00 ms)  6D00 instruction not supported" in text
    assert "no reply: CardGone" in text
    assert "bytes: 7" in text
    assert text.count("card, ATR 3B 80 80 01 01") == 2
    assert text.endswith("3 exchanges, 3.0 ms in them")
    assert "INS 10" in "\n".join(explain(trace))


def replay(trace: Trace, *, lenient: bool = False) -> ReplayCard:
    return ReplayCard(trace, lenient=lenient)


def test_a_recording_plays_as_a_card() -> None:
    trace = parse_trace(recorded().splitlines(keepends=True))
    card = replay(trace)
    assert card.atr == ECHO_ATR
    reader = InProcessReader(card)
    link = reader.wait_for_card(0)
    assert link.transmit(ECHO) == bytes.fromhex("12349000")
    assert link.transmit(bytes.fromhex("00200080080102030405060708")) == b"\x6d\x00"
    link.close()
    link = reader.wait_for_card(0)
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    assert card.finished
    assert card.mismatches == 0
    reader.present()
    with pytest.raises(CardGone, match="ends here"):
        reader.wait_for_card(0).transmit(ECHO)


def test_another_command_than_the_recorded_one_is_refused() -> None:
    trace = parse_trace(recorded().splitlines(keepends=True))
    other_data, other_header = bytes.fromhex("80100000025678"), bytes.fromhex("80110000021234")
    strict, lenient = replay(trace), replay(trace, lenient=True)
    assert strict.execute(other_data) == b"\x69\x85"
    assert strict.execute(ECHO + b"\x00") == b"\x69\x85"
    assert strict.mismatches == 2
    assert strict.execute(ECHO) == bytes.fromhex("12349000")
    assert lenient.execute(other_header) == b"\x69\x85"
    assert lenient.execute(other_data) == bytes.fromhex("12349000")
