"""A small world to look at, and scrypt at no cost: in this process, and in those that it starts."""

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.world import World, create_world
from hardwallet import keys

NOW = 1_790_000_000  # September 2026


@pytest.fixture(autouse=True)
def _cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing costs as much as is asked for; opening reads the cost from the file."""
    monkeypatch.setattr(keys, "_COST", 2)


@pytest.fixture
def world() -> Iterator[World]:
    """A world with a card of 200.00, a shop and a bus, its clock standing still."""
    ticks = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        made = create_world(Path(folder), lambda: NOW, lambda: next(ticks) / 1e4, random.Random(1).randbytes)
        made.add_card("card", 5, 20_000)
        made.add_terminal("shop", "retail", 1)
        made.add_terminal("bus", "transit", 2, vehicle="B042")
        yield made
        made.close()
