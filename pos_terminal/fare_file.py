"""The fare file: lines, stops and fares in TOML, as docs/fares.md describes it; and whatever else a network
can be read from."""

import itertools
import re
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

from hardwallet.riders import Rider, rider_by_word
from pos_terminal.errors import BadAmount, FaresRefused, NoSuchFare
from pos_terminal.fares import (
    MAX_DIRECTIONS,
    MAX_LINES,
    MAX_NAME,
    MAX_STOPS,
    Direction,
    Fares,
    Flat,
    Line,
    Names,
    Network,
    Steps,
    Stop,
    Tariff,
    Zones,
)
from pos_terminal.money import parse_amount

MAX_FILE: Final = 2_000_000
"""Bytes of a fare file."""
MAX_STEPS: Final = 100
MAX_METRES: Final = 10_000_000
MAX_ID: Final = 40
EXAMPLE: Final = "fares-example.toml"
_PLACE: Final = re.compile(r"\(at line ([0-9]+), column [0-9]+\)")
_FREE: Final = frozenset(("0", "0.0", "0.00"))


def example_network() -> Network:
    """The network that ships with this package: an invented town's flat line 7 and distance line 101."""
    raw = resources.files("pos_terminal").joinpath(EXAMPLE).read_bytes()
    return parse_fares(raw, EXAMPLE)


def read_fares(path: Path) -> Network:
    """The network in a fare file. Raises FaresRefused, naming the file and the place in it."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise FaresRefused(f"{path} can't be read: {error.strerror}") from None
    return parse_fares(raw, str(path))


def parse_fares(raw: bytes, where: str) -> Network:
    """The content of a fare file, any length. Raises FaresRefused, naming `where` and the place in it."""
    if len(raw) > MAX_FILE:
        raise FaresRefused(f"{where} is above {MAX_FILE} bytes; a fare file is not that long")
    try:
        table = tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FaresRefused(f"{where}, line {line}: this is not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line = int(place[1]) if place else raw.count(b"\n") + 1  # else it is where the file ends
        raise FaresRefused(
            f"{where}, line {line}: this is not as TOML has it: one `name = value` a line, texts in quotes, "
            "names in [brackets], no name twice"
        ) from None
    except RecursionError:
        raise FaresRefused(f"{where}: its lists are nested too deeply") from None
    return _network(_Table(table, where, ""))


class _Table:
    """A table of the file and the place where it stands. What nobody asked for is refused by `done`."""

    def __init__(self, table: dict[str, Any], where: str, place: str) -> None:
        self._table = table
        self._where = where
        self.place = place
        self._known: set[str] = set()

    def refuse(self, what: str) -> FaresRefused:
        """To be raised."""
        return FaresRefused(f"{self._where}{', ' if self.place else ''}{self.place}: {what}")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        self._known.add(key)
        return key in self._table

    def _get(self, key: str, kind: type, told: str) -> Any:
        self._known.add(key)
        if key not in self._table:
            raise self.refuse(f"{key} is missing")
        value = self._table[key]
        if type(value) is not kind:
            raise self.refuse(f"{key} must be {told}")
        return value

    def text(self, key: str, most: int = MAX_NAME) -> str:
        """A line of text for people or an id."""
        text = self._get(key, str, "text in quotes").strip()
        if not text or len(text) > most or not text.isprintable():
            raise self.refuse(f"{key} must have 1 to {most} printable characters")
        return str(text)

    def id(self, key: str = "id") -> str:
        """An id, as options of the command line name it."""
        text = self.text(key, MAX_ID)
        if any(character.isspace() for character in text):
            raise self.refuse(f"{key} {text!r} must not hold spaces")
        return text

    def whole(self, key: str, most: int) -> int:
        """A whole number from 0."""
        number = self._get(key, int, "a whole number")
        if not 0 <= number <= most:
            raise self.refuse(f"{key} must lie between 0 and {most}")
        return int(number)

    def names(self) -> Names:
        """zh and en; one of the two is enough."""
        given = {key: self.text(key) for key in ("zh", "en") if self.has(key)}
        if not given:
            raise self.refuse("a name is missing: zh, en or both")
        return Names(given.get("zh") or given["en"], given.get("en") or given["zh"])

    def tables(self, key: str, name: Callable[[dict[str, Any], int], str], most: int) -> list["_Table"]:
        """A list of tables, each named for its place."""
        rows = self._get(key, list, "a list of tables")
        if len(rows) > most:
            raise self.refuse(f"{len(rows)} times {key}; at most {most} are read")
        found = []
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                raise self.refuse(f"{key} {number} must be a table, as in {{ … }}")
            place = f"{self.place}, {name(row, number)}" if self.place else name(row, number)
            found.append(_Table(row, self._where, place))
        return found

    def fares(self, key: str) -> Fares:
        """Amounts by rider class; the adult's has to be there."""
        table = _Table(self._get(key, dict, 'a table, as in { adult = "2.00" }'), self._where, self.place)
        fares: dict[Rider, int] = {}
        for word in table._table:
            rider = rider_by_word(word)
            if rider is None:
                words = ", ".join(known.word for known in Rider)
                raise self.refuse(f"{key}: there is no rider class {word!r:.40}; the classes are {words}")
            text = table._get(word, str, 'an amount in quotes, like "2.00"')
            try:
                fares[rider] = 0 if text in _FREE else parse_amount(text)
            except BadAmount as error:
                raise self.refuse(f"{key}, {word}: {error}") from None
        if Rider.ADULT not in fares:
            raise self.refuse(f"{key} has no fare for adult, which every other class falls back to")
        return fares

    def done(self) -> None:
        """Raises FaresRefused for a key that means nothing here."""
        for key in self._table:
            if key not in self._known:
                raise self.refuse(f"{key!r:.40} is unknown here")


def _named(kind: str) -> Callable[[dict[str, Any], int], str]:
    """Names a table by its id where it has one, else by its number."""

    def name(row: dict[str, Any], number: int) -> str:
        told = row.get("id")
        return (
            f"{kind} {told}" if isinstance(told, str) and told.isprintable() and told else f"{kind} {number}"
        )

    return name


def _network(table: _Table) -> Network:
    if table.whole("version", 2**31) != 1:
        raise table.refuse("this program knows version 1 of the fare file")
    if table.text("currency") != "CNY":
        raise table.refuse("the currency must be CNY: a card holds nothing else")
    lines = [_line(row) for row in table.tables("line", _named("line"), MAX_LINES)]
    table.done()
    if not lines:
        raise table.refuse("there is no line")
    _want_unique(table, "line", [line.id for line in lines])
    return Network(tuple(lines))


def _line(table: _Table) -> Line:
    line_id, name = table.id(), table.names()
    tariff = _tariff(table)
    directions: list[Direction] = []
    for row in table.tables("direction", _named("direction"), MAX_DIRECTIONS):
        directions.append(_direction(row, tariff, directions))
    table.done()
    if not directions:
        raise table.refuse("there is no direction")
    _want_unique(table, "direction", [direction.id for direction in directions])
    line = Line(line_id, name, tuple(directions), tariff)
    _want_every_fare(table, line)
    return line


def _tariff(table: _Table) -> Tariff:
    given = [key for key in ("fare", "step", "zone") if table.has(key)]
    if len(given) != 1:
        raise table.refuse(
            "a line has one tariff: fare (the same however far), step (by distance) or zone (by zones)"
        )
    if given == ["fare"]:
        return Flat(table.fares("fare"))
    rows = table.tables(given[0], lambda _row, number: f"{given[0]} {number}", MAX_STEPS)
    if not rows:
        raise table.refuse(f"there is no {given[0]}")
    if given == ["zone"]:
        return Zones(tuple(_zone(row, count) for count, row in enumerate(rows, 1)))
    steps: list[tuple[int, Fares]] = []
    for row in rows:
        up_to_m = row.whole("up_to_m", MAX_METRES)
        if up_to_m <= (steps[-1][0] if steps else 0):
            raise row.refuse("up_to_m must be above the step before")
        steps.append((up_to_m, row.fares("fare")))
        row.done()
    return Steps(tuple(steps))


def _zone(row: _Table, count: int) -> Fares:
    if row.whole("zones", MAX_STEPS) != count:
        raise row.refuse(f"zones must be {count} here: they count from 1 without gaps")
    fares = row.fares("fare")
    row.done()
    return fares


def _direction(table: _Table, tariff: Tariff, before: list[Direction]) -> Direction:
    direction_id, name = table.id(), table.names()
    if table.has("reverse_of"):
        stops = _reversed(table, before)
    else:
        stops = tuple(_stop(row, tariff) for row in table.tables("stops", _named("stop"), MAX_STOPS))
    table.done()
    if len(stops) < 2:
        raise table.refuse("a direction has at least two stops")
    if isinstance(tariff, Steps) and any(a.metres >= b.metres for a, b in itertools.pairwise(stops)):
        raise table.refuse("m must grow from stop to stop")
    return Direction(direction_id, name, stops)


def _reversed(table: _Table, before: list[Direction]) -> tuple[Stop, ...]:
    wanted = table.id("reverse_of")
    for direction in before:
        if direction.id == wanted:
            end_m = direction.stops[-1].metres
            return tuple(
                Stop(stop.id, stop.name, end_m - stop.metres, stop.zone) for stop in reversed(direction.stops)
            )
    raise table.refuse(f"reverse_of names {wanted}, which is no direction above this one")


def _stop(row: _Table, tariff: Tariff) -> Stop:
    stop = Stop(
        row.id(),
        row.names(),
        row.whole("m", MAX_METRES) if isinstance(tariff, Steps) else 0,
        row.whole("zone", 1_000) if isinstance(tariff, Zones) else 0,
    )
    row.done()
    return stop


def _want_unique(table: _Table, kind: str, ids: list[str]) -> None:
    for place, one in enumerate(ids):
        if one in ids[:place]:
            raise table.refuse(f"{kind} {one} is there twice")


def _want_every_fare(table: _Table, line: Line) -> None:
    """A fare that is missing is found here, not on the bus."""
    for direction in line.directions:
        try:
            for origin in range(len(direction.stops) - 1):
                line.fares(direction, origin, len(direction.stops) - 1)
        except NoSuchFare as error:
            raise table.refuse(f"direction {direction.id}: {error}") from None
