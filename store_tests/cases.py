"""What a terminal relies on in its store, one promise each. A case gets a bench with an empty folder."""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import pytest

from hardwallet.records import LOAD, SIGNATURE_LENGTH
from pos_terminal.errors import ClockWrong, JournalError, NoSuchSale, ReferenceReused
from pos_terminal.ports import CardCertificate
from pos_terminal.sale import Sale, SaleState
from store_tests.bench import CARD, CERTIFICATE, NOW, OTHER_CARD, REFERENCE, Bench, Store, record, sale

Case = Callable[[Bench], None]
CASES: Final[list[Case]] = []
OTHER_REFERENCE: Final = b"reference-02"
ENOUGH: Final = 20
"""Payments after which a process is killed."""


def case(run: Case) -> Case:
    """Put a function into the list."""
    CASES.append(run)
    return run


def kept(store: Store, reference: bytes = REFERENCE) -> Sale:
    """The sale with that reference (12 bytes), which must be there."""
    found = store.sale(reference)
    assert found is not None, f"the sale {reference!r} is gone"
    return found


def holds(store: Store, sequence: int) -> bool:
    """Whether the store gives back the payment, byte for byte."""
    found = store.payment(CARD, sequence)
    return found is not None and found.record.raw == record(sequence).raw


# ------------------------------------------------------------------------------- transaction numbers


@case
def numbers_are_given_out_once(bench: Bench) -> None:
    """Blocks are not empty, stay within 4 bytes, and never overlap, also after the store was closed."""
    blocks: list[range] = []
    for _ in range(2):
        with bench.opened() as store:
            blocks += [store.reserve_transactions(NOW) for _ in range(3)]
    numbers = [number for block in blocks for number in block]
    assert all(len(block) > 0 for block in blocks)
    assert all(0 < number < 2**32 for number in numbers)
    assert len(set(numbers)) == len(numbers)


@case
def a_clock_that_goes_back_repeats_no_number(bench: Bench) -> None:
    with bench.opened() as store:
        blocks = [store.reserve_transactions(time_s) for time_s in (NOW, NOW - 86_400, NOW - 1, NOW, 0, 0)]
    numbers = [number for block in blocks for number in block]
    assert len(set(numbers)) == len(numbers)


@case
def an_old_copy_put_back_repeats_no_number(bench: Bench) -> None:
    """A disk image from yesterday: by the clock, what was given out since is not given out again."""
    with bench.opened() as store:
        store.reserve_transactions(NOW)
    old = bench.copy("yesterday")
    with bench.opened() as store:
        given = {number for _ in range(3) for number in store.reserve_transactions(NOW + 3_600)}
    with bench.opened(old) as store:
        assert not given & set(store.reserve_transactions(NOW + 86_400))


# --------------------------------------------------------------------------------------------- sales


@case
def an_opened_sale_is_unresolved(bench: Bench) -> None:
    """Also when the terminal starts again; all of it comes back."""
    with bench.opened() as store:
        assert store.sale(REFERENCE) is None
        store.open_sale(sale())
    with bench.opened() as store:
        found = kept(store)
        assert found.state is SaleState.UNRESOLVED
        assert (found.reference, found.card, found.sequence) == (REFERENCE, CARD, 0)
        assert (found.amount_fen, found.currency, found.profile) == (1250, sale().currency, sale().profile)
        assert (found.transaction, found.time_s) == (5, NOW)
        assert store.unresolved() == [found]


@case
def unresolved_sales_come_oldest_first(bench: Bench) -> None:
    with bench.opened() as store:
        store.open_sale(sale(time_s=NOW + 5))
        store.open_sale(sale(OTHER_REFERENCE, OTHER_CARD))
    with bench.opened() as store:
        assert [one.reference for one in store.unresolved()] == [OTHER_REFERENCE, REFERENCE]


@case
def the_same_sale_may_be_opened_again(bench: Bench) -> None:
    with bench.opened() as store:
        store.open_sale(sale())
        store.open_sale(sale())
        assert len(store.unresolved()) == 1


@case
def a_reference_names_one_sale(bench: Bench) -> None:
    """Another amount, currency or profile under it is refused, and so is another card while one is asked."""
    changed = [
        Sale(REFERENCE, 1251, sale().currency, sale().profile, 5, NOW, card=CARD),
        Sale(REFERENCE, 1250, 0x0840, sale().profile, 5, NOW, card=CARD),
        Sale(REFERENCE, 1250, sale().currency, 1, 5, NOW, card=CARD),
        sale(card=OTHER_CARD),
    ]
    with bench.opened() as store:
        store.open_sale(sale())
        for other in changed:
            with pytest.raises(ReferenceReused):
                store.open_sale(other)
        assert kept(store).card == CARD
        assert kept(store).amount_fen == 1250


@case
def a_sale_that_a_card_refused_may_ask_another(bench: Bench) -> None:
    with bench.opened() as store:
        for place, state in enumerate((SaleState.OPEN, SaleState.DECLINED)):
            reference = b"reference-1" + bytes((place,))
            store.open_sale(sale(reference))
            store.change_sale(reference, state, "not enough", NOW)
            assert store.unresolved() == []
            store.open_sale(sale(reference, OTHER_CARD))
            assert [one.card for one in store.unresolved()] == [OTHER_CARD]
            store.change_sale(reference, SaleState.GIVEN_UP, "", NOW)


@case
def a_sale_that_has_ended_is_not_opened_again(bench: Bench) -> None:
    with bench.opened() as store:
        for place, state in enumerate((SaleState.GRANTED, SaleState.GIVEN_UP, SaleState.PAID_NOT_GRANTED)):
            reference = b"reference-2" + bytes((place,))
            store.open_sale(sale(reference))
            store.change_sale(reference, state, "", NOW)
            with pytest.raises(ReferenceReused):
                store.open_sale(sale(reference))
            assert kept(store, reference).state is state


@case
def a_change_is_kept_with_its_reason(bench: Bench) -> None:
    with bench.opened() as store:
        store.open_sale(sale())
        store.change_sale(REFERENCE, SaleState.GIVEN_UP, "付了现金", NOW + 9)
    with bench.opened() as store:
        assert (kept(store).state, kept(store).reason) == (SaleState.GIVEN_UP, "付了现金")
        assert store.unresolved() == []


@case
def a_change_of_no_sale_is_refused(bench: Bench) -> None:
    with bench.opened() as store:
        with pytest.raises(NoSuchSale):
            store.change_sale(REFERENCE, SaleState.GIVEN_UP, "", NOW)
        assert store.sale(REFERENCE) is None


# ------------------------------------------------------------------------------------------ payments


@case
def a_payment_is_kept_and_makes_its_sale(bench: Bench) -> None:
    with bench.opened() as store:
        store.keep_payment(record(3, 380), SaleState.GRANTED, NOW)
    with bench.opened() as store:
        found = store.payment(CARD, 3)
        assert found is not None
        assert (found.record.raw, found.own, found.granted) == (record(3, 380).raw, True, True)
        made = kept(store, record(3).reference)
        assert (made.state, made.amount_fen, made.card) == (SaleState.GRANTED, 380, CARD)
        assert (made.sequence, made.transaction) == (3, 3)
        assert store.payment(CARD, 4) is None
        assert store.payment(OTHER_CARD, 3) is None


@case
def a_payment_ends_the_sale_that_waited(bench: Bench) -> None:
    with bench.opened() as store:
        store.open_sale(sale())
        store.keep_payment(record(1, reference=REFERENCE), SaleState.GRANTED, NOW)
        assert store.unresolved() == []
    with bench.opened() as store:
        assert (kept(store).state, kept(store).sequence) == (SaleState.GRANTED, 1)
        assert store.unresolved() == []


@case
def a_payment_of_a_sale_given_up_is_not_granted(bench: Bench) -> None:
    with bench.opened() as store:
        store.open_sale(sale())
        store.change_sale(REFERENCE, SaleState.GIVEN_UP, "cash", NOW)
        store.keep_payment(record(1, reference=REFERENCE), SaleState.PAID_NOT_GRANTED, NOW)
    with bench.opened() as store:
        found = store.payment(CARD, 1)
        assert kept(store).state is SaleState.PAID_NOT_GRANTED
        assert found is not None
        assert (found.own, found.granted) == (True, False)


@case
def the_same_payment_again_changes_nothing(bench: Bench) -> None:
    """It is the same when its body is: a signature can be made into another one of the same body."""
    with bench.opened() as store:
        store.keep_payment(record(1), SaleState.GRANTED, NOW)
        before = store.waiting()
        store.keep_payment(record(1), SaleState.PAID_NOT_GRANTED, NOW)
        store.keep_payment(record(1, signature=b"\xff" * SIGNATURE_LENGTH), SaleState.GRANTED, NOW)
        store.keep_carried(record(1), NOW)
        assert store.waiting() == before
        found = store.payment(CARD, 1)
        assert found is not None
        assert (found.record.raw, found.granted) == (record(1).raw, True)


@case
def two_payments_with_one_number_are_both_kept(bench: Bench) -> None:
    """They prove that a card was cloned."""
    with bench.opened() as store:
        store.keep_payment(record(1, 100), SaleState.GRANTED, NOW)
        store.keep_payment(record(1, 230, nonce=1, reference=REFERENCE), SaleState.GRANTED, NOW)
    with bench.opened() as store:
        assert (store.waiting().count, store.waiting().amount_fen) == (2, 330)


@case
def a_carried_payment_may_become_an_own_one(bench: Bench) -> None:
    with bench.opened() as store:
        store.keep_carried(record(1), NOW)
        store.keep_carried(record(1), NOW)
        found = store.payment(CARD, 1)
        assert found is not None
        assert (found.own, found.granted) == (False, False)
        assert (store.waiting().count, store.waiting().carried) == (0, 1)
        store.keep_payment(record(1), SaleState.GRANTED, NOW)
    with bench.opened() as store:
        found = store.payment(CARD, 1)
        assert found is not None
        assert (found.own, found.granted) == (True, True)


@case
def receipts_are_carried_like_payments(bench: Bench) -> None:
    receipt = record(2, 5_000, kind=LOAD, payee=bytes(8), terminal=bytes(4))
    with bench.opened() as store:
        store.keep_carried(receipt, NOW)
    with bench.opened() as store:
        found = store.payment(CARD, 2)
        assert found is not None
        assert found.record.raw == receipt.raw


@case
def an_order_that_a_card_answered_is_kept(bench: Bench) -> None:
    with bench.opened() as store:
        store.keep_delivered(CARD, 1, 0x9000, NOW + 3)
    with bench.opened() as store:
        assert (store.waiting().entries, store.waiting().count) == (1, 0)
        assert store.last_time_s() == NOW + 3


# ------------------------------------------------------------------------------------------- waiting


@case
def what_waits_is_counted(bench: Bench) -> None:
    with bench.opened() as store:
        assert (store.waiting().entries, store.waiting().oldest_time_s, store.waiting_fen()) == (0, None, 0)
        assert store.last_time_s() == 0
        store.keep_payment(record(1, 100), SaleState.GRANTED, NOW)
        store.keep_payment(record(2, 230), SaleState.PAID_NOT_GRANTED, NOW + 1)
        store.keep_carried(record(3, 999, payee=b"another.", terminal=b"bus."), NOW + 2)
    with bench.opened() as store:
        waiting = store.waiting()
        assert (waiting.count, waiting.amount_fen, waiting.carried, waiting.entries) == (2, 330, 1, 3)
        assert waiting.oldest_time_s == NOW
        assert store.waiting_fen() == 330
        assert store.last_time_s() == NOW + 2


@case
def a_time_that_cannot_be_is_refused(bench: Bench) -> None:
    with bench.opened() as store:
        for time_s in (-1, 2**32):
            with pytest.raises(ClockWrong):
                store.keep_payment(record(1), SaleState.GRANTED, time_s)
        assert store.payment(CARD, 1) is None


# -------------------------------------------------------------------------------------- certificates


@case
def certificates_are_kept(bench: Bench) -> None:
    """A card that was known stays known: its next tap is one exchange shorter."""
    bare, full = CardCertificate(b"c" * 178, b""), CardCertificate(b"c" * 178, b"k" * 64)
    with bench.opened() as store:
        assert store.certificate(CERTIFICATE) is None
        store.keep_certificate(CERTIFICATE, bare)
        assert store.certificate(CERTIFICATE) == bare
        store.keep_certificate(CERTIFICATE, full)
    with bench.opened() as store:
        assert store.certificate(CERTIFICATE) == full
        assert store.certificate(b"digest02") is None


# ---------------------------------------------------------------------------------------- durability


@case
def one_process_holds_it(bench: Bench) -> None:
    with bench.opened() as store:
        with pytest.raises(JournalError), bench.opened():
            pass
        store.require_space()
        store.keep_payment(record(1), SaleState.GRANTED, NOW)
    with bench.opened() as store:
        assert holds(store, 1)


@case
def closed_it_takes_nothing(bench: Bench) -> None:
    with bench.opened() as store:
        store.close()
        with pytest.raises(JournalError):
            store.keep_payment(record(1), SaleState.GRANTED, NOW)


@case
def killed_it_loses_nothing(bench: Bench) -> None:
    """What a method kept is there after SIGKILL, and no transaction number comes again."""
    told = bench.kill_while_keeping(ENOUGH)
    numbers = [int(line.removeprefix("number ")) for line in told if line.startswith("number ")]
    payments = [int(line) for line in told if not line.startswith("number ")]
    assert len(told) >= ENOUGH, "the process ended before it was killed"
    with bench.opened() as store:
        assert [sequence for sequence in payments if not holds(store, sequence)] == []
        assert store.reserve_transactions(NOW)[0] > max(numbers)


@case
def a_write_that_was_cut_off_costs_nothing_kept_before(bench: Bench) -> None:
    """The power went while a payment was written: what its files had grown by is there in part, or not."""
    with bench.opened() as store:
        for sequence in (1, 2, 3):
            store.keep_payment(record(sequence), SaleState.GRANTED, NOW)
        before = bench.lengths()
        store.keep_payment(record(4), SaleState.GRANTED, NOW)
        after = bench.lengths()
        whole = bench.copy("whole")
    grown = {path: after[path] - length for path, length in before.items() if after[path] > length}
    places = sorted(
        {0, 1, *(growth // 2 for growth in grown.values()), *(growth - 1 for growth in grown.values())}
    )
    for place in places:
        cut = bench.copy(f"cut-{place}")
        for path, growth in grown.items():
            with (cut / path).open("wb") as file:
                file.write((whole / path).read_bytes()[: before[path] + min(place, growth)])
        with bench.opened(cut) as store:
            assert all(holds(store, sequence) for sequence in (1, 2, 3)), f"cut off after {place} bytes"
            store.keep_payment(record(4), SaleState.GRANTED, NOW)
            store.keep_payment(record(5), SaleState.GRANTED, NOW)
        with bench.opened(cut) as store:
            assert all(holds(store, sequence) for sequence in range(1, 6)), f"cut off after {place} bytes"
            assert store.waiting().count == 5


@case
def numbers_rise(bench: Bench) -> None:
    """Within a store the blocks rise: clearing and people read them as an order."""
    with bench.opened() as store:
        blocks = [store.reserve_transactions(NOW + hours * 3_600) for hours in range(5)]
    assert all(earlier[-1] < later[0] for earlier, later in pairwise(blocks))
