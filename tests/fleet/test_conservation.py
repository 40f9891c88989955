"""Whether all money is accounted for: a fen that is missing, or too many, is found wherever it is."""

import msgspec
import pytest

from fleet.conservation import Conservation, conservation
from fleet.open import open_clearing
from fleet.stage import InProcessStage
from fleet.world import World
from hardwallet.card.memory import State
from hardwallet.issuing import Scheme
from offline_sync.clearing import Report
from offline_sync.journal import SqliteJournal
from pos_terminal.tap import Tap
from pos_terminal.terminal import Fare
from tests.fleet.told import NearClearing


def ride(run: int) -> Fare:
    return Fare(200, b"B042", 20260921, run)


def pay(world: World, stage: InProcessStage, name: str, amount_fen: int = 700, run: int = 1) -> Tap:
    terminal = world.terminals[name]
    card = world.cards["card"]
    stage.lay(card.card)
    charge = ride(run) if name == "bus" else terminal.terminal.new_sale(amount_fen)
    return world.tap(stage, card, terminal, charge)


def settled(world: World, *names: str) -> Report:
    """What clearing says when those terminals have uploaded."""
    with open_clearing(world.scheme_folder, clock=world.clock) as clearing:
        near = NearClearing(clearing, loses=False, wrong=lambda report: report)
        for name in names:
            near.take(world, world.terminals[name], cut=False)
        return near.report()


@pytest.fixture
def traded(world: World) -> World:
    """A world in which the card has paid 7.00 at the shop and 2.00 on the bus."""
    stage = InProcessStage()
    assert pay(world, stage, "shop").granted
    assert pay(world, stage, "bus").granted
    stage.take()
    return world


def test_before_anything_is_sent(traded: World) -> None:
    found = conservation(traded, None)
    assert found == Conservation(20_000, 20_000 - 900, 900, 0, 0)
    assert found.ok


def test_with_an_empty_ledger(traded: World) -> None:
    found = conservation(traded, settled(traded))
    assert found.ok
    assert (found.under_way_fen, found.credited_fen) == (900, 0)
    assert found.accounts_fen == {traded.cards["card"].number.hex(): 20_000}


def test_when_one_has_sent(traded: World) -> None:
    found = conservation(traded, settled(traded, "shop"))
    assert found.ok
    assert (found.under_way_fen, found.credited_fen) == (200, 700)


def test_when_all_have_sent(traded: World) -> None:
    found = conservation(traded, settled(traded, "shop", "bus"))
    assert found.ok
    assert (found.on_cards_fen, found.under_way_fen, found.credited_fen) == (19_100, 0, 900)
    assert found.payees_fen == {
        traded.terminals["shop"].payee.hex(): 700,
        traded.terminals["bus"].payee.hex(): 200,
    }
    assert found.line() == (
        "Conservation: loaded 200.00 = on cards 191.00 + under way 0.00 + credited to merchants 9.00; "
        "difference 0.00."
    )


def test_a_payment_in_two_places_counts_once(world: World) -> None:
    """Torn before RATIFY: it lies on the card and in the journal."""
    stage = InProcessStage()
    shop, card = world.terminals["shop"], world.cards["card"]
    pay(world, stage, "shop")
    stage.lay(card.card)
    stage.tear_at(3, "before")
    assert world.tap(stage, card, shop, shop.terminal.new_sale(300)).granted
    assert conservation(world, None).under_way_fen == 1_000
    assert conservation(world, settled(world, "shop")).ok


def test_a_payment_that_only_the_card_knows(world: World) -> None:
    stage = InProcessStage()
    shop, card = world.terminals["shop"], world.cards["card"]
    pay(world, stage, "shop")
    stage.lay(card.card)
    stage.tear_at(2, "after")
    assert not world.tap(stage, card, shop, shop.terminal.new_sale(300)).granted
    found = conservation(world, settled(world, "shop"))
    assert found.ok
    assert (found.under_way_fen, found.credited_fen) == (300, 700)


# ---------------------------------------------------------------------- a fen that is not there


def change_card(world: World, change_fen: int) -> None:
    """Somebody opened the card."""
    memory = world.cards["card"].card._memory
    state: State = memory.state()
    memory.commit(state.changed(balance_fen=state.balance_fen + change_fen).to_bytes())
    world.cards["card"].card.reset()


@pytest.mark.parametrize("change_fen", [-1, 1, -19_100, 5_000])
def test_on_the_card(traded: World, change_fen: int) -> None:
    change_card(traded, change_fen)
    assert conservation(traded, None).difference_fen == abs(change_fen)
    report = settled(traded, "shop", "bus")
    # once against what was loaded, once against the card's account
    assert conservation(traded, report).difference_fen == 2 * abs(change_fen)


def test_two_wrongs_do_not_make_a_right(traded: World) -> None:
    """A fen more on the card and a fen less credited: the sum is right, the account is not."""
    report = settled(traded, "shop", "bus")
    change_card(traded, 1)
    line = report.payees[0]
    less = msgspec.structs.replace(line, balance_fen=line.balance_fen - 1)
    cooked = msgspec.structs.replace(report, payees=[less, *report.payees[1:]])
    assert not conservation(traded, cooked).ok


def test_in_the_queue(traded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that is empty, on a card that has let go: the payment is nowhere."""
    real = SqliteJournal.entries
    shop = traded.terminals["shop"].journal

    def without(self: SqliteJournal, first: int, limit: int) -> list[object]:
        return [] if self is shop else list(real(self, first, limit))

    monkeypatch.setattr(SqliteJournal, "entries", without)
    monkeypatch.setattr(type(traded.cards["card"].card), "journal_records", lambda _self: [])
    assert conservation(traded, None).difference_fen == 700


def test_acknowledged_and_not_credited(traded: World) -> None:
    """A terminal that believes that clearing has what it has not."""
    journal = traded.terminals["shop"].journal
    journal.acknowledge(*journal.head())
    assert conservation(traded, None).difference_fen == 700
    assert not conservation(traded, settled(traded, "bus")).ok


@pytest.mark.parametrize("change_fen", [-1, 1])
@pytest.mark.parametrize("side", ["payees", "cards", "loads", "own"])
def test_in_the_ledger(traded: World, side: str, change_fen: int) -> None:
    report = settled(traded, "shop", "bus")
    assert conservation(traded, report).ok
    books = report.conservation
    if side == "payees":
        line = report.payees[0]
        changed = msgspec.structs.replace(line, balance_fen=line.balance_fen + change_fen)
        cooked = msgspec.structs.replace(report, payees=[changed, *report.payees[1:]])
    elif side == "cards":
        card = report.cards[0]
        other = msgspec.structs.replace(card, balance_fen=card.balance_fen + change_fen)
        cooked = msgspec.structs.replace(report, cards=[other])
    elif side == "loads":
        more = msgspec.structs.replace(books, loads_fen=books.loads_fen + change_fen)
        cooked = msgspec.structs.replace(report, conservation=more)
    else:
        own = msgspec.structs.replace(books, difference_fen=change_fen)
        cooked = msgspec.structs.replace(report, conservation=own)
    assert conservation(traded, cooked).difference_fen == 1


def test_an_account_that_is_missing(traded: World) -> None:
    report = settled(traded, "shop", "bus")
    assert not conservation(traded, msgspec.structs.replace(report, cards=[])).ok


def test_money_that_no_issuer_knows(traded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was loaded comes from the issuer's own journal, not from the cards."""
    monkeypatch.setattr(Scheme, "receipts", lambda _self: iter(()))
    assert conservation(traded, None).difference_fen == 20_000
