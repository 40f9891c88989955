"""The contract, on the card that was named."""

from hw_tests.bench import Bench
from hw_tests.cases import Case


def test_contract(bench: Bench, case: Case) -> None:
    """The card keeps to one rule; afterwards it is unblocked again."""
    try:
        case.run(bench)
    finally:
        bench.prepare()
