"""The list of cases: a function of a bench, named for the rule that it holds the card to."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from hw_tests.bench import Bench

Run = Callable[[Bench], None]


class When(IntEnum):
    """Where in a run on one card a case belongs."""

    NEW = 0
    """While the card has no PIN, which can't be taken away again."""
    ANY = 1
    LAST = 2
    """The card is never the same again: its PIN stays locked."""


@dataclass(frozen=True, slots=True)
class Case:
    """One rule."""

    name: str
    run: Run
    when: When


_CASES: list[Case] = []


def case(run: Run) -> Run:
    """Put a function into the list."""
    return _add(run, When.ANY)


def case_on_a_new_card(run: Run) -> Run:
    """Put a function into the list that needs a card without a PIN."""
    return _add(run, When.NEW)


def case_that_uses_up(run: Run) -> Run:
    """Put a function into the list that leaves a card of no further use for these tests."""
    return _add(run, When.LAST)


def _add(run: Run, when: When) -> Run:
    area = run.__module__.rsplit(".", 1)[-1]
    _CASES.append(Case(f"{area}-{run.__name__}", run, when))
    return run


def cases() -> list[Case]:
    """All of them, in the order in which one card can go through them."""
    return sorted(_CASES, key=lambda one: one.when)
