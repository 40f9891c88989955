"""A terminal's folder: made whole, checked whole, and clear about what is wrong with it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT
from hardwallet.issuing import Scheme, create_scheme, open_scheme
from hardwallet.keys import KEY_FILE, PASSPHRASE_VARIABLE
from pos_terminal.errors import TerminalError, TerminalFolderError
from pos_terminal.folder import (
    CERTIFICATE,
    KEY,
    SCHEME,
    SETTINGS,
    LimitSettings,
    Settings,
    create_terminal,
    open_terminal,
)
from pos_terminal.limits import TerminalLimits
from tests.pos_terminal.bench import NOW, PASSPHRASE, Holder, Mill, seeded

SECRET = "correct horse battery staple"
FILES = (SETTINGS, SCHEME, CERTIFICATE, KEY, KEY_FILE)


@pytest.fixture(autouse=True)
def _no_passphrase_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)


@pytest.fixture
def scheme(mill: Mill) -> Iterator[Scheme]:
    with open_scheme(mill.folder, PASSPHRASE, seeded("folder")) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path, scheme: Scheme) -> Path:
    """A transit terminal's folder, made in a place that did not exist."""
    path = tmp_path / "some" / "where"
    create_terminal(path, scheme, "transit", 7, NOW, seeded("terminal"), settings=Settings(vehicle="B042"))
    return path


def refused(path: Path, key_file: Path | None = None) -> str:
    """What opening it says. It must not show what the folder keeps secret."""
    with pytest.raises(TerminalFolderError) as raised:
        open_terminal(path, key_file=key_file)
    told = str(raised.value) + repr(raised.value)
    for name in (KEY, KEY_FILE):
        content = (path / name).read_text("utf-8", "replace").strip()[:32] if (path / name).is_file() else ""
        assert not content or content not in told
    assert SECRET not in told
    assert isinstance(raised.value, TerminalError)
    return str(raised.value)


def test_made_and_opened(folder: Path, mill: Mill) -> None:
    opened = open_terminal(folder)
    certificate = opened.identity.certificate
    assert certificate.klass == CLASS_TRANSIT
    assert certificate.payee == bytes.fromhex("0000020100000007")
    assert opened.identity.key.public == certificate.public
    assert opened.trust.bundle.scheme == mill.trust.scheme
    assert opened.settings.vehicle == "B042"
    assert opened.limits == TerminalLimits()
    assert opened.journal_path == folder / "journal.sqlite"


def test_retail(tmp_path: Path, scheme: Scheme) -> None:
    made = create_terminal(tmp_path / "till", scheme, "retail", 7, NOW, seeded("till"))
    opened = open_terminal(tmp_path / "till")
    assert opened.identity.certificate == made.identity.certificate
    assert opened.identity.certificate.klass == CLASS_RETAIL
    assert opened.settings.vehicle == ""


def test_a_vehicle_without_a_name_has_its_terminals_number(tmp_path: Path, scheme: Scheme) -> None:
    made = create_terminal(tmp_path / "bus", scheme, "transit", 7, NOW, seeded("bus"))
    assert made.settings.vehicle == made.identity.certificate.terminal.hex()[-4:]
    assert open_terminal(tmp_path / "bus").settings == made.settings


def test_secrets_are_for_the_owner_alone(folder: Path) -> None:
    for name in (KEY, KEY_FILE):
        assert (folder / name).stat().st_mode & 0o077 == 0
    assert not list(folder.glob("*.partial"))


def test_the_key_is_sealed(folder: Path) -> None:
    scalar = open_terminal(folder).identity.key.scalar()
    for path in folder.iterdir():
        content = path.read_bytes()
        assert scalar not in content
        assert scalar.hex().encode() not in content


def test_nothing_shows_the_key(folder: Path) -> None:
    opened = open_terminal(folder)
    scalar = opened.identity.key.scalar()
    for shown in (repr(opened), str(opened), repr(opened.identity)):
        assert scalar.hex() not in shown
        assert repr(scalar) not in shown


@pytest.mark.parametrize("klass", ["", "Retail", "bus", "both"])
def test_classes_are_two(tmp_path: Path, scheme: Scheme, klass: str) -> None:
    with pytest.raises(TerminalFolderError, match="retail or transit"):
        create_terminal(tmp_path / "x", scheme, klass, 1, NOW, seeded(1))
    assert not (tmp_path / "x").exists()


def test_a_folder_is_never_written_over(folder: Path, scheme: Scheme) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TerminalFolderError, match="another folder"):
        create_terminal(folder, scheme, "retail", 1, NOW, seeded(1))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_place_that_cannot_be_written(tmp_path: Path, scheme: Scheme) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TerminalFolderError, match="can't be written"):
        create_terminal(tmp_path / "file" / "till", scheme, "retail", 1, NOW, seeded(1))


# ---------------------------------------------------------------------- missing and damaged


def test_nothing_there(tmp_path: Path) -> None:
    assert "hardwallet terminal new" in refused(tmp_path / "nowhere")
    assert "hardwallet terminal new" in refused(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_each_file_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert str(folder) in refused(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_the_place_of_each_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir(mode=0o700)
    refused(folder)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: seeded("noise")(len(content)),
    "far too long": lambda content: content * (200_000 // len(content) + 1),
    "not text": lambda content: b"\xff\xfe" + content,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_file_damaged(folder: Path, name: str, damage: str) -> None:
    (folder / name).write_bytes(DAMAGES[damage]((folder / name).read_bytes()))
    refused(folder)


@pytest.mark.parametrize("name", [SCHEME, CERTIFICATE, KEY])
def test_every_flipped_byte_is_seen(folder: Path, name: str) -> None:
    """Of what is signed or sealed. (JSON may be laid out otherwise: white space is not counted.)"""
    content = (folder / name).read_bytes()
    step = max(1, len(content) // 150)
    for at in range(0, len(content), step):
        if content[at : at + 1].isspace():
            continue
        (folder / name).write_bytes(content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :])
        try:
            opened = open_terminal(folder)
        except TerminalFolderError:
            continue
        assert name == SCHEME  # its name for people is not signed
        assert opened.trust.name != "test"
    (folder / name).write_bytes(content)
    open_terminal(folder)


# ---------------------------------------------------------------------- what does not belong


def test_another_terminals_key(folder: Path, tmp_path: Path, scheme: Scheme) -> None:
    create_terminal(tmp_path / "other", scheme, "transit", 7, NOW, seeded("other"))
    for name in (KEY, KEY_FILE):
        shutil.copy(tmp_path / "other" / name, folder / name)
    assert "does not belong" in refused(folder)


def test_another_schemes_trust(folder: Path, tmp_path: Path, mill: Mill) -> None:
    create_scheme(tmp_path / "scheme", "other", mill.suite, b"p", NOW, seeded("another"))
    shutil.copy(tmp_path / "scheme" / "scheme.json", folder / SCHEME)
    assert "another scheme" in refused(folder)


def test_a_cards_certificate(holder: Holder, folder: Path) -> None:
    (folder / CERTIFICATE).write_bytes(holder.identity.certificate.to_bytes())
    assert "terminal" in refused(folder)


def test_a_wrong_passphrase(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, SECRET)
    assert "does not open with this passphrase" in refused(folder)


def test_a_passphrase_from_the_environment(
    tmp_path: Path, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, SECRET)
    create_terminal(tmp_path / "till", scheme, "retail", 1, NOW, seeded(1))
    assert not (tmp_path / "till" / KEY_FILE).exists()
    open_terminal(tmp_path / "till")
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    assert PASSPHRASE_VARIABLE in refused(tmp_path / "till")


def test_a_passphrase_from_a_key_file(tmp_path: Path, scheme: Scheme) -> None:
    key_file = tmp_path / "passphrase"
    key_file.write_text(SECRET)
    key_file.chmod(0o600)
    create_terminal(tmp_path / "till", scheme, "retail", 1, NOW, seeded(1), key_file=key_file)
    assert not (tmp_path / "till" / KEY_FILE).exists()
    open_terminal(tmp_path / "till", key_file=key_file)
    assert "key" in refused(tmp_path / "till")
    key_file.write_text(SECRET + "!")
    refused(tmp_path / "till", key_file)
    key_file.write_text("\n")
    assert "empty" in refused(tmp_path / "till", key_file)
    assert "can't be read" in refused(tmp_path / "till", tmp_path / "none")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_key_file_that_others_can_read(folder: Path) -> None:
    (folder / KEY_FILE).chmod(0o644)
    assert "chmod 600" in refused(folder)


# ---------------------------------------------------------------------- settings


def change_settings(folder: Path, **changes: object) -> None:
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(settings | changes))


def test_limits_are_read(folder: Path) -> None:
    limits = {"single_fen": 1, "stored_fen": 2, "select_ms": 3.5, "clock_back_s": 4, "clock_ahead_s": 5}
    limits |= {"denylist_tighten_s": 6, "denylist_stop_s": 7, "stale_single_fen": 8}
    change_settings(folder, limits=limits)
    assert open_terminal(folder).limits == TerminalLimits(1, 2, 3.5, 4, 5, 6, 7, 8)


def test_settings_from_before_shifts_and_printers_stay_good(folder: Path) -> None:
    settings = json.loads((folder / SETTINGS).read_text())
    for name in ("shift", "printer"):
        settings.pop(name)
    (folder / SETTINGS).write_text(json.dumps(settings))
    opened = open_terminal(folder).settings
    assert (opened.shift.required, opened.shift.blind_count) == (False, False)
    assert (opened.printer.uri, opened.printer.columns, opened.printer.heading) == ("", 32, "")


def test_the_shift_and_the_printer_of_the_settings(folder: Path) -> None:
    change_settings(folder, shift={"blind_count": True}, printer={"uri": "tcp:10.0.0.9", "columns": 48})
    opened = open_terminal(folder).settings
    assert (opened.shift.required, opened.shift.blind_count) == (False, True)
    assert (opened.printer.uri, opened.printer.columns) == ("tcp:10.0.0.9", 48)


def test_settings_and_limits_name_the_same_things() -> None:
    assert set(LimitSettings.__struct_fields__) == set(TerminalLimits.__slots__)
    assert TerminalLimits() == TerminalLimits(
        *(getattr(LimitSettings(), n) for n in TerminalLimits.__slots__)
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"version": 0}, "version 0"),
        ({"colour": "green"}, "colour"),
        ({"limits": {"single": 1}}, "single"),
        ({"limits": {"single_fen": "many"}}, "single_fen"),
        ({"vehicle": "B04"}, "4 letters or digits"),
        ({"vehicle": "车车车车"}, "4 letters or digits"),
        ({"vehicle": "B 42"}, "4 letters or digits"),
        ({"vehicle": "B0\n2"}, "4 letters or digits"),
        ({"vehicle": 42}, "vehicle"),
        ({"limits": {"single_fen": -1}}, "single_fen"),
        ({"limits": {"stored_fen": -1}}, "stored_fen"),
        ({"limits": {"select_ms": 0}}, "select_ms"),
        ({"limits": {"clock_back_s": -1}}, "clock_back_s"),
        ({"limits": {"clock_ahead_s": -5}}, "clock_ahead_s"),
        ({"limits": {"denylist_tighten_s": -1}}, "denylist_tighten_s"),
        ({"limits": {"denylist_stop_s": "never"}}, "denylist_stop_s"),
        ({"limits": {"stale_single_fen": -1}}, "stale_single_fen"),
        ({"printer": {"columns": 40}}, "columns"),
        ({"printer": {"heading": "x" * 101}}, "heading"),
        ({"shift": {"blind": True}}, "blind"),
        ({"shift": {"required": 1}}, "required"),
    ],
)
def test_settings_that_make_no_sense(folder: Path, changes: dict[str, object], words: str) -> None:
    change_settings(folder, **changes)
    told = refused(folder)
    assert words in told
    assert SETTINGS in told


def test_a_scheme_of_a_newer_version(folder: Path) -> None:
    scheme = json.loads((folder / SCHEME).read_text())
    (folder / SCHEME).write_text(json.dumps(scheme | {"version": 2}))
    assert "version 2" in refused(folder)


def test_a_key_of_a_newer_version(folder: Path) -> None:
    sealed = json.loads((folder / KEY).read_text())
    (folder / KEY).write_text(json.dumps(sealed | {"version": 2}))
    assert "another version" in refused(folder)
