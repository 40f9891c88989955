"""Traces: recorded wherever a tap happens, explained, played back."""

import json

from tests.tui.test_paying import RETAIL_PAY
from tests.tui.world import World, running


def test_a_trace_explains_each_exchange(world: World) -> None:
    assert world.pay("12.50", "--trace", "tap.trace").code == 0
    shown = world.call("trace", "show", "tap.trace", "--json").json
    (session,) = shown["sessions"]
    names = [exchange["name"] for exchange in session["exchanges"]]
    assert names == ["SELECT", "EXCHANGE CERTIFICATES", "PAY", "RATIFY"]
    assert all(exchange["sw"] == "9000" for exchange in session["exchanges"])
    assert session["exchanges"][RETAIL_PAY - 1]["fields"]["amount"] == "12.50"
    lines = world.call("trace", "show", "tap.trace").out.splitlines()
    assert lines[0] == "reader sim:alice.card, times by the monotonic clock"
    assert lines[-1].startswith("4 exchanges, ")


def test_a_trace_with_a_pin_is_whole_without_it(world: World) -> None:
    pins = world.path("pins")
    pins.write_text("482915", encoding="ascii")
    pins.chmod(0o600)
    assert world.pay("380.00", "--pin-file", "pins", "--trace", "t", card="rich.card").code == 0
    (session,) = world.call("trace", "show", "t", "--json").json["sessions"]
    assert [exchange["name"] for exchange in session["exchanges"]].count("PAY") == 2
    assert session["exchanges"][-2]["fields"]["ephemeral key, PIN block"] == "not recorded"
    assert world.call("trace", "replay", "t").code == 0


def test_a_torn_session_replays_too(world: World) -> None:
    assert world.pay("1.00", "--trace", "t").code == 0
    lines = world.path("t").read_text(encoding="utf-8").splitlines()
    pay = json.loads(lines[RETAIL_PAY])
    del pay["response"]
    lines[RETAIL_PAY] = json.dumps(pay | {"error": "CardGone"})
    world.path("t").write_text("\n".join(lines[: RETAIL_PAY + 1]) + "\n", encoding="utf-8")
    assert "no reply: CardGone" in world.call("trace", "show", "t").out
    done = world.call("trace", "replay", "t", "--json")
    assert (done.code, done.json) == (0, {"exchanges": 3, "sessions": 1, "mismatches": 0, "complete": True})


def test_a_replay_that_cannot_be_played_says_so(world: World) -> None:
    assert world.pay("1.00", "--trace", "t").code == 0
    lines = world.path("t").read_text(encoding="utf-8").splitlines()
    lines.insert(2, json.dumps({"t_ms": 1.0, "ms": 1.0, "command": "80", "error": "CardGone"}))
    lines[1] = json.dumps(json.loads(lines[1]) | {"response": "90"})
    world.path("t").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = world.call("trace", "replay", "t")
    assert (done.code, "not played as recorded" in done.out) == (1, True)


def test_a_trace_is_written_over_by_a_trace_only(world: World) -> None:
    assert world.pay("1.00", "--trace", "t").code == 0
    first = world.path("t").read_text(encoding="utf-8")
    assert world.pay("1.00", "--trace", "t").code == 0
    assert world.path("t").read_text(encoding="utf-8") != first


def test_a_validator_records_too(world: World) -> None:
    words = ("--terminal", "bus", "--reader", "sim:alice.card", "--amount", "2.00", "--jsonl", "--trace", "t")
    with running(world.folder, "pos", "run", *words) as bus:
        assert [bus.event()["event"] for _ in range(4)] == ["ready", "present", "tap", "done"]
    assert "PAY" in world.call("trace", "show", "t").out


def test_probe_and_apdu(world: World) -> None:
    before = world.path("alice.card").read_bytes()
    probed = world.call("probe", "--reader", "sim:alice.card", "--json", "--trace", "t").json
    assert (probed["select_sw"], probed["wallet"]["card"]) == ("9000", world.shown()["number"])
    assert probed["apdu_ms"]["median"] <= probed["apdu_ms"]["worst"]
    assert "holds no hardwallet" not in world.call("probe", "--reader", "sim:alice.card").out
    sent = world.call(
        *("apdu", "--reader", "sim:alice.card", "--json"),
        *("00 A4 04 00 0B F04841524457414C4C4554 00", "80:32:00:00:00", "8099"),
    )
    assert sent.code == 1
    assert [answer["sw"] for answer in sent.json["answers"]] == ["9000", "6982", "6700"]
    good = world.call("apdu", "--reader", "sim:alice.card", "00A404000BF04841524457414C4C455400")
    assert (good.code, good.out.splitlines()[0]) == (0, "> 00A404000BF04841524457414C4C455400")
    assert world.path("alice.card").read_bytes() == before
