"""A receipt as it would be printed, and what has become of its sale."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from fleet.history import Row
from pos_terminal.sale import SaleState
from tui.screens.cashier import phrases
from tui.screens.cashier.history import may_go_back, payment_of
from tui.screens.cashier.paper import print_receipt
from tui.screens.cashier.screen import PageScreen, back_sentence, back_word
from tui.screens.cashier.till import TillScreen
from tui.screens.keys import Key, bindings
from tui.screens.words import Words
from tui.text import say


def _keys() -> tuple[Key, ...]:
    return (
        Key("escape,enter", "Esc", "close", back_word, back_sentence),
        Key(
            "p,P",
            "P",
            "print",
            # fits: 12
            lambda: say("print"),
            lambda: say("Print this receipt; it is marked as a copy."),
        ),
        Key(
            "r,R",
            "R",
            "refund",
            # fits: 12
            lambda: say("refund"),
            lambda: say("Give this payment back to its card, all or a part of it."),
        ),
    )


class ReceiptScreen(PageScreen):
    """One row of the history, in full."""

    KEYS: ClassVar[tuple[Key, ...]] = _keys()
    BINDINGS = bindings(KEYS)

    def __init__(self, row: Row, till_screen: TillScreen) -> None:
        super().__init__()
        self._row, self._till_screen = row, till_screen

    def body(self) -> ComposeResult:
        """What became of it, and the paper."""
        yield from super().body()
        yield Words(self._heading, id="heading")
        with VerticalScroll(id="sheet"):
            yield Words(self._text, id="paper")
        yield Words(lambda: "", id="footing")

    def _heading(self) -> str:
        words = (phrases.state_word(self._row), phrases.queue_word(self._row.queue))
        return "  ".join(word for word in words if word)

    def _text(self) -> str:
        row = self._row
        lines = phrases.row_sentences(row)
        if row.record is not None:
            state = row.sale.state if row.sale is not None else SaleState.GRANTED
            lines = [self.till.jobs.receipt_text(row.record, state), *lines]
        elif row.sale is not None:
            lines = [phrases.sale_words(row.sale), *lines]
        return "\n".join(lines)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Only what has a receipt can be printed, and only a payment be refunded."""
        if action == "print":
            return self._row.record is not None
        return action != "refund" or (may_go_back(self._row) and not self.desk.is_torn)

    def action_print(self) -> None:
        """P"""
        row = self._row
        if row.record is not None:
            state = row.sale.state if row.sale is not None else SaleState.GRANTED
            print_receipt(self.till, row.record, self._told, state=state, again=True)

    def _told(self, sentence: phrases.Say) -> None:
        if self.is_open:
            self.query_one("#footing", Words).become(sentence)

    def action_refund(self) -> None:
        """R: back to the till, which asks how much."""
        while self.app.screen is not self._till_screen and len(self.app.screen_stack) > 1:
            self.app.pop_screen()
        self._till_screen.refund_payment(payment_of(self._row))
