"""The test vectors of the GM suite: as complete as the international ones, made again byte for byte, and
checked by the `openssl` command and gmalg, which share nothing with our code or with each other."""

import json
from functools import cache
from typing import Any

import gmalg
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from gmalg.sm2 import _ecdlp

from hardwallet.errors import SignatureInvalid
from hardwallet.gm import Gm
from hardwallet.suites import GM
from tests.hardwallet import openssl_command as openssl
from tests.hardwallet import protocol_page as page
from tests.hardwallet.test_vectors import FILES, title, whole
from tests.hardwallet.test_vectors import vectors as international
from tests.vectors import make

IDENTIFIER = b"1234567812345678"


@cache
def vectors(name: str) -> list[dict[str, Any]]:
    """One file."""
    path = make.FOLDERS[GM] / f"{name}.json"
    loaded: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def signed() -> list[dict[str, Any]]:
    """Every vector with a signature."""
    return [one for name in FILES for one in vectors(name) if "signature" in one]


def value(vector: dict[str, Any], *names: str) -> list[bytes]:
    """Some of its values."""
    return [bytes.fromhex(vector[name]) for name in names]


@cache
def made_again() -> dict[str, list[dict[str, Any]]]:
    """What the generator makes now."""
    return make.make(GM)


@pytest.mark.parametrize("name", FILES)
def test_our_code_makes_them_again(name: str) -> None:
    """Byte for byte, the whole file."""
    stored = (make.FOLDERS[GM] / f"{name}.json").read_text(encoding="utf-8")
    assert make.text(made_again()[name]) == stored


def shape(vector: dict[str, Any]) -> dict[str, Any]:
    """What is the same in every suite: its keys, what it is, and how long each value is."""
    kept = {name: vector[name] for name in ("name", "layout", "type", "ins", "signed_by") if name in vector}
    lengths = {name: len(text) for name, text in vector.items() if isinstance(text, str) and name != "suite"}
    fields = {name: len(text) for name, text in vector.get("fields", {}).items()}
    parts = [[what, len(part)] for what, part in vector.get("parts", [])]
    return {"keys": list(vector), "kept": kept, "lengths": lengths, "fields": fields, "parts": parts}


@pytest.mark.parametrize("name", FILES)
def test_each_vector_has_its_counterpart(name: str) -> None:
    """So every type, layout, class and command that test_vectors.py demands is here; no length differs."""
    assert [shape(one) for one in vectors(name)] == [shape(one) for one in international(name)]
    assert {one["suite"] for one in vectors(name)} == {"02"}
    assert {one["suite"] for one in international(name)} == {"01"}


def test_no_file_is_left_out() -> None:
    """Neither of the generator's nor in the folder."""
    assert set(made_again()) == set(FILES)
    assert {path.stem for path in make.FOLDERS[GM].glob("*.json")} == set(FILES)


LAID_OUT = [one for name in FILES for one in vectors(name) if "layout" in one]


@pytest.mark.parametrize("vector", LAID_OUT, ids=title)
def test_the_pages_layout_cuts_it(vector: dict[str, Any]) -> None:
    """Each field of the page, at its offset, is what was asked for; the suite byte among them."""
    layout, raw = page.layouts()[vector["layout"]], whole(vector)
    fields = page.cut(layout, raw)
    assert {name: text for name, text in fields.items() if name in vector["fields"]} == vector["fields"]
    if "suite" in fields:
        assert fields["suite"] == "02"


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", signed(), ids=title)
def test_openssl_verifies_it(vector: dict[str, Any]) -> None:
    """The signature over the body under SM2's identifier, and under no other."""
    public, signature, body = value(vector, "public_key", "signature", "body")
    assert openssl.sm2_verifies(public, signature, body)
    altered = body[:2] + b"\x01" + body[3:]
    assert altered != body
    assert not openssl.sm2_verifies(public, signature, altered)


@pytest.mark.parametrize("vector", signed()[::4], ids=title)
def test_gmalg_verifies_it(vector: dict[str, Any]) -> None:
    """Every fourth: it is slow."""
    public, signature, body = value(vector, "public_key", "signature", "body")
    second = gmalg.SM2(uid=IDENTIFIER, pk=b"\x04" + public)
    assert second.verify(body, signature[:32], signature[32:])
    assert not second.verify(body + b"\0", signature[:32], signature[32:])


@pytest.mark.needs("openssl")
def test_openssl_refuses_another_identifier() -> None:
    """One byte of it, and none at all."""
    public, signature, body = value(signed()[0], "public_key", "signature", "body")
    for other in (b"1234567812345679", b""):
        assert not openssl.sm2_verifies(public, signature, body, other)


@pytest.mark.needs("openssl")
def test_what_openssl_signs_under_no_identifier_is_refused() -> None:
    """Its command signs under none unless it is told one."""
    scalar, public = value(vectors("keys")[0], "scalar", "public")
    key = Gm().verifying_key(public)
    for identifier, fits in ((IDENTIFIER, True), (None, False)):
        der = openssl.sm2_signature(scalar, public, b"payment", identifier=identifier)
        if fits:
            key.verify(_raw(der), b"payment")
        else:
            with pytest.raises(SignatureInvalid):
                key.verify(_raw(der), b"payment")


def _raw(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", vectors("keys"), ids=title)
def test_openssl_finds_the_public_key(vector: dict[str, Any]) -> None:
    """Of each private scalar."""
    scalar, public = value(vector, "scalar", "public")
    assert openssl.sm2_public_of(scalar) == public


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", vectors("derived"), ids=title)
def test_openssl_hashes_it(vector: dict[str, Any]) -> None:
    """SM3; gmalg's is the same."""
    parts = b"".join(bytes.fromhex(part) for _, part in vector["parts"])
    wanted = bytes.fromhex(vector["value"])
    hashed = openssl.sm3(parts)
    assert hashed[: len(wanted)] == wanted
    second = gmalg.SM3()
    second.update(parts)
    assert second.value() == hashed


@pytest.mark.parametrize("vector", [one for one in vectors("pin") if "X" in one], ids=title)
def test_gmalg_agrees_on_the_shared_point(vector: dict[str, Any]) -> None:
    """From both ends."""
    for scalar, public in (
        value(vector, "ephemeral_scalar", "agreement_public"),
        value(vector, "agreement_scalar", "ephemeral_public"),
    ):
        point = int.from_bytes(public[:32], "big"), int.from_bytes(public[32:], "big")
        x, _ = _ecdlp.ec.mul(int.from_bytes(scalar, "big"), point)
        assert f"{int(x):064x}" == vector["X"]


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", [one for one in vectors("pin") if "X" in one], ids=title)
def test_openssl_agrees_on_the_pin_key(vector: dict[str, Any]) -> None:
    """K = SM3(prefix ‖ X ‖ …)[:16]."""
    prefix, shared, sale, bound, key = value(vector, "prefix", "X", "sale", "bound", "K")
    if prefix == b"\xa1":
        assert openssl.sm3(sale) == bound
    assert openssl.sm3(prefix + shared + bound)[:16] == key


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("vector", [one for one in vectors("pin") if "block" in one], ids=title)
def test_openssl_encrypts_the_pin_block(vector: dict[str, Any]) -> None:
    """One SM4 block over field ‖ n; gmalg's is the same."""
    key, clear, block = value(vector, "K", "clear", "block")
    assert vector["clear"] == vector["field"] + vector["n"]
    assert openssl.sm4_block(key, clear) == gmalg.SM4(key).encrypt(clear) == block


@pytest.mark.needs("openssl")
def test_openssl_hashes_the_record_in_a_proof() -> None:
    """H(body) in a D4 is SM3 of the record that the card shows."""
    bodies = {openssl.sm3(bytes.fromhex(one["body"])).hex() for one in vectors("records")}
    proofs = [one["fields"]["H(body)"] for one in vectors("proofs") if one["type"] == "d4"]
    assert proofs
    assert set(proofs) <= bodies
