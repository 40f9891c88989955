"""`hardwallet orders`: an issuer's orders to single cards, on their way by file."""

from pathlib import Path
from typing import Annotated

import typer

from tui.options import AsJson, KeyFile, Terminal
from tui.output import report
from tui.text import say

app = typer.Typer(help="Orders of an issuer to its cards: block, unblock, raise what may be paid offline.")


@app.command(
    "import",
    epilog="Exit codes: 0 the terminal carries them; 1 refused, and none of them is taken; 2 bad usage.",
)
def import_orders(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Orders, 125 bytes each.")],
    terminal: Terminal,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a terminal orders for its next cards.

    It hands each one to its card when it meets it. They are believed for their issuer's signature, whoever
    carried them. A card refuses an order that is older than its last one.

    Example: hardwallet orders import city.orders --terminal till
    """
    from fleet.open import open_session
    from pos_terminal.pouch import cut, read_orders

    with open_session(terminal, key_file) as session:
        taken = session.pouch.offer(cut(read_orders(file)))
        waiting = len(session.pouch)
    report(
        {"taken": taken, "waiting": waiting},
        [say("{taken} orders are new here; {waiting} wait for their cards.", taken=taken, waiting=waiting)],
        as_json=as_json,
    )
