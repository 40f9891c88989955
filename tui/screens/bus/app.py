"""The bus's program: one `Driving` for its screen, and a thread for its errands."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from textual.message import Message
from textual.types import CSSPathType

from fleet.station_events import Event, Inspected
from tui.backing import Backing
from tui.screens import themes
from tui.screens.bus.driving import Driving
from tui.screens.bus.errands import Errands
from tui.screens.bus.screen import BusScreen
from tui.screens.bus.setup import Setup, setup_of
from tui.screens.frame import FRAME_CSS, StationApp, StationScreen


class Drove(Message):
    """An errand is done: what is shown may have changed."""


class ErrandBroke(Message):
    """A defect of this program, met in the errands' thread."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class BusApp(StationApp):
    """A bus driver's validator. `close` it when it has ended."""

    CSS_PATH: ClassVar[CSSPathType | None] = [FRAME_CSS, Path(__file__).with_name("bus.tcss")]
    has_riders = True

    def __init__(
        self, backing: Backing, setup: Setup, *, theme: str = themes.DARK, mute: bool = False
    ) -> None:
        super().__init__(backing, theme=theme, mute=mute)
        self._setup = setup
        self.errands = Errands(lambda error: self._tell(ErrandBroke(error)))
        self.driving = Driving(self.station, backing.session, self.errands.hand, lambda: self._tell(Drove()))

    def _tell(self, message: Message) -> None:
        self.post_message(message)

    def first_screen(self) -> StationScreen:
        """The only one."""
        return BusScreen(self.driving)

    def on_mount(self) -> None:
        """The fares are read while the screen is there already."""
        self.driving.open(self._setup)

    def take(self, event: Event) -> None:
        """Each event once, whatever screens are open. The frame rings for taps only."""
        self.driving.take(event)
        if isinstance(event, Inspected):
            self.ring(self.driving.face().bells)

    def on_drove(self, _message: Drove) -> None:
        """Show it."""
        for screen in self.screen_stack:
            if isinstance(screen, BusScreen) and screen.is_mounted:
                screen.told()
        self.refresh_keys()

    def on_errand_broke(self, message: ErrandBroke) -> None:
        """As a defect anywhere else: the screen ends, and the program says it."""
        raise message.error

    def close(self) -> None:
        """What was begun is done; then the run's file is let go. The station has to be closed before."""
        self.driving.give_way()
        self.errands.close()
        self.driving.close()


@contextmanager
def open_bus(
    backing: Backing,
    *,
    theme: str = themes.DARK,
    mute: bool = False,
    fares: Path | None = None,
    line: str = "",
    direction: str = "",
    amount_fen: int | None = None,
) -> Iterator[BusApp]:
    """The program of a bus, to be run while this is open. Raises BadUsage where no fares are named."""
    app = BusApp(backing, setup_of(backing, fares, line, direction, amount_fen), theme=theme, mute=mute)
    try:
        yield app
    finally:
        app.close()
