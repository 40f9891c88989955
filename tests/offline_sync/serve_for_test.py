"""Run as a program: serves a clearing of the seeded scheme on a free port, over the ledger named on the
command line.

A second argument `slowly` makes each booking stop for a moment before its transaction ends, so that a test
can kill the program there: it writes the line `booking` and waits for a signal that never comes. `hasty`
cuts silent connections off at once.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from offline_sync.clearing import Clearing, server
from offline_sync.clearing.ledger import Ledger
from offline_sync.clearing.server import serve
from offline_sync.clearing.service import Bounds
from tests.offline_sync.factory import ACQUIRER, NOW, Scheme


def announce(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def stop_before_commit() -> None:
    """Every booking waits between its last statement and its commit."""
    original = Ledger.write

    @contextmanager
    def write(self: Ledger) -> Iterator[Connection]:
        with original(self) as connection:
            yield connection
            announce("booking")
            threading.Event().wait(60)

    Ledger.write = write  # type: ignore[method-assign]


def main() -> None:
    """Serve until told to end."""
    scheme = Scheme()
    url = f"sqlite:///{sys.argv[1]}"
    clearing = Clearing(url, scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)
    if "slowly" in sys.argv:
        stop_before_commit()
    if "hasty" in sys.argv:
        server.IDLE_S = 0.05  # type: ignore[misc]
    serve(clearing, announce=announce, bounds=Bounds(signed_rate=1000, unsigned_rate=1000))
    clearing.close()


if __name__ == "__main__":
    main()
