"""F1: what each key does, in words, made from the bindings themselves."""

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll

from tui.help import wrapped
from tui.screens.keys import Key
from tui.screens.widgets.dialogs import Dialog
from tui.screens.words import Words
from tui.text import columns, say

_FRAME = 10
"""What border, padding and scroll bar of the box take, in columns."""
_WIDEST = 62


class Help(Dialog[bool]):
    """The keys of a screen and of the program."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__(lambda: say("What the keys do (Esc closes this)"))
        self._keys = list(keys)

    def inside(self) -> ComposeResult:
        """A table that can be scrolled."""
        with VerticalScroll(classes="scroll"):
            yield Words(self._text, id="keys")

    def on_resize(self, _event: events.Resize) -> None:
        """Other lines fit."""
        for words in self.query("#keys").results(Words):
            words.reword()

    def _text(self) -> str:
        return "\n".join(key_lines(self._keys, min(_WIDEST, self.app.size.width - _FRAME)))


def key_lines(keys: Sequence[Key], width: int) -> list[str]:
    """Each key and what it does, in lines of that many columns at most."""
    first = max((columns(key.shown) for key in keys), default=0) + 2
    lines = []
    for key in keys:
        head, *others = wrapped(key.sentence(), width - first)
        lines.append(key.shown + " " * (first - columns(key.shown)) + head)
        lines += [" " * first + line for line in others]
    return lines
