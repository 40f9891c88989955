"""`hardwallet scheme`: makes a scheme, rotates and revokes its operators' keys."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.books import tell_clearing
from tui.errors import BadUsage
from tui.options import (
    AsJson,
    KeyFile,
    OptionalScheme,
    OptionalTerminal,
    Scheme,
    SuiteName,
    Terminal,
    suite_by_name,
)
from tui.output import note, report
from tui.terms import term
from tui.text import facts, say, table, when

if TYPE_CHECKING:
    from hardwallet.certificates import TrustBundle

app = typer.Typer(help="Make a scheme; rotate and revoke its operators' keys.")
authorities = typer.Typer(help="The list of the operators that the scheme's root stands for.")
app.add_typer(authorities, name="authorities")

_OPERATORS = ("issuer", "acquirer")
_DIGEST_LENGTH = 8


@app.command(
    "init",
    epilog="Exit codes: 0 made; 1 the folder holds a scheme already, or can't be written; 2 bad usage.",
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "hardwallet",
    suite: SuiteName = "international",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a scheme: a root, operators, sealed keys.

    Example: hardwallet scheme init city --name "Our city"
    """
    import os

    from fleet.open import system_clock
    from hardwallet.issuing import create_scheme
    from hardwallet.keys import KEY_FILE, find_passphrase
    from tui.errors import CommandError

    chosen = suite_by_name(suite)
    if not name.strip() or len(name) > 80 or not name.isprintable():
        raise BadUsage(say("a scheme's name has 1 to 80 characters"))
    if (folder / "scheme.json").exists():
        raise CommandError(say("{folder} holds a scheme already; choose another folder", folder=folder))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    passphrase = find_passphrase(key_file, folder / KEY_FILE, create=True)
    trust = create_scheme(folder, name, chosen, passphrase, system_clock(), os.urandom)
    bundle = trust.bundle
    operators = [operator.operator.hex() for operator in bundle.operators]
    report(
        {
            "folder": str(folder),
            "name": trust.name,
            "scheme": bundle.scheme.hex(),
            "suite": chosen.number,
            "operators": operators,
        },
        facts(
            [
                (say("scheme"), f"{bundle.scheme.hex()} ({trust.name})"),
                (say("folder"), folder),
                (say("operators"), ", ".join(operators)),
                (say("next"), f"hardwallet card new --scheme {folder} CARD --balance 200.00"),
            ]
        ),
        as_json=as_json,
    )


@app.command(
    "rotate",
    epilog="Exit codes: 0 rotated; 1 refused, nothing changed; 2 bad usage.",
)
def rotate(
    operator: Annotated[str, typer.Argument(metavar="issuer|acquirer", help="Whose key.")],
    scheme: Scheme,
    compromised: Annotated[
        bool,
        typer.Option(
            "--compromised", help="The old key is in wrong hands: revoke all that it signed, at once."
        ),
    ] = False,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Give an operator a new key, which signs from now on.

    The old one stays good until it is revoked (hardwallet scheme revoke), so that nothing stops meanwhile.
    With --compromised, terminals of that acquirer need new certificates (hardwallet terminal renew) before
    they can work again, and an issuer's cards have to be issued anew.

    Example: hardwallet scheme rotate acquirer --scheme city
    """
    from fleet.open import open_issuing, system_clock
    from hardwallet.certificates import digest

    if operator not in _OPERATORS:
        raise BadUsage(say("'{given}' has no key to rotate; name issuer or acquirer", given=operator))
    with open_issuing(scheme, key_file) as issuing:
        bundle = issuing.trust.bundle
        made = issuing.rotate(operator, system_clock(), compromised=compromised)
        data = _authorities_data(bundle)
        named = digest(bundle.suite, made).hex()
    tell_clearing(scheme, key_file)
    rows: list[tuple[str, object]] = [
        (say("operator"), f"{made.operator.hex()} ({term(operator)})"),
        (say("certificate"), named),
        (say("signs until"), when(made.not_after)),
        (say("authority list"), data["version"]),
        (say("next"), f"hardwallet scheme authorities export FILE --scheme {scheme}"),
    ]
    report({"operator": made.operator.hex(), "certificate": named, **data}, facts(rows), as_json=as_json)


@app.command("revoke", epilog="Exit codes: 0 revoked, for ever; 1 refused, nothing changed; 2 bad usage.")
def revoke(
    certificate: Annotated[
        str, typer.Argument(metavar="CERTIFICATE", help="Its digest, as `scheme authorities show` tells it.")
    ],
    scheme: Scheme,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Revoke an operator's certificate, for ever.

    Whoever has the new authority list refuses all that its key signed.

    Example: hardwallet scheme revoke 0123456789abcdef --scheme city
    """
    from fleet.open import open_issuing, system_clock

    try:
        named = bytes.fromhex(certificate)
    except ValueError:
        named = b""
    if len(named) != _DIGEST_LENGTH:
        raise BadUsage(
            say("'{given}' is no certificate's digest; it has 16 hexadecimal digits", given=certificate)
        )
    with open_issuing(scheme, key_file) as issuing:
        revoked = issuing.revoke(named, system_clock())
        data = _authorities_data(issuing.trust.bundle)
    tell_clearing(scheme, key_file)
    words = say(
        "The certificate {named} of operator {operator} is revoked by authority list {version}. "
        "Next: hardwallet scheme authorities export FILE --scheme {scheme}",
        named=certificate.lower(),
        operator=revoked.operator.hex(),
        version=data["version"],
        scheme=scheme,
    )
    report({"revoked": named.hex(), "operator": revoked.operator.hex(), **data}, [words], as_json=as_json)


# ---------------------------------------------------------------------------------------- authority lists


@authorities.command(
    "show", epilog="Exit codes: 0 shown; 1 the folder can't be read, or holds no scheme; 2 bad usage."
)
def show(scheme: OptionalScheme = None, terminal: OptionalTerminal = None, as_json: AsJson = False) -> None:
    """Show the operators that a scheme or a terminal trusts.

    Example: hardwallet scheme authorities show --scheme city
    """
    from hardwallet.issuing import read_trust
    from pos_terminal.trust_update import read_terminal_trust

    if terminal is not None and scheme is None:
        trust = read_terminal_trust(terminal)
    elif scheme is not None and terminal is None:
        trust = read_trust(scheme)
    else:
        raise BadUsage(say("say whose operators: --scheme DIR or --terminal DIR"))
    data = _authorities_data(trust.bundle)
    rows = [
        (
            row["certificate"],
            row["operator"],
            ", ".join(map(term, row["roles"])),
            when(row["not_before"]),
            when(row["not_after"]),
            _state_text(row),
        )
        for row in data["certificates"]
    ]
    heads = [
        say("certificate"),
        say("operator"),
        say("may"),
        say("valid from"),
        say("valid until"),
        say("state"),
    ]
    version = data["version"] or say("none yet: the operators are those of the scheme's first day")
    lines = facts(
        [(say("scheme"), f"{trust.bundle.scheme.hex()} ({trust.name})"), (say("authority list"), version)]
    )
    report(data, [*lines, "", *table(heads, rows)], as_json=as_json)


@authorities.command("export", epilog="Exit codes: 0 written; 1 FILE can't be written; 2 bad usage.")
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    scheme: Scheme,
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the authority list into a file, for terminals.

    Example: hardwallet scheme authorities export city.authorities --scheme city
    """
    from fleet.open import open_issuing, system_clock
    from hardwallet.journalled import write_durably

    with open_issuing(scheme, key_file) as issuing:
        raw = issuing.authorities(system_clock())
        data = _authorities_data(issuing.trust.bundle)
    write_durably(file, raw, mode=0o644)
    words = say(
        "Authority list {version} is in {file}. "
        "Next: hardwallet scheme authorities import {file} --terminal DIR",
        version=data["version"],
        file=file,
    )
    report({"file": str(file), "bytes": len(raw), **data}, [words], as_json=as_json)


@authorities.command(
    "import", epilog="Exit codes: 0 the terminal holds that list; 1 refused, it keeps its own; 2 bad usage."
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An authority list.")],
    terminal: Terminal,
    as_json: AsJson = False,
) -> None:
    """Bring a terminal up to date on its operators.

    The file is believed for the root's signature, whoever carried it. An older list is refused. A terminal
    that is at work follows when it is started again.

    Example: hardwallet scheme authorities import city.authorities --terminal till
    """
    from hardwallet.authorities import read_file
    from pos_terminal.trust_update import is_revoked, read_terminal_trust, take_authorities

    changed = take_authorities(terminal, read_file(file))
    data = _authorities_data(read_terminal_trust(terminal).bundle)
    revoked = is_revoked(terminal)
    if revoked:
        note(
            say(
                "This terminal's own certificate is revoked by the list; it takes nothing more before: "
                "hardwallet terminal renew {terminal} --scheme DIR",
                terminal=terminal,
            )
        )
    words = say("Authority list {version} is held.", version=data["version"])
    if not changed:
        words = say("Authority list {version} was held already.", version=data["version"])
    report({**data, "changed": changed, "own_certificate_revoked": revoked}, [words], as_json=as_json)


def _authorities_data(bundle: "TrustBundle") -> dict[str, Any]:
    """What a bundle trusts, for programs."""
    from hardwallet.certificates import CLASS_ACQUIRING, CLASS_ISSUING, digest

    names = {CLASS_ISSUING: "issue", CLASS_ACQUIRING: "acquire"}
    signs = {bundle.current(one.operator)[0] for one in bundle.operators if bundle.current(one.operator)}
    rows = []
    for one in bundle.operators:
        named = digest(bundle.suite, one)
        since = bundle.revoked.get(named)
        state = "revoked" if since is not None else "signs" if one in signs else "good"
        roles = [name for bit, name in names.items() if one.klass & bit]
        rows.append(
            {
                "certificate": named.hex(),
                "operator": one.operator.hex(),
                "roles": roles,
                "not_before": one.not_before,
                "not_after": one.not_after,
                "state": state,
                "revoked_since": since,
            }
        )
    return {"version": bundle.version, "certificates": rows}


def _state_text(row: dict[str, Any]) -> str:
    if row["state"] == "revoked":
        return say("revoked since {time}", time=when(row["revoked_since"]))
    return say("signs") if row["state"] == "signs" else say("good, signs no more")
