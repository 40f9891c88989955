"""The part of the story that a real card on a real reader can tell, and the names of the parts that it can't.

The terminals belong to the card's own scheme and are kept in its folder: what they take is taken, and waits
there to be sent.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from firmware_bridge.errors import CardGone
from firmware_bridge.link import CardLink, LinkProcessor, Reader
from fleet.open import TerminalSession, open_issuing, open_session
from fleet.telling import RIDE_FEN, Step, TapLine, today
from fleet.world import ARRIVAL_S
from hardwallet.messages import INS_PAY
from pos_terminal.folder import Settings, create_terminal
from pos_terminal.money import format_amount
from pos_terminal.ports import Clock, Entropy
from pos_terminal.tap import Outcome, Tap, tap
from pos_terminal.terminal import Charge, Fare

FOLDER: Final = "demo-terminals"
SALE_FEN: Final = 100
LEFT_OUT: Final = (
    "the payment with a PIN, a wrong PIN and its locking (step 2): they would use up the card's tries",
    "killing the till (step 5): it is told on simulated cards",
    "the arrival (step 6): send what waits with `hardwallet sync --terminal TERMINAL`",
    "refund, clone, denylist, orders, the end of the day (steps 7 to 11): they are told on simulated cards",
)


class _TornAfterPay(LinkProcessor):
    """Cuts the card's power once it has carried out PAY; its reply is lost."""

    def transmit(self, command: bytes) -> bytes:
        """Passes the command on, and loses the reply to PAY."""
        reply = super().transmit(command)
        if command[1] == INS_PAY and reply[-2:] == b"\x90\x00":
            self.close(unpower=True)
            raise CardGone("The card's power was cut after PAY.")
        return reply


def tell_on_reader(
    reader: Reader,
    scheme_folder: Path,
    key_file: Path | None,
    clock: Clock,
    entropy: Entropy,
    told: Callable[[Step], None] = lambda _step: None,
) -> list[Step]:
    """Take 1.00 twice and 2.00 twice from the card on `reader`, torn and whole; the steps told.

    Raises BridgeError, WalletError, TerminalError, JournalError.
    """
    with ExitStack() as running:
        shop = _session(running, scheme_folder, key_file, "retail", clock, entropy)
        bus = _session(running, scheme_folder, key_file, "transit", clock, entropy)
        _clear_up(shop)
        return [_told(play(reader, shop, bus), told) for play in (_pay, _tear)]


def _told(step: Step, told: Callable[[Step], None]) -> Step:
    told(step)
    return step


def _session(
    running: ExitStack,
    scheme_folder: Path,
    key_file: Path | None,
    klass: str,
    clock: Clock,
    entropy: Entropy,
) -> TerminalSession:
    """The scheme's demonstration terminal of a class, made when it is not there yet."""
    path = scheme_folder / FOLDER / klass
    if not (path / "certificate.bin").exists():
        with open_issuing(scheme_folder, key_file, entropy=entropy) as scheme:
            vehicle = Settings(vehicle="DEMO" if klass == "transit" else "")
            create_terminal(path, scheme, klass, 1, clock(), entropy, key_file=key_file, settings=vehicle)
    return running.enter_context(open_session(path, key_file, clock=clock, entropy=entropy))


def _tap(
    step: Step, reader: Reader, at: TerminalSession, charge: Charge, what: str, *, torn: bool = False
) -> Tap:
    link: CardLink = reader.wait_for_card(ARRIVAL_S)
    try:
        result = tap(at.terminal, _TornAfterPay(link) if torn else link, charge)
    finally:
        link.close()
    phases = {name: round(phase.host_ms, 3) for name, phase in result.phases.items()}
    step.taps.append(TapLine(what, result.outcome.words, phases, {}))
    return result


def _ride(at: TerminalSession) -> Fare:
    """A ride that nobody took yet: its run is random."""
    terminal = at.terminal
    run = int.from_bytes(terminal.entropy(4), "big")
    return Fare(RIDE_FEN, at.vehicle, today(terminal.clock()), run)


def _clear_up(shop: TerminalSession) -> None:
    """A telling that was broken off may have left a sale unfinished: what was paid for it returns."""
    for sale in shop.journal.unresolved():
        shop.terminal.give_up(sale.reference, "an earlier demonstration was broken off")


def _pay(reader: Reader, shop: TerminalSession, bus: TerminalSession) -> Step:
    step = Step("2", "A shop and a bus with no network take money from this card")
    paid = _tap(step, reader, shop, shop.terminal.new_sale(SALE_FEN), "shop 1.00, retail")
    step.check(f"the shop granted 1.00 {paid.reason}".strip(), paid.granted)
    ride = _tap(step, reader, bus, _ride(bus), "bus 2.00, transit")
    step.check(f"the bus granted 2.00 {ride.reason}".strip(), ride.granted)
    if paid.balance_fen is not None and ride.balance_fen is not None:
        step.say(f"The card holds {format_amount(ride.balance_fen)} now.")
        step.check("the card was debited 2.00 by the bus", paid.balance_fen - ride.balance_fen == RIDE_FEN)
    return step


def _tear(reader: Reader, shop: TerminalSession, bus: TerminalSession) -> Step:
    step = Step("4", "A payment whose power is cut after PAY travels by bus")
    sale = shop.terminal.new_sale(SALE_FEN)
    torn = _tap(step, reader, shop, sale, "shop 1.00, power cut after PAY", torn=True)
    step.check("the sale is unresolved", torn.outcome is Outcome.UNRESOLVED)
    ride = _tap(step, reader, bus, _ride(bus), "bus 2.00, which carries it")
    step.check("the bus granted its fare and carries the record", ride.granted and ride.carried >= 1)
    back = _tap(step, reader, shop, sale, "back at the till")
    step.check("the till grants the recovered payment", back.granted and back.recovered)
    step.say("The card was debited once, although the till had to ask twice.")
    return step
