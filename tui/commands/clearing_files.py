"""`hardwallet clearing disputes`, `backup`, `restore`: what the operator keeps and hands over as files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tui.options import AsJson, KeyFile, Scheme
from tui.output import note, report
from tui.terms import term
from tui.text import facts, harmless, say, table, told, when

if TYPE_CHECKING:
    from offline_sync.clearing import Clearing
    from offline_sync.clearing.disputes import DisputeLine

_JUDGE_MODE = 0o755


def register(app: typer.Typer) -> None:
    """Adds the commands to `hardwallet clearing`."""
    app.command("disputes", epilog="Exit codes: 0 listed; 1 the books or DIR can't be used; 2 bad usage.")(
        disputes
    )
    app.command(
        "backup", epilog="Exit codes: 0 FILE is written and checked; 1 it is not there; 2 bad usage."
    )(backup)
    app.command("restore", epilog="Exit codes: 0 put back; 1 refused, and nothing was changed; 2 bad usage.")(
        restore
    )


def disputes(
    scheme: Scheme,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Write each as a file here, with the script that judges it."
        ),
    ] = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List what can be proven, and write it as files.

    A third party judges such a file with the shell, openssl and jq alone:
    sh judge-dispute.sh FILE --root SHA256. The root's fingerprint has to come by another way than the file.

    Example: hardwallet clearing disputes --scheme city --out disputes
    """
    from fleet.open import open_clearing
    from offline_sync.clearing.disputes import fingerprint

    with open_clearing(scheme, key_file) as clearing:
        root = fingerprint(clearing.trust.root)
        lines = _all(clearing)
        written = {} if out is None else _write(clearing, lines, out)
    data = {
        "root": root,
        "disputes": [
            {
                "digest": row.digest,
                "kind": row.kind,
                "subject": row.subject,
                "detail": row.detail,
                "received_s": row.received_s,
                "provable": row.file,
                "file": written.get(row.digest),
            }
            for row in lines
        ],
    }
    rows = [
        (
            term(row.kind),
            row.subject,
            when(row.received_s),
            written.get(row.digest) or (say("can be written") if row.file else say("no file proves it")),
            harmless(told(row.detail)),
        )
        for row in lines
    ]
    shown = facts([(say("root"), root), (say("disputes"), len(lines) or say("none"))])
    if rows:
        heads = [say("kind"), say("card or terminal"), say("noted"), say("file"), say("what it shows")]
        shown += ["", *table(heads, rows)]
    report(data, shown, as_json=as_json)


def _all(clearing: "Clearing") -> "list[DisputeLine]":
    found: list[DisputeLine] = []
    while page := clearing.disputes(bytes.fromhex(found[-1].digest) if found else b""):
        found += page
    return found


def _write(clearing: "Clearing", lines: "list[DisputeLine]", out: Path) -> dict[str, str]:
    """The files, and the script beside them. Returns their paths, by digest."""
    from hardwallet.journalled import write_durably
    from offline_sync.clearing.disputes import JUDGE, judge
    from offline_sync.errors import NoDispute

    out.mkdir(parents=True, exist_ok=True)
    written = {}
    for row in lines:
        if not row.file:
            continue
        try:
            content = clearing.dispute(bytes.fromhex(row.digest))
        except NoDispute as error:
            why = told(str(error))
            note(say("{kind} of {subject}: {why}", kind=term(row.kind), subject=row.subject, why=why))
            continue
        path = out / f"{row.kind}-{row.digest[:16]}.json"
        write_durably(path, content, mode=0o644)
        written[row.digest] = str(path)
    write_durably(out / JUDGE, judge(), mode=_JUDGE_MODE)
    return written


def backup(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make; it must not be there.")],
    scheme: Scheme,
    as_json: AsJson = False,
) -> None:
    """Back up the books, also while they are in use.

    The file holds no key. It is one moment of the books, read through once before it gets its name.

    Example: hardwallet clearing backup friday.backup --scheme city
    """
    import msgspec

    from fleet.books import back_up_books

    made = back_up_books(scheme, path)
    report(
        msgspec.to_builtins(made),
        facts(
            [
                (say("backup"), made.path),
                (say("size"), say("{count} bytes", count=made.size_bytes)),
                ("SHA-256", made.sha256),
                (say("records, uploads"), f"{made.records}, {made.uploads}"),
            ]
        ),
        as_json=as_json,
    )


def restore(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What `hardwallet clearing backup` wrote.")],
    scheme: Scheme,
    force_older: Annotated[
        bool,
        typer.Option(
            "--force-older",
            help="Also when the books in place hold what FILE does not, or are damaged.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup back, once it is checked.

    FILE has to be whole, of this scheme, and to add up. Refused while a clearing runs on the books. The books
    that were in place are kept beside the new ones. Terminals send again what is missing at their next sync.

    Example: hardwallet clearing restore friday.backup --scheme city
    """
    import msgspec

    from fleet.books import restore_books
    from fleet.open import system_clock

    done = restore_books(scheme, path, system_clock(), force_older=force_older)
    missing = ", ".join(f"{count} {name}" for name, count in done.missing.items())
    rows: list[tuple[str, object]] = [
        (say("put back"), path),
        (say("records, uploads"), f"{done.records}, {done.uploads}"),
        (say("kept beside them"), done.kept or say("there were no books")),
        (say("missing now"), missing or say("nothing")),
    ]
    if "closings" in done.missing:
        rows.append((say("settlement"), say("withdraw those closings' files: their numbers come again")))
    if missing:
        rows.append((say("next"), say("start clearing, and let every terminal sync")))
    report(msgspec.to_builtins(done), facts(rows), as_json=as_json)
