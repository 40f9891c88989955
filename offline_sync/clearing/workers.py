"""Signatures checked in processes of their own: checking is most of the work of clearing, and one Python
process can use one core only.

Whatever happens to such a process, every signature gets its verdict: what a process took with it is checked
here. Processes start with the first large enough lot, and end with close() or with this process, however it
ends.
"""

import fcntl
import logging
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import IO, Final

import msgspec

from hardwallet.errors import SignatureInvalid
from hardwallet.suites import VerifyingKey
from offline_sync.checker import LENGTH_SIZE, Check, Request
from offline_sync.errors import ClearingError

_log = logging.getLogger(__name__)

Signed = tuple[VerifyingKey, bytes, bytes]
"""A key, a signature (64 bytes) and the message that it shall fit."""

MAX_WORKERS: Final = 64
SMALLEST_LOT: Final = 32
"""Fewer signatures are checked here: asking takes longer."""
LARGEST_CHUNK: Final = 250
PATIENCE_S: Final = 60.0
"""How long a process may take over a chunk before it is ended: one that hangs shall not stop clearing."""
FAILURES: Final = 3
"""After so many processes in a row that ended without one verdict, no more are started."""
_END_S: Final = 5.0
_PIPE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 16
_PROGRAM: Final = "import sys; sys.path[:] = sys.argv[1:]; from offline_sync.checker import main; main()"


class WorkersRefused(ClearingError):
    """A number of processes that can't be had."""


class _Gone(ClearingError):
    """The process ended before it answered."""


class SignatureWorkers:
    """Up to `count` processes that check signatures of one suite. Any thread may call."""

    def __init__(self, suite: int, count: int, patience_s: float = PATIENCE_S) -> None:
        """`suite`: the suite byte. `count` 0 checks everything here. Raises WorkersRefused."""
        if not 0 <= count <= MAX_WORKERS:
            raise WorkersRefused(f"clearing verifies in 0 to {MAX_WORKERS} processes, not in {count}")
        self._suite = suite
        self._count = count
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._failures = 0

    @property
    def processes(self) -> list[int]:
        """The process numbers of those that run now."""
        with self._lock:
            return [worker.pid for worker in self._workers if not worker.gone]

    def check(self, signed: Sequence[Signed]) -> bytes:
        """For each signature 1 where it fits, else 0."""
        if not self._count or len(signed) < SMALLEST_LOT:
            return check_here(signed)
        size = min(LARGEST_CHUNK, -(-len(signed) // self._count))
        chunks = [signed[start : start + size] for start in range(0, len(signed), size)]
        asked = [(chunk, self._ask(chunk)) for chunk in chunks]
        return b"".join(self._verdicts(chunk, answer) for chunk, answer in asked)

    def close(self) -> None:
        """End every process. Afterwards everything is checked here."""
        with self._lock:
            self._count = 0
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.close()

    def _verdicts(self, chunk: Sequence[Signed], answer: "Future[bytes] | None") -> bytes:
        if answer is not None:
            with suppress(_Gone):
                verdicts = answer.result()
                if len(verdicts) == len(chunk):
                    return verdicts
        return check_here(chunk)

    def _ask(self, chunk: Sequence[Signed]) -> "Future[bytes] | None":
        """The answer to come, or None when no process can be asked."""
        checks = [Check(key.raw, signature, message) for key, signature, message in chunk]
        request = msgspec.msgpack.encode(Request(self._suite, checks))
        while (worker := self._least_busy()) is not None:
            with suppress(_Gone):
                return worker.ask(request)
        return None

    def _least_busy(self) -> "_Worker | None":
        with self._lock:
            for worker in [one for one in self._workers if one.gone]:
                self._workers.remove(worker)
                self._failures = 0 if worker.answers else self._failures + 1
                worker.close()
                _log.warning(
                    "a verifying process ended (status %s); its signatures are checked here%s",
                    worker.status,
                    ", and no more processes are started" if self._failures >= FAILURES else "",
                )
            while len(self._workers) < self._count and self._failures < FAILURES:
                try:
                    self._workers.append(_Worker(self._patience_s))
                except OSError as error:
                    self._failures = FAILURES
                    _log.warning("no verifying process can be started (%s)", error.strerror)
            return min(self._workers, key=lambda worker: worker.waiting, default=None)


def check_here(signed: Sequence[Signed]) -> bytes:
    """For each signature 1 where it fits, else 0: in this thread."""
    return bytes(_fits(*one) for one in signed)


def _fits(key: VerifyingKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except SignatureInvalid:
        return False
    return True


class _Worker:
    """One process. It answers in the order in which it is asked; a thread takes the answers."""

    def __init__(self, patience_s: float) -> None:
        """Raises OSError."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *sys.path],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._asked: deque[tuple[Future[bytes], float]] = deque()
        self.gone = False
        self.answers = 0
        self._requests, self._replies = _pipes(self._process)
        self._received = bytearray()
        self._reader = threading.Thread(target=self._read, name="verdicts", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """How it ended."""
        return self._process.returncode

    @property
    def waiting(self) -> int:
        """How many requests it has not answered."""
        return len(self._asked)

    def ask(self, request: bytes) -> "Future[bytes]":
        """The answer to come: it raises _Gone when the process ends first. Raises _Gone."""
        answer: Future[bytes] = Future()
        with self._lock:
            if self.gone:
                raise _Gone
            self._asked.append((answer, time.monotonic()))
            # When it is gone in the middle of this, the reader notices too, and fails the answer.
            with suppress(OSError):
                rest = memoryview(len(request).to_bytes(LENGTH_SIZE, "big") + request)
                while rest:
                    rest = rest[self._requests.write(rest) :]
        return answer

    def close(self) -> None:
        """End it: it has been asked nothing any more, or is gone."""
        with self._lock:
            self.gone = True
            with suppress(OSError):
                self._requests.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._replies.close()

    def _read(self) -> None:
        """Hand out the answers until there are no more; then nobody is left waiting."""
        while (verdicts := self._reply()) is not None:
            self.answers += 1
            self._asked.popleft()[0].set_result(verdicts)
        self._process.kill()  # it may hang; and whoever writes to it shall hear that it is gone
        with self._lock:
            self.gone = True
            while self._asked:
                self._asked.popleft()[0].set_exception(_Gone())

    def _reply(self) -> bytes | None:
        """The next answer; None when there will be none, or what came is none."""
        while len(self._received) < (end := self._end()):
            data = self._replies.read(_READ_BYTES) if self._answers_in_time() else b""
            if not data:
                return None
            self._received += data
        verdicts = bytes(self._received[LENGTH_SIZE:end])
        del self._received[:end]
        return verdicts if self._asked else None

    def _end(self) -> int:
        """Where the next answer ends, as far as that is known."""
        if len(self._received) < LENGTH_SIZE:
            return LENGTH_SIZE
        return LENGTH_SIZE + int.from_bytes(self._received[:LENGTH_SIZE], "big")

    def _answers_in_time(self) -> bool:
        """Wait for the next answer; False when one is overdue."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        begun = time.monotonic()
        while not poll.poll(self._patience_s * 250):
            if self._asked and time.monotonic() - max(self._asked[0][1], begun) > self._patience_s:
                return False
        return True


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    """The pipes to and from it. There is room for the next request while it works on one, where the system
    grants it.
    """
    if process.stdin is None or process.stdout is None:
        raise OSError("a process without pipes")
    with suppress(OSError):
        fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process.stdin, process.stdout
