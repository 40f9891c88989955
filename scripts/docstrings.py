"""What is wrong with the docstrings of the program, as far as a program can tell.

A public function says the length of bytes and the unit of a number whose name doesn't, names after "Raises"
are exceptions, and what a docstring refers to is there: modules, functions, files, sections of pages in docs.
Reads source, imports nothing.
"""

import ast
import builtins
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

PACKAGES: Final = ("firmware_bridge", "hardwallet", "pos_terminal", "offline_sync", "fleet", "tui")

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Node = _Function | ast.ClassDef | ast.Module

_NAME: Final = r"[A-Z]\w+"
_RAISES: Final = re.compile(rf"\bRaises\s+(?P<names>{_NAME}(?:(?:,\s+and|,|\s+and|\s+or)\s+{_NAME})*)")
_RAISES_WHAT: Final = re.compile(r"\bRaises\b(?:\s+(?P<next>\S+))?")
_RAISES_AS: Final = re.compile(r"\bRaises\s+as\s+(?P<name>[\w.]*\w)")
_CODE: Final = re.compile(r"``?([^`\n]+)``?")
_DOTTED: Final = re.compile(r"(?<![\w./-])(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?![\w/(])")
_PATH: Final = re.compile(r"(?<![\w./-])(?P<path>(?:[\w-]+/)+[\w-]+\.(?:py|md|toml|sh|json))\b")
_SECTION: Final = re.compile(r"(?P<page>docs/[\w-]+\.md),\s+section\s+(?P<number>\d+)")
_LENGTH: Final = re.compile(r"\d|\blengths?\b|\bbytes\b|\bany\b|APDU|\bempty\b|\bfile\b", re.IGNORECASE)
_UNIT: Final = re.compile(r"\b(fen|seconds?|milliseconds?|ms|bytes|days?)\b", re.IGNORECASE)
_UNITLESS: Final = re.compile(r"amount|balance|total|price|timeout|delay|interval|now|size|age")
_FILE_ENDINGS: Final = {"py", "md", "json", "jsonl", "bin", "sqlite", "toml", "trace", "card", "lock"}


@dataclass(frozen=True, slots=True)
class Item:
    """A public module, class or function, and the docstrings that speak for it: its own first."""

    module: str
    qualname: str
    path: str
    line: int
    node: _Node
    docstring: str
    around: str

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.path}:{self.line} {self.qualname or self.module}"


@dataclass(frozen=True, slots=True)
class Source:
    """The program's source: `modules` by dotted name, and `root`, the checkout that it lies in.

    `foreign`: the libraries that it imports. `bases`: what each class inherits from, itself included.
    """

    root: Path
    modules: dict[str, ast.Module]
    names: dict[str, set[str]]
    exceptions: set[str]
    foreign: set[str]
    bases: dict[str, set[str]]


def read(root: Path, packages: tuple[str, ...] = PACKAGES) -> Source:
    """The source of `packages` in the checkout `root`. Raises OSError, SyntaxError."""
    modules: dict[str, ast.Module] = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            modules[name] = ast.parse(path.read_text(encoding="utf-8"))
    names = {name: _bound(tree) for name, tree in modules.items()}
    bases = _bases(modules)
    return Source(root, modules, names, _exceptions(bases), _foreign(modules), bases)


def _bound(tree: ast.AST) -> set[str]:
    """Every name that a module's source binds, at any depth: definitions, parameters, variables, imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, _Function | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
    return names


def _foreign(modules: dict[str, ast.Module]) -> set[str]:
    """The libraries that the program imports, by the first part of their names."""
    found: set[str] = set()
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


def _bases(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Each class of the program by its name: its own name, and those of all that it inherits from."""
    found = {
        node.name: {node.name, *(ast.unparse(base).split(".")[-1] for base in node.bases)}
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    changed = True
    while changed:
        changed = False
        for name, inherited in found.items():
            more = inherited.union(*(found.get(one, set()) for one in inherited))
            changed |= more != inherited
            found[name] = more
    return found


def _exceptions(bases: dict[str, set[str]]) -> set[str]:
    """The names of exceptions: Python's, and classes that inherit from some."""
    known = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    return known | {name for name, inherited in bases.items() if inherited & known}


def places(source: Source) -> dict[str, str]:
    """Where each exception of the program is defined: the module by the name of the class."""
    return {
        node.name: module
        for module, tree in source.modules.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in source.exceptions
    }


def items(source: Source) -> Iterator[Item]:
    """Every public module, class, method and function. What begins with an underscore is not public."""
    for module, tree in source.modules.items():
        if any(part.startswith("_") for part in module.split(".")):
            continue
        path = module.replace(".", "/")
        path += "/__init__.py" if (source.root / path).is_dir() else ".py"
        docstring = ast.get_docstring(tree) or ""
        yield Item(module, "", path, 1, tree, docstring, "")
        yield from _inside(Item(module, "", path, 1, tree, docstring, ""))


def _inside(outer: Item) -> Iterator[Item]:
    constructor = ""
    if isinstance(outer.node, ast.ClassDef):
        made_by = (
            node for node in outer.node.body if isinstance(node, _Function) and node.name == "__init__"
        )
        constructor = " ".join(ast.get_docstring(node) or "" for node in made_by)
    for node in outer.node.body:
        if not isinstance(node, _Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        around = f"{outer.docstring} {constructor}" if isinstance(outer.node, ast.ClassDef) else ""
        qualname = f"{outer.qualname}.{node.name}".lstrip(".")
        docstring = ast.get_docstring(node) or ""
        item = Item(outer.module, qualname, outer.path, node.lineno, node, docstring, around)
        yield item
        if isinstance(node, ast.ClassDef):
            yield from _inside(item)


# ------------------------------------------------------------------------------------------------ rules


def silent(item: Item) -> list[str]:
    """No docstring at all."""
    return [] if item.docstring.strip() else ["has no docstring"]


def unraised(source: Source, item: Item) -> list[str]:
    """Names after "Raises" that are no exception; "Raises" without names, unless it says "as" whom."""
    found = []
    for match in _RAISES_WHAT.finditer(item.docstring):
        here = item.docstring[match.start() :]
        named, as_whom = _RAISES.match(here), _RAISES_AS.match(here)
        if named:
            names = re.findall(rf"\b{_NAME}", named["names"])
            found += [
                f"raises {name}, which is no exception" for name in names if name not in source.exceptions
            ]
        elif as_whom:
            if not _is_known(source, item, as_whom["name"]):
                found.append(f"raises as {as_whom['name']}, which is not there")
        else:
            found.append(f'does not say what it raises: "Raises {match["next"]}"')
    return found


def unmeasured_bytes(item: Item) -> list[str]:
    """Bytes taken or given, and not a word about their length."""
    if not isinstance(item.node, _Function):
        return []
    arguments = item.node.args
    annotations = [one.annotation for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    if not any(_is_bytes(annotation) for annotation in (*annotations, item.node.returns)):
        return []
    told = _LENGTH.search(f"{item.docstring} {item.around}")
    return [] if told else ["takes or gives bytes and does not say how many"]


def _is_bytes(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation) in ("bytes", "bytes | None")


def unmeasured_fields(item: Item) -> list[str]:
    """Fields of bytes in a class whose docstrings, also those below its fields, do not say how many."""
    if not isinstance(item.node, ast.ClassDef):
        return []
    below = [
        node.value.value
        for node in item.node.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    told = _LENGTH.search(" ".join(map(str, below)))
    fields = [
        node for node in item.node.body if isinstance(node, ast.AnnAssign) and _is_bytes(node.annotation)
    ]
    names = [ast.unparse(node.target) for node in fields]
    return [] if told else [f"{name} has no length" for name in names if not name.startswith("_")]


def unspoken(source: Source, item: Item) -> list[str]:
    """Errors of the program that a function raises itself and whose docstring names neither them nor a base.

    What the command line raises is told by its exit codes; its docstrings are what --help prints.
    """
    if not isinstance(item.node, _Function) or item.module.startswith("tui."):
        return []
    told = f"{item.docstring} {item.around}"
    if _RAISES_AS.search(told):
        return []
    words = set(re.findall(r"\w+", told))
    return [
        f"raises {name} and does not say so"
        for name in sorted(_raised(item.node) & source.bases.keys())
        if not source.bases[name] & words
    ]


def _raised(node: ast.AST) -> set[str]:
    """The names of what is raised in a function's own body."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            made = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            found.add(ast.unparse(made))
        found |= _raised(child)
    return found


def unitless(item: Item) -> list[str]:
    """Numbers whose name has no unit, and whose docstring has none either."""
    if not isinstance(item.node, _Function):
        return []
    arguments = item.node.args
    numbers = [
        one.arg
        for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if one.annotation is not None
        and ast.unparse(one.annotation) in ("int", "float", "int | None", "float | None")
        and _UNITLESS.fullmatch(one.arg)
    ]
    told = _UNIT.search(f"{item.docstring} {item.around}")
    return [] if told else [f"{name} has no unit" for name in numbers]


def dangling(source: Source, item: Item) -> list[str]:
    """What the docstring refers to and what is not there."""
    text = item.docstring
    paths = [
        match["path"] for match in _PATH.finditer(text) if match["path"].islower()
    ]  # DIR/x stands for any
    found = [path for path in paths if not (source.root / path).exists()]
    for match in _SECTION.finditer(text):
        page = source.root / match["page"]
        if page.exists() and not re.search(
            rf"^##+ {match['number']}\. ", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            found.append(match.group())
    names = [match["name"] for match in _DOTTED.finditer(_PATH.sub("", text))]
    names = [name for name in names if name.split(".")[0] in source.modules]  # others are prose or foreign
    names += [span for span in _CODE.findall(text) if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", span)]
    found += [name for name in names if not _is_known(source, item, name)]
    return [f"refers to {name}, which is not there" for name in dict.fromkeys(found)]


def _is_known(source: Source, item: Item, name: str) -> bool:
    parts = name.split(".")
    if len(parts) > 1 and parts[-1] in _FILE_ENDINGS:
        return True
    if parts[0] in source.foreign and parts[0] not in source.modules:
        return True
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in source.modules:
            return set(parts[length:]) <= source.names[module]
    here = source.names[item.module] | set(dir(builtins)) | _words(source.modules[item.module])
    return parts[0] in here or any(set(parts) <= names for names in source.names.values())


@cache
def _words(tree: ast.Module) -> frozenset[str]:
    return frozenset(_written(tree))


def _written(tree: ast.Module) -> Iterator[str]:
    """Names that the source reads, and words that it writes: keys, columns, options."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield from re.findall(r"\w+", node.value)


def problems(source: Source) -> list[str]:
    """Everything that is wrong, a line each, with its place."""
    rules: list[Callable[[Item], list[str]]] = [
        silent,
        partial(unraised, source),
        unmeasured_bytes,
        unmeasured_fields,
        partial(unspoken, source),
        unitless,
        partial(dangling, source),
    ]
    return [f"{item.place} {lack}" for item in items(source) for rule in rules for lack in rule(item)]
