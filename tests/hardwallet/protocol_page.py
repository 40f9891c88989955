"""Reads the layouts out of docs/protocol.md itself: nothing here knows our code.

A layout is a list of (field, offset, length). Tables give it by offset, formulas
(`E2 ‖ version ‖ scheme (4)`) by order.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a layout."""

    name: str
    offset: int
    length: int


Layout = list[Field]

_TABLES: Final = {"certificate": "Certificates", "record": "The record", "SELECT": "SELECT", "sale": "PAY"}
_HEX: Final = re.compile(r"[0-9A-F]{2}")
_PART: Final = re.compile(r"(?P<name>.*?)(?: \((?P<length>\d+)\))?")


def _sections() -> dict[str, str]:
    """Each numbered section's text by its title."""
    text = PAGE.read_text(encoding="utf-8")
    parts = re.split(r"^## \d+\. (.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _field_name(cell: str) -> str:
    return re.split(r"[.,:`(]", cell)[0].strip()


def _table(section: str) -> Layout:
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([^|]+) \|", section, flags=re.MULTILINE)
    return [Field(_field_name(cell), int(offset), int(length)) for offset, length, cell in rows]


def _parts(text: str) -> Layout:
    """`E2 ‖ version ‖ scheme (4) ‖ …`: one byte where no length stands."""
    layout, offset = [], 0
    for part in text.split("‖"):
        matched = _PART.fullmatch(part.strip())
        assert matched is not None
        length = int(matched["length"] or 1)
        layout.append(Field(matched["name"], offset, length))
        offset += length
    return layout


def _formulas(text: str) -> dict[str, tuple[Layout, list[int]]]:
    """Each indented formula that begins with a type byte, and the lengths that the page says it has."""
    found = {}
    for line in re.findall(r"^    ([0-9A-F]{2} ‖ .*)$", text, flags=re.MULTILINE):
        formula, _, told = line.partition("        ")
        lengths = [int(number) for number in re.findall(r"\d+", told)]
        found[line[:2]] = (_parts(re.sub(r"[\[\]]", "", formula)), lengths)
    return found


def layouts() -> dict[str, Layout]:
    """Every layout by name: certificate, record, SELECT, sale, READ STATE, a formula by its type."""
    sections = _sections()
    found = {name: _table(sections[heading]) for name, heading in _TABLES.items()}
    formulas = _formulas("".join(sections.values()))
    found |= {name: layout for name, (layout, _) in formulas.items()}
    stated = re.search(r"\*\*READ STATE\*\*: (.*): 69 bytes", sections["Limits"])
    assert stated is not None
    found["READ STATE"] = _parts(stated[1])
    return found


def told_lengths() -> dict[str, list[int]]:
    """The lengths that the page states beside its formulas."""
    formulas = _formulas("".join(_sections().values()))
    return {name: lengths for name, (_, lengths) in formulas.items() if lengths}


def signed_types() -> dict[str, str]:
    """The table of first signed bytes: type and what it is."""
    rows = re.findall(
        r"^\| `([C-F]\d)` \| ([^|]+) \| ([^|]+) \|$",
        _sections()["Suites, identifiers, types"],
        flags=re.MULTILINE,
    )
    return {kind: what for kind, _, what in rows}


def commands() -> dict[str, str]:
    """The table of commands: INS and name."""
    rows = re.findall(
        r"^\| `([0-9A-F]{2})` \| ([A-Z][A-Z ]+[A-Z])", _sections()["Transport"], flags=re.MULTILINE
    )
    return dict(rows)


def status_words() -> set[str]:
    """Every status word of section 14's table."""
    section = _sections()["Status words"]
    return set(re.findall(r"`([0-9A-F]{4})`", section))


def size(layout: Layout) -> int:
    """Its length in bytes."""
    return layout[-1].offset + layout[-1].length


def cut(layout: Layout, raw: bytes) -> dict[str, str]:
    """The bytes of each field, as hex."""
    return {field.name: raw[field.offset : field.offset + field.length].hex() for field in layout}
