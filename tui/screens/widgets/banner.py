"""What somebody has to look at before selling goes on: a fault, a locked terminal, a reader that is gone."""

from textual.widgets import Static

from fleet.station_events import Status
from tui.screens.words import Worded
from tui.text import say, told


class Banner(Static, Worded):
    """Hidden while all is well. A fault stays until the next card is asked for."""

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self._fault = ""
        self._status: Status | None = None

    def tell(self, status: Status | None, fault: str) -> None:
        """The status, and the fault's sentence ("" for none)."""
        self._status, self._fault = status, fault
        self.reword()

    def sentence(self) -> str:
        """The gravest of what is wrong; "" when nothing is."""
        status = self._status
        if self._fault:
            return told(self._fault)
        if status is None:
            return ""
        if status.locked:
            return told(status.locked)
        if status.trouble:
            return told(status.trouble)
        if not status.reader.ok:
            return told(status.reader.sentence)
        return ""

    def reword(self) -> None:
        """Says it anew."""
        sentence = self.sentence()
        self.update(say("✗ {sentence}", sentence=sentence) if sentence else "")
        self.set_class(bool(sentence), "-told")
