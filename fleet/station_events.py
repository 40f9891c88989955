"""What a station is asked for, what it tells, and what is always in sight. Data only."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from firmware_bridge.link import CardLink
from pos_terminal.errors import TerminalError
from pos_terminal.inquiry import SHOWN, Inquiry
from pos_terminal.limits import Freshness
from pos_terminal.refund import Refund
from pos_terminal.sale import Sale
from pos_terminal.tap import Tap
from pos_terminal.terminal import Charge, Terminal

# ---------------------------------------------------------------------------- what the next card is for


@dataclass(frozen=True, slots=True)
class Sell:
    """A till's sale; it finishes an unresolved one of that amount."""

    amount_fen: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A refund; it finishes an unresolved one of the same terms."""

    wanted: Refund | Sale


@dataclass(frozen=True, slots=True)
class Ask:
    """ "Did I pay?": the card's last records, and nothing is debited."""

    shown: int = SHOWN


@dataclass(frozen=True, slots=True)
class Board:
    """A bus: `charge` is asked for each card, in the reader's thread. Stays wanted, card after card. A sale
    that its card did not pay is ended with that card."""

    charge: Callable[[], Charge]


@dataclass(frozen=True, slots=True)
class Inspect:
    """`look` looks at each card, in the reader's thread, and what it returns is told. Stays wanted."""

    look: Callable[[Terminal, CardLink], object]


Task = Sell | GiveBack | Ask | Board | Inspect

# ---------------------------------------------------------------------------------- what is always in sight


@dataclass(frozen=True, slots=True)
class Health:
    """A reader's health. `word` is for programs, `sentence` says what to do."""

    ok: bool
    word: str
    sentence: str


class Network(Enum):
    """The way to clearing."""

    UNKNOWN = "not tried yet"
    ONLINE = "online"
    OFFLINE = "offline"
    SENDING = "sending"
    NOT_SET = "no clearing in the settings"


@dataclass(frozen=True, slots=True)
class Status:
    """What a person at the terminal always sees. Amounts in fen, ages in seconds.

    `oldest_s`: age of the oldest entry that waits. `clock_offset_s`: this machine's clock minus clearing's,
    by its last answer; None when it was never heard. `open_sale`: a card may have paid it. `trouble`: why
    the terminal itself can't take money at this moment (clock, disk, journal); empty when it can.
    """

    reader: Health
    network: Network
    network_reason: str
    waiting_count: int
    waiting_fen: int
    oldest_s: int | None
    carried: int
    review: int
    locked: str
    denylist_age_s: int | None
    denylist: Freshness
    clock_offset_s: int | None
    open_sale: Sale | None
    now_s: int
    trouble: str = ""


# ------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. Posted from any thread of the station."""


@dataclass(frozen=True, slots=True)
class Waiting(Event):
    """A card is awaited for this task (EMV message 15). `again`: the tap after which the same card, or its
    PIN, is awaited; None when any card may come."""

    task: Task
    again: Tap | None = None


@dataclass(frozen=True, slots=True)
class CardSeen(Event):
    """A card is there and is being asked (EMV message 16). `atr`: its answer to reset, 2 to 33 bytes."""

    task: Task
    atr: bytes = b""


@dataclass(frozen=True, slots=True)
class Decided(Event):
    """The moment of the result."""

    task: Task
    tap: Tap


@dataclass(frozen=True, slots=True)
class Done(Event):
    """The tap has ended: ratified and carried as far as it got."""

    task: Task
    tap: Tap


@dataclass(frozen=True, slots=True)
class Asked(Event):
    """What a card shows."""

    inquiry: Inquiry


@dataclass(frozen=True, slots=True)
class Inspected(Event):
    """What `Inspect.look` returned."""

    found: object


@dataclass(frozen=True, slots=True)
class Removed(Event):
    """The field is empty again."""


@dataclass(frozen=True, slots=True)
class Unwanted(Event):
    """A card came while nothing was asked for: it was not asked, and nothing was taken."""


@dataclass(frozen=True, slots=True)
class TooMany(Event):
    """Two cards lie there (EMV message 19). Ready again when one is left."""


@dataclass(frozen=True, slots=True)
class ReaderChanged(Event):
    """The reader's health changed."""

    health: Health


@dataclass(frozen=True, slots=True)
class Fault(Event):
    """The terminal itself has to be looked at. The task ended; what stands is durable. `error`: what was
    raised; None for a defect of this program."""

    word: str
    sentence: str
    error: TerminalError | None = None


@dataclass(frozen=True, slots=True)
class Sending(Event):
    """An upload is under way: entries acknowledged, of those that waited."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Sent(Event):
    """An upload ended well: entries acknowledged and rejected, denylist files and orders that are new."""

    entries: int
    rejected: int
    fetched_denylists: int
    fetched_orders: int


@dataclass(frozen=True, slots=True)
class SendFailed(Event):
    """It could not be sent, or not all of it; what waits waits on."""

    sentence: str


@dataclass(frozen=True, slots=True)
class StatusChanged(Event):
    """Something that a person sees has changed; at most twice a second."""

    status: Status
