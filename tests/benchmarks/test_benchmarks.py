"""The benchmarks run, their rows have the documented shape, a missed limit fails. No figure is judged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as program
from benchmarks import denylist, machine, pcscd, rows, tap_cpu, tap_time
from benchmarks.rows import Row
from firmware_bridge.air_time import J3R180, Operation
from firmware_bridge.errors import ServiceNotRunning
from firmware_bridge.virtual import measure_pcscd, private_pcscd


def written(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, list)
    return found


def require_shape(found: list[dict[str, Any]]) -> None:
    assert found
    for row in found:
        assert list(row) == ["name", "value", "unit", "limit", "ok", "kind"]
        assert isinstance(row["name"], str)
        assert row["name"]
        assert row["value"] is None or isinstance(row["value"], int | float)
        assert isinstance(row["unit"], str)
        assert row["limit"] is None or isinstance(row["limit"], int | float)
        assert isinstance(row["ok"], bool)
        assert row["kind"] in ("measured", "modelled")
    names = [row["name"] for row in found]
    assert len(set(names)) == len(names)


@pytest.fixture(scope="module")
def modelled() -> list[Row]:
    return tap_time.run(False)


def by_name(found: list[Row]) -> dict[str, Row]:
    return {row["name"]: row for row in found}


# ------------------------------------------------------------------------------------------- the program


def test_a_quick_run_writes_rows_of_the_documented_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench.json"
    status = program.main(["--quick", "--only", "tap_cpu", "--only", "tap_time", "--output", str(output)])
    found = written(output)
    require_shape(found)
    assert {row["kind"] for row in found} == {"measured", "modelled"}
    assert status == (0 if all(row["ok"] for row in found) else 1)
    shown = capsys.readouterr().out
    for said in (*machine.description(), *(row["name"].strip() for row in found), str(output)):
        assert said in shown


def fabricated(value: float, limit: float) -> Callable[[bool], list[Row]]:
    return lambda _quick: [
        rows.measured("quiet", 1.0, "x"),
        rows.measured("made up", value, "x", limit),
    ]


@pytest.mark.parametrize(("value", "status"), [(3.001, 1), (3.0, 0), (2.9, 0)])
def test_a_row_above_its_limit_is_a_failure(
    value: float, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench.json"
    assert program.run({"a section": fabricated(value, 3.0)}, output, quick=True) == status
    found = written(output)
    require_shape(found)
    assert [row["ok"] for row in found] == [True, status == 0]
    assert ("miss their limit: made up" in capsys.readouterr().out) == (status == 1)


def test_a_row_that_says_itself_that_it_fails_is_a_failure(tmp_path: Path) -> None:
    """Rows with a lower limit, as those of clearing, judge themselves."""
    low = Row(name="too few", value=0.5, unit="x", limit=0.65, ok=False, kind="measured")
    assert program.run({"": lambda _quick: [low]}, tmp_path / "bench.json", quick=True) == 1


def test_every_section_of_this_checkout_is_run() -> None:
    root = Path(program.__file__).parent
    there = {name for name in program.SECTIONS if (root / f"{name}.py").exists()}
    assert {"tap_cpu", "tap_time", "pcscd", "denylist"} <= there
    assert set(program.sections(list(program.SECTIONS))) == {program.SECTIONS[name] for name in there}


@pytest.mark.parametrize("arguments", [["--slow"], ["--only", "nothing"]])
def test_bad_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        program.main(arguments)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------- the table


def test_the_table_shows_figures_limits_and_verdicts() -> None:
    shown = rows.table(
        [
            rows.measured("ratio", 2.5, "x", 3.0),
            rows.modelled("time", 101.26, "ms", 100),
            Row(name="more is better", value=0.8, unit="x", limit=0.65, ok=True, kind="measured"),
            Row(name="too little", value=0.5, unit="x", limit=0.65, ok=False, kind="measured"),
            rows.not_measured("missing", "ms", 0.3),
            rows.measured("count", 1_000_000, "rows"),
        ]
    ).splitlines()
    words = [line.split() for line in shown[2:]]
    assert words[0] == ["ratio", "2.5", "x", "≤", "3", "ok", "measured"]
    assert words[1] == ["time", "101.3", "ms", "≤", "100", "FAILS", "modelled"]
    assert words[2][-5:] == ["x", "≥", "0.65", "ok", "measured"]
    assert words[3][-5:] == ["x", "≥", "0.65", "FAILS", "measured"]
    assert words[4] == ["missing", "-", "ms", "≤", "0.3", "FAILS", "measured"]
    assert words[5] == ["count", "1,000,000", "rows", "measured"]


# ------------------------------------------------------------------------------------ the modelled tap


def test_modelled_rows_are_the_same_each_time(modelled: list[Row]) -> None:
    assert tap_time.run(False) == modelled


def test_modelled_rows_keep_the_limits_of_the_design(modelled: list[Row]) -> None:
    limited = [row for row in modelled if row["limit"] is not None]
    assert all(row["kind"] == "modelled" for row in modelled)
    assert [row["name"] for row in limited if not row["ok"]] == []
    table = {row["name"].removesuffix(", J3R180, 106 kbit/s"): row["limit"] for row in limited}
    assert table == {
        **tap_time.LIMITS_MS,
        "exchanges, transit, card and terminal know each other": 3,
        "exchanges, transit, card new to the terminal": 4,
        "blocks chained in any of these taps, FSC 256": 0,
    }


def test_the_model_follows_profile_and_bit_rate(modelled: list[Row]) -> None:
    found = by_name(modelled)
    for kind in tap_time.LIMITS_MS:
        if kind == tap_time.PIN_ADDS:
            continue
        values = [found[f"{kind}, J3R180, {rate} kbit/s"]["value"] or 0.0 for rate in (106, 212, 424, 848)]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 4
        oldest = found[f"{kind}, CJ2A081, 106 kbit/s"]["value"] or 0.0
        assert oldest > values[0]


def test_taps_are_what_their_names_say() -> None:
    taken = tap_time.take()
    instructions = {
        name: [event[0][1] for event in each.whole if not isinstance(event, Operation)]
        for name, each in taken.items()
    }
    select, exchange, pay, ratify = 0xA4, 0x10, 0x20, 0x22
    assert instructions[tap_time.KNOWN] == [select, pay, ratify]
    assert instructions[tap_time.NEW] == [select, exchange, pay, ratify]
    assert instructions[tap_time.RETAIL] == [select, pay, ratify]
    assert instructions[tap_time.WITH_PIN] == [select, pay, ratify]
    assert instructions[tap_time.MEETING] == [select, exchange, pay, ratify]
    again = [event for event in taken[tap_time.AGAIN].decided if not isinstance(event, Operation)]
    assert [command[1] for command, _ in again] == [select, pay, ratify]
    assert again[1][1][0] == 2  # already paid, and not ratified yet
    assert again[2][1] == bytes.fromhex("019000")  # ratified now
    assert len(taken[tap_time.KNOWN].decided) < len(taken[tap_time.KNOWN].whole)
    assert tap_time.modelled_ms(tap_time.KNOWN, taken, J3R180, 106) < tap_time.modelled_ms(
        tap_time.RETAIL, taken, J3R180, 106
    )


# ---------------------------------------------------------------------------------------- the measured tap


def test_storage_is_shown_apart_and_all_rounds_count() -> None:
    noisy = [tap_cpu.Slice(100.0, 400.0, 90.0, 900.0)] * 3
    quiet = [tap_cpu.Slice(100.0, 250.0, 50.0, 500.0)] * 2 + [tap_cpu.Slice(100.0, 900.0, 50.0, 500.0)]
    found = by_name(tap_cpu.rows_of([noisy, quiet]))
    limited = found["one transit tap, both ends, storage apart / one raw sign + one raw verify"]
    assert (limited["value"], limited["limit"], limited["ok"]) == (3.1, 3.0, False)
    assert found["  its storage alone / the raw pair"]["value"] == 0.7
    assert found["  both together, over all rounds"]["value"] == 4.0
    assert found["  both together, in the quietest round"]["value"] == 2.5


# --------------------------------------------------------------------------------------------- the denylist


def test_a_denylist_is_looked_up_held_and_changed() -> None:
    """Few cards, in the process that is measured."""
    found = denylist.run(True)
    require_shape([dict(row) for row in found])
    assert {row["limit"] for row in found} == {5.0, 16.0, 50.0, None}
    assert all(row["value"] is not None and row["value"] > 0 for row in found if "memory" not in row["name"])


# ------------------------------------------------------------------------------------------------- pcscd


def test_where_pcscd_cannot_run_it_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private_pcscd, "available", lambda: (False, "Missing: pcscd."))
    monkeypatch.delenv("CI", raising=False)
    assert pcscd.run(True) == []
    assert "skipped: Missing: pcscd." in capsys.readouterr().out


def test_where_nothing_may_be_skipped_a_missing_pcscd_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_pcscd, "available", lambda: (False, "Missing: pcscd."))
    monkeypatch.setenv("CI", "true")
    assert [(row["value"], row["limit"], row["ok"]) for row in pcscd.run(True)] == [(None, 0.3, False)]


def test_a_measurement_that_breaks_off_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_exchanges: int) -> dict[str, Any]:
        raise ServiceNotRunning("pcscd went away")

    monkeypatch.setattr(private_pcscd, "available", lambda: (True, ""))
    monkeypatch.setattr(measure_pcscd, "measure", broken)
    assert [row["ok"] for row in pcscd.run(True)] == [False]


@pytest.mark.pcscd
def test_an_apdu_is_measured_through_pcscd() -> None:
    found = pcscd.run(True)
    require_shape([dict(row) for row in found])
    assert found[0]["limit"] == 0.3
    assert all(row["value"] is not None and row["value"] > 0 for row in found)
