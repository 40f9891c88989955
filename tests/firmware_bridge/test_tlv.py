"""BER-TLV: round trips, known bytes, bounds, and whatever else comes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.errors import MalformedTlv
from firmware_bridge.tlv import MAX_DEPTH, MAX_OBJECTS, Tlv, build, constructed, find, parse, walk

one_byte_tags = st.integers(1, 0xFF).filter(lambda tag: tag & 0x1F != 0x1F)
two_byte_tags = st.builds(
    lambda first, second: (first << 5 | 0x1F) << 8 | second, st.integers(0, 7), st.integers(0x1F, 0x7F)
)
three_byte_tags = st.builds(
    lambda first, second, third: (first << 5 | 0x1F) << 16 | (second | 0x80) << 8 | third,
    st.integers(0, 7),
    st.integers(1, 0x7F),
    st.integers(0, 0x7F),
)
tags = one_byte_tags | two_byte_tags | three_byte_tags
objects = st.lists(st.builds(Tlv, tags, st.binary(max_size=300)), max_size=8)


@given(objects)
def test_what_is_built_is_parsed_again(made: list[Tlv]) -> None:
    assert parse(build(made)) == made


@given(st.binary(max_size=400))
def test_any_bytes_are_tlv_or_malformed(raw: bytes) -> None:
    try:
        found = parse(raw)
    except MalformedTlv:
        return
    assert build(found) == raw


@given(st.binary(max_size=400))
def test_walking_any_bytes_ends(raw: bytes) -> None:
    try:
        found = list(walk(raw))
    except MalformedTlv:
        return
    assert all(depth < MAX_DEPTH for depth, _ in found)


def test_known_bytes() -> None:
    fci = bytes.fromhex("6F10 8405 F04543484F A507 9F3804 9F1A02 5F".replace(" ", ""))
    top = parse(fci)
    assert [found.tag for found in top] == [0x6F]
    children = top[0].children()
    assert find(children, 0x84) == Tlv(0x84, bytes.fromhex("F04543484F"))
    assert find(children, 0xA5) == Tlv(0xA5, bytes.fromhex("9F38049F1A025F"))
    assert find(children, 0x50) is None
    assert [(depth, found.tag) for depth, found in walk(fci)] == [
        (0, 0x6F),
        (1, 0x84),
        (1, 0xA5),
        (2, 0x9F38),
    ]


@pytest.mark.parametrize(
    ("length", "field"),
    [(0, "00"), (127, "7F"), (128, "8180"), (255, "81FF"), (256, "820100"), (65_535, "82FFFF")],
)
def test_lengths_take_their_shortest_form(length: int, field: str) -> None:
    raw = Tlv(0x80, bytes(length)).to_bytes()
    assert raw[1:] == bytes.fromhex(field) + bytes(length)


@pytest.mark.parametrize(
    ("why", "raw"),
    [
        ("indefinite length", "30800000"),
        ("value cut short", "8002AA"),
        ("no length", "80"),
        ("length cut short", "8082FF"),
        ("length too long", "8083000001AA"),
        ("length not shortest", "808101AA"),
        ("length not shortest, two bytes", "808200FF" + "AA" * 255),
        ("tag cut short", "9F"),
        ("tag of four bytes", "9F81818101AA"),
        ("tag with leading zero septet", "9F800100"),
        ("low number in two bytes", "9F1E00"),
        ("tag 00", "0000"),
    ],
)
def test_what_is_not_read(why: str, raw: str) -> None:
    with pytest.raises(MalformedTlv):
        parse(bytes.fromhex(raw))


def test_nesting_is_bounded() -> None:
    deepest = Tlv(0x80, b"\x01")
    for _ in range(MAX_DEPTH - 1):
        deepest = constructed(0x30, [deepest])
    assert len(list(walk(deepest.to_bytes()))) == MAX_DEPTH
    with pytest.raises(MalformedTlv, match="nested deeper"):
        list(walk(constructed(0x30, [deepest]).to_bytes()))


def test_numbers_and_sizes_are_bounded() -> None:
    with pytest.raises(MalformedTlv):
        parse(b"\x80\x00" * (MAX_OBJECTS + 1))
    with pytest.raises(MalformedTlv):
        list(walk(b"\x30\x00" * MAX_OBJECTS + b"\x30\x02\x80\x00"))
    with pytest.raises(MalformedTlv):
        parse(bytes(65_536))
    with pytest.raises(MalformedTlv):
        Tlv(0x80, bytes(65_536)).to_bytes()
    with pytest.raises(MalformedTlv):
        build([Tlv(0x80, bytes(40_000)), Tlv(0x80, bytes(40_000))])


@pytest.mark.parametrize("tag", [0, -1, 0x1F, 0x9F80, 0x8001, 1 << 24])
def test_tags_that_are_none_are_not_written(tag: int) -> None:
    with pytest.raises(MalformedTlv):
        Tlv(tag, b"").to_bytes()


def test_constructed_objects_need_a_tag_that_says_so() -> None:
    with pytest.raises(MalformedTlv):
        constructed(0x80, [Tlv(0x81, b"")])
