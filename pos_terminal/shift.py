"""A shift: the cash in the drawer, what cards paid meanwhile, and the reading of both. Pure.

    expected = float + cash in - cash out
    difference = counted - expected

Cards pay nothing into the drawer, so that card sales never touch it. A refund that is given in cash is a cash
out with its reason.

An X report reads a shift that goes on, a Z report is that of a closed one: one function makes both.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from hardwallet.records import MAX_AMOUNT_FEN
from pos_terminal.errors import BadAmount, CashShort, DifferenceUnexplained, NameMissing, ReasonMissing
from pos_terminal.money import format_amount, parse_amount

TEXT_LIMIT: Final = 100
"""The longest name, reason or note, characters. What is longer is cut."""
MAX_MOVEMENTS: Final = 1_000
"""Cash in and out of one shift."""
LISTED: Final = 200
"""The most unsynced items, and unresolved sales, that a report lists one by one; it counts all of them."""

_NOTHING: Final = re.compile("0{1,10}([.]0{1,2})?")

_Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Cash = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT_FEN)]
_Moved = Annotated[int, msgspec.Meta(ge=-MAX_AMOUNT_FEN, le=MAX_AMOUNT_FEN)]
_Text = Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT)]
_Word = Annotated[str, msgspec.Meta(max_length=32)]


class Tally(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many, and how much they are together, in fen."""

    count: _Natural = 0
    amount_fen: _Natural = 0


class Totals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What cards did between two places of the journal, by its entries up to `last`.

    `granted`: payments; `refunded`: what went back to cards; `carried`: records for other terminals, and
    receipts; `damaged`: entries that could not be read and are in no other figure.
    """

    granted: Tally = Tally()
    refunded: Tally = Tally()
    given_up: Tally = Tally()
    paid_not_granted: Tally = Tally()
    declined: Tally = Tally()
    carried: _Natural = 0
    damaged: _Natural = 0
    last: _Natural = 0

    @property
    def net_fen(self) -> int:
        """What cards paid, less what went back to them."""
        return self.granted.amount_fen - self.refunded.amount_fen


class Movement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cash put into the drawer (`amount_fen` > 0) or taken out of it (< 0). `time_s`: seconds since 1970."""

    amount_fen: _Moved
    reason: _Text
    who: _Text
    time_s: _Natural


class Shift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One shift. `first`: the journal's last entry when it was opened: the shift has those after it.

    `outside`: payments that were granted between the shift before and this one.
    """

    number: _Natural
    opened_s: _Natural
    opened_by: _Text
    float_fen: _Cash
    first: _Natural
    outside: Tally = Tally()
    movements: Annotated[tuple[Movement, ...], msgspec.Meta(max_length=MAX_MOVEMENTS)] = ()

    @property
    def cash_in_fen(self) -> int:
        """All cash that was put in, without the float."""
        return sum(move.amount_fen for move in self.movements if move.amount_fen > 0)

    @property
    def cash_out_fen(self) -> int:
        """All cash that was taken out, as a positive number."""
        return -sum(move.amount_fen for move in self.movements if move.amount_fen < 0)

    @property
    def expected_fen(self) -> int:
        """What the drawer has to hold."""
        return self.float_fen + self.cash_in_fen - self.cash_out_fen


class Closing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was counted at the close, by whom and when. `difference_reason` is empty when nothing differs."""

    counted_fen: _Cash
    note: _Text
    difference_reason: _Text
    who: _Text
    time_s: _Natural


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment or a refund that clearing has not acknowledged. `state`: the words of its queue state
    (offline_sync.outbox.RowState). An entry that is damaged has number and amount 0."""

    entry: _Natural
    number: _Natural
    time_s: _Natural
    amount_fen: _Natural
    kind: _Word
    state: _Word


class Unsynced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What waits in the terminal to be sent, of this shift and of those before: all of it counted, up to 200
    items listed."""

    payments: Tally = Tally()
    carried: _Natural = 0
    entries: _Natural = 0
    items: Annotated[tuple[Item, ...], msgspec.Meta(max_length=LISTED)] = ()


class Unfinished(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sale or refund of which nobody knows yet whether the card (8 bytes, hex) has paid."""

    number: _Natural
    time_s: _Natural
    amount_fen: _Natural
    kind: _Word
    card: _Word


class ShiftReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The figures of a shift at `time_s`. With `closing` it is a Z report, without an X report."""

    shift: Shift
    time_s: _Natural
    totals: Totals
    unsynced: Unsynced = Unsynced()
    unfinished: Annotated[tuple[Unfinished, ...], msgspec.Meta(max_length=LISTED)] = ()
    unfinished_count: _Natural = 0
    blind: bool = False
    closing: Closing | None = None

    @property
    def letter(self) -> str:
        """X or Z."""
        return "X" if self.closing is None else "Z"

    @property
    def expected_fen(self) -> int | None:
        """What the drawer has to hold; None as long as it is to be counted blindly and was not counted."""
        return None if self.blind and self.closing is None else self.shift.expected_fen

    @property
    def difference_fen(self) -> int | None:
        """Counted less expected: negative when cash is missing. None before the count."""
        return None if self.closing is None else self.closing.counted_fen - self.shift.expected_fen


def report(
    shift: Shift,
    totals: Totals,
    time_s: int,
    *,
    unsynced: Unsynced | None = None,
    unfinished: Sequence[Unfinished] = (),
    blind: bool = False,
    closing: Closing | None = None,
) -> ShiftReport:
    """The figures of a shift: X without a closing, Z with one."""
    return ShiftReport(
        shift,
        time_s,
        totals,
        unsynced or Unsynced(),
        tuple(unfinished[:LISTED]),
        len(unfinished),
        blind,
        closing,
    )


def open_shift(
    number: int, float_fen: int, who: str, now_s: int, at_entry: int, outside: Tally | None = None
) -> Shift:
    """A new shift with `float_fen` in the drawer, 0 or more. Raises BadAmount, NameMissing."""
    want_cash(float_fen, 0)
    return Shift(number, now_s, _name(who), float_fen, at_entry, outside or Tally())


def move_cash(shift: Shift, amount_fen: int, reason: str, who: str, now_s: int) -> Movement:
    """A movement of cash: `amount_fen` > 0 into the drawer, < 0 out of it.

    Raises BadAmount, ReasonMissing, NameMissing, CashShort when the drawer can't hold so much.
    """
    want_cash(abs(amount_fen), 1)
    words = clean(reason)
    if not words:
        raise ReasonMissing("cash goes in or out of the drawer for a reason; say which")
    if amount_fen < 0 and shift.expected_fen + amount_fen < 0:
        raise CashShort(
            "that is more than the drawer can hold by what was put in; if the cash is there, book it as cash "
            "in first"
        )
    return Movement(amount_fen, words, _name(who), now_s)


def count(
    shift: Shift,
    counted_fen: int,
    note: str,
    difference_reason: str,
    who: str,
    now_s: int,
    *,
    blind: bool = False,
) -> Closing:
    """What was counted, to close the shift with.

    Raises BadAmount, NameMissing, DifferenceUnexplained when the count differs and nobody says why; of a
    blind count it does not tell by how much.
    """
    want_cash(counted_fen, 0)
    reason = clean(difference_reason)
    difference_fen = counted_fen - shift.expected_fen
    if difference_fen and not reason:
        raise _unexplained(None if blind else difference_fen)
    return Closing(counted_fen, clean(note), reason if difference_fen else "", _name(who), now_s)


def _unexplained(difference_fen: int | None) -> DifferenceUnexplained:
    if difference_fen is None:
        return DifferenceUnexplained(
            "the count differs from the books; count again, or give the reason for the difference", None
        )
    amount = format_amount(abs(difference_fen))
    if difference_fen < 0:
        return DifferenceUnexplained(
            f"{amount} is missing in the drawer; count again, or give the reason for the difference",
            difference_fen,
        )
    return DifferenceUnexplained(
        f"{amount} too much is in the drawer; count again, or give the reason for the difference",
        difference_fen,
    )


def clean(text: str) -> str:
    """One line that can be printed and kept: no control characters, at most 100 characters."""
    sound = text.encode("utf-8", "replace").decode()
    shown = "".join(character if character.isprintable() else " " for character in sound)
    return " ".join(shown.split())[:TEXT_LIMIT].strip()


def parse_cash(text: str) -> int:
    """An amount of cash in yuan as people write it, in fen; a drawer may hold 0. Raises BadAmount."""
    return 0 if _NOTHING.fullmatch(text.strip()) else parse_amount(text)


def want_cash(amount_fen: int, least_fen: int) -> None:
    """Raises BadAmount unless it is an amount of cash from `least_fen` to 2^31 - 1."""
    if not least_fen <= amount_fen <= MAX_AMOUNT_FEN:
        raise BadAmount(f"an amount of cash is {format_amount(least_fen)} to {format_amount(MAX_AMOUNT_FEN)}")


def _name(who: str) -> str:
    name = clean(who)
    if not name:
        raise NameMissing("say who does it: a shift is kept with the names of those who open and close it")
    return name
