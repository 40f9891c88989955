"""A simulated card's file: crashes, a second process, damage, a full disk, another version."""

import errno
import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware_bridge.errors import CardGone
from firmware_bridge.virtual.in_process import InProcessReader
from hardwallet.card import file as card_file
from hardwallet.card.file import (
    FILE_LENGTH,
    HEADER_LENGTH,
    CardFile,
    create_card_file,
    open_card_file,
)
from hardwallet.card.memory import State
from hardwallet.card.simulated import SimulatedCard
from hardwallet.errors import CardFileBusy, CardFileDamaged, CardFileError
from hardwallet.issuing import Scheme
from hw_tests.bench import Authority, Bench, done
from tests.conftest import REPOSITORY
from tests.hardwallet.crash import Death, die_at

TIMEOUT_S = 60
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.hardwallet.crash"])


@dataclass(frozen=True, slots=True)
class Lying:
    """A card in its file, not open."""

    path: Path
    authority: Authority
    number: bytes
    now: int

    def on_bench(self) -> Bench:
        """Open it on a bench."""
        entropy = random.Random(os.urandom(8)).randbytes
        reader = InProcessReader(card := SimulatedCard(self.path, entropy), on_close=None)
        bench = Bench(reader, self.authority, self.number, entropy, self.now)
        assert reader.card is card
        return bench

    def put_away(self, bench: Bench) -> None:
        """Close it."""
        bench.close()
        reader = bench.reader
        assert isinstance(reader, InProcessReader)
        assert isinstance(reader.card, SimulatedCard)
        reader.card.close()

    def peek(self) -> tuple[State, int]:
        """State and PIN tries."""
        opened = open_card_file(self.path)
        try:
            return opened.memory.state(), opened.memory.tries()
        finally:
            opened.close()


@pytest.fixture
def card(scheme: Scheme, authority: Authority, tmp_path: Path, now: int) -> Lying:
    """A card with a PIN, a little used."""
    identity, memory = scheme.new_card(5, now)
    path = tmp_path / "card"
    create_card_file(path, identity, memory)
    lying = Lying(path, authority, identity.card, now)
    bench = lying.on_bench()
    bench.prepare()
    bench.want_pin()
    bench.state()
    for amount_fen in (10, 20, 30):
        bench.buy(amount_fen)
    lying.put_away(bench)
    return lying


def a_sale(card: Lying) -> bytes:
    """58 bytes for a transit payee that the card knows."""
    bench = card.on_bench()
    bench.select()
    bench.meet(bench.transit)
    raw = bench.sale(200).to_bytes()
    card.put_away(bench)
    return raw


# ---------------------------------------------------------------------- crashes


def deaths(card: Lying, act: str, data: bytes) -> Iterator[tuple[Death, int]]:
    """Every death of an act, on the file as it is now, which is put back each time; and the exit status."""
    start = card.path.read_bytes()
    for moment in ("before", "half", "after"):
        call = 0
        while True:
            call += 1
            card.path.write_bytes(start)
            death = Death(call, moment)
            process = SPAWN.Process(target=die_at, args=(card.path, act, data, death))
            process.start()
            process.join(TIMEOUT_S)
            assert process.exitcode is not None
            if process.exitcode == 0:
                break
            yield death, process.exitcode
    card.path.write_bytes(start)


def test_killed_at_every_write_of_a_payment(card: Lying) -> None:
    """Old or new, never damaged; the payment asked for again is debited once."""
    sale = a_sale(card)
    before, _ = card.peek()
    seen = set()
    count = 0
    for death, status in deaths(card, "pay", sale):
        count += 1
        assert status == -signal.SIGKILL, death
        after, _ = card.peek()
        assert (after.balance_fen, after.sequence) in (
            (before.balance_fen, before.sequence),
            (before.balance_fen - 200, before.sequence + 1),
        )
        seen.add(after.sequence)
        bench = card.on_bench()
        bench.select()
        bench._meet()
        bench.select()
        response = bench.pay(sale)
        assert len(done(response)) in (81, 225), death
        state = bench.state()
        assert state.balance_fen == before.balance_fen - 200
        assert state.sequence == before.sequence + 1
        for sequence in range(before.acknowledged_sequence + 1, state.sequence + 1):
            assert len(done(bench.read(sequence))) == 161
        card.put_away(bench)
    assert seen == {before.sequence, before.sequence + 1}
    assert count > 20


def test_killed_at_every_write_of_a_pin_try(card: Lying) -> None:
    """Once the try was written it is spent, also when the process died before it compared."""
    assert card.peek()[1] == 3
    tries = []
    for death, status in deaths(card, "try PIN", b"999999"):
        if status != -signal.SIGKILL:
            continue
        if death.moment == "half":
            continue  # two bytes of one block never part
        tries.append((death, card.peek()[1]))
    assert [left for death, left in tries if death == Death(1, "before")] == [3]
    assert {left for death, left in tries if death != Death(1, "before")} == {2}
    assert len(tries) >= 4


def test_create_is_whole_or_not_at_all(
    scheme: Scheme, tmp_path: Path, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure at any step leaves no card file, and the next attempt works."""
    identity, memory = scheme.new_card(5, now)
    path = tmp_path / "card"

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for name in ("fsync", "link"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(CardFileError, match="can't be written"):
                create_card_file(path, identity, memory)
            assert not path.exists()
    create_card_file(path, identity, memory)
    assert [entry.name for entry in tmp_path.iterdir()] == ["card"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    open_card_file(path).close()


def test_create_never_overwrites(card: Lying, scheme: Scheme, now: int) -> None:
    """Neither a card nor anything else."""
    before = card.path.read_bytes()
    identity, memory = scheme.new_card(5, now)
    with pytest.raises(CardFileError, match="exists already"):
        create_card_file(card.path, identity, memory)
    assert card.path.read_bytes() == before


# ---------------------------------------------------------------------- a second process


def test_second_process_is_refused(card: Lying) -> None:
    """It says so and changes nothing; when the first has ended, however it ended, the file is free."""
    script = (
        "import sys, pathlib; from hardwallet.card.file import open_card_file; "
        "held = open_card_file(pathlib.Path(sys.argv[1])); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(card.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(CardFileBusy, match="in use"):
            open_card_file(card.path)
        holder.kill()
        holder.wait(TIMEOUT_S)
        open_card_file(card.path).close()


def test_second_time_in_one_process_is_refused(card: Lying) -> None:
    """The lock is on the file, not on the process; closing twice does nothing."""
    opened = open_card_file(card.path)
    with pytest.raises(CardFileBusy):
        open_card_file(card.path)
    opened.close()
    opened.close()
    open_card_file(card.path).close()


# ---------------------------------------------------------------------- damage


def live(opened: CardFile) -> tuple[object, ...]:
    """All of a card that counts."""
    memory, state = opened.memory, opened.memory.state()
    identity = opened.identity
    operators = [memory.operator(place) for place in range(4) if state.operators_valid >> place & 1]
    terminals = [memory.terminal(place) for place in range(8) if state.terminals_valid >> place & 1]
    entries = [memory.entry((sequence - 1) % 128) for sequence in range(1, state.sequence + 1)]
    keys = (identity.signing.scalar(), identity.agreement.scalar(), identity.secret, identity.pin_salt)
    return state, memory.tries(), operators, terminals, entries, keys, identity.certificate, identity.root


def test_no_flipped_byte_goes_unnoticed(card: Lying) -> None:
    """In every region: refused as damaged, or it is a byte that counts for nothing."""
    whole = card.path.read_bytes()
    opened = open_card_file(card.path)
    good = live(opened)
    opened.close()
    chance = random.Random(5)
    offsets = [*range(60), *range(HEADER_LENGTH - 4, HEADER_LENGTH + 112), *range(12_280, 12_400)]
    offsets += range(16_380, 16_400)
    offsets += [chance.randrange(FILE_LENGTH) for _ in range(300)]
    ends = {"damaged": 0, "harmless": 0}
    for offset in offsets:
        card.path.write_bytes(whole[:offset] + bytes((whole[offset] ^ 0x10,)) + whole[offset + 1 :])
        try:
            opened = open_card_file(card.path)
        except CardFileError:
            ends["damaged"] += 1
        else:
            assert live(opened) == good, offset
            opened.close()
            ends["harmless"] += 1
    assert min(ends.values()) > 50


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("the header's magic", 0),
        ("the header's length", 11),
        ("the identity", 200),
        ("the PIN tries", 16_385),
        ("the issuer's certificate", 16_385 + 1 + 40),
        ("a terminal's certificate", 16_385 + 1 + 4 * 98 + 40),
        ("the first record", 16_385 + 1 + 12 * 98 + 50),
        ("the last record's signature", 16_385 + 1 + 12 * 98 + 3 * 160 + 130),
        ("a record's check", card_file._CHECKS_AT + 4 * 13),
    ],
)
def test_damage_is_named(card: Lying, name: str, offset: int) -> None:
    """Each region that counts; nothing in the file changes by being refused."""
    whole = bytearray(card.path.read_bytes())
    whole[offset] ^= 1
    card.path.write_bytes(whole)
    with pytest.raises(CardFileError, match=r"damaged|not a card file"):
        open_card_file(card.path)
    assert card.path.read_bytes() == bytes(whole)


def test_a_flipped_state_brings_no_older_one_back(card: Lying) -> None:
    """Either copy alone still says what was committed last."""
    whole = card.path.read_bytes()
    expected = card.peek()
    for offset in (HEADER_LENGTH + 8, 12_288 + 8):
        card.path.write_bytes(whole[:offset] + bytes((whole[offset] ^ 1,)) + whole[offset + 1 :])
        assert card.peek() == expected
        assert card.path.read_bytes() == whole  # and the other copy is mended
    both = bytearray(whole)
    both[HEADER_LENGTH + 8] ^= 1
    both[12_288 + 8] ^= 1
    card.path.write_bytes(both)
    with pytest.raises(CardFileDamaged, match="neither of its two states"):
        open_card_file(card.path)


@pytest.mark.parametrize("length", [0, 7, 100, HEADER_LENGTH - 1, HEADER_LENGTH, 12_288, FILE_LENGTH - 1])
def test_truncated(card: Lying, length: int) -> None:
    """At any length, and a byte too long."""
    whole = card.path.read_bytes()
    card.path.write_bytes(whole[:length])
    with pytest.raises(CardFileDamaged):
        open_card_file(card.path)
    card.path.write_bytes(whole + b"\0")
    with pytest.raises(CardFileDamaged, match="instead of"):
        open_card_file(card.path)


def test_newer_version(card: Lying) -> None:
    """Says which program to use."""
    whole = card.path.read_bytes()
    card.path.write_bytes(whole[:8] + b"\x00\x02" + whole[10:])
    with pytest.raises(CardFileError, match=r"version 2.*newer program"):
        open_card_file(card.path)


def test_not_a_card_file(tmp_path: Path) -> None:
    """A missing one, a folder, some text."""
    with pytest.raises(CardFileError, match="no card file"):
        open_card_file(tmp_path / "none")
    with pytest.raises(CardFileError, match="can't be opened"):
        open_card_file(tmp_path)
    text = tmp_path / "text"
    text.write_text("hello\n" * 10_000)
    with pytest.raises(CardFileDamaged, match="not a card file"):
        open_card_file(text)


def test_messages_hold_no_secret(card: Lying) -> None:
    """Neither errors nor representations show a key."""
    opened = open_card_file(card.path)
    secrets = [
        opened.identity.signing.scalar().hex(),
        opened.identity.agreement.scalar().hex(),
        opened.identity.secret.hex(),
    ]
    shown = repr(opened) + repr(opened.identity) + repr(opened.memory)
    opened.close()
    whole = bytearray(card.path.read_bytes())
    whole[300] ^= 1
    card.path.write_bytes(whole)
    with pytest.raises(CardFileDamaged) as caught:
        open_card_file(card.path)
    shown += str(caught.value) + repr(caught.value.__cause__)
    for secret in secrets:
        assert secret not in shown
        assert str(bytes.fromhex(secret)) not in shown


# ---------------------------------------------------------------------- a disk that refuses


class Disk:
    """Refuses the calls that it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.failing: set[int] = set()
        self.short = False
        real_pwrite, real_sync = os.pwrite, os.fdatasync

        def pwrite(descriptor: int, data: bytes, offset: int) -> int:
            if self._refuses():
                if self.short:
                    return real_pwrite(descriptor, data[:1], offset)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real_pwrite(descriptor, data, offset)

        def fdatasync(descriptor: int) -> None:
            if self._refuses():
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real_sync(descriptor)

        patch.setattr(os, "pwrite", pwrite)
        patch.setattr(os, "fdatasync", fdatasync)

    def fail(self, *calls: int) -> None:
        """From now on, the first call being 1."""
        self.calls, self.failing = 0, set(calls)

    def _refuses(self) -> bool:
        self.calls += 1
        return self.calls in self.failing


@pytest.mark.parametrize("short", [False, True], ids=["refused", "cut short"])
def test_full_disk_changes_nothing(card: Lying, monkeypatch: pytest.MonkeyPatch, short: bool) -> None:
    """At whichever call the disk refuses: 6F00, and afterwards neither card nor file has moved."""
    sale = a_sale(card)
    start = card.path.read_bytes()
    before, _ = card.peek()
    disk = Disk(monkeypatch)
    disk.short = short
    bench = card.on_bench()
    bench.select()
    disk.fail()
    done(bench.pay(sale))
    calls = disk.calls
    card.put_away(bench)
    assert calls >= 7
    for call in range(1, calls + 1):
        card.path.write_bytes(start)
        bench = card.on_bench()
        bench.select()
        disk.fail(call)
        response = bench.pay(sale)
        disk.fail()
        assert (response.sw, response.data) == (0x6F00, b""), call
        assert card_state_of(bench) == before
        card.put_away(bench)
        assert card.peek()[0] == before
        bench = card.on_bench()
        bench.select()
        assert len(done(bench.pay(sale))) == 81
        card.put_away(bench)


def card_state_of(bench: Bench) -> State:
    """The state in the card's memory."""
    reader = bench.reader
    assert isinstance(reader, InProcessReader)
    assert isinstance(reader.card, SimulatedCard)
    return reader.card._memory.state()


def test_disk_that_fails_for_good_silences_the_card(card: Lying, monkeypatch: pytest.MonkeyPatch) -> None:
    """When what was written can't be taken back, nobody knows: no answer at all, and no further write."""
    sale = a_sale(card)
    before, _ = card.peek()
    disk = Disk(monkeypatch)
    bench = card.on_bench()
    bench.select()
    disk.fail(5, 6)  # the sync of the first state, and taking it back
    with pytest.raises(CardGone):
        bench.pay(sale)
    disk.fail()
    reader = bench.reader
    assert isinstance(reader, InProcessReader)
    reader.present()
    bench._link = None
    bench.select()
    with pytest.raises(CardGone):
        bench.pay(sale)
    card.put_away(bench)
    after, _ = card.peek()
    assert after.sequence in (before.sequence, before.sequence + 1)


def test_full_disk_takes_no_try(card: Lying, monkeypatch: pytest.MonkeyPatch) -> None:
    """And compares nothing."""
    disk = Disk(monkeypatch)
    bench = card.on_bench()
    bench.select()
    bench._meet()
    bench.select()
    disk.fail(1)
    response = bench.change_pin("999999", "0000")
    disk.fail()
    assert response.sw == 0x6F00
    card.put_away(bench)
    assert card.peek()[1] == 3


def test_file_holds_what_the_page_of_the_format_says(card: Lying) -> None:
    """Both states alike, tries beside their complement, a check for each piece."""
    whole = card.path.read_bytes()
    assert len(whole) == FILE_LENGTH
    assert whole[:8] == b"HWCARD\r\n"
    first, second = whole[8192:8300], whole[12_288:12_396]
    assert first == second
    assert crc32(first[:-4]).to_bytes(4, "big") == first[-4:]
    assert whole[16_384] ^ whole[16_385] == 0xFF
