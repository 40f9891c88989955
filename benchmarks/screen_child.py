"""What benchmarks/screens.py watches on a pseudo-terminal: the real apps, with somebody who taps.

    python -m benchmarks.screen_child bus LOG QUEUE    a bus with QUEUE payments waiting; five riders a second
    python -m benchmarks.screen_child till LOG SALES   a till at which so many sales are typed and tapped

LOG takes a line a decision, written in the thread that taps: the moment, monotonic seconds, and the balance.
"""

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from textual.message import Message

from firmware_bridge.virtual.in_process import InProcessReader
from fleet import playground as playgrounds
from fleet.open import system_clock
from fleet.playground import FASTEST, Playground, open_playground
from fleet.station_events import Decided, Removed, Waiting
from fleet.tray import HandledCard, Tear
from hardwallet import records
from hardwallet.card.applet import Card
from hardwallet.issuing import open_scheme
from pos_terminal.money import format_amount
from pos_terminal.sale import SaleState
from pos_terminal.tap import tap
from pos_terminal.terminal import Fare, service_day
from tests.offline_sync.factory import BODY
from tui.backing import Backing
from tui.field import Field
from tui.screens.bus.app import BusApp
from tui.screens.bus.setup import setup_of
from tui.screens.cashier.app import CashierApp
from tui.screens.cashier.jobs import open_shifts
from tui.screens.frame import StationMessage, run_screen

if TYPE_CHECKING:
    pass

TIER: Final = 5
LOADED_FEN: Final = 20_000
SALES_OF_A_CARD: Final = 50
MOST_RIDERS: Final = 450
"""Riders with a card each: for a minute and a half."""
_SALE_KEY: Final = "1"
_NOTED_SALES: Final = 100


def new_card(playground: Playground, loaded_fen: int) -> Card:
    """A card in memory, issued and loaded as any other."""
    world = playground._world
    with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
        identity, memory = scheme.new_card(TIER, world.clock(), balance_fen=loaded_fen)
        card = Card(identity, memory, world.entropy)
        scheme.load(InProcessReader(card).wait_for_card(0), loaded_fen, world.clock())
    return card


# ---------------------------------------------------------------------------------------------------- bus


def fill(playground: Playground, payments: int) -> None:
    """As many payments of a fen, waiting to be sent. They are copies of one that was really taken, each with
    another card's number and reference; the disk is not waited for."""
    session, now_s = playground.session, system_clock()
    link = InProcessReader(new_card(playground, LOADED_FEN)).wait_for_card(0)
    record = tap(session.terminal, link, Fare(1, session.vehicle, service_day(now_s), 1_000_000)).record
    if record is None:
        raise RuntimeError("the first ride was not granted")
    fields = list(BODY.unpack(record.body))
    session.journal._execute("PRAGMA synchronous = OFF")
    for number in range(1, payments):
        fields[5] = fields[5][:4] + number.to_bytes(4, "big")
        fields[9] = b"ref-" + number.to_bytes(8, "big")
        session.journal.keep_payment(records.parse(BODY.pack(*fields) + bytes(64)), SaleState.GRANTED, now_s)
    session.journal._execute("PRAGMA synchronous = FULL")


class WatchedBus(BusApp):
    """Writes down when a tap was decided: before the screen hears of it."""

    decisions: Path

    def post_message(self, message: Message) -> bool:
        if isinstance(message, StationMessage) and isinstance(message.event, Decided):
            balance_fen = message.event.tap.balance_fen
            if message.event.tap.granted and balance_fen is not None:
                with self.decisions.open("a", encoding="ascii") as file:
                    file.write(f"{time.monotonic()} {format_amount(balance_fen)}\n")
        return super().post_message(message)


def bus(log: Path, queue: int) -> int:
    """Every rider has a balance of his own, so that the frame of each is known. Their cards are issued
    before."""
    playgrounds.MOST_RIDERS = MOST_RIDERS  # type: ignore[misc]
    with open_playground("bus", clearing=False) as playground:
        fill(playground, queue)
        riders = [new_card(playground, LOADED_FEN + number + 1) for number in range(MOST_RIDERS)]
        playground._new_rider = lambda number: riders[number]  # type: ignore[method-assign]
        backing = Backing(playground.session, playground.field, None, playground)
        app = WatchedBus(backing, setup_of(backing, None, "", "", None), mute=True)
        app.decisions = log
        try:
            playground.set_busy(FASTEST)
            return run_screen(app)
        finally:
            app.close()


# --------------------------------------------------------------------------------------------------- till


class BusyTill(CashierApp):
    """A till at which a cashier types and customers tap, as fast as it goes."""

    seller: "Seller"

    def post_message(self, message: Message) -> bool:
        if isinstance(message, StationMessage):
            self.seller.take(message)
        return super().post_message(message)


class Seller:
    """Types an amount, holds a card there, takes it away, so many times. Writes `at` and a count now and
    then, in the end `sold` and a count."""

    def __init__(self, playground: Playground, reader: InProcessReader, log: Path, sales: int) -> None:
        self._playground = playground
        self._reader = reader
        self._log = log
        self._left = sales
        self._awaited, self._decided, self._removed = (threading.Event() for _ in range(3))
        self._granted = 0

    def take(self, message: StationMessage) -> None:
        """What the station tells; from its threads."""
        match message.event:
            case Waiting(again=None):
                self._awaited.set()
            case Decided():
                self._granted += message.event.tap.granted
                self._decided.set()
            case Removed():
                self._removed.set()

    def work(self, app: CashierApp) -> None:
        """In a thread of its own."""
        card: Card | None = None
        for number in range(self._left):
            if card is None or number % SALES_OF_A_CARD == 0:
                card = new_card(self._playground, LOADED_FEN)
            for event in (self._awaited, self._decided, self._removed):
                event.clear()
            app.call_from_thread(app.simulate_key, _SALE_KEY)
            app.call_from_thread(app.simulate_key, "enter")
            self._awaited.wait()
            self._reader.present(HandledCard(card, Tear()))
            self._decided.wait()
            self._reader.remove()
            self._removed.wait()
            if not self._granted % _NOTED_SALES:
                self._note("at")
        self._note("sold")

    def _note(self, word: str) -> None:
        """Whole or not at all: the other side looks whenever it likes."""
        fresh = self._log.with_suffix(".new")
        fresh.write_text(f"{word} {self._granted}\n", encoding="ascii")
        fresh.replace(self._log)


def till(log: Path, sales: int) -> int:
    """No tray: the cards come from this program's own hand."""
    with open_playground("cashier", clearing=False) as playground:
        reader = InProcessReader(new_card(playground, 1), present=False)
        backing = Backing(playground.session, Field(reader, "sim", None), None)
        with open_shifts(Backing(playground.session, playground.field, None, playground)) as shifts:
            app = BusyTill(backing, shifts, mute=True)
            app.seller = Seller(playground, reader, log, sales)
            worker = threading.Thread(target=app.seller.work, args=(app,), daemon=True)
            app.call_after_refresh(worker.start)
            return run_screen(app)


if __name__ == "__main__":
    program = {"bus": bus, "till": till}[sys.argv[1]]
    sys.exit(program(Path(sys.argv[2]), int(sys.argv[3])))
