"""The limits that a card keeps, and the tiers that they come from: data, not code (docs/protocol.md, section
11)."""

import struct
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from hardwallet.errors import Malformed

LIMITS_LENGTH: Final = 23
JOURNAL_ENTRIES: Final = 128
MAX_UNRATIFIED: Final = 8
_LIMITS: Final = struct.Struct(">IIIIHBI")


@dataclass(frozen=True, slots=True)
class Limits:
    """Amounts in fen; counts of payments."""

    balance_cap_fen: int
    single_fen: int
    pin_free_fen: int
    offline_total_fen: int
    offline_count: int
    transit_count: int
    transit_amount_fen: int

    def to_bytes(self) -> bytes:
        """23 bytes."""
        return _LIMITS.pack(
            self.balance_cap_fen,
            self.single_fen,
            self.pin_free_fen,
            self.offline_total_fen,
            self.offline_count,
            self.transit_count,
            self.transit_amount_fen,
        )


def parse_limits(raw: bytes) -> Limits:
    """Limits of 23 bytes. Raises Malformed."""
    if len(raw) != LIMITS_LENGTH:
        raise Malformed(f"limits have {LIMITS_LENGTH} bytes, not {len(raw)}")
    limits = Limits(*_LIMITS.unpack(raw))
    if limits.offline_count > JOURNAL_ENTRIES:
        raise Malformed(
            f"a card keeps {JOURNAL_ENTRIES} entries; the offline count can't be {limits.offline_count}"
        )
    if limits.balance_cap_fen > 2**31 - 1:
        raise Malformed("the balance cap is above 2^31 - 1 fen")
    return limits


@dataclass(frozen=True, slots=True)
class Tier:
    """A kind of wallet. `source` says whose figures these are."""

    number: int
    name: str
    source: str
    limits: Limits


def tiers() -> dict[int, Tier]:
    """The tiers that ship with this package (hardwallet/tiers.toml), by number."""
    table = tomllib.loads(resources.files("hardwallet").joinpath("tiers.toml").read_text("utf-8"))
    return {
        row["number"]: Tier(
            row["number"], row["name"], row["source"], parse_limits(Limits(**row["limits"]).to_bytes())
        )
        for row in table["tier"]
    }
