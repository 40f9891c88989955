"""The GM suite: SM2 (GB/T 32918), SM3 (GB/T 32905), SM4 (GB/T 32907), behind the same interface and sizes.

Signatures come from gmssl_pyx, hash and block cipher from cryptography. SM2's identifier is
1234567812345678 and is always given: a library left to its default may sign under an empty one. What
gmssl_pyx lacks (a plain shared point, and keys and nonces of our choosing) is point arithmetic of the `ecdsa`
library; only keys, PINs and simulated signatures need it. docs/adr/0026 compares the libraries.
"""

from hashlib import sha256
from typing import Final

import gmssl_pyx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from ecdsa.ellipticcurve import CurveFp, PointJacobi

from hardwallet.c_stderr import silent_stderr
from hardwallet.errors import Malformed, SignatureInvalid
from hardwallet.suites import (
    GM,
    PUBLIC_KEY_LENGTH,
    SIGNATURE_LENGTH,
    AgreementKey,
    Entropy,
    SigningKey,
    VerifyingKey,
)

IDENTIFIER: Final = b"1234567812345678"  # GB/T 35276, 10

# GB/T 32918.5: the curve sm2p256v1.
_P: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
_A: Final = _P - 3
_B: Final = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
_N: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
_GX: Final = 0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7
_GY: Final = 0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0
_CURVE: Final = CurveFp(_P, _A, _B, 1)
_G: Final = PointJacobi(_CURVE, _GX, _GY, 1, _N, generator=True)
_MAX_IDENTIFIER_LENGTH: Final = 8_191  # its length in bits has two bytes


def sm3(message: bytes) -> bytes:
    """SM3, 32 bytes."""
    digest = hashes.Hash(hashes.SM3())
    digest.update(message)
    return digest.finalize()


def identity_digest(public: bytes, identifier: bytes = IDENTIFIER) -> bytes:
    """Z of GB/T 32918.2, 5.5: what SM2 hashes before the message, 32 bytes, for a public key of 64.

    Raises Malformed when the identifier is empty: what was signed under none says nothing of its signer.
    """
    if not 0 < len(identifier) <= _MAX_IDENTIFIER_LENGTH:
        raise Malformed(
            f"an SM2 identifier has 1 to {_MAX_IDENTIFIER_LENGTH} bytes, not {len(identifier)}; "
            f"this protocol uses {IDENTIFIER.decode()}"
        )
    length = (8 * len(identifier)).to_bytes(2, "big")
    curve = b"".join(value.to_bytes(32, "big") for value in (_A, _B, _GX, _GY))
    return sm3(length + identifier + curve + public)


def _point(public: bytes) -> PointJacobi:
    if len(public) != PUBLIC_KEY_LENGTH:
        raise Malformed(f"a public key has 64 bytes, not {len(public)}")
    x, y = int.from_bytes(public[:32], "big"), int.from_bytes(public[32:], "big")
    if x >= _P or y >= _P or not _CURVE.contains_point(x, y):
        raise Malformed("a public key is not a point of the curve")
    return PointJacobi(_CURVE, x, y, 1, _N)


def _public_of(scalar: int) -> bytes:
    point = (_G * scalar).to_affine()
    return int(point.x()).to_bytes(32, "big") + int(point.y()).to_bytes(32, "big")


def _new_scalar(entropy: Entropy) -> int:
    """1 to n - 2 (GB/T 32918.1, 6.1); 64 extra bits make the bias negligible."""
    return int.from_bytes(entropy(40), "big") % (_N - 2) + 1


def _load_scalar(scalar: bytes) -> int:
    value = int.from_bytes(scalar, "big")
    if len(scalar) != 32 or not 0 < value < _N - 1:
        raise Malformed("a private key is out of range")
    return value


class Sm2VerifyingKey:
    """SM2 verification (GB/T 32918.2, 7)."""

    __slots__ = ("raw",)

    def __init__(self, public: bytes) -> None:
        _point(public)
        self.raw = public

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check 64 bytes `r‖s`. Raises SignatureInvalid."""
        if len(signature) != SIGNATURE_LENGTH:
            raise SignatureInvalid(f"a signature has 64 bytes, not {len(signature)}")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        try:
            with silent_stderr():  # it prints where it found that a signature does not verify
                good = gmssl_pyx.sm2_verify(self.raw, message, encode_dss_signature(r, s), IDENTIFIER)
        except gmssl_pyx.GmsslInnerError:
            good = False
        if not good:
            raise SignatureInvalid("the signature does not verify")


class Sm2SigningKey:
    """SM2 signing (GB/T 32918.2, 6); randomised, or with a derived nonce under simulation."""

    __slots__ = ("_deterministic", "_identity", "_scalar", "public")

    def __init__(self, scalar: int, *, deterministic: bool) -> None:
        self._scalar = scalar
        self._deterministic = deterministic
        self.public = _public_of(scalar)
        self._identity = identity_digest(self.public)

    def sign(self, message: bytes) -> bytes:
        """64 bytes `r‖s`."""
        digest = sm3(self._identity + message)
        if self._deterministic:
            return self._sign_repeatably(digest)
        der = gmssl_pyx.sm2_sign_sm3_digest(self.scalar(), digest)
        r, s = decode_dss_signature(der)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def scalar(self) -> bytes:
        """The private scalar, 32 bytes. Secret."""
        return self._scalar.to_bytes(32, "big")

    def _sign_repeatably(self, digest: bytes) -> bytes:
        """For simulation alone: the nonce is a hash of key and message, so that a seed replays byte for
        byte."""
        e = int.from_bytes(digest, "big")
        for counter in range(256):
            seed = self.scalar() + digest + bytes((counter,))
            k = int.from_bytes(sha256(b"\x01" + seed).digest() + sha256(b"\x02" + seed).digest()[:8], "big")
            k = k % (_N - 1) + 1
            r = (e + int((_G * k).x())) % _N
            s = pow(1 + self._scalar, -1, _N) * (k - r * self._scalar) % _N
            if r and r + k != _N and s:
                return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        raise Malformed("no signature was found for this message")


class Sm2AgreementKey:
    """A plain shared point on SM2's curve: the x-coordinate, as in the international suite."""

    __slots__ = ("_scalar", "public")

    def __init__(self, scalar: int) -> None:
        self._scalar = scalar
        self.public = _public_of(scalar)

    def shared(self, peer: bytes) -> bytes:
        """32 bytes shared with the peer's 64-byte public key. Raises Malformed."""
        point = (_point(peer) * self._scalar).to_affine()
        return int(point.x()).to_bytes(32, "big")

    def scalar(self) -> bytes:
        """The private scalar, 32 bytes. Secret."""
        return self._scalar.to_bytes(32, "big")


class Gm:
    """SM2, SM3, SM4. `deterministic` makes signatures repeat, for simulation."""

    number: int = GM

    def __init__(self, *, deterministic: bool = False) -> None:
        self._deterministic = deterministic

    def hash(self, message: bytes) -> bytes:
        """SM3, 32 bytes."""
        return sm3(message)

    def verifying_key(self, public: bytes) -> VerifyingKey:
        """Load 64 bytes `x‖y`. Raises Malformed."""
        return Sm2VerifyingKey(public)

    def new_signing_key(self, entropy: Entropy) -> SigningKey:
        """A fresh key."""
        return Sm2SigningKey(_new_scalar(entropy), deterministic=self._deterministic)

    def signing_key(self, scalar: bytes) -> SigningKey:
        """The key of a stored scalar. Raises Malformed."""
        return Sm2SigningKey(_load_scalar(scalar), deterministic=self._deterministic)

    def new_agreement_key(self, entropy: Entropy) -> AgreementKey:
        """A fresh key."""
        return Sm2AgreementKey(_new_scalar(entropy))

    def agreement_key(self, scalar: bytes) -> AgreementKey:
        """The key of a stored scalar. Raises Malformed."""
        return Sm2AgreementKey(_load_scalar(scalar))

    def encrypt_block(self, key: bytes, block: bytes) -> bytes:
        """SM4, one block."""
        encryptor = Cipher(algorithms.SM4(key), modes.ECB()).encryptor()  # noqa: S305 - one block, fresh key
        return encryptor.update(block) + encryptor.finalize()

    def decrypt_block(self, key: bytes, block: bytes) -> bytes:
        """SM4, one block."""
        decryptor = Cipher(algorithms.SM4(key), modes.ECB()).decryptor()  # noqa: S305 - one block, fresh key
        return decryptor.update(block) + decryptor.finalize()
