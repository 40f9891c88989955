"""The colours: enough contrast in each theme, by the formula of WCAG 2.2, and no pair forgotten."""

import pytest

from tui import signals
from tui.screens import themes

LEAST = {themes.DARK: 4.5, themes.LIGHT: 4.5, themes.CONTRAST: 7.0}


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, "relative luminance")."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio, 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_formula() -> None:
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", themes.THEMES)
def test_everything_can_be_read(name: str) -> None:
    pairs = themes.pairs(name)
    assert set(pairs) == {*themes.PLACES, *signals.STYLES}
    poor = {
        place: round(contrast(*pair), 2) for place, pair in pairs.items() if contrast(*pair) < LEAST[name]
    }
    assert not poor


@pytest.mark.parametrize("name", themes.THEMES)
def test_what_textual_makes_of_a_theme(name: str) -> None:
    """Textual's own widgets are drawn in colours that it derives; those that the screens show are ours."""
    made = themes.theme(name).to_color_system().generate()
    colours = themes.pairs(name)
    ground = colours["plain"][1]
    assert made["background"].upper() == ground
    for text in ("foreground", "text", "text-muted", "foreground-muted"):
        assert contrast(made[text].upper()[:7], ground) >= LEAST[name], text
    cursor = made["block-cursor-foreground"], made["block-cursor-background"]
    assert contrast(*(colour.upper() for colour in cursor)) >= LEAST[name]
