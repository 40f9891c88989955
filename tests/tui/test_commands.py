"""Every command that belongs here exists, explains itself, and is quick to ask."""

import re
from typing import Any

import pytest
import typer

from tests.tui.world import World
from tui.cli import app

# design: the names that users and outside checks rely on, as far as they are built.
COMMANDS = {
    "demo": ["--reader", "--json"],
    "doctor": ["--json"],
    "readers": ["--json"],
    "probe": ["--reader", "--timeout", "--trace", "--json"],
    "apdu": ["--reader", "--timeout", "--trace", "--json"],
    "scheme init": ["--name", "--key-file", "--json"],
    "card new": ["--scheme", "--balance", "--tier", "--rider", "--key-file", "--json"],
    "card show": ["--json"],
    "card load": ["--scheme", "--key-file", "--json"],
    "card pin": ["--pin-file", "--json"],
    "card serve": ["--vpcd", "--trace"],
    "terminal new": ["--scheme", "--class", "--merchant", "--vehicle", "--clearing", "--key-file", "--json"],
    "pos pay": ["--terminal", "--reader", "--timeout", "--trace", "--pin-file", "--line", "--run", "--json"],
    "pos refund": ["--of", "--terminal", "--reader", "--timeout", "--trace", "--json"],
    "pos give-up": ["--terminal", "--reason", "--json"],
    "pos status": ["--terminal", "--json"],
    "pos receipt": ["--terminal", "--lang", "--print", "--printer", "--json"],
    "pos run": ["--terminal", "--reader", "--amount", "--fares", "--line", "--to", "--jsonl", "--trace"],
    "shift open": ["--terminal", "--who", "--json"],
    "shift in": ["--terminal", "--reason", "--who", "--json"],
    "shift out": ["--terminal", "--reason", "--who", "--json"],
    "shift x": ["--terminal", "--print", "--printer", "--json"],
    "shift close": ["--terminal", "--note", "--reason", "--who", "--print", "--printer", "--json"],
    "shift list": ["--terminal", "--limit", "--number", "--print", "--printer", "--json"],
    "fares check": ["--as-cny", "--rider-category", "--json"],
    "fares show": ["--line", "--direction", "--from", "--to", "--rider", "--as-cny", "--json"],
    "sync": ["--terminal", "--clearing", "--export", "--json"],
    "clearing serve": ["--scheme", "--host", "--port", "--workers"],
    "clearing report": ["--scheme", "--json"],
    "clearing import": ["--scheme", "--json"],
    "clearing backup": ["--scheme", "--json"],
    "clearing close": ["--scheme", "--out", "--day", "--key-file", "--json"],
    "clearing disputes": ["--scheme", "--out", "--key-file", "--json"],
    "clearing reconcile": ["--scheme", "--unsigned-theirs", "--json"],
    "clearing restore": ["--scheme", "--force-older", "--json"],
    "clearing settlements": ["--scheme", "--number", "--out", "--key-file", "--json"],
    "pos check": ["--terminal", "--reader", "--timeout", "--trace", "--json"],
    "scheme rotate": ["--scheme", "--compromised", "--json"],
    "scheme revoke": ["--scheme", "--json"],
    "scheme authorities show": ["--scheme", "--terminal", "--json"],
    "scheme authorities export": ["--scheme", "--json"],
    "scheme authorities import": ["--terminal", "--json"],
    "card block": ["--scheme", "--json"],
    "card unblock": ["--scheme", "--json"],
    "card raise": ["--scheme", "--json"],
    "terminal renew": ["--scheme", "--json"],
    "denylist add": ["--scheme", "--clones", "--list", "--json"],
    "denylist remove": ["--scheme", "--list", "--json"],
    "denylist renew": ["--scheme", "--json"],
    "denylist export": ["--scheme", "--change", "--json"],
    "denylist import": ["--terminal", "--json"],
    "denylist show": ["--terminal", "--scheme", "--card", "--json"],
    "orders export": ["--scheme", "--all", "--json"],
    "orders import": ["--terminal", "--json"],
    "tui cashier": ["--terminal", "--reader", "--lang", "--theme", "--plain", "--mute", "--web", "--trace"],
    "tui bus": [
        *("--terminal", "--reader", "--fares", "--line", "--direction", "--amount"),
        *("--lang", "--plain", "--web"),
    ],
    "trace show": ["--json"],
    "trace replay": ["--vpcd", "--json"],
}


def commands() -> dict[str, Any]:
    """Every command of the program, by what is typed."""

    def below(node: Any, words: str) -> dict[str, Any]:
        if not hasattr(node, "commands"):
            return {words: node}
        return {
            name: command
            for word, child in node.commands.items()
            for name, command in below(child, f"{words} {word}".strip()).items()
        }

    return below(typer.main.get_command(app), "")


def test_these_are_the_commands() -> None:
    assert sorted(commands()) == sorted(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_explains_itself(world: World, words: str) -> None:
    done = world.call(*words.split(), "--help")
    assert done.code == 0
    assert done.err == ""
    for option in COMMANDS[words]:
        assert re.search(rf"\s{option}\b", done.out), option
    flat = " ".join(done.out.split())
    assert f"Example: hardwallet {words}" in flat
    if words != "demo":
        assert "Exit codes: 0 " in flat
        assert "2 bad usage" in flat


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != "demo"])
def test_the_list_of_commands_shows_a_whole_line_for_each(world: World, words: str) -> None:
    group = words.split()[:-1]
    listed = world.call(*group, "--help").out
    line = next(line for line in listed.splitlines() if line.strip().startswith(words.split()[-1] + " "))
    assert line.endswith("."), line
    assert not line.endswith("..."), line


def test_help_needs_nothing_heavy(world: World) -> None:
    heavy = "cryptography sqlalchemy httpx starlette uvicorn smartcard sqlite3 rich.console".split()
    probe = (
        "import sys; from tui.cli import main; code = main(['--help']); "
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = world.python(probe)
    assert (done.code, done.err.strip()) == (0, "[]")
    assert "Commands:" in done.out


def test_the_version(world: World) -> None:
    done = world.typed("--version")
    assert done.code == 0
    assert re.fullmatch(r"hardwallet \d+\.\d+\.\d+\S*\n", done.out)
    assert done.err == ""


def test_no_command_at_all_shows_the_help(world: World) -> None:
    assert world.call().out == world.call("--help").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("card", "Missing command"),
        ("card shwo alice.card", "Did you mean 'show'"),
        ("pos pay 1.00", "Missing option '--terminal'"),
        ("pos pay 1.00 --terminal", "requires an argument"),
        ("pos pay 1.00 2.00 --terminal till --reader sim:alice.card", "unexpected extra argument"),
        ("pos pay 1.00 --terminal till --reader sim:alice.card --loud", "No such option: --loud"),
        ("pos pay 1.00 --terminal till --reader sim:alice.card --timeout soon", "--timeout"),
        ("pos pay 1.00 --terminal till --reader sim:alice.card --lang fr", "--lang is en or zh"),
        ("pos pay 1.00 --terminal till", "name the reader"),
        ("pos give-up --terminal till --reason=", "--reason must say why"),
        ("pos receipt ?? --terminal till", "found by its number"),
        ("terminal new --scheme city --class tram t2", "--class is retail or transit, not 'tram'"),
        ("terminal new --scheme city --class retail --merchant 0 t2", "1 to 4294967295"),
        ("terminal new --scheme city --class transit --vehicle BUS7X t2", "4 letters or digits"),
        ("terminal new --scheme city --class retail --vehicle BUS7 t2", "--vehicle is for --class transit"),
        ("terminal new --scheme city --class retail --clearing ftp://x t2", "http://"),
        ("card serve alice.card", "--vpcd"),
        ("sync --terminal till", "name clearing"),
        ("sync --terminal till --clearing nonsense", "name clearing"),
        ("sync --terminal till --clearing http://127.0.0.1:9 --export x", "not both"),
        ("apdu --reader sim:alice.card 00A4x", "is not hex"),
        ("apdu --reader sim:alice.card", "Missing argument"),
        ("card new --scheme city new.card --tier five", "--tier"),
        ("clearing serve --scheme city --port 70000", "--port"),
        ("clearing serve --scheme city --workers 65", "--workers"),
        ("scheme init other --name=", "1 to 80 characters"),
    ],
)
def test_bad_usage(world: World, words: str, said: str) -> None:
    before = sorted(path.name for path in world.folder.iterdir())
    done = world.call(*words.split())
    assert done.code == 2
    assert done.out == ""
    assert said in done.err
    assert done.err.startswith("hardwallet: ")
    assert done.err.count("\n") == 1
    assert sorted(path.name for path in world.folder.iterdir()) == before


def test_errors_are_json_where_results_are(world: World) -> None:
    assert world.call("card", "show", "nope.card", "--json").error == {
        "kind": "card_file_error",
        "message": "there is no card file nope.card; `hardwallet card new` makes one",
    }
    assert world.call("card", "show", "--json").error["kind"] == "bad_usage"
    run = world.call("pos", "run", "--terminal", "no", "--amount", "1", "--reader", "sim:x", "--jsonl")
    assert run.error["kind"] == "terminal_folder_error"


def test_control_characters_of_a_name_do_not_reach_the_terminal(world: World) -> None:
    done = world.call("card", "show", "\x1b[31mred\x07.card")
    assert done.code == 1
    assert not set("\x1b\x07") & set(done.err)


def test_bytes_that_are_no_text(world: World) -> None:
    for done in (
        world.typed("pos", "status", "--terminal", "till", HARDWALLET_PASSPHRASE="\udcff"),
        world.typed(
            "terminal", "new", "--scheme", "city", "--class", "retail", "t2", "--clearing", "http://\udcff"
        ),
        world.typed("clearing", "serve", "--scheme", "city", "--host", "a..b"),
    ):
        assert (done.code, done.out) in ((1, ""), (2, ""))
        assert done.err.startswith("hardwallet: ")
        assert done.err.count("\n") == 1
    assert world.typed("pos", "give-up", "--terminal", "till", "--reason", "\udcff").code == 1


def test_a_closed_or_full_stdout_is_no_traceback(world: World) -> None:
    full = world.shell("hardwallet card show alice.card > /dev/full")
    assert (full.code, full.err) == (1, "hardwallet: the system refused: No space left on device\n")
    closed = world.shell("hardwallet trace --help | true; hardwallet card show alice.card >&-")
    assert (closed.code, closed.err) == (0, "")
