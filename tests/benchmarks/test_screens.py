"""The screens' benchmark: which frame counts, and a pseudo-terminal that sees what a program draws."""

import math
import os
import sys

from benchmarks import screens
from benchmarks.pseudo_terminal import FRAME_ENDS, Frame, PseudoTerminal
from tui.screens.big import draw, figures

WAIT_S = 30.0

DRAWS = r"""
import sys, termios, tty
tty.setcbreak(0)
print("begun", flush=True)
while (key := sys.stdin.read(1)) != "q":
    sys.stdout.write(f"\x1b[?2026h\x1b[2J\x1b[Hsaw {key}\x1b[?2026l")
    sys.stdout.flush()
"""


def frames(*shown: tuple[float, str]) -> list[Frame]:
    return [Frame(end_s, text.splitlines()) for end_s, text in shown]


def test_the_first_frame_that_shows_it_counts() -> None:
    drawn = frames((1.0, "old"), (2.0, "other"), (2.5, "new"), (3.0, "new"))
    found = screens.latencies_ms(drawn, [(1.5, lambda frame: frame.shows("new"))])
    assert found == [1000.0]


def test_a_frame_from_before_does_not_count() -> None:
    drawn = frames((1.0, "new"), (3.0, "new"))
    assert screens.latencies_ms(drawn, [(2.0, lambda frame: frame.shows("new"))]) == [1000.0]


def test_what_was_never_shown_fails() -> None:
    found = screens.latencies_ms(frames((1.0, "old")), [(0.5, lambda frame: frame.shows("new"))])
    assert found == [math.inf]
    (row,) = screens._quantiles("a figure, p99", [10.0, *found])
    assert (row["value"], row["ok"]) == (None, False)


def test_the_slowest_in_a_hundred_is_left_out_and_no_more() -> None:
    one_slow, two_slow = [1.0] * 99 + [90.0], [1.0] * 98 + [90.0] * 2
    assert screens._quantiles("p99", one_slow)[0]["ok"]
    assert not screens._quantiles("p99", two_slow)[0]["ok"]


def test_what_the_host_keeps_back_is_a_share_of_what_was_asked_for() -> None:
    before = [100, 0, 50, 9_000, 7, 0, 0, 10]
    assert screens.stolen_share(before, [160, 0, 70, 9_900, 8, 0, 0, 30]) == 0.2
    assert screens.stolen_share(before, before) == 0.0


def test_a_balance_is_found_as_it_is_drawn() -> None:
    shown = Frame(1.0, ["  " + row for row in draw(figures("198.01"), 1)])
    assert screens._figures("198.01")(shown)
    assert not screens._figures("198.02")(shown)


def test_a_long_run_is_forgotten_but_for_its_end() -> None:
    with PseudoTerminal([sys.executable, "-c", DRAWS], dict(os.environ)) as terminal:
        terminal.wait_for(lambda text: "begun" in text, WAIT_S)
        terminal._chunks += [(0.0, b"old")] * 500 + [(1.0, b"\x1b[2J\x1b[Hthe end")]
        terminal.forget()
        assert len(terminal._chunks) <= 101
        assert terminal.text().startswith("the end")


def test_a_program_on_a_pseudo_terminal_is_seen() -> None:
    """Its frames have the keys in them, and came after them."""
    with PseudoTerminal([sys.executable, "-c", DRAWS], dict(os.environ)) as terminal:
        terminal.wait_for(lambda text: "begun" in text, WAIT_S)
        at_s = terminal.write("a")
        terminal.wait_for(lambda text: "saw a" in text, WAIT_S)
        terminal.write("b")
        terminal.wait_for(lambda text: "saw b" in text, WAIT_S)
        assert terminal.memory_mb() > 0
        drawn = list(terminal.frames())
    assert [frame.lines[0].strip() for frame in drawn] == ["saw a", "saw b"]
    assert drawn[0].end_s > at_s
    assert FRAME_ENDS.endswith(b"l")
