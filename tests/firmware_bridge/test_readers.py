"""Readers by URI: what opens, and what a user is told about what doesn't."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import pcsc
from firmware_bridge.errors import BadReaderUri, BridgeError, NoReader, ServiceNotRunning
from firmware_bridge.readers import ReaderUri, list_readers, open_reader, parse_reader_uri
from tests.firmware_bridge.cards import EchoCard
from tests.firmware_bridge.scripted_scard import ScriptedScard


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("sim:/tmp/card file.hwc", ("sim", "/tmp/card file.hwc")),
        ("pcsc:0", ("pcsc", "0")),
        ("pcsc:Virtual PCD 00 00", ("pcsc", "Virtual PCD 00 00")),
        ("nfc:tty:USB0:pn532", ("nfc", "tty:USB0:pn532")),
        ("serial:/dev/ttyACM0", ("serial", "/dev/ttyACM0")),
    ],
)
def test_good_uris(uri: str, parts: tuple[str, str]) -> None:
    assert parse_reader_uri(uri) == ReaderUri(*parts)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("", "no 'kind:'"),
        ("card.hwc", "no 'kind:'"),
        ("sim:", "nothing after its colon"),
        ("usb:1", "no kind of reader"),
        ("SIM:x", "no kind of reader"),
        ("sim:a\nb", "characters"),
        ("sim:" + "x" * 5000, "characters"),
    ],
)
def test_bad_uris(uri: str, told: str) -> None:
    with pytest.raises(BadReaderUri, match=told):
        open_reader(uri)


@given(st.text(max_size=40))
def test_any_text_is_a_uri_or_told_not_to_be(uri: str) -> None:
    try:
        parsed = parse_reader_uri(uri)
    except BadReaderUri:
        return
    assert f"{parsed.scheme}:{parsed.rest}" == uri


@pytest.mark.parametrize("uri", ["nfc:usb", "serial:/dev/ttyACM0"])
def test_kinds_not_built_yet_say_so(uri: str) -> None:
    with pytest.raises(BadReaderUri, match="not supported yet"):
        open_reader(uri)


def test_a_simulated_reader_opens_its_card_and_closes_it(tmp_path: Path) -> None:
    class FileCard(EchoCard):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    made: list[tuple[Path, FileCard]] = []

    def factory(path: Path) -> FileCard:
        made.append((path, FileCard()))
        return made[-1][1]

    file = tmp_path / "card"
    file.write_bytes(b"")
    reader = open_reader(f"sim:{file}", simulated_card=factory)
    assert reader.uri == f"sim:{file}"
    assert reader.wait_for_card(0).transmit(bytes.fromhex("8010000001AA")) == bytes.fromhex("AA9000")
    reader.close()
    assert [(path, card.closed) for path, card in made] == [(file, 1)]


def test_a_card_without_anything_to_close_is_fine(tmp_path: Path) -> None:
    open_reader(f"sim:{tmp_path}", simulated_card=lambda _: EchoCard()).close()


def test_a_card_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoReader, match="No card file"):
        open_reader(f"sim:{tmp_path / 'none'}", simulated_card=lambda _: EchoCard())


def test_simulated_cards_need_someone_to_simulate(tmp_path: Path) -> None:
    with pytest.raises(BadReaderUri):
        open_reader(f"sim:{tmp_path}")


def test_pcsc_readers_open_by_index_name_and_part(monkeypatch: pytest.MonkeyPatch) -> None:
    scard = ScriptedScard(["ACME One 00 00", "ACME Two 00 00"])
    monkeypatch.setattr(pcsc, "load_scard", lambda: scard)
    assert open_reader("pcsc:1").name == "ACME Two 00 00"
    assert open_reader("pcsc:ACME One 00 00").uri == "pcsc:ACME One 00 00"
    assert open_reader("pcsc:two").name == "ACME Two 00 00"
    for uri, error in [("pcsc:2", NoReader), ("pcsc:Three", NoReader), ("pcsc:ACME", BadReaderUri)]:
        with pytest.raises(error, match="0: ACME One 00 00, 1: ACME Two 00 00"):
            open_reader(uri)
    scard.readers.clear()
    with pytest.raises(NoReader, match="No reader is connected"):
        open_reader("pcsc:0")
    assert scard.contexts_open == 0


def test_without_pcscd_opening_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scard = ScriptedScard([])
    scard.service_up = False
    monkeypatch.setattr(pcsc, "load_scard", lambda: scard)
    with pytest.raises(ServiceNotRunning, match="systemctl start"):
        open_reader("pcsc:0")
    assert list_readers() == []


def test_listing_shows_uris_and_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    scard = ScriptedScard(["ACME One 00 00", "ACME Two 00 00"])
    scard.insert("ACME Two 00 00", EchoCard())
    monkeypatch.setattr(pcsc, "load_scard", lambda: scard)
    assert [(info.uri, info.stack, info.card_present) for info in list_readers()] == [
        ("pcsc:ACME One 00 00", "pcsc", False),
        ("pcsc:ACME Two 00 00", "pcsc", True),
    ]


def test_without_pyscard_everything_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "smartcard.scard", None)
    with pytest.raises(ServiceNotRunning, match="make setup"):
        open_reader("pcsc:0")
    assert list_readers() == []


def test_no_error_is_a_value_error() -> None:
    def tree(kind: type[BridgeError]) -> list[type[BridgeError]]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in tree(child))]

    assert len(tree(BridgeError)) > 15
    assert not any(issubclass(kind, ValueError | OSError) for kind in tree(BridgeError))
