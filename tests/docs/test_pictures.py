"""README's pictures of the screens are what the programs draw today (`make pictures` draws them anew)."""

import pytest

from scripts.pictures import LANGUAGES, PICTURES, TAKEN, take
from tui.text import set_language


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", TAKEN)
def test_the_picture_is_what_the_program_draws(name: str, language: str) -> None:
    kind, story = TAKEN[name]
    try:
        drawn = take(kind, story, language)
    finally:
        set_language("en")
    assert (PICTURES / f"{name}.{language}.svg").read_text(encoding="utf-8") == drawn


def test_pictures_fetch_nothing() -> None:
    """No fonts, no scripts, no addresses but the name of SVG itself."""
    for path in PICTURES.glob("*.svg"):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text, path.name
        assert "@import" not in text, path.name
