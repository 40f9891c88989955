"""What the driver's view says about a tap, a look at a card, or a bus that waits. Words only, no Textual.

Each face is made anew when the language changes: nothing here is kept.
"""

from collections.abc import Callable, Mapping
from typing import Final

from hardwallet.riders import Rider
from pos_terminal.fares import Direction, Line, Names
from pos_terminal.inspection import Inspection
from pos_terminal.tap import Outcome, Tap
from tui import signals
from tui.screens import big
from tui.screens.layout import Face
from tui.signals import Signal, signal_of
from tui.text import harmless, language, say, told, when, yuan


def _adult() -> str:
    # fits: 10
    return say("Adult")


def _student() -> str:
    # fits: 10
    return say("Student")


def _senior() -> str:
    # fits: 10
    return say("Senior")


def _child() -> str:
    # fits: 10
    return say("Child")


def _reduced() -> str:
    # fits: 10
    return say("Reduced")


_RIDERS: Final[Mapping[Rider, Callable[[], str]]] = {
    Rider.ADULT: _adult,
    Rider.STUDENT: _student,
    Rider.SENIOR: _senior,
    Rider.CHILD: _child,
    Rider.REDUCED: _reduced,
}

_PICTURES: Final[Mapping[Outcome, big.Dots]] = {
    Outcome.GRANTED: big.APPROVED,
    Outcome.ALREADY_GRANTED: big.ALREADY,
    Outcome.PAID_NOT_GRANTED: big.REFUSED,
    Outcome.DECLINED: big.REFUSED,
    Outcome.PIN_WANTED: big.REFUSED,
    Outcome.PIN_WRONG: big.REFUSED,
    Outcome.UNRESOLVED: big.AGAIN,
    Outcome.TRY_AGAIN: big.AGAIN,
    Outcome.OTHER_CARD: big.AGAIN,
}


def rider_word(rider: Rider) -> str:
    """A rider class, in a word."""
    return _RIDERS[rider]()


def of_signal(
    signal: Signal,
    picture: big.Dots,
    *lines: str,
    word: str = "",
    figures: str = "",
    balance_fen: int | None = None,
    hint: str = "",
) -> Face:
    """A face with the symbol, the style and the bells of a signal, and its word unless another is given."""
    # fits: 10
    label = say("Balance") if balance_fen is not None else ""
    second = yuan(balance_fen) if balance_fen is not None else ""
    told_lines = tuple(line for line in lines if line)
    return Face(
        picture,
        word or signal.word,
        signal.style,
        signal.symbol,
        figures,
        label,
        second,
        told_lines,
        hint,
        signal.bells,
    )


def of_tap(tap: Tap) -> Face:
    """The result of a tap."""
    signal, picture = signal_of(tap.outcome, fare=True), _PICTURES[tap.outcome]
    if tap.outcome is Outcome.GRANTED:
        return _granted(tap, signal)
    if tap.outcome is Outcome.ALREADY_GRANTED:
        hint = say("For a companion: T before the tap.")
        line = say("Nothing was taken again.")
        return of_signal(signal, picture, line, _who(tap), balance_fen=tap.balance_fen, hint=hint)
    if tap.outcome in (Outcome.PIN_WANTED, Outcome.PIN_WRONG):
        return of_signal(signal, picture, say("The card asks for its PIN, which a bus can't take."))
    if tap.outcome is Outcome.UNRESOLVED:
        return of_signal(signal, picture, say("It left too early. Nothing is taken twice."))
    if tap.outcome is Outcome.TRY_AGAIN:
        return of_signal(signal, picture, say("It left too early. Nothing was taken."))
    return of_signal(signal, picture, _sentence(told(tap.reason)), balance_fen=tap.balance_fen)


def _granted(tap: Tap, signal: Signal) -> Face:
    if tap.free:
        # fits: 20
        return of_signal(signal, big.APPROVED, _who(tap), word=say("Free ride"), figures=yuan(0))
    amount_fen = tap.sale.amount_fen if tap.sale is not None else None
    figures = yuan(amount_fen) if amount_fen is not None else ""
    again = say("It had been paid already; nothing was taken twice.") if tap.recovered else ""
    return of_signal(signal, big.APPROVED, _who(tap), again, figures=figures, balance_fen=tap.balance_fen)


def _who(tap: Tap) -> str:
    """For whom the card paid."""
    if tap.passenger:
        # fits: 30
        return say("for the companion")
    return rider_word(tap.rider) if tap.rider is not None else ""


def _sentence(reason: str) -> str:
    """The reason as a sentence of its own."""
    return reason[:1].upper() + reason[1:]


def ready(fare_fen: int, more: int, where: str, *, stale: bool) -> Face:
    """A card may come. `more`: how many further riders wait to be paid for, one by each tap; `where`: the
    destination, where it matters; `stale`: a denylist is too old for its issuer's cards to be taken."""
    figures = yuan(fare_fen) + (f" ×{more + 1}" if more else "")
    lines = [say("This tap pays for a companion.")] if more else []
    if stale:
        lines.append(say("! The denylist is too old: cards are refused until it is fetched (U)."))
    hint = say("↑↓ or D: where to") if where else ""
    return of_signal(signals.present_card(), big.CARD, *lines, where, figures=figures, hint=hint)


def reading() -> Face:
    """A card is being asked."""
    return of_signal(signals.processing(), big.BUSY)


def one_card_only() -> Face:
    """Two cards lie there."""
    return of_signal(signals.one_card_only(), big.ALONE, say("Nothing was taken."))


def out_of_service(sentence: str, *, try_again: bool) -> Face:
    """The terminal itself has to be looked at; `sentence` is a lower layer's. `try_again`: by a key only."""
    # fits: 20
    word = say("Out of service")
    lines = (_sentence(told(sentence)), say("Nothing is taken."))
    hint = say("Enter tries again.") if try_again else ""
    return Face(big.CLOSED, word, signals.REFUSED, "✗", lines=lines, hint=hint)


def no_reader(sentence: str) -> Face:
    """The reader is not there; it goes on by itself when it is back."""
    # fits: 20
    word = say("Reader missing")
    lines = (_sentence(told(sentence)), say("It goes on by itself."))
    return Face(big.CLOSED, word, signals.REFUSED, "✗", lines=lines)


def opening(sentence: str) -> Face:
    """The fares are being read; `sentence` says how far."""
    # fits: 20
    return Face(big.BUSY, say("One moment"), signals.WAITING, "…", lines=(sentence,))


def no_fares(sentence: str) -> Face:
    """Fares that can't be used, or a run that can't be taken up; `sentence` is in the chosen language."""
    # fits: 20
    word = say("Out of service")
    return Face(big.CLOSED, word, signals.REFUSED, "✗", lines=(sentence,))


def between_runs(line: Line | None, direction: Direction | None, *, ended: bool) -> Face:
    """No card is asked; Enter begins a run on that line and direction."""
    # fits: 20
    word = say("Run ended") if ended else say("No run yet")
    if line is None or direction is None:
        hint = say("L chooses line and direction.")
        return Face(big.BUS, word, signals.WAITING, "-", hint=hint)
    names = {"line": name_of(line.name), "direction": name_of(direction.name)}
    lines = (say("Next: {line} · {direction}", **names),)
    hint = say("Enter begins it, L chooses another.")
    return Face(big.BUS, word, signals.WAITING, "-", lines=lines, hint=hint)


def inspecting() -> Face:
    """An inspector may present a card."""
    # fits: 20
    word = say("Inspection")
    lines = (say("Present a card; nothing is taken."),)
    return Face(big.LOOK, word, signals.ASKING, "?", lines=lines, hint=say("Esc goes back."))


def of_inspection(found: Inspection) -> Face:
    """What an inspector learns of a card."""
    if found.may_ride:
        # fits: 20
        word = say("Tapped here")
        lines = (_ride_words(found),)
        return Face(big.APPROVED, word, signals.APPROVED, "✓", lines=lines, bells=signals.BELLS_GO)
    if not found.card:
        # fits: 20
        word = say("Not read")
        lines = (_sentence(told(found.reason)),)
        return Face(big.AGAIN, word, signals.AGAIN, "↻", lines=lines, bells=signals.BELLS_AGAIN)
    if found.denied or found.blocked:
        # fits: 20
        word = say("Card refused")
    elif not found.genuine:
        # fits: 20
        word = say("Not proven")
    elif found.torn:
        # fits: 20
        word = say("Tap broke off")
    else:
        # fits: 20
        word = say("Not tapped here")
    return Face(big.REFUSED, word, signals.REFUSED, "✗", lines=_found(found), bells=signals.BELLS_STOP)


def _found(found: Inspection) -> tuple[str, ...]:
    """All that is known of the card, the gravest first."""
    lines = []
    if found.denied:
        lines.append(say("The card is on its issuer's denylist."))
    if found.blocked:
        lines.append(say("The card was blocked by its issuer."))
    if found.torn:
        lines.append(say("It has to tap once more; nothing is taken twice."))
    if found.reason:
        lines.append(_sentence(told(found.reason)))
    if found.denied or found.blocked or not found.genuine:
        lines.append(say("It has tapped here.") if found.tapped else say("It has not tapped here."))
    lines.append(_ride_words(found))
    return tuple(line for line in lines if line)


def _ride_words(found: Inspection) -> str:
    """Class, companions, amount and time of the ride, balance: as much as is known."""
    parts = [rider_word(found.rider)] if found.rider is not None else []
    if found.passengers:
        parts.append(say("companions: {count}", count=found.passengers))
    if found.tapped and found.amount_fen is not None and found.time_s is not None:
        amount, time = yuan(found.amount_fen), when(found.time_s)
        parts.append(say("CNY {amount} at {time}", amount=amount, time=time))
    if found.balance_fen is not None:
        parts.append(say("balance {amount}", amount=yuan(found.balance_fen)))
    return " · ".join(parts)


def name_of(names: Names) -> str:
    """A name in the chosen language, on one line whatever a feed put into it."""
    return harmless(names.told(language()))
