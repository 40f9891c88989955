"""`hardwallet tui`: the screens of a till and of a bus."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui.languages import check
from tui.options import KeyFile, OptionalReader, TraceFile
from tui.text import say, set_language

if TYPE_CHECKING:
    from tui.backing import Backing
    from tui.plain.loop import Loop

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
Plain = Annotated[bool, typer.Option("--plain", help="Line by line: for screen readers, logs and pipes.")]
_THEMES = ("dark", "light", "contrast")
_EPILOG = "Exit codes: 0 left by its key or by a signal; 1 it can't work; 2 bad usage."


@app.command("cashier", epilog=_EPILOG)
def cashier(
    terminal: ScreenTerminal = None,
    reader: OptionalReader = None,
    language: ScreenLanguage = None,
    theme: ThemeName = "dark",
    plain: Plain = False,
    mute: Mute = False,
    trace: TraceFile = None,
    key_file: KeyFile = None,
) -> None:
    """Show a cashier's till.

    With --terminal it is that terminal; without, it is a simulated world with a tray of cards.

    Example: hardwallet tui cashier --terminal till --reader pcsc:0 --lang zh
    """
    from tui.backing import open_backing

    _prepare(language, theme, plain=plain)
    with open_backing("cashier", terminal, reader, key_file, trace) as backing:
        if plain:
            from tui.plain.till import open_till

            loop = _lines(backing, mute=mute)
            with open_till(loop) as face:
                code = loop.run(face)
        else:
            from tui.screens.cashier.app import open_cashier
            from tui.screens.frame import run_screen

            with open_cashier(backing, theme=theme, mute=mute) as app_:
                code = run_screen(app_)
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
    plain: Plain = False,
    mute: Mute = False,
    trace: TraceFile = None,
    key_file: KeyFile = None,
) -> None:
    """Show a bus driver's validator.

    With --terminal it is that terminal; without, it is a simulated world with a tray of cards.

    Example: hardwallet tui bus --terminal bus --reader pcsc:0 --fares city.toml --line 7
    """
    from tui.backing import open_backing

    _prepare(language, theme, plain=plain)
    with open_backing("bus", terminal, reader, key_file, trace) as backing:
        if plain:
            from tui.plain.bus import open_bus as open_plain

            loop = _lines(backing, mute=mute)
            with open_plain(loop, fares=fares, line=line, direction=direction) as face:
                code = loop.run(face)
        else:
            from tui.screens.bus.app import open_bus
            from tui.screens.frame import run_screen

            with open_bus(
                backing, theme=theme, mute=mute, fares=fares, line=line, direction=direction
            ) as app_:
                code = run_screen(app_)
    raise typer.Exit(code)


def _lines(backing: "Backing", *, mute: bool) -> "Loop":
    from tui.plain.loop import Loop

    return Loop(backing, sys.stdin.fileno(), sys.stdout, mute=mute)


def _prepare(language: str | None, theme: str, *, plain: bool) -> None:
    """Raises BadUsage before anything is opened."""
    from tui.errors import BadUsage

    if theme not in _THEMES:
        raise BadUsage(say("--theme is {themes}", themes=say(" or ").join(_THEMES)))
    if language is not None:
        check(language)
        set_language(language)
    if not plain and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadUsage(
            say("a screen needs a terminal; with --plain it works line by line, through pipes too")
        )
