"""Operators with several certificates, and revoked ones, at clearing and in a terminal's receipts."""

from dataclasses import dataclass, replace

import pytest

from hardwallet import authorities
from hardwallet.certificates import CLASS_BESIDE, TERMINAL, Certificate, TrustBundle, digest, signed
from hardwallet.suites import SigningKey
from offline_sync import messages
from offline_sync.clearing import Clearing
from offline_sync.errors import AcknowledgementRefused, BatchRefused, RecordRefused
from offline_sync.messages import Acknowledgement, Batch
from tests.offline_sync.factory import ACQUIRER, NOW, Scheme, Terminal
from tests.offline_sync.test_clearing import Till, own


@dataclass
class Rotated:
    """A scheme whose operators have two certificates each."""

    scheme: Scheme
    acquirer: Certificate
    acquirer_key: SigningKey
    issuer: Certificate
    issuer_key: SigningKey
    version: int = 0

    def revoke(self, *revoked: Certificate, since: int = NOW) -> None:
        """Publish a list that revokes these."""
        self.version += 1
        trust = self.scheme.trust
        named = {digest(trust.suite, one): since for one in revoked}
        raw = authorities.build(trust, self.version, NOW, trust.operators, named, self.scheme.root_key)
        trust.update(authorities.parse(raw, trust))

    def clearing(self) -> Clearing:
        """With every key of the acquirer, the newest under its number."""
        keys = {
            ACQUIRER: self.acquirer_key,
            self.acquirer.public: self.acquirer_key,
            self.scheme.acquirer.public: self.scheme.acquirer_key,
        }
        return Clearing("sqlite://", self.scheme.trust, keys, lambda: NOW)


def successor(scheme: Scheme, of: Certificate) -> tuple[Certificate, SigningKey]:
    key = scheme.suite.new_signing_key(scheme.entropy)
    blank = replace(of, klass=of.klass | CLASS_BESIDE, not_before=of.not_before + 60, public=key.public)
    return signed(blank, scheme.root_key), key


@pytest.fixture
def rotated() -> Rotated:
    scheme = Scheme()
    acquirer, issuer = successor(scheme, scheme.acquirer), successor(scheme, scheme.issuer)
    scheme.trust.add_operator(acquirer[0])
    scheme.trust.add_operator(issuer[0])
    return Rotated(scheme, *acquirer, *issuer)


def check(receipt: Acknowledgement, trust: TrustBundle, batch: Batch, terminal: Terminal) -> None:
    head = messages.chained(batch).head
    messages.check_acknowledgement(receipt, trust, batch, head, terminal.uploader.certificate)


def of_newest(rotated: Rotated, terminal: Terminal) -> Terminal:
    """The terminal with a certificate by the acquirer's newest key."""
    uploader = terminal.uploader
    assert uploader.certificate.kind == TERMINAL
    renewed = signed(uploader.certificate, rotated.acquirer_key)
    return replace(terminal, uploader=replace(uploader, certificate=renewed))


# ---------------------------------------------------------------------- receipts


def test_a_receipt_is_signed_with_the_key_that_the_terminal_knows(rotated: Rotated) -> None:
    scheme = rotated.scheme
    before = TrustBundle(scheme.suite, scheme.root, [scheme.issuer, scheme.acquirer])
    after = TrustBundle(scheme.suite, scheme.root, [rotated.issuer, rotated.acquirer])
    old = scheme.terminal(1, 1, retail=True)
    new = of_newest(rotated, scheme.terminal(1, 2, retail=True))
    clearing = rotated.clearing()
    for terminal, knows, other in ((old, before, after), (new, after, before)):
        card = scheme.card(7)
        batch = Till(terminal, [card]).add(own(scheme.payment(card, terminal))).batch()
        receipt = clearing.accept(batch)
        check(receipt, knows, batch, terminal)
        check(receipt, scheme.trust, batch, terminal)
        with pytest.raises(AcknowledgementRefused, match="signature is not the operator's"):
            check(receipt, other, batch, terminal)
    clearing.close()


def test_a_clearing_with_the_newest_key_alone_signs_with_that(rotated: Rotated) -> None:
    """Where the older key is gone, a terminal has to be brought up to date first."""
    scheme = rotated.scheme
    clearing = Clearing("sqlite://", scheme.trust, {ACQUIRER: rotated.acquirer_key}, lambda: NOW)
    terminal, card = scheme.terminal(1, 1), scheme.card(7)
    batch = Till(terminal, [card]).add(own(scheme.payment(card, terminal))).batch()
    check(clearing.accept(batch), scheme.trust, batch, terminal)
    clearing.close()


def test_a_receipt_by_a_revoked_key_is_refused(rotated: Rotated) -> None:
    scheme = rotated.scheme
    terminal, card = scheme.terminal(1, 1), scheme.card(7)
    clearing = rotated.clearing()
    batch = Till(terminal, [card]).add(own(scheme.payment(card, terminal))).batch()
    receipt = clearing.accept(batch)
    clearing.close()
    rotated.revoke(scheme.acquirer)
    with pytest.raises(AcknowledgementRefused, match="is revoked"):
        check(receipt, scheme.trust, batch, terminal)


# ---------------------------------------------------------------------- uploads


def test_a_terminal_under_a_revoked_certificate_is_refused_until_it_is_renewed(rotated: Rotated) -> None:
    """Also one that clearing has met before: what it remembers of it is forgotten."""
    scheme = rotated.scheme
    terminal, card = scheme.terminal(1, 1), scheme.card(7)
    till = Till(terminal, [card]).add(own(scheme.payment(card, terminal)))
    clearing = rotated.clearing()
    clearing.accept(till.batch())
    till.add(own(scheme.payment(card, terminal)))
    rotated.revoke(scheme.acquirer)
    with pytest.raises(BatchRefused, match="is revoked") as caught:
        clearing.accept(till.batch())
    assert caught.value.code == "terminal-certificate"
    till.terminal = of_newest(rotated, terminal)
    clearing.accept(till.batch())
    assert sum(line.balance_fen for line in clearing.report().payees) == 400
    clearing.close()


def test_a_card_under_a_revoked_certificate(rotated: Rotated) -> None:
    """Credited when clearing had kept it before, or when its issuer vouches for it; else `revoked`."""
    scheme = rotated.scheme
    terminal = scheme.terminal(1, 1)
    met, vouched, never = scheme.card(7), scheme.card(8), scheme.card(9)
    clearing = rotated.clearing()
    till = Till(terminal, [met]).add(own(scheme.payment(met, terminal)))
    clearing.accept(till.batch())
    rotated.revoke(scheme.issuer)
    clearing.book_load(scheme.load(vouched).raw, vouched.raw_certificate)
    till.cards = [met, vouched, never]
    till.add(*(own(scheme.payment(card, terminal)) for card in (met, vouched, never)))
    receipt = clearing.accept(till.batch())
    assert [(one.index, one.code) for one in receipt.rejections] == [(4, "revoked")]
    assert "is revoked" in receipt.rejections[0].reason
    assert sum(line.balance_fen for line in clearing.report().payees) == 600
    clearing.close()


def test_a_card_under_the_newest_certificate(rotated: Rotated) -> None:
    scheme = rotated.scheme
    terminal, card = scheme.terminal(1, 1), scheme.card(7)
    certificate = signed(card.certificate, rotated.issuer_key)
    card.certificate = certificate
    rotated.revoke(scheme.issuer)
    clearing = rotated.clearing()
    batch = Till(terminal, [card]).add(own(scheme.payment(card, terminal))).batch()
    assert clearing.accept(batch).rejections == []
    clearing.close()


# ---------------------------------------------------------------------- loads


def test_a_load_order_counts_up_to_the_revocation(rotated: Rotated) -> None:
    scheme, card = rotated.scheme, rotated.scheme.card(7)
    rotated.revoke(scheme.issuer, since=NOW - 100)
    clearing = rotated.clearing()
    clearing.book_order(scheme.load_order(card, 1, 500, time_s=NOW - 100))
    late = scheme.load_order(card, 2, 500, time_s=NOW - 99)
    with pytest.raises(RecordRefused, match="is revoked") as caught:
        clearing.book_order(late)
    assert caught.value.code == "revoked"
    body = late[:-64]
    clearing.book_order(body + rotated.issuer_key.sign(body))
    clearing.close()
