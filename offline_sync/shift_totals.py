"""What a terminal's journal tells about a shift: its totals, what is not sent yet, what is unfinished."""

from typing import Final

from hardwallet.errors import Malformed
from hardwallet.records import REFUND, Record
from hardwallet.records import parse as parse_record
from offline_sync import chain, outbox
from offline_sync.chain import Entry, Kind
from offline_sync.errors import MessageMalformed
from offline_sync.journal import SqliteJournal
from pos_terminal.errors import JournalDamaged
from pos_terminal.sale import REFUND_PROFILE, SaleState
from pos_terminal.shift import LISTED, Item, Tally, Totals, Unfinished, Unsynced

PIECE: Final = 250
"""Entries that are read at a time: between two pieces a tap gets its turn."""


class TotalsCursor:
    """The totals of the entries after `first`, kept up: each call reads only what is new.

    One thread at a time. Raises JournalError.
    """

    def __init__(self, journal: SqliteJournal, first: int) -> None:
        self._journal = journal
        self._last = first
        self._granted = _Sum()
        self._refunded = _Sum()
        self._states = {
            state: _Sum() for state in (SaleState.GIVEN_UP, SaleState.PAID_NOT_GRANTED, SaleState.DECLINED)
        }
        self._opened: dict[bytes, int] = {}  # amounts of the sales whose end is not read yet
        self._carried = self._damaged = 0

    def totals(self, last: int | None = None) -> Totals:
        """The totals up to entry `last`, or up to the journal's newest."""
        end = self._journal.head()[0] if last is None else last
        while self._last < end:
            entries = self._journal.entries(self._last + 1, min(PIECE, end - self._last))
            if not entries:
                break
            for entry in entries:
                self._take(entry)
                self._last = entry.index  # one by one: what fails in the middle is not counted twice
        return self._result()

    def _result(self) -> Totals:
        return Totals(
            granted=self._granted.tally(),
            refunded=self._refunded.tally(),
            given_up=self._states[SaleState.GIVEN_UP].tally(),
            paid_not_granted=self._states[SaleState.PAID_NOT_GRANTED].tally(),
            declined=self._states[SaleState.DECLINED].tally(),
            carried=self._carried,
            damaged=self._damaged,
            last=self._last,
        )

    def _take(self, entry: Entry) -> None:
        try:
            if entry.damaged:
                raise MessageMalformed(f"entry {entry.index} is damaged")
            self._count(entry)
        except (MessageMalformed, Malformed):
            self._damaged += 1  # a shift can be closed all the same

    def _count(self, entry: Entry) -> None:
        record = chain.record_in(entry.kind, entry.payload)
        if entry.kind == Kind.OWN_PAYMENT and record is not None:
            self._take_payment(entry.payload[0], parse_record(record))
        elif entry.kind == Kind.CARRIED and record is not None:
            self._take_carried(parse_record(record))
        elif entry.kind == Kind.SALE_OPENED:
            opened = chain.parse_opened(entry.payload)
            self._opened[opened.reference] = opened.amount_fen
        elif entry.kind == Kind.SALE_CHANGED:
            self._take_change(chain.parse_changed(entry.payload))

    def _take_payment(self, state: int, record: Record) -> None:
        self._opened.pop(record.reference, None)
        if state == SaleState.GRANTED:
            self._granted.add(record.amount_fen)
        else:
            self._states[SaleState.PAID_NOT_GRANTED].add(record.amount_fen)

    def _take_carried(self, record: Record) -> None:
        """A refund counts by its receipt: that is when the card has the money."""
        if record.kind == REFUND and is_own(self._journal, record):
            self._refunded.add(record.amount_fen)
        else:
            self._carried += 1

    def _take_change(self, change: chain.Changed) -> None:
        counted = self._states.get(change.state)
        if counted is not None:
            counted.add(self._amount_of(change.reference))
        if change.state not in (SaleState.OPEN, SaleState.UNRESOLVED):
            self._opened.pop(change.reference, None)

    def _amount_of(self, reference: bytes) -> int:
        known = self._opened.get(reference)
        if known is not None:
            return known
        try:
            sale = self._journal.sale(reference)
        except JournalDamaged:
            return 0
        return sale.amount_fen if sale is not None else 0


class _Sum:
    """A tally that grows."""

    __slots__ = ("amount_fen", "count")

    def __init__(self) -> None:
        self.count = self.amount_fen = 0

    def add(self, amount_fen: int) -> None:
        self.count += 1
        self.amount_fen += amount_fen

    def tally(self) -> Tally:
        return Tally(self.count, self.amount_fen)


def shift_totals(journal: SqliteJournal, first: int, last: int) -> Totals:
    """The totals of the entries after `first`, up to `last`. Raises JournalError."""
    return TotalsCursor(journal, first).totals(last)


def unsynced(journal: SqliteJournal) -> Unsynced:
    """What clearing has not acknowledged: counted, and the oldest 200 payments, refunds and damaged entries
    of it, one by one. Raises JournalError."""
    waiting, acknowledged, head = journal.waiting(), journal.acknowledged(), journal.head()[0]
    review = {item.index for item in journal.needs_review()}
    items: list[Item] = []
    at = acknowledged + 1
    while at <= head and len(items) < LISTED:
        entries = journal.entries(at, PIECE)
        for entry in entries:
            item = _item(journal, entry, outbox.row_state(entry, acknowledged=acknowledged, review=review))
            if item is not None and len(items) < LISTED:
                items.append(item)
        at += len(entries) or PIECE
    return Unsynced(Tally(waiting.count, waiting.amount_fen), waiting.carried, waiting.entries, tuple(items))


def _item(journal: SqliteJournal, entry: Entry, state: outbox.RowState) -> Item | None:
    if entry.damaged:
        return Item(entry.index, 0, entry.time_s, 0, "damaged", state.value)
    raw = chain.record_in(entry.kind, entry.payload)
    if raw is None:
        return None
    try:
        record = parse_record(raw)
    except Malformed:
        return Item(entry.index, 0, entry.time_s, 0, "damaged", state.value)
    if entry.kind == Kind.OWN_PAYMENT:
        kind = "payment"
    elif record.kind == REFUND and is_own(journal, record):
        kind = "refund"
    else:
        return None
    return Item(entry.index, record.transaction, entry.time_s, record.amount_fen, kind, state.value)


def is_own(journal: SqliteJournal, record: Record) -> bool:
    """Whether a record names the journal's own terminal."""
    return (record.payee, record.terminal) == (journal.payee, journal.terminal)


def unfinished(journal: SqliteJournal) -> list[Unfinished]:
    """Sales and refunds that asked a card and know no answer, oldest first. Raises JournalError."""
    return [
        Unfinished(
            sale.transaction,
            sale.time_s,
            sale.amount_fen,
            "refund" if sale.profile == REFUND_PROFILE else "payment",
            sale.card.hex(),
        )
        for sale in journal.unresolved()
    ]
