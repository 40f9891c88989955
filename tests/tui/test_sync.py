"""`hardwallet sync` brings back what operators published, sends again what clearing lost, and tells a wrong
clock in words.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.tui.world import TIMEOUT_S, World, environment, running


@contextmanager
def clearing_of(world: World) -> Iterator[str]:
    with running(world.folder, "clearing", "serve", "--scheme", "city", "--port", "0") as process:
        yield process.line().removeprefix("ready ")


@contextmanager
def clearing_ahead(world: World, ahead_s: int) -> Iterator[str]:
    """Clearing whose clock is ahead of the terminals'."""
    with subprocess.Popen(
        [sys.executable, "-m", "fleet.clearing_process", "city", str(ahead_s)],
        cwd=world.folder,
        stdin=subprocess.PIPE,  # it serves until that ends
        stdout=subprocess.PIPE,
        text=True,
        env=environment({}),
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[1]
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)


def version_at(world: World, terminal: str) -> int:
    (held,) = world.call("denylist", "show", "--terminal", terminal, "--json").json["lists"]
    return int(held["version"])


def test_a_denylist_orders_and_authorities_arrive(world: World) -> None:
    alice, rich = world.shown()["number"], world.shown("rich.card")["number"]
    before = version_at(world, "till")
    with clearing_of(world) as url:
        nothing = world.call("sync", "--terminal", "till", "--clearing", url, "--json")
        assert nothing.code == 0
        fetched = nothing.json["fetched"]
        assert (fetched["failure"], fetched["denylists"], fetched["orders"]) == ("", 0, 0)
        assert world.call("denylist", "add", alice, "--scheme", "city").code == 0
        assert world.call("card", "block", rich, "--scheme", "city").code == 0
        assert world.call("scheme", "rotate", "issuer", "--scheme", "city").code == 0
    with clearing_of(world) as url:  # it begins with what the scheme's folder holds
        done = world.call("sync", "--terminal", "till", "--clearing", url, "--json")
        assert done.code == 0, done.err
        fetched = done.json["fetched"]
        assert (fetched["denylists"], fetched["orders"], fetched["orders_refused"]) == (1, 1, 0)
        assert fetched["authorities"] >= 1
        assert version_at(world, "till") == before + 1
        shown = world.call("denylist", "show", "--terminal", "till", "--card", alice, "--json").json
        assert shown["card"]["denied"]
        again = world.call("sync", "--terminal", "till", "--clearing", url)
        assert again.code == 0
        assert "0 new denylists, 0 new orders" in again.out
    assert world.pay("1.00").code == 1  # at the till, with nobody online
    assert world.pay("2.00", terminal="bus").code == 0  # the bus has not been told
    assert world.pay("1.00", card="rich.card").code == 1  # the till has handed the order over
    assert world.pay("2.00", card="rich.card", terminal="bus").code == 1


def test_what_the_scheme_publishes_reaches_a_clearing_that_runs(world: World) -> None:
    alice = world.shown()["number"]
    with clearing_of(world) as url:
        assert world.call("denylist", "add", alice, "--scheme", "city").code == 0
        done = world.call("sync", "--terminal", "till", "--clearing", url, "--json").json
        assert (done["fetched"]["denylists"], done["fetched"]["authorities"]) == (1, 0)
        assert world.call("card", "block", alice, "--scheme", "city").code == 0
        assert world.call("scheme", "rotate", "acquirer", "--scheme", "city").code == 0
        done = world.call("sync", "--terminal", "till", "--clearing", url, "--json").json
        assert (done["fetched"]["orders"], done["fetched"]["authorities"]) == (1, 1)


@pytest.mark.parametrize(("ahead_s", "words"), [(3_600, "1 h behind"), (-3_600, "1 h ahead of")])
def test_a_clock_that_is_wrong_by_an_hour(world: World, ahead_s: int, words: str) -> None:
    world.pay("12.50")
    with clearing_ahead(world, ahead_s) as url:
        done = world.call("sync", "--terminal", "till", "--clearing", url)
    assert (done.code, done.out) == (1, "")
    assert f"the clock of this machine is {words} clearing's" in done.err
    assert "set it right" in done.err
    assert world.status()["waiting"]["count"] == 1
    assert world.pay("1.00").code == 0  # it goes on selling


def test_books_that_were_put_back_get_everything_again(world: World) -> None:
    world.pay("12.50")
    with clearing_of(world) as url:
        assert world.call("sync", "--terminal", "till", "--clearing", url).code == 0
    for path in world.folder.glob("city/clearing.sqlite*"):
        path.unlink()
    with clearing_of(world) as url:
        done = world.call("sync", "--terminal", "till", "--clearing", url, "--json")
        assert done.code == 0
        assert (done.json["entries"], done.json["fetched"]["sent_again"] > 0) == (0, True)
        again = world.call("sync", "--terminal", "till", "--clearing", url, "--json").json
        assert again["fetched"]["sent_again"] == 0
    books = world.call("clearing", "report", "--scheme", "city", "--json").json
    assert (books["payments"], books["conservation"]["payees_fen"]) == (1, 1_250)
    assert "restored" in {row["kind"] for row in books["evidence"]}
