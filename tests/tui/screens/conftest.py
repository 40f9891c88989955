"""What tests of screens share. See stage.py for the helpers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.app import App

from tests.tui.screens.stage import FakeStation, compare
from tui.screens import frame
from tui.text import language, set_language


@pytest.fixture(autouse=True)
def _english_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins in English, in colour, whatever ran before it."""
    for name in ("NO_COLOR", "TEXTUAL", "TEXTUAL_DRIVER", "TEXTUAL_ANIMATIONS"):
        monkeypatch.delenv(name, raising=False)
    before = language()
    set_language("en")
    yield
    set_language(before)


@pytest.fixture
def fake_station(monkeypatch: pytest.MonkeyPatch) -> type[FakeStation]:
    """Apps of this test get a FakeStation: `app.station` is one."""
    monkeypatch.setattr(frame, "Station", FakeStation)
    return FakeStation


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Callable[[App[Any], str], None]:
    """Compares a screen with its picture: `snapshot(app, "till-approved-zh-80x24")`."""
    folder = Path(request.path).parent / "__snapshots__"

    def check(app: App[Any], name: str) -> None:
        compare(app, folder / f"{name}.svg")

    return check
