"""A pcscd of one's own: a command runs where only its own smart card service and virtual reader exist.

Mount and network namespaces hide the machine's pcscd and its readers, keep the virtual reader off its
network, and let several run side by side. A PID namespace ends everything with its parent, however that
ends:

    caller ── setpriv --pdeathsig ── unshare --kill-child ── this module as PID 1 ─┬─ pcscd
                                                                                   └─ the command

Needs root or user namespaces. `python -m firmware_bridge.virtual.private_pcscd COMMAND…` does it from a
shell.
"""

import ctypes
import ctypes.util
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from firmware_bridge.errors import BridgeError, NoReader, ServiceNotRunning
from firmware_bridge.virtual.vpcd import VPCD_PORT

READER_NAME = "Virtual PCD 00 00"
INSIDE_VARIABLE = "HARDWALLET_PRIVATE_PCSCD"

EXIT_NOT_READY = 71
"""What run_inside returns when pcscd couldn't be started inside; the reason is on stderr."""

READY_TIMEOUT_S = 15.0
_PROBE_TIMEOUT_S = 20.0
_POLL_S = 0.01
_GRACE_S = 5.0

_RUN = Path("/run")
_IPC_DIRECTORY = _RUN / "pcscd"
_PCSCD_PLACES = ("/usr/sbin/pcscd", "/usr/local/sbin/pcscd", "/usr/bin/pcscd")
_DRIVER_ROOTS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_DRIVER_PATTERNS = ("pcsc/drivers/serial/libifdvpcd.so*", "*/pcsc/drivers/serial/libifdvpcd.so*")
_MODULE = "firmware_bridge.virtual.private_pcscd"
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]

# Without root a user namespace gives what it takes; with root that may be forbidden, so try without first.
_PRIVILEGES: tuple[tuple[str, ...], ...] = ((), ("--user", "--map-root-user"))

_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def available() -> tuple[bool, str]:
    """Whether run_inside can work here, and if not, why and what to do about it."""
    if inside():
        return True, "already inside"
    if not sys.platform.startswith("linux"):
        return False, "Only Linux has the namespaces that a pcscd of one's own needs."
    missing = [name for name, found in _needs().items() if not found]
    if missing:
        return False, f"Missing: {', '.join(missing)}. Run `make setup`, which installs what it can."
    refusals = []
    for privileges in _PRIVILEGES:
        refusal = _try_namespaces(privileges)
        if refusal is None:
            return True, "namespaces work"
        refusals.append(refusal)
    return False, f"This machine doesn't let a program make namespaces of its own ({'; '.join(refusals)})."


def inside() -> bool:
    """Whether this process runs inside already."""
    return os.environ.get(INSIDE_VARIABLE) == "1"


def run_inside(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Runs `argv` beside a pcscd of its own and returns its exit status (128 + n when signal n ended it).

    Standard streams, working directory and environment (`env` replaces it) are passed on. When pcscd can't
    be started the status is EXIT_NOT_READY. Raises ServiceNotRunning where `available` would say no.
    """
    environment = dict(os.environ if env is None else env)
    if inside():
        return _status(subprocess.run(list(argv), env=environment, check=False).returncode)
    usable, reason = available()
    if not usable:
        raise ServiceNotRunning(reason)
    privileges = next(wanted for wanted in _PRIVILEGES if _try_namespaces(wanted) is None)
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = str(_PACKAGE_ROOT) + (os.pathsep + path if path else "")
    bootstrap = [sys.executable, "-m", _MODULE, "--as-init", "--", *argv]
    process = subprocess.Popen([*_unshare(privileges), *bootstrap], env=environment)
    try:
        return _status(process.wait())
    except BaseException:
        _end(process)
        raise


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Lets the command finish what an interrupt makes it do (it got it too), then ends everything inside."""
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _needs() -> dict[str, bool]:
    return {
        "util-linux (unshare, setpriv)": all(shutil.which(name) for name in ("unshare", "setpriv")),
        "pcscd": find_pcscd() is not None,
        "vsmartcard-vpcd (pcscd's virtual reader)": find_vpcd_driver() is not None,
        "pyscard": importlib.util.find_spec("smartcard") is not None,
    }


def find_pcscd() -> Path | None:
    """The pcscd program, which is often outside a user's PATH."""
    found = shutil.which("pcscd")
    candidates = [found] if found else list(_PCSCD_PLACES)
    return next((Path(place) for place in candidates if os.access(place, os.X_OK)), None)


def find_vpcd_driver() -> Path | None:
    """vpcd's driver for pcscd."""
    for root in _DRIVER_ROOTS:
        for pattern in _DRIVER_PATTERNS:
            for found in sorted(Path(root).glob(pattern)):
                return found
    return None


def _unshare(privileges: tuple[str, ...]) -> list[str]:
    # unshare must survive a Ctrl-C meant for the command: when it dies, everything inside is killed.
    return [
        *("sh", "-c", 'trap "" INT; exec "$@"', "sh"),
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *("unshare", *privileges, "--mount", "--net", "--pid", "--fork", "--kill-child", "--"),
    ]


def _try_namespaces(privileges: tuple[str, ...]) -> str | None:
    """None when the namespaces can be made and mounted in, else the refusal in the system's words."""
    probe = ["mount", "-t", "tmpfs", "none", str(_RUN)]
    try:
        done = subprocess.run(
            [*_unshare(privileges), *probe],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return done.stderr.strip().replace("\n", " ") or f"unshare ended with {done.returncode}"


def _say(text: object) -> None:
    sys.stderr.write(f"{text}\n")


def _status(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


# What follows runs inside, as PID 1 of its namespace.


def _run_as_init(argv: Sequence[str]) -> int:
    """Sets the namespaces up, starts pcscd, runs the command, ends pcscd."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        service, log = _start_service()
    except (BridgeError, OSError) as error:
        _say(f"private pcscd: {error}")
        return EXIT_NOT_READY
    try:
        return _run_command(argv)
    finally:
        service.terminate()
        try:
            service.wait(5)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()
        log.unlink(missing_ok=True)


def _run_command(argv: Sequence[str]) -> int:
    environment = {**os.environ, INSIDE_VARIABLE: "1"}
    try:
        command = subprocess.Popen(list(argv), env=environment)
    except OSError as error:
        _say(f"private pcscd: can't run {argv[0]}: {error.strerror}")
        return 127
    signal.signal(signal.SIGTERM, lambda number, _: command.send_signal(number))
    while True:
        try:
            return _status(command.wait())
        except KeyboardInterrupt:
            continue  # the command got it too, and decides


def _start_service() -> tuple["subprocess.Popen[bytes]", Path]:
    pcscd, driver = find_pcscd(), find_vpcd_driver()
    if pcscd is None or driver is None:
        raise ServiceNotRunning("pcscd or its virtual reader is missing. Run `make setup`.")
    _mount_over_run()
    _raise_loopback()
    work = _IPC_DIRECTORY / "private"
    configuration, drivers, log = work / "readers", work / "drivers", work / "log"
    configuration.mkdir(parents=True)
    drivers.mkdir()
    (configuration / "vpcd").write_text(_reader_configuration(driver), encoding="ascii")
    arguments = [str(pcscd), "--foreground", "--config", str(configuration)]
    if "--disable-polkit" in _help_of(pcscd):
        arguments.append("--disable-polkit")
    with log.open("wb") as sink:
        service = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=_service_environment(drivers)
        )
    try:
        _wait_ready(service, log)
    except BaseException:
        service.kill()
        service.wait()
        raise
    return service, log


def _reader_configuration(driver: Path) -> str:
    name = READER_NAME.removesuffix(" 00 00")
    return (
        f'FRIENDLYNAME "{name}"\n'
        f"DEVICENAME   /dev/null:{VPCD_PORT:#06X}\n"
        f"LIBPATH      {driver}\n"
        f"CHANNELID    {VPCD_PORT:#06X}\n"
    ).replace("0X", "0x")


def _service_environment(drivers: Path) -> dict[str, str]:
    """Without what systemd may have left, and with no driver for USB: real readers are the machine's."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("LISTEN_", "PCSCLITE_"))}
    return {**kept, "PCSCLITE_HP_DROPDIR": str(drivers)}


def _help_of(pcscd: Path) -> str:
    done = subprocess.run([str(pcscd), "--help"], capture_output=True, text=True, timeout=10, check=False)
    return done.stdout + done.stderr


def _mount_over_run() -> None:
    """An empty /run/pcscd; where it doesn't exist (and must not be made on the machine) an empty /run."""
    if _IPC_DIRECTORY.is_dir():
        _mount_tmpfs(_IPC_DIRECTORY)
    else:
        _mount_tmpfs(_RUN)
        _IPC_DIRECTORY.mkdir(mode=0o755)
    os.environ.pop("PCSCLITE_CSOCK_NAME", None)


def _mount_tmpfs(target: Path) -> None:
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", _MS_NOSUID_NODEV_NOEXEC, b"mode=0755"):
        number = ctypes.get_errno()
        raise OSError(number, f"can't mount over {target}: {os.strerror(number)}")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(handle, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _wait_ready(service: "subprocess.Popen[bytes]", log: Path) -> None:
    from firmware_bridge.pcsc import list_pcsc_readers

    end_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end_s:
        if service.poll() is not None:
            raise ServiceNotRunning(f"pcscd ended at once with {service.returncode}: {_last_lines(log)}")
        if (_IPC_DIRECTORY / "pcscd.comm").exists():
            try:
                if any(name == READER_NAME for name, _ in list_pcsc_readers()):
                    return
            except ServiceNotRunning:
                pass  # the socket is there before the service listens
        time.sleep(_POLL_S)
    raise NoReader(f"pcscd showed no virtual reader within {READY_TIMEOUT_S:.0f} s: {_last_lines(log)}")


def _last_lines(log: Path) -> str:
    text = log.read_bytes()[-2000:].decode("utf-8", "replace").strip()
    return " / ".join(text.splitlines()[-4:]) or "it logged nothing"


def main(arguments: Sequence[str]) -> int:
    """Entry point for both sides; returns the exit status."""
    as_init = bool(arguments) and arguments[0] == "--as-init"
    rest = list(arguments[1:] if as_init else arguments)
    if rest and rest[0] == "--":
        rest = rest[1:]
    if not rest:
        _say("usage: python -m firmware_bridge.virtual.private_pcscd COMMAND…")
        return 2
    if as_init:
        return _run_as_init(rest)
    try:
        return run_inside(rest)
    except ServiceNotRunning as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
