"""What must hold of the checkout itself: pins are hashed and name no address, and no machine left traces."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

LARGEST_FILE_BYTES = 1_000_000

PIN_FILES = sorted((REPOSITORY / "requirements").glob("*.txt"))
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>[0-9][0-9a-z.]*)(?P<marker> ; [^\\]+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?P<more> \\)?$")

# Put together from pieces, so that this file does not contain what it looks for.
REGISTRY_HOSTS = [".".join(pair) for pair in (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"),
    ("deb.debian", "org"), ("debian", "org"), ("archive.ubuntu", "com"), ("proxy.golang", "org"),
)]  # fmt: skip
MACHINE_FOLDERS = ["/" + name + "/" for name in ("work", "farm", "root", "home", "Users")]
MACHINE_PATH = re.compile(r"(?<![\w./$~-])(?:" + "|".join(MACHINE_FOLDERS) + ")")


def tracked_files() -> list[Path]:
    """The files of the checkout that git tracks."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True, timeout=30
    )
    paths = [REPOSITORY / name.decode() for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def pin_problems(text: str) -> list[str]:
    """The lines of a pin file that are neither a comment, nor an exact version with hashes behind it."""
    problems, hashed = [], True
    for line in [*text.splitlines(), ""]:
        is_hash = HASH.match(line)
        if not is_hash and not hashed:
            problems.append(f"no hash before: {line!r}")
        if is_hash:
            hashed = is_hash["more"] is None
        elif PIN.match(line):
            hashed = False
        else:
            hashed = True
            if line and not line.startswith("# "):
                problems.append(f"not a pin: {line!r}")
        if "://" in line:
            problems.append(f"an address: {line!r}")
    return problems


def traces(text: str) -> list[str]:
    """Registry hosts and paths of somebody's machine that a text contains."""
    hosts = [host for host in REGISTRY_HOSTS if re.search(rf"\b{re.escape(host)}\b", text)]
    return hosts + [found.group() for found in MACHINE_PATH.finditer(text)]


def test_there_are_pins_for_every_step() -> None:
    assert [path.stem for path in PIN_FILES] == ["build", "dev", "pcsc"]


@pytest.mark.parametrize("path", PIN_FILES, ids=lambda path: str(path.name))
def test_pins_are_exact_and_hashed_and_name_no_address(path: Path) -> None:
    assert pin_problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "httpx==0.28.1\n",
        "httpx>=0.28 \\\n    --hash=sha256:" + "0" * 64 + "\n",
        "httpx==0.28.1 \\\nidna==3.10 \\\n    --hash=sha256:" + "0" * 64 + "\n",
        "--index-url https://index.example/simple\n",
        "# from https://index.example/simple\n",
        "httpx==0.28.1 \\\n    --hash=md5:" + "0" * 32 + "\n",
        "httpx @ https://files.example/httpx.whl\n",
        "-e .\n",
    ],
)
def test_a_bad_pin_is_found(text: str) -> None:
    assert pin_problems(text)


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["pcsc"],
        *project["dependency-groups"]["dev"],
        *project["dependency-groups"]["build"],
    ]
    names = {re.split(r"[^a-zA-Z0-9-]", dependency)[0] for dependency in wanted}
    pinned = {
        match["name"]
        for path in PIN_FILES
        for line in path.read_text(encoding="utf-8").splitlines()
        if (match := PIN.match(line))
    }
    assert names <= pinned, f"run make pins: {sorted(names - pinned)}"


def test_one_version_of_each_package() -> None:
    versions: dict[str, set[str]] = {}
    for path in PIN_FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := PIN.match(line):
                versions.setdefault(match["name"], set()).add(match["version"])
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = {}
    for path in tracked_files():
        marks = traces(path.read_bytes().decode("utf-8", errors="replace"))
        if marks:
            found[str(path.relative_to(REPOSITORY))] = sorted(set(marks))
    assert found == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://" + ".".join(["pypi", "org"]) + "/simple", 1),
        ("files." + ".".join(["pythonhosted", "org"]), 1),
        ("in /" + "work/main/README.md", 1),
        ('"/' + 'root/.venv"', 1),
        ("~/" + "work/notes and net" + "work/main and $HOME/work/", 0),
        ("tests/" + "root/x", 0),
    ],
)
def test_a_trace_is_found(text: str, expected: int) -> None:
    assert len(traces(text)) == expected


def test_no_tracked_file_is_large() -> None:
    sizes = {str(path.relative_to(REPOSITORY)): path.stat().st_size for path in tracked_files()}
    assert {name: size for name, size in sizes.items() if size > LARGEST_FILE_BYTES} == {}


def test_every_source_file_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in tracked_files()
        if path.suffix == ".py" and not path.read_text(encoding="utf-8").lstrip().startswith(('"""', "#!"))
    ]
    assert silent == []
