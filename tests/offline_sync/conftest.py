"""Lets go of every ledger and journal that a test opened: Python 3.13 calls what is left open a leak."""

from collections.abc import Iterator
from typing import Any

import pytest

from offline_sync.clearing.ledger import Ledger
from offline_sync.journal import SqliteJournal


@pytest.fixture(autouse=True)
def lets_go(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closing twice does nothing, so a test may close its own."""
    opened: list[Ledger | SqliteJournal] = []
    for kind in (Ledger, SqliteJournal):
        monkeypatch.setattr(kind, "__init__", _noting(kind.__init__, opened))
    yield
    for one in opened:
        one.close()


def _noting(begin: Any, opened: list[Any]) -> Any:
    def noting(self: Any, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        opened.append(self)

    return noting
