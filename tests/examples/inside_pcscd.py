"""The validator through a real pcscd; test_validator.py runs this file beside a pcscd of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmware_bridge.virtual.private_pcscd import READER_NAME, inside
from fleet.open import open_session
from tests.examples.conftest import Place, place, template  # noqa: F401 - fixtures
from tests.tui.world import running


@pytest.fixture(autouse=True)
def _inside() -> None:
    assert inside(), "run by test_validator.py"


@contextmanager
def on_the_reader(card: str) -> Iterator[None]:
    """The card lies in the virtual reader."""
    with running(Path.cwd(), "card", "serve", "--vpcd", card) as served:
        assert served.line().startswith("ready")
        yield
        served.stop()


def told(process: "subprocess.Popen[str]") -> str:
    """The next line that is no news of the reader's health: a card that goes may first be told as mute."""
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith("health: "):
            return line.strip()
    return ""


def test_cards_that_come_and_go(place: Place) -> None:  # noqa: F811
    with place.start("validator.py", "bus", f"pcsc:{READER_NAME}", "200", "7") as bus:
        try:
            with on_the_reader("alice.card"):
                assert told(bus) == "GRANTED"
            with on_the_reader("alice.card"):
                assert told(bus) == "ALREADY_GRANTED"
        finally:
            bus.kill()
            bus.communicate()
    with open_session(Path("bus")) as session:
        assert session.journal.waiting().amount_fen == 200
