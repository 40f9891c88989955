"""Lines for paper as ESC/POS bytes, and what a printer answers about itself. Pure.

Command names are those of the ESC/POS reference (Epson): ESC @ initialize, FS & select Chinese characters,
ESC a justification, ESC E emphasized, GS ! character size, ESC d feed, GS V cut, DLE EOT real-time status.
Text is GB18030 (GB 18030-2022), whose characters of two and four bytes contain no control code.
"""

from collections.abc import Iterable
from typing import Final

from pos_terminal.paper import Line, Style, printable

INITIALIZE: Final = b"\x1b@"
CHINESE: Final = b"\x1c&"
LEFT: Final = b"\x1ba\x00"
CENTRE: Final = b"\x1ba\x01"
EMPHASIZED: Final = b"\x1bE\x01"
NOT_EMPHASIZED: Final = b"\x1bE\x00"
TALL: Final = b"\x1d!\x01"
NORMAL_SIZE: Final = b"\x1d!\x00"
FEED: Final = b"\x1bd\x04"
CUT: Final = b"\x1dVB\x00"
"""Feed to the cutter and leave one point uncut; a printer without a cutter does nothing."""

ASK_OFFLINE: Final = b"\x10\x04\x02"
"""Why the printer is off line; the answer is one byte. It answers at once, also while it prints."""
ASK_PAPER: Final = b"\x10\x04\x04"
"""Its paper sensors; one byte."""

_STATUS_MASK: Final = 0x93  # bits that every answer to DLE EOT has alike: 0xx1xx10
_STATUS_FIXED: Final = 0x12
_COVER_OPEN: Final = 0x04
_STOPPED_FOR_PAPER: Final = 0x20
_FAILED: Final = 0x40
_NO_PAPER: Final = 0x60
_AROUND: Final = {
    Style.PLAIN: (b"", b""),
    Style.TITLE: (CENTRE + EMPHASIZED, NOT_EMPHASIZED + LEFT),
    Style.NOTE: (CENTRE, LEFT),
    Style.STRONG: (EMPHASIZED + TALL, NORMAL_SIZE + NOT_EMPHASIZED),
}


def encode(lines: Iterable[Line]) -> bytes:
    """What a printer has to be sent to print the lines on a slip of its own, and cut it off.

    For each line its text and up to 13 bytes; 11 besides.
    """
    parts = [INITIALIZE, CHINESE]
    for line in lines:
        begin, end = _AROUND[line.style]
        parts += [begin, text_bytes(line.text), b"\n", end]
    return b"".join([*parts, FEED, CUT])


def text_bytes(text: str) -> bytes:
    """A line's text in GB18030: nothing in it that a printer would obey, and no sign of the yuan, which many
    print as something else."""
    plain = printable(text).replace("¥", "元").replace("￥", "元")
    return plain.encode("gb18030", "replace")


def is_status(answer: int) -> bool:
    """Whether a byte can be an answer to DLE EOT."""
    return answer & _STATUS_MASK == _STATUS_FIXED


def offline_trouble(answer: int) -> str:
    """What the answer (one byte) to ASK_OFFLINE complains of, or nothing."""
    if answer & _COVER_OPEN:
        return "its cover is open"
    if answer & _STOPPED_FOR_PAPER:
        return "its paper is out"
    return "it reports an error; switch it off and on" if answer & _FAILED else ""


def paper_trouble(answer: int) -> str:
    """What the answer (one byte) to ASK_PAPER complains of, or nothing. Paper that will end soon is none."""
    return "its paper is out" if answer & _NO_PAPER else ""
