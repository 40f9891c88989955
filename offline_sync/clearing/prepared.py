"""Statements compiled once, for rows that come by the thousand.

Working a statement out anew for every batch costs as much as writing the batch. The text still comes from
SQLAlchemy, in the dialect of the database.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

CHUNK: Final = 250
"""Values or pairs in one query: databases bound the parameters of a statement."""


class Prepared:
    """A compiled statement. Rows are tuples, in the order in which the statement first names its values."""

    def __init__(self, engine: Engine, statement: Any) -> None:
        """`statement`: an insert, update or select of SQLAlchemy Core."""
        compiled = statement.compile(dialect=engine.dialect)
        self._text = str(compiled)
        self._positional = bool(compiled.positional)
        self._names: list[str] = list(
            compiled.positiontup if self._positional else compiled.bind_names.values()
        )

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Once for every row."""
        if rows:
            connection.exec_driver_sql(self._text, [self._bound(row) for row in rows])

    def find(self, connection: Connection, values: Sequence[Any]) -> Sequence[Any]:
        """The rows that a query gives for these values."""
        return connection.exec_driver_sql(self._text, self._bound(tuple(values))).all()

    def _bound(self, row: tuple[Any, ...]) -> Any:
        return row if self._positional else dict(zip(self._names, row, strict=True))


_lookups: dict[tuple[str, ...], Prepared] = {}
"""The same for every database of a dialect, and slow to compile."""


class PairLookup:
    """The rows of a table in which two columns equal one of many pairs.

    Written as (a = ? AND b = ?) OR …, for which both SQLite and PostgreSQL use the index: for (a, b) IN
    (VALUES …) SQLite reads the whole table.
    """

    def __init__(self, engine: Engine, columns: Sequence[Any], first: Any, second: Any) -> None:
        """`columns`: what is wanted of each row."""
        name = (engine.dialect.name, *map(str, columns), str(first), str(second))
        if name not in _lookups:
            wanted = (
                sa.and_(
                    first == sa.bindparam(f"first{i}", type_=first.type),
                    second == sa.bindparam(f"second{i}", type_=second.type),
                )
                for i in range(CHUNK)
            )
            _lookups[name] = Prepared(engine, sa.select(*columns).where(sa.or_(*wanted)))
        self._query = _lookups[name]

    def __call__(self, connection: Connection, pairs: Iterable[tuple[Any, Any]]) -> Iterator[Any]:
        """The rows found; the last query is filled up with its last pair."""
        for chunk in chunks(list(pairs)):
            full = [*chunk, *[chunk[-1]] * (CHUNK - len(chunk))]
            yield from self._query.find(connection, [value for pair in full for value in pair])


def chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """In runs of at most CHUNK."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
