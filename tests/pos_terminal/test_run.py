"""A run of a bus: fares by class, pay for two, once a ride, and counts that survive a power cut."""

from collections.abc import Iterator

import pytest

from hardwallet import messages as m
from hardwallet.certificates import CLASS_TRANSIT
from hardwallet.riders import Rider
from pos_terminal.errors import ClockWrong, NoRun, NoSuchFare, RunUnderWay, StoreFailed
from pos_terminal.run import Counts
from pos_terminal.run_store import RUN_FILE
from pos_terminal.tap import Outcome
from tests.pos_terminal.bench import VEHICLE, Counter, Holder, Mill, journal_of
from tests.pos_terminal.buses import Bus, bus_on, rider


@pytest.fixture
def bus(counter: Counter) -> Iterator[Bus]:
    """A bus on the flat line."""
    with bus_on(counter) as made:
        yield made


@pytest.fixture
def far(counter: Counter) -> Iterator[Bus]:
    """A bus on the line by distance."""
    with bus_on(counter, "101") as made:
        yield made


def balance(holder: Holder) -> int:
    return holder.memory.state().balance_fen


def riders(counts: Counts) -> dict[Rider, int]:
    return {klass: count for klass, count in counts.riders.items() if count}


# ---------------------------------------------------------------------- what a card pays


@pytest.mark.parametrize(
    ("klass", "fare_fen"),
    [(Rider.ADULT, 200), (Rider.STUDENT, 100), (Rider.CHILD, 200), (Rider.REDUCED, 200)],
)
def test_each_class_pays_its_fare(bus: Bus, mill: Mill, klass: Rider, fare_fen: int) -> None:
    """A class without a fare of its own pays as an adult."""
    holder = rider(mill, klass)
    tapped = bus.tap(holder)
    assert (tapped.granted, tapped.rider, tapped.free) == (True, klass, False)
    assert balance(holder) == 20_000 - fare_fen
    assert riders(bus.run.counts) == {klass: 1}
    assert bus.run.counts.amount_fen == fare_fen


def test_by_distance_the_highest_fare_is_taken_unless_somebody_says_how_far(far: Bus, mill: Mill) -> None:
    first, second, third = (rider(mill, Rider.STUDENT) for _ in range(3))
    assert far.tap(first).granted
    far.run.set_destination(0)
    assert [stop.id for stop in far.run.destinations] == ["b", "c", "d"]
    assert far.tap(second).granted
    assert far.run.destination is None  # it held for one rider
    assert far.tap(third).granted
    assert [balance(one) for one in (first, second, third)] == [19_750, 19_900, 19_750]


def test_a_destination_waits_for_the_rider_it_was_set_for(far: Bus, mill: Mill) -> None:
    far.run.set_destination(0)
    poor = rider(mill, Rider.ADULT, 100)
    assert far.tap(poor).outcome is Outcome.DECLINED
    assert far.run.destination is not None
    assert far.run.destination.id == "b"
    with pytest.raises(NoSuchFare, match="does not come"):
        far.run.set_destination(3)
    assert far.run.go_on()
    assert far.run.destination is None


def test_the_bus_goes_on_and_back(far: Bus, mill: Mill) -> None:
    run = far.run
    assert not run.go_back()
    assert [run.go_on() for _ in range(4)] == [True, True, True, False]
    assert (run.stop.id, run.next_stop) == ("d", None)
    assert far.tap(rider(mill, Rider.ADULT)).sale is not None
    assert run.counts.amount_fen == 200  # the last leg: who gets on at the end goes no further
    assert run.go_back()
    assert (run.stop.id, run.next_stop and run.next_stop.id) == ("c", "d")


# ---------------------------------------------------------------------- once a ride


def test_a_card_pays_once_a_run(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    assert bus.tap(holder).granted
    again = bus.tap(holder)
    assert (again.outcome, again.outcome.message_id) == (Outcome.ALREADY_GRANTED, 3)
    assert balance(holder) == 19_800
    assert (bus.run.counts.total, bus.run.counts.again) == (1, 1)


def test_a_new_run_another_line_the_way_back_are_new_rides(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    for line, direction, number in (("7", "out", 8), ("9", "out", 8), ("7", "back", 8), ("7", "out", 9)):
        bus.runs.end()
        bus.runs.begin(line, direction, number)
        assert bus.tap(holder).granted
        assert bus.tap(holder).outcome is Outcome.ALREADY_GRANTED
    assert balance(holder) == 20_000 - 4 * 200


def test_a_run_that_is_begun_again_by_its_number_keeps_who_has_paid(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    number = bus.run.number
    assert bus.tap(holder).granted
    bus.runs.end()
    bus.runs.begin("7", "out", number)
    assert bus.tap(holder).outcome is Outcome.ALREADY_GRANTED
    assert balance(holder) == 19_800


def test_at_another_stop_the_same_ride_costs_nothing_more(far: Bus, mill: Mill) -> None:
    """The card looks for the amount too: it is asked for the one that it has paid."""
    holder = rider(mill, Rider.ADULT)
    assert far.tap(holder).granted
    for _ in range(2):
        far.run.go_on()
        assert far.tap(holder).outcome is Outcome.ALREADY_GRANTED
    assert balance(holder) == 19_500


@pytest.mark.parametrize("cut", [False, True])
def test_torn_at_one_stop_and_back_at_the_next(far: Bus, mill: Mill, cut: bool) -> None:
    """The card has paid, nobody knows; by now the fare is another one. Nothing is taken twice."""
    holder = rider(mill, Rider.ADULT)
    first = far.torn(holder)
    assert first.outcome is Outcome.UNRESOLVED
    assert balance(holder) == 19_500
    assert far.run.counts.torn == 1
    if cut:
        far.restart()
    far.run.go_on()
    again = far.tap(holder)
    assert (again.outcome, again.recovered) == (Outcome.GRANTED, True)
    assert balance(holder) == 19_500
    assert (far.run.counts.total, far.run.counts.amount_fen) == (1, 500)


def test_a_card_that_leaves_while_it_is_looked_at_has_lost_nothing(far: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    assert far.torn(holder).outcome is Outcome.UNRESOLVED
    far.run.go_on()
    for exchange in (1, 2, 3):
        assert not far.tap(holder, torn=exchange).granted
    assert far.tap(holder).granted
    assert balance(holder) == 19_500


def test_a_sibling_knows_the_ride_whatever_it_costs_by_now(counter: Counter, mill: Mill) -> None:
    front = Bus(counter, mill.identity(CLASS_TRANSIT, 6), has_siblings=True)
    rear = Bus(counter, mill.identity(CLASS_TRANSIT, 6), has_siblings=True)
    for one in (front, rear):
        one.runs.begin("101", "out", 5)
    holder = rider(mill, Rider.ADULT)
    assert front.tap(holder).granted
    rear.run.go_on()
    assert rear.tap(holder).outcome is Outcome.ALREADY_GRANTED
    assert balance(holder) == 19_500
    torn = rider(mill, Rider.STUDENT)
    assert front.torn(torn).outcome is Outcome.UNRESOLVED
    granted = rear.tap(torn)
    assert (granted.granted, granted.ratified) == (True, True)
    assert balance(torn) == 19_750
    rear.restart()
    assert (riders(rear.run.counts), rear.run.counts.amount_fen) == ({Rider.STUDENT: 1}, 250)
    for one in (front, rear):
        one.runs.close()


# ---------------------------------------------------------------------- pay for two


def test_pay_for_two(bus: Bus, mill: Mill) -> None:
    """One press: the next card pays once more, as an adult; then it pays for its own rider again."""
    holder, other = rider(mill, Rider.STUDENT), rider(mill, Rider.STUDENT)
    own = bus.tap(holder)
    assert bus.run.for_one_more() == 1
    more = bus.tap(holder)
    assert own.sale is not None
    assert more.sale is not None
    assert (more.granted, more.passenger) == (True, 1)
    assert own.sale.reference != more.sale.reference
    assert balance(holder) == 20_000 - 100 - 200
    assert bus.run.more == 0
    assert bus.tap(holder).outcome is Outcome.ALREADY_GRANTED
    assert bus.tap(other).passenger == 0
    assert riders(bus.run.counts) == {Rider.STUDENT: 2, Rider.ADULT: 1}
    assert bus.run.passengers_of(holder.number) == (True, 1)
    assert bus.run.passengers_of(other.number) == (True, 0)


def test_pay_for_three_and_again_later(bus: Bus, mill: Mill) -> None:
    """Each press is one tap of the same card; nobody else pays for them."""
    holder, other = rider(mill, Rider.ADULT), rider(mill, Rider.ADULT)
    bus.run.for_one_more()
    assert bus.run.for_one_more() == 2
    assert bus.tap(holder).passenger == 1
    assert bus.run.more_card == holder.number
    assert bus.tap(other).passenger == 0
    assert bus.tap(holder).passenger == 2
    assert (bus.run.more, bus.run.more_card) == (0, b"")
    assert bus.tap(holder).passenger == 0
    bus.restart()
    bus.run.for_one_more()
    third = bus.tap(holder)
    assert (third.granted, third.passenger) == (True, 3)
    assert balance(holder) == 20_000 - 4 * 200
    assert riders(bus.run.counts) == {Rider.ADULT: 5}


def test_torn_while_paying_for_two(bus: Bus, mill: Mill) -> None:
    """The same card comes back: one debit. Whoever comes in between pays for nobody else."""
    holder, other = rider(mill, Rider.ADULT), rider(mill, Rider.ADULT)
    assert bus.tap(holder).granted
    bus.run.for_one_more()
    assert bus.torn(holder).outcome is Outcome.UNRESOLVED
    assert bus.tap(other).passenger == 0
    again = bus.tap(holder)
    assert (again.granted, again.recovered, again.passenger) == (True, True, 1)
    assert balance(holder) == 19_600
    assert balance(other) == 19_800
    assert bus.run.more == 0
    assert riders(bus.run.counts) == {Rider.ADULT: 3}


def test_torn_while_paying_for_two_and_the_power_goes(bus: Bus, mill: Mill) -> None:
    """Nobody remembers the press, but the card does: the companion who is paid for rides."""
    holder = rider(mill, Rider.STUDENT)
    assert bus.tap(holder).granted
    bus.run.for_one_more()
    assert bus.torn(holder).outcome is Outcome.UNRESOLVED
    bus.restart()
    again = bus.tap(holder)
    assert (again.outcome, again.passenger) == (Outcome.ALREADY_GRANTED, 0)
    assert again.carried == 1
    assert riders(bus.run.counts) == {Rider.STUDENT: 1, Rider.ADULT: 1}
    stored = journal_of(bus.terminal).payment(holder.number, 3)
    assert stored is not None
    assert stored.granted
    bus.run.for_one_more()
    assert (bus.tap(holder).passenger, bus.run.counts.total) == (2, 3)
    bus.restart()
    assert (bus.run.counts.total, bus.run.counts.amount_fen) == (3, 500)


def test_a_torn_ride_of_its_own_is_granted_when_the_card_pays_for_another(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.STUDENT)
    assert bus.torn(holder).outcome is Outcome.UNRESOLVED
    bus.run.for_one_more()
    assert (bus.tap(holder).passenger, bus.run.passengers_of(holder.number)) == (1, (True, 1))
    assert bus.tap(holder).outcome is Outcome.ALREADY_GRANTED
    assert (balance(holder), bus.run.counts.amount_fen) == (19_700, 300)


def test_a_torn_ride_of_another_run_is_not_granted_in_this_one(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    assert bus.torn(holder).outcome is Outcome.UNRESOLVED
    bus.runs.end()
    bus.runs.begin("7", "out")
    assert bus.tap(holder).carried == 1
    stored = [journal_of(bus.terminal).payment(holder.number, sequence) for sequence in (2, 3)]
    assert [one is not None and one.granted for one in stored] == [False, True]
    assert bus.run.counts.total == 1


def test_a_torn_ride_of_a_card_that_may_not_ride_is_not_granted(
    bus: Bus, mill: Mill, counter: Counter
) -> None:
    from tests.pos_terminal.test_denylist import deny

    holder = rider(mill, Rider.ADULT)
    assert bus.torn(holder).outcome is Outcome.UNRESOLVED
    deny(counter, bus.terminal, holder)
    tapped = bus.tap(holder)
    assert (tapped.outcome, tapped.carried) == (Outcome.DECLINED, 1)
    assert bus.run.counts.total == 0
    bus.restart()
    assert bus.run.counts.total == 0


def test_who_rode_free_pays_nothing_further_along(far: Bus, mill: Mill) -> None:
    """A senior says a near stop, which is free, and taps once more when nobody has said one."""
    holder = rider(mill, Rider.SENIOR)
    far.run.set_destination(0)
    assert far.tap(holder).free
    assert far.tap(holder).outcome is Outcome.ALREADY_GRANTED
    far.restart()
    assert far.tap(holder).outcome is Outcome.ALREADY_GRANTED
    assert (balance(holder), far.run.counts.free) == (20_000, 1)


def test_what_is_refused_is_asked_of_no_stranger(bus: Bus, mill: Mill) -> None:
    poor, other = rider(mill, Rider.ADULT, 100), rider(mill, Rider.ADULT)
    bus.run.for_one_more()
    assert bus.tap(poor).outcome is Outcome.DECLINED
    assert bus.run.more == 0
    assert bus.tap(other).passenger == 0
    bus.run.for_one_more()
    bus.run.for_no_more()
    assert bus.tap(other).outcome is Outcome.ALREADY_GRANTED


def test_a_press_in_the_middle_of_a_tap_is_for_the_next_card(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    charge = bus.run.charge()
    bus.run.for_one_more()
    assert charge.book is not None
    assert charge.book.passenger(holder.number) == 0
    assert bus.tap(holder).passenger == 1


# ---------------------------------------------------------------------- free rides


def test_a_free_ride(bus: Bus, mill: Mill) -> None:
    """Nothing is debited and no record made, but the card proves itself, and rides once."""
    holder = rider(mill, Rider.SENIOR)
    before = holder.memory.state().to_bytes()
    head = journal_of(bus.terminal).head()
    tapped = bus.tap(holder)
    assert (tapped.outcome, tapped.free, tapped.record) == (Outcome.GRANTED, True, None)
    again = bus.tap(holder)
    assert (again.outcome, again.free) == (Outcome.ALREADY_GRANTED, True)
    assert holder.memory.state().to_bytes() == before
    assert journal_of(bus.terminal).head() == head
    assert (riders(bus.run.counts), bus.run.counts.free) == ({Rider.SENIOR: 1}, 1)
    bus.restart()
    assert (riders(bus.run.counts), bus.run.counts.free) == ({Rider.SENIOR: 1}, 1)
    assert bus.tap(holder).outcome is Outcome.ALREADY_GRANTED
    bus.run.for_one_more()
    assert bus.tap(holder).passenger == 1
    assert balance(holder) == 19_800  # a companion pays


def replayed(bus: Bus, holder: Holder) -> bytes:
    """What the card answered to another challenge."""
    from tests.pos_terminal.wiretap import Wiretap

    tapped = Wiretap()
    bus.tap(holder, wrap=tapped)
    return next(
        reply
        for command, reply in zip(tapped.commands, tapped.replies, strict=True)
        if command[1] == m.INS_INTERNAL_AUTHENTICATE
    )


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (bytes(64) + b"\x90\x00", "may be a copy"),
        (bytes(63) + b"\x90\x00", "malformed"),
        (b"\x6d\x00", "too old"),
        (b"\x6f\x00", "could not write"),
        (None, "may be a copy"),
    ],
)
def test_a_copied_certificate_rides_nowhere(bus: Bus, mill: Mill, reply: bytes | None, reason: str) -> None:
    """Everything that the card shows is right but the signature over the terminal's own challenge."""
    from tests.pos_terminal.wiretap import Wiretap

    holder = rider(mill, Rider.SENIOR)
    answer = replayed(bus, holder) if reply is None else reply
    bus.runs.end()
    bus.runs.begin("7", "out")
    forged = Wiretap(lambda command, told: answer if command[1] == m.INS_INTERNAL_AUTHENTICATE else told)
    tapped = bus.tap(holder, wrap=forged)
    assert (tapped.outcome, bus.run.counts.total, bus.run.counts.refused) == (Outcome.DECLINED, 0, 1)
    assert reason in tapped.reason


def test_a_free_ride_asks_all_that_a_payment_asks(bus: Bus, mill: Mill, counter: Counter) -> None:
    """Denylist, its age, the certificate's dates."""
    from tests.pos_terminal.test_denylist import deny

    denied = rider(mill, Rider.SENIOR)
    deny(counter, bus.terminal, denied)
    assert "denylist" in bus.tap(denied).reason
    expired = Holder(
        mill.with_certificate(
            mill.blank(), klass=0x25, not_before=counter.time.now - 9, not_after=counter.time.now - 5
        )
    )
    assert "expired" in bus.tap(expired).reason
    fine = rider(mill, Rider.SENIOR)
    counter.time.now += bus.terminal.limits.denylist_stop_s + 60
    bus.runs.end()
    bus.runs.begin("7", "out")
    assert bus.tap(fine).outcome is Outcome.DECLINED
    assert bus.run.counts.total == 0


def test_a_blocked_card_rides_nowhere(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.SENIOR)
    state = holder.memory.state()
    holder.memory.commit(state.changed(flags=state.flags | 1).to_bytes())
    tapped = bus.tap(holder)
    assert (tapped.outcome, tapped.status_word) == (Outcome.DECLINED, 0x940C)


def test_a_free_ride_that_leaves_in_the_middle_is_none(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.SENIOR)
    assert bus.tap(holder, torn=3).outcome is Outcome.TRY_AGAIN
    assert bus.run.counts.total == 0
    assert bus.tap(holder).granted


def test_a_free_ride_that_is_not_on_the_disk_is_not_granted(
    bus: Bus, mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    holder = rider(mill, Rider.SENIOR)
    with monkeypatch.context() as patch:
        patch.setattr("hardwallet.journalled.os.write", full)
        with pytest.raises(StoreFailed, match="can't be written"):
            bus.tap(holder)
    assert bus.run.counts.total == 0
    assert bus.tap(holder).granted


# ---------------------------------------------------------------------- power cuts, beginning and ending


def test_counts_survive_a_power_cut(far: Bus, mill: Mill) -> None:
    """Paid rides from the journal, classes from the certificates, the rest from the run's own file."""
    far.run.set_destination(0)
    for klass in (Rider.SENIOR, Rider.ADULT, Rider.STUDENT):
        assert far.tap(rider(mill, klass)).granted
    poor = rider(mill, Rider.ADULT, 100)
    assert far.tap(poor).outcome is Outcome.DECLINED
    far.run.go_on()
    before, place = far.run.counts, far.run.place
    far.restart()
    assert far.run.counts == before
    assert far.run.place == place == 1
    report = far.runs.end()
    assert (report.counts, report.line, report.number, report.vehicle) == (before, "101", 1, VEHICLE)
    far.restart()
    assert far.runs.run is None
    assert far.runs.last == report
    assert far.runs.next_number() == 2


def test_rides_of_earlier_runs_are_not_counted(bus: Bus, mill: Mill) -> None:
    holder = rider(mill, Rider.ADULT)
    assert bus.tap(holder).granted
    bus.runs.end()
    bus.runs.begin("7", "out")
    assert bus.tap(holder).granted
    bus.restart()
    assert bus.run.counts.total == 1


def test_a_run_whose_line_is_gone_is_ended_with_its_counts(bus: Bus, mill: Mill) -> None:
    from pos_terminal.fares import Network

    assert bus.tap(rider(mill, Rider.ADULT)).granted
    bus.runs.close()
    only = Network((bus.runs.network.line("9"),))
    from pos_terminal.run import Runs

    runs = Runs(bus.folder, bus.terminal, only, VEHICLE, bus.runs._paid, bus.runs._head)
    assert runs.run is None
    assert runs.last is not None
    assert (runs.last.counts.total, runs.last.counts.amount_fen) == (1, 200)
    runs.close()


def test_one_run_at_a_time(bus: Bus) -> None:
    with pytest.raises(RunUnderWay):
        bus.runs.begin("7", "out")
    bus.runs.end()
    with pytest.raises(NoRun):
        bus.runs.end()
    with pytest.raises(NoSuchFare, match="no line 8"):
        bus.runs.begin("8", "out")
    with pytest.raises(NoSuchFare, match="no direction up"):
        bus.runs.begin("7", "up")
    with pytest.raises(NoSuchFare, match="number"):
        bus.runs.begin("7", "out", 2**32)


def test_going_on_is_the_same_run_or_a_new_one(bus: Bus, mill: Mill) -> None:
    assert bus.tap(rider(mill, Rider.ADULT)).granted
    number = bus.run.number
    assert bus.runs.go_on("7", "out", number) is bus.run
    assert bus.run.counts.total == 1
    assert bus.runs.go_on("7", "back", number).counts.total == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_yesterdays_run_is_over(bus: Bus, counter: Counter, mill: Mill, restarted: bool) -> None:
    """A driver forgot to end it: who rode yesterday does not ride free today."""
    holder = rider(mill, Rider.ADULT)
    assert bus.tap(holder).granted
    counter.time.now += 11 * 3600
    bus.restart()
    assert bus.tap(holder).outcome is Outcome.ALREADY_GRANTED
    counter.time.now += 2 * 3600
    if restarted:
        bus.restart()
        assert bus.runs.run is None
        assert bus.runs.last is not None
        assert bus.runs.last.counts.total == 1
    else:
        with pytest.raises(NoRun, match="12 hours"):
            bus.run.charge()
        assert bus.runs.go_on("7", "out", 1).counts.total == 0
        assert bus.tap(holder).granted


def test_a_wrong_clock_begins_no_run(bus: Bus, counter: Counter, mill: Mill) -> None:
    """It can end one: nothing is re-stamped by that."""
    assert bus.tap(rider(mill, Rider.ADULT)).granted
    counter.time.now -= bus.terminal.limits.clock_back_s + 100
    assert bus.runs.end().counts.total == 1
    for number in (None, 9):
        with pytest.raises(ClockWrong):
            bus.runs.begin("7", "out", number)
    assert bus.runs.run is None


def test_a_line_that_was_cut_off_was_never_kept(bus: Bus, mill: Mill) -> None:
    bus.runs.close()
    path = bus.folder / RUN_FILE
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"ended"')
    bus.runs = bus._runs()
    assert bus.run.counts.total == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw.replace(b"7", b"8", 1),
        lambda raw: raw[:5] + b"\x00" + raw[6:],
        lambda raw: b"x\n" + raw,
        lambda _raw: b'{"kind":"ended"}\t6a2ab541\n',
    ],
)
def test_a_damaged_run_is_not_guessed(bus: Bus, spoil: object) -> None:
    bus.runs.close()
    path = bus.folder / RUN_FILE
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(StoreFailed, match="damaged"):
        bus._runs()


def test_a_run_that_could_not_be_begun_leaves_the_one_before(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = bus.runs.end()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hardwallet.journalled.os.write", full)
        with pytest.raises(StoreFailed, match="no run was begun"):
            bus.runs.begin("7", "out")
    assert (bus.runs.run, bus.runs.last) == (None, report)
    assert bus.runs.begin("7", "out").number == 2
