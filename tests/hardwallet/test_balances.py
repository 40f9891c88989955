"""Any order of good and bad commands, tears and power cuts, against a model of a purse on one page.

What must hold: balance = loads - payments + refunds; the sequence number rises by one with each of them and
never otherwise; the same sale is paid once; the card refuses exactly what the model refuses.
"""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from firmware_bridge.errors import CardGone
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.issuing import open_scheme
from hardwallet.limits import Limits
from hw_tests.bench import Authority, done
from hw_tests.cases.refund import refund
from tests.hardwallet.conftest import PASSPHRASE
from tests.hardwallet.torn import TornBench

LIMITS = Limits(60_000, 9_000, 4_000, 30_000, 24, 4, 5_000)
AMOUNTS = st.one_of(
    st.integers(1, 5_000),
    st.sampled_from([0, 1, 4_000, 4_001, 5_000, 5_001, 9_000, 9_001, 2**31 - 1, 2**31, 2**32 - 1]),
)


@dataclass
class Purse:
    """The model: what a card's holder would note down."""

    loaded_fen: int = 0
    paid_fen: int = 0
    refunded_fen: int = 0
    acknowledged_fen: int = 0
    sequence: int = 0
    acknowledged: int = 0
    loads: int = 0
    blocked: bool = False
    passes: int = 0
    passed_fen: int = 0
    waiting: set[int] = field(default_factory=set)
    refunds: dict[int, int] = field(default_factory=dict)

    @property
    def balance_fen(self) -> int:
        """What is left."""
        return self.loaded_fen + self.refunded_fen - self.paid_fen

    def has_room(self, most: int) -> bool:
        """Whether another record fits."""
        return len(self.waiting) < 8 and self.sequence + 1 - self.acknowledged <= most

    def may_pay(self, amount_fen: int, *, passing: bool) -> bool:
        """Every rule in one line each."""
        within = not passing or (
            self.passes < LIMITS.transit_count and self.passed_fen + amount_fen <= LIMITS.transit_amount_fen
        )
        offline_fen = self.paid_fen - self.acknowledged_fen + amount_fen
        return (
            not self.blocked
            and 1 <= amount_fen <= LIMITS.pin_free_fen
            and within
            and self.has_room(LIMITS.offline_count)
            and offline_fen <= LIMITS.offline_total_fen
            and amount_fen <= self.balance_fen
        )

    def pay(self, amount_fen: int, *, passing: bool) -> None:
        """A payment is committed."""
        self.sequence += 1
        self.waiting.add(self.sequence)
        self.paid_fen += amount_fen
        self.passes = self.passes + 1 if passing else 0
        self.passed_fen = self.passed_fen + amount_fen if passing else 0


@dataclass(frozen=True)
class Paid:
    """A sale that the card has paid."""

    sale: m.SaleRequest
    sequence: int
    passing: bool


class Balances(RuleBasedStateMachine):
    """Commands in any order."""

    made: "tuple[TornBench, tuple[bytes, bytes]]"

    def __init__(self) -> None:
        super().__init__()
        self.bench, self.start = self.made
        self.purse = Purse()
        self.paid: list[Paid] = []
        self.records: dict[int, r.Record] = {}
        self.last_load = b""

    @initialize()
    def new_card(self) -> None:
        """The card as it was issued."""
        self.bench.restore(self.start)

    def _select(self) -> None:
        self.bench.select()

    def _keep(self, record: r.Record) -> None:
        assert record.sequence == self.purse.sequence
        assert record.balance_fen == self.purse.balance_fen
        self.records[record.sequence] = record

    @rule(amount_fen=st.integers(0, 70_000), gone=st.booleans())
    def load(self, amount_fen: int, gone: bool) -> None:
        """With a tear after it now and then; then the same order again brings the receipt."""
        self._select()
        self.last_load = self.bench.sign_order(self.bench.load_order(amount_fen).body())
        fits = not amount_fen or self.purse.balance_fen + amount_fen <= LIMITS.balance_cap_fen
        if gone:
            self._torn(m.INS_LOAD, self.last_load)
            self._select()
        response = self.bench.send(m.INS_LOAD, self.last_load)
        if self.purse.blocked or not fits or not self.purse.has_room(128):
            assert response.sw != sw.OK
            self.last_load = b""
            return
        self.purse.sequence += 1
        self.purse.loads += 1
        self.purse.loaded_fen += amount_fen
        self.purse.waiting.add(self.purse.sequence)
        self._keep(self.bench.receipt(response, 2 if gone else 1))

    @precondition(lambda self: self.last_load)
    @rule()
    def load_again(self) -> None:
        """The last order credits nothing more."""
        self._select()
        self.bench.receipt(self.bench.send(m.INS_LOAD, self.last_load), 2)

    @rule(amount_fen=AMOUNTS, passing=st.booleans(), gone=st.booleans())
    def pay(self, amount_fen: int, passing: bool, gone: bool) -> None:
        """At the bus or at the shop; torn after it now and then, then asked for again."""
        self._select()
        terminal = None if passing else self.bench.retail
        sale = self.bench.sale(amount_fen, terminal)
        wanted = self.purse.may_pay(amount_fen, passing=passing)
        if gone:
            raw = sale.to_bytes()
            self._torn(m.INS_PAY, raw if terminal is None else self.bench.retail_data(raw, terminal))
            self._select()
            response = self.bench.pay(sale, terminal)
        else:
            response = self.bench.pay(sale, terminal)
        if not wanted:
            assert response.sw != sw.OK
            return
        self.purse.pay(amount_fen, passing=passing)
        record = self.bench.found(response, sale)[1] if gone else self.bench.paid(response, sale)
        self._keep(record)
        self.paid.append(Paid(sale, record.sequence, passing))

    @precondition(lambda self: self.paid)
    @rule(data=st.data())
    def pay_again(self, data: st.DataObject) -> None:
        """A sale that was paid is found, whatever has become of the card since."""
        one = data.draw(st.sampled_from(self.paid))
        self._select()
        again = self.bench.again(one.sale)
        terminal = None if one.passing else self.bench.retail
        outcome, record = self.bench.found(self.bench.pay(again, terminal), again)
        assert record == self.records[one.sequence]
        assert outcome == (2 if one.sequence in self.purse.waiting else 3)

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), amount_fen=st.integers(1, 4_000))
    def pay_another_amount(self, data: st.DataObject, amount_fen: int) -> None:
        """The same reference with another amount is another sale."""
        one = data.draw(st.sampled_from(self.paid))
        sale = replace(self.bench.again(one.sale), amount_fen=amount_fen)
        if any(
            other.sale.reference == sale.reference and other.sale.amount_fen == amount_fen
            for other in self.paid
        ):
            return
        self._select()
        terminal = None if one.passing else self.bench.retail
        wanted = self.purse.may_pay(amount_fen, passing=one.passing)
        response = self.bench.pay(sale, terminal)
        assert (response.sw == sw.OK) == wanted
        if wanted:
            self.purse.pay(amount_fen, passing=one.passing)
            record = self.bench.paid(response, sale)
            self._keep(record)
            self.paid.append(Paid(sale, record.sequence, one.passing))

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), total_fen=st.integers(0, 9_001))
    def refund(self, data: st.DataObject, total_fen: int) -> None:
        """Up to a total, from the payee of the payment."""
        one = data.draw(st.sampled_from(self.paid))
        terminal = self.bench.transit if one.passing else self.bench.retail
        response = refund(self.bench, self.records[one.sequence], total_fen, terminal)
        before = self.purse.refunds.get(one.sequence, 0)
        if total_fen == before and before:
            assert done(response)[0] == 2
            return
        credit_fen = total_fen - before
        if (
            self.purse.blocked
            or not before < total_fen <= one.sale.amount_fen
            or self.purse.balance_fen + credit_fen > LIMITS.balance_cap_fen
            or not self.purse.has_room(128)
        ):
            assert response.sw != sw.OK
            return
        self.purse.sequence += 1
        self.purse.refunded_fen += credit_fen
        self.purse.refunds[one.sequence] = total_fen
        self.purse.waiting.add(self.purse.sequence)
        self.purse.passes = self.purse.passed_fen = 0
        self._keep(r.parse(done(response)[1:]))

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def ratify(self, data: st.DataObject) -> None:
        """In any order, once or again."""
        record = self.records[data.draw(st.sampled_from(sorted(self.records)))]
        self._select()
        expected = b"\x01" if record.sequence in self.purse.waiting else b"\x00"
        assert done(self.bench.ratify(record)) == expected
        self.purse.waiting.discard(record.sequence)

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        """Some of what has arrived, with its total."""
        reached = int(share * self.purse.sequence)
        total = sum(one.sale.amount_fen for one in self.paid if one.sequence <= reached)
        value = reached.to_bytes(4, "big") + total.to_bytes(4, "big")
        self._order(m.KIND_ACKNOWLEDGE, value)
        self.purse.acknowledged = max(self.purse.acknowledged, reached)
        self.purse.acknowledged_fen = max(self.purse.acknowledged_fen, total)
        self.purse.waiting = {number for number in self.purse.waiting if number > self.purse.acknowledged}

    @rule(blocked=st.booleans())
    def block(self, blocked: bool) -> None:
        """Or unblock."""
        self._order(m.KIND_BLOCK if blocked else m.KIND_UNBLOCK, b"")
        self.purse.blocked = blocked

    def _order(self, kind: int, value: bytes) -> None:
        number = self.bench.peek.order_number + 1
        self._select()
        done(self.bench.send_order(self.bench.order_of(kind, value, number)))

    @rule()
    def prove(self) -> None:
        """The transit allowance comes back."""
        self._select()
        done(self.bench.prove())
        self.purse.passes = self.purse.passed_fen = 0

    @rule()
    def lose_power(self) -> None:
        """Nothing is lost by it."""
        self.bench.tear()

    @rule(seed=st.integers(0, 2**32))
    def garbage(self, seed: int) -> None:
        """Noise with good headers; nothing of it succeeds but what asks for nothing."""
        chance = random.Random(seed)
        self._select()
        for _ in range(4):
            ins = chance.choice([m.INS_PAY, m.INS_LOAD, m.INS_ORDER, m.INS_RATIFY, m.INS_PROVE, m.INS_REFUND])
            length = chance.choice([0, 12, 58, 72, 104, 122, 125, 130, 210])
            assert self.bench.send(ins, chance.randbytes(length)).sw != sw.OK

    def _torn(self, ins: int, data: bytes) -> None:
        self.bench.in_process.tear_at(1, "after")
        with pytest.raises(CardGone):
            self.bench.send(ins, data)
        self.bench.again_in_field()

    @invariant()
    def card_and_model_agree(self) -> None:
        """After every step, in the card's own memory."""
        state, purse = self.bench.peek, self.purse
        assert state.balance_fen == purse.balance_fen >= 0
        assert state.sequence == purse.sequence
        assert state.spent_fen == purse.paid_fen
        assert state.load_counter == purse.loads
        assert (state.acknowledged_sequence, state.acknowledged_fen) == (
            purse.acknowledged,
            purse.acknowledged_fen,
        )
        assert (state.transit_count, state.transit_amount_fen) == (purse.passes, purse.passed_fen)
        assert {index + 1 for index in state.unratified} == purse.waiting


def test_balances(scheme_folder: Path, authority: Authority, now: int) -> None:
    """The machine, on a card whose limits are met within a few steps."""
    with open_scheme(scheme_folder, PASSPHRASE, random.Random(12).randbytes) as scheme:
        identity, memory = scheme.new_card(5, now)
    memory.commit(memory.state().changed(limits=LIMITS).to_bytes())
    bench = TornBench(identity, memory, authority, now)
    bench.select()
    bench._meet()
    Balances.made = bench, bench.memory.snapshot()
    bounded = settings(
        max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Balances, settings=bounded)
