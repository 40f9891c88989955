"""What is always in sight: network, what waits, card list, clock, reader; in a cashier's words."""

from datetime import datetime
from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from fleet.station_events import Network, Status
from pos_terminal.limits import Freshness
from tui.screens.words import Worded
from tui.text import LOCAL_ZONE, columns, say, yuan

if TYPE_CHECKING:
    from textual.app import RenderResult

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400
_CLOCK_RIGHT_S = 5
"""Off by less than this many seconds is called right: an answer over HTTP tells no better."""


def age(seconds: int) -> str:
    """How long ago, roughly: a few columns."""
    if seconds < _MINUTE_S:
        # fits: 8
        return say("<1 min")
    if seconds < _HOUR_S:
        # fits: 8
        return say("{count} min", count=seconds // _MINUTE_S)
    if seconds < 2 * _DAY_S:
        # fits: 8
        return say("{count} h", count=seconds // _HOUR_S)
    # fits: 8
    return say("{count} d", count=seconds // _DAY_S)


def network_words(status: Status) -> str:
    """Whether clearing can be reached."""
    match status.network:
        case Network.ONLINE:
            # fits: 20
            return say("✓ Online")
        case Network.SENDING:
            # fits: 20
            return say("↑ Sending")
        case Network.OFFLINE:
            # fits: 20
            return say("! Offline, sell on")
        case Network.NOT_SET:
            # fits: 20
            return say("- No clearing set")
        case _:
            # fits: 20
            return say("? Not tried yet")


def waiting_words(status: Status, now_s: int) -> str:
    """How many payments wait here, their sum, and since when."""
    if not status.waiting_count:
        # fits: 40
        return say("✓ Nothing waits to be sent")
    oldest = status.oldest_s
    if oldest is None:
        # fits: 40
        return say(
            "! {count} wait, {amount} yuan", count=status.waiting_count, amount=yuan(status.waiting_fen)
        )
    # fits: 40
    return say(
        "! {count} wait, {amount} yuan, oldest {age}",
        count=status.waiting_count,
        amount=yuan(status.waiting_fen),
        age=age(oldest + max(0, now_s - status.now_s)),
    )


def reader_words(status: Status) -> str:
    """Whether cards can be read."""
    if status.reader.ok:
        # fits: 18
        return say("✓ Reader ready")
    # fits: 18
    return say("✗ Reader missing")


def denylist_words(status: Status, now_s: int) -> str:
    """How old the list of blocked cards is, and what that means."""
    seconds = status.denylist_age_s
    if status.denylist is Freshness.MISSING or seconds is None:
        # fits: 30
        return say("✗ No card list, can't sell")
    old = age(seconds + max(0, now_s - status.now_s))
    match status.denylist:
        case Freshness.STOPPED:
            # fits: 30
            return say("✗ Card list {age}, can't sell", age=old)
        case Freshness.TIGHT:
            # fits: 30
            return say("! Card list {age}, small only", age=old)
        case _:
            # fits: 30
            return say("✓ Card list {age}", age=old)


def clock_words(status: Status, now_s: int) -> str:
    """The time of day, and how far it is off clearing's."""
    time = datetime.fromtimestamp(now_s, LOCAL_ZONE).strftime("%H:%M")
    offset = status.clock_offset_s
    if offset is None:
        # fits: 28
        return say("{time} not checked", time=time)
    if abs(offset) < _CLOCK_RIGHT_S:
        # fits: 28
        return say("✓ {time} clock right", time=time)
    off = f"{offset:+d}"
    # fits: 28
    return say("! {time} clock off {seconds} s", time=time, seconds=off)


def review_words(status: Status) -> str:
    """What clearing did not book, where there is any."""
    if not status.review:
        return ""
    # fits: 18
    return say("! {count} to review", count=status.review)


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
        first = [network_words(status), waiting_words(status, self._now_s), reader_words(status)]
        second = [denylist_words(status, self._now_s), self._bell_words(), clock_words(status, self._now_s)]
        review = review_words(status)
        if review:
            second[1] = review
        return [spread(first, width), spread([cell for cell in second if cell], width)]

    def _bell_words(self) -> str:
        # fits: 14
        return "" if self._bell else say("bell is off")

    def render(self) -> "RenderResult":
        """Two lines of cells."""
        return Content("\n".join(self.lines(self.size.width)))
