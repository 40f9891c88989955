"""The operators' keys in a scheme's folder: which one signs, rotation with overlap, revocation
(docs/adr/0021-keys-are-rotated-with-overlap.md).

    DIR/keys/NAME.json           the first key of root, issuer, acquirer
    DIR/keys/NAME-DIGEST.json    a later one, named by the digest of its certificate
    DIR/authorities/N.bin        authority list N (hardwallet/authorities.py)

A list is in force once the issuing journal names it. scheme.json follows: whoever opens the folder next
brings it up to date.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from hardwallet import authorities
from hardwallet.certificates import (
    CLASS_BESIDE,
    DIGEST_LENGTH,
    Certificate,
    TrustBundle,
    digest,
    signed,
)
from hardwallet.errors import AuthoritiesRefused, IssuingError
from hardwallet.journalled import IssuingJournal, write_durably
from hardwallet.keys import seal, unseal
from hardwallet.messages import parse_load_order
from hardwallet.suites import Entropy, SigningKey

AUTHORITIES: Final = "authorities"
ROOT: Final = "root"
_CLOCK_BEHIND_S: Final = 24 * 3600  # a clock that is a little behind must not refuse a fresh certificate
_MAX_VERSION: Final = 0xFFFFFFFF


class KeyRing:
    """The keys of one scheme's root and operators."""

    def __init__(
        self,
        folder: Path,
        bundle: TrustBundle,
        names: Mapping[str, bytes],
        passphrase: bytes,
        journal: IssuingJournal,
        entropy: Entropy,
        keep_trust: Callable[[], None],
    ) -> None:
        """`names`: each operator's number (4 bytes) by the name of its key. `keep_trust` writes scheme.json
        as `bundle` is now. Finishes a list that was cut off. Raises IssuingError."""
        self._folder = folder
        self._bundle = bundle
        self._names = names
        self._passphrase = passphrase
        self._journal = journal
        self._entropy = entropy
        self._keep_trust = keep_trust
        self._catch_up()

    def key(self, name: str) -> SigningKey:
        """The key that signs now: `root`, or the newest of an operator. Raises IssuingError."""
        if name == ROOT:
            return self._unsealed(self._path(ROOT))
        if name not in self._names:
            raise IssuingError(f"there is no key {name!r}; the keys are root, {', '.join(self._names)}")
        return self._key_of(name, self._bundle.operator(self._names[name]))

    def keys(self, name: str) -> dict[bytes, SigningKey]:
        """Every key of an operator whose certificate is not revoked, newest first, by its public key (64
        bytes). Raises IssuingError."""
        current = self._bundle.current(self._names[name])
        return {certificate.public: self._key_of(name, certificate) for certificate in current}

    def authorities(self, now: int) -> bytes:
        """The authority list in force; the first one is made where there is none."""
        if not self._bundle.version:
            self._publish(self._bundle.operators, {}, now)
        return self._bundle.authorities

    def rotate(self, name: str, years_s: int, now: int, *, compromised: bool = False) -> Certificate:
        """A new key and certificate for an operator, which signs from now on.

        The older ones stay good, at cards too, until they are revoked. Not so when they are `compromised`:
        then they are revoked at once, and a card that learns of the new one forgets them.
        Raises IssuingError: nothing changed then.
        """
        if name not in self._names:
            raise IssuingError(f"there is no operator {name!r}; the operators are {', '.join(self._names)}")
        bundle, number = self._bundle, self._names[name]
        newest = bundle.operator(number)
        key = bundle.suite.new_signing_key(self._entropy)
        begin = max(now - _CLOCK_BEHIND_S, newest.not_before + 1)
        end = min(begin + years_s, bundle.root.not_after)
        if begin >= end:
            raise IssuingError("the root's certificate has expired, or is about to; make a new scheme")
        klass = newest.klass & ~CLASS_BESIDE | (0 if compromised else CLASS_BESIDE)
        made = signed(
            replace(newest, klass=klass, not_before=begin, not_after=end, public=key.public), self.key(ROOT)
        )
        revoked = dict(bundle.revoked)
        if compromised:
            since = self._since(now)
            revoked |= {digest(bundle.suite, one): since for one in bundle.current(number)}
        sealed = seal(key, bundle.suite, self._passphrase, self._entropy)
        try:
            write_durably(self._path(name, made), sealed)
        except OSError as error:
            raise self._unwritable(error) from None
        self._publish([*bundle.operators, made], revoked, now)
        return made

    def revoke(self, named: bytes, now: int) -> Certificate:
        """Revoke the operator's certificate with that digest (8 bytes), for ever; it. Raises IssuingError for
        one that is unknown, revoked, or the only one that its operator has."""
        bundle = self._bundle
        found = [one for one in bundle.operators if digest(bundle.suite, one) == named]
        if len(named) != DIGEST_LENGTH or not found:
            raise IssuingError(
                f"no operator has a certificate {named.hex()}; "
                "`hardwallet scheme authorities show` lists them"
            )
        (certificate,) = found
        if named in bundle.revoked:
            raise IssuingError(f"the certificate {named.hex()} is revoked already")
        if len(bundle.current(certificate.operator)) == 1:
            raise IssuingError(
                f"{named.hex()} is the only certificate of operator {certificate.operator.hex()}; rotate its "
                "key first, so that the operator goes on working"
            )
        self._publish(bundle.operators, {**bundle.revoked, named: self._since(now)}, now)
        return certificate

    def _since(self, now: int) -> int:
        """When a revocation begins: now, and after every load that is journalled, whatever the clock did."""
        loads = (bytes.fromhex(line["order"]) for line in self._journal.lines if line["kind"] == "load")
        return max([now, *(parse_load_order(raw).time_s for raw in loads)])

    def _publish(self, operators: Iterable[Certificate], revoked: Mapping[bytes, int], now: int) -> None:
        bundle = self._bundle
        version = bundle.version + 1
        if version > _MAX_VERSION:
            raise IssuingError("the authority list's version numbers are used up")
        try:
            raw = authorities.build(bundle, version, now, operators, revoked, self.key(ROOT))
            (self._folder / AUTHORITIES).mkdir(exist_ok=True)
            write_durably(self._list_path(version), raw, mode=0o644)
        except AuthoritiesRefused as error:
            raise IssuingError(f"{error}; the root can't stand for more") from None
        except OSError as error:
            raise self._unwritable(error) from None
        self._journal.append({"kind": "authorities", "version": version, "digest": sha256(raw).hexdigest()})
        self._take(raw)

    def _take(self, raw: bytes) -> None:
        self._bundle.update(authorities.parse(raw, self._bundle))
        try:
            self._keep_trust()
        except OSError as error:
            raise self._unwritable(error) from None

    def _catch_up(self) -> None:
        """scheme.json may be behind the journal by one list, never before it."""
        version, wanted = 0, ""
        for line in self._journal.lines:
            if line["kind"] == "authorities":
                version, wanted = line["version"], line["digest"]
        held = self._bundle.version
        if held > version:
            raise IssuingError(
                f"scheme.json holds authority list {held}, but the issuing journal in {self._folder} ends "
                f"with {version}: it is an old copy; restore the newest one before anything is issued"
            )
        if held == version:
            return
        path = self._list_path(version)
        try:
            raw = authorities.read_file(path)
        except OSError as error:
            raise IssuingError(
                f"authority list {version} can't be read from {path} ({error.strerror}); restore it from a "
                "backup"
            ) from None
        if sha256(raw).hexdigest() != wanted:
            raise IssuingError(f"{path} is not the list that was published; restore it from a backup")
        self._take(raw)

    def _key_of(self, name: str, certificate: Certificate) -> SigningKey:
        path = self._path(name, certificate)
        key = self._unsealed(path if path.exists() else self._path(name))
        if key.public != certificate.public:
            raise IssuingError(
                f"the key {path} is missing: the newest certificate of the {name} can't be used without it; "
                "restore it from a backup"
            )
        return key

    def _unsealed(self, path: Path) -> SigningKey:
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise IssuingError(f"the key {path} can't be read: {error.strerror}") from None
        return unseal(raw, self._bundle.suite, self._passphrase, str(path))

    def _path(self, name: str, certificate: Certificate | None = None) -> Path:
        ending = f"-{digest(self._bundle.suite, certificate).hex()}" if certificate else ""
        return self._folder / "keys" / f"{name}{ending}.json"

    def _list_path(self, version: int) -> Path:
        return self._folder / AUTHORITIES / f"{version}.bin"

    def _unwritable(self, error: OSError) -> IssuingError:
        return IssuingError(f"{self._folder} can't be written: {error.strerror}")
