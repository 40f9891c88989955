"""A key, what it does, and its words: bindings, the bar of keys and the help are all made of these."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Key:
    """`keys` as Binding takes them ("f10,ctrl+c"), `shown` as people call them ("F10").

    `word` stands in the bar (keep it to 12 columns), `sentence` in the help; both are said anew each time.
    A `quiet` key is not in the bar. A `first` key works wherever the focus is, also while somebody types.
    """

    keys: str
    shown: str
    action: str
    word: Callable[[], str]
    sentence: Callable[[], str]
    quiet: bool = False
    first: bool = False


def bindings(keys: Iterable[Key]) -> list[BindingType]:
    """For BINDINGS."""
    return [Binding(key.keys, key.action, show=False, priority=key.first, system=True) for key in keys]
