"""Clearing in a process of its own: `python -m fleet.clearing_process SCHEME-FOLDER [AHEAD]` prints
`ready URL` and serves until SIGTERM, or until its input ends: so it does not outlive who started it. AHEAD:
seconds that its clock is ahead of this machine's."""

import os
import signal
import sys
import threading
from pathlib import Path

from fleet.open import open_clearing, system_clock
from offline_sync.clearing.server import serve


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):  # not sys.stdin.buffer: its lock would be held at the end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(scheme: Path, ahead_s: int = 0) -> None:
    """Serve the clearing of a scheme on a free port of loopback."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    with open_clearing(scheme, clock=lambda: system_clock() + ahead_s) as clearing:
        serve(clearing, announce=_say)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
