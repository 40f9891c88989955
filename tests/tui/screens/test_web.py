"""A screen in a browser tab: who gets it, who does not, one tab at a time, and a browser that shows it."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pyte
import pytest
from aiohttp import web

from tests.conftest import REPOSITORY
from tui.screens import web as served
from tui.screens import web_page
from tui.text import set_language

LIMIT_S = 30
CHROMIUM = "/usr/bin/chromium"

# Speaks as Textual's web driver does; says what it was told, and takes a moment to finish when told to end.
TILL = r"""
import json, os, sys, time

def send(kind, payload):
    os.write(1, kind + len(payload).to_bytes(4, "big") + payload)

def read(count):
    data = b""
    while len(data) < count:
        more = os.read(0, count - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data

os.write(1, b"__GANGLION__\n")
send(b"D", f"till {os.environ['COLUMNS']}x{os.environ['ROWS']} {os.getpid()}".encode())
while True:
    kind, payload = read(1), read(int.from_bytes(read(4), "big"))
    if kind == b"D" and payload == b"leave":
        sys.exit(0)
    if kind == b"M" and json.loads(payload)["type"] == "quit":
        time.sleep(0.2)
        open(sys.argv[1], "a").write("finished\n")
        sys.exit(0)
    send(b"D", kind + b" " + payload)
"""


class Desk:
    """A server under test, and clients of it."""

    def __init__(self, server: served.Web, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.last: asyncio.Task[aiohttp.WSMessage] | None = None

    async def open_page(self) -> aiohttp.ClientResponse:
        """Spends the token; the session has the cookie afterwards."""
        return await self.session.get(self.server.address)

    async def tab(self, **headers: str) -> aiohttp.ClientWebSocketResponse:
        """A tab of the page."""
        return await self.session.ws_connect(
            f"{self.server.origin}/ws?width=90&height=30", headers={"Origin": self.server.origin, **headers}
        )

    async def status(self, path: str, **headers: str) -> int:
        async with self.session.get(self.server.origin + path, headers=headers) as answer:
            return answer.status


async def said(tab: aiohttp.ClientWebSocketResponse, words: str) -> str:
    """What the tab shows, up to these words."""
    text = ""
    while words not in text:
        message = await asyncio.wait_for(tab.receive(), LIMIT_S)
        assert message.type is aiohttp.WSMsgType.BINARY, (message, text)
        text += message.data.decode()
    return text


@asynccontextmanager
async def desk(command: list[str]) -> AsyncIterator[Desk]:
    """The server on a free port, with a client that keeps cookies."""
    with socket.create_server((served.HOST, 0)) as listener:
        server = served.Web(command, "Till", listener.getsockname()[1])
        runner = web.AppRunner(server.application(), access_log=None)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
                yield Desk(server, session)
        finally:
            await runner.cleanup()


def at_desk(tmp_path: Path, script: Callable[[Desk], Awaitable[None]], *command: str) -> None:
    """Runs the script against a server of that till."""

    async def run() -> None:
        async with desk(list(command) or [sys.executable, "-c", TILL, str(tmp_path / "log")]) as made:
            await asyncio.wait_for(script(made), LIMIT_S * 2)

    asyncio.run(run())


# ------------------------------------------------------------------------------------------------ who may


def test_the_address_works_once(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        answer = await made.open_page()
        assert answer.status == 200
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert made.server.token not in await answer.text()
        assert (await made.session.get(made.server.origin + "/")).status == 200, "the cookie is enough"
        async with aiohttp.ClientSession() as stranger:
            again = await stranger.get(made.server.address)
            assert again.status == 403
            assert "works once" in await again.text()

    at_desk(tmp_path, script)


def test_no_token_and_a_wrong_one_open_nothing_and_spend_nothing(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        for query in ("", "?token=", "?token=x", f"?token={made.server.token[:-1]}", "?token=%C3%BC"):
            assert await made.status("/" + query) == 403
        assert await made.status("/", Cookie=f"till-{made.server.port}=x") == 403
        assert (await made.open_page()).status == 200

    at_desk(tmp_path, script)


def test_other_names_and_origins_reach_nothing(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        await made.open_page()
        for host in ("localhost", "evil.example", f"evil.example:{made.server.port}", "127.0.0.1:1"):
            assert await made.status("/", Host=host) == 403
        for origin in ("http://evil.example", "null", f"http://localhost:{made.server.port}", ""):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await made.tab(Origin=origin)
            assert refused.value.status == 403
        assert await made.status("/ws") == 403, "no origin at all"
        made.session.cookie_jar.clear()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await made.tab()
        assert refused.value.status == 403

    at_desk(tmp_path, script)


def test_only_what_the_page_needs_is_served(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        for path in (*served.FILES, "till.js", "till.css"):
            assert await made.status(f"/static/{path}") == 200, path
        for path in ("images/background.png", "..%2fserver.py", "%2e%2e/server.py", "js/", "", "css/../js/x"):
            assert await made.status(f"/static/{path}") == 404, path
        assert await made.status("/download/x") == 404
        async with made.session.post(made.server.origin + "/") as answer:
            assert answer.status == 405

    at_desk(tmp_path, script)


class Links(HTMLParser):
    """Everything that a page fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize(("tongue", "tag"), [("en", "en"), ("zh", "zh-CN")])
def test_the_page_fetches_nothing_from_elsewhere(tmp_path: Path, tongue: str, tag: str) -> None:
    set_language(tongue)

    async def script(made: Desk) -> None:
        answer = await made.open_page()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        text = await answer.text()
        assert f'lang="{tag}"' in text
        links = Links()
        links.feed(text)
        assert links.found
        assert all(link.startswith("/static/") or link == "data:," for link in links.found), links.found
        assert not re.search(r"https?://", text + web_page.STYLE + web_page.SCRIPT)

    at_desk(tmp_path, script)


# ------------------------------------------------------------------------------------- one tab at a time


def test_a_tab_types_into_its_till(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        await made.open_page()
        tab = await made.tab()
        assert "till 90x30" in await said(tab, "30 ")
        for junk in ("", "nonsense", "[]", "{}", '["resize"]', '["resize", {"width": "x"}]', "[[]]", "7"):
            await tab.send_str(junk)
        await tab.send_str(json.dumps(["stdin", "二"]))
        assert await said(tab, "二") == "D 二"
        await tab.send_str(json.dumps(["resize", {"width": 100, "height": 99999}]))
        assert json.loads((await said(tab, "}"))[2:]) == {"type": "resize", "width": 100, "height": 500}
        await tab.send_str(json.dumps(["ping", "5"]))
        assert await tab.receive_json(timeout=LIMIT_S) == ["pong", "5"]

    at_desk(tmp_path, script)


def test_a_second_tab_is_told_and_gets_the_till_when_the_first_has_finished(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        await made.open_page()
        first = await made.tab()
        first_till = (await said(first, "till 90x30 ")).split()[-1]
        second = await made.tab()
        await said(second, "in use in another tab")
        await first.close()
        text = await said(second, "till 90x30 ")
        assert text.split()[-1] != first_till
        assert (tmp_path / "log").read_text() == "finished\n", "the first was finished before"

    at_desk(tmp_path, script)


def test_a_waiting_tab_that_goes_away_leaves_no_trace(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        await made.open_page()
        first = await made.tab()
        await said(first, "till")
        for _ in range(3):
            waiting = await made.tab()
            await said(waiting, "in use")
            await waiting.close()
        await first.send_str(json.dumps(["stdin", "still here"]))
        await said(first, "still here")
        assert not (tmp_path / "log").exists()

    at_desk(tmp_path, script)


def test_leaving_the_till_closes_its_tab_and_a_reload_opens_it_again(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        await made.open_page()
        tab = await made.tab()
        await said(tab, "till")
        await tab.send_str(json.dumps(["stdin", "leave"]))
        message = await asyncio.wait_for(tab.receive(), LIMIT_S)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        again = await made.tab()
        await said(again, "till 90x30")

    at_desk(tmp_path, script)


def test_a_till_that_can_not_open_says_why_in_the_tab(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(made: Desk) -> None:
        await made.open_page()
        tab = await made.tab()
        await said(tab, "another process holds the journal")
        await tab.close()

    failing = "import sys; sys.stderr.write('hardwallet: another process holds the journal\\n'); sys.exit(1)"
    at_desk(tmp_path, script, sys.executable, "-c", failing)
    assert "another process holds the journal" in capsys.readouterr().err


def test_the_end_of_the_server_finishes_what_is_under_way(tmp_path: Path) -> None:
    async def script(made: Desk) -> None:
        await made.open_page()
        tab = await made.tab()
        await said(tab, "till")
        made.last = asyncio.create_task(tab.receive())

    at_desk(tmp_path, script)
    assert (tmp_path / "log").read_text() == "finished\n"


def test_a_till_does_not_outlive_the_server() -> None:
    """Killed without a word: the till's input ends, and it leaves."""
    command = [sys.executable, "-m", "tui", "tui", "cashier", "--mute"]
    environment = dict(os.environ) | {"TEXTUAL_DRIVER": served.DRIVER, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as till:
        assert till.stdin is not None
        assert till.stdout is not None
        while (line := till.stdout.readline()) != b"__GANGLION__\n":
            assert line, till.communicate()[1].decode()
        till.stdin.close()
        till.stdout.read()
        assert till.wait(LIMIT_S) == 0


# ------------------------------------------------------------------------------------------- a real browser


@contextmanager
def serving(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`hardwallet tui …` as a process, and the address that it prints."""
    command = [sys.executable, "-m", "tui", "tui", *words]
    environment = {name: text for name, text in os.environ.items() if name != "TEXTUAL_DRIVER"}
    environment["PYTHONPATH"] = str(REPOSITORY)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
            assert match, (line, process.communicate()[1] if not line else "")
            yield process, match[0]
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=LIMIT_S * 2)
        assert (process.returncode, errors) == (0, "")


class Screen:
    """What a tab was sent, as a terminal would show it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.columns, self.rows = 80, 24
        self._screen = pyte.Screen(self.columns, self.rows)
        self._stream = pyte.ByteStream(self._screen)
        page.on("websocket", self._follow)

    def _follow(self, websocket: Any) -> None:
        width = re.search(r"width=(\d+)&height=(\d+)", websocket.url)
        assert width
        self._screen.resize(int(width[2]), int(width[1]))
        websocket.on("framereceived", self._take)

    def _take(self, payload: bytes | str) -> None:
        if isinstance(payload, bytes):
            self._stream.feed(payload)

    @property
    def text(self) -> str:
        return "\n".join("".join(row.split()) for row in self._screen.display)

    def wait_for(self, words: str) -> None:
        """Until the tab shows these words (blanks do not count)."""
        for _ in range(LIMIT_S * 10):
            if words in self.text:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"never shown: {words}\n{self.text}")


@pytest.mark.needs("chromium", "module:playwright")
def test_a_browser_shows_the_till_in_chinese() -> None:
    from playwright.sync_api import sync_playwright

    arguments = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    ).split()
    with (
        serving("cashier", "--web", "0", "--lang", "zh", "--mute") as (_, address),
        sync_playwright() as play,
    ):
        origin = address.partition("/?")[0]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        context = browser.new_context(viewport={"width": 1000, "height": 620})
        asked: list[str] = []
        wrong: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        context.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)

        page = context.new_page()
        screen = Screen(page)
        page.on("websocket", lambda websocket: asked.append(websocket.url))
        page.goto(address)
        screen.wait_for("模拟")
        assert page.url == f"{origin}/", "the token leaves the address bar"
        page.keyboard.type("12.50")
        page.keyboard.press("Enter")
        screen.wait_for("请碰卡")
        page.keyboard.press("1")
        screen.wait_for("已批准")
        screen.wait_for("187.50")

        second = context.new_page()
        told = Screen(second)
        second.goto(f"{origin}/")
        told.wait_for("正在另一个标签页中使用")
        page.close()
        told.wait_for("模拟")

        outsider = browser.new_context()
        answer = outsider.request.get(address)
        assert answer.status == 403
        stranger = outsider.new_page()
        refused = stranger.goto(address)
        assert refused is not None
        assert refused.status == 403

        assert {url.replace("ws://", "http://").startswith(f"{origin}/") for url in asked} == {True}, asked
        assert wrong == []
        browser.close()
