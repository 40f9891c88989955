"""Till and bus in a real terminal, tmux, driven as a cashier and a driver would: keys in, the screen read."""

from pathlib import Path

import pytest

from tests.tui.screens.tmux import Tmux

pytestmark = [pytest.mark.needs("tmux"), pytest.mark.slow]


def choose_tear(till: Tmux, moves: int) -> None:
    """F6, then down the list of places."""
    till.press("F6")
    till.wait_for("before pay", "after pay")
    till.press(*["Down"] * moves, "Enter")


def test_as_a_cashier(tmp_path: Path) -> None:
    """A sale, the same in Chinese, a torn tap finished by the same card, a card with too little, a PIN, did I
    pay, the shift, a window too small, and out."""
    with Tmux(tmp_path, ["tui", "cashier"]) as till:
        till.wait_for("SIMULATED 模拟", "Amount, yuan", "Reader ready")
        till.write("12.50")
        till.press("Enter")
        till.wait_for("Present the card")
        till.write("1")
        till.wait_for("✓ Approved", "187.50")
        till.press("F2")
        till.wait_for("✓ 已批准", "卡内余额 187.50 元")
        till.press("F2")

        choose_tear(till, 3)
        till.wait_for("F6 tear after pay")
        till.write("7.50")
        till.press("Enter")
        till.wait_for("Present the card")
        till.write("1")
        till.wait_for("Present the same card again", "7.50")
        till.write("1")
        till.wait_for("✓ Approved", "180.00")  # debited once

        till.write("1")
        till.press("Enter")
        till.wait_for("Present the card")
        till.write("4")
        till.wait_for("Balance: CNY 0.00", without="✓ Approved")
        till.press("Escape")
        till.wait_for(
            "Type the amount"
        )  # an Escape with the next key right behind it would be Alt and that key

        till.write("600")
        till.press("Enter")
        till.wait_for("Present the card")
        till.write("8")
        till.wait_for("Enter the PIN")
        till.write("271828")
        shown = till.wait_for("●●●●●●")
        assert "271828" not in "\n".join(line for line in shown.splitlines() if "SIMULATED" not in line)
        till.press("Enter")
        till.wait_for("✓ Approved", "200.00")

        till.write("i")
        till.wait_for("Did I pay?", "Nothing is taken")
        till.write("1")
        till.wait_for("Balance: CNY 180.00", "12.50", "7.50")
        till.press("Escape")
        till.wait_for("Type the amount")

        till.resize(40, 12)
        till.wait_for("Too small", "窗口太小", "60×20")
        till.resize(80, 24)
        till.wait_for("Type the amount", without="Too small")
        till.write("s")
        till.wait_for("Payments 3", "620.00", "Trainee")
        till.press("F10")
        assert till.ended() == "exit code 0"


def test_as_a_driver(tmp_path: Path) -> None:
    """In Chinese: riders, the same card again, the next stop, an inspection, the end of the run."""
    with Tmux(tmp_path, ["tui", "bus", "--lang", "zh"]) as bus:
        bus.wait_for("SIMULATED 模拟", "请碰卡", "7路")
        bus.write("1")
        bus.wait_for("已批准", "成人 1")
        bus.wait_for("请碰卡")
        bus.write("1")
        bus.wait_for("上一位：= 已付过款", "成人 1")
        bus.wait_for("请碰卡")
        bus.write("n")
        bus.wait_for("本站 2/8")
        bus.write("2")
        bus.wait_for("学生 1", "成人 1")
        bus.wait_for("请碰卡")
        bus.write("9")
        bus.wait_for("黑名单")
        bus.wait_for("请碰卡")
        bus.write("i")
        bus.wait_for("请碰卡，不扣款")  # 查票 stands in the bar of keys too
        bus.write("1")
        bus.wait_for("已在本车碰卡")
        bus.press("Escape")
        bus.wait_for("请碰卡")
        bus.write("e")
        bus.wait_for("结束本车次？")
        bus.press("Tab", "Enter")
        bus.wait_for("成人", "学生")
        bus.press("F10")
        assert bus.ended() == "exit code 0"
