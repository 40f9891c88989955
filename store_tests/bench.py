"""What a case has to hand: a store in a folder, opened as often as wanted; sales and records made up."""

import importlib
import importlib.util
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from hardwallet.certificates import CURRENCY_CNY
from hardwallet.records import PAYMENT, PROFILE_NONE, RETAIL, SIGNATURE_LENGTH, Record, parse
from pos_terminal.ports import Journal
from pos_terminal.sale import Sale

NOW: Final = 1_790_000_000  # September 2026
SCHEME: Final = bytes.fromhex("0a0b0c0d")
PAYEE: Final = bytes.fromhex("0000002200000001")
TERMINAL: Final = bytes.fromhex("00000001")
CARD: Final = bytes.fromhex("0000001100000007")
OTHER_CARD: Final = bytes.fromhex("0000001100000008")
CERTIFICATE: Final = b"digest01"
"""The digest of the certificate that the records name."""
REFERENCE: Final = b"reference-01"
KILLED_S: Final = 60
"""Longer than a store needs to keep a payment, on any machine."""


class Store(Journal, Protocol):
    """A journal that can be closed, so that it can be opened again."""

    def close(self) -> None:
        """Let the store go. Closing twice does nothing."""


OpenStore = Callable[[Path, bytes, bytes, bytes], Store]
"""`open_store(folder, scheme, payee, terminal)`: 4, 8 and 4 bytes. The folder exists; what the store puts
there is its own, made at the first opening."""


class NoStore(Exception):
    """What was named opens no store. The message says what to name."""


def find_store(place: str) -> OpenStore:
    """The function that `place` names: `package.module:function` or `path/to/file.py:function`.

    Raises NoStore.
    """
    where, _, name = place.rpartition(":")
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            if spec is None or spec.loader is None:
                raise ImportError(f"{where} is no Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses look there
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
        found: OpenStore = getattr(module, name)
    except (ImportError, AttributeError, OSError, ValueError) as error:
        raise NoStore(
            f"{place} opens no store ({error}); name a function (folder, scheme, payee, terminal) as "
            "package.module:function or file.py:function"
        ) from None
    return found


@dataclass(frozen=True, slots=True)
class Bench:
    """One folder, and the function that opens the store in it, which `place` names for other processes."""

    folder: Path
    place: str
    open_store: OpenStore

    @contextmanager
    def opened(self, folder: Path | None = None) -> Iterator[Store]:
        """The store, open; closed afterwards."""
        store = self.open_store(folder or self.folder, SCHEME, PAYEE, TERMINAL)
        try:
            yield store
        finally:
            store.close()

    def copy(self, name: str) -> Path:
        """A copy of the folder as it is now, under another name beside it."""
        copied = self.folder.with_name(f"{self.folder.name}-{name}")
        shutil.copytree(self.folder, copied)
        return copied

    def lengths(self) -> dict[Path, int]:
        """The length of each file in the folder, bytes, by its path inside."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder): path.stat().st_size for path in files}

    def kill_while_keeping(self, kept: int) -> list[str]:
        """The lines that another process had told when it was killed with SIGKILL, right after `kept` lines.

        It is store_tests.killed: a line for each payment that is kept, and for each block of numbers.
        """
        command = [sys.executable, "-m", "store_tests.killed", self.place, str(self.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            told: list[str] = []
            for line in process.stdout or ():
                told.append(line.strip())
                if len(told) == kept:
                    break
            process.kill()
            told += [line.strip() for line in process.stdout or () if line.endswith("\n")]
            process.wait(KILLED_S)
        return told


def sale(reference: bytes = REFERENCE, card: bytes = CARD, *, time_s: int = NOW) -> Sale:
    """A sale of 12.50 that is about to ask `card` (8 bytes); `reference`: 12 bytes."""
    return Sale(reference, 1250, CURRENCY_CNY, RETAIL, 5, time_s, card=card)


_BODY: Final = struct.Struct(">BBBB4s8s8sI8s12sIH4sI16sIBBBIIHB")  # docs/protocol.md, section 4


def record(
    sequence: int,
    amount_fen: int = 1250,
    *,
    kind: int = PAYMENT,
    reference: bytes | None = None,
    payee: bytes = PAYEE,
    terminal: bytes = TERMINAL,
    nonce: int = 0,
    signature: bytes = bytes(SIGNATURE_LENGTH),
) -> Record:
    """A payment of CARD, or a load receipt. A store checks no signature: it is made up.

    `reference`: 12 bytes, of its own for each sequence unless given. `payee`: 8, `terminal`: 4,
    `signature`: 64 bytes.
    """
    body = _BODY.pack(
        *(kind, 1, 1, 1, SCHEME, CARD, CERTIFICATE, sequence, payee),
        sequence.to_bytes(12, "big") if reference is None else reference,
        *(amount_fen, CURRENCY_CNY, terminal, sequence, nonce.to_bytes(16, "big"), NOW),
        *(RETAIL if kind == PAYMENT else PROFILE_NONE, 0, 0, 10_000, 0, 1, 0),
    )
    return parse(body + signature)
