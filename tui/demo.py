"""`hardwallet demo`: the main job, end to end, told step by step."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tui.errors import BadUsage, CommandError
from tui.options import SuiteName, suite_by_name
from tui.output import report
from tui.text import say, told

_ENTROPY = os.urandom


def demo(
    reader: Annotated[
        str | None,
        typer.Option(
            "--reader", metavar="URI", help="A real card on this reader, instead of simulated ones."
        ),
    ] = None,
    scheme: Annotated[
        Path | None,
        typer.Option(
            "--scheme", metavar="DIR", help="The scheme of the card on --reader; its money is taken."
        ),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="Passphrase of the scheme's keys.")
    ] = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Do without pcscd: card and terminal in one process.")
    ] = False,
    suite: SuiteName = "international",
    as_json: Annotated[bool, typer.Option("--json", help="Write the story as JSON.")] = False,
) -> None:
    """Cards pay terminals that have no network; what goes wrong on the way costs nothing; the money arrives.

    Without --reader the story needs no hardware: a simulated card stands in a virtual reader of a pcscd of
    its own, and where that cannot run, in an in-process reader.

    Example: hardwallet demo
    """
    if reader is not None:
        _on_reader(reader, scheme, key_file, as_json=as_json)
        return
    if scheme is not None:
        raise BadUsage(say("--scheme goes with --reader: it is the scheme of that reader's card"))
    from firmware_bridge.virtual import private_pcscd

    if not in_process and not private_pcscd.inside():
        usable, reason = _pcsc_usable()
        if usable:
            raise typer.Exit(private_pcscd.run_inside([sys.executable, "-m", "tui", *sys.argv[1:]]))
        sys.stderr.write(
            say("pcscd can't be used here, so the in-process reader is: {why}", why=told(reason)) + "\n"
        )
    _tell(suite, in_process=in_process or not private_pcscd.inside(), as_json=as_json)


def _pcsc_usable() -> tuple[bool, str]:
    from importlib.util import find_spec

    from firmware_bridge.virtual import private_pcscd

    if find_spec("smartcard") is None:
        return False, say("pyscard is not installed; run `make setup`")
    return private_pcscd.available()


def _tell(suite: str, *, in_process: bool, as_json: bool) -> None:
    from fleet.open import system_clock
    from fleet.stage import InProcessStage, PcscStage
    from fleet.story import tell
    from tui.story_text import story_data, story_end, write_step

    chosen = suite_by_name(suite)
    stage = InProcessStage() if in_process else PcscStage()
    if not as_json:
        stack = say("an in-process reader") if in_process else say("pcscd, pyscard and the virtual reader")
        sys.stdout.write(
            say("The story goes through {stack}. The cards are simulated.", stack=stack) + "\n\n"
        )
    story = tell(
        stage,
        system_clock,
        time.perf_counter,
        _ENTROPY,
        (lambda _step: None) if as_json else write_step,
        chosen,
    )
    report(story_data(story), story_end(story), as_json=as_json)
    if not story.ok:
        raise CommandError(say("the story did not hold; the lines marked ✗ say where"))


def _on_reader(uri: str, scheme: Path | None, key_file: Path | None, *, as_json: bool) -> None:
    from firmware_bridge.readers import open_reader
    from fleet.open import system_clock
    from fleet.reader_story import LEFT_OUT, tell_on_reader
    from hardwallet.card.simulated import SimulatedCard
    from tui.story_text import steps_data, write_step

    if scheme is None:
        raise BadUsage(
            say("a card on a reader pays only terminals of its own scheme: name it by --scheme DIR")
        )
    opened = open_reader(uri, simulated_card=SimulatedCard)
    try:
        write = (lambda _step: None) if as_json else write_step
        steps = tell_on_reader(opened, scheme, key_file, system_clock, _ENTROPY, write)
    finally:
        opened.close()
    stack = "sim" if uri.startswith("sim:") else "pcsc"
    data = {
        "reader": {"uri": uri, "stack": stack},
        "steps": steps_data(steps),
        "left_out": list(LEFT_OUT),
    }
    report(data, [say("Left out on a reader:"), *(f"  - {told(text)}" for text in LEFT_OUT)], as_json=as_json)
    if not all(step.ok for step in steps):
        raise CommandError(say("the story did not hold; the lines marked ✗ say where"))
