"""The bench that a card lies on while it is tested: its reader, its scheme's keys, terminals, and short words
for what cases do.

The bench speaks in bytes: it checks nothing that a case is to check, and never retries.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from firmware_bridge.apdu import Command, Response
from firmware_bridge.link import CardLink, Reader
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.certificates import (
    CARD,
    CLASS_ACQUIRING,
    CLASS_RETAIL,
    CLASS_TRANSIT,
    CURRENCY_CNY,
    OPERATOR,
    ROOT_AUTHORITY,
    TERMINAL,
    Certificate,
    TrustBundle,
    digest,
    parse,
    signed,
)
from hardwallet.issuing import ACQUIRER, ISSUER, YEAR_S, open_scheme
from hardwallet.limits import Limits
from hardwallet.suites import (
    GM,
    INTERNATIONAL,
    AgreementKey,
    Entropy,
    SigningKey,
    Suite,
    VerifyingKey,
    suite_by_number,
)

PIN: Final = "271828"
WRONG_PIN: Final = "314159"
BALANCE_FEN: Final = 60_000
LIMITS: Final = Limits(100_000, 50_000, 30_000, 100_000, 128, 10, 5_000)
CARD_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """The keys of a test scheme: whoever holds them can issue, so never those of a real one."""

    bundle: TrustBundle
    root: SigningKey
    issuer: SigningKey
    acquirer: SigningKey

    @property
    def suite(self) -> Suite:
        """The scheme's suite."""
        return self.bundle.suite


def open_authority(folder: Path, passphrase: bytes, entropy: Entropy) -> Authority:
    """The keys of a scheme folder. Raises IssuingError."""
    with open_scheme(folder, passphrase, entropy) as scheme:
        return Authority(scheme.trust.bundle, *(scheme.key(name) for name in ("root", "issuer", "acquirer")))


@dataclass(frozen=True, slots=True, repr=False)
class Terminal:
    """A terminal's certificate and key."""

    certificate: Certificate
    digest: bytes
    key: SigningKey

    @property
    def payee(self) -> bytes:
        """8 bytes."""
        return self.certificate.payee


class Bench:
    """One card on one reader."""

    def __init__(self, reader: Reader, authority: Authority, card: bytes, entropy: Entropy, now: int) -> None:
        self.reader = reader
        self.authority = authority
        self.suite = authority.suite
        self.other_suite = suite_by_number({INTERNATIONAL: GM, GM: INTERNATIONAL}[self.suite.number])
        self.bundle = authority.bundle
        self.card = card
        self.entropy = entropy
        self.now = now
        self.random = random.Random(7)
        self._link: CardLink | None = None
        self._transaction = 0
        self.selected: m.Selected
        self.certificate: Certificate
        self.card_key: VerifyingKey
        self.agreement_key: bytes
        begin = self.bundle.operator(ACQUIRER).not_before
        self.begin = begin
        self.retail = self.terminal(CLASS_RETAIL, begin)
        self.transit = self.terminal(CLASS_TRANSIT, begin)

    # ------------------------------------------------------------------ the wire

    @property
    def link(self) -> CardLink:
        """The link to the powered card."""
        if self._link is None:
            self._link = self.reader.wait_for_card(CARD_TIMEOUT_S)
        return self._link

    def tear(self) -> None:
        """Cut the card's power; the next command finds it freshly powered."""
        self.link.close(unpower=True)
        self._link = None

    def close(self) -> None:
        """Let the card go; the reader stays open."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def raw(self, command: bytes) -> Response:
        """Send bytes as they are."""
        return Response.from_bytes(self.link.transmit(command))

    def send(
        self, ins: int, data: bytes = b"", p1: int = 0, p2: int = 0, cla: int = m.CLA_WALLET
    ) -> Response:
        """Send one command."""
        return self.raw(Command(cla, ins, p1, p2, data, 256).to_bytes())

    def select(self) -> m.Selected:
        """SELECT, which has to succeed."""
        response = self.send(m.INS_SELECT, m.AID, m.P1_SELECT_BY_NAME, cla=m.CLA_ISO)
        self.selected = m.parse_selected(done(response))
        return self.selected

    # ------------------------------------------------------------------ getting a known start

    def prepare(self, limits: Limits = LIMITS) -> None:
        """Bring the card to a known start: unblocked, all acknowledged, terminals known, balance there.

        What a card never gives back stays: sequence, counters, date floor, a PIN that was set.
        """
        self.select()
        self._meet()
        self.order(m.KIND_UNBLOCK)
        self.limits(limits)
        self.acknowledge()
        missing = BALANCE_FEN - self.state().balance_fen
        if missing > 0:
            self.load(missing)
        elif missing < 0:
            self._spend(-missing, limits)
        self.acknowledge()
        self.select()

    def _spend(self, amount_fen: int, limits: Limits) -> None:
        most = 2**31 - 1
        self.limits(replace(limits, single_fen=most, pin_free_fen=most, offline_total_fen=most))
        self.buy(amount_fen, self.retail)
        self.limits(limits)

    def _meet(self) -> None:
        reply = done(self.send(m.INS_EXCHANGE_CERTIFICATES, p2=1))
        self.certificate, self.agreement_key = parse(reply[:178]), reply[178:]
        self.card_key = self.bundle.check(self.certificate, CARD, self.now)
        for terminal in (self.retail, self.transit):
            self.meet(terminal)

    def meet(self, terminal: Terminal) -> None:
        """Make a terminal known to the card, its operator with it where need be."""
        response = self.exchange(terminal)
        if response.sw == sw.AUTHORITY_UNKNOWN:
            operator = self.bundle.operator(terminal.certificate.authority)
            done(self.send(m.INS_INTRODUCE, operator.to_bytes()))
            response = self.exchange(terminal)
        done(response)

    def exchange(self, terminal: Terminal) -> Response:
        """EXCHANGE CERTIFICATES."""
        return self.send(m.INS_EXCHANGE_CERTIFICATES, terminal.certificate.to_bytes())

    def has_pin(self) -> bool:
        """Whether the card has a PIN."""
        return bool(self.select().state & m.STATE_PIN_SET)

    def want_pin(self) -> None:
        """Give the card the bench's PIN, or trust that it has it; skip when it is locked."""
        if self.select().state & m.STATE_PIN_LOCKED:
            pytest.skip("the card's PIN is locked, for ever")
        if not self.has_pin():
            done(self.change_pin("", PIN))
        self.select()

    def want_no_pin(self) -> None:
        """Skip when the card has a PIN: it can't be taken away."""
        if self.has_pin():
            pytest.skip("the card has a PIN already")

    # ------------------------------------------------------------------ certificates

    def certificate_of(self, kind: int, klass: int, subject: bytes, /, **changes: Any) -> Certificate:
        """An unsigned certificate that is good unless a change says otherwise."""
        authority = ACQUIRER if kind == TERMINAL else ROOT_AUTHORITY
        good = Certificate(
            *(kind, self.suite.number, klass, self.bundle.scheme, authority, subject, CURRENCY_CNY),
            *(self.begin, self.begin + 3 * YEAR_S, bytes(64)),
        )
        return replace(good, **changes)

    def terminal(self, klass: int, begin: int | None = None, **changes: Any) -> Terminal:
        """A new terminal of a new merchant, unless a change says otherwise, its certificate signed."""
        subject = ACQUIRER + self.entropy(4) + self.entropy(4)
        if begin is not None:
            changes = {"not_before": begin, **changes}
        return self.signed_terminal(self.certificate_of(TERMINAL, klass, subject, **changes))

    def signed_terminal(self, certificate: Certificate, signer: SigningKey | None = None) -> Terminal:
        """A terminal with a fresh key, unless the certificate names one."""
        key = self.suite.new_signing_key(self.entropy)
        if not any(certificate.public):
            certificate = replace(certificate, public=key.public)
        made = signed(certificate, signer or self.authority.acquirer)
        return Terminal(made, digest(self.suite, made), key)

    def operator(self, klass: int = CLASS_ACQUIRING, **changes: Any) -> tuple[Certificate, SigningKey]:
        """A new operator under the root, and its key."""
        key = self.suite.new_signing_key(self.entropy)
        number = b"\x77" + self.entropy(3)
        blank = self.certificate_of(OPERATOR, klass, number + bytes(8), **{"public": key.public, **changes})
        return signed(blank, self.authority.root), key

    # ------------------------------------------------------------------ proving and reading

    def prove(self, terminal: Terminal | None = None) -> Response:
        """PROVE with the nonce of the last SELECT."""
        known = terminal or self.retail
        return self.send(m.INS_PROVE, known.digest + known.key.sign(self.proof_body(known)))

    def proof_body(self, terminal: Terminal) -> bytes:
        """What a terminal signs to prove itself."""
        return m.terminal_proof_body(
            self.suite.number, self.bundle.scheme, self.card, self.selected.nonce, terminal.digest
        )

    def state(self) -> m.CardState:
        """SELECT, PROVE, READ STATE: transit count and amount go to 0 by it."""
        self.select()
        done(self.prove())
        return m.parse_card_state(done(self.send(m.INS_READ_STATE)))

    def read(self, sequence: int, p1: int = m.P1_THIS_RECORD) -> Response:
        """READ RECORD."""
        return self.send(m.INS_READ_RECORD, sequence.to_bytes(4, "big"), p1)

    # ------------------------------------------------------------------ paying

    def sale(self, amount_fen: int = 100, terminal: Terminal | None = None) -> m.SaleRequest:
        """A sale that nobody has asked for yet."""
        at = terminal or self.transit
        self._transaction += 1
        return m.SaleRequest(
            self.suite.number,
            at.payee,
            self.entropy(12),
            amount_fen,
            CURRENCY_CNY,
            at.certificate.terminal,
            self._transaction,
            self.entropy(16),
            self.now,
            r.RETAIL if at.certificate.klass == CLASS_RETAIL else r.TRANSIT,
        )

    def again(self, sale: m.SaleRequest) -> m.SaleRequest:
        """The same sale, asked for in another tap."""
        self._transaction += 1
        return replace(sale, transaction=self._transaction, nonce=self.entropy(16), time_s=sale.time_s + 1)

    def pay(
        self, sale: m.SaleRequest | bytes, terminal: Terminal | None = None, pin: bytes = b""
    ) -> Response:
        """PAY in the session as it is; retail when there is a terminal."""
        raw = sale if isinstance(sale, bytes) else sale.to_bytes()
        return self.send(m.INS_PAY, raw if terminal is None else self.retail_data(raw, terminal, pin))

    def retail_data(self, raw: bytes, terminal: Terminal, pin: bytes = b"") -> bytes:
        """The data of a retail PAY."""
        body = m.retail_proof_body(
            self.bundle.scheme, self.card, self.selected.nonce, terminal.digest, raw, pin
        )
        return raw + terminal.digest + pin + terminal.key.sign(body)

    def buy(self, amount_fen: int = 100, terminal: Terminal | None = None, pin: str = "") -> r.Record:
        """SELECT and a payment that has to succeed: at a retail terminal where one is given, else transit."""
        self.select()
        sale = self.sale(amount_fen, terminal)
        block = self.pin_part(sale.to_bytes(), pin) if pin else b""
        return self.paid(self.pay(sale, terminal, block), sale)

    def paid(self, response: Response, sale: m.SaleRequest | bytes) -> r.Record:
        """The record of a fresh payment, rebuilt from the sale and the reply, its signature verified."""
        raw = sale if isinstance(sale, bytes) else sale.to_bytes()
        reply = done(response)
        assert (len(reply), reply[0]) == (81, 1)
        body = b"\xd1" + raw[:3] + self.bundle.scheme + self.card + self.selected.certificate_digest
        record = r.parse(body + reply[1:5] + raw[3:58] + reply[5:17] + b"\x00" + reply[17:])
        self.card_key.verify(record.signature, record.body)
        return record

    def found(self, response: Response, sale: m.SaleRequest) -> tuple[int, r.Record]:
        """Outcome and record of an already paid sale, both signatures verified."""
        reply = done(response)
        assert len(reply) == 225
        record = r.parse(reply[1:161])
        self.card_key.verify(record.signature, record.body)
        proof = (
            b"\xd4\x01"
            + bytes((self.suite.number, 1))
            + self.bundle.scheme
            + self.card
            + self.selected.certificate_digest
            + record.sequence.to_bytes(4, "big")
            + reply[:1]
            + sale.to_bytes()
            + self.suite.hash(record.body)
        )
        self.card_key.verify(reply[161:], proof)
        return reply[0], record

    def ratify(self, record: r.Record) -> Response:
        """RATIFY."""
        return self.send(m.INS_RATIFY, record.sequence.to_bytes(4, "big") + record.tag)

    # ------------------------------------------------------------------ PINs

    def pin_part(
        self, raw: bytes, pin: str, *, nonce: bytes | None = None, field: bytes | None = None
    ) -> bytes:
        """Ephemeral key and PIN block for a sale, 80 bytes; `nonce` and `field` for what is wrong."""
        ephemeral = self.suite.new_agreement_key(self.entropy)
        key = self.suite.hash(b"\xa1" + ephemeral.shared(self.agreement_key) + self.suite.hash(raw))[:16]
        block = (field or m.pin_field(pin)) + (nonce or self.selected.nonce[:8])
        return ephemeral.public + self.suite.encrypt_block(key, block)

    def change_pin(self, old: str, new: str) -> Response:
        """CHANGE PIN."""
        nonce = self.selected.nonce
        return self.send_pin_blocks(m.pin_field(old) + nonce[:8], m.pin_field(new) + nonce[8:])

    def send_pin_blocks(self, old: bytes, new: bytes) -> Response:
        """CHANGE PIN with the two clear blocks given, 16 bytes each."""
        ephemeral: AgreementKey = self.suite.new_agreement_key(self.entropy)
        shared = ephemeral.shared(self.agreement_key)
        key = self.suite.hash(b"\xa2" + shared + self.selected.nonce)[:16]
        blocks = b"".join(self.suite.encrypt_block(key, block) for block in (old, new))
        return self.send(m.INS_CHANGE_PIN, ephemeral.public + blocks)

    # ------------------------------------------------------------------ the issuer

    def sign_order(self, body: bytes) -> bytes:
        """An order with the issuer's signature."""
        return body + self.authority.issuer.sign(body)

    def order_of(
        self, kind: int, value: bytes = b"", number: int | None = None, time_s: int = 0
    ) -> m.CardOrder:
        """A card order for this card, by default the next one; time 0 moves no date floor."""
        wanted = self.state().order_number + 1 if number is None else number
        return m.CardOrder(
            self.suite.number, self.bundle.scheme, ISSUER, self.card, wanted, time_s, kind, value
        )

    def send_order(self, order: m.CardOrder) -> Response:
        """ORDER, signed by the issuer."""
        return self.send(m.INS_ORDER, self.sign_order(order.body()))

    def order(self, kind: int, value: bytes = b"") -> None:
        """The next card order, which has to succeed."""
        done(self.send_order(self.order_of(kind, value)))

    def limits(self, limits: Limits) -> None:
        """Set the card's limits; its tier stays."""
        self.order(m.KIND_LIMITS, limits.to_bytes() + bytes((self.select().tier,)))

    def acknowledge(self, sequence: int | None = None) -> None:
        """Acknowledge everything up to a sequence number, or all, and the whole total with it."""
        state = self.state()
        reached = state.sequence if sequence is None else sequence
        self.order(m.KIND_ACKNOWLEDGE, reached.to_bytes(4, "big") + state.spent_fen.to_bytes(4, "big"))

    def load_order(self, amount_fen: int, **changes: Any) -> m.LoadOrder:
        """A load order for the card's next counter; time 0 moves no date floor."""
        reply = done(self.send(m.INS_LOAD_CHALLENGE))
        counter = int.from_bytes(reply[:4], "big") + 1
        suite, scheme = self.suite.number, self.bundle.scheme
        good = m.LoadOrder(
            suite, scheme, ISSUER, self.card, counter, amount_fen, CURRENCY_CNY, 0, 0, reply[4:], 0
        )
        return replace(good, **changes)

    def send_load(self, order: m.LoadOrder) -> Response:
        """LOAD, signed by the issuer."""
        return self.send(m.INS_LOAD, self.sign_order(order.body()))

    def load(self, amount_fen: int) -> r.Record:
        """A load that has to succeed, and its receipt, verified."""
        self.select()
        return self.receipt(self.send_load(self.load_order(amount_fen)), 1)

    def receipt(self, response: Response, outcome: int) -> r.Record:
        """The receipt in LOAD's reply, its signature verified."""
        reply = done(response)
        assert (len(reply), reply[0]) == (161, outcome)
        record = r.parse(reply[1:])
        assert record.kind == r.LOAD
        self.card_key.verify(record.signature, record.body)
        return record

    # ------------------------------------------------------------------ judging

    def unchanged(self, run: Callable[[], object]) -> None:
        """Run something that must change nothing but the session and the transit allowance."""
        before = self.state()
        run()
        assert self.state() == before


def done(response: Response) -> bytes:
    """The data of a command that has to succeed."""
    assert f"{response.sw:04X}" == "9000"
    return response.data


def refused(response: Response, word: int) -> None:
    """The card has to say no, in this word, and nothing else."""
    assert f"{response.sw:04X}" == f"{word:04X}"
    assert response.data == b""


def flipped(data: bytes, offset: int, bits: int = 1) -> bytes:
    """The bytes with one of them altered."""
    return data[:offset] + bytes((data[offset] ^ bits,)) + data[offset + 1 :]
