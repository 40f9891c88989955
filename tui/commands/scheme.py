"""`hardwallet scheme`: makes a scheme."""

from pathlib import Path
from typing import Annotated

import typer

from tui.options import AsJson, KeyFile, SuiteName, suite_by_name
from tui.output import report
from tui.text import facts, say

app = typer.Typer(help="Make a scheme.")


@app.command(
    "init",
    epilog="Exit codes: 0 made; 1 the folder holds a scheme already, or can't be written; 2 bad usage.",
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "hardwallet",
    suite: SuiteName = "international",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a scheme: a root, operators, sealed keys.

    Example: hardwallet scheme init city --name "Our city"
    """
    import os

    from fleet.open import system_clock
    from hardwallet.issuing import create_scheme
    from hardwallet.keys import KEY_FILE, find_passphrase
    from tui.errors import BadUsage, CommandError

    chosen = suite_by_name(suite)
    if not name.strip() or len(name) > 80 or not name.isprintable():
        raise BadUsage(say("a scheme's name has 1 to 80 characters"))
    if (folder / "scheme.json").exists():
        raise CommandError(say("{folder} holds a scheme already; choose another folder", folder=folder))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    passphrase = find_passphrase(key_file, folder / KEY_FILE, create=True)
    trust = create_scheme(folder, name, chosen, passphrase, system_clock(), os.urandom)
    bundle = trust.bundle
    operators = [operator.operator.hex() for operator in bundle.operators]
    report(
        {
            "folder": str(folder),
            "name": trust.name,
            "scheme": bundle.scheme.hex(),
            "suite": chosen.number,
            "operators": operators,
        },
        facts(
            [
                (say("scheme"), f"{bundle.scheme.hex()} ({trust.name})"),
                (say("folder"), folder),
                (say("operators"), ", ".join(operators)),
                (say("next"), f"hardwallet card new --scheme {folder} CARD --balance 200.00"),
            ]
        ),
        as_json=as_json,
    )
