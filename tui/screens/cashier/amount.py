"""An amount while it is typed, as people write it: 12.50. Pure; the rule is pos_terminal.money's."""

from collections.abc import Callable
from typing import Final
from unicodedata import normalize

from pos_terminal.errors import BadAmount
from pos_terminal.money import parse_amount
from tui.text import say, told, yuan

LONGEST: Final = 11
"""Characters of the largest amount that can be written: 21474836.47."""
_DOTS: Final = ",，。．、"
"""What a keyboard, or a Chinese input method, gives where a dot is meant."""
_SHOWN: Final = 20


class AmountEntry:
    """What was typed so far, and what is wrong with the last key. Nothing that was typed gets lost."""

    def __init__(self) -> None:
        self.text = ""
        self._problem: Callable[[], str] | None = None
        self._in_doubt = False
        """Whether a key was left out: who types on without looking may mean another amount."""

    @property
    def problem(self) -> str:
        """What is wrong, in the language of now; empty when nothing is."""
        return "" if self._problem is None else self._problem()

    def clear(self) -> None:
        """Nothing is typed."""
        self._take("")

    def type(self, character: str) -> None:
        """One more digit or dot, when it makes an amount; else `problem` says why not."""
        key = plain(character)
        self._problem = self._refusal(key)
        if self._problem is None:
            self.text += "0." if key == "." and not self.text else key
        else:
            self._in_doubt = bool(self.text)

    def back(self) -> None:
        """The last character goes."""
        self._take(self.text[:-1])

    def paste(self, text: str) -> None:
        """A whole amount takes the place of what was typed; anything else changes nothing."""
        pasted = plain(text).strip()
        try:
            parse_amount(pasted)
        except BadAmount as error:
            self._refuse(error)
            self._in_doubt = bool(self.text)
        else:
            self._take(pasted)

    def amount_fen(self) -> int | None:
        """The amount in fen; None when it is none yet, or first has to be looked at, as a key was left out.
        Then `problem` says why."""
        if not self.text:
            self._problem = lambda: say("Type an amount first, like 12.50.")
            return None
        try:
            amount_fen = parse_amount(self.text.removesuffix("."))
        except BadAmount as error:
            self._refuse(error)
            return None
        if self._in_doubt:
            self._in_doubt = False
            self._problem = lambda: say(
                "A key was left out. {amount} yuan: Enter if that is right, Backspace if not.",
                amount=yuan(amount_fen),
            )
            return None
        return amount_fen

    def refuse(self, problem: Callable[[], str]) -> None:
        """The amount can't be taken, for a reason that is said anew each time."""
        self._problem = problem

    def _take(self, text: str) -> None:
        self.text, self._problem, self._in_doubt = text, None, False

    def _refuse(self, error: BadAmount) -> None:
        sentence = str(error)
        self._problem = lambda: told(sentence)

    def _refusal(self, key: str) -> Callable[[], str] | None:
        whole, dot, cents = self.text.partition(".")
        if key == ".":
            return (lambda: say("There is a dot already.")) if dot else None
        if not (len(key) == 1 and key.isascii() and key.isdigit()):
            return lambda: say("An amount has digits and one dot only.")
        if len(cents) == 2:
            return lambda: say("Two digits after the dot are all: a fen is the smallest amount.")
        if len(self.text) >= LONGEST or (not dot and len(whole) >= LONGEST - 3):
            return lambda: say("The amount is too long.")
        return None


def plain(text: str) -> str:
    """The text with Chinese and full-width digits' ways to write an amount made plain."""
    return "".join("." if character in _DOTS else normalize("NFKC", character) for character in text)


def is_amount_key(character: str) -> bool:
    """Whether the key types an amount: a digit, or what stands for a dot."""
    key = plain(character)
    return len(key) == 1 and (key == "." or (key.isascii() and key.isdigit()))
