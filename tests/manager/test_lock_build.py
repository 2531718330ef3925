"""Builds and the lock: one at a time, and what is left when something is killed."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import Cli, Project, Running, eventually
from tests.support import states
from tests.support.templates import GATED, begun, go_on

pytestmark = pytest.mark.usefixtures("packer", "gated")


@pytest.fixture
def gated(project: Project) -> Path:
    project.write("t.pkr.hcl", GATED)
    return project.root


def packers(cli: Cli) -> dict[str, int]:
    """The outer and the inner Packer of the build under way, by what the lock's status lists."""
    listed = states.lock(cli)["processes"]
    pids = [p["pid"] for p in listed if p["command"] == "packer build"]
    outer, inner = sorted(pids)[:2]
    return {"outer": outer, "inner": inner}


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def both_packers(cli: Cli) -> dict[str, int]:
    def both() -> dict[str, int]:
        try:
            return packers(cli)
        except ValueError:
            return {}

    return eventually(both)


@pytest.mark.parametrize("name", ["t.pkr.hcl", "./t.pkr.hcl", "link.pkr.hcl"])
def test_the_second_build_says_who_holds_the_lock(
    cli: Cli, project: Project, gated: Path, name: str
) -> None:
    (gated / "link.pkr.hcl").symlink_to("t.pkr.hcl")
    first = begun(cli, project, "t.pkr.hcl")
    second = cli("build", name)
    assert second.rc == 11
    assert f"pid {first.pid}, build, run 1" in second.err
    assert "--lock-timeout" in second.err
    assert second.out == ""
    go_on(gated)
    assert first.wait().rc == 0


def test_a_build_waits_for_the_lock_and_says_for_whom(
    cli: Cli, project: Project, gated: Path
) -> None:
    first = begun(cli, project, "t.pkr.hcl")
    second = cli.start("build", "--rebuild", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: f"pid {first.pid}" in second.err())
    go_on(gated)
    assert first.wait().rc == 0
    assert second.wait().rc == 0
    assert states.state(cli)["last_run"]["number"] == 2


RENAMED = """
    variable "password" {
      default   = "correct horse"
      sensitive = true
    }
    source "null" "renamed" { communicator = "none" }
    build {
      sources = ["null.renamed"]
      provisioner "shell-local" { inline = ["echo the ${var.password} battery"] }
    }
"""


def test_template_that_changes_during_the_wait_is_built_as_it_is_then(
    cli: Cli, project: Project, gated: Path
) -> None:
    first = begun(cli, project, "t.pkr.hcl")
    second = cli.start("build", "--lock-timeout", "1m", "t.pkr.hcl")
    eventually(lambda: f"pid {first.pid}" in second.err())
    project.write("t.pkr.hcl", RENAMED)
    go_on(gated)
    assert first.wait().rc == 0
    told = second.wait()
    assert told.rc == 0, told
    assert "null.renamed: build (never built)" in told.err
    assert states.statuses(cli) == {"null.n": "complete", "null.renamed": "complete"}
    assert "battery" in told.out
    assert "correct horse" not in told.out


def test_other_templates_and_workspaces_run_side_by_side(
    cli: Cli, project: Project, gated: Path
) -> None:
    project.write("other.pkr.hcl", GATED)
    running = [begun(cli, project, "t.pkr.hcl")]
    for args in (["other.pkr.hcl"], ["t.pkr.hcl", "--workspace", "w2"]):
        (gated / "begun").unlink()
        running.append(begun(cli, project, *args))
    go_on(gated)
    assert [each.wait().rc for each in running] == [0, 0, 0]


def test_packer_outlives_a_killed_wrapper_and_its_results_are_taken_over(
    cli: Cli, project: Project, gated: Path
) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    run_id = states.lock(cli)["id"]
    kill(running.pid)
    running.process.wait()
    orphaned = states.lock(cli)
    assert (orphaned["status"], orphaned["id"]) == ("orphaned", run_id)
    assert any(p["command"] == "packer build" for p in orphaned["processes"])
    refused = cli("build", "--rebuild", "t.pkr.hcl")
    assert refused.rc == 11
    assert "orphaned" in refused.err
    assert orphaned["remedy"].startswith("wait, Packer finishes")
    assert orphaned["remedy"] in refused.err
    go_on(gated)
    eventually(lambda: states.status(cli) == "abandoned")
    again = cli("build", "--rebuild", "t.pkr.hcl")
    assert again.rc == 0
    assert "recovered run 1 from its log: null.n complete" in again.err
    assert states.state(cli)["last_run"]["number"] == 2


def test_state_recover_finishes_a_run_from_its_log(cli: Cli, project: Project, gated: Path) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    kill(running.pid)
    running.process.wait()
    too_soon = cli("state", "recover", "t.pkr.hcl")
    assert too_soon.rc == 11
    go_on(gated)
    eventually(lambda: states.status(cli) == "abandoned")
    assert cli("state", "recover", "t.pkr.hcl").rc == 0
    document = states.state(cli)
    assert document["last_run"]["status"] == "complete"
    assert "exit_code" not in document["last_run"]
    build = document["builds"]["null.n"]
    assert build["status"] == "complete"
    assert build["artifacts"][0]["builder_id"] == "fnoeding.null"
    assert states.status(cli) == "free"
    assert "gone on" in cli("logs").out
    assert sorted(p.name for p in states.folder(gated).joinpath("logs").iterdir()) == ["1-1.log"]


def test_killed_with_all_of_packer_it_is_abandoned_at_once(
    cli: Cli, project: Project, gated: Path
) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    both_packers(cli)
    kill(running.pid, *(p["pid"] for p in states.lock(cli)["processes"]))
    eventually(lambda: states.status(cli) == "abandoned")
    go_on(gated)
    assert cli("state", "recover", "t.pkr.hcl").rc == 0
    document = states.state(cli)
    assert document["last_run"]["status"] == "interrupted"
    assert document["builds"]["null.n"]["status"] == "interrupted"


def test_the_inner_packer_alone_holds_the_lock(cli: Cli, project: Project, gated: Path) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    both = both_packers(cli)
    kill(running.pid, both["outer"])
    running.process.wait()
    orphaned = states.lock(cli)
    assert orphaned["status"] == "orphaned"
    assert both["inner"] in [p["pid"] for p in orphaned["processes"]]
    go_on(gated)
    eventually(lambda: states.status(cli) == "abandoned")


def test_a_killed_inner_packer_is_not_complete(cli: Cli, project: Project) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    kill(both_packers(cli)["inner"])
    result = running.wait()
    assert result.rc == 1, result
    assert states.statuses(cli) == {"null.n": "interrupted"}
    assert states.status(cli) == "free"


def test_a_killed_outer_packer_frees_nothing_while_the_rest_lives(
    cli: Cli, project: Project
) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    both = both_packers(cli)
    kill(both["outer"])
    eventually(lambda: running.process.poll() is not None or "live on" in running.err())
    result = running.wait()
    assert result.rc != 0
    assert not Path(f"/proc/{both['inner']}").exists()
    assert states.statuses(cli)["null.n"] in {"interrupted", "cancelled"}
    assert states.status(cli) == "free"


def force_unlock_id(cli: Cli) -> str:
    return str(states.lock(cli)["id"])


def abandon(cli: Cli, project: Project, gated: Path) -> Running:
    running = begun(cli, project, "t.pkr.hcl")
    kill(running.pid)
    running.process.wait()
    go_on(gated)
    eventually(lambda: states.status(cli) == "abandoned")
    return running


def test_force_unlock_of_an_abandoned_lock_recovers_its_run(
    cli: Cli, project: Project, gated: Path
) -> None:
    abandon(cli, project, gated)
    lock_id = force_unlock_id(cli)
    unconfirmed = cli("force-unlock", lock_id)
    assert unconfirmed.rc == 2
    assert "--yes" in unconfirmed.err
    assert states.status(cli) == "abandoned"
    done = cli("force-unlock", lock_id, "--yes")
    assert done.rc == 0, done
    assert "recovered run 1" in done.err
    assert states.status(cli) == "free"
    recovered = states.state(cli)["last_run"]["recovered"]
    assert lock_id in recovered["reason"]
    assert recovered["by"]["user"]


def test_force_unlock_refuses_a_wrong_id(cli: Cli, project: Project, gated: Path) -> None:
    abandon(cli, project, gated)
    wrong = cli("force-unlock", "no-such-lock", "--yes")
    assert wrong.rc == 2
    assert force_unlock_id(cli) in wrong.err
    assert states.status(cli) == "abandoned"


def test_force_unlock_refuses_whoever_lives(cli: Cli, project: Project, gated: Path) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    held = cli("force-unlock", force_unlock_id(cli), "--yes")
    assert held.rc == 11
    assert f"pid {running.pid}" in held.err
    kill(running.pid)
    running.process.wait()
    orphaned = cli("force-unlock", force_unlock_id(cli), "--yes")
    assert orphaned.rc == 11
    assert "still alive" in orphaned.err
    go_on(gated)


@pytest.mark.parametrize("data", [b"", b"{corrupted", b'{"id": "test"}', b"\0" * 64])
def test_a_corrupt_record_never_crashes_and_can_be_unlocked(
    cli: Cli, gated: Path, data: bytes
) -> None:
    go_on(gated)
    assert cli("build", "t.pkr.hcl").rc == 0
    (states.folder(gated) / "lock").write_bytes(data)
    report = states.lock(cli)
    assert report["status"] == "unknown"
    assert report["id"].startswith("unreadable-")
    refused = cli("build", "--rebuild", "t.pkr.hcl")
    assert refused.rc == 11
    assert f"force-unlock {report['id']}" in refused.err
    assert cli("force-unlock", report["id"], "--yes").rc == 0
    assert states.status(cli) == "free"
    assert cli("build", "t.pkr.hcl").rc == 0


def test_another_pid_namespace_sees_a_held_lock(cli: Cli, project: Project, gated: Path) -> None:
    running = begun(cli, project, "t.pkr.hcl")
    probe = cli(
        "lock",
        "status",
        "t.pkr.hcl",
        "--json",
        under=["unshare", "--pid", "--fork", "--mount-proc"],
    )
    assert probe.rc == 11
    assert json.loads(probe.out)["status"] == "held"
    assert json.loads(probe.out)["pid"] == running.pid
    go_on(gated)
    assert running.wait().rc == 0
