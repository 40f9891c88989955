"""Keys are rotated in a scheme at work: payments and receipts go on, and a revocation ends what it should."""

from collections.abc import Iterator
from contextlib import contextmanager

from firmware_bridge.virtual.in_process import InProcessReader
from fleet.open import open_clearing
from fleet.stage import InProcessStage
from fleet.upload import clearing_service, fetch_notices, send
from fleet.world import World
from hardwallet.issuing import Scheme, open_scheme
from pos_terminal.tap import Outcome
from pos_terminal.trust_update import renew_certificate, take_authorities
from tests.fleet.conftest import NOW


def pay(world: World, at: str, amount_fen: int = 100, card: str = "card") -> Outcome:
    stage = InProcessStage()
    stage.lay(world.cards[card].card)
    terminal = world.terminals[at]
    try:
        return world.tap(stage, world.cards[card], terminal, terminal.terminal.new_sale(amount_fen)).outcome
    finally:
        stage.close()


@contextmanager
def office(world: World) -> Iterator[Scheme]:
    with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
        yield scheme


def rotate(world: World, name: str, *, compromised: bool = False) -> bytes:
    """A key is rotated; the authority list."""
    with office(world) as scheme:
        scheme.rotate(name, NOW, compromised=compromised)
        return scheme.authorities(NOW)


def test_an_upload_of_before_the_rotation_is_acknowledged(world: World) -> None:
    """Clearing has the new key, the terminal has not heard of it: the receipt is signed with the old one."""
    assert pay(world, "shop") is Outcome.GRANTED
    rotate(world, "acquirer")
    shop = world.terminals["shop"]
    assert shop.folder.trust.bundle.version == 0
    with clearing_service(world.scheme_folder, world.clock) as clearing:
        arrival = send(world, shop, clearing.url)
        assert arrival.ok, arrival.failure
        assert pay(world, "shop", 200) is Outcome.GRANTED
        assert send(world, shop, clearing.url).ok
        assert clearing.balance_fen(shop.payee) == 300


def test_tills_of_both_keys_work_side_by_side(world: World) -> None:
    """The old one before and after the card has met the new one; both are acknowledged, each by its key."""
    assert pay(world, "shop") is Outcome.GRANTED
    raw = rotate(world, "acquirer")
    world.add_terminal("next", "retail", 1)
    for name in ("next", "shop", "next", "shop"):
        assert pay(world, name) is Outcome.GRANTED
    with clearing_service(world.scheme_folder, world.clock) as clearing:
        for name in ("shop", "next"):
            arrival = send(world, world.terminals[name], clearing.url)
            assert arrival.ok, arrival.failure
        assert clearing.balance_fen(world.terminals["shop"].payee) == 500
        assert fetch_notices(world, world.terminals["shop"], clearing.url).authorities == 1
    path = world.terminals["shop"].folder.path
    assert take_authorities(path, raw) is False
    world.restart("shop")
    assert pay(world, "shop") is Outcome.GRANTED


def test_a_card_of_the_new_issuer_key_pays_where_the_list_has_arrived(world: World) -> None:
    raw = rotate(world, "issuer")
    world.add_card("fresh", 5, 5_000)
    assert pay(world, "shop", card="fresh") is Outcome.DECLINED
    shop = world.terminals["shop"]
    take_authorities(shop.folder.path, raw, shop.folder.trust)
    assert pay(world, "shop", card="fresh") is Outcome.GRANTED
    assert pay(world, "shop") is Outcome.GRANTED


def test_cards_are_loaded_on_and_booked(world: World) -> None:
    rotate(world, "issuer")
    card = world.cards["card"]
    with office(world) as scheme:
        scheme.load(InProcessReader(card.card).wait_for_card(0), 700, NOW)
    with open_clearing(world.scheme_folder, clock=world.clock) as clearing:
        report = clearing.report()
    assert [line.balance_fen for line in report.cards] == [20_700]
    assert report.conservation.ok


def test_an_upload_under_a_revoked_certificate_waits_for_the_renewal(world: World) -> None:
    """Nothing is lost: the terminal keeps the payment, and delivers it with its new certificate."""
    assert pay(world, "shop") is Outcome.GRANTED
    rotate(world, "acquirer", compromised=True)
    shop = world.terminals["shop"]
    with clearing_service(world.scheme_folder, world.clock) as clearing:
        refused = send(world, shop, clearing.url)
        assert not refused.ok
        assert "revoked" in refused.failure
        path = world.stop("shop")
        with office(world) as scheme:
            renew_certificate(path, scheme, NOW)
        shop = world.restart("shop")
        arrival = send(world, shop, clearing.url)
        assert arrival.ok, arrival.failure
        assert clearing.balance_fen(shop.payee) == 100
    assert pay(world, "shop") is Outcome.GRANTED


def test_clearing_opens_with_loads_of_a_revoked_key(world: World) -> None:
    """Its books never saw the card before; the issuer's own journal vouches for it."""
    rotate(world, "issuer", compromised=True)
    with open_clearing(world.scheme_folder, clock=world.clock) as clearing:
        assert [line.balance_fen for line in clearing.report().cards] == [20_000]
