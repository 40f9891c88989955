"""A terminal without a screen: one card after the other, an event for whatever happens, until stopped."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet.open import TerminalSession
from fleet.station import (
    Board,
    CardSeen,
    Decided,
    Done,
    Event,
    Fault,
    Health,
    ReaderChanged,
    Removed,
    Station,
    TooMany,
)
from hardwallet.records import RETAIL
from hardwallet.riders import Rider
from pos_terminal.run import Run
from pos_terminal.terminal import Charge
from tui.errors import CommandError
from tui.field import Field
from tui.interrupt import Interrupts, Stopped
from tui.text import language, say, told, yuan
from tui.till import Ride, choose_charge, tap_data, tap_words

Emit = Callable[[Mapping[str, object], str], None]
"""Takes an event's data and the line for people."""


@dataclass(frozen=True, slots=True)
class Taking:
    """What a validator takes: `charge` is asked for each card; `ready` says it in an event and, with the
    reader's name, in words; `counted` is told after each card.
    """

    charge: Callable[[], Charge]
    ready: Mapping[str, object]
    words: Callable[[str], str]
    counted: Callable[[], Mapping[str, object]] = dict


def taking_amount(session: TerminalSession, amount_fen: int, ride: Ride) -> Taking:
    """One amount from each card, or what finishes a sale that is not finished."""

    def charge() -> Charge:
        waiting = [sale for sale in session.journal.unresolved() if sale.profile == RETAIL]
        return choose_charge(session, waiting[0].amount_fen if waiting else amount_fen, ride)[0]

    return Taking(
        charge,
        {"amount_fen": amount_fen, "line": ride.line, "run": ride.run},
        lambda reader: say(
            "ready: {amount} from each card at {reader}", amount=yuan(amount_fen), reader=reader
        ),
    )


def taking_fares(run: Run, place: int, destination: int | None) -> Taking:
    """The fare of a run from each card: from one stop of its direction (by its number) to another, or as far
    as the line goes. Raises NoSuchFare, StoreFailed."""
    run.go_to(place)

    def charge() -> Charge:
        run.set_destination(None if destination is None else destination - place - 1)
        return run.charge()

    def counted() -> Mapping[str, object]:
        counts = run.counts
        riders = {rider.word: count for rider, count in counts.riders.items()}
        return {"riders": riders, "riders_free": counts.free, "riders_fen": counts.amount_fen}

    charge()
    fares = {rider.word: fare_fen for rider, fare_fen in run.fares().items()}
    return Taking(
        charge,
        {
            "fares_fen": fares,
            "line": run.line.id,
            "direction": run.direction.id,
            "run": run.number,
            "day": run.day,
            "stop": run.stop.id,
        },
        lambda reader: say(
            "ready: line {line}, {direction}, run {run}, adults {amount}, at {reader}",
            line=run.line.name.told(language()),
            direction=run.direction.name.told(language()),
            run=run.number,
            amount=yuan(fares[Rider.ADULT.word]),
            reader=reader,
        ),
        counted,
    )


class Validator:
    """Takes from each card that comes. `run` ends by Stopped, or by a fault of the terminal."""

    def __init__(
        self,
        session: TerminalSession,
        field: Field,
        interrupts: Interrupts,
        taking: Taking,
        emit: Emit,
    ) -> None:
        self._session = session
        self._field = field
        self._interrupts = interrupts
        self._taking = taking
        self._emit = emit
        self._over = threading.Event()
        self._ended_by: Exception | None = None

    def run(self) -> None:
        """Raises Stopped, TerminalError; OSError when nobody takes the events any more."""
        certificate = self._session.folder.identity.certificate
        self._emit(
            {
                "event": "ready",
                "terminal": certificate.terminal.hex(),
                "payee": certificate.payee.hex(),
                "reader": self._field.reader.uri,
                **self._taking.ready,
            },
            self._taking.words(self._field.reader.name),
        )
        station = Station(self._session, self._field, self._heard)
        station.want(Board(self._taking.charge))
        station.start()
        try:
            self._interrupts.wait(self._over.wait, self._over.set)
        finally:
            station.close()
        if self._ended_by is not None:
            raise self._ended_by
        raise Stopped

    def _heard(self, event: Event) -> None:
        """From the station's threads. Who reads the events may go away: the tap under way goes on."""
        if self._ended_by is not None:
            return
        try:
            self._tell(event)
        except OSError as error:
            self._end(error)

    def _end(self, error: Exception) -> None:
        self._ended_by = error
        self._over.set()

    def _tell(self, event: Event) -> None:
        modelled = self._field.model is not None
        match event:
            case CardSeen(atr=atr):
                self._emit({"event": "present", "atr": atr.hex()}, say("card"))
            case Decided(tap=tap):
                self._emit({"event": "tap"} | tap_data(tap, modelled=modelled), tap_words(tap))
            case Done(tap=tap):
                data = tap_data(tap, modelled=modelled)
                self._emit(
                    {"event": "done"} | data | dict(self._taking.counted()),
                    say("done: ratified {ratified}, carried {carried}", **data),
                )
            case Removed():
                self._emit({"event": "removed"}, say("removed"))
            case TooMany():
                self._health("too_many_cards", "Two cards lie on the reader. Leave one only.")
            case ReaderChanged(health=Health(ok=False, word=word, sentence=sentence)):
                self._health(word, sentence)
            case Fault(sentence=sentence, error=error):
                self._end(error or CommandError(told(sentence)))

    def _health(self, word: str, sentence: str) -> None:
        self._emit({"event": "health", "health": word, "message": sentence}, told(sentence))
