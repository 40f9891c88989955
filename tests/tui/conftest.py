"""A scheme is made once; each test gets a copy of its folder and works in it."""

import shutil
from pathlib import Path

import pytest

from hardwallet import keys
from tests.tui.world import PIN, SECRET_VARIABLES, World
from tui.cli import main


@pytest.fixture(autouse=True)
def _cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing costs as much as is asked for; opening reads the cost from the file."""
    monkeypatch.setattr(keys, "_COST", 2)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that World describes."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", 2)
        patch.chdir(folder)
        for name in SECRET_VARIABLES:
            patch.delenv(name, raising=False)
        for words in (
            "scheme init city --name Test-city",
            "terminal new --scheme city --class retail till",
            "terminal new --scheme city --class transit bus --vehicle 12AB",
            "card new --scheme city alice.card --balance 200.00",
            "card new --scheme city rich.card --balance 900.00",
        ):
            assert main(words.split()) == 0
        patch.setenv("HARDWALLET_PIN", PIN)
        assert main(["card", "pin", "rich.card"]) == 0
    return folder


@pytest.fixture
def world(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> World:
    """A copy of the template, which is also the working folder."""
    folder = tmp_path / "world"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    for name in SECRET_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return World(folder, capsys)
