"""The chain's formulas, against the bytes that docs/clearing.md gives, and what tells an altered entry."""

from hashlib import sha256

import pytest

from offline_sync import chain
from offline_sync.chain import Entry, Kind
from offline_sync.errors import MessageMalformed
from pos_terminal.sale import Sale, SaleState
from tests.offline_sync.factory import SCHEME

PAYEE, TERMINAL = bytes(range(8)), bytes(range(4))


def run(count: int) -> list[Entry]:
    hashed = chain.genesis(SCHEME, PAYEE, TERMINAL)
    entries = []
    for index in range(1, count + 1):
        payload = bytes([index]) * 20
        hashed = chain.link(hashed, index, Kind.CARRIED, 1_000 + index, payload)
        entries.append(Entry(index, Kind.CARRIED, 1_000 + index, payload, hashed))
    return entries


def changed(entry: Entry, **fields: object) -> Entry:
    values = {
        name: getattr(entry, name) for name in ("index", "kind", "time_s", "payload", "hash", "damaged")
    }
    return Entry(**(values | fields))


def test_genesis_and_link_are_the_documented_bytes() -> None:
    genesis = chain.genesis(SCHEME, PAYEE, TERMINAL)
    assert genesis == sha256(bytes.fromhex("4a01" + "0a0b0c0d" + "0001020304050607" + "00010203")).digest()
    wanted = sha256(genesis + (7).to_bytes(8, "big") + b"\x03" + (9).to_bytes(4, "big") + b"payload").digest()
    assert chain.link(genesis, 7, 3, 9, b"payload") == wanted


def test_a_delivered_order_is_the_documented_bytes() -> None:
    payload = chain.pack_delivered(b"CARD0001", 7, 0x9414)
    assert payload == b"CARD0001" + bytes.fromhex("000000079414")
    assert chain.parse_delivered(payload) == chain.Delivered(b"CARD0001", 7, 0x9414)


def test_genesis_differs_for_every_terminal() -> None:
    others = {
        chain.genesis(SCHEME, PAYEE, TERMINAL),
        chain.genesis(bytes(4), PAYEE, TERMINAL),
        chain.genesis(SCHEME, bytes(8), TERMINAL),
        chain.genesis(SCHEME, PAYEE, bytes(4)),
    }
    assert len(others) == 4


@pytest.mark.parametrize(
    "fields", [{"kind": 3}, {"time_s": 1}, {"payload": b"\x03" * 19 + b"\x02"}, {"payload": b""}]
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_an_altered_entry_is_told_and_no_other(place: int, fields: dict[str, object]) -> None:
    entries = run(5)
    entries[place] = changed(entries[place], **fields)
    examined = chain.examine(chain.genesis(SCHEME, PAYEE, TERMINAL), entries)
    assert [entry.damaged for entry in examined] == [i == place for i in range(5)]


def test_an_altered_hash_is_mended_by_the_entry_after_it() -> None:
    good = run(5)
    entries = list(good)
    entries[1] = changed(entries[1], hash=bytes(32))
    assert chain.examine(chain.genesis(SCHEME, PAYEE, TERMINAL), entries) == good


def test_an_altered_hash_at_the_end_is_damage() -> None:
    entries = run(3)
    entries[2] = changed(entries[2], hash=bytes(32))
    examined = chain.examine(chain.genesis(SCHEME, PAYEE, TERMINAL), entries)
    assert [entry.damaged for entry in examined] == [False, False, True]


def test_payloads_come_back_as_they_went() -> None:
    sale = Sale(b"r" * 12, 1250, 0x0156, 2, 77, 5, card=b"c" * 8)
    opened = chain.parse_opened(chain.pack_opened(sale))
    assert (opened.reference, opened.amount_fen, opened.currency) == (sale.reference, 1250, 0x0156)
    assert (opened.profile, opened.transaction, opened.card) == (2, 77, b"c" * 8)
    change = chain.parse_changed(chain.pack_changed(sale.reference, SaleState.GIVEN_UP, "客人走了"))
    assert (change.reference, change.state, change.reason) == (sale.reference, SaleState.GIVEN_UP, "客人走了")
    assert chain.parse_own(chain.pack_own(SaleState.GRANTED, b"x" * 160)) == (SaleState.GRANTED, b"x" * 160)


def test_a_long_reason_is_cut_at_a_whole_character() -> None:
    payload = chain.pack_changed(b"r" * 12, SaleState.GIVEN_UP, "元" * 300)
    assert len(payload) <= chain.PAYLOAD_LIMIT
    assert chain.parse_changed(payload).reason == "元" * (chain.REASON_LIMIT // 3)


@pytest.mark.parametrize(
    ("parse", "payload"),
    [
        (chain.parse_opened, b""),
        (chain.parse_opened, bytes(32)),
        (chain.parse_delivered, bytes(13)),
        (chain.parse_delivered, bytes(15)),
        (chain.parse_changed, bytes(12)),
        (chain.parse_changed, bytes(13)),  # state 0
        (chain.parse_changed, bytes(12) + b"\x05\xff"),  # not UTF-8
        (chain.parse_changed, bytes(12) + b"\x05" + b"x" * 201),
        (chain.parse_own, bytes(161)),
        (chain.parse_own, b"\x03" + bytes(159)),
        (chain.parse_own, b"\x63" + bytes(160)),
    ],
)
def test_what_is_no_payload_is_refused(parse, payload: bytes) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MessageMalformed):
        parse(payload)
