"""A terminal's folder takes authority lists and its renewed certificate, whole or not at all."""

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hardwallet import keys
from hardwallet.certificates import digest
from hardwallet.errors import AuthoritiesRefused
from hardwallet.issuing import ACQUIRER, Scheme, create_scheme, open_scheme
from hardwallet.suites import International
from pos_terminal.errors import StoreBusy, TerminalFolderError
from pos_terminal.exclusive import Exclusive
from pos_terminal.folder import SCHEME, create_terminal, open_terminal
from pos_terminal.trust_update import is_revoked, read_terminal_trust, renew_certificate, take_authorities
from tests.hardwallet.cuts import Cut, cut_at_step

NOW = 1_790_000_000
SECRET = b"a passphrase for tests"


@dataclass
class City:
    """A scheme's folder and the folder of one of its terminals."""

    scheme: Path
    till: Path

    @contextmanager
    def open(self) -> Iterator[Scheme]:
        """The scheme, by a new process."""
        with open_scheme(self.scheme, SECRET, random.Random(3).randbytes) as opened:
            yield opened

    def rotate(self, *, compromised: bool = False) -> bytes:
        """The acquirer's key is rotated; the authority list."""
        with self.open() as scheme:
            scheme.rotate("acquirer", NOW + 60, compromised=compromised)
            return scheme.authorities(NOW)

    @property
    def version(self) -> int:
        """Of the list that the terminal holds."""
        return read_terminal_trust(self.till).bundle.version


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A scheme with a terminal, made once."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", 2)
        folder = Path(name)
        (folder / "city").mkdir()
        create_scheme(folder / "city", "city", International(), SECRET, NOW, random.Random(1).randbytes)
        with open_scheme(folder / "city", SECRET, random.Random(2).randbytes) as scheme:
            create_terminal(folder / "till", scheme, "retail", 7, NOW, random.Random(4).randbytes)
        yield folder


@pytest.fixture
def city(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> City:
    monkeypatch.setattr(keys, "_COST", 2)
    monkeypatch.delenv(keys.PASSPHRASE_VARIABLE, raising=False)
    shutil.copytree(made / "city", tmp_path / "city")
    shutil.copytree(made / "till", tmp_path / "till")
    return City(tmp_path / "city", tmp_path / "till")


def test_a_terminal_goes_on_with_its_old_certificate(city: City) -> None:
    before = open_terminal(city.till).identity.certificate
    raw = city.rotate()
    assert take_authorities(city.till, raw) is True
    assert take_authorities(city.till, raw) is False
    opened = open_terminal(city.till)
    assert opened.identity.certificate == before
    assert opened.trust.bundle.version == 1
    assert len(opened.trust.bundle.current(ACQUIRER)) == 2
    assert not is_revoked(city.till)


def test_a_terminal_made_later_holds_the_list(city: City) -> None:
    city.rotate()
    with city.open() as scheme:
        create_terminal(city.till.parent / "next", scheme, "retail", 7, NOW + 100, random.Random(5).randbytes)
    opened = open_terminal(city.till.parent / "next")
    assert opened.trust.bundle.version == 1
    newest = opened.trust.bundle.operator(ACQUIRER)
    assert opened.trust.bundle.authority_of(opened.identity.certificate) == newest


def test_a_list_never_goes_back(city: City) -> None:
    first, second = city.rotate(), city.rotate()
    take_authorities(city.till, second)
    content = (city.till / SCHEME).read_bytes()
    with pytest.raises(AuthoritiesRefused, match="authority list 1, but 2 is held"):
        take_authorities(city.till, first)
    assert (city.till / SCHEME).read_bytes() == content


@pytest.mark.parametrize("place", [0, 4, 8, 100, -1])
def test_an_altered_list_changes_nothing(city: City, place: int) -> None:
    raw = bytearray(city.rotate())
    raw[place] ^= 1
    content = (city.till / SCHEME).read_bytes()
    with pytest.raises(AuthoritiesRefused):
        take_authorities(city.till, bytes(raw))
    assert (city.till / SCHEME).read_bytes() == content


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_cut_off_anywhere(city: City, done: bool) -> None:
    """The terminal opens with the old list or the new one; the next try ends with the new one."""
    raw = city.rotate()
    step = 0
    while True:
        step += 1
        try:
            with cut_at_step(step, done=done):
                take_authorities(city.till, raw)
            break
        except Cut:
            assert open_terminal(city.till).trust.bundle.version in (0, 1)
    assert city.version == 1
    assert step > 1


def test_two_at_once(city: City) -> None:
    """The slower one does not write over what the other one has brought."""
    raw = city.rotate()
    lock = Exclusive(city.till / "scheme.lock")
    with pytest.raises(StoreBusy, match="in use by another program"):
        take_authorities(city.till, raw)
    lock.close()
    assert take_authorities(city.till, raw)


def test_a_terminal_at_work_follows(city: City) -> None:
    raw = city.rotate()
    live = open_terminal(city.till).trust
    take_authorities(city.till, raw, live)
    assert live.bundle.version == 1
    other = open_terminal(city.till).trust
    assert other.bundle.version == 1
    behind = read_terminal_trust(city.till)
    assert take_authorities(city.till, raw, behind) is False
    assert behind.bundle.version == 1


def test_its_own_certificate_revoked_and_renewed(city: City) -> None:
    """It says what to do, and its number, key and folder stay."""
    before = open_terminal(city.till).identity
    take_authorities(city.till, city.rotate(compromised=True))
    assert is_revoked(city.till)
    with pytest.raises(
        TerminalFolderError, match="is revoked, and with it all that it signed; the operator has"
    ):
        open_terminal(city.till)
    with city.open() as scheme:
        renewed = renew_certificate(city.till, scheme, NOW + 70)
    opened = open_terminal(city.till).identity
    assert opened.certificate == renewed
    assert opened.digest == digest(International(), renewed) != before.digest
    assert opened.key.public == before.key.public
    assert (renewed.subject, renewed.klass) == (before.certificate.subject, before.certificate.klass)
    assert not is_revoked(city.till)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_renewal_cut_off_anywhere(city: City, done: bool) -> None:
    """It is called again, and ends well."""
    city.rotate(compromised=True)
    step = 0
    while True:
        step += 1
        try:
            with city.open() as scheme, cut_at_step(step, done=done):
                renew_certificate(city.till, scheme, NOW + 70)
            break
        except Cut:
            pass
    opened = open_terminal(city.till)
    assert opened.trust.bundle.version == 1
    assert opened.trust.bundle.authority_of(opened.identity.certificate).not_before > NOW - 86_400
    assert step > 4


def test_a_folder_without_a_terminal(city: City, tmp_path: Path) -> None:
    raw = city.rotate()
    with pytest.raises(TerminalFolderError, match="holds no terminal"):
        take_authorities(tmp_path, raw)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["city", "till"]
