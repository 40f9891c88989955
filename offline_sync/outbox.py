"""What to send next, and what has become of each row. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from offline_sync import chain
from offline_sync.chain import Entry
from offline_sync.messages import MAX_BATCH_BYTES, MAX_ENTRIES, Lookup

BATCH_ENTRIES: Final = 1_000
_ENVELOPE_BYTES: Final = 2_000
_ENTRY_OVERHEAD_BYTES: Final = 80  # kind, time, punctuation, the hash of a damaged one
_CERTIFICATE_BYTES: Final = 250  # 178 in base64


class RowState(StrEnum):
    """What has become of a journal entry on its way to clearing."""

    QUEUED = "queued"
    SENDING = "sending"
    ACKNOWLEDGED = "acknowledged"
    NEEDS_REVIEW = "needs review"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes into one upload: entries, and bytes of JSON."""

    entries: int = BATCH_ENTRIES
    size_bytes: int = MAX_BATCH_BYTES // 2


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one upload holds: consecutive entries, and each card certificate (178 bytes) once."""

    entries: list[Entry]
    certificates: list[bytes]


def pack(entries: Sequence[Entry], certificate: Lookup, limits: Limits | None = None) -> Parcel:
    """As many of the consecutive entries as fit, at least one, with the certificates that their records name.

    A certificate that cannot be found is left out: clearing may know it, else it rejects that record alone.
    """
    limits = limits or Limits()
    chosen: list[Entry] = []
    certificates: dict[bytes, bytes | None] = {}
    size = _ENVELOPE_BYTES
    for entry in entries[: min(limits.entries, MAX_ENTRIES)]:
        digest = certificate_digest(entry)
        new = digest is not None and digest not in certificates
        size += _ENTRY_OVERHEAD_BYTES + len(entry.payload) * 4 // 3 + (_CERTIFICATE_BYTES if new else 0)
        if chosen and size > limits.size_bytes:
            break
        chosen.append(entry)
        if new and digest is not None:
            certificates[digest] = certificate(digest)
    return Parcel(chosen, [raw for raw in certificates.values() if raw is not None])


def certificate_digest(entry: Entry) -> bytes | None:
    """The digest (8 bytes) of the certificate that the entry's record names."""
    record = chain.record_in(entry.kind, entry.payload)
    return None if record is None else record[16:24]


def row_state(
    entry: Entry, *, acknowledged: int, sending_to: int = 0, review: Collection[int] = ()
) -> RowState:
    """What has become of an entry. `sending_to` is the last index of an upload under way."""
    if entry.index in review:
        return RowState.NEEDS_REVIEW
    if entry.damaged:
        return RowState.DAMAGED
    if entry.index <= acknowledged:
        return RowState.ACKNOWLEDGED
    return RowState.SENDING if entry.index <= sending_to else RowState.QUEUED
