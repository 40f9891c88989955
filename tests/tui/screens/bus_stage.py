"""A bus under test: a simulated world with its tray, and taps as a station would tell them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from fleet.playground import Playground
from hardwallet.records import TRANSIT
from hardwallet.riders import Rider
from pos_terminal.run import Counts
from pos_terminal.run_store import RUN_FILE
from pos_terminal.sale import Sale
from pos_terminal.visit import Outcome, Tap
from tests.tui.screens.stage import NOON_S, shown, until
from tui.backing import Backing
from tui.screens.bus.app import BusApp, open_bus
from tui.screens.bus.screen import BusScreen
from tui.screens.layout import spaced
from tui.screens.widgets.key_bar import KeyBar

ADULT, STUDENT, SENIOR, EMPTY, BLOCKED, CLONED, FOREIGN, WITH_PIN, DENIED = range(1, 10)
"""Keys of the tray."""

CARD = bytes.fromhex("0000010100000007")
COUNTS = Counts(
    dict.fromkeys(Rider, 0) | {Rider.ADULT: 12, Rider.STUDENT: 3, Rider.SENIOR: 1}, 1, 2700, 2, 1, 1
)
LIES_S = 0.02


def quick(world: Playground) -> Playground:
    """Cards leave at once, so that nobody waits."""
    hand, cards = world._hand, world._cards
    world.tap = lambda place: hand.lay(cards[place], LIES_S)  # type: ignore[method-assign]
    return world


def backing_of(world: Playground, **changes: Any) -> Backing:
    return replace(Backing(world.session, world.field, world.uplink, world), **changes)


@contextmanager
def bus_of(world: Playground, *, keep_run: bool = False, **changes: Any) -> Iterator[BusApp]:
    """The program on that world; unless it is to be kept, no earlier run is under way. The rest is what
    `open_bus` and a Backing take."""
    if not keep_run:
        (world.session.folder.path / RUN_FILE).unlink(missing_ok=True)
    asked = {
        name: changes.pop(name) for name in ("fares", "line", "direction", "amount_fen") if name in changes
    }
    with open_bus(backing_of(world, **changes), mute=True, **asked) as app:
        try:
            yield app
        finally:
            app.station.close()


def a_tap(outcome: Outcome, amount_fen: int = 200, **changes: Any) -> Tap:
    sale = Sale(b"reference-01", amount_fen, 0x0156, TRANSIT, 4711, NOON_S, card=CARD)
    return Tap(outcome, sale=sale, **({"rider": Rider.ADULT} | changes))


class Driver:
    """Somebody who presses keys and reads the screen."""

    def __init__(self, pilot: Pilot[Any]) -> None:
        self.pilot = pilot
        self.app: BusApp = pilot.app  # type: ignore[assignment]

    @property
    def screen(self) -> BusScreen:
        return next(screen for screen in self.app.screen_stack if isinstance(screen, BusScreen))

    @property
    def word(self) -> str:
        """The word of the driver's view."""
        return self.app.driving.face().word

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def see(self, *texts: str) -> None:
        """Waits until all of it is on the screen."""
        await until(self.pilot, lambda: all(text in shown(self.app) for text in texts), " and ".join(texts))

    async def view(self, word: str) -> None:
        """Waits until the driver's view says that word, as it is drawn."""
        await until(self.pilot, lambda: self.word == word and spaced(word) in shown(self.app), word)

    async def tap(self, card: int, word: str) -> None:
        """A card of the tray is presented; its result stands; the card has left."""
        with self.unhurried():
            await self.press(str(card))
            await self.view(word)
            await until(self.pilot, lambda: self.app.driving.lingers, "the card has left")

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """A result stays until it has been looked at: on a busy machine its own time may be over before."""
        screen, waiting = self.screen, []
        held = True

        def calm() -> None:
            if held:
                waiting.append(True)
            else:
                BusScreen._calm(screen)

        screen._calm = calm  # type: ignore[method-assign]
        yield
        held = False
        if waiting:
            BusScreen._calm(screen)

    async def settle(self) -> None:
        """All errands are done, also those that an event has brought, and all that they changed is drawn."""
        for _ in range(2):
            done = threading.Event()
            self.app.errands.hand(self._marking(done))
            await until(self.pilot, done.is_set, "the errands")
        await until(self.pilot, lambda: self.screen._listing is None, "the lists")
        for _ in range(2):  # what a pause brings may change the keys once more
            await until(self.pilot, lambda: all(map(is_laid_out, self.bars())), "the bar of keys")

    def bars(self) -> list[KeyBar]:
        """The bar of keys, where the screen shows one: a dialog has none, a small window hides it."""
        return [bar for bar in self.app.screen.query(KeyBar) if bar.size.width]

    def _marking(self, done: threading.Event) -> Callable[[], None]:
        """An errand that is over when the app has worked off what came before it."""

        def mark() -> None:
            self.app.call_later(done.set)

        return mark

    async def running(self) -> None:
        """A run is under way."""
        await self.settle()
        await until(self.pilot, lambda: self.app.driving.sight is not None, "a run")


def is_laid_out(bar: KeyBar) -> bool:
    """Whether the bar has the lines that its keys take; they change with what can be done."""
    shown = [(key.shown, key.word(), action) for key, action in bar.app.keys_now(bar.screen) if not key.quiet]  # type: ignore[attr-defined]
    return shown == bar._shown and bar.size.height == len(bar._rows(bar.size.width))


def fares_file(folder: Path, text: str) -> Path:
    path = folder / "fares.toml"
    path.write_text(text, encoding="utf-8")
    return path
