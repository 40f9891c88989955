"""Private keys at rest: a scalar under AES-256-GCM, its key derived from a passphrase by scrypt (RFC 7914).

The same envelope for every suite. A passphrase comes from HARDWALLET_PASSPHRASE or from a key file; it never
reaches an
error or a log.
"""

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from hardwallet.errors import IssuingError
from hardwallet.suites import Entropy, SigningKey, Suite

KEY_FILE: Final = "key"
"""The file, in a scheme's or terminal's folder, with the passphrase that was made when none was given."""
_COST: Final = 2**14
_MAX_COST: Final = 2**20
_MAX_ENVELOPE: Final = 4096
PASSPHRASE_VARIABLE: Final = "HARDWALLET_PASSPHRASE"  # noqa: S105 - a name, not a secret


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of a sealed key; byte strings as base64."""

    version: int
    suite: int
    cost: int
    salt: bytes
    nonce: bytes
    sealed: bytes


def seal(
    key: SigningKey, suite: Suite, passphrase: bytes, entropy: Entropy, cost: int | None = None
) -> bytes:
    """The key's envelope, JSON, under 1 KB. `cost`: scrypt's N, a power of two, where the key is for a world
    that is thrown away; any other is sealed at the full cost."""
    salt, nonce, cost = entropy(16), entropy(12), cost or _COST
    sealed = AESGCM(_derive(passphrase, salt, cost)).encrypt(nonce, key.scalar(), bytes((suite.number,)))
    return msgspec.json.encode(_Envelope(1, suite.number, cost, salt, nonce, sealed)) + b"\n"


def unseal(raw: bytes, suite: Suite, passphrase: bytes, where: str) -> SigningKey:
    """The key of an envelope, which is a file of JSON; the passphrase has any length. Raises IssuingError,
    naming `where`, for a damaged one or a wrong passphrase."""
    try:
        if len(raw) > _MAX_ENVELOPE:
            raise msgspec.DecodeError("too long")
        envelope = msgspec.json.decode(raw, type=_Envelope)
    except msgspec.DecodeError:
        raise IssuingError(f"{where} is not a key file of this program, or is damaged") from None
    if envelope.version != 1 or not 2 <= envelope.cost <= _MAX_COST:
        raise IssuingError(f"{where} is a key file of another version; use the program that made it")
    if envelope.suite != suite.number:
        raise IssuingError(f"{where} holds a key of suite {envelope.suite:02X}, not {suite.number:02X}")
    try:
        derived = _derive(passphrase, envelope.salt, envelope.cost)
        scalar = AESGCM(derived).decrypt(envelope.nonce, envelope.sealed, bytes((envelope.suite,)))
    except (InvalidTag, ValueError):
        raise IssuingError(
            f"the key in {where} does not open with this passphrase; check {PASSPHRASE_VARIABLE} or "
            "the key file"
        ) from None
    return suite.signing_key(scalar)


def _derive(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase)


def find_passphrase(key_file: Path | None, default: Path, *, create: bool = False) -> bytes:
    """The passphrase: HARDWALLET_PASSPHRASE, else `key_file`, else the file `default` (made when `create`).

    Raises IssuingError when a file is missing, empty, or readable by others.
    """
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given:
        return os.fsencode(given)
    path = key_file or default
    if create and key_file is None and not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
    try:
        if path.stat().st_mode & 0o077:
            raise IssuingError(f"{path} is readable by others; run: chmod 600 {path}")
        content = path.read_bytes()[:_MAX_ENVELOPE].strip()
    except OSError as error:
        raise IssuingError(
            f"the key file {path} can't be read ({error.strerror}); set {PASSPHRASE_VARIABLE} or "
            "name it by --key-file"
        ) from None
    if not content:
        raise IssuingError(f"the key file {path} is empty")
    return content
