"""A terminal's folder learns whom its scheme's root stands for today, and gets its renewed certificate.

scheme.json is replaced whole or not at all; the version of the authority list in it only rises. While an
operator's key is rotated, the terminal goes on working with its old certificate.
"""

from pathlib import Path

from hardwallet import authorities
from hardwallet.certificates import Certificate, parse
from hardwallet.errors import CertificateRevoked, WalletError
from hardwallet.issuing import Scheme, Trust, parse_trust
from hardwallet.journalled import write_durably
from pos_terminal.errors import StoreFailed, TerminalFolderError
from pos_terminal.exclusive import Exclusive
from pos_terminal.folder import CERTIFICATE, SCHEME

_LOCK = "scheme.lock"
_MAX_FILE = 65_536


def take_authorities(path: Path, raw: bytes, live: Trust | None = None) -> bool:
    """Keep an authority list (a file's bytes) in a terminal's folder; False when it is held already.

    Durable on return. `live`: the trust of a terminal that is at work, which follows. Raises
    AuthoritiesRefused, StoreBusy, StoreFailed, TerminalFolderError: what was held is held still.
    """
    read_terminal_trust(path)  # says that there is no terminal, before anything is made there
    lock = Exclusive(path / _LOCK)
    try:
        kept = read_terminal_trust(path)
        changed = kept.bundle.update(authorities.parse(raw, kept.bundle))
        if changed:
            _write(path / SCHEME, kept.to_bytes())
    finally:
        lock.close()
    if live is not None and live.bundle.version < kept.bundle.version:
        live.bundle.update(authorities.parse(raw, live.bundle))
    return changed


def is_revoked(path: Path) -> bool:
    """Whether the terminal's own certificate stands under a revoked one: then it has to be renewed."""
    trust, certificate = read_terminal_trust(path), read_certificate(path)
    try:
        trust.bundle.check(certificate, certificate.kind, certificate.not_before)
    except CertificateRevoked:
        return True
    return False


def renew_certificate(path: Path, scheme: Scheme, now: int) -> Certificate:
    """A new certificate from `now` (seconds since 1970) on for the terminal in a folder, by the acquirer's
    newest key: same payee, same number, same key. Cut off anywhere, it is called again.

    Raises IssuingError, TerminalFolderError, StoreFailed.
    """
    renewed = scheme.renew_terminal(read_certificate(path), now)
    if scheme.trust.bundle.version:
        take_authorities(path, scheme.authorities(now))
    _write(path / CERTIFICATE, renewed.to_bytes())
    return renewed


def read_terminal_trust(path: Path) -> Trust:
    """The trust in a terminal's folder, without its key. Raises TerminalFolderError."""
    try:
        return parse_trust(_read(path, SCHEME), str(path / SCHEME))
    except WalletError as error:
        raise TerminalFolderError(f"the terminal in {path} can't be opened: {error}") from None


def read_certificate(path: Path) -> Certificate:
    """The certificate in a terminal's folder. Raises TerminalFolderError."""
    try:
        return parse(_read(path, CERTIFICATE))
    except WalletError as error:
        raise TerminalFolderError(f"the terminal in {path} can't be opened: {error}") from None


def _read(path: Path, name: str) -> bytes:
    if not (path / CERTIFICATE).exists():
        raise TerminalFolderError(f"{path} holds no terminal; `hardwallet terminal new` makes one")
    try:
        with (path / name).open("rb") as file:
            return file.read(_MAX_FILE + 1)
    except OSError as error:
        raise TerminalFolderError(f"{path / name} can't be read: {error.strerror}") from None


def _write(path: Path, content: bytes) -> None:
    try:
        write_durably(path, content, mode=0o644)
    except OSError as error:
        raise StoreFailed(f"{path} can't be written: {error.strerror}") from None
