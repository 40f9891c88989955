"""What stands behind a screen: a terminal with its reader and its way to clearing, or a simulated world.

No Textual here: the line mode stands on the same.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleet.open import TerminalSession, open_session, system_clock
from fleet.uplink import Uplink
from pos_terminal.ports import Clock
from tui.errors import BadUsage
from tui.field import Field as OpenField
from tui.field import Notice, open_field
from tui.text import say

if TYPE_CHECKING:
    from fleet.playground import Playground
    from fleet.station import Field

Kind = Literal["cashier", "bus"]


class HealthRelay:
    """What a patient reader tells of its health, for the station, which is made after the reader."""

    def __init__(self) -> None:
        self._listener: Notice = lambda _word, _sentence: None

    def __call__(self, word: str, sentence: str) -> None:
        """From any thread: one word for programs, and a sentence."""
        self._listener(word, sentence)

    def listen(self, listener: Notice) -> None:
        """From now on it is told."""
        self._listener = listener


@dataclasses.dataclass(frozen=True, slots=True)
class Backing:
    """`playground` is None behind a real terminal."""

    session: TerminalSession
    field: "Field"
    uplink: Uplink | None
    playground: "Playground | None" = None
    clock: Clock = system_clock
    health: HealthRelay = dataclasses.field(default_factory=HealthRelay)


@contextmanager
def open_backing(
    kind: Kind, terminal: Path | None, reader: str | None, key_file: Path | None, trace: Path | None
) -> Iterator[Backing]:
    """A terminal with its reader, or, where no terminal is named, a playground that is gone afterwards.

    Raises BadUsage and whatever opening a terminal or a reader raises.
    """
    if terminal is None:
        if reader is not None or key_file is not None or trace is not None:
            raise BadUsage(
                say("--reader, --key-file and --trace belong to a terminal: name it with --terminal DIR")
            )
        from fleet.playground import open_playground

        with open_playground(kind) as world:
            yield Backing(world.session, world.field, world.uplink, world)
        return
    with open_session(terminal, key_file) as session:
        _want_kind(kind, session)
        uri = reader or session.folder.settings.reader
        if not uri:
            raise BadUsage(
                say("name the reader: --reader sim:PATH-OF-A-CARD-FILE or --reader pcsc:NAME-OR-INDEX")
            )
        url = session.folder.settings.clearing
        health = HealthRelay()
        with open_field(uri, trace, patient=True, notice=health) as opened, _lent(opened) as field:
            yield Backing(session, field, Uplink(url) if url else None, health=health)


@contextmanager
def _lent(opened: OpenField) -> Iterator["Field"]:
    """The field of a screen. Nobody can hold a simulated card to a reader: a hand does, whenever one is
    awaited."""
    from firmware_bridge.virtual.in_process import InProcessReader

    if not isinstance(opened.reader, InProcessReader):
        yield opened
        return
    from fleet.tray import LentField

    lent = LentField(opened, opened.reader)
    try:
        yield lent
    finally:
        lent.close()


def _want_kind(kind: Kind, session: TerminalSession) -> None:
    if (kind == "bus") == session.in_transit:
        return
    if session.in_transit:
        raise BadUsage(say("this terminal takes fares: open it with hardwallet tui bus"))
    raise BadUsage(say("this terminal is a till: open it with hardwallet tui cashier"))
