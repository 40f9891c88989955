"""What is shown instead of a screen that has no room: it says so in both languages, and goes by itself."""

from textual import events
from textual.widget import Widget
from textual.widgets import Static

LEAST_COLUMNS = 60
LEAST_ROWS = 20


def is_too_small(columns: int, rows: int) -> bool:
    """Whether a screen of this size can't show what a cashier has to see."""
    return columns < LEAST_COLUMNS or rows < LEAST_ROWS


class TooSmall(Static):
    """In both languages at once: whoever sees it can't get at the key that changes them."""

    def __init__(self) -> None:
        super().__init__(
            f"Too small: make it at least {LEAST_COLUMNS}×{LEAST_ROWS}\n"
            f"窗口太小：至少需要 {LEAST_COLUMNS}×{LEAST_ROWS}",
            markup=False,
        )


class NeedsRoom(Widget):
    """For screens: while there is too little room, only TooSmall is shown; the rest waits as it was."""

    def on_resize(self, event: events.Resize) -> None:
        """Textual calls this for each class of a screen."""
        self.set_class(is_too_small(*event.size), "-too-small")
