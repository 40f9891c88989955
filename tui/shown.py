"""A card shown to pcscd until somebody ends it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.errors import BridgeError
from firmware_bridge.link import VirtualCard
from firmware_bridge.trace import TraceWriter
from firmware_bridge.virtual.vpcd import VpcdCard
from hardwallet.describe import redact
from tui.field import trace_file
from tui.interrupt import Interrupts, Stopped

_TAKEN_WITHIN_S = 30.0


def show_through_vpcd(
    card: VirtualCard,
    ready: Callable[[], None],
    trace: Path | None = None,
    *,
    done: Callable[[], bool] | None = None,
) -> None:
    """Shows the card to the pcscd of this machine until SIGINT or SIGTERM, or until `done`.

    `ready` is called once, when pcscd has taken it. Raises ServiceNotRunning, LinkTimeout and what the card
    itself raises.
    """
    with trace_file(trace) as stream, Interrupts() as interrupts:
        writer = TraceWriter(stream, redact, time.monotonic, reader_uri="vpcd:") if stream else None
        shown = VpcdCard(card if writer is None else RecordedCard(card, writer))
        ended = threading.Event()

        def end() -> None:
            ended.set()
            shown.close()

        def wait() -> None:
            while not ended.is_set() and not shown.wait_closed(0.2):
                if done is not None and done():
                    return

        try:
            interrupts.wait(lambda: shown.insert(timeout_s=_TAKEN_WITHIN_S), end)
            ready()
            interrupts.wait(wait, end)
        except Stopped:
            pass
        finally:
            shown.close()


class RecordedCard:
    """A card that records what it is told and what it answers."""

    def __init__(self, inner: VirtualCard, writer: TraceWriter) -> None:
        self._inner = inner
        self._writer = writer

    @property
    def atr(self) -> bytes:
        """The inner card's, 2 to 33 bytes."""
        return self._inner.atr

    def power_on(self) -> None:
        """A session begins."""
        self._writer.begin_session(self._inner.atr)
        self._inner.power_on()

    def power_off(self) -> None:
        """Passes on."""
        self._inner.power_off()

    def reset(self) -> None:
        """Passes on; a session begins."""
        self._writer.begin_session(self._inner.atr)
        self._inner.reset()

    def execute(self, command: bytes) -> bytes:
        """Passes the command APDU on and records it. Raises as VirtualCard.execute."""
        start_s = time.monotonic()
        try:
            reply = self._inner.execute(command)
        except BridgeError as error:
            self._writer.record(start_s, command, None, type(error).__name__)
            raise
        self._writer.record(start_s, command, reply)
        return reply
