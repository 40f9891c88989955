"""Denylists and orders brought by file, shown, and felt at the till; and "did I pay?"."""

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.open import open_issuing, system_clock
from hardwallet import messages as m
from hardwallet.denylist import MAX_LENGTH
from hardwallet.issuing import ISSUER
from tests.tui.test_paying import RETAIL_PAY
from tests.tui.world import World

LIST = f"denylist-{ISSUER.hex()}.bin"


def publish(world: World, add: list[str], remove: list[str] | None = None) -> tuple[bytes, bytes | None]:
    """The scheme's next list: whole, and as a change."""
    with open_issuing(world.path("city")) as scheme:
        made = scheme.publish_denylist(
            map(bytes.fromhex, add), map(bytes.fromhex, remove or []), system_clock()
        )
    return made.full, made.delta


def written(world: World, name: str, raw: bytes) -> str:
    world.path(name).write_bytes(raw)
    return name


def settings(world: World, **limits: object) -> None:
    path = world.path("till") / "settings.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"limits": kept["limits"] | limits}))


def shown(world: World, *words: str) -> Any:
    return world.call("denylist", "show", "--terminal", "till", "--json", *words).json


def test_a_list_is_brought_and_felt(world: World) -> None:
    number = world.shown()["number"]
    assert world.pay("5.00").code == 0
    full, delta = publish(world, [number])
    assert delta is not None
    done = world.call("denylist", "import", written(world, "a.change", delta), "--terminal", "till")
    assert (done.code, done.err) == (0, "")
    assert "1 cards" in done.out
    refused = world.pay("5.00")
    assert (refused.code, refused.json["outcome"]) == (1, "declined")
    assert "denylist" in refused.json["reason"]
    told = world.call("pos", "pay", "5.00", "--terminal", "till", "--reader", "sim:alice.card").out
    assert told.startswith("NOT PAID: the card is on its issuer's denylist")
    data = shown(world, "--card", number)
    assert data["card"] == {"number": number, "denied": True}
    assert [(row["version"], row["cards"], row["age_days"]) for row in data["lists"]] == [(2, 1, 0)]
    other = world.call("card", "show", "rich.card", "--json").json["number"]
    assert shown(world, "--card", other)["card"]["denied"] is False
    again = world.call("denylist", "import", written(world, "a.list", full), "--terminal", "till", "--json")
    assert (again.code, again.json["version"]) == (0, 2)
    back, _ = publish(world, [], [number])
    assert world.call("denylist", "import", written(world, "b", back), "--terminal", "till").code == 0
    assert world.pay("5.00").code == 0


def test_what_is_refused_says_why(world: World) -> None:
    old = (world.path("city") / "denylist.bin").read_bytes()
    full, delta = publish(world, [world.shown()["number"]])
    later, next_change = publish(world, [])
    assert delta is not None
    assert next_change is not None
    with world.path("long").open("wb") as file:
        file.truncate(2**30)
    rows = [
        (written(world, "altered", full[:-1] + b"\xff"), "not those that its issuer signed"),
        (written(world, "unsigned", full[:100] + bytes(64) + full[164:]), "not signed by its issuer"),
        (written(world, "other", full[:4] + b"\1\2\3\4" + full[8:]), "another scheme (01020304)"),
        (written(world, "cut", full[:-1]), "cut off"),
        (written(world, "gap", next_change), "begins at denylist 2, but 1 is held"),
        (written(world, "text", b"not a denylist, but a text" * 10), "no denylist"),
        ("long", f"at most {MAX_LENGTH} bytes"),
    ]
    for name, words in rows:
        done = world.call("denylist", "import", name, "--terminal", "till", "--json")
        assert done.code == 1
        assert done.error["kind"] == "denylist_refused"
        assert words in done.error["message"]
    assert shown(world)["lists"][0]["version"] == 1
    assert world.call("denylist", "import", written(world, "new", later), "--terminal", "till").code == 0
    for name in ("old", "change"):
        raw = old if name == "old" else delta
        done = world.call("denylist", "import", written(world, name, raw), "--terminal", "till", "--json")
        assert (done.code, "3 is held already" in done.error["message"]) == (1, True)
    assert world.call("denylist", "import", "none", "--terminal", "till").code == 1


def test_a_terminal_without_a_list_says_so(world: World) -> None:
    (world.path("till") / LIST).unlink()
    status = world.call("pos", "status", "--terminal", "till")
    assert (status.code, "no card can pay here" in status.out) == (1, True)
    assert world.call("denylist", "show", "--terminal", "till").code == 1
    paid = world.pay("5.00")
    assert (paid.code, "hardwallet denylist import" in paid.json["reason"]) == (1, True)
    found = world.call("denylist", "import", "city/denylist.bin", "--terminal", "till")
    assert found.code == 0
    assert world.call("pos", "status", "--terminal", "till").code == 0
    assert world.pay("5.00").code == 0


def test_a_damaged_list_says_so(world: World) -> None:
    path = world.path("till") / LIST
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    for words in (("pos", "status"), ("denylist", "show")):
        done = world.call(*words, "--terminal", "till")
        assert (done.code, "damaged" in done.out) == (1, True)
    assert world.pay("5.00").code == 1


def test_an_old_list_says_so(world: World) -> None:
    settings(world, denylist_tighten_s=0, stale_single_fen=100)
    status = world.call("pos", "status", "--terminal", "till")
    assert (status.code, "at most 1.00 at a time" in status.out) == (0, True)
    assert "at most 1.00 at a time" in world.pay("1.01").json["reason"]
    assert world.pay("1.00").code == 0
    settings(world, denylist_stop_s=0)
    status = world.call("pos", "status", "--terminal", "till")
    assert (status.code, "no card can pay here" in status.out) == (1, True)
    assert "no card can pay here" in world.pay("1.00").json["reason"]


def test_orders_are_brought_and_handed_over(world: World) -> None:
    number = bytes.fromhex(world.shown()["number"])
    with open_issuing(world.path("city")) as scheme:
        block = scheme.card_order(number, m.KIND_BLOCK, b"", system_clock())
    name = written(world, "orders", block)
    done = world.call("orders", "import", name, "--terminal", "till", "--json")
    assert (done.code, done.json) == (0, {"taken": 1, "waiting": 1})
    assert world.status()["orders"] == 1
    refused = world.pay("5.00")
    assert (refused.code, refused.json["status_word"]) == (1, "940C")
    assert world.shown()["blocked"] is True
    assert world.status()["orders"] == 0
    altered = written(world, "altered", block[:-1] + bytes((block[-1] ^ 1,)))
    for bad, kind in ((altered, "not signed"), (written(world, "cut", block[:-1]), "125 bytes")):
        done = world.call("orders", "import", bad, "--terminal", "till", "--json")
        assert (done.code, done.error["kind"]) == (1, "order_refused")
        assert kind in done.error["message"]
    assert world.status()["orders"] == 0


@pytest.mark.parametrize("number", ["", "12", "0000010100000001ff", "nothing", "000001010000000g"])
def test_numbers_that_are_none(world: World, number: str) -> None:
    done = world.call("denylist", "show", "--terminal", "till", "--card", number)
    assert done.code == (2 if number else 0)


# ---------------------------------------------------------------------- did I pay?


def check(world: World, *words: str, card: str = "alice.card") -> Any:
    return world.call("pos", "check", "--terminal", "till", "--reader", f"sim:{card}", *words)


def test_did_i_pay(world: World) -> None:
    assert world.pay("5.00").code == 0
    assert world.pay("2.00", "--run", "3", terminal="bus").code == 0
    before = world.shown()
    done = check(world, "--json")
    found = done.json
    assert (done.code, found["reason"], found["balance_fen"]) == (0, "", 19_300)
    assert [(row["kind"], row["amount_fen"], row["here"]) for row in found["records"]] == [
        ("payment", 200, "sibling"),
        ("payment", 500, "granted"),
        ("load", 20_000, None),
    ]
    told = check(world).out
    assert "193.00" in told
    assert "granted here" in told
    assert "paid at another terminal of this merchant" in told
    after = world.shown()
    assert (after["balance_fen"], after["sequence"]) == (before["balance_fen"], before["sequence"])
    assert after == before


def test_did_i_pay_the_sale_that_was_torn(world: World) -> None:
    torn = world.torn_pay(1_250, RETAIL_PAY, "after")
    assert torn.outcome.name == "UNRESOLVED"
    told = check(world)
    assert told.code == 0
    assert "paid here, not finished" in told.out
    assert "hardwallet pos pay 12.50" in told.out
    data = check(world, "--json").json
    assert data["records"][0]["here"] == "unfinished"
    assert [sale["amount_fen"] for sale in data["unfinished"]] == [1_250]
    assert world.pay("12.50").json["recovered"] is True


def test_did_i_pay_with_what_is_no_card(world: World, tmp_path: Path) -> None:
    written(world, "nothing.card", b"nothing")
    done = check(world, card="nothing.card")
    assert done.code == 1
    assert done.err
    assert "Traceback" not in done.err
