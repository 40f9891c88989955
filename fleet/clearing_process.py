"""Clearing in a process of its own: `python -m fleet.clearing_process SCHEME-FOLDER` prints `ready URL` and
serves until SIGTERM."""

import sys
from pathlib import Path

from fleet.open import open_clearing
from offline_sync.clearing.server import serve


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(scheme: Path) -> None:
    """Serve the clearing of a scheme on a free port of loopback."""
    with open_clearing(scheme) as clearing:
        serve(clearing, announce=_say)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
