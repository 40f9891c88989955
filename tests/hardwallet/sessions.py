"""Every kind of card session, as something that can be torn and repeated.

Each function prepares a card and returns the session: repeated after any tear, it ends as if never torn.
"""

from collections.abc import Callable
from dataclasses import replace

from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.certificates import (
    CLASS_BESIDE,
    CLASS_RETAIL,
    CLASS_TRANSIT,
    OPERATOR,
    TERMINAL,
    digest,
    signed,
)
from hardwallet.issuing import ISSUER
from hw_tests.bench import LIMITS, PIN, WRONG_PIN, Terminal, done
from tests.hardwallet.torn import Act, TornBench

NEW_PIN = "5550100"
JOURNAL = 128


def pay_at(bench: TornBench, sale: m.SaleRequest, terminal: Terminal | None, pin: str = "") -> r.Record:
    """SELECT and PAY of one sale, fresh or already paid."""
    bench.select()
    asked = bench.again(sale)
    block = bench.pin_part(asked.to_bytes(), pin) if pin else b""
    response = bench.pay(asked, terminal, block)
    if len(response.data) == 225:
        return bench.found(response, asked)[1]
    return bench.paid(response, asked)


def _payment(bench: TornBench, amount_fen: int, terminal: Terminal | None, pin: str = "") -> Act:
    sale = bench.sale(amount_fen, terminal)

    def act() -> None:
        done(bench.ratify(pay_at(bench, sale, terminal, pin)))

    return act


def transit(bench: TornBench) -> Act:
    """Three exchanges: SELECT, PAY, RATIFY."""
    return _payment(bench, 200, None)


def retail(bench: TornBench) -> Act:
    """The terminal proves itself."""
    bench.buy(30)
    return _payment(bench, 1250, bench.retail)


def retail_with_pin(bench: TornBench) -> Act:
    """The right one."""
    bench.want_pin()
    return _payment(bench, 38_000, bench.retail, PIN)


def already_paid(bench: TornBench) -> Act:
    """The record waits on the card."""
    bench.select()
    sale = bench.sale(100)
    bench.paid(bench.pay(sale), sale)

    def act() -> None:
        done(bench.ratify(pay_at(bench, sale, None)))

    return act


def ratify(bench: TornBench) -> Act:
    """Only that."""
    record = bench.buy(100)

    def act() -> None:
        bench.select()
        done(bench.ratify(record))

    return act


def overwriting(bench: TornBench) -> Act:
    """The 129th record, where an acknowledged one lay."""
    assert bench.peek.acknowledged_sequence == bench.peek.sequence
    for _ in range(JOURNAL - 1):
        done(bench.ratify(bench.buy(1, bench.retail)))
    assert bench.peek.sequence - bench.peek.acknowledged_sequence == JOURNAL - 1
    return _payment(bench, 7, None)


def load(bench: TornBench) -> Act:
    """One order, sent until its receipt arrives."""
    bench.select()
    raw = bench.sign_order(bench.load_order(500, time_s=bench.peek.date_floor + 3).body())

    def act() -> None:
        bench.select()
        reply = done(bench.send(m.INS_LOAD, raw))
        record = r.parse(reply[1:])
        bench.card_key.verify(record.signature, record.body)
        assert (record.kind, record.amount_fen) == (r.LOAD, 500)
        done(bench.ratify(record))

    return act


def refund(bench: TornBench) -> Act:
    """One total, asked for until its receipt arrives."""
    payment = bench.buy(1_250, bench.retail)
    done(bench.ratify(payment))

    def act() -> None:
        record = refund_to(bench, payment, 500)
        assert (record.kind, record.amount_fen) == (r.REFUND, 500)
        done(bench.ratify(record))

    return act


def refund_of_the_rest(bench: TornBench) -> Act:
    """A second total, above one that was reached before."""
    payment = bench.buy(1_250, bench.retail)
    first = refund_to(bench, payment, 500)
    for record in (payment, first):
        done(bench.ratify(record))

    def act() -> None:
        record = refund_to(bench, payment, 1_250)
        assert (record.kind, record.amount_fen) == (r.REFUND, 750)
        done(bench.ratify(record))

    return act


def refund_to(bench: TornBench, payment: r.Record, total_fen: int) -> r.Record:
    """SELECT and REFUND at the till that was paid; the receipt, verified."""
    bench.select()
    wanted = m.RefundRequest(payment.sequence, total_fen, 9, bench.entropy(16), bench.now).to_bytes()
    till, suite = bench.retail, bench.suite.number
    body = m.refund_order_body(
        suite, bench.bundle.scheme, bench.card, bench.selected.nonce, till.digest, wanted
    )
    reply = done(bench.send(m.INS_REFUND, wanted + till.digest + till.key.sign(body)))
    record = r.parse(reply[1:])
    bench.card_key.verify(record.signature, record.body)
    return record


def load_that_frees_its_place(bench: TornBench) -> Act:
    """A full journal: the order acknowledges the entry that its receipt overwrites."""
    for _ in range(JOURNAL):
        done(bench.ratify(bench.buy(1, bench.retail)))
    state = bench.peek
    assert state.sequence - state.acknowledged_sequence == JOURNAL
    bench.select()
    order = bench.load_order(500, acknowledged_sequence=state.acknowledged_sequence + 2)
    raw = bench.sign_order(order.body())

    def act() -> None:
        bench.select()
        record = r.parse(done(bench.send(m.INS_LOAD, raw))[1:])
        done(bench.ratify(record))

    return act


def order(bench: TornBench) -> Act:
    """New limits; when it was obeyed already, its number is too low."""
    limits = replace(LIMITS, single_fen=777)
    raw = bench.sign_order(bench.order_of(m.KIND_LIMITS, limits.to_bytes() + b"\x04").body())

    def act() -> None:
        bench.select()
        response = bench.send(m.INS_ORDER, raw)
        assert response.sw in (sw.OK, sw.ORDER_TOO_OLD)

    return act


def order_to_acknowledge(bench: TornBench) -> Act:
    """Three payments, two of them arrived."""
    records = [bench.buy(10) for _ in range(3)]
    value = records[1].sequence.to_bytes(4, "big") + (bench.peek.acknowledged_fen + 20).to_bytes(4, "big")
    raw = bench.sign_order(bench.order_of(m.KIND_ACKNOWLEDGE, value).body())

    def act() -> None:
        bench.select()
        assert bench.send(m.INS_ORDER, raw).sw in (sw.OK, sw.ORDER_TOO_OLD)

    return act


def change_pin(bench: TornBench) -> Act:
    """From the one to the other; when it was changed already, the new one is right."""
    bench.want_pin()

    def act() -> None:
        bench.select()
        response = bench.change_pin(PIN, NEW_PIN)
        if response.sw != sw.OK:
            bench.select()
            done(bench.change_pin(NEW_PIN, NEW_PIN))

    return act


def first_pin(bench: TornBench) -> Act:
    """A card that has none."""

    def act() -> None:
        bench.select()
        if bench.selected.state & m.STATE_PIN_SET:
            done(bench.change_pin(NEW_PIN, NEW_PIN))
        else:
            done(bench.change_pin("", NEW_PIN))

    return act


def exchange(bench: TornBench) -> Act:
    """A ninth terminal, while the card keeps eight."""
    for _ in range(8):
        bench.meet(bench.terminal(CLASS_TRANSIT))
    bench.meet(bench.retail)
    newcomer = bench.terminal(CLASS_RETAIL, bench.peek.date_floor + 1)

    def act() -> None:
        bench.select()
        done(bench.exchange(newcomer))
        done(bench.prove(newcomer))

    return act


def introduce(bench: TornBench) -> Act:
    """A new operator, while the card keeps four."""
    for _ in range(3):
        done(bench.send(m.INS_INTRODUCE, bench.operator()[0].to_bytes()))
    operator, key = bench.operator(not_before=bench.peek.date_floor + 1)
    subject = operator.operator + bytes(8)
    blank = bench.certificate_of(TERMINAL, CLASS_RETAIL, subject, authority=operator.operator)
    terminal = bench.signed_terminal(blank, key)

    def act() -> None:
        bench.select()
        done(bench.send(m.INS_INTRODUCE, operator.to_bytes()))
        done(bench.exchange(terminal))

    return act


def renew_issuer(bench: TornBench) -> Act:
    """A newer certificate of the card's own issuer, with the same key; then a load under it."""
    old = bench.bundle.operator(ISSUER)
    assert old.kind == OPERATOR
    newer = signed(replace(old, not_before=old.not_before + 1), bench.authority.root)
    assert digest(bench.suite, newer) != digest(bench.suite, old)
    bench.select()
    raw = bench.sign_order(bench.load_order(5).body())

    def act() -> None:
        bench.select()
        done(bench.send(m.INS_INTRODUCE, newer.to_bytes()))
        record = r.parse(done(bench.send(m.INS_LOAD, raw))[1:])
        done(bench.ratify(record))

    return act


def rotate_issuer(bench: TornBench) -> Act:
    """A certificate with another key beside that of the card's issuer; then a load under it."""
    old = bench.bundle.operator(ISSUER)
    key = bench.suite.new_signing_key(bench.entropy)
    changed = replace(old, klass=old.klass | CLASS_BESIDE, public=key.public, not_before=old.not_before + 1)
    newer = signed(changed, bench.authority.root)
    bench.select()
    body = bench.load_order(5).body()
    raw = body + key.sign(body)

    def act() -> None:
        bench.select()
        done(bench.send(m.INS_INTRODUCE, newer.to_bytes()))
        done(bench.ratify(r.parse(done(bench.send(m.INS_LOAD, raw))[1:])))

    return act


def prove(bench: TornBench) -> Act:
    """The transit allowance comes back."""
    bench.buy(30)

    def act() -> None:
        bench.select()
        done(bench.prove())

    return act


KINDS: dict[str, tuple[Callable[[TornBench], Act], int, int]] = {
    # the session, its exchanges, its writes
    "transit": (transit, 3, 3),
    "retail": (retail, 3, 3),
    "retail with PIN": (retail_with_pin, 3, 5),
    "already paid": (already_paid, 3, 1),
    "ratify": (ratify, 2, 1),
    "overwriting": (overwriting, 3, 3),
    "load": (load, 3, 3),
    "refund": (refund, 3, 3),
    "refund of the rest": (refund_of_the_rest, 3, 3),
    "load that frees its place": (load_that_frees_its_place, 3, 4),
    "order": (order, 2, 1),
    "order to acknowledge": (order_to_acknowledge, 2, 1),
    "change PIN": (change_pin, 2, 3),
    "first PIN": (first_pin, 2, 2),
    "exchange": (exchange, 3, 3),
    "introduce": (introduce, 3, 6),
    "renew issuer": (renew_issuer, 4, 6),
    "rotate issuer": (rotate_issuer, 4, 6),
    "prove": (prove, 2, 1),
}

__all__ = ["KINDS", "NEW_PIN", "WRONG_PIN", "pay_at"]
