"""Which language the program speaks, and that all of the command line speaks it: help, results, refusals."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import typer

from tests.tui.world import World, environment
from tui import help as pages
from tui.cli import app, main
from tui.errors import BadUsage
from tui.languages import of_arguments, of_environment
from tui.text import (
    catalogued,
    cny,
    columns,
    facts,
    language,
    say,
    sentences,
    set_language,
    table,
    told,
)

CHINESE = re.compile(r"[\u4e00-\u9fff]")
VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture
def chinese() -> Any:
    """The process speaks Chinese."""
    set_language("zh")
    yield
    set_language("en")


@pytest.fixture
def chinese_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose environment is Chinese."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")


# ------------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "en"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "POSIX"}, "en"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh"}, "zh"),
        ({"LANG": "zh_TW.Big5"}, "zh"),
        ({"LANG": "zh_HK@stroke"}, "zh"),
        ({"LANG": "zh-Hans"}, "zh"),
        ({"LANG": "zhx"}, "en"),
        ({"LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN.UTF-8"}, "en"),
        ({"LC_ALL": "", "LANG": "zh_CN"}, "zh"),
        ({"LANGUAGE": "zh", "LC_ALL": "en_US.UTF-8"}, "zh"),
        ({"LANGUAGE": "fr:zh_CN:en", "LANG": "C"}, "zh"),
        ({"LANGUAGE": "en:zh", "LANG": "zh_CN"}, "en"),
        ({"LANGUAGE": "C:zh", "LANG": "zh_CN"}, "en"),
        ({"LANGUAGE": "fr:de", "LANG": "zh_CN"}, "en"),
        ({"LANGUAGE": ":", "LANG": "zh_CN"}, "en"),
    ],
)
def test_the_environment_chooses_as_in_gettext(variables: Mapping[str, str], wanted: str) -> None:
    assert of_environment(variables) == wanted


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", None),
        ("--lang zh pos status", "zh"),
        ("--lang=en pos status", "en"),
        ("--version --lang zh", "zh"),
        ("--lang en --lang zh pos", "zh"),
        ("--lang", None),
        ("pos receipt 17 --lang zh", None),
        ("-- --lang zh", None),
    ],
)
def test_the_option_before_the_command_chooses(given: str, wanted: str | None) -> None:
    assert of_arguments(given.split()) == wanted


@pytest.mark.parametrize("given", ["fr", "ZH", "zh_CN", ""])
def test_an_unknown_language_is_bad_usage(given: str) -> None:
    with pytest.raises(BadUsage, match=re.escape(f"--lang is en or zh, not '{given}'")):
        of_arguments(["--lang", given, "pos"])


def test_a_process_has_one_language_and_no_other_name() -> None:
    with pytest.raises(LookupError):
        set_language("fr")
    assert language() == "en"


# --------------------------------------------------------------------------------------------- through `main`


def test_a_command_speaks_the_language_of_its_option(world: World) -> None:
    done = world.call("--lang", "zh", "pos", "status", "--terminal", "till")
    assert done.code == 0
    assert "终端        00000001 (零售)" in done.out
    assert "待上传      0 笔付款，0.00 元；代传 0 条" in done.out
    assert world.call("pos", "status", "--terminal", "till").out.startswith("terminal ")


def test_a_command_speaks_the_language_of_the_environment(world: World, chinese_desk: None) -> None:
    assert "余额        200.00 元" in world.call("card", "show", "alice.card").out
    assert "balance       CNY 200.00" in world.call("--lang", "en", "card", "show", "alice.card").out


def test_a_process_speaks_the_language_of_its_environment(world: World) -> None:
    variables = environment({"LANGUAGE": "", "LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN.UTF-8"})
    done = world.typed("card", "show", "none.card", **{name: variables[name] for name in VARIABLES})
    assert (done.code, done.out) == (1, "")
    assert CHINESE.search(done.err)


def test_a_language_does_not_outlive_its_command(world: World) -> None:
    assert world.call("--lang", "zh", "readers").code == 0
    assert language() == "en"
    assert world.call("--lang", "zh", "pos", "status", "--terminal", "none").code == 1
    assert language() == "en"


def test_a_bad_language_ends_at_once(world: World, chinese_desk: None) -> None:
    done = world.call("--lang", "fr", "card", "show", "alice.card")
    assert (done.code, done.out, done.err) == (2, "", "hardwallet: --lang 应为 en 或 zh，不能是 “fr”\n")
    done = world.call("--lang")
    assert (done.code, done.err) == (2, "hardwallet: 选项 “--lang” 需要一个值。（详见 hardwallet --help）\n")


def test_a_receipt_is_in_the_language_of_the_program(world: World) -> None:
    pay = ("pos", "pay", "12.50", "--terminal", "till", "--reader", "sim:alice.card")
    chinese = world.call("--lang", "zh", *pay).out
    assert chinese.startswith("已付款：12.50 元。\n")
    assert "付款凭证" in chinese
    english = world.call(*pay, "--lang", "zh").out
    assert english.startswith("PAID: CNY 12.50.\n")
    assert "付款凭证" in english
    mixed = world.call("--lang", "zh", *pay, "--lang", "en").out
    assert "PAYMENT" in mixed
    assert world.call(*pay, "--lang", "fr").code == 2


def test_a_reason_of_a_lower_layer_is_translated(world: World) -> None:
    pay = ("pos", "pay", "600", "--terminal", "till", "--reader", "sim:alice.card")
    done = world.call("--lang", "zh", *pay)
    assert done.code == 1
    first = done.out.splitlines()[0]
    assert first.startswith("未付款：")
    assert not re.search(r"[a-z]{3}", first)


def test_json_is_english_whatever_the_language(world: World, chinese_desk: None) -> None:
    pay = ("pos", "pay", "600", "--terminal", "till", "--reader", "sim:alice.card", "--json")
    done = world.call("--lang", "zh", *pay)
    assert done.code == 1
    assert done.json["outcome"] == "declined"
    assert not CHINESE.search(done.out + done.err)
    refused = world.call("--lang", "zh", "pos", "status", "--terminal", "none", "--json")
    assert refused.code == 1
    assert refused.error["kind"]
    assert not CHINESE.search(refused.err)


def test_the_journal_is_english_whatever_the_language(world: World) -> None:
    world.call("--lang", "zh", "pos", "pay", "600", "--terminal", "till", "--reader", "sim:alice.card")
    assert not CHINESE.search(world.status()["sales"][0]["reason"])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("pos pya", "没有命令 “pya”。是不是 'pay'？（详见 hardwallet pos --help）"),
        ("pos nothing", "没有命令 “nothing”。（详见 hardwallet pos --help）"),
        ("pos", "缺少命令。（详见 hardwallet pos --help）"),
        ("pos pay", "缺少参数 “AMOUNT”。（详见 hardwallet pos pay --help）"),
        ("pos pay 1", "缺少选项 “--terminal”。（详见 hardwallet pos pay --help）"),
        ("pos pay 1 2 --terminal t", "多余的参数：2（详见 hardwallet pos pay --help）"),
        ("pos pay 1 --termnal t", "没有选项 --termnal（可用的选项：--terminal, "),
        ("pos pay 1 --xyz", "没有选项 --xyz"),
        ("pos pay 1 --terminal", "选项 “--terminal” 需要一个值。"),
        ("pos check --trace=x --timeout x --terminal t", "“--timeout” 的值无效：应为数字"),
        ("pos pay 1 --timeout -1 --terminal t", "“--timeout” 的值无效：应大于或等于 0"),
        ("pos pay 1 --run x --terminal t", "“--run” 的值无效：应为整数"),
        ("pos pay 1 --run 9999999999 --terminal t", "“--run” 的值无效：应小于或等于 4294967295"),
        ("pos pay -12.50 --terminal t", "“-1” 不是金额"),
    ],
)
def test_the_parser_refuses_in_chinese(world: World, typed: str, said: str) -> None:
    done = world.call("--lang", "zh", *typed.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"hardwallet: {said}")


def test_the_system_refuses_in_chinese(world: World) -> None:
    done = world.call("--lang", "zh", "denylist", "add", "--list", "none.txt", "--scheme", "city")
    assert (done.code, done.err) == (
        1,
        "hardwallet: none.txt：没有这个文件或文件夹；请检查路径及其权限\n",
    )


# ------------------------------------------------------------------------------------------------------- help


def _commands() -> dict[str, Any]:
    def below(node: Any, words: str) -> dict[str, Any]:
        found = {words: node}
        for name, child in getattr(node, "commands", {}).items():
            found |= below(child, f"{words} {name}".strip())
        return found

    return below(typer.main.get_command(app), "")


COMMANDS = _commands()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_page_of_help_is_chinese_and_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], chinese: None, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    program = typer.main.get_command(app)  # once: making it takes longer than a page
    pages.speak(program)
    for words, command in COMMANDS.items():
        program.main([*words.split(), "--help"], prog_name="hardwallet", standalone_mode=False)
        page = capsys.readouterr().out
        lines = page.splitlines()
        assert lines[0].startswith("用法：hardwallet"), words
        assert max(map(columns, lines)) <= min(width, 100), words
        flat = "".join(page.split())
        for text in _texts(command):
            assert "".join(catalogued(text).split()) in flat, (words, text)
        for line in lines:
            assert line.strip()[:1] not in set("，。；：、！？）”"), line


def _texts(command: Any) -> list[str]:
    """What a page of help has to hold, but for examples, which stand as they are typed."""
    found = pages.paragraphs(command.help) + pages.paragraphs(command.epilog)
    for parameter in command.params:
        found += pages.paragraphs(parameter.help)
    for below in getattr(command, "commands", {}).values():
        found += pages.paragraphs(below.help)[:1]
    return [text for text in found if not text.startswith("Example: ")]


def test_a_page_of_help_has_chinese_headings_and_marks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lang", "zh", "pos", "pay", "--help"]) == 0
    page = capsys.readouterr().out
    for words in ("[选项]", "参数：", "选项：", "[必填]", "[默认：30.0; x>=0.0]", "显示本帮助并结束。"):
        assert words in page
    assert "示例：hardwallet pos pay 12.50 --terminal till --reader sim:alice.card" in page
    assert "[OPTIONS]" not in page
    assert main(["--lang", "zh", "--help"]) == 0
    assert "命令：" in capsys.readouterr().out


def test_a_page_of_help_after_a_chinese_one_is_english(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lang", "zh", "pos", "pay", "--help"]) == 0
    capsys.readouterr()
    assert main(["pos", "pay", "--help"]) == 0
    assert not CHINESE.search(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("text", "width", "wanted"),
    [
        ("", 10, [""]),
        ("卡片提前离开", 8, ["卡片提前", "离开"]),
        ("卡片提前，离开", 8, ["卡片提", "前，离开"]),
        ("碰卡（一次）", 8, ["碰卡（一", "次）"]),
        ("碰卡（一次）", 6, ["碰卡", "（一", "次）"]),
        ("用 hardwallet sync 上传", 14, ["用 hardwallet", "sync 上传"]),
        ("one two  three", 7, ["one two", "three"]),
        ("unbreakable", 4, ["unbreakable"]),
    ],
)
def test_lines_break_where_chinese_may(text: str, width: int, wanted: list[str]) -> None:
    assert pages.wrapped(text, width) == wanted


def test_an_unknown_sentence_of_the_parser_is_shown_as_it_is(chinese: None) -> None:
    assert pages.refusal("Something else.") == "Something else."
    assert pages.refusal("Invalid value for '--x': odd") == "“--x” 的值无效：odd"


# ------------------------------------------------------------------------------------------------ small words


def test_a_sentence_keeps_its_values(chinese: None) -> None:
    assert say("{count} bytes", count=12) == "12 字节"
    assert cny(1_250) == "12.50 元"
    assert say("a sentence that no catalogue holds {count}", count=1) == (
        "a sentence that no catalogue holds 1"
    )
    assert say("") == told("") == catalogued("") == ""


def test_sentences_stand_together_as_the_language_has_it() -> None:
    assert sentences("One.", "", "Two.") == "One. Two."
    set_language("zh")
    assert sentences("一。", "", "二。") == "一。二。"
    set_language("en")


def test_a_finished_sentence_is_told_in_the_chosen_language(chinese: None) -> None:
    assert CHINESE.search(told("the amount is above what this card pays at once"))
    assert told("nobody ever said this") == "nobody ever said this"
    set_language("en")
    assert told("the amount is above what this card pays at once").startswith("the amount")


def test_columns_stand_below_each_other_in_chinese() -> None:
    lines = table(["序号", "状态", "卡"], [[1, "已放行", "a"], [22, "ok", "b"]], right=(0,))
    assert lines == ["序号  状态    卡", "   1  已放行  a", "  22  ok      b"]
    assert facts([("卡", 1), ("有效期至", 2)]) == ["卡        1", "有效期至  2"]
