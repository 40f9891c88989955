"""The same books in PostgreSQL, where it is installed: a cluster of its own, ended with the test."""

import importlib.util
from collections.abc import Iterator

import pytest

from offline_sync.clearing import Report
from offline_sync.errors import LedgerError
from tests.offline_sync import postgres
from tests.offline_sync.factory import Scheme
from tests.offline_sync.test_clearing import open_clearing
from tests.offline_sync.test_order import ALL, SCHEME, settle

pytestmark = pytest.mark.skipif(
    postgres.program("postgres") is None or importlib.util.find_spec("psycopg") is None,
    reason="this machine has no PostgreSQL; with the package `postgresql` these tests run",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres.cluster() as address:
        yield address


@pytest.fixture(scope="module")
def expected() -> Report:
    """What SQLite says of the whole history."""
    return settle(open_clearing(SCHEME), ALL)


def test_the_whole_history_gives_the_same_books(url: str, expected: Report) -> None:
    """Payments, returns, refunds, a clone, sibling grants, loads, in two orders of arrival."""
    assert settle(open_clearing(SCHEME, url), ALL) == expected
    again = open_clearing(SCHEME, url)
    assert again.report() == expected
    assert settle(again, [*reversed(ALL)]) == expected


def test_the_books_of_another_scheme_are_refused(url: str) -> None:
    open_clearing(SCHEME, url).close()
    with pytest.raises(LedgerError, match="another scheme"):
        open_clearing(Scheme(seed="other", scheme=b"othr"), url)
