"""The commands through pcscd, pyscard and the virtual reader, beside a pcscd of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.world import REPOSITORY

RUN = [sys.executable, "-m", "firmware_bridge.virtual.private_pcscd"]


@pytest.mark.pcscd
def test_the_commands_through_a_real_pcscd() -> None:
    done = subprocess.run(
        [
            *RUN,
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            str(Path(__file__).with_name("inside_pcscd.py")),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
