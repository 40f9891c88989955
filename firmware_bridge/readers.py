"""Readers by URI: `sim:PATH-OF-A-CARD-FILE`, `pcsc:NAME-OR-INDEX`; `nfc:` and `serial:` to come."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.errors import BadReaderUri, NoReader, ServiceNotRunning
from firmware_bridge.link import Closable, Reader, VirtualCard
from firmware_bridge.virtual.in_process import InProcessReader

SCHEMES = ("sim", "pcsc", "nfc", "serial")
_NOT_BUILT = {"nfc": "NFC readers without PC/SC", "serial": "tap devices on a serial line"}
_FORMS = "Use sim:PATH-OF-A-CARD-FILE or pcsc:NAME-OR-INDEX (`hardwallet readers` lists what is there)."
MAX_URI_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class ReaderUri:
    """A reader's URI in its two parts."""

    scheme: str
    rest: str


@dataclass(frozen=True, slots=True)
class ReaderInfo:
    """A reader that can be opened."""

    uri: str
    name: str
    stack: str
    card_present: bool | None


def parse_reader_uri(uri: str) -> ReaderUri:
    """Splits a reader's URI. BadReaderUri says what a good one looks like."""
    if len(uri) > MAX_URI_LENGTH or any(not character.isprintable() for character in uri):
        raise BadReaderUri(f"The reader's name has characters that no reader name has. {_FORMS}")
    scheme, colon, rest = uri.partition(":")
    if not colon:
        raise BadReaderUri(f"'{uri}' has no 'kind:' in front. {_FORMS}")
    if scheme not in SCHEMES:
        raise BadReaderUri(f"'{scheme}:' is no kind of reader. {_FORMS}")
    if not rest:
        raise BadReaderUri(f"'{uri}' names nothing after its colon. {_FORMS}")
    return ReaderUri(scheme, rest)


def open_reader(uri: str, *, simulated_card: Callable[[Path], VirtualCard] | None = None) -> Reader:
    """Opens the reader that `uri` names.

    `simulated_card` makes the card of a `sim:` reader from its file; its own errors pass through. If the card
    has a close method, closing the reader calls it.

    Raises BadReaderUri, NoReader, ReaderBusy, ServiceNotRunning.
    """
    parsed = parse_reader_uri(uri)
    if parsed.scheme == "sim":
        return _open_simulated(uri, Path(parsed.rest), simulated_card)
    if parsed.scheme == "pcsc":
        from firmware_bridge.pcsc import open_pcsc_reader

        return open_pcsc_reader(parsed.rest)
    raise BadReaderUri(f"'{parsed.scheme}:' ({_NOT_BUILT[parsed.scheme]}) is not supported yet. {_FORMS}")


def list_readers() -> list[ReaderInfo]:
    """The readers that PC/SC knows; none when its service doesn't run (`hardwallet doctor` tells why)."""
    from firmware_bridge.pcsc import list_pcsc_readers

    try:
        found = list_pcsc_readers()
    except (ServiceNotRunning, NoReader):
        return []
    return [ReaderInfo(f"pcsc:{name}", name, "pcsc", present) for name, present in found]


def _open_simulated(uri: str, path: Path, simulated_card: Callable[[Path], VirtualCard] | None) -> Reader:
    if simulated_card is None:
        raise BadReaderUri("No simulated cards here: this program opens real readers only.")
    if not path.exists():
        raise NoReader(f"No card file at {path}. Make one with `hardwallet card new`, or check the path.")
    card = simulated_card(path)
    return InProcessReader(card, uri, on_close=card.close if isinstance(card, Closable) else None)
