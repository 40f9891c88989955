"""Mistakes that somebody could make in the rules of a terminal, and a pytest plugin that makes one of them.

`-p tests.pos_terminal.mutation` with HARDWALLET_TERMINAL_MUTANT set to a name of mutants.toml loads one
module altered. The source on the disk stays as it is, and nothing compiled is kept.
"""

import importlib.util
import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

VARIABLE = "HARDWALLET_TERMINAL_MUTANT"
REPOSITORY = Path(__file__).resolve().parents[2]
_FILE = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: `old`, which occurs exactly once in `path`, becomes `new`.

    `tests` is a file under tests/ that has to notice it, `only` pytest's -k; `sample`: also in the short run.
    """

    name: str
    path: str
    old: str
    new: str
    tests: str
    only: str
    sample: bool = False

    @property
    def module(self) -> str:
        """The module's name."""
        return self.path.removesuffix(".py").replace("/", ".")


def altered(source: str, mutant: Mutant) -> str:
    """The source with the mistake. Raises ValueError when the piece does not occur exactly once."""
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {source.count(mutant.old)} times in {mutant.path}: {mutant.old!r}")
    return source.replace(mutant.old, mutant.new)


MUTANTS = [Mutant(**row) for row in tomllib.loads(_FILE.read_text(encoding="utf-8"))["mutant"]]


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
    mutant = next(one for one in MUTANTS if one.name == name)
    if mutant.module in sys.modules:
        raise RuntimeError(f"{mutant.module} was loaded before the mutant could be")
    sys.meta_path.insert(0, _Finder(mutant))


_install()
