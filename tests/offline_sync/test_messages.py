"""Uploads and acknowledgements: their JSON, the signed bytes, and every way to alter them."""

import json
import struct
from base64 import b64encode
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from hardwallet import certificates
from hardwallet.errors import SignatureInvalid
from offline_sync import chain, messages
from offline_sync.chain import Entry, Kind
from offline_sync.errors import AcknowledgementRefused, MessageMalformed
from offline_sync.messages import Acknowledgement, Batch, Rejection, Uploader
from pos_terminal.sale import SaleState
from tests.offline_sync.factory import ACQUIRER, NOW, SCHEME, Scheme, Terminal


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture(scope="module")
def terminal(scheme: Scheme) -> Terminal:
    return scheme.terminal(3, 4)


@pytest.fixture(scope="module")
def batch(scheme: Scheme, terminal: Terminal) -> Batch:
    card = scheme.card(7)
    before = b"b" * 32
    hashed, entries = before, []
    for index in (5, 6, 7):
        payload = chain.pack_own(SaleState.GRANTED, scheme.payment(card, terminal).raw)
        hashed = chain.link(hashed, index, Kind.OWN_PAYMENT, NOW, payload)
        entries.append(Entry(index, Kind.OWN_PAYMENT, NOW, payload, hashed))
    entries[1] = Entry(
        6, Kind.OWN_PAYMENT, NOW, entries[1].payload[:-1] + b"?", entries[1].hash, damaged=True
    )
    return messages.seal_batch(
        terminal.uploader, before, entries, [card.raw_certificate], journal_head=9, time_s=NOW
    )[0]


def check(batch: Batch, terminal: Terminal) -> None:
    """As clearing does."""
    certificate = certificates.parse(batch.terminal_certificate)
    suite = terminal.uploader.suite
    key = suite.verifying_key(terminal.uploader.certificate.public)
    result = messages.chained(batch)
    messages.check_head(batch, certificate, certificates.digest(suite, certificate), key, result)


def test_an_upload_comes_back_as_it_went(batch: Batch, terminal: Terminal) -> None:
    again = messages.decode_batch(messages.encode(batch))
    assert again == batch
    assert (again.first, again.last) == (5, 7)
    check(again, terminal)


def test_the_signed_head_is_the_documented_bytes(batch: Batch, terminal: Terminal) -> None:
    certificate = terminal.uploader.certificate
    result = messages.chained(batch)
    damaged = batch.entries[1]
    contents = sha256(
        b"\x00\x01"
        + batch.card_certificates[0]
        + result.entries[0].hash
        + struct.pack(">Q32sBIH", 6, damaged.damaged, damaged.kind, damaged.time_s, len(damaged.payload))
        + damaged.payload
    ).digest()
    digest = sha256(certificate.body()).digest()[:8]
    wanted = (
        bytes.fromhex("e3010100")
        + SCHEME
        + digest
        + certificate.subject
        + struct.pack(">QQ", 5, 7)
        + b"b" * 32
        + result.entries[-1].hash
        + contents
        + struct.pack(">IQ", NOW, 9)
    )
    assert messages.head_message(batch, certificate, digest, result) == wanted
    assert len(wanted) == 152


ALTERATIONS: dict[str, Any] = {
    "scheme": lambda _: {"scheme": b"\xff" * 4},
    "first": lambda _: {"first": 6},
    "before": lambda _: {"before": b"c" * 32},
    "journal head": lambda _: {"journal_head": 8},
    "time": lambda _: {"time_s": NOW - 1},
    "signature": lambda b: {"signature": bytes([b.signature[0] ^ 1]) + b.signature[1:]},
    "an entry less": lambda b: {"entries": b.entries[:-1]},
    "an entry more": lambda b: {"entries": [*b.entries, b.entries[0]]},
    "entries swapped": lambda b: {"entries": [b.entries[2], b.entries[1], b.entries[0]]},
    "kind": lambda b: {"entries": [item(b, 0, kind=4), *b.entries[1:]]},
    "entry time": lambda b: {"entries": [item(b, 0, time_s=1), *b.entries[1:]]},
    "payload": lambda b: {"entries": [item(b, 0, payload=bytes(161)), *b.entries[1:]]},
    "marked as damaged": lambda b: {
        "entries": [item(b, 0, damaged=messages.chained(b).entries[0].hash, payload=b""), *b.entries[1:]]
    },
    "payload of a damaged one": lambda b: {"entries": [b.entries[0], item(b, 1, payload=b"x"), b.entries[2]]},
    "kind of a damaged one": lambda b: {"entries": [b.entries[0], item(b, 1, kind=4), b.entries[2]]},
    "hash of a damaged one": lambda b: {
        "entries": [b.entries[0], item(b, 1, damaged=bytes(32)), b.entries[2]]
    },
    "mark taken off": lambda b: {"entries": [b.entries[0], item(b, 1, damaged=b""), b.entries[2]]},
    "certificate taken away": lambda _: {"card_certificates": []},
    "certificate twice": lambda b: {"card_certificates": b.card_certificates * 2},
    "certificate altered": lambda _: {"card_certificates": [bytes(178)]},
}


def item(batch: Batch, place: int, **changes: Any) -> messages.Item:
    return msgspec.structs.replace(batch.entries[place], **changes)


@pytest.mark.parametrize("what", ALTERATIONS)
def test_nothing_of_an_upload_can_be_altered(batch: Batch, terminal: Terminal, what: str) -> None:
    altered = msgspec.structs.replace(batch, **ALTERATIONS[what](batch))
    with pytest.raises(SignatureInvalid):
        check(altered, terminal)


def test_another_terminals_certificate_does_not_fit(batch: Batch, scheme: Scheme, terminal: Terminal) -> None:
    other = scheme.terminal(3, 5).uploader.certificate.to_bytes()
    with pytest.raises(SignatureInvalid):
        check(msgspec.structs.replace(batch, terminal_certificate=other), terminal)


@pytest.mark.parametrize("what", sorted(set(ALTERATIONS) - {"journal head", "time", "signature"}))
def test_the_key_of_an_upload_names_all_that_is_booked(batch: Batch, terminal: Terminal, what: str) -> None:
    altered = msgspec.structs.replace(batch, **ALTERATIONS[what](batch))
    certificate = terminal.uploader.certificate
    keys = {messages.batch_key(b, certificate, messages.chained(b)) for b in (batch, altered)}
    assert len(keys) == 2


def test_the_key_is_the_same_when_signed_again(batch: Batch, terminal: Terminal) -> None:
    again = msgspec.structs.replace(batch, time_s=NOW + 9, journal_head=20, signature=bytes(64))
    certificate = terminal.uploader.certificate
    keys = {messages.batch_key(b, certificate, messages.chained(b)) for b in (batch, again)}
    assert len(keys) == 1


def test_a_damaged_hash_of_wrong_length_is_malformed(batch: Batch) -> None:
    broken = msgspec.structs.replace(batch, entries=[item(batch, 0, damaged=b"x")])
    with pytest.raises(MessageMalformed):
        messages.chained(broken)


def altered_json(batch: Batch, **changes: Any) -> bytes:
    fields = json.loads(messages.encode(batch))
    fields.update(changes)
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": 0},
        {"surplus": 1},
        {"scheme": b64encode(b"abc").decode()},
        {"scheme": "?"},
        {"scheme": None},
        {"terminal_certificate": b64encode(bytes(161)).decode()},
        {"card_certificates": [b64encode(bytes(177)).decode()]},
        {"entries": []},
        {"entries": [[3, NOW]]},
        {"entries": [[3, NOW, "", "", ""]]},
        {"entries": [[256, NOW, ""]]},
        {"entries": [[3, -1, ""]]},
        {"entries": [[3, 2**32, ""]]},
        {"entries": [[3, 1.5, ""]]},
        {"entries": [[3, NOW, b64encode(bytes(300)).decode()]]},
        {"entries": [[4, NOW, ""]] * (messages.MAX_ENTRIES + 1)},
        {"first": 0},
        {"first": 2**60},
        {"first": "5"},
        {"before": ""},
        {"time_s": -1},
        {"signature": b64encode(bytes(63)).decode()},
    ],
)
def test_what_is_no_upload_is_malformed(batch: Batch, changes: dict[str, Any]) -> None:
    with pytest.raises(MessageMalformed):
        messages.decode_batch(altered_json(batch, **changes))


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"<html>", b"{" * 100_000, b"[" * 100_000, b'"' + b"x" * 50],
)
def test_nonsense_is_malformed(raw: bytes) -> None:
    for decode in (messages.decode_batch, messages.decode_acknowledgement, messages.decode_refusal):
        with pytest.raises(MessageMalformed):
            decode(raw)


def test_what_is_too_long_is_not_looked_at(batch: Batch) -> None:
    with pytest.raises(MessageMalformed, match="at most"):
        messages.decode_batch(messages.encode(batch) + b" " * messages.MAX_BATCH_BYTES)


class TestAcknowledgement:
    @pytest.fixture
    def good(self, scheme: Scheme, batch: Batch, terminal: Terminal) -> Acknowledgement:
        unsigned = Acknowledgement(
            1,
            messages.GOOD,
            SCHEME,
            terminal.payee,
            terminal.number,
            batch.first,
            batch.last,
            messages.chained(batch).head,
            [Rejection(6, "damaged", "破损")],
            NOW,
            9,
            bytes(64),
        )
        return messages.seal_acknowledgement(unsigned, 1, scheme.acquirer_key)

    def check(
        self, acknowledgement: Acknowledgement, scheme: Scheme, batch: Batch, terminal: Terminal
    ) -> None:
        head = messages.chained(batch).head
        messages.check_acknowledgement(
            acknowledgement, scheme.trust, batch, head, terminal.uploader.certificate
        )

    def test_it_comes_back_and_is_accepted(
        self, good: Acknowledgement, scheme: Scheme, batch: Batch, terminal: Terminal
    ) -> None:
        again = messages.decode_acknowledgement(messages.encode(good))
        assert again == good
        self.check(again, scheme, batch, terminal)

    def test_the_signed_bytes_are_the_documented_ones(
        self, good: Acknowledgement, terminal: Terminal
    ) -> None:
        words = "破损".encode()
        rejections = sha256(
            (6).to_bytes(8, "big") + b"\x07damaged" + len(words).to_bytes(2, "big") + words
        ).digest()
        wanted = (
            bytes.fromhex("f3010100")
            + SCHEME
            + terminal.payee
            + terminal.number
            + struct.pack(">QQ", 5, 7)
            + good.head
            + rejections
            + struct.pack(">IQ", NOW, 9)
        )
        assert messages.acknowledgement_message(good, 1) == wanted
        assert len(wanted) == 112

    @pytest.mark.parametrize(
        "changes",
        [
            {"status": messages.FORKED},
            {"time_s": NOW + 1},
            {"highest": 10},
            {"rejections": []},
            {"rejections": [Rejection(6, "damaged", "other")]},
            {"rejections": [Rejection(5, "damaged", "破损")]},
            {"signature": bytes(64)},
        ],
    )
    def test_an_altered_one_is_refused(
        self, good: Acknowledgement, scheme: Scheme, batch: Batch, terminal: Terminal, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(AcknowledgementRefused, match="signature"):
            self.check(msgspec.structs.replace(good, **changes), scheme, batch, terminal)

    @pytest.mark.parametrize(
        "changes",
        [
            {"scheme": bytes(4)},
            {"payee": bytes(8)},
            {"terminal": bytes(4)},
            {"first": 4},
            {"last": 8},
            {"last": 2**40, "highest": 2**40},
            {"head": bytes(32)},
            {"highest": 6},
            {"rejections": [Rejection(8, "x", "")]},
            {"rejections": [Rejection(6, "x", ""), Rejection(6, "x", "")]},
        ],
    )
    def test_one_for_something_else_is_refused_though_signed(
        self, good: Acknowledgement, scheme: Scheme, batch: Batch, terminal: Terminal, changes: dict[str, Any]
    ) -> None:
        changed = msgspec.structs.replace(good, **changes)
        signed = messages.seal_acknowledgement(changed, 1, scheme.acquirer_key)
        with pytest.raises(AcknowledgementRefused):
            self.check(signed, scheme, batch, terminal)

    def test_one_by_the_issuer_is_refused(
        self, good: Acknowledgement, scheme: Scheme, batch: Batch, terminal: Terminal
    ) -> None:
        signed = messages.seal_acknowledgement(good, 1, scheme.issuer_key)
        with pytest.raises(AcknowledgementRefused, match="signature"):
            self.check(signed, scheme, batch, terminal)

    def test_one_by_an_expired_operator_is_refused(
        self, good: Acknowledgement, scheme: Scheme, batch: Batch, terminal: Terminal
    ) -> None:
        late = msgspec.structs.replace(good, time_s=scheme.acquirer.not_after + 1)
        signed = messages.seal_acknowledgement(late, 1, scheme.acquirer_key)
        with pytest.raises(AcknowledgementRefused, match="expired"):
            self.check(signed, scheme, batch, terminal)

    def test_one_by_an_operator_without_payees_is_refused(
        self, good: Acknowledgement, batch: Batch, terminal: Terminal
    ) -> None:
        other = Scheme()
        issuing = other.operator(ACQUIRER, certificates.CLASS_ISSUING, other.acquirer_key)
        other.trust = certificates.TrustBundle(other.suite, other.root, [issuing])
        with pytest.raises(AcknowledgementRefused, match="no acquiring operator"):
            self.check(good, other, batch, terminal)


def test_an_uploader_of_another_key_is_refused(batch: Batch, scheme: Scheme, terminal: Terminal) -> None:
    stranger = Uploader(
        terminal.uploader.suite, terminal.uploader.certificate, scheme.terminal(3, 9).uploader.key
    )
    entries = [replace_hash(entry) for entry in messages.chained(batch).entries]
    forged, _ = messages.seal_batch(stranger, batch.before, entries, [], journal_head=9, time_s=NOW)
    with pytest.raises(SignatureInvalid):
        check(forged, terminal)


def replace_hash(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, damaged=False)
