"""Tests that need a pcscd of their own; test_private_pcscd.py runs this file inside one.

Here everything between the link and the simulated card is the software of a real reader: pyscard,
libpcsclite, pcscd and its vpcd driver. opensc-tool is a second client that shares nothing with ours.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firmware_bridge.apdu import Command, Response
from firmware_bridge.errors import (
    BadReaderUri,
    BridgeError,
    Cancelled,
    CardGone,
    NoCard,
    NoReader,
    ReaderBusy,
)
from firmware_bridge.link import Reader, exchange
from firmware_bridge.pcsc import Health, HealthEvent, PcscReader, list_pcsc_readers
from firmware_bridge.readers import list_readers, open_reader
from firmware_bridge.virtual.private_pcscd import READER_NAME, find_pcscd, inside
from firmware_bridge.virtual.tear import TearMoment
from firmware_bridge.virtual.vpcd import VPCD_PORT, VpcdCard
from tests.firmware_bridge.cards import ECHO_AID, ECHO_ATR, EchoCard
from tests.firmware_bridge.test_in_process import in_thread

WAIT_S = 15.0
ECHO = bytes.fromhex("80100000021234")
COUNT = bytes.fromhex("8016000000")


def eventually(held: Callable[[], bool]) -> None:
    """pcscd tells a card by an unanswered message that its power is off: it arrives a little later."""
    end_s = time.monotonic() + WAIT_S
    while not held():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture(scope="module", autouse=True)
def _inside() -> None:
    assert inside(), "run by test_private_pcscd.py"


@pytest.fixture
def card() -> EchoCard:
    return EchoCard()


@pytest.fixture
def shown(card: EchoCard) -> Iterator[VpcdCard]:
    with VpcdCard(card) as made:
        yield made
    wait_until(lambda: not any(present for _, present in list_pcsc_readers()))


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = open_reader(f"pcsc:{READER_NAME}")
    yield made
    made.close()


def test_readers_are_listed_and_opened_by_any_name() -> None:
    names = [f"{READER_NAME[:-1]}{index}" for index in (0, 1)]
    assert [(info.name, info.card_present) for info in list_readers()] == [(name, False) for name in names]
    for uri, name in [("pcsc:0", names[0]), ("pcsc:1", names[1]), ("pcsc:00 01", names[1])]:
        opened = open_reader(uri)
        assert opened.name == name
        opened.close()
    with pytest.raises(BadReaderUri):
        open_reader("pcsc:Virtual")
    for uri in ("pcsc:2", "pcsc:ACR122U"):
        with pytest.raises(NoReader):
            open_reader(uri)


def test_a_card_comes_answers_and_leaves(shown: VpcdCard, card: EchoCard, reader: Reader) -> None:
    with pytest.raises(NoCard):
        reader.wait_for_card(0)
    shown.insert()
    link = reader.wait_for_card(WAIT_S)
    assert link.atr == ECHO_ATR
    assert exchange(link, Command(0, 0xA4, 4, 0, ECHO_AID)).ok
    assert exchange(link, Command(0, 0xA4, 4, 0, b"\xf0\x00")) == Response(b"", 0x6A82)
    assert not reader.wait_for_removal(0)
    shown.remove()
    assert reader.wait_for_removal(WAIT_S)
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    eventually(lambda: card.events[-1] == "off")


def test_every_form_of_command_arrives_and_every_reply_returns(shown: VpcdCard, reader: Reader) -> None:
    shown.insert()
    link = reader.wait_for_card(WAIT_S)
    for length in (1, 255, 256, 4_000):
        data = os.urandom(length)
        assert exchange(link, Command(0x80, 0x10, 0, 0, data, 65_536 if length > 255 else None)).data == data
    long = exchange(link, Command(0x80, 0x12, 0x01, 0x2C, b"", 256))
    assert long == Response((bytes(range(256)) * 2)[:300], 0x9000)
    assert exchange(link, Command(0x80, 0x14, 0, 0, b"", 256)) == Response(bytes(10), 0x9000)
    assert exchange(link, Command(0x80, 0x77, 0, 0)).sw == 0x6D00


def test_each_session_starts_fresh(shown: VpcdCard, reader: Reader) -> None:
    shown.insert()
    first = reader.wait_for_card(WAIT_S)
    first.transmit(COUNT)
    assert first.transmit(COUNT) == b"\x02\x90\x00"
    first.close()
    assert reader.wait_for_card(WAIT_S).transmit(COUNT) == b"\x01\x90\x00"


def test_unpower_is_a_tear(shown: VpcdCard, card: EchoCard, reader: Reader) -> None:
    shown.insert()
    link = reader.wait_for_card(WAIT_S)
    link.transmit(COUNT)
    before = card.events.count("off")
    link.close(unpower=True)
    eventually(lambda: card.events.count("off") == before + 1)
    assert reader.wait_for_card(WAIT_S).transmit(COUNT) == b"\x01\x90\x00"


@pytest.mark.parametrize(("when", "executed"), [("before", 1), ("after", 2)])
def test_tears_and_presenting_again(
    shown: VpcdCard, card: EchoCard, reader: Reader, when: TearMoment, executed: int
) -> None:
    shown.insert()
    shown.tear_at(2, when)
    link = reader.wait_for_card(WAIT_S)
    link.transmit(ECHO)
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    link.close()
    assert card.executed == executed
    assert reader.wait_for_removal(WAIT_S)
    shown.insert()
    assert reader.wait_for_card(WAIT_S).transmit(COUNT) == b"\x01\x90\x00"


@pytest.mark.parametrize("pause_s", [0.0, 0.1, 0.3, 0.5])
def test_a_torn_card_comes_back_at_once(
    shown: VpcdCard, card: EchoCard, reader: Reader, pause_s: float
) -> None:
    # However soon it comes, before or after pcscd noticed that it had left.
    shown.insert()
    link = reader.wait_for_card(WAIT_S)
    shown.tear_at(1, "after")
    with pytest.raises(CardGone):
        link.transmit(COUNT)
    link.close()
    join = in_thread(lambda: shown.insert() if not threading.Event().wait(pause_s) else None)
    again = reader.wait_for_card(WAIT_S)
    assert join() is None
    assert again.transmit(COUNT) == b"\x01\x90\x00"


def test_a_waiting_reader_sees_the_card_come(shown: VpcdCard, reader: Reader) -> None:
    join = in_thread(lambda: reader.wait_for_card(WAIT_S).transmit(ECHO))
    shown.insert()
    assert join() is None


def test_cancel_and_close_end_waits(reader: Reader) -> None:
    for end in (reader.cancel, reader.close):
        join = in_thread(lambda: reader.wait_for_card(None))
        end()
        assert isinstance(join(), Cancelled)


def test_a_card_that_another_program_holds_is_busy(shown: VpcdCard, reader: Reader) -> None:
    shown.insert()
    link = reader.wait_for_card(WAIT_S)
    other = open_reader(f"pcsc:{READER_NAME}")
    with pytest.raises(ReaderBusy):
        other.wait_for_card(WAIT_S)
    link.close()
    assert other.wait_for_card(WAIT_S).transmit(ECHO)
    other.close()


def test_two_cards_in_two_readers(shown: VpcdCard) -> None:
    second = EchoCard()
    with VpcdCard(second, port=VPCD_PORT + 1) as other:
        shown.insert()
        other.insert()
        wait_until(lambda: [present for _, present in list_pcsc_readers()] == [True, True])
        reader = open_reader("pcsc:1")
        assert reader.wait_for_card(WAIT_S).transmit(ECHO) == bytes.fromhex("12349000")
        reader.close()
    assert second.executed == 1


def opensc(*arguments: str) -> str:
    done = subprocess.run(
        ["opensc-tool", "--reader", "0", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.needs("opensc-tool")
def test_an_independent_client_selects_the_applet(shown: VpcdCard, card: EchoCard) -> None:
    shown.insert()
    wait_until(lambda: list_pcsc_readers()[0][1])
    assert ECHO_ATR.hex(":") in opensc("--atr")
    told = opensc("-s", "00A4040005" + ECHO_AID.hex(), "-s", "80 10 00 00 02 12 34 00")
    assert told.count("SW1=0x90, SW2=0x00") == 2
    assert "12 34" in told
    assert card.executed >= 2


def test_pcscd_restarts_under_reader_and_card(shown: VpcdCard) -> None:
    told: list[Health] = []

    def note(event: HealthEvent) -> None:
        told.append(event.health)

    with PcscReader(READER_NAME, patient=True, on_health=note) as reader:
        shown.insert()
        reader.wait_for_card(WAIT_S).close()
        joined = in_thread(lambda: reader.wait_for_removal(WAIT_S))
        restart_pcscd()
        joined()
        assert reader.wait_for_card(WAIT_S).transmit(ECHO) == bytes.fromhex("12349000")
        assert told[0] is Health.SERVICE_LOST
        assert Health.SERVICE_BACK in told


def restart_pcscd() -> None:
    """Ends the pcscd of this namespace, the only one that its PID file can name, and starts another.

    The other one goes into the background and ends with the namespace.
    """
    pid_file = Path("/run/pcscd/pcscd.pid")
    os.kill(int(pid_file.read_text(encoding="ascii").strip("\n\0")), signal.SIGTERM)
    wait_until(lambda: not pid_file.exists())
    place = find_pcscd()
    assert place is not None
    private = "/run/pcscd/private"
    subprocess.run(
        [place, "--config", f"{private}/readers"],
        env={**os.environ, "PCSCLITE_HP_DROPDIR": f"{private}/drivers"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=30,
    )


def wait_until(done: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        try:
            if done():
                return
        except BridgeError:
            pass
        threading.Event().wait(0.02)
    pytest.fail("waited in vain")
