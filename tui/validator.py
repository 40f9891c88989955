"""A terminal without a screen: one card after the other, an event for whatever happens, until stopped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from firmware_bridge.errors import CardError, ReaderError
from firmware_bridge.link import CardLink
from fleet.open import TerminalSession
from hardwallet.records import RETAIL
from hardwallet.riders import Rider
from pos_terminal.charges import end_sale
from pos_terminal.run import Run
from pos_terminal.tap import Outcome, Tap, tap
from pos_terminal.terminal import Charge
from tui.errors import kind
from tui.field import Field
from tui.interrupt import Interrupts
from tui.text import language, say, told, yuan
from tui.till import Ride, choose_charge, tap_data, tap_words

Emit = Callable[[Mapping[str, object], str], None]
"""Takes an event's data and the line for people."""

T = TypeVar("T")

_RETRY_S = 0.5


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
        self._last_trouble = ""
        self._lost: OSError | None = None

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
        while True:
            link = self._through_trouble(lambda: self._field.wait_for_card(None))
            try:
                self._emit({"event": "present", "atr": link.atr.hex()}, say("card"))
                self._tap(link)
            finally:
                link.close()
            self._through_trouble(lambda: self._field.reader.wait_for_removal(None))
            self._emit({"event": "removed"}, say("removed"))

    def health(self, word: str, sentence: str) -> None:
        """Tells a change in the reader's health; from any thread."""
        self._emit({"event": "health", "health": word, "message": sentence}, told(sentence))

    def _through_trouble(self, wait: Callable[[], T]) -> T:
        """Waits on through what befalls a reader, telling each trouble once."""
        while True:
            try:
                found = self._interrupts.wait(wait, self._field.reader.cancel)
                self._last_trouble = ""
                return found
            except (ReaderError, CardError) as error:
                if str(error) != self._last_trouble:
                    self._last_trouble = str(error)
                    self.health(kind(error), str(error))
                self._interrupts.pause(_RETRY_S)

    def _tap(self, link: CardLink) -> None:
        """One tap, to its end: no signal breaks it off."""
        charge = self._taking.charge()
        modelled = self._field.model is not None
        result = tap(
            self._session.terminal,
            link,
            charge,
            decided=lambda decided: self._tell_decision(decided, modelled),
            modelled_ms=self._field.modelled_ms,
        )
        if result.outcome is not Outcome.UNRESOLVED:
            end_sale(self._session.terminal, charge, result.reason)
        data = tap_data(result, modelled=modelled)
        counted = self._taking.counted()
        self._emit(
            {"event": "done"} | data | dict(counted),
            say("done: ratified {ratified}, carried {carried}", **data),
        )
        if self._lost is not None:
            raise self._lost

    def _tell_decision(self, result: Tap, modelled: bool) -> None:
        """The moment of green or red. A reader of events that went away must not break the tap off."""
        try:
            self._emit({"event": "tap"} | tap_data(result, modelled=modelled), tap_words(result))
        except OSError as error:
            self._lost = error
