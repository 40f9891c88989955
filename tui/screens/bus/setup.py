"""Which fares a bus drives by, and with which line it begins: those of the command line, of the terminal's
settings, or of the example town in a simulated world. No Textual."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hardwallet.riders import Rider
from pos_terminal.fare_file import example_network
from pos_terminal.fares import Direction, Flat, Line, Names, Network, Stop
from pos_terminal.gtfs import Choices, read_network
from tui.backing import Backing
from tui.errors import BadUsage
from tui.text import say

Progress = Callable[[int, int], None]
"""Told how many bytes of how many have been read."""

FLAT_LINE: Final = "flat"
_STOPS: Final = (Stop("begin", Names("起点", "Start")), Stop("end", Names("终点", "End")))


@dataclass(frozen=True, slots=True)
class Setup:
    """`read` may take long, tells how far it is, and raises FaresRefused. `line` and `direction` are ids, or
    nothing. `begin`: whether a run begins by itself."""

    read: Callable[[Progress], Network]
    line: str
    direction: str
    begin: bool


def setup_of(
    backing: Backing, fares: Path | None, line: str, direction: str, amount_fen: int | None = None
) -> Setup:
    """What was asked for, without reading any fares. Raises BadUsage where no fares are named."""
    if amount_fen is not None:
        if fares is not None or line or direction:
            raise BadUsage(say("--amount is one fare for everybody: it goes without --fares and --line"))
        return Setup(lambda _tell: flat_network(amount_fen), "", "", begin=True)
    if backing.playground is not None:
        if fares is None:
            return Setup(lambda _tell: example_network(), line, direction, begin=True)
        return Setup(_reading(fares, Choices(as_cny=True)), line, direction, begin=True)
    settings, folder = backing.session.folder.settings, backing.session.folder.path
    if fares is None and not settings.fares:
        raise BadUsage(
            say(
                "no fares are named: give --fares FILE (a fare file or a GTFS zip), or name one behind "
                '"fares" in {settings}; --amount 2.00 takes one fare from everybody',
                settings=folder / "settings.json",
            )
        )
    return Setup(
        _reading(fares or folder / settings.fares), line or settings.line, direction, begin=bool(line)
    )


def _reading(path: Path, choices: Choices | None = None) -> Callable[[Progress], Network]:
    """Money that is simulated may be any currency's; a terminal's own fares are in its own."""
    return lambda tell: read_network(path, choices, progress=tell)


def flat_network(amount_fen: int) -> Network:
    """One line without a timetable: everybody pays the same, whatever the class."""
    direction = Direction(FLAT_LINE, Names("单一票价", "one fare"), _STOPS)
    return Network((Line(FLAT_LINE, Names("公交", "Bus"), (direction,), Flat({Rider.ADULT: amount_fen})),))
