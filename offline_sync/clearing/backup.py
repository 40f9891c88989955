"""A backup of the books while they are in use, and putting one back (docs/adr/0024).

Both are SQLite's: whoever keeps the books in PostgreSQL has pg_dump. A backup is one moment of the books,
whole and on the disk before it has its name. Putting one back is one transaction: a crash leaves the old
books or the new ones.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from offline_sync.clearing import report
from offline_sync.clearing.ledger import Ledger
from offline_sync.clearing.restored import RESTORED
from offline_sync.clearing.schema import SCHEMA_VERSION, Posting, records, uploads
from offline_sync.errors import BackupRefused, LedgerError

_MAGIC: Final = b"SQLite format 3\0"
_COMPARED: Final = {
    "records": ("card", "sequence", "body_digest"),
    "uploads": ("batch_key",),
    "orders": ("card", "counter"),
    "evidence": ("digest",),
    "closings": ("number", "last", "closed_s"),
    "denylists": ("operator", "version"),
    "card_orders": ("card", "number"),
}
"""What the books in place are compared by: rows that they hold and the backup does not."""


class Backup(msgspec.Struct, frozen=True):
    """A backup that was made. `records`: payments, loads and refunds in it; `sha256`: of the file, hex."""

    path: str
    size_bytes: int
    sha256: str
    records: int
    uploads: int


class Restored(msgspec.Struct, frozen=True):
    """A backup that was put back. `kept`: where the books are that were in place before, or nothing.
    `missing`: by table, how many rows those hold and the books now do not.
    """

    records: int
    uploads: int
    kept: str
    missing: dict[str, int]


class _Alone(NamedTuple):
    """The books, with nobody else on them: the driver's own connection, and its errors."""

    driver: Any
    failure: type[Exception]


# ------------------------------------------------------------------------------------------------ making


def back_up(ledger: Ledger, path: Path) -> Backup:
    """Write one moment of the books to `path`, which must not exist. Others go on reading and writing.

    Raises BackupRefused, LedgerError.
    """
    with ledger.read() as connection:
        engine = connection.engine
    _want_sqlite(engine)
    if os.path.lexists(path):
        raise _exists(path)
    part = path.with_name(path.name + ".part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise BackupRefused(
            f"{part} is there already: another backup is being written, or one was broken off; "
            "if none runs, remove it and try again"
        ) from None
    except OSError as error:
        raise BackupRefused(f"{path} cannot be written: {error.strerror}") from error
    try:
        _vacuum_into(engine, part)
        made = _described(part, path)
        _sync(part)
        _give_name(part, path)
        _sync(path.absolute().parent)
    except OSError as error:
        raise BackupRefused(f"{path} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return made


def _want_sqlite(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        raise BackupRefused(
            f"these books are kept by {engine.dialect.name}; back them up with its own tool (pg_dump)"
        )


def _exists(path: Path) -> BackupRefused:
    return BackupRefused(f"{path} is there already; a backup never overwrites anything, choose another name")


def _vacuum_into(engine: Engine, path: Path) -> None:
    """One moment of the database, in an empty file."""
    failure = engine.dialect.loaded_dbapi.Error
    pooled = engine.raw_connection()
    try:
        pooled.cursor().execute("VACUUM INTO ?", (str(path),))
    except failure as error:
        raise BackupRefused(f"the backup could not be written: {error}") from error
    finally:
        pooled.close()


def _described(part: Path, path: Path) -> Backup:
    """A look at what was written, as if it were to be put back: a backup that nobody has read is none."""
    with _alone(part) as alone:
        if damage := _damage(alone):
            raise BackupRefused(f"the backup is damaged ({damage}); the books or the disk may be, too")
        counts = _counts(alone)
    digest = sha256()
    with part.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return Backup(str(path), part.stat().st_size, digest.hexdigest(), *counts)


def _give_name(part: Path, path: Path) -> None:
    """Where the file system knows links, even a file that appeared just now is not overwritten."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:
        if os.path.lexists(path):
            raise _exists(path) from None
        part.rename(path)


# ----------------------------------------------------------------------------------------- putting back


def restore(path: Path, database: Path, scheme: bytes, *, time_s: int, force_older: bool = False) -> Restored:
    """Put a backup in the place of the books of a scheme (4 bytes). `time_s`: now.

    It is checked first, in a copy beside the books: whole, of this scheme, and it adds up. Refused while a
    clearing runs on the books, and when they hold what the backup does not, or are damaged, unless
    `force_older`. The books that were in place are kept beside the new ones. Raises BackupRefused.
    """
    copy = database.with_name(database.name + ".restoring")
    kept = database.with_name(f"{database.name}.before-{time_s}")
    if os.path.lexists(kept):
        raise BackupRefused(f"{kept} is there already; wait a second and try again")
    try:
        _copy(path, copy)
        _check_copy(copy, path, scheme, time_s)
        if not database.exists():
            missing: dict[str, int] = {}
            _place(copy, database)
        else:
            missing = _replace(copy, database, kept, force_older=force_older)
        with _alone(database) as alone:
            counts = _counts(alone)
    except OSError as error:
        raise BackupRefused(f"{path} cannot be put back: {error.strerror}") from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)
    return Restored(*counts, str(kept) if kept.exists() else "", missing)


def _copy(path: Path, copy: Path) -> None:
    beside = path.with_name(path.name + "-wal")
    if beside.exists() and beside.stat().st_size:
        raise BackupRefused(
            f"{path} is a database in use, not a backup: part of it is still in {beside.name}; "
            "make a backup of it with: hardwallet clearing backup"
        )
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BackupRefused(f"{path} is no backup of a clearing's books")
    for suffix in ("-wal", "-shm", "-journal"):  # of a restore that was broken off
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(path, copy)
    copy.chmod(0o600)


def _check_copy(copy: Path, path: Path, scheme: bytes, time_s: int) -> None:
    """Everything that can be said about the backup, and a note in it that it was put back."""
    try:
        with _alone(copy) as alone:
            damage = _damage(alone)
            if not damage:
                _check_meta(alone, path, scheme)
    except BooksDamaged as error:
        damage = str(error)
    if damage:
        raise BackupRefused(f"{path} is damaged ({damage}); use another backup")
    try:
        ledger = Ledger(_url(copy).render_as_string(), scheme)  # brings an older one up to date
    except LedgerError as error:
        raise BackupRefused(f"{path} cannot be put back: {error}") from error
    try:
        with ledger.read() as connection:
            found = report.build(connection, ledger).conservation
        if not found.ok:
            raise BackupRefused(
                f"the books in {path} do not add up by {found.difference_fen} fen; use another backup"
            )
        with ledger.write() as connection:
            ledger.post(connection, Posting(evidence=[_note(path, time_s)]))
    except LedgerError as error:
        raise BackupRefused(f"{path} cannot be put back: {error}") from error
    finally:
        ledger.close()
    with _alone(copy):  # takes in what the ledger wrote, and leaves one file
        pass
    _sync(copy)


def _note(path: Path, time_s: int) -> dict[str, Any]:
    return {
        "digest": sha256(RESTORED.encode() + b"\x00" + time_s.to_bytes(8, "big")).digest(),
        "kind": RESTORED,
        "subject": bytes(12),
        "detail": f"the books were put back from the backup {path.name}"[:300],
        "first_proof": b"",
        "second_proof": b"",
        "received_s": time_s,
    }


def _damage(alone: _Alone) -> str:
    """What SQLite finds wrong with its own pages and indexes; nothing when they are whole."""
    try:
        told = [str(row[0]) for row in alone.driver.execute("PRAGMA integrity_check(1)")]
    except alone.failure as error:
        return str(error)
    return "" if told == ["ok"] else " ".join(told).replace("\n", " ")


def _check_meta(alone: _Alone, path: Path, scheme: bytes) -> None:
    try:
        meta = dict(alone.driver.execute("SELECT key, value FROM meta").fetchall())
    except alone.failure:
        meta = {}
    version, found = meta.get("schema", b""), meta.get("scheme", b"")
    if not version or not found:
        raise BackupRefused(f"{path} is no backup of a clearing's books")
    if found != scheme:
        raise BackupRefused(f"{path} holds the books of another scheme ({found.hex()})")
    if version[0] > SCHEMA_VERSION:
        raise BackupRefused(f"{path} was written by a newer version of this program; bring it up to date")


def _place(copy: Path, database: Path) -> None:
    _give_name(copy, database)
    _sync(database.absolute().parent)


def _replace(copy: Path, database: Path, kept: Path, *, force_older: bool) -> dict[str, int]:
    """Put the copy in the place of books that are there; what they held that it does not, by table."""
    try:
        with _alone(database) as alone:
            damage = _damage(alone)
            if not damage:
                missing = _only_in_place(alone, copy)
                if missing and not force_older:
                    raise _newer(missing)
                _keep(alone, kept)
                _overwrite(alone, copy)
                return missing
    except BooksDamaged as error:
        damage = str(error)
    if not force_older:
        raise BackupRefused(
            f"the books in place are damaged ({damage}), so that nobody can tell what they hold that the "
            "backup does not. To put it in their place all the same, and keep them beside it: --force-older"
        )
    for suffix in ("-wal", "-shm", "-journal", ""):
        old = database.with_name(database.name + suffix)
        if old.exists():
            old.rename(kept.with_name(kept.name + suffix))
    _place(copy, database)
    return {}


def _newer(missing: dict[str, int]) -> BackupRefused:
    listed = ", ".join(f"{count} {table}" for table, count in missing.items())
    return BackupRefused(
        f"the books in place hold what the backup does not: {listed}. Terminals send again what they have "
        "kept; what nobody has kept is lost. To put it back all the same: --force-older"
    )


def _only_in_place(alone: _Alone, copy: Path) -> dict[str, int]:
    """By table, how many rows the books in place hold and the backup does not."""
    driver = alone.driver
    driver.execute("ATTACH DATABASE ? AS backup", (str(copy),))
    try:
        found = {}
        for table, columns in _COMPARED.items():
            there = {
                name: {row[1] for row in driver.execute(f"PRAGMA {name}.table_info({table})")}
                for name in ("main", "backup")
            }
            if not there["main"].issuperset(columns):
                continue
            names = ", ".join(f'"{column}"' for column in columns)
            ours = f"SELECT {names} FROM main.{table}"  # noqa: S608
            if table == "evidence":
                ours += f" WHERE kind <> '{RESTORED}'"
            if there["backup"]:
                ours += f" EXCEPT SELECT {names} FROM backup.{table}"  # noqa: S608
            query = f"SELECT count(*) FROM ({ours})"  # noqa: S608
            count = int(driver.execute(query).fetchone()[0])
            if count:
                found[table] = count
        return found
    except alone.failure as error:
        raise BooksDamaged(str(error)) from error
    finally:
        driver.execute("DETACH DATABASE backup")


def _keep(alone: _Alone, kept: Path) -> None:
    part = kept.with_name(kept.name + ".part")
    part.unlink(missing_ok=True)
    try:
        alone.driver.execute("VACUUM INTO ?", (str(part),))
    except alone.failure as error:
        part.unlink(missing_ok=True)
        raise BackupRefused(f"the books in place could not be kept: {error}; nothing was changed") from error
    part.chmod(0o600)
    _sync(part)
    _give_name(part, kept)
    part.unlink(missing_ok=True)
    _sync(kept.absolute().parent)


def _overwrite(alone: _Alone, copy: Path) -> None:
    """SQLite's own copying, page by page in one transaction."""
    with _alone(copy) as source:
        try:
            source.driver.backup(alone.driver)
        except alone.failure as error:
            raise BackupRefused(f"the backup could not be put back: {error}; nothing was changed") from error


# ------------------------------------------------------------------------------------------- the database


class BooksInUse(BackupRefused):
    """Somebody else has the books open."""


class BooksDamaged(BackupRefused):
    """What stands in the place of the books cannot be read as a database."""


def _url(path: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(path))


@contextmanager
def _alone(path: Path) -> Iterator[_Alone]:
    """A database with nobody else on it, in one file: what lay in its write-ahead log is taken in.

    Raises BooksInUse, BooksDamaged.
    """
    engine = sa.create_engine(_url(path), poolclass=NullPool, connect_args={"timeout": 0})
    failure = engine.dialect.loaded_dbapi.Error
    try:
        pooled = engine.raw_connection()
    except SQLAlchemyError as error:
        raise BooksDamaged(f"{path.name}: {getattr(error, 'orig', None) or error}") from error
    try:
        driver: Any = pooled.driver_connection
        driver.isolation_level = None
        try:
            driver.execute("PRAGMA locking_mode = EXCLUSIVE")
            mode = driver.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
            driver.execute("PRAGMA synchronous = EXTRA")
            driver.execute("BEGIN EXCLUSIVE")
            driver.execute("COMMIT")
        except failure as error:
            if "locked" in str(error):
                raise _in_use(path) from None
            raise BooksDamaged(f"{path.name}: {error}") from error
        if mode != "delete":
            raise _in_use(path)
        yield _Alone(driver, failure)
    finally:
        pooled.close()
        engine.dispose()


def _in_use(path: Path) -> BooksInUse:
    return BooksInUse(
        f"a clearing is running on {path}; end it first (hardwallet clearing serve, or a report)"
    )


def _counts(alone: _Alone) -> tuple[int, int]:
    """Records and uploads."""
    one, other = (
        int(alone.driver.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])  # noqa: S608
        for table in (records, uploads)
    )
    return one, other


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
