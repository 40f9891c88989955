"""The whole tap: from a card in the field to a decision, and to what travels on with the card.

    select ─ who is it? ─ its issuer's orders ─ may we ask? ─ keep that we ask ─ PAY ─ keep the record ─┐
                                                    │         (retail)           │                      │
                                      on the denylist: only carried              │   decide ─ RATIFY ─ carry
                                                                                 │
                         from here on the card may have paid: no answer means *unresolved*, never *no*

A terminal grants only what is durable here, and each record once. Whatever the card says is verified before
it counts.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from firmware_bridge.errors import BridgeError
from firmware_bridge.link import CardLink
from hardwallet import status as sw
from hardwallet.errors import (
    CardMisbehaved,
    CardRefused,
    Malformed,
    WalletError,
)
from hardwallet.messages import (
    ALREADY_PAID_UNRATIFIED,
    NONCE_LENGTH,
    STATE_BLOCKED,
    SaleRequest,
    pin_field,
)
from hardwallet.records import PAYMENT, RETAIL, Record
from hardwallet.session import KnownCard, PayOutcome
from pos_terminal.errors import JournalFull, ReferenceReused
from pos_terminal.limits import refusal
from pos_terminal.ports import RideBook
from pos_terminal.sale import Sale, SaleState
from pos_terminal.terminal import DENIED, Charge, Fare, Terminal, ride_reference
from pos_terminal.visit import Outcome, Phase, Stop, Tap, Visit, decline, no_model

__all__ = ["Outcome", "Phase", "Tap", "tap"]


SIBLING_S: Final = 90
"""How old a record may be that a sibling of the terminal which it names still grants on."""

LOOK_BACK: Final = 4
"""How many of a card's newest records are read for a ride that was paid at a sibling."""

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
        raise Stop(Tap(Outcome.PIN_WANTED, str(error))) from None


def tap(
    terminal: Terminal,
    link: CardLink,
    charge: Charge,
    pin: str = "",
    *,
    decided: Callable[[Tap], None] = lambda _tap: None,
    modelled_ms: Callable[[], float] = no_model,
) -> Tap:
    """Take `charge` from the card behind `link`.

    `decided` is called once, the moment the result stands and before anything else is said to the card.
    `modelled_ms` tells modelled air and card time so far. Raises TerminalError (clock, entropy, journal: the
    terminal itself has to be looked at); everything that a card or a customer does is a result, not an error.
    """
    return _Tap(terminal, link, decided, modelled_ms).run(charge, pin)


def _book_of_free(charge: Charge, sale: Sale) -> RideBook | None:
    """The run that counts a ride which costs nothing; None: the sale has an amount, or nobody counts it, and
    then nothing is no fare."""
    return charge.book if isinstance(charge, Fare) and sale.amount_fen == 0 else None


class _Tap(Visit):
    """One tap under way."""

    def __init__(
        self,
        terminal: Terminal,
        link: CardLink,
        decided: Callable[[Tap], None],
        modelled_ms: Callable[[], float],
    ) -> None:
        super().__init__(terminal, link, modelled_ms)
        self._decided = decided
        self._nonce = b""
        self._passenger = 0
        self._asked_before = False  # by a tap that never knew the answer

    def run(self, charge: Charge, pin: str) -> Tap:
        """The tap, from SELECT to carrying."""
        now = self.terminal.now()
        card: KnownCard | None = None
        try:
            if pin:
                _want_pin(pin)
            selected = self.select()
            card = self.know(selected, now, wants_agreement=bool(pin))
            self.deliver(card, now)
            if self.terminal.is_denied(card.certificate):
                raise self._denied(charge, card, now)
            sale = self._ask(charge, card, now)
            self.book = charge.book if isinstance(charge, Fare) else None
            book = _book_of_free(charge, sale)
            if book is not None:
                result = self._ride_free(book, sale, card, now)
            else:
                result = self._settle(sale, self._pay(sale, card, pin, now), now)
        except Stop as stop:
            self.book = None
            result = self._never_no(stop.tap, charge)
        self.lap("decide")
        result.phases = self.phases
        result.rider = card.certificate.rider if card is not None else None
        result.passenger = self._passenger
        if isinstance(charge, Fare) and charge.book is not None:
            charge.book.decided(result)
        self._decided(result)
        if card is not None and result.outcome not in (Outcome.UNRESOLVED, Outcome.TRY_AGAIN):
            self.after(result, card, now)
        self.terminal.orders.settle()
        return result

    def _never_no(self, result: Tap, charge: Charge) -> Tap:
        """The result, but never *no* for a sale whose card may have paid in this tap or an earlier one."""
        if isinstance(charge, Sale) and result.outcome in (Outcome.DECLINED, Outcome.TRY_AGAIN):
            kept = self.journal.sale(charge.reference)
            if kept is not None and kept.state is SaleState.UNRESOLVED:
                result.outcome, result.sale = Outcome.UNRESOLVED, kept
        return result

    # ------------------------------------------------------------------ before the card is asked

    def _denied(self, charge: Charge, card: KnownCard, now: int) -> Stop:
        """A card on its issuer's denylist is not asked, not even for a sale that it may have paid before: PAY
        could debit it. What it holds is carried. A payment for this very sale is among that, or with whoever
        has carried it: it is credited by the card's signature, never granted, and returns to the account.
        """
        carried = self.carry_denied(card, now)
        sale = charge if isinstance(charge, Sale) else None
        kept = self.journal.sale(sale.reference) if sale is not None else None
        result = Tap(Outcome.DECLINED, DENIED, carried=carried, sale=kept or sale)
        if kept is None:
            return Stop(result)
        is_asked = kept.card == card.certificate.card
        if kept.state is SaleState.UNRESOLVED and not is_asked:
            result.outcome = Outcome.OTHER_CARD
        elif kept.state is SaleState.UNRESOLVED:
            result.reason += "; it shows no payment for this sale: give the sale up"
        elif kept.state is SaleState.PAID_NOT_GRANTED and is_asked:
            result.outcome = Outcome.PAID_NOT_GRANTED
            result.reason += "; what it had paid returns to its account"
        return Stop(result)

    def _ask(self, charge: Charge, card: KnownCard, now: int) -> Sale:
        """Whether the card may be asked; in retail, that it is asked is durable before it is."""
        sale = self._sale(charge, card, now)
        free = _book_of_free(charge, sale) is not None
        reason = (
            None if free else refusal(self.terminal.limits, sale.amount_fen, self.journal.waiting_fen())
        ) or self.terminal.denylist_refusal(card.certificate, sale.amount_fen, now)
        if reason is not None:
            raise decline(reason, sale=sale)
        try:
            self.journal.require_space()
            self._nonce = self.terminal.entropy(NONCE_LENGTH)
            if sale.profile == RETAIL:
                self._open(sale)
        except (JournalFull, ReferenceReused) as error:
            raise decline(str(error), sale=sale) from None
        self.lap("ask")
        return sale

    def _open(self, sale: Sale) -> None:
        earlier = self.journal.sale(sale.reference)
        if earlier is not None and earlier.state in _ENDED and earlier.amount_fen == sale.amount_fen:
            outcome, reason = _ENDED[earlier.state]
            raise Stop(Tap(outcome, reason, sale=earlier))
        if earlier is not None and earlier.state is SaleState.UNRESOLVED:
            if earlier.card != sale.card:
                reason = "another card was asked for this sale: present that one, or give the sale up"
                raise Stop(Tap(Outcome.OTHER_CARD, reason, sale=earlier))
            self._asked_before = True
        self.journal.open_sale(sale)

    def _sale(self, charge: Charge, known: KnownCard, now: int) -> Sale:
        terminal, card = self.terminal, known.certificate.card
        if not isinstance(charge, Fare):
            return replace(charge, card=card, state=SaleState.UNRESOLVED)
        if charge.book is not None:
            self._passenger = charge.book.passenger(card)
        reference = ride_reference(terminal.suite.hash, charge, card, self._passenger)
        amount_fen = self._ride_fen(charge, reference, known, now)
        try:
            number = terminal.transaction(now) if amount_fen else 0
        except JournalFull as error:
            raise decline(str(error)) from None
        return Sale(reference, amount_fen, terminal.trust.currency, terminal.profile, number, now, card=card)

    def _ride_fen(self, fare: Fare, reference: bytes, card: KnownCard, now: int) -> int:
        """What the ride costs. A ride that was paid, or may have been, is asked for by that same amount,
        whatever it would cost by now: only so does the card know it again, and pay it once."""
        if fare.book is not None and fare.book.rides_free(reference):
            return 0
        if fare.varies:
            kept = self.journal.sale(reference)
            if kept is not None:
                return kept.amount_fen
            if fare.has_siblings or self.session.selected.unratified:
                paid_fen = self._paid_before(fare, reference, card, now)
                if paid_fen is not None:
                    return paid_fen
        return fare.amount_for(card.certificate.rider, self._passenger)

    def _paid_before(self, fare: Fare, reference: bytes, card: KnownCard, now: int) -> int | None:
        """The amount by which the card itself holds this ride: torn here, or paid at a sibling."""
        payee = self.terminal.identity.certificate.payee
        try:
            self.prove(now)
            for record in self._latest(fare, card):
                if record.kind == PAYMENT and (record.payee, record.reference) == (payee, reference):
                    return record.amount_fen
        except BridgeError as error:
            raise Stop(Tap(Outcome.TRY_AGAIN, str(error))) from None
        except CardRefused as refused:
            raise decline(str(refused), refused.sw) from None
        except WalletError as error:
            raise decline(str(error)) from None
        finally:
            self.lap("look")
        return None

    def _latest(self, fare: Fare, card: KnownCard) -> Iterator[Record]:
        """What may hold a ride of this run: every unratified record and, where a sibling may have ratified
        it, the newest ones."""
        above = 0
        for _ in range(self.session.selected.unratified):
            record = self.session.next_unratified(above, card)
            if record is None:
                break
            above = record.sequence
            yield record
        if fare.has_siblings:
            newest = self.session.read_state().sequence
            for sequence in range(newest, max(newest - LOOK_BACK, 0), -1):
                try:
                    yield self.session.read_record(sequence, card)[0]
                except CardRefused as refused:
                    if refused.sw == sw.NO_SUCH_RECORD:
                        return
                    raise

    def _ride_free(self, book: RideBook, sale: Sale, card: KnownCard, now: int) -> Tap:
        """A ride that costs nothing: the card proves itself and is not blocked; the ride is kept."""
        try:
            self.authenticate(card)
        except BridgeError as error:
            raise Stop(Tap(Outcome.TRY_AGAIN, str(error), sale=sale)) from None
        except CardRefused as refused:
            raise decline(str(refused), refused.sw, sale) from None
        except WalletError as error:
            raise decline(str(error), sale=sale) from None
        finally:
            self.lap("authenticate")
        if self.session.selected.state & STATE_BLOCKED:
            raise decline(sw.explain(sw.BLOCKED), sw.BLOCKED, sale)
        result = Tap(Outcome.GRANTED, sale=sale, free=True)
        if not book.keep_free(sale.reference, sale.card, card.certificate.rider, now):
            result.outcome, result.reason = Outcome.ALREADY_GRANTED, "this free ride was granted before"
        self.lap("keep")
        return result

    # ------------------------------------------------------------------ asking

    def _pay(self, sale: Sale, card: KnownCard, pin: str, now: int) -> PayOutcome:
        """PAY, and again after each remedy that the card asks for, each at most once."""
        terminal = self.terminal
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
                outcome = self.session.pay(request, card, identity, pin, terminal.entropy)
                self.proved = self.proved or identity is not None
                self.lap("pay")
                return outcome
            except CardRefused as refused:
                self.proved = self.proved or (
                    identity is not None and refused.sw not in (sw.CERTIFICATE_UNKNOWN, sw.SIGNATURE_WRONG)
                )
                self.lap("pay")
                if not sw.is_known(refused.sw):
                    raise Stop(Tap(Outcome.UNRESOLVED, str(refused), refused.sw, sale)) from None
                if refused.sw in _SEARCHED or sw.tries_left(refused.sw) is not None:
                    self._asked_before = False
                if refused.sw in tried or refused.sw not in _REMEDIES:
                    raise self._refused(sale, refused, now) from None
                tried.add(refused.sw)
                self._remedy(refused.sw, sale, card, now)
            except (CardMisbehaved, BridgeError) as error:
                raise Stop(Tap(Outcome.UNRESOLVED, str(error), sale=sale)) from None

    def _remedy(self, status_word: int, sale: Sale, card: KnownCard, now: int) -> None:
        """What the card asked for before it pays. It has not paid in this tap, so a failure ends in *no*."""
        try:
            if status_word == sw.TRANSIT_ALLOWANCE_USED_UP:
                self.prove(now)
            elif status_word == sw.TOO_MANY_UNRATIFIED:
                self._carry_first(card, now)
            else:
                self.present(now)
        except BridgeError as error:
            self._reopen(sale, "the card left before it paid", now)
            raise Stop(Tap(Outcome.TRY_AGAIN, str(error), sale=sale)) from None
        except CardRefused as refused:
            raise self._refused(sale, refused, now) from None
        except (WalletError, JournalFull) as error:
            self._reopen(sale, str(error), now)
            raise decline(str(error), sale=sale) from None
        self.lap("remedy")

    def _refused(self, sale: Sale, refused: CardRefused, now: int) -> Stop:
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
            result.balance_fen = self.balance(now)
        return Stop(result)

    def _reopen(self, sale: Sale, reason: str, now: int) -> None:
        if sale.profile == RETAIL and not self._asked_before:
            self.journal.change_sale(sale.reference, SaleState.OPEN, reason, now)

    def _carry_first(self, card: KnownCard, now: int) -> None:
        self.prove(now)
        self.carry(card, now)

    # ------------------------------------------------------------------ deciding

    def _settle(self, sale: Sale, outcome: PayOutcome, now: int) -> Tap:
        """Keep the record, then decide: a grant stands only on what is durable here."""
        record = outcome.record
        result = Tap(Outcome.GRANTED, sale=sale, record=record, recovered=not outcome.fresh)
        result.balance_fen = record.balance_fen
        stored = None if outcome.fresh else self.journal.payment(record.card, record.sequence)
        if not self.is_own(record):
            self._settle_siblings(sale, outcome, result, now)
        elif stored is None:
            self.journal.keep_payment(record, SaleState.GRANTED, now)
        elif stored.record.body != record.body:
            result.outcome = Outcome.PAID_NOT_GRANTED
            result.reason = "two payments bear this card's number and sequence: one of the cards is a copy"
            self.journal.keep_payment(record, SaleState.PAID_NOT_GRANTED, now)
        else:
            state = SaleState.GRANTED if stored.granted else SaleState.PAID_NOT_GRANTED
            result.outcome, result.reason = _ENDED[state]
        self.lap("keep")
        return result

    def _settle_siblings(self, sale: Sale, outcome: PayOutcome, result: Tap, now: int) -> None:
        """A record for exactly this sale that names another terminal of this payee: the torn tap of a
        sibling.

        Granted here when it is fresh, nobody has ratified it, and the card confirms that it is ratified from
        now on:
        so it is granted once. Else it is only carried.
        """
        record = outcome.record
        self.journal.keep_carried(record, now)
        unratified = outcome.outcome == ALREADY_PAID_UNRATIFIED
        if unratified and 0 <= now - record.time_s <= SIBLING_S and self._ratified_now(record):
            result.ratified = True
            result.reason = f"paid a moment ago at terminal {record.terminal.hex()} of this payee"
        else:
            result.outcome = Outcome.ALREADY_GRANTED
            result.reason = f"paid at terminal {record.terminal.hex()} of this payee"
        if sale.profile == RETAIL:
            state = SaleState.GRANTED if result.granted else SaleState.GIVEN_UP
            self.journal.change_sale(sale.reference, state, result.reason, now)

    def _ratified_now(self, record: Record) -> bool:
        try:
            return self.session.ratify(record)
        except (BridgeError, WalletError):
            return False
