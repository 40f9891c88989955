"""What belongs to one suite at the clearing of the other: refused, whole or row by row, and said why. The
schemes of both suites have the same number here, and the same operators."""

from dataclasses import replace

import pytest

from hardwallet import certificates
from hardwallet.certificates import Certificate
from hardwallet.gm import Gm
from hardwallet.records import Record
from hardwallet.suites import GM, INTERNATIONAL, International
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.clearing import Clearing
from offline_sync.errors import BatchRefused, RecordRefused
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import ACQUIRER, NOW, SCHEME, Scheme
from tests.offline_sync.test_clearing import Till, carried, own

NUMBERS = (INTERNATIONAL, GM)


@pytest.fixture(scope="module")
def schemes() -> dict[int, Scheme]:
    """By suite byte."""
    made = (Scheme(suite=International(deterministic=True)), Scheme(suite=Gm(deterministic=True)))
    assert {scheme.trust.scheme for scheme in made} == {SCHEME}
    return {scheme.suite.number: scheme for scheme in made}


def open_clearing(scheme: Scheme) -> Clearing:
    """In memory."""
    return Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)


def refused(clearing: Clearing, till: Till) -> list[str]:
    """The codes of what was refused of an upload; nothing of it was booked."""
    receipt = clearing.accept(till.batch())
    assert clearing.report().payments == 0
    return [rejection.code for rejection in receipt.rejections]


@pytest.mark.parametrize("suite", NUMBERS)
def test_an_upload_to_the_others_clearing(schemes: dict[int, Scheme], suite: int) -> None:
    """Its terminal's certificate is of the other suite."""
    theirs, ours = schemes[suite], schemes[3 - suite]
    bus, card = theirs.terminal(2, 1), theirs.card(7)
    till = Till(bus, [card]).add(own(theirs.payment(card, bus)))
    clearing = open_clearing(ours)
    with pytest.raises(BatchRefused, match="the terminal's certificate is of suite") as caught:
        clearing.accept(till.batch())
    assert caught.value.code == "terminal-certificate"
    assert clearing.report().payments == 0
    assert open_clearing(theirs).accept(till.batch()).rejections == []


@pytest.mark.parametrize("suite", NUMBERS)
def test_a_record_of_the_other_suite_in_a_good_upload(schemes: dict[int, Scheme], suite: int) -> None:
    """Own and carried, the card's certificate with it; what is good beside it is booked."""
    ours, theirs = schemes[suite], schemes[3 - suite]
    bus, card, stranger = ours.terminal(2, 1), ours.card(7), theirs.card(8)
    foreign = theirs.payment(stranger, bus)
    clearing = open_clearing(ours)
    assert (
        refused(clearing, Till(bus, [card, stranger]).add(own(foreign), carried(foreign))) == ["scheme"] * 2
    )
    good = Till(ours.terminal(2, 2), [card, stranger]).add(carried(foreign), carried(ours.payment(card, bus)))
    receipt = clearing.accept(good.batch())
    assert [(one.index, one.code) for one in receipt.rejections] == [(1, "scheme")]
    assert "another scheme or suite" in receipt.rejections[0].reason
    assert clearing.report().payments == 1


@pytest.mark.parametrize("suite", NUMBERS)
def test_a_record_whose_suite_byte_was_altered(schemes: dict[int, Scheme], suite: int) -> None:
    """Nothing but that byte, either way: it is signed as well."""
    ours, theirs = schemes[suite], schemes[3 - suite]
    bus, card, stranger = ours.terminal(2, 1), ours.card(7), theirs.card(8)

    def altered(record: Record) -> tuple[Kind, bytes]:
        raw = record.raw
        return Kind.OWN_PAYMENT, chain.pack_own(SaleState.GRANTED, raw[:2] + bytes((3 - raw[2],)) + raw[3:])

    till = Till(bus, [card, stranger])
    till.add(altered(ours.payment(card, bus)), altered(theirs.payment(stranger, bus)))
    # The stranger's certificate is of the other suite, so it is none here.
    assert refused(open_clearing(ours), till) == ["scheme", "certificate-missing"]


@pytest.mark.parametrize("suite", NUMBERS)
def test_a_key_of_the_other_curve(schemes: dict[int, Scheme], suite: int) -> None:
    """In a card's certificate that the issuer really signed, and as what signed a record of a good card."""
    ours, theirs = schemes[suite], schemes[3 - suite]
    bus, card, stranger = ours.terminal(2, 1), ours.card(7), theirs.card(7)
    body: Certificate = replace(card.certificate, public=stranger.key.public)
    odd = certificates.signed(body, ours.issuer_key)
    mixed = replace(card, key=stranger.key, certificate=odd, digest=certificates.digest(ours.suite, odd))
    forged = replace(card, key=stranger.key)
    till = Till(bus, [card, mixed]).add(own(ours.payment(mixed, bus)), own(ours.payment(forged, bus)))
    assert refused(open_clearing(ours), till) == ["certificate-missing", "signature"]


@pytest.mark.parametrize("suite", NUMBERS)
def test_an_order_and_a_receipt_of_the_other_suite(schemes: dict[int, Scheme], suite: int) -> None:
    """From an issuer who took the wrong clearing."""
    theirs, clearing = schemes[3 - suite], open_clearing(schemes[suite])
    card = theirs.card(7)
    order = theirs.load_order(card, 1, 500)
    with pytest.raises(RecordRefused, match="no load order of this suite"):
        clearing.book_order(order)
    with pytest.raises(RecordRefused, match="did not sign this load order"):
        clearing.book_order(order[:2] + bytes((suite,)) + order[3:])
    with pytest.raises(RecordRefused, match="the card's certificate is of suite"):
        clearing.book_load(theirs.load(card).raw, card.raw_certificate)
    assert clearing.report().conservation.ok


def test_a_whole_day_in_gm(schemes: dict[int, Scheme]) -> None:
    """Load, payments, a carried one: the same books as in the international suite."""
    reports = []
    for scheme in schemes.values():
        clearing = open_clearing(scheme)
        shop, bus, card = scheme.terminal(1, 1, retail=True), scheme.terminal(2, 1), scheme.card(7)
        clearing.book_order(scheme.load_order(card, 1, 20_000))
        assert clearing.book_load(scheme.load(card).raw, card.raw_certificate)
        paid = [scheme.payment(card, shop, 1_250), scheme.payment(card, bus, 200)]
        tills = [Till(shop, [card]).add(own(paid[0])), Till(bus, [card]).add(own(paid[1]), carried(paid[0]))]
        for till in tills:
            assert clearing.accept(till.batch()).rejections == []
        reports.append(clearing.report())
    assert reports[0] == reports[1]
    assert reports[0].conservation.ok
    assert reports[0].payments == 2
