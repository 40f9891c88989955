"""Fares: the file is read whole or refused with the place, and a ride costs what the file says."""

import random
from pathlib import Path

import pytest

from hardwallet.riders import Rider
from pos_terminal.errors import FaresRefused, NoSuchFare
from pos_terminal.fare_file import EXAMPLE, MAX_FILE, example_network, parse_fares, read_fares
from pos_terminal.fares import Network
from pos_terminal.gtfs import read_network

HEAD = 'version = 1\ncurrency = "CNY"\n'
ZONES = (
    HEAD
    + """
[[line]]
id = "Z"
zh = "郊区线"
zone = [
    { zones = 1, fare = { adult = "2", senior = "0.00" } },
    { zones = 2, fare = { adult = "3.5", child = "1.05" } },
]
[[line.direction]]
id = "out"
en = "out"
stops = [
    { id = "a", en = "A", zone = 1 }, { id = "b", en = "B", zone = 1 },
    { id = "c", en = "C", zone = 2 }, { id = "a2", en = "A again", zone = 1 },
]
"""
)
FLAT = (
    HEAD
    + """
[[line]]
id = "7"
en = "Seven"
fare = { adult = "2.00" }
[[line.direction]]
id = "loop"
en = "loop"
stops = [
    { id = "a", en = "A" }, { id = "b", en = "B" }, { id = "c", en = "C" }, { id = "a", en = "A" },
]
"""
)
STEPS = (
    HEAD
    + """
[[line]]
id = "9"
en = "Nine"
[[line.step]]
up_to_m = 1000
fare = { adult = "2.00" }
[[line.direction]]
id = "out"
en = "out"
stops = [ { id = "a", en = "A", m = 0 }, { id = "b", en = "B", m = 1000 } ]
"""
)


def parsed(text: str) -> Network:
    return parse_fares(text.encode(), "town.toml")


def test_the_example_is_good_and_bilingual() -> None:
    network = example_network()
    assert [line.is_flat for line in network.lines] == [True, False]
    names = [line.name for line in network.lines]
    for line in network.lines:
        assert {direction.id for direction in line.directions} == {"out", "back"}
        for direction in line.directions:
            names += [direction.name, *(stop.name for stop in direction.stops)]
    assert all(name.zh != name.en and name.told("zh") == name.zh for name in names)
    assert network.fare_fen("7", "out", "station", "park", Rider.ADULT) == 200
    assert network.fare_fen("7", "back", "park", "station", Rider.SENIOR) == 0
    assert network.fare_fen("101", "out", "station", "university", Rider.STUDENT) == 100
    assert network.fare_fen("101", "out", "station", "industry", Rider.STUDENT) == 150
    for named, there, back in (("101", "bridge", "temple"), ("7", "market", "museum")):
        for rider in Rider:
            out = network.fare_fen(named, "out", there, back, rider)
            assert out == network.fare_fen(named, "back", back, there, rider)


def test_zones_count_what_the_ride_touches() -> None:
    network = parsed(ZONES)
    fare = network.fare_fen
    assert (fare("Z", "out", "a", "b", Rider.ADULT), fare("Z", "out", "a", "b", Rider.SENIOR)) == (200, 0)
    assert (fare("Z", "out", "b", "c", Rider.ADULT), fare("Z", "out", "b", "c", Rider.CHILD)) == (350, 105)
    assert fare("Z", "out", "a", "a2", Rider.ADULT) == 350  # through zone 2
    assert network.line("Z").name.en == "郊区线"


def test_a_stop_that_comes_twice() -> None:
    line = parsed(FLAT).line("7")
    way = line.directions[0]
    assert way.between("a", "b") == (0, 1)
    assert way.between("c", "a") == (2, 3)
    assert way.between("a", "a") == (0, 3)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("8", "loop", "a", "b"), "no line 8; the lines are 7"),
        (("7", "out", "a", "b"), "no direction out; its directions are loop"),
        (("7", "loop", "x", "b"), "no stop x; its stops are a, b, c, a"),
        (("7", "loop", "a", "y"), "no stop y"),
        (("7", "loop", "c", "b"), "b does not come behind c"),
        (("7", "loop", "b", "b"), "b does not come behind b"),
    ],
)
def test_what_is_missing_is_named(asked: tuple[str, str, str, str], told: str) -> None:
    with pytest.raises(NoSuchFare, match=told):
        parsed(FLAT).fare_fen(*asked, Rider.ADULT)


@pytest.mark.parametrize(
    ("text", "old", "new", "told"),
    [
        (FLAT, "version = 1", "version = 2", "version 1"),
        (FLAT, '"CNY"', '"EUR"', "must be CNY"),
        (FLAT, '"2.00"', "2.00", "line 7: adult must be an amount in quotes"),
        (FLAT, '"2.00"', '"2.005"', "line 7: fare, adult: '2.005' is not an amount"),
        (FLAT, '"2.00"', '"-2"', "is not an amount"),
        (FLAT, "adult", "grown-up", "no rider class 'grown-up'"),
        (FLAT, 'adult = "2.00"', 'senior = "0"', "no fare for adult"),
        (FLAT, 'fare = { adult = "2.00" }', "", "one tariff"),
        (FLAT, 'id = "loop"', 'name = "loop"', "direction 1: id is missing"),
        (FLAT, 'id = "loop"\n', 'id = "loop"\ncolour = "red"\n', "direction loop: 'colour' is unknown here"),
        (FLAT, 'en = "B"', 'de = "B"', "stop b: a name is missing"),
        (FLAT, 'en = "B"', 'en = ""', "stop b: en must have 1 to 80"),
        (FLAT, 'en = "B"', 'en = "B\\u001b[2J"', "stop b: en must have"),
        (FLAT, 'id = "b"', 'id = "b b"', "must not hold spaces"),
        (FLAT, 'en = "B" }', 'en = "B", m = 1 }', "stop b: 'm' is unknown"),
        (FLAT, '{ id = "b", en = "B" }, { id = "c", en = "C" }, { id = "a", en = "A" },', "", "two stops"),
        (FLAT, "stops = [", "stops = []\nrest = [", "'rest' is unknown here"),
        (FLAT, "[[line]]", "[line]", "line must be a list"),
        (FLAT, "stops = [", "stops = [ 1,", "direction loop: stops 1 must be a table"),
        (FLAT, 'en = "Seven"', 'en = "Seven', "town.toml, line 6: this is not as TOML has it"),
        (STEPS, "m = 1000 }", "m = 1001 }", "line 9: direction out: no fare is given for 1001 m"),
        (STEPS, "m = 1000 }", "m = 0 }", "must grow"),
        (STEPS, "m = 1000 }", "m = -1 }", "must lie between"),
        (STEPS, ", m = 1000 }", " }", "stop b: m is missing"),
        (STEPS, "up_to_m = 1000", "up_to_m = 0", "above the step before"),
        (STEPS, "up_to_m = 1000", "up_to_m = true", "whole number"),
        (ZONES, "zones = 2", "zones = 3", "zones must be 2"),
        (ZONES, 'en = "C", zone = 2', 'en = "C", zone = 4', "no fare is given for 4 zones"),
        (ZONES, 'id = "Z"', 'id = "Z"\nfare = { adult = "1" }', "one tariff"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text: str, old: str, new: str, told: str) -> None:
    changed = text.replace(old, new, 1)
    assert changed != text
    with pytest.raises(FaresRefused, match=told) as refused:
        parsed(changed)
    assert str(refused.value).startswith("town.toml")


def test_twice_or_reversed_from_nowhere(tmp_path: Path) -> None:
    line = FLAT.removeprefix(HEAD)
    with pytest.raises(FaresRefused, match="line 7 is there twice"):
        parsed(HEAD + line + line)
    with pytest.raises(FaresRefused, match="reverse_of names nowhere"):
        parsed(FLAT + '[[line.direction]]\nid = "back"\nen = "b"\nreverse_of = "nowhere"\n')
    with pytest.raises(FaresRefused, match="no line"):
        parsed(HEAD + "line = []\n")
    with pytest.raises(FaresRefused, match="can't be read"):
        read_fares(tmp_path / "none.toml")


def test_encodings_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "town.toml"
    path.write_bytes(b"\xef\xbb\xbf" + ZONES.encode())
    assert read_network(path).lines[0].id == "Z"
    with pytest.raises(FaresRefused, match="line 6: this is not UTF-8"):
        parse_fares(ZONES.encode("gbk"), "town.toml")
    with pytest.raises(FaresRefused, match="not UTF-8"):
        parse_fares(ZONES.encode("utf-16"), "town.toml")
    with pytest.raises(FaresRefused, match="above"):
        parse_fares(b"#" * (MAX_FILE + 1), "town.toml")
    with pytest.raises(FaresRefused, match="nested too deeply"):
        parse_fares(b"a = " + b"[" * 100_000, "town.toml")
    with pytest.raises(FaresRefused, match="line 3: this is not as TOML has it"):  # ends too early
        parse_fares(b"a = 1\nb = [\n", "town.toml")


def test_altered_files_are_read_or_refused() -> None:
    """Nothing but FaresRefused comes out, whatever the bytes."""
    chance = random.Random(7)
    whole = bytearray(example_bytes())
    for _ in range(150):
        altered = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(altered))
            altered[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        try:
            network = parse_fares(bytes(altered), "town.toml")
        except FaresRefused:
            continue
        assert network.lines


def example_bytes() -> bytes:
    from importlib import resources

    return resources.files("pos_terminal").joinpath(EXAMPLE).read_bytes()
