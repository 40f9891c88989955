"""The day is closed on the command line: files that agree with the books, and lists that are compared."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.open import system_clock
from hardwallet.issuing import read_trust
from offline_sync import settlement
from offline_sync.settlement import beijing_day
from tests.tui.world import World, environment

NAMES = settlement.NAMES_LINE.encode() + b"\n"


def close(world: World, *words: str, out: str = "out") -> object:
    done = world.call("clearing", "close", "--scheme", "city", "--out", out, "--json", *words)
    assert (done.code, done.err) == (0, "")
    return done.json


def bring(world: World, terminal: str = "till") -> None:
    world.call("sync", "--terminal", terminal, "--export", "sent")
    assert world.call("clearing", "import", "sent", "--scheme", "city").code == 0


@pytest.fixture
def paid(world: World) -> World:
    """Three sales have arrived: 12.50 and 3.00 by card alice, 1.00 by card rich."""
    for amount, card in (("12.50", "alice.card"), ("3.00", "alice.card"), ("1.00", "rich.card")):
        assert world.pay(amount, card=card).code == 0
    bring(world)
    return world


def test_a_day_is_closed(paid: World) -> None:
    told = paid.typed("clearing", "close", "--scheme", "city", "--out", "out/here")
    assert (told.code, told.err) == (0, "")
    today = beijing_day(system_clock())
    assert f"1, of {today}" in told.out
    (path,) = paid.path("out/here").glob("*/*.csv")
    assert str(path.relative_to(paid.folder)) in told.out
    assert path.parent.name == f"000001-{today}"
    with path.open("rb") as stream:
        found = settlement.read(stream, read_trust(paid.path("city")).bundle)
    assert (found.totals.rows, found.totals.closing_fen) == (3, 1_650)
    books = paid.call("clearing", "report", "--scheme", "city", "--json").json
    assert [row["balance_fen"] for row in books["payees"]] == [1_650]
    for amount in ("16.50", "0.00"):
        assert amount in told.out


def test_each_payment_is_in_one_file(paid: World) -> None:
    first = close(paid)
    assert first["payees"][0] | {"file": ""} == {  # type: ignore[index]
        "payee": first["payees"][0]["payee"],  # type: ignore[index]
        "rows": 3,
        "opening_fen": 0,
        "credit_fen": 1_650,
        "debit_fen": 0,
        "closing_fen": 1_650,
        "previous": 0,
        "file": "",
    }
    assert (close(paid)["payees"], close(paid)["closing"]["number"]) == ([], 3)  # type: ignore[index]
    paid.pay("0.50")
    bring(paid)
    last = close(paid, "--day", beijing_day(system_clock()).isoformat())["payees"]  # type: ignore[index]
    assert [(row["rows"], row["opening_fen"], row["closing_fen"]) for row in last] == [(1, 1_650, 1_700)]
    listed = paid.call("clearing", "settlements", "--scheme", "city", "--json").json["closings"]
    assert [(row["number"], row["rows"]) for row in listed] == [(1, 3), (2, 0), (3, 0), (4, 1)]
    assert "17.00" in paid.call("clearing", "settlements", "--scheme", "city", "--number", "4").out


def test_files_are_written_again(paid: World) -> None:
    close(paid)
    (path,) = paid.path("out").glob("*/*.csv")
    whole = path.read_bytes()
    again = paid.call("clearing", "settlements", "--scheme", "city", "--number", "1", "--out", "again")
    assert again.code == 0
    (other,) = paid.path("again").glob("*/*.csv")
    assert other.read_bytes() == whole
    path.unlink()
    assert paid.call("clearing", "settlements", "--scheme", "city", "--out", "out").code == 0
    assert path.read_bytes() == whole
    path.write_bytes(b"notes")
    done = paid.call("clearing", "settlements", "--scheme", "city", "--out", "out", "--json")
    assert (done.code, done.error["kind"]) == (1, "settlement_error")
    assert "holds something else; move it away" in done.error["message"]
    assert path.read_bytes() == b"notes"


def test_books_that_were_put_back_replace_what_was_given_out(paid: World) -> None:
    books = paid.path("city/clearing.sqlite")
    before = books.read_bytes()
    close(paid)
    for name in ("-wal", "-shm"):
        books.with_name(books.name + name).unlink(missing_ok=True)
    books.write_bytes(before)
    done = paid.call("clearing", "close", "--scheme", "city", "--out", "out", "--json")
    assert (done.code, done.json["closing"]["number"], done.json["payees"][0]["previous"]) == (0, 2, 0)
    assert "out holds files of closing 1, and the books know 0" in done.err
    assert "This closing is 2; its files replace those after 0." in done.err


def test_what_is_refused(world: World) -> None:
    for words, code, said in (
        (("close", "--day", "21.9.2026", "--out", "out"), 2, "is no day; write it like 2026-11-22"),
        (("close", "--day", "20260921", "--out", "out"), 2, "is no day"),
        (("close", "--day", "2126-01-01", "--out", "out"), 1, "has not begun yet"),
        (("close",), 2, "--out"),
        (("close", "--out", "alice.card"), 1, "alice.card: "),
        (("settlements", "--number", "7"), 1, "there is no closing 7"),
        (("settlements", "--number", "0"), 2, "--number"),
        (("reconcile", "nowhere", "nowhere"), 1, "nowhere: No such file"),
        (("reconcile", "city", "city"), 1, "city: Is a directory"),
        (("reconcile", "alice.card", "alice.card"), 1, "alice.card: "),
    ):
        done = world.call("clearing", *words, "--scheme", "city")
        assert (done.code, said in done.err) == (code, True), done.err
        assert done.err.startswith("hardwallet: ")
        assert done.err.count("\n") == 1
    assert world.call("clearing", "settlements", "--scheme", "city").out == "No day was closed yet.\n"


def test_two_lists_are_compared(paid: World) -> None:
    close(paid)
    (path,) = paid.path("out").glob("*/*.csv")
    ours = str(path)
    same = paid.typed("clearing", "reconcile", ours, ours, "--scheme", "city")
    assert (same.code, same.err) == (0, "")
    assert "No differences." in same.out
    rows = [line for line in path.read_bytes().splitlines(keepends=True) if line[:1].isdigit()]
    rows[0] = rows[0].replace(b",1250,", b",1350,")
    paid.path("till.csv").write_bytes(NAMES + rows[0] + rows[2].replace(b"3,", b"2,", 1))
    reconcile = ("clearing", "reconcile", ours, "till.csv", "--scheme")
    refused = paid.call(*reconcile, "city", "--json")
    assert (refused.code, refused.error["kind"]) == (1, "settlement_refused")
    assert refused.error["message"].startswith("till.csv: this is a list that nobody signed")
    # A merchant compares with the trust of a terminal's folder.
    found = paid.call(*reconcile, "till", "--unsigned-theirs", "--json")
    assert found.code == 1
    assert {name: one["count"] for name, one in found.json["sums"].items() if one["count"]} == {
        "only-ours": 1,
        "amount-differs": 1,
    }
    assert [(one["difference"], one["ours_fen"], one["theirs_fen"]) for one in found.json["differences"]] == [
        ("only-ours", 300, None),
        ("amount-differs", 1_250, 1_350),
    ]
    shown = paid.call(*reconcile, "city", "--unsigned-theirs")
    assert shown.code == 1
    assert "ours 12.50, theirs 13.50" in shown.out


def test_another_days_file_explains_what_is_late(paid: World) -> None:
    close(paid)
    paid.pay("0.50")
    bring(paid)
    close(paid)
    first, second = sorted(map(str, paid.path("out").glob("*/*.csv")))
    rows = b"".join(
        line for name in (first, second) for line in Path(name).read_bytes().splitlines(keepends=True)
        if line[:1].isdigit()
    )  # fmt: skip
    paid.path("till.csv").write_bytes(NAMES + rows.replace(b"\n1,", b"\n4,", 1))
    words = ("clearing", "reconcile", first, "till.csv", "--scheme", "city", "--unsigned-theirs", "--json")
    found = paid.call(*words, "--ours-other", second)
    (one,) = found.json["differences"]
    assert (found.code, one["difference"], one["theirs_fen"]) == (1, "late", 50)
    assert one["detail"] == "it stands in another list of ours"


def test_an_altered_file_is_refused_with_its_name(paid: World) -> None:
    close(paid)
    (path,) = paid.path("out").glob("*/*.csv")
    paid.path("changed.csv").write_bytes(path.read_bytes().replace(b"granted", b"carried", 1))
    done = paid.call("clearing", "reconcile", str(path), "changed.csv", "--scheme", "city")
    assert (done.code, "changed.csv: the rows are not those of the SHA-256" in done.err) == (1, True)


def test_files_of_two_merchants_are_not_compared(paid: World) -> None:
    words = ("--scheme", "city", "--class", "retail", "--merchant", "2")
    assert paid.call("terminal", "new", "kiosk", *words).code == 0
    paid.pay("0.50", terminal="kiosk")
    bring(paid, "kiosk")
    close(paid)
    files = sorted(map(str, paid.path("out").glob("*/*.csv")))
    assert len(files) == 2
    done = paid.call("clearing", "reconcile", *files, "--scheme", "city")
    assert (done.code, "the files are of several merchants" in done.err) == (1, True)


def test_progress_is_shown_to_who_looks(paid: World) -> None:
    """On a terminal stderr tells how far it is, and wipes it; results on stdout stay clean."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tui", "clearing", "close", "--scheme", "city", "--out", "out", "--json"]
    done = subprocess.run(
        command, cwd=paid.folder, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False,
        env=environment({}),
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert json.loads(done.stdout)["closing"]["rows"] == 3
    assert "100 %" in shown
    assert shown.endswith("\r\x1b[K")
