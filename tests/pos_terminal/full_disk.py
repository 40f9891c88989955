"""Run as a program in a folder on a tiny file system: shifts and slips until it is full, then room again.

Prints four numbers: movements confirmed, movements found afterwards, slips confirmed, slips found.
"""

import sys
from pathlib import Path

from pos_terminal.errors import PrinterAway, ShiftFailed
from pos_terminal.printing import open_printer
from pos_terminal.shift import Totals
from pos_terminal.shift_store import ShiftBook

NOW = 1_790_000_000
SLIP = b"\x1b@" + bytes(2_000) + b"cut"


def main(folder: Path) -> None:
    """Fill the disk, then look; then free some and close the shift that could not be closed."""
    filler, roll = folder / "filler", folder / "roll.bin"
    printer, slips = open_printer(f"file:{roll}"), 0
    book = ShiftBook(folder)
    book.open(0, "Li", NOW, 0)
    try:
        while True:
            printer.print(SLIP)
            slips += 1
    except PrinterAway:
        pass
    confirmed = 0
    try:
        while True:
            book.cash_in(1, "x" * 100, "Li", NOW)
            confirmed += 1
    except ShiftFailed:
        pass
    try:
        book.close(confirmed, "y" * 100, "", "Li", NOW, totals=Totals())
        raise AssertionError("closed on a full disk")
    except ShiftFailed:
        pass
    book.close_book()
    found_slips = roll.read_bytes().count(b"cut")
    whole = roll.stat().st_size == found_slips * len(SLIP)
    filler.unlink()
    with ShiftBook(folder) as again:
        if again.torn or again.current is None or not whole:
            raise AssertionError("something half written was found")
        found = len(again.current.movements)
        again.close(found, "", "", "Li", NOW, totals=Totals())
    sys.stdout.write(f"{confirmed} {found} {slips} {found_slips}\n")


if __name__ == "__main__":
    (Path(sys.argv[1]) / "filler").write_bytes(bytes(300_000))
    main(Path(sys.argv[1]))
