"""A pcscd of one's own: the machine isn't touched, several run side by side, nothing outlives its parent."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_bridge.errors import ServiceNotRunning
from firmware_bridge.virtual import private_pcscd
from firmware_bridge.virtual.private_pcscd import (
    EXIT_NOT_READY,
    INSIDE_VARIABLE,
    READER_NAME,
    available,
    run_inside,
)

REPOSITORY = Path(__file__).resolve().parents[2]
LIST = [
    sys.executable,
    "-c",
    "from firmware_bridge.pcsc import list_pcsc_readers; import json; print(json.dumps(list_pcsc_readers()))",
]
RUN = [sys.executable, "-m", "firmware_bridge.virtual.private_pcscd"]
TIMEOUT_S = 60


def outer(*command: str) -> "subprocess.CompletedProcess[str]":
    """The command beside a pcscd of its own, its output kept."""
    return subprocess.run(
        [*RUN, *command], cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.mark.pcscd
def test_everything_through_a_real_pcscd() -> None:
    done = outer(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name("inside_pcscd.py")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.pcscd
def test_the_exit_status_is_the_commands() -> None:
    assert run_inside(["true"]) == 0
    assert run_inside(["sh", "-c", "exit 7"]) == 7
    assert run_inside(["sh", "-c", "kill -TERM $$"]) == 128 + 15
    assert run_inside(["/no/such/program"]) == 127


@pytest.mark.pcscd
def test_the_environment_is_the_one_given() -> None:
    environment = {**os.environ, "COLOUR": "green"}
    assert (
        run_inside(["sh", "-c", f'test "$COLOUR" = green && test "${INSIDE_VARIABLE}" = 1'], env=environment)
        == 0
    )


@pytest.mark.pcscd
def test_the_machine_is_not_touched() -> None:
    def seen() -> tuple[bool, list[str], str]:
        directory = Path("/run/pcscd")
        ports = Path("/proc/net/tcp").read_text(encoding="ascii")
        listening = [line.split()[1] for line in ports.splitlines() if line.split()[3] == "0A"]
        names = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
        return (
            directory.is_dir(),
            names,
            " ".join(sorted(port for port in listening if port.endswith(":8C7B"))),
        )

    before = seen()
    inner = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(
        [*RUN, "sh", "-c", f"echo ready; exec {inner[0]} -c '{inner[2]}'"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        assert seen() == before
        running.communicate(timeout=TIMEOUT_S)
    assert seen() == before


@pytest.mark.pcscd
def test_several_side_by_side() -> None:
    started = [
        subprocess.Popen([*RUN, *LIST], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for running in started:
        told, _ = running.communicate(timeout=TIMEOUT_S)
        assert json.loads(told)[0] == [READER_NAME, False]


@pytest.mark.pcscd
def test_beside_a_pcscd_that_runs_already() -> None:
    # A machine where pcscd runs is made inside; there another one is asked for as if nothing were special.
    nested = f"env -u {INSIDE_VARIABLE} {' '.join(RUN)} ls /run/pcscd"
    done = outer(
        "sh",
        "-c",
        f"touch /run/pcscd/mark && {nested} && echo == && ls /run/pcscd && {LIST[0]} -c '{LIST[2]}'",
    )
    assert done.returncode == 0, done.stderr
    inner, _, rest = done.stdout.partition("==\n")
    assert "pcscd.comm" in inner
    assert "mark" not in inner
    assert "mark" in rest
    assert READER_NAME in rest


@pytest.mark.pcscd
def test_a_second_request_inside_uses_the_first() -> None:
    done = outer(*RUN, *LIST)
    assert done.returncode == 0, done.stderr
    assert READER_NAME in done.stdout


@pytest.mark.pcscd
def test_nothing_outlives_a_killed_parent() -> None:
    # Everything inside holds the pipe's other end: its end is seen when the last of them is gone.
    read_end, write_end = os.pipe()
    inner = "echo ready; sleep 1000 & sleep 1000"
    with subprocess.Popen(
        [*RUN, "sh", "-c", inner], cwd=REPOSITORY, stdout=subprocess.PIPE, pass_fds=[write_end]
    ) as parent:
        os.close(write_end)
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"ready\n"
        finally:
            parent.kill()
        assert parent.wait(TIMEOUT_S) == -9
    with os.fdopen(read_end, "rb") as pipe:
        assert pipe.read() == b""


@pytest.mark.pcscd
def test_an_interrupted_command_may_clean_up() -> None:
    inner = (
        "import sys, time\n"
        "try:\n    print('ready', flush=True); time.sleep(1000)\n"
        "except KeyboardInterrupt:\n    print('clean', flush=True)"
    )
    with subprocess.Popen(
        [*RUN, sys.executable, "-c", inner], cwd=REPOSITORY, stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal's Ctrl-C: the whole group gets it
        assert parent.communicate(timeout=TIMEOUT_S)[0] == b"clean\n"
        assert parent.returncode == 128 + signal.SIGINT


@pytest.mark.pcscd
def test_the_measurement_gives_its_figures() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "firmware_bridge.virtual.measure_pcscd", "20"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["exchanges"] == 20
    assert 0 < measured["apdu_ms_median"] <= measured["apdu_ms_p95"] <= measured["apdu_ms_max"]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INSIDE_VARIABLE, raising=False)
    monkeypatch.setattr(private_pcscd, "find_vpcd_driver", lambda: None)
    usable, reason = available()
    assert not usable
    assert "vsmartcard-vpcd" in reason
    with pytest.raises(ServiceNotRunning, match="vsmartcard-vpcd"):
        run_inside(["true"])


def test_a_machine_that_forbids_namespaces_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INSIDE_VARIABLE, raising=False)
    monkeypatch.setattr(private_pcscd, "_needs", lambda: {"pcscd": True})
    monkeypatch.setattr(private_pcscd, "_try_namespaces", lambda _: "unshare failed: Operation not permitted")
    usable, reason = available()
    assert not usable
    assert "namespaces" in reason
    assert "Operation not permitted" in reason


def test_a_pcscd_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private_pcscd, "find_pcscd", lambda: None)
    assert private_pcscd.main(["--as-init", "--", "true"]) == EXIT_NOT_READY
    assert "make setup" in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert private_pcscd.main([]) == 2
    assert "usage" in capsys.readouterr().err
