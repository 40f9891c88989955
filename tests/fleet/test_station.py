"""A terminal at work behind a screen: what it tells in which order, what it takes, and what stops it."""

import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_bridge.errors import CardGone, ReaderGone
from firmware_bridge.link import CardLink, VirtualCard
from firmware_bridge.virtual.in_process import InProcessReader
from fleet.open import TerminalSession
from fleet.standing import seen
from fleet.station import (
    Ask,
    Asked,
    Board,
    CardSeen,
    Decided,
    Done,
    Event,
    Fault,
    Freshness,
    GiveBack,
    Health,
    Inspect,
    Inspected,
    Network,
    ReaderChanged,
    Removed,
    Sell,
    Station,
    StatusChanged,
    TooMany,
    Unwanted,
    Waiting,
)
from fleet.tray import HandledCard, LentField, Tear, TearPlace
from fleet.world import World, WorldCard, create_world
from hardwallet.messages import INS_PAY
from hardwallet.session import WalletSession
from pos_terminal.errors import JournalFull, NoSuchSale, SaleOpen
from pos_terminal.refund import Refund
from pos_terminal.sale import SaleState
from pos_terminal.tap import Outcome
from pos_terminal.terminal import Fare
from tests.conftest import REPOSITORY
from tests.fleet.conftest import NOW
from tests.fleet.stations import PATIENCE_S, Bench, Heard, PlainField, Slow, running, until
from tests.offline_sync.test_journal_crash import can_mount

PIN = "271828"
TIER = 5
PIN_TIER = 4


class Time:
    """A clock that is set by hand."""

    now_s = NOW

    def __call__(self) -> int:
        return self.now_s


class Town:
    """One world for all tests; each gets terminals and cards of its own."""

    def __init__(self, world: World, time: Time) -> None:
        self.world = world
        self.time = time
        self._made = 0

    def card(self, balance_fen: int = 20_000, pin: str = "") -> WorldCard:
        self._made += 1
        return self.world.add_card(f"card{self._made}", PIN_TIER if pin else TIER, balance_fen, pin)

    def till(self) -> TerminalSession:
        self._made += 1
        return self.world.add_terminal(f"till{self._made}", "retail", self._made).session

    def bus(self) -> TerminalSession:
        self._made += 1
        return self.world.add_terminal(f"bus{self._made}", "transit", self._made, "B042").session


@pytest.fixture(scope="module")
def made() -> Iterator[Town]:
    time = Time()
    with tempfile.TemporaryDirectory() as folder:
        entropy = random.Random(4).randbytes
        world = create_world(Path(folder), time, lambda: 0.0, entropy, sealing_cost=2)
        yield Town(world, time)
        world.close()


@pytest.fixture
def town(made: Town) -> Iterator[Town]:
    yield made
    made.time.now_s = NOW


@contextmanager
def at(session: TerminalSession, card: VirtualCard, tear: TearPlace = TearPlace.OFF) -> Iterator[Bench]:
    """A station at work, and a card that is torn away once."""
    with running(session, HandledCard(card, Tear(tear))) as bench:
        yield bench


def tapped(bench: Bench) -> Done:
    """The card is laid down, asked, and taken away."""
    bench.reader.present()
    done = bench.heard.next(Done)
    bench.reader.remove()
    bench.heard.next(Removed)
    return done


# ----------------------------------------------------------------------------------------------- a sale


def test_a_sale_tells_each_step_and_ends(town: Town) -> None:
    card = town.card()
    with at(town.till(), card.card) as till:
        assert till.station.want(Sell(1250))
        assert till.heard.next(Waiting).again is None
        till.reader.present()
        till.heard.next(CardSeen)
        decided = till.heard.next(Decided)
        assert (decided.tap.outcome, decided.tap.ratified) == (Outcome.GRANTED, False)
        assert till.heard.next(Done).tap.ratified
        assert not decided.tap.ratified  # what was posted does not change any more
        assert till.station.task is None
        till.reader.remove()
        till.heard.next(Removed)
        assert card.balance_fen == 20_000 - 1_250
        until(lambda: till.station.status().waiting_fen == 1_250)


def test_a_card_that_nobody_asked_for_is_asked_once_somebody_does(town: Town) -> None:
    with at(town.till(), town.card().card) as till:
        till.reader.present()
        till.heard.next(Unwanted)
        assert till.station.want(Ask())
        assert till.heard.next(Asked).inquiry.balance_fen == 20_000
        until(lambda: till.station.want(Sell(100)))
        assert not till.station._could_ask()
        till.reader.remove()
        till.heard.next(Removed)
        assert till.heard.of(Decided) == []  # never twice in one presence
        assert tapped(till).tap.granted
        assert len(till.heard.of(Unwanted)) == 1


def test_a_declined_sale_ends_and_is_closed_in_the_journal(town: Town) -> None:
    session = town.till()
    with at(session, town.card(0).card) as till:
        till.station.want(Sell(300))
        declined = tapped(till).tap
        assert (declined.outcome, till.station.task) == (Outcome.DECLINED, None)
        assert declined.sale is not None
        kept = session.journal.sale(declined.sale.reference)
        assert kept is not None
        assert kept.state is SaleState.DECLINED


def test_a_simulated_card_is_held_there_whenever_one_is_awaited(town: Town) -> None:
    card = town.card()
    reader = InProcessReader(card.card)
    heard = Heard()
    field = LentField(PlainField(reader), reader)
    station = Station(town.till(), field, heard)
    station.start()
    try:
        for number in (1, 2):
            until(lambda: station.want(Sell(300)))
            assert heard.next(Done).tap.granted
            heard.next(Removed)
            assert card.balance_fen == 20_000 - 300 * number
        assert heard.of(Unwanted) == []
    finally:
        station.close()
        field.close()


def test_a_simulated_rider_comes_once_for_each_wish(town: Town) -> None:
    reader = InProcessReader(town.card().card)
    heard = Heard()
    field = LentField(PlainField(reader), reader)
    station = Station(town.bus(), field, heard)
    station.start()
    try:
        for run in (1, 2):
            station.want(Board(lambda run=run: Fare(200, b"B042", 20_260_921, run)))  # type: ignore[misc]
            assert heard.next(Done).tap.granted
            heard.next(Removed)
            heard.next(Waiting)
            assert field._hand.done
        assert len(heard.of(Done)) == 2
    finally:
        station.close()
        field.close()


def test_another_card_is_seen_though_nobody_saw_the_first_one_leave(town: Town) -> None:
    other = town.card()
    with at(town.bus(), town.card().card) as bus:
        bus.station.want(Board(lambda: Fare(200, b"B042", 20_260_921, 1)))
        bus.reader.present()
        first = bus.heard.next(Done)
        bus.reader.present(other.card)
        second = bus.heard.next(Done)
        assert first.tap.granted
        assert second.tap.granted
        assert other.balance_fen == 19_800


# ------------------------------------------------------------------------------------------ torn, given up


@pytest.mark.parametrize(
    ("place", "outcome", "recovered"),
    [
        (TearPlace.AT_SELECT, Outcome.TRY_AGAIN, False),
        (TearPlace.BEFORE_PAY, Outcome.UNRESOLVED, False),
        (TearPlace.AFTER_PAY, Outcome.UNRESOLVED, True),
    ],
)
def test_a_torn_tap_is_finished_by_presenting_the_card_again(
    town: Town, place: TearPlace, outcome: Outcome, recovered: bool
) -> None:
    card = town.card()
    with at(town.till(), card.card, place) as till:
        till.station.want(Sell(700))
        torn = tapped(till).tap
        assert torn.outcome is outcome
        again = till.heard.next(Waiting)
        assert again.again is not None
        assert again.again.outcome is outcome
        done = tapped(till).tap
        assert (done.outcome, done.recovered) == (Outcome.GRANTED, recovered)
        assert (card.balance_fen, till.station.task) == (20_000 - 700, None)
        assert torn.sale is None or (done.sale is not None and torn.sale.reference == done.sale.reference)


def test_a_tear_before_ratify_takes_nothing_back(town: Town) -> None:
    with at(town.till(), town.card().card, TearPlace.BEFORE_RATIFY) as till:
        till.station.want(Sell(700))
        done = tapped(till).tap
        assert (done.outcome, done.ratified) == (Outcome.GRANTED, False)


def test_while_a_sale_is_unresolved_nothing_else_is_sold(town: Town) -> None:
    card, session = town.card(), town.till()
    with at(session, card.card, TearPlace.AFTER_PAY) as till:
        till.station.want(Sell(700))
        tapped(till)
        assert not till.station.want(Sell(701))
        assert not till.station.want(GiveBack(Refund(card.number, 1, 700)))
        assert till.station.want(Ask())
        till.reader.present()
        found = till.heard.next(Asked).inquiry
        assert [sale.amount_fen for sale in found.unfinished] == [700]
        till.reader.remove()
        assert not till.station.want(Sell(701))
        assert till.station.want(Sell(700))
        assert tapped(till).tap.recovered
        assert till.station.want(Sell(701))


def test_a_sale_is_given_up(town: Town) -> None:
    card, session = town.card(), town.till()
    with at(session, card.card, TearPlace.AFTER_PAY) as till:
        with pytest.raises(NoSuchSale):
            till.station.give_up("nothing is open")
        till.station.want(Sell(700))
        torn = tapped(till).tap
        until(lambda: till.station.status().open_sale is not None)
        till.station.give_up("the customer left")
        assert torn.sale is not None
        kept = session.journal.sale(torn.sale.reference)
        assert kept is not None
        assert (kept.state, kept.reason) == (SaleState.GIVEN_UP, "the customer left")
        assert till.station.task is None
        until(lambda: till.station.status().open_sale is None)
        till.station.want(Sell(700))  # a new one: what was paid for the old one is not taken for it
        done = tapped(till).tap
        assert (done.granted, done.recovered, card.balance_fen) == (True, False, 20_000 - 1_400)


def test_another_card_does_not_finish_the_sale(town: Town) -> None:
    card, other = town.card(), town.card()
    with at(town.till(), card.card, TearPlace.AFTER_PAY) as till:
        till.station.want(Sell(700))
        tapped(till)
        till.reader.present(other.card)
        wrong = till.heard.next(Done).tap
        assert wrong.outcome is Outcome.OTHER_CARD
        till.reader.present(card.card)
        assert till.heard.next(Done).tap.recovered
        assert (card.balance_fen, other.balance_fen) == (20_000 - 700, 20_000)


def test_after_a_power_cut_the_open_sale_is_in_sight_at_once(town: Town) -> None:
    card, session = town.card(), town.till()
    with at(session, card.card, TearPlace.AFTER_PAY) as till:
        till.station.want(Sell(700))
        tapped(till)
    heard = Heard()
    station = Station(session, PlainField(InProcessReader(card.card, present=False)), heard)
    sale = station.status().open_sale
    assert sale is not None
    assert (sale.amount_fen, sale.card) == (700, card.number)
    assert not station.want(Sell(500))
    station.close()
    with at(session, card.card) as till:
        assert till.station.want(Sell(700))
        assert tapped(till).tap.recovered
        assert session.journal.unresolved() == []


def test_a_torn_refund_is_finished(town: Town) -> None:
    card = town.card()
    with at(town.till(), card.card) as till:
        till.station.want(Sell(900))
        paid = tapped(till).tap
        assert paid.record is not None
        wanted = Refund(card.number, paid.record.sequence, 400)
        till.station.want(GiveBack(wanted))
        till.reader.present(HandledCard(card.card, Tear(TearPlace.AFTER_PAY)))
        assert till.heard.next(Done).tap.outcome is Outcome.UNRESOLVED
        assert not till.station.want(Sell(400))
        assert till.station.want(GiveBack(wanted))
        till.reader.present(card.card)
        assert till.heard.next(Done).tap.granted
        assert card.balance_fen == 20_000 - 500


def test_a_sale_that_nobody_asks_for_any_more_is_ended(town: Town) -> None:
    card, session = town.card(80_000, PIN), town.till()
    with at(session, card.card) as till:
        till.station.want(Sell(40_000))
        sale = tapped(till).tap.sale
        assert sale is not None
        open_sale = session.journal.sale(sale.reference)
        assert open_sale is not None
        assert open_sale.state is SaleState.OPEN
        assert till.station.want(None)
        until(lambda: ended(session, sale.reference))


def test_leaving_ends_the_sale_that_waits(town: Town) -> None:
    card, session = town.card(80_000, PIN), town.till()
    with at(session, card.card) as till:
        till.station.want(Sell(40_000))
        sale = tapped(till).tap.sale
    assert sale is not None
    assert ended(session, sale.reference)


def ended(session: TerminalSession, reference: bytes) -> bool:
    kept = session.journal.sale(reference)
    return kept is not None and kept.state is SaleState.DECLINED


# ---------------------------------------------------------------------------------------------------- PIN


def test_a_pin_goes_on_with_the_card_that_lies_there(town: Town) -> None:
    card = town.card(80_000, PIN)
    with at(town.till(), card.card) as till:
        till.station.want(Sell(40_000))
        till.reader.present()
        assert till.heard.next(Done).tap.outcome is Outcome.PIN_WANTED
        till.station.enter_pin(PIN)
        assert till.heard.next(Done).tap.granted
        assert len(till.heard.of(Removed)) == 0
        assert card.balance_fen == 40_000


def test_a_pin_waits_for_its_card_and_is_shown_to_no_other(town: Town) -> None:
    card, other = town.card(80_000, PIN), town.card(80_000, "314159")
    with at(town.till(), card.card) as till:
        till.station.want(Sell(40_000))
        tapped(till)
        till.station.enter_pin(PIN)
        till.reader.present(other.card)
        assert till.heard.next(Done).tap.outcome is Outcome.PIN_WANTED
        assert other.card.card_state().balance_fen == 80_000
        till.station.enter_pin("314159")
        assert till.heard.next(Done).tap.granted


def test_a_pin_that_was_entered_meanwhile_goes_with_the_card_when_it_is_back(town: Town) -> None:
    card = town.card(80_000, PIN)
    with at(town.till(), card.card) as till:
        till.station.want(Sell(40_000))
        assert tapped(till).tap.outcome is Outcome.PIN_WANTED
        waiting = till.heard.next(Waiting)
        assert waiting.again is not None
        till.station.enter_pin(PIN)
        assert tapped(till).tap.granted


def test_three_wrong_pins_lock_and_end_the_sale(town: Town) -> None:
    card = town.card(80_000, PIN)
    with at(town.till(), card.card) as till:
        till.station.want(Sell(40_000))
        till.reader.present()
        outcomes = [till.heard.next(Done).tap.outcome]
        for _ in range(3):
            till.station.enter_pin("000000")
            outcomes.append(till.heard.next(Done).tap.outcome)
        wrong = Outcome.PIN_WRONG
        assert outcomes[:3] == [Outcome.PIN_WANTED, wrong, wrong]
        if outcomes[3] is wrong:  # no try is left: the next tap says that it is locked
            till.station.enter_pin(PIN)
            outcomes.append(till.heard.next(Done).tap.outcome)
        assert outcomes[-1] is Outcome.DECLINED
        assert (till.station.task, card.balance_fen) == (None, 80_000)


def test_a_pin_that_nobody_asked_for_is_not_kept(town: Town) -> None:
    with at(town.till(), town.card().card) as till:
        till.station.enter_pin(PIN)
        till.station.want(Sell(100))
        till.station.enter_pin(PIN)
        assert PIN not in repr(vars(till.station))
        assert tapped(till).tap.granted


# ------------------------------------------------------------------------------------------------ in mid-tap


def test_nothing_waits_for_a_card_that_is_slow(town: Town) -> None:
    card = town.card()
    slow = Slow(card.card)
    with at(town.till(), slow) as till:
        till.station.want(Sell(700))
        till.reader.present()
        assert slow.reached.wait(PATIENCE_S)
        assert not till.station.want(Sell(700))
        assert not till.station.want(None)
        till.station.enter_pin(PIN)
        assert till.station.status().open_sale is None
        with pytest.raises(SaleOpen):
            till.station.give_up("in mid-tap")
        slow.go_on.set()
        assert till.heard.next(Done).tap.granted


def promptly(*calls: Callable[[], object]) -> None:
    """They return, whatever else is under way."""
    done = threading.Event()

    def call() -> None:
        for one in calls:
            one()
        done.set()

    threading.Thread(target=call, daemon=True).start()
    assert done.wait(PATIENCE_S)


def test_nothing_waits_for_a_disk_that_is_slow(town: Town) -> None:
    session = town.till()
    with at(session, town.card().card) as till:
        till.station.want(Sell(700))
        with session.journal._mutex:  # as if a write were under way
            till.reader.present()
            till.heard.next(CardSeen)
            station = till.station
            promptly(
                *(lambda: station.want(None), station.status, lambda: station.enter_pin(PIN)),
                *(station.forward, lambda: station.set_network(False), lambda: station.note_health("a", "b")),
            )
        assert till.heard.next(Done).tap.granted


def test_a_defect_of_the_clerk_is_told_and_it_goes_on(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    card = town.card(80_000, PIN)
    with at(town.till(), card.card) as till:
        with monkeypatch.context() as broken:
            broken.setattr(till.station, "_look", lambda: 1 // 0)
            till.station.note_health("reader_back", "look at the status")
            assert "ZeroDivisionError" in till.heard.next(Fault).sentence
        till.station.want(Sell(40_000))
        till.reader.present()
        till.heard.next(Done)
        till.station.enter_pin(PIN)  # the clerk wakes the reader
        assert till.heard.next(Done).tap.granted


def test_closing_in_mid_tap_finishes_the_tap(town: Town) -> None:
    card, session = town.card(), town.till()
    slow = Slow(card.card)
    with at(session, slow) as till:
        till.station.want(Sell(700))
        till.reader.present()
        assert slow.reached.wait(PATIENCE_S)
        closing = threading.Thread(target=till.station.close)
        closing.start()
        assert closing.is_alive()
        slow.go_on.set()
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
        assert [done.tap.granted for done in till.heard.of(Done)] == [True]
        assert not till.station.want(Sell(700))
    assert session.journal.waiting_fen() == 700
    assert session.journal.unresolved() == []
    threads = (till.station._reader, till.station._clerk, till.station._sender._thread)
    assert not any(thread.is_alive() for thread in threads)


class Unplugged(InProcessReader):
    """A reader that can be pulled out: exchanges and waits fail until it is plugged in again."""

    out = False

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        if self.out:
            raise ReaderGone("The reader was unplugged.")
        return super().wait_for_card(timeout_s)

    def wait_for_removal(self, timeout_s: float | None) -> bool:
        if self.out:
            raise ReaderGone("The reader was unplugged.")
        return super().wait_for_removal(timeout_s)

    def pull_out(self) -> None:
        self.out = True
        self.remove()


class Pulls:
    """A card whose reader is pulled out when PAY arrives."""

    def __init__(self, card: VirtualCard) -> None:
        self._card = card
        self.reader: Unplugged | None = None
        self.atr, self.reset = card.atr, card.reset
        self.power_on, self.power_off = card.power_on, card.power_off

    def execute(self, command: bytes) -> bytes:
        reply = self._card.execute(command)
        if command[1] == INS_PAY and self.reader is not None:
            self.reader.pull_out()
            self.reader = None
            raise CardGone("gone")
        return reply


def test_a_reader_that_is_unplugged_in_mid_tap(town: Town) -> None:
    card = town.card()
    pulls = Pulls(card.card)
    reader = Unplugged(pulls, present=False)
    pulls.reader = reader
    heard = Heard()
    station = Station(town.till(), PlainField(reader), heard)
    station.start()
    try:
        station.want(Sell(700))
        reader.present()
        assert heard.next(Done).tap.outcome is Outcome.UNRESOLVED
        gone = heard.next(ReaderChanged).health
        assert (gone.ok, gone.word) == (False, "reader_gone")
        heard.next(Removed)
        until(lambda: not station.status().reader.ok)
        reader.out = False
        assert heard.next(ReaderChanged).health.ok
        reader.present()
        assert heard.next(Done).tap.recovered
        assert [change.health.ok for change in heard.of(ReaderChanged)] == [False, True]
    finally:
        station.close()


def test_a_patient_reader_tells_its_own_health(town: Town) -> None:
    with at(town.till(), town.card().card) as till:
        for word, ok in (
            ("reader_gone", False),
            ("reader_back", True),
            ("card_mute", False),
            ("card_away", True),
        ):
            till.station.note_health(word, f"the reader: {word}")
            till.station.note_health(word, f"the reader: {word}")
            assert till.heard.of(ReaderChanged)[-1].health == Health(ok, word, f"the reader: {word}")
        assert len(till.heard.of(ReaderChanged)) == 4  # each is told once


def test_two_cards_are_told_once_and_the_one_that_is_left_is_asked(town: Town) -> None:
    with at(town.till(), town.card().card) as till:
        till.station.want(Sell(700))
        till.reader.crowd()
        till.heard.next(TooMany)
        till.reader.leave_one()
        assert till.heard.next(Done).tap.granted
        assert len(till.heard.of(TooMany)) == 1
        assert till.heard.of(ReaderChanged) == []


def test_two_cards_that_leave_together(town: Town) -> None:
    with at(town.till(), town.card().card) as till:
        till.station.want(Sell(700))
        till.reader.crowd()
        till.heard.next(TooMany)
        till.reader.remove()
        till.heard.next(Removed)
        till.heard.next(Waiting)
        assert tapped(till).tap.granted


# ------------------------------------------------------------------------------------------------------ buses


def test_a_bus_takes_card_after_card(town: Town) -> None:
    cards = [town.card() for _ in range(3)]
    runs = iter((1, 1, 1, 1))
    with at(town.bus(), cards[0].card) as bus:
        assert not bus.station.want(Sell(200))
        assert bus.station.want(Board(lambda: Fare(200, b"B042", 20_260_921, next(runs))))
        outcomes = []
        for card in (*cards, cards[0]):
            bus.reader.present(card.card)
            outcomes.append(bus.heard.next(Done).tap.outcome)
        assert outcomes == [Outcome.GRANTED] * 3 + [Outcome.ALREADY_GRANTED]
        assert isinstance(bus.station.task, Board)


def test_an_inspector_looks_at_card_after_card(town: Town) -> None:
    with at(town.bus(), town.card().card) as bus:
        bus.station.want(Inspect(lambda terminal, link: WalletSession(link, terminal.suite).select().card))
        for _ in range(2):
            bus.reader.present()
            assert len(str(bus.heard.next(Inspected).found)) > 0
            bus.reader.remove()
            bus.heard.next(Removed)
        bus.reader.present(HandledCard(town.card().card, Tear(TearPlace.AT_SELECT)))
        bus.heard.next(Removed)  # it left while it was looked at: nothing is told of it
        assert len(bus.heard.of(Inspected)) == 2


# -------------------------------------------------------------------------- the terminal itself is in trouble


def no_room(*_: object, **__: object) -> None:
    raise JournalFull("the disk is full")


def test_a_disk_that_is_full_in_mid_tap(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card has paid: that it was asked is durable, and the sale is finished once there is room."""
    card, session = town.card(), town.till()
    with at(session, card.card) as till:
        till.station.want(Sell(700))
        with monkeypatch.context() as full:
            full.setattr(session.journal, "keep_payment", no_room)
            full.setattr(session.journal, "require_space", lambda: None)
            till.reader.present()
            assert till.heard.next(Fault).word == "journal_full"
        till.reader.remove()
        till.heard.next(Removed)
        assert till.station.task is None
        until(lambda: till.station.status().open_sale is not None)
        assert till.station.want(Sell(700))
        assert tapped(till).tap.recovered
        assert card.balance_fen == 20_000 - 700


@pytest.mark.needs("unshare", "mount")
def test_a_disk_that_is_really_full_in_mid_tap(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this user may not mount a file system")
    small, other = tmp_path / "small", tmp_path / "other"
    small.mkdir()
    child = [sys.executable, "-m", "tests.fleet.full_disk", str(small), str(other)]
    script = f'mount -t tmpfs -o size=30m none {small} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *child],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    fault, in_sight, recovered, paid_fen = done.stdout.split()
    assert fault == "journal_full"
    assert (in_sight, recovered, paid_fen) == ("True", "True", "700")


def test_a_full_disk_is_in_sight(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    session = town.till()
    with at(session, town.card().card) as till:
        monkeypatch.setattr(session.journal, "require_space", no_room)
        till.station.want(Sell(700))
        assert tapped(till).tap.outcome is Outcome.DECLINED
        until(lambda: "full" in till.station.status().trouble)


def test_a_journal_that_failed(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    session = town.till()
    with at(session, town.card().card) as till:
        till.station.want(Sell(700))
        monkeypatch.setattr(session.journal, "_failed", "a write did not reach the disk")
        till.reader.present()
        assert till.heard.next(Fault).word == "journal_failed"
        assert till.station.task is None
        until(lambda: till.station.status().trouble == "a write did not reach the disk")
        monkeypatch.undo()


def test_a_clock_that_is_wrong(town: Town) -> None:
    with at(town.till(), town.card().card) as till:
        town.time.now_s = 0
        till.station.want(Sell(700))
        till.reader.present()
        assert till.heard.next(Fault).word == "clock_wrong"
        until(lambda: "date" in till.station.status().trouble)
        town.time.now_s = NOW
        till.reader.remove()
        till.heard.next(Removed)
        till.station.want(Sell(700))
        assert tapped(till).tap.granted


def test_a_locked_journal(town: Town) -> None:
    session = town.till()
    session.journal.lock("an old copy was put back")
    with at(session, town.card().card) as till:
        assert till.station.status().locked == "an old copy was put back"
        till.station.want(Sell(700))
        till.reader.present()
        assert till.heard.next(Fault).word == "journal_locked"


def test_a_defect_ends_the_task_and_not_the_station(town: Town) -> None:
    def broken() -> Fare:
        raise KeyError("secret of the fare table")

    with at(town.bus(), town.card().card) as bus:
        bus.station.want(Board(broken))
        bus.reader.present()
        fault = bus.heard.next(Fault)
        assert fault.word == "internal"
        assert "secret" not in fault.sentence
        bus.heard.next(Unwanted)
        bus.reader.remove()
        bus.heard.next(Removed)
        bus.station.want(Board(lambda: Fare(200, b"B042", 20_260_921, 1)))
        assert tapped(bus).tap.granted


def test_a_listener_that_fails_loses_no_payment(town: Town) -> None:
    card, session = town.card(), town.till()
    heard = Heard()

    def listen(event: Event) -> None:
        heard(event)
        raise RuntimeError("the screen has gone")

    reader = InProcessReader(card.card, present=False)
    station = Station(session, PlainField(reader), listen)
    station.start()
    station.want(Sell(700))
    reader.present()
    assert heard.next(Done).tap.ratified
    station.close()
    assert session.journal.waiting_fen() == 700


# ---------------------------------------------------------------------------------------- always in sight


def test_the_denylist_is_as_fresh_as_the_terminals_limits_say(town: Town) -> None:
    session = town.till()
    with at(session, town.card().card) as till:
        assert till.station.status().network is Network.NOT_SET
        ages = []
        for days in (0, 8, 31):
            town.time.now_s = NOW + days * 24 * 3600
            till.station.note_health(f"day{days}", "look again")
            until(lambda: till.station.status().now_s == town.time.now_s)
            ages.append(till.station.status().denylist)
        assert ages == [Freshness.FRESH, Freshness.TIGHT, Freshness.STOPPED]


def test_a_terminal_without_a_denylist(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    session = town.till()
    monkeypatch.setattr(session.denylists, "_lists", {})
    station = Station(session, PlainField(InProcessReader(town.card().card)), Heard())
    assert (station.status().denylist, station.status().denylist_age_s) == (Freshness.MISSING, None)


def test_only_what_a_person_sees_is_told(town: Town) -> None:
    with at(town.till(), town.card().card) as till:
        status = till.station.status()
        assert till.heard.of(StatusChanged) == []
    unseen = replace(status, now_s=status.now_s + 1, denylist_age_s=(status.denylist_age_s or 0) + 1)
    assert seen(unseen) == seen(status)
    for change in ({"waiting_fen": 1}, {"oldest_s": 60}, {"now_s": status.now_s + 60}, {"trouble": "x"}):
        assert seen(replace(status, **change)) != seen(status)
