"""How an outcome is shown and heard: a word, a symbol, a style and a count of bells, never colour alone.

The message identifiers are EMV's (EMV Book A 6.2, Book 4 11.2); pos_terminal.visit gives each outcome one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fleet.station_events import Board, Decided, Event, GiveBack, TooMany
from pos_terminal.visit import Outcome
from tui.text import say

PRESENT_CARD: Final = 0x15
PROCESSING: Final = 0x16
ONE_CARD_ONLY: Final = 0x19

APPROVED: Final = "approved"
NOTED: Final = "noted"
REFUSED: Final = "refused"
AGAIN: Final = "again"
ASKING: Final = "asking"
WAITING: Final = "waiting"
STYLES: Final = (APPROVED, NOTED, REFUSED, AGAIN, ASKING, WAITING)
"""The names of the styles: a widget gets the class `-approved` and so on, which the themes colour."""

BELLS_GO: Final = 1
BELLS_STOP: Final = 2
BELLS_AGAIN: Final = 3
BELLS_ASK: Final = 4


@dataclass(frozen=True, slots=True)
class Signal:
    """What a person sees and hears. `bells`: how often the bell rings; `message_id`: EMV's number."""

    word: str
    symbol: str
    style: str
    bells: int
    message_id: int


@dataclass(frozen=True, slots=True)
class _Look:
    """A signal before its word is said in somebody's language."""

    word: Callable[[], str]
    symbol: str
    style: str
    bells: int


def _approved() -> str:
    # fits: 20
    return say("Approved")


def _already() -> str:
    # fits: 20
    return say("Already paid")


def _paid_not_granted() -> str:
    # fits: 20
    return say("Paid, not granted")


def _declined() -> str:
    # fits: 20
    return say("Not paid")


def _pin_wanted() -> str:
    # fits: 20
    return say("Enter the PIN")


def _pin_wrong() -> str:
    # fits: 20
    return say("Wrong PIN")


def _unresolved() -> str:
    # fits: 28
    return say("Present the same card again")


def _try_again() -> str:
    # fits: 28
    return say("Present the card again")


def _other_card() -> str:
    # fits: 28
    return say("Present the earlier card")


def _refunded() -> str:
    # fits: 20
    return say("Refunded")


def _already_refunded() -> str:
    # fits: 20
    return say("Already refunded")


def _not_refunded() -> str:
    # fits: 20
    return say("Not refunded")


LOOKS: Final[Mapping[Outcome, _Look]] = {
    Outcome.GRANTED: _Look(_approved, "✓", APPROVED, BELLS_GO),
    # Not the sound of a new payment: a card handed back to the next rider must not sound like his own.
    Outcome.ALREADY_GRANTED: _Look(_already, "=", NOTED, BELLS_STOP),
    Outcome.PAID_NOT_GRANTED: _Look(_paid_not_granted, "!", REFUSED, BELLS_STOP),
    Outcome.DECLINED: _Look(_declined, "✗", REFUSED, BELLS_STOP),
    Outcome.PIN_WANTED: _Look(_pin_wanted, "*", ASKING, BELLS_ASK),
    Outcome.PIN_WRONG: _Look(_pin_wrong, "*", ASKING, BELLS_ASK),
    Outcome.UNRESOLVED: _Look(_unresolved, "↻", AGAIN, BELLS_AGAIN),
    Outcome.TRY_AGAIN: _Look(_try_again, "↻", AGAIN, BELLS_AGAIN),
    Outcome.OTHER_CARD: _Look(_other_card, "↻", AGAIN, BELLS_AGAIN),
}

_WANT_PIN: Final = (Outcome.PIN_WANTED, Outcome.PIN_WRONG)

_REFUND_WORDS: Final[Mapping[Outcome, Callable[[], str]]] = {
    Outcome.GRANTED: _refunded,
    Outcome.ALREADY_GRANTED: _already_refunded,
    Outcome.DECLINED: _not_refunded,
}


def signal_of(outcome: Outcome, *, refund: bool = False, fare: bool = False) -> Signal:
    """How this outcome of a payment, of a `refund` or of a `fare`, is shown and heard. Nobody can enter a PIN
    on a bus: a card that wants one has not paid."""
    if fare and outcome in _WANT_PIN:
        outcome = Outcome.DECLINED
    look = LOOKS[outcome]
    word = _REFUND_WORDS.get(outcome, look.word) if refund else look.word
    return Signal(word(), look.symbol, look.style, look.bells, outcome.message_id)


def bells_of(event: Event) -> int:
    """How often the bell rings for what happened at the reader; 0 for most events."""
    match event:
        case Decided():
            refund, fare = isinstance(event.task, GiveBack), isinstance(event.task, Board)
            return signal_of(event.tap.outcome, refund=refund, fare=fare).bells
        case TooMany():
            return one_card_only().bells
        case _:
            return 0


def present_card() -> Signal:
    """The reader waits for a card."""
    # fits: 28
    return Signal(say("Present the card"), ">", WAITING, 0, PRESENT_CARD)


def processing() -> Signal:
    """A card is there; it must stay."""
    # fits: 28
    return Signal(say("Hold the card still"), "…", WAITING, 0, PROCESSING)


def one_card_only() -> Signal:
    """Two cards lie on the reader."""
    # fits: 28
    return Signal(say("One card only"), "!", AGAIN, BELLS_AGAIN, ONE_CARD_ONLY)
