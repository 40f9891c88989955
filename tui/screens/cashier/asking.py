"""Questions of the till that take more than one dialog, each a chain that can be left with Esc."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pos_terminal.errors import BadAmount, TerminalError
from pos_terminal.money import parse_amount
from pos_terminal.refund import Refund
from tui.screens.cashier.amount import plain
from tui.screens.cashier.jobs import Payment, cash_fen
from tui.screens.cashier.phrases import REASONS, card_end
from tui.screens.widgets.dialogs import Choose, LineOfText
from tui.text import say, told, yuan

if TYPE_CHECKING:
    from tui.screens.cashier.app import CashierApp

Say = Callable[[], str]

LONGEST_PATH = 400
LONGEST_REASON = 60


def wrong_amount(text: str) -> str:
    """Why a text is no amount; nothing when it is one."""
    try:
        parse_amount(plain(text))
    except BadAmount as error:
        return told(str(error))
    return ""


def wrong_cash(text: str) -> str:
    """As wrong_amount, but nothing at all may be counted too."""
    try:
        cash_fen(text)
    except BadAmount as error:
        return told(str(error))
    return ""


def sentence_of(error: TerminalError) -> str:
    """An error as a sentence in the language of now."""
    return capital(told(str(error)))


def capital(sentence: str) -> str:
    """The sentence as the first of a paragraph."""
    return sentence[:1].upper() + sentence[1:]


def missing(text: str) -> str:
    """Why nothing typed is not enough."""
    return "" if text.strip() else say("Type something.")


def ask_reason(app: "CashierApp", given: Callable[[str], None]) -> None:
    """Why a sale is given up: one of a few, or in own words."""

    def chosen(place: int | None) -> None:
        if place is None:
            return
        if place < len(REASONS):
            given(REASONS[place]())
            return
        app.push_screen(
            LineOfText(lambda: say("Why is the sale given up?"), wrong=missing, most=LONGEST_REASON), typed
        )

    def typed(text: str | None) -> None:
        if text is not None:
            given(text)

    choices = [*REASONS, lambda: say("Something else…")]
    app.push_screen(Choose(lambda: say("Why is the sale given up?"), choices), chosen)


def ask_refund(app: "CashierApp", payment: Payment, given: Callable[[Refund], None]) -> None:
    """How much of a payment goes back."""

    def typed(text: str | None) -> None:
        if text is not None:
            given(Refund(payment.card, payment.sequence, parse_amount(plain(text))))

    paid_fen = payment.amount_fen
    app.push_screen(
        LineOfText(
            lambda: say("How much goes back to card {card}?", card=card_end(payment.card)),
            initial="" if paid_fen is None else yuan(paid_fen),
            wrong=wrong_amount,
            hint=lambda: (
                say("All or a part of it, like 12.50.")
                if paid_fen is None
                else say("All or a part of CNY {amount}.", amount=yuan(paid_fen))
            ),
        ),
        typed,
    )


def ask_path(app: "CashierApp", title: Say, given: Callable[[str], None], initial: str = "") -> None:
    """The name of a file."""

    def typed(text: str | None) -> None:
        if text is not None:
            given(text)

    app.push_screen(LineOfText(title, initial=initial, wrong=missing, most=LONGEST_PATH), typed)
