"""What "did I pay?" tells: what the card signed, and what this terminal knows of it. Nothing changes."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hardwallet import messages as m
from hardwallet.records import RECORD_LENGTH
from pos_terminal.errors import ClockWrong
from pos_terminal.inquiry import SHOWN, Answer, Inquiry, inquire
from pos_terminal.pouch import Pouch
from pos_terminal.refund import Refund
from pos_terminal.terminal import Terminal
from tests.pos_terminal.bench import (
    NOW,
    PAY_KNOWN,
    Counter,
    Holder,
    Mill,
    Wrap,
    hold,
    journal_of,
    know,
)
from tests.pos_terminal.test_denylist import deny, give_back, instructions
from tests.pos_terminal.test_pouch import Writer
from tests.pos_terminal.wiretap import Wiretap


def ask(
    terminal: Terminal, holder: Holder, wrap: Wrap = lambda link: link, *, tear: int = 0, shown: int = SHOWN
) -> Inquiry:
    holder.reader.present()
    holder.reader.tear_at(tear, "before")
    link = wrap(holder.reader.wait_for_card(0))
    try:
        return inquire(terminal, link, shown)
    finally:
        link.close()
        holder.reader.remove()


def told(found: Inquiry) -> list[tuple[int, Answer | None]]:
    return [(line.record.amount_fen, line.answer) for line in found.lines]


def unchanged(holder: Holder, terminal: Terminal) -> Callable[[], bool]:
    """Whether the money, the records and the journal are still as they are now."""

    def now() -> object:
        state = holder.memory.state()
        records = [record.raw for record in holder.card.journal_records()]
        return (
            *(state.balance_fen, state.sequence, state.spent_fen, list(state.unratified), state.order_number),
            *(records, journal_of(terminal).head(), len(terminal.journal.unresolved())),
        )

    before = now()
    return lambda: now() == before


def test_what_was_paid_where(counter: Counter, holder: Holder) -> None:
    shop, till, other = counter.shop(), counter.shop(), counter.shop(merchant=9)
    assert hold(other, holder, other.new_sale(100)).granted
    assert hold(till, holder, till.new_sale(200)).granted
    assert hold(shop, holder, shop.new_sale(300)).granted
    same = unchanged(holder, shop)
    found = ask(shop, holder)
    assert found.reason == ""
    assert (found.card, found.balance_fen) == (holder.number, 20_000 - 600)
    assert told(found) == [
        (300, Answer.GRANTED),
        (200, Answer.SIBLING),
        (100, Answer.ELSEWHERE),
        (20_000, None),
    ]
    assert [line.record.sequence for line in found.lines] == [4, 3, 2, 1]
    assert not any(line.unratified for line in found.lines)
    assert (found.unfinished, found.blocked, found.denied) == ([], False, False)
    assert same()


def test_an_unfinished_sale_that_was_paid(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(300)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    same = unchanged(holder, shop)
    found = ask(shop, holder)
    assert told(found)[0] == (300, Answer.UNFINISHED)
    assert found.lines[0].unratified
    assert [open_sale.reference for open_sale in found.unfinished] == [sale.reference]
    assert same()
    assert hold(shop, holder, sale).recovered
    assert told(ask(shop, holder))[0] == (300, Answer.GRANTED)


def test_an_unfinished_sale_that_was_not_paid(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    know(shop, holder)
    hold(shop, holder, shop.new_sale(300), tear=(PAY_KNOWN, "before"))
    found = ask(shop, holder)
    assert told(found) == [(20_000, None)]
    assert len(found.unfinished) == 1


def test_a_sale_that_was_given_up(counter: Counter, holder: Holder) -> None:
    shop, other = counter.shop(), counter.shop(merchant=9)
    know(shop, holder)
    sale = shop.new_sale(300)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    shop.give_up(sale.reference, "cash")
    assert told(ask(shop, holder))[0] == (300, Answer.GIVEN_UP)
    hold(shop, holder, shop.new_sale(50))  # carries it
    assert told(ask(shop, holder))[:2] == [(50, Answer.GRANTED), (300, Answer.NOT_GRANTED)]
    assert [answer for _, answer in told(ask(other, holder))[:2]] == [Answer.ELSEWHERE] * 2


def test_a_torn_ride(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    assert hold(bus, holder, counter.fare()).granted
    ride = counter.fare()
    hold(bus, holder, ride, tear=(PAY_KNOWN, "after"))
    same = unchanged(holder, bus)
    assert told(ask(bus, holder))[:2] == [(200, Answer.UNREAD), (200, Answer.GRANTED)]
    assert same()
    assert hold(bus, holder, ride).granted


def test_a_refund_is_shown(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    assert hold(shop, holder, shop.new_sale(300)).granted
    assert give_back(shop, holder, Refund(holder.number, 2, 100)).granted
    found = ask(shop, holder)
    assert told(found)[:2] == [(100, None), (300, Answer.GRANTED)]
    assert found.balance_fen == 20_000 - 200


def test_as_many_as_are_wanted(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    for _ in range(6):
        assert hold(shop, holder, shop.new_sale(10)).granted
    assert len(ask(shop, holder).lines) == SHOWN
    assert len(ask(shop, holder, shown=2).lines) == 2
    assert len(ask(shop, holder, shown=99).lines) == 7


def test_nothing_but_reading_is_asked_of_the_card(
    counter: Counter, mill: Mill, holder: Holder, tmp_path: Path
) -> None:
    """No PAY, no RATIFY, no order, although one waits for this card."""
    shop, other = counter.shop(), counter.shop(merchant=9)
    know(other, holder)
    hold(other, holder, other.new_sale(100), tear=(PAY_KNOWN, "after"))
    with closing(Pouch(tmp_path, mill.trust)) as pouch:
        pouch.offer([Writer(mill).order(holder.number)])
        shop.orders = pouch
        tapped = Wiretap()
        assert ask(shop, holder, tapped).reason == ""
        assert len(pouch) == 1
    reading = {m.INS_SELECT, m.INS_EXCHANGE_CERTIFICATES, m.INS_INTRODUCE, m.INS_PROVE}
    assert set(instructions(tapped)) <= reading | {m.INS_READ_STATE, m.INS_READ_RECORD}
    assert holder.unratified == 1


def test_denied_and_blocked_are_said(counter: Counter, mill: Mill, holder: Holder, tmp_path: Path) -> None:
    shop = counter.shop()
    with closing(Pouch(tmp_path, mill.trust)) as pouch:
        pouch.offer([Writer(mill).order(holder.number)])
        shop.orders = pouch
        hold(shop, holder, shop.new_sale(300))
    deny(counter, shop, holder)
    found = ask(shop, holder)
    assert (found.blocked, found.denied, found.balance_fen) == (True, True, 20_000)


# ---------------------------------------------------------------------- cards that do not tell the truth


@pytest.mark.parametrize("at", [0, 28, 51, 88, 95, 100, 159])
def test_a_record_that_was_altered_is_not_shown(counter: Counter, holder: Holder, at: int) -> None:
    shop = counter.shop()
    assert hold(shop, holder, shop.new_sale(300)).granted

    def alter(command: bytes, reply: bytes) -> bytes:
        if command[1] == m.INS_READ_RECORD and len(reply) > RECORD_LENGTH:
            return reply[:at] + bytes((reply[at] ^ 1,)) + reply[at + 1 :]
        return reply

    found = ask(shop, holder, Wiretap(alter))
    assert found.reason
    assert found.lines == []
    assert found.balance_fen is None


def test_a_balance_that_was_altered_is_not_shown(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    assert hold(shop, holder, shop.new_sale(300)).granted

    def alter(command: bytes, reply: bytes) -> bytes:
        return b"\0\1" + reply[2:] if command[1] == m.INS_READ_STATE else reply

    found = ask(shop, holder, Wiretap(alter))
    assert "another balance" in found.reason
    assert found.balance_fen is None


def test_a_card_that_leaves(counter: Counter, holder: Holder) -> None:
    """At each exchange: what was read stands, and nothing has changed."""
    shop = counter.shop()
    for _ in range(3):
        assert hold(shop, holder, shop.new_sale(10)).granted
    same = unchanged(holder, shop)
    counts = []
    for exchange in range(1, 8):
        found = ask(shop, holder, tear=exchange)
        counts.append(len(found.lines))
        assert bool(found.reason) == (found.balance_fen is None)
        assert same()
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert ask(shop, holder, tear=1).card == b""


def test_no_wallet(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    found = ask(shop, holder, Wiretap(lambda _command, _reply: b"\x6a\x82"))
    assert "no hardwallet" in found.reason
    assert (found.card, found.lines, found.balance_fen) == (b"", [], None)


def test_a_wrong_clock_stops_it(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    counter.time.now = NOW - 10**6
    with pytest.raises(ClockWrong):
        ask(shop, holder)
