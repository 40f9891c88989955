"""The rows of a GTFS feed, out of a zip file that nobody vouches for.

Nothing is unpacked to the disk, and nothing is read that no bound covers: the zip's own directory, the size
of each file, the length of a line, the number of rows. Whatever is wrong is told with file and line.
"""

import csv
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from pos_terminal.errors import FaresRefused

Progress = Callable[[int, int], None]
"""`progress(done, all)`: bytes read so far, and bytes of all files that are going to be read."""

_END: Final = struct.Struct("<4s4H2IH")
_END_SIGNATURE: Final = b"PK\x05\x06"
_ZIP64_LOCATOR: Final = b"PK\x06\x07"
_LOCATOR_LENGTH: Final = 20
_LONGEST_COMMENT: Final = 65_535
_ENCRYPTED: Final = 1
_STEP_BYTES: Final = 1 << 20
_UNREADABLE: Final = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, OSError)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is read at most. A city of ten million has a feed within these."""

    zip_bytes: int = 256 * 2**20
    directory_bytes: int = 2**20
    members: int = 1_000
    file_bytes: int = 1024 * 2**20
    all_bytes: int = 2048 * 2**20
    line_bytes: int = 32_768
    columns: int = 200
    rows: int = 5_000_000
    routes: int = 5_000
    trips: int = 500_000
    stops: int = 100_000
    fares: int = 100_000

    def rows_of(self, name: str) -> int:
        """How many rows a file may have."""
        special = {
            "routes": self.routes,
            "route_networks": self.routes,
            "trips": self.trips,
            "stops": self.stops,
            "stop_areas": self.stops,
            "areas": self.stops,
            "fare_products": self.fares,
            "fare_leg_rules": self.fares,
            "rider_categories": self.fares,
            "fare_media": self.fares,
            "translations": self.trips,
        }
        return special.get(name, self.rows)


class Row:
    """One row: its file and line, and its fields by column, without the spaces around them."""

    __slots__ = ("fields", "file", "line")

    def __init__(self, file: str, line: int, fields: dict[str, str]) -> None:
        self.file = file
        self.line = line
        self.fields = fields

    def __getitem__(self, column: str) -> str:
        return self.fields.get(column, "")

    def refuse(self, what: str) -> FaresRefused:
        """To be raised."""
        return FaresRefused(f"{self.file}, line {self.line}: {what}")

    def need(self, column: str) -> str:
        """A field that must not be empty. Raises FaresRefused."""
        text = self.fields.get(column, "")
        if not text:
            raise self.refuse(f"{column} is empty")
        return text


class Feed:
    """An open feed. Close it when done.

    Raises FaresRefused for what is no zip file, or one that no feed is packed as.
    """

    def __init__(self, path: Path, bounds: Bounds, progress: Progress) -> None:
        self._where = str(path)
        self._bounds = bounds
        self._progress = progress
        self._done = 0
        self._read = 0
        self.all_bytes = 0
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise FaresRefused(f"{path} can't be read: {error.strerror}") from None
        try:
            self._check_directory()
            self._zip = zipfile.ZipFile(self._file)
            self._members = self._checked_members()
        except BaseException as error:
            self._file.close()
            if isinstance(error, _UNREADABLE):
                raise FaresRefused(f"{path} is not a good zip file: {error}") from None
            raise

    def close(self) -> None:
        """Let the file go."""
        self._zip.close()
        self._file.close()

    # ------------------------------------------------------------------ the zip

    def _check_directory(self) -> None:
        """Before zipfile reads the directory whole: that it is short enough. The end record is looked for
        where zipfile looks."""
        size = self._file.seek(0, io.SEEK_END)
        if size > self._bounds.zip_bytes:
            raise self._above(f"the file has {size} bytes", self._bounds.zip_bytes)
        tail_length = min(size, _END.size + _LONGEST_COMMENT + _LOCATOR_LENGTH)
        self._file.seek(size - tail_length)
        tail = self._file.read(tail_length)
        at = len(tail) - _END.size
        if at < 0 or tail[at : at + 4] != _END_SIGNATURE or tail[-2:] != b"\0\0":
            at = tail.rfind(_END_SIGNATURE)
        if at < 0 or at + _END.size > len(tail):
            raise FaresRefused(f"{self._where} is not a zip file")
        if tail[max(at - _LOCATOR_LENGTH, 0) : at].startswith(_ZIP64_LOCATOR):
            raise FaresRefused(f"{self._where} is a zip64 file: no feed within the bounds needs to be one")
        _, _, _, _, members, length, _, _ = _END.unpack_from(tail, at)
        if members > self._bounds.members:
            raise self._above(f"the zip holds {members} files", self._bounds.members)
        if length > self._bounds.directory_bytes:
            raise self._above(f"the zip's directory has {length} bytes", self._bounds.directory_bytes)
        self._file.seek(0)

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            name = info.filename
            shown = repr(name[:60])
            if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
                raise FaresRefused(
                    f"{self._where}: the name {shown} leads out of the zip; no feed has such a file"
                )
            if name in members:
                raise FaresRefused(f"{self._where}: {shown} is in the zip twice; which one counts?")
            if info.flag_bits & _ENCRYPTED:
                raise FaresRefused(f"{self._where}: {shown} is encrypted; unpack the feed and zip it without")
            members[name] = info
            self.all_bytes += info.file_size
        if self.all_bytes > self._bounds.all_bytes:
            raise self._above(f"the files have {self.all_bytes} bytes in all", self._bounds.all_bytes)
        return members

    def _above(self, what: str, most: int) -> FaresRefused:
        return FaresRefused(f"{self._where}: {what}; at most {most} are read (docs/fares.md, section 3)")

    # ------------------------------------------------------------------ its files

    def has(self, name: str) -> bool:
        """Whether the feed has that file; `name` without .txt."""
        return f"{name}.txt" in self._members

    def want(self, *names: str) -> None:
        """Raises FaresRefused unless the feed has these files."""
        for name in names:
            if self.has(name):
                continue
            deeper = [member for member in self._members if member.endswith(f"/{name}.txt")]
            if deeper:
                raise FaresRefused(
                    f"{self._where}: {name}.txt lies in a folder ({deeper[0][:60]}); "
                    "the files of a feed lie at the top of the zip: pack them anew"
                )
            raise FaresRefused(f"{self._where}: {name}.txt is missing")

    def expect(self, *names: str) -> None:
        """These files are going to be read: for the progress."""
        self._read = 0
        self._done = 0
        self.all_bytes = sum(self._members[f"{name}.txt"].file_size for name in names if self.has(name))

    def rows(self, name: str, *columns: str) -> Iterator[Row]:
        """The rows of a file, one after the other; nothing when there is no such file.

        Raises FaresRefused when one of `columns` is missing, or a row is not as its header says.
        """
        if not self.has(name):
            return
        most = self._bounds.rows_of(name)
        reader = csv.reader(self._lines(name), strict=True)
        place = f"{self._where}, {name}.txt"
        try:
            header = self._header(next(reader, []), place, columns)
            for number, fields in enumerate(reader):
                if number >= most:
                    raise FaresRefused(
                        f"{place}, line {reader.line_num}: at most {most} rows are read "
                        "(docs/fares.md, section 3)"
                    )
                if not fields:
                    continue
                row = Row(place, reader.line_num, dict(zip(header, map(str.strip, fields), strict=False)))
                if len(fields) != len(header):
                    raise row.refuse(f"{len(fields)} fields where the header has {len(header)}")
                yield row
        except csv.Error as error:
            raise FaresRefused(f"{place}, line {reader.line_num}: {error}") from None

    def _header(self, header: list[str], place: str, columns: tuple[str, ...]) -> list[str]:
        names = [name.strip() for name in header]
        if len(names) > self._bounds.columns:
            raise FaresRefused(f"{place}: {len(names)} columns; at most {self._bounds.columns} are read")
        if len(set(names)) != len(names):
            raise FaresRefused(f"{place}, line 1: a column is there twice")
        missing = [column for column in columns if column not in names]
        if missing:
            raise FaresRefused(f"{place}, line 1: the column {missing[0]} is missing")
        return names

    def _lines(self, name: str) -> Iterator[str]:
        """The lines of a file as text. What comes out of the zip is counted, whatever its directory says."""
        place = f"{self._where}, {name}.txt"
        info = self._members[f"{name}.txt"]
        if info.file_size > self._bounds.file_bytes:
            raise self._above(f"{name}.txt has {info.file_size} bytes", self._bounds.file_bytes)
        number = left = 0
        try:
            with self._zip.open(info) as packed, io.BufferedReader(_raw(packed), _STEP_BYTES) as member:
                while line := member.readline(self._bounds.line_bytes + 1):
                    number += 1
                    left += len(line)
                    if len(line) > self._bounds.line_bytes:
                        raise FaresRefused(
                            f"{place}, line {number}: above {self._bounds.line_bytes} bytes long"
                        )
                    if left >= _STEP_BYTES:
                        left = self._tell(left)
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise FaresRefused(
                f"{place}, line {number}: this is not UTF-8, which GTFS asks for; "
                "save the file as UTF-8 (it may be GBK or Latin-1 now)"
            ) from None
        except _UNREADABLE as error:
            raise FaresRefused(f"{place}: the zip is damaged here: {error}") from None
        self._tell(left)

    def _tell(self, count: int) -> int:
        """More bytes are read; none is left to tell."""
        self._done += count
        self._progress(self._done, max(self.all_bytes, self._done))
        return 0


def _raw(member: IO[bytes]) -> io.RawIOBase:
    """A file of the zip, for a buffer that finds its lines."""
    return cast("io.RawIOBase", member)
