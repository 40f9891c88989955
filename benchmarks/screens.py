"""The screens on a pseudo-terminal, as a person sees them: how soon a key or a decision is drawn, how long
until the till is ready, what it costs to do nothing, and how much memory a day of sales takes.

A frame is drawn when its last byte has arrived at the other end of the pseudo-terminal. Each figure is held
against its limit on the machine that it was measured on, cards simulated in the same process included.
"""

import math
import os
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.pseudo_terminal import Frame, PseudoTerminal
from benchmarks.rows import REPOSITORY, Row, measured, not_measured
from fleet.open import system_clock
from fleet.world import create_world
from tui.screens.big import draw, figures

FRAME_LIMIT_MS: Final = 50.0
IDLE_LIMIT: Final = 0.02
READY_LIMIT_S: Final = 2.0
MEMORY_LIMIT_MB: Final = 150.0
WAIT_S: Final = 120.0
_KEY_GAP_S: Final = 0.35
_SALE_S: Final = 0.5
"""Seconds that a sale may take on a busy machine."""
_TOLD_SALES: Final = 1_000
_BALANCE_SCALES: Final = (1, 2, 3)
_KEYS: Final = "screens: key to frame, p99, 5 riders/s, {queue:,} waiting"
_TAPS: Final = "screens: decision to frame, p99, 5 riders/s, {queue:,} waiting"
_READY: Final = "screens: till ready for an amount, warm start"
_IDLE: Final = "screens: CPU of an idle {what}, of a core"
_MEMORY: Final = "screens: memory of the till after {sales:,} sales"


def run(quick: bool) -> list[Row]:
    """Quick: a shorter look with a smaller queue, which only shows that it runs."""
    queue, busy_s, idle_s, sales = (2_000, 6.0, 3.0, 30) if quick else (100_000, 60.0, 30.0, 10_000)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="screens-") as name:
        folder = Path(name)
        print(f"  a bus with {queue:,} payments waiting, five riders a second, {busy_s:.0f} s", flush=True)
        rows += busy_bus(folder, queue, busy_s)
        print("  a till: ready, and doing nothing", flush=True)
        rows += still_till(folder, idle_s, starts=2 if quick else 5)
        print(f"  a till with {sales:,} sales", flush=True)
        rows.append(full_till(folder, sales))
    return rows


def _environment() -> dict[str, str]:
    """As a person's: in colour, and with Python keeping what it has compiled, as an installed one does."""
    not_theirs = ("NO_COLOR", "TMUX", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in not_theirs}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "LANGUAGE": ""}


def _child(what: str, log: Path, count: int) -> PseudoTerminal:
    command = [sys.executable, "-m", "benchmarks.screen_child", what, str(log), str(count)]
    return PseudoTerminal(command, _environment())


# --------------------------------------------------------------------------------------------------- busy


def busy_bus(folder: Path, queue: int, busy_s: float) -> list[Row]:
    """Keys are typed between the taps; each is drawn when the stop that it leads to is."""
    log = folder / "decisions"
    typed: list[tuple[float, str]] = []
    with _child("bus", log, queue) as bus:
        bus.wait_for(lambda text: "Stop 1/" in text and "Approved" in text, WAIT_S)
        begin_s, times = time.monotonic(), _cpu_times()
        end_s = time.monotonic() + busy_s
        while time.monotonic() < end_s:
            for key, shown in (("n", "Stop 2/"), ("b", "Stop 1/")):
                typed.append((bus.write(key), shown))
                time.sleep(_KEY_GAP_S)
        stolen = stolen_share(times, _cpu_times())
        noted = log.read_text(encoding="ascii")
        time.sleep(1.0)
        frames = list(bus.frames())
    keys = latencies_ms(frames, [(at_s, _text(shown)) for at_s, shown in typed])
    decided = [(float(at_s), balance) for at_s, balance in map(str.split, noted.splitlines())]
    shown_at = [(at_s, _figures(balance)) for at_s, balance in decided if at_s >= begin_s]
    taps = latencies_ms(frames, shown_at)
    print(f"  {len(keys)} keys, {len(taps)} taps, {len(frames)} frames", flush=True)
    print(f"  the host kept back {stolen:.0%} of the CPU time that was asked for meanwhile", flush=True)
    return [
        *_quantiles(_KEYS.format(queue=queue), keys),
        *_quantiles(_TAPS.format(queue=queue), taps),
    ]


def _cpu_times() -> list[int]:
    """This machine's CPU times so far, in ticks: user, nice, system, idle, iowait, irq, softirq, steal
    (proc(5), /proc/stat)."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        return [int(word) for word in file.readline().split()[1:9]]


def stolen_share(before: Sequence[int], after: Sequence[int]) -> float:
    """Of the CPU time that was asked for between two `_cpu_times`, what a virtual machine's host kept back.
    Above a few hundredths the slowest frames are the host's."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        b - a for a, b in zip(before, after, strict=True)
    )
    asked = user + nice + system + irq + softirq + steal
    return steal / asked if asked else 0.0


def _text(shown: str) -> Callable[[Frame], bool]:
    return lambda frame: frame.shows(shown)


def _figures(balance: str) -> Callable[[Frame], bool]:
    """The balance as it is drawn, whatever its size."""
    drawn = [[row.rstrip() for row in draw(figures(balance), scale)] for scale in _BALANCE_SCALES]
    wanted = [[row for row in rows if row.strip()] for rows in drawn]
    return lambda frame: any(all(frame.shows(row) for row in rows) for rows in wanted)


def latencies_ms(
    frames: Sequence[Frame], asked: Sequence[tuple[float, Callable[[Frame], bool]]]
) -> list[float]:
    """For each moment (monotonic seconds) how many milliseconds later the first frame ended that showed what
    it had to. What was never shown counts as infinite."""
    ends = [frame.end_s for frame in frames]
    found = []
    for at_s, shows in asked:
        later = frames[bisect_left(ends, at_s) :]
        end_s = next((frame.end_s for frame in later if shows(frame)), math.inf)
        found.append((end_s - at_s) * 1000)
    return found


def _quantiles(name: str, values: Sequence[float]) -> list[Row]:
    if not values or max(values) == math.inf:
        return [not_measured(name, "ms", FRAME_LIMIT_MS)]
    ordered = sorted(values)
    p99 = ordered[math.ceil(len(ordered) * 0.99) - 1]
    half = ordered[len(ordered) // 2]
    return [measured(name, p99, "ms", FRAME_LIMIT_MS), measured(name.replace("p99", "median"), half, "ms")]


# -------------------------------------------------------------------------------------------------- still


def still_till(folder: Path, idle_s: float, starts: int) -> list[Row]:
    """The program as typed, with a terminal's folder. The first start warms the disk's cache and is not
    counted; the slowest of the others is."""
    world = create_world(folder / "city", system_clock, time.perf_counter, os.urandom)
    card = world.add_card("alice", 5, 20_000)
    path = world.add_terminal("till", "retail", 1).folder.path
    world.close()
    words = ["cashier", "--terminal", str(path), "--reader", f"sim:{card.path}"]
    command = [sys.executable, "-m", "tui", "tui", *words]
    ready: list[float] = []
    idle = 0.0
    for number in range(starts + 1):
        with PseudoTerminal(command, _environment()) as till:
            till.wait_for(_is_ready, WAIT_S)
            drawn_s = next(frame.end_s for frame in till.frames() if _is_ready("\n".join(frame.lines)))
            ready.append(drawn_s - till.started_s)
            if number == starts:
                idle = _idle_share(till, idle_s)
    return [
        measured(_READY, max(ready[1:]), "s", READY_LIMIT_S),
        measured(_IDLE.format(what="till"), idle, "share", IDLE_LIMIT),
    ]


def _is_ready(text: str) -> bool:
    """The till asks for the amount."""
    return "Amount, yuan" in text


def _idle_share(program: PseudoTerminal, idle_s: float) -> float:
    time.sleep(2.0)  # what a start leaves to do
    cpu_s, begin_s = program.cpu_s(), time.monotonic()
    time.sleep(idle_s)
    return (program.cpu_s() - cpu_s) / (time.monotonic() - begin_s)


def full_till(folder: Path, sales: int) -> Row:
    """Every sale typed and tapped in the program itself."""
    log = folder / "sold"
    name = _MEMORY.format(sales=sales)
    with _child("till", log, sales) as till:
        end_s = time.monotonic() + WAIT_S + sales * _SALE_S
        noted, told = "", 0
        while not noted.startswith("sold") and time.monotonic() < end_s and till.process.poll() is None:
            time.sleep(0.5)
            till.forget()
            noted = log.read_text(encoding="ascii") if log.exists() else ""
            reached = int(noted.partition(" ")[2] or 0) // _TOLD_SALES * _TOLD_SALES
            if reached > told:
                told = reached
                print(f"  {told:,} sold", flush=True)
        if noted != f"sold {sales}\n":
            print(till.text(), flush=True)
            return not_measured(name, "MB", MEMORY_LIMIT_MB)
        return measured(name, till.memory_mb(), "MB", MEMORY_LIMIT_MB)
