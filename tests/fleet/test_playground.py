"""The simulated world: each card of its tray, tears where told, riders by themselves, nothing left over."""

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet import playground as playgrounds
from fleet.open import open_operator_client
from fleet.playground import TRAY, Kind, Playground, TearPlace, open_playground
from fleet.station import Board, Decided, Done, GiveBack, Network, Pace, Removed, Sell, Sent, Station, TooMany
from fleet.tray import Tear
from hardwallet.messages import INS_PAY, INS_RATIFY, INS_SELECT
from pos_terminal.refund import Refund
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Fare
from tests.conftest import REPOSITORY
from tests.fleet.conftest import NOW
from tests.fleet.stations import Heard, until

PLACES = {card.name: place for place, card in enumerate(TRAY)}
LARGE_FEN = 40_000


@contextmanager
def at_work(kind: Kind, *, clearing: bool = False) -> Iterator[tuple[Playground, Station, Heard]]:
    """A playground with a station on it; riders do not wait for their turn."""
    entropy = random.Random(6).randbytes
    with open_playground(
        kind, clock=lambda: NOW, entropy=entropy, clearing=clearing, pause=lambda _s: None
    ) as playground:
        heard = Heard()
        pace = Pace(begin_after_s=0.0, send_after_s=0.0)
        station = Station(playground.session, playground.field, heard, uplink=playground.uplink, pace=pace)
        station.start()
        try:
            yield playground, station, heard
        finally:
            station.close()


def pay(playground: Playground, station: Station, heard: Heard, name: str, amount_fen: int = 300) -> Tap:
    until(lambda: station.want(Sell(amount_fen)))
    playground.tap(PLACES[name])
    return heard.next(Done).tap


def test_every_card_of_the_tray_at_a_till() -> None:
    with at_work("cashier") as (playground, station, heard):
        found = {}
        for name in PLACES:
            result = pay(playground, station, heard, name)
            found[name] = (result.outcome, result.balance_fen)
        granted, declined = Outcome.GRANTED, Outcome.DECLINED
        assert found == {
            "adult": (granted, 19_700),
            "student": (granted, 4_700),
            "senior": (granted, 4_700),
            "empty": (declined, 0),
            "blocked": (declined, None),
            "cloned": (declined, None),
            "foreign": (declined, None),
            "pin": (granted, 79_700),
            "denied": (declined, None),
        }
        assert pay(playground, station, heard, "pin", LARGE_FEN).outcome is Outcome.PIN_WANTED
        station.enter_pin(playground.pin)  # the card still lies there
        assert heard.next(Done).tap.granted
        heard.next(Removed)


def test_torn_where_it_was_told_and_only_once() -> None:
    with at_work("cashier") as (playground, station, heard):
        wanted = {
            TearPlace.AT_SELECT: Outcome.TRY_AGAIN,
            TearPlace.BEFORE_PAY: Outcome.UNRESOLVED,
            TearPlace.AFTER_PAY: Outcome.UNRESOLVED,
            TearPlace.BEFORE_RATIFY: Outcome.GRANTED,
        }
        for number, (place, outcome) in enumerate(wanted.items(), 1):
            playground.set_tear(place)
            torn = pay(playground, station, heard, "adult", 100 * number)
            assert (torn.outcome, torn.ratified) == (outcome, False)
            assert playground.tear is TearPlace.OFF
            if not torn.granted:
                playground.tap(0)
                assert heard.next(Done).tap.granted
        paid = pay(playground, station, heard, "student")
        assert paid.record is not None
        playground.set_tear(TearPlace.AFTER_PAY)  # what gives money back is torn at the same place
        wish = GiveBack(Refund(paid.record.card, paid.record.sequence, 100))
        until(lambda: station.want(wish))
        playground.tap(PLACES["student"])
        assert heard.next(Done).tap.outcome is Outcome.UNRESOLVED
        playground.tap(PLACES["student"])
        assert heard.next(Done).tap.granted


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [
        (TearPlace.OFF, [], []),
        (TearPlace.AT_SELECT, [INS_SELECT], []),
        (TearPlace.BEFORE_PAY, [INS_PAY], []),
        (TearPlace.AFTER_PAY, [], [INS_PAY]),
        (TearPlace.BEFORE_RATIFY, [INS_RATIFY], []),
    ],
)
def test_a_tear_falls_at_its_instruction(place: TearPlace, before: list[int], after: list[int]) -> None:
    instructions = (INS_SELECT, INS_PAY, INS_RATIFY)
    assert [ins for ins in instructions if Tear(place).before(ins)] == before
    assert [ins for ins in instructions if Tear(place).after(ins, 0x9000)] == after
    assert not any(Tear(place).after(ins, 0x9408) for ins in instructions)


def test_two_cards_at_once() -> None:
    with at_work("cashier") as (playground, station, heard):
        station.want(Sell(300))
        playground.two_cards()
        heard.next(TooMany)
        heard.next(Removed)
        assert heard.of(Decided) == []
        playground.tap(0)
        assert heard.next(Done).tap.granted


def test_riders_tap_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playgrounds, "MOST_RIDERS", 4)
    with at_work("bus") as (playground, station, heard):
        run = iter(range(10_000))
        station.want(Board(lambda: Fare(200, playground.session.vehicle, 20_260_921, next(run))))
        playground.set_busy(0.0)
        playground.set_busy(99.0)
        until(lambda: len(heard.of(Done)) >= 7)
        playground.set_busy(0.0)
        cards = [done.tap.record.card for done in heard.of(Done) if done.tap.record is not None]
        assert all(done.tap.granted for done in heard.of(Done))
        assert len(set(cards)) == 4
        assert cards[:3] == cards[4:7]
        playground.tap(0)
        adult = playground.session.journal
        until(lambda: adult.waiting().amount_fen >= 200 * 8)


def test_the_same_entropy_gives_the_same_world() -> None:
    seen = []
    for _ in range(2):
        with at_work("cashier") as (playground, station, heard):
            record = pay(playground, station, heard, "adult").record
            assert record is not None
            identity = playground.session.folder.identity.certificate
            seen.append((identity.scheme, identity.payee, record.card, record.reference, record.sequence))
    assert seen[0] == seen[1]


def test_its_own_clearing_and_nothing_left_behind() -> None:
    with at_work("cashier", clearing=True) as (playground, station, heard):
        until(lambda: station.status().network is Network.ONLINE)
        playground.set_network(False)
        pay(playground, station, heard, "adult")
        until(lambda: station.status().waiting_fen == 300)
        assert station.status().network is Network.OFFLINE
        playground.set_network(True)
        assert heard.next(Sent).entries > 0
        assert station.status().clock_offset_s is not None
        scheme = playground.session.folder.path.parent / "scheme"
        with open_operator_client(scheme, playground.uplink.url, clock=lambda: NOW) as operator:
            assert [line.kind for line in operator.disputes()] == ["clone"]  # the cloned card, really found
            assert 300 in [line.balance_fen for line in operator.report().payees]
        process = playground._clearing
    assert process is not None
    assert process._process.poll() is not None
    assert Path(tempfile.gettempdir()) in scheme.parents
    assert not scheme.parent.exists()
    threads = (playground._hand._thread, playground._rider_thread, playground._clearing_thread)
    assert not any(thread.is_alive() for thread in threads)


def test_it_closes_while_its_clearing_still_starts(tmp_path: Path) -> None:
    with open_playground("cashier", folder=tmp_path, start_after_s=0.0) as playground:
        until(lambda: playground._clearing is not None)
    assert playground._clearing is not None
    assert playground._clearing._process.poll() is not None


KILLED = """
import sys
from pathlib import Path
from fleet.clearing_child import ClearingProcess
from fleet.open import system_clock
child = ClearingProcess(Path(sys.argv[1]), system_clock, quiet=True)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_clearing_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    with open_playground("cashier", folder=tmp_path, clearing=False):
        pass
    command = [sys.executable, "-c", KILLED, str(tmp_path / "scheme")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    """Whether it runs: one that has ended and is waited for by nobody does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
