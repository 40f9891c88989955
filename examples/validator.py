"""A bus validator: a fare from each card at a reader, with no network. It may be killed at any moment.

python examples/validator.py TERMINAL READER FEN RUN      for example: bus sim:alice.card 200 1
"""

import sys
import time
from contextlib import closing
from pathlib import Path

from firmware_bridge.errors import BridgeError
from firmware_bridge.readers import open_reader
from fleet.open import open_session
from hardwallet.card.simulated import SimulatedCard
from pos_terminal.tap import tap
from pos_terminal.terminal import Fare, service_day

folder, uri, amount_fen, run = sys.argv[1:]
with open_session(Path(folder)) as session:
    while True:
        try:
            with closing(open_reader(uri, simulated_card=SimulatedCard)) as reader:
                with closing(reader.wait_for_card(None)) as link:
                    day = service_day(session.terminal.now())
                    fare = Fare(int(amount_fen), session.vehicle, day, int(run))
                    tap(session.terminal, link, fare, decided=lambda it: print(it.outcome.name, flush=True))
                reader.wait_for_removal(None)
        except BridgeError as error:  # a card that slid away, a reader that was unplugged: say it, go on
            print(f"health: {error}", flush=True)
            time.sleep(1)
