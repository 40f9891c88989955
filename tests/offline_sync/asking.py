"""Signed requests, made by hand where a test wants one that no client would send."""

import asyncio
from itertools import count
from typing import Any

import httpx
from starlette.applications import Starlette

from offline_sync.client import ClearingClient
from offline_sync.requests import OperatorSigner, Signer, TerminalSigner
from tests.offline_sync.factory import NOW, Scheme, Terminal

_nonces = count(1)


def nonce() -> bytes:
    """16 bytes that no other request of this run has."""
    return next(_nonces).to_bytes(16, "big")


def terminal_signer(terminal: Terminal) -> TerminalSigner:
    """Signs as a terminal does."""
    return TerminalSigner(terminal.uploader.suite, terminal.uploader.certificate, terminal.uploader.key)


def acquirer_signer(scheme: Scheme) -> OperatorSigner:
    """Signs as the scheme's acquiring operator does."""
    return OperatorSigner(scheme.suite, scheme.acquirer, scheme.acquirer_key)


def issuer_signer(scheme: Scheme) -> OperatorSigner:
    """Signs as the scheme's issuing operator does."""
    return OperatorSigner(scheme.suite, scheme.issuer, scheme.issuer_key)


def signed(
    signer: Signer | None,
    method: str,
    path: str,
    content: bytes = b"",
    *,
    media: str = "application/json",
    time_s: int = NOW,
    base: str = "http://clearing",
    **headers: str,
) -> httpx.Request:
    """A request with its signature; None signs nothing. `path` may hold a query."""
    media_header = {"content-type": media} if method == "POST" else {}
    request = httpx.Request(method, base + path, content=content, headers=media_header | headers)
    if signer is not None:
        request.headers["authorization"] = signer.authorization(
            method, request.url.raw_path, content, time_s, nonce()
        )
    return request


class InProcess(httpx.BaseTransport):
    """The service without a network. What it lets through as an exception fails the test."""

    def __init__(self, app: Starlette, peer: str = "127.0.0.1") -> None:
        self._app = httpx.ASGITransport(app, client=(peer, 1))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request in an event loop of its own."""
        return asyncio.run(self._answered(request))

    async def _answered(self, request: httpx.Request) -> httpx.Response:
        asked = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        response = await self._app.handle_async_request(asked)
        return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

    def ask(
        self, signer: Signer | None, method: str, path: str, content: bytes = b"", **options: Any
    ) -> httpx.Response:
        """The answer to a request that is signed now."""
        return self.handle_request(signed(signer, method, path, content, **options))


def client_of(transport: httpx.BaseTransport, signer: Signer | None, time_s: int = NOW) -> ClearingClient:
    """The typed client, without a network."""
    return ClearingClient(
        "http://clearing", signer, clock=lambda: time_s, entropy=lambda _: nonce(), transport=transport
    )
