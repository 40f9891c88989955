"""Which sale a tap is for, and what becomes of one that nobody asks for any more.

The one place for these rules: the command line, the screens and a validator without one all ask here.
"""

from collections.abc import Sequence

from hardwallet.records import RETAIL
from pos_terminal.errors import SaleOpen
from pos_terminal.refund import Refund, refund_terms
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from pos_terminal.terminal import Charge, Terminal

_FIRST = "an earlier sale is not finished: present the same card again, or give that sale up first"


def finishes(unresolved: Sequence[Sale], amount_fen: int) -> Sale | None:
    """The unresolved sale that a sale of this amount finishes; None when there is none.

    Raises SaleOpen while anything else is unresolved.
    """
    for sale in unresolved:
        if sale.amount_fen == amount_fen and sale.profile == RETAIL:
            return sale
    if unresolved:
        raise SaleOpen(_FIRST)
    return None


def finishes_refund(unresolved: Sequence[Sale], wanted: Refund | Sale) -> Sale | None:
    """The unresolved refund that this one finishes; None when there is none.

    Raises SaleOpen while anything else is unresolved.
    """
    asked = _terms(wanted)
    for sale in unresolved:
        if sale.profile == REFUND_PROFILE and _terms(sale) == asked:
            return sale
    if unresolved:
        raise SaleOpen(_FIRST)
    return None


def charge_for(terminal: Terminal, amount_fen: int) -> tuple[Sale, bool]:
    """The sale that a retail tap of this amount is for, and whether it finishes one that is unresolved.

    Raises SaleOpen while anything else is unresolved, ClockWrong, JournalError.
    """
    found = finishes(terminal.journal.unresolved(), amount_fen)
    return (found, True) if found is not None else (terminal.new_sale(amount_fen), False)


def refund_for(terminal: Terminal, wanted: Refund | Sale) -> Refund | Sale:
    """What to ask the card for: the unresolved refund of these terms, else a new one.

    Raises SaleOpen while anything else is unresolved.
    """
    found = finishes_refund(terminal.journal.unresolved(), wanted)
    return wanted if found is None else found


def end_sale(terminal: Terminal, charge: Charge | None, reason: str) -> None:
    """A sale that is open when nobody will ask for it again is declined: no card paid anything. One that is
    unresolved stays so. Raises JournalError, ClockWrong."""
    if not isinstance(charge, Sale):
        return
    kept = terminal.journal.sale(charge.reference)
    if kept is not None and kept.state is SaleState.OPEN:
        terminal.journal.change_sale(kept.reference, SaleState.DECLINED, reason, terminal.now())


def _terms(wanted: Refund | Sale) -> tuple[bytes, int, int]:
    """Card (8 bytes), sequence and amount of a refund."""
    if isinstance(wanted, Refund):
        return wanted.card, wanted.sequence, wanted.amount_fen
    return wanted.card, refund_terms(wanted)[0], wanted.amount_fen
