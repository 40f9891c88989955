"""`python -m scripts.pictures [FOLDER]`: README's pictures of the screens, drawn by the running programs.

The real apps run in a simulated world whose time and entropy are fixed, so that the same program always draws
the same picture. They go to docs/pictures, or to FOLDER.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from textual.pilot import Pilot

from fleet.playground import Kind, TearPlace, open_playground
from tests.offline_sync.factory import Stream
from tests.tui.screens.stage import NOON_S, picture, shown, until
from tui.backing import Backing
from tui.screens.bus.app import open_bus
from tui.screens.cashier.app import open_cashier
from tui.screens.frame import StationApp
from tui.text import say, set_language

PICTURES: Final = Path(__file__).resolve().parents[1] / "docs" / "pictures"
LANGUAGES: Final = ("en", "zh")
SIZE: Final = (80, 24)

Story = Callable[[Pilot[Any], StationApp], Awaitable[None]]


async def see(pilot: Pilot[Any], *words: str) -> None:
    """Wait until the words stand on the screen; blanks count for nothing."""
    wanted = ["".join(word.split()) for word in words]
    await until(
        pilot,
        lambda: all(word in "".join(shown(pilot.app).split()) for word in wanted),
        " ".join(words),
    )


async def a_sale(pilot: Pilot[Any], app: StationApp) -> None:
    """12.50, paid."""
    await see(pilot, say("Type the amount"))
    await pilot.press(*"12.50", "enter")
    await see(pilot, say("Present the card"))
    await pilot.press("1")
    await see(pilot, "187.50")
    await until(pilot, partial(_is_waiting, app, 1))


async def a_torn_sale(pilot: Pilot[Any], app: StationApp) -> None:
    """33.00, and the card left before its answer came."""
    await a_sale(pilot, app)
    if app.playground is not None:
        app.playground.set_tear(TearPlace.AFTER_PAY)
    await pilot.press(*"33", "enter")
    await see(pilot, say("Present the card"))
    await pilot.press("1")
    await see(pilot, say("Present the same card again"), "33.00")


async def a_ride(pilot: Pilot[Any], app: StationApp) -> None:
    """An adult and a student got on; the student's result stands."""
    for riders, key in enumerate(("1", "2"), 1):
        await see(pilot, say("Present the card"))
        await pilot.press(key)
        await until(pilot, partial(_is_waiting, app, riders))
    await see(pilot, "49.00", "3.00")


def _is_waiting(app: StationApp, payments: int) -> bool:
    """Whether the bar tells of so many payments."""
    return app.status.waiting_count == payments


TAKEN: Final[dict[str, tuple[Kind, Story]]] = {
    "till-approved": ("cashier", a_sale),
    "till-torn": ("cashier", a_torn_sale),
    "bus-approved": ("bus", a_ride),
}


def take(kind: Kind, story: Story, language: str) -> str:
    """The picture at the story's end, as SVG."""
    set_language(language)
    drawn: list[str] = []
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="pictures-")))
        world = running.enter_context(
            open_playground(
                kind, clock=lambda: NOON_S, entropy=Stream("pictures"), folder=folder, clearing=False
            )
        )
        backing = Backing(world.session, world.field, world.uplink, world, lambda: NOON_S)
        app = running.enter_context((open_cashier if kind == "cashier" else open_bus)(backing))

        async def run() -> None:
            async with app.run_test(size=SIZE) as pilot:
                await pilot.pause()
                await story(pilot, app)
                drawn.append(picture(app))

        try:
            asyncio.run(run())
        finally:
            app.station.close()
    return drawn[0]


def main(folder: Path = PICTURES) -> None:
    """Take them all."""
    for name, (kind, story) in TAKEN.items():
        for language in LANGUAGES:
            path = folder / f"{name}.{language}.svg"
            path.write_text(take(kind, story, language), encoding="utf-8")
            print(path.name, flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
