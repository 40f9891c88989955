"""How fast clearing settles when two processes check its signatures, in both suites, against twice what one
process checks that does nothing else.

The clock's time is compared, since using a second core is the point. Both sides take turns with the very same
signatures; as many terminals upload at once as an HTTP server would let in.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gmssl_pyx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from benchmarks.clearing import BATCH, Terminals
from benchmarks.rows import Row, measured, reached
from hardwallet.gm import IDENTIFIER, Gm
from hardwallet.suites import International, Suite
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
    cleared_s = raw_s = 0.0
    with tempfile.TemporaryDirectory(prefix="clearing-workers-") as folder:
        clearing = terminals.clearing(Path(folder) / "ledger.sqlite", WORKERS)
        _upload(clearing, [terminals.batch() for _ in range(UPLOADING)])
        for number in range(comparison.rounds):
            uploads = [terminals.batch() for _ in range(comparison.batches)]
            raw = partial(_check, raw_checks(terminals, uploads))
            book = partial(_upload, clearing, uploads)
            if number % 2:
                raw_s, cleared_s = raw_s + _taken_s(raw), cleared_s + _taken_s(book)
            else:
                cleared_s, raw_s = cleared_s + _taken_s(book), raw_s + _taken_s(raw)
        report = clearing.report()
        clearing.close()
    payments = comparison.rounds * comparison.batches * BATCH
    assert report.conservation.ok
    assert report.payments == payments + UPLOADING * BATCH
    ratio = raw_s / (2 * cleared_s)
    name = f"clearing, {WORKERS} processes verify, against twice raw {comparison.name} verify, wall"
    return [
        reached(name, ratio, "ratio", comparison.limit),
        measured(f"  payments a second, {comparison.name}", round(payments / cleared_s), "payments/s"),
        measured(f"  raw verify of {comparison.library}", round(payments / raw_s), "verifications/s"),
    ]


def raw_checks(terminals: Terminals, uploads: list[bytes]) -> list[Verify]:
    """Every signature in the uploads, keys loaded and in DER: nothing is left to do but to verify."""
    records = [entry.payload[1:] for raw in uploads for entry in messages.decode_batch(raw).entries]
    public = {card.number: card.key.public for card in terminals.cards}
    if isinstance(terminals.scheme.suite, Gm):
        return [
            partial(gmssl_pyx.sm2_verify, public[raw[8:16]], raw[:96], _der(raw), IDENTIFIER)
            for raw in records
        ]
    point = ec.EllipticCurvePublicKey.from_encoded_point
    keys = {card: point(ec.SECP256R1(), b"\x04" + raw) for card, raw in public.items()}
    algorithm = ec.ECDSA(hashes.SHA256())
    return [partial(keys[raw[8:16]].verify, _der(raw), raw[:96], algorithm) for raw in records]


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
