"""What the figures were measured on."""

import os
import platform
import sqlite3
import tempfile
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend

IN_MEMORY = ("tmpfs", "ramfs")


def description() -> list[str]:
    """The processor and the versions that the figures depend on, a line each."""
    return [
        f"processor  {_processor()}, {os.cpu_count()} of them",
        f"system     {platform.system()} {platform.release()}",
        f"Python     {platform.python_version()} ({platform.python_implementation()})",
        f"OpenSSL    {backend.openssl_version_text()}, as `cryptography` brings it",
        f"SQLite     {sqlite3.sqlite_version}",
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def file_system(folder: Path) -> str:
    """The type of the file system that `folder` lies on, or "unknown"."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    found, longest = "unknown", -1
    for line in mounts:
        _, place, kind, *_ = line.split(" ")
        if folder.resolve().is_relative_to(place) and len(place) >= longest:
            found, longest = kind, len(place)
    return found


def disk_folder() -> tuple[Path, str]:
    """A folder for temporary files on a disk where there is one, and the type of its file system."""
    places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]  # noqa: S108 - beside TMPDIR
    usable = [(place, file_system(place)) for place in places if os.access(place, os.W_OK)]
    return next((entry for entry in usable if entry[1] not in IN_MEMORY), usable[0])
