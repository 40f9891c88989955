"""The validator's one screen: route above, the driver's view in the middle, riders below, lists beside it."""

import time
from typing import Any, ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.timer import Timer

from fleet.station_events import CardSeen, Event
from pos_terminal.fares import Direction, Line
from tui.screens.bus.chooser import Choice, Chooser
from tui.screens.bus.counts import CountsBar, CountsBlock
from tui.screens.bus.driving import Driving
from tui.screens.bus.faces import name_of
from tui.screens.bus.report import ReportPanel
from tui.screens.bus.route import RouteBar, StopList
from tui.screens.bus.validator import ValidatorView
from tui.screens.frame import StationScreen
from tui.screens.keys import Key, bindings
from tui.screens.widgets.dialogs import Confirm
from tui.text import say, yuan

LINGER_S: Final = 1.0
"""How long a result stays when its card has left and no other one has come."""
LIST_GAP_S: Final = 0.2
"""Counts and lists are drawn at most five times a second."""
LIST_AFTER_S: Final = 0.08
"""A result has its frame for itself; counts and lists come in the next one."""
READING_S: Final = 0.03
"""From when on a card under way is shown: most have their result by then."""
WIDE: Final = 110
"""Columns from which the riders and the stops have a place of their own."""


def _keys_of_the_bus() -> tuple[Key, ...]:
    return (
        Key(
            "n,N",
            "N",
            "go_on",
            # fits: 12
            lambda: say("next stop"),
            lambda: say("To the next stop."),
        ),
        Key(
            "b,B",
            "B",
            "go_back",
            # fits: 12
            lambda: say("stop back"),
            lambda: say("To the stop before, after one press too many."),
        ),
        Key(
            "down",
            "↑↓",
            "destination(1)",
            # fits: 12
            lambda: say("where to"),
            lambda: say("Where the next rider goes, when fares go by distance."),
        ),
        Key(
            "d,D",
            "D",
            "destinations",
            # fits: 12
            lambda: say("stops"),
            lambda: say("List the stops ahead by number, to choose where the next rider goes."),
        ),
        Key(
            "t,T",
            "T",
            "two",
            # fits: 12
            lambda: say("for two"),
            lambda: say("The next tap pays for a companion; again: for one more. Esc: for nobody."),
        ),
        Key(
            "l,L",
            "L",
            "line",
            # fits: 12
            lambda: say("line"),
            lambda: say("Choose line and direction: a new run begins."),
        ),
        Key(
            "i,I",
            "I",
            "inspect",
            # fits: 12
            lambda: say("inspect"),
            lambda: say("Inspection: see who has tapped here. Nothing is taken."),
        ),
        Key(
            "e,E",
            "E",
            "end_run",
            # fits: 12
            lambda: say("end run"),
            lambda: say("End the run and show its report."),
        ),
        Key(
            "enter",
            "Enter",
            "enter",
            # fits: 12
            lambda: say("go on"),
            lambda: say("Begin the next run; or try again what was out of service."),
        ),
        Key(
            "escape",
            "Esc",
            "escape",
            # fits: 12
            lambda: say("back"),
            lambda: say("Back to taking fares; for one rider only."),
        ),
        Key(
            "u,U",
            "U",
            "upload",
            # fits: 12
            lambda: say("upload"),
            lambda: say("Depot: send all that waits, fetch lists and orders. Riders can go on tapping."),
        ),
    )


class BusScreen(StationScreen):
    """Shows `driving`, and brings it the driver's keys."""

    AUTO_FOCUS = ""
    KEYS: ClassVar[tuple[Key, ...]] = _keys_of_the_bus()
    BINDINGS: ClassVar[list[Any]] = [
        *bindings(KEYS),
        Binding("up", "destination(-1)", show=False),
        *(Binding(str(digit), f"number({digit})", show=False) for digit in range(1, 10)),
    ]

    def __init__(self, driving: Driving) -> None:
        super().__init__()
        self._driving = driving
        self._calming: Timer | None = None
        self._listing: Timer | None = None
        self._listed_s = float("-inf")

    def body(self) -> ComposeResult:
        """The regions, from above to below."""
        with Vertical(id="bus"):
            yield RouteBar(self._driving)
            with Horizontal(id="middle"):
                yield ValidatorView(self._driving.face)
                with Vertical(id="side"):
                    yield CountsBlock(self._driving)
                    yield StopList(self._driving)
                yield ReportPanel(self._driving)
                yield Chooser()
            yield CountsBar(self._driving)

    # ------------------------------------------------------------------ what is shown

    def on_mount(self) -> None:
        """What was done before there was a screen is shown too."""
        self.call_after_refresh(self.told)

    def on_resize(self, event: events.Resize) -> None:
        """A wide window has a place for the riders and the stops."""
        self.set_class(event.size.width >= WIDE, "-wide")

    def on_station(self, event: Event) -> None:
        """A result at once, everything else a little later. The app has told `driving`."""
        if isinstance(event, CardSeen):
            self.set_timer(READING_S, self._show_view)
        else:
            self._show_view()
        self._list_later()

    def told(self) -> None:
        """`driving` has done an errand."""
        self._show_view()
        self.query_one(RouteBar).reword()
        self._list_later()
        reporting = self._driving.report is not None
        if reporting != self.has_class("-reporting"):
            report = self.query_one(ReportPanel)
            report.reword()
            self.set_class(reporting, "-reporting")
            self.set_focus(report if reporting else None)
        self.refresh_bindings()

    def _show_view(self) -> None:
        self.query_one(ValidatorView).reword()
        if self._calming is not None:
            self._calming.stop()
            self._calming = None
        if self._driving.lingers:
            self._calming = self.set_timer(LINGER_S, self._calm)

    def _calm(self) -> None:
        self._driving.calm()
        self.query_one(ValidatorView).reword()

    def _list_later(self) -> None:
        if self._listing is None:
            wait_s = max(LIST_AFTER_S, self._listed_s + LIST_GAP_S - time.monotonic())
            self._listing = self.set_timer(wait_s, self._list)

    def _list(self) -> None:
        self._listing, self._listed_s = None, time.monotonic()
        for widget in (self.query_one(CountsBar), self.query_one(CountsBlock), self.query_one(StopList)):
            widget.reword()

    # ------------------------------------------------------------------ what a key does

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Which keys do something now."""
        driving = self._driving
        sight = driving.sight
        running = sight is not None and not driving.is_inspecting
        match action:
            case "go_on" | "go_back" | "end_run":
                return sight is not None
            case "two" | "inspect":
                return running
            case "destination" | "destinations":
                return running and sight is not None and not sight.is_flat
            case "number":
                return self.check_action("destinations", ()) and self.station_app.playground is None
            case "line":
                return driving.is_ready and not driving.is_inspecting
            case "enter":
                return driving.is_out_of_service or (driving.is_ready and sight is None)
            case "escape":
                return driving.is_inspecting or (sight is not None and bool(sight.more))
            case _:
                return True

    def action_go_on(self) -> None:
        """N."""
        self._driving.go_on()

    def action_go_back(self) -> None:
        """B."""
        self._driving.go_back()

    def action_destination(self, stops: int) -> None:
        """Up and down."""
        self._driving.move_destination(stops)

    def action_two(self) -> None:
        """T."""
        self._driving.pay_for_two()

    def action_inspect(self) -> None:
        """I."""
        self._driving.inspect()

    def action_upload(self) -> None:
        """U."""
        self._driving.upload()
        self._list_later()

    def action_enter(self) -> None:
        """Enter."""
        if self._driving.is_out_of_service:
            self._driving.try_again()
        else:
            self._driving.begin_run()

    def action_escape(self) -> None:
        """Esc."""
        if self._driving.is_inspecting:
            self._driving.drive_on()
        else:
            self._driving.pay_for_one()

    def action_end_run(self) -> None:
        """E, asked once more: the next run charges every card anew."""

        def answered(yes: bool | None) -> None:
            if yes:
                self._driving.end_run()

        self.app.push_screen(
            Confirm(
                lambda: say("End the run? In the next one every card pays anew."),
                lambda: say("End the run"),
                lambda: say("Drive on"),
            ),
            answered,
        )

    def action_line(self) -> None:
        """L: a run begins on what is chosen."""
        ways = [(line, way) for line in self._driving.network.lines for way in line.directions]
        choices = [
            Choice(number, self._way_words(number, line, way), (line, way))
            for number, (line, way) in enumerate(ways, 1)
        ]
        now = (self._driving.line, self._driving.direction)
        marked = ways.index(now) if now in ways else 0

        def chosen(value: object) -> None:
            if isinstance(value, tuple):
                self._driving.begin_run(*value)

        self._ask(lambda: say("Line and direction"), choices, chosen, marked=marked)

    @staticmethod
    def _way_words(number: int, line: Line, way: Direction) -> Any:
        return lambda: f"{number:>3} {name_of(line.name)} · {name_of(way.name)}"

    def action_destinations(self, typed: str = "") -> None:
        """D, or a digit at a real terminal."""
        sight = self._driving.sight
        if sight is None:
            return
        choices = [
            Choice(place + 1, self._stop_words(place, name_of(sight.stops[place].name), fare_fen), place)
            for place, fare_fen in sight.to.items()
        ]
        places = list(sight.to)
        marked = places.index(sight.destination) if sight.destination in places else len(places) - 1

        def chosen(value: object) -> None:
            if isinstance(value, int):
                self._driving.choose_destination(value)

        self._ask(lambda: say("Where to?"), choices, chosen, marked=marked, typed=typed)

    @staticmethod
    def _stop_words(place: int, name: str, fare_fen: int) -> Any:
        return lambda: f"{place + 1:>3} {name}  {yuan(fare_fen)}"

    def action_number(self, digit: int) -> None:
        """The number of a stop begins."""
        self.action_destinations(str(digit))

    def _ask(self, title: Any, choices: list[Choice], chosen: Any, *, marked: int, typed: str = "") -> None:
        self.add_class("-choosing")
        self.query_one(Chooser).ask(title, choices, chosen, marked=marked, typed=typed)
        self.refresh_bindings()

    def on_chooser_closed(self, _event: Chooser.Closed) -> None:
        """The place beside the view is free again."""
        self.remove_class("-choosing")
        self.refresh_bindings()
