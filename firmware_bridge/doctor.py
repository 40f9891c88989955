"""Why no card is found, and the command that mends it. Looks only; changes nothing.

What is looked at comes in as `Probes`, so that every finding can be had without the machine that shows it.
"""

import importlib.metadata
import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from firmware_bridge.errors import BridgeError
from firmware_bridge.virtual.private_pcscd import find_pcscd, find_vpcd_driver
from firmware_bridge.virtual.vpcd import PCSCD_SOCKET

OLDEST_PYTHON = (3, 11)
FIRST_UNTRIED_PYTHON = (3, 14)
OLDEST_PYSCARD = (2, 3, 1)

NFC_MODULES = ("pn533_usb", "pn533", "port100")
"""Kernel modules that take NFC readers for themselves."""

_CCID_CLASS = "0b"
_DIRECT_READERS = {
    ("054c", "06c1"): "Sony RC-S380",
    ("054c", "06c3"): "Sony RC-S380",
    ("04e6", "5591"): "SCM SCL3711",
    ("04e6", "5593"): "SCM SCL3711",
    ("04cc", "2533"): "NXP PN533",
    ("072f", "2200"): "ACS ACR122U",
}
"""NFC readers by USB vendor and product; the ACR122U speaks CCID as well."""


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, why it matters, the command that mends it."""

    check: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""


class SocketState(Enum):
    """What pcscd's socket does."""

    ABSENT = "absent"
    REFUSING = "refusing"
    FORBIDDEN = "forbidden"
    ANSWERING = "answering"


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A USB device: vendor and product as four hex digits, its interfaces' classes and kernel drivers."""

    vendor: str
    product: str
    title: str
    interface_classes: tuple[str, ...]
    drivers: tuple[str, ...]
    node: str
    writable: bool

    @property
    def is_ccid(self) -> bool:
        """Whether it is a smart card reader by the USB class for them."""
        return _CCID_CLASS in self.interface_classes

    @property
    def is_reader(self) -> bool:
        """Whether it is any reader known here."""
        return self.is_ccid or (self.vendor, self.product) in _DIRECT_READERS


class Probes(Protocol):
    """What the doctor looks at."""

    def python_version(self) -> tuple[int, int]:
        """Major and minor."""
        ...

    def pcscd_path(self) -> Path | None:
        """Where the program lies."""
        ...

    def pcscd_socket(self) -> SocketState:
        """What its socket does."""
        ...

    def vpcd_driver(self) -> Path | None:
        """Where the virtual reader's driver lies."""
        ...

    def pyscard_version(self) -> str | None:
        """None when it can't be imported."""
        ...

    def pcsc_readers(self) -> list[str]:
        """Their names, as a program sees them. Raises BridgeError."""
        ...

    def kernel_modules(self) -> frozenset[str]:
        """Those loaded."""
        ...

    def usb_devices(self) -> list[UsbDevice]:
        """Those plugged in."""
        ...

    def serial_ports(self) -> list[tuple[str, bool]]:
        """Paths, and whether this user may write to them."""
        ...

    def is_root(self) -> bool:
        """Whether this user may do anything."""
        ...

    def in_local_session(self) -> bool:
        """Whether this user sits at the machine, as polkit sees it."""
        ...


def examine(probes: Probes) -> list[Finding]:
    """Everything that was looked at, good or bad, in the order in which to mend it."""
    findings = [_python(probes), _pcscd_installed(probes), _pcscd_running(probes), _pyscard(probes)]
    findings += _pcsc_door(probes)
    findings += _kernel_modules(probes)
    findings += _usb_readers(probes)
    findings += _serial_ports(probes)
    findings.append(_vpcd(probes))
    return findings


def healthy(findings: list[Finding]) -> bool:
    """Whether none of them is a problem."""
    return all(finding.level is not Level.PROBLEM for finding in findings)


def _python(probes: Probes) -> Finding:
    version = probes.python_version()
    text = f"Python {version[0]}.{version[1]}"
    if version < OLDEST_PYTHON:
        return Finding(
            "python", Level.PROBLEM, text, "3.11 or newer is needed.", "sudo apt install python3.11"
        )
    if version >= FIRST_UNTRIED_PYTHON:
        return Finding("python", Level.NOTE, text, "Newer than what this was tested with (3.11 to 3.13).")
    return Finding("python", Level.OK, text)


def _pcscd_installed(probes: Probes) -> Finding:
    path = probes.pcscd_path()
    if path is None:
        return Finding(
            "pcscd",
            Level.PROBLEM,
            "pcscd isn't installed",
            "It is the service that talks to smart card readers.",
            "sudo apt install pcscd",
        )
    return Finding("pcscd", Level.OK, f"pcscd is at {path}")


def _pcscd_running(probes: Probes) -> Finding:
    state = probes.pcscd_socket()
    if state is SocketState.ANSWERING:
        return Finding("pcscd running", Level.OK, "pcscd answers")
    if state is SocketState.FORBIDDEN:
        return Finding(
            "pcscd running",
            Level.PROBLEM,
            f"this user may not open {PCSCD_SOCKET}",
            "Without it no program of this user reaches a reader.",
            "sudo systemctl restart pcscd.socket",
        )
    what = (
        "pcscd isn't running" if state is SocketState.ABSENT else "pcscd's socket is there and nobody answers"
    )
    return Finding(
        "pcscd running",
        Level.PROBLEM,
        what,
        "Readers are reached through it.",
        "sudo systemctl enable --now pcscd.socket",
    )


def _pyscard(probes: Probes) -> Finding:
    version = probes.pyscard_version()
    if version is None:
        return Finding(
            "pyscard",
            Level.PROBLEM,
            "pyscard can't be imported",
            "It is how Python reaches pcscd; on Linux it is built from source.",
            "make setup",
        )
    if _version_numbers(version) < OLDEST_PYSCARD:
        return Finding(
            "pyscard",
            Level.PROBLEM,
            f"pyscard {version} is too old",
            "Before 2.3.1 a card that is there already at the start isn't seen.",
            "make setup",
        )
    return Finding("pyscard", Level.OK, f"pyscard {version}")


def _version_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:3])


def _pcsc_door(probes: Probes) -> Iterator[Finding]:
    """What a program sees when it asks pcscd for readers; only where it can be asked."""
    if probes.pyscard_version() is None or probes.pcscd_socket() is not SocketState.ANSWERING:
        return
    try:
        readers = probes.pcsc_readers()
    except BridgeError as error:
        yield _refused_door(probes, error)
        return
    if readers:
        yield Finding("readers", Level.OK, f"{len(readers)} in PC/SC: {', '.join(readers)}")
    else:
        yield Finding("readers", Level.NOTE, "pcscd knows no reader", "None is plugged in, or see below.")
    if any("SAM" in name for name in readers):
        yield Finding(
            "slots",
            Level.NOTE,
            "a reader has a SAM slot beside its contactless one",
            "A card held to it shows up in the other slot: choose that one.",
            "hardwallet readers",
        )


def _refused_door(probes: Probes, error: BridgeError) -> Finding:
    if not probes.is_root() and not probes.in_local_session():
        return Finding(
            "polkit",
            Level.PROBLEM,
            "pcscd refuses this user",
            "polkit lets only users with a session at the machine use readers; over ssh there is none.",
            _POLKIT_FIX,
        )
    return Finding(
        "protocol",
        Level.PROBLEM,
        f"pcscd answers and then refuses: {error}",
        "Most often its library and the service are of different versions.",
        "sudo apt install --reinstall pcscd libpcsclite1 && sudo systemctl restart pcscd",
    )


_POLKIT_FIX = (
    "echo 'polkit.addRule(function(action, subject) { "
    'if (action.id.indexOf("org.debian.pcsc-lite.") == 0 && subject.isInGroup("plugdev")) '
    "return polkit.Result.YES; });' | sudo tee /etc/polkit-1/rules.d/40-pcsc.rules "
    '&& sudo usermod -aG plugdev "$USER" (then log in again)'
)


def _kernel_modules(probes: Probes) -> Iterator[Finding]:
    found = [name for name in NFC_MODULES if name in probes.kernel_modules()]
    if not found:
        yield Finding("kernel modules", Level.OK, "none is in a reader's way")
        return
    blacklist = "\\n".join(f"blacklist {name}" for name in found)
    yield Finding(
        "kernel modules",
        Level.PROBLEM,
        f"loaded: {', '.join(found)}",
        "The kernel takes NFC readers for itself, and no program can open them.",
        f"sudo modprobe -r {' '.join(found)} && "
        f"printf '{blacklist}\\n' | sudo tee /etc/modprobe.d/nfc-readers.conf",
    )


def _usb_readers(probes: Probes) -> Iterator[Finding]:
    readers = [device for device in probes.usb_devices() if device.is_reader]
    if not readers:
        yield Finding("usb", Level.NOTE, "no USB reader is plugged in")
    for device in readers:
        yield _usb_reader(probes, device)


def _usb_reader(probes: Probes, device: UsbDevice) -> Finding:
    title = device.title or _DIRECT_READERS.get((device.vendor, device.product), "reader")
    name = f"{title} ({device.vendor}:{device.product})"
    taken = [driver for driver in device.drivers if driver in NFC_MODULES]
    if taken:
        return Finding(
            "usb",
            Level.PROBLEM,
            f"{name} is held by the kernel module {taken[0]}",
            "As long as the kernel has it nobody else can.",
            f"sudo modprobe -r {taken[0]}",
        )
    if device.is_ccid and not _claimed(probes):
        return Finding(
            "usb",
            Level.PROBLEM,
            f"{name} is plugged in, and pcscd doesn't show it",
            "pcscd has no driver for it, or lost it.",
            "sudo apt install libccid && sudo systemctl restart pcscd",
        )
    if not device.is_ccid and not device.writable:
        return Finding(
            "usb",
            Level.NOTE,
            f"{name} is plugged in, and this user may not open {device.node}",
            "A reader without PC/SC is opened directly.",
            f'echo \'SUBSYSTEM=="usb", ATTR{{idVendor}}=="{device.vendor}", '
            f'ATTR{{idProduct}}=="{device.product}", TAG+="uaccess"\' '
            "| sudo tee /etc/udev/rules.d/60-nfc-readers.rules && sudo udevadm trigger",
        )
    return Finding("usb", Level.OK, f"{name} is plugged in")


def _claimed(probes: Probes) -> bool:
    try:
        return any(not name.startswith("Virtual PCD") for name in probes.pcsc_readers())
    except BridgeError:
        return False


def _serial_ports(probes: Probes) -> Iterator[Finding]:
    for path, writable in probes.serial_ports():
        if writable:
            yield Finding("serial", Level.OK, f"{path} can be opened")
        else:
            yield Finding(
                "serial",
                Level.NOTE,
                f"this user may not open {path}",
                "Readers and tap devices on a serial line need it.",
                'sudo usermod -aG dialout "$USER" (then log in again)',
            )


def _vpcd(probes: Probes) -> Finding:
    driver = probes.vpcd_driver()
    if driver is None:
        return Finding(
            "virtual reader",
            Level.NOTE,
            "pcscd's virtual reader isn't installed",
            "Only simulated cards shown to pcscd need it (`make demo` uses it where it can).",
            "sudo apt install vsmartcard-vpcd",
        )
    return Finding("virtual reader", Level.OK, f"driver at {driver}")


class SystemProbes:
    """The machine this runs on."""

    def __init__(self, root: Path = Path("/")) -> None:
        """`root` is where /proc, /sys, /dev and /run lie."""
        self._root = root

    def python_version(self) -> tuple[int, int]:
        """See Probes."""
        return sys.version_info.major, sys.version_info.minor

    def pcscd_path(self) -> Path | None:
        """See Probes."""
        return find_pcscd()

    def pcscd_socket(self) -> SocketState:
        """See Probes. Knocking starts pcscd where systemd listens for it."""
        path = self._root / PCSCD_SOCKET.lstrip("/")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
            try:
                knock.connect(os.fspath(path))
            except FileNotFoundError:
                return SocketState.ABSENT
            except PermissionError:
                return SocketState.FORBIDDEN
            except OSError:
                return SocketState.REFUSING
        return SocketState.ANSWERING

    def vpcd_driver(self) -> Path | None:
        """See Probes."""
        return find_vpcd_driver()

    def pyscard_version(self) -> str | None:
        """See Probes."""
        if importlib.util.find_spec("smartcard") is None:
            return None
        try:
            return importlib.metadata.version("pyscard")
        except importlib.metadata.PackageNotFoundError:
            return None

    def pcsc_readers(self) -> list[str]:
        """See Probes."""
        from firmware_bridge.pcsc import list_pcsc_readers

        return [name for name, _ in list_pcsc_readers()]

    def kernel_modules(self) -> frozenset[str]:
        """See Probes."""
        text = _read(self._root / "proc/modules")
        return frozenset(line.split(" ", 1)[0] for line in text.splitlines())

    def usb_devices(self) -> list[UsbDevice]:
        """See Probes."""
        folder = self._root / "sys/bus/usb/devices"
        if not folder.is_dir():
            return []
        return [
            _usb_device(self._root, place)
            for place in sorted(folder.iterdir())
            if (place / "idVendor").is_file()
        ]

    def serial_ports(self) -> list[tuple[str, bool]]:
        """See Probes."""
        ports = [*self._root.glob("dev/ttyUSB*"), *self._root.glob("dev/ttyACM*")]
        return [(str(path), os.access(path, os.R_OK | os.W_OK)) for path in sorted(ports)]

    def is_root(self) -> bool:
        """See Probes."""
        return os.geteuid() == 0

    def in_local_session(self) -> bool:
        """See Probes."""
        return bool(
            os.environ.get("XDG_SEAT") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        )


def _usb_device(root: Path, place: Path) -> UsbDevice:
    interfaces = sorted(place.glob(f"{place.name}:*"))
    bus, number = _read(place / "busnum").zfill(3), _read(place / "devnum").zfill(3)
    node = root / "dev/bus/usb" / bus / number
    return UsbDevice(
        vendor=_read(place / "idVendor"),
        product=_read(place / "idProduct"),
        title=f"{_read(place / 'manufacturer')} {_read(place / 'product')}".strip(),
        interface_classes=tuple(_read(interface / "bInterfaceClass") for interface in interfaces),
        drivers=tuple(
            (interface / "driver").resolve().name
            for interface in interfaces
            if (interface / "driver").exists()
        ),
        node=str(node),
        writable=os.access(node, os.W_OK),
    )


def _read(path: Path) -> str:
    """A small text file of the kernel's, or nothing when it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
