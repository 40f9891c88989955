"""What goes over the HTTP surface besides uploads and reports: JSON both ways, shared by service and client.

Bytes in JSON are base64. docs/openapi.json is made from these types; docs/http.md says it in words.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from hardwallet.authorities import MAX_LENGTH as MAX_AUTHORITIES_BYTES
from hardwallet.certificates import CARD_CERTIFICATE_LENGTH
from hardwallet.denylist import MAX_LENGTH as MAX_DENYLIST_BYTES
from hardwallet.messages import LOAD_ORDER_LENGTH, ORDER_LENGTH
from hardwallet.records import RECORD_LENGTH
from offline_sync.messages import MAX_BATCH_BYTES, Acknowledgement, Bytes32

__all__ = ["MAX_AUTHORITIES_BYTES", "MAX_BATCH_BYTES", "MAX_DENYLIST_BYTES"]

MAX_LOADS: Final = 1_000
"""The most load orders, or receipts, in one request."""
MAX_RETURNS: Final = 100
MAX_ORDERS: Final = 1_000
"""The most card orders in one request, and in one answer."""
MAX_LOST: Final = 100
MAX_SMALL_BYTES: Final = 512 * 1024
MAX_REPORT_BYTES: Final = 64 * 1024 * 1024
MAX_SETTLEMENT_BYTES: Final = 512 * 1024 * 1024

BATCHES: Final = "/v1/batches"
HELD: Final = "/v1/held"
LOST: Final = "/v1/lost"
DENYLIST: Final = "/v1/denylist"
ORDERS: Final = "/v1/orders"
AUTHORITIES: Final = "/v1/authorities"
LOADS: Final = "/v1/loads"
OWED: Final = "/v1/owed"
ARRIVED: Final = "/v1/arrived"
REPORT: Final = "/v1/report"
SETTLEMENTS: Final = "/v1/settlements"
DISPUTES: Final = "/v1/disputes"
HEALTH: Final = "/v1/health"
DESCRIPTION: Final = "/openapi.json"

Natural = Annotated[int, Meta(ge=0, le=2**53)]
LoadOrder = Annotated[bytes, Meta(min_length=LOAD_ORDER_LENGTH, max_length=LOAD_ORDER_LENGTH)]
CardOrder = Annotated[bytes, Meta(min_length=ORDER_LENGTH, max_length=ORDER_LENGTH)]
RecordBytes = Annotated[bytes, Meta(min_length=RECORD_LENGTH, max_length=RECORD_LENGTH)]
CertificateBytes = Annotated[
    bytes, Meta(min_length=CARD_CERTIFICATE_LENGTH, max_length=CARD_CERTIFICATE_LENGTH)
]


class Return(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment whose amount is owed back to its card: sequence number, H(body) (32), what is owed of it."""

    sequence: Natural
    body_digest: Bytes32
    amount_fen: Natural


class HandedOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A load order (122 bytes), and the returns whose sum is part of its amount."""

    order: LoadOrder
    returns: Annotated[list[Return], Meta(max_length=MAX_RETURNS)] = []


class LoadReceipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card's load receipt (160 bytes) with the card's certificate (178 bytes)."""

    record: RecordBytes
    certificate: CertificateBytes


class Loads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an issuer hands over: its orders, and the receipts that came back."""

    orders: Annotated[list[HandedOrder], Meta(max_length=MAX_LOADS)] = []
    receipts: Annotated[list[LoadReceipt], Meta(max_length=MAX_LOADS)] = []


class LoadsBooked(msgspec.Struct, frozen=True):
    """How many of each were taken; `booked` counts the receipts that were new."""

    orders: int
    receipts: int
    booked: int


class Arrived(msgspec.Struct, frozen=True):
    """Everything that a card signed up to `sequence` is at clearing, and comes to `total_fen` in payments."""

    sequence: int
    total_fen: int


class Owed(msgspec.Struct, frozen=True):
    """What is owed back to a card and not on it yet."""

    returns: list[Return]


class Held(msgspec.Struct, frozen=True):
    """What clearing holds of a terminal's journal: the highest entry, and the gaps (first, last) below it."""

    highest: Natural
    gaps: list[tuple[Natural, Natural]]


class Lost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Acknowledgements that clearing signed, of entries that it no longer says it holds."""

    acknowledgements: Annotated[list[Acknowledgement], Meta(max_length=MAX_LOST)]


class LostNoted(msgspec.Struct, frozen=True):
    """How many of them clearing has lost, by its own signature."""

    lost: int


class CardOrders(msgspec.Struct, frozen=True):
    """Card orders (125 bytes each) that wait for their cards. `last`: ask for those after it next; 0: these
    were the last."""

    orders: Annotated[list[CardOrder], Meta(max_length=MAX_ORDERS)]
    last: Natural


class NewOrders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Card orders (125 bytes each) to be handed to their cards."""

    orders: Annotated[list[CardOrder], Meta(max_length=MAX_ORDERS)]


class Published(msgspec.Struct, frozen=True):
    """How many of what was sent were new."""

    new: int


class Health(msgspec.Struct, frozen=True):
    """`ok`: the ledger can be read."""

    status: str
