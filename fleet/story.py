"""The main job, end to end: cards pay terminals that have no network, and the money arrives.

Every claim of the story is checked against the cards, the journals and the ledger; a step is `ok` only when
its checks hold. Steps 1 to 6 are here, the operator's side (7 to 11) in operator_story.py.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fleet.conservation import Conservation, conservation
from fleet.operator_story import OperatorStory
from fleet.stage import Stage, card_uri
from fleet.telling import RIDE_FEN, Step, Story, Teller
from fleet.upload import Arrival, clearing_service, send
from fleet.world import ARRIVAL_S, WorldCard, create_world
from hardwallet import status as sw
from hardwallet.card.simulated import SimulatedCard
from hardwallet.suites import Suite
from pos_terminal.money import format_amount
from pos_terminal.ports import Clock, Entropy, Stopwatch
from pos_terminal.sale import SaleState
from pos_terminal.tap import Outcome

SMALL_TIER: Final = 5
LARGE_TIER: Final = 4
PAY_KNOWN: Final = 2
"""PAY is the second exchange when card and terminal know each other."""
_CHILD_S: Final = 30


def tell(
    stage: Stage,
    clock: Clock,
    stopwatch: Stopwatch,
    entropy: Entropy,
    told: Callable[[Step], None] = lambda _step: None,
    suite: Suite | None = None,
) -> Story:
    """Tell the whole story on `stage`, in a folder that is removed afterwards; `told` gets each step as it
    ends."""
    with tempfile.TemporaryDirectory(prefix="hardwallet-demo-") as folder:
        world = create_world(Path(folder), clock, stopwatch, entropy, suite)
        try:
            return _Teller(world, stage, told).tell()
        finally:
            stage.close()
            world.close()


class _Teller(Teller):
    """The story under way."""

    def tell(self) -> Story:
        """All of it."""
        self._make_scheme()
        self._pay_offline()
        self._leave_before_the_reply()
        self._travel_by_bus()
        self._kill_the_till()
        accounted = self._arrive()
        if all(step.ok for step in self.steps):  # the operator's side stands on what was told before
            accounted = OperatorStory(self).tell()
        suite = self.world.trust.suite.number
        return Story(self.stage.reader.uri, self.stage.stack, suite, self.steps, accounted)

    def _make_scheme(self) -> None:
        with self.step("1", "A scheme, its terminals, its cards") as step:
            card = self.world.add_card("card", SMALL_TIER, 20_000)
            large = self.world.add_card("large", LARGE_TIER, 80_000, pin="271828")
            shop = self.world.add_terminal("shop", "retail", 1)
            bus = self.world.add_terminal("bus", "transit", 2, vehicle="B042")
            operators = self.world.bundle.operators
            step.say(
                f"Scheme {self.world.bundle.scheme.hex()} has a root, an issuing operator "
                f"({operators[0].operator.hex()}) and an acquiring one ({operators[1].operator.hex()})."
            )
            step.say(
                f"A shop terminal ({shop.payee.hex()}) and a bus terminal ({bus.payee.hex()}) have "
                "their certificates. "
                f"Card {card.number.hex()} is loaded with {format_amount(card.balance_fen)}, card "
                f"{large.number.hex()}, "
                f"which has a PIN, with {format_amount(large.balance_fen)}."
            )
            step.check("the first card holds 200.00", card.balance_fen == 20_000)
            step.check("the second card holds 800.00", large.balance_fen == 80_000)
            step.check(
                "the root, an issuing and an acquiring operator verify",
                [o.klass for o in operators] == [1, 2],
            )

    def _pay_offline(self) -> None:
        with self.step("2", "The network is off. The shop and the bus take money") as step:
            card, shop = self.card, self.shop
            paid = self.tap(
                step, "shop 12.50, retail, first meeting", card, shop, shop.terminal.new_sale(1250)
            )
            step.say("The shop takes 12.50: the terminal proves itself, then the card signs.")
            step.check("the shop granted 12.50", paid.granted)
            if paid.record is not None:
                step.show(paid.record, SaleState.GRANTED)
            ride = self.tap(step, "bus 2.00, transit, first meeting", card, self.bus, self.fare())
            step.say("The bus takes 2.00: the card signs, the terminal need not.")
            step.check("the bus granted 2.00", ride.granted)
            known = self.tap_again(step, "bus 2.00, transit, known", card, self.bus, self.fare())
            step.say("The next ride takes three exchanges: SELECT, PAY, RATIFY.")
            step.check("the bus granted the next ride", known.granted)
            step.check("the card holds 183.50", card.balance_fen == 20_000 - 1_250 - 2 * 200)
            self._pay_with_pin(step)

    def _pay_with_pin(self, step: Step) -> None:
        card, shop = self.world.cards["large"], self.shop
        sale = shop.terminal.new_sale(38_000)
        asked = self.tap(step, "shop 380.00, no PIN yet", card, shop, sale)
        step.check("380.00 asks for a PIN", asked.outcome is Outcome.PIN_WANTED)
        paid = self.tap_again(step, "shop 380.00 with the PIN", card, shop, sale, "271828")
        step.say("380.00 lies above the PIN-free limit: with the PIN the shop takes it, once.")
        step.check("the shop granted 380.00", paid.granted and card.balance_fen == 42_000)
        other = shop.terminal.new_sale(30_001)
        wrong = self.tap_again(step, "a wrong PIN", card, shop, other, "141421")
        step.check("a wrong PIN costs a try", sw.tries_left(wrong.status_word) == 2)
        self.stage.tear_at(PAY_KNOWN, "after")
        torn = self.tap_again(step, "a wrong PIN, torn", card, shop, other, "141421")
        tries = card.card.card_state().tries
        step.check("a torn try is spent too", torn.outcome is Outcome.UNRESOLVED and tries == 1)
        locked = self.tap(step, "the third", card, shop, other, "141421")
        step.check("the third locks it", locked.status_word == sw.PIN_LOCKED)
        step.check("nothing was debited by it", card.balance_fen == 42_000)
        step.say("A wrong PIN costs a try, a torn one too, the third locks the PIN. Nothing was debited.")

    def _leave_before_the_reply(self) -> None:
        with self.step("3", "A card leaves after it committed, before the reply") as step:
            card, shop = self.card, self.shop
            before_fen = card.balance_fen
            sale = shop.terminal.new_sale(900)
            self.stage.lay(card.card)
            self.stage.tear_at(PAY_KNOWN, "after")
            torn = self.tap_again(step, "shop 9.00, torn", card, shop, sale)
            step.say("The card has paid, and the till does not know: the sale is unresolved, not refused.")
            step.check("the sale is unresolved", torn.outcome is Outcome.UNRESOLVED)
            step.check("the card is debited", card.balance_fen == before_fen - 900)
            again = self.tap(step, "the same card again", card, shop, sale)
            step.say(
                'Presented again it says "already paid", with a fresh proof: granted once, debited once.'
            )
            step.check("granted from the card's own record", again.granted and again.recovered)
            step.check("debited once", card.balance_fen == before_fen - 900)
            third = self.tap(step, "and once more", card, shop, sale)
            step.check("not granted twice", not third.granted)
            step.check("still debited once", card.balance_fen == before_fen - 900)

    def _travel_by_bus(self) -> None:
        with self.step("4", "A torn payment travels by bus") as step:
            card, shop, bus = self.card, self.shop, self.bus
            before_fen = card.balance_fen
            sale = shop.terminal.new_sale(1_600)
            self.stage.lay(card.card)
            self.stage.tear_at(PAY_KNOWN, "after")
            self.tap_again(step, "shop 16.00, torn", card, shop, sale)
            ride = self.tap(step, "bus 2.00, which carries it", card, bus, self.fare())
            step.say(
                "Torn at the till, the card goes to the bus. The bus takes its own fare, then "
                "carries the record."
            )
            step.check("the bus granted its fare", ride.granted)
            step.check("the bus carries one record", ride.carried == 1)
            step.check("both were debited once", card.balance_fen == before_fen - 1_600 - 200)
            back = self.tap(step, "back at the till", card, shop, sale)
            step.say("Back at the till the card is not debited again.")
            step.check("the till grants the recovered payment", back.granted and back.recovered)
            step.check("the card is not debited again", card.balance_fen == before_fen - 1_800)

    def _kill_the_till(self) -> None:
        with self.step("5", "The till is killed between keeping a payment and ratifying it") as step:
            card = self.card
            before_fen, waiting = card.balance_fen, self.shop.journal.waiting()
            folder = self.world.stop("shop")
            said, status = self._killed_till(card, folder, 450)
            shop = self.world.restart("shop")
            now = shop.journal.waiting()
            step.say(
                "The till gets SIGKILL right after the payment is on its disk. It starts again, "
                "its queue whole."
            )
            step.check("the payment was durable when the till was killed", said == "durable")
            step.check("it was killed", status == -signal.SIGKILL)
            step.check(
                "the queue has one payment of 4.50 more",
                (now.count, now.amount_fen) == (waiting.count + 1, waiting.amount_fen + 450),
            )
            step.check("every entry of its journal verifies", shop.journal.verify_all().ok)
            step.check("the card was debited once", card.balance_fen == before_fen - 450)
            ride = self.tap(step, "bus 2.00, carries the rest", card, self.bus, self.fare())
            step.check("the unratified record travels by bus too", ride.granted and ride.carried == 1)

    def _killed_till(self, card: WorldCard, folder: Path, amount_fen: int) -> tuple[str, int]:
        """What the till's process said before it was killed, and how it ended."""
        simulated = self.stage.stack == "sim"
        if simulated:
            card.card.close()  # the till's process is the one that has the card now
            uri = card_uri(card.path)
        else:
            self.stage.lay(card.card)
            uri = self.stage.reader.uri
        command = [sys.executable, "-m", "fleet.interrupted_till", str(folder), uri, str(amount_fen)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            try:
                said = child.stdout.readline().strip() if child.stdout else ""
            finally:
                child.kill()
                status = child.wait(_CHILD_S)
        if simulated:
            card.card = SimulatedCard(card.path, self.world.entropy, card.model.operation)
        else:
            # pcscd resets the card of a client that died. One that has left by then is taken for absent,
            # and the next one is overlooked: so this one stays until pcscd has let go of it.
            self.stage.reader.wait_for_card(ARRIVAL_S).close()
            self.stage.take()
        return said, status

    def _arrive(self) -> Conservation:
        with self.step("6", "The network is back, and the money arrives") as step:
            world, shop, bus = self.world, self.shop, self.bus
            self.stage.take()
            offline = conservation(world, None)
            step.check("before it, all money is on cards and in queues", offline.ok)
            alone = send(world, shop, "http://127.0.0.1:9")
            step.check(
                "a try with no network loses nothing",
                not alone.ok and shop.journal.waiting().amount_fen == self._taken_fen(shop.payee),
            )
            with clearing_service(world.scheme_folder) as service:
                cut = send(world, bus, service.url, cut=True)
                shop_fen = service.balance_fen(shop.payee)
                step.say(
                    "The bus uploads first. The shop's torn payments arrive by way of it: the shop, "
                    "whose till is "
                    f"still silent, is credited {format_amount(shop_fen)}."
                )
                step.check("the shop is credited by way of the bus", shop_fen == 1_600 + 450)
                again = send(world, bus, service.url)
                step.say(
                    "The bus loses its power as the acknowledgement arrives and sends the same "
                    "batch again; then the "
                    "till sends its own. Each payment counts once."
                )
                step.check("the same batch twice brings the same receipt", again.ok and again == cut)
                own = send(world, shop, service.url)
                step.check("the shop's upload is acknowledged", own.ok)
                accounted = conservation(world, service.report())
            self._settle(step, accounted, [again, own])
        return accounted

    def _taken_fen(self, payee: bytes) -> int:
        """What the story took for a payee, to be compared with what the books say."""
        shop_fen = 1_250 + 38_000 + 900 + 1_600 + 450
        return shop_fen if payee == self.shop.payee else RIDE_FEN * self.rides

    def _settle(self, step: Step, accounted: Conservation, arrivals: list[Arrival]) -> None:
        shop, bus = self.shop, self.bus
        for payee in (shop.payee, bus.payee):
            expected_fen = self._taken_fen(payee)
            step.check(
                f"merchant {payee.hex()} has {format_amount(expected_fen)}",
                accounted.payees_fen.get(payee.hex()) == expected_fen,
            )
        for name, card in self.world.cards.items():
            account_fen = accounted.accounts_fen.get(card.number.hex())
            step.check(
                f"the account of {name} and the card itself agree: {format_amount(card.balance_fen)}",
                account_fen == card.balance_fen,
            )
        step.check("nothing was refused", all(arrival.rejected == 0 for arrival in arrivals))
        step.check(
            "nothing waits any more", shop.journal.waiting().entries == bus.journal.waiting().entries == 0
        )
        step.check("no fen is missing, none too many", accounted.ok)
        step.say(accounted.line())
