"""The terminal's journal with a million payments waiting: how soon it is ready, in how much memory; and one
payment.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rows import REPOSITORY
from hardwallet import records
from offline_sync.journal import SqliteJournal
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import BODY, NOW, Scheme, Terminal, journal_of

START_LIMIT_S = 1.0
MEMORY_LIMIT_MB = 300

Result = dict[str, Any]


def run(quick: bool) -> list[Result]:
    """With 1,000,000 waiting payments (quick: 50,000, which only shows that it runs)."""
    rows = 50_000 if quick else 1_000_000
    scheme = Scheme(seed="benchmark")
    terminal = scheme.terminal(1, 1)
    with tempfile.TemporaryDirectory(prefix="journal-") as folder:
        results = one_payment(scheme, terminal, Path(folder) / "one.sqlite", 2_000)
        path = Path(folder) / "many.sqlite"
        fill(scheme, terminal, path, rows)
        return results + start(path, rows)


def one_payment(scheme: Scheme, terminal: Terminal, path: Path, payments: int) -> list[Result]:
    """What a tap's one durable write costs. Waiting for the disk is in the wall time only."""
    card = scheme.card(1)
    kept = [scheme.payment(card, terminal) for _ in range(payments)]
    with journal_of(terminal, path) as journal:
        cpu, wall = time.process_time(), time.perf_counter()
        for record in kept:
            journal.keep_payment(record, SaleState.GRANTED, NOW)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return [
        _row("journal: one payment kept, CPU with fsync's own", round(cpu / payments * 1e6, 1), "us"),
        _row("journal: one payment kept, wall with fsync", round(wall / payments * 1e6, 1), "us"),
    ]


def fill(scheme: Scheme, terminal: Terminal, path: Path, rows: int) -> None:
    """As many waiting payments. Their signatures are all zero, since the journal does not look at them, and
    the disk is not waited for: the file that comes of it is the same.
    """
    card = scheme.card(1)
    fields = list(BODY.unpack(scheme.payment(card, terminal).body))
    with journal_of(terminal, path) as journal:
        _do_not_wait_for_the_disk(journal)
        for number in range(1, rows + 1):
            fields[5] = number.to_bytes(8, "big")  # another card each
            fields[9] = b"ref-" + number.to_bytes(8, "big")
            record = records.parse(BODY.pack(*fields) + bytes(64))
            journal.keep_payment(record, SaleState.GRANTED, NOW)
        assert journal.waiting().count == rows


def _do_not_wait_for_the_disk(journal: SqliteJournal) -> None:
    journal._execute("PRAGMA synchronous = OFF")


def start(path: Path, rows: int) -> list[Result]:
    """A fresh process opens the journal, whose file is not in memory, and is ready to sell."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, "-m", "benchmarks.terminal_store", str(path)]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=REPOSITORY).stdout)
    assert told["count"] == rows
    seconds, peak_mb = round(told["seconds"], 3), round(told["peak_kb"] / 1024, 1)
    ready = seconds <= START_LIMIT_S
    small = peak_mb <= MEMORY_LIMIT_MB
    return [
        _row(f"terminal: start with {rows:,} waiting payments", seconds, "s", START_LIMIT_S, ready),
        _row(f"terminal: peak memory with {rows:,} waiting payments", peak_mb, "MB", MEMORY_LIMIT_MB, small),
    ]


def open_and_tell(path: Path) -> Result:
    """The process that is measured: everything that a terminal asks of its journal before the first sale, and
    the first batch to send.
    """
    terminal = Scheme(seed="benchmark").terminal(1, 1)
    begin = time.perf_counter()
    with journal_of(terminal, path) as journal:
        journal.require_space()
        journal.reserve_transactions(NOW)
        unresolved, waiting = journal.unresolved(), journal.waiting()
        batch = journal.entries(journal.acknowledged() + 1, 1_000)
        seconds = time.perf_counter() - begin
    assert not unresolved
    assert not any(entry.damaged for entry in batch)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_kb": peak_kb, "count": waiting.count}


def _row(name: str, value: float, unit: str, limit: float | None = None, ok: bool = True) -> Result:
    return {"name": name, "value": value, "unit": unit, "limit": limit, "ok": ok, "kind": "measured"}


if __name__ == "__main__":
    print(json.dumps(open_and_tell(Path(sys.argv[1]))))
