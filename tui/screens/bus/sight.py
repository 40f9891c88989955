"""What the driver sees of the run under way, worked out once and then only shown; its words. No Textual.

Working it out may wait for the run's lock, and so for a slow disk: it is for a worker. Showing never waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hardwallet.riders import Rider
from pos_terminal.errors import NoSuchFare
from pos_terminal.fares import Names, Network, Stop, fare_of
from pos_terminal.run import Counts, Run, RunReport
from pos_terminal.tap import Tap
from tui.screens.bus.faces import name_of, of_tap, rider_word
from tui.text import facts, harmless, say, when, yuan

_VEHICLE: Final = "ascii"


@dataclass(frozen=True, slots=True)
class Sight:
    """A run at one moment. `place` of the current stop and `destination` count from 0; amounts are fen.

    `fares` is what a card of each class pays now; `to` an adult's fare to each stop ahead, by its place.
    `more`: how many further riders wait to be paid for.
    """

    line_id: str
    direction_id: str
    line: Names
    direction: Names
    number: int
    stops: tuple[Stop, ...]
    place: int
    destination: int | None
    is_flat: bool
    fares: Mapping[Rider, int]
    to: Mapping[int, int]
    more: int
    counts: Counts

    @property
    def fare_fen(self) -> int:
        """What an adult pays now."""
        return self.fares[Rider.ADULT]

    @property
    def origin(self) -> int:
        """The place from which fares are worked out: at the last stop, the one before it."""
        return min(self.place, len(self.stops) - 2)


def sight_of(run: Run) -> Sight:
    """The run as it is now. Raises NoSuchFare."""
    place, destination = run.place, run.destination
    origin = min(place, len(run.stops) - 2)
    ahead = run.destinations
    return Sight(
        run.line.id,
        run.direction.id,
        run.line.name,
        run.direction.name,
        run.number,
        run.stops,
        place,
        origin + 1 + ahead.index(destination) if destination in ahead else None,
        run.line.is_flat,
        run.fares(),
        {} if run.line.is_flat else _fares_to(run, origin),
        run.more,
        run.counts,
    )


def _fares_to(run: Run, origin: int) -> dict[int, int]:
    found = {}
    for place in range(origin + 1, len(run.stops)):
        try:
            found[place] = fare_of(run.line.fares(run.direction, origin, place), Rider.ADULT)
        except NoSuchFare:
            continue  # not for sale; it can't be chosen
    return found


def route_words(sight: Sight) -> tuple[str, str]:
    """Line and direction; the run."""
    route = say("{line} · {direction}", line=name_of(sight.line), direction=name_of(sight.direction))
    # fits: 14
    return route, say("Run {number}", number=sight.number)


def stop_words(sight: Sight) -> tuple[str, str]:
    """The current stop and the next one."""
    here = say(
        "Stop {place}/{count}: {stop}",
        place=sight.place + 1,
        count=len(sight.stops),
        stop=name_of(sight.stops[sight.place].name),
    )
    if sight.place + 1 == len(sight.stops):
        # fits: 24
        return here, say("Last stop")
    return here, say("Next: {stop}", stop=name_of(sight.stops[sight.place + 1].name))


def destination_words(sight: Sight) -> str:
    """Where the next rider goes, and that nobody said it; empty where every ride costs the same."""
    if sight.is_flat:
        return ""
    if sight.destination is None:
        return say("to any stop: highest fare")
    return say("to {stop}", stop=name_of(sight.stops[sight.destination].name))


@dataclass(frozen=True, slots=True)
class StopRow:
    """A row of the list of stops."""

    place: int
    left: str
    right: str
    here: bool
    chosen: bool


def stop_rows(sight: Sight, height: int) -> list[StopRow]:
    """As many stops as rows, the current one among them and most of the rest ahead."""
    first = max(0, min(sight.place - 1, len(sight.stops) - height))
    rows = []
    for place, stop in list(enumerate(sight.stops))[first : first + height]:
        fare = yuan(sight.to[place]) if place in sight.to else ""
        mark = "▶" if place == sight.place else " "
        aim = "◀" if place == sight.destination else " "
        rows.append(
            StopRow(
                place,
                f"{mark}{place + 1:>3} {name_of(stop.name)}",
                f"{fare}{aim}",
                place == sight.place,
                place == sight.destination,
            )
        )
    return rows


def class_rows(counts: Counts) -> list[tuple[str, int]]:
    """Each rider class with how many have ridden, those with none left out, but adults always."""
    return [
        (rider_word(rider), count)
        for rider, count in sorted(counts.riders.items())
        if count or rider is Rider.ADULT
    ]


def count_words(counts: Counts) -> str:
    """Riders by class and all of them, in one line."""
    parts = [f"{word} {count}" for word, count in class_rows(counts)]
    return " · ".join([*parts, say("All {count}", count=counts.total)])


def sum_words(counts: Counts) -> str:
    """The money of the run, and what was not taken."""
    # fits: 24
    money = say("CNY {amount}", amount=yuan(counts.amount_fen))
    if not counts.refused:
        return money
    # fits: 24
    return say("{money} · ✗ {count}", money=money, count=counts.refused)


def last_words(tap: Tap) -> str:
    """The last result, in small."""
    face = of_tap(tap)
    parts = [f"{face.symbol} {face.word}", face.figures]
    if face.second:
        parts.append(f"{face.label} {face.second}")
    return say("Last: {result}", result=" ".join(part for part in parts if part))


def report_lines(report: RunReport, network: Network) -> list[str]:
    """A run that has ended, for people."""
    line, direction = _names(report, network)
    counts = report.counts
    vehicle = harmless(report.vehicle.decode(_VEHICLE, "replace"))
    rows: list[tuple[str, object]] = [
        (say("line"), line),
        (say("direction"), direction),
        (say("run"), say("{number} of vehicle {vehicle}", number=report.number, vehicle=vehicle)),
        (say("time"), f"{when(report.began_s)[:16]}–{when(report.ended_s)[11:16]}"),
        *((word, count) for word, count in class_rows(counts)),
        (say("all riders"), counts.total),
        (say("of them free"), counts.free),
        (say("fares, yuan"), yuan(counts.amount_fen)),
        (say("not paid"), counts.refused),
        (say("already paid"), counts.again),
        (say("left too early"), counts.torn),
    ]
    return facts(rows)


def _names(report: RunReport, network: Network) -> tuple[str, str]:
    """Line and direction by name; by id where the network no longer has them."""
    try:
        line = network.line(report.line)
        return name_of(line.name), name_of(line.direction(report.direction).name)
    except NoSuchFare:
        return harmless(report.line), harmless(report.direction)
