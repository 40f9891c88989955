"""Denylists and orders that an issuer publishes: nothing twice under one number, wherever power is cut."""

import errno
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hardwallet import denylist, keys
from hardwallet import messages as m
from hardwallet.certificates import TrustBundle
from hardwallet.denylist import Denylist
from hardwallet.errors import DenylistRefused, IssuingError, Malformed
from hardwallet.issuing import ISSUER, Scheme, open_scheme
from hardwallet.limits import tiers
from hardwallet.publishing import DELTAS, DENYLIST, acknowledge_value, limits_value
from tests.hardwallet.conftest import PASSPHRASE
from tests.hardwallet.cuts import Cut, cut_at_step

CARDS = [ISSUER + number.to_bytes(4, "big") for number in range(1, 6)]


class Desk:
    """An issuer's folder; each `open` is a new process."""

    def __init__(self, folder: Path, now: int) -> None:
        self.folder = folder
        self.now = now
        self.journal = folder / "issuing.jsonl"
        self._random = random.Random(4)

    @contextmanager
    def open(self) -> Iterator[Scheme]:
        """The scheme."""
        with open_scheme(self.folder, PASSPHRASE, self._random.randbytes) as scheme:
            yield scheme

    def publish(self, *add: bytes, remove: tuple[bytes, ...] = ()) -> int:
        """A process that publishes; the version."""
        with self.open() as scheme:
            return scheme.publish_denylist(add, remove, self.now).version

    def published(self) -> Denylist:
        """What a process finds in force, verified."""
        with self.open() as scheme:
            return whole(scheme.denylist(self.now), scheme.trust.bundle)

    def orders(self) -> list[m.CardOrder]:
        """The orders that would be given to terminals."""
        with self.open() as scheme:
            return [m.parse_card_order(raw) for raw in scheme.card_orders()]

    def order(self, card: bytes = CARDS[0], kind: int = m.KIND_BLOCK, value: bytes = b"") -> bytes:
        """A process that writes an order."""
        with self.open() as scheme:
            return scheme.card_order(card, kind, value, self.now)


def whole(raw: bytes, bundle: TrustBundle) -> Denylist:
    """A full list, verified."""
    found = denylist.parse(raw, bundle)
    assert isinstance(found, Denylist)
    return found


@pytest.fixture
def desk(scheme_folder: Path, quick_folder: Path, now: int, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A copy of the scheme that has issued five cards."""
    monkeypatch.setattr(keys, "_COST", 2)
    folder = quick_folder / "scheme"
    shutil.copytree(scheme_folder, folder)
    (folder / "issuing.jsonl").unlink(missing_ok=True)
    made = Desk(folder, now)
    with made.open() as scheme:
        for _ in CARDS:
            scheme.new_card(5, now)
    return made


# ---------------------------------------------------------------------- denylists


def test_the_first_list_is_empty(desk: Desk) -> None:
    with desk.open() as scheme:
        assert scheme.denylist_header() is None
        assert scheme.denied_cards() == []
        raw = scheme.denylist(desk.now)
        assert scheme.denylist(desk.now + 9) == raw
        found = whole(raw, scheme.trust.bundle)
    assert (found.version, found.time_s, list(found)) == (1, desk.now, [])
    assert (desk.folder / DENYLIST).read_bytes() == raw


def test_each_list_comes_whole_and_as_a_change(desk: Desk) -> None:
    with desk.open() as scheme:
        bundle = scheme.trust.bundle
        first = scheme.publish_denylist(CARDS[:3], [], desk.now)
        assert first.delta is None
        held = whole(first.full, bundle)
        assert list(held) == CARDS[:3]
        steps = (((CARDS[4],), (CARDS[0],)), ((), ()), ((CARDS[4],), (CARDS[0],)))
        for number, (add, remove) in enumerate(steps, 2):
            made = scheme.publish_denylist(add, remove, desk.now + number)
            assert made.version == number
            assert made.delta is not None
            change = denylist.parse(made.delta, bundle)
            assert isinstance(change, denylist.Delta)
            held = denylist.apply(held, change)
            assert held == whole(made.full, bundle)
            assert (held.version, held.time_s) == (number, desk.now + number)
            assert list(held) == [CARDS[1], CARDS[2], CARDS[4]]
        deltas = list(scheme.denylist_deltas())
    assert [denylist.parse_header(raw).version for raw in deltas] == [2, 3, 4]
    assert list(desk.published()) == [CARDS[1], CARDS[2], CARDS[4]]


def test_a_clock_that_went_back_dates_no_list_before_the_last(desk: Desk) -> None:
    desk.publish()
    desk.now -= 86_400
    desk.publish()
    assert desk.published().time_s == desk.now + 86_400


@pytest.mark.parametrize("card", [b"\0\0\x02\x01\0\0\0\1", ISSUER, ISSUER + bytes(5)])
def test_a_card_of_another_issuer_is_refused_and_nothing_published(desk: Desk, card: bytes) -> None:
    desk.publish(CARDS[0])
    before = desk.journal.read_bytes()
    with pytest.raises(DenylistRefused, match="only cards of operator 00000101"):
        desk.publish(card)
    assert desk.journal.read_bytes() == before
    assert desk.published().version == 1


@pytest.mark.parametrize("first", [True, False], ids=["the first", "a later one"])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_publishing_cut_off_anywhere(desk: Desk, first: bool, done: bool) -> None:
    """What was ever found in force under a version stays what that version is; numbers only rise."""
    if not first:
        desk.publish(CARDS[0])
    known: dict[int, Denylist] = {}
    highest = step = 0
    while True:
        step += 1
        try:
            with cut_at_step(step, done=done):
                highest = max(highest, desk.publish(CARDS[step % 5], remove=(CARDS[(step + 2) % 5],)))
            break
        except Cut:
            found = desk.published()
            assert known.setdefault(found.version, found) == found
            assert found.version >= highest
            highest = found.version
    assert step > 5
    with desk.open() as scheme:
        bundle = scheme.trust.bundle
        for raw in scheme.denylist_deltas():
            change = denylist.parse(raw, bundle)
            assert isinstance(change, denylist.Delta)
            if change.base in known and change.version in known:
                assert denylist.apply(known[change.base], change) == known[change.version]
    lines = [line for line in desk.journal.read_text().splitlines() if '"denylist"' in line]
    versions = [int(line.split('"version":')[1].split(",")[0]) for line in lines]
    assert versions == sorted(set(versions))


def test_the_journals_last_line_torn_anywhere(desk: Desk) -> None:
    """The version whose line was torn was never given out; it is made anew."""
    desk.publish(CARDS[0])
    before, first = desk.journal.read_bytes(), (desk.folder / DENYLIST).read_bytes()
    desk.publish(CARDS[1])
    after = desk.journal.read_bytes()
    for end in range(len(before), len(after)):
        desk.journal.write_bytes(after[:end])
        (desk.folder / DENYLIST).rename(desk.folder / "denylist.next")  # as the cut leaves them
        (desk.folder / DENYLIST).write_bytes(first)
        assert desk.publish(CARDS[2]) == 2
        assert list(desk.published()) == [CARDS[0], CARDS[2]]


@pytest.mark.parametrize("loss", ["missing", "altered", "older"])
def test_a_lost_list_is_noticed(desk: Desk, loss: str) -> None:
    desk.publish(CARDS[0])
    path = desk.folder / DENYLIST
    older = path.read_bytes()
    desk.publish(CARDS[1])
    good = path.read_bytes()
    if loss == "missing":
        path.unlink()
    else:
        path.write_bytes(older if loss == "older" else good[:-1] + bytes((good[-1] ^ 1,)))
    before = desk.journal.read_bytes()
    for act in (desk.published, desk.publish):
        with pytest.raises(IssuingError, match=r"denylist 2, which was published last; copy that list back"):
            act()
    assert desk.journal.read_bytes() == before
    path.write_bytes(good)
    assert desk.publish() == 3


def test_a_lost_change_is_left_out(desk: Desk) -> None:
    for card in CARDS[:3]:
        desk.publish(card)
    (desk.folder / DELTAS / "2.bin").unlink()
    with desk.open() as scheme:
        assert [denylist.parse_header(raw).version for raw in scheme.denylist_deltas()] == [3]


def test_a_full_disk_publishes_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.publish(CARDS[0])
    before = desk.journal.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with desk.open() as scheme, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(IssuingError, match=r"No space left.*publish it again"):
            scheme.publish_denylist([CARDS[1]], [], desk.now)
    assert desk.journal.read_bytes() == before
    assert list(desk.published()) == [CARDS[0]]
    assert desk.publish(CARDS[1]) == 2


# ---------------------------------------------------------------------- orders


def test_orders_to_a_card_are_counted(desk: Desk) -> None:
    """From 1, each card for itself, also over several processes; signed by the issuer."""
    raws = [desk.order(), desk.order(kind=m.KIND_UNBLOCK), desk.order(CARDS[1])]
    found = [m.parse_card_order(raw) for raw in raws]
    assert [(one.card, one.number, one.kind) for one in found] == [
        (CARDS[0], 1, m.KIND_BLOCK),
        (CARDS[0], 2, m.KIND_UNBLOCK),
        (CARDS[1], 1, m.KIND_BLOCK),
    ]
    with desk.open() as scheme:
        for raw in raws:
            scheme.trust.bundle.operator_key(ISSUER).verify(raw[-64:], raw[:-64])
        assert list(scheme.card_orders(superseded=True)) == raws
        assert list(scheme.card_orders()) == raws[1:]


def test_what_a_later_order_undoes_is_left_out(desk: Desk) -> None:
    """Block and unblock undo each other; an acknowledgement undoes an earlier one, limits earlier limits."""
    limits = limits_value(tiers()[5].limits, 5)
    for kind, value in (
        (m.KIND_BLOCK, b""),
        (m.KIND_ACKNOWLEDGE, acknowledge_value(1, 100)),
        (m.KIND_LIMITS, limits),
        (m.KIND_UNBLOCK, b""),
        (m.KIND_ACKNOWLEDGE, acknowledge_value(2, 300)),
    ):
        desk.order(CARDS[0], kind, value)
    assert [(one.number, one.kind) for one in desk.orders()] == [
        (3, m.KIND_LIMITS),
        (4, m.KIND_UNBLOCK),
        (5, m.KIND_ACKNOWLEDGE),
    ]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_an_order_cut_off_anywhere(desk: Desk, done: bool) -> None:
    """A number never stands in two different orders."""
    known: dict[int, m.CardOrder] = {}
    step = 0
    while True:
        step += 1
        kind = m.KIND_BLOCK if step % 2 else m.KIND_UNBLOCK
        try:
            with cut_at_step(step, done=done):
                desk.order(kind=kind)
            break
        except Cut:
            for one in desk.orders():
                assert known.setdefault(one.number, one) == one
    assert step > 1
    given = [desk.order(kind=m.KIND_BLOCK) for _ in range(2)]
    for raw in given:
        one = m.parse_card_order(raw)
        assert known.setdefault(one.number, one) == one


def test_an_orders_line_torn_anywhere(desk: Desk) -> None:
    """The order was never given out; its number is free."""
    desk.order()
    before = len(desk.journal.read_bytes())
    desk.order(kind=m.KIND_UNBLOCK)
    content = desk.journal.read_bytes()
    for end in range(before, len(content)):
        desk.journal.write_bytes(content[:end])
        assert [one.number for one in desk.orders()] == [1]
        raw = desk.order(kind=m.KIND_LIMITS, value=limits_value(tiers()[4].limits, 4))
        assert m.parse_card_order(raw).number == 2


@pytest.mark.parametrize("card", [ISSUER + b"\0\0\0\x63", b"\0\0\x02\x01\0\0\0\1", b"", ISSUER])
def test_no_order_for_a_card_that_was_not_issued(desk: Desk, card: bytes) -> None:
    before = desk.journal.read_bytes()
    with pytest.raises(IssuingError, match="was not issued by this scheme"):
        desk.order(card)
    assert desk.journal.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (m.KIND_BLOCK, b"\1"),
        (m.KIND_ACKNOWLEDGE, b""),
        (m.KIND_ACKNOWLEDGE, bytes(7) + b"\1" + b"\1"),
        (m.KIND_LIMITS, limits_value(tiers()[5].limits, 5)[:-1]),
        (m.KIND_LIMITS, limits_value(replace(tiers()[5].limits, offline_count=129), 5)),
        (5, b""),
        (m.KIND_BLOCK, bytes(33)),
    ],
)
def test_no_order_that_no_card_takes(desk: Desk, kind: int, value: bytes) -> None:
    before = desk.journal.read_bytes()
    with pytest.raises((IssuingError, Malformed)):
        desk.order(CARDS[0], kind, value)
    assert desk.journal.read_bytes() == before


# ---------------------------------------------------------------------- after a key was compromised


def rotate(desk: Desk) -> None:
    """The issuer's key is in wrong hands."""
    with desk.open() as scheme:
        scheme.rotate("issuer", desk.now + 5, compromised=True)


def test_orders_are_signed_again_under_their_numbers(desk: Desk) -> None:
    old = desk.order()
    rotate(desk)
    with desk.open() as scheme:
        (new,) = scheme.card_orders()
        (again,) = scheme.card_orders()
    assert (new[:-64], again) == (old[:-64], new)
    assert new != old
    with desk.open() as scheme:
        scheme.trust.bundle.operator_key(ISSUER).verify(new[-64:], new[:-64])


def test_the_denylist_is_signed_again_as_a_new_version(desk: Desk) -> None:
    desk.publish(CARDS[0])
    rotate(desk)
    found = desk.published()
    assert (found.version, list(found)) == (2, [CARDS[0]])
    assert desk.published().version == 2
