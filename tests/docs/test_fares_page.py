"""docs/fares.md and its Chinese twin: their example is read, their commands run, their bounds are ours."""

import re
from pathlib import Path

import pytest

from hardwallet.riders import Rider, rider_by_word
from pos_terminal.fare_file import MAX_FILE, parse_fares
from pos_terminal.gtfs_feed import Bounds
from tests.conftest import REPOSITORY
from tests.docs.markdown import blocks
from tui.cli import main

PAGES = ("docs/fares.md", "docs/fares.zh.md")


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@pytest.fixture
def city(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page, its example in the folder where it says."""
    page = text_of(request.param)
    (tmp_path / "city.toml").write_text(blocks(page, "toml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return page


@pytest.mark.parametrize("city", PAGES, indirect=True)
def test_the_example_and_the_code_run(city: str) -> None:
    network = parse_fares(blocks(city, "toml")[0].encode(), "city.toml")
    assert [line.id for line in network.lines] == ["7", "101", "3"]
    names: dict[str, object] = {}
    exec(blocks(city, "python")[0], names)  # noqa: S102 - the page's own example
    assert names["fare_fen"] == 200


@pytest.mark.parametrize("city", PAGES, indirect=True)
def test_the_commands_run(city: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed = re.findall(r"^    hardwallet (fares .*)$", city, flags=re.MULTILINE)
    assert len(typed) == 3
    for line in typed:
        assert main(line.split()) == 0
    assert "2.00" in capsys.readouterr().out


@pytest.mark.parametrize("name", PAGES)
def test_classes_and_bounds_are_the_codes(name: str) -> None:
    page = text_of(name)
    classes = re.findall(r"^\| [^|]+ \| `(\w+)` \| (\d) \|$", page, flags=re.MULTILINE)
    assert [(rider_by_word(word), int(number)) for word, number in classes] == [
        (one, int(one)) for one in Rider
    ]
    told = [
        int(text.replace(",", ""))
        for text in re.findall(r"\| ([\d,]{3,})(?: \w+| 字节)? \|$", page, re.MULTILINE)
    ]
    bounds = Bounds()
    assert told == [
        *(bounds.zip_bytes, bounds.members, bounds.directory_bytes, bounds.file_bytes, bounds.all_bytes),
        *(
            bounds.line_bytes,
            bounds.columns,
            bounds.rows,
            bounds.trips,
            bounds.stops,
            bounds.fares,
            bounds.routes,
        ),
    ]
    assert f"{MAX_FILE:,}" in page


def test_both_pages_show_the_same() -> None:
    english, chinese = (text_of(name) for name in PAGES)
    without_remarks = [re.sub(r" +#.*", "", blocks(page, "toml")[0]) for page in (english, chinese)]
    assert without_remarks[0] == without_remarks[1]
    assert blocks(english, "python") == blocks(chinese, "python")
    assert english.count("\n## ") == chinese.count("\n## ")
