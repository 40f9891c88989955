"""Measures what one APDU costs through pcscd and the virtual reader.

`python -m firmware_bridge.virtual.measure_pcscd` prints one JSON object. A card's arrival, which pcscd only
polls for, is reported apart from the exchanges.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firmware_bridge.errors import BridgeError, ServiceNotRunning
from firmware_bridge.virtual.private_pcscd import READER_NAME, inside, run_inside

EXCHANGES = 2_000
ARRIVALS = 3
TIMEOUT_S = 120
_WAIT_S = 10.0


class _FixedReply:
    """A card that costs next to nothing: 60 bytes and 9000 to whatever it is sent."""

    atr = bytes.fromhex("3B80800101")

    def power_on(self) -> None:
        """Nothing to do."""

    def power_off(self) -> None:
        """Nothing to do."""

    def reset(self) -> None:
        """Nothing to do."""

    def execute(self, command: bytes) -> bytes:
        """The same reply each time."""
        return bytes(60) + b"\x90\x00" if command else b"\x67\x00"


def measure(exchanges: int = EXCHANGES) -> dict[str, Any]:
    """Milliseconds an APDU (20 bytes out, 62 back) through a pcscd of its own.

    Keys: apdu_ms_median, apdu_ms_p95, apdu_ms_max, exchanges, arrival_ms (list), removal_ms (list).
    ServiceNotRunning when it can't be done.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        argv = [sys.executable, "-m", "firmware_bridge.virtual.measure_pcscd", str(exchanges), str(result)]
        status = run_inside(argv)
        if status or not result.exists():
            raise ServiceNotRunning(f"The measurement through pcscd ended with status {status}.")
        measured: dict[str, Any] = json.loads(result.read_text(encoding="ascii"))
        return measured


def _measure_here(exchanges: int) -> dict[str, Any]:
    from firmware_bridge.pcsc import PcscReader
    from firmware_bridge.virtual.vpcd import VpcdCard

    arrivals, removals, times = [], [], []
    with PcscReader(READER_NAME) as reader, VpcdCard(_FixedReply()) as card:
        command = bytes.fromhex("80100000") + b"\x0e" + bytes(14) + b"\x00"
        for round_number in range(ARRIVALS):
            start_s = time.perf_counter()
            card.insert()
            link = reader.wait_for_card(_WAIT_S)
            arrivals.append(_ms_since(start_s))
            if round_number == 0:
                times = [_timed(link.transmit, command) for _ in range(exchanges)]
            link.close()
            start_s = time.perf_counter()
            card.remove()
            reader.wait_for_removal(_WAIT_S)
            removals.append(_ms_since(start_s))
    times.sort()
    return {
        "apdu_ms_median": round(statistics.median(times), 4),
        "apdu_ms_p95": round(times[int(len(times) * 0.95)], 4),
        "apdu_ms_max": round(times[-1], 4),
        "exchanges": exchanges,
        "arrival_ms": [round(taken, 1) for taken in arrivals],
        "removal_ms": [round(taken, 1) for taken in removals],
    }


def _timed(transmit: Any, command: bytes) -> float:
    start_s = time.perf_counter()
    transmit(command)
    return _ms_since(start_s)


def _ms_since(start_s: float) -> float:
    return (time.perf_counter() - start_s) * 1000


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit status."""
    exchanges = int(arguments[0]) if arguments else EXCHANGES
    try:
        if inside() and len(arguments) == 2:
            Path(arguments[1]).write_text(json.dumps(_measure_here(exchanges)), encoding="ascii")
        else:
            sys.stdout.write(json.dumps(measure(exchanges)) + "\n")
    except (BridgeError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
