"""The `openssl` command as a second opinion: both suites by software that shares nothing with ours.

What it takes in DER is put together here by hand (RFC 5480, RFC 5915, X.690).
"""

import subprocess
import tempfile
from pathlib import Path

_P256 = bytes.fromhex("06082a8648ce3d030107")
_SM2 = bytes.fromhex("06082a811ccf5501822d")
_PUBLIC_HEAD = bytes.fromhex("3059301306072a8648ce3d0201")


def _run(*arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=False, timeout=30)


def _output(*arguments: str, given: bytes = b"") -> bytes:
    done = _run(*arguments, given=given)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def public_der(raw: bytes, curve: bytes = _P256) -> bytes:
    """SubjectPublicKeyInfo of `x‖y`."""
    return _PUBLIC_HEAD + curve + b"\x03\x42\x00\x04" + raw


def private_der(scalar: bytes, raw: bytes, curve: bytes = _P256) -> bytes:
    """ECPrivateKey of a scalar and its `x‖y`."""
    public = b"\xa1\x44\x03\x42\x00\x04" + raw
    content = b"\x02\x01\x01\x04\x20" + scalar + b"\xa0\x0a" + curve + public
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


# ---------------------------------------------------------------------- GM


def sm2_verifies(
    public: bytes, signature: bytes, message: bytes, identifier: bytes = b"1234567812345678"
) -> bool:
    """SM2 with SM3 under a signer's identifier."""
    with tempfile.TemporaryDirectory() as folder:
        key, sig, said = (Path(folder) / name for name in ("key", "signature", "message"))
        key.write_bytes(public_der(public, _SM2))
        sig.write_bytes(signature_der(signature))
        said.write_bytes(message)
        done = _run(
            *("pkeyutl", "-verify", "-pubin", "-inkey", str(key), "-keyform", "DER", "-rawin"),
            *("-digest", "sm3", "-in", str(said), "-sigfile", str(sig)),
            *("-pkeyopt", "hexdistid:" + identifier.hex()),
        )
    assert done.returncode in (0, 1), done.stderr.decode()
    return done.returncode == 0 and b"Signature Verified Successfully" in done.stdout


def sm2_signature(scalar: bytes, public: bytes, message: bytes, *, identifier: bytes | None) -> bytes:
    """DER of what openssl signs; without an identifier as its manual's examples do."""
    with tempfile.TemporaryDirectory() as folder:
        key, said = Path(folder) / "key", Path(folder) / "message"
        key.write_bytes(private_der(scalar, public, _SM2))
        said.write_bytes(message)
        options = [] if identifier is None else ["-pkeyopt", "hexdistid:" + identifier.hex()]
        return _output(
            *("pkeyutl", "-sign", "-inkey", str(key), "-keyform", "DER", "-rawin", "-digest", "sm3"),
            *("-in", str(said), *options),
        )


def sm2_public_of(scalar: bytes) -> bytes:
    """`x‖y` that openssl works out for a private key whose public key is left out."""
    content = b"\x02\x01\x01\x04\x20" + scalar + b"\xa0\x0a" + _SM2
    key = bytes((0x30, len(content))) + content
    return _output("pkey", "-inform", "DER", "-pubout", "-outform", "DER", given=key)[-64:]


def sm3(message: bytes) -> bytes:
    """32 bytes."""
    return _output("dgst", "-sm3", "-binary", given=message)


def sm4_block(key: bytes, block: bytes) -> bytes:
    """One block, no mode, no padding."""
    return _output("enc", "-sm4-ecb", "-nopad", "-K", key.hex(), given=block)
