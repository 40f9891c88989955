"""A counter to test at: cards that cost nothing to copy, terminals on real journals, short words for taps."""

import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from firmware_bridge.link import CardLink
from firmware_bridge.virtual.in_process import InProcessReader
from firmware_bridge.virtual.tear import TearMoment
from hardwallet.card.applet import Card
from hardwallet.card.identity import CardIdentity
from hardwallet.card.memory import MAX_TRIES, CardMemory, fresh_state
from hardwallet.certificates import (
    CARD,
    CLASS_RETAIL,
    CLASS_TRANSIT,
    TERMINAL,
    Certificate,
    TrustBundle,
    agreement_digest,
    digest,
    signed,
)
from hardwallet.denylist import Denylist
from hardwallet.issuing import ACQUIRER, ISSUER, YEAR_S, Scheme, create_scheme, open_scheme
from hardwallet.limits import tiers
from hardwallet.messages import LoadOrder
from hardwallet.records import Record
from hardwallet.riders import Rider, class_byte
from hardwallet.session import KnownCard, TerminalIdentity, WalletSession
from hardwallet.suites import International, SigningKey, Suite
from offline_sync.journal import SqliteJournal
from pos_terminal.denylist import Denylists
from pos_terminal.limits import TerminalLimits
from pos_terminal.ports import Journal
from pos_terminal.tap import Tap, tap
from pos_terminal.terminal import Charge, Fare, Terminal

PASSPHRASE: Final = b"a passphrase for tests"
NOW: Final = 1_790_000_000  # September 2026
PIN: Final = "271828"
WRONG_PIN: Final = "314159"
VEHICLE: Final = b"B042"
SMALL: Final = 5
LARGE: Final = 4
SELECT: Final = 1
PAY_KNOWN: Final = 2
PAY_NEW: Final = 3

Wrap = Callable[[CardLink], CardLink]


def seeded(seed: object) -> Callable[[int], bytes]:
    """Random bytes from a seed: the same in every run."""
    return random.Random(str(seed)).randbytes


@dataclass(frozen=True, slots=True, repr=False)
class Blank:
    """A card as it was issued, loaded and given its PIN: copied for each test."""

    identity: CardIdentity
    state: bytes
    image: bytes


class Holder:
    """Somebody with a card, and the reader that the card is held to."""

    def __init__(self, blank: Blank, seed: object = 1) -> None:
        self.identity = blank.identity
        self.memory = CardMemory(blank.state, blank.image)
        self.card = Card(blank.identity, self.memory, seeded(("card", seed)))
        self.reader = InProcessReader(self.card)

    @property
    def number(self) -> bytes:
        return self.identity.card

    @property
    def balance_fen(self) -> int:
        return self.memory.state().balance_fen

    @property
    def sequence(self) -> int:
        return self.memory.state().sequence

    @property
    def unratified(self) -> int:
        return len(self.memory.state().unratified)

    @property
    def records(self) -> list[Record]:
        """The payments that the card holds, oldest first."""
        return [record for record in self.card.journal_records() if record.kind == 0xD1]

    def copy(self) -> Blank:
        """The card as it is now."""
        return Blank(self.identity, self.memory.state().to_bytes(), self.memory.image())


@dataclass
class Mill:
    """A scheme, made once, which issues cards and terminals quickly."""

    folder: Path
    suite: Suite
    trust: TrustBundle
    acquirer: SigningKey
    issuer: SigningKey
    _blanks: dict[tuple[int, int, str], Blank] = field(default_factory=dict)
    _merchants: int = 0
    _cards: int = 0

    def blank(self, tier: int = SMALL, balance_fen: int = 20_000, pin: str = "") -> Blank:
        """A card of that tier, issued once."""
        wanted = tier, balance_fen, pin
        if wanted not in self._blanks:
            self._blanks[wanted] = self.new_blank(tier, balance_fen, pin)
        return self._blanks[wanted]

    def new_blank(self, tier: int = SMALL, balance_fen: int = 20_000, pin: str = "") -> Blank:
        """A card that nobody else has: loaded, and given its PIN, by the commands a real card takes."""
        with self.issuing() as scheme:
            identity, memory = scheme.new_card(tier, NOW, balance_fen=balance_fen)
            holder = Holder(Blank(identity, memory.state().to_bytes(), memory.image()))
            if balance_fen:
                scheme.load(holder.reader.wait_for_card(0), balance_fen, NOW)
        if pin:
            self.set_pin(holder, pin)
        return holder.copy()

    def quick_blank(self, balance_fen: int = 20_000, rider: Rider = Rider.ADULT) -> tuple[Blank, bytes]:
        """A card of its own, and the order by which it was loaded: as issued, but in no issuing journal."""
        self._cards += 1
        suite, entropy = self.suite, seeded(("quick", self._cards))
        signing, agreement = suite.new_signing_key(entropy), suite.new_agreement_key(entropy)
        number = ISSUER + (0x80000000 + self._cards).to_bytes(4, "big")
        issuer = self.trust.operator(ISSUER)
        certificate = signed(
            Certificate(
                *(CARD, suite.number, class_byte(LARGE, rider), self.trust.scheme, ISSUER, number + bytes(4)),
                *(self.trust.currency, NOW, NOW + YEAR_S, signing.public),
                agreement_digest(suite, agreement.public),
            ),
            self.issuer,
        )
        secrets = entropy(16), entropy(16)
        identity = CardIdentity(suite, certificate, self.trust.root, signing, agreement, *secrets)
        operators = self.trust.operators
        memory = CardMemory(
            fresh_state(tiers()[LARGE].limits, LARGE, issuer.not_before, len(operators)).to_bytes()
        )
        for place, operator in enumerate(operators):
            memory.write_operator(place, operator.body())
        memory.write_tries(MAX_TRIES)
        holder = Holder(Blank(identity, memory.state().to_bytes(), memory.image()))
        order = self.load(holder, balance_fen)
        return holder.copy(), order

    def load(self, holder: Holder, amount_fen: int, acknowledged: tuple[int, int] = (0, 0)) -> bytes:
        """Load a card with an order that no issuing journal knows; the signed order."""
        holder.reader.present()
        session = WalletSession(holder.reader.wait_for_card(0), self.suite)
        session.select()
        known = session.exchange_certificates(self.trust, NOW)
        counter, challenge = session.load_challenge()
        body = LoadOrder(
            *(self.suite.number, self.trust.scheme, ISSUER, holder.number, counter + 1, amount_fen),
            *(self.trust.currency, *acknowledged, challenge, NOW),
        ).body()
        order = body + self.issuer.sign(body)
        session.ratify(session.load(order, known))
        holder.reader.remove()
        return order

    def set_pin(self, holder: Holder, pin: str) -> None:
        """Give a card its first PIN."""
        holder.reader.present()
        session = WalletSession(holder.reader.wait_for_card(0), self.suite)
        session.select()
        known = session.exchange_certificates(self.trust, NOW, agreement=True)
        session.change_pin("", pin, known, seeded("pin"))
        holder.reader.remove()

    def holder(self, tier: int = SMALL, balance_fen: int = 20_000, pin: str = "") -> Holder:
        """Somebody with a fresh copy of a card."""
        return Holder(self.blank(tier, balance_fen, pin))

    def quick_identity(self, klass: int, merchant: int) -> TerminalIdentity:
        """A new terminal of a merchant that no issuing journal knows."""
        self._merchants += 1
        number = (0x80000000 + self._merchants).to_bytes(4, "big")
        key = self.suite.new_signing_key(seeded(("quick terminal", self._merchants)))
        certificate = signed(
            Certificate(
                *(TERMINAL, self.suite.number, klass, self.trust.scheme, ACQUIRER),
                ACQUIRER + merchant.to_bytes(4, "big") + number,
                *(self.trust.currency, NOW, NOW + YEAR_S),
                key.public,
            ),
            self.acquirer,
        )
        return TerminalIdentity(certificate, digest(self.suite, certificate), key)

    def denylist(self, *cards: bytes, version: int = 1, time_s: int = NOW) -> Denylist:
        """The issuer's denylist with these cards (8 bytes each)."""
        numbers = array("I", sorted(int.from_bytes(card[4:], "big") for card in cards))
        return Denylist(self.trust.scheme, ISSUER, version, time_s, numbers)

    def empty_denylists(self) -> Denylists:
        """What a terminal holds that was set up today: a list on which nobody is."""
        return Denylists([self.denylist()])

    def issuing(self) -> "_Issuing":
        """The scheme, open for issuing."""
        return _Issuing(self.folder)

    def identity(self, klass: int = CLASS_RETAIL, merchant: int = 1) -> TerminalIdentity:
        """A new terminal of a merchant."""
        self._merchants += 1
        key = self.suite.new_signing_key(seeded(("terminal", self._merchants)))
        with self.issuing() as scheme:
            certificate = scheme.new_terminal(klass, merchant, key.public, NOW)
        return TerminalIdentity(certificate, digest(self.suite, certificate), key)

    def terminal_certificate(self, identity: TerminalIdentity, **changes: Any) -> TerminalIdentity:
        """The terminal with another certificate, properly signed by the acquirer."""
        certificate = _changed(identity.certificate, self.acquirer, changes)
        return TerminalIdentity(certificate, digest(self.suite, certificate), identity.key)

    def with_certificate(self, blank: Blank, signer: SigningKey | None = None, **changes: Any) -> Blank:
        """The card with another certificate, signed by the issuer unless told otherwise."""
        old = blank.identity
        certificate = _changed(old.certificate, signer or self.issuer, changes)
        identity = CardIdentity(
            old.suite, certificate, old.root, old.signing, old.agreement, old.secret, old.pin_salt
        )
        return Blank(identity, blank.state, blank.image)


class _Issuing:
    """`open_scheme`, each time anew: the journal's lock is held only while it is used."""

    def __init__(self, folder: Path) -> None:
        self._opened = open_scheme(folder, PASSPHRASE, seeded(("issuing", _Issuing.count)))
        _Issuing.count += 1

    count = 0

    def __enter__(self) -> Scheme:
        return self._opened.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)


def _changed(certificate: Certificate, signer: SigningKey, changes: dict[str, Any]) -> Certificate:
    fields = {name: getattr(certificate, name) for name in Certificate.__slots__}
    return signed(Certificate(**(fields | changes)), signer)


def make_mill(folder: Path, suite: Suite | None = None) -> Mill:
    """A new scheme in an empty folder, international unless another suite is named."""
    suite = suite or International()
    trust = create_scheme(folder, "test", suite, PASSPHRASE, NOW, seeded("scheme"))
    with open_scheme(folder, PASSPHRASE, seeded("keys")) as scheme:
        return Mill(folder, suite, trust.bundle, scheme.key("acquirer"), scheme.key("issuer"))


def other_card_certificate(mill: Mill, holder: Holder) -> Certificate:
    """A certificate of the same card number for another key: what a counterfeiter would like to have."""
    suite = mill.suite
    signing, agreement = suite.new_signing_key(seeded("fake")), suite.new_agreement_key(seeded("fake"))
    old = holder.identity.certificate
    return Certificate(
        *(CARD, old.suite, old.klass, old.scheme, ISSUER, old.subject, old.currency),
        *(NOW, NOW + YEAR_S, signing.public, agreement_digest(suite, agreement.public)),
    )


class Time:
    """A clock and a stopwatch that go only when told."""

    def __init__(self) -> None:
        self.now = NOW + 60
        self.watch_s = 0.0

    def clock(self) -> int:
        return self.now

    def stopwatch(self) -> float:
        return self.watch_s


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A terminal as it is: its journal's file, and the cards whose keys it has at hand."""

    identity: TerminalIdentity
    content: bytes
    known: dict[bytes, KnownCard]


class Counter:
    """A place with terminals, a clock and a folder. Close it when done."""

    def __init__(self, mill: Mill, folder: Path) -> None:
        self.mill = mill
        self.folder = folder
        self.time = Time()
        self._journals: list[SqliteJournal] = []
        self._runs = 0
        self._revived = 0

    def journal(self, identity: TerminalIdentity, path: Path | None = None, **options: Any) -> SqliteJournal:
        """The terminal's journal, opened from its folder."""
        certificate = identity.certificate
        journal = SqliteJournal(
            path or self.folder / f"{certificate.terminal.hex()}.sqlite",
            scheme=certificate.scheme,
            payee=certificate.payee,
            terminal=certificate.terminal,
            **options,
        )
        self._journals.append(journal)
        return journal

    def at(self, identity: TerminalIdentity, journal: Journal | None = None, **options: Any) -> Terminal:
        """The terminal at work, as it is after a start of the program."""
        return Terminal(
            identity,
            self.mill.trust,
            self.mill.suite,
            journal or self.journal(identity),
            options.pop("clock", self.time.clock),
            options.pop("stopwatch", self.time.stopwatch),
            options.pop("entropy", seeded(("entropy", identity.digest, len(self._journals)))),
            options.pop("denylists", None) or self.mill.empty_denylists(),
            options.pop("limits", TerminalLimits()),
            **options,
        )

    def shop(self, merchant: int = 1, **options: Any) -> Terminal:
        """A new retail terminal."""
        return self.at(self.mill.identity(CLASS_RETAIL, merchant), **options)

    def bus(self, merchant: int = 2, **options: Any) -> Terminal:
        """A new transit terminal."""
        return self.at(self.mill.identity(CLASS_TRANSIT, merchant), **options)

    def restart(self, terminal: Terminal, **options: Any) -> Terminal:
        """The same terminal after its program ended and started again: what was not on the disk is gone."""
        journal = journal_of(terminal)
        journal.close()
        return self.at(terminal.identity, self.journal(terminal.identity, journal.path), **options)

    def snapshot(self, terminal: Terminal) -> Snapshot:
        """The terminal as it is. It is stopped by that."""
        journal_of(terminal).close()
        return Snapshot(terminal.identity, journal_of(terminal).path.read_bytes(), dict(terminal.known_cards))

    def revive(self, snapshot: Snapshot, **options: Any) -> Terminal:
        """A copy of the terminal, on a copy of its journal."""
        self._revived += 1
        path = self.folder / f"copy-{self._revived}.sqlite"
        path.write_bytes(snapshot.content)
        terminal = self.at(snapshot.identity, self.journal(snapshot.identity, path), **options)
        terminal.known_cards.update(snapshot.known)
        return terminal

    def drop(self, terminal: Terminal) -> None:
        """Stop a terminal that is not needed any more, and remove its journal."""
        journal = journal_of(terminal)
        journal.close()
        self._journals.remove(journal)
        journal.path.unlink()
        journal.path.with_name(journal.path.name + ".lock").unlink()

    def fare(self, amount_fen: int = 200) -> Fare:
        """Another ride each time."""
        self._runs += 1
        return Fare(amount_fen, VEHICLE, 20260921, self._runs)

    def close(self) -> None:
        for journal in self._journals:
            journal.close()


def journal_of(terminal: Terminal) -> SqliteJournal:
    """The terminal's journal, as what it is."""
    assert isinstance(terminal.journal, SqliteJournal)
    return terminal.journal


def hold(
    terminal: Terminal,
    holder: Holder,
    charge: Charge,
    pin: str = "",
    *,
    tear: tuple[int, TearMoment] | None = None,
    wrap: Wrap = lambda link: link,
    decided: Callable[[Tap], None] = lambda _tap: None,
) -> Tap:
    """Hold the card to the terminal: one tap. `tear`: it leaves at that exchange."""
    holder.reader.present()
    holder.reader.tear_at(*(tear or (0, "before")))
    link = wrap(holder.reader.wait_for_card(0))
    try:
        return tap(terminal, link, charge, pin, decided=decided)
    finally:
        link.close()
        holder.reader.remove()


def know(terminal: Terminal, holder: Holder) -> None:
    """Let card and terminal meet without money: each has verified the other's certificate."""
    holder.reader.present()
    session = WalletSession(holder.reader.wait_for_card(0), terminal.suite)
    session.select()
    known: KnownCard = session.exchange_certificates(
        terminal.trust, terminal.clock(), terminal.identity.certificate, agreement=True
    )
    terminal.remember(session.selected.certificate_digest, known)
    holder.reader.remove()
