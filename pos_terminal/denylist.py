"""The denylists that a terminal holds, one an issuing operator, durable in its folder.

    DIR/denylist-OPERATOR.bin      a whole list: header ‖ signature ‖ its cards, as hardwallet/denylist.py
    DIR/denylist-OPERATOR.deltas   the changes since then, one behind the other

Both files are replaced whole or not at all, so that a crash leaves the old list or the new one. Everything
is verified again when it is read. A list that is missing or damaged is never taken for an empty one: the
terminal then sells nothing to that issuer's cards.

Any thread may ask and any thread may offer: a tap looks at one whole set of lists, the old or the new one,
and waits for nobody who verifies or writes.
"""

import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hardwallet import denylist as formats
from hardwallet.certificates import TrustBundle
from hardwallet.denylist import Delta, Denylist
from hardwallet.errors import DenylistRefused
from hardwallet.journalled import write_durably
from pos_terminal.errors import StoreFailed
from pos_terminal.exclusive import Exclusive

LOCK: Final = "denylist.lock"
DELTAS_KEPT: Final = 256 * 1024
"""Bytes of changes that are kept beside a list before both are written as one."""
_NAME: Final = re.compile(r"denylist-([0-9a-f]{8})\.bin")


class Denylists:
    """The lists that are held, in memory."""

    def __init__(self, lists: Iterable[Denylist] = ()) -> None:
        self._lists = {one.operator: one for one in lists}  # never changed, but replaced
        self._taking = threading.Lock()  # so that of two that come at once neither is lost, nor goes back

    def of(self, operator: bytes) -> Denylist | None:
        """The list of an issuing operator (4 bytes); None when none is held, or none that is good."""
        return self._lists.get(operator)

    @property
    def held(self) -> list[Denylist]:
        """Every list, by its operator."""
        return [one for _, one in sorted(self._lists.items())]

    def take(self, new: Denylist | Delta) -> Denylist:
        """The list that follows from what is held and a verified `new`; held from now on.

        The very list that is held changes nothing. Raises DenylistRefused: older, or base.
        """
        with self._taking:
            made = self._following(new)
            self._hold(made)
            return made

    def _hold(self, made: Denylist) -> None:
        self._lists = {**self._lists, made.operator: made}

    def _following(self, new: Denylist | Delta) -> Denylist:
        held = self._lists.get(new.operator)
        if isinstance(new, Delta):
            if held is None:
                raise DenylistRefused(
                    "base", "no denylist is held that this change could be applied to; bring the whole list"
                )
            return formats.apply(held, new)
        if held is None or new.version > held.version:
            return new
        if new == held:
            return held
        if new.version == held.version:
            raise DenylistRefused(
                "older",
                f"another denylist {held.version} is held already; tell the issuer that there are two",
            )
        raise DenylistRefused(
            "older",
            f"this is denylist {new.version}, but {held.version} is held already; a list never goes back",
        )


class DenylistStore(Denylists):
    """The lists in a terminal's folder, held by one process. Close it when done.

    Raises StoreBusy, StoreFailed. `damaged` says of which operators (4 bytes) a list is there that is not
    good, and why.
    """

    def __init__(self, folder: Path, trust: TrustBundle) -> None:
        super().__init__()
        self._folder = folder
        self._trust = trust
        self.damaged: dict[bytes, str] = {}
        self._lock = Exclusive(folder / LOCK)
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the folder go. Again does nothing."""
        self._lock.close()

    def offer(self, raw: bytes) -> Denylist:
        """Take a list or a change of one, verified; durable when this returns. The list that is held then.

        Raises DenylistRefused, and the list that is held stays as it is; StoreFailed when it can't be kept.
        """
        new = formats.parse(raw, self._trust)
        with self._taking:
            held = self.of(new.operator)
            made = self._following(new)
            if made is held:
                return held
            try:
                if isinstance(new, Delta):
                    self._keep_delta(made, raw)
                else:
                    self._keep_list(made, raw)
            except OSError as error:
                raise StoreFailed(f"the denylist can't be kept in {self._folder}: {error.strerror}") from None
            self._hold(made)
            self.damaged = {one: why for one, why in self.damaged.items() if one != made.operator}
            return made

    def offer_file(self, path: Path) -> Denylist:
        """As `offer`, from a file, which is refused by its size before it is read. Raises OSError too."""
        return self.offer(formats.read_file(path))

    # ------------------------------------------------------------------ files

    def _path(self, operator: bytes, suffix: str) -> Path:
        return self._folder / f"denylist-{operator.hex()}.{suffix}"

    def _keep_list(self, made: Denylist, raw: bytes) -> None:
        """The changes of an older list may stay behind: reading passes over them."""
        write_durably(self._path(made.operator, "bin"), raw, mode=0o644)
        self._path(made.operator, "deltas").unlink(missing_ok=True)

    def _keep_delta(self, made: Denylist, raw: bytes) -> None:
        path = self._path(made.operator, "deltas")
        kept = path.read_bytes() if path.exists() else b""
        if len(kept) + len(raw) <= DELTAS_KEPT:
            write_durably(path, kept + raw, mode=0o644)
        else:
            self._keep_list(made, formats.snapshot(made, raw))

    def _load(self) -> None:
        for path in sorted(self._folder.iterdir()):
            named = _NAME.fullmatch(path.name)
            if named is None:
                continue
            operator = bytes.fromhex(named[1])
            try:
                self._hold(self._read(path, operator))
            except DenylistRefused as error:
                self.damaged[operator] = str(error)
            except OSError as error:
                self.damaged[operator] = f"{path} can't be read: {error.strerror}"

    def _read(self, path: Path, operator: bytes) -> Denylist:
        held = formats.parse_snapshot(formats.read_file(path), self._trust)
        if held.operator != operator:
            raise DenylistRefused("operator", f"{path} holds another issuer's denylist")
        deltas = path.with_suffix(".deltas")
        if not deltas.exists():
            return held
        for raw in formats.split(formats.read_file(deltas)):
            if formats.parse_header(raw).version <= held.version:
                continue  # a newer whole list came, and then the power went
            delta = formats.parse(raw, self._trust)
            if not isinstance(delta, Delta):
                raise DenylistRefused("malformed", f"{deltas} holds something else than changes")
            held = formats.apply(held, delta)
        return held
