"""Section 7: SELECT."""

from hardwallet import messages as m
from hardwallet import status as sw
from hw_tests.bench import Bench, done, refused
from hw_tests.cases.registry import case


@case
def answers_a_template_of_48_bytes(bench: Bench) -> None:
    """Every field of the answer."""
    answer = done(bench.send(m.INS_SELECT, m.AID, 4, cla=0))
    assert len(answer) == 48
    assert answer[:4] == bytes.fromhex("6F2E852C")
    assert answer[4:7] == bytes((1, bench.suite.number, 1))
    assert answer[7] & ~7 == 0
    assert answer[8] == 0  # all acknowledged by the preparation
    assert answer[10:14] == bench.bundle.scheme
    assert answer[14:22] == bench.card
    assert answer[22:30] == bench.suite.hash(bench.certificate.body())[:8]
    assert answer[30:32] == b"\x01\x56"


@case
def nonce_is_fresh_each_time(bench: Bench) -> None:
    """Also after a loss of power."""
    nonces = {bench.select().nonce for _ in range(20)}
    bench.tear()
    nonces.add(bench.select().nonce)
    assert len(nonces) == 21


@case
def state_tells_blocked_and_unratified(bench: Bench) -> None:
    """Bit 0 and byte 4."""
    assert bench.select().state & m.STATE_BLOCKED == 0
    bench.buy()
    bench.buy()
    assert bench.select().unratified == 2
    bench.order(m.KIND_BLOCK)
    assert bench.select().state & m.STATE_BLOCKED


@case
def another_name_is_not_found_and_deselects(bench: Bench) -> None:
    """A shorter and a longer one too."""
    names = [m.AID[:length] for length in range(1, len(m.AID))]
    names += [m.AID + b"\x00", b"\xa0" + m.AID[1:], bytes(16)]
    for name in names:
        bench.select()
        refused(bench.send(m.INS_SELECT, name, 4, cla=0), sw.NO_APPLICATION)
        refused(bench.send(m.INS_LOAD_CHALLENGE), sw.SELECT_FIRST)


@case
def only_by_name_and_first_occurrence(bench: Bench) -> None:
    """P1 04 and P2 00; the session goes on."""
    bench.select()
    done(bench.prove())
    for p1, p2 in ((0, 0), (1, 0), (2, 0), (8, 0), (5, 0), (4, 1), (4, 2), (4, 4), (4, 0x0C), (4, 0x80)):
        refused(bench.send(m.INS_SELECT, m.AID, p1, p2, cla=0), sw.WRONG_P1P2)
    done(bench.send(m.INS_READ_STATE))


@case
def power_loss_ends_the_session(bench: Bench) -> None:
    """Selection and proof are gone."""
    bench.select()
    done(bench.prove())
    bench.tear()
    refused(bench.send(m.INS_READ_STATE), sw.SELECT_FIRST)
    bench.select()
    refused(bench.send(m.INS_READ_STATE), sw.NOT_PROVED)


@case
def select_ends_the_proof(bench: Bench) -> None:
    """A session is proved until the next SELECT."""
    bench.select()
    done(bench.prove())
    done(bench.send(m.INS_READ_STATE))
    bench.select()
    refused(bench.send(m.INS_READ_STATE), sw.NOT_PROVED)
    refused(bench.read(1), sw.NOT_PROVED)
