"""Backups of books in use, and what happens when one is put back: checked first, nothing lost by mistake."""

import os
import shutil
import sqlite3
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from offline_sync.clearing import Clearing, backup
from offline_sync.clearing.ledger import Ledger
from offline_sync.errors import BackupRefused
from tests.offline_sync.factory import ACQUIRER, NOW, SCHEME, Card, Scheme, Terminal
from tests.offline_sync.test_clearing import Till, money, own


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture
def card(scheme: Scheme) -> Card:
    return scheme.card(7)


@pytest.fixture
def shop(scheme: Scheme) -> Terminal:
    return scheme.terminal(1, 1, retail=True)


@pytest.fixture
def till(scheme: Scheme, card: Card, shop: Terminal) -> Till:
    """Six payments in its journal."""
    return Till(shop, [card]).add(*(own(scheme.payment(card, shop, 100)) for _ in range(6)))


@pytest.fixture
def books(tmp_path: Path) -> Path:
    return tmp_path / "books" / "clearing.sqlite"


def opened(scheme: Scheme, path: Path) -> Clearing:
    path.parent.mkdir(exist_ok=True)
    return Clearing(f"sqlite:///{path}", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)


def put_back(path: Path, books: Path, *, force_older: bool = False, time_s: int = NOW) -> backup.Restored:
    books.parent.mkdir(exist_ok=True)
    return backup.restore(path, books, SCHEME, time_s=time_s, force_older=force_older)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -------------------------------------------------------------------------------------------------- making


def test_a_backup_is_whole_private_and_checked(
    scheme: Scheme, till: Till, books: Path, tmp_path: Path
) -> None:
    clearing = opened(scheme, books)
    clearing.accept(till.batch(1, 4))
    path = tmp_path / "friday.backup"
    made = clearing.backup(path)
    assert (made.path, made.records, made.uploads) == (str(path), 4, 1)
    assert (made.size_bytes, path.stat().st_mode & 0o777) == (path.stat().st_size, 0o600)
    assert made.sha256 == sha256(path.read_bytes()).hexdigest()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["books", "friday.backup"]
    # What comes afterwards is not in it.
    clearing.accept(till.batch(5, 6))
    with sqlite3.connect(path) as copy:
        assert copy.execute("SELECT count(*) FROM records").fetchone() == (4,)
    copy.close()


def test_a_backup_overwrites_nothing(scheme: Scheme, till: Till, books: Path, tmp_path: Path) -> None:
    clearing = opened(scheme, books)
    path = tmp_path / "friday.backup"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(BackupRefused, match="never overwrites"):
        clearing.backup(path)
    assert path.read_text(encoding="utf-8") == "precious"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BackupRefused, match="never overwrites"):
        clearing.backup(dangling)
    other = tmp_path / "other.backup"
    part = tmp_path / "other.backup.part"
    part.touch()
    with pytest.raises(BackupRefused, match="another backup is being written"):
        clearing.backup(other)
    assert (part.exists(), other.exists()) == (True, False)


@pytest.mark.parametrize("where", ["missing/file", "books/clearing.sqlite/file"])
def test_a_backup_that_cannot_be_written_says_so(
    scheme: Scheme, books: Path, tmp_path: Path, where: str
) -> None:
    with pytest.raises(BackupRefused, match="cannot be written"):
        opened(scheme, books).backup(tmp_path / where)


def test_a_name_that_appears_meanwhile_is_not_overwritten(
    scheme: Scheme, books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clearing, path = opened(scheme, books), tmp_path / "friday.backup"
    monkeypatch.setattr(backup, "_sync", lambda _: path.write_text("precious", encoding="utf-8"))
    with pytest.raises(BackupRefused, match="never overwrites"):
        clearing.backup(path)
    assert path.read_text(encoding="utf-8") == "precious"
    assert not (tmp_path / "friday.backup.part").exists()


def test_it_is_on_the_disk_before_it_has_its_name(
    scheme: Scheme, books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clearing, path = opened(scheme, books), tmp_path / "friday.backup"
    synced: list[tuple[str, bool]] = []
    real = backup._sync

    def noting(file: Path) -> None:
        synced.append((file.name, path.exists()))
        real(file)

    monkeypatch.setattr(backup, "_sync", noting)
    clearing.backup(path)
    assert synced == [("friday.backup.part", False), (tmp_path.name, True)]


def test_books_in_memory_are_backed_up_too(scheme: Scheme, till: Till, books: Path, tmp_path: Path) -> None:
    clearing = Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)
    clearing.accept(till.batch())
    clearing.backup(tmp_path / "memory.backup")
    put_back(tmp_path / "memory.backup", books)
    assert money(opened(scheme, books).report()) == money(clearing.report())


def test_postgresql_has_its_own_tool(scheme: Scheme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger("sqlite://", SCHEME)
    monkeypatch.setattr(ledger._engine.dialect, "name", "postgresql")
    with pytest.raises(BackupRefused, match="pg_dump"):
        backup.back_up(ledger, tmp_path / "books.backup")


# --------------------------------------------------------------------------------------------- putting back


def test_a_backup_is_put_where_there_are_no_books(
    scheme: Scheme, till: Till, books: Path, tmp_path: Path
) -> None:
    clearing = opened(scheme, books)
    clearing.accept(till.batch(1, 4))
    clearing.backup(tmp_path / "b")
    before = (tmp_path / "b").read_bytes()
    elsewhere = tmp_path / "elsewhere" / "clearing.sqlite"
    done = put_back(tmp_path / "b", elsewhere)
    assert (done.records, done.uploads, done.kept, done.missing) == (4, 1, "", {})
    assert (tmp_path / "b").read_bytes() == before
    assert list(content(elsewhere.parent)) == ["clearing.sqlite"]
    again = opened(scheme, elsewhere)
    assert money(again.report()) == money(clearing.report())
    (line,) = again.report().evidence
    assert (line.kind, line.detail) == ("restored", "the books were put back from the backup b")


def test_newer_books_stay_unless_told(scheme: Scheme, till: Till, books: Path, tmp_path: Path) -> None:
    clearing = opened(scheme, books)
    clearing.accept(till.batch(1, 2))
    clearing.backup(tmp_path / "b")
    clearing.accept(till.batch(3, 6))
    newer = money(clearing.report())
    clearing.close()
    with pytest.raises(BackupRefused, match="4 records, 1 uploads"):
        put_back(tmp_path / "b", books)
    assert list(content(books.parent)) == ["clearing.sqlite"]
    unchanged = opened(scheme, books)
    assert money(unchanged.report()) == newer
    unchanged.close()
    done = put_back(tmp_path / "b", books, force_older=True)
    assert (done.records, done.missing) == (2, {"records": 4, "uploads": 1})
    assert done.kept == str(books.with_name(f"clearing.sqlite.before-{NOW}"))
    kept = opened(scheme, Path(done.kept))
    assert money(kept.report()) == newer
    assert opened(scheme, books).report().payments == 2


def test_equal_books_are_replaced_and_kept(scheme: Scheme, till: Till, books: Path, tmp_path: Path) -> None:
    clearing = opened(scheme, books)
    clearing.accept(till.batch())
    clearing.backup(tmp_path / "b")
    before = money(clearing.report())
    clearing.close()
    for time_s in (NOW, NOW + 1):  # once more does no harm
        done = put_back(tmp_path / "b", books, time_s=time_s)
        assert (done.missing, Path(done.kept).exists()) == ({}, True)
    assert money(opened(scheme, books).report()) == before


def test_a_running_clearing_is_not_disturbed(scheme: Scheme, till: Till, books: Path, tmp_path: Path) -> None:
    clearing = opened(scheme, books)
    clearing.accept(till.batch(1, 2))
    clearing.backup(tmp_path / "b")
    with pytest.raises(BackupRefused, match="a clearing is running"):
        put_back(tmp_path / "b", books, force_older=True)
    assert clearing.accept(till.batch(3, 6)).highest == 6
    clearing.close()
    assert put_back(tmp_path / "b", books, force_older=True).missing == {"records": 4, "uploads": 1}


def test_what_the_log_still_holds_counts(scheme: Scheme, till: Till, books: Path, tmp_path: Path) -> None:
    """A clearing that was killed leaves its last bookings in the write-ahead log."""
    clearing = opened(scheme, books)
    clearing.accept(till.batch(1, 2))
    clearing.backup(tmp_path / "b")
    clearing.accept(till.batch(3, 6))
    killed = tmp_path / "killed" / "clearing.sqlite"
    killed.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{books}{suffix}", f"{killed}{suffix}")
    assert Path(f"{killed}-wal").stat().st_size > 0
    with pytest.raises(BackupRefused, match="4 records, 1 uploads"):
        put_back(tmp_path / "b", killed)
    # Such a database is no backup either: a part of it would be missing.
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{books}{suffix}", tmp_path / f"raw{suffix}")
    with pytest.raises(BackupRefused, match="a database in use"):
        put_back(tmp_path / "raw", tmp_path / "elsewhere" / "clearing.sqlite")


def damaged(path: Path, *, at: float = 0.5) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * at))
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "cannot be put back"),
        ("empty", "no backup"),
        ("text", "no backup"),
        ("gigabyte", "no backup"),
        ("header only", "is damaged"),
        ("cut", "is damaged"),
        ("page", "is damaged"),
        ("other database", "no backup"),
        ("other scheme", "another scheme"),
        ("newer", "newer version"),
        ("balance", "do not add up by 3 fen"),
        ("transfer", "do not add up"),
        ("folder", "cannot be put back"),
    ],
)
def test_what_is_no_good_backup_changes_nothing(
    scheme: Scheme, till: Till, books: Path, tmp_path: Path, how: str, reason: str
) -> None:
    clearing = opened(scheme, books)
    clearing.accept(till.batch())
    path = tmp_path / "b"
    clearing.backup(path)
    clearing.close()
    before = content(books.parent)
    spoil(path, how)
    with pytest.raises(BackupRefused, match=reason):
        put_back(path, books, force_older=True)
    assert content(books.parent) == before


def spoil(path: Path, how: str) -> None:
    statements = {
        "other scheme": "UPDATE meta SET value = x'00000000' WHERE key = 'scheme'",
        "newer": "UPDATE meta SET value = x'63' WHERE key = 'schema'",
        "balance": "UPDATE accounts SET balance_fen = balance_fen + 1 WHERE id = 1",
        "transfer": "DELETE FROM transfers WHERE id = 1",
    }
    if how in statements:
        copy = sqlite3.connect(path)
        copy.execute(statements[how])
        copy.commit()
        copy.close()
    elif how == "page":
        damaged(path)
    elif how == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "other database":
            copy = sqlite3.connect(path)
            copy.execute("CREATE TABLE cats (name)")
            copy.close()
        elif how == "gigabyte":
            path.touch()
            os.truncate(path, 2**30)
        elif how != "missing":
            texts = {"empty": b"", "text": b"dear diary", "header only": b"SQLite format 3\0" + b"x" * 500}
            path.write_bytes(texts[how])


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_damaged_books_are_kept_and_replaced_only_when_told(
    scheme: Scheme, till: Till, books: Path, tmp_path: Path, at: float
) -> None:
    clearing = opened(scheme, books)
    clearing.accept(till.batch())
    clearing.backup(tmp_path / "b")
    good = money(clearing.report())
    clearing.close()
    damaged(books, at=at)
    wreck = books.read_bytes()[4096:]  # the first page tells the journal mode
    with pytest.raises(BackupRefused, match="the books in place are damaged"):
        put_back(tmp_path / "b", books)
    assert books.read_bytes()[4096:] == wreck
    done = put_back(tmp_path / "b", books, force_older=True)
    assert Path(done.kept).read_bytes()[4096:] == wreck
    assert money(opened(scheme, books).report()) == good


def test_a_restore_that_breaks_off_leaves_the_books(
    scheme: Scheme, till: Till, books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clearing = opened(scheme, books)
    clearing.accept(till.batch(1, 2))
    clearing.backup(tmp_path / "b")
    clearing.accept(till.batch(3, 6))
    before = money(clearing.report())
    clearing.close()

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("_keep", "_overwrite", "_copy"):
        with monkeypatch.context() as patch:
            patch.setattr(backup, step, broken)
            with pytest.raises(BackupRefused, match="No space left"):
                put_back(tmp_path / "b", books, force_older=True, time_s=NOW + len(step))
        assert not list(books.parent.glob("*.restoring*"))
        again = opened(scheme, books)
        assert money(again.report()) == before
        again.close()


# ------------------------------------------------------------------------------------------------ under load


class Load:
    """Three terminals of 40 payments each, which upload two at a time, all at once."""

    def __init__(self, scheme: Scheme, clearing: Clearing) -> None:
        self.clearing = clearing
        self.tills = []
        self.failures: list[Exception] = []
        self.arrived = threading.Semaphore(0)
        for number in range(1, 4):
            card = scheme.card(20 + number)
            load = scheme.load(card, 20_000)
            clearing.book_load(load.raw, card.raw_certificate)
            shop = scheme.terminal(40 + number, 1, retail=True)
            payments = [own(scheme.payment(card, shop, 100 + number)) for _ in range(40)]
            self.tills.append(Till(shop, [card]).add(*payments))
        self.threads = [threading.Thread(target=self._upload, args=(till,)) for till in self.tills]
        for thread in self.threads:
            thread.start()

    def _upload(self, till: Till) -> None:
        try:
            for first in range(1, 41, 2):
                self.clearing.accept(till.batch(first, first + 1))
                self.arrived.release()
        except Exception as error:  # noqa: BLE001 - told by finish
            self.failures.append(error)
            self.arrived.release(100)

    def wait_for(self, uploads: int) -> None:
        for _ in range(uploads):
            self.arrived.acquire()

    def finish(self) -> None:
        for thread in self.threads:
            thread.join()
        assert self.failures == []


def send_again(clearing: Clearing, till: Till) -> None:
    """What a terminal does that is told what is held of it."""
    held = clearing.held(till.terminal.payee, till.terminal.number)
    if held.highest < len(till.entries):
        clearing.accept(till.batch(held.highest + 1))
    for first, last in held.gaps:
        clearing.accept(till.batch(first, last))


def test_a_backup_under_load_balances_and_fills_up_again(scheme: Scheme, books: Path, tmp_path: Path) -> None:
    """Backups are taken while terminals upload; one is put back, and they send again what it lacks."""
    clearing = opened(scheme, books)
    load = Load(scheme, clearing)
    made = []
    for number in range(3):
        load.wait_for(12)  # each is taken at another moment, with uploads before it and after it
        made.append(clearing.backup(tmp_path / f"{number}.backup"))
    load.finish()
    never_failed = clearing.report()
    assert never_failed.conservation.ok
    acknowledged = [clearing.accept(till.batch(39, 40)) for till in load.tills]
    clearing.close()
    everything = never_failed.payments + never_failed.loads
    assert [one.records for one in made] == sorted(one.records for one in made)
    assert made[0].records < everything

    done = put_back(tmp_path / "0.backup", books, force_older=True)
    assert (done.records, done.missing["records"]) == (made[0].records, everything - made[0].records)
    put = opened(scheme, books)
    assert put.report().conservation.ok
    assert any(put.lost(one) for one in acknowledged)
    for till in load.tills:
        send_again(put, till)
    assert not any(put.lost(one) for one in acknowledged)
    assert money(put.report()) == money(never_failed)
    assert {line.kind for line in put.report().evidence} == {"restored"}
    put.close()
    for number in (1, 2):
        other = tmp_path / f"other{number}" / "clearing.sqlite"
        put_back(tmp_path / f"{number}.backup", other)
        assert opened(scheme, other).report().conservation.ok
