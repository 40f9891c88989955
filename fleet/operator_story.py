"""The story goes on, steps 7 to 11: a refund, a sale given up, a cloned card, orders, the end of the day.

As in story.py every claim is looked up: on the cards, in the journals, in the books, in the files.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from firmware_bridge.link import CardLink
from fleet.conservation import Conservation, conservation, journal_records
from fleet.open import open_clearing
from fleet.telling import Step, Teller, note
from fleet.upload import Service, clearing_service, fetch_notices, send
from fleet.world import ARRIVAL_S, WorldCard, WorldTerminal
from hardwallet import status as sw
from hardwallet.card.timing import ModelledLink
from hardwallet.errors import CardRefused
from hardwallet.issuing import open_scheme
from hardwallet.limits import tiers
from hardwallet.messages import (
    KIND_ACKNOWLEDGE,
    KIND_BLOCK,
    KIND_LIMITS,
    KIND_UNBLOCK,
    NONCE_LENGTH,
    STATE_BLOCKED,
    RefundRequest,
)
from hardwallet.publishing import acknowledge_value, limits_value
from hardwallet.records import PAYMENT, REFUND, Owed, Record
from hardwallet.session import WalletSession
from offline_sync.gateway import seal_next
from offline_sync.messages import Batch, Uploader
from offline_sync.outbox import Limits
from offline_sync.settlement import Row, beijing_day, read
from pos_terminal.money import format_amount
from pos_terminal.refund import Refund, open_refunds, refund
from pos_terminal.sale import Sale
from pos_terminal.tap import Outcome, Tap

if TYPE_CHECKING:
    from offline_sync.clearing import Report

T = TypeVar("T")

SMALL_TIER: Final = 5
PAY_KNOWN: Final = 2
PAY_FIRST_MEETING: Final = 3
"""SELECT, the certificates, PAY."""
REFUND_FIRST_MEETING: Final = 6
"""SELECT, the certificates, PROVE, the payment read, what was refunded of it, then REFUND."""


class OperatorStory:
    """The operator's side, told by the teller who told the first part."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._world = teller.world
        self._stage = teller.stage

    def tell(self) -> Conservation:
        """Steps 7 to 11; whether all money is accounted for at the end."""
        self._give_back()
        with clearing_service(self._world.scheme_folder) as service:
            self._walk_away(service)
            self._clone(service)
            self._order(service)
            return self._end_the_day(service)

    # ------------------------------------------------------------------ 7: a refund

    def _give_back(self) -> None:
        with self._teller.step("7", "A refund with nothing online, torn and tried again") as step:
            card = self._teller.card
            till = self._world.add_terminal("till", "retail", 1)
            paid = _payment(card, 1_250)
            before_fen = card.balance_fen
            step.say(
                "5.00 of the 12.50 goes back at another till of the same merchant. The order is durable at "
                "the till before the card gets it, and names the total that is refunded afterwards, so that "
                "asking again gives nothing twice."
            )
            self._stage.lay(card.card)
            self._stage.tear_at(REFUND_FIRST_MEETING, "after")
            torn = self._refund(
                step, "refund 5.00, torn", card, till, Refund(card.number, paid.sequence, 500)
            )
            step.check("the torn refund is unresolved", torn.outcome is Outcome.UNRESOLVED)
            self._stage.lay(card.card)
            again = self._refund(step, "the same card again", card, till, open_refunds(till.terminal)[0])
            step.check("tried again it is done, and had reached the card", again.granted and again.recovered)
            step.check("credited once", card.balance_fen == before_fen + 500)
            step.check("one receipt lies on the card", len(_records(card, REFUND)) == 1)
            too_much = self._speak(card, lambda link: self._order_too_much(link, till, paid))
            step.check("the card itself refuses a refund above what is left", too_much == sw.REFUND_TOO_HIGH)
            step.check("and nothing moved", card.balance_fen == before_fen + 500)

    def _refund(
        self, step: Step, what: str, card: WorldCard, at: WorldTerminal, wanted: Refund | Sale
    ) -> Tap:
        timed = card.model.total_ms
        result = self._world.present(
            self._stage, card, lambda link: refund(at.terminal, link, wanted, modelled_ms=timed)
        )
        note(step, what, result)
        return result

    def _order_too_much(self, link: CardLink, till: WorldTerminal, paid: Record) -> int:
        """A till that does not look first orders more than was paid; the card's answer."""
        world, terminal = self._world, till.terminal
        session = WalletSession(link, world.trust.suite)
        session.select()
        known = session.exchange_certificates(world.bundle, world.clock(), terminal.identity.certificate)
        now = world.clock()
        nonce = world.entropy(NONCE_LENGTH)
        request = RefundRequest(paid.sequence, paid.amount_fen + 1, terminal.transaction(now), nonce, now)
        try:
            session.refund(request, known, terminal.identity)
        except CardRefused as refused:
            return refused.sw
        return sw.OK

    # ------------------------------------------------------------------ 8: paid, not granted

    def _walk_away(self, service: Service) -> None:
        with self._teller.step("8", "A customer walks away from a torn tap and pays cash") as step:
            card, shop, bus = self._teller.card, self._teller.shop, self._teller.bus
            sale = shop.terminal.new_sale(880)
            self._stage.lay(card.card)
            self._stage.tear_at(PAY_KNOWN, "after")
            torn = self._teller.tap_again(step, "shop 8.80, torn", card, shop, sale)
            step.check("the sale is unresolved", torn.outcome is Outcome.UNRESOLVED)
            shop.terminal.give_up(sale.reference, "paid in cash")
            ride = self._teller.tap(step, "bus 2.00, carries it", card, bus, self._teller.fare())
            step.check("the bus takes its fare and carries the record", ride.granted and ride.carried >= 1)
            step.say(
                "The cashier gives the sale up. The payment arrives all the same, by way of the bus, and is "
                "shown as paid, not granted: it returns to the card's account."
            )
            self._send(step, service, bus, shop)
            report = service.report()
            shown = [
                row.amount_fen for row in report.paid_not_granted if row.reference == sale.reference.hex()
            ]
            step.check("clearing shows 8.80 as paid, not granted", shown == [880])
            self._load_with_return(step, card, service)

    def _load_with_return(self, step: Step, card: WorldCard, service: Service) -> None:
        world, before_fen = self._world, card.balance_fen
        owed = service.owed(card.number)
        step.check("8.80 is owed to the card", [row.amount_fen for row in owed] == [880])
        self._speak(card, lambda link: self._load(link, 5_000, owed, service))
        step.say("The card's next load of 50.00 brings the 8.80 along, and says so: 58.80.")
        step.check("the card holds 58.80 more", card.balance_fen == before_fen + 5_880)
        left = service.owed(card.number)
        step.check("nothing is owed any more: it comes back once", left == [])
        self._speak(card, lambda link: self._load(link, 1_000, left, service))
        step.check("the load after that brings 10.00 alone", card.balance_fen == before_fen + 6_880)
        step.check("no fen is missing, none too many", conservation(world, service.report()).ok)

    def _load(self, link: CardLink, amount_fen: int, returns: Sequence[Owed], service: Service) -> Record:
        world = self._world
        with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
            receipt = scheme.load(link, amount_fen, world.clock(), returns=returns)
            service.hand_over(scheme, world.clock())
        return receipt

    # ------------------------------------------------------------------ 9: a cloned card

    def _clone(self, service: Service) -> None:
        with self._teller.step("9", "A cloned card forks its sequence") as step:
            world, shop, bus = self._world, self._teller.shop, self._teller.bus
            card = world.add_card("cloned", SMALL_TIER, 10_000)
            with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
                service.hand_over(scheme, world.clock())
            twin = world.copy_card(card, "copy")
            try:
                self._fork(step, card, twin)
                self._stage.take()
            finally:
                twin.card.close()
            sent = [self._waiting_uploads(terminal) for terminal in (bus, shop)]
            orders = [self._booked_apart(batches) for batches in (sent, sent[::-1])]
            step.check("the two uploads in the other order give the same ledger", orders[0] == orders[1])
            self._send(step, service, bus, shop)
            report = service.report()
            proofs = [row for row in report.evidence if row.kind == "clone"]
            step.check("clearing holds both signed bodies as proof", len(proofs) == 1)
            step.check("the excess of 30.00 is the issuer's loss", report.conservation.losses_fen == 3_000)
            step.check(
                "the holder's account is charged once", _account_fen(report, card.number) == card.balance_fen
            )
            step.say(
                "A copy of a card, key and all, pays 30.00 at the shop; the card itself pays 2.00 on the "
                "bus. Two signed bodies bear one sequence number: that is the proof. Both merchants are "
                "credited, the excess is booked to the issuer's loss account."
            )
            self._deny(step, card, service)

    def _fork(self, step: Step, card: WorldCard, twin: WorldCard) -> None:
        shop, bus = self._teller.shop, self._teller.bus
        ride = self._teller.tap(step, "bus 2.00", card, bus, self._teller.fare()).record
        bought = self._teller.tap(
            step, "shop 30.00, the copy", twin, shop, shop.terminal.new_sale(3_000)
        ).record
        signed = ride is not None and bought is not None
        step.check("offline, both are granted", signed)
        if ride is not None and bought is not None:
            step.check("two bodies bear one sequence number", ride.sequence == bought.sequence)

    def _waiting_uploads(self, terminal: WorldTerminal) -> list[Batch]:
        """What a terminal would send now; it goes on waiting."""
        world, identity = self._world, terminal.folder.identity
        uploader = Uploader(world.trust.suite, identity.certificate, identity.key)
        first, made = terminal.journal.acknowledged() + 1, []
        while (sealed := seal_next(terminal.journal, uploader, first, world.clock(), Limits())) is not None:
            made.append(sealed[0])
            first = sealed[0].last + 1
        return made

    def _booked_apart(self, uploads: Sequence[Sequence[Batch]]) -> object:
        """The balances of books of their own that get these uploads in this order."""
        from offline_sync.clearing import Clearing

        world = self._world
        with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
            keys = scheme.clearing_keys()
            loads, receipts = list(scheme.load_orders()), list(scheme.receipts())
        clearing = Clearing("sqlite://", world.bundle, keys, world.clock)
        try:
            for order, returns in loads:
                clearing.book_order(order, returns)
            for receipt, certificate in receipts:
                clearing.book_load(receipt, certificate)
            for batches in uploads:
                for batch in batches:
                    clearing.accept(batch)
            report = clearing.report()
        finally:
            clearing.close()
        return report.conservation, report.payees, report.cards, report.losses, report.evidence

    def _deny(self, step: Step, card: WorldCard, service: Service) -> None:
        """The denylist grows by one; the till fetches it, the bus gets it by file."""
        world, shop, bus, till = (
            self._world,
            self._teller.shop,
            self._teller.bus,
            self._world.terminals["till"],
        )
        self._stage.lay(card.card)
        self._stage.tear_at(PAY_FIRST_MEETING, "after")
        sale = till.terminal.new_sale(300)
        self._teller.tap_again(step, "till 3.00, torn", card, till, sale)
        before = len(shop.session.denylists.held[0])
        with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
            published = scheme.publish_denylist([card.number], [], world.clock())
            service.hand_over(scheme, world.clock())
        carried = world.folder / "denylist"
        carried.write_bytes(published.full)
        fetch_notices(world, shop, service.url)
        bus.session.denylists.offer_file(carried)
        held = [terminal.session.denylists.held[0] for terminal in (shop, bus)]
        step.check("the denylist grew by one", [len(one) for one in held] == [before + 1] * 2)
        step.say("The denylist grows by one. The shop fetches it, the bus gets it as a file.")
        refused = self._teller.tap(step, "shop, denied", card, shop, shop.terminal.new_sale(100))
        step.check("the shop refuses the card", refused.outcome is Outcome.DECLINED)
        step.check("and carries its record of the till all the same", refused.carried == 1)
        ride = self._teller.tap(step, "bus, denied", card, bus, self._teller.fare())
        step.check("the bus refuses it too", ride.outcome is Outcome.DECLINED)
        back = self._teller.tap(step, "back at the till", card, till, sale)
        step.check("what was paid before is granted where it was sold, once", back.granted and back.recovered)

    # ------------------------------------------------------------------ 10: orders

    def _order(self, service: Service) -> None:
        with self._teller.step("10", "Orders find their cards") as step:
            self._block(step, service)
            self._raise(step, service)

    def _block(self, step: Step, service: Service) -> None:
        world, shop = self._world, self._teller.shop
        card = world.add_card("lost", SMALL_TIER, 5_000)
        with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
            older = scheme.card_order(card.number, KIND_UNBLOCK, b"", world.clock())
            scheme.card_order(card.number, KIND_BLOCK, b"", world.clock())
            service.hand_over(scheme, world.clock())
        fetch_notices(world, shop, service.url)
        lost = self._teller.tap(step, "shop 1.00, the lost card", card, shop, shop.terminal.new_sale(100))
        step.check("the lost card is blocked at the next terminal that it meets", not lost.granted)
        step.check("by itself, from then on", bool(card.card.card_state().state & STATE_BLOCKED))
        answer = self._speak(card, lambda link: self._present_order(link, older))
        step.check("an older order to unblock it is refused", answer == sw.ORDER_TOO_OLD)
        step.check("it stays blocked, and keeps its 50.00", card.balance_fen == 5_000)
        step.say(
            "A lost card is reported. The issuer's order waits at the terminals and blocks the card before "
            "it can pay; an older order to unblock it comes too late for ever."
        )

    def _raise(self, step: Step, service: Service) -> None:
        world, shop = self._world, self._teller.shop
        card = world.add_card("commuter", SMALL_TIER, 10_000)
        limits = replace(tiers()[SMALL_TIER].limits, offline_total_fen=3_000)
        with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
            scheme.card_order(card.number, KIND_LIMITS, limits_value(limits, SMALL_TIER), world.clock())
            service.hand_over(scheme, world.clock())
        fetch_notices(world, shop, service.url)
        paid = self._teller.tap(step, "shop 30.00", card, shop, shop.terminal.new_sale(3_000))
        sale = shop.terminal.new_sale(500)
        used_up = self._teller.tap_again(step, "shop 5.00, allowance used up", card, shop, sale)
        step.check("30.00 is all that the card may pay offline", paid.granted and not used_up.granted)
        self._send(step, service, shop)
        arrived = service.arrived(card.number)
        with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
            value = acknowledge_value(*arrived)
            order = scheme.card_order(card.number, KIND_ACKNOWLEDGE, value, world.clock())
            service.hand_over(scheme, world.clock())
        fetch_notices(world, shop, service.url)
        again = self._teller.tap(step, "shop 5.00, allowance raised", card, shop, sale)
        step.check("a reset order raises the allowance", again.granted)
        answer = self._speak(card, lambda link: self._present_order(link, order))
        step.check("once: the same order again is refused", answer == sw.ORDER_TOO_OLD)
        step.say(
            "Another card has used up what it may pay offline. Its payments have arrived, so the issuer's "
            "next order raises its allowance again, once."
        )

    def _present_order(self, link: CardLink, order: bytes) -> int:
        session = WalletSession(link, self._world.trust.suite)
        session.select()
        try:
            session.order(order)
        except CardRefused as refused:
            return refused.sw
        return sw.OK

    # ------------------------------------------------------------------ 11: the end of the day

    def _end_the_day(self, service: Service) -> Conservation:
        with self._teller.step("11", "The day is closed") as step:
            world = self._world
            self._stage.take()
            self._send(step, service, *world.terminals.values())
            with open_clearing(world.scheme_folder) as clearing:
                closing = clearing.close_day(beijing_day(world.clock()))
                folder = world.folder / "settlement"
                paths = clearing.write_settlements(closing.number, folder)
                disputes = clearing.disputes()
            report = service.report()
            for path in paths:
                self._check_settlement(step, path, report)
            step.check("every merchant has its file", len(paths) == len(report.payees))
            step.check("nothing waits in suspense", report.suspense_fen == 0)
            step.check("one dispute, with its file", [row.kind for row in disputes] == ["clone"])
            accounted = conservation(world, report)
            step.check("no fen is missing, none too many", accounted.ok)
            step.say(accounted.line())
        return accounted

    def _check_settlement(self, step: Step, path: Path, report: "Report") -> None:
        """Totals, ledger and receipts: the rows are what the journals hold, and add up to the balance."""
        rows: list[Row] = []
        with path.open("rb") as stream:
            settlement = read(stream, self._world.bundle, rows.append)
        payee = settlement.header.payee.hex()
        balance_fen = next(line.balance_fen for line in report.payees if line.payee == payee)
        step.check(
            f"the file of merchant {payee} closes with {format_amount(balance_fen)}, as the ledger does",
            settlement.totals.closing_fen == balance_fen == sum(row.amount_fen for row in rows),
        )
        receipts = {
            (record.card.hex(), record.sequence, _moved_fen(record))
            for record in journal_records(self._world)
            if record.payee.hex() == payee
        }
        settled = {
            (row.card, row.sequence, row.amount_fen) for row in rows if row.kind in ("payment", "refund")
        }
        step.check("its rows are the receipts, each once", settled == receipts)

    def _send(self, step: Step, service: Service, *terminals: WorldTerminal) -> None:
        for terminal in terminals:
            waiting = terminal.journal.waiting().entries
            done = not waiting or send(self._world, terminal, service.url).ok
            step.check(
                f"the {terminal.name} has sent what waited",
                done and terminal.journal.waiting().entries == 0,
            )

    def _speak(self, card: WorldCard, said: Callable[[CardLink], T]) -> T:
        """Something is said to the card that lies on the stage."""
        link = self._stage.reader.wait_for_card(ARRIVAL_S)
        try:
            return said(ModelledLink(link, card.model))
        finally:
            link.close()


def _records(card: WorldCard, kind: int) -> list[Record]:
    return [record for record in card.card.journal_records() if record.kind == kind]


def _moved_fen(record: Record) -> int:
    """What the payee gets by a record; below zero where it gives."""
    return record.amount_fen if record.kind == PAYMENT else -record.amount_fen


def _account_fen(report: "Report", card: bytes) -> int:
    return next(line.balance_fen for line in report.cards if line.card == card.hex())


def _payment(card: WorldCard, amount_fen: int) -> Record:
    """The card's payment of an amount that it paid once."""
    (found,) = (record for record in _records(card, PAYMENT) if record.amount_fen == amount_fen)
    return found
