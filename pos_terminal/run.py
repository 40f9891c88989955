"""A bus at work: one run along a line, what the next card pays there, and who has ridden.

    begin ─ charge ─ charge ─ next stop ─ charge ─ … ─ end ─ report

A ride is named by vehicle, service day, run, line, direction and card: a card pays for it once, whichever
validator of the vehicle it taps, however often, and whatever the fare has become since. A new run, another
line or the other direction is a new ride. What is counted survives a power cut: paid rides are counted from
the terminal's journal, free ones are on the disk before they are granted.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hardwallet.certificates import parse
from hardwallet.records import Record
from hardwallet.riders import Rider
from pos_terminal.errors import NoRun, NoSuchFare, RunUnderWay, StoreFailed
from pos_terminal.fares import Direction, Fares, Flat, Line, Names, Network, Stop, fare_of
from pos_terminal.run_store import At, Begun, Ended, Ride, RunStore
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Fare, Terminal, ride_reference, service_day

MAX_PASSENGERS: Final = 99
"""For whom one card can pay in one run, besides its own rider."""
MAX_NUMBER: Final = 2**32 - 1
LONGEST_RUN_S: Final = 12 * 3600
"""A run that began before that was not ended by mistake: whoever rode in it would ride free in it today."""

_TORN: Final = {Outcome.UNRESOLVED, Outcome.TRY_AGAIN}

PaidRides = Callable[[int], Iterable[Record]]
"""The payments that this terminal granted behind an entry of its journal, oldest first."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Who has ridden so far. `riders` has every class; further passengers count as adults. `free`: how many
    of them paid nothing. `again`: cards that had paid already; `torn`: taps that broke off."""

    riders: Mapping[Rider, int]
    free: int
    amount_fen: int
    refused: int
    again: int
    torn: int

    @property
    def total(self) -> int:
        """All riders."""
        return sum(self.riders.values())


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run that has ended. `vehicle` is 4 bytes, `day` the service day (YYYYMMDD), times are seconds since
    1970."""

    line: str
    direction: str
    vehicle: bytes
    day: int
    number: int
    began_s: int
    ended_s: int
    counts: Counts


@dataclass(slots=True)
class _Counted:
    """Counting, one ride once."""

    rides: dict[bytes, tuple[Rider, int]]
    refused: int = 0
    again: int = 0
    torn: int = 0

    def told(self) -> Counts:
        riders = dict.fromkeys(Rider, 0)
        for rider, _ in self.rides.values():
            riders[rider] += 1
        amounts = [amount_fen for _, amount_fen in self.rides.values()]
        return Counts(riders, amounts.count(0), sum(amounts), self.refused, self.again, self.torn)


class Run:
    """The run under way, made by `Runs`. What it counts is its taps' doing: whoever taps with `charge` needs
    to tell it nothing. Safe in several threads."""

    def __init__(
        self,
        begun: Begun,
        line: Line,
        terminal: Terminal,
        store: RunStore,
        *,
        has_siblings: bool,
        resumed: bool,
    ) -> None:
        self.line = line
        self.direction: Direction = line.direction(begun.direction)
        self.day = begun.day
        self.number = begun.number
        self.vehicle = bytes.fromhex(begun.vehicle)
        self._begun = begun
        self._terminal = terminal
        self._store = store
        self._has_siblings = has_siblings
        # After a restart the fares may be others than those that were asked before.
        self._varies = resumed or not line.is_flat
        self._mutex = threading.Lock()
        self._counted = _Counted({})
        self._place = 0
        self._destination: int | None = None
        self._more = 0
        self._more_card = b""
        self._paid_elsewhere: dict[bytes, int] = {}
        self._free: set[bytes] = set()

    # ------------------------------------------------------------------ where the bus is

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The stops of this direction, in order."""
        return self.direction.stops

    @property
    def place(self) -> int:
        """The number of the current stop, from 0."""
        return self._place

    @property
    def stop(self) -> Stop:
        """The current stop."""
        return self.stops[self._place]

    @property
    def next_stop(self) -> Stop | None:
        """The stop after it; None at the end of the line."""
        return self.stops[self._place + 1] if self._place + 1 < len(self.stops) else None

    def go_on(self) -> bool:
        """The bus leaves for the next stop; False at the end of the line. Raises StoreFailed."""
        return self._go(self._place + 1)

    def go_back(self) -> bool:
        """The stop before, after one press too many; False at the first one. Raises StoreFailed."""
        return self._go(self._place - 1)

    def go_to(self, place: int) -> bool:
        """The bus stands at the stop of that number (from 0); False when there is none. Raises
        StoreFailed."""
        return self._go(place)

    def _go(self, place: int) -> bool:
        with self._mutex:
            if not 0 <= place < len(self.stops):
                return False
            self._keep_place(place)
            self._place = place
            self._destination = None
            return True

    def _keep_place(self, place: int) -> None:
        counted = self._counted
        self._store.append(At("at", place, counted.refused, counted.again, counted.torn))

    # ------------------------------------------------------------------ what the next card pays

    @property
    def destinations(self) -> tuple[Stop, ...]:
        """The stops ahead, nearest first; at the end of the line the last one."""
        return self.stops[self._origin() + 1 :]

    @property
    def destination(self) -> Stop | None:
        """Where the next rider goes; None: nobody said, and the highest fare is taken."""
        return None if self._destination is None else self.stops[self._destination]

    def set_destination(self, ahead: int | None) -> None:
        """The next rider goes to that one of `destinations` (from 0); None: nobody said. It holds for one
        rider. Raises NoSuchFare."""
        with self._mutex:
            if ahead is not None and not 0 <= ahead < len(self.stops) - 1 - self._origin():
                raise NoSuchFare("the bus does not come to that stop any more")
            self._destination = None if ahead is None else self._origin() + 1 + ahead

    def fares(self) -> dict[Rider, int]:
        """What a card of each class would pay now, in fen. Raises NoSuchFare."""
        with self._mutex:
            return self._fares_now()

    def _origin(self) -> int:
        """Who gets on at the last stop rides as from the one before it."""
        return min(self._place, len(self.stops) - 2)

    def _fares_now(self) -> dict[Rider, int]:
        found: Fares
        if self._destination is None:
            found = self.line.highest(self.direction, self._origin())
        else:
            found = self.line.fares(self.direction, self._origin(), self._destination)
        return {rider: fare_of(found, rider) for rider in Rider}

    def for_one_more(self) -> int:
        """Pay for two: the next card pays for one more rider, as an adult; again, for one more. How many
        riders are waiting to be paid for."""
        with self._mutex:
            self._more = min(self._more + 1, MAX_PASSENGERS)
            return self._more

    def for_no_more(self) -> None:
        """The next card pays for its own rider."""
        with self._mutex:
            self._more, self._more_card = 0, b""

    @property
    def more(self) -> int:
        """How many further riders wait to be paid for."""
        return self._more

    @property
    def more_card(self) -> bytes:
        """The card (8 bytes) that pays for them, once it has begun to; else empty."""
        return self._more_card

    def charge(self) -> Fare:
        """What the next card pays, for one tap; asked anew for each card. Raises NoSuchFare; NoRun when the
        run was not ended for half a day."""
        if self.is_over:
            raise NoRun("this run began more than 12 hours ago; end it and begin the next one")
        with self._mutex:
            return self._charge(self._more > 0)

    @property
    def is_over(self) -> bool:
        """Whether it began so long ago that nobody can be riding in it any more."""
        return self._terminal.clock() - self._begun.time_s > LONGEST_RUN_S

    def _charge(self, for_more: bool) -> Fare:
        fares = self._fares_now()
        return Fare(
            fares[Rider.ADULT],
            self.vehicle,
            self.day,
            self.number,
            f"{self.line.id}\0{self.direction.id}",
            fares,
            self._varies,
            self._has_siblings,
            _Boarding(self, for_more),
        )

    # ------------------------------------------------------------------ what has been paid

    @property
    def counts(self) -> Counts:
        """Who has ridden so far."""
        with self._mutex:
            return self._counted.told()

    def reference(self, card: bytes, passenger: int = 0) -> bytes:
        """The reference (12 bytes) of a card's (8 bytes) ride in this run."""
        return ride_reference(self._terminal.suite.hash, self._named, card, passenger)

    @property
    def _named(self) -> Fare:
        route = f"{self.line.id}\0{self.direction.id}"
        return Fare(0, self.vehicle, self.day, self.number, route)

    def passengers_of(self, card: bytes) -> tuple[bool, int]:
        """Whether a card (8 bytes) has paid for its own rider here, or rides free, and for how many more.
        Raises JournalError."""
        with self._mutex:
            own = self.reference(card) in self._counted.rides
            more = sum(
                self.reference(card, one) in self._counted.rides for one in range(1, MAX_PASSENGERS + 1)
            )
            return own, more

    def references(self, card: bytes) -> dict[bytes, int]:
        """The references (12 bytes) of all that a card (8 bytes) may pay for in this run, with the number of
        the passenger: 0 its own rider."""
        return {self.reference(card, one): one for one in range(MAX_PASSENGERS + 1)}

    def free_rides(self, card: bytes) -> set[int]:
        """The passengers of a card (8 bytes) that ride free in this run."""
        with self._mutex:
            free = frozenset(self._free)
        return {one for reference, one in self.references(card).items() if reference in free}

    def _next_passenger(self, card: bytes) -> int:
        """The first one whom the card has not paid for yet."""
        first = self._paid_elsewhere.get(card, 0) + 1
        for passenger in range(first, MAX_PASSENGERS + 1):
            reference = self.reference(card, passenger)
            if reference not in self._free and self._terminal.journal.sale(reference) is None:
                return passenger
        return 0

    def resume(self, lines: Iterable[At | Ride], paid: Iterable[Record]) -> None:
        """Count again what was counted before the program ended."""
        for record in paid:
            passenger = self._passenger_in(record)
            if passenger is not None:
                rider = Rider.ADULT if passenger else self._rider_of(record)
                self._counted.rides[record.reference] = (rider, record.amount_fen)
        for line in lines:
            if isinstance(line, At):
                self._place = min(max(line.stop, 0), len(self.stops) - 1)
                self._counted.refused, self._counted.again = line.refused, line.again
                self._counted.torn = line.torn
            else:
                reference = bytes.fromhex(line.reference)
                rider = Rider.ADULT if line.passenger else Rider(line.rider)
                self._counted.rides[reference] = (rider, line.amount_fen)
                if not line.amount_fen:
                    self._free.add(reference)

    def _passenger_in(self, record: Record) -> int | None:
        """Which passenger of this run a record pays for; None: it is of another run."""
        for passenger in range(MAX_PASSENGERS + 1):
            if self.reference(record.card, passenger) == record.reference:
                return passenger
        return None

    def _rider_of(self, record: Record) -> Rider:
        """By the card's certificate, which the journal keeps as long as the record waits. Later it may be
        gone: then the rider counts as an adult."""
        kept = self._terminal.journal.certificate(record.certificate_digest)
        return parse(kept.raw).rider if kept is not None else Rider.ADULT

    def end_line(self, now_s: int) -> Ended:
        """What is kept of the run when it ends at a time, seconds since 1970."""
        counts = self.counts
        riders = {int(rider): count for rider, count in counts.riders.items()}
        return Ended(
            *("ended", now_s, riders, counts.free),
            *(counts.amount_fen, counts.refused, counts.again, counts.torn),
        )

    # ------------------------------------------------------------------ from a tap, in its thread

    def rides_free(self, reference: bytes) -> bool:
        """Whether the ride of that reference (12 bytes) was granted for nothing."""
        with self._mutex:
            return reference in self._free

    def claims(self, record: Record) -> bool:
        """Whether a payment is for a ride of this run."""
        return self._passenger_in(record) is not None

    def found(self, record: Record, rider: Rider) -> None:
        """Count a torn ride that was found on its card, and granted."""
        rider = Rider.ADULT if self._passenger_in(record) else rider
        with self._mutex:
            self._counted.rides[record.reference] = (rider, record.amount_fen)

    def passenger(self, card: bytes, for_more: bool) -> int:
        """Whom this tap of a card (8 bytes) pays for."""
        with self._mutex:
            if not for_more or self._more_card not in (b"", card):
                return 0
            return self._next_passenger(card)

    def keep_free(self, ride: Ride) -> bool:
        """Keep a free ride; False when it was kept before. Raises StoreFailed."""
        reference = bytes.fromhex(ride.reference)
        with self._mutex:
            if reference in self._free:
                return False
            self._store.append(ride)
            self._free.add(reference)
            return True

    def decided(self, tap: Tap, for_more: bool) -> None:
        """Count the result of a tap, and say who pays for further riders from now on."""
        with self._mutex:
            self._count(tap)
            if for_more:
                self._settle_more(tap)
            if tap.granted and not self._more:
                self._destination = None

    def _count(self, tap: Tap) -> None:
        counted = self._counted
        if tap.granted and tap.sale is not None:
            rider = Rider.ADULT if tap.passenger or tap.rider is None else tap.rider
            counted.rides[tap.sale.reference] = (rider, tap.sale.amount_fen)
            self._keep_others(tap)
        elif tap.outcome is Outcome.ALREADY_GRANTED:
            counted.again += 1
        elif tap.outcome in _TORN:
            counted.torn += 1
        else:
            counted.refused += 1

    def _keep_others(self, tap: Tap) -> None:
        """A ride that a sibling had taken and this terminal granted: its own journal does not count it."""
        own = self._terminal.identity.certificate.terminal
        if tap.record is None or tap.sale is None or tap.record.terminal == own:
            return
        rider = tap.rider if tap.rider is not None else Rider.ADULT
        ride = Ride(
            *("ride", tap.sale.reference.hex(), tap.sale.card.hex(), int(rider)),
            *(tap.passenger, tap.sale.amount_fen, tap.sale.time_s),
        )
        with contextlib.suppress(StoreFailed):  # granted it is: only a restart would forget to count it
            self._store.append(ride)

    def _settle_more(self, tap: Tap) -> None:
        card = tap.sale.card if tap.sale is not None else b""
        if tap.outcome in _TORN:
            if tap.passenger:
                self._more_card = card
        elif tap.passenger and tap.granted:
            self._more = max(self._more - 1, 0)
            self._more_card = card if self._more else b""
        elif tap.passenger and tap.outcome is Outcome.ALREADY_GRANTED:
            self._paid_elsewhere[card] = tap.passenger
            self._more_card = card
        elif tap.passenger or not self._more_card:
            self._more, self._more_card = 0, b""  # a stranger must not pay for what was refused


@dataclass(slots=True)
class _Boarding:
    """The run as one tap knows it (ports.RideBook): whether a further rider was asked for when it began."""

    run: Run
    for_more: bool
    asked_for: int = 0

    def passenger(self, card: bytes) -> int:
        self.asked_for = self.run.passenger(card, self.for_more)
        return self.asked_for

    def rides_free(self, reference: bytes) -> bool:
        return self.run.rides_free(reference)

    def claims(self, record: Record) -> bool:
        return self.run.claims(record)

    def found(self, record: Record, rider: Rider) -> None:
        self.run.found(record, rider)

    def keep_free(self, reference: bytes, card: bytes, rider: Rider, now_s: int) -> bool:
        ride = Ride("ride", reference.hex(), card.hex(), int(rider), self.asked_for, 0, now_s)
        return self.run.keep_free(ride)

    def decided(self, tap: Tap) -> None:
        self.run.decided(tap, self.for_more)


class Runs:
    """The runs of one terminal. Close it when done.

    `vehicle` is 4 bytes. `paid` and `head` read the terminal's journal. A run that was under way when the
    program ended is under way again; when its line is gone from the network, or half a day has passed, it is
    ended. Raises StoreFailed, JournalError.
    """

    def __init__(
        self,
        folder: Path,
        terminal: Terminal,
        network: Network,
        vehicle: bytes,
        paid: PaidRides,
        head: Callable[[], int],
        *,
        has_siblings: bool = False,
    ) -> None:
        self.network = network
        self.vehicle = vehicle
        self._terminal = terminal
        self._paid = paid
        self._head = head
        self._has_siblings = has_siblings
        self._store = RunStore(folder)
        self._run: Run | None = None
        try:
            self._resume()
        except BaseException:
            self._store.close()
            raise

    def close(self) -> None:
        """Let the file go; the run stays under way. Closing twice does nothing."""
        self._store.close()

    @property
    def run(self) -> Run | None:
        """The run under way."""
        return self._run

    @property
    def last(self) -> RunReport | None:
        """The report of the run before, until the next one begins."""
        lines = self._store.lines
        if not lines or not isinstance(lines[0], Begun) or not isinstance(lines[-1], Ended):
            return None
        return _report(lines[0], lines[-1])

    def next_number(self) -> int:
        """The number that the next run of this service day has by itself, from 1. Raises ClockWrong."""
        lines = self._store.lines
        if not lines or not isinstance(lines[0], Begun) or lines[0].day != service_day(self._terminal.now()):
            return 1
        return min(lines[0].number + 1, MAX_NUMBER)

    def begin(self, line: str, direction: str, number: int | None = None) -> Run:
        """A run of that line and direction (ids), with the timetable's number or the next one.

        A run that ended may be begun again by its number: who has paid in it stays paid. Raises RunUnderWay,
        NoSuchFare, ClockWrong (a clock that can't be right begins no run), StoreFailed, JournalError.
        """
        if self._run is not None:
            raise RunUnderWay("a run is under way; end it before the next one begins")
        ridden = self.network.line(line)
        way = ridden.direction(direction)
        now = self._terminal.now()
        number = self.next_number() if number is None else number
        if not 0 <= number <= MAX_NUMBER:
            raise NoSuchFare(f"a run's number lies between 0 and {MAX_NUMBER}")
        begun = Begun(
            *("begun", service_day(now), number, ridden.id, way.id),
            *(self.vehicle.hex(), self._head(), now),
        )
        self._store.begin(begun)
        self._run = self._made(begun, ridden, resumed=False)
        return self._run

    def go_on(self, line: str, direction: str, number: int) -> Run:
        """The run of that line, direction and number: the one under way when it is that one and not over;
        else that one is ended and this one begun. Raises as begin."""
        run = self._run
        if run is not None:
            if not run.is_over and (run.line.id, run.direction.id, run.number) == (line, direction, number):
                return run
            self.end()
        return self.begin(line, direction, number)

    def end(self) -> RunReport:
        """End the run under way. Raises NoRun, StoreFailed."""
        if self._run is None:
            raise NoRun("no run is under way; choose line and direction to begin one")
        ended = self._run.end_line(self._terminal.clock())
        self._store.append(ended)
        report = _report(self._run._begun, ended)  # noqa: SLF001 - its maker
        self._run = None
        return report

    def _made(self, begun: Begun, line: Line, *, resumed: bool) -> Run:
        return Run(begun, line, self._terminal, self._store, has_siblings=self._has_siblings, resumed=resumed)

    def _resume(self) -> None:
        lines = self._store.lines
        if not lines or not isinstance(lines[0], Begun) or isinstance(lines[-1], Ended):
            return
        begun = lines[0]
        try:
            line = self.network.line(begun.line)
            line.direction(begun.direction)
        except NoSuchFare:
            line = _only_named(begun)
        run = self._made(begun, line, resumed=True)
        run.resume([one for one in lines[1:] if isinstance(one, At | Ride)], self._paid(begun.entry))
        self._run = run
        if line not in self.network.lines or run.is_over:
            self.end()


def _only_named(begun: Begun) -> Line:
    """A line that is no longer in the network, to count the rides of its run."""
    name = Names(begun.line, begun.line)
    stops = (Stop("", name), Stop("", name))
    return Line(begun.line, name, (Direction(begun.direction, name, stops),), Flat({Rider.ADULT: 0}))


def _report(begun: Begun, ended: Ended) -> RunReport:
    riders = dict.fromkeys(Rider, 0) | {Rider(number): count for number, count in ended.riders.items()}
    counts = Counts(riders, ended.free, ended.amount_fen, ended.refused, ended.again, ended.torn)
    return RunReport(
        *(begun.line, begun.direction, bytes.fromhex(begun.vehicle), begun.day, begun.number),
        *(begun.time_s, ended.time_s, counts),
    )
