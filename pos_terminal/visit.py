"""A card's visit to a terminal: who it is, what both prove to each other, and what travels on with it.

What every tap shares, whatever it is for: `tap` takes money, `refund` gives it back. The results are here
too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from firmware_bridge.errors import BridgeError
from firmware_bridge.link import CardLink
from hardwallet import status as sw
from hardwallet.errors import CardMisbehaved, CardRefused, CertificateRefused, NotAWallet, WalletError
from hardwallet.limits import MAX_UNRATIFIED
from hardwallet.messages import NONCE_LENGTH, Selected, parse_card_order
from hardwallet.records import PAYMENT, RETAIL, Record
from hardwallet.riders import Rider
from hardwallet.session import KnownCard, WalletSession
from pos_terminal.errors import JournalFull
from pos_terminal.ports import CardCertificate, RideBook
from pos_terminal.sale import Sale, SaleState
from pos_terminal.terminal import Terminal

_NO_ANSWER = {sw.MEMORY_FAILURE, sw.SELECT_FIRST}
"""Status words to an order that say nothing about the order itself: it waits on."""


class Outcome(Enum):
    """How a tap ended. The second value is its EMV message identifier (EMV Book A 6.2, Book 4 11.2)."""

    GRANTED = ("granted", 0x03)
    ALREADY_GRANTED = ("already paid", 0x03)
    PAID_NOT_GRANTED = ("paid, not granted", 0x07)
    DECLINED = ("declined", 0x07)
    PIN_WANTED = ("PIN wanted", 0x09)
    PIN_WRONG = ("wrong PIN", 0x0A)
    UNRESOLVED = ("unresolved: present the same card again", 0x21)
    TRY_AGAIN = ("present the card again", 0x21)
    OTHER_CARD = ("present the card that was here before", 0x1C)

    @property
    def words(self) -> str:
        """The outcome as a person reads it."""
        return self.value[0]

    @property
    def message_id(self) -> int:
        """The EMV message identifier."""
        return self.value[1]


class Phase(msgspec.Struct):
    """One phase of a tap: measured host time, and modelled air and card time, both in milliseconds."""

    host_ms: float = 0.0
    modelled_ms: float = 0.0


@dataclass(slots=True)
class Tap:
    """What happened. `recovered`: the record was on the card already; `carried`: records taken along for
    others; `free`: a ride that costs nothing; `passenger`: 0, or the number of a further one for whom the
    card paid; `rider`: the class of the card, once it is known."""

    outcome: Outcome
    reason: str = ""
    status_word: int = sw.OK
    sale: Sale | None = None
    record: Record | None = None
    balance_fen: int | None = None
    recovered: bool = False
    ratified: bool = False
    carried: int = 0
    free: bool = False
    passenger: int = 0
    rider: Rider | None = None
    phases: dict[str, Phase] = field(default_factory=dict)

    @property
    def granted(self) -> bool:
        """Green light."""
        return self.outcome is Outcome.GRANTED


class Stop(Exception):
    """The tap has its result."""

    def __init__(self, tap: Tap) -> None:
        super().__init__(tap.reason)
        self.tap = tap


def decline(reason: str, status_word: int = sw.OK, sale: Sale | None = None) -> Stop:
    """To be raised: the answer is no, and nothing was taken."""
    return Stop(Tap(Outcome.DECLINED, reason, status_word, sale))


def no_model() -> float:
    """Nothing is modelled."""
    return 0.0


class Visit:
    """One card in front of a terminal, from SELECT to its leaving. `now` is seconds since 1970 throughout.

    What ends the visit early raises Stop, with the result.
    """

    def __init__(
        self, terminal: Terminal, link: CardLink, modelled_ms: Callable[[], float] = no_model
    ) -> None:
        self.terminal = terminal
        self.journal = terminal.journal
        self.session = WalletSession(link, terminal.suite)
        self.phases: dict[str, Phase] = {}
        self._modelled_ms = modelled_ms
        self._mark = (terminal.stopwatch(), modelled_ms())
        self.book: RideBook | None = None  # of the run under way, while the card may ride in it
        self.proved = False
        self._presented = False
        self._relieved = False  # of its records, before the result stood

    def select(self) -> Selected:
        """SELECT; a card that is no wallet, of another scheme or too far away is declined."""
        limits = self.terminal.limits
        try:
            selected = self.session.select()
        except NotAWallet as error:
            raise decline(str(error)) from None
        except BridgeError as error:
            raise Stop(Tap(Outcome.TRY_AGAIN, str(error))) from None
        self.lap("select")
        if self.phases["select"].host_ms > limits.select_ms:
            raise decline("the card answers too slowly to be in front of this reader; nothing was taken")
        if selected.scheme != self.terminal.trust.scheme:
            raise decline(f"the card belongs to another scheme ({selected.scheme.hex()})")
        if selected.currency != self.terminal.trust.currency:
            raise decline("the card holds another currency", sw.WRONG_CURRENCY)
        return selected

    def know(self, selected: Selected, now: int, *, wants_agreement: bool) -> KnownCard:
        """The card's verified certificate: remembered, kept, or asked for."""
        terminal, digest = self.terminal, selected.certificate_digest
        card = terminal.known_card(digest)
        if card is None:
            kept = self.journal.certificate(digest)
            if kept is not None:
                card = self._checked(
                    lambda: self.session.know(terminal.trust, now, kept.raw, kept.agreement_key)
                )
        if card is None or card.certificate.card != selected.card:
            card = self._meet(now, agreement=wants_agreement, known=False)
        elif wants_agreement and not card.agreement_key:
            card = self._meet(now, agreement=True, known=True)
        if terminal.known_cards.get(digest) is not card:
            terminal.remember(digest, card)
        if not card.certificate.not_before <= now <= card.certificate.not_after:
            raise decline("the card's certificate has expired, or is not valid yet")
        self.lap("certificates")
        return card

    def _meet(self, now: int, *, agreement: bool, known: bool) -> KnownCard:
        """Swap certificates in one exchange. In transit, and to a card that is `known` and only asked for its
        agreement key, the terminal does not show its own: that is shorter."""
        terminal = self.terminal
        own = terminal.identity.certificate if terminal.profile == RETAIL and not known else None
        card = self._checked(
            lambda: self.session.exchange_certificates(terminal.trust, now, own, agreement=agreement)
        )
        self._presented = self._presented or own is not None
        kept = CardCertificate(card.certificate.to_bytes(), card.agreement_key)
        try:
            self.journal.keep_certificate(self.session.selected.certificate_digest, kept)
        except JournalFull as error:
            raise decline(str(error)) from None
        return card

    def _checked(self, look: Callable[[], KnownCard]) -> KnownCard:
        try:
            return look()
        except BridgeError as error:
            raise Stop(Tap(Outcome.TRY_AGAIN, str(error))) from None
        except CardRefused as refused:
            raise decline(str(refused), refused.sw) from None
        except (CertificateRefused, CardMisbehaved) as error:
            raise decline(str(error)) from None

    def deliver(self, card: KnownCard, now: int) -> None:
        """Hand over what the card's issuer ordered, lowest number first. What the card answered is kept; a
        card that leaves meanwhile is offered the order again at its next tap."""
        orders = self.terminal.orders.waiting_for(card.certificate.card)
        if not orders:
            return
        try:
            for raw in orders:
                self.journal.require_space()
                word = self._answer_to(raw)
                if word not in _NO_ANSWER and sw.is_known(word):
                    order = parse_card_order(raw)
                    self.journal.keep_delivered(order.card, order.number, word, now)
                    self.terminal.orders.drop(raw)
        except BridgeError as error:
            raise Stop(Tap(Outcome.TRY_AGAIN, str(error))) from None
        except JournalFull as error:
            raise decline(str(error)) from None
        self.lap("orders")

    def _answer_to(self, order: bytes) -> int:
        """The status word with which the card answers an order. A card that has not met its issuer's newest
        key yet is shown it."""
        try:
            self.session.order(order, self.terminal.trust)
        except CardRefused as refused:
            return refused.sw
        return sw.OK

    def carry_denied(self, card: KnownCard, now: int) -> int:
        """A card on its issuer's denylist is asked for nothing, but what it holds is taken along: how many
        records were new here. A card that leaves meanwhile keeps the rest."""
        self._relieved = True
        if not self.session.selected.unratified:
            return 0
        try:
            self.journal.require_space()
            self.prove(now)
            return self.carry(card, now)
        except (BridgeError, WalletError, JournalFull):
            return 0
        finally:
            self.lap("carry")

    def present(self, now: int) -> None:
        """Show the terminal's certificate, once a visit. Raises BridgeError, WalletError."""
        if not self._presented:
            self.session.exchange_certificates(self.terminal.trust, now, self.terminal.identity.certificate)
            self._presented = True

    def prove(self, now: int) -> None:
        """PROVE, once a visit: the card lets a proved terminal read. Raises BridgeError, WalletError."""
        if self.proved:
            return
        try:
            self.session.prove(self.terminal.identity)
        except CardRefused as refused:
            if refused.sw != sw.CERTIFICATE_UNKNOWN:
                raise
            self.present(now)
            self.session.prove(self.terminal.identity)
        self.proved = True

    def authenticate(self, card: KnownCard) -> None:
        """The card proves that it is the one of its certificate, by a fresh signature. Raises BridgeError,
        WalletError."""
        try:
            self.session.authenticate(card, self.terminal.entropy(NONCE_LENGTH))
        except CardRefused as refused:
            if refused.sw == sw.UNKNOWN_INS:
                raise CardMisbehaved(
                    "the card is too old to prove itself; its holder gets a new one"
                ) from None
            raise

    def balance(self, now: int) -> int | None:
        """The balance, to show why it was not enough; None when the card has left."""
        try:
            self.prove(now)
            return self.session.read_state().balance_fen
        except (BridgeError, WalletError):
            return None

    def carry(self, card: KnownCard, now: int) -> int:
        """Read, keep and ratify unratified records; how many were new here."""
        above = carried = 0
        for _ in range(MAX_UNRATIFIED):
            record = self.session.next_unratified(above, card)
            if record is None:
                break
            above = record.sequence
            if self.journal.payment(record.card, record.sequence) is None:
                carried += 1
            self._keep(record, card, now)
            self.session.ratify(record)
        return carried

    def _keep(self, record: Record, card: KnownCard, now: int) -> None:
        """A record that is read, not paid just now: another's is carried, an own one was never granted."""
        if record.kind != PAYMENT or not self.is_own(record):
            self.journal.keep_carried(record, now)
            return
        if self._is_kept(record):
            return
        state = SaleState.PAID_NOT_GRANTED
        if self.book is not None and self._is_torn_ride(self.book, record):
            state = SaleState.GRANTED
        self.journal.keep_payment(record, state, now)
        if self.book is not None and state is SaleState.GRANTED:
            self.book.found(record, card.certificate.rider)

    def _is_torn_ride(self, book: RideBook, record: Record) -> bool:
        """Whether a record is a ride of the run under way that was torn: granted now, once. Its rider is in
        the bus, and would else have paid and not ridden."""
        known = self.journal.payment(record.card, record.sequence) or self.journal.sale(record.reference)
        return known is None and book.claims(record)

    def after(self, result: Tap, card: KnownCard, now: int) -> None:
        """RATIFY, and take along what the card still holds for others. A card that leaves now has lost
        nothing."""
        try:
            if result.record is not None and not result.ratified:
                result.ratified = self.session.ratify(result.record)
                self.lap("ratify")
            if self.session.selected.unratified and not self._relieved:
                self.journal.require_space()
                self.prove(now)
                result.carried = self.carry(card, now)
                self.lap("carry")
        except (BridgeError, WalletError, JournalFull):
            self.lap("left")

    def _is_kept(self, record: Record) -> bool:
        stored = self.journal.payment(record.card, record.sequence)
        return stored is not None and stored.record.body == record.body

    def is_own(self, record: Record) -> bool:
        """Whether the record names this very terminal."""
        certificate = self.terminal.identity.certificate
        return (record.payee, record.terminal) == (certificate.payee, certificate.terminal)

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to the phase of that name."""
        host_s, modelled_ms = self.terminal.stopwatch(), self._modelled_ms()
        host_before_s, modelled_before_ms = self._mark
        self._mark = (host_s, modelled_ms)
        lap = Phase((host_s - host_before_s) * 1000, modelled_ms - modelled_before_ms)
        phase = self.phases.setdefault(name, lap)
        if phase is not lap:
            phase.host_ms += lap.host_ms
            phase.modelled_ms += lap.modelled_ms
