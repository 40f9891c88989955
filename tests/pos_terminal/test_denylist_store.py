"""The denylists in a terminal's folder: durable, never older, never half, never for two programs at once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.open import open_session
from hardwallet import denylist as formats
from hardwallet.denylist import Denylist
from hardwallet.errors import DenylistRefused
from hardwallet.issuing import ISSUER, open_scheme
from pos_terminal import denylist as stores
from pos_terminal.denylist import DenylistStore
from pos_terminal.errors import JournalBusy, StoreBusy, StoreFailed
from pos_terminal.folder import create_terminal
from pos_terminal.tap import Outcome
from tests.pos_terminal.bench import NOW, PASSPHRASE, Holder, Mill, hold, seeded

LIST = f"denylist-{ISSUER.hex()}.bin"
DELTAS = f"denylist-{ISSUER.hex()}.deltas"


def card(number: int) -> bytes:
    return ISSUER + number.to_bytes(4, "big")


@dataclass(slots=True)
class Issued:
    """Lists of the test's scheme, made one after the other."""

    mill: Mill
    held: Denylist

    def full(self, version: int, *numbers: int) -> bytes:
        given = self.mill.suite, self.mill.trust.scheme, ISSUER, version, NOW
        raw = formats.build_full(*given, [card(n) for n in numbers], self.mill.issuer)
        held = formats.parse(raw, self.mill.trust)
        assert isinstance(held, Denylist)
        self.held = held
        return raw

    def delta(self, add: list[int], remove: list[int] | None = None) -> bytes:
        """The next change."""
        raw = formats.build_delta(
            self.held,
            self.held.version + 1,
            NOW + self.held.version,
            [card(n) for n in add],
            [card(n) for n in remove or []],
            self.mill.suite,
            self.mill.trust.scheme,
            self.mill.issuer,
        )
        delta = formats.parse(raw, self.mill.trust)
        assert isinstance(delta, formats.Delta)
        self.held = formats.apply(self.held, delta)
        return raw


@pytest.fixture
def issued(mill: Mill) -> Issued:
    return Issued(mill, mill.denylist())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "till"
    path.mkdir()
    return path


@pytest.fixture
def store(folder: Path, mill: Mill) -> Iterator[DenylistStore]:
    with closing(DenylistStore(folder, mill.trust)) as opened:
        yield opened


def reopened(store: DenylistStore, mill: Mill, folder: Path) -> Denylist | None:
    """What a program that starts later finds."""
    store.close()
    with closing(DenylistStore(folder, mill.trust)) as again:
        return again.of(ISSUER)


def refused(store: DenylistStore, raw: bytes) -> str:
    with pytest.raises(DenylistRefused) as raised:
        store.offer(raw)
    return raised.value.code


# ---------------------------------------------------------------------- kept


def test_nothing_is_held_at_first(store: DenylistStore) -> None:
    assert store.held == []
    assert store.of(ISSUER) is None
    assert store.damaged == {}


def test_lists_and_changes_are_kept(store: DenylistStore, issued: Issued, mill: Mill, folder: Path) -> None:
    assert store.offer(issued.full(1, 2, 4)) == issued.held
    for add, remove in (([3], [2]), ([], []), ([9, 1], [4])):
        assert store.offer(issued.delta(add, remove)) == issued.held
        assert store.of(ISSUER) == issued.held
    found = reopened(store, mill, folder)
    assert found == issued.held
    assert found is not None
    assert list(found) == [card(1), card(3), card(9)]
    assert found.version == 4


def test_a_newer_whole_list_takes_the_place_of_the_changes(
    store: DenylistStore, issued: Issued, mill: Mill, folder: Path
) -> None:
    store.offer(issued.full(1, 2))
    store.offer(issued.delta([3]))
    store.offer(issued.full(7, 5))
    store.offer(issued.delta([6]))
    found = reopened(store, mill, folder)
    assert found is not None
    assert (found.version, list(found)) == (8, [card(5), card(6)])


def test_the_very_same_list_changes_nothing(store: DenylistStore, issued: Issued, folder: Path) -> None:
    raw = issued.full(1, 2)
    held = store.offer(raw)
    before = (folder / LIST).stat().st_mtime_ns
    assert store.offer(raw) is held
    assert (folder / LIST).stat().st_mtime_ns == before


def test_what_is_refused_changes_nothing(
    store: DenylistStore, issued: Issued, mill: Mill, folder: Path
) -> None:
    assert refused(store, issued.delta([1])) == "base"  # nothing is held yet
    issued.held = mill.denylist()
    old, first = issued.full(3, 1), issued.delta([5])
    second = issued.delta([6])
    store.offer(old)
    assert refused(store, second) == "base"
    store.offer(first)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for raw, code in (
        (old, "older"),
        (first, "older"),
        (issued.full(4, 1), "older"),  # another list 4
        (issued.full(2, 1), "older"),
        (second[:-1], "malformed"),
        (second[:120] + b"\0" + second[121:], "signature"),
        (bytes(formats.MAX_LENGTH + 1), "too-long"),
    ):
        assert refused(store, raw) == code
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert store.offer(second).version == 5
    found = reopened(store, mill, folder)
    assert found is not None
    assert found.version == 5


def test_many_changes_become_one_list(
    store: DenylistStore, issued: Issued, mill: Mill, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes have led to is written as one list, under the last change's signature."""
    monkeypatch.setattr(stores, "DELTAS_KEPT", 600)
    store.offer(issued.full(1, 2, 4))
    sizes = []
    for number in range(10, 22):
        store.offer(issued.delta([number]))
        sizes.append((folder / DELTAS).stat().st_size if (folder / DELTAS).exists() else 0)
    assert max(sizes) <= 600
    assert sizes.count(0) == 3
    assert reopened(store, mill, folder) == issued.held


def test_a_file_is_offered(store: DenylistStore, issued: Issued, folder: Path) -> None:
    path = folder / "brought"
    path.write_bytes(issued.full(1, 2))
    assert store.offer_file(path).version == 1
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(DenylistRefused, match="too long"):
        store.offer_file(path)


# ---------------------------------------------------------------------- crashes


class Died(BaseException):
    """The process ends here."""


def dying(monkeypatch: pytest.MonkeyPatch, step: int) -> Callable[[], int]:
    """Lets the process die at a call that changes the disk; tells how many there were."""
    done = 0

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                raise Died
            return real(*given, **named)

        return call

    monkeypatch.setattr(os, "fsync", around(os.fsync))
    monkeypatch.setattr(Path, "rename", around(Path.rename))
    monkeypatch.setattr(Path, "unlink", around(Path.unlink))
    monkeypatch.setattr(os, "fdopen", around(os.fdopen))
    return lambda: done


@pytest.mark.parametrize("kind", ["first list", "delta", "list over changes", "changes made one"])
def test_killed_at_every_step(
    issued: Issued, mill: Mill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The old list or the new one, whole; and the next one can be taken."""
    monkeypatch.setattr(stores, "DELTAS_KEPT", 600)
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    with closing(DenylistStore(prepared, mill.trust)) as store:
        if kind != "first list":
            store.offer(issued.full(1, 2, 4))
            for number in range(3 if kind == "changes made one" else 1):
                store.offer(issued.delta([10 + number]))
    old = None if kind == "first list" else issued.held
    raw = issued.full(issued.held.version + 1, 7) if "list" in kind else issued.delta([99])
    new, following = issued.held, issued.delta([100])
    step = 0
    while True:
        step += 1
        folder = tmp_path / f"{kind}-{step}"
        shutil.copytree(prepared, folder)
        store = DenylistStore(folder, mill.trust)
        with monkeypatch.context() as patch:
            count = dying(patch, step)
            try:
                store.offer(raw)
                died = False
            except Died:
                died = True
        store.close()
        with closing(DenylistStore(folder, mill.trust)) as again:
            found = again.of(ISSUER)
            assert again.damaged == {}
            assert found in (old, new)
            assert died or found == new
            if found != new:
                again.offer(raw)
            assert again.offer(following) == issued.held
        if not died:
            break
    assert step == count() + 1
    assert step > 4


def test_a_full_disk_keeps_the_old_list(
    store: DenylistStore, issued: Issued, mill: Mill, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.offer(issued.full(1, 2))
    old = issued.held
    raw = issued.delta([3])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_room)
        with pytest.raises(StoreFailed, match="No space"):
            store.offer(raw)
    assert store.of(ISSUER) == old
    assert store.offer(raw) == issued.held
    assert reopened(store, mill, folder) == issued.held


def _no_room(_handle: int) -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize("name", [LIST, DELTAS])
def test_damaged_files_are_no_list(issued: Issued, mill: Mill, tmp_path: Path, name: str) -> None:
    """Every byte that flips, every length: no list, or, cut between two changes, an older one; never another.
    A whole list that is brought mends it."""
    good = tmp_path / "good"
    good.mkdir()
    versions = [issued.full(1, 2, 4), issued.delta([3]), issued.delta([9], [2])]
    with closing(DenylistStore(good, mill.trust)) as store:
        for raw in versions:
            store.offer(raw)
    wanted = issued.held
    content = (good / name).read_bytes()
    cuts = {0, len(versions[1])} if name == DELTAS else set()
    for at in range(0, len(content), 3):
        for changed in (content[:at], content[:at] + bytes((content[at] ^ 4,)) + content[at + 1 :]):
            (good / name).write_bytes(changed)
            with closing(DenylistStore(good, mill.trust)) as store:
                found = store.of(ISSUER)
                if found is not None:
                    assert changed == content[:at]
                    assert at in cuts
                    assert found.version < wanted.version
                else:
                    assert store.damaged[ISSUER]
    (good / name).write_bytes(content[:-1])
    with closing(DenylistStore(good, mill.trust)) as store:
        assert store.of(ISSUER) is None
        store.offer(issued.full(8, 5))
        assert store.damaged == {}
    with closing(DenylistStore(good, mill.trust)) as store:
        assert store.of(ISSUER) == issued.held


def test_changes_with_a_gap_are_no_list(
    store: DenylistStore, issued: Issued, mill: Mill, folder: Path
) -> None:
    store.offer(issued.full(1, 2))
    first, second = issued.delta([3]), issued.delta([4])
    store.offer(first)
    store.offer(second)
    store.close()
    (folder / DELTAS).write_bytes(second)
    with closing(DenylistStore(folder, mill.trust)) as again:
        assert again.of(ISSUER) is None
        assert again.damaged[ISSUER]


def test_another_issuers_list_under_this_name(
    store: DenylistStore, issued: Issued, mill: Mill, folder: Path
) -> None:
    store.offer(issued.full(1, 2))
    store.close()
    (folder / LIST).rename(folder / "denylist-00000102.bin")
    with closing(DenylistStore(folder, mill.trust)) as again:
        assert again.held == []
        assert list(again.damaged) == [bytes.fromhex("00000102")]


def test_a_list_that_cannot_be_read(store: DenylistStore, mill: Mill, folder: Path) -> None:
    store.close()
    (folder / LIST).mkdir()
    with closing(DenylistStore(folder, mill.trust)) as again:
        assert again.of(ISSUER) is None
        assert "can't be read" in again.damaged[ISSUER]


# ---------------------------------------------------------------------- two programs


def test_two_programs(store: DenylistStore, mill: Mill, folder: Path) -> None:
    with pytest.raises(StoreBusy, match="in use"):
        DenylistStore(folder, mill.trust)
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+')\n"
        "try:\n    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError:\n    sys.exit(9)\n"
    )
    command = [sys.executable, "-c", program, str(folder / stores.LOCK)]
    assert subprocess.run(command, check=False).returncode == 9
    store.close()
    store.close()
    assert subprocess.run(command, check=False).returncode == 0
    DenylistStore(folder, mill.trust).close()


def test_a_folder_that_is_not_there(mill: Mill, tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="can't be opened"):
        DenylistStore(tmp_path / "nowhere", mill.trust)


# ---------------------------------------------------------------------- in a terminal's folder


@pytest.fixture
def till(mill: Mill, tmp_path: Path) -> Path:
    with open_scheme(mill.folder, PASSPHRASE, seeded("till")) as scheme:
        create_terminal(tmp_path / "shop", scheme, "retail", 7, NOW, seeded("shop"))
    return tmp_path / "shop"


def test_a_terminal_is_made_with_the_list_of_today(till: Path, holder: Holder) -> None:
    with open_session(till, clock=lambda: NOW + 60) as session:
        held = session.denylists.of(ISSUER)
        assert held is not None
        assert session.terminal.denylists is session.denylists
        assert hold(session.terminal, holder, session.terminal.new_sale(100)).granted


def test_without_its_list_a_terminal_takes_nothing(till: Path, holder: Holder, mill: Mill) -> None:
    (till / LIST).unlink()
    with open_session(till, clock=lambda: NOW + 60) as session:
        result = hold(session.terminal, holder, session.terminal.new_sale(100))
        assert result.outcome is Outcome.DECLINED
        with open_scheme(mill.folder, PASSPHRASE, seeded("again")) as scheme:
            session.denylists.offer(scheme.denylist(NOW))
        assert hold(session.terminal, holder, session.terminal.new_sale(100)).granted


def test_two_sessions_of_one_terminal(till: Path) -> None:
    with open_session(till) as session:
        with pytest.raises(JournalBusy), open_session(till):
            pass
        assert session.denylists.of(ISSUER) is not None
    with open_session(till) as session:
        assert session.denylists.of(ISSUER) is not None


def test_what_the_issuer_publishes_reaches_the_tap(till: Path, mill: Mill) -> None:
    """From the scheme's folder to the red light, by file."""
    stolen = Holder(mill.new_blank())
    with open_session(till, clock=lambda: NOW + 60) as session:
        assert hold(session.terminal, stolen, session.terminal.new_sale(100)).granted
    with open_scheme(mill.folder, PASSPHRASE, seeded("deny")) as scheme:
        published = scheme.publish_denylist([stolen.number], [], NOW + 60)
    with open_session(till, clock=lambda: NOW + 61) as session:
        held = session.denylists.offer(published.delta or published.full)
        assert held.version == published.version
    with open_session(till, clock=lambda: NOW + 62) as session:
        result = hold(session.terminal, stolen, session.terminal.new_sale(100))
        assert result.outcome is Outcome.DECLINED
        assert "denylist" in result.reason
    with open_scheme(mill.folder, PASSPHRASE, seeded("allow")) as scheme:
        published = scheme.publish_denylist([], [stolen.number], NOW + 70)
    with open_session(till, clock=lambda: NOW + 71) as session:
        session.denylists.offer(published.full)
        assert hold(session.terminal, stolen, session.terminal.new_sale(100)).granted
