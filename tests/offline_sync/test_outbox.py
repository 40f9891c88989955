"""What goes into an upload, and what has become of each row."""

import pytest

from offline_sync import chain, messages, outbox
from offline_sync.chain import Entry, Kind
from offline_sync.outbox import Limits, RowState
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import NOW, Card, Scheme, Terminal


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture(scope="module")
def terminal(scheme: Scheme) -> Terminal:
    return scheme.terminal(3, 4)


def entries_of(scheme: Scheme, terminal: Terminal, cards: list[Card]) -> list[Entry]:
    entries, hashed = [], bytes(32)
    for index, card in enumerate(cards, 1):
        payload = chain.pack_own(SaleState.GRANTED, scheme.payment(card, terminal).raw)
        hashed = chain.link(hashed, index, Kind.OWN_PAYMENT, NOW, payload)
        entries.append(Entry(index, Kind.OWN_PAYMENT, NOW, payload, hashed))
    return entries


def test_each_certificate_goes_once(scheme: Scheme, terminal: Terminal) -> None:
    one, two = scheme.card(1), scheme.card(2)
    known = {card.digest: card.raw_certificate for card in (one, two)}
    parcel = outbox.pack(entries_of(scheme, terminal, [one, two, one, one, two]), known.get)
    assert len(parcel.entries) == 5
    assert parcel.certificates == [one.raw_certificate, two.raw_certificate]


def test_a_certificate_that_is_not_there_is_left_out(scheme: Scheme, terminal: Terminal) -> None:
    parcel = outbox.pack(entries_of(scheme, terminal, [scheme.card(1)]), lambda _: None)
    assert len(parcel.entries) == 1
    assert parcel.certificates == []


def test_no_more_than_the_limit_of_entries(scheme: Scheme, terminal: Terminal) -> None:
    entries = entries_of(scheme, terminal, [scheme.card(1)] * 9)
    assert len(outbox.pack(entries, lambda _: None, Limits(entries=4)).entries) == 4


def test_no_more_than_the_limit_of_bytes_but_always_one(scheme: Scheme, terminal: Terminal) -> None:
    cards = [scheme.card(number) for number in range(1, 21)]
    known = {card.digest: card.raw_certificate for card in cards}
    entries = entries_of(scheme, terminal, cards)
    parcel = outbox.pack(entries, known.get, Limits(size_bytes=6_000))
    assert 1 < len(parcel.entries) < 20
    batch, _ = messages.seal_batch(
        terminal.uploader, bytes(32), parcel.entries, parcel.certificates, journal_head=20, time_s=NOW
    )
    assert len(messages.encode(batch)) <= 6_000
    assert len(outbox.pack(entries, known.get, Limits(size_bytes=1)).entries) == 1


def test_the_largest_upload_is_within_the_bound(scheme: Scheme, terminal: Terminal) -> None:
    """Every entry with a card of its own, as long as they come, all damaged."""
    payload = b"\x03" + scheme.payment(scheme.card(1), terminal).raw + bytes(52)
    entries = [
        Entry(
            index,
            3,
            2**32 - 1,
            payload[:17] + index.to_bytes(8, "big") + payload[25:],
            b"\xff" * 32,
            damaged=True,
        )
        for index in range(1, messages.MAX_ENTRIES + 1)
    ]
    parcel = outbox.pack(entries, lambda _: b"\xff" * 178, Limits(entries=messages.MAX_ENTRIES))
    batch, _ = messages.seal_batch(
        terminal.uploader, bytes(32), parcel.entries, parcel.certificates, journal_head=2**50, time_s=NOW
    )
    assert messages.decode_batch(messages.encode(batch)) == batch


@pytest.mark.parametrize(
    ("index", "damaged", "state"),
    [
        (1, False, RowState.ACKNOWLEDGED),
        (2, False, RowState.NEEDS_REVIEW),
        (3, False, RowState.SENDING),
        (4, False, RowState.QUEUED),
        (4, True, RowState.DAMAGED),
    ],
)
def test_what_has_become_of_a_row(index: int, damaged: bool, state: RowState) -> None:
    entry = Entry(index, 3, NOW, b"", b"", damaged)
    assert outbox.row_state(entry, acknowledged=2, sending_to=3, review={2}) == state
