"""A station and its clearing: sent by itself and when asked, through networks that come and go."""

import random
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from fleet.open import TerminalSession, open_clearing, open_issuing
from fleet.station import (
    Decided,
    Done,
    Network,
    Pace,
    Sell,
    SendFailed,
    Sending,
    Sent,
    StatusChanged,
    Uplink,
)
from fleet.uplink import NO_CLEARING, OFF
from fleet.world import World, WorldCard, create_world
from hardwallet.issuing import ISSUER
from hardwallet.messages import KIND_BLOCK
from offline_sync.clearing import Clearing
from offline_sync.clearing.service import application
from offline_sync.errors import ClearingFailed
from pos_terminal.tap import Outcome
from tests.fleet.conftest import NOW
from tests.fleet.stations import PATIENCE_S, Bench, running, until
from tests.offline_sync.asking import InProcess

EAGER = Pace(0.0, send_after_s=0.0, fetch_every_s=1000.0, retry_s=0.01, longest_retry_s=0.02)
PATIENT = Pace(0.0, send_after_s=1000.0, fetch_every_s=1000.0, retry_s=1000.0, longest_retry_s=2000.0)


class Line(httpx.BaseTransport):
    """The service without a network, which can be cut, and what was asked."""

    def __init__(self, clearing: Clearing) -> None:
        self._service = InProcess(application(clearing))
        self.cut = False
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.cut:
            raise httpx.ConnectError("no route to host")
        return self._service.handle_request(request)


@dataclass(slots=True)
class Place:
    """A world with its clearing, a till in it and a card."""

    world: World
    clearing: Clearing
    line: Line
    till: TerminalSession
    card: WorldCard
    ahead_s: int = 0

    def uplink(self, *, on: bool = True) -> Uplink:
        return Uplink("http://clearing", on=on, transport=self.line)

    def pay(self, bench: Bench, amount_fen: int = 700) -> None:
        until(lambda: bench.station.want(Sell(amount_fen)))
        bench.reader.present(self.card.card)
        assert bench.heard.next(Done).tap.granted
        bench.reader.remove()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        made = create_world(
            Path(folder), lambda: NOW, lambda: 0.0, random.Random(5).randbytes, sealing_cost=2
        )
        yield made
        made.close()


@pytest.fixture
def place(world: World) -> Iterator[Place]:
    number = len(world.terminals) + 1
    till = world.add_terminal(f"till{number}", "retail", number).session
    made: list[Place] = []
    with open_clearing(world.scheme_folder, clock=lambda: NOW + made[0].ahead_s if made else NOW) as clearing:
        made.append(Place(world, clearing, Line(clearing), till, world.add_card(f"card{number}", 5, 20_000)))
        yield made[0]


def test_what_is_paid_is_sent_by_itself(place: Place) -> None:
    with running(place.till, place.card.card, uplink=place.uplink(), pace=EAGER) as bench:
        place.pay(bench)
        assert bench.heard.next(Sending).total > 0
        sent = bench.heard.next(Sent)
        assert (sent.entries > 0, sent.rejected) == (True, 0)
        until(lambda: place.till.journal.waiting().entries == 0)
        assert 700 in [line.balance_fen for line in place.clearing.report().payees]
        until(lambda: bench.station.status().network is Network.ONLINE)
        until(lambda: bench.station.status().waiting_count == 0)
        assert bench.station.status().clock_offset_s == 0


def test_a_network_that_goes_and_comes_back(place: Place) -> None:
    place.line.cut = True
    with running(place.till, place.card.card, uplink=place.uplink(), pace=EAGER) as bench:
        place.pay(bench)
        until(lambda: bool(bench.heard.of(SendFailed)))
        assert "cannot be reached" in bench.heard.of(SendFailed)[0].sentence
        until(lambda: bench.station.status().network is Network.OFFLINE)
        until(lambda: bench.station.status().waiting_fen == 700)
        tries = len(place.line.asked)
        until(lambda: len(place.line.asked) > tries + 3)
        assert len(bench.heard.of(SendFailed)) == 1  # the same trouble is told once
        place.line.cut = False
        bench.heard.next(Sent)
        until(lambda: bench.station.status().network is Network.ONLINE)
        assert place.till.journal.waiting().entries == 0


def test_forward_now_answers_whatever_happens(place: Place) -> None:
    place.line.cut = True
    with running(place.till, place.card.card, uplink=place.uplink(), pace=PATIENT) as bench:
        bench.heard.next(SendFailed)
        bench.station.forward()
        bench.heard.next(SendFailed)
        place.line.cut = False
        bench.station.forward()
        assert bench.heard.next(Sent).entries == 0
        bench.station.set_network(False)
        bench.station.forward()
        assert bench.heard.next(SendFailed).sentence == OFF
        until(lambda: bench.station.status().network_reason == OFF)
        bench.station.set_network(True)
        until(lambda: bench.station.status().network is Network.ONLINE)
    with running(place.till, place.card.card) as bench:
        bench.station.forward()
        assert bench.heard.next(SendFailed).sentence == NO_CLEARING
        assert bench.station.status().network is Network.NOT_SET


def test_switched_off_nobody_is_asked(place: Place) -> None:
    with running(place.till, place.card.card, uplink=place.uplink(on=False), pace=EAGER) as bench:
        place.pay(bench)
        until(lambda: bench.station.status().waiting_fen == 700)
        assert place.line.asked == []
        assert bench.station.status().network is Network.OFFLINE


def test_an_address_that_is_known_later(place: Place) -> None:
    uplink = Uplink("", reason="clearing is starting", transport=place.line)
    with running(place.till, place.card.card, uplink=uplink, pace=EAGER) as bench:
        assert bench.station.status().network_reason == "clearing is starting"
        uplink.reach("http://clearing")
        until(lambda: bench.station.status().network is Network.ONLINE)
        uplink.reach("no address at all", "")
        assert "no address" in bench.heard.next(SendFailed).sentence


def test_what_operators_published_is_fetched_between_taps(place: Place) -> None:
    number = place.card.number
    with open_issuing(place.world.scheme_folder, entropy=place.world.entropy) as scheme:
        order = scheme.card_order(number, KIND_BLOCK, b"", NOW)
        denied = scheme.publish_denylist([number], (), NOW)
    place.clearing.notices.publish_denylist(denied.full)
    place.clearing.notices.publish_orders([order])
    with running(place.till, place.card.card, uplink=place.uplink(), pace=PATIENT) as bench:
        sent = bench.heard.next(Sent)
        assert (sent.fetched_denylists, sent.fetched_orders) == (1, 1)
        bench.station.want(Sell(100))
        bench.reader.present()
        assert bench.heard.next(Decided).tap.outcome is Outcome.DECLINED
        held = place.till.denylists.of(ISSUER)
        assert held is not None
        assert number in held
    with open_issuing(place.world.scheme_folder, entropy=place.world.entropy) as scheme:
        scheme.publish_denylist((), [number], NOW)


def test_how_far_the_clock_is_off(place: Place) -> None:
    place.ahead_s = 90
    with running(place.till, place.card.card, uplink=place.uplink(), pace=EAGER) as bench:
        until(lambda: bench.station.status().clock_offset_s == -90)
        place.ahead_s = 4_000  # too far: clearing refuses, and says what time it is
        bench.station.forward()
        bench.heard.next(SendFailed, lambda event: "clock" in event.sentence)
        until(lambda: bench.station.status().clock_offset_s == -4_000)
        assert bench.station.status().network is Network.ONLINE  # it answered


NO_DATES = (
    *("", "yesterday", "9" * 29, "é" * 29),
    *("Sun, 06 Nov 1994 08:49:37 CET", "Xxx, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 0000 08:49:37 GMT"),
)


def test_a_date_that_is_none_tells_nothing(place: Place) -> None:
    dates = list(NO_DATES)

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, headers={b"date": dates.pop().encode()})

    with Uplink("http://clearing", transport=httpx.MockTransport(answer)).gateway(place.till) as gateway:
        while dates:
            with pytest.raises(ClearingFailed):
                gateway.client.health()
            assert gateway.clock_offset_s is None


class Stuck(httpx.BaseTransport):
    """A network that takes everything and never answers, until it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.let_go = threading.Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.set()
        assert self.let_go.wait(PATIENCE_S)
        raise httpx.ReadTimeout("never answered")


def test_nothing_waits_for_a_network_that_is_stuck(place: Place) -> None:
    stuck = Stuck()
    uplink = Uplink("http://clearing", transport=stuck)
    with running(place.till, place.card.card, uplink=uplink, pace=EAGER) as bench:
        assert stuck.asked.wait(PATIENCE_S)
        bench.station.forward()
        bench.station.set_network(False)
        bench.station.set_network(True)
        place.pay(bench)
        until(lambda: bench.station.status().waiting_fen == 700)
        bench.station.close(0.05)  # does not wait for it for ever
        stuck.let_go.set()


def test_a_defect_in_sending_is_told_and_tried_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(place.till, place.card.card, uplink=place.uplink(), pace=EAGER) as bench:
        with monkeypatch.context() as broken:
            broken.setattr(place.till.journal, "acknowledged", lambda: 1 // 0)
            bench.station.forward()
            assert "ZeroDivisionError" in bench.heard.next(SendFailed).sentence
        bench.station.forward()
        bench.heard.next(Sent)


def test_closing_ends_an_upload_between_two_batches(place: Place) -> None:
    with running(place.till, place.card.card, uplink=place.uplink(), pace=PATIENT) as bench:
        bench.heard.next(StatusChanged, lambda event: event.status.network is Network.ONLINE)
        place.pay(bench)
        bench.station.close()
        bench.station.close()
        bench.station.forward()
    assert place.till.journal.waiting_fen() == 700
