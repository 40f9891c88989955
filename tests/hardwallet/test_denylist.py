"""The denylist's format: made, read and applied; and whatever is not exactly that is refused."""

import random
import struct
from array import array
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hardwallet import denylist, keys
from hardwallet.denylist import MAX_LENGTH, Delta, Denylist
from hardwallet.errors import DenylistRefused
from hardwallet.issuing import ACQUIRER, ISSUER, Scheme, create_scheme, open_scheme
from hardwallet.suites import GM, International, SigningKey, suite_by_number

HEADER = struct.Struct(">BBBB4s4sIIIIII32s32s")  # the page's table, not our code
SIGNED, LISTS = 100, 164


def card(number: int, operator: bytes = ISSUER) -> bytes:
    return operator + number.to_bytes(4, "big")


class Issuer:
    """Makes lists of the test's scheme, good ones and others."""

    def __init__(self, scheme: Scheme, now: int) -> None:
        self.trust = scheme.trust.bundle
        self.suite = scheme.trust.suite
        self.key = scheme.key("issuer")
        self.acquirer = scheme.key("acquirer")
        self.now = now + 5

    def full(self, *numbers: int, version: int = 1, operator: bytes = ISSUER) -> bytes:
        cards = [card(number, operator) for number in numbers]
        return denylist.build_full(
            self.suite, self.trust.scheme, operator, version, self.now, cards, self.key
        )

    def held(self, *numbers: int, version: int = 1) -> Denylist:
        found = denylist.parse(self.full(*numbers, version=version), self.trust)
        assert isinstance(found, Denylist)
        return found

    def delta(self, old: Denylist, add: list[int], remove: list[int], version: int = 0) -> bytes:
        return denylist.build_delta(
            old,
            version or old.version + 1,
            self.now + 1,
            [card(n) for n in add],
            [card(n) for n in remove],
            self.suite,
            self.trust.scheme,
            self.key,
        )

    def parsed(self, raw: bytes) -> Delta:
        found = denylist.parse(raw, self.trust)
        assert isinstance(found, Delta)
        return found

    def forged(self, fields: dict[str, object], lists: bytes, key: SigningKey | None = None) -> bytes:
        """A file with any header and any lists; its hashes fit unless they are given, and it is signed."""
        kept = {
            "kind": 0xF4,
            "form": 1,
            "suite": 1,
            "spare": 0,
            "scheme": self.trust.scheme,
            "operator": ISSUER,
            "version": 1,
            "base": 0,
            "time": self.now,
            "added": len(lists) // 8,
            "removed": 0,
            "total": len(lists) // 8,
            "result": sha256(lists).digest(),
            "lists": sha256(lists).digest(),
        }
        header = HEADER.pack(*(kept | fields).values())
        return header + (key or self.key).sign(header) + lists


@pytest.fixture
def issuer(scheme: Scheme, now: int) -> Issuer:
    return Issuer(scheme, now)


def refused(act: Callable[..., object], *given: object) -> DenylistRefused:
    with pytest.raises(DenylistRefused) as raised:
        act(*given)
    assert str(raised.value)
    return raised.value


# ---------------------------------------------------------------------- good ones


def test_full(issuer: Issuer) -> None:
    raw = issuer.full(7, 3, 2**32 - 1, 7)
    held = denylist.parse(raw, issuer.trust)
    assert isinstance(held, Denylist)
    assert (held.scheme, held.operator, held.version, held.time_s) == (
        *(issuer.trust.scheme, ISSUER, 1, issuer.now),
    )
    assert list(held) == [card(3), card(7), card(2**32 - 1)]
    assert len(held) == 3
    for there in (3, 7, 2**32 - 1):
        assert card(there) in held
    for not_there in (0, 1, 4, 8, 2**32 - 2):
        assert card(not_there) not in held
    assert card(7, b"\0\0\1\2") not in held
    assert card(7)[4:] not in held
    assert card(7) + b"\0" not in held


def test_the_bytes_are_those_of_the_page(issuer: Issuer) -> None:
    raw = issuer.full(3, 7)
    lists = card(3) + card(7)
    digest = sha256(lists).digest()
    assert HEADER.unpack(raw[:SIGNED]) == (
        *(0xF4, 1, 1, 0, issuer.trust.scheme, ISSUER, 1, 0, issuer.now, 2, 0, 2, digest, digest),
    )
    assert raw[LISTS:] == lists
    issuer.trust.operator_key(ISSUER).verify(raw[SIGNED:LISTS], raw[:SIGNED])


def test_empty(issuer: Issuer) -> None:
    held = issuer.held()
    assert len(held) == 0
    assert list(held) == []
    assert card(1) not in held
    assert denylist.apply(held, issuer.parsed(issuer.delta(held, [1], []))).numbers == array("I", [1])


def test_delta(issuer: Issuer) -> None:
    held = issuer.held(2, 4, 6)
    raw = issuer.delta(held, [1, 5, 9, 4], [2, 6, 100])
    fields = HEADER.unpack(raw[:SIGNED])
    assert fields[6:12] == (2, 1, issuer.now + 1, 3, 2, 4)  # 4 is there already, 100 never was
    made = denylist.apply(held, issuer.parsed(raw))
    assert list(made) == [card(1), card(4), card(5), card(9)]
    assert (made.version, made.time_s) == (2, issuer.now + 1)
    assert list(held) == [card(2), card(4), card(6)]  # the old one is not touched
    assert fields[12] == sha256(b"".join(made)).digest()


def test_a_delta_without_changes_renews_the_date(issuer: Issuer) -> None:
    held = issuer.held(2)
    made = denylist.apply(held, issuer.parsed(issuer.delta(held, [], [])))
    assert (list(made), made.version, made.time_s) == ([card(2)], 2, held.time_s + 1)


def test_any_deltas_give_what_a_set_gives(issuer: Issuer) -> None:
    """Compared with Python's sets, over random changes, at the edges too."""
    rng = random.Random(20)
    held, cards = issuer.held(), set[bytes]()
    for _ in range(60):
        pool = [card(rng.choice((0, 2**32 - 1, rng.randrange(40)))) for _ in range(rng.randrange(8))]
        add = set(rng.sample(pool, len(pool) // 2))
        remove = set(pool) - add
        raw = denylist.build_delta(
            *(held, held.version + 1, issuer.now, add, remove, issuer.suite, issuer.trust.scheme, issuer.key)
        )
        held = denylist.apply(held, issuer.parsed(raw))
        cards = (cards | add) - remove
        assert list(held) == sorted(cards)
        assert all((card(n) in held) == (card(n) in cards) for n in range(42))


def test_deltas_stand_one_behind_the_other(issuer: Issuer) -> None:
    held = issuer.held(2)
    first = issuer.delta(held, [3], [])
    second = issuer.delta(denylist.apply(held, issuer.parsed(first)), [4], [2])
    assert list(denylist.split(first + second)) == [first, second]
    assert list(denylist.split(b"")) == []
    assert refused(lambda: list(denylist.split(first + second[:-1]))).code == "malformed"
    assert refused(lambda: list(denylist.split(first + second[:50]))).code == "malformed"


def test_a_snapshot_is_as_good_as_the_changes(issuer: Issuer) -> None:
    held = issuer.held(2, 4)
    raw = issuer.delta(held, [3], [2])
    made = denylist.apply(held, issuer.parsed(raw))
    kept = denylist.snapshot(made, raw)
    assert denylist.parse_snapshot(kept, issuer.trust) == made
    assert denylist.parse_snapshot(issuer.full(2, 4), issuer.trust) == held
    for at in range(len(kept)):
        altered = kept[:at] + bytes((kept[at] ^ 1,)) + kept[at + 1 :]
        refused(denylist.parse_snapshot, altered, issuer.trust)
    refused(lambda: denylist.parse_snapshot(kept[:-8], issuer.trust))
    refused(lambda: denylist.parse_snapshot(kept + kept[-8:], issuer.trust))


# ---------------------------------------------------------------------- bad ones


def test_every_flipped_byte_is_refused(issuer: Issuer) -> None:
    held = issuer.held(2, 4, 6)
    for raw in (issuer.full(2, 4, 6), issuer.delta(held, [1], [2])):
        for at in range(len(raw)):
            for bit in (1, 0x80):
                altered = raw[:at] + bytes((raw[at] ^ bit,)) + raw[at + 1 :]
                refused(denylist.parse, altered, issuer.trust)


def test_every_shorter_or_longer_file_is_refused(issuer: Issuer) -> None:
    raw = issuer.full(2, 4)
    for length in range(len(raw)):
        assert refused(denylist.parse, raw[:length], issuer.trust).code == "malformed"
    for more in (b"\0", card(9)):
        assert refused(denylist.parse, raw + more, issuer.trust).code == "malformed"


FORGERIES: list[tuple[str, dict[str, object], str, str]] = [
    ("another type", {"kind": 0xF2}, "malformed", "no denylist"),
    ("another form", {"form": 2}, "malformed", "form 2"),
    ("a spare byte", {"spare": 1}, "malformed", "form"),
    ("another suite", {"suite": 2}, "scheme", "suite 02"),
    ("another scheme", {"scheme": b"\xaa\xbb\xcc\xdd"}, "scheme", "aabbccdd"),
    ("an unknown issuer", {"operator": b"\x00\x00\x09\x09"}, "operator", "not known"),
    ("an acquirer", {"operator": ACQUIRER}, "operator", "issues no cards"),
    ("a date before the issuer's certificate", {"time": 5}, "operator", "dates"),
    ("version 0", {"version": 0}, "malformed", "contradicts"),
    ("another count", {"total": 3}, "malformed", "contradicts"),
    ("another result", {"result": bytes(32)}, "malformed", "contradicts"),
    ("other lists", {"lists": bytes(32)}, "signature", "not those that its issuer signed"),
    ("a base of its own version", {"version": 4, "base": 4}, "malformed", "back"),
    ("a base of a later version", {"version": 4, "base": 5}, "malformed", "back"),
    ("more than it holds", {"added": 3}, "malformed", "cut off"),
    ("less than it holds", {"added": 1}, "malformed", "appended"),
    ("cards removed from nothing", {"added": 1, "removed": 1, "total": 1}, "malformed", "contradicts"),
    ("a count beyond all bounds", {"total": 1_000_001}, "too-long", "1000000"),
    ("numbers whose sum runs over", {"added": 2**32 - 1, "removed": 3}, "malformed", "cut off"),
]


@pytest.mark.parametrize(
    ("fields", "code", "words"), [row[1:] for row in FORGERIES], ids=[r[0] for r in FORGERIES]
)
def test_a_header_that_is_signed_but_wrong(
    issuer: Issuer, fields: dict[str, object], code: str, words: str
) -> None:
    lists = card(2) + card(4)
    assert isinstance(denylist.parse(issuer.forged({}, lists), issuer.trust), Denylist)
    key = issuer.acquirer if fields.get("operator") == ACQUIRER else None
    error = refused(lambda: denylist.parse(issuer.forged(fields, lists, key), issuer.trust))
    assert error.code == code
    assert words in str(error)


@pytest.mark.parametrize(
    ("lists", "code"),
    [
        (card(4) + card(2), "malformed"),
        (card(4) + card(4), "malformed"),
        (card(4) + card(5, b"\0\0\1\2"), "operator"),
        (card(3, b"\0\0\1\0") + card(4), "operator"),
    ],
)
def test_cards_that_are_not_in_order_or_not_the_issuers(issuer: Issuer, lists: bytes, code: str) -> None:
    assert refused(lambda: denylist.parse(issuer.forged({}, lists), issuer.trust)).code == code


def test_signed_by_somebody_else(issuer: Issuer) -> None:
    other = International().new_signing_key(random.Random(5).randbytes)
    for key in (other, issuer.acquirer):
        error = refused(denylist.parse, issuer.forged({}, card(2), key), issuer.trust)
        assert error.code == "signature"
    raw = issuer.full(2)
    unsigned = raw[:SIGNED] + bytes(64) + raw[LISTS:]
    assert refused(lambda: denylist.parse(unsigned, issuer.trust)).code == "signature"


def test_of_another_scheme(issuer: Issuer, tmp_path: Path, now: int) -> None:
    """The same operator number in another scheme, all properly signed there."""
    other = create_scheme(tmp_path / "other", "other", International(), b"p", now, random.Random(9).randbytes)
    error = refused(lambda: denylist.parse(issuer.full(2), other.bundle))
    assert (error.code, issuer.trust.scheme.hex() in str(error)) == ("scheme", True)


def test_in_the_gm_suite(issuer: Issuer, tmp_path: Path, now: int) -> None:
    """Signed with SM2; its hashes are SHA-256 as in every suite; the other suite takes none of it."""
    suite = suite_by_number(GM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", 2)
        create_scheme(tmp_path / "gm", "gm", suite, b"p", now, random.Random(11).randbytes)
        with open_scheme(tmp_path / "gm", b"p", random.Random(12).randbytes) as scheme:
            trust, key = scheme.trust.bundle, scheme.key("issuer")
    raw = denylist.build_full(suite, trust.scheme, ISSUER, 1, now, [card(2), card(4)], key)
    held = denylist.parse(raw, trust)
    assert isinstance(held, Denylist)
    assert HEADER.unpack(raw[:SIGNED])[12] == sha256(card(2) + card(4)).digest()
    change = denylist.build_delta(held, 2, now, [card(3)], [], suite, trust.scheme, key)
    delta = denylist.parse(change, trust)
    assert isinstance(delta, Delta)
    assert list(denylist.apply(held, delta)) == [card(2), card(3), card(4)]
    altered = raw[:40] + bytes((raw[40] ^ 1,)) + raw[41:]
    assert refused(denylist.parse, altered, trust).code == "signature"
    assert refused(denylist.parse, raw, issuer.trust).code == "scheme"
    assert refused(denylist.parse, issuer.forged({"suite": GM}, card(2)), issuer.trust).code == "scheme"


# ---------------------------------------------------------------------- what does not follow


def test_deltas_that_do_not_follow(issuer: Issuer) -> None:
    held = issuer.held(2, 4, version=5)
    good = issuer.parsed(issuer.delta(held, [3], []))
    rows: list[tuple[dict[str, Any], str]] = [
        ({"version": 5, "base": 4}, "older"),
        ({"version": 4, "base": 3}, "older"),
        ({"version": 7, "base": 6}, "base"),
        ({"version": 6, "base": 4}, "base"),
        ({"operator": b"\0\0\1\2"}, "operator"),
        ({"scheme": b"\0\0\0\0"}, "scheme"),
        ({"count": 2}, "base"),
        ({"result_hash": bytes(32)}, "base"),
        ({"added": array("I", [4])}, "base"),  # is on the list already
    ]
    for changes, code in rows:
        error = refused(denylist.apply, held, replace(good, **changes))
        assert error.code == code
    assert len(denylist.apply(held, good)) == 3


def test_a_delta_onto_another_list_of_the_same_version(issuer: Issuer) -> None:
    """Two lists with one number: the result's hash tells."""
    delta = issuer.parsed(issuer.delta(issuer.held(2, 4), [3], []))
    assert refused(lambda: denylist.apply(issuer.held(2, 5), delta)).code == "base"


def test_what_an_issuer_must_not_make(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = issuer.held(2, version=3)
    assert (
        refused(lambda: issuer.full(2, operator=ACQUIRER) and issuer.delta(held, [], [], 3)).code == "older"
    )
    assert refused(lambda: issuer.delta(held, [4], [4])).code == "malformed"
    strange = [card(2, b"\0\0\1\2")], [card(2) + b"\0"], [b""]
    for cards in strange:
        given = issuer.suite, issuer.trust.scheme, ISSUER, 1, issuer.now, cards, issuer.key
        assert refused(denylist.build_full, *given).code == "operator"
    monkeypatch.setattr(denylist, "MAX_CARDS", 2)
    assert refused(lambda: issuer.full(1, 2, 3)).code == "too-long"
    assert refused(lambda: issuer.delta(issuer.held(1, 2), [3], [])).code == "too-long"


# ---------------------------------------------------------------------- files


def test_a_file_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte is never read: opening it would fail the test."""
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(2**30)

    def never(*_given: object) -> None:
        raise AssertionError("the file was opened")

    monkeypatch.setattr(Path, "open", never)
    error = refused(lambda: denylist.read_file(path))
    assert error.code == "too-long"
    assert str(MAX_LENGTH) in str(error)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")
def test_a_file_without_an_end_is_refused() -> None:
    """Its size says nothing; no more than the longest file is read of it."""
    assert refused(lambda: denylist.read_file(Path("/dev/zero"))).code == "too-long"


def test_the_longest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "longest"
    with path.open("wb") as file:
        file.truncate(MAX_LENGTH)
    assert len(denylist.read_file(path)) == MAX_LENGTH
    with path.open("ab") as file:
        file.write(b"\0")
    assert refused(lambda: denylist.read_file(path)).code == "too-long"
