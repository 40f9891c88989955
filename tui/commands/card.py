"""`hardwallet card`: issues, shows, loads and serves simulated cards, and sets their PIN."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.books import tell_clearing
from tui.commands.fares import RiderWord, rider_named, rider_words
from tui.options import AsJson, Card, KeyFile, PinFile, Scheme, TraceFile
from tui.output import line, note, report
from tui.terms import term
from tui.text import cny, facts, say, table, told, when, yuan

if TYPE_CHECKING:
    from hardwallet.issuing import Scheme as OpenScheme
    from hardwallet.records import Owed, Record
    from hardwallet.riders import Rider
    from tui.cardfile import CardAtHand

app = typer.Typer(help="Issue, show, load and serve simulated cards; set their PIN.")

_RECORDS_SHOWN = 10


@app.command("new", epilog="Exit codes: 0 issued; 1 CARD exists, or the scheme refuses; 2 bad usage.")
def new(
    path: Card,
    scheme: Scheme,
    balance: Annotated[
        str, typer.Option("--balance", metavar="YUAN", help="What to load it with, as in 200.00.")
    ] = "0",
    tier: Annotated[int, typer.Option("--tier", metavar="N", help="Its tier, which sets its limits.")] = 5,
    rider: RiderWord = "adult",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Issue a card into the file CARD, and load it.

    The same command again finishes an issuing that was cut off. A finished card is never written over.

    Example: hardwallet card new --scheme city alice.card --balance 200.00
    """
    import os

    from fleet.open import open_issuing, system_clock
    from hardwallet.card.file import create_card_file
    from hardwallet.limits import tiers
    from tui.cardfile import open_card
    from tui.errors import CommandError

    balance_fen = _balance_fen(balance)
    chosen = rider_named(rider)
    with open_issuing(scheme, key_file) as issuing:
        resumed = os.path.lexists(path)
        if not resumed:
            if not path.parent.is_dir():
                raise CommandError(say("there is no folder {folder}; make it first", folder=path.parent))
            identity, memory = issuing.new_card(tier, system_clock(), balance_fen=balance_fen, rider=chosen)
            create_card_file(path, identity, memory)
        with open_card(path) as card:
            if resumed:
                balance_fen = _what_is_left(issuing, card, balance_fen, chosen)
            if balance_fen and not card.state().load_counter:
                issuing.load(card.link(), balance_fen, system_clock())
            state = card.state()
            number = card.identity.card.hex()
            certified = card.identity.certificate.rider
    report(
        {
            "card": str(path),
            "number": number,
            "tier": state.tier,
            "rider": certified.word,
            "balance_fen": state.balance_fen,
            "resumed": resumed,
        },
        facts(
            [
                (say("card"), path),
                (say("number"), number),
                (say("tier"), f"{state.tier} ({term(tiers()[state.tier].name)})"),
                *_rider_fact(certified),
                (say("balance"), cny(state.balance_fen)),
                *([(say("note"), say("an issuing that was cut off is finished now"))] if resumed else []),
            ]
        ),
        as_json=as_json,
    )


def _rider_fact(rider: "Rider") -> list[tuple[str, object]]:
    """The rider class, where there is something to say about it."""
    return [(say("rider"), rider_words(rider))] if rider else []


def _balance_fen(text: str) -> int:
    from pos_terminal.money import parse_amount

    return 0 if text.strip() in ("0", "0.0", "0.00") else parse_amount(text)


def _what_is_left(issuing: "OpenScheme", card: "CardAtHand", balance_fen: int, rider: "Rider") -> int:
    """Finishes an order of this card that was cut off; the load that its issuing still owes it.

    Raises CommandError when there is nothing to finish.
    """
    from fleet.open import system_clock
    from hardwallet.records import load_counter
    from tui.errors import CommandError

    wanted_fen = issuing.wanted_balance_fen(card.identity.card)
    if wanted_fen is None or card.identity.scheme != issuing.trust.bundle.scheme:
        raise CommandError(
            say("{path} exists already and was issued by another scheme; choose another name", path=card.path)
        )
    finished = issuing.finish_load(card.link(), system_clock())
    if finished is not None and load_counter(finished) == 1:
        return 0
    if finished is not None:
        note(say("A load of {amount} that was cut off is finished now.", amount=yuan(finished.amount_fen)))
    if card.state().load_counter or not wanted_fen:
        raise CommandError(say("{path} is a finished card already; choose another name", path=card.path))
    if balance_fen != wanted_fen:
        raise CommandError(
            say(
                "the issuing of {path} was begun with another balance; finish it with --balance {wanted}",
                path=card.path,
                wanted=yuan(wanted_fen),
            )
        )
    certified = card.identity.certificate.rider
    if certified is not rider:
        raise CommandError(
            say(
                "the issuing of {path} was begun with another rider class; finish it with --rider {wanted}",
                path=card.path,
                wanted=certified.word,
            )
        )
    return wanted_fen


@app.command("show", epilog="Exit codes: 0 shown; 1 CARD can't be read; 2 bad usage.")
def show(path: Card, as_json: AsJson = False) -> None:
    """Show what its holder sees: balance, counts, last records.

    Example: hardwallet card show alice.card
    """
    from tui.cardfile import open_card

    with open_card(path) as card:
        data = _card_data(card)
        lines = _card_lines(card, data)
    report(data, lines, as_json=as_json)


def _card_data(card: "CardAtHand") -> dict[str, Any]:
    from hardwallet.messages import STATE_BLOCKED, STATE_PIN_LOCKED, STATE_PIN_SET

    state = card.state()
    limits = state.limits
    return {
        "card": str(card.path),
        "number": card.identity.card.hex(),
        "scheme": card.identity.scheme.hex(),
        "tier": state.tier,
        "rider": card.identity.certificate.rider.word,
        "balance_fen": state.balance_fen,
        "sequence": state.sequence,
        "acknowledged_sequence": state.acknowledged_sequence,
        "spent_fen": state.spent_fen,
        "offline_fen": state.spent_fen - state.acknowledged_fen,
        "loads": state.load_counter,
        "unratified": state.unratified,
        "blocked": bool(state.state & STATE_BLOCKED),
        "pin": {
            "set": bool(state.state & STATE_PIN_SET),
            "locked": bool(state.state & STATE_PIN_LOCKED),
            "tries_left": state.tries,
        },
        "limits": {
            "balance_cap_fen": limits.balance_cap_fen,
            "single_fen": limits.single_fen,
            "pin_free_fen": limits.pin_free_fen,
            "offline_total_fen": limits.offline_total_fen,
            "offline_count": limits.offline_count,
            "transit_count": limits.transit_count,
            "transit_amount_fen": limits.transit_amount_fen,
        },
        "valid_until": card.identity.certificate.not_after,
        "records": [_record_data(record, waits) for record, waits in card.records(_RECORDS_SHOWN)],
    }


def _record_data(record: "Record", unratified: bool) -> dict[str, Any]:
    from hardwallet.records import LOAD, PAYMENT
    from pos_terminal.receipts import profile_name, record_code

    names = {PAYMENT: "payment", LOAD: "load"}
    return {
        "sequence": record.sequence,
        "kind": names.get(record.kind, "refund"),
        "profile": profile_name(record) if record.kind == PAYMENT else "",
        "amount_fen": record.amount_fen,
        "balance_fen": record.balance_fen,
        "time_s": record.time_s,
        "payee": record.payee.hex(),
        "terminal": record.terminal.hex(),
        "unratified": unratified,
        "code": record_code(record),
    }


def _card_lines(card: "CardAtHand", data: dict[str, Any]) -> list[str]:
    from hardwallet.limits import tiers

    limits, pin = data["limits"], data["pin"]
    tier = tiers().get(data["tier"])
    if not pin["set"]:
        pin_text = say("not set (hardwallet card pin {path})", path=card.path)
    elif pin["locked"]:
        pin_text = say("locked after too many wrong tries")
    else:
        pin_text = say("set, {tries} tries left", tries=pin["tries_left"])
    lines = facts(
        [
            (say("number"), data["number"]),
            (say("balance"), cny(data["balance_fen"])),
            (say("state"), say("blocked") if data["blocked"] else say("good")),
            (say("tier"), f"{data['tier']} ({term(tier.name)})" if tier else data["tier"]),
            *_rider_fact(card.identity.certificate.rider),
            (say("PIN"), pin_text),
            (
                say("paid offline"),
                say(
                    "CNY {amount} of {limit} before its issuer has to see it",
                    amount=yuan(data["offline_fen"]),
                    limit=yuan(limits["offline_total_fen"]),
                ),
            ),
            (
                say("limits"),
                say(
                    "CNY {single} at once, {pin} without PIN, {cap} in all",
                    single=yuan(limits["single_fen"]),
                    pin=yuan(limits["pin_free_fen"]),
                    cap=yuan(limits["balance_cap_fen"]),
                ),
            ),
            (say("records"), data["sequence"]),
            (say("unratified"), _unratified_text(data["unratified"])),
            (say("valid until"), when(data["valid_until"])),
        ]
    )
    if data["records"]:
        rows = [
            (
                row["sequence"],
                when(row["time_s"]),
                ", ".join(term(word) for word in (row["kind"], row["profile"]) if word),
                ("-" if row["kind"] == "payment" else "+") + yuan(row["amount_fen"]),
                yuan(row["balance_fen"]),
                say("waits") if row["unratified"] else say("done"),
                row["code"],
            )
            for row in data["records"]
        ]
        heads = [
            say("no"),
            say("time"),
            say("what"),
            say("amount"),
            say("balance"),
            say("state"),
            say("code"),
        ]
        lines += ["", *table(heads, rows, right=(0, 3, 4))]
    return lines


def _unratified_text(count: int) -> str:
    if not count:
        return say("none")
    return say("{count}: carried along by the next terminal that sees the card", count=count)


@app.command(
    "load", epilog="Exit codes: 0 loaded; 1 the card or the scheme refuses, nothing was loaded; 2 bad usage."
)
def load(
    path: Card,
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="In yuan, as in 50.00; 0.00 for what is owed alone.")
    ],
    scheme: Scheme,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Top a card up. A load that was cut off is finished first.

    Payments that nobody granted, and that clearing owes back to the card, come on top; with AMOUNT 0.00 the
    card gets them alone. What clearing has acknowledged is passed on to the card, which makes room in its
    offline limits.

    Example: hardwallet card load alice.card 50.00 --scheme city
    """
    from tui.cardfile import open_card

    amount_fen = _balance_fen(amount)
    with open_card(path) as card:
        news = _news(scheme, key_file, card)
        loaded = _load(card, amount_fen, scheme, key_file, news)
        state = card.state()
    tell_clearing(scheme, key_file, loads=True)
    receipt = loaded.receipt
    returned_fen = sum(one.amount_fen for one in loaded.returns)
    report(
        {
            "card": str(path),
            "number": receipt.card.hex(),
            "amount_fen": receipt.amount_fen,
            "returned_fen": returned_fen,
            "returns": [one.sequence for one in loaded.returns],
            "balance_fen": state.balance_fen,
            "sequence": receipt.sequence,
            "resumed": loaded.resumed,
            "acknowledged_sequence": state.acknowledged_sequence,
        },
        facts(
            [
                (say("loaded"), cny(receipt.amount_fen)),
                *([(say("of that returned"), _returned_text(loaded.returns))] if loaded.returns else []),
                (say("balance"), cny(state.balance_fen)),
                (say("card"), receipt.card.hex()),
                (say("receipt"), say("record {sequence} of the card", sequence=receipt.sequence)),
            ]
        ),
        as_json=as_json,
    )


@dataclass(frozen=True, slots=True)
class _News:
    """What clearing knows of a card: up to where all has arrived (sequence, total), and what is owed back."""

    acknowledged: tuple[int, int] = (0, 0)
    owed: "Sequence[Owed]" = ()


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A load: its receipt, the payments that went back with it, and whether it was begun before."""

    receipt: "Record"
    returns: "Sequence[Owed]"
    resumed: bool


def _returned_text(returns: "Sequence[Owed]") -> str:
    return say(
        "CNY {amount}: paid before and not granted, record {records}",
        amount=yuan(sum(one.amount_fen for one in returns)),
        records=", ".join(str(one.sequence) for one in returns),
    )


def _load(card: "CardAtHand", amount_fen: int, scheme: Path, key_file: Path | None, news: _News) -> _Loaded:
    """Finishes a load that was cut off, which may be this one; else loads."""
    from fleet.open import open_issuing, system_clock
    from tui.errors import BadUsage

    with open_issuing(scheme, key_file) as issuing:
        finished = issuing.finish_load(card.link(), system_clock())
        held = [] if finished is None else issuing.returns_of(finished)
        if finished is not None:
            new_fen = finished.amount_fen - sum(one.amount_fen for one in held)
            if finished.amount_fen and new_fen == amount_fen:
                return _Loaded(finished, held, True)
            amount = yuan(finished.amount_fen)
            note(say("A load of {amount} that was cut off is finished now.", amount=amount))
        returns = _fitting(card, amount_fen, [one for one in news.owed if one not in held])
        if not amount_fen and not returns:
            raise BadUsage(say("the amount is zero, and nothing is owed back to this card"))
        receipt = issuing.load(card.link(), amount_fen, system_clock(), news.acknowledged, returns)
        return _Loaded(receipt, returns, False)


def _fitting(card: "CardAtHand", amount_fen: int, owed: "Sequence[Owed]") -> "list[Owed]":
    """What of it the card can hold beside the new money, and one order can name; the rest has to wait."""
    from hardwallet.issuing import MAX_RETURNS

    state = card.state()
    room_fen = state.limits.balance_cap_fen - state.balance_fen - amount_fen
    fitting: list[Owed] = []
    for one in owed:
        if one.amount_fen <= room_fen and len(fitting) < MAX_RETURNS:
            fitting.append(one)
            room_fen -= one.amount_fen
    waiting_fen = sum(one.amount_fen for one in owed if one not in fitting)
    if waiting_fen:
        amount = yuan(waiting_fen)
        note(say("CNY {amount} goes back with a later load: the card may not hold it now.", amount=amount))
    return fitting


def _news(scheme: Path, key_file: Path | None, card: "CardAtHand") -> _News:
    """What clearing knows of this card; nothing where it keeps no books, or they can't be read."""
    from fleet.open import CLEARING_DATABASE, open_clearing
    from offline_sync.errors import ClearingError

    if not (scheme / CLEARING_DATABASE).exists():
        return _News()
    number = card.identity.card
    try:
        with open_clearing(scheme, key_file) as clearing:
            (sequence, total_fen), owed = clearing.arrived(number), clearing.owed(number)
    except ClearingError as error:
        note(
            say(
                "Clearing's books can't be read, so the card gets no news of them: {why}",
                why=told(str(error)),
            )
        )
        return _News()
    state = card.state()
    # More than the card has signed: a clone's payments, or an old copy of the card's file.
    known = sequence <= state.sequence and total_fen <= state.spent_fen
    return _News((sequence, total_fen) if known else (0, 0), owed)


@app.command("pin", epilog="Exit codes: 0 set; 1 the card refuses (wrong PIN, locked); 2 bad usage.")
def pin(path: Card, pin_file: PinFile = None, as_json: AsJson = False) -> None:
    """Set a card's first PIN, or change it.

    The PIN is asked for at a terminal; else it comes from --pin-file, HARDWALLET_PIN or stdin: one line with
    the new PIN, or two lines with the current one and the new one. It is never an argument.

    Example: hardwallet card pin alice.card
    """
    import os

    from hardwallet.messages import STATE_PIN_SET
    from hardwallet.session import KnownCard, WalletSession
    from tui.cardfile import open_card
    from tui.pin import pins_for_change

    with open_card(path) as card:
        identity = card.identity
        has_pin = bool(card.state().state & STATE_PIN_SET)
        old, new = pins_for_change(pin_file, has_pin=has_pin)
        session = WalletSession(card.link(), identity.suite)
        session.select()
        key = identity.suite.verifying_key(identity.certificate.public)
        session.change_pin(
            old, new, KnownCard(identity.certificate, key, identity.agreement.public), os.urandom
        )
    report(
        {"card": str(path), "number": identity.card.hex(), "changed": has_pin},
        [say("The PIN was changed.") if has_pin else say("The PIN was set.")],
        as_json=as_json,
    )


@app.command(
    "serve",
    epilog="Exit codes: 0 ended by SIGINT or SIGTERM; 1 no virtual reader, CARD can't be used; 2 bad usage.",
)
def serve(
    path: Card,
    vpcd: Annotated[
        bool, typer.Option("--vpcd", help="In the virtual reader of the pcscd that runs on this machine.")
    ] = False,
    trace: TraceFile = None,
) -> None:
    """Put a simulated card in front of real software.

    Prints one line that begins with 'ready' once the card can be reached. Ends on SIGINT or SIGTERM.

    Example: hardwallet card serve --vpcd alice.card
    """
    from tui.errors import BadUsage

    if not vpcd:
        raise BadUsage(say("say where to show the card: --vpcd puts it into pcscd's virtual reader"))
    from hardwallet.card.simulated import SimulatedCard
    from tui.shown import show_through_vpcd

    card = SimulatedCard(path)
    try:
        show_through_vpcd(
            card,
            lambda: line(say("ready: {path} is in pcscd's virtual reader", path=path)),
            trace,
        )
    finally:
        card.close()
