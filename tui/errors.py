"""What the command line itself refuses, and how every error becomes one line and an exit code.

CommandError            exit 1
└── BadUsage            exit 2
"""

import os
import re

from firmware_bridge.errors import BadReaderUri, BridgeError
from hardwallet.errors import WalletError
from offline_sync.errors import SyncError
from pos_terminal.errors import BadAmount, TerminalError
from tui.text import harmless, say

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

_USAGE = (BadUsage, BadReaderUri, BadAmount, UnicodeError)
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
            return harmless(say("the system refused: {why}", why=error.strerror))
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
        return harmless(
            say("{name}: {why}; check the path and its permissions", name=name, why=error.strerror)
        )
    return harmless(str(error)) or type(error).__name__
