"""Lines typed by a person or a program, read in a thread that can be ended; nothing else reads stdin."""

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

MAX_LINE: Final = 4096
"""Longer lines are cut: nobody types them, and a stream without line ends must not fill the memory."""
_CHUNK: Final = 4096


class Lines:
    """Calls `line` with each line, `end` once when there are no more. Both from the thread."""

    def __init__(self, descriptor: int, line: Callable[[str], None], end: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._line = line
        self._end = end
        self._read_end, self._write_end = os.pipe()
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """End, in the middle of a line too."""
        os.close(self._write_end)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._read_end)

    def _run(self) -> None:
        held = b""
        while True:
            ready, _, _ = select.select([self._descriptor, self._read_end], [], [])
            if self._read_end in ready:
                return
            with contextlib.suppress(OSError):  # a terminal that went away reads as the end
                chunk = os.read(self._descriptor, _CHUNK)
                if chunk:
                    *whole, held = (held + chunk).split(b"\n")
                    for line in whole:
                        self._tell(line)
                    held = held[:MAX_LINE]
                    continue
            if held:
                self._tell(held)
            self._end()
            return

    def _tell(self, line: bytes) -> None:
        self._line(line[:MAX_LINE].decode("utf-8", "replace").strip())


@contextmanager
def unseen(descriptor: int) -> Iterator[None]:
    """Meanwhile what is typed is not shown, where it is typed at a terminal."""
    if not os.isatty(descriptor):
        yield
        return
    import termios

    before = termios.tcgetattr(descriptor)
    silent = termios.tcgetattr(descriptor)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def stdin_descriptor() -> int:
    """Where lines are typed."""
    return sys.stdin.fileno()
