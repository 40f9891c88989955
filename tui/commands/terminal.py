"""`hardwallet terminal`: makes a terminal's folder, renews its certificate."""

from pathlib import Path
from typing import Annotated

import typer

from tui.options import AsJson, Scheme
from tui.output import report
from tui.terms import term
from tui.text import facts, say, when

app = typer.Typer(help="Make a terminal, renew its certificate.")


@app.command(
    "new",
    epilog="Exit codes: 0 made; 1 the folder holds a terminal, or the scheme can't be used; 2 bad usage.",
)
def new(
    path: Annotated[Path, typer.Argument(metavar="TERMINAL", help="The folder to make.")],
    scheme: Scheme,
    klass: Annotated[
        str, typer.Option("--class", metavar="retail|transit", help="A till, or a validator on a vehicle.")
    ],
    merchant: Annotated[
        int, typer.Option("--merchant", metavar="N", help="The merchant's number, 1 to 4294967295.")
    ] = 1,
    vehicle: Annotated[
        str, typer.Option("--vehicle", metavar="V", help="Transit: the vehicle, 4 letters or digits.")
    ] = "",
    clearing: Annotated[
        str, typer.Option("--clearing", metavar="URL", help="Where `hardwallet sync` sends what waits.")
    ] = "",
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            help="File of mode 0600 with the passphrase of the terminal's key. Default: "
            "HARDWALLET_PASSPHRASE, else a file 'key' is made in the folder.",
        ),
    ] = None,
    scheme_key_file: Annotated[
        Path | None,
        typer.Option("--scheme-key-file", metavar="FILE", help="The same for the scheme's keys."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a terminal's folder: keys, certificate, settings.

    Example: hardwallet terminal new --scheme city --class retail till
    """
    import os

    import msgspec

    from fleet.open import open_issuing, system_clock
    from hardwallet.journalled import write_durably
    from pos_terminal.folder import CLASSES, SETTINGS, create_terminal
    from tui.errors import BadUsage

    if klass not in CLASSES:
        raise BadUsage(say("--class is retail or transit, not '{given}'", given=klass))
    if not 1 <= merchant <= 0xFFFFFFFF:
        raise BadUsage(say("--merchant is a number from 1 to 4294967295"))
    if vehicle and not (len(vehicle) == 4 and vehicle.isascii() and vehicle.isalnum()):
        raise BadUsage(say("--vehicle has 4 letters or digits"))
    if vehicle and klass != "transit":
        raise BadUsage(say("--vehicle is for --class transit"))
    if clearing and not (clearing.isascii() and clearing.startswith(("http://", "https://"))):
        raise BadUsage(say("--clearing is an address that begins with http:// or https://"))
    with open_issuing(scheme, scheme_key_file) as issuing:
        made = create_terminal(path, issuing, klass, merchant, system_clock(), os.urandom, key_file=key_file)
    settings = made.settings
    if vehicle or clearing:
        settings.vehicle = vehicle or settings.vehicle
        settings.clearing = clearing
        content = msgspec.json.format(msgspec.json.encode(settings)) + b"\n"
        write_durably(path / SETTINGS, content, mode=0o644)
    certificate = made.identity.certificate
    report(
        {
            "folder": str(path),
            "class": klass,
            "scheme": certificate.scheme.hex(),
            "payee": certificate.payee.hex(),
            "terminal": certificate.terminal.hex(),
            "vehicle": settings.vehicle,
            "clearing": settings.clearing,
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
        },
        facts(
            [
                (say("terminal"), f"{certificate.terminal.hex()} ({term(klass)})"),
                (say("payee"), certificate.payee.hex()),
                (say("folder"), path),
                *([(say("vehicle"), settings.vehicle)] if settings.vehicle else []),
                (say("clearing"), settings.clearing or say("not set; give --clearing to hardwallet sync")),
            ]
        ),
        as_json=as_json,
    )


@app.command(
    "renew",
    epilog="Exit codes: 0 renewed; 1 the terminal or the scheme refuses, nothing changed; 2 bad usage.",
)
def renew(
    path: Annotated[Path, typer.Argument(metavar="TERMINAL", help="The terminal's folder.")],
    scheme: Scheme,
    scheme_key_file: Annotated[
        Path | None,
        typer.Option(
            "--scheme-key-file", metavar="FILE", help="File of mode 0600 with the scheme's passphrase."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give a terminal a new certificate.

    The acquirer's newest key signs it. Do it before the old one ends, or is revoked. The terminal keeps its
    number, its key and all that waits in it.

    Example: hardwallet terminal renew till --scheme city
    """
    from fleet.open import open_issuing, system_clock
    from pos_terminal.trust_update import renew_certificate

    with open_issuing(scheme, scheme_key_file) as issuing:
        certificate = renew_certificate(path, issuing, system_clock())
    report(
        {
            "folder": str(path),
            "payee": certificate.payee.hex(),
            "terminal": certificate.terminal.hex(),
            "not_before": certificate.not_before,
            "not_after": certificate.not_after,
        },
        facts(
            [
                (say("terminal"), certificate.terminal.hex()),
                (say("payee"), certificate.payee.hex()),
                (say("valid until"), when(certificate.not_after)),
            ]
        ),
        as_json=as_json,
    )
