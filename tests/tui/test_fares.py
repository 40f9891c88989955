"""`hardwallet fares`, cards of a rider class, and a validator that takes the fares of a line."""

from importlib import resources

import pytest

from fleet.open import open_issuing, system_clock
from hardwallet.card.file import create_card_file
from hardwallet.riders import Rider
from pos_terminal.fare_file import EXAMPLE
from tests.tui.world import World, running


@pytest.fixture
def town(world: World) -> World:
    """The world with a fare file and a student's card."""
    world.path("town.toml").write_bytes(resources.files("pos_terminal").joinpath(EXAMPLE).read_bytes())
    card = ("card", "new", "--scheme", "city", "--balance", "20.00", "--rider")
    assert world.call(*card, "student", "student.card").code == 0
    assert world.call(*card, "senior", "senior.card").code == 0
    return world


def test_a_card_tells_its_class(town: World) -> None:
    assert town.shown("student.card")["rider"] == "student"
    assert town.shown("alice.card")["rider"] == "adult"
    assert "student" in town.call("card", "show", "student.card").out
    wrong = town.call("card", "new", "--scheme", "city", "x.card", "--rider", "king")
    assert (wrong.code, "adult, student, senior, child, reduced" in wrong.err) == (2, True)


def test_an_issuing_is_finished_with_its_own_class(world: World) -> None:
    with open_issuing(world.path("city")) as issuing:
        identity, memory = issuing.new_card(5, system_clock(), balance_fen=1_000, rider=Rider.CHILD)
    create_card_file(world.path("new.card"), identity, memory)
    again = ("card", "new", "--scheme", "city", "new.card", "--balance", "10.00")
    other = world.call(*again)
    assert (other.code, "finish it with --rider child" in other.err) == (1, True)
    done = world.call(*again, "--rider", "child", "--json").json
    assert (done["resumed"], done["rider"], done["balance_fen"]) == (True, "child", 1_000)


def test_what_a_line_costs(town: World) -> None:
    listed = town.call("fares", "show", "town.toml")
    assert [row.split()[0] for row in listed.out.splitlines()[1:]] == ["7", "7", "101", "101"]
    flat = town.call("fares", "show", "town.toml", "--line", "7", "--rider", "senior").out
    assert "senior: free to every stop" in flat
    drawn = town.call("fares", "show", "town.toml", "--line", "101", "--direction", "out").out.splitlines()
    assert drawn[-1].split()[-7:] == ["6.00", "6.00", "6.00", "6.00", "4.00", "4.00", "3.00"]
    told = town.call("fares", "show", "town.toml", "--line", "101", "--json").json
    assert [one["fares_fen"][-1][0] for one in told["directions"]] == [600, 600]
    words = ("fares", "show", "town.toml", "--line", "101", "--from", "temple", "--to", "station")
    one = town.call(*words, "--rider", "student", "--json").json
    assert (one["direction"], one["fare_fen"]) == ("back", 300)
    assert "CNY 6.00" in town.call(*words).out


WRONG = [
    ("show town.toml --from station --to park", 2, "--line"),
    ("show town.toml --line 7 --from station", 2, "--to"),
    ("show town.toml --line 8", 1, "no line 8; the lines are 7, 101"),
    ("show town.toml --line 7 --from station --to moon", 1, "no stop moon"),
    ("show town.toml --line 7 --rider king", 2, "rider class"),
    ("show none.toml", 1, "none.toml can't be read"),
    ("check city/scheme.json", 1, "scheme.json"),
    ("check town.toml --rider-category senior", 2, "ID=CLASS"),
    ("check town.toml --rider-category 3=king", 2, "rider class"),
]


def test_what_is_wrong_is_told(town: World) -> None:
    for words, code, told in WRONG:
        done = town.call("fares", *words.split())
        assert (done.code, told in done.err) == (code, True), (words, done.err)


def test_a_good_file_is_counted(town: World) -> None:
    told = town.call("fares", "check", "town.toml", "--json").json
    assert (told["lines"], told["directions"], told["stops"], told["notes"]) == (2, 4, 15, [])


def run(card: str, *words: str) -> list[str]:
    at = ("pos", "run", "--terminal", "bus", "--reader", f"sim:{card}", "--fares", "town.toml")
    return [*at, "--jsonl", *words]


def test_a_validator_takes_fares_by_class_and_goes_on_after_a_stop(town: World) -> None:
    along = ("--line", "101", "--from", "station", "--to", "orchard", "--run", "4")
    taken = []
    for card, riders in (("student.card", 1), ("senior.card", 2), ("student.card", 2)):
        with running(town.folder, *run(card, *along)) as bus:
            ready = bus.event()
            assert (ready["run"], ready["line"], ready["fares_fen"]["adult"]) == (4, "101", 400)
            assert bus.event()["event"] == "present"
            tapped = bus.event()
            taken.append((tapped["outcome"], tapped["sale"]["amount_fen"], tapped["rider"]))
            assert sum(bus.event()["riders"].values()) == riders
            assert bus.stop().code == 0
    assert taken == [
        ("granted", 200, "student"),
        ("granted", 100, "senior"),
        ("already_granted", 200, "student"),
    ]
    assert town.shown("student.card")["balance_fen"] == 1_800
    free = ("--line", "7", "--direction", "back")
    with running(town.folder, *run("senior.card", *free)) as bus:
        events = [bus.event() for _ in range(4)]
        assert (events[2]["granted"], events[2]["free"], events[3]["riders_free"]) == (True, True, 1)
        bus.stop()
    assert town.shown("senior.card")["balance_fen"] == 1_900


UNSAID = [
    ("--terminal bus --reader sim:alice.card", "--amount"),
    ("--terminal bus --reader sim:alice.card --amount 2 --fares town.toml", "--amount"),
    ("--terminal bus --reader sim:alice.card --amount 2 --to park", "--fares"),
    ("--terminal till --reader sim:alice.card --fares town.toml --line 7", "transit"),
    ("--terminal bus --reader sim:alice.card --fares town.toml", "no line"),
    ("--terminal bus --reader sim:alice.card --fares town.toml --line 7 --to moon", "no stop moon"),
]


def test_what_a_validator_has_to_be_told(town: World) -> None:
    for words, told in UNSAID:
        done = town.call("pos", "run", *words.split())
        assert (done.code in (1, 2), told in done.err) == (True, True), (words, done.err)
