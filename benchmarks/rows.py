"""The rows of bench.json, and the table that a person reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

Kind = Literal["measured", "modelled"]

REPOSITORY: Final = Path(__file__).resolve().parents[1]
"""From where a process of its own finds this package."""


class Row(TypedDict):
    """One figure. `limit` is None where there is none; `value` is None where nothing could be measured."""

    name: str
    value: float | None
    unit: str
    limit: float | None
    ok: bool
    kind: Kind


def measured(name: str, value: float, unit: str, at_most: float | None = None) -> Row:
    """A measured figure, with the most that it may be, or no limit."""
    return _row(name, value, unit, at_most, "measured")


def reached(name: str, value: float, unit: str, at_least: float) -> Row:
    """A measured figure, with the least that it must be."""
    row = _row(name, value, unit, None, "measured")
    return Row(**{**row, "limit": at_least, "ok": row["value"] is not None and row["value"] >= at_least})


def modelled(name: str, value: float, unit: str, at_most: float | None = None) -> Row:
    """A modelled figure, with the most that it may be, or no limit."""
    return _row(name, value, unit, at_most, "modelled")


def not_measured(name: str, unit: str, at_most: float) -> Row:
    """A figure with a limit that could not be measured where it has to be: it fails."""
    return Row(name=name, value=None, unit=unit, limit=at_most, ok=False, kind="measured")


def _row(name: str, value: float, unit: str, limit: float | None, kind: Kind) -> Row:
    rounded = round(value, 3)
    return Row(
        name=name, value=rounded, unit=unit, limit=limit, ok=limit is None or rounded <= limit, kind=kind
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text, a line each."""
    lines = [["figure", "value", "unit", "limit", "", "kind"]]
    lines += [
        [row["name"], _number(row["value"]), row["unit"], _limit(row), _verdict(row), row["kind"]]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(line, widths) for line in [lines[0], rule, *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cell.rjust(width) if column in (1, 3) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 10_000 else f"{value:,.4g}"


def _limit(row: Row) -> str:
    """The limit and its direction, which a row tells by its verdict only."""
    value, limit = row["value"], row["limit"]
    if limit is None:
        return ""
    at_least = value is not None and value != limit and (value > limit) == row["ok"]
    return f"{'≥' if at_least else '≤'} {_number(limit)}"


def _verdict(row: Row) -> str:
    if row["limit"] is None:
        return ""
    return "ok" if row["ok"] else "FAILS"


SHAPE: dict[str, tuple[type[Any], ...]] = {
    "name": (str,),
    "value": (int, float, type(None)),
    "unit": (str,),
    "limit": (int, float, type(None)),
    "ok": (bool,),
    "kind": (str,),
}
"""What every row holds, for whoever reads rows that come from elsewhere."""
