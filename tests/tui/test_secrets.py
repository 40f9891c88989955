"""No PIN, no passphrase and no key ever shows: in no result, error or trace, in no file but its own."""

import base64
from pathlib import Path

from hardwallet.keys import unseal
from hardwallet.suites import suite_by_number
from tests.tui.world import PASSPHRASE, PIN, Done, World
from tui.cardfile import open_card

WRONG_PIN = "730164"


def forms(secret: bytes) -> list[str]:
    """How a secret may look in text."""
    return [secret.hex(), secret.hex().upper(), base64.b64encode(secret).decode(), repr(secret)[2:-1]]


def pin_forms(pin: str) -> list[str]:
    """The digits, and the PIN field of ISO 9564-1 format 2 that holds them."""
    return [pin, f"2{len(pin)}{pin}", pin.encode().hex()]


def test_no_secret_shows(world: World) -> None:
    told: list[Done] = []
    secret = {"HARDWALLET_PASSPHRASE": PASSPHRASE}

    def typed(words: str, *, stdin: str = "", **variables: str) -> Done:
        done = world.typed(*words.split(), stdin=stdin, **secret, **variables)
        told.append(done)
        return done

    assert typed("scheme init town --json").code == 0
    assert typed("card new --scheme town bob.card --balance 900.00 --json").code == 0
    assert typed("terminal new --scheme town --class retail shop").code == 0
    assert typed("card pin bob.card", stdin=f"{PIN}\n").code == 0
    pay = "pos pay 380.00 --terminal shop --reader sim:bob.card --json --trace "
    assert typed(pay + "a.trace", HARDWALLET_PIN=WRONG_PIN).code == 1
    assert typed(pay + "b.trace", HARDWALLET_PIN=PIN).code == 0
    assert typed("card pin bob.card --json", stdin=f"{WRONG_PIN}\n{PIN}\n").code == 1
    assert typed("card pin bob.card", stdin=f"{PIN}\n{PIN}x\n").code == 2
    assert typed("card show bob.card").code == 0
    assert typed("trace show b.trace --json").code == 0
    wrong = {"HARDWALLET_PASSPHRASE": WRONG_PIN + PASSPHRASE}
    done = world.typed("pos", "status", "--terminal", "shop", **wrong)
    told.append(done)
    assert done.code == 1

    secrets = [*pin_forms(PIN), *pin_forms(WRONG_PIN), PASSPHRASE]
    for key in private_keys(world.folder):
        secrets += forms(key)
    written = "".join(done.out + done.err for done in told)
    traces = "".join(world.path(name).read_text(encoding="utf-8") for name in ("a.trace", "b.trace"))
    for found in secrets:
        assert found not in written
        assert found not in traces
    assert "xx" in traces
    assert not world.path("town/key").exists()
    for path in world.folder.rglob("*"):
        if path.is_file() and path.name != "rich.card":
            content = path.read_bytes()
            assert PASSPHRASE.encode() not in content, path
            assert PIN.encode() not in content, path
            assert bytes.fromhex(f"2{len(PIN)}{PIN}") not in content, path


def private_keys(folder: Path) -> list[bytes]:
    """The scalars of the scheme, of the terminal, and of the card's file."""
    suite = suite_by_number(1)
    sealed = [*folder.glob("town/keys/*.json"), folder / "shop/key.json"]
    scalars = [unseal(path.read_bytes(), suite, PASSPHRASE.encode(), "").scalar() for path in sealed]
    with open_card(folder / "bob.card") as card:
        identity = card.identity
    scalars += [identity.signing.scalar(), identity.agreement.scalar(), identity.secret, identity.pin_salt]
    assert len(scalars) == 8
    return scalars
