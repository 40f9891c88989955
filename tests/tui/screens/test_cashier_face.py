"""The till's view in places of any size: as big as fits, every word whole; no Textual behind the lines."""

import subprocess
import sys

import pytest

from pos_terminal.visit import Outcome
from tests.tui.screens.till_stage import NOT_ENOUGH, Counter, a_tap
from tests.tui.world import REPOSITORY
from tui.screens.cashier.face import compose
from tui.screens.cashier.view import View, view_of
from tui.screens.layout import spaced
from tui.text import columns, set_language

SIZES = [(80, 18), (60, 12), (58, 9), (94, 34), (200, 60), (30, 5), (1, 1)]
STATES = ["typed", "approved", "not enough", "torn", "pin"]


def view(state: str) -> View:
    till = Counter()
    till.types("5000.00" if state == "typed" else "12.50⏎")
    outcomes = {
        "approved": a_tap(Outcome.GRANTED),
        "not enough": a_tap(Outcome.DECLINED, **NOT_ENOUGH),
        "torn": a_tap(Outcome.UNRESOLVED, reason="The card left the reader. Present the same card again."),
        "pin": a_tap(Outcome.PIN_WANTED),
    }
    if state in outcomes:
        till.tapped(outcomes[state])
    return view_of(till.desk)


def text(shown: View, size: tuple[int, int]) -> str:
    return "\n".join(row.text for row in compose(shown, *size))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_row_is_exactly_as_wide_as_its_place(state: str, size: tuple[int, int], language: str) -> None:
    set_language(language)
    rows = compose(view(state), *size)
    assert len(rows) == size[1]
    assert {columns(row.text) for row in rows} == {size[0]}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("size", SIZES[:5], ids=lambda size: f"{size[0]}x{size[1]}")
def test_nothing_that_is_said_is_left_out(state: str, size: tuple[int, int], language: str) -> None:
    set_language(language)
    shown = view(state)
    drawn = text(shown, size)
    assert spaced(shown.word) in drawn or shown.word in drawn
    assert shown.symbol in drawn
    squeezed = "".join(drawn.split())
    for line in (*shown.lines, *shown.hints, shown.masked):
        assert "".join(line.split()) in squeezed


def test_a_larger_place_is_used() -> None:
    inked = [sum(text(view("approved"), size).count(block) for block in "█▀▄") for size in SIZES[2::-1]]
    inked.append(sum(text(view("approved"), (200, 60)).count(block) for block in "█▀▄"))
    assert inked == sorted(inked)
    assert inked[-1] > 4 * inked[0]


def test_digits_do_not_move_when_more_are_typed() -> None:
    till = Counter()
    places = []
    for digit in "22.2":
        till.types(digit)
        rows = [row.text for row in compose(view_of(till.desk), 80, 18) if "█" in row.text]
        places.append(max(len(row.rstrip()) for row in rows))
    assert len(set(places)) == 1, "the right edge stands still, as on a cash register"


def test_the_line_mode_loads_no_textual() -> None:
    program = "import sys, tui.plain.till; sys.exit('textual' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False, timeout=60)
    assert done.returncode == 0
