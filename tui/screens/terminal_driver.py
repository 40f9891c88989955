"""Textual's driver for a terminal that may go away or change: a closed window must not leave a till hanging.

Textual's output thread ends at the first write that fails, and whoever writes after it waits for ever. Here
what nobody can see any more is dropped, and the app is left in its order. Textual also believes COLUMNS and
LINES before the terminal: where a shell exports them, a window would keep its first size for ever.
"""

import os
from contextlib import suppress

from textual import messages
from textual.drivers.linux_driver import LinuxDriver


class TerminalDriver(LinuxDriver):
    """As LinuxDriver; the size is the terminal's own, and a terminal that is gone ends the app."""

    def _get_terminal_size(self) -> tuple[int, int]:
        with suppress(OSError):  # no terminal
            columns, lines = os.get_terminal_size(self.fileno)
            if columns and lines:
                return columns, lines
        return super()._get_terminal_size()

    def write(self, data: str) -> None:
        """Writes, where there is still something to write to."""
        if self._writer_thread is not None and not self._writer_thread.is_alive():
            self._leave()
            return
        super().write(data)

    def _run_input_thread(self) -> None:
        try:
            self.run_input_thread()
        except OSError:  # the other end of the pseudo-terminal was closed
            self._leave()

    def _leave(self) -> None:
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())
