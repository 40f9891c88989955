"""Compact certificates, and the chain from a card or a terminal up to its scheme's root (docs/protocol.md,
section 3)."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from hardwallet.errors import AuthorityUnknown, CertificateRefused, Malformed, SignatureInvalid
from hardwallet.suites import SigningKey, Suite, VerifyingKey

VERSION: Final = 1
APPLICATION: Final = 1
CURRENCY_CNY: Final = 0x0156  # ISO 4217 numeric, BCD

ROOT: Final = 0xC0
OPERATOR: Final = 0xC1
TERMINAL: Final = 0xC2
CARD: Final = 0xC3

CLASS_ISSUING: Final = 1
CLASS_ACQUIRING: Final = 2
CLASS_RETAIL: Final = 1
CLASS_TRANSIT: Final = 2

BODY_LENGTH: Final = 98
CARD_BODY_LENGTH: Final = 114
SIGNATURE_LENGTH: Final = 64
CERTIFICATE_LENGTH: Final = BODY_LENGTH + SIGNATURE_LENGTH
CARD_CERTIFICATE_LENGTH: Final = CARD_BODY_LENGTH + SIGNATURE_LENGTH
ROOT_AUTHORITY: Final = bytes(4)

_BODY: Final = struct.Struct(">BBBB4s4s12sHII64s")
_KINDS: Final = {ROOT: "root", OPERATOR: "operator", TERMINAL: "terminal", CARD: "card"}


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. `subject` is 12 bytes, `public` 64, `agreement_digest` 16 (cards) or empty,
    `signature` 64."""

    kind: int
    suite: int
    klass: int
    scheme: bytes
    authority: bytes
    subject: bytes
    currency: int
    not_before: int
    not_after: int
    public: bytes
    agreement_digest: bytes = b""
    signature: bytes = b""

    def body(self) -> bytes:
        """The signed bytes: 98, for a card 114."""
        return (
            _BODY.pack(
                self.kind,
                VERSION,
                self.suite,
                self.klass,
                self.scheme,
                self.authority,
                self.subject,
                self.currency,
                self.not_before,
                self.not_after,
                self.public,
            )
            + self.agreement_digest
        )

    def to_bytes(self) -> bytes:
        """162 bytes, for a card 178."""
        return self.body() + self.signature

    @property
    def operator(self) -> bytes:
        """The operator named by an operator's certificate, 4 bytes."""
        return self.subject[:4]

    @property
    def card(self) -> bytes:
        """The card named by a card's certificate, 8 bytes."""
        return self.subject[:8]

    @property
    def payee(self) -> bytes:
        """The payee named by a terminal's certificate, 8 bytes: operator ‖ merchant."""
        return self.subject[:8]

    @property
    def terminal(self) -> bytes:
        """The terminal named by a terminal's certificate, 4 bytes."""
        return self.subject[8:12]


def parse_body(raw: bytes) -> Certificate:
    """A certificate's body, 98 or 114 bytes, without its signature. Raises Malformed."""
    if len(raw) not in (BODY_LENGTH, CARD_BODY_LENGTH):
        raise Malformed(f"a certificate's body has 98 bytes, a card's 114, not {len(raw)}")
    kind, version, suite, klass, scheme, authority, subject, currency, begin, end, public = _BODY.unpack(
        raw[:BODY_LENGTH]
    )
    if kind not in _KINDS:
        raise Malformed(f"a certificate of unknown type {kind:02X}")
    if version != VERSION:
        raise Malformed(f"a certificate of version {version}; this program knows version {VERSION}")
    if (len(raw) == CARD_BODY_LENGTH) != (kind == CARD):
        raise Malformed(f"a {_KINDS[kind]} certificate of the wrong length")
    spare = {ROOT: subject, OPERATOR: subject[4:], TERMINAL: b"", CARD: subject[8:]}[kind]
    if any(spare):
        raise Malformed(f"a {_KINDS[kind]} certificate whose unused bytes are not zero")
    return Certificate(
        kind,
        suite,
        klass,
        scheme,
        authority,
        subject,
        currency,
        begin,
        end,
        public,
        raw[BODY_LENGTH:],
    )


def parse(raw: bytes) -> Certificate:
    """A whole certificate, 162 or 178 bytes. Raises Malformed."""
    if len(raw) not in (CERTIFICATE_LENGTH, CARD_CERTIFICATE_LENGTH):
        raise Malformed(f"a certificate has 162 bytes, a card's 178, not {len(raw)}")
    body = parse_body(raw[:-SIGNATURE_LENGTH])
    return replace(body, signature=raw[-SIGNATURE_LENGTH:])


def digest(suite: Suite, certificate: Certificate) -> bytes:
    """The 8 bytes that name a certificate: over the body, since a signature can be altered and still
    verify."""
    return suite.hash(certificate.body())[:8]


def agreement_digest(suite: Suite, public: bytes) -> bytes:
    """The 16 bytes by which a card's certificate names its agreement key (64 bytes)."""
    return suite.hash(b"\xa0" + public)[:16]


def signed(certificate: Certificate, authority_key: SigningKey) -> Certificate:
    """The certificate with its authority's signature over its body."""
    return replace(certificate, signature=authority_key.sign(certificate.body()))


def check_dates(certificate: Certificate, now: int) -> None:
    """Raises CertificateRefused when `now` (seconds since 1970) lies outside the certificate's dates."""
    name = _KINDS[certificate.kind]
    if now < certificate.not_before:
        raise CertificateRefused(f"the {name}'s certificate is not valid yet; check this machine's clock")
    if now > certificate.not_after:
        raise CertificateRefused(f"the {name}'s certificate has expired; it has to be renewed")


def check_shape(certificate: Certificate, suite: int, scheme: bytes, currency: int) -> None:
    """What can be said without a key: suite, scheme, currency, class, order of dates. Raises
    CertificateRefused."""
    name = _KINDS[certificate.kind]
    if certificate.suite != suite:
        raise CertificateRefused(
            f"the {name}'s certificate is of suite {certificate.suite:02X}, not {suite:02X}"
        )
    if certificate.scheme != scheme:
        raise CertificateRefused(
            f"the {name}'s certificate belongs to another scheme ({certificate.scheme.hex()})"
        )
    if certificate.currency != currency:
        raise CertificateRefused(f"the {name}'s certificate is for currency {certificate.currency:04X}")
    if certificate.not_before > certificate.not_after:
        raise CertificateRefused(f"the {name}'s certificate ends before it begins")
    classes = {ROOT: (0,), OPERATOR: (1, 2, 3), TERMINAL: (CLASS_RETAIL, CLASS_TRANSIT), CARD: range(256)}
    if certificate.klass not in classes[certificate.kind]:
        raise CertificateRefused(f"the {name}'s certificate is of unknown class {certificate.klass:02X}")
    if certificate.kind in (ROOT, OPERATOR) and certificate.authority != ROOT_AUTHORITY:
        raise CertificateRefused(f"the {name}'s certificate is not signed by the root")


def check_authority(certificate: Certificate, operator: Certificate) -> None:
    """That the operator may sign this card or terminal certificate. Raises CertificateRefused."""
    name = _KINDS[certificate.kind]
    wanted = CLASS_ISSUING if certificate.kind == CARD else CLASS_ACQUIRING
    if not operator.klass & wanted:
        raise CertificateRefused(f"the {name}'s certificate is signed by an operator that may not sign it")
    if certificate.kind == TERMINAL and certificate.payee[:4] != operator.operator:
        raise CertificateRefused("the terminal's certificate names a payee of another operator")


class TrustBundle:
    """A scheme's root and operators, and the check of every chain against them.

    Verified certificates are not kept here: who calls decides what to remember.
    Raises CertificateRefused or Malformed when the root or an operator itself is not good.
    """

    def __init__(self, suite: Suite, root: Certificate, operators: Iterable[Certificate]) -> None:
        self.suite = suite
        self.root = root
        self.scheme = root.scheme
        self.currency = root.currency
        if root.kind != ROOT:
            raise CertificateRefused("the scheme's first certificate is not a root")
        check_shape(root, suite.number, root.scheme, root.currency)
        self._root_key = suite.verifying_key(root.public)
        self._verify(root, self._root_key)
        self._operators: dict[bytes, tuple[Certificate, VerifyingKey]] = {}
        for operator in operators:
            self.add_operator(operator)

    @property
    def operators(self) -> list[Certificate]:
        """The operators that are trusted, in the order in which they came."""
        return [certificate for certificate, _ in self._operators.values()]

    def operator(self, number: bytes) -> Certificate:
        """The certificate of an operator (4 bytes). Raises AuthorityUnknown."""
        return self._entry(number)[0]

    def operator_key(self, number: bytes) -> VerifyingKey:
        """The key of an operator (4 bytes). Raises AuthorityUnknown."""
        return self._entry(number)[1]

    def add_operator(self, certificate: Certificate) -> None:
        """Trust an operator, once the root's signature verifies. Raises CertificateRefused."""
        if certificate.kind != OPERATOR:
            raise CertificateRefused("not an operator's certificate")
        check_shape(certificate, self.suite.number, self.scheme, self.currency)
        self._verify(certificate, self._root_key)
        self._operators[certificate.operator] = (certificate, self.suite.verifying_key(certificate.public))

    def check(self, certificate: Certificate, kind: int, now: int) -> VerifyingKey:
        """The whole chain of a card's or terminal's certificate at `now`; its key, ready to use.

        Raises CertificateRefused (and AuthorityUnknown), Malformed.
        """
        if certificate.kind != kind:
            raise CertificateRefused(
                f"a {_KINDS[certificate.kind]} certificate where a {_KINDS[kind]} one belongs"
            )
        check_shape(certificate, self.suite.number, self.scheme, self.currency)
        operator, key = self._entry(certificate.authority)
        check_authority(certificate, operator)
        self._verify(certificate, key)
        for link in (self.root, operator, certificate):
            check_dates(link, now)
        return self.suite.verifying_key(certificate.public)

    def _entry(self, number: bytes) -> tuple[Certificate, VerifyingKey]:
        try:
            return self._operators[number]
        except KeyError:
            raise AuthorityUnknown(
                f"operator {number.hex()} is not known in scheme {self.scheme.hex()}; "
                "bring this machine's operator list up to date"
            ) from None

    @staticmethod
    def _verify(certificate: Certificate, key: VerifyingKey) -> None:
        try:
            key.verify(certificate.signature, certificate.body())
        except SignatureInvalid:
            raise CertificateRefused(
                f"the {_KINDS[certificate.kind]}'s certificate is not signed by its authority"
            ) from None
