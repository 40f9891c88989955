"""A card of one suite at a terminal of the other: nothing is asked of it, nothing is taken, and both are told
why. A scheme's number would give a stranger away; here the schemes of both suites have the same one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hardwallet import messages as m
from hardwallet.certificates import Certificate, TrustBundle, signed
from hardwallet.errors import CertificateRefused, Malformed, SignatureInvalid
from hardwallet.gm import Gm
from hardwallet.suites import SUITES, International, SigningKey, Suite, suite_by_number
from offline_sync.journal import SqliteJournal
from pos_terminal.tap import Outcome
from tests.pos_terminal.bench import NOW, Counter, Mill, hold, make_mill, seeded
from tests.pos_terminal.wiretap import Wiretap

NAMES = {1: r"01 \(international\)", 2: r"02 \(GM\)"}


@pytest.fixture(scope="module")
def mills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mill]:
    """A scheme of each suite; the seed gives them the same number."""
    made = {
        name: make_mill(tmp_path_factory.mktemp(name), suite_by_number(number))
        for name, number in SUITES.items()
    }
    assert len({mill.trust.scheme for mill in made.values()}) == 1
    return made


@pytest.fixture
def counters(mills: dict[str, Mill], tmp_path: Path) -> Iterator[dict[str, Counter]]:
    """A place of each."""
    made = {}
    for name, mill in mills.items():
        (tmp_path / name).mkdir()
        made[name] = Counter(mill, tmp_path / name)
    yield made
    for counter in made.values():
        counter.close()


def other(name: str) -> str:
    """The other suite."""
    return next(one for one in SUITES if one != name)


@pytest.mark.parametrize("card", SUITES)
def test_a_card_pays_at_its_own_terminals_only(
    mills: dict[str, Mill], counters: dict[str, Counter], card: str
) -> None:
    """At the other's it hears SELECT, and no more."""
    holder = mills[card].holder()
    home, abroad = counters[card], counters[other(card)]
    before = holder.balance_fen
    for terminal, charge in ((abroad.bus(), abroad.fare()), (abroad.shop(), None)):
        tapped = Wiretap()
        result = hold(terminal, holder, charge or terminal.new_sale(100), wrap=tapped)
        assert (result.outcome, result.granted) == (Outcome.DECLINED, False)
        assert result.reason == (
            f"the card speaks suite {NAMES[SUITES[card]]}, this terminal {NAMES[SUITES[other(card)]]}: "
            "it pays at terminals of its own scheme only"
        ).replace("\\", "")
        assert [command[1] for command in tapped.commands] == [m.INS_SELECT]
        assert isinstance(terminal.journal, SqliteJournal)
        assert terminal.journal.head()[0] == 0
    assert holder.balance_fen == before
    assert hold(home.bus(), holder, home.fare(200)).granted
    assert holder.balance_fen == before - 200


@pytest.mark.parametrize("card", SUITES)
def test_a_suite_byte_that_was_altered_on_the_way(
    mills: dict[str, Mill], counters: dict[str, Counter], card: str
) -> None:
    """The card claims the terminal's suite in SELECT: its certificate is of the other all the same."""

    def claim(command: bytes, reply: bytes) -> bytes:
        return reply[:5] + bytes((3 - reply[5],)) + reply[6:] if command[1] == m.INS_SELECT else reply

    holder = mills[card].holder()
    abroad = counters[other(card)]
    before = holder.balance_fen
    for terminal, charge in ((abroad.bus(), abroad.fare()), (abroad.shop(), None)):
        tapped = Wiretap(claim)
        result = hold(terminal, holder, charge or terminal.new_sale(100), wrap=tapped)
        assert (result.outcome, result.granted) == (Outcome.DECLINED, False)
        assert result.reason
        assert m.INS_PAY not in [command[1] for command in tapped.commands]
        assert isinstance(terminal.journal, SqliteJournal)
        assert terminal.journal.head()[0] == 0
    # At home the same claim gets nothing either: a terminal does not speak the suite that is claimed.
    at_home = hold(counters[card].bus(), holder, counters[card].fare(), wrap=Wiretap(claim))
    assert not at_home.granted
    assert holder.balance_fen == before


# ---------------------------------------------------------------------- chains of certificates


@pytest.mark.parametrize("name", SUITES)
def test_a_certificate_of_the_other_suite_in_a_chain(mills: dict[str, Mill], name: str) -> None:
    """Whole, or with only the suite byte set right, or with only its key or its signature of the other."""
    trust, mill, stranger = mills[name].trust, mills[name], mills[other(name)]
    good, foreign = mill.identity().certificate, stranger.identity().certificate
    key = stranger.suite.new_signing_key(seeded("foreign"))
    check(trust, good)
    with pytest.raises(
        CertificateRefused,
        match=f"the terminal's certificate is of suite {NAMES[foreign.suite]}, not {NAMES[good.suite]}",
    ):
        check(trust, foreign)
    for altered in (replace(foreign, suite=good.suite), signed(good, key)):
        with pytest.raises(CertificateRefused, match="is not signed by its authority"):
            check(trust, altered)
    with pytest.raises(Malformed, match="a public key is not a point of the curve"):
        check(trust, signed(replace(good, public=key.public), mill.acquirer))
    assert trust.suite.number == SUITES[name]


@pytest.mark.parametrize("name", SUITES)
def test_no_bundle_of_two_suites(mills: dict[str, Mill], name: str) -> None:
    """Neither a root nor an operator of the other suite is taken into one."""
    ours, theirs = mills[name].trust, mills[other(name)].trust
    operators = [theirs.operator(mills[name].identity().certificate.authority)]
    with pytest.raises(CertificateRefused, match="is of suite"):
        TrustBundle(ours.suite, theirs.root, [])
    with pytest.raises(CertificateRefused, match="is of suite"):
        TrustBundle(ours.suite, ours.root, operators)


def check(trust: TrustBundle, certificate: Certificate) -> None:
    """The chain of a terminal's certificate."""
    trust.check(certificate, certificate.kind, NOW)


@pytest.mark.parametrize("suite", [International(), Gm()])
def test_one_suites_signature_is_nothing_in_the_other(suite: Suite) -> None:
    """Even of the same scalar over the same message: it may be a key of both curves' ranges."""
    scalar, message = bytes(31) + b"\x07", b"the same words"
    here: SigningKey = suite.signing_key(scalar)
    there = suite_by_number(3 - suite.number).signing_key(scalar)
    assert here.public != there.public
    with pytest.raises(SignatureInvalid):
        suite.verifying_key(here.public).verify(there.sign(message), message)
    with pytest.raises(Malformed):
        suite.verifying_key(there.public)
    suite.verifying_key(here.public).verify(here.sign(message), message)
