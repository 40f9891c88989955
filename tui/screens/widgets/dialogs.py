"""Questions: yes or no, a line of text, a PIN, one of several; and a notice that only wants to be read.

Each is a screen above the one that asks. Esc answers None (or no). What it says is given as functions, so
that it changes its language with everything else.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList
from textual.widgets.option_list import Option

from tui.screens.keys import Key, bindings
from tui.screens.widgets.too_small import NeedsRoom, TooSmall
from tui.screens.words import Worded, Words
from tui.text import say

Say = Callable[[], str]
Answer = TypeVar("Answer")

MAX_TEXT = 80
MAX_PIN = 12


def _close() -> str:
    # fits: 12
    return say("back")


def _close_sentence() -> str:
    return say("Close this question; nothing happens.")


class WordButton(Button, Worded):
    """A button whose word changes with the language."""

    def __init__(self, words: Say, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__("", id=id)
        self._words = words

    def reword(self) -> None:
        """Says it anew."""
        self.label = self._words()


class Dialog(NeedsRoom, ModalScreen[Answer | None], Generic[Answer]):
    """A question in a box, above the screen that asks."""

    KEYS: ClassVar[tuple[Key, ...]] = (Key("escape", "Esc", "close", _close, _close_sentence),)
    BINDINGS = bindings(KEYS)

    def __init__(self, title: Say) -> None:
        super().__init__(classes="dialog")
        self._title = title
        self._answered = False
        self._answer: Answer | None = None

    def compose(self) -> ComposeResult:
        """The box; subclasses fill it."""
        with Vertical(classes="box"):
            yield Words(self._title, classes="title")
            yield from self.inside()
        yield TooSmall()

    def inside(self) -> ComposeResult:
        """What stands under the title."""
        yield from ()

    def action_close(self) -> None:
        """Esc: no answer."""
        self.answer(None)

    def answer(self, answer: Answer | None) -> None:
        """Closes with that answer: at once, or as soon as whatever lies above it is gone."""
        if self._answered:
            return
        self._answered = True
        self._answer = answer
        self.on_screen_resume()

    def on_screen_resume(self) -> None:
        """On top again."""
        if self._answered and self.is_active:
            self.dismiss(self._answer)


class Confirm(Dialog[bool]):
    """Yes or no. Enter presses the chosen button; the cautious one is chosen first."""

    def __init__(self, title: Say, yes: Say, no: Say) -> None:
        super().__init__(title)
        self._yes, self._no = yes, no

    def inside(self) -> ComposeResult:
        """Two buttons."""
        with Horizontal(classes="buttons"):
            yield WordButton(self._no, id="no")
            yield WordButton(self._yes, id="yes")

    @on(Button.Pressed)
    def pressed(self, event: Button.Pressed) -> None:
        """The answer."""
        event.stop()
        self.answer(event.button.id == "yes")


class Notice(Dialog[bool]):
    """Something to read; any of Enter and Esc closes it."""

    def __init__(self, title: Say, text: Say) -> None:
        super().__init__(title)
        self._text = text

    def inside(self) -> ComposeResult:
        """The text and a button."""
        yield Words(self._text, classes="text")
        with Horizontal(classes="buttons"):
            yield WordButton(lambda: say("OK"), id="ok")

    @on(Button.Pressed)
    def pressed(self, event: Button.Pressed) -> None:
        """Read."""
        event.stop()
        self.answer(True)


class LineOfText(Dialog[str]):
    """A line of text. `wrong` says why a text won't do ("" when it will); the line stays until it does."""

    def __init__(
        self,
        title: Say,
        *,
        initial: str = "",
        wrong: Callable[[str], str] = lambda _text: "",
        hint: Say = lambda: "",
        most: int = MAX_TEXT,
        hidden: bool = False,
    ) -> None:
        super().__init__(title)
        self._initial, self._wrong, self._hint = initial, wrong, hint
        self._most, self._hidden = most, hidden

    def inside(self) -> ComposeResult:
        """The line, and what is wrong with it."""
        yield Words(self._hint, classes="hint")
        yield Input(self._initial, password=self._hidden, max_length=self._most, id="line")
        yield Words(lambda: "", id="wrong", classes="wrong")

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        event.stop()
        text = event.value.strip()
        if self._wrong(text):
            self.query_one("#wrong", Words).become(lambda: self._wrong(text))
            return
        if self._hidden:
            event.input.value = ""
        self.answer(text)


def _not_a_pin(text: str) -> str:
    if 4 <= len(text) <= MAX_PIN and text.isascii() and text.isdigit():
        return ""
    return say("A PIN has 4 to 12 digits.")


class AskPin(LineOfText):
    """The PIN of the card's holder, masked. The answer is kept nowhere here."""

    def __init__(self, title: Say, *, hint: Say = lambda: "") -> None:
        super().__init__(title, wrong=_not_a_pin, hint=hint, most=MAX_PIN, hidden=True)


class Choose(Dialog[int]):
    """One of several; the answer is its place in the list."""

    def __init__(self, title: Say, choices: Sequence[Say], chosen: int = 0) -> None:
        super().__init__(title)
        self._choices, self._chosen = list(choices), chosen

    def inside(self) -> ComposeResult:
        """The list."""
        yield Choices(self._choices, self._chosen)

    @on(OptionList.OptionSelected)
    def selected(self, event: OptionList.OptionSelected) -> None:
        """Enter, or a click."""
        event.stop()
        self.answer(event.option_index)


class Choices(OptionList, Worded):
    """A list of choices whose words change with the language."""

    def __init__(self, choices: Sequence[Say], chosen: int) -> None:
        super().__init__(*(Option(str(place)) for place in range(len(choices))), markup=False)
        self._choices, self._chosen = choices, chosen

    def on_mount(self) -> None:
        """The present choice is marked."""
        self.highlighted = self._chosen

    def reword(self) -> None:
        """Says them anew."""
        for place, choice in enumerate(self._choices):
            self.replace_option_prompt_at_index(place, choice())
