"""What the command line itself refuses, and how every error becomes one line and an exit code.

CommandError            exit 1
└── BadUsage            exit 2
"""

import errno
import os
import re

from firmware_bridge.errors import BadReaderUri, BridgeError
from hardwallet.errors import WalletError
from offline_sync.errors import SyncError
from pos_terminal.errors import BadAmount, BadPrinterUri, TerminalError
from tui.text import harmless, say, told

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 130


class CommandError(Exception):
    """Something that a command can't do. The message says what to do."""


class BadUsage(CommandError):
    """The command was not given what it needs."""


EXPECTED = (CommandError, BridgeError, WalletError, TerminalError, SyncError, OSError, UnicodeError)
"""Whatever a user can cause; anything else is a bug and shows itself as one."""

_USAGE = (BadUsage, BadReaderUri, BadPrinterUri, BadAmount, UnicodeError)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def exit_code(error: BaseException) -> int:
    """2 for bad usage, 1 for everything else."""
    return EXIT_USAGE if isinstance(error, _USAGE) else EXIT_REFUSED


def kind(error: BaseException) -> str:
    """The error's name for programs, as in "card_file_busy"."""
    if isinstance(error, OSError):
        return "system"
    if isinstance(error, UnicodeError):
        return "bad_text"
    return _HUMP.sub("_", type(error).__name__).lower()


def message(error: BaseException) -> str:
    """The error as one line."""
    if isinstance(error, UnicodeError):
        return say("an argument or a variable holds text that can't be used here; write it in UTF-8")
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return harmless(say("the system refused: {why}", why=system_words(error)))
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
        return harmless(
            say("{name}: {why}; check the path and its permissions", name=name, why=system_words(error))
        )
    text = str(error) if isinstance(error, CommandError) else told(str(error))
    return harmless(text) or type(error).__name__


def system_words(error: OSError) -> str:
    """Why the system refused; in its own words where it is none of the usual reasons."""
    words = {
        errno.ENOENT: say("No such file or directory"),
        errno.EEXIST: say("File exists"),
        errno.EACCES: say("Permission denied"),
        errno.EPERM: say("Operation not permitted"),
        errno.ENOTDIR: say("Not a directory"),
        errno.EISDIR: say("Is a directory"),
        errno.ENOTEMPTY: say("Directory not empty"),
        errno.ENOSPC: say("No space left on device"),
        errno.EROFS: say("Read-only file system"),
        errno.EIO: say("Input/output error"),
        errno.EMFILE: say("Too many open files"),
        errno.EADDRINUSE: say("Address already in use"),
        errno.ECONNREFUSED: say("Connection refused"),
    }
    return words.get(error.errno or 0, error.strerror or "")
