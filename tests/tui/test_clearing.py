"""The money arrives: over HTTP, by file, once; and what comes in the way loses nothing."""

import signal
import socket

import pytest

from firmware_bridge.errors import CardGone
from fleet.open import open_clearing
from hardwallet.session import WalletSession
from tests.tui.clearings import answering
from tests.tui.test_paying import RETAIL_PAY
from tests.tui.world import World, running


def test_everything_arrives_over_http(world: World) -> None:
    world.pay("12.50")
    world.pay("2.00", terminal="bus")
    with running(world.folder, "clearing", "serve", "--scheme", "city", "--port", "0") as clearing:
        ready = clearing.line()
        assert ready.startswith("ready http://127.0.0.1:")
        url = ready.removeprefix("ready ")
        sent = world.typed("sync", "--terminal", "till", "--clearing", url, "--json")
        assert (sent.code, sent.err) == (0, "")
        assert sent.json["entries"] == sent.json["acknowledged"] == 2
        assert sent.json["waiting"] == {"entries": 0, "count": 0, "amount_fen": 0}
        again = world.call("sync", "--terminal", "till", "--clearing", url, "--json").json
        assert (again["entries"], again["batches"]) == (0, 0)
        # The address may stand in the settings.
        settings = world.path("bus/settings.json")
        text = settings.read_text(encoding="utf-8").replace('"clearing": ""', f'"clearing": "{url}"')
        settings.write_text(text, encoding="utf-8")
        told = world.call("sync", "--terminal", "bus")
        assert (told.code, "1 entries in 1 uploads" in told.out) == (0, True)
        loaded = world.call("card", "load", "alice.card", "50.00", "--scheme", "city", "--json").json
        assert (loaded["balance_fen"], loaded["acknowledged_sequence"]) == (23_550, 3)
        with open_clearing(world.path("city"), loads=False) as books_now:  # it looks at no load by itself
            assert books_now.report().conservation.loads_fen == 20_000 + 90_000 + 5_000
        ended = clearing.stop(signal.SIGINT)
    assert (ended.code, ended.err) == (0, "")
    report = world.call("clearing", "report", "--scheme", "city", "--json")
    assert report.code == 0
    books = report.json
    assert books["conservation"]["ok"]
    assert books["conservation"]["loads_fen"] == 20_000 + 90_000 + 5_000
    assert [row["balance_fen"] for row in books["payees"]] == [1_450]
    alice = next(row for row in books["cards"] if row["card"] == world.shown()["number"])
    assert (alice["balance_fen"], alice["missing"]) == (world.shown()["balance_fen"], 0)
    told = world.call("clearing", "report", "--scheme", "city")
    assert "holds to the fen" in told.out
    assert "14.50" in told.out
    assert world.shown()["offline_fen"] == 0


def test_what_was_not_granted_goes_back_with_a_load_once(world: World) -> None:
    world.torn_pay(300, RETAIL_PAY, "after", card="rich.card")
    world.call("pos", "give-up", "--terminal", "till", "--reason", "left")
    world.pay("1.00", card="rich.card")
    balance_fen = world.shown("rich.card")["balance_fen"]
    world.typed("sync", "--terminal", "till", "--export", "till.export", "--json")
    world.typed("clearing", "import", "till.export", "--scheme", "city", "--json")
    told = world.call("clearing", "report", "--scheme", "city").out
    assert "Owed back: CNY 3.00 to card" in told
    loaded = world.call("card", "load", "rich.card", "0.00", "--scheme", "city")
    assert loaded.code == 0
    assert "CNY 3.00: paid before and not granted, record 2" in loaded.out
    assert world.shown("rich.card")["balance_fen"] == balance_fen + 300
    again = world.call("card", "load", "rich.card", "0.00", "--scheme", "city")
    assert (again.code, "nothing is owed back to this card" in again.err) == (2, True)
    more = world.call("card", "load", "rich.card", "2.00", "--scheme", "city", "--json").json
    assert (more["amount_fen"], more["returned_fen"], more["returns"]) == (200, 0, [])
    books = world.call("clearing", "report", "--scheme", "city", "--json").json
    assert books["conservation"]["ok"]
    assert (books["conservation"]["owed_fen"], books["conservation"]["returned_fen"]) == (0, 300)
    assert books["owed"] == []


def test_a_load_with_returns_that_was_cut_off_is_finished_and_claims_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order with the return is journalled; the same command again finishes that very order."""
    world.torn_pay(300, RETAIL_PAY, "after", card="rich.card")
    world.call("pos", "give-up", "--terminal", "till", "--reason", "left")
    world.pay("1.00", card="rich.card")
    world.typed("sync", "--terminal", "till", "--export", "till.export", "--json")
    world.typed("clearing", "import", "till.export", "--scheme", "city", "--json")
    balance_fen = world.shown("rich.card")["balance_fen"]
    with monkeypatch.context() as torn:
        torn.setattr(WalletSession, "load", left)
        assert world.call("card", "load", "rich.card", "2.00", "--scheme", "city").code == 1
    books = world.call("clearing", "report", "--scheme", "city", "--json").json
    assert [(row["amount_fen"], row["claimed"]) for row in books["owed"]] == [(300, True)]
    done = world.call("card", "load", "rich.card", "2.00", "--scheme", "city", "--json").json
    assert (done["amount_fen"], done["returned_fen"], done["resumed"]) == (500, 300, True)
    assert world.shown("rich.card")["balance_fen"] == balance_fen + 500
    books = world.call("clearing", "report", "--scheme", "city", "--json").json
    assert (books["owed"], books["conservation"]["ok"]) == ([], True)


def left(*_: object) -> None:
    """The card leaves before it answers."""
    raise CardGone("the card was taken away")


def test_everything_arrives_by_file_once(world: World) -> None:
    world.pay("12.50")
    world.torn_pay(300, RETAIL_PAY, "after", card="rich.card")
    world.call("pos", "give-up", "--terminal", "till", "--reason", "left")
    world.pay("1.00", card="rich.card")
    written = world.typed("sync", "--terminal", "till", "--export", "till.export", "--json")
    assert (written.code, written.json["uploads"]) == (0, 1)
    assert world.status()["waiting"]["count"] == 3
    booked = world.typed("clearing", "import", "till.export", "--scheme", "city", "--json")
    assert (booked.code, booked.json["rejected"], booked.json["entries"]) == (0, [], written.json["entries"])
    books = world.call("clearing", "report", "--scheme", "city", "--json").json
    again = world.call("clearing", "import", "till.export", "--scheme", "city")
    assert again.code == 0
    assert world.call("clearing", "report", "--scheme", "city", "--json").json == books
    assert (books["payments"], books["conservation"]["payees_fen"]) == (3, 1_350)
    assert [row["amount_fen"] for row in books["owed"]] == [300]
    assert [row["amount_fen"] for row in books["paid_not_granted"]] == [300]
    assert "Paid, not granted: CNY 3.00" in world.call("clearing", "report", "--scheme", "city").out
    # A refund arrives the same way, and the books still hold.
    payment = f"{world.shown()['number']}:2"
    refund = ("pos", "refund", "2.50", "--of", payment, "--terminal", "till", "--reader", "sim:alice.card")
    assert world.call(*refund).code == 0
    written = world.call("sync", "--terminal", "till", "--export", "till.export", "--json")
    assert (
        world.call("clearing", "import", "till.export", "--scheme", "city", "--json").json["rejected"] == []
    )
    books = world.call("clearing", "report", "--scheme", "city", "--json").json
    assert (books["refunds"], books["conservation"]["ok"]) == (1, True)
    assert books["conservation"]["payees_fen"] == 1_350 - 250
    # What was exported waits here until clearing itself has told this terminal.
    rewritten = world.call("sync", "--terminal", "till", "--export", "till.export", "--json").json
    assert rewritten["entries"] == written.json["entries"]


def test_an_altered_upload_is_refused_whole(world: World) -> None:
    world.pay("12.50")
    world.call("sync", "--terminal", "till", "--export", "till.export")
    path = world.path("till.export")
    whole = path.read_bytes()
    middle = whole.index(b'"signature":"') + 20
    altered = whole[:middle] + (b"B" if whole[middle : middle + 1] == b"A" else b"A") + whole[middle + 1 :]
    for content, said in (
        (altered, "is not what the terminal signed"),
        (whole[: len(whole) // 2], "was altered"),
        (b"PK\x03\x04", "is no export of a terminal"),
    ):
        path.write_bytes(content)
        done = world.call("clearing", "import", "till.export", "--scheme", "city", "--json")
        assert done.code == 1
        assert said in done.error["message"]
        books = world.call("clearing", "report", "--scheme", "city", "--json").json
        assert books["payments"] == 0
    assert world.call("clearing", "import", "nope", "--scheme", "city").code == 1
    path.write_bytes(whole)
    assert world.call("clearing", "import", "till.export", "--scheme", "city").code == 0


def test_an_export_writes_over_nothing_else(world: World) -> None:
    whole = world.path("alice.card").read_bytes()
    done = world.call("sync", "--terminal", "till", "--export", "alice.card")
    assert (done.code, "is no export; name another file" in done.err) == (1, True)
    assert world.path("alice.card").read_bytes() == whole
    for name in ("/dev/null", "city", "/", ".", ""):
        done = world.call("sync", "--terminal", "till", "--export", name)
        assert (done.code, "is no ordinary file" in done.err) == (1, True)
    done = world.call("sync", "--terminal", "till", "--export", "no/such/folder/file", "--json")
    assert (done.code, done.error["kind"]) == (1, "export_failed")


def test_another_schemes_clearing_books_nothing(world: World) -> None:
    world.pay("12.50")
    world.call("sync", "--terminal", "till", "--export", "till.export")
    assert world.call("scheme", "init", "other").code == 0
    done = world.call("clearing", "import", "till.export", "--scheme", "other", "--json")
    assert (done.code, done.error["kind"]) == (1, "batch_refused")


@pytest.mark.parametrize(
    ("kind", "error", "asked"),
    [
        ("nonsense", "clearing_nonsense", 1),
        ("json", "clearing_nonsense", 1),
        ("failing", "clearing_failed", 2),
        ("refusing", "clearing_refused", 1),
        ("elsewhere", "clearing_nonsense", 1),
        ("missing", "clearing_nonsense", 1),
        ("slow", "clearing_slow", 2),
    ],
)
def test_whatever_answers_in_clearings_place(world: World, kind: str, error: str, asked: int) -> None:
    world.pay("12.50")
    before = world.status()
    with answering(kind) as (url, paths):
        done = world.call(
            *("sync", "--terminal", "till", "--clearing", url, "--tries", "2", "--timeout", "0.3", "--json")
        )
    assert (done.code, done.out) == (1, "")
    assert f'"kind": "{error}"' in done.err.splitlines()[-1]
    assert paths == ["/v1/batches"] * asked
    assert world.status() == before


def test_clearing_out_of_reach(world: World) -> None:
    world.pay("12.50")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = world.call("sync", "--terminal", "till", "--clearing", url, "--tries", "1")
    assert done.code == 1
    assert "cannot be reached" in done.err
    assert "what waits stays here" in done.err
    assert world.status()["waiting"]["count"] == 1
    assert world.pay("1.00").code == 0


def test_an_address_that_is_taken(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = world.typed("clearing", "serve", "--scheme", "city", "--port", port)
    assert (done.code, done.out) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}" in done.err


def test_books_that_cannot_be_read(world: World) -> None:
    world.path("city/clearing.sqlite").write_bytes(b"not a database" * 100)
    for words in ("clearing report", "clearing serve --port 0", "clearing import x"):
        done = world.call(*words.split(), "--scheme", "city")
        assert done.code == 1
        assert done.err.startswith("hardwallet: ")
    loaded = world.call("card", "load", "alice.card", "1.00", "--scheme", "city")
    assert (loaded.code, "books" in loaded.err) == (0, True)
    assert world.shown()["balance_fen"] == 20_100
