"""The GM suite against the standards' vectors and a second implementation (gmalg)."""

import random
import subprocess
import sys

import gmalg
import gmssl_pyx
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hardwallet import gm
from hardwallet.errors import Malformed, SignatureInvalid, UnknownSuite
from hardwallet.suites import GM, INTERNATIONAL, suite_by_number

# GB/T 32918.5, annex A.2: the example of a signature on the recommended curve.
SCALAR = bytes.fromhex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
PUBLIC = bytes.fromhex(
    "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
Z = bytes.fromhex("B2E14C5C79C6DF5B85F4FE7ED8DB7A262B9DA7E07CCB0EA9F4747B8CCDA8A4F3")
SIGNATURE = bytes.fromhex(
    "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
    "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
)


def oracle(scalar: bytes, public: bytes) -> gmalg.SM2:
    return gmalg.SM2(scalar, b"1234567812345678", b"\x04" + public)


def test_sm2_verifies_the_standards_example() -> None:
    gm.Gm().verifying_key(PUBLIC).verify(SIGNATURE, b"message digest")


def test_sm2_key_and_identity_are_the_standards() -> None:
    assert gm.Gm().signing_key(SCALAR).public == PUBLIC
    assert gm.identity_digest(PUBLIC) == Z


def test_sm3_is_the_standards() -> None:
    expected = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert gm.Gm().hash(b"abc").hex() == expected


def test_sm4_is_the_standards() -> None:
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    block = gm.Gm().encrypt_block(key, key)
    assert block.hex() == "681edf34d206965e86b3e94f536e4246"
    assert gm.Gm().decrypt_block(key, block) == key


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_second_implementation_takes_our_signatures(deterministic: bool) -> None:
    suite = gm.Gm(deterministic=deterministic)
    entropy = random.Random(7).randbytes
    for length in (0, 44, 96, 178):
        key, message = suite.new_signing_key(entropy), entropy(length)
        signature = key.sign(message)
        assert oracle(key.scalar(), key.public).verify(message, signature[:32], signature[32:])


def test_we_take_the_signatures_of_a_second_implementation() -> None:
    key = gm.Gm().new_signing_key(random.Random(8).randbytes)
    r, s = oracle(key.scalar(), key.public).sign(b"payment")
    gm.Gm().verifying_key(key.public).verify(r + s, b"payment")


def test_another_identifier_is_refused() -> None:
    key = gm.Gm().new_signing_key(random.Random(9).randbytes)
    r, s = gmalg.SM2(key.scalar(), b"1234567812345679", b"\x04" + key.public).sign(b"payment")
    with pytest.raises(SignatureInvalid):
        gm.Gm().verifying_key(key.public).verify(r + s, b"payment")


def test_an_empty_identifier_is_refused() -> None:
    """What OpenSSL makes when no identifier was set."""
    key = gm.Gm().new_signing_key(random.Random(9).randbytes)
    empty = gm.sm3(identity_under(b"", key.public) + b"payment")
    der = gmssl_pyx.sm2_sign_sm3_digest(key.scalar(), empty)
    assert gmssl_pyx.sm2_verify_sm3_digest(key.public, empty, der)
    r, s = decode_dss_signature(der)
    with pytest.raises(SignatureInvalid):
        gm.Gm().verifying_key(key.public).verify(r.to_bytes(32, "big") + s.to_bytes(32, "big"), b"payment")


def test_no_identity_is_made_of_an_empty_identifier() -> None:
    with pytest.raises(Malformed, match="1 to 8191 bytes, not 0; this protocol uses 1234567812345678"):
        gm.identity_digest(PUBLIC, b"")
    assert gm.identity_digest(PUBLIC, b"ALICE123@YAHOO.COM") != Z
    with pytest.raises(Malformed):
        gm.identity_digest(PUBLIC, bytes(8_192))


SPEAKING = """
import ctypes, os, sys, threading
from hardwallet import gm
from hardwallet.errors import SignatureInvalid

libc = ctypes.CDLL(None)
def told(text):
    stream = ctypes.c_void_p.in_dll(libc, "stderr")
    libc.fputs(text, stream)
    libc.fflush(stream)

def refused():
    for _ in range(20):
        try:
            key.verify(bytes((1,)) * 64, b"payment")
        except SignatureInvalid:
            pass

key = gm.Gm().verifying_key(bytes.fromhex(sys.argv[1]))
threads = [threading.Thread(target=refused) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(40):
    os.write(2, b"+")
for thread in threads:
    thread.join()
told(b".")
os.posix_spawn(sys.executable, [sys.executable, "-c", "import sys; sys.exit('child')"], os.environ)
os.wait()
if os.fork() == 0:
    refused()
    told(b".")
    os._exit(0)
os.wait()
"""


def test_the_library_is_silent_about_refused_signatures() -> None:
    """Its own lines are gone; those of other threads, of children, and of C code afterwards are all there."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SPEAKING, PUBLIC.hex()],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr.count(b"+") == 40
    assert done.stderr.count(b"child") == 1
    assert b"GmSSL" not in done.stderr
    assert done.stderr.count(b".") == 2
    assert set(done.stderr.replace(b"child", b"")) == set(b"+.\n")


def test_the_library_would_speak() -> None:
    """Else the test above proves nothing."""
    loud = SPEAKING.replace("def told", "gm.silent_stderr = __import__('contextlib').nullcontext\ndef told")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", loud, PUBLIC.hex()],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"GmSSL" in done.stderr


def identity_under(identifier: bytes, public: bytes) -> bytes:
    """Z of GB/T 32918.2, 5.5, under any identifier."""
    head = (8 * len(identifier)).to_bytes(2, "big") + identifier
    curve = bytes.fromhex(
        "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFC"
        "28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93"
        "32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7"
        "BC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0"
    )
    return gm.sm3(head + curve + public)


def test_simulated_signatures_repeat_and_real_ones_do_not() -> None:
    for deterministic in (True, False):
        key = gm.Gm(deterministic=deterministic).signing_key(SCALAR)
        assert (key.sign(b"x") == key.sign(b"x")) is deterministic


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_an_altered_signature_is_refused(place: int) -> None:
    altered = bytearray(SIGNATURE)
    altered[place] ^= 1
    with pytest.raises(SignatureInvalid):
        gm.Gm().verifying_key(PUBLIC).verify(bytes(altered), b"message digest")


@pytest.mark.parametrize("signature", [b"", SIGNATURE[:-1], bytes(64), b"\xff" * 64])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        gm.Gm().verifying_key(PUBLIC).verify(signature, b"message digest")


def test_both_sides_agree_on_the_shared_point() -> None:
    suite, entropy = gm.Gm(), random.Random(10).randbytes
    ours, theirs = suite.new_agreement_key(entropy), suite.new_agreement_key(entropy)
    assert ours.shared(theirs.public) == theirs.shared(ours.public)


def test_the_shared_point_is_the_second_implementations() -> None:
    """SM2 encryption works on the same shared point, so what gmalg encrypts must open with it."""
    suite = gm.Gm()
    key = suite.new_agreement_key(random.Random(11).randbytes)
    cipher = oracle(key.scalar(), key.public).encrypt(b"PIN block of 16.")
    point, check, hidden = cipher[1:65], cipher[65:97], cipher[97:]
    x = key.shared(point)
    candidates = [candidate for candidate in (_opened(x, y, hidden, check) for y in _roots(x)) if candidate]
    assert candidates == [b"PIN block of 16."]


def _roots(x: bytes) -> list[bytes]:
    """Both y of a point of the curve with that x."""
    p = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
    b = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
    value = int.from_bytes(x, "big")
    y = pow(value**3 - 3 * value + b, (p + 1) // 4, p)
    return [y.to_bytes(32, "big"), (p - y).to_bytes(32, "big")]


def _opened(x: bytes, y: bytes, hidden: bytes, check: bytes) -> bytes | None:
    """GB/T 32918.4, 7.1, for at most 32 bytes."""
    mask = gm.sm3(x + y + b"\0\0\0\1")
    plain = bytes(one ^ other for one, other in zip(hidden, mask, strict=False))
    return plain if gm.sm3(x + plain + y) == check else None


@pytest.mark.parametrize("public", [bytes(64), b"\xff" * 64, PUBLIC[:-1], PUBLIC[:-1] + b"\x00"])
def test_what_is_no_point_is_refused(public: bytes) -> None:
    with pytest.raises(Malformed):
        gm.Gm().verifying_key(public)
    with pytest.raises(Malformed):
        gm.Gm().agreement_key(SCALAR).shared(public)


@pytest.mark.parametrize("scalar", [bytes(32), b"\xff" * 32, SCALAR[:-1]])
def test_what_is_no_private_key_is_refused(scalar: bytes) -> None:
    with pytest.raises(Malformed):
        gm.Gm().signing_key(scalar)


def test_suites_are_found_by_their_byte() -> None:
    assert suite_by_number(INTERNATIONAL).number == 1
    assert suite_by_number(GM).number == 2
    with pytest.raises(UnknownSuite):
        suite_by_number(3)
