"""The store contract notices what a store may get wrong; the program's own store passes it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from examples import custom_store
from examples.custom_store import FileStore
from hardwallet.records import Record
from offline_sync import chain
from pos_terminal.errors import JournalDamaged, NoSuchSale
from pos_terminal.ports import CardCertificate, StoredPayment, Waiting
from pos_terminal.sale import Sale, SaleState
from store_tests import cases, sqlite
from store_tests.bench import Bench, NoStore, OpenStore, find_store
from store_tests.cases import CASES, Case


def bench_of(folder: Path, place: str, open_store: OpenStore) -> Bench:
    store = folder / "store"
    store.mkdir()
    return Bench(store, place, open_store)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.__name__))
def test_the_programs_own_store_passes(tmp_path: Path, case: Case) -> None:
    case(bench_of(tmp_path, "store_tests.sqlite:open_store", sqlite.open_store))


class Forgets(FileStore):
    """Says that a payment is kept, and keeps it in memory."""

    def keep_payment(self, record: Record, state: SaleState, now_s: int) -> None:
        self._take(
            chain.Entry(1, chain.Kind.OWN_PAYMENT, now_s, chain.pack_own(state, record.raw), bytes(32))
        )


class KeepsTwice(FileStore):
    """The same payment again counts again."""

    def _same(self, record: Record) -> list[StoredPayment]:
        return []


class TellsBySignature(FileStore):
    """Takes one body under two signatures for two payments."""

    def _same(self, record: Record) -> list[StoredPayment]:
        return [one for one in super()._same(record) if one.record.raw == record.raw]


class OnePerNumber(FileStore):
    """A second body with one sequence number gets lost."""

    def keep_payment(self, record: Record, state: SaleState, now_s: int) -> None:
        if self.payment(record.card, record.sequence) is None:
            super().keep_payment(record, state, now_s)


class ReopensEverything(FileStore):
    """A reference may be used again."""

    def open_sale(self, sale: Sale) -> None:
        self._sales.pop(sale.reference, None)
        super().open_sale(sale)


class ChangesNothing(FileStore):
    """A change of no sale is let through."""

    def change_sale(self, reference: bytes, state: SaleState, reason: str, now_s: int) -> None:
        try:
            super().change_sale(reference, state, reason, now_s)
        except NoSuchSale:
            return


class CountsNoCarried(FileStore):
    """What was carried for others is left out."""

    def waiting(self) -> Waiting:
        return replace(super().waiting(), carried=0)


class ShortCertificates(FileStore):
    """Loses the agreement key."""

    def certificate(self, digest: bytes) -> CardCertificate | None:
        found = super().certificate(digest)
        return found and replace(found, agreement_key=b"")


class NumbersFromTheClock(FileStore):
    """Numbers that are not kept, only reckoned."""

    def reserve_transactions(self, now_s: int) -> range:
        begin = 1 + max(0, now_s - custom_store.NUMBERS_BEGIN_S)
        return range(begin, begin + 64)


class NumbersFromTheFile(FileStore):
    """Numbers that an old copy of the file repeats."""

    def reserve_transactions(self, now_s: int) -> range:
        return super().reserve_transactions(0)


@pytest.mark.parametrize(
    ("broken", "noticed"),
    [
        (Forgets, cases.a_payment_is_kept_and_makes_its_sale),
        (KeepsTwice, cases.the_same_payment_again_changes_nothing),
        (TellsBySignature, cases.the_same_payment_again_changes_nothing),
        (OnePerNumber, cases.two_payments_with_one_number_are_both_kept),
        (ReopensEverything, cases.a_reference_names_one_sale),
        (ReopensEverything, cases.a_sale_that_has_ended_is_not_opened_again),
        (ChangesNothing, cases.a_change_of_no_sale_is_refused),
        (CountsNoCarried, cases.what_waits_is_counted),
        (ShortCertificates, cases.certificates_are_kept),
        (NumbersFromTheClock, cases.numbers_are_given_out_once),
        (NumbersFromTheClock, cases.a_clock_that_goes_back_repeats_no_number),
        (NumbersFromTheFile, cases.an_old_copy_put_back_repeats_no_number),
    ],
)
def test_a_broken_store_is_noticed(tmp_path: Path, broken: OpenStore, noticed: Case) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        noticed(bench_of(tmp_path, "", broken))


def test_a_store_that_flushes_nothing_is_noticed_when_it_is_killed(tmp_path: Path) -> None:
    """The other process keeps its payments in memory only."""
    bench = bench_of(tmp_path, "tests.examples.test_store_contract:Forgets", custom_store.open_store)
    with pytest.raises(AssertionError):
        cases.killed_it_loses_nothing(bench)


def test_a_store_that_writes_on_behind_a_torn_write_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(tmp_path, "", custom_store.open_store)
    monkeypatch.setattr(os, "ftruncate", lambda *_: None)
    with pytest.raises(JournalDamaged):
        cases.a_write_that_was_cut_off_costs_nothing_kept_before(bench)


@pytest.mark.parametrize("place", ["nowhere.py:open_store", "store_tests.sqlite:no_such", "store_tests", ""])
def test_a_place_without_a_store_is_told(place: str) -> None:
    with pytest.raises(NoStore, match="opens no store"):
        find_store(place)
