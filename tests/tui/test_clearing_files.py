"""What the operator keeps and hands over as files: proofs of a cloned card, a backup of the books."""

import shutil
import subprocess

import pytest

from tests.tui.world import World, running


def arrive(world: World, terminal: str) -> None:
    """What a terminal holds arrives at clearing by file."""
    assert world.call("sync", "--terminal", terminal, "--export", "export").code == 0
    assert world.call("clearing", "import", "export", "--scheme", "city").code == 0


def report(world: World) -> dict[str, object]:
    """The report, without the evidence that the books were put back."""
    found: dict[str, object] = world.call("clearing", "report", "--scheme", "city", "--json").json
    return found


@pytest.mark.needs("openssl", "jq")
def test_a_cloned_card_is_handed_to_a_judge(world: World) -> None:
    none = world.call("clearing", "disputes", "--scheme", "city")
    assert (none.code, "none" in none.out) == (0, True)
    shutil.copyfile(world.path("alice.card"), world.path("clone.card"))
    world.pay("12.50")
    assert world.pay("2.00", terminal="bus", card="clone.card").code == 0
    for terminal in ("till", "bus"):
        arrive(world, terminal)
    listed = world.call("clearing", "disputes", "--scheme", "city", "--json").json
    assert [(row["kind"], row["provable"], row["file"]) for row in listed["disputes"]] == [
        ("clone", True, None)
    ]
    told = world.call("clearing", "disputes", "--scheme", "city", "--out", "disputes")
    assert (told.code, told.err) == (0, "")
    assert listed["root"] in told.out
    assert "clone" in told.out
    names = sorted(path.name for path in world.path("disputes").iterdir())
    assert names == [f"clone-{listed['disputes'][0]['digest'][:16]}.json", "judge-dispute.sh"]
    judged = subprocess.run(
        ["./judge-dispute.sh", names[0], "--root", listed["root"]],
        cwd=world.path("disputes"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (judged.returncode, judged.stderr) == (0, "")
    assert judged.stdout.splitlines()[-1].startswith(f"PROVEN: card {world.shown()['number']} has signed two")
    # Once more, the same bytes.
    before = world.path(f"disputes/{names[0]}").read_bytes()
    assert world.call("clearing", "disputes", "--scheme", "city", "--out", "disputes", "--json").code == 0
    assert world.path(f"disputes/{names[0]}").read_bytes() == before


def test_books_are_backed_up_while_served_and_put_back(world: World) -> None:
    world.pay("12.50")
    arrive(world, "till")
    with running(world.folder, "clearing", "serve", "--scheme", "city", "--port", "0") as clearing:
        clearing.line()
        made = world.call("clearing", "backup", "friday.backup", "--scheme", "city", "--json")
        assert (made.code, made.json["uploads"]) == (0, 1)
        refused = world.call("clearing", "restore", "friday.backup", "--scheme", "city", "--json")
        assert (refused.code, refused.error["kind"]) == (1, "books_in_use")
        assert "a clearing is running" in refused.error["message"]
    before = report(world)
    again = world.call("clearing", "backup", "friday.backup", "--scheme", "city")
    assert (again.code, "never overwrites" in again.err) == (1, True)
    world.pay("2.00", terminal="bus", card="rich.card")
    arrive(world, "bus")
    newer = report(world)
    refused = world.call("clearing", "restore", "friday.backup", "--scheme", "city")
    assert (refused.code, "1 records, 1 uploads" in refused.err) == (1, True)
    assert report(world) == newer
    done = world.call("clearing", "restore", "friday.backup", "--scheme", "city", "--force-older")
    assert (done.code, "let every terminal sync" in done.out) == (0, True)
    put_back = report(world)
    assert put_back["payees"] == before["payees"]
    assert [row["kind"] for row in put_back["evidence"]] == ["restored"]  # type: ignore[attr-defined]
    arrive(world, "bus")
    assert report(world)["payees"] == newer["payees"]
    assert report(world)["conservation"] == newer["conservation"]


def test_files_that_are_no_backups_are_refused(world: World) -> None:
    none = world.call("clearing", "backup", "friday.backup", "--scheme", "city")
    assert (none.code, "no books" in none.err) == (1, True)
    world.path("diary").write_text("dear diary", encoding="utf-8")
    for name, reason in (("diary", "is no backup"), ("missing", "cannot be put back")):
        refused = world.call("clearing", "restore", name, "--scheme", "city")
        assert (refused.code, reason in refused.err) == (1, True)
    nowhere = world.call("clearing", "backup", "x", "--scheme", "nowhere")
    assert nowhere.code == 1
    assert not world.path("nowhere").exists()
