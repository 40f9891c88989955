"""Books put back from an older backup: what terminals hold against them, and how they fill up again."""

import msgspec
import pytest

from hardwallet import certificates
from offline_sync.clearing import Clearing
from offline_sync.clearing.restored import Held
from offline_sync.errors import BatchRefused
from tests.offline_sync.factory import ACQUIRER, NOW, Card, Scheme, Terminal
from tests.offline_sync.test_clearing import Till, money, open_clearing, own


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
def till(scheme: Scheme, card: Card, shop: Terminal) -> Till:
    """Six payments in its journal."""
    return Till(shop, [card]).add(*(own(scheme.payment(card, shop, 100)) for _ in range(6)))


@pytest.fixture
def clearing(scheme: Scheme) -> Clearing:
    return open_clearing(scheme)


def evidence(clearing: Clearing, kind: str) -> list[str]:
    return [line.detail for line in clearing.report().evidence if line.kind == kind]


def test_tells_what_is_held_of_a_terminal(clearing: Clearing, till: Till, shop: Terminal) -> None:
    nothing = Held(0, [])
    assert clearing.held(shop.payee, shop.number) == nothing
    clearing.accept(till.batch(5, 5))
    clearing.accept(till.batch(2, 3))
    held = clearing.held(shop.payee, shop.number)
    assert (held.highest, held.gaps) == (5, [(1, 1), (4, 4)])
    assert clearing.held(shop.payee, b"\0\0\0\x09") == nothing


def test_a_lost_acknowledgement_is_noted_until_its_entries_are_there_again(
    scheme: Scheme, till: Till, shop: Terminal
) -> None:
    never_failed, put_back = open_clearing(scheme), open_clearing(scheme)
    for span in ((1, 2), (3, 4), (5, 6)):
        never_failed.accept(till.batch(*span))
    put_back.accept(till.batch(1, 2))
    kept = [never_failed.accept(till.batch(*span)) for span in ((1, 2), (3, 4), (5, 6))]
    assert [put_back.lost(one) for one in kept] == [False, True, True]
    assert [put_back.lost(one) for one in kept] == [False, True, True]
    assert len(evidence(put_back, "restored")) == 2
    assert (
        "entries 3 to 4 were acknowledged"
        in evidence(put_back, "restored")[0] + evidence(put_back, "restored")[1]
    )
    for line in put_back.report().terminals:
        assert line.flags == 2
    # The terminal sends again, in other pieces than the first time.
    assert put_back.accept(till.batch(3, 6)).highest == 6
    assert [put_back.lost(one) for one in kept] == [False, False, False]
    assert money(put_back.report()) == money(never_failed.report())
    assert put_back.held(shop.payee, shop.number) == never_failed.held(shop.payee, shop.number)


def test_an_acknowledgement_in_a_gap_is_lost_too(scheme: Scheme, till: Till, clearing: Clearing) -> None:
    other = open_clearing(scheme)
    acknowledged = other.accept(till.batch(1, 3))
    clearing.accept(till.batch(5, 6))
    assert clearing.lost(acknowledged)


@pytest.mark.parametrize("field", ["first", "last", "highest", "time_s", "status"])
def test_nobody_else_can_claim_a_loss(till: Till, clearing: Clearing, field: str) -> None:
    acknowledged = clearing.accept(till.batch(1, 3))
    altered = msgspec.structs.replace(acknowledged, **{field: getattr(acknowledged, field) + 1})
    with pytest.raises(BatchRefused) as refused:
        clearing.lost(altered)
    assert refused.value.code == "signature"
    assert evidence(clearing, "restored") == []


def test_a_loss_of_another_scheme_or_operator_is_refused(till: Till, clearing: Clearing) -> None:
    acknowledged = clearing.accept(till.batch(1, 3))
    for code, change in (("scheme", {"scheme": bytes(4)}), ("operator", {"payee": bytes(8)})):
        with pytest.raises(BatchRefused) as refused:
            clearing.lost(msgspec.structs.replace(acknowledged, **change))
        assert refused.value.code == code
    issuer = bytes.fromhex("00000011") + bytes(4)
    with pytest.raises(BatchRefused, match="no acquiring operator"):
        clearing.lost(msgspec.structs.replace(acknowledged, payee=issuer))


def test_what_was_signed_before_a_rotation_counts(card: Card) -> None:
    """The acquirer has a new key since; its old acknowledgements are still its word."""
    rotated = Scheme()
    shop = rotated.terminal(1, 1, retail=True)
    till = Till(shop, []).add(own(rotated.payment(card, shop, 100)))
    acknowledged = open_clearing(rotated).accept(till.batch())
    key = rotated.suite.new_signing_key(rotated.entropy)
    acquirer = ACQUIRER + bytes(8)
    newer = rotated.certificate(
        *(certificates.OPERATOR, certificates.CLASS_ACQUIRING, bytes(4), acquirer, key, rotated.root_key),
        not_before=NOW - 60,
    )
    rotated.trust.add_operator(newer)
    assert rotated.trust.operator(ACQUIRER) == newer
    assert open_clearing(rotated).lost(acknowledged)
