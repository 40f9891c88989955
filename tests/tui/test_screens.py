"""`hardwallet tui` with a terminal: that terminal, its reader and its money, and never a simulation."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.tui.world import World
from tui.backing import HealthRelay, open_backing


@contextmanager
def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> Iterator[None]:
    """The text as what is typed."""
    read_end, write_end = os.pipe()
    os.write(write_end, text.encode())
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        yield


def test_a_terminal_is_that_terminal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with typed(monkeypatch, "12.50\nwait\nquit\n"):
        done = world.call("tui", "cashier", "--plain", "--terminal", "till", "--reader", "sim:alice.card")
    assert (done.code, done.err) == (0, "")
    assert "Approved" in done.out
    assert "SIMULATED" not in done.out
    assert "tap NUMBER" not in done.out
    assert world.status()["waiting"] | {"entries": 0, "oldest_time_s": 0} == {
        "count": 1,
        "amount_fen": 1250,
        "carried": 0,
        "entries": 0,
        "oldest_time_s": 0,
    }
    assert world.shown()["balance_fen"] == 20_000 - 1250


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("cashier --plain --terminal till", "name the reader: --reader sim:"),
        ("cashier --plain --terminal bus --reader sim:alice.card", "this terminal takes fares"),
        ("bus --plain --terminal till --reader sim:alice.card", "this terminal is a till"),
        ("cashier --plain --terminal nowhere --reader sim:alice.card", "nowhere"),
        ("cashier --plain --terminal till --reader sim:nobody.card", "nobody.card"),
        ("cashier --web 0 --terminal nowhere --reader sim:alice.card", "nowhere"),
        ("cashier --web 0 --reader sim:alice.card", "name it with --terminal"),
        ("cashier --web 0 --plain", "not both"),
        ("cashier --web 70000", "--web"),
        ("cashier", "with --plain it works line by line"),
        ("cashier --plain --theme pink", "--theme is dark or light or contrast"),
        ("cashier --plain --lang fr", "--lang is en or zh"),
    ],
)
def test_what_is_wrong_is_said_before_a_screen_opens(world: World, words: str, said: str) -> None:
    done = world.call("tui", *words.split())
    assert done.code in (1, 2)
    assert said in done.err
    assert (done.out, done.err.count("\n")) == ("", 1)


def test_the_readers_own_news_reach_the_station() -> None:
    relay = HealthRelay()
    told: list[tuple[str, str]] = []
    relay("lost", "nobody listens yet")
    relay.listen(lambda word, sentence: told.append((word, sentence)))
    relay("reader_gone", "the reader is gone")
    assert told == [("reader_gone", "the reader is gone")]


def test_a_real_terminal_has_no_playground(world: World) -> None:
    with open_backing("cashier", world.path("till"), "sim:alice.card", None, None) as backing:
        assert backing.playground is None
        assert backing.uplink is None, "no clearing in its settings"
        assert backing.session.folder.path == world.path("till")


def test_the_options_of_a_screen_reach_the_one_in_the_tab(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr("tui.screens.web.serve", lambda *given: served.append(given))
    monkeypatch.setattr("sys.stdout", io.StringIO())
    words = "tui bus --lang zh --theme light --mute --web 8123 --line 7 --direction out --terminal bus"
    assert world.call(*words.split(), "--reader", "sim:alice.card").code == 0
    (command, title, port, _tell) = served[0]
    assert command[1:5] == ["-m", "tui", "tui", "bus"]
    assert {
        *("--lang", "zh", "--theme", "light", "--mute", "--line=7", "--direction=out"),
        *("--terminal=bus", "--reader=sim:alice.card"),
    } == set(command[5:])
    assert (title, port) == ("公交", 8123)
