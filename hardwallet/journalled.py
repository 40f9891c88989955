"""What an issuer must never forget or do twice: the issuing journal, and files that are written whole.

A line of the journal is JSON, a tab, the CRC-32 of the JSON. A last line without its end was never announced:
it is cut off. A damaged line anywhere else stops the program: nothing is ever issued twice because a line
could not be read.
"""

import contextlib
import errno
import fcntl
import os
from binascii import crc32
from pathlib import Path
from typing import Any, Final

import msgspec

from hardwallet.errors import IssuingError

_MAX_LINE: Final = 4096


class IssuingJournal:
    """Append-only lines, each on the disk before `append` returns. One process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise IssuingError(
                f"{path} is in use by another program; wait until that one has ended"
            ) from None
        try:
            self.lines = self._read()
        except BaseException:
            os.close(self._file)
            raise

    def append(self, line: dict[str, Any]) -> None:
        """Keep one line. Raises IssuingError when it can't be kept: the step must not be taken."""
        text = msgspec.json.encode(line)
        whole = text + b"\t%08x\n" % crc32(text)
        end = os.fstat(self._file).st_size
        try:
            if os.write(self._file, whole) != len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)  # a line that was not kept must not be found later
            raise IssuingError(
                f"{self._path} can't be written ({error.strerror}); nothing was issued"
            ) from None
        self.lines.append(line)

    def close(self) -> None:
        """Let the lock go. Closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self) -> list[dict[str, Any]]:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.ftruncate(self._file, whole)
        lines = []
        for number, line in enumerate(content[:whole].splitlines(), 1):
            text, _, check = line.rpartition(b"\t")
            if len(line) > _MAX_LINE or check != b"%08x" % crc32(text):
                raise IssuingError(
                    f"{self._path} is damaged in line {number}; restore it from a backup before "
                    "anything is issued"
                )
            lines.append(msgspec.json.decode(text, type=dict[str, Any]))
        return lines


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file whole or not at all: beside it, to the disk, then renamed over it. Raises OSError."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
