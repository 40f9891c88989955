"""What the till's screens are made of: the view, the results before, and a strip that stands for both."""

from itertools import islice
from typing import Final

from textual import events
from textual.content import Content
from textual.widgets import Static

from fleet.station_events import GiveBack
from tui.screens.cashier.desk import Desk, Past, Phase
from tui.screens.cashier.face import compose
from tui.screens.cashier.phrases import short_time
from tui.screens.cashier.view import view_of
from tui.screens.words import Worded
from tui.signals import STYLES, signal_of
from tui.text import say, yuan

WIDE: Final = 100
"""Columns from which on the results before stand beside the view."""


def _wear(widget: Static, style: str) -> None:
    """The class of that style of tui.signals, and of no other."""
    for name in STYLES:
        widget.set_class(name == style, f"-{name}")


class Face(Static, Worded):
    """The desk's view, as big as there is room."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("", id="face", markup=False)
        self._desk = desk

    def reword(self) -> None:
        """Draws what stands now."""
        view = view_of(self._desk)
        _wear(self, view.style)
        rows = compose(view, self.size.width, self.size.height)
        self.update(
            Content("\n").join(
                Content.styled(row.text, "bold") if row.strong else Content(row.text) for row in rows
            ),
            layout=False,
        )

    def on_resize(self, _event: events.Resize) -> None:
        """As big as it may be now."""
        self.reword()


class Strip(Static, Worded):
    """One line with what the till says, for screens that lie above it; hidden while it says nothing."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("", id="strip", markup=False)
        self._desk = desk

    def reword(self) -> None:
        """Says what stands now."""
        view = view_of(self._desk)
        self.display = self._desk.phase not in (Phase.AMOUNT, Phase.ASKED)
        _wear(self, view.style)
        self.update(view.headline)


class Before(Static, Worded):
    """The results before, newest first, where the window is wide enough for them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("", id="before", markup=False)
        self._desk = desk

    def reword(self) -> None:
        """Says them anew."""
        lines = [say("Lately at this till"), ""]
        lines += [_past_line(past) for past in islice(self._desk.past, max(0, self.size.height - 2))]
        self.update("\n".join(lines), layout=False)

    def on_resize(self, _event: events.Resize) -> None:
        """As many as fit."""
        self.reword()


def _past_line(past: Past) -> str:
    sale, is_refund = past.tap.sale, isinstance(past.task, GiveBack)
    symbol = signal_of(past.tap.outcome, refund=is_refund).symbol
    if sale is None:
        return f"{'':7}{symbol}"
    amount = yuan(-sale.amount_fen if is_refund else sale.amount_fen)
    return f"{short_time(sale.time_s)[-5:]}  {symbol} {amount:>11}"


class Progress(Static, Worded):
    """How far an upload is; hidden while there is none."""

    def __init__(self, desk: Desk) -> None:
        super().__init__("", id="progress", markup=False)
        self._desk = desk

    def reword(self) -> None:
        """Says it anew."""
        sending = self._desk.sending
        self.display = sending is not None
        if sending is not None:
            done, total = sending
            self.update(say("Sending: {done} of {total} entries are acknowledged.", done=done, total=total))
