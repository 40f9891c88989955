"""`pytest hw_tests` as a user types it: one card goes through all of it, and no other card is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hardwallet.card.file import create_card_file, open_card_file
from hardwallet.issuing import Scheme
from hw_tests.cases import CASES, When
from tests.conftest import REPOSITORY
from tests.hardwallet.conftest import IN_GM

TIMEOUT_S = 120


def contract(*options: str) -> "subprocess.CompletedProcess[str]":
    """The command, its output kept."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "hw_tests", "-q", "-p", "no:cacheprovider", *options],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture
def card(quick_folder: Path, scheme: Scheme, now: int) -> Path:
    """A new card's file; the scheme is free for another process."""
    identity, memory = scheme.new_card(5, now)
    path = quick_folder / "card"
    create_card_file(path, identity, memory)
    scheme.close()
    return path


def number(path: Path) -> str:
    """The card's number as it is given to --card."""
    opened = open_card_file(path)
    try:
        return opened.identity.card.hex()
    finally:
        opened.close()


def test_one_card_goes_through_all_of_it(card: Path, scheme_folder: Path) -> None:
    """On a new card nothing is skipped; on the same card again only what needs a new one, or a PIN."""
    options = ["--reader", f"sim:{card}", "--card", number(card), "--scheme", str(scheme_folder)]
    done = contract(*options, "--use-up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CASES)} passed" in done.stdout
    again = contract(*options)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "failed" not in again.stdout


@IN_GM
@pytest.mark.long
def test_a_card_of_a_gm_scheme(card: Path, scheme_folder: Path) -> None:
    """The suite comes from the scheme: nobody has to say it. test_contract_sim.py runs all of the cases."""
    options = ["--reader", f"sim:{card}", "--card", number(card), "--scheme", str(scheme_folder)]
    done = contract(*options, "-k", "select or certificates or pin")
    assert done.returncode == 0, done.stdout + done.stderr
    areas = ("select", "certificates", "pin")
    chosen = [case for case in CASES if any(area in case.name for area in areas) and case.when != When.LAST]
    assert f"{len(chosen)} passed" in done.stdout


def test_another_card_is_left_alone(card: Path, scheme_folder: Path) -> None:
    """Not a byte of it changes."""
    before = card.read_bytes()
    done = contract("--reader", f"sim:{card}", "--card", "00" * 8, "--scheme", str(scheme_folder))
    assert done.returncode == 3
    assert "it was left alone" in done.stdout + done.stderr
    assert "passed" not in done.stdout
    assert card.read_bytes() == before


@pytest.mark.parametrize("missing", ["--reader", "--card", "--scheme"])
def test_nothing_runs_without_a_name(card: Path, scheme_folder: Path, missing: str) -> None:
    """The reader, the card and its scheme have to be named."""
    before = card.read_bytes()
    options = {"--reader": f"sim:{card}", "--card": number(card), "--scheme": str(scheme_folder)}
    del options[missing]
    done = contract(*(word for pair in options.items() for word in pair))
    assert done.returncode != 0
    assert f"{missing} is missing" in done.stdout + done.stderr
    assert "passed" not in done.stdout
    assert card.read_bytes() == before


def test_a_bad_number_is_said_to_be_one(card: Path, scheme_folder: Path) -> None:
    """16 hex digits."""
    done = contract("--reader", f"sim:{card}", "--card", "12", "--scheme", str(scheme_folder))
    assert done.returncode != 0
    assert "16 hex digits" in done.stdout + done.stderr


def test_a_busy_card_is_said_to_be_busy(card: Path, scheme_folder: Path) -> None:
    """A card is in one reader at a time."""
    name = number(card)
    opened = open_card_file(card)
    try:
        done = contract("--reader", f"sim:{card}", "--card", name, "--scheme", str(scheme_folder))
    finally:
        opened.close()
    assert done.returncode == 3
    assert "in use" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
