"""A network out of a GTFS feed with Fares v2 (gtfs.org/documentation/schedule/reference).

What is used: agency, routes, trips, stops, stop_times, areas, stop_areas, networks by way of routes or
route_networks, fare_products, fare_leg_rules, rider_categories, fare_media, translations.
What is not: calendars (every trip of the feed counts), fares that depend on the time of day, transfer rules
(each ride is paid by itself), flexible stops. `Network.notes` says what of it was in the feed.
"""

import functools
import re
from array import array
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hardwallet.records import MAX_AMOUNT_FEN
from hardwallet.riders import Rider, rider_by_word
from pos_terminal.errors import FaresRefused
from pos_terminal.fare_file import read_fares
from pos_terminal.fares import (
    ANY_AREA,
    MAX_DIRECTIONS,
    MAX_LINES,
    MAX_NAME,
    MAX_STOPS,
    Areas,
    Direction,
    Fares,
    Flat,
    Line,
    Names,
    Network,
    Stop,
    Tariff,
)
from pos_terminal.gtfs_feed import Bounds, Feed, Progress, Row

_REQUIRED: Final = ("agency", "routes", "trips", "stops", "stop_times", "fare_products", "fare_leg_rules")
_READ: Final = (
    *_REQUIRED,
    *("stop_areas", "route_networks", "rider_categories", "fare_media", "feed_info", "translations"),
)
_AMOUNT: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,8}))?")
_MEDIA: Final = {"2": 0, "3": 1, "4": 2, "": 3, "0": 4, "1": 5}
"""Kinds of fare media, the one that is most like a card of ours first: transit card, bank card, phone, none
named, none, paper."""
_TOLD: Final = 5
MAX_AREAS: Final = 20
"""Of one stop."""
MAX_RULES: Final = 2_000_000
"""Leg rules, counted once for each set of networks that they are for."""


def _silent(_done: int, _all: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a feed leaves to who reads it. `riders`: what its rider categories (ids) are to us; the ones that
    are named as ours need no mention. `as_cny`: amounts in another currency are taken as so many yuan."""

    riders: Mapping[str, Rider] = field(default_factory=dict)
    as_cny: bool = False


def read_gtfs(
    path: Path,
    choices: Choices | None = None,
    *,
    bounds: Bounds | None = None,
    progress: Progress = _silent,
) -> Network:
    """The lines and fares of a feed (a zip file). Raises FaresRefused, with the file and the line in it.

    `progress` is called as the bytes go by. At most `bounds` is read, in memory that they bound too.
    """
    with closing(Feed(path, bounds or Bounds(), progress)) as feed:
        return _Reader(feed, str(path), choices or Choices()).network()


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip file does; False also when it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _Route:
    """A route of the feed."""

    id: str
    name: Names
    networks: frozenset[str]


@dataclass(slots=True)
class _Trips:
    """The trips of a feed: route and headsign of each, and its stops packed as (sequence << 32 | stop)."""

    route: dict[str, str] = field(default_factory=dict)
    headsign: dict[str, str] = field(default_factory=dict)
    calls: dict[str, "array[int]"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Stops in order that trips of one route have in common."""

    stops: tuple[int, ...]
    headsign: str


class _Reader:
    """One reading of one feed."""

    def __init__(self, feed: Feed, where: str, choices: Choices) -> None:
        self._feed = feed
        self._where = where
        self._choices = choices
        self._notes: list[str] = []
        self._translated: dict[tuple[str, str, str], str] = {}
        self._stop_ids: dict[str, int] = {}
        self._stops: list[Stop] = []
        self._shared: dict[str, str] = {}

    def network(self) -> Network:
        """Everything. Raises FaresRefused."""
        feed = self._feed
        if feed.has("fare_attributes") and not feed.has("fare_leg_rules"):
            raise FaresRefused(
                f"{self._where}: the feed has fares of the first kind only (fare_attributes.txt); "
                "fares of the second kind are read (fare_products.txt, fare_leg_rules.txt)"
            )
        feed.want(*_REQUIRED)
        feed.expect(*_READ)
        self._translations()
        routes = self._routes()
        self._read_stops()
        patterns = self._patterns(routes)
        tariffs = _Rules(feed, self._where, self._choices, self._notes)
        lines = []
        for route in routes.values():
            line = self._line(route, patterns.get(route.id, []), tariffs)
            if line is not None:
                lines.append(line)
        if not lines:
            raise FaresRefused(f"{self._where}: no route has both trips and a fare")
        if len(lines) > MAX_LINES:
            raise FaresRefused(f"{self._where}: {len(lines)} lines; at most {MAX_LINES} are read")
        self._note_the_rest()
        return Network(tuple(lines), tuple(self._notes))

    def _note_the_rest(self) -> None:
        if any(self._feed.has(name) for name in ("calendar", "calendar_dates")):
            self._notes.append("calendars are not used: every trip of the feed counts")
        if self._feed.has("fare_transfer_rules"):
            self._notes.append("fare_transfer_rules.txt is not applied: each ride is paid by itself")

    # ------------------------------------------------------------------ names

    def _translations(self) -> None:
        for row in self._feed.rows("translations", "table_name", "field_name", "language", "translation"):
            language = row["language"].lower().partition("-")[0]
            if language not in ("zh", "en") or row["table_name"] not in ("routes", "stops", "trips"):
                continue
            key = row["record_id"] or row["field_value"]
            if key and row["translation"]:
                self._translated[row["field_name"], language, key] = self._name(row, "translation")

    def _names(self, column: str, text: str, *keys: str) -> Names:
        """A name in both languages: its translations where the feed has them, else as it is."""

        def told(language: str) -> str:
            for key in (*keys, text):
                if (column, language, key) in self._translated:
                    return self._translated[column, language, key]
            return text

        return Names(told("zh"), told("en"))

    @staticmethod
    def _name(row: Row, *columns: str) -> str:
        """The first of the columns that is not empty, for people."""
        for column in columns:
            if row[column]:
                if not row[column].isprintable():
                    raise row.refuse(f"{column} holds characters that can't be shown")
                return row[column][:MAX_NAME]
        raise row.refuse(f"{columns[0]} is empty")

    # ------------------------------------------------------------------ routes, stops

    def _routes(self) -> dict[str, _Route]:
        networks: dict[str, set[str]] = {}
        for row in self._feed.rows("route_networks", "network_id", "route_id"):
            networks.setdefault(row.need("route_id"), set()).add(row.need("network_id"))
        routes: dict[str, _Route] = {}
        for row in self._feed.rows("routes", "route_id"):
            route_id = self._id(row, "route_id")
            if route_id in routes:
                raise row.refuse(f"route {route_id} is there twice")
            columns = ("route_short_name", "route_long_name")
            text = self._name(row, *columns)
            column = columns[0] if row[columns[0]] else columns[1]
            named = networks.get(route_id, set()) | ({row["network_id"]} if row["network_id"] else set())
            routes[route_id] = _Route(route_id, self._names(column, text, route_id), frozenset(named))
        return routes

    @staticmethod
    def _id(row: Row, column: str) -> str:
        text = row.need(column)
        if not text.isprintable() or len(text) > MAX_NAME:
            raise row.refuse(f"{column} must have 1 to {MAX_NAME} printable characters")
        return text

    def _read_stops(self) -> None:
        areas: dict[str, list[str]] = {}
        for row in self._feed.rows("stop_areas", "area_id", "stop_id"):
            found = areas.setdefault(row.need("stop_id"), [])
            if len(found) == MAX_AREAS:
                raise row.refuse(f"stop {row['stop_id'][:MAX_NAME]} is in more than {MAX_AREAS} areas")
            found.append(row.need("area_id"))
        parents: list[str] = []
        for row in self._feed.rows("stops", "stop_id"):
            stop_id = self._id(row, "stop_id")
            if stop_id in self._stop_ids:
                raise row.refuse(f"stop {stop_id} is there twice")
            text = row["stop_name"] and self._name(row, "stop_name")
            self._stop_ids[stop_id] = len(self._stops)
            name = self._names("stop_name", text or stop_id, stop_id)
            self._stops.append(Stop(stop_id, name, areas=tuple(areas.get(stop_id, ()))))
            parents.append(row["parent_station"])
        for place, parent in enumerate(parents):
            stop = self._stops[place]
            if parent in areas and not stop.areas:
                self._stops[place] = Stop(stop.id, stop.name, areas=tuple(areas[parent]))

    # ------------------------------------------------------------------ trips

    def _patterns(self, routes: Mapping[str, _Route]) -> dict[str, list[_Pattern]]:
        """The ways that trips take along each route, the most usual one first."""
        trips = self._trips(routes)
        self._read_calls(trips)
        counted: dict[str, Counter[bytes]] = {}
        headsigns: dict[tuple[str, bytes], str] = {}
        while trips.calls:
            trip_id, calls = trips.calls.popitem()
            if not 2 <= len(calls) <= MAX_STOPS:
                continue
            way = array("I", (call & 0xFFFFFFFF for call in sorted(calls))).tobytes()
            route = trips.route[trip_id]
            counted.setdefault(route, Counter())[way] += 1
            headsigns[route, way] = trips.headsign[trip_id]
        return {
            route: [
                _Pattern(tuple(memoryview(way).cast("I")), headsigns[route, way])
                for way, _ in sorted(found.items(), key=lambda one: (-one[1], one[0]))
            ]
            for route, found in counted.items()
        }

    def _trips(self, routes: Mapping[str, _Route]) -> _Trips:
        trips = _Trips()
        for row in self._feed.rows("trips", "route_id", "trip_id"):
            trip_id, route_id = row.need("trip_id"), row.need("route_id")
            if trip_id in trips.route:
                raise row.refuse(f"trip {trip_id[:MAX_NAME]} is there twice")
            if route_id not in routes:
                raise row.refuse(f"routes.txt has no route {route_id[:MAX_NAME]}")
            if row["direction_id"] not in ("", "0", "1"):
                raise row.refuse("direction_id is 0 or 1")
            headsign = row["trip_headsign"] and self._name(row, "trip_headsign")
            trips.route[trip_id] = routes[route_id].id
            trips.headsign[trip_id] = self._shared.setdefault(headsign, headsign)
            trips.calls[trip_id] = array("Q")
        return trips

    def _read_calls(self, trips: _Trips) -> None:
        flexible: set[str] = set()
        for row in self._feed.rows("stop_times", "trip_id", "stop_id", "stop_sequence"):
            trip_id, stop_id, sequence = row.need("trip_id"), row["stop_id"], row["stop_sequence"]
            calls = trips.calls.get(trip_id)
            if calls is None:
                if trip_id in flexible:
                    continue
                raise row.refuse(f"trips.txt has no trip {trip_id[:MAX_NAME]}")
            if not stop_id and (row["location_group_id"] or row["location_id"]):
                flexible.add(trip_id)
                del trips.calls[trip_id]
                continue
            stop = self._stop_ids.get(stop_id)
            if stop is None:
                raise row.refuse(f"stops.txt has no stop {stop_id[:MAX_NAME]!r}")
            if not (sequence.isascii() and sequence.isdigit() and len(sequence) < 10):
                raise row.refuse("stop_sequence must be a whole number")
            calls.append(int(sequence) << 32 | stop)
        if flexible:
            self._notes.append(f"{len(flexible)} trips with flexible stops are left out")

    # ------------------------------------------------------------------ lines

    def _line(self, route: _Route, patterns: list[_Pattern], tariffs: "_Rules") -> Line | None:
        if not patterns:
            self._notes.append(f"route {route.id} has no trips and is left out")
            return None
        if len(patterns) > MAX_DIRECTIONS:
            self._notes.append(
                f"route {route.id}: its trips go {len(patterns)} ways; "
                f"the {MAX_DIRECTIONS} most usual are kept"
            )
        tariff = tariffs.of(route.networks)
        if tariff is None:
            self._notes.append(f"route {route.id} has no fare and is left out")
            return None
        directions = [
            self._direction(number, pattern) for number, pattern in enumerate(patterns[:MAX_DIRECTIONS], 1)
        ]
        return Line(route.id, route.name, tuple(directions), _simplest(tariff))

    def _direction(self, number: int, pattern: _Pattern) -> Direction:
        stops = tuple(self._stops[place] for place in pattern.stops)
        if pattern.headsign:
            name = self._names("trip_headsign", pattern.headsign)
        else:
            name = Names(stops[-1].name.zh, stops[-1].name.en)
        return Direction(str(number), name, stops)


class _Rules:
    """fare_products, rider_categories and fare_leg_rules: the tariff of each set of networks."""

    def __init__(self, feed: Feed, where: str, choices: Choices, notes: list[str]) -> None:
        self._feed = feed
        self._where = where
        self._choices = choices
        self._notes = notes
        self._riders = self._categories()
        self._products = self._read_products()
        if not any(Rider.ADULT in found for found in self._products.values()):
            raise FaresRefused(
                f"{where}: no fare is for adults; say which rider category they are, "
                "with --rider-category ID=adult"
            )
        self._rules: dict[str, list[tuple[str, str, int, Fares]]] = {}
        self._looked_at = 0
        self._has_priority = False
        self._read_rules()
        self._made: dict[frozenset[str], Tariff | None] = {}

    def _categories(self) -> dict[str, Rider]:
        """What each rider category of the feed is to us; the empty one is who is not named: an adult."""
        riders, named = {"": Rider.ADULT}, self._choices.riders
        known: set[str] = set()
        unknown: list[str] = []
        default = ""
        for row in self._feed.rows("rider_categories", "rider_category_id"):
            category = row.need("rider_category_id")
            known.add(category)
            if row["is_default_fare_category"] == "1":
                if default:
                    raise row.refuse(f"{default} and {category} are both the default")
                default = category
            rider = named.get(category, rider_by_word(category.lower()))
            if rider is not None:
                riders[category] = rider
            elif category != default:
                unknown.append(f"{category} ({row['rider_category_name'][:MAX_NAME]})")
        if default and default not in named:
            riders[default] = Rider.ADULT
        for category in named:
            if category not in known:
                raise FaresRefused(
                    f"{self._where}: rider_categories.txt has no category {category}; "
                    f"it has {', '.join(sorted(known)[:12]) or 'none'}"
                )
        if unknown:
            self._notes.append(
                f"rider categories that are not named are left out: {', '.join(unknown[:_TOLD])}; "
                "name them with --rider-category ID=CLASS"
            )
        return riders

    def _read_products(self) -> dict[str, dict[Rider, int]]:
        media = {row["fare_media_id"]: row["fare_media_type"] for row in self._feed.rows("fare_media")}
        products: dict[str, dict[Rider, tuple[int, int]]] = {}
        for row in self._feed.rows("fare_products", "fare_product_id", "amount", "currency"):
            amount_fen = self._amount_fen(row)
            rider = self._riders.get(row["rider_category_id"])
            found = products.setdefault(row.need("fare_product_id"), {})
            if rider is None:
                continue
            rank = _MEDIA.get(media.get(row["fare_media_id"], row["fare_media_id"] and "1"), len(_MEDIA))
            found[rider] = min(found.get(rider, (rank, amount_fen)), (rank, amount_fen))
        return {
            name: {rider: amount_fen for rider, (_, amount_fen) in found.items()}
            for name, found in products.items()
        }

    def _amount_fen(self, row: Row) -> int:
        """The amount in fen, exactly."""
        currency = row.need("currency")
        if currency != "CNY" and not self._choices.as_cny:
            raise row.refuse(
                f"the fare is in {currency[:8]}, and a card holds CNY; to try the feed all the same, "
                "`hardwallet fares` takes its amounts as yuan with --as-cny"
            )
        match = _AMOUNT.fullmatch(row.need("amount"))
        if match is None:
            raise row.refuse(f"the amount {row['amount'][:20]!r} can't be taken; write it like 2.50")
        cents = (match[2] or "").rstrip("0")
        if len(cents) > 2:
            raise row.refuse(f"the amount {row['amount'][:20]} is finer than a fen")
        amount_fen = int(match[1]) * 100 + int(cents.ljust(2, "0"))
        if amount_fen > MAX_AMOUNT_FEN:
            raise row.refuse(f"the amount {row['amount'][:20]} is above what a card can hold")
        return amount_fen

    def _read_rules(self) -> None:
        timed = 0
        for row in self._feed.rows("fare_leg_rules", "fare_product_id"):
            product = row.need("fare_product_id")
            if product not in self._products:
                raise row.refuse(f"fare_products.txt has no product {product[:MAX_NAME]}")
            if row["from_timeframe_group_id"] or row["to_timeframe_group_id"]:
                timed += 1
                continue
            self._has_priority = self._has_priority or "rule_priority" in row.fields
            priority = row["rule_priority"] or "0"
            if not (priority.isascii() and priority.isdigit() and len(priority) < 10):
                raise row.refuse("rule_priority must be a whole number from 0")
            rules = self._rules.setdefault(row["network_id"], [])
            rules.append((row["from_area_id"], row["to_area_id"], int(priority), self._products[product]))
        if timed:
            self._notes.append(f"{timed} fare rules that depend on the time of day are left out")

    def of(self, networks: frozenset[str]) -> Tariff | None:
        """The tariff of lines in these networks; None when no rule is for them."""
        if networks not in self._made:
            self._made[networks] = self._tariff(networks)
        return self._made[networks]

    def _rules_for(self, networks: frozenset[str]) -> list[tuple[str, str, int, Fares]]:
        """The rules of these networks, and those of any network; where nothing has a priority, the latter
        are only for what no rule names."""
        named = [network for network in networks if network in self._rules]
        anybodys = self._has_priority or not named
        rules = [rule for network in named for rule in self._rules[network]]
        rules += self._rules.get("", []) if anybodys else []
        self._looked_at += len(rules)
        if self._looked_at > MAX_RULES:
            raise FaresRefused(
                f"{self._where}, fare_leg_rules.txt: too many rules for too many networks; "
                f"at most {MAX_RULES} are looked at"
            )
        return rules

    def _tariff(self, networks: frozenset[str]) -> Tariff | None:
        pairs: dict[tuple[str, str], tuple[int, dict[Rider, int]]] = {}
        for origin, destination, priority, fares in self._rules_for(networks):
            kept, found = pairs.get((origin, destination), (priority, {}))
            if priority < kept:
                continue
            if priority > kept:
                found = {}
            for rider, amount_fen in fares.items():
                found[rider] = min(found.get(rider, amount_fen), amount_fen)
            pairs[origin, destination] = (priority, found)
        complete: dict[tuple[str, str], tuple[int, Fares]] = {
            pair: (priority, found) for pair, (priority, found) in pairs.items() if Rider.ADULT in found
        }
        if not complete:
            return None
        return Areas(complete, *self._listed)

    @functools.cached_property
    def _listed(self) -> tuple[frozenset[str], frozenset[str]]:
        """The areas that rules name as origin and as destination; none where priorities decide."""
        if self._has_priority:
            return frozenset(), frozenset()
        rules = [rule for found in self._rules.values() for rule in found]
        return (
            frozenset(origin for origin, _, _, _ in rules if origin),
            frozenset(destination for _, destination, _, _ in rules if destination),
        )


def _simplest(tariff: Tariff) -> Tariff:
    """One fare, where every ride on the line costs the same."""
    if isinstance(tariff, Areas) and set(tariff.pairs) == {(ANY_AREA, ANY_AREA)}:
        return Flat(tariff.pairs[ANY_AREA, ANY_AREA][1])
    return tariff


def read_network(path: Path, choices: Choices | None = None, *, progress: Progress = _silent) -> Network:
    """The lines and fares in a fare file or a GTFS feed, whichever it is. Raises FaresRefused."""
    if is_zip(path):
        return read_gtfs(path, choices, progress=progress)
    return read_fares(path)
