"""A scheme, made once, and cards of it."""

import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardwallet import keys
from hardwallet.issuing import Scheme, create_scheme, open_scheme
from hardwallet.keys import KEY_FILE
from hardwallet.suites import SUITES, Suite, suite_by_number
from hw_tests.bench import Authority, open_authority

PASSPHRASE = b"a passphrase for tests"
IN_BOTH_SUITES = pytest.mark.parametrize("suite", list(SUITES), indirect=True, scope="session")
IN_GM = pytest.mark.parametrize("suite", ["gm"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def now() -> int:
    """When the tests run, in seconds since 1970: the contract, typed as a command, uses the real clock."""
    return int(time.time())


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> Suite:
    """International, unless a test asks for another one, as IN_BOTH_SUITES does."""
    return suite_by_number(SUITES[getattr(request, "param", "international")])


@pytest.fixture(scope="session")
def scheme_folder(tmp_path_factory: pytest.TempPathFactory, now: int, suite: Suite) -> Path:
    """A scheme's folder, its passphrase beside it in a key file as `hardwallet scheme init` leaves it."""
    folder = tmp_path_factory.mktemp("scheme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", 2)  # scrypt's cost only costs time here
        create_scheme(folder, "test", suite, PASSPHRASE, now, random.Random(1).randbytes)
    key_file = folder / KEY_FILE
    key_file.write_bytes(PASSPHRASE)
    key_file.chmod(0o600)
    return folder


@pytest.fixture(scope="session")
def authority(scheme_folder: Path) -> Authority:
    """The scheme's keys."""
    return open_authority(scheme_folder, PASSPHRASE, random.Random(2).randbytes)


@pytest.fixture
def scheme(scheme_folder: Path) -> Iterator[Scheme]:
    """The scheme, open for issuing."""
    with open_scheme(scheme_folder, PASSPHRASE, random.Random(3).randbytes) as opened:
        yield opened


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one, for card files whose durability is not what is tested."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="hardwallet-tests-") as folder:
        yield Path(folder)
