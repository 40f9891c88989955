"""How fast clearing settles, against raw signature checks in the same run, and how much memory a million
payments take.

Processor time is compared, since what is asked is how much work clearing adds to the signature check that
nobody can leave out; the clock's time, which also waits for the disk, stands beside it.
"""

import json
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from benchmarks.rows import REPOSITORY
from hardwallet.suites import International, Suite
from offline_sync import chain, messages
from offline_sync.chain import Entry, Kind
from offline_sync.clearing import Clearing
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import ACQUIRER, NOW, SCHEME, Card, Scheme

BATCH = 1_000
RATIO_LIMIT = 0.65
MEMORY_LIMIT_MB = 300
WARM_UP = 6
"""Batches before the measurement: by then every card's certificate was met once, as in daily work."""

Result = dict[str, Any]
RawCheck = tuple[ec.EllipticCurvePublicKey, bytes, bytes]


class Terminals:
    """Terminals that upload batches of signed payments of the same cards, for as long as they are asked."""

    def __init__(self, cards: int, terminals: int, suite: Suite | None = None) -> None:
        self.scheme = Scheme(seed="benchmark", suite=suite or International(deterministic=True))
        self.cards = [self.scheme.card(number) for number in range(1, cards + 1)]
        self.terminals = [self.scheme.terminal(number, 1) for number in range(1, terminals + 1)]
        self._heads = {
            terminal.payee: (0, chain.genesis(SCHEME, terminal.payee, terminal.number))
            for terminal in self.terminals
        }
        self._chance = random.Random(1)
        self._turn = 0

    def clearing(self, ledger: Path, workers: int = 0) -> Clearing:
        """A clearing for them."""
        url = f"sqlite:///{ledger}"
        keys = {ACQUIRER: self.scheme.acquirer_key}
        return Clearing(url, self.scheme.trust, keys, lambda: NOW, workers=workers)

    def batch(self) -> bytes:
        """The next upload: BATCH payments, and the certificate of each card among them."""
        terminal = self.terminals[self._turn % len(self.terminals)]
        self._turn += 1
        index, hashed = self._heads[terminal.payee]
        before, entries, met = hashed, [], dict[bytes, bytes]()
        for card in self._chance.choices(self.cards, k=BATCH):
            index += 1
            payload = chain.pack_own(SaleState.GRANTED, self.scheme.payment(card, terminal).raw)
            hashed = chain.link(hashed, index, Kind.OWN_PAYMENT, NOW, payload)
            entries.append(Entry(index, Kind.OWN_PAYMENT, NOW, payload, hashed))
            met[card.digest] = card.raw_certificate
        self._heads[terminal.payee] = (index, hashed)
        sealed, _ = messages.seal_batch(
            terminal.uploader, before, entries, list(met.values()), journal_head=index, time_s=NOW
        )
        return messages.encode(sealed)


def run(quick: bool) -> list[Result]:
    """Throughput, and memory over 1,000,000 payments (quick: 30,000, which only shows that it runs)."""
    with tempfile.TemporaryDirectory(prefix="clearing-") as folder:
        return [*throughput(Path(folder), 8 if quick else 60), memory(Path(folder), 30 if quick else 1_000)]


def throughput(folder: Path, batches: int) -> list[Result]:
    """Booking a batch, and checking the very same signatures under the same keys and nothing else, take turns
    in going first, so that a noisy machine and a warm cache serve both alike.
    """
    terminals = Terminals(cards=1_000, terminals=3)
    clearing = terminals.clearing(folder / "throughput.sqlite")
    keys = {card.number: _loaded_key(card) for card in terminals.cards}
    booking, raw_checks = Spent(), Spent()
    for number in range(WARM_UP + batches):
        raw = terminals.batch()
        signed = [_raw_check(keys, item.payload[1:]) for item in messages.decode_batch(raw).entries]
        works = [(booking, partial(_book, clearing, raw)), (raw_checks, partial(_check, signed))]
        for spent, work in works if number % 2 else reversed(works):
            spent.measure(work, counts=number >= WARM_UP)
    report = clearing.report()
    assert report.conservation.ok
    assert report.payments == (WARM_UP + batches) * BATCH
    clearing.close()
    ratio = raw_checks.cpu_s / booking.cpu_s
    wall_ratio = raw_checks.wall_s / booking.wall_s
    payments = batches * BATCH
    return [
        _row(
            "clearing against raw P-256 verify, CPU",
            round(ratio, 3),
            "ratio",
            RATIO_LIMIT,
            ratio >= RATIO_LIMIT,
        ),
        _row("clearing against raw P-256 verify, wall", round(wall_ratio, 3), "ratio"),
        _row("clearing, one thread", round(payments / booking.wall_s), "payments/s"),
        _row("raw P-256 verify, one thread", round(payments / raw_checks.wall_s), "verifications/s"),
    ]


@dataclass
class Spent:
    """Time used by one kind of work, so far."""

    cpu_s: float = 0.0
    wall_s: float = 0.0

    def measure(self, work: Callable[[], None], *, counts: bool) -> None:
        """Do it, and add what it took where it counts."""
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        if counts:
            self.cpu_s += time.process_time() - cpu
            self.wall_s += time.perf_counter() - wall


def _book(clearing: Clearing, raw: bytes) -> None:
    clearing.accept(messages.decode_batch(raw))


def _check(signed: list[RawCheck]) -> None:
    algorithm = ec.ECDSA(hashes.SHA256())
    for key, signature, body in signed:
        key.verify(signature, body, algorithm)


def _loaded_key(card: Card) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + card.key.public)


def _raw_check(keys: dict[bytes, ec.EllipticCurvePublicKey], record: bytes) -> RawCheck:
    """Loaded key, DER signature and body of a record: nothing is left to do but to verify."""
    r, s = int.from_bytes(record[96:128], "big"), int.from_bytes(record[128:160], "big")
    return keys[record[8:16]], encode_dss_signature(r, s), record[:96]


def memory(folder: Path, batches: int) -> Result:
    """Peak memory of a process that verifies and books every one of `batches` × BATCH distinct signed
    payments, and then makes the report. They are signed here and piped in, so that only clearing's memory
    counts.
    """
    terminals = Terminals(cards=5_000, terminals=20)
    command = [sys.executable, "-m", "benchmarks.clearing", str(folder / "memory.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for _ in range(batches):
            raw = terminals.batch()
            child.stdin.write(struct.pack(">I", len(raw)) + raw)
        child.stdin.close()
        told = json.loads(child.stdout.read())
    assert told["payments"] == batches * BATCH
    assert told["conserved"]
    peak_mb = round(told["peak_kb"] / 1024, 1)
    return _row(
        f"clearing, peak memory for {batches * BATCH:,} payments, all verified",
        peak_mb,
        "MB",
        MEMORY_LIMIT_MB,
        peak_mb <= MEMORY_LIMIT_MB,
    )


def book_all(ledger: Path, batches: BinaryIO) -> Result:
    """The process whose memory is measured."""
    clearing = Terminals(cards=0, terminals=0).clearing(ledger)
    while header := batches.read(4):
        clearing.accept(messages.decode_batch(batches.read(struct.unpack(">I", header)[0])))
    report = clearing.report()
    clearing.close()
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"payments": report.payments, "conserved": report.conservation.ok, "peak_kb": peak_kb}


def _row(name: str, value: float, unit: str, limit: float | None = None, ok: bool = True) -> Result:
    return {"name": name, "value": value, "unit": unit, "limit": limit, "ok": ok, "kind": "measured"}


if __name__ == "__main__":
    print(json.dumps(book_all(Path(sys.argv[1]), sys.stdin.buffer)))
