"""What lies in folders and is opened: terminals, clearing, the till that stops; and what is sent."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet.open import open_clearing, open_issuing, open_session, open_terminal_session, system_clock
from fleet.stage import InProcessStage, card_uri
from fleet.telling import RIDE_FEN
from fleet.upload import Arrival, clearing_service, send
from fleet.world import World
from hardwallet.card.simulated import SimulatedCard
from hardwallet.errors import CardFileBusy, IssuingError
from hardwallet.issuing import open_scheme
from offline_sync.errors import GatewayError, SyncError
from pos_terminal.errors import JournalBusy, TerminalFolderError
from pos_terminal.terminal import Fare
from tests.conftest import REPOSITORY

TIMEOUT_S = 60


def ride(run: int) -> Fare:
    return Fare(RIDE_FEN, b"B042", 20260921, run)


# ---------------------------------------------------------------------- terminals


def test_a_terminal_is_one_process(world: World) -> None:
    path = world.terminals["shop"].folder.path
    with pytest.raises(JournalBusy), open_session(path):
        pass
    world.stop("shop")
    with open_session(path) as session:
        assert not session.in_transit
        with pytest.raises(JournalBusy), open_session(path):
            pass
    with open_terminal_session(path) as terminal:
        assert terminal.identity.certificate.payee == world.terminals["shop"].payee
    world.restart("shop")


def test_a_folder_without_a_terminal(tmp_path: Path) -> None:
    with pytest.raises(TerminalFolderError, match="hardwallet terminal new"), open_session(tmp_path):
        pass


def test_a_bus_has_a_vehicle(world: World) -> None:
    assert world.terminals["bus"].session.vehicle == b"B042"
    assert world.terminals["bus"].session.in_transit
    shop = world.terminals["shop"].session
    assert shop.vehicle == shop.folder.identity.certificate.terminal.hex()[-4:].encode()


def test_a_restart_keeps_everything(world: World) -> None:
    stage = InProcessStage()
    stage.lay(world.cards["card"].card)
    shop = world.terminals["shop"]
    assert world.tap(stage, world.cards["card"], shop, shop.terminal.new_sale(700)).granted
    head = shop.journal.head()
    shop = world.restart("shop")
    assert shop.journal.head() == head
    assert shop.journal.waiting_fen() == 700


def test_the_clock_is_the_machines() -> None:
    assert abs(system_clock() - time.time()) < 5


def test_the_arrival_is_no_part_of_the_tap(world: World) -> None:
    stage = InProcessStage()
    card, shop = world.cards["card"], world.terminals["shop"]
    stage.lay(card.card)
    for _ in range(2):
        before_ms = card.model.total_ms()
        result = world.tap(stage, card, shop, shop.terminal.new_sale(100))
        assert next(iter(result.phases)) == "arrival"
        modelled_ms = sum(phase.modelled_ms for phase in result.phases.values())
        assert modelled_ms == pytest.approx(card.model.total_ms() - before_ms)


def test_a_stage_without_a_card() -> None:
    stage = InProcessStage()
    with pytest.raises(RuntimeError):
        _ = stage.reader
    stage.take()
    stage.close()


# ---------------------------------------------------------------------- clearing


def test_loads_are_booked_once_however_often_it_opens(world: World) -> None:
    for _ in range(2):
        with open_clearing(world.scheme_folder, clock=world.clock) as clearing:
            report = clearing.report()
            assert report.conservation.loads_fen == 20_000
            assert report.loads == 1
            assert report.loads_without_order == []
            assert report.outstanding_loads == []


def test_issuing_and_clearing_do_not_lock_each_other_out(world: World) -> None:
    with open_clearing(world.scheme_folder, clock=world.clock), open_issuing(world.scheme_folder) as scheme:
        assert scheme.trust.bundle.scheme == world.bundle.scheme


def test_clearing_of_no_scheme(tmp_path: Path) -> None:
    with pytest.raises(IssuingError, match="holds no scheme"), open_clearing(tmp_path):
        pass


def test_uploads(world: World) -> None:
    """Sent with no network, with a cut as the receipt arrives, again, and once more with nothing to send."""
    stage = InProcessStage()
    card, bus = world.cards["card"], world.terminals["bus"]
    stage.lay(card.card)
    for run in (1, 2, 3):
        assert world.tap(stage, card, bus, ride(run)).granted
    nobody = send(world, bus, "http://127.0.0.1:9")
    assert not nobody.ok
    assert nobody.failure
    assert bus.journal.waiting().count == 3
    with clearing_service(world.scheme_folder, world.clock) as service:
        cut = send(world, bus, service.url, cut=True)
        assert cut.ok
        assert bus.journal.waiting().count == 3
        assert service.balance_fen(bus.payee) == 600
        again = send(world, bus, service.url)
        assert again == cut
        assert bus.journal.waiting().entries == 0
        assert service.balance_fen(bus.payee) == 600
        assert service.balance_fen(world.terminals["shop"].payee) == 0
        nothing = send(world, bus, service.url)
        assert nothing == Arrival()
        report = service.report()
    assert report.conservation.ok
    assert report.payments == 3


def test_a_service_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SyncError, match="did not start"), clearing_service(tmp_path):
        pass


def test_the_service_ends_with_its_user(world: World) -> None:
    with clearing_service(world.scheme_folder) as service:
        assert service.report().conservation.ok
    with pytest.raises(GatewayError):
        service.report()


# ---------------------------------------------------------------------- the till that stops


def till(world: World, amount_fen: int) -> "subprocess.Popen[str]":
    with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
        fresh = scheme.publish_denylist([], [], system_clock()).full  # the till's clock is the machine's
    world.terminals["shop"].session.denylists.offer(fresh)
    folder = world.stop("shop")
    card = world.cards["card"]
    card.card.close()
    return subprocess.Popen(
        [sys.executable, "-m", "fleet.interrupted_till", str(folder), card_uri(card.path), str(amount_fen)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("amount_fen", "said"), [(450, "durable"), (40_000, "not granted: ")])
def test_the_till_stops_where_it_should(world: World, amount_fen: int, said: str) -> None:
    world.clock = system_clock
    with till(world, amount_fen) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().startswith(said)
            with pytest.raises(CardFileBusy):
                SimulatedCard(world.cards["card"].path)
        finally:
            child.kill()
            child.wait(TIMEOUT_S)
    shop = world.restart("shop")
    assert shop.journal.waiting_fen() == (450 if said == "durable" else 0)
    assert shop.journal.unresolved() == []
