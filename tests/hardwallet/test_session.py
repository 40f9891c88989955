"""The terminal's side of a card session: what a card may not get away with, byte by byte.

A link between session and card alters replies; the session has to say what is wrong, and believe nothing.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from firmware_bridge.errors import Garbled
from firmware_bridge.link import CardLink, LinkProcessor
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet.certificates import CARD, CLASS_TRANSIT, TrustBundle, digest, signed
from hardwallet.errors import (
    AuthorityUnknown,
    CardMisbehaved,
    CardRefused,
    CertificateRefused,
    Malformed,
    NotAWallet,
    UnknownSuite,
    WalletError,
)
from hardwallet.issuing import ACQUIRER, ISSUER, Scheme
from hardwallet.session import KnownCard, TerminalIdentity, WalletSession
from hardwallet.suites import suite_by_number
from hw_tests.bench import PIN, WRONG_PIN, Authority, Terminal
from tests.hardwallet.torn import TornBench, new_torn_bench

Meddle = Callable[[bytes], bytes]


class MeddlingLink(LinkProcessor):
    """Alters the replies to one command."""

    def __init__(self, inner: CardLink) -> None:
        super().__init__(inner)
        self.meddling: dict[int, Meddle] = {}
        self.sent: list[bytes] = []

    def transmit(self, command: bytes) -> bytes:
        """The reply, altered where somebody asked for it."""
        self.sent.append(command)
        reply = self._inner.transmit(command)
        meddle = self.meddling.get(command[1])
        return meddle(reply) if meddle else reply


@dataclass
class Till:
    """A terminal in front of a card."""

    bench: TornBench
    link: MeddlingLink
    session: WalletSession
    card: KnownCard

    @property
    def bundle(self) -> TrustBundle:
        """What it trusts."""
        return self.bench.bundle

    def at(self, terminal: Terminal) -> TerminalIdentity:
        """As the session wants it."""
        return TerminalIdentity(terminal.certificate, terminal.digest, terminal.key)

    def pay(self, sale: m.SaleRequest) -> r.Record:
        """SELECT and PAY in transit."""
        self.session.select()
        return self.session.pay(sale, self.card).record


@pytest.fixture
def till(scheme: Scheme, authority: Authority, now: int) -> Till:
    """A card that knows the bench's terminals."""
    bench = new_torn_bench(scheme, authority, now)
    bench.close()
    link = MeddlingLink(bench.in_process.wait_for_card(1))
    session = WalletSession(link, bench.suite)
    session.select()
    return Till(bench, link, session, session.exchange_certificates(bench.bundle, now, agreement=True))


def flip(offset: int, bits: int = 1) -> Meddle:
    """One byte of the reply altered."""
    return lambda reply: reply[:offset] + bytes((reply[offset] ^ bits,)) + reply[offset + 1 :]


def constant(reply: bytes) -> Meddle:
    """Another reply altogether."""
    return lambda _: reply


# ---------------------------------------------------------------------- SELECT


@pytest.mark.parametrize(
    "reply",
    [
        bytes.fromhex("6A82"),
        bytes.fromhex("9000"),
        bytes(48) + b"\x90\x00",
        bytes.fromhex("6F2E852C") + bytes(43) + b"\x90\x00",
        bytes.fromhex("6F2E852C") + bytes(45) + b"\x90\x00",
        bytes.fromhex("6F048400") + b"\x90\x00",
    ],
)
def test_select_of_something_else(till: Till, reply: bytes) -> None:
    """Not a wallet, and the old selection does not go on."""
    till.link.meddling[m.INS_SELECT] = constant(reply)
    with pytest.raises(NotAWallet):
        till.session.select()


@pytest.mark.parametrize(("offset", "bits"), [(4, 3), (5, 2), (6, 2), (7, 8), (7, 0x80), (8, 0x10)])
def test_select_of_another_kind(till: Till, offset: int, bits: int) -> None:
    """Version, suite, application, state bits and counts that no wallet of this version has."""
    till.link.meddling[m.INS_SELECT] = flip(offset, bits)
    with pytest.raises(NotAWallet):
        till.session.select()


def test_nothing_before_select(till: Till) -> None:
    """A session that selected nothing knows nobody."""
    fresh = WalletSession(till.link, till.bench.suite)
    with pytest.raises(NotAWallet, match="not selected"):
        fresh.prove(till.at(till.bench.retail))
    with pytest.raises(NotAWallet, match="not selected"):
        _ = fresh.selected


@pytest.mark.parametrize("reply", [b"", b"\x90", b"\x12\x34"])
def test_garbled_replies(till: Till, reply: bytes) -> None:
    """What is no response APDU is the link's error, not the card's word."""
    till.link.meddling[m.INS_SELECT] = constant(reply)
    with pytest.raises(Garbled):
        till.session.select()


# ---------------------------------------------------------------------- certificates


def test_any_altered_byte_of_the_certificate(till: Till) -> None:
    """Each of the 242 bytes of the reply."""
    for offset in range(242):
        till.session.select()
        till.link.meddling[m.INS_EXCHANGE_CERTIFICATES] = flip(offset)
        with pytest.raises((CardMisbehaved, CertificateRefused)):
            till.session.exchange_certificates(till.bundle, till.bench.now, agreement=True)


@pytest.mark.parametrize("keep", [0, 177, 179, 241])
def test_certificate_of_another_length(till: Till, keep: int) -> None:
    """Neither 178 nor 242 bytes, or one where the other was asked for."""
    till.link.meddling[m.INS_EXCHANGE_CERTIFICATES] = lambda reply: (reply + bytes(9))[:keep] + b"\x90\x00"
    with pytest.raises(CardMisbehaved):
        till.session.exchange_certificates(till.bundle, till.bench.now, agreement=True)
    till.link.meddling[m.INS_EXCHANGE_CERTIFICATES] = lambda reply: reply[:-2] + bytes(64) + b"\x90\x00"
    with pytest.raises(CardMisbehaved):
        till.session.exchange_certificates(till.bundle, till.bench.now)


def test_dates_of_the_chain(till: Till) -> None:
    """A second too early, a second too late, for the card's and for its operator's certificate."""
    certificate = till.card.certificate
    for good in (certificate.not_before, certificate.not_after):
        till.session.exchange_certificates(till.bundle, good)
    for bad, word in ((certificate.not_before - 1, "not valid yet"), (certificate.not_after + 1, "expired")):
        with pytest.raises(CertificateRefused, match=word):
            till.session.exchange_certificates(till.bundle, bad)
    operator = till.bundle.operator(ISSUER)
    late = replace(certificate, not_after=operator.not_after + 10)
    late = signed(late, till.bench.authority.issuer)
    with pytest.raises(CertificateRefused, match="operator's certificate has expired"):
        till.bundle.check(late, CARD, operator.not_after + 5)


def test_another_certificate_of_the_card(till: Till) -> None:
    """Genuine, but not the one that SELECT named: records name that one."""
    other = replace(till.card.certificate, not_after=till.card.certificate.not_after - 1)
    raw = signed(other, till.bench.authority.issuer).to_bytes()
    till.link.meddling[m.INS_EXCHANGE_CERTIFICATES] = constant(raw + b"\x90\x00")
    with pytest.raises(CardMisbehaved, match="not the one that it named"):
        till.session.exchange_certificates(till.bundle, till.bench.now)


def test_unknown_issuer(till: Till, authority: Authority) -> None:
    """A terminal whose list does not name it."""
    bundle = TrustBundle(authority.suite, till.bundle.root, [till.bundle.operator(ACQUIRER)])
    with pytest.raises(AuthorityUnknown, match="operator list"):
        till.session.exchange_certificates(bundle, till.bench.now)


def test_card_signed_by_the_acquirer(till: Till) -> None:
    """An operator that may not issue."""
    wrong = signed(replace(till.card.certificate, authority=ACQUIRER), till.bench.authority.acquirer)
    with pytest.raises(CertificateRefused, match="may not sign"):
        till.bundle.check(wrong, CARD, till.bench.now)


def test_card_without_a_known_terminal(till: Till) -> None:
    """A terminal that the card never met: 9412, and after the exchange it may."""
    newcomer = till.bench.terminal(CLASS_TRANSIT)
    till.session.select()
    with pytest.raises(CardRefused) as caught:
        till.session.prove(till.at(newcomer))
    assert (caught.value.sw, caught.value.command) == (0x9412, "PROVE")
    till.session.exchange_certificates(till.bundle, till.bench.now, newcomer.certificate)
    till.session.prove(till.at(newcomer))


def test_operator_is_introduced(till: Till) -> None:
    """When the card does not know it: INTRODUCE, then the exchange again."""
    operator, key = till.bench.operator()
    till.bundle.add_operator(operator)
    subject = operator.operator + bytes(8)
    blank = till.bench.certificate_of(0xC2, 2, subject, authority=operator.operator)
    terminal = till.bench.signed_terminal(blank, key)
    till.link.sent.clear()
    till.session.exchange_certificates(till.bundle, till.bench.now, terminal.certificate)
    assert [command[1] for command in till.link.sent] == [0x10, 0x12, 0x10]


# ---------------------------------------------------------------------- PAY


def test_any_altered_byte_of_a_payment(till: Till) -> None:
    """Each byte of the 81: nothing that is not signed is believed."""
    start = till.bench.memory.snapshot()
    for offset in range(81):
        till.bench.restore(start)
        till.link = MeddlingLink(till.bench.in_process.wait_for_card(1))
        till.session = WalletSession(till.link, till.bench.suite)
        till.session.select()
        till.link.meddling[m.INS_PAY] = flip(offset)
        with pytest.raises(CardMisbehaved):
            till.session.pay(till.bench.sale(1), till.card)
        assert till.bench.peek.spent_fen == 1  # the card has paid; the terminal has nothing to show for it


@pytest.mark.parametrize(
    "reply",
    [b"", b"\x01", bytes(81), bytes(225), b"\x02" + bytes(80), b"\x01" + bytes(224), b"\x04" + bytes(224)],
)
def test_replies_that_prove_nothing(till: Till, reply: bytes) -> None:
    """Another length, another outcome."""
    till.link.meddling[m.INS_PAY] = constant(reply + b"\x90\x00")
    with pytest.raises(CardMisbehaved):
        till.pay(till.bench.sale(1))


def test_already_paid_is_not_believed_without_all_of_it(till: Till) -> None:
    """Each byte of the 225: outcome, record, both signatures."""
    sale = till.bench.sale(100)
    record = till.pay(sale)
    for offset in range(225):
        till.link.meddling.clear()
        till.session.select()
        till.link.meddling[m.INS_PAY] = flip(offset)
        with pytest.raises(CardMisbehaved):
            till.session.pay(till.bench.again(sale), till.card)
    till.link.meddling.clear()
    till.session.select()
    outcome = till.session.pay(till.bench.again(sale), till.card)
    assert (outcome.outcome, outcome.record, outcome.fresh) == (2, record, False)


def test_a_copied_answer_is_no_payment(till: Till) -> None:
    """Row 16b: the whole reply of an earlier tap, played by an emulator; the nonce is another one."""
    sale = till.bench.sale(100)
    till.pay(sale)
    kept: list[bytes] = []

    def keep(reply: bytes) -> bytes:
        kept.append(reply)
        return reply

    till.link.meddling[m.INS_PAY] = keep
    till.session.select()
    till.session.pay(till.bench.again(sale), till.card)
    till.link.meddling[m.INS_PAY] = constant(kept[0])
    till.session.select()
    with pytest.raises(CardMisbehaved, match="may be a copy"):
        till.session.pay(till.bench.again(sale), till.card)


def test_another_sales_record_is_no_payment(till: Till) -> None:
    """A planted 1-fen record with this sale's reference, shown with its own good proof."""
    planted = till.bench.sale(1)
    till.pay(planted)
    wanted = replace(till.bench.again(planted), amount_fen=5_000)

    def ask_for_the_planted_one(_: bytes) -> bytes:
        inner = WalletSession(till.bench.in_process.wait_for_card(1), till.bench.suite)
        inner.select()
        raw = replace(wanted, amount_fen=1).to_bytes()
        link: CardLink = inner._link
        return link.transmit(b"\x80\x20\x00\x00\x3a" + raw + b"\x00")

    till.session.select()
    till.link.meddling[m.INS_PAY] = ask_for_the_planted_one
    with pytest.raises(CardMisbehaved, match="another sale"):
        till.session.pay(wanted, till.card)


def test_a_payment_of_another_card(till: Till, scheme: Scheme, authority: Authority, now: int) -> None:
    """A second, genuine card answers for the first."""
    other = new_torn_bench(scheme, authority, now)
    other.select()
    other.meet(till.bench.transit)
    sale = till.bench.sale(100)
    other.select()
    reply = other.pay(sale)
    till.link.meddling[m.INS_PAY] = constant(reply.to_bytes())
    with pytest.raises(CardMisbehaved):
        till.pay(sale)
    assert other.peek.spent_fen == 100


def test_a_card_that_names_another_scheme_when_selected(till: Till) -> None:
    """The record has to be of the scheme in the card's certificate, not of one that SELECT claims."""
    identity = till.bench.in_process.card._identity  # type: ignore[attr-defined]

    def other_scheme(reply: bytes) -> bytes:
        return reply[:10] + bytes(4) + reply[14:]

    till.link.meddling[m.INS_SELECT] = other_scheme
    till.session.select()
    sale = till.bench.sale(100)

    def sign_for_it(reply: bytes) -> bytes:
        head = m.payment_head(
            bytes(4), till.bench.card, till.session.selected.certificate_digest, 9, sale.to_bytes()
        )
        body = head + reply[5:17] + b"\0"
        signature: bytes = identity.signing.sign(body)
        return b"\x01" + (9).to_bytes(4, "big") + reply[5:17] + signature + b"\x90\x00"

    till.link.meddling[m.INS_PAY] = sign_for_it
    with pytest.raises(CardMisbehaved, match="another card"):
        till.session.pay(sale, till.card)


def test_refusals_carry_the_cards_word(till: Till) -> None:
    """Status word and command, in plain words."""
    till.session.select()
    with pytest.raises(CardRefused, match=r"PAY: .*not met this payee.* \(9409\)") as caught:
        till.session.pay(till.bench.sale(100, till.bench.terminal(CLASS_TRANSIT)), till.card)
    assert caught.value.sw == 0x9409


@pytest.mark.parametrize("amount_fen", [-1, 2**32])
def test_amounts_that_do_not_fit_are_not_sent(till: Till, amount_fen: int) -> None:
    """Nothing goes to the card."""
    till.session.select()
    till.link.sent.clear()
    with pytest.raises(Malformed):
        till.session.pay(till.bench.sale(amount_fen), till.card)
    assert not till.link.sent


# ---------------------------------------------------------------------- PINs


def test_pin_goes_out_encrypted_and_fresh(till: Till) -> None:
    """Neither its digits nor the same bytes twice; a wrong one costs a try."""
    till.session.select()
    till.session.change_pin("", PIN, till.card, os.urandom)
    shop = till.at(till.bench.retail)
    commands: list[bytes] = []
    for _ in range(2):
        till.session.select()
        sale = till.bench.sale(38_000 if not commands else 100, till.bench.retail)
        outcome = till.session.pay(sale, till.card, shop, PIN, os.urandom)
        assert outcome.record.cvm == r.CVM_PIN
        commands.append(till.link.sent[-1])
    assert commands[0][71:151] != commands[1][71:151]
    for command in commands:
        assert m.pin_field(PIN) not in command
        assert PIN.encode() not in command
    till.session.select()
    with pytest.raises(CardRefused, match="wrong PIN, 2 tries left") as caught:
        till.session.pay(till.bench.sale(100, till.bench.retail), till.card, shop, WRONG_PIN, os.urandom)
    assert WRONG_PIN not in str(caught.value)


@pytest.mark.parametrize("pin", ["123", "1234567890123", "12a4", "１２３４", " 1234"])
def test_bad_pins_are_not_sent(till: Till, pin: str) -> None:
    """And their digits stand in no message."""
    till.session.select()
    till.link.sent.clear()
    with pytest.raises(Malformed) as caught:
        till.session.change_pin("", pin, till.card, os.urandom)
    assert pin not in str(caught.value)
    assert not till.link.sent


def test_pin_needs_the_agreement_key(till: Till) -> None:
    """A card known without it has to be asked again."""
    till.session.select()
    blind = KnownCard(till.card.certificate, till.card.key)
    with pytest.raises(CardMisbehaved, match="agreement key"):
        till.session.pay(
            till.bench.sale(100, till.bench.retail), blind, till.at(till.bench.retail), PIN, os.urandom
        )


# ---------------------------------------------------------------------- reading, ratifying, loading


def test_records_are_verified(till: Till) -> None:
    """Each byte of the 161; what was not asked for is not taken."""
    record = till.pay(till.bench.sale(100))
    second = till.pay(till.bench.sale(101))
    till.session.select()
    till.session.prove(till.at(till.bench.transit))
    assert till.session.read_record(record.sequence, till.card) == (record, True)
    for offset in range(161):
        till.link.meddling[m.INS_READ_RECORD] = flip(offset, 2)
        with pytest.raises(CardMisbehaved):
            till.session.read_record(record.sequence, till.card)
    other = record.raw + b"\x01\x90\x00"
    till.link.meddling[m.INS_READ_RECORD] = constant(other)
    with pytest.raises(CardMisbehaved, match="not asked for"):
        till.session.read_record(second.sequence, till.card)
    with pytest.raises(CardMisbehaved, match="not asked for"):
        till.session.next_unratified(record.sequence, till.card)
    till.link.meddling[m.INS_READ_RECORD] = constant(second.raw + b"\x00\x90\x00")
    with pytest.raises(CardMisbehaved, match="not asked for"):
        till.session.next_unratified(record.sequence, till.card)
    till.link.meddling.clear()
    assert till.session.next_unratified(record.sequence, till.card) == second
    assert till.session.next_unratified(second.sequence, till.card) is None


@pytest.mark.parametrize("reply", [b"", b"\x02", b"\x01\x01"])
def test_ratify_replies(till: Till, reply: bytes) -> None:
    """Only 00 and 01 are answers."""
    record = till.pay(till.bench.sale(100))
    till.link.meddling[m.INS_RATIFY] = constant(reply + b"\x90\x00")
    with pytest.raises(CardMisbehaved):
        till.session.ratify(record)


@pytest.mark.parametrize("offset", [66, 67, 68])
def test_state_is_checked(till: Till, offset: int) -> None:
    """Zero bytes are zero, and the length is 69."""
    till.session.select()
    till.session.prove(till.at(till.bench.retail))
    assert till.session.read_state().balance_fen == till.bench.peek.balance_fen
    till.link.meddling[m.INS_READ_STATE] = flip(offset)
    with pytest.raises(CardMisbehaved):
        till.session.read_state()
    till.link.meddling[m.INS_READ_STATE] = lambda reply: reply[1:]
    with pytest.raises(CardMisbehaved):
        till.session.read_state()


def test_load_receipts_are_checked(till: Till) -> None:
    """Each byte; a payment's record; another load's receipt."""
    till.session.select()
    bench = till.bench
    bench._link = till.link
    first = bench.sign_order(bench.load_order(10).body())
    receipt = till.session.load(first, till.card)
    assert (receipt.amount_fen, r.load_counter(receipt)) == (10, 2)
    again = till.session.load(first, till.card)
    assert again == receipt
    for offset in range(161):
        till.link.meddling[m.INS_LOAD] = flip(offset, 4)
        with pytest.raises(CardMisbehaved):
            till.session.load(first, till.card)
    payment = till.pay(bench.sale(1))
    till.link.meddling[m.INS_LOAD] = constant(b"\x01" + payment.raw + b"\x90\x00")
    with pytest.raises(CardMisbehaved, match="another load"):
        till.session.load(first, till.card)
    till.link.meddling.clear()
    second = bench.sign_order(bench.load_order(20).body())
    till.link.meddling[m.INS_LOAD] = constant(b"\x01" + receipt.raw + b"\x90\x00")
    with pytest.raises(CardMisbehaved, match="another load"):
        till.session.load(second, till.card)
    fresh = m.parse_load_order(first)
    larger = bench.sign_order(replace(fresh, amount_fen=999).body())
    with pytest.raises(CardMisbehaved, match="another amount"):
        till.session.load(larger, till.card)
    for length in (3, 5):
        till.link.meddling[m.INS_LOAD_CHALLENGE] = constant(bytes(length * 4) + b"\x00\x90\x00")
        with pytest.raises(CardMisbehaved):
            till.session.load_challenge()


def test_unknown_suites() -> None:
    """Refused by number, with the number."""
    for number in (0, 3, 255):
        with pytest.raises(UnknownSuite, match=f"{number:02X}"):
            suite_by_number(number)


def test_all_of_it_is_a_wallet_error() -> None:
    """One base for callers, and no ValueError that a careless handler would swallow."""
    for error in (CardMisbehaved, CardRefused, CertificateRefused, Malformed, NotAWallet, AuthorityUnknown):
        assert issubclass(error, WalletError)
        assert not issubclass(error, ValueError)


def test_digest_names_the_body(till: Till) -> None:
    """A certificate whose signature was altered, and still verifies, keeps its name."""
    certificate = till.card.certificate
    resigned = signed(certificate, till.bench.authority.issuer)
    assert resigned.signature != certificate.signature
    assert digest(till.bench.suite, resigned) == digest(till.bench.suite, certificate)
