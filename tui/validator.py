"""A terminal without a screen: one card after the other, an event for whatever happens, until stopped."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from firmware_bridge.errors import CardError, ReaderError
from firmware_bridge.link import CardLink
from fleet.open import TerminalSession
from hardwallet.records import RETAIL
from pos_terminal.charges import end_sale
from pos_terminal.tap import Outcome, Tap, tap
from pos_terminal.terminal import Charge
from tui.errors import kind
from tui.field import Field
from tui.interrupt import Interrupts
from tui.text import say, told, yuan
from tui.till import Ride, choose_charge, tap_data, tap_words

Emit = Callable[[Mapping[str, object], str], None]
"""Takes an event's data and the line for people."""

T = TypeVar("T")

_RETRY_S = 0.5


class Validator:
    """Takes one amount from each card that comes. `run` ends by Stopped, or by a fault of the terminal."""

    def __init__(
        self,
        session: TerminalSession,
        field: Field,
        interrupts: Interrupts,
        amount_fen: int,
        ride: Ride,
        emit: Emit,
    ) -> None:
        self._session = session
        self._field = field
        self._interrupts = interrupts
        self._amount_fen = amount_fen
        self._ride = ride
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
                "amount_fen": self._amount_fen,
                "line": self._ride.line,
                "run": self._ride.run,
            },
            say(
                "ready: {amount} from each card at {reader}",
                amount=yuan(self._amount_fen),
                reader=self._field.reader.name,
            ),
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

    def _charge(self) -> Charge:
        waiting = [sale for sale in self._session.journal.unresolved() if sale.profile == RETAIL]
        amount_fen = waiting[0].amount_fen if waiting else self._amount_fen
        return choose_charge(self._session, amount_fen, self._ride)[0]

    def _tap(self, link: CardLink) -> None:
        """One tap, to its end: no signal breaks it off."""
        charge = self._charge()
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
        self._emit({"event": "done"} | data, say("done: ratified {ratified}, carried {carried}", **data))
        if self._lost is not None:
            raise self._lost

    def _tell_decision(self, result: Tap, modelled: bool) -> None:
        """The moment of green or red. A reader of events that went away must not break the tap off."""
        try:
            self._emit({"event": "tap"} | tap_data(result, modelled=modelled), tap_words(result))
        except OSError as error:
            self._lost = error
