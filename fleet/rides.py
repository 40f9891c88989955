"""A bus's runs, opened on its terminal's folder: the fares that its settings name, and its journal."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fleet.open import TerminalSession
from hardwallet.records import Record, parse
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.journal import SqliteJournal
from pos_terminal.errors import FaresRefused
from pos_terminal.fares import Network
from pos_terminal.gtfs import read_network
from pos_terminal.run import Runs
from pos_terminal.sale import SaleState

_CHUNK = 500


def granted_payments(journal: SqliteJournal, behind: int) -> Iterator[Record]:
    """The payments to this terminal that it granted, in the entries behind that one, oldest first. Raises
    JournalError."""
    last = journal.head()[0]
    for first in range(behind + 1, last + 1, _CHUNK):
        for entry in journal.entries(first, min(_CHUNK, last - first + 1)):
            if entry.damaged or entry.kind != Kind.OWN_PAYMENT:
                continue
            state, record = chain.parse_own(entry.payload)
            if state is SaleState.GRANTED:
                yield parse(record)


def network_of(session: TerminalSession, fares: Path | None = None) -> Network:
    """The lines and fares in `fares`, else in the file that the terminal's settings name. Raises
    FaresRefused."""
    if fares is not None:
        return read_network(fares)
    named = session.folder.settings.fares
    if not named:
        raise FaresRefused(
            f'no fares are named; put the path of a fare file behind "fares" in '
            f"{session.folder.path / 'settings.json'} (docs/fares.md)"
        )
    return read_network(session.folder.path / named)


@contextmanager
def open_runs(session: TerminalSession, network: Network) -> Iterator[Runs]:
    """The runs of a bus's terminal; the run that was under way when the program ended is under way again.

    Raises StoreFailed, JournalError.
    """
    runs = Runs(
        session.folder.path,
        session.terminal,
        network,
        session.vehicle,
        lambda behind: granted_payments(session.journal, behind),
        lambda: session.journal.head()[0],
        has_siblings=session.folder.settings.siblings,
    )
    with closing(runs):
        yield runs
