"""A missing package may skip a test on a developer's machine, and never where CI=true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest

SUITE = '''
"""A suite in which things are missing."""
import pytest

@pytest.mark.needs("sh", "a-program-that-nobody-has")
def test_program(): pass

@pytest.mark.needs("module:a_module_that_nobody_has")
def test_module(): pass

def test_import(): pytest.importorskip("a_module_that_nobody_has")

@pytest.mark.skipif(True, reason="this machine has no radio")
def test_platform(): pass

@pytest.mark.needs("sh", "module:json")
def test_runs(): pass
'''

WHOLE_FILE = 'import pytest\npytest.importorskip("a_module_that_nobody_has")\n'


def run_suite(folder: Path, ci: str) -> dict[str, int]:
    """Runs a small suite under this project's conftest; returns how many tests ended how."""
    (folder / "conftest.py").write_text(Path(conftest.__file__).read_text())
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = needs\n    pcscd\n")
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "test_whole_file.py").write_text(WHOLE_FILE)
    options = ["-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "-rA", "--continue-on-collection-errors"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        env={**os.environ, "CI": ci, "PYTHONPATH": str(conftest.REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = ended.stdout.splitlines()
    words = ("PASSED", "FAILED", "SKIPPED", "ERROR")
    # A skip's line counts those it stands for: SKIPPED [2] ...
    return {
        word: sum(
            int(line.split("[")[1].split("]")[0]) if word == "SKIPPED" else 1
            for line in lines
            if line.startswith(f"{word} ")
        )
        for word in words
    }


def test_missing_things_skip_on_a_developers_machine(tmp_path: Path) -> None:
    assert run_suite(tmp_path, ci="") == {"PASSED": 1, "FAILED": 0, "SKIPPED": 5, "ERROR": 0}


def test_missing_things_fail_where_ci_is_true(tmp_path: Path) -> None:
    # A test fails while it is set up, and a file while it is collected: both count as errors.
    assert run_suite(tmp_path, ci="true") == {"PASSED": 1, "FAILED": 1, "SKIPPED": 1, "ERROR": 3}


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Skipped: could not import 'smartcard': No module named 'smartcard'", True),
        ("Skipped: missing: pcscd, opensc-tool", True),
        ("tmux is not installed", True),
        ("Skipped: Missing: pcscd. Run `make setup`, which installs what it can.", True),
        ("Skipped: This machine doesn't let a program make namespaces of its own (unshare failed).", False),
        ("only on Linux", False),
    ],
)
def test_reasons_are_told_apart(reason: str, expected: bool) -> None:
    assert conftest.is_about_something_missing(reason) is expected
