"""One thread for what a screen wants done and must not wait for: one thing after the other, in order."""

import queue
import threading
from collections.abc import Callable

Errand = Callable[[], None]


class Errands:
    """Does what it is handed, until it is closed; what was handed before that is still done."""

    def __init__(self, broken: Callable[[Exception], None]) -> None:
        """`broken` is told of a defect: an errand that raised."""
        self._broken = broken
        self._waiting: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="errands", daemon=True)
        self._thread.start()

    def hand(self, errand: Errand) -> None:
        """Do this behind what was handed before. Returns at once."""
        self._waiting.put(errand)

    def close(self, timeout_s: float = 30.0) -> None:
        """Returns when all is done."""
        self._waiting.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (errand := self._waiting.get()) is not None:
            try:
                errand()
            except Exception as error:  # noqa: BLE001 - a thread that died unseen would leave a dead screen
                self._broken(error)
