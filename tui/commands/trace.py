"""`hardwallet trace`: explains a recorded session, and plays it back as a card."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui.options import AsJson
from tui.output import line, report
from tui.text import say, told

if TYPE_CHECKING:
    from firmware_bridge.trace import Description, Trace, TraceExchange

app = typer.Typer(help="Explain a recorded session, or play it back as a card.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A file that --trace wrote.")]


@app.command("show", epilog="Exit codes: 0 shown; 1 FILE is no trace, or damaged; 2 bad usage.")
def show(path: File, as_json: AsJson = False) -> None:
    """Explain a trace, line by line.

    Shows command names, fields, status words and milliseconds. A trace never holds a PIN or a key.

    Example: hardwallet trace show tap.trace
    """
    from firmware_bridge.trace import Description, explain, read_trace
    from hardwallet.describe import describe

    def translated(exchange: "TraceExchange") -> "Description":
        described = describe(exchange)
        fields = [(told(name), told(value)) for name, value in described.fields]
        return Description(told(described.name), fields)

    trace = read_trace(path)
    report(_trace_data(trace), map(told, explain(trace, translated)), as_json=as_json)


def _trace_data(trace: "Trace") -> dict[str, Any]:
    from hardwallet.describe import describe

    return {
        "reader": trace.reader_uri,
        "clock": trace.clock_source,
        "sessions": [
            {
                "t_ms": session.t_ms,
                "atr": session.atr.hex().upper(),
                "exchanges": [
                    {
                        "t_ms": exchange.t_ms,
                        "ms": exchange.ms,
                        "name": describe(exchange).name,
                        "fields": dict(describe(exchange).fields),
                        "command": exchange.command,
                        "response": exchange.response,
                        "sw": f"{exchange.sw:04X}" if exchange.sw is not None else None,
                        "error": exchange.error,
                    }
                    for exchange in session.exchanges
                ],
            }
            for session in trace.sessions
        ],
    }


@app.command(
    "replay",
    epilog="Exit codes: 0 the whole trace was played as recorded; 1 it was not; 2 bad usage.",
)
def replay(
    path: File,
    vpcd: Annotated[
        bool, typer.Option("--vpcd", help="Show it to the pcscd of this machine, in its virtual reader.")
    ] = False,
    lenient: Annotated[
        bool,
        typer.Option("--lenient", help="Answer by the command's header, whatever its data (fresh nonces)."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Play a trace back as a card.

    The card answers as the recorded one did.

    With --vpcd it lies in pcscd's virtual reader until the trace is over, or until SIGINT or SIGTERM; a line
    that begins with 'ready' tells when. Without, the recorded commands are sent to it here, and each answer
    is compared with the recorded one.

    Example: hardwallet trace replay tap.trace --vpcd
    """
    from firmware_bridge.trace import ReplayCard, read_trace
    from tui.shown import show_through_vpcd

    trace = read_trace(path)
    card = ReplayCard(trace, lenient=lenient)
    if vpcd:
        ready = say("ready: {path} is in pcscd's virtual reader", path=path)
        show_through_vpcd(card, lambda: line(ready), done=lambda: card.finished)
        differing = card.mismatches
    else:
        differing = _replay_here(trace, card)
    complete = card.finished
    data = {
        "exchanges": len(trace.exchanges),
        "sessions": len(trace.sessions),
        "mismatches": differing,
        "complete": complete,
    }
    words = say("played as recorded") if complete and not differing else say("not played as recorded")
    text = say("{exchanges} exchanges, {mismatches} mismatches: {words}", words=words, **data)
    report(data, [text], as_json=as_json)
    if differing or not complete:
        raise typer.Exit(1)


def _replay_here(trace: "Trace", card: Any) -> int:
    """Sends the recorded commands through a reader of this process; how many answers differ."""
    from firmware_bridge.errors import BridgeError
    from firmware_bridge.virtual.in_process import InProcessReader

    reader = InProcessReader(card, "sim:trace", present=False)
    differing = 0
    for session in trace.sessions:
        reader.present()
        link = reader.wait_for_card(0)
        for exchange in session.exchanges:
            try:
                answer: bytes | None = link.transmit(exchange.command_bytes)
            except BridgeError:
                answer = None
            differing += answer != (exchange.response_bytes if exchange.response is not None else None)
        link.close()
    reader.close()
    return differing
