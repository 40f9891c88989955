"""What the desk has to say, in the language of now: one picture for screen and lines alike. No Textual."""

from dataclasses import dataclass

from fleet.station_events import Ask, GiveBack, Sell, Task
from hardwallet import status as sw
from pos_terminal.visit import Outcome, Tap
from tui.screens.cashier.desk import Desk, Phase
from tui.screens.cashier.phrases import card_end, unfinished_words
from tui.signals import AGAIN, NOTED, REFUSED, Signal, one_card_only, present_card, processing, signal_of
from tui.text import say, told, yuan

MARK = "●"
_EMPTY = "_"


@dataclass(frozen=True, slots=True)
class View:
    """What is to be shown.

    `figures` is drawn big: digits and a dot. `style` is one of tui.signals, or empty. `hints` say which key
    goes on from here; `masked` is how much of a PIN is typed.
    """

    style: str
    symbol: str
    word: str
    figures: str = ""
    label: str = ""
    lines: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    masked: str = ""

    @property
    def headline(self) -> str:
        """Symbol, word and amount in one line."""
        amount = say("CNY {amount}", amount=self.figures) if self.figures else ""
        return "  ".join(part for part in (self.symbol, self.word, amount) if part)


def view_of(desk: Desk) -> View:
    """What stands now."""
    if desk.crowd:
        return _tapped(desk, one_card_only(), say("Take all cards away, then present one."))
    match desk.phase:
        case Phase.AMOUNT:
            return _amount(desk)
        case Phase.HOLD:
            return _tapped(desk, processing())
        case Phase.FAULT:
            return _plain(desk, REFUSED, "!", say("The terminal needs a look"), desk.fault())
        case Phase.TORN:
            return _torn(desk)
        case Phase.ASKED:
            return _plain(desk, NOTED, "?", say("What this card has paid"), "")
        case Phase.CARD:
            return _card(desk)
        case Phase.PIN:
            return _pin(desk)
        case Phase.RESULT:
            return _result(desk)


def _plain(desk: Desk, style: str, symbol: str, word: str, line: str) -> View:
    return View(style, symbol, word, lines=_lines(desk, line))


def _tapped(desk: Desk, signal: Signal, *lines: str, hints: tuple[str, ...] = (), masked: str = "") -> View:
    fen = _amount_fen(desk)
    return View(
        signal.style,
        signal.symbol,
        signal.word,
        "" if fen is None else yuan(fen),
        _label(desk.task),
        _lines(desk, *lines),
        hints,
        masked,
    )


def _lines(desk: Desk, *lines: str) -> tuple[str, ...]:
    noted = desk.noted() if desk.noted is not None else ""
    return tuple(line for line in (noted, *lines) if line)


def _amount(desk: Desk) -> View:
    problem, typed = desk.entry.problem, desk.entry.text
    return View(
        AGAIN if problem else "",
        "!" if problem else "",
        say("Type the amount"),
        typed or "0",
        _label(None),
        _lines(desk, problem),
        (say("Enter: ask for the card."),) if typed and not problem else (),
    )


def _card(desk: Desk) -> View:
    tap, task = desk.tap, desk.task
    hints = (say("Esc: not now."),)
    if tap is None:
        words = ""
        if isinstance(task, GiveBack):
            words = say("The card that paid is {card}.", card=card_end(task.wanted.card))
        elif isinstance(task, Ask):
            words = say("It shows what it paid. Nothing is taken.")
        lying = say("First take away the card that lies there.") if desk.lying else ""
        return _tapped(desk, present_card(), lying, words, hints=hints)
    early = say("The card left too early. Nothing was taken.") if tap.outcome is Outcome.TRY_AGAIN else ""
    signal = signal_of(tap.outcome, refund=isinstance(task, GiveBack))
    return _tapped(desk, signal, early, _reason(tap), hints=hints)


def _torn(desk: Desk) -> View:
    sale, tap = desk.open_sale, desk.tap
    lines = [unfinished_words(sale)] if sale is not None else []
    if desk.found_at_start:
        lines.append(say("It was open when this terminal stopped."))
    if tap is not None and tap.outcome is Outcome.OTHER_CARD:
        signal = signal_of(Outcome.OTHER_CARD)
        lines.append(say("This is another card; nothing was taken from it."))
    else:
        signal = signal_of(Outcome.UNRESOLVED)
        lines.append(say("Present the same card again: nothing is taken twice."))
        if tap is not None:
            lines.append(_reason(tap))
    return _tapped(desk, signal, *lines, hints=(say("If the card does not come back: G gives it up."),))


def _pin(desk: Desk) -> View:
    tap = desk.tap
    outcome = tap.outcome if tap is not None else Outcome.PIN_WANTED
    tries = sw.tries_left(tap.status_word) if tap is not None else None
    wrong = ""
    if outcome is Outcome.PIN_WRONG and tries is not None:
        wrong = say("Wrong PIN. Tries left: {count}.", count=tries)
    hints = (say("The holder types the PIN, then Enter. Esc: not now."),)
    return _tapped(desk, signal_of(outcome), wrong, hints=hints, masked=MARK * len(desk.pin) or _EMPTY)


def _result(desk: Desk) -> View:
    tap = desk.tap
    if tap is None:
        return _plain(desk, NOTED, "-", say("Given up"), desk.ended())
    lines = _result_lines(tap)
    if tap.balance_fen is not None:
        lines.insert(0, _balance(desk, tap.balance_fen))
    hints: list[str] = []
    if desk.can_try_again:
        hints.append(say("Enter: the same amount with another card."))
    if tap.record is not None and tap.sale is not None:
        lines.append(say("Receipt {number}", number=tap.sale.transaction))
        hints.append(say("P prints the receipt. The next digit begins the next amount."))
    signal = signal_of(tap.outcome, refund=isinstance(desk.task, GiveBack))
    return _tapped(desk, signal, *lines, hints=tuple(hints))


def _balance(desk: Desk, balance_fen: int) -> str:
    if isinstance(desk.task, Sell) and desk.tap is not None and desk.tap.granted:
        return say("Balance left: CNY {amount}", amount=yuan(balance_fen))
    return say("Balance: CNY {amount}", amount=yuan(balance_fen))


def _result_lines(tap: Tap) -> list[str]:
    match tap.outcome:
        case Outcome.GRANTED if tap.recovered:
            return [say("The card had it before and proved it; nothing happened twice.")]
        case Outcome.GRANTED:
            return []
        case Outcome.PAID_NOT_GRANTED:
            return [say("Hand nothing out. The money returns to the card's account."), _reason(tap)]
        case Outcome.ALREADY_GRANTED:
            return [say("Nothing was taken again."), _reason(tap)]
        case _:
            return [_refusal(tap)]


def _refusal(tap: Tap) -> str:
    if tap.status_word == sw.PIN_LOCKED:
        return say("The PIN is locked after three wrong tries. The issuer can free it.")
    if tap.status_word != sw.BALANCE_TOO_LOW:
        return _reason(tap)
    if tap.balance_fen is None or tap.sale is None:
        return say("Not enough money on the card.")
    missing_fen = tap.sale.amount_fen - tap.balance_fen
    return say("Not enough money on the card: CNY {missing} is missing.", missing=yuan(missing_fen))


def _reason(tap: Tap) -> str:
    reason = told(tap.reason).rstrip(".。")
    return say("{reason}.", reason=reason[:1].upper() + reason[1:]) if reason else ""


def _amount_fen(desk: Desk) -> int | None:
    tap, task = desk.tap, desk.task
    if tap is not None and tap.sale is not None and not isinstance(task, Ask):
        return tap.sale.amount_fen
    match task:
        case Sell(amount_fen):
            return amount_fen
        case GiveBack(wanted):
            return wanted.amount_fen
    return None


def _label(task: Task | None) -> str:
    match task:
        case GiveBack():
            return say("Refund, yuan")
        case Ask():
            return say("Did I pay?")
        case _:
            return say("Amount, yuan")
