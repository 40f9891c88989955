"""Writes the parts of docs/a-tap-byte-by-byte.md that are made of bytes: `python -m tests.docs.tap_page`.

The layouts here are read off docs/protocol.md a second time and share nothing with hardwallet/messages.py:
the page is right only where both agree.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from firmware_bridge.trace import TraceExchange, explain
from hardwallet.describe import describe
from tests.conftest import REPOSITORY
from tests.docs import recorded_taps as taps
from tests.docs.recorded_taps import Recording, record

PAGE: Final = REPOSITORY / "docs" / "a-tap-byte-by-byte.md"
BYTES_A_ROW: Final = 16
_BLOCK: Final = re.compile(
    r"(?P<begin><!-- begin (?P<name>[a-z-]+) -->\n).*?(?P<end>\n<!-- end (?P=name) -->)", re.DOTALL
)

Meaning = str | Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Field:
    """So many bytes of an APDU: their name, where docs/protocol.md lays them down, what they mean."""

    length: int
    name: str
    section: str
    meaning: Meaning


# ------------------------------------------------------------------------------------------- meanings


def number(raw: bytes) -> str:
    """An unsigned big-endian integer."""
    return str(int.from_bytes(raw, "big"))


def yuan(raw: bytes) -> str:
    """Fen as yuan."""
    fen = int.from_bytes(raw, "big")
    return f"{fen // 100}.{fen % 100:02d} CNY"


def time(raw: bytes) -> str:
    """Seconds since 1970."""
    return datetime.fromtimestamp(int.from_bytes(raw, "big"), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def letters(raw: bytes) -> str:
    """The AID: F0, then letters."""
    return f'`{raw[0]:02X}`, then "{raw[1:].decode("ascii")}"'


def bits(*names: str) -> Callable[[bytes], str]:
    """One byte of flags, bit 0 first."""
    return lambda raw: ", ".join(name for bit, name in enumerate(names) if raw[0] >> bit & 1) or "none"


def one_of(**words: str) -> Callable[[bytes], str]:
    """One byte with a word for each value, as in x01="transit"."""
    return lambda raw: words[f"x{raw.hex().upper()}"]


# ------------------------------------------------------------------------------------------- layouts


def header(
    name: str, ins: str, section: str, p2: str = "nothing", cla: str = "this application's own class"
) -> list[Field]:
    """CLA INS P1 P2."""
    return [
        Field(1, "CLA", "6", cla),
        Field(1, "INS", section, f"{name} (`{ins}`)"),
        Field(1, "P1", "6", "nothing"),
        Field(1, "P2", "6", p2),
    ]


LC: Final = Field(1, "Lc", "6", lambda raw: f"{raw[0]} bytes of data follow")
LE: Final = Field(1, "Le", "6", "as many bytes as there are, up to 256")
DONE: Final = Field(2, "status word", "14", "done")

SELECT: Final = [
    Field(1, "CLA", "6", "interindustry class (ISO/IEC 7816-4)"),
    Field(1, "INS", "6", "SELECT (`A4`)"),
    Field(1, "P1", "6", "by name"),
    Field(1, "P2", "7", "first or only occurrence, with FCI"),
    LC,
    Field(11, "AID", "6", letters),
    LE,
]
SELECTED: Final = [
    Field(2, "FCI template", "7", lambda raw: f"tag `6F`, {raw[1]} bytes"),
    Field(2, "proprietary data", "7", lambda raw: f"tag `85`, {raw[1]} bytes"),
    Field(1, "version", "7", number),
    Field(1, "suite", "2", one_of(x01="international: P-256, SHA-256, AES-128")),
    Field(1, "application", "2", one_of(x01="the CNY purse")),
    Field(1, "state", "7", bits("blocked", "PIN set", "PIN locked")),
    Field(1, "unratified entries", "7", number),
    Field(1, "tier", "7", number),
    Field(4, "scheme", "2", "who trusts one root"),
    Field(8, "card", "2", "the card's number"),
    Field(8, "certificate digest", "2", "names the card's certificate: first 8 bytes of SHA-256 of its body"),
    Field(2, "currency", "2", "ISO 4217 numeric, BCD: CNY"),
    Field(16, "card nonce", "7", "fresh at each SELECT; what the terminal signs holds it"),
    DONE,
]
SALE: Final = [
    Field(1, "version", "9", number),
    Field(1, "suite", "9", one_of(x01="international")),
    Field(1, "application", "9", one_of(x01="the CNY purse")),
    Field(8, "payee", "2", "acquiring operator `00000201`, then its merchant"),
    Field(12, "reference", "2", "names the sale; see below"),
    Field(4, "amount", "9", yuan),
    Field(2, "currency", "9", "CNY"),
    Field(4, "terminal", "2", "a terminal of this payee"),
    Field(4, "terminal transaction number", "9", number),
    Field(16, "terminal nonce", "9", "128 random bits of the terminal"),
    Field(4, "terminal time", "9", time),
    Field(1, "profile", "9", one_of(x01="transit", x02="retail")),
]
PAY_TRANSIT: Final = [*header("PAY", "20", "9"), LC, *SALE, LE]
_NAMED: Final = Field(8, "terminal's certificate digest", "9", "which verified terminal is asking")
_PROOF: Final = Field(64, "retail proof", "9", "the terminal's signature, `r‖s`, over type `E1` (below)")
PAY_RETAIL: Final = [*header("PAY", "20", "9"), LC, *SALE, _NAMED, _PROOF, LE]
PAY_PIN: Final = [
    *header("PAY", "20", "9"),
    LC,
    *SALE,
    _NAMED,
    Field(64, "ephemeral key", "10", "not recorded in a trace"),
    Field(16, "PIN block", "10", "not recorded in a trace"),
    _PROOF,
    LE,
]
_TAIL: Final = [
    Field(1, "cardholder verified", "4", one_of(x00="not", x01="by PIN")),
    Field(
        1,
        "limit state",
        "4",
        bits("PIN asked for", "offline total at or above 80 %", "within the transit allowance"),
    ),
    Field(4, "balance after", "4", yuan),
    Field(4, "offline total after", "4", yuan),
    Field(2, "offline count after", "4", number),
]
PAID: Final = [
    Field(1, "outcome", "9", one_of(x01="paid now")),
    Field(4, "sequence", "4", number),
    *_TAIL,
    Field(64, "signature", "4", "the card's, `r‖s`, over the 96 bytes of the record's body"),
    DONE,
]
RATIFY: Final = [
    *header("RATIFY", "22", "9"),
    LC,
    Field(4, "sequence", "9", number),
    Field(
        8,
        "end of the signature",
        "9",
        "last 8 bytes of the record's signature: whoever has them has the record",
    ),
    LE,
]
RATIFIED: Final = [Field(1, "outcome", "9", one_of(x01="unratified until now", x00="ratified before")), DONE]
_DATES: Final = [
    Field(2, "currency", "3", "CNY"),
    Field(4, "not before", "3", time),
    Field(4, "not after", "3", time),
    Field(64, "public key", "3", "`x‖y` of a point of P-256: the key that signs"),
]
TERMINAL_CERTIFICATE: Final = [
    Field(1, "type", "2", one_of(xC2="terminal certificate")),
    Field(1, "version", "3", number),
    Field(1, "suite", "3", one_of(x01="international")),
    Field(1, "class", "3", one_of(x01="retail", x02="transit")),
    Field(4, "scheme", "3", "the card's own"),
    Field(4, "authority", "3", "the acquiring operator that signed"),
    Field(8, "subject: payee", "3", "the same operator, then its merchant"),
    Field(4, "subject: terminal", "3", number),
    *_DATES,
    Field(64, "signature", "3", "the acquiring operator's, over the 98 bytes before"),
]
CARD_CERTIFICATE: Final = [
    Field(1, "type", "2", one_of(xC3="card certificate")),
    Field(1, "version", "3", number),
    Field(1, "suite", "3", one_of(x01="international")),
    Field(1, "class", "3", lambda raw: f"tier {raw[0] & 15}, rider class {raw[0] >> 4}: an adult"),
    Field(4, "scheme", "3", "as in SELECT"),
    Field(4, "authority", "3", "the issuing operator that signed"),
    Field(8, "subject: card", "3", "the card's number, as in SELECT"),
    Field(4, "subject: zero", "3", "unused, checked to be zero"),
    *_DATES,
    Field(16, "agreement key digest", "3", "first 16 bytes of SHA-256(`A0` ‖ agreement key)"),
    Field(64, "signature", "3", "the issuing operator's, over the 114 bytes before"),
]
EXCHANGE: Final = [*header("EXCHANGE CERTIFICATES", "10", "8"), LC, *TERMINAL_CERTIFICATE, LE]
EXCHANGED: Final = [*CARD_CERTIFICATE, DONE]
EXCHANGE_FOR_PIN: Final = [
    *header("EXCHANGE CERTIFICATES", "10", "8", "bit 0: the agreement key is wanted too"),
    LE,
]
EXCHANGED_FOR_PIN: Final = [
    Field(178, "card certificate", "3", "as in the retail tap"),
    Field(64, "agreement key", "8", "`x‖y`; its digest stands in the certificate"),
    DONE,
]
RECORD: Final = [
    Field(1, "type", "2", one_of(xD1="payment")),
    Field(1, "version", "4", number),
    Field(1, "suite", "4", one_of(x01="international")),
    Field(1, "application", "4", one_of(x01="the CNY purse")),
    Field(4, "scheme", "4", "as in SELECT"),
    Field(8, "card", "4", "as in SELECT"),
    Field(8, "certificate digest", "4", "as in SELECT"),
    Field(4, "sequence", "4", number),
    Field(8, "payee", "4", "as asked the first time"),
    Field(12, "reference", "4", "the same sale"),
    Field(4, "amount", "4", yuan),
    Field(2, "currency", "4", "CNY"),
    Field(4, "terminal", "4", "as asked the first time"),
    Field(4, "terminal transaction number", "4", number),
    Field(16, "terminal nonce", "4", "that of the first PAY, not of this one"),
    Field(4, "terminal time", "4", time),
    Field(1, "profile", "4", one_of(x01="transit", x02="retail")),
    *_TAIL,
    Field(1, "zero", "4", "unused"),
    Field(64, "signature", "4", "the card's, made once, stored, and now shown again"),
]
ALREADY_PAID: Final = [
    Field(
        1,
        "outcome",
        "9",
        one_of(x02="already paid, the record is unratified", x03="already paid and ratified"),
    ),
    *RECORD,
    Field(
        64, "fresh proof", "9", "the card's signature over type `D4`, with this PAY's terminal nonce in it"
    ),
    DONE,
]
READ_NEXT: Final = [
    Field(1, "CLA", "6", "this application's own class"),
    Field(1, "INS", "6", "READ RECORD (`30`)"),
    Field(1, "P1", "6", "first unratified record above the sequence"),
    Field(1, "P2", "6", "nothing"),
    LC,
    Field(4, "sequence", "6", number),
    LE,
]
NO_RECORD: Final = [Field(2, "status word", "14", "no such record: nothing is left to carry")]

_LAYOUTS: Final[dict[int, list[list[list[Field]]]]] = {
    taps.TRANSIT: [[SELECT, SELECTED], [PAY_TRANSIT, PAID], [RATIFY, RATIFIED]],
    taps.RETAIL: [[SELECT, SELECTED], [EXCHANGE, EXCHANGED], [PAY_RETAIL, PAID], [RATIFY, RATIFIED]],
    taps.WITH_PIN: [
        [SELECT, SELECTED],
        [EXCHANGE_FOR_PIN, EXCHANGED_FOR_PIN],
        [PAY_PIN, PAID],
        [RATIFY, RATIFIED],
    ],
    taps.TORN: [[SELECT, SELECTED], [PAY_RETAIL, []]],
    taps.RECOVERED: [
        [SELECT, SELECTED],
        [PAY_RETAIL, ALREADY_PAID],
        [RATIFY, RATIFIED],
        [READ_NEXT, NO_RECORD],
    ],
}
"""Command and reply of every exchange, session by session."""


# ------------------------------------------------------------------------------------------- writing


def rows(text: str, layout: list[Field]) -> Iterator[tuple[int, str, Field, str]]:
    """Offset, hex, field and meaning of every part of an APDU. `text` is hex, blanked bytes `xx`.

    Raises ValueError when the layout does not cover the bytes exactly.
    """
    if len(text) != 2 * sum(field.length for field in layout):
        raise ValueError(f"{len(text) // 2} bytes, but a layout of {sum(field.length for field in layout)}")
    offset = 0
    for field in layout:
        shown = text[2 * offset : 2 * (offset + field.length)]
        meaning = field.meaning if isinstance(field.meaning, str) else field.meaning(bytes.fromhex(shown))
        yield offset, shown, field, meaning
        offset += field.length


def table(text: str, layout: list[Field]) -> list[str]:
    """The rows as a table."""
    lines = ["| at | bytes | field | meaning | section |", "| ---: | --- | --- | --- | --- |"]
    for offset, shown, field, meaning in rows(text, layout):
        lines.append(f"| {offset} | {_cut(shown)} | {field.name} | {meaning} | {field.section} |")
    return lines


def _cut(text: str) -> str:
    """Hex in lines of 16 bytes, each of them code."""
    width = 2 * BYTES_A_ROW
    return "<br>".join(f"`{text[at : at + width]}`" for at in range(0, len(text), width))


def exchange_table(title: str, exchange: TraceExchange, layout: list[list[Field]]) -> list[str]:
    """Command and reply of one exchange."""
    command, reply = layout
    size = len(exchange.command) // 2
    lines = [
        f"### {title}",
        "",
        f"Command, {size} bytes, {exchange.ms:.1f} ms modelled for the exchange:",
        "",
    ]
    lines += table(exchange.command, command)
    if exchange.response is None:
        return [*lines, "", f"No reply: the card left ({exchange.error})."]
    return [*lines, "", f"Reply, {len(exchange.response) // 2} bytes:", "", *table(exchange.response, reply)]


def _section(recording: Recording, session: int, chosen: list[int]) -> str:
    exchanges = recording.trace.sessions[session].exchanges
    if len(exchanges) != len(_LAYOUTS[session]):
        raise ValueError(f"session {session} has {len(exchanges)} exchanges")
    lines: list[str] = []
    for place in chosen:
        exchange = exchanges[place]
        title = f"{place + 1}. {describe(exchange).name}"
        lines += [*exchange_table(title, exchange, _LAYOUTS[session][place]), ""]
    return "\n".join(lines).rstrip()


def blocks(recording: Recording) -> dict[str, str]:
    """The generated parts of the page, by name."""
    shown = "\n".join(explain(recording.trace, describe))
    return {
        "transit": _section(recording, taps.TRANSIT, [0, 1, 2]),
        "retail": _section(recording, taps.RETAIL, [0, 1, 2, 3]),
        "with-pin": _section(recording, taps.WITH_PIN, [1, 2]),
        "torn": _section(recording, taps.TORN, [1]),
        "recovered": _section(recording, taps.RECOVERED, [1, 3]),
        "trace-file": "```json\n" + "".join(recording.text.splitlines(keepends=True)[:4]).rstrip() + "\n```",
        "trace-show": "```text\n" + shown + "\n```",
    }


def filled(page: str, made: dict[str, str]) -> str:
    """The page with its generated parts replaced. Raises KeyError for a part that nobody makes."""
    return _BLOCK.sub(lambda found: found["begin"] + made[found["name"]] + found["end"], page)


def names(page: str) -> list[str]:
    """The names of the generated parts of a page."""
    return [found["name"] for found in _BLOCK.finditer(page)]


def main() -> None:
    """Write the page anew."""
    with tempfile.TemporaryDirectory() as folder:
        made = blocks(record(Path(folder)))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(REPOSITORY)} is written\n")


if __name__ == "__main__":
    main()
