"""The test vectors of the international suite: our code makes them again byte for byte; code that shares
nothing with ours agrees."""

import json
from functools import cache
from typing import Any

import pytest

from hardwallet import authorities, certificates, denylist, messages, records, status
from hardwallet.suites import INTERNATIONAL, International
from tests.hardwallet import openssl_command as openssl
from tests.hardwallet import protocol_page as page
from tests.vectors import make

FILES = (
    *("keys", "certificates", "sales", "records", "proofs"),
    *("orders", "lists", "replies", "pin", "derived", "exchanges"),
)
ELSEWHERE = {
    "E3": "docs/clearing.md; tested with offline_sync",
    "E5": "docs/http.md; tested with offline_sync",
    "F7": "docs/http.md; tested with offline_sync",
    "F3": "docs/clearing.md; tested with offline_sync",
}


@cache
def vectors(name: str) -> list[dict[str, Any]]:
    """One file."""
    loaded: list[dict[str, Any]] = json.loads(
        (make.FOLDERS[INTERNATIONAL] / f"{name}.json").read_text(encoding="utf-8")
    )
    return loaded


def signed() -> list[dict[str, Any]]:
    """Every vector with a signature."""
    return [
        one
        for name in ("certificates", "records", "proofs", "orders", "lists")
        for one in vectors(name)
        if "signature" in one
    ]


def whole(vector: dict[str, Any]) -> bytes:
    """The bytes that its layout describes, without a signature or a template around them."""
    if "body" in vector:
        return bytes.fromhex(vector["body"])
    return bytes.fromhex(vector["bytes"].removeprefix(vector.get("head", "")))


def laid_out() -> list[dict[str, Any]]:
    """Every vector that names a layout."""
    return [one for name in FILES for one in vectors(name) if "layout" in one]


def title(vector: dict[str, Any]) -> str:
    """For pytest."""
    return str(vector["name"])


# ---------------------------------------------------------------------- our code


def bundle() -> certificates.TrustBundle:
    """The vectors' scheme."""
    named = {
        one["name"]: certificates.parse(bytes.fromhex(one["body"] + one["signature"]))
        for one in vectors("certificates")
        if one["type"] in ("c0", "c1")
    }
    root = named.pop("root")
    return certificates.TrustBundle(International(), root, named.values())


@cache
def made_again() -> dict[str, list[dict[str, Any]]]:
    """What the generator makes now."""
    return make.make(INTERNATIONAL)


@pytest.mark.parametrize("name", FILES)
def test_our_code_makes_them_again(name: str) -> None:
    """Byte for byte, the whole file."""
    stored = (make.FOLDERS[INTERNATIONAL] / f"{name}.json").read_text(encoding="utf-8")
    assert make.text(made_again()[name]) == stored


def test_no_file_is_left_out() -> None:
    """Neither of the generator's nor in the folder."""
    assert set(made_again()) == set(FILES)
    assert {path.stem for path in make.FOLDERS[INTERNATIONAL].glob("*.json")} == set(FILES)


def test_our_parsers_read_them() -> None:
    """Each whole message, back to the same bytes."""
    for vector in vectors("certificates"):
        raw = bytes.fromhex(vector["body"] + vector["signature"])
        assert certificates.parse(raw).to_bytes() == raw
    for vector in vectors("records"):
        raw = bytes.fromhex(vector["body"] + vector["signature"])
        assert records.parse(raw).raw == raw
    for vector in vectors("orders"):
        raw = bytes.fromhex(vector["body"] + vector["signature"])
        if vector["type"] == "e4":
            assert messages.parse_refund(raw[40:72]).to_bytes() == raw[40:72]
            continue
        parse = messages.parse_load_order if vector["type"] == "f1" else messages.parse_card_order
        assert parse(raw).body() == raw[:-64]
    for vector in vectors("lists"):
        raw = bytes.fromhex(vector["body"] + vector["signature"])
        if vector["type"] == "f6":
            found = authorities.parse(raw, bundle())
            assert [one.to_bytes().hex() for one in found.certificates] == vector["operators"]
            assert [[named.hex(), f"{since:08x}"] for named, since in found.revoked.items()] == vector[
                "revoked"
            ]
    made = [
        denylist.parse(bytes.fromhex(one["body"] + one["signature"] + one["cards"]), bundle())
        for one in vectors("lists")
        if one["type"] == "f4"
    ]
    held = made[0]
    for change in made[1:]:
        assert isinstance(held, denylist.Denylist)
        assert isinstance(change, denylist.Delta)
        held = denylist.apply(held, change)
    assert isinstance(held, denylist.Denylist)
    assert [card.hex() for card in held] == vectors("lists")[-1]["result"]
    for vector in vectors("replies"):
        raw = bytes.fromhex(vector["bytes"])
        parse_reply = messages.parse_selected if vector["layout"] == "SELECT" else messages.parse_card_state
        assert parse_reply(raw).to_bytes() == raw


# ---------------------------------------------------------------------- completeness


def test_every_signed_type_has_a_vector() -> None:
    """A type in the page's table without a vector fails, and so does a vector of an unknown type."""
    named = set(page.signed_types())
    assert {one["type"].upper() for one in signed()} == named - set(ELSEWHERE)
    assert set(ELSEWHERE) <= named


def test_every_signed_type_of_the_code_is_in_the_table() -> None:
    """No type is shared, and none is missing on the page."""
    ours = [
        *(certificates.ROOT, certificates.OPERATOR, certificates.TERMINAL, certificates.CARD),
        *(records.PAYMENT, records.LOAD, records.REFUND, messages.ALREADY_PAID_PROOF, messages.CARD_PROOF),
        *(messages.RETAIL_PROOF, messages.TERMINAL_PROOF, messages.LOAD_ORDER, messages.CARD_ORDER),
        *(messages.REFUND_ORDER, authorities.AUTHORITY_LIST, denylist.DENYLIST),
    ]
    assert len(set(ours)) == len(ours)
    assert {f"{kind:02X}" for kind in ours} | set(ELSEWHERE) == set(page.signed_types())


def test_every_layout_has_a_vector() -> None:
    """Of the page's tables and formulas."""
    assert {one["layout"] for one in laid_out()} == set(page.layouts())


def test_every_class_and_kind_has_a_vector() -> None:
    """Profiles, certificate classes, order kinds, outcomes."""
    assert {one["fields"]["profile"] for one in vectors("records")} == {"00", "01", "02"}
    assert {one["fields"]["how the cardholder was verified"] for one in vectors("records")} == {"00", "01"}
    assert {one["fields"]["kind"] for one in vectors("orders") if one["type"] == "f2"} == {
        "01",
        "02",
        "03",
        "04",
    }
    assert {one["fields"]["outcome"] for one in vectors("proofs") if one["type"] == "d4"} == {"02", "03"}
    classes = {(one["type"], one["fields"]["class"]) for one in vectors("certificates")}
    assert classes >= {("c0", "00"), ("c1", "01"), ("c1", "02"), ("c2", "01"), ("c2", "02")}
    assert {klass for kind, klass in classes if kind == "c3"} == {"05", "15"}
    amounts = {one["fields"]["amount"] for one in vectors("orders") if one["type"] == "f1"}
    assert "00000000" in amounts
    assert len(amounts) == 2


def test_every_command_has_an_exchange() -> None:
    """Of the page's table, and no other; all with 9000, within the lengths that the page promises."""
    assert {one["ins"].upper() for one in vectors("exchanges")} == set(page.commands())
    for one in vectors("exchanges"):
        command, reply = bytes.fromhex(one["command"]), bytes.fromhex(one["reply"])
        assert reply[-2:] == b"\x90\x00"
        assert len(command) <= 216
        assert len(reply) <= 244


def test_every_status_word_is_on_the_page() -> None:
    """The code's table and the page's are one."""
    ours = {
        f"{value:04X}"
        for name, value in vars(status).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, int)
    }
    assert ours == page.status_words()


# ---------------------------------------------------------------------- code that shares nothing with ours


def test_the_pages_layouts_hold_together() -> None:
    """No gap, no overlap; the lengths beside formulas and in the text are the sums."""
    layouts = page.layouts()
    for layout in layouts.values():
        offset = 0
        for field in layout:
            assert field.offset == offset
            offset += field.length
    sizes = {name: page.size(layout) for name, layout in layouts.items()}
    assert sizes == {
        "certificate": 114,
        "record": 96,
        "SELECT": 44,
        "sale": 58,
        "READ STATE": 69,
        "D4": 119,
        "D5": 57,
        "E1": 178,
        "E2": 40,
        "E4": 72,
        "F1": 58,
        "F2": 61,
        "F4": 100,
        "F6": 20,
    }
    for name, lengths in page.told_lengths().items():
        assert sizes[name] in lengths


@pytest.mark.parametrize("vector", laid_out(), ids=title)
def test_the_pages_layout_cuts_it(vector: dict[str, Any]) -> None:
    """Each field of the page, at its offset, is what was asked for."""
    layout = page.layouts()[vector["layout"]]
    raw = whole(vector)
    if vector["layout"] == "certificate" and vector["type"] != "c3":
        layout = layout[:-1]
    if vector["layout"] == "F6":
        raw = raw[: page.size(layout)]  # what follows are whole certificates and revocations
    if vector["layout"] == "E1" and "PIN block" not in vector["fields"]:
        layout = layout[:-2]
    assert len(raw) == page.size(layout)
    assert page.cut(layout, raw) == vector["fields"]


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", signed(), ids=title)
def test_openssl_verifies_it(vector: dict[str, Any]) -> None:
    """The signature over the body, and over nothing else."""
    public, signature = bytes.fromhex(vector["public_key"]), bytes.fromhex(vector["signature"])
    body = bytes.fromhex(vector["body"])
    assert body[0] == int(vector["type"], 16)
    assert openssl.verifies(public, signature, body)
    altered = body[:-1] + bytes((body[-1] ^ 1,))
    assert not openssl.verifies(public, signature, altered)


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", vectors("keys"), ids=title)
def test_openssl_finds_the_public_key(vector: dict[str, Any]) -> None:
    """Of each private scalar."""
    scalar, public = bytes.fromhex(vector["scalar"]), bytes.fromhex(vector["public"])
    assert openssl.public_of(scalar, public) == public


def test_keys_are_those_that_sign() -> None:
    """Certificates name them, signatures are made with them."""
    keys = {one["name"]: one["public"] for one in vectors("keys")}
    for vector in signed():
        assert vector["public_key"] == keys[vector["signed_by"]]
    subjects = {one["name"]: one["fields"]["signature public key"] for one in vectors("certificates")}
    assert subjects == {
        "root": keys["root"],
        "issuing operator": keys["issuer"],
        "acquiring operator": keys["acquirer"],
        "retail terminal": keys["shop"],
        "transit terminal": keys["bus"],
        "card": keys["card"],
        "card of a student": keys["student"],
    }


@pytest.mark.needs("openssl")
def test_openssl_hashes_denylists() -> None:
    """What the signed header binds: the list that results, and the cards behind the signature."""
    for vector in (one for one in vectors("lists") if one["type"] == "f4"):
        result = bytes.fromhex("".join(vector["result"]))
        assert openssl.sha256(result).hex() == vector["fields"]["list digest"]
        assert openssl.sha256(bytes.fromhex(vector["cards"])).hex() == vector["fields"]["file digest"]


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", vectors("derived"), ids=title)
def test_openssl_hashes_it(vector: dict[str, Any]) -> None:
    """The beginning of a hash of its parts."""
    parts = b"".join(bytes.fromhex(part) for _, part in vector["parts"])
    value = bytes.fromhex(vector["value"])
    assert openssl.sha256(parts)[: len(value)] == value


def test_derived_values_are_the_ones_in_use() -> None:
    """In certificates, sales and orders."""
    derived = {one["name"]: one["value"] for one in vectors("derived")}
    card = next(one for one in vectors("certificates") if one["type"] == "c3")
    assert card["fields"]["card certificates only"] == derived["agreement digest"]
    assert vectors("replies")[0]["fields"]["certificate digest"] == derived["certificate digest"]
    assert vectors("sales")[0]["fields"]["reference"] == derived["transit reference"]
    for order in (one for one in vectors("orders") if one["type"] == "f1"):
        name = order["name"].removeprefix("order of the ")
        assert order["fields"]["challenge"] == derived[f"load challenge, {name}"]


def test_retail_references() -> None:
    """Time ‖ transaction number ‖ random."""
    for sale in (one["fields"] for one in vectors("sales") if one["fields"]["profile"] == "02"):
        assert sale["reference"][:16] == sale["terminal time"] + sale["terminal transaction number"]


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", [one for one in vectors("pin") if "X" in one], ids=title)
def test_openssl_agrees_on_the_pin_key(vector: dict[str, Any]) -> None:
    """From both ends, then K = H(prefix ‖ X ‖ …)[:16]."""
    value = {name: bytes.fromhex(text) for name, text in vector.items() if name != "name"}
    one = openssl.shared_x(value["ephemeral_scalar"], value["ephemeral_public"], value["agreement_public"])
    other = openssl.shared_x(value["agreement_scalar"], value["agreement_public"], value["ephemeral_public"])
    assert one == other == value["X"]
    bound = openssl.sha256(value["sale"]) if value["prefix"] == b"\xa1" else value["bound"]
    assert bound == value["bound"]
    assert len(bound) == (32 if value["prefix"] == b"\xa1" else 16)
    assert openssl.sha256(value["prefix"] + value["X"] + bound)[:16] == value["K"]


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", [one for one in vectors("pin") if "block" in one], ids=title)
def test_openssl_encrypts_the_pin_block(vector: dict[str, Any]) -> None:
    """One AES block over field ‖ n; the field by ISO 9564-1 format 2, written out here."""
    digits = vector["pin"]
    assert vector["field"] == f"2{len(digits):x}{digits.ljust(14, 'f')}"
    assert vector["clear"] == vector["field"] + vector["n"]
    block = openssl.aes_128_block(bytes.fromhex(vector["K"]), bytes.fromhex(vector["clear"]))
    assert block.hex() == vector["block"]


def test_exchanges_carry_the_vectors() -> None:
    """What went over the wire is what stands in the other files."""
    sent = {one["name"]: bytes.fromhex(one["command"])[5:-1].hex() for one in vectors("exchanges")}
    got = {one["name"]: one["reply"][:-4] for one in vectors("exchanges")}
    sales = {one["name"]: one["bytes"] for one in vectors("sales")}
    assert sent["PAY, transit"] == sales["ride"]
    proof = next(one for one in vectors("proofs") if one["name"] == "retail proof with a PIN")
    fields = proof["fields"]
    assert sent["PAY, retail, PIN"] == (
        fields["sale"] + fields["digest"] + fields["ephemeral key"] + fields["PIN block"] + proof["signature"]
    )
    for record, name in (
        ("transit", "PAY, transit"),
        ("retail", "PAY, retail"),
        ("retail, PIN", "PAY, retail, PIN"),
    ):
        stored = next(one for one in vectors("records") if one["name"] == f"payment, {record}")
        body = stored["body"]
        assert got[name] == "01" + body[48:56] + body[166:190] + stored["signature"]


# ---------------------------------------------------------------------- the tests themselves


def test_a_missing_vector_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the card's proof the test of types fails."""
    kept = [one for one in signed() if one["type"] != "d4"]
    monkeypatch.setattr("tests.hardwallet.test_vectors.signed", lambda: kept)
    with pytest.raises(AssertionError):
        test_every_signed_type_has_a_vector()
