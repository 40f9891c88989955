"""What the packages below say, in Chinese: every sentence of their sources, real errors with their values."""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_bridge.apdu import sw_text
from firmware_bridge.readers import parse_reader_uri
from firmware_bridge.tlv import parse as parse_tlv
from hardwallet import status as sw
from hardwallet.card.file import open_card_file
from hardwallet.errors import CardRefused
from hardwallet.keys import PASSPHRASE_VARIABLE, find_passphrase
from hardwallet.records import parse as parse_record
from offline_sync.journal import SqliteJournal
from pos_terminal.limits import TerminalLimits, refusal, stale_refusal
from pos_terminal.money import parse_amount
from pos_terminal.terminal import DENIED
from pos_terminal.visit import Outcome
from scripts import lower_words as source
from scripts import words
from tui.lower_words import FREE_FIELDS, MAX_LENGTH, LowerWords, Template, load

MO = source.CATALOGUE.with_suffix(".mo")
ENGLISH = re.compile(r"\b(?:[a-z']{2,} +){2,}[a-z']{2,}\b")
"""Three English words in a row."""
_FORMS = "请使用 sim:卡文件路径 或 pcsc:名称或编号（`hardwallet readers` 列出现有的读卡器）。"
_NAME_IT = "请设置 HARDWALLET_PASSPHRASE，或用 --key-file 指定"
TYPED = re.compile(r"`[^`]*`|--[a-z-]+|hardwallet( [a-z]+)+|chmod 600|sudo \S+")
"""What is typed as it is in every language."""


@pytest.fixture(scope="module")
def found() -> dict[str, list[source.Place]]:
    return source.sentences()


@pytest.fixture(scope="module")
def chinese() -> LowerWords:
    return load(MO)


# ---------------------------------------------------------------------- sources and catalogue


def test_every_sentence_of_the_sources_is_translated_and_none_is_left_over(
    found: dict[str, list[source.Place]],
) -> None:
    assert source.check(found) == []


def test_the_check_finds_what_is_missing_unused_untranslated_or_has_other_values() -> None:
    place = [source.Place("pos_terminal/tap.py", 1)]
    held = words.read_catalogue(source.NO_CATALOGUE)
    held.add("no card in {days} days", "没有卡")
    held.add("not yet said", "")
    held.add("said no more", "不再说")
    wanted = dict.fromkeys(["no card in {days} days", "not yet said", "a new one"], place)
    assert source.faults(held, wanted) == [
        "other values than in English: no card in {days} days / 没有卡",
        "not translated: not yet said (pos_terminal/tap.py:1)",
        "missing: a new one (pos_terminal/tap.py:1)",
        "nobody says: said no more",
    ]


def test_a_new_sentence_in_a_source_is_found(tmp_path: Path) -> None:
    for package in source.PACKAGES:
        (tmp_path / package).mkdir()
    tap = tmp_path / "pos_terminal" / "tap.py"
    tap.write_text('def no(card):\n    raise Declined(f"the card {card.hex()} is made of cheese")\n')
    new = source.sentences(tmp_path)
    assert new["the card {card} is made of cheese"] == [source.Place("pos_terminal/tap.py", 2)]
    held = words.read_catalogue(source.CATALOGUE)
    assert "missing: the card {card} is made of cheese (pos_terminal/tap.py:2)" in source.faults(held, new)


def test_update_keeps_translations_and_drops_what_nobody_says(tmp_path: Path) -> None:
    path = tmp_path / "lower.po"
    source.update(["one word {count}", "another word"], path)
    held = words.read_catalogue(path)
    message = held.get("one word {count}")
    assert message is not None
    message.string = "一个词 {count}"
    path.write_bytes(words.po_bytes(held))
    source.update(["one word {count}", "a third word"], path)
    after = {str(one.id): one.string for one in words.read_catalogue(path) if one.id}
    assert after == {"one word {count}": "一个词 {count}", "a third word": ""}
    assert load(path.with_suffix(".mo")).translated("one word 3") == "一个词 3"


def test_what_is_allowed_is_still_there() -> None:
    unused = [
        (path, pattern)
        for path, pattern, reason in source.ALLOWED
        if not reason or not _matched_by_allowed(path, pattern)
    ]
    assert unused == []


def _matched_by_allowed(path: str, pattern: str) -> bool:
    return any(re.fullmatch(pattern, text, re.DOTALL) for text in source.looked_at(path))


def test_the_translations_are_chinese(found: dict[str, list[source.Place]]) -> None:
    left = {}
    for message in words.read_catalogue(source.CATALOGUE):
        text = TYPED.sub("", str(message.string))
        if message.id and (ENGLISH.search(text) or not re.search(r"[一-鿿]", text)):
            left[str(message.id)] = message.string
    assert set(left) == {"usb", "{t_ms} ms  {described}  ({ms} ms)  {outcome}"}


def test_the_story_has_no_english_sentence_left(
    found: dict[str, list[source.Place]], chinese: LowerWords
) -> None:
    told = [text for text, places in found.items() if any("story.py" in place.path for place in places)]
    assert len(told) > 120
    for template in told:
        shown = chinese.translated(_filled(template))
        assert re.search(r"[一-鿿]", shown), template
        assert not ENGLISH.search(TYPED.sub("", shown)), template


# ---------------------------------------------------------------------- templates out of sources


@pytest.mark.parametrize(
    ("code", "templates"),
    [
        ('raise E("no card here")', ["no card here"]),
        ('raise E(f"card {card.hex()} of {len(cards)} is bad")', ["card {card} of {count} is bad"]),
        ('x = f"can\'t read {path}: {error}"', ["can't read {path}: {why}"]),
        ('x = f"can\'t read {path}: {error.strerror}"', ["can't read {path}: {why}"]),
        (
            'x = f"of {format_amount(a_fen)} paid, {format_amount(self.b_fen)} is left"',
            ["of {a} paid, {b} is left"],
        ),
        ('x = f"from {one.day} to {other.day} only"', ["from {day} to {day_2} only"]),
        ('x = f"{path} holds no more; make {path} new"', ["{path} holds no more; make {path} new"]),
        ("x = f\"{n} {'try' if n == 1 else 'tries'} left\"", ["{n} try left", "{n} tries left"]),
        ('NO = "all is over"\nraise E(f"{NO}; go home")', ["all is over", "all is over; go home"]),
        ('NO = "the disk {path} is full"\nx = NO.format(path=1)', ["the disk {path} is full"]),
        ('x = "write it as {1} here"', ["write it as {{1}} here"]),
        ('result.reason += "; give it up"', ["{reason}; give it up"]),
        ('x = "two " + "halves " + name', ["two halves {name}"]),
        ('x = f"there are {1 + COUNT} of them"', ["there are {value} of them"]),
        ("x = f\"one of {', '.join(map(str, KINDS))} only\"", ["one of {kinds} only"]),
        ('def f(x: "list of cards") -> None:\n    """A docstring of words."""', []),
        ('x = "SELECT a FROM b WHERE c = ?"', []),
        ('x = re.compile("one or two")', []),
        ('_log.error("that went wrong")', []),
        ('x = say("looked up elsewhere, is it")', []),
        ('x = "oneword"', []),
    ],
)
def test_templates(tmp_path: Path, code: str, templates: list[str]) -> None:
    for package in source.PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "fleet" / "new.py").write_text(code + "\n")
    found = source.sentences(tmp_path)
    assert [text for text, places in found.items() if places[0].path == "fleet/new.py"] == templates


# ---------------------------------------------------------------------- finished sentences


def _filled(template: str) -> str:
    """A sentence of the template: numbers, and words with blanks where a field may hold them."""
    values = {
        name: "ab cd" if name.rstrip("_0123456789") in FREE_FIELDS else str(47 + place)
        for place, name in enumerate(sorted(source.field_names(template)))
    }
    return template.format(**values)


def test_no_template_takes_the_sentence_of_another(found: dict[str, list[source.Place]]) -> None:
    every = LowerWords({template: template for template in found})
    wrong = {}
    for template in found:
        if not source.field_names(template):
            continue
        known = every.template_of(_filled(template))
        mine = source.pieces(template)
        if known is None or source.pieces(known[0].msgid) != mine:
            wrong[template] = known and known[0].msgid
    assert wrong == {}


def test_every_value_arrives(found: dict[str, list[source.Place]], chinese: LowerWords) -> None:
    lost = {}
    for template in found:
        values = {name: f"«{place}»" for place, name in enumerate(sorted(source.field_names(template)))}
        shown = chinese.translated(template.format(**values))
        if not all(value in shown for value in values.values()):
            lost[template] = shown
    assert lost == {}


def test_a_template_that_fits_by_chance_loses_against_the_longer_one() -> None:
    held = LowerWords(
        {"{path} is {why}": "{path}：{why}", "{path} is damaged in line {line}": "第 {line} 行损坏"}
    )
    assert held.translated("a is damaged in line 4") == "第 4 行损坏"


def test_a_field_for_one_word_takes_no_sentence() -> None:
    held = LowerWords(
        {
            "the {kind}'s certificate has expired": "{kind}证书已过期",
            "refused: {why}": "被拒绝：{why}",
            "card": "卡",
        }
    )
    shown = held.translated("refused: the card's certificate has expired")
    assert shown == "被拒绝：卡证书已过期"


def test_values_are_put_in_as_they_are() -> None:
    held = LowerWords({"{path} is gone": "{path} 不见了"})
    assert held.translated("/tmp/{why}/{0} is gone") == "/tmp/{why}/{0} 不见了"


def test_a_field_that_stands_twice_has_one_value() -> None:
    held = LowerWords({"{path} is open; run: chmod 600 {path}": "请运行：chmod 600 {path}"})
    assert held.translated("a b is open; run: chmod 600 a b") == "请运行：chmod 600 a b"
    assert held.translated("a is open; run: chmod 600 b") == "a is open; run: chmod 600 b"


def test_what_is_unknown_stays_as_it_is(chinese: LowerWords) -> None:
    for text in ("", "nobody says so", "card", "7", "/tmp/card file", "你好"):
        assert chinese.translated(text) == ("卡" if text == "card" else text)


def test_sentences_in_a_row(chinese: LowerWords) -> None:
    assert chinese.translated("not enough balance; the amount needs a PIN") == "余额不足；此金额需要输入密码"
    assert chinese.translated("nobody says so; not enough balance") == "nobody says so; 余额不足"


def test_a_sentence_too_long_stays_as_it_is(chinese: LowerWords) -> None:
    long = "not enough balance; " * (MAX_LENGTH // 20 + 1)
    assert chinese.translated(long) == long


def test_sentences_within_sentences_end(chinese: LowerWords) -> None:
    deep = "clearing refused: " * 12 + "not enough balance"
    shown = chinese.translated(deep)
    assert shown.startswith("清算拒绝：清算拒绝：")
    assert shown.endswith("not enough balance")


def test_a_template_without_values_fits_itself_only() -> None:
    assert Template("no card", "").values("no card") == ({}, True)
    assert Template("no card", "").values("no card here") is None


def test_two_values_in_a_row() -> None:
    template = Template("loaded {loaded}{lost} = {sum}", "")
    assert template.values("loaded 1000.00 = 7.00") == (
        {"loaded": "1000.00", "lost": "", "sum": "7.00"},
        True,
    )
    assert template.values("loaded 3.00 + lost 4.00 = 7.00") == (
        {"loaded": "3.00", "lost": " + lost 4.00", "sum": "7.00"},
        True,
    )


def test_a_file_that_is_no_catalogue_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lower.mo"
    path.write_bytes(struct.pack("<7I", 0xDEADBEEF, 0, 0, 28, 28, 0, 0))
    with pytest.raises(OSError, match="no compiled catalogue"):
        load(path)


# ---------------------------------------------------------------------- what the real code says


def _raised(do: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:
        do()
    return str(caught.value)


def _errors(folder: Path) -> list[tuple[str, str]]:
    """Sentences as the code makes them, and what a person reads."""
    card, key = folder / "no.card", folder / "open.key"
    key.write_text("a passphrase")
    key.chmod(0o644)
    (folder / "short.card").write_bytes(b"short")
    limits = TerminalLimits(single_fen=50_000)
    return [
        (_raised(lambda: parse_amount("12,5 yuan")), "'12,5 yuan' 不是金额；请以元为单位输入，例如 12.50"),
        (_raised(lambda: parse_amount("0.00")), "金额为零；无法收款"),
        (refusal(limits, 50_001, 0) or "", "金额超过本终端的单笔限额 500.00 元"),
        (
            stale_refusal(limits, 6_000, 8 * 86_400) or "",
            "黑名单已有 8 天未更新：取得新名单之前，每笔最多可收 50.00 元",
        ),
        (str(CardRefused(sw.BALANCE_TOO_LOW, "PAY")), "PAY：卡拒绝：余额不足（9404）"),
        (str(CardRefused(0x63C1, "PAY")), "PAY：卡拒绝：密码错误，还可再试 1 次（63C1）"),
        (sw.explain(sw.BLOCKED), "卡已停用"),
        (sw_text(0x63C2), "错误，还可再试 2 次"),
        (DENIED, "此卡在发卡方的黑名单上，不能在此付款；请持卡人联系发卡方"),
        (Outcome.UNRESOLVED.words, "未完成：请再碰同一张卡"),
        (
            _raised(lambda: parse_reader_uri("usb")),
            "“usb”前面缺少“类型:”。" + _FORMS,
        ),
        (_raised(lambda: parse_tlv(b"\x5f")), "数据在标签中间就结束了。"),
        (_raised(lambda: parse_record(b"\x00" * 3)), "记录应有 160 字节，而不是 3"),
        (_raised(lambda: open_card_file(card)), f"没有卡文件 {card}；用 `hardwallet card new` 新建"),
        (_raised(lambda: open_card_file(folder)), f"无法把 {folder} 作为卡文件打开：这是文件夹"),
        (
            _raised(lambda: open_card_file(folder / "short.card")),
            f"{folder / 'short.card'} 不是卡文件，或其开头已丢失",
        ),
        (
            _raised(lambda: find_passphrase(folder / "gone", folder)),
            f"无法读取密钥文件 {folder / 'gone'}（没有这个文件或文件夹）；{_NAME_IT}",
        ),
        (_raised(lambda: find_passphrase(key, folder)), f"其他用户可以读取 {key}；请运行：chmod 600 {key}"),
    ]


def test_real_errors_come_out_in_chinese_with_their_values(
    tmp_path: Path, chinese: LowerWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    pairs = _errors(tmp_path)
    assert [chinese.translated(said) for said, _ in pairs] == [read for _, read in pairs]


def test_a_damaged_journal_says_in_chinese_what_to_do(tmp_path: Path, chinese: LowerWords) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"no database, but long enough to be looked at" * 100)
    said = _raised(lambda: SqliteJournal(path, scheme=bytes(4), payee=bytes(8), terminal=bytes(4)))
    assert chinese.translated(said).startswith(
        f"日志 {path} 已损坏（文件不是数据库）。没有删除任何内容。请停用本终端"
    )
