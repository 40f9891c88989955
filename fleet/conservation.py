"""Whether all money is accounted for, computed from the cards, the queues and the ledger; never from what was
expected.

    loaded + lost to clones = on cards + under way + credited to payees + owed to cards

Under way is a payment that a card has signed and that no acknowledged entry of any journal holds; a refund
that a card has and the books have not counts against it. What was owed to a card and went back with a load is
no new money: it is not counted as loaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fleet.world import World, WorldCard
from hardwallet.errors import Malformed
from hardwallet.issuing import open_scheme
from hardwallet.records import LOAD, PAYMENT, REFUND, Record, parse
from offline_sync import chain
from offline_sync.chain import Entry
from offline_sync.clearing.report import Report
from offline_sync.journal import SqliteJournal
from pos_terminal.money import format_amount
from pos_terminal.sale import REFUND_PROFILE

_Records = dict[tuple[bytes, int, bytes], Record]
_Order = tuple[bytes, bytes, int]
"""Payee, terminal, transaction number."""
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Conservation:
    """The sums, in fen, and what does not add up. By hex: `payees_fen`, and the cards' `accounts_fen`."""

    loaded_fen: int
    on_cards_fen: int
    under_way_fen: int
    credited_fen: int
    difference_fen: int
    owed_fen: int = 0
    lost_fen: int = 0
    payees_fen: dict[str, int] = field(default_factory=dict)
    accounts_fen: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is missing and nothing too many."""
        return self.difference_fen == 0

    def line(self) -> str:
        """The sum as a sentence."""
        lost = f" + lost to clones {format_amount(self.lost_fen)}" if self.lost_fen else ""
        owed = f" + owed to cards {format_amount(self.owed_fen)}" if self.owed_fen else ""
        return (
            f"Conservation: loaded {format_amount(self.loaded_fen)}{lost} = on cards "
            f"{format_amount(self.on_cards_fen)} "
            f"+ under way {format_amount(self.under_way_fen)} + credited to merchants "
            f"{format_amount(self.credited_fen)}{owed}; difference {format_amount(self.difference_fen)}."
        )


def conservation(world: World, report: Report | None) -> Conservation:
    """Look at every card and journal of a world, and at clearing's report; None while clearing has
    nothing."""
    signed, arrived, ordered = _signed(world), _arrived(world), _ordered(world)
    under_way = {
        key: record
        for key, record in signed.items()
        if key not in arrived or (record.kind == REFUND and _order_of(record) not in ordered)
    }
    loaded_fen, returned_fen = _loaded_fen(world)
    on_cards_fen = sum(card.balance_fen for card in world.cards.values())
    under_way_fen = sum(_moved_fen(record) for record in under_way.values())
    payees_fen = {line.payee: line.balance_fen for line in report.payees} if report else {}
    accounts_fen = {line.card: line.balance_fen for line in report.cards} if report else {}
    credited_fen = sum(payees_fen.values())
    owed_fen = report.conservation.owed_fen if report else 0
    lost_fen = report.conservation.losses_fen if report else 0
    fresh_fen = loaded_fen - returned_fen
    difference_fen = abs(fresh_fen + lost_fen - on_cards_fen - under_way_fen - credited_fen - owed_fen)
    if report is not None:
        difference_fen += abs(report.conservation.difference_fen)
        difference_fen += abs(report.conservation.loads_fen - loaded_fen)
        difference_fen += abs(report.conservation.returned_fen - returned_fen)
        difference_fen += sum(
            abs(accounts_fen.get(card.number.hex(), 0) - card.balance_fen - _under_way_of(card, under_way))
            for card in world.cards.values()
        )
    return Conservation(
        *(fresh_fen, on_cards_fen, under_way_fen, credited_fen, difference_fen),
        *(owed_fen, lost_fen, payees_fen, accounts_fen),
    )


def _moved_fen(record: Record) -> int:
    """What left the card by a payment, or came back to it by a refund."""
    return record.amount_fen if record.kind == PAYMENT else -record.amount_fen


def _under_way_of(card: WorldCard, under_way: _Records) -> int:
    return sum(_moved_fen(record) for record in under_way.values() if record.card == card.number)


def _signed(world: World) -> _Records:
    """Every payment and refund that a card still holds, or a journal."""
    records = [record for card in world.cards.values() for record in card.card.journal_records()]
    records += journal_records(world)
    return {_key(record): record for record in records if record.kind in (PAYMENT, REFUND)}


def journal_records(world: World) -> list[Record]:
    """The records in all journals of a world; one that several hold comes several times."""
    return [
        record for terminal in world.terminals.values() for record in _journal_records(terminal.journal, 1)
    ]


def _arrived(world: World) -> set[tuple[bytes, int, bytes]]:
    """The records in acknowledged entries."""
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
    for entry in _entries(journal, first, last):
        raw = chain.record_in(entry.kind, entry.payload)
        if raw is not None and not entry.damaged:
            found.append(_parsed(raw))
    return [record for record in found if record is not None]


def _entries(journal: SqliteJournal, first: int, last: int) -> Iterator[Entry]:
    for begin in range(first, last + 1, _PAGE):
        yield from journal.entries(begin, min(_PAGE, last - begin + 1))


def _parsed(raw: bytes) -> Record | None:
    try:
        return parse(raw)
    except Malformed:
        return None


def _ordered(world: World) -> set[_Order]:
    """The refunds that merchants ordered, in acknowledged entries."""
    found = set()
    for terminal in world.terminals.values():
        certificate = terminal.folder.identity.certificate
        for entry in _entries(terminal.journal, 1, terminal.journal.acknowledged()):
            if entry.kind == chain.Kind.SALE_OPENED and not entry.damaged:
                opened = chain.parse_opened(entry.payload)
                if opened.profile == REFUND_PROFILE:
                    found.add((certificate.payee, certificate.terminal, opened.transaction))
    return found


def _order_of(receipt: Record) -> _Order:
    return receipt.payee, receipt.terminal, receipt.transaction


def _loaded_fen(world: World) -> tuple[int, int]:
    """What the issuer's own journal says was loaded, and what of it had been owed to the cards."""
    with open_scheme(world.scheme_folder, world.passphrase, world.entropy) as scheme:
        receipts = [parse(raw) for raw, _ in scheme.receipts()]
        loads = [record for record in receipts if record.kind == LOAD]
        returned = [one for record in loads for one in scheme.returns_of(record)]
    return sum(record.amount_fen for record in loads), sum(one.amount_fen for one in returned)
