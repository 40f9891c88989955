"""Closes a day and writes its files in a process of its own, which dies where it is told to.

python -m tests.offline_sync.settle_for_test LEDGER FOLDER closing|writing
"""

import os
import signal
import sys
from pathlib import Path

from offline_sync.clearing import Clearing
from offline_sync.clearing import settlement as settlements
from offline_sync.settlement import beijing_day
from tests.offline_sync.factory import ACQUIRER, NOW, Scheme

SEED = "settlement"


def die(_done: int, _of: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def settle(ledger: str, folder: str, where: str) -> None:
    """`closing`: dies inside the transaction; `writing`: in the middle of the files."""
    settlements.PAGE = 2  # type: ignore[misc]
    settlements._HELD_BYTES = 1  # type: ignore[misc]
    scheme = Scheme(seed=SEED)
    clearing = Clearing(f"sqlite:///{ledger}", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)
    closing = clearing.close_day(beijing_day(NOW), *((die,) if where == "closing" else ()))
    clearing.write_settlements(closing.number, Path(folder), lambda done, of: die(done, of) if done else None)


if __name__ == "__main__":
    settle(*sys.argv[1:])
