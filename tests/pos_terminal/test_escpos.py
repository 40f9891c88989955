"""ESC/POS bytes: what another library says for the same, what decodes again, and nothing that is injected."""

import re

import pytest
from escpos.printer import Dummy
from hypothesis import given
from hypothesis import strategies as st

from pos_terminal import escpos
from pos_terminal.paper import Line, Style

CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


def theirs(**settings: object) -> bytes:
    printer = Dummy()
    printer.set(**settings)
    output: bytes = printer.output
    return output


def test_the_commands_are_those_of_another_library() -> None:
    """python-escpos, written by others from the same reference."""
    printer = Dummy()
    printer.hw("INIT")
    assert printer.output == escpos.INITIALIZE
    assert theirs(align="center") == escpos.CENTRE
    assert theirs(align="left") == escpos.LEFT
    assert theirs(bold=True) == escpos.EMPHASIZED
    assert theirs(bold=False) == escpos.NOT_EMPHASIZED
    assert theirs(custom_size=True, width=1, height=2) == escpos.TALL
    assert theirs(custom_size=True, width=1, height=1) == escpos.NORMAL_SIZE
    printer.clear()
    printer.print_and_feed(4)
    assert printer.output == escpos.FEED
    printer.clear()
    printer.cut(feed=False)
    assert printer.output == escpos.CUT


def test_a_plain_slip_is_what_another_library_makes_of_it() -> None:
    printer = Dummy()
    printer.hw("INIT")
    printer.set(align="center")
    printer.set(bold=True)
    printer.text("PAYMENT")
    printer.text("\n")
    printer.set(bold=False)
    printer.set(align="left")
    printer.text("Amount  12.50\n")
    printer.print_and_feed(4)
    printer.cut(feed=False)
    ours = escpos.encode([Line("PAYMENT", Style.TITLE), Line("Amount  12.50")])
    # Theirs selects a code page before text and cares for no Chinese.
    assert ours.replace(escpos.CHINESE, b"") == printer.output.replace(b"\x1bt\x00", b"")


def plain(content: bytes) -> bytes:
    """What is left when every command that we send is taken away."""
    for command in (
        *(escpos.INITIALIZE, escpos.CHINESE, escpos.LEFT, escpos.CENTRE, escpos.EMPHASIZED),
        *(escpos.NOT_EMPHASIZED, escpos.TALL, escpos.NORMAL_SIZE, escpos.FEED, escpos.CUT),
    ):
        content = content.replace(command, b"")
    return content


def test_chinese_decodes_again() -> None:
    content = escpos.encode(
        [Line("付款凭证", Style.TITLE), Line("金额  12.50 元", Style.STRONG), Line("备注，𠮷", Style.NOTE)]
    )
    assert content.startswith(b"\x1b@\x1c&")
    assert content.endswith(b"\x1dVB\x00")
    assert plain(content).decode("gb18030") == "付款凭证\n金额  12.50 元\n备注，𠮷\n"


@given(st.lists(st.builds(Line, st.text(), st.sampled_from(Style)), max_size=5))
def test_no_text_can_command_the_printer(lines: list[Line]) -> None:
    """Whatever a merchant, a cashier or a card is called."""
    rest = escpos.encode(lines)
    assert rest.startswith(escpos.INITIALIZE + escpos.CHINESE)
    assert rest.endswith(escpos.FEED + escpos.CUT)
    body = rest[len(escpos.INITIALIZE + escpos.CHINESE) : -len(escpos.FEED + escpos.CUT)]
    for line in lines:
        begin, end = escpos._AROUND[line.style]
        assert body.startswith(begin)
        text, newline, body = body[len(begin) :].partition(b"\n")
        assert newline
        assert not CONTROL.search(text)
        text.decode("gb18030")
        assert body.startswith(end)
        body = body[len(end) :]
    assert body == b""


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("\x1bp\x00\x19\xfa opens the drawer", b" p"),
        ("a\nb\rc\x00d\x10\x04\x01e\x1dV\x00f", b"a b c d   e V f"),
        ("\x7f\x85\u2028\u200b\u202e", b"     "),
        ("\ud800", b" "),
        ("¥5 ￥6", "元5 元6".encode("gb18030")),
    ],
)
def test_what_is_sent_of_a_bad_name(text: str, sent: bytes) -> None:
    assert escpos.text_bytes(text).startswith(sent)


@pytest.mark.parametrize("character", ["é", "😀", "\U0010fffd", "ﷺ", "한"])
def test_other_scripts_do_no_harm(character: str) -> None:
    assert escpos.text_bytes(character).decode("gb18030") in (character, " ")


@pytest.mark.parametrize(
    ("answer", "offline", "paper"),
    [
        (0x12, "", ""),
        (0x16, "its cover is open", ""),
        (0x32, "its paper is out", "its paper is out"),
        (0x52, "it reports an error; switch it off and on", "its paper is out"),
        (0x36, "its cover is open", "its paper is out"),
        (0x1E, "its cover is open", ""),  # paper near its end is no trouble
    ],
)
def test_what_a_printer_says_of_itself(answer: int, offline: str, paper: str) -> None:
    assert escpos.is_status(answer)
    assert escpos.offline_trouble(answer) == offline
    assert escpos.paper_trouble(answer) == paper


@pytest.mark.parametrize("answer", [0x00, 0x10, 0x13, 0x92, 0xFF, 0x02])
def test_other_bytes_are_no_answer(answer: int) -> None:
    assert not escpos.is_status(answer)
