"""docs/a-tap-byte-by-byte.md shows what the program does today, and its tables are enough to check it."""

import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from tests.docs import recorded_taps as taps
from tests.docs.recorded_taps import EXPECTED, Recording, record
from tests.docs.tap_page import PAGE, Field, blocks, filled, names, rows
from tui.cli import main

WRITE_AGAIN = "if the change is meant, run: python -m tests.docs.tap_page"

Bytes = dict[str, str]
"""The hex of an APDU's fields by name."""

_ROW = re.compile(r"^\| \d+ \| (?P<bytes>.*?) \| (?P<name>.*?) \|")
_P256_KEY = bytes.fromhex("3059301306072A8648CE3D020106082A8648CE3D03010703420004")  # RFC 5480: SPKI up to x


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("taps"))


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_taps_end_as_the_page_tells(recording: Recording) -> None:
    assert [tap.outcome for tap in recording.taps] == EXPECTED
    assert recording.taps[taps.RECOVERED].recovered


def test_the_page_shows_these_bytes(recording: Recording, page: str) -> None:
    made = blocks(recording)
    assert sorted(names(page)) == sorted(made)
    assert page == filled(page, made), WRITE_AGAIN


def test_trace_show_says_what_the_page_says(
    recording: Recording, page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tap.trace"
    file.write_text(recording.text, encoding="utf-8")
    assert main(["trace", "show", str(file)]) == 0
    assert f"```text\n{capsys.readouterr().out.rstrip()}\n```" in page, WRITE_AGAIN


def test_no_pin_block_is_on_the_page(page: str) -> None:
    asked = shown(page, "with-pin", "PAY", "Command")
    assert set(asked["ephemeral key"] + asked["PIN block"]) == {"x"}


def test_a_layout_must_cover_every_byte() -> None:
    layout = [Field(1, "one", "6", "first"), Field(2, "two", "6", "second")]
    assert [row[1] for row in rows("AABBCC", layout)] == ["AA", "BBCC"]
    with pytest.raises(ValueError, match="4 bytes"):
        list(rows("AABBCCDD", layout))


# What follows reads the tables of the page and nothing else, and has openssl verify the signatures.


def shown(page: str, block: str, command: str, which: str) -> Bytes:
    """The fields of `which` (Command or Reply) of the first exchange of that name in a block of the page."""
    inside = page.split(f"<!-- begin {block} -->")[1].split(f"<!-- end {block} -->")[0]
    exchange = re.split(r"^### \d+\. ", inside, flags=re.MULTILINE)
    text = next(part for part in exchange if part.startswith(command + "\n"))
    half = text.split(f"\n{which}, ")[1].split("\nReply, ")[0]
    found: Bytes = {}
    for line in half.splitlines():
        if match := _ROW.match(line):
            found.setdefault(match["name"], re.sub(r"[`<>br]", "", match["bytes"]))
    return found


SALE = (
    "version", "suite", "application", "payee", "reference", "amount", "currency", "terminal",
    "terminal transaction number", "terminal nonce", "terminal time", "profile",
)  # fmt: skip
TAIL = (
    "cardholder verified", "limit state", "balance after", "offline total after", "offline count after",
)  # fmt: skip


def joined(fields: Bytes, wanted: tuple[str, ...]) -> bytes:
    return bytes.fromhex("".join(fields[name] for name in wanted))


def der(signature: bytes) -> bytes:
    """r‖s as openssl wants it (RFC 3279, 2.2.3)."""

    def integer(raw: bytes) -> bytes:
        short = raw.lstrip(b"\x00") or b"\x00"
        return b"\x02" + bytes((len(short) + (short[0] >> 7),)) + b"\x00" * (short[0] >> 7) + short

    both = integer(signature[:32]) + integer(signature[32:])
    return b"\x30" + bytes((len(both),)) + both


def openssl_verifies(folder: Path, key: bytes, signature: bytes, message: bytes) -> bool:
    for name, content in (("key", _P256_KEY + key), ("signature", der(signature)), ("message", message)):
        (folder / name).write_bytes(content)
    command = ["openssl", "dgst", "-sha256", "-keyform", "DER", "-verify", "key", "-signature", "signature"]
    done = subprocess.run([*command, "message"], cwd=folder, capture_output=True, timeout=30, check=False)
    return done.returncode == 0


def body_of(page: str, block: str) -> tuple[bytes, bytes]:
    """The record's body, put together as section 15 tells a terminal to, and its signature."""
    selected = shown(page, "transit", "SELECT", "Reply")
    sale = joined(shown(page, block, "PAY", "Command"), SALE)
    paid = shown(page, block, "PAY", "Reply")
    card = joined(selected, ("scheme", "card", "certificate digest"))
    sequence = bytes.fromhex(paid["sequence"])
    body = b"\xd1" + sale[:3] + card + sequence + sale[3:] + joined(paid, TAIL) + b"\x00"
    return body, bytes.fromhex(paid["signature"])


def card_key(page: str) -> bytes:
    return bytes.fromhex(shown(page, "retail", "EXCHANGE CERTIFICATES", "Reply")["public key"])


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("block", ["transit", "retail", "with-pin"])
def test_openssl_verifies_the_record_that_the_page_shows(page: str, block: str, tmp_path: Path) -> None:
    body, signature = body_of(page, block)
    assert len(body) == 96
    assert openssl_verifies(tmp_path, card_key(page), signature, body)
    other = body[:48] + bytes((body[48] ^ 1,)) + body[49:]  # another amount
    assert not openssl_verifies(tmp_path, card_key(page), signature, other)


@pytest.mark.needs("openssl")
def test_openssl_verifies_the_terminals_proof(page: str, tmp_path: Path) -> None:
    selected = shown(page, "retail", "SELECT", "Reply")
    asked = shown(page, "retail", "PAY", "Command")
    sale, digest = joined(asked, SALE), bytes.fromhex(asked["terminal's certificate digest"])
    message = b"\xe1" + sale[:3] + joined(selected, ("scheme", "card", "card nonce")) + digest + sale
    assert len(message) == 98
    presented = shown(page, "retail", "EXCHANGE CERTIFICATES", "Command")
    key, proof = bytes.fromhex(presented["public key"]), bytes.fromhex(asked["retail proof"])
    assert openssl_verifies(tmp_path, key, proof, message)


@pytest.mark.needs("openssl")
def test_openssl_verifies_the_fresh_proof_of_a_payment_made_before(page: str, tmp_path: Path) -> None:
    selected = shown(page, "transit", "SELECT", "Reply")
    sale = joined(shown(page, "recovered", "PAY", "Command"), SALE)
    again = shown(page, "recovered", "PAY", "Reply")
    begin = ("type", *SALE[:3], "scheme", "card", "certificate digest", "sequence")
    stored = joined(again, (*begin, *SALE[3:], *TAIL, "zero"))
    assert openssl_verifies(tmp_path, card_key(page), bytes.fromhex(again["signature"]), stored)
    card = joined(selected, ("scheme", "card", "certificate digest"))
    rest = bytes.fromhex(again["sequence"] + again["outcome"]) + sale + sha256(stored).digest()
    message = b"\xd4" + sale[:3] + card + rest
    assert len(message) == 119
    assert openssl_verifies(tmp_path, card_key(page), bytes.fromhex(again["fresh proof"]), message)


def test_the_page_names_the_ride_as_the_protocol_does(page: str) -> None:
    ride = b"B042" + (20260921).to_bytes(4, "big") + (7).to_bytes(4, "big")
    card = bytes.fromhex(shown(page, "transit", "SELECT", "Reply")["card"])
    wanted = sha256(b"\x54" + ride + card).digest()[:12]
    assert shown(page, "transit", "PAY", "Command")["reference"] == wanted.hex().upper()


def test_certificate_digests_are_those_of_the_certificates_shown(page: str) -> None:
    reply = shown(page, "retail", "EXCHANGE CERTIFICATES", "Reply")
    own = list(reply)[: list(reply).index("signature")]
    digest = sha256(joined(reply, tuple(own))).hexdigest()[:16].upper()
    assert digest == shown(page, "transit", "SELECT", "Reply")["certificate digest"]
    agreement = bytes.fromhex(shown(page, "with-pin", "EXCHANGE CERTIFICATES", "Reply")["agreement key"])
    assert sha256(b"\xa0" + agreement).hexdigest()[:32].upper() == reply["agreement key digest"]
