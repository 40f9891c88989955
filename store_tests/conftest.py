"""The option that names the store, and a bench for each case."""

from pathlib import Path

import pytest

from store_tests.bench import Bench, NoStore, OpenStore, find_store
from store_tests.cases import CASES

_STORE: pytest.StashKey[OpenStore] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--store PLACE:FUNCTION`."""
    group = parser.getgroup("store contract")
    group.addoption(
        "--store",
        metavar="PLACE:FUNCTION",
        help="what opens the store, such as my_shop.store:open_store or my_store.py:open_store",
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Finds the store before any case runs."""
    place = session.config.getoption("store")
    if not place:
        raise pytest.UsageError("--store is missing: name what opens the store, as file.py:function")
    try:
        session.config.stash[_STORE] = find_store(str(place))
    except NoStore as error:
        raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each case."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES, ids=lambda case: str(case.__name__))


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    """An empty folder for a store of its own."""
    folder = tmp_path / "store"
    folder.mkdir()
    return Bench(folder, str(request.config.getoption("store")), request.config.stash[_STORE])
