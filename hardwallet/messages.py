"""Commands, replies and signed bodies, to bytes and back (docs/protocol.md, sections 6 to 13). Pure."""

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from hardwallet.certificates import (
    APPLICATION,
    CARD_CERTIFICATE_LENGTH,
    VERSION,
)
from hardwallet.errors import CardMisbehaved, Malformed, NotAWallet
from hardwallet.limits import LIMITS_LENGTH, MAX_UNRATIFIED, Limits, parse_limits
from hardwallet.records import MAX_AMOUNT_FEN, RECORD_LENGTH
from hardwallet.suites import BLOCK_LENGTH, PUBLIC_KEY_LENGTH, SIGNATURE_LENGTH

AID: Final = bytes.fromhex("F04841524457414C4C4554")
CLA_ISO: Final = 0x00
CLA_WALLET: Final = 0x80

INS_SELECT: Final = 0xA4
INS_EXCHANGE_CERTIFICATES: Final = 0x10
INS_INTRODUCE: Final = 0x12
INS_PROVE: Final = 0x14
INS_INTERNAL_AUTHENTICATE: Final = 0x16
INS_PAY: Final = 0x20
INS_RATIFY: Final = 0x22
INS_CHANGE_PIN: Final = 0x24
INS_REFUND: Final = 0x26
INS_READ_RECORD: Final = 0x30
INS_READ_STATE: Final = 0x32
INS_LOAD_CHALLENGE: Final = 0x34
INS_LOAD: Final = 0x40
INS_ORDER: Final = 0x42

P1_SELECT_BY_NAME: Final = 0x04
P1_THIS_RECORD: Final = 0x00
P1_NEXT_UNRATIFIED: Final = 0x01
P1_REFUNDED_TOTAL: Final = 0x02
P2_WITH_AGREEMENT_KEY: Final = 0x01

ALREADY_PAID_PROOF: Final = 0xD4
CARD_PROOF: Final = 0xD5
RETAIL_PROOF: Final = 0xE1
TERMINAL_PROOF: Final = 0xE2
REFUND_ORDER: Final = 0xE4
LOAD_ORDER: Final = 0xF1
CARD_ORDER: Final = 0xF2

PAID: Final = 1
ALREADY_PAID_UNRATIFIED: Final = 2
ALREADY_PAID_RATIFIED: Final = 3

STATE_BLOCKED: Final = 1
STATE_PIN_SET: Final = 2
STATE_PIN_LOCKED: Final = 4

NONCE_LENGTH: Final = 16
DIGEST_LENGTH: Final = 8
TAG_LENGTH: Final = 8
SALE_LENGTH: Final = 58
RETAIL_LENGTH: Final = SALE_LENGTH + DIGEST_LENGTH + SIGNATURE_LENGTH
PIN_LENGTH: Final = RETAIL_LENGTH + PUBLIC_KEY_LENGTH + BLOCK_LENGTH
PROVE_LENGTH: Final = DIGEST_LENGTH + SIGNATURE_LENGTH
RATIFY_LENGTH: Final = 4 + TAG_LENGTH
CHANGE_PIN_LENGTH: Final = PUBLIC_KEY_LENGTH + 2 * BLOCK_LENGTH
PAID_REPLY_LENGTH: Final = 81
ALREADY_PAID_REPLY_LENGTH: Final = 1 + RECORD_LENGTH + SIGNATURE_LENGTH
ORDER_LENGTH: Final = 61 + SIGNATURE_LENGTH
REFUND_LENGTH: Final = 32 + DIGEST_LENGTH + SIGNATURE_LENGTH
LOAD_ORDER_LENGTH: Final = 58 + SIGNATURE_LENGTH
STATE_REPLY_LENGTH: Final = 69
CHALLENGE_REPLY_LENGTH: Final = 4 + NONCE_LENGTH

KIND_ACKNOWLEDGE: Final = 1
KIND_LIMITS: Final = 2
KIND_BLOCK: Final = 3
KIND_UNBLOCK: Final = 4
_ORDER_VALUE_LENGTH: Final = 32

FCI_HEAD: Final = bytes.fromhex("6F2E852C")
SELECTED_LENGTH: Final = 48

_SELECTED: Final = struct.Struct(">BBBBBB4s8s8sH16s")
_SALE: Final = struct.Struct(">BBB8s12sIH4sI16sIB")
_STATE: Final = struct.Struct(">IIIIIIIIBIBBB23sBH3x")
_LOAD_ORDER: Final = struct.Struct(">BBBB4s4s8sIIHII16sI")
_ORDER: Final = struct.Struct(">BBBB4s4s8sIIB32s")
_REFUND: Final = struct.Struct(">III16sI")


class Selected(NamedTuple):
    """SELECT's answer. `scheme` 4 bytes, `card` 8, `certificate_digest` 8, `nonce` 16."""

    version: int
    suite: int
    application: int
    state: int
    unratified: int
    tier: int
    scheme: bytes
    card: bytes
    certificate_digest: bytes
    currency: int
    nonce: bytes

    def to_bytes(self) -> bytes:
        """48 bytes: the FCI template around 44."""
        return FCI_HEAD + _SELECTED.pack(*self)


def parse_selected(raw: bytes) -> Selected:
    """SELECT's answer, 48 bytes. Raises NotAWallet, also for a version or application that is not known
    here."""
    if len(raw) != SELECTED_LENGTH or raw[:4] != FCI_HEAD:
        raise NotAWallet("the card answers SELECT, but not as a hardwallet does; try another card")
    selected = Selected._make(_SELECTED.unpack_from(raw, len(FCI_HEAD)))
    if selected.version != VERSION or selected.application != APPLICATION:
        raise NotAWallet(
            f"the card speaks version {selected.version}, application {selected.application} of the "
            "protocol; "
            f"this program speaks version {VERSION}, application {APPLICATION}"
        )
    if selected.state & ~7 or selected.unratified > MAX_UNRATIFIED:
        raise NotAWallet("the card's answer to SELECT holds values that no hardwallet has")
    return selected


@dataclass(frozen=True, slots=True)
class SaleRequest:
    """What a terminal asks a card to pay. `payee` 8 bytes, `reference` 12, `terminal` 4, `nonce` 16."""

    suite: int
    payee: bytes
    reference: bytes
    amount_fen: int
    currency: int
    terminal: bytes
    transaction: int
    nonce: bytes
    time_s: int
    profile: int

    def to_bytes(self) -> bytes:
        """58 bytes. Raises Malformed for an amount that does not fit."""
        if not 0 <= self.amount_fen <= 0xFFFFFFFF:
            raise Malformed(f"an amount of {self.amount_fen} fen does not fit")
        return _SALE.pack(
            VERSION,
            self.suite,
            APPLICATION,
            self.payee,
            self.reference,
            self.amount_fen,
            self.currency,
            self.terminal,
            self.transaction,
            self.nonce,
            self.time_s,
            self.profile,
        )


class Sale(NamedTuple):
    """The 58 bytes of a sale as a card reads them."""

    version: int
    suite: int
    application: int
    payee: bytes
    reference: bytes
    amount_fen: int
    currency: int
    terminal: bytes
    transaction: int
    nonce: bytes
    time_s: int
    profile: int


def parse_sale(raw: bytes) -> Sale:
    """A sale of 58 bytes. Raises Malformed only for another length: what it says is the card's to judge."""
    if len(raw) != SALE_LENGTH:
        raise Malformed(f"a sale has {SALE_LENGTH} bytes, not {len(raw)}")
    return Sale._make(_SALE.unpack(raw))


def payment_head(scheme: bytes, card: bytes, certificate_digest: bytes, sequence: int, sale: bytes) -> bytes:
    """Bytes 0 to 82 of a payment's body: what card and terminal both know once the sequence is known."""
    return b"\xd1" + sale[:3] + scheme + card + certificate_digest + sequence.to_bytes(4, "big") + sale[3:]


def retail_proof_body(
    scheme: bytes, card: bytes, card_nonce: bytes, digest: bytes, sale: bytes, pin: bytes
) -> bytes:
    """What a retail terminal signs: 98 bytes, with a PIN (ephemeral key ‖ block, 80 bytes) 178."""
    return b"\xe1" + sale[:3] + scheme + card + card_nonce + digest + sale + pin


def terminal_proof_body(suite: int, scheme: bytes, card: bytes, card_nonce: bytes, digest: bytes) -> bytes:
    """What a terminal signs to prove itself: 40 bytes."""
    return bytes((TERMINAL_PROOF, VERSION, suite, APPLICATION)) + scheme + card + card_nonce + digest


def card_proof_body(
    suite: int, state: int, scheme: bytes, card: bytes, digest: bytes, card_nonce: bytes, challenge: bytes
) -> bytes:
    """What a card signs to prove itself: 57 bytes; `state` as in SELECT, `challenge` the terminal's 16."""
    head = bytes((CARD_PROOF, VERSION, suite, APPLICATION, state))
    return head + scheme + card + digest + card_nonce + challenge


def already_paid_body(
    scheme: bytes,
    card: bytes,
    certificate_digest: bytes,
    sequence: int,
    outcome: int,
    sale: bytes,
    body_hash: bytes,
) -> bytes:
    """What a card signs to show that it is the card that paid: 119 bytes."""
    return (
        b"\xd4"
        + sale[:3]
        + scheme
        + card
        + certificate_digest
        + sequence.to_bytes(4, "big")
        + bytes((outcome,))
        + sale
        + body_hash
    )


@dataclass(frozen=True, slots=True)
class CardState:
    """READ STATE's answer. Amounts in fen."""

    balance_fen: int
    sequence: int
    acknowledged_sequence: int
    spent_fen: int
    acknowledged_fen: int
    load_counter: int
    order_number: int
    date_floor: int
    transit_count: int
    transit_amount_fen: int
    state: int
    unratified: int
    tries: int
    limits: Limits
    tier: int
    currency: int

    def to_bytes(self) -> bytes:
        """69 bytes."""
        return _STATE.pack(
            self.balance_fen,
            self.sequence,
            self.acknowledged_sequence,
            self.spent_fen,
            self.acknowledged_fen,
            self.load_counter,
            self.order_number,
            self.date_floor,
            self.transit_count,
            self.transit_amount_fen,
            self.state,
            self.unratified,
            self.tries,
            self.limits.to_bytes(),
            self.tier,
            self.currency,
        )


def parse_card_state(raw: bytes) -> CardState:
    """READ STATE's answer, 69 bytes. Raises CardMisbehaved."""
    if len(raw) != STATE_REPLY_LENGTH:
        raise CardMisbehaved(f"the card's state has {len(raw)} bytes instead of {STATE_REPLY_LENGTH}")
    if any(raw[-3:]):
        raise CardMisbehaved("the card's state holds values that no hardwallet has")
    fields = _STATE.unpack(raw)
    try:
        limits = parse_limits(fields[13])
    except Malformed as error:
        raise CardMisbehaved(f"the card tells limits that can't be: {error}") from None
    return CardState(*(*fields[:13], limits, *fields[14:]))


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """An issuer's order to load. `scheme` 4 bytes, `operator` 4, `card` 8, `challenge` 16; an amount of 0
    cancels."""

    suite: int
    scheme: bytes
    operator: bytes
    card: bytes
    counter: int
    amount_fen: int
    currency: int
    acknowledged_sequence: int
    acknowledged_fen: int
    challenge: bytes
    time_s: int

    def body(self) -> bytes:
        """The 58 signed bytes."""
        return _LOAD_ORDER.pack(
            LOAD_ORDER,
            VERSION,
            self.suite,
            APPLICATION,
            self.scheme,
            self.operator,
            self.card,
            self.counter,
            self.amount_fen,
            self.currency,
            self.acknowledged_sequence,
            self.acknowledged_fen,
            self.challenge,
            self.time_s,
        )


def parse_load_order(raw: bytes) -> LoadOrder:
    """A load order's body (58) or whole order (122). Raises Malformed."""
    if len(raw) not in (_LOAD_ORDER.size, LOAD_ORDER_LENGTH):
        raise Malformed(f"a load order has {LOAD_ORDER_LENGTH} bytes, not {len(raw)}")
    kind, version, suite, application, *rest = _LOAD_ORDER.unpack(raw[: _LOAD_ORDER.size])
    if (kind, version, application) != (LOAD_ORDER, VERSION, APPLICATION):
        raise Malformed("not a load order of this version and application")
    return LoadOrder(suite, *rest)


@dataclass(frozen=True, slots=True)
class CardOrder:
    """An issuer's order: one of the KIND_ values, and its value without the padding to 32 bytes."""

    suite: int
    scheme: bytes
    operator: bytes
    card: bytes
    number: int
    time_s: int
    kind: int
    value: bytes

    def body(self) -> bytes:
        """The 61 signed bytes."""
        return _ORDER.pack(
            CARD_ORDER,
            VERSION,
            self.suite,
            APPLICATION,
            self.scheme,
            self.operator,
            self.card,
            self.number,
            self.time_s,
            self.kind,
            self.value,
        )


_ORDER_VALUES: Final = {KIND_ACKNOWLEDGE: 8, KIND_LIMITS: LIMITS_LENGTH + 1, KIND_BLOCK: 0, KIND_UNBLOCK: 0}


def parse_card_order(raw: bytes) -> CardOrder:
    """An order's body (61) or whole order (125). Raises Malformed, also for an unknown kind or padding."""
    if len(raw) not in (_ORDER.size, ORDER_LENGTH):
        raise Malformed(f"an order has {ORDER_LENGTH} bytes, not {len(raw)}")
    head, version, suite, application, *rest, kind, value = _ORDER.unpack(raw[: _ORDER.size])
    if (head, version, application) != (CARD_ORDER, VERSION, APPLICATION):
        raise Malformed("not an order of this version and application")
    length = _ORDER_VALUES.get(kind)
    if length is None:
        raise Malformed(f"an order of unknown kind {kind:02X}")
    if any(value[length:]):
        raise Malformed("an order whose padding is not zero")
    return CardOrder(*(suite, *rest, kind, value[:length]))


class RefundRequest(NamedTuple):
    """What a terminal orders a card to take back: the payment's sequence number and the *total* refunded
    afterwards.

    A total, never an increment: the same order again credits nothing again. `nonce` 16 bytes.
    """

    sequence: int
    total_fen: int
    transaction: int
    nonce: bytes
    time_s: int

    def to_bytes(self) -> bytes:
        """32 bytes."""
        return _REFUND.pack(*self)


def parse_refund(raw: bytes) -> RefundRequest:
    """The first 32 bytes of REFUND. Raises Malformed."""
    if len(raw) != _REFUND.size:
        raise Malformed(f"a refund has {_REFUND.size} bytes, not {len(raw)}")
    return RefundRequest(*_REFUND.unpack(raw))


def refund_order_body(
    suite: int, scheme: bytes, card: bytes, card_nonce: bytes, digest: bytes, request: bytes
) -> bytes:
    """What a terminal signs to refund: 72 bytes; `request` is the refund's 32."""
    head = bytes((REFUND_ORDER, VERSION, suite, APPLICATION))
    return head + scheme + card + card_nonce + digest + request


def pin_field(pin: str) -> bytes:
    """ISO 9564-1 format 2: control and length, digits in BCD, padded with F: 8 bytes. No PIN is the empty
    string.

    Raises Malformed, without the digits, for anything but 0 or 4 to 12 digits.
    """
    if pin and not (4 <= len(pin) <= 12 and pin.isascii() and pin.isdigit()):
        raise Malformed("a PIN has 4 to 12 digits")
    return bytes((0x20 | len(pin),)) + bytes.fromhex(pin.ljust(14, "F"))


def is_pin_field(field: bytes) -> bool:
    """Whether 8 bytes are a PIN field of 4 to 12 digits."""
    digits, text = field[0] & 0x0F, field[1:].hex()
    return (
        field[0] & 0xF0 == 0x20
        and 4 <= digits <= 12
        and text[:digits].isdigit()
        and text[digits:] == "f" * (14 - digits)
    )


def is_amount(amount_fen: int) -> bool:
    """Whether a card can pay it at all: 1 to 2^31 - 1 fen."""
    return 1 <= amount_fen <= MAX_AMOUNT_FEN


CERTIFICATES_REPLY_LENGTHS: Final = (CARD_CERTIFICATE_LENGTH, CARD_CERTIFICATE_LENGTH + PUBLIC_KEY_LENGTH)
