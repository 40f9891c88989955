"""The settlement file: what one merchant's day came to, row by row, signed by its acquiring operator
(docs/settlement.md). Writing its lines, and reading them back without trusting any.

Pure: streams, trust and storage are passed in. Reading takes the memory of one line.
"""

import re
import struct
from calendar import timegm
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timezone
from hashlib import sha256
from typing import BinaryIO, Final, NamedTuple

from hardwallet import certificates
from hardwallet.certificates import CLASS_ACQUIRING, Certificate, TrustBundle
from hardwallet.errors import AuthorityUnknown, CertificateRefused, Malformed, SignatureInvalid
from hardwallet.suites import Suite
from offline_sync.errors import SettlementRefused
from pos_terminal.receipts import BEIJING

TYPE: Final = 0xF5
VERSION: Final = 1
MAX_NUMBER: Final = 2**53
"""The highest number in a file: up to here every spreadsheet and every JSON reader is exact."""
MAX_LINE_BYTES: Final = 1_024
MAX_FILE_BYTES: Final = 2**30
MAX_ROWS: Final = 5_000_000
"""Rows of one file. A closing takes no more movements than this, so that every file of it can be read."""

COLUMNS: Final = (
    "line",
    "time",
    "kind",
    "credit_fen",
    "debit_fen",
    "disposition",
    "terminal",
    "transaction",
    "card",
    "sequence",
    "reference",
    "code",
)
NAMES_LINE: Final = ",".join(COLUMNS)

KINDS: Final = {2: "payment", 3: "refund", 4: "return", 6: "return-reversed"}
"""The kinds of rows by the ledger's reasons (offline_sync.clearing.ledger.Reason); any other reason is an
`adjustment-` with its number."""
ONCE: Final = ("payment", "refund")
"""Kinds of which a record has one row and no second."""
CARRIED: Final = "carried"
UNSAID: Final = "-"
DISPOSITIONS: Final = (CARRIED, "granted", "not-granted")
"""What had become of a payment when the day was closed, by the ledger's numbers 0, 1, 2."""

_MESSAGE: Final = struct.Struct(">BBBB4s8sH8sIIIIqQQQq32s")
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS: Final = [one + other for one in _BASE32 for other in _BASE32]


class Row(NamedTuple):
    """One movement of one record. `terminal` has 4 bytes, `card` 8, `reference` 12, in hexadecimal; `time_s`
    in seconds since 1970 as the card signed it; `code` is the code on the customer's receipt.
    """

    line: int
    time_s: int
    kind: str
    credit_fen: int
    debit_fen: int
    disposition: str
    terminal: str
    transaction: int
    card: str
    sequence: int
    reference: str
    code: str

    @property
    def amount_fen(self) -> int:
        """What the payee got by it; below zero where it gave."""
        return self.credit_fen - self.debit_fen

    def text(self) -> str:
        """The line, without its end."""
        time = time_text(self.time_s)
        return ",".join(map(str, (self.line, time, *self[2:])))


@dataclass(frozen=True, slots=True)
class Header:
    """What a file is about: `scheme` 4 bytes, `payee` 8, `currency` as in certificates; `number` of the
    closing, and `previous` of the payee's closing before (0: none); `closed_s` in seconds since 1970.
    """

    scheme: bytes
    suite: int
    currency: int
    payee: bytes
    number: int
    previous: int
    day: date
    closed_s: int
    opening_fen: int

    def text(self) -> str:
        """The first line, without its end."""
        return (
            f"#settlement,version={VERSION},scheme={self.scheme.hex()},suite={self.suite},"
            f"currency={self.currency:04x},payee={self.payee.hex()},number={self.number},"
            f"previous={self.previous},day={self.day.isoformat()},closed={time_text(self.closed_s)},"
            f"opening_fen={self.opening_fen}"
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """What the rows come to, and the balance after them."""

    rows: int
    credit_fen: int
    debit_fen: int
    closing_fen: int

    def text(self) -> str:
        """The line below the rows, without its end."""
        return (
            f"#totals,rows={self.rows},credit_fen={self.credit_fen},debit_fen={self.debit_fen},"
            f"closing_fen={self.closing_fen}"
        )


@dataclass(frozen=True, slots=True)
class Seal:
    """SHA-256 of the rows (32 bytes), the operator's certificate (162) and its signature (64)."""

    rows_hash: bytes
    certificate: bytes
    signature: bytes

    def text(self) -> str:
        """The last two lines, without their end."""
        return f"#sha256,{self.rows_hash.hex()}\n#signature,{self.certificate.hex()},{self.signature.hex()}"


@dataclass(frozen=True, slots=True)
class Settlement:
    """A file that was read to its end and is what the operator signed."""

    header: Header
    totals: Totals
    seal: Seal


def message(suite: Suite, operator: Certificate, header: Header, totals: Totals, rows_hash: bytes) -> bytes:
    """What the acquiring operator signs, 114 bytes (docs/settlement.md, section 3)."""
    return _MESSAGE.pack(
        *(TYPE, VERSION, header.suite, 0, header.scheme, certificates.digest(suite, operator)),
        *(header.currency, header.payee, header.number, header.previous),
        *(int(header.day.strftime("%Y%m%d")), header.closed_s, header.opening_fen),
        *(totals.rows, totals.credit_fen, totals.debit_fen, totals.closing_fen, rows_hash),
    )


_times: dict[int, str] = {}


def time_text(time_s: int) -> str:
    """Seconds since 1970 as `2026-11-22T05:53:04Z`, in UTC."""
    known = _times.get(time_s)
    if known is not None:
        return known
    if len(_times) > 200_000:
        _times.clear()
    text = _times[time_s] = datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return text


def beijing_day(time_s: int) -> date:
    """The day in Beijing to which a time (seconds since 1970) belongs: the day that is closed."""
    return datetime.fromtimestamp(time_s, timezone(BEIJING)).date()


def code_text(body_digest: bytes) -> str:
    """The code on a record's receipt (pos_terminal.receipts.record_code), from SHA-256 of its body."""
    bits = int.from_bytes(body_digest[:7], "big") >> 6
    return (
        _PAIRS[bits >> 40]
        + _PAIRS[bits >> 30 & 1023]
        + _PAIRS[bits >> 20 & 1023]
        + _PAIRS[bits >> 10 & 1023]
        + _PAIRS[bits & 1023]
    )


def kind_text(reason: int) -> str:
    """The kind of a row by the ledger's reason."""
    return KINDS.get(reason) or f"adjustment-{reason}"


# ----------------------------------------------------------------------------------------------- reading

Take = Callable[[Row], None]
"""Gets each row as it is read: before the end of the file has shown that all of it is good."""

_NUMBER: Final = "(0|[1-9][0-9]{0,15})"
_COUNT: Final = "(0|[1-9][0-9]{0,9})"
_SIGNED: Final = "(0|-?[1-9][0-9]{0,15})"
_TIME: Final = "([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)"
_KIND: Final = f"({'|'.join(KINDS.values())}|adjustment-[1-9][0-9]{{0,2}})"
_ROW: Final = re.compile(
    f"{_COUNT},{_TIME},{_KIND},{_NUMBER},{_NUMBER},({'|'.join(DISPOSITIONS)}|-),"
    f"([0-9a-f]{{8}}),{_COUNT},([0-9a-f]{{16}}),{_COUNT},([0-9a-f]{{24}}),([A-Z2-7]{{10}})"
)
_HEADER: Final = re.compile(
    f"#settlement,version=1,scheme=([0-9a-f]{{8}}),suite=([0-9]{{1,3}}),currency=([0-9a-f]{{4}}),"
    f"payee=([0-9a-f]{{16}}),number={_COUNT},previous={_COUNT},day=([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}),"
    f"closed=([0-9T:Z-]{{20}}),opening_fen={_SIGNED}"
)
_VERSION_OF: Final = re.compile("#settlement,version=([0-9]{1,9})(?:,.*)?")
_TOTALS: Final = re.compile(
    f"#totals,rows={_NUMBER},credit_fen={_NUMBER},debit_fen={_NUMBER},closing_fen={_SIGNED}"
)
_HASH: Final = re.compile("#sha256,([0-9a-f]{64})")
_SIGNATURE: Final = re.compile("#signature,([0-9a-f]{324}),([0-9a-f]{128})")
_DIGITS: Final = re.compile("[0-9]+")
_NUMERIC: Final = {"line", "credit_fen", "debit_fen", "transaction", "sequence"}


def read(stream: BinaryIO, trust: TrustBundle, take: Take = lambda _row: None) -> Settlement:
    """Read a signed file to its end. Raises SettlementRefused; what `take` got is worth nothing then."""
    lines = _Lines(stream)
    header = _header(lines, trust)
    _names(lines)
    rows = _Rows(lines, take)
    totals = _totals(rows, header)
    seal = _seal(lines, rows.hash.digest())
    if lines.next() is not None:
        raise SettlementRefused("trailing", f"line {lines.number}: something stands below the signature")
    _check_signature(trust, header, totals, seal)
    return Settlement(header, totals, seal)


def read_list(stream: BinaryIO, take: Take = lambda _row: None) -> Totals:
    """Read a list of rows that nobody signed: the line of column names and the rows, no more. `closing_fen`
    is what its rows come to. Raises SettlementRefused.
    """
    lines = _Lines(stream)
    _names(lines)
    rows = _Rows(lines, take)
    if rows.after is not None:
        raise SettlementRefused(
            "trailing",
            f"line {lines.number}: a list without a signature holds rows only; "
            "a signed file is to be read as what it is",
        )
    return Totals(rows.count, rows.credit_fen, rows.debit_fen, rows.credit_fen - rows.debit_fen)


class _Lines:
    """The lines of a stream, each bounded, whole, in ASCII and with LF at its end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._read = 0
        self.number = 0
        self.raw = b""

    def next(self) -> str | None:
        """The next line without its end; None at the end of the file. Raises SettlementRefused."""
        raw = self._stream.readline(MAX_LINE_BYTES + 1)
        self.raw = raw
        if not raw:
            return None
        self.number += 1
        self._read += len(raw)
        if self._read > MAX_FILE_BYTES:
            raise SettlementRefused(
                "too-long", f"the file is longer than {MAX_FILE_BYTES:,} bytes; this is no settlement file"
            )
        try:
            line = raw.decode("ascii")
        except UnicodeDecodeError:
            raise self._not_ascii(raw) from None
        if line[-1] == "\n" and "\r" not in line:
            return line[:-1]
        raise self._badly_ended(line)

    def _not_ascii(self, raw: bytes) -> SettlementRefused:
        if self.number == 1 and raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            return SettlementRefused(
                "bom", "the file begins with a byte order mark; a program saved it anew, take the original"
            )
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            return SettlementRefused("encoding", f"line {self.number} is not UTF-8; take the original file")
        return SettlementRefused("characters", f"line {self.number} holds characters that no such file has")

    def _badly_ended(self, line: str) -> SettlementRefused:
        if "\r" in line:
            return SettlementRefused(
                "line-ending",
                f"line {self.number} ends in CR LF, or holds CR; a program saved the file anew, take the "
                "original",
            )
        if len(line) > MAX_LINE_BYTES:
            return SettlementRefused(
                "line-too-long", f"line {self.number} is longer than {MAX_LINE_BYTES} bytes"
            )
        return SettlementRefused(
            "cut-off", f"line {self.number} has no end: the file was cut off, fetch it again"
        )


class _Rows:
    """Reads the rows, up to the first line that is none: `after`, which is None at the end of the file."""

    def __init__(self, lines: _Lines, take: Take) -> None:
        self.hash = sha256()
        self.count = self.credit_fen = self.debit_fen = 0
        while (line := lines.next()) is not None and not line.startswith("#"):
            row = _row(line, lines.number)
            self.count += 1
            if row.line != self.count:
                raise _out_of_turn(row.line, self.count)
            if self.count > MAX_ROWS:
                raise SettlementRefused("too-long", f"the file holds more than {MAX_ROWS:,} rows")
            self.credit_fen += row.credit_fen
            self.debit_fen += row.debit_fen
            self.hash.update(lines.raw)
            take(row)
        self.after = line


def _out_of_turn(found: int, due: int) -> SettlementRefused:
    if found < due:
        return SettlementRefused("row-twice", f"row {found} stands there twice, or out of its turn")
    return SettlementRefused("row-missing", f"row {due} is missing: the next one is row {found}")


def _row(line: str, number: int) -> Row:
    match = _ROW.fullmatch(line)
    if match is None:
        raise _bad_row(line, number)
    (at, time, kind, credit, debit, disposition, terminal, transaction, card, sequence, reference,
     code) = match.groups()  # fmt: skip
    credit_fen, debit_fen = int(credit), int(debit)
    if credit_fen > MAX_NUMBER or debit_fen > MAX_NUMBER:
        raise _too_high(f"line {number}")
    if (credit_fen > 0) == (debit_fen > 0):
        raise SettlementRefused(
            "amount", f"line {number}: one of credit_fen and debit_fen is above 0, and the other one is 0"
        )
    time_s = _seconds.get(time)
    if time_s is None:
        time_s = _read_time(time, number)
    return Row(
        int(at), time_s, kind, credit_fen, debit_fen, disposition,
        terminal, int(transaction), card, int(sequence), reference, code,
    )  # fmt: skip


_seconds: dict[str, int] = {}


def _read_time(time: str, number: int) -> int:
    """The seconds since 1970 of a time as the format writes it."""
    if len(_seconds) > 200_000:
        _seconds.clear()
    try:
        found = timegm(datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).utctimetuple())
    except ValueError:
        raise SettlementRefused("time", f"line {number}: there is no such day: {time}") from None
    if not 0 <= found < 2**32:
        raise SettlementRefused("time", f"line {number}: no card signed anything at {time}")
    _seconds[time] = found
    return found


def _bad_row(line: str, number: int) -> SettlementRefused:
    """Why a line is no row."""
    fields = line.split(",")
    if len(fields) != len(COLUMNS):
        more = "more" if len(fields) > len(COLUMNS) else "fewer"
        return SettlementRefused(
            "columns",
            f"line {number} has {len(fields)} columns, {more} than the {len(COLUMNS)} of the format",
        )
    for name, field in zip(COLUMNS, fields, strict=True):
        if name in _NUMERIC:
            refusal = _bad_number(field, f"line {number}, {name}")
            if refusal is not None:
                return refusal
    return SettlementRefused("row", f"line {number} is no row of a settlement file; take the original file")


def _bad_number(field: str, where: str) -> SettlementRefused | None:
    if not field or field.strip() != field:
        return SettlementRefused("number", f"{where}: a number with a blank in it, or none at all")
    if field[0] in "+-":
        return SettlementRefused("number", f"{where}: a number with a sign; amounts here have none")
    if not _DIGITS.fullmatch(field) or (field[0] == "0" and field != "0"):
        return SettlementRefused("number", f"{where}: not a whole number as this format writes it")
    return _too_high(where) if int(field[:20]) > MAX_NUMBER else None


def _too_high(where: str) -> SettlementRefused:
    return SettlementRefused("number", f"{where}: a number above 2^53, which no amount or count here is")


def _names(lines: _Lines) -> None:
    line = lines.next()
    if line == NAMES_LINE:
        return
    if line is None:
        raise SettlementRefused("cut-off", "the file ends before its rows: it was cut off, fetch it again")
    if line.startswith("#settlement"):
        raise SettlementRefused("signed", "this is a settlement file, not a list without a signature")
    count = line.count(",") + 1
    if count != len(COLUMNS):
        more = "more" if count > len(COLUMNS) else "fewer"
        raise SettlementRefused(
            "columns",
            f"line {lines.number} names {count} columns, {more} than the {len(COLUMNS)} of the format",
        )
    raise SettlementRefused("columns", f"line {lines.number} has to be: {NAMES_LINE}")


def _header(lines: _Lines, trust: TrustBundle) -> Header:
    line = lines.next()
    if line is None:
        raise SettlementRefused("cut-off", "the file is empty; fetch it again")
    if line == NAMES_LINE:
        raise SettlementRefused(
            "unsigned", "this is a list that nobody signed; take it with --unsigned-theirs, if that is meant"
        )
    version = _VERSION_OF.fullmatch(line)
    if version is None:
        raise SettlementRefused("unknown", "this is no settlement file: its first line says nothing of one")
    if version[1] != str(VERSION):
        raise SettlementRefused(
            "version",
            f"a settlement file of version {version[1]}; this program knows version {VERSION}, "
            "bring it up to date",
        )
    match = _HEADER.fullmatch(line)
    if match is None:
        raise SettlementRefused("header", "the first line is not as a settlement file has it")
    header = _header_of(match)
    if header is None or header.text() != line:
        raise SettlementRefused("header", "the first line holds a number, a day or a time that can't be")
    if header.scheme != trust.scheme:
        raise SettlementRefused("scheme", f"the file belongs to another scheme ({header.scheme.hex()})")
    if header.suite != trust.suite.number or header.currency != trust.currency:
        raise SettlementRefused("scheme", "the file is of another suite or currency than its scheme")
    return header


def _header_of(match: re.Match[str]) -> Header | None:
    scheme, suite, currency, payee, number, previous, day, closed, opening = match.groups()
    try:
        moment = datetime.strptime(closed, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        header = Header(
            *(bytes.fromhex(scheme), int(suite), int(currency, 16), bytes.fromhex(payee), int(number)),
            *(int(previous), date.fromisoformat(day), timegm(moment.utctimetuple()), int(opening)),
        )
    except ValueError:
        return None
    fits = (
        header.previous < header.number < 2**32
        and 0 <= header.closed_s < 2**32
        and abs(header.opening_fen) <= MAX_NUMBER
    )
    return header if fits else None


def _totals(rows: _Rows, header: Header) -> Totals:
    line = rows.after
    if line is None:
        raise SettlementRefused("cut-off", "the file ends before its totals: it was cut off, fetch it again")
    match = _TOTALS.fullmatch(line)
    if match is None:
        raise SettlementRefused("totals", "the line below the rows does not give the totals")
    said = Totals(*(int(field) for field in match.groups()))
    if said.rows != rows.count:
        raise SettlementRefused(
            "row-missing", f"the totals speak of {said.rows} rows, and the file holds {rows.count}"
        )
    if (said.credit_fen, said.debit_fen) != (rows.credit_fen, rows.debit_fen):
        raise SettlementRefused(
            "totals",
            f"the totals say {said.credit_fen} fen in and {said.debit_fen} fen out, the rows come to "
            f"{rows.credit_fen} and {rows.debit_fen}",
        )
    if said.closing_fen != header.opening_fen + said.credit_fen - said.debit_fen:
        raise SettlementRefused("totals", "opening balance and movements do not give the closing balance")
    if max(said.credit_fen, said.debit_fen, abs(said.closing_fen)) > MAX_NUMBER:
        raise _too_high("the totals")
    return said


def _seal(lines: _Lines, rows_hash: bytes) -> Seal:
    line = lines.next()
    match = _HASH.fullmatch(line or "")
    if match is None:
        raise _unsigned(line, "the line below the totals does not give the SHA-256 of the rows")
    if bytes.fromhex(match[1]) != rows_hash:
        raise SettlementRefused(
            "hash", "the rows are not those of the SHA-256 below them: a byte was changed"
        )
    line = lines.next()
    match = _SIGNATURE.fullmatch(line or "")
    if match is None:
        raise _unsigned(line, "the last line is no signature")
    return Seal(rows_hash, bytes.fromhex(match[1]), bytes.fromhex(match[2]))


def _unsigned(line: str | None, otherwise: str) -> SettlementRefused:
    if line is None:
        return SettlementRefused("unsigned", "the file is not signed: its last lines are missing")
    return SettlementRefused("signature", otherwise)


def _check_signature(trust: TrustBundle, header: Header, totals: Totals, seal: Seal) -> None:
    """That the payee's own acquiring operator signed, under a certificate that this scheme knows."""
    try:
        operator = certificates.parse(seal.certificate)
        if operator not in trust.operators:
            raise AuthorityUnknown(
                "the certificate in the file is no operator's of this scheme; bring this machine's operator "
                "list up to date"
            )
        number = header.payee[:4]
        if operator.operator != number:
            raise CertificateRefused("it is not by the payee's own acquiring operator")
        signed = message(trust.suite, operator, header, totals, seal.rows_hash)
        trust.verify_signed(number, CLASS_ACQUIRING, signed, seal.signature, header.closed_s)
    except (Malformed, AuthorityUnknown, CertificateRefused) as error:
        raise SettlementRefused("operator", f"the file's signature is refused: {error}") from None
    except SignatureInvalid:
        raise SettlementRefused(
            "signature",
            "the file is not what its operator signed; it was altered, fetch it again from clearing",
        ) from None
