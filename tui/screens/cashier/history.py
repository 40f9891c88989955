"""The history: the till's sales, newest first, read in pieces by a worker while one scrolls or searches."""

from dataclasses import dataclass
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.widgets import DataTable

from fleet.history import Piece, Row, Show, Walk, parse_search
from fleet.station_events import Event, StatusChanged
from pos_terminal.sale import SaleState
from tui.screens.cashier import phrases
from tui.screens.cashier.jobs import Payment
from tui.screens.cashier.paper import print_receipt
from tui.screens.cashier.screen import PageScreen, back_sentence, back_word
from tui.screens.cashier.till import TillScreen
from tui.screens.keys import Key, bindings
from tui.screens.widgets.dialogs import Choose, LineOfText
from tui.screens.words import Words
from tui.text import say

PAGE: Final = 50
"""Rows that are read at once."""
MOST: Final = 1_000
"""Rows that the screen holds; what is older is found by a search."""
FRESH: Final = 200
"""A list of so many rows is kept up to date by itself."""
AHEAD: Final = 10
"""Rows before the end at which more are read."""


@dataclass(slots=True)
class _Reading:
    """One walk under way, and how many rows it is to give before it rests."""

    walk: Walk
    wanted: int
    rows: list[Row]
    looked_at: int = 0
    entries: int = 0
    done: bool = False
    busy: bool = False


def _keys() -> tuple[Key, ...]:
    return (
        Key("escape", "Esc", "close", back_word, back_sentence),
        Key(
            "enter",
            "Enter",
            "receipt",
            # fits: 12
            lambda: say("receipt"),
            lambda: say("Show the receipt of this row, and what became of it."),
        ),
        Key(
            "slash",
            "/",
            "search",
            # fits: 12
            lambda: say("search"),
            lambda: say("Search by number, code, amount, or the end of a card's number."),
        ),
        Key(
            "f,F,right",
            "F",
            "next_filter",
            # fits: 12
            lambda: say("filter"),
            lambda: say("Show only some: unfinished, waiting, refused and so on. Left goes back."),
        ),
        Key("left", "←", "last_filter", lambda: "", lambda: say("The filter before."), quiet=True),
        Key(
            "a,A",
            "A",
            "choose_filter",
            # fits: 12
            lambda: say("all filters"),
            lambda: say("Choose a filter from the list of all."),
        ),
        Key(
            "p,P",
            "P",
            "print",
            # fits: 12
            lambda: say("print"),
            lambda: say("Print the receipt of this row; it is marked as a copy."),
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


class HistoryScreen(PageScreen):
    """What was sold, what went back, and how far each is on its way to clearing."""

    KEYS: ClassVar[tuple[Key, ...]] = _keys()
    BINDINGS = bindings(KEYS)

    def __init__(self, till_screen: TillScreen) -> None:
        super().__init__()
        self._till_screen = till_screen
        self._show = Show.ALL
        self._search = ""
        self._reading: _Reading | None = None
        self._stale = False

    def body(self) -> ComposeResult:
        """What is shown, the table, and how much was looked at."""
        yield from super().body()
        yield Words(self._heading, id="heading")
        table: DataTable[str] = DataTable(cursor_type="row", cell_padding=0, id="rows")
        yield table
        yield Words(self._footing, id="footing")

    def on_mount(self) -> None:
        """The newest rows."""
        self.read_anew()
        self.query_one(DataTable).focus()

    def reword(self) -> None:
        """The rows are said anew; the cursor stays on its row."""
        self._draw()

    def on_station(self, event: Event) -> None:
        """What was acknowledged meanwhile loses its mark, as long as the list is short."""
        super().on_station(event)
        reading = self._reading
        if isinstance(event, StatusChanged) and reading is not None and len(reading.rows) <= FRESH:
            self.read_anew(keep=True)

    # ------------------------------------------------------------------ reading

    def read_anew(self, *, keep: bool = False) -> None:
        """From the newest entry on. `keep`: as many rows as there are, once the reading under way is done."""
        before = self._reading
        if keep and before is not None and before.busy:
            self._stale = True
            return
        self._stale = False
        wanted = max(PAGE, len(before.rows)) if keep and before is not None else PAGE
        jobs, search, status = self.till.jobs, parse_search(self._search), self.till.status
        show = self._show

        def began(walk: Walk) -> None:
            if self.is_open and self._show is show and parse_search(self._search) == search:
                reading = _Reading(walk, wanted, [])
                self._go_on(reading, replacing=before if keep else None)

        if not keep:
            self._reading = None
            self._draw()
        self.till.work(lambda: jobs.walk(show, search, status), began, self._failed, "history")

    def _go_on(self, reading: _Reading, replacing: _Reading | None = None) -> None:
        """Another piece. What it replaces stays on the screen until the first rows are there."""
        if replacing is None:
            self._reading = reading
        reading.busy = True
        want = min(PAGE, reading.wanted - len(reading.rows))
        self.till.work(
            lambda: reading.walk.more(want),
            lambda piece: self._came(reading, piece, replacing),
            self._failed,
            "history",
        )

    def _came(self, reading: _Reading, piece: Piece, replacing: _Reading | None) -> None:
        reading.busy = False
        reading.rows += piece.rows
        reading.looked_at, reading.entries, reading.done = piece.looked_at, piece.entries, piece.done
        if not self.is_open or self._reading is not (reading if replacing is None else replacing):
            return  # another filter, or the page was left
        if len(reading.rows) < reading.wanted and not piece.done:
            self._go_on(reading, replacing)
            if replacing is None:
                self._add(piece.rows)
            return
        if replacing is None:
            self._add(piece.rows)
        else:
            self._reading = reading
            if reading.rows != replacing.rows:
                self._draw()
        if self._stale:
            self.read_anew(keep=True)

    def _failed(self, sentence: phrases.Say) -> None:
        if not self.is_open:
            return
        if self._reading is not None:
            self._reading.busy = False
        self.query_one("#footing", Words).become(sentence)

    # ------------------------------------------------------------------ drawing

    def _draw(self) -> None:
        """The whole table, the cursor on the row that it was on."""
        table: DataTable[str] = self.query_one("#rows", DataTable)
        chosen = table.cursor_row
        table.clear(columns=True)
        for head, width in zip(phrases.row_heads(), phrases.ROW_COLUMNS, strict=True):
            table.add_column(f" {head}", width=width + 1)
        if self._reading is not None:
            self._add(self._reading.rows)
            table.move_cursor(row=min(chosen, max(0, table.row_count - 1)))
        self._say_bounds()

    def _add(self, rows: list[Row]) -> None:
        table: DataTable[str] = self.query_one("#rows", DataTable)
        for row in rows:
            table.add_row(*(f" {cell}" for cell in phrases.row_cells(row)))
        self._say_bounds()

    def _say_bounds(self) -> None:
        self.query_one("#heading", Words).reword()
        self.query_one("#footing", Words).become(self._footing)

    def _heading(self) -> str:
        shown = phrases.show_words(self._show)
        if self._search:
            return say("Shown: {filter}. Searched: {text}", filter=shown, text=self._search)
        return say("Shown: {filter}", filter=shown)

    def _footing(self) -> str:
        reading = self._reading
        if reading is None:
            return say("Reading…")
        if not reading.done and reading.busy:
            return say("Reading: {done} of {all} entries.", done=reading.looked_at, all=reading.entries)
        if len(reading.rows) >= MOST:
            return say("The newest {count} rows. Older ones are found by a search: /", count=MOST)
        if not reading.rows:
            return say(
                "There is none. A search takes a number, a code, an amount, the end of a card's number."
            )
        if reading.done:
            return say("{count} rows; these are all.", count=len(reading.rows))
        return say("{count} rows; more come when one scrolls down.", count=len(reading.rows))

    # ------------------------------------------------------------------ keys

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Near the end, more are read."""
        reading = self._reading
        self.till.refresh_keys()
        if (
            reading is None
            or reading.done
            or reading.busy
            or event.cursor_row < len(reading.rows) - AHEAD
            or len(reading.rows) >= MOST
        ):
            return
        reading.wanted = min(MOST, len(reading.rows) + PAGE)
        self._go_on(reading)
        self._say_bounds()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter, or a click on the row that is chosen."""
        event.stop()
        self.action_receipt()

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        rows = self._reading.rows if self._reading is not None else []
        place = self.query_one("#rows", DataTable).cursor_row
        return rows[place] if 0 <= place < len(rows) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Only what has a receipt can be printed, and only a payment be refunded."""
        if action not in ("print", "refund", "receipt") or not self.is_mounted:
            return True
        row = self.chosen
        if action == "receipt" or row is None:
            return row is not None
        if action == "print":
            return row.record is not None
        return may_go_back(row) and not self.desk.is_torn

    def action_receipt(self) -> None:
        """Enter."""
        from tui.screens.cashier.receipt import ReceiptScreen

        row = self.chosen
        if row is not None:
            self.app.push_screen(ReceiptScreen(row, self._till_screen))

    def action_search(self) -> None:
        """/"""

        def typed(text: str | None) -> None:
            if text is not None:
                self._search = text
                self.read_anew()

        self.app.push_screen(
            LineOfText(
                lambda: say("Search the history"),
                initial=self._search,
                hint=lambda: say("A number, a code, an amount, or the end of a card's number. Nothing: all."),
            ),
            typed,
        )

    def action_next_filter(self) -> None:
        """F, →"""
        self._filter(1)

    def action_last_filter(self) -> None:
        """←"""
        self._filter(-1)

    def _filter(self, step: int) -> None:
        shows = list(Show)
        self._show = shows[(shows.index(self._show) + step) % len(shows)]
        self.read_anew()

    def action_choose_filter(self) -> None:
        """A"""
        shows = list(Show)

        def chosen(place: int | None) -> None:
            if place is not None:
                self._show = shows[place]
                self.read_anew()

        choices = [lambda show=show: phrases.show_words(show) for show in shows]
        self.app.push_screen(
            Choose(lambda: say("Which sales are shown?"), choices, shows.index(self._show)), chosen
        )

    def action_print(self) -> None:
        """P"""
        row = self.chosen
        if row is not None and row.record is not None:
            state = row.sale.state if row.sale is not None else SaleState.GRANTED
            print_receipt(self.till, row.record, self._told, state=state, again=True)

    def _told(self, sentence: phrases.Say) -> None:
        if self.is_open:
            self.query_one("#footing", Words).become(sentence)

    def action_refund(self) -> None:
        """R"""
        row = self.chosen
        if row is not None and row.record is not None:
            self.dismiss()
            self._till_screen.refund_payment(payment_of(row))


def may_go_back(row: Row) -> bool:
    """Whether a row is a payment that was granted, of which something is left."""
    sale = row.sale
    return (
        sale is not None
        and row.record is not None
        and not row.is_refund
        and sale.state is SaleState.GRANTED
        and row.refunded_fen < sale.amount_fen
    )


def payment_of(row: Row) -> Payment:
    """A row as what may be refunded: what is left of it."""
    if row.record is None:
        raise ValueError("a row without a record")
    return Payment(row.record.card, row.record.sequence, row.record.amount_fen - row.refunded_fen)
