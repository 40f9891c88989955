"""Timers that ring once, and always: Textual's skip a ring for which they come too late, even their only one.

A thread that computes at the wrong moment for longer than the timer runs is enough. Textual waits for such a
timer before it looks at the next change of a window's size, and would wait for ever.
"""

from textual.message_pump import MessagePump
from textual.timer import Timer, TimerCallback


class Punctual(MessagePump):
    """An app or a screen whose `set_timer` rings late rather than never."""

    def set_timer(
        self,
        delay: float,
        callback: TimerCallback | None = None,
        *,
        name: str | None = None,
        pause: bool = False,
    ) -> Timer:
        """As Textual's: `callback` once, after `delay` seconds."""
        timer = super().set_timer(delay, callback, name=name, pause=pause)
        timer._skip = False  # noqa: SLF001 - nothing else says so; its task begins after this
        return timer
