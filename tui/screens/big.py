"""Pictures and figures of many rows, for eyes two metres away: drawn from dots with half blocks. Pure.

A dot is as wide as it is high: `scale` columns, and `scale` half rows. Chinese characters can't be drawn well
with so few dots, so words stay words; what is big in both languages alike is the symbol and the amount.
"""

from collections.abc import Sequence
from typing import Final

from tui.text import columns

Dots = tuple[str, ...]
"""Rows of dots, all of one length: `#` is a dot, anything else is none."""

GAP: Final = 1
"""Dots between two figures."""

_FIGURES: Final[dict[str, Dots]] = {
    "0": (" ### ", "#   #", "#   #", "#   #", "#   #", "#   #", " ### "),
    "1": ("  #  ", " ##  ", "  #  ", "  #  ", "  #  ", "  #  ", " ### "),
    "2": (" ### ", "#   #", "    #", "  ## ", " #   ", "#    ", "#####"),
    "3": (" ### ", "#   #", "    #", "  ## ", "    #", "#   #", " ### "),
    "4": ("   # ", "  ## ", " # # ", "#  # ", "#####", "   # ", "   # "),
    "5": ("#####", "#    ", "#### ", "    #", "    #", "#   #", " ### "),
    "6": (" ### ", "#    ", "#    ", "#### ", "#   #", "#   #", " ### "),
    "7": ("#####", "    #", "   # ", "  #  ", "  #  ", " #   ", " #   "),
    "8": (" ### ", "#   #", "#   #", " ### ", "#   #", "#   #", " ### "),
    "9": (" ### ", "#   #", "#   #", " ####", "    #", "    #", " ### "),
    ".": ("  ", "  ", "  ", "  ", "  ", "##", "##"),
    "-": ("    ", "    ", "    ", "####", "    ", "    ", "    "),
    "×": ("     ", "     ", "#   #", " # # ", "  #  ", " # # ", "#   #"),
    " ": ("   ",) * 7,
}

APPROVED: Final[Dots] = (
    "          ##",
    "         ###",
    "        ### ",
    "##     ###  ",
    "###   ###   ",
    " #######    ",
    "  #####     ",
    "   ###      ",
)
REFUSED: Final[Dots] = (
    "##      ##",
    "###    ###",
    " ###  ### ",
    "  ######  ",
    "  ######  ",
    " ###  ### ",
    "###    ###",
    "##      ##",
)
AGAIN: Final[Dots] = (
    "   #####  #",
    " ###   ####",
    "##      ###",
    "##     ####",
    "##         ",
    "##       ##",
    " ###   ### ",
    "   #####   ",
)
ALREADY: Final[Dots] = (
    "      #    #",
    "     ##   ##",
    "    ##   ## ",
    "#  ##   ##  ",
    "####   ##   ",
    " ##   ##    ",
    "            ",
    "############",
)
CARD: Final[Dots] = (
    "           #  ",
    "#######  # #  ",
    "#     #  #  # ",
    "#######   # # ",
    "#     #   # # ",
    "# ##  #  #  # ",
    "#######  # #  ",
    "           #  ",
)
BUSY: Final[Dots] = (
    "            ",
    "            ",
    "            ",
    "##   ##   ##",
    "##   ##   ##",
    "            ",
    "            ",
    "            ",
)
PIN: Final[Dots] = (
    "           ",
    " ####      ",
    "##  ##     ",
    "##  #######",
    "##  ## # # ",
    "##  ##   # ",
    " ####      ",
    "           ",
)
CLOSED: Final[Dots] = (
    "    ######    ",
    "  ##     ###  ",
    " ##     ## ## ",
    "##     ##   ##",
    "##   ##     ##",
    " ## ##     ## ",
    "  ###     ##  ",
    "    ######    ",
)
BUS: Final[Dots] = (
    " ############ ",
    "##############",
    "##  ##  ##  ##",
    "##  ##  ##  ##",
    "##############",
    "##############",
    " ###      ### ",
    "  #        #  ",
)
LOOK: Final[Dots] = (
    "  ####     ",
    " ##  ##    ",
    "##    ##   ",
    "##    ##   ",
    " ##  ##    ",
    "  #####    ",
    "      ###  ",
    "        ###",
)

ALONE: Final[Dots] = (
    "   ####   ",
    "   ####   ",
    "   ####   ",
    "   ####   ",
    "    ##    ",
    "          ",
    "   ####   ",
    "   ####   ",
)

_BLOCKS: Final = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def figures(text: str) -> Dots:
    """The dots of an amount or a number, seven rows: digits, point, minus, × and space."""
    rows: list[list[str]] = [[] for _ in range(7)]
    for figure in text:
        for row, dots in zip(rows, _FIGURES[figure], strict=True):
            row.append(dots)
    return tuple((" " * GAP).join(row) for row in rows)


def size(dots: Dots, scale: int) -> tuple[int, int]:
    """Columns and rows that `draw` takes."""
    return max(map(len, dots), default=0) * scale, (len(dots) * scale + 1) // 2


def draw(dots: Dots, scale: int) -> list[str]:
    """The picture as lines, all of one width."""
    wide = [[dot == "#" for dot in row for _ in range(scale)] for row in dots for _ in range(scale)]
    if len(wide) % 2:
        wide.append([False] * len(wide[0]))
    pairs = zip(wide[::2], wide[1::2], strict=True)
    return ["".join(_BLOCKS[pair] for pair in zip(upper, lower, strict=True)) for upper, lower in pairs]


def beside(blocks: Sequence[list[str]], gap: int) -> list[str]:
    """Pictures next to each other, each in the middle of the highest one's height; `gap` columns between."""
    height = max(map(len, blocks), default=0)
    lines = [""] * height
    for place, block in enumerate(blocks):
        width = max(map(columns, block), default=0)
        above = (height - len(block)) // 2
        for row in range(height):
            line = block[row - above] if above <= row < above + len(block) else ""
            lines[row] += " " * (gap if place else 0) + line + " " * (width - columns(line))
    return lines
