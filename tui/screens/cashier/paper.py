"""Printing, in a worker: a printer that is off is told in words, and printing can be tried again."""

from collections.abc import Callable

from hardwallet.records import Record
from pos_terminal.errors import BadPrinterUri
from pos_terminal.printing import open_printer
from pos_terminal.sale import SaleState
from tui.screens.cashier.app import CashierApp
from tui.screens.cashier.asking import LONGEST_PATH
from tui.screens.widgets.dialogs import Choose, LineOfText
from tui.text import say, told

Say = Callable[[], str]
Tell = Callable[[Say], None]


def print_receipt(
    app: CashierApp, record: Record, tell: Tell, *, state: SaleState = SaleState.GRANTED, again: bool = False
) -> None:
    """Prints a receipt, marked as a copy when it is printed `again`."""
    print_slip(app, lambda: app.jobs.print_receipt(record, state, again=again), tell)


def print_slip(app: CashierApp, job: Callable[[], Say], tell: Tell) -> None:
    """Does the job, which prints, once a printer is chosen; what it says goes to `tell`."""

    def failed(sentence: Say) -> None:
        choices = [
            lambda: say("Print it again"),
            lambda: say("Another printer…"),
            lambda: say("Leave it; it can be printed later"),
        ]
        app.push_screen(Choose(sentence, choices), chosen)

    def chosen(place: int | None) -> None:
        if place == 0:
            start()
        elif place == 1:
            _ask_printer(app, start)

    def start() -> None:
        app.work(job, tell, failed, "print")

    if app.jobs.printer:
        start()
    else:
        _ask_printer(app, start)


def _ask_printer(app: CashierApp, start: Callable[[], None]) -> None:
    def typed(text: str | None) -> None:
        if text is not None:
            app.jobs.printer = text
            start()

    app.push_screen(
        LineOfText(
            lambda: say("Print on which printer?"),
            initial=app.jobs.printer,
            wrong=_wrong_printer,
            hint=lambda: say("file:receipts.bin · tcp:192.168.1.50 · serial:/dev/ttyUSB0"),
            most=LONGEST_PATH,
        ),
        typed,
    )


def _wrong_printer(text: str) -> str:
    try:
        open_printer(text)
    except BadPrinterUri as error:
        return told(str(error))
    return ""
