"""Keeps the catalogues of sentences: python -m scripts.words update|check [DOMAIN …]

`update` reads what the code says with `say`, and what the command line's help says, into the .po files: new
sentences come without translation, translations stay, what nobody says any more goes. Then it compiles them.
`check` tells what is wrong with code and catalogues, and exits with 1 when something is.

A sentence that has to fit somewhere says so in a comment right above its call, with values as they may be:
`# fits: 40 amount=200.00 count=99` means 40 columns in every language. A Chinese character takes two.
"""

import ast
import gettext
import io
import re
import string
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po, write_po

from tui.help import paragraphs
from tui.text import columns

REPOSITORY: Final = Path(__file__).resolve().parents[1]
SPOKEN: Final = "say"
"""The function whose first argument is a sentence: tui.text.say, and its like in pos_terminal for paper."""
LOCALES: Final = {
    "commands": "tui",
    "frame": "tui",
    "till": "tui",
    "bus": "tui",
    "paper": "pos_terminal",
}
"""Each catalogue, and the package whose folder locale holds it. The catalogue `lower` is not said by `say`:
scripts/lower_words.py keeps it."""
SHARED: Final = ("commands", "frame", "till", "bus")
"""Looked up one after the other: what stands in the first two is not wanted again in the others."""
ALLOWED: Final[Mapping[tuple[str, str], str]] = {}
"""Calls whose template is no constant: (file, source of the argument) and why that is right."""

_PLACES: Final = (
    ("tui/screens/cashier/", "till"),
    ("tui/plain/till.py", "till"),
    ("tui/screens/bus/", "bus"),
    ("tui/plain/bus.py", "bus"),
    ("tui/screens/", "frame"),
    ("tui/plain/", "frame"),
    ("tui/signals.py", "frame"),
    ("tui/", "commands"),
    ("pos_terminal/", "paper"),
)
HELP_OPTION: Final = "Show this message and exit."
"""The help of --help, which typer writes."""
_FITS: Final = re.compile(r"#\s*fits:\s*(?P<columns>\d+)(?P<values>(?:\s+\w+=\S+)*)\s*$")
_LANGUAGE: Final = "zh_CN"
_WIDTH: Final = 100
_HEADERS: Final = (
    ("Language", _LANGUAGE),
    ("MIME-Version", "1.0"),
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Content-Transfer-Encoding", "8bit"),
)


@dataclass(frozen=True, slots=True)
class Fits:
    """At most so many columns, with these values put in."""

    columns: int
    values: Mapping[str, str]


@dataclass(slots=True)
class Entry:
    """A sentence, where it is said first, and where it has to fit."""

    place: str
    fits: list[Fits] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """What the code says, catalogue by catalogue, and what is wrong with how it says it."""

    domains: dict[str, dict[str, Entry]] = field(default_factory=lambda: {name: {} for name in LOCALES})
    problems: list[str] = field(default_factory=list)

    def add(self, domain: str, template: str, place: str, fits: Fits | None = None) -> None:
        """Notes a sentence."""
        entry = self.domains[domain].setdefault(template, Entry(place))
        if fits is not None:
            entry.fits.append(fits)


class BadCatalogue(Exception):
    """A .po file that can't be read; the message says where."""


class _Headed(Catalog):
    """A catalogue whose header holds nothing that changes by itself."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        """The same for every catalogue."""
        return list(_HEADERS)


# -------------------------------------------------------------------------------------- what the code says


def domain_of(path: str) -> str | None:
    """The catalogue of a file, by its path inside the repository."""
    return next((domain for start, domain in _PLACES if path.startswith(start)), None)


def find(root: Path, command: object = None) -> Found:
    """What all code under `root` says, and the help of a command line's commands."""
    found = Found()
    for text, place in help_texts(command):
        found.add("commands", text, place)
    for package in sorted(set(LOCALES.values())):
        for path in sorted((root / package).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            domain = domain_of(name)
            if domain is not None:
                read_source(found, domain, name, path.read_text(encoding="utf-8"))
    return found


def help_texts(command: Any, words: str = "") -> Iterator[tuple[str, str]]:
    """The paragraphs and options of every help page below a command of typer's, with the words typed for it.

    Examples are typed as they are in every language; what typer adds itself is said in tui/help.py.
    """
    if command is None:
        return
    place = f"{words} --help".strip()
    for text in paragraphs(command.help) + paragraphs(command.epilog):
        if not text.startswith("Example: "):
            yield text, place
    for parameter in command.params:
        yield from ((text, place) for text in paragraphs(parameter.help))
    yield HELP_OPTION, place
    for name, below in getattr(command, "commands", {}).items():
        yield from help_texts(below, f"{words} {name}".strip())


def read_source(found: Found, domain: str, path: str, source: str) -> None:
    """Adds what one file says."""
    tree = ast.parse(source)
    limits = dict(_limits(source))
    inside = {id(node) for function in ast.walk(tree) if _is_function(function) for node in _body(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            _check_import(found, path, node)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == SPOKEN):
            continue
        place = f"{path}:{node.lineno}"
        fits = limits.pop(node.lineno - 1, None)
        if id(node) not in inside:
            found.problems.append(f"{place}: said before a language is chosen; say it inside a function")
        template = _template(found, place, path, node)
        if template is not None:
            found.add(domain, template, place, fits)
    found.problems += [f"{path}:{line}: this comment stands above no sentence" for line in limits]


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _body(function: ast.AST) -> Iterator[ast.AST]:
    """What runs when the function is called, not when it is defined."""
    if isinstance(function, ast.Lambda):
        yield from ast.walk(function.body)
    elif isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        for statement in function.body:
            yield from ast.walk(statement)


def _check_import(found: Found, path: str, node: ast.ImportFrom) -> None:
    for alias in node.names:
        if alias.name == SPOKEN and alias.asname is not None:
            found.problems.append(f"{path}:{node.lineno}: import {SPOKEN} under its own name")


def _template(found: Found, place: str, path: str, call: ast.Call) -> str | None:
    if not call.args:
        found.problems.append(f"{place}: says nothing")
        return None
    given = call.args[0]
    if not (isinstance(given, ast.Constant) and isinstance(given.value, str)):
        if (path, ast.unparse(given)) not in ALLOWED:
            found.problems.append(f"{place}: not a constant sentence: {ast.unparse(given)}")
        return None
    if not given.value.strip():
        found.problems.append(f"{place}: an empty sentence")
        return None
    _check_values(found, place, given.value, call)
    return given.value


def _check_values(found: Found, place: str, template: str, call: ast.Call) -> None:
    try:
        wanted = placeholders(template)
    except ValueError as error:
        found.problems.append(f"{place}: {error}: {template}")
        return
    if any(keyword.arg is None for keyword in call.keywords):
        return
    given = {str(keyword.arg) for keyword in call.keywords}
    for name in sorted(wanted - given):
        found.problems.append(f"{place}: no value for {{{name}}}: {template}")
    for name in sorted(given - wanted):
        found.problems.append(f"{place}: {name} stands nowhere in: {template}")


def placeholders(template: str) -> set[str]:
    """The names in braces. Raises ValueError for braces that are wrong, or without a name."""
    names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if any(not name.isidentifier() for name in names):
        raise ValueError("a value needs a name")
    return names


def _limits(source: str) -> Iterator[tuple[int, Fits]]:
    """Line and limit of each comment that says what fits."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        match = _FITS.search(token.string) if token.type == tokenize.COMMENT else None
        if match is not None:
            values = dict(pair.split("=", 1) for pair in match["values"].split())
            yield token.start[0], Fits(int(match["columns"]), values)


# ------------------------------------------------------------------------------------------- the catalogues


def po_path(root: Path, domain: str) -> Path:
    """Where a catalogue lies; the compiled one lies beside it."""
    return root / LOCALES[domain] / "locale" / _LANGUAGE / "LC_MESSAGES" / f"{domain}.po"


def read_catalogue(path: Path) -> Catalog:
    """A catalogue; an empty one where there is none yet. Raises BadCatalogue."""
    if not path.exists():
        return _empty()
    try:
        with path.open("rb") as stream:
            return read_po(stream, locale=_LANGUAGE, abort_invalid=True)
    except (PoFileError, UnicodeError, ValueError) as error:
        line = f"line {error.lineno + 1}: " if isinstance(error, PoFileError) else ""
        raise BadCatalogue(f"{path.name}: {line}{error}") from None


def _empty() -> Catalog:
    return _Headed(locale=_LANGUAGE, header_comment="", fuzzy=False)


def _text(message: object) -> str:
    """An id or a translation; the catalogues hold no plurals."""
    return message if isinstance(message, str) else ""


def wanted_in(found: Found, domain: str) -> dict[str, Entry]:
    """The sentences that belong into a catalogue: those that a catalogue before it does not hold."""
    held = found.domains[domain]
    before = (
        ("commands", "frame") if domain in {"till", "bus"} else ("commands",) if domain == "frame" else ()
    )
    return {
        text: entry for text, entry in held.items() if not any(text in found.domains[one] for one in before)
    }


def renewed(found: Found, domain: str, old: Catalog, others: Iterable[Catalog]) -> Catalog:
    """The catalogue with the sentences of today. A new one takes another catalogue's translation, if any."""
    made = _empty()
    elsewhere = list(others)
    for text in sorted(wanted_in(found, domain)):
        kept = old.get(text)
        translation = _text(kept.string) if kept is not None else ""
        for other in elsewhere:
            same = other.get(text) if not translation else None
            translation = _text(same.string) if same is not None else translation
        made.add(
            text,
            translation,
            flags=[flag for flag in (kept.flags if kept is not None else ()) if flag == "fuzzy"],
            user_comments=list(kept.user_comments) if kept is not None else [],
        )
    return made


def _tidy(old: Catalog) -> Catalog:
    """The same sentences, in the order and form that `update` writes."""
    made = _empty()
    for message in sorted((one for one in old if one.id), key=lambda one: _text(one.id)):
        made.add(message.id, message.string, user_comments=message.user_comments, flags=message.flags)
    return made


def po_bytes(catalogue: Catalog) -> bytes:
    """The catalogue as a .po file."""
    stream = io.BytesIO()
    write_po(stream, catalogue, width=_WIDTH, no_location=True, ignore_obsolete=True)
    return stream.getvalue().lstrip()


def mo_bytes(catalogue: Catalog) -> bytes:
    """The catalogue as a .mo file."""
    stream = io.BytesIO()
    write_mo(stream, _tidy(catalogue))
    return stream.getvalue()


def update(root: Path, domains: Sequence[str], found: Found) -> list[Path]:
    """Renews and compiles the catalogues. Returns the .po files that changed."""
    read = {domain: read_catalogue(po_path(root, domain)) for domain in LOCALES}
    changed = []
    for domain in domains:
        path = po_path(root, domain)
        if not path.exists() and not found.domains[domain]:
            continue
        others = [read[one] for one in SHARED if one != domain and domain in SHARED]
        new = renewed(found, domain, read[domain], others)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != po_bytes(new):
            changed.append(path)
            path.write_bytes(po_bytes(new))
        path.with_suffix(".mo").write_bytes(mo_bytes(new))
    return changed


# ------------------------------------------------------------------------------------------------ the check


def check(root: Path, domains: Sequence[str], found: Found) -> list[str]:
    """What is wrong with the code and these catalogues, a line each."""
    problems = list(found.problems)
    read: dict[str, Catalog] = {}
    for domain in LOCALES:
        try:
            read[domain] = read_catalogue(po_path(root, domain))
        except BadCatalogue as error:
            problems += [str(error)] if domain in domains else []
    for domain in domains:
        if domain in read:
            name = po_path(root, domain).relative_to(root).as_posix()
            problems += [f"{name}: {problem}" for problem in _check_one(root, domain, found, read[domain])]
        problems += _too_wide(found, domain, read)
    return [*problems, *_contradictions({one: read[one] for one in SHARED if one in domains and one in read})]


def _check_one(root: Path, domain: str, found: Found, catalogue: Catalog) -> Iterator[str]:
    path = po_path(root, domain)
    if path.exists():
        yield from _faults(catalogue)
        compiled = path.with_suffix(".mo")
        if not compiled.exists() or compiled.read_bytes() != mo_bytes(catalogue):
            yield f"compile it: python -m scripts.words update {domain}"
    yield from _against_code(found, domain, catalogue)


def _faults(catalogue: Catalog) -> Iterator[str]:
    """What is wrong with a catalogue by itself."""
    for message in catalogue:
        text, translation = _text(message.id), _text(message.string)
        if not text:
            continue
        if not translation.strip():
            yield f"not translated: {text}"
            continue
        if message.fuzzy:
            yield f"marked fuzzy: {text}"
        try:
            same = placeholders(text) == placeholders(translation)
        except ValueError:
            same = False
        if not same:
            yield f"other values than in English: {text} / {translation}"
        if translation != translation.strip() and text == text.strip():
            yield f"begins or ends with a space, unlike in English: {translation!r}"


def _against_code(found: Found, domain: str, catalogue: Catalog) -> Iterator[str]:
    """Sentences that are missing, unused, or too wide."""
    wanted = wanted_in(found, domain)
    for text, entry in wanted.items():
        if catalogue.get(text) is None:
            yield f"missing: {text} ({entry.place})"
    for message in catalogue:
        text = _text(message.id)
        if text and text not in found.domains[domain]:
            yield f"nobody says: {text}"


def _too_wide(found: Found, domain: str, read: Mapping[str, Catalog]) -> Iterator[str]:
    """Sentences that do not fit where they are shown, whichever catalogue holds their translation."""
    looked_up = SHARED if domain in SHARED else (domain,)
    for text, entry in found.domains[domain].items():
        held = next(filter(None, (read[one].get(text) for one in looked_up if one in read)), None)
        translation = _text(held.string) if held is not None else ""
        for fits in entry.fits:
            for shown in filter(None, (text, translation)):
                width = columns(filled(shown, fits.values))
                if width > fits.columns:
                    yield f"{entry.place}: {width} columns, {fits.columns} fit: {shown}"


def filled(template: str, values: Mapping[str, str]) -> str:
    """The sentence with these values; a placeholder without one counts as it is written."""

    class Shown(dict[str, str]):
        def __missing__(self, name: str) -> str:
            return f"{{{name}}}"

    try:
        return string.Formatter().vformat(re.sub(r"\{(\w+)[^{}]*\}", r"{\1}", template), (), Shown(values))
    except (ValueError, KeyError):
        return template


def _contradictions(read: Mapping[str, Catalog]) -> Iterator[str]:
    """One sentence, two translations: which one is shown would hang on the order of the catalogues."""
    seen: dict[str, tuple[str, str]] = {}
    for domain, catalogue in read.items():
        for message in catalogue:
            text, translation = _text(message.id), _text(message.string)
            if not text or not translation:
                continue
            before = seen.setdefault(text, (domain, translation))
            if before[1] != translation:
                yield f"{before[0]} and {domain} translate differently: {text} / {before[1]} / {translation}"


def readable(path: Path) -> gettext.GNUTranslations:
    """A compiled catalogue, as the program reads it."""
    with path.open("rb") as stream:
        return gettext.GNUTranslations(stream)


def program() -> object:
    """The command line, as typer has it."""
    import typer

    from tui.cli import app

    return typer.main.get_command(app)


def main(arguments: Sequence[str]) -> int:
    """Updates or checks; 1 when a check finds something, 2 for bad usage."""
    work, *named = arguments or [""]
    if work not in {"update", "check"} or not set(named) <= set(LOCALES):
        print(f"usage: python -m scripts.words update|check [{'|'.join(LOCALES)} …]", file=sys.stderr)
        return 2
    domains = named or list(LOCALES)
    found = find(REPOSITORY, program())
    if work == "check":
        problems = check(REPOSITORY, domains, found)
    else:
        try:
            changed = update(REPOSITORY, domains, found)
        except BadCatalogue as error:
            print(error, file=sys.stderr)
            return 1
        for path in changed:
            print(f"changed: {path.relative_to(REPOSITORY)}")
        problems = found.problems
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
