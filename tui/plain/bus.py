"""The bus line by line: a line says what each rider's tap was. The same `Driving` as the screen's.

A digit by itself, or behind `to`, is the number of the stop where the next rider goes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fleet.station import Decided, Event, Inspected, SendFailed, Sent, Waiting
from pos_terminal.fares import Direction, Line
from tui.plain.loop import Command, Loop
from tui.plain.loop import Face as Behind
from tui.screens.bus.driving import Driving
from tui.screens.bus.faces import name_of
from tui.screens.bus.setup import Setup, setup_of
from tui.screens.bus.sight import (
    count_words,
    destination_words,
    report_lines,
    route_words,
    stop_words,
    sum_words,
)
from tui.screens.layout import Face
from tui.text import say, yuan

MOST_LISTED: Final = 200
"""Lines or stops that are said at once."""


@contextmanager
def open_bus(
    loop: Loop,
    *,
    fares: Path | None = None,
    line: str = "",
    direction: str = "",
    amount_fen: int | None = None,
) -> Iterator["BusFace"]:
    """The bus behind the lines. Raises BadUsage where no fares are named."""
    setup = setup_of(loop.backing, fares, line, direction, amount_fen)
    driving = Driving(loop.station, loop.backing.session, lambda errand: errand(), lambda: None)
    try:
        yield BusFace(loop, driving, setup)
    finally:
        driving.give_way()
        driving.close()


class BusFace(Behind):
    """What a driver types, and what is said. Errands are done at once: only lines wait for them."""

    def __init__(self, loop: Loop, driving: Driving, setup: Setup) -> None:
        super().__init__(loop)
        self.driving = driving
        self._setup = setup

    # ------------------------------------------------------------------ what is said

    def greeting(self) -> Iterable[str]:
        """The run that is under way, or how to begin one."""
        self.driving.open(self._setup)
        if self.driving.is_ready:
            yield from self._heard()
        yield from self._where()

    def on_station(self, event: Event) -> Iterable[str]:
        """Results, in whole sentences."""
        self.driving.take(event)
        match event:
            case Decided() | Inspected():
                yield from _lines_of(self.driving.face())
            case Waiting():
                self.driving.calm()
            case _:
                pass
        if self.driving.arrived:
            yield from self._heard()

    def _heard(self) -> Iterable[str]:
        """What the last command brought, if there is anything to say."""
        news = self.driving.news()
        if news:
            yield news

    def _where(self) -> Iterable[str]:
        """Line, stop, fare, and who has ridden; or how to begin."""
        sight = self.driving.sight
        if sight is None:
            yield from _lines_of(self.driving.calm_face())
            return
        yield "  ".join(route_words(sight))
        yield "  ".join(stop_words(sight))
        yield say("Fare: {amount}", amount=yuan(sight.fare_fen))
        where = destination_words(sight)
        if where:
            yield where
        yield "  ".join([count_words(sight.counts), sum_words(sight.counts)])

    # ------------------------------------------------------------------ commands

    def commands(self) -> Sequence[Command]:
        """A driver's."""
        return [
            self._command(
                ("next", "下一站"), lambda: say("next stop"), lambda: say("To the next stop."), self._next
            ),
            self._command(
                ("back", "退一站"),
                lambda: say("back one stop"),
                lambda: say("To the stop before, after one press too many."),
                self._back,
            ),
            self._command(
                ("to", "到站"),
                lambda: say("to NUMBER"),
                lambda: say("Where the next rider goes; without a number: list the stops with their fares."),
                self._to,
            ),
            self._command(
                ("two", "付两人"),
                lambda: say("two"),
                lambda: say("The next tap pays for a companion; again: for one more."),
                self._two,
            ),
            self._command(
                ("one", "付一人"),
                lambda: say("one"),
                lambda: say("The next tap pays for its own rider after all."),
                self._one,
            ),
            self._command(
                ("line", "线路"),
                lambda: say("line NUMBER"),
                lambda: say("Begin a run on that line and direction; without a number: list them."),
                self._line,
            ),
            self._command(
                ("begin", "开始"), lambda: say("begin"), lambda: say("Begin the next run."), self._begin
            ),
            self._command(
                ("end", "结束"),
                lambda: say("end"),
                lambda: say("End the run and show its report."),
                self._end,
            ),
            self._command(
                ("inspect", "查票"),
                lambda: say("inspect"),
                lambda: say("Inspection: see who has tapped here. Nothing is taken."),
                self._inspect,
            ),
            self._command(
                ("drive", "返回收费", "收费"),
                lambda: say("drive"),
                lambda: say("Take fares again: after an inspection, or what was out of service."),
                self._drive,
            ),
            self._command(
                ("upload", "上传", "回场"),
                lambda: say("upload"),
                lambda: say("Depot: send all that waits, fetch lists and orders."),
                self._upload,
            ),
            self._command(
                ("run", "车次"),
                lambda: say("run"),
                lambda: say("Say line, stop, fare, and who has ridden."),
                lambda _rest: self._where(),
            ),
        ]

    @staticmethod
    def _command(
        names: tuple[str, ...],
        form: Callable[[], str],
        help_: Callable[[], str],
        run: Callable[[str], Iterable[str]],
    ) -> Command:
        return Command(names, form, help_, run)

    def _stop(self) -> Iterable[str]:
        news = list(self._heard())
        yield from news
        sight = self.driving.sight
        if sight is not None and not news:
            yield "  ".join(stop_words(sight))

    def _next(self, _rest: str) -> Iterable[str]:
        self.driving.go_on()
        return self._stop()

    def _back(self, _rest: str) -> Iterable[str]:
        self.driving.go_back()
        return self._stop()

    def _to(self, rest: str) -> Iterable[str]:
        sight = self.driving.sight
        if sight is None or sight.is_flat:
            return [say("Every ride costs the same here.")] if sight is not None else self._where()
        if not rest:
            stops = list(sight.to.items())[:MOST_LISTED]
            return [f"{place + 1:>3} {name_of(sight.stops[place].name)}  {yuan(fen)}" for place, fen in stops]
        place = _number(rest) - 1
        if place not in sight.to:
            return [say("There is no stop {number} ahead.", number=rest[:10])]
        self.driving.choose_destination(place)
        return [*self._heard(), destination_words(self.driving.sight or sight)]

    def _two(self, _rest: str) -> Iterable[str]:
        self.driving.pay_for_two()
        return [*self._heard()] or _lines_of(self.driving.calm_face())

    def _one(self, _rest: str) -> Iterable[str]:
        self.driving.pay_for_one()
        return [*self._heard()] or _lines_of(self.driving.calm_face())

    def _line(self, rest: str) -> Iterable[str]:
        ways: list[tuple[Line, Direction]] = [
            (line, way) for line in self.driving.network.lines for way in line.directions
        ]
        if not rest:
            return [
                f"{number:>3} {name_of(line.name)} · {name_of(way.name)}"
                for number, (line, way) in enumerate(ways[:MOST_LISTED], 1)
            ]
        number = _number(rest)
        if not 1 <= number <= len(ways):
            return [say("There is no line {number}.", number=rest[:10])]
        self.driving.begin_run(*ways[number - 1])
        return [*self._heard(), *self._where()]

    def _begin(self, _rest: str) -> Iterable[str]:
        self.driving.begin_run()
        return [*self._heard(), *self._where()]

    def _end(self, _rest: str) -> Iterable[str]:
        self.driving.end_run()
        report = self.driving.report
        lines = report_lines(report, self.driving.network) if report is not None else []
        return [*self._heard(), *lines]

    def _inspect(self, _rest: str) -> Iterable[str]:
        self.driving.inspect()
        return [*self._heard()] or _lines_of(self.driving.calm_face())

    def _drive(self, _rest: str) -> Iterable[str]:
        self.driving.drive_on()
        return [*self._heard()] or _lines_of(self.driving.calm_face())

    def _upload(self, _rest: str) -> Iterable[str]:
        self.driving.upload()
        self.loop.hold(lambda event: isinstance(event, Sent | SendFailed))
        return self._heard()


def _lines_of(face: Face) -> Iterator[str]:
    """What the driver's view says, but for its keys."""
    figures = [face.figures] if face.figures else []
    if face.second:
        figures.append(f"{face.label} {face.second}")
    yield "  ".join([f"{face.symbol} {face.word}", *figures])
    yield from face.lines


def _number(text: str) -> int:
    """A number that was typed; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
