"""The program's own store, opened as the contract wants it: --store store_tests.sqlite:open_store"""

from pathlib import Path

from offline_sync.journal import SqliteJournal


def open_store(folder: Path, scheme: bytes, payee: bytes, terminal: bytes) -> SqliteJournal:
    """The journal in `folder`; 4, 8 and 4 bytes. Raises JournalError."""
    path = folder / "journal.sqlite"
    return SqliteJournal(path, scheme=scheme, payee=payee, terminal=terminal, reserve_bytes=1)
