"""One APDU through pcscd and the virtual reader, in a pcscd of its own: what the smart card service costs."""

import os
import statistics
from typing import Final

from benchmarks.rows import Row, measured, not_measured
from firmware_bridge.errors import BridgeError
from firmware_bridge.virtual import measure_pcscd, private_pcscd

LIMIT_MS: Final = 0.3
NAME: Final = "one APDU through pcscd and the virtual reader, median"


def run(quick: bool) -> list[Row]:
    """The rows of pcscd; none where it can't run, unless CI=true, where it has to."""
    usable, reason = private_pcscd.available()
    if not usable:
        return _without(reason)
    exchanges = 300 if quick else measure_pcscd.EXCHANGES
    print(f"  {exchanges} exchanges of 20 and 62 bytes, then a card that comes and goes", flush=True)
    try:
        found = measure_pcscd.measure(exchanges)
    except BridgeError as error:
        print(f"  failed: {error}")
        return [not_measured(NAME, "ms", LIMIT_MS)]
    return [
        measured(NAME, found["apdu_ms_median"], "ms", LIMIT_MS),
        measured("  nineteen of twenty within", found["apdu_ms_p95"], "ms"),
        measured("  a card's arrival, median", statistics.median(found["arrival_ms"]), "ms"),
        measured("  its removal, median", statistics.median(found["removal_ms"]), "ms"),
    ]


def _without(reason: str) -> list[Row]:
    print(f"  skipped: {reason}")
    if os.environ.get("CI") != "true":
        return []
    print("  CI=true: this measurement may not be skipped")
    return [not_measured(NAME, "ms", LIMIT_MS)]
