"""What a ride costs: lines, their directions and stops, and a tariff for each line. Pure.

    Network ─ lines ─ Line ─ directions ─ Direction ─ stops ─ Stop
                        └── tariff: Flat | Steps (by distance) | Zones (by count) | Areas (from area to area)

`pos_terminal.fare_file` reads a network from a file of our own, `pos_terminal.gtfs` from a GTFS feed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hardwallet.riders import Rider
from pos_terminal.errors import NoSuchFare

MAX_LINES: Final = 1_000
MAX_DIRECTIONS: Final = 16
"""Of one line."""
MAX_STOPS: Final = 500
"""Of one direction."""
MAX_NAME: Final = 80
"""Characters of a name."""
ANY_AREA: Final = ""

Fares = Mapping[Rider, int]
"""What each rider class pays, in fen. A class that is not there pays as an adult, who always is there."""


def fare_of(fares: Fares, rider: Rider) -> int:
    """What a rider class pays, in fen."""
    return fares.get(rider, fares[Rider.ADULT])


@dataclass(frozen=True, slots=True)
class Names:
    """A name in Chinese and in English; either may stand for both."""

    zh: str
    en: str

    def told(self, language: str) -> str:
        """The name in `zh` or `en`."""
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop as one direction of a line serves it. `metres` from the direction's first stop, `zone` and
    `areas` as the line's tariff needs them."""

    id: str
    name: Names
    metres: int = 0
    zone: int = 0
    areas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Direction:
    """One way along a line; at least two stops, in order. A stop may come twice, on a loop."""

    id: str
    name: Names
    stops: tuple[Stop, ...]

    def between(self, from_stop: str, to_stop: str) -> tuple[int, int]:
        """The places of two stops, the second behind the first. Raises NoSuchFare."""
        ids = [stop.id for stop in self.stops]
        for wanted in (from_stop, to_stop):
            if wanted not in ids:
                raise NoSuchFare(f"direction {self.id} has no stop {wanted}; its stops are {_listed(ids)}")
        for origin, stop in enumerate(ids):
            if stop == from_stop and to_stop in ids[origin + 1 :]:
                return origin, ids.index(to_stop, origin + 1)
        raise NoSuchFare(
            f"in direction {self.id} stop {to_stop} does not come behind {from_stop}; "
            "take the other direction, or change the two"
        )


@dataclass(frozen=True, slots=True)
class Flat:
    """One fare, however far."""

    fares: Fares

    def between(self, _direction: Direction, _origin: int, _destination: int) -> Fares:
        """What a ride between two places of a direction costs."""
        return self.fares


@dataclass(frozen=True, slots=True)
class Steps:
    """Fares by distance: each up to so many metres, ascending."""

    steps: tuple[tuple[int, Fares], ...]

    def between(self, direction: Direction, origin: int, destination: int) -> Fares:
        """What a ride between two places of a direction costs. Raises NoSuchFare."""
        metres = abs(direction.stops[destination].metres - direction.stops[origin].metres)
        for up_to_m, fares in self.steps:
            if metres <= up_to_m:
                return fares
        raise NoSuchFare(f"no fare is given for {metres} m; the last step ends at {self.steps[-1][0]} m")


@dataclass(frozen=True, slots=True)
class Zones:
    """Fares by how many zones a ride touches: the first for one zone, and so on."""

    by_count: tuple[Fares, ...]

    def between(self, direction: Direction, origin: int, destination: int) -> Fares:
        """What a ride between two places of a direction costs. Raises NoSuchFare."""
        ridden = [stop.zone for stop in direction.stops[origin : destination + 1]]
        count = max(ridden) - min(ridden) + 1
        if count > len(self.by_count):
            raise NoSuchFare(f"no fare is given for {count} zones; the last one is for {len(self.by_count)}")
        return self.by_count[count - 1]


@dataclass(frozen=True, slots=True)
class Areas:
    """Fares from area to area, each with its priority; the highest one wins, between equals the one that is
    cheaper for an adult. ANY_AREA as origin matches every stop whose areas are not `origins`, as
    destination those not in `destinations`."""

    pairs: Mapping[tuple[str, str], tuple[int, Fares]]
    origins: frozenset[str] = frozenset()
    destinations: frozenset[str] = frozenset()

    def between(self, direction: Direction, origin: int, destination: int) -> Fares:
        """What a ride between two places of a direction costs. Raises NoSuchFare."""
        first, last = direction.stops[origin], direction.stops[destination]
        froms = first.areas if self.origins.intersection(first.areas) else (*first.areas, ANY_AREA)
        tos = last.areas if self.destinations.intersection(last.areas) else (*last.areas, ANY_AREA)
        found = [self.pairs[pair] for pair in ((a, b) for a in froms for b in tos) if pair in self.pairs]
        if not found:
            raise NoSuchFare(
                f"no fare is given from {first.name.en} ({_areas(first)}) to {last.name.en} ({_areas(last)})"
            )
        return min(found, key=lambda one: (-one[0], one[1][Rider.ADULT]))[1]


def _areas(stop: Stop) -> str:
    return f"area {_listed(stop.areas)}" if stop.areas else "in no area"


Tariff = Flat | Steps | Zones | Areas


@dataclass(frozen=True, slots=True)
class Line:
    """A line, with at least one direction."""

    id: str
    name: Names
    directions: tuple[Direction, ...]
    tariff: Tariff

    @property
    def is_flat(self) -> bool:
        """Whether a ride costs the same however far it goes."""
        return isinstance(self.tariff, Flat)

    def direction(self, wanted: str) -> Direction:
        """The direction of that id. Raises NoSuchFare."""
        for direction in self.directions:
            if direction.id == wanted:
                return direction
        ids = [direction.id for direction in self.directions]
        raise NoSuchFare(f"line {self.id} has no direction {wanted}; its directions are {_listed(ids)}")

    def fares(self, direction: Direction, origin: int, destination: int) -> Fares:
        """What each rider class pays from one place of a direction to a later one. Raises NoSuchFare."""
        if not 0 <= origin < destination < len(direction.stops):
            raise NoSuchFare("a ride goes from a stop to a later one of the same direction")
        return self.tariff.between(direction, origin, destination)

    def highest(self, direction: Direction, origin: int) -> Fares:
        """The highest fare of each class from a place to any later one: what somebody pays who does not say
        how far. Raises NoSuchFare."""
        places = range(origin + 1, len(direction.stops))
        found = [self.fares(direction, origin, place) for place in places]
        if not found:
            raise NoSuchFare(f"direction {direction.id} of line {self.id} ends here")
        return {rider: max(fare_of(fares, rider) for fares in found) for rider in Rider}


@dataclass(frozen=True, slots=True)
class Network:
    """Lines and what they cost. `notes`: what a reader of a feed left out, in sentences."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    def line(self, wanted: str) -> Line:
        """The line of that id. Raises NoSuchFare."""
        for line in self.lines:
            if line.id == wanted:
                return line
        raise NoSuchFare(
            f"there is no line {wanted}; the lines are {_listed([one.id for one in self.lines])}"
        )

    def fare_fen(self, line: str, direction: str, from_stop: str, to_stop: str, rider: Rider) -> int:
        """What a ride costs, by ids; 0 is a free ride. Raises NoSuchFare, saying what is missing."""
        ridden = self.line(line)
        way = ridden.direction(direction)
        return fare_of(ridden.fares(way, *way.between(from_stop, to_stop)), rider)


def _listed(ids: list[str] | tuple[str, ...], most: int = 12) -> str:
    shown = ", ".join(ids[:most])
    return f"{shown}, and {len(ids) - most} more" if len(ids) > most else shown
