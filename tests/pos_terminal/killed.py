"""Kills a terminal with SIGKILL at every single step of a tap, starts it again, and finishes the sale.

`python -m tests.pos_terminal.killed FOLDER retail|transit known|new|carrying` prints the name of each step at
which a child process died. `carrying`: the card holds another terminal's torn payment. It fails with a
traceback when one of the deaths cost anybody anything. A step is the entry or exit of a method of the
journal, of a statement in SQLite, of an APDU, or of a write or fsync of the card's file, which lives in the
same process. The product knows nothing of it: all is wrapped from outside.
"""

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from firmware_bridge.link import CardLink, LinkProcessor
from firmware_bridge.virtual.in_process import InProcessReader
from hardwallet import keys
from hardwallet.card.file import create_card_file
from hardwallet.card.memory import CardMemory
from hardwallet.card.simulated import SimulatedCard
from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT
from hardwallet.records import PAYMENT, TRANSIT
from hardwallet.session import TerminalIdentity
from offline_sync.journal import SqliteJournal
from pos_terminal.sale import SaleState
from pos_terminal.tap import Outcome, Tap, tap
from pos_terminal.terminal import Charge, Fare, Terminal
from tests.pos_terminal.bench import NOW, VEHICLE, Counter, Holder, Mill, hold, make_mill

AMOUNT_FEN: Final = 700
FIRST_FEN: Final = 100
TORN_FEN: Final = 33
START_FEN: Final = 20_000
MOST_STEPS: Final = 2_000
RIDE: Final = Fare(AMOUNT_FEN, VEHICLE, 20260921, 77)
GRANTED: Final = b"G"


class Steps:
    """Counts the steps; at the chosen one the process is no more."""

    def __init__(self, last: int, names: int) -> None:
        self._last, self._names = last, names
        self.count = 0

    def __call__(self, name: str) -> None:
        self.count += 1
        if self.count == self._last:
            os.write(self._names, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """The act, with a step before it and one after it."""

        def run(*given: Any, **named: Any) -> Any:
            self(f"before {name}")
            result = act(*given, **named)
            self(f"after {name}")
            return result

        return run


class SteppingJournal:
    """The journal, each of its methods two steps."""

    def __init__(self, journal: SqliteJournal, steps: Steps) -> None:
        self._journal, self._steps = journal, steps

    def __getattr__(self, name: str) -> Any:
        return self._steps.around(name, getattr(self._journal, name))


def stepping_connection(steps: Steps) -> type[sqlite3.Connection]:
    """SQLite, each writing statement two steps: the one after it follows the fsync."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            word = sql.split(None, 1)[0]
            if word in ("SELECT", "PRAGMA"):
                return super().execute(sql, parameters)
            found: sqlite3.Cursor = steps.around(f"SQL {word}", super().execute)(sql, parameters)
            return found

    return Connection


class SteppingLink(LinkProcessor):
    """The link, each exchange two steps."""

    def __init__(self, inner: CardLink, steps: Steps) -> None:
        super().__init__(inner)
        self._steps = steps

    def transmit(self, command: bytes) -> bytes:
        reply: bytes = self._steps.around(f"APDU {command[1]:02X}", super().transmit)(command)
        return reply


class Place:
    """One terminal and one card, in files."""

    def __init__(self, folder: Path, mill: Mill, identity: TerminalIdentity) -> None:
        self.folder, self.mill, self.identity = folder, mill, identity

    @property
    def card_path(self) -> Path:
        return self.folder / "card"

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal.sqlite"

    def open_journal(self, factory: type[sqlite3.Connection] = sqlite3.Connection) -> SqliteJournal:
        def connect(*given: Any, **named: Any) -> sqlite3.Connection:
            return sqlite3.connect(*given, factory=factory, **named)

        certificate = self.identity.certificate
        return SqliteJournal(
            self.journal_path,
            scheme=certificate.scheme,
            payee=certificate.payee,
            terminal=certificate.terminal,
            connect=connect,
        )

    def terminal(self, journal: Any) -> Terminal:
        mill = self.mill
        return Terminal(
            *(self.identity, mill.trust, mill.suite, journal, lambda: NOW + 120, lambda: 0.0, os.urandom),
            mill.empty_denylists(),
        )

    def charge(self, terminal: Terminal) -> Charge:
        return RIDE if self.identity.certificate.klass == CLASS_TRANSIT else terminal.new_sale(AMOUNT_FEN)


def die(place: Place, last: int, names: int, lights: int) -> None:
    """In the child: one tap, dead at the step with that number. `lights` gets a byte at the green light."""
    steps = Steps(last, names)
    journal = place.open_journal(stepping_connection(steps))
    card = SimulatedCard(place.card_path)
    for name in ("pwrite", "fdatasync", "fsync"):
        setattr(os, name, steps.around(f"card {name}", getattr(os, name)))
    terminal = place.terminal(SteppingJournal(journal, steps))
    link = SteppingLink(InProcessReader(card).wait_for_card(0), steps)

    def decided(result: Tap) -> None:
        if result.granted:
            os.write(lights, GRANTED)
        steps("decided")

    assert tap(terminal, link, place.charge(terminal), decided=decided).granted
    os._exit(0)


def finish(place: Place, green_before: bool) -> None:
    """In the parent, as after a power cut: the terminal starts, the card comes back, and all is well."""
    journal = place.open_journal()
    assert journal.verify_all().ok
    assert journal.quarantined() == []
    card = SimulatedCard(place.card_path)
    _check_durable(journal, card)
    terminal = place.terminal(journal)
    granted_before = _granted(journal, card)
    assert green_before <= granted_before, "a green light with nothing on the disk"
    charge = _charge_again(terminal, journal, card, granted_before)
    reader = InProcessReader(card)
    result = tap(terminal, reader.wait_for_card(0), charge)
    assert result.granted is not granted_before
    assert result.granted or result.outcome is Outcome.ALREADY_GRANTED
    assert journal.unresolved() == []
    paid = [record for record in card.journal_records() if record.kind == PAYMENT]
    assert [record.amount_fen for record in paid].count(AMOUNT_FEN) == 1
    assert card.card_state().balance_fen == START_FEN - sum(record.amount_fen for record in paid)
    assert _granted(journal, card)
    waiting = journal.waiting()
    carried_fen = sum(record.amount_fen for record in paid if record.amount_fen == TORN_FEN)
    assert waiting.amount_fen == START_FEN - card.card_state().balance_fen - carried_fen
    assert waiting.carried == (1 if carried_fen else 0)
    assert journal.verify_all().ok
    again = tap(terminal, reader.wait_for_card(0), charge)
    assert again.outcome is Outcome.ALREADY_GRANTED
    assert card.card_state().unratified == 0
    card.close()
    journal.close()


def _charge_again(terminal: Terminal, journal: SqliteJournal, card: SimulatedCard, granted: bool) -> Charge:
    """What the cashier, or the next tap on the bus, asks for after the restart."""
    if terminal.profile == TRANSIT:
        return RIDE
    unresolved = journal.unresolved()
    if unresolved:
        (sale,) = unresolved
        assert sale.amount_fen == AMOUNT_FEN
        return sale
    if granted:
        return _sale_of(journal, card)
    amounts = [record.amount_fen for record in card.journal_records()]
    assert AMOUNT_FEN not in amounts, "the card has paid, and the till knows nothing of it"
    return terminal.new_sale(AMOUNT_FEN)


def _check_durable(journal: SqliteJournal, card: SimulatedCard) -> None:
    """What the card takes for ratified is in the journal."""
    state = card._memory.state()
    waiting = {int.from_bytes(card._memory.entry(index)[24:28], "big") for index in state.unratified}
    for record in card.journal_records():
        if record.kind == PAYMENT and record.sequence not in waiting:
            stored = journal.payment(record.card, record.sequence)
            assert stored is not None, "a payment was ratified and is nowhere"
            assert stored.record == record


def _granted(journal: SqliteJournal, card: SimulatedCard) -> bool:
    """Whether the disk says that the sale of the tap was granted."""
    for record in card.journal_records():
        stored = journal.payment(record.card, record.sequence)
        if record.amount_fen == AMOUNT_FEN and stored is not None:
            assert stored.granted
            return True
    return False


def _sale_of(journal: SqliteJournal, card: SimulatedCard) -> Charge:
    (record,) = [record for record in card.journal_records() if record.amount_fen == AMOUNT_FEN]
    sale = journal.sale(record.reference)
    assert sale is not None
    assert sale.state is SaleState.GRANTED
    return sale


def prepare(folder: Path, klass: int, met: str) -> Place:
    """The files before the tap. Unless they are new to each other, card and terminal met over 1.00."""
    keys._COST = 2  # type: ignore[misc]
    (folder / "scheme").mkdir(parents=True)
    mill = make_mill(folder / "scheme")
    place = Place(folder / "template", mill, mill.identity(klass))
    place.folder.mkdir()
    holder = Holder(mill.blank(balance_fen=START_FEN))
    counter = Counter(mill, folder)
    journal = place.open_journal()
    if met != "new":
        terminal = place.terminal(journal)
        charge = counter.fare(FIRST_FEN) if klass == CLASS_TRANSIT else terminal.new_sale(FIRST_FEN)
        assert hold(terminal, holder, charge).granted
    journal.close()
    if met == "carrying":
        torn_at = counter.shop(merchant=9)
        assert hold(torn_at, holder, torn_at.new_sale(TORN_FEN), tear=(4, "before")).granted
        assert holder.unratified == 1
        counter.close()
    blank = holder.copy()
    create_card_file(place.card_path, blank.identity, CardMemory(blank.state, blank.image))
    return place


def run(folder: Path, klass: int, met: str) -> int:
    """Every step in turn; how many there are."""
    template = prepare(folder, klass, met)
    for last in range(1, MOST_STEPS):
        place = Place(folder / "work", template.mill, template.identity)
        shutil.rmtree(place.folder, ignore_errors=True)
        shutil.copytree(template.folder, place.folder)
        names, name_end = os.pipe()
        lights, light_end = os.pipe()
        child = os.fork()
        if not child:
            try:
                die(place, last, name_end, light_end)
            finally:
                os._exit(70)
        os.close(name_end)
        os.close(light_end)
        _, status = os.waitpid(child, 0)
        with os.fdopen(names, "rb") as said, os.fdopen(lights, "rb") as light:
            name, green = said.read().decode(), light.read() == GRANTED
        try:
            finish(place, green)
        except AssertionError:
            sys.stderr.write(f"killed at step {last}: {name}\n")
            raise
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the tap itself failed"
            return last - 1
        assert os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write(name + "\n")
    raise AssertionError("the tap never ended")


def main(arguments: list[str]) -> None:
    folder, klass, met = arguments
    run(Path(folder), CLASS_TRANSIT if klass == "transit" else CLASS_RETAIL, met)


if __name__ == "__main__":
    main(sys.argv[1:])
