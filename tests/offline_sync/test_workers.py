"""Verifying in processes of their own: the same verdicts and books, whatever becomes of the processes."""

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from hardwallet.gm import Gm
from hardwallet.suites import GM, INTERNATIONAL, International, Suite, suite_by_number
from offline_sync import chain, checker
from offline_sync.chain import Kind
from offline_sync.clearing import Clearing, workers
from offline_sync.clearing.workers import SignatureWorkers, Signed, WorkersRefused, check_here
from pos_terminal.sale import SaleState
from tests.conftest import REPOSITORY
from tests.offline_sync.factory import ACQUIRER, NOW, Scheme
from tests.offline_sync.test_clearing import Till, carried, own

PATIENCE_S = 30.0


@cache
def lot(suite: int, size: int = 60) -> tuple[list[Signed], bytes]:
    """Signatures, every seventh of them wrong in one of three ways, and the right verdicts."""
    entropy = random.Random(5).randbytes
    made = suite_by_number(suite)
    keys = [made.new_signing_key(entropy) for _ in range(4)]
    signed, verdicts = [], []
    for number in range(size):
        key, message = keys[number % 4], entropy(96)
        signature, public = key.sign(message), key.public
        if number % 7 == 0:
            signature, public, message = [
                (signature[:-1] + bytes((signature[-1] ^ 1,)), public, message),
                (signature, keys[(number + 1) % 4].public, message),
                (signature, public, message + b"\0"),
            ][number // 7 % 3]
        signed.append((made.verifying_key(public), signature, message))
        verdicts.append(number % 7 != 0)
    return signed, bytes(verdicts)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SignatureWorkers]]:
    """Makes pools of two processes for small chunks, and ends them."""
    monkeypatch.setattr(workers, "SMALLEST_LOT", 2)
    monkeypatch.setattr(workers, "LARGEST_CHUNK", 9)
    made: list[SignatureWorkers] = []

    def make(suite: int = INTERNATIONAL, count: int = 2, patience_s: float = PATIENCE_S) -> SignatureWorkers:
        made.append(SignatureWorkers(suite, count, patience_s))
        return made[-1]

    yield make
    for one in made:
        one.close()


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that ended and was not waited for is none."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(true: Callable[[], bool]) -> None:
    """Until something holds that surely comes."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lose_patience(checking: SignatureWorkers) -> None:
    """Once they have started, which may take them a while."""
    for worker in checking._workers:
        worker._patience_s = 0.05


# ---------------------------------------------------------------------- the verdicts


@pytest.mark.parametrize("suite", [INTERNATIONAL, GM])
def test_the_same_verdicts_as_here(pool: Callable[..., SignatureWorkers], suite: int) -> None:
    signed, verdicts = lot(suite)
    checking = pool(suite)
    for size in (2, 9, 10, 60):
        assert checking.check(signed[:size]) == check_here(signed[:size]) == verdicts[:size]
    assert len(checking.processes) == 2


def test_many_ask_at_once(pool: Callable[..., SignatureWorkers]) -> None:
    signed, verdicts = lot(INTERNATIONAL)
    checking = pool()
    with ThreadPoolExecutor(6) as threads:
        asked = [
            (start, threads.submit(checking.check, signed[start : start + 40])) for start in range(0, 20, 2)
        ]
        for start, answer in asked:
            assert answer.result() == verdicts[start : start + 40]


def test_no_process_is_started_for_little() -> None:
    signed, verdicts = lot(INTERNATIONAL)
    checking = SignatureWorkers(INTERNATIONAL, 2)
    few = workers.SMALLEST_LOT - 1
    assert checking.check(signed[:few]) == verdicts[:few]
    assert checking.processes == []
    assert SignatureWorkers(INTERNATIONAL, 0).check(signed) == verdicts


@pytest.mark.parametrize("count", [-1, 65])
def test_a_number_of_processes_that_is_none(count: int) -> None:
    with pytest.raises(WorkersRefused, match=f"verifies in 0 to 64 processes, not in {count}"):
        SignatureWorkers(INTERNATIONAL, count)


def test_a_key_that_is_no_point_fits_nothing() -> None:
    """It can't come from a certificate that verified; a process says no all the same."""
    request = checker.Request(INTERNATIONAL, [checker.Check(bytes(64), bytes(64), b"x")])
    assert checker.Checker().verdicts(request) == b"\0"


def test_keys_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "KEYS_KEPT", 3)
    checking, (signed, verdicts) = checker.Checker(), lot(INTERNATIONAL)
    checks = [checker.Check(key.raw, signature, message) for key, signature, message in signed]
    assert checking.verdicts(checker.Request(INTERNATIONAL, checks)) == verdicts
    assert len(checking._keys) == 3


# ---------------------------------------------------------------------- what becomes of processes


def test_a_killed_process_takes_no_verdict_with_it(
    pool: Callable[..., SignatureWorkers], caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped first, so that it surely holds checks when it is killed."""
    signed, verdicts = lot(INTERNATIONAL)
    checking = pool()
    assert checking.check(signed) == verdicts
    before = checking.processes
    os.kill(before[0], signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(checking.check, signed)
        wait_until(lambda: any(worker.waiting for worker in checking._workers if worker.pid == before[0]))
        os.kill(before[0], signal.SIGKILL)
        assert answer.result() == verdicts
    with caplog.at_level(logging.WARNING):
        assert checking.check(signed) == verdicts
    assert "a verifying process ended (status -9); its signatures are checked here" in caplog.text
    after = checking.processes
    assert len(after) == 2
    assert set(after) & set(before) == {before[1]}


def test_a_process_that_hangs_is_ended(pool: Callable[..., SignatureWorkers]) -> None:
    signed, verdicts = lot(INTERNATIONAL)
    checking = pool(patience_s=4.0)
    assert checking.check(signed) == verdicts
    lose_patience(checking)
    hanging = checking.processes
    assert len(hanging) == 2
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    assert checking.check(signed) == verdicts
    wait_until(lambda: not any(is_running(pid) for pid in hanging))


def test_idle_processes_are_left_alone(pool: Callable[..., SignatureWorkers]) -> None:
    """Patience is about checks that wait, not about the time between them."""
    signed, verdicts = lot(INTERNATIONAL)
    checking = pool()
    assert checking.check(signed) == verdicts
    lose_patience(checking)
    idle = checking.processes
    threading.Event().wait(0.3)
    assert checking.processes == idle


@pytest.mark.parametrize(
    ("program", "started"),
    [
        ("raise SystemExit(3)", 3),
        ("import sys; sys.stdout.write('ready'); sys.stdout.flush(); sys.stdin.read()", None),
        ("import os; os.write(1, bytes((0, 0, 0, 1, 1))); import sys; sys.stdin.read()", None),
    ],
    ids=["ends at once", "talks", "answers too early"],
)
def test_a_process_that_does_not_work(
    pool: Callable[..., SignatureWorkers],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    program: str,
    started: int | None,
) -> None:
    """Every verdict is right, and one that never answers is not started for ever."""
    monkeypatch.setattr(workers, "_PROGRAM", program)
    signed, verdicts = lot(INTERNATIONAL)
    checking = pool(count=1, patience_s=0.2)
    for _ in range(5):
        assert checking.check(signed) == verdicts
    if started is not None:
        assert caplog.text.count("a verifying process ended") == started
        assert "and no more processes are started" in caplog.text
        assert checking.processes == []


def test_no_process_can_be_started(
    pool: Callable[..., SignatureWorkers], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    signed, verdicts = lot(INTERNATIONAL)
    checking = pool()
    for _ in range(2):
        assert checking.check(signed) == verdicts
    assert caplog.text.count("no verifying process can be started (No such file or directory)") == 1


def test_signals_to_the_group_do_not_end_them(pool: Callable[..., SignatureWorkers]) -> None:
    """Ctrl-C reaches every process of a terminal; clearing finishes what is under way."""
    signed, verdicts = lot(INTERNATIONAL)
    checking = pool()
    assert checking.check(signed) == verdicts
    before = checking.processes
    for pid in before:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    assert checking.check(signed) == verdicts
    assert checking.processes == before


def test_close_ends_them_all(pool: Callable[..., SignatureWorkers]) -> None:
    signed, verdicts = lot(INTERNATIONAL)
    checking = pool()
    checking.check(signed)
    running = checking.processes
    assert len(running) == 2
    checking.close()
    assert not any(is_running(pid) for pid in running)
    assert checking.processes == []
    assert not [thread for thread in threading.enumerate() if thread.name == "verdicts"]
    assert checking.check(signed) == verdicts
    assert checking.processes == []


ORPHANING = """
import sys, time
from tests.offline_sync.test_workers import lot
from offline_sync.clearing.workers import SignatureWorkers
checking = SignatureWorkers(1, 2)
checking.check(lot(1)[0])
print(*checking.processes, flush=True)
time.sleep(600)
"""


def test_they_end_with_a_parent_that_was_killed() -> None:
    command = [sys.executable, "-c", ORPHANING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as parent:
        assert parent.stdout is not None
        running = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(running) == 2
        assert all(is_running(pid) for pid in running)
        parent.kill()
    wait_until(lambda: not any(is_running(pid) for pid in running))


# ---------------------------------------------------------------------- clearing


def mixed_upload(scheme: Scheme) -> Till:
    """Own and carried payments of good and bad cards: each kind of refusal, some of them twice."""
    shop, bus = scheme.terminal(1, 1, retail=True), scheme.terminal(2, 1)
    cards = [scheme.card(number) for number in range(1, 5)]
    till = Till(shop, cards[:3])
    for card in cards:
        good, wrong = scheme.payment(card, shop), scheme.payment(card, shop).raw
        forged = chain.pack_own(SaleState.GRANTED, wrong[:-1] + bytes((wrong[-1] ^ 1,)))
        foreign = chain.pack_own(SaleState.GRANTED, wrong[:2] + bytes((3 - scheme.suite.number,)) + wrong[3:])
        till.add(own(good), (Kind.OWN_PAYMENT, forged), (Kind.OWN_PAYMENT, foreign))
        till.add(carried(scheme.payment(card, bus)), own(good))
    return till


@pytest.mark.parametrize("suite", [International(deterministic=True), Gm(deterministic=True)])
def test_books_and_receipts_are_the_same(monkeypatch: pytest.MonkeyPatch, suite: Suite) -> None:
    """Rejections too, to the letter."""
    monkeypatch.setattr(workers, "SMALLEST_LOT", 1)
    monkeypatch.setattr(workers, "LARGEST_CHUNK", 3)
    scheme = Scheme(suite=suite)
    batch = mixed_upload(scheme).batch()
    books, receipts = [], []
    for count in (0, 2):
        clearing = open_clearing(scheme, workers=count)
        receipts.append(clearing.accept(batch))
        assert clearing.accept(batch) == receipts[-1]
        books.append(clearing.report())
        assert len(clearing._workers.processes) == count
        clearing.close()
        assert clearing._workers.processes == []
    assert books[0] == books[1]
    assert receipts[0] == receipts[1]
    assert [refused.code for refused in receipts[0].rejections] == [
        *("signature", "scheme") * 3,
        *("certificate-missing", "certificate-missing", "scheme", "certificate-missing"),
        "certificate-missing",
    ]


def open_clearing(scheme: Scheme, workers: int = 0) -> Clearing:
    """In memory."""
    keys = {ACQUIRER: scheme.acquirer_key}
    return Clearing("sqlite://", scheme.trust, keys, lambda: NOW, workers=workers)


def test_the_same_upload_twice_at_once_is_booked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are read before either is booked."""
    scheme = Scheme()
    shop, card = scheme.terminal(1, 1, retail=True), scheme.card(7)
    batch = Till(shop, [card]).add(own(scheme.payment(card, shop)), own(scheme.payment(card, shop))).batch()
    clearing = open_clearing(scheme)
    both = threading.Barrier(2)
    check = clearing._intake.check

    def check_together(opened: object) -> object:
        both.wait(PATIENCE_S)
        return check(opened)  # type: ignore[arg-type]

    monkeypatch.setattr(clearing._intake, "check", check_together)
    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(clearing.accept, batch) for _ in range(2))
        assert first.result() == second.result()
    report = clearing.report()
    assert (report.payments, report.payees[0].balance_fen) == (2, 400)
    assert report.conservation.ok


def test_the_same_payment_in_two_uploads_at_once_is_booked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the shop that took it and a bus that carried it."""
    scheme = Scheme()
    shop, bus, card = scheme.terminal(1, 1, retail=True), scheme.terminal(2, 1), scheme.card(7)
    payment = scheme.payment(card, shop)
    uploads = [Till(shop, [card]).add(own(payment)).batch(), Till(bus, [card]).add(carried(payment)).batch()]
    clearing = open_clearing(scheme)
    both = threading.Barrier(2)
    check = clearing._intake.check

    def check_together(opened: object) -> object:
        both.wait(PATIENCE_S)
        return check(opened)  # type: ignore[arg-type]

    monkeypatch.setattr(clearing._intake, "check", check_together)
    with ThreadPoolExecutor(2) as threads:
        receipts = list(threads.map(clearing.accept, uploads))
    assert [receipt.rejections for receipt in receipts] == [[], []]
    report = clearing.report()
    assert (report.payments, report.payees[0].balance_fen) == (1, 200)
    assert report.conservation.ok
