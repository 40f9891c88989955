"""Power cuts at every step by which an issuer's folder reaches the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Cut(Exception):
    """The process ended here."""


@contextmanager
def cut_at_step(number: int, *, done: bool) -> Iterator[list[int]]:
    """The process ends at its fsync or rename with that number (0: never), before it or once it is `done`.

    Gives a list that holds, afterwards, how many steps there were.
    """
    steps = [0]

    def cutting(real: Any) -> Any:
        def step(*arguments: Any) -> Any:
            steps[0] += 1
            if steps[0] == number and not done:
                raise Cut
            result = real(*arguments)
            if steps[0] == number:
                raise Cut
            return result

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", cutting(os.fsync))
        patch.setattr(Path, "rename", cutting(Path.rename))
        yield steps
