"""Who rides: counts by class and their sum, the last result in small, and what an upload is doing."""

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from tui.screens import big
from tui.screens.bus.driving import Driving
from tui.screens.bus.route import two_ends
from tui.screens.bus.sight import class_rows, count_words, last_words, sum_words
from tui.screens.layout import clipped
from tui.screens.words import Worded
from tui.text import say

if TYPE_CHECKING:
    from textual.app import RenderResult

_SUM_SCALE = 2


class CountsBar(Static, Worded):
    """Two lines under the driver's view: riders and money of the run; the last result and the upload."""

    def __init__(self, driving: Driving) -> None:
        super().__init__("", id="counts", markup=False)
        self._driving = driving

    def reword(self) -> None:
        """Says it anew."""
        self.refresh()

    def render(self) -> "RenderResult":
        """The newest figures."""
        driving, width = self._driving, self.size.width
        sight, last = driving.sight, driving.last
        first = two_ends(count_words(sight.counts), sum_words(sight.counts), width) if sight else ""
        news = clipped(driving.news(), width)
        return Content(first + "\n" + two_ends(last_words(last) if last else "", news, width))


class CountsBlock(Static, Worded):
    """In a wide window: the sum in big figures, the classes below each other."""

    def __init__(self, driving: Driving) -> None:
        super().__init__("", id="riders", markup=False)
        self._driving = driving

    def reword(self) -> None:
        """Says it anew."""
        self.refresh()

    def render(self) -> "RenderResult":
        """The newest figures."""
        sight, width = self._driving.sight, self.size.width
        if sight is None:
            return Content("")
        figures = big.figures(str(sight.counts.total))
        scale = _SUM_SCALE if big.size(figures, _SUM_SCALE)[0] <= width else 1
        drawn = big.draw(figures, scale)
        rows = [two_ends(word, str(count), width) for word, count in class_rows(sight.counts)]
        # fits: 34
        head = say("Riders of this run")
        return Content("\n".join([head, "", *(line.center(width).rstrip() for line in drawn), "", *rows]))
