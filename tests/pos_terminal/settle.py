"""From counters to clearing and back: uploads without a network, and whether every fen is in its place."""

from collections.abc import Callable, Iterable
from pathlib import Path

from hardwallet.issuing import ACQUIRER
from hardwallet.records import LOAD, PAYMENT, Record, parse
from offline_sync import messages, outbox
from offline_sync.chain import record_in
from offline_sync.clearing import Clearing, Report
from offline_sync.messages import Uploader
from pos_terminal.sale import SaleState
from pos_terminal.terminal import Terminal
from tests.pos_terminal.bench import Holder, Mill, journal_of


class House:
    """A clearing of its own, in a file."""

    def __init__(self, mill: Mill, path: Path, clock: Callable[[], int]) -> None:
        self.mill = mill
        self.clock = clock
        self.clearing = Clearing(f"sqlite:///{path}", mill.trust, {ACQUIRER: mill.acquirer}, clock)

    def book(self, holder: Holder, order: bytes) -> None:
        """Book a load from its order and from the receipt that the card holds."""
        self.clearing.book_order(order)
        counter = order[20:24]
        receipts = [record.raw for record in holder.card.journal_records() if record.kind == LOAD]
        (raw,) = [raw for raw in receipts if raw[36:40] == counter]
        self.clearing.book_load(raw, holder.identity.certificate.to_bytes())

    def upload(self, terminal: Terminal) -> int:
        """Send what waits at a terminal, in one batch; how many entries clearing rejected."""
        journal = journal_of(terminal)
        first = journal.acknowledged() + 1
        parcel = outbox.pack(journal.entries(first, 1_000), lambda digest: _raw(terminal, digest))
        if not parcel.entries:
            return 0
        batch, _ = messages.seal_batch(
            Uploader(terminal.suite, terminal.identity.certificate, terminal.identity.key),
            journal.hash_at(first - 1),
            parcel.entries,
            parcel.certificates,
            journal_head=journal.head()[0],
            time_s=self.clock(),
        )
        receipt = self.clearing.accept(batch)
        journal.acknowledge(journal.head()[0], journal.head()[1])
        assert receipt.status == messages.GOOD
        return len(receipt.rejections)

    def report(self) -> Report:
        return self.clearing.report()

    def close(self) -> None:
        self.clearing.close()


def _raw(terminal: Terminal, digest: bytes) -> bytes | None:
    found = terminal.journal.certificate(digest)
    return found.raw if found is not None else None


def kept_records(terminals: Iterable[Terminal]) -> list[Record]:
    """Every record that lies in one of the journals."""
    found = []
    for terminal in terminals:
        journal = journal_of(terminal)
        for entry in journal.entries(1, journal.head()[0]):
            raw = record_in(entry.kind, entry.payload)
            if raw is not None and not entry.damaged:
                found.append(parse(raw))
    return found


def check_durable(holders: Iterable[Holder], terminals: Iterable[Terminal]) -> None:
    """I2: whatever a card has signed lies on the card, unratified, or in a journal."""
    kept = {record.body for record in kept_records(terminals)}
    for holder in holders:
        state = holder.memory.state()
        waiting = {int.from_bytes(holder.memory.entry(index)[24:28], "big") for index in state.unratified}
        for record in holder.card.journal_records():
            if record.kind == PAYMENT and record.sequence > state.acknowledged_sequence:
                assert record.sequence in waiting or record.body in kept, "a payment is nowhere durable"


def _is_given_up(record: Record, terminals: Iterable[Terminal]) -> bool:
    """Whether the terminal that a payment names took it without giving anything for it: it returns to its
    card."""
    for terminal in terminals:
        certificate = terminal.identity.certificate
        if (certificate.payee, certificate.terminal) == (record.payee, record.terminal):
            sale = terminal.journal.sale(record.reference)
            return sale is not None and sale.state in (SaleState.GIVEN_UP, SaleState.PAID_NOT_GRANTED)
    return False


def check_sums(holders: Iterable[Holder], terminals: Iterable[Terminal], report: Report) -> None:
    """Ledger = cards + payees + owed to cards, to the fen, from what lies there and not from what was
    expected."""
    terminals = list(terminals)
    arrived = {(r.card, r.sequence, r.body): r for r in kept_records(terminals) if r.kind == PAYMENT}
    accounts = {line.card: line.balance_fen for line in report.cards}
    for holder in holders:
        signed = [record for record in holder.card.journal_records() if record.kind == PAYMENT]
        on_the_way = [r for r in signed if (r.card, r.sequence, r.body) not in arrived]
        assert accounts[holder.number.hex()] == holder.balance_fen + sum(r.amount_fen for r in on_the_way)
        loads = [record for record in holder.card.journal_records() if record.kind == LOAD]
        loaded_fen = sum(record.amount_fen for record in loads)
        assert loaded_fen == holder.balance_fen + sum(record.amount_fen for record in signed)
    payees: dict[str, int] = {}
    owed: dict[tuple[str, int], int] = {}
    for record in arrived.values():
        if _is_given_up(record, terminals):
            owed[record.card.hex(), record.sequence] = record.amount_fen
        else:
            payees[record.payee.hex()] = payees.get(record.payee.hex(), 0) + record.amount_fen
    assert {(line.card, line.sequence): line.amount_fen for line in report.owed} == owed
    assert {line.payee: line.balance_fen for line in report.payees if line.balance_fen} == payees
    assert report.conservation.ok
    assert report.conservation.difference_fen == 0
    assert report.rejected == []
    assert report.evidence == []
