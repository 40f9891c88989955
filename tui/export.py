"""What waits in a terminal, written to a file that a person names: for the command and for the till alike."""

from pathlib import Path
from typing import Final

from fleet.open import TerminalSession
from tui.errors import CommandError
from tui.text import say

_EXPORT_BEGINS: Final = b'{"version":'


def export_file(session: TerminalSession, path: Path) -> tuple[int, int]:
    """Write what waits, signed, to a file: how many uploads and entries. Only an export is written over.

    Raises CommandError, ExportFailed, OSError.
    """
    from offline_sync.gateway import export  # loads the HTTP client, which a till has no need of
    from offline_sync.messages import Uploader

    if path.exists() and not path.is_file():
        raise CommandError(say("{path} is no ordinary file; name another", path=path))
    if path.is_file():
        with path.open("rb") as file:
            begin = file.read(len(_EXPORT_BEGINS))
        if begin not in (b"", _EXPORT_BEGINS):
            raise CommandError(say("{path} exists and is no export; name another file", path=path))
    identity = session.folder.identity
    uploader = Uploader(session.folder.trust.suite, identity.certificate, identity.key)
    return export(session.journal, uploader, path, time_s=session.terminal.clock())
