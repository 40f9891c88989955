"""Taking payments from the command line: what is granted, refused, torn, finished and given up."""

import os
import re
import signal

import pytest

from firmware_bridge.errors import NoCard
from firmware_bridge.virtual.in_process import InProcessReader
from firmware_bridge.virtual.tear import TearMoment
from fleet.open import system_clock
from hardwallet.card.simulated import SimulatedCard
from hardwallet.issuing import YEAR_S, create_scheme, open_scheme
from hardwallet.keys import find_passphrase
from hardwallet.suites import suite_by_number
from pos_terminal.folder import create_terminal
from pos_terminal.refund import Refund
from pos_terminal.refund import refund as give_back
from pos_terminal.terminal import service_day
from tests.tui.world import PIN, Done, World, running

RETAIL_PAY = 3
"""The exchange that is PAY when the card is new to a till: SELECT, EXCHANGE CERTIFICATES, PAY."""


def test_a_day_as_a_user_types_it(world: World) -> None:
    """Each step a process of its own."""
    made = world.typed("scheme", "init", "town", "--name", "Our town", "--json").json
    assert len(made["scheme"]) == 8
    assert world.path("town/key").stat().st_mode & 0o077 == 0
    card = world.typed("card", "new", "--scheme", "town", "bob.card", "--balance", "200.00", "--tier", "4")
    assert card.code == 0
    assert "CNY 200.00" in card.out
    terminal = world.typed(
        "terminal", "new", "--scheme", "town", "--class", "retail", "shop", "--merchant", "7"
    )
    assert terminal.code == 0
    assert "0000020100000007" in terminal.out
    paid = world.typed(
        *"pos pay 12.50 --terminal shop --reader sim:bob.card --trace tap.trace --lang zh".split()
    )
    assert (paid.code, paid.err) == (0, "")
    assert paid.out.startswith("PAID: CNY 12.50.\n")
    assert "air + card ms, modelled" in paid.out
    assert "付款凭证" in paid.out
    shown = world.typed("card", "show", "bob.card")
    assert re.search(r"balance +CNY 187\.50", shown.out)
    status = world.typed("pos", "status", "--terminal", "shop")
    assert re.search(r"waiting +1 payments, CNY 12\.50; 0 carried", status.out)
    number = re.search(r"^(\d+) .*granted", status.out, re.MULTILINE)
    assert number is not None
    receipt = world.typed("pos", "receipt", number[1], "--terminal", "shop")
    assert receipt.code == 0
    assert re.search(r"Balance +CNY 187\.50", receipt.out)
    explained = world.typed("trace", "show", "tap.trace")
    assert "PAY" in explained.out
    assert "amount: 12.50" in explained.out
    replayed = world.typed("trace", "replay", "tap.trace", "--json")
    assert (replayed.code, replayed.json["mismatches"], replayed.json["exchanges"]) == (0, 0, 4)


def test_one_payment_for_programs(world: World) -> None:
    paid = world.pay("12.50")
    assert paid.code == 0
    result = paid.json
    assert (result["outcome"], result["granted"], result["ratified"]) == ("granted", True, True)
    assert (result["sale"]["amount_fen"], result["balance_fen"], result["stack"]) == (1250, 18_750, "sim")
    assert result["phases_ms"]["pay"].keys() == {"host", "modelled"}
    assert result["modelled_ms"] > 0
    by_code = world.call("pos", "receipt", result["record"]["code"], "--terminal", "till", "--json").json
    by_number = world.call(
        "pos", "receipt", str(result["sale"]["number"]), "--terminal", "till", "--json"
    ).json
    assert by_code == by_number
    assert by_code["record"]["card"] == world.shown()["number"]


def test_a_ride_is_paid_once(world: World) -> None:
    first = world.pay("2.00", "--line", "7", "--run", "3", terminal="bus")
    assert (first.code, first.json["outcome"], first.json["line"], first.json["run"]) == (
        0,
        "granted",
        "7",
        3,
    )
    again = world.pay("2.00", "--line", "7", "--run", "3", terminal="bus")
    assert (again.code, again.json["outcome"]) == (1, "already_granted")
    assert world.shown()["balance_fen"] == 19_800
    assert world.pay("2.00", "--run", "4", terminal="bus").code == 0
    assert world.shown()["balance_fen"] == 19_600


def test_the_service_day_begins_at_four() -> None:
    midnight_in_beijing = 1_700_000_000 // 86_400 * 86_400 + 16 * 3600
    assert service_day(midnight_in_beijing + 4 * 3600 - 1) + 1 == service_day(midnight_in_beijing + 4 * 3600)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_torn_tap_is_finished_by_the_same_command(world: World, when: TearMoment) -> None:
    torn = world.torn_pay(1_250, RETAIL_PAY, when)
    assert torn.outcome.name == "UNRESOLVED"
    before = world.status()
    assert [sale["amount_fen"] for sale in before["unresolved"]] == [1_250]
    told = world.call("pos", "status", "--terminal", "till").out
    assert "hardwallet pos pay 12.50" in told

    other = world.pay("5.00")
    assert (other.code, other.error["kind"]) == (1, "sale_open")
    assert "pos pay 12.50" in other.error["message"]
    foreign = world.pay("12.50", card="rich.card")
    assert (foreign.code, foreign.json["outcome"]) == (1, "other_card")
    assert world.status()["unresolved"] == before["unresolved"]

    done = world.pay("12.50")
    assert (done.code, done.json["outcome"], done.json["resumed"]) == (0, "granted", True)
    assert done.json["recovered"] is (when == "after")
    assert done.json["sale"]["reference"] == before["unresolved"][0]["reference"]
    assert world.shown()["balance_fen"] == 18_750
    after = world.status()
    assert (after["unresolved"], after["waiting"]["count"], after["waiting"]["amount_fen"]) == ([], 1, 1_250)


def test_a_torn_tap_says_what_to_do(world: World) -> None:
    """Through the program itself: a card file whose disk fails in the middle of PAY."""
    done = world.python(
        "import sys, hardwallet.card.simulated as s\n"
        "from firmware_bridge.errors import CardGone\n"
        "real = s.SimulatedCard.execute\n"
        "def torn(self, command):\n"
        "    reply = real(self, command)\n"
        "    if command[1] == 0x20: raise CardGone('The card left the reader.')\n"
        "    return reply\n"
        "s.SimulatedCard.execute = torn\n"
        "from tui.cli import main\n"
        "sys.exit(main('pos pay 12.50 --terminal till --reader sim:alice.card'.split()))\n"
    )
    assert done.code == 1
    assert done.out.startswith("NOT KNOWN YET: ")
    assert "Present the same card again and run the same command" in done.out
    again = world.typed("pos", "pay", "12.50", "--terminal", "till", "--reader", "sim:alice.card")
    assert again.code == 0
    assert "not finished; this tap is for that one" in again.err
    assert "nothing was taken twice" in again.out
    assert world.shown()["balance_fen"] == 18_750


def test_giving_a_sale_up(world: World) -> None:
    world.torn_pay(1_250, RETAIL_PAY, "after")
    given_up = world.call("pos", "give-up", "--terminal", "till", "--reason", "customer left", "--json")
    assert (given_up.code, given_up.json["sale"]["state"]) == (0, "given_up")
    again = world.call("pos", "give-up", "--terminal", "till", "--reason", "once more")
    assert again.code == 1
    assert "no such unfinished sale" in again.err
    # The card comes back: its payment is kept and never granted, and the new sale goes its way.
    paid = world.pay("3.00")
    assert (paid.code, paid.json["carried"]) == (0, 1)
    states = [(sale["amount_fen"], sale["state"]) for sale in world.status()["sales"]]
    assert states == [(1_250, "paid_not_granted"), (300, "granted")]
    number = str(world.status()["sales"][0]["number"])
    assert "PAID, NOT GRANTED" in world.call("pos", "receipt", number, "--terminal", "till").out
    assert "已付款，未放行" in world.call("pos", "receipt", number, "--terminal", "till", "--lang", "zh").out


def refund(
    world: World, amount: str, of: str, *words: str, card: str = "alice.card", terminal: str = "till"
) -> Done:
    return world.call(
        *("pos", "refund", amount, "--of", of, "--terminal", terminal, "--reader", f"sim:{card}", "--json"),
        *words,
    )


def test_a_refund_in_parts(world: World) -> None:
    paid = world.pay("12.50").json
    told = world.call(
        *("pos", "refund", "5", "--of", str(paid["sale"]["number"]), "--terminal", "till"),
        *("--reader", "sim:alice.card"),
    )
    assert (told.code, told.out.splitlines()[0]) == (0, "REFUNDED: CNY 5.00.")
    assert world.shown()["balance_fen"] == 20_000 - 750
    assert world.shown()["records"][0]["kind"] == "refund"
    assert re.search(r"refund +\+5\.00", world.call("card", "show", "alice.card").out)
    too_much = refund(world, "7.51", paid["record"]["code"])
    assert (too_much.code, "7.50 is left" in too_much.json["reason"]) == (1, True)
    rest = refund(world, "7.50", f"{paid['record']['card']}:{paid['record']['sequence']}")
    assert (rest.code, world.shown()["balance_fen"]) == (0, 20_000)
    sales = world.status()["sales"]
    assert [(sale["kind"], sale["state"]) for sale in sales] == [("refund", "granted")] * 2 + [
        ("payment", "granted")
    ]
    assert re.search(r"-5\.00 +refunded", world.call("pos", "status", "--terminal", "till").out)


def test_refunds_that_are_refused(world: World) -> None:
    number = str(world.pay("12.50").json["sale"]["number"])
    assert refund(world, "5.00", number, card="rich.card").json["outcome"] == "other_card"
    assert refund(world, "5.00", number, terminal="bus").error["kind"] == "no_such_sale"
    assert refund(world, "5.00", "?").error["kind"] == "bad_usage"
    assert refund(world, "0", number).error["kind"] == "bad_amount"
    assert refund(world, "5.00", "0000010100000009:1").json["outcome"] == "other_card"
    assert world.shown()["balance_fen"] == 18_750
    assert world.status()["unresolved"] == []


def test_a_torn_refund_is_finished_by_the_same_command(world: World) -> None:
    paid = world.pay("12.50").json["record"]
    simulated = SimulatedCard(world.path("alice.card"))
    reader = InProcessReader(simulated, "sim:torn", on_close=simulated.close)
    reader.tear_at(5, "after")
    with world.session() as session:
        wanted = Refund(bytes.fromhex(paid["card"]), paid["sequence"], 500)
        assert give_back(session.terminal, reader.wait_for_card(0), wanted).outcome.name == "UNRESOLVED"
    reader.close()
    of = f"{paid['card']}:{paid['sequence']}"
    assert f"pos refund 5.00 --of {of}" in world.call("pos", "status", "--terminal", "till").out
    assert "the refund of CNY 5.00" in world.pay("5.00").error["message"]
    assert refund(world, "4.00", of).error["kind"] == "sale_open"
    done = refund(world, "5.00", of)
    assert (done.code, done.json["recovered"]) == (0, True)
    assert world.shown()["balance_fen"] == 20_000 - 750
    assert world.status()["unresolved"] == []


@pytest.mark.parametrize(
    ("amount", "code", "said"),
    [
        ("0", 2, "the amount is zero"),
        ("0.00", 2, "the amount is zero"),
        ("-5", 2, "'-5' is not an amount"),
        ("-.5", 2, "is not an amount"),
        ("abc", 2, "'abc' is not an amount"),
        ("1.234", 2, "'1.234' is not an amount"),
        ("1e3", 2, "is not an amount"),
        ("１２", 2, "is not an amount"),
        ("", 2, "is not an amount"),
        ("NaN", 2, "is not an amount"),
        ("99999999999", 2, "is not an amount"),
        ("9999999999", 2, "the amount is above 21474836.47"),
    ],
)
def test_amounts_that_are_none(world: World, amount: str, code: int, said: str) -> None:
    done = world.pay(amount)
    assert (done.code, done.error["kind"]) == (code, "bad_amount")
    assert said in done.error["message"]
    assert world.shown()["balance_fen"] == 20_000
    assert world.status()["entries"] == 0


@pytest.mark.parametrize(
    ("amount", "card", "said"),
    [
        ("5000.01", "alice.card", "above this terminal's limit of 5000.00"),
        ("500.01", "alice.card", "above what this card pays at once"),
        ("200.01", "alice.card", "not enough balance"),
        ("300.01", "rich.card", "the amount needs a PIN"),
    ],
)
def test_what_limits_refuse_is_not_taken(world: World, amount: str, card: str, said: str) -> None:
    before = world.shown(card)
    done = world.pay(amount, card=card)
    assert (done.code, done.json["granted"]) == (1, False)
    assert said in done.json["reason"]
    assert world.shown(card) == before
    status = world.status()
    assert (status["unresolved"], status["waiting"]["count"]) == ([], 0)
    assert world.pay("1.00", card=card).code == 0


def test_not_enough_shows_the_balance(world: World) -> None:
    told = world.call("pos", "pay", "200.01", "--terminal", "till", "--reader", "sim:alice.card").out
    assert told.startswith("NOT PAID: not enough balance. The card's balance is CNY 200.00.")


def test_a_blocked_card_pays_nothing(world: World) -> None:
    world.block()
    done = world.pay("1.00")
    assert (done.code, done.json["outcome"], done.json["reason"]) == (1, "declined", "the card is blocked")
    assert world.shown()["balance_fen"] == 20_000
    assert "blocked" in world.call("card", "show", "alice.card").out
    assert world.pay("1.00", terminal="bus").json["reason"] == "the card is blocked"


def test_a_pin_is_asked_for_when_it_is_wanted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = world.pay("380.00", card="rich.card")
    assert (wanted.code, wanted.json["outcome"]) == (1, "pin_wanted")
    monkeypatch.setenv("HARDWALLET_PIN", PIN)
    paid = world.pay("380.00", card="rich.card")
    assert (paid.code, paid.json["balance_fen"]) == (0, 52_000)
    monkeypatch.delenv("HARDWALLET_PIN")
    pin_file = world.path("pin")
    pin_file.write_text(PIN + "\n", encoding="ascii")
    pin_file.chmod(0o644)
    refused = world.pay("380.00", "--pin-file", "pin", card="rich.card")
    assert (refused.code, "chmod 600 pin" in refused.error["message"]) == (1, True)
    pin_file.chmod(0o600)
    assert world.pay("380.00", "--pin-file", "pin", card="rich.card").code == 0
    assert world.shown("rich.card")["balance_fen"] == 14_000
    assert [sale["state"] for sale in world.status()["sales"]] == [
        "granted",
        "declined",
        "granted",
        "declined",
    ]


def test_three_wrong_pins_lock_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDWALLET_PIN", "000000")
    told = [world.pay("380.00", card="rich.card").json for _ in range(4)]
    assert [(tap["outcome"], tap["reason"]) for tap in told] == [
        ("pin_wrong", "wrong PIN, 2 tries left"),
        ("pin_wrong", "wrong PIN, 1 try left"),
        ("declined", "the PIN is locked after too many wrong tries"),
        ("declined", "the PIN is locked after too many wrong tries"),
    ]
    shown = world.shown("rich.card")
    assert (shown["pin"], shown["balance_fen"]) == ({"set": True, "locked": True, "tries_left": 0}, 90_000)
    assert "locked after too many wrong tries" in world.call("card", "show", "rich.card").out
    changed = world.call("card", "pin", "rich.card")
    assert changed.code == 2
    assert world.pay("1.00", card="rich.card").code == 0


def test_something_that_is_no_pin_is_not_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("73", "9876543210123", "73a4", "４８２９"):
        monkeypatch.setenv("HARDWALLET_PIN", text)
        done = world.pay("380.00", card="rich.card")
        assert (done.code, done.error["kind"]) == (2, "bad_usage")
        assert text not in done.err + done.out
    assert world.shown("rich.card")["pin"]["tries_left"] == 3
    assert {sale["state"] for sale in world.status()["sales"]} == {"declined"}


@pytest.mark.parametrize("years", [-4, 1])
def test_a_terminal_whose_clock_is_off(world: World, years: int) -> None:
    """Its certificate's dates are made so that this machine's clock lies years behind or after them."""
    suite = suite_by_number(1)
    folder, made = world.path("old"), system_clock() + years * YEAR_S
    folder.mkdir()
    passphrase = find_passphrase(None, folder / "key", create=True)
    create_scheme(folder, "old", suite, passphrase, made, os.urandom)
    with open_scheme(folder, passphrase, os.urandom) as scheme:
        create_terminal(world.path("t"), scheme, "retail", 1, made, os.urandom)
    done = world.pay("1.00", terminal="t")
    assert (done.code, done.error["kind"]) == (1, "clock_wrong")
    assert "set the clock" in done.error["message"]
    status = world.call("pos", "status", "--terminal", "t", "--json")
    assert (status.code, status.json["clock"]["ok"], status.json["entries"]) == (1, False, 0)
    ran = world.call(
        "pos", "run", "--terminal", "t", "--reader", "sim:alice.card", "--amount", "1", "--jsonl"
    )
    assert (ran.code, ran.error["kind"]) == (1, "clock_wrong")
    assert world.shown()["balance_fen"] == 20_000


def test_no_card_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_bridge.virtual.in_process.InProcessReader.wait_for_card", _no_card)
    done = world.pay("1.00", "--timeout", "0")
    assert (done.code, done.error["kind"]) == (1, "no_card")
    assert world.status()["entries"] == 0


def _no_card(_reader: object, _timeout_s: float | None) -> None:
    raise NoCard("No card was presented in time. Hold the card to the reader.")


def test_the_reader_of_the_settings(world: World) -> None:
    settings = world.path("till/settings.json")
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace('"reader": ""', '"reader": "sim:alice.card"'), encoding="utf-8")
    assert world.call("pos", "pay", "1.00", "--terminal", "till").code == 0


def validator(world: World, *words: str, terminal: str = "bus", card: str = "alice.card") -> list[str]:
    return [
        *("pos", "run", "--terminal", terminal, "--reader", f"sim:{card}", "--amount", "2.00", "--jsonl"),
        *words,
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_validator_takes_the_card_and_ends_at_once(world: World, number: signal.Signals) -> None:
    with running(world.folder, *validator(world, "--line", "7", "--run", "3")) as bus:
        ready = bus.event()
        assert (ready["event"], ready["amount_fen"], ready["run"]) == ("ready", 200, 3)
        assert [bus.event()["event"] for _ in range(1)] == ["present"]
        taken = bus.event()
        assert (taken["event"], taken["outcome"], taken["granted"]) == ("tap", "granted", True)
        done = bus.event()
        assert (done["event"], done["ratified"]) == ("done", True)
        busy = world.call("pos", "status", "--terminal", "bus", "--json")
        assert (busy.code, busy.error["kind"]) == (1, "journal_busy")
        ended = bus.stop(number)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == '{"event": "stopped"}'
    assert world.shown()["balance_fen"] == 19_800
    assert world.status("bus")["waiting"]["count"] == 1


def test_a_validator_in_words(world: World) -> None:
    with running(world.folder, *[word for word in validator(world) if word != "--jsonl"]) as bus:
        assert bus.line().startswith("ready: 2.00 from each card")
        assert bus.line() == "card"
        assert bus.line() == "PAID: CNY 2.00."
        assert "ratified True" in bus.line()
        assert bus.stop().out.endswith("stopped\n")


def test_a_validator_whose_events_nobody_reads_finishes_its_tap(world: World) -> None:
    with running(world.folder, *validator(world)) as bus:
        stream = bus.process.stdout
        assert stream is not None
        stream.close()
        code = bus.process.wait(60)
    assert code == 1
    status = world.status("bus")
    shown = world.shown()
    assert status["waiting"]["amount_fen"] == 20_000 - shown["balance_fen"]
    assert shown["unratified"] == 0


def test_a_card_file_in_another_reader_is_busy(world: World) -> None:
    held = SimulatedCard(world.path("alice.card"))
    try:
        for words in (
            ["card", "show", "alice.card"],
            ["probe", "--reader", "sim:alice.card"],
            ["pos", "pay", "1.00", "--terminal", "till", "--reader", "sim:alice.card"],
        ):
            done = world.call(*words, "--json")
            assert (done.code, done.error["kind"]) == (1, "card_file_busy")
            assert "in use by another program" in done.error["message"]
    finally:
        held.close()
    assert world.pay("1.00").code == 0
