"""What a certificate and a record must show before money moves: the whole chain up to the root, every
signature.

Dates. A card's certificate is judged at the time in the record, which the card signed and the terminal
checked: a payment that was good when it was made stays good however late it arrives. A terminal's certificate
is judged at the time of its upload's signature, so that a terminal with a renewed certificate can deliver
what its old one took. Neither time may lie ahead of clearing's own clock by more than a day.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hardwallet import certificates, records
from hardwallet.certificates import Certificate, TrustBundle
from hardwallet.errors import (
    AuthorityUnknown,
    CertificateRefused,
    CertificateRevoked,
    Malformed,
    SignatureInvalid,
    WalletError,
)
from hardwallet.messages import LOAD_ORDER_LENGTH, LoadOrder, parse_load_order
from hardwallet.records import SIGNATURE_LENGTH, Record
from hardwallet.suites import VerifyingKey
from offline_sync.clearing.workers import Signed, check_here
from offline_sync.errors import BatchRefused, RecordRefused

CLOCK_AHEAD_S: Final = 86_400
"""How far a time from outside may lie ahead of clearing's clock."""
CACHE_SIZE: Final = 20_000

SignatureCheck = Callable[[Sequence[Signed]], bytes]
"""For each signature 1 where it fits, else 0."""


@dataclass(slots=True)
class Reading:
    """Records of which everything but the signature has been looked at. `found`: those that are settled, by
    their 160 bytes; `pending`: the others, with their cards.
    """

    found: "dict[bytes, Record | RecordRefused]"
    pending: "list[tuple[Record, Known]]"


@dataclass(frozen=True, slots=True)
class Known:
    """A certificate whose chain verified, its digest (8 bytes), its key ready to use, and the dates within
    which the whole chain holds.
    """

    certificate: Certificate
    digest: bytes
    key: VerifyingKey
    not_before: int
    not_after: int


class Verifier:
    """Checks against one scheme's trust, with a bounded store of keys that verified before."""

    def __init__(
        self,
        trust: TrustBundle,
        clock: Callable[[], int],
        cache_size: int = CACHE_SIZE,
        check: SignatureCheck = check_here,
    ) -> None:
        """`clock` gives seconds since 1970. `check` may be called by several threads at once; nothing else
        here may.
        """
        self._check = check
        self.trust = trust
        self._clock = clock
        self._cache_size = cache_size
        self._version = trust.version
        self._acquirers: set[bytes] = set()
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def terminal(self, raw: bytes, signed_s: int) -> Known:
        """The terminal of a certificate (162 bytes), at the time of its signature. Raises BatchRefused."""
        if signed_s > self._clock() + CLOCK_AHEAD_S:
            raise BatchRefused(
                "clock", "the terminal's clock is ahead of clearing's; set it right and send again"
            )
        try:
            known = self._certificate(raw, certificates.TERMINAL)
        except WalletError as error:
            raise BatchRefused(
                "terminal-certificate", f"the terminal's certificate is refused: {error}"
            ) from None
        if not known.not_before <= signed_s <= known.not_after:
            raise BatchRefused(
                "terminal-certificate",
                "the terminal's certificate was not valid when it signed; renew it, or set its clock right",
            )
        return known

    def card(self, raw: bytes, *, kept: bool = False) -> Known:
        """The card of a certificate (178 bytes), whatever its dates. `kept`: clearing held it before, or its
        issuer vouches for it, so that a revocation of the issuer's certificate does not touch it.

        Raises RecordRefused: `revoked`, or `card-certificate`.
        """
        try:
            return self._certificate(raw, certificates.CARD, kept=kept)
        except CertificateRevoked as error:
            raise RecordRefused("revoked", f"the card's certificate is refused: {error}") from None
        except WalletError as error:
            raise RecordRefused("card-certificate", f"the card's certificate is refused: {error}") from None

    def record(self, raw: bytes, cards: Mapping[bytes, Known]) -> Record:
        """A record (160 bytes) that its card signed. `cards` by the digest of their certificates.

        Raises RecordRefused: malformed, of another scheme, suite or currency, no certificate, dates,
        payee, signature.
        """
        found = self.records((raw,), cards)[raw]
        if isinstance(found, RecordRefused):
            raise found
        return found

    def records(
        self, raws: Iterable[bytes], cards: Mapping[bytes, Known]
    ) -> dict[bytes, Record | RecordRefused]:
        """For each of many records what `record` gives or raises."""
        return self.settle(self.read(raws, cards))

    def read(self, raws: Iterable[bytes], cards: Mapping[bytes, Known]) -> Reading:
        """Everything about many records but their signatures."""
        reading = Reading({}, [])
        for raw in raws:
            try:
                reading.pending.append(self._read(raw, cards))
            except RecordRefused as refusal:
                reading.found[raw] = refusal
        return reading

    def settle(self, reading: Reading) -> dict[bytes, Record | RecordRefused]:
        """Check the signatures that are pending, and give what `record` gives or raises. Any thread may call,
        while others use the rest of this object.

        They are checked in one go: between other work, each check costs a tenth more, because the curve's
        tables have left the processor's cache.
        """
        fits = self._check([(card.key, record.signature, record.body) for record, card in reading.pending])
        for (record, _), fit in zip(reading.pending, fits, strict=True):
            reading.found[record.raw] = (
                record if fit else RecordRefused("signature", "the card did not sign this record")
            )
        reading.pending = []
        return reading.found

    def _read(self, raw: bytes, cards: Mapping[bytes, Known]) -> tuple[Record, Known]:
        """Everything about a record but its signature. Raises RecordRefused."""
        try:
            record = records.parse(raw)
        except Malformed as error:
            raise RecordRefused("malformed", str(error)) from None
        trust = self.trust
        if record.scheme != trust.scheme or record.suite != trust.suite.number:
            raise RecordRefused("scheme", "the record belongs to another scheme or suite")
        if record.currency != trust.currency:
            raise RecordRefused("currency", f"the record is in currency {record.currency:04X}")
        card = cards.get(record.certificate_digest)
        if card is None:
            raise RecordRefused("certificate-missing", "the card's certificate did not come with the record")
        if card.certificate.card != record.card:
            raise RecordRefused("card-certificate", "the record's certificate is another card's")
        if not card.not_before <= record.time_s <= card.not_after:
            raise RecordRefused("dates", "the card's certificate was not valid at the time in the record")
        if record.time_s > self._clock() + CLOCK_AHEAD_S:
            raise RecordRefused("clock", "the time in the record lies in the future")
        self._check_payee(record, card.certificate)
        return record, card

    def order(self, raw: bytes) -> LoadOrder:
        """A load order, 122 bytes. Raises RecordRefused."""
        if len(raw) != LOAD_ORDER_LENGTH:
            raise RecordRefused("malformed", f"a load order has {LOAD_ORDER_LENGTH} bytes, not {len(raw)}")
        try:
            order = parse_load_order(raw)
        except Malformed as error:
            raise RecordRefused("malformed", str(error)) from None
        trust = self.trust
        if order.suite != trust.suite.number:
            raise RecordRefused("malformed", "this is no load order of this suite")
        if (
            order.scheme != trust.scheme
            or order.currency != trust.currency
            or order.amount_fen > records.MAX_AMOUNT_FEN
        ):
            raise RecordRefused("scheme", "the load order belongs to another scheme or currency")
        try:
            if not trust.has_class(order.operator, certificates.CLASS_ISSUING):
                raise RecordRefused("issuer", "the load order is signed by an operator that may not issue")
            body, signature = raw[:-SIGNATURE_LENGTH], raw[-SIGNATURE_LENGTH:]
            issuing = certificates.CLASS_ISSUING
            trust.verify_signed(order.operator, issuing, body, signature, order.time_s, since=True)
        except CertificateRevoked as error:
            raise RecordRefused("revoked", str(error)) from None
        except CertificateRefused as error:
            raise RecordRefused("issuer", str(error)) from None
        except SignatureInvalid:
            raise RecordRefused("signature", "the issuer did not sign this load order") from None
        return order

    def _check_payee(self, record: Record, card: Certificate) -> None:
        """That the money goes to somebody: an acquirer's payee, or for a load the card's own issuer."""
        if record.kind == records.LOAD:
            if record.payee != card.authority + bytes(4):
                raise RecordRefused("issuer", "the load receipt names another issuer than the card's")
            return
        number = record.payee[:4]
        if number in self._acquirers:
            return
        try:
            acquires = self.trust.has_class(number, certificates.CLASS_ACQUIRING)
        except AuthorityUnknown as error:
            raise RecordRefused("payee-unknown", str(error)) from None
        if not acquires:
            raise RecordRefused("payee-unknown", "the payee belongs to an operator that has no payees")
        self._acquirers.add(number)

    def _certificate(self, raw: bytes, kind: int, *, kept: bool = False) -> Known:
        if self._version != self.trust.version:  # what was trusted yesterday may be revoked
            self._version = self.trust.version
            self._known.clear()
            self._acquirers.clear()
        known = self._known.get(raw)
        if known is None:
            known = self._check_chain(raw, kind, kept=kept)
            self._known[raw] = known
            if len(self._known) > self._cache_size:
                self._known.popitem(last=False)
        elif known.certificate.kind != kind:
            raise Malformed("a certificate of another kind stands in its place")
        else:
            self._known.move_to_end(raw)
        return known

    def _check_chain(self, raw: bytes, kind: int, *, kept: bool) -> Known:
        """The whole chain; its dates are checked where they overlap, and judged by the caller."""
        certificate, trust = certificates.parse(raw), self.trust
        # Before signatures: of another suite or scheme none can fit, and that says less.
        certificates.check_shape(certificate, trust.suite.number, trust.scheme, trust.currency)
        chain = (trust.root, trust.authority_of(certificate), certificate)
        not_before = max(link.not_before for link in chain)
        not_after = min(link.not_after for link in chain)
        key = trust.check(certificate, kind, not_before, even_revoked=kept)
        return Known(certificate, certificates.digest(trust.suite, certificate), key, not_before, not_after)
