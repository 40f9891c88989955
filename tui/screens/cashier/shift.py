"""The shift: open with a float, cash in and out, read (X), count and close (Z). Rules: pos_terminal.shift."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from pos_terminal.errors import DifferenceUnexplained
from pos_terminal.money import parse_amount
from pos_terminal.shift import ShiftReport
from tui.screens.cashier import asking
from tui.screens.cashier.amount import plain
from tui.screens.cashier.jobs import cash_fen
from tui.screens.cashier.paper import print_slip
from tui.screens.cashier.screen import PageScreen, back_sentence, back_word
from tui.screens.keys import Key, bindings
from tui.screens.widgets.dialogs import LineOfText
from tui.screens.words import Words
from tui.text import say, told, yuan

Say = Callable[[], str]

LONGEST_NAME = 40
LONGEST_WORDS = 80


def _keys() -> tuple[Key, ...]:
    return (
        Key("escape", "Esc", "close", back_word, back_sentence),
        Key(
            "o,O",
            "O",
            "open",
            # fits: 12
            lambda: say("open"),
            lambda: say("Open a shift with the float that lies in the drawer."),
        ),
        Key(
            "i,I",
            "I",
            "cash_in",
            # fits: 12
            lambda: say("cash in"),
            lambda: say("Cash is put into the drawer, with a reason."),
        ),
        Key(
            "u,U",
            "U",
            "cash_out",
            # fits: 12
            lambda: say("cash out"),
            lambda: say("Cash is taken out of the drawer, with a reason."),
        ),
        Key(
            "x,X",
            "X",
            "read",
            # fits: 12
            lambda: say("X report"),
            lambda: say("Read the shift anew; it goes on."),
        ),
        Key(
            "z,Z",
            "Z",
            "count",
            # fits: 12
            lambda: say("Z, close"),
            lambda: say("Count the drawer and close the shift."),
        ),
        Key(
            "p,P",
            "P",
            "print",
            # fits: 12
            lambda: say("print"),
            lambda: say("Print the report that is shown."),
        ),
        Key(
            "l,L",
            "L",
            "last",
            # fits: 12
            lambda: say("last Z"),
            lambda: say("Show the report of the last shift that was closed."),
        ),
    )


class ShiftScreen(PageScreen):
    """The report of the shift that goes on, or of the last one."""

    KEYS: ClassVar[tuple[Key, ...]] = _keys()
    BINDINGS = bindings(KEYS)

    def __init__(self) -> None:
        super().__init__()
        self._report: ShiftReport | None = None
        self._was_printed = False

    def body(self) -> ComposeResult:
        """What goes on, the report, what was said last."""
        yield from super().body()
        yield Words(self._heading, id="heading")
        with VerticalScroll(id="sheet"):
            yield Words(self._text, id="paper")
        yield Words(lambda: "", id="footing")

    def on_mount(self) -> None:
        """The figures of now."""
        if self.till.shifts.torn:
            self._say(lambda: say("What was written last before a power cut was not kept: check it."))
        self.action_read()

    def _heading(self) -> str:
        shift = self.till.shifts.current
        if self.till.shifts.damage:
            return asking.capital(told(self.till.shifts.damage))
        if shift is None:
            return say("No shift is open. O opens one.")
        if self.till.shifts.blind:
            return say("Shift {number}, opened by {who}", number=shift.number, who=shift.opened_by)
        return say(
            "Shift {number}, opened by {who}; the drawer has to hold CNY {amount}",
            number=shift.number,
            who=shift.opened_by,
            amount=yuan(shift.expected_fen),
        )

    def _text(self) -> str:
        return "" if self._report is None else self.till.jobs.report_text(self._report)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """What can be done with a shift that is open, or with none."""
        is_open = self.till.shifts.current is not None
        if action == "open":
            return not is_open and not self.till.shifts.damage
        if action in ("cash_in", "cash_out", "read", "count"):
            return is_open
        return action != "print" or self._report is not None

    # ------------------------------------------------------------------ reports

    def _show(self, report: ShiftReport | None) -> None:
        if not self.is_open:
            return
        self._report, self._was_printed = report, False
        self.query_one("#heading", Words).reword()
        self.query_one("#paper", Words).reword()
        self.query_one("#sheet", VerticalScroll).scroll_home(animate=False)
        self.till.refresh_keys()

    def _say(self, sentence: Say) -> None:
        if not self.is_open:
            return
        self.query_one("#footing", Words).become(sentence)
        self.till.refresh_keys()

    def action_read(self) -> None:
        """X: changes nothing."""
        if self.till.shifts.current is not None:
            self.till.work(self.till.shifts.read, self._show, self._say, "read")

    def action_last(self) -> None:
        """L"""

        def found(reports: list[ShiftReport]) -> None:
            if reports:
                self._show(reports[0])
            else:
                self._say(lambda: say("No shift was closed yet."))

        self.till.work(lambda: self.till.shifts.past(1), found, self._say, "last")

    def action_print(self) -> None:
        """P"""
        report, again = self._report, self._was_printed
        if report is None:
            return

        def printed(sentence: Say) -> None:
            self._was_printed = True
            self._say(sentence)

        print_slip(self.till, lambda: self.till.jobs.print_report(report, again=again), printed)

    # ------------------------------------------------------------------ changes

    def _ask(self, title: Say, then: Callable[[str], None], **options: object) -> None:
        def typed(text: str | None) -> None:
            if text is not None:
                then(text)

        self.app.push_screen(LineOfText(title, **options), typed)  # type: ignore[arg-type]

    def _changed(self, _shift: object) -> None:
        self._say(lambda: "")
        if self.is_open:
            self.action_read()

    def action_open(self) -> None:
        """O: who, and how much lies in the drawer."""

        def named(who: str) -> None:
            def counted(text: str) -> None:
                float_fen = cash_fen(text)
                self.till.work(
                    lambda: self.till.shifts.open(float_fen, who), self._changed, self._say, "open shift"
                )

            self._ask(
                lambda: say("How much lies in the drawer?"),
                counted,
                wrong=asking.wrong_cash,
                hint=lambda: say("The float, like 200.00; 0 when it is empty."),
            )

        self._ask(lambda: say("Who opens the shift?"), named, wrong=asking.missing, most=LONGEST_NAME)

    def action_cash_in(self) -> None:
        """I"""
        self._move(lambda: say("How much is put into the drawer?"), self.till.shifts.cash_in)

    def action_cash_out(self) -> None:
        """U"""
        self._move(lambda: say("How much is taken out of the drawer?"), self.till.shifts.cash_out)

    def _move(self, title: Say, move: Callable[[int, str, str], object]) -> None:
        shift = self.till.shifts.current
        who = shift.opened_by if shift is not None else ""

        def counted(amount: str) -> None:
            amount_fen = parse_amount(plain(amount))

            def explained(reason: str) -> None:
                self.till.work(lambda: move(amount_fen, reason, who), self._changed, self._say, "move cash")

            self._ask(lambda: say("What for?"), explained, wrong=asking.missing, most=LONGEST_WORDS)

        self._ask(title, counted, wrong=asking.wrong_amount)

    def action_count(self) -> None:
        """Z: how much was counted, who counts, a note; a reason only when it differs."""
        shift = self.till.shifts.current
        if shift is None:
            return
        status = self.till.status

        def waiting() -> str:
            if not status.waiting_count:
                return say("Everything is sent. Count the drawer without the cards' payments.")
            return say(
                "{count} payments, CNY {amount}, are not sent yet: they stay here and are sent later.",
                count=status.waiting_count,
                amount=yuan(status.waiting_fen),
            )

        def counted(text: str) -> None:
            self._ask(
                lambda: say("Who counts?"),
                lambda who: noted(cash_fen(text), who),
                initial=shift.opened_by,
                wrong=asking.missing,
                most=LONGEST_NAME,
            )

        def noted(counted_fen: int, who: str) -> None:
            self._ask(
                lambda: say("A note for the report? Enter alone: none."),
                lambda note: self._close_shift(counted_fen, note, "", who),
                most=LONGEST_WORDS,
            )

        self._ask(lambda: say("How much cash was counted?"), counted, wrong=asking.wrong_cash, hint=waiting)

    def _close_shift(self, counted_fen: int, note: str, reason: str, who: str) -> None:
        """Asks for a reason when the count differs and none is given; else the shift is closed."""

        def close() -> ShiftReport | DifferenceUnexplained:
            try:
                return self.till.shifts.close(counted_fen, note, reason, who)
            except DifferenceUnexplained as error:
                return error

        def closed(result: ShiftReport | DifferenceUnexplained) -> None:
            if isinstance(result, ShiftReport):
                self._show(result)
                self._say(
                    lambda: say("Shift {number} is closed. P prints its report.", number=result.shift.number)
                )
            else:
                self._ask(
                    lambda: asking.sentence_of(result),
                    lambda words: self._close_shift(counted_fen, note, words, who),
                    wrong=asking.missing,
                    most=LONGEST_WORDS,
                )

        self.till.work(close, closed, self._say, "close shift")
