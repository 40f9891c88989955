"""What `make setup` does to a system: run against a PATH of stand-ins, on which everything is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.needs("bash", "flock")

ORDINARY_PROGRAMS = "basename bash cat cut dirname env flock grep ldconfig sed sha256sum tr uname".split()

# Writes down how it was called, and whether it could ask anybody anything.
RECORDER = """#!/bin/sh
echo "$(basename "$0") ${DEBIAN_FRONTEND:-interactive} $*" >>"$CALLS"
"""


@dataclass
class System:
    """A checkout of its own, on a system that has only what is put into `programs`."""

    checkout: Path
    programs: Path
    calls: Path

    def add(self, name: str, script: str) -> None:
        """Puts a program into this system."""
        program = self.programs / name
        program.write_text(script, encoding="utf-8")
        program.chmod(0o755)

    def setup(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the set-up as `make` does, with nothing on stdin."""
        return subprocess.run(
            [str(self.programs / "bash"), "scripts/setup.sh", *arguments],
            cwd=self.checkout,
            env={
                "PATH": str(self.programs),
                "CALLS": str(self.calls),
                "HOME": str(self.checkout),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def called(self) -> list[str]:
        """The recorded calls, in their order."""
        return self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []


@pytest.fixture
def system(tmp_path: Path) -> System:
    """A Debian with apt-get and no Python, whose user is nobody in particular."""
    made = System(tmp_path / "checkout", tmp_path / "bin", tmp_path / "calls")
    made.programs.mkdir()
    made.checkout.mkdir()
    for name in ("scripts", "requirements"):
        shutil.copytree(REPOSITORY / name, made.checkout / name)
    shutil.copy(REPOSITORY / "pyproject.toml", made.checkout)
    for name in ORDINARY_PROGRAMS:
        found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        assert found, name
        (made.programs / name).symlink_to(found)
    made.add("id", "#!/bin/sh\necho 1000\n")
    made.add("apt-get", RECORDER)
    made.add(
        "apt-cache", '#!/bin/sh\n[ "$2" = tmux ] || [ "$2" = python3.12 ] || echo "$2 | 1.0 | sources"\n'
    )
    return made


def the_command(output: str) -> str:
    """The one command that the set-up tells the user to run."""
    (line,) = [line for line in output.splitlines() if line.startswith("setup: run this once: ")]
    return line.removeprefix("setup: run this once: ")


def test_who_may_not_install_is_told_the_one_command(system: System) -> None:
    ended = system.setup()
    command = the_command(ended.stderr)
    assert command.startswith("sudo apt-get update && sudo apt-get install --yes --no-install-recommends ")
    assert "python3" in command
    assert system.called() == []
    assert ended.returncode == 1, "no Python, so nothing can be set up"
    assert "no Python 3.11, 3.12 or 3.13 was found" in ended.stderr


def test_root_installs_without_a_question(system: System) -> None:
    system.add("id", "#!/bin/sh\necho 0\n")
    system.setup("--tests")
    update, install = system.called()
    assert update.startswith("apt-get noninteractive ")
    assert update.endswith(" update")
    assert install.startswith("apt-get noninteractive ")
    assert "--yes --no-install-recommends" in install
    # The newest interpreter that is offered and fits, with its parts.
    assert install.endswith(" python3.13 python3.13-venv python3.13-dev")


def test_what_the_sources_do_not_offer_stops_nothing(system: System) -> None:
    system.add("id", "#!/bin/sh\necho 0\n")
    system.add("apt-cache", '#!/bin/sh\n[ "$2" = python3.11 ] && echo "$2 | 1.0 | sources"\n')
    ended = system.setup("--tests")
    assert system.called()[1].endswith(" python3.11 python3.11-venv python3.11-dev")
    for line in ended.stderr.splitlines():
        assert "python3.13" not in line


def test_it_leaves_the_system_alone_when_told_to(system: System) -> None:
    system.add("id", "#!/bin/sh\necho 0\n")
    ended = system.setup(HARDWALLET_NO_SYSTEM="1")
    assert system.called() == []
    assert the_command(ended.stderr).startswith("apt-get update && apt-get install ")


def test_sudo_is_used_only_without_a_password(system: System) -> None:
    system.add("sudo", '#!/bin/sh\n[ "$1" = -n ] || exit 1\nshift\nexec "$@"\n')
    system.add("true", "#!/bin/sh\n")  # what it tries sudo with
    system.setup()
    assert [call.split()[1] for call in system.called()] == ["noninteractive"] * 2
    system.calls.unlink()

    system.add("sudo", "#!/bin/sh\nexit 1\n")
    ended = system.setup()
    assert system.called() == []
    assert the_command(ended.stderr).startswith("sudo apt-get update")


@pytest.mark.parametrize("python", ["no-such-python", "bash"])
def test_an_interpreter_that_does_not_fit_is_refused(system: System, python: str) -> None:
    ended = system.setup(python)
    assert ended.returncode == 1
    assert python in ended.stderr
    assert not (system.checkout / ".venv").exists()
