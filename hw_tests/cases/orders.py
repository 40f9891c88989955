"""Section 13: the issuer's orders."""

from dataclasses import replace

from hardwallet import messages as m
from hardwallet import status as sw
from hardwallet.issuing import ACQUIRER
from hardwallet.limits import Limits
from hw_tests.bench import LIMITS, Bench, done, flipped, refused
from hw_tests.cases.registry import case


def padded(value: bytes) -> bytes:
    """An order's value in its 32 bytes."""
    return value.ljust(32, b"\0")


@case
def block_and_unblock(bench: Bench) -> None:
    """States, not deltas: twice is as good as once."""
    for kind, blocked in ((m.KIND_BLOCK, 1), (m.KIND_BLOCK, 1), (m.KIND_UNBLOCK, 0), (m.KIND_UNBLOCK, 0)):
        before = bench.state()
        bench.order(kind)
        after = bench.state()
        assert after.state & m.STATE_BLOCKED == blocked
        assert after.order_number == before.order_number + 1
        assert replace(after, state=before.state, order_number=before.order_number) == before


@case
def numbers_only_rise(bench: Bench) -> None:
    """The same order again, an older one, any lower number."""
    number = bench.state().order_number + 5
    block = bench.order_of(m.KIND_BLOCK, number=number)
    unblock = bench.order_of(m.KIND_UNBLOCK, number=number - 1)
    done(bench.send_order(block))

    def run() -> None:
        for order in (block, unblock, replace(block, number=0)):
            refused(bench.send_order(order), sw.ORDER_TOO_OLD)

    bench.unchanged(run)
    assert bench.select().state & m.STATE_BLOCKED
    done(bench.send_order(replace(unblock, number=number + 1)))


@case
def limits(bench: Bench) -> None:
    """All of them at once, and the tier."""
    tier = bench.select().tier
    wanted = Limits(90_000, 1_000, 500, 2_000, 77, 3, 444)
    other_tier = (tier + 1) % 256
    bench.order(m.KIND_LIMITS, wanted.to_bytes() + bytes((other_tier,)))
    after = bench.state()
    assert (after.limits, after.tier) == (wanted, other_tier)
    assert bench.select().tier == other_tier
    bench.order(m.KIND_LIMITS, LIMITS.to_bytes() + bytes((tier,)))


@case
def impossible_limits(bench: Bench) -> None:
    """An offline count above the journal, a cap above 2^31 - 1."""

    def run() -> None:
        tier = bytes((bench.select().tier,))
        for wrong in (replace(LIMITS, offline_count=129), replace(LIMITS, balance_cap_fen=2**31)):
            refused(bench.send_order(bench.order_of(m.KIND_LIMITS, wrong.to_bytes() + tier)), sw.MALFORMED)

    bench.unchanged(run)


@case
def acknowledge(bench: Bench) -> None:
    """Everything up to a number is ratified; neither number nor total ever falls."""
    records = [bench.buy(10) for _ in range(3)]
    before = bench.state()
    total = before.acknowledged_fen + 20
    bench.order(m.KIND_ACKNOWLEDGE, records[1].sequence.to_bytes(4, "big") + total.to_bytes(4, "big"))
    after = bench.state()
    assert (after.acknowledged_sequence, after.acknowledged_fen) == (records[1].sequence, total)
    assert after.unratified == 1
    assert after.balance_fen == before.balance_fen
    bench.order(m.KIND_ACKNOWLEDGE, bytes(8))
    again = bench.state()
    assert (again.acknowledged_sequence, again.acknowledged_fen) == (records[1].sequence, total)
    assert done(bench.ratify(records[2])) == b"\x01"


@case
def acknowledges_nothing_that_was_not_signed(bench: Bench) -> None:
    """Neither sequence nor total."""
    bench.buy(10)
    have = bench.state()

    def run() -> None:
        for sequence, total in ((have.sequence + 1, 0), (0, have.spent_fen + 1), (2**32 - 1, 0)):
            value = sequence.to_bytes(4, "big") + total.to_bytes(4, "big")
            refused(bench.send_order(bench.order_of(m.KIND_ACKNOWLEDGE, value)), sw.ACKNOWLEDGES_TOO_MUCH)

    bench.unchanged(run)


@case
def unknown_kinds_and_padding(bench: Bench) -> None:
    """Whatever is unknown is refused."""

    def run() -> None:
        number = bench.state().order_number + 1
        body = bench.order_of(m.KIND_BLOCK, number=number).body()[:28]
        wrong = [bytes((kind,)) + bytes(32) for kind in (0, 5, 6, 0x80, 0xFF)]
        wrong += [
            b"\x03" + padded(b"\x01"),
            b"\x04" + bytes(31) + b"\x01",
            b"\x01" + padded(bytes(8) + b"\x01"),
            b"\x02" + padded(LIMITS.to_bytes() + b"\x05" + b"\x01"),
        ]
        for tail in wrong:
            refused(bench.send(m.INS_ORDER, bench.sign_order(body + tail)), sw.MALFORMED)
        old = bench.order_of(m.KIND_BLOCK, number=0).body()[:28]
        refused(bench.send(m.INS_ORDER, bench.sign_order(old + wrong[0])), sw.ORDER_TOO_OLD)

    bench.unchanged(run)


@case
def any_altered_byte_is_refused(bench: Bench) -> None:
    """Each of the 125 bytes alone."""

    def run() -> None:
        raw = bench.sign_order(bench.order_of(m.KIND_BLOCK).body())
        for offset in range(125):
            if offset < 4:
                word = sw.WRONG_VERSION
            elif offset < 20:
                word = sw.NOT_FOR_THIS_CARD
            else:
                word = sw.SIGNATURE_WRONG
            refused(bench.send(m.INS_ORDER, flipped(raw, offset)), word)

    bench.unchanged(run)


@case
def only_the_cards_issuer_orders(bench: Bench) -> None:
    """For this card, in this scheme, under its own name."""

    def run() -> None:
        order = bench.order_of(m.KIND_BLOCK)
        stranger = bench.suite.new_signing_key(bench.entropy)
        for key in (bench.authority.root, bench.authority.acquirer, stranger):
            refused(bench.send(m.INS_ORDER, order.body() + key.sign(order.body())), sw.SIGNATURE_WRONG)
        for other in (
            replace(order, card=bytes(8)),
            replace(order, scheme=bench.entropy(4)),
            replace(order, operator=ACQUIRER),
        ):
            refused(bench.send_order(other), sw.NOT_FOR_THIS_CARD)
        refused(bench.send_order(replace(order, suite=bench.other_suite.number)), sw.WRONG_VERSION)

    bench.unchanged(run)


@case
def a_load_order_is_no_card_order(bench: Bench) -> None:
    """And the other way round: types are never mixed up."""
    bench.select()
    load = bench.load_order(0).body() + bytes(3)
    refused(bench.send(m.INS_ORDER, bench.sign_order(load)), sw.WRONG_VERSION)
    order = bench.order_of(m.KIND_BLOCK).body()[:58]
    refused(bench.send(m.INS_LOAD, bench.sign_order(order)), sw.WRONG_VERSION)
