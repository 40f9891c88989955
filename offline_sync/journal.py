"""The terminal's durable store: an append-only, hash-chained journal in SQLite. The only importer of sqlite3.

The chain of entries is the truth. A payment is one INSERT and one fsync; the tables by which a sale or a
payment is found again are an index over the chain, written in larger steps and brought up to date from the
chain when the program starts. Nothing is read from the index without checking the entry behind it.

WAL with synchronous=NORMAL loses acknowledged payments in nearly every power cut, with FULL in none. So FULL
is set and read back.
"""

import fcntl
import os
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from hardwallet import records
from hardwallet.records import Record
from offline_sync import chain
from offline_sync.chain import Entry, Kind
from offline_sync.errors import JournalForeign, JournalLocked, JournalNewer, MessageMalformed
from pos_terminal.errors import (
    ClockWrong,
    JournalBusy,
    JournalDamaged,
    JournalError,
    JournalFailed,
    JournalFull,
    NoSuchSale,
    ReferenceReused,
)
from pos_terminal.ports import CardCertificate, StoredPayment, Waiting
from pos_terminal.sale import Sale, SaleState

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x48574A4C  # "HWJL" in the database's header
BLOCK: Final = 64
"""Transaction numbers reserved at a time."""
BLOCK_SECONDS: Final = 8
"""The floor of the numbers rises by one block in this time, so that an old copy of the store repeats none."""
NUMBERS_BEGIN_S: Final = 1_767_225_600  # 2026-01-01T00:00:00Z
LAST_NUMBER: Final = 2**32 - 1
TAIL: Final = 1_000
"""Entries that are verified whenever the journal opens."""
INDEX_EVERY: Final = 512
"""Entries after which the index is written, with the next checkpoint."""
CHECKPOINT_EVERY: Final = 128
"""Entries between two checkpoints of the write-ahead log, about half a megabyte of it. After one, the log is
written over instead of growing, and an fsync that changes no file's length takes half as long."""
LATEST_TIME_S: Final = 2**32 - 1

_Row = tuple[Any, ...]

_STORE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)  # the latter when damaged names are to be told
_POSITION: Final = struct.Struct(">Q32s")
_SCHEMA: Final = (
    """CREATE TABLE entries (
        idx INTEGER PRIMARY KEY, kind INTEGER NOT NULL, time_s INTEGER NOT NULL,
        payload BLOB NOT NULL, hash BLOB NOT NULL,
        own_count INTEGER NOT NULL, own_fen INTEGER NOT NULL, carried_count INTEGER NOT NULL)""",
    """CREATE TRIGGER entries_are_never_changed BEFORE UPDATE ON entries
        BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END""",
    """CREATE TRIGGER entries_are_never_deleted BEFORE DELETE ON entries
        BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END""",
    """CREATE TABLE payments (
        card BLOB NOT NULL, sequence INTEGER NOT NULL, body_digest BLOB NOT NULL, idx INTEGER NOT NULL,
        PRIMARY KEY (card, sequence, body_digest)) WITHOUT ROWID""",
    """CREATE TABLE sales (
        reference BLOB PRIMARY KEY, opened INTEGER NOT NULL, latest INTEGER NOT NULL, payment INTEGER NOT NULL
        ) WITHOUT ROWID""",
    "CREATE TABLE pending (reference BLOB PRIMARY KEY) WITHOUT ROWID",
    """CREATE TABLE certificates (
        digest BLOB PRIMARY KEY, raw BLOB NOT NULL, agreement_key BLOB NOT NULL, used INTEGER NOT NULL
        ) WITHOUT ROWID""",
    "CREATE TABLE review (idx INTEGER PRIMARY KEY, reason TEXT NOT NULL)",
    "CREATE TABLE quarantine (idx INTEGER PRIMARY KEY)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID",
)
_DAMAGED: Final = (
    "The journal {path} is damaged ({cause}). Nothing was deleted. Stop this terminal, copy the journal's "
    "folder and hand the copy to the operator; try `hardwallet sync --export FILE` for what can still be read"
)
_FAILED: Final = (
    "A write to the journal {path} did not reach the disk ({cause}). The terminal stops: check the disk, "
    "then start it again"
)
_FULL: Final = (
    "The disk that holds the journal {path} is full. Free some space; no card is asked to pay until then"
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that clearing did not book, and why. It stays listed until a person has dealt with it."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of a look at every entry. `damaged`: their indexes. `store`: what is wrong beside them."""

    checked: int
    damaged: list[int]
    store: list[str]

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.damaged and not self.store


class _Totals(NamedTuple):
    """Running totals up to an entry."""

    own_count: int = 0
    own_fen: int = 0
    carried_count: int = 0

    def plus(self, kind: int, payload: bytes) -> "_Totals":
        if kind == Kind.OWN_PAYMENT:
            amount = int.from_bytes(payload[49:53], "big")  # byte 48 of the record, after the state
            return _Totals(self.own_count + 1, self.own_fen + amount, self.carried_count)
        if kind == Kind.CARRIED:
            return _Totals(self.own_count, self.own_fen, self.carried_count + 1)
        return self


@dataclass(slots=True)
class _SaleIndex:
    """Where a sale's entries lie: its opening, its latest change, its payment. 0: there is none."""

    opened: int
    latest: int
    payment: int


class _Turn:
    """One thread at a time, and none once the journal has failed or is closed."""

    __slots__ = ("_check", "_mutex")

    def __init__(self, mutex: threading.RLock, check: Callable[[], None]) -> None:
        self._mutex = mutex
        self._check = check

    def __enter__(self) -> None:
        self._mutex.acquire()
        try:
            self._check()
        except BaseException:
            self._mutex.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._mutex.release()


def free_bytes(folder: Path) -> int:
    """Bytes that this process may still write on the file system of `folder`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


class SqliteJournal:
    """The journal of one terminal (pos_terminal.ports.Journal), held by one process.

    Opening raises JournalBusy, JournalDamaged, JournalFailed, JournalFull, JournalNewer, JournalForeign.
    A journal that clearing has overtaken, or whose bookkeeping is damaged, opens locked: it sells nothing,
    and what waits in it can still be sent. Any thread may call.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        scheme: bytes,
        payee: bytes,
        terminal: bytes,
        reserve_bytes: int = 24 * 1024 * 1024,
        certificates_kept: int = 20_000,
        free: Callable[[Path], int] = free_bytes,
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        """`scheme`: 4 bytes, `payee`: 8, `terminal`: 4. `reserve_bytes` must be free before a sale."""
        self.path = Path(path)
        self._folder = self.path.parent
        self.scheme, self.payee, self.terminal = scheme, payee, terminal
        self._reserve_bytes = reserve_bytes
        self._certificates_kept = certificates_kept
        self._free = free
        self._mutex = threading.RLock()
        self._turn = _Turn(self._mutex, self._require_usable)
        self._failed: str | None = None
        self._closed = False
        self._lock_reason: str | None = None
        self._genesis = chain.genesis(scheme, payee, terminal)
        self._new_sales: dict[bytes, _SaleIndex] = {}
        self._new_payments: dict[tuple[bytes, int], dict[bytes, int]] = {}
        self._unmerged: set[bytes] = set()
        self._unused: set[int] = set()
        self._pending: dict[bytes, None] = {}
        self._touched: set[bytes] = set()
        self._next_transaction = self._acknowledged = self._appended = self._since_checkpoint = 0
        self._head_index, self._head_hash = 0, self._genesis
        self._totals = self._sent = _Totals()
        self._lock_file = self._exclude_others()
        self._database: sqlite3.Connection | None = None
        try:
            self._database = self._connect(connect)
            self._load()
        except BaseException:
            self._let_go()
            raise

    # ------------------------------------------------------------------------------------------ the port

    def reserve_transactions(self, now_s: int) -> range:
        """64 transaction numbers that were and will be given out by no other call.

        The block begins at the saved number or at the floor that the clock gives, whichever is higher: a disk
        image that is put back does not repeat numbers. A clock that goes back changes nothing.
        Raises ClockWrong when the clock stands so late that the numbers would run out.
        """
        with self._turn:
            self._require_unlocked()
            floor = max(0, (now_s - NUMBERS_BEGIN_S) // BLOCK_SECONDS) * BLOCK
            begin = max(self._next_transaction, floor, 1)
            if begin + BLOCK > LAST_NUMBER:
                raise ClockWrong("The clock of this machine stands far in the future; set it right")
            with self._transaction():
                self._put_meta("next_transaction", (begin + BLOCK).to_bytes(8, "big"))
                self._stamp_certificates()
            self._next_transaction = begin + BLOCK
            self._unused = set(range(begin, begin + BLOCK))
            return range(begin, begin + BLOCK)

    def require_space(self) -> None:
        """Raises JournalFull unless the reserve is free, JournalLocked when this journal may not sell."""
        with self._mutex:
            self._require_usable()
            self._require_unlocked()
            try:
                free = self._free(self._folder)
            except OSError as error:
                raise JournalFailed(_FAILED.format(path=self.path, cause=error.strerror)) from error
            if free < self._reserve_bytes:
                raise JournalFull(_FULL.format(path=self.path))

    def open_sale(self, sale: Sale) -> None:
        """Keep that `sale.card` (8 bytes) is about to be asked to pay. Raises ReferenceReused.

        Again for the same sale and card keeps nothing new; a sale that is open or was declined may go to
        another card.
        """
        with self._turn:
            self._require_unlocked()
            index = self._sale_index(sale.reference)
            if index is not None:
                earlier = self._build_sale(sale.reference, index)
                _require_same_sale(earlier, sale)
                if earlier.state is SaleState.UNRESOLVED:
                    return
            self._append(Kind.SALE_OPENED, sale.time_s, chain.pack_opened(sale))

    def change_sale(self, reference: bytes, state: SaleState, reason: str, now_s: int) -> None:
        """Keep a change of state that has no record. Raises NoSuchSale. A reason beyond 200 bytes is cut."""
        with self._turn:
            if self._sale_index(reference) is None:
                raise NoSuchSale(f"No sale has the reference {reference.hex()}")
            self._append(Kind.SALE_CHANGED, now_s, chain.pack_changed(reference, state, reason))

    def keep_payment(self, record: Record, state: SaleState, now_s: int) -> None:
        """Keep a payment to this terminal together with the state of its sale, in one durable write.

        Makes the sale when it was never opened. The same record again changes nothing; another record with
        its card and sequence is kept too, as evidence. A locked journal keeps it as well: the card has paid.
        """
        with self._turn:
            # A number given out a moment ago, and the first payment to bear it, need not be looked for.
            if record.transaction in self._unused or not self._holds(record, Kind.OWN_PAYMENT):
                self._append(Kind.OWN_PAYMENT, now_s, chain.pack_own(state, record.raw))
                self._unused.discard(record.transaction)

    def keep_carried(self, record: Record, now_s: int) -> None:
        """Keep another terminal's payment, or a receipt. The same record again changes nothing."""
        with self._turn:
            if not self._holds(record, Kind.CARRIED):
                self._append(Kind.CARRIED, now_s, record.raw)

    def keep_delivered(self, card: bytes, number: int, status_word: int, now_s: int) -> None:
        """Keep what a card (8 bytes) answered to its issuer's order of that number."""
        with self._turn:
            self._append(Kind.ORDER_DELIVERED, now_s, chain.pack_delivered(card, number, status_word))

    def payment(self, card: bytes, sequence: int) -> StoredPayment | None:
        """The stored payment of a card (8 bytes) with that sequence number; of several, the own one."""
        with self._turn:
            found: StoredPayment | None = None
            for index in sorted(self._payment_index(card, sequence).values()):
                stored = self._stored_payment(index)
                if stored is not None and stored.own:
                    return stored
                found = found or stored
            return found

    def sale(self, reference: bytes) -> Sale | None:
        """The sale of a reference (12 bytes). Raises JournalDamaged when none of its entries can be read."""
        with self._turn:
            index = self._sale_index(reference)
            return None if index is None else self._build_sale(reference, index)

    def unresolved(self) -> list[Sale]:
        """Sales that asked a card and know no answer, oldest first."""
        with self._turn:
            sales = (self._build_sale(reference, self._known_sale(reference)) for reference in self._pending)
            return sorted(
                (sale for sale in sales if sale.state is SaleState.UNRESOLVED),
                key=lambda sale: (sale.time_s, sale.transaction),
            )

    def certificate(self, digest: bytes) -> CardCertificate | None:
        """A card's certificate by its digest (8 bytes)."""
        with self._turn:
            row = self._row("SELECT raw, agreement_key FROM certificates WHERE digest = ?", (digest,))
            if row is None:
                return None
            self._touched.add(digest)
            return CardCertificate(bytes(row[0]), bytes(row[1]))

    def keep_certificate(self, digest: bytes, certificate: CardCertificate) -> None:
        """Keep a verified card certificate. Those of waiting entries stay, and the latest used."""
        with self._turn:
            self._execute(
                "INSERT INTO certificates VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET raw = excluded.raw, agreement_key = excluded.agreement_key, used = excluded.used",
                (digest, certificate.raw, certificate.agreement_key, self._head_index),
            )

    # ------------------------------------------------------------------------------------- what is sent

    def head(self) -> tuple[int, bytes]:
        """Index and hash (32 bytes) of the last entry; (0, genesis) when there is none."""
        with self._turn:
            return self._head_index, self._head_hash

    def last_time_s(self) -> int:
        """The time of the newest entry, seconds since 1970; 0 when there is none."""
        self._require_usable()
        return self._head_time_s

    def acknowledged(self) -> int:
        """The last entry that clearing has acknowledged."""
        with self._turn:
            return self._acknowledged

    def hash_at(self, index: int) -> bytes:
        """The hash of an entry, 32 bytes; of 0, the genesis. Zeros when the entry is missing."""
        with self._turn:
            return self._entry(index).hash if index else self._genesis

    def entries(self, first: int, limit: int) -> list[Entry]:
        """Up to `limit` entries from `first` (1 or more) on, each checked against the chain.

        An entry that is missing stands in the list as damaged, with no payload and a hash of zeros.
        """
        with self._turn:
            last = min(first + limit - 1, self._head_index)
            return [] if last < first else self._examined(first, last)

    def waiting(self) -> Waiting:
        """What clearing has not acknowledged. Costs the same however much waits."""
        with self._turn:
            oldest = self._row("SELECT time_s FROM entries WHERE idx = ?", (self._acknowledged + 1,))
            return Waiting(
                self._totals.own_count - self._sent.own_count,
                self._totals.own_fen - self._sent.own_fen,
                int(oldest[0]) if oldest is not None and isinstance(oldest[0], int) else None,
                self._totals.carried_count - self._sent.carried_count,
                self._head_index - self._acknowledged,
            )

    def waiting_fen(self) -> int:
        """The amount of the payments to this terminal that clearing has not acknowledged."""
        self._require_usable()
        return self._totals.own_fen - self._sent.own_fen

    def acknowledge(
        self, index: int, head_hash: bytes, rejected: Iterable[Rejected] = (), proof: bytes = b""
    ) -> None:
        """Keep that clearing holds everything up to `index`, whose hash is `head_hash`; it only rises.

        The caller has verified clearing's signature; `proof` is its acknowledgement as it came, which
        `proof()` gives back. What it rejected becomes "needs review".
        Raises JournalLocked, and locks this journal, when it does not hold that entry.
        """
        with self._turn:
            if index > self._head_index or self.hash_at(index) != head_hash:
                self.lock(
                    f"clearing has acknowledged entry {index}, which this journal does not hold: "
                    "an old copy of the journal was put back"
                )
                self._require_unlocked()
            rows = [(item.index, item.reason) for item in rejected]
            with self._transaction():
                self._executemany("INSERT INTO review VALUES (?, ?) ON CONFLICT DO NOTHING", rows)
                if index > self._acknowledged:
                    self._put_meta("acknowledged", _POSITION.pack(index, head_hash))
                    self._put_meta("proof", proof)
                    self._forget_certificates(index)
            if index > self._acknowledged:
                self._acknowledged = index
                self._sent = self._totals_at(index)

    def proof(self) -> bytes:
        """Clearing's acknowledgement of the last entry that it has acknowledged; empty when none was kept."""
        with self._turn:
            return self._meta("proof", None, required=False) or b""

    def needs_review(self) -> list[Rejected]:
        """What clearing did not book, oldest first."""
        with self._turn:
            rows = self._rows("SELECT idx, reason FROM review ORDER BY idx")
            return [Rejected(int(index), str(reason)) for index, reason in rows]

    def lock(self, reason: str) -> None:
        """Sell nothing any more, now and after a restart. What waits can still be sent."""
        with self._turn:
            if self._lock_reason is None:
                self._put_meta("locked", reason.encode())
                self._lock_reason = reason

    @property
    def locked(self) -> str | None:
        """Why this journal may not sell, or None."""
        return self._lock_reason

    # ------------------------------------------------------------------------------------------- health

    def quarantined(self) -> list[int]:
        """Indexes of the entries that are known to be damaged."""
        with self._turn:
            return [int(row[0]) for row in self._rows("SELECT idx FROM quarantine ORDER BY idx")]

    def verify_all(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Look at every entry, at the index and at SQLite's pages. `progress(done, total)` counts entries.

        Damaged entries are quarantined: listed, sent marked as damaged, never deleted.
        """
        with self._turn:
            store = self._check_store()
            damaged: list[int] = []
            for first in range(1, self._head_index + 1, TAIL):
                last = min(first + TAIL - 1, self._head_index)
                examined = self._examined(first, last)
                damaged += [entry.index for entry in examined if entry.damaged]
                damaged += self._wrong_totals(first, examined)
                store += self._unindexed(examined)
                if progress is not None:
                    progress(last, self._head_index)
            self._quarantine(damaged)
            return Verification(self._head_index, sorted(set(damaged)), store)

    def close(self) -> None:
        """Write what is still only in memory and let the store go. Again does nothing."""
        with self._mutex:
            if self._closed:
                return
            try:
                if self._failed is None:
                    self._write_index()
            except JournalError:
                pass  # the index is rebuilt from the chain
            finally:
                self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ opening

    def _exclude_others(self) -> int:
        """A lock on a file beside the database: SQLite's own locks are only taken with the first access."""
        name = self.path.with_name(self.path.name + ".lock")
        try:
            handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalFailed(f"The journal {self.path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise JournalBusy(
                f"The journal {self.path} is in use by another program; only one may run a terminal"
            ) from error
        return handle

    def _connect(self, connect: Callable[..., sqlite3.Connection]) -> sqlite3.Connection:
        with self._translated():
            database = connect(
                str(self.path), isolation_level=None, check_same_thread=False, cached_statements=64, timeout=0
            )
        # A blob whose type was altered comes as text that need not be any: the chain tells it, not an error.
        database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self._database = database
        # Before anything is read: the log's index then lives in memory, not in a file for which a full disk
        # has no room, and no lock is taken per payment.
        self._require_pragma("locking_mode", "exclusive", "exclusive")
        fresh = self._row("SELECT count(*) FROM sqlite_master") == (0,)
        if not fresh:
            self._require_own_schema()
        self._require_pragma("journal_mode", "wal", "wal")
        self._require_pragma("synchronous", "full", 2)
        self._require_pragma("wal_autocheckpoint", "0", 0)
        self._require_pragma("cell_size_check", "on", 1)
        self._require_pragma("trusted_schema", "off", 0)
        if fresh:
            self._create()
        return database

    def _require_pragma(self, name: str, value: str, expected: str | int) -> None:
        self._row(f"PRAGMA {name} = {value}")
        row = self._row(f"PRAGMA {name}")
        if row != (expected,):
            raise JournalFailed(
                f"The journal {self.path} cannot be made durable here: {name} is {row}, not {expected}. "
                "Keep the terminal's folder on a local disk"
            )

    def _require_own_schema(self) -> None:
        application, version = self._row("PRAGMA application_id"), self._row("PRAGMA user_version")
        if application != (APPLICATION_ID,) or version is None or version[0] < 1:
            raise JournalDamaged(f"{self.path} is not a terminal's journal; nothing was changed in it")
        if version[0] > SCHEMA_VERSION:
            raise JournalNewer(
                f"The journal {self.path} was written by a newer version of this program "
                f"(format {version[0]}, this one knows {SCHEMA_VERSION}); bring the program up to date"
            )

    def _create(self) -> None:
        with self._transaction():
            for statement in _SCHEMA:
                self._execute(statement)
            self._put_meta("identity", self.scheme + self.payee + self.terminal)
            self._put_meta("next_transaction", (1).to_bytes(8, "big"))
            self._put_meta("acknowledged", _POSITION.pack(0, self._genesis))
            self._put_meta("indexed", (0).to_bytes(8, "big"))
            self._execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _load(self) -> None:
        """Read the bookkeeping, verify the chain's tail, and bring the index up to the head."""
        identity = self._meta("identity", 16)
        if identity is not None and identity != self.scheme + self.payee + self.terminal:
            raise JournalForeign(
                f"The journal {self.path} belongs to another terminal ({identity[12:].hex()} of payee "
                f"{identity[4:12].hex()}, scheme {identity[:4].hex()}); use that terminal's folder"
            )
        number = self._meta("next_transaction", 8)
        self._next_transaction = int.from_bytes(number or b"", "big")
        reason = self._meta("locked", None, required=False)
        if reason is not None:
            self._lock_reason = reason.decode("utf-8", "replace")
        self._load_head()
        self._load_acknowledged()
        self._load_index()

    def _load_head(self) -> None:
        row = self._row("SELECT max(idx) FROM entries")
        head = row[0] if row is not None else None
        if head is not None and (not isinstance(head, int) or head < 1):
            raise JournalDamaged(
                _DAMAGED.format(path=self.path, cause="the number of its last entry is impossible")
            )
        self._head_index = head or 0
        self._head_hash = self._genesis
        self._head_time_s = 0
        self._totals = _Totals()
        if not self._head_index:
            return
        first = max(1, self._head_index - TAIL + 1)
        tail = self._examined(first, self._head_index)
        self._totals = self._totals_at(first - 1)
        for entry in tail:
            self._totals = self._totals.plus(entry.kind, entry.payload)
        self._head_hash = tail[-1].hash
        self._head_time_s = max((entry.time_s for entry in tail if not entry.damaged), default=0)
        self._quarantine([entry.index for entry in tail if entry.damaged])

    def _load_acknowledged(self) -> None:
        packed = self._meta("acknowledged", _POSITION.size)
        self._acknowledged, head_hash = _POSITION.unpack(packed) if packed is not None else (0, self._genesis)
        if self._acknowledged > self._head_index:
            self._lock_for(
                f"its last entry is {self._head_index}, but clearing has acknowledged {self._acknowledged}: "
                "entries are missing"
            )
            self._acknowledged = self._head_index
        elif self.hash_at(self._acknowledged) != head_hash:
            self._lock_for(f"entry {self._acknowledged} is not the one that clearing has acknowledged")
        if self._head_index and self._row("SELECT min(idx) FROM entries") != (1,):
            self._lock_for("its first entries are missing")
        self._sent = self._totals_at(self._acknowledged)

    def _load_index(self) -> None:
        self._pending = {bytes(row[0]): None for row in self._rows("SELECT reference FROM pending")}
        packed = self._meta("indexed", 8)
        indexed = min(int.from_bytes(packed or b"", "big"), self._head_index)
        for first in range(indexed + 1, self._head_index + 1, TAIL):
            for entry in self._examined(first, min(first + TAIL - 1, self._head_index)):
                if not entry.damaged:
                    self._index(entry.index, entry.kind, entry.payload)
        self._appended = self._head_index - indexed
        self._since_checkpoint = 0

    def _lock_for(self, reason: str) -> None:
        """For this run only: the damage is still there at the next start."""
        if self._lock_reason is None:
            self._lock_reason = reason

    def _let_go(self) -> None:
        self._closed = True
        if self._database is not None:
            with suppress(sqlite3.Error):  # what was kept is in the log, which the next start reads
                self._database.close()
        os.close(self._lock_file)

    # ---------------------------------------------------------------------------------------- appending

    def _append(self, kind: Kind, time_s: int, payload: bytes) -> None:
        if not 0 <= time_s <= LATEST_TIME_S:
            raise ClockWrong("The clock of this machine cannot be right; set it")
        index = self._head_index + 1
        digest = chain.link(self._head_hash, index, kind, time_s, payload)
        totals = self._totals.plus(kind, payload)
        self._execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                index,
                int(kind),  # sqlite3 takes twice as long over an enum
                time_s,
                payload,
                digest,
                totals.own_count,
                totals.own_fen,
                totals.carried_count,
            ),
        )
        self._head_index, self._head_hash, self._totals = index, digest, totals
        self._head_time_s = time_s
        self._index(index, kind, payload)
        self._appended += 1
        self._since_checkpoint += 1
        if self._since_checkpoint >= CHECKPOINT_EVERY:
            self._housekeeping()

    def _housekeeping(self) -> None:
        """What may wait: the entry just kept is durable whatever happens here.

        A full disk leaves it for later. A failed write is remembered, and refuses the next call.
        """
        try:
            if self._appended >= INDEX_EVERY:
                self._write_index()
            # By hand, because SQLite keeps quiet about an automatic checkpoint whose fsync failed.
            self._row("PRAGMA wal_checkpoint(PASSIVE)")
            self._since_checkpoint = 0
        except JournalError:
            pass

    def _write_index(self) -> None:
        if not self._appended:
            return
        for reference in list(self._unmerged):
            self._sale_index(reference)
        payments = [
            (card, sequence, digest, index)
            for (card, sequence), digests in self._new_payments.items()
            for digest, index in digests.items()
        ]
        sales = [(ref, sale.opened, sale.latest, sale.payment) for ref, sale in self._new_sales.items()]
        with self._transaction():
            self._executemany(
                "INSERT INTO payments VALUES (?, ?, ?, ?) "
                "ON CONFLICT (card, sequence, body_digest) DO UPDATE SET idx = excluded.idx",
                payments,
            )
            self._executemany(
                "INSERT INTO sales VALUES (?, ?, ?, ?) ON CONFLICT (reference) DO UPDATE "
                "SET opened = excluded.opened, latest = excluded.latest, payment = excluded.payment",
                sales,
            )
            self._execute("DELETE FROM pending")
            self._executemany("INSERT INTO pending VALUES (?)", [(reference,) for reference in self._pending])
            self._stamp_certificates()
            self._put_meta("indexed", self._head_index.to_bytes(8, "big"))
        self._new_payments.clear()
        self._new_sales.clear()
        self._appended = 0

    # ---------------------------------------------------------------------------------------- the index

    def _index(self, index: int, kind: int, payload: bytes) -> None:
        """Note where this entry's sale and payment are found."""
        record = chain.record_in(kind, payload)
        if record is not None:
            self._index_payment(index, kind, record)
        if kind == Kind.OWN_PAYMENT and record is not None:
            self._index_own(index, record[36:48])
        elif kind == Kind.SALE_OPENED:
            earlier = self._sale_index(payload[:12])
            self._new_sales[payload[:12]] = _SaleIndex(index, index, earlier.payment if earlier else 0)
            self._pending[payload[:12]] = None
        elif kind == Kind.SALE_CHANGED:
            self._index_change(index, payload)

    def _index_payment(self, index: int, kind: int, record: bytes) -> None:
        key = record[8:16], int.from_bytes(record[24:28], "big")
        digests = self._new_payments.setdefault(key, {})
        digest = sha256(record[: records.BODY_LENGTH]).digest()
        if kind == Kind.OWN_PAYMENT or digest not in digests:
            digests[digest] = index

    def _index_own(self, index: int, reference: bytes) -> None:
        """What the table knows of the reference is merged when somebody asks, or when the index is written:
        a payment waits for neither."""
        sale = self._new_sales.get(reference)
        if sale is None:
            self._new_sales[reference] = _SaleIndex(0, index, index)
            self._unmerged.add(reference)
        elif not sale.payment:
            self._new_sales[reference] = _SaleIndex(sale.opened, index, index)
        self._pending.pop(reference, None)

    def _index_change(self, index: int, payload: bytes) -> None:
        reference = payload[:12]
        sale = self._sale_index(reference) or _SaleIndex(0, 0, 0)
        self._new_sales[reference] = replace(sale, latest=index)
        if payload[12] == SaleState.UNRESOLVED:
            self._pending[reference] = None
        else:
            self._pending.pop(reference, None)

    def _sale_index(self, reference: bytes) -> _SaleIndex | None:
        new = self._new_sales.get(reference)
        if new is not None and reference not in self._unmerged:
            return new
        row = self._row("SELECT opened, latest, payment FROM sales WHERE reference = ?", (reference,))
        kept = None if row is None else _SaleIndex(*(self._place(value) for value in row))
        if new is None:
            return kept
        if kept is not None:
            new = kept if kept.payment else replace(new, opened=kept.opened)
            self._new_sales[reference] = new
        self._unmerged.discard(reference)
        return new

    def _known_sale(self, reference: bytes) -> _SaleIndex:
        return self._sale_index(reference) or _SaleIndex(0, 0, 0)

    def _payment_index(self, card: bytes, sequence: int) -> dict[bytes, int]:
        """Where the bodies with this card and sequence lie, by their digest."""
        rows = self._rows(
            "SELECT body_digest, idx FROM payments WHERE card = ? AND sequence = ?", (card, sequence)
        )
        found = {bytes(digest): place for digest, index in rows if (place := self._place(index))}
        found.update(self._new_payments.get((card, sequence), {}))
        return found

    def _place(self, value: object) -> int:
        """An index from the index tables, or 0 when it cannot be one."""
        return value if isinstance(value, int) and 0 < value <= self._head_index else 0

    def _holds(self, record: Record, kind: Kind) -> bool:
        """Whether an undamaged entry of this kind, or of a better one, holds the record's body."""
        places = self._payment_index(record.card, record.sequence)
        index = places.get(sha256(record.body).digest()) if places else None
        if index is None:
            return False
        entry = self._entry(index)
        held = chain.record_in(entry.kind, entry.payload)
        if entry.damaged or held is None or held[: records.BODY_LENGTH] != record.body:
            return False
        return entry.kind in (kind, Kind.OWN_PAYMENT)

    # ------------------------------------------------------------------------- from entries to meanings

    def _stored_payment(self, index: int) -> StoredPayment | None:
        entry = self._entry(index)
        raw = chain.record_in(entry.kind, entry.payload)
        if entry.damaged or raw is None:
            return None
        record = records.parse(raw)
        if entry.kind != Kind.OWN_PAYMENT:
            return StoredPayment(record, own=False, granted=False)
        granted = entry.payload[0] == SaleState.GRANTED
        sale_index = self._sale_index(record.reference)
        if sale_index is not None and sale_index.payment == index:
            granted = self._build_sale(record.reference, sale_index).state == SaleState.GRANTED
        return StoredPayment(record, own=True, granted=granted)

    def _build_sale(self, reference: bytes, index: _SaleIndex) -> Sale:
        opened, paid, latest = (
            self._good_entry(place) for place in (index.opened, index.payment, index.latest)
        )
        sale: Sale | None = None
        if opened is not None and opened.kind == Kind.SALE_OPENED:
            fields = chain.parse_opened(opened.payload)
            sale = Sale(
                reference,
                fields.amount_fen,
                fields.currency,
                fields.profile,
                fields.transaction,
                opened.time_s,
                card=fields.card,
            )
        if paid is not None and paid.kind == Kind.OWN_PAYMENT:
            record = records.parse(paid.payload[1:])
            sale = sale or Sale(
                reference,
                record.amount_fen,
                record.currency,
                record.profile,
                record.transaction,
                record.time_s,
            )
            sale = replace(sale, card=record.card, sequence=record.sequence)
        if sale is None:
            raise JournalDamaged(
                _DAMAGED.format(path=self.path, cause=f"nothing is left of the sale {reference.hex()}")
            )
        state, reason = _latest_state(latest)
        return replace(sale, state=state, reason=reason)

    def _good_entry(self, index: int) -> Entry | None:
        if not index:
            return None
        entry = self._entry(index)
        return None if entry.damaged else entry

    def _entry(self, index: int) -> Entry:
        return self._examined(index, index)[0]

    def _examined(self, first: int, last: int) -> list[Entry]:
        """Entries first to last, checked. Two before and one after are read too: a neighbour tells an altered
        hash from an altered payload."""
        begin = max(1, first - 2)
        rows = self._rows(
            "SELECT idx, kind, time_s, payload, hash FROM entries WHERE idx BETWEEN ? AND ? ORDER BY idx",
            (begin - 1, last + 1),
        )
        found = {row[0]: row for row in rows}
        before = self._genesis if begin == 1 else _entry_of(begin - 1, found.get(begin - 1)).hash
        end = last + 1 if last + 1 in found else last
        checked = chain.examine(before, [_entry_of(i, found.get(i)) for i in range(begin, end + 1)])
        return checked[first - begin : last - begin + 1]

    def _totals_at(self, index: int) -> _Totals:
        row = self._row("SELECT own_count, own_fen, carried_count FROM entries WHERE idx = ?", (index,))
        return _totals_of(row) or _Totals()

    # ------------------------------------------------------------------------------------- verification

    def _check_store(self) -> list[str]:
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def _wrong_totals(self, first: int, examined: Sequence[Entry]) -> list[int]:
        """Entries whose running totals do not follow from those before them."""
        wrong = []
        before = self._totals_at(first - 1)
        rows = {
            row[0]: row[1:]
            for row in self._rows(
                "SELECT idx, own_count, own_fen, carried_count FROM entries WHERE idx BETWEEN ? AND ?",
                (first, examined[-1].index),
            )
        }
        for entry in examined:
            after = before.plus(entry.kind, entry.payload)
            found = rows.get(entry.index)
            if not entry.damaged and found != (after.own_count, after.own_fen, after.carried_count):
                wrong.append(entry.index)
            before = _totals_of(found) or after
        return wrong

    def _unindexed(self, examined: Sequence[Entry]) -> list[str]:
        """Payments and sales that the index does not lead to."""
        lost = []
        for entry in examined:
            record = chain.record_in(entry.kind, entry.payload)
            if entry.damaged:
                continue
            if record is not None:
                places = self._payment_index(record[8:16], int.from_bytes(record[24:28], "big"))
                if sha256(record[: records.BODY_LENGTH]).digest() not in places:
                    lost.append(f"the payment of entry {entry.index} is not found by its card")
            elif entry.kind == Kind.SALE_OPENED and self._sale_index(entry.payload[:12]) is None:
                lost.append(f"the sale of entry {entry.index} is not found by its reference")
        return lost

    def _quarantine(self, indexes: Sequence[int]) -> None:
        if indexes:
            with self._transaction():
                self._executemany(
                    "INSERT INTO quarantine VALUES (?) ON CONFLICT DO NOTHING", [(i,) for i in indexes]
                )

    # ------------------------------------------------------------------------------------- certificates

    def _stamp_certificates(self) -> None:
        """Note which certificates were used lately: by the index of the head, which never goes back."""
        if self._touched:
            stamps = [(self._head_index, digest) for digest in self._touched]
            self._executemany("UPDATE certificates SET used = ? WHERE digest = ?", stamps)
            self._touched.clear()

    def _forget_certificates(self, acknowledged: int) -> None:
        """Keep the lately used ones, and all that an entry still to be sent needs."""
        self._stamp_certificates()
        row = self._row("SELECT count(*) FROM certificates")
        surplus = (row[0] if row is not None else 0) - self._certificates_kept
        if surplus <= 0:
            return
        needed = {
            record[16:24]
            for kind, payload in self._rows(
                "SELECT kind, payload FROM entries WHERE idx > ? AND kind IN (3, 4)", (acknowledged,)
            )
            if (record := chain.record_in(kind, payload)) is not None
        }
        oldest = self._rows("SELECT digest FROM certificates ORDER BY used, digest")
        spare = [(row[0],) for row in oldest if bytes(row[0]) not in needed]
        self._executemany("DELETE FROM certificates WHERE digest = ?", spare[:surplus])

    # -------------------------------------------------------------------------------------------- SQLite

    def _require_usable(self) -> None:
        if self._failed is not None:
            raise JournalFailed(self._failed)
        if self._closed:
            raise JournalFailed(f"The journal {self.path} is closed; start the terminal again")

    def _require_unlocked(self) -> None:
        if self._lock_reason is not None:
            raise JournalLocked(
                f"This terminal is locked: {self._lock_reason}. Send what waits (`hardwallet sync`), "
                "then set the terminal up anew"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._database is not None and self._database.in_transaction:
            try:
                self._database.execute("ROLLBACK")
            except sqlite3.Error as error:
                self._failed = _FAILED.format(path=self.path, cause=error)

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> None:
        try:
            self._open_database().execute(statement, values)
        except _STORE_ERRORS as error:
            raise self._translate(error) from error

    def _executemany(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        with self._translated():
            self._open_database().executemany(statement, rows)

    def _row(self, statement: str, values: tuple[object, ...] = ()) -> _Row | None:
        try:
            row: _Row | None = self._open_database().execute(statement, values).fetchone()
        except _STORE_ERRORS as error:
            raise self._translate(error) from error
        return row

    def _rows(self, statement: str, values: tuple[object, ...] = ()) -> list[_Row]:
        try:
            return self._open_database().execute(statement, values).fetchall()
        except _STORE_ERRORS as error:
            raise self._translate(error) from error

    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise JournalFailed(f"The journal {self.path} is closed")
        return self._database

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _STORE_ERRORS as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> JournalError:
        """SQLite's words into ours. Whatever is not known to be harmless stops the journal for good."""
        if isinstance(error, UnicodeDecodeError):
            return JournalDamaged(_DAMAGED.format(path=self.path, cause="names in it are not text"))
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return JournalFull(_FULL.format(path=self.path))
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return JournalDamaged(_DAMAGED.format(path=self.path, cause=error))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return JournalBusy(f"The journal {self.path} is in use by another program")
        self._failed = _FAILED.format(path=self.path, cause=error)
        return JournalFailed(self._failed)

    def _meta(self, key: str, length: int | None, *, required: bool = True) -> bytes | None:
        """A value of the bookkeeping; None, and this journal locked, when it is damaged or missing."""
        row = self._row("SELECT value, digest FROM meta WHERE key = ?", (key,))
        if row is None and not required:
            return None
        value = row[0] if row is not None else None
        if (
            isinstance(value, bytes)
            and row is not None
            and row[1] == _meta_digest(key, value)
            and length in (None, len(value))
        ):
            return value
        self._lock_for(f"its bookkeeping is damaged ({key.replace('_', ' ')})")
        return None

    def _put_meta(self, key: str, value: bytes) -> None:
        self._execute(
            "INSERT INTO meta VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE "
            "SET value = excluded.value, digest = excluded.digest",
            (key, value, _meta_digest(key, value)),
        )


def _meta_digest(key: str, value: bytes) -> bytes:
    return sha256(key.encode() + b"\x00" + value).digest()[:8]


def _entry_of(index: int, row: _Row | None) -> Entry:
    """A row as an entry; a missing or unreadable one as an entry that no chain fits, with its hash if it has
    one.
    """
    if row is None:
        return Entry(index, 0, 0, b"", chain.NO_HASH)
    _, kind, time_s, payload, digest = row
    if not isinstance(digest, bytes) or len(digest) != chain.HASH_LENGTH:
        digest = chain.NO_HASH
    if (
        isinstance(kind, int)
        and isinstance(time_s, int)
        and isinstance(payload, bytes)
        and 0 <= kind <= 255
        and 0 <= time_s <= LATEST_TIME_S
        and len(payload) <= chain.PAYLOAD_LIMIT
    ):
        return Entry(index, kind, time_s, payload, digest)
    return Entry(index, 0, 0, b"", digest)


def _totals_of(row: _Row | None) -> _Totals | None:
    if row is None or not all(isinstance(value, int) for value in row):
        return None
    return _Totals(*row)


def _latest_state(entry: Entry | None) -> tuple[SaleState, str]:
    """State and reason that a sale's latest entry gives; unresolved when that entry cannot be trusted."""
    if entry is None:
        return SaleState.UNRESOLVED, "the entry with its state is damaged"
    try:
        if entry.kind == Kind.SALE_CHANGED:
            changed = chain.parse_changed(entry.payload)
            return changed.state, changed.reason
        if entry.kind == Kind.OWN_PAYMENT:
            return chain.parse_own(entry.payload)[0], ""
    except MessageMalformed:
        return SaleState.UNRESOLVED, "the entry with its state is damaged"
    return SaleState.UNRESOLVED, ""


def _require_same_sale(earlier: Sale, sale: Sale) -> None:
    if (earlier.amount_fen, earlier.currency, earlier.profile) != (
        sale.amount_fen,
        sale.currency,
        sale.profile,
    ):
        raise ReferenceReused(
            f"Reference {sale.reference.hex()} already names a sale of another amount; start a new sale"
        )
    if earlier.state is SaleState.UNRESOLVED and earlier.card != sale.card:
        raise ReferenceReused(
            "Another card has been asked for this sale; present that one, or give the sale up"
        )
    if earlier.state not in (SaleState.OPEN, SaleState.UNRESOLVED, SaleState.DECLINED):
        raise ReferenceReused(f"Sale {sale.reference.hex()} is {earlier.state.words}; start a new one")
