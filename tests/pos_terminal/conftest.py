"""A scheme, made once, and a counter for each test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardwallet import keys
from tests.pos_terminal.bench import Counter, Holder, Mill, make_mill


@pytest.fixture(scope="session")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    """The scheme; scrypt's cost only costs time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", 2)
        yield make_mill(tmp_path_factory.mktemp("scheme"))


MEMORY = Path("/dev/shm")
"""Journals lie here where it exists: nothing in these tests cuts the power, and fsync only costs time."""


@pytest.fixture
def counter(mill: Mill) -> Iterator[Counter]:
    """A place with terminals and their journals."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        made = Counter(mill, Path(folder))
        yield made
        made.close()


@pytest.fixture
def holder(mill: Mill) -> Holder:
    """Somebody with 200.00 on a card of tier 5."""
    return mill.holder()


@pytest.fixture
def rich(mill: Mill) -> Holder:
    """Somebody with 800.00 on a card of tier 4, with a PIN."""
    return mill.holder(4, 80_000, "271828")
