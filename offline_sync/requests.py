"""Signed HTTP requests: who asks, and that nobody altered or repeated it (docs/http.md).

    Authorization: HardWallet CERTIFICATE.TIME.NONCE.SIGNATURE

Each part is base64url without padding: certificate (162), time (4), nonce (16), signature (64). What is
signed, 100 bytes, begins with a type of its own, so that no signature given elsewhere can stand here:

    E5 or F7 ‖ 01 ‖ suite ‖ 00 ‖ scheme (4) ‖ certificate digest (8) ‖ time (4) ‖ nonce (16)
             ‖ SHA-256(METHOD ‖ 20 ‖ path and query as sent) (32) ‖ SHA-256(body) (32)

A terminal signs E5, an operator F7, each with the key of its certificate.
"""

import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from hashlib import sha256
from typing import ClassVar, Final, NamedTuple

from hardwallet import certificates
from hardwallet.certificates import Certificate, TrustBundle
from hardwallet.errors import AuthorityUnknown, SignatureInvalid, WalletError
from hardwallet.suites import SigningKey, Suite, VerifyingKey
from offline_sync.errors import RequestRefused

AUTHENTICATION: Final = "HardWallet"
"""The name of this way to sign in, as WWW-Authenticate tells it (RFC 9110, 11.3)."""
TERMINAL_REQUEST: Final = 0xE5
OPERATOR_REQUEST: Final = 0xF7
VERSION: Final = 1
WINDOW_S: Final = 300
"""How far the time of a request may lie from clearing's clock, before or after."""
NONCE_LENGTH: Final = 16
NONCE_CAPACITY: Final = 500_000
CACHE_SIZE: Final = 20_000
_MESSAGE: Final = struct.Struct(">BBBB4s8sI16s32s32s")
_PARTS: Final = re.compile(
    rf"(?i:{AUTHENTICATION}) +([\w-]{{216}})\.([\w-]{{6}})\.([\w-]{{22}})\.([\w-]{{86}})", re.ASCII
)
_MINUTE_S: Final = 60


class Role(Enum):
    """What somebody may do at clearing."""

    TERMINAL = "terminal"
    ISSUER = "issuer"
    ACQUIRER = "acquirer"


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs requests: a certificate, and the key that it certifies. Use TerminalSigner or
    OperatorSigner."""

    suite: Suite
    certificate: Certificate
    key: SigningKey

    kind: ClassVar[int]
    """The type byte of what it signs."""

    def authorization(self, method: str, target: bytes, body: bytes, time_s: int, nonce: bytes) -> str:
        """The Authorization header of one request. `target` is the path with its query as it is sent,
        `nonce` 16 bytes that are never used again, `time_s` seconds since 1970."""
        message = request_message(
            self.kind,
            self.certificate,
            certificates.digest(self.suite, self.certificate),
            time_s,
            nonce,
            request_digest(method, target),
            sha256(body).digest(),
        )
        parts = (self.certificate.to_bytes(), time_s.to_bytes(4, "big"), nonce, self.key.sign(message))
        return f"{AUTHENTICATION} {'.'.join(map(_text, parts))}"


@dataclass(frozen=True, slots=True)
class TerminalSigner(Signer):
    """A terminal signs (E5)."""

    kind: ClassVar[int] = TERMINAL_REQUEST


@dataclass(frozen=True, slots=True)
class OperatorSigner(Signer):
    """An issuing or acquiring operator signs (F7)."""

    kind: ClassVar[int] = OPERATOR_REQUEST


class Credentials(NamedTuple):
    """What an Authorization header holds; nothing of it is verified yet. The certificate has 162 bytes, the
    nonce 16, the signature 64."""

    certificate: bytes
    time_s: int
    nonce: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a certificate whose chain verified. `digest` is 8 bytes."""

    certificate: Certificate
    digest: bytes
    roles: frozenset[Role]
    key: VerifyingKey

    @property
    def kind(self) -> int:
        """The type byte of what it signs."""
        return OPERATOR_REQUEST if self.certificate.kind == certificates.OPERATOR else TERMINAL_REQUEST

    @property
    def name(self) -> str:
        """Operator or terminal, for logs: no key, no card."""
        if self.certificate.kind == certificates.OPERATOR:
            return f"operator {self.certificate.operator.hex()}"
        return f"terminal {self.certificate.payee.hex()}:{self.certificate.terminal.hex()}"


def request_digest(method: str, target: bytes) -> bytes:
    """SHA-256 of what is asked, 32 bytes: the method, a space, and the path with its query as sent."""
    return sha256(method.encode("ascii") + b" " + target).digest()


def request_message(
    kind: int,
    certificate: Certificate,
    digest: bytes,
    time_s: int,
    nonce: bytes,
    asked: bytes,
    body_digest: bytes,
) -> bytes:
    """What is signed, 100 bytes. `digest` 8, `nonce` 16, `asked` and `body_digest` 32 each."""
    return _MESSAGE.pack(
        *(kind, VERSION, certificate.suite, 0, certificate.scheme),
        *(digest, time_s, nonce, asked, body_digest),
    )


def parse_authorization(value: str | None) -> Credentials:
    """Take an Authorization header apart. Raises RequestRefused (`unsigned`)."""
    found = _PARTS.fullmatch(value) if value is not None else None
    if found is None:
        raise RequestRefused(
            "unsigned", f"this request must be signed: Authorization: {AUTHENTICATION} (docs/http.md)"
        )
    parts = [urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in found.groups()]
    if any(_text(part) != text for part, text in zip(parts, found.groups(), strict=True)):
        raise RequestRefused("unsigned", "a part of the Authorization header is no base64url")
    return Credentials(parts[0], int.from_bytes(parts[1], "big"), parts[2], parts[3])


class Nonces:
    """The requests of the last minutes, so that none is taken twice. At most `capacity` of them."""

    def __init__(self, capacity: int = NONCE_CAPACITY) -> None:
        self._capacity = capacity
        self._minutes: dict[int, set[bytes]] = {}
        self._count = 0
        self._forgotten_s = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether no more can be told apart."""
        return self._count >= self._capacity

    def is_forgotten(self, time_s: int) -> bool:
        """Whether requests of that time are no longer remembered: clearing's clock was put back."""
        return time_s < self._forgotten_s

    def seen(self, digest: bytes, nonce: bytes, time_s: int) -> bool:
        """Whether this certificate (digest, 8 bytes) used this nonce (16 bytes) at that time."""
        return digest + nonce in self._minutes.get(time_s // _MINUTE_S, ())

    def keep(self, digest: bytes, nonce: bytes, time_s: int) -> None:
        """Remember a request: of which certificate (digest, 8 bytes), under which nonce (16 bytes)."""
        self._minutes.setdefault(time_s // _MINUTE_S, set()).add(digest + nonce)
        self._count += 1

    def forget(self, now_s: int) -> None:
        """Let go of what is outside the window anyway."""
        oldest = (now_s - WINDOW_S) // _MINUTE_S
        for minute in [minute for minute in self._minutes if minute < oldest]:
            self._count -= len(self._minutes.pop(minute))
        self._forgotten_s = max(self._forgotten_s, oldest * _MINUTE_S)


class _Chain(NamedTuple):
    """A chain that verified, with the dates within which all of it holds."""

    caller: Caller
    not_before: int
    not_after: int


class RequestChecker:
    """Checks requests against one scheme's trust. One thread calls at a time."""

    def __init__(self, trust: TrustBundle, clock: Callable[[], int], nonces: Nonces | None = None) -> None:
        """`clock` gives seconds since 1970."""
        self._trust = trust
        self._clock = clock
        self._nonces = Nonces() if nonces is None else nonces
        self._known: OrderedDict[bytes, _Chain] = OrderedDict()
        self._version = trust.version

    def knows(self, credentials: Credentials) -> bool:
        """Whether the chain of this certificate verified before, so that it costs nothing now."""
        self._follow_trust()
        return credentials.certificate in self._known

    def caller(self, credentials: Credentials) -> Caller:
        """Who would sign, by the certificate and the time. Raises RequestRefused (`clock`, `certificate`)."""
        now = self._clock()
        self._check_clock(credentials.time_s, now)
        self._follow_trust()
        try:
            chain = self._chain(credentials.certificate, now)
        except WalletError as error:
            raise RequestRefused("certificate", f"the certificate is refused: {error}") from None
        if not chain.not_before <= now <= chain.not_after:
            raise RequestRefused(
                "certificate", "the certificate has expired, or is not valid yet; it has to be renewed"
            )
        return chain.caller

    def check(self, caller: Caller, credentials: Credentials, asked: bytes, body_digest: bytes) -> None:
        """That the caller signed this very request, and that it has not come before.

        `asked` as request_digest gives it. Raises RequestRefused (`signature`, `replayed`).
        """
        message = request_message(
            caller.kind,
            caller.certificate,
            caller.digest,
            credentials.time_s,
            credentials.nonce,
            asked,
            body_digest,
        )
        try:
            caller.key.verify(credentials.signature, message)
        except SignatureInvalid:
            raise RequestRefused(
                "signature", "the request is not what its sender signed; it was altered on the way"
            ) from None
        if self._nonces.seen(caller.digest, credentials.nonce, credentials.time_s):
            raise RequestRefused("replayed", "this request was taken already; sign each one anew")

    def remember(self, caller: Caller, credentials: Credentials) -> bool:
        """Take the request as come. False when there are too many to remember: it must not be answered."""
        self._nonces.forget(self._clock())
        if self._nonces.full:
            return False
        self._nonces.keep(caller.digest, credentials.nonce, credentials.time_s)
        return True

    def _follow_trust(self) -> None:
        """Every chain is verified anew when the trusted operators have changed."""
        if self._version != self._trust.version:
            self._version = self._trust.version
            self._known.clear()

    def _check_clock(self, time_s: int, now: int) -> None:
        apart_s = time_s - now
        if abs(apart_s) > WINDOW_S:
            way = "ahead of" if apart_s > 0 else "behind"
            raise RequestRefused(
                "clock",
                f"the clock of this machine is {_duration(abs(apart_s))} {way} clearing's, which says "
                f"{_utc(now)}; set it right and try again",
            )
        if self._nonces.is_forgotten(time_s):
            raise RequestRefused("clock", "clearing's clock was put back; wait a few minutes and try again")

    def _chain(self, raw: bytes, now: int) -> _Chain:
        chain = self._known.get(raw)
        if chain is None:
            chain = self._verified(certificates.parse(raw), now)
            self._known[raw] = chain
            if len(self._known) > CACHE_SIZE:
                self._known.popitem(last=False)
        return chain

    def _verified(self, certificate: Certificate, now: int) -> _Chain:
        trust = self._trust
        if certificate.kind == certificates.OPERATOR:
            return self._operator(certificate)
        key = trust.check(certificate, certificates.TERMINAL, now)
        operator = trust.authority_of(certificate)
        return self._chained(
            certificate, key, frozenset({Role.TERMINAL}), (trust.root, operator, certificate)
        )

    def _operator(self, certificate: Certificate) -> _Chain:
        """An operator has to be one of those that this machine trusts, by that very certificate."""
        trust = self._trust
        certificates.check_shape(certificate, trust.suite.number, trust.scheme, trust.currency)
        if not any(known.body() == certificate.body() for known in trust.current(certificate.operator)):
            raise AuthorityUnknown(
                f"this certificate of operator {certificate.operator.hex()} is not trusted, or is revoked"
            )
        roles = {
            role
            for role, klass in (
                (Role.ISSUER, certificates.CLASS_ISSUING),
                (Role.ACQUIRER, certificates.CLASS_ACQUIRING),
            )
            if certificate.klass & klass
        }
        key = trust.suite.verifying_key(certificate.public)
        return self._chained(certificate, key, frozenset(roles), (trust.root, certificate))

    def _chained(
        self,
        certificate: Certificate,
        key: VerifyingKey,
        roles: frozenset[Role],
        chain: tuple[Certificate, ...],
    ) -> _Chain:
        digest = certificates.digest(self._trust.suite, certificate)
        return _Chain(
            Caller(certificate, digest, roles, key),
            max(link.not_before for link in chain),
            min(link.not_after for link in chain),
        )


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _duration(seconds: int) -> str:
    """In the words of somebody who sets a clock."""
    days, rest = divmod(seconds, 86_400)
    hours, minutes = divmod(rest // 60, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or f"{seconds} s"


def _utc(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
