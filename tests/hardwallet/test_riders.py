"""Rider classes: certified with the card, refused where they are unknown."""

from dataclasses import replace
from pathlib import Path

import pytest

from hardwallet.certificates import CARD, check_shape
from hardwallet.errors import CertificateRefused
from hardwallet.issuing import create_scheme, open_scheme
from hardwallet.riders import Rider, class_byte, is_card_class, rider_by_word
from hardwallet.suites import International
from tests.hardwallet.protocol_page import PAGE

NOW = 1_795_000_000


def entropy(count: int) -> bytes:
    entropy.asked += 1  # type: ignore[attr-defined]
    return (b"%d" % entropy.asked * count)[:count]  # type: ignore[attr-defined]


entropy.asked = 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("rider", Rider)
def test_a_card_carries_tier_and_class(tmp_path: Path, rider: Rider) -> None:
    trust = create_scheme(tmp_path, "town", International(), b"x", NOW, entropy)
    with open_scheme(tmp_path, b"x", entropy) as scheme:
        identity, memory = scheme.new_card(5, NOW, rider=rider)
        plain, _ = scheme.new_card(5, NOW)
    certificate = identity.certificate
    assert (certificate.tier, certificate.rider, certificate.klass) == (5, rider, rider * 16 + 5)
    assert memory.state().tier == 5
    assert (plain.certificate.rider, plain.certificate.klass) == (Rider.ADULT, 5)
    trust.bundle.check(certificate, CARD, NOW)
    promoted = replace(
        certificate, klass=class_byte(5, Rider.SENIOR if rider is Rider.CHILD else Rider.CHILD)
    )
    with pytest.raises(CertificateRefused, match="not signed"):
        trust.bundle.check(promoted, CARD, NOW)


@pytest.mark.parametrize("klass", [0x50, 0x55, 0x84, 0xF0, 0xFF])
def test_an_unknown_class_is_refused(tmp_path: Path, klass: int) -> None:
    trust = create_scheme(tmp_path, "town", International(), b"x", NOW, entropy)
    with open_scheme(tmp_path, b"x", entropy) as scheme:
        identity, _ = scheme.new_card(5, NOW)
    bundle = trust.bundle
    with pytest.raises(CertificateRefused, match="unknown class"):
        check_shape(
            replace(identity.certificate, klass=klass), bundle.suite.number, bundle.scheme, bundle.currency
        )
    assert not is_card_class(klass)


def test_words_and_numbers_are_those_of_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = ", ".join(f"{int(rider)} {rider.word}" for rider in Rider)
    assert told in page
    assert [rider_by_word(rider.word) for rider in Rider] == list(Rider)
    assert rider_by_word("Adult") is None
