"""The tests can fail: each mistake of mutants.toml is noticed by the tests that answer for its rule.

Here a sample of them; HARDWALLET_MUTANTS=all runs the whole list.
"""

import os
import subprocess
import sys

import pytest

from tests.pos_terminal.mutation import MUTANTS, REPOSITORY, VARIABLE, Mutant, altered

TIMEOUT_S = 180
ALL = os.environ.get("HARDWALLET_MUTANTS") == "all"
CHOSEN = [mutant for mutant in MUTANTS if ALL or mutant.sample]
TESTS_FAILED = 1


def run(mutant: Mutant, *, name: str | None) -> "subprocess.CompletedProcess[str]":
    """The mutant's tests in a process of their own, with the mistake or without."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment.pop(VARIABLE, None)
    if name is not None:
        environment[VARIABLE] = name
    plugins = ["-p", "tests.pos_terminal.mutation", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    return subprocess.run(
        [
            *(sys.executable, "-B", "-m", "pytest", "-x", "-q", "--tb=no", *plugins),
            *(f"tests/{mutant.tests}", "-k", mutant.only),
        ],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_names_are_different() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_fits_the_source(mutant: Mutant) -> None:
    """The rule stands where the mutant expects it, and the mistake is one that compiles."""
    source = (REPOSITORY / mutant.path).read_text(encoding="utf-8")
    changed = altered(source, mutant)
    assert changed != source
    compile(changed, mutant.path, "exec")
    assert (REPOSITORY / "tests" / mutant.tests).exists()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda mutant: mutant.name)
def test_mutant_is_noticed(mutant: Mutant) -> None:
    """The tests fail, and not because they can't run."""
    done = run(mutant, name=mutant.name)
    assert done.returncode == TESTS_FAILED, done.stdout + done.stderr
    assert "1 failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_without_a_mistake_the_tests_pass() -> None:
    """The plugin itself breaks nothing, and the choice by -k finds tests."""
    done = run(CHOSEN[0], name=None)
    assert done.returncode == 0, done.stdout + done.stderr
