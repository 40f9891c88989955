"""A file that one process at a time holds locked: what lies beside it has one writer."""

import fcntl
import os
from pathlib import Path

from pos_terminal.errors import StoreBusy, StoreFailed


class Exclusive:
    """An flock(2) on `path`, from here until `close`. Raises StoreBusy, StoreFailed."""

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(f"{path} can't be opened: {error.strerror}") from None
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
            self._handle = -1
            raise StoreBusy(
                f"{path.parent} is in use by another program; wait until that one has ended"
            ) from None

    def close(self) -> None:
        """Let go. Again does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
