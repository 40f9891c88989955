"""The driver's view: one coloured field with a picture, an amount and a word, as big as the window allows."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.content import Content

from tui.screens.layout import Face, compose
from tui.screens.words import Worded
from tui.signals import STYLES

if TYPE_CHECKING:
    from textual.app import RenderResult


class ValidatorView(Worded):
    """Shows one face; `become` changes it in place, `reword` says the same one anew."""

    def __init__(self, face: Callable[[], Face]) -> None:
        super().__init__(id="validator")
        self._say = face
        self.face = face()
        self._drawn: Face | None = None

    def become(self, face: Callable[[], Face]) -> None:
        """From now on this is shown."""
        self._say = face
        self.reword()

    def reword(self) -> None:
        """Says it anew, where there is anything new to say: drawing is what costs."""
        self.face = self._say()
        if self.face == self._drawn:
            return
        self._drawn = self.face
        for style in STYLES:
            self.set_class(style == self.face.style, f"-{style}")
        self.refresh()

    def render(self) -> "RenderResult":
        """The face in the present size; the word stands on a band of its own."""
        rows = compose(self.face, self.size.width, self.size.height)
        return Content("\n").join(
            Content.styled(row.text, "bold reverse") if row.strong else Content(row.text) for row in rows
        )
