"""Host CPU of one transit tap, card and terminal together, against one raw signature and verification.

The two take turns, one pair and one tap, in CPU time of this process: waiting for the disk is not counted,
what the disk makes the kernel compute in this process is. So both find the caches as the other has left them.
The card's memory is in RAM, the terminal's journal on a disk, made durable at each tap.

Storage is shown apart: the limit is for the tap without it, over all that was measured; what keeping the
payment
costs stands below it, and both together. Other programs on the machine add to a tap, whose code is larger
than a
cache, more than to a pair: so the round that was disturbed least is shown too.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.machine import IN_MEMORY, disk_folder
from benchmarks.rows import Row, measured
from benchmarks.world import TAPS_BETWEEN_VISITS, World
from hardwallet.certificates import CLASS_TRANSIT
from hardwallet.records import BODY_LENGTH, Record
from offline_sync.journal import CHECKPOINT_EVERY, SqliteJournal
from pos_terminal.sale import SaleState
from pos_terminal.tap import tap
from pos_terminal.terminal import Terminal

LIMIT: Final = 3.0
SLICE: Final = 10
"""Turns that make one figure of each."""


class Slice(NamedTuple):
    """One turn, microseconds a tap or a pair: CPU of the pair, of the tap, of its storage; the tap's time."""

    raw_us: float
    tap_us: float
    storage_us: float
    wall_us: float

    @property
    def ratio(self) -> float:
        """The tap's CPU against the pair's."""
        return self.tap_us / self.raw_us

    @property
    def ratio_apart(self) -> float:
        """The same without what keeping the payment costs."""
        return (self.tap_us - self.storage_us) / self.raw_us


class _TimedJournal(SqliteJournal):
    """A journal that adds up the CPU time of keeping payments."""

    storage_ns = 0

    def keep_payment(self, record: Record, state: SaleState, now_s: int) -> None:
        start_ns = time.process_time_ns()
        super().keep_payment(record, state, now_s)
        self.storage_ns += time.process_time_ns() - start_ns


def run(quick: bool) -> list[Row]:
    """The rows of one transit tap."""
    rounds, slices = (2, 10) if quick else (15, 30)
    place, kind = disk_folder()
    where = f"{place} ({kind}{', which is no disk' if kind in IN_MEMORY else ''})"
    print("  CPU time of this process; a raw pair and a whole tap take turns; the card's memory is in RAM")
    print(f"  journal on {where}; {rounds} rounds of {slices} slices of {SLICE} turns")
    with tempfile.TemporaryDirectory(dir=place, prefix="hardwallet-bench-") as folder:
        taken = _rounds(Path(folder), rounds, slices)
    return rows_of(taken)


def rows_of(rounds: list[list[Slice]]) -> list[Row]:
    """The ratios over all rounds, and the times of the quietest one."""
    quietest = min(rounds, key=lambda slices: statistics.median(each.ratio for each in slices))
    every = [each for slices in rounds for each in slices]
    pair_us = statistics.median(each.raw_us for each in quietest)
    return [
        measured(
            "one transit tap, both ends, storage apart / one raw sign + one raw verify",
            statistics.median(each.ratio_apart for each in every),
            "x",
            LIMIT,
        ),
        measured(
            "  its storage alone / the raw pair",
            statistics.median(each.storage_us / each.raw_us for each in every),
            "x",
        ),
        measured("  both together, over all rounds", statistics.median(each.ratio for each in every), "x"),
        measured(
            "  both together, in the quietest round", statistics.median(each.ratio for each in quietest), "x"
        ),
        measured("  raw P-256 sign + verify: CPU", pair_us, "us"),
        measured("  transit tap: CPU", statistics.median(each.tap_us for each in quietest), "us"),
        measured("  of it storage: CPU", statistics.median(each.storage_us for each in quietest), "us"),
        measured("  transit tap: time", statistics.median(each.wall_us for each in quietest) / 1000, "ms"),
    ]


def _rounds(folder: Path, rounds: int, slices: int) -> list[list[Slice]]:
    now_s = int(time.time())
    with World(folder, now_s, time.perf_counter, os.urandom) as world:
        journal: list[_TimedJournal] = []

        def timed(path: Path, *, scheme: bytes, payee: bytes, terminal: bytes) -> SqliteJournal:
            journal.append(_TimedJournal(path, scheme=scheme, payee=payee, terminal=terminal))
            return journal[0]

        bus = world.terminal(CLASS_TRANSIT, 1, timed)
        pair = _raw_pair()
        bench = _Bench(world, bus, journal[0])
        for _ in range(CHECKPOINT_EVERY + TAPS_BETWEEN_VISITS):  # as a terminal is after its first minutes
            bench.tap()
        taken = []
        for number in range(rounds):
            taken.append([bench.slice(pair) for _ in range(slices)])
            ratio = statistics.median(each.ratio for each in taken[-1])
            print(f"  round {number + 1}: {ratio:.2f}", flush=True)
        return taken


class _Bench:
    def __init__(self, world: World, bus: Terminal, journal: _TimedJournal) -> None:
        self._world = world
        self._bus = bus
        self._journal = journal
        self._link = world.link()
        self._left = 0

    def slice(self, pair: Callable[[], None]) -> Slice:
        """So many turns of a raw pair and a tap."""
        raw_ns = tap_ns = wall_ns = 0
        before_ns = self._journal.storage_ns
        for _ in range(SLICE):
            start_ns = time.process_time_ns()
            pair()
            raw_ns += time.process_time_ns() - start_ns
            cpu_ns, taken_ns = self.tap()
            tap_ns += cpu_ns
            wall_ns += taken_ns
        storage_ns = self._journal.storage_ns - before_ns
        return Slice(*(sum_ns / SLICE / 1000 for sum_ns in (raw_ns, tap_ns, storage_ns, wall_ns)))

    def tap(self) -> tuple[int, int]:
        """One tap: its CPU time, and how long it took, in nanoseconds."""
        if self._left == 0:
            self._world.visit_issuer(self._bus)
            self._link, self._left = self._world.link(), TAPS_BETWEEN_VISITS
        self._left -= 1
        fare = self._world.fare()
        start_ns, start_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        result = tap(self._bus, self._link, fare)
        cpu_ns, taken_ns = time.process_time_ns() - start_cpu_ns, time.perf_counter_ns() - start_ns
        if not (result.granted and result.ratified):
            raise RuntimeError(f"a tap of the benchmark was not granted: {result.reason}")
        return cpu_ns, taken_ns


def _raw_pair() -> Callable[[], None]:
    """One signature and one verification over a record's body, by the library alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    public, algorithm, body = key.public_key(), ec.ECDSA(hashes.SHA256()), os.urandom(BODY_LENGTH)

    def pair() -> None:
        public.verify(key.sign(body, algorithm), body, algorithm)

    return pair
