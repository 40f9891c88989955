"""The catalogues hold what the code says, all of it and no more; and the check that says so can fail."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from setuptools import find_namespace_packages  # type: ignore[import-untyped]

from scripts import words
from tui import text

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = """
from tui.text import say


def shown(amount: str) -> str:
    # fits: 21 amount=9999.99
    return say("Paid: CNY {amount}.", amount=amount)
"""
TRANSLATED = {"Paid: CNY {amount}.": "已付款：{amount} 元。"}


@pytest.fixture(scope="module")
def found() -> words.Found:
    """What this program says."""
    return words.find(REPOSITORY, words.program())


def test_every_sentence_is_said_once_translated_and_fits(found: words.Found) -> None:
    assert words.check(REPOSITORY, list(words.LOCALES), found) == []


def test_the_catalogues_hold_hundreds_of_sentences(found: words.Found) -> None:
    assert len(found.domains["commands"]) > 500
    assert "Take one payment: one tap of a card." in found.domains["commands"]
    assert words.HELP_OPTION in found.domains["commands"]


def test_the_package_holds_the_compiled_catalogues() -> None:
    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = find_namespace_packages(str(REPOSITORY), **setup["packages"]["find"])
    assert "*.mo" in setup["package-data"]["*"]
    compiled = [words.po_path(REPOSITORY, domain).with_suffix(".mo") for domain in words.LOCALES]
    for path in [*compiled, text.LOCALE / "zh_CN" / "LC_MESSAGES" / "lower.mo"]:
        assert path.is_file()
        assert ".".join(path.relative_to(REPOSITORY).parent.parts) in packages


# ------------------------------------------------------------------------------------ a small tree of its own


@dataclass(frozen=True, slots=True)
class Tree:
    """Code and catalogues that can be broken."""

    root: Path

    def code(self, path: str, source: str) -> None:
        """Writes a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(source, encoding="utf-8")

    def translate(self, domain: str, entries: dict[str, str], **more: Any) -> None:
        """Writes a catalogue and compiles it."""
        catalogue = words.read_catalogue(self.root / "no such file")
        for said, translation in entries.items():
            catalogue.add(said, translation, **more)
        path = words.po_path(self.root, domain)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(words.po_bytes(catalogue))
        path.with_suffix(".mo").write_bytes(words.mo_bytes(catalogue))

    def problems(self) -> list[str]:
        """What the check says."""
        return words.check(self.root, list(words.LOCALES), words.find(self.root))

    def update(self, *domains: str) -> list[str]:
        """Updates; the names of the catalogues that changed."""
        changed = words.update(self.root, domains or list(words.LOCALES), words.find(self.root))
        return [path.stem for path in changed]

    def held(self, domain: str) -> dict[str, str]:
        """What a catalogue holds."""
        found = words.read_catalogue(words.po_path(self.root, domain))
        return {str(one.id): str(one.string) for one in found if one.id}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path)
    made.code("tui/pay.py", GOOD)
    made.code("pos_terminal/empty.py", "")
    made.translate("commands", TRANSLATED)
    return made


def test_a_good_tree_has_no_problems(tree: Tree) -> None:
    assert tree.problems() == []


def test_each_file_has_its_catalogue() -> None:
    places = {
        "tui/screens/cashier/app.py": "till",
        "tui/plain/till.py": "till",
        "tui/screens/bus/app.py": "bus",
        "tui/plain/bus.py": "bus",
        "tui/screens/frame.py": "frame",
        "tui/plain/loop.py": "frame",
        "tui/signals.py": "frame",
        "tui/till.py": "commands",
        "tui/commands/pos.py": "commands",
        "pos_terminal/receipts.py": "paper",
        "fleet/story.py": None,
    }
    assert {path: words.domain_of(path) for path in places} == places


SOURCES = {
    "say(f'Paid {amount}')": "not a constant sentence: f'Paid {amount}'",
    "say(amount)": "not a constant sentence: amount",
    "say('a ' + 'b')": "not a constant sentence: 'a ' + 'b'",
    "say()": "says nothing",
    "say('  ')": "an empty sentence",
    "say('Paid {amount}.')": "no value for {amount}: Paid {amount}.",
    "say('Paid.', amount=amount)": "amount stands nowhere in: Paid.",
    "say('Paid {}.', amount=amount)": "a value needs a name: Paid {}.",
    "say('Paid {amount.', amount=amount)": "expected '}' before end of string: Paid {amount.",
}


@pytest.mark.parametrize("call", SOURCES)
def test_a_sentence_that_cannot_be_found_or_filled_is_told(tree: Tree, call: str) -> None:
    tree.code("tui/pay.py", f"{GOOD}\n\ndef wrong(amount: str) -> str:\n    return {call}\n")
    assert f"tui/pay.py:11: {SOURCES[call]}" in tree.problems()


@pytest.mark.parametrize(
    "source",
    [
        "NAME = say('Paid: CNY {amount}.', amount=1)",
        "class Pay:\n    name = say('Paid: CNY {amount}.', amount=1)",
        "def pay(name: str = say('Paid: CNY {amount}.', amount=1)) -> None: ...",
    ],
)
def test_a_sentence_said_before_the_language_is_chosen_is_told(tree: Tree, source: str) -> None:
    tree.code("tui/early.py", source)
    (problem,) = tree.problems()
    assert problem.endswith("said before a language is chosen; say it inside a function")


def test_a_lambda_says_when_it_is_called(tree: Tree) -> None:
    tree.code("tui/late.py", "WORDS = {1: lambda: say('Paid: CNY {amount}.', amount=1)}")
    assert tree.problems() == []


def test_an_allowed_call_is_not_told(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.code("tui/other.py", "def other(found: str) -> str:\n    return say(found)\n")
    assert len(tree.problems()) == 1
    monkeypatch.setattr(words, "ALLOWED", {("tui/other.py", "found"): "a test wants it"})
    assert tree.problems() == []


def test_another_name_for_say_is_told(tree: Tree) -> None:
    tree.code("tui/other.py", "from tui.text import say as spoken\n")
    assert tree.problems() == ["tui/other.py:1: import say under its own name"]


# ------------------------------------------------------------------------------------------ broken catalogues


def _none(tree: Tree) -> None:
    words.po_path(tree.root, "commands").unlink()


def _untranslated(tree: Tree) -> None:
    tree.translate("commands", {"Paid: CNY {amount}.": ""})


def _missing(tree: Tree) -> None:
    tree.code("tui/more.py", "def more() -> str:\n    return say('More.')\n")


def _unused(tree: Tree) -> None:
    tree.translate("commands", {**TRANSLATED, "Less.": "更少。"})


def _other_values(tree: Tree) -> None:
    tree.translate("commands", {"Paid: CNY {amount}.": "已付款：{price} 元。"})


def _broken_braces(tree: Tree) -> None:
    tree.translate("commands", {"Paid: CNY {amount}.": "已付款：{amount 元。"})


def _spaces(tree: Tree) -> None:
    tree.translate("commands", {"Paid: CNY {amount}.": "已付款：{amount} 元。 "})


def _fuzzy(tree: Tree) -> None:
    tree.translate("commands", TRANSLATED, flags=["fuzzy"])


def _stale(tree: Tree) -> None:
    path = words.po_path(tree.root, "commands")
    path.write_bytes(path.read_bytes().replace("已付款".encode(), "付了款".encode()))


def _not_compiled(tree: Tree) -> None:
    words.po_path(tree.root, "commands").with_suffix(".mo").unlink()


def _malformed(tree: Tree) -> None:
    words.po_path(tree.root, "commands").write_text("Paid = 已付款\n")


def _english_too_wide(tree: Tree) -> None:
    tree.translate("commands", {"Paid: CNY {amount}.": "已付：{amount} 元"})
    tree.code("tui/pay.py", GOOD.replace("fits: 21", "fits: 17"))


def _chinese_too_wide(tree: Tree) -> None:
    tree.translate("commands", {"Paid: CNY {amount}.": "付款成功：{amount} 元。"})


def _too_wide_elsewhere(tree: Tree) -> None:
    tree.code("tui/screens/bus/app.py", GOOD.replace("fits: 21", "fits: 19"))


def _limit_of_nothing(tree: Tree) -> None:
    tree.code("tui/pay.py", GOOD.replace("# fits", "# fits: 9\n    # fits"))


def _two_translations(tree: Tree) -> None:
    tree.code("tui/screens/cashier/app.py", "def name() -> str:\n    return say('Name')\n")
    tree.code("tui/screens/bus/app.py", "def name() -> str:\n    return say('Name')\n")
    tree.translate("till", {"Name": "名称"})
    tree.translate("bus", {"Name": "名字"})


BREAKS: dict[Callable[[Tree], None], str] = {
    _none: "commands.po: missing: Paid: CNY {amount}. (tui/pay.py:7)",
    _untranslated: "not translated: Paid: CNY {amount}.",
    _missing: "missing: More. (tui/more.py:2)",
    _unused: "nobody says: Less.",
    _other_values: "other values than in English",
    _broken_braces: "other values than in English",
    _spaces: "begins or ends with a space",
    _fuzzy: "marked fuzzy: Paid: CNY {amount}.",
    _stale: "compile it: python -m scripts.words update commands",
    _not_compiled: "compile it: python -m scripts.words update commands",
    _malformed: "commands.po: line 1: ",
    _english_too_wide: "tui/pay.py:7: 18 columns, 17 fit: Paid: CNY {amount}.",
    _chinese_too_wide: "tui/pay.py:7: 22 columns, 21 fit: 付款成功：{amount} 元。",
    _too_wide_elsewhere: "tui/screens/bus/app.py:7: 20 columns, 19 fit: 已付款：{amount} 元。",
    _limit_of_nothing: "tui/pay.py:6: this comment stands above no sentence",
    _two_translations: "till and bus translate differently: Name / 名称 / 名字",
}


@pytest.mark.parametrize("spoil", BREAKS, ids=lambda spoil: spoil.__name__.strip("_"))
def test_a_broken_tree_is_told(tree: Tree, spoil: Callable[[Tree], None]) -> None:
    spoil(tree)
    (problem,) = tree.problems()
    assert BREAKS[spoil] in problem


def test_a_placeholder_without_a_value_counts_as_it_is_written() -> None:
    assert words.filled("{a} of {b:>5}", {"a": "12"}) == "12 of {b}"


# ------------------------------------------------------------------------------------------------- the update


def test_an_update_keeps_adds_and_drops(tree: Tree) -> None:
    _missing(tree)
    _unused(tree)
    assert tree.update() == ["commands"]
    assert tree.held("commands") == {"More.": "", **TRANSLATED}
    assert tree.update() == []


def test_an_update_of_one_catalogue_leaves_the_others(tree: Tree) -> None:
    _missing(tree)
    tree.code("tui/signals.py", "def word() -> str:\n    return say('Approved')\n")
    assert tree.update("frame") == ["frame"]
    assert tree.held("commands") == TRANSLATED


def test_a_sentence_stands_in_the_first_catalogue_only(tree: Tree) -> None:
    tree.code("tui/screens/cashier/app.py", GOOD)
    tree.code("tui/screens/frame.py", GOOD)
    tree.update()
    assert not words.po_path(tree.root, "till").exists() or tree.held("till") == {}
    assert tree.held("frame") == {}
    assert tree.problems() == []


def test_a_new_sentence_takes_the_translation_of_another_catalogue(tree: Tree) -> None:
    tree.code("tui/screens/cashier/app.py", "def name() -> str:\n    return say('Name')\n")
    tree.translate("till", {"Name": "名称"})
    tree.code("tui/screens/frame.py", "def name() -> str:\n    return say('Name')\n")
    tree.update("frame")
    assert tree.held("frame") == {"Name": "名称"}


def test_catalogues_hold_no_date_no_line_and_no_path(tree: Tree) -> None:
    tree.update()
    written = words.po_path(tree.root, "commands").read_text(encoding="utf-8")
    assert "pay.py" not in written
    assert str(tree.root) not in written
    assert "Date" not in written
    assert "Babel" not in written
    assert written.startswith('msgid ""\n')


def test_what_is_compiled_is_what_the_program_reads(tree: Tree) -> None:
    tree.update()
    path = words.po_path(tree.root, "commands").with_suffix(".mo")
    assert words.readable(path).gettext("Paid: CNY {amount}.") == "已付款：{amount} 元。"


@pytest.mark.parametrize("arguments", [[], ["look"], ["check", "nobody"]])
def test_the_script_explains_itself(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert words.main(arguments) == 2
    assert "update|check" in capsys.readouterr().err
