"""F1: what each key does, in words, made from the bindings themselves."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from tui.screens.keys import Key
from tui.screens.widgets.dialogs import Dialog
from tui.screens.words import Words
from tui.text import facts, say


class Help(Dialog[bool]):
    """The keys of a screen and of the program."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__(lambda: say("What the keys do (Esc closes this)"))
        self._keys = list(keys)

    def inside(self) -> ComposeResult:
        """A table that can be scrolled."""
        with VerticalScroll(classes="scroll"):
            yield Words(self._text)

    def _text(self) -> str:
        return "\n".join(facts([(key.shown, key.sentence()) for key in self._keys]))
