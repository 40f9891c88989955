"""What the parser says, in the language of the program: help pages, and sentences about what it can't read.

Help in English is typer's own. In another language the same pages are written here, because a Chinese text
has no spaces to break lines at, and its characters take two columns.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import typer

from tui.text import catalogued, columns, say

_MAX_WIDTH: Final = 100
_MIN_WIDTH: Final = 50
_EXAMPLE: Final = re.compile(r"Example: (?P<command>.+)")
_EXTRA: Final = re.compile(
    r"(?P<text>.*?)(?:  |^)\[(?P<extra>[^\[\]]*(?:default|required|x[<>]=|<=x)[^\[\]]*)\]"
)
_PIECE: Final = re.compile(r"[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f“”‘’…—]|[^\s\u2e80-\uffef“”‘’…—]+|\s+")
_NOT_FIRST: Final = "，。；：、！？）》”’…,.;:!?)"
_NOT_LAST: Final = "（《“‘("


def paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a help text, each as one line: they are looked up in the catalogue."""
    parts = re.split(r"\n[ \t]*\n", text or "")
    return [" ".join(part.split()) for part in parts if part.strip()]


def speak(command: Any) -> None:
    """Makes a command of typer's, and all below it, write help pages in the language of the program."""
    command.context_class = _Context
    command.options_metavar = say("[OPTIONS]")
    command.short_help = "".join(map(catalogued, paragraphs(command.help)[:1]))
    if hasattr(command, "commands"):
        command.subcommand_metavar = say("COMMAND [ARGS]...")
        for below in command.commands.values():
            speak(below)


class _Context(typer.Context):
    """typer's, but for how a page is written."""

    def make_formatter(self) -> Any:
        """A page as wide as the terminal, between 50 and 100 columns."""
        return _Page(max(min(shutil.get_terminal_size().columns, _MAX_WIDTH) - 2, _MIN_WIDTH))


class _Page:
    """A help page, written part by part. The methods are those that typer calls."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._indent = 0
        self._parts: list[str] = []

    def write_usage(self, program: str, arguments: str = "", _prefix: str | None = None) -> None:
        """How the command is typed."""
        start = say("Usage: {program}", program=program) + " "
        lines = wrapped(arguments, max(self.width - columns(start), 20))
        self._write([start + lines[0], *(" " * columns(start) + line for line in lines[1:])])

    def write_paragraph(self) -> None:
        """An empty line between two parts."""
        if self._parts:
            self._parts.append("\n")

    def write_text(self, text: str) -> None:
        """Paragraphs with an empty line between."""
        blocks = [wrapped(_paragraph(part), self.width - self._indent) for part in paragraphs(text)]
        self._write([line for block in blocks for line in ["", *block]][1:])

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names, and what each one means."""
        width = min(max(columns(name) for name, _ in rows), 30) + 2
        for name, text in rows:
            lines = wrapped(_meaning(text), max(self.width - width - 2, 10))
            if columns(name) > width - 2:
                self._write([name])
                lines = [" " * width + line for line in lines]
            else:
                gap = " " * (width - columns(name))
                lines = [name + gap + lines[0], *(" " * width + line for line in lines[1:])]
            self._write([line.rstrip() for line in lines])

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """A part with a heading: typer names "Arguments", "Options", "Commands"."""
        headings = {"Arguments": say("Arguments"), "Options": say("Options"), "Commands": say("Commands")}
        self.write_paragraph()
        self._write([say("{heading}:", heading=headings.get(name, name))])
        with self.indentation():
            yield

    @contextmanager
    def indentation(self) -> Iterator[None]:
        """A part two columns to the right."""
        self._indent += 2
        try:
            yield
        finally:
            self._indent -= 2

    def getvalue(self) -> str:
        """The page."""
        return "".join(self._parts)

    def _write(self, lines: Sequence[str]) -> None:
        self._parts += [(f"{' ' * self._indent}{line}" if line else "") + "\n" for line in lines]


def _paragraph(text: str) -> str:
    example = _EXAMPLE.fullmatch(text)
    return say("Example: {command}", command=example["command"]) if example else catalogued(text)


def _meaning(text: str) -> str:
    """An option's help, with what typer adds in brackets."""
    match = _EXTRA.fullmatch(text)
    if match is None:
        return catalogued(" ".join(text.split()))
    meaning = catalogued(" ".join(match["text"].split())) if match["text"].strip() else ""
    extras = [_extra(part) for part in match["extra"].split("; ")]
    return f"{meaning}  [{'; '.join(extras)}]".strip()


def _extra(text: str) -> str:
    if text == "required":
        return say("required")
    if text.startswith("default: "):
        return say("default: {value}", value=text.removeprefix("default: "))
    return text


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, at least one line.

    Chinese breaks between any two characters, but punctuation stays with what it belongs to.
    """
    lines, line = [], ""
    for unit in _units(text):
        if line and columns((line + unit).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += unit if line else unit.lstrip()
    return [*lines, line.rstrip()]


def _units(text: str) -> list[str]:
    """What no line end may come into: words, Chinese characters, each with its punctuation."""
    units: list[str] = []
    for piece in _PIECE.findall(text):
        if units and (piece[0] in _NOT_FIRST or units[-1][-1] in _NOT_LAST):
            units[-1] += piece
        else:
            units.append(piece)
    return units


# ------------------------------------------------------------------------------ what the parser refuses


def refusal(text: str) -> str:
    """A sentence of the parser in the language of the program; itself where it is not known here."""
    for pattern, sentence in _SENTENCES:
        match = re.fullmatch(pattern, text)
        if match is not None:
            return sentence(match)
    return text


def _reason(text: str) -> str:
    for pattern, sentence in _REASONS:
        match = re.fullmatch(pattern, text)
        if match is not None:
            return sentence(match)
    return text


_Sentences = tuple[tuple[str, Callable[[re.Match[str]], str]], ...]

_SENTENCES: Final[_Sentences] = (
    (
        r"Invalid value for '(?P<name>[^']*)': (?P<why>.*)",
        lambda found: say("Invalid value for '{name}': {why}", name=found["name"], why=_reason(found["why"])),
    ),
    (
        r"No such command '(?P<name>.*)'\. Did you mean (?P<others>.*)\?",
        lambda found: say(
            "No such command '{name}'. Did you mean {others}?", name=found["name"], others=found["others"]
        ),
    ),
    (r"No such command '(?P<name>.*)'\.", lambda found: say("No such command '{name}'.", name=found["name"])),
    (
        r"No such option: (?P<name>\S+) \(Possible options: (?P<others>.*)\)",
        lambda found: say(
            "No such option: {name} (Possible options: {others})", name=found["name"], others=found["others"]
        ),
    ),
    (r"No such option: (?P<name>.*)", lambda found: say("No such option: {name}", name=found["name"])),
    (
        r"Option '(?P<name>.*)' requires an argument\.",
        lambda found: say("Option '{name}' requires an argument.", name=found["name"]),
    ),
    (
        r"Option '(?P<name>.*)' does not take a value\.",
        lambda found: say("Option '{name}' does not take a value.", name=found["name"]),
    ),
    (r"Missing command\.", lambda _: say("Missing command.")),
    (
        r"Missing argument '(?P<name>.*)'\.",
        lambda found: say("Missing argument '{name}'.", name=found["name"]),
    ),
    (r"Missing option '(?P<name>.*)'\.", lambda found: say("Missing option '{name}'.", name=found["name"])),
    (
        r"Got unexpected extra argument\(s\) \((?P<what>.*)\)",
        lambda found: say("Got unexpected extra argument(s) ({what})", what=found["what"]),
    ),
)

_REASONS: Final[_Sentences] = (
    (
        r"Input should be a valid number, unable to parse string as a number",
        lambda _: say("Input should be a valid number, unable to parse string as a number"),
    ),
    (
        r"Input should be a valid integer, unable to parse string as an integer",
        lambda _: say("Input should be a valid integer, unable to parse string as an integer"),
    ),
    (
        r"Input should be greater than or equal to (?P<limit>\S+)",
        lambda found: say("Input should be greater than or equal to {limit}", limit=found["limit"]),
    ),
    (
        r"Input should be less than or equal to (?P<limit>\S+)",
        lambda found: say("Input should be less than or equal to {limit}", limit=found["limit"]),
    ),
)
