"""The terminal's side of a card session: one method a command, every reply checked before it is believed.

Link errors (`firmware_bridge.errors`) pass through: after PAY they mean that nobody knows what the card did.
Everything else is a WalletError. Nothing here knows what a sale is for; `pos_terminal.tap` does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_bridge.apdu import Command, Response
from firmware_bridge.link import CardLink
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.certificates import (
    CARD,
    CARD_CERTIFICATE_LENGTH,
    CLASS_ISSUING,
    Certificate,
    TrustBundle,
    agreement_digest,
    digest,
    parse,
)
from hardwallet.errors import (
    CardMisbehaved,
    CardRefused,
    CertificateRefused,
    Malformed,
    NotAWallet,
    SignatureInvalid,
)
from hardwallet.suites import (
    SIGNATURE_LENGTH,
    AgreementKey,
    Entropy,
    SigningKey,
    Suite,
    VerifyingKey,
    suite_name,
)

SELECT_COMMAND: Final = Command(m.CLA_ISO, m.INS_SELECT, m.P1_SELECT_BY_NAME, 0, m.AID, 256).to_bytes()
_OPERATOR_UNKNOWN: Final = {sw.AUTHORITY_UNKNOWN, sw.SIGNATURE_WRONG, sw.CERTIFICATE_EXPIRED}
"""What a card answers when it does not know an operator's newest certificate."""
_OK: Final = sw.OK.to_bytes(2, "big")
COMMAND_NAMES: Final = {
    m.INS_SELECT: "SELECT",
    m.INS_EXCHANGE_CERTIFICATES: "EXCHANGE CERTIFICATES",
    m.INS_INTRODUCE: "INTRODUCE",
    m.INS_PROVE: "PROVE",
    m.INS_INTERNAL_AUTHENTICATE: "INTERNAL AUTHENTICATE",
    m.INS_PAY: "PAY",
    m.INS_RATIFY: "RATIFY",
    m.INS_CHANGE_PIN: "CHANGE PIN",
    m.INS_REFUND: "REFUND",
    m.INS_READ_RECORD: "READ RECORD",
    m.INS_READ_STATE: "READ STATE",
    m.INS_LOAD_CHALLENGE: "LOAD CHALLENGE",
    m.INS_LOAD: "LOAD",
    m.INS_ORDER: "ORDER",
}


@dataclass(frozen=True, slots=True)
class KnownCard:
    """A card whose certificate was verified: the certificate, its key ready to use, its agreement key or
    empty."""

    certificate: Certificate
    key: VerifyingKey
    agreement_key: bytes = b""


@dataclass(frozen=True, slots=True)
class TerminalIdentity:
    """A terminal's certificate and the digest (8 bytes) that names it, with its signing key."""

    certificate: Certificate
    digest: bytes
    key: SigningKey


@dataclass(frozen=True, slots=True)
class PayOutcome:
    """What PAY brought: `outcome` is PAID or one of the ALREADY_PAID values; the record is verified."""

    outcome: int
    record: r.Record

    @property
    def fresh(self) -> bool:
        """Whether this PAY debited the card."""
        return self.outcome == m.PAID


class WalletSession:
    """One card in the field, from SELECT to its leaving.

    Every method raises BridgeError when the card or the reader fails, and CardMisbehaved when a reply is not
    one that a card of this protocol gives.
    """

    def __init__(self, link: CardLink, suite: Suite) -> None:
        self._link = link
        self._suite = suite
        self._selected: m.Selected | None = None

    @property
    def selected(self) -> m.Selected:
        """SELECT's answer. Raises NotAWallet before there is one."""
        if self._selected is None:
            raise NotAWallet("the card was not selected yet")
        return self._selected

    # ------------------------------------------------------------------ finding out who is there

    def select(self) -> m.Selected:
        """SELECT. Raises NotAWallet for a card without this application, suite or version."""
        response = Response.from_bytes(self._link.transmit(SELECT_COMMAND))
        if response.sw != sw.OK:
            raise NotAWallet(f"this card holds no hardwallet ({response.sw:04X}); try another card")
        selected = m.parse_selected(response.data)
        if selected.suite != self._suite.number:
            raise NotAWallet(
                f"the card speaks suite {suite_name(selected.suite)}, this terminal "
                f"{suite_name(self._suite.number)}: it pays at terminals of its own scheme only"
            )
        self._selected = selected
        return selected

    def exchange_certificates(
        self, trust: TrustBundle, now: int, terminal: Certificate | None = None, *, agreement: bool = False
    ) -> KnownCard:
        """Give the terminal's certificate, where wanted, and take the card's, verified against `trust` at
        `now` (seconds since 1970).

        Introduces the terminal's operator when the card does not know it, or not its newest certificate.
        `agreement` asks for the agreement key too.
        Raises CertificateRefused, CardMisbehaved, CardRefused.
        """
        data = terminal.to_bytes() if terminal else b""
        p2 = m.P2_WITH_AGREEMENT_KEY if agreement else 0
        if terminal is None:
            reply = self._call(m.INS_EXCHANGE_CERTIFICATES, data, p2=p2)
        else:
            own = terminal
            reply = self._introducing(
                lambda: self._call(m.INS_EXCHANGE_CERTIFICATES, data, p2=p2), lambda: trust.authority_of(own)
            )
        if len(reply) != m.CERTIFICATES_REPLY_LENGTHS[p2]:
            raise CardMisbehaved(f"the card's certificate has {len(reply)} bytes")
        return self.know(trust, now, reply[:CARD_CERTIFICATE_LENGTH], reply[CARD_CERTIFICATE_LENGTH:])

    def introduce(self, operator: Certificate) -> None:
        """Show the card an operator's certificate that it does not know yet. Raises CardRefused."""
        self._call(m.INS_INTRODUCE, operator.to_bytes(), wants=False)

    def _introducing(self, call: Callable[[], bytes], operator: Callable[[], Certificate]) -> bytes:
        """Call; where the card does not know the operator's certificate behind it, show it that one and call
        again. When the card won't take that one, its first answer counts."""
        try:
            return call()
        except CardRefused as refusal:
            if refusal.sw not in _OPERATOR_UNKNOWN:
                raise
            try:
                self.introduce(operator())
            except (CertificateRefused, SignatureInvalid):
                raise refusal from None
            except CardRefused as refused_too:
                raise (refused_too if refusal.sw == sw.AUTHORITY_UNKNOWN else refusal) from None
        return call()

    def know(self, trust: TrustBundle, now: int, raw: bytes, agreement_key: bytes) -> KnownCard:
        """Verify a card certificate (178 bytes) as that of the selected card. Raises CertificateRefused,
        CardMisbehaved."""
        selected = self.selected
        try:
            certificate = parse(raw)
            if digest(self._suite, certificate) != selected.certificate_digest:
                raise CardMisbehaved(
                    "the card's certificate is not the one that it named when it was selected"
                )
            if certificate.card != selected.card:
                raise CertificateRefused("the card's certificate names another card")
            key = trust.check(certificate, CARD, now)
        except Malformed as error:
            raise CardMisbehaved(f"the card's certificate is malformed: {error}") from None
        if agreement_key and agreement_digest(self._suite, agreement_key) != certificate.agreement_digest:
            raise CardMisbehaved("the card's agreement key is not the one in its certificate")
        return KnownCard(certificate, key, agreement_key)

    def prove(self, terminal: TerminalIdentity) -> None:
        """Prove that this is the terminal of its certificate. Raises CardRefused (9412: present it first)."""
        selected = self.selected
        body = m.terminal_proof_body(
            self._suite.number, selected.scheme, selected.card, selected.nonce, terminal.digest
        )
        self._call(m.INS_PROVE, terminal.digest + terminal.key.sign(body), wants=False)

    def authenticate(self, card: KnownCard, challenge: bytes) -> None:
        """INTERNAL AUTHENTICATE: the card proves by a fresh signature over `challenge` (16 bytes) that it is
        the card of its certificate, in the state that SELECT told. Nothing is debited.

        Raises CardRefused (6D00: a card from before there was this command), CardMisbehaved for a copy.
        """
        selected = self.selected
        reply = self._call(m.INS_INTERNAL_AUTHENTICATE, challenge)
        body = m.card_proof_body(
            self._suite.number,
            selected.state,
            card.certificate.scheme,
            card.certificate.card,
            selected.certificate_digest,
            selected.nonce,
            challenge,
        )
        try:
            if len(reply) != SIGNATURE_LENGTH:
                raise CardMisbehaved("the card's reply to INTERNAL AUTHENTICATE is malformed")
            card.key.verify(reply, body)
        except SignatureInvalid:
            raise CardMisbehaved(
                "the card shows a certificate but can't prove that it is its own: this may be a copy"
            ) from None

    # ------------------------------------------------------------------ paying

    def pay(
        self,
        request: m.SaleRequest,
        card: KnownCard,
        terminal: TerminalIdentity | None = None,
        pin: str = "",
        entropy: Entropy | None = None,
    ) -> PayOutcome:
        """PAY: transit without `terminal`, retail with it; a PIN needs `entropy` and the card's agreement
        key.

        The record is verified under the card's certified key before it is returned.
        Raises CardRefused with the card's reason, CardMisbehaved for a reply that proves nothing.
        """
        sale = request.to_bytes()
        data = sale
        if terminal is not None:
            data = self._retail(sale, card, terminal, self._pin(sale, card, pin, entropy) if pin else b"")
        reply = self._call(m.INS_PAY, data)
        if len(reply) == m.PAID_REPLY_LENGTH and reply[0] == m.PAID:
            return PayOutcome(m.PAID, self._paid_record(sale, card, reply))
        if len(reply) == m.ALREADY_PAID_REPLY_LENGTH and reply[0] in (
            m.ALREADY_PAID_UNRATIFIED,
            m.ALREADY_PAID_RATIFIED,
        ):
            return PayOutcome(reply[0], self._stored_record(sale, card, reply))
        raise CardMisbehaved(f"the card's reply to PAY has {len(reply)} bytes and proves nothing")

    def _retail(self, sale: bytes, card: KnownCard, terminal: TerminalIdentity, pin: bytes) -> bytes:
        selected = self.selected
        body = m.retail_proof_body(
            selected.scheme, card.certificate.card, selected.nonce, terminal.digest, sale, pin
        )
        return sale + terminal.digest + pin + terminal.key.sign(body)

    def _pin(self, sale: bytes, card: KnownCard, pin: str, entropy: Entropy | None) -> bytes:
        if entropy is None or not card.agreement_key:
            raise CardMisbehaved("a PIN needs the card's agreement key; present the card again")
        ephemeral = self._suite.new_agreement_key(entropy)
        key = self._suite.hash(b"\xa1" + self._secret(ephemeral, card) + self._suite.hash(sale))[:16]
        block = m.pin_field(pin) + self.selected.nonce[:8]
        return ephemeral.public + self._suite.encrypt_block(key, block)

    def _secret(self, ephemeral: AgreementKey, card: KnownCard) -> bytes:
        try:
            return ephemeral.shared(card.agreement_key)
        except Malformed as error:
            raise CardMisbehaved(f"the card's agreement key can't be used: {error}") from None

    def _paid_record(self, sale: bytes, card: KnownCard, reply: bytes) -> r.Record:
        selected = self.selected
        sequence = int.from_bytes(reply[1:5], "big")
        head = m.payment_head(selected.scheme, selected.card, selected.certificate_digest, sequence, sale)
        return self._verified(head + reply[5:17] + b"\x00" + reply[17:], card)

    def _stored_record(self, sale: bytes, card: KnownCard, reply: bytes) -> r.Record:
        outcome, raw, proof = reply[0], reply[1:161], reply[161:]
        record = self._verified(raw, card)
        if record.kind != r.PAYMENT or record.body[28:54] != sale[3:29]:
            raise CardMisbehaved("the card says that it paid, but shows the record of another sale")
        selected = self.selected
        body = m.already_paid_body(
            selected.scheme,
            selected.card,
            selected.certificate_digest,
            record.sequence,
            outcome,
            sale,
            self._suite.hash(record.body),
        )
        try:
            card.key.verify(proof, body)
        except SignatureInvalid:
            raise CardMisbehaved(
                "the card shows a payment but can't prove that it made it: this may be a copy"
            ) from None
        return record

    def _verified(self, raw: bytes, card: KnownCard) -> r.Record:
        try:
            record = r.parse(raw)
            card.key.verify(record.signature, record.body)
        except Malformed as error:
            raise CardMisbehaved(f"the card's record is malformed: {error}") from None
        except SignatureInvalid:
            raise CardMisbehaved("the card's signature does not verify") from None
        selected, certificate = self.selected, card.certificate
        if (record.scheme, record.card, record.certificate_digest, record.suite) != (
            certificate.scheme,
            certificate.card,
            selected.certificate_digest,
            selected.suite,
        ):
            raise CardMisbehaved("the card's record belongs to another card")
        return record

    def ratify(self, record: r.Record) -> bool:
        """Tell the card that its record is held durably; whether it was unratified until now. Raises
        CardRefused."""
        reply = self._call(m.INS_RATIFY, record.sequence.to_bytes(4, "big") + record.tag)
        if reply not in (b"\x00", b"\x01"):
            raise CardMisbehaved("the card's reply to RATIFY is malformed")
        return reply == b"\x01"

    # ------------------------------------------------------------------ reading

    def read_record(self, sequence: int, card: KnownCard) -> tuple[r.Record, bool]:
        """One record, verified, and whether it is unratified. Raises CardRefused (9413: there is none)."""
        return self._read(sequence, card, m.P1_THIS_RECORD)

    def next_unratified(self, above: int, card: KnownCard) -> r.Record | None:
        """The first unratified record above a sequence number, verified; None when there is none."""
        try:
            record, unratified = self._read(above, card, m.P1_NEXT_UNRATIFIED)
        except CardRefused as refusal:
            if refusal.sw == sw.NO_SUCH_RECORD:
                return None
            raise
        if record.sequence <= above or not unratified:
            raise CardMisbehaved("the card shows a record that was not asked for")
        return record

    def _read(self, sequence: int, card: KnownCard, p1: int) -> tuple[r.Record, bool]:
        reply = self._call(m.INS_READ_RECORD, sequence.to_bytes(4, "big"), p1=p1)
        if len(reply) != r.RECORD_LENGTH + 1 or reply[-1] > 1:
            raise CardMisbehaved("the card's reply to READ RECORD is malformed")
        record = self._verified(reply[:-1], card)
        if p1 == m.P1_THIS_RECORD and record.sequence != sequence:
            raise CardMisbehaved("the card shows a record that was not asked for")
        return record, reply[-1] == 1

    def read_state(self) -> m.CardState:
        """Balance, counters and limits. Raises CardRefused (6982: prove first)."""
        return m.parse_card_state(self._call(m.INS_READ_STATE, b""))

    def refunded_total_fen(self, sequence: int) -> int:
        """What the card says was refunded of a payment so far. Raises CardRefused (9413, 6982)."""
        reply = self._call(m.INS_READ_RECORD, sequence.to_bytes(4, "big"), p1=m.P1_REFUNDED_TOTAL)
        if len(reply) != 4:
            raise CardMisbehaved("the card's reply to READ RECORD is malformed")
        return int.from_bytes(reply, "big")

    def refund(self, request: m.RefundRequest, card: KnownCard, terminal: TerminalIdentity) -> PayOutcome:
        """REFUND up to a total; the receipt, verified, also when the same total was reached before.

        Raises CardRefused (9418: above what is left; 9413: the payment is no longer on the card),
        CardMisbehaved.
        """
        selected, raw = self.selected, request.to_bytes()
        body = m.refund_order_body(
            self._suite.number, selected.scheme, selected.card, selected.nonce, terminal.digest, raw
        )
        reply = self._call(m.INS_REFUND, raw + terminal.digest + terminal.key.sign(body))
        if len(reply) != 1 + r.RECORD_LENGTH or reply[0] not in (m.PAID, m.ALREADY_PAID_UNRATIFIED):
            raise CardMisbehaved("the card's reply to REFUND is malformed")
        record = self._verified(reply[1:], card)
        certificate = terminal.certificate
        fits = (
            record.kind == r.REFUND
            and record.payee == certificate.payee
            and r.refunded_payment(record) == request.sequence
            and r.refunded_total_fen(record) == request.total_fen
        )
        if not fits or (reply[0] == m.PAID and record.nonce != request.nonce):
            raise CardMisbehaved("the card's receipt belongs to another refund")
        return PayOutcome(reply[0], record)

    # ------------------------------------------------------------------ for the holder and the issuer

    def change_pin(self, old: str, new: str, card: KnownCard, entropy: Entropy) -> None:
        """Set the PIN of a card that has none (`old` empty), or change it. Raises CardRefused (63Cx,
        6983)."""
        ephemeral = self._suite.new_agreement_key(entropy)
        nonce = self.selected.nonce
        key = self._suite.hash(b"\xa2" + self._secret(ephemeral, card) + nonce)[:16]
        blocks = [m.pin_field(old) + nonce[:8], m.pin_field(new) + nonce[8:]]
        data = ephemeral.public + b"".join(self._suite.encrypt_block(key, block) for block in blocks)
        self._call(m.INS_CHANGE_PIN, data, wants=False)

    def load_challenge(self) -> tuple[int, bytes]:
        """The last load counter, and the challenge (16 bytes) for the next."""
        reply = self._call(m.INS_LOAD_CHALLENGE, b"")
        if len(reply) != m.CHALLENGE_REPLY_LENGTH:
            raise CardMisbehaved("the card's load challenge is malformed")
        return int.from_bytes(reply[:4], "big"), reply[4:]

    def load(self, order: bytes, card: KnownCard, trust: TrustBundle | None = None) -> r.Record:
        """Send a signed load order (122 bytes); its receipt, verified, also when it was applied before.

        With `trust`, a card that does not know the key behind it is shown the issuer's certificate first. The
        receipt's amount is what the card applied: 0 when the counter was cancelled. Raises CardRefused.
        """
        reply = self._from_issuer(m.INS_LOAD, order, trust)
        if len(reply) != 1 + r.RECORD_LENGTH or reply[0] not in (1, 2):
            raise CardMisbehaved("the card's reply to LOAD is malformed")
        record = self._verified(reply[1:], card)
        wanted = m.parse_load_order(order)
        if (
            record.kind != r.LOAD
            or r.load_counter(record) != wanted.counter
            or record.nonce != wanted.challenge
        ):
            raise CardMisbehaved("the card's receipt belongs to another load")
        if reply[0] == 1 and record.amount_fen != wanted.amount_fen:
            raise CardMisbehaved("the card's receipt names another amount than the order")
        return record

    def order(self, order: bytes, trust: TrustBundle | None = None) -> None:
        """Send a signed card order (125 bytes). With `trust`, a card that does not know the key behind it is
        shown the issuer's certificate first. Raises CardRefused."""
        self._from_issuer(m.INS_ORDER, order, trust)

    def _from_issuer(self, ins: int, order: bytes, trust: TrustBundle | None) -> bytes:
        wants = ins == m.INS_LOAD
        if trust is None:
            return self._call(ins, order, wants=wants)
        return self._introducing(
            lambda: self._call(ins, order, wants=wants), lambda: _signer_of(order, trust)
        )

    # ------------------------------------------------------------------ the wire

    def _call(self, ins: int, data: bytes, *, p1: int = 0, p2: int = 0, wants: bool = True) -> bytes:
        command = Command(m.CLA_WALLET, ins, p1, p2, data, 256 if wants else None)
        reply = self._link.transmit(command.to_bytes())
        if reply[-2:] == _OK:
            return reply[:-2]
        raise CardRefused(Response.from_bytes(reply).sw, COMMAND_NAMES[ins])


def _signer_of(order: bytes, trust: TrustBundle) -> Certificate:
    """The issuer's certificate whose key signed a load order or card order, which both name their issuer and
    scheme alike. Raises CertificateRefused, SignatureInvalid."""
    body, signature = order[:-SIGNATURE_LENGTH], order[-SIGNATURE_LENGTH:]
    order_time = m.parse_load_order if order[0] == m.LOAD_ORDER else m.parse_card_order
    time_s, issuer = order_time(order).time_s, order[8:12]
    return trust.verify_signed(issuer, CLASS_ISSUING, body, signature, time_s, since=True)
