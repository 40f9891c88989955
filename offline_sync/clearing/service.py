"""Clearing over HTTP (docs/http.md). JSON both ways; an error is JSON too.

Every request but `health` and the description is signed, and its signature is checked before its body is
parsed; before its body is even read, who it claims to be, whether that may ask, and the time. Sizes, times,
rates and memory are bounded. A log line names the operation, the status and who asked: never a card, a
query or a body.
"""

import asyncio
import logging
import math
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha256
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from offline_sync import messages
from offline_sync.clearing import Clearing
from offline_sync.clearing.description import EVERY
from offline_sync.clearing.rates import Rates
from offline_sync.clearing.routes import JSON, Asked, Operation
from offline_sync.errors import (
    BatchRefused,
    LedgerError,
    MessageMalformed,
    NoDispute,
    NoticeRefused,
    RecordRefused,
    RequestRefused,
    SettlementError,
    SettlementMissing,
)
from offline_sync.messages import Failure, Refusal
from offline_sync.requests import (
    AUTHENTICATION,
    Caller,
    Credentials,
    Nonces,
    RequestChecker,
    Role,
    parse_authorization,
    request_digest,
)

_log = logging.getLogger(__name__)
_REFUSED: Final = (BatchRefused, RecordRefused, NoticeRefused)

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the service takes on. Rates are requests a second, with so many at once before they count."""

    signed_rate: float = 10.0
    signed_burst: int = 60
    unsigned_rate: float = 5.0
    unsigned_burst: int = 50
    bodies_bytes: int = 64 * 1024 * 1024
    """All bodies that are held at one time."""
    body_s: float = 30.0
    """How long the body of a request may take to arrive."""
    follow_s: float = 5.0
    """How often it looks whether another program has published an authority list."""
    nonces: int = 500_000


class _Refused(Exception):
    """An answer other than what was asked for."""

    def __init__(self, status: int, code: str, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.wait_s = wait_s


def application(
    clearing: Clearing,
    bounds: Bounds | None = None,
    *,
    stopwatch: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The HTTP surface of a clearing, as offline_sync/clearing/routes.py lists it. `stopwatch` gives
    monotonic seconds."""
    service = _Service(clearing, bounds or Bounds(), stopwatch)
    routes = []
    for path in dict.fromkeys(one.path for one in EVERY):
        methods = {one.method: one for one in EVERY if one.path == path}
        route = Route(path, service.endpoint(methods), methods=list(methods))
        route.methods = set(methods)  # Starlette would answer HEAD where it answers GET
        routes.append(route)
    app = Starlette(routes=routes, exception_handlers={HTTPException: service.no_such_route})
    app.router.redirect_slashes = False
    return app


class _Service:
    """Answers requests; its state is that of one event loop."""

    def __init__(self, clearing: Clearing, bounds: Bounds, stopwatch: Callable[[], float]) -> None:
        self._clearing = clearing
        self._bounds = bounds
        self._stopwatch = stopwatch
        self._checker = RequestChecker(clearing.trust, clearing.clock, Nonces(bounds.nonces))
        self._signed = Rates(bounds.signed_rate, bounds.signed_burst, stopwatch)
        self._unsigned = Rates(bounds.unsigned_rate, bounds.unsigned_burst, stopwatch)
        self._bodies_bytes = 0
        self._followed_s = stopwatch()

    def endpoint(self, methods: dict[str, Operation]) -> Endpoint:
        """Answers the operations of one path."""

        async def answer(request: Request) -> Response:
            operation = methods[request.method]
            begin = self._stopwatch()
            asked_by: list[Caller] = []
            response = self._dated(await self._answered(operation, request, asked_by))
            self._note(operation, response.status_code, begin, asked_by)
            return response

        return answer

    async def no_such_route(self, request: Request, error: Exception) -> Response:
        """404 and 405, of which nobody may have too many."""
        status = getattr(error, "status_code", 404)
        wait_s = self._unsigned.take(_peer(request))
        if wait_s:
            return self._dated(_refusal(_too_often(wait_s)))
        code = "method" if status == 405 else "not-found"
        response = _refusal(_Refused(status, code, str(getattr(error, "detail", error))))
        response.headers.update(getattr(error, "headers", None) or {})
        return self._dated(response)

    def _dated(self, response: Response) -> Response:
        """With the Date of clearing's own clock (RFC 9110, 6.6.1): terminals show by it how theirs is off."""
        response.headers["date"] = formatdate(self._clearing.clock(), usegmt=True)
        return response

    async def _answered(self, operation: Operation, request: Request, asked_by: list[Caller]) -> Response:
        """The answer, every error turned into JSON: nobody outside sees a traceback."""
        try:
            return await self._run(operation, request, asked_by)
        except _Refused as refused:
            return _refusal(refused)
        except RequestRefused as error:
            return _refusal(_Refused(403 if error.code == "role" else 401, error.code, str(error)))
        except MessageMalformed as error:
            return _refusal(_Refused(400, "malformed", str(error)))
        except _REFUSED as error:
            return _refusal(_Refused(422, error.code, str(error)))
        except (NoDispute, SettlementMissing) as error:
            return _refusal(_Refused(404, "not-found", str(error)))
        except SettlementError as error:
            return _refusal(_Refused(422, "settlement", str(error)))
        except LedgerError as error:
            _log.error("%s", error)
            return _refusal(_Refused(503, "ledger", str(error), 5))
        except ClientDisconnect:
            return _refusal(_Refused(400, "disconnected", "the connection ended before the body did"))
        except Exception as error:  # noqa: BLE001 - a defect of this program is told without its insides
            _log.error("unexpected %s in %s", type(error).__name__, operation.name)
            return _refusal(_Refused(500, "failed", "clearing failed; nothing was booked, send again later"))

    async def _run(self, operation: Operation, request: Request, asked_by: list[Caller]) -> Response:
        await self._follow_authorities()
        body = bytearray()
        try:
            signed = await self._claimed(operation, request)
            await self._read(operation, request, body)
            if signed is not None:
                self._check(*signed, request, body)
                asked_by.append(signed[0])
            values = _values(operation, request)
            _check_media(operation, request)
            caller = None if signed is None else signed[0]
            return await run_in_threadpool(self._response, operation, caller, values, bytes(body))
        finally:
            self._bodies_bytes -= len(body)

    def _response(
        self, operation: Operation, caller: Caller | None, values: dict[str, str], body: bytes
    ) -> Response:
        """Outside the event loop: decode, do it, encode."""
        result = operation.run(self._clearing, Asked(caller, values, _decoded(operation, body)))
        if result is None:
            return Response(status_code=204, headers=_HEADERS)
        if operation.answer is not bytes:
            return _json(result)
        if isinstance(result, bytes):
            return Response(result, headers=_HEADERS | {"content-type": operation.answer_media})
        return _file(operation, result)

    async def _follow_authorities(self) -> None:
        now = self._stopwatch()
        if now - self._followed_s >= self._bounds.follow_s:
            self._followed_s = now
            await run_in_threadpool(self._clearing.notices.follow_authorities)

    # ------------------------------------------------------------------------------------------ who asks

    async def _claimed(self, operation: Operation, request: Request) -> tuple[Caller, Credentials] | None:
        """Who would sign, before the body is read; None where nobody has to. Raises RequestRefused."""
        if not operation.roles:
            self._take_unsigned(request)
            return None
        try:
            return self._claim(operation, request)
        except (RequestRefused, _Refused) as refused:
            await self._drain(operation, request)  # else the answer is lost with the connection
            if isinstance(refused, RequestRefused) and refused.code != "role":
                self._take_unsigned(request)
            raise

    def _claim(self, operation: Operation, request: Request) -> tuple[Caller, Credentials]:
        headers = request.headers.getlist("authorization")
        credentials = parse_authorization(headers[0] if len(headers) == 1 else None)
        if not self._checker.knows(credentials):
            wait_s = self._unsigned.wait_s(_peer(request))
            if wait_s:
                raise _too_often(wait_s)
        caller = self._checker.caller(credentials)
        if not operation.roles & self._roles(caller):
            wanted = " or ".join(sorted(role.value for role in operation.roles))
            raise RequestRefused("role", f"only {wanted}s may ask this, and only of their own clearing")
        return caller, credentials

    def _roles(self, caller: Caller) -> frozenset[Role]:
        """An acquiring operator that is not served here has no part in these books."""
        served = caller.certificate.operator in self._clearing.served
        return caller.roles if served else caller.roles - {Role.ACQUIRER}

    def _check(self, caller: Caller, credentials: Credentials, request: Request, body: bytearray) -> None:
        """That the caller signed this request, once, and does not ask too often."""
        asked = request_digest(request.method, _target(request))
        try:
            self._checker.check(caller, credentials, asked, sha256(body).digest())
        except RequestRefused:
            self._take_unsigned(request)
            raise
        wait_s = self._signed.take(caller.digest)
        if wait_s:
            raise _too_often(wait_s)
        if not self._checker.remember(caller, credentials):
            raise _Refused(503, "busy", "clearing has too much to do; try again later", 60)

    def _take_unsigned(self, request: Request) -> None:
        wait_s = self._unsigned.take(_peer(request))
        if wait_s:
            raise _too_often(wait_s)

    # ------------------------------------------------------------------------------------------ the body

    async def _read(self, operation: Operation, request: Request, body: bytearray) -> None:
        """The body, read no further than its limit, nor than all bodies together may go."""
        limit = operation.limit_bytes
        too_long = _Refused(413, "too-long", f"the body is longer than {limit} bytes; send smaller ones")
        declared = request.headers.get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise too_long
        try:
            async with asyncio.timeout(self._bounds.body_s):
                async for part in request.stream():
                    if len(body) + len(part) > limit:
                        raise too_long
                    if self._bodies_bytes + len(part) > self._bounds.bodies_bytes:
                        raise _Refused(503, "busy", "clearing has too much to do; try again later", 5)
                    body += part
                    self._bodies_bytes += len(part)
        except TimeoutError:
            raise _Refused(408, "slow", "the body took too long to arrive; try again") from None

    async def _drain(self, operation: Operation, request: Request) -> None:
        """Let the rest of a body that is not wanted arrive, within the limit, and forget it."""
        seen = 0
        try:
            async with asyncio.timeout(self._bounds.body_s):
                async for part in request.stream():
                    seen += len(part)
                    if seen > operation.limit_bytes:
                        return
        except (TimeoutError, ClientDisconnect):
            return

    def _note(self, operation: Operation, status: int, begin: float, asked_by: Sequence[Caller]) -> None:
        name = asked_by[0].name if asked_by else "-"
        took_ms = (self._stopwatch() - begin) * 1000
        _log.info("%s %s %d %.1f ms %s", operation.method, operation.path, status, took_ms, name)


def _file(operation: Operation, parts: Iterator[bytes]) -> Response:
    """A file in parts: whole on the disk before the first byte of it goes out, so that half of one never
    looks like all of it."""
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it has been sent
    try:
        for part in parts:
            spooled.write(part)
        length = spooled.tell()
        spooled.seek(0)
    except BaseException:
        spooled.close()
        raise
    headers = {"content-type": operation.answer_media, "content-length": str(length)}
    return StreamingResponse(
        iter(lambda: spooled.read(_CHUNK_BYTES), b""),
        headers=_HEADERS | headers,
        background=BackgroundTask(spooled.close),
    )


_CHUNK_BYTES: Final = 256 * 1024
_HEADERS: Final = {"cache-control": "no-store"}
_decoders: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    one.name: msgspec.json.Decoder(one.body) for one in EVERY if one.body not in (None, bytes)
}


def _decoded(operation: Operation, body: bytes) -> Any:
    if operation.body is None or operation.body is bytes:
        return body
    if operation.body is messages.Batch:
        return messages.decode_batch(body)
    try:
        return _decoders[operation.name].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageMalformed(f"the body is not what {operation.name} takes: {error}") from None


def _values(operation: Operation, request: Request) -> dict[str, str]:
    """The parameters, each once and in its form. Raises _Refused."""
    query = request.query_params
    wanted = {one.name for one in operation.parameters if one.place == "query"}
    if set(query) - wanted or len(query.multi_items()) != len(query):
        raise _Refused(400, "parameter", f"this takes the parameters {', '.join(sorted(wanted)) or 'none'}")
    values = {}
    for one in operation.parameters:
        found = query.get(one.name, one.default) if one.place == "query" else request.path_params[one.name]
        if found is None or not one.matches(found):
            raise _Refused(400, "parameter", f"{one.name}: {one.meaning}")
        values[one.name] = found
    return values


def _check_media(operation: Operation, request: Request) -> None:
    if operation.body is None:
        return
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != operation.body_media or request.headers.get("content-encoding", "identity") != "identity":
        raise _Refused(415, "content-type", f"the body has to be {operation.body_media}, not packed")


def _target(request: Request) -> bytes:
    """Path and query as they came."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return raw + b"?" + query if query else raw


def _peer(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _too_often(wait_s: float) -> _Refused:
    return _Refused(429, "rate", "too many requests; wait before the next one", wait_s)


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, media_type=JSON, headers=_HEADERS | (headers or {}))


def _refusal(refused: _Refused) -> Response:
    headers = {}
    if refused.wait_s:
        headers["retry-after"] = str(math.ceil(refused.wait_s))
    if refused.status == 401:
        headers["www-authenticate"] = AUTHENTICATION
    return _json(Refusal(Failure(refused.code, str(refused))), refused.status, headers)
