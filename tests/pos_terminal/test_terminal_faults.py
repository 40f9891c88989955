"""What befalls the terminal itself: its clock, its random source, its disk. It stops, and nothing is lost."""

import inspect
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from hardwallet import messages as m
from hardwallet.session import TerminalIdentity
from offline_sync.journal import SqliteJournal
from pos_terminal import errors
from pos_terminal.entropy import HealthyEntropy
from pos_terminal.errors import (
    ClockWrong,
    JournalFailed,
    JournalFull,
    SaleOpen,
    TerminalError,
    UnhealthyEntropy,
)
from pos_terminal.limits import TerminalLimits
from pos_terminal.ports import CardCertificate
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Charge, Terminal
from tests.pos_terminal.bench import NOW, PAY_KNOWN, Counter, Holder, Mill, hold, journal_of, know, seeded
from tests.pos_terminal.wiretap import Wiretap

DAY_S = 24 * 3600
YEAR_S = 365 * DAY_S
PLENTY = 2**40


def charges(counter: Counter) -> list[tuple[Terminal, Callable[[], Charge]]]:
    shop, bus = counter.shop(), counter.bus()
    return [(shop, lambda: shop.new_sale(300)), (bus, counter.fare)]


# ---------------------------------------------------------------------- clock


@pytest.mark.parametrize("off_s", [YEAR_S, -YEAR_S, 5 * YEAR_S, -NOW - 60, 301 * DAY_S, -61])
def test_a_clock_that_cannot_be_right(counter: Counter, holder: Holder, off_s: int) -> None:
    """A year off in either direction, or before the terminal was made: nothing is sold, nothing written."""
    for terminal, charge in charges(counter):
        asked = charge()
        counter.time.now = NOW + 60 + off_s
        tapped = Wiretap()
        with pytest.raises(ClockWrong, match="clock"):
            hold(terminal, holder, asked, wrap=tapped)
        with pytest.raises(ClockWrong):
            terminal.new_sale(100)
        assert tapped.commands == []
        assert journal_of(terminal).head()[0] == 0
        assert terminal.known_cards == {}
        counter.time.now = NOW + 60
        assert hold(terminal, holder, asked).granted


def test_a_clock_that_goes_back_behind_the_newest_sale(counter: Counter, holder: Holder) -> None:
    """Fault 28: never re-stamped. A few minutes are forgiven, since clocks are set."""
    counter.time.now = NOW + 10 * DAY_S
    for terminal, charge in charges(counter):
        assert hold(terminal, holder, charge()).granted
        head = journal_of(terminal).head()
        counter.time.now -= 301
        with pytest.raises(ClockWrong, match="went back"):
            terminal.new_sale(100)
        with pytest.raises(ClockWrong, match="went back"):
            hold(terminal, holder, counter.fare())
        assert journal_of(terminal).head() == head
        counter.time.now += 1
        assert hold(terminal, holder, charge()).granted
        counter.time.now = NOW + 10 * DAY_S


def test_the_clock_is_compared_with_the_disk(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    counter.time.now = NOW + 10 * DAY_S
    assert hold(shop, holder, shop.new_sale(100)).granted
    counter.time.now = NOW + 60
    shop = counter.restart(shop)
    with pytest.raises(ClockWrong):
        shop.new_sale(100)


def test_a_clock_far_ahead_of_the_newest_sale(counter: Counter, holder: Holder) -> None:
    shop = counter.shop(limits=TerminalLimits(clock_ahead_s=10 * DAY_S))
    counter.time.now = NOW + 8 * DAY_S
    assert hold(shop, holder, shop.new_sale(100)).granted
    counter.time.now = NOW + 18 * DAY_S
    assert hold(shop, holder, shop.new_sale(100)).granted
    counter.time.now += 10 * DAY_S + 1
    with pytest.raises(ClockWrong, match="clock_ahead_s"):
        shop.new_sale(100)
    shop.limits = TerminalLimits(clock_ahead_s=20 * DAY_S)
    assert hold(shop, holder, shop.new_sale(100)).granted


def test_giving_up_wants_a_clock_too(counter: Counter, holder: Holder) -> None:
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(100)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    counter.time.now -= 2 * DAY_S
    with pytest.raises(ClockWrong):
        shop.give_up(sale.reference, "no")
    counter.time.now += 2 * DAY_S
    shop.give_up(sale.reference, "cash")


# ---------------------------------------------------------------------- entropy


def test_a_source_that_repeats_stops_the_terminal(counter: Counter, holder: Holder) -> None:
    """Fault 17: on the second nonce, before the card is asked, and for good."""
    source = iter([*(bytes((1, *range(15))) for _ in range(2)), *(seeded(n)(16) for n in range(20))])
    bus = counter.bus(entropy=lambda length: next(source)[:length])
    assert hold(bus, holder, counter.fare()).granted
    tapped = Wiretap()
    with pytest.raises(UnhealthyEntropy, match="restart"):
        hold(bus, holder, counter.fare(), wrap=tapped)
    assert m.INS_PAY not in [command[1] for command in tapped.commands]
    with pytest.raises(UnhealthyEntropy):
        hold(bus, holder, counter.fare())
    assert holder.balance_fen == 20_000 - 200


def test_in_retail_nothing_is_left_open_by_it(counter: Counter, holder: Holder) -> None:
    shop = counter.shop(entropy=bytes)
    sale = shop.new_sale(100)
    with pytest.raises(UnhealthyEntropy):
        hold(shop, holder, sale)
    assert shop.journal.unresolved() == []
    assert journal_of(shop).head()[0] == 0
    assert holder.balance_fen == 20_000


def test_health_test() -> None:
    good = HealthyEntropy(seeded(1))
    draws = [good(16) for _ in range(1_000)] + [good(32) for _ in range(10)]
    assert len({draw[:16] for draw in draws}) == 1_010
    assert [len(good(length)) for length in (0, 1, 15)] == [0, 1, 15]


@pytest.mark.parametrize("stuck", [bytes(16), b"\xff" * 16, b"\x2a" * 48])
def test_one_byte_over_and_over(stuck: bytes) -> None:
    source = HealthyEntropy(lambda _length: stuck)
    with pytest.raises(UnhealthyEntropy):
        source(len(stuck))


@pytest.mark.parametrize("wrong", [b"", bytes(range(15)), bytes(range(17))])
def test_another_length_than_asked(wrong: bytes) -> None:
    source = HealthyEntropy(lambda _length: wrong)
    with pytest.raises(UnhealthyEntropy):
        source(16)


@pytest.mark.parametrize("period", [1, 2, 63, 64])
def test_repetitions_are_found_as_far_as_it_remembers(period: int) -> None:
    draws = [seeded(("draw", index))(16) for index in range(period)]
    endless = iter(draws * 3)
    source = HealthyEntropy(lambda _length: next(endless))
    for _ in range(period):
        source(16)
    with pytest.raises(UnhealthyEntropy):
        source(16)


def test_failed_once_is_failed_for_good() -> None:
    draws = iter([b"\0" * 16, seeded(1)(16), seeded(2)(4)])
    source = HealthyEntropy(lambda _length: next(draws))
    for length in (16, 16, 4):
        with pytest.raises(UnhealthyEntropy):
            source(length)


def test_the_error_shows_no_random_bytes() -> None:
    secret = b"\x2a" * 16
    with pytest.raises(UnhealthyEntropy) as raised:
        HealthyEntropy(lambda _length: secret)(16)
    assert secret.hex() not in repr(raised.value)


# ---------------------------------------------------------------------- full disk


def test_full_before_the_card_is_asked(counter: Counter, mill: Mill, holder: Holder) -> None:
    """Fault 11: declined, the card's sequence as it was; also for a card that is new here."""
    free = [PLENTY]
    for klass in (1, 2):
        identity = mill.identity(klass)
        terminal = counter.at(identity, counter.journal(identity, free=lambda _path: free[0]))
        for met in (False, True):
            if met:
                know(terminal, holder)
            charge = terminal.new_sale(300) if klass == 1 else counter.fare()
            free[0] = 0
            before, tapped = holder.sequence, Wiretap()
            result = hold(terminal, holder, charge, wrap=tapped)
            assert result.outcome is Outcome.DECLINED
            assert "Free some space" in result.reason
            assert holder.sequence == before
            assert m.INS_PAY not in [command[1] for command in tapped.commands]
            assert terminal.journal.unresolved() == []
            free[0] = PLENTY
            assert hold(terminal, holder, charge).granted


def test_full_and_a_card_that_brings_records(counter: Counter, mill: Mill, holder: Holder) -> None:
    """What lies on the card stays there: carrying takes space too."""
    shop = counter.shop()
    know(shop, holder)
    torn = shop.new_sale(300)
    hold(shop, holder, torn, tear=(PAY_KNOWN, "after"))
    free = [0]
    identity = mill.identity(2)
    bus = counter.at(identity, counter.journal(identity, free=lambda _path: free[0]))
    assert hold(bus, holder, counter.fare()).outcome is Outcome.DECLINED
    assert holder.unratified == 1
    assert bus.journal.waiting().entries == 0
    free[0] = PLENTY
    assert hold(bus, holder, counter.fare()).carried == 1


def test_full_is_no_end_of_an_unresolved_sale(counter: Counter, mill: Mill, holder: Holder) -> None:
    """Below the reserve there is still room to write: the payment must not slip in as *not granted*."""
    free = [PLENTY]
    identity = mill.identity(1)
    shop = counter.at(identity, counter.journal(identity, free=lambda _path: free[0]))
    know(shop, holder)
    sale = shop.new_sale(300)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    free[0] = 1_000_000
    result = hold(shop, holder, sale)
    assert result.outcome is Outcome.UNRESOLVED
    assert "Free some space" in result.reason
    assert [waiting.reference for waiting in shop.journal.unresolved()] == [sale.reference]
    free[0] = PLENTY
    assert hold(shop, holder, sale).granted
    assert holder.balance_fen == 20_000 - 300


def fill(journal: SqliteJournal) -> Callable[[], None]:
    """Let SQLite find no room for another page; what is returned gives room again."""
    database = journal._database
    assert database is not None
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")

    def room() -> None:
        database.execute("PRAGMA max_page_count = 1000000")

    return room


def append_until_full(terminal: Terminal) -> None:
    """Fill the page that is open with certificates."""
    certificate = CardCertificate(bytes(178), b"")
    try:
        for number in range(10_000):
            terminal.journal.keep_certificate(number.to_bytes(8, "big"), certificate)
    except JournalFull:
        return
    raise AssertionError("it never got full")


def test_full_for_the_certificate_of_a_new_card(counter: Counter, mill: Mill, holder: Holder) -> None:
    for terminal, charge in charges(counter):
        asked = charge()
        room = fill(journal_of(terminal))
        append_until_full(terminal)
        result = hold(terminal, holder, asked)
        assert result.outcome is Outcome.DECLINED
        assert "Free some space" in result.reason
        room()
        assert hold(terminal, holder, asked).granted


class FullWhile:
    """A journal whose named methods find the disk full while `full`."""

    def __init__(self, journal: SqliteJournal, *names: str) -> None:
        self._journal = journal
        self._names = names
        self.full = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._journal, name)
        if name in self._names and self.full:

            def no_room(*_arguments: object) -> None:
                raise JournalFull("The disk is full. Free some space")

            return no_room
        return found


@pytest.mark.parametrize("klass", [1, 2])
def test_full_between_pay_and_keeping(counter: Counter, mill: Mill, holder: Holder, klass: int) -> None:
    """No grant without a durable record; the card keeps it, and it is recovered when there is room."""
    identity = mill.identity(klass)
    full = FullWhile(counter.journal(identity), "keep_payment")
    terminal = counter.at(identity, full)
    charge = terminal.new_sale(300) if klass == 1 else counter.fare(300)
    told: list[Tap] = []
    for _ in range(2):
        with pytest.raises(JournalFull):
            hold(terminal, holder, charge, decided=told.append)
    assert told == []
    assert holder.balance_fen == 20_000 - 300
    assert holder.unratified == 1
    if klass == 1:
        with pytest.raises(SaleOpen):
            terminal.new_sale(100)
    full.full = False
    result = hold(terminal, holder, charge)
    assert result.granted
    assert result.recovered
    assert holder.balance_fen == 20_000 - 300
    assert holder.unratified == 0


def test_full_while_carrying(counter: Counter, mill: Mill, holder: Holder) -> None:
    """The own payment is granted; what could not be kept is not ratified."""
    shop = counter.shop()
    know(shop, holder)
    hold(shop, holder, shop.new_sale(300), tear=(PAY_KNOWN, "after"))
    identity = mill.identity(2)
    full = FullWhile(counter.journal(identity), "keep_carried")
    bus = counter.at(identity, full)
    result = hold(bus, holder, counter.fare())
    assert result.granted
    assert result.ratified
    assert holder.unratified == 1
    full.full = False
    assert hold(bus, holder, counter.fare()).carried == 1
    assert holder.unratified == 0


def test_full_while_carrying_first(counter: Counter, mill: Mill, holder: Holder) -> None:
    """The card wants to be relieved before it pays: without room it is not, and has not paid."""
    other = counter.shop(merchant=9)
    know(other, holder)
    for _ in range(8):
        hold(other, holder, other.new_sale(50), tear=(3, "before"))
    identity = mill.identity(1)
    full = FullWhile(counter.journal(identity), "keep_carried")
    shop = counter.at(identity, full)
    sale = shop.new_sale(300)
    before = holder.sequence
    result = hold(shop, holder, sale)
    assert result.outcome is Outcome.DECLINED
    assert holder.sequence == before
    assert shop.journal.unresolved() == []
    full.full = False
    assert hold(shop, holder, sale).granted


# ---------------------------------------------------------------------- a disk that fails


class Failing(sqlite3.Connection):
    """A connection on which, when told so, nothing reaches the disk any more (fsync returns EIO)."""

    broken = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if Failing.broken and sql.lstrip().upper().startswith(("INSERT", "BEGIN", "UPDATE", "COMMIT")):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(sql, parameters)


@pytest.fixture
def broken_disk() -> Any:
    yield lambda broken: setattr(Failing, "broken", broken)
    Failing.broken = False


def on_a_failing_disk(counter: Counter, identity: TerminalIdentity) -> Terminal:
    """The terminal, its journal on a disk that can be broken."""

    def connect(*given: Any, **named: Any) -> sqlite3.Connection:
        return sqlite3.connect(*given, factory=Failing, **named)

    return counter.at(identity, counter.journal(identity, connect=connect))


@pytest.mark.parametrize("klass", [1, 2])
def test_the_terminal_stops_when_a_write_fails(
    counter: Counter, mill: Mill, holder: Holder, klass: int, broken_disk: Callable[[bool], None]
) -> None:
    """Fault 12: never retried as a success, not even when the disk is well again; a restart finds all."""
    terminal = on_a_failing_disk(counter, mill.identity(klass))
    know(terminal, holder)
    charge = terminal.new_sale(300) if klass == 1 else counter.fare(300)
    told: list[Tap] = []

    def breaks(command: bytes, reply: bytes) -> bytes:
        if command[1] == m.INS_PAY:
            broken_disk(True)
        return reply

    with pytest.raises(JournalFailed, match="check the disk"):
        hold(terminal, holder, charge, wrap=Wiretap(breaks), decided=told.append)
    assert told == []
    broken_disk(False)
    for use in (lambda: hold(terminal, holder, charge), lambda: terminal.new_sale(100)):
        with pytest.raises(JournalFailed):
            use()
    assert holder.balance_fen == 20_000 - 300
    again = counter.restart(terminal)
    if klass == 1:
        (charge,) = again.journal.unresolved()
    result = hold(again, holder, charge)
    assert result.granted
    assert result.recovered
    assert holder.balance_fen == 20_000 - 300


def test_a_write_that_fails_before_the_card_is_asked(
    counter: Counter, mill: Mill, holder: Holder, broken_disk: Callable[[bool], None]
) -> None:
    shop = on_a_failing_disk(counter, mill.identity(1))
    know(shop, holder)
    sale = shop.new_sale(300)
    broken_disk(True)
    with pytest.raises(JournalFailed):
        hold(shop, holder, sale)
    assert holder.balance_fen == 20_000
    broken_disk(False)
    shop = counter.restart(shop)
    assert shop.journal.unresolved() == []


def test_every_error_is_a_terminal_error() -> None:
    found = [item for _, item in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(item, TerminalError) for item in found)
    assert not any(issubclass(item, ValueError) for item in found)
