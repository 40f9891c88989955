"""What is always in sight at a terminal, worked out anew from its journal, its lists and its clock."""

from dataclasses import replace

from fleet.open import TerminalSession
from fleet.station_events import Health, Network, Status
from hardwallet.certificates import CLASS_ISSUING
from pos_terminal.errors import TerminalError
from pos_terminal.limits import Freshness, freshness
from pos_terminal.sale import Sale

READY = Health(True, "ready", "the reader is ready")
_NO_SALES: list[Sale] = []
_WORST = (Freshness.MISSING, Freshness.STOPPED, Freshness.TIGHT, Freshness.FRESH)


class Standing:
    """Looks at a session. `unresolved`: the sales that a card may have paid, as of the last look at them."""

    def __init__(self, session: TerminalSession) -> None:
        self._session = session
        self.unresolved = _NO_SALES
        self._review = 0
        self._status = Status(
            *(READY, Network.UNKNOWN, "", 0, 0, None, 0, 0, "", None, Freshness.MISSING, None, None, 0)
        )

    def refresh_sales(self) -> None:
        """Read the unresolved sales again. Raises JournalError."""
        self.unresolved = self._session.journal.unresolved()

    def refresh_review(self) -> None:
        """Count again what clearing did not book. Raises JournalError."""
        self._review = len(self._session.journal.needs_review())

    def look(self, reader: Health, network: Network, reason: str, offset_s: int | None) -> Status:
        """The status now. A journal that can't be read any more keeps its figures, and is the trouble."""
        journal, now_s = self._session.journal, self._session.terminal.clock()
        age_s, list_freshness = self._denylist(now_s)
        status = replace(
            self._status,
            reader=reader,
            network=network,
            network_reason=reason,
            review=self._review,
            locked=journal.locked or "",
            denylist_age_s=age_s,
            denylist=list_freshness,
            clock_offset_s=offset_s,
            open_sale=self.unresolved[0] if self.unresolved else None,
            now_s=now_s,
            trouble=self._trouble(),
        )
        try:
            waiting = journal.waiting()
            oldest_s = None if waiting.oldest_time_s is None else max(0, now_s - waiting.oldest_time_s)
            status = replace(
                status,
                waiting_count=waiting.count,
                waiting_fen=waiting.amount_fen,
                oldest_s=oldest_s,
                carried=waiting.carried,
            )
        except TerminalError as error:
            status = replace(status, trouble=str(error))
        self._status = status
        return status

    def _trouble(self) -> str:
        """Why the terminal can't take money now: clock, disk, journal."""
        try:
            self._session.terminal.now()
            self._session.journal.require_space()
        except TerminalError as error:
            return str(error)
        return ""

    def _denylist(self, now_s: int) -> tuple[int | None, Freshness]:
        """Age and freshness of the issuer's list that is worst off."""
        session = self._session
        limits = session.terminal.limits
        operators = session.folder.trust.bundle.operators
        found: list[tuple[int | None, Freshness]] = []
        for issuer in {one.operator for one in operators if one.klass & CLASS_ISSUING}:
            held = session.denylists.of(issuer)
            age_s = None if held is None else now_s - held.time_s
            found.append((age_s, freshness(limits, age_s)))
        return min(found, key=lambda one: _WORST.index(one[1]), default=(None, Freshness.MISSING))


def seen(status: Status) -> Status:
    """The status as coarse as a person sees it: ages and time in minutes, the denylist's age in hours."""
    return replace(
        status,
        oldest_s=None if status.oldest_s is None else status.oldest_s // 60,
        denylist_age_s=None if status.denylist_age_s is None else status.denylist_age_s // 3600,
        now_s=status.now_s // 60,
    )
