"""A cashier at work: keys pressed on the real till, with a real station and simulated cards behind it."""

import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from firmware_bridge.errors import ReaderGone
from firmware_bridge.link import CardLink, LinkProcessor
from fleet.playground import Playground, TearPlace, open_playground
from hardwallet.messages import INS_PAY
from offline_sync.gateway import read_export
from pos_terminal.sale import SaleState
from tests.tui.screens.stage import drive, shown, until
from tui.backing import Backing
from tui.screens.cashier.app import CashierApp, open_cashier
from tui.screens.cashier.desk import Phase
from tui.screens.cashier.history import HistoryScreen
from tui.screens.cashier.inquired import InquiredScreen
from tui.screens.cashier.receipt import ReceiptScreen
from tui.screens.cashier.shift import ShiftScreen
from tui.screens.cashier.till import TillScreen
from tui.screens.widgets.dialogs import Choose, LineOfText
from tui.text import language

PIN = "271828"
ADULT, EMPTY, BLOCKED, FOREIGN, WITH_PIN, DENIED = 1, 4, 5, 7, 8, 9
LIES_S = 0.02


def _quick(world: Playground) -> Playground:
    """Cards leave at once, so that nobody waits."""
    hand, cards = world._hand, world._cards
    world.tap = lambda place: hand.lay(cards[place], LIES_S)  # type: ignore[method-assign]
    return world


@pytest.fixture(scope="module")
def world() -> Iterator[Playground]:
    """One world for all tests of this file: what one sells, the next finds in the history."""
    with open_playground("cashier", clearing=False) as made:
        yield _quick(made)


@contextmanager
def till_of(world: Playground, **changes: Any) -> Iterator[CashierApp]:
    backing = replace(Backing(world.session, world.field, world.uplink, world), **changes)
    with open_cashier(backing, mute=True) as app:
        try:
            yield app
        finally:
            app.station.close()


class Cashier:
    """Somebody who presses keys and reads the screen."""

    def __init__(self, pilot: Pilot[Any], app: CashierApp) -> None:
        self.pilot, self.app, self.desk = pilot, app, app.desk

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def types(self, text: str) -> None:
        await self.pilot.press(*("full_stop" if key == "." else key for key in text))

    async def phase(self, phase: Phase) -> None:
        await until(self.pilot, lambda: self.desk.phase is phase, f"{phase} after {self.desk.phase}")

    async def sees(self, words: str) -> None:
        await until(self.pilot, lambda: self.shows(words), f"{words!r} on the screen")

    def shows(self, words: str) -> bool:
        """Words that are read from afar stand with air between their letters."""
        return tight(words) in tight(self.screen)

    async def at(self, kind: type[object]) -> None:
        await until(self.pilot, lambda: isinstance(self.app.screen, kind), kind.__name__)

    async def settled(self) -> None:
        """The card is gone, and the station takes the next task."""
        free = self.app.playground._hand if self.app.playground is not None else None
        await until(self.pilot, lambda: self.desk._settled and (free is None or free.free), "settled")

    async def sells(self, amount: str, card: int, phase: Phase = Phase.RESULT) -> None:
        await self.settled()
        await self.types(amount)
        await self.press("enter")
        await self.phase(Phase.CARD)
        await self.press(str(card))
        await self.phase(phase)

    async def answers(self, kind: type[object], text: str) -> None:
        """Types a line into the dialog that is open, in the place of what stands there."""
        await self.at(kind)
        self.app.screen.query_one("#line", Input).value = text
        await self.press("enter")

    @property
    def screen(self) -> str:
        return shown(self.app)

    @property
    def unresolved(self) -> int:
        return len(self.app.backing.session.journal.unresolved())


def tight(text: str) -> str:
    return "".join(text.split())


def works(
    app: CashierApp, script: Callable[[Cashier], Awaitable[None]], size: tuple[int, int] = (80, 24)
) -> None:
    drive(app, lambda pilot: script(Cashier(pilot, app)), size)


# ---------------------------------------------------------------------------------------------- selling


def test_cards_of_every_kind_get_their_result_in_place(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.sells("12.50", ADULT)
        await cashier.sees("Approved")
        await cashier.sees("Balance left: CNY 187.50")
        await cashier.sells("5", EMPTY)
        await cashier.sees("CNY 5.00 is missing")
        await cashier.settled()
        await cashier.press("enter")  # the same amount with another card
        await cashier.phase(Phase.CARD)
        await cashier.press(str(BLOCKED))
        await cashier.phase(Phase.RESULT)
        await cashier.sees("blocked")
        for card, words in ((FOREIGN, "another scheme"), (DENIED, "denylist")):
            await cashier.sells("1", card)
            await cashier.sees(words)
        await cashier.settled()
        await cashier.types("2")
        await cashier.press("enter", "0")
        await cashier.sees("One card only")
        await cashier.phase(Phase.CARD)
        assert cashier.unresolved == 0
        assert isinstance(cashier.app.screen, TillScreen), "every result stood in the same place"

    with till_of(world) as app:
        works(app, script)


def test_bad_amounts_pastes_and_a_window_that_shrinks(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        for typed, words in (("0", "is zero"), ("00.00", "is zero"), ("99999999", "21474836.47")):
            await cashier.types(typed)
            await cashier.press("enter")
            await cashier.sees(words)
            assert cashier.desk.entry.text == typed
            await cashier.press("escape")
        await cashier.types("1.234x")
        assert cashier.desk.entry.text == "1.23"
        await cashier.sees("digits and one dot")
        cashier.app.screen.post_message(_paste("12.50 and more"))
        await cashier.sees("is not an amount")
        cashier.app.screen.post_message(_paste("7.25"))
        await until(cashier.pilot, lambda: cashier.desk.entry.text == "7.25")
        await cashier.pilot.resize_terminal(40, 12)
        await cashier.sees("窗口太小")
        await cashier.press("9")
        await cashier.pilot.resize_terminal(120, 40)
        await cashier.sees("Lately at this till")
        assert cashier.desk.entry.text == "7.25", "no key works that nobody sees"
        await cashier.press("f2")
        await cashier.sees("请输入金额")
        assert cashier.desk.entry.text == "7.25"
        await cashier.press("f2")

    with till_of(world) as app:
        works(app, script)


def _paste(text: str) -> Any:
    from textual.events import Paste

    return Paste(text)


def test_the_language_is_switched_in_mid_tap(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        gate, before = threading.Event(), world.session.journal.require_space

        def wait() -> None:
            gate.wait(20)
            before()

        world.session.journal.require_space = wait  # type: ignore[method-assign]
        try:
            await cashier.types("3")
            await cashier.press("enter", str(ADULT))
            await cashier.phase(Phase.HOLD)
            await cashier.press("f2", "9", "enter", "escape", "i", "g", "x")
            assert language() == "zh"
            assert cashier.desk.phase is Phase.HOLD
        finally:
            world.session.journal.require_space = before  # type: ignore[method-assign]
            gate.set()
        await cashier.phase(Phase.RESULT)
        await cashier.sees("已批准")
        assert cashier.desk.entry.text == ""

    with till_of(world) as app:
        works(app, script)


def test_the_mouse_works_too(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.types("4")
        await _click(cashier, "Enter ask card")
        await cashier.phase(Phase.CARD)
        await _click(cashier, "1 adult")
        await cashier.phase(Phase.RESULT)
        await cashier.settled()
        await _click(cashier, "history")
        await cashier.at(HistoryScreen)
        await cashier.sees("these are all")
        await cashier.pilot.click(offset=(5, 7))
        await cashier.pilot.click(offset=(5, 7))
        await cashier.at(ReceiptScreen)

    with till_of(world) as app:
        works(app, script)


async def _click(cashier: Cashier, words: str) -> None:
    """Clicks on the first place where the words stand."""
    for row, line in enumerate(cashier.screen.splitlines()):
        if words in line:
            await cashier.pilot.click(offset=(line.index(words) + 1, row))
            return
    raise AssertionError(f"{words!r} is not on the screen:\n{cashier.screen}")


# ---------------------------------------------------------------------------------------------- torn


def test_a_torn_tap_is_finished_by_the_same_card_only(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        world.set_tear(TearPlace.AFTER_PAY)
        await cashier.sells("6", ADULT, Phase.TORN)
        await cashier.sees("CNY 6.00")
        assert cashier.unresolved == 1
        await cashier.settled()
        await cashier.press("enter", "escape", "r")
        assert isinstance(cashier.app.screen, TillScreen)
        await cashier.press("2")
        await cashier.sees("another card")
        await cashier.settled()
        await cashier.press(str(ADULT))
        await cashier.phase(Phase.RESULT)
        await cashier.sees("nothing happened twice")
        assert cashier.unresolved == 0

    with till_of(world) as app:
        works(app, script)


def test_a_torn_tap_is_given_up_and_offered_when_the_card_comes_back(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        world.set_tear(TearPlace.AFTER_PAY)
        await cashier.sells("6.66", ADULT, Phase.TORN)
        await cashier.settled()
        await cashier.press("g")
        await cashier.at(Choose)
        await cashier.press("down", "enter")
        await cashier.phase(Phase.RESULT)
        await cashier.sees("CNY 6.66 is given up")
        (row,) = [each for each in _rows(world) if each.sale and each.sale.amount_fen == 666]
        assert row.sale is not None
        assert (row.sale.state, row.sale.reason) == (SaleState.GIVEN_UP, "The card can't be read any more")
        await cashier.press("i")
        await cashier.phase(Phase.CARD)
        await cashier.press(str(ADULT))
        await cashier.at(InquiredScreen)
        await cashier.sees("sale given up")
        await cashier.press("escape")
        await cashier.phase(Phase.AMOUNT)
        await cashier.sells("1", ADULT)
        await cashier.sees("had paid CNY 6.66 for a sale that was given up")
        await cashier.sells("1", ADULT)
        await cashier.settled()
        assert not cashier.shows("6.66 for a sale"), "told once"

    with till_of(world) as app:
        works(app, script)


def _rows(world: Playground) -> list[Any]:
    from fleet.history import Walk

    return Walk(world.session.journal).more(1_000, look_at=10_000).rows


def test_leaving_in_mid_tap_finishes_the_payment(world: Playground) -> None:
    before = len([row for row in _rows(world) if row.sale.state is SaleState.GRANTED])

    async def script(cashier: Cashier) -> None:
        await cashier.types("1.11")
        await cashier.press("enter", str(ADULT), "ctrl+c")
        await until(cashier.pilot, lambda: cashier.app._exit, "the program ends")

    with till_of(world) as app:
        works(app, script)
        assert app.return_code in (0, None)
        assert app.return_value == 0
    granted = [row for row in _rows(world) if row.sale.state is SaleState.GRANTED]
    unresolved = world.session.journal.unresolved()
    assert unresolved == []
    assert len(granted) in (before, before + 1), "finished, or cleanly not begun"
    assert all(row.sale.state is not SaleState.OPEN for row in _rows(world))


def test_a_sale_that_was_open_when_the_power_went_comes_first(world: Playground) -> None:
    async def tear(cashier: Cashier) -> None:
        world.set_tear(TearPlace.AFTER_PAY)
        await cashier.sells("2.22", ADULT, Phase.TORN)

    async def come_back(cashier: Cashier) -> None:
        assert cashier.desk.phase is Phase.TORN
        await cashier.sees("open when this terminal stopped")
        await cashier.sees("CNY 2.22")
        await cashier.press(str(ADULT))
        await cashier.phase(Phase.RESULT)
        assert cashier.unresolved == 0

    for script in (tear, come_back):
        with till_of(world) as app:
            works(app, script)


class _Unplugged:
    """A reader whose plug is pulled in the middle of the payment, once; a moment later it is back."""

    def __init__(self, world: Playground) -> None:
        self._field = world.field
        self.reader = world.field.reader
        self.modelled_ms = world.field.modelled_ms
        self.pulled = self.gone = 0

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        if self.gone:
            self.gone -= 1
            raise ReaderGone("the reader is gone; plug it in again")
        return _PulledLink(self._field.wait_for_card(timeout_s), self)


class _PulledLink(LinkProcessor):
    def __init__(self, inner: CardLink, field: _Unplugged) -> None:
        super().__init__(inner)
        self._field = field

    def transmit(self, command: bytes) -> bytes:
        reply = super().transmit(command)
        if command[1] == INS_PAY and not self._field.pulled:
            self._field.pulled, self._field.gone = 1, 2
            raise ReaderGone("the reader is gone; plug it in again")
        return reply


def test_a_reader_unplugged_in_mid_tap_leaves_a_sale_that_the_same_card_finishes(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.sells("3.33", ADULT, Phase.TORN)
        await cashier.sees("plug it in again")
        await cashier.settled()
        await until(cashier.pilot, lambda: not field.gone and cashier.app.station.status().reader.ok, "well")
        await cashier.press(str(ADULT))
        await cashier.phase(Phase.RESULT)
        await cashier.sees("nothing happened twice")

    field = _Unplugged(world)
    with till_of(world, field=field) as app:
        works(app, script)


def test_a_full_disk_is_told_and_no_card_is_asked(world: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(cashier: Cashier) -> None:
        monkeypatch.setattr(world.session.journal, "_free", lambda _folder: 0)
        await cashier.sells("1", ADULT)
        await cashier.sees("full")
        assert not cashier.shows("Approved")
        monkeypatch.undo()
        await cashier.sells("1", ADULT)
        await cashier.sees("Approved")

    with till_of(world) as app:
        works(app, script)


# ---------------------------------------------------------------------------------------------- PIN


def test_a_pin_wrong_and_then_right(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.sells("600", WITH_PIN, Phase.PIN)
        await cashier.types("1111")
        await cashier.sees("●●●●")
        await cashier.press("enter")
        await cashier.sees("Tries left: 2")
        await cashier.types(PIN)
        assert PIN not in "".join(line for line in cashier.screen.splitlines() if "SIMULATED" not in line)
        await cashier.press("enter")
        await cashier.phase(Phase.RESULT)
        await cashier.sees("Approved")

    with till_of(world) as app:
        works(app, script)


# ---------------------------------------------------------------------------------------------- refunds


def test_refunds_from_the_card_and_by_the_receipt(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.sells("20", ADULT)
        number = world.session.journal.sale(cashier.desk.past[0].tap.sale.reference).transaction  # type: ignore[union-attr]
        await cashier.settled()
        await cashier.press("r")
        await cashier.at(Choose)
        await cashier.press("enter")
        await cashier.phase(Phase.CARD)
        await cashier.press(str(ADULT))
        await cashier.at(InquiredScreen)
        await cashier.sees("20.00")
        await cashier.settled()
        await cashier.press("r")
        await cashier.answers(LineOfText, "5")
        await cashier.phase(Phase.CARD)
        await cashier.press(str(ADULT))
        await cashier.phase(Phase.RESULT)
        await cashier.sees("Refunded")
        await cashier.settled()
        await cashier.press("r")
        await cashier.at(Choose)
        await cashier.press("down", "enter")
        await cashier.answers(LineOfText, "999999999")
        await cashier.sees("this till has no such receipt; history lists the last")
        await cashier.press("r")
        await cashier.at(Choose)
        await cashier.press("down", "enter")
        await cashier.answers(LineOfText, str(number))
        await cashier.sees("CNY 20.00")
        await cashier.answers(LineOfText, "15.01")
        await cashier.phase(Phase.CARD)
        await cashier.press("2")
        await cashier.sees("not the card that paid")
        await cashier.settled()
        await cashier.press(str(ADULT))
        await cashier.phase(Phase.RESULT)
        await cashier.sees("15.00 is left")

    with till_of(world) as app:
        works(app, script)


def test_a_torn_refund_goes_on_with_the_same_card(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.sells("9", ADULT)
        await cashier.settled()
        await cashier.press("h")
        await cashier.at(HistoryScreen)
        await cashier.sees("9.00")
        await cashier.press("enter")
        await cashier.at(ReceiptScreen)
        await cashier.press("r")
        await cashier.at(LineOfText)
        await cashier.press("enter")
        await cashier.phase(Phase.CARD)
        world.set_tear(TearPlace.AFTER_PAY)
        await cashier.press(str(ADULT))
        await cashier.phase(Phase.TORN)
        await cashier.settled()
        await cashier.press(str(ADULT))
        await cashier.phase(Phase.RESULT)
        await cashier.sees("Refunded")
        assert cashier.unresolved == 0

    with till_of(world) as app:
        works(app, script)


# ---------------------------------------------------------------------------------------------- history


def test_history_receipts_and_a_printer_that_is_off(world: Playground, tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        off = f"tcp:127.0.0.1:{closed.getsockname()[1]}"

    async def script(cashier: Cashier) -> None:
        await cashier.sells("77.01", ADULT)
        await cashier.settled()
        await cashier.types("8")  # an amount that is half typed waits until one comes back
        await cashier.press("h")
        await cashier.at(HistoryScreen)
        await cashier.press("slash")
        await cashier.answers(LineOfText, "77.01")
        await cashier.sees("1 rows; these are all")
        await cashier.sees("↑ waits")
        await cashier.press("f")
        await cashier.sees("Shown: Unfinished")
        await cashier.sees("There is none")
        await cashier.press("f")
        await cashier.sees("Shown: Waiting to be sent")
        await cashier.sees("77.01 ")
        await cashier.press("left", "left", "f2")
        await cashier.sees("显示：全部")
        await cashier.press("f2", "enter")
        await cashier.at(ReceiptScreen)
        await cashier.sees("CNY 77.01")
        await cashier.press("p")
        await cashier.answers(LineOfText, off)
        await cashier.at(Choose)
        await cashier.sees("nothing is lost")
        await cashier.press("down", "enter")
        await cashier.answers(LineOfText, f"file:{paper}")
        await cashier.sees("is printed, marked as a copy")
        await cashier.press("escape", "escape")
        await cashier.at(TillScreen)
        assert cashier.desk.entry.text == "8"

    with till_of(world) as app:
        works(app, script)
    printed = paper.read_bytes().decode("gb18030")
    assert "CNY 77.01" in printed
    assert "COPY" in printed


def test_a_card_is_taken_while_the_history_is_open(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.settled()
        await cashier.types("4.44")
        await cashier.press("enter", "h")
        await cashier.at(HistoryScreen)
        await cashier.press(str(ADULT))
        await cashier.sees("✓  Approved  CNY 4.44")
        await cashier.press("escape")
        await cashier.sees("Approved")
        await cashier.press("p")
        await cashier.at(LineOfText)
        await cashier.press("escape")

    with till_of(world) as app:
        works(app, script)


# ---------------------------------------------------------------------------------------------- shift


def test_a_shift_from_cash_in_to_a_close_with_a_difference_and_a_queue(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.sells("2", ADULT)
        await cashier.settled()
        await cashier.press("s")
        await cashier.at(ShiftScreen)
        await cashier.sees("X REPORT")
        held_fen = cashier.app.shifts.current.expected_fen  # type: ignore[union-attr]
        await cashier.press("i")
        await cashier.answers(LineOfText, "50")
        await cashier.answers(LineOfText, "coins")
        await cashier.sees(f"hold CNY {(held_fen + 5000) / 100:.2f}")
        await cashier.press("u")
        await cashier.answers(LineOfText, "99999")
        await cashier.answers(LineOfText, "bank")
        await cashier.sees("more than the drawer can hold")
        await cashier.press("z")
        await cashier.sees("not sent yet")
        await cashier.answers(LineOfText, "1")
        await cashier.answers(LineOfText, "Wang")
        await cashier.press("enter")
        await cashier.sees("is missing in the drawer")
        await cashier.answers(LineOfText, "stolen")
        await cashier.sees("Z REPORT")
        assert not cashier.shows("Signature")
        await cashier.press("end")
        await cashier.sees("Signature")  # the end of a report that is longer than the window
        assert cashier.app.shifts.current is None
        (report,) = cashier.app.shifts.past(1)
        assert report.closing is not None
        assert (report.closing.who, report.closing.difference_reason) == ("Wang", "stolen")
        assert report.unsynced.payments.count > 0
        await cashier.press("o")
        await cashier.answers(LineOfText, "Li")
        await cashier.answers(LineOfText, "0")
        await cashier.sees("opened by Li")

    with till_of(world) as app:
        works(app, script)


def test_a_blind_count_tells_no_figure_and_nothing_is_sold_without_a_shift(world: Playground) -> None:
    async def script(cashier: Cashier) -> None:
        shifts = cashier.app.shifts
        shifts._required = shifts._found.blind = True  # type: ignore[union-attr]
        held_fen = shifts.current.expected_fen  # type: ignore[union-attr]
        await cashier.press("s")
        await cashier.sees("X REPORT")
        assert not cashier.shows("has to hold")
        assert not cashier.shows("Expected")
        await cashier.press("z")
        await cashier.answers(LineOfText, f"{held_fen // 100 + 7}.00")
        await cashier.answers(LineOfText, "Li")
        await cashier.press("enter")
        await cashier.sees("the count differs from the books".capitalize())
        assert not cashier.shows("7.00 too much")
        await cashier.answers(LineOfText, "tip")
        await cashier.sees("Z REPORT")
        await cashier.press("escape")
        await cashier.types("5")
        await cashier.press("enter")
        await cashier.sees("press S")
        await cashier.press("s", "o")
        await cashier.answers(LineOfText, "Li")
        await cashier.answers(LineOfText, "200")
        await cashier.sees("opened by Li")
        await cashier.press("escape", "enter")
        await cashier.phase(Phase.CARD)

    with till_of(world) as app:
        works(app, script)


# ---------------------------------------------------------------------------------------------- files


def test_export_and_denylist_import(world: Playground, tmp_path: Path) -> None:
    out, bad, good = tmp_path / "out", tmp_path / "bad", tmp_path / "good"
    bad.write_bytes(b"no denylist")
    (held,) = Path(world.session.folder.path).glob("denylist-*.bin")
    good.write_bytes(_delisted(world))

    async def script(cashier: Cashier) -> None:
        await cashier.sells("1", ADULT)
        await cashier.settled()
        await cashier.press("e")
        await cashier.answers(LineOfText, str(out))
        await cashier.sees("uploads are in")
        await cashier.press("e")
        await cashier.answers(LineOfText, str(bad))
        await cashier.sees("is no export")
        version = world.session.denylists.held[0].version
        await cashier.press("d")
        await cashier.answers(LineOfText, str(bad))
        await cashier.sees("denylist")
        assert world.session.denylists.held[0].version == version
        await cashier.press("d")
        await cashier.answers(LineOfText, str(tmp_path / "missing"))
        await cashier.sees("check the path")
        await cashier.press("d")
        await cashier.answers(LineOfText, str(good))
        await cashier.sees(f"Denylist {version + 1} is held now")

    with till_of(world) as app:
        works(app, script)
    assert len(read_export(out)) == 1
    assert bad.read_bytes() == b"no denylist"
    assert held.exists()


def _delisted(world: Playground) -> bytes:
    """The issuer's next list."""
    from hardwallet.issuing import open_scheme

    inside = world._world
    with open_scheme(inside.scheme_folder, inside.passphrase, inside.entropy) as scheme:
        issuer = world.session.denylists.held[0].operator
        scheme.publish_denylist([issuer + bytes(3) + b"\x77"], (), inside.clock())
        return scheme.denylist(inside.clock())


def test_forward_now_with_clearing_down_and_up_and_a_pin_wrong_three_times() -> None:
    async def script(cashier: Cashier) -> None:
        await cashier.sells("600", WITH_PIN, Phase.PIN)
        for left in (2, 1):
            await cashier.types("1111")
            await cashier.press("enter")
            await cashier.sees(f"Tries left: {left}")
        await cashier.types("1111")
        await cashier.press("enter")
        await cashier.phase(Phase.RESULT)
        await cashier.sees("locked")
        assert cashier.unresolved == 0
        await until(cashier.pilot, lambda: cashier.app.station.status().network.name == "ONLINE", "online")
        await cashier.press("f7")
        await cashier.sells("5", ADULT)
        await cashier.settled()
        await cashier.press("f5")
        notes = cashier.app._notifications
        await until(cashier.pilot, lambda: any("Not sent" in note.message for note in notes), "told")
        await cashier.sees("1 to send")
        await cashier.press("f7", "f5")
        await cashier.sees("Nothing to send")
        await cashier.press("h")
        await cashier.at(HistoryScreen)
        await cashier.sees("✓ received")
        assert re.search(r"5\.00 +paid", cashier.screen)

    with open_playground("cashier") as world, till_of(_quick(world)) as app:
        works(app, script)
