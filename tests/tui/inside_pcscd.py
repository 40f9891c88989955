"""The commands through a real pcscd; test_pcscd.py runs this file beside a pcscd of its own."""

import signal
import subprocess
from typing import Any

import pytest

from firmware_bridge.virtual.private_pcscd import READER_NAME, inside
from tests.firmware_bridge.inside_pcscd import restart_pcscd
from tests.tui.conftest import template, world  # noqa: F401 - fixtures
from tests.tui.world import Running, World, running

SELECT = "00:A4:04:00:0B:F0:48:41:52:44:57:41:4C:4C:45:54:00"


@pytest.fixture(autouse=True)
def _inside() -> None:
    assert inside(), "run by test_pcscd.py"


@pytest.mark.needs("opensc-tool")
def test_an_independent_client_selects_the_card(world: World) -> None:  # noqa: F811
    with running(world.folder, "card", "serve", "--vpcd", "alice.card") as card:
        assert card.line().startswith("ready")
        told = subprocess.run(
            ["opensc-tool", "--reader", "0", "-s", SELECT],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        assert "SW1=0x90, SW2=0x00" in told
        busy = world.call("card", "show", "alice.card", "--json")
        assert (busy.code, busy.error["kind"]) == (1, "card_file_busy")
        ended = card.stop(signal.SIGINT)
    assert (ended.code, ended.err) == (0, "")


def happens(bus: Running, *unwell: str) -> Any:
    """The next event. A card that goes while pcscd resets it may be told as mute first."""
    while True:
        event = bus.event()
        if event["event"] != "health":
            return event
        assert event["health"] in ("card_mute", "card_away", *unwell), event


def test_a_till_a_bus_and_a_card_that_comes_and_goes(world: World) -> None:  # noqa: F811
    reader = f"pcsc:{READER_NAME}"
    bus_words = ("pos", "run", "--terminal", "bus", "--reader", reader, "--amount", "2.00", "--jsonl")
    with running(world.folder, "card", "serve", "--vpcd", "--trace", "t", "alice.card") as card:
        assert card.line().startswith("ready")
        listed = world.call("readers", "--json").json["readers"]
        assert (listed[0]["uri"], listed[0]["card_present"]) == (reader, True)
        probed = world.call("probe", "--reader", "pcsc:0", "--json").json
        assert (probed["stack"], probed["wallet"]["suite"]) == ("pcsc", 1)
        paid = world.call("pos", "pay", "12.50", "--terminal", "till", "--reader", "pcsc:0", "--json")
        assert (paid.code, paid.json["stack"], "modelled_ms" in paid.json) == (0, "pcsc", False)
        with running(world.folder, *bus_words) as bus:
            assert [happens(bus)["event"] for _ in range(4)] == ["ready", "present", "tap", "done"]
            assert card.stop().code == 0
            assert happens(bus)["event"] == "removed"
            with running(world.folder, "card", "serve", "--vpcd", "rich.card") as other:
                assert other.line().startswith("ready")
                assert happens(bus)["event"] == "present"
                taken = bus.event()
                assert (taken["event"], taken["outcome"]) == ("tap", "granted")
                assert happens(bus)["event"] == "done"
                ended = bus.stop()
            assert (ended.code, ended.err) == (0, "")
            assert ended.out.endswith('{"event": "stopped"}\n')
    assert world.shown()["balance_fen"] == 20_000 - 1_250 - 200
    assert world.shown("rich.card")["balance_fen"] == 90_000 - 200
    assert world.status("bus")["waiting"]["amount_fen"] == 400
    assert "PAY" in world.call("trace", "show", "t").out


def test_a_card_in_the_virtual_reader_already(world: World) -> None:  # noqa: F811
    with running(world.folder, "card", "serve", "--vpcd", "alice.card") as card:
        assert card.line().startswith("ready")
        with running(world.folder, *("pos", "run", "--terminal", "bus", "--reader", "pcsc:0")) as unfinished:
            assert unfinished.end().code == 2
        nothing = world.call(
            "pos", "pay", "1.00", "--terminal", "till", "--reader", "pcsc:1", "--timeout", "0.2"
        )
        assert (nothing.code, "No card was presented in time" in nothing.err) == (1, True)
        wrong = world.call("pos", "pay", "1.00", "--terminal", "till", "--reader", "pcsc:ACR", "--json")
        assert (wrong.code, wrong.error["kind"]) == (1, "no_reader")


def test_a_replayed_card_answers_the_same(world: World) -> None:  # noqa: F811
    select = SELECT.replace(":", "")
    assert world.call("apdu", "--reader", "sim:alice.card", select, "--trace", "t").code == 0
    recorded = world.call("trace", "show", "t", "--json").json["sessions"][0]["exchanges"][0]["response"]
    with running(world.folder, "trace", "replay", "t", "--vpcd", "--json") as replay:
        assert replay.line().startswith("ready")
        answers = world.call("apdu", "--reader", "pcsc:0", select, "--json").json["answers"]
        ended = replay.end()
    assert answers[0]["data"] + answers[0]["sw"] == recorded
    assert (ended.code, '"complete": true' in ended.out) == (0, True)


def test_a_validator_lives_through_a_pcscd_that_restarts(world: World) -> None:  # noqa: F811
    words = (
        "pos",
        "run",
        "--terminal",
        "bus",
        "--reader",
        f"pcsc:{READER_NAME}",
        "--amount",
        "2.00",
        "--jsonl",
    )
    with running(world.folder, *words) as bus:
        with running(world.folder, "card", "serve", "--vpcd", "alice.card") as card:
            assert card.line().startswith("ready")
            assert [happens(bus)["event"] for _ in range(4)] == ["ready", "present", "tap", "done"]
            assert card.stop().code == 0
        # A card that lies there through the restart need not be seen to leave, so it leaves before.
        assert happens(bus)["event"] == "removed"
        restart_pcscd()
        told = [bus.event()]
        while told[-1].get("health") != "service_back":
            told.append(bus.event())
        with running(world.folder, "card", "serve", "--vpcd", "alice.card") as card:
            assert card.line().startswith("ready")
            # pcscd may be back before it has found its readers again.
            assert happens(bus, "reader_gone", "reader_back")["event"] == "present"
            assert bus.event()["outcome"] == "already_granted"
            assert happens(bus)["event"] == "done"
            ended = bus.stop()
    assert (ended.code, ended.err) == (0, "")
    assert "service_lost" in [event["health"] for event in told]
    assert world.shown()["balance_fen"] == 19_800
