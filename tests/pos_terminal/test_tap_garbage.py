"""Whatever bytes come back, at whichever exchange: nothing is granted on them, and nothing breaks."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_bridge.errors import CardGone, Garbled, LinkTimeout, ReaderGone
from firmware_bridge.link import CardLink, LinkProcessor
from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Charge, Terminal
from tests.pos_terminal.bench import PIN, Blank, Counter, Holder, Mill, Snapshot, hold, know

KINDS = ("new retail", "known retail", "new transit", "known transit", "PIN", "already paid", "carrying")
"""Taps that between them send every command that a terminal knows."""

MOST_EXCHANGES = 12
"""Of the longest tap the rest is more of the same: READ RECORD and RATIFY in turn."""

Alter = Callable[[bytes], bytes]


class Altering(LinkProcessor):
    """Gives the terminal something else at one exchange; the card did what it was told."""

    def __init__(self, inner: CardLink, exchange: int, alter: Alter) -> None:
        super().__init__(inner)
        self.left = exchange
        self.alter = alter

    def transmit(self, command: bytes) -> bytes:
        reply = super().transmit(command)
        self.left -= 1
        return self.alter(reply) if self.left == 0 else reply


def _flip(reply: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(reply) * 8)
    return reply[: at // 8] + bytes((reply[at // 8] ^ 1 << at % 8,)) + reply[at // 8 + 1 :]


def _random(_reply: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(2, 300))


def _zeros(reply: bytes, _chance: random.Random) -> bytes:
    return bytes(len(reply) - 2) + b"\x90\x00"


def _status(_reply: bytes, chance: random.Random) -> bytes:
    return chance.randrange(0x6000, 0xA000).to_bytes(2, "big")


GARBAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": lambda reply, chance: reply[: chance.randrange(2, max(3, len(reply)))],
    "cut but fine": lambda reply, chance: reply[:-2][: chance.randrange(len(reply) - 1)] + b"\x90\x00",
    "longer": lambda reply, chance: reply[:-2] + chance.randbytes(chance.randrange(1, 65_000)) + b"\x90\x00",
    "random": _random,
    "random but fine": lambda reply, chance: chance.randbytes(len(reply) - 2) + b"\x90\x00",
    "flipped": _flip,
    "zeros": _zeros,
    "status": _status,
}


@dataclass(frozen=True)
class Scene:
    """A terminal and a card, set up for one kind of tap that can be taken any number of times."""

    terminal: Snapshot
    card: Blank
    charge: Charge
    pin: str
    paid_before: bool
    exchanges: int


def set_up(counter: Counter, mill: Mill, kind: str) -> Scene:
    """The scene before the tap, and how many exchanges the tap takes when nothing goes wrong."""
    holder = mill.holder(4, 80_000, PIN) if kind == "PIN" else mill.holder()
    transit = "transit" in kind or kind == "carrying"
    terminal = counter.at(mill.identity(CLASS_TRANSIT if transit else CLASS_RETAIL, 3))
    if not kind.startswith("new"):
        know(terminal, holder)
    if kind == "carrying":
        other = counter.shop(merchant=4)
        know(other, holder)
        for _ in range(8):
            hold(other, holder, other.new_sale(50), tear=(3, "before"))
    pin = PIN if kind == "PIN" else ""
    charge: Charge = counter.fare() if transit else terminal.new_sale(38_000 if pin else 300)
    if kind == "already paid":
        hold(terminal, holder, charge, tear=(2, "after"))
    scene = Scene(counter.snapshot(terminal), holder.copy(), charge, pin, kind == "already paid", 0)
    trial, card = counter.revive(scene.terminal), Holder(scene.card)
    assert hold(trial, card, charge, pin).granted
    counter.drop(trial)
    exchanges = min(card.reader.exchanges, MOST_EXCHANGES)
    return Scene(scene.terminal, scene.card, charge, pin, scene.paid_before, exchanges)


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest, counter: Counter, mill: Mill) -> Scene:
    return set_up(counter, mill, request.param)


def durable(terminal: Terminal, result: Tap) -> bool:
    assert result.record is not None
    stored = terminal.journal.payment(result.record.card, result.record.sequence)
    return stored is not None and stored.granted and stored.record.body == result.record.body


def check_altered(counter: Counter, scene: Scene, exchange: int, alter: Alter) -> None:
    """One tap with an altered reply, then the same tap in peace: one debit, one grant, one payment kept."""
    terminal, holder = counter.revive(scene.terminal), Holder(scene.card)
    before_fen, paid_before = holder.balance_fen, len(holder.records)
    first = hold(terminal, holder, scene.charge, scene.pin, wrap=lambda link: Altering(link, exchange, alter))
    if first.granted:  # what was altered did not matter: a reply to RATIFY, or one that came too late
        assert durable(terminal, first)
    else:
        assert terminal.journal.waiting_fen() == 0
    second = hold(terminal, holder, scene.charge, scene.pin)
    assert second.granted is not first.granted
    assert second.granted or second.outcome is Outcome.ALREADY_GRANTED
    debits = holder.records[paid_before:]
    assert len(debits) == (0 if scene.paid_before else 1)
    assert holder.balance_fen == before_fen - sum(record.amount_fen for record in debits)
    assert terminal.journal.unresolved() == []
    assert terminal.journal.waiting().count == 1
    counter.drop(terminal)


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_at_every_exchange(counter: Counter, scene: Scene, name: str) -> None:
    """Nothing is granted on bytes that nobody signed; the next tap finds out what really happened."""
    for exchange in range(1, scene.exchanges + 1):
        chance = random.Random(f"{name} {exchange}")
        check_altered(counter, scene, exchange, lambda reply, chance=chance: GARBAGE[name](reply, chance))  # type: ignore[misc]


@pytest.mark.parametrize("error", [CardGone, LinkTimeout, Garbled, ReaderGone])
def test_every_way_of_losing_the_card(counter: Counter, scene: Scene, error: type[Exception]) -> None:
    def lose(_reply: bytes) -> bytes:
        raise error("lost")

    for exchange in range(1, scene.exchanges + 1):
        check_altered(counter, scene, exchange, lose)


REPLIES = st.one_of(
    st.binary(min_size=2, max_size=300),
    st.binary(max_size=244).map(lambda raw: raw + b"\x90\x00"),
    st.just(b""),
)


def test_arbitrary_replies(counter: Counter, mill: Mill) -> None:
    """A card that answers anything at all, from some exchange on: no grant, and no exception."""
    shop, holder = counter.shop(), mill.holder()
    know(shop, holder)
    card = holder.copy()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(honest=st.integers(0, 3), lies=st.lists(REPLIES, min_size=1, max_size=12))
    def lie(honest: int, lies: list[bytes]) -> None:
        for sale in shop.journal.unresolved():
            shop.give_up(sale.reference, "the next lie")
        kept_fen = shop.journal.waiting_fen()

        class Lying(LinkProcessor):
            def __init__(self, inner: CardLink) -> None:
                super().__init__(inner)
                self.count = 0

            def transmit(self, command: bytes) -> bytes:
                reply = super().transmit(command)
                self.count += 1
                if self.count <= honest:
                    return reply
                return lies[(self.count - honest - 1) % len(lies)] or reply[:-3] + b"\x00\x90\x00"

        result = hold(shop, Holder(card), shop.new_sale(300), wrap=Lying)
        assert result.granted == (honest >= 2)
        assert shop.journal.waiting_fen() == kept_fen + (300 if result.granted else 0)

    lie()
