"""`python -m benchmarks [--quick]`: measures and models, prints the table, writes bench.json.

Exit status 1 when a figure misses its limit, 2 on bad usage.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.rows import Row, table

Section = Callable[[bool], list[Row]]
"""Takes whether to be quick, prints what it does, gives its rows."""

SECTIONS: Final = {
    "tap_cpu": "host CPU of one transit tap against raw signature and verification",
    "tap_time": "modelled time of a tap, from activation to decision",
    "pcscd": "one APDU through pcscd",
    "clearing": "clearing: payments verified, deduplicated and posted",
    "clearing_workers": "clearing with two verifying processes, in both suites",
    "settlement": "settling a day: closed, and a signed file for each merchant",
    "terminal_store": "a terminal's store with a million rows",
    "denylist": "a denylist of a million cards in a terminal",
    "screens": "the screens on a pseudo-terminal",
}


def sections(names: Sequence[str]) -> dict[str, Section]:
    """The named sections, as far as this checkout has them."""
    found = {name: f"benchmarks.{name}" for name in names}
    return {
        SECTIONS[name]: importlib.import_module(module).run
        for name, module in found.items()
        if find_spec(module) is not None
    }


def run(chosen: Mapping[str, Section], output: Path, *, quick: bool) -> int:
    """Run the sections one after the other; the exit status."""
    print("\n".join(machine.description()))
    rows: list[Row] = []
    for title, section in chosen.items():
        print(f"\n{title}", flush=True)
        start_s = time.monotonic()
        rows += section(quick)
        print(f"  took {time.monotonic() - start_s:.1f} s", flush=True)
    print(f"\n{table(rows)}\n")
    output.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    failed = [row["name"].strip() for row in rows if not row["ok"]]
    if failed:
        print(f"{output} written; {len(failed)} of {len(rows)} figures miss their limit: {'; '.join(failed)}")
        return 1
    print(f"{output} written; every one of {len(rows)} figures keeps its limit")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look; the figures are rougher")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="only this section; may be repeated"
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="default: bench.json")
    asked = parser.parse_args(arguments)
    return run(sections(asked.only or list(SECTIONS)), asked.output, quick=asked.quick)


if __name__ == "__main__":
    sys.exit(main())
