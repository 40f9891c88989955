"""How a story is told: steps with their checks and their taps, and what every part of it is told with.

A step is `ok` only when its checks hold; nothing is said that was not looked at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Final

from fleet.conservation import Conservation
from fleet.stage import Stage
from fleet.world import World, WorldCard, WorldTerminal
from hardwallet.records import Record
from pos_terminal.receipts import receipt
from pos_terminal.sale import SaleState
from pos_terminal.tap import Tap
from pos_terminal.terminal import Charge, Fare

RIDE_FEN: Final = 200
BEIJING: Final = timezone(timedelta(hours=8))


def today(now_s: int) -> int:
    """The service day of a time, YYYYMMDD, in Beijing time."""
    return int(datetime.fromtimestamp(now_s, BEIJING).strftime("%Y%m%d"))


@dataclass(slots=True)
class TapLine:
    """One tap of a step, for the table below it."""

    what: str
    outcome: str
    phases_ms: dict[str, float]
    modelled_ms: dict[str, float]


@dataclass(slots=True)
class Step:
    """One step: its paragraph, its checks (claim, held), its taps."""

    id: str
    title: str
    text: list[str] = field(default_factory=list)
    checks: list[tuple[str, bool]] = field(default_factory=list)
    taps: list[TapLine] = field(default_factory=list)
    receipts: dict[int, tuple[Record, SaleState]] = field(default_factory=dict)
    """The receipts that are shown, by their place in `text`: paper knows more languages than the story."""

    @property
    def ok(self) -> bool:
        """Whether every check held, and there was one."""
        return bool(self.checks) and all(held for _, held in self.checks)

    def say(self, text: str) -> None:
        """A sentence of the paragraph."""
        self.text.append(text)

    def show(self, record: Record, state: SaleState) -> None:
        """A receipt, as a part of the paragraph."""
        self.receipts[len(self.text)] = record, state
        self.say("Its receipt:\n\n" + receipt(record, state, zone=BEIJING))

    def check(self, claim: str, held: bool) -> None:
        """A claim, and whether it holds."""
        self.checks.append((claim, held))

    @property
    def phases_ms(self) -> dict[str, float]:
        """Measured host milliseconds by phase, over the step's taps."""
        return _summed(line.phases_ms for line in self.taps)

    @property
    def modelled_ms(self) -> dict[str, float]:
        """Modelled air and card milliseconds by phase, over the step's taps."""
        return _summed(line.modelled_ms for line in self.taps)


def _summed(rows: Iterator[dict[str, float]] | list[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for row in rows:
        for name, value in row.items():
            total[name] = round(total.get(name, 0.0) + value, 3)
    return total


@dataclass(slots=True)
class Story:
    """What was told: the reader it went through, the steps, and whether all money is accounted for."""

    reader_uri: str
    stack: str
    suite: int
    steps: list[Step]
    conservation: Conservation

    @property
    def ok(self) -> bool:
        """Every step held, and no fen is missing."""
        return all(step.ok for step in self.steps) and self.conservation.ok


class Teller:
    """The world, the stage, and what was told so far."""

    def __init__(self, world: World, stage: Stage, told: Callable[[Step], None]) -> None:
        """`told` gets each step as it ends."""
        self.world = world
        self.stage = stage
        self.steps: list[Step] = []
        self.rides = 0
        self._told = told

    @contextmanager
    def step(self, number: str, title: str) -> Iterator[Step]:
        """A step, kept and told when its block ends."""
        step = Step(number, title)
        yield step
        self.steps.append(step)
        self._told(step)

    @property
    def shop(self) -> WorldTerminal:
        """The shop's first till."""
        return self.world.terminals["shop"]

    @property
    def bus(self) -> WorldTerminal:
        """The bus."""
        return self.world.terminals["bus"]

    @property
    def card(self) -> WorldCard:
        """The card that the story is about."""
        return self.world.cards["card"]

    def fare(self) -> Fare:
        """Another ride each time."""
        self.rides += 1
        return Fare(RIDE_FEN, self.bus.session.vehicle, today(self.world.clock()), self.rides)

    def tap(
        self, step: Step, what: str, card: WorldCard, at: WorldTerminal, charge: Charge, pin: str = ""
    ) -> Tap:
        """The card is laid down and tapped; a line of the step says how it went."""
        self.stage.lay(card.card)
        return self.tap_again(step, what, card, at, charge, pin)

    def tap_again(
        self, step: Step, what: str, card: WorldCard, at: WorldTerminal, charge: Charge, pin: str = ""
    ) -> Tap:
        """The card that lies there is tapped."""
        result = self.world.tap(self.stage, card, at, charge, pin)
        note(step, what, result)
        return result


def note(step: Step, what: str, result: Tap) -> None:
    """A tap's line in its step."""
    step.taps.append(
        TapLine(
            what,
            result.outcome.words,
            {name: round(phase.host_ms, 3) for name, phase in result.phases.items()},
            {name: round(phase.modelled_ms, 2) for name, phase in result.phases.items()},
        )
    )
