"""A small simulated world: a scheme, its cards and its terminals in one folder, each in the files of the real
programs."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from firmware_bridge.link import CardLink
from firmware_bridge.virtual.in_process import InProcessReader
from fleet.open import TerminalSession, open_session
from fleet.stage import Stage
from hardwallet.card.file import create_card_file
from hardwallet.card.simulated import SimulatedCard
from hardwallet.card.timing import ModelledLink, TapModel
from hardwallet.certificates import TrustBundle
from hardwallet.issuing import Trust, create_scheme, open_scheme
from hardwallet.keys import KEY_FILE, find_passphrase
from hardwallet.riders import Rider
from hardwallet.session import WalletSession
from hardwallet.suites import International, Suite
from offline_sync.journal import SqliteJournal
from pos_terminal.folder import Settings, TerminalFolder, create_terminal
from pos_terminal.ports import Clock, Entropy, Stopwatch
from pos_terminal.tap import Phase, Tap, tap
from pos_terminal.terminal import Charge, Terminal

ARRIVAL_S = 15.0


@dataclass(slots=True)
class WorldCard:
    """A card of this world: its file, the running card, and the model that times it."""

    name: str
    path: Path
    card: SimulatedCard
    model: TapModel

    @property
    def number(self) -> bytes:
        """The card's number, 8 bytes."""
        return self.card.number

    @property
    def balance_fen(self) -> int:
        """What the card itself holds."""
        return self.card.card_state().balance_fen


@dataclass(slots=True)
class WorldTerminal:
    """A terminal of this world: the running session on its folder, and what closes it."""

    name: str
    session: TerminalSession
    running: ExitStack

    @property
    def folder(self) -> TerminalFolder:
        """Its folder, open."""
        return self.session.folder

    @property
    def journal(self) -> SqliteJournal:
        """Its journal, open."""
        return self.session.journal

    @property
    def terminal(self) -> Terminal:
        """The terminal at work."""
        return self.session.terminal

    @property
    def payee(self) -> bytes:
        """Who is paid here, 8 bytes."""
        return self.folder.identity.certificate.payee

    def close(self) -> None:
        """Let folder and journal go."""
        self.running.close()


@dataclass(slots=True)
class World:
    """Everything of one scheme below one folder; its passphrase has any length. Close it when done."""

    folder: Path
    clock: Clock
    stopwatch: Stopwatch
    entropy: Entropy
    trust: Trust
    passphrase: bytes
    cards: dict[str, WorldCard] = field(default_factory=dict)
    terminals: dict[str, WorldTerminal] = field(default_factory=dict)
    sealing_cost: int | None = None

    @property
    def scheme_folder(self) -> Path:
        """The scheme's folder."""
        return self.folder / "scheme"

    @property
    def bundle(self) -> TrustBundle:
        """Root and operators."""
        return self.trust.bundle

    def add_card(
        self, name: str, tier: int, balance_fen: int, pin: str = "", rider: Rider = Rider.ADULT
    ) -> WorldCard:
        """Issue a card into a file, load it, and set its PIN, each by the commands that a real card takes."""
        path = self.folder / f"{name}.card"
        with open_scheme(self.scheme_folder, self.passphrase, self.entropy) as scheme:
            identity, memory = scheme.new_card(tier, self.clock(), balance_fen=balance_fen, rider=rider)
            create_card_file(path, identity, memory)
            model = TapModel()
            card = WorldCard(name, path, SimulatedCard(path, self.entropy, model.operation), model)
            link = InProcessReader(card.card).wait_for_card(0)
            if balance_fen:
                scheme.load(link, balance_fen, self.clock())
        if pin:
            self._set_pin(link, pin)
        self.cards[name] = card
        return card

    def copy_card(self, card: WorldCard, name: str) -> WorldCard:
        """A clone of a card: its file copied, key and all. It is none of this world's cards; its maker closes
        it."""
        card.card.close()
        path = self.folder / f"{name}.card"
        shutil.copyfile(card.path, path)
        card.card = SimulatedCard(card.path, self.entropy, card.model.operation)
        model = TapModel()
        return WorldCard(name, path, SimulatedCard(path, self.entropy, model.operation), model)

    def _set_pin(self, link: CardLink, pin: str) -> None:
        session = WalletSession(link, self.trust.suite)
        session.select()
        known = session.exchange_certificates(self.bundle, self.clock(), agreement=True)
        session.change_pin("", pin, known, self.entropy)

    def add_terminal(self, name: str, klass: str, merchant: int, vehicle: str = "") -> WorldTerminal:
        """Make a terminal and start it."""
        with open_scheme(self.scheme_folder, self.passphrase, self.entropy) as scheme:
            folder = create_terminal(
                self.folder / name,
                scheme,
                klass,
                merchant,
                self.clock(),
                self.entropy,
                settings=Settings(vehicle=vehicle),
                sealing_cost=self.sealing_cost,
            )
        self.terminals[name] = self._started(name, folder.path)
        return self.terminals[name]

    def restart(self, name: str) -> WorldTerminal:
        """Start a terminal again from what is on its disk."""
        path = self.stop(name)
        self.terminals[name] = self._started(name, path)
        return self.terminals[name]

    def stop(self, name: str) -> Path:
        """Stop a terminal, so that another process can be it; its folder."""
        self.terminals[name].close()
        return self.terminals[name].folder.path

    def _started(self, name: str, path: Path) -> WorldTerminal:
        running = ExitStack()
        session = running.enter_context(
            open_session(path, clock=self.clock, stopwatch=self.stopwatch, entropy=self.entropy)
        )
        return WorldTerminal(name, session, running)

    def tap(
        self,
        stage: Stage,
        card: WorldCard,
        at: WorldTerminal,
        charge: Charge,
        pin: str = "",
        decided: Callable[[Tap], None] = lambda _tap: None,
    ) -> Tap:
        """One card, laid on the stage and tapped at a terminal; it stays there."""
        timed = card.model.total_ms
        return self.present(
            stage, card, lambda link: tap(at.terminal, link, charge, pin, decided=decided, modelled_ms=timed)
        )

    def present(self, stage: Stage, card: WorldCard, visit: Callable[[CardLink], Tap]) -> Tap:
        """The card on the stage is held to the reader for a visit, whose phases begin with its arrival."""
        arrival = Phase(-self.stopwatch() * 1000, -card.model.total_ms())
        link = stage.reader.wait_for_card(ARRIVAL_S)
        try:
            modelled = ModelledLink(link, card.model)
            arrival.host_ms += self.stopwatch() * 1000
            arrival.modelled_ms += card.model.total_ms()
            result = visit(modelled)
        finally:
            link.close()
        result.phases = {"arrival": arrival, **result.phases}
        return result

    def close(self) -> None:
        """Close every card and terminal."""
        for card in self.cards.values():
            card.card.close()
        for terminal in self.terminals.values():
            terminal.close()


def create_world(
    folder: Path,
    clock: Clock,
    stopwatch: Stopwatch,
    entropy: Entropy,
    suite: Suite | None = None,
    *,
    sealing_cost: int | None = None,
) -> World:
    """A new world in an empty folder: its scheme has a root, an issuing and an acquiring operator.
    `sealing_cost`: see hardwallet.keys.seal."""
    scheme_folder = folder / "scheme"
    scheme_folder.mkdir(parents=True)
    passphrase = find_passphrase(None, scheme_folder / KEY_FILE, create=True)
    trust = create_scheme(
        *(scheme_folder, "demo", suite or International(), passphrase, clock(), entropy),
        sealing_cost=sealing_cost,
    )
    return World(folder, clock, stopwatch, entropy, trust, passphrase, sealing_cost=sealing_cost)
