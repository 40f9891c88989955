"""What the driver's view looks like in a place of any size: as big as it can be, never cut off. Pure.

The picture and the figures are tried from the largest dots down; where not even the smallest fit, the same
words stand as plain lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tui.screens import big
from tui.text import columns

LARGEST: Final = 6
"""Columns of the largest dot."""

_LARGE: Final = 3
"""Columns of a dot that is seen from two metres."""

_GAP: Final = 4
"""Columns between the picture and the figures."""

_LABEL_GAP: Final = 2

_NEVER_FIRST: Final = "，。；：、！？）"
"""Marks that no line begins with."""


@dataclass(frozen=True, slots=True)
class Face:
    """What the driver's view says now. Words are finished, in the chosen language.

    `style` is a name of tui.signals. `figures`, and `second` under its `label`, are drawn big: digits, point,
    minus, × and space. `lines`: sentences; `hint`: which keys go on from here. `bells`: how often the bell
    rings when this comes up.
    """

    picture: big.Dots
    word: str
    style: str
    symbol: str = ""
    figures: str = ""
    label: str = ""
    second: str = ""
    lines: tuple[str, ...] = ()
    hint: str = ""
    bells: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the view, exactly as wide as the place. `strong`: the word, to be set off."""

    text: str
    strong: bool = False


@lru_cache(maxsize=64)
def compose(face: Face, width: int, height: int) -> tuple[Row, ...]:
    """`height` rows of `width` columns."""
    if width < 1 or height < 1:
        return ()
    sentences = [*face.lines, face.hint]
    words = [line for sentence in sentences for line in wrap(sentence, max(1, width - 2))]
    if columns(spaced(face.word)) <= width:
        for setting in _SETTINGS:
            wide, high = _size(face, setting)
            if wide <= width and _height(high, setting, words) <= height:
                return filled(_rows(face, setting, words), width, height)
    return filled(_plain(face, width, height), width, height)


def spaced(word: str) -> str:
    """The word with air between its characters, so that it is read from far away."""
    return "  ".join(" ".join(part) for part in word.split(" "))


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, broken between words, or where Chinese has none."""
    lines, line = [], ""
    for word in _words(text):
        if columns(line) + columns(word.rstrip()) <= width:
            line += word
            continue
        if line.strip():
            lines.append(line.rstrip())
        line = word.lstrip()
        while columns(line) > width:
            head = cut(line, width)
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line.rstrip()] if line.strip() else lines


def cut(text: str, width: int) -> str:
    """As much of the text as fits into `width` columns, at least one character."""
    end = 1
    while end < len(text) and columns(text[: end + 1]) <= width:
        end += 1
    return text[:end]


def clipped(text: str, width: int) -> str:
    """The text, with … at its end where it does not fit into `width` columns."""
    if columns(text) <= width:
        return text
    return cut(text, width - 1) + "…" if width > 1 else "…"


def _words(text: str) -> Iterator[str]:
    """Pieces between which a line may end; spaces stay at the end of theirs."""
    piece = ""
    for character in text:
        breakable = columns(character) == 2 and character not in _NEVER_FIRST
        if piece and (breakable or piece[-1] == " "):
            yield piece
            piece = ""
        piece += character
    if piece:
        yield piece


@dataclass(frozen=True, slots=True)
class _Setting:
    """One way to set a face: columns a dot of the first and of the second figures (0: as text), whether the
    figures stand under the picture. `air`: 1 for a band of three rows for the word, 2 for gaps besides."""

    scale: int
    second: int
    upright: bool
    air: int


_SETTINGS: Final = [
    _Setting(scale, second, upright, air)
    for scale in range(LARGEST, 0, -1)
    for second in range(scale, -1, -1)
    for upright in (False, True)
    for air in (2, 1, 0)
    if (air and second) or scale < _LARGE
]
"""The best first. Before dots become larger than needed, the word has its band and the second figures are
drawn too."""


def _size(face: Face, setting: _Setting) -> tuple[int, int]:
    """Columns and rows of the picture, the figures and the second figures, before anything is drawn."""
    width, height = big.size(face.picture, setting.scale)
    if face.figures:
        wide, high = big.size(big.figures(face.figures), setting.scale)
        if setting.upright:
            width, height = max(width, wide), height + 1 + high
        else:
            width, height = width + _GAP + wide, max(height, high)
    if not face.second:
        return width, height
    if setting.second == 0:
        return max(width, columns(face.label) + 2 + len(face.second)), height + 1
    wide, high = big.size(big.figures(face.second), setting.second)
    return max(width, columns(face.label) + _LABEL_GAP + wide), height + high


def _body(face: Face, setting: _Setting) -> list[str]:
    """Picture, figures, and the second figures with their label."""
    blocks = [big.draw(face.picture, setting.scale)]
    if face.figures:
        blocks.append(big.draw(big.figures(face.figures), setting.scale))
    if setting.upright:
        width = max(columns(block[0]) for block in blocks)
        body = [centred(line, width) for block in blocks for line in [*block, ""]][:-1]
    else:
        body = big.beside(blocks, _GAP)
    if not face.second:
        return body
    if setting.second == 0:
        return [*body, f"{face.label}  {face.second}"]
    figures = big.draw(big.figures(face.second), setting.second)
    return [*body, *big.beside([[face.label], figures], _LABEL_GAP)]


def _rows(face: Face, setting: _Setting, words: list[str]) -> list[Row]:
    gap = [Row("")] * (setting.air > 1)
    band = [Row("", strong=True)] * (setting.air > 0)
    rows = [*map(Row, _body(face, setting)), *gap, *band, Row(spaced(face.word), strong=True), *band]
    return [*rows, *gap, *map(Row, words)] if words else rows


def _height(body: int, setting: _Setting, words: list[str]) -> int:
    """Rows of `_rows`."""
    gaps = (1 + bool(words)) * (setting.air > 1)
    return body + 1 + 2 * (setting.air > 0) + gaps + len(words)


def _plain(face: Face, width: int, height: int) -> list[Row]:
    """Words only, the most needed first."""
    head = " ".join(part for part in (face.symbol, face.word) if part)
    second = f"{face.label} {face.second}" if face.second else ""
    rows = [Row(line, strong=True) for line in wrap(head, width)]
    rows += [
        Row(line) for text in (face.figures, second, *face.lines, face.hint) for line in wrap(text, width)
    ]
    return rows[:height]


def filled(rows: list[Row], width: int, height: int) -> tuple[Row, ...]:
    """The rows in the middle of a place, and empty ones around them; what does not fit a row ends in …"""
    above = (height - len(rows)) // 2
    below = height - len(rows) - above
    empty = Row(" " * width)
    middle = [Row(centred(clipped(row.text, width), width), row.strong) for row in rows]
    return (*[empty] * above, *middle, *[empty] * below)


def centred(line: str, width: int) -> str:
    """The line with blanks on both sides, `width` columns."""
    space = width - columns(line)
    if space < 0:  # a Chinese character in a place of one column
        return " " * width
    return " " * (space // 2) + line + " " * (space - space // 2)
