"""The whole program on a pseudo-terminal: it draws, it ends by signals and when its terminal goes away."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tui.world import environment

LIMIT_S = 60


class Terminal:
    """A pseudo-terminal of 80×24 and the program on it. `text` is all that was written to it."""

    def __init__(self, process: "subprocess.Popen[bytes]", main_end: int) -> None:
        self.process = process
        self.main_end = main_end
        self.text = b""

    def read_to(self, words: bytes) -> None:
        """Until these words were written."""
        limit = time.monotonic() + LIMIT_S
        while words not in self.text:
            assert time.monotonic() < limit, self.text[-2000:]
            assert self._read(), self.text[-2000:]

    def drain(self) -> None:
        """Until nothing more can come."""
        while self._read():
            pass

    def _read(self) -> bool:
        """False at the end."""
        ready, _, _ = select.select([self.main_end], [], [], LIMIT_S)
        with contextlib.suppress(OSError):  # the other end is closed
            data = os.read(self.main_end, 65536) if ready else b""
            self.text += data
            return bool(data)
        return False


@contextmanager
def on_a_terminal(folder: Path, *words: str, **variables: str) -> Iterator[Terminal]:
    """`hardwallet tui …` on a terminal of its own, its temporary files in the folder."""
    main_end, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    # A new session's first terminal becomes its own, so that its signals come from there.
    script = 'exec "$@" <"$0" >"$0" 2>&1'
    process = subprocess.Popen(
        ["sh", "-c", script, os.ttyname(terminal), sys.executable, "-m", "tui", "tui", *words],
        cwd=folder,
        start_new_session=True,
        env=environment({"TERM": "xterm-256color", "TMPDIR": str(folder), "LANGUAGE": "en", **variables}),
    )
    made = Terminal(process, main_end)
    try:
        made.read_to(b"\x1b[?1049h")  # it has opened its terminal: this end may be closed
        os.close(terminal)
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            os.close(made.main_end)


def ended_well(terminal: Terminal, folder: Path) -> None:
    """It ends with 0, without a traceback, and leaves nothing behind."""
    assert terminal.process.wait(LIMIT_S) == 0
    assert b"Traceback" not in terminal.text
    assert list(folder.iterdir()) == []


def test_a_signal_ends_it_in_order(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path, "cashier", "--mute") as terminal:
        terminal.read_to(b"F10")
        os.write(terminal.main_end, b"12.50\r")
        terminal.read_to(b"not now")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.process.send_signal(signal.SIGTERM)
        terminal.drain()
        ended_well(terminal, tmp_path)
    assert b"\x1b[?1049l" in terminal.text, "the screen that was there before is back"


def test_a_terminal_that_goes_away_ends_it_too(tmp_path: Path) -> None:
    """A window that is closed while a card is awaited: nothing is left running with the terminal's folder."""
    with on_a_terminal(tmp_path, "cashier", "--mute") as terminal:
        terminal.read_to(b"F10")
        os.write(terminal.main_end, b"12.50\r")
        terminal.read_to(b"not now")
        os.close(terminal.main_end)
        ended_well(terminal, tmp_path)


def test_no_colour_where_none_is_wanted(tmp_path: Path) -> None:
    """And it is left by Ctrl+C, pressed twice."""
    with on_a_terminal(tmp_path, "cashier", "--mute", NO_COLOR="1") as terminal:
        terminal.read_to(b"F10")
        os.write(terminal.main_end, b"\x03\x03")
        terminal.drain()
        ended_well(terminal, tmp_path)
    colours = {part.split(b"m")[0] for part in terminal.text.split(b"\x1b[38;2;")[1:]}
    assert all(len(set(colour.split(b";")[:3])) == 1 for colour in colours), colours
