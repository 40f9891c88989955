"""The book of shifts: what was confirmed is there again, whatever happened to power, disk and file."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from binascii import crc32
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pos_terminal import shift_store
from pos_terminal.errors import (
    DifferenceUnexplained,
    ShiftAlreadyOpen,
    ShiftDamaged,
    ShiftError,
    ShiftFailed,
    ShiftFull,
    ShiftNotOpen,
    StoreBusy,
)
from pos_terminal.shift import (
    LISTED,
    MAX_MOVEMENTS,
    TEXT_LIMIT,
    Item,
    Tally,
    Totals,
    Unfinished,
    Unsynced,
)
from pos_terminal.shift_store import BOOK, MAX_LINE, ShiftBook
from tests.conftest import REPOSITORY
from tests.pos_terminal.conftest import MEMORY

NOW = 1_790_000_000
TOTALS = Totals(granted=Tally(2, 3_000), refunded=Tally(1, 500), last=12)


def a_day(folder: Path) -> None:
    """One closed shift, and one that goes on."""
    with ShiftBook(folder) as book:
        book.open(20_000, "Li", NOW, 3)
        book.cash_in(1_000, "change", "Li", NOW + 1)
        book.close(21_000, "quiet", "", "Li", NOW + 2, totals=TOTALS)
        book.open(15_000, "Wang", NOW + 3, 12, Tally(1, 50))
        book.cash_out(200, "milk", "Wang", NOW + 4)


def state_of(book: ShiftBook) -> tuple[object, ...]:
    return book.current, book.past(10), book.last_entry


def test_a_shift_from_open_to_close(tmp_path: Path) -> None:
    with ShiftBook(tmp_path) as book:
        assert (book.current, book.past(10), book.last_entry, book.torn) == (None, [], None, False)
        opened = book.open(20_000, "Li", NOW, 3)
        assert (opened.number, opened.first, opened.opened_s, opened.opened_by) == (1, 3, NOW, "Li")
        assert book.cash_in(1_000, "change", "Li", NOW + 1).expected_fen == 21_000
        assert book.cash_out(400, "milk", "Wang", NOW + 2).expected_fen == 20_600
        x = book.read(TOTALS, NOW + 3)
        z = book.close(20_500, "windy", "a note flew off", "Wang", NOW + 3, totals=TOTALS)
        assert msgspec.structs.replace(z, closing=None) == x
        assert z.closing is not None
        assert (z.closing.counted_fen, z.closing.note, z.closing.who) == (20_500, "windy", "Wang")
        assert (z.closing.difference_reason, z.difference_fen) == ("a note flew off", -100)
        assert book.current is None
        assert book.past(5) == [z]
        assert book.closed(1) == z


def test_it_is_all_there_after_a_restart(tmp_path: Path) -> None:
    a_day(tmp_path)
    with ShiftBook(tmp_path) as book:
        assert book.current is not None
        assert (book.current.number, book.current.expected_fen) == (2, 14_800)
        assert book.current.outside == Tally(1, 50)
        assert [report.shift.number for report in book.past(10)] == [1]
        assert book.last_entry == 12
        assert not book.torn
        book.close(14_800, "", "", "Wang", NOW + 9, totals=TOTALS)
        assert [report.shift.number for report in book.past(10)] == [2, 1]
        assert [report.shift.number for report in book.past(1)] == [2]
        assert book.past(0) == []
    with ShiftBook(tmp_path) as book:
        assert book.open(0, "Li", NOW + 10, 12).number == 3


def test_what_can_not_be_done_now(tmp_path: Path) -> None:
    with ShiftBook(tmp_path) as book:
        for act in (
            lambda: book.cash_in(1, "a", "b", NOW),
            lambda: book.cash_out(1, "a", "b", NOW),
            lambda: book.close(0, "", "", "b", NOW, totals=TOTALS),
            lambda: book.read(TOTALS, NOW),
            lambda: book.closed(1),
        ):
            with pytest.raises(ShiftNotOpen):
                act()
        book.open(0, "Li", NOW, 0)
        with pytest.raises(ShiftAlreadyOpen, match=r"shift 1 is open .* Li"):
            book.open(0, "Wang", NOW, 0)
        assert book.current is not None
        assert book.current.opened_by == "Li"


def test_one_process_has_the_book(tmp_path: Path) -> None:
    with ShiftBook(tmp_path), pytest.raises(StoreBusy, match="in use by another program"):
        ShiftBook(tmp_path)
    ShiftBook(tmp_path).close_book()


def test_the_book_is_for_its_owner_only(tmp_path: Path) -> None:
    a_day(tmp_path)
    assert (tmp_path / BOOK).stat().st_mode & 0o777 == 0o600


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A folder in memory where there is one: nothing here cuts the power, and fsync only costs time."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def test_cut_at_every_byte_what_was_confirmed_before_is_whole(quick_path: Path) -> None:
    """As a power cut in the middle of a write leaves it."""
    tmp_path = quick_path
    a_day(tmp_path)
    whole = (tmp_path / BOOK).read_bytes()
    states: dict[int, tuple[object, ...]] = {}
    for length in range(len(whole) + 1):
        (tmp_path / BOOK).write_bytes(whole[:length])
        lines = whole[:length].count(b"\n")
        with ShiftBook(tmp_path) as book:
            assert book.torn == (length > 0 and whole[length - 1 : length] != b"\n")
            assert states.setdefault(lines, state_of(book)) == state_of(book)
        assert (tmp_path / BOOK).read_bytes().count(b"\n") == lines
    assert len(set(map(repr, states.values()))) == 6


def test_after_a_cut_the_book_goes_on(tmp_path: Path) -> None:
    a_day(tmp_path)
    path = tmp_path / BOOK
    path.write_bytes(path.read_bytes()[:-5])
    with ShiftBook(tmp_path) as book:
        assert book.torn
        assert book.current is not None
        assert book.current.expected_fen == 15_000  # the milk was never confirmed
        book.cash_out(200, "milk", "Wang", NOW + 5)
    with ShiftBook(tmp_path) as book:
        assert not book.torn
        assert book.current is not None
        assert book.current.expected_fen == 14_800


def test_every_altered_byte_is_told_and_nothing_is_changed(tmp_path: Path) -> None:
    a_day(tmp_path)
    path = tmp_path / BOOK
    whole = path.read_bytes()
    for place in range(len(whole) - 1):
        altered = bytearray(whole)
        altered[place] ^= 0x01
        path.write_bytes(altered)
        with pytest.raises(ShiftDamaged, match="move the file away"):
            ShiftBook(tmp_path)
        assert path.read_bytes() == altered
    path.unlink()
    with ShiftBook(tmp_path) as book:  # as the message says: a new book begins
        assert book.open(0, "Li", NOW, 0).number == 1


def line(text: bytes) -> bytes:
    return text + b"\t%08x\n" % crc32(text)


@pytest.mark.parametrize(
    "altered",
    [
        lambda lines: lines[1:],
        lambda lines: lines[:1] + lines[2:],
        lambda lines: [lines[0], *lines],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines, line(b"{}")],
        lambda lines: [*lines, line(b"[" * 100_000)],
        lambda lines: [*lines, line(b'{"event":"stolen","line":6}')],
        lambda lines: [*lines, line(b"\xff\xfe")],
        lambda lines: [*lines, b"\n"],
        lambda lines: [*lines, b"x" * (MAX_LINE + 5) + b"\n"],
        lambda lines: [lines[0].replace(b"20000", b"10000"), *lines[1:]],
    ],
    ids=lambda _: "",
)
def test_a_line_that_does_not_follow_is_told(tmp_path: Path, altered: object) -> None:
    a_day(tmp_path)
    path = tmp_path / BOOK
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(altered(lines)))  # type: ignore[operator]
    with pytest.raises(ShiftDamaged):
        ShiftBook(tmp_path)


def test_a_movement_that_was_taken_out_is_told(tmp_path: Path) -> None:
    a_day(tmp_path)
    with ShiftBook(tmp_path) as book:
        book.cash_in(50, "change", "Wang", NOW + 5)
    path = tmp_path / BOOK
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2] + lines[-1:]))
    with pytest.raises(ShiftDamaged):
        ShiftBook(tmp_path)


def resealed(path: Path, place: int, old: bytes, new: bytes) -> None:
    """Alter a line and its checksum: somebody with an editor."""
    lines = path.read_bytes().splitlines(keepends=True)
    assert old in lines[place]
    lines[place] = line(lines[place].rpartition(b"\t")[0].replace(old, new))
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        (0, b'"float_fen":20000', b'"float_fen":-1'),
        (0, b'"float_fen":20000', b'"float_fen":19000'),  # the Z report has another shift
        (0, b'"number":1', b'"number":2'),
        (1, b'"amount_fen":1000', b'"amount_fen":1e99'),
        (2, b'"closing":{', b'"closing":null,"x":{'),
        (3, b'"number":2', b'"number":3'),
    ],
)
def test_an_edited_line_is_told(tmp_path: Path, place: int, old: bytes, new: bytes) -> None:
    a_day(tmp_path)
    resealed(tmp_path / BOOK, place, old, new)
    with pytest.raises(ShiftDamaged):
        ShiftBook(tmp_path)


def test_a_book_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_day(tmp_path)
    monkeypatch.setattr(shift_store, "MAX_BOOK", 100)
    with pytest.raises(ShiftDamaged, match="longer than any book"):
        ShiftBook(tmp_path)


@pytest.mark.parametrize("broken", ["short", "pwrite", "fsync"])
def test_a_close_that_fails_leaves_all_as_it_was_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    a_day(tmp_path)
    with ShiftBook(tmp_path) as book:
        before, raw = state_of(book), (tmp_path / BOOK).read_bytes()
        pwrite, fsync, calls = os.pwrite, os.fsync, []

        def bad_pwrite(handle: int, content: bytes, place: int) -> int:
            if broken == "pwrite":
                raise OSError(errno.EIO, "Input/output error")
            return pwrite(handle, content[: len(content) // 2], place)

        def bad_fsync(handle: int) -> None:
            calls.append(handle)
            if len(calls) == 1:
                raise OSError(errno.EIO, "Input/output error")
            fsync(handle)

        with monkeypatch.context() as patch:
            if broken == "fsync":
                patch.setattr(os, "fsync", bad_fsync)
            else:
                patch.setattr(os, "pwrite", bad_pwrite)
            with pytest.raises(ShiftFailed, match="nothing was changed"):
                book.close(14_800, "", "", "Wang", NOW + 9, totals=TOTALS)
        assert state_of(book) == before
        assert (tmp_path / BOOK).read_bytes() == raw
        assert book.close(14_800, "", "", "Wang", NOW + 10, totals=TOTALS).closing is not None
    with ShiftBook(tmp_path) as book:
        assert book.current is None
        assert len(book.past(9)) == 2


def test_a_disk_that_takes_nothing_back_stops_the_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_day(tmp_path)

    def bad(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with ShiftBook(tmp_path) as book:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", bad)
            patch.setattr(os, "ftruncate", bad)
            with pytest.raises(ShiftFailed):
                book.cash_in(1, "change", "Wang", NOW)
        with pytest.raises(ShiftFailed, match="start the terminal again"):
            book.cash_in(1, "change", "Wang", NOW)


def test_a_closed_book_takes_nothing(tmp_path: Path) -> None:
    book = ShiftBook(tmp_path)
    book.close_book()
    book.close_book()
    with pytest.raises(ShiftFailed, match="start the terminal again"):
        book.open(0, "Li", NOW, 0)


def test_a_refused_close_changes_nothing(tmp_path: Path) -> None:
    a_day(tmp_path)
    with ShiftBook(tmp_path) as book:
        before, raw = state_of(book), (tmp_path / BOOK).read_bytes()
        with pytest.raises(DifferenceUnexplained, match=r"1\.00 is missing"):
            book.close(14_700, "", "", "Wang", NOW + 9, totals=TOTALS)
        assert (state_of(book), (tmp_path / BOOK).read_bytes()) == (before, raw)
        z = book.close(14_700, "", "wrong change given", "Wang", NOW + 9, totals=TOTALS)
        assert z.difference_fen == -100


def test_a_blind_count_hides_the_sum_until_it_is_given(tmp_path: Path) -> None:
    with ShiftBook(tmp_path, blind=True) as book:
        book.open(500, "Li", NOW, 0)
        assert book.read(TOTALS, NOW).expected_fen is None
        with pytest.raises(DifferenceUnexplained) as raised:
            book.close(400, "", "", "Li", NOW, totals=TOTALS)
        assert raised.value.difference_fen is None
        z = book.close(400, "", "no idea", "Li", NOW, totals=TOTALS)
        assert (z.expected_fen, z.difference_fen, z.blind) == (500, -100, True)


def test_the_longest_shift_fits_a_line(tmp_path: Path) -> None:
    words = "票" * (TEXT_LIMIT + 50)
    with ShiftBook(tmp_path) as book:
        book.open(0, words, NOW, 0)
        for _ in range(MAX_MOVEMENTS):
            book.cash_in(1, words, words, NOW)
        with pytest.raises(ShiftFull, match="close it"):
            book.cash_in(1, words, words, NOW)
        items = tuple(
            Item(2**40, 2**32 - 1, NOW, 2**31 - 1, "payment", "needs review") for _ in range(LISTED)
        )
        open_ones = [Unfinished(2**32 - 1, NOW, 2**31 - 1, "payment", "ff" * 8) for _ in range(LISTED)]
        z = book.close(
            *(0, words, words, words, NOW),
            totals=TOTALS,
            unsynced=Unsynced(Tally(LISTED, 5), 0, LISTED, items),
            unfinished=open_ones,
        )
    longest = max(len(one) for one in (tmp_path / BOOK).read_bytes().splitlines(keepends=True))
    assert 300_000 < longest <= MAX_LINE
    with ShiftBook(tmp_path) as book:
        assert book.past(1) == [z]


KILLED = """
import os, signal, sys
from pathlib import Path
from pos_terminal.shift import Totals
from pos_terminal.shift_store import ShiftBook

folder, last = Path(sys.argv[1]), int(sys.argv[2])
steps = 0

def around(act):
    def run(*given):
        for when in ("before", "after"):
            global steps
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)
            if when == "before":
                result = act(*given)
        return result
    return run

os.pwrite, os.fsync = around(os.pwrite), around(os.fsync)
book = ShiftBook(folder)
for confirmed, act in enumerate((
    lambda: book.open(1000, "Li", 1790000000, 0),
    lambda: book.cash_in(50, "change", "Li", 1790000001),
    lambda: book.close(1050, "", "", "Li", 1790000002, totals=Totals()),
), 1):
    act()
    os.write(1, b"%d" % confirmed)
"""


def test_killed_at_every_step_what_was_confirmed_is_there(quick_path: Path) -> None:
    """SIGKILL before and after each write and each fsync."""
    tmp_path = quick_path
    died = 0
    for last in range(1, 99):
        folder = tmp_path / str(last)
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(last)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        confirmed = int(done.stdout[-1:] or b"0")
        with ShiftBook(folder) as book:
            current, closed = book.current, len(book.past(9))
            there = 3 if closed else 0 if current is None else 1 + len(current.movements)
            assert confirmed <= there <= confirmed + 1
        if done.returncode != -signal.SIGKILL:
            assert (done.returncode, confirmed) == (0, 3), done.stderr
            break
        died += 1
    assert died == 14  # three lines of two acts each, and the folder's own fsync


@pytest.mark.needs("unshare", "mount")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """Nothing that was confirmed is lost, nothing half is found, and the close can be repeated."""
    script = f'mount -t tmpfs -o size=512k none {tmp_path} || exit 77; exec "$@"'
    child = [sys.executable, "-m", "tests.pos_terminal.full_disk", str(tmp_path)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *child],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode in (1, 77) and not done.stdout and "Traceback" not in done.stderr:
        pytest.skip("this user may not mount a file system")
    assert done.returncode == 0, done.stderr
    confirmed, found, slips, found_slips = (int(word) for word in done.stdout.split())
    assert found == confirmed
    assert found_slips == slips > 10


def test_errors_say_what_to_do_and_belong_together(tmp_path: Path) -> None:
    (tmp_path / BOOK).mkdir()
    with pytest.raises(ShiftError, match="can't be read"):
        ShiftBook(tmp_path)
