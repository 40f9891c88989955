"""Simulated cards that know nothing of wallets, for tests of what lies below."""

from firmware_bridge.apdu import Command
from firmware_bridge.errors import MalformedApdu

ECHO_ATR = bytes.fromhex("3B80800101")
ECHO_AID = bytes.fromhex("F04543484F")

INS_ECHO = 0x10
INS_LONG = 0x12
INS_EXACT = 0x14
INS_COUNT = 0x16


class EchoCard:
    """A card with one echoing applet.

    SELECT ECHO_AID: 9000. ECHO: its data. LONG: P1P2 bytes by way of 61xx. EXACT: ten bytes, 6C0A for any
    other Le. COUNT: commands since power-on or reset.
    """

    atr = ECHO_ATR

    def __init__(self) -> None:
        self.events: list[str] = []
        self.executed = 0
        self._waiting = b""
        self._since_power = 0

    def power_on(self) -> None:
        self._start("on")

    def power_off(self) -> None:
        self._start("off")

    def reset(self) -> None:
        self._start("reset")

    def _start(self, event: str) -> None:
        self.events.append(event)
        self._waiting = b""
        self._since_power = 0

    def execute(self, command: bytes) -> bytes:
        self.executed += 1
        self._since_power += 1
        try:
            parsed = Command.from_bytes(command)
        except MalformedApdu:
            return b"\x67\x00"
        if parsed.ins == 0xA4:
            return b"\x90\x00" if parsed.data == ECHO_AID else b"\x6a\x82"
        if parsed.ins == 0xC0:
            return self._more(parsed.le or 0)
        if parsed.ins == INS_ECHO:
            return parsed.data + b"\x90\x00"
        if parsed.ins == INS_LONG:
            self._waiting = bytes(range(256)) * 2
            self._waiting = self._waiting[: parsed.p1 << 8 | parsed.p2]
            return self._more(0)
        if parsed.ins == INS_EXACT:
            return bytes(10) + b"\x90\x00" if parsed.le == 10 else b"\x6c\x0a"
        if parsed.ins == INS_COUNT:
            return bytes((self._since_power,)) + b"\x90\x00"
        return b"\x6d\x00"

    def _more(self, wanted: int) -> bytes:
        piece, self._waiting = self._waiting[:wanted], self._waiting[wanted:]
        if not self._waiting:
            return piece + b"\x90\x00"
        return piece + bytes((0x61, min(len(self._waiting), 0x100) & 0xFF))
