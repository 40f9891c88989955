"""The contract, on the store that was named."""

from store_tests.bench import Bench
from store_tests.cases import Case


def test_contract(bench: Bench, case: Case) -> None:
    """The store keeps one promise."""
    case(bench)
