"""The card contract on the reference card in a card file, through a `sim:` reader, in both suites: a fresh
card a case."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.readers import open_reader
from hardwallet.card.file import create_card_file
from hardwallet.card.simulated import SimulatedCard
from hardwallet.issuing import Scheme
from hw_tests.bench import Authority, Bench
from hw_tests.cases import CASES, Case
from tests.hardwallet.conftest import IN_BOTH_SUITES


@pytest.fixture
def bench(scheme: Scheme, authority: Authority, quick_folder: Path, now: int) -> Iterator[Bench]:
    """A card that was never used."""
    entropy = random.Random(4).randbytes
    identity, memory = scheme.new_card(5, now)
    path = quick_folder / "card"
    create_card_file(path, identity, memory)
    reader = open_reader(f"sim:{path}", simulated_card=lambda place: SimulatedCard(place, entropy))
    made = Bench(reader, authority, identity.card, entropy, now)
    made.prepare()
    yield made
    made.close()
    reader.close()


@IN_BOTH_SUITES
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_contract(bench: Bench, case: Case) -> None:
    """The reference card keeps to every rule."""
    case.run(bench)
