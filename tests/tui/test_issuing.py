"""Issuing, loading and PINs from the command line, cut off and taken up again."""

import io

import pytest

from fleet.open import open_issuing, system_clock
from hardwallet.card.file import create_card_file
from hardwallet.session import WalletSession
from tests.tui.world import PIN, World
from tui.cardfile import open_card


class Cut(Exception):
    """The power went."""


@pytest.fixture
def cut_load(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every load is cut off after the card has applied it and before anybody has its receipt."""
    real = WalletSession.load

    def load(self: WalletSession, *arguments: object) -> None:
        real(self, *arguments)  # type: ignore[arg-type]
        raise Cut

    monkeypatch.setattr(WalletSession, "load", load)
    return monkeypatch


def test_an_issuing_that_was_cut_off_is_resumed(world: World, cut_load: pytest.MonkeyPatch) -> None:
    with pytest.raises(Cut):
        world.call("card", "new", "--scheme", "city", "new.card", "--balance", "150.00")
    cut_load.undo()
    cut_load.chdir(world.folder)
    number = world.shown("new.card")["number"]
    done = world.call("card", "new", "--scheme", "city", "new.card", "--balance", "150.00", "--json")
    assert (done.code, done.json["resumed"], done.json["number"]) == (0, True, number)
    assert (done.json["balance_fen"], world.shown("new.card")["loads"]) == (15_000, 1)
    once_more = world.call("card", "new", "--scheme", "city", "new.card", "--balance", "150.00")
    assert (once_more.code, "is a finished card already" in once_more.err) == (1, True)
    books = world.call("clearing", "report", "--scheme", "city", "--json").json
    assert books["conservation"]["loads_fen"] == 20_000 + 90_000 + 15_000


def test_an_issuing_that_was_cut_off_before_the_load(world: World) -> None:
    with open_issuing(world.path("city")) as issuing:
        identity, memory = issuing.new_card(5, system_clock(), balance_fen=15_000)
    create_card_file(world.path("new.card"), identity, memory)
    other = world.call("card", "new", "--scheme", "city", "new.card", "--balance", "100.00")
    assert (other.code, "finish it with --balance 150.00" in other.err) == (1, True)
    done = world.call("card", "new", "--scheme", "city", "new.card", "--balance", "150.00", "--json")
    assert (done.code, done.json["resumed"], done.json["balance_fen"]) == (0, True, 15_000)


def test_a_load_that_was_cut_off_is_finished_first(world: World, cut_load: pytest.MonkeyPatch) -> None:
    with pytest.raises(Cut):
        world.call("card", "load", "alice.card", "30.00", "--scheme", "city")
    cut_load.undo()
    cut_load.chdir(world.folder)
    assert world.shown()["balance_fen"] == 23_000
    same = world.call("card", "load", "alice.card", "30.00", "--scheme", "city", "--json").json
    assert (same["resumed"], same["balance_fen"]) == (True, 23_000)
    another = world.call("card", "load", "alice.card", "30.00", "--scheme", "city", "--json").json
    assert (another["resumed"], another["balance_fen"]) == (False, 26_000)


def test_a_load_of_another_amount_comes_after_the_one_cut_off(
    world: World, cut_load: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Cut):
        world.call("card", "load", "alice.card", "30.00", "--scheme", "city")
    cut_load.undo()
    cut_load.chdir(world.folder)
    done = world.call("card", "load", "alice.card", "5.00", "--scheme", "city")
    assert done.code == 0
    assert "A load of 30.00 that was cut off is finished now." in done.err
    assert world.shown()["balance_fen"] == 23_500


@pytest.mark.parametrize(
    ("amount", "code", "said"),
    [
        ("0", 2, "the amount is zero"),
        ("-5", 2, "'-5' is not an amount"),
        ("abc", 2, "'abc' is not an amount"),
        ("1.234", 2, "'1.234' is not an amount"),
        ("99999999999", 2, "is not an amount"),
        ("800.01", 1, "would rise above what this card may hold"),
        ("20000000", 1, "would rise above what this card may hold"),
    ],
)
def test_loads_that_are_refused(world: World, amount: str, code: int, said: str) -> None:
    done = world.call("card", "load", "alice.card", amount, "--scheme", "city")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert world.shown()["balance_fen"] == 20_000
    assert world.call("card", "load", "alice.card", "1.00", "--scheme", "city").code == 0
    assert world.call("clearing", "report", "--scheme", "city", "--json").json["conservation"]["ok"]


def test_cards_that_are_refused(world: World) -> None:
    for words, code, said in (
        ("--balance 1000.01", 1, "above what a card of this tier may hold"),
        ("--balance=-5", 2, "is not an amount"),
        ("--balance 1.234", 2, "is not an amount"),
        ("--tier 9", 1, "there is no tier 9; the tiers are 4, 5"),
    ):
        done = world.call("card", "new", "--scheme", "city", "new.card", *words.split())
        assert (done.code, said in done.err) == (code, True), done
        assert not world.path("new.card").exists()
    nowhere = world.call("card", "new", "--scheme", "city", "no/such/folder/new.card")
    assert (nowhere.code, "there is no folder" in nowhere.err) == (1, True)


def test_a_card_of_another_scheme(world: World) -> None:
    assert world.call("scheme", "init", "other").code == 0
    taken = world.call("card", "new", "--scheme", "other", "alice.card")
    assert (taken.code, "was issued by another scheme" in taken.err) == (1, True)
    load = world.call("card", "load", "alice.card", "1.00", "--scheme", "other")
    assert (load.code, "belongs to scheme" in load.err) == (1, True)
    assert world.call("terminal", "new", "--scheme", "other", "--class", "retail", "foreign").code == 0
    paid = world.pay("1.00", terminal="foreign")
    assert (paid.code, "belongs to another scheme" in paid.json["reason"]) == (1, True)
    assert world.shown()["balance_fen"] == 20_000


def test_two_programs_do_not_issue_at_once(world: World) -> None:
    with open_issuing(world.path("city")):
        for words in ("card new new.card", "card load alice.card 1.00", "terminal new --class retail t2"):
            done = world.call(*words.split(), "--scheme", "city", "--json")
            assert (done.code, done.error["kind"]) == (1, "issuing_error")
            assert "in use by another program" in done.error["message"]
    assert not world.path("new.card").exists()


def stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_a_pin_from_stdin(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "1234\n")
    assert world.call("card", "pin", "alice.card").out == "The PIN was set.\n"
    stdin(monkeypatch, "1234\n567890\n")
    assert world.call("card", "pin", "alice.card").out == "The PIN was changed.\n"
    stdin(monkeypatch, "1234\n5678\n")
    wrong = world.call("card", "pin", "alice.card", "--json")
    assert (wrong.code, wrong.error["kind"]) == (1, "card_refused")
    assert "wrong PIN, 2 tries left" in wrong.error["message"]
    for text in ("567890\n", "", "1\n2\n3\n", "567890\nabcd\n", "567890\n123\n", "\xff\xfe\n\x00\n"):
        stdin(monkeypatch, text)
        done = world.call("card", "pin", "alice.card", "--json")
        assert (done.code, done.error["kind"]) == (2, "bad_usage"), text
    assert world.shown()["pin"] == {"set": True, "locked": False, "tries_left": 2}


def test_a_pin_as_a_user_gives_it(world: World) -> None:
    assert world.typed("card", "pin", "alice.card", stdin="1234\n").code == 0
    assert world.typed("card", "pin", "alice.card", HARDWALLET_PIN="1234\n5678").code == 0
    pins = world.path("pins")
    pins.write_text(f"5678\n{PIN}\n", encoding="ascii")
    pins.chmod(0o600)
    assert world.typed("card", "pin", "alice.card", "--pin-file", "pins").code == 0
    with open_card(world.path("alice.card")) as card:
        assert card.state().tries == 3


def test_a_pin_typed_at_a_terminal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = iter(["1234", "1234", "1234", "5678", "5679", "1234"])

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return next(answers)

    stdin(monkeypatch, "")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("tui.pin.getpass", getpass)
    assert world.call("card", "pin", "alice.card").code == 0
    differ = world.call("card", "pin", "alice.card")
    assert (differ.code, "differ; nothing was changed" in differ.err) == (1, True)
    assert asked == [
        *("New PIN (4 to 12 digits): ", "New PIN again: "),
        *("Current PIN: ", "New PIN (4 to 12 digits): ", "New PIN again: "),
    ]
    assert world.call("card", "load", "alice.card", "300.00", "--scheme", "city").code == 0
    assert world.pay("300.01").code == 0
    assert asked[-1] == "PIN: "


def test_a_question_for_the_pin_can_be_broken_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def getpass(_prompt: str) -> str:
        raise KeyboardInterrupt

    stdin(monkeypatch, "")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("tui.pin.getpass", getpass)
    done = world.pay("380.00", card="rich.card")
    assert (done.code, done.error) == (130, {"kind": "stopped", "message": "Stopped."})
    assert [sale["state"] for sale in world.status()["sales"]] == ["declined"]
    assert world.shown("rich.card")["balance_fen"] == 90_000
