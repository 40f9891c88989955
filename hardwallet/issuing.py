"""A scheme and what it issues: root, operators, terminals' certificates, cards and loads; journalled, so that
it resumes.

    DIR/scheme.json      public: scheme, suite, currency, root and operator certificates
    DIR/keys/*.json      root, issuer and acquirer keys, sealed (hardwallet/keys.py, hardwallet/rotation.py)
    DIR/issuing.jsonl    the journal: each line is on the disk before the step that it announces
    DIR/denylist.bin     what the issuer publishes (hardwallet/publishing.py)
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from firmware_bridge.link import CardLink
from hardwallet import authorities
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet.card.identity import CardIdentity
from hardwallet.card.memory import MAX_TRIES, OPERATOR_PLACES, CardMemory, fresh_state
from hardwallet.certificates import (
    CARD,
    CLASS_ACQUIRING,
    CLASS_ISSUING,
    CURRENCY_CNY,
    OPERATOR,
    ROOT,
    ROOT_AUTHORITY,
    TERMINAL,
    Certificate,
    TrustBundle,
    agreement_digest,
    parse,
    signed,
)
from hardwallet.denylist import Header
from hardwallet.errors import CardRefused, IssuingError, WalletError
from hardwallet.journalled import IssuingJournal, write_durably
from hardwallet.keys import seal
from hardwallet.limits import tiers
from hardwallet.publishing import DenylistDesk, OrderDesk, Published
from hardwallet.riders import Rider, class_byte
from hardwallet.rotation import KeyRing
from hardwallet.session import KnownCard, WalletSession
from hardwallet.suites import Entropy, SigningKey, Suite, suite_by_number

YEAR_S: Final = 365 * 24 * 3600
ROOT_YEARS: Final = 20
OPERATOR_YEARS: Final = 10
CARD_YEARS: Final = 5
TERMINAL_YEARS: Final = 3
ISSUER: Final = bytes.fromhex("00000101")
ACQUIRER: Final = bytes.fromhex("00000201")
SCHEME_FILE: Final = "scheme.json"
JOURNAL: Final = "issuing.jsonl"
_MAX_SCHEME_FILE: Final = 65_536
MAX_RETURNS: Final = 32
"""The payments that one load order puts back on its card; their line has to fit the journal."""


class _SchemeFile(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """scheme.json; certificates as hex. `authorities` is the authority list that the operators are from, as
    hex; nothing before there is one."""

    version: int
    suite: int
    name: str
    root: str
    operators: list[str]
    authorities: str = ""


@dataclass(frozen=True, slots=True)
class Trust:
    """What everybody in a scheme may know: its name, and root and operators, verified."""

    name: str
    suite: Suite
    bundle: TrustBundle

    def to_bytes(self) -> bytes:
        """The content of scheme.json, any length."""
        operators = [operator.to_bytes().hex() for operator in self.bundle.operators]
        root, held = self.bundle.root.to_bytes().hex(), self.bundle.authorities.hex()
        file = _SchemeFile(1, self.suite.number, self.name, root, operators, held)
        return msgspec.json.format(msgspec.json.encode(file)) + b"\n"


def parse_trust(raw: bytes, where: str, *, deterministic: bool = False) -> Trust:
    """The content of a scheme.json (any length), its certificates verified. Raises IssuingError, naming
    `where`."""
    try:
        if len(raw) > _MAX_SCHEME_FILE:
            raise msgspec.DecodeError("too long")
        file = msgspec.json.decode(raw, type=_SchemeFile)
        if file.version != 1:
            raise IssuingError(f"{where} is of version {file.version}; this program knows version 1")
        suite = suite_by_number(file.suite, deterministic=deterministic)
        bundle = TrustBundle(
            suite, parse(bytes.fromhex(file.root)), [parse(bytes.fromhex(text)) for text in file.operators]
        )
        if file.authorities:
            bundle.update(authorities.parse(bytes.fromhex(file.authorities), bundle))
            if [one.to_bytes().hex() for one in bundle.operators] != file.operators:
                raise IssuingError(f"in {where} the operators are not those of its authority list")
    except (msgspec.DecodeError, ValueError):
        raise IssuingError(f"{where} is not a scheme's file, or is damaged") from None
    except IssuingError:
        raise
    except WalletError as error:
        raise IssuingError(f"{where} can't be trusted: {error}") from None
    return Trust(file.name, suite, bundle)


class Scheme:
    """An open scheme folder: it signs certificates and orders. Close it when done.

    `now` is seconds since 1970 throughout.
    """

    def __init__(
        self, folder: Path, trust: Trust, passphrase: bytes, journal: IssuingJournal, entropy: Entropy
    ) -> None:
        self.folder = folder
        self.trust = trust
        self._journal = journal
        self._entropy = entropy
        bundle = trust.bundle
        names = {"issuer": ISSUER, "acquirer": ACQUIRER}
        self._ring = KeyRing(folder, bundle, names, passphrase, journal, entropy, self._keep_trust)
        self._denylist = DenylistDesk(folder, bundle, ISSUER, journal, lambda: self.key("issuer"))
        self._orders = OrderDesk(bundle, ISSUER, journal, lambda: self.key("issuer"))

    def _keep_trust(self) -> None:
        write_durably(self.folder / SCHEME_FILE, self.trust.to_bytes(), mode=0o644)

    def close(self) -> None:
        """Let the journal's lock go."""
        self._journal.close()

    # ------------------------------------------------------------------ keys and trust

    def key(self, name: str) -> SigningKey:
        """The key `root`, `issuer` or `acquirer`: of an operator the newest, which signs. Raises
        IssuingError."""
        return self._ring.key(name)

    def clearing_keys(self) -> dict[bytes, SigningKey]:
        """What clearing signs with: the acquirer's newest key by the operator's number (4 bytes), and every
        key of it that is not revoked by its public key (64 bytes). A terminal gets its receipts signed with
        the key that signed its certificate, which it knows."""
        keys = self._ring.keys("acquirer")
        return {ACQUIRER: next(iter(keys.values())), **keys}

    def authorities(self, now: int) -> bytes:
        """The authority list in force (hardwallet/authorities.py); the first is made where there is none."""
        return self._ring.authorities(now)

    def rotate(self, name: str, now: int, *, compromised: bool = False) -> Certificate:
        """A new key for the operator `issuer` or `acquirer`, which signs from now on; its certificate.

        The older ones stay good until they are revoked; `compromised` revokes them at once. Raises
        IssuingError.
        """
        return self._ring.rotate(name, OPERATOR_YEARS * YEAR_S, now, compromised=compromised)

    def revoke(self, named: bytes, now: int) -> Certificate:
        """Revoke the operator's certificate with that digest (8 bytes). Raises IssuingError."""
        return self._ring.revoke(named, now)

    # ------------------------------------------------------------------ what the issuer publishes

    def publish_denylist(self, add: Iterable[bytes], remove: Iterable[bytes], now: int) -> Published:
        """The next denylist: cards (8 bytes each) added and removed. Without any, the same list dated `now`.

        Raises IssuingError, DenylistRefused (a card of another issuer, too many): nothing was published.
        """
        return self._denylist.publish(add, remove, now)

    def denylist(self, now: int) -> bytes:
        """The denylist in force, whole; the first, an empty one, is made where there is none."""
        return self._denylist.full(now)

    def denylist_deltas(self) -> Iterator[bytes]:
        """Each change of the denylist, oldest first."""
        return self._denylist.deltas()

    def denied_cards(self) -> list[bytes]:
        """The cards (8 bytes each) on the denylist in force."""
        return self._denylist.cards()

    def denylist_header(self) -> Header | None:
        """The header of the denylist in force; None before there is one."""
        return self._denylist.header()

    def card_order(self, card: bytes, kind: int, value: bytes, now: int) -> bytes:
        """The next order (125 bytes) to a card (8 bytes): `kind` one of KIND_ACKNOWLEDGE, KIND_LIMITS,
        KIND_BLOCK, KIND_UNBLOCK of hardwallet.messages; `value` for the first two is made by
        hardwallet.publishing.acknowledge_value and limits_value.

        Its number is above every earlier one of that card, and journalled first. Raises IssuingError,
        Malformed.
        """
        return self._orders.order(card, kind, value, now)

    def card_orders(self, *, superseded: bool = False) -> Iterator[bytes]:
        """The orders to cards, oldest first; those that a later one undoes only when `superseded`."""
        return self._orders.orders(superseded=superseded)

    # ------------------------------------------------------------------ terminals

    def new_terminal(self, klass: int, merchant: int, public: bytes, now: int) -> Certificate:
        """A certificate for a terminal of a merchant (1 to 2^32 - 1) with that public key (64 bytes). Raises
        IssuingError."""
        if not 1 <= merchant <= 0xFFFFFFFF:
            raise IssuingError("a merchant has a number from 1 to 4294967295")
        number = self._next("terminal")
        certificate = self._certificate(
            TERMINAL,
            klass,
            ACQUIRER,
            ACQUIRER + merchant.to_bytes(4, "big") + number,
            now,
            TERMINAL_YEARS,
            public,
        )
        made = signed(certificate, self.key("acquirer"))
        self._journal.append(
            {"kind": "terminal", "number": number.hex(), "certificate": made.to_bytes().hex()}
        )
        return made

    def renew_terminal(self, old: Certificate, now: int) -> Certificate:
        """A new certificate, by the acquirer's newest key, for a terminal that this scheme has made: same
        payee, number and key. Raises IssuingError for any other."""
        if not self._is_made_here(old):
            raise IssuingError("that terminal's certificate is not from this scheme; make the terminal anew")
        wanted = (TERMINAL, old.klass, ACQUIRER, old.subject, now, TERMINAL_YEARS, old.public)
        made = signed(self._certificate(*wanted), self.key("acquirer"))
        self._journal.append(
            {"kind": "renewal", "number": old.terminal.hex(), "certificate": made.to_bytes().hex()}
        )
        return made

    def _is_made_here(self, terminal: Certificate) -> bool:
        raw = terminal.to_bytes().hex()
        return any(
            line["kind"] in ("terminal", "renewal") and line["certificate"] == raw
            for line in self._journal.lines
        )

    # ------------------------------------------------------------------ cards

    def new_card(
        self, tier: int, now: int, *, balance_fen: int = 0, rider: Rider = Rider.ADULT
    ) -> tuple[CardIdentity, CardMemory]:
        """Identity and memory of a new card, not yet loaded; its number is journalled before it exists.

        `balance_fen` is what it is going to be loaded with: kept, so that issuing can be resumed. `rider` is
        certified: buses charge by it. Raises IssuingError.
        """
        known = tiers()
        if tier not in known:
            raise IssuingError(f"there is no tier {tier}; the tiers are {', '.join(map(str, sorted(known)))}")
        if balance_fen > known[tier].limits.balance_cap_fen:
            raise IssuingError("the balance is above what a card of this tier may hold")
        suite = self.trust.suite
        number = ISSUER + self._next("card")
        signing, agreement = suite.new_signing_key(self._entropy), suite.new_agreement_key(self._entropy)
        klass = class_byte(tier, rider)
        blank = self._certificate(CARD, klass, ISSUER, number + bytes(4), now, CARD_YEARS, signing.public)
        certificate = signed(
            replace(blank, agreement_digest=agreement_digest(suite, agreement.public)),
            self.key("issuer"),
        )
        self._journal.append(
            {
                "kind": "card",
                "number": number[4:].hex(),
                "certificate": certificate.to_bytes().hex(),
                "balance_fen": balance_fen,
            }
        )
        bundle = self.trust.bundle
        identity = CardIdentity(
            suite, certificate, bundle.root, signing, agreement, self._entropy(16), self._entropy(16)
        )
        # The scheme's operators of today are on the card from the start; later ones introduce themselves.
        others = dict.fromkeys(one.operator for one in bundle.operators if one.operator != ISSUER)
        current = [one for number in others for one in bundle.current(number)[:2]]
        operators = [bundle.operator(ISSUER), *current][:OPERATOR_PLACES]
        floor = max(operator.not_before for operator in operators)
        memory = CardMemory(fresh_state(known[tier].limits, tier, floor, len(operators)).to_bytes())
        for place, operator in enumerate(operators):
            memory.write_operator(place, operator.body())
        memory.write_tries(MAX_TRIES)
        return identity, memory

    def wanted_balance_fen(self, card: bytes) -> int | None:
        """What a card (8 bytes) was to be loaded with when it was issued here; None for a card of others."""
        for line in self._journal.lines:
            if line["kind"] == "card" and ISSUER + bytes.fromhex(line["number"]) == card:
                return int(line["balance_fen"])
        return None

    # ------------------------------------------------------------------ loads

    def load(
        self,
        link: CardLink,
        amount_fen: int,
        now: int,
        acknowledged: tuple[int, int] = (0, 0),
        returns: Sequence[r.Owed] = (),
    ) -> r.Record:
        """Load the card behind `link`; its receipt. An order that was cut off before is finished first,
        and is this load when the amount is the same.

        `acknowledged`: sequence and total up to which clearing holds everything. `returns`: at most
        MAX_RETURNS payments that go back to the card; the order is for `amount_fen` and for them. Raises
        IssuingError, also for a return that another order holds; WalletError, and link errors: after those,
        calling again finishes the same order.
        """
        session, card = self._open(link, now)
        finished = self._finish(session, card)
        if finished is not None:
            held = self.returns_of(finished)
            new_fen = finished.amount_fen - sum(one.amount_fen for one in held)
            if finished.amount_fen and new_fen == amount_fen:
                return finished
            returns = [one for one in returns if one not in held]
        self._check_returns(card.certificate.card, returns)
        counter, challenge = session.load_challenge()
        blank = m.LoadOrder(
            self.trust.suite.number,
            self.trust.bundle.scheme,
            ISSUER,
            card.certificate.card,
            counter + 1,
            amount_fen + sum(one.amount_fen for one in returns),
            self.trust.bundle.currency,
            *acknowledged,
            challenge,
            now,
        )
        return self._send_or_cancel(session, card, self._order(blank, returns))

    def _check_returns(self, card: bytes, returns: Sequence[r.Owed]) -> None:
        """That no order holds one of these yet, but for one that was cancelled. Raises IssuingError."""
        if len(returns) > MAX_RETURNS:
            raise IssuingError(f"at most {MAX_RETURNS} payments go back with one load; load the others next")
        if len({one[:2] for one in returns}) != len(returns) or any(one.amount_fen < 1 for one in returns):
            raise IssuingError("a payment goes back once, and by more than nothing")
        taken = self._claimed(card)
        for one in returns:
            if one[:2] in taken:
                raise IssuingError(
                    f"load {taken[one[:2]]} of this card returns its payment {one.sequence} already"
                )

    def _claimed(self, card: bytes) -> dict[tuple[int, bytes], int]:
        """The payments that orders of a card return, with the counters of those orders; what was cancelled
        is free again.
        """
        receipts = {
            line["counter"]: r.parse(bytes.fromhex(line["record"])).amount_fen
            for line in self._journal.lines
            if line["kind"] == "receipt" and line["card"] == card.hex()
        }
        taken: dict[tuple[int, bytes], int] = {}
        for line in self._journal.lines:
            if line["kind"] == "load" and line["card"] == card.hex() and "returns" in line:
                order = m.parse_load_order(bytes.fromhex(line["order"]))
                if receipts.get(order.counter, order.amount_fen) == order.amount_fen:
                    taken.update((one[:2], order.counter) for one in _returns_in(line))
        return taken

    def returns_of(self, receipt: r.Record) -> list[r.Owed]:
        """The payments that went back to the card with the load of this receipt."""
        for line in self._journal.lines:
            if line["kind"] == "load" and line["card"] == receipt.card.hex():
                order = m.parse_load_order(bytes.fromhex(line["order"]))
                if (order.counter, order.amount_fen) == (r.load_counter(receipt), receipt.amount_fen):
                    return _returns_in(line)
        return []

    def _send_or_cancel(self, session: WalletSession, card: KnownCard, raw: bytes) -> r.Record:
        """Only an order of zero for the same counter makes sure that a refused one is never applied later."""
        try:
            return self._send(session, card, raw)
        except CardRefused:
            order = m.parse_load_order(raw)
            if order.amount_fen:
                # Without its acknowledgement: for that the card would refuse this one too.
                cancel = replace(order, amount_fen=0, acknowledged_sequence=0, acknowledged_fen=0)
                self._send(session, card, self._order(cancel))
            raise

    def _order(self, order: m.LoadOrder, returns: Sequence[r.Owed] = ()) -> bytes:
        raw = order.body() + self.key("issuer").sign(order.body())
        line = {"kind": "load", "card": order.card.hex(), "counter": order.counter, "order": raw.hex()}
        if returns:
            line["returns"] = [[one.sequence, one.body_digest.hex(), one.amount_fen] for one in returns]
        self._journal.append(line)
        return raw

    def finish_load(self, link: CardLink, now: int) -> r.Record | None:
        """Finish the order that was cut off, if there is one; its receipt."""
        return self._finish(*self._open(link, now))

    def _open(self, link: CardLink, now: int) -> tuple[WalletSession, KnownCard]:
        session = WalletSession(link, self.trust.suite)
        selected = session.select()
        if selected.scheme != self.trust.bundle.scheme:
            raise IssuingError(f"the card belongs to scheme {selected.scheme.hex()}, not to this one")
        return session, session.exchange_certificates(self.trust.bundle, now)

    def _finish(self, session: WalletSession, card: KnownCard) -> r.Record | None:
        raw = self._open_order(card.certificate.card)
        return None if raw is None else self._send_or_cancel(session, card, raw)

    def _open_order(self, card: bytes) -> bytes | None:
        """The last order of a card whose counter has no receipt yet."""
        orders: dict[int, bytes] = {}
        for line in self._journal.lines:
            if line["kind"] == "load" and line["card"] == card.hex():
                orders[line["counter"]] = bytes.fromhex(line["order"])
            elif line["kind"] == "receipt" and line["card"] == card.hex():
                orders.pop(line["counter"], None)
        return orders[max(orders)] if orders else None

    def _send(self, session: WalletSession, card: KnownCard, raw: bytes) -> r.Record:
        record = session.load(raw, card, self.trust.bundle)
        self._journal.append(
            {
                "kind": "receipt",
                "card": record.card.hex(),
                "counter": r.load_counter(record),
                "record": record.raw.hex(),
            }
        )
        session.ratify(record)
        return record

    def orders(self) -> Iterator[bytes]:
        """Every load order (122 bytes), oldest first."""
        for order, _ in self.load_orders():
            yield order

    def load_orders(self) -> Iterator[tuple[bytes, list[r.Owed]]]:
        """Every load order (122 bytes) with the payments that it puts back on its card, oldest first."""
        for line in self._journal.lines:
            if line["kind"] == "load":
                yield bytes.fromhex(line["order"]), _returns_in(line)

    def receipts(self) -> Iterator[tuple[bytes, bytes]]:
        """Every load receipt (160 bytes) with its card's certificate (178 bytes), oldest first."""
        certificates = {
            ISSUER + bytes.fromhex(line["number"]): bytes.fromhex(line["certificate"])
            for line in self._journal.lines
            if line["kind"] == "card"
        }
        for line in self._journal.lines:
            if line["kind"] == "receipt":
                raw = bytes.fromhex(line["record"])
                yield raw, certificates[raw[8:16]]

    # ------------------------------------------------------------------ shared

    def _next(self, kind: str) -> bytes:
        """The next free number, 4 bytes."""
        taken = sum(1 for line in self._journal.lines if line["kind"] == kind)
        return (taken + 1).to_bytes(4, "big")

    def _certificate(
        self, kind: int, klass: int, authority: bytes, subject: bytes, now: int, years: int, public: bytes
    ) -> Certificate:
        bundle = self.trust.bundle
        end = min(now + years * YEAR_S, bundle.operator(authority).not_after)
        return Certificate(
            kind,
            bundle.suite.number,
            klass,
            bundle.scheme,
            authority,
            subject,
            bundle.currency,
            now,
            end,
            public,
        )


def _returns_in(line: dict[str, Any]) -> list[r.Owed]:
    """The payments that the order in a line of the journal puts back on its card."""
    return [
        r.Owed(sequence, bytes.fromhex(digest), amount_fen)
        for sequence, digest, amount_fen in line.get("returns", [])
    ]


def create_scheme(
    folder: Path,
    name: str,
    suite: Suite,
    passphrase: bytes,
    now: int,
    entropy: Entropy,
    *,
    sealing_cost: int | None = None,
) -> Trust:
    """A new scheme in `folder`: root, one issuing and one acquiring operator. Whole or not at all. `now` is
    seconds since 1970, the passphrase has any length. `sealing_cost`: see hardwallet.keys.seal.

    Raises IssuingError when the folder holds a scheme already, or can't be written.
    """
    if (folder / SCHEME_FILE).exists():
        raise IssuingError(f"{folder} holds a scheme already")
    scheme = entropy(4)
    keys = {name: suite.new_signing_key(entropy) for name in ("root", "issuer", "acquirer")}
    begin = now - 24 * 3600  # a clock that is a little behind must not refuse a fresh scheme

    def certificate(kind: int, klass: int, subject: bytes, years: int, public: bytes) -> Certificate:
        blank = Certificate(
            *(kind, suite.number, klass, scheme, ROOT_AUTHORITY, subject, CURRENCY_CNY),
            *(begin, begin + years * YEAR_S, public),
        )
        return signed(blank, keys["root"])

    operators = [
        certificate(OPERATOR, CLASS_ISSUING, ISSUER + bytes(8), OPERATOR_YEARS, keys["issuer"].public),
        certificate(OPERATOR, CLASS_ACQUIRING, ACQUIRER + bytes(8), OPERATOR_YEARS, keys["acquirer"].public),
    ]
    root = certificate(ROOT, 0, bytes(12), ROOT_YEARS, keys["root"].public)
    trust = Trust(name, suite, TrustBundle(suite, root, operators))
    try:
        (folder / "keys").mkdir(parents=True, exist_ok=True, mode=0o700)
        for key_name, key in keys.items():
            sealed = seal(key, suite, passphrase, entropy, sealing_cost)
            write_durably(folder / "keys" / f"{key_name}.json", sealed)
        write_durably(folder / SCHEME_FILE, trust.to_bytes(), mode=0o644)
    except OSError as error:
        raise IssuingError(f"{folder} can't be written: {error.strerror}") from None
    return trust


def read_trust(folder: Path, *, deterministic: bool = False) -> Trust:
    """The public part of a scheme folder. Raises IssuingError."""
    path = folder / SCHEME_FILE
    try:
        raw = path.read_bytes()
    except OSError:
        raise IssuingError(f"{folder} holds no scheme; `hardwallet scheme init {folder}` makes one") from None
    return parse_trust(raw, str(path), deterministic=deterministic)


@contextlib.contextmanager
def open_scheme(
    folder: Path, passphrase: bytes, entropy: Entropy, *, deterministic: bool = False
) -> Iterator[Scheme]:
    """A scheme folder, opened for issuing and closed afterwards; the passphrase has any length. Raises
    IssuingError."""
    trust = read_trust(folder, deterministic=deterministic)
    journal = IssuingJournal(folder / JOURNAL)
    try:
        yield Scheme(folder, trust, passphrase, journal, entropy)
    finally:
        journal.close()
