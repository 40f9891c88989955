"""A terminal at work: who it is, whom it trusts, what it may take, and the ports it works through."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from hardwallet.certificates import CLASS_TRANSIT, TERMINAL, Certificate, TrustBundle
from hardwallet.records import RETAIL, TRANSIT
from hardwallet.riders import Rider
from hardwallet.session import KnownCard, TerminalIdentity
from hardwallet.suites import Suite
from pos_terminal import pouch
from pos_terminal.entropy import HealthyEntropy
from pos_terminal.errors import ClockWrong, NoSuchSale, SaleOpen
from pos_terminal.limits import TerminalLimits, stale_refusal
from pos_terminal.ports import Clock, Denylists, Entropy, Journal, Orders, RideBook, Stopwatch
from pos_terminal.sale import Sale, SaleState

SERVICE_DAY_AHEAD: Final = timedelta(hours=8) - timedelta(hours=4)
"""Beijing time, less four hours: a ride after midnight belongs to the day whose timetable it is in."""

DENIED: Final = "the card is on its issuer's denylist and can't pay here; its holder has to ask the issuer"
_KNOWN_CARDS = 4096
_REFERENCE_RANDOM = 4


@dataclass(frozen=True, slots=True)
class Fare:
    """What a bus takes: `vehicle` 4 bytes, `day` the service day (YYYYMMDD), `run` of it and `route` (line
    and direction, or nothing) name the ride.

    `amount_fen` is an adult's fare, `by_rider` those of other classes; a class that is not there pays as an
    adult. `varies`: the fare of a ride may change while the ride lasts, since it goes by stops.
    `has_siblings`: the vehicle has several validators. `book`: the run that counts the ride.
    """

    amount_fen: int
    vehicle: bytes
    day: int
    run: int
    route: str = ""
    by_rider: Mapping[Rider, int] = field(default_factory=dict, hash=False)
    varies: bool = False
    has_siblings: bool = False
    book: RideBook | None = field(default=None, compare=False, repr=False)

    def amount_for(self, rider: Rider, passenger: int = 0) -> int:
        """What a card of that rider class pays, in fen; 0 is a free ride. A further passenger, whose class no
        card certifies, pays as an adult."""
        return self.amount_fen if passenger else self.by_rider.get(rider, self.amount_fen)


Charge = Sale | Fare
"""What a tap asks for: a sale with its own reference, or a fare, whose reference names the ride and the
card."""


@dataclass(slots=True)
class Terminal:
    """One terminal. Make sales with `new_sale`, take them with `pos_terminal.tap.tap`.

    Raises CertificateRefused when its own certificate does not stand under `trust`.
    """

    identity: TerminalIdentity
    trust: TrustBundle
    suite: Suite
    journal: Journal
    clock: Clock
    stopwatch: Stopwatch
    entropy: Entropy
    denylists: Denylists
    limits: TerminalLimits = field(default_factory=TerminalLimits)
    orders: Orders = field(default_factory=pouch.Orders)
    known_cards: dict[bytes, KnownCard] = field(default_factory=dict)
    _transactions: Iterator[int] = field(default_factory=lambda: iter(()))
    _trusted: int = 0

    def __post_init__(self) -> None:
        self.entropy = HealthyEntropy(self.entropy)
        certificate = self.identity.certificate
        self.trust.check(certificate, TERMINAL, certificate.not_before)
        self._trusted = self.trust.version

    @property
    def profile(self) -> int:
        """TRANSIT or RETAIL, as its certificate says."""
        return TRANSIT if self.identity.certificate.klass == CLASS_TRANSIT else RETAIL

    def now(self) -> int:
        """Seconds since 1970, believed only when it can be right. Raises ClockWrong: nothing is ever
        re-stamped."""
        now = self.clock()
        certificate = self.identity.certificate
        if not certificate.not_before <= now <= certificate.not_after:
            raise ClockWrong(
                "this machine's date lies outside the dates of the terminal's certificate; "
                "set the clock, or renew the certificate if the date is right"
            )
        newest = self.journal.last_time_s()
        if now + self.limits.clock_back_s < newest:
            raise ClockWrong("this machine's clock went back behind its newest sale; set the clock first")
        if now - self.limits.clock_ahead_s > max(newest, certificate.not_before):
            raise ClockWrong(
                "this machine's clock stands very long after its newest sale; set the clock, "
                "or raise clock_ahead_s in the terminal's settings if the date is right"
            )
        return now

    def transaction(self, now_s: int) -> int:
        """The next transaction number, never given out before."""
        for number in self._transactions:
            return number
        self._transactions = iter(self.journal.reserve_transactions(now_s))
        return next(self._transactions)

    def new_sale(self, amount_fen: int) -> Sale:
        """A sale with a fresh reference. Nothing is kept before a card is about to be asked.

        Raises SaleOpen while an earlier sale is unresolved, ClockWrong.
        """
        waiting = self.journal.unresolved()
        if waiting:
            raise SaleOpen(
                "an earlier sale is not finished: present the same card again, or give that sale up first"
            )
        now = self.now()
        number = self.transaction(now)
        reference = now.to_bytes(4, "big") + number.to_bytes(4, "big") + self.entropy(_REFERENCE_RANDOM)
        return Sale(reference, amount_fen, self.trust.currency, self.profile, number, now)

    def give_up(self, reference: bytes, reason: str) -> None:
        """The cashier gives an unresolved sale up; a payment that arrives later is *paid, not granted*.

        Raises NoSuchSale when no unresolved sale has that reference (12 bytes).
        """
        sale = self.journal.sale(reference)
        if sale is None or sale.state is not SaleState.UNRESOLVED:
            raise NoSuchSale("there is no unfinished sale with that reference")
        self.journal.change_sale(reference, SaleState.GIVEN_UP, reason, self.now())

    def is_denied(self, card: Certificate) -> bool:
        """Whether a card is on the denylist of its issuer, as far as one is held."""
        held = self.denylists.of(card.authority)
        return held is not None and card.card in held

    def denylist_refusal(self, card: Certificate, amount_fen: int, now_s: int) -> str | None:
        """Why a card that was not denied a moment ago can't pay the amount all the same, or None: the list
        that would tell is missing or too old, or is a newer one by now, which denies it."""
        issuer = card.authority
        if card.card[: len(issuer)] != issuer:
            return f"the card's number {card.card.hex()} is not one of its issuer's ({issuer.hex()})"
        held = self.denylists.of(issuer)
        if held is None:
            return (
                f"this terminal holds no good denylist of the card's issuer ({issuer.hex()}), so it can't "
                "tell whether the card is refused; connect it, or import one (hardwallet denylist import)"
            )
        if card.card in held:  # else a new list would count as fresh, and nobody had looked into it
            return DENIED
        return stale_refusal(self.limits, amount_fen, now_s - held.time_s)

    def known_card(self, digest: bytes) -> KnownCard | None:
        """The card of a certificate (digest, 8 bytes) that was verified before, unless the trusted operators
        have changed since."""
        if self._trusted != self.trust.version:
            self._trusted = self.trust.version
            self.known_cards.clear()
        return self.known_cards.get(digest)

    def remember(self, digest: bytes, card: KnownCard) -> None:
        """Keep a verified card's key at hand, by the digest (8 bytes) of its certificate; bounded, the oldest
        goes first."""
        if len(self.known_cards) >= _KNOWN_CARDS:
            del self.known_cards[next(iter(self.known_cards))]
        self.known_cards[digest] = card


def service_day(now_s: int) -> int:
    """The service day (YYYYMMDD) at a time, seconds since 1970: it begins at 04:00 in Beijing."""
    return int((datetime.fromtimestamp(now_s, UTC) + SERVICE_DAY_AHEAD).strftime("%Y%m%d"))


def ride_reference(hash_: Callable[[bytes], bytes], fare: Fare, card: bytes, passenger: int = 0) -> bytes:
    """The reference of a ride (12 bytes): each validator of a vehicle names the same ride alike.

    `passenger`: 0 for the rider whose card (8 bytes) it is, else the number of a further one.
    """
    ride = fare.vehicle + fare.day.to_bytes(4, "big") + fare.run.to_bytes(4, "big")
    further = bytes((passenger,)) + fare.route.encode() if passenger or fare.route else b""
    return hash_(b"\x54" + ride + card + further)[:12]
