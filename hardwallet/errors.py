"""What can go wrong while a card and a terminal speak wallet.

WalletError
├── Malformed            bytes that are not what the protocol says they are
├── UnknownSuite         a suite byte that this program does not know
├── SignatureInvalid     a signature that does not verify
├── CertificateRefused   a certificate that is expired, of the wrong class, of another scheme …
│   ├── AuthorityUnknown its authority is not in the bundle
│   └── CertificateRevoked its authority's certificate is revoked
├── NotAWallet           the card has no hardwallet application, or answers SELECT with something else
├── CardMisbehaved       a reply that an honest card never gives
├── CardRefused          the card answered with a status word other than 9000
├── CardFileError        a simulated card's file: missing, damaged, in use, newer
│   ├── CardFileBusy
│   └── CardFileDamaged
├── AuthoritiesRefused   an authority list that is not good, or goes back behind the one that is held
├── DenylistRefused      a denylist that is not good, or does not follow the one that is held
└── IssuingError         a scheme's folder, or its journal, does not allow what was asked
"""

from hardwallet.status import explain


class WalletError(Exception):
    """Base of this package's errors. The message is for the user, and says what to do."""


class Malformed(WalletError):
    """Bytes from outside that do not parse. Nothing was changed."""


class UnknownSuite(WalletError):
    """A suite byte that this program does not know."""


class SignatureInvalid(WalletError):
    """A signature that does not verify under the key that it should."""


class CertificateRefused(WalletError):
    """A certificate that must not be trusted."""


class AuthorityUnknown(CertificateRefused):
    """The certificate's authority is not among those that are trusted here."""


class CertificateRevoked(CertificateRefused):
    """The certificate, or what is signed, stands under an operator's certificate that is revoked."""


class AuthoritiesRefused(WalletError):
    """An authority list that must not be used. What is held stays as it is.

    `code` is one word for programs: malformed, too-long, scheme, signature, older.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotAWallet(WalletError):
    """The card in the field does not hold this application, or another version of it."""


class CardMisbehaved(WalletError):
    """A reply that an honest card never gives: wrong length, wrong signature, a value out of range."""


class CardFileError(WalletError):
    """A simulated card's file cannot be used."""


class CardFileBusy(CardFileError):
    """Another process holds the card's file."""


class CardFileDamaged(CardFileError):
    """The card's file does not hold what was written to it."""


class DenylistRefused(WalletError):
    """A denylist, or a change of one, that must not be used. The list that is held stays as it is.

    `code` is one word for programs: malformed, too-long, scheme, operator, signature, older, base.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class IssuingError(WalletError):
    """A scheme's folder does not allow what was asked."""


class CardRefused(WalletError):
    """The card answered with a status word other than 9000 (docs/protocol.md, section 14)."""

    def __init__(self, sw: int, command: str) -> None:
        super().__init__(f"{command}: the card refused: {explain(sw)} ({sw:04X})")
        self.sw = sw
        self.command = command
