"""A process that keeps payments until it is killed: python -m store_tests.killed PLACE FOLDER

A line each: the sequence number of a payment, once it is kept; number N, once transaction numbers up to N are
reserved.
"""

import sys
from itertools import count
from pathlib import Path

from pos_terminal.sale import SaleState
from store_tests.bench import NOW, PAYEE, SCHEME, TERMINAL, find_store, record


def main(place: str, folder: str) -> None:
    """Never returns."""
    store = find_store(place)(Path(folder), SCHEME, PAYEE, TERMINAL)
    for sequence in count(1):
        if sequence % 8 == 1:
            numbers = store.reserve_transactions(NOW)
            sys.stdout.write(f"number {numbers[-1]}\n")
        store.keep_payment(record(sequence), SaleState.GRANTED, NOW)
        sys.stdout.write(f"{sequence}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
