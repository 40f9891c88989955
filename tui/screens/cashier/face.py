"""The till's view in a place of any size: the amount as big as it can be, every word whole. Pure."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from tui.screens import big
from tui.screens.cashier.view import View
from tui.screens.layout import Row, centred, filled, spaced, wrap
from tui.text import columns

LARGEST: Final = 4
"""Columns of the largest dot: more is read from across the street."""
_BIG: Final = range(LARGEST, 1, -1)
_PADDING: Final = 2
_GAP: Final = 4
_LEAST_FIGURES: Final = "000.00"
"""The first digits already stand where those of a common amount do."""

_PICTURES: Final[Mapping[str, big.Dots]] = {
    "✓": big.APPROVED,
    "✗": big.REFUSED,
    "↻": big.AGAIN,
    "=": big.ALREADY,
    ">": big.CARD,
    "…": big.BUSY,
    "*": big.PIN,
}


@lru_cache(maxsize=32)
def compose(view: View, width: int, height: int) -> tuple[Row, ...]:
    """`height` rows of `width` columns."""
    if width < 1 or height < 1:
        return ()
    inside = max(1, width - 2 * _PADDING)
    sentences = (*([view.masked] if view.masked else []), *view.lines, *view.hints)
    words = [line for sentence in sentences for line in wrap(sentence, inside)]
    head = "  ".join(part for part in (view.symbol, spaced(view.word)) if part)
    if columns(head) > inside:
        head = "  ".join(part for part in (view.symbol, view.word) if part)
    for block in _blocks(view, inside):
        for air in (1, 0):
            rows = _rows(view.label, block, head, words, air)
            if len(rows) <= height and columns(head) <= inside:
                return filled(rows, width, height)
    figures = f"{view.label} {view.figures}" if view.figures else ""
    plain = [Row(line, strong=True) for line in wrap(head, inside)]
    plain += [Row(line) for line in (*wrap(figures, inside), *words)]
    return filled(plain[:height], width, height)


def _blocks(view: View, width: int) -> Iterator[list[str]]:
    """The picture and the figures as big as may be; figures alone where that makes them readable from an
    arm's length; then nothing."""
    picture = _PICTURES.get(view.symbol)
    for with_picture, scales in ((True, _BIG), (False, _BIG), (True, (1,)), (False, (1,))):
        for scale in scales:
            parts = [big.draw(picture, scale)] if picture is not None and with_picture else []
            block = big.beside([*parts, *_figures(view, scale)], _GAP)
            if block and max(map(columns, block)) <= width:
                yield block
    yield []


def _figures(view: View, scale: int) -> list[list[str]]:
    if not view.figures:
        return []
    drawn = big.draw(big.figures(view.figures), scale)
    least = 0 if view.symbol in _PICTURES else big.size(big.figures(_LEAST_FIGURES), scale)[0]
    return [[line.rjust(least) for line in drawn]]


def _rows(label: str, block: list[str], head: str, words: list[str], air: int) -> list[Row]:
    gap = [Row("")] * air
    rows = [Row(label), *gap] if label else []
    rows += [Row(centred(line, max(map(columns, block)))) for line in block]
    rows += [*(gap if block else []), Row(head, strong=True)]
    return [*rows, *gap, *map(Row, words)] if words else rows
