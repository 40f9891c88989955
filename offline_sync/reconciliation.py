"""What two lists of the same money disagree about: clearing's settlement file and a merchant's own books.

Pure, and bounded: rows are spread over parts by the hash of what names them, and compared part by part. Of a
million rows a part holds about 31,000 of each side; nothing else grows with the lists but the differences
that are listed, and of those at most LISTED of each class are. Counts and sums are of all.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import BinaryIO, Final, Self
from zlib import crc32

import msgspec

from offline_sync.settlement import ONCE, UNSAID, Row, time_text

PARTS: Final = 32
LISTED: Final = 1_000
"""Differences of one class that are listed."""
Spool = Callable[[], AbstractContextManager[BinaryIO]]
"""Gives an empty binary file to write to and read from, which is removed when it is left."""


class Class(StrEnum):
    """What a difference is."""

    ONLY_OURS = "only-ours"
    ONLY_THEIRS = "only-theirs"
    AMOUNT_DIFFERS = "amount-differs"
    DUPLICATE = "duplicate"
    LATE = "late"


class Difference(msgspec.Struct, frozen=True):
    """One disagreement. `ours_fen` and `theirs_fen`: what the payee got by it in each list, below zero where
    it gave; None where the list itself has no such row. `detail` says more in words.
    """

    difference: Class
    time: str
    kind: str
    terminal: str
    transaction: int
    card: str
    sequence: int
    reference: str
    code: str
    ours_fen: int | None
    theirs_fen: int | None
    detail: str


class Sum(msgspec.Struct, frozen=True):
    """How many differences of a class, and what they come to: ours and theirs in fen."""

    count: int
    ours_fen: int
    theirs_fen: int


class Reconciliation(msgspec.Struct, frozen=True):
    """The comparison of two lists. `matched` counts rows on which both agree. `difference_fen` is what their
    list comes to above ours; the differences of all classes add up to it.
    """

    ours: Sum
    theirs: Sum
    matched: int
    sums: dict[str, Sum]
    differences: list[Difference]

    @property
    def agree(self) -> bool:
        """Whether there is no difference."""
        return not any(one.count for one in self.sums.values())


class Rows:
    """The rows of one or more lists, spread over PARTS files by what names them. Leave it to let the files
    go.
    """

    def __init__(self, spool: Spool) -> None:
        self._open = ExitStack()
        self._files = [self._open.enter_context(spool()) for _ in range(PARTS)]
        self.count = 0
        self.amount_fen = 0

    def take(self, row: Row) -> None:
        """Add a row: what offline_sync.settlement.read hands its rows to."""
        name = (
            f"{time_text(row.time_s)},{row.kind},{row.terminal},{row.transaction},{row.card},{row.sequence},"
            f"{row.reference},{row.code}"
        ).encode()
        amount_fen = row.credit_fen - row.debit_fen
        self._files[crc32(name) % PARTS].write(b"%b|%d|%b\n" % (name, amount_fen, row.disposition.encode()))
        self.count += 1
        self.amount_fen += amount_fen

    def part(self, place: int) -> Iterator[tuple[str, int, str]]:
        """What names each row of a part, its amount in fen and its disposition, in the order in which they
        came.
        """
        file = self._files[place]
        file.seek(0)
        for line in file:
            name, amount, disposition = line[:-1].decode().split("|")
            yield name, int(amount), disposition

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


@dataclass(frozen=True, slots=True)
class Side:
    """One side's lists. `rows`: those that are compared. `other`: rows of its other days, among which a row
    that only the other side has may turn up. `cut_s`: when this side's day was closed, where that is known:
    nothing that a card signed later can be in it.
    """

    rows: Rows
    other: Rows
    cut_s: int | None = None


def reconcile(ours: Side, theirs: Side) -> Reconciliation:
    """Compare two lists, row by row. A row is named by all that its record holds but the amount; payments and
    refunds stand in a list once, movements of other kinds are added up.
    """
    found = _Found()
    matched = sum(_compare(_Part.of(ours, place), _Part.of(theirs, place), found) for place in range(PARTS))
    return Reconciliation(
        ours=Sum(ours.rows.count, ours.rows.amount_fen, 0),
        theirs=Sum(theirs.rows.count, 0, theirs.rows.amount_fen),
        matched=matched,
        sums={name.value: Sum(*found.sums[name]) for name in Class},
        differences=[one for name in Class for one in found.listed(name)],
    )


class _Found:
    """The differences so far: all of them counted, the first ones of each class by time kept."""

    def __init__(self) -> None:
        self.sums = {name: [0, 0, 0] for name in Class}
        self._kept: dict[Class, list[Difference]] = {name: [] for name in Class}

    def add(
        self,
        what: Class,
        name: str,
        detail: str,
        *,
        ours_fen: int | None = None,
        theirs_fen: int | None = None,
    ) -> None:
        sums = self.sums[what]
        sums[0] += 1
        sums[1] += ours_fen or 0
        sums[2] += theirs_fen or 0
        time, kind, terminal, transaction, card, sequence, reference, code = name.split(",")
        kept = self._kept[what]
        kept.append(
            Difference(
                *(what, time, kind, terminal, int(transaction), card, int(sequence), reference, code),
                *(ours_fen, theirs_fen, detail),
            )
        )
        if len(kept) >= 4 * LISTED:
            kept[:] = self.listed(what)

    def listed(self, what: Class) -> list[Difference]:
        return sorted(self._kept[what], key=_order)[:LISTED]


def _order(one: Difference) -> tuple[str, str, int, str, str]:
    return one.time, one.card, one.sequence, one.kind, one.code


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of one side. `rows`: by name, (amount, disposition); `again`: rows beyond the first of what
    stands in a list once; `other`: the amounts in its other lists.
    """

    rows: dict[str, tuple[int, str]]
    again: list[tuple[str, int]]
    other: dict[str, int]
    cut: str

    @classmethod
    def of(cls, side: Side, place: int) -> "_Part":
        rows: dict[str, tuple[int, str]] = {}
        again = []
        for name, amount_fen, disposition in side.rows.part(place):
            if name not in rows:
                rows[name] = amount_fen, disposition
            elif _kind(name) in ONCE:
                again.append((name, amount_fen))
            else:
                rows[name] = rows[name][0] + amount_fen, disposition
        other: dict[str, int] = {}
        for name, amount_fen, _ in side.other.part(place):
            once = _kind(name) in ONCE
            other[name] = amount_fen if once else other.get(name, 0) + amount_fen
        return cls(rows, again, other, "" if side.cut_s is None else time_text(side.cut_s))


def _kind(name: str) -> str:
    return name.split(",", 2)[1]


def _compare(ours: _Part, theirs: _Part, found: _Found) -> int:
    """Note the differences of a part; how many rows match."""
    matched = 0
    for name, (ours_fen, what) in ours.rows.items():
        if name not in theirs.rows:
            kind, detail = _missing(name, ours_fen, theirs, "theirs")
            found.add(kind or Class.ONLY_OURS, name, detail, ours_fen=ours_fen)
            continue
        theirs_fen, other = theirs.rows[name]
        if ours_fen != theirs_fen:
            found.add(Class.AMOUNT_DIFFERS, name, "", ours_fen=ours_fen, theirs_fen=theirs_fen)
        elif what != other and UNSAID not in (what, other):
            detail = f"{what} in ours, {other} in theirs"
            found.add(Class.LATE, name, detail, ours_fen=ours_fen, theirs_fen=theirs_fen)
        else:
            matched += 1
    for name, (theirs_fen, _) in theirs.rows.items():
        if name not in ours.rows:
            kind, detail = _missing(name, theirs_fen, ours, "ours")
            found.add(kind or Class.ONLY_THEIRS, name, detail, theirs_fen=theirs_fen)
    _note_again(ours, theirs, found)
    return matched


def _missing(name: str, amount_fen: int, there: _Part, whose: str) -> tuple[Class | None, str]:
    """Why a row that one side has is not in the other one's list: its class when there is a reason."""
    if name in there.other:
        if there.other[name] != amount_fen:
            return Class.AMOUNT_DIFFERS, f"another list of {whose} has it with {there.other[name]} fen"
        return Class.LATE, f"it stands in another list of {whose}"
    if there.cut and name.split(",", 1)[0] > there.cut:
        return Class.LATE, f"the card signed it after {whose} was closed"
    return None, ""


def _note_again(ours: _Part, theirs: _Part, found: _Found) -> None:
    for name, amount_fen in ours.again:
        found.add(Class.DUPLICATE, name, "twice in ours", ours_fen=amount_fen)
    for name, amount_fen in theirs.again:
        found.add(Class.DUPLICATE, name, "twice in theirs", theirs_fen=amount_fen)
    for side, whose in ((ours, "ours"), (theirs, "theirs")):
        for name in side.rows.keys() & side.other.keys():
            if _kind(name) in ONCE:
                found.add(Class.DUPLICATE, name, f"in another list of {whose} too")
