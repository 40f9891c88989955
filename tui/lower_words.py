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
WORD_FIELDS: Final = frozenset({"kind", "more", "reason", "state", "unit", "way", "what", "why", "words"})
"""Fields whose value is looked up even when it is one word: a path elsewhere is nobody's word."""
_JOINTS: Final = (("; ", "；"), (". ", "。"), (", ", "，"), (": ", "："))
"""What stands between known sentences in a row, and what does in Chinese."""
_MO_MAGIC: Final = 0x950412DE
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

    def values(self, sentence: str) -> dict[str, str] | None:
        """The values by field, when the sentence is one of this template; each as short as can be.

        Goes through the sentence once: whatever it holds, it costs no more than its length.
        """
        first, *between, last = self.pieces
        end = len(sentence) - len(last)
        if end < len(first) or not (sentence.startswith(first) and sentence.endswith(last)):
            return None
        found: dict[str, str] = {}
        at = len(first)
        for name, piece in zip(self.fields, [*between, None], strict=True):
            stop = end if piece is None else sentence.find(piece, at, end)
            if stop < at or found.setdefault(name, sentence[at:stop]) != sentence[at:stop]:
                return None
            at = stop + len(piece or "")
        return found

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

    def template_of(self, sentence: str) -> Template | None:
        """The template that a sentence was made of: of several that fit, the one with most text."""
        fitting = [one for one in self._candidates(sentence) if one.values(sentence) is not None]
        return max(fitting, key=lambda one: (one.literal_length, one.msgid), default=None)

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
        template = self.template_of(sentence)
        values = template.values(sentence) if template is not None else None
        if template is None or values is None:
            return self._in_parts(sentence, depth)
        told = {name: self._value(name, value, depth - 1) for name, value in values.items()}
        return template.msgstr.format_map(told)

    def _value(self, name: str, value: str, depth: int) -> str:
        if " " not in value and name.rstrip("_0123456789") not in WORD_FIELDS:
            return value
        return self._told(value, depth)

    def _in_parts(self, sentence: str, depth: int) -> str:
        """Sentences in a row; one of them that is unknown stays as it is."""
        for joint, theirs in _JOINTS:
            parts = sentence.split(joint)
            told = [self._told(part, depth - 1) for part in parts]
            if told != parts and len(parts) > 1:
                return _joined(parts, told, joint, theirs)
        return sentence


def _joined(parts: list[str], told: list[str], joint: str, theirs: str) -> str:
    """Behind a part that was translated stands the other language's mark."""
    text = told[0]
    for before, was, part in zip(told, parts, told[1:], strict=False):
        text += (joint if before == was else theirs) + part
    return text


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
