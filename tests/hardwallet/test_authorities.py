"""The authority list, and a trust in which operators have several certificates or revoked ones."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hardwallet import authorities
from hardwallet.certificates import (
    CLASS_ACQUIRING,
    CLASS_BESIDE,
    CLASS_ISSUING,
    CLASS_RETAIL,
    CURRENCY_CNY,
    ROOT_AUTHORITY,
    TERMINAL,
    Certificate,
    TrustBundle,
    digest,
    signed,
)
from hardwallet.errors import (
    AuthoritiesRefused,
    AuthorityUnknown,
    CertificateRefused,
    CertificateRevoked,
    IssuingError,
    SignatureInvalid,
)
from hardwallet.issuing import ACQUIRER, ISSUER, Trust, parse_trust
from hardwallet.suites import SigningKey
from hw_tests.bench import Authority


@dataclass(frozen=True)
class Rotated:
    """A bundle of its own, the acquirer's next certificate, and the keys behind them."""

    bundle: TrustBundle
    older: Certificate
    newer: Certificate
    old_key: SigningKey
    new_key: SigningKey
    root: SigningKey
    now: int

    def listed(self, version: int, revoked: dict[bytes, int] | None = None) -> bytes:
        """A list of all three certificates."""
        operators = [self.bundle.operator(ISSUER), self.older, self.newer]
        return authorities.build(self.bundle, version, self.now, operators, revoked or {}, self.root)

    def take(self, raw: bytes) -> bool:
        """Parse and update, as everybody does."""
        return self.bundle.update(authorities.parse(raw, self.bundle))

    def terminal(self, key: SigningKey) -> Certificate:
        """A terminal's certificate, signed by one of the acquirer's keys."""
        begin = self.older.not_before
        blank = Certificate(
            *(TERMINAL, self.bundle.suite.number, CLASS_RETAIL, self.bundle.scheme, ACQUIRER),
            *(ACQUIRER + bytes(7) + b"\1", CURRENCY_CNY, begin, begin + 86_400, self.old_key.public),
        )
        return signed(blank, key)


@pytest.fixture
def rotated(authority: Authority, now: int) -> Rotated:
    """Not yet updated: the bundle knows the older certificate only."""
    known = authority.bundle
    bundle = TrustBundle(known.suite, known.root, known.operators)
    key = bundle.suite.new_signing_key(random.Random(5).randbytes)
    older = bundle.operator(ACQUIRER)
    blank = replace(
        older, klass=older.klass | CLASS_BESIDE, not_before=older.not_before + 10, public=key.public
    )
    return Rotated(bundle, older, signed(blank, authority.root), authority.acquirer, key, authority.root, now)


# ---------------------------------------------------------------------- the file


def test_a_list_comes_back(rotated: Rotated) -> None:
    named = digest(rotated.bundle.suite, rotated.older)
    raw = rotated.listed(7, {named: 123})
    found = authorities.parse(raw, rotated.bundle)
    assert (found.version, found.time_s, found.raw) == (7, rotated.now, raw)
    assert found.certificates == (rotated.bundle.operator(ISSUER), rotated.older, rotated.newer)
    assert found.revoked == {named: 123}
    assert len(raw) == 20 + 3 * 162 + 12 + 64


def test_any_altered_byte_is_refused(rotated: Rotated) -> None:
    raw = rotated.listed(1, {bytes(8): 5})
    for offset in range(len(raw)):
        altered = bytearray(raw)
        altered[offset] ^= 1
        with pytest.raises(AuthoritiesRefused) as caught:
            authorities.parse(bytes(altered), rotated.bundle)
        assert caught.value.code in ("malformed", "scheme", "signature"), offset
        if 8 <= offset < 16 or offset >= 20:
            assert caught.value.code == "signature", offset


def test_a_list_that_is_cut_off_or_longer_is_refused(rotated: Rotated) -> None:
    raw = rotated.listed(1)
    for wrong in (b"", raw[:83], raw[:-1], raw[:-64], raw + b"\0", raw[:20] + raw[182:]):
        with pytest.raises(AuthoritiesRefused) as caught:
            authorities.parse(wrong, rotated.bundle)
        assert caught.value.code == "malformed"


def test_an_unsigned_list_is_refused(rotated: Rotated) -> None:
    body = rotated.listed(1)[:-64]
    for signature in (bytes(64), rotated.old_key.sign(body)):
        with pytest.raises(AuthoritiesRefused, match="not signed by this scheme's root"):
            authorities.parse(body + signature, rotated.bundle)


def test_the_list_of_another_scheme_or_root_is_refused(rotated: Rotated) -> None:
    raw = rotated.listed(1)
    body = raw[:4] + b"\1\2\3\4" + raw[8:-64]
    with pytest.raises(AuthoritiesRefused, match="another scheme") as caught:
        authorities.parse(body + rotated.root.sign(body), rotated.bundle)
    assert caught.value.code == "scheme"
    stranger = rotated.bundle.suite.new_signing_key(random.Random(6).randbytes)
    with pytest.raises(AuthoritiesRefused) as caught:
        authorities.parse(raw[:-64] + stranger.sign(raw[:-64]), rotated.bundle)
    assert caught.value.code == "signature"


def test_a_list_of_another_suite_is_refused(rotated: Rotated) -> None:
    raw = rotated.listed(1)
    body = raw[:2] + b"\2" + raw[3:-64]
    with pytest.raises(AuthoritiesRefused) as caught:
        authorities.parse(body + rotated.root.sign(body), rotated.bundle)
    assert caught.value.code == "scheme"


def test_what_the_root_should_not_have_signed_is_refused(rotated: Rotated) -> None:
    """No operators at all, version 0, a certificate that is no operator's, the same revocation twice."""
    raw, root = rotated.listed(1, {bytes(8): 5}), rotated.bundle.root.to_bytes()
    bodies = [
        raw[:16] + bytes(4),
        raw[:8] + bytes(4) + raw[12:-64],
        raw[:20] + root + raw[182:-64],
        raw[:18] + b"\0\2" + raw[20:-64] + raw[-76:-64],
    ]
    for body in bodies:
        with pytest.raises(AuthoritiesRefused) as caught:
            authorities.parse(body + rotated.root.sign(body), rotated.bundle)
        assert caught.value.code == "malformed"


def test_a_gigabyte_is_not_read(rotated: Rotated, tmp_path: Path) -> None:
    path = tmp_path / "list"
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(AuthoritiesRefused, match="too long"):
        authorities.read_file(path)
    with pytest.raises(AuthoritiesRefused, match="too long"):
        authorities.parse(bytes(authorities.MAX_LENGTH + 1), rotated.bundle)


def test_more_than_a_list_holds_is_not_signed(rotated: Rotated) -> None:
    with pytest.raises(AuthoritiesRefused, match="at most 64 operators"):
        authorities.build(rotated.bundle, 1, 0, [rotated.older] * 65, {}, rotated.root)


# ---------------------------------------------------------------------- the version


def test_the_version_never_goes_back(rotated: Rotated) -> None:
    second = rotated.listed(2)
    assert rotated.take(second) is True
    assert rotated.take(second) is False
    for wrong in (rotated.listed(1), rotated.listed(2, {bytes(8): 1})):
        with pytest.raises(AuthoritiesRefused, match="never goes back") as caught:
            rotated.take(wrong)
        assert caught.value.code == "older"
    assert (rotated.bundle.version, rotated.bundle.authorities) == (2, second)
    assert rotated.take(rotated.listed(3)) is True


def test_a_refused_list_changes_nothing(rotated: Rotated) -> None:
    """A certificate in it that is not good: the bundle goes on with what it had."""
    wrong = replace(rotated.newer, signature=bytes(64))
    raw = authorities.build(rotated.bundle, 5, 0, [wrong], {}, rotated.root)
    before = rotated.bundle.operators
    with pytest.raises(CertificateRefused):
        rotated.take(raw)
    assert (rotated.bundle.version, rotated.bundle.operators) == (0, before)


def test_scheme_json_carries_the_list(rotated: Rotated) -> None:
    suite = rotated.bundle.suite
    first = Trust("city", suite, rotated.bundle).to_bytes()
    assert b"authorities" not in first  # files without a list stay what they were
    rotated.take(rotated.listed(4, {digest(suite, rotated.older): 9}))
    content = Trust("city", suite, rotated.bundle).to_bytes()
    found = parse_trust(content, "scheme.json").bundle
    assert (found.version, found.operators) == (4, rotated.bundle.operators)
    assert found.revoked == {digest(suite, rotated.older): 9}
    assert parse_trust(first, "scheme.json").bundle.version == 0
    hidden = content.replace(rotated.newer.to_bytes().hex().encode(), b"", 1)
    with pytest.raises(IssuingError, match=r"scheme\.json"):
        parse_trust(hidden, "scheme.json")
    altered = content.replace(b"f60101", b"f60102")
    with pytest.raises(IssuingError, match=r"scheme\.json can't be trusted"):
        parse_trust(altered, "scheme.json")


# ---------------------------------------------------------------------- several certificates


def test_either_key_is_good_during_the_overlap(rotated: Rotated) -> None:
    rotated.take(rotated.listed(1))
    bundle, at = rotated.bundle, rotated.older.not_before + 20
    for key in (rotated.old_key, rotated.new_key):
        certificate = rotated.terminal(key)
        bundle.check(certificate, TERMINAL, at)
        assert bundle.authority_of(certificate).public == key.public
        signature = key.sign(b"a message")
        found = bundle.verify_signed(ACQUIRER, CLASS_ACQUIRING, b"a message", signature, at)
        assert found.public == key.public
    assert bundle.operator(ACQUIRER) == rotated.newer
    assert bundle.current(ACQUIRER) == [rotated.newer, rotated.older]


def test_what_neither_key_signed_is_refused(rotated: Rotated) -> None:
    rotated.take(rotated.listed(1))
    stranger, at = rotated.root, rotated.older.not_before + 20
    with pytest.raises(CertificateRefused, match="not signed by its authority"):
        rotated.bundle.check(rotated.terminal(stranger), TERMINAL, at)
    with pytest.raises(SignatureInvalid):
        rotated.bundle.verify_signed(ACQUIRER, CLASS_ACQUIRING, b"x", stranger.sign(b"x"), at)
    with pytest.raises(CertificateRefused, match="may not sign"):
        rotated.bundle.verify_signed(ACQUIRER, CLASS_ISSUING, b"x", rotated.new_key.sign(b"x"), at)
    with pytest.raises(AuthorityUnknown):
        rotated.bundle.verify_signed(b"\x99" * 4, CLASS_ACQUIRING, b"x", bytes(64), at)


def test_dates_are_those_of_the_certificate_whose_key_fits(rotated: Rotated) -> None:
    rotated.take(rotated.listed(1))
    early = rotated.newer.not_before - 5
    rotated.bundle.check(rotated.terminal(rotated.old_key), TERMINAL, early)
    with pytest.raises(CertificateRefused, match="operator's certificate is not valid yet"):
        rotated.bundle.check(rotated.terminal(rotated.new_key), TERMINAL, early)
    with pytest.raises(CertificateRefused, match="not valid yet"):
        rotated.bundle.verify_signed(ACQUIRER, CLASS_ACQUIRING, b"x", rotated.new_key.sign(b"x"), early)


def test_what_stands_under_a_revoked_certificate_is_refused(rotated: Rotated) -> None:
    since = rotated.older.not_before + 15
    bundle, at = rotated.bundle, since + 5
    rotated.take(rotated.listed(1, {digest(bundle.suite, rotated.older): since}))
    certificate = rotated.terminal(rotated.old_key)
    for moment in (at, since - 1):  # a certificate's own date proves nothing once its signer's key is out
        with pytest.raises(CertificateRevoked, match=r"revoked.*has to renew"):
            bundle.check(certificate, TERMINAL, moment)
    bundle.check(certificate, TERMINAL, at, even_revoked=True)
    bundle.check(rotated.terminal(rotated.new_key), TERMINAL, at)
    signature = rotated.old_key.sign(b"x")
    with pytest.raises(CertificateRevoked):
        bundle.verify_signed(ACQUIRER, CLASS_ACQUIRING, b"x", signature, since - 1)
    bundle.verify_signed(ACQUIRER, CLASS_ACQUIRING, b"x", signature, since, since=True)
    with pytest.raises(CertificateRevoked):
        bundle.verify_signed(ACQUIRER, CLASS_ACQUIRING, b"x", signature, since + 1, since=True)
    assert bundle.operator(ACQUIRER) == rotated.newer
    assert bundle.current(ACQUIRER) == [rotated.newer]


def test_an_operator_without_a_good_certificate_signs_nothing(rotated: Rotated) -> None:
    suite = rotated.bundle.suite
    both = {digest(suite, one): 1 for one in (rotated.older, rotated.newer)}
    rotated.take(rotated.listed(1, both))
    with pytest.raises(AuthorityUnknown, match=r"every certificate of operator 00000201 is revoked"):
        rotated.bundle.operator(ACQUIRER)
    assert rotated.bundle.current(ACQUIRER) == []


def test_a_certificate_renewed_with_the_same_key(rotated: Rotated, authority: Authority) -> None:
    """What the key signed before the renewal stays good, although the newer certificate began later."""
    renewed = signed(replace(rotated.older, not_before=rotated.older.not_before + 50), authority.root)
    assert renewed.authority == ROOT_AUTHORITY
    rotated.bundle.add_operator(renewed)
    rotated.bundle.check(rotated.terminal(rotated.old_key), TERMINAL, rotated.older.not_before + 1)
    assert rotated.bundle.operator(ACQUIRER) == renewed
