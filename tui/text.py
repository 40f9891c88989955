"""Every sentence for people passes through `say`, which looks it up in the catalogue of the chosen language.

The catalogues are gettext's, one for each part of the program; docs/adr/0033-words-through-gettext.md says
why. English needs none: the sentences in the code are the English ones.
"""

import gettext
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final
from unicodedata import east_asian_width

from pos_terminal.money import format_amount
from pos_terminal.receipts import BEIJING
from tui.lower_words import LowerWords, load, translated

LOCAL_ZONE = timezone(BEIJING)
"""The zone of receipts and reports: China has one."""

LANGUAGES: Final = ("en", "zh")
DOMAINS: Final = ("commands", "frame", "till", "bus")
"""The catalogues that `say` looks into, in this order. What lower layers say has one of its own: lower."""
LOCALE: Final = Path(__file__).parent / "locale"
_FOLDERS: Final = {"zh": "zh_CN"}


class _Words:
    """The catalogues of a language, each read when it is needed first."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.said: gettext.NullTranslations = gettext.NullTranslations()
        self._lower: LowerWords | None = None
        folder = _FOLDERS.get(language)
        if folder is not None:
            first, *others = (_catalogue(domain, folder) for domain in DOMAINS)
            for other in others:
                first.add_fallback(other)
            self.said = first

    def lower(self) -> LowerWords:
        """What the layers below say."""
        if self._lower is None:
            self._lower = load(LOCALE / _FOLDERS[self.language] / "LC_MESSAGES" / "lower.mo")
        return self._lower


def _catalogue(domain: str, folder: str) -> gettext.NullTranslations:
    with (LOCALE / folder / "LC_MESSAGES" / f"{domain}.mo").open("rb") as stream:
        return gettext.GNUTranslations(stream)


_words = _Words("en")


def set_language(language: str) -> None:
    """Chooses "en" or "zh" for all that is said from now on. Raises LookupError for any other name."""
    global _words  # noqa: PLW0603 - one person sits before the program, and reads one language
    if language not in LANGUAGES:
        raise LookupError(f"no language {language!r}; there are {', '.join(LANGUAGES)}")
    if language != _words.language:
        _words = _Words(language)


def language() -> str:
    """The chosen language: "en" or "zh"."""
    return _words.language


def say(template: str, /, **values: object) -> str:
    """The sentence in the chosen language, with its values put in.

    Templates are whole sentences and constants: scripts/words.py has to find them.
    """
    found = _words.said.gettext(template) if template else template
    return found.format(**values) if values else found


def catalogued(text: str) -> str:
    """A text of the command line's help in the chosen language: those are gathered from the commands."""
    return _words.said.gettext(text) if text else text


def sentences(*parts: str) -> str:
    """Whole sentences one after the other: English ones with a space between, Chinese ones without."""
    return (" " if _words.language == "en" else "").join(filter(None, parts))


def told(sentence: str) -> str:
    """A finished English sentence of a lower layer (an error, a reason) in the chosen language."""
    words = _words
    if words.language == "en" or not sentence:
        return sentence
    return translated(sentence, words.lower())


def yuan(amount_fen: int) -> str:
    """An amount for people: `12.50`."""
    return format_amount(amount_fen)


def cny(amount_fen: int) -> str:
    """An amount with its currency: `CNY 12.50`."""
    return say("CNY {amount}", amount=format_amount(amount_fen))


def when(time_s: int) -> str:
    """Seconds since 1970 as date and time for people, to the second."""
    return datetime.fromtimestamp(time_s, LOCAL_ZONE).strftime("%Y-%m-%d %H:%M:%S")


def harmless(text: str) -> str:
    """One line without control characters, whatever names or bytes got into it."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def facts(rows: Iterable[tuple[str, object]]) -> list[str]:
    """Names and values, one pair a line, values below each other."""
    pairs = [(name, str(value)) for name, value in rows]
    width = max((columns(name) for name, _ in pairs), default=0)
    return [f"{name}{' ' * (width - columns(name))}  {value}" for name, value in pairs]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> list[str]:
    """A table as lines; the columns numbered in `right` are aligned to the right."""
    cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(columns(row[place]) for row in cells) for place in range(len(heads))]
    to_right = frozenset(right)
    lines = []
    for row in cells:
        padded = []
        for place, cell in enumerate(row):
            gap = " " * (widths[place] - columns(cell))
            padded.append(gap + cell if place in to_right else cell + gap)
        lines.append("  ".join(padded).rstrip())
    return lines
