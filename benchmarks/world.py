"""A scheme with one card in RAM, and terminals with journals on the disk: what the taps are taken from."""

from array import array
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from firmware_bridge.air_time import Operation
from firmware_bridge.link import CardLink
from firmware_bridge.virtual.in_process import InProcessReader
from hardwallet import messages as m
from hardwallet.card.applet import Card
from hardwallet.certificates import CLASS_TRANSIT, digest
from hardwallet.denylist import Denylist
from hardwallet.issuing import ISSUER, create_scheme, open_scheme
from hardwallet.limits import Limits
from hardwallet.session import KnownCard, TerminalIdentity, WalletSession
from hardwallet.suites import Entropy, International
from offline_sync.journal import SqliteJournal
from pos_terminal.denylist import Denylists
from pos_terminal.ports import Stopwatch
from pos_terminal.terminal import Fare, Terminal

PIN: Final = "271828"
TIER: Final = 4
BALANCE_FEN: Final = 1_000_000
LIMITS: Final = Limits(
    balance_cap_fen=2_000_000,
    single_fen=500_000,
    pin_free_fen=30_000,
    offline_total_fen=1_000_000,
    offline_count=128,
    transit_count=255,
    transit_amount_fen=1_000_000,
)
TAPS_BETWEEN_VISITS: Final = 100
"""Payments that the card takes offline before `visit_issuer` has to be called."""

_PASSPHRASE: Final = b"benchmark"
_DAY: Final = 20260901


class World:
    """One card on a reader in this process, and the terminals that it meets. Close it when done."""

    def __init__(
        self,
        folder: Path,
        now_s: int,
        stopwatch: Stopwatch,
        entropy: Entropy,
        *,
        deterministic: bool = False,
        meter: Callable[[Operation], None] | None = None,
    ) -> None:
        """`meter` is told what the card computes. The card holds BALANCE_FEN and has the PIN `PIN`."""
        self.folder = folder
        self._now_s = now_s
        self._stopwatch = stopwatch
        self._entropy = entropy
        self._terminals = self._orders = self._runs = 0
        self._open = ExitStack()
        suite = International(deterministic=deterministic)
        trust = create_scheme(folder / "scheme", "benchmark", suite, _PASSPHRASE, now_s, entropy)
        self._scheme = self._open.enter_context(open_scheme(folder / "scheme", _PASSPHRASE, entropy))
        self.trust = trust
        identity, memory = self._scheme.new_card(TIER, now_s)
        self.card = Card(identity, memory, entropy, meter)
        self.reader = InProcessReader(self.card)
        self._order(m.KIND_LIMITS, LIMITS.to_bytes() + bytes((TIER,)))
        self._scheme.load(self.link(), BALANCE_FEN, now_s)
        session, known = self._meet()
        session.change_pin("", PIN, known, entropy)

    def link(self) -> CardLink:
        """The card, freshly in the field."""
        return self.reader.wait_for_card(0)

    def terminal(
        self, klass: int, merchant: int, journal: Callable[..., SqliteJournal] = SqliteJournal
    ) -> Terminal:
        """A new terminal of a merchant, which does not know the card yet."""
        self._terminals += 1
        trust, name = self.trust, f"journal-{self._terminals}.sqlite"
        key = trust.suite.new_signing_key(self._entropy)
        certificate = self._scheme.new_terminal(klass, merchant, key.public, self._now_s)
        kept = journal(
            self.folder / name,
            scheme=trust.bundle.scheme,
            payee=certificate.payee,
            terminal=certificate.terminal,
        )
        self._open.callback(kept.close)
        identity = TerminalIdentity(certificate, digest(trust.suite, certificate), key)
        return Terminal(
            *(identity, trust.bundle, trust.suite, kept, lambda: self._now_s, self._stopwatch),
            *(
                self._entropy,
                Denylists([Denylist(self.trust.bundle.scheme, ISSUER, 1, self._now_s, array("I"))]),
            ),
        )

    def fare(self, amount_fen: int = 1) -> Fare:
        """A fare for a ride that was not taken before."""
        self._runs += 1
        return Fare(amount_fen, b"BUS1", _DAY, self._runs)

    def visit_issuer(self, terminal: Terminal) -> None:
        """What happens now and then in a card's life: its issuer acknowledges, a terminal proves itself."""
        session, _ = self._meet()
        if terminal.identity.certificate.klass == CLASS_TRANSIT:
            session.exchange_certificates(self.trust.bundle, self._now_s, terminal.identity.certificate)
        session.prove(terminal.identity)
        state = session.read_state()
        value = state.sequence.to_bytes(4, "big") + state.spent_fen.to_bytes(4, "big")
        self._order(m.KIND_ACKNOWLEDGE, value)

    def _meet(self) -> tuple[WalletSession, KnownCard]:
        session = WalletSession(self.link(), self.trust.suite)
        session.select()
        return session, session.exchange_certificates(self.trust.bundle, self._now_s, agreement=True)

    def _order(self, kind: int, value: bytes) -> None:
        self._orders += 1
        bundle = self.trust.bundle
        order = m.CardOrder(
            *(self.trust.suite.number, bundle.scheme, ISSUER, self.card.number),
            *(self._orders, self._now_s, kind, value),
        )
        session, _ = self._meet()
        session.order(order.body() + self._scheme.key("issuer").sign(order.body()))

    def close(self) -> None:
        """Let the scheme and the journals go."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
