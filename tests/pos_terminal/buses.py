"""A bus for tests: its terminal, its run, and cards of every rider class."""

from collections.abc import Iterator
from contextlib import contextmanager

from firmware_bridge.errors import CardGone
from firmware_bridge.link import LinkProcessor
from fleet.rides import granted_payments
from hardwallet.certificates import CLASS_TRANSIT
from hardwallet.messages import INS_PAY
from hardwallet.riders import Rider
from hardwallet.session import TerminalIdentity
from pos_terminal.fare_file import parse_fares
from pos_terminal.run import Run, Runs
from pos_terminal.tap import Tap
from pos_terminal.terminal import Terminal
from tests.pos_terminal.bench import VEHICLE, Counter, Holder, Mill, Wrap, hold, journal_of

NETWORK = parse_fares(
    b"""
version = 1
currency = "CNY"

[[line]]
id = "7"
en = "Line 7"
fare = { adult = "2.00", student = "1.00", senior = "0" }
direction = [
    { id = "out", en = "out", stops = [{ id = "a", en = "A" }, { id = "b", en = "B" }] },
    { id = "back", en = "back", reverse_of = "out" },
]

[[line]]
id = "9"
en = "Line 9"
fare = { adult = "2.00" }
direction = [{ id = "out", en = "out", stops = [{ id = "a", en = "A" }, { id = "z", en = "Z" }] }]

[[line]]
id = "101"
en = "Line 101"
step = [
    { up_to_m = 1000, fare = { adult = "2.00", student = "1.00", senior = "0" } },
    { up_to_m = 2000, fare = { adult = "3.00", student = "1.50", senior = "0" } },
    { up_to_m = 3000, fare = { adult = "5.00", student = "2.50", senior = "1.00" } },
]

[[line.direction]]
id = "out"
en = "out"
stops = [
    { id = "a", en = "A", m = 0 },
    { id = "b", en = "B", m = 1000 },
    { id = "c", en = "C", m = 2000 },
    { id = "d", en = "D", m = 3000 },
]
""",
    "test.toml",
)


def rider(mill: Mill, klass: Rider, balance_fen: int = 20_000) -> Holder:
    """Somebody of that class, with a card of their own."""
    return Holder(mill.quick_blank(balance_fen, klass)[0])


class _Leaving(LinkProcessor):
    __slots__ = ()

    def transmit(self, command: bytes) -> bytes:
        reply = super().transmit(command)
        if command[1] == INS_PAY and reply[-2:] == b"\x90\x00":
            raise CardGone("the card has left")
        return reply


class Bus:
    """One validator of a vehicle. `restart` is what a power cut leaves: what is on the disk."""

    def __init__(
        self, counter: Counter, identity: TerminalIdentity | None = None, *, has_siblings: bool = False
    ) -> None:
        self.counter = counter
        self.has_siblings = has_siblings
        self.terminal: Terminal = counter.at(identity or counter.mill.identity(CLASS_TRANSIT, 2))
        self.folder = counter.folder / self.terminal.identity.certificate.terminal.hex()
        self.folder.mkdir()
        self.runs = self._runs()

    def _runs(self) -> Runs:
        return Runs(
            self.folder,
            self.terminal,
            NETWORK,
            VEHICLE,
            lambda behind: granted_payments(journal_of(self.terminal), behind),
            lambda: journal_of(self.terminal).head()[0],
            has_siblings=self.has_siblings,
        )

    @property
    def run(self) -> Run:
        """The run under way."""
        assert self.runs.run is not None
        return self.runs.run

    def tap(self, holder: Holder, *, torn: int = 0, wrap: Wrap = lambda link: link) -> Tap:
        """The card pays what the run asks for now; `torn`: it leaves after that exchange."""
        tear = (torn, "after") if torn else None
        return hold(self.terminal, holder, self.run.charge(), tear=tear, wrap=wrap)  # type: ignore[arg-type]

    def torn(self, holder: Holder) -> Tap:
        """The card has paid and leaves before the terminal knows."""
        return self.tap(holder, wrap=_Leaving)

    def restart(self) -> None:
        """The program ended and starts again."""
        self.runs.close()
        self.terminal = self.counter.restart(self.terminal)
        self.runs = self._runs()


@contextmanager
def bus_on(counter: Counter, line: str = "7", *, has_siblings: bool = False) -> Iterator[Bus]:
    """A bus whose run along a line has begun."""
    bus = Bus(counter, has_siblings=has_siblings)
    bus.runs.begin(line, "out")
    try:
        yield bus
    finally:
        bus.runs.close()
