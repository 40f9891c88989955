"""A tear at every exchange of every kind of tap, before and after, and then every order of return.

Whatever is torn: the card is debited once or not at all, the terminal grants once or not at all, every signed
payment lies somewhere durable, and when all has been uploaded the ledger is the cards plus the payees.
"""

from dataclasses import dataclass, field

import pytest

from firmware_bridge.virtual.tear import TearMoment
from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT
from hardwallet.records import PAYMENT, TRANSIT, Record
from pos_terminal.sale import Sale, SaleState
from pos_terminal.tap import Outcome, Tap
from pos_terminal.terminal import Charge, Fare, Terminal
from tests.pos_terminal.bench import PIN, Blank, Counter, Holder, Mill, hold, know
from tests.pos_terminal.settle import House, check_durable, check_sums, kept_records

Tear = tuple[int, TearMoment]
MOMENTS: tuple[TearMoment, ...] = ("before", "after")
PROFILES = ("transit", "retail", "PIN")
SCENES = [(profile, known) for profile in PROFILES for known in (True, False)]
EXCHANGES = {
    ("transit", True): 3,
    ("transit", False): 6,
    ("retail", True): 3,
    ("retail", False): 4,
    ("PIN", True): 3,
    ("PIN", False): 4,
}
"""How many exchanges the whole tap takes."""
ORDERS = ("same", "other", "other, same", "same, other", "never, then load", "given up, same")


def tears(exchanges: int) -> list[Tear]:
    return [(number, when) for number in range(1, exchanges + 1) for when in MOMENTS]


@dataclass
class Course:
    """One course of events, from the first tap to the ledger, for one charge. It checks as it goes."""

    counter: Counter
    first: Terminal
    second: Terminal
    holder: Holder
    charge: Charge
    pin: str
    grants: int = 0
    started: int = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.holder.sequence

    @property
    def terminals(self) -> list[Terminal]:
        return [self.first, self.second]

    @property
    def debits(self) -> list[Record]:
        """What the card has paid to the first terminal's payee since the course began."""
        payee = self.first.identity.certificate.payee
        return [r for r in self.holder.records if r.payee == payee and r.sequence > self.started]

    def pay(self, tear: Tear | None = None) -> Tap:
        """The card at the first terminal, for the charge."""
        result = hold(self.first, self.holder, self.charge, self.pin, tear=tear, decided=self._green)
        self.grants += result.granted
        assert self.grants <= 1
        assert len(self.debits) <= 1
        if result.granted:
            assert result.record is not None
            assert [record.body for record in self.debits] == [result.record.body]
        elif self.debits and not self.grants and isinstance(self.charge, Sale):
            assert [sale.reference for sale in self.first.journal.unresolved()] == [self.charge.reference]
        check_durable([self.holder], self.terminals)
        return result

    def _green(self, result: Tap) -> None:
        """At the green light the payment is on the disk already."""
        if result.granted and result.record is not None:
            assert result.record.body in {record.body for record in kept_records([self.first])}

    def elsewhere(self, tear: Tear | None = None) -> Tap:
        """The card at the second terminal, for something of its own."""
        result = hold(self.second, self.holder, self._next_charge(self.second), tear=tear)
        assert result.granted or tear is not None
        check_durable([self.holder], self.terminals)
        return result

    def give_up(self) -> None:
        """The cashier of the first terminal takes cash."""
        for sale in self.first.journal.unresolved():
            self.first.give_up(sale.reference, "paid in cash")

    def another(self) -> Tap:
        """The card at the first terminal, for its next sale."""
        return hold(self.first, self.holder, self._next_charge(self.first))

    def _next_charge(self, terminal: Terminal) -> Charge:
        if terminal.profile == TRANSIT:
            return self.counter.fare(100)
        for sale in terminal.journal.unresolved():
            terminal.give_up(sale.reference, "torn")
        return terminal.new_sale(100)

    def restart(self) -> None:
        """The first terminal's program ends and starts again."""
        self.first = self.counter.restart(self.first)

    def load(self) -> bytes:
        """At the issuer: 10.00 more, and an acknowledgement of all that arrived without a gap; the order."""
        arrived = {record.sequence: record for record in kept_records(self.terminals)}
        arrived |= {r.sequence: r for r in self.holder.card.journal_records() if r.kind != PAYMENT}
        reached = 0
        while reached + 1 in arrived:
            reached += 1
        spent_fen = sum(arrived[n].amount_fen for n in range(1, reached + 1) if arrived[n].kind == PAYMENT)
        return self.counter.mill.load(self.holder, 1_000, (reached, spent_fen))

    def close(self) -> None:
        for terminal in self.terminals:
            self.counter.drop(terminal)


def begin(counter: Counter, profile: str, known: bool, card: Blank) -> Course:
    """A terminal of the profile, one of the other class and another payee, and the card, before the tap."""
    holder = Holder(card)
    classes = [CLASS_TRANSIT, CLASS_RETAIL] if profile == "transit" else [CLASS_RETAIL, CLASS_TRANSIT]
    first, second = (counter.at(counter.mill.quick_identity(c, 21 + n)) for n, c in enumerate(classes))
    if known:
        know(first, holder)
        know(second, holder)
    pin = ""
    if profile == "PIN":
        pin = PIN
        counter.mill.set_pin(holder, PIN)
    charge: Charge = counter.fare() if profile == "transit" else first.new_sale(38_000 if pin else 700)
    return Course(counter, first, second, holder, charge, pin)


@pytest.mark.parametrize(("profile", "known"), SCENES)
def test_an_untorn_tap(counter: Counter, mill: Mill, profile: str, known: bool) -> None:
    course = begin(counter, profile, known, mill.quick_blank(80_000)[0])
    before = course.holder.reader.exchanges
    assert course.pay().granted
    assert course.holder.reader.exchanges - before == EXCHANGES[profile, known]


# ---------------------------------------------------------------------- one tear, every order of return


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("profile", "known"), SCENES)
def test_every_order_of_return(counter: Counter, mill: Mill, profile: str, known: bool, order: str) -> None:
    """Each course with a card and terminals of its own; all of them settle in one ledger."""
    house = House(mill, counter.folder / "clearing", counter.time.clock)
    courses = []
    for index, tear in enumerate(tears(EXCHANGES[profile, known])):
        blank, loaded = mill.quick_blank(80_000)
        course = begin(counter, profile, known, blank)
        house.book(course.holder, loaded)
        torn = course.pay(tear)
        if index % 2:
            course.restart()
        _return(course, order, torn, house)
        courses.append(course)
    terminals = [terminal for course in courses for terminal in course.terminals]
    for terminal in terminals:
        assert house.upload(terminal) == 0
    check_sums([course.holder for course in courses], terminals, house.report())
    house.close()


def _return(course: Course, order: str, torn: Tap, house: House) -> None:
    for place in order.split(", "):
        if place == "same" and order.startswith("given up"):
            assert course.another().granted
            _check_given_up(course, torn)
        elif place == "same":
            result = course.pay()
            assert result.granted is not torn.granted
            assert (course.grants, len(course.debits)) == (1, 1)
            assert course.first.journal.unresolved() == []
            assert course.holder.unratified == 0
        elif place == "other":
            course.elsewhere()
            assert course.holder.unratified == 0  # the other terminal took along what there was
            arrived = {record.body for record in kept_records(course.terminals)}
            assert all(record.body in arrived for record in course.debits)
        elif place == "never":
            for terminal in course.terminals:
                assert house.upload(terminal) == 0
        elif place == "then load":
            house.book(course.holder, course.load())
            check_durable([course.holder], course.terminals)
            course.elsewhere()
        else:
            course.give_up()


def _check_given_up(course: Course, torn: Tap) -> None:
    """Given up and paid after all is paid, not granted: the payee has it, nobody got goods for it."""
    payee = course.first.identity.certificate.payee
    kept = [record for record in kept_records([course.first]) if record.payee == payee]
    assert len(kept) == len(course.debits)
    assert course.grants == torn.granted
    if isinstance(course.charge, Fare):
        return
    sale = course.first.journal.sale(course.charge.reference)
    if torn.granted:
        assert sale is not None
        assert sale.state is SaleState.GRANTED
    elif sale is not None and len(course.debits) == 2:
        assert sale.state is SaleState.PAID_NOT_GRANTED
    elif sale is not None:
        assert sale.state in (SaleState.GIVEN_UP, SaleState.OPEN)


# ---------------------------------------------------------------------- a second tear in the recovery


@pytest.mark.parametrize("where", ["same", "other"])
@pytest.mark.parametrize(("profile", "known"), SCENES)
def test_a_tear_in_the_recovery_too(
    counter: Counter, mill: Mill, profile: str, known: bool, where: str
) -> None:
    """Torn, torn again at every exchange of the way back, and then in peace."""
    made = begin(counter, profile, known, mill.quick_blank(80_000)[0])
    card, first, second = made.holder.copy(), counter.snapshot(made.first), counter.snapshot(made.second)
    exchanges = EXCHANGES[profile, known]
    for tear in tears(exchanges):
        for again in tears(exchanges + 1):
            course = Course(
                counter, counter.revive(first), counter.revive(second), Holder(card), made.charge, made.pin
            )
            torn = course.pay(tear)
            if where == "same":
                course.pay(again)
            else:
                course.elsewhere(again)
            result = course.pay()
            assert (course.grants, len(course.debits)) == (1, 1), (tear, again)
            assert result.granted or result.outcome is Outcome.ALREADY_GRANTED
            assert torn.outcome is not Outcome.DECLINED
            assert course.first.journal.unresolved() == []
            kept = {record.body for record in kept_records([course.first])}
            assert all(record.body in kept for record in course.debits)
            course.close()
