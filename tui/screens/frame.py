"""The frame of till and bus: an app that owns the terminal at work, and screens that are told what happens.

The station's threads post events; the app passes each to every open screen, in one handler, so that a result
is there in one frame. Leaving a screen loses no tap: the station belongs to the app, and is closed last.
"""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from textual import events
from textual.actions import parse
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.css.query import QueryError
from textual.dom import DOMNode
from textual.driver import Driver
from textual.message import Message
from textual.screen import Screen
from textual.types import CSSPathType
from textual.widgets import Input

from fleet.playground import Playground, TearPlace
from fleet.station import Station
from fleet.station_events import (
    Event,
    Fault,
    Removed,
    SendFailed,
    Sent,
    Status,
    StatusChanged,
    Waiting,
)
from tui import signals
from tui.backing import Backing
from tui.plain.tray import tear_word
from tui.screens import themes
from tui.screens.help import Help
from tui.screens.keys import Key, bindings
from tui.screens.punctual import Punctual
from tui.screens.widgets.banner import Banner
from tui.screens.widgets.dialogs import Choose, Dialog
from tui.screens.widgets.key_bar import KeyBar
from tui.screens.widgets.simulated import SimulatedBar
from tui.screens.widgets.status_bar import StatusBar
from tui.screens.widgets.too_small import NeedsRoom, TooSmall, is_too_small
from tui.screens.words import Worded
from tui.text import LANGUAGES, language, say, set_language, told

FRAME_CSS: Final = Path(__file__).with_name("frame.tcss")
"""A subclass with styles of its own names this one first: CSS_PATH = [FRAME_CSS, …]."""
BEEP_S: Final = 0.22
"""Between the beeps of a signal: fewer seconds, and terminals make one of two."""
BUSY_STEPS: Final = (0, 1, 2, 5)
DRIVER_VARIABLE: Final = "TEXTUAL_DRIVER"
_MINUTE_S: Final = 60
_LEAVE_KEYS: Final = ("f10", "ctrl+c", "ctrl+q")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StationMessage(Message):
    """An event of the station, on its way to the screens."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


class StationClosed(Message):
    """The tap under way is finished, and the station's threads have ended."""


def _keys_of_the_program() -> tuple[Key, ...]:
    return (
        Key(
            "f1",
            "F1",
            "help",
            # fits: 12
            lambda: say("help"),
            lambda: say("Show what the keys do."),
            first=True,
        ),
        Key(
            "f2",
            "F2",
            "language",
            # fits: 12
            lambda: say("中文"),
            lambda: say("Switch between Chinese and English."),
            first=True,
        ),
        Key(
            "f3",
            "F3",
            "colours",
            # fits: 12
            lambda: say("colours"),
            lambda: say("Change the colours: dark, light, high contrast."),
            first=True,
        ),
        Key(
            "f4",
            "F4",
            "mute",
            # fits: 12
            lambda: say("bell"),
            lambda: say("Turn the bell off and on."),
            first=True,
        ),
        Key(
            "f5",
            "F5",
            "forward",
            # fits: 12
            lambda: say("send now"),
            lambda: say("Send what waits, now; it is also sent by itself."),
            first=True,
        ),
        Key(
            "f6",
            "F6",
            "tear",
            # fits: 12
            lambda: say("tear"),
            lambda: say("Simulated: choose where the next card is taken away too early."),
            quiet=True,
            first=True,
        ),
        Key(
            "f7",
            "F7",
            "network",
            # fits: 12
            lambda: say("network"),
            lambda: say("Simulated: switch the network off and on."),
            quiet=True,
            first=True,
        ),
        Key(
            "f8",
            "F8",
            "busy",
            # fits: 12
            lambda: say("how busy"),
            lambda: say("Simulated: choose how many riders tap by themselves."),
            quiet=True,
            first=True,
        ),
        Key(
            "1",
            "1-9, 0",
            "tray(1)",
            # fits: 12
            lambda: say("cards"),
            lambda: say("Simulated: once a card is awaited, present that card; 0 presents two at once."),
            quiet=True,
            first=True,
        ),
        Key(
            "f10,ctrl+c,ctrl+q",
            "F10",
            "leave",
            # fits: 12
            lambda: say("leave"),
            lambda: say("Leave the program; a payment under way is finished first. Ctrl+C does the same."),
            first=True,
        ),
    )


class StationScreen(NeedsRoom, Punctual, Screen[None]):
    """A screen of till or bus. Subclasses give `body`, KEYS (with BINDINGS made of them), `on_station`."""

    KEYS: ClassVar[tuple[Key, ...]] = ()

    @property
    def station_app(self) -> "StationApp":
        """The app, by its right type."""
        app = self.app
        if not isinstance(app, StationApp):
            raise TypeError("a StationScreen needs a StationApp")
        return app

    @property
    def station(self) -> Station:
        """The terminal at work."""
        return self.station_app.station

    def compose(self) -> ComposeResult:
        """The bars, and the body between them."""
        yield StatusBar()
        yield Banner()
        playground = self.station_app.playground
        if playground is not None:
            yield SimulatedBar(playground)
        with Container(id="body"):
            yield from self.body()
        yield KeyBar()
        yield TooSmall()

    def on_mount(self) -> None:
        """A newcomer learns the status and says its words."""
        self.station_app.tell_bars_of(self)
        self.reword()

    def body(self) -> ComposeResult:
        """What is between the bars."""
        yield from ()

    def on_station(self, event: Event) -> None:
        """Something happened. Change widgets; call nothing that waits."""

    def reword(self) -> None:
        """The language changed, or the screen is new. Widgets that are Worded are told by the frame."""


class Leaving(Dialog[bool]):
    """There while a payment under way is finished; no key closes it."""

    KEYS: ClassVar[tuple[Key, ...]] = ()

    def __init__(self) -> None:
        super().__init__(lambda: say("Leaving; a payment under way is finished first."))

    def action_close(self) -> None:
        """Not before the payment stands."""


class StationApp(Punctual, App[int]):
    """Owns the station, the language, the colours and the bell. Subclasses say which screen is the first."""

    CSS_PATH: ClassVar[CSSPathType | None] = FRAME_CSS
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    KEYS: ClassVar[tuple[Key, ...]] = _keys_of_the_program()
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(KEYS),
        *(Binding(str(digit), f"tray({digit})", show=False, priority=True) for digit in (0, *range(2, 10))),
    ]
    has_riders: ClassVar[bool] = False
    """Whether riders of a playground may tap by themselves."""

    def __init__(self, backing: Backing, *, theme: str = themes.DARK, mute: bool = False) -> None:
        super().__init__()
        for name in themes.THEMES:
            self.register_theme(themes.theme(name))
        self.theme = theme
        self.backing = backing
        self.playground: Playground | None = backing.playground
        self.muted = mute
        self.fault = ""
        self.riders_a_second = BUSY_STEPS[0]
        self.broken: Exception | None = None
        self.station = Station(backing.session, backing.field, self._post, uplink=backing.uplink)
        backing.health.listen(self.station.note_health)
        self.status: Status = self.station.status()
        self._beeps: list[Callable[[], None]] = []
        self._leaving = False
        self._forward_asked = False

    # ------------------------------------------------------------------------------------ beginning

    def first_screen(self) -> StationScreen:
        """The screen that the app opens with."""
        return StationScreen()

    def get_driver_class(self) -> type[Driver]:
        """One that survives a terminal which goes away; in a browser's tab the one that was asked for."""
        if DRIVER_VARIABLE in os.environ:
            return super().get_driver_class()
        from tui.screens.terminal_driver import TerminalDriver

        return TerminalDriver

    def get_default_screen(self) -> Screen[None]:
        """No empty screen before the first."""
        return self.first_screen()

    def on_mount(self) -> None:
        """Starts the terminal's work."""
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                loop.add_signal_handler(number, self.action_leave)
        self._wait_for_the_minute()
        self.station.start()

    def _post(self, event: Event) -> None:
        self.post_message(StationMessage(event))

    # --------------------------------------------------------------------------------------- events

    def on_station_message(self, message: StationMessage) -> None:
        """Bars and bell first, then every open screen, the lowest first."""
        event = message.event
        self._note(event)
        self.take(event)
        bells = signals.bells_of(event)
        if bells:
            self.ring(bells)
        for screen in self._open_screens():
            if isinstance(screen, StationScreen):
                screen.on_station(event)
        self.refresh_keys()

    def take(self, event: Event) -> None:
        """For an app that keeps something of its own: called once for each event, before any screen is."""

    def _note(self, event: Event) -> None:
        match event:
            case StatusChanged():
                self.status = event.status
                self.tell_bars()
            case Fault():
                self.fault = event.sentence
                self.tell_bars()
            case Waiting() if self.fault:
                self.fault = ""
                self.tell_bars()
            case Removed():
                self._tell_world()  # a tear is used up
            case Sent() if self._forward_asked or event.rejected:
                self._forward_asked = False
                self.say_briefly(_sent_words(event))
            case SendFailed() if self._forward_asked:
                self._forward_asked = False
                self.say_briefly(say("Not sent: {why}", why=told(event.sentence)))
            case _:
                pass

    def ring(self, times: int) -> None:
        """Rings the bell so many times; a newer signal stops what an older one has left."""
        self._beeps = []
        if self.muted:
            return
        for number in range(times):
            self._beep_after(number * BEEP_S)

    def _beep_after(self, delay_s: float) -> None:
        def beep() -> None:
            if beep in self._beeps:
                self._beeps.remove(beep)
                self.bell()

        self._beeps.append(beep)
        if delay_s:
            self.set_timer(delay_s, beep)
        else:
            beep()

    def say_briefly(self, sentence: str) -> None:
        """A line that goes away by itself. Never the only place where something important stands."""
        self.notify(sentence, timeout=5, markup=False)

    # ----------------------------------------------------------------------------------------- bars

    def tell_bars(self) -> None:
        """Gives the present status to the bars of every open screen."""
        for screen in self._open_screens():
            self.tell_bars_of(screen)

    def tell_bars_of(self, screen: Screen[Any]) -> None:
        """Gives the present status to the bars of one screen."""
        now_s = self.backing.clock()
        for bar in screen.query(StatusBar):
            bar.tell(self.status, now_s, bell=not self.muted)
        for banner in screen.query(Banner):
            banner.tell(self.status, self.fault)

    def refresh_keys(self) -> None:
        """What can be done may have changed."""
        self.screen.refresh_bindings()

    def _wait_for_the_minute(self) -> None:
        self.set_timer(_MINUTE_S - self.backing.clock() % _MINUTE_S + 0.1, self._minute)

    def _minute(self) -> None:
        self.tell_bars()
        self._wait_for_the_minute()

    def _open_screens(self) -> list[Screen[Any]]:
        return [screen for screen in self.screen_stack if screen.is_mounted]

    # ----------------------------------------------------------------------------------------- keys

    def keys_now(self, screen: Screen[Any]) -> Iterator[tuple[Key, str]]:
        """The keys that do something now, each with its action as a click may run it."""
        for owner, name in ((screen, "screen"), (self, "app")):
            for key in getattr(owner, "KEYS", ()):
                if _allowed(owner, key.action):
                    yield key, f"{name}.{key.action}"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Which of the program's own keys work now."""
        if action in ("tear", "network"):
            return self.playground is not None
        if action == "busy":
            return self.playground is not None and self.has_riders
        if action == "tray":
            return self._tray_is_open(parameters)
        return True

    def _tray_is_open(self, parameters: tuple[object, ...]) -> bool:
        world = self.playground
        if world is None or self.station.task is None or not isinstance(self.screen, StationScreen):
            return False
        if isinstance(self.focused, Input):
            return False
        place = parameters[0]
        return isinstance(place, int) and place <= len(world.tray)

    async def on_event(self, event: events.Event) -> None:
        """A screen that is too small takes no key but those that leave."""
        if (
            isinstance(event, events.Key | events.Paste)
            and is_too_small(*self.size)
            and not (isinstance(event, events.Key) and event.key in _LEAVE_KEYS)
        ):
            return
        await super().on_event(event)

    def action_help(self) -> None:
        """F1."""
        if isinstance(self.screen, Help):
            self.screen.action_close()
            return
        keys = [key for key, _ in self.keys_now(self.screen)]
        tray = [key for key in self.KEYS if key.action.startswith("tray") and key not in keys]
        self.push_screen(Help([*keys, *(tray if self.playground is not None else [])]))

    def action_language(self) -> None:
        """F2: the other language, at once and everywhere."""
        names = list(LANGUAGES)
        set_language(names[(names.index(language()) + 1) % len(names)])
        self.reword()

    def reword(self) -> None:
        """Every word on every open screen is said anew."""
        for screen in self._open_screens():
            for node in screen.walk_children():
                if isinstance(node, Worded):
                    node.reword()
            if isinstance(screen, StationScreen):
                screen.reword()
        self.tell_bars()

    def action_colours(self) -> None:
        """F3."""
        names = list(themes.THEMES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)]

    def action_mute(self) -> None:
        """F4."""
        self.muted = not self.muted
        self._beeps = []
        self.tell_bars()

    def action_forward(self) -> None:
        """F5. The answer comes as an event."""
        self._forward_asked = True
        self.station.forward()

    # ----------------------------------------------------------------------------- a simulated world

    def action_tray(self, place: int) -> None:
        """A digit, once a card is awaited: that card of the tray; 0: two cards at once."""
        world = self.playground
        if world is None:
            return
        if place == 0:
            world.two_cards()
        elif place <= len(world.tray):
            world.tap(place - 1)

    def action_tear(self) -> None:
        """F6: where the next card is taken away too early."""
        world = self.playground
        if world is None or isinstance(self.screen, Choose):
            return
        places = list(TearPlace)

        def chosen(place: int | None) -> None:
            if place is not None:
                world.set_tear(places[place])
                self._tell_world()

        words = [partial(tear_word, place) for place in places]
        self.push_screen(
            Choose(lambda: say("Where is the next card taken away?"), words, places.index(world.tear)), chosen
        )

    def action_network(self) -> None:
        """F7."""
        if self.playground is not None:
            self.playground.set_network(not self.playground.uplink.on)
            self._tell_world()

    def action_busy(self) -> None:
        """F8."""
        if self.playground is not None:
            steps = list(BUSY_STEPS)
            self.riders_a_second = steps[(steps.index(self.riders_a_second) + 1) % len(steps)]
            self.playground.set_busy(self.riders_a_second)
            self._tell_world()

    def _tell_world(self) -> None:
        for screen in self._open_screens():
            for bar in screen.query(SimulatedBar):
                bar.told()

    # -------------------------------------------------------------------------------------- leaving

    async def action_quit(self) -> None:
        """Textual's own way out is this one too."""
        self.action_leave()

    def action_leave(self) -> None:
        """F10, Ctrl+C, a signal: finishes the payment under way, then ends. Asked twice, it still does."""
        if self._leaving:
            return
        self._leaving = True
        self.push_screen(Leaving())
        threading.Thread(target=self._close_station, name="closing").start()

    def _close_station(self) -> None:
        try:
            self.station.close()
        finally:
            self.post_message(StationClosed())

    def on_station_closed(self, _message: StationClosed) -> None:
        """Nothing is under way any more."""
        self.exit(0)

    async def _on_exit_app(self) -> None:
        """The tab is gone, or the terminal is: as leaving, but there is nothing to be shown on any more."""
        self._leaving = True
        await super()._on_exit_app()

    def _handle_exception(self, error: Exception) -> None:
        """A screen that is being taken down may miss its widgets: that is no bug."""
        if self._leaving and isinstance(error, QueryError):
            return
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """A bug ends the screen; `run_screen` raises it once the station is closed.

        Textual would show the values of all variables, and a PIN may be among them.
        """
        self.broken = self._exception
        self._close_messages_no_wait()


def _allowed(owner: DOMNode, action: str) -> bool:
    _, name, parameters = parse(action)
    return bool(owner.check_action(name, parameters))


def _sent_words(event: Sent) -> str:
    if event.rejected:
        return say(
            "Sent {entries}; clearing did not take {rejected} of them: see the history.",
            entries=event.entries,
            rejected=event.rejected,
        )
    if not event.entries:
        return say("Everything had been sent already.")
    return say("Sent {entries} entries.", entries=event.entries)


def run_screen(app: StationApp) -> int:
    """Shows the app until it is left; the exit code. The station is closed whatever happened.

    What went wrong in the screen is raised here again.
    """
    gc.collect()
    gc.freeze()  # a full collection of all that was loaded would cost the frame of a result, now and then
    try:
        code = app.run()
    finally:
        app.station.close()
        gc.unfreeze()
    if app.broken is not None:
        raise app.broken
    return code or 0
