"""A terminal's folder: its settings, certificate, sealed key, and the scheme that it trusts. The journal lies
beside them.

    DIR/settings.json     class, merchant, vehicle, limits: for people to read and change
    DIR/scheme.json       root and operators (hardwallet/issuing.py)
    DIR/certificate.bin   162 bytes
    DIR/key.json          the private key, sealed (hardwallet/keys.py)
    DIR/key               the passphrase, mode 0600, when none was given
    DIR/journal.sqlite    offline_sync.journal
    DIR/denylist-*.bin    the card issuers' denylists (pos_terminal/denylist.py)
    DIR/orders.bin        their orders to single cards (pos_terminal/pouch.py)
    DIR/shifts.book       the shifts and the cash in the drawer (pos_terminal/shift_store.py)
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT, TERMINAL, digest, parse
from hardwallet.errors import WalletError
from hardwallet.issuing import Scheme, Trust, parse_trust
from hardwallet.journalled import write_durably
from hardwallet.keys import KEY_FILE, find_passphrase, seal, unseal
from hardwallet.session import TerminalIdentity
from hardwallet.suites import Entropy
from pos_terminal.denylist import DenylistStore
from pos_terminal.errors import TerminalFolderError
from pos_terminal.limits import TerminalLimits

CLASSES: Final = {"retail": CLASS_RETAIL, "transit": CLASS_TRANSIT}
SETTINGS: Final = "settings.json"
CERTIFICATE: Final = "certificate.bin"
SCHEME: Final = "scheme.json"
KEY: Final = "key.json"
JOURNAL: Final = "journal.sqlite"
_MAX_FILE: Final = 65_536
_DEFAULTS: Final = TerminalLimits()
_Natural = Annotated[int, msgspec.Meta(ge=0)]


class LimitSettings(msgspec.Struct, forbid_unknown_fields=True):
    """A terminal's own limits (pos_terminal/limits.py)."""

    single_fen: _Natural = _DEFAULTS.single_fen
    stored_fen: _Natural = _DEFAULTS.stored_fen
    select_ms: Annotated[float, msgspec.Meta(gt=0)] = _DEFAULTS.select_ms
    clock_back_s: _Natural = _DEFAULTS.clock_back_s
    clock_ahead_s: _Natural = _DEFAULTS.clock_ahead_s
    denylist_tighten_s: _Natural = _DEFAULTS.denylist_tighten_s
    denylist_stop_s: _Natural = _DEFAULTS.denylist_stop_s
    stale_single_fen: _Natural = _DEFAULTS.stale_single_fen


class ShiftSettings(msgspec.Struct, forbid_unknown_fields=True):
    """`required`: nothing is sold without an open shift. `blind_count`: at its close the drawer is counted
    before anybody is shown what it has to hold."""

    required: bool = False
    blind_count: bool = False


class PrinterSettings(msgspec.Struct, forbid_unknown_fields=True):
    """`uri`: where receipts are printed (pos_terminal/printing.py), or nothing. `columns` of its paper: 32
    (58 mm) or 48 (80 mm). `heading`: what stands above every slip, as the shop's name."""

    uri: str = ""
    columns: Literal[32, 48] = 32
    heading: Annotated[str, msgspec.Meta(max_length=100)] = ""


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """settings.json. `vehicle` is 4 letters or digits, for transit; `clearing` the address of the clearing
    service. `fares`: a bus's fare file or GTFS feed, as seen from this folder; `line`: the line that it
    serves as a rule; `siblings`: whether the vehicle has other validators beside this one. What a file does
    not name has its default: files of earlier versions stay good."""

    version: int = 1
    vehicle: str = ""
    clearing: str = ""
    reader: str = ""
    limits: LimitSettings = msgspec.field(default_factory=LimitSettings)
    shift: ShiftSettings = msgspec.field(default_factory=ShiftSettings)
    printer: PrinterSettings = msgspec.field(default_factory=PrinterSettings)
    fares: str = ""
    line: str = ""
    siblings: bool = False


@dataclass(frozen=True, slots=True)
class TerminalFolder:
    """An open terminal folder; everything in it was checked."""

    path: Path
    settings: Settings
    trust: Trust
    identity: TerminalIdentity

    @property
    def journal_path(self) -> Path:
        """Where the journal lies."""
        return self.path / JOURNAL

    @property
    def limits(self) -> TerminalLimits:
        """The limits of the settings."""
        return TerminalLimits(**msgspec.structs.asdict(self.settings.limits))


def create_terminal(
    path: Path,
    scheme: Scheme,
    klass: str,
    merchant: int,
    now: int,
    entropy: Entropy,
    *,
    key_file: Path | None = None,
    settings: Settings | None = None,
    sealing_cost: int | None = None,
) -> TerminalFolder:
    """A new terminal of `klass` (retail, transit) for a merchant, with the scheme's denylist of `now`
    (seconds since 1970). `sealing_cost`: see hardwallet.keys.seal.

    Raises TerminalFolderError when `path` holds one.
    """
    if klass not in CLASSES:
        raise TerminalFolderError(f"there is no class {klass!r}; a terminal is retail or transit")
    if (path / CERTIFICATE).exists():
        raise TerminalFolderError(f"{path} holds a terminal already; choose another folder")
    suite = scheme.trust.suite
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        passphrase = find_passphrase(key_file, path / KEY_FILE, create=True)
        key = suite.new_signing_key(entropy)
        write_durably(path / KEY, seal(key, suite, passphrase, entropy, sealing_cost))
        certificate = scheme.new_terminal(CLASSES[klass], merchant, key.public, now)
        write_durably(path / SCHEME, scheme.trust.to_bytes(), mode=0o644)
        kept = settings or Settings(vehicle=certificate.terminal.hex()[-4:] if klass == "transit" else "")
        write_durably(path / SETTINGS, msgspec.json.format(msgspec.json.encode(kept)) + b"\n", mode=0o644)
        with contextlib.closing(DenylistStore(path, scheme.trust.bundle)) as denylists:
            denylists.offer(scheme.denylist(now))
        write_durably(path / CERTIFICATE, certificate.to_bytes(), mode=0o644)
    except OSError as error:
        raise TerminalFolderError(f"{path} can't be written: {error.strerror}") from None
    return TerminalFolder(
        path, kept, scheme.trust, TerminalIdentity(certificate, digest(suite, certificate), key)
    )


def open_terminal(path: Path, *, key_file: Path | None = None, deterministic: bool = False) -> TerminalFolder:
    """Open a terminal's folder and check all of it. Raises TerminalFolderError, saying what to do."""
    if not (path / CERTIFICATE).exists():
        raise TerminalFolderError(f"{path} holds no terminal; `hardwallet terminal new` makes one")
    try:
        settings = msgspec.json.decode(_read(path / SETTINGS), type=Settings)
    except msgspec.DecodeError as error:
        raise TerminalFolderError(f"{path / SETTINGS} can't be understood: {error}") from None
    if settings.version != 1:
        raise TerminalFolderError(f"{path / SETTINGS} is of version {settings.version}; this program knows 1")
    vehicle = settings.vehicle
    if vehicle and not (vehicle.isascii() and vehicle.isalnum() and len(vehicle) == 4):
        raise TerminalFolderError(f"in {path / SETTINGS} the vehicle must have 4 letters or digits")
    try:
        trust = parse_trust(_read(path / SCHEME), str(path / SCHEME), deterministic=deterministic)
        certificate = parse(_read(path / CERTIFICATE))
        trust.bundle.check(certificate, TERMINAL, certificate.not_before)
        passphrase = find_passphrase(key_file, path / KEY_FILE)
        key = unseal(_read(path / KEY), trust.suite, passphrase, str(path / KEY))
    except WalletError as error:
        raise TerminalFolderError(f"the terminal in {path} can't be opened: {error}") from None
    if key.public != certificate.public:
        raise TerminalFolderError(f"in {path} the key does not belong to the certificate")
    return TerminalFolder(
        path, settings, trust, TerminalIdentity(certificate, digest(trust.suite, certificate), key)
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE + 1)
    except OSError as error:
        raise TerminalFolderError(f"{path} can't be read: {error.strerror}") from None
