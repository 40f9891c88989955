"""What a tap needs and does not own: a journal, a clock, a source of entropy, what card issuers sent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hardwallet.denylist import Denylist
from hardwallet.records import Record
from pos_terminal.sale import Sale, SaleState

if TYPE_CHECKING:
    from hardwallet.riders import Rider
    from pos_terminal.visit import Tap

Clock = Callable[[], int]
"""Seconds since 1970-01-01T00:00:00Z."""

Stopwatch = Callable[[], float]
"""Monotonic seconds, for measuring."""

Entropy = Callable[[int], bytes]
"""`entropy(n)` gives n fresh random bytes."""


@dataclass(frozen=True, slots=True)
class StoredPayment:
    """A record that this terminal holds durably. `own`: it names this terminal; else it was carried for
    another."""

    record: Record
    own: bool
    granted: bool


@dataclass(frozen=True, slots=True)
class CardCertificate:
    """A card's certificate, verified once: 178 bytes, and its agreement key, 64 bytes or empty."""

    raw: bytes
    agreement_key: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """What clearing has not acknowledged. `oldest_time_s` is None when nothing waits.

    `count` and `amount_fen`: payments to this terminal. `carried`: records for others. `entries`: all of it.
    """

    count: int
    amount_fen: int
    oldest_time_s: int | None
    carried: int
    entries: int


class Journal(Protocol):
    """The terminal's durable store. What a method kept is on the disk when it returns.

    Every method raises JournalFull, JournalFailed or JournalDamaged; after JournalFailed nothing more is
    accepted.
    """

    def reserve_transactions(self, now_s: int) -> range:
        """A block of transaction numbers, none of which was or will be given out again."""

    def require_space(self) -> None:
        """Raises JournalFull unless there is room for a payment: asked before a card is."""

    def open_sale(self, sale: Sale) -> None:
        """Keep that `sale.card` (8 bytes) is about to be asked to pay: the sale is unresolved from here on.

        Again for the same sale and card changes nothing but its transaction number; for a sale whose state is
        open
        or declined it may name another card. Raises ReferenceReused when the reference names another amount,
        currency
        or profile, or a sale that is unresolved with another card, or one that has ended otherwise.
        """

    def change_sale(self, reference: bytes, state: SaleState, reason: str, now_s: int) -> None:
        """Keep a change of state that has no record: open again (the card said no), declined, given up.

        `reference`: 12 bytes. Raises NoSuchSale.
        """

    def keep_payment(self, record: Record, state: SaleState, now_s: int) -> None:
        """Keep a payment to this terminal together with the state of its sale: granted, or paid, not granted.

        Makes the sale when it was never opened (transit). The same record again changes nothing;
        another record with its card and sequence is kept too, as evidence.
        """

    def keep_carried(self, record: Record, now_s: int) -> None:
        """Keep another terminal's payment, or a receipt. The same record again changes nothing."""

    def keep_delivered(self, card: bytes, number: int, status_word: int, now_s: int) -> None:
        """Keep what a card (8 bytes) answered to its issuer's order of that number."""

    def payment(self, card: bytes, sequence: int) -> StoredPayment | None:
        """The stored payment of a card (8 bytes) with that sequence number."""

    def sale(self, reference: bytes) -> Sale | None:
        """The sale of a reference (12 bytes)."""

    def unresolved(self) -> list[Sale]:
        """Sales that asked a card and know no answer, oldest first; `card` is the one that was asked."""

    def waiting(self) -> Waiting:
        """What clearing has not acknowledged."""

    def waiting_fen(self) -> int:
        """The amount of the own payments that clearing has not acknowledged."""

    def last_time_s(self) -> int:
        """The time of the newest entry, seconds since 1970; 0 when there is none."""

    def certificate(self, digest: bytes) -> CardCertificate | None:
        """A card's certificate by its digest (8 bytes)."""

    def keep_certificate(self, digest: bytes, certificate: CardCertificate) -> None:
        """Keep a verified card certificate under its digest (8 bytes); bounded, the longest unused goes
        first."""


class Denylists(Protocol):
    """The denylists of the card issuers."""

    def of(self, operator: bytes) -> Denylist | None:
        """The list of an issuing operator (4 bytes); None when none is held, or none that is good."""


class Orders(Protocol):
    """Card issuers' orders that wait for their cards."""

    def waiting_for(self, card: bytes) -> list[bytes]:
        """The orders for a card (8 bytes), the lowest number first; 125 bytes each."""

    def drop(self, raw: bytes) -> None:
        """The card has answered this order (125 bytes)."""

    def settle(self) -> None:
        """Keep what was dropped; called when the card has its result."""


class RideBook(Protocol):
    """A run of a bus, as a tap knows it. Called in the thread of the tap."""

    def passenger(self, card: bytes) -> int:
        """Whom this tap of a card (8 bytes) pays for: 0 its own rider, else the number of a further one."""

    def rides_free(self, reference: bytes) -> bool:
        """Whether the ride of that reference (12 bytes) was granted for nothing."""

    def claims(self, record: Record) -> bool:
        """Whether a payment to this terminal, found on its card, is for a ride of this run: a torn one."""

    def found(self, record: Record, rider: "Rider") -> None:
        """A payment that it claims is kept as granted now; `rider` is the card's class."""

    def keep_free(self, reference: bytes, card: bytes, rider: "Rider", now_s: int) -> bool:
        """Keep a free ride durably, by its reference (12 bytes) and card (8 bytes); False when it was kept
        before. Raises StoreFailed: then nothing is granted."""

    def decided(self, tap: "Tap") -> None:
        """The result of the tap stands."""
