"""A scheme made once; each test works in a fresh copy of its folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hardwallet import keys
from tests.conftest import REPOSITORY
from tui.cli import main

TIMEOUT_S = 60
SECRETS = ("HARDWALLET_PIN", "HARDWALLET_PASSPHRASE")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with city (scheme), till (retail), bus (transit, B042) and alice.card (200.00) in it."""

    folder: Path

    def start(self, name: str, *words: str) -> "subprocess.Popen[str]":
        """`python examples/NAME WORDS` in this folder, going on."""
        return subprocess.Popen(
            [sys.executable, str(REPOSITORY / "examples" / name), *words],
            cwd=self.folder,
            env={name: text for name, text in os.environ.items() if name not in SECRETS},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, *words: str, code: int = 0) -> list[str]:
        """The same to its end: the lines that it printed. It must end with `code`."""
        with self.start(name, *words) as process:
            out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == code, out + err
        return out.splitlines()

    def lines(self, name: str, *words: str, until: Callable[[str], bool]) -> list[str]:
        """What an example that goes on prints, up to a line; it is killed then, with SIGKILL."""
        with self.start(name, *words) as process:
            seen: list[str] = []
            for line in process.stdout or ():
                seen.append(line.rstrip("\n"))
                if until(seen[-1]):
                    break
            process.kill()
            process.communicate(timeout=TIMEOUT_S)
        return seen


@contextmanager
def clearing(folder: Path) -> Iterator[str]:
    """Clearing of the scheme in `folder`, on a free port of this machine; its address."""
    command = [sys.executable, "-m", "tui", "clearing", "serve", "--scheme", str(folder), "--port", "0"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            word, _, url = (process.stdout.readline() if process.stdout else "").strip().partition(" ")
            assert word == "ready"
            yield url
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)


@pytest.fixture(autouse=True)
def _cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing costs as much as is asked for; opening reads the cost from the file."""
    monkeypatch.setattr(keys, "_COST", 2)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that Place describes."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", 2)
        patch.chdir(folder)
        for name in SECRETS:
            patch.delenv(name, raising=False)
        for words in (
            "scheme init city",
            "card new --scheme city alice.card --balance 200.00",
            "terminal new --scheme city --class retail --merchant 1 till",
            "terminal new --scheme city --class transit --merchant 2 --vehicle B042 bus",
        ):
            assert main(words.split()) == 0
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of the template, which is also the working folder."""
    folder = tmp_path / "place"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    return Place(folder)
