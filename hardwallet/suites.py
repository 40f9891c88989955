"""The cryptographic suites: one interface, and the international suite behind it. The GM suite is in gm.py.

Keys and signatures are raw bytes on every wire: a public key is 64 bytes `x‖y`, a signature 64 bytes `r‖s`
(docs/protocol.md, section 2). Keys are loaded once and kept as objects, since loading costs a fifth of a
verification.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hardwallet.errors import Malformed, SignatureInvalid, UnknownSuite

Entropy = Callable[[int], bytes]
"""`entropy(n)` gives n fresh random bytes."""

INTERNATIONAL: Final = 1
GM: Final = 2
SUITES: Final = {"international": INTERNATIONAL, "gm": GM}
"""The suites by the names that people give them."""
PUBLIC_KEY_LENGTH: Final = 64
SIGNATURE_LENGTH: Final = 64
BLOCK_LENGTH: Final = 16


class VerifyingKey(Protocol):
    """A public signature key."""

    @property
    def raw(self) -> bytes:
        """The key as 64 bytes `x‖y`."""

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check 64 bytes `r‖s` over the message. Raises SignatureInvalid."""


class SigningKey(Protocol):
    """A private signature key."""

    @property
    def public(self) -> bytes:
        """Its public key, 64 bytes `x‖y`."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes `r‖s` over the message."""

    def scalar(self) -> bytes:
        """The private scalar, 32 bytes. Secret: only for storage that is encrypted or simulated."""


class AgreementKey(Protocol):
    """A private key-agreement key."""

    @property
    def public(self) -> bytes:
        """Its public key, 64 bytes `x‖y`."""

    def shared(self, peer: bytes) -> bytes:
        """The x-coordinate, 32 bytes, of the point shared with the peer's 64-byte key. Raises Malformed."""

    def scalar(self) -> bytes:
        """The private scalar, 32 bytes. Secret."""


class Suite(Protocol):
    """Signature, hash, agreement and block cipher under one suite byte."""

    @property
    def number(self) -> int:
        """The suite byte."""

    def hash(self, message: bytes) -> bytes:
        """32 bytes."""

    def verifying_key(self, public: bytes) -> VerifyingKey:
        """Load 64 bytes `x‖y`. Raises Malformed when they are not a point of the curve."""

    def new_signing_key(self, entropy: Entropy) -> SigningKey:
        """A fresh key from `entropy`."""

    def signing_key(self, scalar: bytes) -> SigningKey:
        """The key of a stored 32-byte scalar. Raises Malformed."""

    def new_agreement_key(self, entropy: Entropy) -> AgreementKey:
        """A fresh key from `entropy`."""

    def agreement_key(self, scalar: bytes) -> AgreementKey:
        """The key of a stored 32-byte scalar. Raises Malformed."""

    def encrypt_block(self, key: bytes, block: bytes) -> bytes:
        """One 16-byte block under a 16-byte key, no mode."""

    def decrypt_block(self, key: bytes, block: bytes) -> bytes:
        """The inverse of `encrypt_block`: 16 bytes each."""


_CURVE: Final = ec.SECP256R1()
_ORDER: Final = (
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # FIPS 186-5 / SP 800-186, P-256
)
_ECDSA: Final = ec.ECDSA(hashes.SHA256())
_ECDSA_DETERMINISTIC: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def _raw_public(key: ec.EllipticCurvePublicKey) -> bytes:
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return point[1:]


def _load_public(public: bytes) -> ec.EllipticCurvePublicKey:
    if len(public) != PUBLIC_KEY_LENGTH:
        raise Malformed(f"a public key has 64 bytes, not {len(public)}")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, b"\x04" + public)
    except ValueError:
        raise Malformed("a public key is not a point of the curve") from None


def _load_private(scalar: bytes) -> ec.EllipticCurvePrivateKey:
    value = int.from_bytes(scalar, "big")
    if len(scalar) != 32 or not 0 < value < _ORDER:
        raise Malformed("a private key is out of range")
    return ec.derive_private_key(value, _CURVE)


def _new_private(entropy: Entropy) -> ec.EllipticCurvePrivateKey:
    """FIPS 186-5 A.2.1: 64 extra bits make the bias negligible."""
    return ec.derive_private_key(int.from_bytes(entropy(40), "big") % (_ORDER - 1) + 1, _CURVE)


def _scalar(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(32, "big")


class P256VerifyingKey:
    """ECDSA P-256 with SHA-256 (FIPS 186-5)."""

    __slots__ = ("_key", "raw")

    def __init__(self, public: bytes) -> None:
        self.raw = public
        self._key = _load_public(public)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check 64 bytes `r‖s`. Raises SignatureInvalid."""
        if len(signature) != SIGNATURE_LENGTH:
            raise SignatureInvalid(f"a signature has 64 bytes, not {len(signature)}")
        der = encode_dss_signature(
            int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        )
        try:
            self._key.verify(der, message, _ECDSA)
        except InvalidSignature:
            raise SignatureInvalid("the signature does not verify") from None


class P256SigningKey:
    """ECDSA P-256 with SHA-256; randomised, or deterministic (RFC 6979) under simulation."""

    __slots__ = ("_algorithm", "_key", "public")

    def __init__(self, key: ec.EllipticCurvePrivateKey, *, deterministic: bool) -> None:
        self._key = key
        self._algorithm = _ECDSA_DETERMINISTIC if deterministic else _ECDSA
        self.public = _raw_public(key.public_key())

    def sign(self, message: bytes) -> bytes:
        """64 bytes `r‖s`."""
        r, s = decode_dss_signature(self._key.sign(message, self._algorithm))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def scalar(self) -> bytes:
        """The private scalar, 32 bytes. Secret."""
        return _scalar(self._key)


class P256AgreementKey:
    """ECDH on P-256, plain x-coordinate (SP 800-56A 5.7.1.2; Java Card ALG_EC_SVDP_DH_PLAIN)."""

    __slots__ = ("_key", "public")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = _raw_public(key.public_key())

    def shared(self, peer: bytes) -> bytes:
        """32 bytes shared with the peer's 64-byte public key. Raises Malformed."""
        return self._key.exchange(ec.ECDH(), _load_public(peer))

    def scalar(self) -> bytes:
        """The private scalar, 32 bytes. Secret."""
        return _scalar(self._key)


class International:
    """P-256, SHA-256, AES-128. `deterministic` makes signatures repeat, so that a seed replays byte for
    byte."""

    number: int = INTERNATIONAL

    def __init__(self, *, deterministic: bool = False) -> None:
        self._deterministic = deterministic

    def hash(self, message: bytes) -> bytes:
        """SHA-256 (FIPS 180-4), 32 bytes."""
        return sha256(message).digest()

    def verifying_key(self, public: bytes) -> VerifyingKey:
        """Load 64 bytes `x‖y`. Raises Malformed."""
        return P256VerifyingKey(public)

    def new_signing_key(self, entropy: Entropy) -> SigningKey:
        """A fresh key."""
        return P256SigningKey(_new_private(entropy), deterministic=self._deterministic)

    def signing_key(self, scalar: bytes) -> SigningKey:
        """The key of a stored scalar. Raises Malformed."""
        return P256SigningKey(_load_private(scalar), deterministic=self._deterministic)

    def new_agreement_key(self, entropy: Entropy) -> AgreementKey:
        """A fresh key."""
        return P256AgreementKey(_new_private(entropy))

    def agreement_key(self, scalar: bytes) -> AgreementKey:
        """The key of a stored scalar. Raises Malformed."""
        return P256AgreementKey(_load_private(scalar))

    def encrypt_block(self, key: bytes, block: bytes) -> bytes:
        """AES-128 (FIPS 197), one block."""
        encryptor = Cipher(algorithms.AES128(key), modes.ECB()).encryptor()  # noqa: S305 - one block, fresh key
        return encryptor.update(block) + encryptor.finalize()

    def decrypt_block(self, key: bytes, block: bytes) -> bytes:
        """AES-128 (FIPS 197), one block."""
        decryptor = Cipher(algorithms.AES128(key), modes.ECB()).decryptor()  # noqa: S305 - one block, fresh key
        return decryptor.update(block) + decryptor.finalize()


def suite_name(number: int) -> str:
    """A suite byte for people: `02 (GM)`; a bare number where it is not known."""
    names = {INTERNATIONAL: " (international)", GM: " (GM)"}
    return f"{number:02X}{names.get(number, '')}"


def suite_by_number(number: int, *, deterministic: bool = False) -> Suite:
    """The suite of a suite byte. Raises UnknownSuite."""
    if number == INTERNATIONAL:
        return International(deterministic=deterministic)
    if number == GM:
        from hardwallet.gm import Gm  # its libraries take a while to load, and few need them

        return Gm(deterministic=deterministic)
    raise UnknownSuite(
        f"suite {number:02X} is not known here; this program speaks {suite_name(INTERNATIONAL)} and "
        f"{suite_name(GM)}"
    )
