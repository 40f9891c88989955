"""What operators publish for terminals: denylists (F4), card orders (F2), the authority list (F6).

Clearing carries them and can make none: each is signed by who may say it, and is verified here before it is
kept, and once more by whoever fetches it. Versions only rise. Publishing the same again changes nothing.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, Table, UniqueConstraint

from hardwallet import authorities as authority_lists
from hardwallet import denylist as denylists_format
from hardwallet.certificates import CLASS_ISSUING, TrustBundle
from hardwallet.denylist import Delta, Denylist
from hardwallet.errors import AuthoritiesRefused, DenylistRefused, Malformed, SignatureInvalid, WalletError
from hardwallet.messages import ORDER_LENGTH, parse_card_order
from hardwallet.suites import SIGNATURE_LENGTH
from offline_sync.clearing.ledger import Ledger, tables
from offline_sync.errors import NoticeRefused

ORDERS_PAGE: Final = 1_000
_CARD: Final = slice(12, 20)
"""Where the card's number stands in a card order."""
DELTAS_KEPT: Final = 400
"""Changes of a denylist that are kept for terminals which have been away."""
_Id = BigInteger().with_variant(Integer, "sqlite")

denylists = Table(
    "denylists",
    tables,
    Column("operator", LargeBinary(4), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("base", BigInteger, primary_key=True),  # 0: a full list
    Column("time_s", BigInteger, nullable=False),
    Column("cards", BigInteger, nullable=False),
    Column("result_hash", LargeBinary(32), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),
)

card_orders = Table(
    "card_orders",
    tables,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("card", LargeBinary(8), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("raw", LargeBinary(ORDER_LENGTH), nullable=False),
    # Told by a terminal's journal; empty until then.
    Column("status_word", Integer, nullable=True),
    Column("delivered_by", LargeBinary(12), nullable=True),
    UniqueConstraint("card", "number"),
)

authority_list = Table(
    "authority_list",
    tables,
    Column("version", BigInteger, primary_key=True),
    Column("raw", LargeBinary, nullable=False),
)


class DenylistLine(NamedTuple):
    """A denylist that is published. `operator` is 4 bytes."""

    operator: bytes
    version: int
    cards: int
    time_s: int


class _File(NamedTuple):
    version: int
    base: int
    length: int


class _OrderRow(NamedTuple):
    card: bytes
    number: int
    raw: bytes


class Notices:
    """Published denylists, orders and authorities, in the ledger's database. One writer at a time."""

    def __init__(self, ledger: Ledger, trust: TrustBundle, turn: threading.Lock) -> None:
        """`turn`: held by whoever writes to the ledger. Takes over the newest authority list that is
        published, or publishes that of `trust`."""
        self._ledger = ledger
        self._turn = turn
        self._trust = trust
        self._current: dict[bytes, Denylist] = {}
        self._following = threading.Lock()
        self.follow_authorities()
        if trust.authorities:
            self.publish_authorities(trust.authorities)

    # -------------------------------------------------------------------------------------- denylists

    def publish_denylist(self, raw: bytes) -> bool:
        """Publish a full list, or a change (delta) of the one that is published: a file's bytes. False when
        it was known.

        Raises NoticeRefused: not its issuer's, older than what is published, does not follow it.
        """
        try:
            parsed = denylists_format.parse(raw, self._trust)
        except DenylistRefused as error:
            raise NoticeRefused(error.code, str(error)) from None
        header = denylists_format.parse_header(raw)
        with self._turn, self._ledger.write() as connection:
            current = self._newest(connection, header.operator)
            if current is not None and self._is_known(connection, current, header):
                return False
            row = {
                "operator": header.operator,
                "version": header.version,
                "base": header.base,
                "time_s": header.time_s,
                "cards": header.total,
                "result_hash": header.result_hash,
                "length": len(raw),
                "raw": raw,
            }
            made = self._followed(connection, parsed)
            connection.execute(sa.insert(denylists), [row])
            self._tidy(connection, header.operator)
        self._current[header.operator] = made
        return True

    def denylist(self, operator: bytes, held: int = 0) -> bytes | None:
        """The next file for somebody who holds version `held` (0: none) of an operator's (4 bytes) list.

        A change, or the full list, whichever begins the shorter way to the newest version. None when nothing
        is newer. Ask again with the version that it gives, until None.
        """
        with self._reading() as connection:
            newest = self._newest(connection, operator)
            if newest is None or newest.version <= held:
                return None
            of_operator = denylists.c.operator == operator
            columns = (denylists.c.version, denylists.c.base, denylists.c.length)
            rows = connection.execute(
                sa.select(*columns).where(of_operator).order_by(denylists.c.version)
            ).all()
            chosen = _next_file([_File(*row) for row in rows], held, newest.version)
            if chosen is None:
                return None
            return bytes(
                connection.execute(
                    sa.select(denylists.c.raw).where(
                        of_operator,
                        denylists.c.version == chosen.version,
                        denylists.c.base == chosen.base,
                    )
                ).scalar_one()
            )

    def denylist_lines(self) -> list[DenylistLine]:
        """The newest published list of each operator."""
        columns = denylists.c
        with self._reading() as connection:
            newest: dict[bytes, DenylistLine] = {}
            wanted = sa.select(columns.operator, columns.version, columns.cards, columns.time_s)
            for row in connection.execute(wanted.order_by(columns.version)):
                newest[bytes(row.operator)] = DenylistLine(
                    bytes(row.operator), row.version, row.cards, row.time_s
                )
        return [newest[operator] for operator in sorted(newest)]

    def _newest(self, connection: Connection, operator: bytes) -> DenylistLine | None:
        columns = denylists.c
        row = connection.execute(
            sa.select(columns.operator, columns.version, columns.cards, columns.time_s)
            .where(columns.operator == operator)
            .order_by(columns.version.desc())
            .limit(1)
        ).first()
        return None if row is None else DenylistLine(bytes(row.operator), row.version, row.cards, row.time_s)

    def _is_known(
        self, connection: Connection, current: DenylistLine, header: denylists_format.Header
    ) -> bool:
        """Whether this very version is published in this form. Raises NoticeRefused for an older one, or
        another list under the same version."""
        if header.version < current.version:
            raise NoticeRefused(
                "older",
                f"this is denylist {header.version}, but {current.version} is published already; "
                "a denylist never goes back",
            )
        columns = denylists.c
        same = connection.execute(
            sa.select(columns.base, columns.result_hash).where(
                columns.operator == header.operator, columns.version == header.version
            )
        ).all()
        if any(bytes(row.result_hash) != header.result_hash for row in same):
            raise NoticeRefused(
                "conflict",
                f"another denylist {header.version} is published already; give this one a new number",
            )
        bases = {int(row.base) for row in same}
        return bool(bases) if header.base else 0 in bases

    def _followed(self, connection: Connection, parsed: Denylist | Delta) -> Denylist:
        """The list that is published afterwards; a change is tried on what is published now."""
        if isinstance(parsed, Denylist):
            return parsed
        try:
            return denylists_format.apply(self._held(connection, parsed.operator), parsed)
        except DenylistRefused as error:
            raise NoticeRefused(error.code, str(error)) from None

    def _held(self, connection: Connection, operator: bytes) -> Denylist:
        """The published list, put together from its full file and the changes since."""
        newest = self._newest(connection, operator)
        if newest is None:
            raise NoticeRefused("base", "no denylist is published yet; publish the whole list first")
        kept = self._current.get(operator)
        if kept is not None and kept.version == newest.version:
            return kept
        columns = denylists.c
        wanted = sa.select(columns.raw).where(columns.operator == operator)
        raw = connection.execute(wanted.where(columns.base == 0).order_by(columns.version.desc()).limit(1))
        made = denylists_format.parse(bytes(raw.scalar_one()), self._trust)
        if not isinstance(made, Denylist):
            raise NoticeRefused("base", "the published denylist cannot be read; publish the whole list")
        later = wanted.where(columns.base >= made.version, columns.base != 0).order_by(columns.version)
        for row in connection.execute(later):
            change = denylists_format.parse(bytes(row.raw), self._trust)
            if isinstance(change, Delta) and change.base == made.version:
                made = denylists_format.apply(made, change)
        return made

    def _tidy(self, connection: Connection, operator: bytes) -> None:
        """Keep the newest full list and the last changes."""
        columns = denylists.c
        of_operator = columns.operator == operator
        full = connection.execute(
            sa.select(sa.func.max(columns.version)).where(of_operator, columns.base == 0)
        ).scalar_one()
        oldest = connection.execute(
            sa.select(columns.version)
            .where(of_operator, columns.base != 0)
            .order_by(columns.version.desc())
            .offset(DELTAS_KEPT)
            .limit(1)
        ).scalar()
        connection.execute(sa.delete(denylists).where(of_operator, columns.base == 0, columns.version < full))
        if oldest is not None:
            connection.execute(
                sa.delete(denylists).where(
                    of_operator, columns.base != 0, columns.version <= min(int(oldest), int(full))
                )
            )

    # ------------------------------------------------------------------------------------------ orders

    def publish_orders(self, raws: Sequence[bytes]) -> int:
        """Publish card orders (125 bytes each), all or none; how many were new. Raises NoticeRefused."""
        rows = [self._order_row(raw) for raw in self._unpublished(raws)]
        new = 0
        with self._turn, self._ledger.write() as connection:
            for row in rows:
                columns = card_orders.c
                known = connection.execute(
                    sa.select(columns.raw).where(columns.card == row.card, columns.number == row.number)
                ).scalar()
                if known is None:
                    connection.execute(sa.insert(card_orders), [row._asdict()])
                    new += 1
                elif bytes(known)[:-SIGNATURE_LENGTH] == row.raw[:-SIGNATURE_LENGTH]:
                    # Signed again, with another key: terminals may not trust the old one any more.
                    again = sa.update(card_orders).where(columns.card == row.card)
                    connection.execute(again.where(columns.number == row.number).values(raw=row.raw))
                else:
                    raise NoticeRefused(
                        "conflict",
                        "another order with this number is published for this card; number it anew",
                    )
        return new

    def orders(self, after: int = 0) -> list[tuple[int, bytes]]:
        """Card orders that no terminal has delivered yet: (place, 125 bytes), up to ORDERS_PAGE of them,
        those behind place `after`."""
        columns = card_orders.c
        with self._reading() as connection:
            found = connection.execute(
                sa.select(columns.id, columns.raw)
                .where(columns.id > after, columns.status_word.is_(None))
                .order_by(columns.id)
                .limit(ORDERS_PAGE)
            )
            return [(int(row.id), bytes(row.raw)) for row in found]

    def _unpublished(self, raws: Sequence[bytes]) -> list[bytes]:
        """Those that are not published to the byte: there is no need to verify the others again."""
        columns = card_orders.c
        with self._reading() as connection:
            return [
                raw
                for raw in raws
                if connection.execute(
                    sa.select(columns.id).where(columns.card == raw[_CARD], columns.raw == raw)
                ).scalar()
                is None
            ]

    def _order_row(self, raw: bytes) -> _OrderRow:
        if len(raw) != ORDER_LENGTH:
            raise NoticeRefused("malformed", f"a card order has {ORDER_LENGTH} bytes, not {len(raw)}")
        trust = self._trust
        try:
            order = parse_card_order(raw)
            if order.suite != trust.suite.number or order.scheme != trust.scheme:
                raise NoticeRefused("scheme", "the card order belongs to another scheme or suite")
            if order.card[:4] != order.operator:
                raise NoticeRefused("issuer", "the card order is for a card of another issuer")
            body, signature = raw[:-SIGNATURE_LENGTH], raw[-SIGNATURE_LENGTH:]
            trust.verify_signed(order.operator, CLASS_ISSUING, body, signature, order.time_s)
        except Malformed as error:
            raise NoticeRefused("malformed", str(error)) from None
        except SignatureInvalid:
            raise NoticeRefused("signature", "the issuer did not sign this card order") from None
        except WalletError as error:
            raise NoticeRefused("issuer", str(error)) from None
        return _OrderRow(order.card, order.number, raw)

    # ------------------------------------------------------------------------------------- authorities

    def publish_authorities(self, raw: bytes) -> bool:
        """Publish a scheme's authority list (a file's bytes), and follow it. False when it was known.

        Raises NoticeRefused: not the root's, or older than the one that is published.
        """
        try:
            parsed = authority_lists.parse(raw, self._trust)
        except AuthoritiesRefused as error:
            raise NoticeRefused(error.code, str(error)) from None
        with self._turn, self._ledger.write() as connection:
            known = self._authorities(connection)
            if known is not None and known[1] == raw:
                return False
            if known is not None and parsed.version <= known[0]:
                raise NoticeRefused(
                    "older" if parsed.version < known[0] else "conflict",
                    f"authority list {known[0]} is published already; a list never goes back",
                )
            connection.execute(sa.insert(authority_list), [{"version": parsed.version, "raw": raw}])
            connection.execute(sa.delete(authority_list).where(authority_list.c.version < parsed.version))
        self.follow_authorities()
        return True

    def authorities(self, held: int = 0) -> bytes | None:
        """The authority list (a file's bytes), if it is newer than version `held`."""
        with self._reading() as connection:
            known = self._authorities(connection)
        return known[1] if known is not None and known[0] > held else None

    def follow_authorities(self) -> None:
        """Trust whom the published list names: another program may have published it."""
        with self._following:
            raw = self.authorities(self._trust.version)
            if raw is not None:
                self._trust.update(authority_lists.parse(raw, self._trust))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._turn if self._ledger.shared else nullcontext(), self._ledger.read() as connection:
            yield connection

    @staticmethod
    def _authorities(connection: Connection) -> tuple[int, bytes] | None:
        row = connection.execute(
            sa.select(authority_list.c.version, authority_list.c.raw)
            .order_by(authority_list.c.version.desc())
            .limit(1)
        ).first()
        return None if row is None else (int(row.version), bytes(row.raw))


def note_delivered(
    connection: Connection, deliveries: Iterable[tuple[bytes, int, int, bytes, bytes]]
) -> None:
    """Keep what terminals' journals say of orders, within the transaction of their upload: card (8 bytes),
    order number, the card's status word, payee (8), terminal (4). The first word stays.
    """
    columns = card_orders.c
    for card, number, status_word, payee, terminal in deliveries:
        connection.execute(
            sa.update(card_orders)
            .where(columns.card == card, columns.number == number, columns.status_word.is_(None))
            .values(status_word=status_word, delivered_by=payee + terminal)
        )


def _next_file(files: Iterable[_File], held: int, newest: int) -> _File | None:
    """What begins the shortest way from version `held` to `newest`, in bytes; None when there is none."""
    files = list(files)
    changes = {one.base: one for one in files if one.base}
    ways = [[one, *_way(changes, one.version)] for one in files if not one.base and one.version > held]
    if held:
        ways.append(_way(changes, held))
    whole = [way for way in ways if way and way[-1].version == newest]
    return min(whole, key=lambda way: sum(one.length for one in way))[0] if whole else None


def _way(changes: dict[int, _File], begin: int) -> list[_File]:
    """The changes that follow each other from a version on. Each leads up, so that there is an end."""
    way = []
    while begin in changes:
        way.append(changes[begin])
        begin = changes[begin].version
    return way
