"""The story of `make demo`, in one process: it holds, and it fails wherever something is broken."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet import operator_story
from fleet.stage import InProcessStage
from fleet.story import tell
from fleet.telling import Step, Story, TapLine, today
from hardwallet import keys
from hardwallet.card.applet import Card
from hardwallet.card.memory import State
from hardwallet.denylist import Denylist
from hardwallet.records import Record
from offline_sync.clearing import Clearing, Report, losses
from offline_sync.journal import SqliteJournal
from pos_terminal import tap as tap_module
from pos_terminal.pouch import Orders
from pos_terminal.sale import SaleState
from pos_terminal.visit import Outcome, Stop
from tests.fleet.told import changed, failed, tell_quickly

STEPS = [str(number) for number in range(1, 12)]


@pytest.fixture(scope="module")
def whole() -> tuple[Story, list[Step]]:
    """The story as it is told: clearing and the till that is killed are processes of their own."""
    steps: list[Step] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", 2)
        story = tell(InProcessStage(), lambda: int(time.time()), time.perf_counter, os.urandom, steps.append)
    return story, steps


def test_every_step_holds(whole: tuple[Story, list[Step]]) -> None:
    story, steps = whole
    assert failed(story) == {}
    assert story.ok
    assert [step.id for step in story.steps] == STEPS
    assert steps == story.steps
    assert story.stack == "sim"
    assert story.reader_uri.startswith("sim:")


def test_the_sums_of_the_story(whole: tuple[Story, list[Step]]) -> None:
    accounted = whole[0].conservation
    assert accounted.difference_fen == 0
    # 200.00, 800.00, then 50.00 and 10.00; cards of 100.00, 50.00 and 100.00
    assert accounted.loaded_fen == 20_000 + 80_000 + 6_000 + 10_000 + 5_000 + 10_000
    assert accounted.lost_fen == 3_000
    assert accounted.under_way_fen == accounted.owed_fen == 0
    assert accounted.credited_fen == sum(accounted.payees_fen.values()) == 134_000 - accounted.on_cards_fen
    # six rides; in the shop 12.50, 380.00, 9.00, 16.00, 4.50, less 5.00, then 30.00, 3.00, 30.00, 5.00
    shop_fen = 1_250 + 38_000 + 900 + 1_600 + 450 - 500 + 3_000 + 300 + 3_000 + 500
    assert sorted(accounted.payees_fen.values()) == [6 * 200, shop_fen]
    assert sum(accounted.accounts_fen.values()) == accounted.on_cards_fen
    assert accounted.line().endswith("difference 0.00.")


def test_every_tap_has_its_milliseconds(whole: tuple[Story, list[Step]]) -> None:
    taps = [line for step in whole[0].steps for line in step.taps]
    assert len(taps) >= 14
    for line in taps:
        assert line.phases_ms.keys() == line.modelled_ms.keys()
        assert {"arrival", "select"} <= line.phases_ms.keys()
        assert sum(line.phases_ms.values()) > 0
        assert sum(line.modelled_ms.values()) > 0
    known = next(line for line in taps if "known" in line.what)
    assert set(known.phases_ms) >= {"select", "certificates", "ask", "pay", "keep", "decide", "ratify"}
    step = whole[0].steps[1]
    paid_ms = sum(line.phases_ms.get("pay", 0) for line in step.taps)
    assert step.phases_ms["pay"] == pytest.approx(paid_ms, abs=0.01)


def test_nothing_of_it_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert tell_quickly(monkeypatch).ok
    assert list(tmp_path.iterdir()) == []


def test_a_step_without_a_check_holds_nothing() -> None:
    step = Step("1", "nothing was looked at")
    states = [step.ok]
    for claim, held in (("it is", True), ("it is not", False)):
        step.check(claim, held)
        states.append(step.ok)
    assert states == [False, True, False]


def test_one_missing_fen_is_enough(whole: tuple[Story, list[Step]]) -> None:
    story = whole[0]
    assert not replace(story, conservation=replace(story.conservation, difference_fen=1)).ok
    broken = Step("12", "another")
    broken.check("no", False)
    assert not replace(story, steps=[*story.steps, broken]).ok


def test_phases_of_a_step_add_up() -> None:
    first = TapLine("a", "", {"pay": 1.5}, {"pay": 10.0})
    second = TapLine("b", "", {"pay": 2.0, "keep": 1.0}, {})
    step = Step("1", "two taps", taps=[first, second])
    assert step.phases_ms == {"pay": 3.5, "keep": 1.0}
    assert step.modelled_ms == {"pay": 10.0}


@pytest.mark.parametrize(
    ("now_s", "day"), [(1_790_000_000, 20260921), (1_790_006_399, 20260921), (1_790_006_400, 20260922)]
)
def test_the_day_is_beijings(now_s: int, day: int) -> None:
    assert today(now_s) == day


# ---------------------------------------------------------------------- it can fail


def test_told_quickly_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what the tests below see is what they broke."""
    story = tell_quickly(monkeypatch)
    assert failed(story) == {}
    assert story.ok


def breaking(patch: pytest.MonkeyPatch, owner: Any, name: str, make: Callable[[Any], Any]) -> Story:
    """The story told with one method replaced by what `make` makes of it."""
    patch.setattr(owner, name, make(getattr(owner, name)))
    story = tell_quickly(patch)
    assert not story.ok
    return story


def test_a_card_that_debits_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forgets to look whether it has paid already."""
    story = breaking(monkeypatch, Card, "_find_payment", lambda _real: lambda _self, _raw: None)
    assert "debited once" in failed(story)["3"]
    assert "the card is not debited again" in failed(story)["4"]


def test_a_card_that_debits_a_fen_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is paid right; the fen is missing on the card, and the sum finds it."""

    def make(real: Callable[..., State]) -> Callable[..., State]:
        def with_less(self: State, **changes: Any) -> State:
            if "spent_fen" in changes:
                changes["balance_fen"] -= 1
            return real(self, **changes)

        return with_less

    story = breaking(monkeypatch, State, "changed", make)
    assert story.conservation.difference_fen >= 10
    assert "no fen is missing, none too many" in failed(story)["6"]


def test_a_journal_that_loses_a_payment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus's says that it kept what it did not; the card, told so, lets go of it."""

    def make(real: Callable[..., None]) -> Callable[..., None]:
        def keep(self: SqliteJournal, record: Record, state: SaleState, now_s: int) -> None:
            if record.amount_fen != 200:
                real(self, record, state, now_s)

        return keep

    story = breaking(monkeypatch, SqliteJournal, "keep_payment", make)
    assert any(claim.startswith("merchant") for claim in failed(story)["6"])
    assert 4 * 200 not in story.conservation.payees_fen.values()


def test_a_journal_that_loses_what_it_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    story = breaking(
        monkeypatch, SqliteJournal, "keep_carried", lambda _real: lambda _self, _record, _now: None
    )
    assert "the shop is credited by way of the bus" in failed(story)["6"]


def test_a_till_that_grants_again(monkeypatch: pytest.MonkeyPatch) -> None:
    story = breaking(
        monkeypatch, tap_module, "_ENDED", lambda real: dict.fromkeys(real, (Outcome.GRANTED, "again"))
    )
    assert failed(story) == {"3": ["not granted twice"]}


def test_a_till_that_takes_a_tear_for_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sells on, and the customer pays twice."""

    def make(real: Callable[..., Any]) -> Callable[..., Any]:
        def pay(self: Any, *given: Any) -> Any:
            try:
                return real(self, *given)
            except Stop as stop:
                if stop.tap.outcome is Outcome.UNRESOLVED and stop.tap.sale is not None:
                    stop.tap.outcome, now = Outcome.DECLINED, self.terminal.now()
                    self.journal.change_sale(stop.tap.sale.reference, SaleState.OPEN, "no", now)
                raise

        return pay

    story = breaking(monkeypatch, tap_module._Tap, "_pay", make)
    assert "the sale is unresolved" in failed(story)["3"]


def test_a_clearing_that_loses_what_it_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    story = tell_quickly(monkeypatch, loses=True)
    assert not story.ok
    assert not story.conservation.ok
    assert "no fen is missing, none too many" in failed(story)["6"]


def test_a_clearing_that_credits_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(report: Report) -> Report:
        payees = [changed(line, balance_fen=2 * line.balance_fen) for line in report.payees]
        return changed(report, payees=payees)  # type: ignore[no-any-return]

    story = tell_quickly(monkeypatch, wrong=wrong)
    assert not story.conservation.ok
    assert any(claim.startswith("merchant") for claim in failed(story)["6"])


def test_a_clearing_whose_books_do_not_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(report: Report) -> Report:
        return changed(report, conservation=changed(report.conservation, difference_fen=1))  # type: ignore[no-any-return]

    story = tell_quickly(monkeypatch, wrong=wrong)
    assert story.conservation.difference_fen == 1
    assert failed(story) == {"6": ["no fen is missing, none too many"]}


# ---------------------------------------------------------------------- the operator's side can fail too


def test_a_card_that_credits_a_refund_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forgets what it gave back before."""
    story = breaking(monkeypatch, Card, "_refunded", lambda _real: lambda _self, _sequence: (0, b""))
    assert "credited once" in failed(story)["7"]


def test_a_clearing_that_keeps_what_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    story = breaking(monkeypatch, Clearing, "owed", lambda _real: lambda _self, _card: [])
    assert "8.80 is owed to the card" in failed(story)["8"]


def test_a_terminal_that_looks_at_no_denylist(monkeypatch: pytest.MonkeyPatch) -> None:
    story = breaking(monkeypatch, Denylist, "__contains__", lambda _real: lambda _self, _card: False)
    assert {"the shop refuses the card", "the bus refuses it too"} <= set(failed(story)["9"])


def test_a_clearing_that_bears_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of the cloned card is charged for its copy."""
    story = breaking(monkeypatch, losses, "settle", lambda _real: lambda _connection, _ledger, _cards: None)
    assert "the excess of 30.00 is the issuer's loss" in failed(story)["9"]


def test_a_terminal_that_delivers_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    story = breaking(monkeypatch, Orders, "waiting_for", lambda _real: lambda _self, _card: [])
    assert "the lost card is blocked at the next terminal that it meets" in failed(story)["10"]


def test_a_day_that_settles_a_fen_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(real: Callable[..., Any]) -> Callable[..., Any]:
        def less(*given: Any) -> Any:
            settlement = real(*given)
            totals = replace(settlement.totals, closing_fen=settlement.totals.closing_fen - 1)
            return replace(settlement, totals=totals)

        return less

    story = breaking(monkeypatch, operator_story, "read", make)
    assert any("as the ledger does" in claim for claim in failed(story)["11"])
