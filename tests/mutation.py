"""Mistakes that somebody could make in the rules, and a pytest plugin that makes one of them.

tests/*/mutants.toml lists them. `-p tests.mutation` with HARDWALLET_MUTANT set to the folder and name of one,
as in "offline_sync: claims a return twice", loads one module altered. The source on the disk stays as it is,
and nothing compiled is kept.
"""

import importlib.util
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

VARIABLE = "HARDWALLET_MUTANT"
TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: in the module at `path` each `old`, which occurs exactly once, becomes its `new`.

    `tests` is a file under tests/ that has to notice it (a list may leave out its own folder), `only` is
    pytest's -k; `sample`: also in the short run.
    """

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


def read_all() -> list[Mutant]:
    """Every mistake of every list."""
    return [mutant for file in sorted(TESTS.glob("*/mutants.toml")) for mutant in _read(file)]


def _read(file: Path) -> Iterator[Mutant]:
    for row in tomllib.loads(file.read_text(encoding="utf-8"))["mutant"]:
        beside = f"{file.parent.name}/{row['tests']}"
        yield Mutant(
            f"{file.parent.name}: {row['name']}",
            row["path"],
            tuple(_changes(row)),
            beside if (TESTS / beside).exists() else row["tests"],
            row.get("only", ""),
            row.get("sample", False),
        )


def _changes(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """One piece, or several under `changes`."""
    for change in row.get("changes", [row]):
        yield change["old"], change["new"]


class _Loader(SourceFileLoader):
    """Compiles the altered source, never from a cache."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(REPOSITORY / mutant.path))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(altered(source, self._mutant), self.path, "exec")


class _Finder(MetaPathFinder):
    """Finds the one module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        return importlib.util.spec_from_file_location(fullname, loader=_Loader(self._mutant))


def _install() -> None:
    name = os.environ.get(VARIABLE)
    if name is None:
        return
    mutant = next(one for one in read_all() if one.name == name)
    if mutant.module in sys.modules:
        raise RuntimeError(f"{mutant.module} was loaded before the mutant could be")
    sys.meta_path.insert(0, _Finder(mutant))


_install()
