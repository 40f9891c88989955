"""The cards that clearing can prove were cloned: an issuer puts them on its denylist."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offline_sync.clearing import Clearing

_PROOFS = ("clone", "load-twice")
_CARD_LENGTH = 8


def proven_clones(clearing: "Clearing") -> list[bytes]:
    """The cards (8 bytes each, in order) of which clearing holds two signed bodies with one sequence number,
    or two receipts of one load. Raises LedgerError."""
    found: set[bytes] = set()
    lines = clearing.disputes()
    while lines:
        found |= {bytes.fromhex(line.subject)[:_CARD_LENGTH] for line in lines if line.kind in _PROOFS}
        lines = clearing.disputes(bytes.fromhex(lines[-1].digest))
    return sorted(found)
