"""`hardwallet sync`: sends what waits and fetches what is published, or writes what waits to a file."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.options import AsJson, KeyFile, Terminal
from tui.output import note, report
from tui.text import facts, say, told, yuan

if TYPE_CHECKING:
    from fleet.open import TerminalSession
    from offline_sync.gateway import Gateway, Progress
    from offline_sync.messages import Uploader


def register(app: typer.Typer) -> None:
    """Adds this command to the program."""
    app.command(
        "sync",
        epilog="Exit codes: 0 everything that waited is acknowledged and what is published was fetched, or "
        "it is in the file; 1 not so, and what is not acknowledged still waits; 2 bad usage.",
    )(sync)


def sync(
    terminal: Terminal,
    clearing: Annotated[
        str | None,
        typer.Option(
            "--clearing", metavar="URL", help="Where to. Default: what the terminal's settings say."
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write it, signed, to FILE instead.")
    ] = None,
    tries: Annotated[
        int, typer.Option("--tries", metavar="N", min=1, max=100, help="Tries before it gives up for now.")
    ] = 3,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", min=0.1, help="Seconds to wait for each answer.")
    ] = 10.0,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Send what waits to clearing, or write it to a file.

    Then fetches what operators published: whom to trust, denylists, orders to cards. What clearing has lost
    since it acknowledged it is sent again.

    Nothing counts as sent before clearing's signed acknowledgement is on the disk. An exported file is
    imported with `hardwallet clearing import`; what was exported still waits until clearing acknowledges it
    here.

    Example: hardwallet sync --terminal till --clearing http://127.0.0.1:8460
    """
    from fleet.open import open_session
    from offline_sync.messages import Uploader
    from tui.errors import BadUsage

    if clearing is not None and export is not None:
        raise BadUsage(say("give --clearing or --export, not both"))
    with open_session(terminal, key_file) as session:
        identity = session.folder.identity
        uploader = Uploader(session.folder.trust.suite, identity.certificate, identity.key)
        if export is not None:
            _export(session, export, as_json=as_json)
            return
        url = clearing or session.folder.settings.clearing
        if not url.startswith(("http://", "https://")):
            raise BadUsage(say("name clearing by --clearing http://HOST:PORT, or a file by --export FILE"))
        _send(session, uploader, url, tries, timeout, as_json=as_json)


def _send(
    session: "TerminalSession", uploader: "Uploader", url: str, tries: int, timeout_s: float, *, as_json: bool
) -> None:
    from offline_sync.gateway import Backoff, Gateway

    journal = session.journal
    with Gateway(
        journal,
        uploader,
        session.folder.trust.bundle,
        url,
        clock=session.terminal.clock,
        sleep=time.sleep,
        entropy=os.urandom,
        backoff=Backoff(tries=tries),
        timeout_s=timeout_s,
    ) as gateway:
        outcome = gateway.send(_tell)
        fetched = _fetch(session, gateway)
    waiting, review = journal.waiting(), journal.needs_review()
    data = {
        "clearing": url,
        "entries": outcome.entries,
        "batches": outcome.batches,
        "rejected": outcome.rejected,
        "needs_review": [{"index": item.index, "reason": item.reason} for item in review],
        "acknowledged": journal.acknowledged(),
        "waiting": {"entries": waiting.entries, "count": waiting.count, "amount_fen": waiting.amount_fen},
        "locked": journal.locked,
        "fetched": fetched,
    }
    lines = facts(
        [
            (say("acknowledged"), say("{entries} entries in {batches} uploads", **data)),
            (
                say("waiting"),
                say("{count} payments, CNY {sum}", count=waiting.count, sum=yuan(waiting.amount_fen)),
            ),
            (say("needs review"), len(review) or say("none")),
            *_fetched_facts(fetched),
            *([(say("locked"), told(journal.locked))] if journal.locked else []),
        ]
    )
    report(data, lines, as_json=as_json)
    if journal.locked or fetched["failure"]:
        raise typer.Exit(1)


def _fetch(session: "TerminalSession", gateway: "Gateway") -> dict[str, Any]:
    """What clearing lost is sent again, what operators published is fetched. What fails here takes nothing
    back from an upload that arrived."""
    from fleet.notices import fetch_notices
    from hardwallet.errors import WalletError
    from offline_sync.errors import SyncError
    from pos_terminal.errors import TerminalError

    data: dict[str, Any] = {"failure": "", "sent_again": 0, "denylists": 0, "orders": 0, "orders_refused": 0}
    try:
        data["sent_again"] = gateway.resend_lost()
        found = fetch_notices(session, gateway)
        data |= {"denylists": found.denylists, "orders": found.orders, "orders_refused": found.orders_refused}
    except (SyncError, WalletError, TerminalError) as error:
        data["failure"] = str(error)
    data["authorities"] = session.folder.trust.bundle.version
    return data


def _fetched_facts(fetched: dict[str, Any]) -> list[tuple[str, object]]:
    lines: list[tuple[str, object]] = []
    if fetched["sent_again"]:
        lost = say("{count} entries that clearing had lost", count=fetched["sent_again"])
        lines.append((say("sent again"), lost))
    if fetched["failure"]:
        return [*lines, (say("not fetched"), told(fetched["failure"]))]
    new = say("{denylists} new denylists, {orders} new orders", **fetched)
    lines.append((say("fetched"), new))
    if fetched["orders_refused"]:
        lines.append((say("orders not taken"), fetched["orders_refused"]))
    return lines


def _tell(progress: "Progress") -> None:
    if progress.failure:
        note(say("Not sent yet: {why}.", why=told(progress.failure.rstrip("."))))


def _export(session: "TerminalSession", path: Path, *, as_json: bool) -> None:
    from tui.export import export_file

    uploads, entries = export_file(session, path)
    report(
        {"file": str(path), "uploads": uploads, "entries": entries},
        facts(
            [
                (say("file"), path),
                (
                    say("written"),
                    say("{entries} entries in {uploads} uploads", entries=entries, uploads=uploads),
                ),
                (say("next"), f"hardwallet clearing import {path} --scheme DIR"),
            ]
        ),
        as_json=as_json,
    )
