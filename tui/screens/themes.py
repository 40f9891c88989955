"""Three sets of colours: dark, light, high contrast. A test computes the contrast of each pair used."""

from typing import Final

from textual.theme import Theme

from tui.signals import AGAIN, APPROVED, ASKING, NOTED, REFUSED, WAITING

DARK: Final = "dark"
LIGHT: Final = "light"
CONTRAST: Final = "contrast"
THEMES: Final = (DARK, LIGHT, CONTRAST)
"""The names, in the order in which a key goes through them."""

Pair = tuple[str, str]
"""Foreground and background, as "#RRGGBB"."""

PLACES: Final = ("plain", "dim", "bar", "key", "trouble", "simulated", "field", "chosen")
"""Places on a screen that have colours of their own, besides the styles of signals."""

_PAIRS: Final[dict[str, dict[str, Pair]]] = {
    DARK: {
        "plain": ("#E6E6E6", "#14181C"),
        "dim": ("#A9B4BE", "#14181C"),
        "bar": ("#E6E6E6", "#232B33"),
        "key": ("#FFD479", "#14181C"),
        "trouble": ("#FFFFFF", "#8F1D1D"),
        "simulated": ("#14181C", "#E0B040"),
        "field": ("#FFFFFF", "#2B3540"),
        "chosen": ("#14181C", "#7FB8E8"),
        APPROVED: ("#FFFFFF", "#14672F"),
        NOTED: ("#FFFFFF", "#1F5A96"),
        REFUSED: ("#FFFFFF", "#9A2222"),
        AGAIN: ("#14181C", "#F0B43C"),
        ASKING: ("#FFFFFF", "#5B3A8C"),
        WAITING: ("#FFE2A6", "#3A3016"),
    },
    LIGHT: {
        "plain": ("#1A1A1A", "#FAFAF7"),
        "dim": ("#55595E", "#FAFAF7"),
        "bar": ("#1A1A1A", "#E4E6E8"),
        "key": ("#7A3E00", "#FAFAF7"),
        "trouble": ("#FFFFFF", "#A32020"),
        "simulated": ("#1A1A1A", "#FFC94A"),
        "field": ("#000000", "#FFFFFF"),
        "chosen": ("#FFFFFF", "#1F5A96"),
        APPROVED: ("#FFFFFF", "#17692F"),
        NOTED: ("#FFFFFF", "#1F5A96"),
        REFUSED: ("#FFFFFF", "#A32020"),
        AGAIN: ("#1A1A1A", "#FFC04D"),
        ASKING: ("#FFFFFF", "#5B3A8C"),
        WAITING: ("#4A3200", "#FFF0CC"),
    },
    CONTRAST: {
        "plain": ("#FFFFFF", "#000000"),
        "dim": ("#FFFFFF", "#000000"),
        "bar": ("#000000", "#FFFFFF"),
        "key": ("#FFFF00", "#000000"),
        "trouble": ("#000000", "#FF8A8A"),
        "simulated": ("#000000", "#FFFF00"),
        "field": ("#000000", "#FFFFFF"),
        "chosen": ("#000000", "#00FFFF"),
        APPROVED: ("#000000", "#4CFF7A"),
        NOTED: ("#000000", "#7FD4FF"),
        REFUSED: ("#000000", "#FF8A8A"),
        AGAIN: ("#000000", "#FFD000"),
        ASKING: ("#000000", "#E0B0FF"),
        WAITING: ("#FFFFFF", "#000000"),
    },
}


def pairs(name: str) -> dict[str, Pair]:
    """Foreground and background of each place and signal style of a theme."""
    return dict(_PAIRS[name])


def theme(name: str) -> Theme:
    """The theme for Textual. Each pair is there as `$NAME-fg` and `$NAME-bg`."""
    colours = _PAIRS[name]
    foreground, background = colours["plain"]
    variables = {f"{place}-fg": pair[0] for place, pair in colours.items()}
    variables |= {f"{place}-bg": pair[1] for place, pair in colours.items()}
    chosen_fg, chosen_bg = colours["chosen"]
    key = colours["key"][0]
    return Theme(
        name=name,
        primary=chosen_bg,
        secondary=chosen_bg,
        warning=colours[AGAIN][1],
        error=colours[REFUSED][1],
        success=colours[APPROVED][1],
        accent=key,
        foreground=foreground,
        background=background,
        surface=background,
        panel=colours["bar"][1],
        boost=background,
        dark=name != LIGHT,
        text_alpha=1.0,
        variables=variables
        | {
            "text": foreground,
            "text-muted": colours["dim"][0],
            "text-disabled": colours["dim"][0],
            "foreground-muted": colours["dim"][0],
            "block-cursor-foreground": chosen_fg,
            "block-cursor-background": chosen_bg,
            "block-cursor-blurred-foreground": chosen_fg,
            "block-cursor-blurred-background": chosen_bg,
            "input-selection-background": chosen_bg,
            "input-selection-foreground": chosen_fg,
            "border": key,
            "link-color": key,
        },
    )
