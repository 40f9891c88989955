"""Clearing over HTTP: uploads in, receipts and the report out. JSON both ways; an error is JSON too."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from offline_sync import messages
from offline_sync.clearing import Clearing
from offline_sync.errors import BatchRefused, LedgerError, MessageMalformed, RecordRefused
from offline_sync.messages import Failure, Refusal

_log = logging.getLogger(__name__)
MAX_LOADS: Final = 1_000

Endpoint = Callable[[Request], Awaitable[Response]]


class LoadReceipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card's load receipt (160 bytes) with the card's certificate (178 bytes)."""

    record: bytes
    certificate: bytes


class Loads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an issuer hands over: its orders (122 bytes each) and the receipts that came back."""

    orders: list[bytes] = []
    receipts: list[LoadReceipt] = []


class LoadsBooked(msgspec.Struct, frozen=True):
    """How many of each were taken; `booked` counts the receipts that were new."""

    orders: int
    receipts: int
    booked: int


def application(clearing: Clearing) -> Starlette:
    """The HTTP surface of a clearing.

    POST /v1/batches    an upload; 200 and its acknowledgement, 422 when it is refused whole
    POST /v1/loads      load orders and receipts of an issuer
    GET  /v1/report     the report
    GET  /v1/health     {"status": "ok"} when the ledger can be read
    """

    async def batches(request: Request) -> Response:
        body = await _bounded_body(request, messages.MAX_BATCH_BYTES)
        return _json(await run_in_threadpool(lambda: clearing.accept(messages.decode_batch(body))))

    async def loads(request: Request) -> Response:
        body = await _bounded_body(request, messages.MAX_BATCH_BYTES)
        return _json(await run_in_threadpool(lambda: _book(clearing, body)))

    async def report(_: Request) -> Response:
        return _json(await run_in_threadpool(clearing.report))

    async def health(_: Request) -> Response:
        await run_in_threadpool(clearing.check)
        return _json({"status": "ok"})

    return Starlette(
        routes=[
            Route("/v1/batches", _answering(batches), methods=["POST"]),
            Route("/v1/loads", _answering(loads), methods=["POST"]),
            Route("/v1/report", _answering(report)),
            Route("/v1/health", _answering(health)),
        ],
        exception_handlers={HTTPException: _http_error},
    )


def _answering(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with every error turned into a JSON answer: nobody outside sees a traceback."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except HTTPException:
            raise
        except MessageMalformed as error:
            return _refusal(400, "malformed", str(error))
        except (BatchRefused, RecordRefused) as error:
            return _refusal(422, error.code, str(error))
        except LedgerError as error:
            _log.error("%s", error)
            return _refusal(503, "ledger", str(error))
        except ClientDisconnect:
            return _refusal(400, "disconnected", "the connection ended before the upload did")
        except Exception as error:  # noqa: BLE001 - a defect of this program is told without its insides
            _log.error("unexpected %s while answering", type(error).__name__)
            return _refusal(500, "failed", "clearing failed; nothing was booked, send again later")

    return answer


def _book(clearing: Clearing, body: bytes) -> LoadsBooked:
    try:
        handed = msgspec.json.decode(body, type=Loads)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageMalformed(f"these are no load orders and receipts: {error}") from None
    if len(handed.orders) + len(handed.receipts) > MAX_LOADS:
        raise MessageMalformed(f"at most {MAX_LOADS} load orders and receipts at a time")
    for order in handed.orders:
        clearing.book_order(order)
    booked = sum(clearing.book_load(item.record, item.certificate) for item in handed.receipts)
    return LoadsBooked(len(handed.orders), len(handed.receipts), booked)


async def _bounded_body(request: Request, limit: int) -> bytes:
    """The body, read no further than its limit. Raises HTTPException 413."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise HTTPException(413, f"the body is longer than {limit} bytes; send smaller uploads")
    return bytes(body)


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _refusal(status: int, code: str, message: str) -> Response:
    return _json(Refusal(Failure(code, message)), status)


def _http_error(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    words = {404: "not-found", 405: "method", 413: "too-long"}
    return _refusal(status, words.get(status, "refused"), str(getattr(error, "detail", error)))
