"""Finished English sentences of the packages below, in another language.

Those packages know no catalogue: they raise errors and give reasons in English, values put in already. The
catalogue `lower` holds the templates that their sources make sentences of, as in "the card belongs to another
scheme ({scheme})"; scripts/lower_words.py finds them. Here a finished sentence finds its template again, and
the values go into the translation. A value that is such a sentence itself is translated too.
"""

import re
import string
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

MAX_DEPTH: Final = 4
"""How many sentences may stand within one another."""
MAX_LENGTH: Final = 4000
"""The longest sentence that is looked at, characters; a longer one stays as it is."""
WORD_FIELDS: Final = frozenset(
    {"kind", "more", "reason", "state", "terminal", "unit", "way", "what", "whose", "why", "words"}
)
"""Fields whose value is looked up even when it is one word: a path elsewhere is nobody's word."""
FREE_FIELDS: Final = frozenset(
    {
        *("argv", "atr", "beside", "cause", "damage", "deltas", "described", "duration"),
        *("en", "file", "folder", "found", "kept", "key", "known", "listed"),
        *("lock_reason", "lost", "message", "missing", "name", "named", "names", "outcome"),
        *("owed", "parent", "part", "path", "profiles", "reader", "readers", "reason"),
        *("receipt", "refusals", "shown", "t_ms", "target", "text", "then", "there"),
        *("told", "trouble", "unwell", "uri", "utc", "wanted", "what", "where"),
        *("why", "words", "here", "last", "place"),
    }
)
"""Fields whose value may hold a blank: sentences, lists, names, paths. All others hold one word or number."""
_THIN: Final = 16
_MOST_PARTS: Final = 16
_JOINTS: Final = (("\n", "\n"), ("; ", "；"), (". ", "。"), (", ", "，"), (": ", "："))
"""What stands between known sentences in a row, and what does in Chinese."""
_MO_MAGIC: Final = 0x950412DE
_AMOUNT: Final = re.compile(r"-?\w+(?:\.\w+)*")
_STATUS_WORD: Final = re.compile(r"[0-9A-F]{4}")
_WORD: Final = re.compile(r"[A-Za-z']+")


@dataclass(frozen=True)
class Template:
    """A sentence with named fields, and how a finished one is recognised."""

    msgid: str
    msgstr: str

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The text before, between and behind the fields, in order; one more than there are fields."""
        return tuple(_cut(self.msgid)[0])

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(_cut(self.msgid)[1])

    @cached_property
    def literal_length(self) -> int:
        """How much of it is text: what tells the better of two that fit."""
        return sum(len(piece) for piece in self.pieces)

    @cached_property
    def longest(self) -> str:
        """The longest piece of text: no sentence of this template is without it."""
        return max(self.pieces, key=len)

    def values(self, sentence: str) -> tuple[dict[str, str], bool] | None:
        """The values by field, and whether they are as their fields want them; None when it does not fit.

        Goes through the sentence from the front, and if need be from the back: whatever it holds, it costs
        no more than its length.
        """
        if not self.fields:
            return ({}, True) if sentence == self.pieces[0] else None
        first, *_, last = self.pieces
        if len(sentence) < len(first) + len(last):
            return None
        if not (sentence.startswith(first) and sentence.endswith(last)):
            return None
        inside = sentence[len(first) : len(sentence) - len(last)]
        found = [self._named(self._from_front(inside)), self._named(self._from_back(inside))]
        fitting = [one for one in found if one is not None]
        best = next((one for one in fitting if _as_wanted(one)), None)
        if best is not None:
            return best, True
        return (fitting[0], False) if fitting and not self._is_thin else None

    def _from_front(self, inside: str) -> list[str] | None:
        """The values, each as short as can be; of two in a row the first one has no blank."""
        values = []
        for piece in self.pieces[1:-1]:
            stop = inside.find(piece) if piece else _amount_length(inside)
            if stop < 0:
                return None
            values.append(inside[:stop])
            inside = inside[stop + len(piece) :]
        return [*values, inside]

    def _from_back(self, inside: str) -> list[str] | None:
        """The same the other way round: the last values are the short ones."""
        values = []
        for piece in reversed(self.pieces[1:-1]):
            start = inside.rfind(piece)
            if start < 0:
                return None
            values.append(inside[start + len(piece) :])
            inside = inside[:start]
        return [inside, *reversed(values)]

    def _named(self, values: list[str] | None) -> dict[str, str] | None:
        """By name; None when a field that stands twice would have two values."""
        found: dict[str, str] = {}
        for name, value in zip(self.fields, values or (), strict=False):
            if found.setdefault(name, value) != value:
                return None
        return found if values is not None else None

    @cached_property
    def _is_thin(self) -> bool:
        """So little text that it fits by chance."""
        return self.literal_length < _THIN

    def whole_words(self) -> set[str]:
        """Words that any sentence of this template has, whatever its values are."""
        words = set()
        for place, text in enumerate(self.pieces):
            for found in _WORD.finditer(text):
                begins = found.start() > 0 or place == 0
                ends = found.end() < len(text) or place == len(self.pieces) - 1
                if begins and ends:
                    words.add(found[0])
        return words


class LowerWords:
    """A catalogue of the sentences below. Its templates are put in order when it is asked first."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        """`entries`: template to translation; one that is not translated yet may be empty."""
        self._entries = {msgid: msgstr for msgid, msgstr in entries.items() if msgid and msgstr}

    @cached_property
    def _exact(self) -> dict[str, str]:
        return {
            "".join(_cut(msgid)[0]): "".join(_cut(msgstr)[0])
            for msgid, msgstr in self._entries.items()
            if not _cut(msgid)[1]
        }

    @cached_property
    def _by_word(self) -> dict[str, list[Template]]:
        """Each template under the rarest of the words that its sentences must have; "" when it has none."""
        templates = [Template(*entry) for entry in self._entries.items() if _cut(entry[0])[1]]
        words = [one.whole_words() for one in templates]
        often = Counter(word for some in words for word in some)
        index: dict[str, list[Template]] = defaultdict(list)
        for template, some in zip(templates, words, strict=True):
            index[min(some, key=lambda word: (often[word], word), default="")].append(template)
        return dict(index)

    def translated(self, sentence: str) -> str:
        """The sentence in the catalogue's language; one that nobody knows comes back as it is."""
        return self._told(sentence, MAX_DEPTH)

    def template_of(self, sentence: str) -> tuple[Template, dict[str, str]] | None:
        """The template that a sentence was made of, and its values.

        Of several that fit, one whose values are as their fields want them, then the one with most text.
        """
        best: tuple[tuple[bool, int, str], Template, dict[str, str]] | None = None
        for template in self._candidates(sentence):
            found = template.values(sentence)
            if found is None:
                continue
            rank = (found[1], template.literal_length, template.msgid)
            if best is None or rank > best[0]:
                best = rank, template, found[0]
        return best and (best[1], best[2])

    def _candidates(self, sentence: str) -> Iterator[Template]:
        for word in {"", *_WORD.findall(sentence)}:
            for template in self._by_word.get(word, ()):
                if template.longest in sentence:
                    yield template

    def _told(self, sentence: str, depth: int) -> str:
        if not sentence or len(sentence) > MAX_LENGTH:
            return sentence
        exact = self._exact.get(sentence)
        if exact is not None:
            return exact
        if depth == 0:
            return sentence
        known = self.template_of(sentence)
        if known is None:
            return self._in_parts(sentence, depth)
        template, values = known
        told = {name: self._value(name, value, depth - 1) for name, value in values.items()}
        return template.msgstr.format_map(told)

    def _value(self, name: str, value: str, depth: int) -> str:
        if " " not in value and _plain(name) not in WORD_FIELDS:
            return value
        return self._told(value, depth)

    def _in_parts(self, sentence: str, depth: int) -> str:
        """Sentences in a row, or behind a status word; one of them that is unknown stays as it is."""
        for joint, theirs in _JOINTS:
            if joint not in sentence:
                continue
            parts = sentence.split(joint, _MOST_PARTS)
            told = [self._told(part, depth - 1) for part in parts]
            if told != parts:
                return _joined(parts, told, joint, theirs)
        number, blank, rest = sentence.partition(" ")
        if blank and _STATUS_WORD.fullmatch(number):
            return f"{number} {self._told(rest, depth - 1)}"
        return sentence


def _joined(parts: list[str], told: list[str], joint: str, theirs: str) -> str:
    """Behind a part that was translated stands the other language's mark."""
    text = told[0]
    for before, was, part in zip(told, parts, told[1:], strict=False):
        text += (joint if before == was else theirs) + part
    return text


def _amount_length(text: str) -> int:
    """How long the number or word is that the text begins with."""
    found = _AMOUNT.match(text)
    return found.end() if found else 0


def _plain(name: str) -> str:
    """A field's name without its number."""
    return name.rstrip("_0123456789")


def _as_wanted(values: Mapping[str, str]) -> bool:
    return all(" " not in value or _plain(name) in FREE_FIELDS for name, value in values.items())


def _cut(msgid: str) -> tuple[list[str], list[str]]:
    """Text and field names of a template, braces of the text as they are seen."""
    pieces: list[str] = [""]
    fields: list[str] = []
    for text, name, _, _ in string.Formatter().parse(msgid):
        pieces[-1] += text
        if name is not None:
            fields.append(name)
            pieces.append("")
    return pieces, fields


def translated(sentence: str, catalogue: LowerWords) -> str:
    """A finished sentence of a lower package in the catalogue's language, values put in."""
    return catalogue.translated(sentence)


def load(path: Path) -> LowerWords:
    """The catalogue in a compiled file (.mo, little-endian, as Babel and msgfmt write it). Raises OSError."""
    return LowerWords(dict(_entries(path.read_bytes())))


def _entries(raw: bytes) -> Iterator[tuple[str, str]]:
    """Templates and translations; the header's template is empty."""
    magic, _version, count, ids_at, texts_at = struct.unpack_from("<5I", raw)
    if magic != _MO_MAGIC:
        raise OSError("this is no compiled catalogue")
    for place in range(count):
        yield _text(raw, ids_at + 8 * place), _text(raw, texts_at + 8 * place)


def _text(raw: bytes, at: int) -> str:
    length, start = struct.unpack_from("<2I", raw, at)
    return raw[start : start + length].decode()
