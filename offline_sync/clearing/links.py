"""How a signed head follows from an earlier entry: the entries between, so that a third party can work the
hashes through.

Two heads of one terminal need not name the same entry. What joins the later one to the last entry that the
other one names makes their contradiction plain (docs/disputes.md).
"""

import struct
from collections.abc import Sequence
from typing import Final

from offline_sync.chain import HASH_LENGTH, Entry

MAX_LINKS_BYTES: Final = 100_000
"""The longest run of entries that is kept as proof."""
_INDEX: Final = struct.Struct(">Q")
_ENTRY: Final = struct.Struct(">32sBIH")


def links(first: int, ours: bytes, entries: Sequence[Entry], other_first: int, theirs: bytes) -> bytes:
    """What joins the last of `entries` to an entry to which the other head gives another hash.

    `ours` are the hashes (32 bytes each) of a batch from index `first` on, the one before its entries
    included; `theirs` those of the other batch, from `other_first` on, of which its signed head names the
    first and the last. Gives index (8), then for each entry after it: hash before (32) ‖ kind (1) ‖ time (4)
    ‖ length (2) ‖ payload; nothing when the head itself names such an entry, or none is in reach.
    """
    last = first + len(entries)
    for index in (other_first + len(theirs) // HASH_LENGTH - 1, other_first):
        if not first < index < last or _at(ours, first, index) == _at(theirs, other_first, index):
            continue
        tail = entries[index - first :]
        if any(entry.damaged for entry in tail):
            continue  # its hash cannot be worked out
        packed = [_packed(_at(ours, first, entry.index - 1), entry) for entry in tail]
        joined = _INDEX.pack(index) + b"".join(packed)
        if len(joined) <= MAX_LINKS_BYTES:
            return joined
    return b""


def _packed(before: bytes, entry: Entry) -> bytes:
    return _ENTRY.pack(before, entry.kind, entry.time_s, len(entry.payload)) + entry.payload


def _at(hashes: bytes, first: int, index: int) -> bytes:
    place = (index - first) * HASH_LENGTH
    return hashes[place : place + HASH_LENGTH]
