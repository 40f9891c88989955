"""Two lists compared: every class of difference, sums that add up, memory that does not grow."""

from collections import Counter
from collections.abc import Iterable
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_sync import reconciliation
from offline_sync.reconciliation import Class, Reconciliation, Rows, Side, reconcile
from offline_sync.settlement import Row
from tests.offline_sync.factory import NOW
from tests.offline_sync.test_settlement_file import row


def side(rows: Iterable[Row], other: Iterable[Row] = (), cut_s: int | None = None) -> Side:
    spread, others = Rows(BytesIO), Rows(BytesIO)
    for one in rows:
        spread.take(one)
    for one in other:
        others.take(one)
    return Side(spread, others, cut_s)


def compared(
    ours: Iterable[Row],
    theirs: Iterable[Row],
    ours_other: Iterable[Row] = (),
    theirs_other: Iterable[Row] = (),
) -> Reconciliation:
    return reconcile(side(ours, ours_other), side(theirs, theirs_other))


def told(found: Reconciliation) -> list[tuple[Class, int | None, int | None]]:
    return [(one.difference, one.ours_fen, one.theirs_fen) for one in found.differences]


PAID = [row(1, credit_fen=200), row(2, credit_fen=300), row(3, "refund", debit_fen=50)]


def test_the_same_lists_agree() -> None:
    found = compared(PAID, PAID)
    assert found.agree
    assert (found.matched, found.differences) == (3, [])
    assert set(found.sums) == {"only-ours", "only-theirs", "amount-differs", "duplicate", "late"}
    assert {one.count for one in found.sums.values()} == {0}
    assert (found.ours.count, found.ours.ours_fen, found.theirs.theirs_fen) == (3, 450, 450)


def test_order_and_line_numbers_do_not_count() -> None:
    shuffled = [one._replace(line=9 - one.line) for one in reversed(PAID)]
    assert compared(PAID, shuffled).agree


def test_what_only_one_has() -> None:
    found = compared(PAID[:2], PAID[1:])
    assert told(found) == [(Class.ONLY_OURS, 200, None), (Class.ONLY_THEIRS, None, -50)]
    assert found.matched == 1
    (ours, theirs) = found.differences
    assert (ours.time, ours.kind, ours.card, ours.sequence) == (
        *("2026-09-21T14:13:21Z", "payment", "0000001100000007", 1),
    )
    assert (ours.terminal, ours.transaction, ours.code) == ("00000001", 101, "ABCDEFG234")
    assert theirs.kind == "refund"


def test_an_amount_that_differs() -> None:
    found = compared(PAID, [PAID[0]._replace(credit_fen=201), *PAID[1:]])
    assert told(found) == [(Class.AMOUNT_DIFFERS, 200, 201)]
    assert found.sums["amount-differs"] == reconciliation.Sum(1, 200, 201)
    turned = compared(PAID, [PAID[0]._replace(credit_fen=0, debit_fen=200), *PAID[1:]])
    assert told(turned) == [(Class.AMOUNT_DIFFERS, 200, -200)]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_row_that_stands_there_twice(whose: str) -> None:
    twice = [*PAID, PAID[0]._replace(line=4)]
    found = compared(twice, PAID) if whose == "ours" else compared(PAID, twice)
    (one,) = found.differences
    assert (one.difference, one.detail) == (Class.DUPLICATE, f"twice in {whose}")
    assert (one.ours_fen, one.theirs_fen) == ((200, None) if whose == "ours" else (None, 200))
    assert found.matched == 3


def test_twice_in_both_is_told_of_both() -> None:
    twice = [*PAID, PAID[0]]
    assert told(compared(twice, twice)) == [(Class.DUPLICATE, 200, None), (Class.DUPLICATE, None, 200)]


def test_a_payment_in_two_days_lists() -> None:
    found = compared(PAID, PAID, theirs_other=[PAID[0]])
    (one,) = found.differences
    assert (one.difference, one.detail) == (Class.DUPLICATE, "in another list of theirs too")
    assert not found.agree


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_what_stands_in_another_days_list_is_late(whose: str) -> None:
    if whose == "theirs":
        found = compared(PAID, PAID[1:], theirs_other=PAID[:1])
    else:
        found = compared(PAID[1:], PAID, ours_other=PAID[:1])
    (one,) = found.differences
    assert (one.difference, one.detail) == (Class.LATE, f"it stands in another list of {whose}")
    other = compared(PAID, PAID[1:], theirs_other=[PAID[0]._replace(credit_fen=7)])
    assert told(other) == [(Class.AMOUNT_DIFFERS, 200, None)]
    assert other.differences[0].detail == "another list of theirs has it with 7 fen"


@pytest.mark.parametrize(("cut_s", "what"), [(NOW, Class.LATE), (NOW + 1, Class.ONLY_THEIRS)])
def test_what_was_signed_after_the_cut_is_late(cut_s: int, what: Class) -> None:
    """The first row was signed at NOW + 1."""
    found = reconcile(side(PAID[1:], cut_s=cut_s), side(PAID))
    assert told(found) == [(what, None, 200)]


def test_what_was_known_later_is_late() -> None:
    later = [PAID[0]._replace(disposition="carried"), *PAID[1:]]
    found = compared(later, PAID)
    assert told(found) == [(Class.LATE, 200, 200)]
    assert found.differences[0].detail == "carried in ours, granted in theirs"
    unsaid = [one._replace(disposition="-") for one in PAID]
    assert compared(unsaid, PAID).agree
    assert compared(PAID, unsaid).agree


def test_movements_that_may_repeat_are_added_up() -> None:
    back = row(5, "return", debit_fen=100)
    assert compared([back, back], [back._replace(debit_fen=200)]).agree
    assert told(compared([back, back], [back])) == [(Class.AMOUNT_DIFFERS, -200, -100)]
    assert told(compared([back], [], theirs_other=[back])) == [(Class.LATE, -100, None)]


@pytest.mark.parametrize(
    "change",
    [
        {"time_s": NOW},
        {"terminal": "00000002"},
        {"transaction": 9},
        {"card": "0000001100000008"},
        {"sequence": 9},
        {"reference": "f" * 24},
        {"code": "ABCDEFG235"},
        {"kind": "refund"},
    ],
)
def test_everything_of_the_record_names_it(change: dict[str, object]) -> None:
    found = compared(PAID[:1], [PAID[0]._replace(**change)])  # type: ignore[arg-type]
    assert told(found) == [(Class.ONLY_OURS, 200, None), (Class.ONLY_THEIRS, None, 200)]


def test_counts_and_sums_are_of_all_when_the_list_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "LISTED", 3)
    rows = [row(line, credit_fen=line) for line in range(1, 41)]
    found = compared(rows, [])
    assert found.sums["only-ours"] == reconciliation.Sum(40, sum(range(1, 41)), 0)
    assert [one.sequence for one in found.differences] == [1, 2, 3]


ROWS = st.lists(
    st.builds(
        lambda sequence, kind, amount_fen, disposition: row(
            sequence,
            kind,
            **({"credit_fen": amount_fen} if kind == "payment" else {"debit_fen": amount_fen}),
            disposition=disposition,
        ),
        st.integers(1, 6),
        st.sampled_from(["payment", "refund", "return"]),
        st.integers(1, 3),
        st.sampled_from(["carried", "granted", "-"]),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(ours=ROWS, theirs=ROWS, ours_other=ROWS, theirs_other=ROWS)
def test_differences_add_up(
    ours: list[Row], theirs: list[Row], ours_other: list[Row], theirs_other: list[Row]
) -> None:
    """What the differences come to is what the lists are apart; and nobody's order changes them."""
    found = compared(ours, theirs, ours_other, theirs_other)
    apart = sum(one.theirs_fen - one.ours_fen for one in found.sums.values())
    assert apart == found.theirs.theirs_fen - found.ours.ours_fen
    assert len(found.differences) == sum(one.count for one in found.sums.values())
    swapped = compared(theirs, ours, theirs_other, ours_other)
    turn = {Class.ONLY_OURS: Class.ONLY_THEIRS, Class.ONLY_THEIRS: Class.ONLY_OURS}
    assert Counter(told(found)) == Counter(
        (turn.get(what, what), ours_fen, theirs_fen) for what, theirs_fen, ours_fen in told(swapped)
    )


def test_lists_are_compared_in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at a time is a part: of 3,200 rows about a hundred of each side."""
    sizes = []
    whole = reconciliation._Part.of.__func__  # type: ignore[attr-defined]

    def noted(cls: type, side: Side, place: int) -> reconciliation._Part:
        part: reconciliation._Part = whole(cls, side, place)
        sizes.append(len(part.rows))
        return part

    monkeypatch.setattr(reconciliation._Part, "of", classmethod(noted))
    rows = [row(line, credit_fen=1) for line in range(1, 3_201)]
    assert compared(rows, rows).matched == 3_200
    assert (len(sizes), sum(sizes)) == (2 * reconciliation.PARTS, 6_400)
    assert max(sizes) < 200


def test_files_are_let_go() -> None:
    held = []

    def spool() -> BytesIO:
        held.append(BytesIO())
        return held[-1]

    with Rows(spool) as rows:
        rows.take(PAID[0])
        assert [file.closed for file in held] == [False] * reconciliation.PARTS
    assert [file.closed for file in held] == [True] * reconciliation.PARTS
