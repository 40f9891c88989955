"""The two lines that are always in sight. The words are those of the line mode."""

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from fleet.station import Status
from tui.plain.standing import (
    clock_words,
    denylist_words,
    network_words,
    reader_words,
    review_words,
    waiting_words,
)
from tui.screens.words import Worded
from tui.text import columns, say

if TYPE_CHECKING:
    from textual.app import RenderResult


def spread(cells: list[str], width: int) -> str:
    """The cells over a line of that many columns: the first to the left, the last to the right."""
    gaps = len(cells) - 1
    free = max(gaps * 2, width - sum(columns(cell) for cell in cells))
    line = cells[0]
    for place, cell in enumerate(cells[1:], 1):
        line += " " * (free * place // gaps - free * (place - 1) // gaps) + cell
    return line


class StatusBar(Static, Worded):
    """Two lines. The app gives it each new status; a minute that passes makes it older."""

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._status: Status | None = None
        self._now_s = 0
        self._bell = True

    def tell(self, status: Status, now_s: int, *, bell: bool) -> None:
        """The status, the time now, whether the bell rings."""
        self._status, self._now_s, self._bell = status, now_s, bell
        self.refresh()

    def reword(self) -> None:
        """Says it anew."""
        self.refresh()

    def lines(self, width: int) -> list[str]:
        """What it says, on a screen of that many columns."""
        status = self._status
        if status is None:
            return ["", ""]
        notice = review_words(status) or self._bell_words()
        first = [network_words(status), waiting_words(status, self._now_s), *([notice] if notice else [])]
        second = [denylist_words(status, self._now_s), clock_words(status, self._now_s), reader_words(status)]
        return [spread(first, width), spread(second, width)]

    def _bell_words(self) -> str:
        # fits: 12
        return "" if self._bell else say("bell off")

    def render(self) -> "RenderResult":
        """Two lines of cells."""
        return Content("\n".join(self.lines(self.size.width)))
