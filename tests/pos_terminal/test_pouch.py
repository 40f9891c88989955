"""Issuers' orders on their way: only good ones, durable, handed to the card before PAY, answered once."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from hardwallet import messages as m
from hardwallet import status as sw
from hardwallet.issuing import ACQUIRER, ISSUER
from hardwallet.limits import tiers
from hardwallet.messages import CardOrder
from hardwallet.suites import SigningKey
from offline_sync import chain
from offline_sync.chain import Kind
from pos_terminal import pouch as pouches
from pos_terminal.errors import JournalFull, OrderRefused, StoreBusy, StoreFailed
from pos_terminal.pouch import MAX_ORDERS, Pouch, cut, read_orders
from pos_terminal.refund import Refund
from pos_terminal.tap import Outcome
from pos_terminal.terminal import Terminal
from tests.pos_terminal.bench import (
    NOW,
    PAY_KNOWN,
    SMALL,
    Counter,
    Holder,
    Mill,
    hold,
    journal_of,
    know,
    seeded,
)
from tests.pos_terminal.test_denylist import deny, give_back, instructions
from tests.pos_terminal.wiretap import Wiretap

TORN_ORDER = 2
"""The exchange that hands over the order, when card and terminal know each other."""


@dataclass(slots=True)
class Writer:
    """Writes orders as the issuer does, and as others would like to."""

    mill: Mill

    def order(
        self,
        card: bytes,
        kind: int = m.KIND_BLOCK,
        number: int = 1,
        value: bytes = b"",
        *,
        operator: bytes = ISSUER,
        scheme: bytes = b"",
        suite: int = 1,
        key: SigningKey | None = None,
        time_s: int = NOW + 1,
    ) -> bytes:
        given = suite, scheme or self.mill.trust.scheme, operator, card, number, time_s, kind, value
        body = CardOrder(*given).body()
        return body + (key or self.mill.issuer).sign(body)

    def limits(self, card: bytes, number: int, **changes: int) -> bytes:
        """An order that sets the limits of the small tier, with changes."""
        limits = tiers()[SMALL].limits
        fields = {name: getattr(limits, name) for name in limits.__class__.__slots__} | changes
        return self.order(card, m.KIND_LIMITS, number, type(limits)(**fields).to_bytes() + bytes((SMALL,)))


@pytest.fixture
def writer(mill: Mill) -> Writer:
    return Writer(mill)


@pytest.fixture
def pouch(tmp_path: Path, mill: Mill) -> Iterator[Pouch]:
    with closing(Pouch(tmp_path, mill.trust)) as opened:
        yield opened


def with_pouch(terminal: Terminal, pouch: Pouch) -> Terminal:
    terminal.orders = pouch
    return terminal


def delivered(terminal: Terminal) -> list[tuple[bytes, int, int]]:
    """What the journal tells of orders: card, number, status word."""
    entries = journal_of(terminal).entries(1, 1_000)
    found = [chain.parse_delivered(entry.payload) for entry in entries if entry.kind == Kind.ORDER_DELIVERED]
    return [(one.card, one.number, one.status_word) for one in found]


def order_number(holder: Holder) -> int:
    return holder.memory.state().order_number


# ---------------------------------------------------------------------- at the tap


def test_a_block_is_handed_over_before_pay(
    counter: Counter, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    for terminal, charge in (
        (shop := counter.shop(), shop.new_sale(300)),
        (counter.bus(), counter.fare()),
    ):
        lost = Holder(holder.copy())
        with_pouch(terminal, pouch)
        assert pouch.offer([writer.order(lost.number)]) == 1
        tapped = Wiretap()
        result = hold(terminal, lost, charge, wrap=tapped)
        assert (result.outcome, result.status_word) == (Outcome.DECLINED, sw.BLOCKED)
        sent = instructions(tapped)
        assert sent.index(m.INS_ORDER) < sent.index(m.INS_PAY)
        assert delivered(terminal) == [(lost.number, 1, sw.OK)]
        assert len(pouch) == 0
        assert lost.balance_fen == 20_000


def test_nothing_is_said_to_other_cards(
    counter: Counter, mill: Mill, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    pouch.offer([writer.order(Holder(mill.new_blank()).number)])
    tapped = Wiretap()
    assert hold(shop, holder, shop.new_sale(300), wrap=tapped).granted
    assert m.INS_ORDER not in instructions(tapped)
    assert len(pouch) == 1


def test_an_older_unblock_is_refused_by_the_card_and_dropped(
    counter: Counter, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    pouch.offer([writer.order(holder.number, m.KIND_BLOCK, 5)])
    hold(shop, holder, shop.new_sale(300))
    pouch.offer([writer.order(holder.number, m.KIND_UNBLOCK, 4)])
    result = hold(shop, holder, shop.new_sale(300))
    assert (result.outcome, result.status_word) == (Outcome.DECLINED, sw.BLOCKED)
    assert delivered(shop) == [(holder.number, 5, sw.OK), (holder.number, 4, sw.ORDER_TOO_OLD)]
    assert len(pouch) == 0


def test_several_orders_go_lowest_number_first(
    counter: Counter, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    unblock, block = (
        writer.order(holder.number, kind, number) for kind, number in ((m.KIND_UNBLOCK, 8), (m.KIND_BLOCK, 7))
    )
    assert pouch.offer([unblock, block]) == 2
    assert hold(shop, holder, shop.new_sale(300)).granted
    assert delivered(shop) == [(holder.number, 7, sw.OK), (holder.number, 8, sw.OK)]


@pytest.mark.parametrize(("moment", "word"), [("before", sw.OK), ("after", sw.ORDER_TOO_OLD)])
def test_a_torn_delivery_is_handed_over_at_the_next_tap(
    counter: Counter,
    holder: Holder,
    pouch: Pouch,
    writer: Writer,
    moment: Literal["before", "after"],
    word: int,
) -> None:
    """The card had obeyed it or not: nothing is lost, nothing is done twice, and nobody has paid."""
    shop = with_pouch(counter.shop(), pouch)
    know(shop, holder)
    pouch.offer([writer.order(holder.number)])
    sale = shop.new_sale(300)
    torn = hold(shop, holder, sale, tear=(TORN_ORDER, moment))
    assert torn.outcome is Outcome.TRY_AGAIN
    assert len(pouch) == 1
    assert delivered(shop) == []
    assert shop.journal.sale(sale.reference) is None
    result = hold(shop, holder, sale)
    assert result.status_word == sw.BLOCKED
    assert delivered(shop) == [(holder.number, 1, word)]
    assert len(pouch) == 0
    assert order_number(holder) == 1


def test_a_torn_delivery_survives_a_restart(
    counter: Counter, mill: Mill, tmp_path: Path, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    know(shop, holder)
    pouch.offer([writer.order(holder.number)])
    hold(shop, holder, shop.new_sale(300), tear=(TORN_ORDER, "before"))
    pouch.close()
    with closing(Pouch(tmp_path, mill.trust)) as again:
        shop.orders = again
        assert hold(shop, holder, shop.new_sale(300)).status_word == sw.BLOCKED
    with closing(Pouch(tmp_path, mill.trust)) as last:
        assert len(last) == 0


def test_the_offline_allowance_is_raised_once(
    counter: Counter, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    pouch.offer([writer.limits(holder.number, 1, offline_total_fen=1_000)])
    assert hold(shop, holder, shop.new_sale(900)).granted
    assert hold(shop, holder, shop.new_sale(200)).status_word == sw.OFFLINE_TOTAL_USED_UP
    state = holder.memory.state()
    value = state.sequence.to_bytes(4, "big") + state.spent_fen.to_bytes(4, "big")
    acknowledged = writer.order(holder.number, m.KIND_ACKNOWLEDGE, 2, value)
    assert pouch.offer([acknowledged]) == 1
    assert hold(shop, holder, shop.new_sale(200)).granted
    assert hold(shop, holder, shop.new_sale(800)).granted
    assert pouch.offer([acknowledged]) == 1  # brought once more
    assert hold(shop, holder, shop.new_sale(1)).status_word == sw.OFFLINE_TOTAL_USED_UP
    words = [word for _, _, word in delivered(shop)]
    assert words == [sw.OK, sw.OK, sw.ORDER_TOO_OLD]
    assert holder.memory.state().acknowledged_fen == 900


def test_what_the_card_answers_for_good_is_dropped(
    counter: Counter, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    value = (99).to_bytes(4, "big") + (10**6).to_bytes(4, "big")
    pouch.offer([writer.order(holder.number, m.KIND_ACKNOWLEDGE, 1, value)])
    assert hold(shop, holder, shop.new_sale(300)).granted
    assert delivered(shop) == [(holder.number, 1, sw.ACKNOWLEDGES_TOO_MUCH)]
    assert len(pouch) == 0


@pytest.mark.parametrize("word", [sw.MEMORY_FAILURE, sw.SELECT_FIRST, 0x6F17])
def test_what_says_nothing_about_the_order_keeps_it(
    counter: Counter, holder: Holder, pouch: Pouch, writer: Writer, word: int
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    pouch.offer([writer.order(holder.number)])

    def alter(command: bytes, reply: bytes) -> bytes:
        return word.to_bytes(2, "big") if command[1] == m.INS_ORDER else reply

    hold(shop, holder, shop.new_sale(300), wrap=Wiretap(alter))
    assert len(pouch) == 1
    assert delivered(shop) == []


def test_without_room_in_the_journal_nothing_is_handed_over(
    counter: Counter, mill: Mill, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    """What the card answers could not be kept."""
    free = [10**12]
    identity = mill.identity()
    journal = counter.journal(identity, free=lambda _folder: free[0])
    shop = with_pouch(counter.at(identity, journal), pouch)
    pouch.offer([writer.order(holder.number)])
    sale = shop.new_sale(300)
    free[0] = 0
    tapped = Wiretap()
    assert hold(shop, holder, sale, wrap=tapped).outcome is Outcome.DECLINED
    assert m.INS_ORDER not in instructions(tapped)
    assert len(pouch) == 1
    with pytest.raises(JournalFull):
        journal.require_space()


def test_a_denied_card_gets_its_orders_too(
    counter: Counter, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    deny(counter, shop, holder)
    pouch.offer([writer.order(holder.number)])
    assert "denylist" in hold(shop, holder, shop.new_sale(300)).reason
    assert delivered(shop) == [(holder.number, 1, sw.OK)]
    assert holder.memory.state().flags


def test_a_refund_hands_orders_over(counter: Counter, holder: Holder, pouch: Pouch, writer: Writer) -> None:
    shop = with_pouch(counter.shop(), pouch)
    assert hold(shop, holder, shop.new_sale(300)).granted
    pouch.offer([writer.order(holder.number)])
    give_back(shop, holder, Refund(holder.number, holder.sequence, 100))
    assert delivered(shop) == [(holder.number, 1, sw.OK)]
    assert holder.balance_fen == 20_000 - 300


def test_an_open_sale_stays_open_when_an_order_is_torn(
    counter: Counter, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    know(shop, holder)
    sale = shop.new_sale(300)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    pouch.offer([writer.order(holder.number)])
    assert hold(shop, holder, sale, tear=(TORN_ORDER, "after")).outcome is Outcome.UNRESOLVED
    result = hold(shop, holder, sale)  # a blocked card still tells what it has paid
    assert result.granted
    assert result.recovered


# ---------------------------------------------------------------------- what never enters


def test_only_good_orders_enter(mill: Mill, holder: Holder, pouch: Pouch, writer: Writer) -> None:
    card, good = holder.number, writer.order(holder.number)
    other = mill.suite.new_signing_key(seeded("somebody"))
    stranger = b"\x00\x00\x01\x02" + card[4:]
    bad = [
        ("malformed", b""),
        ("malformed", good[:-1]),
        ("malformed", good + b"\0"),
        ("malformed", good[:61]),
        ("malformed", bytes(125)),
        ("malformed", writer.order(card, 9)),
        ("malformed", writer.order(card, value=b"padding")),
        ("scheme", writer.order(card, scheme=b"\1\2\3\4")),
        ("scheme", writer.order(card, suite=2)),
        ("operator", writer.order(card, operator=b"\x00\x00\x01\x02")),
        ("operator", writer.order(stranger)),
        ("operator", writer.order(stranger, operator=b"\x00\x00\x01\x02")),
        ("operator", writer.order(ACQUIRER + card[4:], operator=ACQUIRER, key=mill.acquirer)),
        ("operator", writer.order(card, time_s=5)),
        ("signature", writer.order(card, key=mill.acquirer)),
        ("signature", writer.order(card, key=other)),
        *(("", good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]) for at in range(125)),
    ]
    for code, raw in bad:
        with pytest.raises(OrderRefused) as raised:
            pouch.offer([good, raw])
        assert code in ("", raised.value.code)
        assert str(raised.value)
    assert len(pouch) == 0  # not even the good one
    assert pouch.offer([good]) == 1


def test_one_order_to_a_card_and_a_number(holder: Holder, pouch: Pouch, writer: Writer) -> None:
    """The same order signed again takes the place of the first: the first key may be revoked by now."""
    first, again = writer.order(holder.number), writer.order(holder.number)
    assert first != again
    assert pouch.offer([first]) == 1
    assert pouch.offer([first, again]) == 0
    assert pouch.waiting_for(holder.number) == [again]
    assert len(pouch) == 1


def test_a_pouch_is_bounded(
    holder: Holder, pouch: Pouch, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pouches, "MAX_ORDERS", 3)
    orders = [writer.order(holder.number, number=number) for number in range(1, 6)]
    assert pouch.offer(orders[:2]) == 2
    for given in (orders[2:4], orders[:4]):
        with pytest.raises(OrderRefused) as raised:
            pouch.offer(given)
        assert raised.value.code == "too-many"
    assert pouch.offer(orders[1:3]) == 1
    assert len(pouch) == 3


def test_a_file_of_orders_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "orders"
    with path.open("wb") as file:
        file.truncate(MAX_ORDERS * 125)
    assert len(cut(read_orders(path))) == MAX_ORDERS
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(OrderRefused) as raised:
        read_orders(path)
    assert raised.value.code == "too-long"


# ---------------------------------------------------------------------- on the disk


def test_what_was_taken_is_there_after_a_restart(
    tmp_path: Path, mill: Mill, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    orders = [writer.order(holder.number, number=number) for number in (1, 2, 3)]
    pouch.offer(orders)
    pouch.drop(orders[1])
    assert (tmp_path / pouches.ORDERS).stat().st_size == 375  # what was dropped may come back
    pouch.settle()
    assert (tmp_path / pouches.ORDERS).read_bytes() == orders[0] + orders[2]
    pouch.drop(orders[0])
    pouch.drop(orders[0])
    pouch.close()
    with closing(Pouch(tmp_path, mill.trust)) as again:
        assert again.all() == [orders[2]]


def test_a_tap_settles_what_it_dropped(
    tmp_path: Path, counter: Counter, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    shop = with_pouch(counter.shop(), pouch)
    pouch.offer([writer.order(holder.number)])
    hold(shop, holder, shop.new_sale(300))
    assert (tmp_path / pouches.ORDERS).read_bytes() == b""


def test_a_full_disk(
    tmp_path: Path, holder: Holder, pouch: Pouch, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = writer.order(holder.number), writer.order(holder.number, number=2)
    pouch.offer([first])

    def no_room(_handle: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        with pytest.raises(StoreFailed, match="No space"):
            pouch.offer([second])
        assert pouch.all() == [first]
        pouch.drop(first)
        pouch.settle()  # later
    assert (tmp_path / pouches.ORDERS).read_bytes() == first
    pouch.settle()
    assert (tmp_path / pouches.ORDERS).read_bytes() == b""


def test_a_damaged_file_loses_what_is_damaged_only(
    tmp_path: Path, mill: Mill, holder: Holder, pouch: Pouch, writer: Writer
) -> None:
    orders = [writer.order(holder.number, number=number) for number in (1, 2, 3)]
    pouch.offer(orders)
    pouch.close()
    raw = b"".join(orders)
    (tmp_path / pouches.ORDERS).write_bytes(raw[:125] + b"\0" + raw[126:-1])
    with closing(Pouch(tmp_path, mill.trust)) as again:
        assert again.all() == orders[:1]
        assert again.damaged == 2


def test_two_programs(tmp_path: Path, mill: Mill, pouch: Pouch) -> None:
    with pytest.raises(StoreBusy):
        Pouch(tmp_path, mill.trust)
    pouch.close()
    Pouch(tmp_path, mill.trust).close()
