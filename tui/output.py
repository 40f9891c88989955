"""Results on stdout, as text or JSON; everything else on stderr."""

import json
import sys
from collections.abc import Iterable, Mapping


def report(data: Mapping[str, object], lines: Iterable[str], *, as_json: bool) -> None:
    """Writes a command's result: `data` as JSON, or `lines` for people."""
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
    else:
        sys.stdout.writelines(text + "\n" for text in lines)
    sys.stdout.flush()


def event(data: Mapping[str, object], text: str, *, as_json: bool) -> None:
    """Writes one event of a command that goes on: a JSON object a line, or a line for people."""
    line(json.dumps(data) if as_json else text)


def line(text: str) -> None:
    """Writes one line of a result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Writes a diagnostic."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
