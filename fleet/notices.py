"""What operators published reaches a terminal: whom to trust, which cards to refuse, orders to hand over.

Everything is believed for its own signature, and checked by the store that takes it.
"""

from dataclasses import dataclass
from functools import partial

from fleet.open import TerminalSession
from hardwallet.certificates import CLASS_ISSUING
from offline_sync.gateway import Gateway
from pos_terminal.errors import OrderRefused
from pos_terminal.trust_update import take_authorities

MAX_STEPS = 1_000
"""Files of one denylist, or pages of orders, that are fetched at a time."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: the version of the authority list that is held now, denylist files and orders that are new,
    and orders that were not taken."""

    authorities: int
    denylists: int
    orders: int
    orders_refused: int


def fetch_notices(session: TerminalSession, gateway: Gateway) -> Fetched:
    """Bring a terminal up to date with its clearing: first whom it trusts, by which the rest is verified.

    Raises GatewayError when clearing does not answer; AuthoritiesRefused, DenylistRefused, StoreFailed when
    what it answers cannot be taken. What came before that stays taken.
    """
    folder = session.folder
    bundle = folder.trust.bundle
    raw = gateway.trying(partial(gateway.client.authorities, bundle.version))
    if raw is not None:
        take_authorities(folder.path, raw, folder.trust)
    issuers = sorted({one.operator for one in bundle.operators if one.klass & CLASS_ISSUING})
    files = sum(_fetch_denylist(session, gateway, operator) for operator in issuers)
    new, refused = _fetch_orders(session, gateway)
    return Fetched(bundle.version, files, new, refused)


def _fetch_denylist(session: TerminalSession, gateway: Gateway, operator: bytes) -> int:
    """How many files came."""
    for count in range(MAX_STEPS):
        held = session.denylists.of(operator)
        version = 0 if held is None else held.version
        raw = gateway.trying(partial(gateway.client.denylist, operator, version))
        if raw is None or session.denylists.offer(raw).version <= version:
            return count
    return MAX_STEPS


def _fetch_orders(session: TerminalSession, gateway: Gateway) -> tuple[int, int]:
    """How many were new, and how many were not taken."""
    new = refused = after = 0
    for _ in range(MAX_STEPS):
        page = gateway.trying(partial(gateway.client.orders, after))
        taken, left = _offer(session, page.orders)
        new, refused = new + taken, refused + left
        if not page.last > after:
            break
        after = page.last
    return new, refused


def _offer(session: TerminalSession, orders: list[bytes]) -> tuple[int, int]:
    """One that is not good, or does not fit in any more, does not keep the others away."""
    try:
        return session.pouch.offer(orders), 0
    except OrderRefused:
        taken = refused = 0
        for one in orders:
            try:
                taken += session.pouch.offer([one])
            except OrderRefused:
                refused += 1
        return taken, refused
