"""Section 10: the PIN."""

from dataclasses import replace

from firmware_bridge.apdu import Response
from hardwallet import messages as m
from hardwallet import status as sw
from hw_tests.bench import LIMITS, PIN, WRONG_PIN, Bench, done, refused
from hw_tests.cases.registry import case, case_on_a_new_card, case_that_uses_up


def pay_with(bench: Bench, pin: str, amount_fen: int = 38_000) -> Response:
    """SELECT and a retail payment with a PIN."""
    bench.select()
    raw = bench.sale(amount_fen, bench.retail).to_bytes()
    return bench.pay(raw, bench.retail, bench.pin_part(raw, pin))


def give_tries_back(bench: Bench) -> None:
    """A right PIN."""
    done(pay_with(bench, PIN, 1))
    assert bench.state().tries == 3


@case_on_a_new_card
def card_without_a_pin(bench: Bench) -> None:
    """Wants none, and can't check one."""
    bench.want_no_pin()
    assert bench.select().state & m.STATE_PIN_SET == 0
    refused(pay_with(bench, PIN, 100), sw.PIN_WANTED)
    refused(pay_with(bench, PIN, 38_000), sw.PIN_WANTED)
    assert bench.state().tries == 3
    bench.buy(100, bench.retail)


@case_on_a_new_card
def first_pin(bench: Bench) -> None:
    """An old block with 0 digits; anything else is malformed and costs nothing."""
    bench.want_no_pin()
    bench.select()
    nonce = bench.selected.nonce
    new = m.pin_field(PIN) + nonce[8:]
    refused(bench.send_pin_blocks(m.pin_field("0000") + nonce[:8], new), sw.MALFORMED)
    bench.select()
    nonce = bench.selected.nonce
    refused(bench.send_pin_blocks(m.pin_field("") + nonce[8:], new), sw.MALFORMED)
    bench.select()
    refused(bench.send(m.INS_CHANGE_PIN, bytes(96)), sw.MALFORMED)
    assert bench.select().state & m.STATE_PIN_SET == 0
    assert bench.state().tries == 3
    bench.select()
    done(bench.change_pin("", PIN))
    assert bench.select().state & (m.STATE_PIN_SET | m.STATE_PIN_LOCKED) == m.STATE_PIN_SET
    done(pay_with(bench, PIN))


@case
def right_pin(bench: Bench) -> None:
    """Pays above the limit; the record says that the card saw it."""
    bench.want_pin()
    record = bench.buy(38_000, bench.retail, PIN)
    assert (record.cvm, record.limit_state & 1) == (1, 1)
    record = bench.buy(100, bench.retail, PIN)
    assert (record.cvm, record.limit_state & 1) == (1, 0)


@case
def wrong_pin_costs_a_try(bench: Bench) -> None:
    """Below the limit too; a right one gives them back."""
    bench.want_pin()
    before = bench.state()
    refused(pay_with(bench, WRONG_PIN), 0x63C2)
    assert bench.state() == replace(before, tries=2)
    refused(pay_with(bench, WRONG_PIN, 100), 0x63C1)
    assert bench.state() == replace(before, tries=1)
    give_tries_back(bench)


@case
def try_stays_spent_after_a_tear(bench: Bench) -> None:
    """Power comes back; the try does not."""
    bench.want_pin()
    refused(pay_with(bench, WRONG_PIN), 0x63C2)
    bench.tear()
    refused(pay_with(bench, WRONG_PIN), 0x63C1)
    bench.tear()
    assert bench.state().tries == 1
    give_tries_back(bench)


@case
def block_binds_nonce_and_sale(bench: Bench) -> None:
    """A right PIN in a block of another session or another sale is a wrong one."""
    bench.want_pin()
    old = bench.select().nonce
    raw = bench.sale(100, bench.retail).to_bytes()
    bench.select()
    refused(bench.pay(raw, bench.retail, bench.pin_part(raw, PIN, nonce=old[:8])), 0x63C2)
    nonce = bench.select().nonce
    half = nonce[:7] + bytes((nonce[7] ^ 1,))
    refused(bench.pay(raw, bench.retail, bench.pin_part(raw, PIN, nonce=half)), 0x63C1)
    give_tries_back(bench)
    bench.select()
    other = bench.sale(101, bench.retail).to_bytes()
    refused(bench.pay(raw, bench.retail, bench.pin_part(other, PIN)), 0x63C2)
    give_tries_back(bench)


@case
def garbled_block_costs_a_try(bench: Bench) -> None:
    """A key that is no point, a field that is no PIN."""
    bench.want_pin()
    bench.select()
    raw = bench.sale(100, bench.retail).to_bytes()
    refused(bench.pay(raw, bench.retail, bytes(80)), 0x63C2)
    bench.select()
    refused(bench.pay(raw, bench.retail, bench.pin_part(raw, "", field=bytes(8))), 0x63C1)
    give_tries_back(bench)


@case
def try_is_taken_last(bench: Bench) -> None:
    """Every other rule of PAY refuses before the PIN is looked at."""
    bench.want_pin()

    def run() -> None:
        most = 2**31 - 1
        refused(pay_with(bench, WRONG_PIN, 0), sw.AMOUNT_INVALID)
        refused(pay_with(bench, WRONG_PIN, 50_001), sw.ABOVE_SINGLE_LIMIT)
        refused(pay_with(bench, WRONG_PIN, most), sw.ABOVE_SINGLE_LIMIT)

    bench.unchanged(run)
    most = 2**31 - 1
    bench.limits(replace(LIMITS, single_fen=most, offline_total_fen=most))
    refused(pay_with(bench, WRONG_PIN, bench.state().balance_fen + 1), sw.BALANCE_TOO_LOW)
    bench.order(m.KIND_BLOCK)
    refused(pay_with(bench, WRONG_PIN, 100), sw.BLOCKED)
    assert bench.state().tries == 3


@case
def try_uses_the_session_up(bench: Bench) -> None:
    """A wrong one too."""
    bench.want_pin()
    refused(pay_with(bench, WRONG_PIN), 0x63C2)
    refused(bench.pay(bench.sale(1)), sw.SELECT_FIRST)
    refused(bench.change_pin(PIN, PIN), sw.SELECT_FIRST)
    give_tries_back(bench)


@case
def change_pin(bench: Bench) -> None:
    """4 to 12 digits; the old one is of no more use."""
    bench.want_pin()
    current = PIN
    for new in ("1234", "123456789012", "0000", PIN):
        bench.select()
        done(bench.change_pin(current, new))
        refused(bench.pay(bench.sale(1)), sw.SELECT_FIRST)
        refused(pay_with(bench, current, 1), 0x63C2)
        done(pay_with(bench, new, 1))
        current = new


@case
def change_pin_wants_the_old_one(bench: Bench) -> None:
    """A wrong one costs a try; so does a block of another session."""
    bench.want_pin()
    bench.select()
    refused(bench.change_pin(WRONG_PIN, "1234"), 0x63C2)
    bench.select()
    nonce = bench.selected.nonce
    old = m.pin_field(PIN) + nonce[8:]
    refused(bench.send_pin_blocks(old, m.pin_field("1234") + nonce[8:]), 0x63C1)
    give_tries_back(bench)
    bench.select()
    refused(bench.change_pin("", "1234"), 0x63C2)
    give_tries_back(bench)


@case
def change_pin_wants_a_good_new_one(bench: Bench) -> None:
    """The PIN stays as it was, and so do the tries."""
    bench.want_pin()
    bad_fields = (
        bytes(8),
        bytes.fromhex("23123FFFFFFFFFFF"),
        bytes.fromhex("2D1234567890123F"),
        bytes.fromhex("341234FFFFFFFFFF"),
        bytes.fromhex("24123AFFFFFFFFFF"),
        bytes.fromhex("241234FFFFFFFF0F"),
        m.pin_field(""),
    )
    for field in bad_fields:
        nonce = bench.select().nonce
        refused(bench.send_pin_blocks(m.pin_field(PIN) + nonce[:8], field + nonce[8:]), sw.MALFORMED)
    nonce = bench.select().nonce
    swapped = m.pin_field("1234") + nonce[:8]
    refused(bench.send_pin_blocks(m.pin_field(PIN) + nonce[:8], swapped), sw.MALFORMED)
    assert bench.state().tries == 3
    done(pay_with(bench, PIN))


@case_that_uses_up
def third_wrong_pin_locks(bench: Bench) -> None:
    """For good, also for CHANGE PIN; what needs no PIN is paid as before."""
    bench.want_pin()
    refused(pay_with(bench, WRONG_PIN), 0x63C2)
    refused(pay_with(bench, WRONG_PIN), 0x63C1)
    refused(pay_with(bench, WRONG_PIN), sw.PIN_LOCKED)
    refused(pay_with(bench, PIN), sw.PIN_LOCKED)
    bench.select()
    refused(bench.change_pin(PIN, "1234"), sw.PIN_LOCKED)
    assert bench.select().state & m.STATE_PIN_LOCKED
    bench.tear()
    refused(pay_with(bench, PIN), sw.PIN_LOCKED)
    bench.buy(100, bench.retail)
    bench.select()
    refused(bench.pay(bench.sale(38_000, bench.retail), bench.retail), sw.PIN_WANTED)
