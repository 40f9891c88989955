"""examples/validator.py: thirty lines that take fares."""

import subprocess
import sys
from pathlib import Path

import pytest

from fleet.open import open_session
from tests.conftest import REPOSITORY
from tests.examples.conftest import Place

SOURCE = REPOSITORY / "examples" / "validator.py"


def test_it_has_thirty_lines_at_most() -> None:
    assert len(SOURCE.read_text(encoding="utf-8").splitlines()) <= 30


def test_a_fare_is_taken_once_for_a_run_and_again_for_the_next(place: Place) -> None:
    """Killed in between, as validators are: what it granted is kept."""
    for run, expected in (("1", "GRANTED"), ("1", "ALREADY_GRANTED"), ("2", "GRANTED")):
        assert place.lines("validator.py", "bus", "sim:alice.card", "200", run, until=bool) == [expected]
    with open_session(Path("bus")) as session:
        waiting = session.journal.waiting()
    assert (waiting.count, waiting.amount_fen) == (2, 400)


def test_a_card_without_enough_is_declined(place: Place) -> None:
    said = place.lines("validator.py", "bus", "sim:alice.card", "30000", "1", until=bool)
    assert said == ["DECLINED"]


def test_a_reader_that_is_not_there_is_told_and_tried_again(place: Place) -> None:
    said = place.lines("validator.py", "bus", "pcsc:no such reader", "200", "1", until=bool)
    assert said[0].startswith("health: ")


@pytest.mark.pcscd
def test_it_works_on_a_real_pcscd() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "firmware_bridge.virtual.private_pcscd"),
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
