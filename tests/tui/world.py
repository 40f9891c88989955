"""A small scheme in a folder, the commands run on it, and what goes wrong with cards, made to order."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from firmware_bridge.virtual.in_process import InProcessReader
from firmware_bridge.virtual.tear import TearMoment
from fleet.open import TerminalSession, open_issuing, open_session, system_clock
from hardwallet import messages as m
from hardwallet.card.simulated import SimulatedCard
from hardwallet.issuing import ISSUER
from hardwallet.session import WalletSession
from pos_terminal.tap import Tap, tap
from tui.cli import main
from tui.till import Ride, choose_charge

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60
PIN = "482915"
"""The PIN of rich.card."""
PASSPHRASE = "a passphrase that must never be shown"
SECRET_VARIABLES = ("HARDWALLET_PIN", "HARDWALLET_PASSPHRASE")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote to stdout, as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error that it wrote to stderr, as JSON."""
        found: dict[str, str] = json.loads(self.err)["error"]
        return found


@dataclass(frozen=True, slots=True)
class World:
    """A folder: city (scheme), till (retail), bus (transit), alice.card (200.00), rich.card (900.00, PIN)."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def path(self, name: str) -> Path:
        """A file or folder of it."""
        return self.folder / name

    def typed(self, *words: str, stdin: str = "", **variables: str) -> Done:
        """The command as a process of its own."""
        return self._process([sys.executable, "-m", "tui", *words], stdin, variables)

    def python(self, program: str) -> Done:
        """A Python program as a process of its own."""
        return self._process([sys.executable, "-c", program], "", {})

    def shell(self, line: str) -> Done:
        """A line for the shell; `hardwallet` in it is the program."""
        return self._process(["sh", "-c", line.replace("hardwallet ", f"{sys.executable} -m tui ")], "", {})

    def _process(self, command: list[str], stdin: str, variables: Mapping[str, str]) -> Done:
        done = subprocess.run(
            command,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=environment(variables),
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def call(self, *words: str) -> Done:
        """The command in this process: quicker, and whatever it does not catch fails the test."""
        self.capture.readouterr()
        code = main(words)
        captured = self.capture.readouterr()
        return Done(code, captured.out, captured.err)

    def pay(self, amount: str, *words: str, terminal: str = "till", card: str = "alice.card") -> Done:
        """`pos pay` in this process, as JSON."""
        return self.call(
            *("pos", "pay", amount, "--terminal", terminal, "--reader", f"sim:{card}", "--json"), *words
        )

    def shown(self, card: str = "alice.card") -> Any:
        """`card show`."""
        return self.call("card", "show", card, "--json").json

    def status(self, terminal: str = "till") -> Any:
        """`pos status`."""
        return self.call("pos", "status", "--terminal", terminal, "--json").json

    @contextmanager
    def session(self, terminal: str = "till") -> Iterator[TerminalSession]:
        """The terminal, held open."""
        with open_session(self.path(terminal)) as session:
            yield session

    def torn_pay(
        self,
        amount_fen: int,
        exchange: int,
        when: TearMoment,
        *,
        terminal: str = "till",
        card: str = "alice.card",
    ) -> Tap:
        """A tap whose card leaves at that exchange."""
        simulated = SimulatedCard(self.path(card))
        reader = InProcessReader(simulated, "sim:torn", on_close=simulated.close)
        reader.tear_at(exchange, when)
        try:
            with self.session(terminal) as session:
                charge, _ = choose_charge(session, amount_fen, Ride("", 1))
                return tap(session.terminal, reader.wait_for_card(0), charge)
        finally:
            reader.close()

    def block(self, card: str = "alice.card") -> None:
        """The issuer blocks the card."""
        simulated = SimulatedCard(self.path(card))
        reader = InProcessReader(simulated, "sim:order", on_close=simulated.close)
        with open_issuing(self.path("city")) as issuing:
            bundle = issuing.trust.bundle
            session = WalletSession(reader.wait_for_card(0), issuing.trust.suite)
            selected = session.select()
            order = m.CardOrder(
                issuing.trust.suite.number,
                bundle.scheme,
                ISSUER,
                selected.card,
                1,
                system_clock(),
                m.KIND_BLOCK,
                b"",
            )
            session.order(order.body() + issuing.key("issuer").sign(order.body()))
        reader.close()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command: no PIN and no passphrase but the ones given."""
    kept = {name: text for name, text in os.environ.items() if name not in SECRET_VARIABLES}
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONWARNINGS": "error::ResourceWarning", **variables}


@contextmanager
def running(folder: Path, *words: str) -> Iterator["Running"]:
    """A command that goes on, ended by SIGTERM at the latest."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tui", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment({}),
    )
    made = Running(process)
    try:
        yield made
    finally:
        if process.poll() is None:
            process.terminate()
        made.end()


class Running:
    """A command that goes on, line by line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._ended: Done | None = None
        self._read = ""

    def line(self) -> str:
        """The next line of its stdout."""
        stream = _open(self.process.stdout)
        watchdog = threading.Timer(TIMEOUT_S, self.process.kill)
        watchdog.start()
        try:
            line = stream.readline()
        finally:
            watchdog.cancel()
        self._read += line
        assert line, f"it ended: {_open(self.process.stderr).read()}"
        return line.rstrip("\n")

    def event(self) -> Any:
        """The next line, as JSON."""
        return json.loads(self.line())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Done:
        """Sends a signal and waits for the end."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> Done:
        """Waits for the end."""
        if self._ended is None:
            out, err = self.process.communicate(timeout=TIMEOUT_S)
            self._ended = Done(self.process.returncode, self._read + out, err)
        return self._ended


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
