"""Every sentence that the command line says passes through `say`: the one place where a catalogue can go."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from unicodedata import east_asian_width

from pos_terminal.money import format_amount
from pos_terminal.receipts import BEIJING

LOCAL_ZONE = timezone(BEIJING)
"""The zone of receipts and reports: China has one."""


def say(template: str, /, **values: object) -> str:
    """The sentence with its values put in. Templates are whole sentences, so that they can be translated."""
    return template.format(**values) if values else template


def yuan(amount_fen: int) -> str:
    """An amount for people: `12.50`."""
    return format_amount(amount_fen)


def when(time_s: int) -> str:
    """Seconds since 1970 as date and time for people, to the second."""
    return datetime.fromtimestamp(time_s, LOCAL_ZONE).strftime("%Y-%m-%d %H:%M:%S")


def harmless(text: str) -> str:
    """One line without control characters, whatever names or bytes got into it."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def facts(rows: Iterable[tuple[str, object]]) -> list[str]:
    """Names and values, one pair a line, values below each other."""
    pairs = [(name, str(value)) for name, value in rows]
    width = max((columns(name) for name, _ in pairs), default=0)
    return [f"{name}{' ' * (width - columns(name))}  {value}" for name, value in pairs]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> list[str]:
    """A table as lines; the columns numbered in `right` are aligned to the right."""
    cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(columns(row[place]) for row in cells) for place in range(len(heads))]
    to_right = frozenset(right)
    lines = []
    for row in cells:
        padded = []
        for place, cell in enumerate(row):
            gap = " " * (widths[place] - columns(cell))
            padded.append(gap + cell if place in to_right else cell + gap)
        lines.append("  ".join(padded).rstrip())
    return lines
