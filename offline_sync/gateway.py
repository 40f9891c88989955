"""Sends what waits to clearing, and writes it to a file where there is no network.

Nothing counts as sent before an acknowledgement with the operator's signature, for exactly what was sent, is
durable in the journal. Whatever fails before that is tried again later with the same entries.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol, Self, TypeVar, overload

from hardwallet.certificates import TrustBundle
from offline_sync import messages, outbox
from offline_sync.chain import Entry
from offline_sync.client import ClearingClient, TerminalSigner, Transport
from offline_sync.errors import (
    ClearingFailed,
    ClearingRefused,
    ClearingSlow,
    ClearingUnreachable,
    ExportFailed,
    MessageMalformed,
)
from offline_sync.journal import Rejected
from offline_sync.messages import Acknowledgement, Batch, Chained, Uploader
from offline_sync.outbox import Limits
from pos_terminal.ports import CardCertificate

EXPORT_LIMIT_BYTES: Final = 1024 * 1024 * 1024

_T = TypeVar("_T")

Entropy = Callable[[int], bytes]
Clock = Callable[[], int]
Sleep = Callable[[float], None]


class Queue(Protocol):
    """What the gateway needs of a journal (offline_sync.journal.SqliteJournal)."""

    def head(self) -> tuple[int, bytes]:
        """Index and hash of the last entry."""

    def acknowledged(self) -> int:
        """The last entry that clearing has acknowledged."""

    def hash_at(self, index: int) -> bytes:
        """The hash of an entry, 32 bytes."""

    def entries(self, first: int, limit: int) -> list[Entry]:
        """Up to `limit` entries from `first` on."""

    def certificate(self, digest: bytes) -> CardCertificate | None:
        """A card's certificate by its digest (8 bytes)."""

    def acknowledge(self, index: int, head_hash: bytes, rejected: list[Rejected], proof: bytes = b"") -> None:
        """Keep that clearing holds everything up to `index`, whose hash is `head_hash` (32 bytes), and its
        acknowledgement (any length) as proof of that."""

    def proof(self) -> bytes:
        """The acknowledgement that reached furthest, as clearing sent it; empty when there is none."""

    def lock(self, reason: str) -> None:
        """Sell nothing any more."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before another try: doubling from `first_s` to `longest_s`, of which a random half."""

    tries: int = 5
    first_s: float = 0.5
    longest_s: float = 60.0

    def wait_s(self, failures: int, entropy: Entropy) -> float:
        """Seconds to wait after that many failures in a row: half of it fixed, half by chance, so that
        terminals which failed together do not come back together.
        """
        whole = min(self.longest_s, self.first_s * 2.0 ** (failures - 1))
        chance = int.from_bytes(entropy(4), "big") / 2**32
        return whole * (0.5 + 0.5 * chance)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is: entries sent of those that waited, and why a try failed, if one did."""

    sent: int
    total: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an upload did: entries acknowledged, batches, and rows that clearing rejected."""

    entries: int
    batches: int
    rejected: int


class Gateway:
    """The terminal's way to its clearing. `send` may be called from any thread; one upload runs at a time."""

    def __init__(
        self,
        queue: Queue,
        uploader: Uploader,
        trust: TrustBundle,
        url: str,
        *,
        clock: Clock,
        sleep: Sleep,
        entropy: Entropy,
        backoff: Backoff | None = None,
        limits: Limits | None = None,
        timeout_s: float = 10.0,
        stopwatch: Callable[[], float] = time.monotonic,
        transport: Transport | None = None,
    ) -> None:
        """`url` is clearing's, without a path. `timeout_s` bounds each step of an exchange, and the whole
        answer. The uploader signs the requests, too.

        `stopwatch` gives monotonic seconds. `transport` replaces the network, for tests and simulation.
        Raises ClearingUnreachable when `url` is no address.
        """
        self._queue = queue
        self._uploader = uploader
        self._trust = trust
        self._clock = clock
        self._sleep = sleep
        self._entropy = entropy
        self._backoff = backoff or Backoff()
        self._limits = limits or Limits()
        self._running = threading.Lock()
        self._sending_to = 0
        self.client = ClearingClient(
            url,
            TerminalSigner(uploader.suite, uploader.certificate, uploader.key),
            clock=clock,
            entropy=entropy,
            timeout_s=timeout_s,
            stopwatch=stopwatch,
            transport=transport,
        )

    @property
    def sending_to(self) -> int:
        """The last index of the upload under way, 0 when there is none."""
        return self._sending_to

    @property
    def clock_offset_s(self) -> int | None:
        """This machine's clock minus clearing's, seconds, by its last answer; None when none told."""
        return self.client.clock_offset_s

    def send(self, progress: Callable[[Progress], None] | None = None) -> Outcome:
        """Send all that waits, batch by batch. Raises GatewayError after the last try; nothing is lost by it.

        Locks the journal when clearing's answer shows that an old copy of it was put back.
        """
        with self._running:
            try:
                return self._send_all(progress or (lambda _: None))
            finally:
                self._sending_to = 0

    def resend_lost(self) -> int:
        """Send again what clearing acknowledged and no longer says it holds, because its books were put back
        from a backup; how many entries. It is shown its own acknowledgement first.

        What clearing says it holds is not signed: saying less only makes this terminal repeat itself, and
        saying more is not believed. Raises GatewayError.
        """
        with self._running:
            try:
                return self._resend_lost()
            finally:
                self._sending_to = 0

    def close(self) -> None:
        """Let the connection go."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def trying(self, ask: Callable[[], _T], failed: Callable[[str], None] = lambda _: None) -> _T:
        """What `ask` gives, asked again after failures that may pass: as often as the backoff says, and not
        before the time that clearing names. `failed` gets each reason. Raises GatewayError after the last.
        """
        failures = 0
        while True:
            try:
                return ask()
            except (ClearingUnreachable, ClearingSlow, ClearingFailed) as error:
                failures += 1
                failed(str(error))
                if failures >= self._backoff.tries:
                    raise
                wait_s = self._backoff.wait_s(failures, self._entropy)
                if isinstance(error, ClearingFailed):
                    wait_s = max(wait_s, error.retry_after_s)
                self._sleep(wait_s)

    def _send_all(self, progress: Callable[[Progress], None]) -> Outcome:
        begin = self._queue.acknowledged()
        total = self._queue.head()[0] - begin
        batches = rejected = 0

        def sent() -> int:
            return self._queue.acknowledged() - begin

        def exchange() -> Acknowledgement | None:
            return self._exchange_from(self._queue.acknowledged() + 1, self._limits)

        while True:
            acknowledgement = self.trying(exchange, lambda why: progress(Progress(sent(), total, why)))
            if acknowledgement is None:
                return Outcome(sent(), batches, rejected)
            rejected += self._keep(acknowledgement)
            batches += 1
            progress(Progress(sent(), total))

    def _exchange_from(self, first: int, limits: Limits) -> Acknowledgement | None:
        """Upload what begins with entry `first`; clearing's acknowledgement once it is verified."""
        sealed = seal_next(self._queue, self._uploader, first, self._clock(), limits)
        if sealed is None:
            return None
        batch, result = sealed
        self._sending_to = batch.last
        acknowledgement = self.client.upload(batch)
        messages.check_acknowledgement(
            acknowledgement, self._trust, batch, result.head, self._uploader.certificate
        )
        return acknowledgement

    def _keep(self, acknowledgement: Acknowledgement) -> int:
        """What a verified acknowledgement means for the journal."""
        if acknowledgement.status == messages.FORKED:
            self._queue.lock(
                "clearing holds other entries of this terminal: an old copy of its journal was put back"
            )
        elif acknowledgement.highest > self._queue.head()[0]:
            self._queue.lock(
                f"clearing holds {acknowledgement.highest} entries of this terminal, its journal only "
                f"{self._queue.head()[0]}: an old copy of the journal was put back"
            )
        rows = [Rejected(row.index, f"{row.code}: {row.reason}") for row in acknowledgement.rejections]
        proof = messages.encode(acknowledgement)
        self._queue.acknowledge(acknowledgement.last, acknowledgement.head, rows, proof)
        return len(rows)

    def _resend_lost(self) -> int:
        held = self.trying(self.client.held)
        proof = self._queue.proof()
        acknowledged = self._queue.acknowledged()
        missing = [(first, min(last, acknowledged)) for first, last in held.gaps if first <= acknowledged]
        if held.highest < acknowledged:
            missing.append((held.highest + 1, acknowledged))
        if missing and proof:
            shown = messages.decode_acknowledgement(proof)
            with suppress(
                ClearingRefused
            ):  # signed with a key that is revoked by now: it is sent again anyway
                self.trying(lambda: self.client.lost([shown]))
        return sum(self._resend(first, last) for first, last in missing)

    def _resend(self, first: int, last: int) -> int:
        at = first
        while at <= last:
            limits = replace(self._limits, entries=min(self._limits.entries, last - at + 1))
            acknowledgement = self.trying(partial(self._exchange_from, at, limits))
            if acknowledgement is None:
                break
            self._keep(acknowledgement)
            at = acknowledgement.last + 1
        return at - first


def seal_next(
    queue: Queue, uploader: Uploader, first: int, time_s: int, limits: Limits
) -> tuple[Batch, Chained] | None:
    """The signed upload that begins with entry `first`; None when the journal ends before it."""
    entries = queue.entries(first, limits.entries)
    if not entries:
        return None

    def certificate(digest: bytes) -> bytes | None:
        found = queue.certificate(digest)
        return None if found is None else found.raw

    parcel = outbox.pack(entries, certificate, limits)
    return messages.seal_batch(
        uploader,
        queue.hash_at(first - 1),
        parcel.entries,
        parcel.certificates,
        journal_head=queue.head()[0],
        time_s=time_s,
    )


def export(
    queue: Queue, uploader: Uploader, path: Path, *, time_s: int, limits: Limits | None = None
) -> tuple[int, int]:
    """Write what waits to a file: one signed upload a line, the same bytes that `send` would post.

    Returns (uploads, entries). Nothing is marked as sent: clearing tells what it has when the network is
    back. The file is whole or not there. Raises ExportFailed.
    """
    first = queue.acknowledged() + 1
    uploads = 0
    part = path.with_name(path.name + ".part")
    begin = first
    try:
        with part.open("wb") as out:
            while (sealed := seal_next(queue, uploader, first, time_s, limits or Limits())) is not None:
                out.write(messages.encode(sealed[0]) + b"\n")
                uploads += 1
                first = sealed[0].last + 1
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ExportFailed(f"{path} cannot be written: {error.strerror}") from error
    return uploads, first - begin


class Export(Sequence[Batch]):
    """The uploads of an exported file, read one at a time: a file may hold a million entries."""

    def __init__(self, path: Path) -> None:
        """Reads the file through once. Raises ExportFailed when it is missing, too long or not whole."""
        self._path = path
        self._places: list[int] = []
        with self._opened() as file:
            if os.fstat(file.fileno()).st_size > EXPORT_LIMIT_BYTES:
                raise ExportFailed(f"{path} is too long to be an export")
            place = 0
            while line := file.readline(messages.MAX_BATCH_BYTES + 2):
                self._decode(line)
                self._places.append(place)
                place += len(line)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Batch]:
        with self._opened() as file:
            for place in self._places:
                file.seek(place)
                yield self._decode(file.readline(messages.MAX_BATCH_BYTES + 2))

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Batch]: ...
    def __getitem__(self, index: int | slice) -> Batch | list[Batch]:
        places = self._places[index] if isinstance(index, slice) else [self._places[index]]
        with self._opened() as file:
            found = []
            for place in places:
                file.seek(place)
                found.append(self._decode(file.readline(messages.MAX_BATCH_BYTES + 2)))
        return found if isinstance(index, slice) else found[0]

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with self._path.open("rb") as file:
                yield file
        except OSError as error:
            raise ExportFailed(f"{self._path} cannot be read: {error.strerror}") from error

    def _decode(self, line: bytes) -> Batch:
        try:
            return messages.decode_batch(line.removesuffix(b"\n"))
        except MessageMalformed as error:
            raise ExportFailed(f"{self._path} is no export of a terminal, or was altered: {error}") from None


def read_export(path: Path) -> Export:
    """The uploads in an exported file. Raises ExportFailed when it is missing, too long or not whole."""
    return Export(path)
