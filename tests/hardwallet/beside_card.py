"""Runs a command while a card file lies in pcscd's virtual reader.

`python -m tests.hardwallet.beside_card CARD COMMAND…`, inside a private pcscd.
"""

import os
import subprocess
import sys
from pathlib import Path

from firmware_bridge.virtual.vpcd import VpcdCard
from hardwallet.card.simulated import SimulatedCard


def main(path: Path, command: list[str]) -> int:
    """The command's exit status."""
    card = SimulatedCard(path, os.urandom)
    try:
        with VpcdCard(card) as shown:
            shown.insert()
            return subprocess.run(command, check=False).returncode
    finally:
        card.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
