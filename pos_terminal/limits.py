"""What a terminal allows by itself, before a card is asked. Data and one pure check."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from hardwallet.records import MAX_AMOUNT_FEN
from pos_terminal.money import format_amount

DAY_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class TerminalLimits:
    """Amounts in fen, times in milliseconds and seconds.

    `stored_fen` bounds what may wait here, not yet acknowledged. `select_ms` is how long a card may take to
    answer SELECT: a relay shows as delay, and delay may refuse only before the card is asked to pay.
    `clock_back_s` is how far the clock may lie before the newest entry of the journal, `clock_ahead_s` how
    far after it, or after the start of the terminal's certificate where that is newer.

    A denylist that is older than `denylist_tighten_s` lets only amounts up to `stale_single_fen` pass, one
    older than `denylist_stop_s` none.
    """

    single_fen: int = 500_000
    stored_fen: int = 50_000_000
    select_ms: float = 1_000.0
    clock_back_s: int = 300
    clock_ahead_s: int = 300 * DAY_S
    denylist_tighten_s: int = 7 * DAY_S
    denylist_stop_s: int = 30 * DAY_S
    stale_single_fen: int = 5_000


def refusal(limits: TerminalLimits, amount_fen: int, stored_fen: int) -> str | None:
    """Why the amount can't be taken now, or None."""
    if not 1 <= amount_fen <= MAX_AMOUNT_FEN:
        return "the amount is zero, negative or too large"
    if amount_fen > limits.single_fen:
        return f"the amount is above this terminal's limit of {format_amount(limits.single_fen)}"
    if stored_fen + amount_fen > limits.stored_fen:
        return "too much money waits here to be sent; connect the terminal and send it first"
    return None


def stale_refusal(limits: TerminalLimits, amount_fen: int, age_s: int) -> str | None:
    """Why the amount can't be taken under a denylist of that age, or None."""
    if age_s < -DAY_S:  # less than that is a clock that drifts
        return "the denylist is dated after this machine's clock; set the clock"
    days = age_s // DAY_S
    if age_s > limits.denylist_stop_s:
        return f"the denylist is {days} days old: no card can pay here until this terminal gets a new one"
    if age_s > limits.denylist_tighten_s and amount_fen > limits.stale_single_fen:
        return (
            f"the denylist is {days} days old: until this terminal gets a new one, a card can pay at most "
            f"{format_amount(limits.stale_single_fen)} at a time"
        )
    return None


class Freshness(Enum):
    """What the age of a denylist allows."""

    FRESH = "every amount"
    TIGHT = "only small amounts"
    STOPPED = "nothing"
    MISSING = "nothing, for there is none"


def freshness(limits: TerminalLimits, age_s: int | None) -> Freshness:
    """What a denylist of that age allows; None: there is none."""
    if age_s is None:
        return Freshness.MISSING
    if stale_refusal(limits, 0, age_s) is not None:
        return Freshness.STOPPED
    if stale_refusal(limits, limits.stale_single_fen + 1, age_s) is not None:
        return Freshness.TIGHT
    return Freshness.FRESH
