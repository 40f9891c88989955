"""A simulated card from its file: what stands behind a `sim:` reader, or in front of pcscd."""

import os
from pathlib import Path

from hardwallet.card.applet import Card, Meter
from hardwallet.card.file import open_card_file
from hardwallet.suites import Entropy


class SimulatedCard(Card):
    """The reference card on a card file, which stays locked until `close`.

    Raises CardFileError and its kinds for a file that is missing, damaged, of a newer version, or in use.
    """

    def __init__(self, path: Path, entropy: Entropy = os.urandom, meter: Meter | None = None) -> None:
        self._file = open_card_file(path)
        super().__init__(self._file.identity, self._file.memory, entropy, meter)

    def close(self) -> None:
        """Let the file's lock go."""
        self._file.close()
