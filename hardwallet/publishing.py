"""What an issuer publishes: its denylist, and its orders to single cards. All of it is in the issuing journal
before it is given out, so that no version and no order number is ever used twice.

    DIR/denylist.bin            the list that was published last, whole
    DIR/denylist.next           the one that is being published: in force once the journal names it
    DIR/denylist-deltas/N.bin   what makes version N out of the one before
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from hardwallet import denylist
from hardwallet import messages as m
from hardwallet.certificates import CLASS_ISSUING, TrustBundle
from hardwallet.denylist import Delta, Denylist, Header
from hardwallet.errors import CertificateRefused, IssuingError, SignatureInvalid
from hardwallet.journalled import IssuingJournal, write_durably
from hardwallet.limits import Limits, parse_limits
from hardwallet.suites import SIGNATURE_LENGTH, SigningKey

DENYLIST: Final = "denylist.bin"
DELTAS: Final = "denylist-deltas"
_NEXT: Final = "denylist.next"
_CARD_LENGTH: Final = 8
_MAX_NUMBER: Final = 0xFFFFFFFF
_BLOCKING: Final = {m.KIND_UNBLOCK: m.KIND_BLOCK}  # each of the two undoes the other: one state


@dataclass(frozen=True, slots=True)
class Published:
    """A denylist that was published: whole, and as the change from the version before where there was one;
    each the bytes of a file."""

    full: bytes
    delta: bytes | None
    version: int


def acknowledge_value(sequence: int, total_fen: int) -> bytes:
    """The value of an order to acknowledge: everything up to `sequence`, `total_fen` paid in all. 8 bytes."""
    return sequence.to_bytes(4, "big") + total_fen.to_bytes(4, "big")


def limits_value(limits: Limits, tier: int) -> bytes:
    """The value of an order that sets limits and tier. 24 bytes."""
    return limits.to_bytes() + bytes((tier,))


class DenylistDesk:
    """Publishes one issuer's denylist."""

    def __init__(
        self,
        folder: Path,
        trust: TrustBundle,
        operator: bytes,
        journal: IssuingJournal,
        key: Callable[[], SigningKey],
    ) -> None:
        """`operator`: the issuer, 4 bytes. `key`: its newest key, asked for only when something is signed."""
        self._folder = folder
        self._trust = trust
        self._operator = operator
        self._journal = journal
        self._key = key

    def full(self, now: int) -> bytes:
        """The list that was published last, whole; a first and empty one where there is none. One that was
        signed with a key which is revoked by now is signed again, as a new version."""
        raw = self._current()
        if raw is None or not self._is_good(raw):
            return self.publish((), (), now).full
        return raw

    def publish(self, add: Iterable[bytes], remove: Iterable[bytes], now: int) -> Published:
        """The next version: cards (8 bytes each) added and removed, dated `now`; without any, the same list
        with a new date. Raises IssuingError, DenylistRefused: nothing was published then."""
        bundle, raw = self._trust, self._current()
        if raw is None:
            added, version = set(add), 1
            full = denylist.build_full(
                bundle.suite, bundle.scheme, self._operator, version, now, added - set(remove), self._key()
            )
            return self._keep(full, None, version)
        old = self._parsed(raw)
        if old.version == _MAX_NUMBER:
            raise IssuingError("the denylist's version numbers are used up")
        version, time_s = old.version + 1, max(now, old.time_s)
        key = self._key()
        delta = denylist.build_delta(old, version, time_s, add, remove, bundle.suite, bundle.scheme, key)
        change = denylist.parse(delta, self._plain_trust())
        if not isinstance(change, Delta):
            raise IssuingError("the denylist's change is none")
        full = denylist.build_whole(bundle.suite, denylist.apply(old, change), key)
        return self._keep(full, delta, version)

    def cards(self) -> list[bytes]:
        """The cards (8 bytes each) on the list that was published last, in order."""
        raw = self._current()
        return [] if raw is None else list(self._parsed(raw))

    def header(self) -> Header | None:
        """The header of the list that was published last; None where there is none."""
        raw = self._current()
        return None if raw is None else denylist.parse_header(raw)

    def deltas(self) -> Iterator[bytes]:
        """Each change that was published and is still here, oldest first."""
        newest, _ = self._announced()
        for version in range(2, newest + 1):
            path = self._delta_path(version)
            if path.exists():
                yield denylist.read_file(path)

    def _keep(self, full: bytes, delta: bytes | None, version: int) -> Published:
        try:
            write_durably(self._folder / _NEXT, full, mode=0o644)
            if delta is not None:
                (self._folder / DELTAS).mkdir(exist_ok=True)
                write_durably(self._delta_path(version), delta, mode=0o644)
            self._journal.append({"kind": "denylist", "version": version, "digest": sha256(full).hexdigest()})
            (self._folder / _NEXT).rename(self._folder / DENYLIST)
        except OSError as error:
            raise IssuingError(
                f"the denylist can't be kept in {self._folder} ({error.strerror}); make room, then publish "
                "it again"
            ) from None
        return Published(full, delta, version)

    def _announced(self) -> tuple[int, str]:
        """Version and digest of the newest list in the journal; 0 where there is none."""
        for line in reversed(self._journal.lines):
            if line["kind"] == "denylist":
                return line["version"], line["digest"]
        return 0, ""

    def _current(self) -> bytes | None:
        """The list that the journal names last. What was cut off after its line is finished here."""
        version, wanted = self._announced()
        if not version:
            return None
        for name in (DENYLIST, _NEXT):
            path = self._folder / name
            if path.exists() and sha256(raw := denylist.read_file(path)).hexdigest() == wanted:
                if name == _NEXT:
                    path.rename(self._folder / DENYLIST)
                return raw
        raise IssuingError(
            f"{self._folder / DENYLIST} is missing or is not denylist {version}, which was published last; "
            "copy that list back from a backup, from clearing or from a terminal"
        )

    def _parsed(self, raw: bytes) -> Denylist:
        found = denylist.parse(raw, self._plain_trust())
        if not isinstance(found, Denylist):
            raise IssuingError(f"{self._folder / DENYLIST} holds a change, not a whole denylist")
        return found

    def _plain_trust(self) -> TrustBundle:
        """The scheme's trust without revocations: what is ours by its digest stays readable."""
        return TrustBundle(self._trust.suite, self._trust.root, self._trust.operators)

    def _is_good(self, raw: bytes) -> bool:
        header, end = denylist.parse_header(raw), denylist.HEADER_LENGTH
        try:
            self._trust.verify_signed(
                *(self._operator, CLASS_ISSUING, raw[:end], raw[end : end + SIGNATURE_LENGTH]),
                header.time_s,
            )
        except (CertificateRefused, SignatureInvalid):
            return False
        return True

    def _delta_path(self, version: int) -> Path:
        return self._folder / DELTAS / f"{version}.bin"


class OrderDesk:
    """Writes an issuer's orders to its cards (125 bytes each)."""

    def __init__(
        self, trust: TrustBundle, operator: bytes, journal: IssuingJournal, key: Callable[[], SigningKey]
    ) -> None:
        """`operator`: the issuer, 4 bytes. `key`: its newest key, asked for only when something is signed."""
        self._trust = trust
        self._operator = operator
        self._journal = journal
        self._key = key

    def order(self, card: bytes, kind: int, value: bytes, now: int) -> bytes:
        """The next order to a card (8 bytes) of this scheme: `kind` is one of the KIND_ values, `value` what
        section 13 says of it. It is in the journal before it is returned.

        Raises IssuingError for a card that was not issued here, Malformed for a value that no card takes.
        """
        if not self._is_issued(card):
            raise IssuingError(f"card {card.hex()} was not issued by this scheme")
        number = 1 + max((one.number for one, _ in self._orders(card)), default=0)
        if number > _MAX_NUMBER:
            raise IssuingError(f"the order numbers of card {card.hex()} are used up; issue a new card")
        suite, scheme = self._trust.suite.number, self._trust.scheme
        order = m.CardOrder(suite, scheme, self._operator, card, number, now, kind, value)
        if m.parse_card_order(order.body()) != order:
            raise IssuingError("this order has a value of another length than its kind")
        if kind == m.KIND_LIMITS:
            parse_limits(value[:-1])
        return self._signed(order)

    def orders(self, *, superseded: bool = False) -> Iterator[bytes]:
        """The orders, oldest first; those that a later one undoes only when `superseded`.

        An order that was signed with a key which is revoked by now is signed again: the same order, under the
        same number.
        """
        for (order, raw), later in self._with_later():
            if superseded or _state(order.kind) not in later:
                yield raw if self._is_good(raw) else self._signed(order)

    def _with_later(self) -> list[tuple[tuple[m.CardOrder, bytes], set[int]]]:
        """Each order, with the states that later orders to the same card set."""
        set_later: dict[bytes, set[int]] = {}
        found = []
        for order, raw in reversed(self._orders()):
            states = set_later.setdefault(order.card, set())
            found.append(((order, raw), set(states)))
            states.add(_state(order.kind))
        return found[::-1]

    def _orders(self, card: bytes | None = None) -> list[tuple[m.CardOrder, bytes]]:
        """The orders, of one card or all; of one that was signed again, the newest signature."""
        found: dict[tuple[bytes, int], tuple[m.CardOrder, bytes]] = {}
        for line in self._journal.lines:
            if line["kind"] == "order" and (card is None or line["card"] == card.hex()):
                raw = bytes.fromhex(line["order"])
                order = m.parse_card_order(raw)
                found[order.card, order.number] = order, raw
        return list(found.values())

    def _signed(self, order: m.CardOrder) -> bytes:
        body = order.body()
        raw = body + self._key().sign(body)
        self._journal.append(_line(order, raw))
        return raw

    def _is_issued(self, card: bytes) -> bool:
        number = card[len(self._operator) :].hex()
        return card.startswith(self._operator) and any(
            line["kind"] == "card" and line["number"] == number for line in self._journal.lines
        )

    def _is_good(self, raw: bytes) -> bool:
        if not self._trust.revoked:
            return True
        body, signature = raw[:-SIGNATURE_LENGTH], raw[-SIGNATURE_LENGTH:]
        order = m.parse_card_order(raw)
        try:
            self._trust.verify_signed(self._operator, CLASS_ISSUING, body, signature, order.time_s)
        except (CertificateRefused, SignatureInvalid):
            return False
        return True


def _state(kind: int) -> int:
    """What an order sets: two orders that set the same undo each other."""
    return _BLOCKING.get(kind, kind)


def _line(order: m.CardOrder, raw: bytes) -> dict[str, Any]:
    return {"kind": "order", "card": order.card.hex(), "number": order.number, "order": raw.hex()}
