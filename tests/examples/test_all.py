"""What every example keeps to, and that they know nothing of the suite."""

import ast
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.examples.conftest import Place
from tui.cli import main

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {
        "back_office.py",
        "custom_reader.py",
        "custom_store.py",
        "validator.py",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_it_says_how_it_is_run_and_is_listed(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"python examples/{path.name} " in told
    for page in ("examples/README.md", "docs/integrating.md", "docs/integrating.zh.md"):
        assert f"{path.name})" in (REPOSITORY / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_it_uses_what_is_public(path: Path) -> None:
    """An integrator can: nothing that begins with an underscore, nothing of the tests or the command line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imported
    for node in imported:
        assert (node.module or "").split(".")[0] not in (
            "tests",
            "tui",
            "hw_tests",
            "store_tests",
            "benchmarks",
        )
        assert not [alias.name for alias in node.names if alias.name.startswith("_")]


def test_they_run_in_the_gm_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARDWALLET_PASSPHRASE", raising=False)
    for words in (
        "scheme init city --suite gm",
        "card new --scheme city alice.card --balance 200.00",
        "terminal new --scheme city --class retail --merchant 1 till",
        "terminal new --scheme city --class transit --merchant 2 --vehicle B042 bus",
    ):
        assert main(words.split()) == 0
    place = Place(tmp_path)
    assert place.lines("validator.py", "bus", "sim:alice.card", "200", "1", until=bool) == ["GRANTED"]
    assert place.run("custom_reader.py", "till", "alice.card", "1250")[0] == "GRANTED "
    assert place.run("custom_store.py", "till", "alice.card", "300")[1] == "waiting 2 entries, 300 fen"
