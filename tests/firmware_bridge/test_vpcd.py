"""A simulated card on vpcd's wire, against a socket that plays pcscd's side of it byte by byte."""

import socket
import threading
from collections.abc import Iterator

import pytest

from firmware_bridge.errors import CardGone, LinkTimeout, ServiceNotRunning
from firmware_bridge.virtual import vpcd
from firmware_bridge.virtual.tear import TearMoment
from firmware_bridge.virtual.vpcd import VpcdCard, serve
from tests.firmware_bridge.cards import ECHO_ATR, EchoCard

ECHO = bytes.fromhex("80100000021234")
GET_ATR = b"\x00\x01\x04"
POWER_ON = b"\x00\x01\x01"
POWER_OFF = b"\x00\x01\x00"
RESET = b"\x00\x01\x02"
WAIT_S = 10.0


class Driver:
    """pcscd's side: listens, takes a card in, sends what it is told."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S)
        self.port = self._listener.getsockname()[1]
        self.connection: socket.socket | None = None

    def take_card(self) -> socket.socket:
        self.drop()
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(WAIT_S)
        assert self.ask(GET_ATR) == ECHO_ATR
        return self.connection

    def tell(self, raw: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(raw)

    def ask(self, raw: bytes) -> bytes:
        self.tell(raw)
        length = int.from_bytes(self._read(2), "big")
        return self._read(length)

    def exchange(self, command: bytes) -> bytes:
        return self.ask(len(command).to_bytes(2, "big") + command)

    def is_left(self) -> bool:
        assert self.connection is not None
        return self.connection.recv(1) == b""

    def drop(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def close(self) -> None:
        self.drop()
        self._listener.close()

    def _read(self, length: int) -> bytes:
        assert self.connection is not None
        read = b""
        while len(read) < length:
            piece = self.connection.recv(length - len(read))
            assert piece, "the card left"
            read += piece
        return read


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.close()


def inserted(driver: Driver, card: EchoCard) -> VpcdCard:
    """The card on the driver's wire, taken in."""
    shown = VpcdCard(card, port=driver.port)
    taking = threading.Thread(target=driver.take_card)
    taking.start()
    shown.insert(timeout_s=WAIT_S)
    taking.join(WAIT_S)
    assert shown.inserted
    return shown


def test_controls_and_commands(driver: Driver) -> None:
    card = EchoCard()
    with inserted(driver, card) as shown:
        driver.tell(POWER_ON)
        assert driver.exchange(ECHO) == bytes.fromhex("12349000")
        driver.tell(POWER_ON)
        driver.tell(RESET)
        assert driver.exchange(bytes.fromhex("8016000000")) == b"\x01\x90\x00"
        driver.tell(POWER_OFF)
        driver.tell(POWER_OFF)
        driver.tell(RESET)
        assert driver.ask(GET_ATR) == ECHO_ATR
        assert shown.exchanges == 2
    assert card.events == ["on", "reset", "off", "on", "off"]


def test_messages_in_pieces_and_several_at_once(driver: Driver) -> None:
    with inserted(driver, EchoCard()):
        driver.tell(POWER_ON + b"\x00")
        driver.tell(b"\x07\x80\x10")
        assert driver.ask(ECHO[2:]) == bytes.fromhex("12349000")
        driver.tell(b"\x00\x00" + b"\x00\x01\x7f")  # an empty message and an unknown control change nothing
        assert driver.exchange(ECHO) == bytes.fromhex("12349000")


def test_the_longest_message(driver: Driver) -> None:
    with inserted(driver, EchoCard()):
        data = bytes(65_535 - 7)
        command = bytes.fromhex("80100000" + "00") + len(data).to_bytes(2, "big") + data
        assert len(command) == 65_535
        assert driver.exchange(command) == data + b"\x90\x00"


def test_garbage_is_answered_by_the_card(driver: Driver) -> None:
    with inserted(driver, EchoCard()):
        assert driver.exchange(b"\x00\xa4") == b"\x67\x00"


def test_a_removed_card_loses_its_power_and_can_come_back(driver: Driver) -> None:
    card = EchoCard()
    with inserted(driver, card) as shown:
        driver.exchange(ECHO)
        shown.remove()
        assert driver.is_left()
        assert card.events == ["on", "off"]
        assert not shown.inserted
        shown.remove()
        again = threading.Thread(target=driver.take_card)
        again.start()
        other = EchoCard()
        shown.insert(other, timeout_s=WAIT_S)
        again.join(WAIT_S)
        driver.exchange(ECHO)
        assert (card.executed, other.executed) == (1, 1)


@pytest.mark.parametrize(("when", "executed"), [("before", 1), ("after", 2)])
def test_a_tear_falls_where_it_was_ordered(driver: Driver, when: TearMoment, executed: int) -> None:
    card = EchoCard()
    with inserted(driver, card) as shown:
        shown.tear_at(2, when)
        driver.exchange(ECHO)
        driver.tell(len(ECHO).to_bytes(2, "big") + ECHO)
        assert driver.is_left()
        shown.remove()
        assert not shown.inserted
        assert card.executed == executed
        assert card.events == ["on", "off"]


def test_when_pcscd_restarts_the_card_is_connected_again(driver: Driver) -> None:
    card = EchoCard()
    ready: list[bool] = []
    shown = VpcdCard(card, port=driver.port, ready=lambda: ready.append(True))
    taking = threading.Thread(target=driver.take_card)
    taking.start()
    shown.insert(timeout_s=WAIT_S)
    taking.join(WAIT_S)
    with shown:
        driver.exchange(ECHO)
        driver.drop()
        driver.take_card()
        assert driver.exchange(ECHO) == bytes.fromhex("12349000")
        assert card.events == ["on", "off", "on"]
        assert ready == [True, True]


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setattr(vpcd, "wake_service", lambda: False)
    with VpcdCard(EchoCard(), port=port) as shown, pytest.raises(ServiceNotRunning, match="vsmartcard-vpcd"):
        shown.insert()


def test_a_sleeping_service_is_woken(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    woken: list[tuple[Driver, threading.Thread]] = []

    def wake() -> bool:
        late = Driver.__new__(Driver)
        late._listener = socket.create_server(("127.0.0.1", port))
        late._listener.settimeout(WAIT_S)
        late.port, late.connection = port, None
        taking = threading.Thread(target=late.take_card)
        taking.start()
        woken.append((late, taking))
        return True

    monkeypatch.setattr(vpcd, "wake_service", wake)
    with VpcdCard(EchoCard(), port=port) as shown:
        shown.insert(timeout_s=WAIT_S)
        assert shown.inserted
    [(late, taking)] = woken
    taking.join(WAIT_S)  # it may still be reading the ATR
    late.close()


def test_a_reader_that_holds_another_card(driver: Driver) -> None:
    with VpcdCard(EchoCard(), port=driver.port) as shown:
        with pytest.raises(LinkTimeout, match="another one"):
            shown.insert(timeout_s=0.05)
        assert not shown.inserted


def test_a_closed_card_stays_out(driver: Driver) -> None:
    shown = inserted(driver, EchoCard())
    shown.close()
    shown.close()
    with pytest.raises(ServiceNotRunning):
        shown.insert()
    assert shown.wait_closed(0)


def test_what_the_card_raises_reaches_its_owner(driver: Driver) -> None:
    class Broken(EchoCard):
        def execute(self, command: bytes) -> bytes:
            raise ZeroDivisionError("a bug in the card")

    with inserted(driver, Broken()) as shown:
        driver.tell(len(ECHO).to_bytes(2, "big") + ECHO)
        assert driver.is_left()
        with pytest.raises(ZeroDivisionError):
            shown.wait_closed(WAIT_S)
        assert not shown.inserted


def test_an_answer_that_the_wire_cannot_carry(driver: Driver) -> None:
    class Wordy(EchoCard):
        def execute(self, command: bytes) -> bytes:
            return bytes(65_536)

    with inserted(driver, Wordy()):
        driver.tell(len(ECHO).to_bytes(2, "big") + ECHO)
        assert driver.is_left()


def test_a_card_that_loses_power_at_work_leaves(driver: Driver) -> None:
    class Torn(EchoCard):
        def execute(self, command: bytes) -> bytes:
            raise CardGone("torn at a write")

    card = Torn()
    with inserted(driver, card) as shown:
        driver.tell(len(ECHO).to_bytes(2, "big") + ECHO)
        assert driver.is_left()
        shown.remove()
        assert card.events == ["on", "off"]


def test_serving_ends_when_asked_to(driver: Driver) -> None:
    stop, ready = threading.Event(), threading.Event()
    taking = threading.Thread(target=driver.take_card)
    taking.start()
    serving = threading.Thread(
        target=serve, args=(EchoCard(), stop), kwargs={"port": driver.port, "ready": ready.set}
    )
    serving.start()
    assert ready.wait(WAIT_S)
    stop.set()
    serving.join(WAIT_S)
    assert not serving.is_alive()
    taking.join(WAIT_S)
    assert driver.is_left()
