"""examples/custom_reader.py: a tap device behind a socket, in all that can happen to one."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from examples.custom_reader import Device, SocketReader
from firmware_bridge.errors import Cancelled, CardGone, NoCard, NoReader, ReaderGone
from firmware_bridge.link import CardLink, Reader
from fleet.open import open_session
from hardwallet.card.simulated import SimulatedCard
from hardwallet.session import SELECT_COMMAND
from pos_terminal.tap import Outcome, tap
from tests.examples.conftest import Place


@pytest.fixture
def device(place: Place) -> Iterator[Device]:
    with closing(SimulatedCard(Path("alice.card"))) as card, closing(Device(card)) as made:
        yield made


@pytest.fixture
def reader(device: Device) -> Iterator[SocketReader]:
    with closing(SocketReader("127.0.0.1", device.port)) as made:
        yield made


def test_it_runs_as_typed(place: Place) -> None:
    said = place.run("custom_reader.py", "till", "alice.card", "1250")
    assert said == ["GRANTED ", "balance 18750 fen, ratified: True"]


def test_it_is_a_reader(reader: SocketReader) -> None:
    port: Reader = reader
    link: CardLink = port.wait_for_card(5)
    assert link.transmit(SELECT_COMMAND)[-2:] == b"\x90\x00"
    assert 2 <= len(link.atr) <= 33
    link.close(unpower=True)
    link.close()
    with pytest.raises(CardGone):
        link.transmit(SELECT_COMMAND)


def test_no_card_comes(reader: SocketReader, device: Device) -> None:
    device.present = False
    with pytest.raises(NoCard):
        reader.wait_for_card(0)
    assert reader.wait_for_removal(0)
    device.present = True
    assert not reader.wait_for_removal(0)
    reader.wait_for_card(5)


def test_a_wait_is_cancelled_from_another_thread_and_so_is_the_next(
    reader: SocketReader, device: Device
) -> None:
    device.present = False
    threading.Timer(0.05, reader.cancel).start()
    with pytest.raises(Cancelled):
        reader.wait_for_card(None)
    reader.cancel()
    with pytest.raises(Cancelled):
        reader.wait_for_removal(None)
    device.present = True
    reader.wait_for_card(5)


def test_a_closed_reader_waits_for_nothing(reader: SocketReader) -> None:
    reader.close()
    with pytest.raises(Cancelled):
        reader.wait_for_card(None)


def test_a_card_that_leaves(reader: SocketReader, device: Device) -> None:
    link = reader.wait_for_card(5)
    device.present = False
    with pytest.raises(CardGone):
        link.transmit(SELECT_COMMAND)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NoReader):
        SocketReader("127.0.0.1", port)


def test_the_cable_is_pulled_after_the_card_has_paid(reader: SocketReader, device: Device) -> None:
    """The tap is unresolved, and the same card finishes it: one debit. The reader connects anew by itself."""
    device.hang_up_after = b"\x20"  # PAY
    with open_session(Path("till")) as session:
        terminal = session.terminal
        sale = terminal.new_sale(1250)
        torn = tap(terminal, reader.wait_for_card(5), sale)
        assert torn.outcome is Outcome.UNRESOLVED
        again = tap(terminal, reader.wait_for_card(5), sale)
    assert (again.outcome, again.recovered) == (Outcome.GRANTED, True)
    assert again.record is not None
    assert again.record.balance_fen == 20_000 - 1_250


def test_a_device_that_hangs_up_while_it_waits(reader: SocketReader, device: Device) -> None:
    assert reader._connection is not None
    reader._connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ReaderGone):
        reader.wait_for_card(5)
    reader.wait_for_card(5)
