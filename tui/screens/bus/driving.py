"""The bus behind its screen: what a driver's key means, what an event changes, what is shown. No Textual.

    fares read ──► between runs ──begin──► card after card ──end──► report
                        ▲                     │    ▲
                        └─────────────────────┤    └── N, B, destination, pay for two
                                              └──I──► inspection ──Esc──►

The screen of tui/screens and the line mode of tui/plain both show this one. It holds no rule about fares or
runs: those are pos_terminal's. Whatever may wait for a disk is an *errand*: it is handed to `later`, which
runs one after the other in a thread of its own (or at once, in the line mode), and `changed` is called behind
each. All else is for one thread, which brings the station's events.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Protocol

from firmware_bridge.link import CardLink
from fleet.open import TerminalSession
from fleet.rides import open_runs
from fleet.station_events import (
    Board,
    CardSeen,
    Decided,
    Event,
    Fault,
    Inspect,
    Inspected,
    ReaderChanged,
    Removed,
    SendFailed,
    Sending,
    Sent,
    Status,
    StatusChanged,
    Task,
    TooMany,
    Waiting,
)
from pos_terminal.errors import FaresRefused, NoRun, TerminalError
from pos_terminal.fares import Direction, Line, Network
from pos_terminal.inspection import Inspection, inspect
from pos_terminal.limits import Freshness
from pos_terminal.run import Run, RunReport, Runs
from pos_terminal.tap import Tap
from pos_terminal.terminal import Charge, Terminal
from tui import errors
from tui.screens.bus import faces
from tui.screens.bus.setup import Setup
from tui.screens.bus.sight import Sight, destination_words, sight_of
from tui.screens.layout import Face
from tui.text import say, told

Say = Callable[[], str]
Errand = Callable[[], None]
Say_face = Callable[[], Face]

WANT_S: Final = 30.0
"""How long a card under way may hold a change back. A tap takes a second or two."""
_LOOK_S: Final = 0.02
_NOT_TAKEN: Final = (Freshness.STOPPED, Freshness.MISSING)
"""Of a denylist: cards of its issuer are refused."""
_QUIET: Final[Say] = lambda: ""  # noqa: E731 - a constant


class Station(Protocol):
    """What a bus needs of fleet.station.Station."""

    @property
    def task(self) -> Task | None:
        """What the next card is for."""

    def want(self, task: Task | None) -> bool:
        """Whether the next card is for this now."""

    def forward(self) -> None:
        """Send now."""

    def status(self) -> Status:
        """What is always in sight."""


class Driving:
    """One bus. Call `open` first, `close` last; both are errands."""

    def __init__(
        self,
        station: Station,
        session: TerminalSession,
        later: Callable[[Errand], None],
        changed: Callable[[], None],
    ) -> None:
        self._station = station
        self._session = session
        self._later = later
        self._changed = changed
        self._open = ExitStack()
        self._closing = threading.Event()
        self._looking = False
        self._runs: Runs | None = None
        self._opening: Say | None = lambda: say("Fares are being read…")
        self._percent = 0
        self._refused: Say | None = None
        self._shown: Say_face | None = None
        self._fault = ""
        self._inspecting = False
        self._uploading = False
        self._sent: Sent | None = None
        self._status = station.status()
        self.sight: Sight | None = None
        self.report: RunReport | None = None
        self.last: Tap | None = None
        self.lingers = False
        self.arrived = False
        """The last event told what an upload has brought; `news` says it."""
        self.news: Say = _QUIET
        self.line: Line | None = None
        self.direction: Direction | None = None

    # ------------------------------------------------------------------ beginning and end

    def open(self, setup: Setup) -> None:
        """Reads the network, and takes up the run that was under way; else, if it is to, begins one."""
        self._later(lambda: self._do(lambda: self._take_up(setup)))

    def _tell_reading(self, done: int, whole: int) -> None:
        """How far the reading of the fares is; in the thread that reads. Raises FaresRefused when nobody
        waits for them any more."""
        if self._closing.is_set():
            raise FaresRefused("the reading of the fares was given up")
        percent = done * 100 // max(whole, 1)
        if percent != self._percent:
            self._percent = percent
            self._opening = lambda: say("Fares are being read: {percent} %", percent=percent)
            self._changed()

    def _take_up(self, setup: Setup) -> None:
        try:
            if not self._read(setup):
                return
            run = self._opened().run
            if run is not None:
                self.line, self.direction = run.line, run.direction
                self.news = lambda: say("The run that was open goes on.")
                self._drive()
            else:
                self._choose(setup.line, setup.direction)
                if setup.begin:
                    self._begin()
        finally:
            self._opening = None

    def _read(self, setup: Setup) -> bool:
        """Whether there are fares to drive by; the face says why not."""
        try:
            network = setup.read(self._tell_reading)
            self._runs = self._open.enter_context(open_runs(self._session, network))
        except errors.EXPECTED as error:
            reason = error
            self._refused = lambda: errors.message(reason)
            return False
        return True

    def _choose(self, line: str, direction: str) -> None:
        """The line and direction to begin with: those of these ids, else the first. Raises NoSuchFare."""
        lines = self.network.lines
        if not lines:
            raise FaresRefused("these fares have no line; give others")
        chosen = self.network.line(line) if line else lines[0]
        self.direction = chosen.direction(direction) if direction else chosen.directions[0]
        self.line = chosen

    def close(self) -> None:
        """Let the runs go; a run under way stays so. Errands have to be over: `give_way` hurries them."""
        self._open.close()

    def give_way(self) -> None:
        """Nothing waits for a card any more: the program is ending."""
        self._closing.set()

    @property
    def network(self) -> Network:
        """The lines, stops and fares; none before they are read."""
        return self._runs.network if self._runs is not None else Network(())

    # ------------------------------------------------------------------ what a driver does

    @property
    def is_driving(self) -> bool:
        """Whether a run is under way."""
        return self.sight is not None

    @property
    def is_ready(self) -> bool:
        """Whether the fares are read."""
        return self._runs is not None and self._opening is None

    @property
    def is_inspecting(self) -> bool:
        """Whether cards are only looked at."""
        return self._inspecting

    @property
    def is_out_of_service(self) -> bool:
        """Whether a fault ended the taking of cards, until somebody tries again."""
        return bool(self._fault)

    def go_on(self) -> None:
        """To the next stop."""
        self._errand(self._go_on)

    def _go_on(self) -> None:
        if not self._run().go_on():
            self.news = lambda: say("This is the last stop: end the run here.")

    def go_back(self) -> None:
        """To the stop before."""
        self._errand(self._go_back)

    def _go_back(self) -> None:
        if not self._run().go_back():
            self.news = lambda: say("This is the first stop.")

    def choose_destination(self, place: int | None) -> None:
        """The next rider goes to that stop (its place in the direction); None: nobody said."""
        sight = self.sight
        if sight is not None and not sight.is_flat:
            ahead = None if place is None else place - sight.origin - 1
            self._errand(lambda: self._run().set_destination(ahead))

    def move_destination(self, stops: int) -> None:
        """So many stops farther, or nearer; beyond either end nobody said."""
        sight = self.sight
        if sight is None or sight.is_flat:
            return
        first, last = sight.origin + 1, len(sight.stops) - 1
        if sight.destination is None:
            self.choose_destination(first if stops > 0 else last)
            return
        place = sight.destination + stops
        self.choose_destination(place if first <= place <= last else None)

    def pay_for_two(self) -> None:
        """The next card pays for one more rider."""
        self._errand(lambda: self._ignore(self._run().for_one_more()))

    def pay_for_one(self) -> None:
        """Not for more after all."""
        self._errand(lambda: self._run().for_no_more())

    @staticmethod
    def _ignore(_count: int) -> None:
        """The sight shows it."""

    def inspect(self) -> None:
        """Cards are only looked at, from now on."""
        self._errand(self._inspect)

    def _inspect(self) -> None:
        run = self._run()

        def look(terminal: Terminal, link: CardLink) -> Inspection:
            return inspect(terminal, link, run)

        self._want(Inspect(look))
        self._inspecting, self._shown = True, None

    def drive_on(self) -> None:
        """Inspection is over: cards pay again."""
        self._errand(self._drive)

    def _drive(self) -> None:
        self._run()
        self._want(Board(self._charge))
        self._inspecting, self._fault, self._shown = False, "", None

    def try_again(self) -> None:
        """What was wrong with the terminal has been put right, somebody says."""
        self._errand(self._drive)

    def end_run(self) -> None:
        """The run is over; its report stands until the next one begins."""
        self._errand(self._end)

    def _end(self) -> None:
        self._run()
        self._want(None)
        self._inspecting, self._fault, self._shown = False, "", None
        self.report = self._opened().end()
        self.direction = self._way_back()

    def _way_back(self) -> Direction | None:
        """The direction in which a bus drives after this one: back, where there are two."""
        if self.line is None or len(self.line.directions) != 2 or self.direction is None:
            return self.direction
        one, other = self.line.directions
        return one if self.direction.id == other.id else other

    def begin_run(self, line: Line | None = None, direction: Direction | None = None) -> None:
        """Begins a run on that line and direction, else on those that are chosen; one under way is ended."""
        self._errand(lambda: self._begin_anew(line, direction))

    def _begin_anew(self, line: Line | None, direction: Direction | None) -> None:
        run = self._opened().run
        if run is not None:
            if line is None or (run.line.id, run.direction.id) == (line.id, direction and direction.id):
                return
            self._end()
        if line is not None and direction is not None:
            self.line, self.direction = line, direction
        self._begin()

    def _begin(self) -> None:
        if self.line is None or self.direction is None:
            raise NoRun("no run is under way; choose line and direction to begin one")
        self._opened().begin(self.line.id, self.direction.id)
        self.report = self.last = None
        self.news = _QUIET
        self._drive()

    def upload(self) -> None:
        """Sends all that waits, and fetches lists and orders; riders go on tapping."""
        self._uploading = True
        self.news = lambda: say("Upload begins…")
        self._station.forward()

    # ------------------------------------------------------------------ errands

    def _errand(self, work: Errand) -> None:
        """What a driver wants now is seen at once: the last result steps back."""
        self.news = _QUIET
        if self.lingers:
            self._shown, self.lingers = None, False
        self._later(lambda: self._do(work))

    def _do(self, work: Errand) -> None:
        """The work, then a look at the run. What goes wrong is told."""
        try:
            work()
        except errors.EXPECTED as error:
            reason = error
            self.news = lambda: errors.message(reason)
        self._look()
        self._changed()

    def _look(self) -> None:
        self._looking = False
        run = self._runs.run if self._runs is not None else None
        try:
            self.sight = sight_of(run) if run is not None else None
        except TerminalError as error:
            self._fault = str(error)

    def _look_later(self) -> None:
        """One look at a time is enough, however many cards have tapped."""
        if not self._looking:
            self._looking = True
            self._later(lambda: self._do(lambda: None))

    def _opened(self) -> Runs:
        if self._runs is None:
            raise NoRun("there are no fares to drive by yet")
        return self._runs

    def _run(self) -> Run:
        run = self._opened().run
        if run is None:
            raise NoRun("no run is under way; choose line and direction to begin one")
        return run

    def _charge(self) -> Charge:
        """Asked for each card, in the reader's thread."""
        return self._run().charge()

    def _want(self, task: Task | None) -> None:
        """Waits until no card is under way. Raises NoRun when that takes too long."""
        until_s = time.monotonic() + WANT_S
        while not self._station.want(task):
            if self._closing.wait(_LOOK_S) or time.monotonic() > until_s:
                raise NoRun("a card is being asked at this moment; wait for its answer")

    # ------------------------------------------------------------------ what happens

    def take(self, event: Event) -> None:
        """An event of the station, once."""
        self.arrived = False
        match event:
            case CardSeen():
                self._show(faces.reading)
            case Decided():
                self._take_result(event.tap)
            case Inspected():
                found = event.found
                if isinstance(found, Inspection):
                    self._show(lambda: faces.of_inspection(found))
            case TooMany():
                self._show(faces.one_card_only)
            case Removed():
                self.lingers = self._shown is not None
            case Fault():
                self._fault, self._shown = event.sentence, None
            case ReaderChanged():
                self._take_health(event)
            case StatusChanged():
                self._status = event.status
                self._arrive()
            case Sending() | Sent() | SendFailed():
                self._take_sending(event)
            case Waiting():
                pass  # the face is ready by itself once the last result has been seen
            case _:
                pass

    def _show(self, face: Say_face) -> None:
        self._shown, self.lingers = face, False

    def _take_result(self, tap: Tap) -> None:
        self.last = tap
        self._show(lambda: faces.of_tap(tap))
        self._look_later()

    def _take_health(self, event: ReaderChanged) -> None:
        """A reader that went away in mid-tap: the result of that tap stays in sight in small."""
        self._status = self._station.status()
        if not event.health.ok:
            sentence = event.health.sentence
            self._show(lambda: faces.no_reader(sentence))
        else:
            self._shown = None

    def _take_sending(self, event: Event) -> None:
        if not self._uploading:
            return
        match event:
            case Sending():
                done, total = event.done, event.total
                self.news = lambda: say("Upload: {done} of {total}", done=done, total=total)
            case Sent():
                self._uploading = False
                self._sent = event
                self.news = lambda: say("Sent {entries}.", entries=event.entries)
                if not self._status.waiting_count:
                    self._arrive()
            case SendFailed():
                self._uploading = False
                self.news = lambda: say("Not sent: {why}", why=told(event.sentence))
            case _:
                pass

    def _arrive(self) -> None:
        """An upload is over, and what waits now is known."""
        sent, self._sent = self._sent, None
        if sent is not None:
            self.arrived = True
            self.news = lambda: self._sent_words(sent)

    def _sent_words(self, sent: Sent) -> str:
        """All has arrived, or what has come since; and what came down."""
        waiting = self._status.waiting_count
        if waiting:
            words = say("Sent {entries}; {count} newer ones wait.", entries=sent.entries, count=waiting)
        else:
            words = say("Everything has arrived.")
        if sent.rejected:
            words += " " + say("Clearing did not take {count}.", count=sent.rejected)
        if sent.fetched_denylists:
            words += " " + say("New denylist.")
        if sent.fetched_orders:
            words += " " + say("New orders: {count}.", count=sent.fetched_orders)
        return words

    def calm(self) -> None:
        """The last result has been seen long enough. What an inspector found stays until the next card."""
        if self.lingers and not self._inspecting:
            self._shown, self.lingers = None, False

    # ------------------------------------------------------------------ what is shown

    def face(self) -> Face:
        """The driver's view now."""
        if self._shown is not None:
            return self._shown()
        return self.calm_face()

    def calm_face(self) -> Face:
        """Without a card: the gravest of what keeps cards from being taken, else that one may come."""
        if self._opening is not None:
            return faces.opening(self._opening())
        if self._refused is not None:
            return faces.no_fares(self._refused())
        trouble = self._status.trouble or self._status.locked
        if self._fault or trouble:
            return faces.out_of_service(self._fault or trouble, try_again=bool(self._fault))
        if not self._status.reader.ok:
            return faces.no_reader(self._status.reader.sentence)
        if self._inspecting:
            return faces.inspecting()
        sight = self.sight
        if sight is None:
            return faces.between_runs(self.line, self.direction, ended=self.report is not None)
        stale = self._status.denylist in _NOT_TAKEN
        return faces.ready(sight.fare_fen, sight.more, destination_words(sight), stale=stale)
