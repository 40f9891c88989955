"""`hardwallet tui`: the screens of a till and of a bus."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui.languages import check
from tui.options import KeyFile, OptionalReader, TraceFile
from tui.output import line as line_out
from tui.text import language as language_now
from tui.text import say, set_language

if TYPE_CHECKING:
    from tui.backing import Backing, Kind
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
WebPort = Annotated[
    int | None,
    typer.Option(
        "--web",
        metavar="PORT",
        min=0,
        max=65535,
        help="Show the screen in one browser tab on this machine, at this port; 0 takes a free one.",
    ),
]
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
    web: WebPort = None,
    trace: TraceFile = None,
    key_file: KeyFile = None,
) -> None:
    """Show a cashier's till.

    With --terminal it is that terminal; without, it is a simulated world with a tray of cards.

    Example: hardwallet tui cashier --terminal till --reader pcsc:0 --lang zh
    """
    from tui.backing import open_backing

    _prepare(language, theme, plain=plain, web=web)
    if web is not None:
        options = _shared(theme, mute=mute, terminal=terminal, reader=reader, trace=trace, key_file=key_file)
        _serve("cashier", options, terminal, reader, key_file, web)
        return
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
    amount: Annotated[
        str | None,
        typer.Option("--amount", metavar="AMOUNT", help="One fare for everybody, instead of --fares."),
    ] = None,
    language: ScreenLanguage = None,
    theme: ThemeName = "dark",
    plain: Plain = False,
    mute: Mute = False,
    web: WebPort = None,
    trace: TraceFile = None,
    key_file: KeyFile = None,
) -> None:
    """Show a bus driver's validator.

    With --terminal it is that terminal; without, it is a simulated world with a tray of cards.

    Example: hardwallet tui bus --terminal bus --reader pcsc:0 --fares city.toml --line 7
    """
    from pos_terminal.money import parse_amount
    from tui.backing import open_backing

    _prepare(language, theme, plain=plain, web=web)
    amount_fen = parse_amount(amount) if amount is not None else None
    if web is not None:
        options = _shared(theme, mute=mute, terminal=terminal, reader=reader, trace=trace, key_file=key_file)
        options += _option("--fares", fares) + _option("--line", line) + _option("--direction", direction)
        options += _option("--amount", amount)
        _serve("bus", options, terminal, reader, key_file, web)
        return
    with open_backing("bus", terminal, reader, key_file, trace) as backing:
        if plain:
            from tui.plain.bus import open_bus as open_plain

            loop = _lines(backing, mute=mute)
            with open_plain(loop, fares=fares, line=line, direction=direction, amount_fen=amount_fen) as face:
                code = loop.run(face)
        else:
            from tui.screens.bus.app import open_bus
            from tui.screens.frame import run_screen

            with open_bus(
                backing,
                theme=theme,
                mute=mute,
                fares=fares,
                line=line,
                direction=direction,
                amount_fen=amount_fen,
            ) as app_:
                code = run_screen(app_)
    raise typer.Exit(code)


def _lines(backing: "Backing", *, mute: bool) -> "Loop":
    from tui.plain.loop import Loop

    return Loop(backing, sys.stdin.fileno(), sys.stdout, mute=mute)


def _shared(
    theme: str,
    *,
    mute: bool,
    terminal: Path | None,
    reader: str | None,
    trace: Path | None,
    key_file: Path | None,
) -> list[str]:
    """The options that a screen in a tab is started with."""
    named = {"--terminal": terminal, "--reader": reader, "--trace": trace, "--key-file": key_file}
    options = ["--lang", language_now(), "--theme", theme, *(["--mute"] if mute else [])]
    return options + [word for name, value in named.items() for word in _option(name, value)]


def _option(name: str, value: str | Path | None) -> list[str]:
    return [f"{name}={value}"] if value not in (None, "") else []


def _serve(
    kind: "Kind",
    options: list[str],
    terminal: Path | None,
    reader: str | None,
    key_file: Path | None,
    port: int,
) -> None:
    """Until a signal. What is wrong with the terminal is said here, before anybody opens the page."""
    from tui.backing import open_backing
    from tui.screens.web import serve

    if terminal is not None or reader is not None or key_file is not None:
        with open_backing(kind, terminal, reader, key_file, None):
            pass
    titles = {"cashier": say("Till"), "bus": say("Bus")}
    serve(
        [sys.executable, "-m", "tui", "tui", kind, *options],
        titles[kind],
        port,
        lambda address: line_out(say("ready: open {address} in a browser on this machine", address=address)),
    )


def _prepare(language: str | None, theme: str, *, plain: bool, web: int | None) -> None:
    """Raises BadUsage before anything is opened."""
    from tui.errors import BadUsage

    if theme not in _THEMES:
        raise BadUsage(say("--theme is {themes}", themes=say(" or ").join(_THEMES)))
    if language is not None:
        check(language)
        set_language(language)
    if plain and web is not None:
        raise BadUsage(say("--plain or --web, not both"))
    in_tab = os.environ.get("TEXTUAL_DRIVER", "").startswith("tui.")
    if not plain and web is None and not in_tab and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadUsage(
            say("a screen needs a terminal; with --plain it works line by line, through pipes too")
        )
