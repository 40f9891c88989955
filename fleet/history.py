"""The sales of a terminal's journal, newest first, each with what has become of it on its way to clearing.

A journal may hold a hundred thousand entries, and a till has one screen: so it is walked backwards in bounded
pieces, and no more is kept in memory than what joins the entries of one sale. Those lie close together, since
no other sale begins while one is unresolved; only a payment that arrives after its sale was given up lies
apart, and stands in the list where it arrived.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol, TypeVar

from hardwallet.errors import Malformed
from hardwallet.records import REFUND, Record, parse
from offline_sync import chain
from offline_sync.chain import Entry, Kind
from offline_sync.errors import MessageMalformed
from offline_sync.journal import Rejected
from offline_sync.outbox import RowState, row_state
from pos_terminal.errors import BadAmount, JournalDamaged
from pos_terminal.money import parse_amount
from pos_terminal.receipts import CODE_LENGTH, record_code
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

CHUNK: Final = 250
"""Entries that are read at once: the journal is held that long, and a tap may wait for it."""
LOOK_AT: Final = 2_000
"""Entries that one piece looks at, at most."""
REMEMBERED: Final = 4_096
"""Sales, and refunds, that a walk remembers to join their entries."""
SEARCH_LIMIT: Final = 64
"""Characters of a search that count."""
SHORTEST_CODE: Final = 3
"""Characters at the beginning of a receipt's code that are enough to search by."""
SHORTEST_CARD: Final = 4
"""Digits at the end of a card's number that are enough to search by."""
_CARD_DIGITS: Final = 16
_HEX: Final = frozenset("0123456789abcdef")


class Journal(Protocol):
    """What the list needs of a journal (offline_sync.journal.SqliteJournal)."""

    def head(self) -> tuple[int, bytes]:
        """Index and hash of the last entry."""

    def acknowledged(self) -> int:
        """The last entry that clearing has acknowledged."""

    def needs_review(self) -> list[Rejected]:
        """What clearing did not book."""

    def entries(self, first: int, limit: int) -> list[Entry]:
        """Up to `limit` entries from `first` on, each checked."""

    def sale(self, reference: bytes) -> Sale | None:
        """The sale of a reference (12 bytes)."""


class Show(Enum):
    """Which rows are wanted."""

    ALL = "all"
    UNFINISHED = "unfinished"
    QUEUED = "queued"
    SENDING = "sending"
    ACKNOWLEDGED = "acknowledged"
    REVIEW = "needs review"
    GIVEN_UP = "given up"
    NOT_GRANTED = "paid, not granted"
    REFUNDS = "refunds"
    NOT_PAID = "not paid"


@dataclass(frozen=True, slots=True)
class Row:
    """One sale or refund, or a damaged entry (`sale` is None).

    `index`: the entry by which it stands in the list. `record`: the payment, or the refund's receipt, where
    the card gave one. `refunded_fen`: how much of a payment went back, as far as later entries tell.
    `rejection`: why clearing did not book it.
    """

    index: int
    time_s: int
    queue: RowState
    sale: Sale | None = None
    record: Record | None = None
    refunded_fen: int = 0
    rejection: str = ""

    @property
    def is_refund(self) -> bool:
        """Whether money went to the card."""
        return self.sale is not None and self.sale.profile == REFUND_PROFILE

    @property
    def unsynced(self) -> bool:
        """Whether clearing has not acknowledged all of it."""
        return self.queue is not RowState.ACKNOWLEDGED


@dataclass(frozen=True, slots=True)
class Search:
    """What a person typed, as all that it can be. A row is found when one of them fits."""

    number: int | None = None
    amount_fen: int | None = None
    card: str = ""
    code: str = ""

    def finds(self, amount_fen: int, number: int, card: bytes, record: Record | None) -> bool:
        """Whether a sale with these (card: 8 bytes) is meant."""
        return (
            self.number == number
            or self.amount_fen == amount_fen
            or (bool(self.card) and card.hex().endswith(self.card))
            or (bool(self.code) and record is not None and record_code(record).startswith(self.code))
        )


EVERYTHING: Final = None
"""No search: every row is wanted."""


def parse_search(text: str) -> Search | None:
    """A receipt's number or code, an amount, or the end of a card's number; None for nothing typed.

    Something that can be none of them finds no row.
    """
    wanted = "".join(text[:SEARCH_LIMIT].split())
    if not wanted:
        return EVERYTHING
    plain = wanted.isascii() and wanted.isalnum()
    try:
        amount_fen = parse_amount(wanted)
    except BadAmount:
        amount_fen = None
    is_hex = plain and SHORTEST_CARD <= len(wanted) <= _CARD_DIGITS and not set(wanted.lower()) - _HEX
    return Search(
        int(wanted) if plain and wanted.isdigit() else None,
        amount_fen,
        wanted.lower() if is_hex else "",
        wanted.upper() if plain and SHORTEST_CODE <= len(wanted) <= CODE_LENGTH else "",
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows. `looked_at`: entries looked at so far, of `entries`; `done`: there are no more rows."""

    rows: list[Row]
    looked_at: int
    entries: int
    done: bool


@dataclass(slots=True)
class _Trail:
    """What a walk has met of a sale, newest first: its entries, and the state that the newest gives."""

    newest: int
    state: SaleState = SaleState.UNRESOLVED
    listed: bool = False
    rejection: str = ""


class Walk:
    """One walk through a journal, from its newest entry of now to its first. Raises JournalError.

    `sending_to`: the last entry of an upload under way. One thread at a time.
    """

    def __init__(
        self, journal: Journal, show: Show = Show.ALL, search: Search | None = EVERYTHING, sending_to: int = 0
    ) -> None:
        self._journal = journal
        self._show, self._search, self._sending_to = show, search, sending_to
        self._entries = self._left = journal.head()[0]
        self._review = {item.index: item.reason for item in journal.needs_review()}
        self._acknowledged = journal.acknowledged()
        self._trails: OrderedDict[bytes, _Trail] = OrderedDict()
        self._receipts: OrderedDict[bytes, Record] = OrderedDict()
        self._refunded: OrderedDict[tuple[bytes, int], int] = OrderedDict()
        self._found: list[Row] = []

    def more(self, rows: int, look_at: int = LOOK_AT) -> Piece:
        """The next rows, up to `rows`, from up to `look_at` entries: none may be among them, and more
        behind."""
        self._acknowledged = self._journal.acknowledged()
        end = max(0, self._left - look_at)
        while self._left > end and len(self._found) < rows:
            first = max(end, self._left - CHUNK) + 1
            for entry in reversed(self._journal.entries(first, self._left - first + 1)):
                self._take(entry)
            self._left = first - 1
        shown, self._found = self._found[:rows], self._found[rows:]
        done = self._left == 0 and not self._found
        return Piece(shown, self._entries - self._left, self._entries, done)

    # ------------------------------------------------------------------ one entry

    def _take(self, entry: Entry) -> None:
        if entry.damaged:
            self._take_damaged(entry)
            return
        try:
            if entry.kind == Kind.OWN_PAYMENT:
                self._take_payment(entry)
            elif entry.kind == Kind.CARRIED:
                self._take_carried(entry)
            elif entry.kind == Kind.SALE_CHANGED:
                changed = chain.parse_changed(entry.payload)
                self._met(changed.reference, entry, changed.state)
            elif entry.kind == Kind.SALE_OPENED:
                self._take_opened(entry)
        except (MessageMalformed, Malformed):
            self._take_damaged(entry)

    def _take_damaged(self, entry: Entry) -> None:
        if self._search is EVERYTHING and self._show in (Show.ALL, Show.REVIEW):
            self._found.append(Row(entry.index, entry.time_s, RowState.DAMAGED))

    def _take_payment(self, entry: Entry) -> None:
        state, raw = chain.parse_own(entry.payload)
        record = parse(raw)
        trail = self._met(record.reference, entry, state)
        sale = Sale(
            *(record.reference, record.amount_fen, record.currency, record.profile),
            *(record.transaction, record.time_s),
            card=record.card,
            sequence=record.sequence,
        )
        refunded_fen = self._refunded.get((record.card, record.sequence), 0)
        self._list(trail, Row(entry.index, entry.time_s, RowState.QUEUED, sale, record, refunded_fen))

    def _take_carried(self, entry: Entry) -> None:
        """Of what is carried, only a refund's receipt belongs to a sale of this terminal."""
        record = parse(entry.payload)
        if record.kind == REFUND:
            _remember(self._receipts, record.card + record.reference[:8], record)

    def _take_opened(self, entry: Entry) -> None:
        opened = chain.parse_opened(entry.payload)
        trail = self._met(opened.reference, entry, SaleState.UNRESOLVED)
        sale = Sale(
            *(opened.reference, opened.amount_fen, opened.currency, opened.profile),
            *(opened.transaction, entry.time_s),
            card=opened.card,
        )
        if opened.profile != REFUND_PROFILE:
            self._list(trail, Row(entry.index, entry.time_s, RowState.QUEUED, sale))
            return
        receipt = self._receipts.get(opened.card + opened.reference[:8])
        if trail.state is SaleState.GRANTED and not trail.listed:
            refunded = opened.card, int.from_bytes(opened.reference[:4], "big")
            _remember(self._refunded, refunded, self._refunded.get(refunded, 0) + opened.amount_fen)
        self._list(trail, Row(entry.index, entry.time_s, RowState.QUEUED, sale, receipt))

    def _met(self, reference: bytes, entry: Entry, state: SaleState) -> _Trail:
        """The trail of a sale, this entry included. The first one met is the newest, and gives the state."""
        trail = self._trails.get(reference)
        if trail is None:
            trail = _Trail(entry.index, state)
        _remember(self._trails, reference, trail)
        trail.rejection = trail.rejection or self._review.get(entry.index, "")
        return trail

    # ------------------------------------------------------------------ is it wanted?

    def _list(self, trail: _Trail, row: Row) -> None:
        """Put a sale on the list, once, when it is wanted: first by what costs nothing to look at."""
        listed, trail.listed = trail.listed, True
        sale = row.sale
        if listed or sale is None:
            return
        queue = self._queue(trail)
        row = replace(row, queue=queue, rejection=trail.rejection, sale=replace(sale, state=trail.state))
        found = self._search is EVERYTHING or self._search.finds(
            sale.amount_fen, sale.transaction, sale.card, row.record
        )
        if found and _is_shown(self._show, row, trail.state):
            self._list_kept(row, sale)

    def _list_kept(self, row: Row, sale: Sale) -> None:
        """The journal has the last word on state and reason. A sale whose payment came much later stands
        where that arrived."""
        try:
            kept = self._journal.sale(sale.reference)
        except JournalDamaged:
            kept = None
        if kept is None:
            self._found.append(replace(row, queue=RowState.DAMAGED))
        elif bool(kept.sequence) == bool(sale.sequence) and _is_shown(self._show, row, kept.state):
            self._found.append(replace(row, sale=kept))

    def _queue(self, trail: _Trail) -> RowState:
        newest = Entry(trail.newest, 0, 0, b"", chain.NO_HASH)
        review: Collection[int] = (trail.newest,) if trail.rejection else ()
        return row_state(newest, acknowledged=self._acknowledged, sending_to=self._sending_to, review=review)


_BY_QUEUE: Final = {
    Show.QUEUED: RowState.QUEUED,
    Show.SENDING: RowState.SENDING,
    Show.ACKNOWLEDGED: RowState.ACKNOWLEDGED,
    Show.REVIEW: RowState.NEEDS_REVIEW,
}
_BY_STATE: Final = {
    Show.UNFINISHED: (SaleState.UNRESOLVED,),
    Show.GIVEN_UP: (SaleState.GIVEN_UP,),
    Show.NOT_GRANTED: (SaleState.PAID_NOT_GRANTED,),
    Show.NOT_PAID: (SaleState.OPEN, SaleState.DECLINED),
}


def _is_shown(show: Show, row: Row, state: SaleState) -> bool:
    """Whether a row in that state passes the filter."""
    if show is Show.REFUNDS:
        return row.is_refund or row.refunded_fen > 0
    if show in _BY_QUEUE:
        return row.queue is _BY_QUEUE[show]
    return show is Show.ALL or state in _BY_STATE[show]


def _remember(held: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep a value, and let the one go that was not met for the longest time."""
    held[key] = value
    held.move_to_end(key)
    if len(held) > REMEMBERED:
        held.popitem(last=False)
