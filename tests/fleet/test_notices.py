"""What a terminal does with what clearing hands out: in steps, only what is good, and never for ever."""

from typing import Any

import pytest

from fleet.notices import fetch_notices
from fleet.open import open_issuing
from fleet.world import World
from hardwallet.denylist import parse_header
from hardwallet.errors import AuthoritiesRefused, DenylistRefused
from hardwallet.issuing import ISSUER
from hardwallet.messages import KIND_BLOCK, KIND_UNBLOCK
from offline_sync.surface import CardOrders
from tests.fleet.conftest import NOW


class Offered:
    """A clearing that offers what it is told to, whatever is asked."""

    def __init__(self, lists: list[bytes], pages: list[CardOrders], authorities: bytes | None = None) -> None:
        self.client: Any = self
        self._lists = lists
        self._pages = pages
        self._authorities = authorities
        self.asked: list[int] = []

    def trying(self, ask: Any) -> Any:
        return ask()

    def authorities(self, held: int) -> bytes | None:
        return self._authorities

    def denylist(self, operator: bytes, held: int) -> bytes | None:
        assert operator == ISSUER
        self.asked.append(held)
        return self._lists.pop(0) if self._lists else None

    def orders(self, after: int) -> CardOrders:
        return self._pages.pop(0) if len(self._pages) > 1 else self._pages[0]


NONE = CardOrders([], 0)


@pytest.fixture
def published(world: World) -> tuple[list[bytes], list[bytes]]:
    """Three denylist files, each one version on; two orders to the card."""
    number = world.cards["card"].number
    with open_issuing(world.scheme_folder, entropy=world.entropy) as scheme:
        files = []
        for add, remove in (((number,), ()), ((), (number,)), ((number,), ())):
            made = scheme.publish_denylist(add, remove, NOW)
            files.append(made.delta or made.full)
        orders = [scheme.card_order(number, kind, b"", NOW) for kind in (KIND_BLOCK, KIND_UNBLOCK)]
    return files, orders


def test_step_by_step(world: World, published: tuple[list[bytes], list[bytes]]) -> None:
    files, orders = published
    shop = world.terminals["shop"].session
    held = shop.denylists.of(ISSUER)
    assert held is not None
    offered = Offered(list(files), [CardOrders(orders[:1], 4), CardOrders(orders[1:], 0)])
    found = fetch_notices(shop, offered)  # type: ignore[arg-type]
    assert (found.denylists, found.orders, found.orders_refused) == (3, 2, 0)
    versions = [parse_header(raw).version for raw in files]
    assert offered.asked == [held.version, *versions]
    newest = shop.denylists.of(ISSUER)
    assert newest is not None
    assert (newest.version, world.cards["card"].number in newest) == (versions[-1], True)
    assert shop.pouch.waiting_for(world.cards["card"].number) == orders
    again = fetch_notices(shop, Offered([], [CardOrders(orders, 0)]))  # type: ignore[arg-type]
    assert (again.denylists, again.orders, again.orders_refused) == (0, 0, 0)


def test_one_bad_order_keeps_no_other_away(world: World, published: tuple[list[bytes], list[bytes]]) -> None:
    _, orders = published
    bad = orders[0][:-1] + bytes((orders[0][-1] ^ 1,))
    shop = world.terminals["shop"].session
    found = fetch_notices(shop, Offered([], [CardOrders([bad, orders[1]], 0)]))  # type: ignore[arg-type]
    assert (found.orders, found.orders_refused) == (1, 1)
    assert shop.pouch.all() == [orders[1]]


def test_a_clearing_that_repeats_itself_is_not_listened_to_for_ever(
    world: World, published: tuple[list[bytes], list[bytes]]
) -> None:
    files, orders = published
    shop = world.terminals["shop"].session
    same = Offered([files[0]] * 50, [CardOrders(orders, 7)])
    with pytest.raises(DenylistRefused, match="held already"):
        fetch_notices(shop, same)  # type: ignore[arg-type]
    endless = Offered([], [CardOrders(orders, 7)])  # the same page, and the same next one
    assert fetch_notices(shop, endless).orders == 2  # type: ignore[arg-type]


def test_what_is_false_is_refused_and_what_was_held_stays(
    world: World, published: tuple[list[bytes], list[bytes]]
) -> None:
    files, _ = published
    shop = world.terminals["shop"].session
    held = shop.denylists.of(ISSUER)
    altered = files[0][:-1] + bytes((files[0][-1] ^ 1,))
    with pytest.raises(DenylistRefused):
        fetch_notices(shop, Offered([altered], [NONE]))  # type: ignore[arg-type]
    with pytest.raises(AuthoritiesRefused):
        fetch_notices(shop, Offered([], [NONE], b"\xf6nonsense"))  # type: ignore[arg-type]
    assert shop.denylists.of(ISSUER) == held
