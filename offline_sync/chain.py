"""The journal's entries and the hash chain that binds them, shared by terminal and clearing. Pure.

    hash(0) = SHA-256(4A ‖ 01 ‖ scheme (4) ‖ payee (8) ‖ terminal (4))
    hash(n) = SHA-256(hash(n - 1) ‖ n (8) ‖ kind (1) ‖ time (4) ‖ payload)

docs/clearing.md explains both, and the payload of each kind.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

import msgspec

from hardwallet.records import RECORD_LENGTH
from offline_sync.errors import MessageMalformed
from pos_terminal.sale import Sale, SaleState

HASH_LENGTH: Final = 32
NO_HASH: Final = bytes(HASH_LENGTH)
REASON_LIMIT: Final = 200
"""The longest reason of a change, bytes of UTF-8."""
REFERENCE_LENGTH: Final = 12
PAYLOAD_LIMIT: Final = REFERENCE_LENGTH + 1 + REASON_LIMIT

_OPENED: Final = struct.Struct(">12sIHBI8s")
_CHANGED: Final = struct.Struct(">12sB")
_DELIVERED: Final = struct.Struct(">8sIH")
_STATES: Final = {int(state): state for state in SaleState}  # the enum's own call is slow
_LINK: Final = struct.Struct(">32sQBI")


class Kind(IntEnum):
    """What an entry tells. The numbers are hashed and never change."""

    SALE_OPENED = 1
    SALE_CHANGED = 2
    OWN_PAYMENT = 3
    CARRIED = 4
    ORDER_DELIVERED = 5


class Entry(msgspec.Struct, frozen=True):
    """One journal entry. `hash` is the stored one; `damaged`: the bytes are not what it was made of."""

    index: int
    kind: int
    time_s: int
    payload: bytes
    hash: bytes
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """The payload of SALE_OPENED, 31 bytes: `card` (8) is about to be asked to pay."""

    reference: bytes
    amount_fen: int
    currency: int
    profile: int
    transaction: int
    card: bytes


@dataclass(frozen=True, slots=True)
class Changed:
    """The payload of SALE_CHANGED, 13 to 213 bytes."""

    reference: bytes
    state: SaleState
    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The payload of ORDER_DELIVERED, 14 bytes: `card` (8) has answered its issuer's order `number` with
    `status_word`."""

    card: bytes
    number: int
    status_word: int


def genesis(scheme: bytes, payee: bytes, terminal: bytes) -> bytes:
    """The hash before the first entry, 32 bytes: binds the chain to its terminal."""
    return sha256(b"\x4a\x01" + scheme + payee + terminal).digest()


def link(previous: bytes, index: int, kind: int, time_s: int, payload: bytes) -> bytes:
    """The hash of an entry, 32 bytes."""
    return sha256(_LINK.pack(previous, index, kind, time_s) + payload).digest()


def follows(entry: Entry, previous: bytes) -> bool:
    """Whether the entry's stored hash is made of its bytes and the hash before it."""
    return link(previous, entry.index, entry.kind, entry.time_s, entry.payload) == entry.hash


def pack_opened(sale: Sale) -> bytes:
    """The payload of SALE_OPENED, 31 bytes."""
    return _OPENED.pack(
        sale.reference, sale.amount_fen, sale.currency, sale.profile, sale.transaction, sale.card
    )


def parse_opened(payload: bytes) -> Opened:
    """What SALE_OPENED tells, 31 bytes. Raises MessageMalformed."""
    if len(payload) != _OPENED.size:
        raise MessageMalformed(f"an opened sale has {_OPENED.size} bytes, not {len(payload)}")
    return Opened(*_OPENED.unpack(payload))


def pack_changed(reference: bytes, state: SaleState, reason: str) -> bytes:
    """The payload of SALE_CHANGED, 13 to 213 bytes; `reference`: 12. A reason that is too long is cut, at a
    whole character."""
    words = reason.encode("utf-8", "replace")[:REASON_LIMIT].decode("utf-8", "ignore").encode()
    return _CHANGED.pack(reference, state) + words


def parse_changed(payload: bytes) -> Changed:
    """What SALE_CHANGED tells, 13 to 213 bytes. Raises MessageMalformed."""
    if not _CHANGED.size <= len(payload) <= PAYLOAD_LIMIT:
        raise MessageMalformed(f"a change of a sale has 13 to {PAYLOAD_LIMIT} bytes, not {len(payload)}")
    reference, state = _CHANGED.unpack_from(payload)
    try:
        return Changed(reference, SaleState(state), payload[_CHANGED.size :].decode())
    except ValueError:
        raise MessageMalformed("a change of a sale to a state, or with words, that cannot be read") from None


def pack_own(state: SaleState, record: bytes) -> bytes:
    """The payload of OWN_PAYMENT, 161 bytes."""
    return bytes((state,)) + record


def parse_own(payload: bytes) -> tuple[SaleState, bytes]:
    """State and record (160 bytes) of OWN_PAYMENT. Raises MessageMalformed."""
    if len(payload) != 1 + RECORD_LENGTH:
        raise MessageMalformed(f"a payment's entry has {1 + RECORD_LENGTH} bytes, not {len(payload)}")
    state = _STATES.get(payload[0])
    if state is None:
        raise MessageMalformed(f"a payment's entry with the unknown state {payload[0]}")
    return state, payload[1:]


def pack_delivered(card: bytes, number: int, status_word: int) -> bytes:
    """The payload of ORDER_DELIVERED, 14 bytes; `card`: 8."""
    return _DELIVERED.pack(card, number, status_word)


def parse_delivered(payload: bytes) -> Delivered:
    """What ORDER_DELIVERED tells, 14 bytes. Raises MessageMalformed."""
    if len(payload) != _DELIVERED.size:
        raise MessageMalformed(f"a delivered order has {_DELIVERED.size} bytes, not {len(payload)}")
    return Delivered(*_DELIVERED.unpack(payload))


def record_in(kind: int, payload: bytes) -> bytes | None:
    """The 160 bytes of the record in an entry; None when its kind or length has no place for one."""
    if kind == Kind.OWN_PAYMENT and len(payload) == 1 + RECORD_LENGTH:
        return payload[1:]
    if kind == Kind.CARRIED and len(payload) == RECORD_LENGTH:
        return payload
    return None


def examine(before: bytes, rows: Sequence[Entry]) -> list[Entry]:
    """The rows with `damaged` set where bytes were altered. `before` is the hash before the first of them.

    A row whose own bytes are proven by its successor, and only whose stored hash was altered, is given back
    with the right hash and is not damaged.
    """
    checked: list[Entry] = []
    stored, computed = before, before
    for row in rows:
        from_stored = link(stored, row.index, row.kind, row.time_s, row.payload)
        if from_stored == row.hash:
            checked.append(row)
        elif computed != stored and link(computed, row.index, row.kind, row.time_s, row.payload) == row.hash:
            checked[-1] = msgspec.structs.replace(checked[-1], hash=computed, damaged=False)
            checked.append(row)
        else:
            checked.append(msgspec.structs.replace(row, damaged=True))
        stored, computed = row.hash, from_stored
    return checked
