"""Modelled time of a tap, from activation to decision, for each card profile and bit rate.

Nothing here is a guess about lengths or work: real taps of this code are taken, what went over the air and
what the card computed is written down, and `hardwallet.card.timing` turns it into milliseconds. The limits
are those of the design for a J3R180 at 106 kbit/s.
"""

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.rows import Row, modelled
from benchmarks.world import PIN, World
from firmware_bridge.air_time import J3R180, PROFILES, CardProfile, Operation
from firmware_bridge.link import CardLink, LinkProcessor
from hardwallet.card.timing import TapModel
from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT
from pos_terminal.tap import Outcome, Tap, tap
from pos_terminal.terminal import Charge, Terminal

RATES_KBPS: Final = (106, 212, 424, 848)
SMALLER_FSC: Final = 64
NOW_S: Final = 1_790_000_000
PRICE_FEN: Final = 1_250

KNOWN: Final = "transit, card and terminal know each other"
NEW: Final = "transit, card new to the terminal"
RETAIL: Final = "retail without PIN, known"
MEETING: Final = "retail without PIN, first meeting"
AGAIN: Final = "already paid, with RATIFY acknowledged"
WITH_PIN: Final = "retail with PIN, known"
PIN_ADDS: Final = "a PIN adds"

LIMITS_MS: Final = {KNOWN: 100, NEW: 110, RETAIL: 150, MEETING: 210, AGAIN: 110, PIN_ADDS: 50}
"""The design's "at most", milliseconds, J3R180 at 106 kbit/s."""
MOST_EXCHANGES: Final = {KNOWN: 3, NEW: 4}

Exchange = tuple[bytes, bytes]


class Taken(NamedTuple):
    """One tap as the card lived it: until the decision, and all of it."""

    decided: list[Operation | Exchange]
    whole: list[Operation | Exchange]

    @property
    def exchanges(self) -> int:
        """Commands of the whole tap."""
        return sum(not isinstance(event, Operation) for event in self.whole)


def run(quick: bool) -> list[Row]:
    """The rows of the table, then those without a limit. The same each time."""
    print(f"  {len(LIMITS_MS)} kinds of tap of this code, its lengths and operations given to the model")
    print(
        f"  of {len(PROFILES)} card profiles and {len(RATES_KBPS)} bit rates; nothing was measured on a card"
    )
    taken = take()
    rows = [
        _row(name, taken, J3R180, 106, limit_ms, f", {J3R180.name}, 106 kbit/s")
        for name, limit_ms in LIMITS_MS.items()
    ]
    rows += [
        modelled(f"exchanges, {name}", taken[name].exchanges, "APDUs", most)
        for name, most in MOST_EXCHANGES.items()
    ]
    chained = sum(_played(each.whole, J3R180, 106).chained for each in taken.values())
    rows.append(modelled("blocks chained in any of these taps, FSC 256", chained, "blocks", 0))
    if not quick:
        rows += _information(taken)
    return rows


def _information(taken: dict[str, Taken]) -> list[Row]:
    shorter = _played(taken[KNOWN].decided, J3R180, 106, SMALLER_FSC)
    rows = [modelled(f"{KNOWN}, {J3R180.name}, 106 kbit/s, FSC {SMALLER_FSC}", shorter.total_ms(), "ms")]
    for profile in PROFILES.values():
        for rate_kbps in RATES_KBPS:
            if (profile, rate_kbps) != (J3R180, 106):
                label = f", {profile.name}, {rate_kbps} kbit/s"
                rows += [_row(name, taken, profile, rate_kbps, None, label) for name in LIMITS_MS]
    return rows


def _row(
    name: str,
    taken: dict[str, Taken],
    profile: CardProfile,
    rate_kbps: int,
    limit_ms: float | None,
    label: str,
) -> Row:
    return modelled(name + label, modelled_ms(name, taken, profile, rate_kbps), "ms", limit_ms)


def modelled_ms(name: str, taken: dict[str, Taken], profile: CardProfile, rate_kbps: int) -> float:
    """Milliseconds from activation to decision."""
    if name == PIN_ADDS:
        with_pin = modelled_ms(WITH_PIN, taken, profile, rate_kbps)
        return with_pin - modelled_ms(RETAIL, taken, profile, rate_kbps)
    return _played(taken[name].decided, profile, rate_kbps).total_ms()


def _played(
    events: Sequence[Operation | Exchange], profile: CardProfile, rate_kbps: int, fsc: int = 256
) -> TapModel:
    model = TapModel(profile, rate_kbps, fsc)
    model.arrive()
    for event in events:
        if isinstance(event, Operation):
            model.operation(event)
        else:
            model.exchange(*event)
    return model


def take() -> dict[str, Taken]:
    """One real tap of each kind, by name. Entropy and signatures come from a seed."""
    recorder = _Recorder()
    entropy = random.Random(106).randbytes
    with (
        tempfile.TemporaryDirectory(prefix="hardwallet-bench-") as folder,
        World(Path(folder), NOW_S, lambda: 0.0, entropy, deterministic=True, meter=recorder.note) as world,
    ):
        return _taps(world, recorder)


def _taps(world: World, recorder: "_Recorder") -> dict[str, Taken]:
    bus, second_bus = (world.terminal(CLASS_TRANSIT, 1) for _ in range(2))
    shop = world.terminal(CLASS_RETAIL, 2)

    def taken(terminal: Terminal, charge: Charge, pin: str = "") -> Taken:
        return recorder.tap(terminal, world.link(), charge, pin)

    taps = {MEETING: taken(shop, shop.new_sale(PRICE_FEN))}
    taps[RETAIL] = taken(shop, shop.new_sale(PRICE_FEN))
    taken(shop, shop.new_sale(PRICE_FEN), PIN)  # brings the card's agreement key, once
    taps[WITH_PIN] = taken(shop, shop.new_sale(PRICE_FEN), PIN)
    taken(bus, world.fare())  # shows the bus company's certificate to the card, once
    taps[KNOWN] = taken(bus, world.fare())
    taps[NEW] = taken(second_bus, world.fare())
    fare = world.fare()
    world.reader.tear_at(2, "after")
    recorder.tap(bus, world.link(), fare, "", Outcome.UNRESOLVED)
    world.reader.present()
    taps[AGAIN] = taken(second_bus, fare)  # a sibling grants only what the card has ratified for it
    return taps


class _Recorder:
    """Writes down what the card computes and what goes over the air."""

    def __init__(self) -> None:
        self._events: list[Operation | Exchange] = []

    def note(self, event: Operation | Exchange) -> None:
        self._events.append(event)

    def tap(
        self,
        terminal: Terminal,
        link: CardLink,
        charge: Charge,
        pin: str,
        expected: Outcome = Outcome.GRANTED,
    ) -> Taken:
        """One tap, from a card freshly in the field until it has left."""
        self._events = []
        until_decided: list[Operation | Exchange] = []

        def decided(_tap: Tap) -> None:
            until_decided.extend(self._events)

        result = tap(terminal, _RecordedLink(link, self.note), charge, pin, decided=decided)
        if result.outcome is not expected:
            raise RuntimeError(f"a tap of the benchmark ended as {result.outcome.words}: {result.reason}")
        return Taken(until_decided, self._events)


class _RecordedLink(LinkProcessor):
    """A link that tells each exchange that was answered."""

    __slots__ = ("_note",)

    def __init__(self, inner: CardLink, note: Callable[[Exchange], None]) -> None:
        super().__init__(inner)
        self._note = note

    def transmit(self, command: bytes) -> bytes:
        reply = super().transmit(command)
        self._note((command, reply))
        return reply
