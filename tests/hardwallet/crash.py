"""A process that dies by SIGKILL at a chosen system call while a simulated card works on its file.

Run in a process of its own (`die_at`); everything it needs comes as bytes and text, since it shares nothing.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.virtual.in_process import InProcessReader
from hardwallet import messages as m
from hardwallet.card.simulated import SimulatedCard
from hardwallet.errors import CardRefused
from hardwallet.session import KnownCard, WalletSession

SELECT = bytes.fromhex("00A404000B") + m.AID + b"\x00"


@dataclass(frozen=True, slots=True)
class Death:
    """At the call with this number, 1 being the first: before it, with half of it done, or after it."""

    call: int
    moment: str


def pay(path: Path, sale: bytes) -> None:
    """SELECT, PAY in transit, RATIFY."""
    card = SimulatedCard(path, os.urandom)
    card.power_on()
    card.execute(SELECT)
    reply = card.execute(b"\x80\x20\x00\x00\x3a" + sale + b"\x00")
    if len(reply) == 83:
        card.execute(b"\x80\x22\x00\x00\x0c" + reply[1:5] + reply[73:81] + b"\x00")


def try_pin(path: Path, pin: bytes) -> None:
    """CHANGE PIN with an old PIN that is wrong."""
    card = SimulatedCard(path, os.urandom)
    session = WalletSession(InProcessReader(card).wait_for_card(1), card._identity.suite)
    session.select()
    suite, identity = card._identity.suite, card._identity
    key = suite.verifying_key(identity.certificate.public)
    known = KnownCard(identity.certificate, key, identity.agreement.public)
    with contextlib.suppress(CardRefused):
        session.change_pin(pin.decode(), "0000", known, os.urandom)


ACTS: dict[str, Callable[[Path, bytes], None]] = {"pay": pay, "try PIN": try_pin}


def die_at(path: Path, act: str, data: bytes, death: Death) -> None:
    """Run an act; at its chosen call the process kills itself. Ends with 0 when there is no such call."""
    real_pwrite, real_sync, calls = os.pwrite, os.fdatasync, 0

    def reached() -> bool:
        nonlocal calls
        calls += 1
        return calls == death.call

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        here = reached()
        if here and death.moment == "before":
            die()
        if here and death.moment == "half":
            real_pwrite(descriptor, data[: len(data) // 2], offset)
            die()
        written = real_pwrite(descriptor, data, offset)
        if here:
            die()
        return written

    def fdatasync(descriptor: int) -> None:
        here = reached()
        if here and death.moment == "before":
            die()
        real_sync(descriptor)
        if here:
            die()

    os.pwrite, os.fdatasync = pwrite, fdatasync  # type: ignore[assignment]
    ACTS[act](path, data)
    os._exit(0)
