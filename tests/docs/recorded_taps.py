"""The taps of docs/a-tap-byte-by-byte.md: made anew from a seed, the same bytes every time.

A seed gives every key, nonce and random number; signatures are deterministic (RFC 6979); the trace's clock is
the model of air and card time. So the page can be compared with what the program does today.
"""

import io
import random
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware_bridge.link import CardLink
from firmware_bridge.trace import Trace, TraceWriter, parse_trace
from firmware_bridge.virtual.in_process import InProcessReader
from hardwallet.card.applet import Card
from hardwallet.card.timing import ModelledLink, TapModel
from hardwallet.denylist import Denylist
from hardwallet.describe import redact
from hardwallet.issuing import ISSUER, Scheme, create_scheme, open_scheme
from hardwallet.session import WalletSession
from hardwallet.suites import International
from offline_sync.journal import SqliteJournal
from pos_terminal.denylist import Denylists
from pos_terminal.folder import TerminalFolder, create_terminal
from pos_terminal.tap import Outcome, Tap, tap
from pos_terminal.terminal import Charge, Fare, Terminal

NOW: Final = 1_790_000_000  # 2026-09-21T14:13:20Z
VEHICLE: Final = b"B042"
DAY: Final = 20260921
TIER: Final = 5
LOADED_FEN: Final = 50_000
PIN: Final = "271828"
PASSPHRASE: Final = b"only for this page"
PAY_KNOWN: Final = 2
"""PAY is the second exchange when card and terminal know each other."""

TRANSIT: Final = 0
RETAIL: Final = 1
WITH_PIN: Final = 2
TORN: Final = 3
RECOVERED: Final = 4
"""The sessions of the trace."""


def seeded(name: str) -> Callable[[int], bytes]:
    """Random bytes that are the same in every run, and others for every name."""
    return random.Random(f"a tap byte by byte: {name}").randbytes


@dataclass(frozen=True, slots=True)
class Recording:
    """The trace as a file holds it, and parsed; what came of each tap."""

    text: str
    trace: Trace
    taps: list[Tap]


class _Counter:
    """A card, a shop and a bus, and a trace that is written when wanted."""

    def __init__(self, folder: Path, scheme: Scheme) -> None:
        self._folder = folder
        self._scheme = scheme
        self._suite = scheme.trust.suite
        self.model = TapModel()
        identity, memory = scheme.new_card(TIER, NOW, balance_fen=LOADED_FEN)
        card = Card(identity, memory, seeded("card"), self.model.operation)
        self.reader = InProcessReader(card, "sim:alice.card")
        scheme.load(self.reader.wait_for_card(0), LOADED_FEN, NOW)
        self._set_pin()
        self.taps: list[Tap] = []

    def _set_pin(self) -> None:
        session = WalletSession(self.reader.wait_for_card(0), self._suite)
        session.select()
        known = session.exchange_certificates(self._scheme.trust.bundle, NOW, agreement=True)
        session.change_pin("", PIN, known, seeded("holder"))

    def terminal(self, name: str, klass: str, merchant: int) -> tuple[Terminal, SqliteJournal]:
        """A terminal on a journal of its own."""
        made = create_terminal(self._folder / name, self._scheme, klass, merchant, NOW, seeded(name))
        return self._at_work(name, made)

    def _at_work(self, name: str, made: TerminalFolder) -> tuple[Terminal, SqliteJournal]:
        own = made.identity.certificate
        journal = SqliteJournal(made.journal_path, scheme=own.scheme, payee=own.payee, terminal=own.terminal)
        terminal = Terminal(
            made.identity,
            made.trust.bundle,
            made.trust.suite,
            journal,
            lambda: NOW,
            lambda: 0.0,
            seeded(f"{name} at work"),
            Denylists([Denylist(made.trust.bundle.scheme, ISSUER, 1, NOW, array("I"))]),
        )
        return terminal, journal

    def begin(self) -> None:
        """Begin the trace, its clock at 0."""
        self.stream = io.StringIO()
        self.model.air_ms = self.model.card_ms = 0.0
        self.writer = TraceWriter(
            self.stream,
            redact,
            lambda: self.model.total_ms() / 1000,
            reader_uri=self.reader.uri,
            clock_source="modelled",
        )

    def tap(self, at: Terminal, charge: Charge, pin: str = "", *, torn: bool = False) -> None:
        """A recorded tap; `torn`: the card leaves after PAY."""
        self.reader.present()
        if torn:
            self.reader.tear_at(PAY_KNOWN, "after")
        link: CardLink = ModelledLink(self.reader.wait_for_card(0), self.model)
        self.taps.append(tap(at, self.writer.link(link), charge, pin))
        link.close()

    def meet(self, at: Terminal, charge: Charge) -> None:
        """A tap that is not recorded."""
        tap(at, self.reader.wait_for_card(0), charge)


def record(folder: Path) -> Recording:
    """Makes a scheme in `folder` and records the taps of the page."""
    suite = International(deterministic=True)
    create_scheme(folder / "city", "city", suite, PASSPHRASE, NOW, seeded("scheme"))
    with open_scheme(folder / "city", PASSPHRASE, seeded("issuer"), deterministic=True) as scheme:
        counter = _Counter(folder, scheme)
        bus, bus_journal = counter.terminal("bus", "transit", 2)
        shop, shop_journal = counter.terminal("shop", "retail", 1)
        with closing(bus_journal), closing(shop_journal):
            counter.meet(bus, Fare(200, VEHICLE, DAY, 6))
            counter.begin()
            counter.tap(bus, Fare(200, VEHICLE, DAY, 7))
            counter.tap(shop, shop.new_sale(1_250))
            counter.tap(shop, shop.new_sale(38_000), PIN)
            torn = shop.new_sale(900)
            counter.tap(shop, torn, torn=True)
            counter.tap(shop, torn)
    text = counter.stream.getvalue()
    return Recording(text, parse_trace(text.splitlines(keepends=True)), counter.taps)


EXPECTED: Final = [
    Outcome.GRANTED,
    Outcome.GRANTED,
    Outcome.GRANTED,
    Outcome.UNRESOLVED,
    Outcome.GRANTED,
]
"""What comes of the taps, in their order."""
