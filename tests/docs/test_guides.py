"""The guides for cashiers and drivers: each prints on one page of A4, and needs nothing from elsewhere."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGES = sorted(GUIDES.glob("*.html"))
LANGUAGES = {"en": "en", "zh": "zh-CN"}
A4_POINTS = (595, 842)
LOAD_TIMEOUT_MS = 60_000

_PAGE = re.compile(rb"/Type\s*/Page\b")
_BOX = re.compile(rb"/MediaBox\s*\[\s*0\s+0\s+([0-9.]+)\s+([0-9.]+)\s*\]")
_ADDRESS = re.compile(
    r"""(?:https?:|//[a-z]|\b(?:src|href|@import|url)\s*[=(]\s*["']?(?!#))""", re.IGNORECASE
)


def each_guide() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def print_page() -> Iterator[Callable[[Path], bytes]]:
    """Makes the PDF that a browser makes of a page, with the page's own paper size."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page()

        def print_one(page: Path) -> bytes:
            tab.goto(page.as_uri(), timeout=LOAD_TIMEOUT_MS)
            return tab.pdf(prefer_css_page_size=True)

        yield print_one
        browser.close()


@each_guide()
@pytest.mark.needs("chromium", "module:playwright")
def test_a_guide_prints_on_exactly_one_page_of_a4(page: Path, print_page: Callable[[Path], bytes]) -> None:
    pdf = print_page(page)

    box = _BOX.search(pdf)
    assert len(_PAGE.findall(pdf)) == 1
    assert box is not None
    assert tuple(round(float(side)) for side in box.groups()) == A4_POINTS


@each_guide()
def test_a_guide_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")

    assert _ADDRESS.search(text) is None
    assert "<script" not in text
    assert "<svg" in text


@each_guide()
def test_a_guide_says_its_language_and_has_its_twin(page: Path) -> None:
    language = page.suffixes[0][1:]
    twins = {page.with_name(page.name.replace(f".{language}.", f".{other}.")) for other in LANGUAGES}

    assert f'<html lang="{LANGUAGES[language]}"' in page.read_text(encoding="utf-8")
    assert twins <= set(PAGES)


def test_there_is_a_guide_for_each_place_of_work() -> None:
    assert {page.name.split(".")[0] for page in PAGES} >= {"driver", "cashier"}
