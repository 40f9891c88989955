"""Which language a person wants: by option, else by the variables that gettext reads."""

import re
from collections.abc import Mapping, Sequence

from tui.errors import BadUsage
from tui.text import LANGUAGES, say

OPTION = "--lang"
_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
_ENGLISH = ("c", "posix")


def of_environment(environment: Mapping[str, str]) -> str:
    """ "en" or "zh": what the first variable that is set names first, of what is there; else English."""
    names = next(filter(None, (environment.get(variable) for variable in _VARIABLES)), "")
    return next(filter(None, map(_language, names.split(":"))), "en")


def _language(name: str) -> str | None:
    """The language of a locale's name, as in zh_CN.UTF-8. Every Chinese is the one that is there."""
    word = re.split(r"[_.@-]", name.strip().lower(), maxsplit=1)[0]
    if word in _ENGLISH:
        return "en"
    return word if word in LANGUAGES else None


def of_arguments(given: Sequence[str]) -> str | None:
    """What `--lang` before the first command word says; None without it. Raises BadUsage."""
    found = None
    words = iter(given)
    for word in words:
        if word == OPTION:
            found = next(words, None)
        elif word.startswith(f"{OPTION}="):
            found = word.partition("=")[2]
        elif not word.startswith("-") or word == "--":
            break
    if found is not None:
        check(found)
    return found


def check(name: str) -> None:
    """Raises BadUsage for a language that is not there."""
    if name not in LANGUAGES:
        raise BadUsage(say("--lang is en or zh, not '{given}'", given=name))
