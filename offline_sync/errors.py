"""What can go wrong after the tap, in the words of who has to mend it.

JournalError (pos_terminal)      the terminal's durable store
├── JournalDamaged (pos_terminal)
│   └── JournalLocked            an old copy of the store was put back: clearing holds more, or other, entries
├── JournalNewer                 written by a newer version of this program
└── JournalForeign               the journal of another terminal or scheme
SyncError
├── MessageMalformed             bytes that are no upload or acknowledgement
├── ExportFailed                 the export file cannot be written or read
├── SettlementRefused            a settlement file, or a list in its form, that is not taken
├── GatewayError                 the way to clearing; nothing was marked as sent
│   ├── ClearingUnreachable      no connection
│   ├── ClearingSlow             no answer in time
│   ├── ClearingFailed           it answered 500 to 599, or 429, or broke off
│   ├── ClearingNonsense         it answered something that is no answer
│   ├── ClearingRefused          it refused what was asked, and said why
│   │   └── ClockWrong           this machine's clock is not clearing's
│   └── AcknowledgementRefused   the acknowledgement is not clearing's, or not for what was sent
└── ClearingError                on the operator's side
    ├── BatchRefused             an upload that is refused whole; nothing was booked
    ├── RecordRefused            one record or order that is not booked
    ├── NoticeRefused            a denylist, order or authority list that is not published
    ├── RequestRefused           an HTTP request that is not signed as it must be, or not allowed
    ├── NoDispute                no evidence of that name, or none that a file can prove
    ├── BackupRefused            a backup that is not made, or not put back; nothing was changed
    ├── SettlementError          a closing, or a file of it, that cannot be made
    │   └── SettlementMissing    there is no such closing, or no such file of it
    └── LedgerError              the ledger's database cannot be used
"""

from pos_terminal.errors import JournalDamaged, JournalError


class JournalLocked(JournalDamaged):
    """Clearing holds more, or other, entries of this terminal than its journal: an old copy was put back."""


class JournalNewer(JournalError):
    """Written by a newer version of this program."""


class JournalForeign(JournalError):
    """The journal of another terminal, payee or scheme."""


class SyncError(Exception):
    """Base of this package's own errors. The message is for the user, and says what to do."""


class MessageMalformed(SyncError):
    """Bytes that are no upload, acknowledgement or journal entry."""


class ExportFailed(SyncError):
    """The export file cannot be written or read."""


class SettlementRefused(SyncError):
    """A settlement file, or a list in its form, that is not taken. `code` is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class GatewayError(SyncError):
    """The way to clearing. Nothing was marked as sent."""


class ClearingUnreachable(GatewayError):
    """No connection to clearing."""


class ClearingSlow(GatewayError):
    """No answer in time."""


class ClearingFailed(GatewayError):
    """Clearing answered that it failed, or has too much to do. `retry_after_s`: how long it asks to be left
    alone, 0 when it does not say.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClearingNonsense(GatewayError):
    """Clearing, or something in its place, answered something that is no answer."""


class ClearingRefused(GatewayError):
    """Clearing refused what was asked. `code` is its word for the reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"clearing refused: {message}")
        self.code = code


class ClockWrong(ClearingRefused):
    """This machine's clock is too far from clearing's."""


class AcknowledgementRefused(GatewayError):
    """The acknowledgement is not clearing's, or not for what was sent."""


class ClearingError(SyncError):
    """On the operator's side."""


class BatchRefused(ClearingError):
    """An upload that is refused whole; nothing was booked. `code` is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RecordRefused(ClearingError):
    """One record or order that is not booked. `code` is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SettlementError(ClearingError):
    """A closing, or a file of it, that cannot be made. Nothing was changed."""


class NoticeRefused(ClearingError):
    """A denylist, order or authority list that is not published. `code` is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RequestRefused(ClearingError):
    """An HTTP request that is not signed as it must be, or not allowed. `code` is a word for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoDispute(ClearingError):
    """There is no evidence of that name, or none that a file can prove."""


class BackupRefused(ClearingError):
    """A backup that is not made, or not put back. Nothing was changed."""


class SettlementMissing(SettlementError):
    """There is no such closing, or no file of that payee in it."""


class LedgerError(ClearingError):
    """The ledger's database cannot be used."""
