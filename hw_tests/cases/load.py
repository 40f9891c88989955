"""Section 12: loading."""

from dataclasses import replace
from typing import Any

from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.issuing import ACQUIRER, ISSUER
from hw_tests.bench import LIMITS, Bench, done, flipped, refused
from hw_tests.cases.registry import case


@case
def load_raises_the_balance_once(bench: Bench) -> None:
    """The receipt says so; the same order again brings the same receipt."""
    before = bench.state()
    bench.select()
    order = bench.load_order(500)
    raw = bench.sign_order(order.body())
    receipt = bench.receipt(bench.send(m.INS_LOAD, raw), 1)
    assert receipt.sequence == before.sequence + 1
    assert receipt.balance_fen == before.balance_fen + 500
    assert receipt.amount_fen == 500
    assert receipt.payee == ISSUER + bytes(4)
    assert receipt.reference == order.counter.to_bytes(4, "big") + bytes(8)
    assert receipt.nonce == order.challenge
    assert (receipt.terminal, receipt.transaction, receipt.time_s) == (bytes(4), 0, order.time_s)
    assert (receipt.profile, receipt.cvm, receipt.limit_state) == (0, 0, 0)
    for _ in range(2):
        assert bench.receipt(bench.send(m.INS_LOAD, raw), 2) == receipt
        bench.tear()
        bench.select()
    after = bench.state()
    assert after.balance_fen == before.balance_fen + 500
    assert after.sequence == before.sequence + 1
    assert after.load_counter == before.load_counter + 1
    assert (after.spent_fen, after.unratified) == (before.spent_fen, before.unratified + 1)
    assert done(bench.ratify(receipt)) == b"\x01"


@case
def challenge_stays_until_its_counter_is_used(bench: Bench) -> None:
    """Over sessions and power; then there is another one."""
    bench.select()
    first = done(bench.send(m.INS_LOAD_CHALLENGE))
    bench.tear()
    bench.select()
    assert done(bench.send(m.INS_LOAD_CHALLENGE)) == first
    bench.load(1)
    second = done(bench.send(m.INS_LOAD_CHALLENGE))
    assert int.from_bytes(second[:4], "big") == int.from_bytes(first[:4], "big") + 1
    assert second[4:] != first[4:]


@case
def any_altered_byte_is_refused(bench: Bench) -> None:
    """Each of the 122 bytes alone."""

    def run() -> None:
        bench.select()
        raw = bench.sign_order(bench.load_order(500).body())
        for offset in range(122):
            if offset < 4:
                word = sw.WRONG_VERSION
            elif offset < 20:
                word = sw.NOT_FOR_THIS_CARD
            elif offset in (28, 29):
                word = sw.WRONG_CURRENCY
            else:
                word = sw.SIGNATURE_WRONG
            refused(bench.send(m.INS_LOAD, flipped(raw, offset)), word)

    bench.unchanged(run)


@case
def only_the_cards_issuer_signs(bench: Bench) -> None:
    """Not the root, not the acquirer, not a stranger; and not under another name."""

    def run() -> None:
        bench.select()
        body = bench.load_order(500).body()
        stranger = bench.suite.new_signing_key(bench.entropy)
        for key in (bench.authority.root, bench.authority.acquirer, stranger):
            refused(bench.send(m.INS_LOAD, body + key.sign(body)), sw.SIGNATURE_WRONG)
        other = bench.load_order(500, operator=ACQUIRER).body()
        refused(bench.send(m.INS_LOAD, other + bench.authority.acquirer.sign(other)), sw.NOT_FOR_THIS_CARD)

    bench.unchanged(run)


@case
def for_another_card_or_scheme(bench: Bench) -> None:
    """Really signed, and not for this one."""

    def run() -> None:
        bench.select()
        wrong: list[tuple[dict[str, Any], int]] = [
            ({"card": bench.card[:7] + bytes((bench.card[7] ^ 1,))}, sw.NOT_FOR_THIS_CARD),
            ({"scheme": bench.entropy(4)}, sw.NOT_FOR_THIS_CARD),
            ({"currency": 0x0840}, sw.WRONG_CURRENCY),
            ({"suite": bench.other_suite.number}, sw.WRONG_VERSION),
        ]
        for changes, word in wrong:
            refused(bench.send_load(bench.load_order(500, **changes)), word)

    bench.unchanged(run)


@case
def counter_and_challenge(bench: Bench) -> None:
    """Only the next counter, only with the card's challenge."""
    bench.load(1)

    def run() -> None:
        bench.select()
        order = bench.load_order(500)
        for counter in (order.counter + 1, order.counter - 2, 0, 2**32 - 1):
            if counter != order.counter - 1:
                refused(bench.send_load(replace(order, counter=counter)), sw.WRONG_LOAD_COUNTER)
        wrong = bytes((order.challenge[0] ^ 1,)) + order.challenge[1:]
        refused(bench.send_load(replace(order, challenge=wrong)), sw.WRONG_LOAD_COUNTER)

    bench.unchanged(run)


@case
def first_order_of_a_counter_is_final(bench: Bench) -> None:
    """Another order for the same counter brings the receipt of the first, whatever its amount."""
    bench.select()
    order = bench.load_order(500)
    receipt = bench.receipt(bench.send_load(order), 1)

    def run() -> None:
        bench.select()
        for amount_fen in (0, 900, 2**32 - 1):
            assert bench.receipt(bench.send_load(replace(order, amount_fen=amount_fen)), 2) == receipt

    bench.unchanged(run)


@case
def zero_cancels(bench: Bench) -> None:
    """It uses the counter up; the order that it cancels comes too late."""
    before = bench.state()
    order = bench.load_order(500)
    receipt = bench.receipt(bench.send_load(replace(order, amount_fen=0)), 1)
    assert (receipt.amount_fen, receipt.balance_fen) == (0, before.balance_fen)
    assert bench.receipt(bench.send_load(order), 2) == receipt
    assert bench.state().balance_fen == before.balance_fen


@case
def balance_cap(bench: Bench) -> None:
    """Up to the cap, not a fen more; an order of 0 cancels even above it."""
    left = LIMITS.balance_cap_fen - bench.state().balance_fen
    refused(bench.send_load(bench.load_order(left + 1)), sw.ABOVE_BALANCE_CAP)
    assert bench.load(left).balance_fen == LIMITS.balance_cap_fen
    refused(bench.send_load(bench.load_order(1)), sw.ABOVE_BALANCE_CAP)
    bench.limits(replace(LIMITS, balance_cap_fen=1))
    bench.receipt(bench.send_load(bench.load_order(0)), 1)


@case
def impossible_amounts(bench: Bench) -> None:
    """From 2^31 on, before the cap."""
    bench.select()
    for amount_fen in (2**31, 2**32 - 1):
        refused(bench.send_load(bench.load_order(amount_fen)), sw.AMOUNT_INVALID)
    refused(bench.send_load(bench.load_order(2**31 - 1)), sw.ABOVE_BALANCE_CAP)


@case
def blocked_card_is_not_loaded(bench: Bench) -> None:
    """But shows the receipt of the last load."""
    order = bench.load_order(5)
    receipt = bench.receipt(bench.send_load(order), 1)
    bench.order(m.KIND_BLOCK)
    refused(bench.send_load(bench.load_order(5)), sw.BLOCKED)
    assert bench.receipt(bench.send_load(order), 2) == receipt


@case
def load_acknowledges(bench: Bench) -> None:
    """What has arrived is ratified and counts no longer against the offline limits."""
    records = [bench.buy(10) for _ in range(3)]
    before = bench.state()
    order = bench.load_order(
        5, acknowledged_sequence=records[1].sequence, acknowledged_fen=before.acknowledged_fen + 20
    )
    receipt = bench.receipt(bench.send_load(order), 1)
    assert (receipt.offline_total_fen, receipt.offline_count) == (10, 2)
    after = bench.state()
    assert after.acknowledged_sequence == records[1].sequence
    assert after.acknowledged_fen == before.acknowledged_fen + 20
    assert after.unratified == 2
    assert done(bench.ratify(records[0])) == b"\x00"
    assert done(bench.ratify(records[2])) == b"\x01"


@case
def load_never_acknowledges_more_than_was_signed(bench: Bench) -> None:
    """Nor takes back what was acknowledged."""
    bench.buy(10)
    have = bench.state()
    for sequence, total in (
        (have.sequence + 1, 0),
        (0, have.spent_fen + 1),
        (2**32 - 1, 2**32 - 1),
    ):
        order = bench.load_order(5, acknowledged_sequence=sequence, acknowledged_fen=total)
        refused(bench.send_load(order), sw.ACKNOWLEDGES_TOO_MUCH)
    assert bench.state() == have
    bench.acknowledge()
    reached = bench.state()
    bench.receipt(bench.send_load(bench.load_order(5)), 1)
    after = bench.state()
    assert after.acknowledged_sequence == reached.acknowledged_sequence
    assert after.acknowledged_fen == reached.acknowledged_fen


@case
def load_needs_room(bench: Bench) -> None:
    """Eight unratified refuse it, unless its own acknowledgement frees one."""
    records = [bench.buy(1) for _ in range(8)]
    before = bench.state()
    refused(bench.send_load(bench.load_order(5)), sw.TOO_MANY_UNRATIFIED)
    refused(bench.send_load(bench.load_order(0)), sw.TOO_MANY_UNRATIFIED)
    assert bench.state() == before
    order = bench.load_order(5, acknowledged_sequence=records[0].sequence)
    bench.receipt(bench.send_load(order), 1)
    assert bench.select().unratified == 8


@case
def load_order_of_the_checks(bench: Bench) -> None:
    """An order that breaks every rule of 3 to 5: mended one by one, the card names the next one."""
    records: list[r.Record] = [bench.buy(1) for _ in range(8)]
    bench.order(m.KIND_BLOCK)
    have = bench.state()
    good = bench.load_order(5)
    wrong = replace(
        good,
        counter=good.counter + 1,
        challenge=bytes(16),
        amount_fen=2**31,
        acknowledged_sequence=have.sequence + 1,
    )
    refused(bench.send_load(wrong), sw.WRONG_LOAD_COUNTER)
    refused(bench.send_load(wrong := replace(wrong, counter=good.counter)), sw.WRONG_LOAD_COUNTER)
    refused(bench.send_load(wrong := replace(wrong, challenge=good.challenge)), sw.BLOCKED)
    bench.order(m.KIND_UNBLOCK)
    refused(bench.send_load(wrong), sw.AMOUNT_INVALID)
    refused(bench.send_load(wrong := replace(wrong, amount_fen=2**31 - 1)), sw.ABOVE_BALANCE_CAP)
    refused(bench.send_load(wrong := replace(wrong, amount_fen=5)), sw.ACKNOWLEDGES_TOO_MUCH)
    refused(bench.send_load(wrong := replace(wrong, acknowledged_sequence=0)), sw.TOO_MANY_UNRATIFIED)
    done(bench.ratify(records[0]))
    bench.receipt(bench.send_load(wrong), 1)
