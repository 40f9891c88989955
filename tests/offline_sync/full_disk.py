"""Run as a program in a folder on a tiny file system: pays until it is full, opens again, prints what was
kept.

Prints three numbers: payments said to be durable, payments found afterwards, 1 if a sale was declined
beforehand.
"""

import sys
from pathlib import Path

from pos_terminal.errors import JournalFull
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import NOW, Scheme, journal_of


def main(folder: Path) -> None:
    """Fill the disk, then look."""
    scheme = Scheme()
    card, terminal = scheme.card(7), scheme.terminal(1, 1)
    path = folder / "journal.sqlite"
    kept = []
    store = journal_of(terminal, path)
    try:
        while True:
            record = scheme.payment(card, terminal)
            store.keep_payment(record, SaleState.GRANTED, NOW)
            kept.append(record)
    except JournalFull:
        pass
    declined = 0
    try:
        store.require_space()
    except JournalFull:
        declined = 1
    store.close()
    with journal_of(terminal, path) as again:
        found = [again.payment(record.card, record.sequence) for record in kept]
        good = sum(
            stored is not None and stored.record.raw == r.raw for stored, r in zip(found, kept, strict=True)
        )
        extra = again.head()[0] - len(kept)
    sys.stdout.write(f"{len(kept)} {good + extra} {declined}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
