"""Ending on SIGINT and SIGTERM at once, and never in the middle of a tap.

Signal handlers only note the signal. Waits run in a thread of their own, so that the main thread can cancel
them; a tap runs in the main thread and ends as it would have.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from firmware_bridge.errors import Cancelled

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CANCEL_GRACE_S = 10.0

T = TypeVar("T")


class Stopped(Exception):
    """Somebody asked this program to end."""


class Interrupts:
    """While it is open, SIGINT and SIGTERM are only noted. For the main thread."""

    def __init__(self) -> None:
        self._noted = False
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._before: dict[signal.Signals, Any] = {}
        self._left_behind = False

    @property
    def stopped(self) -> bool:
        """Whether a signal came."""
        return self._noted

    def wait(self, work: Callable[[], T], cancel: Callable[[], None]) -> T:
        """What `work` returns or raises; on a signal `cancel` is called and Stopped raised."""
        if self._noted:
            raise Stopped
        results: list[T] = []
        failures: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                failures.append(error)
            self._wake()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive() and not results and not failures and not self._noted:
            self._drain(None)
        if not results and not failures:
            cancel()
            thread.join(_CANCEL_GRACE_S)
            self._left_behind = thread.is_alive()
        if results:
            return results[0]
        if failures and not isinstance(failures[0], Cancelled):
            raise failures[0]
        raise Stopped

    def pause(self, seconds: float) -> None:
        """Sleeps; Stopped when a signal comes."""
        if not self._noted:
            self._drain(seconds)
        if self._noted:
            raise Stopped

    def wait_for_signal(self) -> None:
        """Returns when a signal has come."""
        while not self._noted:
            self._drain(None)

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if not self._left_behind:  # else that thread would one day write into another file of this number
            os.close(self._read_end)
            os.close(self._write_end)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._noted = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: woken already; closed: nobody waits
            os.write(self._write_end, b"\0")

    def _drain(self, timeout_s: float | None) -> None:
        ready, _, _ = select.select([self._read_end], [], [], timeout_s)
        if ready:
            os.read(self._read_end, 64)
