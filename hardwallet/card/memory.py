"""The card's non-volatile memory: small atomic commits, and plain writes that can tear.

What a Java Card offers and nothing more (docs/protocol.md, section 5): `commit` changes the state of 96 bytes
whole or not at
all; every other write may stop halfway. Memory holds bytes and knows no rules.
"""

import struct
from typing import Any, Final

import msgspec

from hardwallet.certificates import BODY_LENGTH as CERTIFICATE_BODY_LENGTH
from hardwallet.limits import JOURNAL_ENTRIES, MAX_UNRATIFIED, Limits, parse_limits
from hardwallet.records import RECORD_LENGTH

STATE_LENGTH: Final = 96
TERMINAL_PLACES: Final = 8
OPERATOR_PLACES: Final = 4
PIN_DIGEST_LENGTH: Final = 16
MAX_TRIES: Final = 3
NO_ENTRY: Final = 0xFF
FLAG_BLOCKED: Final = 1
FLAG_PIN_SET: Final = 2

OPERATORS_AT: Final = 1
TERMINALS_AT: Final = OPERATORS_AT + OPERATOR_PLACES * CERTIFICATE_BODY_LENGTH
ENTRIES_AT: Final = TERMINALS_AT + TERMINAL_PLACES * CERTIFICATE_BODY_LENGTH
IMAGE_LENGTH: Final = ENTRIES_AT + JOURNAL_ENTRIES * RECORD_LENGTH
_SALE_AT: Final = 28  # in a record: payee, reference, amount, currency
_SALE_LENGTH: Final = 26

_STATE: Final = struct.Struct(">IIIIIIIIBIB8sBBBB23sB16s6x")


class State(msgspec.Struct):
    """What changes in one atomic commit. Amounts in fen; `unratified` holds entry indexes, oldest first;
    `pin_digest` has 16 bytes, zero without a PIN."""

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
    flags: int
    unratified: list[int]
    terminals_valid: int
    terminals_next: int
    operators_valid: int
    operators_next: int
    limits: Limits
    tier: int
    pin_digest: bytes

    def changed(self, **changes: Any) -> "State":
        """A copy with some fields changed."""
        return msgspec.structs.replace(self, **changes)

    def to_bytes(self) -> bytes:
        """96 bytes."""
        unratified = bytes(self.unratified) + bytes((NO_ENTRY,)) * (MAX_UNRATIFIED - len(self.unratified))
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
            self.flags,
            unratified,
            self.terminals_valid,
            self.terminals_next,
            self.operators_valid,
            self.operators_next,
            self.limits.to_bytes(),
            self.tier,
            self.pin_digest,
        )


def parse_state(raw: bytes) -> State:
    """A state of 96 bytes. Raises Malformed when the limits in it can't be."""
    fields = _STATE.unpack(raw)
    unratified = [index for index in fields[11] if index != NO_ENTRY]
    return State(*(*fields[:11], unratified, *fields[12:16], parse_limits(fields[16]), *fields[17:]))


class CardMemory:
    """A card's memory in RAM. The card file's memory adds durability to the same two ways of writing.

    The image: PIN tries (1) ‖ operators (4 x 98) ‖ terminals (8 x 98) ‖ journal (128 x 160).
    """

    def __init__(self, state: bytes, image: bytes = b"") -> None:
        self._state = state
        self._image = bytearray(image) if image else bytearray(IMAGE_LENGTH)
        self._sales = bytearray(JOURNAL_ENTRIES * _SALE_LENGTH)
        self._note_sales(range(JOURNAL_ENTRIES))

    def state(self) -> State:
        """The committed state."""
        return parse_state(self._state)

    def commit(self, state: bytes) -> None:
        """Replace the state (96 bytes): whole, or not at all."""
        self._state = state

    def write(self, offset: int, data: bytes) -> None:
        """Write into the image; may stop halfway."""
        self._image[offset : offset + len(data)] = data
        end = offset + len(data)
        if end > ENTRIES_AT:
            first = max(0, (offset - ENTRIES_AT) // RECORD_LENGTH)
            self._note_sales(range(first, (end - ENTRIES_AT - 1) // RECORD_LENGTH + 1))

    def image(self) -> bytes:
        """All of the memory but the state."""
        return bytes(self._image)

    def tries(self) -> int:
        """PIN tries left."""
        return self._image[0]

    def write_tries(self, tries: int) -> None:
        """One byte, outside any transaction."""
        self.write(0, bytes((tries,)))

    def operator(self, place: int) -> bytes:
        """An operator certificate's body, 98 bytes."""
        return self._slice(OPERATORS_AT + place * CERTIFICATE_BODY_LENGTH, CERTIFICATE_BODY_LENGTH)

    def write_operator(self, place: int, body: bytes) -> None:
        """Replace an operator certificate's body, 98 bytes."""
        self.write(OPERATORS_AT + place * CERTIFICATE_BODY_LENGTH, body)

    def terminal(self, place: int) -> bytes:
        """A terminal certificate's body, 98 bytes."""
        return self._slice(TERMINALS_AT + place * CERTIFICATE_BODY_LENGTH, CERTIFICATE_BODY_LENGTH)

    def write_terminal(self, place: int, body: bytes) -> None:
        """Replace a terminal certificate's body, 98 bytes."""
        self.write(TERMINALS_AT + place * CERTIFICATE_BODY_LENGTH, body)

    def entry(self, index: int) -> bytes:
        """A journal entry, 160 bytes."""
        return self._slice(ENTRIES_AT + index * RECORD_LENGTH, RECORD_LENGTH)

    def write_entry(self, index: int, record: bytes) -> None:
        """Write a journal entry, 160 bytes."""
        self.write(ENTRIES_AT + index * RECORD_LENGTH, record)

    def find_sale(self, sale: bytes) -> list[int]:
        """Indexes of the entries with that payee, reference, amount and currency (26 bytes)."""
        found = []
        at = self._sales.find(sale)
        while at >= 0:
            index, place = divmod(at, _SALE_LENGTH)
            if place == 0:
                found.append(index)
            at = self._sales.find(sale, at + 1)
        return found

    def _note_sales(self, entries: range) -> None:
        """What a card looks for when it is asked to pay, side by side: a sixth of the bytes to search."""
        for index in entries:
            at = ENTRIES_AT + index * RECORD_LENGTH + _SALE_AT
            noted = index * _SALE_LENGTH
            self._sales[noted : noted + _SALE_LENGTH] = self._image[at : at + _SALE_LENGTH]

    def _slice(self, offset: int, length: int) -> bytes:
        return bytes(self._image[offset : offset + length])


def fresh_state(limits: Limits, tier: int, date_floor: int, operators: int) -> State:
    """The state of a card that was never used; `operators` certificates lie in the first places, its issuer's
    first."""
    following = 1 + (operators - 1) % (OPERATOR_PLACES - 1)
    return State(
        *(0, 0, 0, 0, 0, 0, 0, date_floor, 0, 0, 0),
        *([], 0, 0, (1 << operators) - 1, following, limits, tier, bytes(PIN_DIGEST_LENGTH)),
    )
