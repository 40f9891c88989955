"""docs/integrating.md: its commands are typed and its Python is run, and the Chinese page says the same."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import clearing as clearing_bench
from benchmarks import settlement as settlement_bench
from benchmarks import terminal_store
from benchmarks.tap_time import KNOWN, LIMITS_MS, MEETING, NEW, RETAIL, modelled_ms, take
from firmware_bridge.air_time import J3R180
from hardwallet.denylist import MAX_CARDS
from offline_sync.messages import MAX_BATCH_BYTES, MAX_ENTRIES
from pos_terminal.folder import LimitSettings
from pos_terminal.tap import Outcome
from scripts import docstrings
from tests.conftest import REPOSITORY
from tests.docs.markdown import anchors, follows
from tests.examples.conftest import SECRETS, clearing
from tui.cli import main

PAGES: Final = ("integrating.md", "integrating.zh.md")
URL: Final = "http://127.0.0.1:8460"
_BLOCK: Final = re.compile(r"^```(?P<kind>console|python)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^(?P<level>#+) (?P<number>\d+\.)?", re.MULTILINE)


def page(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a reader of the page does: a line of the shell, or a block of Python."""

    kind: str
    text: str
    shown: list[str]


def steps(text: str) -> Iterator[Step]:
    """What the page has its reader do, in the page's order."""
    for block in _BLOCK.finditer(text):
        if block["kind"] == "python":
            yield Step("python", block["text"], [])
            continue
        for part in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
            line, *shown = part.splitlines()
            yield Step("console", line, shown)


class Reader:
    """Somebody who does what the page says, in one folder, with one Python."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capture = capture
        self._background = ExitStack()
        self._names: dict[str, Any] = {}
        self._url = URL
        self.done = 0

    def close(self) -> None:
        self._background.close()

    def do(self, step: Step) -> None:
        if step.kind == "python":
            exec(compile(step.text.replace(URL, self._url), "integrating.md", "exec"), self._names)  # noqa: S102
        else:
            self._type(shlex.split(step.text.replace(URL, self._url)), step)
        self.done += 1

    def _type(self, words: list[str], step: Step) -> None:
        if words[:3] == ["hardwallet", "clearing", "serve"]:
            self._url = self._background.enter_context(clearing(self._folder / "city"))
        elif words[0] == "kill":
            self._background.close()
        elif words[0] == "hardwallet":
            self._capture.readouterr()
            code = main(words[1:])
            printed = self._capture.readouterr()
            assert code == 0, f"{step.text}: {printed.err}"
            self._compare(step, printed.out)
        else:
            assert words[:1] == ["python"], step.text
            assert words[1].startswith("examples/"), step.text
            done = subprocess.run(
                [sys.executable, str(REPOSITORY / words[1]), *words[2:]],
                cwd=self._folder,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{step.text}: {done.stderr}"
            self._compare(step, done.stdout)

    def _compare(self, step: Step, printed: str) -> None:
        if step.shown:
            assert follows(step.shown, printed.splitlines()) == "", step.text


@pytest.mark.slow
def test_the_page_goes_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    reader = Reader(tmp_path, capsys)
    try:
        for step in steps(page(PAGES[0])):
            reader.do(step)
    finally:
        reader.close()
    assert reader.done > 20


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_code_is_run(name: str) -> None:
    """Nothing is fenced in a way that the test above would pass over."""
    fences = re.findall(r"^```(\w*)$", page(name), re.MULTILINE)
    assert set(fences) <= {"console", "python", ""}
    assert len(fences) == 2 * len(_BLOCK.findall(page(name)))


def test_both_pages_have_the_same_shape() -> None:
    """Headings by level and number, code byte for byte, tables row for row, links to the same places."""
    english, chinese = (page(name) for name in PAGES)
    assert _HEADING.findall(_BLOCK.sub("", english)) == _HEADING.findall(_BLOCK.sub("", chinese))
    assert _BLOCK.findall(english) == _BLOCK.findall(chinese)
    assert _rows(english) == _rows(chinese)
    assert _targets(english) == _targets(chinese)
    assert sorted(_code(english)) == sorted(_code(chinese))


def _rows(text: str) -> list[int]:
    """The number of cells in each row of each table."""
    return [line.count("|") for line in _BLOCK.sub("", text).splitlines() if line.startswith("|")]


def _targets(text: str) -> list[str]:
    found = re.findall(r"\]\(([^)]+)\)", _BLOCK.sub("", text))
    return [target for target in found if not target.startswith("integrating")]


def _code(text: str) -> list[str]:
    """What stands between backticks, and commands in indented blocks."""
    rest = _BLOCK.sub("", text)
    return re.findall(r"`([^`\n]+)`", rest) + re.findall(r"^    (\S.*)$", rest, re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_the_limits_are_those_of_the_program(name: str) -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", page(name), re.MULTILINE))
    assert {key: int(value) for key, value in told.items()} == {
        key: int(getattr(LimitSettings(), key)) for key in LimitSettings.__struct_fields__
    }


@pytest.mark.parametrize("name", PAGES)
def test_the_figures_are_those_of_the_benchmarks(name: str) -> None:
    rows = re.findall(
        r"^\| [^|]+ \| ([^|]+) \| (?:modelled|measured|模拟|实测) \|$", page(name), re.MULTILINE
    )
    assert rows == [
        f"{LIMITS_MS[KNOWN]} ms",
        f"{LIMITS_MS[NEW]} ms",
        f"{LIMITS_MS[RETAIL]} / {LIMITS_MS[MEETING]} ms",
        f"{terminal_store.START_LIMIT_S:.0f} s",
        f"{terminal_store.MEMORY_LIMIT_MB} MB",
        f"{clearing_bench.RATIO_LIMIT}",
        f"{settlement_bench.SECONDS_LIMIT} s, {settlement_bench.MEMORY_LIMIT_MB} MB",
    ]
    text = page(name)
    taken = take()
    known, new = (round(modelled_ms(kind, taken, J3R180, 106)) for kind in (KNOWN, NEW))
    assert re.search(rf"\D{known} (ms|毫秒)\D.*\D{new} (ms|毫秒)\D", text)
    assert f"{MAX_ENTRIES:,}" in text
    assert f"{MAX_BATCH_BYTES // 2**20} MiB" in text
    assert MAX_CARDS == 1_000_000


def classes() -> set[str]:
    """The names of the program's classes, and of their members."""
    source = docstrings.read(REPOSITORY)
    return set().union(*source.names.values())


@pytest.mark.parametrize("name", PAGES)
def test_every_name_is_in_the_program(name: str) -> None:
    spans = re.findall(r"`([A-Za-z_][A-Za-z0-9_]+)`", _BLOCK.sub("", page(name)))
    named = {span for span in spans if re.search(r"[a-z][A-Z]|_|^[A-Z][a-z]", span)}
    assert named - {"HARDWALLET_PASSPHRASE"} - classes() == set()
    assert {"JournalBusy", "CardGone", "ClearingClient", "fetch_notices"} & named


@pytest.mark.parametrize("name", PAGES)
def test_every_outcome_is_in_the_table(name: str) -> None:
    rows = re.findall(r"^\| ((?:`[A-Z_]+`[, 、]*)+) \| [^|]+ \| [^|]+ \| [^|]+ \|$", page(name), re.MULTILINE)
    assert {one for row in rows for one in re.findall(r"[A-Z_]+", row)} == {one.name for one in Outcome}


def test_sections_are_numbered_through() -> None:
    numbers = [int(number) for number in re.findall(r"^## (\d+)\.", page(PAGES[0]), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(anchors(page(PAGES[0]))) > len(numbers)
    named = {int(number) for number in re.findall(r"section (\d+)", page(PAGES[0]))}
    assert named <= set(numbers)
