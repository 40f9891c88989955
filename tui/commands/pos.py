"""`hardwallet pos`: takes payments, shows what waits, prints receipts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.options import (
    AsJson,
    KeyFile,
    Language,
    OptionalReader,
    PinFile,
    Print,
    PrinterUri,
    Terminal,
    Timeout,
    TraceFile,
)
from tui.output import event, note, report
from tui.terms import term
from tui.text import facts, say, table, told, when, yuan

if TYPE_CHECKING:
    from fleet.open import TerminalSession
    from pos_terminal.tap import Tap
    from pos_terminal.terminal import Charge
    from tui.field import Field
    from tui.validator import Taking

app = typer.Typer(help="Take payments with a terminal, with no network.")

Line = Annotated[str, typer.Option("--line", metavar="L", help="Transit: the line, for people.")]
Run = Annotated[
    int,
    typer.Option(
        "--run",
        metavar="N",
        min=0,
        max=0xFFFFFFFF,
        help="Transit: the run of the day; a card pays each run once.",
    ),
]

_SALES_SHOWN = 10


@app.command(
    "pay",
    epilog="Exit codes: 0 granted; 1 not granted (refused, not known yet, no card in time); 2 bad usage.",
)
def pay(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In yuan, as in 12.50.")],
    terminal: Terminal,
    reader: OptionalReader = None,
    timeout: Timeout = 30.0,
    trace: TraceFile = None,
    pin_file: PinFile = None,
    line: Line = "",
    run: Run = 1,
    language: Language = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take one payment: one tap of a card.

    If the card leaves before its answer is known, present the same card and run the same command again: it
    finishes that sale and takes nothing twice. A PIN, when the card wants one, is asked for at a terminal, or
    comes from --pin-file or HARDWALLET_PIN.

    Example: hardwallet pos pay 12.50 --terminal till --reader sim:alice.card
    """
    from fleet.open import open_session
    from fleet.shift_desk import require_shift
    from pos_terminal.money import parse_amount
    from tui.field import open_field
    from tui.till import Ride, choose_charge, tap_data

    amount_fen = parse_amount(amount)
    receipt_language = _receipt_language(language)
    with (
        open_session(terminal, key_file) as session,
        open_field(_reader_of(session, reader), trace) as field,
    ):
        charge, resumed = choose_charge(session, amount_fen, Ride(line, run))
        if not resumed:
            require_shift(session)
        else:
            note(say("An earlier sale of this amount is not finished; this tap is for that one."))
        result = _one_tap(session, field, charge, timeout, pin_file)
        modelled = field.model is not None
        data = {**tap_data(result, modelled=modelled), "resumed": resumed, "stack": field.stack}
        data |= {"line": line, "run": run} if session.in_transit else {}
    report(data, _tap_lines(result, receipt_language, modelled), as_json=as_json)
    if not result.granted:
        raise typer.Exit(1)


def _receipt_language(given: str | None) -> str:
    """The language of a receipt: the one given, else the program's. Raises BadUsage."""
    from tui.languages import check
    from tui.text import language

    if given is None:
        return language()
    check(given)
    return given


def _reader_of(session: "TerminalSession", given: str | None) -> str:
    from tui.errors import BadUsage

    uri = given or session.folder.settings.reader
    if not uri:
        raise BadUsage(
            say("name the reader: --reader sim:PATH-OF-A-CARD-FILE or --reader pcsc:NAME-OR-INDEX")
        )
    return uri


def _one_tap(
    session: "TerminalSession", field: "Field", charge: "Charge", timeout_s: float, pin_file: Path | None
) -> "Tap":
    """One card, one tap; a second one in the same presence with the PIN, when the card wants it."""
    from pos_terminal.charges import end_sale
    from pos_terminal.tap import Outcome, tap
    from tui.interrupt import Interrupts
    from tui.pin import pin_for_payment

    def take(pin: str) -> "Tap":
        return tap(session.terminal, link, charge, pin, modelled_ms=field.modelled_ms)

    with Interrupts() as interrupts:
        link = interrupts.wait(lambda: field.wait_for_card(timeout_s), field.reader.cancel)
        try:
            result = take("")
        except BaseException:
            link.close()
            raise
    try:
        if result.outcome is Outcome.PIN_WANTED:
            # Outside of Interrupts: a person may end the question with Ctrl-C.
            pin = pin_for_payment(pin_file)
            if pin:
                with Interrupts():
                    result = _joined(result, take(pin))
        reason = result.reason
    except BaseException:
        reason = "ended at the till before the PIN was given"  # for the journal, which is in English
        raise
    finally:
        if result.outcome is not Outcome.UNRESOLVED:
            end_sale(session.terminal, charge, reason)
        link.close()
    return result


def _joined(first: "Tap", second: "Tap") -> "Tap":
    """The second tap of one presence, with the time of both."""
    for name, phase in first.phases.items():
        if name in second.phases:
            second.phases[name].host_ms += phase.host_ms
            second.phases[name].modelled_ms += phase.modelled_ms
        else:
            second.phases[name] = phase
    return second


def _tap_lines(result: "Tap", language: str, modelled: bool) -> list[str]:
    from pos_terminal.sale import SaleState
    from pos_terminal.tap import Outcome
    from tui.till import phase_lines, receipt_text, tap_words

    lines = [tap_words(result), "", *phase_lines(result, modelled=modelled)]
    states = {Outcome.GRANTED: SaleState.GRANTED, Outcome.PAID_NOT_GRANTED: SaleState.PAID_NOT_GRANTED}
    state = states.get(result.outcome)
    if result.record is not None and state is not None:
        lines += ["", *receipt_text(result.record, state, language).splitlines()]
    return lines


@app.command(
    "refund",
    epilog="Exit codes: 0 refunded; 1 not refunded (refused, not known yet, no card in time); 2 bad usage.",
)
def refund(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In yuan, as in 5.00.")],
    payment: Annotated[
        str,
        typer.Option(
            "--of",
            metavar="PAYMENT",
            help="The payment's number or code here, or CARD:SEQUENCE from another till's receipt.",
        ),
    ],
    terminal: Terminal,
    reader: OptionalReader = None,
    timeout: Timeout = 30.0,
    trace: TraceFile = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a part or all of a payment back to its card.

    The card that paid has to be presented. If it leaves before its answer is known, present it and run the
    same command again: it finishes that refund and gives nothing twice.

    Example: hardwallet pos refund 5.00 --of 17 --terminal till --reader sim:alice.card
    """
    from fleet.open import open_session
    from pos_terminal.money import parse_amount
    from pos_terminal.refund import refund as give_back
    from tui.field import open_field
    from tui.interrupt import Interrupts
    from tui.till import choose_refund, name_payment, phase_lines, refund_words, tap_data

    amount_fen = parse_amount(amount)
    with (
        open_session(terminal, key_file) as session,
        open_field(_reader_of(session, reader), trace) as field,
        Interrupts() as interrupts,
    ):
        wanted = choose_refund(session, amount_fen, name_payment(session.journal, payment))
        link = interrupts.wait(lambda: field.wait_for_card(timeout), field.reader.cancel)
        try:
            result = give_back(session.terminal, link, wanted, modelled_ms=field.modelled_ms)
        finally:
            link.close()
        modelled = field.model is not None
    data = {**tap_data(result, modelled=modelled), "stack": field.stack}
    report(data, [refund_words(result), "", *phase_lines(result, modelled=modelled)], as_json=as_json)
    if not result.granted:
        raise typer.Exit(1)


@app.command("give-up", epilog="Exit codes: 0 given up; 1 there is no such unfinished sale; 2 bad usage.")
def give_up(
    terminal: Terminal,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stays in the journal.")],
    number: Annotated[
        int | None, typer.Option("--number", metavar="N", help="Which one, where several are unfinished.")
    ] = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Give up a sale whose card left and does not come back.

    If its payment arrives later it is listed as paid, not granted, and returns to the card's account.

    Example: hardwallet pos give-up --terminal till --reason "customer left"
    """
    from fleet.open import open_session
    from pos_terminal.errors import NoSuchSale
    from tui.errors import BadUsage
    from tui.till import sale_data

    if not reason.strip():
        raise BadUsage(say("--reason must say why"))
    with open_session(terminal, key_file) as session:
        waiting = session.journal.unresolved()
        chosen = [sale for sale in waiting if number in (None, sale.transaction)]
        if not chosen:
            raise NoSuchSale(
                say("this terminal has no such unfinished sale; hardwallet pos status lists them")
            )
        if len(chosen) > 1:
            numbers = ", ".join(str(sale.transaction) for sale in chosen)
            raise BadUsage(
                say("several sales are unfinished; choose one with --number: {numbers}", numbers=numbers)
            )
        session.terminal.give_up(chosen[0].reference, reason)
        sale = session.journal.sale(chosen[0].reference)
    report(
        {"sale": sale_data(sale or chosen[0])},
        [
            say(
                "Sale {number} of CNY {amount} is given up.",
                number=chosen[0].transaction,
                amount=yuan(chosen[0].amount_fen),
            )
        ],
        as_json=as_json,
    )


@app.command(
    "check",
    epilog="Exit codes: 0 the card was read; 1 it was not, or not to the end; 2 bad usage.",
)
def check(
    terminal: Terminal,
    reader: OptionalReader = None,
    timeout: Timeout = 30.0,
    trace: TraceFile = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a card's balance and its last payments: "did I pay?". Takes nothing, carries nothing.

    Says of each payment to whom it went, and whether this terminal granted it.

    Example: hardwallet pos check --terminal till --reader sim:alice.card
    """
    from fleet.open import open_session
    from pos_terminal.inquiry import inquire
    from tui.field import open_field
    from tui.interrupt import Interrupts
    from tui.till import inquiry_data, inquiry_lines

    with (
        open_session(terminal, key_file) as session,
        open_field(_reader_of(session, reader), trace) as field,
        Interrupts() as interrupts,
    ):
        link = interrupts.wait(lambda: field.wait_for_card(timeout), field.reader.cancel)
        try:
            found = inquire(session.terminal, link)
        finally:
            link.close()
    report(inquiry_data(found), inquiry_lines(found), as_json=as_json)
    if found.reason:
        raise typer.Exit(1)


@app.command(
    "status",
    epilog="Exit codes: 0 this terminal may sell; 1 it may not (clock, journal, denylist); 2 bad usage.",
)
def status(terminal: Terminal, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Show what waits, what is unfinished, and the last sales.

    Also says whether the clock can be right, and what clearing did not book.

    Example: hardwallet pos status --terminal till
    """
    from fleet.open import open_session

    with open_session(terminal, key_file) as session:
        data = _status_data(session)
    report(data, _status_lines(data), as_json=as_json)
    sells = any(row["sells"] for row in data["denylist"]["lists"])
    if not data["clock"]["ok"] or data["locked"] or not sells:
        raise typer.Exit(1)


def _status_data(session: "TerminalSession") -> dict[str, Any]:
    from pos_terminal.errors import ClockWrong
    from tui.commands import denylist
    from tui.till import recent_sales, sale_data

    journal, certificate = session.journal, session.folder.identity.certificate
    waiting = journal.waiting()
    try:
        session.terminal.now()
        clock: dict[str, Any] = {"ok": True, "message": ""}
    except ClockWrong as error:
        clock = {"ok": False, "message": str(error)}
    return {
        "terminal": certificate.terminal.hex(),
        "payee": certificate.payee.hex(),
        "class": "transit" if session.in_transit else "retail",
        "unresolved": [sale_data(sale) for sale in journal.unresolved()],
        "waiting": {
            "count": waiting.count,
            "amount_fen": waiting.amount_fen,
            "carried": waiting.carried,
            "entries": waiting.entries,
            "oldest_time_s": waiting.oldest_time_s,
        },
        "entries": journal.head()[0],
        "acknowledged": journal.acknowledged(),
        "needs_review": [{"index": item.index, "reason": item.reason} for item in journal.needs_review()],
        "damaged": journal.quarantined(),
        "locked": journal.locked,
        "denylist": denylist.status_data(session),
        "orders": len(session.pouch),
        "clock": clock,
        "sales": [sale_data(sale) for sale in recent_sales(journal, _SALES_SHOWN)],
    }


def _status_lines(data: dict[str, Any]) -> list[str]:
    from tui.commands import denylist
    from tui.till import unfinished

    waiting = data["waiting"]
    oldest = when(waiting["oldest_time_s"]) if waiting["oldest_time_s"] is not None else say("nothing waits")
    lines = facts(
        [
            (say("terminal"), f"{data['terminal']} ({term(data['class'])})"),
            (say("clock"), say("can be right") if data["clock"]["ok"] else told(data["clock"]["message"])),
            (
                say("waiting"),
                say(
                    "{count} payments, CNY {amount}; {carried} carried for others",
                    count=waiting["count"],
                    amount=yuan(waiting["amount_fen"]),
                    carried=waiting["carried"],
                ),
            ),
            (say("oldest"), oldest),
            (
                say("acknowledged"),
                say("{sent} of {all} entries", sent=data["acknowledged"], all=data["entries"]),
            ),
            (say("unfinished"), len(data["unresolved"]) or say("none")),
            *((say("denylist"), line) for line in denylist.status_lines(data["denylist"])),
            (say("orders for cards"), data["orders"] or say("none")),
            (say("needs review"), len(data["needs_review"]) or say("none")),
            *([(say("damaged entries"), len(data["damaged"]))] if data["damaged"] else []),
            *([(say("locked"), told(data["locked"]))] if data["locked"] else []),
        ]
    )
    lines += [say("Unfinished: {what}.", what=unfinished(sale)) for sale in data["unresolved"]]
    lines += [
        say("Needs review: entry {index}: {reason}", index=item["index"], reason=told(item["reason"]))
        for item in data["needs_review"]
    ]
    if data["sales"]:
        rows = [
            (
                row["number"],
                when(row["time_s"]),
                ("-" if row["kind"] == "refund" else "") + yuan(row["amount_fen"]),
                _state_words(row),
                row["card"],
            )
            for row in data["sales"]
        ]
        heads = [say("no"), say("time"), say("amount"), say("state"), say("card")]
        lines += ["", *table(heads, rows, right=(0, 2))]
    return lines


def _state_words(sale: dict[str, Any]) -> str:
    refunded = sale["kind"] == "refund" and sale["state"] == "granted"
    return term("refunded" if refunded else sale["state"])


@app.command(
    "receipt", epilog="Exit codes: 0 shown; 1 no such payment here, or it was not printed; 2 bad usage."
)
def receipt(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="The sale's number, or its code.")],
    terminal: Terminal,
    language: Language = None,
    to_print: Print = False,
    printer: PrinterUri = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the receipt of a payment or refund, and print it again.

    In English or Chinese. On paper it is marked as a copy. A printer that is off loses nothing: print it
    again any time.

    Example: hardwallet pos receipt 17 --terminal till --lang zh --print
    """
    from fleet.open import open_session
    from fleet.slips import find_receipt, print_slip, receipt_slip, settings_of
    from tui.till import receipt_text, record_data, want_receipt_name

    receipt_language = _receipt_language(language)
    want_receipt_name(number)
    with open_session(terminal, key_file) as session:
        record, state = find_receipt(session.journal, number)
        settings = settings_of(session)
    text = receipt_text(record, state, receipt_language)
    report(
        {"record": record_data(record), "state": state.name.lower(), "lang": receipt_language, "text": text},
        text.splitlines(),
        as_json=as_json,
    )
    if to_print or printer:
        print_slip(
            settings, receipt_slip(settings, record, state, receipt_language, again=True), printer or ""
        )


@app.command(
    "run", epilog="Exit codes: 0 ended by SIGINT or SIGTERM; 1 the terminal can't go on; 2 bad usage."
)
def run_validator(
    terminal: Terminal,
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="YUAN", help="What each card pays, as in 2.00.")
    ] = None,
    fares: Annotated[
        Path | None,
        typer.Option(
            "--fares", metavar="FILE", help="Transit: what each class of card pays, by line and stop."
        ),
    ] = None,
    reader: OptionalReader = None,
    line: Line = "",
    direction: Annotated[
        str,
        typer.Option(
            "--direction", metavar="D", help="With --fares: the line's direction. Default: its first."
        ),
    ] = "",
    from_stop: Annotated[
        str,
        typer.Option(
            "--from", metavar="STOP", help="With --fares: where the bus stands. Default: its start."
        ),
    ] = "",
    to_stop: Annotated[
        str,
        typer.Option(
            "--to", metavar="STOP", help="With --fares: how far cards pay. Default: the highest fare."
        ),
    ] = "",
    run: Run = 1,
    trace: TraceFile = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Write each event as a JSON object on its line.")
    ] = False,
    key_file: KeyFile = None,
) -> None:
    """Run without a screen, until SIGINT or SIGTERM.

    Takes the amount from each card that comes; with --fares, what the line asks from a card of its rider
    class, once a run, and counts the riders. Stopped and started again, it goes on with the same run.

    Events: ready, present, tap (the decision), done (ratified, carried, milliseconds), removed, health. A tap
    under way is finished first. It lives through an unplugged reader and a pcscd that restarts.

    Example: hardwallet pos run --terminal bus --reader pcsc:0 --amount 2.00 --line 7 --run 3 --jsonl
    """
    from collections.abc import Mapping

    from fleet.open import open_session
    from fleet.shift_desk import require_shift
    from tui.errors import BadUsage
    from tui.field import open_field
    from tui.interrupt import Interrupts, Stopped
    from tui.validator import Validator

    if (amount is None) == (fares is None):
        raise BadUsage(say("say what cards pay: --amount YUAN, or --fares FILE with --line"))
    if fares is None and (direction or from_stop or to_stop):
        raise BadUsage(say("--direction, --from and --to go with --fares"))

    def emit(data: Mapping[str, object], text: str) -> None:
        event(data, text, as_json=jsonl)

    def health(word: str, sentence: str) -> None:
        emit({"event": "health", "health": word, "message": sentence}, told(sentence))

    with (
        Interrupts() as interrupts,
        open_session(terminal, key_file) as session,
        _taken(session, amount, fares, (line, direction, from_stop, to_stop), run) as taking,
    ):
        require_shift(session)
        uri = _reader_of(session, reader)
        with open_field(uri, trace, patient=True, notice=health) as field:
            try:
                Validator(session, field, interrupts, taking, emit).run()
            except Stopped:
                emit({"event": "stopped"}, say("stopped"))


@contextmanager
def _taken(
    session: "TerminalSession",
    amount: str | None,
    fares: Path | None,
    ridden: tuple[str, str, str, str],
    number: int,
) -> "Iterator[Taking]":
    """What each card pays: an amount, or the fare of a run, which goes on when it is under way already.

    `ridden`: line, direction, first and last stop. Raises BadUsage, FaresError, RunError, TerminalError.
    """
    from pos_terminal.money import parse_amount
    from tui.errors import BadUsage
    from tui.till import Ride
    from tui.validator import taking_amount, taking_fares

    line, direction, from_stop, to_stop = ridden
    if fares is None:
        yield taking_amount(session, parse_amount(amount or ""), Ride(line, number))
        return
    from fleet.rides import network_of, open_runs

    if not session.in_transit:
        raise BadUsage(say("--fares is for a terminal of class transit"))
    network = network_of(session, fares)
    chosen = network.line(line or session.folder.settings.line)
    way = chosen.direction(direction) if direction else chosen.directions[0]
    first, last = from_stop or way.stops[0].id, to_stop or way.stops[-1].id
    place, destination = way.between(first, last)
    with open_runs(session, network) as runs:
        run = runs.go_on(chosen.id, way.id, number)
        yield taking_fares(run, place, destination if to_stop else None)
