"""Section 16: refunds."""

from firmware_bridge.apdu import Response
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hw_tests.bench import LIMITS, Bench, Terminal, done, flipped, refused
from hw_tests.cases.registry import case


def request(bench: Bench, payment: r.Record, total_fen: int) -> m.RefundRequest:
    """A refund that nobody has asked for yet."""
    return m.RefundRequest(payment.sequence, total_fen, 77, bench.entropy(16), bench.now)


def body(bench: Bench, wanted: m.RefundRequest, terminal: Terminal) -> bytes:
    """What the terminal signs, built by hand from the page."""
    head = b"\xe4\x01" + bytes((bench.suite.number,)) + b"\x01" + bench.bundle.scheme + bench.card
    return head + bench.selected.nonce + terminal.digest + wanted.to_bytes()


def send(bench: Bench, wanted: m.RefundRequest, terminal: Terminal | None = None) -> Response:
    """REFUND with the nonce of the last SELECT."""
    at = terminal or bench.retail
    return bench.send(m.INS_REFUND, wanted.to_bytes() + at.digest + at.key.sign(body(bench, wanted, at)))


def refund(bench: Bench, payment: r.Record, total_fen: int, terminal: Terminal | None = None) -> Response:
    """SELECT and REFUND."""
    bench.select()
    return send(bench, request(bench, payment, total_fen), terminal)


def receipt(bench: Bench, response: Response, outcome: int) -> r.Record:
    """The receipt in REFUND's reply, its signature verified."""
    reply = done(response)
    assert (len(reply), reply[0]) == (161, outcome)
    record = r.parse(reply[1:])
    assert record.kind == r.REFUND
    bench.card_key.verify(record.signature, record.body)
    return record


def till_of_the_same_merchant(bench: Bench) -> Terminal:
    """Another retail terminal of the bench's retail merchant, known to the card."""
    subject = bench.retail.payee + bench.entropy(4)
    other = bench.signed_terminal(bench.certificate_of(0xC2, 1, subject, not_before=bench.begin))
    bench.select()
    bench.meet(other)
    return other


@case
def credits_the_total_once(bench: Bench) -> None:
    """The receipt says so; the same total again brings the same receipt, also at another till."""
    payment = bench.buy(1_250, bench.retail)
    bench.ratify(payment)
    before = bench.state()
    bench.select()
    wanted = request(bench, payment, 500)
    got = receipt(bench, send(bench, wanted), 1)
    assert got.sequence == before.sequence + 1
    assert (got.amount_fen, got.balance_fen) == (500, before.balance_fen + 500)
    assert got.payee == bench.retail.payee
    assert got.reference == payment.sequence.to_bytes(4, "big") + (500).to_bytes(4, "big") + bytes(4)
    assert (got.terminal, got.transaction, got.nonce, got.time_s) == (
        bench.retail.certificate.terminal,
        wanted.transaction,
        wanted.nonce,
        wanted.time_s,
    )
    assert (got.profile, got.cvm) == (2, 0)
    other = till_of_the_same_merchant(bench)
    for at in (bench.retail, other, bench.retail):
        bench.tear()
        assert receipt(bench, refund(bench, payment, 500, at), 2) == got
    after = bench.state()
    assert after.balance_fen == before.balance_fen + 500
    assert after.sequence == before.sequence + 1
    assert after.unratified == before.unratified + 1
    assert done(bench.ratify(got)) == b"\x01"


@case
def restores_no_offline_allowance(bench: Bench) -> None:
    """Spent total and offline count do not go back."""
    payment = bench.buy(1_250, bench.retail)
    before = bench.state()
    receipt(bench, refund(bench, payment, 1_250), 1)
    after = bench.state()
    assert after.spent_fen == before.spent_fen
    assert after.acknowledged_sequence == before.acknowledged_sequence


@case
def goes_up_to_what_was_paid(bench: Bench) -> None:
    """In steps; each receipt credits the difference; never above, never back."""
    payment = bench.buy(1_000, bench.retail)
    before = bench.state()
    assert receipt(bench, refund(bench, payment, 400), 1).amount_fen == 400
    refused(refund(bench, payment, 1_001), sw.REFUND_TOO_HIGH)
    refused(refund(bench, payment, 2**32 - 1), sw.REFUND_TOO_HIGH)
    refused(refund(bench, payment, 399), sw.REFUND_TOO_LOW)
    refused(refund(bench, payment, 0), sw.REFUND_TOO_LOW)
    assert receipt(bench, refund(bench, payment, 1_000), 1).amount_fen == 600
    refused(refund(bench, payment, 400), sw.REFUND_TOO_LOW)
    refused(refund(bench, payment, 1_001), sw.REFUND_TOO_HIGH)
    assert bench.state().balance_fen == before.balance_fen + 1_000


@case
def nothing_refunded_is_no_refund(bench: Bench) -> None:
    """A total of zero is refused while nothing was refunded, too."""
    payment = bench.buy(100, bench.retail)
    bench.unchanged(lambda: refused(refund(bench, payment, 0), sw.REFUND_TOO_LOW))


@case
def only_the_payee_refunds(bench: Bench) -> None:
    """Not another merchant, and not a terminal that the card has not verified."""
    payment = bench.buy(100, bench.retail)

    def run() -> None:
        refused(refund(bench, payment, 50, bench.transit), sw.WRONG_CLASS)
        refused(refund(bench, payment, 50, bench.terminal(1)), sw.CERTIFICATE_UNKNOWN)

    bench.unchanged(run)


@case
def a_bus_refunds_its_own_fare(bench: Bench) -> None:
    """Any class of terminal may give back."""
    fare = bench.buy(200)
    assert receipt(bench, refund(bench, fare, 200, bench.transit), 1).amount_fen == 200


@case
def any_altered_byte_is_refused(bench: Bench) -> None:
    """Each of the 104 bytes alone."""
    payment = bench.buy(100, bench.retail)

    def run() -> None:
        wanted = request(bench, payment, 50)
        for offset in range(104):
            bench.select()
            good = wanted.to_bytes() + bench.retail.digest
            data = good + bench.retail.key.sign(body(bench, wanted, bench.retail))
            word = sw.CERTIFICATE_UNKNOWN if 32 <= offset < 40 else sw.SIGNATURE_WRONG
            refused(bench.send(m.INS_REFUND, flipped(data, offset)), word)

    bench.unchanged(run)


@case
def an_order_of_an_earlier_session_is_refused(bench: Bench) -> None:
    """It is signed over the card's nonce."""
    payment = bench.buy(100, bench.retail)
    bench.select()
    wanted = request(bench, payment, 50)
    data = wanted.to_bytes() + bench.retail.digest
    data += bench.retail.key.sign(body(bench, wanted, bench.retail))
    bench.select()

    def run() -> None:
        bench.select()
        refused(bench.send(m.INS_REFUND, data), sw.SIGNATURE_WRONG)

    bench.unchanged(run)


@case
def only_a_payment_on_the_card_is_refunded(bench: Bench) -> None:
    """Not a load, not a refund, not a number that was never used."""
    load = bench.load(100)
    payment = bench.buy(100, bench.retail)
    back = receipt(bench, refund(bench, payment, 50), 1)

    def run() -> None:
        refused(refund(bench, load, 50), sw.NO_SUCH_RECORD)
        refused(refund(bench, back, 50), sw.NO_SUCH_RECORD)
        bench.select()
        refused(send(bench, m.RefundRequest(2**32 - 1, 50, 1, bytes(16), 0)), sw.NO_SUCH_RECORD)

    bench.unchanged(run)


@case
def a_blocked_card_is_not_credited(bench: Bench) -> None:
    """But tells the receipt of what it was credited before."""
    payment = bench.buy(100, bench.retail)
    got = receipt(bench, refund(bench, payment, 50), 1)
    bench.order(m.KIND_BLOCK)
    refused(refund(bench, payment, 60), sw.BLOCKED)
    assert receipt(bench, refund(bench, payment, 50), 2) == got
    bench.order(m.KIND_UNBLOCK)


@case
def the_balance_cap_holds(bench: Bench) -> None:
    """A refund lifts the balance to the cap at most."""
    payment = bench.buy(1_000, bench.retail)
    room_fen = LIMITS.balance_cap_fen - bench.state().balance_fen
    bench.load(room_fen - 999)
    refused(refund(bench, payment, 1_000), sw.ABOVE_BALANCE_CAP)
    assert receipt(bench, refund(bench, payment, 999), 1).balance_fen == LIMITS.balance_cap_fen


@case
def once_a_session(bench: Bench) -> None:
    """After a refund or a payment the nonce has served; one that was done before leaves it fresh."""
    payment = bench.buy(100, bench.retail)
    bench.select()
    receipt(bench, send(bench, request(bench, payment, 50)), 1)
    refused(send(bench, request(bench, payment, 60)), sw.SELECT_FIRST)
    bench.select()
    receipt(bench, send(bench, request(bench, payment, 50)), 2)
    receipt(bench, send(bench, request(bench, payment, 60)), 1)


@case
def waits_its_turn_among_the_unratified(bench: Bench) -> None:
    """With 8 unratified entries a refund waits like a payment."""
    payment = bench.buy(100, bench.retail)
    while len_unratified(bench) < 8:
        bench.buy(1, bench.retail)
    refused(refund(bench, payment, 50), sw.TOO_MANY_UNRATIFIED)
    assert done(bench.ratify(payment)) == b"\x01"
    receipt(bench, refund(bench, payment, 50), 1)


def len_unratified(bench: Bench) -> int:
    """How many entries are unratified, from SELECT."""
    return bench.select().unratified


@case
def tells_what_was_refunded(bench: Bench) -> None:
    """READ RECORD with P1 02, to a terminal that has proved itself."""
    payment = bench.buy(100, bench.retail)
    bench.select()
    refused(bench.read(payment.sequence, m.P1_REFUNDED_TOTAL), sw.NOT_PROVED)
    done(bench.prove())
    assert done(bench.read(payment.sequence, m.P1_REFUNDED_TOTAL)) == bytes(4)
    receipt(bench, refund(bench, payment, 30), 1)
    receipt(bench, refund(bench, payment, 70), 1)
    assert done(bench.read(payment.sequence, m.P1_REFUNDED_TOTAL)) == (70).to_bytes(4, "big")
    refused(bench.read(2**32 - 1, m.P1_REFUNDED_TOTAL), sw.NO_SUCH_RECORD)
