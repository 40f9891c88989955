"""The wallet's status words (docs/protocol.md, section 14; the 6xxx ones are ISO/IEC 7816-4)."""

from typing import Final

OK: Final = 0x9000
WRONG_LENGTH: Final = 0x6700
NOT_PROVED: Final = 0x6982
PIN_LOCKED: Final = 0x6983
SELECT_FIRST: Final = 0x6985
MALFORMED: Final = 0x6A80
NO_APPLICATION: Final = 0x6A82
WRONG_P1P2: Final = 0x6A86
UNKNOWN_INS: Final = 0x6D00
UNKNOWN_CLA: Final = 0x6E00
MEMORY_FAILURE: Final = 0x6F00
AMOUNT_INVALID: Final = 0x9401
ABOVE_SINGLE_LIMIT: Final = 0x9402
PIN_WANTED: Final = 0x9403
BALANCE_TOO_LOW: Final = 0x9404
ABOVE_BALANCE_CAP: Final = 0x9405
OFFLINE_TOTAL_USED_UP: Final = 0x9406
JOURNAL_FULL: Final = 0x9407
TOO_MANY_UNRATIFIED: Final = 0x9408
PAYEE_UNKNOWN: Final = 0x9409
TRANSIT_ALLOWANCE_USED_UP: Final = 0x940A
WRONG_CURRENCY: Final = 0x940B
BLOCKED: Final = 0x940C
WRONG_VERSION: Final = 0x940D
CERTIFICATE_EXPIRED: Final = 0x940E
WRONG_CLASS: Final = 0x940F
AUTHORITY_UNKNOWN: Final = 0x9410
SIGNATURE_WRONG: Final = 0x9411
CERTIFICATE_UNKNOWN: Final = 0x9412
NO_SUCH_RECORD: Final = 0x9413
ORDER_TOO_OLD: Final = 0x9414
NOT_FOR_THIS_CARD: Final = 0x9415
WRONG_LOAD_COUNTER: Final = 0x9416
ACKNOWLEDGES_TOO_MUCH: Final = 0x9417
REFUND_TOO_HIGH: Final = 0x9418
REFUND_TOO_LOW: Final = 0x9419

_WORDS: Final = {
    OK: "done",
    WRONG_LENGTH: "wrong length",
    NOT_PROVED: "the terminal has to prove itself first",
    PIN_LOCKED: "the PIN is locked after too many wrong tries",
    SELECT_FIRST: "the application has to be selected (again) first",
    MALFORMED: "malformed data",
    NO_APPLICATION: "no such application on this card",
    WRONG_P1P2: "wrong P1 or P2",
    UNKNOWN_INS: "unknown command",
    UNKNOWN_CLA: "unknown command class",
    MEMORY_FAILURE: "the card could not write its memory; nothing changed",
    AMOUNT_INVALID: "the amount is zero or too large",
    ABOVE_SINGLE_LIMIT: "the amount is above what this card pays at once",
    PIN_WANTED: "the amount needs a PIN",
    BALANCE_TOO_LOW: "not enough balance",
    ABOVE_BALANCE_CAP: "the balance would rise above what this card may hold",
    OFFLINE_TOTAL_USED_UP: "the card has paid all that it may before it meets its issuer",
    JOURNAL_FULL: "the card's journal is full; it has to meet its issuer",
    TOO_MANY_UNRATIFIED: "too many payments on the card still wait to be carried",
    PAYEE_UNKNOWN: "the card has not met this payee yet",
    TRANSIT_ALLOWANCE_USED_UP: "the transit allowance is used up; the terminal has to prove itself",
    WRONG_CURRENCY: "the card holds another currency",
    BLOCKED: "the card is blocked",
    WRONG_VERSION: "the card speaks another version, suite or application",
    CERTIFICATE_EXPIRED: "the certificate has expired",
    WRONG_CLASS: "the certificate is of the wrong class, or for another payee or terminal",
    AUTHORITY_UNKNOWN: "the card does not know the authority of this certificate",
    SIGNATURE_WRONG: "the signature does not verify",
    CERTIFICATE_UNKNOWN: "the card does not know this certificate",
    NO_SUCH_RECORD: "no such record on the card",
    ORDER_TOO_OLD: "the order's number is not above the last one",
    NOT_FOR_THIS_CARD: "meant for another scheme, operator or card",
    WRONG_LOAD_COUNTER: "the load's counter or challenge is not the card's",
    ACKNOWLEDGES_TOO_MUCH: "acknowledges more than the card has signed",
    REFUND_TOO_HIGH: "the refund is above what is left of the payment",
    REFUND_TOO_LOW: "more than that has been refunded already",
}


def tries_left(sw: int) -> int | None:
    """PIN tries left, when `sw` is 63Cx (ISO/IEC 7816-4, 7.5.6), else None."""
    return sw & 0x0F if sw & 0xFFF0 == 0x63C0 else None


def is_known(sw: int) -> bool:
    """Whether the protocol has this status word: then its meaning says what the card did."""
    return sw in _WORDS or tries_left(sw) is not None


def explain(sw: int) -> str:
    """One status word in plain words."""
    tries = tries_left(sw)
    if tries is not None:
        return f"wrong PIN, {tries} {'try' if tries == 1 else 'tries'} left"
    return _WORDS.get(sw, "unknown status word")
