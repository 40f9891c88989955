"""A tmux of its own, in which a program runs as before a person: keys go in, the screen is read."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conftest import REPOSITORY

WAIT_S = 60.0
_LOOK_S = 0.1


def squeezed(text: str) -> str:
    """Without blanks and line ends."""
    return "".join(text.split())


class Tmux:
    """One window of a tmux server that only this test knows."""

    def __init__(
        self,
        folder: Path,
        words: Sequence[str],
        columns: int = 80,
        rows: int = 24,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Runs `hardwallet` with `words` in a window of that size. `folder` takes the server's socket."""
        self._socket = folder / "tmux"
        self._log = folder / "ended"
        environment = {name: value for name, value in os.environ.items() if name not in ("TMUX", "NO_COLOR")}
        environment |= {"PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        environment |= {"COLUMNS": "100", "LINES": "30"}  # of an older window, as a shell exports them
        script = f'"$@"; echo "exit code $?" | tee {self._log}; sleep 1000'
        self._run(
            *("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows)),
            *("sh", "-c", script, "sh", sys.executable, "-m", "tui", *words),
            environment=environment | dict(extra or {}),
        )

    def _run(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *words],
            env=environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=True,
        )
        return done.stdout

    def write(self, text: str) -> None:
        """Type characters as they are."""
        self._run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: Enter, F2, Escape."""
        self._run("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        """Make the window another size."""
        self._run("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self) -> str:
        """What stands on the screen."""
        return self._run("capture-pane", "-p")

    def wait_for(self, *texts: str, without: str = "", within_s: float = WAIT_S) -> str:
        """The screen, once every text stands on it, and `without` does not. Blanks count for nothing: large
        words are spaced."""

        def true(screen: str) -> bool:
            seen = squeezed(screen)
            there = all(squeezed(text) in seen for text in texts)
            return there and (not without or squeezed(without) not in seen)

        return self.wait_until(true, f"{texts} and not {without!r}", within_s)

    def wait_until(self, true: Callable[[str], bool], what: str, within_s: float = WAIT_S) -> str:
        """The screen, once something is true of it."""
        end_s = time.monotonic() + within_s
        while True:
            shown = self.screen()
            if true(shown):
                return shown
            if time.monotonic() > end_s:
                raise AssertionError(f"the screen never showed {what}:\n{shown}")
            time.sleep(_LOOK_S)

    def ended(self) -> str:
        """`exit code N`, once the program has ended."""
        self.wait_until(lambda _shown: self._log.exists() and bool(self._log.read_text()), "the end")
        return self._log.read_text().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run("kill-server")
