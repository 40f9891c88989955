"""Where the book of shifts meets the terminal's clock and journal: what a till's shift screen calls."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fleet.open import TerminalSession
from offline_sync.journal import SqliteJournal
from offline_sync.shift_totals import TotalsCursor, shift_totals, unfinished, unsynced
from pos_terminal.errors import ShiftDamaged, ShiftNotOpen
from pos_terminal.shift import Shift, ShiftReport, Tally, Totals
from pos_terminal.shift_store import ShiftBook
from pos_terminal.terminal import Terminal


class ShiftDesk:
    """The shifts of a terminal at work. Any thread may call; nothing waits for the network.

    Raises ShiftError, JournalError, and ClockWrong: no shift begins or ends at a time that can't be right.
    """

    def __init__(
        self,
        terminal: Terminal,
        journal: SqliteJournal,
        book: ShiftBook | ShiftDamaged,
        *,
        required: bool = False,
    ) -> None:
        """`required`: nothing is sold without an open shift. A `book` that is damaged is told by whatever
        needs it; the till sells all the same, unless `required`."""
        self._terminal = terminal
        self._journal = journal
        self._found = book
        self._required = required
        self._turn = threading.RLock()
        self._cursor: tuple[int, TotalsCursor] | None = None  # with the number of its shift

    @property
    def current(self) -> Shift | None:
        """The shift that goes on, or None; None too while the book is damaged."""
        return None if isinstance(self._found, ShiftDamaged) else self._found.current

    @property
    def damage(self) -> str:
        """What is wrong with the book and what to do, or nothing."""
        return str(self._found) if isinstance(self._found, ShiftDamaged) else ""

    @property
    def blind(self) -> bool:
        """Whether the drawer is counted before anybody is shown what it has to hold."""
        return not isinstance(self._found, ShiftDamaged) and self._found.blind

    @property
    def torn(self) -> bool:
        """Whether the book's last line was cut off at the start: a power cut before it was confirmed."""
        return not isinstance(self._found, ShiftDamaged) and self._found.torn

    def require_open(self) -> None:
        """Raises ShiftNotOpen when this terminal sells in shifts only, and none is open."""
        if self._required and self.current is None:
            raise ShiftNotOpen(
                self.damage or "no shift is open, and this terminal sells in shifts only; open one first"
            )

    def open(self, float_fen: int, who: str) -> Shift:
        """A new shift with `float_fen` in the drawer."""
        with self._turn:
            now_s = self._terminal.now()
            head = self._journal.head()[0]
            return self._book.open(float_fen, who, now_s, head, self._outside(head))

    def cash_in(self, amount_fen: int, reason: str, who: str) -> Shift:
        """Cash put into the drawer."""
        return self._book.cash_in(amount_fen, reason, who, self._terminal.now())

    def cash_out(self, amount_fen: int, reason: str, who: str) -> Shift:
        """Cash taken out of the drawer."""
        return self._book.cash_out(amount_fen, reason, who, self._terminal.now())

    def read(self) -> ShiftReport:
        """The X report: the figures so far. Changes nothing; tells the machine's time, right or wrong."""
        with self._turn:
            return self._book.read(
                self._totals(),
                self._terminal.clock(),
                unsynced=unsynced(self._journal),
                unfinished=unfinished(self._journal),
            )

    def close(self, counted_fen: int, note: str, difference_reason: str, who: str) -> ShiftReport:
        """Close the shift with what was counted: the Z report. When it fails, the shift goes on as it was."""
        with self._turn:
            report = self._book.close(
                *(counted_fen, note, difference_reason, who, self._terminal.now()),
                totals=self._totals(),
                unsynced=unsynced(self._journal),
                unfinished=unfinished(self._journal),
            )
            self._cursor = None
            return report

    def past(self, limit: int) -> list[ShiftReport]:
        """The Z reports of the last closed shifts, newest first."""
        return self._book.past(limit)

    def closed(self, number: int) -> ShiftReport:
        """The Z report of the shift with that number."""
        return self._book.closed(number)

    @property
    def _book(self) -> ShiftBook:
        if isinstance(self._found, ShiftDamaged):
            raise ShiftDamaged(str(self._found))
        return self._found

    def _totals(self) -> Totals:
        shift = self._book.current
        if shift is None:
            raise ShiftNotOpen("no shift is open; open one first")
        if self._cursor is None or self._cursor[0] != shift.number:
            self._cursor = shift.number, TotalsCursor(self._journal, shift.first)
        return self._cursor[1].totals()

    def _outside(self, head: int) -> Tally:
        """What was granted after the shift before. Before the first shift there were none to belong to."""
        first = self._book.last_entry
        return Tally() if first is None else shift_totals(self._journal, first, head).granted


@contextmanager
def open_desk(session: TerminalSession) -> Iterator[ShiftDesk]:
    """The shifts of an open terminal, by its settings. A book that is damaged is told by the desk.

    Raises StoreBusy, StoreFailed, ShiftFailed.
    """
    settings = session.folder.settings.shift
    with ExitStack() as held:
        book: ShiftBook | ShiftDamaged
        try:
            book = held.enter_context(ShiftBook(session.folder.path, blind=settings.blind_count))
        except ShiftDamaged as damage:
            book = damage
        yield ShiftDesk(session.terminal, session.journal, book, required=settings.required)


def require_shift(session: TerminalSession) -> None:
    """Raises ShiftNotOpen when the terminal's settings ask for an open shift before it sells, and none is."""
    if session.folder.settings.shift.required:
        with open_desk(session) as desk:
            desk.require_open()
