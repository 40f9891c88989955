"""Words and lines for paper: gettext's catalogue `paper`, and text that fits a roll so many columns wide.

Pure, but for reading the catalogue once.

On paper a character of ASCII takes one column and every other one two: printers of the country print whatever
GB18030 writes in more than one byte at double width.
"""

import gettext
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

NARROW: Final = 32
"""Columns of a roll of 58 mm."""
WIDE: Final = 48
"""Columns of a roll of 80 mm."""
LANGUAGES: Final = ("en", "zh")
LOCALE: Final = Path(__file__).parent / "locale"
_FOLDERS: Final = {"zh": "zh_CN"}


class Say(Protocol):
    """Looks a sentence up and puts the values in."""

    def __call__(self, template: str, /, **values: object) -> str:
        """The sentence in the language of the paper. Templates are constants: scripts/words.py finds them."""


class Style(Enum):
    """How a line is printed."""

    PLAIN = "plain"
    TITLE = "title"  # centred and emphasized
    NOTE = "note"  # centred
    STRONG = "strong"  # emphasized, of double height: what a customer looks for


@dataclass(frozen=True, slots=True)
class Line:
    """One line on paper, no wider than the paper. Centred ones come without the space before them."""

    text: str
    style: Style = Style.PLAIN


def words(language: str) -> Say:
    """What says a sentence in `language`, one of LANGUAGES. Raises LookupError for any other name."""
    translate = _translation(language)

    def say(template: str, /, **values: object) -> str:
        found = translate(template)
        return found.format(**values) if values else found

    return say


@lru_cache(maxsize=len(LANGUAGES))
def _translation(language: str) -> Callable[[str], str]:
    if language not in LANGUAGES:
        raise LookupError(f"no language {language!r}; there are {', '.join(LANGUAGES)}")
    if language not in _FOLDERS:
        return gettext.NullTranslations().gettext
    with (LOCALE / _FOLDERS[language] / "LC_MESSAGES" / "paper.mo").open("rb") as stream:
        return gettext.GNUTranslations(stream).gettext


def print_columns(text: str) -> int:
    """How many columns of paper the text takes."""
    return sum(1 if character.isascii() else 2 for character in text)


def printable(text: str) -> str:
    """The text without what a printer would obey or could not print: control characters, lone surrogates,
    line ends."""
    return "".join(character if character.isprintable() else " " for character in text)


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, broken at spaces where there are some. At least one
    line."""
    lines = [""]
    for word in printable(text).split():
        gap = " " if lines[-1] else ""
        if print_columns(lines[-1] + gap + word) <= width:
            lines[-1] += gap + word
            continue
        room = width - print_columns(lines[-1] + gap)
        if lines[-1] and (print_columns(word) <= width or room < 2):
            lines.append("")
        else:
            lines[-1] += gap
        for character in word:
            if print_columns(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


def centred(text: str, width: int, style: Style = Style.NOTE) -> list[Line]:
    """The text in the middle of the paper, on as many lines as it takes."""
    return [Line(line, style) for line in wrapped(text, width) if line]


def row(name: str, value: str, width: int, style: Style = Style.PLAIN) -> list[Line]:
    """A name to the left and its value to the right; on lines of its own when they don't fit beside each
    other."""
    name, value = printable(name), printable(value)
    gap = width - print_columns(name) - print_columns(value)
    if gap >= 1:
        return [Line(name + " " * gap + value, style)]
    lines = [Line(line, style) for line in wrapped(name, width)]
    return lines + [
        Line(" " * (width - print_columns(line)) + line, style) for line in wrapped(value, width) if line
    ]


def rule(width: int) -> Line:
    """A line across the paper."""
    return Line("-" * width)


def as_text(lines: Iterable[Line], width: int) -> str:
    """The lines as plain text: a preview, or a file."""
    return "".join(_placed(line, width).rstrip() + "\n" for line in lines)


def _placed(line: Line, width: int) -> str:
    if line.style in (Style.TITLE, Style.NOTE):
        return " " * ((width - print_columns(line.text)) // 2) + line.text
    return line.text
