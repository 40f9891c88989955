"""A pytest plugin that loads one module with a mistake in it: `-p tests.hardwallet.mutation`.

HARDWALLET_MUTANT names the mutant. The source on the disk stays as it is and nothing
compiled is kept.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

from tests.hardwallet.mutants import MUTANTS, Mutant, altered

VARIABLE = "HARDWALLET_MUTANT"
REPOSITORY = Path(__file__).resolve().parents[2]


class Loader(importlib.machinery.SourceFileLoader):
    """Compiles the altered source."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(REPOSITORY / mutant.path))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        """Never from a cache."""
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(altered(source, self._mutant), self.path, "exec")


class Finder(MetaPathFinder):
    """Finds the one module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Only the mutant's."""
        if fullname != self._mutant.module:
            return None
        return importlib.util.spec_from_file_location(fullname, loader=Loader(self._mutant))


def _install() -> None:
    name = os.environ.get(VARIABLE)
    if name is None:
        return
    mutant = next(one for one in MUTANTS if one.name == name)
    if mutant.module in sys.modules:
        raise RuntimeError(f"{mutant.module} was loaded before the mutant could be")
    sys.meta_path.insert(0, Finder(mutant))


_install()
