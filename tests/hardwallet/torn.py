"""A card whose memory can be torn at any write, on a bench; and what has to hold after any tear."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from firmware_bridge.errors import CardGone
from firmware_bridge.virtual.in_process import InProcessReader
from firmware_bridge.virtual.tear import TearMoment
from hardwallet import records as r
from hardwallet.card.applet import Card
from hardwallet.card.identity import CardIdentity
from hardwallet.card.memory import CardMemory, State, parse_state
from hardwallet.issuing import Scheme
from hardwallet.limits import JOURNAL_ENTRIES
from hw_tests.bench import Authority, Bench, done

MOMENTS: Final[tuple[TearMoment, ...]] = ("before", "after")


@dataclass(frozen=True, slots=True)
class WriteTear:
    """The card loses its power at the write with this number, 1 being the first; `kept` bytes arrive."""

    write: int
    kept: int
    what: str


class TearingMemory(CardMemory):
    """Counts its writes, and loses power at the one that it is told."""

    def __init__(self, memory: CardMemory) -> None:
        super().__init__(memory.state().to_bytes(), memory.image())
        self.sizes: list[tuple[str, int]] = []
        """What was written since `arm`: "commit" or "write", and how many bytes."""
        self.commits: list[bytes] = []
        """The states committed since `arm`."""
        self._tear: WriteTear | None = None

    def arm(self, tear: WriteTear | None = None) -> None:
        """Count from here; tear once."""
        self.sizes, self.commits, self._tear = [], [], tear

    def snapshot(self) -> tuple[bytes, bytes]:
        """All of it."""
        return self.state().to_bytes(), self.image()

    def restore(self, snapshot: tuple[bytes, bytes]) -> None:
        """All of it, as it was."""
        super().commit(snapshot[0])
        super().write(0, snapshot[1])

    def commit(self, state: bytes) -> None:
        """Whole, or not at all."""
        tear = self._next("commit", len(state))
        if tear is None or tear.kept:
            super().commit(state)
            self.commits.append(state)
        if tear is not None:
            raise CardGone("torn at a commit")

    def write(self, offset: int, data: bytes) -> None:
        """As far as the power lasts."""
        tear = self._next("write", len(data))
        super().write(offset, data if tear is None else data[: tear.kept])
        if tear is not None:
            raise CardGone("torn at a write")

    def _next(self, kind: str, size: int) -> WriteTear | None:
        self.sizes.append((kind, size))
        if self._tear is not None and self._tear.write == len(self.sizes):
            tear, self._tear = self._tear, None
            return tear
        return None


def write_tears(sizes: list[tuple[str, int]]) -> list[WriteTear]:
    """Every way to tear that many writes: before, in the middle (never a commit), after."""
    tears = []
    for number, (kind, size) in enumerate(sizes, 1):
        kept = {0, size} if kind == "commit" else {0, 1, size // 2, size - 1, size}
        tears += [
            WriteTear(number, count, f"{kind} {number}, {count} of {size} bytes") for count in sorted(kept)
        ]
    return tears


class TornBench(Bench):
    """A bench whose card can be torn, looked into, and put back to where it was."""

    def __init__(self, identity: CardIdentity, memory: CardMemory, authority: Authority, now: int) -> None:
        entropy = random.Random(11).randbytes
        self.memory = TearingMemory(memory)
        self.in_process = InProcessReader(Card(identity, self.memory, entropy))
        super().__init__(self.in_process, authority, identity.card, entropy, now)

    def again_in_field(self) -> None:
        """The card comes back, freshly powered."""
        self._link = None
        self.in_process.present()

    def restore(self, snapshot: tuple[bytes, bytes]) -> None:
        """Put the card back to where it was."""
        self.memory.arm()
        self.memory.restore(snapshot)
        self.again_in_field()

    @property
    def peek(self) -> State:
        """The committed state, without asking the card."""
        return self.memory.state()

    def is_ratified(self, sequence: int) -> bool:
        """Whether the card counts a record as ratified."""
        return (sequence - 1) % JOURNAL_ENTRIES not in self.peek.unratified

    def live_records(self) -> list[r.Record]:
        """Every record that no issuer has acknowledged, over the wire, its signature verified.

        The card is put back afterwards: proving itself changes its transit allowance.
        """
        kept, state = self.memory.snapshot(), self.peek
        self.again_in_field()
        self.select()
        done(self.prove())
        records = []
        for sequence in range(state.acknowledged_sequence + 1, state.sequence + 1):
            reply = done(self.read(sequence))
            record = r.parse(reply[:160])
            assert record.sequence == sequence
            self.card_key.verify(record.signature, record.body)
            assert reply[160] == ((sequence - 1) % JOURNAL_ENTRIES in state.unratified)
            records.append(record)
        self.restore(kept)
        return records


def new_torn_bench(scheme: Scheme, authority: Authority, now: int) -> TornBench:
    """A new card on a bench, prepared."""
    identity, memory = scheme.new_card(5, now)
    bench = TornBench(identity, memory, authority, now)
    bench.prepare()
    return bench


Act = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Session:
    """A session that was prepared on a card: what happens, how often it writes and exchanges."""

    bench: TornBench
    act: Act
    start: tuple[bytes, bytes]
    exchanges: int
    writes: list[tuple[str, int]]
    states: list[bytes]
    """Committed states of a run without a tear, the one before it first."""
    records: list[r.Record]

    @property
    def before(self) -> State:
        """The state before the session."""
        return parse_state(self.start[0])

    @property
    def after(self) -> State:
        """The state after a session without a tear."""
        return parse_state(self.states[-1])


def rehearse(bench: TornBench, act: Act) -> Session:
    """Run a session once without a tear, to see how often it writes and exchanges; then put the card back."""
    bench.again_in_field()
    start, records = bench.memory.snapshot(), bench.live_records()
    bench.restore(start)
    exchanged = bench.in_process.exchanges
    act()
    exchanges = bench.in_process.exchanges - exchanged
    writes, states = list(bench.memory.sizes), [start[0], *bench.memory.commits]
    bench.restore(start)
    return Session(bench, act, start, exchanges, writes, states, records)


@contextmanager
def named(point: object) -> Iterator[None]:
    """Says at which tear an assertion failed."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"torn at {point}")
        raise


def torn_sessions(session: Session) -> Iterator[str]:
    """The session torn at every exchange and every write; yields with the card back in the field.

    After each, the rules that hold after any tear have been checked.
    """
    bench = session.bench
    for number in range(1, session.exchanges + 1):
        for moment in MOMENTS:
            bench.restore(session.start)
            bench.in_process.tear_at(number, moment)
            point = f"exchange {number}, {moment}"
            yield from _torn(session, point)
    for tear in write_tears(session.writes):
        bench.restore(session.start)
        bench.memory.arm(tear)
        yield from _torn(session, tear.what)
    bench.restore(session.start)


def _torn(session: Session, point: str) -> Iterator[str]:
    with named(point):
        try:
            session.act()
        except CardGone:
            pass
        else:
            raise AssertionError("the session was not torn")
        session.bench.memory.arm()
        session.bench.again_in_field()
        check_after_tear(session)
        yield point


def check_after_tear(session: Session) -> None:
    """I1, I2, I5: one of the states of a run without a tear, money old or new, every record there."""
    bench, before, after, now = session.bench, session.before, session.after, session.bench.peek
    assert bench.memory.state().to_bytes() in session.states
    assert money(now) in (money(before), money(after))
    for name in (
        *("sequence", "acknowledged_sequence", "spent_fen", "acknowledged_fen"),
        *("load_counter", "order_number", "date_floor"),
    ):
        assert getattr(now, name) >= getattr(before, name), name
    records = bench.live_records()
    kept = [one for one in session.records if one.sequence > now.acknowledged_sequence]
    assert records[: len(kept)] == kept
    assert len(records) == now.sequence - now.acknowledged_sequence
    check_conservation(bench)


def check_conservation(bench: TornBench) -> None:
    """I1: neighbouring records fit, and the last balance is the card's."""
    records, state = bench.live_records(), bench.peek
    for older, newer in pairwise(records):
        step = -newer.amount_fen if newer.kind == r.PAYMENT else newer.amount_fen
        assert newer.balance_fen == older.balance_fen + step
    if records:
        assert records[-1].balance_fen == state.balance_fen


def money(state: State) -> tuple[int, ...]:
    """What changes together, or not at all."""
    return state.balance_fen, state.sequence, state.spent_fen, state.load_counter


def without_allowance(state: State) -> State:
    """The state but for what a proof resets."""
    return state.changed(transit_count=0, transit_amount_fen=0)
