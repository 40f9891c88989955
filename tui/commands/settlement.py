"""`hardwallet clearing close`, `settlements`, `reconcile`: closes a day, compares two lists of it."""

import tempfile
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.errors import BadUsage, CommandError
from tui.options import AsJson, KeyFile, Scheme
from tui.output import note, report
from tui.progress import progress
from tui.terms import term
from tui.text import cny, facts, say, table, told, when, yuan

if TYPE_CHECKING:
    from hardwallet.certificates import TrustBundle
    from offline_sync.clearing import Clearing, Closing, PayeeTotals
    from offline_sync.reconciliation import Difference, Reconciliation, Rows
    from offline_sync.settlement import Header, Take

_LISTED = 50

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the files.")]
OptionalOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Write the files again, into this folder.")
]


def register(app: typer.Typer) -> None:
    """Adds these commands to a group."""
    app.command(
        "close",
        epilog="Exit codes: 0 closed, all files written; 1 refused, or a file can't be written; 2 bad usage.",
    )(close)
    app.command(
        "settlements",
        epilog="Exit codes: 0 listed or written; 1 there is no such closing, or a file can't be written; "
        "2 bad usage.",
    )(settlements)
    app.command(
        "reconcile",
        epilog="Exit codes: 0 the lists agree; 1 they differ, or one is refused; 2 bad usage.",
    )(reconcile)


def close(
    scheme: Scheme,
    out: Out,
    day: Annotated[
        str | None,
        typer.Option("--day", metavar="YYYY-MM-DD", help="The day. Default: today in Beijing."),
    ] = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Close the day: a signed file for each merchant.

    Takes all that was booked since the last closing; what arrives later is in the next one. The closing
    stands even when a file can't be written: `hardwallet clearing settlements --out` writes it again.

    Example: hardwallet clearing close --scheme city --out settled
    """
    from fleet.open import open_clearing, system_clock
    from offline_sync.settlement import beijing_day

    closed = beijing_day(system_clock()) if day is None else _day(day)
    with open_clearing(scheme, key_file) as clearing:
        out.mkdir(parents=True, exist_ok=True)
        with progress(say("closing {day}", day=closed)) as tell:
            closing = clearing.close_day(closed, tell, above=_given_out(clearing, out))
        with progress(say("writing the files")) as tell:
            paths = clearing.write_settlements(closing.number, out, tell)
        payees = clearing.settlement_totals(closing.number)
    files = {path.stem.rpartition("-")[2]: str(path) for path in paths}
    report(_closing_data(closing, payees, files), _closing_lines(closing, payees, files), as_json=as_json)


def _given_out(clearing: "Clearing", out: Path) -> int:
    """The highest closing whose files lie in the folder. When the books do not know it, says so."""
    from offline_sync.clearing.settlement import highest_written

    highest = highest_written(out)
    known = clearing.last_closing()
    if highest > known:
        note(
            say(
                "{out} holds files of closing {highest}, and the books know {known}: they were put back from "
                "a backup. This closing is {next}; its files replace those after {known}.",
                out=out,
                highest=highest,
                known=known,
                next=highest + 1,
            )
        )
    return highest


def _day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise BadUsage(say("{text!r} is no day; write it like 2026-11-22", text=text))
    return found


def _closing_data(
    closing: "Closing", payees: list["PayeeTotals"], files: dict[str, str]
) -> dict[str, object]:
    import msgspec

    rows = [{**msgspec.to_builtins(row), "file": files.get(row.payee)} for row in payees]
    return {"closing": msgspec.to_builtins(closing), "payees": rows}


def _closing_lines(closing: "Closing", payees: list["PayeeTotals"], files: dict[str, str]) -> list[str]:
    lines = facts(
        [
            (say("closing"), say("{number}, of {day}", number=closing.number, day=closing.day)),
            (say("closed at"), when(closing.closed_s)),
            (say("merchants, rows"), f"{closing.payees}, {closing.rows}"),
            (say("to merchants"), cny(closing.credit_fen)),
            (say("from merchants"), cny(closing.debit_fen)),
        ]
    )
    if payees:
        heads = [
            say("merchant"),
            say("rows"),
            say("opening"),
            say("in"),
            say("out"),
            say("at closing"),
            say("file"),
        ]
        rows = [
            (
                *(row.payee, row.rows, yuan(row.opening_fen), yuan(row.credit_fen), yuan(row.debit_fen)),
                *(yuan(row.closing_fen), files.get(row.payee) or say("none")),
            )
            for row in payees[:_LISTED]
        ]
        lines += ["", *table(heads, rows, right=range(1, 6))]
    if len(payees) > _LISTED:
        lines.append(say("and {count} merchants more", count=len(payees) - _LISTED))
    return lines


def settlements(
    scheme: Scheme,
    number: Annotated[
        int | None,
        typer.Option("--number", metavar="N", min=1, help="Only this closing, with its merchants."),
    ] = None,
    out: OptionalOut = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List what was closed, and write its files again.

    With --out the files of the closing, or of all, are written again, byte for byte. Those that are there
    stay; a file of the same name that holds something else is left alone, and told.

    Example: hardwallet clearing settlements --scheme city --number 3 --out settled
    """
    from fleet.open import open_clearing

    with open_clearing(scheme, key_file) as clearing:
        if number is not None:
            _show_one(clearing, number, out, as_json=as_json)
            return
        found = _all_closings(clearing)
        for closing in found if out is not None else ():
            _write(clearing, closing.number, out)
    import msgspec

    heads = [
        say("closing"),
        say("day"),
        say("closed at"),
        say("merchants"),
        say("rows"),
        say("in"),
        say("out"),
    ]
    rows = [
        (
            *(row.number, row.day, when(row.closed_s), row.payees, row.rows),
            *(yuan(row.credit_fen), yuan(row.debit_fen)),
        )
        for row in found
    ]
    lines = table(heads, rows, right=(0, 3, 4, 5, 6)) if rows else [say("No day was closed yet.")]
    report({"closings": msgspec.to_builtins(found)}, lines, as_json=as_json)


def _show_one(clearing: "Clearing", number: int, out: Path | None, *, as_json: bool) -> None:
    payees = clearing.settlement_totals(number)
    (closing,) = clearing.settlements(after=number - 1, limit=1)
    files = _write(clearing, number, out)
    report(_closing_data(closing, payees, files), _closing_lines(closing, payees, files), as_json=as_json)


def _write(clearing: "Clearing", number: int, out: Path | None) -> dict[str, str]:
    if out is None:
        return {}
    with progress(say("writing the files of closing {number}", number=number)) as tell:
        paths = clearing.write_settlements(number, out, tell)
    return {path.stem.rpartition("-")[2]: str(path) for path in paths}


def _all_closings(clearing: "Clearing") -> list["Closing"]:
    found: list[Closing] = []
    while page := clearing.settlements(after=found[-1].number if found else 0):
        found += page
    return found


# ---------------------------------------------------------------------------------------------- reconcile


def reconcile(
    ours: Annotated[Path, typer.Argument(metavar="OURS", help="A settlement file.")],
    theirs: Annotated[Path, typer.Argument(metavar="THEIRS", help="Another one, or a list: see below.")],
    scheme: Annotated[
        Path,
        typer.Option(
            "--scheme", metavar="DIR", help="Whose signatures count: a scheme's folder, or a terminal's."
        ),
    ],
    unsigned_theirs: Annotated[
        bool,
        typer.Option("--unsigned-theirs", help="THEIRS are a list of rows that nobody signed."),
    ] = False,
    ours_other: Annotated[
        list[Path] | None,
        typer.Option("--ours-other", metavar="FILE", help="A file of ours of another day; may be repeated."),
    ] = None,
    theirs_other: Annotated[
        list[Path] | None,
        typer.Option(
            "--theirs-other", metavar="FILE", help="A file of theirs of another day; may be repeated."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two lists of a merchant's day, row by row.

    Tells what only one of them has, what differs in its amount, what stands there twice, and what came late:
    it is in a file of another day, or what became of it was known later. A list that nobody signed is in the
    same form, without the lines that begin with #.

    Example: hardwallet clearing reconcile ours.csv theirs.csv --scheme city
    """
    import msgspec

    from hardwallet.issuing import read_trust
    from offline_sync.reconciliation import Rows, Side
    from offline_sync.reconciliation import reconcile as compare

    trust = read_trust(scheme).bundle
    with ExitStack() as held:
        sides, headers = [], []
        for path, others, unsigned in (
            (ours, ours_other or [], False),
            (theirs, theirs_other or [], unsigned_theirs),
        ):
            rows, other = (held.enter_context(Rows(tempfile.TemporaryFile)) for _ in range(2))
            header = _read(path, trust, rows, unsigned=unsigned)
            headers += [header, *(_read(more, trust, other, unsigned=unsigned) for more in others)]
            sides.append(Side(rows, other, None if header is None else header.closed_s))
        _check_payee(headers)
        found = compare(sides[0], sides[1])
    report(msgspec.to_builtins(found), _difference_lines(found), as_json=as_json)
    if not found.agree:
        raise typer.Exit(1)


def _read(path: Path, trust: "TrustBundle", rows: "Rows", *, unsigned: bool) -> "Header | None":
    from offline_sync import settlement
    from offline_sync.errors import SettlementRefused

    try:
        with path.open("rb") as stream, progress(say("reading {path}", path=path)) as tell:
            size = path.stat().st_size
            take: Take = _telling(rows.take, tell, stream.tell, size)
            if unsigned:
                settlement.read_list(stream, take)
                return None
            return settlement.read(stream, trust, take).header
    except SettlementRefused as refusal:
        raise SettlementRefused(refusal.code, f"{path}: {told(str(refusal))}") from None


def _telling(take: "Take", tell: Any, place: Any, size: int) -> "Take":
    """Tells how far the file is read, now and then."""

    def telling(row: Any) -> None:
        if not row.line % 4096:
            tell(place(), size)
        take(row)

    return telling


def _check_payee(headers: list["Header | None"]) -> None:
    payees = {header.payee for header in headers if header is not None}
    if len(payees) > 1:
        raise CommandError(
            say(
                "the files are of several merchants ({payees}); compare those of one",
                payees=", ".join(sorted(payee.hex() for payee in payees)),
            )
        )


def _difference_lines(found: "Reconciliation") -> list[str]:
    lines = facts(
        [
            (
                say("ours"),
                say("{rows} rows, CNY {amount}", rows=found.ours.count, amount=yuan(found.ours.ours_fen)),
            ),
            (
                say("theirs"),
                say(
                    "{rows} rows, CNY {amount}", rows=found.theirs.count, amount=yuan(found.theirs.theirs_fen)
                ),
            ),
            (say("agree"), say("{rows} rows", rows=found.matched)),
        ]
    )
    if found.agree:
        return [*lines, say("No differences.")]
    sums = [
        (term(name), one.count, yuan(one.ours_fen), yuan(one.theirs_fen))
        for name, one in found.sums.items()
        if one.count
    ]
    lines += [
        "",
        *table([say("difference"), say("rows"), say("ours"), say("theirs")], sums, right=(1, 2, 3)),
        "",
    ]
    lines += [_difference_line(one) for one in found.differences[:_LISTED]]
    count = sum(one.count for one in found.sums.values())
    if count > _LISTED:
        lines.append(say("and {count} more; --json lists up to 1,000 of each kind", count=count - _LISTED))
    return lines


def _difference_line(one: "Difference") -> str:
    amounts = ", ".join(
        f"{name} {yuan(amount_fen)}"
        for name, amount_fen in ((say("ours"), one.ours_fen), (say("theirs"), one.theirs_fen))
        if amount_fen is not None
    )
    row = say(
        "{what}: {kind} {code} of {time}, card {card}, record {sequence}, terminal {terminal}",
        what=term(one.difference),
        kind=term(one.kind),
        code=one.code,
        time=one.time,
        card=one.card,
        sequence=one.sequence,
        terminal=one.terminal,
    )
    return "; ".join(part for part in (row, amounts, told(one.detail)) if part)
