"""Closings and settlement files in PostgreSQL, where it is installed: the same bytes as with SQLite."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.offline_sync import postgres
from tests.offline_sync.test_settlement import TODAY, World

pytestmark = pytest.mark.skipif(
    postgres.program("postgres") is None or importlib.util.find_spec("psycopg") is None,
    reason="this machine has no PostgreSQL; with the package `postgresql` these tests run",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres.cluster() as address:
        yield address


def settled(url: str, folder: Path) -> tuple[list[object], dict[str, bytes]]:
    """Two days that were closed: what is listed, and the files."""
    world = World(url)
    paths = []
    for happens in (world.first_day, world.second_day):
        happens()
        number = world.clearing.close_day(TODAY).number
        paths += world.clearing.write_settlements(number, folder)
        assert paths[-1].read_bytes() == b"".join(
            world.clearing.settlement(number, bytes.fromhex(paths[-1].stem.rpartition("-")[2]))
        )
    listed = [*world.clearing.settlements(), *world.clearing.settlements(world.shop.payee)]
    totals = [one for number in (1, 2) for one in world.clearing.settlement_totals(number)]
    world.clearing.close()
    return [*listed, *totals], {path.name: path.read_bytes() for path in paths}


def test_the_same_files(url: str, tmp_path: Path) -> None:
    assert settled(url, tmp_path / "postgresql") == settled("sqlite://", tmp_path / "sqlite")
