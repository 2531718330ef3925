"""What was, and going back to it: history, list, diff, show, rollback, prune."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from packer_fork.locks import Holder, LockStatus
from packer_fork.manager import acquire
from packer_fork.model import PendingChange, Run, RunStatus
from packer_fork.responses import BuildDifference, ChangeEntry, Difference, Prunable, RunEntry
from packer_fork.stores.archive import history
from packer_fork.stores.local.store import LocalStore
from tests.conftest import Cli, Project
from tests.support import states
from tests.support.local_store import holder, open_store
from tests.support.queries import (
    ONE,
    answer,
    answers,
    built,
    done,
    fields,
    is_up_to_date,
    kept,
    refused,
    runs,
    serials,
)
from tests.support.store_operations import in_a_process
from tests.support.templates import TWO
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.usefixtures("packer")


def git(root: Path, *args: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "-C", str(root), *who, *args], check=True, capture_output=True)


@pytest.fixture
def three_runs(cli: Cli, project: Project) -> Path:
    """Run 1 on main; on feature run 2, in which null.b fails, and run 3 of null.a alone."""
    return cli.prepared("three runs", lambda: build_three_runs(cli, project))


def build_three_runs(cli: Cli, project: Project) -> Path:
    project.write("t.pkr.hcl", TWO)
    git(project.root, "init", "--quiet", "--initial-branch=main")
    git(project.root, "commit", "--quiet", "--allow-empty", "-m", "begin")
    done(cli, "build", "t.pkr.hcl")
    git(project.root, "switch", "--quiet", "-c", "feature")
    assert cli("build", "-var", "bad=b", "t.pkr.hcl").rc == 1
    done(cli, "build", "--rebuild", "-only=null.a", "t.pkr.hcl")
    return states.folder(project.root)


FILTERS: dict[tuple[str, ...], list[int]] = {
    (): [3, 2, 1],
    ("--status", "failed"): [2],
    ("--status", "complete"): [3, 2, 1],
    ("--status", "cancelled"): [],
    ("--build", "null.b"): [2, 1],
    ("--build", "null.b", "--status", "complete"): [1],
    ("--build", "null.a", "--status", "failed"): [],
    ("--build", "null.c"): [],
    ("--branch", "main"): [1],
    ("--branch", "feature", "--status", "complete"): [3, 2],
    ("--since", "1d"): [3, 2, 1],
    ("--until", "1d"): [],
    ("--limit", "1"): [3],
    ("--limit", "2", "--page", "2"): [1],
    ("--limit", "1", "--page", "2", "--branch", "feature"): [2],
    ("--limit", "2", "--page", "3"): [],
    ("--limit", "0"): [3, 2, 1],
}


@pytest.mark.usefixtures("three_runs")
def test_list_finds_the_runs_that_are_asked_for(cli: Cli) -> None:
    assert {asked: runs(cli, *asked) for asked in FILTERS} == FILTERS
    entries = answers(cli, "runs")
    assert {frozenset(each) for each in entries} == {frozenset(fields(RunEntry))}
    second = entries[1]["run"]["started"]
    assert runs(cli, "--since", second) == [3, 2]
    assert runs(cli, "--until", second) == [2, 1]
    assert runs(cli, "--since", second, "--until", second) == [2]
    told = [(b["name"], b["status"]) for b in entries[1]["builds"]]
    assert told == [("null.a", "complete"), ("null.b", "failed")]
    assert [b["name"] for b in entries[0]["builds"]] == ["null.a"]


@pytest.mark.usefixtures("three_runs")
def test_runs_and_changes_for_people(cli: Cli) -> None:
    listed = cli("state", "runs").out.splitlines()
    assert listed[0].split()[:2] == ["RUN", "STATUS"]
    assert [line.split()[0] for line in listed[1:]] == [
        *("3", "2", "null.b", "error:", "1", "null.b"),
    ]
    assert "feature" in listed[1]
    changes = cli("state", "history", "--limit", "2", "--page", "2").out.splitlines()
    newest = serials(cli)[0]
    assert [line.split()[0] for line in changes] == ["SERIAL", str(newest - 2), str(newest - 3)]
    none = cli("state", "runs", "--branch", "nobody's")
    assert (none.rc, none.out) == (0, "")
    assert "no run matches" in none.err
    refused(cli, "state", "runs", "--status", "broken", rc=2, text="choose one of: ")
    refused(cli, "state", "runs", "--since", "yesterday", rc=2, text="'yesterday' is not a time")
    refused(cli, "state", "runs", "--until", "2026-13-01", rc=2, text="--until")


@pytest.mark.usefixtures("three_runs")
def test_history_diff_and_show_tell_of_the_same_points(cli: Cli) -> None:
    changes = answers(cli, "history", "--limit", "0")
    found = [change["serial"] for change in changes]
    assert found == list(range(found[0], 0, -1))
    assert set().union(*changes) <= fields(ChangeEntry)
    required = {"serial", "at", "by", "operation", "token"}
    assert all(required <= set(change) for change in changes)
    assert set(changes[-1]) == required, "what is not set is left out"
    of_two = answers(cli, "history", "--run", "2", "--limit", "0")
    assert of_two == [change for change in changes if change.get("run") == 2]
    assert [of_two[n]["operation"] for n in (0, -1)] == ["finish", "start"]
    assert answers(cli, "history", "--limit", "3", "--page", "2") == changes[3:6]
    compare_points(cli, last_of_two=of_two[0]["serial"])


def compare_points(cli: Cli, *, last_of_two: int) -> None:
    shown = answer(cli, "show", "--run", "2")
    assert shown == answer(cli, "show", "--serial", str(last_of_two))
    assert shown["serial"] == last_of_two
    assert "key" not in shown
    assert {n: b["status"] for n, b in shown["builds"].items()} == {
        "null.a": "complete",
        "null.b": "failed",
    }
    one = answer(cli, "show", "--run", "1", "--build", "null.b")
    assert (one["run"], one["status"]) == (1, "complete")
    found = answer(cli, "diff", "run:1", str(last_of_two))
    assert set(found) == fields(Difference)
    assert {frozenset(each) for each in found["builds"]} == {frozenset(fields(BuildDifference))}
    (b,) = (each for each in found["builds"] if each["name"] == "null.b")
    assert b["kind"] == "changed"
    assert {"complete -> failed", "run 1 -> 2"} <= set(b["what"])
    assert any("bad" in what for what in b["what"]), "the variable that made the difference"
    told = cli("state", "diff", "run:2", "run:2").out
    assert told == f"from serial {last_of_two} to serial {last_of_two}: no build differs\n"
    refused(cli, "state", "diff", "1", "last", rc=2, text="'last' is not a point of the history")
    refused(cli, "state", "diff", "1", "run:9", rc=2, text="there is no run 9")
    refused(cli, "state", "show", "--serial", "99", rc=2, text="it keeps serials 0 to")
    refused(cli, "state", "show", "--serial", "1", "--run", "1", rc=2, text="exclude each other")


def test_the_key_is_shown_nowhere(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    key = states_key(cli)
    shown = [
        cli("state", "show", "--json"),
        cli("state", "show", "t.pkr.hcl", "--json"),
        cli("state", "show", "--serial", "1", "--json"),
        cli("state", "show", "--run", "1", "--json"),
        cli("state", "history", "--json"),
        cli("state", "runs", "--json"),
        cli("state", "check", "--json"),
    ]
    assert [(result.rc, key in result.out + result.err) for result in shown] == [(0, False)] * 7


def states_key(cli: Cli) -> str:
    import json

    key = json.loads(cli("state", "pull", "t.pkr.hcl").out)["key"]
    assert len(key) == 64
    return str(key)


def without_runs(document: Any) -> Any:
    return {name: document[name] for name in ("builds", "inputs")}


def test_rollback_brings_builds_back_and_never_numbers(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1", "2")
    before = states.state(cli)
    first = answer(cli, "show", "--run", "1")
    told = done(cli, "state", "rollback", "run:1", "--yes")
    assert f"from serial {before['serial']} to serial {first['serial']}" in told
    assert "run 2 -> 1" in told
    after = states.state(cli)
    assert without_runs(after) == without_runs(first)
    assert after["serial"] == before["serial"] + 1
    assert after["last_run"] == before["last_run"]
    (backup,) = answer(cli, "backup", "--list")
    assert (backup["reason"], backup["serial"]) == ("restore", before["serial"])
    assert backup["path"] in told
    change = answers(cli, "history", "--limit", "1")[0]
    assert (change["operation"], change["why"]) == ("restore", f"serial {first['serial']}")
    assert is_up_to_date(cli, "-var", "x=1"), "as it was then"
    done(cli, "state", "rollback", str(before["serial"]), "--yes")
    assert without_runs(states.state(cli)) == without_runs(before)
    done(cli, "build", "-var", "x=3", "t.pkr.hcl")
    assert runs(cli) == [3, 2, 1]
    assert len(set(serials(cli))) == len(serials(cli))
    assert cli("state", "check").rc == 0
    assert sorted(p.name for p in (folder / "logs").iterdir()) == ["1-1.log", "2-1.log", "3-1.log"]


def test_rollback_takes_an_abandoned_lock_over(cli: Cli, project: Project) -> None:
    """Which is a change, but none of what was looked at."""
    folder = built(cli, project, "1", "2")
    with in_a_process(lambda: open_store(folder).try_acquire(holder("killed"))):
        assert states.status(cli) == "held"
    assert states.status(cli) == "abandoned"
    first = answer(cli, "show", "--run", "1")
    done(cli, "state", "rollback", "run:1", "--yes")
    assert without_runs(states.state(cli)) == without_runs(first)
    newest = [change["operation"] for change in answers(cli, "history", "--limit", "2")]
    assert newest == ["restore", "take-over"]


def test_rollback_to_the_midst_of_a_run(cli: Cli, project: Project) -> None:
    built(cli, project, "1")
    start = serials(cli, "start")[0]
    done(cli, "state", "rollback", str(start), "--yes")
    build = states.state(cli)["builds"]["null.n"]
    assert build["status"] == "interrupted"
    assert build["error"] == "taken from the midst of run 1"
    assert "ended" in build
    assert not is_up_to_date(cli)
    assert states.status(cli) == "free"
    assert "nothing to recover" in done(cli, "state", "recover", "t.pkr.hcl")
    done(cli, "build", "t.pkr.hcl")
    assert states.state(cli)["builds"]["null.n"]["run"] == 2


def test_rollback_asks_first(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1", "2")
    before = kept(folder)
    no_one = cli("state", "rollback", "run:1")
    assert no_one.rc == 2
    assert "run 2 -> 1" in no_one.err
    assert "--yes" in no_one.err
    no = on_terminal(cli, "state", "rollback", "run:1", steps=[("Restore?", "n\r")]).wait()
    assert no.rc == 2
    assert "Nothing was done" in no.out
    refused(cli, "state", "rollback", "--yes", rc=2, text="missing argument: SERIAL|run:N|FILE")
    refused(cli, "state", "rollback", "t.pkr.hcl", "--yes", rc=2, text="t.pkr.hcl")
    refused(cli, "state", "rollback", "999", "--yes", rc=2, text="no serial 999")
    same = done(cli, "state", "rollback", "run:2")
    assert "no build differs" in same
    assert kept(folder) == before
    yes = on_terminal(cli, "state", "rollback", "run:1", steps=[("Restore?", "y\r")]).wait()
    assert yes.rc == 0, yes
    assert states.state(cli)["builds"]["null.n"]["run"] == 1


def test_rollback_where_there_is_no_state(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE)
    refused(cli, "state", "rollback", "run:1", rc=2, text="0 states below this directory")
    refused(cli, "state", "rollback", "t.pkr.hcl", "run:1", rc=2, text="no state yet")


BACKED_UP = "backup_every = 1\nkeep_backups = 1\n"
"""A backup keeps the segment that it names from growing: so there is one for each run."""


def test_prune_lets_go_of_old_runs_and_their_logs(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", BACKED_UP)
    folder = built(cli, project, "1", "2", "3", "4")
    before, files = without_runs(states.state(cli)), kept(folder)
    would = answer(cli, "prune", "--keep-runs", "2", "--dry-run")
    assert set(would) == fields(Prunable)
    assert (would["runs"], would["kept_from"]) == (2, 3)
    assert kept(folder) == files, "nothing was done"
    assert answer(cli, "prune", "--keep-runs", "2") == would
    assert without_runs(states.state(cli)) == before
    assert runs(cli) == [4, 3]
    assert min(serials(cli)) == would["last"] + 1
    assert sorted(p.name for p in (folder / "logs").iterdir()) == ["3-1.log", "4-1.log"]
    assert len(list((folder / "history").iterdir())) < len([n for n in files if "history" in n])
    found = answer(cli, "check", "t.pkr.hcl")["found"]
    assert (found["problems"], found["unused"]) == ([], [])
    refused(cli, "state", "show", "--run", "1", rc=2, text="there is no run 1")
    again = cli("state", "prune", "--keep-runs", "2")
    assert again.out.startswith("nothing to prune")
    prune_by_settings(cli, project)


def prune_by_settings(cli: Cli, project: Project) -> None:
    """At the end of a build, by count; but not what is young enough."""
    project.write("packer-fork.toml", f"{BACKED_UP}keep_runs = 1\nkeep_days = 1\n")
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert runs(cli) == [5, 4, 3]
    project.write("packer-fork.toml", f"{BACKED_UP}keep_runs = 1\n")
    done(cli, "build", "--rebuild", "t.pkr.hcl")
    assert runs(cli) == [6]
    assert states.statuses(cli) == {"null.n": "complete"}
    assert cli("state", "check").rc == 0


def test_prune_by_age(cli: Cli, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SEGMENT_SIZE", 1)
    project.write("t.pkr.hcl", ONE)
    folder = states.folder(project.root)
    for number, days in enumerate((400, 40, 20, 1), 1):
        run_of_long_ago(folder, number, timedelta(days=days))
    assert answer(cli, "prune", "--dry-run") == {
        "cut": "",
        "last": 0,
        "segments": 0,
        "runs": 0,
        "kept_from": 0,
    }
    assert runs(cli) == [4, 3, 2, 1]
    assert answer(cli, "prune", "--keep-days", "30", "--keep-runs", "3", "--dry-run")["runs"] == 1
    assert answer(cli, "prune", "--keep-days", "30")["runs"] == 2
    assert runs(cli) == [4, 3]


def run_of_long_ago(folder: Path, number: int, age: timedelta) -> None:
    """A run in a segment of its own."""
    store = LocalStore(
        folder,
        root=folder.parent.parent,
        template="t.pkr.hcl",
        workspace="default",
        complain=pytest.fail,
    )
    lock = store.try_acquire(asking())
    assert not isinstance(lock, LockStatus)
    started = datetime.now(UTC) - age
    run = Run(
        number=number,
        token=lock.record.token,
        started=started,
        by=asking().by,
        status=RunStatus.COMPLETE,
        ended=started,
    )
    if store.read() is None:
        lock.commit(PendingChange(operation="create"))
    lock.commit(PendingChange(operation="start", last_run=run))
    lock.compact()
    lock.close()


def asking() -> Holder:
    return acquire.holder(
        "test", template="t.pkr.hcl", workspace="default", command=("test",), environ={}
    )


def test_prune_removes_what_nothing_names(cli: Cli, project: Project) -> None:
    folder = built(cli, project, "1")
    stray = folder / "history" / f"{'0' * 64}.zst"
    stray.write_bytes(b"of a writer that was killed")
    found = cli("state", "check")
    assert found.rc == 0
    assert f"unused: {stray}" in found.out
    assert cli("state", "prune").rc == 0
    assert not stray.exists()
    assert runs(cli) == [1]
