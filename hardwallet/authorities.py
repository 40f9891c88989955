"""The authority list: which operators' certificates a scheme's root stands for, and which it has revoked
(docs/protocol.md, section 17; why so: docs/adr/0021).

    F6 ‖ 01 ‖ suite ‖ 00 ‖ scheme (4) ‖ version (4) ‖ time (4) ‖ operators (2) ‖ revoked (2)
       ‖ operators' certificates (162 each)
       ‖ revocations: certificate digest (8) ‖ since (4), each
       ‖ signature of the root (64) over all before it

A list is whole: it takes the place of the one before. The version only rises.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hardwallet.certificates import (
    CERTIFICATE_LENGTH,
    OPERATOR,
    VERSION,
    Certificate,
    TrustBundle,
)
from hardwallet.certificates import parse as parse_certificate
from hardwallet.errors import AuthoritiesRefused, Malformed, SignatureInvalid
from hardwallet.suites import SIGNATURE_LENGTH, SigningKey

AUTHORITY_LIST: Final = 0xF6
MAX_OPERATORS: Final = 64
MAX_REVOKED: Final = 256

_HEADER: Final = struct.Struct(">BBBB4sIIHH")
_REVOCATION: Final = struct.Struct(">8sI")
MIN_LENGTH: Final = _HEADER.size + SIGNATURE_LENGTH
MAX_LENGTH: Final = MIN_LENGTH + MAX_OPERATORS * CERTIFICATE_LENGTH + MAX_REVOKED * _REVOCATION.size
"""The longest file, 13,524 bytes: a longer one is refused before it is read."""


@dataclass(frozen=True, slots=True)
class AuthorityList:
    """A verified list. `raw` is the whole file; `revoked` has digests (8 bytes) and the time since when."""

    raw: bytes
    version: int
    time_s: int
    certificates: tuple[Certificate, ...]
    revoked: Mapping[bytes, int]


def build(
    trust: TrustBundle,
    version: int,
    time_s: int,
    certificates: Iterable[Certificate],
    revoked: Mapping[bytes, int],
    root_key: SigningKey,
) -> bytes:
    """A list, signed by the root, at most MAX_LENGTH bytes; `revoked`: by the digest (8 bytes) of a
    certificate, since when. Raises AuthoritiesRefused when it would hold too many."""
    operators = list(certificates)
    if len(operators) > MAX_OPERATORS or len(revoked) > MAX_REVOKED:
        raise AuthoritiesRefused(
            "too-long",
            f"an authority list has at most {MAX_OPERATORS} operators and {MAX_REVOKED} revocations",
        )
    body = _HEADER.pack(
        *(AUTHORITY_LIST, VERSION, trust.suite.number, 0, trust.scheme, version, time_s),
        *(len(operators), len(revoked)),
    )
    body += b"".join(one.to_bytes() for one in operators)
    body += b"".join(_REVOCATION.pack(named, since_s) for named, since_s in sorted(revoked.items()))
    return body + root_key.sign(body)


def parse(raw: bytes, trust: TrustBundle) -> AuthorityList:
    """A list (at most MAX_LENGTH bytes) whose root is that of `trust`, every part of it verified.

    Raises AuthoritiesRefused with the code malformed, too-long, scheme, or signature.
    """
    if len(raw) > MAX_LENGTH:
        raise _too_long()
    if len(raw) < MIN_LENGTH or raw[0] != AUTHORITY_LIST:
        raise AuthoritiesRefused("malformed", "this file is no authority list, or is cut off")
    _, form, suite, spare, scheme, version, time_s, operators, revoked = _HEADER.unpack_from(raw)
    if form != VERSION or spare:
        raise AuthoritiesRefused(
            "malformed", f"an authority list of form {form}; this program knows form {VERSION}"
        )
    if scheme != trust.scheme or suite != trust.suite.number:
        raise AuthoritiesRefused("scheme", f"the authority list belongs to another scheme ({scheme.hex()})")
    if len(raw) != MIN_LENGTH + operators * CERTIFICATE_LENGTH + revoked * _REVOCATION.size:
        raise AuthoritiesRefused("malformed", "the authority list is cut off, or something is appended to it")
    try:
        trust.verify_root(raw[-SIGNATURE_LENGTH:], raw[:-SIGNATURE_LENGTH])
    except SignatureInvalid:
        raise AuthoritiesRefused(
            "signature", "the authority list is not signed by this scheme's root, or was altered"
        ) from None
    end = _HEADER.size + operators * CERTIFICATE_LENGTH
    certificates = _certificates(raw[_HEADER.size : end])
    revocations = dict(_REVOCATION.iter_unpack(raw[end:-SIGNATURE_LENGTH]))
    if not version or not certificates or len(revocations) != revoked:
        raise AuthoritiesRefused("malformed", "the authority list contradicts itself")
    return AuthorityList(raw, version, time_s, certificates, revocations)


def _certificates(raw: bytes) -> tuple[Certificate, ...]:
    size = CERTIFICATE_LENGTH
    try:
        found = tuple(parse_certificate(raw[at : at + size]) for at in range(0, len(raw), size))
    except Malformed as error:
        raise AuthoritiesRefused("malformed", f"the authority list holds {error}") from None
    if any(one.kind != OPERATOR for one in found):
        raise AuthoritiesRefused(
            "malformed", "the authority list holds a certificate that is not an operator's"
        )
    return found


def read_file(path: Path) -> bytes:
    """The bytes of an authority list's file, at most MAX_LENGTH. Raises AuthoritiesRefused, OSError."""
    with path.open("rb") as file:
        raw = file.read(MAX_LENGTH + 1)
    if len(raw) > MAX_LENGTH:
        raise _too_long()
    return raw


def _too_long() -> AuthoritiesRefused:
    return AuthoritiesRefused(
        "too-long", f"the file is too long for an authority list, which has at most {MAX_LENGTH} bytes"
    )
