"""What the help of the line mode shows can be typed: in both languages, the form begins with the command."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tui.plain.bus import BusFace
from tui.plain.loop import Command, Loop
from tui.plain.till import TillFace
from tui.text import LANGUAGES, set_language

Commands = Callable[[], list[Command]]


def _without_a_terminal(kind: type) -> Commands:
    """A face's commands; none of them is run."""
    face: Any = object.__new__(kind)
    loop = object.__new__(Loop)
    loop.playground = None
    return lambda: [*face.commands(), *loop._own_commands(), *loop._world_commands()]


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    yield
    set_language("en")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", [TillFace, BusFace])
def test_the_form_of_a_command_is_what_is_typed(kind: type, language: str) -> None:
    set_language(language)
    typed: dict[str, Command] = {}
    for command in _without_a_terminal(kind)():
        for name in command.names:
            typed.setdefault(name, command)
    wrong = []
    for command in dict.fromkeys(typed.values()):
        word = command.form().split()[0].rstrip(",，")
        if word not in command.names:
            wrong.append((command.names, command.form()))
    assert wrong == []
