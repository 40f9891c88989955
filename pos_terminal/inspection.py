"""An inspector on the bus: has this card paid for this ride, and how many does it pay for?

    select ─ who is it? ─ INTERNAL AUTHENTICATE ─ PROVE ─ READ STATE ─ READ RECORD, newest first

Nothing is debited, ratified, carried or kept (as pos_terminal/inquiry.py; here nothing that the terminal does
not know already is taken from the card). A card that can't prove itself may be a copy: it is not believed,
whatever it shows. A ride that the terminal granted counts, and one that the card's own records show: it may
have been taken by another validator of the vehicle.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from firmware_bridge.errors import BridgeError
from firmware_bridge.link import CardLink
from hardwallet import status as sw
from hardwallet.errors import CardRefused, WalletError
from hardwallet.messages import STATE_BLOCKED
from hardwallet.records import PAYMENT
from hardwallet.riders import Rider
from hardwallet.session import KnownCard
from pos_terminal.sale import SaleState
from pos_terminal.terminal import Terminal
from pos_terminal.visit import Stop, Visit

LOOK_BACK: Final = 8
"""How many records are read, newest first."""


class RideOfCards(Protocol):
    """The run under way, as an inspector needs it (pos_terminal.run.Run)."""

    def references(self, card: bytes) -> dict[bytes, int]:
        """The references (12 bytes) of all that a card (8 bytes) may pay for in this run, with the number of
        the passenger: 0 its own rider."""

    def free_rides(self, card: bytes) -> Collection[int]:
        """The passengers of a card (8 bytes) that ride free in this run."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an inspector sees.

    `card`: 8 bytes, empty when it is not known. `tapped`: its own rider has paid here, or rides free;
    `passengers`: how many more it has paid for. `time_s` and `amount_fen` of the newest of them; None for a
    ride without a record. `torn`: the card paid for a ride here, but the tap broke off: it taps again, and
    nothing is taken twice. `genuine`: the card proved that it is the one of its certificate. `denied`: on
    its issuer's denylist; `blocked`: by its issuer's order. `reason` says why the card could not be read to
    the end; then `tapped` is only what was seen until there.
    """

    reason: str
    card: bytes
    rider: Rider | None
    genuine: bool
    tapped: bool
    passengers: int
    time_s: int | None
    amount_fen: int | None
    torn: bool
    denied: bool
    blocked: bool
    balance_fen: int | None

    @property
    def may_ride(self) -> bool:
        """Whether the inspector can go on to the next one."""
        return self.tapped and self.genuine and not self.denied and not self.blocked


def inspect(terminal: Terminal, link: CardLink, ride: RideOfCards) -> Inspection:
    """Look at the card behind `link` in the run that is under way.

    Raises TerminalError (clock, journal); everything that the card does is a result.
    """
    return _Inspector(terminal, link).run(ride)


class _Inspector(Visit):
    """One look at a card."""

    def run(self, ride: RideOfCards) -> Inspection:
        """From SELECT to the oldest record that is looked at."""
        now = self.terminal.now()
        card: KnownCard | None = None
        self._torn = False
        self._references: dict[bytes, int] = {}
        found: dict[int, tuple[int, int]] = {}
        genuine, blocked, balance_fen, reason = False, False, None, ""
        try:
            card = self._known(now)
            self._references = ride.references(card.certificate.card)
            found = self._granted()
            self.authenticate(card)
            genuine = True
            blocked = bool(self.session.selected.state & STATE_BLOCKED)
            self.prove(now)
            state = self.session.read_state()
            balance_fen = state.balance_fen
            self._read(card, state.sequence, found)
        except Stop as stop:
            reason = stop.tap.reason
        except (BridgeError, WalletError) as error:
            reason = str(error)
        number = card.certificate.card if card is not None else b""
        riding = set(found) | (set(ride.free_rides(number)) if number else set())
        latest = max(found.values(), default=None)
        return Inspection(
            reason,
            number,
            card.certificate.rider if card is not None else None,
            genuine,
            0 in riding,
            len(riding - {0}),
            latest[0] if latest is not None else None,
            latest[1] if latest is not None else None,
            self._torn,
            card is not None and self.terminal.is_denied(card.certificate),
            blocked,
            balance_fen,
        )

    def _known(self, now: int) -> KnownCard:
        """The card's verified certificate; one that is new here is not kept."""
        selected = self.select()
        known = self.terminal.known_card(selected.certificate_digest)
        if known is None or known.certificate.card != selected.card:
            known = self._checked(lambda: self.session.exchange_certificates(self.terminal.trust, now))
        return known

    def _granted(self) -> dict[int, tuple[int, int]]:
        """Time and amount of the rides that this terminal granted, by passenger."""
        found = {}
        for reference, passenger in self._references.items():
            sale = self.journal.sale(reference)
            if sale is not None and sale.state is SaleState.GRANTED:
                found[passenger] = (sale.time_s, sale.amount_fen)
        return found

    def _read(self, card: KnownCard, newest: int, found: dict[int, tuple[int, int]]) -> None:
        """Down from the newest record: rides that another validator took."""
        for sequence in range(newest, max(newest - LOOK_BACK, 0), -1):
            try:
                record, _ = self.session.read_record(sequence, card)
            except CardRefused as refused:
                if refused.sw == sw.NO_SUCH_RECORD:
                    return
                raise
            passenger = self._references.get(record.reference)
            payee = self.terminal.identity.certificate.payee
            if passenger is None or passenger in found or (record.kind, record.payee) != (PAYMENT, payee):
                continue
            if not self.is_own(record):
                found[passenger] = (record.time_s, record.amount_fen)
            elif self.journal.payment(record.card, record.sequence) is None:
                self._torn = True
