"""A program on a pseudo-terminal, watched from outside: every chunk that it writes, with the moment of its
arrival, and the frames that it draws.

A frame is what stands between the two marks of a synchronized update (terminal mode 2026), which the program
is told that this terminal knows.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple, Self

import pyte

FRAME_ENDS: Final = b"\x1b[?2026l"
_ASKED: Final = b"\x1b[?2026$p"
_ANSWER: Final = b"\x1b[?2026;2$y"
_CHUNK: Final = 65_536
_KEPT_CHUNKS: Final = 100
_END_S: Final = 20.0
_NOT_PYTES: Final = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p")
"""Queries and keyboard modes that pyte would show as text."""


class Frame(NamedTuple):
    """A drawn frame: when its last byte arrived, monotonic seconds, and the lines of the screen then."""

    end_s: float
    lines: list[str]

    def shows(self, text: str) -> bool:
        """Whether one of its lines holds the text."""
        return any(text in line for line in self.lines)


class PseudoTerminal:
    """A command on a pseudo-terminal of `columns` by `rows`. Close it when done."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int = 80, rows: int = 24
    ) -> None:
        self._size = (columns, rows)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            start_new_session=True,
        )
        os.close(slave)
        self._chunks: list[tuple[float, bytes]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            with suppress(InterruptedError):
                select.select([self._master], [], [])
            try:
                data = os.read(self._master, _CHUNK)
            except OSError:  # how Linux tells that nobody writes any more
                data = b""
            at_s = time.monotonic()
            if _ASKED in data:
                os.write(self._master, _ANSWER)
            with self._changed:
                self._chunks.append((at_s, data))
                self._changed.notify_all()
            if not data:
                return

    def write(self, keys: str) -> float:
        """Type; the moment before, monotonic seconds."""
        at_s = time.monotonic()
        os.write(self._master, keys.encode())
        return at_s

    def frames(self) -> Iterator[Frame]:
        """Every frame so far, from the first one on."""
        screen = pyte.Screen(*self._size)
        stream = pyte.ByteStream(screen)
        with self._changed:
            chunks = list(self._chunks)
        rest = b""
        for at_s, data in chunks:
            *ended, rest = (rest + data).split(FRAME_ENDS)
            for frame in ended:
                stream.feed(_NOT_PYTES.sub(b"", frame))
                yield Frame(at_s, list(screen.display))

    def forget(self) -> None:
        """Drops what was drawn but for the last chunks: for a long run that is not looked back on. `frames`
        and `text` begin with what is kept."""
        with self._changed:
            del self._chunks[:-_KEPT_CHUNKS]

    def text(self) -> str:
        """The screen as it is now, lines joined."""
        screen = pyte.Screen(*self._size)
        stream = pyte.ByteStream(screen)
        with self._changed:
            data = b"".join(data for _, data in self._chunks)
        stream.feed(_NOT_PYTES.sub(b"", data))
        return "\n".join(screen.display)

    def wait_for(self, shown: Callable[[str], bool], timeout_s: float) -> str:
        """The screen once `shown` is true of it. Raises TimeoutError with the screen."""
        end_s = time.monotonic() + timeout_s
        seen = -1
        while True:
            with self._changed:
                if len(self._chunks) == seen:
                    self._changed.wait(0.2)
                seen = len(self._chunks)
            text = self.text()
            if shown(text):
                return text
            if time.monotonic() > end_s or self.process.poll() is not None:
                raise TimeoutError(f"never shown; the screen is\n{text}")

    def cpu_s(self) -> float:
        """CPU seconds that the program itself has used, its children apart (proc(5), stat)."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - no file
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory now, in megabytes of 2^20 (proc(5), status: VmRSS)."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:  # noqa: PTH123 - no file
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        raise RuntimeError("the process has no memory any more")

    def close(self) -> None:
        """End the program as a closed window does, and wait for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_END_S)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(_END_S)
        self._reader.join(_END_S)
        with suppress(OSError):
            os.close(self._master)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
