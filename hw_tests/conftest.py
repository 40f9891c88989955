"""Options and the card: nothing but SELECT is sent to a card that was not named."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.apdu import Response
from firmware_bridge.errors import BridgeError
from firmware_bridge.link import Reader
from firmware_bridge.readers import open_reader
from hardwallet.card.simulated import SimulatedCard
from hardwallet.errors import WalletError
from hardwallet.keys import KEY_FILE, find_passphrase
from hardwallet.messages import Selected, parse_selected
from hardwallet.session import SELECT_COMMAND
from hw_tests.bench import CARD_TIMEOUT_S, Authority, Bench, open_authority
from hw_tests.cases import CASES, When

REFUSED = 3
"""Exit status when the card in the reader is not the one that was named."""

_READER: pytest.StashKey[Reader] = pytest.StashKey()
_AUTHORITY: pytest.StashKey[Authority] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--reader URI --card SERIAL --scheme DIR [--key-file FILE] [--use-up]`."""
    group = parser.getgroup("card contract")
    group.addoption("--reader", metavar="URI", help="the reader, such as pcsc:0 or sim:PATH")
    group.addoption("--card", metavar="SERIAL", help="the number of the card to test, 16 hex digits")
    group.addoption("--scheme", metavar="DIR", help="the folder of the test scheme that issued the card")
    group.addoption("--key-file", metavar="FILE", help="the scheme's passphrase, unless it lies in DIR")
    group.addoption(
        "--use-up", action="store_true", help="also what a card does not recover from (its PIN stays locked)"
    )


def _named_card(config: pytest.Config) -> bytes:
    for option in ("reader", "card", "scheme"):
        if not config.getoption(option):
            raise pytest.UsageError(
                f"--{option} is missing. These tests spend, block and reload a card, so they run only on one "
                "that is named: pytest hw_tests --reader URI --card SERIAL --scheme DIR"
            )
    text = str(config.getoption("card"))
    try:
        number = bytes.fromhex(text)
    except ValueError:
        number = b""
    if len(number) != 8:
        raise pytest.UsageError(f"--card {text}: a card's number has 16 hex digits")
    return number


def pytest_sessionstart(session: pytest.Session) -> None:
    """Opens the scheme and the reader, and leaves at once when another card lies there."""
    config = session.config
    if config.getoption("collectonly"):
        return
    wanted = _named_card(config)
    folder = Path(str(config.getoption("scheme")))
    key_file = config.getoption("key_file")
    try:
        passphrase = find_passphrase(Path(key_file) if key_file else None, folder / KEY_FILE)
        config.stash[_AUTHORITY] = open_authority(folder, passphrase, os.urandom)
        reader = open_reader(str(config.getoption("reader")), simulated_card=SimulatedCard)
        config.stash[_READER] = reader
        found = _select(reader)
    except (BridgeError, WalletError) as error:
        pytest.exit(str(error), returncode=REFUSED)
    if found.card != wanted:
        pytest.exit(
            f"The card in the reader is {found.card.hex().upper()}, not {wanted.hex().upper()}: it was left "
            "alone. Take it away, or name it with --card.",
            returncode=REFUSED,
        )


def _select(reader: Reader) -> Selected:
    link = reader.wait_for_card(CARD_TIMEOUT_S)
    try:
        return parse_selected(Response.from_bytes(link.transmit(SELECT_COMMAND)).data)
    finally:
        link.close(unpower=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Lets the reader go."""
    if _READER in config.stash:
        config.stash[_READER].close()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The named card, brought to a known start."""
    config = request.config
    made = Bench(
        config.stash[_READER], config.stash[_AUTHORITY], _named_card(config), os.urandom, int(time.time())
    )
    made.prepare()
    yield made
    made.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case; those that use the card up come last, and only when asked for."""
    if "case" not in metafunc.fixturenames:
        return
    skip = pytest.mark.skipif(not metafunc.config.getoption("--use-up"), reason="only with --use-up")
    marked = {When.LAST: (skip,)}
    metafunc.parametrize(
        "case", [pytest.param(case, id=case.name, marks=marked.get(case.when, ())) for case in CASES]
    )
