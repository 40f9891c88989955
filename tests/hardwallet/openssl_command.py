"""The `openssl` command as a second opinion: P-256, SHA-256, AES by software that shares nothing with ours.

What it takes in DER is put together here by hand (RFC 5480, RFC 5915, X.690).
"""

import subprocess
import tempfile
from pathlib import Path

_P256 = bytes.fromhex("06082a8648ce3d030107")
_PUBLIC_HEAD = bytes.fromhex("3059301306072a8648ce3d0201") + _P256 + bytes.fromhex("034200")


def _run(*arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=False, timeout=30)


def _output(*arguments: str, given: bytes = b"") -> bytes:
    done = _run(*arguments, given=given)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def public_der(raw: bytes) -> bytes:
    """SubjectPublicKeyInfo of `x‖y`."""
    return _PUBLIC_HEAD + b"\x04" + raw


def private_der(scalar: bytes, raw: bytes) -> bytes:
    """ECPrivateKey of a scalar and its `x‖y`."""
    public = b"\xa1\x44\x03\x42\x00\x04" + raw
    content = b"\x02\x01\x01\x04\x20" + scalar + b"\xa0\x0a" + _P256 + public
    return bytes((0x30, len(content))) + content


def _integer(raw: bytes) -> bytes:
    value = raw.lstrip(b"\0") or b"\0"
    if value[0] & 0x80:
        value = b"\0" + value
    return bytes((2, len(value))) + value


def signature_der(raw: bytes) -> bytes:
    """Ecdsa-Sig-Value of `r‖s`."""
    content = _integer(raw[:32]) + _integer(raw[32:])
    return bytes((0x30, len(content))) + content


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """ECDSA P-256 with SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        key, sig = Path(folder) / "key", Path(folder) / "signature"
        key.write_bytes(public_der(public))
        sig.write_bytes(signature_der(signature))
        done = _run(
            *("dgst", "-sha256", "-verify", str(key), "-keyform", "DER", "-signature", str(sig)),
            given=message,
        )
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.returncode == 0 and done.stdout.startswith(b"Verified OK")


def sha256(message: bytes) -> bytes:
    """32 bytes."""
    return _output("dgst", "-sha256", "-binary", given=message)


def shared_x(scalar: bytes, public: bytes, peer: bytes) -> bytes:
    """The x-coordinate of the shared point."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        ours.write_bytes(private_der(scalar, public))
        theirs.write_bytes(public_der(peer))
        return _output(
            *("pkeyutl", "-derive", "-inkey", str(ours), "-keyform", "DER"),
            *("-peerkey", str(theirs), "-peerform", "DER"),
        )


def public_of(scalar: bytes, claimed: bytes) -> bytes:
    """`x‖y` that openssl works out for a private key whose public key is left out."""
    content = b"\x02\x01\x01\x04\x20" + scalar + b"\xa0\x0a" + _P256
    key = bytes((0x30, len(content))) + content
    der = _output("ec", "-inform", "DER", "-pubout", "-outform", "DER", given=key)
    assert len(claimed) == 64
    return der[-64:]


def aes_128_block(key: bytes, block: bytes) -> bytes:
    """One block, no mode, no padding."""
    return _output("enc", "-aes-128-ecb", "-nopad", "-K", key.hex(), given=block)
