"""What a recorded exchange means, for `trace show`; and what of it may be recorded at all.

A trace never holds a PIN or a key: the PIN blocks are blanked although they are encrypted, since a trace
outlives a session.
"""

from collections.abc import Callable
from typing import Final

from firmware_bridge.apdu import Command
from firmware_bridge.errors import MalformedApdu
from firmware_bridge.trace import Description, TraceExchange, blank, describe_by_header
from hardwallet import messages as m
from hardwallet import records as r
from hardwallet import status as sw
from hardwallet.certificates import CARD, CERTIFICATE_LENGTH, parse
from hardwallet.errors import WalletError
from hardwallet.limits import parse_limits
from hardwallet.riders import is_card_class
from hardwallet.session import COMMAND_NAMES

Fields = list[tuple[str, str]]

_HEADER: Final = 5
_PIN_AT: Final = _HEADER + m.SALE_LENGTH + m.DIGEST_LENGTH
_PIN_END: Final = _PIN_AT + 80
_TYPES: Final = {r.PAYMENT: "payment", r.LOAD: "load receipt", r.REFUND: "refund receipt"}
_PROFILES: Final = {r.TRANSIT: "transit", r.RETAIL: "retail", r.PROFILE_NONE: "none"}
_OUTCOMES: Final = {
    m.PAID: "paid now",
    m.ALREADY_PAID_UNRATIFIED: "already paid, unratified",
    m.ALREADY_PAID_RATIFIED: "already paid, ratified",
}
_KINDS: Final = {
    m.KIND_ACKNOWLEDGE: "acknowledge",
    m.KIND_LIMITS: "limits",
    m.KIND_BLOCK: "block",
    m.KIND_UNBLOCK: "unblock",
}


def redact(command: bytes, response: bytes) -> tuple[str, str]:
    """Both APDUs as hex for a trace, PIN blocks and the keys that they travel under as "xx".

    A command that is not one of the wallet's keeps its header only when it could carry a secret.
    """
    shown = response.hex().upper()
    if len(command) > 1 and command[0] == m.CLA_WALLET and command[1] == m.INS_PAY:
        plain = len(command) - _HEADER in (
            *(m.SALE_LENGTH, m.SALE_LENGTH + 1),
            *(m.RETAIL_LENGTH, m.RETAIL_LENGTH + 1),
        )
        if plain:
            return command.hex().upper(), shown
        if len(command) - _HEADER in (m.PIN_LENGTH, m.PIN_LENGTH + 1):
            return blank(command, _PIN_AT, _PIN_END), shown
        return blank(command, _HEADER), shown
    if len(command) > 1 and command[1] in (0x20, 0x21, 0x24, 0x2A, 0x2C):
        return blank(command, _HEADER), shown
    return command.hex().upper(), shown


def describe(exchange: TraceExchange) -> Description:
    """Command name, fields and status word of one exchange; whatever does not parse is shown as hex."""
    try:
        command = Command.from_bytes(exchange.command_bytes)
    except MalformedApdu:
        return describe_by_header(exchange)
    name = COMMAND_NAMES.get(command.ins)
    if name is None or command.cla not in (m.CLA_ISO, m.CLA_WALLET):
        return describe_by_header(exchange)
    fields: Fields = []
    try:
        fields += _command_fields(command)
        if exchange.response is not None:
            fields += _reply_fields(command.ins, exchange.response_bytes)
    except WalletError as error:
        fields += [
            ("malformed", str(error)),
            ("command", exchange.command),
            ("response", exchange.response or ""),
        ]
    return Description(name, fields)


def _command_fields(command: Command) -> Fields:
    data = command.data
    if command.ins == m.INS_SELECT:
        return [("AID", data.hex())]
    if command.ins == m.INS_PAY:
        return _sale_fields(data)
    if command.ins in (m.INS_EXCHANGE_CERTIFICATES, m.INS_INTRODUCE):
        return _certificate_fields("presented", data[:CERTIFICATE_LENGTH]) if data else []
    if command.ins == m.INS_PROVE:
        return [("certificate digest", data[:8].hex()), ("signature", data[8:].hex())]
    if command.ins == m.INS_INTERNAL_AUTHENTICATE:
        return [("challenge", data.hex())]
    if command.ins == m.INS_RATIFY:
        return [("sequence", str(int.from_bytes(data[:4], "big"))), ("signature ends", data[4:].hex())]
    if command.ins == m.INS_CHANGE_PIN:
        return [("ephemeral key, PIN blocks", "not recorded")]
    if command.ins == m.INS_READ_RECORD:
        which = "first unratified above" if command.p1 else "sequence"
        return [(which, str(int.from_bytes(data, "big")))]
    if command.ins == m.INS_LOAD:
        return _load_order_fields(data)
    return _order_fields(data) if command.ins == m.INS_ORDER else []


def _sale_fields(data: bytes) -> Fields:
    sale = m.parse_sale(data[: m.SALE_LENGTH])
    fields = [
        ("version, suite, application", f"{sale.version} {sale.suite} {sale.application}"),
        ("payee", sale.payee.hex()),
        ("reference", sale.reference.hex()),
        ("amount", _yuan(sale.amount_fen)),
        ("currency", f"{sale.currency:04X}"),
        ("terminal", sale.terminal.hex()),
        ("transaction", str(sale.transaction)),
        ("terminal nonce", sale.nonce.hex()),
        ("terminal time", str(sale.time_s)),
        ("profile", _PROFILES.get(sale.profile, f"unknown {sale.profile:02X}")),
    ]
    rest = data[m.SALE_LENGTH :]
    if rest:
        fields.append(("certificate digest", rest[:8].hex()))
        if len(data) == m.PIN_LENGTH:
            fields.append(("ephemeral key, PIN block", "not recorded"))
        fields.append(("retail proof", rest[-64:].hex()))
    return fields


def _reply_fields(ins: int, reply: bytes) -> Fields:
    data, word = reply[:-2], int.from_bytes(reply[-2:], "big")
    if word != sw.OK:
        return [("the card says", sw.explain(word))]
    readers: dict[int, Callable[[bytes], Fields]] = {
        m.INS_SELECT: _selected_fields,
        m.INS_EXCHANGE_CERTIFICATES: lambda raw: _certificate_fields("card's", raw[:178]),
        m.INS_INTERNAL_AUTHENTICATE: lambda raw: [("signature", raw.hex())],
        m.INS_PAY: _paid_fields,
        m.INS_RATIFY: lambda raw: [("was", "unratified" if raw == b"\x01" else "ratified before")],
        m.INS_READ_RECORD: lambda raw: [
            *_record_fields(raw[:160]),
            ("unratified", str(raw[160:] == b"\x01")),
        ],
        m.INS_READ_STATE: _state_fields,
        m.INS_LOAD_CHALLENGE: lambda raw: [
            ("load counter", str(int.from_bytes(raw[:4], "big"))),
            ("challenge", raw[4:].hex()),
        ],
        m.INS_LOAD: lambda raw: [
            ("outcome", "loaded now" if raw[:1] == b"\x01" else "loaded before"),
            *_record_fields(raw[1:]),
        ],
    }
    reader = readers.get(ins)
    return reader(data) if reader else []


def _selected_fields(raw: bytes) -> Fields:
    selected = m.parse_selected(raw)
    return [
        ("version, suite, application", f"{selected.version} {selected.suite} {selected.application}"),
        ("state", f"{selected.state:03b} (PIN locked, PIN set, blocked)"),
        ("unratified", str(selected.unratified)),
        ("tier", str(selected.tier)),
        ("scheme", selected.scheme.hex()),
        ("card", selected.card.hex()),
        ("certificate digest", selected.certificate_digest.hex()),
        ("currency", f"{selected.currency:04X}"),
        ("card nonce", selected.nonce.hex()),
    ]


def _certificate_fields(whose: str, raw: bytes) -> Fields:
    certificate = parse(raw)
    is_rider = certificate.kind == CARD and is_card_class(certificate.klass)
    return [
        (f"{whose} certificate", f"type {certificate.kind:02X}, class {certificate.klass:02X}"),
        ("authority", certificate.authority.hex()),
        ("subject", certificate.subject.hex()),
        *([("tier, rider", f"{certificate.tier} {certificate.rider.word}")] if is_rider else []),
        ("valid", f"{certificate.not_before} to {certificate.not_after}"),
    ]


def _paid_fields(raw: bytes) -> Fields:
    outcome = ("outcome", _OUTCOMES.get(raw[0], f"unknown {raw[0]:02X}") if raw else "empty")
    if len(raw) == m.ALREADY_PAID_REPLY_LENGTH:
        return [outcome, *_record_fields(raw[1:161]), ("fresh proof", raw[161:].hex())]
    if len(raw) != m.PAID_REPLY_LENGTH:
        return [outcome, ("reply", raw.hex())]
    return [
        outcome,
        ("sequence", str(int.from_bytes(raw[1:5], "big"))),
        ("cardholder verified", "by PIN" if raw[5] else "not"),
        ("limit state", f"{raw[6]:03b}"),
        ("balance after", _yuan(int.from_bytes(raw[7:11], "big"))),
        ("offline total", _yuan(int.from_bytes(raw[11:15], "big"))),
        ("offline count", str(int.from_bytes(raw[15:17], "big"))),
        ("signature", raw[17:].hex()),
    ]


def _record_fields(raw: bytes) -> Fields:
    record = r.parse(raw)
    return [
        ("record", f"{_TYPES[record.kind]} {record.sequence} of card {record.card.hex()}"),
        ("record's payee, terminal", f"{record.payee.hex()} {record.terminal.hex()}"),
        ("record's reference", record.reference.hex()),
        ("record's amount", _yuan(record.amount_fen)),
        ("record's profile", _PROFILES[record.profile]),
        ("record's time", str(record.time_s)),
        ("record's balance after", _yuan(record.balance_fen)),
        ("record's signature", record.signature.hex()),
    ]


def _state_fields(raw: bytes) -> Fields:
    state = m.parse_card_state(raw)
    return [
        ("balance", _yuan(state.balance_fen)),
        ("sequence", f"{state.sequence}, acknowledged up to {state.acknowledged_sequence}"),
        ("spent", f"{_yuan(state.spent_fen)}, acknowledged {_yuan(state.acknowledged_fen)}"),
        ("load counter, order number", f"{state.load_counter}, {state.order_number}"),
        ("date floor", str(state.date_floor)),
        ("transit since proof", f"{state.transit_count} payments, {_yuan(state.transit_amount_fen)}"),
        ("unratified, PIN tries", f"{state.unratified}, {state.tries}"),
    ]


def _load_order_fields(raw: bytes) -> Fields:
    order = m.parse_load_order(raw)
    return [
        ("card", order.card.hex()),
        ("load counter", str(order.counter)),
        ("amount", _yuan(order.amount_fen)),
        ("acknowledges", f"up to {order.acknowledged_sequence}, {_yuan(order.acknowledged_fen)}"),
        ("order time", str(order.time_s)),
    ]


def _order_fields(raw: bytes) -> Fields:
    order = m.parse_card_order(raw)
    value = order.value.hex()
    if order.kind == m.KIND_LIMITS:
        value = str(parse_limits(order.value[:-1]))
    return [
        ("card", order.card.hex()),
        ("order", f"{order.number}: {_KINDS[order.kind]} {value}"),
        ("order time", str(order.time_s)),
    ]


def _yuan(amount_fen: int) -> str:
    return f"{amount_fen // 100}.{amount_fen % 100:02d}"
