"""examples/back_office.py: settlement files fetched over HTTP, verified, held against an own list."""

import shutil
from pathlib import Path

import pytest

from examples.back_office import Books, BooksError, compare, own_rows
from offline_sync.errors import SettlementRefused
from pos_terminal.folder import open_terminal
from tests.examples.conftest import Place, clearing
from tui.cli import main


def command(line: str) -> None:
    """A command of the program, which must succeed."""
    assert main(line.split()) == 0, line


def sell(amount: str, run: int) -> None:
    command(f"pos pay {amount} --terminal bus --reader sim:alice.card --line 7 --run {run}")


def deliver() -> None:
    command("sync --terminal bus --export bus.upload")
    command("clearing import bus.upload --scheme city")


def last_payment() -> str:
    """The card and the sequence number of the bus's newest payment."""
    newest = list(own_rows(Path("bus")))[-1]
    return f"{newest.card}:{newest.sequence}"


@pytest.fixture(scope="module")
def two_days(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bus's two days, both closed: 2.00 and 3.00; then 4.00, of which 1.00 was given back."""
    folder = tmp_path_factory.mktemp("two-days") / "place"
    shutil.copytree(template, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command("terminal new --scheme city --class retail --merchant 2 office")
        sell("2.00", 1)
        sell("3.00", 2)
        deliver()
        command("clearing close --scheme city --out settled")
        sell("4.00", 3)
        command(f"pos refund 1.00 --of {last_payment()} --terminal bus --reader sim:alice.card")
        deliver()
        command("clearing close --scheme city --out settled")
    return folder


@pytest.fixture
def office(two_days: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of it, which is also the working folder."""
    folder = tmp_path / "place"
    shutil.copytree(two_days, folder)
    monkeypatch.chdir(folder)
    return Place(folder)


def test_it_fetches_verifies_and_holds_against_the_own_list(office: Place) -> None:
    words = ("back_office.py", "office")
    with clearing(Path("city").resolve()) as url:
        said = office.run(*words, url, "books", "bus")
        assert [line.split(": ")[-1] for line in said] == [
            "2 rows, 0.00 to 5.00, signed",
            "2 rows, 5.00 to 8.00, signed",
            "4 rows agree, 0 do not",
        ]
        sell("6.00", 4)
        lacking = office.run(*words, url, "books", "bus", code=1)
    assert lacking[0].startswith("only-ours: card 0000010100000001 no ")
    assert lacking[0].endswith(", 600 and None fen")
    assert lacking[1:] == ["4 rows agree, 1 do not"]


def test_no_clearing_is_told_in_words(office: Place) -> None:
    with office.start("back_office.py", "office", "http://127.0.0.1:9", "books") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert err.strip()


@pytest.fixture
def files(office: Place) -> list[bytes]:
    """The files of the payee for the two days."""
    found = [path.read_bytes() for path in sorted(Path("settled").rglob("*0000020100000002.csv"))]
    assert len(found) == 2
    return found


def books(name: str = "books") -> Books:
    folder = open_terminal(Path("office"))
    return Books(Path(name), folder.trust.bundle, folder.identity.certificate.payee)


def test_a_changed_byte_is_not_kept(files: list[bytes]) -> None:
    for place in range(0, len(files[0]), 37):
        altered = bytearray(files[0])
        altered[place] ^= 1
        with pytest.raises((SettlementRefused, BooksError)):
            books().add(bytes(altered))
    assert list(Path("books").iterdir()) == []


def test_a_file_out_of_turn_is_not_kept(files: list[bytes]) -> None:
    kept = books()
    with pytest.raises(BooksError, match="follows closing 1"):
        kept.add(files[1])
    kept.add(files[0])
    with pytest.raises(BooksError, match="the last one here is 1"):
        kept.add(files[0])
    kept.add(files[1])
    assert kept.last == 2


def test_another_payees_file_is_not_kept(files: list[bytes]) -> None:
    command("terminal new --scheme city --class retail --merchant 7 other")
    folder = open_terminal(Path("other"))
    other = Books(Path("books"), folder.trust.bundle, folder.identity.certificate.payee)
    with pytest.raises(BooksError, match="fetch your own"):
        other.add(files[0])


def test_what_was_altered_in_the_folder_is_told(files: list[bytes]) -> None:
    books().add(files[0])
    (path,) = Path("books").glob("*.csv")
    path.write_bytes(path.read_bytes().replace(b",200,0,granted,", b",100,0,granted,"))
    with pytest.raises(SettlementRefused):
        books()


def test_a_vehicle_that_is_missing_shows_as_theirs(files: list[bytes]) -> None:
    kept = books()
    for raw in files:
        kept.add(raw)
    found = compare(kept, [])
    assert (found.agree, found.sums["only-theirs"].count, found.matched) == (False, 4, 0)
