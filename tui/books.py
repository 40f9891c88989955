"""What a command just changed in a scheme's folder, handed to the clearing that the folder holds."""

from pathlib import Path

from tui.output import note
from tui.text import say, told


def tell_clearing(scheme: Path, key_file: Path | None, *, loads: bool = False) -> None:
    """Has clearing take over what is published: denylists, orders, authorities; with `loads` also every load.
    A clearing that serves hands it out from then on. Nothing where the scheme keeps no books yet: they begin
    with all of it. What the command did stands, whatever comes of this."""
    from fleet.open import CLEARING_DATABASE, open_clearing
    from offline_sync.errors import ClearingError

    if not (scheme / CLEARING_DATABASE).exists():
        return
    try:
        with open_clearing(scheme, key_file, loads=loads):
            pass
    except ClearingError as error:
        note(say("Done, but clearing learns of it only at its next report: {why}", why=told(str(error))))
