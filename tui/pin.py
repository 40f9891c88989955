"""Where a PIN comes from: a file, HARDWALLET_PIN, a person at the terminal, or stdin. Never an argument.

No function here puts a PIN into an error, a log or a result.
"""

import os
import sys
from getpass import getpass
from pathlib import Path

from tui.errors import BadUsage, CommandError
from tui.text import say

PIN_VARIABLE = "HARDWALLET_PIN"
_MAX_INPUT = 256


def is_pin(text: str) -> bool:
    """Whether it is 4 to 12 digits."""
    return 4 <= len(text) <= 12 and text.isascii() and text.isdigit()


def pin_for_payment(pin_file: Path | None) -> str:
    """The PIN for one payment: from the file, HARDWALLET_PIN or a prompt; empty when there is none."""
    lines = _given(pin_file)
    if lines is None:
        if not sys.stdin.isatty():
            return ""
        lines = [getpass(say("PIN: "))]
    if len(lines) != 1 or not is_pin(lines[0]):
        raise _not_a_pin()
    return lines[0]


def pins_for_change(pin_file: Path | None, *, has_pin: bool) -> tuple[str, str]:
    """The current PIN (empty when the card has none) and the new one.

    File, HARDWALLET_PIN and stdin hold a line each: the current one, where there is one, and the new one.
    """
    lines = _given(pin_file)
    if lines is None:
        lines = (
            _prompted(has_pin)
            if sys.stdin.isatty()
            else _lines(sys.stdin.buffer.read(_MAX_INPUT).decode("ascii", "replace"))
        )
    wanted = 2 if has_pin else 1
    if len(lines) != wanted:
        raise BadUsage(
            say("this card has a PIN: give two lines, the current PIN and the new one")
            if has_pin
            else say("this card has no PIN yet: give one line, the new PIN")
        )
    if not all(is_pin(line) for line in lines):
        raise _not_a_pin()
    return (lines[0], lines[1]) if has_pin else ("", lines[0])


def _given(pin_file: Path | None) -> list[str] | None:
    """The lines of the PIN file or of HARDWALLET_PIN; None when neither is given."""
    if pin_file is not None:
        if pin_file.stat().st_mode & 0o077:
            raise CommandError(say("{path} is readable by others; run: chmod 600 {path}", path=pin_file))
        with pin_file.open("rb") as file:
            return _lines(file.read(_MAX_INPUT).decode("ascii", "replace"))
    given = os.environ.get(PIN_VARIABLE)
    return _lines(given) if given else None


def _prompted(has_pin: bool) -> list[str]:
    lines = [getpass(say("Current PIN: "))] if has_pin else []
    new = getpass(say("New PIN (4 to 12 digits): "))
    if getpass(say("New PIN again: ")) != new:
        raise CommandError(say("the two new PINs differ; nothing was changed"))
    return [*lines, new]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _not_a_pin() -> BadUsage:
    return BadUsage(say("a PIN has 4 to 12 digits, and nothing else stands in its line; nothing was sent"))
