"""What a run must not forget when the power goes: a few lines beside the terminal's journal.

    DIR/run.jsonl   the run under way, or the last one; JSON, a tab, its CRC-32 (hardwallet/journalled.py)

Paid rides are not here: the terminal's journal holds them. Here is which run it is, where the bus stands, and
the rides that no record of this terminal tells: free ones, and those that a sibling had taken.
"""

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from hardwallet.errors import IssuingError
from hardwallet.journalled import IssuingJournal
from pos_terminal.errors import StoreFailed

RUN_FILE: Final = "run.jsonl"
MAX_RIDES: Final = 20_000
"""Lines of one run: more rides and stops than a bus has in a day. Its end is kept beyond it."""


class Begun(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The run's first line. `entry`: the journal's head when it began; `vehicle` as hex."""

    kind: str
    day: int
    number: int
    line: str
    direction: str
    vehicle: str
    entry: int
    time_s: int


class At(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the bus stands, and what was counted so far that is no ride."""

    kind: str
    stop: int
    refused: int
    again: int
    torn: int


class Ride(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A ride without a record of this terminal; reference and card as hex."""

    kind: str
    reference: str
    card: str
    rider: int
    passenger: int
    amount_fen: int
    time_s: int


class Ended(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The run's last line, with all that was counted. `riders` by the number of their class."""

    kind: str
    time_s: int
    riders: dict[int, int]
    free: int
    amount_fen: int
    refused: int
    again: int
    torn: int


Line = Begun | At | Ride | Ended
_KINDS: Final[dict[str, type[Line]]] = {"begun": Begun, "at": At, "ride": Ride, "ended": Ended}


class RunStore:
    """The lines of one run, each on the disk before `append` returns. Close it when done.

    Raises StoreFailed when the file is damaged or can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RUN_FILE
        self._journal = self._open(self._path)
        try:
            self.lines = [self._parsed(line) for line in self._journal.lines]
            if self.lines and not isinstance(self.lines[0], Begun):
                raise self._damaged()
        except BaseException:
            self._journal.close()
            raise

    def append(self, line: Line) -> None:
        """Keep one line. Raises StoreFailed: then it is not kept."""
        if len(self.lines) >= MAX_RIDES and not isinstance(line, Ended):
            raise StoreFailed("this run has more rides than it can hold; end it and begin the next one")
        try:
            self._journal.append(msgspec.to_builtins(line, str_keys=True))
        except (IssuingError, OSError) as error:
            raise StoreFailed(f"{self._path} can't be written ({error}); nothing was kept") from None
        self.lines.append(line)

    def begin(self, line: Begun) -> None:
        """A new run in place of the last one, whole or not at all. Raises StoreFailed."""
        partial = self._path.with_suffix(".partial")
        try:
            partial.unlink(missing_ok=True)
            journal = self._open(partial)
            try:
                journal.append(msgspec.to_builtins(line, str_keys=True))
                partial.rename(self._path)
            except BaseException:
                journal.close()
                raise
            self._journal.close()
            self._journal, self.lines = journal, [line]
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except (IssuingError, OSError) as error:
            raise StoreFailed(f"{self._path} can't be written ({error}); no run was begun") from None

    def close(self) -> None:
        """Let the file go. Closing twice does nothing."""
        self._journal.close()

    def _open(self, path: Path) -> IssuingJournal:
        try:
            return IssuingJournal(path)
        except OSError as error:
            raise StoreFailed(f"{path} can't be opened: {error.strerror}") from None
        except (IssuingError, msgspec.DecodeError):
            raise self._damaged() from None

    def _parsed(self, line: dict[str, Any]) -> Line:
        kind = _KINDS.get(str(line.get("kind")))
        if kind is None:
            raise self._damaged()
        try:
            return msgspec.convert(line, kind, strict=False)
        except msgspec.ValidationError:
            raise self._damaged() from None

    def _damaged(self) -> StoreFailed:
        return StoreFailed(
            f"{self._path} is damaged or in use by another program; if no other program runs, move the file "
            "away and begin the run again: who has paid stays paid"
        )
