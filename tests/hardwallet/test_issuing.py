"""Issuing that is cut off anywhere and resumed: nothing is loaded twice, lost or guessed."""

import errno
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from firmware_bridge.errors import CardGone
from firmware_bridge.virtual.in_process import InProcessReader
from firmware_bridge.virtual.tear import TearMoment
from hardwallet import keys
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.card.applet import Card
from hardwallet.card.memory import CardMemory
from hardwallet.certificates import CLASS_RETAIL
from hardwallet.errors import CardRefused, IssuingError
from hardwallet.issuing import (
    ACQUIRER,
    ISSUER,
    MAX_RETURNS,
    Scheme,
    create_scheme,
    open_scheme,
    read_trust,
)
from hardwallet.journalled import IssuingJournal
from hardwallet.keys import PASSPHRASE_VARIABLE, find_passphrase
from hardwallet.suites import International
from tests.conftest import REPOSITORY
from tests.hardwallet.conftest import PASSPHRASE

AMOUNT_FEN = 20_000
TIMEOUT_S = 60


@dataclass
class Desk:
    """An issuer's desk: a folder, a card on a reader, and what both looked like at the start."""

    folder: Path
    card: Card
    memory: CardMemory
    reader: InProcessReader
    now: int

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.folder / "issuing.jsonl"

    @property
    def balance_fen(self) -> int:
        """What the card holds."""
        return self.memory.state().balance_fen

    @contextmanager
    def open(self) -> Iterator[Scheme]:
        """The scheme, opened as by a new process."""
        with open_scheme(self.folder, PASSPHRASE, random.Random(9).randbytes) as scheme:
            yield scheme

    def load(self, amount_fen: int = AMOUNT_FEN) -> int:
        """One attempt by a new process; the amount in the receipt."""
        self.reader.present()
        with self.open() as scheme:
            return scheme.load(self.reader.wait_for_card(1), amount_fen, self.now).amount_fen

    def receipts(self) -> list[int]:
        """The amounts of the receipts in the journal."""
        with self.open() as scheme:
            return [int.from_bytes(raw[48:52], "big") for raw, _ in scheme.receipts()]


@pytest.fixture
def desk(scheme_folder: Path, tmp_path: Path, now: int) -> Desk:
    """A copy of the scheme, and a new card."""
    folder = tmp_path / "scheme"
    shutil.copytree(scheme_folder, folder)
    with open_scheme(folder, PASSPHRASE, random.Random(8).randbytes) as scheme:
        identity, memory = scheme.new_card(5, now)
    card = Card(identity, memory, random.Random(7).randbytes)
    return Desk(folder, card, memory, InProcessReader(card), now)


class Cut(Exception):
    """The process ended here."""


@contextmanager
def cut_at_line(number: int, *, written: bool) -> Iterator[None]:
    """The process ends at its journal line with that number, before or after the line is on the disk."""
    real, count = IssuingJournal.append, 0

    def append(self: IssuingJournal, line: dict[str, object]) -> None:
        nonlocal count
        count += 1
        if count == number and not written:
            raise Cut
        real(self, line)
        if count == number:
            raise Cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IssuingJournal, "append", append)
        yield


# ---------------------------------------------------------------------- cut off and resumed


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("line", [1, 2])
def test_load_cut_off_at_each_journal_line(desk: Desk, line: int, written: bool) -> None:
    """The order's line and the receipt's: calling again ends in one credit and one receipt."""
    with cut_at_line(line, written=written), pytest.raises(Cut):
        desk.load()
    assert desk.load() == AMOUNT_FEN
    again = (line, written) == (2, True)  # all was done but RATIFY: this call is another load
    assert desk.balance_fen == AMOUNT_FEN * (1 + again)
    assert desk.receipts() == [AMOUNT_FEN] * (1 + again)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("exchange", range(1, 6))
def test_load_cut_off_at_each_exchange(desk: Desk, exchange: int, moment: TearMoment) -> None:
    """SELECT, EXCHANGE CERTIFICATES, LOAD CHALLENGE, LOAD, RATIFY: the same."""
    desk.reader.tear_at(exchange, moment)
    with desk.open() as scheme, pytest.raises(CardGone):
        scheme.load(desk.reader.wait_for_card(1), AMOUNT_FEN, desk.now)
    if exchange == 5:  # the receipt is in the journal: the load is done
        assert desk.balance_fen == AMOUNT_FEN
        assert desk.receipts() == [AMOUNT_FEN]
        return
    assert desk.load() == AMOUNT_FEN
    assert desk.balance_fen == AMOUNT_FEN
    assert desk.receipts() == [AMOUNT_FEN]


def test_a_load_has_five_exchanges(desk: Desk) -> None:
    """The sweep above covers them all."""
    desk.load()
    assert desk.reader.exchanges == 5


def test_another_amount_comes_after_the_one_that_was_cut_off(desk: Desk) -> None:
    """The order that may have left is finished first; the wanted one is not taken for it."""
    desk.reader.tear_at(4, "before")
    with pytest.raises(CardGone):
        desk.load(700)
    assert desk.load(500) == 500
    assert desk.receipts() == [700, 500]
    assert desk.balance_fen == 1200


def test_finish_load(desk: Desk) -> None:
    """Finishes what was cut off, and nothing else."""
    desk.reader.tear_at(4, "after")
    with pytest.raises(CardGone):
        desk.load()
    desk.reader.present()
    with desk.open() as scheme:
        record = scheme.finish_load(desk.reader.wait_for_card(1), desk.now)
        assert record is not None
        assert record.amount_fen == AMOUNT_FEN
        assert scheme.finish_load(desk.reader.wait_for_card(1), desk.now) is None
    assert desk.balance_fen == AMOUNT_FEN


def test_one_order_a_counter_for_ever_the_same_bytes(desk: Desk) -> None:
    """What is sent again is what was sent before."""
    desk.reader.tear_at(4, "before")
    with pytest.raises(CardGone):
        desk.load()
    with desk.open() as scheme:
        (order,) = scheme.orders()
    desk.load()
    with desk.open() as scheme:
        assert list(scheme.orders()) == [order]


def test_receipt_line_torn_anywhere(desk: Desk) -> None:
    """A power cut while the last line is written: the line is gone, the load is not repeated."""
    desk.load()
    content = desk.journal.read_bytes()
    start = content[:-1].rfind(b"\n") + 1
    assert b'"receipt"' in content[start:]
    for end in [
        start,
        start + 1,
        *range(start + 2, len(content) - 2, 13),
        len(content) - 2,
        len(content) - 1,
    ]:
        desk.journal.write_bytes(content[:end])
        assert desk.load() == AMOUNT_FEN
        assert desk.balance_fen == AMOUNT_FEN, end
        assert desk.receipts() == [AMOUNT_FEN]


def test_new_card_cut_off_uses_up_its_number(desk: Desk) -> None:
    """A number that was journalled is never given to another key."""
    with desk.open() as scheme:
        with cut_at_line(1, written=True), pytest.raises(Cut):
            scheme.new_card(5, desk.now)
        with cut_at_line(1, written=False), pytest.raises(Cut):
            scheme.new_card(5, desk.now)
        first = desk.card._identity.card
        third, _ = scheme.new_card(5, desk.now)
    assert int.from_bytes(third.card, "big") == int.from_bytes(first, "big") + 2


def test_new_terminal_cut_off_uses_up_its_number(desk: Desk) -> None:
    """The same for terminals: no two certificates name one terminal."""
    public = International().new_signing_key(os.urandom).public
    with desk.open() as scheme:
        before = scheme.new_terminal(CLASS_RETAIL, 1, public, desk.now)
        with cut_at_line(1, written=True), pytest.raises(Cut):
            scheme.new_terminal(CLASS_RETAIL, 1, public, desk.now)
        after = scheme.new_terminal(CLASS_RETAIL, 1, public, desk.now)
    assert int.from_bytes(after.terminal, "big") == int.from_bytes(before.terminal, "big") + 2


def test_wanted_balance_survives(desk: Desk) -> None:
    """What a card was to be loaded with can be looked up by whoever resumes."""
    with desk.open() as scheme:
        identity, _ = scheme.new_card(5, desk.now, balance_fen=12_300)
    with desk.open() as scheme:
        assert scheme.wanted_balance_fen(identity.card) == 12_300
        assert scheme.wanted_balance_fen(bytes(8)) is None


# ---------------------------------------------------------------------- refused loads


def test_refused_load_is_cancelled(desk: Desk) -> None:
    """By an order of zero, so that the refused one is never applied later."""
    desk.load(90_000)
    with pytest.raises(CardRefused) as caught:
        desk.load(90_000)
    assert caught.value.sw == sw.ABOVE_BALANCE_CAP
    assert desk.receipts() == [90_000, 0]
    with desk.open() as scheme:
        refused = list(scheme.orders())[1]
    assert m.parse_load_order(refused).amount_fen == 90_000
    desk.reader.present()
    link = desk.reader.wait_for_card(1)
    link.transmit(bytes.fromhex("00A404000B") + m.AID + b"\x00")
    reply = link.transmit(b"\x80\x40\x00\x00\x7a" + refused + b"\x00")
    assert reply[0] == 2
    assert reply[49:53] == bytes(4)
    assert desk.balance_fen == 90_000
    assert desk.load(1_000) == 1_000


def test_refused_while_it_is_finished_is_cancelled_too(desk: Desk) -> None:
    """An order that was cut off, on a card that refuses it by now."""
    desk.reader.tear_at(4, "before")
    with pytest.raises(CardGone):
        desk.load(50_000)
    state = desk.memory.state()
    desk.memory.commit(state.changed(limits=replace(state.limits, balance_cap_fen=40_000)).to_bytes())
    with pytest.raises(CardRefused):
        desk.load(50_000)
    assert desk.receipts() == [0]
    assert desk.load(30_000) == 30_000
    assert desk.balance_fen == 30_000


@pytest.mark.parametrize(
    "acknowledged", [(2, 0), (0, 1), (2**32 - 1, 0)], ids=["sequence", "total", "highest"]
)
def test_more_acknowledged_than_the_card_has_signed(desk: Desk, acknowledged: tuple[int, int]) -> None:
    """Refused by the card, cancelled, and the card can be loaded afterwards."""
    desk.load(500)
    desk.reader.present()
    with desk.open() as scheme, pytest.raises(CardRefused) as caught:
        scheme.load(desk.reader.wait_for_card(1), 700, desk.now, acknowledged)
    assert caught.value.sw == sw.ACKNOWLEDGES_TOO_MUCH
    assert desk.memory.state().acknowledged_sequence == 0
    assert desk.receipts() == [500, 0]
    assert desk.load(900) == 900
    assert desk.balance_fen == 1_400


# ---------------------------------------------------------------------- payments that go back


def owed(sequence: int, amount_fen: int) -> r.Owed:
    """A payment that goes back, as clearing names it."""
    return r.Owed(sequence, bytes([sequence]) * 32, amount_fen)


def load_back(desk: Desk, amount_fen: int, *returns: r.Owed) -> r.Record:
    """One attempt by a new process."""
    desk.reader.present()
    with desk.open() as scheme:
        return scheme.load(desk.reader.wait_for_card(1), amount_fen, desk.now, returns=returns)


def orders(desk: Desk) -> list[tuple[int, list[r.Owed]]]:
    """The orders' amounts, and what goes back with each."""
    with desk.open() as scheme:
        return [(m.parse_load_order(raw).amount_fen, returns) for raw, returns in scheme.load_orders()]


def test_what_goes_back_comes_on_top(desk: Desk) -> None:
    receipt = load_back(desk, 500, owed(2, 300), owed(3, 40))
    assert receipt.amount_fen == desk.balance_fen == 840
    assert orders(desk) == [(840, [owed(2, 300), owed(3, 40)])]
    with desk.open() as scheme:
        assert scheme.returns_of(receipt) == [owed(2, 300), owed(3, 40)]
    assert load_back(desk, 0, owed(4, 60)).amount_fen == 60


def test_a_payment_goes_back_once(desk: Desk) -> None:
    """The journal refuses it, whatever clearing says; nothing is ordered."""
    load_back(desk, 500, owed(2, 300))
    with pytest.raises(IssuingError, match="load 1 of this card returns its payment 2 already"):
        load_back(desk, 500, owed(3, 40), owed(2, 300))
    with pytest.raises(IssuingError, match="load 1 of this card"):
        load_back(desk, 500, owed(2, 200))
    assert len(orders(desk)) == 1
    assert desk.balance_fen == 800


@pytest.mark.parametrize(
    "returns",
    [[owed(2, 0)], [owed(2, 5), owed(2, 6)], [owed(n, 1) for n in range(1, 34)]],
    ids=["nothing", "twice", "too many"],
)
def test_returns_that_make_no_order(desk: Desk, returns: list[r.Owed]) -> None:
    with pytest.raises(IssuingError):
        load_back(desk, 500, *returns)
    assert orders(desk) == []


def test_the_most_that_goes_back_at_once_fits_the_journal(desk: Desk) -> None:
    returns = [r.Owed(2**32 - 1 - n, bytes(32), 1_000) for n in range(MAX_RETURNS)]
    load_back(desk, 1, *returns)
    assert orders(desk) == [(32_001, returns)]


@pytest.mark.parametrize("exchange", range(1, 5))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_load_with_returns_that_was_cut_off(desk: Desk, exchange: int, moment: TearMoment) -> None:
    """The same call again finishes the same order; what goes back is in one order."""
    desk.reader.tear_at(exchange, moment)
    with pytest.raises(CardGone), desk.open() as scheme:
        scheme.load(desk.reader.wait_for_card(1), 500, desk.now, returns=[owed(2, 300)])
    assert load_back(desk, 500, owed(2, 300)).amount_fen == 800
    assert desk.balance_fen == 800
    assert orders(desk) == [(800, [owed(2, 300)])]


def test_another_load_after_one_with_returns_that_was_cut_off(desk: Desk) -> None:
    """That one is finished and took the return along; this one is only its own amount."""
    desk.reader.tear_at(4, "before")
    with desk.open() as scheme, pytest.raises(CardGone):
        scheme.load(desk.reader.wait_for_card(1), 500, desk.now, returns=[owed(2, 300)])
    assert load_back(desk, 700, owed(2, 300), owed(3, 40)).amount_fen == 740
    assert orders(desk) == [(800, [owed(2, 300)]), (740, [owed(3, 40)])]
    assert desk.balance_fen == 1_540


def test_a_cancelled_load_sets_its_returns_free(desk: Desk) -> None:
    """The card refused: the zero order's receipt makes sure of it."""
    desk.load(90_000)
    with pytest.raises(CardRefused):
        load_back(desk, 9_900, owed(2, 300))
    assert desk.receipts() == [90_000, 0]
    assert load_back(desk, 0, owed(2, 300)).amount_fen == 300
    assert desk.balance_fen == 90_300


def test_a_cancelling_that_is_finished_is_no_load_of_nothing(desk: Desk) -> None:
    """A blocked card refuses the cancelling too; once it is finished, what goes back still does."""
    state = desk.memory.state()
    desk.memory.commit(state.changed(flags=state.flags | 1).to_bytes())
    with pytest.raises(CardRefused):
        load_back(desk, 0, owed(2, 300))
    desk.memory.commit(state.to_bytes())
    assert load_back(desk, 0, owed(2, 300)).amount_fen == 300
    assert desk.receipts() == [0, 300]
    assert desk.balance_fen == 300


def test_blocked_card_is_loaded_once_it_is_unblocked(desk: Desk) -> None:
    """It refuses even the cancellation; that is finished when it can be."""
    state = desk.memory.state()
    desk.memory.commit(state.changed(flags=state.flags | 1).to_bytes())
    with pytest.raises(CardRefused) as caught:
        desk.load()
    assert caught.value.sw == sw.BLOCKED
    desk.memory.commit(state.to_bytes())
    assert desk.load() == AMOUNT_FEN
    assert desk.receipts() == [0, AMOUNT_FEN]
    assert desk.balance_fen == AMOUNT_FEN


def test_card_of_another_scheme(desk: Desk, tmp_path: Path) -> None:
    """Is not loaded, and nothing is journalled for it."""
    other = tmp_path / "other"
    create_scheme(other, "other", International(), PASSPHRASE, desk.now, os.urandom)
    before = desk.journal.read_bytes()
    with (
        open_scheme(other, PASSPHRASE, os.urandom) as scheme,
        pytest.raises(IssuingError, match="not to this one"),
    ):
        scheme.load(desk.reader.wait_for_card(1), AMOUNT_FEN, desk.now)
    assert desk.journal.read_bytes() == before
    assert desk.balance_fen == 0


@pytest.mark.parametrize("tier", [0, 6])
def test_unknown_tier(desk: Desk, tier: int) -> None:
    """Names those that there are, and journals nothing."""
    before = desk.journal.read_bytes()
    with desk.open() as scheme, pytest.raises(IssuingError, match=r"tiers are 4, 5"):
        scheme.new_card(tier, desk.now)
    assert desk.journal.read_bytes() == before


def test_balance_above_the_tier(desk: Desk) -> None:
    """Is refused before there is a card."""
    before = desk.journal.read_bytes()
    with desk.open() as scheme, pytest.raises(IssuingError, match="above what"):
        scheme.new_card(5, desk.now, balance_fen=100_001)
    assert desk.journal.read_bytes() == before


# ---------------------------------------------------------------------- the journal


def test_damaged_line_stops_everything(desk: Desk) -> None:
    """Any byte of any line: nothing is issued twice because a line could not be read."""
    desk.load()
    content = desk.journal.read_bytes()
    starts = [0] + [at + 1 for at, byte in enumerate(content[:-1]) if byte == 0x0A]
    for line, start in enumerate(starts, 1):
        for offset in (start, start + 7, start + 60):
            altered = bytearray(content)
            altered[offset] ^= 1
            desk.journal.write_bytes(altered)
            with pytest.raises(IssuingError, match=f"line {line}"):
                desk.load()
            assert desk.journal.read_bytes() == bytes(altered)
    desk.journal.write_bytes(content)
    assert desk.receipts() == [AMOUNT_FEN]


def test_lost_line_in_the_middle_is_damage(desk: Desk) -> None:
    """Two lines run together."""
    desk.load()
    content = desk.journal.read_bytes()
    desk.journal.write_bytes(content.replace(b"\n", b"", 1))
    with pytest.raises(IssuingError, match="damaged"):
        desk.load()


@pytest.mark.parametrize("call", ["write", "fsync", "short"])
def test_full_disk_issues_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The order is not sent, and no half of it is found later."""
    before = desk.journal.read_bytes()
    real_write = os.write

    def refuse(descriptor: int, *data: bytes) -> int:
        if call == "short":
            return real_write(descriptor, data[0][:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with desk.open() as scheme, monkeypatch.context() as patch:
        link = desk.reader.wait_for_card(1)
        patch.setattr(os, "write" if call == "short" else call, refuse)
        with pytest.raises(IssuingError, match="nothing was issued"):
            scheme.load(link, AMOUNT_FEN, desk.now)
    assert desk.balance_fen == 0
    assert desk.journal.read_bytes() == before
    assert desk.load() == AMOUNT_FEN
    assert desk.balance_fen == AMOUNT_FEN


def test_second_process_is_refused(desk: Desk) -> None:
    """While another one issues; when that one is killed, the folder is free."""
    script = (
        "import os, sys, pathlib\n"
        "from hardwallet.issuing import open_scheme\n"
        "with open_scheme(pathlib.Path(sys.argv[1]), b'', os.urandom):\n"
        "    print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(desk.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(IssuingError, match="in use"):
            desk.load()
        holder.kill()
        holder.wait(TIMEOUT_S)
    assert desk.load() == AMOUNT_FEN


# ---------------------------------------------------------------------- keys and folders


def test_wrong_passphrase_tells_no_secret(desk: Desk) -> None:
    """It names the file and the variable, neither passphrase nor key."""
    with open_scheme(desk.folder, b"hunter2 is wrong", os.urandom) as scheme:
        with pytest.raises(IssuingError) as caught:
            scheme.key("issuer")
        shown = repr(scheme) + str(caught.value) + repr(caught.value.__cause__)
    assert "issuer.json" in shown
    assert PASSPHRASE_VARIABLE in shown
    assert "hunter2" not in shown
    assert PASSPHRASE.decode() not in shown


def test_keys_are_private(desk: Desk) -> None:
    """Their files, and the journal with them; a key is nowhere in the clear."""
    private = [*(desk.folder / "keys").iterdir(), desk.journal]
    assert len(private) == 4
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with desk.open() as scheme:
        for name in ("root", "issuer", "acquirer"):
            scalar = scheme.key(name).scalar()
            for path in desk.folder.rglob("*.json*"):
                content = path.read_bytes()
                assert scalar not in content
                assert scalar.hex().encode() not in content


@pytest.mark.parametrize("offset", [10, 60, 120, 150])
def test_damaged_key_file(desk: Desk, offset: int) -> None:
    """Is refused, whichever byte it is."""
    path = desk.folder / "keys" / "issuer.json"
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)
    with desk.open() as scheme, pytest.raises(IssuingError, match=r"issuer\.json"):
        scheme.key("issuer")


def test_missing_and_foreign_key_files(desk: Desk) -> None:
    """A lost file, another key's file, a key of another suite."""
    folder = desk.folder / "keys"
    (folder / "issuer.json").unlink()
    with desk.open() as scheme, pytest.raises(IssuingError, match="can't be read"):
        scheme.key("issuer")
    (folder / "issuer.json").write_text('{"hello": 1}')
    with desk.open() as scheme, pytest.raises(IssuingError, match="not a key file"):
        scheme.key("issuer")


def test_key_file_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made with mode 0600; one that others can read is refused, with what to do."""
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    default = tmp_path / "passphrase"
    made = find_passphrase(None, default, create=True)
    assert stat.S_IMODE(default.stat().st_mode) == 0o600
    assert find_passphrase(None, default) == made
    assert find_passphrase(default, tmp_path / "other") == made
    default.chmod(0o640)
    with pytest.raises(IssuingError, match="chmod 600") as caught:
        find_passphrase(None, default)
    assert made.decode() not in str(caught.value)
    default.chmod(0o600)
    default.write_bytes(b" \n")
    with pytest.raises(IssuingError, match="empty"):
        find_passphrase(None, default)
    with pytest.raises(IssuingError, match="can't be read"):
        find_passphrase(tmp_path / "none", default)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "from the environment")
    assert find_passphrase(None, default) == b"from the environment"


def test_envelope_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost that would take for ever, another version, another suite's byte."""
    monkeypatch.setattr(keys, "_COST", 2)
    suite = International()
    key = suite.new_signing_key(os.urandom)
    raw = keys.seal(key, suite, b"p", os.urandom)
    assert keys.unseal(raw, suite, b"p", "here").public == key.public
    for old, new in (
        (b'"cost":2', b'"cost":4194304'),
        (b'"cost":2', b'"cost":1'),
        (b'"version":1', b'"version":2'),
        (b'"suite":1', b'"suite":2'),
        (b"{", b'{"more":1,'),
    ):
        assert old in raw
        with pytest.raises(IssuingError, match="here"):
            keys.unseal(raw.replace(old, new, 1), suite, b"p", "here")
    with pytest.raises(IssuingError, match="here"):
        keys.unseal(raw + b" " * 5000, suite, b"p", "here")


def test_scheme_is_made_whole_or_not_at_all(
    tmp_path: Path, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure at each step leaves no scheme, and the next attempt works."""
    monkeypatch.setattr(keys, "_COST", 2)
    real = os.fsync
    for step in range(1, 9):
        folder = tmp_path / f"scheme{step}"
        count = 0

        def fsync(descriptor: int) -> None:
            nonlocal count
            count += 1
            if count == step:  # noqa: B023 - called within the loop's turn
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(IssuingError, match="can't be written"):
                create_scheme(folder, "test", International(), PASSPHRASE, now, os.urandom)
        if step < 8:  # the last is the folder's, after the scheme's file has its name
            with pytest.raises(IssuingError, match="holds no scheme"):
                read_trust(folder)
            create_scheme(folder, "test", International(), PASSPHRASE, now, os.urandom)
        with open_scheme(folder, PASSPHRASE, os.urandom) as scheme:
            assert scheme.key("issuer").public == scheme.trust.bundle.operator(ISSUER).public
            assert scheme.key("acquirer").public == scheme.trust.bundle.operator(ACQUIRER).public


def test_scheme_is_never_overwritten(desk: Desk) -> None:
    """Its keys would be lost."""
    before = {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()}
    with pytest.raises(IssuingError, match="holds a scheme already"):
        create_scheme(desk.folder, "test", International(), PASSPHRASE, desk.now, os.urandom)
    assert {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()} == before


def test_altered_scheme_file(desk: Desk) -> None:
    """Any altered certificate, another version, an unknown suite, too much of it."""
    path = desk.folder / "scheme.json"
    good = path.read_bytes()
    root = read_trust(desk.folder).bundle.root.to_bytes().hex().encode()
    assert root in good
    for offset in range(0, len(root), 9):
        swapped = b"0" if root[offset : offset + 1] != b"0" else b"1"
        path.write_bytes(good.replace(root, root[:offset] + swapped + root[offset + 1 :]))
        with pytest.raises(IssuingError, match=r"scheme\.json"):
            read_trust(desk.folder)
    for altered in (
        good.replace(b'"version": 1', b'"version": 9'),
        good.replace(b'"suite": 1', b'"suite": 7'),
        good + b" " * 70_000,
        b"{}",
        b"",
        good.replace(root, b"zz"),
    ):
        assert altered != good
        path.write_bytes(altered)
        with pytest.raises(IssuingError, match=r"scheme\.json"):
            read_trust(desk.folder)
