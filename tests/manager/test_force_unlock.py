"""The ways out for an operator: kill, allow-live, if-abandoned; and late results."""

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

import packer_fork
from packer_fork.codec.builds import decode_build
from packer_fork.config import Settings
from packer_fork.errors import EXIT_OUTBOX, LockedError
from packer_fork.events import Event, ItemStarted
from packer_fork.locks import Holder, LockStatus, Status
from packer_fork.manager.build import outbox, recovery
from packer_fork.manager.build.log_files import LogFiles
from packer_fork.manager.lock import unlock
from packer_fork.manager.state_ref import StateFolder, StateRef
from packer_fork.model import Build, BuildStatus, Late, PendingChange, Run, WorkItem
from tests.conftest import Cli, Project, Running, eventually
from tests.support import raw_log, states
from tests.support.local_store import holder, open_store
from tests.support.store_operations import ANY, lock_of
from tests.support.templates import FAST_AND_GATED, GATED, NULL_AND_FILE, begun, go_on

pytestmark = pytest.mark.usefixtures("packer", "gated")


@pytest.fixture
def gated(project: Project) -> Path:
    project.write("t.pkr.hcl", GATED)
    return project.root


@pytest.fixture
def place(project: Project) -> StateRef:
    folder = StateFolder(project.root / ".packer-fork", "t.pkr.hcl", "default")
    return StateRef(folder, open_store(folder.folder), Settings())


def lock_id(cli: Cli) -> str:
    return str(states.lock(cli)["id"])


def killed(running: Running) -> None:
    running.signal(signal.SIGKILL)
    running.process.wait()


def lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # dead, only nobody has asked yet


def ignore(_: Event) -> None:
    """These tests check results, not messages."""


def operations(root: Path) -> list[str]:
    """Every operation that is on record, the sealed history included."""
    from tests.support.hammer import changes

    return [change.operation for change in changes(states.folder(root))]


def test_kill_cancels_a_live_build_in_order(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    done = cli("force-unlock", lock_id(cli), "--kill", "--yes")
    assert done.rc == 0, done
    assert f"({running.pid}): told to end" in done.err
    assert running.wait().rc == 143
    assert states.status(cli) == "free"
    assert states.statuses(cli) == {"null.n": "cancelled"}


def test_kill_ends_what_a_dead_wrapper_left(cli: Cli, project: Project) -> None:
    killed(begun(cli, project, "t.pkr.hcl"))
    left = states.lock(cli)
    done = cli("force-unlock", left["id"], "--kill", "--yes", env={"PACKER_FORK_GRACE": "3s"})
    assert done.rc == 0, done
    assert "recovered run 1" in done.err
    assert states.status(cli) == "free"
    assert not [p for p in left["processes"] if lives(p["pid"])]
    assert states.statuses(cli) == {"null.n": "cancelled"}


def test_kill_ends_a_stopped_wrapper(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    running.signal(signal.SIGSTOP)
    done = cli("force-unlock", lock_id(cli), "--kill", "--yes")
    assert done.rc == 0, done
    assert running.wait().rc == 143
    assert states.status(cli) == "free"


DAEMON = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" {
        inline = [
          "setsid sh -c 'echo $$ > daemon; exec sleep 300' >/dev/null 2>&1 &",
          "while [ ! -s daemon ]; do sleep 0.1; done; touch begun",
          "while [ ! -e $PWD/go ]; do sleep 0.1; done",
        ]
      }
    }
"""


def test_a_daemon_that_holds_the_lock_is_listed_and_left_alone(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", DAEMON)
    killed(begun(cli, project, "t.pkr.hcl"))
    go_on(project.root)
    daemon = int((project.root / "daemon").read_text())
    eventually(lambda: [p["pid"] for p in states.lock(cli)["processes"]] == [daemon])
    assert states.status(cli) == "orphaned"
    done = cli("force-unlock", lock_id(cli), "--kill", "--yes")
    assert done.rc == 0, done
    assert f"({daemon}) outlived the run and is left alone" in done.err
    assert Path(f"/proc/{daemon}").exists()
    assert states.status(cli) == "free"
    assert states.statuses(cli) == {"null.n": "complete"}
    again = cli("build", "--rebuild", "t.pkr.hcl")
    assert again.rc == 0
    assert "still runs" in again.err
    os.kill(daemon, signal.SIGKILL)


def test_build_gives_the_advice_of_lock_status_on_processes_that_packer_left(
    cli: Cli, project: Project
) -> None:
    """Neither packer-fork nor Packer lives, so that waiting helps nobody."""
    project.write("t.pkr.hcl", DAEMON)
    killed(begun(cli, project, "t.pkr.hcl"))
    go_on(project.root)
    daemon = int((project.root / "daemon").read_text())
    eventually(lambda: [p["pid"] for p in states.lock(cli)["processes"]] == [daemon])
    advice = states.lock(cli)["remedy"]
    assert advice.startswith(f"packer-fork force-unlock {lock_id(cli)} --kill")
    told = cli("lock", "status", "t.pkr.hcl").out.splitlines()
    assert told[0].startswith("t.pkr.hcl: orphaned")
    assert told[1].split(maxsplit=2) == ["to", "do:", advice]
    for options in ((), ("--lock-timeout", "1s")):
        refused = cli("build", *options, "t.pkr.hcl")
        assert refused.rc == 11, refused
        assert advice in refused.err
        assert "Wait for it" not in refused.err
        assert "to go" not in refused.err
    os.kill(daemon, signal.SIGKILL)


LEAK = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" { inline = ["python3 leak.py > leaked"] }
    }
"""

LEAKING = """\
import subprocess
quiet = subprocess.DEVNULL  # and no other descriptor is inherited
print(subprocess.Popen(["sleep", "300"], stdin=quiet, stdout=quiet, stderr=quiet).pid)
"""


def test_process_that_outlives_packer_without_its_lock_is_named(cli: Cli, project: Project) -> None:
    project.write("leak.py", LEAKING)
    project.write("t.pkr.hcl", LEAK)
    built = cli("build", "t.pkr.hcl")
    assert built.rc == 0, built
    leaked = (project.root / "leaked").read_text().strip()
    assert f"sleep ({leaked}) outlives Packer, a leaked process" in built.err
    status = cli("lock", "status", "t.pkr.hcl")
    assert status.rc == 0, "it does not hold the lock"
    assert status.out.splitlines()[1].split()[:4] == ["to", "do:", "kill", leaked]
    assert f"leaked:    {leaked}  sleep" in status.out
    os.kill(int(leaked), signal.SIGKILL)
    eventually(lambda: "leaked" not in cli("lock", "status", "t.pkr.hcl").out)


def test_if_abandoned_refuses_an_id_that_it_does_not_know_while_a_lock_is_held(
    cli: Cli, project: Project
) -> None:
    go_on(project.root)
    assert cli("build", "t.pkr.hcl").rc == 0
    outdated = lock_id(cli)
    assert cli("force-unlock", outdated, "--if-abandoned").rc == 0, "its holder released it"
    for gate in ("go", "begun"):
        (project.root / gate).unlink()
    running = begun(cli, project, "--rebuild", "t.pkr.hcl")
    for name in (outdated, "never-was-an-id"):
        refused = cli("force-unlock", name, "--if-abandoned")
        assert refused.rc == 11, refused
        assert f"There is no lock {name} here. Others are held: {lock_id(cli)}" in refused.err
    go_on(project.root)
    assert running.wait().rc == 0
    assert cli("force-unlock", "never-was-an-id", "--if-abandoned").rc == 0, "nothing is held"


def test_allow_live_fences_the_holder_and_keeps_its_results(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    done = cli("force-unlock", lock_id(cli), "--allow-live", "--yes")
    assert done.rc == 0, done
    assert "will be late" in done.err
    assert states.status(cli) == "free"
    eventually(lambda: "was taken by" in running.err())
    project.write("t.pkr.hcl", NULL_AND_FILE)
    new = cli("build", "-only=file.f", "t.pkr.hcl")
    assert new.rc == 0
    assert "still runs" in new.err
    go_on(project.root)
    result = running.wait()
    assert result.rc == 13
    assert "packer-fork state recover" in result.err
    assert states.statuses(cli) == {"null.n": "interrupted", "file.f": "complete"}
    (kept,) = (states.folder(project.root) / "logs").glob("*.late.json")
    assert cli("state", "recover", str(kept)).rc == 0
    assert states.statuses(cli) == {"null.n": "complete", "file.f": "complete"}
    document = states.state(cli)
    assert document["last_run"]["number"] == 2
    assert document["inputs"][document["builds"]["null.n"]["observed"]]["status"] == "complete"
    assert {"force-unlock", "refused", "replay"} <= set(operations(project.root))
    assert cli("state", "recover", str(kept)).rc == 2


def test_results_that_cannot_be_kept_leave_the_raw_log(
    cli: Cli, project: Project, place: StateRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is lost when Packer is about to start, and there is a folder in the way."""
    monkeypatch.chdir(project.root)
    for name in ("HOME", "TMPDIR", "PACKER_CACHE_DIR", "XDG_CACHE_HOME", "CHECKPOINT_DISABLE"):
        monkeypatch.setenv(name, cli.environment[name])
    go_on(project.root)
    logs = place.store.logs

    def unlocked(event: Event) -> None:
        if isinstance(event, ItemStarted):
            with lock_of(place.store, over=ANY, lock_id=place.store.status().id):
                (logs / "1-1-1.late.json").mkdir()

    assert packer_fork.build("t.pkr.hcl", notify=unlocked) == EXIT_OUTBOX
    assert "Build 'null.n' finished" in (logs / "1-1.raw").read_text()


def test_log_of_an_unlocked_run_is_read_once_nothing_of_it_lives(place: StateRef) -> None:
    """As when its packer-fork is killed later, or cannot keep the results anywhere."""
    live = place.store.try_acquire(holder("build"))
    assert not isinstance(live, LockStatus)
    run = Run(
        number=1,
        token=live.record.token,
        started=datetime.now(UTC),
        by=live.participant.holder.by,
        builds=("null.n",),
    )
    live.commit(PendingChange(operation="start", last_run=run))
    item = WorkItem(
        run=1, number=1, token=run.token, started=run.started, by=run.by, sources=run.builds
    )
    creating = Build(name="null.n", status=BuildStatus.CREATING, run=1, item=1)
    live.commit(PendingChange(operation="begin", items=(item,), builds={"null.n": creating}))
    files = LogFiles(place.store.logs, item.key)
    files.keep_secrets(())
    files.raw.write_bytes(raw_log.of_complete("null.n"))
    unlock.force_unlock(found(place), unlock.How(allow_live=True), ignore, environ={})
    with lock_of(place.store) as lock:
        recovery.catch_up(place, lock, ignore)
        assert files.raw.exists()
        live.close()
        recovery.catch_up(place, lock, ignore)
        assert not files.raw.exists()
    state = place.store.read()
    assert state is not None
    assert decode_build(state.builds["null.n"]).status is BuildStatus.COMPLETE


def test_a_take_over_is_on_record(cli: Cli, project: Project) -> None:
    killed(begun(cli, project, "t.pkr.hcl"))
    go_on(project.root)
    eventually(lambda: states.status(cli) == "abandoned")
    assert cli("build", "--rebuild", "t.pkr.hcl").rc == 0
    assert {"take-over", "recover"} <= set(operations(project.root))


def test_late_results_replace_nothing_newer(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    assert cli("force-unlock", lock_id(cli), "--allow-live", "--yes").rc == 0
    go_on(project.root)
    assert running.wait().rc == 13
    assert cli("build", "t.pkr.hcl").rc == 0
    (kept,) = (states.folder(project.root) / "logs").glob("*.late.json")
    replayed = cli("state", "recover", str(kept))
    assert replayed.rc == 0
    assert "all were built again since" in replayed.err
    assert states.state(cli)["builds"]["null.n"]["run"] == 2


def test_late_item_does_not_replace_a_later_item_of_the_same_run(place: StateRef) -> None:
    by, now = holder("build").by, datetime.now(UTC)
    run = Run(number=1, token=1, started=now, by=by, builds=("a",))
    item = WorkItem(run=1, number=2, token=1, started=now, by=by, sources=("a",))
    build = Build(name="a", status=BuildStatus.COMPLETE, run=1, item=2)
    with lock_of(place.store) as lock:
        lock.commit(PendingChange(operation="finish", builds={"a": build}))
    state = place.store.read()
    assert state is not None
    for number, stands in ((1, []), (2, ["a"]), (3, ["a"])):
        late = structs.replace(item, number=number)
        builds = {"a": structs.replace(build, item=number)}
        result = Late(lineage=state.lineage, run=run, item=late, builds=builds)
        draft = outbox.draft_of(place.store, result, Path("results"))
        assert draft is not None
        assert list(draft.builds) == stands


def test_late_results_of_another_state_are_refused(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    assert cli("force-unlock", lock_id(cli), "--allow-live", "--yes").rc == 0
    go_on(project.root)
    assert running.wait().rc == 13
    (kept,) = (states.folder(project.root) / "logs").glob("*.late.json")
    document = json.loads(kept.read_text())
    kept.write_text(json.dumps({**document, "lineage": "other"}))
    refused = cli("state", "recover", str(kept))
    assert refused.rc == 10
    assert "belongs to another state" in refused.err


def test_if_abandoned_acts_only_with_proof(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    this = lock_id(cli)
    refused = cli("force-unlock", this, "--if-abandoned")
    assert refused.rc == 11
    killed(running)
    assert cli("force-unlock", this, "--if-abandoned").rc == 11
    go_on(project.root)
    eventually(lambda: states.status(cli) == "abandoned")
    done = cli("force-unlock", this, "--if-abandoned")
    assert done.rc == 0
    assert "the lock is free now" in done.err
    assert cli("force-unlock", lock_id(cli), "--if-abandoned").rc == 0
    assert cli("force-unlock", lock_id(cli), "--yes").rc == 2


def of_another_boot() -> Holder:
    """A holder whose processes cannot be looked for, let alone signalled."""
    this = holder("build")
    return structs.replace(this, process=structs.replace(this.process, boot="another"))


def found(place: StateRef) -> unlock.Found:
    return unlock.Found(place, place.store.status())


def test_kill_does_not_take_over_from_a_holder_that_it_cannot_end(place: StateRef) -> None:
    with lock_of(place.store, of_another_boot()) as lock:
        with pytest.raises(LockedError, match="is held "):
            unlock.force_unlock(found(place), unlock.How(kill=True), ignore, environ={})
        lock.commit(PendingChange(operation="test"))
        how = unlock.How(kill=True, allow_live=True)
        assert unlock.force_unlock(found(place), how, ignore, environ={}).status is Status.FREE
        assert not lock.is_open()


def test_if_abandoned_leaves_an_unknown_lock_alone(place: StateRef) -> None:
    with lock_of(place.store):
        pass
    (place.folder.folder / "lock").write_bytes(b"{")
    unknown = found(place)
    assert unknown.status is Status.UNKNOWN
    with pytest.raises(LockedError, match="is unknown"):
        unlock.force_unlock(unknown, unlock.How(if_abandoned=True), ignore, environ={})
    assert place.store.status() == unknown.lock
    assert unlock.force_unlock(unknown, unlock.How(), ignore, environ={}).status is Status.FREE


@pytest.mark.parametrize("way", ["--kill", "--allow-live"])
def test_waiters_of_an_unlocked_lock_go_on_at_once(cli: Cli, project: Project, way: str) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    waiting = cli.start("build", "--rebuild", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: "next in the queue" in waiting.err())
    status = states.lock(cli)
    assert [w["holder"]["by"]["pid"] for w in status["waiters"]] == [waiting.pid]
    assert waiting.pid not in [process["pid"] for process in status["processes"]]
    assert cli("force-unlock", lock_id(cli), way, "--yes").rc == 0
    eventually(lambda: "packer-fork: run 2 of" in waiting.err())
    go_on(project.root)
    assert waiting.wait().rc == 0
    assert running.wait().rc == (143 if way == "--kill" else 13)


def test_ctrl_c_while_waiting_leaves_the_queue(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    waiting = cli.start("build", "--rebuild", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: states.lock(cli).get("waiters"))
    waiting.signal(signal.SIGINT)
    assert waiting.wait().rc == 130
    assert not states.lock(cli).get("waiters")
    go_on(project.root)
    assert running.wait().rc == 0


def test_the_refusal_compares_what_both_build(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", FAST_AND_GATED)
    running = begun(cli, project, "-only=null.slow", "t.pkr.hcl")
    refused = cli("build", "-only=file.*", "t.pkr.hcl")
    assert refused.rc == 11
    assert "It builds null.slow, you file.*" in refused.err
    assert "--workspace of its own" in refused.err
    go_on(project.root)
    assert running.wait().rc == 0


def test_a_waiter_is_told_the_phase_and_how_long(cli: Cli, project: Project) -> None:
    go_on(project.root)
    assert cli("build", "t.pkr.hcl").rc == 0
    for name in ("go", "begun"):
        (project.root / name).unlink()
    running = begun(cli, project, "--rebuild", "t.pkr.hcl")
    waiting = cli.start("build", "--rebuild", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: "null.n provisioning" in waiting.err())
    assert "to go" in waiting.err()
    go_on(project.root)
    assert (running.wait().rc, waiting.wait().rc) == (0, 0)
    run = states.state(cli)["last_run"]
    assert run["waited"] > 0
    assert run["held"] > 0


def test_lock_status_can_be_watched(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    watching = cli.start("lock", "status", "--watch")
    eventually(lambda: "t.pkr.hcl: held" in watching.out())
    go_on(project.root)
    assert running.wait().rc == 0
    eventually(lambda: "t.pkr.hcl: free" in watching.out())
    watching.signal(signal.SIGINT)
    assert watching.wait().rc == 130
