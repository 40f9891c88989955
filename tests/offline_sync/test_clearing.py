"""Clearing's rules about money, one test each: what is credited, once, to whom, and what is refused."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from hardwallet import certificates, records
from hardwallet.records import Record
from offline_sync import chain, messages
from offline_sync.chain import Entry, Kind
from offline_sync.clearing import Clearing, Report, ledger
from offline_sync.clearing import report as reports
from offline_sync.clearing.prepared import Prepared
from offline_sync.errors import BatchRefused, LedgerError, RecordRefused
from offline_sync.messages import Acknowledgement, Batch
from pos_terminal.sale import Sale, SaleState
from tests.offline_sync.factory import ACQUIRER, ISSUER, NOW, SCHEME, YEAR, Card, Scheme, Terminal, resigned

Item = tuple[Kind, bytes]


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture
def card(scheme: Scheme) -> Card:
    return scheme.card(7)


@pytest.fixture
def shop(scheme: Scheme) -> Terminal:
    return scheme.terminal(1, 1, retail=True)


@pytest.fixture
def bus(scheme: Scheme) -> Terminal:
    return scheme.terminal(2, 1)


@pytest.fixture
def clearing(scheme: Scheme) -> Clearing:
    return open_clearing(scheme)


def open_clearing(scheme: Scheme, url: str = "sqlite://") -> Clearing:
    return Clearing(url, scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)


def own(record: Record, state: SaleState = SaleState.GRANTED) -> Item:
    return Kind.OWN_PAYMENT, chain.pack_own(state, record.raw)


def carried(record: Record) -> Item:
    return Kind.CARRIED, record.raw


def changed(reference: bytes, state: SaleState) -> Item:
    return Kind.SALE_CHANGED, chain.pack_changed(reference, state, "")


class Till:
    """A terminal's chain without a journal: says what goes into it, and seals runs of it."""

    def __init__(self, terminal: Terminal, cards: Iterable[Card]) -> None:
        self.terminal = terminal
        self.cards = list(cards)
        self.genesis = chain.genesis(SCHEME, terminal.payee, terminal.number)
        self.entries: list[Entry] = []

    def add(self, *items: Item, time_s: int = NOW) -> "Till":
        for kind, payload in items:
            index = len(self.entries) + 1
            digest = chain.link(self.hash_at(index - 1), index, kind, time_s, payload)
            self.entries.append(Entry(index, kind, time_s, payload, digest))
        return self

    def damage(self, index: int, payload: bytes) -> None:
        self.entries[index - 1] = msgspec.structs.replace(
            self.entries[index - 1], payload=payload, damaged=True
        )

    def hash_at(self, index: int) -> bytes:
        return self.entries[index - 1].hash if index else self.genesis

    def batch(self, first: int = 1, last: int | None = None, **changes: Any) -> Batch:
        entries = self.entries[first - 1 : last]
        options = {"journal_head": len(self.entries), "time_s": NOW} | changes
        sealed, _ = messages.seal_batch(
            self.terminal.uploader,
            self.hash_at(first - 1),
            entries,
            [card.raw_certificate for card in self.cards],
            **options,
        )
        return sealed


def money(report: Report) -> tuple[Any, ...]:
    """What must be the same whatever the order of arrival."""
    return (report.payees, report.cards, report.conservation, report.float_fen, report.paid_not_granted)


def payee_fen(report: Report, terminal: Terminal) -> int:
    return sum(line.balance_fen for line in report.payees if line.payee == terminal.payee.hex())


def card_fen(report: Report, card: Card) -> int:
    return sum(line.balance_fen for line in report.cards if line.card == card.number.hex())


def codes(acknowledgement: Acknowledgement) -> list[tuple[int, str]]:
    return [(row.index, row.code) for row in acknowledgement.rejections]


class TestCredit:
    def test_a_load_and_a_payment_move_money(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        assert clearing.book_load(scheme.load(card, 20_000).raw, card.raw_certificate)
        clearing.accept(Till(shop, [card]).add(own(scheme.payment(card, shop, 1_250))).batch())
        report = clearing.report()
        assert payee_fen(report, shop) == 1_250
        assert card_fen(report, card) == 18_750
        assert report.float_fen == 18_750
        assert report.conservation.funding_fen == -20_000
        assert report.conservation.ok

    def test_a_load_counts_once(self, clearing: Clearing, scheme: Scheme, card: Card) -> None:
        receipt = scheme.load(card, 20_000)
        assert clearing.book_load(receipt.raw, card.raw_certificate) is True
        assert clearing.book_load(receipt.raw, card.raw_certificate) is False
        assert clearing.book_load(resigned(card, receipt).raw, card.raw_certificate) is False
        assert card_fen(clearing.report(), card) == 20_000

    def test_a_payment_before_its_load(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        receipt = scheme.load(card, 20_000)
        clearing.accept(Till(shop, [card]).add(own(scheme.payment(card, shop, 500))).batch())
        assert card_fen(clearing.report(), card) == -500
        clearing.book_load(receipt.raw, card.raw_certificate)
        report = clearing.report()
        assert card_fen(report, card) == 19_500
        assert report.conservation.ok

    def test_the_same_upload_twice_is_booked_once_with_the_same_receipt(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        batch = Till(shop, [card]).add(own(scheme.payment(card, shop, 500))).batch()
        first = clearing.accept(batch)
        before = clearing.report()
        assert clearing.accept(batch) == first
        assert clearing.report() == before

    def test_signed_again_it_is_still_the_same_upload(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        till = Till(shop, [card]).add(own(scheme.payment(card, shop, 500)))
        assert clearing.accept(till.batch(time_s=NOW)) == clearing.accept(till.batch(time_s=NOW + 60))
        assert payee_fen(clearing.report(), shop) == 500

    def test_the_same_record_in_a_later_upload_counts_once(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        record = scheme.payment(card, shop, 500)
        till = Till(shop, [card]).add(own(record), own(record), own(resigned(card, record)))
        clearing.accept(till.batch(1, 1))
        clearing.accept(till.batch(2, 3))
        report = clearing.report()
        assert payee_fen(report, shop) == 500
        assert report.payments == 1
        assert report.evidence == []  # two signatures over one body prove nothing

    def test_a_carried_record_goes_to_the_payee_that_it_names(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, bus: Terminal
    ) -> None:
        clearing.accept(Till(bus, [card]).add(carried(scheme.payment(card, shop, 500))).batch())
        report = clearing.report()
        assert payee_fen(report, shop) == 500
        assert payee_fen(report, bus) == 0

    @pytest.mark.parametrize("shop_first", [True, False])
    def test_carried_and_own_count_once_and_own_tells_the_state(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, bus: Terminal, shop_first: bool
    ) -> None:
        record = scheme.payment(card, shop, 500)
        batches = [
            Till(shop, [card]).add(own(record)).batch(),
            Till(bus, [card]).add(carried(record)).batch(),
        ]
        for batch in batches if shop_first else reversed(batches):
            clearing.accept(batch)
        report = clearing.report()
        assert payee_fen(report, shop) == 500
        assert report.payments == 1
        line = next(line for line in report.payees if line.payee == shop.payee.hex())
        assert (line.granted.count, line.carried.count) == (1, 0)

    def test_the_same_record_in_two_terminals_uploads(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, bus: Terminal
    ) -> None:
        other = scheme.terminal(3, 1)
        record = scheme.payment(card, shop, 500)
        for terminal in (bus, other):
            receipt = clearing.accept(Till(terminal, [card]).add(carried(record)).batch())
            assert receipt.rejections == []
        assert payee_fen(clearing.report(), shop) == 500

    def test_a_claimed_record_goes_to_the_payee_that_it_names(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, bus: Terminal
    ) -> None:
        """A terminal that claims another's payment as its own gets nothing, and is noted."""
        clearing.accept(Till(bus, [card]).add(own(scheme.payment(card, shop, 500))).batch())
        report = clearing.report()
        assert (payee_fen(report, shop), payee_fen(report, bus)) == (500, 0)
        assert [(line.kind, line.subject) for line in report.evidence] == [
            ("claimed", (bus.payee + bus.number).hex())
        ]
        line = next(line for line in report.payees if line.payee == shop.payee.hex())
        assert (line.granted.count, line.carried.count) == (0, 1)

    def test_a_receipt_may_come_by_way_of_a_terminal(
        self, clearing: Clearing, scheme: Scheme, card: Card, bus: Terminal
    ) -> None:
        receipt = scheme.load(card, 20_000)
        clearing.accept(Till(bus, [card]).add(carried(receipt)).batch())
        assert clearing.book_load(receipt.raw, card.raw_certificate) is False
        assert card_fen(clearing.report(), card) == 20_000

    def test_a_cancelled_load_moves_nothing(self, clearing: Clearing, scheme: Scheme, card: Card) -> None:
        clearing.book_load(scheme.load(card, 0).raw, card.raw_certificate)
        report = clearing.report()
        assert report.loads == 1
        assert report.conservation.loads_fen == 0
        assert report.conservation.ok


class TestDisposition:
    @pytest.mark.parametrize("bus_first", [True, False])
    def test_a_sale_given_up_whose_payment_arrives(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, bus: Terminal, bus_first: bool
    ) -> None:
        reference = b"sale-number1"
        record = scheme.payment(card, shop, 500, reference=reference)
        sale = Sale(reference, 500, 0x0156, 2, 1, NOW, card=card.number)
        till = Till(shop, [card]).add(
            (Kind.SALE_OPENED, chain.pack_opened(sale)), changed(reference, SaleState.GIVEN_UP)
        )
        batches = [Till(bus, [card]).add(carried(record)).batch(), till.batch()]
        for batch in batches if bus_first else reversed(batches):
            clearing.accept(batch)
        report = clearing.report()
        assert [(line.card, line.amount_fen) for line in report.paid_not_granted] == [
            (card.number.hex(), 500)
        ]
        assert (payee_fen(report, shop), report.conservation.owed_fen) == (0, 500)

    def test_paid_not_granted_as_the_terminal_says(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        record = scheme.payment(card, shop, 500)
        clearing.accept(Till(shop, [card]).add(own(record, SaleState.PAID_NOT_GRANTED)).batch())
        assert len(clearing.report().paid_not_granted) == 1

    @pytest.mark.parametrize("in_order", [True, False])
    def test_a_sale_that_was_granted_later_is_granted(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, in_order: bool
    ) -> None:
        record = scheme.payment(card, shop, 500)
        till = Till(shop, [card]).add(
            own(record, SaleState.PAID_NOT_GRANTED), changed(record.reference, SaleState.GRANTED)
        )
        for first in (1, 2) if in_order else (2, 1):
            clearing.accept(till.batch(first, first))
        report = clearing.report()
        assert report.paid_not_granted == []
        assert report.payees[0].granted.count == 1

    @pytest.mark.parametrize("in_order", [True, False])
    def test_a_record_that_was_granted_once_stays_granted(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, in_order: bool
    ) -> None:
        """A till whose first entry was damaged keeps the record again."""
        record = scheme.payment(card, shop, 500)
        till = Till(shop, [card]).add(own(record), own(record, SaleState.PAID_NOT_GRANTED))
        for first in (1, 2) if in_order else (2, 1):
            clearing.accept(till.batch(first, first))
        report = clearing.report()
        assert report.paid_not_granted == []
        assert report.payees[0].granted == reports.Count(1, 500)

    @pytest.mark.parametrize("in_order", [True, False])
    def test_the_latest_entry_of_a_sale_counts_however_it_arrives(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, bus: Terminal, in_order: bool
    ) -> None:
        record = scheme.payment(card, shop, 500)
        clearing.accept(Till(bus, [card]).add(carried(record)).batch())
        till = Till(shop, [card]).add(
            changed(record.reference, SaleState.DECLINED), changed(record.reference, SaleState.UNRESOLVED)
        )
        for first in (1, 2) if in_order else (2, 1):
            clearing.accept(till.batch(first, first))
        report = clearing.report()
        assert report.paid_not_granted == []

    def test_only_the_terminal_that_is_named_tells_the_state(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        """Another till of the same merchant reports nothing about this one's sales."""
        sibling = scheme.terminal(1, 2, retail=True)
        record = scheme.payment(card, shop, 500)
        clearing.accept(
            Till(sibling, [card])
            .add(own(record, SaleState.PAID_NOT_GRANTED), changed(record.reference, SaleState.GIVEN_UP))
            .batch()
        )
        assert clearing.report().paid_not_granted == []


class TestClones:
    @pytest.mark.parametrize("reverse", [False, True])
    def test_two_bodies_with_one_number_are_both_credited_and_proven(
        self, scheme: Scheme, card: Card, shop: Terminal, bus: Terminal, reverse: bool
    ) -> None:
        clearing = open_clearing(scheme)
        one = scheme.payment(card, shop, 500, sequence=4)
        two = scheme.payment(card, bus, 200, sequence=4)
        batches = [Till(shop, [card]).add(own(one)).batch(), Till(bus, [card]).add(own(two)).batch()]
        for batch in reversed(batches) if reverse else batches:
            clearing.accept(batch)
        report = clearing.report()
        assert (payee_fen(report, shop), payee_fen(report, bus)) == (500, 200)
        # 500 above the least under that number, and 200 that nothing was loaded for, are the issuer's.
        assert (card_fen(report, card), report.conservation.losses_fen) == (0, 700)
        assert report.conservation.ok
        assert [(line.kind, line.subject) for line in report.evidence] == [
            ("clone", (card.number + bytes(4)).hex())
        ]

    def test_within_one_upload_too(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        items = [own(scheme.payment(card, shop, 100 + n, sequence=4)) for n in range(3)]
        clearing.accept(Till(shop, [card]).add(*items).batch())
        report = clearing.report()
        assert payee_fen(report, shop) == 303
        assert len(report.evidence) == 3  # each pair

    def test_a_second_receipt_of_one_load_moves_nothing_and_is_proven(
        self, clearing: Clearing, scheme: Scheme, card: Card
    ) -> None:
        clearing.book_load(scheme.load(card, 20_000).raw, card.raw_certificate)
        card.loads -= 1
        clearing.book_load(scheme.load(card, 20_000).raw, card.raw_certificate)
        report = clearing.report()
        assert report.conservation.loads_fen == 20_000
        assert [line.kind for line in report.evidence] == ["load-twice"]


class TestLoads:
    def test_an_order_without_receipt_is_outstanding(
        self, clearing: Clearing, scheme: Scheme, card: Card
    ) -> None:
        order = scheme.load_order(card, 1, 20_000)
        clearing.book_order(order)
        clearing.book_order(order)
        report = clearing.report()
        assert [(line.counter, line.amount_fen) for line in report.outstanding_loads] == [(1, 20_000)]
        assert report.conservation.loads_fen == 0
        clearing.book_load(scheme.load(card, 20_000).raw, card.raw_certificate)
        report = clearing.report()
        assert report.outstanding_loads == []
        assert report.loads_without_order == []

    def test_a_receipt_without_order_is_shown(self, clearing: Clearing, scheme: Scheme, card: Card) -> None:
        clearing.book_load(scheme.load(card, 20_000).raw, card.raw_certificate)
        assert [line.amount_fen for line in clearing.report().loads_without_order] == [20_000]

    def test_a_receipt_over_another_amount_than_ordered_is_shown(
        self, clearing: Clearing, scheme: Scheme, card: Card
    ) -> None:
        clearing.book_order(scheme.load_order(card, 1, 10_000))
        clearing.book_load(scheme.load(card, 20_000).raw, card.raw_certificate)
        assert [line.amount_fen for line in clearing.report().loads_without_order] == [20_000]

    @pytest.mark.parametrize("position", [0, 1, 2, 4, 8, 12, 20, 24, 30, 57, 58, 121])
    def test_an_altered_order_is_refused(
        self, clearing: Clearing, scheme: Scheme, card: Card, position: int
    ) -> None:
        order = bytearray(scheme.load_order(card, 1, 20_000))
        order[position] ^= 1
        with pytest.raises(RecordRefused):
            clearing.book_order(bytes(order))
        assert clearing.report().outstanding_loads == []

    def test_an_order_signed_by_an_acquirer_is_refused(
        self, clearing: Clearing, scheme: Scheme, card: Card
    ) -> None:
        body = bytearray(scheme.load_order(card, 1, 20_000)[:58])
        body[8:12] = ACQUIRER
        with pytest.raises(RecordRefused, match="may not issue"):
            clearing.book_order(bytes(body) + scheme.acquirer_key.sign(bytes(body)))

    def test_an_order_of_wrong_length_is_refused(self, clearing: Clearing) -> None:
        with pytest.raises(RecordRefused):
            clearing.book_order(bytes(121))

    def test_a_receipt_that_names_another_issuer_is_refused(
        self, clearing: Clearing, scheme: Scheme, card: Card
    ) -> None:
        receipt = scheme.record(
            card,
            {
                "kind": records.LOAD,
                "sequence": 1,
                "payee": ACQUIRER + bytes(4),
                "reference": bytes(12),
                "amount_fen": 5,
                "terminal": bytes(4),
                "transaction": 0,
                "nonce": bytes(16),
                "time_s": NOW,
                "profile": 0,
            },
        )
        with pytest.raises(RecordRefused, match="another issuer"):
            clearing.book_load(receipt.raw, card.raw_certificate)


def accept_one(clearing: Clearing, terminal: Terminal, item: Item, cards: Iterable[Card]) -> Acknowledgement:
    return clearing.accept(Till(terminal, cards).add(item).batch())


class TestRejectedRows:
    """One bad row is rejected with its reason; the others are booked; nothing is credited for it."""

    def expect(
        self, clearing: Clearing, scheme: Scheme, shop: Terminal, bad: Item, cards: list[Card], code: str
    ) -> None:
        honest = scheme.card(99)
        good = own(scheme.payment(honest, shop, 100))
        receipt = clearing.accept(Till(shop, [*cards, honest]).add(good, bad, good).batch())
        assert codes(receipt) == [(2, code)]
        report = clearing.report()
        assert payee_fen(report, shop) == 100
        assert report.payments == 1
        assert [(line.entry, line.code) for line in report.rejected] == [(2, code)]
        assert report.conservation.ok

    def test_a_signature_that_is_not_the_cards(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        raw = bytearray(scheme.payment(card, shop, 500).raw)
        raw[-1] ^= 1
        self.expect(clearing, scheme, shop, (Kind.OWN_PAYMENT, b"\x03" + bytes(raw)), [card], "signature")

    @pytest.mark.parametrize("position", [24, 28, 36, 48, 54, 58, 62, 78, 83, 85, 89])
    def test_a_body_that_was_altered(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, position: int
    ) -> None:
        raw = bytearray(scheme.payment(card, shop, 500).raw)
        raw[position + 3 if position == 48 else position] ^= 1
        receipt = accept_one(clearing, shop, (Kind.CARRIED, bytes(raw)), [card])
        assert len(receipt.rejections) == 1
        assert clearing.report().payments == 0

    def test_no_certificate(self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal) -> None:
        self.expect(clearing, scheme, shop, own(scheme.payment(card, shop)), [], "certificate-missing")

    def test_a_certificate_from_before_serves(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        clearing.book_load(scheme.load(card).raw, card.raw_certificate)
        assert accept_one(clearing, shop, own(scheme.payment(card, shop)), []).rejections == []

    def test_a_certificate_that_came_with_an_upload_serves_later(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        till = Till(shop, [card]).add(own(scheme.payment(card, shop)), own(scheme.payment(card, shop)))
        clearing.accept(till.batch(1, 1))
        till.cards = []
        assert clearing.accept(till.batch(2, 2)).rejections == []

    def test_a_certificate_that_no_issuer_signed(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        card.certificate = certificates.signed(card.certificate, card.key)
        self.expect(clearing, scheme, shop, own(scheme.payment(card, shop)), [card], "certificate-missing")

    def test_a_certificate_of_an_unknown_operator(
        self, clearing: Clearing, scheme: Scheme, shop: Terminal
    ) -> None:
        card = make_card(scheme, authority=b"\x00\x00\x00\x99")
        self.expect(clearing, scheme, shop, own(scheme.payment(card, shop)), [card], "certificate-missing")

    def test_a_certificate_of_an_acquirer(self, clearing: Clearing, scheme: Scheme, shop: Terminal) -> None:
        card = make_card(scheme, authority=ACQUIRER, signer=scheme.acquirer_key)
        self.expect(clearing, scheme, shop, own(scheme.payment(card, shop)), [card], "certificate-missing")

    def test_another_cards_certificate(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        other = scheme.card(8)
        other.number = card.number
        record = scheme.payment(other, shop)
        self.expect(clearing, scheme, shop, own(record), [other], "card-certificate")

    @pytest.mark.parametrize("time_s", [NOW - 2 * YEAR, NOW + 4 * YEAR])
    def test_a_time_outside_the_certificates_dates(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, time_s: int
    ) -> None:
        record = scheme.payment(card, shop, time_s=time_s)
        self.expect(clearing, scheme, shop, own(record), [card], "dates")

    def test_a_card_that_expired_after_it_paid_is_credited(
        self, clearing: Clearing, scheme: Scheme, shop: Terminal
    ) -> None:
        card = scheme.card(7, not_after=NOW - 86_400)
        record = scheme.payment(card, shop, 500, time_s=NOW - 86_400)
        assert accept_one(clearing, shop, own(record), [card]).rejections == []
        assert payee_fen(clearing.report(), shop) == 500

    def test_a_time_in_the_future(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        record = scheme.payment(card, shop, time_s=NOW + 86_401)
        self.expect(clearing, scheme, shop, own(record), [card], "clock")

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"scheme": b"\x01\x02\x03\x04"}, "scheme"),
            ({"suite": 2}, "scheme"),
            ({"currency": 0x0840}, "currency"),
            ({"payee": b"\x00\x00\x00\x99" + bytes(4)}, "payee-unknown"),
            ({"payee": ISSUER + bytes(4)}, "payee-unknown"),
        ],
    )
    def test_what_belongs_elsewhere(
        self,
        clearing: Clearing,
        scheme: Scheme,
        card: Card,
        shop: Terminal,
        changes: dict[str, Any],
        code: str,
    ) -> None:
        record = scheme.payment(card, shop, **changes)
        self.expect(clearing, scheme, shop, own(record), [card], code)

    @pytest.mark.parametrize(
        "item",
        [
            (Kind.OWN_PAYMENT, b""),
            (Kind.OWN_PAYMENT, bytes(161)),
            (Kind.CARRIED, bytes(160)),
            (Kind.CARRIED, bytes(159)),
            (Kind.SALE_OPENED, bytes(3)),
            (Kind.SALE_CHANGED, bytes(3)),
            (Kind.ORDER_DELIVERED, bytes(13)),
            (Kind.ORDER_DELIVERED, bytes(15)),
            (9, b"?"),
        ],
    )
    def test_what_is_no_entry(self, clearing: Clearing, scheme: Scheme, shop: Terminal, item: Item) -> None:
        self.expect(clearing, scheme, shop, item, [], "malformed")

    def test_rejections_do_not_pile_up(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        till = Till(shop, []).add(own(scheme.payment(card, shop)), own(scheme.payment(card, shop)))
        clearing.accept(till.batch(1, 1))
        clearing.accept(till.batch(1, 2))
        assert len(clearing.report().rejected) == 2

    def test_a_row_rejected_for_want_of_a_certificate_counts_when_it_comes_again(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        till = Till(shop, []).add(own(scheme.payment(card, shop, 500)))
        assert codes(clearing.accept(till.batch())) == [(1, "certificate-missing")]
        till.cards = [card]
        assert clearing.accept(till.batch()).rejections == []
        report = clearing.report()
        assert payee_fen(report, shop) == 500
        assert report.rejected == []

    def test_what_is_booked_later_leaves_the_other_rejections(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        other = scheme.card(8)
        till = Till(shop, []).add(own(scheme.payment(card, shop)), own(scheme.payment(other, shop)))
        till.add(own(scheme.payment(card, shop)), own(scheme.payment(card, shop)))
        clearing.accept(till.batch())
        till.cards = [card]
        clearing.accept(till.batch(1, 3))
        assert [line.entry for line in clearing.report().rejected] == [2, 4]


def make_card(scheme: Scheme, *, authority: bytes, signer: Any = None) -> Card:
    key = scheme.suite.new_signing_key(scheme.entropy)
    number = b"\x00" * 7 + b"\x07"
    certificate = scheme.certificate(
        certificates.CARD, 2, authority, number + bytes(4), key, signer or scheme.issuer_key
    )
    return Card(number, key, certificate, certificates.digest(scheme.suite, certificate))


class TestDamagedRows:
    def test_a_record_that_survived_the_damage_is_credited(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        till = Till(shop, [card]).add(
            own(scheme.payment(card, shop, 500)), own(scheme.payment(card, shop, 70))
        )
        till.damage(1, b"\x06" + till.entries[0].payload[1:])
        receipt = clearing.accept(till.batch())
        assert receipt.rejections == []
        report = clearing.report()
        assert payee_fen(report, shop) == 570
        assert report.paid_not_granted == []  # a damaged state tells nothing
        assert [line.kind for line in report.evidence] == ["damaged"]

    def test_a_record_that_did_not_is_rejected_and_the_rest_booked(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        till = Till(shop, [card]).add(
            own(scheme.payment(card, shop, 500)), own(scheme.payment(card, shop, 70))
        )
        payload = bytearray(till.entries[0].payload)
        payload[60] ^= 4
        till.damage(1, bytes(payload))
        assert codes(clearing.accept(till.batch())) == [(1, "damaged")]
        assert payee_fen(clearing.report(), shop) == 70


class TestRefusedWhole:
    """Nothing of it is booked."""

    def refused(self, clearing: Clearing, batch: Batch, code: str) -> None:
        with pytest.raises(BatchRefused) as refusal:
            clearing.accept(batch)
        assert refusal.value.code == code
        report = clearing.report()
        assert (report.payments, report.terminals, report.payees, report.rejected) == (0, [], [], [])

    @pytest.fixture
    def batch(self, scheme: Scheme, card: Card, shop: Terminal) -> Batch:
        return Till(shop, [card]).add(*(own(scheme.payment(card, shop, 500)) for _ in range(3))).batch()

    @pytest.mark.parametrize(
        "changes",
        [
            {"first": 2},
            {"before": bytes(32)},
            {"time_s": NOW - 1},
            {"journal_head": 99},
            {"card_certificates": []},
            {"signature": bytes(64)},
        ],
    )
    def test_altered_on_the_way(self, clearing: Clearing, batch: Batch, changes: dict[str, Any]) -> None:
        self.refused(clearing, msgspec.structs.replace(batch, **changes), "altered")

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_an_entry_altered_on_the_way(self, clearing: Clearing, batch: Batch, place: int) -> None:
        entries = list(batch.entries)
        payload = bytearray(entries[place].payload)
        payload[52] ^= 1
        entries[place] = msgspec.structs.replace(entries[place], payload=bytes(payload))
        self.refused(clearing, msgspec.structs.replace(batch, entries=entries), "altered")

    def test_another_scheme(self, clearing: Clearing, batch: Batch) -> None:
        self.refused(clearing, msgspec.structs.replace(batch, scheme=bytes(4)), "scheme")

    def test_a_certificate_that_the_acquirer_did_not_sign(
        self, clearing: Clearing, scheme: Scheme, batch: Batch, shop: Terminal
    ) -> None:
        forged = certificates.signed(shop.uploader.certificate, scheme.issuer_key).to_bytes()
        self.refused(
            clearing, msgspec.structs.replace(batch, terminal_certificate=forged), "terminal-certificate"
        )

    def test_a_stolen_name(self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal) -> None:
        """Another terminal's key under this terminal's certificate."""
        thief = scheme.terminal(1, 9)
        thief.uploader = messages.Uploader(scheme.suite, shop.uploader.certificate, thief.uploader.key)
        self.refused(clearing, Till(thief, [card]).add(own(scheme.payment(card, shop))).batch(), "altered")

    @pytest.mark.parametrize("time_s", [NOW - 2 * YEAR, 0])
    def test_signed_before_the_certificate(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal, time_s: int
    ) -> None:
        till = Till(shop, [card]).add(own(scheme.payment(card, shop)))
        self.refused(clearing, till.batch(time_s=time_s), "terminal-certificate")

    def test_signed_after_the_certificate(self, scheme: Scheme, card: Card, shop: Terminal) -> None:
        late = Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW + 5 * YEAR)
        till = Till(shop, [card]).add(own(scheme.payment(card, shop)))
        self.refused(late, till.batch(time_s=NOW + 4 * YEAR), "terminal-certificate")

    def test_signed_in_the_future(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        till = Till(shop, [card]).add(own(scheme.payment(card, shop)))
        self.refused(clearing, till.batch(time_s=NOW + 86_401), "clock")

    def test_a_renewed_certificate_delivers_what_the_old_one_took(
        self, clearing: Clearing, scheme: Scheme, card: Card
    ) -> None:
        renewed = scheme.terminal(1, 1, not_before=NOW - 100)
        record = scheme.payment(card, renewed, 500, time_s=NOW - 30 * 86_400)
        receipt = clearing.accept(Till(renewed, [card]).add(own(record), time_s=NOW - 30 * 86_400).batch())
        assert receipt.rejections == []

    def test_an_operator_that_is_not_served(self, scheme: Scheme, batch: Batch) -> None:
        self.refused(Clearing("sqlite://", scheme.trust, {}, lambda: NOW), batch, "operator")

    def test_a_card_certificate_in_the_terminals_place(
        self, clearing: Clearing, scheme: Scheme, card: Card, batch: Batch
    ) -> None:
        clearing.book_load(scheme.load(card).raw, card.raw_certificate)
        with pytest.raises(BatchRefused):
            clearing.accept(msgspec.structs.replace(batch, terminal_certificate=scheme.acquirer.to_bytes()))

    def test_an_invented_chain_of_certificates(self, clearing: Clearing, card: Card) -> None:
        """The same names under another root."""
        stranger = Scheme(seed="stranger")
        terminal, other = stranger.terminal(1, 1), stranger.card(7)
        batch = Till(terminal, [other]).add(own(stranger.payment(other, terminal))).batch()
        self.refused(clearing, batch, "terminal-certificate")


class TestContinuity:
    @pytest.fixture
    def till(self, scheme: Scheme, card: Card, shop: Terminal) -> Till:
        return Till(shop, [card]).add(*(own(scheme.payment(card, shop, 100)) for _ in range(6)))

    def test_a_gap_is_shown_until_it_is_filled(self, clearing: Clearing, till: Till) -> None:
        clearing.accept(till.batch(1, 2))
        clearing.accept(till.batch(5, 6))
        assert clearing.report().terminals[0].gaps == [(3, 4)]
        clearing.accept(till.batch(3, 4))
        report = clearing.report()
        assert report.terminals[0].gaps == []
        assert report.terminals[0].highest == 6
        assert payee_fen(report, till.terminal) == 600
        assert report.evidence == []

    def test_overlapping_uploads_agree(self, clearing: Clearing, till: Till) -> None:
        for first, last in ((1, 4), (3, 6), (2, 5), (1, 6)):
            receipt = clearing.accept(till.batch(first, last))
            assert receipt.status == messages.GOOD
            assert receipt.highest == max(last, 4 if first == 1 else 6)
        report = clearing.report()
        assert payee_fen(report, till.terminal) == 600
        assert report.evidence == []

    @pytest.mark.parametrize("spans", [[(1, 6)], [(1, 3), (4, 6)], [(4, 6), (1, 3)], [(4, 4)]])
    def test_a_fork_is_proven_and_its_payments_are_credited(
        self,
        clearing: Clearing,
        till: Till,
        scheme: Scheme,
        card: Card,
        shop: Terminal,
        spans: list[tuple[int, int]],
    ) -> None:
        """An old copy was put back after entry 3 and went on selling."""
        for first, last in spans:
            clearing.accept(till.batch(first, last))
        before = payee_fen(clearing.report(), shop)
        old = Till(shop, [card])
        old.entries = list(till.entries[:3])
        old.add(own(scheme.payment(card, shop, 7)))
        receipt = clearing.accept(old.batch(4, 4))
        assert receipt.status == messages.FORKED
        report = clearing.report()
        assert payee_fen(report, shop) == before + 7
        kinds = [line.kind for line in report.evidence]
        assert "fork" in kinds
        assert report.terminals[0].flags >= 1
        assert report.conservation.ok

    def test_a_fork_shows_where_two_uploads_meet(
        self, clearing: Clearing, till: Till, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        clearing.accept(till.batch(1, 3))
        other = Till(shop, [card]).add(*(own(scheme.payment(card, shop, 7)) for _ in range(6)))
        assert clearing.accept(other.batch(4, 6)).status == messages.FORKED

    def test_a_beginning_that_is_not_the_terminals_own(self, clearing: Clearing, till: Till) -> None:
        till.genesis = bytes(32)
        items = [(Kind(entry.kind), entry.payload) for entry in till.entries]
        till.entries = []
        assert clearing.accept(till.add(*items).batch()).status == messages.FORKED

    def test_a_journal_that_ends_before_what_was_acknowledged_is_noted(
        self, clearing: Clearing, till: Till
    ) -> None:
        clearing.accept(till.batch(1, 6))
        receipt = clearing.accept(till.batch(1, 3, journal_head=3, time_s=NOW + 10))
        assert receipt.highest == 6  # by which the terminal knows
        assert [line.kind for line in clearing.report().evidence] == ["behind"]

    def test_an_old_upload_that_comes_late_is_no_sign_of_it(self, clearing: Clearing, till: Till) -> None:
        late = till.batch(1, 3, journal_head=3, time_s=NOW - 86_400)
        clearing.accept(till.batch(1, 6))
        clearing.accept(late)
        assert clearing.report().evidence == []

    def test_a_resent_upload_tells_of_what_came_since(self, clearing: Clearing, till: Till) -> None:
        first = clearing.accept(till.batch(1, 3))
        clearing.accept(till.batch(4, 6))
        again = clearing.accept(till.batch(1, 3))
        assert (first.highest, again.highest) == (3, 6)

    def test_two_terminals_chains_are_apart(
        self, clearing: Clearing, till: Till, scheme: Scheme, card: Card
    ) -> None:
        other = scheme.terminal(1, 2, retail=True)
        clearing.accept(till.batch())
        receipt = clearing.accept(Till(other, [card]).add(own(scheme.payment(card, other))).batch())
        assert receipt.status == messages.GOOD

    def test_gaps_of_a_card_are_counted(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        items = [own(scheme.payment(card, shop, sequence=n)) for n in (2, 3, 7)]
        clearing.accept(Till(shop, [card]).add(*items).batch())
        line = clearing.report().cards[0]
        assert (line.highest_sequence, line.missing) == (7, 4)


def test_gaps_of_spans() -> None:
    assert reports.held([]) == (0, [])
    assert reports.held([(1, 3), (4, 6)]) == (6, [])
    assert reports.held([(1, 9), (2, 3), (10, 12)]) == (12, [])
    assert reports.held([(2, 3), (3, 4), (8, 9)]) == (9, [(1, 1), (5, 7)])


class TestBooks:
    def test_a_balance_that_was_altered_is_told(
        self, tmp_path: Any, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        import sqlite3

        path = tmp_path / "ledger.sqlite"
        clearing = open_clearing(scheme, f"sqlite:///{path}")
        clearing.book_load(scheme.load(card).raw, card.raw_certificate)
        clearing.accept(Till(shop, [card]).add(own(scheme.payment(card, shop, 500))).batch())
        assert clearing.report().conservation.ok
        clearing.close()
        for statement in (
            "UPDATE accounts SET balance_fen = balance_fen + 1 WHERE kind = 3",
            "UPDATE transfers SET amount_fen = amount_fen + 1",
            "UPDATE records SET amount_fen = amount_fen + 1 WHERE kind = 209",
            "UPDATE accounts SET balance_fen = balance_fen + CASE kind WHEN 2 THEN 5 ELSE -5 END",
        ):
            copy = tmp_path / "copy.sqlite"
            copy.write_bytes(path.read_bytes())
            database = sqlite3.connect(copy)
            database.execute(statement)
            database.commit()
            database.close()
            altered = open_clearing(scheme, f"sqlite:///{copy}")
            report = altered.report()
            assert not report.conservation.ok, statement
            assert report.conservation.difference_fen > 0
            altered.close()
            copy.unlink()

    def test_it_is_there_after_a_restart(
        self, tmp_path: Any, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        url = f"sqlite:///{tmp_path}/ledger.sqlite"
        till = Till(shop, [card]).add(own(scheme.payment(card, shop, 500)))
        clearing = open_clearing(scheme, url)
        first = clearing.accept(till.batch())
        before = clearing.report()
        clearing.close()
        again = open_clearing(scheme, url)
        assert again.report() == before
        assert again.accept(till.batch()) == first
        again.close()

    def test_another_schemes_ledger_is_refused(self, tmp_path: Any, scheme: Scheme) -> None:
        url = f"sqlite:///{tmp_path}/ledger.sqlite"
        open_clearing(scheme, url).close()
        with pytest.raises(LedgerError, match="another scheme"):
            open_clearing(Scheme(scheme=b"else"), url)

    @pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/ledger.sqlite", "nosuch://x"])
    def test_a_database_that_cannot_be_opened(self, scheme: Scheme, url: str) -> None:
        with pytest.raises(LedgerError, match="cannot be opened"):
            open_clearing(scheme, url)

    def test_what_is_no_database(self, tmp_path: Any, scheme: Scheme) -> None:
        path = tmp_path / "ledger.sqlite"
        path.write_bytes(b"no database" * 1_000)
        with pytest.raises(LedgerError):
            open_clearing(scheme, f"sqlite:///{path}")

    def test_durability_is_what_sqlite_says_it_is(self, tmp_path: Any, scheme: Scheme) -> None:
        clearing = open_clearing(scheme, f"sqlite:///{tmp_path}/ledger.sqlite")
        with clearing._ledger.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        clearing.close()


class TestArrived:
    def test_up_to_the_first_gap(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        assert clearing.arrived(card.number) == (0, 0)
        load, first, missing, last = (
            scheme.load(card),
            scheme.payment(card, shop, 100),
            scheme.payment(card, shop, 20),
            scheme.payment(card, shop, 3),
        )
        clearing.book_load(load.raw, card.raw_certificate)
        till = Till(shop, [card]).add(own(last), own(first), own(missing))
        clearing.accept(till.batch(1, 2))
        assert clearing.arrived(card.number) == (2, 100)
        clearing.accept(till.batch(3, 3))
        assert clearing.arrived(card.number) == (4, 123)

    def test_a_clone_counts_once(
        self, clearing: Clearing, scheme: Scheme, card: Card, shop: Terminal
    ) -> None:
        items = [own(scheme.payment(card, shop, 50, sequence=n)) for n in (1, 1, 2)]
        clearing.accept(Till(shop, [card]).add(*items).batch())
        assert clearing.arrived(card.number) == (2, 100)


class TestOtherDatabases:
    """PostgreSQL is not run here; what would be sent to it is at least its SQL, with values in the right
    places.
    """

    def test_the_tables(self) -> None:
        for table in ledger.tables.sorted_tables:
            text = str(CreateTable(table).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
            assert "BLOB" not in text

    def test_rows_become_named_values_in_the_order_of_the_columns(self) -> None:
        class Engine:
            dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

        insert = Prepared(Engine(), sa.insert(ledger.records))  # type: ignore[arg-type]
        assert insert._names == list(ledger.RecordRow._fields)
        assert insert._bound(ledger.RecordRow(*range(10)))["raw"] == 8


@pytest.mark.parametrize("place", ["", "/{}/ledger.sqlite"])
def test_readers_and_writers_at_once(tmp_path: Path, scheme: Scheme, shop: Terminal, place: str) -> None:
    """Reports never see half a booking, nor stop one."""
    clearing = open_clearing(scheme, "sqlite://" + place.format(tmp_path))
    cards = [scheme.card(number) for number in range(1, 4)]
    till = Till(shop, cards).add(*(own(scheme.payment(card, shop, 10)) for card in cards * 20))
    seen: list[Report] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(clearing.report())

    reader = threading.Thread(target=read)
    reader.start()
    for first in range(1, 61, 3):
        clearing.accept(till.batch(first, first + 2))
    done.set()
    reader.join()
    assert all(report.conservation.ok and report.payments % 3 == 0 for report in seen)
    assert clearing.report().payments == 60
    clearing.close()
