"""Screens under test: a station that does only what a test says, what a screen shows, pictures to compare.

A picture is an SVG beside the test, in __snapshots__, compared to the letter. HARDWALLET_SNAPSHOTS=write
writes them anew; look at each before it is committed.
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
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


_STYLE = """<style>
text { font: 16px monospace; white-space: pre }
rect { shape-rendering: crispEdges }
.b { font-weight: bold }
</style>"""
CELL = (10, 20)
"""Width and height of one column and one line in a picture."""


def picture(app: App[Any]) -> str:
    """The screen as an SVG that fetches nothing and is the same wherever it is made."""
    wide, high = CELL
    width, height = app.size
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * wide} {height * high}">',
        _STYLE,
    ]
    for row, strip in enumerate(app.screen._compositor.render_strips(app.size)):
        column = 0
        for segment in strip:
            drawn += _drawn(segment, column, row)
            column += segment.cell_length
    return "\n".join([*drawn, "</svg>", ""])


def _drawn(segment: Segment, column: int, row: int) -> Iterator[str]:
    """A rectangle, and the words in it, each run of them where it begins."""
    wide, high = CELL
    style = segment.style or Style.null()
    front, back = _colour(style.color, "#ffffff"), _colour(style.bgcolor, "#000000")
    if style.reverse:
        front, back = back, front
    width = segment.cell_length * wide
    yield f'<rect x="{column * wide}" y="{row * high}" width="{width}" height="{high}" fill="{back}"/>'
    bold = ' class="b"' if style.bold else ""
    for run in re.finditer(r"\S+(?: \S+)*", segment.text):
        left = (column + cell_len(segment.text[: run.start()])) * wide
        place = f'x="{left}" y="{row * high + 15}" textLength="{cell_len(run[0]) * wide}"'
        yield f'<text {place} fill="{front}"{bold}>{escape(run[0])}</text>'


def _colour(colour: Color | None, otherwise: str) -> str:
    return otherwise if colour is None or colour.triplet is None else colour.triplet.hex


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
