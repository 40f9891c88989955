"""The doctor: each illness is found, named, and has a command that mends it; a healthy machine has none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_bridge.doctor import (
    Level,
    Probes,
    SocketState,
    SystemProbes,
    UsbDevice,
    examine,
    healthy,
)
from firmware_bridge.errors import ServiceNotRunning

CCID = UsbDevice("072f", "223b", "ACS ACR1252", ("0b", "0b"), ("",), "/dev/bus/usb/001/004", False)
PN533 = UsbDevice("04e6", "5591", "SCM SCL3711", ("ff",), (), "/dev/bus/usb/001/005", True)


class Machine:
    """A healthy machine, as far as a test doesn't change it."""

    def __init__(self) -> None:
        self.python = (3, 11)
        self.pcscd: Path | None = Path("/usr/sbin/pcscd")
        self.socket = SocketState.ANSWERING
        self.driver: Path | None = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
        self.pyscard: str | None = "2.3.1"
        self.readers: list[str] | None = ["ACS ACR1252 00 00"]
        self.modules: frozenset[str] = frozenset({"usbcore"})
        self.usb = [CCID]
        self.serial: list[tuple[str, bool]] = []
        self.root = False
        self.local = True

    def python_version(self) -> tuple[int, int]:
        return self.python

    def pcscd_path(self) -> Path | None:
        return self.pcscd

    def pcscd_socket(self) -> SocketState:
        return self.socket

    def vpcd_driver(self) -> Path | None:
        return self.driver

    def pyscard_version(self) -> str | None:
        return self.pyscard

    def pcsc_readers(self) -> list[str]:
        if self.readers is None:
            raise ServiceNotRunning("refused")
        return self.readers

    def kernel_modules(self) -> frozenset[str]:
        return self.modules

    def usb_devices(self) -> list[UsbDevice]:
        return self.usb

    def serial_ports(self) -> list[tuple[str, bool]]:
        return self.serial

    def is_root(self) -> bool:
        return self.root

    def in_local_session(self) -> bool:
        return self.local


def test_a_healthy_machine() -> None:
    findings = examine(Machine())
    assert healthy(findings)
    assert {finding.level for finding in findings} == {Level.OK}


Change = Callable[[Machine], None]


def change(**to: object) -> Change:
    def apply(machine: Machine) -> None:
        for name, value in to.items():
            assert hasattr(machine, name)
            setattr(machine, name, value)

    return apply


@pytest.mark.parametrize(
    ("illness", "check", "what", "fix"),
    [
        (change(python=(3, 10)), "python", "3.10", "apt install"),
        (change(pcscd=None), "pcscd", "isn't installed", "apt install pcscd"),
        (change(socket=SocketState.ABSENT), "pcscd running", "isn't running", "systemctl enable --now"),
        (change(socket=SocketState.REFUSING), "pcscd running", "nobody answers", "systemctl"),
        (change(socket=SocketState.FORBIDDEN), "pcscd running", "may not open", "systemctl restart"),
        (change(pyscard=None), "pyscard", "can't be imported", "make setup"),
        (change(pyscard="2.2.2"), "pyscard", "too old", "make setup"),
        (change(readers=None, local=False), "polkit", "refuses this user", "polkit-1/rules.d"),
        (change(readers=None), "protocol", "answers and then refuses", "--reinstall pcscd libpcsclite1"),
        (change(readers=None, local=False, root=True), "protocol", "refuses", "--reinstall"),
        (
            change(modules=frozenset({"pn533", "pn533_usb"})),
            "kernel modules",
            "pn533_usb, pn533",
            "modprobe -r",
        ),
        (change(modules=frozenset({"port100"})), "kernel modules", "port100", "blacklist port100"),
        (change(readers=[]), "usb", "pcscd doesn't show it", "apt install libccid"),
        (change(readers=["Virtual PCD 00 00"]), "usb", "pcscd doesn't show it", "apt install libccid"),
        (
            change(usb=[UsbDevice("04e6", "5591", "", ("ff",), ("pn533_usb",), "", True)]),
            "usb",
            "SCM SCL3711 (04e6:5591) is held by the kernel module pn533_usb",
            "modprobe -r pn533_usb",
        ),
    ],
)
def test_each_illness_has_its_cure(illness: Change, check: str, what: str, fix: str) -> None:
    machine = Machine()
    illness(machine)
    findings = examine(machine)
    assert not healthy(findings)
    found = [finding for finding in findings if finding.level is Level.PROBLEM]
    assert check in {finding.check for finding in found}
    (one,) = [finding for finding in found if finding.check == check]
    assert what in one.what
    assert fix in one.fix
    assert one.why


@pytest.mark.parametrize(
    ("oddity", "check", "what"),
    [
        (change(python=(3, 14)), "python", "3.14"),
        (change(driver=None), "virtual reader", "isn't installed"),
        (change(usb=[]), "usb", "no USB reader"),
        (change(usb=[], readers=[]), "readers", "no reader"),
        (change(readers=["ACS ACR1252 [SAM] 00 00", "ACS ACR1252 01 00"]), "slots", "SAM"),
        (change(serial=[("/dev/ttyUSB0", False)]), "serial", "/dev/ttyUSB0"),
        (
            change(usb=[UsbDevice("04e6", "5591", "X", ("ff",), (), "/dev/x", False)]),
            "usb",
            "may not open /dev/x",
        ),
    ],
)
def test_what_is_worth_knowing_is_no_problem(oddity: Change, check: str, what: str) -> None:
    machine = Machine()
    oddity(machine)
    findings = examine(machine)
    assert healthy(findings)
    assert any(
        finding.level is Level.NOTE and finding.check == check and what in finding.what
        for finding in findings
    )


def test_what_works_is_said_too() -> None:
    machine = Machine()
    machine.serial = [("/dev/ttyACM0", True)]
    machine.usb = [PN533]
    texts = [finding.what for finding in examine(machine) if finding.level is Level.OK]
    assert "/dev/ttyACM0 can be opened" in texts
    assert "SCM SCL3711 (04e6:5591) is plugged in" in texts


def test_the_doctor_asks_no_further_where_nobody_answers() -> None:
    class Strict(Machine):
        def pcsc_readers(self) -> list[str]:
            raise AssertionError("asked a service that isn't there")

    machine = Strict()
    machine.socket = SocketState.ABSENT
    machine.usb = []
    assert not healthy(examine(machine))


def test_the_machine_it_runs_on() -> None:
    probes: Probes = SystemProbes()
    findings = examine(probes)
    assert all(finding.what for finding in findings)
    assert probes.python_version() >= (3, 11)


def test_a_machine_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text("pn533_usb 20480 0 - Live 0x0\npn533 1 1 pn533_usb, Live 0x0\n")
    device = tmp_path / "sys/bus/usb/devices/1-2"
    interface = device / "1-2:1.0"
    interface.mkdir(parents=True)
    for name, text in {
        "idVendor": "04e6",
        "idProduct": "5591",
        "manufacturer": "SCM",
        "product": "SCL3711",
        "busnum": "1",
        "devnum": "7",
    }.items():
        (device / name).write_text(text + "\n")
    (interface / "bInterfaceClass").write_text("ff\n")
    drivers = tmp_path / "sys/bus/usb/drivers/pn533_usb"
    drivers.mkdir(parents=True)
    (interface / "driver").symlink_to(drivers)
    (tmp_path / "sys/bus/usb/devices/usb1").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/ttyACM0").write_text("")
    probes = SystemProbes(tmp_path)
    assert probes.kernel_modules() == {"pn533", "pn533_usb"}
    (found,) = probes.usb_devices()
    assert (found.title, found.interface_classes, found.drivers) == ("SCM SCL3711", ("ff",), ("pn533_usb",))
    assert found.node == str(tmp_path / "dev/bus/usb/001/007")
    assert found.is_reader
    assert not found.is_ccid
    assert [path for path, _ in probes.serial_ports()] == [str(tmp_path / "dev/ttyACM0")]
    assert probes.pcscd_socket() is SocketState.ABSENT
    assert SystemProbes(tmp_path / "none").usb_devices() == []
