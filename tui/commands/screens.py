"""`hardwallet tui`: the screens of a till and of a bus."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui.options import KeyFile, OptionalReader, TraceFile
from tui.text import LANGUAGES, say, set_language

if TYPE_CHECKING:
    pass

app = typer.Typer(help="The screens of a till and of a bus.")

ScreenTerminal = Annotated[
    Path | None,
    typer.Option(
        "--terminal",
        metavar="DIR",
        help="The terminal's folder, with its reader and its money. Without it: a simulated world that is "
        "thrown away.",
    ),
]
ScreenLanguage = Annotated[
    str | None,
    typer.Option("--lang", metavar="en|zh", help="English or Chinese. Default: as the environment says."),
]
ThemeName = Annotated[
    str, typer.Option("--theme", metavar="dark|light|contrast", help="The colours to begin with.")
]
Mute = Annotated[bool, typer.Option("--mute", help="Begin with the bell off.")]
_THEMES = ("dark", "light", "contrast")
_EPILOG = "Exit codes: 0 left by its key or by a signal; 1 it can't work; 2 bad usage."


@app.command("cashier", epilog=_EPILOG)
def cashier(
    terminal: ScreenTerminal = None,
    reader: OptionalReader = None,
    language: ScreenLanguage = None,
    theme: ThemeName = "dark",
    mute: Mute = False,
    trace: TraceFile = None,
    key_file: KeyFile = None,
) -> None:
    """Show a cashier's till.

    With --terminal it is that terminal; without, it is a simulated world with a tray of cards.

    Example: hardwallet tui cashier --terminal till --reader pcsc:0 --lang zh
    """
    from tui.backing import open_backing

    _prepare(language, theme)
    with open_backing("cashier", terminal, reader, key_file, trace) as backing:
        from tui.screens.cashier import CashierApp
        from tui.screens.frame import run_screen

        code = run_screen(CashierApp(backing, theme=theme, mute=mute))
    raise typer.Exit(code)


@app.command("bus", epilog=_EPILOG)
def bus(
    terminal: ScreenTerminal = None,
    reader: OptionalReader = None,
    fares: Annotated[
        Path | None, typer.Option("--fares", metavar="FILE", help="Lines, stops and fares of this network.")
    ] = None,
    line: Annotated[str, typer.Option("--line", metavar="L", help="The line to begin with.")] = "",
    direction: Annotated[
        str, typer.Option("--direction", metavar="D", help="The direction to begin with.")
    ] = "",
    language: ScreenLanguage = None,
    theme: ThemeName = "dark",
    mute: Mute = False,
    trace: TraceFile = None,
    key_file: KeyFile = None,
) -> None:
    """Show a bus driver's validator.

    With --terminal it is that terminal; without, it is a simulated world with a tray of cards.

    Example: hardwallet tui bus --terminal bus --reader pcsc:0 --fares city.toml --line 7
    """
    from tui.backing import open_backing

    _prepare(language, theme)
    with open_backing("bus", terminal, reader, key_file, trace) as backing:
        from tui.screens.bus import BusApp
        from tui.screens.frame import run_screen

        code = run_screen(
            BusApp(backing, theme=theme, mute=mute, fares=fares, line=line, direction=direction)
        )
    raise typer.Exit(code)


def _prepare(language: str | None, theme: str) -> None:
    """Raises BadUsage before anything is opened."""
    from tui.errors import BadUsage

    if theme not in _THEMES:
        raise BadUsage(say("--theme is {themes}", themes=say(" or ").join(_THEMES)))
    if language is not None and language not in LANGUAGES:
        raise BadUsage(say("--lang is {languages}", languages=say(" or ").join(LANGUAGES)))
    if language is not None:
        set_language(language)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadUsage(say("a screen needs a terminal"))
