"""Screens under test: a station that does only what a test says, what a screen shows, pictures to compare.

A picture is an SVG beside the test, in __snapshots__, compared to the letter. HARDWALLET_SNAPSHOTS=write
writes them anew; look at each before it is committed.
"""

import asyncio
import io
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console
from textual.app import App
from textual.pilot import Pilot

from fleet.playground import PIN, TRAY, TearPlace
from fleet.station import Event, Freshness, Health, Network, Status, Task
from fleet.uplink import Uplink
from tui.backing import Backing
from tui.text import LOCAL_ZONE

NOON_S = 1_750_046_400
"""2025-06-16 12:00:00 in China: the time of every test that has no reason for another."""
LIMIT_S = 20.0
"""How long a test waits for what must come. Never how long something takes."""
SIZES = ((80, 24), (120, 40))
LANGUAGES = ("en", "zh")

Script = Callable[[Pilot[Any]], Awaitable[None]]


def drive(app: App[Any], script: Script, size: tuple[int, int] = (80, 24)) -> None:
    """Runs the app without a terminal while the script presses its keys."""

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(pilot)

    asyncio.run(run())


async def until(pilot: Pilot[Any], reached: Callable[[], object], what: str = "") -> None:
    """Waits until it is so; fails when it takes too long to be true."""
    limit = time.monotonic() + LIMIT_S
    while not reached():
        if time.monotonic() > limit:
            raise AssertionError(f"never reached: {what}\n{shown(pilot.app)}")
        await pilot.pause(0.01)
    await pilot.pause()


def shown(app: App[Any]) -> str:
    """The text of the screen, line by line, without blanks at the ends."""
    strips = app.screen._compositor.render_strips(app.size)
    lines = ("".join(segment.text for segment in strip).rstrip() for strip in strips)
    return "\n".join(lines).rstrip("\n")


_SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
<rect width="{terminal_width}" height="{terminal_height}" x="{terminal_x}" y="{terminal_y}" fill="#000"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def picture(app: App[Any]) -> str:
    """The screen as an SVG that fetches nothing and is the same wherever it is made."""
    width, height = app.size
    console = Console(
        width=width,
        height=height,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        record=True,
        legacy_windows=False,
        safe_box=False,
    )
    console.print(app.screen._compositor.render_update(full=True))
    return console.export_svg(code_format=_SVG, unique_id="t")


def compare(app: App[Any], where: Path) -> None:
    """Compares the screen with the picture in that file, or writes it when that is asked for."""
    drawn = picture(app)
    if os.environ.get("HARDWALLET_SNAPSHOTS") == "write":
        where.parent.mkdir(exist_ok=True)
        where.write_text(drawn, encoding="utf-8")
        return
    if not where.exists():
        raise AssertionError(f"no picture {where.name}: look at the screen, then HARDWALLET_SNAPSHOTS=write")
    if where.read_text(encoding="utf-8") != drawn:
        raise AssertionError(f"the screen differs from {where.name}:\n{shown(app)}")


# ------------------------------------------------------------------------------- a station as a test wants it

WELL = Status(
    reader=Health(True, "ready", "the reader waits for a card"),
    network=Network.ONLINE,
    network_reason="",
    waiting_count=0,
    waiting_fen=0,
    oldest_s=None,
    carried=0,
    review=0,
    locked="",
    denylist_age_s=7200,
    denylist=Freshness.FRESH,
    clock_offset_s=1,
    open_sale=None,
    now_s=NOON_S,
)
"""All is well and nothing waits."""


class FakeStation:
    """Does nothing by itself; remembers what it was asked for, and posts what a test gives it."""

    def __init__(self, session: Any, field: Any, post: Callable[[Event], None], **_options: Any) -> None:
        self.session = session
        self.post = post
        self.task: Task | None = None
        self.asked: list[tuple[object, ...]] = []
        self.now = WELL
        self.willing = True
        self.closing: Callable[[], None] = lambda: None

    def start(self) -> None:
        self.asked.append(("start",))

    def close(self, timeout_s: float = 0.0) -> None:
        self.closing()
        self.asked.append(("close",))

    def want(self, task: Task | None) -> bool:
        self.asked.append(("want", task))
        if self.willing:
            self.task = task
        return self.willing

    def enter_pin(self, pin: str) -> None:
        self.asked.append(("enter_pin", pin))

    def give_up(self, reason: str) -> None:
        self.asked.append(("give_up", reason))

    def forward(self) -> None:
        self.asked.append(("forward",))

    def set_network(self, on: bool) -> None:
        self.asked.append(("set_network", on))

    def note_health(self, word: str, sentence: str) -> None:
        self.asked.append(("note_health", word, sentence))

    def status(self) -> Status:
        return self.now


class FakePlayground:
    """A tray that remembers what was done with it."""

    def __init__(self) -> None:
        self.tray = list(TRAY)
        self.pin = PIN
        self.tear = TearPlace.OFF
        self.uplink = Uplink("")
        self.done: list[tuple[object, ...]] = []

    def tap(self, place: int) -> None:
        self.done.append(("tap", place))

    def two_cards(self) -> None:
        self.done.append(("two",))

    def set_tear(self, place: TearPlace) -> None:
        self.tear = place

    def set_network(self, on: bool) -> None:
        self.uplink.switch(on)

    def set_busy(self, riders_a_second: float) -> None:
        self.done.append(("busy", riders_a_second))


def backing(playground: FakePlayground | None = None, session: Any = None) -> Backing:
    """Nothing real behind a screen; the clock stands at noon."""
    return Backing(
        cast("Any", session or SimpleNamespace(terminal=SimpleNamespace(zone=LOCAL_ZONE))),
        cast("Any", None),
        None,
        cast("Any", playground),
        lambda: NOON_S,
    )
