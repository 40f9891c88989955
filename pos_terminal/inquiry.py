"""What a card says when somebody asks "did I pay?": shown, and nothing else.

    select ─ who is it? ─ PROVE ─ READ STATE ─ READ RECORD, newest first

Nothing is debited, ratified, carried or kept, and no order is delivered: the card's balance, sequence and
records stay as they are. (PROVE lets a card that it meets in transit pay its allowance anew, as ever.) Each
record's signature is verified, and the balance is compared with the one that the newest record signs.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from firmware_bridge.errors import BridgeError
from firmware_bridge.link import CardLink
from hardwallet import status as sw
from hardwallet.errors import CardMisbehaved, CardRefused, WalletError
from hardwallet.messages import STATE_BLOCKED
from hardwallet.records import PAYMENT, Record
from hardwallet.session import KnownCard
from pos_terminal.sale import Sale, SaleState
from pos_terminal.terminal import Terminal
from pos_terminal.visit import Stop, Visit

SHOWN: Final = 5
"""How many records are read, newest first."""


class Answer(Enum):
    """What this terminal knows about a payment on the card."""

    GRANTED = "granted here"
    NOT_GRANTED = "paid here, not granted: it returns to the card's account"
    GIVEN_UP = "paid here, but the sale was given up: it returns to the card's account"
    UNFINISHED = "paid here, not finished: take that sale again with this card"
    UNREAD = "paid here, but this terminal has not taken it yet"
    SIBLING = "paid at another terminal of this merchant"
    ELSEWHERE = "paid elsewhere"

    @property
    def words(self) -> str:
        """As a person reads it."""
        return self.value


_BY_STATE: Final = {SaleState.UNRESOLVED: Answer.UNFINISHED, SaleState.GIVEN_UP: Answer.GIVEN_UP}
"""What a payment is to its sale when this terminal does not hold it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A record on the card, verified. `answer` is None for a load or a refund; `unratified`: no terminal has
    carried it yet."""

    record: Record
    answer: Answer | None
    unratified: bool


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What a card shows. `reason` says why it could not be read to the end, else it is empty; what was read
    until then stands.

    `card`: 8 bytes, empty when the card is not known. `unfinished`: the open sales of this terminal that
    asked this card. `denied`: on its issuer's denylist; `blocked`: by its issuer's order.
    """

    reason: str
    card: bytes
    balance_fen: int | None
    blocked: bool
    denied: bool
    lines: list[Line]
    unfinished: list[Sale]


def inquire(terminal: Terminal, link: CardLink, shown: int = SHOWN) -> Inquiry:
    """Ask the card behind `link` what it paid lately: up to `shown` records, newest first.

    Raises TerminalError (clock, journal); everything that the card does is a result.
    """
    return _Inquiry(terminal, link).run(shown)


class _Inquiry(Visit):
    """One look at a card."""

    def run(self, shown: int) -> Inquiry:
        """From SELECT to the oldest record that is shown."""
        now = self.terminal.now()
        lines: list[Line] = []
        card: KnownCard | None = None
        balance_fen, blocked, reason = None, False, ""
        try:
            card = self.know(self.select(), now, wants_agreement=False)
            self.prove(now)
            state = self.session.read_state()
            self._read(card, state.sequence, shown, lines)
            if lines and lines[0].record.balance_fen != state.balance_fen:
                raise CardMisbehaved("the card tells another balance than its newest record")
            balance_fen, blocked = state.balance_fen, bool(state.state & STATE_BLOCKED)
        except Stop as stop:
            reason = stop.tap.reason
        except (BridgeError, WalletError) as error:
            reason = str(error)
        number = card.certificate.card if card is not None else b""
        return Inquiry(
            reason,
            number,
            balance_fen,
            blocked,
            card is not None and self.terminal.is_denied(card.certificate),
            lines,
            [sale for sale in self.journal.unresolved() if sale.card == number],
        )

    def _read(self, card: KnownCard, newest: int, shown: int, lines: list[Line]) -> None:
        """Down from the newest record, as far as the card still holds them."""
        for sequence in range(newest, max(newest - shown, 0), -1):
            try:
                record, unratified = self.session.read_record(sequence, card)
            except CardRefused as refused:
                if refused.sw == sw.NO_SUCH_RECORD:
                    return
                raise
            lines.append(Line(record, self._answer(record), unratified))

    def _answer(self, record: Record) -> Answer | None:
        certificate = self.terminal.identity.certificate
        if record.kind != PAYMENT:
            return None
        if record.payee != certificate.payee:
            return Answer.ELSEWHERE
        if record.terminal != certificate.terminal:
            return Answer.SIBLING
        stored = self.journal.payment(record.card, record.sequence)
        if stored is not None and stored.record.body == record.body:
            return Answer.GRANTED if stored.granted else Answer.NOT_GRANTED
        sale = self.journal.sale(record.reference)
        if sale is None or sale.card != record.card:
            return Answer.UNREAD
        return _BY_STATE.get(sale.state, Answer.UNREAD)
