"""What all screens of the till share: the app by its right type, the strip, the till's own colours."""

from textual.app import ComposeResult

from fleet.station_events import Event
from tui.screens.cashier.app import CashierApp
from tui.screens.cashier.desk import Desk
from tui.screens.cashier.widgets import Strip
from tui.screens.frame import StationScreen
from tui.text import say


class CashierScreen(StationScreen):
    """A screen of the till."""

    @property
    def till(self) -> CashierApp:
        """The app."""
        app = self.app
        if not isinstance(app, CashierApp):
            raise TypeError("a CashierScreen needs a CashierApp")
        return app

    @property
    def desk(self) -> Desk:
        """The till behind the screens."""
        return self.till.desk


class PageScreen(CashierScreen):
    """A screen above the till. What becomes of a card meanwhile stands in its first line."""

    def body(self) -> ComposeResult:
        """The strip; subclasses add what is under it."""
        yield Strip(self.desk)

    def on_station(self, event: Event) -> None:  # noqa: ARG002 - for subclasses
        """A card's result is shown here as on the till."""
        for strip in self.query(Strip):
            strip.reword()

    @property
    def is_open(self) -> bool:
        """Whether it is still there; a worker may come back to a page that was left."""
        return self in self.app.screen_stack

    def action_close(self) -> None:
        """Back to what lies under it."""
        self.dismiss()


def back_word() -> str:
    """Of the key that closes a page."""
    # fits: 12
    return say("back")


def back_sentence() -> str:
    """The same, for the help."""
    return say("Back to where you came from.")
