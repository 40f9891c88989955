"""A book of shifts through a long life: any acts in any order, restarts, power cuts in mid-write."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pos_terminal.errors import CashShort, DifferenceUnexplained, ShiftAlreadyOpen, ShiftNotOpen
from pos_terminal.shift import Totals
from pos_terminal.shift_store import BOOK, ShiftBook
from tests.pos_terminal.conftest import MEMORY

NOW = 1_790_000_000
CASH = st.integers(1, 5_000)


class Life(RuleBasedStateMachine):
    """The book, and beside it what it has to hold: cash or nothing, and the differences of closed shifts."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.path = Path(self.folder.name)
        self.book = ShiftBook(self.path)
        self.held_fen: int | None = None
        self.closed: list[int] = []

    def teardown(self) -> None:
        self.book.close_book()
        self.folder.cleanup()

    @rule(float_fen=CASH)
    def open(self, float_fen: int) -> None:
        try:
            self.book.open(float_fen, "Li", NOW, 0)
        except ShiftAlreadyOpen:
            assert self.held_fen is not None
            return
        assert self.held_fen is None
        self.held_fen = float_fen

    @rule(amount_fen=CASH)
    def cash_in(self, amount_fen: int) -> None:
        try:
            self.book.cash_in(amount_fen, "change", "Li", NOW)
        except ShiftNotOpen:
            assert self.held_fen is None
            return
        assert self.held_fen is not None
        self.held_fen += amount_fen

    @rule(amount_fen=CASH)
    def cash_out(self, amount_fen: int) -> None:
        try:
            self.book.cash_out(amount_fen, "bank", "Li", NOW)
        except ShiftNotOpen:
            assert self.held_fen is None
            return
        except CashShort:
            assert self.held_fen is not None
            assert self.held_fen < amount_fen
            return
        assert self.held_fen is not None
        self.held_fen -= amount_fen

    @rule(off_fen=st.integers(-3, 3), reason=st.sampled_from(["", "a coin"]))
    def close(self, off_fen: int, reason: str) -> None:
        if self.held_fen is None or self.held_fen + off_fen < 0:
            return
        try:
            self.book.close(self.held_fen + off_fen, "", reason, "Li", NOW, totals=Totals())
        except DifferenceUnexplained:
            assert off_fen
            assert not reason
            return
        self.closed.append(off_fen)
        self.held_fen = None

    @rule()
    def restart(self) -> None:
        self.book.close_book()
        self.book = ShiftBook(self.path)
        assert not self.book.torn

    @precondition(lambda self: self.held_fen is not None)
    @rule(part=st.floats(0.01, 0.99))
    def power_cut(self, part: float) -> None:
        """In the middle of a write that was not confirmed."""
        file = self.path / BOOK
        before = file.read_bytes()
        self.book.cash_in(7, "never confirmed", "Li", NOW)
        whole = file.read_bytes()
        self.book.close_book()
        cut = max(len(before) + 1, int(len(before) + part * (len(whole) - len(before))))
        file.write_bytes(whole[:cut])
        self.book = ShiftBook(self.path)
        assert self.book.torn

    @invariant()
    def holds_what_it_has_to(self) -> None:
        current = self.book.current
        assert (None if current is None else current.expected_fen) == self.held_fen
        assert [report.difference_fen for report in self.book.past(99)] == self.closed[::-1]


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
