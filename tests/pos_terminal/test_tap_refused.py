"""The tap that ends in red: before the card is asked, by the card, and for whoever only looks like a card."""

from dataclasses import replace
from typing import Any

import pytest

from firmware_bridge.virtual.in_process import InProcessReader
from hardwallet import messages as m
from hardwallet import status as sw
from hardwallet.certificates import CLASS_RETAIL, CLASS_TRANSIT, digest, signed
from hardwallet.issuing import ACQUIRER, YEAR_S
from hardwallet.messages import parse_selected
from offline_sync.journal import SqliteJournal
from pos_terminal.limits import TerminalLimits, refusal
from pos_terminal.sale import Sale, SaleState
from pos_terminal.tap import Outcome, Tap, tap
from pos_terminal.terminal import Terminal
from tests.pos_terminal.bench import (
    NOW,
    PAY_KNOWN,
    Blank,
    Counter,
    Holder,
    Mill,
    hold,
    know,
    other_card_certificate,
    seeded,
)
from tests.pos_terminal.wiretap import Wiretap


def entries(terminal: Terminal) -> int:
    assert isinstance(terminal.journal, SqliteJournal)
    return terminal.journal.head()[0]


def declined(result: Tap, word: int = sw.OK) -> bool:
    return (result.outcome, result.status_word, result.granted) == (Outcome.DECLINED, word, False)


# ---------------------------------------------------------------------- amounts


@pytest.mark.parametrize("amount_fen", [0, -1, -(2**31), 2**31, 2**32, 2**63])
def test_amounts_that_are_none(counter: Counter, holder: Holder, amount_fen: int) -> None:
    """Fault 23: neither terminal nor card takes them; the card is not even asked."""
    tapped = Wiretap()
    shop, bus = counter.shop(), counter.bus()
    for result in (
        hold(shop, holder, shop.new_sale(amount_fen), wrap=tapped),
        hold(bus, holder, counter.fare(amount_fen), wrap=tapped),
    ):
        assert declined(result)
        assert "zero, negative or too large" in result.reason
    assert m.INS_PAY not in [command[1] for command in tapped.commands]
    assert holder.balance_fen == 20_000
    assert entries(shop) == entries(bus) == 0


def test_above_the_terminals_own_limit(counter: Counter, holder: Holder) -> None:
    shop = counter.shop(limits=TerminalLimits(single_fen=500))
    result = hold(shop, holder, shop.new_sale(501))
    assert declined(result)
    assert "5.00" in result.reason
    assert hold(shop, holder, shop.new_sale(500)).granted


def test_above_what_may_wait(counter: Counter, holder: Holder) -> None:
    shop = counter.shop(limits=TerminalLimits(stored_fen=1_000))
    assert hold(shop, holder, shop.new_sale(600)).granted
    result = hold(shop, holder, shop.new_sale(401))
    assert declined(result)
    assert "send" in result.reason
    assert hold(shop, holder, shop.new_sale(400)).granted
    assert holder.balance_fen == 20_000 - 1_000


def test_the_stored_limit_does_not_break_a_recovery_off(counter: Counter, holder: Holder) -> None:
    """The sale stays unresolved; it is not told as a *no*."""
    shop = counter.shop(limits=TerminalLimits(stored_fen=1_000))
    know(shop, holder)
    sale = shop.new_sale(1_000)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    shop.limits = TerminalLimits(stored_fen=999)
    assert hold(shop, holder, sale).outcome is Outcome.UNRESOLVED
    shop.limits = TerminalLimits(stored_fen=1_000)
    assert hold(shop, holder, sale).granted


@pytest.mark.parametrize(
    ("amount_fen", "stored_fen", "allowed"),
    [
        (1, 0, True),
        (500_000, 0, True),
        (500_001, 0, False),
        (1, 50_000_000, False),
        (1, 49_999_999, True),
        (0, 0, False),
        (-1, 0, False),
        (2**31, 0, False),
    ],
)
def test_limits(amount_fen: int, stored_fen: int, allowed: bool) -> None:
    assert (refusal(TerminalLimits(), amount_fen, stored_fen) is None) is allowed


def test_the_largest_amount(counter: Counter) -> None:
    wide = TerminalLimits(single_fen=2**40, stored_fen=2**40)
    assert refusal(wide, 2**31 - 1, 0) is None
    assert refusal(wide, 2**31, 0) is not None


# ---------------------------------------------------------------------- the card's own no


def test_not_enough_shows_the_balance(counter: Counter, mill: Mill) -> None:
    poor = Holder(mill.blank(balance_fen=100))
    shop, bus = counter.shop(), counter.bus()
    for result in (hold(shop, poor, shop.new_sale(101)), hold(bus, poor, counter.fare(101))):
        assert declined(result, sw.BALANCE_TOO_LOW)
        assert result.balance_fen == 100
        assert result.record is None
    assert shop.journal.unresolved() == []
    assert hold(shop, poor, shop.new_sale(100)).granted


def test_not_enough_and_gone(counter: Counter, mill: Mill) -> None:
    poor = Holder(mill.blank(balance_fen=100))
    shop = counter.shop()
    know(shop, poor)
    sale = shop.new_sale(101)
    result = hold(shop, poor, sale, tear=(3, "before"))
    assert declined(result, sw.BALANCE_TOO_LOW)
    assert result.balance_fen is None
    assert shop.journal.unresolved() == []


@pytest.mark.parametrize(
    ("amount_fen", "word"), [(50_001, sw.ABOVE_SINGLE_LIMIT), (30_001, sw.BALANCE_TOO_LOW)]
)
def test_the_cards_limits(counter: Counter, holder: Holder, amount_fen: int, word: int) -> None:
    """Above the PIN-free limit a card without a PIN can't pay; what it says first is its own matter."""
    shop = counter.shop()
    assert declined(hold(shop, holder, shop.new_sale(amount_fen)), word)


def test_the_offline_total(counter: Counter, mill: Mill) -> None:
    holder = Holder(mill.blank(balance_fen=100_000))
    state = holder.memory.state()
    holder.memory.commit(state.changed(limits=replace(state.limits, offline_total_fen=1_000)).to_bytes())
    shop = counter.shop()
    assert hold(shop, holder, shop.new_sale(1_000)).granted
    assert declined(hold(shop, holder, shop.new_sale(1)), sw.OFFLINE_TOTAL_USED_UP)


def test_a_transit_terminal_is_refused_above_the_allowance(counter: Counter, holder: Holder) -> None:
    """Even a fresh proof does not widen it: one fare above the allowance is refused, once proved."""
    bus = counter.bus()
    tapped = Wiretap()
    result = hold(bus, holder, counter.fare(5_001), wrap=tapped)
    assert declined(result, sw.TRANSIT_ALLOWANCE_USED_UP)
    assert [command[1] for command in tapped.commands].count(m.INS_PROVE) == 1
    assert holder.balance_fen == 20_000


def test_a_shop_that_claims_the_transit_profile(counter: Counter, holder: Holder) -> None:
    """Fault 19: no transit certificate of that payee, no payment."""
    shop = counter.shop()
    sale = replace(shop.new_sale(100), profile=1)
    assert declined(hold(shop, holder, sale), sw.PAYEE_UNKNOWN)
    assert holder.balance_fen == 20_000


def test_a_bus_that_claims_the_retail_profile(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    sale = replace(bus.new_sale(100), profile=2)
    assert declined(hold(bus, holder, sale), sw.WRONG_CLASS)
    assert holder.balance_fen == 20_000


# ---------------------------------------------------------------------- schemes, currencies, certificates


def select_with(**changes: Any) -> Wiretap:
    """A card whose answer to SELECT has other fields."""

    def alter(command: bytes, reply: bytes) -> bytes:
        if command[1] != m.INS_SELECT:
            return reply
        return parse_selected(reply[:-2])._replace(**changes).to_bytes() + reply[-2:]

    return Wiretap(alter)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scheme": b"\xff" * 4}, "another scheme"),
        ({"currency": 0x0840}, "another currency"),
        ({"suite": 2}, "suite 02"),
        ({"suite": 0x77}, "suite 77"),
        ({"version": 2}, "version 2"),
        ({"application": 9}, "application 9"),
        ({"state": 8}, "no hardwallet has"),
        ({"unratified": 9}, "no hardwallet has"),
    ],
)
def test_who_is_not_of_this_scheme(
    counter: Counter, holder: Holder, changes: dict[str, Any], words: str
) -> None:
    for terminal in (counter.shop(), counter.bus()):
        tapped = select_with(**changes)
        charge = terminal.new_sale(100) if terminal.profile == 2 else counter.fare()
        result = hold(terminal, holder, charge, wrap=tapped)
        assert result.outcome is Outcome.DECLINED
        assert words in result.reason
        assert len(tapped.commands) == 1
        assert entries(terminal) == 0


def test_a_card_of_a_real_other_scheme(
    counter: Counter, mill: Mill, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from hardwallet.issuing import create_scheme, open_scheme

    folder = tmp_path_factory.mktemp("other")
    create_scheme(folder, "other", mill.suite, b"p", NOW, seeded("other scheme"))
    with open_scheme(folder, b"p", seeded("other")) as scheme:
        identity, memory = scheme.new_card(5, NOW)
    stranger = Holder(Blank(identity, memory.state().to_bytes(), memory.image()))
    shop = counter.shop()
    assert "another scheme" in hold(shop, stranger, shop.new_sale(100)).reason


def reissued(mill: Mill, holder: Holder, **changes: Any) -> Holder:
    """The card with another certificate."""
    return Holder(mill.with_certificate(holder.copy(), **changes))


def showing(certificate: bytes, named: bytes) -> Wiretap:
    """The card shows that certificate, and names it when it is selected."""

    def alter(command: bytes, reply: bytes) -> bytes:
        if command[1] == m.INS_EXCHANGE_CERTIFICATES:
            return certificate + reply[-2:]
        if command[1] != m.INS_SELECT:
            return reply
        return parse_selected(reply[:-2])._replace(certificate_digest=named).to_bytes() + reply[-2:]

    return Wiretap(alter)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"not_after": NOW + 30}, "expired"),
        ({"not_before": NOW + 3_600}, "not valid yet"),
        ({"not_before": NOW + 50, "not_after": NOW + 40}, "ends before it begins"),
        ({"authority": b"\0\0\1\2"}, "not known"),
        ({"authority": ACQUIRER}, "may not sign"),
        ({"scheme": b"\xff" * 4}, "another scheme"),
        ({"currency": 0x0840}, "currency 0840"),
        ({"suite": 2}, "suite 02"),
        ({"public": bytes(64)}, "malformed"),
        ({"subject": bytes(12)}, "another card"),
    ],
)
def test_certificates_that_are_not_good(
    counter: Counter, mill: Mill, holder: Holder, changes: dict[str, Any], words: str
) -> None:
    """Fault 22: declined, never skipped; the card is not asked to pay."""
    bad = reissued(mill, holder, **changes).identity.certificate
    for terminal in (counter.shop(), counter.bus()):
        tapped = showing(bad.to_bytes(), digest(mill.suite, bad))
        charge = terminal.new_sale(100) if terminal.profile == 2 else counter.fare()
        result = hold(terminal, holder, charge, wrap=tapped)
        assert result.outcome is Outcome.DECLINED
        assert words in result.reason
        assert m.INS_PAY not in [command[1] for command in tapped.commands]
        assert entries(terminal) == 0
        assert terminal.known_cards == {}
        assert terminal.journal.certificate(digest(mill.suite, bad)) is None


def test_a_certificate_that_its_authority_did_not_sign(counter: Counter, mill: Mill, holder: Holder) -> None:
    bad = reissued(mill, holder, signer=mill.acquirer)
    shop = counter.shop()
    result = hold(shop, bad, shop.new_sale(100))
    assert declined(result)
    assert "not signed by its authority" in result.reason


def test_a_certificate_of_another_class(counter: Counter, mill: Mill, holder: Holder) -> None:
    """A terminal's certificate where a card's belongs, padded to its length."""
    certificate = mill.identity(CLASS_RETAIL).certificate

    def swap(command: bytes, reply: bytes) -> bytes:
        if command[1] != m.INS_EXCHANGE_CERTIFICATES:
            return reply
        return certificate.to_bytes() + bytes(16) + b"\x90\x00"

    shop = counter.shop()
    result = hold(shop, holder, shop.new_sale(100), wrap=Wiretap(swap))
    assert declined(result)
    assert "malformed" in result.reason


def test_a_certificate_other_than_the_one_named(counter: Counter, mill: Mill, holder: Holder) -> None:
    """A good certificate of another card: SELECT named this one's digest."""
    other = mill.holder(balance_fen=10_000)

    def swap(command: bytes, reply: bytes) -> bytes:
        if command[1] != m.INS_EXCHANGE_CERTIFICATES:
            return reply
        return other.identity.certificate.to_bytes() + b"\x90\x00"

    shop = counter.shop()
    result = hold(shop, holder, shop.new_sale(100), wrap=Wiretap(swap))
    assert declined(result)
    assert "not the one that it named" in result.reason


def test_an_agreement_key_other_than_the_certified_one(counter: Counter, rich: Holder) -> None:
    """Whoever could swap it would read the PIN."""

    def swap(command: bytes, reply: bytes) -> bytes:
        if command[1] != m.INS_EXCHANGE_CERTIFICATES:
            return reply
        return reply[:178] + seeded(1)(64) + reply[-2:]

    shop = counter.shop()
    tapped = Wiretap(swap)
    result = hold(shop, rich, shop.new_sale(38_000), "271828", wrap=tapped)
    assert declined(result)
    assert "agreement key" in result.reason
    assert m.INS_PAY not in [command[1] for command in tapped.commands]


def test_a_card_that_expires_while_it_is_known(counter: Counter, mill: Mill, holder: Holder) -> None:
    short = reissued(mill, holder, not_after=NOW + 600)
    shop, bus = counter.shop(), counter.bus()
    assert hold(shop, short, shop.new_sale(100)).granted
    assert hold(bus, short, counter.fare()).granted
    counter.time.now = NOW + 601
    assert "expired" in hold(shop, short, shop.new_sale(100)).reason
    assert "expired" in hold(bus, short, counter.fare()).reason
    bus = counter.restart(bus)  # known from the journal, not from memory
    assert "expired" in hold(bus, short, counter.fare()).reason
    assert short.balance_fen == 20_000 - 300


def test_a_kept_certificate_is_verified_again(counter: Counter, mill: Mill, holder: Holder) -> None:
    """The store is no authority: what lies in it is checked like what a card shows."""
    from pos_terminal.ports import CardCertificate

    bus = counter.bus()
    forged = signed(holder.identity.certificate, mill.acquirer)
    bus.journal.keep_certificate(
        digest(mill.suite, forged), CardCertificate(forged.to_bytes(), b"")
    )  # the digest is over the body, which is the same
    result = hold(bus, holder, counter.fare())
    assert declined(result)
    assert "not signed" in result.reason


def test_a_terminal_whose_own_certificate_the_card_finds_expired(
    counter: Counter, mill: Mill, holder: Holder
) -> None:
    """By its date floor, which only verified certificates raise."""
    late = mill.identity(CLASS_RETAIL)
    old = mill.terminal_certificate(mill.identity(CLASS_RETAIL), not_before=NOW, not_after=NOW + 100)
    newer = mill.terminal_certificate(late, not_before=NOW + 1_000, not_after=NOW + YEAR_S)
    counter.time.now = NOW + 50
    shop = counter.at(old)
    know(shop, holder)
    counter.time.now = NOW + 1_001
    know(counter.at(newer), holder)
    counter.time.now = NOW + 60
    result = hold(shop, holder, shop.new_sale(100))
    assert declined(result, sw.CERTIFICATE_EXPIRED)
    assert holder.balance_fen == 20_000


def test_a_terminal_of_an_unknown_acquirer(counter: Counter, mill: Mill, holder: Holder) -> None:
    """The card knows no such operator, nor does the terminal's own list: refused at the start."""
    identity = mill.terminal_certificate(mill.identity(CLASS_TRANSIT), authority=b"\0\0\2\2")
    from hardwallet.errors import AuthorityUnknown

    with pytest.raises(AuthorityUnknown):
        counter.at(identity, counter.journal(mill.identity(CLASS_TRANSIT)))


# ---------------------------------------------------------------------- no card at all, slow cards


def test_another_application(counter: Counter, holder: Holder) -> None:
    def nothing(command: bytes, reply: bytes) -> bytes:
        return b"\x6a\x82"

    shop = counter.shop()
    result = hold(shop, holder, shop.new_sale(100), wrap=Wiretap(nothing))
    assert declined(result)
    assert "no hardwallet (6A82)" in result.reason


def slow_at(counter: Counter, ins: int, delay_s: float) -> Wiretap:
    def slow(command: bytes, reply: bytes) -> bytes:
        if command[1] == ins:
            counter.time.watch_s += delay_s
        return reply

    return Wiretap(slow)


def test_a_slow_answer_to_select_is_refused(counter: Counter, holder: Holder) -> None:
    """Fault 18: over the bound before PAY."""
    bus = counter.bus(limits=TerminalLimits(select_ms=100))
    know(bus, holder)
    tapped = slow_at(counter, m.INS_SELECT, 0.11)
    result = hold(bus, holder, counter.fare(), wrap=tapped)
    assert declined(result)
    assert len(tapped.commands) == 1
    assert holder.balance_fen == 20_000
    assert hold(bus, holder, counter.fare(), wrap=slow_at(counter, m.INS_SELECT, 0.09)).granted


@pytest.mark.parametrize("ins", [m.INS_PAY, m.INS_RATIFY])
def test_lateness_after_pay_refuses_nothing(counter: Counter, holder: Holder, ins: int) -> None:
    """The card has paid: late is evidence (it stands in the phases), not a reason to keep goods and money."""
    bus = counter.bus(limits=TerminalLimits(select_ms=100))
    know(bus, holder)
    result = hold(bus, holder, counter.fare(), wrap=slow_at(counter, ins, 30))
    assert result.granted
    assert max(phase.host_ms for phase in result.phases.values()) >= 30_000


# ---------------------------------------------------------------------- copies and replays


class Emulator:
    """Knows a card's certificate and its stored record, and has no key: it plays back what it saw."""

    def __init__(self, holder: Holder, record: bytes, proof: bytes) -> None:
        self._card = holder.card
        self.record, self.proof = record, proof
        self.atr = holder.card.atr
        self.asked = 0

    def power_on(self) -> None:
        self._card.power_on()

    def power_off(self) -> None:
        self._card.power_off()

    def reset(self) -> None:
        self._card.reset()

    def execute(self, command: bytes) -> bytes:
        if command[1] != m.INS_PAY:
            return self._card.execute(command)
        self.asked += 1
        return b"\x03" + self.record + self.proof + b"\x90\x00"


def hold_emulator(terminal: Terminal, emulator: Emulator, sale: Sale) -> Tap:
    reader = InProcessReader(emulator)
    return tap(terminal, reader.wait_for_card(0), sale)


def test_a_copied_record_on_an_emulator(counter: Counter, holder: Holder) -> None:
    """Fault 16b: the record is genuine, and the right one; the proof over this nonce can't be made."""
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(900)
    hold(shop, holder, sale, tear=(PAY_KNOWN, "after"))
    record = holder.records[-1].raw
    spied = Wiretap()
    copy_of = Holder(holder.copy(), seed=3)
    twin = counter.at(shop.identity, counter.journal(counter.mill.identity(CLASS_RETAIL)))
    hold(twin, copy_of, sale, wrap=spied)  # a proof for another nonce, to be played back
    proof = next(reply for reply in spied.replies if len(reply) == 227)[161:225]
    for stale in (proof, bytes(64), record[96:], seeded("proof")(64)):
        emulator = Emulator(Holder(holder.copy()), record, stale)
        result = hold_emulator(shop, emulator, sale)
        assert emulator.asked == 1
        assert result.outcome is Outcome.UNRESOLVED
        assert not result.granted
        assert shop.journal.waiting_fen() == 0
    real = hold(shop, holder, sale)  # and the card itself is as welcome as before
    assert real.granted
    assert real.recovered


def test_a_planted_record_of_one_fen(counter: Counter, holder: Holder) -> None:
    """Fault 16b: somebody made the card pay 0.01 under this sale's reference. It is another sale."""
    shop = counter.shop()
    know(shop, holder)
    sale = shop.new_sale(900)
    planter = counter.at(shop.identity, counter.journal(counter.mill.identity(CLASS_RETAIL)))
    assert hold(planter, holder, replace(sale, amount_fen=1)).granted
    planted = holder.records[-1]
    assert planted.reference == sale.reference
    # Played back by an emulator it does not pass for the sale.
    emulator = Emulator(Holder(holder.copy()), planted.raw, bytes(64))
    result = hold_emulator(shop, emulator, sale)
    assert result.outcome is Outcome.UNRESOLVED
    assert "another sale" in result.reason
    # And on the card itself it neither pays for the sale nor blocks it.
    result = hold(shop, holder, sale)
    assert result.granted
    assert not result.recovered
    assert holder.balance_fen == 20_000 - 901
    assert result.record is not None
    assert result.record.amount_fen == 900


def test_a_card_with_a_copied_identifier_and_no_key(counter: Counter, mill: Mill, holder: Holder) -> None:
    """Fault 24: its own key does not stand under the issuer, and the copied certificate is not its own."""
    shop = counter.shop()
    self_signed = signed(other_card_certificate(mill, holder), mill.suite.new_signing_key(seeded("fake")))
    blank = holder.copy()
    with_own = Holder(replace(blank, identity=_identity(blank, certificate=self_signed, seed="fake")))
    assert "not signed by its authority" in hold(shop, with_own, shop.new_sale(100)).reason
    with_copied = Holder(replace(blank, identity=_identity(blank, seed="fake")))
    sale = shop.new_sale(100)
    result = hold(shop, with_copied, sale)
    assert result.outcome is Outcome.UNRESOLVED
    assert "signature does not verify" in result.reason
    assert shop.journal.waiting_fen() == 0


def _identity(blank: Blank, seed: str, certificate: Any = None) -> Any:
    from hardwallet.card.identity import CardIdentity

    old = blank.identity
    signing = old.suite.new_signing_key(seeded(seed))
    return CardIdentity(
        old.suite, certificate or old.certificate, old.root, signing, old.agreement, old.secret, old.pin_salt
    )


@pytest.mark.parametrize("klass", [CLASS_RETAIL, CLASS_TRANSIT])
def test_a_reply_from_another_terminal_or_tap(
    counter: Counter, mill: Mill, holder: Holder, klass: int
) -> None:
    """Fault 15: the signature binds payee, terminal and nonce, so a replayed reply proves nothing."""
    terminal = counter.at(mill.identity(klass, 11))
    other = counter.at(mill.identity(klass, 12))
    charge = terminal.new_sale(100) if klass == CLASS_RETAIL else counter.fare()
    twin = Holder(holder.copy())
    know(terminal, twin)
    know(other, twin)
    seen: list[bytes] = []
    for at in (other, terminal):  # a reply to the other payee, and one to this terminal's earlier try
        spied = Wiretap()
        hold(at, twin, charge, wrap=spied, tear=(PAY_KNOWN + 1, "before"))
        seen.append(spied.replies[1])
        assert len(seen[-1]) == 83

    fresh = counter.restart(terminal) if klass == CLASS_RETAIL else terminal
    sale = fresh.new_sale(100) if klass == CLASS_RETAIL else counter.fare()
    for replayed in seen:

        def replay(command: bytes, reply: bytes, replayed: bytes = replayed) -> bytes:
            return replayed if command[1] == m.INS_PAY else reply

        at = fresh
        result = hold(at, Holder(holder.copy()), sale, wrap=Wiretap(replay))
        assert result.outcome is Outcome.UNRESOLVED
        assert "signature does not verify" in result.reason


def test_one_terminal_twice_in_a_sale_uses_another_nonce(counter: Counter, holder: Holder) -> None:
    bus = counter.bus()
    fare = counter.fare()
    nonces = set()
    for _ in range(5):
        tapped = Wiretap()
        hold(bus, holder, fare, wrap=tapped)
        pay = next(command for command in tapped.commands if command[1] == m.INS_PAY)
        nonces.add(pay[5 + 37 : 5 + 53])
    assert len(nonces) == 5


# ---------------------------------------------------------------------- bits altered on the way


@pytest.mark.parametrize("offset", [*range(1, 17), 17, 80])
def test_every_field_of_the_reply_is_signed(counter: Counter, holder: Holder, offset: int) -> None:
    """Faults 20, 21: sequence, cardholder verification, limit state, balance, totals, signature."""
    shop = counter.shop()
    know(shop, holder)

    def flip(command: bytes, reply: bytes) -> bytes:
        if command[1] != m.INS_PAY:
            return reply
        return reply[:offset] + bytes((reply[offset] ^ 1,)) + reply[offset + 1 :]

    sale = shop.new_sale(100)
    result = hold(shop, holder, sale, wrap=Wiretap(flip))
    assert result.outcome is Outcome.UNRESOLVED
    assert hold(shop, holder, sale).granted


def test_states_of_a_sale_have_words() -> None:
    assert len({state.words for state in SaleState}) == len(SaleState)
