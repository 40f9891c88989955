"""A small scheme made from a seed: root, two operators, terminals, cards that sign. No card, no terminal."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from hardwallet import certificates, records
from hardwallet.certificates import CURRENCY_CNY, Certificate, TrustBundle
from hardwallet.records import Record
from hardwallet.suites import International, SigningKey, Suite
from offline_sync import messages
from offline_sync.journal import SqliteJournal
from offline_sync.messages import Batch, Chained, Uploader
from offline_sync.outbox import pack

NOW = 1_790_000_000  # September 2026
YEAR = 365 * 86_400
SCHEME = bytes.fromhex("0a0b0c0d")
ISSUER = bytes.fromhex("00000011")
ACQUIRER = bytes.fromhex("00000022")


class Stream:
    """Entropy from a seed: the same bytes in every run."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def __call__(self, length: int) -> bytes:
        out = b""
        while len(out) < length:
            self._count += 1
            out += sha256(self._seed + self._count.to_bytes(8, "big")).digest()
        return out[:length]


@dataclass
class Card:
    """A card that signs what it is told to."""

    number: bytes
    key: SigningKey
    certificate: Certificate
    digest: bytes
    balance_fen: int = 0
    sequence: int = 0
    loads: int = 0

    @property
    def raw_certificate(self) -> bytes:
        return self.certificate.to_bytes()


@dataclass
class Terminal:
    """A terminal's certificate and key."""

    uploader: Uploader
    retail: bool

    @property
    def payee(self) -> bytes:
        return self.uploader.certificate.payee

    @property
    def number(self) -> bytes:
        return self.uploader.certificate.terminal


@dataclass
class Scheme:
    """Everything that belongs to one root. `suite` signs deterministically unless one is given."""

    seed: str = "scheme"
    scheme: bytes = SCHEME
    suite: Suite = field(default_factory=lambda: International(deterministic=True))
    entropy: Stream = field(init=False)

    def __post_init__(self) -> None:
        self.entropy = Stream(self.seed)
        self.root_key = self.suite.new_signing_key(self.entropy)
        self.issuer_key = self.suite.new_signing_key(self.entropy)
        self.acquirer_key = self.suite.new_signing_key(self.entropy)
        self.root = self.certificate(certificates.ROOT, 0, bytes(4), bytes(12), self.root_key, self.root_key)
        self.issuer = self.operator(ISSUER, certificates.CLASS_ISSUING, self.issuer_key)
        self.acquirer = self.operator(ACQUIRER, certificates.CLASS_ACQUIRING, self.acquirer_key)
        self.trust = TrustBundle(self.suite, self.root, [self.issuer, self.acquirer])

    def certificate(
        self,
        kind: int,
        klass: int,
        authority: bytes,
        subject: bytes,
        key: SigningKey,
        signer: SigningKey,
        *,
        not_before: int = NOW - YEAR,
        not_after: int = NOW + 3 * YEAR,
    ) -> Certificate:
        agreement = bytes(16) if kind == certificates.CARD else b""
        body = Certificate(
            kind,
            self.suite.number,
            klass,
            self.scheme,
            authority,
            subject,
            CURRENCY_CNY,
            not_before,
            not_after,
            key.public,
            agreement,
        )
        return certificates.signed(body, signer)

    def operator(self, number: bytes, klass: int, key: SigningKey) -> Certificate:
        return self.certificate(certificates.OPERATOR, klass, bytes(4), number + bytes(8), key, self.root_key)

    def card(self, number: int, *, balance_fen: int = 20_000, not_after: int = NOW + 3 * YEAR) -> Card:
        key = self.suite.new_signing_key(self.entropy)
        name = number.to_bytes(8, "big")
        certificate = self.certificate(
            certificates.CARD, 2, ISSUER, name + bytes(4), key, self.issuer_key, not_after=not_after
        )
        return Card(name, key, certificate, certificates.digest(self.suite, certificate), balance_fen)

    def terminal(
        self, merchant: int, number: int, *, retail: bool = False, not_before: int = NOW - YEAR
    ) -> Terminal:
        key = self.suite.new_signing_key(self.entropy)
        subject = ACQUIRER + merchant.to_bytes(4, "big") + number.to_bytes(4, "big")
        klass = certificates.CLASS_RETAIL if retail else certificates.CLASS_TRANSIT
        certificate = self.certificate(
            certificates.TERMINAL, klass, ACQUIRER, subject, key, self.acquirer_key, not_before=not_before
        )
        return Terminal(Uploader(self.suite, certificate, key), retail)

    def payment(
        self,
        card: Card,
        terminal: Terminal,
        amount_fen: int = 200,
        *,
        reference: bytes | None = None,
        sequence: int | None = None,
        time_s: int = NOW,
        **changes: int | bytes,
    ) -> Record:
        """A payment as the card would sign it; the card's balance and sequence move on."""
        if sequence is None:
            card.sequence += 1
            sequence = card.sequence
        card.balance_fen -= amount_fen
        fields: dict[str, int | bytes] = {
            "kind": records.PAYMENT,
            "sequence": sequence,
            "payee": terminal.payee,
            "reference": self.entropy(12) if reference is None else reference,
            "amount_fen": amount_fen,
            "terminal": terminal.number,
            "transaction": sequence,
            "nonce": self.entropy(16),
            "time_s": time_s,
            "profile": records.RETAIL if terminal.retail else records.TRANSIT,
        }
        return self.record(card, fields | changes)

    def load(self, card: Card, amount_fen: int = 20_000, *, time_s: int = NOW - 60) -> Record:
        """A load receipt as the card would sign it."""
        card.sequence += 1
        card.loads += 1
        card.balance_fen += amount_fen
        fields: dict[str, int | bytes] = {
            "kind": records.LOAD,
            "sequence": card.sequence,
            "payee": ISSUER + bytes(4),
            "reference": card.loads.to_bytes(4, "big") + bytes(8),
            "amount_fen": amount_fen,
            "terminal": bytes(4),
            "transaction": 0,
            "nonce": self.entropy(16),
            "time_s": time_s,
            "profile": 0,
        }
        return self.record(card, fields)

    def record(self, card: Card, fields: dict[str, int | bytes]) -> Record:
        values: dict[str, int | bytes] = {
            "version": 1,
            "suite": self.suite.number,
            "application": 1,
            "scheme": self.scheme,
            "card": card.number,
            "certificate_digest": card.digest,
            "currency": CURRENCY_CNY,
            "cvm": 0,
            "limit_state": 0,
            "balance_fen": max(0, card.balance_fen),
            "offline_total_fen": 0,
            "offline_count": 1,
            **fields,
        }
        body = BODY.pack(*(values[name] for name in LAYOUT), 0)
        return records.parse(body + card.key.sign(body))

    def load_order(self, card: Card, counter: int, amount_fen: int, *, time_s: int = NOW - 120) -> bytes:
        """A load order (docs/protocol.md, section 12), 122 bytes."""
        body = struct.pack(
            ">BBBB4s4s8sIIHII16sI",
            0xF1,
            1,
            self.suite.number,
            1,
            self.scheme,
            ISSUER,
            card.number,
            counter,
            amount_fen,
            CURRENCY_CNY,
            0,
            0,
            bytes(16),
            time_s,
        )
        return body + self.issuer_key.sign(body)


BODY = struct.Struct(">BBBB4s8s8sI8s12sIH4sI16sIBBBIIHB")
LAYOUT = (
    "kind version suite application scheme card certificate_digest sequence payee reference amount_fen "
    "currency terminal transaction nonce time_s profile cvm limit_state balance_fen offline_total_fen "
    "offline_count"
).split()


def resigned(card: Card, record: Record) -> Record:
    """The same body under another valid signature: (r, n − s) verifies as (r, s) does."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    s = order - int.from_bytes(record.signature[32:], "big")
    return records.parse(record.body + record.signature[:32] + s.to_bytes(32, "big"))


def journal_of(terminal: Terminal, path: object, **options: object) -> SqliteJournal:
    """The terminal's journal at a path, with a small reserve."""
    return SqliteJournal(
        str(path),
        scheme=SCHEME,
        payee=terminal.payee,
        terminal=terminal.number,
        **({"reserve_bytes": 1} | options),  # type: ignore[arg-type]
    )


def batch_of(
    terminal: Terminal,
    journal: SqliteJournal,
    cards: Iterable[Card],
    *,
    first: int | None = None,
    limit: int = 1_000,
    time_s: int = NOW,
) -> tuple[Batch, Chained]:
    """What the terminal would upload next, or from `first` on."""
    begin = journal.acknowledged() + 1 if first is None else first
    known = {card.digest: card.raw_certificate for card in cards}
    parcel = pack(journal.entries(begin, limit), known.get)
    return messages.seal_batch(
        terminal.uploader,
        journal.hash_at(begin - 1),
        parcel.entries,
        parcel.certificates,
        journal_head=journal.head()[0],
        time_s=time_s,
    )
