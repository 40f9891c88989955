"""A timer that comes too late rings all the same."""

import asyncio

import pytest
from textual import _time
from textual.app import App

from tui.screens.punctual import Punctual

DELAY_S = 0.01


class Bell(Punctual, App[None]):
    rung = False

    def ring(self) -> None:
        self.rung = True


def test_it_rings_although_it_comes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at the clock more time goes by than the timer has to run."""
    late = iter(range(1_000_000))
    app = Bell()

    async def run() -> None:
        async with app.run_test() as pilot:
            monkeypatch.setattr(_time, "get_time", lambda: next(late) * 1.0)
            app.set_timer(DELAY_S, app.ring)
            for _ in range(100):
                await asyncio.sleep(DELAY_S)
                if app.rung:
                    break
            monkeypatch.undo()
            await pilot.pause()

    asyncio.run(run())
    assert app.rung
