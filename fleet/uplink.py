"""The way from a station to its clearing, and the thread that sends what waits.

It sends soon after something new is there, again with growing pauses while clearing can't be reached, and at
once when somebody asks. Nothing here is waited for by a tap or by a screen; the HTTP client, which takes
longer to load than all the rest of a terminal, is loaded by this thread.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.open import TerminalSession
from fleet.station_events import Event, Network, SendFailed, Sending, Sent
from hardwallet.errors import WalletError
from offline_sync.errors import ClearingRefused, GatewayError, SyncError
from pos_terminal.errors import TerminalError
from pos_terminal.ports import Entropy

if TYPE_CHECKING:
    from offline_sync.client import Transport
    from offline_sync.gateway import Gateway, Progress

OFF: Final = "the network is switched off at this terminal"
NO_CLEARING: Final = "this terminal's settings name no clearing; export to a file instead"


def defect(error: Exception) -> str:
    """A defect of this program, told without its insides."""
    name = type(error).__name__
    return f"this program has a defect ({name}); start it again"


class Uplink:
    """Where clearing is, and whether this terminal may use the network. Any thread may call."""

    def __init__(
        self,
        url: str,
        *,
        on: bool = True,
        reason: str = "",
        timeout_s: float = 10.0,
        entropy: Entropy = os.urandom,
        transport: "Transport | None" = None,
    ) -> None:
        """`url` is clearing's, empty while it is not known; `reason` says why then. `transport` replaces the
        network, for tests."""
        self.url = url
        self.on = on
        self.reason = reason
        self._timeout_s = timeout_s
        self._entropy = entropy
        self._transport = transport
        self._changed: Callable[[], None] = lambda: None

    def listen(self, changed: Callable[[], None]) -> None:
        """`changed` is called when the address or the switch has changed."""
        self._changed = changed

    def switch(self, on: bool) -> None:
        """May the network be used?"""
        self.on = on
        self._changed()

    def reach(self, url: str, reason: str = "") -> None:
        """Clearing is at this address from now on; empty: at none, for that reason."""
        self.url, self.reason = url, reason
        self._changed()

    def gateway(self, session: TerminalSession) -> "Gateway":
        """The session's way to clearing; one try each. Raises ClearingUnreachable for what is no address."""
        from offline_sync.gateway import Backoff, Gateway
        from offline_sync.messages import Uploader

        identity, trust = session.folder.identity, session.folder.trust
        return Gateway(
            session.journal,
            Uploader(trust.suite, identity.certificate, identity.key),
            trust.bundle,
            self.url,
            clock=session.terminal.clock,
            sleep=time.sleep,
            entropy=self._entropy,
            backoff=Backoff(tries=1),
            timeout_s=self._timeout_s,
            transport=self._transport,
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon the first try is made, how soon what is new is sent, how often notices are fetched; how long
    to wait after failures: doubling from `retry_s` to `longest_retry_s`, as offline_sync.gateway.Backoff."""

    begin_after_s: float = 1.0
    send_after_s: float = 2.0
    fetch_every_s: float = 300.0
    retry_s: float = 2.0
    longest_retry_s: float = 300.0


class _Interrupted(Exception):
    """The upload is broken off between two batches."""


class Sender:
    """The thread that sends and fetches. `changed` is called when network, reason or offset have changed."""

    def __init__(
        self,
        session: TerminalSession,
        uplink: Uplink | None,
        post: Callable[[Event], None],
        changed: Callable[[], None],
        pace: Pace,
        stopwatch: Callable[[], float],
        entropy: Entropy,
    ) -> None:
        self._session = session
        self._uplink = uplink
        self._post = post
        self._told = changed
        self._pace = pace
        self._stopwatch = stopwatch
        self._entropy = entropy
        self._changed = threading.Condition()
        self._closing = False
        self._forced = False
        self._new_at: float | None = None
        self._failures = 0
        self._try_at = 0.0  # not before this, when failing
        self._fetch_at = stopwatch() + pace.begin_after_s
        self._last_failure = ""
        self._gateway: Gateway | None = None
        self._gateway_url = ""
        self.clock_offset_s: int | None = None
        self.network = Network.NOT_SET if uplink is None else Network.UNKNOWN
        self.reason = NO_CLEARING if uplink is None else ""
        self._rest()
        if uplink is not None:
            uplink.listen(self._switched)
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def forward(self) -> None:
        """Send now."""
        self._wake(forced=True)

    def note_new(self) -> None:
        """Something new waits."""
        self._wake(new=True)

    def switch(self, on: bool) -> None:
        """May the network be used?"""
        if self._uplink is not None:
            self._uplink.switch(on)

    def close(self, timeout_s: float) -> None:
        """End between two batches; an exchange under way is waited for so long. Again does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # ------------------------------------------------------------------------------------------ the thread

    def _wake(self, *, forced: bool = False, new: bool = False) -> None:
        with self._changed:
            self._forced = self._forced or forced
            if new and self._new_at is None:
                self._new_at = self._stopwatch()
            self._changed.notify_all()

    def _switched(self) -> None:
        with self._changed:
            self._failures, self._try_at, self._fetch_at = 0, 0.0, 0.0
            self._rest()
            self._changed.notify_all()
        self._told()

    def _rest(self) -> None:
        """What the network is while nobody tries it."""
        uplink = self._uplink
        if uplink is None:
            return
        if not uplink.on or not uplink.url:
            self.network = Network.OFFLINE
            self.reason = uplink.reason if uplink.on else OFF
        elif self.network is Network.OFFLINE and not self._failures:
            self.network, self.reason = Network.UNKNOWN, ""

    def _usable(self) -> bool:
        return self._uplink is not None and self._uplink.on and bool(self._uplink.url)

    def _due_in_s(self) -> float | None:
        """Seconds until the next try; None: not by itself."""
        if not self._usable():
            return None
        if self._failures:
            due = self._try_at
        else:
            due = self._fetch_at
            if self._new_at is not None:
                due = min(due, self._new_at + self._pace.send_after_s)
        return max(0.0, due - self._stopwatch())

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closing and not self._forced and self._due_in_s() != 0.0:
                    self._changed.wait(self._due_in_s())
                if self._closing:
                    break
                forced, self._forced = self._forced, False
            self._try(forced=forced)
        if self._gateway is not None:
            self._gateway.close()

    def _try(self, *, forced: bool) -> None:
        if not self._usable():
            self._post(SendFailed(self.reason or NO_CLEARING))
            return
        new_at, self._new_at = self._new_at, None
        try:
            self._exchange(forced=forced)
            self._failures, self._last_failure = 0, ""
            self._is(Network.ONLINE, "")
        except _Interrupted:
            self._new_at = new_at
            with self._changed:
                self.network = Network.UNKNOWN
                self._rest()
            self._told()
        except (SyncError, WalletError, TerminalError) as error:
            answered = isinstance(error, ClearingRefused) or not isinstance(error, GatewayError)
            self._failed(str(error), answered=answered, forced=forced)
        except Exception as error:  # noqa: BLE001 - a thread that died unseen would never send again
            self._failed(defect(error), answered=False, forced=forced)

    def _exchange(self, *, forced: bool) -> None:
        """Send what waits; now and then ask for what was lost, and for what operators published."""
        from fleet.notices import fetch_notices

        begin = self._stopwatch()
        gateway = self._open()
        waiting = self._session.journal.waiting().entries
        if waiting and not self._failures:  # else it would only flicker
            self._is(Network.SENDING, "")
            self._post(Sending(0, waiting))
        try:
            outcome = gateway.send(self._progress)
            rejected, denylists, orders = outcome.rejected, 0, 0
            entries = outcome.entries
            if forced or begin >= self._fetch_at:
                self._go_on()
                entries += gateway.resend_lost()
                self._go_on()
                fetched = fetch_notices(self._session, gateway)
                denylists, orders = fetched.denylists, fetched.orders
                self._fetch_at = self._stopwatch() + self._pace.fetch_every_s
        finally:
            self.clock_offset_s = gateway.clock_offset_s
        if forced or entries or denylists or orders:
            self._post(Sent(entries, rejected, denylists, orders))

    def _open(self) -> "Gateway":
        """The gateway, kept open as long as clearing's address stays."""
        uplink = self._uplink
        url = "" if uplink is None else uplink.url
        if uplink is None:
            raise GatewayError(NO_CLEARING)
        if self._gateway is None or self._gateway_url != url:
            if self._gateway is not None:
                self._gateway.close()
            self._gateway, self._gateway_url = uplink.gateway(self._session), url
        return self._gateway

    def _progress(self, progress: "Progress") -> None:
        """Between two batches."""
        if not progress.failure:
            self._post(Sending(progress.sent, progress.total))
        self._go_on()

    def _go_on(self) -> None:
        """Raises _Interrupted when this terminal ends, or the network was switched off."""
        if self._closing or not self._usable():
            raise _Interrupted

    def _failed(self, sentence: str, *, answered: bool, forced: bool) -> None:
        """Clearing that refuses, and answers so, is there all the same."""
        from offline_sync.gateway import Backoff

        pace = self._pace
        self._failures += 1
        backoff = Backoff(first_s=pace.retry_s, longest_s=pace.longest_retry_s)
        self._try_at = self._stopwatch() + backoff.wait_s(min(self._failures, 30), self._entropy)
        self._is(Network.ONLINE if answered else Network.OFFLINE, sentence)
        if forced or sentence != self._last_failure:
            self._last_failure = sentence
            self._post(SendFailed(sentence))

    def _is(self, network: Network, reason: str) -> None:
        with self._changed:
            self.network, self.reason = network, reason
            self._rest()
        self._told()
