"""Lists and orders that come while somebody taps: whole, never older than before, and no tap waits for them.

Each interleaving is forced: one side is stopped at the place in question, the other one goes on.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hardwallet import denylist as formats
from hardwallet.denylist import Denylist
from hardwallet.issuing import ISSUER
from pos_terminal import denylist as lists
from pos_terminal import pouch as pouches
from pos_terminal.denylist import DenylistStore
from pos_terminal.pouch import Pouch
from pos_terminal.tap import Outcome
from tests.pos_terminal.bench import NOW, Counter, Holder, Mill, hold
from tests.pos_terminal.test_denylist import charges
from tests.pos_terminal.test_pouch import Writer

PATIENCE_S = 20.0


class Stop:
    """Stops the first thread that comes by, until it is told to go on; others pass."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._first = threading.Lock()

    def __call__(self) -> None:
        if self._first.acquire(blocking=False):
            self.reached.set()
            assert self.go_on.wait(PATIENCE_S)


class Noticed:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waited_for = threading.Event()

    def acquire(self, blocking: bool = True) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        self.waited_for.set()
        return blocking and self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def waits_or_ended(lock: Noticed, thread: threading.Thread) -> None:
    """Until the thread waits for the lock, or has passed it and ended."""
    while thread.is_alive() and not lock.waited_for.wait(0.01):
        pass


@contextmanager
def aside(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Work in another thread, over at the end of the block; what it raises fails the test."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again here
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert failures == []


@pytest.fixture
def stopped_write(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """The first write of a list or of orders stops before it reaches the disk."""
    stop = Stop()
    for module in (lists, pouches):
        real = module.write_durably

        def write(*given: Any, real: Any = real, **named: Any) -> None:
            stop()
            real(*given, **named)

        monkeypatch.setattr(module, "write_durably", write)
    return stop


def full(mill: Mill, version: int, *numbers: int, issuer: bytes = ISSUER) -> bytes:
    cards = [issuer + number.to_bytes(4, "big") for number in numbers]
    return formats.build_full(mill.suite, mill.trust.scheme, issuer, version, NOW, cards, mill.issuer)


def test_of_two_lists_at_once_the_newer_one_stays(
    mill: Mill, tmp_path: Path, stopped_write: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one was accepted first, and is on its way to the disk."""
    lock = Noticed()
    with closing(DenylistStore(tmp_path, mill.trust)) as store:
        monkeypatch.setattr(store, "_taking", lock)
        with (
            aside(lambda: store.offer(full(mill, 2, 1))),
            aside(
                lambda: stopped_write.reached.wait(PATIENCE_S) and store.offer(full(mill, 3, 1, 2))
            ) as newer,
        ):
            assert stopped_write.reached.wait(PATIENCE_S)
            waits_or_ended(lock, newer)
            stopped_write.go_on.set()
        held = store.of(ISSUER)
        assert held is not None
        assert held.version == 3
    with closing(DenylistStore(tmp_path, mill.trust)) as again:
        kept = again.of(ISSUER)
        assert kept is not None
        assert kept.version == 3


def test_a_tap_waits_for_no_list_that_is_being_written(
    mill: Mill, tmp_path: Path, stopped_write: Stop
) -> None:
    with closing(DenylistStore(tmp_path, mill.trust)) as store, aside(lambda: store.offer(full(mill, 2, 1))):
        assert stopped_write.reached.wait(PATIENCE_S)
        assert (store.of(ISSUER), store.held) == (None, [])
        stopped_write.go_on.set()


class Replaced:
    """Denylists of which the one that is held is replaced right after the first look."""

    def __init__(self, before: Denylist, after: Denylist) -> None:
        self._before, self._after = before, after
        self._looks = 0

    def of(self, operator: bytes) -> Denylist:
        self._looks += 1
        return self._before if self._looks == 1 else self._after


def test_a_list_that_comes_in_mid_tap_is_looked_into(counter: Counter, mill: Mill, holder: Holder) -> None:
    """The old list is too old to pay under, the new one denies the card: neither lets it pay."""
    number = int.from_bytes(holder.number[4:], "big")
    before, after = (formats.parse(raw, mill.trust) for raw in (full(mill, 2), full(mill, 3, number)))
    assert isinstance(before, Denylist)
    assert isinstance(after, Denylist)
    for terminal, charge in charges(counter):
        terminal.denylists = Replaced(before, after)
        assert hold(terminal, holder, charge()).outcome is Outcome.DECLINED
    assert holder.sequence == 1


@pytest.fixture
def writer(mill: Mill) -> Writer:
    return Writer(mill)


def test_an_order_that_is_answered_while_others_are_written(
    mill: Mill, writer: Writer, tmp_path: Path, stopped_write: Stop, holder: Holder
) -> None:
    """The tap does not wait for the writer, and what it dropped is off the disk once the writer has ended."""
    first, second = (writer.order(holder.number, number=number) for number in (1, 2))
    with closing(Pouch(tmp_path, mill.trust)) as pouch:
        pouch.put(first)
        with aside(lambda: pouch.offer([second])):
            assert stopped_write.reached.wait(PATIENCE_S)
            assert pouch.waiting_for(holder.number) == [first]
            pouch.drop(first)
            pouch.settle()
            assert pouch.waiting_for(holder.number) == []
            stopped_write.go_on.set()
        assert pouch.all() == [second]
        assert len(pouch) == 1
        assert pouches.read_orders(tmp_path / pouches.ORDERS) == second


def test_two_who_offer_at_once_lose_nothing(
    mill: Mill,
    writer: Writer,
    tmp_path: Path,
    stopped_write: Stop,
    holder: Holder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (writer.order(holder.number, number=number) for number in (1, 2))
    lock = Noticed()
    with closing(Pouch(tmp_path, mill.trust)) as pouch:
        monkeypatch.setattr(pouch, "_writing", lock)
        with (
            aside(lambda: pouch.offer([first])),
            aside(lambda: stopped_write.reached.wait(PATIENCE_S) and pouch.offer([second])) as other,
        ):
            assert stopped_write.reached.wait(PATIENCE_S)
            waits_or_ended(lock, other)
            stopped_write.go_on.set()
        assert pouch.all() == [first, second]
        assert pouches.read_orders(tmp_path / pouches.ORDERS) == first + second
