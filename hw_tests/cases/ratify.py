"""Sections 5, 6 and 9: RATIFY, reading and carrying records, what the journal keeps."""

from dataclasses import replace

from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hw_tests.bench import LIMITS, Bench, done, flipped, refused
from hw_tests.cases.registry import case


@case
def ratify_says_whether_it_was_the_first(bench: Bench) -> None:
    """01, then 00 for ever; no proof, another session."""
    record = bench.buy()
    assert bench.select().unratified == 1
    assert done(bench.ratify(record)) == b"\x01"
    assert done(bench.ratify(record)) == b"\x00"
    assert bench.select().unratified == 0
    assert done(bench.ratify(record)) == b"\x00"


@case
def ratify_needs_the_record(bench: Bench) -> None:
    """Who does not know the signature's end has not got it."""
    record = bench.buy()

    def run() -> None:
        bench.select()
        good = record.sequence.to_bytes(4, "big") + record.tag
        for offset in range(4, 12):
            refused(bench.send(m.INS_RATIFY, flipped(good, offset)), sw.SIGNATURE_WRONG)
        for sequence in (0, record.sequence + 1, record.sequence + 128, 2**32 - 1):
            data = sequence.to_bytes(4, "big") + record.tag
            refused(bench.send(m.INS_RATIFY, data), sw.NO_SUCH_RECORD)

    bench.unchanged(run)
    assert bench.select().unratified == 1


@case
def ratify_on_a_blocked_card(bench: Bench) -> None:
    """Its records are carried all the same."""
    record = bench.buy()
    bench.order(m.KIND_BLOCK)
    bench.select()
    done(bench.prove(bench.transit))
    assert done(bench.read(0, m.P1_NEXT_UNRATIFIED)) == record.raw + b"\x01"
    assert done(bench.ratify(record)) == b"\x01"


@case
def reading_needs_a_proof(bench: Bench) -> None:
    """Before the question is looked at."""
    record = bench.buy()
    bench.select()
    for p1 in (0, 1):
        refused(bench.read(record.sequence, p1), sw.NOT_PROVED)
    refused(bench.send(m.INS_READ_STATE), sw.NOT_PROVED)
    done(bench.prove())
    assert done(bench.read(record.sequence)) == record.raw + b"\x01"
    done(bench.ratify(record))
    assert done(bench.read(record.sequence)) == record.raw + b"\x00"


@case
def unknown_records(bench: Bench) -> None:
    """0, and what is not there yet."""
    record = bench.buy()
    done(bench.prove())
    for sequence in (0, record.sequence + 1, 2**32 - 1):
        refused(bench.read(sequence), sw.NO_SUCH_RECORD)
    refused(bench.read(record.sequence, m.P1_NEXT_UNRATIFIED), sw.NO_SUCH_RECORD)
    refused(bench.read(2**32 - 1, m.P1_NEXT_UNRATIFIED), sw.NO_SUCH_RECORD)


@case
def unratified_records_are_walked_in_order(bench: Bench) -> None:
    """By the last number seen; ratified ones are passed over, loads are not."""
    records = [bench.buy(1), bench.buy(2), bench.load(3), bench.buy(4, bench.retail)]
    done(bench.ratify(records[1]))
    waiting = [records[0], records[2], records[3]]
    bench.select()
    done(bench.prove())
    seen, above = [], 0
    while (reply := bench.read(above, m.P1_NEXT_UNRATIFIED)).sw == sw.OK:
        record = r.parse(reply.data[:160])
        assert reply.data[160] == 1
        seen.append(record)
        above = record.sequence
    assert seen == waiting
    for record in seen:
        assert done(bench.ratify(record)) == b"\x01"
    assert bench.select().unratified == 0


@case
def full_journal_overwrites_nothing(bench: Bench) -> None:
    """128 records that no issuer has acknowledged: all are there, and no more is taken."""
    bench.limits(replace(LIMITS, offline_count=128))
    records = []
    for _ in range(128):
        records.append(bench.buy(1, bench.retail))
        done(bench.ratify(records[-1]))
    bench.select()
    refused(bench.pay(bench.sale(1)), sw.JOURNAL_FULL)
    refused(bench.send_load(bench.load_order(1)), sw.JOURNAL_FULL)
    done(bench.prove())
    for record in records:
        assert done(bench.read(record.sequence)) == record.raw + b"\x00"


@case
def acknowledged_entries_are_overwritten_oldest_first(bench: Bench) -> None:
    """An issuer's acknowledgement frees exactly what it names; what is overwritten is unknown."""
    records = []
    for _ in range(128):
        records.append(bench.buy(1, bench.retail))
        done(bench.ratify(records[-1]))
    bench.acknowledge(records[1].sequence)
    done(bench.prove())
    refused(bench.read(records[0].sequence), sw.NO_SUCH_RECORD)  # the next one goes there
    assert done(bench.read(records[1].sequence)) == records[1].raw + b"\x00"
    bench.buy(1, bench.retail)
    done(bench.prove())
    refused(bench.read(records[0].sequence), sw.NO_SUCH_RECORD)
    refused(bench.ratify(records[0]), sw.NO_SUCH_RECORD)
    assert done(bench.read(records[2].sequence)) == records[2].raw + b"\x00"
    bench.buy(1, bench.retail)
    done(bench.prove())
    refused(bench.read(records[1].sequence), sw.NO_SUCH_RECORD)
    assert done(bench.read(records[2].sequence)) == records[2].raw + b"\x00"
    bench.select()
    refused(bench.pay(bench.sale(1, bench.retail), bench.retail), sw.JOURNAL_FULL)


@case
def sequence_has_no_gaps(bench: Bench) -> None:
    """Payments and loads share one number; neighbouring balances fit."""
    first = bench.state()
    balance_fen, sequence = first.balance_fen, first.sequence
    for step in range(6):
        record = bench.load(5) if step % 3 == 1 else bench.buy(7)
        balance_fen += 5 if step % 3 == 1 else -7
        sequence += 1
        assert (record.sequence, record.balance_fen) == (sequence, balance_fen)
