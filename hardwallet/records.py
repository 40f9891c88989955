"""The signed record: a payment, a load receipt; 96 bytes of body and the card's signature (docs/protocol.md,
section 4)."""

import struct
from typing import Final, NamedTuple

from hardwallet.errors import Malformed

PAYMENT: Final = 0xD1
LOAD: Final = 0xD2
REFUND: Final = 0xD3

TRANSIT: Final = 1
RETAIL: Final = 2
PROFILE_NONE: Final = 0

CVM_NONE: Final = 0
CVM_PIN: Final = 1

LIMIT_PIN_ASKED: Final = 1
LIMIT_OFFLINE_NEAR: Final = 2
LIMIT_TRANSIT_ALLOWANCE: Final = 4

BODY_LENGTH: Final = 96
SIGNATURE_LENGTH: Final = 64
RECORD_LENGTH: Final = BODY_LENGTH + SIGNATURE_LENGTH
MAX_AMOUNT_FEN: Final = 2**31 - 1

_BODY: Final = struct.Struct(">BBBB4s8s8sI8s12sIH4sI16sIBBBIIHB")


class Record(NamedTuple):
    """One record, decoded. Lengths as in the layout; amounts in fen, times in seconds since 1970."""

    kind: int
    version: int
    suite: int
    application: int
    scheme: bytes
    card: bytes
    certificate_digest: bytes
    sequence: int
    payee: bytes
    reference: bytes
    amount_fen: int
    currency: int
    terminal: bytes
    transaction: int
    nonce: bytes
    time_s: int
    profile: int
    cvm: int
    limit_state: int
    balance_fen: int
    offline_total_fen: int
    offline_count: int
    body: bytes
    signature: bytes

    @property
    def raw(self) -> bytes:
        """The 160 bytes as the card stored them."""
        return self.body + self.signature

    @property
    def sale(self) -> tuple[bytes, bytes, int, int]:
        """(payee, reference, amount_fen, currency): what a card pays only once."""
        return self.payee, self.reference, self.amount_fen, self.currency

    @property
    def tag(self) -> bytes:
        """The last 8 bytes of the signature, by which RATIFY shows that the record is held."""
        return self.signature[-8:]


class Owed(NamedTuple):
    """A payment that goes back to its card: its sequence number, the SHA-256 of its body (32), and how
    much.
    """

    sequence: int
    body_digest: bytes
    amount_fen: int


def parse(raw: bytes) -> Record:
    """A record of 160 bytes. Checks what stands by itself, never the signature. Raises Malformed."""
    if len(raw) != RECORD_LENGTH:
        raise Malformed(f"a record has {RECORD_LENGTH} bytes, not {len(raw)}")
    body = raw[:BODY_LENGTH]
    fields = _BODY.unpack(body)
    if fields[-1] != 0:
        raise Malformed("a record whose last body byte is not zero")
    record = Record._make((*fields[:-1], body, raw[BODY_LENGTH:]))
    if record.kind not in (PAYMENT, LOAD, REFUND):
        raise Malformed(f"a record of unknown type {record.kind:02X}")
    if record.version != 1 or record.application != 1:
        raise Malformed("a record of another protocol version or application")
    if record.sequence == 0:
        raise Malformed("a record with sequence number 0")
    smallest = 0 if record.kind == LOAD else 1
    if not smallest <= record.amount_fen <= MAX_AMOUNT_FEN:
        raise Malformed(f"a record with the impossible amount of {record.amount_fen} fen")
    if record.kind == REFUND and not (
        refunded_payment(record) and record.amount_fen <= refunded_total_fen(record) <= MAX_AMOUNT_FEN
    ):
        raise Malformed("a refund receipt whose total can't be")
    profiles = (PROFILE_NONE,) if record.kind == LOAD else (TRANSIT, RETAIL)
    if record.profile not in profiles or record.cvm > CVM_PIN or record.limit_state > 7:
        raise Malformed("a record with an unknown profile, cardholder verification or limit state")
    return record


def load_counter(record: Record) -> int:
    """The load counter that a load receipt names."""
    return int.from_bytes(record.reference[:4], "big")


def refunded_payment(record: Record) -> int:
    """The sequence number of the payment that a refund receipt takes back."""
    return int.from_bytes(record.reference[:4], "big")


def refunded_total_fen(record: Record) -> int:
    """What a refund receipt says was refunded of its payment in all, in fen."""
    return int.from_bytes(record.reference[4:8], "big")
