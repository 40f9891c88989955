"""Closings: every movement in exactly one of them, and files that the ledger and the receipts agree with."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from hardwallet import authorities, certificates, records
from hardwallet.records import Record
from hardwallet.suites import GM, International, Suite, suite_by_number
from offline_sync import chain, settlement
from offline_sync.chain import Kind
from offline_sync.clearing import Clearing
from offline_sync.clearing import settlement as settlements
from offline_sync.clearing.ledger import AccountKind, accounts, transfers
from offline_sync.clearing.ledger import records as record_rows
from offline_sync.clearing.settlement import closing_payees, closings
from offline_sync.errors import LedgerError, SettlementError, SettlementMissing, SettlementRefused
from offline_sync.settlement import Row, Settlement, beijing_day
from pos_terminal.receipts import record_code
from pos_terminal.sale import REFUND_PROFILE, Sale, SaleState
from tests.offline_sync.factory import ACQUIRER, ISSUER, NOW, Scheme, Terminal
from tests.offline_sync.settle_for_test import SEED
from tests.offline_sync.test_clearing import Item, Till, carried, changed, own, payee_fen

TODAY = beijing_day(NOW)


class World:
    """Two merchants and a card that pays them; each `day_…` is what arrives on it."""

    def __init__(self, url: str = "sqlite://", suite: Suite | None = None) -> None:
        self.scheme = Scheme(seed=SEED) if suite is None else Scheme(seed=SEED, suite=suite)
        self.card = self.scheme.card(7, balance_fen=0)
        self.shop = self.scheme.terminal(1, 1, retail=True)
        self.sibling = self.scheme.terminal(1, 2, retail=True)
        self.bus = self.scheme.terminal(2, 1)
        load = self.scheme.load(self.card, 20_000)
        self.paid = [self.scheme.payment(self.card, self.shop, fen) for fen in (1_250, 300, 77)]
        self.ride = self.scheme.payment(self.card, self.bus, 200)
        self.given_up = self.scheme.payment(self.card, self.shop, 900)
        self.clearing = self.open(url)
        self.clearing.book_load(load.raw, self.card.raw_certificate)
        self.shops = Till(self.shop, [self.card])
        self.siblings = Till(self.sibling, [self.card])
        self.buses = Till(self.bus, [self.card])

    def open(self, url: str, now: int = NOW) -> Clearing:
        return Clearing(url, self.scheme.trust, {ACQUIRER: self.scheme.acquirer_key}, lambda: now)

    def arrive(self, till: Till, *items: Item) -> None:
        first = len(till.entries) + 1
        self.clearing.accept(till.add(*items).batch(first))

    def first_day(self) -> None:
        """Two sales at the shop, a ride, and by way of the bus one that the shop has not told of and one that
        it gave up."""
        self.arrive(self.shops, own(self.paid[0]), own(self.paid[1], SaleState.PAID_NOT_GRANTED))
        self.arrive(self.buses, own(self.ride), carried(self.paid[2]), carried(self.given_up))
        self.arrive(self.shops, changed(self.given_up.reference, SaleState.GIVEN_UP))

    def second_day(self) -> None:
        """A refund; the shop tells of what was carried; a sibling granted what the shop had given up."""
        parts = (self.paid[0].sequence, 250, 50)
        reference = b"".join(part.to_bytes(4, "big") for part in parts)
        order = Sale(reference, 250, 0x0156, REFUND_PROFILE, 50, NOW, card=self.card.number)
        receipt = self.scheme.payment(
            self.card, self.shop, 250, reference=reference[:8] + bytes(4), kind=records.REFUND, transaction=50
        )
        self.arrive(self.shops, (Kind.SALE_OPENED, chain.pack_opened(order)), carried(receipt))
        self.arrive(self.shops, own(self.paid[2]))
        self.arrive(self.siblings, changed(self.given_up.reference, SaleState.GRANTED))

    def read(self, number: int, terminal: Terminal) -> tuple[Settlement, list[Row]]:
        """A file, read back and verified, and its rows."""
        rows: list[Row] = []
        raw = self.file(number, terminal)
        return settlement.read(BytesIO(raw), self.scheme.trust, rows.append), rows

    def file(self, number: int, terminal: Terminal) -> bytes:
        return b"".join(self.clearing.settlement(number, terminal.payee))


@pytest.fixture
def world() -> World:
    return World()


def told(rows: list[Row]) -> list[tuple[str, int, str]]:
    return [(row.kind, row.amount_fen, row.disposition) for row in rows]


def balance_fen(clearing: Clearing, terminal: Terminal) -> int:
    """What the ledger keeps as the payee's balance."""
    report = clearing.report()
    assert report.conservation.ok
    return payee_fen(report, terminal)


def test_a_day_is_told_row_by_row(world: World) -> None:
    world.first_day()
    closing = world.clearing.close_day(TODAY)
    assert (closing.number, closing.day, closing.first, closing.payees) == (1, "2026-09-21", 1, 2)
    found, rows = world.read(1, world.shop)
    assert told(rows) == [
        ("payment", 1_250, "granted"),
        ("payment", 300, "not-granted"),
        ("return", -300, "not-granted"),
        ("payment", 77, "carried"),
        ("payment", 900, "not-granted"),
        ("return", -900, "not-granted"),
    ]
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6]
    assert found.header.opening_fen == 0
    assert found.totals == settlement.Totals(6, 2_527, 1_200, 1_327)
    assert (found.header.number, found.header.previous, found.header.closed_s) == (1, 0, NOW)
    world.second_day()
    world.clearing.close_day(TODAY)
    found, rows = world.read(2, world.shop)
    assert told(rows) == [("refund", -250, "-"), ("return-reversed", 900, "granted")]
    assert (found.header.opening_fen, found.totals.closing_fen, found.header.previous) == (1_327, 1_977, 1)
    with pytest.raises(SettlementMissing, match="there is no file"):
        world.file(2, world.bus)


def test_totals_ledger_and_receipts_agree(world: World) -> None:
    before = {world.shop.payee: 0, world.bus.payee: 0}
    for happens in (world.first_day, world.second_day):
        happens()
        number = world.clearing.close_day(TODAY).number
        for totals in world.clearing.settlement_totals(number):
            terminal = next(one for one in (world.shop, world.bus) if one.payee.hex() == totals.payee)
            found, rows = world.read(number, terminal)
            assert totals.opening_fen == found.header.opening_fen == before[terminal.payee]
            assert sum(row.credit_fen for row in rows) == found.totals.credit_fen == totals.credit_fen
            assert sum(row.debit_fen for row in rows) == found.totals.debit_fen == totals.debit_fen
            assert totals.closing_fen == found.totals.closing_fen == balance_fen(world.clearing, terminal)
            assert len(rows) == found.totals.rows == totals.rows
            compare_with_ledger(world, number, terminal, rows)
            before[terminal.payee] = totals.closing_fen


def compare_with_ledger(world: World, number: int, terminal: Terminal, rows: list[Row]) -> None:
    """The rows are the account's movements of that closing, and say what the signed records say."""
    debit, credit = accounts.alias(), accounts.alias()
    mine = (AccountKind.PAYEE, terminal.payee)
    with world.clearing._ledger.read() as connection:
        after, last = connection.execute(
            sa.select(closings.c.after, closings.c.last).where(closings.c.number == number)
        ).one()
        moved = connection.execute(
            sa.select(
                *(debit.c.kind, debit.c.owner, credit.c.kind, credit.c.owner),
                *(transfers.c.amount_fen, record_rows.c.raw),
            )
            .select_from(transfers)
            .join(debit, debit.c.id == transfers.c.debit)
            .join(credit, credit.c.id == transfers.c.credit)
            .join(record_rows, record_rows.c.id == transfers.c.record)
            .where(transfers.c.id > after, transfers.c.id <= last)
            .order_by(transfers.c.id)
        ).all()
    wanted = [
        (amount_fen if (to, payee) == mine else -amount_fen, *as_on_receipt(records.parse(raw)))
        for of, payer, to, payee, amount_fen, raw in moved
        if mine in ((of, payer), (to, payee))
    ]
    shown = [
        (
            row.amount_fen,
            row.time_s,
            row.terminal,
            row.transaction,
            row.card,
            row.sequence,
            row.reference,
            row.code,
        )
        for row in rows
    ]
    assert shown == wanted
    assert all(row.kind in ("return", "return-reversed") or row.amount_fen in (-250, 1_250, 300, 77, 900, 200)
               for row in rows)  # fmt: skip


def as_on_receipt(record: Record) -> tuple[object, ...]:
    """What the customer's receipt shows of a record."""
    return (
        *(record.time_s, record.terminal.hex(), record.transaction, record.card.hex(), record.sequence),
        *(record.reference.hex(), record_code(record)),
    )


def test_every_movement_is_in_one_closing(world: World) -> None:
    for happens in (world.first_day, lambda: None, world.second_day):
        happens()
        world.clearing.close_day(TODAY)
    found = world.clearing.settlements()
    assert [one.number for one in found] == [1, 2, 3]
    assert found[0].first == 1
    assert all(one.last + 1 == other.first for one, other in pairwise(found))
    assert (found[1].payees, found[1].rows, found[1].last) == (0, 0, found[1].first - 1)
    with world.clearing._ledger.read() as connection:
        highest = connection.execute(sa.select(sa.func.max(transfers.c.id))).scalar_one()
    assert found[-1].last == highest
    # The rows of all files are the payees' movements, each once.
    total = sum(len(world.read(n, t)[1]) for n, t in ((1, world.shop), (1, world.bus), (3, world.shop)))
    assert total == sum(one.rows for one in found) == 9


def test_what_arrives_after_the_cut_is_in_the_next_file(world: World) -> None:
    world.arrive(world.shops, own(world.paid[0]))
    world.clearing.close_day(TODAY)
    world.arrive(world.shops, own(world.paid[1]))
    assert told(world.read(1, world.shop)[1]) == [("payment", 1_250, "granted")]
    world.clearing.close_day(TODAY)
    found, rows = world.read(2, world.shop)
    assert told(rows) == [("payment", 300, "granted")]
    assert (found.header.opening_fen, found.header.previous) == (1_250, 1)


def test_a_file_stays_the_same_whatever_is_told_later(world: World) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    before = world.file(1, world.shop)
    world.second_day()
    assert world.file(1, world.shop) == before
    world.clearing.close_day(TODAY)
    assert world.file(1, world.shop) == before
    (line,) = (one for one in world.clearing.report().payees if one.payee == world.shop.payee.hex())
    assert line.carried.count == 0


def test_the_report_and_the_files_call_a_payment_the_same(world: World) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    _, rows = world.read(1, world.shop)
    (line,) = (one for one in world.clearing.report().payees if one.payee == world.shop.payee.hex())
    for name, count in (
        ("granted", line.granted),
        ("not-granted", line.paid_not_granted),
        ("carried", line.carried),
    ):
        mine = [row.amount_fen for row in rows if row.kind == "payment" and row.disposition == name]
        assert (len(mine), sum(mine)) == (count.count, count.amount_fen)


@pytest.mark.parametrize("page", [1, 2, 20_000])
def test_the_file_that_is_asked_for_is_the_one_that_is_written(
    world: World, tmp_path: Path, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    whole = {terminal.payee: world.file(1, terminal) for terminal in (world.shop, world.bus)}
    monkeypatch.setattr(settlements, "PAGE", page)
    monkeypatch.setattr(settlements, "_HELD_BYTES", page)
    paths = world.clearing.write_settlements(1, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"000001-2026-09-21/settlement-1-{payee.hex()}.csv" for payee in sorted(whole)
    ]
    assert [path.read_bytes() for path in paths] == [whole[payee] for payee in sorted(whole)]
    assert [world.file(1, terminal) for terminal in (world.shop, world.bus)] == list(whole.values())
    assert sorted(paths[0].parent.iterdir()) == paths
    assert paths[0].stat().st_mode & 0o777 == 0o600


def test_progress_is_told_to_the_end(world: World, tmp_path: Path) -> None:
    world.first_day()
    heard: list[tuple[int, int]] = []
    closing = world.clearing.close_day(TODAY, lambda *one: heard.append(one))
    assert heard[-1] == (closing.last, closing.last)
    heard.clear()
    world.clearing.write_settlements(1, tmp_path, lambda *one: heard.append(one))
    assert heard[0] == (0, closing.last)
    assert heard[-1] == (closing.last, closing.last)


def test_books_from_a_backup_number_above_what_was_given_out(world: World, tmp_path: Path) -> None:
    """Files of closings 1 to 12 are with merchants, and the books know only 1."""
    world.first_day()
    world.clearing.close_day(TODAY)
    world.clearing.write_settlements(1, tmp_path)
    (tmp_path / "000012-2026-09-20").mkdir()
    (tmp_path / "000013-notes").mkdir()
    world.second_day()
    assert settlements.highest_written(tmp_path) == 12
    assert world.clearing.close_day(TODAY, above=12).number == world.clearing.last_closing() == 13
    found, _ = world.read(13, world.shop)
    assert (found.header.number, found.header.previous, found.header.opening_fen) == (13, 1, 1_327)
    assert world.clearing.close_day(TODAY, above=12).number == 14
    assert [one.number for one in world.clearing.settlements(after=1)] == [13, 14]


def test_a_movement_of_another_reason_is_a_row_too(world: World) -> None:
    """Whatever touches a merchant's account stands in its file."""
    world.first_day()
    with world.clearing._ledger.write() as connection:
        of = {kind: connection.scalars(
            sa.select(accounts.c.id).where(accounts.c.kind == kind, accounts.c.owner == owner)
        ).one() for kind, owner in (
            (AccountKind.CARD, world.card.number), (AccountKind.PAYEE, world.bus.payee)
        )}  # fmt: skip
        moved = {"reason": 99, "record": 2, "debit": of[AccountKind.PAYEE], "credit": of[AccountKind.CARD]}
        connection.execute(sa.insert(transfers), [moved | {"amount_fen": 5}])
        for kind, change in ((AccountKind.CARD, 5), (AccountKind.PAYEE, -5)):
            connection.execute(
                sa.update(accounts)
                .where(accounts.c.id == of[kind])
                .values(balance_fen=accounts.c.balance_fen + change)
            )
    world.clearing.close_day(TODAY)
    _, rows = world.read(1, world.bus)
    assert [(row.kind, row.amount_fen) for row in rows] == [("payment", 200), ("adjustment-99", -5)]


# --------------------------------------------------------------------------------------------- kills, disks


def killed(ledger: Path, folder: Path, where: str) -> None:
    command = [sys.executable, "-m", "tests.offline_sync.settle_for_test", str(ledger), str(folder), where]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")


def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    """Killed in the closing: nothing is closed. Killed in the middle of the files: they come out as those of
    a copy that was never killed, byte for byte."""
    world = World(f"sqlite:///{tmp_path / 'whole.sqlite'}")
    world.first_day()
    world.clearing.close()
    shutil.copy(tmp_path / "whole.sqlite", tmp_path / "killed.sqlite")
    whole = world.open(f"sqlite:///{tmp_path / 'whole.sqlite'}")
    whole.close_day(TODAY)
    wanted = {path.name: path.read_bytes() for path in whole.write_settlements(1, tmp_path / "whole")}
    whole.close()

    killed(tmp_path / "killed.sqlite", tmp_path / "out", "closing")
    again = world.open(f"sqlite:///{tmp_path / 'killed.sqlite'}")
    assert again.settlements() == []
    again.close()
    killed(tmp_path / "killed.sqlite", tmp_path / "out", "writing")
    (place,) = (tmp_path / "out").iterdir()
    assert [path.name for path in place.iterdir()] == [".partial"]
    again = world.open(f"sqlite:///{tmp_path / 'killed.sqlite'}")
    assert [one.number for one in again.settlements()] == [1]
    paths = again.write_settlements(1, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in paths} == wanted
    assert sorted(place.iterdir()) == paths
    again.close()


def test_another_file_of_the_name_is_left_alone(world: World, tmp_path: Path) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    paths = world.clearing.write_settlements(1, tmp_path)
    times = [path.stat().st_mtime_ns for path in paths]
    whole = paths[0].read_bytes()
    assert world.clearing.write_settlements(1, tmp_path) == paths
    assert [path.stat().st_mtime_ns for path in paths] == times
    paths[0].write_bytes(b"a merchant's own notes")
    paths[1].unlink()
    with pytest.raises(SettlementError, match="holds something else; move it away"):
        world.clearing.write_settlements(1, tmp_path)
    assert paths[0].read_bytes() == b"a merchant's own notes"
    assert [path.name for path in paths[0].parent.iterdir()] == [paths[0].name]
    paths[0].unlink()
    assert world.clearing.write_settlements(1, tmp_path) == paths
    assert paths[0].read_bytes() == whole


def test_a_folder_that_cannot_be_written(world: World, tmp_path: Path) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettlementError, match="can't be written: Not a directory"):
        world.clearing.write_settlements(1, tmp_path / "file")
    with pytest.raises(SettlementMissing, match="there is no closing 2"):
        world.clearing.write_settlements(2, tmp_path)


def test_a_full_disk_leaves_no_half_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    whole = os.fsync
    synced = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettlementError, match=r"No space left on device\. Closing 1 stands; write its files"):
        world.clearing.write_settlements(1, tmp_path)
    assert list((tmp_path / "000001-2026-09-21").iterdir()) == []
    assert len(world.clearing.write_settlements(1, tmp_path)) == 2


def test_one_writer_at_a_time(world: World, tmp_path: Path) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)

    def second(done: int, _of: int) -> None:
        with pytest.raises(SettlementError, match="being written by another process"):
            world.clearing.write_settlements(1, tmp_path)

    assert len(world.clearing.write_settlements(1, tmp_path, second)) == 2


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("ahead_s", [0, 86_400])
def test_a_day_that_has_not_begun_in_beijing(world: World, ahead_s: int) -> None:
    """16:00 UTC is midnight there."""
    midnight = NOW // 86_400 * 86_400 + 16 * 3600
    late = world.open("sqlite://", midnight - 1 + ahead_s)
    with pytest.raises(SettlementError, match="has not begun yet"):
        late.close_day(beijing_day(midnight + ahead_s))
    assert late.settlements() == []
    assert late.close_day(beijing_day(midnight + ahead_s - 1)).number == 1


def test_a_day_before_the_last_one_closed(world: World) -> None:
    world.clearing.close_day(TODAY)
    with pytest.raises(SettlementError, match="2026-09-21 is closed already"):
        world.clearing.close_day(date(2026, 9, 20))
    assert len(world.clearing.settlements()) == 1


def test_altered_books_are_not_closed(world: World) -> None:
    world.first_day()
    with world.clearing._ledger.write() as connection:
        connection.execute(
            sa.update(accounts)
            .where(accounts.c.kind == AccountKind.PAYEE, accounts.c.owner == world.bus.payee)
            .values(balance_fen=accounts.c.balance_fen + 1)
        )
    with pytest.raises(LedgerError, match="201 fen, its movements give 200: the books were altered"):
        world.clearing.close_day(TODAY)
    assert world.clearing.settlements() == []


@pytest.mark.parametrize("signed_before", [False, True])
@pytest.mark.parametrize("what", ["movement", "record"])
def test_books_altered_after_closing_give_no_file(
    world: World, tmp_path: Path, what: str, signed_before: bool
) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    if signed_before or what == "record":
        world.file(1, world.bus)
    with world.clearing._ledger.write() as connection:
        if what == "movement":
            connection.execute(sa.update(transfers).values(amount_fen=transfers.c.amount_fen + 1))
        else:
            raw = world.ride.raw[:57] + b"\x09" + world.ride.raw[58:]
            connection.execute(
                sa.update(record_rows).where(record_rows.c.raw == world.ride.raw).values(raw=raw)
            )
    with pytest.raises(SettlementError, match="no longer give what closing 1 holds of payee"):
        world.file(1, world.bus)
    with pytest.raises(SettlementError, match="restore a backup"):
        world.clearing.write_settlements(1, tmp_path)
    assert list((tmp_path / "000001-2026-09-21").iterdir()) == []


def test_more_than_one_closing_can_hold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is above the limit of a file is left for the next closing of the same day."""
    world.first_day()
    monkeypatch.setattr(settlements, "MAX_ROWS", 5)
    first, second = (world.clearing.close_day(TODAY) for _ in range(2))
    assert (first.first, first.last, second.first) == (1, 5, 6)
    monkeypatch.undo()
    world.clearing.close_day(TODAY)
    assert first.rows + second.rows == 7
    assert world.read(2, world.shop)[0].totals.closing_fen == balance_fen(world.clearing, world.shop)


def test_payees_of_another_operator_have_no_file_here(world: World, tmp_path: Path) -> None:
    number = bytes.fromhex("00000033")
    key = world.scheme.suite.new_signing_key(world.scheme.entropy)
    world.scheme.trust.add_operator(world.scheme.operator(number, certificates.CLASS_ACQUIRING, key))
    foreign = world.scheme.payment(world.card, world.shop, 55, payee=number + bytes(4))
    world.arrive(world.buses, carried(foreign), own(world.ride))
    world.clearing.close_day(TODAY)
    assert [one.payee for one in world.clearing.settlement_totals(1)] == [
        world.bus.payee.hex(),
        foreign.payee.hex(),
    ]
    with pytest.raises(SettlementError, match="operator 00000033 is not served here"):
        world.clearing.settlement(1, foreign.payee)
    assert [path.stem for path in world.clearing.write_settlements(1, tmp_path)] == [
        f"settlement-1-{world.bus.payee.hex()}"
    ]


def test_closings_that_do_not_exist(world: World) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    for call in (
        lambda: world.clearing.settlement(2, world.shop.payee),
        lambda: world.clearing.settlement_totals(0),
        lambda: world.clearing.settlement(1, bytes(8)),
    ):
        with pytest.raises(SettlementMissing):
            call()


def test_the_list_of_closings(world: World) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    world.second_day()
    world.clearing.close_day(TODAY)
    both = world.clearing.settlements()
    assert [(one.payees, one.rows, one.credit_fen, one.debit_fen) for one in both] == [
        (2, 7, 2_727, 1_200),
        (1, 2, 900, 250),
    ]
    assert world.clearing.settlements(after=1) == both[1:]
    assert world.clearing.settlements(limit=1) == both[:1]
    (bus,) = world.clearing.settlements(world.bus.payee)
    assert (bus.number, bus.payees, bus.rows, bus.credit_fen) == (1, 1, 1, 200)
    assert world.clearing.settlements(bytes(8)) == []


# ----------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize("suite", [International(), suite_by_number(GM)], ids=["international", "gm"])
def test_a_signature_that_would_differ_is_kept(suite: Suite, tmp_path: Path) -> None:
    """SM2, and ECDSA as it mostly is, sign the same bytes differently each time."""
    world = World(suite=suite)
    key = world.scheme.acquirer_key
    assert key.sign(b"x") != key.sign(b"x")
    world.first_day()
    world.clearing.close_day(TODAY)
    once = world.file(1, world.shop)
    assert world.file(1, world.shop) == once
    assert once in [path.read_bytes() for path in world.clearing.write_settlements(1, tmp_path)]
    assert world.read(1, world.shop)[0].header.suite == suite.number
    other = once.replace(b"number=1,", b"number=2,")
    with pytest.raises(SettlementRefused, match="not what its operator signed"):
        settlement.read(BytesIO(other), world.scheme.trust)


def test_what_a_revoked_certificate_signed_is_signed_anew(world: World) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    old = world.file(1, world.shop)
    trust, scheme = world.scheme.trust, world.scheme
    fresh_key = scheme.suite.new_signing_key(scheme.entropy)
    fresh = scheme.operator(ACQUIRER, certificates.CLASS_ACQUIRING, fresh_key)
    revoked = {certificates.digest(scheme.suite, scheme.acquirer): NOW}
    listed = authorities.build(
        trust, 1, NOW, [scheme.issuer, scheme.acquirer, fresh], revoked, scheme.root_key
    )
    trust.update(authorities.parse(listed, trust))
    with pytest.raises(SettlementRefused, match="revoked"):
        settlement.read(BytesIO(old), trust)
    with pytest.raises(SettlementError, match="no certificate of operator 00000022 fits its key"):
        world.file(1, world.shop)
    world.clearing._settlements._keys = {ACQUIRER: fresh_key}
    found, _ = world.read(1, world.shop)
    assert found.seal.certificate == fresh.to_bytes()
    new = world.file(1, world.shop)
    assert new == world.file(1, world.shop)
    assert new.rpartition(b"#signature")[0] == old.rpartition(b"#signature")[0]


def test_a_rotated_certificate_keeps_its_signatures(world: World) -> None:
    world.first_day()
    world.clearing.close_day(TODAY)
    old = world.file(1, world.shop)
    scheme = world.scheme
    fresh_key = scheme.suite.new_signing_key(scheme.entropy)
    scheme.trust.add_operator(scheme.operator(ACQUIRER, certificates.CLASS_ACQUIRING, fresh_key))
    world.clearing._settlements._keys = {ACQUIRER: fresh_key}
    assert world.file(1, world.shop) == old
    world.second_day()
    world.clearing.close_day(TODAY)
    assert world.read(2, world.shop)[0].seal.certificate != world.read(1, world.shop)[0].seal.certificate


# --------------------------------------------------------------------------------------------- side by side


def test_closing_while_uploads_arrive(tmp_path: Path) -> None:
    world = World(f"sqlite:///{tmp_path / 'books.sqlite'}")
    payments = [world.scheme.payment(world.card, world.shop, 10) for _ in range(40)]
    batches = []
    for payment in payments:
        first = len(world.shops.entries) + 1
        batches.append(world.shops.add(own(payment)).batch(first))
    done = threading.Event()

    def upload() -> None:
        for batch in batches:
            world.clearing.accept(batch)
        done.set()

    thread = threading.Thread(target=upload)
    thread.start()
    while not done.is_set():
        world.clearing.close_day(TODAY)
    thread.join()
    world.clearing.close_day(TODAY)
    codes = [row.code for number in numbers(world) for row in world.read(number, world.shop)[1]]
    assert codes == [record_code(payment) for payment in payments]
    world.clearing.close()


def numbers(world: World) -> Iterator[int]:
    for closing in world.clearing.settlements(world.shop.payee):
        yield closing.number


def test_an_issuers_movements_are_in_no_file(world: World) -> None:
    """A load belongs to a closing, and to no payee."""
    closing = world.clearing.close_day(TODAY)
    assert (closing.last, closing.payees) == (1, 0)
    with world.clearing._ledger.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(closing_payees)).scalar_one() == 0
    assert world.ride.payee[:4] != ISSUER
