"""Traces: what card and terminal said to each other, recorded without secrets, explained, and played back.

A file of JSON lines. The first is the header; then one line an exchange, or one where another card session
begins:

    {"trace": 1, "reader": "sim:card", "atr": "3B80800101", "clock": "monotonic"}
    {"t_ms": 12.031, "ms": 0.412, "command": "00A4040007F0…", "response": "9000"}
    {"t_ms": 13.5, "ms": 0.2, "command": "0020008008xxxxxxxxxxxxxxxx", "error": "CardGone"}
    {"t_ms": 90.0, "atr": "3B80800101"}

Bytes are hex; a byte that was blanked because it is secret reads `xx`.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from firmware_bridge.apdu import MAX_COMMAND_LENGTH, MAX_RESPONSE_LENGTH, Command, sw_text
from firmware_bridge.errors import BridgeError, CardGone, MalformedApdu, MalformedTrace
from firmware_bridge.link import CardLink, LinkProcessor, Reader

VERSION = 1
MAX_EXCHANGES = 100_000
MAX_LINE_LENGTH = 2 * (MAX_COMMAND_LENGTH + MAX_RESPONSE_LENGTH) + 1_000
MAX_ATR_LENGTH = 33

Redaction = Callable[[bytes, bytes], tuple[str, str]]
"""Takes command and response (empty when there was none) and returns both as hex, secrets as `xx`."""

_SECRET_INS = frozenset({0x20, 0x21, 0x24, 0x2A, 0x2C})
"""VERIFY, CHANGE REFERENCE DATA, PERFORM SECURITY OPERATION, RESET RETRY COUNTER."""

_HEADER_LENGTH = 4
_HEX = re.compile(r"(?:[0-9A-F]{2}|xx)*")


def blank(raw: bytes, start: int = 0, end: int | None = None) -> str:
    """`raw` as hex with the bytes from `start` up to `end` (the end of it) blanked."""
    stop = len(raw) if end is None else min(end, len(raw))
    start = min(start, stop)
    return raw[:start].hex().upper() + "xx" * (stop - start) + raw[stop:].hex().upper()


def redact_by_default(command: bytes, response: bytes) -> tuple[str, str]:
    """An exchange of two APDUs as hex; the data, both ways, of the ISO commands that carry PINs or keys are
    blanked."""
    if len(command) < 2 or command[1] not in _SECRET_INS:
        return command.hex().upper(), response.hex().upper()
    hidden_response = blank(response, 0, max(0, len(response) - 2))
    try:
        parsed = Command.from_bytes(command)
    except MalformedApdu:
        return blank(command, _HEADER_LENGTH), hidden_response
    if not parsed.data:
        return command.hex().upper(), hidden_response
    start = _HEADER_LENGTH + (1 if command[_HEADER_LENGTH] else 3)
    return blank(command, start, start + len(parsed.data)), hidden_response


def redact_everything(command: bytes, response: bytes) -> tuple[str, str]:
    """An exchange of two APDUs as hex, of which only headers and status words are kept."""
    return blank(command, _HEADER_LENGTH), blank(response, 0, max(0, len(response) - 2))


class TraceWriter:
    """Writes one trace. It never costs a tap: when the disk refuses, it ends and `failure` says why."""

    def __init__(
        self,
        stream: TextIO,
        redact: Redaction = redact_by_default,
        clock: Callable[[], float] | None = None,
        *,
        reader_uri: str = "",
        clock_source: str = "monotonic",
    ) -> None:
        """`clock` counts seconds (None: all times are 0); `clock_source` names it in the header."""
        self._stream = stream
        self._redact = redact
        self._clock = clock or (lambda: 0.0)
        self._reader_uri = reader_uri
        self._clock_source = clock_source
        self._start_s = self._clock()
        self._begun = False
        self.failure: OSError | None = None

    def link(self, inner: CardLink) -> "TracingLink":
        """A link around `inner` that records what passes; marks where its session begins."""
        self.begin_session(inner.atr)
        return TracingLink(inner, self, self._clock)

    def begin_session(self, atr: bytes) -> None:
        """Writes the header, or after the first session a line that says which card comes now."""
        if self._begun:
            self._write({"t_ms": self._t_ms(self._clock()), "atr": atr.hex().upper()})
            return
        self._begun = True
        self._write(
            {
                "trace": VERSION,
                "reader": self._reader_uri,
                "atr": atr.hex().upper(),
                "clock": self._clock_source,
            }
        )

    def record(
        self, start_s: float, command: bytes, response: bytes | None, error: str | None = None
    ) -> None:
        """Writes an exchange that began at `start_s` and ends now; `error` stands for a lost reply."""
        command_hex, response_hex = self._redacted(command, response or b"")
        line: dict[str, Any] = {
            "t_ms": self._t_ms(start_s),
            "ms": round((self._clock() - start_s) * 1000, 3),
            "command": command_hex,
        }
        if response is not None:
            line["response"] = response_hex
        if error is not None:
            line["error"] = error
        self._write(line)

    def _redacted(self, command: bytes, response: bytes) -> tuple[str, str]:
        try:
            return self._redact(command, response)
        except Exception:  # noqa: BLE001 - a fault in a redaction must neither leak nor cost a tap
            return redact_everything(command, response)

    def _t_ms(self, at_s: float) -> float:
        return round((at_s - self._start_s) * 1000, 3)

    def _write(self, line: dict[str, Any]) -> None:
        if self.failure is not None:
            return
        try:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
        except OSError as error:
            self.failure = error


class TracingLink(LinkProcessor):
    """A link that records each exchange, those that fail included."""

    __slots__ = ("_clock", "_writer")

    def __init__(self, inner: CardLink, writer: TraceWriter, clock: Callable[[], float]) -> None:
        """Made by TraceWriter.link."""
        super().__init__(inner)
        self._writer = writer
        self._clock = clock

    def transmit(self, command: bytes) -> bytes:
        """Passes the command APDU on and records it. Raises as CardLink.transmit."""
        start_s = self._clock()
        try:
            reply = self._inner.transmit(command)
        except BridgeError as error:
            self._writer.record(start_s, command, None, type(error).__name__)
            raise
        self._writer.record(start_s, command, reply)
        return reply


class TracingReader:
    """A reader whose links are all recorded: what `--trace FILE` puts around the reader."""

    def __init__(self, inner: Reader, writer: TraceWriter) -> None:
        """Wraps `inner`; closing this closes it."""
        self._inner = inner
        self._writer = writer

    @property
    def uri(self) -> str:
        """The inner reader's."""
        return self._inner.uri

    @property
    def name(self) -> str:
        """The inner reader's."""
        return self._inner.name

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A recording link."""
        return self._writer.link(self._inner.wait_for_card(timeout_s))

    def wait_for_removal(self, timeout_s: float | None) -> bool:
        """Passes on."""
        return self._inner.wait_for_removal(timeout_s)

    def cancel(self) -> None:
        """Passes on."""
        self._inner.cancel()

    def close(self) -> None:
        """Passes on."""
        self._inner.close()


@dataclass(frozen=True, slots=True)
class TraceExchange:
    """One recorded exchange. `command` and `response` are upper-case hex, blanked bytes `xx`."""

    t_ms: float
    ms: float
    command: str
    response: str | None
    error: str | None = None

    @property
    def command_bytes(self) -> bytes:
        """The command, blanked bytes as 00."""
        return _unblanked(self.command)

    @property
    def response_bytes(self) -> bytes:
        """The response, blanked bytes as 00; empty when there was none."""
        return _unblanked(self.response or "")

    @property
    def blanked(self) -> bool:
        """Whether anything was blanked."""
        return "x" in self.command or "x" in (self.response or "")

    @property
    def sw(self) -> int | None:
        """The status word, where there was a response that isn't blanked there."""
        tail = (self.response or "")[-4:]
        return int(tail, 16) if len(tail) == 4 and "x" not in tail else None


@dataclass(frozen=True, slots=True)
class TraceSession:
    """What was said to one card between two arrivals. `t_ms` is when it arrived, `atr` has 2 to 33 bytes."""

    t_ms: float
    atr: bytes
    exchanges: tuple[TraceExchange, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole trace."""

    reader_uri: str
    clock_source: str
    sessions: tuple[TraceSession, ...]

    @property
    def exchanges(self) -> tuple[TraceExchange, ...]:
        """Every exchange, in order."""
        return tuple(exchange for session in self.sessions for exchange in session.exchanges)


def read_trace(path: Path) -> Trace:
    """The trace in a file. MalformedTrace says which line is wrong; a last line cut short is left out."""
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            return parse_trace(_bounded_lines(stream))
    except OSError as error:
        raise MalformedTrace(f"Can't read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise MalformedTrace(f"{path} is no trace: it isn't text.") from error


def _bounded_lines(stream: TextIO) -> Iterator[str]:
    while line := stream.readline(MAX_LINE_LENGTH + 1):
        if len(line) > MAX_LINE_LENGTH:
            raise MalformedTrace(
                f"No line of a trace has more than {MAX_LINE_LENGTH} characters; this one has."
            )
        yield line


def parse_trace(lines: Iterable[str]) -> Trace:
    """The trace in these lines, each with its line end. A last one without, left by a crash, is left out.

    Raises MalformedTrace.
    """
    whole = (line for line in lines if line.endswith("\n"))
    header = _parse_line(next(whole, ""), 1)
    if header.get("trace") != VERSION:
        if isinstance(header.get("trace"), int):
            raise MalformedTrace(
                f"This is a trace of version {header['trace']}; only {VERSION} is read here."
            )
        raise MalformedTrace("This is no trace: its first line isn't a trace's header.")
    builder = _TraceBuilder(0.0, _atr(header, 1))
    for number, line in enumerate(islice(whole, MAX_EXCHANGES + 1), start=2):
        if number > MAX_EXCHANGES + 1:
            raise MalformedTrace(f"The trace has more than {MAX_EXCHANGES} lines; at most so many are read.")
        builder.add(_parse_line(line, number), number)
    return Trace(_text(header, "reader", 1), _text(header, "clock", 1), builder.finish())


@dataclass(slots=True)
class _TraceBuilder:
    t_ms: float
    atr: bytes
    exchanges: list[TraceExchange] = field(default_factory=list)
    sessions: list[TraceSession] = field(default_factory=list)

    def add(self, line: dict[str, Any], number: int) -> None:
        if "atr" in line:
            self._end_session()
            self.t_ms, self.atr = _number(line, "t_ms", number), _atr(line, number)
            return
        response = _hex(line, "response", number) if "response" in line else None
        error = _text(line, "error", number) if "error" in line else None
        if (response is None) == (error is None):
            raise MalformedTrace(f"Line {number} of the trace needs either a response or an error.")
        self.exchanges.append(
            TraceExchange(
                _number(line, "t_ms", number),
                _number(line, "ms", number),
                _hex(line, "command", number),
                response,
                error,
            )
        )

    def finish(self) -> tuple[TraceSession, ...]:
        self._end_session()
        return tuple(self.sessions)

    def _end_session(self) -> None:
        self.sessions.append(TraceSession(self.t_ms, self.atr, tuple(self.exchanges)))
        self.exchanges = []


def _parse_line(line: str, number: int) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedTrace(f"Line {number} of the trace is no JSON object.") from error
    if not isinstance(parsed, dict):
        raise MalformedTrace(f"Line {number} of the trace is no JSON object.")
    return parsed


def _number(line: dict[str, Any], name: str, number: int) -> float:
    value = line.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_usual(value):
        raise MalformedTrace(f"Line {number} of the trace has no number '{name}'.")
    return float(value)


def _is_usual(value: float) -> bool:
    return abs(value) < 1e15 if isinstance(value, int) else math.isfinite(value)


def _text(line: dict[str, Any], name: str, number: int) -> str:
    value = line.get(name)
    if not isinstance(value, str):
        raise MalformedTrace(f"Line {number} of the trace has no text '{name}'.")
    return value


def _hex(line: dict[str, Any], name: str, number: int) -> str:
    value = _text(line, name, number)
    if not _HEX.fullmatch(value):
        raise MalformedTrace(f"'{name}' in line {number} of the trace isn't upper-case hex.")
    return value


def _atr(line: dict[str, Any], number: int) -> bytes:
    value = _hex(line, "atr", number)
    if "x" in value or len(value) > 2 * MAX_ATR_LENGTH:
        raise MalformedTrace(f"'atr' in line {number} of the trace is no ATR.")
    return bytes.fromhex(value)


def _unblanked(text: str) -> bytes:
    return bytes.fromhex(text.replace("xx", "00"))


@dataclass(frozen=True, slots=True)
class Description:
    """What an exchange means: the command's name, and fields with their values, for people."""

    name: str
    fields: Sequence[tuple[str, str]] = ()


def describe_by_header(exchange: TraceExchange) -> Description:
    """What any exchange shows without knowing the application."""
    command = exchange.command_bytes
    name = f"INS {command[1]:02X}" if len(command) >= _HEADER_LENGTH else "no command"
    return Description(name, (("command", exchange.command), ("response", exchange.response or "")))


def explain(
    trace: Trace, describe: Callable[[TraceExchange], Description] = describe_by_header
) -> Iterator[str]:
    """The trace line by line for people: name, milliseconds, status word, then its fields, indented."""
    yield f"reader {trace.reader_uri or 'unknown'}, times by the {trace.clock_source} clock"
    for session in trace.sessions:
        yield f"{session.t_ms:10.1f} ms  card, ATR {session.atr.hex(' ').upper() or 'unknown'}"
        for exchange in session.exchanges:
            described = describe(exchange)
            yield f"{exchange.t_ms:10.1f} ms  {described.name}  ({exchange.ms:.2f} ms)  {_outcome(exchange)}"
            for name, value in described.fields:
                yield f"{'':15}{name}: {value}"
    total_ms = sum(exchange.ms for exchange in trace.exchanges)
    yield f"{len(trace.exchanges)} exchanges, {total_ms:.1f} ms in them"


def _outcome(exchange: TraceExchange) -> str:
    if exchange.error is not None:
        return f"no reply: {exchange.error}"
    return "no status word" if exchange.sw is None else f"{exchange.sw:04X} {sw_text(exchange.sw)}"


class ReplayCard:
    """A trace as a card: answers what the recorded card answered, in the recorded order.

    A command that differs from the recorded one (blanked bytes match anything) is answered 6985 and counted
    in `mismatches`; a lenient card looks only at CLA INS P1 P2, so that another nonce passes. Where the
    recorded card left, and at the end, this one leaves.
    """

    def __init__(self, trace: Trace, *, lenient: bool = False) -> None:
        """Starts at the first exchange; powering it doesn't rewind."""
        self._sessions = trace.sessions
        self._exchanges = trace.exchanges
        self._position = 0
        self._lenient = lenient
        self.mismatches = 0

    @property
    def atr(self) -> bytes:
        """The first recorded ATR."""
        return self._sessions[0].atr or b"\x3b\x00"

    @property
    def finished(self) -> bool:
        """Whether every recorded exchange was played."""
        return self._position == len(self._exchanges)

    def power_on(self) -> None:
        """Nothing is lost."""

    def power_off(self) -> None:
        """Nothing is lost."""

    def reset(self) -> None:
        """Nothing is lost."""

    def execute(self, command: bytes) -> bytes:
        """The recorded answer. CardGone where the recorded card left."""
        if self.finished:
            raise CardGone("The recorded session ends here.")
        recorded = self._exchanges[self._position]
        if not self._matches(command.hex().upper(), recorded.command):
            self.mismatches += 1
            return b"\x69\x85"
        self._position += 1
        if recorded.response is None:
            raise CardGone("The recorded card left here.")
        return recorded.response_bytes

    def _matches(self, sent: str, recorded: str) -> bool:
        if self._lenient:
            return sent[: 2 * _HEADER_LENGTH] == recorded[: 2 * _HEADER_LENGTH]
        return len(sent) == len(recorded) and all(
            recorded[at : at + 2] in ("xx", sent[at : at + 2]) for at in range(0, len(sent), 2)
        )
