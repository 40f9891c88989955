"""An upload becomes bookings: checked whole, verified row by row, deduplicated, posted in one transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection

from hardwallet import certificates, records
from hardwallet.certificates import Certificate
from hardwallet.errors import SignatureInvalid
from hardwallet.records import Owed, Record
from hardwallet.suites import SigningKey
from offline_sync import chain, messages
from offline_sync.chain import Entry, Kind
from offline_sync.clearing import losses, notices, refunds, returns
from offline_sync.clearing.ledger import AccountKind, Ledger, Posting, Reason, RecordRow, Transfer
from offline_sync.clearing.links import links
from offline_sync.clearing.refunds import Receipt, RefundOrder
from offline_sync.clearing.verify import Known, Reading, Verifier
from offline_sync.errors import BatchRefused, MessageMalformed, RecordRefused
from offline_sync.messages import Acknowledgement, Batch, Chained, Rejection
from pos_terminal.sale import SaleState

_Parsed = TypeVar("_Parsed")

Checked = Mapping[bytes, Record | RecordRefused]
"""The records of an upload, by their 160 bytes: verified, or why not."""

_OBJECTIONS: Final = {
    "granted-after-return": "granted, but it had been returned to the card",
    "refunded-after-return": "refunded, but it had been returned to the card",
    "returned-twice": "two loads have returned this payment",
}

NO_STATE: Final = 0
"""The state of a record that its own terminal has not reported yet."""


class Arrival(NamedTuple):
    """A verified record. `state`: what its own terminal says of it; NO_STATE when another brought it.
    `digest`: SHA-256 of its body, 32 bytes."""

    record: Record
    state: int
    digest: bytes


@dataclass(slots=True)
class Sorted:
    """A batch's entries, verified: what is to be booked, what is not, and what is noted."""

    arrivals: list[Arrival] = field(default_factory=list)
    sales: list[dict[str, Any]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    evidence: list[dict[str, Any]] = field(default_factory=list)
    refund_orders: list[RefundOrder] = field(default_factory=list)
    delivered: list[tuple[bytes, int, int, bytes, bytes]] = field(default_factory=list)
    certificates: dict[bytes, bytes] = field(default_factory=dict)
    revoked: dict[bytes, RecordRefused] = field(default_factory=dict)


@dataclass(slots=True)
class Opened:
    """An upload that is, whole, what its terminal signed; its records are read, but not checked. `key` names
    it: 32 bytes."""

    batch: Batch
    terminal: Known
    result: Chained
    key: bytes
    found: Sorted
    cards: Mapping[bytes, Known]
    reading: Reading


class Intake:
    """Takes uploads and load receipts into a ledger. One caller at a time, but for `check`."""

    def __init__(
        self,
        ledger: Ledger,
        verifier: Verifier,
        keys: Mapping[bytes, SigningKey],
        clock: Callable[[], int],
    ) -> None:
        """`keys`: of each acquiring operator that is served here its newest signing key, by its number (4
        bytes), and while its key is rotated the older ones too, by their public keys (64 bytes)."""
        self._ledger = ledger
        self._verifier = verifier
        self._keys = dict(keys)
        self._clock = clock

    def open(self, batch: Batch) -> Opened | Acknowledgement:
        """Read an upload; the receipt, where it was booked before and gets the same one again.

        Raises BatchRefused when the upload is not, whole, what its terminal signed: nothing is booked then.
        Raises LedgerError.
        """
        terminal, result = self._check_whole(batch)
        key = messages.batch_key(batch, terminal.certificate, result)
        earlier = self._receipt(key, terminal)
        if earlier is not None:
            return earlier
        found = Sorted()
        cards = self._cards(batch.card_certificates, result.entries, found)
        raws = (chain.record_in(entry.kind, entry.payload) for entry in result.entries)
        reading = self._verifier.read((raw for raw in raws if raw is not None), cards)
        return Opened(batch, terminal, result, key, found, cards, reading)

    def check(self, opened: Opened) -> Checked:
        """Check the signatures of an upload's records: the long part, which needs no turn."""
        return self._verifier.settle(opened.reading)

    def book(self, opened: Opened, checked: Checked) -> Acknowledgement:
        """Book an upload whose signatures were checked, and acknowledge it. Raises LedgerError."""
        batch, terminal, result = opened.batch, opened.terminal, opened.result
        key, found = opened.key, opened.found
        earlier = self._receipt(key, terminal)  # the same upload may have come twice at once
        if earlier is not None:
            return earlier
        self._sort(opened, checked)
        with self._ledger.write() as connection:
            status = self._check_continuity(connection, batch, terminal, result, found)
            self._ledger.keep_certificates(connection, found.certificates)
            self._settle_rejections(connection, batch, terminal, found)
            self._post(connection, self._posting(connection, found))
            notices.note_delivered(connection, found.delivered)
            certificate = terminal.certificate
            held = self._ledger.highest(connection, certificate.payee, certificate.terminal)
            highest = max(batch.last, held)
            receipt = self._seal(batch, terminal, result, found.rejections, status, highest)
            self._keep_upload(connection, key, batch, terminal, result, receipt)
        return receipt

    def book_record(self, raw: bytes, certificate: bytes) -> bool:
        """Book one record that came with its card's certificate, from the card's issuer, who vouches for it.
        False when it was known. Raises RecordRefused.
        """
        card = self._verifier.card(certificate, kept=True)
        record = self._verifier.record(raw, {card.digest: card})
        found = Sorted(arrivals=[_arrival(record, NO_STATE)])
        with self._ledger.write() as connection:
            self._ledger.keep_certificates(connection, {card.digest: certificate})
            posting = self._posting(connection, found)
            self._post(connection, posting)
        return bool(posting.records)

    def book_order(self, raw: bytes, back: Sequence[Owed]) -> None:
        """Keep a load order until its receipt arrives, with the payments that it puts back on the card.
        Again changes nothing. Raises RecordRefused.
        """
        order = self._verifier.order(raw)
        row = {
            "card": order.card,
            "counter": order.counter,
            "operator": order.operator,
            "amount_fen": order.amount_fen,
            "raw": raw,
        }
        with self._ledger.write() as connection:
            claimed = returns.claim(connection, self._ledger, order, back)
            self._ledger.keep_order(connection, row)
            self._settle(connection, claimed, {order.card})

    # ---------------------------------------------------------------------------------- the batch, whole

    def _check_whole(self, batch: Batch) -> tuple[Known, Chained]:
        if batch.scheme != self._verifier.trust.scheme:
            raise BatchRefused("scheme", "the upload belongs to another scheme")
        terminal = self._verifier.terminal(batch.terminal_certificate, batch.time_s)
        if terminal.certificate.authority not in self._keys:
            raise BatchRefused(
                "operator", "the terminal's operator is not served here; send to its own clearing"
            )
        try:
            result = messages.chained(batch)
            messages.check_head(batch, terminal.certificate, terminal.digest, terminal.key, result)
        except MessageMalformed as error:
            raise BatchRefused("malformed", str(error)) from None
        except SignatureInvalid:
            raise BatchRefused(
                "altered",
                "the upload is not what the terminal signed; it was altered on the way, send it again",
            ) from None
        return terminal, result

    def _receipt(self, key: bytes, terminal: Known) -> Acknowledgement | None:
        """The receipt that this upload got before, unless more has arrived from its terminal since."""
        with self._ledger.read() as connection:
            raw = self._ledger.receipt(connection, key)
            if raw is None:
                return None
            receipt = messages.decode_acknowledgement(raw)
            certificate = terminal.certificate
            highest = self._ledger.highest(connection, certificate.payee, certificate.terminal)
            return receipt if highest <= receipt.highest else None

    def _check_continuity(
        self, connection: Connection, batch: Batch, terminal: Known, result: Chained, found: Sorted
    ) -> int:
        """Compare with what is held of this terminal. A contradiction is kept as evidence; money is booked
        all the same, since the cards have paid it.
        """
        certificate = terminal.certificate
        held = self._ledger.uploads_touching(
            connection, certificate.payee, certificate.terminal, batch.first, batch.last
        )
        signed = _signed_head(batch, terminal, result)
        ours = b"".join((batch.before, *(entry.hash for entry in result.entries)))
        status = messages.GOOD
        if batch.first == 1 and batch.before != chain.genesis(
            batch.scheme, certificate.payee, certificate.terminal
        ):
            found.evidence.append(
                self._note("fork", certificate.subject, "the journal does not begin as its own", signed, b"")
            )
            status = messages.FORKED
        for first, before, hashes, head in held:
            differing = first_difference(batch.first - 1, ours, first - 1, before + hashes)
            if differing is not None:
                joined = links(batch.first - 1, ours, result.entries, first - 1, before + hashes)
                proofs = sorted((signed + joined, head))
                detail = f"two journals differ at entry {differing}"
                found.evidence.append(self._note("fork", certificate.subject, detail, *proofs))
                status = messages.FORKED
        self._check_behind(connection, batch, terminal, signed, found)
        return status

    def _check_behind(
        self, connection: Connection, batch: Batch, terminal: Known, signed: bytes, found: Sorted
    ) -> None:
        """A journal that ends before what an earlier upload held: an old copy was put back."""
        certificate = terminal.certificate
        latest = self._ledger.latest_upload(connection, certificate.payee, certificate.terminal)
        if latest is None:
            return
        last, signed_s, head = latest
        if batch.journal_head < last and batch.time_s >= signed_s:
            detail = f"the journal ends at {batch.journal_head}, but {last} was acknowledged"
            found.evidence.append(self._note("behind", certificate.subject, detail, signed, head))

    # -------------------------------------------------------------------------------------- row by row

    def _sort(self, opened: Opened, checked: Checked) -> None:
        terminal, found = opened.terminal, opened.found
        for entry in opened.result.entries:
            try:
                self._sort_entry(entry, terminal, checked, found)
            except RecordRefused as refusal:
                self._reject(entry, terminal, opened.cards, refusal, found)

    def _sort_entry(self, entry: Entry, terminal: Known, checked: Checked, found: Sorted) -> None:
        if entry.damaged:
            self._sort_damaged(entry, terminal, checked, found)
        elif entry.kind == Kind.OWN_PAYMENT:
            self._sort_own(entry, terminal, checked, found)
        elif entry.kind == Kind.CARRIED:
            found.arrivals.append(_arrival(_verified(entry, checked), NO_STATE))
        elif entry.kind == Kind.SALE_CHANGED:
            changed = _parsed(chain.parse_changed, entry.payload)
            found.sales.append(
                {
                    "payee": terminal.certificate.payee,
                    "terminal": terminal.certificate.terminal,
                    "reference": changed.reference,
                    "entry": entry.index,
                    "state": int(changed.state),
                }
            )
        elif entry.kind == Kind.SALE_OPENED:
            opened = _parsed(chain.parse_opened, entry.payload)
            certificate = terminal.certificate
            order = refunds.order_of(certificate.payee, certificate.terminal, opened)
            if order is not None:
                found.refund_orders.append(order)
        elif entry.kind == Kind.ORDER_DELIVERED:
            told = _parsed(chain.parse_delivered, entry.payload)
            own = terminal.certificate
            found.delivered.append((told.card, told.number, told.status_word, own.payee, own.terminal))
        else:
            raise RecordRefused("malformed", f"an entry of unknown kind {entry.kind}")

    def _sort_own(self, entry: Entry, terminal: Known, checked: Checked, found: Sorted) -> None:
        state, _ = _parsed(chain.parse_own, entry.payload)
        record = _verified(entry, checked)
        certificate = terminal.certificate
        if record.kind == records.PAYMENT and record.payee + record.terminal == certificate.subject:
            told = state in (SaleState.GRANTED, SaleState.PAID_NOT_GRANTED)
            found.arrivals.append(_arrival(record, int(state) if told else NO_STATE))
            return
        # The card signed whom it pays: the money goes there, and the terminal is noted.
        found.arrivals.append(_arrival(record, NO_STATE))
        detail = f"entry {entry.index} claims a record that names another terminal"
        found.evidence.append(self._note("claimed", certificate.subject, detail, entry.payload, b""))

    def _sort_damaged(self, entry: Entry, terminal: Known, checked: Checked, found: Sorted) -> None:
        """A record that its card's signature still fits is good, whatever else was altered."""
        detail = f"entry {entry.index} was damaged in the terminal's store"
        found.evidence.append(
            self._note("damaged", terminal.certificate.subject, detail, entry.payload, entry.hash)
        )
        try:
            record = _verified(entry, checked)
        except RecordRefused:
            raise RecordRefused("damaged", "the entry was damaged in the terminal's store") from None
        found.arrivals.append(_arrival(record, NO_STATE))

    def _reject(
        self,
        entry: Entry,
        terminal: Known,
        cards: Mapping[bytes, Known],
        refusal: RecordRefused,
        found: Sorted,
    ) -> None:
        raw = chain.record_in(entry.kind, entry.payload)
        if raw is not None and refusal.code == "certificate-missing":
            refusal = found.revoked.get(raw[16:24], refusal)
        reason = str(refusal)[: messages.REASON_LIMIT]
        found.rejections.append(Rejection(entry.index, refusal.code, reason))
        card = cards.get(raw[16:24]) if raw is not None else None
        found.rejected.append(
            {
                "payee": terminal.certificate.payee,
                "terminal": terminal.certificate.terminal,
                "entry": entry.index,
                "payload_digest": sha256(entry.payload).digest(),
                "code": refusal.code,
                "reason": reason,
                "payload": entry.payload,
                "certificate": card.certificate.to_bytes() if card is not None else b"",
            }
        )

    def _settle_rejections(
        self, connection: Connection, batch: Batch, terminal: Known, found: Sorted
    ) -> None:
        """An entry that was rejected and now is booked is not to be reviewed any more."""
        payee, number = terminal.certificate.payee, terminal.certificate.terminal
        if self._ledger.has_rejections(connection, payee, number):
            still = [row.index for row in found.rejections]
            self._ledger.settle_rejections(connection, payee, number, (batch.first, batch.last), still)

    def _cards(self, raws: Iterable[bytes], entries: Iterable[Entry], found: Sorted) -> dict[bytes, Known]:
        """The cards whose certificates came along and are good, and those known from before."""
        cards: dict[bytes, Known] = {}
        for raw in raws:
            try:
                known = self._verifier.card(raw)
            except RecordRefused as refusal:
                if refusal.code == "revoked":
                    named = certificates.digest(self._verifier.trust.suite, certificates.parse(raw))
                    found.revoked[named] = refusal
                continue  # its records are rejected one by one, unless clearing has kept it from before
            cards[known.digest] = known
            found.certificates[known.digest] = raw
        wanted = {
            record[16:24]
            for entry in entries
            if (record := chain.record_in(entry.kind, entry.payload)) is not None
        }
        missing = wanted - cards.keys()
        if missing:
            with self._ledger.read() as connection:
                earlier = self._ledger.certificates_by_digest(connection, missing)
            for raw in earlier.values():
                known = self._verifier.card(raw, kept=True)
                cards[known.digest] = known
        return cards

    # ---------------------------------------------------------------------------------------- bookings

    def _posting(self, connection: Connection, found: Sorted) -> Posting:
        """What is new among the arrivals, with the movements that it makes."""
        posting = Posting(sales=found.sales, rejected=found.rejected, evidence=found.evidence)
        known = self._ledger.known_bodies(
            connection, {(item.record.card, item.record.sequence) for item in found.arrivals}
        )
        loaded = self._ledger.known_loads(
            connection,
            {
                (item.record.card, records.load_counter(item.record))
                for item in found.arrivals
                if item.record.kind == records.LOAD
            },
        )
        number = self._ledger.next_record(connection)
        received_s = self._clock()
        for item in found.arrivals:
            bodies = known.setdefault((item.record.card, item.record.sequence), {})
            if item.digest in bodies:
                self._report_state(bodies, item, posting)
                continue
            self._book(item, number, received_s, loaded, posting)
            for _, _, other in bodies.values():
                posting.evidence.append(self._clone(item.record.raw, other))
                posting.forks[item.record.card] = posting.records[-1]
            bodies[item.digest] = (number, item.state, item.record.raw)
            number += 1
        self._settle_refunds(connection, found, posting)
        return posting

    def _post(self, connection: Connection, posting: Posting) -> None:
        """Write what a batch changes, and what follows from it for returns and losses."""
        ledger = self._ledger
        ledger.post(connection, posting)
        claimed = ledger.match_claims(connection, posting.records)
        returns.open_rows(connection, ledger, claimed)
        touched = {row["record"] for row in posting.ungranted}
        touched.update(claimed, posting.told, ledger.claimed_by(connection, posting.loads))
        sold = {(row["reference"], row["payee"]) for row in posting.sales}
        touched |= ledger.ungranted_of(connection, sold, posting.refunded)
        losses.note(connection, ledger, posting.forks)
        cards = {row.card for row in posting.records}
        self._settle(connection, touched, cards.union(card for card, _ in posting.refunded))

    def _settle(self, connection: Connection, payments: Iterable[int], cards: set[bytes]) -> None:
        """Bring returns and losses to what has arrived."""
        changed = returns.settle(connection, self._ledger, payments)
        notes = [
            self._note(kind, due.payment.card + bytes(4), _OBJECTIONS[kind], due.payment.raw, b"")
            for due in changed
            for kind in due.objections
        ]
        self._ledger.post(connection, Posting(evidence=notes))
        losses.settle(connection, self._ledger, cards.union(due.payment.card for due in changed))

    def _settle_refunds(self, connection: Connection, found: Sorted, posting: Posting) -> None:
        receipts = [
            Receipt(row.id, records.parse(row.raw)) for row in posting.records if row.kind == records.REFUND
        ]
        if not receipts and not found.refund_orders:
            return
        refused = refunds.settle(connection, found.refund_orders, receipts, posting)
        for receipt, reason in refused:
            record = receipt.record
            posting.evidence.append(self._note("refund", record.card + bytes(4), reason, record.raw, b""))

    def _book(
        self,
        item: Arrival,
        number: int,
        received_s: int,
        loaded: dict[tuple[bytes, int], int],
        posting: Posting,
    ) -> None:
        record = item.record
        posting.records.append(
            RecordRow(
                number,
                record.kind,
                record.card,
                record.sequence,
                item.digest,
                record.amount_fen,
                item.state,
                received_s,
                record.raw,
                record.balance_fen,
            )
        )
        card = (AccountKind.CARD, record.card)
        if record.kind == records.PAYMENT:
            payee = (AccountKind.PAYEE, record.payee)
            posting.transfers.append(Transfer(Reason.PAYMENT, number, card, payee, record.amount_fen))
            if item.state != SaleState.GRANTED:
                posting.ungranted.append(returns.row_of(number, record))
            return
        if record.kind == records.REFUND:
            return  # until the merchant's own order is here: offline_sync.clearing.refunds
        counter = records.load_counter(record)
        if (record.card, counter) in loaded:
            # An issuer pays one order once; a second receipt of it proves a clone and moves nothing.
            detail = f"a second receipt of load {counter}"
            posting.evidence.append(self._note("load-twice", record.card + bytes(4), detail, record.raw, b""))
            return
        loaded[record.card, counter] = number
        posting.loads.append(
            {"card": record.card, "counter": counter, "record": number, "amount_fen": record.amount_fen}
        )
        if record.amount_fen:
            funding = (AccountKind.FUNDING, record.payee)
            posting.transfers.append(Transfer(Reason.LOAD, number, funding, card, record.amount_fen))

    @staticmethod
    def _report_state(bodies: dict[bytes, tuple[int, int, bytes]], item: Arrival, posting: Posting) -> None:
        """The record was known; its terminal may tell now what became of the sale. Granted stays granted."""
        number, state, raw = bodies[item.digest]
        if item.state == NO_STATE or state in (item.state, SaleState.GRANTED):
            return
        bodies[item.digest] = (number, item.state, raw)
        for place, row in enumerate(posting.records):
            if row.id == number:
                posting.records[place] = row._replace(state=item.state)
                return
        posting.states.append({"id": number, "state": item.state})
        posting.told.append(number)

    def _clone(self, one: bytes, other: bytes) -> dict[str, Any]:
        """Two bodies with one sequence number, whoever came first."""
        first, second = sorted((one, other), key=lambda raw: raw[: records.BODY_LENGTH])
        sequence = int.from_bytes(one[24:28], "big")
        detail = f"two different records with sequence number {sequence}: the card was cloned"
        return self._note("clone", one[8:16] + bytes(4), detail, first, second)

    def _note(self, kind: str, subject: bytes, detail: str, first: bytes, second: bytes) -> dict[str, Any]:
        """Evidence, named by what it proves: noted once however often it is found."""
        if kind == "clone":
            what = first[: records.BODY_LENGTH] + second[: records.BODY_LENGTH]
        elif kind in ("fork", "behind"):
            what = detail.encode()
        else:
            what = detail.encode() + first
        return {
            "digest": sha256(kind.encode() + b"\x00" + subject + what).digest(),
            "kind": kind,
            "subject": subject,
            "detail": detail,
            "first_proof": first,
            "second_proof": second,
            "received_s": self._clock(),
        }

    # ----------------------------------------------------------------------------------------- receipts

    def _seal(
        self,
        batch: Batch,
        terminal: Known,
        result: Chained,
        rejections: list[Rejection],
        status: int,
        highest: int,
    ) -> Acknowledgement:
        certificate = terminal.certificate
        unsigned = Acknowledgement(
            messages.VERSION,
            status,
            batch.scheme,
            certificate.payee,
            certificate.terminal,
            batch.first,
            batch.last,
            result.head,
            rejections,
            self._clock(),
            highest,
            bytes(64),
        )
        suite = self._verifier.trust.suite.number
        return messages.seal_acknowledgement(unsigned, suite, self._signer(certificate))

    def _signer(self, terminal: Certificate) -> SigningKey:
        """The operator's key that signed the terminal's certificate: that one the terminal knows, even when
        it has not heard of a newer one."""
        authority = self._verifier.trust.authority_of(terminal)
        return self._keys.get(authority.public, self._keys[terminal.authority])

    def _keep_upload(
        self,
        connection: Connection,
        key: bytes,
        batch: Batch,
        terminal: Known,
        result: Chained,
        receipt: Acknowledgement,
    ) -> None:
        certificate = terminal.certificate
        row = (
            key,
            certificate.payee,
            certificate.terminal,
            batch.first,
            batch.last,
            batch.before,
            b"".join(entry.hash for entry in result.entries),
            batch.time_s,
            _signed_head(batch, terminal, result),
            messages.encode(receipt),
        )
        self._ledger.keep_upload(connection, row)


def _arrival(record: Record, state: int) -> Arrival:
    return Arrival(record, state, sha256(record.body).digest())


def _verified(entry: Entry, checked: Checked) -> Record:
    """The record in an entry, once its signature verified. Raises RecordRefused."""
    raw = chain.record_in(entry.kind, entry.payload)
    found = RecordRefused("malformed", "there is no record in the entry") if raw is None else checked[raw]
    if isinstance(found, RecordRefused):
        raise found
    return found


def _parsed(parse: Callable[[bytes], _Parsed], payload: bytes) -> _Parsed:
    try:
        return parse(payload)
    except MessageMalformed as error:
        raise RecordRefused("malformed", str(error)) from None


def _signed_head(batch: Batch, terminal: Known, result: Chained) -> bytes:
    """The terminal's signed statement, 152 bytes, its signature, and its certificate: whoever has these and
    the operator's certificate can check it.
    """
    message = messages.head_message(batch, terminal.certificate, terminal.digest, result)
    return message + batch.signature + batch.terminal_certificate


def first_difference(first: int, ours: bytes, other_first: int, theirs: bytes) -> int | None:
    """The first index at which two runs of hashes (32 bytes each) differ where they overlap, or None."""
    size = chain.HASH_LENGTH
    begin = max(first, other_first)
    end = min(first + len(ours) // size, other_first + len(theirs) // size)
    one = ours[(begin - first) * size : (end - first) * size]
    other = theirs[(begin - other_first) * size : (end - other_first) * size]
    if begin >= end or one == other:
        return None
    return next(
        begin + place // size
        for place in range(0, len(one), size)
        if one[place : place + size] != other[place : place + size]
    )
