"""A list to choose from beside the driver's view: lines with their directions, or stops by number.

It never covers the view: riders go on tapping while somebody chooses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from tui.screens.words import Worded, Words
from tui.text import harmless, say

Say = Callable[[], str]

MOST_SHOWN = 200
"""Choices listed at once; typing narrows them down."""
_TYPED = 20


@dataclass(frozen=True, slots=True)
class Choice:
    """`number` as it can be typed, `words` as it is listed; `value` is what the choice means."""

    number: int
    words: Say
    value: object


def narrowed(choices: Sequence[Choice], typed: str) -> list[Choice]:
    """Those that the typed text means: a number exactly, else whatever contains the text."""
    wanted = harmless(typed).casefold()
    if not wanted:
        return list(choices)
    if wanted.isascii() and wanted.isdigit():
        exact = [choice for choice in choices if choice.number == int(wanted)]
        if exact:
            return exact
    return [choice for choice in choices if wanted in choice.words().casefold()]


class Chooser(Vertical, Worded):
    """Hidden until `ask`; Enter or a click chooses, Esc leaves everything as it was."""

    BINDINGS: ClassVar = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "move(-8)", show=False),
        Binding("pagedown", "move(8)", show=False),
        Binding("escape", "close", show=False),
    ]

    class Closed(Message):
        """Something was chosen, or nothing."""

    def __init__(self) -> None:
        super().__init__(id="chooser")
        self._choices: Sequence[Choice] = ()
        self._listed: list[Choice] = []
        self._chosen: Callable[[object], None] = lambda _value: None
        self._title: Say = lambda: ""

    def compose(self) -> ComposeResult:
        """A title, a line to type in, the list."""
        yield Words(self._title, id="chooser-title")
        typed = Input(max_length=_TYPED, id="chooser-typed")
        typed.cursor_blink = False  # it would wake the machine twice a second
        yield typed
        choices = OptionList(id="chooser-list", markup=False)
        choices.can_focus = False
        yield choices

    @property
    def is_open(self) -> bool:
        """Whether it asks."""
        return self.has_class("-open")

    def ask(
        self,
        title: Say,
        choices: Sequence[Choice],
        chosen: Callable[[object], None],
        *,
        marked: int = 0,
        typed: str = "",
    ) -> None:
        """Lists the choices, the one at place `marked` highlighted; calls `chosen` with a value, or never."""
        self._title, self._choices, self._chosen = title, choices, chosen
        self.query_one("#chooser-title", Words).become(title)
        field = self.query_one(Input)
        with field.prevent(Input.Changed):
            field.value = typed
        field.cursor_position = len(typed)
        self._list(typed, marked)
        self.add_class("-open")
        field.focus()

    def reword(self) -> None:
        """Says the choices anew; what is typed and highlighted stays."""
        field = self.query_one(Input)
        # fits: 30
        field.placeholder = say("number or name")
        if self.is_open:
            self._list(field.value, self.query_one(OptionList).highlighted or 0)

    def action_close(self) -> None:
        """Esc: nothing is chosen."""
        self.remove_class("-open")
        self.screen.set_focus(None)
        self.post_message(self.Closed())

    def action_move(self, rows: int) -> None:
        """Up and down the list while the line has the focus."""
        if not self._listed:
            return
        choices = self.query_one(OptionList)
        place = (choices.highlighted or 0) + rows
        choices.highlighted = max(0, min(len(self._listed) - 1, place))

    @on(Input.Changed, "#chooser-typed")
    def typed(self, event: Input.Changed) -> None:
        """Fewer choices with each character."""
        event.stop()
        self._list(event.value, 0)

    @on(Input.Submitted, "#chooser-typed")
    def submitted(self, event: Input.Submitted) -> None:
        """Enter takes what is highlighted."""
        event.stop()
        place = self.query_one(OptionList).highlighted
        if place is not None and place < len(self._listed):
            self._choose(self._listed[place])

    @on(OptionList.OptionSelected, "#chooser-list")
    def clicked(self, event: OptionList.OptionSelected) -> None:
        """A click takes it too."""
        event.stop()
        self._choose(self._listed[event.option_index])

    def _choose(self, choice: Choice) -> None:
        self.action_close()
        self._chosen(choice.value)

    def _list(self, typed: str, marked: int) -> None:
        choices = self.query_one(OptionList)
        self._listed = narrowed(self._choices, typed)[:MOST_SHOWN]
        choices.clear_options()
        choices.add_options(Option(choice.words()) for choice in self._listed)
        choices.highlighted = min(marked, len(self._listed) - 1) if self._listed else None
