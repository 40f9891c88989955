"""A tear at every exchange and at every write of every kind of session, and every order of return.

Rows 1 to 6, 8 and 34e of the fault matrix, at the card: old or new state, nothing between; what was committed
can be read; the session repeated ends in exactly one debit or credit.
"""

import pytest

from firmware_bridge.errors import CardGone
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.card.memory import parse_state
from hardwallet.issuing import Scheme
from hw_tests.bench import PIN, WRONG_PIN, Authority, Terminal, done
from tests.hardwallet.sessions import KINDS, pay_at
from tests.hardwallet.torn import (
    TornBench,
    check_conservation,
    money,
    named,
    new_torn_bench,
    rehearse,
    torn_sessions,
    without_allowance,
    write_tears,
)


@pytest.fixture
def bench(scheme: Scheme, authority: Authority, now: int) -> TornBench:
    """A new card that can be torn."""
    return new_torn_bench(scheme, authority, now)


IN_GM_TOO = ("transit", "retail with PIN", "already paid", "refund", "load", "order", "introduce")


@pytest.mark.parametrize(
    ("suite", "kind"),
    [*(("international", kind) for kind in KINDS), *(("gm", kind) for kind in IN_GM_TOO)],
    indirect=["suite"],
)
def test_torn_anywhere_and_repeated(bench: TornBench, kind: str) -> None:
    """After the repetition the card is where a session without a tear leaves it."""
    prepare, exchanges, writes = KINDS[kind]
    session = rehearse(bench, prepare(bench))
    assert (session.exchanges, len(session.writes)) == (exchanges, writes)
    points = 0
    for _ in torn_sessions(session):
        points += 1
        session.act()
        ends = without_allowance(bench.peek)
        wanted = without_allowance(session.after)
        if kind in ("exchange", "introduce", "renew issuer"):  # a torn place may be taken up again in turn
            assert money(ends) == money(wanted)
            assert ends.date_floor == wanted.date_floor
        else:
            assert ends == wanted
        if kind != "first PIN":
            assert bench.memory.tries() == 3
        check_conservation(bench)
    assert points == 2 * exchanges + len(write_tears(session.writes))


@pytest.mark.parametrize("kind", ["exchange", "introduce", "renew issuer"])
def test_torn_cache_never_holds_half_a_certificate(bench: TornBench, kind: str) -> None:
    """What counts as valid is one of the certificates that were given to the card."""
    prepare, _, _ = KINDS[kind]
    act = prepare(bench)

    def valid() -> list[bytes]:
        state = bench.peek
        terminals = [bench.memory.terminal(p) for p in range(8) if state.terminals_valid >> p & 1]
        operators = [bench.memory.operator(p) for p in range(4) if state.operators_valid >> p & 1]
        return terminals + operators

    session = rehearse(bench, act)
    before = valid()
    act()
    known = {*before, *valid()}
    lost = 0
    for _ in torn_sessions(session):
        now = valid()
        assert set(now) <= known
        assert len(before) - len(now) <= 1
        lost += len(before) - len(now)
    assert lost > 0  # some of the tears fell between the two commits


def test_the_sweep_sees_a_tear_before_and_after_the_commit(bench: TornBench) -> None:
    """The sweep itself: of a payment's tears, some leave the old state and some the new one."""
    session = rehearse(bench, KINDS["transit"][0](bench))
    seen = {money(bench.peek) for _ in torn_sessions(session)}
    assert seen == {money(session.before), money(session.after)}


# ---------------------------------------------------------------------- PIN tries


def test_a_torn_try_is_spent(bench: TornBench) -> None:
    """From the moment that the card could know whether the PIN is right, no tear gives the try back."""
    bench.want_pin()
    for pin in (WRONG_PIN, PIN):
        start = bench.memory.snapshot()
        sale = bench.sale(38_000, bench.retail)

        def act(sale: m.SaleRequest = sale, pin: str = pin) -> None:
            bench.select()
            raw = sale.to_bytes()
            bench.pay(raw, bench.retail, bench.pin_part(raw, pin))

        bench.restore(start)
        act()
        writes = list(bench.memory.sizes)
        assert writes[0] == ("write", 1)
        right = pin == PIN
        for tear in write_tears(writes):
            with named((pin == PIN, tear.what)):
                bench.restore(start)
                bench.memory.arm(tear)
                with pytest.raises(CardGone):
                    act()
                bench.again_in_field()
                taken = tear.write > 1 or tear.kept == 1
                given_back = right and (tear.write > 2 or (tear.write == 2 and tear.kept == 1))
                assert bench.memory.tries() == (2 if taken and not given_back else 3)
        bench.restore(start)


def test_torn_tries_lock_in_the_end(bench: TornBench) -> None:
    """Three torn tries, and not even the right PIN is looked at (a guesser's way around the counter)."""
    bench.want_pin()
    for left in (2, 1, 0):
        bench.select()
        raw = bench.sale(38_000, bench.retail).to_bytes()
        part = bench.pin_part(raw, WRONG_PIN)
        bench.in_process.tear_at(1, "after")
        with pytest.raises(CardGone):
            bench.pay(raw, bench.retail, part)
        bench.again_in_field()
        assert bench.memory.tries() == left
    bench.select()
    raw = bench.sale(38_000, bench.retail).to_bytes()
    assert bench.pay(raw, bench.retail, bench.pin_part(raw, PIN)).sw == sw.PIN_LOCKED


# ---------------------------------------------------------------------- orders of return


def carry(bench: TornBench, terminal: Terminal) -> list[r.Record]:
    """What a terminal does after its own grant: prove itself, read, verify, ratify what waits."""
    done(bench.prove(terminal))
    carried: list[r.Record] = []
    above = 0
    while True:
        response = bench.read(above, m.P1_NEXT_UNRATIFIED)
        if response.sw == sw.NO_SUCH_RECORD:
            return carried
        record = r.parse(done(response)[:160])
        bench.card_key.verify(record.signature, record.body)
        done(bench.ratify(record))
        carried.append(record)
        above = record.sequence


def visit(bench: TornBench, terminal: Terminal, amount_fen: int) -> list[r.Record]:
    """Another terminal takes its own fare and carries: all that it holds afterwards."""
    record = pay_at(bench, bench.sale(amount_fen, terminal), None)
    done(bench.ratify(record))
    return [record, *carry(bench, terminal)]


RETURNS = {
    "same": ("same",),
    "other": ("other",),
    "other, same": ("other", "same"),
    "same, other": ("same", "other"),
    "other, other, same": ("other", "other", "same"),
    "other, same, same": ("other", "same", "same"),
}


@pytest.mark.parametrize("order", RETURNS)
@pytest.mark.parametrize("kind", ["transit", "retail"])
def test_every_order_of_return(bench: TornBench, kind: str, order: str) -> None:
    """One sale, one debit, and every committed record is at some terminal in the end."""
    bus = bench.transit
    shop = bench.retail if kind == "retail" else None
    sale = bench.sale(1250 if shop else 200, shop)

    def act() -> None:
        done(bench.ratify(pay_at(bench, sale, shop)))

    session = rehearse(bench, act)
    for _ in torn_sessions(session):
        committed = bench.peek.sequence > session.before.sequence
        held: list[r.Record] = []
        for step in RETURNS[order]:
            if step == "same":
                record = pay_at(bench, sale, shop)
                done(bench.ratify(record))
                held.append(record)
            else:
                held += visit(bench, bus, 10)
        paid = {one.body for one in held if one.reference == sale.reference}
        came_back = "same" in RETURNS[order]
        was_ratified = committed and not came_back and not paid
        # Torn after RATIFY arrived: the terminal had stored it before, so nothing is left to carry.
        assert len(paid) == (1 if came_back or committed else 0) - was_ratified
        if was_ratified:
            assert bench.live_records()[0].reference == sale.reference
            assert bench.is_ratified(session.before.sequence + 1)
        visits = RETURNS[order].count("other")
        debits = (1 if came_back or committed else 0) * sale.amount_fen + visits * 10
        assert bench.peek.balance_fen == session.before.balance_fen - debits
        assert bench.peek.spent_fen == session.before.spent_fen + debits
        assert not bench.peek.unratified
        check_conservation(bench)


def test_already_paid_elsewhere_says_ratified(bench: TornBench) -> None:
    """Row 3b: torn at A, carried by B, back at A: outcome 03, the very record that B carried."""
    shop = bench.retail
    sale = bench.sale(1250, shop)
    bench.select()
    data = bench.retail_data(sale.to_bytes(), shop)
    bench.in_process.tear_at(1, "after")
    with pytest.raises(CardGone):
        bench.send(m.INS_PAY, data)
    bench.again_in_field()
    carried = visit(bench, bench.transit, 10)
    bench.select()
    again = bench.again(sale)
    outcome, record = bench.found(bench.pay(again, shop), again)
    assert outcome == 3
    assert record in carried


def test_eight_torn_taps_then_a_terminal_carries(bench: TornBench) -> None:
    """Row 5: the card refuses the ninth until somebody carries; then it pays, and nothing is lost."""
    torn = []
    for _ in range(8):
        sale = bench.sale(5)
        bench.select()
        bench.in_process.tear_at(1, "after")
        with pytest.raises(CardGone):
            bench.pay(sale)
        bench.again_in_field()
        torn.append(sale.reference)
    bench.select()
    ninth = bench.sale(5)
    assert bench.pay(ninth).sw == sw.TOO_MANY_UNRATIFIED
    assert [one.reference for one in carry(bench, bench.transit)] == torn
    bench.paid(bench.pay(ninth), ninth)


def test_states_of_a_run_are_what_the_card_commits(bench: TornBench) -> None:
    """The sweep's yardstick: it holds the state before and each one after."""
    session = rehearse(bench, KINDS["transit"][0](bench))
    sequences = [parse_state(state).sequence - session.before.sequence for state in session.states]
    assert sequences == [0, 1, 1]
