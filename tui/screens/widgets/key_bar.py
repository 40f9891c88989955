"""The bar of keys: what can be done now, by key and by mouse, in as many lines as it takes, two at most."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from textual.content import Content
from textual.css.scalar import Scalar
from textual.events import Resize
from textual.screen import Screen

from tui.screens.words import Worded
from tui.text import columns

if TYPE_CHECKING:
    from textual.app import RenderResult

    from tui.screens.frame import StationApp

_LINES = 2
_GAP = "  "


def lines_of(keys: Iterable[tuple[str, str]], width: int, lines: int = _LINES) -> list[list[tuple[str, str]]]:
    """Keys and words, spread over lines of that many columns.

    Where there is no room for all, those before the last are left out: the last is the way out.
    """
    left = list(keys)
    while len(rows := _spread(left, width)) > lines and len(left) > 1:
        del left[-2]
    return rows


def _spread(keys: list[tuple[str, str]], width: int) -> list[list[tuple[str, str]]]:
    rows: list[list[tuple[str, str]]] = [[]]
    used = 0
    for shown, word in keys:
        wanted = columns(shown) + 1 + columns(word)
        if rows[-1] and used + len(_GAP) + wanted > width:
            rows.append([])
            used = 0
        used += wanted + (len(_GAP) if rows[-1] else 0)
        rows[-1].append((shown, word))
    return rows


class KeyBar(Worded):
    """Shows the keys of its screen, then the program's. As high as it has to be, at whatever width."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[tuple[str, str, str]] = []

    def on_mount(self) -> None:
        """Follows what the screen allows."""
        self.screen.bindings_updated_signal.subscribe(self, self._follow)

    def reword(self) -> None:
        """Says the keys anew."""
        self._follow()

    def on_resize(self, event: Resize) -> None:
        """Another width takes another number of lines."""
        self._fit(event.size.width)

    def _fit(self, width: int) -> None:
        """As high as it has to be. Said to the layout, which by itself keeps a height that it once knew."""
        height = len(self._rows(width)) if width else 1
        if self.styles.height != Scalar.from_number(height):
            self.styles.height = height

    def render(self) -> "RenderResult":
        """The lines, each key a place to click on."""
        actions = {(key, word): action for key, word, action in self._shown}
        lines = []
        for row in self._rows(self.size.width):
            keys = [
                Content.from_markup(
                    f"[@click={actions[shown]}][b]$shown[/] $word[/]", shown=shown[0], word=shown[1]
                )
                for shown in row
            ]
            lines.append(Content(_GAP).join(keys))
        return Content("\n").join(lines)

    def _rows(self, width: int) -> list[list[tuple[str, str]]]:
        return lines_of([(key, word) for key, word, _ in self._shown], width)

    def _follow(self, _screen: Screen[Any] | None = None) -> None:
        app = cast("StationApp", self.app)
        shown = [
            (key.shown, key.word(), action) for key, action in app.keys_now(self.screen) if not key.quiet
        ]
        if shown != self._shown:
            self._shown = shown
            self._fit(self.size.width)
            self.refresh()
