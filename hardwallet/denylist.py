"""The denylist: the cards that an issuing operator refuses, one signed sorted list with deltas
(docs/protocol.md, section 18; why so: docs/adr/0020).

    file   = header (100) ‖ signature (64) ‖ added cards (8 each) ‖ removed cards (8 each)
    header = F4 ‖ 01 ‖ suite ‖ 00 ‖ scheme (4) ‖ operator (4) ‖ version (4) ‖ base (4) ‖ time (4)
             ‖ added (4) ‖ removed (4) ‖ count (4) ‖ SHA-256 of the resulting list (32)
             ‖ SHA-256 of (added cards ‖ removed cards) (32)

Base 0: a full list, which removes none. Else a delta, which makes `version` out of the list of version
`base`. Both kinds of cards are sorted, each once, and all of them are cards of the operator that signs. A
delta may be empty: it says that the list of `base` is still right at its time.

In memory a list holds four bytes a card: the first four, the operator, are the same for all.
"""

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from operator import lt
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from hardwallet.certificates import CLASS_ISSUING, VERSION, TrustBundle
from hardwallet.errors import (
    AuthorityUnknown,
    CertificateRefused,
    CertificateRevoked,
    DenylistRefused,
    SignatureInvalid,
)
from hardwallet.suites import SIGNATURE_LENGTH, SigningKey, Suite

DENYLIST: Final = 0xF4
MAX_CARDS: Final = 1_000_000
"""The most cards that a list holds, and that one file adds or removes."""
CARD_LENGTH: Final = 8
HEADER_LENGTH: Final = 100
MAX_LENGTH: Final = HEADER_LENGTH + SIGNATURE_LENGTH + 2 * MAX_CARDS * CARD_LENGTH
"""The longest file, 16,000,164 bytes: a longer one is refused before it is read."""

_HEADER: Final = struct.Struct(">BBBB4s4sIIIIII32s32s")
_CARD: Final = struct.Struct(">4sI")
_LISTS: Final = HEADER_LENGTH + SIGNATURE_LENGTH
_OPERATOR_LENGTH: Final = 4
_CHUNK: Final = 16_384  # cards that are hashed at a time

Numbers: TypeAlias = "array[int]"
"""The last four bytes of card numbers, sorted: an array of type "I"."""


class Header(NamedTuple):
    """The signed part of a file. `scheme` and `operator` 4 bytes each, both hashes 32."""

    kind: int
    form: int
    suite: int
    spare: int
    scheme: bytes
    operator: bytes
    version: int
    base: int
    time_s: int
    added: int
    removed: int
    total: int
    result_hash: bytes
    lists_hash: bytes

    def to_bytes(self) -> bytes:
        """100 bytes."""
        return _HEADER.pack(*self)


@dataclass(frozen=True, slots=True)
class Denylist:
    """The refused cards of one issuing operator. `scheme` and `operator` 4 bytes each. `numbers` is never
    changed: a newer list is another one."""

    scheme: bytes
    operator: bytes
    version: int
    time_s: int
    numbers: Numbers

    def __contains__(self, card: bytes) -> bool:
        """Whether a card (8 bytes) is refused."""
        if len(card) != CARD_LENGTH:
            return False
        operator, number = _CARD.unpack(card)
        if operator != self.operator:
            return False
        numbers = self.numbers
        place = bisect_left(numbers, number)
        return place < len(numbers) and bool(numbers[place] == number)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[bytes]:
        """Each card, 8 bytes, in order."""
        return _cards(self.operator, self.numbers)

    def digest(self) -> bytes:
        """SHA-256 of the cards, 8 bytes each, in order: 32 bytes."""
        made = sha256()
        for begin in range(0, len(self.numbers), _CHUNK):
            made.update(_widened(self.operator, self.numbers[begin : begin + _CHUNK]))
        return made.digest()


@dataclass(frozen=True, slots=True)
class Delta:
    """What changes a list of version `base` into one of `version`; verified, not yet applied. `scheme` and
    `operator` have 4 bytes, `result_hash` 32."""

    scheme: bytes
    operator: bytes
    version: int
    base: int
    time_s: int
    added: Numbers
    removed: Numbers
    count: int
    result_hash: bytes


# ---------------------------------------------------------------------- the issuer's side


def build_full(
    suite: Suite,
    scheme: bytes,
    operator: bytes,
    version: int,
    time_s: int,
    cards: Iterable[bytes],
    key: SigningKey,
) -> bytes:
    """A whole list of `cards` (8 bytes each, in any order), signed. Raises DenylistRefused for cards of
    another operator, or too many."""
    made = Denylist(scheme, operator, version, time_s, _sorted(operator, cards))
    return _built(suite, made, 0, made.numbers, array("I"), key)


def build_whole(suite: Suite, made: Denylist, key: SigningKey) -> bytes:
    """A list that is at hand, as a whole file, signed."""
    return _built(suite, made, 0, made.numbers, array("I"), key)


def build_delta(
    old: Denylist,
    version: int,
    time_s: int,
    add: Iterable[bytes],
    remove: Iterable[bytes],
    suite: Suite,
    scheme: bytes,
    key: SigningKey,
) -> bytes:
    """What makes `version` out of `old`: cards (8 bytes each) added and removed, signed. Cards that are in
    the list already, or not in it, are left out. Raises DenylistRefused."""
    new, gone = set(add), set(remove)
    if new & gone:
        raise DenylistRefused("malformed", "a card can't be added to the denylist and removed at once")
    if version <= old.version:
        raise DenylistRefused("older", f"version {version} does not follow version {old.version}")
    added = _sorted(old.operator, (card for card in new if card not in old))
    removed = _sorted(old.operator, (card for card in gone if card in old))
    made = Denylist(scheme, old.operator, version, time_s, _merged(old.numbers, added, removed))
    if len(made) > MAX_CARDS:
        raise _too_many()
    return _built(suite, made, old.version, added, removed, key)


def _built(
    suite: Suite, made: Denylist, base: int, added: Numbers, removed: Numbers, key: SigningKey
) -> bytes:
    lists = _widened(made.operator, added) + _widened(made.operator, removed)
    header = Header(
        *(DENYLIST, VERSION, suite.number, 0, made.scheme, made.operator),
        *(made.version, base, made.time_s, len(added), len(removed), len(made)),
        *(made.digest(), sha256(lists).digest()),
    ).to_bytes()
    return header + key.sign(header) + lists


def _sorted(operator: bytes, cards: Iterable[bytes]) -> Numbers:
    unique = set(cards)
    if any(len(card) != CARD_LENGTH or card[:_OPERATOR_LENGTH] != operator for card in unique):
        raise DenylistRefused("operator", f"only cards of operator {operator.hex()} can be on its denylist")
    if len(unique) > MAX_CARDS:
        raise _too_many()
    return array("I", sorted(int.from_bytes(card[_OPERATOR_LENGTH:], "big") for card in unique))


# ---------------------------------------------------------------------- everybody's side


def read_file(path: Path) -> bytes:
    """The bytes of a denylist's file, at most MAX_LENGTH of them. A longer file is refused by its size, or
    as soon as it turns out to be longer. Raises DenylistRefused, OSError."""
    if path.stat().st_size > MAX_LENGTH:
        raise _too_long()
    with path.open("rb") as file:
        raw = file.read(MAX_LENGTH + 1)
    if len(raw) > MAX_LENGTH:
        raise _too_long()
    return raw


def parse_header(raw: bytes) -> Header:
    """The header at the beginning of a file; nothing of it is verified yet. Raises DenylistRefused."""
    if len(raw) > MAX_LENGTH:
        raise _too_long()
    if len(raw) < _LISTS:
        raise DenylistRefused(
            "malformed", f"a denylist has at least {_LISTS} bytes; this is none, or cut off"
        )
    header = Header._make(_HEADER.unpack_from(raw))
    if header.kind != DENYLIST:
        raise DenylistRefused("malformed", "this file is no denylist")
    if header.form != VERSION or header.spare:
        raise DenylistRefused(
            "malformed", f"a denylist of form {header.form}; this program knows form {VERSION}"
        )
    return header


def parse(raw: bytes, trust: TrustBundle) -> Denylist | Delta:
    """A whole file, every part of it verified: the signature by the operator's key in `trust`, its lists by
    the hashes in the signed header.

    Raises DenylistRefused with the code malformed, too-long, scheme, operator, or signature.
    """
    header = parse_header(raw)
    _check_signed(header, raw, trust)
    if len(raw) != _LISTS + CARD_LENGTH * (header.added + header.removed):
        raise _cut_off()
    if max(header.added, header.removed, header.total) > MAX_CARDS:
        raise _too_many()
    lists = memoryview(raw)[_LISTS:]
    if sha256(lists).digest() != header.lists_hash:
        raise DenylistRefused("signature", "the denylist's cards are not those that its issuer signed")
    added = _narrowed(header.operator, lists[: CARD_LENGTH * header.added])
    removed = _narrowed(header.operator, lists[CARD_LENGTH * header.added :])
    if header.base:
        if header.base >= header.version:
            raise DenylistRefused("malformed", "the change of a denylist leads back, not on")
        return Delta(
            *(header.scheme, header.operator, header.version, header.base, header.time_s),
            *(added, removed, header.total, header.result_hash),
        )
    if removed or header.total != header.added or header.version == 0:
        raise DenylistRefused("malformed", "the denylist's header contradicts its cards")
    if header.result_hash != header.lists_hash:
        raise DenylistRefused("malformed", "the denylist's header contradicts its cards")
    return Denylist(header.scheme, header.operator, header.version, header.time_s, added)


def apply(old: Denylist, delta: Delta) -> Denylist:
    """The list that `delta` makes out of `old`. Raises DenylistRefused with the code older, base, operator,
    scheme."""
    if delta.scheme != old.scheme:
        raise _other_scheme(delta.scheme)
    if delta.operator != old.operator:
        raise DenylistRefused(
            "operator", f"this change is for the denylist of operator {delta.operator.hex()}"
        )
    if delta.version <= old.version:
        raise DenylistRefused(
            "older", f"the change leads to denylist {delta.version}, but {old.version} is held already"
        )
    if delta.base != old.version:
        raise DenylistRefused(
            "base",
            f"the change begins at denylist {delta.base}, but {old.version} is held; "
            "bring the changes between them, or the whole list",
        )
    made = Denylist(
        *(old.scheme, old.operator, delta.version, delta.time_s),
        _merged(old.numbers, delta.added, delta.removed),
    )
    if len(made) != delta.count or made.digest() != delta.result_hash:
        raise DenylistRefused(
            "base", "the change does not give the list that its issuer signed; bring the whole list"
        )
    return made


def split(raw: bytes) -> Iterator[bytes]:
    """Files that stand one behind the other, any length. Raises DenylistRefused when the last is cut off."""
    at = 0
    while at < len(raw):
        header = parse_header(raw[at : at + _LISTS])
        end = at + _LISTS + CARD_LENGTH * (header.added + header.removed)
        if end > len(raw):
            raise _cut_off()
        yield raw[at:end]
        at = end


def snapshot(made: Denylist, raw: bytes) -> bytes:
    """A whole list behind the header and signature of the file that led to it: kept by a terminal instead of
    the changes, read by `parse_snapshot`. A full list is its own snapshot."""
    return raw[:_LISTS] + _widened(made.operator, made.numbers)


def parse_snapshot(raw: bytes, trust: TrustBundle) -> Denylist:
    """A snapshot (any length), verified like `parse` does: the cards by the hash of the resulting list.
    Raises DenylistRefused."""
    header = parse_header(raw)
    _check_signed(header, raw, trust)
    if len(raw) != _LISTS + CARD_LENGTH * header.total:
        raise _cut_off()
    cards = memoryview(raw)[_LISTS:]
    if sha256(cards).digest() != header.result_hash:
        raise DenylistRefused("signature", "the denylist's cards are not those that its issuer signed")
    numbers = _narrowed(header.operator, cards)
    return Denylist(header.scheme, header.operator, header.version, header.time_s, numbers)


def _check_signed(header: Header, raw: bytes, trust: TrustBundle) -> None:
    """Scheme, suite, the operator's right to sign, its signature."""
    if header.scheme != trust.scheme:
        raise _other_scheme(header.scheme)
    if header.suite != trust.suite.number:
        raise DenylistRefused(
            "scheme", f"the denylist is of suite {header.suite:02X}, which is not this scheme's"
        )
    signature, signed = raw[HEADER_LENGTH:_LISTS], raw[:HEADER_LENGTH]
    try:
        if not trust.has_class(header.operator, CLASS_ISSUING):
            raise DenylistRefused(
                "operator", f"operator {header.operator.hex()} issues no cards, and so signs no denylist"
            )
        trust.verify_signed(header.operator, CLASS_ISSUING, signed, signature, header.time_s)
    except (AuthorityUnknown, CertificateRevoked) as error:
        raise DenylistRefused("operator", str(error)) from None
    except CertificateRefused:
        raise DenylistRefused(
            "operator", "the denylist's date lies outside the dates of its issuer's certificate"
        ) from None
    except SignatureInvalid:
        raise DenylistRefused(
            "signature", "the denylist is not signed by its issuer, or was altered"
        ) from None


# ---------------------------------------------------------------------- sorted numbers


def _merged(numbers: Numbers, added: Numbers, removed: Numbers) -> Numbers:
    """Slices of the old numbers with the changes between them: a step a change, not a step a card."""
    changes = [(number, False) for number in removed] + [(number, True) for number in added]
    made, begin = array("I"), 0
    for number, is_added in sorted(changes):
        place = bisect_left(numbers, number, begin)
        made += numbers[begin:place]
        begin = place + 1 if place < len(numbers) and numbers[place] == number else place
        if is_added:
            made.append(number)
    made += numbers[begin:]
    return made


def _cards(operator: bytes, numbers: Numbers) -> Iterator[bytes]:
    return (operator + number.to_bytes(4, "big") for number in numbers)


def _widened(operator: bytes, numbers: Numbers) -> bytes:
    """The cards as they stand in a file: 8 bytes each."""
    halves = array("I", operator) * (2 * len(numbers))
    halves[1::2] = _swapped(numbers)
    return halves.tobytes()


def _narrowed(operator: bytes, cards: memoryview) -> Numbers:
    """The numbers of a file's cards, a part at a time: a long list is in memory twice at most. Raises
    DenylistRefused unless all are the operator's, sorted, each once."""
    halves, numbers = cards.cast("I"), array("I")
    for begin in range(0, len(halves), 2 * _CHUNK):
        part = halves[begin : begin + 2 * _CHUNK]
        if part[::2].tobytes() != operator * (len(part) // 2):
            raise DenylistRefused("operator", "the denylist names cards of another issuer")
        numbers += _swapped(array("I", part[1::2].tobytes()))
    if not all(map(lt, numbers, islice(numbers, 1, None))):
        raise DenylistRefused("malformed", "the denylist's cards are not in order")
    return numbers


def _swapped(numbers: Numbers) -> Numbers:
    """A copy in big-endian order, or from it."""
    copy = numbers[:]
    if sys.byteorder == "little":
        copy.byteswap()
    return copy


def _cut_off() -> DenylistRefused:
    return DenylistRefused("malformed", "the denylist is cut off, or something is appended to it")


def _too_long() -> DenylistRefused:
    return DenylistRefused(
        "too-long", f"the file is too long for a denylist, which has at most {MAX_LENGTH} bytes"
    )


def _too_many() -> DenylistRefused:
    return DenylistRefused("too-long", f"a denylist names at most {MAX_CARDS} cards")


def _other_scheme(scheme: bytes) -> DenylistRefused:
    return DenylistRefused("scheme", f"the denylist belongs to another scheme ({scheme.hex()})")
