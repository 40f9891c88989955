"""Each edge of the program has one door: who may import pyscard, sqlite3, the HTTP client and their like.

import-linter holds the same table for imports as Python's import graph sees them. This test reads the source,
so it also sees imports by name, and it needs no importable package.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY

PACKAGES = (
    "firmware_bridge",
    "hardwallet",
    "pos_terminal",
    "offline_sync",
    "fleet",
    "tui",
    "store_tests",
    "hw_tests",
)

# Library -> the one module or folder that may import it. Empty: nobody may, yet.
DOORS = {
    "smartcard": "firmware_bridge.pcsc",
    "sqlite3": "offline_sync.journal",
    "httpx": "offline_sync.client",
    "sqlalchemy": "offline_sync.clearing",
    "starlette": "offline_sync.clearing",
    "uvicorn": "offline_sync.clearing",
    "rich": "tui",
    "typer": "tui",
    "nfc": "",
    "serial": "firmware_bridge.serial_port",
    "aiohttp": "tui.screens",
    "textual": "tui.screens",
    "textual_serve": "tui.screens",
}

# From the bottom up; a package imports those before it.
LAYERS = PACKAGES
NOT_SHIPPED = ("tests", "benchmarks")

IMPORT_BY_NAME = {"import_module", "__import__"}


def imported_names(source: str) -> Iterator[str]:
    """The dotted names that a module's source imports, at any depth, by statement or by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and node.args:
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            first = node.args[0]
            if name in IMPORT_BY_NAME and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def is_within(module: str, door: str) -> bool:
    """Whether a module is the door itself or lies in its folder."""
    return bool(door) and (module == door or module.startswith(door + "."))


def violations(module: str, source: str) -> list[str]:
    """What one module imports past its door, against the layers, or from code that is not shipped."""
    package = module.split(".")[0]
    found = []
    for name in imported_names(source):
        top = name.split(".")[0]
        if top in DOORS and not is_within(module, DOORS[top]):
            found.append(f"{module} imports {name}; only {DOORS[top] or 'nobody'} may")
        if top in LAYERS and LAYERS.index(top) > LAYERS.index(package):
            found.append(f"{module} imports {name}, which lies above it")
        if top in NOT_SHIPPED:
            found.append(f"{module} imports {name}, which is not part of the program")
    return found


def modules() -> Iterator[tuple[str, str]]:
    """Name and source of every module of the program."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path.read_text(encoding="utf-8")


def test_every_edge_has_one_door() -> None:
    found = [line for module, source in modules() for line in violations(module, source)]
    assert not found, "\n".join(found)


def test_there_is_source_to_look_at() -> None:
    assert {name.split(".")[0] for name, _ in modules()} == set(PACKAGES)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("firmware_bridge.readers", "import smartcard"),
        ("firmware_bridge.readers", "from smartcard.scard import SCardTransmit"),
        ("firmware_bridge.pcsc_like", "import smartcard"),
        ("hardwallet.card.memory", "def load() -> None:\n    import sqlite3\n"),
        ("offline_sync.clearing.store", "import sqlite3"),
        ("offline_sync.outbox", "try:\n    import httpx\nexcept ImportError:\n    pass\n"),
        ("offline_sync.gateway", "import sqlalchemy as sa"),
        ("fleet.city", "import importlib\nimportlib.import_module('smartcard.System')"),
        ("pos_terminal.tap", "__import__('serial')"),
        ("firmware_bridge.nfc", "import nfc.clf"),
        ("fleet.demo", "from rich.console import Console"),
        ("hardwallet.session", "from pos_terminal.tap import tap"),
        ("firmware_bridge.readers", "import hardwallet.card"),
        ("fleet.demo", "import json\nimport tui.cli"),
        ("tui.cli", "from tests.conftest import REPOSITORY"),
    ],
)
def test_it_can_fail(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("firmware_bridge.pcsc", "from smartcard.scard import SCardTransmit"),
        ("firmware_bridge.pcsc.loop", "import smartcard"),
        ("offline_sync.journal", "import sqlite3"),
        ("offline_sync.client", "import httpx"),
        ("offline_sync.clearing.http", "from starlette.applications import Starlette"),
        ("tui.cli", "import typer\nfrom fleet import demo\nimport firmware_bridge.readers"),
        ("fleet.city", "text = 'import sqlite3'  # import httpx"),
        ("firmware_bridge.doctor", "from importlib.util import find_spec\nfind_spec('smartcard')"),
    ],
)
def test_it_can_pass(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_import_linter_holds_the_same_table() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    linter = settings["tool"]["importlinter"]
    forbidden = [contract for contract in linter["contracts"] if contract["type"] == "forbidden"]
    layers = next(contract["layers"] for contract in linter["contracts"] if contract["type"] == "layers")
    assert {library for contract in forbidden for library in contract["forbidden_modules"]} == set(DOORS)
    assert tuple(reversed(layers)) == LAYERS
    for contract in forbidden:
        for allowed in contract.get("ignore_imports", []):
            importer, library = allowed.split(" -> ")
            assert is_within(importer.replace("**", "anything"), DOORS[library]), allowed
