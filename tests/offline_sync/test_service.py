"""Clearing as a real process: over HTTP, ended, killed in mid-batch."""

import json
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from offline_sync import messages
from offline_sync.clearing import server
from offline_sync.errors import ClearingFailed, ClearingUnreachable
from offline_sync.gateway import Backoff, Gateway
from offline_sync.journal import SqliteJournal
from offline_sync.requests import Signer
from pos_terminal.ports import CardCertificate
from pos_terminal.sale import SaleState
from tests.offline_sync.asking import acquirer_signer, issuer_signer, nonce, signed, terminal_signer
from tests.offline_sync.factory import NOW, Scheme, Terminal, journal_of
from tests.offline_sync.test_clearing import Till, own

REPOSITORY = Path(__file__).parents[2]
ORDER_OF_NOTHING = json.dumps({"orders": [{"order": b64encode(bytes(122)).decode()}]}).encode()


class Served:
    """A clearing process and its address."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process = process
        self.url = url

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def serving(ledger: Path, *options: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "tests.offline_sync.serve_for_test", str(ledger), *options]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        served = Served(process, "")
        word, served.url = served.line().split()
        assert word == "ready"
        yield served
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("clearing") / "ledger.sqlite") as running:
        yield running


def batch_of(scheme: Scheme, number: int) -> tuple[bytes, Signer]:
    card, shop = scheme.card(number), scheme.terminal(number, 1, retail=True)
    batch = Till(shop, [card]).add(own(scheme.payment(card, shop, 500))).batch()
    return messages.encode(batch), terminal_signer(shop)


def ask(
    served: Served, signer: Signer | None, method: str, path: str, content: bytes = b"", **options: Any
) -> httpx.Response:
    request = signed(signer, method, path, content, base=served.url, **options)
    with httpx.Client() as client:
        return client.send(request)


def report_of(served: Served, scheme: Scheme) -> Any:
    return ask(served, acquirer_signer(scheme), "GET", "/v1/report").json()


def error_of(response: httpx.Response) -> str:
    assert "Traceback" not in response.text
    failure = messages.decode_refusal(response.content).error
    assert failure.message
    return failure.code


def test_an_upload_is_acknowledged_and_reported(served: Served, scheme: Scheme) -> None:
    raw, shop = batch_of(scheme, 50)
    receipts = [ask(served, shop, "POST", "/v1/batches", raw) for _ in range(2)]
    assert [receipt.status_code for receipt in receipts] == [200, 200]
    assert receipts[0].content == receipts[1].content
    assert messages.decode_acknowledgement(receipts[0].content).last == 1
    report = report_of(served, scheme)
    assert report["conservation"]["ok"] is True
    assert {"payee": "0000002200000032", "balance_fen": 500}.items() <= report["payees"][0].items()


def test_health(served: Served) -> None:
    assert httpx.get(served.url + "/v1/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("POST", "/v1/batches", b"", 400, "malformed"),
        ("POST", "/v1/batches", b"nonsense", 400, "malformed"),
        ("POST", "/v1/batches", b"{" * 10_000, 400, "malformed"),
        ("POST", "/v1/batches", b"\xff" * 100, 400, "malformed"),
        ("POST", "/v1/batches", b" " * (messages.MAX_BATCH_BYTES + 1), 413, "too-long"),
        ("POST", "/v1/loads", b"nonsense", 400, "malformed"),
        ("POST", "/v1/loads", b'{"orders":["AAAA"]}', 400, "malformed"),
        ("POST", "/v1/loads", b'{"orders":[{"order":"AAAA"}]}', 400, "malformed"),
        ("POST", "/v1/loads", ORDER_OF_NOTHING, 422, "malformed"),
        ("POST", "/v1/loads", b'{"receipts":[{"record":"","certificate":""}]}', 400, "malformed"),
        ("POST", "/v1/loads", b'{"orders":[' + b'"",' * 1_000 + b'""]}', 400, "malformed"),
        ("GET", "/v1/batches", b"", 405, "method"),
        ("POST", "/v1/report", b"", 405, "method"),
        ("GET", "/", b"", 404, "not-found"),
        ("GET", "/v1/../../etc/passwd", b"", 404, "not-found"),
    ],
)
def test_what_is_wrong_is_told_in_json(
    served: Served, scheme: Scheme, method: str, path: str, content: bytes, status: int, code: str
) -> None:
    signer = terminal_signer(scheme.terminal(52, 1)) if path == "/v1/batches" else issuer_signer(scheme)
    response = ask(served, signer, method, path, content)
    assert (response.status_code, error_of(response)) == (status, code)


def test_an_altered_upload_is_told(served: Served, scheme: Scheme) -> None:
    raw, shop = batch_of(scheme, 51)
    fields = json.loads(raw)
    fields["time_s"] -= 1
    response = ask(served, shop, "POST", "/v1/batches", json.dumps(fields).encode())
    assert (response.status_code, error_of(response)) == (422, "altered")


def test_loads_over_http(served: Served, scheme: Scheme) -> None:
    card = scheme.card(60)
    content = {
        "orders": [{"order": b64encode(scheme.load_order(card, 1, 700)).decode()}],
        "receipts": [
            {
                "record": b64encode(scheme.load(card, 700).raw).decode(),
                "certificate": b64encode(card.raw_certificate).decode(),
            }
        ],
    }
    raw = json.dumps(content).encode()
    answers = [ask(served, issuer_signer(scheme), "POST", "/v1/loads", raw).json() for _ in range(2)]
    assert answers == [
        {"orders": 1, "receipts": 1, "booked": 1},
        {"orders": 1, "receipts": 1, "booked": 0},
    ]


def test_a_connection_that_breaks_off_harms_nobody(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert httpx.get(served.url + "/v1/health").status_code == 200


def test_nonsense_instead_of_http_harms_nobody(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"\x00\xff" * 500 + b"\r\n\r\n")
        connection.settimeout(10)
        assert b"Traceback" not in connection.recv(4_096)
    assert httpx.get(served.url + "/v1/health").status_code == 200


@pytest.mark.parametrize(
    "begin", [b"", b"GET /v1/health HTTP/1.1\r\nHost:", b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\nGET"]
)
def test_who_keeps_a_connection_and_asks_nothing_is_cut_off(tmp_path: Path, begin: bytes) -> None:
    with serving(tmp_path / "ledger.sqlite", "hasty") as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(begin)
            while connection.recv(4_096):  # ends when it is cut off; a timeout fails
                pass
        assert httpx.get(running.url + "/v1/health").status_code == 200


def test_a_refusal_arrives_though_the_body_was_not_wanted(served: Served, scheme: Scheme) -> None:
    """The body is let in and forgotten: else the answer would be lost with the connection."""
    body = b" " * messages.MAX_BATCH_BYTES
    for signer, code in ((None, "unsigned"), (acquirer_signer(scheme), "role")):
        assert error_of(ask(served, signer, "POST", "/v1/batches", body)) == code
    late = terminal_signer(scheme.terminal(53, 1))
    assert error_of(ask(served, late, "POST", "/v1/batches", body, time_s=NOW - 3_600)) == "clock"


def test_it_listens_on_this_machine_only(served: Served) -> None:
    assert served.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "ledger.sqlite") as running:
        running.process.send_signal(number)
        out, err = running.process.communicate(timeout=30)
        assert running.process.returncode == 0
        assert (out, err) == ("", "")


def test_an_address_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(server.CannotListen, match="cannot listen"):
            server.serve(None, port=taken.getsockname()[1], announce=lambda _: None)  # type: ignore[arg-type]


def send(url: str, store: SqliteJournal, terminal: Terminal, scheme: Scheme) -> int:
    """How many entries were acknowledged; one try."""
    with Gateway(
        store,
        terminal.uploader,
        scheme.trust,
        url,
        clock=lambda: NOW,
        sleep=lambda _: None,
        entropy=lambda length: nonce() if length == 16 else bytes(length),
        backoff=Backoff(tries=1),
    ) as gateway:
        return gateway.send().entries


def test_killed_in_mid_batch_and_sent_again(tmp_path: Path, scheme: Scheme) -> None:
    """SIGKILL between a booking's last statement and its commit: nothing of it, then all of it."""
    card, terminal = scheme.card(70), scheme.terminal(70, 1)
    ledger = tmp_path / "ledger.sqlite"
    with journal_of(terminal, tmp_path / "journal.sqlite") as store:
        store.keep_certificate(card.digest, CardCertificate(card.raw_certificate, b""))
        for _ in range(20):
            store.keep_payment(scheme.payment(card, terminal, 100), SaleState.GRANTED, NOW)
        with serving(ledger, "slowly") as running:
            kill_when_booking(running, store, terminal, scheme)
        assert store.acknowledged() == 0
        with serving(ledger) as running:
            before = report_of(running, scheme)
            assert before["conservation"]["ok"]
            assert before["payments"] == 0
            assert send(running.url, store, terminal, scheme) == 20
            after = report_of(running, scheme)
    assert after["conservation"]["ok"]
    assert after["conservation"]["payees_fen"] == 2_000
    assert store_is_sent(after)


def kill_when_booking(running: Served, store: SqliteJournal, terminal: Terminal, scheme: Scheme) -> None:
    import threading

    def kill() -> None:
        assert running.line() == "booking"
        running.process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises((ClearingUnreachable, ClearingFailed)):
        send(running.url, store, terminal, scheme)
    killer.join()


def store_is_sent(report: dict[str, object]) -> bool:
    return report["payments"] == 20


def test_nobody_at_the_address(tmp_path: Path, scheme: Scheme) -> None:
    card, terminal = scheme.card(71), scheme.terminal(71, 1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with journal_of(terminal, tmp_path / "journal.sqlite") as store:
            store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
            with pytest.raises(ClearingUnreachable, match="stays here"):
                send(url, store, terminal, scheme)
            assert store.waiting().count == 1
