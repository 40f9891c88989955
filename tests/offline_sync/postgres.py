"""A PostgreSQL of its own for tests: a fresh cluster behind a socket in a new folder, removed afterwards.

PostgreSQL refuses to run as root; root starts it as the user `nobody`.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STOP_S = 30
_FOLDERS = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs of each version."""


def program(name: str) -> Path | None:
    """One of PostgreSQL's programs, the newest that is installed; None without it."""
    found = sorted(_FOLDERS.glob(f"*/bin/{name}"), key=lambda path: int(path.parents[1].name))
    if found:
        return found[-1]
    anywhere = shutil.which(name)
    return None if anywhere is None else Path(anywhere)


@contextmanager
def cluster() -> Iterator[str]:
    """A running cluster; the address of its database as SQLAlchemy writes it.

    It listens on no network address, and dies with the test that runs it.
    """
    initdb, server = program("initdb"), program("postgres")
    assert initdb is not None
    assert server is not None
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        options = ["--auth=trust", "--username=hardwallet", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [initdb, "-D", data, *options], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        with _running([server, "-D", data, "-k", folder, "-h", "", "-F"], user, folder):
            yield f"postgresql+psycopg://hardwallet@/postgres?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(command: list[object], user: str | None, folder: Path) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [str(part) for part in command], user=user, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait(server, folder, log)
        yield
    finally:
        server.send_signal(2)  # fast: open sessions are cut off
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(server: "subprocess.Popen[bytes]", folder: Path, log: Path) -> None:
    """Until it takes connections. pg_isready asks, once a moment."""
    isready = program("pg_isready")
    assert isready is not None
    for _ in range(100):
        if server.poll() is not None:
            raise RuntimeError(log.read_text(encoding="utf-8", errors="replace"))
        if subprocess.run([isready, "-q", "-h", folder, "-t", "3"], check=False).returncode == 0:
            return
        try:
            server.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise RuntimeError(
        "PostgreSQL did not become ready: " + log.read_text(encoding="utf-8", errors="replace")
    )
