"""The till: the amount in big digits, the card, the result in the same place."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal

from fleet.station_events import Decided, Done, Event, SendFailed, Sending, Sent
from pos_terminal.refund import Refund
from tui.screens.cashier import asking
from tui.screens.cashier.desk import Phase
from tui.screens.cashier.jobs import Payment
from tui.screens.cashier.screen import CashierScreen
from tui.screens.cashier.widgets import WIDE, Before, Face, Progress
from tui.screens.keys import Key, bindings
from tui.screens.widgets.dialogs import Choose, LineOfText
from tui.screens.words import Worded
from tui.text import say


def _keys() -> tuple[Key, ...]:
    return (
        Key(
            "enter",
            "Enter",
            "enter",
            # fits: 12
            lambda: say("ask card"),
            lambda: say("The amount is right: ask for the card. While a PIN is typed: it is complete."),
        ),
        Key(
            "escape",
            "Esc",
            "cancel",
            # fits: 12
            lambda: say("back"),
            lambda: say("Not now: nothing is asked of a card any more. What is typed goes."),
        ),
        Key(
            "g,G",
            "G",
            "give_up",
            # fits: 12
            lambda: say("give up"),
            lambda: say("Give up a sale whose card left and does not come back. It wants a reason."),
        ),
        Key(
            "i,I",
            "I",
            "ask",
            # fits: 12
            lambda: say("did I pay?"),
            lambda: say("The next card shows its balance and last payments. Nothing is taken."),
        ),
        Key(
            "r,R",
            "R",
            "refund",
            # fits: 12
            lambda: say("refund"),
            lambda: say("Give a payment back to its card, all or a part of it."),
        ),
        Key(
            "h,H",
            "H",
            "history",
            # fits: 12
            lambda: say("history"),
            lambda: say("The sales of this till, searched and filtered; receipts; what waits."),
        ),
        Key(
            "s,S",
            "S",
            "shift",
            # fits: 12
            lambda: say("shift"),
            lambda: say("Open and close a shift, cash in and out, reports."),
        ),
        Key(
            "p,P",
            "P",
            "print",
            # fits: 12
            lambda: say("print"),
            lambda: say("Print the receipt of the last payment or refund, or print it again."),
        ),
        Key(
            "e,E",
            "E",
            "export",
            # fits: 12
            lambda: say("export"),
            lambda: say("Write what waits to a file, for a USB stick: a second way to clearing."),
            quiet=True,
        ),
        Key(
            "d,D",
            "D",
            "denylist",
            # fits: 12
            lambda: say("card list"),
            lambda: say("Take a newer denylist from a file."),
            quiet=True,
        ),
    )


class TillScreen(CashierScreen):
    """Where a cashier works all day."""

    KEYS: ClassVar[tuple[Key, ...]] = _keys()
    BINDINGS = bindings(KEYS)

    def body(self) -> ComposeResult:
        """The view, the results before beside it, and how far an upload is."""
        with Horizontal(id="till"):
            yield Face(self.desk)
            yield Before(self.desk)
        yield Progress(self.desk)

    def on_resize(self, event: events.Resize) -> None:
        """The results before have their place on a wide window only."""
        self.set_class(event.size.width >= WIDE, "-wide")

    def on_station(self, event: Event) -> None:
        """The desk was told; the view follows in the same frame."""
        if isinstance(event, Decided):
            self._reword(Before)
        elif isinstance(event, Sending | Sent | SendFailed):
            self._reword(Progress)
        self.show_desk()
        if isinstance(event, Done) and event.tap.carried and event.tap.sale is not None:
            self._look_for_late_payments(event.tap.sale.card)
        if self.desk.phase is Phase.ASKED and self.desk.inquiry is not None:
            self._show_inquiry()

    def show_desk(self) -> None:
        """Draws what stands now."""
        self._reword(Face)
        self.till.refresh_keys()

    def _look_for_late_payments(self, card: bytes) -> None:
        """What the card brought along may be a payment for a sale that was given up."""

        def found(sentence: asking.Say | None) -> None:
            if sentence is not None:
                self._note(sentence)

        self.till.work(lambda: self.till.jobs.came_late(card), found, self._note, "late payments")

    def _reword(self, kind: type[Worded]) -> None:
        """An event may come before the widgets are there; each says what stands when it is mounted."""
        for widget in self.query(kind):
            widget.reword()

    def on_screen_resume(self) -> None:
        """What happened while another screen was above."""
        self.show_desk()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Which keys do something now."""
        desk = self.desk
        match action:
            case "give_up":
                return desk.is_torn and desk.phase is not Phase.HOLD
            case "refund":
                return not desk.is_torn
            case "print":
                return desk.printable is not None
            case _:
                return True

    # ------------------------------------------------------------------ keys

    def on_key(self, event: events.Key) -> None:
        """Digits, a dot and backspace go to the amount or to the PIN; other letters are told why not."""
        if event.key == "backspace":
            self.desk.back()
        elif event.character is not None and event.is_printable and not self._is_bound(event.key):
            self.desk.type(event.character)
        else:
            return
        event.stop()
        self.show_desk()

    def _is_bound(self, key: str) -> bool:
        return key in _LETTERS

    def on_paste(self, event: events.Paste) -> None:
        """As a whole or not at all."""
        event.stop()
        self.desk.paste(event.text)
        self.show_desk()

    def action_enter(self) -> None:
        """Enter."""
        self.desk.enter()
        self.show_desk()

    def action_cancel(self) -> None:
        """Esc."""
        self.desk.cancel()
        self.show_desk()

    def action_ask(self) -> None:
        """I: "did I pay?"."""
        self.desk.ask()
        self.show_desk()

    def action_give_up(self) -> None:
        """G: with a reason; the disk is waited for by a worker."""
        till = self.till

        def given(reason: str) -> None:
            def done(_nothing: None) -> None:
                self.desk.was_given_up(reason)
                self.show_desk()

            till.work(lambda: self.desk.give_up(reason), done, self._note, "give up")

        asking.ask_reason(till, given)

    def _note(self, sentence: asking.Say) -> None:
        self.desk.note(sentence)
        self.show_desk()

    def action_refund(self) -> None:
        """R: the payment is found on its card, or by its receipt."""

        def chosen(place: int | None) -> None:
            if place == 0:
                self.action_ask()
            elif place == 1:
                self._ask_receipt()

        choices = [
            lambda: say("Present the card: it shows its last payments"),
            lambda: say("By the number or the code on the receipt"),
        ]
        self.app.push_screen(Choose(lambda: say("Which payment goes back?"), choices), chosen)

    def _ask_receipt(self) -> None:
        def typed(text: str | None) -> None:
            if text is not None:
                self.till.work(lambda: self.till.jobs.payment(text), self.refund_payment, self._note, "find")

        title = LineOfText(
            lambda: say("Number or code on the receipt"),
            wrong=asking.missing,
            hint=lambda: say("From another till of the shop: CARD:SEQUENCE, as its receipt says."),
        )
        self.app.push_screen(title, typed)

    def refund_payment(self, payment: Payment) -> None:
        """Asks how much goes back, then for the card."""

        def given(refund: Refund) -> None:
            self.desk.give_back(refund)
            self.show_desk()

        asking.ask_refund(self.till, payment, given)

    def _show_inquiry(self) -> None:
        from tui.screens.cashier.inquired import InquiredScreen

        if not any(isinstance(screen, InquiredScreen) for screen in self.app.screen_stack):
            self.app.push_screen(InquiredScreen(self))

    def action_history(self) -> None:
        """H."""
        from tui.screens.cashier.history import HistoryScreen

        self.app.push_screen(HistoryScreen(self))

    def action_shift(self) -> None:
        """S."""
        from tui.screens.cashier.shift import ShiftScreen

        self.app.push_screen(ShiftScreen())

    def action_print(self) -> None:
        """P: the receipt of the last result."""
        from tui.screens.cashier.paper import print_receipt

        found = self.desk.printable
        if found is not None:
            record, state = found
            print_receipt(self.till, record, self._note, state=state)

    def action_export(self) -> None:
        """E."""
        jobs = self.till.jobs
        asking.ask_path(
            self.till,
            lambda: say("Write what waits to which file?"),
            lambda path: self.till.work(lambda: jobs.export(path), self._note, self._note, "export"),
        )

    def action_denylist(self) -> None:
        """D."""
        jobs = self.till.jobs
        asking.ask_path(
            self.till,
            lambda: say("Take the denylist from which file?"),
            lambda path: self.till.work(lambda: jobs.take_denylist(path), self._note, self._note, "denylist"),
        )


_LETTERS = frozenset(name for key in TillScreen.KEYS for name in key.keys.split(","))
