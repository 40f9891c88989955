"""The till line by line: an amount is typed, a line says what happens. The same desk as the screen's.

An amount by itself asks for the card: `12.50`. Everything else is a command, in English or Chinese.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from fleet.history import Row, Show, parse_search
from fleet.station import Asked, Decided, Done, Event
from pos_terminal.errors import DifferenceUnexplained
from pos_terminal.money import parse_amount
from pos_terminal.refund import Refund
from pos_terminal.shift import ShiftReport
from tui.errors import BadUsage
from tui.plain.loop import Command, Face, Loop
from tui.screens.cashier import phrases
from tui.screens.cashier.amount import plain
from tui.screens.cashier.desk import Desk, Phase
from tui.screens.cashier.jobs import Jobs, cash_fen, open_shifts
from tui.screens.cashier.view import view_of
from tui.text import say, table, told, yuan

SHOWN: Final = 20
"""Rows of the history that are said at once."""


@contextmanager
def open_till(loop: Loop) -> Iterator["TillFace"]:
    """The till behind the lines. Raises StoreBusy, StoreFailed, ShiftError, JournalError."""
    with open_shifts(loop.backing) as shifts:
        jobs = Jobs(loop.backing.session, shifts)
        yield TillFace(loop, Desk(loop.station, loop.backing.session, shifts), jobs)


class TillFace(Face):
    """What a cashier types, and what is said."""

    def __init__(self, loop: Loop, desk: Desk, jobs: Jobs) -> None:
        super().__init__(loop)
        self.desk, self.jobs = desk, jobs
        self._rows: list[Row] = []

    # ------------------------------------------------------------------ what is said

    def greeting(self) -> Iterable[str]:
        """What was open when the terminal stopped comes first."""
        self.desk.begin()
        yield say("Type an amount like 12.50, then present the card.")
        if self.desk.is_torn:
            yield from self._view()

    def on_station(self, event: Event) -> Iterable[str]:
        """Results, in whole sentences."""
        self.desk.take(event)
        match event:
            case Asked(inquiry):
                self.desk.leave_inquiry()
                heads = phrases.line_heads()
                yield from phrases.inquiry_sentences(inquiry)
                if inquiry.lines:
                    yield from table(heads, map(phrases.line_cells, inquiry.lines), right=(3,))
                if self.desk.is_torn:
                    yield from self._view()
            case Decided():
                yield from self._view()
            case Done(_, tap) if tap.carried and tap.sale is not None:
                late = self.jobs.came_late(tap.sale.card)
                if late is not None:
                    yield late()
            case _:
                pass

    def _view(self) -> Iterable[str]:
        view = view_of(self.desk)
        yield view.headline
        yield from view.lines
        if self.desk.types_pin:
            yield say("Type pin, and the PIN in the line after it.")
        elif self.desk.is_torn:
            yield say("If the card does not come back, type give-up and the reason.")

    def _heard(self) -> Iterable[str]:
        """What the desk answers to a key: a problem, or what stands."""
        if self.desk.phase in (Phase.CARD, Phase.HOLD) and self.desk.tap is None:
            return ()
        return self._view()

    # ------------------------------------------------------------------ commands

    def commands(self) -> Sequence[Command]:
        """An amount is none of them: `other` takes it."""
        return [
            Command(
                ("pay", "付款"),
                lambda: say("pay AMOUNT, or AMOUNT"),
                lambda: say("Ask for the card for this amount."),
                self._pay,
            ),
            Command(
                ("cancel", "取消"),
                lambda: say("cancel"),
                lambda: say("Ask for no card any more."),
                self._cancel,
            ),
            Command(
                ("pin", "密码"),
                lambda: say("pin"),
                lambda: say("Type the PIN in the next line, unseen."),
                self._pin,
            ),
            Command(
                ("check", "查询"),
                lambda: say("check"),
                lambda: say('"Did I pay?": the next card shows what it paid. Nothing is taken.'),
                self._ask,
            ),
            Command(
                ("refund", "退款"),
                lambda: say("refund AMOUNT PAYMENT"),
                lambda: say("Give back a payment, by its number, its code or CARD:SEQUENCE."),
                self._refund,
            ),
            Command(
                ("give-up", "放弃"),
                lambda: say("give-up REASON"),
                lambda: say("Give up the sale whose card left and does not come back."),
                self._give_up,
            ),
            Command(
                ("history", "历史"),
                lambda: say("history [FILTER] [SEARCH]"),
                lambda: say("The newest sales; filters are words such as unfinished, queued, refunds."),
                self._history,
            ),
            Command(
                ("receipt", "凭证"),
                lambda: say("receipt NUMBER"),
                lambda: say("Show the receipt of a sale."),
                self._receipt,
            ),
            Command(
                ("print", "打印"),
                lambda: say("print [NUMBER]"),
                lambda: say("Print a receipt; without a number, the last one."),
                self._print,
            ),
            Command(
                ("printer", "打印机"),
                lambda: say("printer NAME"),
                lambda: say("Print there: file:PATH, tcp:HOST or serial:PATH."),
                self._printer,
            ),
            Command(
                ("shift", "班次"),
                lambda: say("shift [open FLOAT NAME | in AMOUNT REASON | out AMOUNT REASON | close COUNTED]"),
                lambda: say("Read the shift (X), or change it; close COUNTED REASON where it differs."),
                self._shift,
            ),
            Command(
                ("export", "导出"),
                lambda: say("export FILE"),
                lambda: say("Write what waits to a file."),
                lambda rest: [self.jobs.export(rest)()],
            ),
            Command(
                ("denylist", "黑名单"),
                lambda: say("denylist FILE"),
                lambda: say("Take a denylist from a file."),
                lambda rest: [self.jobs.take_denylist(rest)()],
            ),
        ]

    def other(self, line: str) -> Iterable[str]:
        """An amount by itself asks for the card."""
        return self._pay(line) if plain(line)[:1].isdigit() else super().other(line)

    def _pay(self, rest: str) -> Iterable[str]:
        desk = self.desk
        desk.paste(rest)
        if (desk.phase is Phase.AMOUNT and not desk.entry.problem) or desk.is_torn:
            desk.enter()
        return self._heard()

    def _cancel(self, _rest: str) -> Iterable[str]:
        self.desk.cancel()
        if self.desk.phase is Phase.AMOUNT:
            return [say("No card is asked for.")]
        return self._heard()

    def _pin(self, _rest: str) -> Iterable[str]:
        if not self.desk.types_pin:
            return [say("No PIN is asked for.")]
        self.loop.ask_secret(self._take_pin)
        return [say("PIN:")]

    def _take_pin(self, line: str) -> Iterable[str]:
        for digit in line:
            self.desk.type(digit)
        self.desk.enter()
        return self._heard() if self.desk.types_pin else ()

    def _ask(self, _rest: str) -> Iterable[str]:
        self.desk.ask()
        return self._heard()

    def _refund(self, rest: str) -> Iterable[str]:
        amount, _, wanted = rest.partition(" ")
        if not wanted.strip():
            raise BadUsage(say("write the amount and the payment, as in: refund 5.00 17"))
        amount_fen = parse_amount(plain(amount))
        payment = self.jobs.payment(wanted)
        self.desk.give_back(Refund(payment.card, payment.sequence, amount_fen))
        return self._heard()

    def _give_up(self, rest: str) -> Iterable[str]:
        if not self.desk.is_torn:
            return [say("No sale is unfinished.")]
        if not rest:
            raise BadUsage(say("write the reason, as in: give-up the customer left"))
        self.desk.give_up(rest)
        self.desk.was_given_up(rest)
        return self._view()

    # ------------------------------------------------------------------ history and paper

    def _history(self, rest: str) -> Iterable[str]:
        word, _, search = rest.partition(" ")
        shows = {show.value.replace(",", "").replace(" ", "-"): show for show in Show}
        shows |= {phrases.show_words(show): show for show in Show}
        show = shows.get(word)
        if show is None:
            show, search = Show.ALL, rest
        rows = self._read(show, search, SHOWN)
        if not rows:
            return [say("There is none. Filters: {all}", all=", ".join(shows))]
        return table(phrases.row_heads(), map(phrases.row_cells, rows), right=(2,))

    def _read(self, show: Show, search: str, count: int) -> list[Row]:
        walk = self.jobs.walk(show, parse_search(search), self.loop.status)
        rows: list[Row] = []
        while True:
            piece = walk.more(count - len(rows))
            rows += piece.rows
            if piece.done or len(rows) >= count or not self.loop.breathe():
                return rows

    def _row(self, rest: str) -> Row:
        """The sale with that number."""
        for row in self._read(Show.ALL, rest, SHOWN) if rest else ():
            if row.sale is not None and (rest == str(row.sale.transaction) or row.record is not None):
                return row
        raise BadUsage(say("this till has no such receipt; history lists the last"))

    def _receipt(self, rest: str) -> Iterable[str]:
        row = self._row(rest)
        if row.record is not None and row.sale is not None:
            yield from self.jobs.receipt_text(row.record, row.sale.state).splitlines()
        yield from phrases.row_sentences(row)

    def _print(self, rest: str) -> Iterable[str]:
        self._want_printer()
        if not rest:
            found = self.desk.printable
            if found is None:
                return [say("There is nothing to print yet.")]
            return [self.jobs.print_receipt(*found, again=False)()]
        row = self._row(rest)
        if row.record is None or row.sale is None:
            return phrases.row_sentences(row)
        return [self.jobs.print_receipt(row.record, row.sale.state, again=True)()]

    def _printer(self, rest: str) -> Iterable[str]:
        self.jobs.choose_printer(rest)
        return [say("Printing goes to {printer}.", printer=rest)]

    def _want_printer(self) -> None:
        if not self.jobs.printer:
            raise BadUsage(say("name the printer first, as in: printer tcp:192.168.1.50"))

    # ------------------------------------------------------------------ the shift

    def _shift(self, rest: str) -> Iterable[str]:
        word, _, arguments = rest.partition(" ")
        does: dict[str, Callable[[str], Iterable[str]]] = {
            "": self._read_shift,
            "x": self._read_shift,
            "open": self._open_shift,
            "in": lambda text: self._move(text, self.jobs.shifts.cash_in),
            "out": lambda text: self._move(text, self.jobs.shifts.cash_out),
            "close": self._close_shift,
            "z": self._close_shift,
        }
        if word not in does:
            raise BadUsage(say("after shift stands open, in, out, close, or nothing"))
        return does[word](arguments.strip())

    def _read_shift(self, _rest: str) -> Iterable[str]:
        return self._report(self.jobs.shifts.read())

    def _report(self, report: ShiftReport) -> list[str]:
        return self.jobs.report_text(report).splitlines()

    def _open_shift(self, rest: str) -> Iterable[str]:
        amount, _, who = rest.partition(" ")
        shift = self.jobs.shifts.open(cash_fen(amount), who)
        return [say("Shift {number} is open.", number=shift.number)]

    def _move(self, rest: str, move: Callable[[int, str, str], object]) -> Iterable[str]:
        amount, _, reason = rest.partition(" ")
        shift = self.jobs.shifts.current
        move(parse_amount(plain(amount)), reason, shift.opened_by if shift is not None else "")
        return [say("Booked: CNY {amount}.", amount=yuan(parse_amount(plain(amount))))]

    def _close_shift(self, rest: str) -> Iterable[str]:
        amount, _, reason = rest.partition(" ")
        shift = self.jobs.shifts.current
        who = shift.opened_by if shift is not None else ""
        try:
            report = self.jobs.shifts.close(cash_fen(amount), "", reason, who)
        except DifferenceUnexplained as error:
            return [
                say("✗ {sentence}", sentence=told(str(error))),
                say("Write it so: shift close {amount} REASON", amount=amount),
            ]
        return self._report(report)
