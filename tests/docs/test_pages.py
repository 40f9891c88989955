"""The pages: links lead somewhere, commands exist, and what README shows is what the program prints."""

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from benchmarks.tap_time import LIMITS_MS, modelled_ms, take
from firmware_bridge.air_time import J3R180
from tests.conftest import REPOSITORY
from tests.docs.markdown import (
    ELLIPSIS,
    Entered,
    anchors,
    blocks,
    commands,
    entered,
    follows,
    links,
    pages,
)
from tui.cli import main

READMES = ("README.md", "README.zh.md")
CLEARING_URL = "http://127.0.0.1:8460"


def text_of(name: str | Path) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def page_name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# ------------------------------------------------------------------------------------------- links


def broken(path: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for target in links(path.read_text(encoding="utf-8")):
        place, _, anchor = unquote(target).partition("#")
        to = (path.parent / place).resolve() if place else path
        there = to.exists() and (not place or to.is_relative_to(REPOSITORY))
        if there and anchor and to.suffix == ".md":
            there = anchor in anchors(to.read_text(encoding="utf-8"))
        if not there:
            found.append(target)
    return found


@pytest.mark.parametrize("path", pages(), ids=page_name)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken(path) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[a](nowhere.md) `[b](code.md)` [c](#there) [d](#not-there)\n\n## There\n", encoding="utf-8"
    )
    assert broken(page) == ["nowhere.md", "#not-there"]


def test_the_two_readmes_link_each_other() -> None:
    assert "README.zh.md" in links(text_of("README.md"))
    assert "README.md" in links(text_of("README.zh.md"))


# ------------------------------------------------------------------------------------------- code


def missing_code(page: str) -> list[str]:
    """Source files that the page names and that aren't there; names that it puts into a file without them."""
    spans = {
        match for match in re.findall(r"`([^`\n]+)`", page) if re.fullmatch(r"[\w./-]+\.(py|toml|sh)", match)
    }
    found = [name for name in sorted(spans) if not (REPOSITORY / name).exists() and "/" in name]
    placed = re.findall(r"`(\w+)`[^`.;|]{0,20}?\s(?:in|of)\s`([\w/]+\.py)`", page)
    for name, place in placed:
        if (REPOSITORY / place).exists() and name not in text_of(place):
            found.append(f"{name} in {place}")
    return found


@pytest.mark.parametrize("path", pages(), ids=page_name)
def test_code_that_is_named_is_there(path: Path) -> None:
    assert missing_code(path.read_text(encoding="utf-8")) == []


def test_code_that_is_not_there_is_found() -> None:
    page = "`nowhere/file.py`, `invented` in `tui/cli.py`, `main` in `tui/cli.py`"
    assert missing_code(page) == ["nowhere/file.py", "invented in tui/cli.py"]


# ------------------------------------------------------------------------------------------- commands


@cache
def help_of(path: tuple[str, ...]) -> str:
    """What `hardwallet … --help` prints; empty when there is no such command."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        code = main([*path, "--help"])
    return printed.getvalue() if code == 0 else ""


def unknown(words: list[str]) -> str:
    """What of a command the program doesn't know, or nothing."""
    if not words or words[0].startswith(("-", ELLIPSIS)):
        return ""
    path = [words[0]]
    while "COMMAND [ARGS]" in help_of(tuple(path)) and len(words) > len(path):
        path.append(words[len(path)])
    text = help_of(tuple(path))
    if not text:
        return f"hardwallet {' '.join(path)}"
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    missing = [option for option in options if not re.search(rf"{re.escape(option)}\b", text)]
    return f"hardwallet {' '.join(path)} {' '.join(missing)}" if missing else ""


@pytest.mark.parametrize("path", pages(), ids=page_name)
def test_every_command_named_exists(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert [lack for words in commands(page, "hardwallet") if (lack := unknown(words))] == []


@pytest.mark.parametrize(
    ("words", "lack"),
    [
        (["pos", "pay", "1.00", "--terminal", "till"], ""),
        (["pos", "steal", "1.00"], "hardwallet pos steal"),
        (["brew"], "hardwallet brew"),
        (["scheme", "init", "--fancy"], "hardwallet scheme init --fancy"),
    ],
)
def test_a_command_that_is_not_there_is_found(words: list[str], lack: str) -> None:
    assert unknown(words) == lack


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("path", pages(), ids=page_name)
def test_every_make_target_named_exists(path: Path) -> None:
    named = {words[0] for words in commands(path.read_text(encoding="utf-8"), "make") if words}
    assert {name for name in named if re.fullmatch(r"[a-z-]+", name)} <= make_targets()


def test_both_readmes_name_the_same_commands() -> None:
    one, other = ({" ".join(words) for words in _both(name)} for name in READMES)
    assert one == other


def _both(name: str) -> Iterator[list[str]]:
    for program in ("hardwallet", "make", "opensc-tool"):
        for words in commands(text_of(name), program):
            yield [program, *(word for word in words if word not in ("--lang", "zh"))]


# -------------------------------------------------------------------------------------- what README shows


@pytest.fixture(scope="module")
def demo_output() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tui", "demo", "--in-process"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", READMES)
def test_the_demo_prints_what_readme_shows(name: str, demo_output: list[str]) -> None:
    told = [block for block in blocks(text_of(name), "text") if block.startswith("The story goes through ")]
    assert len(told) == 1
    shown = told[0].splitlines()[1:]  # the first line names the stack, which may be another one here
    assert follows(shown, demo_output[1:]) == ""


def test_lines_that_differ_are_found() -> None:
    printed = ["paid CNY 2.00 now", "a", "b", "all 3 hold."]
    assert follows(["paid CNY 7.50 now", ELLIPSIS, "b", "all 6 hold."], printed) == ""
    assert follows(["paid CNY 7.50 now", "b", ELLIPSIS], printed)
    assert follows(["paid CNY 7.50 now", ELLIPSIS, "c"], printed)
    assert follows(["paid CNY 7.50 now"], printed)
    assert follows([*printed, "more"], printed)


@pytest.mark.parametrize("name", READMES)
def test_readme_shows_the_modelled_times_of_today(name: str) -> None:
    taken = take()
    modelled = {kind: modelled_ms(kind, taken, J3R180, 106) for kind in LIMITS_MS}
    wanted = [(f"{modelled[kind]:.1f}", str(limit)) for kind, limit in LIMITS_MS.items()]
    assert re.findall(r"\| (\d+\.\d) \| (\d+) \|$", text_of(name), re.MULTILINE) == wanted


@contextmanager
def clearing(words: list[str], folder: Path, shown: list[str]) -> Iterator[str]:
    """Clearing as README starts it, but on a free port; its address."""
    free = [*words[1 : words.index("--port")], "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "tui", *free], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            assert follows(shown, [said]) == ""
            yield said.split()[1]
        finally:
            process.terminate()
            process.wait(30)


class Walk:
    """Somebody who types what README says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.typed = 0

    def type(self, one: Entered, url: str = CLEARING_URL) -> None:
        """Run a command and hold what it prints against the page."""
        refused = bool(one.output) and one.output[0].startswith("ALREADY PAID")
        code = main([word.replace(CLEARING_URL, url) for word in one.words[1:]])
        printed = self._capsys.readouterr()
        assert code == int(refused), f"{one.command}: {printed.err}"
        assert follows(one.output, printed.out.splitlines()) == "", one.command
        self.typed += 1


@pytest.mark.slow
@pytest.mark.parametrize("name", READMES)
def test_five_minutes_go_as_readme_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARDWALLET_PASSPHRASE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    walk = Walk(capsys)
    steps = [
        one for one in entered(text_of(name)) if one.words[0] == "hardwallet" and "--vpcd" not in one.words
    ]
    serve = next(place for place, one in enumerate(steps) if one.words[1:3] == ["clearing", "serve"])
    for one in steps[:serve]:
        walk.type(one)
    with clearing(steps[serve].words, tmp_path, steps[serve].output) as url:
        for one in steps[serve + 1 :]:
            walk.type(one, url)
    assert walk.typed == 13
