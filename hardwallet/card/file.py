"""A simulated card's file: identity and memory on disk, safe against a crash at any write and against a
second process.

    0      header, 8192 bytes: magic (8) ‖ format version (2) ‖ length (4) ‖ SHA-256 of the JSON (32) ‖ JSON,
    padded with zero
    8192   state A: generation (8) ‖ state (96) ‖ CRC-32 (4), padded to 4096
    12288  state B: the same again, written after A; the valid one with the higher generation counts
    16384  PIN tries, every bit inverted (1)
    16385  image (hardwallet/card/memory.py), which begins with the PIN tries
    end    a CRC-32 (4) for each operator, terminal and journal entry of the image

The file stands for the card's secure element, so it holds the card's private keys in the clear, mode 0600: a
simulated card
keeps no secret from who can read it (docs/limitations.md).
"""

import errno
import fcntl
import json
import os
import struct
from binascii import crc32
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from firmware_bridge.errors import CardGone
from hardwallet.card.identity import CardIdentity
from hardwallet.card.memory import (
    ENTRIES_AT,
    IMAGE_LENGTH,
    MAX_TRIES,
    OPERATOR_PLACES,
    OPERATORS_AT,
    STATE_LENGTH,
    TERMINAL_PLACES,
    CardMemory,
    State,
)
from hardwallet.certificates import BODY_LENGTH, parse
from hardwallet.errors import CardFileBusy, CardFileDamaged, CardFileError, WalletError
from hardwallet.limits import JOURNAL_ENTRIES
from hardwallet.records import RECORD_LENGTH
from hardwallet.suites import suite_by_number

MAGIC: Final = b"HWCARD\r\n"
FORMAT: Final = 1
HEADER_LENGTH: Final = 8192
_HEAD: Final = struct.Struct(">8sHI32s")
_SLOT: Final = struct.Struct(f">Q{STATE_LENGTH}sI")
_SLOT_SPACE: Final = 4096  # one block each, so that one torn block leaves the other
_SLOTS_AT: Final = (HEADER_LENGTH, HEADER_LENGTH + _SLOT_SPACE)
_TRIES_AT: Final = HEADER_LENGTH + 2 * _SLOT_SPACE
_IMAGE_AT: Final = _TRIES_AT + 1
_CHECKS_AT: Final = _IMAGE_AT + IMAGE_LENGTH
_PLACES: Final = OPERATOR_PLACES + TERMINAL_PLACES
FILE_LENGTH: Final = _CHECKS_AT + 4 * (_PLACES + JOURNAL_ENTRIES)


class FileMemory(CardMemory):
    """A card's memory that is on the disk when a write returns.

    Raises OSError when the disk refuses and nothing changed, CardGone when nobody knows: then this memory
    writes no more, and opening the file again tells.
    """

    def __init__(self, descriptor: int, state: bytes, generation: int, image: bytes) -> None:
        super().__init__(state, image)
        self._descriptor = descriptor
        self._generation = generation
        self._doubtful = False

    def commit(self, state: bytes) -> None:
        """Write state A, which makes it count, then B: a byte that flips later brings no older state back."""
        before = _slot(self._generation, self.state().to_bytes())
        after = _slot(self._generation + 1, state)
        first, second = _SLOTS_AT
        self._put(first, after, before)
        try:
            self._put(second, after, before)
        except OSError:
            self._take_back(first, before)
            raise
        self._generation += 1
        super().commit(state)

    def write(self, offset: int, data: bytes) -> None:
        """Write into the image, and the check of what is written with it."""
        if offset == 0:
            self._put(_TRIES_AT, _tries_cell(data[0]), _tries_cell(self.tries()))
        else:  # no live record or certificate lies there, so that half of it does no harm
            check_at = _CHECKS_AT + 4 * _piece(offset)
            self._put(_IMAGE_AT + offset, data, b"", sync=False)
            self._put(check_at, crc32(data).to_bytes(4, "big"), b"")
        super().write(offset, data)

    def _put(self, at: int, data: bytes, undo: bytes, *, sync: bool = True) -> None:
        if self._doubtful:
            raise CardGone("The card's file could not be written before. Open it again.")
        written = 0
        try:
            written = os.pwrite(self._descriptor, data, at)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fdatasync(self._descriptor)
        except OSError:
            if written and undo:
                self._take_back(at, undo)
            raise

    def _take_back(self, at: int, undo: bytes) -> None:
        try:
            if os.pwrite(self._descriptor, undo, at) != len(undo):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._doubtful = True
            raise CardGone("The card's file can't be written. Check its disk, then open it again.") from error


def _tries_cell(tries: int) -> bytes:
    return bytes((tries ^ 0xFF, tries))


def _piece(offset: int) -> int:
    """The number of the operator, terminal or journal entry at an offset of the image."""
    if offset >= ENTRIES_AT:
        return _PLACES + (offset - ENTRIES_AT) // RECORD_LENGTH
    return (offset - OPERATORS_AT) // BODY_LENGTH


def _pieces() -> list[tuple[int, int]]:
    """Offset in the image and length of each operator, terminal and journal entry."""
    places = [(OPERATORS_AT + place * BODY_LENGTH, BODY_LENGTH) for place in range(_PLACES)]
    entries = [(ENTRIES_AT + index * RECORD_LENGTH, RECORD_LENGTH) for index in range(JOURNAL_ENTRIES)]
    return places + entries


_PIECES: Final = _pieces()


def _slot(generation: int, state: bytes) -> bytes:
    packed = struct.pack(f">Q{STATE_LENGTH}s", generation, state)
    return packed + crc32(packed).to_bytes(4, "big")


class CardFile:
    """An open card file: its identity, its memory, and the lock on it. Close it when the card is put away."""

    def __init__(self, path: Path, descriptor: int, identity: CardIdentity, memory: FileMemory) -> None:
        self.path = path
        self.identity = identity
        self.memory = memory
        self._descriptor: int | None = descriptor

    def close(self) -> None:
        """Let the lock go. Closing twice does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def create_card_file(path: Path, identity: CardIdentity, memory: CardMemory) -> None:
    """Write a new card, whole or not at all. Raises CardFileError when `path` exists or can't be written."""
    image = memory.image()
    checks = b"".join(crc32(image[at : at + length]).to_bytes(4, "big") for at, length in _PIECES)
    state = memory.state().to_bytes()
    slots = 2 * _slot(0, state).ljust(_SLOT_SPACE, b"\0")
    content = _header(identity) + slots + _tries_cell(memory.tries())[:1] + image + checks
    partial = path.with_name(path.name + ".partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        finally:
            partial.unlink()
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise CardFileError(
            f"{path} exists already; a card is never written over: choose another name"
        ) from None
    except OSError as error:
        raise CardFileError(f"{path} can't be written: {error.strerror}") from None


def _header(identity: CardIdentity) -> bytes:
    text = json.dumps(
        {
            "suite": identity.suite.number,
            "certificate": identity.certificate.to_bytes().hex(),
            "root": identity.root.to_bytes().hex(),
            "signing": identity.signing.scalar().hex(),
            "agreement": identity.agreement.scalar().hex(),
            "secret": identity.secret.hex(),
            "pin_salt": identity.pin_salt.hex(),
        }
    ).encode()
    head = _HEAD.pack(MAGIC, FORMAT, len(text), sha256(text).digest()) + text
    return head.ljust(HEADER_LENGTH, b"\0")


def open_card_file(path: Path, *, deterministic: bool = False) -> CardFile:
    """Open and lock a card file. Raises CardFileError, CardFileBusy, CardFileDamaged."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CardFileError(f"there is no card file {path}; `hardwallet card new` makes one") from None
    except OSError as error:
        raise CardFileError(f"{path} can't be opened as a card file: {error.strerror}") from None
    try:
        return _load(path, descriptor, deterministic=deterministic)
    except BaseException:
        os.close(descriptor)
        raise


def _load(path: Path, descriptor: int, *, deterministic: bool) -> CardFile:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CardFileBusy(
            f"{path} is in use by another program (a card is in one reader at a time); end that one first"
        ) from None
    try:
        content = os.pread(descriptor, FILE_LENGTH + 1, 0)
    except OSError as error:
        raise CardFileError(f"{path} can't be read: {error.strerror}") from None
    identity = _parse_header(path, content, deterministic=deterministic)
    if len(content) != FILE_LENGTH:
        raise _damaged(path, f"it has {len(content)} bytes instead of {FILE_LENGTH}")
    slots = [_parse_slot(content, which) for which in (0, 1)]
    generation, state = max(slot or (-1, b"") for slot in slots)
    if generation < 0:
        raise _damaged(path, "neither of its two states is whole")
    memory = FileMemory(descriptor, state, generation, content[_IMAGE_AT:_CHECKS_AT])
    try:
        _check_image(path, memory.state(), content)
    except WalletError as error:
        raise _damaged(path, str(error)) from None
    if slots[0] != slots[1]:
        _make_alike(path, descriptor, _slot(generation, state))
    return CardFile(path, descriptor, identity, memory)


def _make_alike(path: Path, descriptor: int, slot: bytes) -> None:
    """After a crash between the two states: both hold the one that counts."""
    try:
        for at in _SLOTS_AT:
            os.pwrite(descriptor, slot, at)
            os.fdatasync(descriptor)
    except OSError as error:
        raise CardFileError(f"{path} can't be written: {error.strerror}") from None


def _damaged(path: Path, why: str) -> CardFileDamaged:
    return CardFileDamaged(
        f"{path} is damaged: {why}. Nothing was changed. What the card has paid arrives through the "
        "terminals; "
        "its issuer replaces the card."
    )


def _parse_header(path: Path, content: bytes, *, deterministic: bool) -> CardIdentity:
    if len(content) < HEADER_LENGTH or content[: len(MAGIC)] != MAGIC:
        raise CardFileDamaged(f"{path} is not a card file, or its beginning is lost")
    _, version, length, check = _HEAD.unpack(content[: _HEAD.size])
    if version != FORMAT:
        raise CardFileError(
            f"{path} is a card file of version {version}; this program knows version {FORMAT}: use "
            "the newer program"
        )
    text = content[_HEAD.size : _HEAD.size + length]
    if length > HEADER_LENGTH - _HEAD.size or sha256(text).digest() != check:
        raise _damaged(path, "its identity does not match its check")
    fields = json.loads(text)
    unhex: Callable[[str], bytes] = lambda name: bytes.fromhex(fields[name])  # noqa: E731
    suite = suite_by_number(fields["suite"], deterministic=deterministic)
    return CardIdentity(
        suite,
        parse(unhex("certificate")),
        parse(unhex("root")),
        suite.signing_key(unhex("signing")),
        suite.agreement_key(unhex("agreement")),
        unhex("secret"),
        unhex("pin_salt"),
    )


def _parse_slot(content: bytes, which: int) -> tuple[int, bytes] | None:
    at = _SLOTS_AT[which]
    raw = content[at : at + _SLOT.size]
    generation, state, check = _SLOT.unpack(raw)
    return (generation, state) if crc32(raw[:-4]) == check else None


def _check_image(path: Path, state: State, content: bytes) -> None:
    """Whatever counts must be as it was written: tries, valid certificates, every live record."""
    inverted, tries = content[_TRIES_AT : _IMAGE_AT + 1]
    if inverted ^ tries != 0xFF or tries > MAX_TRIES:
        raise _damaged(path, "its PIN tries do not match their check")
    valid = state.operators_valid | state.terminals_valid << OPERATOR_PLACES
    for place in range(_PLACES):
        if valid >> place & 1 and not _is_whole(content, place):
            raise _damaged(path, "a certificate that it keeps does not match its check")
    oldest = max(1, state.sequence - JOURNAL_ENTRIES + 1)
    if oldest <= state.acknowledged_sequence and state.sequence >= JOURNAL_ENTRIES:
        oldest += 1  # the next record goes there: a torn one may lie in its place
    for sequence in range(oldest, state.sequence + 1):
        index = (sequence - 1) % JOURNAL_ENTRIES
        at = _IMAGE_AT + ENTRIES_AT + index * RECORD_LENGTH
        named = int.from_bytes(content[at + 24 : at + 28], "big")
        if named != sequence or not _is_whole(content, _PLACES + index):
            raise _damaged(path, f"record {sequence} of its journal does not match its check")


def _is_whole(content: bytes, piece: int) -> bool:
    at, length = _PIECES[piece]
    check_at = _CHECKS_AT + 4 * piece
    data = content[_IMAGE_AT + at : _IMAGE_AT + at + length]
    return crc32(data).to_bytes(4, "big") == content[check_at : check_at + 4]
