"""The books in a scheme's folder as a file: backed up while they are in use, put back while they are not."""

from pathlib import Path
from typing import TYPE_CHECKING

from fleet.open import CLEARING_DATABASE
from hardwallet.issuing import read_trust
from offline_sync.errors import BackupRefused

if TYPE_CHECKING:
    from offline_sync.clearing.backup import Backup, Restored


def back_up_books(folder: Path, path: Path) -> "Backup":
    """Writes one moment of a scheme's books to `path`, which must not exist. Needs no key.

    Raises IssuingError when there is no scheme, BackupRefused, LedgerError.
    """
    from offline_sync.clearing.backup import back_up
    from offline_sync.clearing.ledger import Ledger

    scheme = read_trust(folder).bundle.scheme
    database = folder / CLEARING_DATABASE
    if not database.exists():
        raise BackupRefused(f"there are no books in {folder} yet; the first upload makes them")
    ledger = Ledger(f"sqlite:///{database}", scheme)
    try:
        return back_up(ledger, path)
    finally:
        ledger.close()


def restore_books(folder: Path, path: Path, now: int, *, force_older: bool = False) -> "Restored":
    """Puts a backup in the place of a scheme's books. `now`: seconds since 1970.

    Raises IssuingError when there is no scheme, BackupRefused.
    """
    from offline_sync.clearing.backup import restore

    scheme = read_trust(folder).bundle.scheme
    return restore(path, folder / CLEARING_DATABASE, scheme, time_s=now, force_older=force_older)
