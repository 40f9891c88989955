"""`hardwallet fares`: shows lines, stops and fares, from a fare file or a GTFS feed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.options import AsJson
from tui.output import report
from tui.text import cny, columns, facts, language, say, table, told, yuan

if TYPE_CHECKING:
    from hardwallet.riders import Rider
    from pos_terminal.fares import Direction, Line, Names, Network
    from pos_terminal.gtfs import Choices

app = typer.Typer(help="Show lines, stops and fares, from a fare file or a GTFS feed.")

FareFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A fare file (TOML), or a GTFS feed with Fares v2 (zip).")
]
AsCny = Annotated[
    bool,
    typer.Option("--as-cny", help="GTFS: take amounts in another currency as so many yuan, to try the feed."),
]
RiderCategories = Annotated[
    list[str] | None,
    typer.Option(
        "--rider-category",
        metavar="ID=CLASS",
        help="GTFS: what a rider category of the feed is to cards, as in 3=senior. May be given again.",
    ),
]
RiderWord = Annotated[
    str, typer.Option("--rider", metavar="CLASS", help="adult, student, senior, child or reduced.")
]

_WIDEST_TRIANGLE = 40
"""Stops of a direction that a triangle of fares is drawn for."""


def choices_of(as_cny: bool, rider_categories: Sequence[str] | None) -> "Choices":
    """What the options say about a feed. Raises BadUsage."""
    from pos_terminal.gtfs import Choices
    from tui.errors import BadUsage

    riders = {}
    for given in rider_categories or ():
        category, equals, word = given.rpartition("=")
        if not equals or not category:
            raise BadUsage(
                say("--rider-category is ID=CLASS, as in 3=senior, not '{given}'", given=given[:40])
            )
        riders[category] = rider_named(word)
    return Choices(riders, as_cny)


def rider_named(word: str) -> "Rider":
    """The rider class that a person named. Raises BadUsage."""
    from hardwallet.riders import Rider, rider_by_word
    from tui.errors import BadUsage

    rider = rider_by_word(word)
    if rider is None:
        raise BadUsage(
            say(
                "there is no rider class '{given}'; the classes are {all}",
                given=word[:40],
                all=", ".join(one.word for one in Rider),
            )
        )
    return rider


def rider_words(rider: "Rider") -> str:
    """A rider class as a person reads it."""
    from hardwallet.riders import Rider

    words = {
        Rider.ADULT: say("adult"),
        Rider.STUDENT: say("student"),
        Rider.SENIOR: say("senior"),
        Rider.CHILD: say("child"),
        Rider.REDUCED: say("reduced"),
    }
    return words[rider]


def open_network(path: Path, choices: "Choices") -> "Network":
    """The network in a file, with the progress on stderr. Raises FaresRefused."""
    from pos_terminal.gtfs import read_network
    from tui.progress import progress

    with progress(say("reading {file}", file=path.name)) as tell:
        return read_network(path, choices, progress=tell)


@app.command("check", epilog="Exit codes: 0 FILE is good; 1 it is not, or can't be read; 2 bad usage.")
def check(
    path: FareFile,
    as_cny: AsCny = False,
    rider_categories: RiderCategories = None,
    as_json: AsJson = False,
) -> None:
    """Say whether FILE is good, what it holds and what it leaves out.

    Example: hardwallet fares check city.toml
    """
    network = open_network(path, choices_of(as_cny, rider_categories))
    directions = [one for line in network.lines for one in line.directions]
    stops = {stop.id for direction in directions for stop in direction.stops}
    data = {
        "file": str(path),
        "lines": len(network.lines),
        "directions": len(directions),
        "stops": len(stops),
        "notes": list(network.notes),
    }
    lines = facts(
        [(say("lines"), len(network.lines)), (say("directions"), len(directions)), (say("stops"), len(stops))]
    )
    report(
        data, [*lines, *(say("Note: {text}.", text=told(note)) for note in network.notes)], as_json=as_json
    )


@app.command("show", epilog="Exit codes: 0 shown; 1 no such line, stop or fare; 2 bad usage.")
def show(
    path: FareFile,
    line: Annotated[str, typer.Option("--line", metavar="L", help="Show this line's stops and fares.")] = "",
    direction: Annotated[
        str, typer.Option("--direction", metavar="D", help="Show this direction of the line. Default: all.")
    ] = "",
    from_stop: Annotated[str, typer.Option("--from", metavar="STOP", help="Show one fare: from here.")] = "",
    to_stop: Annotated[str, typer.Option("--to", metavar="STOP", help="Show one fare: to here.")] = "",
    rider: RiderWord = "adult",
    as_cny: AsCny = False,
    rider_categories: RiderCategories = None,
    as_json: AsJson = False,
) -> None:
    """Show the lines of FILE, the stops and fares of one, or one fare.

    Example: hardwallet fares show city.toml --line 7 --from station --to park --rider student
    """
    from tui.errors import BadUsage

    if bool(from_stop) != bool(to_stop) or (from_stop and not line):
        raise BadUsage(say("one fare takes --line, --from and --to"))
    chosen = rider_named(rider)
    network = open_network(path, choices_of(as_cny, rider_categories))
    if not line:
        data, lines = {"lines": [_line_data(one) for one in network.lines]}, _list_of_lines(network)
    elif from_stop:
        data, lines = _one_fare(network.line(line), direction, from_stop, to_stop, chosen)
    else:
        data, lines = _whole_line(network.line(line), direction, chosen)
    report(data, lines, as_json=as_json)


def _told(names: "Names") -> str:
    return names.told(language())


def _line_data(line: "Line") -> dict[str, Any]:
    return {
        "id": line.id,
        "zh": line.name.zh,
        "en": line.name.en,
        "flat": line.is_flat,
        "directions": [
            {"id": one.id, "zh": one.name.zh, "en": one.name.en, "stops": len(one.stops)}
            for one in line.directions
        ],
    }


def _list_of_lines(network: "Network") -> list[str]:
    rows = [
        (line.id, _told(line.name), one.id, _told(one.name), len(one.stops))
        for line in network.lines
        for one in line.directions
    ]
    heads = [say("line"), say("name"), say("direction"), say("where to"), say("stops")]
    return table(heads, rows, right=(4,))


def _one_fare(
    line: "Line", direction: str, from_stop: str, to_stop: str, rider: "Rider"
) -> tuple[dict[str, Any], list[str]]:
    from pos_terminal.errors import NoSuchFare
    from pos_terminal.fares import fare_of

    ways = [line.direction(direction)] if direction else list(line.directions)
    refusal: NoSuchFare | None = None
    for way in ways:
        try:
            origin, destination = way.between(from_stop, to_stop)
            fare_fen = fare_of(line.fares(way, origin, destination), rider)
        except NoSuchFare as error:
            refusal = refusal or error
            continue
        data = {
            "line": line.id,
            "direction": way.id,
            "from": from_stop,
            "to": to_stop,
            "rider": rider.word,
            "fare_fen": fare_fen,
        }
        rows = [
            (say("line"), f"{_told(line.name)}, {_told(way.name)}"),
            (say("gets on at"), _told(way.stops[origin].name)),
            (say("gets off at"), _told(way.stops[destination].name)),
            (say("rider"), rider_words(rider)),
            (say("fare"), cny(fare_fen) if fare_fen else say("free")),
        ]
        return data, facts(rows)
    raise refusal or NoSuchFare(say("line {line} has no direction", line=line.id))


def _whole_line(line: "Line", direction: str, rider: "Rider") -> tuple[dict[str, Any], list[str]]:
    ways = [line.direction(direction)] if direction else list(line.directions)
    lines = [f"{_told(line.name)} ({line.id})"]
    for way in ways:
        lines += ["", f"{way.id}: {_told(way.name)}", *_stops_and_fares(line, way, rider)]
    data = _line_data(line) | {
        "rider": rider.word,
        "directions": [_direction_data(line, way, rider) for way in ways],
    }
    return data, lines


def _direction_data(line: "Line", way: "Direction", rider: "Rider") -> dict[str, Any]:
    stops = [{"id": stop.id, "zh": stop.name.zh, "en": stop.name.en} for stop in way.stops]
    return {
        "id": way.id,
        "zh": way.name.zh,
        "en": way.name.en,
        "stops": stops,
        "fares_fen": _triangle(line, way, rider),
    }


def _triangle(line: "Line", way: "Direction", rider: "Rider") -> list[list[int | None]]:
    """For each stop, the fares from all stops before it; None where the tariff gives none."""
    from pos_terminal.errors import NoSuchFare
    from pos_terminal.fares import fare_of

    def fare(origin: int, destination: int) -> int | None:
        try:
            return fare_of(line.fares(way, origin, destination), rider)
        except NoSuchFare:
            return None

    return [[fare(origin, place) for origin in range(place)] for place in range(len(way.stops))]


def _stops_and_fares(line: "Line", way: "Direction", rider: "Rider") -> list[str]:
    """The stops below each other, joined as on a plan; beside each the fares from the stops above it."""
    if line.is_flat or len(way.stops) > _WIDEST_TRIANGLE:
        fares = [""] * len(way.stops)
        if line.is_flat:
            fare_fen = _triangle(line, way, rider)[1][0] or 0
            price = cny(fare_fen) if fare_fen else say("free")
            fares[0] = say("{rider}: {price} to every stop", rider=rider_words(rider), price=price)
    else:
        fares = _drawn(_triangle(line, way, rider))
    width = max(columns(_told(stop.name)) for stop in way.stops)
    ids = max(columns(stop.id) for stop in way.stops)
    last = len(way.stops) - 1
    rows = []
    for place, stop in enumerate(way.stops):
        mark = "┬" if place == 0 else "┴" if place == last else "┼"
        name = _told(stop.name)
        gap = " " * (width - columns(name) + 2)
        pad = " " * (ids - columns(stop.id) + 2)
        rows.append(f"  {mark} {stop.id}{pad}{name}{gap}{fares[place]}".rstrip())
    return rows


def _drawn(triangle: list[list[int | None]]) -> list[str]:
    """Each row of a triangle of fares as text, its columns below each other; `-`: no fare."""
    cells = [["-" if fen is None else yuan(fen) for fen in row] for row in triangle]
    width = max((columns(cell) for row in cells for cell in row), default=0)
    return [" ".join(cell.rjust(width) for cell in row) for row in cells]
