"""The main job, end to end: cards pay terminals that have no network, and the money arrives.

Every claim of the story is checked against the cards, the journals and the ledger; a step is `ok` only when
its checks hold.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from fleet.conservation import Conservation, conservation
from fleet.stage import Stage, card_uri
from fleet.upload import Arrival, clearing_service, send
from fleet.world import World, WorldCard, WorldTerminal, create_world
from hardwallet import status as sw
from hardwallet.card.simulated import SimulatedCard
from hardwallet.suites import Suite
from pos_terminal.money import format_amount
from pos_terminal.ports import Clock, Entropy, Stopwatch
from pos_terminal.receipts import receipt
from pos_terminal.sale import SaleState
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Charge, Fare

SMALL_TIER: Final = 5
LARGE_TIER: Final = 4
PAY_KNOWN: Final = 2
"""PAY is the second exchange when card and terminal know each other."""
RIDE_FEN: Final = 200
_CHILD_S: Final = 30
_BEIJING: Final = timezone(timedelta(hours=8))


def today(now_s: int) -> int:
    """The service day of a time, YYYYMMDD, in Beijing time."""
    return int(datetime.fromtimestamp(now_s, _BEIJING).strftime("%Y%m%d"))


@dataclass(slots=True)
class TapLine:
    """One tap of a step, for the table below it."""

    what: str
    outcome: str
    phases_ms: dict[str, float]
    modelled_ms: dict[str, float]


@dataclass(slots=True)
class Step:
    """One step: its paragraph, its checks (claim, held), its taps."""

    id: str
    title: str
    text: list[str] = field(default_factory=list)
    checks: list[tuple[str, bool]] = field(default_factory=list)
    taps: list[TapLine] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every check held, and there was one."""
        return bool(self.checks) and all(held for _, held in self.checks)

    def say(self, text: str) -> None:
        """A sentence of the paragraph."""
        self.text.append(text)

    def check(self, claim: str, held: bool) -> None:
        """A claim, and whether it holds."""
        self.checks.append((claim, held))

    @property
    def phases_ms(self) -> dict[str, float]:
        """Measured host milliseconds by phase, over the step's taps."""
        return _summed(line.phases_ms for line in self.taps)

    @property
    def modelled_ms(self) -> dict[str, float]:
        """Modelled air and card milliseconds by phase, over the step's taps."""
        return _summed(line.modelled_ms for line in self.taps)


def _summed(rows: Iterator[dict[str, float]] | list[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for row in rows:
        for name, value in row.items():
            total[name] = round(total.get(name, 0.0) + value, 3)
    return total


@dataclass(slots=True)
class Story:
    """What was told: the reader it went through, the steps, and whether all money is accounted for."""

    reader_uri: str
    stack: str
    suite: int
    steps: list[Step]
    conservation: Conservation

    @property
    def ok(self) -> bool:
        """Every step held, and no fen is missing."""
        return all(step.ok for step in self.steps) and self.conservation.ok


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


class _Teller:
    """The story under way."""

    def __init__(self, world: World, stage: Stage, told: Callable[[Step], None]) -> None:
        self._world = world
        self._stage = stage
        self._told = told
        self._steps: list[Step] = []
        self._run = 0

    def tell(self) -> Story:
        self._make_scheme()
        self._pay_offline()
        self._leave_before_the_reply()
        self._travel_by_bus()
        self._kill_the_till()
        accounted = self._arrive()
        suite = self._world.trust.suite.number
        return Story(self._stage.reader.uri, self._stage.stack, suite, self._steps, accounted)

    @contextmanager
    def _step(self, number: str, title: str) -> Iterator[Step]:
        step = Step(number, title)
        yield step
        self._steps.append(step)
        self._told(step)

    # ------------------------------------------------------------------ the people

    @property
    def _shop(self) -> WorldTerminal:
        return self._world.terminals["shop"]

    @property
    def _bus(self) -> WorldTerminal:
        return self._world.terminals["bus"]

    @property
    def _card(self) -> WorldCard:
        return self._world.cards["card"]

    def _fare(self) -> Fare:
        """Another ride each time."""
        self._run += 1
        return Fare(RIDE_FEN, self._bus.session.vehicle, today(self._world.clock()), self._run)

    def _tap(
        self, step: Step, what: str, card: WorldCard, at: WorldTerminal, charge: Charge, pin: str = ""
    ) -> Tap:
        self._stage.lay(card.card)
        return self._tap_again(step, what, card, at, charge, pin)

    def _tap_again(
        self, step: Step, what: str, card: WorldCard, at: WorldTerminal, charge: Charge, pin: str = ""
    ) -> Tap:
        result = self._world.tap(self._stage, card, at, charge, pin)
        step.taps.append(
            TapLine(
                what,
                result.outcome.words,
                {name: round(phase.host_ms, 3) for name, phase in result.phases.items()},
                {name: round(phase.modelled_ms, 2) for name, phase in result.phases.items()},
            )
        )
        return result

    # ------------------------------------------------------------------ the steps

    def _make_scheme(self) -> None:
        with self._step("1", "A scheme, its terminals, its cards") as step:
            card = self._world.add_card("card", SMALL_TIER, 20_000)
            large = self._world.add_card("large", LARGE_TIER, 80_000, pin="271828")
            shop = self._world.add_terminal("shop", "retail", 1)
            bus = self._world.add_terminal("bus", "transit", 2, vehicle="B042")
            operators = self._world.bundle.operators
            step.say(
                f"Scheme {self._world.bundle.scheme.hex()} has a root, an issuing operator "
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
        with self._step("2", "The network is off. The shop and the bus take money") as step:
            card, shop = self._card, self._shop
            paid = self._tap(
                step, "shop 12.50, retail, first meeting", card, shop, shop.terminal.new_sale(1250)
            )
            step.say("The shop takes 12.50: the terminal proves itself, then the card signs.")
            step.check("the shop granted 12.50", paid.granted)
            if paid.record is not None:
                step.say("Its receipt:\n\n" + receipt(paid.record, SaleState.GRANTED, zone=_BEIJING))
            ride = self._tap(step, "bus 2.00, transit, first meeting", card, self._bus, self._fare())
            step.say("The bus takes 2.00: the card signs, the terminal need not.")
            step.check("the bus granted 2.00", ride.granted)
            known = self._tap_again(step, "bus 2.00, transit, known", card, self._bus, self._fare())
            step.say("The next ride takes three exchanges: SELECT, PAY, RATIFY.")
            step.check("the bus granted the next ride", known.granted)
            step.check("the card holds 183.50", card.balance_fen == 20_000 - 1_250 - 2 * 200)
            self._pay_with_pin(step)

    def _pay_with_pin(self, step: Step) -> None:
        card, shop = self._world.cards["large"], self._shop
        sale = shop.terminal.new_sale(38_000)
        asked = self._tap(step, "shop 380.00, no PIN yet", card, shop, sale)
        step.check("380.00 asks for a PIN", asked.outcome is Outcome.PIN_WANTED)
        paid = self._tap_again(step, "shop 380.00 with the PIN", card, shop, sale, "271828")
        step.say("380.00 lies above the PIN-free limit: with the PIN the shop takes it, once.")
        step.check("the shop granted 380.00", paid.granted and card.balance_fen == 42_000)
        other = shop.terminal.new_sale(30_001)
        wrong = self._tap_again(step, "a wrong PIN", card, shop, other, "141421")
        step.check("a wrong PIN costs a try", sw.tries_left(wrong.status_word) == 2)
        self._stage.tear_at(PAY_KNOWN, "after")
        torn = self._tap_again(step, "a wrong PIN, torn", card, shop, other, "141421")
        tries = card.card.card_state().tries
        step.check("a torn try is spent too", torn.outcome is Outcome.UNRESOLVED and tries == 1)
        locked = self._tap(step, "the third", card, shop, other, "141421")
        step.check("the third locks it", locked.status_word == sw.PIN_LOCKED)
        step.check("nothing was debited by it", card.balance_fen == 42_000)
        step.say("A wrong PIN costs a try, a torn one too, the third locks the PIN. Nothing was debited.")

    def _leave_before_the_reply(self) -> None:
        with self._step("3", "A card leaves after it committed, before the reply") as step:
            card, shop = self._card, self._shop
            before_fen = card.balance_fen
            sale = shop.terminal.new_sale(900)
            self._stage.lay(card.card)
            self._stage.tear_at(PAY_KNOWN, "after")
            torn = self._tap_again(step, "shop 9.00, torn", card, shop, sale)
            step.say("The card has paid, and the till does not know: the sale is unresolved, not refused.")
            step.check("the sale is unresolved", torn.outcome is Outcome.UNRESOLVED)
            step.check("the card is debited", card.balance_fen == before_fen - 900)
            again = self._tap(step, "the same card again", card, shop, sale)
            step.say(
                'Presented again it says "already paid", with a fresh proof: granted once, debited once.'
            )
            step.check("granted from the card's own record", again.granted and again.recovered)
            step.check("debited once", card.balance_fen == before_fen - 900)
            third = self._tap(step, "and once more", card, shop, sale)
            step.check("not granted twice", not third.granted)
            step.check("still debited once", card.balance_fen == before_fen - 900)

    def _travel_by_bus(self) -> None:
        with self._step("4", "A torn payment travels by bus") as step:
            card, shop, bus = self._card, self._shop, self._bus
            before_fen = card.balance_fen
            sale = shop.terminal.new_sale(1_600)
            self._stage.lay(card.card)
            self._stage.tear_at(PAY_KNOWN, "after")
            self._tap_again(step, "shop 16.00, torn", card, shop, sale)
            ride = self._tap(step, "bus 2.00, which carries it", card, bus, self._fare())
            step.say(
                "Torn at the till, the card goes to the bus. The bus takes its own fare, then "
                "carries the record."
            )
            step.check("the bus granted its fare", ride.granted)
            step.check("the bus carries one record", ride.carried == 1)
            step.check("both were debited once", card.balance_fen == before_fen - 1_600 - 200)
            back = self._tap(step, "back at the till", card, shop, sale)
            step.say("Back at the till the card is not debited again.")
            step.check("the till grants the recovered payment", back.granted and back.recovered)
            step.check("the card is not debited again", card.balance_fen == before_fen - 1_800)

    def _kill_the_till(self) -> None:
        with self._step("5", "The till is killed between keeping a payment and ratifying it") as step:
            card = self._card
            before_fen, waiting = card.balance_fen, self._shop.journal.waiting()
            folder = self._world.stop("shop")
            said, status = self._killed_till(card, folder, 450)
            shop = self._world.restart("shop")
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
            ride = self._tap(step, "bus 2.00, carries the rest", card, self._bus, self._fare())
            step.check("the unratified record travels by bus too", ride.granted and ride.carried == 1)

    def _killed_till(self, card: WorldCard, folder: Path, amount_fen: int) -> tuple[str, int]:
        """What the till's process said before it was killed, and how it ended."""
        simulated = self._stage.stack == "sim"
        if simulated:
            card.card.close()  # the till's process is the one that has the card now
            uri = card_uri(card.path)
        else:
            self._stage.lay(card.card)
            uri = self._stage.reader.uri
        command = [sys.executable, "-m", "fleet.interrupted_till", str(folder), uri, str(amount_fen)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            try:
                said = child.stdout.readline().strip() if child.stdout else ""
            finally:
                child.kill()
                status = child.wait(_CHILD_S)
        if simulated:
            card.card = SimulatedCard(card.path, self._world.entropy, card.model.operation)
        else:
            self._stage.take()
        return said, status

    def _arrive(self) -> Conservation:
        with self._step("6", "The network is back, and the money arrives") as step:
            world, shop, bus = self._world, self._shop, self._bus
            self._stage.take()
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
        return shop_fen if payee == self._shop.payee else RIDE_FEN * self._run

    def _settle(self, step: Step, accounted: Conservation, arrivals: list[Arrival]) -> None:
        shop, bus = self._shop, self._bus
        for payee in (shop.payee, bus.payee):
            expected_fen = self._taken_fen(payee)
            step.check(
                f"merchant {payee.hex()} has {format_amount(expected_fen)}",
                accounted.payees_fen.get(payee.hex()) == expected_fen,
            )
        for name, card in self._world.cards.items():
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
