"""Which fares a bus drives by, and with which line it begins: those of the command line, of the terminal's
settings, or of the example town in a simulated world. No Textual."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.rides import network_of
from hardwallet.riders import Rider
from pos_terminal.fare_file import example_network
from pos_terminal.fares import Direction, Flat, Line, Names, Network, Stop
from tui.backing import Backing
from tui.errors import BadUsage
from tui.text import say

FLAT_LINE: Final = "flat"
_STOPS: Final = (Stop("begin", Names("起点", "Start")), Stop("end", Names("终点", "End")))


@dataclass(frozen=True, slots=True)
class Setup:
    """`read` may take long and raises FaresRefused. `line` and `direction` are ids, or nothing. `begin`:
    whether a run begins by itself."""

    read: Callable[[], Network]
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
        return Setup(lambda: flat_network(amount_fen), "", "", begin=True)
    if backing.playground is not None:
        read = example_network if fares is None else lambda: network_of(backing.session, fares)
        return Setup(read, line, direction, begin=True)
    settings = backing.session.folder.settings
    if fares is None and not settings.fares:
        raise BadUsage(
            say(
                "no fares are named: give --fares FILE (a fare file or a GTFS zip), or name one behind "
                '"fares" in {settings}; --amount 2.00 takes one fare from everybody',
                settings=backing.session.folder.path / "settings.json",
            )
        )
    return Setup(
        lambda: network_of(backing.session, fares), line or settings.line, direction, begin=bool(line)
    )


def flat_network(amount_fen: int) -> Network:
    """One line without a timetable: everybody pays the same, whatever the class."""
    direction = Direction(FLAT_LINE, Names("单一票价", "one fare"), _STOPS)
    return Network((Line(FLAT_LINE, Names("公交", "Bus"), (direction,), Flat({Rider.ADULT: amount_fen})),))
