"""A simulated card in its holder's hand: read from its file, reached through an in-process reader."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.link import CardLink
from firmware_bridge.virtual.in_process import InProcessReader
from hardwallet.card.applet import Card
from hardwallet.card.file import open_card_file
from hardwallet.card.identity import CardIdentity
from hardwallet.card.memory import CardMemory
from hardwallet.limits import JOURNAL_ENTRIES
from hardwallet.messages import CardState
from hardwallet.records import Record, parse


@dataclass(frozen=True, slots=True)
class CardAtHand:
    """An open card file: who the card is, what it remembers, and the card itself."""

    path: Path
    identity: CardIdentity
    memory: CardMemory
    card: Card

    def state(self) -> CardState:
        """What READ STATE would show now."""
        self.card.reset()
        return self.card.card_state()

    def link(self) -> CardLink:
        """The card, freshly reset, in a reader of this process."""
        return InProcessReader(self.card, f"sim:{self.path}").wait_for_card(0)

    def records(self, count: int) -> list[tuple[Record, bool]]:
        """The newest records, newest first, each with whether it is unratified."""
        state = self.memory.state()
        oldest = max(1, state.sequence - min(count, JOURNAL_ENTRIES - 1) + 1)
        found = []
        for sequence in range(state.sequence, oldest - 1, -1):
            index = (sequence - 1) % JOURNAL_ENTRIES
            found.append((parse(self.memory.entry(index)), index in state.unratified))
        return found


@contextmanager
def open_card(path: Path) -> Iterator[CardAtHand]:
    """Opens and locks a card file. Raises CardFileError and its kinds."""
    file = open_card_file(path)
    try:
        card = Card(file.identity, file.memory, os.urandom)
        yield CardAtHand(path, file.identity, file.memory, card)
    finally:
        file.close()
