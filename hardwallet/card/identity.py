"""What a card is given at personalisation and keeps for life: its numbers, keys, certificate, and its
scheme's root."""

from dataclasses import dataclass

from hardwallet.certificates import Certificate
from hardwallet.suites import AgreementKey, SigningKey, Suite


@dataclass(frozen=True, slots=True, repr=False)
class CardIdentity:
    """`card` 8 bytes, `secret` 16 (for load challenges), `pin_salt` 16. Never shown: it holds private
    keys."""

    suite: Suite
    certificate: Certificate
    root: Certificate
    signing: SigningKey
    agreement: AgreementKey
    secret: bytes
    pin_salt: bytes

    @property
    def card(self) -> bytes:
        """The card's number, 8 bytes."""
        return self.certificate.card

    @property
    def scheme(self) -> bytes:
        """The scheme, 4 bytes."""
        return self.certificate.scheme

    @property
    def issuer(self) -> bytes:
        """The issuing operator, 4 bytes."""
        return self.certificate.authority
