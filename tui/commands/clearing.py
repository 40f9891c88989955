"""`hardwallet clearing`: the operator's side, over HTTP and by file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.options import AsJson, KeyFile, Scheme
from tui.output import line, report
from tui.terms import term
from tui.text import cny, facts, say, table, told, yuan

if TYPE_CHECKING:
    from offline_sync.clearing import Report

app = typer.Typer(help="The operator's side: take uploads, report the books.")

_LISTED = 50


@app.command(
    "serve",
    epilog="Exit codes: 0 ended by SIGINT or SIGTERM; 1 the address or the books can't be used; 2 bad usage.",
)
def serve(
    scheme: Scheme,
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="The address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65_535, help="The port; 0 takes any free one.")
    ] = 8460,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=0,
            max=64,
            help="Verify in N processes beside this one, a core each; 0 verifies in this one.",
        ),
    ] = 0,
    key_file: KeyFile = None,
) -> None:
    """Take uploads over HTTP, until SIGINT or SIGTERM.

    Prints one line that begins with 'ready' and holds the address. Uploads are signed, the connection is not
    encrypted: on another host than this, put it behind something that speaks TLS.

    Example: hardwallet clearing serve --scheme city
    """
    from fleet.open import open_clearing
    from offline_sync.clearing.server import serve as serve_http

    with open_clearing(scheme, key_file, workers=workers) as clearing:
        serve_http(clearing, host, port, announce=line)


@app.command("report", epilog="Exit codes: 0 the books add up; 1 they do not, or can't be read; 2 bad usage.")
def show_report(scheme: Scheme, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Report balances and whether all adds up.

    Lists what needs a person: what is owed back to cards, losses by clones, gaps and what waits in them,
    loads not confirmed, rejected entries, evidence.

    Example: hardwallet clearing report --scheme city
    """
    import msgspec

    from fleet.open import open_clearing

    with open_clearing(scheme, key_file) as clearing:
        found = clearing.report()
        lists = clearing.notices.denylist_lines()
    denylists = [{"operator": row.operator.hex(), "version": row.version} for row in lists]
    data = {**msgspec.to_builtins(found), "denylists": denylists}
    report(data, _report_lines(found, denylists), as_json=as_json)
    if not found.conservation.ok:
        raise typer.Exit(1)


def _report_lines(found: "Report", denylists: list[dict[str, Any]]) -> list[str]:
    money = found.conservation
    versions = ", ".join(
        say("version {version} of {operator}", version=row["version"], operator=row["operator"])
        for row in denylists
    )
    lines = facts(
        [
            (say("loaded onto cards"), cny(money.loads_fen)),
            (say("paid to merchants"), cny(money.payees_fen)),
            (say("float on cards"), cny(found.float_fen)),
            (say("owed back to cards"), cny(money.owed_fen)),
            (say("returned with loads"), cny(money.returned_fen)),
            (say("losses by clones"), cny(money.losses_fen)),
            (
                say("waits in suspense"),
                say("CNY {amount} in {count} gaps", amount=yuan(found.suspense_fen), count=found.gaps_count),
            ),
            (
                say("conservation"),
                say("holds to the fen")
                if money.ok
                else say("DOES NOT HOLD: CNY {difference} apart", difference=yuan(money.difference_fen)),
            ),
            (say("refunded"), cny(money.refunds_fen)),
            (say("payments, loads, refunds"), f"{found.payments}, {found.loads}, {found.refunds}"),
            (say("evidence"), _counts(found.evidence_counts)),
            (say("denylist"), versions or say("none yet")),
        ]
    )
    payees = [
        (row.payee, yuan(row.balance_fen), row.granted.count, row.paid_not_granted.count, row.carried.count)
        for row in found.payees[:_LISTED]
    ]
    heads = [say("merchant"), say("balance"), say("granted"), say("not granted"), say("only carried so far")]
    lines += _section(heads, payees, (1, 2, 3, 4))
    cards = [
        (row.card, yuan(row.balance_fen), row.highest_sequence, row.missing) for row in found.cards[:_LISTED]
    ]
    lines += _section([say("card"), say("balance"), say("records"), say("missing")], cards, (1, 2, 3))
    terminals = [
        (row.terminal, row.payee, row.highest, _gaps(row.gaps), row.rejected, row.flags)
        for row in found.terminals[:_LISTED]
    ]
    heads = [say("terminal"), say("merchant"), say("entries"), say("gaps"), say("rejected"), say("evidence")]
    lines += _section(heads, terminals, (2, 4, 5))
    return lines + _for_a_person(found)


def _for_a_person(found: "Report") -> list[str]:
    """What somebody has to look at."""
    lines = [
        say(
            "Paid, not granted: CNY {amount} of card {card} to {payee}, record {sequence}.",
            amount=yuan(row.amount_fen),
            card=row.card,
            payee=row.payee,
            sequence=row.sequence,
        )
        for row in found.paid_not_granted[:_LISTED]
    ]
    lines += _for_the_issuer(found)
    lines += [
        say(
            "Refund without an order so far: CNY {amount} to card {card}, record {sequence}.",
            amount=yuan(row.amount_fen),
            card=row.card,
            sequence=row.sequence,
        )
        for row in found.suspended_refunds[:_LISTED]
    ]
    lines += [
        say(
            "Load not confirmed: CNY {amount} to card {card}, number {counter}.",
            amount=yuan(row.amount_fen),
            card=row.card,
            counter=row.counter,
        )
        for row in found.outstanding_loads[:_LISTED]
    ]
    lines += [
        say(
            "Load without order: CNY {amount} on card {card}, number {counter}.",
            amount=yuan(row.amount_fen),
            card=row.card,
            counter=row.counter,
        )
        for row in found.loads_without_order[:_LISTED]
    ]
    lines += [
        say(
            "Rejected: entry {entry} of terminal {terminal}: {reason}",
            entry=row.entry,
            terminal=row.terminal,
            reason=told(row.reason),
        )
        for row in found.rejected[:_LISTED]
    ]
    lines += [
        say(
            "Evidence: {kind}, {subject}: {detail}",
            kind=term(row.kind),
            subject=row.subject,
            detail=told(row.detail),
        )
        for row in found.evidence[:_LISTED]
    ]
    return ["", *lines] if lines else []


def _for_the_issuer(found: "Report") -> list[str]:
    """What is owed to cards, and what is wrong with them."""
    lines = [
        say(
            "Owed back: CNY {amount} to card {card}, record {sequence}: {state}.",
            amount=yuan(row.amount_fen),
            card=row.card,
            sequence=row.sequence,
            state=say("in a load that is not confirmed") if row.claimed else say("with its next load"),
        )
        for row in found.owed[:_LISTED]
    ]
    lines += [
        say("Cloned: card {card}; lost CNY {amount}.", card=row.card, amount=yuan(row.amount_fen))
        for row in found.losses[:_LISTED]
    ]
    lines += [
        say(
            "Missing: records {first} to {last} of card {card}, CNY {amount}.",
            first=row.first,
            last=row.last,
            card=row.card,
            amount=yuan(row.amount_fen),
        )
        for row in found.gaps[:_LISTED]
    ]
    lines += [
        say(
            "Contradiction: record {sequence} of card {card} begins with CNY {amount} more than was left.",
            sequence=row.sequence,
            card=row.card,
            amount=yuan(row.amount_fen),
        )
        for row in found.contradictions[:_LISTED]
    ]
    lines += [
        say("Overspent: card {card}, by CNY {amount}.", card=row.card, amount=yuan(row.amount_fen))
        for row in found.overspent[:_LISTED]
    ]
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {term(kind)}" for kind, count in counts.items()) or say("none")


def _section(heads: list[str], rows: list[tuple[Any, ...]], right: tuple[int, ...]) -> list[str]:
    return ["", *table(heads, rows, right=right)] if rows else []


def _gaps(gaps: list[tuple[int, int]]) -> str:
    return ", ".join(f"{first}-{last}" for first, last in gaps) or say("none")


@app.command("import", epilog="Exit codes: 0 booked; 1 FILE or an upload in it is refused; 2 bad usage.")
def import_file(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What `hardwallet sync --export` wrote.")],
    scheme: Scheme,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Book the uploads of an exported file.

    Each is booked once, however often it comes.

    Example: hardwallet clearing import till.export --scheme city
    """
    from fleet.open import open_clearing
    from offline_sync.errors import BatchRefused
    from offline_sync.gateway import read_export

    batches = read_export(path)
    refusal: BatchRefused | None = None
    entries = uploads = 0
    rejected: list[dict[str, Any]] = []
    with open_clearing(scheme, key_file) as clearing:
        for batch in batches:
            try:
                acknowledged = clearing.accept(batch)
            except BatchRefused as error:
                refusal = error
                break
            uploads += 1
            entries += len(batch.entries)
            rejected += [
                {"index": row.index, "code": row.code, "reason": row.reason}
                for row in acknowledged.rejections
            ]
    lines = facts(
        [
            (
                say("booked"),
                say(
                    "{entries} entries in {uploads} of {all} uploads",
                    entries=entries,
                    uploads=uploads,
                    all=len(batches),
                ),
            ),
            (say("rejected"), len(rejected) or say("none")),
        ]
    )
    lines += [
        say("Rejected: entry {index}: {reason}", index=row["index"], reason=told(row["reason"]))
        for row in rejected
    ]
    data = {
        "file": str(path),
        "uploads": uploads,
        "of": len(batches),
        "entries": entries,
        "rejected": rejected,
    }
    report(data, lines, as_json=as_json)
    if refusal is not None:
        raise refusal
