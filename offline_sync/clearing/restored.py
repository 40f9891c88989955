"""Books that were put back from an older backup: terminals know what was acknowledged to them.

A terminal asks what is held of it. What clearing acknowledged and no longer holds, the terminal shows by
clearing's own signature and sends again; the books then equal those that never failed.
"""

from hashlib import sha256
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from hardwallet.certificates import CLASS_ACQUIRING, TrustBundle
from hardwallet.errors import SignatureInvalid, WalletError
from offline_sync import messages
from offline_sync.clearing.ledger import uploads
from offline_sync.clearing.report import held as covered
from offline_sync.errors import BatchRefused
from offline_sync.messages import Acknowledgement

RESTORED: Final = "restored"
"""The kind of evidence."""
MAX_GAPS: Final = 1_000
"""The longest list of gaps in one answer; a terminal fills these and asks again."""


class Held(msgspec.Struct, frozen=True):
    """What is held of a terminal: the `highest` entry (0 for none), and `gaps` [from, to] below it."""

    highest: int
    gaps: list[tuple[int, int]]


def held(connection: Connection, payee: bytes, terminal: bytes) -> Held:
    """Of a payee's (8 bytes) terminal (4 bytes)."""
    spans = connection.execute(
        sa.select(uploads.c.first, uploads.c.last)
        .where(uploads.c.payee == payee, uploads.c.terminal == terminal)
        .order_by(uploads.c.first)
    )
    highest, gaps = covered((row.first, row.last) for row in spans)
    return Held(highest, gaps[:MAX_GAPS])


def check_own(acknowledgement: Acknowledgement, trust: TrustBundle) -> None:
    """That this scheme's acquiring operator signed it. Raises BatchRefused."""
    if acknowledgement.scheme != trust.scheme:
        raise BatchRefused("scheme", "the acknowledgement belongs to another scheme")
    try:
        operator, time_s = acknowledgement.payee[:4], acknowledgement.time_s
        if not trust.has_class(operator, CLASS_ACQUIRING):
            raise BatchRefused("operator", "the acknowledgement's signer is no acquiring operator")
        message = messages.acknowledgement_message(acknowledgement, trust.suite.number)
        signature = acknowledgement.signature
        trust.verify_signed(operator, CLASS_ACQUIRING, message, signature, time_s, since=True)
    except SignatureInvalid:
        raise BatchRefused("signature", "clearing did not sign this acknowledgement") from None
    except WalletError as error:
        raise BatchRefused("operator", str(error)) from None


def is_lost(acknowledgement: Acknowledgement, now: Held) -> bool:
    """Whether entries that were acknowledged are not held any more."""
    first, last = acknowledgement.first, acknowledgement.last
    return last > now.highest or any(begin <= last and first <= end for begin, end in now.gaps)


def note(acknowledgement: Acknowledgement, suite: int, time_s: int) -> dict[str, Any]:
    """The evidence: what clearing signed, 112 bytes and the signature."""
    signed = messages.acknowledgement_message(acknowledgement, suite) + acknowledgement.signature
    subject = acknowledgement.payee + acknowledgement.terminal
    return {
        "digest": sha256(RESTORED.encode() + b"\x00" + subject + signed).digest(),
        "kind": RESTORED,
        "subject": subject,
        "detail": f"entries {acknowledgement.first} to {acknowledgement.last} were acknowledged and are not "
        "held: the books were put back from an older backup",
        "first_proof": signed,
        "second_proof": b"",
        "received_s": time_s,
    }
