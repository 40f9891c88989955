"""The operator's side: intake, verification, ledger, report, HTTP.

Clearing is the whole of it in one object; service.py puts it behind HTTP.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path

from sqlalchemy import literal, select

from hardwallet.certificates import TrustBundle
from hardwallet.records import PAYMENT, Owed
from hardwallet.suites import SigningKey
from offline_sync.clearing import backup, disputes, report, restored
from offline_sync.clearing.backup import Backup
from offline_sync.clearing.disputes import DisputeLine
from offline_sync.clearing.intake import Intake
from offline_sync.clearing.ledger import Ledger, Posting
from offline_sync.clearing.notices import Notices
from offline_sync.clearing.report import Report
from offline_sync.clearing.restored import Held
from offline_sync.clearing.returns import owed
from offline_sync.clearing.settlement import LIST_LIMIT, Closing, PayeeTotals, Settlements, Told, untold
from offline_sync.clearing.verify import Verifier
from offline_sync.clearing.workers import SignatureWorkers
from offline_sync.messages import Acknowledgement, Batch

__all__ = ["Clearing", "Closing", "PayeeTotals", "Report"]


class Clearing:
    """Clearing of one scheme. Any thread may call; bookings take their turn."""

    def __init__(
        self,
        url: str,
        trust: TrustBundle,
        keys: Mapping[bytes, SigningKey],
        clock: Callable[[], int],
        workers: int = 0,
    ) -> None:
        """`url`: the ledger's database, as SQLAlchemy names it. `keys`: the signing key of each acquiring
        operator (4 bytes) that is served. `clock`: seconds since 1970. `workers`: how many processes check
        the signatures of records, 0 to 64; with 0 they are checked here. Raises LedgerError, WorkersRefused.
        """
        self._workers = SignatureWorkers(trust.suite.number, workers)
        self.trust = trust
        self.clock = clock
        self.served = frozenset(keys)
        self._ledger = Ledger(url, trust.scheme)
        self._intake = Intake(self._ledger, Verifier(trust, clock, check=self._workers.check), keys, clock)
        self._turn = threading.Lock()
        self._settlements = Settlements(self._ledger, trust, keys, self._turn, self._reading)
        try:
            self.notices = Notices(self._ledger, trust, self._turn)
        except BaseException:
            self.close()
            raise

    def accept(self, batch: Batch) -> Acknowledgement:
        """Book an upload, once, and acknowledge it. Raises BatchRefused (nothing was booked), LedgerError.

        While the signatures of one are checked, others are read and booked.
        """
        with self._turn:
            opened = self._intake.open(batch)
        if isinstance(opened, Acknowledgement):
            return opened
        checked = self._intake.check(opened)
        with self._turn:
            return self._intake.book(opened, checked)

    def book_load(self, record: bytes, certificate: bytes) -> bool:
        """Book a card's load receipt (160 bytes), which came with the card's certificate (178 bytes).

        False when it was known. Raises RecordRefused, LedgerError.
        """
        with self._turn:
            return self._intake.book_record(record, certificate)

    def book_order(self, order: bytes, returns: Sequence[Owed] = ()) -> None:
        """Note a load order (122 bytes), and the payments that it puts back on its card. It is outstanding
        until its receipt arrives. Again changes nothing.

        Raises RecordRefused, `return-claimed` when another order holds one of the payments; LedgerError.
        """
        with self._turn:
            self._intake.book_order(order, returns)

    def owed(self, card: bytes) -> list[Owed]:
        """What a card (8 bytes) has paid that goes back to it, and that no load order claims yet. Raises
        LedgerError.
        """
        with self._reading(), self._ledger.read() as connection:
            return owed(connection, card)

    def report(self) -> Report:
        """What the books say now. Raises LedgerError."""
        with self._reading(), self._ledger.read() as connection:
            return report.build(connection, self._ledger)

    def arrived(self, card: bytes) -> tuple[int, int]:
        """(sequence, total in fen): everything that a card (8 bytes) signed up to this number has arrived,
        and what of it was paid. What an issuer may acknowledge to the card. Raises LedgerError.
        """
        upto = total_fen = 0
        with self._reading(), self._ledger.read() as connection:
            for sequence, kind, amount_fen in self._ledger.bodies_of(connection, card):
                if sequence > upto + 1:
                    break
                if sequence == upto + 1:  # the second body of a clone counts no second time
                    upto = sequence
                    total_fen += amount_fen if kind == PAYMENT else 0
        return upto, total_fen

    def held(self, payee: bytes, terminal: bytes) -> Held:
        """What is held of a payee's (8 bytes) terminal (4 bytes). Raises LedgerError."""
        with self._reading(), self._ledger.read() as connection:
            return restored.held(connection, payee, terminal)

    def lost(self, acknowledgement: Acknowledgement) -> bool:
        """Whether entries that this acknowledgement covers are not held any more; then it is kept as evidence
        `restored`, and the terminal has to send them again. Raises BatchRefused when clearing never signed
        it, LedgerError.
        """
        restored.check_own(acknowledgement, self.trust)
        with self._turn, self._ledger.write() as connection:
            now = restored.held(connection, acknowledgement.payee, acknowledgement.terminal)
            if not restored.is_lost(acknowledgement, now):
                return False
            row = restored.note(acknowledgement, self.trust.suite.number, self.clock())
            self._ledger.post(connection, Posting(evidence=[row]))
            return True

    def disputes(self, after: bytes = b"", limit: int = disputes.PAGE) -> list[DisputeLine]:
        """Up to `limit` pieces of evidence whose digests (32 bytes) follow `after`. Raises LedgerError."""
        with self._reading(), self._ledger.read() as connection:
            return disputes.lines(connection, after, limit)

    def dispute(self, digest: bytes) -> bytes:
        """The dispute file of the evidence that a digest (32 bytes) names: what a third party judges with
        tools/judge-dispute.sh. Raises NoDispute, LedgerError.
        """
        with self._reading(), self._ledger.read() as connection:
            return disputes.file_of(connection, self.trust, digest)

    def close_day(self, day: date, told: Told = untold, *, above: int = 0) -> Closing:
        """Close a day (in Beijing) now: everything that was booked since the last closing. Each movement of
        the ledger belongs to exactly one closing. `told` hears how far it is. `above`: a number of which
        files were given out, though these books, put back from a backup, do not know it; this closing's is
        higher. Raises SettlementError (the day has not begun, or a later one is closed), LedgerError; nothing
        was closed then.
        """
        return self._settlements.close_day(day, self.clock(), told, above)

    def settlements(
        self, payee: bytes | None = None, *, after: int = 0, limit: int = LIST_LIMIT
    ) -> list[Closing]:
        """Closings with numbers above `after`, by rising number, at most `limit` and never more than 1,000.
        With a payee (8 bytes) only those that hold a file of it, with its own counts and sums.
        Raises LedgerError.
        """
        return self._settlements.listed(payee, after, limit)

    def last_closing(self) -> int:
        """The number of the last closing; 0 before the first. Raises LedgerError."""
        return self._settlements.last()

    def settlement_totals(self, number: int) -> list[PayeeTotals]:
        """What each file of a closing comes to, by rising payee. Raises SettlementMissing, LedgerError."""
        return self._settlements.totals(number)

    def settlement(self, number: int, payee: bytes) -> Iterator[bytes]:
        """The signed file of a payee (8 bytes) in a closing, in pieces of a few MB at most; the same bytes
        every time (docs/settlement.md). Raises SettlementMissing and SettlementError (its operator is not
        served here) at once; while it is read SettlementError and LedgerError, and then it is worth nothing.
        """
        return self._settlements.file(number, payee)

    def write_settlements(self, number: int, folder: Path, told: Told = untold) -> list[Path]:
        """Write all files of a closing below `folder`, each whole or not at all; the same ones again change
        nothing. The paths, by rising payee. Raises SettlementMissing, SettlementError, LedgerError.
        """
        return self._settlements.write(number, folder, told)

    def backup(self, path: Path) -> Backup:
        """Write one moment of the books to `path`, which must not exist, while they go on being used.

        Raises BackupRefused, LedgerError.
        """
        with self._reading():
            return backup.back_up(self._ledger, path)

    def check(self) -> None:
        """That the ledger can be read. Raises LedgerError."""
        with self._reading(), self._ledger.read() as connection:
            connection.execute(select(literal(1)))

    def _reading(self) -> AbstractContextManager[object]:
        return self._turn if self._ledger.shared else nullcontext()

    def close(self) -> None:
        """Let the database and the verifying processes go."""
        self._workers.close()
        self._ledger.close()
