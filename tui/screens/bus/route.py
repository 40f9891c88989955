"""Where the bus is: line and direction, run, next stop; where the rider goes, when fares go by distance."""

from typing import TYPE_CHECKING

from textual import events
from textual.content import Content
from textual.widgets import Static

from tui.screens.bus.driving import Driving
from tui.screens.bus.sight import StopRow, route_words, stop_rows, stop_words
from tui.screens.layout import clipped
from tui.screens.words import Worded
from tui.text import columns

if TYPE_CHECKING:
    from textual.app import RenderResult

STOPS_SHOWN = 40
"""Rows of the list of stops at most; a higher window shows no more."""


def two_ends(left: str, right: str, width: int) -> str:
    """One line: a text at each end, the left one shortened where both don't fit."""
    room = max(1, width - columns(right) - 2)
    left = clipped(left, room)
    return left + " " * max(1, width - columns(left) - columns(right)) + right


class RouteBar(Static, Worded):
    """Two lines above the driver's view."""

    def __init__(self, driving: Driving) -> None:
        super().__init__("", id="route", markup=False)
        self._driving = driving

    def reword(self) -> None:
        """Says it anew."""
        self.refresh()

    def render(self) -> "RenderResult":
        """Line and run; next stop and destination or fare."""
        sight, width = self._driving.sight, self.size.width
        if sight is None:
            return Content("\n")
        return Content(two_ends(*route_words(sight), width) + "\n" + two_ends(*stop_words(sight), width))


class StopList(Static, Worded):
    """In a wide window: the stops around the next one, with what it costs to go there."""

    def __init__(self, driving: Driving) -> None:
        super().__init__("", id="stops", markup=False)
        self._driving = driving
        self._shown: list[StopRow] = []

    def reword(self) -> None:
        """Says it anew."""
        self.refresh()

    def render(self) -> "RenderResult":
        """The next stop is marked, and the destination."""
        sight = self._driving.sight
        if sight is None:
            return Content("")
        self._shown = stop_rows(sight, min(self.size.height, STOPS_SHOWN))
        lines = [
            Content.styled(two_ends(row.left, row.right, self.size.width), self._style(row))
            for row in self._shown
        ]
        return Content("\n").join(lines)

    @staticmethod
    def _style(row: StopRow) -> str:
        if row.here:
            return "bold reverse"
        return "bold" if row.chosen else ""

    def on_click(self, event: events.Click) -> None:
        """A stop ahead is where the next rider goes."""
        if event.y - 1 in range(len(self._shown)) and not self._driving.is_inspecting:
            self._driving.choose_destination(self._shown[event.y - 1].place)
