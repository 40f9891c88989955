"""Orders of card issuers that a terminal hands to their cards: block, unblock, acknowledge, limits.

    DIR/orders.bin   the orders, 125 bytes each (docs/protocol.md, section 13), replaced whole or not at all

An order enters when its issuer's signature verifies. It leaves when its card has answered: done, or refused
for good. A card that is torn out of the field is offered it again at its next tap; an order that it had
obeyed already is then refused by it as older.

Any thread may offer orders while another one taps: a tap waits for no file.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hardwallet.certificates import CLASS_ISSUING, TrustBundle
from hardwallet.errors import AuthorityUnknown, CertificateRefused, Malformed, SignatureInvalid
from hardwallet.journalled import write_durably
from hardwallet.messages import ORDER_LENGTH, parse_card_order
from hardwallet.suites import SIGNATURE_LENGTH
from pos_terminal.errors import OrderRefused, StoreFailed
from pos_terminal.exclusive import Exclusive

ORDERS: Final = "orders.bin"
LOCK: Final = "orders.lock"
MAX_ORDERS: Final = 10_000
"""The most orders that wait in a terminal."""
MAX_LENGTH: Final = MAX_ORDERS * ORDER_LENGTH
"""The longest file of orders, bytes."""


class Orders:
    """Orders that wait for their cards, in memory. Any thread may call."""

    def __init__(self) -> None:
        self._memory = threading.RLock()  # never held for a file
        self._waiting: dict[bytes, dict[int, bytes]] = {}  # by card, then by number
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def waiting_for(self, card: bytes) -> list[bytes]:
        """The orders for a card (8 bytes), the lowest number first; 125 bytes each."""
        with self._memory:
            return [raw for _, raw in sorted(self._waiting.get(card, {}).items())]

    def all(self) -> list[bytes]:
        """Every order, by card and number."""
        with self._memory:
            return [raw for card in sorted(self._waiting) for raw in self.waiting_for(card)]

    def put(self, raw: bytes) -> bool:
        """Let an order (125 bytes) wait; whether it is a new one. There is one order to a card and a number:
        when it comes again, signed with another key, it takes the old one's place. Raises Malformed."""
        order = parse_card_order(raw)
        with self._memory:
            orders = self._waiting.setdefault(order.card, {})
            is_new = order.number not in orders
            orders[order.number] = raw
            self._count += is_new
            return is_new

    def drop(self, raw: bytes) -> None:
        """The card has answered this order (125 bytes). One that does not wait here changes nothing."""
        order = parse_card_order(raw)
        with self._memory:
            orders = self._waiting.get(order.card, {})
            if orders.pop(order.number, None) is not None:
                self._count -= 1
            if not orders:
                self._waiting.pop(order.card, None)

    def settle(self) -> None:
        """Keep what was dropped; called when the card has its result. In memory there is nothing to do."""


class Pouch(Orders):
    """The orders in a terminal's folder, held by one process. Close it when done.

    Raises StoreBusy, StoreFailed. `damaged`: how many orders in the file could not be read.
    """

    def __init__(self, folder: Path, trust: TrustBundle) -> None:
        super().__init__()
        self._path = folder / ORDERS
        self._trust = trust
        self._changed = False
        self._writing = threading.Lock()  # one writer at a time, so that no older file replaces a newer one
        self.damaged = 0
        self._lock = Exclusive(folder / LOCK)
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Keep what was dropped, and let the folder go. Again does nothing."""
        self.settle()
        self._lock.close()

    def offer(self, orders: Sequence[bytes]) -> int:
        """Take orders (125 bytes each); how many of them are new here. Durable when this returns.

        Raises OrderRefused when one of them is not good, or there are too many: then none is taken.
        StoreFailed when they can't be kept.
        """
        if len(orders) > MAX_ORDERS:
            raise _too_many()
        for raw in orders:
            self._check(raw)
        with self._writing:
            held, whole = self.all(), Orders()
            for raw in held:
                whole.put(raw)
            new = sum([whole.put(raw) for raw in orders])
            if len(whole) > MAX_ORDERS:
                raise _too_many()
            if whole.all() != held:
                self._write(whole.all())
            for raw in orders:
                self.put(raw)
        self.settle()  # what a tap dropped meanwhile, and left to the writer
        return new

    def drop(self, raw: bytes) -> None:
        """The card has answered. What is dropped leaves the disk with `settle`: an order that comes back
        because the power went before that is refused by its card as older."""
        with self._memory:
            super().drop(raw)
            self._changed = True

    def settle(self) -> None:
        """Keep what was dropped. A disk that is full leaves it for later; who writes at this moment does it
        afterwards, and nobody waits for that."""
        while self._changed and self._writing.acquire(blocking=False):
            try:
                with self._memory:
                    held, self._changed = self.all(), False
                self._write(held)
            except StoreFailed:
                self._changed = True
                return
            finally:
                self._writing.release()

    def _write(self, orders: list[bytes]) -> None:
        try:
            write_durably(self._path, b"".join(orders))
        except OSError as error:
            raise StoreFailed(f"the orders can't be kept in {self._path}: {error.strerror}") from None

    def _check(self, raw: bytes) -> None:
        """Raises OrderRefused unless it is an order of the card's own issuer."""
        try:
            order = parse_card_order(raw)
        except Malformed as error:
            raise OrderRefused("malformed", f"this is no issuer's order: {error}") from None
        if len(raw) != ORDER_LENGTH:
            raise OrderRefused("malformed", f"an order has {ORDER_LENGTH} bytes, not {len(raw)}")
        if order.scheme != self._trust.scheme or order.suite != self._trust.suite.number:
            raise OrderRefused("scheme", f"the order belongs to another scheme ({order.scheme.hex()})")
        if order.card[:4] != order.operator:
            raise OrderRefused(
                "operator", f"operator {order.operator.hex()} gives orders to a card that it did not issue"
            )
        try:
            self._trust.verify_signed(
                *(order.operator, CLASS_ISSUING, raw[:-SIGNATURE_LENGTH], raw[-SIGNATURE_LENGTH:]),
                order.time_s,
            )
        except AuthorityUnknown as error:
            raise OrderRefused("operator", str(error)) from None
        except CertificateRefused as error:
            raise OrderRefused("operator", f"the order's issuer is not to be trusted: {error}") from None
        except SignatureInvalid:
            raise OrderRefused("signature", "the order is not signed by its issuer, or was altered") from None

    def _load(self) -> None:
        """Shapes only: the card checks the signature of each order again."""
        try:
            raw = read_orders(self._path) if self._path.exists() else b""
        except OSError as error:
            raise StoreFailed(f"{self._path} can't be read: {error.strerror}") from None
        for one in cut(raw):
            try:
                self.put(one)
            except Malformed:
                self.damaged += 1


def read_orders(path: Path) -> bytes:
    """The bytes of a file of orders; no more is read than a terminal can hold. Raises OrderRefused,
    OSError."""
    with path.open("rb") as file:
        raw = file.read(MAX_LENGTH + 1)
    if len(raw) > MAX_LENGTH:
        raise OrderRefused("too-long", f"the file is too long: a terminal takes at most {MAX_ORDERS} orders")
    return raw


def cut(raw: bytes) -> list[bytes]:
    """The orders in a file: 125 bytes each; the last one may be cut off."""
    return [raw[at : at + ORDER_LENGTH] for at in range(0, len(raw), ORDER_LENGTH)]


def _too_many() -> OrderRefused:
    return OrderRefused(
        "too-many", f"more than {MAX_ORDERS} orders would wait here; let this terminal meet some cards first"
    )
