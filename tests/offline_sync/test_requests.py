"""Who may ask what of clearing: signatures, time, replay, roles, rates, sizes; and what is logged of it."""

import logging
import random
import struct
from base64 import urlsafe_b64decode
from dataclasses import replace
from hashlib import sha256

import httpx
import pytest

from hardwallet import authorities, certificates
from hardwallet.certificates import CLASS_ACQUIRING, Certificate
from hardwallet.suites import GM, suite_by_number
from offline_sync import messages
from offline_sync.clearing import Clearing
from offline_sync.clearing.description import EVERY
from offline_sync.clearing.rates import Rates
from offline_sync.clearing.routes import OCTETS, Operation
from offline_sync.clearing.service import Bounds, application
from offline_sync.errors import ClearingRefused, ClockWrong, RequestRefused
from offline_sync.requests import (
    OPERATOR_REQUEST,
    TERMINAL_REQUEST,
    WINDOW_S,
    Nonces,
    OperatorSigner,
    Signer,
    TerminalSigner,
    parse_authorization,
)
from tests.hardwallet import openssl_command as openssl
from tests.hardwallet import protocol_page
from tests.offline_sync.asking import (
    InProcess,
    acquirer_signer,
    client_of,
    issuer_signer,
    nonce,
    signed,
    terminal_signer,
)
from tests.offline_sync.factory import ACQUIRER, NOW, YEAR, Scheme, Stream, Terminal
from tests.offline_sync.test_clearing import Till, own

GENEROUS = Bounds(signed_rate=1e6, signed_burst=10**6, unsigned_rate=1e6, unsigned_burst=10**6)


class Clocks:
    """The clock and the stopwatch of a clearing."""

    def __init__(self) -> None:
        self.time_s = NOW
        self.ran_s = 0.0

    def clock(self) -> int:
        return self.time_s

    def stopwatch(self) -> float:
        return self.ran_s


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def clearing(scheme: Scheme, clocks: Clocks) -> Clearing:
    return Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, clocks.clock)


@pytest.fixture
def service(clearing: Clearing, clocks: Clocks) -> InProcess:
    return InProcess(application(clearing, GENEROUS, stopwatch=clocks.stopwatch))


@pytest.fixture
def shop(scheme: Scheme) -> Terminal:
    return scheme.terminal(1, 1, retail=True)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, messages.decode_refusal(response.content).error.code


def upload_of(scheme: Scheme, shop: Terminal) -> bytes:
    card = scheme.card(7)
    return messages.encode(Till(shop, [card]).add(own(scheme.payment(card, shop, 500))).batch())


# ------------------------------------------------------------------------------------------ the signature


@pytest.mark.parametrize(
    ("kind", "method", "path", "content"),
    [
        (TERMINAL_REQUEST, "POST", "/v1/batches", b"anything"),
        (TERMINAL_REQUEST, "GET", "/v1/denylist?operator=00000011&from=0", b""),
        (OPERATOR_REQUEST, "GET", "/v1/report", b""),
    ],
)
@pytest.mark.needs("openssl")
def test_what_is_signed_is_what_the_page_says(
    scheme: Scheme, shop: Terminal, kind: int, method: str, path: str, content: bytes
) -> None:
    """Put together by hand, and verified by openssl."""
    signer = terminal_signer(shop) if kind == TERMINAL_REQUEST else acquirer_signer(scheme)
    request = signed(signer, method, path, content)
    word, _, parts = request.headers["authorization"].partition(" ")
    certificate, time, number, signature = (
        urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts.split(".")
    )
    assert (word, certificate, time) == ("HardWallet", signer.certificate.to_bytes(), struct.pack(">I", NOW))
    message = (
        bytes((kind, 1, 1, 0))
        + scheme.scheme
        + sha256(certificate[:98]).digest()[:8]
        + time
        + number
        + sha256(f"{method} {path}".encode()).digest()
        + sha256(content).digest()
    )
    assert len(message) == 100
    assert openssl.verifies(certificate[34:98], signature, message)


def test_its_types_are_on_the_page_of_all_types() -> None:
    told = protocol_page.signed_types()
    assert "HTTP request" in told[f"{TERMINAL_REQUEST:02X}"]
    assert "HTTP request" in told[f"{OPERATOR_REQUEST:02X}"]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic dXNlcjpwYXNz",
        "Bearer x",
        "HardWallet",
        "HardWallet a.b.c.d",
        "HardWallet " + "A" * 10_000,
        f"HardWallet {'A' * 216}.{'A' * 6}.{'A' * 22}",
        f"HardWallet {'A' * 216}.{'A' * 6}.{'A' * 22}.{'A' * 86}.x",
        f"HardWallet {'A' * 216}.{'A' * 5}B.{'A' * 22}.{'A' * 86}",
        f"HardWallet {'A' * 216}.{'A' * 6}.{'A' * 22}.{'é' * 86}",
        f"HardWallet {'A' * 216}.{'A' * 6}.{'A' * 22}.{'+' * 86}",
    ],
)
def test_what_is_no_authorization(header: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        parse_authorization(header or None)
    assert refusal.value.code == "unsigned"


def test_the_word_may_be_written_in_any_case() -> None:
    assert parse_authorization(f"hardwallet {'A' * 216}.{'A' * 6}.{'A' * 22}.{'A' * 86}").time_s == 0


class TestEachIsAnsweredOnlyToWhoeverMayAsk:
    @pytest.mark.parametrize("operation", EVERY, ids=lambda one: one.name)
    def test_unsigned(self, service: InProcess, operation: Operation) -> None:
        response = service.ask(None, operation.method, path_of(operation))
        if operation.roles:
            assert code_of(response) == (401, "unsigned")
            assert response.headers["www-authenticate"] == "HardWallet"
        else:
            assert response.status_code == 200

    @pytest.mark.parametrize("operation", EVERY, ids=lambda one: one.name)
    @pytest.mark.parametrize("role", ["terminal", "issuer", "acquirer"])
    def test_by_role(
        self, service: InProcess, scheme: Scheme, shop: Terminal, operation: Operation, role: str
    ) -> None:
        response = service.ask(signer_of(role, scheme, shop), operation.method, path_of(operation, shop))
        may = not operation.roles or role in {one.value for one in operation.roles}
        if may:
            assert response.status_code not in (401, 403), response.text
        else:
            assert code_of(response) == (403, "role")

    def test_a_terminal_reads_no_report_and_publishes_nothing(
        self, service: InProcess, shop: Terminal
    ) -> None:
        """Said once in plain words: the table could be wrong, too."""
        for method, path in (
            ("GET", "/v1/report"),
            ("POST", "/v1/denylist"),
            ("POST", "/v1/orders"),
            ("POST", "/v1/authorities"),
            ("POST", "/v1/loads"),
            ("GET", "/v1/disputes"),
            ("GET", "/v1/owed?card=0000001100000007"),
        ):
            assert code_of(service.ask(terminal_signer(shop), method, path)) == (403, "role")

    def test_an_operator_uploads_nothing(self, service: InProcess, scheme: Scheme) -> None:
        assert code_of(service.ask(acquirer_signer(scheme), "POST", "/v1/batches")) == (403, "role")

    def test_an_issuer_asks_for_its_own_cards_only(self, service: InProcess, scheme: Scheme) -> None:
        for path in ("/v1/arrived?card=", "/v1/owed?card="):
            assert service.ask(issuer_signer(scheme), "GET", path + "0000001100000007").status_code == 200
            other = service.ask(issuer_signer(scheme), "GET", path + "0000009900000007")
            assert code_of(other) == (403, "role")

    def test_an_acquirer_that_is_not_served_here(self, scheme: Scheme, clocks: Clocks) -> None:
        key = scheme.suite.new_signing_key(Stream("another acquirer"))
        other = scheme.operator(bytes.fromhex("00000033"), CLASS_ACQUIRING, key)
        trust = certificates.TrustBundle(scheme.suite, scheme.root, [scheme.issuer, scheme.acquirer, other])
        clearing = Clearing("sqlite://", trust, {ACQUIRER: scheme.acquirer_key}, clocks.clock)
        service = InProcess(application(clearing, GENEROUS, stopwatch=clocks.stopwatch))
        signer = OperatorSigner(scheme.suite, other, key)
        assert code_of(service.ask(signer, "GET", "/v1/report")) == (403, "role")
        assert code_of(service.ask(signer, "GET", "/v1/settlements")) == (403, "role")

    def test_a_terminal_gets_its_own_payees_settlement_only(
        self, service: InProcess, scheme: Scheme, shop: Terminal
    ) -> None:
        own_payee, other = shop.payee.hex(), "0000002200000063"
        signer = terminal_signer(shop)
        assert code_of(service.ask(signer, "GET", f"/v1/settlements/1/{own_payee}")) == (404, "not-found")
        assert code_of(service.ask(signer, "GET", f"/v1/settlements/1/{other}")) == (403, "role")

    def test_a_terminal_shows_its_own_acknowledgements_only(
        self, service: InProcess, scheme: Scheme, shop: Terminal
    ) -> None:
        receipt = service.ask(terminal_signer(shop), "POST", "/v1/batches", upload_of(scheme, shop)).content
        body = b'{"acknowledgements":[' + receipt + b"]}"
        own_answer = service.ask(terminal_signer(shop), "POST", "/v1/lost", body)
        assert (own_answer.status_code, own_answer.json()) == (200, {"lost": 0})
        other = terminal_signer(scheme.terminal(2, 1))
        assert code_of(service.ask(other, "POST", "/v1/lost", body)) == (403, "role")


def path_of(operation: Operation, shop: Terminal | None = None) -> str:
    """The path with parameters that fit."""
    values = {
        "card": "0000001100000007",
        "operator": "00000011",
        "digest": "ab" * 32,
        "number": "1",
        "payee": "0000002200000001",
    }
    path = operation.path.format(**values)
    query = "&".join(
        f"{one.name}={values[one.name]}"
        for one in operation.parameters
        if one.place == "query" and one.default is None
    )
    return f"{path}?{query}" if query else path


def signer_of(role: str, scheme: Scheme, shop: Terminal) -> Signer:
    if role == "terminal":
        return terminal_signer(shop)
    return issuer_signer(scheme) if role == "issuer" else acquirer_signer(scheme)


class TestAlteredOnTheWay:
    """A request that was captured, and what somebody makes of it."""

    @pytest.fixture
    def captured(self, scheme: Scheme, shop: Terminal) -> httpx.Request:
        return signed(terminal_signer(shop), "POST", "/v1/batches", upload_of(scheme, shop))

    def test_as_it_is(self, service: InProcess, captured: httpx.Request) -> None:
        assert service.handle_request(captured).status_code == 200

    def test_played_again(self, service: InProcess, captured: httpx.Request, clearing: Clearing) -> None:
        assert service.handle_request(captured).status_code == 200
        assert code_of(service.handle_request(captured)) == (401, "replayed")
        assert clearing.report().payments == 1

    def test_played_again_within_the_window_and_after_it(
        self, service: InProcess, captured: httpx.Request, clocks: Clocks, shop: Terminal
    ) -> None:
        assert service.handle_request(captured).status_code == 200
        for later_s, code in ((WINDOW_S, "replayed"), (WINDOW_S + 1, "clock"), (10 * WINDOW_S, "clock")):
            clocks.time_s = NOW + later_s
            assert code_of(service.handle_request(captured)) == (401, code)
        assert service.ask(terminal_signer(shop), "GET", "/v1/held", time_s=clocks.time_s).status_code == 200
        # The clock goes back: what was forgotten by then is not believed to be new.
        clocks.time_s = NOW
        assert code_of(service.handle_request(captured)) == (401, "clock")

    @pytest.mark.parametrize("place", [0, 10, -1])
    def test_another_body(self, service: InProcess, captured: httpx.Request, place: int) -> None:
        body = bytearray(captured.content)
        body[place] ^= 1
        altered = httpx.Request("POST", captured.url, headers=headers_of(captured), content=bytes(body))
        assert code_of(service.handle_request(altered)) == (401, "signature")

    def test_another_query(self, service: InProcess, scheme: Scheme) -> None:
        asked = signed(issuer_signer(scheme), "GET", "/v1/arrived?card=0000001100000007")
        for path in ("/v1/arrived?card=0000001100000008", "/v1/arrived?card=0000001100000007&x=1"):
            altered = httpx.Request("GET", "http://clearing" + path, headers=headers_of(asked))
            assert code_of(service.handle_request(altered)) == (401, "signature")

    def test_another_path(self, service: InProcess, scheme: Scheme) -> None:
        asked = signed(issuer_signer(scheme), "GET", "/v1/arrived?card=0000001100000007")
        altered = httpx.Request(
            "GET", "http://clearing/v1/owed?card=0000001100000007", headers=headers_of(asked)
        )
        assert code_of(service.handle_request(altered)) == (401, "signature")

    def test_another_method(self, service: InProcess, scheme: Scheme) -> None:
        asked = signed(issuer_signer(scheme), "GET", "/v1/orders")
        altered = httpx.Request("POST", asked.url, headers=headers_of(asked))
        assert code_of(service.handle_request(altered)) == (401, "signature")

    @pytest.mark.parametrize("part", [1, 2, 3])
    def test_another_time_nonce_or_signature(
        self, service: InProcess, captured: httpx.Request, part: int
    ) -> None:
        parts = captured.headers["authorization"].split(".")
        first = parts[part][2]
        parts[part] = parts[part][:2] + ("A" if first != "A" else "B") + parts[part][3:]
        headers = headers_of(captured) | {"authorization": ".".join(parts)}
        altered = httpx.Request("POST", captured.url, headers=headers, content=captured.content)
        assert service.handle_request(altered).status_code == 401

    def test_two_signatures(self, service: InProcess, captured: httpx.Request) -> None:
        value = captured.headers["authorization"]
        headers = [("authorization", value), ("authorization", value), ("content-type", "application/json")]
        altered = httpx.Request("POST", captured.url, headers=headers, content=captured.content)
        assert code_of(service.handle_request(altered)) == (401, "unsigned")

    def test_the_certificate_of_another_terminal(
        self, service: InProcess, scheme: Scheme, shop: Terminal
    ) -> None:
        other = scheme.terminal(2, 1)
        forged = TerminalSigner(scheme.suite, other.uploader.certificate, shop.uploader.key)
        assert code_of(service.ask(forged, "GET", "/v1/held")) == (401, "signature")

    def test_a_terminal_that_signs_as_an_operator_does(self, service: InProcess, shop: Terminal) -> None:
        signer = OperatorSigner(shop.uploader.suite, shop.uploader.certificate, shop.uploader.key)
        assert code_of(service.ask(signer, "GET", "/v1/held")) == (401, "signature")


def headers_of(request: httpx.Request) -> dict[str, str]:
    return {
        name: request.headers[name] for name in ("authorization", "content-type") if name in request.headers
    }


class TestCertificates:
    def test_of_another_scheme(self, service: InProcess) -> None:
        other = Scheme(seed="other", scheme=bytes.fromhex("0badcafe"))
        for signer in (terminal_signer(other.terminal(1, 1)), acquirer_signer(other)):
            assert code_of(service.ask(signer, "GET", "/v1/authorities")) == (401, "certificate")

    def test_of_a_scheme_that_gives_itself_the_same_number(self, service: InProcess) -> None:
        other = Scheme(seed="impostor")
        for signer in (terminal_signer(other.terminal(1, 1)), acquirer_signer(other)):
            assert code_of(service.ask(signer, "GET", "/v1/authorities")) == (401, "certificate")

    def test_of_a_card(self, service: InProcess, scheme: Scheme) -> None:
        card = scheme.card(9)
        body = cut_to_a_terminals(card.certificate)
        signer = TerminalSigner(scheme.suite, body, card.key)
        assert service.ask(signer, "GET", "/v1/held").status_code == 401

    def test_expired_not_valid_yet(self, service: InProcess, scheme: Scheme, clocks: Clocks) -> None:
        fresh = terminal_signer(scheme.terminal(3, 1))
        assert service.ask(fresh, "GET", "/v1/held").status_code == 200
        early = terminal_signer(scheme.terminal(3, 2, not_before=NOW + 10))
        assert code_of(service.ask(early, "GET", "/v1/held")) == (401, "certificate")
        clocks.time_s = NOW + 3 * YEAR + 1
        late = service.ask(fresh, "GET", "/v1/held", time_s=clocks.time_s)
        assert code_of(late) == (401, "certificate")
        assert "renewed" in late.text

    def test_revoked(self, scheme: Scheme, clocks: Clocks) -> None:
        """An authority list that is published takes effect at once, also for chains that verified before."""
        key = scheme.suite.new_signing_key(Stream("next acquirer"))
        newer = scheme.certificate(
            *(certificates.OPERATOR, CLASS_ACQUIRING | certificates.CLASS_BESIDE, bytes(4)),
            *(ACQUIRER + bytes(8), key, scheme.root_key),
            not_before=NOW - 1,
        )
        trust = certificates.TrustBundle(scheme.suite, scheme.root, [scheme.issuer, scheme.acquirer])
        clearing = Clearing("sqlite://", trust, {ACQUIRER: scheme.acquirer_key}, clocks.clock)
        service = InProcess(application(clearing, GENEROUS, stopwatch=clocks.stopwatch))
        shop, operator = terminal_signer(scheme.terminal(4, 1)), acquirer_signer(scheme)
        for signer in (shop, operator):
            assert service.ask(signer, "GET", "/v1/authorities").status_code == 204
        revoked = {certificates.digest(scheme.suite, scheme.acquirer): NOW}
        listed = [scheme.issuer, scheme.acquirer, newer]
        raw = authorities.build(trust, 1, NOW, listed, revoked, scheme.root_key)
        answer = service.ask(issuer_signer(scheme), "POST", "/v1/authorities", raw, media=OCTETS)
        assert (answer.status_code, answer.json()) == (200, {"new": 1})
        for signer in (shop, operator):
            assert code_of(service.ask(signer, "GET", "/v1/authorities")) == (401, "certificate")
        renewed = OperatorSigner(scheme.suite, newer, key)
        assert service.ask(renewed, "GET", "/v1/authorities").content == raw


def cut_to_a_terminals(card: Certificate) -> Certificate:
    """A card's certificate cut to the length of a terminal's."""
    return replace(card, agreement_digest=b"")


class TestTheOtherSuite:
    """The same in SM2 and SM3; and neither suite's requests are taken in the other's scheme."""

    @pytest.fixture(scope="class")
    def gm(self) -> Scheme:
        return Scheme(seed="gm", suite=suite_by_number(GM))

    def service_of(self, scheme: Scheme) -> InProcess:
        clearing = Clearing("sqlite://", scheme.trust, {ACQUIRER: scheme.acquirer_key}, lambda: NOW)
        return InProcess(application(clearing, GENEROUS))

    def test_its_own(self, gm: Scheme) -> None:
        service, shop = self.service_of(gm), gm.terminal(1, 1, retail=True)
        raw = upload_of(gm, shop)
        request = signed(terminal_signer(shop), "POST", "/v1/batches", raw)
        assert service.handle_request(request).status_code == 200
        assert code_of(service.handle_request(request)) == (401, "replayed")
        altered = httpx.Request("POST", request.url, headers=headers_of(request), content=raw + b" ")
        assert code_of(service.handle_request(altered)) == (401, "signature")
        with client_of(service, acquirer_signer(gm)) as operator:
            assert operator.report().payments == 1

    def test_each_others(self, gm: Scheme, scheme: Scheme) -> None:
        for here, there in ((gm, scheme), (scheme, gm)):
            service = self.service_of(here)
            for signer in (terminal_signer(there.terminal(1, 1)), issuer_signer(there)):
                assert code_of(service.ask(signer, "GET", "/v1/authorities")) == (401, "certificate")


class TestTheClock:
    @pytest.mark.parametrize("apart_s", [-WINDOW_S, -1, 0, 1, WINDOW_S])
    def test_a_little_wrong_is_right(self, service: InProcess, shop: Terminal, apart_s: int) -> None:
        assert service.ask(terminal_signer(shop), "GET", "/v1/held", time_s=NOW + apart_s).status_code == 200

    @pytest.mark.parametrize(
        ("apart_s", "words"),
        [
            (-3_600, "1 h behind clearing's"),
            (3_600, "1 h ahead of clearing's"),
            (WINDOW_S + 1, "5 min ahead of clearing's"),
            (-2 * 86_400 - 60, "2 d 1 min behind clearing's"),
        ],
    )
    def test_wrong_is_told_in_words(
        self, service: InProcess, shop: Terminal, apart_s: int, words: str
    ) -> None:
        response = service.ask(terminal_signer(shop), "GET", "/v1/held", time_s=NOW + apart_s)
        assert code_of(response) == (401, "clock")
        assert words in response.text
        assert "2026-09-21 14:13 UTC; set it right" in response.text

    def test_the_client_has_an_error_for_it(self, service: InProcess, shop: Terminal) -> None:
        with client_of(service, terminal_signer(shop), NOW - 3_600) as client:
            with pytest.raises(ClockWrong, match="1 h behind clearing's") as refusal:
                client.held()
            assert isinstance(refusal.value, ClearingRefused)


class TestNonces:
    def test_they_are_forgotten_when_they_no_longer_matter(self) -> None:
        nonces = Nonces()
        for second in range(0, 2_000, 10):
            nonces.forget(NOW + second)
            nonces.keep(bytes(8), nonce(), NOW + second)
            assert len(nonces) <= (WINDOW_S + 120) // 10
        assert len(nonces) > WINDOW_S // 10

    def test_none_is_forgotten_within_the_window(self) -> None:
        nonces = Nonces()
        kept = [(nonce(), NOW + second) for second in range(0, 1_000, 7)]
        for number, time_s in kept:
            nonces.keep(bytes(8), number, time_s)
        for now in range(NOW, NOW + 1_000, 13):
            nonces.forget(now)
            assert all(
                nonces.seen(bytes(8), number, time_s) for number, time_s in kept if time_s >= now - WINDOW_S
            )
            assert not any(nonces.is_forgotten(time_s) for _, time_s in kept if time_s >= now - WINDOW_S)

    def test_each_certificate_has_its_own(self) -> None:
        nonces = Nonces()
        nonces.keep(bytes(8), bytes(16), NOW)
        assert not nonces.seen(bytes(7) + b"\x01", bytes(16), NOW)

    def test_more_than_can_be_remembered_are_not_answered(
        self, clearing: Clearing, shop: Terminal, clocks: Clocks
    ) -> None:
        bounds = Bounds(signed_rate=1e6, signed_burst=10**6, nonces=3)
        service = InProcess(application(clearing, bounds, stopwatch=clocks.stopwatch))
        for _ in range(3):
            assert service.ask(terminal_signer(shop), "GET", "/v1/held").status_code == 200
        response = service.ask(terminal_signer(shop), "GET", "/v1/held")
        assert code_of(response) == (503, "busy")
        assert int(response.headers["retry-after"]) > 0
        clocks.time_s += WINDOW_S + 120
        again = service.ask(terminal_signer(shop), "GET", "/v1/held", time_s=clocks.time_s)
        assert again.status_code == 200


class TestRates:
    def test_a_bucket_fills_again(self) -> None:
        clocks = Clocks()
        rates = Rates(2.0, 3, clocks.stopwatch)
        assert [rates.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
        assert rates.take("b") == 0
        clocks.ran_s = 0.25
        assert rates.take("a") == pytest.approx(0.25)
        clocks.ran_s = 0.5
        assert [rates.take("a"), rates.take("a")] == [0, pytest.approx(0.5)]
        clocks.ran_s = 1_000
        assert [rates.take("a") for _ in range(4)] == [0, 0, 0, 0.5]

    def test_of_too_many_the_longest_unused_are_forgotten(self) -> None:
        rates = Rates(1.0, 1, Clocks().stopwatch, capacity=2)
        for name in ("a", "b", "a", "c"):
            rates.take(name)
        assert [rates.wait_s(name) for name in ("a", "c")] == [1, 1]
        assert rates.wait_s("b") == 0

    @pytest.fixture
    def narrow(self, clearing: Clearing, clocks: Clocks) -> InProcess:
        bounds = Bounds(signed_rate=0.5, signed_burst=2, unsigned_rate=0.25, unsigned_burst=2)
        return InProcess(application(clearing, bounds, stopwatch=clocks.stopwatch))

    def test_each_terminal_has_its_own(
        self, narrow: InProcess, scheme: Scheme, shop: Terminal, clocks: Clocks
    ) -> None:
        signer, other = terminal_signer(shop), terminal_signer(scheme.terminal(2, 1))
        answers = [narrow.ask(signer, "GET", "/v1/held") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert code_of(answers[2]) == (429, "rate")
        assert answers[2].headers["retry-after"] == "2"
        assert narrow.ask(other, "GET", "/v1/held").status_code == 200
        clocks.ran_s += 2
        assert narrow.ask(signer, "GET", "/v1/held").status_code == 200

    def test_one_that_was_refused_for_its_rate_is_no_replay_when_it_comes_again(
        self, narrow: InProcess, shop: Terminal, clocks: Clocks
    ) -> None:
        for _ in range(2):
            narrow.ask(terminal_signer(shop), "GET", "/v1/held")
        request = signed(terminal_signer(shop), "GET", "/v1/held")
        assert narrow.handle_request(request).status_code == 429
        clocks.ran_s += 2
        assert narrow.handle_request(request).status_code == 200
        assert code_of(narrow.handle_request(request)) == (401, "replayed")

    @pytest.mark.parametrize("path", ["/v1/health", "/openapi.json", "/v1/report", "/nowhere"])
    def test_who_does_not_sign_has_little(self, narrow: InProcess, path: str) -> None:
        answers = [narrow.ask(None, "GET", path).status_code for _ in range(3)]
        assert answers[2] == 429
        assert 429 not in answers[:2]

    def test_those_who_do_not_sign_keep_nobody_else_away(
        self, narrow: InProcess, clearing: Clearing, shop: Terminal
    ) -> None:
        """Nor do those who play somebody's requests again, or forge them."""
        signer = terminal_signer(shop)
        request = signed(signer, "GET", "/v1/held")
        assert narrow.handle_request(request).status_code == 200
        for _ in range(5):
            narrow.handle_request(request)
            narrow.ask(None, "GET", "/v1/held")
        assert narrow.handle_request(request).status_code == 429
        assert narrow.ask(signer, "GET", "/v1/held").status_code == 200


class TestSizes:
    @pytest.mark.parametrize("operation", EVERY, ids=lambda one: one.name)
    def test_no_body_is_read_beyond_its_limit(
        self, service: InProcess, scheme: Scheme, shop: Terminal, operation: Operation
    ) -> None:
        role = next(iter(sorted(one.value for one in operation.roles)), "terminal")
        signer = signer_of(role, scheme, shop)
        media = operation.body_media
        body = b" " * (operation.limit_bytes + 1)
        response = service.ask(signer, operation.method, path_of(operation), body, media=media)
        assert code_of(response) == (413, "too-long")

    def test_a_length_that_lies(self, service: InProcess, scheme: Scheme, shop: Terminal) -> None:
        raw = upload_of(scheme, shop)
        for length in ("0", "1", "99999999999999999999999999", "-1", "x", "²"):
            request = signed(terminal_signer(shop), "POST", "/v1/batches", raw)
            request.headers["content-length"] = length.encode("latin-1").decode("latin-1")
            assert service.handle_request(request).status_code in (200, 413)

    @pytest.mark.parametrize("length", [None, "0", "10"])
    def test_a_body_that_is_longer_than_it_says(
        self, service: InProcess, shop: Terminal, length: str | None
    ) -> None:
        body = b" " * (messages.MAX_BATCH_BYTES + 1)
        request = signed(terminal_signer(shop), "POST", "/v1/batches", body)
        del request.headers["content-length"]
        if length is not None:
            request.headers["content-length"] = length
        assert code_of(service.handle_request(request)) == (413, "too-long")

    def test_all_bodies_together_are_bounded(
        self, clearing: Clearing, scheme: Scheme, shop: Terminal, clocks: Clocks
    ) -> None:
        raw = upload_of(scheme, shop)
        bounds = Bounds(bodies_bytes=len(raw) - 1)
        service = InProcess(application(clearing, bounds, stopwatch=clocks.stopwatch))
        response = service.ask(terminal_signer(shop), "POST", "/v1/batches", raw)
        assert code_of(response) == (503, "busy")
        assert response.headers["retry-after"] == "5"
        just_fits = InProcess(
            application(clearing, Bounds(bodies_bytes=len(raw)), stopwatch=clocks.stopwatch)
        )
        for _ in range(3):  # what was held is let go each time
            assert just_fits.ask(terminal_signer(shop), "POST", "/v1/batches", raw).status_code == 200

    @pytest.mark.parametrize(
        "headers", [{"media": "text/plain"}, {"media": ""}, {"content-encoding": "gzip"}]
    )
    def test_another_kind_of_body(
        self, service: InProcess, scheme: Scheme, shop: Terminal, headers: dict[str, str]
    ) -> None:
        response = service.ask(
            terminal_signer(shop), "POST", "/v1/batches", upload_of(scheme, shop), **headers
        )
        assert code_of(response) == (415, "content-type")

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/owed",
            "/v1/owed?card=",
            "/v1/owed?card=0000001100000007&card=0000001100000007",
            "/v1/owed?card=000000110000000G",
            "/v1/owed?card=00000011000000070",
            "/v1/owed?card=0000001100000007&more=1",
            "/v1/denylist?operator=00000011&from=-1",
            "/v1/denylist?operator=00000011&from=99999999999",
            "/v1/denylist?from=1",
            "/v1/denylist?operator=00000011&from=%D9%A1",
            "/v1/disputes?after=abc",
            "/v1/disputes/abc",
            "/v1/report?x",
        ],
    )
    def test_parameters_have_their_form(self, service: InProcess, scheme: Scheme, path: str) -> None:
        response = service.ask(issuer_signer(scheme), "GET", path)
        assert code_of(response) == (400, "parameter")


class TestGarbage:
    """Whatever comes, the answer is a refusal in JSON."""

    def test_random_requests(self, service: InProcess, scheme: Scheme, shop: Terminal) -> None:
        chance = random.Random(20260921)
        seen: set[int] = set()
        for _ in range(400):
            request = garbled(chance, scheme, shop)
            response = service.handle_request(request)
            seen.add(response.status_code)
            assert response.status_code < 500, (request.method, request.url, response.text)
            assert "Traceback" not in response.text
            if response.status_code >= 400 and request.method != "HEAD":
                assert messages.decode_refusal(response.content).error.code
        assert {200, 400, 401, 403, 404, 405, 413, 415} <= seen

    @pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "X"])
    def test_methods(self, service: InProcess, method: str) -> None:
        response = service.ask(None, method, "/v1/report")
        assert (response.status_code, response.headers["allow"]) == (405, "GET")

    @pytest.mark.parametrize("path", ["/v1/report/", "//v1/report", "/v1/REPORT", "/v1/report%2f", "/v1"])
    def test_paths(self, service: InProcess, scheme: Scheme, path: str) -> None:
        assert code_of(service.ask(acquirer_signer(scheme), "GET", path)) == (404, "not-found")

    def test_a_defect_is_told_without_its_insides(
        self,
        service: InProcess,
        clearing: Clearing,
        scheme: Scheme,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def broken() -> None:
            raise ValueError("card 0000001100000007 has the key 1234")

        monkeypatch.setattr(clearing, "report", broken)
        with caplog.at_level(logging.DEBUG):
            response = service.ask(acquirer_signer(scheme), "GET", "/v1/report")
        assert code_of(response) == (500, "failed")
        assert "1234" not in response.text + caplog.text
        assert "ValueError in report" in caplog.text


def garbled(chance: random.Random, scheme: Scheme, shop: Terminal) -> httpx.Request:
    """A request with something wrong, or several things, or nothing."""
    operation = chance.choice(EVERY)
    method, path = operation.method, path_of(operation)
    if chance.random() < 0.2:
        method = chance.choice(["GET", "POST", "PUT", "HEAD", "FOO"])
    if chance.random() < 0.3:
        others = [path + "?x=%00", path + "/..", path + "&&=", "/%ff%fe", path.upper(), "/" + path]
        path = chance.choice(others)
    body = chance.choice([b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"a":' * 500, chance.randbytes(300)])
    if chance.random() < 0.1:
        body = b"0" * (operation.limit_bytes + 1) if operation.limit_bytes < 2**20 else body
    media = chance.choice(["application/json", operation.body_media, "text/html; \xff", "a" * 500, ""])
    signer = signer_of(chance.choice(["terminal", "issuer", "acquirer"]), scheme, shop)
    time_s = NOW if chance.random() < 0.9 else chance.randrange(2**32)
    headers = [(b"content-type", media.encode("latin-1"))]
    request = httpx.Request(method, "http://clearing" + path, content=body, headers=headers)
    value = signer.authorization(method, request.url.raw_path, body, time_s, nonce())
    fate = chance.random()
    if fate < 0.2:
        place = chance.randrange(len(value))
        value = value[:place] + chr(chance.randrange(32, 256)) + value[place + 1 :]
    elif fate < 0.25:
        value = value[: chance.randrange(len(value))]
    if fate < 0.95:
        headers.append((b"authorization", value.encode("latin-1")))
    return httpx.Request(method, request.url, content=body, headers=headers)


class TestLogs:
    def test_they_tell_who_asked_what_and_nothing_else(
        self,
        service: InProcess,
        scheme: Scheme,
        shop: Terminal,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        raw, card = upload_of(scheme, shop), "0000001100000007"
        with caplog.at_level(logging.DEBUG):
            service.ask(terminal_signer(shop), "POST", "/v1/batches", raw)
            service.ask(issuer_signer(scheme), "GET", f"/v1/owed?card={card}")
            service.ask(terminal_signer(shop), "GET", f"/v1/settlements/1/{shop.payee.hex()}")
            service.ask(acquirer_signer(scheme), "GET", f"/v1/owed?card={card}")
            service.ask(None, "GET", "/v1/report")
            service.ask(terminal_signer(shop), "POST", "/v1/batches", raw[:-10])
        lines = [record.getMessage() for record in caplog.records if record.name.startswith("offline_sync")]
        assert [without_time(line) for line in lines] == [
            "POST /v1/batches 200 terminal 0000002200000001:00000001",
            "GET /v1/owed 200 operator 00000011",
            "GET /v1/settlements/{number}/{payee} 404 terminal 0000002200000001:00000001",
            "GET /v1/owed 403 -",
            "GET /v1/report 401 -",
            "POST /v1/batches 400 terminal 0000002200000001:00000001",
        ]
        for secret in (card, "0000000000000007", shop.uploader.key.scalar().hex(), "HardWallet "):
            assert secret not in caplog.text

    def test_random_requests_leave_no_card_and_no_signature(
        self, service: InProcess, scheme: Scheme, shop: Terminal, caplog: pytest.LogCaptureFixture
    ) -> None:
        chance = random.Random(5)
        with caplog.at_level(logging.DEBUG):
            for _ in range(100):
                service.handle_request(garbled(chance, scheme, shop))
        text = "\n".join(record.getMessage() for record in caplog.records if record.name != "asyncio")
        assert text
        for secret in ("0000001100000007", "HardWallet", "Traceback"):
            assert secret not in text


def without_time(line: str) -> str:
    words = line.split()
    return " ".join(word for at, word in enumerate(words) if at not in (3, 4))
