"""What clearing holds as proof, as files that a third party can judge without clearing (docs/disputes.md).

A file is JSON: sorted, one field a line, hex digits. The same evidence gives the same bytes. What a file
proves is decided by judge-dispute.sh beside this module, by openssl and jq alone; nothing in a file is to be
believed for itself.
"""

import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from importlib.resources import files
from typing import Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from hardwallet import certificates, records
from hardwallet.certificates import CERTIFICATE_LENGTH, Certificate, TrustBundle
from hardwallet.errors import WalletError
from hardwallet.records import RECORD_LENGTH, SIGNATURE_LENGTH, Record
from offline_sync.clearing import ledger
from offline_sync.clearing.ledger import evidence
from offline_sync.errors import NoDispute

FORMAT: Final = "hardwallet-dispute-1"
HEAD_LENGTH: Final = 152
JUDGE: Final = "judge-dispute.sh"
PAGE: Final = 1_000
"""How many disputes are listed at a time."""

_SIGNED_HEAD_LENGTH: Final = HEAD_LENGTH + SIGNATURE_LENGTH + CERTIFICATE_LENGTH


class DisputeLine(msgspec.Struct, frozen=True):
    """One piece of evidence. `digest` (64 hex digits) names it; `file`: whether a dispute file exists."""

    digest: str
    kind: str
    subject: str
    detail: str
    received_s: int
    file: bool


class _Evidence(NamedTuple):
    kind: str
    subject: bytes
    detail: str
    first: bytes
    second: bytes


def judge() -> bytes:
    """The script that judges a file, as it is installed with this program."""
    return (files("offline_sync.clearing") / JUDGE).read_bytes()


def fingerprint(root: Certificate) -> str:
    """SHA-256 of the root's certificate (162 bytes): what the judge's --root has to be, 64 hex digits."""
    return sha256(root.to_bytes()).hexdigest()


def lines(connection: Connection, after: bytes = b"", limit: int = PAGE) -> list[DisputeLine]:
    """Up to `limit` pieces of evidence whose digests (32 bytes) follow `after`, by rising digest."""
    c = evidence.c
    rows = connection.execute(
        sa.select(
            c.digest,
            c.kind,
            c.subject,
            c.detail,
            c.received_s,
            sa.func.length(c.first_proof),
            sa.func.length(c.second_proof),
        )
        .where(c.digest > after)
        .order_by(c.digest)
        .limit(limit)
    )
    return [
        DisputeLine(digest.hex(), kind, subject.hex(), detail, received_s, _has_file(kind, (first, second)))
        for digest, kind, subject, detail, received_s, first, second in rows
    ]


def _has_file(kind: str, lengths: tuple[int, int]) -> bool:
    if kind == "clone":
        return lengths == (RECORD_LENGTH, RECORD_LENGTH)
    if kind in ("load-twice", "refund"):
        return lengths[0] == RECORD_LENGTH
    # Heads that an older version of this program kept are without their terminal's certificate.
    return kind in ("fork", "behind") and all(not one or one >= _SIGNED_HEAD_LENGTH for one in lengths)


def file_of(connection: Connection, trust: TrustBundle, digest: bytes) -> bytes:
    """The dispute file of the evidence that this digest (32 bytes) names. Raises NoDispute."""
    c = evidence.c
    row = connection.execute(
        sa.select(c.kind, c.subject, c.detail, c.first_proof, c.second_proof).where(c.digest == digest)
    ).first()
    if row is None:
        raise NoDispute(f"there is no dispute {digest.hex()}; list them with: hardwallet clearing disputes")
    found = _Evidence(*row)
    if not _has_file(found.kind, (len(found.first), len(found.second))):
        raise NoDispute(
            f"evidence of kind {found.kind} rests on what clearing itself saw, so that no file can prove it"
        )
    if found.kind in ("fork", "behind"):
        return _file(trust, _of_terminal(trust, found))
    return _file(trust, _of_card(connection, trust, found))


def _file(trust: TrustBundle, fields: dict[str, str]) -> bytes:
    whole = {
        "format": FORMAT,
        "root_certificate": trust.root.to_bytes().hex(),
        "scheme": trust.scheme.hex(),
        "suite": f"{trust.suite.number:02x}",
        **fields,
    }
    return (json.dumps(whole, indent=2, sort_keys=True) + "\n").encode()


# ------------------------------------------------------------------------------------------------- cards


def _of_card(connection: Connection, trust: TrustBundle, found: _Evidence) -> dict[str, str]:
    kind, pair = _statements(connection, found)
    card = _card_certificate(connection, pair[0])
    fields = {
        "kind": kind,
        "operator_certificate": _authority(trust, card).to_bytes().hex(),
        "card_certificate": card.to_bytes().hex(),
    }
    for name, record in zip(("first", "second"), pair, strict=False):
        fields[f"{name}_body"] = record.body.hex()
        fields[f"{name}_signature"] = record.signature.hex()
    return fields


def _statements(connection: Connection, found: _Evidence) -> tuple[str, list[Record]]:
    """The kind of the file, and the one or two records that it shows."""
    first = records.parse(found.first)
    if found.kind == "clone":
        return "clone", [first, records.parse(found.second)]
    kept = _kept(connection, first.card)
    if found.kind == "load-twice":
        counter = records.load_counter(first)
        other = _first_of(kept, lambda one: _is_other_load(one, first, counter))
        if other is None:
            raise NoDispute(
                "the other receipt of this load is not kept any more, so that no file can prove it"
            )
        return "load-twice", [other, first]
    payment = records.refunded_payment(first)
    other = _first_of(kept, lambda one: _contradicts(one, first)) or _first_of(
        kept, lambda one: one.kind == records.PAYMENT and one.sequence == payment
    )
    return ("refund", [other, first]) if other is not None else ("refund-receipt", [first])


def _is_other_load(one: Record, first: Record, counter: int) -> bool:
    return one.kind == records.LOAD and one.body != first.body and records.load_counter(one) == counter


def _contradicts(one: Record, other: Record) -> bool:
    """Whether a card that works cannot have signed both refund receipts: each is the rise of one total."""
    if one.kind != records.REFUND or one.body == other.body:
        return False
    if records.refunded_payment(one) != records.refunded_payment(other):
        return False
    early, late = sorted((one, other), key=lambda record: record.sequence)
    rise_fen = records.refunded_total_fen(late) - records.refunded_total_fen(early)
    return (
        early.sequence == late.sequence
        or rise_fen <= 0
        or late.amount_fen > rise_fen
        or early.payee != late.payee
    )


def _kept(connection: Connection, card: bytes) -> list[Record]:
    """Everything that arrived from a card, in an order that depends on nothing else."""
    c = ledger.records.c
    rows = connection.execute(sa.select(c.raw).where(c.card == card).order_by(c.sequence, c.body_digest))
    return [records.parse(raw) for (raw,) in rows]


def _first_of(kept: Iterable[Record], fits: Callable[[Record], bool]) -> Record | None:
    return next((record for record in kept if fits(record)), None)


def _card_certificate(connection: Connection, record: Record) -> Certificate:
    c = ledger.certificates.c
    raw = connection.execute(sa.select(c.raw).where(c.digest == record.certificate_digest)).scalar()
    if raw is None:
        raise NoDispute("the card's certificate is not kept, so that no file can prove this")
    return certificates.parse(raw)


# --------------------------------------------------------------------------------------------- terminals


def _of_terminal(trust: TrustBundle, found: _Evidence) -> dict[str, str]:
    signed = [proof for proof in (found.first, found.second) if proof]
    fields = {"kind": found.kind if len(signed) == 2 else "false-start"}
    for name, proof in zip(("first", "second"), signed, strict=False):
        body, rest = proof[:HEAD_LENGTH], proof[HEAD_LENGTH:_SIGNED_HEAD_LENGTH]
        joined = proof[_SIGNED_HEAD_LENGTH:]
        terminal = certificates.parse(rest[SIGNATURE_LENGTH:])
        fields[f"{name}_body"] = body.hex()
        if joined:
            fields[f"{name}_links"] = joined.hex()
        fields[f"{name}_signature"] = rest[:SIGNATURE_LENGTH].hex()
        fields[f"{name}_terminal_certificate"] = terminal.to_bytes().hex()
        fields[f"{name}_operator_certificate"] = _authority(trust, terminal).to_bytes().hex()
    return fields


def _authority(trust: TrustBundle, certificate: Certificate) -> Certificate:
    """The operator certificate under which this one verifies; an operator may have had several."""
    for operator in trust.operators:
        if operator.operator != certificate.authority:
            continue
        try:
            trust.suite.verifying_key(operator.public).verify(certificate.signature, certificate.body())
        except WalletError:
            continue
        return operator
    raise NoDispute(
        f"the certificate of operator {certificate.authority.hex()} that signed this is not known here any "
        "more; bring the scheme's operators up to date"
    )
