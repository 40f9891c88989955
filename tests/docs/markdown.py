"""Reads the pages of this repository: their links, their code, their commands."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conftest import REPOSITORY

ELLIPSIS: Final = "…"
_FENCE: Final = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE: Final = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK: Final = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)
_NOT_OURS: Final = {"node_modules", "build", "dist"}


def pages() -> list[Path]:
    """Every page of the checkout."""
    found = sorted(REPOSITORY.rglob("*.md"))
    return [path for path in found if not _is_foreign(path.relative_to(REPOSITORY))]


def _is_foreign(path: Path) -> bool:
    return any(part.startswith(".") or part in _NOT_OURS for part in path.parts)


def without_code(page: str) -> str:
    """The page without its fenced and inline code."""
    return _INLINE.sub("", _FENCE.sub("", page))


def links(page: str) -> list[str]:
    """The targets of its links and pictures that are no addresses of other places."""
    targets = [match["target"] for match in _LINK.finditer(without_code(page))]
    return [target for target in targets if "://" not in target and not target.startswith("mailto:")]


def anchors(page: str) -> set[str]:
    """The names by which its headings can be linked to."""
    texts = (re.sub(r"[`*_]", "", match["text"]) for match in _HEADING.finditer(_FENCE.sub("", page)))
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in texts}


def blocks(page: str, kind: str) -> list[str]:
    """Its fenced blocks of a kind, such as `console`."""
    return [match["text"] for match in _FENCE.finditer(page) if match["kind"] == kind]


@dataclass(slots=True)
class Entered:
    """A command of a console block, and what the page shows below it."""

    command: str
    output: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """The command's words, without what sends it to the background."""
        return [word for word in shlex.split(self.command) if word != "&"]


def entered(page: str) -> list[Entered]:
    """The commands of its console blocks, in their order."""
    found: list[Entered] = []
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Entered(line[2:]))
            elif found:
                found[-1].output.append(line)
    return found


def commands(page: str, program: str) -> Iterator[list[str]]:
    """The words of every command of `program` that the page names, in blocks and in the text."""
    lines = [one.command for one in entered(page)]
    lines += re.findall(r"^    (\S.*)$", _FENCE.sub("", page), re.MULTILINE)
    lines += _INLINE.findall(_FENCE.sub("", page))
    for line in lines:
        words = _words(line)
        if words and f"/{words[0]}".endswith(f"/{program}"):
            yield words[1:]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # half a quotation is no command
        return []


def shape(text: str) -> str:
    """A line without what differs from run to run: numbers, identifiers, widths."""
    words = (word.strip("(),;.") for word in text.split())
    return " ".join("#" if re.search(r"\d|^[A-Z]{10}$", word) else word for word in words)


def follows(shown: list[str], printed: list[str]) -> str:
    """Why the lines that a page shows are not those that were printed, or nothing. `…` leaves lines out."""
    wanted = [shape(line) for line in shown]
    left = [shape(line) for line in printed]
    skipping = False
    for line in wanted:
        if line == ELLIPSIS:
            skipping = True
            continue
        if skipping:
            while left and left[0] != line:
                left.pop(0)
        if not left or left[0] != line:
            return f"the page shows {line!r}, the program printed {(left or ['nothing more'])[0]!r}"
        left.pop(0)
        skipping = False
    if left and not skipping:
        return f"the page leaves out {left[0]!r} without saying so"
    return ""
