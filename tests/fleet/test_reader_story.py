"""The part of the story that a card on a reader can tell, on a card file that nobody made for it."""

import os
import random
import time
from pathlib import Path

import pytest

from firmware_bridge.readers import open_reader
from fleet.open import open_issuing, open_session
from fleet.reader_story import FOLDER, LEFT_OUT, tell_on_reader
from fleet.telling import Step
from hardwallet.card.file import create_card_file
from hardwallet.card.simulated import SimulatedCard
from hardwallet.errors import IssuingError
from hardwallet.issuing import create_scheme
from hardwallet.keys import find_passphrase
from hardwallet.suites import International
from pos_terminal.tap import tap

START_FEN = 20_000
ROUND_FEN = 100 + 200 + 100 + 200


def clock() -> int:
    return int(time.time())


@pytest.fixture
def scheme(tmp_path: Path) -> Path:
    folder = tmp_path / "scheme"
    folder.mkdir()
    passphrase = find_passphrase(None, folder / "key", create=True)
    create_scheme(folder, "town", International(), passphrase, clock(), random.Random(1).randbytes)
    return folder


def issue(scheme: Path, path: Path, balance_fen: int = START_FEN) -> Path:
    with open_issuing(scheme) as issuing:
        identity, memory = issuing.new_card(5, clock(), balance_fen=balance_fen)
        create_card_file(path, identity, memory)
        reader = open_reader(f"sim:{path}", simulated_card=SimulatedCard)
        if balance_fen:
            issuing.load(reader.wait_for_card(0), balance_fen, clock())
        reader.close()
    return path


def tell(scheme: Path, card: Path, key_file: Path | None = None) -> list[Step]:
    reader = open_reader(f"sim:{card}", simulated_card=SimulatedCard)
    told: list[Step] = []
    try:
        steps = tell_on_reader(reader, scheme, key_file, clock, os.urandom, told.append)
    finally:
        reader.close()
    assert told == steps
    return steps


def balance_fen(card: Path) -> int:
    simulated = SimulatedCard(card)
    try:
        return simulated.card_state().balance_fen
    finally:
        simulated.close()


def taken_fen(scheme: Path) -> int:
    """What waits at the demonstration terminals."""
    total = 0
    for name in ("retail", "transit"):
        with open_session(scheme / FOLDER / name) as session:
            assert session.journal.verify_all().ok
            assert session.journal.unresolved() == []
            total += session.journal.waiting().amount_fen
    return total


def test_it_holds_and_what_it_took_is_kept(scheme: Path, tmp_path: Path) -> None:
    card = issue(scheme, tmp_path / "card")
    steps = tell(scheme, card)
    assert [step.id for step in steps] == ["2", "4"]
    assert all(step.ok for step in steps), [step.checks for step in steps]
    assert balance_fen(card) == START_FEN - ROUND_FEN
    assert taken_fen(scheme) == ROUND_FEN


def test_again_and_with_another_card(scheme: Path, tmp_path: Path) -> None:
    """The terminals are kept: nothing that they took is lost when the story is told again."""
    card = issue(scheme, tmp_path / "card")
    tell(scheme, card)
    terminals = sorted((scheme / FOLDER).glob("*/certificate.bin"))
    before = [path.read_bytes() for path in terminals]
    steps = tell(scheme, card)
    assert all(step.ok for step in steps), [step.checks for step in steps]
    assert [path.read_bytes() for path in terminals] == before
    other = issue(scheme, tmp_path / "other")
    assert all(step.ok for step in tell(scheme, other))
    assert balance_fen(card) == START_FEN - 2 * ROUND_FEN
    assert balance_fen(other) == START_FEN - ROUND_FEN
    assert taken_fen(scheme) == 3 * ROUND_FEN


def test_what_is_left_out_is_named() -> None:
    """Every step of the whole story is told here, or named as left out."""
    named = " ".join(LEFT_OUT)
    assert all(f"step {number}" in named for number in (2, 5, 6))
    assert "PIN" in named
    assert "killing" in named
    assert "hardwallet sync" in named


def test_a_poor_card(scheme: Path, tmp_path: Path) -> None:
    card = issue(scheme, tmp_path / "card", balance_fen=0)
    steps = tell(scheme, card)
    assert not any(step.ok for step in steps)
    assert "not enough balance" in " ".join(claim for claim, _ in steps[0].checks)


def test_a_card_of_another_scheme(scheme: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    passphrase = find_passphrase(None, other / "key", create=True)
    create_scheme(other, "other", International(), passphrase, clock(), random.Random(2).randbytes)
    card = issue(other, tmp_path / "card")
    steps = tell(scheme, card)
    assert not any(step.ok for step in steps)
    assert "another scheme" in steps[0].checks[0][0]
    assert balance_fen(card) == START_FEN


def test_no_scheme(tmp_path: Path, scheme: Path) -> None:
    card = issue(scheme, tmp_path / "card")
    with pytest.raises(IssuingError, match="holds no scheme"):
        tell(tmp_path / "nothing", card)
    assert balance_fen(card) == START_FEN


def test_a_sale_left_over_from_an_interrupted_telling(scheme: Path, tmp_path: Path) -> None:
    """Interrupted after the tear, the till has an unresolved sale: the next telling gets past it."""
    card = issue(scheme, tmp_path / "card")
    tell(scheme, card)
    with open_session(scheme / FOLDER / "retail") as shop:
        reader = open_reader(f"sim:{card}", simulated_card=SimulatedCard)
        reader.tear_at(2, "after")  # type: ignore[attr-defined]
        torn = tap(shop.terminal, reader.wait_for_card(0), shop.terminal.new_sale(100))
        assert torn.sale is not None
        reader.close()
        assert len(shop.journal.unresolved()) == 1
    steps = tell(scheme, card)
    assert all(step.ok for step in steps), [step.checks for step in steps]
    assert balance_fen(card) == START_FEN - 2 * ROUND_FEN - 100
    assert taken_fen(scheme) == START_FEN - balance_fen(card)
