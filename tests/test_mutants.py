"""The tests can fail: each mistake of tests/*/mutants.toml is noticed by the tests that answer for its rule.

Here a sample of them; `make mutants` (HARDWALLET_MUTANTS=all) runs the whole list.
"""

import os
import subprocess
import sys

import pytest

from tests.mutation import REPOSITORY, TESTS, VARIABLE, Mutant, altered, read_all

TIMEOUT_S = 180
MUTANTS = read_all()
ALL = os.environ.get("HARDWALLET_MUTANTS") == "all"
CHOSEN = [mutant for mutant in MUTANTS if ALL or mutant.sample]
TESTS_FAILED = 1


def run(tests: str, only: str, mutant: str | None) -> "subprocess.CompletedProcess[str]":
    """A few tests in a process of their own, with the mistake or without."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment.pop(VARIABLE, None)
    if mutant is not None:
        environment[VARIABLE] = mutant
    plugins = ["-p", "tests.mutation", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    chosen = ["-k", only] if only else []
    return subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-x", "-q", "--tb=no", *plugins, f"tests/{tests}", *chosen],
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
    assert (TESTS / mutant.tests).exists()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda mutant: mutant.name)
def test_mutant_is_noticed(mutant: Mutant) -> None:
    """The tests fail, and not because they can't run."""
    done = run(mutant.tests, mutant.only, mutant.name)
    assert done.returncode == TESTS_FAILED, done.stdout + done.stderr
    assert "1 failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("tests", sorted({mutant.tests for mutant in CHOSEN})[None if ALL else -1 :])
def test_without_a_mistake_the_tests_pass(tests: str) -> None:
    """The plugin itself breaks nothing, and chooses tests."""
    only = {mutant.only for mutant in CHOSEN if mutant.tests == tests}
    done = run(tests, "" if "" in only else " or ".join(f"({one})" for one in sorted(only)), None)
    assert done.returncode == 0, done.stdout + done.stderr
