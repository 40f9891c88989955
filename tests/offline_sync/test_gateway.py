"""The gateway against every clearing that is not there, slow, broken or false: nothing lost, nothing marked
as sent.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from offline_sync import gateway, messages
from offline_sync.clearing import Clearing
from offline_sync.clearing.service import Bounds, application
from offline_sync.errors import (
    AcknowledgementRefused,
    ClearingFailed,
    ClearingNonsense,
    ClearingRefused,
    ClearingSlow,
    ClearingUnreachable,
    ClockWrong,
    ExportFailed,
    GatewayError,
)
from offline_sync.gateway import Backoff, Gateway, Progress
from offline_sync.journal import SqliteJournal
from offline_sync.outbox import Limits
from pos_terminal.ports import CardCertificate
from pos_terminal.sale import SaleState
from tests.offline_sync.asking import InProcess, nonce
from tests.offline_sync.factory import ACQUIRER, NOW, Card, Scheme, Stream, Terminal, journal_of

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture
def card(scheme: Scheme) -> Card:
    return scheme.card(7)


@pytest.fixture
def terminal(scheme: Scheme) -> Terminal:
    return scheme.terminal(1, 1)


@pytest.fixture
def store(tmp_path: Path, scheme: Scheme, terminal: Terminal, card: Card) -> Iterator[SqliteJournal]:
    with journal_of(terminal, tmp_path / "journal.sqlite") as opened:
        opened.keep_certificate(card.digest, CardCertificate(card.raw_certificate, b""))
        for _ in range(5):
            opened.keep_payment(scheme.payment(card, terminal, 100), SaleState.GRANTED, NOW)
        yield opened


@pytest.fixture
def clearing(scheme: Scheme) -> Clearing:
    return Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)


class Slept:
    """A clock's sleep that only notes how long."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    def __call__(self, wait_s: float) -> None:
        self.waits_s.append(wait_s)


def gateway_to(
    answer: Answer, store: SqliteJournal, terminal: Terminal, scheme: Scheme, **options: Any
) -> Gateway:
    settings: dict[str, Any] = {
        "clock": lambda: NOW,
        "sleep": Slept(),
        "entropy": Stream("backoff"),
        "limits": Limits(entries=2),
        "transport": httpx.MockTransport(answer),
    }
    return Gateway(store, terminal.uploader, scheme.trust, "http://clearing", **(settings | options))


def honest(clearing: Clearing) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/batches"
        receipt = clearing.accept(messages.decode_batch(request.content))
        return httpx.Response(200, content=messages.encode(receipt))

    return answer


def always(status: int, content: bytes = b"", **headers: str) -> Answer:
    return lambda _: httpx.Response(status, content=content, headers=headers)


def raising(error: Exception) -> Answer:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


def test_everything_arrives_batch_by_batch(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
) -> None:
    told: list[Progress] = []
    outcome = gateway_to(honest(clearing), store, terminal, scheme).send(told.append)
    assert (outcome.entries, outcome.batches, outcome.rejected) == (5, 3, 0)
    assert [(step.sent, step.total) for step in told] == [(2, 5), (4, 5), (5, 5)]
    assert store.waiting().entries == 0
    assert clearing.report().payments == 5


def test_nothing_to_send_asks_nobody(store: SqliteJournal, scheme: Scheme, terminal: Terminal) -> None:
    store.acknowledge(*store.head())
    outcome = gateway_to(always(500), store, terminal, scheme).send()
    assert outcome.entries == 0


def test_what_comes_while_sending_is_sent_too(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing, card: Card
) -> None:
    extra = [scheme.payment(card, terminal, 100)]

    def answer(request: httpx.Request) -> httpx.Response:
        if extra:
            store.keep_payment(extra.pop(), SaleState.GRANTED, NOW)
        return honest(clearing)(request)

    assert gateway_to(answer, store, terminal, scheme).send().entries == 6


ALTERED = b'{"error":{"code":"altered","message":"altered on the way"}}'
RETRIED: dict[str, tuple[Answer, type[GatewayError]]] = {
    "no connection": (raising(httpx.ConnectError("refused")), ClearingUnreachable),
    "network gone": (raising(httpx.ReadError("reset")), ClearingUnreachable),
    "slow": (raising(httpx.ReadTimeout("slow")), ClearingSlow),
    "slow to connect": (raising(httpx.ConnectTimeout("slow")), ClearingSlow),
    "broken off": (raising(httpx.RemoteProtocolError("disconnected")), ClearingFailed),
    "500": (always(500), ClearingFailed),
    "503": (always(503, b"<html>"), ClearingFailed),
    "429": (always(429), ClearingFailed),
}
GIVEN_UP: dict[str, tuple[Answer, type[GatewayError]]] = {
    "empty": (always(200), ClearingNonsense),
    "html": (always(200, b"<html>captive portal</html>"), ClearingNonsense),
    "other json": (always(200, b'{"ok": true}'), ClearingNonsense),
    "204": (always(204), ClearingNonsense),
    "redirect": (always(302, location="http://elsewhere/v1/batches"), ClearingNonsense),
    "404 of another server": (always(404, b"not found"), ClearingNonsense),
    "too long": (always(200, b" " * (messages.MAX_ACKNOWLEDGEMENT_BYTES + 1)), ClearingNonsense),
    "packed": (always(200, b"", **{"content-encoding": "gzip"}), ClearingNonsense),
    "refused": (always(422, ALTERED), ClearingRefused),
}


@pytest.mark.parametrize("what", RETRIED)
def test_it_tries_again_and_then_says_why(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, what: str
) -> None:
    answer, error = RETRIED[what]
    slept = Slept()
    told: list[Progress] = []
    sender = gateway_to(answer, store, terminal, scheme, sleep=slept, backoff=Backoff(tries=4, first_s=1.0))
    with pytest.raises(error):
        sender.send(told.append)
    assert len(slept.waits_s) == 3
    assert [step.sent for step in told] == [0, 0, 0, 0]
    assert all(step.failure for step in told)
    assert store.acknowledged() == 0
    assert store.locked is None
    assert sender.sending_to == 0


@pytest.mark.parametrize("what", GIVEN_UP)
def test_what_trying_again_does_not_mend(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, what: str
) -> None:
    answer, error = GIVEN_UP[what]
    slept = Slept()
    with pytest.raises(error):
        gateway_to(answer, store, terminal, scheme, sleep=slept).send()
    assert slept.waits_s == []
    assert store.acknowledged() == 0
    assert store.locked is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_even_to_a_clearing_that_would_answer(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing, status: int
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "clearing":
            return httpx.Response(status, headers={"location": "http://elsewhere/v1/batches"})
        return honest(clearing)(request)

    with pytest.raises(ClearingNonsense, match="check clearing's address"):
        gateway_to(answer, store, terminal, scheme).send()
    assert clearing.report().payments == 0


def test_a_refusal_is_told_in_clearings_words(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal
) -> None:
    with pytest.raises(ClearingRefused, match="altered on the way") as refusal:
        gateway_to(GIVEN_UP["refused"][0], store, terminal, scheme).send()
    assert refusal.value.code == "altered"


def test_it_arrives_once_clearing_is_back(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
) -> None:
    failures = [httpx.Response(500), httpx.Response(503)]

    def answer(request: httpx.Request) -> httpx.Response:
        return failures.pop() if failures else honest(clearing)(request)

    assert gateway_to(answer, store, terminal, scheme).send().entries == 5


def test_a_lost_acknowledgement_is_asked_for_again_and_nothing_is_booked_twice(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
) -> None:
    lost = [True]

    def answer(request: httpx.Request) -> httpx.Response:
        response = honest(clearing)(request)
        if lost:
            lost.pop()
            raise httpx.ReadError("gone", request=request)
        return response

    assert gateway_to(answer, store, terminal, scheme).send().entries == 5
    report = clearing.report()
    assert report.conservation.payees_fen == 500
    assert report.payments == 5


def test_a_stop_in_the_middle_keeps_what_was_acknowledged(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
) -> None:
    good = [True]

    def answer(request: httpx.Request) -> httpx.Response:
        return honest(clearing)(request) if good and good.pop() else httpx.Response(500)

    with pytest.raises(ClearingFailed):
        gateway_to(answer, store, terminal, scheme).send()
    assert store.acknowledged() == 2
    assert store.waiting().count == 3


def test_waits_grow_and_differ_by_chance() -> None:
    backoff = Backoff(first_s=1.0, longest_s=8.0)
    for failures, whole in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (60, 8.0)):
        assert backoff.wait_s(failures, bytes) == whole / 2
        assert whole / 2 < backoff.wait_s(failures, lambda n: b"\xff" * n) < whole


class TestFalseAcknowledgements:
    """Signed by the right operator or not: only what was sent counts, and only with that signature."""

    def answering(self, clearing: Clearing, signer: Scheme, sign: bool, changes: dict[str, Any]) -> Answer:
        def answer(request: httpx.Request) -> httpx.Response:
            receipt = clearing.accept(messages.decode_batch(request.content))
            changed = msgspec.structs.replace(receipt, **changes)
            if sign:
                changed = messages.seal_acknowledgement(changed, 1, signer.acquirer_key)
            return httpx.Response(200, content=messages.encode(changed))

        return answer

    @pytest.mark.parametrize(
        ("sign", "changes"),
        [
            (False, {"signature": bytes(64)}),
            (False, {"time_s": NOW - 1}),
            (False, {"rejections": [messages.Rejection(1, "x", "")]}),
            (True, {"last": 5, "highest": 5}),
            (True, {"first": 2}),
            (True, {"head": bytes(32)}),
            (True, {"terminal": b"\x00\x00\x00\x63"}),
            (True, {"payee": bytes(8)}),
            (True, {"scheme": bytes(4)}),
        ],
    )
    def test_they_mark_nothing(
        self,
        store: SqliteJournal,
        scheme: Scheme,
        terminal: Terminal,
        clearing: Clearing,
        sign: bool,
        changes: dict[str, Any],
    ) -> None:
        with pytest.raises(AcknowledgementRefused, match="Nothing was marked as sent"):
            gateway_to(self.answering(clearing, scheme, sign, changes), store, terminal, scheme).send()
        assert store.acknowledged() == 0
        assert store.locked is None

    def test_one_of_another_scheme(
        self, store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
    ) -> None:
        stranger = Scheme(seed="stranger")

        def answer(request: httpx.Request) -> httpx.Response:
            receipt = clearing.accept(messages.decode_batch(request.content))
            signed = messages.seal_acknowledgement(receipt, 1, stranger.acquirer_key)
            return httpx.Response(200, content=messages.encode(signed))

        with pytest.raises(AcknowledgementRefused):
            gateway_to(answer, store, terminal, scheme).send()
        assert store.acknowledged() == 0

    def test_an_earlier_one_played_back(
        self, store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
    ) -> None:
        first: list[bytes] = []

        def answer(request: httpx.Request) -> httpx.Response:
            if not first:
                first.append(messages.encode(clearing.accept(messages.decode_batch(request.content))))
            return httpx.Response(200, content=first[0])

        with pytest.raises(AcknowledgementRefused):
            gateway_to(answer, store, terminal, scheme).send()
        assert store.acknowledged() == 2


def test_rejected_rows_need_review(
    tmp_path: Path, scheme: Scheme, terminal: Terminal, clearing: Clearing, card: Card
) -> None:
    with journal_of(terminal, tmp_path / "other.sqlite") as store:  # without the card's certificate
        store.keep_payment(scheme.payment(card, terminal), SaleState.GRANTED, NOW)
        outcome = gateway_to(honest(clearing), store, terminal, scheme).send()
        assert (outcome.entries, outcome.rejected) == (1, 1)
        review = store.needs_review()
    assert [row.index for row in review] == [1]
    assert "certificate-missing" in review[0].reason


def test_an_old_copy_of_the_journal_locks(
    tmp_path: Path, scheme: Scheme, terminal: Terminal, clearing: Clearing, card: Card
) -> None:
    """Put back after more was sent: clearing's next answer tells; payments made since still arrive."""
    path = tmp_path / "journal.sqlite"
    with journal_of(terminal, path) as store:
        store.keep_certificate(card.digest, CardCertificate(card.raw_certificate, b""))
        store.keep_payment(scheme.payment(card, terminal, 100), SaleState.GRANTED, NOW)
        store.close()
    old = path.read_bytes()
    with journal_of(terminal, path) as store:
        store.keep_payment(scheme.payment(card, terminal, 100), SaleState.GRANTED, NOW)
        gateway_to(honest(clearing), store, terminal, scheme).send()
    path.write_bytes(old)
    with journal_of(terminal, path) as store:
        gateway_to(honest(clearing), store, terminal, scheme).send()
        assert store.locked is not None
        assert "old copy" in store.locked
    path.write_bytes(old)
    with journal_of(terminal, path) as store:  # it went on selling before it was online again
        store.keep_payment(scheme.payment(card, terminal, 7), SaleState.GRANTED, NOW)
        store.keep_payment(scheme.payment(card, terminal, 7), SaleState.GRANTED, NOW)
        gateway_to(honest(clearing), store, terminal, scheme, limits=Limits()).send()
        assert store.locked is not None
    report = clearing.report()
    assert report.conservation.payees_fen == 214
    assert {"behind", "fork"} <= {line.kind for line in report.evidence}


def test_damaged_entries_are_sent_as_such(
    tmp_path: Path, scheme: Scheme, terminal: Terminal, clearing: Clearing, card: Card
) -> None:
    import sqlite3

    path = tmp_path / "journal.sqlite"
    with journal_of(terminal, path) as store:
        store.keep_certificate(card.digest, CardCertificate(card.raw_certificate, b""))
        for _ in range(4):
            store.keep_payment(scheme.payment(card, terminal, 100), SaleState.GRANTED, NOW)
    database = sqlite3.connect(path)
    database.execute("DROP TRIGGER entries_are_never_changed")
    database.execute("UPDATE entries SET time_s = 5 WHERE idx = 2")
    database.execute("UPDATE entries SET payload = zeroblob(161) WHERE idx = 3")
    database.commit()
    database.close()
    with journal_of(terminal, path) as store:
        outcome = gateway_to(honest(clearing), store, terminal, scheme, limits=Limits()).send()
        assert (outcome.entries, outcome.rejected) == (4, 1)
        assert [row.index for row in store.needs_review()] == [3]
    assert clearing.report().conservation.payees_fen == 300


@pytest.mark.parametrize("url", ["", "clearing", "ftp://clearing", "http://", "http://[::1", "file:///etc"])
def test_a_bad_address_is_told(store: SqliteJournal, scheme: Scheme, terminal: Terminal, url: str) -> None:
    with pytest.raises(ClearingUnreachable, match="HOST:PORT"):
        Gateway(
            store,
            terminal.uploader,
            scheme.trust,
            url,
            clock=lambda: NOW,
            sleep=lambda _: None,
            entropy=Stream(""),
        )


def test_an_answer_that_drips_is_not_waited_for(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal
) -> None:
    seconds = iter(range(0, 1_000, 4))

    class Drip(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b" "

    sender = gateway_to(
        lambda _: httpx.Response(200, stream=Drip()),
        store,
        terminal,
        scheme,
        stopwatch=lambda: float(next(seconds)),
        backoff=Backoff(tries=2),
    )
    with pytest.raises(ClearingSlow):
        sender.send()


class TestExport:
    def test_what_waits_goes_by_file(
        self, tmp_path: Path, store: SqliteJournal, terminal: Terminal, clearing: Clearing
    ) -> None:
        path = tmp_path / "usb.jsonl"
        told = gateway.export(store, terminal.uploader, path, time_s=NOW, limits=Limits(entries=2))
        assert told == (3, 5)
        assert store.acknowledged() == 0
        read = gateway.read_export(path)
        assert [batch.first for batch in read] == [1, 3, 5]
        assert (len(read), read[-1].first, [batch.first for batch in read[1:]]) == (3, 5, [3, 5])
        for batch in read:
            clearing.accept(batch)
        assert clearing.report().payments == 5
        assert not list(tmp_path.glob("*.part"))

    def test_by_file_and_then_online_counts_once(
        self, tmp_path: Path, store: SqliteJournal, terminal: Terminal, clearing: Clearing, scheme: Scheme
    ) -> None:
        path = tmp_path / "usb.jsonl"
        gateway.export(store, terminal.uploader, path, time_s=NOW)
        for batch in gateway.read_export(path):
            clearing.accept(batch)
        gateway_to(honest(clearing), store, terminal, scheme).send()
        assert store.waiting().entries == 0
        assert store.locked is None
        assert clearing.report().payments == 5

    def test_it_cannot_be_altered(
        self, tmp_path: Path, store: SqliteJournal, terminal: Terminal, clearing: Clearing
    ) -> None:
        path = tmp_path / "usb.jsonl"
        gateway.export(store, terminal.uploader, path, time_s=NOW)
        fields = json.loads(path.read_bytes())
        fields["time_s"] += 1
        path.write_text(json.dumps(fields))
        with pytest.raises(Exception, match="altered"):
            clearing.accept(gateway.read_export(path)[0])

    def test_half_a_file_is_told(self, tmp_path: Path, store: SqliteJournal, terminal: Terminal) -> None:
        path = tmp_path / "usb.jsonl"
        gateway.export(store, terminal.uploader, path, time_s=NOW)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ExportFailed, match="altered"):
            gateway.read_export(path)

    def test_no_such_file_and_no_such_folder(
        self, tmp_path: Path, store: SqliteJournal, terminal: Terminal
    ) -> None:
        with pytest.raises(ExportFailed, match="cannot be read"):
            gateway.read_export(tmp_path / "none")
        with pytest.raises(ExportFailed, match="cannot be written"):
            gateway.export(store, terminal.uploader, tmp_path / "no" / "file", time_s=NOW)


class TestRetryAfter:
    """Clearing asks to be left alone: the gateway does so, within reason."""

    @pytest.mark.parametrize(
        ("header", "least_s", "most_s"),
        [("7", 7, 7), ("0", 0, 1), ("100000", 300, 300), ("soon", 0, 1), ("-5", 0, 1), ("²", 0, 1)],
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_it_is_honoured(
        self,
        store: SqliteJournal,
        scheme: Scheme,
        terminal: Terminal,
        header: str,
        least_s: float,
        most_s: float,
        status: int,
    ) -> None:
        slept = Slept()
        headers = [(b"retry-after", header.encode())]
        sender = gateway_to(
            lambda _: httpx.Response(status, headers=headers),
            store,
            terminal,
            scheme,
            sleep=slept,
            backoff=Backoff(tries=3, first_s=0.4),
        )
        with pytest.raises(ClearingFailed):
            sender.send()
        assert len(slept.waits_s) == 2
        assert all(least_s <= wait_s <= most_s for wait_s in slept.waits_s)

    def test_a_longer_backoff_stays(self, store: SqliteJournal, scheme: Scheme, terminal: Terminal) -> None:
        slept = Slept()
        sender = gateway_to(
            always(429, b"", **{"retry-after": "1"}),
            store,
            terminal,
            scheme,
            sleep=slept,
            backoff=Backoff(2, 40.0),
        )
        with pytest.raises(ClearingFailed):
            sender.send()
        assert slept.waits_s[0] >= 20

    def test_a_clearing_with_its_limit(
        self, store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
    ) -> None:
        """The service itself: one request in two seconds; three uploads get through, and nothing is lost."""
        ran_s = [0.0]
        waits_s: list[float] = []

        def sleep(wait_s: float) -> None:
            waits_s.append(wait_s)
            ran_s[0] += wait_s

        bounds = Bounds(signed_rate=0.5, signed_burst=1)
        service = InProcess(application(clearing, bounds, stopwatch=lambda: ran_s[0]))
        sender = gateway_to(
            always(500),  # never asked
            store,
            terminal,
            scheme,
            sleep=sleep,
            transport=service,
            entropy=lambda length: nonce()[-length:],
            backoff=Backoff(tries=2, first_s=0.001),
        )
        assert sender.send().entries == 5
        assert waits_s == [2, 2]
        assert clearing.report().payments == 5


def test_a_wrong_clock_is_told_and_nothing_is_tried_again(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
) -> None:
    slept = Slept()
    sender = gateway_to(
        always(500),
        store,
        terminal,
        scheme,
        sleep=slept,
        clock=lambda: NOW - 3_600,
        transport=InProcess(application(clearing)),
    )
    with pytest.raises(ClockWrong, match="clock of this machine is 1 h behind clearing's"):
        sender.send()
    assert (slept.waits_s, store.acknowledged(), store.locked) == ([], 0, None)


class TestBooksThatWerePutBack:
    """Clearing acknowledged entries and no longer holds them: the terminal sends them again."""

    def through(
        self, clearing: Clearing, store: SqliteJournal, terminal: Terminal, scheme: Scheme
    ) -> Gateway:
        return gateway_to(
            always(500),
            store,
            terminal,
            scheme,
            transport=InProcess(application(clearing)),
            entropy=lambda length: nonce()[-length:],
        )

    def test_what_is_lost_is_sent_again(
        self, store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing, card: Card
    ) -> None:
        def another() -> Clearing:
            return Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)

        backup, empty = another(), another()
        for whole in (clearing, backup):
            self.through(whole, store, terminal, scheme).send()
        kept = store.proof()
        assert messages.decode_acknowledgement(kept).highest == 5
        assert self.through(clearing, store, terminal, scheme).resend_lost() == 0
        store.keep_payment(scheme.payment(card, terminal, 100), SaleState.GRANTED, NOW)
        self.through(clearing, store, terminal, scheme).send()
        assert store.acknowledged() == 6
        for put_back, lost in ((empty, 6), (backup, 6)):
            gateway_now = self.through(put_back, store, terminal, scheme)
            assert gateway_now.resend_lost() == lost
            assert gateway_now.resend_lost() == 0
            assert put_back.report().payments == 6
            assert put_back.report().conservation == clearing.report().conservation
            assert "restored" in {line.kind for line in put_back.report().evidence}
        assert store.waiting().entries == 0
        assert store.locked is None

    def test_who_says_to_hold_more_is_not_believed(
        self, store: SqliteJournal, scheme: Scheme, terminal: Terminal
    ) -> None:
        """Only a signature locks a terminal."""
        store.acknowledge(*store.head())
        boasting = always(200, b'{"highest": 900, "gaps": []}')
        assert gateway_to(boasting, store, terminal, scheme).resend_lost() == 0
        assert store.locked is None

    @pytest.mark.parametrize(
        "answer", [b"", b"{}", b'{"highest": -1, "gaps": []}', b'{"highest": 1, "gaps": [[1]]}', b"<html>"]
    )
    def test_nonsense(self, store: SqliteJournal, scheme: Scheme, terminal: Terminal, answer: bytes) -> None:
        with pytest.raises(ClearingNonsense):
            gateway_to(always(200, answer), store, terminal, scheme).resend_lost()


def test_each_try_is_signed_anew(store: SqliteJournal, scheme: Scheme, terminal: Terminal) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(500)

    with pytest.raises(ClearingFailed):
        gateway_to(answer, store, terminal, scheme, backoff=Backoff(tries=3)).send()
    assert len(set(seen)) == 3


def test_a_client_that_was_closed_says_so(store: SqliteJournal, scheme: Scheme, terminal: Terminal) -> None:
    sender = gateway_to(always(200), store, terminal, scheme)
    sender.close()
    with pytest.raises(ClearingUnreachable, match="closed"):
        sender.client.held()


def test_a_proof_that_is_not_taken_keeps_nothing_back(
    store: SqliteJournal, scheme: Scheme, terminal: Terminal, clearing: Clearing
) -> None:
    """Signed with a key that is revoked by now, say: the entries are sent again all the same."""
    gateway_to(honest(clearing), store, terminal, scheme).send()
    put_back = Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)
    service = InProcess(application(put_back))

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/lost":
            return httpx.Response(422, content=b'{"error":{"code":"signature","message":"not ours"}}')
        return service.handle_request(request)

    sender = gateway_to(answer, store, terminal, scheme, entropy=lambda length: nonce()[-length:])
    assert sender.resend_lost() == 5
    assert put_back.report().payments == 5
