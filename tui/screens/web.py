"""A screen in a browser on this machine, through textual-serve: one tab at a time, and nobody else.

    http://127.0.0.1:PORT/?token=…   works once: the page that it opens gets a cookie, and the token is spent
    /ws                              needs that cookie and this page's own Origin; one tab holds the till,
                                     another is told that it is in use, and gets it when the first has gone

The till runs in a process of its own, which opens the terminal's folder and ends when its tab is closed: like
leaving it by its key, with a payment under way finished first. docs/adr/0034-the-frame-of-the-screens.md.
"""

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import textual_serve
from aiohttp import WSMsgType, web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from tui.screens import web_page
from tui.text import say

HOST: Final = "127.0.0.1"
DRIVER: Final = "tui.screens.web_driver:TabDriver"
STATIC: Final = Path(textual_serve.__file__).parent / "static"
FILES: Final = {
    "css/xterm.css": "text/css",
    "js/textual.js": "text/javascript",
    "fonts/RobotoMono-VariableFont_wght.ttf": "font/ttf",
}
"""What of textual-serve's files is served, and as what."""
END_S: Final = 45.0
"""How long a till may take to finish what is under way; longer than a station's own bound."""
MAX_MESSAGE: Final = 64 * 1024
_PRELUDE: Final = b"__GANGLION__\n"
_CLEAR: Final = "\x1b[2J\x1b[H\x1b[?25l"


def _headers(port: int) -> dict[str, str]:
    """What every answer says: nothing from elsewhere, nothing kept, in no frame."""
    return {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
            f"img-src 'self' data:; connect-src 'self' ws://{HOST}:{port}; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        ),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


class Till(AppService):
    """The process of one till, and the tab that it is shown in."""

    def __init__(self, command: Sequence[str], websocket: web.WebSocketResponse) -> None:
        async def close() -> None:
            await websocket.close()

        super().__init__(
            "",
            write_bytes=websocket.send_bytes,
            write_str=websocket.send_str,
            close=close,
            download_manager=DownloadManager(),
        )
        self._words = list(command)

    async def open(self, width: int, height: int) -> None:
        """Starts the till, away from this terminal's Ctrl+C: it ends when it is told to."""
        environment = dict(os.environ) | {
            "TEXTUAL_DRIVER": DRIVER,
            "TEXTUAL_COLOR_SYSTEM": "truecolor",
            "TERM_PROGRAM": "textual",
            "TERM_PROGRAM_VERSION": version("textual-serve"),
            "COLUMNS": str(width),
            "ROWS": str(height),
        }
        self._process = await asyncio.create_subprocess_exec(
            *self._words, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True
        )
        self._stdin = self._process.stdin

    async def live(self) -> str:
        """Until the till has ended; what it said on stderr."""
        process = self._process
        if process is None or process.stdout is None or process.stderr is None:
            raise RuntimeError("the till was not opened")
        said = asyncio.create_task(process.stderr.read())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._pass_on(process.stdout)
        await process.wait()
        return (await said).decode("utf-8", "replace").strip()

    async def _pass_on(self, stdout: asyncio.StreamReader) -> None:
        """From the till to the tab. A tab that is gone does not stop the till's output from being read."""
        while await stdout.readline() != _PRELUDE:
            if stdout.at_eof():
                return
        while True:
            kind = await stdout.readexactly(1)
            payload = await stdout.readexactly(int.from_bytes(await stdout.readexactly(4), "big"))
            if kind == b"D":
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await self.remote_write_bytes(payload)

    async def leave(self) -> None:
        """Asks the till to end, which finishes what is under way."""
        await self.send_meta({"type": "quit"})

    def kill(self) -> None:
        """For a till that does not end: its journal survives that as it survives a power cut."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


class Tab:
    """One browser tab: what it types and how large it is, before and while it has the till."""

    def __init__(self, websocket: web.WebSocketResponse, width: int, height: int) -> None:
        self.websocket = websocket
        self.size = (width, height)
        self.till: Till | None = None
        self.seated = False
        self.gone = asyncio.Event()

    async def say(self, sentence: str) -> None:
        """A sentence on an otherwise empty screen."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.websocket.send_bytes((_CLEAR + "\r\n  " + sentence).encode())

    async def listen(self) -> None:
        """Passes on what is typed, until the tab is gone."""
        async for message in self.websocket:
            if message.type is WSMsgType.TEXT:
                await self._take(message.data)

    async def _take(self, text: str) -> None:
        try:
            kind, *rest = json.loads(text)
            if kind == "resize":
                self.size = (_side(rest[0]["width"]), _side(rest[0]["height"]))
                if self.till is not None:
                    await self.till.set_terminal_size(*self.size)
            elif kind == "stdin" and self.till is not None:
                await self.till.send_bytes(str(rest[0]).encode("utf-8", "replace"))
            elif kind == "ping":
                await self.websocket.send_json(["pong", str(rest[0])])
            elif kind in ("focus", "blur") and self.till is not None:
                await self.till.send_meta({"type": kind})
        except (ValueError, TypeError, LookupError, ConnectionError, RuntimeError):
            return  # no page of ours says that


def _side(number: object) -> int:
    """Columns or rows of a tab, within reason."""
    if not isinstance(number, int | str):
        raise TypeError("a size is a number")
    return max(1, min(500, int(number)))


class Web:
    """The server of one screen."""

    def __init__(self, command: Sequence[str], title: str, port: int) -> None:
        """`command` runs the screen. `title` is the page's."""
        self.port = port
        self.token = secrets.token_urlsafe(24)
        self._command = list(command)
        self._title = title
        self._token_left: str | None = self.token
        self._cookie = secrets.token_urlsafe(24)
        self._seat = asyncio.Lock()
        self._tabs: set[Tab] = set()

    @property
    def origin(self) -> str:
        """The only origin that may speak to the till."""
        return f"http://{HOST}:{self.port}"

    @property
    def address(self) -> str:
        """What to open, once."""
        return f"{self.origin}/?token={self.token}"

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/", self._page, allow_head=False)  # a HEAD would spend the token
        application.router.add_get("/ws", self._websocket)
        application.router.add_get("/static/till.js", self._script)
        application.router.add_get("/static/till.css", self._style)
        application.router.add_get("/static/{path:.+}", self._file)
        application.on_shutdown.append(self._shut)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """A name that was made to point here reaches nothing; what is served says so of itself."""
        if request.host != f"{HOST}:{self.port}":
            answer = self._refuse(say("This page is at {origin} only.", origin=self.origin))
        else:
            try:
                answer = await handler(request)
            except web.HTTPException as error:
                answer = web.Response(status=error.status, text=error.reason)
        if not answer.prepared:
            answer.headers.update(_headers(self.port))
        result: web.StreamResponse = answer
        return result

    def _refuse(self, sentence: str) -> web.Response:
        return web.Response(status=403, text=web_page.refusal(sentence), content_type="text/html")

    @property
    def _cookie_name(self) -> str:
        return f"till-{self.port}"  # cookies are shared between ports

    def _knows(self, request: web.Request) -> bool:
        return _same(request.cookies.get(self._cookie_name, ""), self._cookie)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        known = self._knows(request)
        if not known:
            if not _same(request.query.get("token", ""), self._token_left):
                return self._refuse(
                    say(
                        "This address does not open the screen: each one works once. Start the command again."
                    )
                )
            self._token_left = None
        answer = web.Response(
            text=web_page.page(self._title, f"ws://{HOST}:{self.port}/ws"), content_type="text/html"
        )
        if not known:
            answer.set_cookie(self._cookie_name, self._cookie, httponly=True, samesite="Strict", path="/")
        return answer

    async def _script(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=web_page.SCRIPT, content_type="text/javascript")

    async def _style(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=web_page.STYLE, content_type="text/css")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        kind = FILES.get(path)
        if kind is None:
            raise web.HTTPNotFound
        return web.FileResponse(STATIC / path, headers={"Content-Type": kind, **_headers(self.port)})

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin") != self.origin or not self._knows(request):
            return self._refuse(say("Only the page of this screen may do that."))
        websocket = web.WebSocketResponse(heartbeat=15, max_msg_size=MAX_MESSAGE)
        await websocket.prepare(request)
        try:
            size = _side(request.query.get("width", 80)), _side(request.query.get("height", 24))
        except ValueError:
            size = 80, 24
        tab = Tab(websocket, *size)
        self._tabs.add(tab)
        try:
            await self._serve(tab)
        finally:
            self._tabs.discard(tab)
            await websocket.close()
        return websocket

    async def _serve(self, tab: Tab) -> None:
        """One tab, from its coming to its going; the till is its own from its turn on."""
        listening = asyncio.create_task(tab.listen())
        playing = asyncio.create_task(self._play(tab))
        await asyncio.wait({listening, playing}, return_when=asyncio.FIRST_COMPLETED)
        tab.gone.set()
        listening.cancel()
        if not tab.seated:
            playing.cancel()
        elif tab.till is not None:
            await tab.till.leave()
        await asyncio.wait({playing}, timeout=END_S)
        if tab.till is not None:
            tab.till.kill()
        for result in await asyncio.gather(playing, listening, return_exceptions=True):
            if isinstance(result, Exception):
                _note(say("The page failed: {why}", why=str(result)))

    async def _play(self, tab: Tab) -> None:
        if self._seat.locked():
            await tab.say(say("The screen is in use in another tab. It opens here when that one is closed."))
        async with self._seat:
            tab.seated = True  # from here on this is not cancelled: the till ends by itself
            said = await self._live(tab)
        if said:
            _note(said)
            await tab.say(said.splitlines()[-1])
            await tab.gone.wait()

    async def _live(self, tab: Tab) -> str:
        till = Till(self._command, tab.websocket)
        await till.open(*tab.size)
        tab.till = till
        if tab.gone.is_set():
            await till.leave()
        try:
            return await till.live()
        finally:
            tab.till = None

    async def _shut(self, _application: web.Application) -> None:
        """Every tab is closed, which ends its till."""
        await asyncio.gather(*(tab.websocket.close() for tab in list(self._tabs)), return_exceptions=True)


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _same(given: str, wanted: str | None) -> bool:
    return wanted is not None and hmac.compare_digest(given.encode(), wanted.encode())


def serve(command: Sequence[str], title: str, port: int, tell: Callable[[str], None]) -> None:
    """Serves the screen that `command` runs until SIGINT, SIGTERM or SIGHUP; `tell` gets the address, once.

    Port 0 takes any free one. Raises OSError where the port is taken.
    """
    with socket.create_server((HOST, port)) as listener:
        asyncio.run(_serve_until_told(command, title, listener, tell))


async def _serve_until_told(
    command: Sequence[str], title: str, listener: socket.socket, tell: Callable[[str], None]
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    server = Web(command, title, listener.getsockname()[1])
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=END_S + 5)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        tell(server.address)
        await ended.wait()
    finally:
        await runner.cleanup()
