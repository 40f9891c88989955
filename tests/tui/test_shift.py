"""`hardwallet shift` and printing from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tui.world import Done, World


def shift(world: World, *words: str, terminal: str = "till") -> Done:
    return world.call("shift", *words, "--terminal", terminal)


def settings(world: World, **changes: Any) -> None:
    path = world.path("till") / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_shift_from_open_to_close(world: World) -> None:
    opened = shift(world, "open", "200.00", "--who", "Li")
    assert (opened.code, opened.out) == (0, "Shift 1 is open, with CNY 200.00 in the drawer.\n")
    assert world.pay("12.50").code == 0
    into = shift(world, "in", "30", "--reason", "change", "--who", "Li", "--json").json
    assert into["shift"]["expected_fen"] == 23_000
    out = shift(world, "out", "1.50", "--reason", "milk", "--who", "Wang")
    assert out.out == "CNY 1.50 was taken out of the drawer of shift 1.\n"
    x = shift(world, "x", "--json").json
    assert (x["report"], x["closing"], x["shift"]["expected_fen"]) == ("x", None, 22_850)
    assert x["totals"]["granted"] == {"count": 1, "amount_fen": 1_250}
    assert [item["state"] for item in x["unsynced"]["items"]] == ["queued"]
    refused = shift(world, "close", "228.40", "--who", "Wang")
    assert (refused.code, refused.out) == (1, "")
    assert "0.10 is missing in the drawer" in refused.err
    closed = shift(world, "close", "228.40", "--who", "Wang", "--reason", "a coin", "--note", "rain")
    assert closed.code == 0
    for words in ("Z REPORT", "CNY 12.50", "CNY -0.10", "a coin", "rain", "Wang"):
        assert words in closed.out
    listed = shift(world, "list", "--json").json
    assert listed["open"] is None
    (z,) = listed["shifts"]
    assert (z["report"], z["difference_fen"]) == ("z", -10)
    assert (z["totals"], z["unsynced"]) == (x["totals"], x["unsynced"])
    again = shift(world, "list", "--number", "1")
    assert "COPY" in again.out
    assert again.out.replace("      COPY, printed again\n", "") == closed.out


def test_the_list_for_people(world: World) -> None:
    assert shift(world, "list").out == "No shift is open.\n"
    shift(world, "open", "0", "--who", "Li")
    shift(world, "close", "0.00", "--who", "Wang")
    shift(world, "open", "5", "--who", "Zhao")
    first, _, heads, row = shift(world, "list").out.splitlines()
    assert first.startswith("Shift 2 is open since ")
    assert first.endswith("opened by Zhao.")
    assert heads.split() == ["shift", "closed", "by", "cards", "counted", "difference"]
    assert row.split()[0] == "1"
    assert row.split()[3:] == ["Wang", "0.00", "0.00", "0.00"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["in", "1", "--reason", "a"], 1, "no shift is open"),
        (["out", "1", "--reason", "a"], 1, "no shift is open"),
        (["x"], 1, "no shift is open"),
        (["close", "1"], 1, "no shift is open"),
        (["open", "much"], 2, "is not an amount"),
        (["open", "-1.00"], 2, "is not an amount"),
        (["open", "1.234"], 2, "is not an amount"),
        (["in", "0", "--reason", "a"], 2, "the amount is zero"),
        (["in", "1"], 2, "--reason"),
        (["open", "1", "--who", " "], 1, "say who does it"),
        (["list", "--number", "1"], 1, "no closed shift with the number 1"),
        (["list", "--print"], 2, "say which shift to print"),
        (["list", "--limit", "0"], 2, "--limit"),
    ],
)
def test_what_is_refused(world: World, words: list[str], code: int, said: str) -> None:
    done = shift(world, *words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_who_it_is_when_nobody_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "zhang")
    assert shift(world, "open", "0", "--json").json["shift"]["opened_by"] == "zhang"

    def nobody() -> str:
        raise OSError("no such user")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert "say who does it" in shift(world, "close", "0").err


def test_a_blind_count(world: World) -> None:
    settings(world, shift={"blind_count": True})
    assert shift(world, "open", "10", "--who", "Li", "--json").json["shift"]["expected_fen"] is None
    x = shift(world, "x")
    assert "after the count" in x.out
    refused = shift(world, "close", "9", "--who", "Li")
    assert refused.code == 1
    assert "differs from the books" in refused.err
    assert "10" not in refused.err
    assert "CNY 10.00" in shift(world, "close", "9", "--reason", "?", "--who", "Li").out


def test_selling_only_in_shifts(world: World) -> None:
    settings(world, shift={"required": True})
    refused = world.pay("1.00")
    assert refused.code == 1
    assert refused.error["kind"] == "shift_not_open"
    assert world.shown()["balance_fen"] == 20_000
    shift(world, "open", "0", "--who", "Li")
    assert world.pay("1.00").code == 0


def test_a_torn_line_is_told_and_the_shift_goes_on(world: World) -> None:
    shift(world, "open", "0", "--who", "Li")
    with (world.path("till") / "shifts.book").open("ab") as book:
        book.write(b'{"event":"moved"')
    done = shift(world, "x")
    assert done.code == 0
    assert "was not whole and was cut off" in done.err
    assert shift(world, "x").err == ""


def test_a_damaged_book_is_told_and_sales_go_on(world: World) -> None:
    shift(world, "open", "0", "--who", "Li")
    book = world.path("till") / "shifts.book"
    book.write_bytes(b"x" + book.read_bytes())
    done = shift(world, "x")
    assert done.code == 1
    assert "is damaged" in done.err
    for words in (["open", "0"], ["close", "0"], ["list"], ["in", "1", "--reason", "x"]):
        refused = shift(world, *words, "--json")
        assert (refused.code, refused.error["kind"]) == (1, "shift_damaged")
    assert world.pay("1.00").code == 0
    settings(world, shift={"required": True})
    refused = world.pay("1.00")
    assert refused.error["kind"] == "shift_not_open"
    assert "is damaged" in refused.error["message"]
    book.rename(book.with_name("shifts.damaged"))
    assert shift(world, "open", "0", "--who", "Li").code == 0
    assert world.pay("1.00").code == 0


def test_everything_in_chinese(world: World) -> None:
    opened = world.call("--lang", "zh", "shift", "open", "200", "--who", "李", "--terminal", "till")
    assert opened.out == "第 1 班已开班，钱箱备用金 200.00 元。\n"
    x = world.call("--lang", "zh", "shift", "x", "--terminal", "till").out
    assert "X 报表" in x
    assert "备用金                 200.00 元" in x


# ------------------------------------------------------------------------------------------------ printing


def printed(path: Path) -> str:
    return path.read_bytes().decode("gb18030")


def test_reports_and_receipts_go_to_the_printer_of_the_settings(world: World) -> None:
    roll = world.folder / "roll.bin"
    settings(world, printer={"uri": f"file:{roll}", "columns": 48, "heading": "小明便利店"})
    number = str(world.pay("12.50").json["record"]["number"])
    shift(world, "open", "0", "--who", "Li")
    assert shift(world, "x", "--print").code == 0
    assert "小明便利店" in printed(roll)
    assert "X REPORT" in printed(roll)
    assert "-" * 48 in printed(roll)
    roll.unlink()
    done = world.call("pos", "receipt", number, "--terminal", "till", "--lang", "zh", "--print")
    assert done.code == 0
    assert "副本" not in done.out
    assert "副本（重打印）" in printed(roll)
    assert "12.50 元" in printed(roll)
    assert printed(roll).startswith("\x1b@\x1c&")


def test_a_refund_has_a_receipt(world: World) -> None:
    number = str(world.pay("12.50").json["record"]["number"])
    back = ["pos", "refund", "5.00", "--of", number, "--terminal", "till", "--reader", "sim:alice.card"]
    refunded = world.call(*back, "--json").json["record"]
    found = world.call("pos", "receipt", str(refunded["number"]), "--terminal", "till", "--json").json
    assert found["record"] == refunded
    assert "REFUND" in found["text"]
    by_code = world.call("pos", "receipt", refunded["code"], "--terminal", "till", "--json").json
    assert by_code == found
    again = [*back[:4], str(refunded["number"]), *back[5:]]
    assert world.call(*again).code == 1  # a refund can't be refunded


def test_a_printer_that_is_off_loses_nothing(world: World) -> None:
    """The shift is closed, its report is on the screen, and it can be printed later."""
    shift(world, "open", "0", "--who", "Li")
    closed = shift(world, "close", "0", "--who", "Li", "--printer", "serial:/dev/ttyUSB_none")
    assert closed.code == 1
    assert "Z REPORT" in closed.out
    assert "nothing is lost" in closed.err
    roll = world.folder / "roll.bin"
    again = shift(world, "list", "--number", "1", "--printer", f"file:{roll}")
    assert again.code == 0
    assert "Z REPORT" in printed(roll)


@pytest.mark.parametrize("words", [["--print"], ["--printer", "lpt:1"]])
def test_a_printer_that_is_none(world: World, words: list[str]) -> None:
    shift(world, "open", "0", "--who", "Li")
    done = shift(world, "x", *words, "--json")
    assert done.code == 2
    assert done.error["kind"] == "bad_printer_uri"
