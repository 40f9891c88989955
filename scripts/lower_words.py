"""Finds every sentence of the packages below tui that can reach a person, for the catalogue `lower`.

    python -m scripts.lower_words update     brings the catalogue up to date and compiles it
    python -m scripts.lower_words check      says what is wrong with sources and catalogue; exits with 1 then
    python -m scripts.lower_words show       every template, with its first place

Those packages speak plain English, f-strings among it. What counts as a sentence: a string in their source,
not a docstring, with a blank between its words; and single words in the places of SINGLE_WORDS. Excepted are
SQL, annotations, patterns, what is logged, what goes through a catalogue of its own, and ALLOWED, with its
reasons.

An f-string becomes a template with named fields. A field is named after its expression: `card.hex()` is
{card}, `format_amount(left_fen)` is {left}, `', '.join(found)` is {found}, `_KINDS[kind]` is {kind}, an error
or its `strerror` is {why}, `explain(sw)` is {words}; the second of one name in a sentence is {name_2}. An
expression that chooses between constants becomes one template for each; a constant of a module is put in.
"""

import ast
import errno
import os
import re
import string
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog

from scripts import words

ROOT: Final = Path(__file__).parent.parent
CATALOGUE: Final = ROOT / "tui/locale/zh_CN/LC_MESSAGES/lower.po"
NO_CATALOGUE: Final = Path(__file__).with_suffix(".po")
"""What is not there is read as an empty catalogue."""
PACKAGES: Final = ("firmware_bridge", "hardwallet", "pos_terminal", "offline_sync", "fleet")

_ERRNOS: Final = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.EIO, errno.EISDIR),
    *(errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EBUSY, errno.ENODEV, errno.EMFILE, errno.EPIPE),
    *(errno.EADDRINUSE, errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENETUNREACH),
    errno.EHOSTUNREACH,
)

SINGLE_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "firmware_bridge/apdu.py": ("SwClass", "_TEXTS"),
    "firmware_bridge/doctor.py": ("Level", "Finding"),
    "fleet/operator_story.py": ("add_card", "add_terminal"),
    "fleet/story.py": ("add_card", "add_terminal"),
    "hardwallet/certificates.py": ("_KINDS",),
    "hardwallet/describe.py": ("*",),
    "hardwallet/status.py": ("_WORDS",),
    "offline_sync/outbox.py": ("RowState",),
    "offline_sync/reconciliation.py": ("_missing", "_note_again"),
    "offline_sync/requests.py": ("way",),
    "offline_sync/settlement.py": ("more",),
    "pos_terminal/sale.py": ("SaleState",),
    "pos_terminal/visit.py": ("Outcome",),
}
"""Where one word is for people: constants, classes, functions and calls by file; "*" is the whole file."""

ALLOWED: Final[Sequence[tuple[str, str, str]]] = (
    ("firmware_bridge/air_time.py", r"NXP .*|G\+D .*", "names of cards, the same in every language"),
    ("firmware_bridge/apdu.py", r"Command\(.*", "a repr, for programmers"),
    ("firmware_bridge/doctor.py", r"Sony .*|SCM .*|NXP .*|ACS .*|Virtual PCD", "names of readers"),
    (
        "firmware_bridge/doctor.py",
        r"Python .*|pyscard \{version\}|python|pcscd|pyscard|polkit",
        "names of programs",
    ),
    ("firmware_bridge/virtual/measure_pcscd.py", r".*", "a measurement of the benchmarks"),
    (
        "firmware_bridge/virtual/private_pcscd.py",
        r"Virtual PCD 00 00|trap .*|FRIENDLYNAME .*|usage: .*|util-linux .*",
        "a reader's name, a script, a settings file, packages; how the module is started inside",
    ),
    ("fleet/interrupted_till.py", r".*", "a line for the program that started it"),
    ("firmware_bridge/virtual/vpcd.py", r"vpcd card", "the name of a thread"),
    ("hardwallet/session.py", r"[A-Z ]+", "names of commands, as the protocol has them"),
    ("pos_terminal/paper.py", r"no language .*", "a LookupError, for programmers"),
    ("offline_sync/client.py", r"Sun, 06 .*", "a form of dates"),
    ("offline_sync/requests.py", r"HardWallet \{parts\}", "a header"),
    ("firmware_bridge/trace.py", r"INS \{command\}", "a command without a name, as the standard writes it"),
    ("offline_sync/clearing/backup.py", r"\{ours\} .*", "SQL"),
    ("offline_sync/clearing/routes.py", r"text/csv.*", "a media type"),
    ("offline_sync/clearing/description.py", r".*", "docs/openapi.json, for programmers"),
    ("offline_sync/clearing/routes.py", r".*[.]|`last` of .*|The version .*", "docs/openapi.json too"),
    ("offline_sync/clearing/schema.py", r".*", "a database's checks"),
    ("offline_sync/clearing/server.py", r"ready http.*", "a line for the program that started it"),
    ("offline_sync/clearing/workers.py", r"import sys.*", "a program for another process"),
)
"""What looks like a sentence and is for no person: file, pattern of the whole template, and why."""

FROM_OUTSIDE: Final = (
    *map(os.strerror, _ERRNOS),
    "Name or service not known",
    "Temporary failure in name resolution",
    "[Errno {number}] {why}",
    "All connection attempts failed",
    "timed out",
    "Server disconnected without sending a response.",
    "database disk image is malformed",
    "database or disk is full",
    "database is locked",
    "disk I/O error",
    "file is not a database",
    "unable to open database file",
    "attempt to write a readonly database",
)
"""What the system, httpx and SQLite say most often; it stands within sentences of ours."""

RENAMED: Final[Mapping[tuple[str, str], str]] = {
    ("firmware_bridge/trace.py", "name"): "key",
    ("hardwallet/certificates.py", "name"): "kind",
    ("hardwallet/rotation.py", "name"): "key",
}
"""Fields whose expression is named otherwise than what it holds, by file and name."""

_SQL: Final = re.compile(
    r"\s*(ALTER|ATTACH|BEGIN|CREATE|DELETE|DETACH|EXCEPT|INSERT|PRAGMA|SELECT|UPDATE|VACUUM|WHERE) "
)
_PROSE: Final = re.compile(r"[A-Za-z]{2,}['’,;:.)]* +[^ ]|[^ ] +[('‘]?[a-z]{2,}")
_ONE_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'-]*[a-z]")
_COMMAND: Final = re.compile(r"(sudo|make|hardwallet|echo|blacklist) ")
_CODECS: Final = frozenset({"big", "little", "ascii", "replace"})
_ERRORS: Final = frozenset({"error", "refused", "failure", "strerror"})
_THROUGH: Final = frozenset(
    {"str", "repr", "abs", "int", "format_amount", "_yuan", "suite_name", "code_text", "sorted"}
)
_OWN_CATALOGUE: Final = frozenset({"say", "cast"})
"""Calls whose first argument is looked up elsewhere, or is a type."""
_NAMES: Final = {"explain": "words", "len": "count", "_last_lines": "what"}
_MOST_ALTERNATIVES: Final = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sentence stands."""

    path: str
    line: int


Part = str | ast.expr
"""A piece of a sentence: text, or the expression of a value."""


def sentences(root: Path = ROOT) -> dict[str, list[Place]]:
    """Every template of the sources below `root`, with its places, in their order."""
    modules = {
        path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }
    constants = _constants(modules)
    found: dict[str, list[Place]] = defaultdict(list)
    for path, tree in modules.items():
        allowed = [re.compile(pattern, re.DOTALL) for file, pattern, _ in ALLOWED if file == path]
        for template, line in _Finder(path, tree, constants).find():
            if not any(pattern.fullmatch(template) for pattern in allowed):
                found[template].append(Place(path, line))
    for template in FROM_OUTSIDE:
        found[template].append(Place("system", 0))
    return dict(found)


def looked_at(path: str, root: Path = ROOT) -> list[str]:
    """What a file holds that looks like a sentence, ALLOWED or not."""
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    return [template for template, _ in _Finder(path, tree, _constants({path: tree})).find()]


def _constants(modules: Mapping[str, ast.Module]) -> dict[tuple[str, str], str]:
    """The strings that modules hold under a name, by file and name; imported names too."""
    known: dict[tuple[str, str], str] = {}
    for path, tree in modules.items():
        for node in tree.body:
            target = _assigned(node)
            value = getattr(node, "value", None)
            if target and isinstance(value, ast.Constant) and isinstance(value.value, str):
                known[path, target] = value.value
    for path, tree in modules.items():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                source = node.module.replace(".", "/") + ".py"
                for alias in node.names:
                    if (source, alias.name) in known:
                        known[path, alias.asname or alias.name] = known[source, alias.name]
    return known


def _assigned(node: ast.stmt) -> str:
    """The one name that a statement assigns to, or nothing."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""


class _Finder(ast.NodeVisitor):
    """Goes through one module."""

    def __init__(self, path: str, tree: ast.Module, constants: Mapping[tuple[str, str], str]) -> None:
        self._path = path
        self._tree = tree
        self._constants = constants
        self._scopes: list[str] = []
        self._found: list[tuple[str, int]] = []

    def find(self) -> list[tuple[str, int]]:
        """Templates and their lines, those that are ALLOWED to be without translation among them."""
        self.visit(self._tree)
        return self._found

    # ------------------------------------------------------------------ what is passed over

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._within(_assigned(node), [node.value])

    def visit_Assign(self, node: ast.Assign) -> None:
        self._within(_assigned(node), [node.value])

    def visit_arg(self, node: ast.arg) -> None:
        """Its annotation is for programs."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._within(node.name, [*node.decorator_list, node.args, *node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._within(node.name, [*node.decorator_list, *node.body])

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func)
        called = name.rsplit(".", 1)[-1]
        if name == "re.compile" or name.lower().startswith(("_log.", "log.", "logger.", "_logger.")):
            return
        if name in _OWN_CATALOGUE:
            for argument in node.args[1:]:
                self.visit(argument)
            return
        self._within(called, [node.func, *node.args, *node.keywords])

    def _within(self, scope: str, nodes: Iterable[ast.AST]) -> None:
        if scope:
            self._scopes.append(scope)
        for node in nodes:
            self.visit(node)
        if scope:
            self._scopes.pop()

    # ------------------------------------------------------------------ what is found

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self._take([[node.value]], node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._take(self._alternatives(node), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """`reason += "; more of it"`: the sentence that it makes."""
        parts = self._alternatives(node.value)
        if isinstance(node.op, ast.Add) and all(isinstance(one[0], str) for one in parts):
            self._take([[node.target, *one] for one in parts], node)
        else:
            self.visit(node.value)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        parts = self._alternatives(node) if isinstance(node.op, ast.Add) else []
        if any(isinstance(part, str) for one in parts for part in one):
            self._take(parts, node)
        else:
            self.generic_visit(node)

    def _take(self, alternatives: Iterable[list[Part]], node: ast.AST) -> None:
        for parts in alternatives:
            template = template_of(parts, self._path)
            if self._is_for_people(template):
                self._found.append((template, getattr(node, "lineno", 0)))
            for part in parts:
                if isinstance(part, ast.expr):
                    self.visit(part)

    def _is_for_people(self, template: str) -> bool:
        text = "0".join(pieces(template))
        if _SQL.match(text) or _COMMAND.match(text):
            return False
        if _PROSE.search(text):
            return True
        scopes = SINGLE_WORDS.get(self._path, ())
        in_scope = "*" in scopes or any(scope in scopes for scope in self._scopes)
        return in_scope and text not in _CODECS and _ONE_WORD.fullmatch(text) is not None

    # ------------------------------------------------------------------ f-strings

    def _alternatives(self, node: ast.expr) -> list[list[Part]]:
        """The pieces of a string expression, once for each choice between constants that it makes."""
        if isinstance(node, ast.Constant):
            return [[node.value]] if isinstance(node.value, str) else [[node]]
        if isinstance(node, ast.Name) and (self._path, node.id) in self._constants:
            return [[self._constants[self._path, node.id]]]
        if isinstance(node, ast.IfExp) and _is_text(node.body) and _is_text(node.orelse):
            return [*self._alternatives(node.body), *self._alternatives(node.orelse)]
        if isinstance(node, ast.FormattedValue):  # a sum there is of numbers
            return [[node.value]] if isinstance(node.value, ast.BinOp) else self._alternatives(node.value)
        if isinstance(node, ast.JoinedStr):
            return self._in_a_row(node.values)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._in_a_row([node.left, node.right])
        return [[node]]

    def _in_a_row(self, nodes: Iterable[ast.expr]) -> list[list[Part]]:
        choices = product(*(self._alternatives(node) for node in nodes))
        return [
            [part for parts in chosen for part in parts] for chosen in islice(choices, _MOST_ALTERNATIVES)
        ]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def template_of(parts: Iterable[Part], path: str = "") -> str:
    """The template of a sentence's pieces in that file; text for str.format is one already."""
    given = list(parts)
    if len(given) == 1 and isinstance(given[0], str):
        return _own_template(given[0])
    names: dict[str, str] = {}
    template = ""
    for part in given:
        if isinstance(part, str):
            template += part.replace("{", "{{").replace("}", "}}")
            continue
        expression = ast.unparse(part)
        if expression not in names:
            name = field_name(part)
            names[expression] = _fresh(RENAMED.get((path, name), name), names.values())
        template += f"{{{names[expression]}}}"
    return template


def _own_template(text: str) -> str:
    """A constant. With named fields, or "{}", str.format gives it its values; else its braces are braces."""
    try:
        named = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError:
        named = []
    if named and all(name == "" or name.isidentifier() for name in named):
        return text.replace("{}", "{value}")
    return text.replace("{", "{{").replace("}", "}}")


def _fresh(name: str, taken: Iterable[str]) -> str:
    used = set(taken)
    number = 1
    while (fresh := name if number == 1 else f"{name}_{number}") in used:
        number += 1
    return fresh


def field_name(node: ast.expr) -> str:
    """What a value is called in a template: see the head of this file."""
    name = _name(node).strip("_").lower()
    name = re.sub(r"[^a-z0-9]+", "_", name).strip("_")
    if name in _ERRORS:
        return "why"
    return name.removesuffix("_fen") or "value"


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return _name(node.value) if node.attr in ("value", "name") else node.attr
    if isinstance(node, ast.Subscript):
        base = node.value
        is_table = isinstance(base, ast.Name) and base.id.isupper()
        is_key = isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)
        return _name(node.slice if is_table or is_key else base)
    if isinstance(node, ast.Call):
        return _call_name(node)
    if isinstance(node, ast.BinOp):
        return _name(node.left)
    if isinstance(node, ast.BoolOp):
        return _name(node.values[0])
    if isinstance(node, ast.IfExp):
        return _name(node.body)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "value"
    return "value"


def _call_name(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        if function.attr in ("join", "get") and node.args:
            return _name(node.args[0])
        if function.attr in ("hex", "decode", "replace", "upper", "strftime", "isoformat", "format"):
            return _name(function.value)
        return function.attr
    called = _name(function)
    if called in _NAMES:
        return _NAMES[called]
    if called == "map":
        return _name(node.args[1])
    if called in _THROUGH and node.args:
        return _name(node.args[0])
    return called


# ---------------------------------------------------------------------- the catalogue


def renewed(old: Catalog, found: Iterable[str]) -> Catalog:
    """The catalogue of these templates: new ones come without translation, unused ones go."""
    held = {str(message.id): message.string for message in old if message.id}
    new = words.read_catalogue(NO_CATALOGUE)
    for template in sorted(found):
        new.add(template, held.get(template, ""))
    return new


def faults(catalogue: Catalog, found: Mapping[str, Sequence[Place]]) -> list[str]:
    """What is wrong between the sources and the catalogue, a line each."""
    entries = {str(message.id): message for message in catalogue if message.id}
    said = []
    for template, places in found.items():
        where = f"{places[0].path}:{places[0].line}"
        message = entries.get(template)
        if message is None:
            said.append(f"missing: {template} ({where})")
        elif not message.string or message.fuzzy:
            said.append(f"not translated: {template} ({where})")
        elif field_names(str(message.string)) != field_names(template):
            said.append(f"other values than in English: {template} / {message.string}")
    return [*said, *(f"nobody says: {msgid}" for msgid in entries if msgid not in found)]


def field_names(template: str) -> set[str]:
    """The fields of a template; braces that don't match count as a field that no template has."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError:
        return {"{"}


def pieces(template: str) -> list[str]:
    """The text before, between and behind the fields."""
    found = [""]
    for text, name, _, _ in string.Formatter().parse(template):
        found[-1] += text
        if name is not None:
            found.append("")
    return found


def update(found: Iterable[str], path: Path = CATALOGUE) -> None:
    """Write the catalogue anew, and compile it."""
    new = renewed(words.read_catalogue(path), found)
    path.write_bytes(words.po_bytes(new))
    path.with_suffix(".mo").write_bytes(words.mo_bytes(new))


def check(found: Mapping[str, Sequence[Place]], path: Path = CATALOGUE) -> list[str]:
    """What is wrong with sources, catalogue and compiled catalogue, a line each."""
    catalogue = words.read_catalogue(path)
    compiled = path.with_suffix(".mo")
    said = faults(catalogue, found)
    if not compiled.exists() or compiled.read_bytes() != words.mo_bytes(catalogue):
        said.append("compile it: python -m scripts.lower_words update")
    return said


def main(arguments: Sequence[str]) -> int:
    """Updates, checks or shows; 1 when something is wrong, 2 for bad usage."""
    found = sentences()
    if list(arguments) == ["show"]:
        sys.stdout.writelines(f"{at[0].path}:{at[0].line}\t{text!r}\n" for text, at in found.items())
        return 0
    if list(arguments) not in (["update"], ["check"]):
        sys.stderr.write("usage: python -m scripts.lower_words update|check|show\n")
        return 2
    if list(arguments) == ["update"]:
        update(found)
    said = check(found)
    sys.stderr.writelines(line + "\n" for line in said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
