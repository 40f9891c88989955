"""`hardwallet demo` through a pcscd of its own, on a machine that runs one already and where none runs."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from firmware_bridge.virtual import private_pcscd
from firmware_bridge.virtual.private_pcscd import INSIDE_VARIABLE, READER_NAME
from hardwallet.keys import PASSPHRASE_VARIABLE
from tests.conftest import REPOSITORY

TIMEOUT_S = 240
DEMO = [sys.executable, "-m", "tui", "demo", "--json"]
STEP_IDS = [str(number) for number in range(1, 12)]
LIST = "from firmware_bridge.pcsc import list_pcsc_readers as r; import json; print(json.dumps(r()))"


def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    kept = {n: v for n, v in os.environ.items() if n not in (INSIDE_VARIABLE, PASSPHRASE_VARIABLE)}
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**kept, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def check_story(text: str) -> None:
    """The documented shape, and that the story held."""
    story: dict[str, Any] = json.loads(text)
    assert story["reader"] == {"uri": f"pcsc:{READER_NAME}", "stack": "pcsc"}
    assert [step["id"] for step in story["steps"]] == STEP_IDS
    for step in story["steps"]:
        assert step["ok"] is True, step
        assert all(isinstance(value, float) for value in step["phases_ms"].values())
    assert story["steps"][1]["phases_ms"]["pay"] > 0
    assert story["conservation"]["ok"] is True
    assert story["conservation"]["difference_fen"] == 0


def without_any_service() -> list[str]:
    """What makes a machine on which no pcscd runs: an empty /run, in namespaces of its own."""
    for privileges in private_pcscd._PRIVILEGES:
        if private_pcscd._try_namespaces(privileges) is None:
            return private_pcscd._unshare(privileges)
    raise AssertionError("the marker pcscd promised namespaces")


@pytest.mark.pcscd
@pytest.mark.slow
def test_where_no_pcscd_runs() -> None:
    script = 'mount -t tmpfs none /run && "$@" && test ! -e /run/pcscd'
    done = run([*without_any_service(), "sh", "-c", script, "sh", *DEMO])
    assert done.returncode == 0, done.stderr
    check_story(done.stdout)


@pytest.mark.pcscd
@pytest.mark.long
def test_where_one_runs_already() -> None:
    """The outer one is the machine's: it goes on as if nothing had been."""
    script = (
        f"touch /run/pcscd/mark; {sys.executable} -c '{LIST}'; "
        f'env -u {INSIDE_VARIABLE} "$@"; status=$?; '
        f"echo; {sys.executable} -c '{LIST}'; ls /run/pcscd/mark; exit $status"
    )
    done = run(
        [sys.executable, "-m", "firmware_bridge.virtual.private_pcscd", "sh", "-c", script, "sh", *DEMO]
    )
    assert done.returncode == 0, done.stderr
    before, _, rest = done.stdout.partition("\n")
    told, _, after = rest.rpartition("\n}\n")
    check_story(told + "\n}")
    assert READER_NAME in before
    assert after.split() == [*before.split(), "/run/pcscd/mark"]


@pytest.mark.long
def test_without_pcscd_it_says_so() -> None:
    """For people the text says which stack it was, and what is modelled."""
    done = run([*DEMO[:-1], "--in-process"])
    assert done.returncode == 0, done.stderr
    assert "in-process reader" in done.stdout
    assert "No pcscd took part" in done.stdout
    assert "modelled" in done.stdout
    assert "11 of 11 steps hold." in done.stdout
    assert "✗" not in done.stdout
