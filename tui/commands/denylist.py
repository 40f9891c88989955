"""`hardwallet denylist`: the list of cards that an issuer refuses, carried by file and shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.options import AsJson, KeyFile, OptionalScheme, OptionalTerminal, Terminal
from tui.output import report
from tui.text import facts, say, told, when

if TYPE_CHECKING:
    from fleet.open import TerminalSession
    from hardwallet.denylist import Denylist

_DAY_S = 86_400

app = typer.Typer(help="The list of cards that an issuer refuses.")

_SHOWN = 100


@app.command(
    "import",
    epilog="Exit codes: 0 the terminal holds the list of the file; 1 refused, it keeps the one it had; "
    "2 bad usage.",
)
def import_list(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A denylist, or a change of one.")],
    terminal: Terminal,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring a terminal's denylist up to date from a file.

    The file is believed for its issuer's signature, whoever carried it. An older list is refused.

    Example: hardwallet denylist import city.denylist --terminal till
    """
    from fleet.open import open_session

    with open_session(terminal, key_file) as session:
        held = session.denylists.offer_file(file)
        data = list_data(held, session)
    words = say(
        "Denylist {version} of issuer {operator} is held: {count} cards, dated {time}.",
        version=held.version,
        operator=held.operator.hex(),
        count=len(held),
        time=when(held.time_s),
    )
    report(data, [words], as_json=as_json)


@app.command("show", epilog="Exit codes: 0 shown; 1 there is no good list; 2 bad usage.")
def show(
    terminal: OptionalTerminal = None,
    scheme: OptionalScheme = None,
    card: Annotated[
        str, typer.Option("--card", metavar="NUMBER", help="Say whether this card is on a list.")
    ] = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a terminal's denylists, or a scheme's.

    Example: hardwallet denylist show --terminal till --card 0000010100000007
    """
    from fleet.open import open_session
    from tui.errors import BadUsage

    number = card_number(card) if card else b""
    if scheme is not None and terminal is None:
        _show_published(scheme, key_file, number, as_json=as_json)
        return
    if terminal is None or scheme is not None:
        raise BadUsage(say("say whose denylist: --terminal DIR or --scheme DIR"))
    with open_session(terminal, key_file) as session:
        data = status_data(session)
        if number:
            data["card"] = {
                "number": number.hex(),
                "denied": any(number in held for held in session.denylists.held),
            }
    report(data, _lines(data), as_json=as_json)
    if data["damaged"] or not data["lists"]:
        raise typer.Exit(1)


def _show_published(scheme: Path, key_file: Path | None, number: bytes, *, as_json: bool) -> None:
    from fleet.open import open_issuing
    from tui.commands.publishing import denylist_data, denylist_lines

    with open_issuing(scheme, key_file) as issuing:
        data = denylist_data(issuing)
        cards = issuing.denied_cards()
    if number:
        data["card"] = {"number": number.hex(), "denied": number in cards}
    shown = [] if number else [card.hex() for card in cards[:_SHOWN]]
    lines = denylist_lines(data) + (_card_line(data) if number else shown)
    if len(cards) > len(shown) > 0:
        lines.append(say("and {count} more", count=len(cards) - len(shown)))
    report(data if number else {**data, "numbers": shown}, lines, as_json=as_json)
    if not data["version"]:
        raise typer.Exit(1)


def card_number(text: str) -> bytes:
    """A card's number, 16 hex digits, as 8 bytes. Raises BadUsage."""
    from tui.errors import BadUsage

    try:
        number = bytes.fromhex(text)
    except ValueError:
        number = b""
    if len(number) != 8:
        raise BadUsage(say("'{text}' is no card's number; it has 16 hexadecimal digits", text=text))
    return number


def list_data(held: "Denylist", session: "TerminalSession") -> dict[str, Any]:
    """A list that a terminal holds, for programs. Its age is by the terminal's clock, in whole days; `sells`:
    whether it is new enough to sell under, `stale` what its age forbids."""
    from pos_terminal.limits import stale_refusal

    limits, age_s = session.terminal.limits, session.terminal.clock() - held.time_s
    return {
        "operator": held.operator.hex(),
        "version": held.version,
        "time_s": held.time_s,
        "age_days": age_s // _DAY_S,
        "sells": stale_refusal(limits, 0, age_s) is None,
        "stale": stale_refusal(limits, limits.stale_single_fen + 1, age_s) or "",
        "cards": len(held),
    }


def status_data(session: "TerminalSession") -> dict[str, Any]:
    """All lists of a terminal, and those that are there but not good, for programs."""
    store = session.denylists
    return {
        "lists": [list_data(held, session) for held in store.held],
        "damaged": [
            {"operator": operator.hex(), "reason": reason} for operator, reason in store.damaged.items()
        ],
    }


def status_lines(data: dict[str, Any]) -> list[str]:
    """One line a list, for people."""
    lines = [
        say(
            "{version}, {age} days old, {count} cards refused (issuer {operator})",
            version=row["version"],
            age=row["age_days"],
            count=row["cards"],
            operator=row["operator"],
        )
        for row in data["lists"]
    ]
    lines += [told(row["stale"]) for row in data["lists"] if row["stale"]]
    lines += [
        say("damaged (issuer {operator}): {reason}", operator=row["operator"], reason=told(row["reason"]))
        for row in data["damaged"]
    ]
    return lines or [say("none: no card can pay here until the terminal gets one")]


def _lines(data: dict[str, Any]) -> list[str]:
    lines = facts((say("denylist"), line) for line in status_lines(data))
    return lines + (_card_line(data) if "card" in data else [])


def _card_line(data: dict[str, Any]) -> list[str]:
    words = say("is refused") if data["card"]["denied"] else say("is on no list")
    return facts([(say("card {number}", number=data["card"]["number"]), words)])
