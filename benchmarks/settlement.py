"""How long settling a day of 1,000,000 payments of 1,000 merchants takes, and how much memory.

The ledger is filled beforehand, straight into its tables, by a process of its own: what is asked is the
settlement, not the intake. Another process closes the day and writes every signed file; its time and its peak
memory count. Afterwards all files are read back, and their totals compared with the ledger.
"""

import json
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from benchmarks.rows import REPOSITORY, Row, measured
from hardwallet import records
from offline_sync import settlement
from offline_sync.clearing import Clearing
from offline_sync.clearing.ledger import AccountKind, Ledger, Posting, Reason, RecordRow, Transfer
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import ACQUIRER, ISSUER, NOW, SCHEME, Scheme

PAYMENTS: Final = 1_000_000
MERCHANTS: Final = 1_000
QUICK_PAYMENTS: Final = 20_000
QUICK_MERCHANTS: Final = 100
SECONDS_LIMIT: Final = 30
MEMORY_LIMIT_MB: Final = 500
_CARDS: Final = 50_000
_BATCH: Final = 10_000
_BODY: Final = struct.Struct(">BBBB4s8s8sI8s12sIH4sI16sIBBBIIHB")
_STATES: Final = (SaleState.GRANTED,) * 97 + (SaleState.PAID_NOT_GRANTED, 0, 0)

Result = dict[str, Any]


def run(quick: bool) -> list[Row]:
    """Seconds and MB for the whole day; quick: a fiftieth of it, which only shows that it runs."""
    payments, merchants = (QUICK_PAYMENTS, QUICK_MERCHANTS) if quick else (PAYMENTS, MERCHANTS)
    with tempfile.TemporaryDirectory(prefix="settlement-") as name:
        folder = Path(name)
        _child("fill", folder, payments, merchants)
        told = _child("settle", folder, payments, merchants)
        _check(folder, payments, merchants)
    of = f"{payments:,} payments, {merchants:,} merchants"
    return [
        measured(f"settlement: {of}", told["seconds"], "s", None if quick else SECONDS_LIMIT),
        measured(f"settlement: {of}, peak memory", told["peak_kb"] / 1024, "MB", MEMORY_LIMIT_MB),
        measured(f"settlement: {of}, files written", told["written_mb"], "MB"),
    ]


def _child(what: str, folder: Path, payments: int, merchants: int) -> Result:
    """A process of its own for one part of it, so that memory is told apart."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.settlement",
        what,
        str(folder),
        str(payments),
        str(merchants),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=REPOSITORY)
    told: Result = json.loads(done.stdout)
    return told


def fill(folder: Path, payments: int, merchants: int) -> Result:
    """A ledger with loads and payments, as the intake leaves it; the signatures are made up."""
    chance = random.Random(1)
    ledger = Ledger(_url(folder), SCHEME)
    sequences = dict.fromkeys(range(1, _CARDS + 1), 0)
    for begin in range(1, payments + 1, _BATCH):
        posting = Posting()
        for number in range(begin, min(begin + _BATCH, payments + 1)):
            card = chance.randint(1, _CARDS)
            sequences[card] += 1
            _pay(posting, number, card, sequences[card], chance.randint(1, merchants), chance)
        with ledger.write() as connection:
            ledger.post(connection, posting)
    ledger.close()
    return {"payments": payments}


def _pay(
    posting: Posting, number: int, card: int, sequence: int, merchant: int, chance: random.Random
) -> None:
    """One payment: its record, its movement, and for some what its terminal told of the sale later."""
    owner, payee = ISSUER + card.to_bytes(4, "big"), ACQUIRER + merchant.to_bytes(4, "big")
    terminal, reference = chance.randint(1, 4).to_bytes(4, "big"), chance.randbytes(12)
    amount_fen, state = chance.randint(1, 5_000), chance.choice(_STATES)
    body = _BODY.pack(
        *(records.PAYMENT, 1, 1, 1, SCHEME, owner, chance.randbytes(8), sequence, payee, reference),
        *(amount_fen, 0x0156, terminal, number, chance.randbytes(16), NOW - chance.randint(0, 86_400)),
        *(records.RETAIL, 0, 0, 20_000, 0, 1, 0),
    )
    raw = body + chance.randbytes(64)
    values = {
        "id": number,
        "kind": records.PAYMENT,
        "card": owner,
        "sequence": sequence,
        "body_digest": sha256(body).digest(),
        "amount_fen": amount_fen,
        "state": state,
        "received_s": NOW,
        "raw": raw,
        "balance_fen": 20_000,
    }
    posting.records.append(RecordRow(*(values[name] for name in RecordRow._fields)))  # type: ignore[arg-type]
    sides = (AccountKind.CARD, owner), (AccountKind.PAYEE, payee)
    posting.transfers.append(Transfer(Reason.PAYMENT, number, *sides, amount_fen))
    if not state and chance.random() < 0.5:
        posting.sales.append(
            {
                "payee": payee,
                "terminal": terminal,
                "reference": reference,
                "entry": number,
                "state": int(SaleState.GIVEN_UP),
            }
        )


def settle(folder: Path) -> Result:
    """The process that is measured: closes the day, and writes its files."""
    clearing = _clearing(folder)
    begin_s = time.perf_counter()
    closing = clearing.close_day(settlement.beijing_day(NOW))
    closed_s = time.perf_counter()
    paths = clearing.write_settlements(closing.number, folder)
    end_s = time.perf_counter()
    clearing.close()
    return {
        "seconds": end_s - begin_s,
        "closing_s": closed_s - begin_s,
        "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "written_mb": sum(path.stat().st_size for path in paths) / 2**20,
    }


def _check(folder: Path, payments: int, merchants: int) -> None:
    """Every file is good, and together they are what the ledger holds."""
    clearing = _clearing(folder)
    (closing,) = clearing.settlements()
    (place,) = folder.glob("*-20*")
    rows = closing_fen = 0
    for path in place.iterdir():
        with path.open("rb") as stream:
            found = settlement.read(stream, Scheme(seed="benchmark").trust)
        rows += found.totals.rows
        closing_fen += found.totals.closing_fen
    assert (rows, closing.rows, closing.payees) == (payments, payments, merchants)
    assert closing_fen == closing.credit_fen == clearing.report().conservation.payees_fen
    clearing.close()


def _url(folder: Path) -> str:
    return f"sqlite:///{folder / 'settlement.sqlite'}"


def _clearing(folder: Path) -> Clearing:
    scheme = Scheme(seed="benchmark")
    return Clearing(_url(folder), scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)


def _main(what: str, folder: str, payments: str, merchants: str) -> Result:
    if what == "fill":
        return fill(Path(folder), int(payments), int(merchants))
    return settle(Path(folder))


if __name__ == "__main__":
    print(json.dumps(_main(*sys.argv[1:])))
