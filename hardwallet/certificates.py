"""Compact certificates, and the chain from a card or a terminal up to its scheme's root (docs/protocol.md,
section 3)."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from hardwallet.errors import (
    AuthoritiesRefused,
    AuthorityUnknown,
    CertificateRefused,
    CertificateRevoked,
    Malformed,
    SignatureInvalid,
)
from hardwallet.riders import MAX_TIER, Rider, is_card_class
from hardwallet.suites import SigningKey, Suite, VerifyingKey, suite_name

if TYPE_CHECKING:
    from hardwallet.authorities import AuthorityList

VERSION: Final = 1
APPLICATION: Final = 1
CURRENCY_CNY: Final = 0x0156  # ISO 4217 numeric, BCD

ROOT: Final = 0xC0
OPERATOR: Final = 0xC1
TERMINAL: Final = 0xC2
CARD: Final = 0xC3

CLASS_ISSUING: Final = 1
CLASS_ACQUIRING: Final = 2
CLASS_BESIDE: Final = 4
"""Bit of an operator's class: a card goes on trusting the operator's certificate before this one."""
CLASS_RETAIL: Final = 1
CLASS_TRANSIT: Final = 2

BODY_LENGTH: Final = 98
CARD_BODY_LENGTH: Final = 114
SIGNATURE_LENGTH: Final = 64
CERTIFICATE_LENGTH: Final = BODY_LENGTH + SIGNATURE_LENGTH
CARD_CERTIFICATE_LENGTH: Final = CARD_BODY_LENGTH + SIGNATURE_LENGTH
DIGEST_LENGTH: Final = 8
ROOT_AUTHORITY: Final = bytes(4)

_BODY: Final = struct.Struct(">BBBB4s4s12sHII64s")
_CARD_CLASSES: Final = tuple(klass for klass in range(256) if is_card_class(klass))
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
    def tier(self) -> int:
        """The tier at which a card's certificate was issued; an issuer's order may have changed it since."""
        return self.klass & MAX_TIER

    @property
    def rider(self) -> Rider:
        """The rider class named by a card's certificate that was checked."""
        return Rider(self.klass >> 4)

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
    return suite.hash(certificate.body())[:DIGEST_LENGTH]


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
    """What can be said without a key: suite, scheme (4 bytes), currency, class, order of dates. Raises
    CertificateRefused."""
    name = _KINDS[certificate.kind]
    if certificate.suite != suite:
        raise CertificateRefused(
            f"the {name}'s certificate is of suite {suite_name(certificate.suite)}, not {suite_name(suite)}"
        )
    if certificate.scheme != scheme:
        raise CertificateRefused(
            f"the {name}'s certificate belongs to another scheme ({certificate.scheme.hex()})"
        )
    if certificate.currency != currency:
        raise CertificateRefused(f"the {name}'s certificate is for currency {certificate.currency:04X}")
    if certificate.not_before > certificate.not_after:
        raise CertificateRefused(f"the {name}'s certificate ends before it begins")
    classes = {
        ROOT: (0,),
        OPERATOR: (1, 2, 3, 5, 6, 7),
        TERMINAL: (CLASS_RETAIL, CLASS_TRANSIT),
        CARD: _CARD_CLASSES,
    }
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


@dataclass(frozen=True, slots=True)
class _Operator:
    """One certificate of an operator, its key ready to use."""

    certificate: Certificate
    digest: bytes
    key: VerifyingKey


@dataclass(frozen=True, slots=True)
class _Authorities:
    """Who is trusted now. Never changed, only replaced whole, so that any thread may read it."""

    version: int = 0
    raw: bytes = b""
    operators: tuple[_Operator, ...] = ()
    revoked: Mapping[bytes, int] = field(default_factory=dict)


class TrustBundle:
    """A scheme's root and operators, and the check of every chain against them.

    An operator may have several certificates: while its key is rotated, whatever any of them signed is good.
    What a revoked one signed is refused.
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
        self._now = _Authorities()
        for operator in operators:
            self.add_operator(operator)

    @property
    def operators(self) -> list[Certificate]:
        """The operators' certificates, revoked ones too, in the order in which they came."""
        return [operator.certificate for operator in self._now.operators]

    @property
    def version(self) -> int:
        """The version of the authority list that is held; 0 when there never was one."""
        return self._now.version

    @property
    def authorities(self) -> bytes:
        """The authority list that is held (hardwallet/authorities.py), or nothing."""
        return self._now.raw

    @property
    def revoked(self) -> Mapping[bytes, int]:
        """Digests (8 bytes) of the operators' certificates that are revoked, and from when."""
        return self._now.revoked

    def operator(self, number: bytes) -> Certificate:
        """The newest certificate of an operator (4 bytes), with whose key it signs. Raises
        AuthorityUnknown."""
        return self._newest(number).certificate

    def operator_key(self, number: bytes) -> VerifyingKey:
        """The key of the newest certificate of an operator (4 bytes). Raises AuthorityUnknown."""
        return self._newest(number).key

    def current(self, number: bytes) -> list[Certificate]:
        """The certificates of an operator (4 bytes) that are not revoked, newest first."""
        revoked = self._now.revoked
        return [one.certificate for one in self._candidates(number) if one.digest not in revoked]

    def has_class(self, number: bytes, klass: int) -> bool:
        """Whether an operator (4 bytes) issues or acquires, by any of its certificates. Raises
        AuthorityUnknown when it has none."""
        return any(one.certificate.klass & klass for one in self._candidates(number))

    def add_operator(self, certificate: Certificate) -> None:
        """Trust an operator's certificate, once the root's signature verifies. Raises CertificateRefused."""
        now, added = self._now, self._checked_operator(certificate)
        kept = tuple(one for one in now.operators if one.digest != added.digest)
        self._now = replace(now, operators=(*kept, added))

    def update(self, authorities: "AuthorityList") -> bool:
        """Take an authority list in place of the operators that are held; False when it is held already.

        Raises AuthoritiesRefused: older than the one that is held, or another one of the same version.
        """
        now = self._now
        if authorities.raw == now.raw:
            return False
        if authorities.version <= now.version:
            raise AuthoritiesRefused(
                "older",
                f"this is authority list {authorities.version}, but {now.version} is held already; "
                "a list never goes back",
            )
        operators = tuple(self._checked_operator(one) for one in authorities.certificates)
        self._now = _Authorities(authorities.version, authorities.raw, operators, dict(authorities.revoked))
        return True

    def verify_root(self, signature: bytes, message: bytes) -> None:
        """Raises SignatureInvalid unless the root signed the message."""
        self._root_key.verify(signature, message)

    def check(
        self, certificate: Certificate, kind: int, now: int, *, even_revoked: bool = False
    ) -> VerifyingKey:
        """The whole chain of a card's or terminal's certificate at `now` (seconds since 1970); its key, ready
        to use.

        `even_revoked`: also under an operator's certificate that is revoked.
        Raises CertificateRefused (and AuthorityUnknown, CertificateRevoked), Malformed.
        """
        if certificate.kind != kind:
            raise CertificateRefused(
                f"a {_KINDS[certificate.kind]} certificate where a {_KINDS[kind]} one belongs"
            )
        check_shape(certificate, self.suite.number, self.scheme, self.currency)
        self._authority(certificate, now, even_revoked=even_revoked)
        return self.suite.verifying_key(certificate.public)

    def authority_of(self, certificate: Certificate) -> Certificate:
        """The operator's certificate under which a card's or terminal's certificate stands, whatever the
        date and revoked or not. Raises CertificateRefused."""
        return self._authority(certificate, None, even_revoked=True).certificate

    def verify_signed(
        self, number: bytes, klass: int, message: bytes, signature: bytes, at_s: int, *, since: bool = False
    ) -> Certificate:
        """The certificate of operator `number` (4 bytes) whose key signed the message at `at_s`.

        `klass`: CLASS_ISSUING or CLASS_ACQUIRING, which it has to be. `since`: what is dated up to the
        certificate's revocation is good. Raises AuthorityUnknown, CertificateRevoked, CertificateRefused
        (class, dates), SignatureInvalid.
        """
        refusal: CertificateRefused | SignatureInvalid | None = None
        for one in self._candidates(number):
            try:
                if not one.certificate.klass & klass:
                    raise CertificateRefused(f"operator {number.hex()} may not sign this")
                try:
                    one.key.verify(signature, message)
                except SignatureInvalid as error:
                    refusal = refusal if isinstance(refusal, CertificateRefused) else error
                    continue
                if not (since and at_s <= self._now.revoked.get(one.digest, -1)):
                    self._want_not_revoked(one)
                check_dates(one.certificate, at_s)
            except CertificateRefused as error:
                refusal = error
            else:
                return one.certificate
        raise refusal or SignatureInvalid("no certificate of the operator verifies this signature")

    # ------------------------------------------------------------------ several certificates of one operator

    def _authority(self, certificate: Certificate, now: int | None, *, even_revoked: bool) -> _Operator:
        """Of the refusals, that of the certificate whose key fits is told."""
        unsigned: CertificateRefused | None = None
        refusal: CertificateRefused | None = None
        for one in self._candidates(certificate.authority):
            try:
                check_authority(certificate, one.certificate)
                self._verify(certificate, one.key)
            except CertificateRefused as error:
                unsigned = unsigned or error
                continue
            try:
                if not even_revoked:
                    self._want_not_revoked(one)
                for link in () if now is None else (self.root, one.certificate, certificate):
                    check_dates(link, now or 0)
            except CertificateRefused as error:
                refusal = refusal or error
            else:
                return one
        raise refusal or unsigned or self._unknown(certificate.authority)

    def _candidates(self, number: bytes) -> list[_Operator]:
        """An operator's certificates, newest first, revoked ones last. Raises AuthorityUnknown."""
        now = self._now
        found = [one for one in now.operators if one.certificate.operator == number]
        if not found:
            raise self._unknown(number)
        if len(found) > 1:
            found.sort(
                key=lambda one: (one.digest not in now.revoked, one.certificate.not_before), reverse=True
            )
        return found

    def _newest(self, number: bytes) -> _Operator:
        newest = self._candidates(number)[0]
        if newest.digest in self._now.revoked:
            raise AuthorityUnknown(
                f"every certificate of operator {number.hex()} is revoked; "
                "bring this machine's operator list up to date"
            )
        return newest

    def _want_not_revoked(self, operator: _Operator) -> None:
        if operator.digest in self._now.revoked:
            raise CertificateRevoked(
                f"the certificate {operator.digest.hex()} of operator {operator.certificate.operator.hex()} "
                "is revoked, and with it all that it signed; the operator has to renew what stands under it"
            )

    def _checked_operator(self, certificate: Certificate) -> _Operator:
        if certificate.kind != OPERATOR:
            raise CertificateRefused("not an operator's certificate")
        check_shape(certificate, self.suite.number, self.scheme, self.currency)
        self._verify(certificate, self._root_key)
        key = self.suite.verifying_key(certificate.public)
        return _Operator(certificate, digest(self.suite, certificate), key)

    def _unknown(self, number: bytes) -> AuthorityUnknown:
        return AuthorityUnknown(
            f"operator {number.hex()} is not known in scheme {self.scheme.hex()}; "
            "bring this machine's operator list up to date"
        )

    @staticmethod
    def _verify(certificate: Certificate, key: VerifyingKey) -> None:
        try:
            key.verify(certificate.signature, certificate.body())
        except SignatureInvalid:
            raise CertificateRefused(
                f"the {_KINDS[certificate.kind]}'s certificate is not signed by its authority"
            ) from None
