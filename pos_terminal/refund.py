"""A refund: a part or all of a payment goes back to the card that paid it, with nothing online.

    select ─ the card that paid? ─ what was paid, what was refunded ─ keep the order ─ REFUND ─ keep the
    receipt ─ RATIFY

The order names the total that is refunded of the payment afterwards, so that asking again, here or at another
till of the
merchant, gives nothing twice. It is durable before the card gets it, as an unresolved sale of profile REFUND
whose reference holds what has to be asked again: sequence (4) ‖ total (4) ‖ transaction (4).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_bridge.errors import BridgeError
from firmware_bridge.link import CardLink
from hardwallet import status as sw
from hardwallet.errors import CardMisbehaved, CardRefused, WalletError
from hardwallet.messages import NONCE_LENGTH, RefundRequest
from hardwallet.records import PAYMENT, Record
from hardwallet.session import KnownCard, PayOutcome
from pos_terminal.errors import JournalFull, NoSuchSale
from pos_terminal.money import format_amount
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from pos_terminal.terminal import DENIED, Terminal
from pos_terminal.visit import Outcome, Stop, Tap, Visit, decline, no_model

_ASKED_AGAIN: Final = {sw.TOO_MANY_UNRATIFIED, sw.CERTIFICATE_UNKNOWN}


@dataclass(frozen=True, slots=True)
class Refund:
    """What to give back: `amount_fen` of the payment with that sequence number of that card (8 bytes)."""

    card: bytes
    sequence: int
    amount_fen: int


def refund(
    terminal: Terminal,
    link: CardLink,
    wanted: Refund | Sale,
    *,
    decided: Callable[[Tap], None] = lambda _tap: None,
    modelled_ms: Callable[[], float] = no_model,
) -> Tap:
    """Give `wanted` back to the card behind `link`; an unresolved refund (a Sale) is finished as it was
    begun.

    As `tap`: GRANTED means credited, UNRESOLVED that nobody knows yet. Raises TerminalError.
    """
    return _Refund(terminal, link, modelled_ms).run(wanted, decided)


def open_refunds(terminal: Terminal) -> list[Sale]:
    """Refunds that asked a card and know no answer, oldest first."""
    return [sale for sale in terminal.journal.unresolved() if sale.profile == REFUND_PROFILE]


class _Refund(Visit):
    """One refund under way."""

    def run(self, wanted: Refund | Sale, decided: Callable[[Tap], None]) -> Tap:
        """From SELECT to carrying."""
        now = self.terminal.now()
        card: KnownCard | None = None
        try:
            selected = self.select()
            if selected.card != wanted.card:
                raise Stop(Tap(Outcome.OTHER_CARD, "this is not the card that paid; present that one"))
            card = self.know(selected, now, wants_agreement=False)
            self.deliver(card, now)
            self._want_allowed(wanted, card, now)
            sale = wanted if isinstance(wanted, Sale) else self._new(wanted, card, now)
            result = self._settle(sale, self._ask(sale, card, now), now)
        except Stop as stop:
            result = stop.tap
        self.lap("decide")
        result.phases = self.phases
        decided(result)
        if card is not None and result.outcome not in (Outcome.UNRESOLVED, Outcome.TRY_AGAIN):
            self.after(result, card, now)
        self.terminal.orders.settle()
        return result

    def _want_allowed(self, wanted: Refund | Sale, card: KnownCard, now: int) -> None:
        """Value goes to no card that would not be allowed to pay; a copy of a card could take it twice. What
        the card holds is carried, a receipt of a refund that was torn among it."""
        terminal, kept = self.terminal, wanted if isinstance(wanted, Sale) else None
        outcome = Outcome.DECLINED if kept is None else Outcome.UNRESOLVED
        if terminal.is_denied(card.certificate):
            carried = self.carry_denied(card, now)
            raise Stop(Tap(outcome, f"{DENIED}; refund it online", sale=kept, carried=carried))
        reason = terminal.denylist_refusal(card.certificate, wanted.amount_fen, now)
        if reason is not None:
            raise Stop(Tap(outcome, reason, sale=kept))

    def _new(self, wanted: Refund, card: KnownCard, now: int) -> Sale:
        """The order: of a payment that the card shows, for what is left of it. Durable when this returns."""
        try:
            self.prove(now)
            payment, _ = self.session.read_record(wanted.sequence, card)
            refunded_fen = self.session.refunded_total_fen(wanted.sequence)
        except BridgeError as error:
            raise Stop(Tap(Outcome.TRY_AGAIN, str(error))) from None
        except CardRefused as refused:
            if refused.sw == sw.NO_SUCH_RECORD:
                raise decline("that payment is no longer on the card; refund it online", refused.sw) from None
            raise decline(str(refused), refused.sw) from None
        except WalletError as error:
            raise decline(str(error)) from None
        self._check(payment, refunded_fen, wanted.amount_fen)
        return self._keep_order(payment, refunded_fen + wanted.amount_fen, wanted.amount_fen, now)

    def _check(self, payment: Record, refunded_fen: int, amount_fen: int) -> None:
        if payment.kind != PAYMENT or payment.payee != self.terminal.identity.certificate.payee:
            raise decline("that payment was made to somebody else; its own merchant refunds it")
        left_fen = payment.amount_fen - refunded_fen
        if amount_fen < 1:
            raise decline("the amount is zero or negative; nothing can be refunded")
        if amount_fen > left_fen:
            raise decline(
                f"of {format_amount(payment.amount_fen)} paid, {format_amount(refunded_fen)} was refunded; "
                f"{format_amount(left_fen)} is left",
                sw.REFUND_TOO_HIGH,
            )

    def _keep_order(self, payment: Record, total_fen: int, amount_fen: int, now: int) -> Sale:
        try:
            self.journal.require_space()
            number = self.terminal.transaction(now)
            parts = (payment.sequence, total_fen, number)
            reference = b"".join(part.to_bytes(4, "big") for part in parts)
            sale = Sale(
                *(reference, amount_fen, payment.currency, REFUND_PROFILE, number, now),
                state=SaleState.UNRESOLVED,
                card=payment.card,
            )
            self.journal.keep_carried(payment, now)  # nothing when it is here already
            self.journal.open_sale(sale)
        except JournalFull as error:
            raise decline(str(error)) from None
        self.lap("ask")
        return sale

    def _ask(self, sale: Sale, card: KnownCard, now: int) -> PayOutcome:
        """REFUND, and again after each remedy, each at most once."""
        sequence, total_fen = refund_terms(sale)
        nonce = self.terminal.entropy(NONCE_LENGTH)
        request = RefundRequest(sequence, total_fen, sale.transaction, nonce, now)
        tried: set[int] = set()
        while True:
            try:
                outcome = self.session.refund(request, card, self.terminal.identity)
                self.proved = True
                self.lap("refund")
                return outcome
            except CardRefused as refused:
                if refused.sw not in _ASKED_AGAIN or refused.sw in tried:
                    raise self._refused(sale, refused, now) from None
                tried.add(refused.sw)
                self._remedy(refused.sw, sale, card, now)
            except (CardMisbehaved, BridgeError) as error:
                raise Stop(Tap(Outcome.UNRESOLVED, str(error), sale=sale)) from None

    def _remedy(self, status_word: int, sale: Sale, card: KnownCard, now: int) -> None:
        try:
            if status_word == sw.CERTIFICATE_UNKNOWN:
                self.present(now)
            else:
                self.prove(now)
                self.carry(card, now)
        except (BridgeError, WalletError, JournalFull) as error:
            raise Stop(Tap(Outcome.UNRESOLVED, str(error), sale=sale)) from None

    def _refused(self, sale: Sale, refused: CardRefused, now: int) -> Stop:
        """The card credited nothing: for this total it never will, or it must be asked again later."""
        final = refused.sw in (sw.REFUND_TOO_HIGH, sw.REFUND_TOO_LOW, sw.NO_SUCH_RECORD, sw.WRONG_CLASS)
        if not final:
            return Stop(Tap(Outcome.UNRESOLVED, sw.explain(refused.sw), refused.sw, sale))
        self.journal.change_sale(sale.reference, SaleState.DECLINED, sw.explain(refused.sw), now)
        return decline(sw.explain(refused.sw), refused.sw, sale)

    def _settle(self, sale: Sale, outcome: PayOutcome, now: int) -> Tap:
        """The receipt first, then the end of the order."""
        record = outcome.record
        self.journal.keep_carried(record, now)
        self.journal.change_sale(sale.reference, SaleState.GRANTED, "refunded", now)
        self.lap("keep")
        return Tap(
            Outcome.GRANTED,
            "" if outcome.fresh else "this refund had reached the card before",
            sale=sale,
            record=record,
            balance_fen=record.balance_fen,
            recovered=not outcome.fresh,
        )


def refund_terms(sale: Sale) -> tuple[int, int]:
    """Sequence number of the payment and total refunded afterwards, from a refund's reference.

    Raises NoSuchSale when the sale is no refund.
    """
    if sale.profile != REFUND_PROFILE:
        raise NoSuchSale("that sale is no refund")
    return int.from_bytes(sale.reference[:4], "big"), int.from_bytes(sale.reference[4:8], "big")
