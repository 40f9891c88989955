"""Sections 3 and 8: certificates, the date floor, PROVE."""

from dataclasses import replace
from typing import Any

from hardwallet import messages as m
from hardwallet import status as sw
from hardwallet.certificates import (
    CLASS_ACQUIRING,
    CLASS_BESIDE,
    CLASS_ISSUING,
    CLASS_RETAIL,
    CLASS_TRANSIT,
    OPERATOR,
    TERMINAL,
    Certificate,
    agreement_digest,
    signed,
)
from hardwallet.errors import SignatureInvalid
from hardwallet.issuing import ACQUIRER, ISSUER
from hardwallet.suites import SigningKey
from hw_tests.bench import Bench, Terminal, done, flipped, refused
from hw_tests.cases.registry import case

YEAR_S = 365 * 24 * 3600


def exchange(bench: Bench, certificate: Certificate) -> int:
    """EXCHANGE CERTIFICATES; the status word."""
    return bench.send(m.INS_EXCHANGE_CERTIFICATES, certificate.to_bytes()).sw


def introduce(bench: Bench, certificate: Certificate) -> int:
    """INTRODUCE; the status word."""
    return bench.send(m.INS_INTRODUCE, certificate.to_bytes()).sw


def unsigned(bench: Bench, klass: int = CLASS_RETAIL, **changes: Any) -> Certificate:
    """A terminal's certificate with a key of its own."""
    key = bench.suite.new_signing_key(bench.entropy)
    subject = ACQUIRER + bench.entropy(8)
    return bench.certificate_of(TERMINAL, klass, subject, **{"public": key.public, **changes})


# ---------------------------------------------------------------------- EXCHANGE CERTIFICATES


@case
def card_shows_its_certificate(bench: Bench) -> None:
    """178 bytes, with the agreement key 242; good under the issuer's key."""
    plain = done(bench.send(m.INS_EXCHANGE_CERTIFICATES))
    both = done(bench.send(m.INS_EXCHANGE_CERTIFICATES, p2=1))
    assert (len(plain), len(both)) == (178, 242)
    assert plain == both[:178] == bench.certificate.to_bytes()
    assert bench.certificate.card == bench.card
    assert bench.certificate.authority == ISSUER
    assert agreement_digest(bench.suite, both[178:]) == bench.certificate.agreement_digest
    terminal = bench.terminal(CLASS_RETAIL)
    reply = done(bench.send(m.INS_EXCHANGE_CERTIFICATES, terminal.certificate.to_bytes(), p2=1))
    assert reply == both


@case
def verified_terminal_may_prove_itself(bench: Bench) -> None:
    """Both classes, and a certificate that is presented twice."""
    for klass in (CLASS_RETAIL, CLASS_TRANSIT):
        terminal = bench.terminal(klass)
        refused(bench.prove(terminal), sw.CERTIFICATE_UNKNOWN)
        done(bench.exchange(terminal))
        done(bench.exchange(terminal))
        done(bench.prove(terminal))


@case
def any_altered_byte_is_refused(bench: Bench) -> None:
    """Each of the 162 bytes alone; the word names the first rule that it breaks."""
    raw = bench.terminal(CLASS_RETAIL).certificate.to_bytes()
    ranges = [
        (range(2), sw.MALFORMED),
        (range(2, 4), sw.WRONG_CLASS),
        (range(4, 8), sw.NOT_FOR_THIS_CARD),
        (range(8, 12), sw.AUTHORITY_UNKNOWN),
        (range(12, 16), sw.WRONG_CLASS),
        (range(16, 24), sw.SIGNATURE_WRONG),
        (range(24, 26), sw.WRONG_CLASS),
        (range(26, 162), sw.SIGNATURE_WRONG),
    ]
    for offsets, word in ranges:
        for offset in offsets:
            altered = flipped(raw, offset)
            refused(bench.send(m.INS_EXCHANGE_CERTIFICATES, altered), word)
            named = bench.suite.hash(altered[:98])[:8]
            refused(bench.send(m.INS_PROVE, named + bytes(64)), sw.CERTIFICATE_UNKNOWN)


@case
def any_altered_byte_of_an_operator_is_refused(bench: Bench) -> None:
    """The same for INTRODUCE."""
    certificate, _ = bench.operator()
    raw = certificate.to_bytes()
    ranges = [
        (range(2), sw.MALFORMED),
        (range(2, 3), sw.WRONG_CLASS),
        (range(3, 4), sw.SIGNATURE_WRONG),
        (range(4, 8), sw.NOT_FOR_THIS_CARD),
        (range(8, 12), sw.WRONG_CLASS),
        (range(12, 16), sw.SIGNATURE_WRONG),
        (range(16, 24), sw.MALFORMED),
        (range(24, 26), sw.WRONG_CLASS),
        (range(26, 162), sw.SIGNATURE_WRONG),
    ]
    for offsets, word in ranges:
        for offset in offsets:
            refused(bench.send(m.INS_INTRODUCE, flipped(raw, offset)), word)


@case
def wrong_type_for_the_command(bench: Bench) -> None:
    """An operator is not presented as a terminal, nor a terminal or the root introduced."""
    operator, _ = bench.operator()
    assert exchange(bench, operator) == sw.WRONG_CLASS
    assert introduce(bench, bench.retail.certificate) == sw.WRONG_CLASS
    assert introduce(bench, bench.bundle.root) == sw.WRONG_CLASS
    card = bench.certificate.to_bytes()
    refused(bench.send(m.INS_EXCHANGE_CERTIFICATES, card), sw.WRONG_LENGTH)
    refused(bench.send(m.INS_EXCHANGE_CERTIFICATES, card[:162]), sw.MALFORMED)


@case
def signed_but_wrong_terminals(bench: Bench) -> None:
    """Certificates that the acquirer really signed and that a card must not trust."""
    begin = bench.begin
    off_curve = bytes(63) + b"\x07"
    wrong: list[tuple[dict[str, Any], int]] = [
        ({"klass": 0}, sw.WRONG_CLASS),
        ({"klass": 3}, sw.WRONG_CLASS),
        ({"klass": 0xFF}, sw.WRONG_CLASS),
        ({"scheme": bench.entropy(4)}, sw.NOT_FOR_THIS_CARD),
        ({"suite": bench.other_suite.number}, sw.WRONG_CLASS),
        ({"suite": 0}, sw.WRONG_CLASS),
        ({"currency": 0x0840}, sw.WRONG_CLASS),
        ({"not_before": begin + 9, "not_after": begin + 8}, sw.WRONG_CLASS),
        ({"subject": ISSUER + bench.entropy(8)}, sw.WRONG_CLASS),
        ({"authority": ISSUER, "subject": ISSUER + bench.entropy(8)}, sw.WRONG_CLASS),
        ({"authority": bench.entropy(4)}, sw.AUTHORITY_UNKNOWN),
        ({"authority": bytes(4)}, sw.AUTHORITY_UNKNOWN),
        ({"public": off_curve}, sw.MALFORMED),
        ({"public": bytes(64)}, sw.MALFORMED),
    ]
    for changes, word in wrong:
        certificate = signed(unsigned(bench, **changes), bench.authority.acquirer)
        assert f"{exchange(bench, certificate):04X}" == f"{word:04X}", changes


@case
def certificates_of_the_other_suite(bench: Bench) -> None:
    """A key of the other curve is no point of this one; the other suite's signature says nothing here."""
    key = bench.other_suite.new_signing_key(bench.entropy)
    terminal, acquirer = unsigned(bench, public=key.public), bench.authority.acquirer
    assert exchange(bench, signed(terminal, acquirer)) == sw.MALFORMED
    assert exchange(bench, signed(unsigned(bench), key)) == sw.SIGNATURE_WRONG
    other = unsigned(bench, public=key.public, suite=bench.other_suite.number)
    for signer in (key, acquirer):
        assert exchange(bench, signed(other, signer)) == sw.WRONG_CLASS
    blank = bench.certificate_of(OPERATOR, CLASS_ACQUIRING, b"\x77\x00\x00\x01" + bytes(8))
    assert introduce(bench, signed(replace(blank, public=key.public), bench.authority.root)) == sw.MALFORMED
    own = replace(blank, public=bench.authority.acquirer.public)
    assert introduce(bench, signed(own, key)) == sw.SIGNATURE_WRONG


@case
def signed_by_the_wrong_key(bench: Bench) -> None:
    """The root, the issuer and a stranger can't make a terminal of the acquirer."""
    stranger = bench.suite.new_signing_key(bench.entropy)
    for key in (bench.authority.root, bench.authority.issuer, stranger):
        assert exchange(bench, signed(unsigned(bench), key)) == sw.SIGNATURE_WRONG


@case
def signed_but_wrong_operators(bench: Bench) -> None:
    """Certificates that the root really signed and that a card must not trust."""
    begin = bench.begin
    wrong: list[tuple[dict[str, Any], int]] = [
        ({"klass": 0}, sw.WRONG_CLASS),
        ({"klass": 4}, sw.WRONG_CLASS),
        ({"scheme": bench.entropy(4)}, sw.NOT_FOR_THIS_CARD),
        ({"suite": bench.other_suite.number}, sw.WRONG_CLASS),
        ({"currency": 0x0840}, sw.WRONG_CLASS),
        ({"not_before": begin + 9, "not_after": begin + 8}, sw.WRONG_CLASS),
        ({"authority": ACQUIRER}, sw.WRONG_CLASS),
        ({"subject": b"\x77" + bench.entropy(3) + bytes(7) + b"\x01"}, sw.MALFORMED),
        ({"public": bytes(64)}, sw.MALFORMED),
    ]
    for changes, word in wrong:
        certificate, _ = bench.operator(**changes)
        assert f"{introduce(bench, certificate):04X}" == f"{word:04X}", changes
    blank = bench.certificate_of(OPERATOR, CLASS_ACQUIRING, b"\x77\x00\x00\x01" + bytes(8))
    good = replace(blank, public=bench.authority.acquirer.public)
    assert introduce(bench, signed(good, bench.authority.acquirer)) == sw.SIGNATURE_WRONG


# ---------------------------------------------------------------------- INTRODUCE


@case
def unknown_authority_is_introduced(bench: Bench) -> None:
    """9410, INTRODUCE, and then the terminal's certificate is good."""
    operator, key = bench.operator()
    subject = operator.operator + bench.entropy(8)
    blank = bench.certificate_of(TERMINAL, CLASS_RETAIL, subject, authority=operator.operator)
    terminal = bench.signed_terminal(blank, key)
    refused(bench.exchange(terminal), sw.AUTHORITY_UNKNOWN)
    assert introduce(bench, operator) == sw.OK
    assert introduce(bench, operator) == sw.OK
    done(bench.exchange(terminal))
    done(bench.prove(terminal))
    foreign = bench.signed_terminal(replace(blank, subject=ACQUIRER + bench.entropy(8)), key)
    refused(bench.exchange(foreign), sw.WRONG_CLASS)


@case
def issuing_operator_signs_no_terminals(bench: Bench) -> None:
    """Also when it was introduced; one that may do both may."""
    for klass, word in ((CLASS_ISSUING, sw.WRONG_CLASS), (CLASS_ISSUING | CLASS_ACQUIRING, sw.OK)):
        operator, key = bench.operator(klass)
        assert introduce(bench, operator) == sw.OK
        subject = operator.operator + bench.entropy(8)
        blank = bench.certificate_of(TERMINAL, CLASS_TRANSIT, subject, authority=operator.operator)
        assert bench.exchange(bench.signed_terminal(blank, key)).sw == word


@case
def newer_operator_takes_the_older_ones_place(bench: Bench) -> None:
    """Its new key counts at once; the older certificate does not come back."""
    older, old_key = bench.operator()
    assert introduce(bench, older) == sw.OK
    new_key = bench.suite.new_signing_key(bench.entropy)
    newer = signed(
        replace(older, public=new_key.public, not_before=older.not_before + 1), bench.authority.root
    )
    assert introduce(bench, newer) == sw.OK
    blank = bench.certificate_of(
        TERMINAL, CLASS_RETAIL, older.operator + bench.entropy(8), authority=older.operator
    )
    refused(bench.exchange(bench.signed_terminal(blank, old_key)), sw.SIGNATURE_WRONG)
    done(bench.exchange(bench.signed_terminal(blank, new_key)))
    assert introduce(bench, older) == sw.ORDER_TOO_OLD
    same_day = signed(replace(newer, not_after=newer.not_after + 1), bench.authority.root)
    assert introduce(bench, same_day) == sw.ORDER_TOO_OLD
    assert introduce(bench, newer) == sw.OK


def successor(bench: Bench, of: Certificate, klass: int, later: int = 1) -> tuple[Certificate, SigningKey]:
    """A newer certificate of the same operator, with a key of its own."""
    key = bench.suite.new_signing_key(bench.entropy)
    newer = replace(of, klass=klass, public=key.public, not_before=of.not_before + later)
    return signed(newer, bench.authority.root), key


def shop_of(bench: Bench, operator: Certificate, key: SigningKey) -> Terminal:
    """A new terminal of an operator."""
    subject = operator.operator + bench.entropy(8)
    blank = bench.certificate_of(TERMINAL, CLASS_RETAIL, subject, authority=operator.operator)
    return bench.signed_terminal(blank, key)


@case
def two_certificates_stand_beside_each_other(bench: Bench) -> None:
    """While a key is rotated, what either one signed is good; a third takes the oldest's place."""
    older, old_key = bench.operator()
    newer, new_key = successor(bench, older, CLASS_ACQUIRING | CLASS_BESIDE)
    assert introduce(bench, older) == sw.OK
    refused(bench.exchange(shop_of(bench, newer, new_key)), sw.SIGNATURE_WRONG)
    assert introduce(bench, newer) == sw.OK
    for operator, key in ((older, old_key), (newer, new_key)):
        terminal = shop_of(bench, operator, key)
        done(bench.exchange(terminal))
        bench.select()
        done(bench.prove(terminal))
    stranger = bench.suite.new_signing_key(bench.entropy)
    refused(bench.exchange(shop_of(bench, newer, stranger)), sw.SIGNATURE_WRONG)
    assert introduce(bench, older) == sw.OK  # nothing new: it stands there already
    newest, newest_key = successor(bench, newer, CLASS_ACQUIRING | CLASS_BESIDE)
    assert introduce(bench, newest) == sw.OK
    assert introduce(bench, older) == sw.ORDER_TOO_OLD
    refused(bench.exchange(shop_of(bench, older, old_key)), sw.SIGNATURE_WRONG)
    for operator, key in ((newer, new_key), (newest, newest_key)):
        done(bench.exchange(shop_of(bench, operator, key)))


@case
def one_that_stands_alone_ends_all_before_it(bench: Bench) -> None:
    """A compromised key is gone from a card that has met its operator's next certificate of that kind."""
    older, old_key = bench.operator()
    newer, new_key = successor(bench, older, CLASS_ACQUIRING | CLASS_BESIDE)
    alone, alone_key = successor(bench, newer, CLASS_ACQUIRING)
    for operator in (older, newer, alone):
        assert introduce(bench, operator) == sw.OK
    for operator, key in ((older, old_key), (newer, new_key)):
        refused(bench.exchange(shop_of(bench, operator, key)), sw.SIGNATURE_WRONG)
        assert introduce(bench, operator) == sw.ORDER_TOO_OLD
    done(bench.exchange(shop_of(bench, alone, alone_key)))


@case
def issuer_keeps_its_place(bench: Bench) -> None:
    """Three other operators fit; a fourth pushes out the oldest, never the issuer."""
    operators = [bench.operator() for _ in range(4)]
    for certificate, _ in operators:
        assert introduce(bench, certificate) == sw.OK

    def exchanged(index: int) -> int:
        certificate, key = operators[index]
        subject = certificate.operator + bench.entropy(8)
        blank = bench.certificate_of(TERMINAL, CLASS_RETAIL, subject, authority=certificate.operator)
        return bench.exchange(bench.signed_terminal(blank, key)).sw

    assert [exchanged(index) for index in range(4)] == [sw.AUTHORITY_UNKNOWN, sw.OK, sw.OK, sw.OK]
    bench.meet(bench.retail)
    bench.order(m.KIND_UNBLOCK)


@case
def eight_terminals_are_kept(bench: Bench) -> None:
    """The ninth takes the oldest one's place."""
    terminals = [bench.terminal(CLASS_RETAIL) for _ in range(9)]
    for terminal in terminals:
        done(bench.exchange(terminal))
    refused(bench.prove(terminals[0]), sw.CERTIFICATE_UNKNOWN)
    for terminal in terminals[1:]:
        done(bench.prove(terminal))


# ---------------------------------------------------------------------- the date floor


@case
def expired_means_before_the_floor(bench: Bench) -> None:
    """A certificate may end on the floor, not before it."""
    floor = bench.state().date_floor
    ends = {"not_before": bench.begin - YEAR_S, "not_after": floor - 1}
    refused(bench.exchange(bench.terminal(CLASS_RETAIL, **ends)), sw.CERTIFICATE_EXPIRED)
    operator, _ = bench.operator(**ends)
    assert introduce(bench, operator) == sw.CERTIFICATE_EXPIRED
    done(bench.exchange(bench.terminal(CLASS_RETAIL, not_before=bench.begin, not_after=floor)))


@case
def verified_starts_raise_the_floor(bench: Bench) -> None:
    """A terminal's, an operator's, an order's, a load's; a lower one leaves it."""
    floor = bench.state().date_floor
    done(bench.exchange(bench.terminal(CLASS_RETAIL, floor + 1)))
    assert bench.state().date_floor == floor + 1
    operator, _ = bench.operator(not_before=floor + 2)
    assert introduce(bench, operator) == sw.OK
    assert bench.state().date_floor == floor + 2
    done(bench.send_order(bench.order_of(m.KIND_UNBLOCK, time_s=floor + 3)))
    assert bench.state().date_floor == floor + 3
    bench.receipt(bench.send_load(bench.load_order(0, time_s=floor + 4)), 1)
    assert bench.state().date_floor == floor + 4
    done(bench.exchange(bench.terminal(CLASS_RETAIL, floor)))
    done(bench.send_order(bench.order_of(m.KIND_UNBLOCK, time_s=1)))
    bench.receipt(bench.send_load(bench.load_order(0, time_s=2)), 1)
    assert bench.state().date_floor == floor + 4


@case
def nothing_unverified_raises_the_floor(bench: Bench) -> None:
    """A bad signature, a refused order, a terminal's time of 2099 or of 1970."""
    floor = bench.state().date_floor
    late = unsigned(bench, not_before=floor + 1000)
    stranger = bench.suite.new_signing_key(bench.entropy)
    assert exchange(bench, signed(late, stranger)) == sw.SIGNATURE_WRONG
    order = bench.order_of(m.KIND_UNBLOCK, number=0, time_s=floor + 1000)
    refused(bench.send_order(order), sw.ORDER_TOO_OLD)
    for time_s in (4_070_908_800, 0, 0xFFFFFFFF):
        bench.select()
        sale = replace(bench.sale(), time_s=time_s)
        assert bench.paid(bench.pay(sale), sale).time_s == time_s
    assert bench.state().date_floor == floor


@case
def known_terminal_expires_by_the_floor(bench: Bench) -> None:
    """Neither PROVE nor either profile of PAY trusts it any more."""
    floor = bench.state().date_floor
    shop = bench.terminal(CLASS_RETAIL, not_after=floor + 1)
    bus = bench.terminal(CLASS_TRANSIT, not_after=floor + 1)
    bench.meet(shop)
    bench.meet(bus)
    bench.buy(10, shop)
    bench.select()
    fare = bench.sale(10, bus)
    bench.paid(bench.pay(fare), fare)
    bench.meet(bench.terminal(CLASS_RETAIL, floor + 2))
    bench.select()
    refused(bench.prove(shop), sw.CERTIFICATE_EXPIRED)
    refused(bench.pay(bench.sale(10, shop), shop), sw.CERTIFICATE_EXPIRED)
    refused(bench.pay(bench.sale(10, bus)), sw.PAYEE_UNKNOWN)


@case
def renewed_transit_payee_may_be_paid(bench: Bench) -> None:
    """One of its certificates has expired, another one has not."""
    floor = bench.state().date_floor
    bus = bench.terminal(CLASS_TRANSIT, not_after=floor + 1)
    renewed = bench.terminal(CLASS_TRANSIT, floor + 2, subject=bus.certificate.subject)
    bench.meet(bus)
    bench.meet(renewed)
    bench.select()
    sale = bench.sale(10, bus)
    bench.paid(bench.pay(sale), sale)


# ---------------------------------------------------------------------- PROVE


@case
def proof_binds_nonce_card_and_terminal(bench: Bench) -> None:
    """A proof for another session, card, scheme or terminal is none."""
    terminal = bench.retail
    bench.select()
    old = terminal.digest + terminal.key.sign(bench.proof_body(terminal))
    bench.select()
    refused(bench.send(m.INS_PROVE, old), sw.SIGNATURE_WRONG)
    body = bench.proof_body(terminal)
    for offset in range(len(body)):
        signature = terminal.key.sign(flipped(body, offset))
        refused(bench.send(m.INS_PROVE, terminal.digest + signature), sw.SIGNATURE_WRONG)
    other: Terminal = bench.transit
    mixed = other.digest + terminal.key.sign(bench.proof_body(other))
    refused(bench.send(m.INS_PROVE, mixed), sw.SIGNATURE_WRONG)
    refused(bench.send(m.INS_READ_STATE), sw.NOT_PROVED)
    good = terminal.digest + terminal.key.sign(body)
    refused(bench.send(m.INS_PROVE, flipped(good, 0)), sw.CERTIFICATE_UNKNOWN)
    refused(bench.send(m.INS_PROVE, flipped(good, 71)), sw.SIGNATURE_WRONG)
    refused(bench.send(m.INS_PROVE, terminal.digest + bytes(64)), sw.SIGNATURE_WRONG)
    refused(bench.send(m.INS_PROVE, terminal.digest + b"\xff" * 64), sw.SIGNATURE_WRONG)
    done(bench.send(m.INS_PROVE, good))
    done(bench.send(m.INS_READ_STATE))


@case
def terminal_may_prove_itself_after_its_payment(bench: Bench) -> None:
    """That is how a bus carries what it finds."""
    record = bench.buy(10)
    done(bench.prove(bench.transit))
    assert done(bench.read(0, m.P1_NEXT_UNRATIFIED))[:160] == record.raw


# ---------------------------------------------------------------------- INTERNAL AUTHENTICATE


def answered(bench: Bench, challenge: bytes, reply: bytes, **changes: bytes | int) -> bool:
    """Whether the reply is the certified key's signature over what the page says, or over that with
    changes."""
    named: dict[str, bytes | int] = {
        "state": bench.selected.state,
        "scheme": bench.bundle.scheme,
        "card": bench.card,
        "digest": bench.selected.certificate_digest,
        "nonce": bench.selected.nonce,
        "challenge": challenge,
    }
    named |= changes
    fields = [value if isinstance(value, bytes) else bytes((value,)) for value in named.values()]
    body = bytes((0xD5, 1, bench.suite.number, 1)) + b"".join(fields)
    assert len(body) == 57
    try:
        bench.suite.verifying_key(bench.certificate.public).verify(reply, body)
    except SignatureInvalid:
        return False
    return True


@case
def card_proves_itself(bench: Bench) -> None:
    """Over the terminal's challenge and its own nonce, both; nothing of it is good for another challenge."""

    def run() -> None:
        bench.select()
        one, other = bench.entropy(16), bench.entropy(16)
        reply = done(bench.send(m.INS_INTERNAL_AUTHENTICATE, one))
        assert len(reply) == 64
        assert answered(bench, one, reply)
        assert not answered(bench, other, reply)
        assert not answered(bench, one, reply, state=bench.selected.state ^ m.STATE_BLOCKED)
        before = bench.selected.nonce
        bench.select()
        assert not answered(bench, one, reply)
        assert answered(bench, one, reply, nonce=before)

    bench.unchanged(run)


@case
def card_proves_its_state(bench: Bench) -> None:
    """A blocked card says so under its signature."""
    challenge = bench.entropy(16)
    bench.order(m.KIND_BLOCK)
    bench.select()
    assert bench.selected.state & m.STATE_BLOCKED
    assert answered(bench, challenge, done(bench.send(m.INS_INTERNAL_AUTHENTICATE, challenge)))
    bench.order(m.KIND_UNBLOCK)
    bench.select()
    assert not bench.selected.state & m.STATE_BLOCKED
    assert answered(bench, challenge, done(bench.send(m.INS_INTERNAL_AUTHENTICATE, challenge)))
