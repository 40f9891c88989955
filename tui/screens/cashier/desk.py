"""The till behind its screen: what a key means now, what an event changes, what is to be shown. No Textual.

    amount ──Enter──► card ──► hold still ──► result ──next key──► amount
                        ▲          ├──► PIN ──Enter──► card
                        │          └──► torn: the same card again, or given up with a reason
                        └─ refund, "did I pay?"

The screen of tui/screens and the line mode of tui/plain both show this one. It holds no rule about money: the
station takes cards, pos_terminal decides. It is used by one thread, which brings it the station's events, and
nothing here waits for a disk, a reader or a network, but for `give_up`, which is for a worker.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from fleet.open import TerminalSession
from fleet.station_events import (
    Ask,
    Asked,
    CardSeen,
    Decided,
    Done,
    Event,
    Fault,
    GiveBack,
    Removed,
    Sell,
    SendFailed,
    Sending,
    Sent,
    Status,
    Task,
    TooMany,
    Unwanted,
    Waiting,
)
from hardwallet.records import Record
from pos_terminal.errors import ShiftNotOpen, TerminalError
from pos_terminal.inquiry import Inquiry
from pos_terminal.limits import refusal
from pos_terminal.refund import Refund
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from pos_terminal.visit import Outcome, Tap
from tui.screens.cashier.amount import AmountEntry
from tui.text import say, told, yuan

Say = Callable[[], str]

KEPT: Final = 50
"""Results that are kept at hand, to be shown beside the amount where there is room."""
PIN_LENGTHS: Final = range(4, 13)
"""Digits of a PIN."""
MARK: Final = "●"


class Phase(Enum):
    """What the till is doing."""

    AMOUNT = "an amount is typed"
    CARD = "a card is waited for"
    HOLD = "a card is being read"
    PIN = "a PIN is typed"
    TORN = "nobody knows whether the card has paid"
    RESULT = "a result stands"
    ASKED = "what a card tells stands"
    FAULT = "the terminal has to be looked at"


class Station(Protocol):
    """What the till needs of fleet.station.Station."""

    @property
    def task(self) -> Task | None:
        """What the next card is for."""

    def want(self, task: Task | None) -> bool:
        """Whether the next card is for this now."""

    def enter_pin(self, pin: str) -> None:
        """The PIN that was asked for."""

    def give_up(self, reason: str) -> None:
        """The unresolved sale. Waits for the disk; raises TerminalError."""

    def forward(self) -> None:
        """Send now."""

    def status(self) -> Status:
        """What is always in sight."""


class Shifts(Protocol):
    """What the till needs of fleet.shift_desk.ShiftDesk to sell."""

    def require_open(self) -> None:
        """Raises ShiftNotOpen."""


class PinEntry:
    """Digits that nobody sees: only how many. It is in no repr, and forgotten when it is taken."""

    __slots__ = ("_digits",)

    def __init__(self) -> None:
        self._digits = ""

    def __repr__(self) -> str:
        return "PinEntry()"

    def __len__(self) -> int:
        return len(self._digits)

    def type(self, key: str) -> None:
        """One more digit; anything else, and what is too much, is passed over."""
        if len(key) == 1 and key.isascii() and key.isdigit() and len(self._digits) < PIN_LENGTHS[-1]:
            self._digits += key

    def back(self) -> None:
        """The last digit goes."""
        self._digits = self._digits[:-1]

    def take(self) -> str:
        """The PIN, which is forgotten here."""
        digits, self._digits = self._digits, ""
        return digits


@dataclass(frozen=True, slots=True)
class Past:
    """A result that was shown."""

    task: Task
    tap: Tap


class Desk:
    """The till's state: keys go in, events go in, `view` comes out."""

    def __init__(self, station: Station, session: TerminalSession, shifts: Shifts) -> None:
        self._station, self._session, self._shifts = station, session, shifts
        self.entry = AmountEntry()
        self.pin = PinEntry()
        self.phase = Phase.AMOUNT
        self.task: Task | None = None
        self.tap: Tap | None = None
        self.open_sale: Sale | None = None
        self.inquiry: Inquiry | None = None
        self.past: deque[Past] = deque(maxlen=KEPT)
        self.sending: tuple[int, int] | None = None
        self.fault: Say = lambda: ""
        self.ended: Say = lambda: ""
        self.noted: Say | None = None
        self.crowd = False
        self.lying = False
        self.found_at_start = False
        self._settled = True  # the tap behind the last result has ended
        self._wish: Task | None = None
        self._pin_typed = False

    # ------------------------------------------------------------------ at the start

    def begin(self) -> None:
        """A sale that was open when the terminal stopped comes first: its card may have paid."""
        self.found_at_start = self._take_up(self._station.status().open_sale)

    def _take_up(self, sale: Sale | None) -> bool:
        """An unresolved sale: the same card is asked for again, and for nothing else."""
        if sale is None:
            return False
        self.open_sale, self.phase, self.tap = sale, Phase.TORN, None
        self.task = GiveBack(sale) if sale.profile == REFUND_PROFILE else Sell(sale.amount_fen)
        self._station.want(self.task)
        return True

    # ------------------------------------------------------------------ keys

    @property
    def types_pin(self) -> bool:
        """Whether digits belong to a PIN."""
        return self.phase is Phase.PIN

    @property
    def awaits_card(self) -> bool:
        """Whether a card is asked for now."""
        return self.phase in (Phase.CARD, Phase.TORN)

    @property
    def is_torn(self) -> bool:
        """Whether an unresolved sale has to be finished or given up."""
        return self.open_sale is not None

    @property
    def printable(self) -> tuple[Record, SaleState] | None:
        """The last record that a card gave since the start, and what has become of its sale."""
        for past in self.past:
            record = past.tap.record
            if record is not None:
                lost = past.tap.outcome is Outcome.PAID_NOT_GRANTED
                return record, SaleState.PAID_NOT_GRANTED if lost else SaleState.GRANTED
        return None

    def type(self, key: str) -> None:
        """A digit or a dot; whatever else is told in words."""
        self.noted = None
        if self.phase is Phase.PIN:
            self.pin.type(key)
        elif self._may_type():
            self.entry.type(key)

    def paste(self, text: str) -> None:
        """An amount as a whole, or nothing. A PIN is never pasted."""
        self.noted = None
        if self.phase is not Phase.PIN and self._may_type():
            self.entry.paste(text)

    def _may_type(self) -> bool:
        """While a card is waited for, keys change nothing; a result makes room for the next amount."""
        if self.phase in (Phase.RESULT, Phase.FAULT, Phase.ASKED) and not self.is_torn:
            self._to_amount()
        return self.phase is Phase.AMOUNT

    def back(self) -> None:
        """The last character goes."""
        self.noted = None
        if self.phase is Phase.PIN:
            self.pin.back()
        elif self._may_type():
            self.entry.back()

    def enter(self) -> None:
        """The amount is right: ask for the card. Or the PIN is typed."""
        self.noted = None
        if self.phase is Phase.PIN:
            self._enter_pin()
        elif self.phase is Phase.TORN:
            self.noted = lambda: say("Present the same card again, or give the sale up with G.")
        elif self.can_try_again:
            self._sell_again()
        elif self._may_type():
            amount_fen = self.entry.amount_fen()
            if amount_fen is not None and self._may_sell(amount_fen):
                self._want(Sell(amount_fen))

    @property
    def can_try_again(self) -> bool:
        """Whether a payment was declined just now: Enter asks another card for the same amount."""
        tap = self.tap
        return (
            self.phase is Phase.RESULT
            and isinstance(self.task, Sell)
            and tap is not None
            and tap.outcome is Outcome.DECLINED
        )

    def _sell_again(self) -> None:
        task = self.task
        if isinstance(task, Sell) and self._may_sell(task.amount_fen):
            self._want(task)

    def _may_sell(self, amount_fen: int) -> bool:
        """What the terminal says before any card is asked for."""
        try:
            self._shifts.require_open()
            reason = refusal(self._session.terminal.limits, amount_fen, self._session.journal.waiting_fen())
        except ShiftNotOpen as error:
            closed = str(error)
            self.entry.refuse(lambda: say("{sentence}: press S.", sentence=told(closed).rstrip(".。")))
            return False
        except TerminalError as error:
            reason = str(error)
        if reason is not None:
            words = reason
            self.entry.refuse(lambda: told(words))
        return reason is None

    def _enter_pin(self) -> None:
        if len(self.pin) not in PIN_LENGTHS:
            self.noted = lambda: say("A PIN has 4 to 12 digits.")
            return
        if self._settled:
            self._send_pin()
        else:
            self._pin_typed = True

    def _send_pin(self) -> None:
        self._pin_typed = False
        self.phase, self.tap, self.lying = Phase.CARD, None, False
        self._station.enter_pin(self.pin.take())

    def cancel(self) -> None:
        """Esc: nothing is asked of any card any more, unless one may have paid already."""
        self.noted = None
        if self.phase is Phase.ASKED:
            self.leave_inquiry()
        elif self.is_torn:
            self.noted = lambda: say("The card may have paid. Present it again, or give the sale up with G.")
        elif self.phase in (Phase.CARD, Phase.HOLD, Phase.PIN):
            self._stop_waiting()
        elif self.phase is Phase.AMOUNT:
            self.entry.clear()
        else:
            self._to_amount()

    def _stop_waiting(self) -> None:
        wished, self._wish = self._wish, None
        if wished is None and not self._station.want(None):
            self._say_busy()
            return
        self.pin.take()
        self.phase, self.task, self.tap = Phase.AMOUNT, None, None

    def ask(self) -> None:
        """ "Did I pay?": the next card shows what it paid."""
        self._want(Ask())

    def give_back(self, refund: Refund | Sale) -> None:
        """A refund: the next card gets it, when it is the one that paid."""
        if self.is_torn and not isinstance(refund, Sale):
            self.noted = lambda: say("First finish the open sale, or give it up with G.")
            return
        self._want(GiveBack(refund))

    def _want(self, task: Task) -> None:
        self.noted = None
        if not self._settled:
            self._wish = task  # a result stands, but its card is still being told so
        elif self.phase is Phase.HOLD or not self._station.want(task):
            self._say_busy()
            return
        self.pin.take()
        self.task, self.tap, self.inquiry = task, None, None
        self.phase = Phase.CARD

    def _say_busy(self) -> None:
        self.noted = lambda: say("A card is being read; its result comes first.")

    def leave_inquiry(self) -> None:
        """What a card told was read."""
        self.inquiry = None
        if self.phase is Phase.ASKED:
            self.phase, self.task = (Phase.TORN if self.is_torn else Phase.AMOUNT), self._station.task

    def forward(self) -> None:
        """Send what waits, now."""
        self._station.forward()

    # ------------------------------------------------------------------ giving a sale up

    def give_up(self, reason: str) -> None:
        """For a worker: it waits for the disk. Raises TerminalError; then nothing has changed."""
        self._station.give_up(reason)

    def was_given_up(self, reason: str) -> None:
        """After `give_up`."""
        sale, self.open_sale, self.noted = self.open_sale, None, None
        self.entry.clear()
        self.task, self.tap, self.phase = None, None, Phase.RESULT
        words = "" if sale is None else yuan(sale.amount_fen)
        self.ended = lambda: say(
            "CNY {amount} is given up: {reason}. If the card has paid, the money returns to its account.",
            amount=words,
            reason=reason,
        )

    def note(self, words: Say) -> None:
        """Something to be told beside what stands, until the next key."""
        self.noted = words

    # ------------------------------------------------------------------ events

    def take(self, event: Event) -> None:
        """What the event changes."""
        match event:
            case Waiting(task, _):
                self._take_waiting(task)
            case CardSeen():
                self.crowd, self.noted, self.lying = False, None, True
                self.phase = Phase.HOLD
            case Decided(task, tap):
                self._take_decided(task, tap)
            case Done(_, tap):
                self._take_done(tap)
            case Asked(inquiry):
                self._take_asked(inquiry)
            case TooMany():
                self.crowd = True
            case Removed():
                self.crowd = self.lying = False
            case Fault(_, sentence):
                self._take_fault(sentence)
            case _:
                self._take_aside(event)

    def _take_waiting(self, task: Task) -> None:
        """Told again whenever the reader is free; what stands on the screen says it better."""
        self.crowd = False
        if self.phase in (Phase.AMOUNT, Phase.CARD, Phase.HOLD) and self._station.task is not None:
            self.task = task
            self.phase = Phase.TORN if self.is_torn and not isinstance(task, Ask) else Phase.CARD

    def _take_aside(self, event: Event) -> None:
        """What changes nothing about the sale."""
        match event:
            case Unwanted():
                self.noted = lambda: say("A card came, but nothing was asked of it: nothing was taken.")
            case Sending(done, total):
                self.sending = done, total
            case Sent() | SendFailed():
                self.sending = None
            case _:
                pass

    def _take_decided(self, task: Task, tap: Tap) -> None:
        self.crowd, self.noted, self.inquiry = False, None, None
        self._settled, self._wish, self._pin_typed = False, None, False
        self.task, self.tap = task, tap
        if tap.outcome is Outcome.UNRESOLVED:
            self.open_sale, self.phase = tap.sale or self.open_sale, Phase.TORN
        elif tap.outcome in (Outcome.TRY_AGAIN, Outcome.OTHER_CARD):
            self.phase = Phase.TORN if self.is_torn else Phase.CARD
        elif tap.outcome in (Outcome.PIN_WANTED, Outcome.PIN_WRONG):
            self.pin.take()
            self.open_sale, self.phase = None, Phase.PIN
        else:
            self.open_sale, self.phase = None, Phase.RESULT
            self.found_at_start = False
            self.past.appendleft(Past(task, tap))
            self.entry.clear()

    def _take_done(self, tap: Tap) -> None:
        """The card is free. What was wished for meanwhile is asked for now."""
        self._settled = True
        wish, self._wish = self._wish, None
        if wish is not None:
            self._want(wish)
        elif self._pin_typed and self.phase is Phase.PIN:
            self._send_pin()
        elif self.phase is Phase.RESULT and self.tap is not None:
            self.tap = tap

    def _take_asked(self, inquiry: Inquiry) -> None:
        """What the card tells is shown; a sale that is open is waited for again."""
        self._settled = True
        self._take_up(self.open_sale)
        self.inquiry, self.phase = inquiry, Phase.ASKED

    def _take_fault(self, sentence: str) -> None:
        self.crowd, self.noted, self._settled, self._wish = False, None, True, None
        self.pin.take()
        self.task, self.tap, self.phase = None, None, Phase.FAULT
        self.fault = lambda: told(sentence)
        if self._take_up(self._station.status().open_sale):
            self.noted = self.fault

    def _to_amount(self) -> None:
        self.phase, self.task, self.tap, self.inquiry = Phase.AMOUNT, None, None, None
        self.found_at_start = False
        self.entry.clear()
