"""The till's side of a browser tab: Textual's web driver, which also ends when nobody is on the other side.

The process that serves the page speaks to the till through pipes. If it dies, the till must not go on alone
with the terminal's folder: the end of its input ends it, as leaving it would.
"""

from textual import messages
from textual.drivers.web_driver import WebDriver


class TabDriver(WebDriver):
    """As WebDriver; the end of the input leaves the app."""

    def run_input_thread(self) -> None:
        """Until the input ends or the app does."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())
