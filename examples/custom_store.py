"""A store of one's own: a terminal's journal on two plain files, each write followed by fdatasync.

    python examples/custom_store.py TERMINAL CARD FEN [CLEARING]      for example: till alice.card 1250
    python -m pytest store_tests --store examples/custom_store.py:open_store

The tap is the very same one; only the journal behind it is another (pos_terminal/ports.py). With clearing's
address, what waits is sent there as well: the store is also what the gateway needs (offline_sync/gateway.py).

A file is a chain of frames: length of the payload (4) ‖ its complement (4) ‖ kind (1) ‖ time (4) ‖ payload ‖
hash (32), made of the frame and of the hash before it (docs/clearing.md). At opening both files are read and
checked. A frame that was cut off at the end was never promised to anybody, and goes. Whatever else does not
fit is damage: then nothing is opened, and nothing changed. All of it is in memory too, so this store is for
some ten thousands of payments, and for one thread: whoever sells and sends at once puts a lock around it.
"""

import errno
import fcntl
import os
import struct
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from firmware_bridge.readers import open_reader
from fleet.open import system_clock
from hardwallet import records
from hardwallet.card.simulated import SimulatedCard
from hardwallet.records import Record
from offline_sync import chain
from offline_sync.chain import Entry, Kind
from offline_sync.gateway import Gateway
from offline_sync.journal import Rejected
from offline_sync.messages import Uploader
from pos_terminal.denylist import DenylistStore
from pos_terminal.errors import (
    ClockWrong,
    JournalBusy,
    JournalDamaged,
    JournalFailed,
    JournalFull,
    NoSuchSale,
    ReferenceReused,
)
from pos_terminal.folder import TerminalFolder, open_terminal
from pos_terminal.ports import CardCertificate, StoredPayment, Waiting
from pos_terminal.sale import Sale, SaleState
from pos_terminal.tap import tap
from pos_terminal.terminal import Terminal

RESERVE_BYTES: Final = 1024 * 1024
"""Free before a card is asked, so that its payment finds room."""
BLOCK: Final = 64
BLOCK_SECONDS: Final = 8
NUMBERS_BEGIN_S: Final = 1_767_225_600  # 2026-01-01T00:00:00Z
NUMBERS, ACKNOWLEDGED, CERTIFICATE, REVIEW, LOCKED = range(1, 6)
"""Kinds of frames in the second file: what is no entry of the journal."""
_HEAD: Final = struct.Struct(">IIBI")
_COMPLEMENT: Final = 0xFFFFFFFF


class Frames:
    """One file of frames, held by one process. Its entries are in `entries`."""

    def __init__(self, path: Path, genesis: bytes) -> None:
        """`genesis`: 32 bytes, the hash before the first frame.

        Raises JournalBusy, JournalDamaged, JournalFailed.
        """
        self.entries: list[Entry] = []
        self.head = genesis
        self._path = path
        self._failed = False
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load(path.read_bytes())
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)  # the file's name is on the disk too
            os.close(folder)
        except BlockingIOError as error:
            os.close(self._file)
            raise JournalBusy(f"{path} is in use by another program; only one may run a terminal") from error
        except OSError as error:
            raise JournalFailed(f"{path} cannot be opened: {error.strerror}") from error

    def _load(self, data: bytes) -> None:
        at = 0
        while len(data) - at >= _HEAD.size:
            length, complement, kind, time_s = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + length + chain.HASH_LENGTH
            if length ^ complement == _COMPLEMENT and end > len(data):
                break
            payload = data[at + _HEAD.size : end - chain.HASH_LENGTH]
            entry = Entry(len(self.entries) + 1, kind, time_s, payload, data[end - chain.HASH_LENGTH : end])
            if length ^ complement != _COMPLEMENT or not chain.follows(entry, self.head):
                os.close(self._file)
                raise JournalDamaged(f"{self._path} is damaged at byte {at}. Copy it, and tell the operator")
            self.entries.append(entry)
            self.head, at = entry.hash, end
        if at < len(data):
            os.ftruncate(self._file, at)
            os.fsync(self._file)
        self._size = at

    def append(self, kind: int, time_s: int, payload: bytes) -> Entry:
        """Write one frame; it is on the disk when this returns. `payload`: any length.

        Raises ClockWrong, JournalFull, JournalFailed; after the last one every further call raises it.
        """
        if not 0 <= time_s < 2**32:
            raise ClockWrong("The clock of this machine cannot be right; set it")
        if self._failed:
            raise JournalFailed(f"An earlier write to {self._path} failed. Start the terminal again")
        index = len(self.entries) + 1
        digest = chain.link(self.head, index, kind, time_s, payload)
        frame = _HEAD.pack(len(payload), len(payload) ^ _COMPLEMENT, kind, time_s) + payload + digest
        self._failed = True  # until it is known to be on the disk
        try:
            written = os.write(self._file, frame)
            if written < len(frame):
                raise OSError(errno.ENOSPC, "no space left")
            os.fdatasync(self._file)
        except OSError as error:
            if error.errno == errno.ENOSPC and self._take_back():
                self._failed = False
                raise JournalFull(f"The disk that holds {self._path} is full. Free some space") from error
            raise JournalFailed(
                f"A write to {self._path} did not reach the disk ({error.strerror})"
            ) from error
        self._failed = False
        self._size += len(frame)
        self.head = digest
        self.entries.append(Entry(index, kind, time_s, payload, digest))
        return self.entries[-1]

    def _take_back(self) -> bool:
        try:
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let the file go. Closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file, self._failed = -1, True


class FileStore:
    """A terminal's journal (pos_terminal.ports.Journal) and the gateway's queue, on two files in a folder."""

    def __init__(self, folder: Path, scheme: bytes, payee: bytes, terminal: bytes) -> None:
        """`scheme`: 4 bytes, `payee`: 8, `terminal`: 4. Raises JournalBusy, JournalDamaged, JournalFailed."""
        self._folder = folder
        self._genesis = chain.genesis(scheme, payee, terminal)
        self._sales: dict[bytes, Sale] = {}
        self._payments: dict[tuple[bytes, int], list[StoredPayment]] = {}
        self._certificates: dict[bytes, CardCertificate] = {}
        self._next_number = 1
        self._acknowledged = self._waiting_fen = 0
        self._proof = b""
        self.locked = ""
        self.review: list[Rejected] = []
        self._journal = Frames(folder / "entries.frames", self._genesis)
        try:
            self._state = Frames(folder / "state.frames", self._genesis)
        except BaseException:
            self._journal.close()
            raise
        for entry in self._journal.entries:
            self._take(entry)
        for frame in self._state.entries:
            self._recall(frame)

    def close(self) -> None:
        """Let both files go. Closing twice does nothing."""
        self._journal.close()
        self._state.close()

    # ------------------------------------------------------------------------ pos_terminal.ports.Journal

    def reserve_transactions(self, now_s: int) -> range:
        """A block of numbers, above all that were given out, and above a floor that rises with the clock: so
        an old copy of the files repeats none. Raises ClockWrong."""
        self._require_unlocked()
        floor = max(0, (now_s - NUMBERS_BEGIN_S) // BLOCK_SECONDS) * BLOCK
        begin = max(self._next_number, floor)
        if begin + BLOCK >= 2**32:
            raise ClockWrong("The clock of this machine stands far in the future; set it right")
        self._note(NUMBERS, (begin + BLOCK).to_bytes(8, "big"))
        return range(begin, begin + BLOCK)

    def require_space(self) -> None:
        """Raises JournalFull."""
        self._require_unlocked()
        status = os.statvfs(self._folder)
        if status.f_bavail * status.f_frsize < RESERVE_BYTES:
            raise JournalFull(f"The disk that holds {self._folder} is full. Free some space")

    def open_sale(self, sale: Sale) -> None:
        """Keep that `sale.card` (8 bytes) is about to be asked. Raises ReferenceReused."""
        self._require_unlocked()
        earlier = self._sales.get(sale.reference)
        if earlier is not None:
            if _terms(earlier) != _terms(sale):
                raise ReferenceReused("That reference names a sale of another amount; start a new sale")
            if earlier.state is SaleState.UNRESOLVED and earlier.card == sale.card:
                return
            if earlier.state not in (SaleState.OPEN, SaleState.DECLINED):
                raise ReferenceReused(f"That sale is {earlier.state.words}; finish it, or start a new one")
        self._append(Kind.SALE_OPENED, sale.time_s, chain.pack_opened(sale))

    def change_sale(self, reference: bytes, state: SaleState, reason: str, now_s: int) -> None:
        """Keep a change of the sale with that reference (12 bytes). Raises NoSuchSale."""
        if reference not in self._sales:
            raise NoSuchSale(f"No sale has the reference {reference.hex()}")
        self._append(Kind.SALE_CHANGED, now_s, chain.pack_changed(reference, state, reason))

    def keep_payment(self, record: Record, state: SaleState, now_s: int) -> None:
        """Keep a payment to this terminal and the state of its sale, in one frame."""
        if not any(stored.own for stored in self._same(record)):
            self._append(Kind.OWN_PAYMENT, now_s, chain.pack_own(state, record.raw))

    def keep_carried(self, record: Record, now_s: int) -> None:
        """Keep another terminal's payment, or a receipt."""
        if not self._same(record):
            self._append(Kind.CARRIED, now_s, record.raw)

    def keep_delivered(self, card: bytes, number: int, status_word: int, now_s: int) -> None:
        """Keep that a card (8 bytes) answered its issuer's order."""
        self._append(Kind.ORDER_DELIVERED, now_s, chain.pack_delivered(card, number, status_word))

    def payment(self, card: bytes, sequence: int) -> StoredPayment | None:
        """The stored payment of a card (8 bytes) with that sequence number; of several, the own one."""
        stored = self._payments.get((card, sequence), [])
        return next((one for one in stored if one.own), stored[0] if stored else None)

    def sale(self, reference: bytes) -> Sale | None:
        """The sale of a reference (12 bytes)."""
        return self._sales.get(reference)

    def unresolved(self) -> list[Sale]:
        """Sales that asked a card and know no answer, oldest first."""
        waiting = [sale for sale in self._sales.values() if sale.state is SaleState.UNRESOLVED]
        return sorted(waiting, key=lambda sale: (sale.time_s, sale.transaction))

    def waiting(self) -> Waiting:
        """What clearing has not acknowledged."""
        entries = self._journal.entries[self._acknowledged :]
        kinds = [entry.kind for entry in entries]
        return Waiting(
            kinds.count(Kind.OWN_PAYMENT),
            self._waiting_fen,
            entries[0].time_s if entries else None,
            kinds.count(Kind.CARRIED),
            len(entries),
        )

    def waiting_fen(self) -> int:
        """The amount of the own payments that clearing has not acknowledged."""
        return self._waiting_fen

    def last_time_s(self) -> int:
        """The time of the newest entry; 0 when there is none."""
        return self._journal.entries[-1].time_s if self._journal.entries else 0

    def certificate(self, digest: bytes) -> CardCertificate | None:
        """A card's certificate by its digest (8 bytes)."""
        return self._certificates.get(digest)

    def keep_certificate(self, digest: bytes, certificate: CardCertificate) -> None:
        """Keep a verified certificate under its digest (8 bytes)."""
        if self._certificates.get(digest) != certificate:
            self._note(CERTIFICATE, digest + certificate.raw + certificate.agreement_key)

    # -------------------------------------------------------------------------- offline_sync.gateway.Queue

    def head(self) -> tuple[int, bytes]:
        """Index and hash (32 bytes) of the last entry."""
        return len(self._journal.entries), self._journal.head

    def acknowledged(self) -> int:
        """The last entry that clearing has acknowledged."""
        return self._acknowledged

    def hash_at(self, index: int) -> bytes:
        """The hash of an entry, 32 bytes; of 0, the genesis."""
        return self._journal.entries[index - 1].hash if index else self._genesis

    def entries(self, first: int, limit: int) -> list[Entry]:
        """Up to `limit` entries from `first` on."""
        return self._journal.entries[first - 1 : first - 1 + limit]

    def acknowledge(
        self, index: int, head_hash: bytes, rejected: Iterable[Rejected] = (), proof: bytes = b""
    ) -> None:
        """Keep that clearing holds everything up to `index`, whose hash is `head_hash` (32 bytes), and its
        acknowledgement (any length) as proof."""
        if index > len(self._journal.entries) or self.hash_at(index) != head_hash:
            self.lock("clearing holds entries that are not in these files: an old copy was put back")
            self._require_unlocked()
        for one in rejected:
            if one.index not in [known.index for known in self.review]:
                self._note(REVIEW, one.index.to_bytes(8, "big") + one.reason.encode())
        if index > self._acknowledged:
            self._note(ACKNOWLEDGED, index.to_bytes(8, "big") + proof)

    def proof(self) -> bytes:
        """The acknowledgement that reached furthest, any length; empty when there is none."""
        return self._proof

    def lock(self, reason: str) -> None:
        """Sell nothing any more; what waits can still be sent."""
        self._note(LOCKED, reason.encode())

    # ------------------------------------------------------------------------------- what the frames say

    def _append(self, kind: Kind, time_s: int, payload: bytes) -> None:
        self._take(self._journal.append(kind, time_s, payload))

    def _note(self, kind: int, payload: bytes) -> None:
        self._recall(self._state.append(kind, 0, payload))

    def _require_unlocked(self) -> None:
        if self.locked:
            raise JournalDamaged(f"This terminal is locked: {self.locked}")

    def _same(self, record: Record) -> list[StoredPayment]:
        stored = self._payments.get((record.card, record.sequence), [])
        return [one for one in stored if one.record.body == record.body]

    def _take(self, entry: Entry) -> None:
        """What an entry of the journal means."""
        if entry.kind == Kind.SALE_OPENED:
            opened = chain.parse_opened(entry.payload)
            self._sales[opened.reference] = Sale(
                *(opened.reference, opened.amount_fen, opened.currency, opened.profile, opened.transaction),
                entry.time_s,
                SaleState.UNRESOLVED,
                opened.card,
            )
        elif entry.kind == Kind.SALE_CHANGED:
            change = chain.parse_changed(entry.payload)
            sale = self._sales[change.reference]
            self._sales[change.reference] = replace(sale, state=change.state, reason=change.reason)
        elif entry.kind == Kind.OWN_PAYMENT:
            self._take_payment(*chain.parse_own(entry.payload))
        elif entry.kind == Kind.CARRIED:
            self._put(StoredPayment(records.parse(entry.payload), own=False, granted=False))

    def _take_payment(self, state: SaleState, raw: bytes) -> None:
        record = records.parse(raw)
        self._put(StoredPayment(record, own=True, granted=state is SaleState.GRANTED))
        self._waiting_fen += record.amount_fen
        sale = self._sales.get(record.reference) or Sale(
            *(record.reference, record.amount_fen, record.currency, record.profile, record.transaction),
            record.time_s,
        )
        if not sale.sequence:
            self._sales[record.reference] = replace(
                sale, state=state, reason="", card=record.card, sequence=record.sequence
            )

    def _put(self, payment: StoredPayment) -> None:
        stored = self._payments.setdefault((payment.record.card, payment.record.sequence), [])
        stored[:] = [one for one in stored if one.record.body != payment.record.body] + [payment]

    def _recall(self, frame: Entry) -> None:
        """What a frame of the second file means."""
        if frame.kind == NUMBERS:
            self._next_number = int.from_bytes(frame.payload, "big")
        elif frame.kind == CERTIFICATE:
            digest, raw, key = frame.payload[:8], frame.payload[8:186], frame.payload[186:]
            self._certificates[digest] = CardCertificate(raw, key)
        elif frame.kind == ACKNOWLEDGED:
            index, self._proof = int.from_bytes(frame.payload[:8], "big"), frame.payload[8:]
            for entry in self._journal.entries[self._acknowledged : index]:
                if entry.kind == Kind.OWN_PAYMENT:
                    self._waiting_fen -= records.parse(chain.parse_own(entry.payload)[1]).amount_fen
            self._acknowledged = index
        elif frame.kind == REVIEW:
            self.review.append(Rejected(int.from_bytes(frame.payload[:8], "big"), frame.payload[8:].decode()))
        elif frame.kind == LOCKED:
            self.locked = frame.payload.decode()


def _terms(sale: Sale) -> tuple[int, int, int]:
    return sale.amount_fen, sale.currency, sale.profile


def open_store(folder: Path, scheme: bytes, payee: bytes, terminal: bytes) -> FileStore:
    """The store in `folder`, as the store contract opens it; 4, 8 and 4 bytes."""
    return FileStore(folder, scheme, payee, terminal)


def main(terminal: str, card: str, amount_fen: str, clearing: str = "") -> None:
    """One sale at the terminal in the folder `terminal`, kept in plain files in it, then sent."""
    folder = open_terminal(Path(terminal))
    certificate, trust = folder.identity.certificate, folder.trust
    plain = folder.path / "plain"
    plain.mkdir(mode=0o700, exist_ok=True)
    with (
        closing(open_store(plain, certificate.scheme, certificate.payee, certificate.terminal)) as store,
        closing(DenylistStore(folder.path, trust.bundle)) as denylists,
        closing(open_reader(f"sim:{card}", simulated_card=SimulatedCard)) as reader,
    ):
        at_work = Terminal(
            identity=folder.identity,
            trust=trust.bundle,
            suite=trust.suite,
            journal=store,
            clock=system_clock,
            stopwatch=time.perf_counter,
            entropy=os.urandom,
            denylists=denylists,
            limits=folder.limits,
        )
        result = tap(at_work, reader.wait_for_card(5.0), at_work.new_sale(int(amount_fen)))
        print(result.outcome.name, result.reason)
        if clearing:
            send(store, folder, clearing)
        print(f"waiting {store.waiting().entries} entries, {store.waiting_fen()} fen")


def send(store: FileStore, folder: TerminalFolder, clearing: str) -> None:
    """Send what waits to the clearing at that address."""
    uploader = Uploader(folder.trust.suite, folder.identity.certificate, folder.identity.key)
    gateway = Gateway(
        *(store, uploader, folder.trust.bundle, clearing),
        clock=system_clock,
        sleep=time.sleep,
        entropy=os.urandom,
    )
    with closing(gateway):
        print(f"sent {gateway.send().entries} entries, {len(store.review)} to review")


if __name__ == "__main__":
    main(*sys.argv[1:])
