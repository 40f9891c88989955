"""What can go wrong below money, in the words of the person who has to mend it.

BridgeError
├── ReaderError             the reader, or the road to it
│   ├── BadReaderUri        the name can't be read as one
│   ├── NoReader            the name is fine, nothing answers to it
│   ├── ReaderBusy          another program holds it
│   ├── ReaderGone          it was there and went away
│   └── ServiceNotRunning   pcscd isn't there
├── CardError               the card, or the radio between
│   ├── NoCard              none came in the time given
│   ├── TooManyCards        two or more lie there at once
│   ├── CardGone            it left, or lost power, in mid-session
│   ├── LinkTimeout         it is there and doesn't answer
│   └── Garbled             it answered something that is no reply
├── SerialError             a serial port
│   ├── SerialAway          it is not there, is no serial port, or is in use
│   └── SerialStuck         it takes no more bytes within the time
├── FormatError             bytes that don't parse
│   ├── MalformedApdu
│   ├── MalformedTlv
│   └── MalformedTrace
└── Cancelled               somebody asked a wait to end
"""


class BridgeError(Exception):
    """Anything that goes wrong between a program and a card."""


class ReaderError(BridgeError):
    """The reader, or the road to it, failed."""


class BadReaderUri(ReaderError):
    """A reader's name that can't be read as one."""


class NoReader(ReaderError):
    """A well-formed name that nothing answers to."""


class ReaderBusy(ReaderError):
    """Another program holds the reader or the card."""


class ReaderGone(ReaderError):
    """The reader was there and went away (unplugged, or its service stopped)."""


class ServiceNotRunning(ReaderError):
    """The smart card service (pcscd) can't be reached."""


class CardError(BridgeError):
    """The card, or the radio between card and reader, failed."""


class NoCard(CardError):
    """No card came in the time given."""


class TooManyCards(CardError):
    """Two or more cards lie in the field at once: none of them is spoken to until one is left."""


class CardGone(CardError):
    """The card left, or lost power, in mid-session: whether it carried out the last command is unknown."""


class LinkTimeout(CardError):
    """The card didn't answer in time: whether it carried out the last command is unknown."""


class Garbled(CardError):
    """The card's answer is no response APDU."""


class SerialError(BridgeError):
    """A serial port failed."""


class SerialAway(SerialError):
    """It is not there, is no serial port, was unplugged, or another program has it."""


class SerialStuck(SerialError):
    """It takes no more bytes within the time."""


class FormatError(BridgeError):
    """Bytes or text that don't follow their format."""


class MalformedApdu(FormatError):
    """Bytes that are no command APDU of ISO/IEC 7816-4, or fields that don't fit into one."""


class MalformedTlv(FormatError):
    """Bytes that are no BER-TLV of ISO/IEC 7816-4 within the bounds set."""


class MalformedTrace(FormatError):
    """A file that is no trace, or a damaged one."""


class Cancelled(BridgeError):
    """A wait ended because somebody cancelled it."""
