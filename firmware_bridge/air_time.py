"""How long an exchange takes on the air and in the card: a model. Call every figure from here modelled.

Air: ISO/IEC 14443-3 and -4, type A. A block of n bytes INF travels as n + 3 (PCB and CRC); reader to card
that takes (9(n + 3) + 3)·D/fc, card to reader (9(n + 3) + 2)·D/fc, with fc = 13.56 MHz and D = 128, 64, 32,
16 for 106, 212, 424 and 848 kbit/s. Card: timings of published JCAlgTest profiles (P-256, most over the
contact interface). Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain, repeat
from typing import NamedTuple

from firmware_bridge.errors import BridgeError

CARRIER_HZ = 13_560_000
FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
"""What FSDI and FSCI 0 to 8 stand for, bytes."""

BLOCK_OVERHEAD = 3
"""PCB and two bytes of CRC."""

ACTIVATION_MS = 6.5
"""REQA, anticollision of a 7-byte UID, RATS with a 14-byte ATS, all at 106 kbit/s."""

PPS_MS = 0.9
"""Agreeing on a higher rate."""

WTX_MS = 0.4
"""One waiting-time extension, measured at 424 kbit/s."""

HASH_BLOCK = 64

_DIVISORS = {106: 128, 212: 64, 424: 32, 848: 16}
_CARD_DELAY_106 = 1172
_CARD_DELAY_FAST = 1116
_FAST_START = 512
_NVM_SMALL = 16


class BadModel(BridgeError):
    """Parameters that the model has no figures for."""


class Gap(Enum):
    """The pause before the reader's next frame, in carrier periods."""

    ISO = 1172
    EMV = 6780


def exchange_air_ms(
    command_len: int,
    response_len: int,
    rate_kbps: int = 106,
    fsd: int = 256,
    fsc: int = 256,
    gap: Gap = Gap.ISO,
) -> float:
    """Modelled milliseconds on the air of one APDU exchange, up to when the reader may send again.

    Lengths are those of the whole APDUs in bytes. `fsd` and `fsc` are the largest frames that reader and
    card take; each further block of a chain costs one R(ACK) the other way.
    """
    divisor = _divisor(rate_kbps)
    fast = rate_kbps > 106
    to_card = _blocks(command_len, fsc)
    to_reader = _blocks(response_len, fsd)
    periods = 0
    # Each frame of the reader's has one of the card's after it: a block or an R(ACK), and these R(ACK)
    # carry no INF.
    for sent, answered in chain(
        zip(to_card[:-1], repeat(0), strict=False),
        zip([to_card[-1], *repeat(0, len(to_reader) - 1)], to_reader, strict=True),
    ):
        periods += (9 * (sent + BLOCK_OVERHEAD) + 3) * divisor
        periods += _CARD_DELAY_FAST if fast else _CARD_DELAY_106
        periods += (9 * (answered + BLOCK_OVERHEAD) + 2) * divisor + (_FAST_START if fast else 0)
        periods += gap.value
    return periods / CARRIER_HZ * 1000


def activation_ms(rate_kbps: int = 106) -> float:
    """Modelled milliseconds from the first REQA until the first APDU may be sent."""
    _divisor(rate_kbps)
    return ACTIVATION_MS + (PPS_MS if rate_kbps > 106 else 0.0)


def frame_waiting_ms(fwi: int) -> float:
    """The longest a card may take before its answer begins (FWT), FWI 0 to 14 (ISO/IEC 14443-4, 7.2). Raises
    BadModel."""
    if not 0 <= fwi <= 14:
        raise BadModel(f"FWI is 0 to 14, not {fwi}.")
    return 4096 / CARRIER_HZ * (1 << fwi) * 1000


def block_count(apdu_len: int, frame_size: int) -> int:
    """How many ISO-DEP blocks an APDU of so many bytes takes; 1 means that nothing is chained."""
    return len(_blocks(apdu_len, frame_size))


def _divisor(rate_kbps: int) -> int:
    if rate_kbps not in _DIVISORS:
        raise BadModel(f"The air runs at {', '.join(map(str, _DIVISORS))} kbit/s, not at {rate_kbps}.")
    return _DIVISORS[rate_kbps]


def _blocks(apdu_len: int, frame_size: int) -> list[int]:
    if frame_size not in FRAME_SIZES:
        raise BadModel(f"A frame holds {', '.join(map(str, FRAME_SIZES))} bytes, not {frame_size}.")
    if apdu_len < 0:
        raise BadModel("An APDU has no negative length.")
    room = frame_size - BLOCK_OVERHEAD
    full, rest = divmod(apdu_len, room)
    return [room] * full + [rest] if rest or not full else [room] * full


class OperationKind(Enum):
    """What a card spends its time on."""

    SIGN = "sign"
    SIGN_INIT = "sign_init"
    VERIFY = "verify"
    ECDH = "ecdh"
    AES = "aes"
    AES_MAC = "aes_mac"
    AES_KEY_CHANGE = "aes_key_change"
    SHA256 = "sha256"
    NVM_WRITE = "nvm_write"


class Operation(NamedTuple):
    """One operation of a card; `size` in bytes is that of the message or the data written, else 0.

    SIGN and VERIFY hash their message themselves; SIGN_INIT is getting the key ready, once a session.
    AES is one block, AES_MAC a short message.
    """

    kind: OperationKind
    size: int = 0


@dataclass(frozen=True, slots=True)
class CardProfile:
    """Milliseconds of a card's operations. `assumed` names the figures that nobody measured on that card."""

    name: str
    title: str
    sign_ms: float
    """A signature over `sign_covers_bytes`, hash included."""
    sign_covers_bytes: int
    sign_init_ms: float
    verify_ms: float
    """A verification over 256 bytes, hash included."""
    ecdh_ms: float
    aes_ms: float
    aes_mac_ms: float
    aes_key_change_ms: float
    sha256_block_ms: float
    """SHA-256 for each block of 64 bytes, padding included."""
    nvm_write_16_ms: float
    nvm_write_256_ms: float
    assumed: frozenset[str] = frozenset()

    def operation_ms(self, operation: Operation) -> float:
        """Modelled milliseconds of one operation. Raises BadModel."""
        kind, size = operation
        if size < 0:
            raise BadModel("An operation has no negative size.")
        if kind is OperationKind.SIGN:
            return self.sign_ms + self._hash_beyond_ms(size, self.sign_covers_bytes)
        if kind is OperationKind.VERIFY:
            return self.verify_ms + self._hash_beyond_ms(size, _VERIFY_COVERS_BYTES)
        if kind is OperationKind.SHA256:
            return self.sha256_block_ms * hash_blocks(size)
        if kind is OperationKind.NVM_WRITE:
            return self._nvm_write_ms(size)
        fixed: dict[OperationKind, float] = {
            OperationKind.SIGN_INIT: self.sign_init_ms,
            OperationKind.ECDH: self.ecdh_ms,
            OperationKind.AES: self.aes_ms,
            OperationKind.AES_MAC: self.aes_mac_ms,
            OperationKind.AES_KEY_CHANGE: self.aes_key_change_ms,
        }
        return fixed[kind]

    def _hash_beyond_ms(self, size: int, covered: int) -> float:
        return self.sha256_block_ms * max(0, hash_blocks(size) - hash_blocks(covered))

    def _nvm_write_ms(self, size: int) -> float:
        """A straight line through the two figures; less than 16 bytes cost as much as 16."""
        slope_ms = (self.nvm_write_256_ms - self.nvm_write_16_ms) / (256 - _NVM_SMALL)
        return self.nvm_write_16_ms + slope_ms * max(0, size - _NVM_SMALL)


_VERIFY_COVERS_BYTES = 256


def hash_blocks(size: int) -> int:
    """Blocks of 64 bytes that SHA-256 works through for a message of `size` bytes, padding included."""
    return (size + 8) // HASH_BLOCK + 1


def card_ms(profile: CardProfile, operations: Mapping[Operation, int] | Iterable[Operation]) -> float:
    """Modelled milliseconds in the card: `operations` as a list, or as a Counter of how often each."""
    if isinstance(operations, Mapping):
        return sum(profile.operation_ms(operation) * count for operation, count in operations.items())
    return sum(map(profile.operation_ms, operations))


_MEASURED_ON_J3R180_ONLY = frozenset(
    {"aes_key_change_ms", "sha256_block_ms", "nvm_write_16_ms", "nvm_write_256_ms"}
)

J3R180 = CardProfile(
    name="J3R180",
    title="NXP J3R180 (JCOP4)",
    sign_ms=28.1,
    sign_covers_bytes=32,
    sign_init_ms=8.1,
    verify_ms=30.2,
    ecdh_ms=20.0,
    aes_ms=1.93,
    aes_mac_ms=2.14,
    aes_key_change_ms=3.2,
    sha256_block_ms=7.9 / hash_blocks(256),
    nvm_write_16_ms=1.4,
    nvm_write_256_ms=5.6,
)


def _profile(
    name: str,
    title: str,
    sign_ms: float,
    verify_ms: float,
    ecdh_ms: float,
    aes_ms: float,
    aes_mac_ms: float,
    sign_init_ms: float | None = None,
) -> CardProfile:
    """A card with the published figures; the rest is taken from the J3R180 and marked as assumed."""
    return CardProfile(
        name=name,
        title=title,
        sign_ms=sign_ms,
        sign_covers_bytes=256,
        sign_init_ms=J3R180.sign_init_ms if sign_init_ms is None else sign_init_ms,
        verify_ms=verify_ms,
        ecdh_ms=ecdh_ms,
        aes_ms=aes_ms,
        aes_mac_ms=aes_mac_ms,
        aes_key_change_ms=J3R180.aes_key_change_ms,
        sha256_block_ms=J3R180.sha256_block_ms,
        nvm_write_16_ms=J3R180.nvm_write_16_ms,
        nvm_write_256_ms=J3R180.nvm_write_256_ms,
        assumed=_MEASURED_ON_J3R180_ONLY | ({"sign_init_ms"} if sign_init_ms is None else set()),
    )


P71D321 = _profile("P71D321", "NXP P71D321 (JCOP4)", 33.1, 31.3, 21.6, 1.93, 2.30)
J3H145 = _profile("J3H145", "NXP J3H145 (JCOP3)", 56.3, 50.3, 55.1, 8.98, 10.3, sign_init_ms=5.8)
SMARTCAFE_7 = _profile("SmartCafe7", "G+D SmartCafe 7.0", 52.3, 67.9, 63.7, 6.51, 7.08)
CJ2A081 = _profile("CJ2A081", "NXP CJ2A081 (2010s)", 76.7, 118.0, 103.0, 61.6, 10.9)

PROFILES: Mapping[str, CardProfile] = {
    profile.name: profile for profile in (J3R180, P71D321, J3H145, SMARTCAFE_7, CJ2A081)
}


def card_profile(name: str) -> CardProfile:
    """The profile of that name; BadModel lists those there are."""
    if name not in PROFILES:
        raise BadModel(f"There is no card profile '{name}'. There are: {', '.join(PROFILES)}.")
    return PROFILES[name]
