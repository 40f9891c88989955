"""The typed client of clearing's HTTP surface (docs/http.md). The only importer of httpx.

    with ClearingClient("http://127.0.0.1:8460", OperatorSigner(suite, certificate, key),
                        clock=system_clock, entropy=os.urandom) as client:
        for line in client.report().payees:
            ...

A terminal signs with TerminalSigner, an operator with OperatorSigner; without either only `health` and
`description` answer. One try each: who calls decides whether and when to ask again, and GatewayError says
why it failed. Nothing from outside is believed for its length, its time or its encoding.
"""

import time
from collections.abc import Callable, Mapping
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

import httpx
import msgspec

from offline_sync import messages, surface
from offline_sync.errors import (
    ClearingFailed,
    ClearingNonsense,
    ClearingRefused,
    ClearingSlow,
    ClearingUnreachable,
    ClockWrong,
    MessageMalformed,
)
from offline_sync.messages import Acknowledgement, Batch
from offline_sync.requests import NONCE_LENGTH, OperatorSigner, Signer, TerminalSigner
from offline_sync.surface import (
    Arrived,
    CardOrders,
    HandedOrder,
    Held,
    LoadReceipt,
    LoadsBooked,
    Owed,
    Return,
)

if TYPE_CHECKING:
    from offline_sync.clearing.disputes import DisputeLine
    from offline_sync.clearing.report import Report
    from offline_sync.clearing.settlement import Closing

__all__ = ["ClearingClient", "OperatorSigner", "Signer", "TerminalSigner", "Transport"]

Transport = httpx.BaseTransport
"""What may stand in for the network, in tests and simulations."""

SLOWEST_BYTES_S: Final = 16 * 1024
"""An answer may take the time limit, and as long as this rate needs for its length."""
RETRY_AFTER_LIMIT_S: Final = 300.0
"""The longest that a clearing may ask to be left alone."""
_DATE_LENGTH: Final = len("Sun, 06 Nov 1994 08:49:37 GMT")
_NO_CLEARING: Final = "something that is no clearing answered {}; check clearing's address"
_JSON: Final = "application/json"
_OCTETS: Final = "application/octet-stream"
_T = TypeVar("_T")


class _Answer(NamedTuple):
    status: int
    body: bytes


class ClearingClient:
    """One clearing, asked by one signer. Any thread may call."""

    def __init__(
        self,
        url: str,
        identity: Signer | None,
        *,
        clock: Callable[[], int],
        entropy: Callable[[int], bytes],
        timeout_s: float = 10.0,
        stopwatch: Callable[[], float] = time.monotonic,
        transport: Transport | None = None,
    ) -> None:
        """`url` is clearing's, without a path. `identity` signs the requests, at the time of `clock`
        (seconds since 1970) and with nonces from `entropy`. `timeout_s` bounds each step of an exchange, and
        with SLOWEST_BYTES_S the whole answer. `stopwatch` gives monotonic seconds. `transport` replaces
        the network.

        Raises ClearingUnreachable when `url` is no address.
        """
        self._identity = identity
        self._clock = clock
        self._entropy = entropy
        self._timeout_s = timeout_s
        self._stopwatch = stopwatch
        self.clock_offset_s: int | None = None
        """This machine's clock minus clearing's, seconds, by its last answer; None when none told. It is
        for people to see: nothing else follows from it."""
        no_address = f"{url} is no address of a clearing; it looks like http://HOST:PORT"
        try:
            self._http = httpx.Client(
                base_url=url,
                timeout=timeout_s,
                follow_redirects=False,
                transport=transport,
                trust_env=False,
                headers={"accept-encoding": "identity"},
            )
        except httpx.InvalidURL:
            raise ClearingUnreachable(no_address) from None
        if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
            self._http.close()
            raise ClearingUnreachable(no_address)

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------ for terminals

    def upload(self, batch: Batch) -> Acknowledgement:
        """POST /v1/batches: clearing's acknowledgement. It is not verified here: check_acknowledgement in
        offline_sync/messages.py does that. Raises GatewayError."""
        raw = self._post(surface.BATCHES, messages.encode(batch), messages.MAX_ACKNOWLEDGEMENT_BYTES)
        try:
            return messages.decode_acknowledgement(raw)
        except MessageMalformed as error:
            raise ClearingNonsense(
                f"clearing answered something that is no acknowledgement: {error}"
            ) from None

    def held(self) -> Held:
        """GET /v1/held: what clearing holds of the asking terminal's journal. Raises GatewayError."""
        return _decoded(self._get(surface.HELD, {}, surface.MAX_SMALL_BYTES), Held)

    def lost(self, acknowledgements: list[Acknowledgement]) -> int:
        """POST /v1/lost: show clearing what it signed (at most MAX_LOST) and does not say it holds; how many
        of them it has lost. Raises GatewayError."""
        body = msgspec.json.encode(surface.Lost(acknowledgements))
        return _decoded(self._post(surface.LOST, body), surface.LostNoted).lost

    # ---------------------------------------------------------------------------- fetched by terminals

    def denylist(self, operator: bytes, held: int = 0) -> bytes | None:
        """GET /v1/denylist: the next file of an issuing operator's (4 bytes) list for somebody who holds
        version `held`: the whole list or a change. None when nothing is newer. At most 16 MB; verify it with
        hardwallet/denylist.py. Raises GatewayError."""
        query = {"operator": operator.hex(), "from": str(held)}
        return self._newer(surface.DENYLIST, query, surface.MAX_DENYLIST_BYTES)

    def orders(self, after: int = 0) -> CardOrders:
        """GET /v1/orders: card orders (125 bytes each) that wait for their cards, up to MAX_ORDERS. Ask again
        with `after` = `last` until that is 0. Raises GatewayError."""
        return _decoded(self._get(surface.ORDERS, {"after": str(after)}, surface.MAX_SMALL_BYTES), CardOrders)

    def authorities(self, held: int = 0) -> bytes | None:
        """GET /v1/authorities: the authority list when it is newer than version `held`, else None. Verify it
        with hardwallet/authorities.py. Raises GatewayError."""
        return self._newer(surface.AUTHORITIES, {"from": str(held)}, surface.MAX_AUTHORITIES_BYTES)

    # -------------------------------------------------------------------------- published by operators

    def publish_denylist(self, full: bytes, change: bytes | None = None) -> None:
        """POST /v1/denylist: the change first, which spares terminals the whole list; the whole list in any
        case, so that nothing hangs on whether the change fits. Raises GatewayError."""
        if change is not None:
            try:
                self._post(surface.DENYLIST, change, content=_OCTETS)
            except ClearingRefused as refusal:
                if refusal.code not in ("base", "older"):
                    raise
        self._post(surface.DENYLIST, full, content=_OCTETS)

    def publish_orders(self, orders: list[bytes]) -> int:
        """POST /v1/orders: card orders (125 bytes each); how many were new. Raises GatewayError."""
        new = 0
        for begin in range(0, len(orders), surface.MAX_ORDERS):
            page = surface.NewOrders(orders[begin : begin + surface.MAX_ORDERS])
            new += _decoded(self._post(surface.ORDERS, msgspec.json.encode(page)), surface.Published).new
        return new

    def publish_authorities(self, raw: bytes) -> None:
        """POST /v1/authorities: a scheme's authority list. Raises GatewayError."""
        self._post(surface.AUTHORITIES, raw, content=_OCTETS)

    # -------------------------------------------------------------------------------------- for issuers

    def hand_over_loads(self, orders: list[HandedOrder], receipts: list[LoadReceipt]) -> LoadsBooked:
        """POST /v1/loads: load orders with the returns in them, and receipts, at most MAX_LOADS of each.
        Again changes nothing. Raises GatewayError."""
        body = msgspec.json.encode(surface.Loads(orders, receipts))
        return _decoded(self._post(surface.LOADS, body), LoadsBooked)

    def arrived(self, card: bytes) -> Arrived:
        """GET /v1/arrived: up to where everything that a card (8 bytes) signed has arrived: what may be
        acknowledged to it. Raises GatewayError."""
        return _decoded(self._get(surface.ARRIVED, {"card": card.hex()}), Arrived)

    def owed(self, card: bytes) -> list[Return]:
        """GET /v1/owed: payments that are owed back to a card (8 bytes). Raises GatewayError."""
        return _decoded(self._get(surface.OWED, {"card": card.hex()}), Owed).returns

    # ------------------------------------------------------------------------------------ for operators

    def report(self) -> "Report":
        """GET /v1/report: the report. Raises GatewayError."""
        from offline_sync.clearing.report import Report  # loads SQLAlchemy, which a terminal has no need of

        return _decoded(self._get(surface.REPORT, {}, surface.MAX_REPORT_BYTES), Report)

    def disputes(self, after: str = "") -> "list[DisputeLine]":
        """GET /v1/disputes: evidence, by rising digest, at most 1,000 pieces behind the digest `after` (64
        hex digits). Raises GatewayError."""
        from offline_sync.clearing.disputes import DisputeLine

        return _decoded(
            self._get(surface.DISPUTES, {"after": after}, surface.MAX_REPORT_BYTES), list[DisputeLine]
        )

    def dispute(self, digest: str) -> bytes:
        """GET /v1/disputes/{digest}: a dispute file (docs/disputes.md). Raises GatewayError."""
        return self._get(f"{surface.DISPUTES}/{digest}", {}, surface.MAX_SMALL_BYTES)

    # ------------------------------------------------------- for acquiring operators, and payees' terminals

    def settlements(self, after: int = 0) -> "list[Closing]":
        """GET /v1/settlements: days that were closed, with numbers above `after`, at most 1,000; to a
        terminal those of its payee. Raises GatewayError."""
        from offline_sync.clearing.settlement import Closing

        return _decoded(
            self._get(surface.SETTLEMENTS, {"after": str(after)}, surface.MAX_REPORT_BYTES), list[Closing]
        )

    def settlement(self, number: int, payee: bytes) -> bytes:
        """GET /v1/settlements/{number}/{payee}: the signed settlement file of a payee (8 bytes), at most
        512 MB; verify it with offline_sync/settlement.py. Raises GatewayError."""
        path = f"{surface.SETTLEMENTS}/{number}/{payee.hex()}"
        return self._get(path, {}, surface.MAX_SETTLEMENT_BYTES)

    # ------------------------------------------------------------------------------------- for everybody

    def health(self) -> None:
        """GET /v1/health: returns when clearing can read its ledger. Raises GatewayError."""
        _decoded(self._get(surface.HEALTH, {}), surface.Health)

    def description(self) -> dict[str, Any]:
        """GET /openapi.json: the surface described by OpenAPI 3.1. Raises GatewayError."""
        return _decoded(self._get(surface.DESCRIPTION, {}), dict[str, Any])

    # --------------------------------------------------------------------------------------- on the wire

    def _get(self, path: str, query: Mapping[str, str], limit: int = surface.MAX_SMALL_BYTES) -> bytes:
        return self._whole(self._http.build_request("GET", path, params=query or None), b"", limit)

    def _post(
        self, path: str, body: bytes, limit: int = surface.MAX_SMALL_BYTES, *, content: str = _JSON
    ) -> bytes:
        headers = {"content-type": content}
        return self._whole(self._http.build_request("POST", path, content=body, headers=headers), body, limit)

    def _newer(self, path: str, query: Mapping[str, str], limit: int) -> bytes | None:
        """What is newer than what is held; None for 204, nothing is."""
        answer = self._exchange(self._http.build_request("GET", path, params=query), b"", limit)
        return None if answer.status == httpx.codes.NO_CONTENT else answer.body

    def _whole(self, request: httpx.Request, body: bytes, limit: int) -> bytes:
        answer = self._exchange(request, body, limit)
        if answer.status != httpx.codes.OK:
            raise ClearingNonsense(_NO_CLEARING.format(answer.status))
        return answer.body

    def _exchange(self, request: httpx.Request, body: bytes, limit: int) -> _Answer:
        """A 200, or 204. Raises GatewayError for everything else."""
        if self._http.is_closed:
            raise ClearingUnreachable("this client of clearing was closed; make a new one")
        if self._identity is not None:
            request.headers["authorization"] = self._identity.authorization(
                request.method, request.url.raw_path, body, self._clock(), self._entropy(NONCE_LENGTH)
            )
        try:
            response = self._http.send(request, stream=True)
            try:
                self._note_date(response.headers.get("date", ""))
                answer = _Answer(response.status_code, self._read_bounded(response, limit))
                self._check_status(response, answer.body)
                return answer
            finally:
                response.close()
        except httpx.TimeoutException:
            raise ClearingSlow(
                f"clearing did not answer within {self._timeout_s:g} s; what waits stays here, for later"
            ) from None
        except httpx.RemoteProtocolError as error:
            raise ClearingFailed(f"clearing broke off its answer ({error}); what waits stays here") from None
        except httpx.TransportError as error:
            raise ClearingUnreachable(
                f"clearing at {self._http.base_url} cannot be reached ({error}); what waits stays here"
            ) from None
        except httpx.HTTPError as error:
            raise ClearingNonsense(f"clearing's answer cannot be read: {error}") from None

    def _note_date(self, date: str) -> None:
        """The clock's offset by an answer's Date (RFC 9110, 6.6.1), which has whole seconds: one is none."""
        told_s = _date_s(date)
        if told_s is not None:
            offset_s = self._clock() - told_s
            self.clock_offset_s = offset_s if abs(offset_s) > 1 else 0

    def _read_bounded(self, response: httpx.Response, limit: int) -> bytes:
        answer = bytearray()
        latest = self._stopwatch() + self._timeout_s
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ClearingNonsense("clearing's answer is packed, which nobody asked for; check its address")
        for part in response.iter_bytes():
            answer += part
            if self._stopwatch() > latest + len(answer) / SLOWEST_BYTES_S:
                raise ClearingSlow(
                    f"clearing's answer took longer than {self._timeout_s:g} s; it is asked again later"
                )
            if len(answer) > limit:
                raise ClearingNonsense("clearing's answer is too long; check its address")
        return bytes(answer)

    @staticmethod
    def _check_status(response: httpx.Response, answer: bytes) -> None:
        status = response.status_code
        if status in (httpx.codes.OK, httpx.codes.NO_CONTENT):
            return
        if status >= 500 or status in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS):
            raise ClearingFailed(
                f"clearing failed ({status}); what waits stays here and is sent later",
                _retry_after_s(response.headers.get("retry-after", "")),
            )
        if status >= 400:
            try:
                failure = messages.decode_refusal(answer).error
            except MessageMalformed:
                raise ClearingNonsense(_NO_CLEARING.format(status)) from None
            refused = ClockWrong if failure.code == "clock" else ClearingRefused
            raise refused(failure.code, failure.message)
        raise ClearingNonsense(_NO_CLEARING.format(status))


def _retry_after_s(text: str) -> float:
    """Retry-After in seconds (RFC 9110, 10.2.3); a date, which clearing never sends, counts as nothing."""
    return min(float(text), RETRY_AFTER_LIMIT_S) if text.isascii() and text.isdigit() else 0.0


def _date_s(text: str) -> int | None:
    """A Date in RFC 9110's one form (5.6.7) in seconds since 1970; None for anything else."""
    if len(text) != _DATE_LENGTH:
        return None
    try:
        told = parsedate_to_datetime(text)
        return int(told.timestamp()) if format_datetime(told, usegmt=True) == text else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _decoded(raw: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ClearingNonsense(f"clearing's answer cannot be understood: {error}") from None
