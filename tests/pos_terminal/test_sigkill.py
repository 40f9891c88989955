"""SIGKILL at every step of a tap: nobody pays twice, nothing is granted twice, the queue stays whole."""

import os
import subprocess
import sys
import tempfile

import pytest

from tests.conftest import REPOSITORY
from tests.pos_terminal.conftest import MEMORY

TIMEOUT_S = 180
# A4 SELECT, 10 EXCHANGE CERTIFICATES, 20 PAY, 22 RATIFY, 30 READ RECORD
ALWAYS = {
    *("before APDU A4", "after APDU A4", "before APDU 20", "after APDU 20", "before APDU 22"),
    *("before keep_payment", "before SQL INSERT", "after SQL INSERT", "after keep_payment", "decided"),
    *("before card pwrite", "after card pwrite", "before card fdatasync", "after card fdatasync"),
    *("before require_space", "after require_space", "before last_time_s", "after waiting_fen"),
}
RETAIL = {"before open_sale", "after open_sale", "before unresolved", "after reserve_transactions"}
NEW = {"before APDU 10", "after APDU 10", "before keep_certificate", "after keep_certificate"}


CARRYING = {"before APDU 30", "after APDU 30", "before keep_carried", "after keep_carried"}


@pytest.mark.parametrize(
    ("klass", "met"),
    [
        ("retail", "known"),
        ("retail", "new"),
        ("transit", "known"),
        ("transit", "new"),
        ("transit", "carrying"),
    ],
)
def test_killed_at_every_step(klass: str, met: str) -> None:
    """Children are forked by a process of their own, which has no threads."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.pos_terminal.killed", folder, klass, met],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    steps = done.stdout.splitlines()
    extra = {"new": NEW, "known": set(), "carrying": CARRYING}[met]
    assert set(steps) >= ALWAYS | extra | (RETAIL if klass == "retail" else set())
    assert len(steps) >= 40
