"""docs/screens.md and its Chinese sister: the words and keys that they name are those of the program."""

import re

import pytest

from scripts import lower_words, words
from tests.conftest import REPOSITORY
from tui.screens.bus.screen import BusScreen
from tui.screens.cashier.history import HistoryScreen
from tui.screens.cashier.shift import ShiftScreen
from tui.screens.cashier.till import TillScreen
from tui.screens.frame import StationApp

PAGES = {"en": "docs/screens.md", "zh": "docs/screens.zh.md"}
SHOWN = re.compile(r"`([✓✗!?=*↻↑-] [^`]+)`")
"""A mark and words, as a screen shows them."""
ALSO_SHOWN = {"en": ["bell off", "09:30 not checked"], "zh": ["提示音已关", "09:30 未校时"]}
LOCALE = "tui/locale/zh_CN/LC_MESSAGES"
CATALOGUES = ("frame", "till", "bus")


def text_of(language: str) -> str:
    return (REPOSITORY / PAGES[language]).read_text(encoding="utf-8")


def said(language: str) -> list[re.Pattern[str]]:
    """Everything that the screens say in a language, whatever its values."""
    found = []
    for domain in CATALOGUES:
        for message in words.read_catalogue(REPOSITORY / LOCALE / f"{domain}.po"):
            text = str(message.id if language == "en" else message.string)
            if message.id and len(re.findall(r"[^\W\d_]", "".join(lower_words.pieces(text)))) > 1:
                found.append(re.compile(".+".join(map(re.escape, lower_words.pieces(text)))))
    return found


@pytest.mark.parametrize("language", PAGES)
def test_what_the_page_quotes_is_what_the_screens_say(language: str) -> None:
    known = said(language)
    quoted = [*SHOWN.findall(text_of(language)), *ALSO_SHOWN[language]]
    unknown = []
    for shown in quoted:
        bare = shown[2:] if shown[1] == " " else shown  # a signal's mark stands beside its word
        if not any(one.fullmatch(text) for one in known for text in (shown, bare)):
            unknown.append(shown)
    assert len(quoted) > 25
    assert unknown == []


@pytest.mark.parametrize("language", PAGES)
@pytest.mark.parametrize("screen", [StationApp, TillScreen, HistoryScreen, ShiftScreen, BusScreen])
def test_every_key_is_on_the_page(screen: type[StationApp], language: str) -> None:
    named = keys_in(named_keys(text_of(language)))
    assert [key.shown for key in screen.KEYS if not keys_in(key.shown) <= named] == []


def keys_in(text: str) -> set[str]:
    """The keys that are named there."""
    return set(re.findall(r"F\d+|Enter|Esc|[A-Z0-9/←→↑↓]", text.replace("Ctrl+C", "")))


def named_keys(page: str) -> str:
    """The first cells of the tables of keys, and what the text prints in bold: **G**."""
    tables = re.findall(r"\| (?:Key|按键) \|.*\n\|.*\n((?:\|.*\n)+)", page)
    cells = [line.split("|")[1] for table in tables for line in table.splitlines()]
    bold = re.findall(r"\*\*([A-Z]|Enter|Esc)[.。]?\*\*", page)
    return " ".join([*cells, *bold])
