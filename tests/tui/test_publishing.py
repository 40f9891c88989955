"""What an operator types: denylists, orders to cards, keys; and what it gets for a mistake."""

import shutil

import pytest

from fleet.clones import proven_clones
from fleet.open import open_clearing
from hardwallet import authorities, denylist
from hardwallet import messages as m
from hardwallet.issuing import read_trust
from tests.tui.world import World

ALICE = "0000010100000001"
RICH = "0000010100000002"


def ok(world: World, *words: str) -> dict[str, object]:
    """The command as JSON, which has to succeed."""
    done = world.call(*words, "--json")
    assert done.code == 0, done.err
    found: dict[str, object] = done.json
    return found


def refused(world: World, code: int, *words: str) -> str:
    """The message of a command that has to fail with that exit code."""
    done = world.call(*words, "--json")
    assert (done.code, done.out) == (code, "")
    return done.error["message"]


def pays(world: World, terminal: str = "till", card: str = "alice.card") -> tuple[int, str]:
    """Exit code and reason of a payment of 1.00."""
    done = world.pay("1.00", terminal=terminal, card=card)
    return done.code, done.json.get("reason", "")


# ---------------------------------------------------------------------- denylist


def test_books_that_cannot_be_read_do_not_stop_a_denylist(world: World) -> None:
    """It is published, and said that clearing does not know of it yet."""
    world.path("city/clearing.sqlite").write_bytes(b"no database" * 1_000)
    done = world.call("denylist", "add", ALICE, "--scheme", "city")
    assert (done.code, done.out) == (
        0,
        "Denylist 2 is published: 1 cards, 1 more and 0 fewer than before.\n",
    )
    assert "clearing learns of it only at its next report" in done.err


def test_a_card_goes_on_the_denylist_and_comes_off_it(world: World) -> None:
    """As a person types it, carried to a till by file."""
    added = world.call("denylist", "add", ALICE, RICH, ALICE, "--scheme", "city")
    assert added.out == "Denylist 2 is published: 2 cards, 2 more and 0 fewer than before.\n"
    assert ok(world, "denylist", "export", "all.denylist", "--scheme", "city")["cards"] == 2
    assert ok(world, "denylist", "import", "all.denylist", "--terminal", "till")["version"] == 2
    code, reason = pays(world)
    assert (code, "denylist" in reason) == (1, True)
    removed = ok(world, "denylist", "remove", ALICE, "--scheme", "city")
    assert (removed["version"], removed["added"], removed["removed"], removed["cards"]) == (3, 0, 1, 1)
    changed = ok(world, "denylist", "export", "change.denylist", "--change", "--scheme", "city")
    assert changed["change"] is True
    assert changed["bytes"] == 172
    assert ok(world, "denylist", "import", "change.denylist", "--terminal", "till")["version"] == 3
    assert pays(world)[0] == 0
    message = refused(world, 1, "denylist", "import", "all.denylist", "--terminal", "till")
    assert "a list never goes back" in message


def test_the_denylist_is_shown(world: World) -> None:
    ok(world, "denylist", "add", RICH, "--scheme", "city")
    shown = ok(world, "denylist", "show", "--scheme", "city")
    assert (shown["version"], shown["cards"], shown["numbers"]) == (2, 1, [RICH])
    text = world.call("denylist", "show", "--scheme", "city").out
    assert RICH in text
    for card, denied in ((RICH, True), (ALICE, False)):
        one = ok(world, "denylist", "show", "--scheme", "city", "--card", card)
        assert one["card"] == {"number": card, "denied": denied}
        words = world.call("denylist", "show", "--scheme", "city", "--card", card).out
        assert ("is refused" in words) is denied
    for given in ((), ("--scheme", "city", "--terminal", "till")):
        assert "--terminal DIR or --scheme DIR" in refused(world, 2, "denylist", "show", *given)


def test_a_scheme_without_a_denylist(world: World) -> None:
    world.call("scheme", "init", "empty")
    done = world.call("denylist", "show", "--scheme", "empty", "--json")
    assert (done.code, done.json["version"]) == (1, 0)
    first = ok(world, "denylist", "export", "e.denylist", "--scheme", "empty")
    assert (first["version"], first["cards"]) == (1, 0)
    message = refused(world, 1, "denylist", "export", "x", "--change", "--scheme", "empty")
    assert "has not changed since its first version" in message


def test_a_list_of_cards_in_a_file(world: World) -> None:
    world.path("lost.txt").write_text(f"{ALICE}\n\n{RICH}\n", encoding="ascii")
    assert ok(world, "denylist", "add", "--list", "lost.txt", "--scheme", "city")["added"] == 2
    assert ok(world, "denylist", "remove", "--list", "lost.txt", "--scheme", "city")["removed"] == 2
    for content, words in ((b"0000", "no card's number"), (b"\xff\xfe", "no card's number")):
        world.path("lost.txt").write_bytes(content)
        assert words in refused(world, 2, "denylist", "add", "--list", "lost.txt", "--scheme", "city")
    assert "none.txt" in refused(world, 1, "denylist", "add", "--list", "none.txt", "--scheme", "city")


def test_the_same_list_with_a_new_date(world: World) -> None:
    ok(world, "denylist", "add", RICH, "--scheme", "city")
    renewed = ok(world, "denylist", "renew", "--scheme", "city")
    assert (renewed["version"], renewed["cards"], renewed["added"]) == (3, 1, 0)


def test_what_the_denylist_does_not_take(world: World) -> None:
    city = ("--scheme", "city")
    assert "name the cards" in refused(world, 2, "denylist", "add", *city)
    assert "name the cards" in refused(world, 2, "denylist", "remove", *city)
    for wrong in ("1", "alice.card", ALICE + "00", "zz" * 8, "ａ" * 16):
        assert "no card's number" in refused(world, 2, "denylist", "add", wrong, *city)
    foreign = refused(world, 1, "denylist", "add", "0000099900000001", *city)
    assert "only cards of operator 00000101" in foreign
    assert "holds no clearing" in refused(world, 1, "denylist", "add", "--clones", *city)
    assert "holds no scheme" in refused(world, 1, "denylist", "add", ALICE, "--scheme", "nowhere")
    assert "missing" in refused(world, 2, "denylist", "add", ALICE).lower()
    assert ok(world, "denylist", "show", *city)["version"] == 1
    assert "folder/x" in refused(world, 1, "denylist", "export", "folder/x", *city)


def test_a_lost_denylist_is_told(world: World) -> None:
    world.path("city/denylist.bin").unlink()
    message = refused(world, 1, "denylist", "add", ALICE, "--scheme", "city")
    assert "denylist 1, which was published last; copy that list back from a backup" in message


def test_a_cloned_card_is_put_on_the_denylist(world: World) -> None:
    """Two tills, two copies of a card, one clearing: the proof leads to the list."""
    world.call("terminal", "new", "--scheme", "city", "--class", "retail", "kiosk")
    shutil.copyfile(world.path("alice.card"), world.path("copy.card"))
    assert pays(world)[0] == 0
    assert pays(world, "kiosk", "copy.card")[0] == 0
    for till in ("till", "kiosk"):
        assert world.call("sync", "--terminal", till, "--export", f"{till}.queue").code == 0
        assert world.call("clearing", "import", f"{till}.queue", "--scheme", "city").code == 0
    with open_clearing(world.path("city")) as clearing:
        assert [card.hex() for card in proven_clones(clearing)] == [ALICE]
    added = ok(world, "denylist", "add", "--clones", "--scheme", "city")
    assert (added["added"], added["cards"]) == (1, 1)
    again = ok(world, "denylist", "add", "--clones", RICH, "--scheme", "city")
    assert (again["added"], again["cards"]) == (1, 2)
    message = refused(world, 1, "card", "raise", ALICE, "--scheme", "city")
    assert "was cloned; block it instead" in message


# ---------------------------------------------------------------------- orders


def test_a_lost_card_is_blocked_at_the_next_terminal(world: World) -> None:
    blocked = ok(world, "card", "block", ALICE, "--scheme", "city")
    assert (blocked["card"], blocked["order"], blocked["number"]) == (ALICE, "block", 1)
    assert ok(world, "orders", "export", "o", "--scheme", "city")["orders"] == 1
    assert ok(world, "orders", "import", "o", "--terminal", "till")["taken"] == 1
    assert pays(world) == (1, "the card is blocked")
    assert world.shown()["blocked"] is True
    unblocked = ok(world, "card", "unblock", ALICE, "--scheme", "city")
    assert unblocked["number"] == 2
    assert ok(world, "orders", "export", "o2", "--scheme", "city")["orders"] == 1  # the block is undone
    assert ok(world, "orders", "export", "all", "--all", "--scheme", "city")["orders"] == 2
    ok(world, "orders", "import", "o2", "--terminal", "till")
    assert pays(world)[0] == 0
    ok(world, "orders", "import", "o", "--terminal", "till")  # an older one: the card refuses it
    assert pays(world)[0] == 0
    assert world.shown()["blocked"] is False


def test_an_order_raises_the_allowance_once(world: World) -> None:
    assert pays(world)[0] == 0
    message = refused(world, 1, "card", "raise", ALICE, "--scheme", "city")
    assert "holds no clearing" in message
    assert world.call("sync", "--terminal", "till", "--export", "q").code == 0
    assert world.call("clearing", "import", "q", "--scheme", "city").code == 0
    raised = ok(world, "card", "raise", ALICE, "--scheme", "city")
    assert (raised["order"], raised["acknowledged_sequence"], raised["acknowledged_fen"]) == ("raise", 2, 100)
    ok(world, "orders", "export", "o", "--scheme", "city")
    ok(world, "orders", "import", "o", "--terminal", "till")
    assert world.shown()["offline_fen"] == 100
    assert pays(world)[0] == 0
    shown = world.shown()
    assert (shown["acknowledged_sequence"], shown["offline_fen"]) == (2, 100)
    nothing = refused(world, 1, "card", "raise", "0000010100000063", "--scheme", "city")
    assert "nothing of card 0000010100000063 has arrived" in nothing


def test_what_an_order_does_not_take(world: World) -> None:
    for command in ("block", "unblock"):
        assert "was not issued by this scheme" in refused(
            world, 1, "card", command, "0000010100000063", "--scheme", "city"
        )
        assert "no card's number" in refused(world, 2, "card", command, "alice.card", "--scheme", "city")
    assert "no card's number" in refused(world, 2, "card", "raise", "1", "--scheme", "city")
    assert ok(world, "orders", "export", "o", "--scheme", "city")["orders"] == 0
    assert world.path("o").read_bytes() == b""


# ---------------------------------------------------------------------- keys


def test_the_acquirers_key_is_rotated_with_overlap(world: World) -> None:
    """Old and new tills take a card side by side; after the revocation the old one is renewed."""
    first = ok(world, "scheme", "authorities", "show", "--scheme", "city")
    assert first["version"] == 0
    rotated = world.call("scheme", "rotate", "acquirer", "--scheme", "city")
    assert "authority list  1" in rotated.out
    world.call("terminal", "new", "--scheme", "city", "--class", "retail", "kiosk")
    ok(world, "scheme", "authorities", "export", "a", "--scheme", "city")
    taken = ok(world, "scheme", "authorities", "import", "a", "--terminal", "till")
    assert (taken["version"], taken["changed"], taken["own_certificate_revoked"]) == (1, True, False)
    assert ok(world, "scheme", "authorities", "import", "a", "--terminal", "till")["changed"] is False
    for till in ("till", "kiosk", "till"):
        assert pays(world, till)[0] == 0
    states = {
        row["state"]: row["certificate"]
        for row in ok(world, "scheme", "authorities", "show", "--terminal", "till")["certificates"]  # type: ignore[attr-defined]
        if row["operator"] == "00000201"
    }
    assert sorted(states) == ["good", "signs"]
    revoked = ok(world, "scheme", "revoke", states["good"].upper(), "--scheme", "city")
    assert (revoked["revoked"], revoked["version"]) == (states["good"], 2)
    ok(world, "scheme", "authorities", "export", "b", "--scheme", "city")
    done = world.call("scheme", "authorities", "import", "b", "--terminal", "till")
    assert done.code == 0
    assert "own certificate is revoked" in done.err
    assert "hardwallet terminal renew till" in done.err
    paid = world.pay("1.00")
    assert paid.code == 1
    assert "is revoked" in paid.error["message"]
    assert "revoked since" in world.call("scheme", "authorities", "show", "--scheme", "city").out
    ok(world, "terminal", "renew", "till", "--scheme", "city")
    assert pays(world)[0] == 0
    assert pays(world, "kiosk")[0] == 0
    older = refused(world, 1, "scheme", "authorities", "import", "a", "--terminal", "till")
    assert "a list never goes back" in older


def test_the_issuers_key_is_rotated_with_overlap(world: World) -> None:
    """Cards of before are loaded on, orders of before and after reach them."""
    ok(world, "card", "block", ALICE, "--scheme", "city")
    ok(world, "scheme", "rotate", "issuer", "--scheme", "city")
    ok(world, "card", "load", "rich.card", "1.00", "--scheme", "city")
    ok(world, "scheme", "authorities", "export", "a", "--scheme", "city")
    ok(world, "scheme", "authorities", "import", "a", "--terminal", "till")
    ok(world, "orders", "export", "o", "--scheme", "city")
    ok(world, "orders", "import", "o", "--terminal", "till")
    assert pays(world) == (1, "the card is blocked")
    ok(world, "card", "unblock", ALICE, "--scheme", "city")
    ok(world, "orders", "export", "o", "--scheme", "city")
    ok(world, "orders", "import", "o", "--terminal", "till")
    assert pays(world)[0] == 0
    ok(world, "card", "load", "alice.card", "1.00", "--scheme", "city")


def test_a_compromised_key_is_out_at_once(world: World) -> None:
    data = ok(world, "scheme", "rotate", "acquirer", "--compromised", "--scheme", "city")
    states = [row["state"] for row in data["certificates"]]  # type: ignore[attr-defined]
    assert states == ["signs", "revoked", "signs"]
    ok(world, "scheme", "authorities", "export", "a", "--scheme", "city")
    taken = ok(world, "scheme", "authorities", "import", "a", "--terminal", "till")
    assert taken["own_certificate_revoked"] is True
    assert world.pay("1.00").code == 1


def test_what_keys_do_not_take(world: World) -> None:
    city = ("--scheme", "city")
    for name in ("root", "Issuer", ""):
        assert "has no key to rotate" in refused(world, 2, "scheme", "rotate", name, *city)
    for wrong in ("", "12", "zz" * 8):
        assert "no certificate's digest" in refused(world, 2, "scheme", "revoke", wrong, *city)
    assert "authorities show" in refused(world, 1, "scheme", "revoke", "00" * 8, *city)
    suite = read_trust(world.path("city")).suite
    assert suite.number == 1
    shown = ok(world, "scheme", "authorities", "show", *city)["certificates"]
    only = shown[0]["certificate"]  # type: ignore[index]
    assert "rotate its key first" in refused(world, 1, "scheme", "revoke", only, *city)
    for words in ((), (*city, "--terminal", "till")):
        assert "--scheme DIR or --terminal DIR" in refused(world, 2, "scheme", "authorities", "show", *words)
    assert "holds no terminal" in refused(world, 1, "terminal", "renew", "nowhere", *city)
    assert "holds no terminal" in refused(world, 1, "scheme", "authorities", "show", "--terminal", "nowhere")


@pytest.mark.parametrize("kind", ["nothing", "long", "altered", "foreign", "denylist"])
def test_an_authority_list_that_is_none(world: World, kind: str) -> None:
    """Each with its message; the terminal keeps what it had, and pays on."""
    ok(world, "scheme", "authorities", "export", "good", "--scheme", "city")
    raw = world.path("good").read_bytes()
    bad, words = world.path("bad"), ""
    if kind == "nothing":
        bad.write_bytes(b"")
        words = "is no authority list"
    elif kind == "long":
        with bad.open("wb") as file:
            file.truncate(2**30)
        words = "too long"
    elif kind == "altered":
        bad.write_bytes(raw[:-1] + bytes((raw[-1] ^ 1,)))
        words = "not signed by this scheme's root, or was altered"
    elif kind == "foreign":
        world.call("scheme", "init", "village")
        ok(world, "scheme", "authorities", "export", "bad", "--scheme", "village")
        words = "another scheme"
    else:
        ok(world, "denylist", "export", "bad", "--scheme", "city")
        words = "is no authority list"
    assert words in refused(world, 1, "scheme", "authorities", "import", "bad", "--terminal", "till")
    assert "bad2" in refused(world, 1, "scheme", "authorities", "import", "bad2", "--terminal", "till")
    assert ok(world, "scheme", "authorities", "show", "--terminal", "till")["version"] == 0
    assert pays(world)[0] == 0


def test_no_command_asks_for_a_passphrase(world: World) -> None:
    """Where none is found, it says so: nobody sits in front of a script."""
    world.path("city/key").unlink()
    for words in ("denylist add " + ALICE, "card block " + ALICE, "scheme rotate issuer", "orders export o"):
        done = world.typed(*words.split(), "--scheme", "city", stdin="secret\n")
        assert done.code == 1
        assert "HARDWALLET_PASSPHRASE" in done.err


def test_files_are_what_the_formats_say(world: World) -> None:
    """Whoever reads them with another program finds what is documented."""
    ok(world, "denylist", "add", ALICE, "--scheme", "city")
    ok(world, "denylist", "export", "d", "--scheme", "city")
    ok(world, "scheme", "authorities", "export", "a", "--scheme", "city")
    ok(world, "card", "block", ALICE, "--scheme", "city")
    ok(world, "orders", "export", "o", "--scheme", "city")
    bundle = read_trust(world.path("city")).bundle
    found = denylist.parse(world.path("d").read_bytes(), bundle)
    assert [card.hex() for card in found] == [ALICE]  # type: ignore[union-attr]
    assert authorities.parse(world.path("a").read_bytes(), bundle).version == 1
    order = m.parse_card_order(world.path("o").read_bytes())
    assert (order.card.hex(), order.kind) == (ALICE, m.KIND_BLOCK)
