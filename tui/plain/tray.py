"""The simulated world in words: its cards, and where the next one is taken away too early."""

from collections.abc import Callable, Mapping
from typing import Final

from fleet.playground import TearPlace
from tui.text import say

SIMULATED: Final = "SIMULATED 模拟"
"""In both languages at once, so that nobody takes it for money."""


def _adult() -> str:
    # fits: 7
    return say("adult")


def _student() -> str:
    # fits: 7
    return say("student")


def _senior() -> str:
    # fits: 7
    return say("senior")


def _empty() -> str:
    # fits: 7
    return say("empty")


def _blocked() -> str:
    # fits: 7
    return say("blocked")


def _cloned() -> str:
    # fits: 7
    return say("cloned")


def _foreign() -> str:
    # fits: 7
    return say("foreign")


def _with_pin() -> str:
    # fits: 7
    return say("PIN")


def _denied() -> str:
    # fits: 7
    return say("denied")


CARDS: Final[Mapping[str, Callable[[], str]]] = {
    "adult": _adult,
    "student": _student,
    "senior": _senior,
    "empty": _empty,
    "blocked": _blocked,
    "cloned": _cloned,
    "foreign": _foreign,
    "pin": _with_pin,
    "denied": _denied,
}


def card_word(name: str) -> str:
    """A card of the tray, in a word. Raises KeyError for one that no tray has."""
    return CARDS[name]()


def tear_word(place: TearPlace) -> str:
    """Where the next tap is torn, in words."""
    match place:
        case TearPlace.OFF:
            # fits: 15
            return say("no tear")
        case TearPlace.AT_SELECT:
            # fits: 15
            return say("tear at start")
        case TearPlace.BEFORE_PAY:
            # fits: 15
            return say("tear before pay")
        case TearPlace.AFTER_PAY:
            # fits: 15
            return say("tear after pay")
        case TearPlace.BEFORE_RATIFY:
            # fits: 15
            return say("tear at the end")
