"""The settlement benchmark settles what it says: rows of the documented shape, every file read back."""

import pytest

from benchmarks import settlement
from tests.benchmarks.test_benchmarks import by_name, require_shape


def test_a_small_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "QUICK_PAYMENTS", 300)
    monkeypatch.setattr(settlement, "QUICK_MERCHANTS", 5)
    rows = settlement.run(True)
    require_shape([dict(row) for row in rows])
    name = "settlement: 300 payments, 5 merchants"
    found = by_name(rows)
    assert set(found) == {name, f"{name}, peak memory", f"{name}, files written"}
    # A part of a day says nothing about the limit of a whole one; its memory must keep it all the same.
    assert (found[name]["limit"], found[f"{name}, peak memory"]["limit"]) == (None, 500)


def test_the_limits_are_those_of_the_whole_day() -> None:
    assert (settlement.PAYMENTS, settlement.MERCHANTS) == (1_000_000, 1_000)
    assert (settlement.SECONDS_LIMIT, settlement.MEMORY_LIMIT_MB) == (30, 500)
