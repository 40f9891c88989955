"""Section 9: one sale, one debit."""

from dataclasses import replace

from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT
from hardwallet.issuing import ISSUER
from hw_tests.bench import LIMITS, WRONG_PIN, Bench, done, refused
from hw_tests.cases.registry import case


def pay_once(bench: Bench, amount_fen: int = 100) -> tuple[m.SaleRequest, r.Record]:
    """A transit sale, and its record."""
    bench.select()
    sale = bench.sale(amount_fen)
    return sale, bench.paid(bench.pay(sale), sale)


@case
def same_sale_twice_debits_once(bench: Bench) -> None:
    """The first record comes back, byte for byte, with a fresh proof; nothing changes."""
    sale, record = pay_once(bench)

    def run() -> None:
        for _ in range(3):
            bench.select()
            again = bench.again(sale)
            assert bench.found(bench.pay(again), again) == (2, record)

    bench.unchanged(run)


@case
def ratified_says_so(bench: Bench) -> None:
    """Outcome 03."""
    sale, record = pay_once(bench)
    done(bench.ratify(record))
    bench.select()
    again = bench.again(sale)
    assert bench.found(bench.pay(again), again) == (3, record)


@case
def found_after_a_tear_and_after_an_acknowledgement(bench: Bench) -> None:
    """The journal is all that it takes."""
    sale, record = pay_once(bench)
    bench.tear()
    bench.select()
    assert bench.found(bench.pay(sale), sale) == (2, record)
    bench.buy(1)
    bench.acknowledge()
    bench.buy(1)
    bench.select()
    assert bench.found(bench.pay(sale), sale) == (3, record)


@case
def found_before_every_limit(bench: Bench) -> None:
    """Blocked, payee forgotten, allowance, all limits at nothing, eight unratified, no balance."""
    sale, record = pay_once(bench)
    for _ in range(7):
        bench.buy(1)
    bench.limits(replace(LIMITS, single_fen=0, pin_free_fen=0, offline_total_fen=0, offline_count=0))
    bench.limits(replace(LIMITS, single_fen=0, transit_count=0, transit_amount_fen=0, offline_count=0))
    for _ in range(8):
        bench.meet(bench.terminal(CLASS_RETAIL))
    bench.meet(bench.retail)
    bench.order(m.KIND_BLOCK)
    bench.select()
    again = bench.again(sale)
    assert bench.found(bench.pay(again), again) == (2, record)
    refused(bench.pay(bench.sale(100)), sw.BLOCKED)


@case
def not_found_before_the_sale_is_well_formed(bench: Bench) -> None:
    """Rules 2 to 4 come first."""
    sale, _ = pay_once(bench)
    bench.select()
    refused(bench.pay(replace(sale, profile=2)), sw.MALFORMED)
    raw = sale.to_bytes()
    refused(bench.pay(b"\x02" + raw[1:]), sw.WRONG_VERSION)
    refused(bench.pay(raw[:57] + b"\x02" + bench.retail.digest + bytes(64)), sw.WRONG_CLASS)


@case
def any_difference_is_another_sale(bench: Bench) -> None:
    """Another amount, reference or payee is paid for itself."""
    sale, record = pay_once(bench)
    other = bench.terminal(CLASS_TRANSIT)
    bench.meet(other)
    reference = sale.reference[:11] + bytes((sale.reference[11] ^ 1,))
    for number, changed in enumerate(
        (
            replace(sale, amount_fen=101),
            replace(sale, amount_fen=99),
            replace(sale, reference=reference),
            replace(sale, payee=other.payee),
        ),
        1,
    ):
        bench.select()
        assert bench.paid(bench.pay(changed), changed).sequence == record.sequence + number


@case
def terminal_time_nonce_and_number_make_no_difference(bench: Bench) -> None:
    """The sibling validator of a bus asks for the same ride."""
    sale, record = pay_once(bench)
    bench.select()
    sibling = replace(bench.again(sale), terminal=b"\x00\x00\x00\x09", time_s=sale.time_s + 60)
    assert bench.found(bench.pay(sibling), sibling) == (2, record)


@case
def found_across_profiles(bench: Bench) -> None:
    """A sale is a sale, whichever way it was asked for."""
    shop = bench.retail
    bench.select()
    sale = bench.sale(100, shop)
    record = bench.paid(bench.pay(sale, shop), sale)
    bench.select()
    passing = replace(bench.again(sale), profile=r.TRANSIT)
    assert bench.found(bench.pay(passing), passing) == (2, record)
    bench.select()
    again = bench.again(sale)
    assert bench.found(bench.pay(again, shop), again) == (2, record)
    done(bench.send(m.INS_READ_STATE))


@case
def found_costs_no_try(bench: Bench) -> None:
    """A PIN that comes with a sale that is paid already is not looked at."""
    bench.want_pin()
    shop = bench.retail
    bench.select()
    sale = bench.sale(100, shop)
    record = bench.paid(bench.pay(sale, shop), sale)
    bench.select()
    again = bench.again(sale)
    part = bench.pin_part(again.to_bytes(), WRONG_PIN)
    assert bench.found(bench.pay(again, shop, part), again) == (2, record)
    assert bench.state().tries == 3


@case
def found_leaves_the_session(bench: Bench) -> None:
    """Another sale may be paid at once."""
    sale, record = pay_once(bench)
    bench.select()
    again = bench.again(sale)
    assert bench.found(bench.pay(again), again) == (2, record)
    fresh = bench.sale(1)
    assert bench.paid(bench.pay(fresh), fresh).sequence == record.sequence + 1


@case
def a_load_is_no_payment(bench: Bench) -> None:
    """A receipt with the same bytes where a sale's stand does not answer for it."""
    receipt = bench.load(77)
    bench.select()
    sale = replace(bench.sale(77), payee=receipt.payee, reference=receipt.reference)
    assert receipt.payee == ISSUER + bytes(4)
    refused(bench.pay(sale), sw.PAYEE_UNKNOWN)
