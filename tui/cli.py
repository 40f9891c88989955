"""The program `hardwallet`: its commands, and the place where an error becomes a line and an exit code."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from tui.commands import (
    card,
    clearing,
    clearing_files,
    denylist,
    fares,
    orders,
    pos,
    publishing,
    readers,
    scheme,
    screens,
    settlement,
    shift,
    sync,
    terminal,
    trace,
)
from tui.demo import demo
from tui.errors import (
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_STOPPED,
    EXIT_USAGE,
    EXPECTED,
    exit_code,
    kind,
    message,
)
from tui.help import refusal, speak
from tui.interrupt import Stopped
from tui.languages import OPTION, of_arguments, of_environment
from tui.text import harmless, language, say, set_language

PROGRAM = "hardwallet"
_NUMBER_LIKE = re.compile(r"-[\d.]")

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog="Results go to stdout, diagnostics to stderr. Exit codes: 0 success; 1 a refusal or a failed "
    "check; 2 bad usage. Every command that reports something takes --json.",
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        number = version(PROGRAM)
    except PackageNotFoundError:
        number = say("unknown: not installed")
    sys.stdout.write(f"{PROGRAM} {number}\n")
    raise typer.Exit


@app.callback()
def _program(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end."),
    ] = False,
    _language: Annotated[  # read by `main` before anything else, so that help is in that language too
        str | None,
        typer.Option(
            OPTION,
            metavar="en|zh",
            help="Language, English or Chinese. Default: as LANGUAGE, LC_ALL, LC_MESSAGES or LANG say.",
        ),
    ] = None,
) -> None:
    """Offline hard wallets: cards, terminals and clearing that work with no network."""


app.command("demo")(demo)
readers.register(app)
app.add_typer(scheme.app, name="scheme")
app.add_typer(card.app, name="card")
app.add_typer(terminal.app, name="terminal")
app.add_typer(pos.app, name="pos")
app.add_typer(shift.app, name="shift")
app.add_typer(fares.app, name="fares")
sync.register(app)
app.add_typer(denylist.app, name="denylist")
app.add_typer(orders.app, name="orders")
publishing.register(denylist.app, orders.app, card.app)
settlement.register(clearing.app)
clearing_files.register(clearing.app)
app.add_typer(clearing.app, name="clearing")
app.add_typer(trace.app, name="trace")
app.add_typer(screens.app, name="tui")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    With --json all is English: programs read it (docs/adr/0033-words-through-gettext.md).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    as_json = "--json" in given or "--jsonl" in given
    before = language()
    set_language("en" if as_json else of_environment(os.environ))
    try:
        chosen = of_arguments(given)
        if chosen is not None and not as_json:
            set_language(chosen)
        code = _run(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_REFUSED
    except typer.TyperException as error:
        _show(*_usage(error), as_json=as_json)
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort, Stopped):
        _show("stopped", say("Stopped."), as_json=as_json)
        return EXIT_STOPPED
    except EXPECTED as error:
        _show(kind(error), message(error), as_json=as_json)
        return exit_code(error)
    finally:
        _settle_stdout()
        set_language(before)


@cache
def _commands(spoken: str) -> typer.core.TyperGroup:
    """All commands, their help in that language. Read from 60 signatures: once a process."""
    made = typer.main.get_group(app)
    if spoken != "en":
        speak(made)
    return made


def _run(given: list[str]) -> int:
    code = _commands(language()).main(given or ["--help"], prog_name=PROGRAM, standalone_mode=False)
    if code == EXIT_STOPPED:  # what typer makes of KeyboardInterrupt
        raise KeyboardInterrupt
    return code if isinstance(code, int) else EXIT_OK


def _usage(error: typer.TyperException) -> tuple[str, str]:
    """Kind and sentence for what the parser refused."""
    option = getattr(error, "option_name", "")
    if isinstance(option, str) and _NUMBER_LIKE.match(option):
        return "bad_amount", say("'{given}' is not an amount; write it in yuan, like 12.50", given=option)
    text = refusal(harmless(" ".join(error.format_message().split()))) or say("a command is missing")
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", PROGRAM)
    return "bad_usage", say("{text} ('{path} --help' explains)", text=text, path=path)


def _show(name: str, text: str, *, as_json: bool) -> None:
    with contextlib.suppress(OSError):
        line = json.dumps({"error": {"kind": name, "message": text}}) if as_json else f"{PROGRAM}: {text}"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _prepare_streams() -> None:
    """A missing stream, or a character that the terminal can't show, must not become a traceback."""
    for name, flags in (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY)):
        stream = getattr(sys, name)
        if stream is None:
            mode = "r" if flags == os.O_RDONLY else "w"
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, closefd=False))
        elif flags == os.O_WRONLY and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _settle_stdout() -> None:
    """What can't be written now can't be at the end either: the interpreter's own flush must not find it."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()


def _discard_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
