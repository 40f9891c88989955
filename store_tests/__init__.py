"""The store contract: every promise of pos_terminal.ports.Journal as a case that any store must pass.

pytest store_tests --store PLACE:FUNCTION
"""

import pytest

pytest.register_assert_rewrite("store_tests.bench", "store_tests.cases")
