"""Run as a program in a folder on a small file system: the disk fills up while a card pays, and is freed.

Prints what happened: the fault, whether the open sale was in sight, whether the same card finished it, and
what it paid in all.
"""

import contextlib
import random
import sys
from pathlib import Path

from fleet.station import Done, Fault, Removed, Sell
from fleet.world import create_world
from tests.fleet.conftest import NOW
from tests.fleet.stations import PATIENCE_S, Slow, running, until

_PIECE = bytes(64 * 1024)


def fill(path: Path) -> None:
    """Write until there is no room for a single byte."""
    with path.open("wb", buffering=0) as file:
        for piece in (_PIECE, b"x"):
            with contextlib.suppress(OSError):
                while file.write(piece) == len(piece):
                    pass


def main(folder: Path, elsewhere: Path) -> None:
    """The till lies on the small disk, the card does not."""
    world = create_world(elsewhere, lambda: NOW, lambda: 0.0, random.Random(8).randbytes, sealing_cost=2)
    card = world.add_card("card", 5, 20_000)
    folder.joinpath("disk").mkdir()
    elsewhere.joinpath("till").symlink_to(folder / "disk")
    session = world.add_terminal("till", "retail", 1).session
    slow = Slow(card.card)
    with running(session, slow) as till:
        till.station.want(Sell(700))
        till.reader.present()
        if not slow.reached.wait(PATIENCE_S):
            raise RuntimeError("the card was not asked")
        filler = folder / "filler"
        fill(filler)
        slow.go_on.set()
        fault = till.heard.next(Fault)
        until(lambda: till.station.status().open_sale is not None)
        till.reader.remove()
        till.heard.next(Removed)
        in_sight = bool(till.station.status().trouble)
        filler.unlink()
        finished = till.station.want(Sell(700))
        till.reader.present()
        done = till.heard.next(Done).tap
        sys.stdout.write(
            f"{fault.word} {in_sight and finished} {done.recovered} {20_000 - card.balance_fen}\n"
        )
    world.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
