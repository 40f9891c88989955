"""Files that are damaged, held, newer or foreign: one clear line, exit 1, and nothing lost."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge.virtual.vpcd import PCSCD_SOCKET, VPCD_PORT
from hardwallet.card.file import HEADER_LENGTH
from tests.tui.world import PASSPHRASE, World, environment

CARD_VERSION_AT = 8
SQLITE_USER_VERSION_AT = 60


def spoil(path: Path, at: int, replacement: bytes) -> bytes:
    """Overwrites bytes of a file; gives back what stood there before in the whole file."""
    before = path.read_bytes()
    path.write_bytes(before[:at] + replacement + before[at + len(replacement) :])
    return before


@pytest.mark.parametrize(
    ("at", "replacement", "kind", "said"),
    [
        (0, b"GIF89a\r\n", "card_file_damaged", "is not a card file"),
        (CARD_VERSION_AT, b"\x00\x02", "card_file_error", "version 2; this program knows version 1"),
        (60, b"#", "card_file_damaged", "its identity does not match its check"),
        (HEADER_LENGTH, b"\xff" * 10_000, "card_file_damaged", "neither of its two states is whole"),
        (-1, b"", "card_file_damaged", "bytes instead of"),
    ],
    ids=["magic", "version", "identity", "states", "truncated"],
)
def test_a_damaged_card_file(world: World, at: int, replacement: bytes, kind: str, said: str) -> None:
    path = world.path("alice.card")
    whole = spoil(path, at, replacement) if at >= 0 else spoil(path, 0, b"")
    if at < 0:
        path.write_bytes(whole[:-1])
    spoiled = path.read_bytes()
    for words in (
        "card show alice.card",
        "card load alice.card 1.00 --scheme city",
        "card new alice.card --scheme city",
        "card serve --vpcd alice.card",
        "pos pay 1.00 --terminal till --reader sim:alice.card",
        "probe --reader sim:alice.card",
    ):
        done = world.call(*words.split(), "--json") if "serve" not in words else world.call(*words.split())
        assert (done.code, done.out) == (1, "")
        assert said in done.err
        if "serve" not in words:
            assert done.error["kind"] == kind
    assert path.read_bytes() == spoiled
    assert world.status()["unresolved"] == []
    path.write_bytes(whole)
    assert world.pay("1.00").code == 0


def test_a_card_file_that_is_none(world: World) -> None:
    for name, said in (("nope.card", "there is no card file"), ("city", "Is a directory")):
        done = world.call("card", "show", name, "--json")
        assert (done.code, done.error["kind"]) == (1, "card_file_error")
        assert said in done.error["message"]


@pytest.mark.parametrize(
    ("uri", "code", "kind", "said"),
    [
        ("alice.card", 2, "bad_reader_uri", "has no 'kind:' in front"),
        ("usb:0", 2, "bad_reader_uri", "'usb:' is no kind of reader"),
        ("sim:", 2, "bad_reader_uri", "names nothing after its colon"),
        ("nfc:usb", 2, "bad_reader_uri", "not supported yet"),
        ("sim:nope.card", 1, "no_reader", "No card file at nope.card"),
        ("sim:city", 1, "card_file_error", "Is a directory"),
        ("sim:till/key.json", 1, "card_file_damaged", "is not a card file"),
    ],
)
def test_readers_that_are_none(world: World, uri: str, code: int, kind: str, said: str) -> None:
    for words in (
        ("probe", "--reader", uri),
        ("apdu", "--reader", uri, "00A40400"),
        ("pos", "pay", "1.00", "--terminal", "till", "--reader", uri),
    ):
        done = world.call(*words, "--json")
        assert (done.code, done.out, done.error["kind"]) == (code, "", kind)
        assert said in done.error["message"]
    assert world.status()["entries"] == 0


@pytest.mark.needs("module:smartcard")
def test_no_pcscd(world: World) -> None:
    """libpcsclite is sent to a socket that nobody listens at, whatever runs on this machine."""
    nowhere = {"PCSCLITE_CSOCK_NAME": str(world.path("nowhere"))}
    done = world.typed("pos", "pay", "1.00", "--terminal", "till", "--reader", "pcsc:0", **nowhere)
    assert (done.code, done.out) == (1, "")
    assert "The smart card service doesn't answer" in done.err
    assert "hardwallet doctor" in done.err
    listed = world.typed("readers", "--json", **nowhere)
    assert (listed.code, listed.json["readers"]) == (0, [])
    assert "hardwallet doctor" in listed.err
    assert world.status()["entries"] == 0


def test_no_virtual_reader_to_serve_a_card_in(world: World) -> None:
    with socket.socket() as knock:
        if Path(PCSCD_SOCKET).exists() or knock.connect_ex(("127.0.0.1", VPCD_PORT)) == 0:
            pytest.skip("a pcscd runs on this machine")
    done = world.typed("card", "serve", "--vpcd", "alice.card")
    assert (done.code, done.out) == (1, "")
    assert "No virtual reader answers" in done.err
    assert "sudo apt install pcscd vsmartcard-vpcd" in done.err


def test_doctor_tells_what_is_wrong_and_what_mends_it(world: World) -> None:
    done = world.call("doctor", "--json")
    found = done.json
    assert done.code == (0 if found["healthy"] else 1)
    assert {"python", "pcscd", "pcscd running", "pyscard"} <= {
        finding["check"] for finding in found["findings"]
    }
    problems = [finding for finding in found["findings"] if finding["level"] == "problem"]
    assert found["healthy"] is not bool(problems)
    assert all(finding["fix"] for finding in problems)
    told = world.call("doctor").out
    assert all(finding["fix"] in told for finding in problems)


def test_a_journal_that_another_program_holds(world: World) -> None:
    with world.session("till"):
        for words in (
            ("pos", "pay", "1.00", "--reader", "sim:alice.card"),
            ("pos", "status"),
            ("pos", "give-up", "--reason", "x"),
            ("pos", "receipt", "1"),
            ("sync", "--clearing", "http://127.0.0.1:9"),
        ):
            done = world.call(*words, "--terminal", "till", "--json")
            assert (done.code, done.error["kind"]) == (1, "journal_busy")
            assert "in use by another program" in done.error["message"]
    assert world.pay("1.00").code == 0


@pytest.mark.parametrize(
    ("at", "replacement", "kind", "said"),
    [
        (0, b"not a database at all", "journal_damaged", "is damaged"),
        (100, bytes(300), "journal_damaged", "is damaged"),
        (SQLITE_USER_VERSION_AT, b"\x00\x00\x00\x63", "journal_newer", "newer version"),
    ],
)
def test_a_damaged_or_newer_journal(world: World, at: int, replacement: bytes, kind: str, said: str) -> None:
    assert world.pay("1.00").code == 0
    path = world.path("till/journal.sqlite")
    whole = spoil(path, at, replacement)
    done = world.pay("1.00")
    assert (done.code, done.error["kind"]) == (1, kind)
    assert said in done.error["message"]
    assert world.shown()["balance_fen"] == 19_900
    path.write_bytes(whole)
    assert world.status()["waiting"]["amount_fen"] == 100


def test_a_damaged_entry_is_shown_and_the_rest_stays(world: World) -> None:
    assert world.pay("1.00").code == 0
    code = world.pay("2.00").json["record"]["code"]
    path = world.path("till/journal.sqlite")
    record = bytes.fromhex(world.shown()["number"])
    content = path.read_bytes()
    # The signed record of the first payment: its amount, 40 bytes behind the card's number in it.
    at = next(
        place + 40
        for place in range(len(content) - 44)
        if content[place : place + 8] == record
        and content[place + 40 : place + 44] == (100).to_bytes(4, "big")
    )
    spoil(path, at, (999_900).to_bytes(4, "big"))
    status = world.status()
    assert len(status["damaged"]) == 1
    assert status["sales"][0]["amount_fen"] == 200
    assert "damaged entries" in world.call("pos", "status", "--terminal", "till").out
    assert world.call("pos", "receipt", code, "--terminal", "till").code == 0


def test_the_journal_of_another_terminal(world: World) -> None:
    assert world.pay("1.00").code == 0
    shutil.copy(world.path("till/journal.sqlite"), world.path("bus/journal.sqlite"))
    done = world.pay("1.00", terminal="bus")
    assert (done.code, done.error["kind"]) == (1, "journal_foreign")
    assert world.shown()["balance_fen"] == 19_900


@pytest.mark.needs("unshare", "mount")
def test_a_full_disk_under_the_journal(world: World) -> None:
    """The terminal's folder on a file system of its own, too small to begin a sale on."""
    script = (
        "mkdir small && mount -t tmpfs -o size=4m none small && cp -r till small/ && "
        '"$0" -m tui pos pay 1.00 --terminal small/till --reader sim:alice.card --json'
    )
    done = subprocess.CompletedProcess([], 0, "", "")
    for privileges in ([], ["--user", "--map-root-user"]):
        shutil.rmtree(world.path("small"), ignore_errors=True)
        command = ["unshare", *privileges, "--mount", "sh", "-c", script, sys.executable]
        done = subprocess.run(
            command,
            cwd=world.folder,
            env=environment({}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if '"outcome"' in done.stdout:
            break
    else:
        pytest.skip(f"this machine lets no program mount: {done.stderr.strip()}")
    assert done.returncode == 1
    assert '"outcome": "declined"' in done.stdout
    assert "is full. Free some space; no card is asked to pay until then" in done.stdout
    assert world.shown()["balance_fen"] == 20_000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("settings.json", "{", "settings.json can't be understood"),
        ("settings.json", '{"version": 2}', "is of version 2; this program knows 1"),
        ("settings.json", '{"vehicle": "BUS 7"}', "the vehicle must have 4 letters or digits"),
        ("scheme.json", "{}", "is not a scheme's file, or is damaged"),
        ("key.json", "{}", "is not a key file of this program, or is damaged"),
        ("certificate.bin", "short", "can't be opened"),
        ("key", "another passphrase\n", "does not open with this passphrase"),
        ("key", "\n", "is empty"),
    ],
)
def test_a_damaged_terminal_folder(world: World, name: str, content: str, said: str) -> None:
    path = world.path("till") / name
    path.write_text(content, encoding="ascii")
    done = world.pay("1.00")
    assert (done.code, done.error["kind"]) == (1, "terminal_folder_error")
    assert said in done.error["message"]
    assert world.shown()["balance_fen"] == 20_000


def test_a_wrong_passphrase(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDWALLET_PASSPHRASE", PASSPHRASE)
    for words, kind in (
        ("pos pay 1.00 --terminal till --reader sim:alice.card", "terminal_folder_error"),
        ("card new --scheme city new.card", "issuing_error"),
        ("card load alice.card 1.00 --scheme city", "issuing_error"),
        ("terminal new --scheme city --class retail t2", "issuing_error"),
        ("clearing report --scheme city", "issuing_error"),
    ):
        done = world.call(*words.split(), "--json")
        assert (done.code, done.error["kind"]) == (1, kind)
        assert "does not open with this passphrase" in done.error["message"]
        assert PASSPHRASE not in done.err
    assert not world.path("new.card").exists()
    monkeypatch.delenv("HARDWALLET_PASSPHRASE")
    assert world.pay("1.00").code == 0


def test_key_files(world: World) -> None:
    key = world.path("elsewhere")
    shutil.move(world.path("till/key"), key)
    lost = world.pay("1.00")
    assert (lost.code, "can't be read (No such file or directory)" in lost.error["message"]) == (1, True)
    assert world.pay("1.00", "--key-file", "elsewhere").code == 0
    key.chmod(0o640)
    refused = world.pay("1.00", "--key-file", "elsewhere")
    assert (refused.code, "chmod 600 elsewhere" in refused.error["message"]) == (1, True)


@pytest.mark.parametrize("folder", ["nowhere", "till", "alice.card"])
def test_a_folder_that_holds_no_scheme(world: World, folder: str) -> None:
    shutil.rmtree(world.path("till"))
    world.path("till").mkdir()
    for words in (
        "card new new.card",
        "card load alice.card 1.00",
        "terminal new --class retail t2",
        "clearing report",
    ):
        done = world.call(*words.split(), "--scheme", folder, "--json")
        assert (done.code, done.error["kind"]) == (1, "issuing_error")
        assert "hardwallet scheme init" in done.error["message"]
    assert not world.path("t2").exists()


def test_nothing_is_made_twice(world: World) -> None:
    before = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    for words, said in (
        ("scheme init city", "holds a scheme already"),
        ("terminal new --scheme city --class retail till", "holds a terminal already"),
        ("card new --scheme city alice.card --balance 200.00", "is a finished card already"),
        ("scheme init alice.card", "File exists"),
    ):
        done = world.call(*words.split())
        assert done.code == 1
        assert said in done.err
    after = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    changed = {path.name for path in before if before[path] != after.get(path)} | {
        path.name for path in after if path not in before
    }
    assert changed <= set()


def test_a_damaged_issuing_journal_stops_issuing(world: World) -> None:
    path = world.path("city/issuing.jsonl")
    spoil(path, 20, b"#")
    done = world.call("card", "new", "--scheme", "city", "new.card", "--json")
    assert (done.code, done.error["kind"]) == (1, "issuing_error")
    assert "is damaged in line 1" in done.error["message"]
    assert not world.path("new.card").exists()


def test_a_trace_file_is_never_something_else(world: World) -> None:
    whole = world.path("alice.card").read_bytes()
    done = world.pay("1.00", "--trace", "rich.card")
    assert (done.code, "is no trace; name another file" in done.error["message"]) == (1, True)
    done = world.pay("1.00", "--trace", "no/such/folder/trace")
    assert (done.code, done.error["kind"]) == (1, "system")
    assert "No such file or directory" in done.error["message"]
    assert world.path("alice.card").read_bytes() == whole
    assert world.pay("1.00", "--trace", "/dev/full").code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "isn't a trace's header"),
        (b"\x00\xff\n", "isn't text"),
        (b"{}\n", "isn't a trace's header"),
        (b'{"trace": 9}\n', "version 9"),
        (b'{"trace": 1, "reader": "", "atr": "", "clock": ""}\n{"t_ms": 1}\n', "Line 2"),
    ],
)
def test_a_file_that_is_no_trace(world: World, content: bytes, said: str) -> None:
    world.path("bad.trace").write_bytes(content)
    for command in ("show", "replay"):
        done = world.call("trace", command, "bad.trace", "--json")
        assert (done.code, done.error["kind"]) == (1, "malformed_trace")
        assert said in done.error["message"] or content == b""
