"""Words that change their language while the screen stays: what is typed or chosen is not touched."""

from collections.abc import Callable

from textual.widget import Widget
from textual.widgets import Static


class Worded(Widget):
    """A widget with words in it. `reword` runs when it is mounted and whenever the language changes."""

    def on_mount(self) -> None:
        """Textual calls this for each class of a widget, so subclasses may have their own."""
        self.reword()

    def reword(self) -> None:
        """Says everything anew."""


class Words(Static, Worded):
    """A text that is said anew in each language: `Words(lambda: say("Amount"))`. No markup."""

    def __init__(
        self,
        words: Callable[[], str],
        *,
        id: str | None = None,  # noqa: A002 - Textual's name
        classes: str | None = None,
    ) -> None:
        super().__init__("", id=id, classes=classes, markup=False)
        self._words = words

    def reword(self) -> None:
        """Says it."""
        self.update(self._words())

    def become(self, words: Callable[[], str]) -> None:
        """From now on it says something else."""
        self._words = words
        self.reword()
