"""The till line by line, with a real station and simulated cards: what is typed is done and answered."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.history import Walk
from fleet.playground import Playground, open_playground
from pos_terminal.sale import SaleState
from tui.backing import Backing
from tui.plain.loop import Loop
from tui.plain.till import open_till
from tui.text import set_language

PIN = "271828"


@pytest.fixture(scope="module")
def world() -> Iterator[Playground]:
    with open_playground("cashier", clearing=False) as made:
        hand, cards = made._hand, made._cards
        made.tap = lambda place: hand.lay(cards[place], 0.02)  # type: ignore[method-assign]
        yield made


def typed(world: Playground, *lines: str) -> str:
    """What is said when these lines are typed, and then nothing more."""
    read_end, write_end = os.pipe()
    os.write(write_end, "".join(f"{line}\n" for line in lines).encode())
    os.close(write_end)
    out = io.StringIO()
    loop = Loop(Backing(world.session, world.field, world.uplink, world), read_end, out, mute=True)
    try:
        with open_till(loop) as face:
            assert loop.run(face) == 0
    finally:
        os.close(read_end)
        set_language("en")
    return out.getvalue()


def in_order(said: str, *words: str) -> None:
    """Each of these is said, one after the other."""
    place = 0
    for word in words:
        found = said.find(word, place)
        assert found >= 0, f"{word!r} is not said in its turn:\n{said}"
        place = found + len(word)


def test_selling_asking_and_giving_back(world: Playground) -> None:
    said = typed(
        world, "12.50", "tap 1", "20,5", "tap 1", "5", "tap 4", "check", "tap 1", "history", "cancel"
    )
    in_order(
        said,
        "SIMULATED",
        "✓  Approved  CNY 12.50",
        "Balance left: CNY 187.50",
        "✓  Approved  CNY 20.50",
        "✗  Not paid  CNY 5.00",
        "CNY 5.00 is missing",
        "Balance: CNY 167.00",
        "granted here",
        "not paid",
        "20.50",
        "12.50",
    )
    number = next(row.record.transaction for row in Walk(world.session.journal).more(9).rows if row.record)
    said = typed(
        world, f"refund 0.50 {number}", "tap 2", "tap 1", f"receipt {number}", "refund 5", "refund x 1"
    )
    in_order(
        said,
        "not the card that paid",
        "✓  Refunded  CNY 0.50",
        "PAYMENT",
        "Refunded of it: CNY 0.50",
        "write the amount and the payment",
        "is not an amount",
    )


def test_bad_lines_are_told_and_change_nothing(world: Playground) -> None:
    lines = [
        "0",
        "1.234",
        "99999999",
        "12x",
        "bogus",
        "pin",
        "give-up x",
        "receipt 1",
        "print",
        "shift x y z",
    ]
    lines += ["shift in 0 x", "shift in 5", "denylist /nowhere", "export", "refund 1 ZZZZZZZZZZ"]
    said = typed(world, *lines)
    in_order(
        said,
        "is zero",
        "is not an amount",
        "21474836.47",
        "is not an amount",
        "no command 'bogus'",
        "No PIN is asked for",
        "No sale is unfinished",
        "no such receipt",
        "name the printer first",
        "X REPORT",
        "check the path",
        "name a file",
        "no such receipt",
    )
    assert "Present the card" not in said


def test_a_torn_tap_a_wrong_pin_and_a_restart(world: Playground) -> None:
    said = typed(
        world, "600", "tap 8", "pin", "1111", "wait 1", "pin", PIN, "wait 5", "tear 3", "7", "tap 1", "8"
    )
    in_order(
        said,
        "*  Enter the PIN  CNY 600.00",
        "Wrong PIN. Tries left: 2.",
        "✓  Approved  CNY 600.00",
        "↻  Present the same card again  CNY 7.00",
        "type give-up and the reason",
        "Present the same card again, or give the sale up",
    )
    assert PIN not in said
    assert "1111" not in said
    said = typed(world, "tap 2", "give-up customer left", "history given-up", "language zh", "9", "cancel")
    in_order(
        said,
        "It was open when this terminal stopped",
        "This is another card",
        "CNY 7.00 is given up: customer left",
        "given up",
        "请碰卡",
    )
    (row,) = [
        each
        for each in Walk(world.session.journal).more(100).rows
        if each.sale is not None and each.sale.state is SaleState.GIVEN_UP
    ]
    assert row.sale is not None
    assert row.sale.reason == "customer left"


def test_paper_files_and_the_shift(world: Playground, tmp_path: Path) -> None:
    paper, out = tmp_path / "paper", tmp_path / "export"
    said = typed(
        world,
        *("3", "tap 1", f"printer file:{paper}", "print", "print", "printer nonsense", f"export {out}"),
        *("shift in 5 coins", "shift out 999999 bank", "shift close 1", "shift close 1 lost", "shift"),
        *("shift open 100 Li", "shift"),
    )
    in_order(
        said,
        "is printed.",
        "is printed, marked as a copy",
        "a printer is named",
        "uploads are in",
        "Booked: CNY 5.00",
        "more than the drawer can hold",
        "is missing in the drawer",
        "Z REPORT",
        "no shift is open",
        "is open",
        "X REPORT",
    )
    assert paper.read_bytes().count(b"COPY") == 1
    assert out.exists()
