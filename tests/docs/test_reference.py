"""The docstrings of public functions, and the reference that is built of them."""

from pathlib import Path

import pytest

from scripts import docstrings, reference
from tests.conftest import REPOSITORY

MODULE = '"""A module."""\n\nFRAME = "frame"\n\n\nclass Torn(Exception):\n    """Broken off."""\n\n\n'


def lacks(tmp_path: Path, source: str) -> list[str]:
    """What is wrong with one more module of a small program, without the places."""
    package = tmp_path / "made_up"
    package.mkdir()
    (package / "__init__.py").write_text('"""A package."""\n', encoding="utf-8")
    (package / "module.py").write_text(MODULE + source, encoding="utf-8")
    found = docstrings.problems(docstrings.read(tmp_path, ("made_up",)))
    return [line.partition(" ")[2] for line in found]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def pay() -> None: ...", "pay has no docstring"),
        ('class Card:\n    """A card."""\n\n    def pay(self) -> None: ...', "Card.pay has no docstring"),
        ('def pay() -> None:\n    """Pay. Raises Turn."""', "pay raises Turn, which is no exception"),
        (
            'def pay() -> None:\n    """Pay. Raises Torn, KeyError or Frame when torn."""',
            "pay raises Frame, which is no exception",
        ),
        ('def pay() -> None:\n    """Raises what pays."""', 'pay does not say what it raises: "Raises what"'),
        ('def pay() -> None:\n    """Raises as take."""', "pay raises as take, which is not there"),
        (
            'def pay(card: bytes) -> None:\n    """Pay."""',
            "pay takes or gives bytes and does not say how many",
        ),
        ('def pay() -> bytes | None:\n    """Pay."""', "pay takes or gives bytes and does not say how many"),
        ('def pay(amount: int) -> None:\n    """Pay."""', "pay amount has no unit"),
        ('class Card:\n    """A card."""\n\n    name: bytes = FRAME', "Card name has no length"),
        ('def pay() -> None:\n    """Pay."""\n    raise Torn', "pay raises Torn and does not say so"),
        (
            'def pay() -> None:\n    """Pay."""\n    if FRAME:\n        raise Torn("now")',
            "pay raises Torn and does not say so",
        ),
        ('def pay(*, timeout: float | None) -> None:\n    """Pay."""', "pay timeout has no unit"),
        ('def pay() -> None:\n    """Pay with `card`."""', "pay refers to card, which is not there"),
        (
            'def pay() -> None:\n    """See made_up.module.take."""',
            "pay refers to made_up.module.take, which",
        ),
        ('def pay() -> None:\n    """See made_up/card.py."""', "pay refers to made_up/card.py, which is not"),
        ('def pay() -> None:\n    """docs/a.md, section 3."""', "pay refers to docs/a.md, section 3, which"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("## 2. Two\n", encoding="utf-8")
    found = lacks(tmp_path, source)
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    "source",
    [
        "def _pay(card: bytes) -> None: ...",
        'def pay(card: bytes) -> None:\n    """Pay with `card` (8 bytes), see docs/a.md, section 2."""',
        'def pay(amount_fen: int, timeout_s: float) -> None:\n    """Raises Torn, and KeyError twice."""',
        'def pay(now: int) -> None:\n    """`now` is seconds since 1970. Raises as made_up.module.Torn."""',
        'class Card:\n    """A card."""\n\n    name: bytes\n    """8 bytes."""',
        'def pay() -> None:\n    """Raises Torn."""\n    raise Torn',
        'class Gone(Torn):\n    """Away."""\n\n\ndef pay() -> None:\n    """Raises Torn."""\n    raise Gone',
        'class Card:\n    """8 bytes, `FRAME`."""\n\n    def name(self) -> bytes:\n        """The name."""',
    ],
)
def test_what_is_right_is_left_alone(tmp_path: Path, source: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("## 2. Two\n", encoding="utf-8")
    assert lacks(tmp_path, source) == []


def test_the_program_says_what_it_has_to() -> None:
    """What `make reference` refuses to build: mend the docstrings that are named."""
    assert docstrings.problems(docstrings.read(REPOSITORY)) == []


def test_drawings_keep_their_shape_and_errors_become_links() -> None:
    told = "Errors.\n\nBase\n├── Torn\n└── Gone\n\nRaises Torn, Gone\nand KeyError now."
    fenced = "Errors.\n\n```\nBase\n├── Torn\n└── Gone\n```\n\nRaises <Torn>, <Gone>\nand <KeyError> now."
    assert reference.markdown(told, lambda name: f"<{name}>") == fenced


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a id="x" href="b.html#y">b</a> <a href="#x">x</a>', encoding="utf-8")
    (tmp_path / "b.html").write_text('<a href="c.html">c</a> <a href="https://example.net">e</a>', "utf-8")
    found = sorted(reference.broken_links(tmp_path))
    assert found == [
        "a.html: a link to b.html#y, which is not there",
        "b.html: a link to c.html, which is not there",
    ]


def test_pages_are_made_without_a_network(tmp_path: Path) -> None:
    """One package of it: what `make reference` does for all."""
    folder = tmp_path / "reference"
    assert reference.build(folder, ("pos_terminal.sale", "pos_terminal.errors", "pos_terminal.ports")) == []
    page = (folder / "pos_terminal" / "ports.html").read_text(encoding="utf-8")
    assert 'id="Journal.keep_payment"' in page
    assert 'href="sale.html#SaleState"' in page
    assert 'href="errors.html#JournalFull"' in page
    assert "<script src=" not in page
    assert "<pre><code>TerminalError" in (folder / "pos_terminal" / "errors.html").read_text(encoding="utf-8")
