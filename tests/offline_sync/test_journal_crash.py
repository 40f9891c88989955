"""The journal when the machine turns on it: killed at every statement, a full disk, failed writes, flipped
bits.
"""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hardwallet.records import Record
from offline_sync import journal
from offline_sync.chain import Entry
from offline_sync.journal import SqliteJournal
from pos_terminal.errors import JournalBusy, JournalError, JournalFailed, JournalFull
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import NOW, Scheme, Terminal, journal_of

REPOSITORY = Path(__file__).parents[2]
PAYMENTS = 10


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture(scope="module")
def terminal(scheme: Scheme) -> Terminal:
    return scheme.terminal(1, 1)


@pytest.fixture(scope="module")
def payments(scheme: Scheme, terminal: Terminal) -> list[Record]:
    card = scheme.card(7)
    return [scheme.payment(card, terminal, 100 + number) for number in range(PAYMENTS)]


class Counted(sqlite3.Connection):
    """Calls `step` before and after every statement that may change the store."""

    step: Callable[[str], None] = staticmethod(lambda _: None)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql.startswith(("SELECT", "PRAGMA journal", "PRAGMA sync", "PRAGMA lock")):
            return super().execute(sql, *values)
        type(self).step(sql)
        cursor = super().execute(sql, *values)
        type(self).step(sql)
        return cursor

    def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
        type(self).step(sql)
        cursor = super().executemany(sql, rows)
        type(self).step(sql)
        return cursor


def counted(*args: object, **options: object) -> sqlite3.Connection:
    return sqlite3.connect(*args, factory=Counted, **options)  # type: ignore[call-overload,no-any-return]


def in_child(work: Callable[[int], None]) -> tuple[bytes, int]:
    """What a forked child wrote to its pipe before it ended, and the signal that ended it."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # a test runner may have threads; the child has none
        child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            work(writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return told, os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index and checkpoint often, so that ten payments go through every kind of step."""
    monkeypatch.setattr(journal, "INDEX_EVERY", 4)
    monkeypatch.setattr(journal, "CHECKPOINT_EVERY", 8)


def keep_all(path: Path, terminal: Terminal, payments: list[Record], told: int) -> None:
    """Keep every payment; a byte goes out for each one that is said to be durable."""
    with journal_of(terminal, path, connect=counted) as store:
        os.write(told, b"r")
        for record in payments:
            store.keep_payment(record, SaleState.GRANTED, NOW)
            os.write(told, b"k")


def count_steps(path: Path, terminal: Terminal, payments: list[Record]) -> int:
    steps: list[str] = []
    Counted.step = staticmethod(steps.append)
    try:
        with journal_of(terminal, path, connect=counted) as store:
            for record in payments:
                store.keep_payment(record, SaleState.GRANTED, NOW)
    finally:
        Counted.step = staticmethod(lambda _: None)
    assert any("wal_checkpoint" in sql for sql in steps)
    assert any(sql.startswith("INSERT INTO payments") for sql in steps)
    return len(steps)


def killer(at: int) -> Callable[[str], None]:
    seen = [0]

    def step(_: str) -> None:
        seen[0] += 1
        if seen[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def test_killed_at_every_statement(
    small_steps: None, tmp_path: Path, terminal: Terminal, payments: list[Record]
) -> None:
    steps = count_steps(tmp_path / "counting.sqlite", terminal, payments)
    killed = 0
    for at in range(1, steps + 1):
        path = tmp_path / f"{at}.sqlite"

        def work(told: int, at: int = at, path: Path = path) -> None:
            Counted.step = staticmethod(killer(at))
            keep_all(path, terminal, payments, told)

        told, ended = in_child(work)
        assert ended in (signal.SIGKILL, 0), f"step {at}: {told!r}"
        killed += ended == signal.SIGKILL
        check_whole(path, terminal, payments, told.count(b"k"))
    assert killed >= steps - 2  # the last steps are those of a close that has nothing left to do


def check_whole(path: Path, terminal: Terminal, payments: list[Record], durable: int) -> None:
    """Every payment that was said to be durable is there, at most one more, and the till goes on."""
    with journal_of(terminal, path) as store:
        head = store.head()[0]
        assert durable <= head <= min(durable + 1, PAYMENTS)
        assert store.verify_all().ok
        assert store.waiting().count == head
        assert store.waiting().amount_fen == sum(record.amount_fen for record in payments[:head])
        for record in payments[:head]:
            stored = store.payment(record.card, record.sequence)
            assert stored is not None
            assert stored.record.raw == record.raw
            assert stored.granted
        for record in payments:
            store.keep_payment(record, SaleState.GRANTED, NOW)
        assert store.head()[0] == PAYMENTS


def test_a_second_process_is_refused(tmp_path: Path, terminal: Terminal) -> None:
    path = tmp_path / "journal.sqlite"
    with journal_of(terminal, path):

        def work(told: int) -> None:
            try:
                journal_of(terminal, path)
            except JournalBusy as error:
                os.write(told, str(error).encode())

        told, _ = in_child(work)
    assert b"in use by another program" in told


class Failing(sqlite3.Connection):
    """Fails as SQLite does when the disk does: `code` with the next statement that begins with `on`."""

    on = ""
    code = 0

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if Failing.on and sql.startswith(Failing.on):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = Failing.code
            raise error
        return super().execute(sql, *values)


def failing(*args: object, **options: object) -> sqlite3.Connection:
    return sqlite3.connect(*args, factory=Failing, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def breaking(tmp_path: Path, terminal: Terminal):  # type: ignore[no-untyped-def]
    Failing.on = ""
    with journal_of(terminal, tmp_path / "journal.sqlite", connect=failing) as store:
        yield store
    Failing.on = ""


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR]
)
def test_a_failed_sync_stops_the_terminal_for_good(
    breaking: SqliteJournal, payments: list[Record], code: int
) -> None:
    breaking.keep_payment(payments[0], SaleState.GRANTED, NOW)
    Failing.on, Failing.code = "INSERT INTO entries", code
    with pytest.raises(JournalFailed, match="did not reach the disk"):
        breaking.keep_payment(payments[1], SaleState.GRANTED, NOW)
    Failing.on = ""
    for refused in (
        lambda: breaking.keep_payment(payments[1], SaleState.GRANTED, NOW),
        lambda: breaking.keep_payment(payments[0], SaleState.GRANTED, NOW),
        breaking.require_space,
        breaking.waiting,
        lambda: breaking.reserve_transactions(NOW),
    ):
        with pytest.raises(JournalFailed):
            refused()


def test_a_failed_checkpoint_stops_the_terminal_after_the_payment(
    small_steps: None, breaking: SqliteJournal, payments: list[Record]
) -> None:
    """SQLite keeps quiet about an automatic checkpoint that failed; this one is looked at."""
    Failing.on, Failing.code = "PRAGMA wal_checkpoint", sqlite3.SQLITE_IOERR_FSYNC
    for record in payments[:8]:
        breaking.keep_payment(record, SaleState.GRANTED, NOW)
    with pytest.raises(JournalFailed):
        breaking.keep_payment(payments[8], SaleState.GRANTED, NOW)


def test_a_disk_that_is_full_for_a_while(breaking: SqliteJournal, payments: list[Record]) -> None:
    Failing.on, Failing.code = "INSERT INTO entries", sqlite3.SQLITE_FULL
    with pytest.raises(JournalFull):
        breaking.keep_payment(payments[0], SaleState.GRANTED, NOW)
    Failing.on = ""
    breaking.keep_payment(payments[0], SaleState.GRANTED, NOW)
    assert breaking.head()[0] == 1


def test_an_index_that_finds_no_room_waits(
    small_steps: None, breaking: SqliteJournal, payments: list[Record]
) -> None:
    Failing.on, Failing.code = "BEGIN", sqlite3.SQLITE_FULL
    for record in payments:
        breaking.keep_payment(record, SaleState.GRANTED, NOW)
    Failing.on = ""
    for record in payments:
        assert breaking.payment(record.card, record.sequence) is not None
    assert breaking.head()[0] == PAYMENTS
    assert breaking.verify_all().ok


def test_a_file_that_may_not_grow(tmp_path: Path, terminal: Terminal, payments: list[Record]) -> None:
    """A real failed write: the process's file size limit, which SQLite reports as an I/O error."""
    path = tmp_path / "journal.sqlite"
    with journal_of(terminal, path) as store:
        store.keep_payment(payments[0], SaleState.GRANTED, NOW)

    def work(told: int) -> None:
        with journal_of(terminal, path) as store:
            store.keep_payment(payments[1], SaleState.GRANTED, NOW)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            size = path.with_name("journal.sqlite-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            for _ in range(2):
                try:
                    store.keep_payment(payments[2], SaleState.GRANTED, NOW)
                except JournalFailed:
                    os.write(told, b"f")

    told, _ = in_child(work)
    assert told == b"ff"
    with journal_of(terminal, path) as store:
        assert store.head()[0] == 2
        assert store.verify_all().ok


def can_mount() -> bool:
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.needs("unshare", "mount")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this user may not mount a file system")
    child = [sys.executable, "-m", "tests.offline_sync.full_disk", str(tmp_path)]
    script = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *child],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept, held, declined = (int(word) for word in done.stdout.split())
    assert kept > 100
    assert held == kept  # nothing that was kept is lost, nothing that was refused is there
    assert declined == 1  # asked before the card, the store says no


def test_every_flipped_byte_is_told_or_harmless(tmp_path: Path, terminal: Terminal, scheme: Scheme) -> None:
    """Bytes of the whole file, one at a time: refused at the start, or told, or nothing has changed."""
    original = tmp_path / "original.sqlite"
    card = scheme.card(8)
    with journal_of(terminal, original) as store:
        for number in range(30):
            store.keep_payment(scheme.payment(card, terminal, 100 + number), SaleState.GRANTED, NOW)
        store.acknowledge(10, store.hash_at(10))
        store.reserve_transactions(NOW)
        good = store.entries(1, 100)
    content = original.read_bytes()
    outcomes = {"refused": 0, "told": 0, "harmless": 0}
    path = tmp_path / "flipped.sqlite"
    for position in range(0, len(content), 53):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        outcomes[look(path, terminal, good)] += 1
    assert outcomes["refused"] > 0
    assert outcomes["told"] > 0


def look(path: Path, terminal: Terminal, good: list[Entry]) -> str:
    """What a journal with one flipped byte does. An altered entry is never given out as good."""
    try:
        with journal_of(terminal, path) as store:
            entries = store.entries(1, 100)
            for found, wanted in zip(entries, good, strict=False):
                assert found.damaged or found == wanted
            assert len(entries) >= len(good) or store.locked
            locked = store.locked
            verified = store.verify_all()
            waiting = store.waiting()
            told = locked is not None or not verified.ok
            assert told or (entries == good and (waiting.count, store.acknowledged()) == (20, 10))
            return "told" if told else "harmless"
    except JournalError:
        return "refused"
