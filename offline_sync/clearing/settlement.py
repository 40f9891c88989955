"""Closings: the ledger's movements cut into days, and a signed file for each merchant of a day.

A closing is one transaction. It takes every movement behind the last closing's, notes for each payee that one
of them touches the balances and what had become of each payment, and so fixes all that its files hold: they
are made from it whenever somebody asks, byte for byte the same. A signature is kept when it is first made,
since in one of the suites it would be another one the next time.
"""

import fcntl
import os
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Connection, Index, Integer, LargeBinary, String, Table, select

from hardwallet.certificates import Certificate, TrustBundle
from hardwallet.records import PAYMENT
from hardwallet.suites import SigningKey
from offline_sync.clearing.ledger import Ledger
from offline_sync.clearing.returns import NOT_SOLD
from offline_sync.clearing.schema import (
    AccountKind,
    accounts,
    records,
    tables,
    transfers,
)
from offline_sync.errors import LedgerError, SettlementError, SettlementMissing
from offline_sync.settlement import (
    DISPOSITIONS,
    KINDS,
    MAX_ROWS,
    NAMES_LINE,
    UNSAID,
    Header,
    Seal,
    Totals,
    beijing_day,
    code_text,
    kind_text,
    message,
    time_text,
)
from pos_terminal.sale import SaleState

PAGE: Final = 20_000
"""Movements that are read at a time; between two pages nothing is held open."""
LIST_LIMIT: Final = 1_000
_HELD_BYTES: Final = 16 * 2**20
"""Rows that wait in memory, of all files together, before they are appended to their files."""
_CARRIED, _GRANTED, _NOT_GRANTED = range(3)
"""Dispositions as they are stored: places in DISPOSITIONS."""
_BECAME: Final = struct.Struct(">QB")
_NOTHING_DUE: Final = (0, _GRANTED)
_GRANTED_TEXT: Final = DISPOSITIONS[_GRANTED]
_SIGNED: Final = struct.Struct(">8x8s8xI8x12s6x4sI16xI")
"""Of a record: card, sequence, reference, terminal, transaction, time (docs/protocol.md, section 4)."""
_Number = BigInteger().with_variant(Integer, "sqlite")

closings = Table(
    "closings",
    tables,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("day", String(10), nullable=False),
    # Movements with ids above `after`, up to `last`: the next closing begins where this one ends.
    Column("after", _Number, nullable=False),
    Column("last", _Number, nullable=False),
    Column("closed_s", BigInteger, nullable=False),
)

closing_payees = Table(
    "closing_payees",
    tables,
    Column("closing", Integer, primary_key=True, autoincrement=False),
    Column("account", _Number, primary_key=True, autoincrement=False),
    Column("previous", Integer, nullable=False),
    Column("opening_fen", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("credit_fen", BigInteger, nullable=False),
    Column("debit_fen", BigInteger, nullable=False),
    # Of each payment whose own terminal had not said "granted": the movement's id (8) and what it was (1).
    Column("dispositions", LargeBinary, nullable=False),
)
Index("closing_payees_by_account", closing_payees.c.account, closing_payees.c.closing)

settlement_seals = Table(
    "settlement_seals",
    tables,
    Column("closing", Integer, primary_key=True, autoincrement=False),
    Column("account", _Number, primary_key=True, autoincrement=False),
    Column("rows_hash", LargeBinary(32), nullable=False),
    Column("certificate", LargeBinary(162), nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
)

_in_page = sa.and_(transfers.c.id > sa.bindparam("after"), transfers.c.id <= sa.bindparam("last"))
_UNSURE: Final = (
    select(transfers.c.id, transfers.c.debit, transfers.c.credit, records.c.state, records.c.raw)
    .join(records, records.c.id == transfers.c.record)
    .where(_in_page, records.c.kind == PAYMENT, records.c.state != SaleState.GRANTED)
    .order_by(transfers.c.id)
)
"""The movements of payments that came without a grant by their own terminal."""


def _summed(side: Any) -> Any:
    """Of each payee's account on one side: how many movements, and what they come to."""
    return (
        select(side, sa.func.count(), sa.func.sum(transfers.c.amount_fen))
        .join(accounts, sa.and_(accounts.c.id == side, accounts.c.kind == AccountKind.PAYEE))
        .where(_in_page)
        .group_by(side)
    )


_CREDITED: Final = _summed(transfers.c.credit)
_DEBITED: Final = _summed(transfers.c.debit)

Told = Callable[[int, int], None]
"""Hears how many movements are done, and of how many."""


class Closing(msgspec.Struct, frozen=True):
    """A day that was closed. `number` rises, from 1; `day` is YYYY-MM-DD; `first` and `last` are the
    numbers of its movements in the ledger (`last` below `first`: there were none); times in seconds since
    1970. `payees` counts the files, `rows` the rows in them.
    """

    number: int
    day: str
    first: int
    last: int
    closed_s: int
    payees: int
    rows: int
    credit_fen: int
    debit_fen: int


class PayeeTotals(msgspec.Struct, frozen=True):
    """What one file of a closing comes to; `payee` is 16 hexadecimal digits."""

    payee: str
    rows: int
    opening_fen: int
    credit_fen: int
    debit_fen: int
    closing_fen: int
    previous: int


@dataclass(slots=True)
class _Tally:
    """One payee's movements so far."""

    rows: int = 0
    credit_fen: int = 0
    debit_fen: int = 0
    dispositions: bytearray = field(default_factory=bytearray)


def untold(_done: int, _of: int) -> None:
    """Hears nothing."""


# ------------------------------------------------------------------------------------- closings and files


class Settlements:
    """The closings of one ledger. `turn` is held while the books are changed, `reading()` while they are
    read.
    """

    def __init__(
        self,
        ledger: Ledger,
        trust: TrustBundle,
        keys: Mapping[bytes, SigningKey],
        turn: AbstractContextManager[object],
        reading: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """`keys`: the signing key of each acquiring operator (4 bytes) that is served here."""
        self._ledger = ledger
        self._trust = trust
        self._keys = keys
        self._turn = turn
        self._reading = reading

    def close_day(self, day: date, now_s: int, told: Told = untold, above: int = 0) -> Closing:
        """Close a day at `now_s`: everything that was booked since the last closing. One transaction. Its
        number is the next one above the last, and above `above`.

        Raises SettlementError when the day lies ahead in Beijing, or before the last one closed; LedgerError.
        """
        if day > beijing_day(now_s):
            raise SettlementError(f"{day} has not begun yet; close a day that has, or set the clock right")
        with self._turn, self._ledger.write() as connection:
            return _close(self._ledger, connection, day, now_s, above, told)

    def listed(self, payee: bytes | None, after: int, limit: int) -> list[Closing]:
        """Closings with numbers above `after`, at most `limit` of them; only those with a file of `payee`
        when one is named: counts and sums are that payee's then. Raises LedgerError.
        """
        with self._reading(), self._ledger.read() as connection:
            return list(_closings(connection, after=after, limit=min(limit, LIST_LIMIT), payee=payee))

    def last(self) -> int:
        """The number of the last closing; 0 before the first. Raises LedgerError."""
        with self._reading(), self._ledger.read() as connection:
            return int(
                connection.execute(select(sa.func.coalesce(sa.func.max(closings.c.number), 0))).scalar_one()
            )

    def totals(self, number: int) -> list[PayeeTotals]:
        """What each file of a closing comes to, by rising payee. Raises SettlementMissing, LedgerError."""
        with self._reading(), self._ledger.read() as connection:
            return [_totals_of(one) for one in self._files(connection, number)]

    def file(self, number: int, payee: bytes) -> Iterator[bytes]:
        """A payee's file, in pieces. Raises SettlementMissing at once; SettlementError and LedgerError while
        it is read, and then the pieces are worth nothing.
        """
        with self._reading(), self._ledger.read() as connection:
            found = self._files(connection, number, payee)
            if not found:
                raise SettlementMissing(
                    f"closing {number} moved nothing of payee {payee.hex()}: there is no file"
                )
            span = _span(connection, number)
        self._signer(payee)
        return self._pieces(found[0], span)

    def write(self, number: int, folder: Path, told: Told = untold) -> list[Path]:
        """Write every file of a closing below `folder`, each whole or not at all; those that lie there
        already with the same bytes stay. Returns the paths, by rising payee; payees of operators that are
        not served here have none.

        Raises SettlementMissing, SettlementError (a file of that name holds something else; the folder can't
        be written), LedgerError.
        """
        with self._reading(), self._ledger.read() as connection:
            ones = self._files(connection, number)
            span = _span(connection, number)
            (day,) = connection.execute(select(closings.c.day).where(closings.c.number == number)).one()
        target = folder / folder_name(number, day)
        served = [one for one in ones if one.header.payee[:4] in self._keys]
        try:
            with _partial_folder(target) as partial:
                return self._write(served, span, partial, target, told)
        except OSError as error:
            raise SettlementError(
                f"{target} can't be written: {error.strerror}. Closing {number} stands; write its files again"
            ) from error

    def _files(self, connection: Connection, number: int, payee: bytes | None = None) -> "list[_Payee]":
        """The files of a closing. Raises SettlementMissing when there is no such closing."""
        closing = connection.execute(
            select(closings.c.day, closings.c.closed_s).where(closings.c.number == number)
        ).first()
        if closing is None:
            raise SettlementMissing(
                f"there is no closing {number}; `hardwallet clearing settlements` lists them"
            )
        c = closing_payees.c
        rows = connection.execute(
            select(
                *(accounts.c.owner, c.account, c.previous, c.opening_fen),
                *(c.rows, c.credit_fen, c.debit_fen, c.dispositions),
            )
            .join(accounts, accounts.c.id == c.account)
            .where(c.closing == number, *(() if payee is None else (accounts.c.owner == payee,)))
            .order_by(accounts.c.owner)
        )
        trust = self._trust
        found = []
        for owner, account, previous, opening_fen, count, credit_fen, debit_fen, dispositions in rows:
            header = Header(
                *(trust.scheme, trust.suite.number, trust.currency, owner, number, previous),
                *(date.fromisoformat(closing.day), closing.closed_s, opening_fen),
            )
            sums = Totals(count, credit_fen, debit_fen, opening_fen + credit_fen - debit_fen)
            found.append(_Payee(account, header, sums, dispositions))
        return found

    # ------------------------------------------------------------------------------------------- making

    def _pieces(self, one: "_Payee", span: tuple[int, int]) -> Iterator[bytes]:
        lines = _Lines(one)
        yield lines.begin()
        at, last = span
        while at < last:
            with self._reading(), self._ledger.read() as connection:
                page = _movements(connection, at, last, one.account)
            lines.add(page)
            at = page[-1][0] if len(page) == PAGE else last
            yield lines.taken()
        with self._turn:
            (seal,) = self._sealed([lines])
        yield lines.end(seal)

    def _write(
        self, ones: "list[_Payee]", span: tuple[int, int], partial: Path, target: Path, told: Told
    ) -> list[Path]:
        files = {one.account: _Growing(_Lines(one), partial / one.name, target / one.name) for one in ones}
        after, last = span
        held = 0
        for at in range(after, last, PAGE):
            told(at - after, last - after)
            with self._reading(), self._ledger.read() as connection:
                page = _movements(connection, at, min(at + PAGE, last))
            for account, movements in _by_account(page, files).items():
                held += files[account].lines.add(movements)
            if held > _HELD_BYTES:
                _append_all(files.values())
                held = 0
        _append_all(files.values())
        with self._turn:
            seals = self._sealed([file.lines for file in files.values()])
        for file, seal in zip(files.values(), seals, strict=True):
            file.end(seal)
        for file in files.values():
            file.publish()
        _to_disk(target)
        told(last - after, last - after)
        return [file.path for file in files.values()]

    def _sealed(self, made: "list[_Lines]") -> list[Seal]:
        """The seals of files, kept when they are first made. Raises SettlementError when the books no longer
        give what was closed or signed.
        """
        with self._ledger.write() as connection:
            kept = {
                (row.closing, row.account): Seal(row.rows_hash, row.certificate, row.signature)
                for number in {lines.one.header.number for lines in made}
                for row in connection.execute(
                    select(settlement_seals).where(settlement_seals.c.closing == number)
                )
            }
            seals, new = [], []
            for lines in made:
                key = lines.one.header.number, lines.one.account
                seal = kept.get(key)
                if not lines.complete or (seal is not None and seal.rows_hash != lines.hash.digest()):
                    raise SettlementError(
                        f"The books no longer give what closing {key[0]} holds of payee "
                        f"{lines.one.header.payee.hex()}: they were altered since; restore a backup"
                    )
                if seal is None or not self._stands(seal, lines.one.header.payee):
                    seal = self._seal(lines)
                    new.append(
                        {
                            "closing": key[0],
                            "account": key[1],
                            "rows_hash": seal.rows_hash,
                            "certificate": seal.certificate,
                            "signature": seal.signature,
                        }
                    )
                seals.append(seal)
            self._keep_seals(connection, new, kept)
        return seals

    @staticmethod
    def _keep_seals(
        connection: Connection, new: list[dict[str, Any]], kept: Mapping[tuple[int, int], Seal]
    ) -> None:
        c = settlement_seals.c
        for row in new:
            key = row["closing"], row["account"]
            if key in kept:
                connection.execute(
                    sa.delete(settlement_seals).where(c.closing == key[0], c.account == key[1])
                )
        if new:
            connection.execute(sa.insert(settlement_seals), new)

    def _stands(self, seal: Seal, payee: bytes) -> bool:
        """Whether readers take the seal still: what a revoked certificate signed is signed anew."""
        return any(one.to_bytes() == seal.certificate for one in self._trust.current(payee[:4]))

    def _seal(self, lines: "_Lines") -> Seal:
        one = lines.one
        certificate, key = self._signer(one.header.payee)
        rows_hash = lines.hash.digest()
        signed = message(self._trust.suite, certificate, one.header, one.totals, rows_hash)
        return Seal(rows_hash, certificate.to_bytes(), key.sign(signed))

    def _signer(self, payee: bytes) -> tuple[Certificate, SigningKey]:
        """The payee's operator: its certificate of today, and its key. Raises SettlementError."""
        number = payee[:4]
        key = self._keys.get(number)
        if key is None:
            raise SettlementError(
                f"operator {number.hex()} is not served here and signs its settlement itself"
            )
        for certificate in self._trust.current(number):
            if certificate.public == key.public:
                return certificate, key
        raise SettlementError(
            f"no certificate of operator {number.hex()} fits its key; bring the list up to date"
        )


# ----------------------------------------------------------------------------------------------- closing


def _close(ledger: Ledger, connection: Connection, day: date, now_s: int, above: int, told: Told) -> Closing:
    before = connection.execute(
        select(closings.c.number, closings.c.day, closings.c.last).order_by(closings.c.number.desc()).limit(1)
    ).first()
    number, last_day, after = (0, "", 0) if before is None else before
    if day.isoformat() < last_day:
        raise SettlementError(f"{last_day} is closed already; a day before it can't be closed any more")
    highest = int(connection.execute(select(sa.func.coalesce(sa.func.max(transfers.c.id), 0))).scalar_one())
    last = min(highest, after + MAX_ROWS)
    number = max(number, above) + 1
    connection.execute(
        sa.insert(closings),
        [{"number": number, "day": day.isoformat(), "after": after, "last": last, "closed_s": now_s}],
    )
    tallies = _tally(ledger, connection, after, last, told)
    _keep(connection, number, tallies, whole=last == highest)
    (closing,) = _closings(connection, after=number - 1, limit=1)
    return closing


def _tally(ledger: Ledger, connection: Connection, after: int, last: int, told: Told) -> dict[int, _Tally]:
    """What the movements of each payee's account come to, and what has become by now of the payments among
    them that came without a grant.
    """
    found: defaultdict[int, _Tally] = defaultdict(_Tally)
    for at in range(after, last, PAGE):
        told(at - after, last - after)
        page = {"after": at, "last": min(at + PAGE, last)}
        for account, count, amount_fen in connection.execute(_CREDITED, page):
            found[account].rows += count
            found[account].credit_fen += int(amount_fen)
        for account, count, amount_fen in connection.execute(_DEBITED, page):
            found[account].rows += count
            found[account].debit_fen += int(amount_fen)
        unsure = connection.execute(_UNSURE, page).all()
        became = _dispositions(ledger, connection, {row.raw: row.state for row in unsure})
        for number, debit, credit, _, raw in unsure:
            for account in (debit, credit):
                if account in found:
                    found[account].dispositions += _BECAME.pack(number, became[raw])
    told(last - after, last - after)
    return found


def _dispositions(ledger: Ledger, connection: Connection, states: Mapping[bytes, int]) -> dict[bytes, int]:
    """What has become of payments that came without a grant, by their records (160 bytes).

    The report's rule: granted by its own terminal, or by a sibling with the same reference (docs/adr/0017);
    not granted by its own terminal only.
    """
    sale = {raw: (raw[28:36], raw[36:48]) for raw in states}  # payee and reference
    told = ledger.told(connection, set(sale.values()))
    found = {}
    for raw, state in states.items():
        says = told.get(sale[raw], {})
        if SaleState.GRANTED in says.values():
            found[raw] = _GRANTED
        elif state == SaleState.PAID_NOT_GRANTED or says.get(raw[54:58]) in NOT_SOLD:
            found[raw] = _NOT_GRANTED
        else:
            found[raw] = _CARRIED
    return found


def _keep(connection: Connection, number: int, tallies: Mapping[int, _Tally], *, whole: bool) -> None:
    """Note the payees of a closing. When it reaches to the end of the books (`whole`), the balances that the
    ledger keeps must be those that all closings give.
    """
    latest = _latest(connection)
    rows = []
    for account, tally in tallies.items():
        previous, opening_fen = latest.get(account, (0, 0))
        latest[account] = number, opening_fen + tally.credit_fen - tally.debit_fen
        rows.append(
            {
                "closing": number,
                "account": account,
                "previous": previous,
                "opening_fen": opening_fen,
                "rows": tally.rows,
                "credit_fen": tally.credit_fen,
                "debit_fen": tally.debit_fen,
                "dispositions": bytes(tally.dispositions),
            }
        )
    if rows:
        connection.execute(sa.insert(closing_payees), rows)
    if not whole:
        return
    kept = select(accounts.c.id, accounts.c.owner, accounts.c.balance_fen)
    for account, owner, balance_fen in connection.execute(kept.where(accounts.c.kind == AccountKind.PAYEE)):
        worked_out_fen = latest.get(account, (0, 0))[1]
        if balance_fen != worked_out_fen:
            raise LedgerError(
                f"The balance of payee {owner.hex()} is {balance_fen} fen, its movements give "
                f"{worked_out_fen}: the books were altered; nothing was closed, restore a backup"
            )


def _latest(connection: Connection) -> dict[int, tuple[int, int]]:
    """For each payee's account the last closing that touched it, and the balance after it."""
    c = closing_payees.c
    newest = select(c.account, sa.func.max(c.closing).label("closing")).group_by(c.account).subquery()
    rows = connection.execute(
        select(c.account, c.closing, c.opening_fen + c.credit_fen - c.debit_fen).join(
            newest, sa.and_(newest.c.account == c.account, newest.c.closing == c.closing)
        )
    )
    return {account: (number, balance_fen) for account, number, balance_fen in rows}


def _closings(
    connection: Connection, *, after: int = 0, limit: int = LIST_LIMIT, payee: bytes | None = None
) -> Iterator[Closing]:
    c, p = closings.c, closing_payees.c
    joined = closing_payees if payee is None else closing_payees.join(accounts, accounts.c.id == p.account)
    sums = (
        select(p.closing, sa.func.count().label("payees"), *(_sum(p[name]).label(name) for name in _SUMMED))
        .select_from(joined)
        .where(p.closing > after, *(() if payee is None else (_is(payee),)))
        .group_by(p.closing)
        .subquery()
    )
    rows = connection.execute(
        select(
            *(c.number, c.day, c.after + 1, c.last, c.closed_s),
            *(sa.func.coalesce(sums.c[name], 0) for name in ("payees", *_SUMMED)),
        )
        .select_from(closings.join(sums, sums.c.closing == c.number, isouter=payee is None))
        .where(c.number > after)
        .order_by(c.number)
        .limit(limit)
    )
    for number, day, first, last, closed_s, *counted in rows:
        yield Closing(number, day, first, last, closed_s, *map(int, counted))


_SUMMED: Final = ("rows", "credit_fen", "debit_fen")


def _sum(column: Any) -> Any:
    return sa.func.sum(column)


def _is(payee: bytes) -> Any:
    return sa.and_(accounts.c.kind == AccountKind.PAYEE, accounts.c.owner == payee)


def _span(connection: Connection, number: int) -> tuple[int, int]:
    """The movements of a closing: ids above the first, up to the second."""
    c = closings.c
    row = connection.execute(select(c.after, c.last).where(c.number == number)).one()
    return row.after, row.last


def _movements(connection: Connection, after: int, last: int, account: int | None = None) -> list[Any]:
    """Movements with ids above `after`, up to `last`, of one account or all: (id, reason, debit, credit,
    amount, SHA-256 of the record's body, record). Of one account at most PAGE.
    """
    c = transfers.c
    wanted = (
        select(c.id, c.reason, c.debit, c.credit, c.amount_fen, records.c.body_digest, records.c.raw)
        .join(records, records.c.id == c.record)
        .where(c.id > after, c.id <= last)
        .order_by(c.id)
    )
    if account is not None:
        wanted = wanted.where(sa.or_(c.debit == account, c.credit == account)).limit(PAGE)
    return list(connection.execute(wanted).all())


# ------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True, slots=True)
class _Payee:
    """One file to be made: the closing's header and totals, and the dispositions that it keeps."""

    account: int
    header: Header
    totals: Totals
    dispositions: bytes

    @property
    def name(self) -> str:
        """The file's name."""
        return f"settlement-{self.header.number}-{self.header.payee.hex()}.csv"


def folder_name(number: int, day: str) -> str:
    """The folder of a closing's files."""
    return f"{number:06}-{day}"


_FOLDER: Final = re.compile(r"([0-9]{6,9})-[0-9]{4}-[0-9]{2}-[0-9]{2}")


def highest_written(folder: Path) -> int:
    """The highest number of a closing whose files lie below `folder`; 0 when there are none. Raises
    OSError.
    """
    found = (_FOLDER.fullmatch(path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in found if match), default=0)


def _totals_of(one: _Payee) -> PayeeTotals:
    head, sums = one.header, one.totals
    return PayeeTotals(
        *(head.payee.hex(), sums.rows, head.opening_fen, sums.credit_fen, sums.debit_fen, sums.closing_fen),
        head.previous,
    )


class _Lines:
    """The text of one file as it grows, and the hash of its rows."""

    def __init__(self, one: _Payee) -> None:
        self.one = one
        self.hash = sha256()
        self._count = self._credit_fen = self._debit_fen = 0
        self._became = _BECAME.iter_unpack(one.dispositions)  # in the order of the movements
        self._due: tuple[int, int] = next(self._became, _NOTHING_DUE)
        self._waiting: list[str] = []

    def begin(self) -> bytes:
        """The lines above the rows."""
        return f"{self.one.header.text()}\n{NAMES_LINE}\n".encode()

    def add(self, movements: Iterable[Any]) -> int:
        """Add movements of this payee's account; how many bytes their lines have."""
        account, count = self.one.account, self._count
        due, became = self._due
        fields, wait, length = _SIGNED.unpack_from, self._waiting.append, 0
        credit_fen = debit_fen = 0
        for number, reason, _, credit, amount_fen, digest, raw in movements:
            card, sequence, reference, terminal, transaction, time_s = fields(raw)
            count += 1
            if number == due:
                said = DISPOSITIONS[became]
                due, became = next(self._became, _NOTHING_DUE)
            else:
                said = _GRANTED_TEXT if raw[0] == PAYMENT else UNSAID
            if credit == account:
                credit_fen += amount_fen
                money = f"{amount_fen},0,{said}"
            else:
                debit_fen += amount_fen
                money = f"0,{amount_fen},{said}"
            line = (
                f"{count},{time_text(time_s)},{KINDS.get(reason) or kind_text(reason)},{money},"
                f"{terminal.hex()},{transaction},{card.hex()},{sequence},{reference.hex()},"
                f"{code_text(digest)}\n"
            )
            wait(line)
            length += len(line)
        self._credit_fen += credit_fen
        self._debit_fen += debit_fen
        self._count, self._due = count, (due, became)
        return length

    def taken(self) -> bytes:
        """The rows that were added since the last call."""
        piece = "".join(self._waiting).encode()
        self._waiting.clear()
        self.hash.update(piece)
        return piece

    @property
    def complete(self) -> bool:
        """Whether the rows are those that were closed."""
        sums = self.one.totals
        return (self._count, self._credit_fen, self._debit_fen) == (
            *(sums.rows, sums.credit_fen, sums.debit_fen),
        )

    def end(self, seal: Seal) -> bytes:
        """The lines below the rows."""
        return f"{self.one.totals.text()}\n{seal.text()}\n".encode()


class _Growing:
    """A file that is written beside its place, and put there when it is whole."""

    def __init__(self, lines: _Lines, partial: Path, path: Path) -> None:
        self.lines = lines
        self.path = path
        self._partial = partial
        self._append(lines.begin())

    def append(self) -> None:
        """Write the rows that wait."""
        piece = self.lines.taken()
        if piece:
            self._append(piece)

    def end(self, seal: Seal) -> None:
        """Write the last lines, to the disk. Raises SettlementError when another file has the name."""
        self._append(self.lines.end(seal), durably=True)
        if self.path.exists() and not _same(self._partial, self.path):
            raise SettlementError(
                f"{self.path} exists and holds something else; move it away, and write the files again"
            )

    def publish(self) -> None:
        """Put it in its place, unless it lies there already."""
        if not self.path.exists():
            self._partial.rename(self.path)

    def _append(self, piece: bytes, *, durably: bool = False) -> None:
        descriptor = os.open(
            self._partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(piece)
            if durably:
                file.flush()
                os.fsync(file.fileno())


def _by_account(page: Iterable[Any], wanted: Container[int]) -> dict[int, list[Any]]:
    """The movements of a page by the accounts that they touch, as far as those are wanted."""
    found: dict[int, list[Any]] = {}
    for movement in page:
        for account in movement[2:4]:
            if account in wanted:
                found.setdefault(account, []).append(movement)
    return found


def _append_all(files: Iterable[_Growing]) -> None:
    for file in files:
        file.append()


def _same(one: Path, other: Path) -> bool:
    with one.open("rb") as ours, other.open("rb") as theirs:
        while True:
            left, right = ours.read(1 << 20), theirs.read(1 << 20)
            if left != right:
                return False
            if not left:
                return True


@contextmanager
def _partial_folder(target: Path) -> Iterator[Path]:
    """A folder in `target` for files that are not whole yet, for one writer at a time; what a killed one left
    there is removed. Raises SettlementError, OSError.
    """
    partial = target / ".partial"
    partial.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettlementError(f"{target} is being written by another process; wait for it") from None
        _empty(partial)
        try:
            yield partial
        finally:
            _empty(partial)
            with suppress(OSError):
                partial.rmdir()
    finally:
        os.close(handle)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _to_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
