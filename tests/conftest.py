"""What every test shares: markers for what a test needs, and skips that fail where nothing may be missing.

With CI=true a test that would be skipped for something missing fails instead. Skips for another reason (a
platform, a permission that the machine does not give) stay skips; their reasons stand at the end of each run.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from firmware_bridge.virtual import private_pcscd

if TYPE_CHECKING:
    from _pytest.reports import BaseReport

REPOSITORY = Path(__file__).resolve().parents[1]

LONG_VARIABLE = "HARDWALLET_LONG"

# What the program says is compared in English, whatever language this machine speaks.
for _name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES"):
    os.environ.pop(_name, None)
os.environ["LANG"] = "C.UTF-8"

# Daemons live where a plain user's PATH does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

# What pytest.importorskip says, and what the markers below say.
_MISSING = re.compile(r"^could not import|^missing: |\bis not installed\b|\bnot found\b", re.IGNORECASE)


def is_about_something_missing(reason: str) -> bool:
    """Whether a skip's reason says that a package or a program is not there."""
    return _MISSING.search(reason.removeprefix("Skipped: ")) is not None


def missing(what: Iterable[str]) -> list[str]:
    """Those of the named programs, and of the modules named `module:NAME`, that are not installed."""
    return [name for name in what if not _is_there(name)]


@functools.cache
def _is_there(name: str) -> bool:
    if name.startswith("module:"):
        return importlib.util.find_spec(name.removeprefix("module:")) is not None
    return shutil.which(name, path=SEARCH_PATH) is not None


def _requirements(item: pytest.Item) -> list[str]:
    return [str(what) for mark in item.iter_markers("needs") for what in mark.args]


@functools.cache
def _private_pcscd() -> tuple[bool, str]:
    return private_pcscd.available()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose programs or modules are missing, before it makes any fixture."""
    if absent := missing(_requirements(item)):
        pytest.skip(f"missing: {', '.join(absent)}")
    if item.get_closest_marker("long") and os.environ.get(LONG_VARIABLE) != "1":
        pytest.skip("a longer run: make sweeps")
    if item.get_closest_marker("pcscd"):
        usable, reason = _private_pcscd()
        if not usable:
            pytest.skip(reason)


def _fail_instead_of_skip(report: BaseReport) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if is_about_something_missing(reason):
        report.outcome = "failed"
        report.longrepr = f"CI=true: this test may not be skipped. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns the skip of one test into a failure, where nothing may be missing."""
    report = yield
    _fail_instead_of_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file that skips itself while it is collected."""
    report = yield
    _fail_instead_of_skip(report)
    return report


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY
