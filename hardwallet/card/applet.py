"""The reference card: every rule of docs/protocol.md, in the order in which the page gives them.

Written so that it can be rebuilt in Java Card 3.0.4: the same memory, the same commits, nothing that needs
more. Whatever bytes
come in, a status word goes out; nothing changes unless the answer says so.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from firmware_bridge.air_time import Operation, OperationKind
from firmware_bridge.apdu import Command
from firmware_bridge.errors import MalformedApdu
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.card.identity import CardIdentity
from hardwallet.card.memory import (
    FLAG_BLOCKED,
    FLAG_PIN_SET,
    MAX_TRIES,
    OPERATOR_PLACES,
    STATE_LENGTH,
    TERMINAL_PLACES,
    CardMemory,
    State,
)
from hardwallet.certificates import (
    APPLICATION,
    CERTIFICATE_LENGTH,
    CLASS_BESIDE,
    CLASS_ISSUING,
    CLASS_RETAIL,
    CLASS_TRANSIT,
    OPERATOR,
    TERMINAL,
    VERSION,
    Certificate,
    check_authority,
    check_shape,
    digest,
    parse,
    parse_body,
)
from hardwallet.errors import CertificateRefused, Malformed, SignatureInvalid
from hardwallet.limits import JOURNAL_ENTRIES, MAX_UNRATIFIED, parse_limits
from hardwallet.suites import Entropy, VerifyingKey

Meter = Callable[[Operation], None]
"""Told what the card computes and writes, for the model of a real card's time."""

_SIGN: Final = OperationKind.SIGN
_SIGN_INIT: Final = OperationKind.SIGN_INIT
_VERIFY: Final = OperationKind.VERIFY
_ECDH: Final = OperationKind.ECDH
_AES: Final = OperationKind.AES
_AES_KEY_CHANGE: Final = OperationKind.AES_KEY_CHANGE
_SHA256: Final = OperationKind.SHA256
_NVM_WRITE: Final = OperationKind.NVM_WRITE
_HISTORICAL: Final = b"HARDWALLET"
_MAX_COUNTER: Final = 0xFFFFFFFF


def _contactless_atr(historical: bytes) -> bytes:
    """The ATR that PC/SC part 3 (3.1.3.2.3.1) makes for an ISO/IEC 14443-4 card with these historical
    bytes."""
    body = bytes((0x80 | len(historical), 0x80, 0x01)) + historical
    check = 0
    for byte in body:
        check ^= byte
    return b"\x3b" + body + bytes((check,))


ATR: Final = _contactless_atr(_HISTORICAL)


class Refused(Exception):
    """A rule said no: the status word to answer with."""

    def __init__(self, word: int) -> None:
        super().__init__(f"{word:04X}")
        self.word = word


class Session:
    """What a card knows from SELECT to the next SELECT or loss of power. All of it is transient."""

    __slots__ = ("nonce", "proved", "spent")

    def __init__(self, nonce: bytes) -> None:
        self.nonce = nonce
        self.proved = False
        self.spent = False  # a payment was committed, or a PIN tried: the nonce has served


class Card:
    """The card application behind `execute`; it is a `firmware_bridge.link.VirtualCard`. Its ATR has 15
    bytes."""

    atr: bytes = ATR

    def __init__(
        self, identity: CardIdentity, memory: CardMemory, entropy: Entropy, meter: Meter | None = None
    ) -> None:
        self._identity = identity
        self._suite = identity.suite
        self._memory = memory
        self._entropy = entropy
        self._meter = meter
        self._own_digest = digest(identity.suite, identity.certificate)
        self._root_key = identity.suite.verifying_key(identity.root.public)
        self._keys: dict[bytes, VerifyingKey] = {}
        self._session: Session | None = None
        self._state = memory.state()
        self._commands: dict[
            int, tuple[tuple[int, ...], tuple[int, ...], Callable[[Command, Session], bytes]]
        ] = {
            m.INS_EXCHANGE_CERTIFICATES: ((0,), (0, 1), self._exchange_certificates),
            m.INS_INTRODUCE: ((0,), (0,), self._introduce),
            m.INS_PROVE: ((0,), (0,), self._prove),
            m.INS_INTERNAL_AUTHENTICATE: ((0,), (0,), self._authenticate),
            m.INS_PAY: ((0,), (0,), self._pay),
            m.INS_RATIFY: ((0,), (0,), self._ratify),
            m.INS_CHANGE_PIN: ((0,), (0,), self._change_pin),
            m.INS_REFUND: ((0,), (0,), self._refund),
            m.INS_READ_RECORD: ((0, 1, 2), (0,), self._read_record),
            m.INS_READ_STATE: ((0,), (0,), self._read_state),
            m.INS_LOAD_CHALLENGE: ((0,), (0,), self._load_challenge),
            m.INS_LOAD: ((0,), (0,), self._load),
            m.INS_ORDER: ((0,), (0,), self._order),
        }

    @property
    def number(self) -> bytes:
        """The card's number, 8 bytes."""
        return self._identity.card

    # ------------------------------------------------------------------ power and dispatch

    def power_on(self) -> None:
        """The field is there: transient memory is fresh, the committed state counts."""
        self._session = None
        self._state = self._memory.state()

    def power_off(self) -> None:
        """The field is gone."""
        self._session = None

    def reset(self) -> None:
        """Power off and on."""
        self.power_off()
        self.power_on()

    def execute(self, command: bytes) -> bytes:
        """Any bytes in, an R-APDU out: at most 242 bytes and the status word."""
        if len(command) > 5 and command[4] == 0:  # extended length
            return sw.WRONG_LENGTH.to_bytes(2, "big")
        try:
            reply = self._dispatch(Command.from_bytes(command))
        except MalformedApdu:
            return sw.WRONG_LENGTH.to_bytes(2, "big")
        except Refused as refusal:
            return refusal.word.to_bytes(2, "big")
        except OSError:
            self._state = self._memory.state()
            return sw.MEMORY_FAILURE.to_bytes(2, "big")
        return reply + b"\x90\x00"

    def _dispatch(self, command: Command) -> bytes:
        if command.cla == m.CLA_ISO and command.ins == m.INS_SELECT:
            return self._select(command)
        if command.cla != m.CLA_WALLET:
            raise Refused(sw.UNKNOWN_CLA)
        known = self._commands.get(command.ins)
        if known is None:
            raise Refused(sw.UNKNOWN_INS)
        p1, p2, run = known
        if command.p1 not in p1 or command.p2 not in p2:
            raise Refused(sw.WRONG_P1P2)
        if self._session is None:
            raise Refused(sw.SELECT_FIRST)
        return run(command, self._session)

    def _select(self, command: Command) -> bytes:
        if command.p1 != m.P1_SELECT_BY_NAME or command.p2 != 0:
            raise Refused(sw.WRONG_P1P2)
        self._session = None  # another application's name deselects this one
        if command.data != m.AID:
            raise Refused(sw.NO_APPLICATION)
        self._session = Session(self._entropy(m.NONCE_LENGTH))
        return m.Selected(
            VERSION,
            self._suite.number,
            APPLICATION,
            self._flags(),
            len(self._state.unratified),
            self._state.tier,
            self._identity.scheme,
            self._identity.card,
            self._own_digest,
            self._identity.certificate.currency,
            self._session.nonce,
        ).to_bytes()

    def _flags(self) -> int:
        flags = m.STATE_BLOCKED if self._state.flags & FLAG_BLOCKED else 0
        if self._state.flags & FLAG_PIN_SET:
            flags |= m.STATE_PIN_SET
            if self._memory.tries() == 0:
                flags |= m.STATE_PIN_LOCKED
        return flags

    # ------------------------------------------------------------------ the terminal proves itself

    def _exchange_certificates(self, command: Command, _session: Session) -> bytes:
        if command.data:
            _want_length(command.data, CERTIFICATE_LENGTH)
            self._keep_terminal(self._checked(command.data, TERMINAL))
        reply = self._identity.certificate.to_bytes()
        return reply + self._identity.agreement.public if command.p2 & m.P2_WITH_AGREEMENT_KEY else reply

    def _introduce(self, command: Command, _session: Session) -> bytes:
        _want_length(command.data, CERTIFICATE_LENGTH)
        self._keep_operator(self._checked(command.data, OPERATOR))
        return b""

    def _checked(self, raw: bytes, kind: int) -> Certificate:
        """A certificate that this card may trust (section 3); raises the date floor to its start."""
        try:
            certificate = parse(raw)
        except Malformed:
            raise Refused(sw.MALFORMED) from None
        if certificate.kind != kind:
            raise Refused(sw.WRONG_CLASS)
        if certificate.scheme != self._identity.scheme:
            raise Refused(sw.NOT_FOR_THIS_CARD)
        try:
            check_shape(
                certificate, self._suite.number, self._identity.scheme, self._identity.certificate.currency
            )
            if kind == OPERATOR:
                keys = [self._root_key]
            else:
                operators = self._operators(certificate.authority)
                check_authority(certificate, operators[0])
                keys = [self._key(operator.public) for operator in operators]
        except CertificateRefused:
            raise Refused(sw.WRONG_CLASS) from None
        if certificate.not_after < self._state.date_floor:
            raise Refused(sw.CERTIFICATE_EXPIRED)
        self._verify_any(keys, certificate.signature, certificate.body())
        try:
            self._key(certificate.public)
        except Malformed:
            raise Refused(sw.MALFORMED) from None
        return certificate

    def _operators(self, number: bytes) -> list[Certificate]:
        """The certificates of an operator that count, newest first: one, or two while its key is rotated."""
        known = [operator for _, operator in self._places_of(number)]
        if not known:
            raise Refused(sw.AUTHORITY_UNKNOWN)
        good = [operator for operator in known if operator.not_after >= self._state.date_floor]
        if not good:
            raise Refused(sw.CERTIFICATE_EXPIRED)
        return good

    def _places_of(self, number: bytes) -> list[tuple[int, Certificate]]:
        """The places with an operator's certificates, and those, newest first."""
        places = [p for p in range(OPERATOR_PLACES) if self._state.operators_valid >> p & 1]
        known = [(place, parse_body(self._memory.operator(place))) for place in places]
        own = [(place, operator) for place, operator in known if operator.operator == number]
        return sorted(own, key=lambda one: one[1].not_before, reverse=True)

    def _keep_operator(self, certificate: Certificate) -> None:
        body = certificate.body()
        state = self._state
        same = [
            p
            for p in range(OPERATOR_PLACES)
            if state.operators_valid >> p & 1 and self._memory.operator(p) == body
        ]
        if not same:
            known = self._places_of(certificate.operator)
            if known and known[0][1].not_before >= certificate.not_before:
                raise Refused(sw.ORDER_TOO_OLD)
            beside = bool(known) and bool(certificate.klass & CLASS_BESIDE)
            kept = known[0][0] if beside else None
            dropped = [place for place, _ in known if place != kept]
            place, following = self._place_for(certificate.operator, dropped, kept)
            left = state.operators_valid & ~(1 << place)
            for forgotten in dropped:
                left &= ~(1 << forgotten)
            self._commit(state.changed(operators_valid=left))
            self._memory.write_operator(place, body)
            self._measure(_NVM_WRITE, len(body))
            state = self._state.changed(
                operators_valid=self._state.operators_valid | 1 << place,
                operators_next=following,
            )
        self._raise_floor(state, certificate.not_before)

    def _place_for(self, operator: bytes, dropped: list[int], kept: int | None) -> tuple[int, int]:
        """Where an operator's new certificate goes, and the place whose turn is next: over one that it takes
        the place of, never over the one that it stands beside. The issuer's place is its own."""
        turn = self._state.operators_next
        if operator == self._identity.issuer and kept != 0:
            return 0, turn
        if dropped:
            return min(dropped), turn
        if turn == kept:
            turn = turn % (OPERATOR_PLACES - 1) + 1
        return turn, turn % (OPERATOR_PLACES - 1) + 1

    def _keep_terminal(self, certificate: Certificate) -> None:
        body = certificate.body()
        state = self._state
        same = [
            p
            for p in range(TERMINAL_PLACES)
            if state.terminals_valid >> p & 1 and self._memory.terminal(p) == body
        ]
        if not same:
            place = state.terminals_next
            self._commit(state.changed(terminals_valid=state.terminals_valid & ~(1 << place)))
            self._memory.write_terminal(place, body)
            self._measure(_NVM_WRITE, len(body))
            state = self._state.changed(
                terminals_valid=self._state.terminals_valid | 1 << place,
                terminals_next=(place + 1) % TERMINAL_PLACES,
            )
        self._raise_floor(state, certificate.not_before)

    def _raise_floor(self, state: State, begin: int) -> None:
        raised = state.changed(date_floor=max(state.date_floor, begin))
        if raised != self._state:
            self._commit(raised)

    def _terminal(self, named: bytes) -> Certificate:
        """The verified terminal whose certificate digest (8 bytes) is `named`."""
        for place in range(TERMINAL_PLACES):
            if self._state.terminals_valid >> place & 1:
                body = self._memory.terminal(place)
                if self._suite.hash(body)[: m.DIGEST_LENGTH] == named:
                    return parse_body(body)
        raise Refused(sw.CERTIFICATE_UNKNOWN)

    def _prove(self, command: Command, session: Session) -> bytes:
        _want_length(command.data, m.PROVE_LENGTH)
        named, signature = command.data[:8], command.data[8:]
        terminal = self._terminal(named)
        if terminal.not_after < self._state.date_floor:
            raise Refused(sw.CERTIFICATE_EXPIRED)
        self._verify(
            self._key(terminal.public),
            signature,
            m.terminal_proof_body(
                self._suite.number, self._identity.scheme, self._identity.card, session.nonce, named
            ),
        )
        session.proved = True
        if self._state.transit_count or self._state.transit_amount_fen:
            self._commit(self._state.changed(transit_count=0, transit_amount_fen=0))
        return b""

    def _authenticate(self, command: Command, session: Session) -> bytes:
        """The card proves itself: nothing changes, nothing is paid."""
        _want_length(command.data, m.NONCE_LENGTH)
        return self._sign(
            m.card_proof_body(
                self._suite.number,
                self._flags(),
                self._identity.scheme,
                self._identity.card,
                self._own_digest,
                session.nonce,
                command.data,
            )
        )

    # ------------------------------------------------------------------ PAY (section 9, in its order)

    def _pay(self, command: Command, session: Session) -> bytes:
        if session.spent:
            raise Refused(sw.SELECT_FIRST)
        raw, retail, pin = _split_pay(command.data)
        sale = m.parse_sale(raw)
        if (sale.version, sale.suite, sale.application) != (VERSION, self._suite.number, APPLICATION):
            raise Refused(sw.WRONG_VERSION)
        if sale.profile != (r.RETAIL if retail else r.TRANSIT):
            raise Refused(sw.MALFORMED)
        if not m.is_amount(sale.amount_fen):
            raise Refused(sw.AMOUNT_INVALID)
        if sale.currency != self._identity.certificate.currency:
            raise Refused(sw.WRONG_CURRENCY)
        state = self._state
        if retail:
            self._check_retail(session, sale, raw, retail, pin)
            session.proved = True
        paid = self._find_payment(raw)
        if paid is not None:
            return self._already_paid(raw, paid)
        if state.flags & FLAG_BLOCKED:
            raise Refused(sw.BLOCKED)
        if not retail:
            self._want_transit_allowance(state, sale)
        self._check_limits(state, sale.amount_fen)
        cvm = self._check_pin(session, sale.amount_fen, raw, pin)
        return self._commit_payment(session, state, sale, raw, cvm)

    def _check_retail(self, session: Session, sale: m.Sale, raw: bytes, retail: bytes, pin: bytes) -> None:
        named, signature = retail[:8], retail[8:]
        terminal = self._terminal(named)
        if terminal.klass != CLASS_RETAIL:
            raise Refused(sw.WRONG_CLASS)
        if (terminal.payee, terminal.terminal) != (sale.payee, sale.terminal):
            raise Refused(sw.WRONG_CLASS)
        if terminal.not_after < self._state.date_floor:
            raise Refused(sw.CERTIFICATE_EXPIRED)
        body = m.retail_proof_body(self._identity.scheme, self._identity.card, session.nonce, named, raw, pin)
        self._verify(self._key(terminal.public), signature, body)

    def _find_payment(self, raw: bytes) -> tuple[int, bytes] | None:
        """Index and record of the payment with this sale's payee, reference, amount and currency."""
        for index in self._memory.find_sale(raw[3:29]):
            record = self._live_entry(index)
            if record is not None and record[0] == r.PAYMENT:
                return index, record
        return None

    def _live_entry(self, index: int) -> bytes | None:
        """The record at an index, when it is the committed one that belongs there.

        The place that the next record goes to may hold a torn write, unless what lies there still waits to be
        acknowledged.
        """
        record = self._memory.entry(index)
        sequence = int.from_bytes(record[24:28], "big")
        oldest = self._state.sequence - JOURNAL_ENTRIES + 1
        if (
            not max(oldest, 1) <= sequence <= self._state.sequence
            or (sequence - 1) % JOURNAL_ENTRIES != index
        ):
            return None
        return None if sequence == oldest and sequence <= self._state.acknowledged_sequence else record

    def _already_paid(self, raw: bytes, found: tuple[int, bytes]) -> bytes:
        index, record = found
        outcome = m.ALREADY_PAID_UNRATIFIED if index in self._state.unratified else m.ALREADY_PAID_RATIFIED
        proof = m.already_paid_body(
            self._identity.scheme,
            self._identity.card,
            self._own_digest,
            int.from_bytes(record[24:28], "big"),
            outcome,
            raw,
            self._suite.hash(record[: r.BODY_LENGTH]),
        )
        return bytes((outcome,)) + record + self._sign(proof)

    def _want_transit_allowance(self, state: State, sale: m.Sale) -> None:
        if not self._knows_transit_payee(sale.payee):
            raise Refused(sw.PAYEE_UNKNOWN)
        count, amount_fen = state.transit_count + 1, state.transit_amount_fen + sale.amount_fen
        if count > state.limits.transit_count or amount_fen > state.limits.transit_amount_fen:
            raise Refused(sw.TRANSIT_ALLOWANCE_USED_UP)

    def _knows_transit_payee(self, payee: bytes) -> bool:
        for place in range(TERMINAL_PLACES):
            if self._state.terminals_valid >> place & 1:
                body = self._memory.terminal(place)
                good = int.from_bytes(body[30:34], "big") >= self._state.date_floor
                if good and body[12:20] == payee and body[3] == CLASS_TRANSIT:
                    return True
        return False

    def _check_limits(self, state: State, amount_fen: int) -> None:
        limits = state.limits
        if amount_fen > limits.single_fen:
            raise Refused(sw.ABOVE_SINGLE_LIMIT)
        self._want_free_entry(state, limits.offline_count)
        if state.spent_fen - state.acknowledged_fen + amount_fen > limits.offline_total_fen:
            raise Refused(sw.OFFLINE_TOTAL_USED_UP)
        if state.spent_fen + amount_fen > _MAX_COUNTER:
            raise Refused(sw.OFFLINE_TOTAL_USED_UP)
        if amount_fen > state.balance_fen:
            raise Refused(sw.BALANCE_TOO_LOW)

    @staticmethod
    def _want_free_entry(state: State, most: int) -> None:
        """Nothing that is not acknowledged is ever overwritten (I2)."""
        if len(state.unratified) >= MAX_UNRATIFIED:
            raise Refused(sw.TOO_MANY_UNRATIFIED)
        entries = min(most, JOURNAL_ENTRIES)
        if state.sequence + 1 - state.acknowledged_sequence > entries or state.sequence == _MAX_COUNTER:
            raise Refused(sw.JOURNAL_FULL)

    def _commit_payment(self, session: Session, state: State, sale: m.Sale, raw: bytes, cvm: int) -> bytes:
        limits = state.limits
        sequence = state.sequence + 1
        balance_fen = state.balance_fen - sale.amount_fen
        spent_fen = state.spent_fen + sale.amount_fen
        offline_fen = spent_fen - state.acknowledged_fen
        limit_state = _offline_bit(offline_fen, limits.offline_total_fen)
        if sale.amount_fen > limits.pin_free_fen:
            limit_state |= r.LIMIT_PIN_ASKED
        transit_count = transit_fen = 0  # a retail terminal has just proved itself
        if sale.profile == r.TRANSIT:
            limit_state |= r.LIMIT_TRANSIT_ALLOWANCE
            transit_count, transit_fen = state.transit_count + 1, state.transit_amount_fen + sale.amount_fen
        tail = (
            bytes((cvm, limit_state))
            + balance_fen.to_bytes(4, "big")
            + offline_fen.to_bytes(4, "big")
            + (sequence - state.acknowledged_sequence).to_bytes(2, "big")
        )
        head = m.payment_head(self._identity.scheme, self._identity.card, self._own_digest, sequence, raw)
        record = self._signed_entry(head + tail + b"\x00", sequence)
        self._commit(
            state.changed(
                balance_fen=balance_fen,
                sequence=sequence,
                spent_fen=spent_fen,
                unratified=[*state.unratified, (sequence - 1) % JOURNAL_ENTRIES],
                transit_count=transit_count,
                transit_amount_fen=transit_fen,
            )
        )
        session.spent = True
        return b"\x01" + record[24:28] + tail + record[r.BODY_LENGTH :]

    def _signed_entry(self, body: bytes, sequence: int) -> bytes:
        """Sign a body once and write the record where no live one lies; it counts only from the commit on."""
        record = body + self._sign(body)
        self._memory.write_entry((sequence - 1) % JOURNAL_ENTRIES, record)
        self._measure(_NVM_WRITE, len(record))
        return record

    def _ratify(self, command: Command, _session: Session) -> bytes:
        _want_length(command.data, m.RATIFY_LENGTH)
        index, record = self._entry_of(int.from_bytes(command.data[:4], "big"))
        if record[-m.TAG_LENGTH :] != command.data[4:]:
            raise Refused(sw.SIGNATURE_WRONG)
        if index not in self._state.unratified:
            return b"\x00"
        left = [other for other in self._state.unratified if other != index]
        self._commit(self._state.changed(unratified=left))
        return b"\x01"

    def _entry_of(self, sequence: int) -> tuple[int, bytes]:
        index = (sequence - 1) % JOURNAL_ENTRIES
        record = self._live_entry(index)
        if record is None or int.from_bytes(record[24:28], "big") != sequence:
            raise Refused(sw.NO_SUCH_RECORD)
        return index, record

    # ------------------------------------------------------------------ PIN (section 10)

    def _check_pin(self, session: Session, amount_fen: int, raw: bytes, pin: bytes) -> int:
        if not pin:
            if amount_fen > self._state.limits.pin_free_fen:
                raise Refused(sw.PIN_WANTED)
            return r.CVM_NONE
        if not self._state.flags & FLAG_PIN_SET:
            raise Refused(sw.PIN_WANTED)
        self._want_tries()
        peer, block = pin[:64], pin[64:]
        self._take_try(session)
        secret = self._shared(peer)
        key = self._hash(b"\xa1" + secret + self._suite.hash(raw))[:16]
        self._compare_pin(self._decrypt(key, block), session.nonce[:8])
        return r.CVM_PIN

    def _want_tries(self) -> None:
        if self._memory.tries() == 0:
            raise Refused(sw.PIN_LOCKED)

    def _take_try(self, session: Session) -> None:
        """Before anything is compared, and outside any transaction: a tear gives no try back."""
        session.spent = True
        self._memory.write_tries(self._memory.tries() - 1)
        self._measure(_NVM_WRITE, 1)

    def _shared(self, peer: bytes) -> bytes:
        self._measure(_ECDH)
        try:
            return self._identity.agreement.shared(peer)
        except Malformed:
            raise Refused(self._wrong_pin()) from None

    def _compare_pin(self, block: bytes, nonce: bytes) -> None:
        if block[8:] != nonce or self._pin_digest(block[:8]) != self._state.pin_digest:
            raise Refused(self._wrong_pin())
        self._restore_tries()

    def _restore_tries(self) -> None:
        self._memory.write_tries(MAX_TRIES)
        self._measure(_NVM_WRITE, 1)

    def _wrong_pin(self) -> int:
        left = self._memory.tries()
        return 0x63C0 | left if left else sw.PIN_LOCKED

    def _pin_digest(self, field: bytes) -> bytes:
        return self._hash(self._identity.pin_salt + self._identity.card + field)[:16]

    def _change_pin(self, command: Command, session: Session) -> bytes:
        _want_length(command.data, m.CHANGE_PIN_LENGTH)
        if session.spent:
            raise Refused(sw.SELECT_FIRST)
        peer, old, new = command.data[:64], command.data[64:80], command.data[80:]
        was_set = bool(self._state.flags & FLAG_PIN_SET)
        if was_set:
            self._want_tries()
            self._take_try(session)
        session.spent = True
        try:
            secret = self._shared(peer)
        except Refused:
            raise Refused(self._wrong_pin() if was_set else sw.MALFORMED) from None
        key = self._hash(b"\xa2" + secret + session.nonce)[:16]
        if was_set:
            self._compare_pin(self._decrypt(key, old), session.nonce[:8])
        elif self._decrypt(key, old) != m.pin_field("") + session.nonce[:8]:
            raise Refused(sw.MALFORMED)
        block = self._decrypt(key, new)
        if block[8:] != session.nonce[8:] or not m.is_pin_field(block[:8]):
            raise Refused(sw.MALFORMED)
        if not was_set:
            self._restore_tries()
        self._commit(
            self._state.changed(
                flags=self._state.flags | FLAG_PIN_SET,
                pin_digest=self._pin_digest(block[:8]),
            )
        )
        return b""

    # ------------------------------------------------------------------ refund (section 16)

    def _refund(self, command: Command, session: Session) -> bytes:
        _want_length(command.data, m.REFUND_LENGTH)
        if session.spent:
            raise Refused(sw.SELECT_FIRST)
        terminal = self._refunding_terminal(command.data, session)
        request = m.parse_refund(command.data[:32])
        _, payment = self._entry_of(request.sequence)
        if payment[0] != r.PAYMENT:
            raise Refused(sw.NO_SUCH_RECORD)
        if payment[28:36] != terminal.payee:
            raise Refused(sw.WRONG_CLASS)
        refunded_fen, receipt = self._refunded(request.sequence)
        if receipt and request.total_fen == refunded_fen:
            return b"\x02" + receipt
        if request.total_fen <= refunded_fen:
            raise Refused(sw.REFUND_TOO_LOW)
        if request.total_fen > int.from_bytes(payment[48:52], "big"):
            raise Refused(sw.REFUND_TOO_HIGH)
        record = self._commit_refund(request, terminal, payment, request.total_fen - refunded_fen)
        session.spent = True
        return b"\x01" + record

    def _refunding_terminal(self, data: bytes, session: Session) -> Certificate:
        """The terminal that signed this refund for this card and nonce; it has proved itself by that."""
        named, signature = data[32:40], data[40:]
        terminal = self._terminal(named)
        if terminal.not_after < self._state.date_floor:
            raise Refused(sw.CERTIFICATE_EXPIRED)
        body = m.refund_order_body(
            self._suite.number, self._identity.scheme, self._identity.card, session.nonce, named, data[:32]
        )
        self._verify(self._key(terminal.public), signature, body)
        session.proved = True
        return terminal

    def _refunded(self, sequence: int) -> tuple[int, bytes]:
        """What was refunded of a payment so far, in fen, and the receipt of the last refund."""
        total_fen, receipt = 0, b""
        for index in range(JOURNAL_ENTRIES):
            record = self._live_entry(index)
            if record is not None and record[0] == r.REFUND and record[36:40] == sequence.to_bytes(4, "big"):
                so_far_fen = int.from_bytes(record[40:44], "big")
                if so_far_fen > total_fen:
                    total_fen, receipt = so_far_fen, record
        return total_fen, receipt

    def _commit_refund(
        self, request: m.RefundRequest, terminal: Certificate, payment: bytes, credit_fen: int
    ) -> bytes:
        state = self._state
        if state.flags & FLAG_BLOCKED:
            raise Refused(sw.BLOCKED)
        balance_fen = state.balance_fen + credit_fen
        if balance_fen > state.limits.balance_cap_fen:
            raise Refused(sw.ABOVE_BALANCE_CAP)
        self._want_free_entry(state, JOURNAL_ENTRIES)
        sequence = state.sequence + 1
        offline_fen = state.spent_fen - state.acknowledged_fen
        head = bytes((r.REFUND, VERSION, self._suite.number, APPLICATION)) + self._identity.scheme
        named = self._identity.card + self._own_digest + sequence.to_bytes(4, "big") + terminal.payee
        reference = request.sequence.to_bytes(4, "big") + request.total_fen.to_bytes(4, "big") + bytes(4)
        asked = terminal.terminal + request.transaction.to_bytes(4, "big") + request.nonce
        limit_state = _offline_bit(offline_fen, state.limits.offline_total_fen)
        body = b"".join(
            (
                head + named + reference + credit_fen.to_bytes(4, "big") + payment[52:54] + asked,
                request.time_s.to_bytes(4, "big") + bytes((r.RETAIL, r.CVM_NONE, limit_state)),
                balance_fen.to_bytes(4, "big") + offline_fen.to_bytes(4, "big"),
                (sequence - state.acknowledged_sequence).to_bytes(2, "big") + b"\x00",
            )
        )
        record = self._signed_entry(body, sequence)
        self._commit(
            state.changed(
                balance_fen=balance_fen,
                sequence=sequence,
                transit_count=0,
                transit_amount_fen=0,
                unratified=[*state.unratified, (sequence - 1) % JOURNAL_ENTRIES],
            )
        )
        return record

    # ------------------------------------------------------------------ reading (sections 6, 11)

    def _read_record(self, command: Command, session: Session) -> bytes:
        _want_length(command.data, 4)
        if not session.proved:
            raise Refused(sw.NOT_PROVED)
        sequence = int.from_bytes(command.data, "big")
        if command.p1 == m.P1_NEXT_UNRATIFIED:
            waiting = [self._entry_sequence(index) for index in self._state.unratified]
            above = [number for number in waiting if number > sequence]
            if not above:
                raise Refused(sw.NO_SUCH_RECORD)
            sequence = min(above)
        index, record = self._entry_of(sequence)
        if command.p1 == m.P1_REFUNDED_TOTAL:
            return self._refunded(sequence)[0].to_bytes(4, "big")
        return record + (b"\x01" if index in self._state.unratified else b"\x00")

    def _entry_sequence(self, index: int) -> int:
        return int.from_bytes(self._memory.entry(index)[24:28], "big")

    def _read_state(self, command: Command, session: Session) -> bytes:
        _want_length(command.data, 0)
        if not session.proved:
            raise Refused(sw.NOT_PROVED)
        return self.card_state().to_bytes()

    def card_state(self) -> m.CardState:
        """The state that READ STATE shows."""
        state = self._state
        return m.CardState(
            state.balance_fen,
            state.sequence,
            state.acknowledged_sequence,
            state.spent_fen,
            state.acknowledged_fen,
            state.load_counter,
            state.order_number,
            state.date_floor,
            state.transit_count,
            state.transit_amount_fen,
            self._flags(),
            len(state.unratified),
            self._memory.tries(),
            state.limits,
            state.tier,
            self._identity.certificate.currency,
        )

    def journal_records(self) -> list[r.Record]:
        """Every live record, oldest first: what a simulated card shows to who looks into it."""
        raw = [record for index in range(JOURNAL_ENTRIES) if (record := self._live_entry(index)) is not None]
        return sorted((r.parse(record) for record in raw), key=lambda record: record.sequence)

    # ------------------------------------------------------------------ load and orders (sections 12, 13)

    def _load_challenge(self, command: Command, _session: Session) -> bytes:
        _want_length(command.data, 0)
        counter = self._state.load_counter
        return counter.to_bytes(4, "big") + self._challenge(counter + 1)

    def _challenge(self, counter: int) -> bytes:
        """The same for a counter for ever, and known to nobody before the card tells it."""
        return self._hash(b"\xa3" + self._identity.secret + (counter & _MAX_COUNTER).to_bytes(4, "big"))[:16]

    def _load(self, command: Command, _session: Session) -> bytes:
        _want_length(command.data, m.LOAD_ORDER_LENGTH)
        order = self._checked_load(command.data)
        state = self._state
        if order.counter == state.load_counter:
            return b"\x02" + self._load_receipt(order.counter)
        if order.counter != state.load_counter + 1 or order.challenge != self._challenge(order.counter):
            raise Refused(sw.WRONG_LOAD_COUNTER)
        if state.flags & FLAG_BLOCKED:
            raise Refused(sw.BLOCKED)
        if order.amount_fen > r.MAX_AMOUNT_FEN:
            raise Refused(sw.AMOUNT_INVALID)
        if order.amount_fen and state.balance_fen + order.amount_fen > state.limits.balance_cap_fen:
            raise Refused(sw.ABOVE_BALANCE_CAP)
        state = self._acknowledged(state, order.acknowledged_sequence, order.acknowledged_fen)
        self._want_free_entry(state, JOURNAL_ENTRIES)
        if state != self._state:
            self._commit(state)  # what the entry overwrites has to be acknowledged before it is written
        sequence = state.sequence + 1
        balance_fen = state.balance_fen + order.amount_fen
        record = self._signed_entry(self._load_body(state, order, sequence, balance_fen), sequence)
        self._commit(
            state.changed(
                balance_fen=balance_fen,
                sequence=sequence,
                load_counter=order.counter,
                date_floor=max(state.date_floor, order.time_s),
                unratified=[*state.unratified, (sequence - 1) % JOURNAL_ENTRIES],
            )
        )
        return b"\x01" + record

    def _checked_load(self, raw: bytes) -> m.LoadOrder:
        if raw[0] != m.LOAD_ORDER or raw[1:4] != bytes((VERSION, self._suite.number, APPLICATION)):
            raise Refused(sw.WRONG_VERSION)
        order = m.parse_load_order(raw)
        self._want_for_this_card(order.scheme, order.operator, order.card)
        if order.currency != self._identity.certificate.currency:
            raise Refused(sw.WRONG_CURRENCY)
        self._verify_issuer(raw)
        return order

    def _want_for_this_card(self, scheme: bytes, operator: bytes, card: bytes) -> None:
        if (scheme, operator, card) != (self._identity.scheme, self._identity.issuer, self._identity.card):
            raise Refused(sw.NOT_FOR_THIS_CARD)

    def _verify_issuer(self, raw: bytes) -> None:
        issuers = self._operators(self._identity.issuer)
        if not issuers[0].klass & CLASS_ISSUING:
            raise Refused(sw.WRONG_CLASS)
        self._verify_any([self._key(issuer.public) for issuer in issuers], raw[-64:], raw[:-64])

    def _acknowledged(self, state: State, sequence: int, total_fen: int) -> State:
        """Everything up to `sequence` has arrived: it counts as ratified, and may be overwritten."""
        if sequence > state.sequence or total_fen > state.spent_fen:
            raise Refused(sw.ACKNOWLEDGES_TOO_MUCH)
        reached = max(state.acknowledged_sequence, sequence)
        return state.changed(
            acknowledged_sequence=reached,
            acknowledged_fen=max(state.acknowledged_fen, total_fen),
            unratified=[index for index in state.unratified if self._entry_sequence(index) > reached],
        )

    def _load_body(self, state: State, order: m.LoadOrder, sequence: int, balance_fen: int) -> bytes:
        offline_fen = state.spent_fen - state.acknowledged_fen
        return (
            bytes((r.LOAD, VERSION, self._suite.number, APPLICATION))
            + self._identity.scheme
            + self._identity.card
            + self._own_digest
            + sequence.to_bytes(4, "big")
            + (order.operator + bytes(4))
            + (order.counter.to_bytes(4, "big") + bytes(8))
            + order.amount_fen.to_bytes(4, "big")
            + order.currency.to_bytes(2, "big")
            + bytes(8)
            + order.challenge
            + order.time_s.to_bytes(4, "big")
            + bytes((r.PROFILE_NONE, r.CVM_NONE, _offline_bit(offline_fen, state.limits.offline_total_fen)))
            + balance_fen.to_bytes(4, "big")
            + offline_fen.to_bytes(4, "big")
            + (sequence - state.acknowledged_sequence).to_bytes(2, "big")
            + b"\x00"
        )

    def _load_receipt(self, counter: int) -> bytes:
        """The receipt of the last load, while its entry lives."""
        for index in range(JOURNAL_ENTRIES):
            record = self._live_entry(index)
            if record is not None and record[0] == r.LOAD and record[36:40] == counter.to_bytes(4, "big"):
                return record
        raise Refused(sw.NO_SUCH_RECORD)

    def _order(self, command: Command, _session: Session) -> bytes:
        raw = command.data
        _want_length(raw, m.ORDER_LENGTH)
        if raw[0] != m.CARD_ORDER or raw[1:4] != bytes((VERSION, self._suite.number, APPLICATION)):
            raise Refused(sw.WRONG_VERSION)
        self._want_for_this_card(raw[4:8], raw[8:12], raw[12:20])
        self._verify_issuer(raw)
        if int.from_bytes(raw[20:24], "big") <= self._state.order_number:
            raise Refused(sw.ORDER_TOO_OLD)
        try:
            order = m.parse_card_order(raw)
            state = self._obey(order)
        except Malformed:
            raise Refused(sw.MALFORMED) from None
        self._commit(state.changed(order_number=order.number, date_floor=max(state.date_floor, order.time_s)))
        return b""

    def _obey(self, order: m.CardOrder) -> State:
        state = self._state
        if order.kind == m.KIND_ACKNOWLEDGE:
            sequence, total = order.value[:4], order.value[4:]
            return self._acknowledged(state, int.from_bytes(sequence, "big"), int.from_bytes(total, "big"))
        if order.kind == m.KIND_LIMITS:
            return state.changed(limits=parse_limits(order.value[:-1]), tier=order.value[-1])
        if order.kind == m.KIND_BLOCK:
            return state.changed(flags=state.flags | FLAG_BLOCKED)
        return state.changed(flags=state.flags & ~FLAG_BLOCKED)

    # ------------------------------------------------------------------ primitives, metered

    def _measure(self, kind: OperationKind, size: int = 0) -> None:
        if self._meter is not None:
            self._meter(Operation(kind, size))

    def _commit(self, state: State) -> None:
        self._memory.commit(state.to_bytes())
        self._state = state
        self._measure(_NVM_WRITE, STATE_LENGTH)  # the transaction's own copy,
        self._measure(_NVM_WRITE, STATE_LENGTH)  # and the state

    def _sign(self, body: bytes) -> bytes:
        self._measure(_SIGN_INIT)
        self._measure(_SIGN, len(body))
        return self._identity.signing.sign(body)

    def _verify(self, key: VerifyingKey, signature: bytes, message: bytes) -> None:
        self._measure(_VERIFY, len(message))
        try:
            key.verify(signature, message)
        except SignatureInvalid:
            raise Refused(sw.SIGNATURE_WRONG) from None

    def _verify_any(self, keys: list[VerifyingKey], signature: bytes, message: bytes) -> None:
        """By the first key, else the next: an operator has two while its key is rotated."""
        for key in keys[:-1]:
            with suppress(Refused):
                return self._verify(key, signature, message)
        return self._verify(keys[-1], signature, message)

    def _hash(self, message: bytes) -> bytes:
        self._measure(_SHA256, len(message))
        return self._suite.hash(message)

    def _decrypt(self, key: bytes, block: bytes) -> bytes:
        self._measure(_AES_KEY_CHANGE)
        self._measure(_AES)
        return self._suite.decrypt_block(key, block)

    def _key(self, public: bytes) -> VerifyingKey:
        """Loaded keys are only speed: at most one for each place in the card's memory is kept."""
        key = self._keys.get(public)
        if key is None:
            if len(self._keys) > TERMINAL_PLACES + OPERATOR_PLACES:
                self._keys.clear()
            key = self._keys[public] = self._suite.verifying_key(public)
        return key


def _want_length(data: bytes, length: int) -> None:
    if len(data) != length:
        raise Refused(sw.WRONG_LENGTH)


def _split_pay(data: bytes) -> tuple[bytes, bytes, bytes]:
    """The sale (58), the terminal's digest and signature (72, or none), ephemeral key and PIN block (80, or
    none)."""
    if len(data) == m.SALE_LENGTH:
        return data, b"", b""
    if len(data) == m.RETAIL_LENGTH:
        return data[:58], data[58:], b""
    if len(data) == m.PIN_LENGTH:
        return data[:58], data[58:66] + data[146:], data[66:146]
    raise Refused(sw.WRONG_LENGTH)


def _offline_bit(offline_fen: int, limit_fen: int) -> int:
    return r.LIMIT_OFFLINE_NEAR if offline_fen * 5 >= limit_fen * 4 else 0
