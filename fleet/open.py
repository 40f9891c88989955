"""Opens what lies in folders: a terminal with its journal, a scheme's clearing. No screen, no arguments."""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hardwallet.denylist import parse_header
from hardwallet.issuing import ACQUIRER, ISSUER, Scheme, open_scheme, read_trust
from hardwallet.keys import KEY_FILE, find_passphrase
from hardwallet.records import TRANSIT
from offline_sync.journal import SqliteJournal
from pos_terminal.denylist import DenylistStore
from pos_terminal.folder import TerminalFolder, open_terminal
from pos_terminal.ports import Clock, Entropy, Stopwatch
from pos_terminal.pouch import Pouch
from pos_terminal.terminal import Terminal

if TYPE_CHECKING:
    from offline_sync.clearing import Clearing
    from offline_sync.client import ClearingClient


@dataclass(frozen=True, slots=True)
class TerminalSession:
    """A terminal at work: its folder, its journal, what issuers sent it, and the terminal that uses them."""

    folder: TerminalFolder
    journal: SqliteJournal
    denylists: DenylistStore
    pouch: Pouch
    terminal: Terminal

    @property
    def in_transit(self) -> bool:
        """Whether it takes fares."""
        return self.terminal.profile == TRANSIT

    @property
    def vehicle(self) -> bytes:
        """The vehicle's name, 4 bytes: from the settings, else the terminal's own number."""
        name = self.folder.settings.vehicle or self.folder.identity.certificate.terminal.hex()[-4:]
        return name.encode("ascii")


"""In a scheme's folder: the passphrase of its keys, mode 0600, when none was given."""


def system_clock() -> int:
    """The machine's time, seconds since 1970."""
    return int(time.time())


@contextmanager
def open_session(
    path: Path,
    key_file: Path | None = None,
    *,
    clock: Clock = system_clock,
    stopwatch: Stopwatch = time.perf_counter,
    entropy: Entropy = os.urandom,
) -> Iterator[TerminalSession]:
    """Opens a terminal's folder, journal, denylists and orders, and lets them go afterwards.

    Raises TerminalFolderError, JournalError and StoreError, saying what to do.
    """
    folder = open_terminal(path, key_file=key_file)
    certificate = folder.identity.certificate
    with (
        SqliteJournal(
            folder.journal_path,
            scheme=certificate.scheme,
            payee=certificate.payee,
            terminal=certificate.terminal,
        ) as journal,
        closing(DenylistStore(path, folder.trust.bundle)) as denylists,
        closing(Pouch(path, folder.trust.bundle)) as pouch,
    ):
        terminal = Terminal(
            folder.identity,
            folder.trust.bundle,
            folder.trust.suite,
            journal,
            clock,
            stopwatch,
            entropy,
            denylists,
            folder.limits,
            pouch,
        )
        yield TerminalSession(folder, journal, denylists, pouch, terminal)


@contextmanager
def open_terminal_session(
    path: Path,
    key_file: Path | None = None,
    *,
    clock: Clock = system_clock,
    stopwatch: Stopwatch = time.perf_counter,
    entropy: Entropy = os.urandom,
) -> Iterator[Terminal]:
    """As open_session, for those who need nothing but the terminal."""
    with open_session(path, key_file, clock=clock, stopwatch=stopwatch, entropy=entropy) as session:
        yield session.terminal


@contextmanager
def open_issuing(
    folder: Path, key_file: Path | None = None, *, entropy: Entropy = os.urandom
) -> Iterator[Scheme]:
    """Opens a scheme's folder for issuing. Raises IssuingError."""
    read_trust(folder)  # says that there is no scheme, before its key is missed
    with open_scheme(folder, find_passphrase(key_file, folder / KEY_FILE), entropy) as scheme:
        yield scheme


@contextmanager
def open_operator_client(
    folder: Path,
    url: str,
    role: str = "acquirer",
    key_file: Path | None = None,
    *,
    clock: Clock = system_clock,
    entropy: Entropy = os.urandom,
    timeout_s: float = 10.0,
) -> Iterator["ClearingClient"]:
    """A client of the clearing at `url` that signs with the key of a scheme's `issuer` or `acquirer`.

    The issuing journal is locked only while the key is read. Raises IssuingError, ClearingUnreachable.
    """
    from offline_sync.client import ClearingClient, OperatorSigner  # loads httpx, which a tap has no need of

    with open_issuing(folder, key_file, entropy=entropy) as scheme:
        bundle, key = scheme.trust.bundle, scheme.key(role)
        certificate = bundle.operator({"issuer": ISSUER, "acquirer": ACQUIRER}[role])
        identity = OperatorSigner(scheme.trust.suite, certificate, key)
    with ClearingClient(url, identity, clock=clock, entropy=entropy, timeout_s=timeout_s) as client:
        yield client


CLEARING_DATABASE = "clearing.sqlite"


@contextmanager
def open_clearing(
    folder: Path,
    key_file: Path | None = None,
    *,
    clock: Clock = system_clock,
    entropy: Entropy = os.urandom,
    workers: int = 0,
    loads: bool = True,
) -> Iterator["Clearing"]:
    """Opens a scheme's clearing: its ledger, with every load of the issuing journal booked, and everything
    published that the scheme's folder holds. `workers`: how many processes verify records, 0 for none.
    Without `loads` no load is looked at: quick, however many there are, and enough for who only publishes.

    The issuing journal is locked only while it is read. Raises IssuingError, ClearingError.
    """
    from offline_sync.clearing import Clearing  # loads SQLAlchemy, which a tap has no need of

    with open_issuing(folder, key_file, entropy=entropy) as scheme:
        trust, keys = scheme.trust.bundle, scheme.clearing_keys()
        orders = list(scheme.load_orders()) if loads else []
        receipts = list(scheme.receipts()) if loads else []
        denylist, changes = scheme.denylist(clock()), list(scheme.denylist_deltas())
        card_orders = list(scheme.card_orders())
    clearing = Clearing(f"sqlite:///{folder / CLEARING_DATABASE}", trust, keys, clock, workers)
    try:
        # Receipts first: what a cancelled order was to return is free for the next one.
        for record, certificate in receipts:
            clearing.book_load(record, certificate)
        for order, returns in orders:
            clearing.book_order(order, returns)
        _publish(clearing, denylist, changes, card_orders)
        yield clearing
    finally:
        clearing.close()


def _publish(clearing: "Clearing", denylist: bytes, changes: list[bytes], card_orders: list[bytes]) -> None:
    """The changes that clearing has not seen, then the whole list. An issuer's folder that was put back from
    a backup may hold an older list: then the published one stays."""
    from offline_sync.errors import NoticeRefused

    operator = parse_header(denylist).operator
    published = {line.operator: line.version for line in clearing.notices.denylist_lines()}.get(operator, 0)
    for raw in [change for change in changes if parse_header(change).version > published] + [denylist]:
        try:
            clearing.notices.publish_denylist(raw)
        except NoticeRefused as refusal:
            if refusal.code not in ("base", "older", "conflict"):
                raise
    clearing.notices.publish_orders(card_orders)
