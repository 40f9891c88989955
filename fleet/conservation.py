"""Whether all money is accounted for, computed from the cards, the queues and the ledger; never from what was
expected.

    loaded = on cards + under way + credited to payees

Under way is a payment that a card has signed and that no acknowledged entry of any journal holds.
"""

from dataclasses import dataclass, field

from fleet.world import World, WorldCard
from hardwallet.errors import Malformed
from hardwallet.issuing import open_scheme
from hardwallet.records import LOAD, PAYMENT, Record, parse
from offline_sync import chain
from offline_sync.clearing.report import Report
from offline_sync.journal import SqliteJournal
from pos_terminal.money import format_amount

_Payments = dict[tuple[bytes, int, bytes], Record]
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Conservation:
    """The sums, in fen, and what does not add up. By hex: `payees_fen`, and the cards' `accounts_fen`."""

    loaded_fen: int
    on_cards_fen: int
    under_way_fen: int
    credited_fen: int
    difference_fen: int
    payees_fen: dict[str, int] = field(default_factory=dict)
    accounts_fen: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is missing and nothing too many."""
        return self.difference_fen == 0

    def line(self) -> str:
        """The sum as a sentence."""
        return (
            f"Conservation: loaded {format_amount(self.loaded_fen)} = on cards "
            f"{format_amount(self.on_cards_fen)} "
            f"+ under way {format_amount(self.under_way_fen)} + credited to merchants "
            f"{format_amount(self.credited_fen)}; difference {format_amount(self.difference_fen)}."
        )


def conservation(world: World, report: Report | None) -> Conservation:
    """Look at every card and journal of a world, and at clearing's report; None while clearing has
    nothing."""
    signed, arrived = _signed_payments(world), _arrived(world)
    under_way = {key: record for key, record in signed.items() if key not in arrived}
    loaded_fen = _loaded_fen(world)
    on_cards_fen = sum(card.balance_fen for card in world.cards.values())
    under_way_fen = sum(record.amount_fen for record in under_way.values())
    payees_fen = {line.payee: line.balance_fen for line in report.payees} if report else {}
    accounts_fen = {line.card: line.balance_fen for line in report.cards} if report else {}
    credited_fen = sum(payees_fen.values())
    difference_fen = abs(loaded_fen - on_cards_fen - under_way_fen - credited_fen)
    if report is not None:
        difference_fen += abs(report.conservation.difference_fen)
        difference_fen += abs(report.conservation.loads_fen - loaded_fen)
        difference_fen += sum(
            abs(accounts_fen.get(card.number.hex(), 0) - card.balance_fen - _under_way_of(card, under_way))
            for card in world.cards.values()
        )
    return Conservation(
        loaded_fen, on_cards_fen, under_way_fen, credited_fen, difference_fen, payees_fen, accounts_fen
    )


def _under_way_of(card: WorldCard, under_way: _Payments) -> int:
    return sum(record.amount_fen for record in under_way.values() if record.card == card.number)


def _signed_payments(world: World) -> _Payments:
    """Every payment that a card still holds, or a journal."""
    records = [record for card in world.cards.values() for record in card.card.journal_records()]
    for terminal in world.terminals.values():
        records += _journal_records(terminal.journal, 1)
    return {_key(record): record for record in records if record.kind == PAYMENT}


def _arrived(world: World) -> set[tuple[bytes, int, bytes]]:
    """The payments in acknowledged entries."""
    return {
        _key(record)
        for terminal in world.terminals.values()
        for record in _journal_records(terminal.journal, 1, terminal.journal.acknowledged())
    }


def _key(record: Record) -> tuple[bytes, int, bytes]:
    return record.card, record.sequence, record.body


def _journal_records(journal: SqliteJournal, first: int, last: int | None = None) -> list[Record]:
    last = journal.head()[0] if last is None else last
    found = []
    for begin in range(first, last + 1, _PAGE):
        for entry in journal.entries(begin, min(_PAGE, last - begin + 1)):
            raw = chain.record_in(entry.kind, entry.payload)
            if raw is not None and not entry.damaged:
                found.append(_parsed(raw))
    return [record for record in found if record is not None]


def _parsed(raw: bytes) -> Record | None:
    try:
        return parse(raw)
    except Malformed:
        return None


def _loaded_fen(world: World) -> int:
    """What the issuer's own journal says was loaded."""
    with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
        receipts = [parse(raw) for raw, _ in scheme.receipts()]
    return sum(record.amount_fen for record in receipts if record.kind == LOAD)
