"""The reader of a command: opened by its URI, recorded where wanted, its time modelled where simulated."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from firmware_bridge.link import CardLink, Reader, VirtualCard
from firmware_bridge.readers import open_reader, parse_reader_uri
from firmware_bridge.trace import TraceWriter, TracingReader
from hardwallet.card.timing import ModelledLink, TapModel
from hardwallet.describe import redact
from tui.errors import CommandError, system_words
from tui.output import note
from tui.text import say

Notice = Callable[[str, str], None]
"""Told (word for programs, sentence) when a reader's health changes."""

_TRACE_BEGIN = b'{"trace"'


@dataclass(slots=True)
class Field:
    """An open reader. `model` adds up modelled time, where the card is simulated in this process."""

    reader: Reader
    stack: str
    model: TapModel | None

    def wait_for_card(self, timeout_s: float | None) -> CardLink:
        """A link to the next card; its modelled time begins now."""
        link = self.reader.wait_for_card(timeout_s)
        return link if self.model is None else ModelledLink(link, self.model)

    def modelled_ms(self) -> float:
        """Modelled air and card time so far; 0 where nothing is modelled."""
        return 0.0 if self.model is None else self.model.total_ms()


@contextmanager
def open_field(
    uri: str, trace: Path | None = None, *, patient: bool = False, notice: Notice | None = None
) -> Iterator[Field]:
    """Opens a reader for a command and closes it afterwards.

    A `patient` PC/SC reader waits through an unplugged reader and a pcscd that restarts.
    Raises ReaderError, CardFileError, OSError for the trace file.
    """
    stack = parse_reader_uri(uri).scheme
    model = TapModel() if stack == "sim" else None
    with trace_file(trace) as stream:
        reader = _open(uri, stack, model, patient, notice)
        try:
            if stream is None:
                yield Field(reader, stack, model)
                return
            writer = TraceWriter(stream, redact, time.monotonic, reader_uri=uri)
            yield Field(TracingReader(reader, writer), stack, model)
            if writer.failure is not None:
                note(say("The trace ended early: {why}.", why=system_words(writer.failure)))
        finally:
            reader.close()


def _open(uri: str, stack: str, model: TapModel | None, patient: bool, notice: Notice | None) -> Reader:
    if patient and stack == "pcsc":
        return _open_patient(uri, notice)

    def simulated(path: Path) -> VirtualCard:
        from hardwallet.card.simulated import SimulatedCard

        return SimulatedCard(path, meter=model.operation if model is not None else None)

    return open_reader(uri, simulated_card=simulated)


def _open_patient(uri: str, notice: Notice | None) -> Reader:
    from firmware_bridge.pcsc import HealthEvent, open_pcsc_reader

    def tell(event: HealthEvent) -> None:
        if notice is not None:
            notice(event.health.name.lower(), str(event))

    return open_pcsc_reader(parse_reader_uri(uri).rest, patient=True, on_health=tell)


@contextmanager
def trace_file(path: Path | None) -> Iterator[TextIO | None]:
    """The file to record in. Only a trace is ever written over."""
    if path is None:
        yield None
        return
    if path.exists() and path.is_file():
        with path.open("rb") as file:
            begin = file.read(len(_TRACE_BEGIN))
        if begin not in (b"", _TRACE_BEGIN):
            raise CommandError(say("{path} exists and is no trace; name another file", path=path))
    stream = path.open("w", encoding="utf-8")
    try:
        yield stream
    finally:
        with suppress(OSError):  # what could not be written is known already, and costs no tap
            stream.close()
