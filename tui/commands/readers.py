"""`hardwallet doctor`, `readers`, `probe`, `apdu`: what stands between this program and a card."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.options import AsJson, ReaderUri, Timeout, TraceFile
from tui.output import note, report
from tui.terms import term
from tui.text import columns, facts, say, table, told

if TYPE_CHECKING:
    from firmware_bridge.link import CardLink
    from tui.field import Field

_FORMS = ["sim:PATH-OF-A-CARD-FILE", "pcsc:NAME-OR-INDEX"]
_PROBES = 5
_MAX_APDUS = 1_000
# PC/SC part 3, 3.2.2.1.3: pseudo-APDUs that the reader answers, not the card.
_GET_UID = bytes.fromhex("FFCA000000")
_GET_ATS = bytes.fromhex("FFCA010000")


def register(app: typer.Typer) -> None:
    """Adds these commands to the program."""
    app.command(
        "doctor", epilog="Exit codes: 0 nothing in the way; 1 something has to be mended; 2 bad usage."
    )(doctor)
    app.command("readers", epilog="Exit codes: 0 listed, even if there is none; 2 bad usage.")(readers)
    app.command(
        "probe", epilog="Exit codes: 0 the card answered; 1 no card, or it does not answer; 2 bad usage."
    )(probe)
    app.command(
        "apdu", epilog="Exit codes: 0 every answer was 9000; 1 another one was, or none came; 2 bad usage."
    )(apdu)


def doctor(as_json: AsJson = False) -> None:
    """Find out why no card is seen, and what mends it.

    Looks at pcscd, readers, permissions, kernel modules, serial ports and versions.

    Example: hardwallet doctor
    """
    from firmware_bridge.doctor import SystemProbes, examine, healthy

    findings = examine(SystemProbes())
    lines = []
    for finding in findings:
        level = term(finding.level.value)
        lines.append(f"{level}{' ' * (8 - columns(level))}{told(finding.check)}: {told(finding.what)}")
        lines += [f"{'':8}{told(text)}" for text in (finding.why,) if text]
        lines += [f"{'':8}" + say("fix: {command}", command=finding.fix) for _ in (0,) if finding.fix]
    good = healthy(findings)
    lines.append(say("Nothing stands in the way.") if good else say("Something has to be mended; see above."))
    data = {
        "healthy": good,
        "findings": [
            {"check": f.check, "level": f.level.value, "what": f.what, "why": f.why, "fix": f.fix}
            for f in findings
        ],
    }
    report(data, lines, as_json=as_json)
    if not good:
        raise typer.Exit(1)


def readers(as_json: AsJson = False) -> None:
    """List the readers that can be opened, by URI.

    Example: hardwallet readers
    """
    from firmware_bridge.readers import list_readers

    found = list_readers()
    rows = [(info.uri, _present(info.card_present)) for info in found]
    if not found:
        note(
            say(
                "No reader is connected, or pcscd is not running: hardwallet doctor tells. "
                "A simulated card is a reader too: sim:PATH-OF-A-CARD-FILE."
            )
        )
    report(
        {
            "readers": [
                {"uri": info.uri, "name": info.name, "stack": info.stack, "card_present": info.card_present}
                for info in found
            ],
            "forms": _FORMS,
        },
        table([say("reader"), say("card")], rows) if found else [],
        as_json=as_json,
    )


def _present(present: bool | None) -> str:
    if present is None:
        return say("unknown")
    return say("present") if present else say("none")


def probe(
    reader: ReaderUri, timeout: Timeout = 10.0, trace: TraceFile = None, as_json: AsJson = False
) -> None:
    """Look at any card at all; writes nothing to it.

    Shows ATR, UID, ATS, what SELECT says, and the milliseconds that an APDU takes.

    Example: hardwallet probe --reader pcsc:0
    """
    from tui.field import open_field

    with open_field(reader, trace) as field:
        link = _card(field, timeout)
        try:
            data = {"reader": field.reader.uri, "stack": field.stack, **_probed(link)}
        finally:
            link.close()
    report(data, _probe_lines(data), as_json=as_json)


def _card(field: "Field", timeout_s: float) -> "CardLink":
    from tui.interrupt import Interrupts

    with Interrupts() as interrupts:
        return interrupts.wait(lambda: field.reader.wait_for_card(timeout_s), field.reader.cancel)


def _probed(link: "CardLink") -> dict[str, Any]:
    from firmware_bridge.apdu import Response
    from hardwallet.session import SELECT_COMMAND

    uid, _ = _timed(link, _GET_UID)
    ats, _ = _timed(link, _GET_ATS)
    times, answer = [], Response(b"", 0x6F00)
    for _ in range(_PROBES):
        answer, took_ms = _timed(link, SELECT_COMMAND)
        times.append(took_ms)
    times.sort()
    return {
        "atr": link.atr.hex().upper(),
        "uid": uid.data.hex().upper() if uid.ok else None,
        "ats": ats.data.hex().upper() if ats.ok else None,
        "select_sw": f"{answer.sw:04X}",
        "apdu_ms": {"median": round(times[len(times) // 2], 3), "worst": round(times[-1], 3)},
        "wallet": _wallet(answer.data) if answer.ok else None,
    }


def _wallet(data: bytes) -> dict[str, Any] | None:
    from hardwallet.errors import WalletError
    from hardwallet.messages import STATE_BLOCKED, STATE_PIN_LOCKED, STATE_PIN_SET, parse_selected

    try:
        selected = parse_selected(data)
    except WalletError:
        return None
    return {
        "card": selected.card.hex(),
        "scheme": selected.scheme.hex(),
        "suite": selected.suite,
        "tier": selected.tier,
        "unratified": selected.unratified,
        "blocked": bool(selected.state & STATE_BLOCKED),
        "pin_set": bool(selected.state & STATE_PIN_SET),
        "pin_locked": bool(selected.state & STATE_PIN_LOCKED),
    }


def _timed(link: "CardLink", command: bytes) -> tuple[Any, float]:
    """The response, and the milliseconds that it took."""
    import time

    from firmware_bridge.apdu import Response

    start_s = time.perf_counter()
    response = Response.from_bytes(link.transmit(command))
    return response, (time.perf_counter() - start_s) * 1000


def _probe_lines(data: dict[str, Any]) -> list[str]:
    wallet = data["wallet"]
    rows: list[tuple[str, object]] = [
        (say("reader"), data["reader"]),
        (say("ATR"), data["atr"]),
        (say("UID"), data["uid"] or say("not told by this reader")),
        (say("ATS"), data["ats"] or say("not told by this reader")),
        (say("SELECT"), data["select_sw"]),
        (say("ms per APDU"), say("{median} median, {worst} worst", **data["apdu_ms"])),
    ]
    if wallet is None:
        return facts([*rows, (say("wallet"), say("this card holds no hardwallet"))])
    state = say("blocked") if wallet["blocked"] else say("good")
    return facts(
        [
            *rows,
            (say("wallet"), wallet["card"]),
            (say("scheme"), wallet["scheme"]),
            (say("suite, tier"), f"{wallet['suite']}, {wallet['tier']}"),
            (say("unratified"), wallet["unratified"]),
            (say("state"), state),
        ]
    )


def apdu(
    reader: ReaderUri,
    commands: Annotated[list[str], typer.Argument(metavar="HEX...", help="Command APDUs as hex.")],
    timeout: Timeout = 10.0,
    trace: TraceFile = None,
    as_json: AsJson = False,
) -> None:
    """Send APDUs to a card and show the answers.

    They go one after the other, in one session.

    Example: hardwallet apdu --reader sim:alice.card "00 A4 04 00 0B F04841524457414C4C4554 00"
    """
    from firmware_bridge.apdu import sw_text
    from tui.field import open_field

    raw = [_hex(text) for text in commands]
    answers: list[dict[str, Any]] = []
    with open_field(reader, trace) as field:
        link = _card(field, timeout)
        try:
            for command in raw:
                response, took_ms = _timed(link, command)
                answers.append(
                    {
                        "command": command.hex().upper(),
                        "data": response.data.hex().upper(),
                        "sw": f"{response.sw:04X}",
                        "meaning": sw_text(response.sw),
                        "ms": round(took_ms, 3),
                    }
                )
        finally:
            link.close()
            report({"answers": answers}, _answer_lines(answers), as_json=as_json)
    if any(answer["sw"] != "9000" for answer in answers):
        raise typer.Exit(1)


def _answer_lines(answers: list[dict[str, Any]]) -> list[str]:
    lines = []
    for answer in answers:
        lines.append(f"> {answer['command']}")
        data = f"{answer['data']} " if answer["data"] else ""
        lines.append(f"< {data}{answer['sw']}  {told(answer['meaning'])} ({answer['ms']:.2f} ms)")
    return lines


def _hex(text: str) -> bytes:
    from tui.errors import BadUsage

    try:
        raw = bytes.fromhex(text.replace(":", " "))
    except ValueError:
        raise BadUsage(say("'{text}' is not hex; write APDUs like 00A4040000", text=text[:40])) from None
    if not 1 <= len(raw) <= 65_544:
        raise BadUsage(say("an APDU has 1 to 65544 bytes"))
    return raw
