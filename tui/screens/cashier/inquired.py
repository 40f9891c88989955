""" "Did I pay?": what a card shows, and what this till knows of it. Nothing was taken."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.widgets import DataTable

from fleet.station_events import Asked, Event
from hardwallet.records import PAYMENT
from pos_terminal.inquiry import Inquiry, Line
from tui.screens.cashier import phrases
from tui.screens.cashier.desk import Phase
from tui.screens.cashier.jobs import Payment
from tui.screens.cashier.screen import PageScreen, back_sentence, back_word
from tui.screens.cashier.till import TillScreen
from tui.screens.keys import Key, bindings
from tui.screens.words import Words
from tui.text import say


def _keys() -> tuple[Key, ...]:
    return (
        Key("escape", "Esc", "close", back_word, back_sentence),
        Key(
            "r,R,enter",
            "R",
            "refund",
            # fits: 12
            lambda: say("refund"),
            lambda: say("Give this payment back to its card, all or a part of it."),
        ),
    )


class InquiredScreen(PageScreen):
    """Balance and last payments of the card that was just here."""

    KEYS: ClassVar[tuple[Key, ...]] = _keys()
    BINDINGS = bindings(KEYS)

    def __init__(self, till_screen: TillScreen) -> None:
        super().__init__()
        self._till_screen = till_screen
        self._found: Inquiry | None = till_screen.desk.inquiry

    def body(self) -> ComposeResult:
        """What is told of the card, and its records."""
        yield from super().body()
        yield Words(self._sentences, id="figures")
        table: DataTable[str] = DataTable(cursor_type="row", id="rows")
        yield table
        yield Words(self._footing, id="footing")

    def on_mount(self) -> None:
        """The newest record is chosen."""
        self.query_one(DataTable).focus()

    def _sentences(self) -> str:
        return "\n".join(phrases.inquiry_sentences(self._found)) if self._found is not None else ""

    def _footing(self) -> str:
        line = self.chosen
        return phrases.line_sentence(line) if line is not None else ""

    def reword(self) -> None:
        """Says everything anew."""
        table: DataTable[str] = self.query_one("#rows", DataTable)
        chosen = table.cursor_row
        table.clear(columns=True)
        for head, width in zip(phrases.line_heads(), phrases.LINE_COLUMNS, strict=True):
            table.add_column(head, width=width)
        for line in self._lines:
            table.add_row(*phrases.line_cells(line))
        table.move_cursor(row=min(chosen, max(0, table.row_count - 1)))

    @property
    def _lines(self) -> list[Line]:
        return self._found.lines if self._found is not None else []

    def on_station(self, event: Event) -> None:
        """Another card was asked meanwhile: it is shown."""
        super().on_station(event)
        if isinstance(event, Asked):
            self._found = event.inquiry
            self.query_one("#figures", Words).reword()
            self.reword()

    @property
    def chosen(self) -> Line | None:
        """The record under the cursor."""
        place = self.query_one("#rows", DataTable).cursor_row
        return self._lines[place] if 0 <= place < len(self._lines) else None

    def on_data_table_row_highlighted(self, _event: DataTable.RowHighlighted) -> None:
        """What is known of this one, and whether it can be refunded."""
        self.query_one("#footing", Words).reword()
        self.till.refresh_keys()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter, or a click on the row that is chosen."""
        event.stop()
        if self.check_action("refund", ()):
            self.action_refund()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Only a payment to this shop can go back."""
        if action != "refund" or not self.is_mounted:
            return True
        line, own = self.chosen, self.till.backing.session.folder.identity.certificate.payee
        return (
            line is not None
            and line.record.kind == PAYMENT
            and line.record.payee == own
            and not self.desk.is_torn
        )

    def action_refund(self) -> None:
        """R"""
        line = self.chosen
        if line is not None:
            self.action_close()
            record = line.record
            self._till_screen.refund_payment(Payment(record.card, record.sequence, record.amount_fen))

    def action_close(self) -> None:
        """Back to the amount, or to the sale that is open."""
        if self.desk.phase is Phase.ASKED:
            self.desk.leave_inquiry()
        self.dismiss()
