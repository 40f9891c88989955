"""A till in a process of its own that stops, waiting to be killed, right after its payment is durable and
before RATIFY.

`python -m fleet.interrupted_till TERMINAL-FOLDER READER-URI AMOUNT-FEN` prints `durable` and waits for the
end of its input.
"""

import sys
from pathlib import Path

from firmware_bridge.readers import open_reader
from fleet.open import open_terminal_session
from fleet.world import ARRIVAL_S
from hardwallet.card.simulated import SimulatedCard
from pos_terminal.tap import Tap, tap


def _wait_for_the_end(result: Tap) -> None:
    sys.stdout.write("durable\n" if result.granted else f"not granted: {result.reason}\n")
    sys.stdout.flush()
    sys.stdin.read()


def main(folder: Path, uri: str, amount_fen: int) -> None:
    """One retail tap that never gets as far as RATIFY."""
    with open_terminal_session(folder) as terminal:
        reader = open_reader(uri, simulated_card=SimulatedCard)
        link = reader.wait_for_card(ARRIVAL_S)
        tap(terminal, link, terminal.new_sale(amount_fen), decided=_wait_for_the_end)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
