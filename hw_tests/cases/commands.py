"""Section 6: what any command has to be, before its own rules."""

import random

from hardwallet import messages as m
from hardwallet import status as sw
from hw_tests.bench import Bench, done, refused
from hw_tests.cases.registry import case

LENGTHS = {
    m.INS_EXCHANGE_CERTIFICATES: (0, 162),
    m.INS_INTRODUCE: (162,),
    m.INS_PROVE: (72,),
    m.INS_INTERNAL_AUTHENTICATE: (16,),
    m.INS_PAY: (58, 130, 210),
    m.INS_RATIFY: (12,),
    m.INS_CHANGE_PIN: (96,),
    m.INS_REFUND: (104,),
    m.INS_READ_RECORD: (4,),
    m.INS_READ_STATE: (0,),
    m.INS_LOAD_CHALLENGE: (0,),
    m.INS_LOAD: (122,),
    m.INS_ORDER: (125,),
}
MAY_BE_ASKED_BY_ANYONE = {m.INS_EXCHANGE_CERTIFICATES, m.INS_INTERNAL_AUTHENTICATE, m.INS_LOAD_CHALLENGE}


@case
def nothing_before_select(bench: Bench) -> None:
    """Every command, with data of the right length."""
    bench.tear()
    for ins, lengths in LENGTHS.items():
        for length in lengths:
            refused(bench.send(ins, bytes(length)), sw.SELECT_FIRST)


@case
def unknown_class(bench: Bench) -> None:
    """Every class but 80 (and 00 with SELECT)."""
    for cla in (0x00, 0x20, 0x90, 0xA0, 0xB0, 0xC0, 0xE0):
        for ins in (m.INS_LOAD_CHALLENGE, m.INS_PAY):
            refused(bench.send(ins, cla=cla), sw.UNKNOWN_CLA)


@case
def unknown_instruction(bench: Bench) -> None:
    """Every INS that ISO/IEC 7816-3 allows and the page does not name; SELECT under class 80 too."""
    for ins in range(256):
        if ins not in LENGTHS and ins >> 4 not in (6, 9) and ins != 0xC0:
            refused(bench.send(ins), sw.UNKNOWN_INS)


@case
def unknown_parameters(bench: Bench) -> None:
    """P1 and P2 other than those on the page."""
    for ins, lengths in LENGTHS.items():
        p1_allowed = (0, 1, 2) if ins == m.INS_READ_RECORD else (0,)
        p2_allowed = (0, 1) if ins == m.INS_EXCHANGE_CERTIFICATES else (0,)
        for value in (1, 2, 4, 0x7F, 0x80, 0xFF):
            if value not in p1_allowed:
                refused(bench.send(ins, bytes(lengths[0]), p1=value), sw.WRONG_P1P2)
            if value not in p2_allowed:
                refused(bench.send(ins, bytes(lengths[0]), p2=value), sw.WRONG_P1P2)


@case
def wrong_lengths(bench: Bench) -> None:
    """One byte less, one more, none, one, as much as fits."""
    bench.select()
    done(bench.prove())

    def run() -> None:
        bench.select()
        done(bench.prove())
        for ins, lengths in LENGTHS.items():
            wrong = {0, 1, 255, *(n - 1 for n in lengths if n), *(n + 1 for n in lengths)} - set(lengths)
            for length in sorted(wrong):
                refused(bench.send(ins, bytes(length)), sw.WRONG_LENGTH)

    bench.unchanged(run)


@case
def extended_lengths(bench: Bench) -> None:
    """Only short APDUs exist."""
    bench.select()
    refused(bench.raw(bytes.fromhex("8034000000") + b"\x01\x00"), sw.WRONG_LENGTH)
    refused(bench.raw(b"\x00\xa4\x04\x00\x00\x00\x0b" + m.AID), sw.WRONG_LENGTH)
    refused(bench.raw(b"\x00\xa4\x04\x00\x00\x00\x0b" + m.AID + b"\x00\x00"), sw.WRONG_LENGTH)
    sale = bench.sale().to_bytes()
    refused(bench.raw(b"\x80\x20\x00\x00\x00\x00\x3a" + sale + b"\x00\x00"), sw.WRONG_LENGTH)
    done(bench.send(m.INS_LOAD_CHALLENGE))


@case
def lengths_that_do_not_fit(bench: Bench) -> None:
    """Lc says less or more than follows."""
    bench.select()
    for tail in (b"\x04\x00\x00", b"\x04" + bytes(6), b"\x00\x00", b"\xff" + bytes(20)):
        refused(bench.raw(b"\x80\x30\x00\x00" + tail), sw.WRONG_LENGTH)
    done(bench.send(m.INS_LOAD_CHALLENGE))


@case
def random_bytes(bench: Bench) -> None:
    """Whatever comes in, a status word goes out, and nothing has changed."""
    chance = random.Random(20)

    def run() -> None:
        bench.select()
        for _ in range(400):
            data = chance.randbytes(chance.choice((0, 4, 12, 58, 72, 122, chance.randrange(256))))
            ins = chance.choice([*LENGTHS, chance.randrange(0, 0x60)])
            if ins == m.INS_CHANGE_PIN:
                data = data[:95]  # whole, it would cost a try
            answer = bench.send(ins, data, cla=chance.choice((0x80, 0x80, 0x80, 0x00, 0xB0)))
            assert answer.sw != sw.OK or ins in MAY_BE_ASKED_BY_ANYONE
            assert answer.sw == sw.OK or answer.data == b""

    bench.unchanged(run)


@case
def random_bytes_after_a_proof(bench: Bench) -> None:
    """The same with the header of every command and noise for its data, in a proved session."""
    chance = random.Random(21)
    spared = {m.INS_INTERNAL_AUTHENTICATE}  # to which any challenge is good
    if bench.has_pin():
        spared.add(m.INS_CHANGE_PIN)  # each would cost a try

    def run() -> None:
        for ins, lengths in LENGTHS.items():
            if ins in spared:
                continue
            for length in lengths:
                for _ in range(6):
                    bench.select()
                    done(bench.prove())
                    answer = bench.send(ins, chance.randbytes(length))
                    if length:
                        assert answer.sw not in (sw.OK, sw.MEMORY_FAILURE)
                        assert answer.data == b""

    bench.unchanged(run)
