"""Starts clearing as a process of its own, and ends it. Loads nothing that clearing itself needs."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from fleet.open import system_clock
from offline_sync.errors import SyncError
from pos_terminal.ports import Clock

_END_S: Final = 10


class ClearingProcess:
    """Clearing of a scheme in a process of its own, on loopback. Its clock goes on from what `clock` says
    now. It ends with `stop`, or with the process that started it."""

    def __init__(self, scheme: Path, clock: Clock = system_clock, *, quiet: bool = False) -> None:
        """`quiet`: what it logs is not shown, and a Ctrl-C at the terminal is not its own."""
        command = [sys.executable, "-m", "fleet.clearing_process", str(scheme), str(clock() - system_clock())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            start_new_session=quiet,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def url(self) -> str:
        """Its address, once it takes connections. Raises SyncError when it ended before."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        word, _, url = line.strip().partition(" ")
        if word != "ready":
            raise SyncError("clearing did not start")
        return url

    def stop(self) -> None:
        """SIGTERM, and wait. From any thread: `url` then raises."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
