"""A throw-away world with a till or a bus in it, and a tray of cards to try; nothing of it is left behind.

A temporary folder, a scheme of its own, cards of every kind that a cashier meets, each made as a real one is:
the blocked one obeyed its issuer's order, the cloned one has paid twice under one number, by which copies are
found.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from firmware_bridge.virtual.in_process import InProcessReader
from fleet.clearing_child import ClearingProcess
from fleet.open import TerminalSession, open_operator_client, system_clock
from fleet.station import Field
from fleet.tray import Hand, HandledCard, Tear, TearPlace, WatchedField
from fleet.uplink import Uplink
from fleet.world import World, WorldCard, create_world
from hardwallet.card.applet import Card
from hardwallet.issuing import open_scheme
from hardwallet.messages import KIND_BLOCK
from hardwallet.riders import Rider
from hardwallet.session import WalletSession
from offline_sync.errors import SyncError
from pos_terminal.ports import Clock, Entropy, Stopwatch
from pos_terminal.tap import tap

__all__ = ["Playground", "TearPlace", "TrayCard", "open_playground"]

Kind = Literal["cashier", "bus"]
Pause = Callable[[float], None]

PIN: Final = "271828"
SEALING_COST: Final = 2
"""The keys of this world protect nothing, and are gone with it."""
MOST_RIDERS: Final = 40
"""Cards for a busy bus; then the same people ride again."""
FASTEST: Final = 5.0
"""Riders a second, at most."""
_SMALL_TIER: Final = 5
_LARGE_TIER: Final = 4
_CLONE_FEN: Final = 100
_RIDER_FEN: Final = 20_000
_RIDERS: Final = (Rider.ADULT, Rider.ADULT, Rider.STUDENT, Rider.ADULT, Rider.SENIOR)
_RIDER_LEAVES_S: Final = 0.03
_TURN_S: Final = 0.2
_VEHICLE: Final = "B042"
_MARKET: Final = "market"
_STARTING: Final = "the simulated clearing is starting"
_NONE: Final = "no clearing runs in this simulation"
START_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class TrayCard:
    """A card on the tray. `name` never changes; screens say it in words."""

    name: str


TRAY: Final = tuple(
    TrayCard(name)
    for name in (
        "adult",
        "student",
        "senior",
        "empty",
        "blocked",
        "cloned",
        "foreign",
        "pin",
        "denied",
    )
)


class Playground:
    """The world under way: the terminal's session and field for a station, and what a person does at it."""

    def __init__(self, world: World, cards: list[WorldCard], kind: Kind, pause: Pause | None) -> None:
        """`cards` lie on the tray in its order. `pause` waits for a busy rider's turn, for tests."""
        self.session: TerminalSession = world.terminals[kind].session
        self.tray = list(TRAY)
        self.pin = PIN
        self.uplink = Uplink("", reason=_NONE, entropy=world.entropy)
        self._world = world
        self._tear = Tear()
        self._cards = [HandledCard(card.card, self._tear) for card in cards]
        self._reader = InProcessReader(self._cards[0], "sim:tray", present=False)
        self._hand = Hand(self._reader)
        self.field: Field = WatchedField(self._reader, self._hand.visited)
        self._changed = threading.Condition()
        self._closing = False
        self._issuing = threading.Lock()  # the scheme's folder has one user at a time
        self._riders_a_second = 0.0
        self._riders: list[HandledCard] = []
        self._pause = pause
        self._rider_thread = threading.Thread(target=self._ride, name="riders", daemon=True)
        self._clearing_thread = threading.Thread(target=self._run_clearing, name="clearing", daemon=True)
        self._clearing: ClearingProcess | None = None
        self._start_after_s = START_AFTER_S

    def tap(self, place: int) -> None:
        """Hold the card at that place of the tray (0 is the first) to the reader; it leaves by itself.
        Returns at once."""
        if 0 <= place < len(self._cards):
            self._hand.lay(self._cards[place])

    def two_cards(self) -> None:
        """Hold two cards to the reader at once, for a moment."""
        self._hand.lay_two(self._cards[0])

    def set_tear(self, place: TearPlace) -> None:
        """The next tap is torn there, once."""
        self._tear.place = place

    @property
    def tear(self) -> TearPlace:
        """Where the next tap is torn."""
        return self._tear.place

    def set_network(self, on: bool) -> None:
        """Switch the terminal's network on or off."""
        self.uplink.switch(on)

    def set_busy(self, riders_a_second: float) -> None:
        """Riders tap by themselves, 0 to 5 a second."""
        with self._changed:
            self._riders_a_second = max(0.0, min(FASTEST, riders_a_second))
            if self._riders_a_second and self._rider_thread.ident is None and not self._closing:
                self._rider_thread.start()
            self._changed.notify_all()

    # ---------------------------------------------------------------------------------------------- riders

    def _ride(self) -> None:
        turn = 0
        while self._wait_for_a_turn():
            if not self._hand.free:
                continue
            self._invite()
            if self._riders:
                self._hand.lay(self._riders[turn % len(self._riders)], _RIDER_LEAVES_S)
                turn += 1

    def _invite(self) -> None:
        """One rider more, as long as there are not enough. While clearing starts, it has the scheme."""
        if len(self._riders) < MOST_RIDERS and self._issuing.acquire(timeout=_TURN_S):
            try:
                self._riders.append(HandledCard(self._new_rider(len(self._riders)), Tear()))
                if len(self._riders) == MOST_RIDERS:
                    self._tell_loads(self.uplink.url)
            finally:
                self._issuing.release()

    def _wait_for_a_turn(self) -> bool:
        """False when everything ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._riders_a_second)
            rate = self._riders_a_second
            if self._pause is None and rate:
                self._changed.wait_for(lambda: self._closing, 1 / rate)
        if self._pause is not None and rate:
            self._pause(1 / rate)
        return not self._closing

    def _new_rider(self, number: int) -> Card:
        """A card in memory only, issued and loaded as any other."""
        world = self._world
        rider = _RIDERS[number % len(_RIDERS)]
        with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
            identity, memory = scheme.new_card(
                _SMALL_TIER, world.clock(), balance_fen=_RIDER_FEN, rider=rider
            )
            card = Card(identity, memory, world.entropy)
            scheme.load(InProcessReader(card).wait_for_card(0), _RIDER_FEN, world.clock())
        return card

    # -------------------------------------------------------------------------------------------- clearing

    def start_clearing(self, after_s: float) -> None:
        """Begin to start this world's clearing, a process of its own; the network works once it is there."""
        self.uplink.reach("", _STARTING)
        self._start_after_s = after_s
        self._clearing_thread.start()

    def _run_clearing(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, self._start_after_s)
        with self._issuing:
            with self._changed:
                if self._closing:
                    return
                self._clearing = ClearingProcess(self._world.scheme_folder, self._world.clock, quiet=True)
            self._reach_clearing(self._clearing)

    def _reach_clearing(self, clearing: ClearingProcess) -> None:
        try:
            url = clearing.url()
            self._tell_market(url)
            self.uplink.reach(url)
        except (SyncError, ValueError):  # it ended, or its output was closed by `close`
            self.uplink.reach("", _NONE)

    def _tell_market(self, url: str) -> None:
        """The market's journal, by which clearing finds the copy. Raises GatewayError."""
        gateway = Uplink(url, entropy=self._world.entropy).gateway(self._world.terminals[_MARKET].session)
        with gateway:
            gateway.send()

    def _tell_loads(self, url: str) -> None:
        """What was loaded onto riders' cards since clearing started. Without a network it stays untold: what
        they pay arrives all the same."""
        from offline_sync.surface import HandedOrder, LoadReceipt

        world = self._world
        if not url:
            return
        with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
            orders = [HandedOrder(raw, []) for raw, _ in scheme.load_orders()]
            receipts = [LoadReceipt(*one) for one in scheme.receipts()]
        with (
            suppress(SyncError),
            open_operator_client(
                world.scheme_folder, url, "issuer", clock=world.clock, entropy=world.entropy
            ) as issuer,
        ):
            issuer.hand_over_loads(orders, receipts)

    def close(self) -> None:
        """End everything that runs here. The station has to be closed before."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._rider_thread.ident is not None:
            self._rider_thread.join()
        self._hand.close()
        if self._clearing is not None:
            self._clearing.stop()
        if self._clearing_thread.ident is not None:
            self._clearing_thread.join()
        self._reader.close()


@contextmanager
def open_playground(
    kind: Kind,
    *,
    clock: Clock = system_clock,
    entropy: Entropy = os.urandom,
    stopwatch: Stopwatch = time.perf_counter,
    folder: Path | None = None,
    clearing: bool = True,
    pause: Pause | None = None,
    start_after_s: float = START_AFTER_S,
) -> Iterator[Playground]:
    """A playground with a till (`cashier`) or a bus, and its clearing unless `clearing` is False.

    In a temporary folder that is removed afterwards, or below `folder`, which stays. `pause(seconds)`
    replaces the waiting between two riders. Clearing starts after `start_after_s`: the first frame is
    drawn before that. Close the station before this ends.
    """
    with ExitStack() as running:
        if folder is None:
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="hardwallet-playground-")))
        world = create_world(folder, clock, stopwatch, entropy, sealing_cost=SEALING_COST)
        running.callback(world.close)
        cards = _make_cards(world, folder, running)
        if kind == "bus":
            world.add_terminal(kind, "transit", 2, _VEHICLE)
        else:
            world.add_terminal(kind, "retail", 1)
        playground = Playground(world, cards, kind, pause)
        running.callback(playground.close)
        if clearing:
            playground.start_clearing(start_after_s)
        yield playground


def _make_cards(world: World, folder: Path, running: ExitStack) -> list[WorldCard]:
    """The cards of the tray, in its order."""
    foreign = create_world(
        folder / "elsewhere", world.clock, world.stopwatch, world.entropy, sealing_cost=SEALING_COST
    )
    running.callback(foreign.close)
    cards = {
        "adult": world.add_card("adult", _SMALL_TIER, 20_000),
        "student": world.add_card("student", _SMALL_TIER, 5_000, rider=Rider.STUDENT),
        "senior": world.add_card("senior", _SMALL_TIER, 5_000, rider=Rider.SENIOR),
        "empty": world.add_card("empty", _SMALL_TIER, 0),
        "blocked": world.add_card("blocked", _SMALL_TIER, 10_000),
        "cloned": world.add_card("cloned", _SMALL_TIER, 10_000),
        "foreign": foreign.add_card("foreign", _SMALL_TIER, 10_000),
        "pin": world.add_card("pin", _LARGE_TIER, 80_000, pin=PIN),
        "denied": world.add_card("denied", _SMALL_TIER, 10_000),
    }
    _block(world, cards["blocked"])
    _clone(world, cards["cloned"])
    _deny(world, [cards["cloned"], cards["denied"]])
    return [cards[one.name] for one in TRAY]


def _block(world: World, card: WorldCard) -> None:
    """Its issuer orders it, and the card obeys."""
    with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
        order = scheme.card_order(card.number, KIND_BLOCK, b"", world.clock())
    session = WalletSession(InProcessReader(card.card).wait_for_card(0), world.trust.suite)
    session.select()
    session.exchange_certificates(world.bundle, world.clock())
    session.order(order, world.bundle)


def _clone(world: World, card: WorldCard) -> None:
    """A copy pays at a market under the number that the card itself pays with next: two bodies, both signed,
    are the proof that clearing gets (fleet/clones.py)."""
    market = world.add_terminal(_MARKET, "retail", 3).terminal
    twin = world.copy_card(card, "twin")
    for one in (twin, card):
        tap(market, InProcessReader(one.card).wait_for_card(0), market.new_sale(_CLONE_FEN))
    twin.card.close()


def _deny(world: World, cards: list[WorldCard]) -> None:
    with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
        scheme.publish_denylist([card.number for card in cards], (), world.clock())
