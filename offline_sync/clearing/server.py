"""Runs the HTTP surface with uvicorn until it is told to end."""

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from offline_sync.clearing import Clearing
from offline_sync.clearing.service import Bounds, application
from offline_sync.errors import ClearingError

CONNECTIONS: Final = 256
"""Connections and requests at one time; above them it answers 503."""
HEADERS_BYTES: Final = 16 * 1024
IDLE_S: Final = 15.0
"""How long a connection may take to get a request together; it is cut off within twice this."""
ANSWER_S: Final = 600.0
"""How long a request and its answer may take in all."""
GRACE_S: Final = 5
"""How long requests under way may take to finish after SIGTERM."""


class CannotListen(ClearingError):
    """The address is taken, or not this machine's."""


def serve(
    clearing: Clearing,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    announce: Callable[[str], None],
    bounds: Bounds | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first. Port 0 takes any free one.
    `bounds`: what it takes on.

    `announce` gets one line, `ready http://HOST:PORT`, once connections are taken. Raises CannotListen.
    """
    listener = _listen(host, port)
    bound_host, bound_port = listener.getsockname()[:2]
    shown = f"[{bound_host}]" if ":" in bound_host else bound_host
    config = uvicorn.Config(
        application(clearing, bounds),
        log_level="warning",
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEADERS_BYTES,
        ws="none",
        http=_Impatient,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        date_header=False,  # the surface itself says what clearing's clock says
    )
    server = _Announcing(config, lambda: announce(f"ready http://{shown}:{bound_port}"))
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise CannotListen(f"cannot listen on {host}:{port}: {error}") from error
    return listener


class _Impatient(H11Protocol):
    """A connection that is cut off when it brings no request, or never takes its answer. uvicorn itself waits
    for ever, so that a few hundred silent connections would keep everybody else away.
    """

    _last: object = None
    _waited_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's; and begins to watch."""
        super().connection_made(transport)
        self.loop.call_later(IDLE_S, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        now: RequestResponseCycle | None = self.cycle
        is_same, self._last = self._last is now, now
        self._waited_s = self._waited_s + IDLE_S if is_same else 0.0
        if now is None or now.response_complete:
            if is_same:
                self.transport.close()
                return
        elif self._waited_s > ANSWER_S:
            self.transport.abort()
            return
        self.loop.call_later(IDLE_S, self._look)


class _Announcing(uvicorn.Server):
    """A server that says when it takes connections, and for which SIGTERM is an ordinary end."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the word."""
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End. uvicorn's own would raise the signal once more afterwards, and so end the program with an
        error.
        """
        self.force_exit = self.should_exit
        self.should_exit = True
