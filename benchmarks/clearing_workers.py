"""How fast clearing settles when two processes check its signatures, in both suites, against twice raw
verify: two processes that check the very same signatures and do nothing else.

The clock's time is compared, since using a second core is the point. Both sides take turns; as many terminals
upload at once as an HTTP server would let in. What one process checks alone is shown too: two seldom reach
twice that, since cores share their clock and their neighbours.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gmssl_pyx
import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from benchmarks.clearing import BATCH, Terminals
from benchmarks.rows import REPOSITORY, Row, measured, reached
from hardwallet.gm import IDENTIFIER, Gm
from hardwallet.suites import GM, International, Suite
from offline_sync import messages
from offline_sync.clearing import Clearing

WORKERS = 2
UPLOADING = 3
"""Terminals that upload at the same time: one is read or booked, the others' signatures are checked."""
Verify = Callable[[], object]
"""One signature check, everything that it takes at hand."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A suite, what its row is called and must reach, and how much is measured."""

    suite: Suite
    name: str
    library: str
    limit: float
    rounds: int
    batches: int
    """Uploads in a round."""


def run(quick: bool) -> list[Row]:
    """The rows of both suites."""
    rounds = 1 if quick else 3
    comparisons = [
        Comparison(
            *(International(deterministic=True), "P-256", "cryptography", 0.55, rounds, 6 if quick else 18)
        ),
        Comparison(*(Gm(), "SM2", "gmssl_pyx", 0.8, rounds, 3 if quick else 6)),
    ]
    return [row for comparison in comparisons for row in compare(comparison)]


def compare(comparison: Comparison) -> list[Row]:
    """Clearing's rate and the raw one, taking turns in going first."""
    terminals = Terminals(cards=500, terminals=UPLOADING, suite=comparison.suite)
    cleared_s = raw_s = alone_s = 0.0
    with tempfile.TemporaryDirectory(prefix="clearing-workers-") as folder, raw_verifiers() as verifiers:
        clearing = terminals.clearing(Path(folder) / "ledger.sqlite", WORKERS)
        _upload(clearing, [terminals.batch() for _ in range(UPLOADING)])
        for number in range(comparison.rounds):
            uploads = [terminals.batch() for _ in range(comparison.batches)]
            signed = signatures(terminals, uploads)
            for place, verifier in enumerate(verifiers):
                verifier.load(comparison.suite.number, signed[place::WORKERS])
            raw = partial(_at_once, verifiers)
            book = partial(_upload, clearing, uploads)
            if number % 2:
                raw_s, cleared_s = raw_s + _taken_s(raw), cleared_s + _taken_s(book)
            else:
                cleared_s, raw_s = cleared_s + _taken_s(book), raw_s + _taken_s(raw)
            alone = raw_checks(comparison.suite.number, signed)
            alone_s += _taken_s(partial(_check, alone))
        report = clearing.report()
        clearing.close()
    payments = comparison.rounds * comparison.batches * BATCH
    assert report.conservation.ok
    assert report.payments == payments + UPLOADING * BATCH
    name = f"clearing, {WORKERS} processes verify, against twice raw {comparison.name} verify, wall"
    library = comparison.library
    return [
        reached(name, raw_s / cleared_s, "ratio", comparison.limit),
        measured(f"  payments a second, {comparison.name}", round(payments / cleared_s), "payments/s"),
        measured(f"  raw verify, {library}, two processes", round(payments / raw_s), "verifications/s"),
        measured(f"  raw verify, {library}, one process alone", round(payments / alone_s), "verifications/s"),
    ]


class Verifier:
    """A process that checks what it was given when it is told, and nothing else."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def load(self, suite: int, signed: Sequence["Signed"]) -> None:
        """Hand it signatures of a suite; it makes ready, so that only checking is left to do."""
        raw = msgspec.msgpack.encode((suite, signed))
        self._say(len(raw).to_bytes(8, "big") + raw)
        self._wait()

    def begin(self) -> None:
        """Check them all."""
        self._say(b"go\n")

    def end(self) -> None:
        """Wait until it has."""
        self._wait()

    def _say(self, words: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words)
        self._process.stdin.flush()

    def _wait(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"done\n"


Signed = tuple[bytes, bytes]
"""A public key (64 bytes) and a record (160) that it signed."""


@contextmanager
def raw_verifiers() -> Iterator[list[Verifier]]:
    """WORKERS processes that do nothing but check signatures."""
    command = [sys.executable, "-m", "benchmarks.clearing_workers"]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY)
        for _ in range(WORKERS)
    ]
    try:
        yield [Verifier(process) for process in processes]
    finally:
        for process in processes:
            process.communicate()


def serve() -> None:
    """What such a process does: takes signatures, says `done`, checks them on `go`, says `done`."""
    while length := sys.stdin.buffer.read(8):
        raw = sys.stdin.buffer.read(int.from_bytes(length, "big"))
        suite, signed = msgspec.msgpack.decode(raw, type=tuple[int, list[Signed]])
        checks = raw_checks(suite, signed)
        _done()
        sys.stdin.buffer.readline()
        _check(checks)
        _done()


def _done() -> None:
    sys.stdout.write("done\n")
    sys.stdout.flush()


def _at_once(verifiers: list[Verifier]) -> None:
    for verifier in verifiers:
        verifier.begin()
    for verifier in verifiers:
        verifier.end()


def signatures(terminals: Terminals, uploads: list[bytes]) -> list[Signed]:
    """Every signed record in the uploads, with its card's key."""
    public = {card.number: card.key.public for card in terminals.cards}
    records = [entry.payload[1:] for raw in uploads for entry in messages.decode_batch(raw).entries]
    return [(public[raw[8:16]], raw) for raw in records]


def raw_checks(suite: int, signed: Sequence[Signed]) -> list[Verify]:
    """Every signature, keys loaded and in DER: nothing is left to do but to verify."""
    if suite == GM:
        return [partial(gmssl_pyx.sm2_verify, key, raw[:96], _der(raw), IDENTIFIER) for key, raw in signed]
    point = ec.EllipticCurvePublicKey.from_encoded_point
    keys = {key: point(ec.SECP256R1(), b"\x04" + key) for key, _ in signed}
    algorithm = ec.ECDSA(hashes.SHA256())
    return [partial(keys[key].verify, _der(raw), raw[:96], algorithm) for key, raw in signed]


def _der(record: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(record[96:128], "big"), int.from_bytes(record[128:160], "big"))


def _check(checks: list[Verify]) -> None:
    for check in checks:
        assert check() is not False  # `cryptography` raises, gmssl_pyx answers


def _upload(clearing: Clearing, uploads: list[bytes]) -> None:
    """Each terminal uploads one batch after the other; terminals take turns in `uploads`."""
    own = [uploads[number::UPLOADING] for number in range(UPLOADING)]
    with ThreadPoolExecutor(UPLOADING) as threads:
        for done in [threads.submit(_book_all, clearing, batches) for batches in own]:
            done.result()


def _book_all(clearing: Clearing, uploads: list[bytes]) -> None:
    for raw in uploads:
        receipt = clearing.accept(messages.decode_batch(raw))
        assert not receipt.rejections


def _taken_s(work: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    serve()
