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
├── ShiftError          a shift and the cash in its drawer
│   ├── ShiftNotOpen    there is no shift; open one first
│   ├── ShiftAlreadyOpen the shift before has to be closed first
│   ├── NameMissing     nobody said who does it
│   ├── ReasonMissing   cash in or out without a reason
│   ├── CashShort       more cash out than the drawer can hold
│   ├── DifferenceUnexplained  the count differs, and nobody says why
│   ├── ShiftFull       more movements of cash than one shift can have
│   ├── ShiftDamaged    the book of shifts does not hold what was written to it
│   └── ShiftFailed     the book of shifts can't be read or written; nothing was changed
├── PrinterError        a printer; nothing is lost, a receipt can be printed again at any time
│   ├── BadPrinterUri   an address that names no printer
│   ├── PrinterAway     it does not answer: off, unplugged, or another address
│   ├── PrinterStuck    it takes no more bytes within the time
│   └── PrinterNotReady it says that its paper is out, its cover open, or something else is wrong
├── FaresError          lines, stops and fares
│   ├── FaresRefused    a fare file or GTFS feed that can't be used; says where
│   └── NoSuchFare      a line, direction, stop or fare that the network does not have
├── RunError            a run of a bus
│   ├── NoRun           no run is under way; begin one first
│   └── RunUnderWay     the run before has to be ended first
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


class ShiftError(TerminalError):
    """A shift and the cash in its drawer."""


class ShiftNotOpen(ShiftError):
    """There is no shift; open one first."""


class ShiftAlreadyOpen(ShiftError):
    """The shift before has to be closed first."""


class NameMissing(ShiftError):
    """Nobody said who does it."""


class ReasonMissing(ShiftError):
    """Cash in or out without a reason."""


class CashShort(ShiftError):
    """More cash out than the drawer can hold."""


class DifferenceUnexplained(ShiftError):
    """The count differs from what is expected, and nobody says why. `difference_fen`: counted less expected;
    None when the count was blind.
    """

    def __init__(self, message: str, difference_fen: int | None) -> None:
        super().__init__(message)
        self.difference_fen = difference_fen


class ShiftFull(ShiftError):
    """More movements of cash than one shift can have."""


class ShiftDamaged(ShiftError):
    """The book of shifts does not hold what was written to it."""


class ShiftFailed(ShiftError):
    """The book of shifts can't be read or written. Nothing was changed: try again."""


class PrinterError(TerminalError):
    """A printer. Nothing is lost: a receipt can be printed again at any time."""


class BadPrinterUri(PrinterError):
    """An address that names no printer."""


class PrinterAway(PrinterError):
    """It does not answer: off, unplugged, or another address."""


class PrinterStuck(PrinterError):
    """It takes no more bytes within the time."""


class PrinterNotReady(PrinterError):
    """It says that its paper is out, its cover open, or something else is wrong."""


class FaresError(TerminalError):
    """Lines, stops and fares."""


class FaresRefused(FaresError):
    """A fare file or GTFS feed that can't be used. The message says where."""


class NoSuchFare(FaresError):
    """A line, direction, stop or fare that the network does not have."""


class RunError(TerminalError):
    """A run of a bus."""


class NoRun(RunError):
    """No run is under way; begin one first."""


class RunUnderWay(RunError):
    """The run before has to be ended first."""


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
