"""The card contract on the reference card through pcscd and the virtual reader, as a user types it.

The GM suite, all of which runs without pcscd (test_contract_sim.py), shows its longest commands here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge.virtual.private_pcscd import READER_NAME
from hardwallet.card.file import create_card_file
from hardwallet.issuing import Scheme
from hardwallet.suites import GM, INTERNATIONAL, Suite
from hw_tests.cases import CASES
from tests.conftest import REPOSITORY

TIMEOUT_S = 240


AREAS = {INTERNATIONAL: "", GM: "select or pin or load or already_paid"}


@pytest.mark.parametrize(
    "suite",
    ["international", pytest.param("gm", marks=pytest.mark.long)],
    indirect=True,
    scope="session",
)
@pytest.mark.pcscd
def test_contract_through_pcscd(
    quick_folder: Path, scheme: Scheme, scheme_folder: Path, suite: Suite, now: int
) -> None:
    """One card goes through all of it, or in GM through these areas."""
    areas = AREAS[suite.number]
    identity, memory = scheme.new_card(5, now)
    path = quick_folder / "card"
    create_card_file(path, identity, memory)
    scheme.close()
    contract = [
        *(sys.executable, "-m", "pytest", "hw_tests", "-q", "-p", "no:cacheprovider", "--use-up"),
        *("--reader", f"pcsc:{READER_NAME}", "--card", identity.card.hex(), "--scheme", str(scheme_folder)),
        *("-k", areas),
    ]
    beside = [sys.executable, "-m", "tests.hardwallet.beside_card", str(path), *contract]
    done = subprocess.run(
        [sys.executable, "-m", "firmware_bridge.virtual.private_pcscd", *beside],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    chosen = [case for case in CASES if any(area in case.name for area in areas.split(" or "))]
    assert f"{len(chosen)} passed" in done.stdout
    assert len(chosen) > 30
