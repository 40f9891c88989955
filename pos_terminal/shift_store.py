"""The book of a terminal's shifts, beside its journal: append-only, each line on the disk before it counts.

    DIR/shifts.book   one event a line: opened, moved, closed
    DIR/shifts.lock   held by the one process that has the book

A line is JSON, a tab, the CRC-32 of the JSON; lines are numbered. A last line without its end was never
announced: it is cut off, and told. Damage anywhere else is told, and the book is left as it is.
"""

import errno
import os
import threading
from binascii import crc32
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Final, Self

import msgspec

from pos_terminal import shift as shifts
from pos_terminal.errors import ShiftAlreadyOpen, ShiftDamaged, ShiftFailed, ShiftFull, ShiftNotOpen
from pos_terminal.exclusive import Exclusive
from pos_terminal.shift import Movement, Shift, ShiftReport, Tally, Totals, Unfinished, Unsynced

BOOK: Final = "shifts.book"
LOCK: Final = "shifts.lock"
MAX_LINE: Final = 2 * 1024 * 1024
"""The longest line, bytes: a closed shift with all that a report can list is shorter."""
MAX_BOOK: Final = 256 * 1024 * 1024
"""The longest book that is opened, bytes: a hundred years of shifts."""

_Number = Annotated[int, msgspec.Meta(ge=1)]


class _Opened(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="opened"):
    line: _Number
    shift: Shift


class _Moved(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="moved"):
    line: _Number
    movement: Movement


class _Closed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="closed"):
    line: _Number
    report: ShiftReport


_Event = _Opened | _Moved | _Closed
_DECODER: Final[msgspec.json.Decoder[_Event]] = msgspec.json.Decoder(_Event)


class ShiftBook:
    """The shifts of one terminal, held by one process; any thread may call. Close it when done.

    Raises StoreBusy, StoreFailed, ShiftDamaged, ShiftFailed. `torn`: the last line had no end and was cut
    off: what it would have told was never confirmed to anybody.
    """

    def __init__(self, folder: Path, *, blind: bool = False) -> None:
        """`blind`: drawers are counted before anybody is shown what they have to hold."""
        self.path = folder / BOOK
        self.blind = blind
        self.torn = False
        self._turn = threading.RLock()
        self._current: Shift | None = None
        self._lines = 0
        self._end = 0
        self._last_number = 0
        self._last_entry: int | None = None
        self._closed_at: list[tuple[int, int]] = []  # where the lines of closed shifts lie: from, length
        self._handle = -1
        self._failed = ""
        self._lock = Exclusive(folder / LOCK)
        try:
            self._load()
        except BaseException:
            self.close_book()
            raise

    @property
    def current(self) -> Shift | None:
        """The shift that goes on, or None."""
        return self._current

    @property
    def last_entry(self) -> int | None:
        """The journal's last entry when the newest closed shift was closed; None when there is none."""
        return self._last_entry

    def open(
        self, float_fen: int, who: str, now_s: int, at_entry: int, outside: Tally | None = None
    ) -> Shift:
        """A new shift with `float_fen` in the drawer; `at_entry`: the journal's last entry now.

        Raises ShiftAlreadyOpen, NameMissing, BadAmount, ShiftFailed. Durable when this returns.
        """
        with self._turn:
            if self._current is not None:
                raise ShiftAlreadyOpen(
                    f"shift {self._current.number} is open since it was opened by {self._current.opened_by}; "
                    "close it first"
                )
            shift = shifts.open_shift(self._last_number + 1, float_fen, who, now_s, at_entry, outside)
            self._append(_Opened(self._lines + 1, shift))
            self._current, self._last_number = shift, shift.number
            return shift

    def cash_in(self, amount_fen: int, reason: str, who: str, now_s: int) -> Shift:
        """Cash put into the drawer. Raises ShiftNotOpen, ReasonMissing, NameMissing, BadAmount, ShiftFull,
        ShiftFailed. Durable when this returns; so in `cash_out`."""
        shifts.want_cash(amount_fen, 1)
        return self._move(amount_fen, reason, who, now_s)

    def cash_out(self, amount_fen: int, reason: str, who: str, now_s: int) -> Shift:
        """Cash taken out of the drawer. As cash_in; CashShort when it can't hold so much."""
        shifts.want_cash(amount_fen, 1)
        return self._move(-amount_fen, reason, who, now_s)

    def read(
        self,
        totals: Totals,
        now_s: int,
        *,
        unsynced: Unsynced | None = None,
        unfinished: Sequence[Unfinished] = (),
    ) -> ShiftReport:
        """The X report: the figures of the shift that goes on. Changes nothing. Raises ShiftNotOpen."""
        return shifts.report(
            self._open_one(), totals, now_s, unsynced=unsynced, unfinished=unfinished, blind=self.blind
        )

    def close(
        self,
        counted_fen: int,
        note: str,
        difference_reason: str,
        who: str,
        now_s: int,
        *,
        totals: Totals,
        unsynced: Unsynced | None = None,
        unfinished: Sequence[Unfinished] = (),
    ) -> ShiftReport:
        """Close the shift: its Z report, durable when this returns. What is unsynced or unfinished is listed
        and hinders nothing.

        Raises ShiftNotOpen, DifferenceUnexplained, NameMissing, BadAmount, ShiftFailed: then the shift goes
        on as it was, and closing can be tried again.
        """
        with self._turn:
            shift = self._open_one()
            closing = shifts.count(
                *(shift, counted_fen, note, difference_reason, who, now_s), blind=self.blind
            )
            report = shifts.report(
                *(shift, totals, now_s),
                unsynced=unsynced,
                unfinished=unfinished,
                blind=self.blind,
                closing=closing,
            )
            begin, length = self._append(_Closed(self._lines + 1, report))
            self._closed_at.append((begin, length))
            self._current, self._last_entry = None, totals.last
            return report

    def past(self, limit: int) -> list[ShiftReport]:
        """The Z reports of up to `limit` closed shifts, newest first. Raises ShiftDamaged, ShiftFailed."""
        with self._turn:
            chosen = self._closed_at[-limit:] if limit > 0 else []
            return [self._closed_report(begin, length) for begin, length in reversed(chosen)]

    def closed(self, number: int) -> ShiftReport:
        """The Z report of the shift with that number. Raises ShiftNotOpen when no closed one has it."""
        with self._turn:
            if not 1 <= number <= len(self._closed_at):
                raise ShiftNotOpen(f"there is no closed shift with the number {number}")
            return self._closed_report(*self._closed_at[number - 1])

    def close_book(self) -> None:
        """Let the book go; the shift goes on. Again does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_book()

    # ------------------------------------------------------------------------------------------- changes

    def _open_one(self) -> Shift:
        if self._current is None:
            raise ShiftNotOpen("no shift is open; open one first")
        return self._current

    def _move(self, amount_fen: int, reason: str, who: str, now_s: int) -> Shift:
        with self._turn:
            shift = self._open_one()
            movement = shifts.move_cash(shift, amount_fen, reason, who, now_s)
            if len(shift.movements) >= shifts.MAX_MOVEMENTS:
                raise ShiftFull(
                    f"cash went in and out {shifts.MAX_MOVEMENTS} times in this shift; close it, then open "
                    "the next"
                )
            self._append(_Moved(self._lines + 1, movement))
            self._current = _with(shift, movement)
            return self._current

    def _append(self, event: _Event) -> tuple[int, int]:
        """Keep one line; where it lies. When it can't be kept, nothing of it stays."""
        if self._failed or self._handle < 0:
            raise ShiftFailed(self._failed or f"{self.path} is closed; start the terminal again")
        text = msgspec.json.encode(event)
        whole = text + b"\t%08x\n" % crc32(text)
        try:
            if os.pwrite(self._handle, whole, self._end) != len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._handle)
        except OSError as error:
            self._take_back()
            raise ShiftFailed(
                f"{self.path} can't be written ({error.strerror}); nothing was changed: check the disk, "
                "then try again"
            ) from None
        begin = self._end
        self._end += len(whole)
        self._lines = event.line
        return begin, len(whole)

    def _take_back(self) -> None:
        """A line that was not kept must not be found later."""
        try:
            os.ftruncate(self._handle, self._end)
            os.fsync(self._handle)
        except OSError as error:
            self._failed = (
                f"{self.path} can't be written ({error.strerror}): check the disk, then start the terminal "
                "again"
            )

    # ------------------------------------------------------------------------------------------- reading

    def _load(self) -> None:
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            size = os.fstat(self._handle).st_size
            if not size:
                _sync_folder(self.path.parent)
            if size > MAX_BOOK:
                raise ShiftDamaged(f"{self.path} is longer than any book of shifts; {_HELP}")
            for begin, line in self._whole_lines():
                self._take(begin, line)
            self.torn = self._end != size
            if self.torn:
                os.ftruncate(self._handle, self._end)
                os.fsync(self._handle)
        except OSError as error:
            raise ShiftFailed(f"{self.path} can't be read: {error.strerror}") from None

    def _whole_lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines that have an end, each with the place where it begins."""
        with os.fdopen(os.dup(self._handle), "rb") as file:
            file.seek(0)
            while line := file.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise self._damaged()
                if not line.endswith(b"\n"):
                    return
                yield self._end, line
                self._end += len(line)

    def _take(self, begin: int, line: bytes) -> None:
        """What one line tells; it has to follow from those before it."""
        event = self._parse(line)
        if event.line != self._lines + 1:
            raise self._damaged()
        if isinstance(event, _Opened):
            self._take_opened(event.shift)
        elif self._current is None:
            raise self._damaged()
        elif isinstance(event, _Moved):
            if len(self._current.movements) >= shifts.MAX_MOVEMENTS:
                raise self._damaged()
            self._current = _with(self._current, event.movement)
        else:
            self._take_closed(event.report, begin, len(line))
        self._lines = event.line

    def _take_opened(self, shift: Shift) -> None:
        if self._current is not None or shift.number != self._last_number + 1 or shift.movements:
            raise self._damaged()
        self._current, self._last_number = shift, shift.number

    def _take_closed(self, report: ShiftReport, begin: int, length: int) -> None:
        if report.shift != self._current or report.closing is None:
            raise self._damaged()
        self._closed_at.append((begin, length))
        self._current, self._last_entry = None, report.totals.last

    def _parse(self, line: bytes) -> _Event:
        text, _, check = line[:-1].rpartition(b"\t")
        if check != b"%08x" % crc32(text):
            raise self._damaged()
        try:
            return _DECODER.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise self._damaged() from None

    def _closed_report(self, begin: int, length: int) -> ShiftReport:
        try:
            event = self._parse(os.pread(self._handle, length, begin))
        except OSError as error:
            raise ShiftFailed(f"{self.path} can't be read: {error.strerror}") from None
        if not isinstance(event, _Closed):
            raise self._damaged()
        return event.report

    def _damaged(self) -> ShiftDamaged:
        return ShiftDamaged(f"{self.path} is damaged after line {self._lines}; {_HELP}")


_HELP: Final = (
    "nothing in it was changed. Keep a copy for the operator and move the file away: a new book begins with "
    "the next shift. Payments are in the journal and are not touched by this"
)


def _with(shift: Shift, movement: Movement) -> Shift:
    return msgspec.structs.replace(shift, movements=(*shift.movements, movement))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
