"""BER-TLV data objects (ISO/IEC 7816-4:2020, clause 6; X.690), bounded. Pure.

Read: tags of up to 3 bytes, definite lengths of up to 3 bytes in their shortest form, nesting to MAX_DEPTH.
Refused, with MalformedTlv: the indefinite length, bytes left over, and anything beyond the bounds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from firmware_bridge.errors import MalformedTlv

MAX_LENGTH = 65_535
MAX_DEPTH = 8
MAX_OBJECTS = 1_024
_MAX_TAG_BYTES = 3


@dataclass(frozen=True, slots=True)
class Tlv:
    """One data object: its tag (as the number its bytes make, so 0x9F26) and its value, 0 to 65,535 bytes."""

    tag: int
    value: bytes

    @property
    def constructed(self) -> bool:
        """Whether the value is made of data objects itself (bit 6 of the tag's first byte)."""
        return bool(_tag_bytes(self.tag)[0] & 0x20)

    def to_bytes(self) -> bytes:
        """Tag, shortest length, value. MalformedTlv when tag or length is out of bounds."""
        return _tag_bytes(self.tag) + _length_bytes(len(self.value)) + self.value

    def children(self) -> list["Tlv"]:
        """The data objects that the value is made of; MalformedTlv when it isn't."""
        return parse(self.value)


def parse(raw: bytes) -> list[Tlv]:
    """The data objects side by side in `raw`, at most MAX_LENGTH bytes, not descended into. Raises
    MalformedTlv."""
    if len(raw) > MAX_LENGTH:
        raise MalformedTlv(f"TLV data of {len(raw)} bytes; at most {MAX_LENGTH} are read.")
    objects: list[Tlv] = []
    offset = 0
    while offset < len(raw):
        if len(objects) == MAX_OBJECTS:
            raise MalformedTlv(f"More than {MAX_OBJECTS} data objects side by side.")
        found, offset = _read_one(raw, offset)
        objects.append(found)
    return objects


def walk(raw: bytes, *, max_depth: int = MAX_DEPTH) -> Iterator[tuple[int, Tlv]]:
    """Every data object in `raw` with its depth, 0 at the top, parents before children.

    MalformedTlv for constructed objects nested deeper than `max_depth`, or more than MAX_OBJECTS.
    """
    pending = [(0, found) for found in reversed(parse(raw))]
    seen = 0
    while pending:
        depth, found = pending.pop()
        seen += 1
        if seen > MAX_OBJECTS:
            raise MalformedTlv(f"More than {MAX_OBJECTS} data objects in all.")
        yield depth, found
        if found.constructed:
            if depth + 1 >= max_depth:
                raise MalformedTlv(f"Data objects nested deeper than {max_depth} levels.")
            pending.extend((depth + 1, child) for child in reversed(found.children()))


def find(objects: Iterable[Tlv], tag: int) -> Tlv | None:
    """The first of `objects` with that tag."""
    return next((found for found in objects if found.tag == tag), None)


def build(objects: Iterable[Tlv]) -> bytes:
    """The data objects one after the other, at most MAX_LENGTH bytes; the inverse of parse. Raises
    MalformedTlv."""
    raw = b"".join(found.to_bytes() for found in objects)
    if len(raw) > MAX_LENGTH:
        raise MalformedTlv(f"TLV data of {len(raw)} bytes; at most {MAX_LENGTH} are written.")
    return raw


def constructed(tag: int, children: Iterable[Tlv]) -> Tlv:
    """A data object made of others. MalformedTlv when the tag's bit for it isn't set."""
    made = Tlv(tag, build(children))
    if not made.constructed:
        raise MalformedTlv(f"Tag {tag:X} is not that of a constructed data object.")
    return made


def _read_one(raw: bytes, offset: int) -> tuple[Tlv, int]:
    tag, offset = _read_tag(raw, offset)
    length, offset = _read_length(raw, offset)
    end = offset + length
    if end > len(raw):
        raise MalformedTlv(f"The value of tag {tag:X} has {len(raw) - offset} bytes instead of {length}.")
    return Tlv(tag, raw[offset:end]), end


def _read_tag(raw: bytes, offset: int) -> tuple[int, int]:
    end = offset + 1
    if raw[offset] & 0x1F == 0x1F:
        while end < len(raw) and raw[end] & 0x80 and end - offset < _MAX_TAG_BYTES:
            end += 1
        end += 1
    if end > len(raw):
        raise MalformedTlv("The data ends within a tag.")
    tag = int.from_bytes(raw[offset:end], "big")
    _tag_bytes(tag)
    return tag, end


def _read_length(raw: bytes, offset: int) -> tuple[int, int]:
    if offset >= len(raw):
        raise MalformedTlv("The data ends before a length.")
    first = raw[offset]
    if first < 0x80:
        return first, offset + 1
    if first not in (0x81, 0x82):
        raise MalformedTlv(f"A length that begins with {first:02X} is not read (indefinite, or too long).")
    end = offset + 1 + (first & 0x7F)
    if end > len(raw):
        raise MalformedTlv("The data ends within a length.")
    length = int.from_bytes(raw[offset + 1 : end], "big")
    if length < (0x80 if first == 0x81 else 0x100):
        raise MalformedTlv("A length that is not in its shortest form.")
    return length, end


def _tag_bytes(tag: int) -> bytes:
    if not 0 < tag < 1 << 8 * _MAX_TAG_BYTES:
        raise MalformedTlv(f"Tag {tag:X} is not one of 1 to {_MAX_TAG_BYTES} bytes other than 00.")
    raw = tag.to_bytes((tag.bit_length() + 7) // 8, "big")
    if len(raw) == 1:
        well_formed = raw[0] & 0x1F != 0x1F
    else:
        # A number below 31 belongs into one byte, and no leading zero septet (X.690, 8.1.2.4).
        well_formed = (
            raw[0] & 0x1F == 0x1F
            and raw[1] & 0x7F != 0
            and not (len(raw) == 2 and raw[1] < 0x1F)
            and all(byte & 0x80 for byte in raw[1:-1])
            and not raw[-1] & 0x80
        )
    if not well_formed:
        raise MalformedTlv(f"{tag:X} is no well-formed tag.")
    return raw


def _length_bytes(length: int) -> bytes:
    if length > MAX_LENGTH:
        raise MalformedTlv(f"A value of {length} bytes; at most {MAX_LENGTH} are written.")
    if length < 0x80:
        return bytes((length,))
    if length < 0x100:
        return bytes((0x81, length))
    return b"\x82" + length.to_bytes(2, "big")
