"""An operator's key is rotated: what stood under the old one goes on, cards meet the new one, a revoked one
is refused; cut off anywhere, the scheme's folder goes on."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from firmware_bridge.errors import CardGone
from firmware_bridge.virtual.in_process import InProcessReader
from hardwallet import authorities, denylist, keys
from hardwallet import messages as m
from hardwallet import status as sw
from hardwallet.card.applet import Card
from hardwallet.card.memory import CardMemory
from hardwallet.certificates import CARD, CLASS_BESIDE, CLASS_RETAIL, TERMINAL, Certificate, digest, signed
from hardwallet.errors import CardRefused, CertificateRevoked, IssuingError
from hardwallet.issuing import ACQUIRER, ISSUER, YEAR_S, Scheme, create_scheme, open_scheme, read_trust
from hardwallet.session import TerminalIdentity, WalletSession
from hardwallet.suites import SigningKey, suite_by_number
from tests.hardwallet.conftest import PASSPHRASE
from tests.hardwallet.cuts import Cut, cut_at_step

NUMBERS = {"issuer": ISSUER, "acquirer": ACQUIRER}


@dataclass
class Office:
    """A scheme's folder, and a card that was issued at the very beginning."""

    folder: Path
    now: int
    random: random.Random
    memory: CardMemory
    reader: InProcessReader
    card: bytes

    @contextmanager
    def open(self) -> Iterator[Scheme]:
        """The scheme, opened as by a new process."""
        with open_scheme(self.folder, PASSPHRASE, self.random.randbytes) as scheme:
            yield scheme

    def rotate(self, name: str, *, compromised: bool = False) -> Certificate:
        """A process that rotates a key."""
        self.now += 60
        with self.open() as scheme:
            return scheme.rotate(name, self.now, compromised=compromised)

    def load(self, amount_fen: int = 500) -> int:
        """A process that loads the card; what it holds then."""
        self.reader.present()
        with self.open() as scheme:
            scheme.load(self.reader.wait_for_card(1), amount_fen, self.now)
        return self.memory.state().balance_fen

    def shop(self) -> tuple[Certificate, SigningKey]:
        """A terminal, made today."""
        with self.open() as scheme:
            key = scheme.trust.suite.new_signing_key(self.random.randbytes)
            return scheme.new_terminal(CLASS_RETAIL, 7, key.public, self.now), key

    def meet(self, shop: tuple[Certificate, SigningKey]) -> None:
        """The terminal shows its certificate to the card and proves itself, trusting today's operators."""
        trust = read_trust(self.folder)
        self.reader.present()
        session = WalletSession(self.reader.wait_for_card(1), trust.suite)
        session.select()
        session.exchange_certificates(trust.bundle, self.now, shop[0])
        session.prove(TerminalIdentity(shop[0], digest(trust.suite, shop[0]), shop[1]))

    def deliver(self, raw: bytes) -> None:
        """A terminal hands the card an order, showing the issuer's certificate where that is needed."""
        trust = read_trust(self.folder)
        self.reader.present()
        session = WalletSession(self.reader.wait_for_card(1), trust.suite)
        session.select()
        session.order(raw, trust.bundle)


@pytest.fixture
def office(scheme_folder: Path, quick_folder: Path, now: int, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(keys, "_COST", 2)
    folder = quick_folder / "scheme"
    shutil.copytree(scheme_folder, folder)
    (folder / "issuing.jsonl").unlink(missing_ok=True)
    source = random.Random(12)
    with open_scheme(folder, PASSPHRASE, source.randbytes) as scheme:
        identity, memory = scheme.new_card(5, now)
    reader = InProcessReader(Card(identity, memory, random.Random(7).randbytes))
    return Office(folder, now, source, memory, reader, identity.card)


# ---------------------------------------------------------------------- which key signs


@pytest.mark.parametrize("name", ["issuer", "acquirer"])
def test_the_newest_key_signs_and_the_older_ones_are_kept(office: Office, name: str) -> None:
    with office.open() as scheme:
        before = scheme.key(name).public
    made = [office.rotate(name) for _ in range(2)]
    with office.open() as scheme:
        bundle = scheme.trust.bundle
        assert bundle.version == 2
        assert scheme.key(name).public == made[1].public == bundle.operator(NUMBERS[name]).public
        assert [one.public for one in bundle.current(NUMBERS[name])] == [
            made[1].public,
            made[0].public,
            before,
        ]
        other = "issuer" if name == "acquirer" else "acquirer"
        assert scheme.key(other).public == bundle.operator(NUMBERS[other]).public
    assert [one.klass & CLASS_BESIDE for one in made] == [CLASS_BESIDE] * 2
    assert made[1].not_before > made[0].not_before
    assert read_trust(office.folder).bundle.version == 2


def test_keys_at_rest_are_sealed(office: Office) -> None:
    office.rotate("issuer")
    with office.open() as scheme:
        scalar = scheme.key("issuer").scalar()
    for path in office.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert scalar not in content
            assert scalar.hex().encode() not in content
    assert all(path.stat().st_mode & 0o077 == 0 for path in (office.folder / "keys").iterdir())


def test_rotated_twice_within_a_second(office: Office) -> None:
    """Each certificate still begins later than the one before: a card tells newer from older by that."""
    with office.open() as scheme:
        made = [scheme.rotate("acquirer", office.now) for _ in range(3)]
    begins = [one.not_before for one in made]
    assert begins == sorted(set(begins))


def test_clearing_gets_every_good_key(office: Office) -> None:
    with office.open() as scheme:
        first = scheme.key("acquirer").public
        assert list(scheme.clearing_keys()) == [ACQUIRER, first]
    newer = office.rotate("acquirer")
    with office.open() as scheme:
        found = scheme.clearing_keys()
        assert list(found) == [ACQUIRER, newer.public, first]
        assert {name: key.public for name, key in found.items()} == {
            ACQUIRER: newer.public,
            newer.public: newer.public,
            first: first,
        }
        scheme.revoke(digest(scheme.trust.suite, scheme.trust.bundle.current(ACQUIRER)[1]), office.now)
        assert list(scheme.clearing_keys()) == [ACQUIRER, newer.public]


def test_a_key_that_is_missing_is_named(office: Office) -> None:
    made = office.rotate("acquirer")
    with office.open() as scheme:
        (office.folder / "keys" / f"acquirer-{digest(scheme.trust.suite, made).hex()}.json").unlink()
        with pytest.raises(IssuingError, match=r"acquirer-[0-9a-f]{16}\.json is missing.*from a backup"):
            scheme.key("acquirer")


# ---------------------------------------------------------------------- cards


def test_terminals_of_either_key_are_met_by_a_card(office: Office) -> None:
    """The old one before, during and after the card's first meeting with a terminal of the new key."""
    old, later = office.shop(), office.shop()
    office.meet(old)
    office.rotate("acquirer")
    new = office.shop()
    trust = read_trust(office.folder).bundle
    assert trust.authority_of(new[0]).public != trust.authority_of(old[0]).public
    for shop in (old, new, later, old, new):
        office.meet(shop)


def test_a_card_issued_during_the_overlap_meets_both(office: Office) -> None:
    old = office.shop()
    office.rotate("acquirer")
    new = office.shop()
    with office.open() as scheme:
        identity, office.memory = scheme.new_card(5, office.now)
    office.reader = InProcessReader(Card(identity, office.memory, random.Random(8).randbytes))
    office.meet(old)
    office.meet(new)


def test_a_card_that_met_the_next_key_forgets_a_compromised_one(office: Office) -> None:
    old, kept = office.shop(), office.shop()
    office.meet(kept)
    office.rotate("acquirer", compromised=True)
    new = office.shop()
    office.meet(new)
    trust = read_trust(office.folder).bundle
    with pytest.raises(CertificateRevoked, match="revoked"):
        trust.check(old[0], TERMINAL, office.now)
    with pytest.raises(CardRefused) as caught:
        office.meet(old)
    assert caught.value.sw == sw.SIGNATURE_WRONG


def test_a_rotated_issuer_loads_cards_of_before(office: Office) -> None:
    assert office.load() == 500
    office.rotate("issuer")
    assert office.load() == 1000
    assert office.load() == 1500


def test_a_compromised_issuer_loads_nothing_more_with_the_old_key(office: Office) -> None:
    """Its cards stand under the certificate that is revoked: they are refused, and have to be issued anew."""
    office.load()
    office.rotate("issuer", compromised=True)
    with pytest.raises(CertificateRevoked, match="revoked"):
        office.load()


def test_an_order_of_either_key_reaches_a_card(office: Office) -> None:
    """The pouch of a terminal may hold orders of before the rotation: they count all the same."""
    with office.open() as scheme:
        block = scheme.card_order(office.card, m.KIND_BLOCK, b"", office.now)
    office.rotate("issuer")
    with office.open() as scheme:
        unblock = scheme.card_order(office.card, m.KIND_UNBLOCK, b"", office.now)
        later = scheme.card_order(office.card, m.KIND_BLOCK, b"", office.now)
    office.deliver(block)
    assert office.memory.state().flags & 1
    office.deliver(unblock)
    assert not office.memory.state().flags & 1
    with pytest.raises(CardRefused) as caught:
        office.deliver(block)
    assert caught.value.sw == sw.ORDER_TOO_OLD
    office.deliver(later)
    assert office.memory.state().order_number == 3


def test_a_card_is_loaded_after_a_torn_renewal_of_its_issuers_certificate(office: Office) -> None:
    """Between the two commits of INTRODUCE no certificate of the issuer counts: a load shows it again."""
    office.load()
    state = office.memory.state()
    office.memory.commit(state.changed(operators_valid=state.operators_valid & ~1).to_bytes())
    assert office.load() == 1000
    assert office.memory.state().operators_valid & 1


def test_a_terminal_introduces_an_acquirer_that_the_card_has_lost(office: Office) -> None:
    shop = office.shop()
    state = office.memory.state()
    office.memory.commit(state.changed(operators_valid=0).to_bytes())
    office.meet(shop)


def test_a_load_that_was_cut_off_before_the_rotation_is_finished_after_it(office: Office) -> None:
    office.load()
    office.reader.present()
    office.reader.tear_at(4, "before")
    with office.open() as scheme, pytest.raises(CardGone):
        scheme.load(office.reader.wait_for_card(1), 300, office.now)
    office.rotate("issuer")
    assert office.load(300) == 800


def test_a_stranger_is_not_introduced(office: Office) -> None:
    """A terminal whose certificate no operator signed keeps the card's first answer."""
    certificate, key = office.shop()
    stranger = read_trust(office.folder).suite.new_signing_key(office.random.randbytes)
    with pytest.raises(CardRefused) as caught:
        office.meet((signed(certificate, stranger), key))
    assert (caught.value.sw, caught.value.command) == (sw.SIGNATURE_WRONG, "EXCHANGE CERTIFICATES")


def test_all_of_it_in_the_gm_suite(quick_folder: Path, now: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old and new terminals, loads under either key, list and order, with SM2 and SM3."""
    monkeypatch.setattr(keys, "_COST", 2)
    folder, source = quick_folder / "gm", random.Random(13)
    folder.mkdir()
    create_scheme(folder, "gm", suite_by_number(2), PASSPHRASE, now, source.randbytes)
    with open_scheme(folder, PASSPHRASE, source.randbytes) as scheme:
        identity, memory = scheme.new_card(5, now)
    reader = InProcessReader(Card(identity, memory, random.Random(7).randbytes))
    office = Office(folder, now, source, memory, reader, identity.card)
    old = office.shop()
    assert office.load() == 500
    for name in ("acquirer", "issuer"):
        office.rotate(name)
    new = office.shop()
    for shop in (old, new, old):
        office.meet(shop)
    assert office.load() == 1000
    with office.open() as scheme:
        block = scheme.card_order(office.card, m.KIND_BLOCK, b"", office.now)
        found = denylist.parse(scheme.denylist(office.now), scheme.trust.bundle)
        assert (found.version, scheme.trust.bundle.version) == (1, 2)
    office.deliver(block)
    assert memory.state().flags & 1


# ---------------------------------------------------------------------- revocation


def test_a_revoked_certificate_and_its_message(office: Office) -> None:
    old = office.shop()
    office.rotate("acquirer")
    with office.open() as scheme:
        named = digest(scheme.trust.suite, scheme.trust.bundle.current(ACQUIRER)[1])
        assert scheme.revoke(named, office.now).operator == ACQUIRER
    trust = read_trust(office.folder).bundle
    assert (trust.version, dict(trust.revoked)) == (2, {named: office.now})
    with pytest.raises(CertificateRevoked, match=f"{named.hex()} of operator 00000201 is revoked"):
        trust.check(old[0], TERMINAL, office.now)


def test_what_is_not_revoked(office: Office) -> None:
    """Nothing unknown, nothing twice, never an operator's last certificate."""
    with office.open() as scheme:
        only = digest(scheme.trust.suite, scheme.trust.bundle.operator(ACQUIRER))
        for named, words in (
            (bytes(8), "authorities show"),
            (b"", "no operator"),
            (only, "rotate its key first"),
        ):
            with pytest.raises(IssuingError, match=words):
                scheme.revoke(named, office.now)
        assert scheme.trust.bundle.version == 0
        scheme.rotate("acquirer", office.now)
        scheme.revoke(only, office.now)
        with pytest.raises(IssuingError, match="is revoked already"):
            scheme.revoke(only, office.now)
    with office.open() as scheme, pytest.raises(IssuingError, match="no operator 'root'"):
        scheme.rotate("root", office.now)


def test_a_revocation_is_for_ever(office: Office) -> None:
    with office.open() as scheme:
        only = digest(scheme.trust.suite, scheme.trust.bundle.operator(ACQUIRER))
        scheme.rotate("acquirer", office.now, compromised=True)
        scheme.rotate("issuer", office.now)
        assert only in scheme.trust.bundle.revoked
        assert read_trust(office.folder).bundle.revoked == scheme.trust.bundle.revoked


def test_a_terminals_certificate_is_renewed(office: Office) -> None:
    certificate, _ = office.shop()
    office.rotate("acquirer", compromised=True)
    with office.open() as scheme:
        renewed = scheme.renew_terminal(certificate, office.now)
        again = scheme.renew_terminal(renewed, office.now + 1)
        for one in (renewed, again):
            scheme.trust.bundle.check(one, TERMINAL, office.now + 1)
            assert (one.subject, one.public, one.klass) == (
                certificate.subject,
                certificate.public,
                certificate.klass,
            )
        stranger = replace(certificate, subject=ACQUIRER + bytes(7) + b"\1")
        with pytest.raises(IssuingError, match="not from this scheme"):
            scheme.renew_terminal(stranger, office.now)


# ---------------------------------------------------------------------- cut off


@pytest.mark.parametrize("act", ["rotate", "compromised", "revoke", "authorities"])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_cut_off_anywhere(office: Office, act: str, done: bool) -> None:
    """The folder opens, its key fits its newest certificate, and no list number stands for two lists."""
    if act == "revoke":
        office.rotate("acquirer")
    known: dict[int, bytes] = {}

    def look() -> None:
        with office.open() as scheme:
            bundle = scheme.trust.bundle
            held = read_trust(office.folder).bundle
            assert (held.version, held.operators) == (bundle.version, bundle.operators)
            assert scheme.key("acquirer").public == bundle.operator(ACQUIRER).public
            assert bundle.version >= max(known, default=0)
            if bundle.version:
                assert known.setdefault(bundle.version, bundle.authorities) == bundle.authorities
                stored = (office.folder / "authorities" / f"{bundle.version}.bin").read_bytes()
                assert stored == bundle.authorities

    step = 0
    while True:
        step += 1
        try:
            with office.open() as scheme, cut_at_step(step, done=done):
                if act == "authorities":
                    scheme.authorities(office.now)
                elif act == "revoke":
                    first = scheme.trust.bundle.operators[1]
                    with suppress(IssuingError):  # it was revoked before the cut
                        scheme.revoke(digest(scheme.trust.suite, first), office.now)
                else:
                    scheme.rotate("acquirer", office.now, compromised=act == "compromised")
            break
        except Cut:
            look()
    look()
    assert step > 3


def test_an_old_journal_is_noticed(office: Office) -> None:
    """Restored from a backup of before the rotation: a list number would be used twice."""
    before = (office.folder / "issuing.jsonl").read_bytes()
    office.rotate("issuer")
    (office.folder / "issuing.jsonl").write_bytes(before)
    with pytest.raises(IssuingError, match="old copy; restore the newest"), office.open():
        pass


@pytest.mark.parametrize("loss", ["missing", "altered"])
def test_a_lost_list_is_noticed(office: Office, loss: str) -> None:
    first = (office.folder / "scheme.json").read_bytes()
    office.rotate("issuer")
    (office.folder / "scheme.json").write_bytes(first)  # as a cut leaves it
    path = office.folder / "authorities" / "1.bin"
    good = path.read_bytes()
    if loss == "missing":
        path.unlink()
    else:
        path.write_bytes(good[:-1] + bytes((good[-1] ^ 1,)))
    with pytest.raises(IssuingError, match="from a backup"), office.open():
        pass
    path.write_bytes(good)
    with office.open() as scheme:
        assert scheme.trust.bundle.version == 1


def test_an_expired_root_rotates_nothing(office: Office) -> None:
    office.now += 21 * YEAR_S
    with pytest.raises(IssuingError, match="root's certificate has expired"):
        office.rotate("issuer")
    assert read_trust(office.folder).bundle.version == 0


def test_a_scheme_file_of_before_stays_readable(office: Office) -> None:
    """scheme.json of the first release has no authority list."""
    content = json.loads((office.folder / "scheme.json").read_text())
    assert set(content) == {"version", "suite", "name", "root", "operators"}
    with office.open() as scheme:
        raw = scheme.authorities(office.now)
        found = authorities.parse(raw, scheme.trust.bundle)
        assert (found.version, [one.to_bytes().hex() for one in found.certificates]) == (
            1,
            content["operators"],
        )
        assert scheme.authorities(office.now + 5) == raw
        identity, _ = scheme.new_card(5, office.now)
        scheme.trust.bundle.check(identity.certificate, CARD, office.now)
