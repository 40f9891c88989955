"""How far long work is, on stderr, as long as somebody looks at it there."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Told = Callable[[int, int], None]
"""Hears how much is done, and of how much."""

_WIPE = "\r\x1b[K"


@contextmanager
def progress(what: str) -> Iterator[Told]:
    """Shows `what` and a percentage in one line that is wiped in the end; nothing when stderr is no
    terminal.
    """
    shown = -1

    def tell(done: int, of: int) -> None:
        nonlocal shown
        percent = 100 * done // of if of else 100
        if percent != shown:
            shown = percent
            sys.stderr.write(f"{_WIPE}{what} {percent} %")
            sys.stderr.flush()

    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    try:
        yield tell
    finally:
        sys.stderr.write(_WIPE)
        sys.stderr.flush()
