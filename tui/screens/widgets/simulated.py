"""The bar of a simulated world: says so always, and offers its cards, its tears, its network."""

from typing import TYPE_CHECKING, cast

from textual.content import Content
from textual.widgets import Static

from fleet.playground import Playground
from tui.plain.tray import SIMULATED, card_word, tear_word
from tui.screens.words import Worded
from tui.text import columns, say

if TYPE_CHECKING:
    from textual.app import RenderResult

    from tui.screens.frame import StationApp


class SimulatedBar(Static, Worded):
    """Two lines: that it is simulated and how; and the tray of cards, each with its key."""

    def __init__(self, playground: Playground) -> None:
        super().__init__("", markup=False)
        self._playground = playground

    def reword(self) -> None:
        """Says it anew."""
        self.refresh()

    def told(self) -> None:
        """Something of the world changed."""
        self.refresh()

    def render(self) -> "RenderResult":
        """The two lines; what does not fit falls off at the right."""
        width = self.size.width
        return Content("\n").join([_line(self._state(), width), _line(self._tray(), width)])

    def _state(self) -> list[tuple[str, str]]:
        app = cast("StationApp", self.app)
        world = self._playground
        parts = [(SIMULATED, "")]
        if not app.has_riders:  # no fare asks for a PIN
            # fits: 12 pin=271828
            parts.append((say("PIN {pin}", pin=world.pin), ""))
        parts.append((f"F6 {tear_word(world.tear)}", "app.tear"))
        # fits: 12
        network = say("network on") if world.uplink.on else say("network off")
        parts.append((f"F7 {network}", "app.network"))
        if app.has_riders:
            # fits: 11 count=5
            riders = say("{count} riders/s", count=app.riders_a_second)
            parts.append((f"F8 {riders}", "app.busy"))
        # fits: 10
        return [*parts, (f"0 {say('two cards')}", "app.tray(0)")]

    def _tray(self) -> list[tuple[str, str]]:
        return [
            (f"{place} {card_word(card.name)}", f"app.tray({place})")
            for place, card in enumerate(self._playground.tray[:9], 1)
        ]


def _line(parts: list[tuple[str, str]], width: int) -> Content:
    """Texts with what a click on each does, with two blanks between where there is room for them."""
    gap = "  " if sum(columns(text) + 2 for text, _ in parts) - 2 <= width else " "
    drawn: list[Content] = []
    used = 0
    for text, action in parts:
        used += columns(text) + (len(gap) if drawn else 0)
        if used > width:
            break
        click = f"[@click={action}]$text[/]" if action else "$text"
        drawn.append(Content.from_markup(click, text=text))
    return Content(gap).join(drawn)
