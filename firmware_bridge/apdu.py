"""Command and response APDUs and status words (ISO/IEC 7816-4:2020, clauses 5.1 to 5.6). Pure.

The four cases, short (S) and extended (E); Lc counts the data, Le says how much may come back:

    1    CLA INS P1 P2
    2S   CLA INS P1 P2 Le               2E   CLA INS P1 P2 00 Le Le
    3S   CLA INS P1 P2 Lc data          3E   CLA INS P1 P2 00 Lc Lc data
    4S   CLA INS P1 P2 Lc data Le       4E   CLA INS P1 P2 00 Lc Lc data Le Le
"""

from enum import Enum
from typing import NamedTuple

from firmware_bridge.errors import Garbled, MalformedApdu

MAX_SHORT_DATA = 255
MAX_SHORT_LE = 256
MAX_DATA = 65_535
MAX_LE = 65_536
MAX_COMMAND_LENGTH = 4 + 3 + MAX_DATA + 2
MAX_RESPONSE_LENGTH = MAX_LE + 2

INS_VERIFY = 0x20
INS_SELECT = 0xA4
INS_GET_RESPONSE = 0xC0
INS_ENVELOPE = 0xC2

SW_OK = 0x9000
SW_WRONG_LENGTH = 0x6700
SW_SECURITY_STATUS = 0x6982
SW_BLOCKED = 0x6983
SW_CONDITIONS = 0x6985
SW_WRONG_DATA = 0x6A80
SW_FUNCTION_NOT_SUPPORTED = 0x6A81
SW_NOT_FOUND = 0x6A82
SW_RECORD_NOT_FOUND = 0x6A83
SW_NO_SPACE = 0x6A84
SW_WRONG_P1_P2 = 0x6A86
SW_REFERENCE_NOT_FOUND = 0x6A88
SW_INS_NOT_SUPPORTED = 0x6D00
SW_CLA_NOT_SUPPORTED = 0x6E00
SW_NO_DIAGNOSIS = 0x6F00

_AGAIN = "Present the card again."


class _CommandFields(NamedTuple):
    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    le: int | None


class Command(_CommandFields):
    """A command APDU.

    cla, ins, p1, p2 are one byte each; data 0 to 65,535 bytes; le the most data bytes wanted back,
    1 to 65,536, None for none. Fields that don't fit raise MalformedApdu.
    """

    __slots__ = ()

    def __new__(
        cls, cla: int, ins: int, p1: int, p2: int, data: bytes = b"", le: int | None = None
    ) -> "Command":
        """Checks the fields; `from_bytes` gets them from bytes, where they can't be wrong."""
        if (cla | ins | p1 | p2) & ~0xFF:
            raise MalformedApdu("CLA, INS, P1 and P2 are one byte each, 0 to 255.")
        if len(data) > MAX_DATA:
            raise MalformedApdu(f"A command carries at most {MAX_DATA} bytes of data, not {len(data)}.")
        if le is not None and not 1 <= le <= MAX_LE:
            raise MalformedApdu(f"Le is 1 to {MAX_LE} bytes, or left out; not {le}.")
        return super().__new__(cls, cla, ins, p1, p2, data, le)

    def __repr__(self) -> str:
        # The data may be a PIN.
        header = f"{self.cla:02X} {self.ins:02X} {self.p1:02X} {self.p2:02X}"
        return f"Command({header}, {len(self.data)} bytes, le={self.le})"

    def to_bytes(self, *, extended: bool = False) -> bytes:
        """The C-APDU, in short form where it fits and `extended` doesn't ask for the long one."""
        data = self.data
        le = self.le
        length = len(data)
        if extended or length > MAX_SHORT_DATA or (le is not None and le > MAX_SHORT_LE):
            return self._to_extended_bytes()
        if length:
            if le is None:
                return bytes((self.cla, self.ins, self.p1, self.p2, length)) + data
            return b"%b%b%c" % (bytes((self.cla, self.ins, self.p1, self.p2, length)), data, le & 0xFF)
        if le is None:
            return bytes((self.cla, self.ins, self.p1, self.p2))
        return bytes((self.cla, self.ins, self.p1, self.p2, le & 0xFF))

    def _to_extended_bytes(self) -> bytes:
        raw = bytes((self.cla, self.ins, self.p1, self.p2))
        if self.data:
            raw += b"\x00" + len(self.data).to_bytes(2, "big") + self.data
            if self.le is not None:
                raw += (self.le & 0xFFFF).to_bytes(2, "big")
        elif self.le is not None:
            raw += b"\x00" + (self.le & 0xFFFF).to_bytes(2, "big")
        return raw

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Command":
        """The command in `raw`, 4 to 65,544 bytes in any of the seven forms; else MalformedApdu."""
        total = len(raw)
        if total < 4 or total > MAX_COMMAND_LENGTH:
            raise MalformedApdu(f"A command APDU has 4 to {MAX_COMMAND_LENGTH} bytes, not {total}.")
        cla, ins, p1, p2 = raw[0], raw[1], raw[2], raw[3]
        if total == 4:
            return cls._make((cla, ins, p1, p2, b"", None))
        lc = raw[4]
        if total == 5:
            return cls._make((cla, ins, p1, p2, b"", lc or MAX_SHORT_LE))
        if lc:
            end = 5 + lc
            if total == end:
                return cls._make((cla, ins, p1, p2, raw[5:], None))
            if total == end + 1:
                return cls._make((cla, ins, p1, p2, raw[5:end], raw[end] or MAX_SHORT_LE))
            raise MalformedApdu(f"Lc says {lc} bytes of data, but {total - 5} bytes follow it.")
        return cls._from_extended_bytes(raw)

    @classmethod
    def _from_extended_bytes(cls, raw: bytes) -> "Command":
        total = len(raw)
        if total < 7:
            raise MalformedApdu("The command ends within its extended length field.")
        number = int.from_bytes(raw[5:7], "big")
        if total == 7:
            return cls(raw[0], raw[1], raw[2], raw[3], b"", number or MAX_LE)
        end = 7 + number
        if number and total == end:
            return cls(raw[0], raw[1], raw[2], raw[3], raw[7:])
        if number and total == end + 2:
            le = int.from_bytes(raw[end:], "big") or MAX_LE
            return cls(raw[0], raw[1], raw[2], raw[3], raw[7:end], le)
        raise MalformedApdu(f"Lc says {number} bytes of data, but {total - 7} bytes follow it.")

    def with_le(self, le: int | None) -> "Command":
        """The same command asking for `le` bytes."""
        return Command(self.cla, self.ins, self.p1, self.p2, self.data, le)


class Response(NamedTuple):
    """A response APDU: 0 to 65,536 bytes of data and the status word, 16 bits."""

    data: bytes
    sw: int

    @property
    def ok(self) -> bool:
        """Whether the status word is 9000."""
        return self.sw == SW_OK

    def to_bytes(self) -> bytes:
        """The R-APDU: data, then the status word."""
        return self.data + self.sw.to_bytes(2, "big")

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Response":
        """The response in `raw`, 2 to 65,538 bytes; Garbled when it is none.

        SW1 is 61 to 6F or 9X (7816-4, 5.6).
        """
        total = len(raw)
        if total < 2 or total > MAX_RESPONSE_LENGTH:
            raise Garbled(f"The card's answer has {total} bytes and is no response. {_AGAIN}")
        sw = raw[-2] << 8 | raw[-1]
        if not (0x6100 <= sw <= 0x6FFF or 0x9000 <= sw <= 0x9FFF):
            raise Garbled(f"The card's answer ends in {sw:04X}, which is no status word. {_AGAIN}")
        return cls(raw[:-2], sw)


class SwClass(Enum):
    """What a status word says at large (7816-4, table 5)."""

    OK = "ok"
    MORE_DATA = "more data waits"
    WARNING = "warning"
    EXECUTION_ERROR = "execution error"
    CHECKING_ERROR = "checking error"
    PROPRIETARY = "proprietary"
    INVALID = "no status word"


_TEXTS = {
    0x9000: "done",
    0x6200: "warning, memory unchanged",
    0x6281: "part of the data may be corrupted",
    0x6282: "end of file reached early",
    0x6283: "selected file deactivated",
    0x6285: "selected file in termination state",
    0x6300: "warning, memory changed",
    0x6381: "file filled up by the last write",
    0x6400: "execution error, memory unchanged",
    0x6401: "immediate response required by the card",
    0x6500: "execution error, memory changed",
    0x6581: "memory failure",
    0x6700: "wrong length",
    0x6800: "function in CLA not supported",
    0x6881: "logical channel not supported",
    0x6882: "secure messaging not supported",
    0x6883: "last command of the chain expected",
    0x6884: "command chaining not supported",
    0x6900: "command not allowed",
    0x6981: "command incompatible with file structure",
    0x6982: "security status not satisfied",
    0x6983: "authentication method blocked",
    0x6984: "reference data not usable",
    0x6985: "conditions of use not satisfied",
    0x6986: "command not allowed, no file selected",
    0x6987: "secure messaging data object missing",
    0x6988: "secure messaging data object incorrect",
    0x6A00: "wrong parameters",
    0x6A80: "wrong data field",
    0x6A81: "function not supported",
    0x6A82: "file or application not found",
    0x6A83: "record not found",
    0x6A84: "not enough memory space",
    0x6A85: "Nc inconsistent with TLV structure",
    0x6A86: "wrong P1 or P2",
    0x6A87: "Nc inconsistent with P1 or P2",
    0x6A88: "referenced data not found",
    0x6A89: "file exists already",
    0x6A8A: "name exists already",
    0x6B00: "wrong P1 or P2, offset outside the file",
    0x6D00: "instruction not supported",
    0x6E00: "class not supported",
    0x6F00: "no precise diagnosis",
}


def sw_class(sw: int) -> SwClass:
    """The class of a status word."""
    sw1 = sw >> 8
    if sw == SW_OK:
        return SwClass.OK
    if sw1 == 0x61:
        return SwClass.MORE_DATA
    if sw1 in (0x62, 0x63):
        return SwClass.WARNING
    if sw1 in (0x64, 0x65, 0x66):
        return SwClass.EXECUTION_ERROR
    if 0x67 <= sw1 <= 0x6F:
        return SwClass.CHECKING_ERROR
    if 0x90 <= sw1 <= 0x9F:
        return SwClass.PROPRIETARY
    return SwClass.INVALID


def sw_tries_left(sw: int) -> int | None:
    """The tries left that a 63Cx tells, else None."""
    return sw & 0x0F if sw & 0xFFF0 == 0x63C0 else None


def sw_text(sw: int) -> str:
    """A status word in words, as far as ISO/IEC 7816-4 gives it a meaning."""
    text = _TEXTS.get(sw)
    if text is not None:
        return text
    tries = sw_tries_left(sw)
    if tries is not None:
        return f"wrong, {tries} tries left"
    if sw >> 8 == 0x61:
        return f"{sw & 0xFF or 256} bytes more wait"
    if sw >> 8 == 0x6C:
        return f"wrong Le, {sw & 0xFF or 256} bytes are there"
    return sw_class(sw).value
