"""What can go wrong while a tap becomes a sale, in a cashier's words.

TerminalError
├── BadAmount           an amount that cannot be charged
├── ReferenceReused     a reference that already names another sale
├── SaleOpen            an unresolved sale has to be finished or given up first
├── NoSuchSale          no sale has that reference
├── UnhealthyEntropy    the random source repeats itself
├── ClockWrong          the clock cannot be right
├── TerminalFolderError the terminal's folder is missing, damaged, or its key does not open
├── OrderRefused        an issuer's order that this terminal does not carry to its card
├── StoreError          where the issuer's denylist and orders are kept
│   ├── StoreBusy       another process holds it
│   └── StoreFailed     it can't be read or written
└── JournalError        the terminal's durable store
    ├── JournalBusy     another process holds it
    ├── JournalDamaged  it does not hold what was written to it
    ├── JournalFull     there is no room for another payment
    └── JournalFailed   a write did not reach the disk; the terminal stops
"""


class TerminalError(Exception):
    """Base of this package's errors. The message is for the user, and says what to do."""


class BadAmount(TerminalError):
    """An amount that cannot be charged."""


class ReferenceReused(TerminalError):
    """A reference that already names another sale."""


class SaleOpen(TerminalError):
    """An unresolved sale has to be finished, or given up, first."""


class NoSuchSale(TerminalError):
    """No sale has that reference."""


class UnhealthyEntropy(TerminalError):
    """The random source repeats itself: the terminal stops."""


class ClockWrong(TerminalError):
    """The machine's clock cannot be right."""


class TerminalFolderError(TerminalError):
    """The terminal's folder is missing, damaged, or its key does not open."""


class OrderRefused(TerminalError):
    """An issuer's order that this terminal does not carry to its card.

    `code` is one word for programs: malformed, too-long, too-many, scheme, operator, signature.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StoreError(TerminalError):
    """Where a terminal keeps what issuers gave it: denylists and orders."""


class StoreBusy(StoreError):
    """Another process holds it."""


class StoreFailed(StoreError):
    """It can't be read or written."""


class JournalError(TerminalError):
    """The terminal's durable store."""


class JournalBusy(JournalError):
    """Another process holds the store."""


class JournalDamaged(JournalError):
    """The store does not hold what was written to it."""


class JournalFull(JournalError):
    """There is no room for another payment."""


class JournalFailed(JournalError):
    """A write did not reach the disk. Never retried as a success: the terminal stops."""
