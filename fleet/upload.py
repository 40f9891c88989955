"""Uploads of a small world: clearing as a process of its own, and what arrived there."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet import notices
from fleet.clearing_child import ClearingProcess
from fleet.notices import Fetched
from fleet.open import open_operator_client, system_clock
from fleet.world import World, WorldTerminal
from hardwallet.issuing import Scheme
from hardwallet.records import Owed
from offline_sync.clearing.report import Report
from offline_sync.client import ClearingClient
from offline_sync.errors import SyncError
from offline_sync.gateway import Backoff, Gateway, Queue
from offline_sync.journal import Rejected, SqliteJournal
from offline_sync.messages import Uploader
from offline_sync.surface import HandedOrder, LoadReceipt, Return
from pos_terminal.ports import Clock


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one upload brought: the acknowledged head (32 bytes), what was rejected, or why it did not
    arrive."""

    index: int = 0
    head: bytes = b""
    rejected: int = 0
    failure: str = ""

    @property
    def ok(self) -> bool:
        """Whether clearing acknowledged it."""
        return not self.failure and bool(self.head)


@dataclass(frozen=True, slots=True)
class Service:
    """A clearing that runs: its address, and the two operators as its clients. Raises GatewayError."""

    url: str
    operator: ClearingClient
    issuer: ClearingClient

    def report(self) -> Report:
        """The report, over HTTP."""
        return self.operator.report()

    def balance_fen(self, payee: bytes) -> int:
        """What a payee (8 bytes) was credited."""
        return sum(line.balance_fen for line in self.report().payees if line.payee == payee.hex())

    def owed(self, card: bytes) -> list[Owed]:
        """What goes back to a card (8 bytes) with its next load."""
        return [Owed(one.sequence, one.body_digest, one.amount_fen) for one in self.issuer.owed(card)]

    def arrived(self, card: bytes) -> tuple[int, int]:
        """Sequence and total in fen up to which all that a card (8 bytes) signed has arrived."""
        found = self.issuer.arrived(card)
        return found.sequence, found.total_fen

    def hand_over(self, scheme: Scheme, now_s: int) -> None:
        """The issuer hands over its loads and their receipts, its denylist, and its orders to cards."""
        orders = [
            HandedOrder(raw, [Return(*one) for one in returns]) for raw, returns in scheme.load_orders()
        ]
        self.issuer.hand_over_loads(orders, [LoadReceipt(*one) for one in scheme.receipts()])
        self.issuer.publish_denylist(scheme.denylist(now_s))
        self.issuer.publish_orders(list(scheme.card_orders()))


@contextmanager
def clearing_service(scheme: Path, clock: Clock = system_clock) -> Iterator[Service]:
    """Clearing of the scheme, over HTTP on loopback, ended by SIGTERM afterwards. Its clock goes on from what
    `clock` says now. Raises SyncError when it does not start."""
    process = ClearingProcess(scheme, clock)
    try:
        url = process.url()
        with (
            open_operator_client(scheme, url, clock=clock) as operator,
            open_operator_client(scheme, url, "issuer", clock=clock) as issuer,
        ):
            yield Service(url, operator, issuer)
    finally:
        process.stop()


class _PowerCut(Exception):
    """The terminal lost power."""


class _Watched:
    """A journal as the gateway's queue, which notes what is acknowledged, and may lose power at that
    moment."""

    def __init__(self, journal: SqliteJournal, *, cut: bool) -> None:
        self._journal = journal
        self._cut = cut
        self.arrival = Arrival()
        self.head = journal.head
        self.acknowledged = journal.acknowledged
        self.hash_at = journal.hash_at
        self.entries = journal.entries
        self.certificate = journal.certificate
        self.lock = journal.lock
        self.proof = journal.proof

    def acknowledge(self, index: int, head_hash: bytes, rejected: list[Rejected], proof: bytes = b"") -> None:
        """Keep the acknowledgement, unless the power goes first."""
        self.arrival = Arrival(index, head_hash, len(rejected))
        if self._cut:
            raise _PowerCut
        self._journal.acknowledge(index, head_hash, rejected, proof)


def send(world: World, terminal: WorldTerminal, url: str, *, cut: bool = False) -> Arrival:
    """Upload what waits, in one try; `cut`: the terminal loses power when the acknowledgement arrives."""
    watched = _Watched(terminal.journal, cut=cut)
    queue: Queue = watched
    with _gateway(world, terminal, url, queue) as gateway:
        try:
            gateway.send()
        except _PowerCut:
            pass
        except SyncError as error:
            return Arrival(failure=str(error))
    return watched.arrival


def fetch_notices(world: World, terminal: WorldTerminal, url: str) -> Fetched:
    """What operators published reaches the terminal, in one try. Raises GatewayError and what
    fleet.notices.fetch_notices raises."""
    with _gateway(world, terminal, url, terminal.journal) as gateway:
        return notices.fetch_notices(terminal.session, gateway)


def _gateway(world: World, terminal: WorldTerminal, url: str, queue: Queue) -> Gateway:
    identity = terminal.folder.identity
    return Gateway(
        queue,
        Uploader(world.trust.suite, identity.certificate, identity.key),
        terminal.folder.trust.bundle,
        url,
        clock=world.clock,
        sleep=time.sleep,
        entropy=world.entropy,
        backoff=Backoff(tries=1),
    )
