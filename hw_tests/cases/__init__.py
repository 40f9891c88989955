"""Every rule of docs/protocol.md that can be seen from outside a card, by area."""

from hw_tests.cases import (
    already_paid,
    certificates,
    commands,
    load,
    orders,
    pay,
    pin,
    ratify,
    refund,
    select,
)
from hw_tests.cases.registry import Case, When, cases

CASES = cases()

__all__ = [
    "CASES",
    "Case",
    "When",
    "already_paid",
    "certificates",
    "commands",
    "load",
    "orders",
    "pay",
    "pin",
    "ratify",
    "refund",
    "select",
]
