"""The PC/SC loop against a pcscd that stops, a reader that is unplugged, a card that others hold."""

from collections.abc import Callable

import pytest

from firmware_bridge import pcsc
from firmware_bridge.errors import (
    BridgeError,
    Cancelled,
    CardGone,
    Garbled,
    LinkTimeout,
    NoCard,
    ReaderBusy,
    ReaderGone,
    ServiceNotRunning,
)
from firmware_bridge.pcsc import Health, HealthEvent, PcscReader
from tests.firmware_bridge.cards import ECHO_ATR, EchoCard
from tests.firmware_bridge.scripted_scard import ScriptedScard

NAME = "ACME One 00 00"
ECHO = bytes.fromhex("80100000021234")


class Bench:
    """A reader over a scripted pcscd, and the health events it told."""

    def __init__(self, *, patient: bool = False) -> None:
        self.scard = ScriptedScard([NAME])
        self.health: list[Health] = []
        self.reader = PcscReader(
            NAME,
            scard=self.scard,
            patient=patient,
            on_health=self._note,
            clock=self.scard.clock,
            pause=self.scard.pause,
        )

    def _note(self, event: HealthEvent) -> None:
        assert event.reader == NAME
        assert str(event).startswith(NAME)
        self.health.append(event.health)

    def during_waits(self, *happenings: Callable[[], None]) -> None:
        self.scard.during_waits.extend(happenings)

    def insert(self) -> None:
        self.scard.insert(NAME, EchoCard())

    def take(self) -> None:
        self.scard.take(NAME)

    def unplug(self) -> None:
        del self.scard.readers[NAME]

    def plug(self) -> None:
        self.scard.readers[NAME] = None


def nothing() -> None:
    """A wait in which nothing happens to this reader."""


def test_a_card_that_is_there_already_is_seen() -> None:
    bench = Bench()
    bench.insert()
    link = bench.reader.wait_for_card(0)
    assert link.atr == ECHO_ATR
    assert link.transmit(ECHO) == bytes.fromhex("12349000")
    assert bench.scard.waits_ms == []


def test_a_card_that_comes_is_seen() -> None:
    bench = Bench()
    bench.during_waits(nothing, bench.insert)
    assert bench.reader.wait_for_card(None).transmit(ECHO) == bytes.fromhex("12349000")


def test_no_wait_is_longer_than_the_time_left() -> None:
    bench = Bench()
    with pytest.raises(NoCard):
        bench.reader.wait_for_card(12.5)
    assert bench.scard.waits_ms == [5000, 5000, 2500]
    assert bench.scard.now_s == 12.5


def test_removal_is_seen() -> None:
    bench = Bench()
    bench.insert()
    bench.reader.wait_for_card(0).close()
    assert not bench.reader.wait_for_removal(1)
    bench.during_waits(bench.take)
    assert bench.reader.wait_for_removal(1)
    assert bench.reader.wait_for_removal(0)


def test_replies_in_pieces_and_t0_are_settled_here() -> None:
    bench = Bench()
    bench.scard.protocol = pcsc.PROTOCOL_T0
    bench.insert()
    link = bench.reader.wait_for_card(0)
    assert link.transmit(bytes.fromhex("8012012C00")) == (bytes(range(256)) * 2)[:300] + b"\x90\x00"
    assert link.transmit(bytes.fromhex("80100000021234FF")) == bytes.fromhex("12349000")


def test_a_card_is_reset_when_its_session_ends() -> None:
    bench = Bench()
    card = EchoCard()
    bench.scard.insert(NAME, card)
    bench.reader.wait_for_card(0).close()
    bench.reader.wait_for_card(0).close()
    assert bench.scard.dispositions == [pcsc.RESET_CARD, pcsc.RESET_CARD]
    assert card.events == ["on", "reset", "reset"]


def torn(bench: Bench) -> EchoCard:
    """A bench whose card failed in mid-session and was left as it was."""
    card = EchoCard()
    bench.scard.insert(NAME, card)
    link = bench.reader.wait_for_card(0)
    bench.scard.transmit_codes.append(pcsc.E_NOT_TRANSACTED)
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    link.close()
    assert bench.scard.dispositions == [pcsc.LEAVE_CARD]
    assert card.events == ["on"]
    return card


def test_a_torn_card_that_stayed_is_reset_after_a_polling_interval() -> None:
    bench = Bench()
    card = torn(bench)
    assert bench.reader.wait_for_card(5).transmit(ECHO)
    assert bench.scard.now_s == pytest.approx(pcsc.POLLING_S)
    assert card.events == ["on", "reset"]


def test_a_torn_card_whose_leaving_is_noticed_late_is_waited_for() -> None:
    bench = Bench()
    card = torn(bench)
    bench.during_waits(bench.take, nothing, lambda: bench.scard.insert(NAME, card))
    assert bench.reader.wait_for_card(5).transmit(ECHO)
    assert card.events == ["on", "off", "on"]


def test_a_torn_card_that_cannot_be_reset_is_waited_for() -> None:
    bench = Bench()
    torn(bench)
    bench.scard.reconnect_codes.extend([pcsc.W_REMOVED_CARD, pcsc.W_UNRESPONSIVE_CARD])
    assert bench.reader.wait_for_card(5).transmit(ECHO)


def test_a_torn_card_that_can_never_be_reset_is_given_up() -> None:
    bench = Bench()
    torn(bench)
    bench.scard.reconnect_codes.extend([pcsc.W_UNRESPONSIVE_CARD] * 10_000)
    with pytest.raises(NoCard):
        bench.reader.wait_for_card(5)
    assert bench.scard.now_s < 7


def test_unpower_tears() -> None:
    bench = Bench()
    card = EchoCard()
    bench.scard.insert(NAME, card)
    link = bench.reader.wait_for_card(0)
    link.close(unpower=True)
    link.close(unpower=True)
    assert card.events == ["on", "off"]
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    assert bench.scard.dispositions == [pcsc.UNPOWER_CARD]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (pcsc.W_REMOVED_CARD, CardGone),
        (pcsc.W_RESET_CARD, CardGone),
        (pcsc.W_UNPOWERED_CARD, CardGone),
        (pcsc.E_NOT_TRANSACTED, CardGone),
        (pcsc.F_COMM_ERROR, CardGone),
        (pcsc.E_TIMEOUT, LinkTimeout),
        (pcsc.E_INSUFFICIENT_BUFFER, Garbled),
        (pcsc.E_NO_SERVICE, ReaderGone),
        (pcsc.E_INVALID_HANDLE, ReaderGone),
        (pcsc.E_READER_UNAVAILABLE, ReaderGone),
    ],
)
def test_each_failed_exchange_has_its_error(code: int, error: type[BridgeError]) -> None:
    bench = Bench()
    bench.insert()
    link = bench.reader.wait_for_card(0)
    bench.scard.transmit_codes.append(code)
    with pytest.raises(error):
        link.transmit(ECHO)


def test_a_card_that_leaves_in_mid_session_is_gone() -> None:
    bench = Bench()
    bench.insert()
    link = bench.reader.wait_for_card(0)
    bench.take()
    with pytest.raises(CardGone):
        link.transmit(ECHO)


def test_a_card_that_leaves_before_it_is_connected_is_waited_for() -> None:
    bench = Bench()
    bench.insert()
    bench.scard.connect_codes.extend([pcsc.W_REMOVED_CARD, pcsc.E_NO_SMARTCARD])
    assert bench.reader.wait_for_card(5).transmit(ECHO)


def test_pcscd_restarts_between_taps() -> None:
    bench = Bench()
    bench.insert()
    bench.reader.wait_for_card(0).close()
    bench.scard.stop_service()
    bench.scard.start_service()
    assert bench.reader.wait_for_card(1).transmit(ECHO)
    assert bench.health == [Health.SERVICE_LOST, Health.SERVICE_BACK]
    assert bench.scard.contexts_open == 1


@pytest.mark.parametrize("patient", [False, True])
def test_pcscd_restarts_while_a_card_is_awaited(patient: bool) -> None:
    bench = Bench(patient=patient)
    bench.during_waits(
        nothing, bench.scard.stop_service, nothing, nothing, bench.scard.start_service, bench.insert
    )
    assert bench.reader.wait_for_card(60).transmit(ECHO)
    assert bench.health == [Health.SERVICE_LOST, Health.SERVICE_BACK]
    assert bench.scard.contexts_open == 1


def test_an_impatient_reader_gives_a_stopped_pcscd_a_moment() -> None:
    bench = Bench()
    bench.scard.stop_service()
    with pytest.raises(ServiceNotRunning, match="systemctl start"):
        bench.reader.wait_for_card(None)
    assert pcsc.SERVICE_GRACE_S <= bench.scard.now_s < pcsc.SERVICE_GRACE_S + 2


def test_a_short_wait_is_not_made_longer_by_a_stopped_pcscd() -> None:
    bench = Bench()
    bench.scard.stop_service()
    with pytest.raises(ServiceNotRunning):
        bench.reader.wait_for_card(0.2)
    assert bench.scard.now_s < 1


def test_a_patient_reader_waits_for_pcscd_to_the_end() -> None:
    bench = Bench(patient=True)
    bench.scard.stop_service()
    with pytest.raises(NoCard, match="service went away"):
        bench.reader.wait_for_card(100)
    assert 100 <= bench.scard.now_s < 110
    assert bench.health == [Health.SERVICE_LOST]


def test_an_unplugged_reader_is_gone() -> None:
    bench = Bench()
    bench.during_waits(bench.unplug)
    with pytest.raises(ReaderGone, match="Plug it in"):
        bench.reader.wait_for_card(None)
    assert bench.health == [Health.READER_GONE]
    assert bench.scard.contexts_open == 0


def test_a_patient_reader_sees_its_reader_come_back() -> None:
    bench = Bench(patient=True)
    bench.during_waits(bench.unplug, nothing, nothing, bench.plug, nothing, bench.insert)
    assert bench.reader.wait_for_card(60).transmit(ECHO)
    assert bench.health == [Health.READER_GONE, Health.READER_BACK]


def test_a_patient_reader_does_not_wait_for_its_reader_for_ever() -> None:
    bench = Bench(patient=True)
    bench.unplug()
    with pytest.raises(NoCard, match="unplugged"):
        bench.reader.wait_for_card(30)
    assert 30 <= bench.scard.now_s < 32


def test_a_reader_plugged_in_besides_changes_nothing() -> None:
    bench = Bench()
    bench.during_waits(lambda: bench.scard.readers.update({"ACME Two 00 00": None}), bench.insert)
    assert bench.reader.wait_for_card(60).transmit(ECHO)
    assert bench.health == []


def test_a_card_held_for_a_moment_is_taken_then() -> None:
    bench = Bench()
    bench.insert()
    bench.scard.connect_codes.extend([pcsc.E_SHARING_VIOLATION] * 3)
    assert bench.reader.wait_for_card(5).transmit(ECHO)
    assert bench.health == [Health.CARD_BUSY]


def test_a_card_held_for_long_is_busy() -> None:
    bench = Bench()
    bench.insert()
    bench.scard.connect_codes.extend([pcsc.E_SHARING_VIOLATION] * 1000)
    with pytest.raises(ReaderBusy, match="Another program"):
        bench.reader.wait_for_card(None)
    assert bench.scard.now_s == pytest.approx(pcsc.BUSY_GRACE_S, abs=0.1)


def test_a_mute_card_is_told_and_replaced() -> None:
    bench = Bench()
    bench.insert()
    bench.scard.mute.add(NAME)
    bench.during_waits(bench.take, bench.scard.mute.clear, bench.insert)
    assert bench.reader.wait_for_card(60).transmit(ECHO)
    assert bench.health == [Health.CARD_MUTE, Health.CARD_AWAY]


@pytest.mark.parametrize("code", [pcsc.W_UNRESPONSIVE_CARD, pcsc.E_PROTO_MISMATCH])
def test_a_card_that_cannot_be_connected_is_told(code: int) -> None:
    bench = Bench()
    bench.insert()
    bench.scard.connect_codes.extend([code] * 10_000)
    with pytest.raises(NoCard, match="doesn't answer"):
        bench.reader.wait_for_card(5)
    assert bench.health == [Health.CARD_MUTE]
    assert bench.scard.now_s < 6


def test_pcscd_lost_while_connecting() -> None:
    bench = Bench()
    bench.insert()
    bench.scard.connect_codes.append(pcsc.E_NO_SERVICE)
    assert bench.reader.wait_for_card(5).transmit(ECHO)
    assert bench.health == [Health.SERVICE_LOST, Health.SERVICE_BACK]


def test_reader_lost_while_connecting() -> None:
    bench = Bench()
    bench.insert()
    bench.scard.connect_codes.append(pcsc.E_READER_UNAVAILABLE)
    with pytest.raises(ReaderGone):
        bench.reader.wait_for_card(5)


def test_a_refused_user_is_told_so() -> None:
    bench = Bench(patient=True)
    bench.scard.refusing = pcsc.W_SECURITY_VIOLATION
    with pytest.raises(ServiceNotRunning, match="refused this user"):
        bench.reader.wait_for_card(None)


def test_an_unknown_failure_names_its_code() -> None:
    bench = Bench()
    bench.insert()
    bench.scard.connect_codes.append(0x80100001)
    with pytest.raises(ReaderGone, match="80100001"):
        bench.reader.wait_for_card(None)


def test_cancel_ends_a_wait_and_the_next_one_works() -> None:
    bench = Bench()
    bench.during_waits(bench.reader._stop.set, bench.insert)
    with pytest.raises(Cancelled):
        bench.reader.wait_for_card(None)
    assert bench.reader.wait_for_card(None).transmit(ECHO)


def test_a_cancel_beforehand_ends_the_next_wait() -> None:
    bench = Bench()
    bench.insert()
    bench.reader.cancel()
    with pytest.raises(Cancelled):
        bench.reader.wait_for_card(None)


def test_closing_leaves_nothing_open() -> None:
    bench = Bench()
    bench.insert()
    link = bench.reader.wait_for_card(0)
    bench.reader.close()
    bench.reader.close()
    assert bench.scard.contexts_open == 0
    assert bench.scard.dispositions == [pcsc.RESET_CARD]
    with pytest.raises(CardGone):
        link.transmit(ECHO)
    with pytest.raises(Cancelled):
        bench.reader.wait_for_card(0)
    with pytest.raises(Cancelled):
        bench.reader.wait_for_removal(0)
