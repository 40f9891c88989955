"""Reads mutants.toml: mistakes that somebody could make in the money rules.

A mistake replaces pieces of source that occur exactly once: a piece that is no longer there fails the tests.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. `tests` is a file beside this one, `only` pytest's -k; `sample`: also in the short run."""

    name: str
    path: str
    changes: tuple[tuple[str, str], ...]
    tests: str
    only: str
    sample: bool

    @property
    def module(self) -> str:
        """The module's name."""
        return self.path.removesuffix(".py").replace("/", ".")


def altered(source: str, mutant: Mutant) -> str:
    """The source with the mistake. Raises ValueError when a piece does not occur exactly once."""
    for old, new in mutant.changes:
        if source.count(old) != 1:
            raise ValueError(f"{mutant.name}: {source.count(old)} times in {mutant.path}: {old!r}")
        source = source.replace(old, new)
    return source


def _read() -> list[Mutant]:
    rows = tomllib.loads(_FILE.read_text(encoding="utf-8"))["mutant"]
    return [
        Mutant(
            row["name"],
            row["path"],
            tuple((change["old"], change["new"]) for change in row["changes"]),
            row["tests"],
            row.get("only", ""),
            row.get("sample", False),
        )
        for row in rows
    ]


MUTANTS = _read()
