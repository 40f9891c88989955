"""The settlement file: its bytes, and whatever is wrong with one, each with its own message."""

import re
import struct
import subprocess
from collections.abc import Callable
from datetime import date
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from hardwallet import certificates
from hardwallet.suites import SigningKey
from offline_sync import settlement
from offline_sync.errors import SettlementRefused
from offline_sync.settlement import Header, Row, Seal, Totals
from pos_terminal.receipts import record_code
from tests.offline_sync.factory import ACQUIRER, NOW, YEAR, Scheme

PAYEE = ACQUIRER + bytes.fromhex("00000001")


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme(seed="settlement-file")


def row(line: int, kind: str = "payment", credit_fen: int = 0, debit_fen: int = 0, **changes: object) -> Row:
    fields: dict[str, object] = {
        "line": line,
        "time_s": NOW + line,
        "kind": kind,
        "credit_fen": credit_fen,
        "debit_fen": debit_fen,
        "disposition": "granted" if kind == "payment" else "-",
        "terminal": "00000001",
        "transaction": 100 + line,
        "card": "0000001100000007",
        "sequence": line,
        "reference": f"{line:024x}",
        "code": "ABCDEFG234",
    }
    return Row(**(fields | changes))  # type: ignore[arg-type]


ROWS = [
    row(1, credit_fen=1_250),
    row(2, "refund", debit_fen=250),
    row(3, credit_fen=300, disposition="carried"),
    row(4, "adjustment-9", debit_fen=1),
]


def made(
    scheme: Scheme,
    rows: list[Row] = ROWS,
    *,
    key: SigningKey | None = None,
    certificate: certificates.Certificate | None = None,
    opening_fen: int = -40,
    closed_s: int = NOW + 60,
    payee: bytes = PAYEE,
    number: int = 12,
) -> bytes:
    """A whole file."""
    header = Header(
        *(scheme.scheme, scheme.suite.number, 0x0156, payee, number, 11, date(2026, 9, 21)),
        *(closed_s, opening_fen),
    )
    credit_fen, debit_fen = sum(one.credit_fen for one in rows), sum(one.debit_fen for one in rows)
    totals = Totals(len(rows), credit_fen, debit_fen, opening_fen + credit_fen - debit_fen)
    text = "".join(one.text() + "\n" for one in rows).encode()
    operator = certificate or scheme.acquirer
    hashed = sha256(text).digest()
    signed = settlement.message(scheme.suite, operator, header, totals, hashed)
    seal = Seal(hashed, operator.to_bytes(), (key or scheme.acquirer_key).sign(signed))
    head = f"{header.text()}\n{settlement.NAMES_LINE}\n".encode()
    return head + text + f"{totals.text()}\n{seal.text()}\n".encode()


def read(scheme: Scheme, raw: bytes) -> list[Row]:
    rows: list[Row] = []
    settlement.read(BytesIO(raw), scheme.trust, rows.append)
    return rows


def refusal(scheme: Scheme, raw: bytes) -> SettlementRefused:
    with pytest.raises(SettlementRefused) as refused:
        read(scheme, raw)
    return refused.value


def test_what_is_written_is_read(scheme: Scheme) -> None:
    assert read(scheme, made(scheme)) == ROWS
    found = settlement.read(BytesIO(made(scheme)), scheme.trust)
    assert (found.header.payee, found.header.number, found.header.previous) == (PAYEE, 12, 11)
    assert (found.header.day, found.header.opening_fen) == (date(2026, 9, 21), -40)
    assert found.totals == Totals(4, 1_550, 251, 1_259)


def test_a_day_without_rows_is_a_file_too(scheme: Scheme) -> None:
    assert read(scheme, made(scheme, [])) == []


def test_the_text_is_as_the_page_says(scheme: Scheme) -> None:
    lines = made(scheme).decode("ascii").split("\n")
    assert lines[0] == (
        "#settlement,version=1,scheme=0a0b0c0d,suite=1,currency=0156,payee=0000002200000001,number=12,"
        "previous=11,day=2026-09-21,closed=2026-09-21T14:14:20Z,opening_fen=-40"
    )
    assert lines[1] == (
        "line,time,kind,credit_fen,debit_fen,disposition,terminal,transaction,card,sequence,reference,code"
    )
    assert lines[2] == (
        "1,2026-09-21T14:13:21Z,payment,1250,0,granted,00000001,101,0000001100000007,1,"
        "000000000000000000000001,ABCDEFG234"
    )
    assert lines[6] == "#totals,rows=4,credit_fen=1550,debit_fen=251,closing_fen=1259"
    assert lines[9] == ""


def test_the_signature_verifies_without_this_program(scheme: Scheme, tmp_path: Path) -> None:
    """The 114 bytes of the page, put together here, and the openssl command."""
    lines = made(scheme).decode("ascii").split("\n")
    _, certificate, signature = lines[8].split(",")
    rows = "".join(line + "\n" for line in lines[2:6]).encode()
    assert lines[7] == f"#sha256,{sha256(rows).hexdigest()}"
    digest = sha256(bytes.fromhex(certificate)[:98]).digest()[:8]
    signed = (
        bytes.fromhex("f5010100") + bytes.fromhex("0a0b0c0d") + digest + bytes.fromhex("0156") + PAYEE
        + struct.pack(">IIIIqQQQq", 12, 11, 20_260_921, NOW + 60, -40, 4, 1_550, 251, 1_259)
        + sha256(rows).digest()
    )  # fmt: skip
    assert len(signed) == 114
    point = b"\x04" + bytes.fromhex(certificate)[34:98]
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    raw = bytes.fromhex(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    for name, content in (("key.pem", public), ("signature.der", der), ("message", signed)):
        (tmp_path / name).write_bytes(content)
    command = "openssl dgst -sha256 -verify key.pem -signature signature.der message".split()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"Verified OK\n")


@given(body=st.binary(min_size=1, max_size=96))
def test_the_code_is_the_one_on_the_receipt(body: bytes) -> None:
    class Record:
        def __init__(self) -> None:
            self.body = body

    assert settlement.code_text(sha256(body).digest()) == record_code(Record())  # type: ignore[arg-type]


@given(time_s=st.integers(0, 2**32 - 1))
def test_times_come_back(time_s: int) -> None:
    text = row(1, credit_fen=1, time_s=time_s).text()
    assert settlement._row(text, 1).time_s == time_s


# ------------------------------------------------------------------------------------------------ bad files

Edit = Callable[[list[bytes]], object]
"""Changes the lines, which have their ends."""


def edited(scheme: Scheme, edit: Edit) -> bytes:
    lines = made(scheme).splitlines(keepends=True)
    changed = edit(lines)
    return changed if isinstance(changed, bytes) else b"".join(lines)


def put(place: int, old: bytes, new: bytes) -> Edit:
    def edit(lines: list[bytes]) -> None:
        assert lines[place].count(old) >= 1
        lines[place] = lines[place].replace(old, new, 1)

    return edit


def without(place: int) -> Edit:
    return lambda lines: lines.pop(place) and None


def again(place: int) -> Edit:
    return lambda lines: lines.insert(place, lines[place])


@pytest.mark.parametrize(
    ("edit", "code", "said"),
    [
        # rows
        (put(2, b"\n", b",more\n"), "columns", "line 3 has 13 columns, more than the 12"),
        (put(2, b",ABCDEFG234", b""), "columns", "line 3 has 11 columns, fewer than the 12"),
        (put(1, b",code", b",code,more"), "columns", "line 2 names 13 columns, more than"),
        (put(1, b",code", b""), "columns", "line 2 names 11 columns, fewer than"),
        (put(1, b"credit_fen,debit_fen", b"debit_fen,credit_fen"), "columns", "line 2 has to be: line,time"),
        (without(2), "row-missing", "row 1 is missing: the next one is row 2"),
        (without(5), "row-missing", "the totals speak of 4 rows, and the file holds 3"),
        (again(3), "row-twice", "row 2 stands there twice"),
        (put(2, b",1250,0,", b",0,0,"), "amount", "line 3: one of credit_fen and debit_fen"),
        (put(2, b",1250,0,", b",1250,1,"), "amount", "the other one is 0"),
        (put(2, b"payment", b"tip"), "row", "line 3 is no row of a settlement file"),
        (put(2, b"granted", b"perhaps"), "row", "is no row"),
        (put(2, b"0000001100000007", b"000000110000000G"), "row", "is no row"),
        (put(2, b"T14:13", b"T24:13"), "row", "is no row"),
        (put(2, b"2026-09-21", b"2026-02-30"), "time", "line 3: there is no such day: 2026-02-30T"),
        (put(2, b"2026-09-21", b"1969-09-21"), "time", "line 3: no card signed anything at 1969-09-21T"),
        (put(2, b"2026-09-21", b"2126-09-21"), "time", "no card signed anything"),
        # numbers
        (put(2, b",1250,", b",+1250,"), "number", "line 3, credit_fen: a number with a sign"),
        (put(2, b",1250,", b",-1250,"), "number", "line 3, credit_fen: a number with a sign"),
        (put(2, b",1250,", b", 1250,"), "number", "line 3, credit_fen: a number with a blank in it"),
        (put(2, b",1250,", b",1 250,"), "number", "not a whole number as this format writes it"),
        (put(2, b",1250,", b",,"), "number", "or none at all"),
        (put(2, b",1250,", b",01250,"), "number", "not a whole number"),
        (put(2, b",1250,", b",12.50,"), "number", "not a whole number"),
        (put(2, b",1250,", b",1e3,"), "number", "not a whole number"),
        (put(2, b",1250,", b",9007199254740993,"), "number", "line 3: a number above 2^53"),
        (put(2, b",1250,", b",99999999999999999999,"), "number", "line 3, credit_fen: a number above 2^53"),
        (put(2, b",1,", b",9007199254740993,"), "number", "line 3, sequence: a number above 2^53"),
        # totals
        (put(6, b"rows=4", b"rows=5"), "row-missing", "the totals speak of 5 rows"),
        (put(6, b"1550", b"1551"), "totals", "1551 fen in and 251 fen out, the rows come to 1550 and 251"),
        (put(6, b"=251", b"=250"), "totals", "250 fen out, the rows come to 1550 and 251"),
        (put(6, b"1259", b"1260"), "totals", "do not give the closing balance"),
        (put(0, b"opening_fen=-40", b"opening_fen=-41"), "totals", "do not give the closing balance"),
        (put(6, b"#totals", b"#total"), "totals", "does not give the totals"),
        (without(6), "totals", "does not give the totals"),
        # a changed byte
        (put(2, b"ABCDEFG234", b"ABCDEFG235"), "hash", "a byte was changed"),
        (put(2, b"granted", b"carried"), "hash", "a byte was changed"),
        (put(7, b"#sha256,", b"#sha256,0"), "signature", "does not give the SHA-256"),
        (put(8, b"#signature,", b"#signature,,"), "signature", "the last line is no signature"),
        (put(0, b"number=12", b"number=13"), "signature", "not what its operator signed; it was altered"),
        (put(0, b"previous=11", b"previous=10"), "signature", "not what its operator signed"),
        (put(0, b"day=2026-09-21", b"day=2026-09-20"), "signature", "not what its operator signed"),
        (put(0, b"14:14:20", b"14:14:21"), "signature", "not what its operator signed"),
        (put(0, b"00000001,number", b"00000002,number"), "signature", "not what its operator signed"),
        # the first line
        (put(0, b"version=1", b"version=2"), "version", "version 2; this program knows version 1"),
        (put(0, b"0a0b0c0d", b"0a0b0c0e"), "scheme", "belongs to another scheme (0a0b0c0e)"),
        (put(0, b"suite=1", b"suite=01"), "header", "a number, a day or a time that can't be"),
        (put(0, b"suite=1", b"suite=2"), "scheme", "of another suite or currency"),
        (put(0, b"0156", b"0840"), "scheme", "of another suite or currency"),
        (put(0, b"#settlement", b"#statement"), "unknown", "this is no settlement file"),
        (put(0, b"day=2026-09-21", b"day=2026-13-21"), "header", "that can't be"),
        (put(0, b"closed=2026-09-21T", b"closed=2026-09-31T"), "header", "that can't be"),
        (put(0, b"previous=11", b"previous=12"), "header", "that can't be"),
        (put(0, b"opening_fen=-40", b"opening_fen=+40"), "header", "not as a settlement file has it"),
        (put(0, b"opening_fen=-40", b"opening_fen=-0"), "header", "not as a settlement file has it"),
        (put(0, b"opening_fen=-40", b"opening_fen=-9007199254740993"), "header", "that can't be"),
        (put(0, b"number=12", b"number=012"), "header", "not as a settlement file has it"),
        (without(0), "unsigned", "a list that nobody signed"),
        (without(1), "columns", "has to be"),
        # the end
        (without(8), "unsigned", "not signed: its last lines are missing"),
        (lambda lines: b"".join(lines[:7]), "unsigned", "not signed: its last lines are missing"),
        (lambda lines: b"".join(lines[:6]), "cut-off", "ends before its totals: it was cut off"),
        (lambda lines: b"".join(lines[:1]), "cut-off", "ends before its rows"),
        (lambda _lines: b"", "cut-off", "the file is empty"),
        (lambda lines: b"".join(lines)[:-1], "cut-off", "line 9 has no end: the file was cut off"),
        (lambda lines: b"".join(lines[:4])[:-20], "cut-off", "line 4 has no end"),
        (lambda lines: b"".join(lines) + b"\n", "trailing", "line 10: something stands below the signature"),
        (lambda lines: b"".join(lines) * 2, "trailing", "line 10: something stands below"),
        # the bytes
        (lambda lines: b"".join(lines).replace(b"\n", b"\r\n"), "line-ending", "line 1 ends in CR LF"),
        (put(3, b"\n", b"\r\n"), "line-ending", "line 4 ends in CR LF"),
        (lambda lines: b"\xef\xbb\xbf" + b"".join(lines), "bom", "begins with a byte order mark"),
        (lambda lines: b"".join(lines).decode().encode("utf-16"), "bom", "byte order mark"),
        (put(2, b"granted", b"gr\xe4nted"), "encoding", "line 3 is not UTF-8"),
        (put(2, b"granted", "gränted".encode()), "characters", "line 3 holds characters that no such file"),
        (put(2, b",1250,", "，1250,".encode()), "characters", "line 3 holds characters"),
        (put(2, b"\n", b"x" * 2_000 + b"\n"), "line-too-long", "line 3 is longer than 1024 bytes"),
        (put(2, b"granted", b"gran\x00ted"), "row", "line 3 is no row"),
        (lambda _lines: b"\x00" * 4_096, "line-too-long", "line 1 is longer"),
        (lambda _lines: b"PK\x03\x04\n", "unknown", "this is no settlement file"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_message(scheme: Scheme, edit: Edit, code: str, said: str) -> None:
    found = refusal(scheme, edited(scheme, edit))
    assert found.code == code
    assert said in str(found)


def test_no_byte_can_be_changed(scheme: Scheme) -> None:
    """Every byte of a file, one after the other, by one bit."""
    whole = made(scheme, ROWS[:2])
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        refusal(scheme, bytes(changed))


def test_no_piece_of_a_file_is_a_file(scheme: Scheme) -> None:
    whole = made(scheme, ROWS[:2])
    for length in range(len(whole)):
        refusal(scheme, whole[:length])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_bytes_come_are_refused_or_read(scheme: Scheme, data: st.DataObject) -> None:
    """Pieces of a good file with anything between them: never another error, never another content."""
    whole = made(scheme, ROWS[:2])
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole)))
    put_in = data.draw(st.binary(max_size=40) | st.text("0123456789,#-+ \n", max_size=20).map(str.encode))
    raw = whole[:begin] + put_in + whole[end:]
    if raw == whole:
        assert read(scheme, raw) == ROWS[:2]
    else:
        refusal(scheme, raw)


def test_a_file_that_is_too_large(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(scheme)
    monkeypatch.setattr(settlement, "MAX_FILE_BYTES", len(whole))
    assert read(scheme, whole) == ROWS
    monkeypatch.setattr(settlement, "MAX_FILE_BYTES", len(whole) - 1)
    found = refusal(scheme, whole)
    assert (found.code, "the file is longer than" in str(found)) == ("too-long", True)
    monkeypatch.undo()
    monkeypatch.setattr(settlement, "MAX_ROWS", 3)
    assert "more than 3 rows" in str(refusal(scheme, whole))


def test_an_endless_file_is_not_read_to_its_end(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(BytesIO):
        taken = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            line = whole[min(self.taken, 2)]
            self.taken += 1
            return line.replace(b"1,", b"%d," % (self.taken - 2), 1) if self.taken > 2 else line

    whole = made(scheme).splitlines(keepends=True)
    monkeypatch.setattr(settlement, "MAX_FILE_BYTES", 100_000)
    stream = Endless()
    with pytest.raises(SettlementRefused, match="longer than 100,000 bytes"):
        settlement.read(stream, scheme.trust)
    assert stream.taken < 1_100


# ---------------------------------------------------------------------------------------------- who signed


def test_another_operator_cannot_sign(scheme: Scheme) -> None:
    number = bytes.fromhex("00000033")
    key = scheme.suite.new_signing_key(scheme.entropy)
    other = scheme.operator(number, certificates.CLASS_ACQUIRING, key)
    unknown = refusal(scheme, made(scheme, key=key, certificate=other))
    assert (unknown.code, "no operator's of this scheme" in str(unknown)) == ("operator", True)
    trust = certificates.TrustBundle(scheme.suite, scheme.root, [scheme.issuer, scheme.acquirer, other])
    for raw, code, said in (
        (made(scheme, key=key, certificate=other), "operator", "not by the payee's own acquiring operator"),
        (made(scheme, key=key), "signature", "not what its operator signed"),
        (made(scheme, key=scheme.issuer_key, certificate=scheme.issuer), "operator", "payee's own"),
    ):
        with pytest.raises(SettlementRefused, match=said) as refused:
            settlement.read(BytesIO(raw), trust)
        assert refused.value.code == code


def test_an_issuer_that_acquires_nothing(scheme: Scheme) -> None:
    raw = made(
        scheme,
        key=scheme.issuer_key,
        certificate=scheme.issuer,
        payee=scheme.issuer.operator + bytes(4),
    )
    assert refusal(scheme, raw).code == "operator"


def test_a_certificate_that_was_not_valid_then(scheme: Scheme) -> None:
    for closed_s in (NOW - YEAR - 1, NOW + 3 * YEAR + 1):
        found = refusal(scheme, made(scheme, closed_s=closed_s))
        assert (found.code, "certificate" in str(found)) == ("operator", True)


def test_another_schemes_trust(scheme: Scheme) -> None:
    stranger = Scheme(seed="another")
    found = refusal(stranger, made(scheme))
    assert found.code == "operator"
    assert refusal(Scheme(scheme=b"abcd"), made(scheme)).code == "scheme"


# ---------------------------------------------------------------------------------- lists nobody signed


def listed(scheme: Scheme) -> bytes:
    return b"".join(made(scheme).splitlines(keepends=True)[1:6])


def test_a_list_is_read_when_it_is_asked_for(scheme: Scheme) -> None:
    rows: list[Row] = []
    totals = settlement.read_list(BytesIO(listed(scheme)), rows.append)
    assert rows == ROWS
    assert totals == Totals(4, 1_550, 251, 1_299)
    assert refusal(scheme, listed(scheme)).code == "unsigned"


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda raw, _: raw[:-1], "cut-off"),
        (lambda raw, _: raw.replace(b"\n", b"\r\n"), "line-ending"),
        (lambda _, whole: whole, "signed"),
        (lambda raw, whole: raw + whole.splitlines(keepends=True)[6], "trailing"),
        (lambda raw, _: raw.replace(b",1250,", b",-1250,"), "number"),
        (lambda _raw, _whole: b"", "cut-off"),
    ],
)
def test_a_list_is_read_as_strictly(scheme: Scheme, edit: Callable[[bytes, bytes], bytes], code: str) -> None:
    with pytest.raises(SettlementRefused) as refused:
        settlement.read_list(BytesIO(edit(listed(scheme), made(scheme))))
    assert refused.value.code == code


# ----------------------------------------------------------------------------------------------- the page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settlement.md"
EXAMPLE = [
    row(1, credit_fen=1_250),
    row(2, credit_fen=300, disposition="not-granted"),
    row(3, "return", debit_fen=300, disposition="not-granted", transaction=102, sequence=2, time_s=NOW + 2,
        reference=f"{2:024x}"),
    row(4, "refund", debit_fen=250, sequence=3, reference="0000000100000" + "0fa" + "0" * 8),
]  # fmt: skip


def test_the_example_of_the_page_is_a_file(scheme: Scheme) -> None:
    whole = made(scheme, EXAMPLE, opening_fen=120_000)
    (shown,) = re.findall(r"```csv\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown == whole.decode("ascii")
    assert read(scheme, whole) == EXAMPLE


def test_the_page_names_every_column_kind_and_refusal() -> None:
    page = PAGE.read_text(encoding="utf-8")
    source = Path(settlement.__file__).read_text(encoding="utf-8")
    codes = set(re.findall(r'SettlementRefused\(\s*"([a-z-]+)"', source))
    assert len(codes) > 15
    for name in (*settlement.COLUMNS, *settlement.KINDS.values(), *settlement.DISPOSITIONS, *codes):
        assert f"`{name}`" in page, name
