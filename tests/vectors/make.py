"""Makes the test vectors again: `python -m tests.vectors.make` writes them beside this file, those of the GM
suite into the folder gm.

In each suite everything comes from one seed: scheme, card, terminals, every nonce. The card's answers are
those of the reference card; `fields` hold what was asked for.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from firmware_bridge.apdu import Command
from hardwallet import authorities, denylist
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet.card.applet import Card
from hardwallet.card.identity import CardIdentity
from hardwallet.certificates import (
    CLASS_BESIDE,
    CLASS_RETAIL,
    CLASS_TRANSIT,
    Certificate,
    digest,
    signed,
)
from hardwallet.issuing import ACQUIRER, ISSUER, create_scheme, open_scheme
from hardwallet.limits import tiers
from hardwallet.riders import Rider
from hardwallet.suites import GM, INTERNATIONAL, AgreementKey, SigningKey, Suite, suite_by_number
from pos_terminal.terminal import Fare, ride_reference

NOW: Final = 1_795_000_000
SEEDS: Final = {
    INTERNATIONAL: b"hardwallet protocol 1, international suite",
    GM: b"hardwallet protocol 1, GM suite",
}
FOLDERS: Final = {INTERNATIONAL: Path(__file__).parent, GM: Path(__file__).parent / "gm"}
TIER: Final = 5
PIN: Final = "271828"
NEW_PIN: Final = "123456789012"

Vector = dict[str, Any]


def stream(seed: bytes, name: str) -> Callable[[int], bytes]:
    """Bytes that are the same in every run and every language: SHA-256(seed ‖ name ‖ counter (4)), joined."""
    pool, counter = bytearray(), 0

    def take(count: int) -> bytes:
        nonlocal counter
        while len(pool) < count:
            pool.extend(sha256(seed + name.encode() + counter.to_bytes(4, "big")).digest())
            counter += 1
        taken = bytes(pool[:count])
        del pool[:count]
        return taken

    return take


def four(value: int) -> str:
    """A 4-byte number as hex."""
    return f"{value:08x}"


class Maker:
    """One scheme, one card, and the vectors made with them."""

    def __init__(self, folder: Path, suite: int) -> None:
        self.suite: Suite = suite_by_number(suite, deterministic=True)
        self.stream = partial(stream, SEEDS[suite])
        self.files: dict[str, list[Vector]] = {}
        entropy = self.stream("scheme")
        create_scheme(folder, "vectors", self.suite, b"vectors", NOW, entropy)
        with open_scheme(folder, b"vectors", entropy, deterministic=True) as scheme:
            self.bundle = scheme.trust.bundle
            self.root, self.issuer, self.acquirer = (
                scheme.key(name) for name in ("root", "issuer", "acquirer")
            )
            self.shop_key = self.suite.new_signing_key(self.stream("shop"))
            self.bus_key = self.suite.new_signing_key(self.stream("bus"))
            self.shop = scheme.new_terminal(CLASS_RETAIL, 7, self.shop_key.public, NOW)
            self.bus = scheme.new_terminal(CLASS_TRANSIT, 8, self.bus_key.public, NOW)
            self.identity: CardIdentity
            self.identity, memory = scheme.new_card(TIER, NOW)
        with open_scheme(folder, b"vectors", self.stream("student"), deterministic=True) as scheme:
            self.student, _ = scheme.new_card(TIER, NOW, rider=Rider.STUDENT)
        self.card = Card(self.identity, memory, self.stream("card"))
        self.card.power_on()
        self.number = self.identity.card
        self.scheme = self.bundle.scheme
        self.digest = digest(self.suite, self.identity.certificate)
        self.nonce = b""
        self.entropy = self.stream("terminal")
        self.transaction = 0
        self.sequence = self.balance = self.spent = self.counter = self.orders = 0

    # ------------------------------------------------------------------ writing down

    def add(self, file: str, **vector: object) -> None:
        """One vector into one file."""
        named = {"name": vector.pop("name"), "suite": f"{self.suite.number:02x}"}
        self.files.setdefault(file, []).append(named | vector)

    def signed(self, file: str, name: str, layout: str, by: str, fields: dict[str, str], raw: bytes) -> None:
        """A vector that ends in a signature over all before it."""
        key = self.public_keys()[by]
        body, signature = raw[:-64], raw[-64:]
        self.add(
            file,
            name=name,
            layout=layout,
            type=f"{raw[0]:02x}",
            fields=fields,
            body=body.hex(),
            signature=signature.hex(),
            signed_by=by,
            public_key=key.hex(),
        )

    def public_keys(self) -> dict[str, bytes]:
        """Who signs."""
        return {name: key.public for name, key in self.keys().items()}

    def keys(self) -> dict[str, SigningKey]:
        """All signing keys."""
        return {
            "root": self.root,
            "issuer": self.issuer,
            "acquirer": self.acquirer,
            "shop": self.shop_key,
            "bus": self.bus_key,
            "card": self.identity.signing,
        }

    def send(
        self, name: str, ins: int, data: bytes = b"", p1: int = 0, p2: int = 0, cla: int = 0x80
    ) -> bytes:
        """One command to the card, written down; its data has to come with 9000."""
        command = Command(cla, ins, p1, p2, data, 256).to_bytes()
        reply = self.card.execute(command)
        self.add("exchanges", name=name, ins=f"{ins:02x}", command=command.hex(), reply=reply.hex())
        if reply[-2:] != b"\x90\x00":
            raise RuntimeError(f"{name}: {reply.hex()}")
        return reply[:-2]

    def hashed(self, name: str, parts: list[tuple[str, bytes]], length: int) -> bytes:
        """A value that is the beginning of a hash of parts."""
        value = self.suite.hash(b"".join(part for _, part in parts))[:length]
        self.add("derived", name=name, parts=[[what, part.hex()] for what, part in parts], value=value.hex())
        return value

    # ------------------------------------------------------------------ the story

    def make(self) -> dict[str, list[Vector]]:
        """Everything, in an order in which one card can take it."""
        self.make_keys()
        self.make_certificates()
        self.make_derived()
        self.select("SELECT of a card that was never used")
        self.send("EXCHANGE CERTIFICATES without a terminal's", m.INS_EXCHANGE_CERTIFICATES)
        acquirer = self.bundle.operator(ACQUIRER)
        self.send("INTRODUCE the acquirer", m.INS_INTRODUCE, acquirer.to_bytes())
        shop, bus = self.shop.to_bytes(), self.bus.to_bytes()
        self.send("EXCHANGE CERTIFICATES with the shop's", m.INS_EXCHANGE_CERTIFICATES, shop, p2=1)
        self.send("EXCHANGE CERTIFICATES with the bus's", m.INS_EXCHANGE_CERTIFICATES, bus)
        self.load("load", 60_000)
        self.pay_transit()
        self.pay_retail()
        for refund in self.refunds:
            self.refund(*refund)
        self.change_pin()
        self.pay_with_pin()
        self.make_orders()
        self.load("cancelled load", 0)
        self.make_authorities()
        self.make_denylists()
        return self.files

    def make_keys(self) -> None:
        """Private scalars and public keys."""
        for name, key in self.keys().items():
            self.add("keys", name=name, scalar=key.scalar().hex(), public=key.public.hex())
        student = self.student.signing
        self.add("keys", name="student", scalar=student.scalar().hex(), public=student.public.hex())
        agreement = self.identity.agreement
        self.add("keys", name="agreement", scalar=agreement.scalar().hex(), public=agreement.public.hex())

    def make_certificates(self) -> None:
        """One of every type and class."""
        zero = bytes(4).hex()
        issuer, acquirer = self.bundle.operator(ISSUER), self.bundle.operator(ACQUIRER)
        merchant = {7: (7).to_bytes(4, "big"), 8: (8).to_bytes(4, "big")}
        shop = (ACQUIRER + merchant[7]).hex() + four(1)
        bus = (ACQUIRER + merchant[8]).hex() + four(2)
        card = self.identity.certificate
        rows: list[tuple[str, Certificate, str, str, str, str, str, bytes]] = [
            ("root", self.bundle.root, "root", "c0", "00", zero, "00" * 12, self.root.public),
            (
                "issuing operator",
                issuer,
                "root",
                "c1",
                "01",
                zero,
                ISSUER.hex() + "00" * 8,
                self.issuer.public,
            ),
            (
                *("acquiring operator", acquirer, "root", "c1", "02", zero, ACQUIRER.hex() + "00" * 8),
                self.acquirer.public,
            ),
            (
                "retail terminal",
                self.shop,
                "acquirer",
                "c2",
                "01",
                ACQUIRER.hex(),
                shop,
                self.shop_key.public,
            ),
            ("transit terminal", self.bus, "acquirer", "c2", "02", ACQUIRER.hex(), bus, self.bus_key.public),
            (
                *("card", card, "issuer", "c3", f"{TIER:02x}", ISSUER.hex()),
                *((ISSUER + b"\0\0\0\1").hex() + "00" * 4, self.identity.signing.public),
            ),
            (
                *("card of a student", self.student.certificate, "issuer", "c3", f"1{TIER:x}", ISSUER.hex()),
                *((ISSUER + b"\0\0\0\2").hex() + "00" * 4, self.student.signing.public),
            ),
        ]
        for name, certificate, by, kind, klass, authority, subject, public in rows:
            fields = {
                "type": kind,
                "protocol version": "01",
                "suite": f"{self.suite.number:02x}",
                "class": klass,
                "scheme": self.scheme.hex(),
                "authority that signed": authority,
                "subject": subject,
                "currency": "0156",
                "not before": four(certificate.not_before),
                "not after": four(certificate.not_after),
                "signature public key": public.hex(),
            }
            if kind == "c3":
                owner = self.student if name == "card of a student" else self.identity
                agreement = self.suite.hash(b"\xa0" + owner.agreement.public).hex()
                fields["card certificates only"] = agreement[:32]
            self.signed("certificates", name, "certificate", by, fields, certificate.to_bytes())

    def make_authorities(self) -> None:
        """The root's list while the acquirer's key is rotated, its first certificate revoked by now."""
        issuer, first = self.bundle.operator(ISSUER), self.bundle.operator(ACQUIRER)
        key = self.suite.new_signing_key(self.stream("rotated"))
        beside = first.klass | CLASS_BESIDE
        blank = replace(first, klass=beside, not_before=first.not_before + 1, public=key.public)
        operators = [issuer, first, signed(blank, self.root)]
        revoked = {digest(self.suite, first): NOW + 1}
        raw = authorities.build(self.bundle, 3, NOW + 2, operators, revoked, self.root)
        fields = {
            "F6": "f6",
            "version": "01",
            "suite": f"{self.suite.number:02x}",
            "zero": "00",
            "scheme": self.scheme.hex(),
            "list version": four(3),
            "time": four(NOW + 2),
            "operators": "0003",
            "revoked": "0001",
        }
        self.signed("lists", "authority list", "F6", "root", fields, raw)
        self.files["lists"][-1] |= {
            "operators": [one.to_bytes().hex() for one in operators],
            "revoked": [[named.hex(), four(since)] for named, since in revoked.items()],
        }

    def make_denylists(self) -> None:
        """A whole list, and a change of it."""
        cards = [ISSUER + number.to_bytes(4, "big") for number in (9, 3, 2**32 - 1, 4)]
        full = denylist.build_full(self.suite, self.scheme, ISSUER, 6, NOW + 3, cards[:3], self.issuer)
        held = denylist.parse(full, self.bundle)
        if not isinstance(held, denylist.Denylist):
            raise TypeError("a whole list was made")
        change = denylist.build_delta(
            held, 7, NOW + 4, cards[3:], cards[:1], self.suite, self.scheme, self.issuer
        )
        self.denylist("denylist, whole", full, 6, 0, sorted(cards[:3]), [], sorted(cards[:3]))
        self.denylist("denylist, change", change, 7, 6, cards[3:], cards[:1], sorted(cards[1:]))

    def denylist(
        self,
        name: str,
        raw: bytes,
        version: int,
        base: int,
        added: list[bytes],
        removed: list[bytes],
        result: list[bytes],
    ) -> None:
        """One of them, written down."""
        fields = {
            "F4": "f4",
            "version": "01",
            "suite": f"{self.suite.number:02x}",
            "zero": "00",
            "scheme": self.scheme.hex(),
            "operator": ISSUER.hex(),
            "list version": four(version),
            "base": four(base),
            "time": four(NOW + version - 3),
            "added": four(len(added)),
            "removed": four(len(removed)),
            "cards": four(len(result)),
            "list digest": sha256(b"".join(result)).hexdigest(),
            "file digest": sha256(b"".join(added + removed)).hexdigest(),
        }
        end = denylist.HEADER_LENGTH + 64
        self.signed("lists", name, "F4", "issuer", fields, raw[:end])
        self.files["lists"][-1] |= {"cards": raw[end:].hex(), "result": [card.hex() for card in result]}

    def make_derived(self) -> None:
        """Values that are the beginning of a hash."""
        ours = digest(self.suite, self.identity.certificate)
        named = self.hashed("certificate digest", [("body", self.identity.certificate.body())], 8)
        agreement = self.identity.agreement.public
        bound = self.hashed("agreement digest", [("A0", b"\xa0"), ("agreement public key", agreement)], 16)
        ride = ride_reference(self.suite.hash, Fare(200, b"B042", 20_261_119, 3), self.number)
        parts = [
            ("54", b"\x54"),
            ("vehicle", b"B042"),
            ("service day", (20_261_119).to_bytes(4, "big")),
            ("run", (3).to_bytes(4, "big")),
            ("card", self.number),
        ]
        wanted = self.hashed("transit reference", parts, 12)
        routed = Fare(200, b"B042", 20_261_119, 3, "7\0out")
        further = [("passenger", b"\x02"), ("route", b"7\0out")]
        companion = self.hashed("transit reference of a further passenger", parts + further, 12)
        if companion != ride_reference(self.suite.hash, routed, self.number, 2):
            raise RuntimeError("the code's reference of a further passenger is not that of the page")
        if (named, bound, wanted) != (ours, self.identity.certificate.agreement_digest, ride):
            raise RuntimeError("the code's digests are not those of the page")

    def select(self, name: str) -> None:
        """SELECT; a vector when there is a name for it."""
        answer = self.send(name, m.INS_SELECT, m.AID, 4, cla=0)
        selected = m.parse_selected(answer)
        self.nonce = selected.nonce
        fields = {
            "protocol version": "01",
            "suite": f"{self.suite.number:02x}",
            "application": "01",
            "state": f"{selected.state:02x}",
            "number of unratified entries": f"{selected.unratified:02x}",
            "tier": f"{selected.tier:02x}",
            "scheme": self.scheme.hex(),
            "card": self.number.hex(),
            "certificate digest": self.digest.hex(),
            "currency": "0156",
            "card nonce": selected.nonce.hex(),
        }
        self.add("replies", name=name, layout="SELECT", fields=fields, head="6f2e852c", bytes=answer.hex())

    # ------------------------------------------------------------------ payments

    def sale(self, name: str, terminal: Certificate, reference: bytes, amount_fen: int) -> m.SaleRequest:
        """A sale, written down."""
        self.transaction += 1
        profile = r.RETAIL if terminal.klass == CLASS_RETAIL else r.TRANSIT
        made = m.SaleRequest(
            *(
                self.suite.number,
                terminal.payee,
                reference,
                amount_fen,
                0x0156,
                terminal.terminal,
                self.transaction,
            ),
            *(self.entropy(16), NOW + self.transaction, profile),
        )
        fields = {
            "protocol version": "01",
            "suite": f"{self.suite.number:02x}",
            "application": "01",
            "payee": terminal.payee.hex(),
            "reference": reference.hex(),
            "amount": four(amount_fen),
            "currency": "0156",
            "terminal": terminal.terminal.hex(),
            "terminal transaction number": four(self.transaction),
            "terminal nonce": made.nonce.hex(),
            "terminal time": four(NOW + self.transaction),
            "profile": f"{profile:02x}",
        }
        self.add("sales", name=name, layout="sale", fields=fields, bytes=made.to_bytes().hex())
        return made

    def record(self, name: str, raw: bytes, fields: dict[str, str]) -> None:
        """A record of the card, its fields those that the generator counts itself."""
        kept = {
            "protocol version": "01",
            "suite": f"{self.suite.number:02x}",
            "application": "01",
            "scheme": self.scheme.hex(),
            "card": self.number.hex(),
            "certificate digest of the card": self.digest.hex(),
            "sequence": four(self.sequence),
            "currency": "0156",
            "balance after": four(self.balance),
            "offline total after": four(self.spent),
            "offline count after": f"{self.sequence:04x}",
            "zero": "00",
        }
        self.signed("records", name, "record", "card", {**fields, **kept}, raw)

    def paid(self, name: str, sale: m.SaleRequest, reply: bytes, cvm: int, limit_state: int) -> bytes:
        """The record of a payment, from the sale and the reply."""
        self.sequence += 1
        self.balance -= sale.amount_fen
        self.spent += sale.amount_fen
        head = m.payment_head(self.scheme, self.number, self.digest, self.sequence, sale.to_bytes())
        raw = head + reply[5:17] + b"\0" + reply[17:]
        fields = {
            "type": "d1",
            "payee": sale.payee.hex(),
            "reference": sale.reference.hex(),
            "amount": four(sale.amount_fen),
            "terminal": sale.terminal.hex(),
            "terminal transaction number": four(sale.transaction),
            "terminal nonce": sale.nonce.hex(),
            "terminal time": four(sale.time_s),
            "profile": f"{sale.profile:02x}",
            "how the cardholder was verified": f"{cvm:02x}",
            "limit state": f"{limit_state:02x}",
        }
        self.record(name, raw, fields)
        return raw

    def pay_transit(self) -> None:
        """A ride, asked for twice: paid, already paid, ratified, already paid."""
        fare = Fare(200, b"B042", 20_261_119, 3)
        ride = ride_reference(self.suite.hash, fare, self.number)
        self.select("SELECT before a ride")
        sale = self.sale("ride", self.bus, ride, 200)
        raw = self.paid("payment, transit", sale, self.send("PAY, transit", m.INS_PAY, sale.to_bytes()), 0, 4)
        self.found("already paid, unratified", 2, raw, ride)
        self.send("RATIFY", m.INS_RATIFY, raw[24:28] + raw[-8:])
        self.found("already paid, ratified", 3, raw, ride)
        self.prove(self.bus, self.bus_key)
        self.send("READ RECORD", m.INS_READ_RECORD, raw[24:28])
        self.read_state()
        self.authenticate()

    def authenticate(self) -> None:
        """The card proves itself to the bus."""
        challenge = self.stream("challenge")(16)
        signature = self.send("INTERNAL AUTHENTICATE", m.INS_INTERNAL_AUTHENTICATE, challenge)
        body = m.card_proof_body(
            *(self.suite.number, 0, self.scheme, self.number, self.digest, self.nonce, challenge)
        )
        fields = {
            **self.proof_fields("d5"),
            "state": "00",
            "certificate digest": self.digest.hex(),
            "card nonce": self.nonce.hex(),
            "challenge": challenge.hex(),
        }
        self.signed("proofs", "INTERNAL AUTHENTICATE", "D5", "card", fields, body + signature)

    def found(self, name: str, outcome: int, record: bytes, reference: bytes) -> None:
        """The same ride again, and the card's fresh proof."""
        self.select(f"SELECT before {name}")
        sale = self.sale(f"ride again, {name}", self.bus, reference, 200)
        reply = self.send(f"PAY, {name}", m.INS_PAY, sale.to_bytes())
        if reply[:161] != bytes((outcome,)) + record:
            raise RuntimeError("the card shows another record")
        body = m.already_paid_body(
            *(self.scheme, self.number, self.digest, self.sequence, outcome, sale.to_bytes()),
            self.suite.hash(record[:96]),
        )
        fields = {
            **self.proof_fields("d4"),
            "card's certificate digest": self.digest.hex(),
            "sequence": four(self.sequence),
            "outcome": f"{outcome:02x}",
            "the sale as just sent": sale.to_bytes().hex(),
            "H(body)": self.suite.hash(record[:96]).hex(),
        }
        self.signed("proofs", name, "D4", "card", fields, body + reply[161:])

    def proof_fields(self, kind: str) -> dict[str, str]:
        """What every proof begins with."""
        return {
            kind.upper(): kind,
            "version": "01",
            "suite": f"{self.suite.number:02x}",
            "application": "01",
            "scheme": self.scheme.hex(),
            "card": self.number.hex(),
        }

    def prove(self, terminal: Certificate, key: SigningKey) -> None:
        """PROVE."""
        named = digest(self.suite, terminal)
        body = m.terminal_proof_body(self.suite.number, self.scheme, self.number, self.nonce, named)
        signature = key.sign(body)
        fields = {
            **self.proof_fields("e2"),
            "card nonce": self.nonce.hex(),
            "certificate digest": named.hex(),
        }
        self.signed("proofs", "PROVE", "E2", "bus", fields, body + signature)
        self.send("PROVE", m.INS_PROVE, named + signature)

    def read_state(self) -> None:
        """READ STATE after one load and one ride."""
        raw = self.send("READ STATE", m.INS_READ_STATE)
        fields = {
            "balance": four(self.balance),
            "sequence": four(self.sequence),
            "acknowledged sequence": four(0),
            "spent total": four(self.spent),
            "acknowledged total": four(0),
            "load counter": four(self.counter),
            "order number": four(0),
            "date floor": four(NOW + 1),
            "transit count": "00",
            "transit amount": four(0),
            "flags as in SELECT": "00",
            "unratified": "00",
            "tries": "03",
            "limits": tiers()[TIER].limits.to_bytes().hex(),
            "tier": f"{TIER:02x}",
            "currency": "0156",
            "zero": "000000",
        }
        self.add("replies", name="READ STATE", layout="READ STATE", fields=fields, head="", bytes=raw.hex())

    def retail_data(self, name: str, sale: m.SaleRequest, part: bytes = b"") -> bytes:
        """The data of a retail PAY, and the terminal's proof in it."""
        named = digest(self.suite, self.shop)
        raw = sale.to_bytes()
        body = m.retail_proof_body(self.scheme, self.number, self.nonce, named, raw, part)
        signature = self.shop_key.sign(body)
        fields = {
            **self.proof_fields("e1"),
            "card nonce": self.nonce.hex(),
            "digest": named.hex(),
            "sale": raw.hex(),
        }
        if part:
            fields |= {"ephemeral key": part[:64].hex(), "PIN block": part[64:].hex()}
        self.signed("proofs", name, "E1", "shop", fields, body + signature)
        return raw + named + part + signature

    def retail_reference(self) -> bytes:
        """Time, transaction number, random."""
        return (
            (NOW + self.transaction + 1).to_bytes(4, "big")
            + four_bytes(self.transaction + 1)
            + self.entropy(4)
        )

    def pay_retail(self) -> None:
        """A purchase without a PIN."""
        self.select("SELECT before a purchase")
        sale = self.sale("purchase", self.shop, self.retail_reference(), 1_250)
        data = self.retail_data("retail proof", sale)
        raw = self.paid("payment, retail", sale, self.send("PAY, retail", m.INS_PAY, data), 0, 0)
        self.send("RATIFY in retail", m.INS_RATIFY, raw[24:28] + raw[-8:])
        self.refunds = [("first", raw, 0, 500), ("rest", raw, 500, 1_250)]

    def refund(self, name: str, payment: bytes, before_fen: int, total_fen: int) -> None:
        """A part of a payment given back, up to a total."""
        self.select(f"SELECT before the refund, {name}")
        self.transaction += 1
        sequence = int.from_bytes(payment[24:28], "big")
        time_s = NOW + self.transaction
        wanted = m.RefundRequest(sequence, total_fen, self.transaction, self.entropy(16), time_s)
        named = digest(self.suite, self.shop)
        body = m.refund_order_body(
            self.suite.number, self.scheme, self.number, self.nonce, named, wanted.to_bytes()
        )
        signature = self.shop_key.sign(body)
        order = {
            **self.proof_fields("e4"),
            "card nonce": self.nonce.hex(),
            "certificate digest": named.hex(),
            "sequence": four(sequence),
            "total": four(total_fen),
            "transaction": four(self.transaction),
            "nonce": wanted.nonce.hex(),
            "time": four(time_s),
        }
        self.signed("orders", f"refund order, {name}", "E4", "shop", order, body + signature)
        reply = self.send(f"REFUND, {name}", m.INS_REFUND, wanted.to_bytes() + named + signature)
        self.sequence += 1
        self.balance += total_fen - before_fen
        receipt = {
            "type": "d3",
            "payee": self.shop.payee.hex(),
            "reference": four(sequence) + four(total_fen) + "00" * 4,
            "amount": four(total_fen - before_fen),
            "terminal": self.shop.terminal.hex(),
            "terminal transaction number": four(self.transaction),
            "terminal nonce": wanted.nonce.hex(),
            "terminal time": four(time_s),
            "profile": "02",
            "how the cardholder was verified": "00",
            "limit state": "00",
        }
        self.record(f"receipt of the refund, {name}", reply[1:], receipt)
        self.send(f"READ RECORD, refunded, {name}", m.INS_READ_RECORD, four_bytes(sequence), p1=2)
        self.send(f"RATIFY, refund, {name}", m.INS_RATIFY, reply[25:29] + reply[-8:])

    # ------------------------------------------------------------------ PINs

    def change_pin(self) -> None:
        """The first PIN, then another one."""
        for name, old, new in (("first PIN", "", NEW_PIN), ("change of PIN", NEW_PIN, PIN)):
            self.select(f"SELECT before the {name}")
            ephemeral = self.suite.new_agreement_key(self.stream(name))
            key = self.pin_key(name, b"\xa2", ephemeral, self.nonce)
            blocks = [
                self.pin_block(f"{name}, old block", key, old, self.nonce[:8]),
                self.pin_block(f"{name}, new block", key, new, self.nonce[8:]),
            ]
            self.send(f"CHANGE PIN, {name}", m.INS_CHANGE_PIN, ephemeral.public + b"".join(blocks))

    def pay_with_pin(self) -> None:
        """A purchase above the PIN-free amount."""
        self.select("SELECT before a purchase with a PIN")
        sale = self.sale("purchase with a PIN", self.shop, self.retail_reference(), 38_000)
        ephemeral = self.suite.new_agreement_key(self.stream("ephemeral"))
        key = self.pin_key(
            "PIN in PAY", b"\xa1", ephemeral, self.suite.hash(sale.to_bytes()), sale.to_bytes()
        )
        block = self.pin_block("PIN in PAY, block", key, PIN, self.nonce[:8])
        data = self.retail_data("retail proof with a PIN", sale, ephemeral.public + block)
        self.paid("payment, retail, PIN", sale, self.send("PAY, retail, PIN", m.INS_PAY, data), 1, 1)

    def pin_key(
        self, name: str, prefix: bytes, ephemeral: AgreementKey, bound: bytes, sale: bytes = b""
    ) -> bytes:
        """The key of a PIN block and every value on the way to it."""
        shared = ephemeral.shared(self.identity.agreement.public)
        key = self.suite.hash(prefix + shared + bound)[:16]
        self.add(
            "pin",
            name=f"{name}, key",
            ephemeral_scalar=ephemeral.scalar().hex(),
            ephemeral_public=ephemeral.public.hex(),
            agreement_scalar=self.identity.agreement.scalar().hex(),
            agreement_public=self.identity.agreement.public.hex(),
            X=shared.hex(),
            prefix=prefix.hex(),
            sale=sale.hex(),
            bound=bound.hex(),
            K=key.hex(),
        )
        return key

    def pin_block(self, name: str, key: bytes, pin: str, n: bytes) -> bytes:
        """One block, clear and encrypted."""
        field = m.pin_field(pin)
        block = self.suite.encrypt_block(key, field + n)
        self.add(
            "pin",
            name=name,
            pin=pin,
            field=field.hex(),
            n=n.hex(),
            K=key.hex(),
            clear=(field + n).hex(),
            block=block.hex(),
        )
        return block

    # ------------------------------------------------------------------ the issuer

    def order_fields(self, kind: str) -> dict[str, str]:
        """What both kinds of order begin with."""
        return {
            kind.upper(): kind,
            "version": "01",
            "suite": f"{self.suite.number:02x}",
            "application": "01",
            "scheme": self.scheme.hex(),
            "operator": ISSUER.hex(),
            "card": self.number.hex(),
        }

    def load(self, name: str, amount_fen: int) -> None:
        """A load and its receipt."""
        self.select(f"SELECT before the {name}")
        self.counter += 1
        reply = self.send(f"LOAD CHALLENGE, {name}", m.INS_LOAD_CHALLENGE)
        parts = [("A3", b"\xa3"), ("card secret", self.identity.secret), ("n + 1", four_bytes(self.counter))]
        challenge = self.hashed(f"load challenge, {name}", parts, 16)
        if reply != four_bytes(self.counter - 1) + challenge:
            raise RuntimeError("the card's challenge is not that of the page")
        acknowledged = (self.sequence, self.spent) if self.counter > 1 else (0, 0)
        order = m.LoadOrder(
            *(self.suite.number, self.scheme, ISSUER, self.number, self.counter, amount_fen, 0x0156),
            *(*acknowledged, challenge, NOW + self.counter),
        )
        raw = order.body() + self.issuer.sign(order.body())
        fields = {
            **self.order_fields("f1"),
            "load counter": four(self.counter),
            "amount": four(amount_fen),
            "currency": "0156",
            "acknowledged sequence": four(acknowledged[0]),
            "acknowledged total": four(acknowledged[1]),
            "challenge": challenge.hex(),
            "time": four(NOW + self.counter),
        }
        self.signed("orders", f"order of the {name}", "F1", "issuer", fields, raw)
        answer = self.send(f"LOAD, {name}", m.INS_LOAD, raw)
        self.sequence += 1
        self.balance += amount_fen
        receipt = {
            "type": "d2",
            "payee": ISSUER.hex() + "00" * 4,
            "reference": four(self.counter) + "00" * 8,
            "amount": four(amount_fen),
            "terminal": "00" * 4,
            "terminal transaction number": "00" * 4,
            "terminal nonce": challenge.hex(),
            "terminal time": four(NOW + self.counter),
            "profile": "00",
            "how the cardholder was verified": "00",
            "limit state": "00",
        }
        if acknowledged[0]:
            spent, sequence = self.spent, self.sequence
            self.record_acknowledged(
                f"receipt of the {name}", answer[1:], receipt, sequence - acknowledged[0]
            )
            self.spent = spent
        else:
            self.record(f"receipt of the {name}", answer[1:], receipt)
        self.send(f"RATIFY, {name}", m.INS_RATIFY, answer[25:29] + answer[-8:])

    def record_acknowledged(self, name: str, raw: bytes, fields: dict[str, str], count: int) -> None:
        """A record after everything before it was acknowledged."""
        before = len(self.files["records"])
        self.record(name, raw, fields)
        vector = self.files["records"][before]
        vector["fields"] |= {"offline total after": four(0), "offline count after": f"{count:04x}"}

    def make_orders(self) -> None:
        """One of each kind."""
        limits = replace(tiers()[TIER].limits, single_fen=40_000)
        values = [
            ("acknowledge", m.KIND_ACKNOWLEDGE, four_bytes(self.sequence - 1) + four_bytes(1_450)),
            ("limits", m.KIND_LIMITS, limits.to_bytes() + bytes((TIER,))),
            ("block", m.KIND_BLOCK, b""),
            ("unblock", m.KIND_UNBLOCK, b""),
        ]
        self.select("SELECT before orders")
        for name, kind, value in values:
            self.orders += 1
            order = m.CardOrder(
                self.suite.number,
                self.scheme,
                ISSUER,
                self.number,
                self.orders,
                NOW + self.orders,
                kind,
                value,
            )
            raw = order.body() + self.issuer.sign(order.body())
            fields = {
                **self.order_fields("f2"),
                "order number": four(self.orders),
                "time": four(NOW + self.orders),
                "kind": f"{kind:02x}",
                "value": value.ljust(32, b"\0").hex(),
            }
            self.signed("orders", f"order to {name}", "F2", "issuer", fields, raw)
            self.send(f"ORDER, {name}", m.INS_ORDER, raw)


def four_bytes(value: int) -> bytes:
    """A 4-byte number."""
    return value.to_bytes(4, "big")


def make(suite: int) -> dict[str, list[Vector]]:
    """Every file's vectors, in a suite."""
    with tempfile.TemporaryDirectory() as folder:
        return Maker(Path(folder), suite).make()


def text(vectors: list[Vector]) -> str:
    """A file's content."""
    return json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    for suite, folder in FOLDERS.items():
        for name, vectors in make(suite).items():
            (folder / f"{name}.json").write_text(text(vectors), encoding="utf-8")


if __name__ == "__main__":
    main()
