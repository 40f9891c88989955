"""Evidence as files, judged by the real script in real shells: what proves something, and that nothing else
does."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hardwallet import certificates, records
from hardwallet.suites import suite_by_number
from offline_sync import chain, messages
from offline_sync.chain import Kind
from offline_sync.clearing import Clearing, disputes
from offline_sync.errors import NoDispute
from pos_terminal.sale import REFUND_PROFILE, Sale
from tests.conftest import LONG_VARIABLE, REPOSITORY
from tests.offline_sync.factory import ISSUER, NOW, Card, Scheme, Terminal, resigned
from tests.offline_sync.test_clearing import Item, Till, carried, open_clearing, own

pytestmark = pytest.mark.needs("openssl", "jq")

SCRIPT = REPOSITORY / "tools" / "judge-dispute.sh"
SHELLS = [shell for shell in ("dash", "bash", "sh") if shutil.which(shell)]
BODY_HEX = 2 * records.BODY_LENGTH


@dataclass(frozen=True)
class Case:
    """A scheme, and a dispute file of a cloned card in it."""

    scheme: Scheme
    file: bytes

    @property
    def root(self) -> str:
        return disputes.fingerprint(self.scheme.root)

    @property
    def fields(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.file)
        return found


@dataclass(frozen=True)
class Verdict:
    """What the script said last, and everything that it said."""

    code: int
    last: str
    checked: list[str]
    err: str


def judge(path: Path, root: str, *, shell: str = SHELLS[0], env: dict[str, str] | None = None) -> Verdict:
    done = subprocess.run(
        [shell, str(SCRIPT), str(path), "--root", root],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
    )
    lines = done.stdout.splitlines()
    return Verdict(done.returncode, lines[-1] if lines else "", lines[:-1], done.stderr)


def judge_bytes(tmp_path: Path, content: bytes, root: str) -> Verdict:
    path = tmp_path / "altered.json"
    path.write_bytes(content)
    return judge(path, root)


def not_proven(verdict: Verdict) -> bool:
    """No, and nothing else: not a word of PROVEN anywhere."""
    clean = not any(line.startswith("PROVEN") for line in [*verdict.checked, verdict.last])
    return clean and verdict.code == 1 and verdict.last.startswith("NOT PROVEN: ") and verdict.err == ""


def written(fields: dict[str, Any]) -> bytes:
    """As a dispute file is written, whatever stands in it."""
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()


def the_file(clearing: Clearing, kind: str) -> bytes:
    """The one dispute of a kind."""
    (line,) = [line for line in clearing.disputes() if line.kind == kind]
    assert line.file
    return clearing.dispute(bytes.fromhex(line.digest))


def cloned(scheme: Scheme) -> bytes:
    """Two terminals' uploads, each with another payment of one card under one number."""
    card, clearing = scheme.card(7), open_clearing(scheme)
    for merchant in (1, 2):
        shop = scheme.terminal(merchant, 1, retail=True)
        payment = scheme.payment(card, shop, 100 * merchant, sequence=3)
        clearing.accept(Till(shop, [card]).add(own(payment)).batch())
    file = the_file(clearing, "clone")
    clearing.close()
    return file


@pytest.fixture(scope="module", params=[1, 2], ids=["p256", "sm2"])
def case(request: pytest.FixtureRequest) -> Case:
    scheme = Scheme(suite=suite_by_number(request.param))
    return Case(scheme, cloned(scheme))


@pytest.fixture(scope="module")
def p256() -> Case:
    scheme = Scheme()
    return Case(scheme, cloned(scheme))


@pytest.fixture(scope="module")
def scheme() -> Scheme:
    return Scheme()


@pytest.fixture
def card(scheme: Scheme) -> Card:
    return scheme.card(7)


@pytest.fixture
def shop(scheme: Scheme) -> Terminal:
    return scheme.terminal(1, 1, retail=True)


@pytest.fixture
def clearing(scheme: Scheme) -> Clearing:
    return open_clearing(scheme)


# --------------------------------------------------------------------------------------- a cloned card


@pytest.mark.parametrize("shell", SHELLS)
def test_a_clone_is_proven_by_openssl_and_jq_alone(case: Case, tmp_path: Path, shell: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("openssl", "jq"):
        (tools / name).symlink_to(shutil.which(name) or "")
    path = tmp_path / "clone.json"
    path.write_bytes(case.file)
    before = {*tmp_path.iterdir()}
    found = judge(path, case.root, shell=shutil.which(shell) or "", env={"PATH": str(tools)})
    assert (found.code, found.err) == (0, "")
    assert found.last.startswith("PROVEN: card 0000000000000007 has signed two different records")
    assert "CNY 1.00, payee 0000002200000001" in found.last
    assert "CNY 2.00, payee 0000002200000002" in found.last
    signed = [line for line in found.checked if line.startswith("checked: the signature verifies: ")]
    assert [line.rpartition(": ")[2] for line in signed] == [
        "the root certificate",
        "the operator's certificate",
        "the card's certificate",
        "the first record",
        "the second record",
    ]
    assert {*tmp_path.iterdir()} == before


def test_the_same_scheme_gives_the_same_file(p256: Case) -> None:
    assert cloned(Scheme()) == p256.file


def test_the_file_is_the_documented_one(case: Case) -> None:
    text = case.file.decode("ascii")
    assert list(case.fields) == sorted(case.fields)
    assert text.count("\n") == len(case.fields) + 2
    assert set(case.fields) == {
        *("format", "kind", "scheme", "suite", "root_certificate", "operator_certificate"),
        *("card_certificate", "first_body", "first_signature", "second_body", "second_signature"),
    }


def test_the_same_evidence_in_the_other_order_is_the_same_file(scheme: Scheme, card: Card) -> None:
    shops = [scheme.terminal(merchant, 1, retail=True) for merchant in (1, 2)]
    tills = [Till(shop, [card]).add(own(scheme.payment(card, shop, 100, sequence=3))) for shop in shops]
    files = []
    for order in (tills, tills[::-1]):
        clearing = open_clearing(scheme)
        for till in order:
            clearing.accept(till.batch())
        files.append(the_file(clearing, "clone"))
    assert files[0] == files[1]


def test_swapped_statements_prove_the_same(case: Case, tmp_path: Path) -> None:
    fields = case.fields
    for name in ("body", "signature"):
        one, other = f"first_{name}", f"second_{name}"
        fields[one], fields[other] = fields[other], fields[one]
    assert judge_bytes(tmp_path, written(fields), case.root).code == 0
    fields["first_body"], fields["second_body"] = fields["second_body"], fields["first_body"]
    assert not_proven(judge_bytes(tmp_path, written(fields), case.root))


def test_another_root_is_not_taken_on_trust(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "clone.json"
    path.write_bytes(case.file)
    stranger = sha256(b"another root").hexdigest()
    found = judge(path, stranger)
    assert not_proven(found)
    assert "another one than --root names" in found.last
    assert judge(path, case.root.upper()).code == 0
    # A whole scheme made up by somebody else is not this scheme.
    made_up = Scheme(seed="somebody else", suite=case.scheme.suite)
    assert not_proven(judge_bytes(tmp_path, cloned(made_up), case.root))


def positions(file: bytes) -> list[int]:
    """Of each line: a character of its name, one of its value, and one of what parts it from the next."""
    found, at = [], 0
    for line in file.splitlines(keepends=True):
        value = line.find(b": ") + 3
        inside = [line.find(b'"') + 1, (value + len(line)) // 2, len(line) - 2] if value > 2 else [0]
        found += [at + place for place in inside]
        at += len(line)
    return sorted(set(found))


def test_a_changed_byte_anywhere_is_not_proven(case: Case, tmp_path: Path) -> None:
    step = 1 if case.scheme.suite.number == 1 else 3
    if os.environ.get(LONG_VARIABLE) != "1":
        step *= 4
    for place in positions(case.file)[::step]:
        was = case.file[place]
        changed = b"1" if was != ord("1") else b"2"
        altered = case.file[:place] + changed + case.file[place + 1 :]
        assert not_proven(judge_bytes(tmp_path, altered, case.root)), f"byte {place}"


FIELDS_OF_RECORD = [0, 3, 8, 16, 24, 78, 95]
FIELDS_OF_CERTIFICATE = [0, 3, 8, 12, 26, 34]


@pytest.mark.parametrize(
    ("name", "offsets"),
    [
        ("first_body", FIELDS_OF_RECORD),
        ("second_body", [24, 48]),
        pytest.param("root_certificate", FIELDS_OF_CERTIFICATE, marks=pytest.mark.long),
        pytest.param("operator_certificate", FIELDS_OF_CERTIFICATE, marks=pytest.mark.long),
        pytest.param("card_certificate", [*FIELDS_OF_CERTIFICATE, 113], marks=pytest.mark.long),
        ("first_signature", [0, 63]),
    ],
)
def test_a_changed_bit_in_any_field_is_not_proven(
    p256: Case, tmp_path: Path, name: str, offsets: list[int]
) -> None:
    for offset in offsets:
        raw = bytearray.fromhex(p256.fields[name])
        raw[offset] ^= 1
        altered = p256.fields | {name: raw.hex()}
        root = p256.root
        if name == "root_certificate":  # so that the fingerprint is not what finds it
            root = sha256(raw).hexdigest()
        assert not_proven(judge_bytes(tmp_path, written(altered), root)), f"{name}, byte {offset}"


def test_two_signatures_over_one_body_prove_nothing(scheme: Scheme, card: Card, tmp_path: Path) -> None:
    payment = scheme.payment(card, scheme.terminal(1, 1), 100)
    other = resigned(card, payment)
    fields = Case(scheme, cloned(scheme)).fields | {
        "card_certificate": card.raw_certificate.hex(),
        "first_body": payment.body.hex(),
        "first_signature": payment.signature.hex(),
        "second_body": other.body.hex(),
        "second_signature": other.signature.hex(),
    }
    found = judge_bytes(tmp_path, written(fields), disputes.fingerprint(scheme.root))
    assert not_proven(found)
    assert "signed twice" in found.last
    assert "checked: the signature verifies: the second record" in found.checked


def forged(p256: Case, card: Card, one: records.Record, two: records.Record, **changes: str) -> bytes:
    """A dispute file about these records, as somebody with a card's key could write one."""
    return written(
        p256.fields
        | {
            "card_certificate": card.raw_certificate.hex(),
            "first_body": one.body.hex(),
            "first_signature": one.signature.hex(),
            "second_body": two.body.hex(),
            "second_signature": two.signature.hex(),
        }
        | changes
    )


def test_only_one_number_of_one_card_proves_a_clone(p256: Case, tmp_path: Path) -> None:
    scheme, shop = p256.scheme, p256.scheme.terminal(1, 1)
    card, other = scheme.card(8), scheme.card(9)
    one, two = scheme.payment(card, shop, 100), scheme.payment(card, shop, 100)
    found = judge_bytes(tmp_path, forged(p256, card, one, two), p256.root)
    assert not_proven(found)
    assert "sequence numbers differ" in found.last
    strange = scheme.payment(other, shop, 100, sequence=1)
    found = judge_bytes(tmp_path, forged(p256, card, one, strange), p256.root)
    assert not_proven(found)
    assert "another card" in found.last
    twice = scheme.payment(card, shop, 300, sequence=1)
    assert judge_bytes(tmp_path, forged(p256, card, one, twice), p256.root).code == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"currency": 0x0840}, "no record of this scheme, suite and currency"),
        ({"scheme": bytes(4)}, "no record of this scheme, suite and currency"),
        ({"time_s": 1_000_000_000}, "were not valid at the time"),
        ({"certificate_digest": bytes(8)}, "names this card certificate"),
    ],
)
def test_what_a_card_may_not_sign_is_not_proven(
    p256: Case, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    scheme, shop = p256.scheme, p256.scheme.terminal(1, 1)
    card = scheme.card(8)
    one = scheme.payment(card, shop, 100, sequence=1)
    two = scheme.payment(card, shop, 200, **({"sequence": 1} | changes))
    found = judge_bytes(tmp_path, forged(p256, card, one, two), p256.root)
    assert not_proven(found)
    assert reason in found.last


def test_an_operator_that_may_not_issue_proves_nothing(p256: Case, tmp_path: Path) -> None:
    scheme = p256.scheme
    key = scheme.suite.new_signing_key(scheme.entropy)
    subject = (9).to_bytes(8, "big") + bytes(4)
    acquirer = scheme.acquirer.operator
    certificate = scheme.certificate(certificates.CARD, 2, acquirer, subject, key, scheme.acquirer_key)
    card = Card(subject[:8], key, certificate, certificates.digest(scheme.suite, certificate))
    shop = scheme.terminal(1, 1)
    one, two = (scheme.payment(card, shop, amount, sequence=1) for amount in (1, 2))
    operator = scheme.acquirer.to_bytes().hex()
    found = judge_bytes(tmp_path, forged(p256, card, one, two, operator_certificate=operator), p256.root)
    assert not_proven(found)
    assert "class" in found.last


def test_an_operators_older_key_still_proves(tmp_path: Path) -> None:
    """The file holds the certificate under which the card stands, not the operator's newest."""
    scheme = Scheme()
    card, shop = scheme.card(7), scheme.terminal(1, 1, retail=True)
    key = scheme.suite.new_signing_key(scheme.entropy)
    beside = certificates.CLASS_ISSUING | certificates.CLASS_BESIDE
    issuer = ISSUER + bytes(8)
    newer = scheme.certificate(
        *(certificates.OPERATOR, beside, bytes(4), issuer, key, scheme.root_key), not_before=NOW - 60
    )
    scheme.trust.add_operator(newer)
    scheme.issuer_key = key
    new_card = scheme.card(8)
    clearing = open_clearing(scheme)
    for one in (card, new_card):
        copies = [own(scheme.payment(one, shop, amount, sequence=1)) for amount in (100, 200)]
        clearing.accept(Till(shop, [one]).add(*copies).batch())
    files = [
        clearing.dispute(bytes.fromhex(line.digest)) for line in clearing.disputes() if line.kind == "clone"
    ]
    operators = {json.loads(file)["operator_certificate"] for file in files}
    assert operators == {scheme.issuer.to_bytes().hex(), newer.to_bytes().hex()}
    for file in files:
        assert judge_bytes(tmp_path, file, disputes.fingerprint(scheme.root)).code == 0


# ------------------------------------------------------------------------------------ what is no such file


@pytest.mark.parametrize("name", ["first_body", "format", "kind", "root_certificate", "suite"])
def test_a_missing_field_is_not_proven(p256: Case, tmp_path: Path, name: str) -> None:
    fields = p256.fields
    del fields[name]
    assert not_proven(judge_bytes(tmp_path, written(fields), p256.root))


EVIL = [
    "$(touch hit)",
    "`touch hit`",
    "'; touch hit; '",
    "a|ok|b",
    "proven|x",
    "\n",
    "-",
    "%s%n",
    "\\0",
    "*",
    "#{}",
]


def test_shell_words_in_fields_are_harmless(p256: Case, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    for number, evil in enumerate(EVIL):
        for name in sorted(p256.fields) if number == 0 else ["kind", "first_body"][number % 2 :][:1]:
            path = folder / "evil.json"
            path.write_bytes(written(p256.fields | {name: evil}))
            done = subprocess.run(
                [SHELLS[0], str(SCRIPT), "evil.json", "--root", p256.root],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stdout[:12]) == (1, "NOT PROVEN: ")
            assert evil not in done.stdout or evil in ("-", "\n", "*")
    assert [path.name for path in folder.iterdir()] == ["evil.json"]


def padded(text: str, length: int) -> str:
    """As many characters as a field has, so that its length is not what is wrong with it."""
    return (text + "0" * length)[:length]


def test_words_of_the_right_length_do_not_reach_the_verdict(p256: Case, tmp_path: Path) -> None:
    """A line of the plan in a field that is shown, a line end, a word for the shell: no hex digits."""
    body = p256.fields["first_body"]
    for name, value in (
        ("first_body", body[:56] + padded("\nproven|forged ", 16) + body[72:]),
        ("first_body", body[:96] + padded("|x\n$(id)", 8) + body[104:]),
        ("first_body", body[:-1] + "\n"),
        ("first_body", body.replace("a", "A")),
        ("first_signature", padded("\nproven|forged", 128)),
        ("second_signature", p256.fields["second_signature"][:-1] + "\n"),
        ("card_certificate", p256.fields["card_certificate"][:24] + padded("\nproven|x", 16) + "0" * 316),
        ("suite", "\n1"),
        ("scheme", "*`id`/**"),
    ):
        assert len(value) == len(p256.fields[name])
        found = judge_bytes(tmp_path, written(p256.fields | {name: value}), p256.root)
        assert not_proven(found)
        assert (found.checked, "hex digits" in found.last or "suite" in found.last) == ([], True)


@pytest.mark.parametrize(
    "alter",
    [
        lambda _: b"",
        lambda file: file[: len(file) // 2],
        lambda file: file[:-1],
        lambda file: file + b"\n",
        lambda file: file + file,
        lambda file: b"\xef\xbb\xbf" + file,
        lambda file: file.replace(b"\n", b"\r\n"),
        lambda file: file.replace(b'{\n  "card', b'{\n  "kind": "clone",\n  "card'),
        lambda file: written({**json.loads(file), "more": "00" * records.BODY_LENGTH}),
        lambda file: written({**json.loads(file), "suite": 1}),
        lambda file: written({**json.loads(file), "suite": "03"}),
        lambda file: written({**json.loads(file), "first_body": "00"}),
        lambda file: written({**json.loads(file), "first_body": "zz" * 96}),
        lambda file: written({**json.loads(file), "first_body": None}),
        lambda file: written({**json.loads(file), "format": "hardwallet-dispute-2"}),
        lambda file: written({**json.loads(file), "kind": "load-twice"}),
        lambda file: written({**json.loads(file), "kind": "refund"}),
        lambda file: written({**json.loads(file), "kind": "fork"}),
        lambda _: b"[" * 10_000,
        lambda _: b"[]\n",
        lambda _: b"null\n",
        lambda _: bytes(1_000),
        lambda _: os.urandom(1_000),
    ],
)
def test_anything_else_is_not_proven(p256: Case, tmp_path: Path, alter: Callable[[bytes], bytes]) -> None:
    assert not_proven(judge_bytes(tmp_path, alter(p256.file), p256.root))


def test_a_gigabyte_is_refused_by_its_size(p256: Case, tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    with path.open("wb") as file:
        file.write(p256.file)
        file.truncate(2**30)
    found = judge(path, p256.root)
    assert not_proven(found)
    assert "longer than 256 KiB" in found.last
    # Just below the limit it is read, and found to be something else.
    path.write_bytes(p256.file.ljust(262_000))
    assert "altered" in judge(path, p256.root).last


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["FILE"],
        ["--root", "0" * 64],
        ["FILE", "--root"],
        ["FILE", "--root", "0" * 63],
        ["FILE", "--root", "g" * 64],
        ["FILE", "--root", ""],
        ["FILE", "FILE", "--root", "0" * 64],
        ["FILE", "--rot", "0" * 64],
        ["missing.json", "--root", "0" * 64],
        [".", "--root", "0" * 64],
    ],
)
def test_wrong_usage_is_told_apart(p256: Case, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "FILE").write_bytes(p256.file)
    done = subprocess.run(
        [SHELLS[0], str(SCRIPT), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: judge-dispute.sh FILE --root SHA256" in done.stderr


def test_without_its_tools_it_says_so(p256: Case, tmp_path: Path) -> None:
    path = tmp_path / "clone.json"
    path.write_bytes(p256.file)
    found = judge(path, p256.root, shell=shutil.which("sh") or "", env={"PATH": str(tmp_path)})
    assert (found.code, found.last) == (2, "")
    assert "openssl and jq have to be installed" in found.err


def test_settings_of_the_machine_change_nothing(p256: Case, tmp_path: Path) -> None:
    """Definitions in ~/.jq, or a configuration of openssl, could lie to the judge."""
    (tmp_path / ".jq").write_text('def certificate: {"type": "c0"}; def test(x): true;', encoding="utf-8")
    settings = tmp_path / "openssl.cnf"
    settings.write_text(
        "openssl_conf = a\n[a]\nalg_section = b\n[b]\ndefault_properties = fips=yes\n", encoding="utf-8"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OPENSSL_CONF": str(settings)}
    path = tmp_path / "clone.json"
    path.write_bytes(p256.file)
    assert judge(path, p256.root, env=env).code == 0
    raw = bytearray.fromhex(p256.fields["second_body"])
    raw[50] ^= 1
    path.write_bytes(written(p256.fields | {"second_body": raw.hex()}))
    assert not_proven(judge(path, p256.root, env=env))


# ---------------------------------------------------------------------------------------- the other kinds


def test_a_load_confirmed_twice_is_proven(
    scheme: Scheme, card: Card, clearing: Clearing, tmp_path: Path
) -> None:
    first = scheme.load(card, 500)
    card.loads -= 1
    second = scheme.load(card, 500)
    for record in (first, second):
        clearing.book_load(record.raw, card.raw_certificate)
    found = judge_bytes(tmp_path, the_file(clearing, "load-twice"), disputes.fingerprint(scheme.root))
    assert found.code == 0
    assert "two different receipts for its one load no. 1" in found.last
    fields = json.loads(the_file(clearing, "load-twice"))
    assert not_proven(
        judge_bytes(tmp_path, written(fields | {"kind": "clone"}), disputes.fingerprint(scheme.root))
    )


def refund(
    scheme: Scheme, card: Card, shop: Terminal, payment: records.Record, total_fen: int, **changes: Any
) -> records.Record:
    """A refund receipt as the card would sign it; a card that works credits the rise of the total."""
    card.sequence += 1
    reference = payment.sequence.to_bytes(4, "big") + total_fen.to_bytes(4, "big") + bytes(4)
    fields: dict[str, Any] = {
        "kind": records.REFUND,
        "sequence": card.sequence,
        "payee": shop.payee,
        "reference": reference,
        "amount_fen": total_fen,
        "terminal": shop.number,
        "transaction": 900,
        "nonce": scheme.entropy(16),
        "time_s": NOW,
        "profile": records.RETAIL,
    }
    return scheme.record(card, fields | changes)


def refund_file(p256: Case, kind: str, card: Card, *pair: records.Record) -> bytes:
    fields = {
        name: text for name, text in p256.fields.items() if not name.startswith(("first_", "second_"))
    } | {"kind": kind, "card_certificate": card.raw_certificate.hex()}
    for name, record in zip(("first", "second"), pair, strict=False):
        fields |= {f"{name}_body": record.body.hex(), f"{name}_signature": record.signature.hex()}
    return written(fields)


def test_what_two_refund_receipts_prove(p256: Case, tmp_path: Path) -> None:
    scheme, shop = p256.scheme, p256.scheme.terminal(1, 1, retail=True)
    card = scheme.card(12)
    payment = scheme.payment(card, shop, 1_000)
    half = refund(scheme, card, shop, payment, 500)
    again = refund(scheme, card, shop, payment, 500, transaction=901)
    rest = refund(scheme, card, shop, payment, 800, amount_fen=300, transaction=902)
    greedy = refund(scheme, card, shop, payment, 900, amount_fen=900, transaction=903)
    other = refund(scheme, card, shop, scheme.payment(card, shop, 5), 5)

    def verdict(*pair: records.Record) -> Verdict:
        return judge_bytes(tmp_path, refund_file(p256, "refund", card, *pair), p256.root)

    for pair in ((half, again), (again, half), (half, greedy), (greedy, rest)):
        found = verdict(*pair)
        assert (found.code, "cannot both be true" in found.last) == (0, True)
    assert not_proven(verdict(half, rest))
    assert not_proven(verdict(half, other))
    assert not_proven(verdict(half, payment))


def test_what_a_payment_and_a_refund_receipt_prove(p256: Case, tmp_path: Path) -> None:
    scheme, shop, elsewhere = p256.scheme, p256.scheme.terminal(1, 1, retail=True), p256.scheme.terminal(2, 1)
    card = scheme.card(13)
    payment = scheme.payment(card, shop, 1_000)

    def verdict(receipt: records.Record) -> Verdict:
        return judge_bytes(tmp_path, refund_file(p256, "refund", card, payment, receipt), p256.root)

    too_much = verdict(refund(scheme, card, shop, payment, 1_001))
    assert (too_much.code, "CNY 10.01 for a payment of CNY 10.00" in too_much.last) == (0, True)
    strange = verdict(refund(scheme, card, elsewhere, payment, 10))
    assert (strange.code, "by payee 0000002200000002" in strange.last) == (0, True)
    honest = verdict(refund(scheme, card, shop, payment, 10))
    assert (honest.code, honest.last.startswith("PROVEN: only that")) == (0, True)
    assert "whether the merchant ordered that" in honest.last
    assert not_proven(verdict(refund(scheme, card, shop, scheme.payment(card, shop, 9), 9)))


def test_evidence_about_refunds_becomes_the_file_that_proves_most(
    scheme: Scheme, card: Card, shop: Terminal, clearing: Clearing, tmp_path: Path
) -> None:
    root = disputes.fingerprint(scheme.root)
    payment = scheme.payment(card, shop, 1_000)
    order = refund_order(card, payment, 500)
    first, second = (refund(scheme, card, shop, payment, 500) for _ in range(2))
    till = Till(shop, [card]).add(order, carried(first), carried(second))
    clearing.accept(till.batch())
    found = judge_bytes(tmp_path, the_file(clearing, "refund"), root)
    assert (found.code, "cannot both be true" in found.last) == (0, True)
    # With one receipt only, the payment stands beside it once it has arrived.
    other = open_clearing(scheme)
    wrong = refund(scheme, card, shop, payment, 400)
    other.accept(Till(shop, [card]).add(order, carried(wrong)).batch())
    assert json.loads(the_file(other, "refund"))["kind"] == "refund-receipt"
    found = judge_bytes(tmp_path, the_file(other, "refund"), root)
    assert (found.code, found.last.startswith("PROVEN: only that")) == (0, True)
    bus = scheme.terminal(3, 1)
    other.accept(Till(bus, [card]).add(carried(payment)).batch())
    assert json.loads(the_file(other, "refund"))["kind"] == "refund"
    assert judge_bytes(tmp_path, the_file(other, "refund"), root).code == 0


def refund_order(card: Card, payment: records.Record, total_fen: int) -> Item:
    reference = payment.sequence.to_bytes(4, "big") + total_fen.to_bytes(4, "big") + (900).to_bytes(4, "big")
    sale = Sale(reference, total_fen, 0x0156, REFUND_PROFILE, 900, NOW, card=card.number)
    return Kind.SALE_OPENED, chain.pack_opened(sale)


def forked(scheme: Scheme, card: Card, shop: Terminal, *, longer: int, seconds: int) -> Clearing:
    """A terminal's journal, and another one of `longer` more entries that was signed `seconds` later."""
    clearing = open_clearing(scheme)
    common = [own(scheme.payment(card, shop, 100)) for _ in range(2)]
    one = Till(shop, [card]).add(*common, own(scheme.payment(card, shop, 100)))
    other = Till(shop, [card]).add(
        *common, *(own(scheme.payment(card, shop, 200)) for _ in range(1 + longer))
    )
    clearing.accept(one.batch())
    clearing.accept(other.batch(time_s=NOW + seconds))
    return clearing


def swapped(fields: dict[str, str]) -> dict[str, str]:
    """The same two statements, the other one first."""
    other = {"first": "second", "second": "first"}
    parted = {name: name.partition("_") for name in fields}
    return {other.get(head, head) + mark + tail: fields[name] for name, (head, mark, tail) in parted.items()}


@pytest.mark.parametrize("number", [1, 2], ids=["p256", "sm2"])
def test_two_journals_of_one_terminal_are_proven(tmp_path: Path, number: int) -> None:
    scheme = Scheme(suite=suite_by_number(number))
    card, shop = scheme.card(7), scheme.terminal(1, 1, retail=True)
    root = disputes.fingerprint(scheme.root)
    file = the_file(forked(scheme, card, shop, longer=0, seconds=9), "fork")
    found = judge_bytes(tmp_path, file, root)
    assert (found.code, found.err) == (0, "")
    assert "two journals that differ at or before entry 3" in found.last
    fields = json.loads(file)
    assert judge_bytes(tmp_path, written(swapped(fields)), root).code == 0
    for offset in (16, 36, 144) if number == 1 else (76,):
        raw = bytearray.fromhex(fields["second_body"])
        raw[offset + 3 if offset in (28, 36, 144) else offset] ^= 1
        altered = written(fields | {"second_body": raw.hex()})
        assert not_proven(judge_bytes(tmp_path, altered, root)), offset


def test_entries_join_heads_that_do_not_meet(
    scheme: Scheme, card: Card, shop: Terminal, tmp_path: Path
) -> None:
    """An old copy that went on: its journal is the longer one, and its head names another entry."""
    root = disputes.fingerprint(scheme.root)
    file = the_file(forked(scheme, card, shop, longer=3, seconds=9), "fork")
    fields = json.loads(file)
    (name,) = (name for name in fields if name.endswith("_links"))
    found = judge_bytes(tmp_path, file, root)
    assert (found.code, found.err) == (0, "")
    assert "two journals that differ at or before entry 3" in found.last
    assert any("3 entries join the" in line for line in found.checked)
    # Without them nothing is proven, nor with others.
    bare = {key: text for key, text in fields.items() if key != name}
    alone = judge_bytes(tmp_path, written(bare), root)
    assert not_proven(alone)
    assert "uploads that they head have to be compared" in alone.last
    raw = bytes.fromhex(fields[name])
    step = (len(raw) - 8) // 3
    for altered in (
        *(raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :] for place in (7, 8, 60)),
        raw[:-1],
        raw[:8] + raw[8 + step :],
        (4).to_bytes(8, "big") + raw[8 + step :],  # true, but of an entry that the other head does not name
        raw[:8] + bytes(47),
    ):
        assert not_proven(judge_bytes(tmp_path, written(fields | {name: altered.hex()}), root))
    other = "first_links" if name == "second_links" else "second_links"
    assert not_proven(judge_bytes(tmp_path, written(bare | {other: fields[name]}), root))
    assert not_proven(judge_bytes(tmp_path, written(fields | {"kind": "behind"}), root))


def test_heads_without_such_entries_prove_nothing_by_themselves(
    scheme: Scheme, card: Card, shop: Terminal, tmp_path: Path
) -> None:
    """The shorter one came last: what joins the longer one is not at hand any more."""
    clearing = open_clearing(scheme)
    common = own(scheme.payment(card, shop, 100))
    longer = Till(shop, [card]).add(common, *(own(scheme.payment(card, shop, 100)) for _ in range(3)))
    shorter = Till(shop, [card]).add(common, own(scheme.payment(card, shop, 200)))
    clearing.accept(longer.batch(time_s=NOW + 9))
    clearing.accept(shorter.batch())
    found = judge_bytes(tmp_path, the_file(clearing, "fork"), disputes.fingerprint(scheme.root))
    assert not_proven(found)
    assert "uploads that they head have to be compared" in found.last


@pytest.mark.parametrize(("seconds", "proven"), [(9, True), (0, False)])
def test_a_journal_that_ends_too_early_is_proven(
    scheme: Scheme, card: Card, shop: Terminal, tmp_path: Path, seconds: int, proven: bool
) -> None:
    clearing = open_clearing(scheme)
    till = Till(shop, [card]).add(*(own(scheme.payment(card, shop, 100)) for _ in range(4)))
    clearing.accept(till.batch())
    old = Till(shop, [card])
    old.entries = till.entries[:2]
    clearing.accept(old.batch(time_s=NOW + seconds))
    fields = json.loads(the_file(clearing, "behind"))
    for statements in (fields, swapped(fields)):
        found = judge_bytes(tmp_path, written(statements), disputes.fingerprint(scheme.root))
        if proven:
            assert (found.code, "that it ends at entry 2" in found.last) == (0, True)
        else:  # within one second nobody knows which of them was first
            assert not_proven(found)


def test_a_journal_that_begins_as_anothers_is_proven(
    scheme: Scheme, card: Card, shop: Terminal, clearing: Clearing, tmp_path: Path
) -> None:
    till = Till(shop, [card])
    till.genesis = bytes(32)
    clearing.accept(till.add(own(scheme.payment(card, shop, 100))).batch())
    file = the_file(clearing, "fork")
    assert json.loads(file)["kind"] == "false-start"
    found = judge_bytes(tmp_path, file, disputes.fingerprint(scheme.root))
    assert (found.code, "does not begin as its own" in found.last) == (0, True)
    # The right beginning, signed by the same terminal, is no evidence of anything.
    right = open_clearing(scheme)
    honest = Till(shop, [card]).add(own(scheme.payment(card, shop, 100)))
    batch = honest.batch()
    right.accept(batch)
    terminal = shop.uploader.certificate
    head = messages.head_message(
        batch, terminal, certificates.digest(scheme.suite, terminal), messages.chained(batch)
    )
    forged_fields = json.loads(file) | {"first_body": head.hex(), "first_signature": batch.signature.hex()}
    assert not_proven(judge_bytes(tmp_path, written(forged_fields), disputes.fingerprint(scheme.root)))


def test_a_terminals_new_certificate_does_not_hide_its_fork(
    scheme: Scheme, card: Card, tmp_path: Path
) -> None:
    old, clearing = scheme.terminal(5, 1, retail=True), open_clearing(scheme)
    new = scheme.terminal(5, 1, retail=True, not_before=NOW - 60)
    for terminal in (old, new):
        clearing.accept(Till(terminal, [card]).add(own(scheme.payment(card, terminal, 100))).batch())
    fields = json.loads(the_file(clearing, "fork"))
    assert fields["first_terminal_certificate"] != fields["second_terminal_certificate"]
    found = judge_bytes(tmp_path, the_file(clearing, "fork"), disputes.fingerprint(scheme.root))
    assert found.code == 0


# ------------------------------------------------------------------------------------------- the listing


def test_disputes_are_listed_page_by_page(scheme: Scheme, card: Card, clearing: Clearing) -> None:
    shop = scheme.terminal(1, 1, retail=True)
    copies = [own(scheme.payment(card, shop, 100 + copy, sequence=1)) for copy in range(4)]
    clearing.accept(Till(shop, [card]).add(*copies).batch())
    everything = clearing.disputes()
    assert (len(everything), {line.kind for line in everything}) == (6, {"clone"})
    pages: list[disputes.DisputeLine] = []
    while page := clearing.disputes(bytes.fromhex(pages[-1].digest) if pages else b"", 4):
        pages += page
    assert pages == everything
    assert len({clearing.dispute(bytes.fromhex(line.digest)) for line in everything}) == 6


def test_what_no_file_can_prove_is_said(scheme: Scheme, card: Card, clearing: Clearing) -> None:
    shop, other = scheme.terminal(1, 1, retail=True), scheme.terminal(2, 1)
    clearing.accept(Till(shop, [card]).add(own(scheme.payment(card, other, 100))).batch())
    (line,) = clearing.disputes()
    assert (line.kind, line.file) == ("claimed", False)
    with pytest.raises(NoDispute, match="no file can prove it"):
        clearing.dispute(bytes.fromhex(line.digest))
    with pytest.raises(NoDispute, match="there is no dispute"):
        clearing.dispute(bytes(32))


def test_the_script_is_installed_with_the_program() -> None:
    assert disputes.judge() == SCRIPT.read_bytes()
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.needs("shellcheck")
def test_the_script_has_no_findings() -> None:
    done = subprocess.run(
        ["shellcheck", str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
