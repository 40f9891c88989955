"""Options and arguments that several commands share, with one wording each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui.errors import BadUsage
from tui.text import say

if TYPE_CHECKING:
    from hardwallet.suites import Suite

AsJson = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
Scheme = Annotated[
    Path, typer.Option("--scheme", metavar="DIR", help="The scheme's folder (see: hardwallet scheme init).")
]
OptionalScheme = Annotated[
    Path | None,
    typer.Option("--scheme", metavar="DIR", help="The scheme's folder (see: hardwallet scheme init)."),
]
OptionalTerminal = Annotated[
    Path | None,
    typer.Option("--terminal", metavar="DIR", help="The terminal's folder (see: hardwallet terminal new)."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="File of mode 0600 with the passphrase of the folder's keys. Default: HARDWALLET_PASSPHRASE, "
        "else the file 'key' in the folder.",
    ),
]
Card = Annotated[Path, typer.Argument(metavar="CARD", help="The card's file.")]
Terminal = Annotated[
    Path,
    typer.Option("--terminal", metavar="DIR", help="The terminal's folder (see: hardwallet terminal new)."),
]
ReaderUri = Annotated[
    str,
    typer.Option("--reader", metavar="URI", help="sim:PATH-OF-A-CARD-FILE or pcsc:NAME-OR-INDEX."),
]
OptionalReader = Annotated[
    str | None,
    typer.Option(
        "--reader",
        metavar="URI",
        help="sim:PATH-OF-A-CARD-FILE or pcsc:NAME-OR-INDEX. Default: the reader in the terminal's settings.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="S", min=0.0, help="Seconds to wait for a card.", show_default=True),
]
TraceFile = Annotated[
    Path | None,
    typer.Option(
        "--trace", metavar="FILE", help="Record what card and terminal say (no PIN, no key) in FILE."
    ),
]
PinFile = Annotated[
    Path | None, typer.Option("--pin-file", metavar="FILE", help="File of mode 0600 with the PIN.")
]
Language = Annotated[
    str | None,
    typer.Option("--lang", metavar="en|zh", help="Language of the receipt. Default: the program's."),
]
Print = Annotated[bool, typer.Option("--print", help="Print it on the printer of the terminal's settings.")]
PrinterUri = Annotated[
    str | None,
    typer.Option(
        "--printer",
        metavar="URI",
        help="Print it there: file:PATH, tcp:HOST:PORT or serial:/dev/ttyUSB0?baud=9600.",
    ),
]

SuiteName = Annotated[
    str,
    typer.Option(
        "--suite", metavar="international|gm", help="The cryptography: P-256, SHA-256, AES; or SM2, SM3, SM4."
    ),
]


def suite_by_name(name: str) -> "Suite":
    """The suite that a person named. Raises BadUsage."""
    from hardwallet.suites import SUITES, suite_by_number

    if name not in SUITES:
        raise BadUsage(
            say("there is no suite {name!r}; the suites are {all}", name=name, all=", ".join(SUITES))
        )
    return suite_by_number(SUITES[name])
