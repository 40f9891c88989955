"""The story of `hardwallet demo` as text and as data."""

import sys
from collections.abc import Sequence

from fleet.telling import Step, Story, TapLine
from hardwallet.suites import GM
from pos_terminal.receipts import receipt
from tui.help import wrapped
from tui.terms import term
from tui.text import LOCAL_ZONE, columns, language, say, told

_WIDTH = 100


def write_step(step: Step) -> None:
    """One step as it ends: a paragraph, the taps with their milliseconds, and what was checked."""
    sys.stdout.write("\n".join(_step_lines(step)) + "\n\n")
    sys.stdout.flush()


def _step_lines(step: Step) -> list[str]:
    lines = [f"{step.id}. {told(step.title)}", ""]
    for place, text in enumerate(step.text):
        lines += [
            f"   {line}" if line else ""
            for part in _in_words(step, place, text).split("\n")
            for line in wrapped(part, _WIDTH - 3)
        ]
    if step.taps:
        lines += ["", *_tap_lines(step.taps)]
    lines.append("")
    lines += [f"   {'✓' if held else '✗'} {told(claim)}" for claim, held in step.checks]
    return lines


def _in_words(step: Step, place: int, text: str) -> str:
    """A part of the paragraph in the chosen language; a receipt as it is printed in it."""
    paper = step.receipts.get(place)
    if paper is None:
        return told(text)
    here = receipt(*paper, language(), LOCAL_ZONE)
    return told(text.replace(receipt(*paper, zone=LOCAL_ZONE), "{receipt}")).replace("{receipt}", here)


def _tap_lines(taps: Sequence[TapLine]) -> list[str]:
    """Two rows a tap: host time as measured, air and card time as modelled."""
    measured, modelled = say("measured, host"), say("modelled, J3R180")
    width = max(columns(measured), columns(modelled))
    lines = []
    for line in taps:
        lines.append(f"   {told(line.what)}: {told(line.outcome)}")
        rows = [(measured, line.phases_ms)]
        rows += [(modelled, line.modelled_ms)] if any(line.modelled_ms.values()) else []
        for name, phases_ms in rows:
            lines.append(f"      {name}{' ' * (width - columns(name))} {_phases(phases_ms)}")
    return lines


def _phases(phases_ms: dict[str, float]) -> str:
    shown = [f"{term(name)} {value:.1f}" for name, value in phases_ms.items() if value >= 0.05]
    return "  ".join(shown) + f"  = {sum(phases_ms.values()):.1f} ms"


def story_end(story: Story) -> list[str]:
    """The last lines: what the story went through, and whether all held."""
    held = sum(step.ok for step in story.steps)
    assumed = (
        [say("No card's SM2 and SM4 times are published: those of P-256 and AES are assumed for them.")]
        if story.suite == GM
        else []
    )
    return [
        say(
            "Air and card times are modelled (NXP J3R180 at 106 kbit/s, published figures); host "
            "times are measured."
        ),
        *assumed,
        say("The arrival of a card is pcscd's polling of its virtual reader, not a part of the tap.")
        if story.stack == "pcsc"
        else say("No pcscd took part: card and terminal were in one process."),
        say("{held} of {all} steps hold.", held=held, all=len(story.steps)),
    ]


def steps_data(steps: Sequence[Step]) -> list[dict[str, object]]:
    """Steps as data."""
    return [
        {
            "id": step.id,
            "title": step.title,
            "ok": step.ok,
            "text": step.text,
            "phases_ms": step.phases_ms,
            "modelled_ms": step.modelled_ms,
            "checks": [{"claim": claim, "ok": held} for claim, held in step.checks],
            "taps": [
                {
                    "what": line.what,
                    "outcome": line.outcome,
                    "phases_ms": line.phases_ms,
                    "modelled_ms": line.modelled_ms,
                }
                for line in step.taps
            ],
        }
        for step in steps
    ]


def story_data(story: Story) -> dict[str, object]:
    """The whole story as data."""
    accounted = story.conservation
    return {
        "reader": {"uri": story.reader_uri, "stack": story.stack},
        "ok": story.ok,
        "suite": story.suite,
        "steps": steps_data(story.steps),
        "conservation": {
            "ok": accounted.ok,
            "difference_fen": accounted.difference_fen,
            "loaded_fen": accounted.loaded_fen,
            "on_cards_fen": accounted.on_cards_fen,
            "under_way_fen": accounted.under_way_fen,
            "credited_fen": accounted.credited_fen,
            "payees_fen": accounted.payees_fen,
            "accounts_fen": accounted.accounts_fen,
        },
    }
