"""Section 9: PAY, rule by rule, and the order of the rules."""

from dataclasses import replace

from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT
from hw_tests.bench import LIMITS, PIN, Bench, done, flipped, refused
from hw_tests.cases.registry import case


def check_record(bench: Bench, record: r.Record, before: m.CardState, amount_fen: int) -> None:
    """What every payment's record says, from the card's state before it."""
    assert record.sequence == before.sequence + 1
    assert record.balance_fen == before.balance_fen - amount_fen
    assert record.offline_total_fen == before.spent_fen + amount_fen - before.acknowledged_fen
    assert record.offline_count == before.sequence + 1 - before.acknowledged_sequence
    assert record.certificate_digest == bench.selected.certificate_digest
    after = bench.state()
    assert after.balance_fen == record.balance_fen
    assert after.sequence == record.sequence
    assert after.spent_fen == before.spent_fen + amount_fen
    assert after.unratified == before.unratified + 1
    assert after.load_counter == before.load_counter
    read = done(bench.read(record.sequence))
    assert read == record.raw + b"\x01"


@case
def transit_pays(bench: Bench) -> None:
    """The card signs, and nobody proves anything to it."""
    before = bench.state()
    record = bench.buy(200)
    assert (record.profile, record.cvm, record.limit_state) == (1, 0, 4)
    check_record(bench, record, before, 200)


@case
def retail_pays(bench: Bench) -> None:
    """The terminal proves itself within PAY; the session is proved by it."""
    before = bench.state()
    record = bench.buy(1250, bench.retail)
    done(bench.send(m.INS_READ_STATE))
    assert (record.profile, record.cvm, record.limit_state) == (2, 0, 0)
    check_record(bench, record, before, 1250)


@case
def retail_pays_with_a_pin(bench: Bench) -> None:
    """Above the PIN-free limit."""
    bench.want_pin()
    before = bench.state()
    record = bench.buy(38_000, bench.retail, PIN)
    assert (record.profile, record.cvm, record.limit_state) == (2, 1, 1)
    check_record(bench, record, before, 38_000)


@case
def limit_state_tells_of_80_percent(bench: Bench) -> None:
    """Bit 1 from four fifths of the offline limit on, in loads too."""
    bench.limits(replace(LIMITS, offline_total_fen=1000))
    assert bench.buy(799, bench.retail).limit_state == 0
    assert bench.buy(1, bench.retail).limit_state == 2
    assert bench.buy(1).limit_state == 6
    assert bench.load(1).limit_state == 2


@case
def one_payment_a_session(bench: Bench) -> None:
    """Rule 1 comes before everything, the length too."""
    bench.buy()
    refused(bench.pay(bench.sale()), sw.SELECT_FIRST)
    refused(bench.send(m.INS_PAY, bytes(3)), sw.SELECT_FIRST)
    refused(bench.send(m.INS_CHANGE_PIN, bytes(96)), sw.SELECT_FIRST)
    bench.buy()


@case
def a_refused_payment_leaves_the_session(bench: Bench) -> None:
    """The next PAY may follow at once."""
    bench.select()
    refused(bench.pay(bench.sale(LIMITS.single_fen + 1), None), sw.TRANSIT_ALLOWANCE_USED_UP)
    refused(bench.pay(bench.sale(0)), sw.AMOUNT_INVALID)
    sale = bench.sale()
    bench.paid(bench.pay(sale), sale)


@case
def version_suite_application(bench: Bench) -> None:
    """Only the card's own; before the profile and the amount."""
    bench.select()
    raw = replace(bench.sale(0), profile=9).to_bytes()
    for offset in range(3):
        for value in {0, 1, 2, 3, 0xFF} - {raw[offset]}:
            altered = raw[:offset] + bytes((value,)) + raw[offset + 1 :]
            refused(bench.pay(altered), sw.WRONG_VERSION)
            refused(bench.pay(altered, bench.retail), sw.WRONG_VERSION)


@case
def profile_fits_the_length(bench: Bench) -> None:
    """Before the amount."""
    bench.select()
    for profile in (0, 2, 3, 0xFF):
        refused(bench.pay(replace(bench.sale(0), profile=profile)), sw.MALFORMED)
    for profile in (0, 1, 3, 0xFF):
        sale = replace(bench.sale(0, bench.retail), profile=profile)
        refused(bench.pay(sale, bench.retail), sw.MALFORMED)
        refused(bench.pay(sale, bench.retail, bytes(80)), sw.MALFORMED)


@case
def impossible_amounts(bench: Bench) -> None:
    """Zero and from 2^31 on, in both profiles; before the currency."""

    def run() -> None:
        bench.select()
        for amount_fen in (0, 2**31, 2**31 + 1, 2**32 - 1):
            for terminal in (None, bench.retail):
                sale = replace(bench.sale(amount_fen, terminal), currency=0x0840)
                refused(bench.pay(sale, terminal), sw.AMOUNT_INVALID)

    bench.unchanged(run)


@case
def largest_possible_amount_meets_the_limits(bench: Bench) -> None:
    """2^31 - 1 is an amount; no card has it."""
    bench.select()
    refused(bench.pay(bench.sale(2**31 - 1, bench.retail), bench.retail), sw.ABOVE_SINGLE_LIMIT)
    bench.limits(replace(LIMITS, single_fen=2**32 - 1, offline_total_fen=2**32 - 1))
    refused(bench.pay(bench.sale(2**31 - 1, bench.retail), bench.retail), sw.BALANCE_TOO_LOW)


@case
def another_currency(bench: Bench) -> None:
    """Before the terminal's proof."""
    bench.select()
    for currency in (0x0840, 0x0000, 0x0157, 0x5601):
        refused(bench.pay(replace(bench.sale(), currency=currency)), sw.WRONG_CURRENCY)
        sale = replace(bench.sale(100, bench.retail), currency=currency)
        refused(bench.pay(sale.to_bytes() + bytes(72)), sw.WRONG_CURRENCY)


@case
def retail_terminal_is_known_and_the_sales_own(bench: Bench) -> None:
    """Digest, class, payee, terminal, in this order before the signature."""
    shop, bus = bench.retail, bench.transit
    stranger = bench.terminal(CLASS_RETAIL)
    bench.select()
    refused(bench.pay(bench.sale(100, stranger), stranger), sw.CERTIFICATE_UNKNOWN)
    sale = replace(bench.sale(100, bus), profile=r.RETAIL)
    refused(bench.pay(sale, bus), sw.WRONG_CLASS)
    own = bench.sale(100, shop)
    for sale in (replace(own, payee=bus.payee), replace(own, terminal=b"\xff" * 4)):
        refused(bench.pay(sale, shop), sw.WRONG_CLASS)
        refused(bench.pay(sale.to_bytes() + shop.digest + bytes(64)), sw.WRONG_CLASS)


@case
def retail_signature_covers_everything(bench: Bench) -> None:
    """Each byte of what is signed, each byte of the sale, another session."""
    shop = bench.retail

    def run() -> None:
        bench.select()
        raw = bench.sale(100, shop).to_bytes()
        body = m.retail_proof_body(
            bench.bundle.scheme, bench.card, bench.selected.nonce, shop.digest, raw, b""
        )
        for offset in range(len(body)):
            signature = shop.key.sign(flipped(body, offset))
            refused(bench.send(m.INS_PAY, raw + shop.digest + signature), sw.SIGNATURE_WRONG)
        good = shop.key.sign(body)
        for offset in (11, 22, 26, 33, 37, 52, 53, 56):
            data = flipped(raw, offset) + shop.digest + good
            refused(bench.send(m.INS_PAY, data), sw.SIGNATURE_WRONG)
        bench.select()
        refused(bench.send(m.INS_PAY, raw + shop.digest + good), sw.SIGNATURE_WRONG)
        refused(bench.send(m.INS_READ_STATE), sw.NOT_PROVED)

    bench.unchanged(run)


@case
def retail_signature_covers_the_pin(bench: Bench) -> None:
    """A PIN block that somebody else put in costs no try."""
    bench.want_pin()

    def run() -> None:
        bench.select()
        raw = bench.sale(100, bench.retail).to_bytes()
        data = bench.retail_data(raw, bench.retail, bench.pin_part(raw, PIN))
        other = bench.pin_part(raw, PIN)
        refused(bench.send(m.INS_PAY, data[:66] + other + data[146:]), sw.SIGNATURE_WRONG)
        stripped = raw + bench.retail.digest + data[146:]
        refused(bench.send(m.INS_PAY, stripped), sw.SIGNATURE_WRONG)

    bench.unchanged(run)


@case
def a_refused_retail_payment_proves_all_the_same(bench: Bench) -> None:
    """The proof was good; the transit allowance comes back with a commit only."""
    bench.select()
    refused(bench.pay(bench.sale(50_001, bench.retail), bench.retail), sw.ABOVE_SINGLE_LIMIT)
    done(bench.send(m.INS_READ_STATE))


@case
def blocked_card_pays_nobody(bench: Bench) -> None:
    """Before the payee and the limits, in both profiles."""
    bench.order(m.KIND_BLOCK)

    def run() -> None:
        bench.select()
        stranger = bench.terminal(CLASS_TRANSIT)
        refused(bench.pay(bench.sale(100, stranger)), sw.BLOCKED)
        refused(bench.pay(bench.sale(2**31 - 1, bench.retail), bench.retail), sw.BLOCKED)

    bench.unchanged(run)
    bench.order(m.KIND_UNBLOCK)
    bench.buy()


@case
def transit_payee_has_to_be_met(bench: Bench) -> None:
    """A card pays in passing only whom it has verified, and only as transit."""
    stranger = bench.terminal(CLASS_TRANSIT)
    bench.select()
    refused(bench.pay(bench.sale(100, stranger)), sw.PAYEE_UNKNOWN)
    refused(bench.pay(replace(bench.sale(100, bench.retail), profile=r.TRANSIT)), sw.PAYEE_UNKNOWN)
    done(bench.exchange(stranger))
    sale = bench.sale(100, stranger)
    bench.paid(bench.pay(sale), sale)
    bench.select()
    sibling = replace(bench.sale(100, stranger), terminal=b"\x00\x00\x00\x63")
    bench.paid(bench.pay(sibling), sibling)


@case
def transit_allowance_by_count(bench: Bench) -> None:
    """As many as the limit says, until a terminal proves itself."""
    bench.limits(replace(LIMITS, transit_count=3))
    bench.state()
    for _ in range(3):
        bench.buy(1)
    bench.select()
    refused(bench.pay(bench.sale(1)), sw.TRANSIT_ALLOWANCE_USED_UP)
    done(bench.prove(bench.transit))
    sale = bench.sale(1)
    bench.paid(bench.pay(sale), sale)
    assert bench.state().transit_count == 0


@case
def transit_allowance_by_amount(bench: Bench) -> None:
    """Up to the limit, not a fen more."""
    bench.limits(replace(LIMITS, transit_amount_fen=500))
    bench.state()
    bench.buy(300)
    bench.select()
    refused(bench.pay(bench.sale(201)), sw.TRANSIT_ALLOWANCE_USED_UP)
    bench.buy(200)
    bench.select()
    refused(bench.pay(bench.sale(1)), sw.TRANSIT_ALLOWANCE_USED_UP)
    done(bench.prove(bench.retail))
    bench.buy(500)


@case
def retail_payment_gives_the_allowance_back(bench: Bench) -> None:
    """Since its terminal proved itself; a refused or an already paid one does not."""
    bench.limits(replace(LIMITS, transit_count=1))
    bench.state()
    bench.buy(1)
    bench.select()
    refused(bench.pay(bench.sale(50_001, bench.retail), bench.retail), sw.ABOVE_SINGLE_LIMIT)
    refused(bench.pay(bench.sale(1)), sw.TRANSIT_ALLOWANCE_USED_UP)
    bench.buy(1, bench.retail)
    bench.buy(1)
    bench.select()
    refused(bench.pay(bench.sale(1)), sw.TRANSIT_ALLOWANCE_USED_UP)


@case
def power_loss_gives_no_allowance_back(bench: Bench) -> None:
    """It lies in the card's memory."""
    bench.limits(replace(LIMITS, transit_count=1))
    bench.state()
    bench.buy(1)
    bench.tear()
    bench.select()
    refused(bench.pay(bench.sale(1)), sw.TRANSIT_ALLOWANCE_USED_UP)


@case
def single_limit(bench: Bench) -> None:
    """Up to the limit, not a fen more."""
    bench.limits(replace(LIMITS, single_fen=700))
    bench.buy(700, bench.retail)
    bench.select()
    refused(bench.pay(bench.sale(701, bench.retail), bench.retail), sw.ABOVE_SINGLE_LIMIT)


@case
def eight_unratified_at_most(bench: Bench) -> None:
    """Then somebody has to carry them."""
    records = [bench.buy(1) for _ in range(8)]
    assert bench.select().unratified == 8
    refused(bench.pay(bench.sale(1)), sw.TOO_MANY_UNRATIFIED)
    refused(bench.pay(bench.sale(1, bench.retail), bench.retail), sw.TOO_MANY_UNRATIFIED)
    assert done(bench.ratify(records[4])) == b"\x01"
    sale = bench.sale(1)
    bench.paid(bench.pay(sale), sale)
    bench.select()
    refused(bench.pay(bench.sale(1)), sw.TOO_MANY_UNRATIFIED)


@case
def offline_count(bench: Bench) -> None:
    """Until an issuer acknowledges what has arrived."""
    bench.limits(replace(LIMITS, offline_count=3))
    records = [bench.buy(1, bench.retail) for _ in range(3)]
    for record in records:
        done(bench.ratify(record))
    bench.select()
    refused(bench.pay(bench.sale(1, bench.retail), bench.retail), sw.JOURNAL_FULL)
    bench.acknowledge(records[0].sequence)
    bench.buy(1, bench.retail)
    bench.select()
    refused(bench.pay(bench.sale(1, bench.retail), bench.retail), sw.JOURNAL_FULL)


@case
def offline_total(bench: Bench) -> None:
    """Up to the limit, not a fen more, until an issuer acknowledges what has arrived."""
    bench.limits(replace(LIMITS, offline_total_fen=1000))
    bench.buy(600, bench.retail)
    bench.select()
    refused(bench.pay(bench.sale(401, bench.retail), bench.retail), sw.OFFLINE_TOTAL_USED_UP)
    bench.buy(400, bench.retail)
    bench.select()
    refused(bench.pay(bench.sale(1, bench.retail), bench.retail), sw.OFFLINE_TOTAL_USED_UP)
    bench.acknowledge()
    bench.buy(1000, bench.retail)


@case
def balance(bench: Bench) -> None:
    """To the last fen, and not one more."""
    bench.want_pin()
    most = 2**31 - 1
    bench.limits(replace(LIMITS, single_fen=most, offline_total_fen=most, pin_free_fen=most))
    left = bench.state().balance_fen
    bench.select()
    refused(bench.pay(bench.sale(left + 1, bench.retail), bench.retail), sw.BALANCE_TOO_LOW)
    assert bench.buy(left, bench.retail).balance_fen == 0
    bench.select()
    refused(bench.pay(bench.sale(1)), sw.BALANCE_TOO_LOW)


@case
def pin_free_limit(bench: Bench) -> None:
    """Up to the limit without, above it not; in transit too, where there can be none."""
    bench.limits(replace(LIMITS, pin_free_fen=100))
    bench.buy(100, bench.retail)
    bench.select()
    refused(bench.pay(bench.sale(101, bench.retail), bench.retail), sw.PIN_WANTED)
    refused(bench.pay(bench.sale(101)), sw.PIN_WANTED)
    bench.buy(100)


@case
def order_of_the_rules(bench: Bench) -> None:
    """A sale that breaks every rule of 6 to 9: mended one by one, the card names the next one."""
    have = bench.state()
    bench.limits(replace(LIMITS, pin_free_fen=50, single_fen=have.balance_fen))
    records = [bench.buy(1) for _ in range(8)]
    tight = replace(
        LIMITS,
        single_fen=have.balance_fen - 1,
        pin_free_fen=50,
        offline_total_fen=10,
        offline_count=8,
        transit_count=1,
    )
    bench.limits(tight)
    bench.order(m.KIND_BLOCK)
    bus = bench.terminal(CLASS_TRANSIT)
    amount_fen = have.balance_fen + 1

    def expect(word: int) -> None:
        bench.select()
        sale = replace(bench.sale(amount_fen, bus), reference=bytes(12))
        refused(bench.pay(sale), word)

    expect(sw.BLOCKED)
    bench.order(m.KIND_UNBLOCK)
    expect(sw.PAYEE_UNKNOWN)
    bench.meet(bus)
    expect(sw.TRANSIT_ALLOWANCE_USED_UP)
    bench.limits(tight := replace(tight, transit_amount_fen=amount_fen))
    expect(sw.ABOVE_SINGLE_LIMIT)
    bench.limits(tight := replace(tight, single_fen=amount_fen))
    expect(sw.TOO_MANY_UNRATIFIED)
    for record in records:
        done(bench.ratify(record))
    expect(sw.JOURNAL_FULL)
    bench.limits(tight := replace(tight, offline_count=128))
    expect(sw.OFFLINE_TOTAL_USED_UP)
    bench.limits(tight := replace(tight, offline_total_fen=2 * amount_fen))
    expect(sw.BALANCE_TOO_LOW)
    bench.load(9)
    expect(sw.PIN_WANTED)
    bench.limits(replace(tight, pin_free_fen=amount_fen))
    bench.select()
    sale = replace(bench.sale(amount_fen, bus), reference=bytes(12))
    bench.paid(bench.pay(sale), sale)


@case
def order_of_the_first_rules(bench: Bench) -> None:
    """The same for rules 2 to 4 in retail, on a blocked card: the proof comes before the block."""
    shop = bench.terminal(CLASS_RETAIL)
    bench.order(m.KIND_BLOCK)
    bench.select()
    raw = replace(bench.sale(0, shop), currency=0x0840, terminal=bytes(4), profile=1).to_bytes()
    raw = b"\x02" + raw[1:]
    refused(bench.send(m.INS_PAY, raw + shop.digest + bytes(63)), sw.WRONG_LENGTH)
    steps = [
        (sw.WRONG_VERSION, 0, b"\x01"),
        (sw.MALFORMED, 57, b"\x02"),
        (sw.AMOUNT_INVALID, 23, (100).to_bytes(4, "big")),
        (sw.WRONG_CURRENCY, 27, b"\x01\x56"),
    ]
    for word, offset, mended in steps:
        refused(bench.send(m.INS_PAY, raw + shop.digest + bytes(64)), word)
        raw = raw[:offset] + mended + raw[offset + len(mended) :]
    refused(bench.send(m.INS_PAY, raw + shop.digest + bytes(64)), sw.CERTIFICATE_UNKNOWN)
    done(bench.exchange(shop))
    refused(bench.send(m.INS_PAY, raw + shop.digest + bytes(64)), sw.WRONG_CLASS)
    raw = raw[:29] + shop.certificate.terminal + raw[33:]
    refused(bench.send(m.INS_PAY, raw + shop.digest + bytes(64)), sw.SIGNATURE_WRONG)
    refused(bench.send(m.INS_PAY, bench.retail_data(raw, shop)), sw.BLOCKED)


@case
def every_field_of_the_sale_stands_in_the_record(bench: Bench) -> None:
    """Unchanged, whatever the terminal put there."""
    bench.select()
    sale = replace(
        bench.sale(123),
        reference=bench.entropy(12),
        terminal=b"\xff\xfe\xfd\xfc",
        transaction=0xFFFFFFFF,
        nonce=b"\xff" * 16,
        time_s=0xFFFFFFFF,
    )
    record = bench.paid(bench.pay(sale), sale)
    done(bench.prove())
    stored = done(bench.read(record.sequence))
    assert stored[28:83] == sale.to_bytes()[3:58]
