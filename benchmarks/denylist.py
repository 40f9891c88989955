"""A denylist of a million cards in a terminal: one look-up, its memory, and a change of a thousand cards.

Measured in a process of its own, which opens the list from the terminal's folder as a terminal does. A change
is timed whole: parsed, its signature verified, merged, the hash of the list that results compared with the
signed one, and durable in the folder; the quietest of nine counts.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.rows import REPOSITORY, Row, measured
from hardwallet import denylist
from hardwallet.denylist import Denylist
from hardwallet.issuing import ISSUER, create_scheme, open_scheme, read_trust
from hardwallet.suites import International
from pos_terminal.denylist import DenylistStore

LOOK_UP_LIMIT_US: Final = 5.0
MEMORY_LIMIT_MB: Final = 16.0
CHANGE_LIMIT_MS: Final = 50.0
CHANGED: Final = 1_000
CHANGES: Final = 9
_NOW_S: Final = 1_790_000_000
_LOOK_UPS: Final = 200_000
_ROUNDS: Final = 10
_PASSPHRASE: Final = b"benchmark"


def run(quick: bool) -> list[Row]:
    """With 1,000,000 cards (quick: 50,000, which only shows that it runs)."""
    cards = 50_000 if quick else denylist.MAX_CARDS
    with tempfile.TemporaryDirectory(prefix="denylist-") as name:
        folder = Path(name)
        make(folder, cards)
        told = json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.denylist", name],
                stdout=subprocess.PIPE,
                check=True,
                cwd=REPOSITORY,
            ).stdout
        )
    if told["cards"] != cards:
        raise RuntimeError(f"the terminal holds {told['cards']} cards, not {cards}")
    of = f"denylist of {cards:,} cards"
    return [
        measured(f"{of}: one look-up", told["look_up_us"], "us", LOOK_UP_LIMIT_US),
        measured(f"{of}: memory in a terminal, at its peak", told["peak_mb"], "MB", MEMORY_LIMIT_MB),
        measured(f"{of}: a change of {CHANGED:,}, durable", told["change_ms"], "ms", CHANGE_LIMIT_MS),
        measured(f"  the same, median of {CHANGES}", told["median_ms"], "ms"),
        measured(f"{of}: read at the start", told["start_ms"], "ms"),
    ]


def make(folder: Path, cards: int) -> None:
    """The list of a scheme in a terminal's folder, and changes of it, each of as many cards in as out."""
    rng, suite = random.Random(4), International()
    create_scheme(folder / "scheme", "benchmark", suite, _PASSPHRASE, _NOW_S, rng.randbytes)
    with open_scheme(folder / "scheme", _PASSPHRASE, rng.randbytes) as scheme:
        key, trust = scheme.key("issuer"), scheme.trust.bundle
    numbers = rng.sample(range(2**32), cards + CHANGES * CHANGED // 2)
    listed = [_card(number) for number in numbers[:cards]]
    fresh = [_card(number) for number in numbers[cards:]]
    raw = denylist.build_full(suite, trust.scheme, ISSUER, 1, _NOW_S, listed, key)
    (folder / "till").mkdir()
    with closing(DenylistStore(folder / "till", trust)) as store:
        held = store.offer(raw)
    half = CHANGED // 2
    for version in range(2, 2 + CHANGES):
        begin = half * (version - 2)
        raw = denylist.build_delta(
            held,
            version,
            _NOW_S + version,
            fresh[begin : begin + half],
            listed[begin : begin + half],
            suite,
            trust.scheme,
            key,
        )
        (folder / f"{version}.change").write_bytes(raw)
        change = denylist.parse(raw, trust)
        if isinstance(change, Denylist):
            raise TypeError("a change was made")
        held = denylist.apply(held, change)


def _card(number: int) -> bytes:
    return ISSUER + number.to_bytes(4, "big")


def open_and_tell(folder: Path) -> dict[str, float]:
    """The process that is measured."""
    trust = read_trust(folder / "scheme").bundle
    changes = [(folder / f"{version}.change").read_bytes() for version in range(2, 2 + CHANGES)]
    (folder / "empty").mkdir()
    DenylistStore(folder / "empty", trust).close()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak from here on (proc(5))
    before_kb = _peak_kb()
    begin = time.perf_counter()
    with closing(DenylistStore(folder / "till", trust)) as store:
        start_s = time.perf_counter() - begin
        changed_s = [_offered_s(store, raw) for raw in changes]
        held = store.held[0]
        peak_kb = _peak_kb() - before_kb
        look_up_s = _look_up_s(store)
    return {
        "cards": len(held),
        "start_ms": start_s * 1e3,
        "change_ms": min(changed_s) * 1e3,
        "median_ms": median(changed_s) * 1e3,
        "peak_mb": peak_kb * 1024 / 1e6,
        "look_up_us": look_up_s * 1e6,
    }


def _offered_s(store: DenylistStore, raw: bytes) -> float:
    begin = time.perf_counter()
    store.offer(raw)
    return time.perf_counter() - begin


def _look_up_s(store: DenylistStore) -> float:
    """CPU seconds a card in the quietest round, half of the cards on the list, in an order that no cache
    knows."""
    held, rng = store.of(ISSUER), random.Random(5)
    if held is None:
        raise RuntimeError("there is no list")
    wanted = [_card(rng.choice(held.numbers)) for _ in range(_LOOK_UPS // 2)]
    wanted += [ISSUER + os.urandom(4) for _ in range(_LOOK_UPS // 2)]
    rng.shuffle(wanted)
    return min(_round_s(store, wanted[begin::_ROUNDS]) for begin in range(_ROUNDS))


def _round_s(store: DenylistStore, wanted: list[bytes]) -> float:
    """CPU seconds a card, the loop among them."""
    found = 0
    begin = time.process_time()
    for card in wanted:
        listed = store.of(card[:4])
        found += listed is not None and card in listed
    spent = time.process_time() - begin
    if not len(wanted) // 3 < found < len(wanted) * 2 // 3:
        raise RuntimeError("half of the cards are on the list, and were not found there")
    return spent / len(wanted)


def _peak_kb() -> int:
    """The most memory that this process had. (The one of getrusage(2) is its parent's before exec, too.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    print(json.dumps(open_and_tell(Path(sys.argv[1]))))
