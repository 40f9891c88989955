"""What an issuer publishes, of `hardwallet denylist`, `orders` and `card`: the scheme's side of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.books import tell_clearing
from tui.errors import BadUsage, CommandError
from tui.options import AsJson, KeyFile, Scheme
from tui.output import report
from tui.terms import term
from tui.text import facts, say, when

if TYPE_CHECKING:
    from hardwallet.issuing import Scheme as OpenScheme

Cards = Annotated[
    list[str] | None, typer.Argument(metavar="CARD…", help="Card numbers, 16 hexadecimal digits each.")
]
CardNumber = Annotated[
    str, typer.Argument(metavar="NUMBER", help="The card's number, 16 hexadecimal digits.")
]
CardsFile = Annotated[
    Path | None, typer.Option("--list", metavar="FILE", help="A file with card numbers, one a line.")
]
OutFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")]

_MAX_LIST = 32 * 1024 * 1024
_PUBLISHED = "Exit codes: 0 published; 1 refused, the list stays as it is; 2 bad usage."
_ORDERED = "Exit codes: 0 the order is written; 1 refused, none was; 2 bad usage."


def register(denylist: typer.Typer, orders: typer.Typer, card: typer.Typer) -> None:
    """Adds these commands to their groups."""
    denylist.command("add", epilog=_PUBLISHED)(add)
    denylist.command("remove", epilog=_PUBLISHED)(remove)
    denylist.command("renew", epilog=_PUBLISHED)(renew)
    denylist.command(
        "export",
        epilog="Exit codes: 0 written; 1 there is no such list, or FILE can't be written; 2 bad usage.",
    )(export_list)
    orders.command("export", epilog="Exit codes: 0 written; 1 FILE can't be written; 2 bad usage.")(
        export_orders
    )
    card.command("block", epilog=_ORDERED)(block)
    card.command("unblock", epilog=_ORDERED)(unblock)
    card.command("raise", epilog=_ORDERED)(raise_allowance)


# ---------------------------------------------------------------------------------------------- denylist


def add(
    scheme: Scheme,
    cards: Cards = None,
    from_file: CardsFile = None,
    clones: Annotated[
        bool, typer.Option("--clones", help="Every card that the scheme's clearing can prove was cloned.")
    ] = False,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Put cards on the scheme's denylist.

    This publishes its next version. Terminals refuse them once they have it: by `hardwallet sync`, or as a
    file (denylist export, import).

    Example: hardwallet denylist add 0000010100000007 --scheme city
    """
    wanted = _numbers(cards, from_file)
    if not wanted and not clones:
        raise BadUsage(say("name the cards, or give --clones or --list FILE"))
    if clones:
        wanted += _clones(scheme, key_file)
    _publish(scheme, key_file, wanted, [], as_json=as_json)


def remove(
    scheme: Scheme,
    cards: Cards = None,
    from_file: CardsFile = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take cards off the scheme's denylist.

    Example: hardwallet denylist remove 0000010100000007 --scheme city
    """
    wanted = _numbers(cards, from_file)
    if not wanted:
        raise BadUsage(say("name the cards, or give --list FILE"))
    _publish(scheme, key_file, [], wanted, as_json=as_json)


def renew(scheme: Scheme, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Publish the denylist as it is with the date of today.

    A terminal trusts a list less as it grows old: publish one every day, also when no card comes or goes.

    Example: hardwallet denylist renew --scheme city
    """
    _publish(scheme, key_file, [], [], as_json=as_json)


def _publish(
    scheme: Path, key_file: Path | None, add: list[bytes], remove: list[bytes], *, as_json: bool
) -> None:
    from fleet.open import open_issuing, system_clock
    from hardwallet.denylist import parse_header

    with open_issuing(scheme, key_file) as issuing:
        published = issuing.publish_denylist(add, remove, system_clock())
        data = denylist_data(issuing)
    tell_clearing(scheme, key_file)
    change = parse_header(published.delta or published.full)
    data |= {"added": change.added, "removed": change.removed}
    words = say(
        "Denylist {version} is published: {count} cards, {added} more and {removed} fewer than before.",
        version=published.version,
        count=data["cards"],
        added=data["added"],
        removed=data["removed"],
    )
    report(data, [words], as_json=as_json)


def denylist_data(issuing: "OpenScheme") -> dict[str, Any]:
    """The denylist of an open scheme, for programs; version 0 before there is one."""
    from hardwallet.issuing import ISSUER

    header = issuing.denylist_header()
    return {
        "operator": ISSUER.hex(),
        "version": header.version if header else 0,
        "time_s": header.time_s if header else 0,
        "cards": header.total if header else 0,
    }


def denylist_lines(data: dict[str, Any]) -> list[str]:
    """The same for people."""
    if not data["version"]:
        return [
            say("No denylist is published yet; the first one comes with the first terminal, or with add.")
        ]
    return facts(
        [
            (say("denylist"), data["version"]),
            (say("issuer"), data["operator"]),
            (say("dated"), when(data["time_s"])),
            (say("cards"), data["cards"]),
        ]
    )


def export_list(
    file: OutFile,
    scheme: Scheme,
    change: Annotated[
        bool,
        typer.Option("--change", help="Only what changed last: short, for terminals that are up to date."),
    ] = False,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the denylist into a file, for terminals.

    Example: hardwallet denylist export city.denylist --scheme city
    """
    from fleet.open import open_issuing, system_clock

    with open_issuing(scheme, key_file) as issuing:
        raw = issuing.denylist(system_clock())
        if change:
            changes = list(issuing.denylist_deltas())
            if not changes:
                raise CommandError(
                    say("the denylist has not changed since its first version; export all of it")
                )
            raw = changes[-1]
        data = denylist_data(issuing)
    _write(file, raw)
    words = say(
        "Denylist {version} is in {file}: {count} cards. "
        "Next: hardwallet denylist import {file} --terminal …",
        version=data["version"],
        file=file,
        count=data["cards"],
    )
    report({**data, "file": str(file), "bytes": len(raw), "change": change}, [words], as_json=as_json)


def _clones(scheme: Path, key_file: Path | None) -> list[bytes]:
    from fleet.clones import proven_clones
    from fleet.open import CLEARING_DATABASE, open_clearing

    if not (scheme / CLEARING_DATABASE).exists():
        raise CommandError(say("{folder} holds no clearing, so nothing is proven there", folder=scheme))
    with open_clearing(scheme, key_file) as clearing:
        return proven_clones(clearing)


def _numbers(cards: Sequence[str] | None, from_file: Path | None) -> list[bytes]:
    from tui.commands.denylist import card_number

    texts = list(cards or [])
    if from_file is not None:
        with from_file.open("rb") as file:
            raw = file.read(_MAX_LIST + 1)
        if len(raw) > _MAX_LIST:
            raise CommandError(say("{file} is too long for a list of cards", file=from_file))
        texts += raw.decode("ascii", errors="replace").split()
    return [card_number(text) for text in texts]


# ---------------------------------------------------------------------------------------- orders to cards


def block(number: CardNumber, scheme: Scheme, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Order a lost card to pay nothing more.

    The order reaches the card at the next terminal that carries it. Until then the denylist helps.

    Example: hardwallet card block 0000010100000007 --scheme city
    """
    from hardwallet.messages import KIND_BLOCK

    _order(number, scheme, key_file, KIND_BLOCK, b"", as_json=as_json)


def unblock(number: CardNumber, scheme: Scheme, key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Order a card to pay again.

    It takes the place of an earlier order to block that has not reached the card yet.

    Example: hardwallet card unblock 0000010100000007 --scheme city
    """
    from hardwallet.messages import KIND_UNBLOCK

    _order(number, scheme, key_file, KIND_UNBLOCK, b"", as_json=as_json)


def raise_allowance(
    number: CardNumber, scheme: Scheme, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Let a card pay offline again what clearing has got.

    The order tells the card up to which payment everything has arrived.

    Example: hardwallet card raise 0000010100000007 --scheme city
    """
    from fleet.clones import proven_clones
    from fleet.open import CLEARING_DATABASE, open_clearing
    from hardwallet.messages import KIND_ACKNOWLEDGE
    from hardwallet.publishing import acknowledge_value
    from tui.commands.denylist import card_number

    card = card_number(number)
    if not (scheme / CLEARING_DATABASE).exists():
        raise CommandError(say("{folder} holds no clearing; nothing of the card has arrived", folder=scheme))
    with open_clearing(scheme, key_file) as clearing:
        sequence, total_fen = clearing.arrived(card)
        if card in proven_clones(clearing):
            raise CommandError(say("card {number} was cloned; block it instead", number=number))
    if not sequence:
        raise CommandError(say("nothing of card {number} has arrived at clearing yet", number=number))
    _order(
        number,
        scheme,
        key_file,
        KIND_ACKNOWLEDGE,
        acknowledge_value(sequence, total_fen),
        as_json=as_json,
        more={"acknowledged_sequence": sequence, "acknowledged_fen": total_fen},
    )


def _order(
    number: str,
    scheme: Path,
    key_file: Path | None,
    kind: int,
    value: bytes,
    *,
    as_json: bool,
    more: dict[str, Any] | None = None,
) -> None:
    from fleet.open import open_issuing, system_clock
    from hardwallet import messages as m
    from tui.commands.denylist import card_number

    names = {m.KIND_BLOCK: "block", m.KIND_UNBLOCK: "unblock", m.KIND_ACKNOWLEDGE: "raise"}
    card = card_number(number)
    with open_issuing(scheme, key_file) as issuing:
        order = m.parse_card_order(issuing.card_order(card, kind, value, system_clock()))
    tell_clearing(scheme, key_file)
    report(
        {
            "card": card.hex(),
            "order": names[kind],
            "number": order.number,
            "time_s": order.time_s,
            **(more or {}),
        },
        facts(
            [
                (say("card"), card.hex()),
                (say("order"), f"{order.number}: {term(names[kind])}"),
                (say("next"), f"hardwallet orders export FILE --scheme {scheme}"),
            ]
        ),
        as_json=as_json,
    )


def export_orders(
    file: OutFile,
    scheme: Scheme,
    every: Annotated[
        bool, typer.Option("--all", help="Also those that a later order to the same card undoes.")
    ] = False,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the orders to cards into a file, for terminals.

    Example: hardwallet orders export city.orders --scheme city
    """
    from fleet.open import open_issuing

    with open_issuing(scheme, key_file) as issuing:
        orders = list(issuing.card_orders(superseded=every))
    _write(file, b"".join(orders))
    words = say(
        "{count} orders are in {file}. Next: hardwallet orders import {file} --terminal …",
        count=len(orders),
        file=file,
    )
    report({"file": str(file), "orders": len(orders)}, [words], as_json=as_json)


def _write(file: Path, content: bytes) -> None:
    from hardwallet.journalled import write_durably

    write_durably(file, content, mode=0o644)
