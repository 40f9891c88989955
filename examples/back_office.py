"""A merchant's back office: fetches settlement files, verifies them, and holds them against its own list.

    python examples/back_office.py OFFICE CLEARING BOOKS [TERMINAL ...]
    for example: office http://127.0.0.1:8460 books bus

OFFICE is a terminal folder of the merchant that never sells: its key signs the requests, its scheme.json says
whose signatures count. BOOKS is a folder for the files, made when it is not there. The merchant's own list is
what the TERMINAL folders hold; a fleet would write it from its validators' events. Exit status 0: all agrees.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from fleet.open import open_session, system_clock
from hardwallet.certificates import TrustBundle
from hardwallet.journalled import write_durably
from hardwallet.records import PAYMENT, REFUND, Record, parse
from offline_sync import chain
from offline_sync.chain import Kind
from offline_sync.client import ClearingClient, TerminalSigner
from offline_sync.errors import SyncError
from offline_sync.reconciliation import Reconciliation, Rows, Side, reconcile
from offline_sync.settlement import Row, Settlement, Take, code_text, read
from pos_terminal.errors import TerminalError
from pos_terminal.folder import open_terminal
from pos_terminal.money import format_amount
from pos_terminal.sale import SaleState


class BooksError(Exception):
    """A file that is genuine, and not the one that is due. The message says what to do."""


class Books:
    """The settlement files of one payee in a folder, in their order. Each is checked whenever it is read."""

    def __init__(self, folder: Path, trust: TrustBundle, payee: bytes) -> None:
        """`payee`: 8 bytes. Raises BooksError, SettlementRefused, OSError."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder, self._trust, self._payee = folder, trust, payee
        self._number = self._balance_fen = 0
        for path in self._files():
            self._follow(self._read(path.read_bytes()))

    @property
    def last(self) -> int:
        """The number of the newest closing that is here; 0 when there is none."""
        return self._number

    def add(self, raw: bytes) -> Settlement:
        """Verify a file (any length) and keep it.

        Raises SettlementRefused for one that is altered, cut off or not signed by the acquirer, BooksError
        for one of another payee, or out of turn.
        """
        settlement = self._read(raw)
        self._follow(settlement)
        write_durably(self._folder / f"{settlement.header.number:06}.csv", raw)
        return settlement

    def rows(self, take: Take) -> None:
        """Hand every row of every file to `take`."""
        for path in self._files():
            self._read(path.read_bytes(), take)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.csv"))

    def _read(self, raw: bytes, take: Take = lambda _row: None) -> Settlement:
        return read(BytesIO(raw), self._trust, take)

    def _follow(self, settlement: Settlement) -> None:
        header = settlement.header
        if header.payee != self._payee:
            raise BooksError(f"closing {header.number} is of payee {header.payee.hex()}; fetch your own")
        due = self._number, self._balance_fen
        if header.number <= self._number or (header.previous, header.opening_fen) != due:
            raise BooksError(
                f"closing {header.number} follows closing {header.previous}, at a balance of "
                f"{format_amount(header.opening_fen)}; the last one here is {self._number}, at "
                f"{format_amount(self._balance_fen)}. Fetch what is missing, or ask the acquirer"
            )
        self._number, self._balance_fen = header.number, settlement.totals.closing_fen


def fetch(client: ClearingClient, books: Books, payee: bytes) -> None:
    """Fetch what was closed since, oldest first. `payee`: 8 bytes. Raises GatewayError, SettlementRefused."""
    while closings := client.settlements(after=books.last):
        for closing in closings:
            settlement = books.add(client.settlement(closing.number, payee))
            header, totals = settlement.header, settlement.totals
            print(
                f"closing {header.number} of {header.day}: {totals.rows} rows, "
                f"{format_amount(header.opening_fen)} to {format_amount(totals.closing_fen)}, signed"
            )


def own_rows(folder: Path) -> Iterator[Row]:
    """What the terminal in `folder` took and gave back, as rows of a settlement file."""
    with open_session(folder) as session:
        number = session.folder.identity.certificate.terminal
        for entry in session.journal.entries(1, session.journal.head()[0]):
            if entry.kind == Kind.OWN_PAYMENT:
                state, raw = chain.parse_own(entry.payload)
                granted = state is SaleState.GRANTED
                yield _row(parse(raw), "payment", "granted" if granted else "not-granted")
            elif entry.kind == Kind.CARRIED:
                record = parse(entry.payload)
                if record.kind == REFUND and record.terminal == number:
                    yield _row(record, "refund", "-")


def _row(record: Record, kind: str, disposition: str) -> Row:
    paid = record.kind == PAYMENT
    return Row(
        line=0,
        time_s=record.time_s,
        kind=kind,
        credit_fen=record.amount_fen if paid else 0,
        debit_fen=0 if paid else record.amount_fen,
        disposition=disposition,
        terminal=record.terminal.hex(),
        transaction=record.transaction,
        card=record.card.hex(),
        sequence=record.sequence,
        reference=record.reference.hex(),
        code=code_text(sha256(record.body).digest()),
    )


def compare(books: Books, terminals: list[Path]) -> Reconciliation:
    """Hold the terminals' payments, which are ours, against all that was settled."""
    new = tempfile.TemporaryFile
    with Rows(new) as ours, Rows(new) as theirs, Rows(new) as none:
        for terminal in terminals:
            for row in own_rows(terminal):
                ours.take(row)
        books.rows(theirs.take)
        return reconcile(Side(ours, none), Side(theirs, none))


def main(office: str, url: str, books_folder: str, *terminals: str) -> int:
    """Fetch, compare, tell; the exit status."""
    folder = open_terminal(Path(office))
    certificate, trust = folder.identity.certificate, folder.trust
    signer = TerminalSigner(trust.suite, certificate, folder.identity.key)
    books = Books(Path(books_folder), trust.bundle, certificate.payee)
    with ClearingClient(url, signer, clock=system_clock, entropy=os.urandom) as client:
        fetch(client, books, certificate.payee)
    if not terminals:
        return 0
    found = compare(books, [Path(name) for name in terminals])
    for one in found.differences:
        print(f"{one.difference}: card {one.card} no {one.sequence}, {one.ours_fen} and {one.theirs_fen} fen")
    print(f"{found.matched} rows agree, {len(found.differences)} do not")
    return 0 if found.agree else 1


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except (BooksError, SyncError, TerminalError) as error:
        sys.exit(f"{error}")
