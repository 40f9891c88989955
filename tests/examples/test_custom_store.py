"""examples/custom_store.py: plain files under the very same tap, and on to clearing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.custom_store import FileStore, open_store
from offline_sync.journal import Rejected
from pos_terminal.errors import JournalDamaged, JournalFailed, JournalFull
from pos_terminal.sale import SaleState
from store_tests.bench import NOW, PAYEE, SCHEME, TERMINAL, record
from store_tests.cases import CASES
from tests.conftest import REPOSITORY
from tests.examples.conftest import Place, clearing

PLACE = "examples/custom_store.py:open_store"


def opened(folder: Path) -> FileStore:
    return open_store(folder, SCHEME, PAYEE, TERMINAL)


def test_it_runs_as_typed(place: Place) -> None:
    assert place.run("custom_store.py", "till", "alice.card", "1250") == [
        "GRANTED ",
        "waiting 2 entries, 1250 fen",
    ]
    assert place.run("custom_store.py", "till", "alice.card", "300") == [
        "GRANTED ",
        "waiting 4 entries, 1550 fen",
    ]


def test_what_it_keeps_reaches_clearing(place: Place) -> None:
    with clearing(Path("city").resolve()) as url:
        said = place.run("custom_store.py", "till", "alice.card", "1250", url)
    assert said == ["GRANTED ", "sent 2 entries, 0 to review", "waiting 0 entries, 0 fen"]
    report = subprocess.run(
        [sys.executable, "-m", "tui", "clearing", "report", "--scheme", str(Path("city").resolve())],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "0000020100000001    12.50" in report


def test_the_contract_as_typed(tmp_path: Path) -> None:
    """All of the store contract, by the command that the page gives."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "store_tests", "-q", "-p", "no:cacheprovider", "--store", PLACE],
        cwd=REPOSITORY,
        env={name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CASES)} passed" in done.stdout


def test_each_write_is_on_the_disk_before_the_method_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    sync = os.fdatasync

    def counted(file: int) -> None:
        sync(file)
        flushed.append(file)

    monkeypatch.setattr(os, "fdatasync", counted)
    store = opened(tmp_path)
    store.reserve_transactions(NOW)
    assert len(flushed) == 1
    for sequence in (1, 2, 3):
        store.keep_payment(record(sequence), SaleState.GRANTED, NOW)
        assert len(flushed) == 1 + sequence
    store.close()


def failing(error: int) -> Callable[..., int]:
    def write(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    return write


def short(file: int, data: bytes) -> int:
    """A disk with room for seven bytes."""
    return write(file, data[:7])


write = os.write


def test_a_full_disk_takes_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "write", short)
        with pytest.raises(JournalFull):
            store.keep_payment(record(1), SaleState.GRANTED, NOW)
    store.keep_payment(record(2), SaleState.GRANTED, NOW)
    store.close()
    store = opened(tmp_path)
    assert store.payment(record(1).card, 1) is None
    assert store.payment(record(2).card, 2) is not None
    store.close()


def test_a_write_that_fails_stops_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", failing(5))
        with pytest.raises(JournalFailed, match="did not reach the disk"):
            store.keep_payment(record(1), SaleState.GRANTED, NOW)
    with pytest.raises(JournalFailed, match="Start the terminal again"):
        store.keep_payment(record(1), SaleState.GRANTED, NOW)
    store.close()


def test_any_altered_byte_is_told_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for sequence in (1, 2, 3):
        store.keep_payment(record(sequence), SaleState.GRANTED, NOW)
    store.close()
    path = tmp_path / "entries.frames"
    whole = path.read_bytes()
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes((whole[place] ^ 0x10,)) + whole[place + 1 :])
        altered = path.read_bytes()
        with pytest.raises(JournalDamaged):
            opened(tmp_path)
        assert path.read_bytes() == altered


def test_an_acknowledgement_of_what_is_not_there_locks_it(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.keep_payment(record(1), SaleState.GRANTED, NOW)
    store.acknowledge(1, store.head()[1], [Rejected(1, "signature: no")], b"proof")
    with pytest.raises(JournalDamaged, match="old copy"):
        store.acknowledge(9, bytes(32))
    store.close()
    store = opened(tmp_path)
    assert (store.review, store.proof(), store.waiting_fen()) == ([Rejected(1, "signature: no")], b"proof", 0)
    with pytest.raises(JournalDamaged, match="locked"):
        store.require_space()
    store.close()
