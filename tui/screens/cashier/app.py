"""The till's program: one desk for all of its screens, and work that waits, done beside them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, TypeVar

from textual.message import Message
from textual.types import CSSPathType

from fleet.shift_desk import ShiftDesk
from fleet.station_events import Event
from tui import errors
from tui.backing import Backing
from tui.screens import themes
from tui.screens.cashier.desk import Desk
from tui.screens.cashier.jobs import Jobs, open_shifts
from tui.screens.frame import FRAME_CSS, StationApp, StationScreen

_Result = TypeVar("_Result")


@contextmanager
def open_cashier(backing: Backing, *, theme: str = themes.DARK, mute: bool = False) -> Iterator["CashierApp"]:
    """The till's program, ready to run. Raises StoreBusy, StoreFailed, ShiftError, JournalError."""
    with open_shifts(backing) as shifts:
        yield CashierApp(backing, shifts, theme=theme, mute=mute)


class JobDone(Message):
    """A worker's result, or what went wrong, on its way to who asked for it."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self.tell = tell


class CashierApp(StationApp):
    """A cashier's till. `shifts` stays open as long as the app runs."""

    CSS_PATH: ClassVar[CSSPathType | None] = [FRAME_CSS, Path(__file__).with_name("cashier.tcss")]

    def __init__(
        self, backing: Backing, shifts: ShiftDesk, *, theme: str = themes.DARK, mute: bool = False
    ) -> None:
        super().__init__(backing, theme=theme, mute=mute)
        self.shifts = shifts
        self.desk = Desk(self.station, backing.session, shifts)
        self.jobs = Jobs(backing.session, shifts)

    def first_screen(self) -> StationScreen:
        """The till itself."""
        from tui.screens.cashier.till import TillScreen

        return TillScreen()

    def on_mount(self) -> None:
        """A sale that was open when the terminal stopped comes first."""
        self.desk.begin()

    def take(self, event: Event) -> None:
        """The desk is told each event once, whatever screens are open."""
        self.desk.take(event)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Digits are cards of the tray only while one is awaited: before that they type an amount or a
        PIN."""
        if action == "tray" and not self.desk.awaits_card:
            return False
        return super().check_action(action, parameters)

    # ------------------------------------------------------------------ work that waits

    def work(
        self,
        job: Callable[[], _Result],
        done: Callable[[_Result], None],
        failed: Callable[[Callable[[], str]], None],
        name: str,
    ) -> None:
        """Does the job in a thread. Then `done` with its result, or `failed` with what to say, here."""

        def run() -> None:
            try:
                result = job()
            except errors.EXPECTED as error:
                reason = error
                self.post_message(JobDone(lambda: failed(lambda: errors.message(reason))))
            else:
                self.post_message(JobDone(lambda: done(result)))

        self.run_worker(run, name=name, thread=True, exit_on_error=True)

    def on_job_done(self, message: JobDone) -> None:
        """Tell who asked."""
        message.tell()
        self.refresh_keys()
