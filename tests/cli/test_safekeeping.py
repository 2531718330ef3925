"""Against loss and damage: backup, restore, verify, repair, and a lock that is held."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packer_fork.responses import Backup, Problem, Verified
from packer_fork.views.history import VerifiedEntry
from tests.conftest import Cli, Project
from tests.support import states
from tests.support.queries import (
    ONE,
    answer,
    answers,
    built,
    done,
    fields,
    flip,
    is_up_to_date,
    kept,
    refused,
    runs,
    serials,
)
from tests.support.templates import GATED, begun, go_on
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.usefixtures("packer")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def run_of(cli: Cli) -> int:
    """Which run the build comes from that the state has now."""
    return int(states.state(cli)["builds"]["null.n"]["run"])


def test_backups_of_both_kinds(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    serial = serials(cli)[0]
    (made,) = answer(cli, "backup")
    assert set(made) == fields(Backup)
    assert (made["serial"], made["reason"]) == (serial, "manual")
    assert Path(made["path"]).parent == folder / "backups"
    assert Path(made["path"]).stat().st_size == made["size"]
    assert answer(cli, "backup", "--list") == [made]
    listed = cli("state", "backup", "--list").out.splitlines()
    assert listed[0].split() == ["SERIAL", "WHEN", "WHY", "SIZE", "FILE"]
    assert listed[1].endswith(f"  {made['path']}")
    told = done(cli, "state", "backup", "--to", "b.tar")
    assert "wrote state and history to b.tar" in told
    with tarfile.open(project.root / "b.tar") as archive:
        names = archive.getnames()
    stored = (f"history/{path.name}" for path in (folder / "history").iterdir())
    assert sorted(names) == [*sorted(stored), "state.json"]
    assert mode(project.root / "b.tar") == mode(Path(made["path"])) == 0o600
    assert serials(cli)[0] == serial, "a backup is no change"
    (other,) = answer(cli, "backup", "--to", "c.tar")
    assert (other["path"], other["serial"]) == ("c.tar", serial)
    assert other["size"] == (project.root / "c.tar").stat().st_size
    refused(cli, "state", "backup", "--to", "b.tar", rc=2, text="b.tar exists")
    refused(cli, "state", "backup", "--to", "no/b.tar", rc=2, text="cannot write no/b.tar")
    assert sorted(path.name for path in project.root.iterdir()) == [
        ".packer-fork",
        "b.tar",
        "c.tar",
        "t.pkr.hcl",
    ]


def test_there_is_nothing_to_back_up_yet(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE)
    template = "t.pkr.hcl"
    refused(cli, "state", "backup", template, "--to", "b.tar", rc=10, text="t.pkr.hcl has no state")
    refused(cli, "state", "backup", template, rc=10, text="There is no state")
    assert answer(cli, "backup", "--list", template) == []
    assert not (project.root / "b.tar").exists()


def both_kinds(cli: Cli, project: Project) -> Iterator[Path]:
    """A backup in a file of its own, and a copy of one that the store made."""
    done(cli, "state", "backup", "--to", "b.tar")
    (made,) = answer(cli, "backup")
    yield project.root / "b.tar"
    yield Path(shutil.copy(made["path"], project.root / "kept.zst"))


def test_restore_brings_builds_back_and_never_numbers(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    first = states.state(cli)
    for file in list(both_kinds(cli, project)):
        done(cli, "build", "--rebuild", "-var", "x=2", "t.pkr.hcl")
        before, files = states.state(cli), kept(folder)
        unasked = cli("state", "restore", file.name)
        assert unasked.rc == 2
        assert f"run {before['last_run']['number']} -> 1" in unasked.err
        assert kept(folder) == files
        done(cli, "state", "restore", file.name, "--yes")
        after = states.state(cli)
        assert after["builds"] == first["builds"]
        assert after["serial"] == before["serial"] + 1
        assert after["last_run"] == before["last_run"]
        backup = answer(cli, "backup", "--list")[-1]
        assert (backup["reason"], backup["serial"]) == ("restore", before["serial"])
        change = answers(cli, "history", "--limit", "1")[0]
        assert change["operation"] == "restore"
        assert change["why"] == f"{file.name}, serial {first['serial']}"
        assert "no build differs" in done(cli, "state", "restore", file.name)
    assert is_up_to_date(cli)
    assert runs(cli) == [3, 2, 1]
    assert serials(cli) == list(range(serials(cli)[0], 0, -1))


def test_restore_where_nothing_is(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1", "2")
    before, changes = states.state(cli), serials(cli)
    whole, alone = both_kinds(cli, project)
    for file, listed in ((whole, [2, 1]), (alone, [])):
        shutil.rmtree(project.root / ".packer-fork")
        refused(cli, "state", "restore", file.name, "--yes", rc=2, text="0 states below")
        told = done(cli, "state", "restore", "t.pkr.hcl", file.name, "--yes")
        assert f"serial {before['serial']} with 1 builds" in told
        after = states.state(cli)
        assert after["builds"] == before["builds"]
        assert after["lineage"] == before["lineage"]
        assert after["serial"] > before["serial"]
        assert runs(cli) == listed
        assert is_up_to_date(cli, "-var", "x=2")
        assert cli("state", "check").rc == 0
        assert {mode(path) for path in folder.rglob("*") if path.is_file()} == {0o600}
        assert serials(cli, "restore") == [after["serial"]]
    done(cli, "state", "restore", "b.tar", "--yes")
    shutil.rmtree(project.root / ".packer-fork")
    done(cli, "state", "restore", "t.pkr.hcl", "b.tar", "--yes")
    assert serials(cli)[-len(changes) :] == changes, "with all of its history"
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert runs(cli) == [3, 2, 1]


def test_restore_onto_a_damaged_state(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    done(cli, "state", "backup", "--to", "b.tar")
    done(cli, "build", "--rebuild", "-var", "x=2", "t.pkr.hcl")
    newest = serials(cli)[0]
    flip(folder / "state.json", 20)
    damaged = (folder / "state.json").read_bytes()
    refused(cli, "state", "show", "t.pkr.hcl", "--json", rc=10, text="state.json, byte 0")
    refused(cli, "build", "t.pkr.hcl", rc=10, text="packer-fork state check --repair")
    done(cli, "state", "restore", "b.tar", "--yes")
    assert cli("state", "check").rc == 0
    assert run_of(cli) == 1
    assert is_up_to_date(cli)
    (aside,) = (folder / "backups").glob("damaged-*")
    assert (aside / "state.json").read_bytes() == damaged
    assert serials(cli)[0] > newest, "what was acknowledged is not said again of something else"
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert states.state(cli)["last_run"]["number"] == 3, "run 2 has a log, which must stay"


def test_a_number_of_a_run_comes_once_although_nothing_tells_of_it(
    cli: Cli, project: Project
) -> None:
    """The backup is older than the run, its log was pruned, the state is damaged."""
    project.write("packer-fork.toml", "backup_every = 1\n")  # more segments, to be let go of
    folder = built(cli, project, "1")
    done(cli, "state", "backup", "--to", "b.tar")
    for value in ("2", "3", "4"):
        done(cli, "build", "-var", f"x={value}", "t.pkr.hcl")
    done(cli, "state", "prune", "--keep-runs", "2")
    assert {path.name for path in (folder / "logs").iterdir()} == {"3-1.log", "4-1.log"}
    flip(folder / "state.json", 20)
    done(cli, "state", "restore", "b.tar", "--yes")
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert run_of(cli) == 5


def test_a_backup_of_another_state_is_refused(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    project.write("other.pkr.hcl", ONE)
    done(cli, "build", "other.pkr.hcl")
    done(cli, "state", "backup", "other.pkr.hcl", "--to", "other.tar")
    (made,) = answer(cli, "backup", "other.pkr.hcl")
    before = kept(folder)
    for file in ("other.tar", made["path"]):
        command = ("state", "restore", "t.pkr.hcl", file, "--yes")
        refused(cli, *command, rc=10, text="is a backup of another state")
    refused(cli, "state", "restore", "other.tar", "--yes", rc=2, text="There are 2 states")
    assert kept(folder) == before
    flip(folder / "state.json", 20)
    before = kept(folder)
    refused(cli, *command, rc=10, text="is a backup of another state")
    assert kept(folder) == before, "a damaged state is of a lineage as well"


def test_a_file_that_is_no_sound_backup_is_named(cli: Cli, project: Project) -> None:
    """The state itself is not damaged, and nobody shall be sent to repair it."""
    folder = built(cli, project, "1")
    before = kept(folder)
    project.write("words.txt", "this is no backup")
    project.write("empty", "")
    done(cli, "state", "backup", "--to", "b.tar")
    (made,) = answer(cli, "backup")
    cut = project.root / "cut.zst"
    cut.write_bytes(Path(made["path"]).read_bytes()[:-9])
    for name in ("words.txt", "empty", "cut.zst", ".", "missing"):
        result = cli("state", "restore", name, "--yes")
        assert result.rc in (2, 10), result
        assert name in result.err
        assert "fault of packer-fork" not in result.err
        assert "The state is damaged" not in result.err, "it is the file that is"
        assert "--repair" not in result.err
    assert {n: d for n, d in kept(folder).items() if "backups" not in n} == before


def test_a_backup_with_a_damaged_segment_is_not_put_in_place(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    done(cli, "state", "backup", "--to", "b.tar")
    with tarfile.open(project.root / "b.tar") as archive:
        (segment,) = (each for each in archive if each.name.startswith("history/"))
    flip(project.root / "b.tar", segment.offset_data + segment.size // 2)
    shutil.rmtree(project.root / ".packer-fork")
    command = ("state", "restore", "t.pkr.hcl", "b.tar", "--yes")
    told = refused_after_a_look(cli, *command)
    assert "b.tar" in told.partition("packer-fork:")[2], "which file is damaged"
    assert cli("state", "show", "t.pkr.hcl", "--json").out.strip() == "null"


def refused_after_a_look(cli: Cli, *command: str) -> str:
    result = cli(*command)
    assert result.rc == 10, result
    return result.err


def test_verify_names_file_byte_and_remedy(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    (made,) = answer(cli, "backup")
    sound = cli("state", "check")
    assert sound.rc == 0
    assert sound.out.startswith("t.pkr.hcl: sound (serials 0 to ")
    entry = answer(cli, "check", "t.pkr.hcl")
    assert set(entry) == fields(VerifiedEntry)
    assert set(entry["found"]) == fields(Verified)
    assert answer(cli, "check") == {"states": [entry]}
    (segment,) = (folder / "history").iterdir()
    backup = Path(made["path"])
    for path in (folder / "state.json", segment, backup):
        whole = path.read_bytes()
        flip(path, len(whole) // 2)
        (problem,) = answer(cli, "check", "t.pkr.hcl", rc=10)["found"]["problems"]
        assert set(problem) == fields(Problem)
        assert problem["file"] == str(path)
        assert problem["affected"]
        told = cli("state", "check")
        assert told.rc == 10
        assert f"  {path}, byte {problem['offset']}: {problem['what']}" in told.out
        assert "hint: packer-fork state check --repair" in told.out
        path.write_bytes(whole)
    (folder / "state.json").unlink()
    missing = cli("state", "check")
    assert missing.rc == 10
    assert str(folder / "state.json") in missing.out


def damage(folder: Path) -> dict[str, bytes]:
    """One bit of the state and of a segment; what all files are then."""
    (segment,) = (folder / "history").iterdir()
    flip(folder / "state.json", 20)
    flip(segment, segment.stat().st_size // 2)
    return kept(folder)


def test_repair_asks_and_loses_only_what_it_says(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1", "2")
    before = states.state(cli)
    assert "nothing is damaged" in done(cli, "state", "check", "--repair", "--yes")
    assert states.state(cli) == before
    done(cli, "state", "backup")
    damaged = damage(folder)
    unasked = cli("state", "check", "--repair")
    assert unasked.rc == 2
    assert f"recoverable: serial {before['serial']} with 1 builds, from" in unasked.err
    assert "lost: the history of serials 1 to" in unasked.err
    assert "--yes" in unasked.err
    no = on_terminal(cli, "state", "check", "--repair", steps=[("Repair?", "n\r")]).wait()
    assert no.rc == 2
    assert "Nothing was done" in no.out
    assert kept(folder) == damaged
    yes = on_terminal(cli, "state", "check", "--repair", steps=[("Repair?", "y\r")]).wait()
    assert yes.rc == 0, yes
    assert cli("state", "check").rc == 0
    assert states.state(cli)["builds"] == before["builds"]
    assert states.state(cli)["serial"] == before["serial"] + 1
    (aside,) = (folder / "backups").glob("damaged-*")
    assert (aside / "state.json").read_bytes() == damaged["state.json"]
    assert is_up_to_date(cli, "-var", "x=2")
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert states.state(cli)["last_run"]["number"] == 3
    assert runs(cli) == [3], "the history of the others was lost, as was said"


def test_repair_from_the_history_without_a_question(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    before = states.state(cli)
    flip(folder / "state.json", 20)
    told = done(cli, "state", "check", "--repair", "--yes")
    assert "lost: nothing" in told
    assert states.state(cli)["builds"] == before["builds"]
    assert runs(cli) == [1]
    assert "nothing is damaged" in done(cli, "state", "check", "--repair")


def test_repair_where_nothing_is_left(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    shutil.rmtree(folder / "history")
    (folder / "state.json").write_bytes(b"\0" * 500)
    before = kept(folder)
    refused(
        cli, "state", "check", "--repair", "--yes", rc=10, text="packer-fork state restore FILE"
    )
    assert kept(folder) == before


def scheduled(cli: Cli) -> list[int]:
    """The serials of the backups that were made by themselves."""
    found = answer(cli, "backup", "--list")
    return [each["serial"] for each in found if each["reason"] == "scheduled"]


def test_backups_by_themselves(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", "backup_every = 1\nkeep_backups = 2\n")
    built(cli, project, "1")
    newest = serials(cli)[0]
    assert scheduled(cli) == [newest]
    (asked,) = answer(cli, "backup")
    ends = [newest]
    for _ in range(2):
        done(cli, "build", "--rebuild", "t.pkr.hcl")
        ends.append(serials(cli)[0])
    assert scheduled(cli) == ends[-2:], "the oldest has gone"
    assert asked in answer(cli, "backup", "--list"), "but not what was asked for"
    assert done(cli, "build", "t.pkr.hcl"), "nothing to build"
    assert scheduled(cli) == ends[-2:]
    for every in (0, 1000):
        project.write("packer-fork.toml", f"backup_every = {every}\n")
        done(cli, "build", "--rebuild", "t.pkr.hcl")
        assert scheduled(cli) == ends[-2:], "never, or not so many changes yet"
    enough = serials(cli)[0] + 1 - ends[-1]
    project.write("packer-fork.toml", f"backup_every = {enough}\n")
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert scheduled(cli) == [*ends[-2:], serials(cli)[0]]


def test_a_backup_of_the_store_keeps_its_history(cli: Cli, project: Project) -> None:
    """What a backup names stays as long as the backup does."""
    folder = built(cli, project, "1")
    done(cli, "state", "backup")
    named = {path.name for path in (folder / "history").iterdir()}
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert named < {path.name for path in (folder / "history").iterdir()}
    assert runs(cli) == [2, 1]
    assert cli("state", "check").rc == 0


GO_PROGRAM = {"version": 1, "serial": 1, "lineage": "go", "builds": {}}


def test_a_running_build_keeps_others_from_changing_the_state(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    go_on(project.root)
    done(cli, "build", "t.pkr.hcl")
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    project.write("pulled.json", cli("state", "pull").out)
    project.write("go.json", json.dumps(GO_PROGRAM))
    done(cli, "state", "rollback", "run:1", "--yes")
    done(cli, "state", "backup", "--to", "b.tar")
    for name in ("go", "begun"):
        (project.root / name).unlink()
    running = begun(cli, project, "--rebuild", "t.pkr.hcl")
    for command in LOOKING:
        assert cli("state", *command).rc == 0, command
    (backup,) = (states.folder(project.root) / "backups").iterdir()
    flip(backup, 20)  # something to repair
    for command in CHANGING:
        refused_by_lock(cli, *command)
    go_on(project.root)
    assert running.wait().rc == 0
    assert serials(cli) == list(range(serials(cli)[0], 0, -1))
    assert not (project.root / "there").exists()
    assert list(backup.parent.iterdir()) == [backup]


CHANGING: list[tuple[str, ...]] = [
    ("rollback", "run:2", "--yes"),
    ("prune", "--keep-runs", "1"),
    ("check", "--repair", "--yes"),
    ("recover",),
    ("backup",),
    ("restore", "b.tar", "--yes"),
    ("push", "pulled.json", "--force", "--yes"),
    ("migrate", "--to", "there"),
    ("import", "t.pkr.hcl", "go.json"),
    ("rm", "--build", "null.n", "--yes"),
    ("rm", "--instance", "i-1"),
]

LOOKING: list[tuple[str, ...]] = [
    ("show",),
    ("history",),
    ("list",),
    ("runs",),
    ("diff", "run:1", "run:2"),
    ("prune", "--keep-runs", "1", "--dry-run"),
    ("backup", "--list"),
    ("backup", "--to", "meanwhile.tar"),
    ("check",),
    ("pull",),
]


def refused_by_lock(cli: Cli, *command: str) -> None:
    result = cli("state", *command)
    assert result.rc == 11, (command, result)
    assert "The lock is held by" in result.err
    assert "lock status" in result.err
    assert "PACKER_FORK_LOCK_TIMEOUT=30m" in result.err
    for option in ("--lock-timeout", "--workspace"):
        assert option not in result.err, "which the command lacks, or which is of no use"


def test_a_failed_instance_is_on_record_after_a_rollback(cli: Cli, project: Project) -> None:
    """Going back does not make a machine vanish that may still run somewhere."""
    built(cli, project, "1")
    document: Any = json.loads(cli("state", "pull").out)
    document["builds"]["null.n"] |= {
        "status": "failed",
        "instance": {"id": "i-1", "provider": "amazon"},
        "evidence": {},
        "leftovers": [{"id": "i-0"}],
    }
    project.write("pushed.json", json.dumps(document))
    done(cli, "state", "push", "pushed.json", "--yes")
    done(cli, "state", "rollback", "run:1", "--yes")
    build = states.state(cli)["builds"]["null.n"]
    assert build["status"] == "complete"
    assert [each["id"] for each in build["leftovers"]] == ["i-0", "i-1"]
    gone = done(cli, "state", "rollback", "1", "--yes")
    assert "may have leaked i-0; the state forgets it" in gone
    assert "may have leaked amazon i-1; the state forgets it" in gone
