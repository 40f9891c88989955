"""The story told quickly, to be broken: no process but this one. Clearing is an object and may misbehave."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleet import operator_story
from fleet import story as story_module
from fleet.open import open_clearing
from fleet.stage import InProcessStage
from fleet.story import tell
from fleet.telling import Step, Story
from fleet.upload import Arrival
from fleet.world import World, WorldCard, WorldTerminal
from hardwallet.issuing import Scheme
from hardwallet.records import Owed
from offline_sync import messages, outbox
from offline_sync.clearing import Clearing, Report
from offline_sync.messages import Uploader
from pos_terminal.tap import Tap

Wrong = Callable[[Report], Report]


class PowerCut(BaseException):
    """The till is no more."""


class NearClearing:
    """What the story asks of a running clearing, asked of the object itself, which is its address too."""

    def __init__(self, clearing: Clearing, *, loses: bool, wrong: Wrong) -> None:
        self._clearing = clearing
        self._loses = loses
        self._wrong = wrong

    @property
    def url(self) -> "NearClearing":
        return self

    def report(self) -> Report:
        return self._wrong(self._clearing.report())

    def balance_fen(self, payee: bytes) -> int:
        return sum(line.balance_fen for line in self.report().payees if line.payee == payee.hex())

    def owed(self, card: bytes) -> list[Owed]:
        return self._clearing.owed(card)

    def arrived(self, card: bytes) -> tuple[int, int]:
        return self._clearing.arrived(card)

    def hand_over(self, scheme: Scheme, now_s: int) -> None:
        for record, certificate in scheme.receipts():
            self._clearing.book_load(record, certificate)
        for order, returns in scheme.load_orders():
            self._clearing.book_order(order, returns)
        self._clearing.notices.publish_denylist(scheme.denylist(now_s))
        self._clearing.notices.publish_orders(list(scheme.card_orders()))

    def fetch(self, terminal: WorldTerminal) -> None:
        notices, session = self._clearing.notices, terminal.session
        for held in session.denylists.held:
            newer = notices.denylist(held.operator, held.version)
            if newer is not None:
                session.denylists.offer(newer)
        session.pouch.offer([raw for _, raw in notices.orders()])

    def take(self, world: World, terminal: WorldTerminal, *, cut: bool) -> Arrival:
        journal, identity = terminal.journal, terminal.folder.identity
        if self._loses:  # it says that it has all, and has nothing
            index, head = journal.head()
            journal.acknowledge(index, head)
            return Arrival(index, head)
        first = journal.acknowledged() + 1
        parcel = outbox.pack(journal.entries(first, 1_000), lambda digest: _certificate(terminal, digest))
        batch, _ = messages.seal_batch(
            Uploader(world.trust.suite, identity.certificate, identity.key),
            journal.hash_at(first - 1),
            parcel.entries,
            parcel.certificates,
            journal_head=journal.head()[0],
            time_s=world.clock(),
        )
        receipt = self._clearing.accept(batch)
        if not cut:
            journal.acknowledge(receipt.last, receipt.head)
        return Arrival(receipt.last, receipt.head, len(receipt.rejections))


def _certificate(terminal: WorldTerminal, digest: bytes) -> bytes | None:
    found = terminal.journal.certificate(digest)
    return found.raw if found is not None else None


def _killed(self: Any, card: WorldCard, folder: Path, amount_fen: int) -> tuple[str, int]:
    """The till dies at the green light, in this process."""
    till = self.world._started("shop", folder)

    def dies(result: Tap) -> None:
        raise PowerCut(result.granted)

    self.stage.lay(card.card)
    try:
        self.world.tap(self.stage, card, till, till.terminal.new_sale(amount_fen), decided=dies)
    except PowerCut as cut:
        return ("durable" if cut.args[0] else "not granted"), -signal.SIGKILL
    finally:
        till.close()
        self.stage.take()
    return "it went on", 0


def tell_quickly(
    patch: pytest.MonkeyPatch,
    *,
    loses: bool = False,
    wrong: Wrong = lambda report: report,
    told: Callable[[Step], None] = lambda _step: None,
) -> Story:
    """The story on the in-process reader, clearing and the killed till in this process too."""

    @contextmanager
    def service(folder: Path) -> Iterator[NearClearing]:
        with open_clearing(folder) as clearing:
            yield NearClearing(clearing, loses=loses, wrong=wrong)

    def send(world: World, terminal: WorldTerminal, url: str | NearClearing, *, cut: bool = False) -> Arrival:
        if isinstance(url, str):
            return Arrival(failure="no network")
        return url.take(world, terminal, cut=cut)

    def fetch(_world: World, terminal: WorldTerminal, url: NearClearing) -> None:
        url.fetch(terminal)

    for module in (story_module, operator_story):
        patch.setattr(module, "clearing_service", service)
        patch.setattr(module, "send", send)
    patch.setattr(operator_story, "fetch_notices", fetch)
    patch.setattr(story_module._Teller, "_killed_till", _killed)
    return tell(InProcessStage(), lambda: int(time.time()), time.perf_counter, os.urandom, told)


def failed(story: Story) -> dict[str, list[str]]:
    """The claims that did not hold, by step."""
    return {
        step.id: [claim for claim, held in step.checks if not held] for step in story.steps if not step.ok
    }


def changed(struct: Any, **changes: Any) -> Any:
    """A copy of a message with some fields changed."""
    return msgspec.structs.replace(struct, **changes)
