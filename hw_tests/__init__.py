"""The card contract: every rule of docs/protocol.md as a case that any card must pass.

pytest hw_tests --reader URI --card SERIAL --scheme DIR
"""

import pytest

pytest.register_assert_rewrite("hw_tests.bench", "hw_tests.cases")
