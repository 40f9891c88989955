"""The driver's view in places of any size: as big as fits, never cut off, and nothing left out."""

import pytest

from tui.screens import big
from tui.screens.layout import Face, clipped, compose, cut, spaced, wrap
from tui.text import columns

APPROVED = Face(big.APPROVED, "Approved", "ok", "✓", "2.00", "Balance", "198.00", ("Student",))
CHINESE = Face(big.APPROVED, "已批准", "ok", "✓", "2.00", "余额", "198.00", ("学生卡",))
LONG = Face(
    big.REFUSED,
    "Not paid",
    "bad",
    "✗",
    label="Balance",
    second="0.50",
    lines=("the card is on its issuer's denylist and can't pay here; its holder has to ask the issuer",),
)
READY = Face(big.CARD, "请刷卡", "ready", figures="2.00 ×2")
FACES = [APPROVED, CHINESE, LONG, READY]
PICTURES = [
    *(big.APPROVED, big.REFUSED, big.AGAIN, big.ALREADY, big.CARD, big.BUSY),
    *(big.PIN, big.CLOSED, big.BUS, big.LOOK, big.ALONE),
]


def text_of(face: Face, width: int, height: int) -> str:
    return "\n".join(row.text for row in compose(face, width, height))


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.word)
@pytest.mark.parametrize("size", [(80, 14), (58, 12), (42, 9), (30, 5), (120, 30), (200, 60), (7, 3), (1, 1)])
def test_every_row_is_exactly_as_wide_as_its_place(face: Face, size: tuple[int, int]) -> None:
    rows = compose(face, *size)

    assert len(rows) == size[1]
    assert {columns(row.text) for row in rows} == {size[0]}


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.word)
@pytest.mark.parametrize("size", [(80, 14), (58, 12), (120, 30)])
def test_nothing_that_is_said_is_left_out(face: Face, size: tuple[int, int]) -> None:
    shown = text_of(face, *size)

    assert spaced(face.word) in shown
    assert face.label in shown
    for line in face.lines:
        for word in line.split():
            assert word in shown


def test_a_larger_place_is_used() -> None:
    inked = [
        sum(shown.count(block) for block in "█▀▄") for shown in map(text_at, [(42, 9), (80, 14), (120, 30)])
    ]

    assert inked == sorted(inked)
    assert inked[2] > 3 * inked[0]


def text_at(size: tuple[int, int]) -> str:
    return text_of(APPROVED, *size)


def test_a_place_too_small_for_pictures_has_the_words() -> None:
    assert "✓ Approved" in text_of(APPROVED, 20, 3)
    assert "2.00" in text_of(APPROVED, 20, 3)


def test_chinese_is_broken_between_characters_and_never_before_a_mark() -> None:
    lines = wrap("这张卡已被发卡机构挂失，不能在此付款；请联系发卡机构。", 20)

    assert all(columns(line) <= 20 for line in lines)
    assert "".join(lines) == "这张卡已被发卡机构挂失，不能在此付款；请联系发卡机构。"
    assert not any(line[0] in "，；。" for line in lines)


def test_a_word_longer_than_the_line_is_broken_and_none_is_lost() -> None:
    assert wrap("ab abcdefghij k", 4) == ["ab", "abcd", "efgh", "ij k"]
    assert wrap("", 4) == []


@pytest.mark.parametrize(
    ("text", "width", "shown"), [("北京西站", 8, "北京西站"), ("北京西站", 7, "北京西…"), ("abc", 2, "a…")]
)
def test_a_name_that_is_too_long_says_so(text: str, width: int, shown: str) -> None:
    assert clipped(text, width) == shown


def test_a_cut_always_makes_headway() -> None:
    assert cut("北京", 1) == "北"


@pytest.mark.parametrize("place", range(len(PICTURES)))
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_picture_takes_the_place_that_it_says(place: int, scale: int) -> None:
    drawn = big.draw(PICTURES[place], scale)

    assert (len(drawn[0]), len(drawn)) == big.size(PICTURES[place], scale)
    assert len({len(line) for line in drawn}) == 1


def test_no_two_pictures_look_alike() -> None:
    assert len({tuple(picture) for picture in PICTURES}) == len(PICTURES)


def test_figures_are_told_apart() -> None:
    drawn = {figure: tuple(big.draw(big.figures(figure), 2)) for figure in "0123456789.-×"}

    assert len(set(drawn.values())) == len(drawn)
