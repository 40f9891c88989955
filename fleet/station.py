"""A terminal at work behind a screen: threads that wait for cards, tap, send, and post what happens.

    reader   waits for a card, taps it, waits until it has left; it alone speaks to cards
    sender   uploads and fetches (fleet/uplink.py); it alone speaks to clearing
    clerk    works out what is always in sight, ends sales that nobody asks for any more, wakes the reader

Whatever a screen calls returns at once, but for `give_up` and `close`: no lock is held while a card, the disk
or the network is waited for. Rules of money are in pos_terminal; here is only the order of things.
"""

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol, runtime_checkable

from firmware_bridge.errors import BridgeError, Cancelled, CardError, NoCard, ReaderError, TooManyCards
from firmware_bridge.link import CardLink, Reader
from fleet.open import TerminalSession
from fleet.standing import READY, Standing, seen
from fleet.station_events import (
    Ask,
    Asked,
    Board,
    CardSeen,
    Decided,
    Done,
    Event,
    Fault,
    GiveBack,
    Health,
    Inspect,
    Inspected,
    Network,
    ReaderChanged,
    Removed,
    Sell,
    SendFailed,
    Sending,
    Sent,
    Status,
    StatusChanged,
    Task,
    TooMany,
    Unwanted,
    Waiting,
)
from fleet.uplink import Pace, Sender, Uplink, defect
from hardwallet.errors import WalletError
from hardwallet.session import WalletSession
from pos_terminal import charges
from pos_terminal.errors import NoSuchSale, SaleOpen, TerminalError
from pos_terminal.inquiry import inquire
from pos_terminal.limits import Freshness
from pos_terminal.ports import Entropy
from pos_terminal.refund import refund
from pos_terminal.tap import Outcome, Tap, tap
from pos_terminal.terminal import Charge

__all__ = [
    "Ask",
    "Asked",
    "Board",
    "CardSeen",
    "Decided",
    "Done",
    "Event",
    "Fault",
    "Field",
    "Freshness",
    "GiveBack",
    "Health",
    "Inspect",
    "Inspected",
    "Network",
    "Pace",
    "ReaderChanged",
    "Removed",
    "Sell",
    "SendFailed",
    "Sending",
    "Sent",
    "Station",
    "Status",
    "StatusChanged",
    "Summoned",
    "Task",
    "TooMany",
    "Unwanted",
    "Uplink",
    "Waiting",
]

STATUS_GAP_S: Final = 0.5
"""At most two changes of the status a second are told."""
CLOSE_S: Final = 30.0
SENDER_CLOSE_S: Final = 3.0
"""An exchange that hangs is left behind: nothing counts as sent before its acknowledgement is kept."""
_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 2.0
_MINUTE_S: Final = 60
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_BACK: Final = "_back"
_AWAY: Final = "card_away"
_STANDS: Final = {
    Outcome.UNRESOLVED,
    Outcome.TRY_AGAIN,
    Outcome.OTHER_CARD,
    Outcome.PIN_WANTED,
    Outcome.PIN_WRONG,
}
"""After these the task goes on: the same card again, or its PIN."""
_PIN: Final = {Outcome.PIN_WANTED, Outcome.PIN_WRONG}
_DROPPED: Final = "nobody asked for this sale any more, and no card paid it"
_BUSY: Final = "a card is being asked at this moment; wait for its answer"
_NOTHING_OPEN: Final = "there is no unfinished sale to give up"


class Field(Protocol):
    """An open reader, as tui.field.Field has it."""

    @property
    def reader(self) -> Reader:
        """The reader."""

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A link to the next card. Raises as Reader.wait_for_card."""

    def modelled_ms(self) -> float:
        """Modelled air and card time so far; 0 where nothing is modelled."""


@runtime_checkable
class Summoned(Protocol):
    """A field that wants to know when a card is awaited: a simulated one, whose card nobody can hold."""

    def awaited(self) -> None:
        """A card is awaited. Returns at once."""


def error_word(error: Exception) -> str:
    """The error's name for programs, as in "journal_full"."""
    return _HUMP.sub("_", type(error).__name__).lower()


def _fault_of(error: TerminalError) -> Fault:
    return Fault(error_word(error), str(error), error)


class Station:
    """One terminal, one reader, one way to clearing. Start it, close it before the session is closed."""

    def __init__(
        self,
        session: TerminalSession,
        field: Field,
        post: Callable[[Event], None],
        *,
        uplink: Uplink | None = None,
        pace: Pace | None = None,
        stopwatch: Callable[[], float] = time.monotonic,
        entropy: Entropy = os.urandom,
    ) -> None:
        """`post` is called from any thread and returns at once. `uplink`: None where no clearing is set.
        `stopwatch` gives monotonic seconds for pauses; the time of day is the session's. Raises JournalError.
        """
        self.session = session
        self._field = field
        self._told = post
        self._stopwatch = stopwatch
        self._changed = threading.Condition(threading.RLock())
        self._turn = threading.Lock()  # held while a card is asked, or a sale is given up
        self._closing = False
        self._task: Task | None = None
        self._charge: Charge | None = None
        self._again: Tap | None = None
        self._pin = ""
        self._pin_card = b""
        self._tapping = False
        self._lying = False
        self._asked = False  # the card that lies there
        self._health = READY
        self._crowded = False
        self._patience_s: float | None = None
        self._retry_s = _RETRY_S
        self._nudged = False
        self._dirty = False
        self._look_at_s = stopwatch()
        self._to_end: list[tuple[Charge, str]] = []
        self._standing = Standing(session)
        self._standing.refresh_sales()
        self._standing.refresh_review()
        pace = pace or Pace()
        self._sender = Sender(session, uplink, self._post_sent, self._touch, pace, stopwatch, entropy)
        self._status = self._look()
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._clerk = threading.Thread(target=self._keep, name="clerk", daemon=True)

    # --------------------------------------------------------------------------------- what a screen calls

    def start(self) -> None:
        """Begin to watch the reader, and to send."""
        for thread in (self._clerk, self._reader):
            thread.start()
        self._sender.start()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """End. The tap under way is finished first, an upload ends between two batches; an exchange that
        hangs is not waited for. Again does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._reader.ident is not None:
            self._field.reader.cancel()
            self._reader.join(timeout_s)
            self._clerk.join(timeout_s)
        self._sender.close(min(timeout_s, SENDER_CLOSE_S))
        with self._changed:
            self._drop()
        self._end_dropped()

    @property
    def task(self) -> Task | None:
        """What the next card is for."""
        return self._task

    def want(self, task: Task | None) -> bool:
        """The next card is for `task`; None: for nothing. False while a tap runs, or while an unresolved sale
        would have to be finished first: Ask is allowed then, and what finishes that sale. A bus sells
        nothing but rides."""
        with self._changed:
            if self._closing or self._tapping or not self._may(task):
                return False
            self._drop()
            self._task = task
            self._await(anew=True)
            self._nudge()
            return True

    def enter_pin(self, pin: str) -> None:
        """After PIN_WANTED or PIN_WRONG: asks the same card again with its PIN, as it lies there or when it
        comes back. Another card never sees it."""
        with self._changed:
            if self._pin_card and not self._tapping:
                self._pin = pin
                self._nudge()

    def give_up(self, reason: str) -> None:
        """Give the unresolved sale up: a payment that arrives later returns to the card's account. Blocks for
        the disk. Raises SaleOpen while a card is being asked, NoSuchSale, ClockWrong, JournalError."""
        if not self._turn.acquire(blocking=False):
            raise SaleOpen(_BUSY)
        try:
            unresolved = self.session.journal.unresolved()
            if not unresolved:
                raise NoSuchSale(_NOTHING_OPEN)
            self.session.terminal.give_up(unresolved[0].reference, reason)
            self._standing.refresh_sales()
            with self._changed:
                self._charge = None
                self._drop()
        finally:
            self._turn.release()
            self._touch()
        self._sender.note_new()

    def forward(self) -> None:
        """Send and fetch now; Sent or SendFailed answers."""
        self._sender.forward()

    def set_network(self, on: bool) -> None:
        """May the network be used?"""
        self._sender.switch(on)

    def note_health(self, word: str, sentence: str) -> None:
        """A patient reader tells a change in its health (tui.field.Notice)."""
        self._set_health(Health(word.endswith(_BACK) or word == _AWAY, word, sentence))

    def status(self) -> Status:
        """What is always in sight, as it was worked out last."""
        return self._status

    # ------------------------------------------------------------------------------------- small, under lock

    def _may(self, task: Task | None) -> bool:
        """Whether nothing unresolved stands in the way; by what is known here, without the disk."""
        if self.session.in_transit and isinstance(task, Sell | GiveBack):
            return False
        try:
            if isinstance(task, Sell):
                charges.finishes(self._standing.unresolved, task.amount_fen)
            elif isinstance(task, GiveBack):
                charges.finishes_refund(self._standing.unresolved, task.wanted)
        except SaleOpen:
            return False
        return True

    def _drop(self, reason: str = _DROPPED) -> None:
        """Nobody asks for the task any more. Its sale, if one is open, is ended by the clerk."""
        if self._charge is not None:
            self._to_end.append((self._charge, reason))
        self._task = self._charge = self._again = None
        self._pin, self._pin_card = "", b""

    def _await(self, *, anew: bool) -> None:
        """Tells that a card is awaited. Where a task takes card after card, one card alone does not come back
        by itself."""
        if self._task is None:
            return
        self._post(Waiting(self._task, self._again))
        if isinstance(self._field, Summoned) and (anew or not isinstance(self._task, Board | Inspect)):
            self._field.awaited()

    def _nudge(self) -> None:
        """What lies there may be asked now: the clerk wakes the reader."""
        self._nudged = True
        self._changed.notify_all()

    def _could_ask(self) -> bool:
        """Whether the card that lies there is to be asked: once in a presence, and again for its PIN."""
        if self._task is None:
            return False
        return not self._asked or bool(self._pin)

    def _touch(self) -> None:
        with self._changed:
            self._dirty = True
            self._changed.notify_all()

    def _post(self, event: Event) -> None:
        """Whoever listens must not break a tap off."""
        with suppress(Exception):  # a screen that went away is no reason to lose a payment
            self._told(event)

    def _post_sent(self, event: Event) -> None:
        if isinstance(event, Sent):
            self._refresh_review()
        self._post(event)

    def _refresh_review(self) -> None:
        try:
            self._standing.refresh_review()
        except TerminalError as error:
            self._post(_fault_of(error))
        self._touch()

    def _set_health(self, health: Health) -> None:
        if health != self._health:
            self._health = health
            self._post(ReaderChanged(health))
            self._touch()

    # ------------------------------------------------------------------------------------ the reader's thread

    def _read(self) -> None:
        while not self._closing:
            try:
                self._one_card()
            except Cancelled:
                pass
            except NoCard:
                self._well()
            except TooManyCards:
                self._crowd()
            except (ReaderError, CardError) as error:
                self._unwell(error)
            except Exception as error:  # noqa: BLE001 - a thread that died unseen would leave a dead till
                self._defect(error)

    def _one_card(self) -> None:
        """A card, from its coming to its leaving. Raises as Reader.wait_for_card."""
        link = self._field.wait_for_card(self._patience_s)
        self._well()
        self._visit(link)
        while not self._closing:
            with self._changed:
                self._lying = True
                again = self._could_ask()
            try:
                if again:
                    self._visit(self._field.wait_for_card(0))
                elif self._field.reader.wait_for_removal(None):
                    break
            except Cancelled:
                continue
            except NoCard:
                break
        self._left()

    def _left(self) -> None:
        with self._changed:
            self._lying = self._asked = False
            if self._closing:
                return
            self._post(Removed())
            self._await(anew=False)

    def _well(self) -> None:
        """The reader answers as it should."""
        self._patience_s, self._retry_s = None, _RETRY_S
        self._set_health(READY)
        if self._crowded:
            self._crowded = False
            self._left()

    def _unwell(self, error: BridgeError) -> None:
        self._set_health(Health(False, error_word(error), str(error)))
        if self._lying:  # what lay there will have to be presented anew
            self._left()
        self._pause()

    def _crowd(self) -> None:
        if not self._crowded:
            self._crowded = True
            self._post(TooMany())
        self._retry_s = _RETRY_S
        self._pause()

    def _defect(self, error: Exception) -> None:
        """A defect of this program, told without its insides."""
        with self._changed:
            self._tapping = False
            self._drop()
        self._post(Fault("internal", defect(error)))
        self._pause()

    def _pause(self) -> None:
        """Before the reader is looked at again: without patience, so that it tells whether it is well."""
        self._patience_s = 0.0
        with self._changed:
            self._changed.wait_for(lambda: self._closing, self._retry_s)
        self._retry_s = min(self._retry_s * 2, _LONGEST_RETRY_S)

    # ------------------------------------------------------------------------------------------ asking a card

    def _visit(self, link: CardLink) -> None:
        """What the card that came is asked for, if anything is wanted."""
        with self._turn:
            with self._changed:
                task = None if self._closing else self._task
                first, self._tapping = not self._lying, task is not None
                self._asked = self._asked or task is not None
            try:
                done = self._asked_for(task, link)
            finally:
                link.close()
                with self._changed:
                    self._tapping = False
        if task is None:
            if first and not self._closing:
                self._post(Unwanted())
            return
        if done is not None:
            self._post(done)
        self._touch()
        self._sender.note_new()

    def _asked_for(self, task: Task | None, link: CardLink) -> Event | None:
        """Do it; what is told once the card is free. A fault of the terminal ends the task."""
        if task is None:
            return None
        self._post(CardSeen(task, link.atr))
        try:
            if isinstance(task, Ask):
                return self._ask(task, link)
            if isinstance(task, Inspect):
                return Inspected(task.look(self.session.terminal, link))
            return self._take(task, link)
        except TerminalError as error:
            self._fault(error)
        except (BridgeError, WalletError):
            pass  # a card that left while it was inspected
        return None

    def _ask(self, task: Ask, link: CardLink) -> Event:
        found = inquire(self.session.terminal, link, task.shown)
        with self._changed:
            self._drop()
        return Asked(found)

    def _take(self, task: Sell | GiveBack | Board, link: CardLink) -> Event:
        """One tap for money, and what becomes of the task."""
        terminal = self.session.terminal

        def decided(result: Tap) -> None:
            self._post(Decided(task, replace(result, phases=dict(result.phases))))

        timed = self._field.modelled_ms
        if isinstance(task, GiveBack):
            wanted = charges.refund_for(terminal, task.wanted)
            result = refund(terminal, link, wanted, decided=decided, modelled_ms=timed)
        else:
            charge = self._charge_of(task)
            pin = self._pin_for(link)
            result = tap(terminal, link, charge, pin, decided=decided, modelled_ms=timed)
            if isinstance(task, Board) and result.outcome is not Outcome.UNRESOLVED:
                charges.end_sale(terminal, charge, result.reason)
        self._standing.refresh_sales()
        self._settle(task, result)
        return Done(task, result)

    def _charge_of(self, task: Sell | Board) -> Charge:
        """A sale is made when its first card comes, and stays the same for the next one."""
        if isinstance(task, Board):
            return task.charge()
        if self._charge is None:
            self._charge = charges.charge_for(self.session.terminal, task.amount_fen)[0]
        return self._charge

    def _pin_for(self, link: CardLink) -> str:
        """The PIN that was entered, used once, and only for the card that asked for it."""
        with self._changed:
            pin, self._pin = self._pin, ""
        if not pin:
            return ""
        try:
            selected = WalletSession(link, self.session.terminal.suite).select()
        except (BridgeError, WalletError):
            return ""  # the tap meets the same, and tells it
        return pin if selected.card == self._pin_card else ""

    def _settle(self, task: Sell | GiveBack | Board, result: Tap) -> None:
        """After a result that stands the task has ended, but for a bus, whose next card may come."""
        with self._changed:
            if result.outcome in _PIN:
                self._pin_card = result.sale.card if result.sale is not None else self._pin_card
            self._again = result if result.outcome in _STANDS else None
            if result.outcome not in _STANDS:
                self._pin, self._pin_card = "", b""
                if not isinstance(task, Board):
                    self._drop(result.reason or _DROPPED)
        self._end_dropped()

    def _fault(self, error: TerminalError) -> None:
        with self._changed:
            self._drop()
        with suppress(TerminalError):  # said by the first one
            self._standing.refresh_sales()
        self._post(_fault_of(error))

    # ------------------------------------------------------------------------------------- the clerk's thread

    def _keep(self) -> None:
        while not self._closing:
            try:
                self._keep_once()
            except Exception as error:  # noqa: BLE001 - nobody else wakes the reader
                self._post(Fault("internal", defect(error)))
                self._look_at_s = self._stopwatch() + _MINUTE_S

    def _keep_once(self) -> None:
        """Sleep until there is something to do, and do it."""
        with self._changed:
            wait_s = self._idle_s()
            if wait_s > 0.0:
                self._changed.wait(wait_s)
            cancel = self._nudged and self._lying and self._could_ask()
            self._nudged = False
            looking = self._stopwatch() >= self._look_at_s + (0.0 if self._dirty else _MINUTE_S)
            if looking:
                self._dirty = False
        if cancel:
            self._field.reader.cancel()
        self._end_dropped()
        if looking and not self._closing:
            self._tell_status()
            self._look_at_s = self._stopwatch() + STATUS_GAP_S

    def _idle_s(self) -> float:
        """How long the clerk has nothing to do: what has changed is looked at soon, all else in a minute."""
        if self._closing or self._nudged or self._to_end:
            return 0.0
        return self._look_at_s + (0.0 if self._dirty else _MINUTE_S) - self._stopwatch()

    def _end_dropped(self) -> None:
        """Sales that nobody asks for any more."""
        while True:
            with self._changed:
                if not self._to_end:
                    return
                charge, reason = self._to_end.pop(0)
            try:
                charges.end_sale(self.session.terminal, charge, reason)
            except TerminalError as error:
                self._post(_fault_of(error))

    def _tell_status(self) -> None:
        before, self._status = self._status, self._look()
        if seen(self._status) != seen(before):
            self._post(StatusChanged(self._status))

    def _look(self) -> Status:
        sender = self._sender
        return self._standing.look(self._health, sender.network, sender.reason, sender.clock_offset_s)
