"""The tests can fail: each mistake of mutants.toml is noticed by the tests that answer for its rule.

Here a sample of them; `make mutants` (HARDWALLET_MUTANTS=all) runs the whole list.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hardwallet.mutants import MUTANTS, Mutant, altered
from tests.hardwallet.mutation import VARIABLE

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
TIMEOUT_S = 120
ALL = os.environ.get("HARDWALLET_MUTANTS") == "all"
CHOSEN = [mutant for mutant in MUTANTS if ALL or mutant.sample]
TESTS_FAILED = 1


def run(tests: str, only: str, mutant: str | None) -> "subprocess.CompletedProcess[str]":
    """A few tests in a process of their own, with the mistake or without."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment.pop(VARIABLE, None)
    if mutant is not None:
        environment[VARIABLE] = mutant
    chosen = ["-k", only] if only else []
    plugins = ["-p", "tests.hardwallet.mutation", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-x", "-q", "--tb=no", *plugins, str(HERE / tests), *chosen],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_names_are_different() -> None:
    """Each is found by its name."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_fits_the_source(mutant: Mutant) -> None:
    """The rule stands where the mutant expects it, and the mistake is one that compiles."""
    source = (REPOSITORY / mutant.path).read_text(encoding="utf-8")
    changed = altered(source, mutant)
    assert changed != source
    compile(changed, mutant.path, "exec")
    assert (HERE / mutant.tests).exists()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda mutant: mutant.name)
def test_mutant_is_noticed(mutant: Mutant) -> None:
    """The tests fail, and not because they can't run."""
    done = run(mutant.tests, mutant.only, mutant.name)
    assert done.returncode == TESTS_FAILED, done.stdout + done.stderr
    assert "1 failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_without_a_mistake_the_tests_pass() -> None:
    """The plugin itself breaks nothing, and chooses tests."""
    tests = sorted(
        {(mutant.tests, mutant.only) for mutant in CHOSEN if mutant.tests == "test_contract_sim.py"}
    )
    only = " or ".join(f"({one})" for _, one in tests if one)
    done = run("test_contract_sim.py", only, None)
    assert done.returncode == 0, done.stdout + done.stderr
