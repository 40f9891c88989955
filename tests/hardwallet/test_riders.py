"""Rider classes: certified with the card, refused where they are unknown."""

from dataclasses import replace

import pytest

from hardwallet.certificates import CARD, Certificate, TrustBundle, check_shape
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


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrustBundle, dict[Rider, Certificate]]:
    """A scheme, and the certificate of a card of each class."""
    folder = tmp_path_factory.mktemp("riders")
    trust = create_scheme(folder, "town", International(), b"x", NOW, entropy)
    with open_scheme(folder, b"x", entropy) as scheme:
        made = {rider: scheme.new_card(5, NOW, rider=rider) for rider in Rider}
        plain, _ = scheme.new_card(5, NOW)
    assert (plain.certificate.rider, plain.certificate.klass) == (Rider.ADULT, 5)
    assert {memory.state().tier for _, memory in made.values()} == {5}
    return trust.bundle, {rider: identity.certificate for rider, (identity, _) in made.items()}


Cards = tuple[TrustBundle, dict[Rider, Certificate]]


@pytest.mark.parametrize("rider", Rider)
def test_a_card_carries_tier_and_class(cards: Cards, rider: Rider) -> None:
    bundle, certificate = cards[0], cards[1][rider]
    assert (certificate.tier, certificate.rider, certificate.klass) == (5, rider, rider * 16 + 5)
    bundle.check(certificate, CARD, NOW)
    other = Rider.SENIOR if rider is Rider.CHILD else Rider.CHILD
    promoted = replace(certificate, klass=class_byte(5, other))
    with pytest.raises(CertificateRefused, match="not signed"):
        bundle.check(promoted, CARD, NOW)


@pytest.mark.parametrize("klass", [0x50, 0x55, 0x84, 0xF0, 0xFF])
def test_an_unknown_class_is_refused(cards: Cards, klass: int) -> None:
    bundle, certificate = cards[0], replace(cards[1][Rider.ADULT], klass=klass)
    with pytest.raises(CertificateRefused, match="unknown class"):
        check_shape(certificate, bundle.suite.number, bundle.scheme, bundle.currency)
    assert not is_card_class(klass)


def test_words_and_numbers_are_those_of_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = ", ".join(f"{int(rider)} {rider.word}" for rider in Rider)
    assert told in page
    assert [rider_by_word(rider.word) for rider in Rider] == list(Rider)
    assert rider_by_word("Adult") is None
