"""The bar of a simulated world: says so always, and offers its cards, its tears, its network."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, cast

from fleet.playground import Playground, TearPlace
from textual.content import Content
from textual.widgets import Static

from tui.screens.words import Worded
from tui.text import columns, say

if TYPE_CHECKING:
    from textual.app import RenderResult

    from tui.screens.frame import StationApp

SIMULATED: Final = "SIMULATED 模拟"
"""In both languages at once, so that nobody takes it for money."""


def _adult() -> str:
    # fits: 10
    return say("adult")


def _student() -> str:
    # fits: 10
    return say("student")


def _empty() -> str:
    # fits: 10
    return say("empty")


def _blocked() -> str:
    # fits: 10
    return say("blocked")


def _cloned() -> str:
    # fits: 10
    return say("cloned")


def _foreign() -> str:
    # fits: 10
    return say("foreign")


def _with_pin() -> str:
    # fits: 10
    return say("PIN")


CARDS: Final[Mapping[str, Callable[[], str]]] = {
    "adult": _adult,
    "student": _student,
    "empty": _empty,
    "blocked": _blocked,
    "cloned": _cloned,
    "foreign": _foreign,
    "pin": _with_pin,
}


def card_word(name: str) -> str:
    """A card of the tray, in a word; a name that nobody translated stays as it is."""
    word = CARDS.get(name)
    return word() if word is not None else name


def _whole() -> str:
    # fits: 22
    return say("no tear")


def _at_select() -> str:
    # fits: 22
    return say("tear at greeting")


def _before_pay() -> str:
    # fits: 22
    return say("tear before paying")


def _after_pay() -> str:
    # fits: 22
    return say("tear after paying")


def _before_ratify() -> str:
    # fits: 22
    return say("tear before receipt")


TEARS: Final[Mapping[str, Callable[[], str]]] = {
    "OFF": _whole,
    "AT_SELECT": _at_select,
    "BEFORE_PAY": _before_pay,
    "AFTER_PAY": _after_pay,
    "BEFORE_RATIFY": _before_ratify,
}


def tear_word(place: TearPlace) -> str:
    """Where the next tap is torn, in words."""
    return TEARS[place.name]()


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
        return Content("\n").join([self._line(self._state(), width), self._line(self._tray(), width)])

    def _line(self, parts: list[tuple[str, str]], width: int) -> Content:
        drawn: list[Content] = []
        used = 0
        for text, action in parts:
            wanted = columns(text) + (2 if drawn else 0)
            if used + wanted > width:
                break
            used += wanted
            if action:
                drawn.append(Content.from_markup(f"[@click={action}]$text[/]", text=text))
            else:
                drawn.append(Content(text))
        return Content("  ").join(drawn)

    def _state(self) -> list[tuple[str, str]]:
        app = cast("StationApp", self.app)
        parts = [(SIMULATED, "")]
        if self._playground.pin:
            # fits: 12
            parts.append((say("PIN {pin}", pin=self._playground.pin), ""))
        parts.append((f"F6 {tear_word(app.tear)}", "app.tear"))
        # fits: 14
        network = say("network on") if app.network_on else say("network off")
        parts.append((f"F7 {network}", "app.network"))
        if app.has_riders:
            # fits: 20
            riders = say("{count} riders a second", count=app.riders_a_second)
            parts.append((f"F8 {riders}", "app.busy"))
        return parts

    def _tray(self) -> list[tuple[str, str]]:
        cards = [
            (f"{place} {card_word(card.name)}", f"app.tray({place})")
            for place, card in enumerate(self._playground.tray[:9], 1)
        ]
        # fits: 12
        return [*cards, (f"0 {say('two cards')}", "app.tray(0)")]
