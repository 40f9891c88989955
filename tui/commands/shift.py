"""`hardwallet shift`: opens a till's shift, moves its cash, reads it (X), counts and closes it (Z)."""

import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.options import AsJson, KeyFile, Print, PrinterUri, Terminal
from tui.output import report as write
from tui.text import language, say, table, when, yuan

if TYPE_CHECKING:
    from fleet.open import TerminalSession
    from fleet.shift_desk import ShiftDesk
    from pos_terminal.shift import Shift, ShiftReport

app = typer.Typer(help="Open and close a till's shift, and keep the cash in its drawer.")

Who = Annotated[
    str | None,
    typer.Option("--who", metavar="NAME", help="Who does it. Default: the user's name on this machine."),
]
_EXITS = "Exit codes: 0 done; 1 refused, nothing was changed; 2 bad usage."


@app.command("open", epilog=_EXITS)
def open_shift(
    float_: Annotated[
        str, typer.Argument(metavar="FLOAT", help="Cash in the drawer, in yuan, as in 200.00.")
    ],
    terminal: Terminal,
    who: Who = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a shift with a float in the drawer.

    Example: hardwallet shift open 200.00 --terminal till --who Li
    """
    from pos_terminal.shift import parse_cash

    float_fen = parse_cash(float_)
    with _desk(terminal, key_file) as (_, desk):
        shift = desk.open(float_fen, _name(who))
    words = say("Shift {number} is open, with CNY {amount} in the drawer.", **_shown(shift, shift.float_fen))
    write({"shift": shift_data(shift, blind=desk.blind)}, [words], as_json=as_json)


@app.command("in", epilog=_EXITS)
def cash_in(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In yuan, as in 50.00.")],
    terminal: Terminal,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stays with the shift.")],
    who: Who = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Put cash into the drawer, and say why.

    Example: hardwallet shift in 50.00 --terminal till --reason "small change" --who Li
    """
    from pos_terminal.money import parse_amount

    amount_fen = parse_amount(amount)
    with _desk(terminal, key_file) as (_, desk):
        shift = desk.cash_in(amount_fen, reason, _name(who))
    words = say("CNY {amount} was put into the drawer of shift {number}.", **_shown(shift, amount_fen))
    write({"shift": shift_data(shift, blind=desk.blind)}, [words], as_json=as_json)


@app.command("out", epilog=_EXITS)
def cash_out(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In yuan, as in 50.00.")],
    terminal: Terminal,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stays with the shift.")],
    who: Who = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take cash out of the drawer, and say why.

    A refund that is given in cash is cash out, too.

    Example: hardwallet shift out 120.00 --terminal till --reason "to the bank" --who Li
    """
    from pos_terminal.money import parse_amount

    amount_fen = parse_amount(amount)
    with _desk(terminal, key_file) as (_, desk):
        shift = desk.cash_out(amount_fen, reason, _name(who))
    words = say("CNY {amount} was taken out of the drawer of shift {number}.", **_shown(shift, amount_fen))
    write({"shift": shift_data(shift, blind=desk.blind)}, [words], as_json=as_json)


@app.command("x", epilog="Exit codes: 0 read; 1 no shift is open, or it was not printed; 2 bad usage.")
def read(
    terminal: Terminal,
    to_print: Print = False,
    printer: PrinterUri = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Read the shift that is open: the X report. Changes nothing.

    Example: hardwallet shift x --terminal till --print
    """
    with _desk(terminal, key_file) as (session, desk):
        found = desk.read()
        _show(session, found, to_print, printer, as_json=as_json)


@app.command("close", epilog="Exit codes: 0 closed; 1 not closed, or closed and not printed; 2 bad usage.")
def close(
    counted: Annotated[
        str, typer.Argument(metavar="COUNTED", help="What was counted in the drawer, in yuan, as in 321.50.")
    ],
    terminal: Terminal,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="A note for whoever reads it.")] = "",
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Why the count differs from the books, if it does."),
    ] = "",
    who: Who = None,
    to_print: Print = False,
    printer: PrinterUri = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Close the shift with what was counted: the Z report.

    What is not sent yet, or not finished, is listed and stays: closing neither sends nor loses anything. When
    only the printing fails, the shift is closed all the same; hardwallet shift list prints its report again.

    Example: hardwallet shift close 321.50 --terminal till --who Li --note "quiet day"
    """
    from pos_terminal.shift import parse_cash

    counted_fen = parse_cash(counted)
    with _desk(terminal, key_file) as (session, desk):
        found = desk.close(counted_fen, note, reason, _name(who))
        _show(session, found, to_print, printer, as_json=as_json)


@app.command("list", epilog="Exit codes: 0 listed; 1 no such shift, or it was not printed; 2 bad usage.")
def list_shifts(
    terminal: Terminal,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many.")] = 10,
    number: Annotated[
        int | None, typer.Option("--number", metavar="N", help="Show the Z report of that shift again.")
    ] = None,
    to_print: Print = False,
    printer: PrinterUri = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the closed shifts, newest first.

    With --number, shows the report of one of them again.

    Example: hardwallet shift list --terminal till --number 3 --print
    """
    from tui.errors import BadUsage

    if number is None and (to_print or printer):
        raise BadUsage(say("say which shift to print: --number N"))
    with _desk(terminal, key_file) as (session, desk):
        if number is not None:
            _show(session, desk.closed(number), to_print, printer, as_json=as_json, again=True)
            return
        found, current = desk.past(limit), desk.current
    data = {
        "open": shift_data(current, blind=desk.blind) if current is not None else None,
        "shifts": [report_data(one) for one in found],
    }
    write(data, [*_open_lines(current), *_past_lines(found)], as_json=as_json)


def _open_lines(current: "Shift | None") -> list[str]:
    if current is None:
        return [say("No shift is open.")]
    return [
        say(
            "Shift {number} is open since {time}, opened by {who}.",
            number=current.number,
            time=when(current.opened_s),
            who=current.opened_by,
        )
    ]


def _past_lines(found: "list[ShiftReport]") -> list[str]:
    rows = []
    for one in found:
        closing = one.closing
        if closing is not None:
            rows.append(
                (
                    one.shift.number,
                    when(closing.time_s),
                    closing.who,
                    yuan(one.totals.net_fen),
                    yuan(closing.counted_fen),
                    yuan(one.difference_fen or 0),
                )
            )
    if not rows:
        return []
    heads = [say("shift"), say("closed"), say("by"), say("cards"), say("counted"), say("difference")]
    return ["", *table(heads, rows, right=(0, 3, 4, 5))]


@contextmanager
def _desk(terminal: Path, key_file: Path | None) -> "Iterator[tuple[TerminalSession, ShiftDesk]]":
    from fleet.open import open_session
    from fleet.shift_desk import open_desk
    from tui.output import note

    with open_session(terminal, key_file) as session, open_desk(session) as desk:
        if desk.torn:
            note(
                say(
                    "The last line of the book of shifts was not whole and was cut off; "
                    "it was never confirmed."
                )
            )
        yield session, desk


def _name(given: str | None) -> str:
    if given is not None:
        return given
    with suppress(KeyError, OSError):  # a user without a name: then it has to be said
        return getpass.getuser()
    return ""


def _shown(shift: "Shift", amount_fen: int) -> dict[str, object]:
    return {"number": shift.number, "amount": yuan(amount_fen)}


def _show(
    session: "TerminalSession",
    found: "ShiftReport",
    to_print: bool,
    printer: str | None,
    *,
    as_json: bool,
    again: bool = False,
) -> None:
    """The report on the screen, and then on paper: what the printer does can't hide it."""
    from fleet.slips import print_slip, settings_of, shift_slip
    from pos_terminal.paper import as_text

    settings, terminal = settings_of(session), session.folder.identity.certificate.terminal
    lines = shift_slip(settings, found, terminal, language(), again=again)
    text = as_text(lines, settings.columns)
    write({**report_data(found), "text": text}, text.splitlines(), as_json=as_json)
    if to_print or printer:
        print_slip(settings, lines, printer or "")


def shift_data(shift: "Shift", *, blind: bool) -> dict[str, Any]:
    """A shift for programs; without the sum that a blind count must not know."""
    return {
        "number": shift.number,
        "opened_s": shift.opened_s,
        "opened_by": shift.opened_by,
        "float_fen": shift.float_fen,
        "cash_in_fen": shift.cash_in_fen,
        "cash_out_fen": shift.cash_out_fen,
        "expected_fen": None if blind else shift.expected_fen,
        "after_entry": shift.first,
        "outside": _plain(shift.outside),
        "movements": [_plain(move) for move in shift.movements],
    }


def report_data(found: "ShiftReport") -> dict[str, Any]:
    """An X or Z report for programs."""
    return {
        "report": found.letter.lower(),
        "shift": {**shift_data(found.shift, blind=False), "expected_fen": found.expected_fen},
        "time_s": found.time_s,
        "totals": {**_plain(found.totals), "net_fen": found.totals.net_fen},
        "unsynced": _plain(found.unsynced),
        "unfinished": [_plain(sale) for sale in found.unfinished],
        "unfinished_count": found.unfinished_count,
        "closing": _plain(found.closing) if found.closing is not None else None,
        "difference_fen": found.difference_fen,
    }


def _plain(value: object) -> Mapping[str, Any]:
    from msgspec import to_builtins

    plain: dict[str, Any] = to_builtins(value)
    return plain
