"""The whole tap: from a card in the field to a decision, and to what travels on with the card.

    select ── who is it? ── may we ask? ── keep that we ask ── PAY ── keep the record ── decide ── RATIFY ──
    carry
                                           (retail)            │
                                                               └─ from here on the card may have paid:
                                                                  no answer means *unresolved*, never *no*

A terminal grants only what is durable here, and each record once. Whatever the card says is verified before
it counts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from firmware_bridge.errors import BridgeError
from firmware_bridge.link import CardLink
from hardwallet import status as sw
from hardwallet.errors import (
    CardMisbehaved,
    CardRefused,
    CertificateRefused,
    Malformed,
    NotAWallet,
    WalletError,
)
from hardwallet.limits import MAX_UNRATIFIED
from hardwallet.messages import NONCE_LENGTH, SaleRequest, Selected, pin_field
from hardwallet.records import PAYMENT, RETAIL, Record
from hardwallet.session import KnownCard, PayOutcome, WalletSession
from pos_terminal.errors import JournalFull, ReferenceReused
from pos_terminal.limits import refusal
from pos_terminal.ports import CardCertificate
from pos_terminal.sale import Sale, SaleState
from pos_terminal.terminal import Charge, Fare, Terminal, ride_reference


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


@dataclass(slots=True)
class Phase:
    """One phase of a tap: measured host time, and modelled air and card time, both in milliseconds."""

    host_ms: float = 0.0
    modelled_ms: float = 0.0


@dataclass(slots=True)
class Tap:
    """What happened. `recovered`: the record was on the card already; `carried`: records taken along for
    others."""

    outcome: Outcome
    reason: str = ""
    status_word: int = sw.OK
    sale: Sale | None = None
    record: Record | None = None
    balance_fen: int | None = None
    recovered: bool = False
    ratified: bool = False
    carried: int = 0
    phases: dict[str, Phase] = field(default_factory=dict)

    @property
    def granted(self) -> bool:
        """Green light."""
        return self.outcome is Outcome.GRANTED


class _Stop(Exception):
    """The tap has its result."""

    def __init__(self, tap: Tap) -> None:
        super().__init__(tap.reason)
        self.tap = tap


def _decline(reason: str, status_word: int = sw.OK, sale: Sale | None = None) -> _Stop:
    return _Stop(Tap(Outcome.DECLINED, reason, status_word, sale))


_REMEDIES: Final = {
    sw.PAYEE_UNKNOWN,
    sw.CERTIFICATE_UNKNOWN,
    sw.TRANSIT_ALLOWANCE_USED_UP,
    sw.TOO_MANY_UNRATIFIED,
}
"""Refusals after which the terminal does what the card asks for, and asks again."""

_SEARCHED: Final = {
    sw.BLOCKED,
    sw.PAYEE_UNKNOWN,
    sw.TRANSIT_ALLOWANCE_USED_UP,
    sw.ABOVE_SINGLE_LIMIT,
    sw.TOO_MANY_UNRATIFIED,
    sw.JOURNAL_FULL,
    sw.OFFLINE_TOTAL_USED_UP,
    sw.BALANCE_TOO_LOW,
    sw.PIN_WANTED,
    sw.PIN_LOCKED,
}
"""Refusals that a card gives only after it looked for the sale in its journal (docs/protocol.md, section 9):
it has not paid it in an earlier tap either."""


_ENDED: Final = {
    SaleState.GRANTED: (Outcome.ALREADY_GRANTED, "this payment was granted before"),
    SaleState.PAID_NOT_GRANTED: (
        Outcome.PAID_NOT_GRANTED,
        "the sale was given up before; the payment returns to the card's account",
    ),
}
"""What a sale that has its payment already is told as, when it is asked for again."""


def _want_pin(pin: str) -> None:
    """A PIN that is none costs no try: the card never sees it."""
    try:
        pin_field(pin)
    except Malformed as error:
        raise _Stop(Tap(Outcome.PIN_WANTED, str(error))) from None


def _no_model() -> float:
    return 0.0


def tap(
    terminal: Terminal,
    link: CardLink,
    charge: Charge,
    pin: str = "",
    *,
    decided: Callable[[Tap], None] = lambda _tap: None,
    modelled_ms: Callable[[], float] = _no_model,
) -> Tap:
    """Take `charge` from the card behind `link`.

    `decided` is called once, the moment the result stands and before anything else is said to the card.
    `modelled_ms` tells modelled air and card time so far. Raises TerminalError (clock, entropy, journal: the
    terminal
    itself has to be looked at); everything that a card or a customer does is a result, not an error.
    """
    return _Tap(terminal, link, decided, modelled_ms).run(charge, pin)


class _Tap:
    """One tap under way."""

    def __init__(
        self,
        terminal: Terminal,
        link: CardLink,
        decided: Callable[[Tap], None],
        modelled_ms: Callable[[], float],
    ) -> None:
        self._terminal = terminal
        self._journal = terminal.journal
        self._session = WalletSession(link, terminal.suite)
        self._decided = decided
        self._modelled_ms = modelled_ms
        self._phases: dict[str, Phase] = {}
        self._mark = (terminal.stopwatch(), modelled_ms())
        self._proved = False
        self._presented = False
        self._nonce = b""
        self._asked_before = False  # by a tap that never knew the answer

    def run(self, charge: Charge, pin: str) -> Tap:
        """The tap, from SELECT to carrying."""
        now = self._terminal.now()
        card: KnownCard | None = None
        try:
            if pin:
                _want_pin(pin)
            selected = self._select()
            card = self._know(selected, now, wants_agreement=bool(pin))
            sale = self._ask(charge, selected, now)
            result = self._settle(sale, self._pay(sale, card, pin, now), now)
        except _Stop as stop:
            result = self._never_no(stop.tap, charge)
        self._lap("decide")
        result.phases = self._phases
        self._decided(result)
        if card is not None and result.outcome not in (Outcome.UNRESOLVED, Outcome.TRY_AGAIN):
            self._after(result, card, now)
        return result

    def _never_no(self, result: Tap, charge: Charge) -> Tap:
        """The result, but never *no* for a sale whose card may have paid in this tap or an earlier one."""
        if isinstance(charge, Sale) and result.outcome in (Outcome.DECLINED, Outcome.TRY_AGAIN):
            kept = self._journal.sale(charge.reference)
            if kept is not None and kept.state is SaleState.UNRESOLVED:
                result.outcome, result.sale = Outcome.UNRESOLVED, kept
        return result

    # ------------------------------------------------------------------ before the card is asked

    def _select(self) -> Selected:
        limits = self._terminal.limits
        try:
            selected = self._session.select()
        except NotAWallet as error:
            raise _decline(str(error)) from None
        except BridgeError as error:
            raise _Stop(Tap(Outcome.TRY_AGAIN, str(error))) from None
        self._lap("select")
        if self._phases["select"].host_ms > limits.select_ms:
            raise _decline("the card answers too slowly to be in front of this reader; nothing was taken")
        if selected.scheme != self._terminal.trust.scheme:
            raise _decline(f"the card belongs to another scheme ({selected.scheme.hex()})")
        if selected.currency != self._terminal.trust.currency:
            raise _decline("the card holds another currency", sw.WRONG_CURRENCY)
        return selected

    def _know(self, selected: Selected, now: int, *, wants_agreement: bool) -> KnownCard:
        """The card's verified certificate: remembered, kept, or asked for."""
        terminal, digest = self._terminal, selected.certificate_digest
        card = terminal.known_cards.get(digest)
        if card is None:
            kept = self._journal.certificate(digest)
            if kept is not None:
                card = self._checked(
                    lambda: self._session.know(terminal.trust, now, kept.raw, kept.agreement_key)
                )
        usable = card is not None and card.certificate.card == selected.card
        if card is None or not usable or (wants_agreement and not card.agreement_key):
            card = self._meet(now, agreement=wants_agreement)
        if terminal.known_cards.get(digest) is not card:
            terminal.remember(digest, card)
        if not card.certificate.not_before <= now <= card.certificate.not_after:
            raise _decline("the card's certificate has expired, or is not valid yet")
        self._lap("certificates")
        return card

    def _meet(self, now: int, *, agreement: bool) -> KnownCard:
        """Swap certificates in one exchange; in transit the card alone shows its own, which is shorter."""
        terminal = self._terminal
        own = terminal.identity.certificate if terminal.profile == RETAIL else None
        card = self._checked(
            lambda: self._session.exchange_certificates(terminal.trust, now, own, agreement=agreement)
        )
        self._presented = own is not None
        kept = CardCertificate(card.certificate.to_bytes(), card.agreement_key)
        try:
            self._journal.keep_certificate(self._session.selected.certificate_digest, kept)
        except JournalFull as error:
            raise _decline(str(error)) from None
        return card

    def _checked(self, look: Callable[[], KnownCard]) -> KnownCard:
        try:
            return look()
        except BridgeError as error:
            raise _Stop(Tap(Outcome.TRY_AGAIN, str(error))) from None
        except CardRefused as refused:
            raise _decline(str(refused), refused.sw) from None
        except (CertificateRefused, CardMisbehaved) as error:
            raise _decline(str(error)) from None

    def _ask(self, charge: Charge, selected: Selected, now: int) -> Sale:
        """Whether the card may be asked; in retail, that it is asked is durable before it is."""
        sale = self._sale(charge, selected.card, now)
        reason = refusal(self._terminal.limits, sale.amount_fen, self._journal.waiting_fen())
        if reason is not None:
            raise _decline(reason, sale=sale)
        try:
            self._journal.require_space()
            self._nonce = self._terminal.entropy(NONCE_LENGTH)
            if sale.profile == RETAIL:
                self._open(sale)
        except (JournalFull, ReferenceReused) as error:
            raise _decline(str(error), sale=sale) from None
        self._lap("ask")
        return sale

    def _open(self, sale: Sale) -> None:
        earlier = self._journal.sale(sale.reference)
        if earlier is not None and earlier.state in _ENDED and earlier.amount_fen == sale.amount_fen:
            outcome, reason = _ENDED[earlier.state]
            raise _Stop(Tap(outcome, reason, sale=earlier))
        if earlier is not None and earlier.state is SaleState.UNRESOLVED:
            if earlier.card != sale.card:
                reason = "another card was asked for this sale: present that one, or give the sale up"
                raise _Stop(Tap(Outcome.OTHER_CARD, reason, sale=earlier))
            self._asked_before = True
        self._journal.open_sale(sale)

    def _sale(self, charge: Charge, card: bytes, now: int) -> Sale:
        terminal = self._terminal
        if not isinstance(charge, Fare):
            return replace(charge, card=card, state=SaleState.UNRESOLVED)
        reference = ride_reference(terminal.suite.hash, charge, card)
        try:
            number = terminal.transaction(now)
        except JournalFull as error:
            raise _decline(str(error)) from None
        return Sale(
            reference, charge.amount_fen, terminal.trust.currency, terminal.profile, number, now, card=card
        )

    # ------------------------------------------------------------------ asking

    def _pay(self, sale: Sale, card: KnownCard, pin: str, now: int) -> PayOutcome:
        """PAY, and again after each remedy that the card asks for, each at most once."""
        terminal = self._terminal
        certificate = terminal.identity.certificate
        request = SaleRequest(
            terminal.suite.number,
            certificate.payee,
            sale.reference,
            sale.amount_fen,
            sale.currency,
            certificate.terminal,
            sale.transaction,
            self._nonce,
            now,
            sale.profile,
        )
        identity = terminal.identity if sale.profile == RETAIL else None
        tried: set[int] = set()
        while True:
            try:
                outcome = self._session.pay(request, card, identity, pin, terminal.entropy)
                self._proved = self._proved or identity is not None
                self._lap("pay")
                return outcome
            except CardRefused as refused:
                self._proved = self._proved or (
                    identity is not None and refused.sw not in (sw.CERTIFICATE_UNKNOWN, sw.SIGNATURE_WRONG)
                )
                self._lap("pay")
                if not sw.is_known(refused.sw):
                    raise _Stop(Tap(Outcome.UNRESOLVED, str(refused), refused.sw, sale)) from None
                if refused.sw in _SEARCHED or sw.tries_left(refused.sw) is not None:
                    self._asked_before = False
                if refused.sw in tried or refused.sw not in _REMEDIES:
                    raise self._refused(sale, refused, now) from None
                tried.add(refused.sw)
                self._remedy(refused.sw, sale, card, now)
            except (CardMisbehaved, BridgeError) as error:
                raise _Stop(Tap(Outcome.UNRESOLVED, str(error), sale=sale)) from None

    def _remedy(self, status_word: int, sale: Sale, card: KnownCard, now: int) -> None:
        """What the card asked for before it pays. It has not paid in this tap, so a failure ends in *no*."""
        try:
            if status_word == sw.TRANSIT_ALLOWANCE_USED_UP:
                self._prove(now)
            elif status_word == sw.TOO_MANY_UNRATIFIED:
                self._carry_first(card, now)
            else:
                self._present(now)
        except BridgeError as error:
            self._reopen(sale, "the card left before it paid", now)
            raise _Stop(Tap(Outcome.TRY_AGAIN, str(error), sale=sale)) from None
        except CardRefused as refused:
            raise self._refused(sale, refused, now) from None
        except (WalletError, JournalFull) as error:
            self._reopen(sale, str(error), now)
            raise _decline(str(error), sale=sale) from None
        self._lap("remedy")

    def _refused(self, sale: Sale, refused: CardRefused, now: int) -> _Stop:
        """The card said no: it debited nothing now, and the sale is open for another try or another card,
        unless an earlier tap may have been paid."""
        self._reopen(sale, sw.explain(refused.sw), now)
        if refused.sw == sw.PIN_WANTED:
            outcome = Outcome.PIN_WANTED
        elif sw.tries_left(refused.sw) is not None:
            outcome = Outcome.PIN_WRONG
        else:
            outcome = Outcome.DECLINED
        result = Tap(outcome, sw.explain(refused.sw), refused.sw, sale)
        if refused.sw == sw.BALANCE_TOO_LOW:
            result.balance_fen = self._balance(now)
        return _Stop(result)

    def _reopen(self, sale: Sale, reason: str, now: int) -> None:
        if sale.profile == RETAIL and not self._asked_before:
            self._journal.change_sale(sale.reference, SaleState.OPEN, reason, now)

    def _balance(self, now: int) -> int | None:
        """The balance, to show why it was not enough; None when the card has left."""
        try:
            self._prove(now)
            return self._session.read_state().balance_fen
        except (BridgeError, WalletError):
            return None

    def _present(self, now: int) -> None:
        if not self._presented:
            self._session.exchange_certificates(
                self._terminal.trust, now, self._terminal.identity.certificate
            )
            self._presented = True

    def _prove(self, now: int) -> None:
        if self._proved:
            return
        try:
            self._session.prove(self._terminal.identity)
        except CardRefused as refused:
            if refused.sw != sw.CERTIFICATE_UNKNOWN:
                raise
            self._present(now)
            self._session.prove(self._terminal.identity)
        self._proved = True

    def _carry_first(self, card: KnownCard, now: int) -> None:
        self._prove(now)
        self._carry(card, now)

    # ------------------------------------------------------------------ deciding

    def _settle(self, sale: Sale, outcome: PayOutcome, now: int) -> Tap:
        """Keep the record, then decide: a grant stands only on what is durable here."""
        record = outcome.record
        result = Tap(Outcome.GRANTED, sale=sale, record=record, recovered=not outcome.fresh)
        result.balance_fen = record.balance_fen
        stored = None if outcome.fresh else self._journal.payment(record.card, record.sequence)
        if not self._is_own(record):
            result.outcome = Outcome.ALREADY_GRANTED
            result.reason = f"paid at terminal {record.terminal.hex()} of this payee"
            self._journal.keep_carried(record, now)
            if sale.profile == RETAIL:
                self._journal.change_sale(sale.reference, SaleState.GIVEN_UP, result.reason, now)
        elif stored is None:
            self._journal.keep_payment(record, SaleState.GRANTED, now)
        elif stored.record.body != record.body:
            result.outcome = Outcome.PAID_NOT_GRANTED
            result.reason = "two payments bear this card's number and sequence: one of the cards is a copy"
            self._journal.keep_payment(record, SaleState.PAID_NOT_GRANTED, now)
        else:
            state = SaleState.GRANTED if stored.granted else SaleState.PAID_NOT_GRANTED
            result.outcome, result.reason = _ENDED[state]
        self._lap("keep")
        return result

    def _is_kept(self, record: Record) -> bool:
        stored = self._journal.payment(record.card, record.sequence)
        return stored is not None and stored.record.body == record.body

    def _is_own(self, record: Record) -> bool:
        certificate = self._terminal.identity.certificate
        return (record.payee, record.terminal) == (certificate.payee, certificate.terminal)

    # ------------------------------------------------------------------ after the decision

    def _after(self, result: Tap, card: KnownCard, now: int) -> None:
        """RATIFY, and take along what the card still holds for others. A card that leaves now has lost
        nothing."""
        try:
            if result.record is not None:
                result.ratified = self._session.ratify(result.record)
                self._lap("ratify")
            if self._session.selected.unratified:
                self._journal.require_space()
                self._prove(now)
                result.carried = self._carry(card, now)
                self._lap("carry")
        except (BridgeError, WalletError, JournalFull):
            self._lap("left")

    def _carry(self, card: KnownCard, now: int) -> int:
        """Read, keep and ratify unratified records; how many were new here."""
        above = carried = 0
        for _ in range(MAX_UNRATIFIED):
            record = self._session.next_unratified(above, card)
            if record is None:
                break
            above = record.sequence
            if self._journal.payment(record.card, record.sequence) is None:
                carried += 1
            self._keep(record, now)
            self._session.ratify(record)
        return carried

    def _keep(self, record: Record, now: int) -> None:
        """A record that is read, not paid just now: another's is carried, an own one was never granted."""
        if record.kind != PAYMENT or not self._is_own(record):
            self._journal.keep_carried(record, now)
            return
        if not self._is_kept(record):
            self._journal.keep_payment(record, SaleState.PAID_NOT_GRANTED, now)

    def _lap(self, name: str) -> None:
        host_s, modelled_ms = self._terminal.stopwatch(), self._modelled_ms()
        host_before_s, modelled_before_ms = self._mark
        self._mark = (host_s, modelled_ms)
        lap = Phase((host_s - host_before_s) * 1000, modelled_ms - modelled_before_ms)
        phase = self._phases.setdefault(name, lap)
        if phase is not lap:
            phase.host_ms += lap.host_ms
            phase.modelled_ms += lap.modelled_ms
