"""The report of the run that has ended, beside the driver's view, until the next run begins."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from tui.screens.bus.driving import Driving
from tui.screens.bus.sight import report_lines
from tui.screens.words import Worded, Words
from tui.text import say


class ReportPanel(VerticalScroll, Worded):
    """Hidden while there is no report; arrows scroll it where it is longer than its place."""

    def __init__(self, driving: Driving) -> None:
        super().__init__(id="report")
        self._driving = driving

    def compose(self) -> ComposeResult:
        """A title and the figures."""
        yield Words(lambda: say("Report of the run"), id="report-title")
        yield Words(self._text, id="report-text")

    def _text(self) -> str:
        report = self._driving.report
        return "\n".join(report_lines(report, self._driving.network)) if report is not None else ""

    def reword(self) -> None:
        """Says the newest report, or hides."""
        self.set_class(self._driving.report is not None, "-open")
        if self.is_mounted:
            self.query_one("#report-text", Words).reword()
