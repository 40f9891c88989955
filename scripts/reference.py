"""Builds the API reference, pages of HTML that need no network: python -m scripts.reference [FOLDER]

Fails, and builds nothing, when a docstring is wrong in a way that scripts/docstrings.py can tell, when pdoc
warns, or when a link in the pages leads nowhere. FOLDER is build/reference unless given.
"""

import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pdoc
import pdoc.render
import pdoc.render_helpers
from jinja2 import pass_context
from jinja2.runtime import Context

from scripts.docstrings import PACKAGES, places, problems, read

REPOSITORY: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = REPOSITORY / "build" / "reference"
_TREE: Final = re.compile(r"^(?!    ).*[├└│─►▼].*$", re.MULTILINE)
_RAISES: Final = re.compile(r"\bRaises\s+(?P<names>(?:[A-Z]\w+(?:,\s+and\s+|,\s+|\s+and\s+|\s+or\s+)?)+)")
_OLD_PYTHON: Final = "'array.array' is not subscriptable"
"""Before Python 3.12 an annotation with array[int] is shown as it is written, without links."""
_PRIVATE: Final = re.compile(r'<a [^>]*href="[^"]*#_\w[^"]*"[^>]*>(?P<text>.*?)</a>', re.DOTALL)
"""pdoc links members that come from a private base, which has no place of its own in the pages."""


def markdown(docstring: str, link: Callable[[str], str]) -> str:
    """The docstring as Markdown: drawings keep their shape, and `link` writes each name after "Raises"."""
    fenced: list[str] = []
    drawing = False
    lines = docstring.splitlines()
    for place, line in enumerate(lines):
        following = lines[place + 1] if place + 1 < len(lines) else ""
        drawn = bool(_TREE.match(line)) or (bool(line.strip()) and (drawing or bool(_TREE.match(following))))
        if drawn != drawing:
            fenced.append("```")
            drawing = drawn
        fenced.append(line)
    if drawing:
        fenced.append("```")
    return _RAISES.sub(
        lambda match: "Raises " + re.sub(r"[A-Z]\w+", lambda name: link(name.group()), match["names"]),
        "\n".join(fenced),
    )


@pass_context
def _markdown(context: Context, docstring: str) -> str:
    """The same as a filter of pdoc's templates, with links to the pages of the errors."""
    here: str = context["module"].modulename
    homes: dict[str, str] = context["error_homes"]

    def link(name: str) -> str:
        home = homes.get(name)
        if home not in context["all_modules"]:
            return f"`{name}`"
        return f"[`{name}`]({pdoc.render_helpers.relative_link(here, home)}#{name})"

    return markdown(docstring, link)


class _Page(HTMLParser):
    """The anchors of a page, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Note what one tag names, or points to."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif value and name in ("href", "src") and not value.startswith(("http:", "https:", "data:")):
                self.targets.append(value)


def broken_links(folder: Path) -> list[str]:
    """The links between the pages under `folder` that lead nowhere, a line each."""
    pages: dict[Path, _Page] = {}
    for path in folder.rglob("*.html"):
        pages[path.resolve()] = page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in pages.items():
        for target in dict.fromkeys(page.targets):
            place, _, anchor = unquote(target).partition("#")
            to = (path.parent / place).resolve() if place else path
            if not to.exists() or (anchor and to in pages and anchor not in pages[to].anchors):
                found.append(f"{path.name}: a link to {target}, which is not there")
    return found


def build(folder: Path, packages: tuple[str, ...] = PACKAGES) -> list[str]:
    """Render the reference of `packages` into `folder`, in place of what it holds.

    Gives back what is wrong, a line each; then `folder` stays as it was.
    """
    pdoc.render.configure(docformat="markdown", footer_text="hardwallet")
    pdoc.render.env.globals["error_homes"] = places(read(REPOSITORY))
    pdoc.render.env.filters["to_markdown"] = _markdown
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        pdoc.pdoc(*packages, output_directory=Path(made))
        for page in Path(made).rglob("*.html"):
            page.write_text(_PRIVATE.sub(r"\g<text>", page.read_text(encoding="utf-8")), encoding="utf-8")
        told = [str(warning.message) for warning in warned]
        wrong = [line for line in told if _OLD_PYTHON not in line] + broken_links(Path(made))
        if not wrong:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(made, folder)
    return wrong


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit status."""
    folder = Path(arguments[0]) if arguments else FOLDER
    wrong = problems(read(REPOSITORY)) or build(folder)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        print(f"the reference was not built: {len(wrong)} to mend", file=sys.stderr)
        return 1
    print(f"the reference is {folder}/index.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
