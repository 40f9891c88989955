"""Every request that clearing answers, as a table: who may ask, how much, what comes back, what is refused.

service.py answers by it, description.py writes docs/openapi.json from it, docs/http.md says it in words.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from hardwallet import records
from offline_sync import messages, surface
from offline_sync.clearing import Clearing
from offline_sync.clearing.disputes import DisputeLine
from offline_sync.clearing.report import Report
from offline_sync.clearing.settlement import LIST_LIMIT, Closing
from offline_sync.errors import RequestRefused
from offline_sync.messages import Acknowledgement, Batch
from offline_sync.requests import Caller, Role
from offline_sync.surface import (
    Arrived,
    CardOrders,
    Health,
    Held,
    Loads,
    LoadsBooked,
    Lost,
    LostNoted,
    NewOrders,
    Owed,
    Published,
    Return,
)

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
CSV: Final = "text/csv; charset=utf-8"
ANYBODY: Final[frozenset[Role]] = frozenset()
TERMINALS: Final = frozenset({Role.TERMINAL})
ISSUERS: Final = frozenset({Role.ISSUER})
OPERATORS: Final = frozenset({Role.ISSUER, Role.ACQUIRER})
SETTLED: Final = frozenset({Role.TERMINAL, Role.ACQUIRER})
EVERYBODY: Final = TERMINALS | OPERATORS


class Asked(NamedTuple):
    """A request that was checked: by whom, its parameters, its body decoded (or as it came)."""

    caller: Caller | None
    values: dict[str, str]
    body: Any

    @property
    def known(self) -> Caller:
        """Who asks. Raises RequestRefused when nobody signed."""
        if self.caller is None:
            raise RequestRefused("unsigned", "this request must be signed")
        return self.caller


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the path or the query: its form as a regular expression."""

    name: str
    pattern: str
    meaning: str
    place: str = "query"
    default: str | None = None

    def matches(self, text: str) -> bool:
        """Whether this text has the form."""
        return re.fullmatch(self.pattern, text, re.ASCII) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One request. `roles` empty: anybody, unsigned. `body` None: there is none; `bytes`: as it comes.
    `answer` `bytes`: the file itself, of type `media`. `newer`: 204 when nothing is newer. `refusals`: codes
    beside those that every operation has."""

    method: str
    path: str
    name: str
    meaning: str
    roles: frozenset[Role]
    answer: Any
    run: Callable[[Clearing, Asked], Any]
    body: Any = None
    limit_bytes: int = 0
    parameters: tuple[Parameter, ...] = ()
    newer: bool = False
    media: str = OCTETS
    refusals: dict[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def body_media(self) -> str:
        """The media type of the body."""
        return OCTETS if self.body is bytes else JSON

    @property
    def answer_media(self) -> str:
        """The media type of the answer."""
        return self.media if self.answer is bytes else JSON


_CARD: Final = Parameter("card", "[0-9a-f]{16}", "A card's number, 16 hex digits.")
_OPERATOR: Final = Parameter(
    "operator", "[0-9a-f]{8}", "The issuing operator whose list it is, 8 hex digits."
)
_NUMBER: Final = "[0-9]{1,10}"
_FROM: Final = Parameter("from", _NUMBER, "The version that is held already; 0: none.", default="0")
_AFTER: Final = Parameter(
    "after", _NUMBER, "`last` of the answer before; 0: from the beginning.", default="0"
)
_DIGEST: Final = "[0-9a-f]{64}"
_NOTICES: Final = ("malformed", "too-long", "scheme", "signature", "older", "conflict")


def _batches(clearing: Clearing, asked: Asked) -> Acknowledgement:
    return clearing.accept(asked.body)


def _held(clearing: Clearing, asked: Asked) -> Any:
    certificate = asked.known.certificate
    return clearing.held(certificate.payee, certificate.terminal)


def _lost(clearing: Clearing, asked: Asked) -> LostNoted:
    """Each terminal speaks for itself."""
    subject = asked.known.certificate.subject
    shown = [one for one in asked.body.acknowledgements if one.payee + one.terminal == subject]
    if len(shown) != len(asked.body.acknowledgements):
        raise RequestRefused("role", "an acknowledgement of another terminal")
    return LostNoted(sum(clearing.lost(one) for one in shown))


def _denylist(clearing: Clearing, asked: Asked) -> bytes | None:
    return clearing.notices.denylist(bytes.fromhex(asked.values["operator"]), int(asked.values["from"]))


def _publish_denylist(clearing: Clearing, asked: Asked) -> Published:
    return Published(int(clearing.notices.publish_denylist(asked.body)))


def _orders(clearing: Clearing, asked: Asked) -> CardOrders:
    found = clearing.notices.orders(int(asked.values["after"]))
    last = found[-1][0] if len(found) == surface.MAX_ORDERS else 0
    return CardOrders([raw for _, raw in found], last)


def _publish_orders(clearing: Clearing, asked: Asked) -> Published:
    return Published(clearing.notices.publish_orders(asked.body.orders))


def _authorities(clearing: Clearing, asked: Asked) -> bytes | None:
    return clearing.notices.authorities(int(asked.values["from"]))


def _publish_authorities(clearing: Clearing, asked: Asked) -> Published:
    return Published(int(clearing.notices.publish_authorities(asked.body)))


def _loads(clearing: Clearing, asked: Asked) -> LoadsBooked:
    handed: Loads = asked.body
    # Receipts first: what a cancelled order was to return is free for the next one.
    booked = sum(clearing.book_load(one.record, one.certificate) for one in handed.receipts)
    for one in handed.orders:
        clearing.book_order(one.order, [records.Owed(*msgspec.structs.astuple(each)) for each in one.returns])
    return LoadsBooked(len(handed.orders), len(handed.receipts), booked)


def _arrived(clearing: Clearing, asked: Asked) -> Arrived:
    return Arrived(*clearing.arrived(_own_card(asked)))


def _owed(clearing: Clearing, asked: Asked) -> Owed:
    return Owed([Return(*one) for one in clearing.owed(_own_card(asked))])


def _own_card(asked: Asked) -> bytes:
    """The card that is asked for. Raises RequestRefused for another issuer's."""
    card = bytes.fromhex(asked.values["card"])
    if card[:4] != asked.known.certificate.operator:
        raise RequestRefused("role", "the card is another issuer's")
    return card


def _report(clearing: Clearing, _: Asked) -> Report:
    return clearing.report()


def _settlements(clearing: Clearing, asked: Asked) -> list[Closing]:
    """A terminal sees its own payee's."""
    caller = asked.known
    payee = caller.certificate.payee if Role.TERMINAL in caller.roles else None
    return clearing.settlements(payee, after=int(asked.values["after"]), limit=LIST_LIMIT)


def _settlement(clearing: Clearing, asked: Asked) -> Iterator[bytes]:
    caller, payee = asked.known, bytes.fromhex(asked.values["payee"])
    certificate = caller.certificate
    is_own = (
        payee == certificate.payee if Role.TERMINAL in caller.roles else payee[:4] == certificate.operator
    )
    if not is_own:
        raise RequestRefused("role", "the settlement file is for somebody else")
    return clearing.settlement(int(asked.values["number"]), payee)


def _disputes(clearing: Clearing, asked: Asked) -> list[DisputeLine]:
    return clearing.disputes(bytes.fromhex(asked.values["after"]))


def _dispute(clearing: Clearing, asked: Asked) -> bytes:
    return clearing.dispute(bytes.fromhex(asked.values["digest"]))


def _health(clearing: Clearing, _: Asked) -> Health:
    clearing.check()
    return Health("ok")


OPERATIONS: Final = (
    Operation(
        method="POST",
        path=surface.BATCHES,
        name="upload",
        meaning="Upload journal entries. The same upload again gets the same acknowledgement.",
        roles=TERMINALS,
        body=Batch,
        limit_bytes=messages.MAX_BATCH_BYTES,
        answer=Acknowledgement,
        refusals={422: ("altered", "scheme", "terminal-certificate", "operator", "clock", "malformed")},
        run=_batches,
    ),
    Operation(
        method="GET",
        path=surface.HELD,
        name="held",
        meaning="What is held of the asking terminal's journal.",
        roles=TERMINALS,
        answer=Held,
        run=_held,
    ),
    Operation(
        method="POST",
        path=surface.LOST,
        name="lost",
        meaning="Show acknowledgements of what is not held any more: the books were put back from a backup.",
        roles=TERMINALS,
        body=Lost,
        limit_bytes=messages.MAX_BATCH_BYTES,
        answer=LostNoted,
        refusals={422: ("scheme", "operator", "signature")},
        run=_lost,
    ),
    Operation(
        method="GET",
        path=surface.DENYLIST,
        name="denylist",
        meaning="The next denylist file (F4) after the version that is held: a change, or the whole list.",
        roles=EVERYBODY,
        parameters=(_OPERATOR, _FROM),
        answer=bytes,
        newer=True,
        run=_denylist,
    ),
    Operation(
        method="POST",
        path=surface.DENYLIST,
        name="publishDenylist",
        meaning="Publish a denylist file (F4), whole or a change of the one that is published.",
        roles=ISSUERS,
        body=bytes,
        limit_bytes=surface.MAX_DENYLIST_BYTES,
        answer=Published,
        refusals={422: (*_NOTICES, "operator", "base")},
        run=_publish_denylist,
    ),
    Operation(
        method="GET",
        path=surface.ORDERS,
        name="orders",
        meaning="Card orders (F2) that wait for their cards.",
        roles=EVERYBODY,
        parameters=(_AFTER,),
        answer=CardOrders,
        run=_orders,
    ),
    Operation(
        method="POST",
        path=surface.ORDERS,
        name="publishOrders",
        meaning="Publish card orders (F2), all of them or none.",
        roles=ISSUERS,
        body=NewOrders,
        limit_bytes=surface.MAX_SMALL_BYTES,
        answer=Published,
        refusals={422: ("malformed", "scheme", "issuer", "signature", "conflict")},
        run=_publish_orders,
    ),
    Operation(
        method="GET",
        path=surface.AUTHORITIES,
        name="authorities",
        meaning="The authority list (F6), when it is newer than the version that is held.",
        roles=EVERYBODY,
        parameters=(_FROM,),
        answer=bytes,
        newer=True,
        run=_authorities,
    ),
    Operation(
        method="POST",
        path=surface.AUTHORITIES,
        name="publishAuthorities",
        meaning="Publish an authority list (F6). Clearing follows it at once.",
        roles=OPERATORS,
        body=bytes,
        limit_bytes=surface.MAX_AUTHORITIES_BYTES,
        answer=Published,
        refusals={422: _NOTICES},
        run=_publish_authorities,
    ),
    Operation(
        method="POST",
        path=surface.LOADS,
        name="handOverLoads",
        meaning="Hand over load orders and load receipts. Again changes nothing.",
        roles=ISSUERS,
        body=Loads,
        limit_bytes=messages.MAX_BATCH_BYTES,
        answer=LoadsBooked,
        refusals={
            422: (
                *("malformed", "scheme", "currency", "issuer", "signature", "card-certificate", "dates"),
                *("clock", "return-claimed"),
            )
        },
        run=_loads,
    ),
    Operation(
        method="GET",
        path=surface.ARRIVED,
        name="arrived",
        meaning="Up to where everything that a card signed has arrived: what may be acknowledged to it.",
        roles=ISSUERS,
        parameters=(_CARD,),
        answer=Arrived,
        run=_arrived,
    ),
    Operation(
        method="GET",
        path=surface.OWED,
        name="owed",
        meaning="What a card paid that goes back to it, and that no load order holds yet.",
        roles=ISSUERS,
        parameters=(_CARD,),
        answer=Owed,
        run=_owed,
    ),
    Operation(
        method="GET",
        path=surface.SETTLEMENTS,
        name="settlements",
        meaning="Days that were closed, by rising number, at most 1,000; to a terminal those of its payee.",
        roles=SETTLED,
        parameters=(Parameter("after", _NUMBER, "The number of the last one known; 0: none.", default="0"),),
        answer=list[Closing],
        run=_settlements,
    ),
    Operation(
        method="GET",
        path=surface.SETTLEMENTS + "/{number}/{payee}",
        name="settlement",
        meaning="The signed settlement file of a payee (docs/settlement.md); the same bytes every time.",
        roles=SETTLED,
        parameters=(
            Parameter("number", _NUMBER, "The number of the closing.", "path"),
            Parameter("payee", "[0-9a-f]{16}", "The payee, 16 hex digits.", "path"),
        ),
        answer=bytes,
        media=CSV,
        refusals={404: ("not-found",), 422: ("settlement",)},
        run=_settlement,
    ),
    Operation(
        method="GET",
        path=surface.DISPUTES,
        name="disputes",
        meaning="Evidence, by rising digest, at most 1,000 pieces.",
        roles=OPERATORS,
        parameters=(
            Parameter(
                "after", f"({_DIGEST})?", "The last digest known, 64 hex digits, or nothing.", default=""
            ),
        ),
        answer=list[DisputeLine],
        run=_disputes,
    ),
    Operation(
        method="GET",
        path=surface.DISPUTES + "/{digest}",
        name="dispute",
        meaning="The dispute file of a piece of evidence, for a third party to judge (docs/disputes.md).",
        roles=OPERATORS,
        parameters=(Parameter("digest", _DIGEST, "Its digest, 64 hex digits.", "path"),),
        answer=bytes,
        media=JSON,
        refusals={404: ("not-found",)},
        run=_dispute,
    ),
    Operation(
        method="GET",
        path=surface.REPORT,
        name="report",
        meaning="The books: balances, dispositions, gaps, loads, rejections, evidence, conservation.",
        roles=OPERATORS,
        answer=Report,
        run=_report,
    ),
    Operation(
        method="GET",
        path=surface.HEALTH,
        name="health",
        meaning="Whether the ledger can be read.",
        roles=ANYBODY,
        answer=Health,
        run=_health,
    ),
)
