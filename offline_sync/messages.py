"""The upload and its acknowledgement: JSON on the wire, and the bytes that are signed (docs/clearing.md).

JSON because a person may have to read one; bytes in it are base64. All that clearing's decision rests on is
under the terminal's one signature: entries by their chain, the rest by a digest of contents.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from hardwallet import certificates
from hardwallet.certificates import Certificate, TrustBundle
from hardwallet.errors import SignatureInvalid, WalletError
from hardwallet.suites import SigningKey, Suite, VerifyingKey
from offline_sync import chain
from offline_sync.chain import Entry
from offline_sync.errors import AcknowledgementRefused, MessageMalformed

VERSION: Final = 1
MAX_ENTRIES: Final = 2_000
MAX_BATCH_BYTES: Final = 2 * 1024 * 1024
MAX_ACKNOWLEDGEMENT_BYTES: Final = 2 * 1024 * 1024
REASON_LIMIT: Final = 300
"""The longest reason of a rejection, in characters."""

GOOD: Final = 0
FORKED: Final = 1
"""Clearing holds other entries with these numbers: the terminal locks itself."""

_HEAD_TYPE: Final = 0xE3
_ACKNOWLEDGEMENT_TYPE: Final = 0xF3
_HEAD: Final = struct.Struct(">BBBB4s8s8s4sQQ32s32s32sIQ")
_ACKNOWLEDGEMENT: Final = struct.Struct(">BBBB4s8s4sQQ32s32sIQ")
_DAMAGED_ENTRY: Final = struct.Struct(">32sQ32sBIH")

Bytes4 = Annotated[bytes, Meta(min_length=4, max_length=4)]
Bytes8 = Annotated[bytes, Meta(min_length=8, max_length=8)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, Meta(min_length=64, max_length=64)]
TerminalCertificate = Annotated[
    bytes, Meta(min_length=certificates.CERTIFICATE_LENGTH, max_length=certificates.CERTIFICATE_LENGTH)
]
CardCertificate = Annotated[
    bytes,
    Meta(min_length=certificates.CARD_CERTIFICATE_LENGTH, max_length=certificates.CARD_CERTIFICATE_LENGTH),
]
Time = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Index = Annotated[int, Meta(ge=0, le=2**53)]


class Item(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One entry: [kind, time, payload], and as a fourth its stored hash if the terminal found it damaged."""

    kind: Annotated[int, Meta(ge=0, le=255)]
    time_s: Time
    payload: Annotated[bytes, Meta(max_length=chain.PAYLOAD_LIMIT)]
    damaged: Annotated[bytes, Meta(max_length=32)] = b""


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run of journal entries, `first` and on, with the certificates that they need; signed."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    scheme: Bytes4
    terminal_certificate: TerminalCertificate
    card_certificates: Annotated[list[CardCertificate], Meta(max_length=MAX_ENTRIES)]
    first: Annotated[int, Meta(ge=1, le=2**53)]
    before: Bytes32
    entries: Annotated[list[Item], Meta(min_length=1, max_length=MAX_ENTRIES)]
    journal_head: Index
    time_s: Time
    signature: Bytes64

    @property
    def last(self) -> int:
        """The index of the last entry."""
        return self.first + len(self.entries) - 1


class Rejection(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """[index, code, reason]: an entry that was not booked. The code is for programs."""

    index: Index
    code: Annotated[str, Meta(max_length=40, pattern="^[a-z-]+$")]
    reason: Annotated[str, Meta(max_length=REASON_LIMIT)]


class Acknowledgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Clearing holds the entries first to last of this terminal, signed by its acquiring operator.

    `highest` is the highest index that clearing holds of this terminal.
    """

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    status: Annotated[int, Meta(ge=GOOD, le=FORKED)]
    scheme: Bytes4
    payee: Bytes8
    terminal: Bytes4
    first: Index
    last: Index
    head: Bytes32
    rejections: Annotated[list[Rejection], Meta(max_length=MAX_ENTRIES)]
    time_s: Time
    highest: Index
    signature: Bytes64


class Failure(msgspec.Struct, frozen=True):
    """What clearing answers when it refuses: a code for programs, a message for people."""

    code: str
    message: str


class Refusal(msgspec.Struct, frozen=True):
    """The JSON body of a refusal."""

    error: Failure


_Message = TypeVar("_Message", Batch, Acknowledgement, Refusal)
_encoder: Final = msgspec.json.Encoder()
_batch_decoder: Final = msgspec.json.Decoder(Batch)
_acknowledgement_decoder: Final = msgspec.json.Decoder(Acknowledgement)
_refusal_decoder: Final = msgspec.json.Decoder(Refusal)


@dataclass(frozen=True, slots=True)
class Chained:
    """A batch's entries with their hashes worked out. `head`: the last hash, `contents`: what binds the rest;
    32 bytes each."""

    entries: list[Entry]
    head: bytes
    contents: bytes


@dataclass(frozen=True, slots=True)
class Uploader:
    """Who signs an upload: a terminal's certificate and the key that it certifies."""

    suite: Suite
    certificate: Certificate
    key: SigningKey


def encode(message: Batch | Acknowledgement | Refusal) -> bytes:
    """JSON, UTF-8, keys in a fixed order."""
    return _encoder.encode(message)


def decode_batch(raw: bytes) -> Batch:
    """At most 2 MiB of JSON. Raises MessageMalformed."""
    return _decode(raw, _batch_decoder, MAX_BATCH_BYTES, "an upload")


def decode_acknowledgement(raw: bytes) -> Acknowledgement:
    """At most 2 MiB of JSON. Raises MessageMalformed."""
    return _decode(raw, _acknowledgement_decoder, MAX_ACKNOWLEDGEMENT_BYTES, "an acknowledgement")


def decode_refusal(raw: bytes) -> Refusal:
    """At most 2 MiB of JSON. Raises MessageMalformed."""
    return _decode(raw, _refusal_decoder, MAX_ACKNOWLEDGEMENT_BYTES, "a refusal")


def _decode(raw: bytes, decoder: msgspec.json.Decoder[_Message], limit: int, what: str) -> _Message:
    if len(raw) > limit:
        raise MessageMalformed(f"{what} has at most {limit} bytes, not {len(raw)}")
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageMalformed(f"this is not {what}: {error}") from None


def chained(batch: Batch) -> Chained:
    """Work the chain through from `before`: what a receiver compares with the terminal's signature. Raises
    MessageMalformed."""
    entries: list[Entry] = []
    hashed = batch.before
    contents = sha256(len(batch.card_certificates).to_bytes(2, "big") + b"".join(batch.card_certificates))
    for index, item in enumerate(batch.entries, batch.first):
        if item.damaged:
            if len(item.damaged) != chain.HASH_LENGTH:
                raise MessageMalformed(
                    "this is not an upload: a damaged entry with a hash of the wrong length"
                )
            # Its hash cannot be worked out, so that the chain binds neither it nor the entry before it.
            size = len(item.payload)
            contents.update(_DAMAGED_ENTRY.pack(hashed, index, item.damaged, item.kind, item.time_s, size))
            contents.update(item.payload)
            hashed = item.damaged
        else:
            hashed = chain.link(hashed, index, item.kind, item.time_s, item.payload)
        entries.append(Entry(index, item.kind, item.time_s, item.payload, hashed, bool(item.damaged)))
    return Chained(entries, hashed, contents.digest())


def head_message(batch: Batch, terminal: Certificate, terminal_digest: bytes, result: Chained) -> bytes:
    """What the terminal signs, 152 bytes."""
    return _HEAD.pack(
        _HEAD_TYPE,
        VERSION,
        terminal.suite,
        0,
        batch.scheme,
        terminal_digest,
        terminal.payee,
        terminal.terminal,
        batch.first,
        batch.last,
        batch.before,
        result.head,
        result.contents,
        batch.time_s,
        batch.journal_head,
    )


def seal_batch(
    uploader: Uploader,
    before: bytes,
    entries: Sequence[Entry],
    card_certificates: Sequence[bytes],
    *,
    journal_head: int,
    time_s: int,
) -> tuple[Batch, Chained]:
    """A signed batch of consecutive entries. `before` is the hash (32 bytes) before the first of them."""
    items = [
        Item(entry.kind, entry.time_s, entry.payload, entry.hash if entry.damaged else b"")
        for entry in entries
    ]
    unsigned = Batch(
        VERSION,
        uploader.certificate.scheme,
        uploader.certificate.to_bytes(),
        list(card_certificates),
        entries[0].index,
        before,
        items,
        journal_head,
        time_s,
        bytes(64),
    )
    result = chained(unsigned)
    digest = certificates.digest(uploader.suite, uploader.certificate)
    message = head_message(unsigned, uploader.certificate, digest, result)
    return msgspec.structs.replace(unsigned, signature=uploader.key.sign(message)), result


def check_head(
    batch: Batch, terminal: Certificate, terminal_digest: bytes, key: VerifyingKey, result: Chained
) -> None:
    """That the terminal, with the certificate of that digest (8 bytes), signed this batch as it stands.

    Raises SignatureInvalid.
    """
    key.verify(batch.signature, head_message(batch, terminal, terminal_digest, result))


def batch_key(batch: Batch, terminal: Certificate, result: Chained) -> bytes:
    """What makes two uploads one, 32 bytes: all but the time, the journal's head and the signature."""
    span = struct.pack(">QQ", batch.first, batch.last)
    parts = (batch.scheme, terminal.subject, span, batch.before, result.head, result.contents)
    return sha256(b"".join(parts)).digest()


def rejections_digest(rejections: Sequence[Rejection]) -> bytes:
    """32 bytes over: index (8) ‖ length (1) ‖ code ‖ length (2) ‖ reason, for each."""
    hashed = sha256()
    for rejection in rejections:
        code, reason = rejection.code.encode(), rejection.reason.encode()
        hashed.update(rejection.index.to_bytes(8, "big") + bytes((len(code),)) + code)
        hashed.update(len(reason).to_bytes(2, "big") + reason)
    return hashed.digest()


def acknowledgement_message(acknowledgement: Acknowledgement, suite: int) -> bytes:
    """What the acquiring operator signs, 112 bytes."""
    return _ACKNOWLEDGEMENT.pack(
        _ACKNOWLEDGEMENT_TYPE,
        VERSION,
        suite,
        acknowledgement.status,
        acknowledgement.scheme,
        acknowledgement.payee,
        acknowledgement.terminal,
        acknowledgement.first,
        acknowledgement.last,
        acknowledgement.head,
        rejections_digest(acknowledgement.rejections),
        acknowledgement.time_s,
        acknowledgement.highest,
    )


def seal_acknowledgement(acknowledgement: Acknowledgement, suite: int, key: SigningKey) -> Acknowledgement:
    """The acknowledgement with its operator's signature."""
    signature = key.sign(acknowledgement_message(acknowledgement, suite))
    return msgspec.structs.replace(acknowledgement, signature=signature)


def check_acknowledgement(
    acknowledgement: Acknowledgement, trust: TrustBundle, batch: Batch, head: bytes, terminal: Certificate
) -> None:
    """That the acquiring operator signed it, for exactly what was sent. Raises AcknowledgementRefused.

    `head` is the hash of the last entry sent, 32 bytes.
    """
    sent = (batch.scheme, terminal.payee, terminal.terminal, batch.first, batch.last, head)
    told = (
        acknowledgement.scheme,
        acknowledgement.payee,
        acknowledgement.terminal,
        acknowledgement.first,
        acknowledgement.last,
        acknowledgement.head,
    )
    _refuse_unless(told == sent, "it is not for what was sent")
    _refuse_unless(acknowledgement.highest >= batch.last, "it contradicts itself")
    listed = [rejection.index for rejection in acknowledgement.rejections]
    _refuse_unless(
        listed == sorted(set(listed)) and all(batch.first <= index <= batch.last for index in listed),
        "it rejects entries that were not sent",
    )
    try:
        operator, acquiring = terminal.payee[:4], certificates.CLASS_ACQUIRING
        _refuse_unless(trust.has_class(operator, acquiring), "its signer is no acquiring operator")
        message = acknowledgement_message(acknowledgement, trust.suite.number)
        trust.verify_signed(operator, acquiring, message, acknowledgement.signature, acknowledgement.time_s)
    except SignatureInvalid:
        _refuse_unless(False, "its signature is not the operator's")
    except WalletError as error:
        _refuse_unless(False, str(error))


def _refuse_unless(condition: bool, reason: str) -> None:
    if not condition:
        raise AcknowledgementRefused(
            f"clearing's acknowledgement is refused: {reason}. Nothing was marked as sent; "
            "check the address of clearing, and tell the operator"
        )


Lookup = Callable[[bytes], bytes | None]
"""A card certificate (178 bytes) by its digest (8 bytes)."""
