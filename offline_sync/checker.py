"""A process that checks signatures and does nothing else: offline_sync.clearing.workers starts it.

It holds no secret and decides nothing: what it gets is public keys, signatures and messages, what it gives is
which of them fit. Both ways a message is its length (4 bytes, big-endian) and its content: a `Request` in
MessagePack; a byte for each of its checks, 1 where the signature fits.
"""

import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import BinaryIO, Final, NamedTuple

import msgspec

from hardwallet.errors import Malformed, SignatureInvalid
from hardwallet.suites import Suite, VerifyingKey, suite_by_number

KEYS_KEPT: Final = 20_000
LENGTH_SIZE: Final = 4


class Check(NamedTuple):
    """One signature: a public key of 64 bytes, a signature of 64, and the message."""

    public: bytes
    signature: bytes
    message: bytes


class Request(NamedTuple):
    """Signatures of one suite, by its byte."""

    suite: int
    checks: Sequence[Check]


class Checker:
    """Checks one after the other, with a bounded store of keys that were loaded before."""

    def __init__(self) -> None:
        self._suites: dict[int, Suite] = {}
        self._keys: OrderedDict[tuple[int, bytes], VerifyingKey] = OrderedDict()

    def verdicts(self, request: Request) -> bytes:
        """For each check 1 where the signature fits, else 0. Raises UnknownSuite."""
        return bytes(self._fits(request.suite, check) for check in request.checks)

    def _fits(self, suite: int, check: Check) -> bool:
        try:
            self._key(suite, check.public).verify(check.signature, check.message)
        except (Malformed, SignatureInvalid):
            return False
        return True

    def _key(self, suite: int, public: bytes) -> VerifyingKey:
        key = self._keys.get((suite, public))
        if key is None:
            if suite not in self._suites:
                self._suites[suite] = suite_by_number(suite)
            key = self._keys[suite, public] = self._suites[suite].verifying_key(public)
            if len(self._keys) > KEYS_KEPT:
                self._keys.popitem(last=False)
        return key


def work(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer one request after the other, until there are no more."""
    checker, decoder = Checker(), msgspec.msgpack.Decoder(Request)
    while header := requests.read(LENGTH_SIZE):
        verdicts = checker.verdicts(decoder.decode(requests.read(int.from_bytes(header, "big"))))
        replies.write(len(verdicts).to_bytes(LENGTH_SIZE, "big") + verdicts)
        replies.flush()


def main() -> None:
    """Work for whoever holds the other ends, and end when they let go, even by dying.

    A Ctrl-C, or a service manager's SIGTERM, reaches the whole group: clearing decides when it has finished.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print shall not be taken for a verdict
    try:
        work(sys.stdin.buffer, replies)
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
