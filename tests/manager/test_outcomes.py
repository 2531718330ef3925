"""What a run comes to: failures, cancels, and the proof of what is complete."""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from packer_fork.manager.build import recorder
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.packer_versions import first_of_two_failed, json_build
from tests.support.templates import FAST_AND_GATED, GATED, NULL_AND_FILE, begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

ONE_OF_THREE_FAILS = """
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    source "file" "c" {
      content = "hello"
      target  = "c.txt"
    }
    build {
      sources = ["null.a", "null.b", "file.c"]
      provisioner "shell-local" { inline = ["test $PACKER_BUILD_NAME != b"] }
    }
"""


def test_a_build_is_complete_with_its_artifacts(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    result = cli.cached("build", "t.pkr.hcl")
    assert result.rc == 0, result
    assert "Stored file: out.txt" in result.out
    assert "packer-fork" not in result.out
    document = states.state(cli)
    build = document["builds"]["file.f"]
    assert build["status"] == "complete"
    (file,) = build["artifacts"][0]["files"]
    assert file["path"] == str(project.root / "out.txt")
    assert file["size"] == 5
    assert file["sha256"] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    run = document["last_run"]
    assert (run["number"], run["status"], run["exit_code"]) == (1, "complete", 0)
    assert run["packer_version"]
    assert states.status(cli) == "free"


def test_one_of_three_fails_and_the_others_are_complete(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", ONE_OF_THREE_FAILS)
    result = cli("build", "t.pkr.hcl")
    assert result.rc == 1
    assert states.statuses(cli) == {"null.a": "complete", "null.b": "failed", "file.c": "complete"}
    builds = states.state(cli)["builds"]
    assert "non-zero exit status: 1" in builds["null.b"]["error"]
    assert builds["file.c"]["artifacts"]
    assert builds["null.b"].get("artifacts", []) == []


def test_a_cancel_after_one_source_finished_leaves_it_unverified(
    cli: Cli, project: Project
) -> None:
    project.write("t.pkr.hcl", FAST_AND_GATED)
    running = begun(cli, project, "t.pkr.hcl")
    eventually(lambda: "Build 'file.fast' finished" in running.out())
    running.signal(signal.SIGTERM)
    result = running.wait()
    assert result.rc == 143
    assert states.statuses(cli) == {"file.fast": "unverified", "null.slow": "cancelled"}
    assert states.state(cli)["last_run"]["status"] == "cancelled"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_gracefully(cli: Cli, project: Project, number: signal.Signals) -> None:
    project.write("t.pkr.hcl", GATED)
    running = begun(cli, project, "t.pkr.hcl")
    running.signal(number)
    result = running.wait()
    assert result.rc == 128 + number
    assert f"{number.name}: Packer is told to stop" in result.err
    assert states.statuses(cli) == {"null.n": "cancelled"}
    assert states.status(cli) == "free"


def test_a_ctrl_c_in_the_terminal_reaches_packer_once(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    running = begun(cli, project, "t.pkr.hcl")
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait().rc == 130
    assert running.out().count("Cancelling build after receiving") == 1


STUBBORN = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" {
        inline = ["trap '' TERM INT; echo $$ > begun; while true; do sleep 0.1; done"]
      }
    }
"""
"""A provisioner that only SIGKILL ends."""


def _written(path: Path) -> int:
    """The pid that a script wrote there, once it has."""
    eventually(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def _script(project: Project) -> int:
    return _written(project.root / "begun")


def test_a_second_signal_warns_and_a_third_kills(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", STUBBORN)
    running = begun(cli, project, "t.pkr.hcl")
    script = _script(project)
    running.signal(signal.SIGINT)
    eventually(lambda: "is told to stop" in running.err())
    running.signal(signal.SIGINT)
    eventually(lambda: "a third signal kills" in running.err())
    running.signal(signal.SIGINT)
    result = running.wait()
    assert result.rc == 130
    assert "Told three times to end: killing" in result.err
    assert not Path(f"/proc/{script}").exists()
    assert states.status(cli) == "free"


def test_after_the_grace_time_everything_is_killed(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", STUBBORN)
    running = begun(cli, project, "t.pkr.hcl", env={"PACKER_FORK_GRACE": "1s"})
    script = _script(project)
    running.signal(signal.SIGTERM)
    assert running.wait().rc == 143
    assert not Path(f"/proc/{script}").exists()
    assert states.statuses(cli) == {"null.n": "cancelled"}


@pytest.mark.parametrize(
    ("env", "finishes"),
    [
        ({}, True),
        ({"CI": "true"}, False),
        ({"CI": "true", "PACKER_FORK_ON_WRAPPER_DEATH": "finish"}, True),
        ({"PACKER_FORK_ON_WRAPPER_DEATH": "cancel"}, False),
    ],
)
def test_what_becomes_of_packer_when_the_wrapper_dies(
    cli: Cli, project: Project, env: dict[str, str], *, finishes: bool
) -> None:
    project.write("t.pkr.hcl", GATED)
    running = begun(cli, project, "t.pkr.hcl", env=env)
    running.signal(signal.SIGKILL)
    running.process.wait()
    if finishes:
        assert states.status(cli) == "orphaned"
    else:  # the quiet script that Packer leaves behind still holds the lock
        eventually(lambda: not _packers(cli))
    go_on(project.root)
    eventually(lambda: states.status(cli) == "abandoned")
    assert cli("state", "recover", "t.pkr.hcl").rc == 0
    assert states.statuses(cli) == {"null.n": "complete" if finishes else "cancelled"}


def _packers(cli: Cli) -> list[str]:
    listed = [process["command"] for process in states.lock(cli)["processes"]]
    return [command for command in listed if command == "packer build"]


def test_a_daemon_left_behind_on_purpose_is_left_alone(cli: Cli, project: Project) -> None:
    project.write(
        "t.pkr.hcl",
        """
        source "null" "n" { communicator = "none" }
        build {
          sources = ["null.n"]
          provisioner "shell-local" {
            inline = ["setsid sh -c 'echo $$ > daemon; exec sleep 300' >/dev/null 2>&1 &"]
          }
        }
        """,
    )
    assert cli("build", "t.pkr.hcl").rc == 0
    pid = _written(project.root / "daemon")
    assert Path(f"/proc/{pid}").exists()
    assert states.status(cli) == "free"
    assert cli("build", "t.pkr.hcl").rc == 0


def test_a_source_that_fails_to_prepare_is_failed(cli: Cli, project: Project) -> None:
    project.write(
        "t.pkr.hcl",
        """
        source "file" "bad" { target = "" }
        source "null" "good" { communicator = "none" }
        build { sources = ["file.bad", "null.good"] }
        """,
    )
    assert cli("build", "t.pkr.hcl").rc == 1
    assert states.statuses(cli)["file.bad"] == "failed"


def test_only_leaves_the_other_builds_as_they_were(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    assert cli("build", "--rebuild", "-only", "null.n", "t.pkr.hcl").rc == 0
    builds = states.state(cli)["builds"]
    assert (builds["file.f"]["run"], builds["null.n"]["run"]) == (1, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--var=x=1", "t.pkr.hcl", "-var-file", "v.pkrvars.hcl"],
        ["-force", "-color=false", "--on-error=cleanup", "t.pkr.hcl", "-var-file=v.pkrvars.hcl"],
        ["-timestamp-ui", "-parallel-builds=1", "-var-file", "v.pkrvars.hcl", "t.pkr.hcl"],
        ["t.pkr.hcl", "--", "-var", "x=1", "-var-file=v.pkrvars.hcl"],
    ],
)
def test_packers_flags_are_taken_in_every_form_and_order(
    cli: Cli, project: Project, arguments: list[str]
) -> None:
    project.write("v.pkrvars.hcl", 'y = "file"\n')
    project.write(
        "t.pkr.hcl",
        """
        variable "x" { default = "1" }
        variable "y" { default = "unset" }
        source "file" "f" {
          content = "${var.x} ${var.y}"
          target  = "out.txt"
        }
        build { sources = ["file.f"] }
        """,
    )
    result = cli("build", *arguments)
    assert result.rc == 0, result
    assert (project.root / "out.txt").read_text() == "1 file"
    assert states.statuses(cli) == {"file.f": "complete"}


def test_machine_readable_prints_packers_own_lines(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    result = cli("build", "-machine-readable", "t.pkr.hcl")
    lines = result.out.splitlines()
    assert any(",file.f,artifact,0,builder-id,packer.file" in line for line in lines)
    assert all(line.split(",", 1)[0].isdecimal() for line in lines)


def test_directories_and_json_templates(cli: Cli, project: Project) -> None:
    project.write("dir/t.pkr.hcl", NULL_AND_FILE)
    project.write(
        "t.json",
        '{"builders": [{"type": "null", "communicator": "none", "name": "j"}],'
        ' "provisioners": [{"type": "shell-local", "inline": ["true"]}]}',
    )
    assert cli("build", "dir").rc == 0
    assert cli("build", "t.json").rc == 0
    assert states.statuses(cli, "dir") == {"null.n": "complete", "file.f": "complete"}
    assert states.statuses(cli, "t.json") == {json_build("null", "j"): "complete"}


def test_json_events_one_per_line(cli: Cli, project: Project) -> None:
    import json

    project.write("t.pkr.hcl", NULL_AND_FILE)
    result = cli("build", "--json", "t.pkr.hcl")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert events[-1]["event"] == "run_ended"
    assert events[-1]["exit_code"] == 0
    assert {"lock_taken", "run_started", "output", "build_changed"} <= {e["event"] for e in events}


def test_a_reader_that_goes_away_does_not_end_the_build(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-m", "packer_fork", "build", "t.pkr.hcl"],
        cwd=project.root,
        env=dict(cli.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert states.statuses(cli) == {"null.n": "complete", "file.f": "complete"}


SECOND = datetime(2026, 3, 2, 1, 12, 9, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return SECOND + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("arrived", "latest", "moment"),
    [
        (0.1239, None, 0.123),
        (1.02, None, 0.999),  # read a moment later
        (60, None, 0.999),  # packer-fork was frozen
        (-5, None, 0),  # the clock was set back
        (0.2, 0.7, 0.2),
        (None, None, 0),
        (None, 0.7, 0.7),  # a recovery goes on in the second in which the live run ended
        (None, 1.2, 0),
        (None, -0.2, 0),
    ],
)
def test_moment_of_a_line_is_within_the_second_that_packer_says(
    arrived: float | None, latest: float | None, moment: float
) -> None:
    found = recorder.moment(
        SECOND,
        None if arrived is None else after(arrived),
        None if latest is None else after(latest),
    )
    assert found == after(moment)


def test_times_of_a_live_run_are_in_milliseconds_and_in_order(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    assert cli.cached("build", "t.pkr.hcl").rc == 0
    state = states.state(cli)
    run, builds = state["last_run"], state["builds"].values()
    times = [datetime.fromisoformat(b[name]) for b in builds for name in ("started", "ended")]
    begin, end = (datetime.fromisoformat(run[name]) for name in ("started", "ended"))
    assert all(begin - timedelta(milliseconds=1) <= at <= end for at in times)
    assert any(at.microsecond for at in times)
    assert not any(at.microsecond % 1000 for at in times)


STEPS = """
    source "null" "a" { communicator = "none" }
    source "null" "b" { communicator = "none" }
    build {
      sources = ["null.a", "null.b"]
      provisioner "shell-local" {
        only   = ["null.b"]
        inline = ["true"]
      }
      provisioner "shell-local" { scripts = ["ok.sh", "fail.sh"] }
      provisioner "shell-local" { inline = ["true"] }
      post-processor "checksum" {}
    }
"""


def test_the_step_is_blamed_that_failed(cli: Cli, project: Project) -> None:
    """Its last script fails, and has printed what a post-processor begins with."""
    project.write("t.pkr.hcl", STEPS)
    project.write("ok.sh", "#!/bin/sh\n").chmod(0o755)
    lie = "echo 'Running post-processor: checksum'"
    project.write("fail.sh", f"#!/bin/sh\n{lie}\ntest $PACKER_BUILD_NAME = b\n").chmod(0o755)
    assert cli("build", "t.pkr.hcl").rc == 1
    builds = states.state(cli)["builds"]
    found = {
        name: [step["status"] for step in (*build["provisioners"], *build["post_processors"])]
        for name, build in builds.items()
    }
    assert found == {
        "null.a": ["failed", "skipped", "skipped"],
        "null.b": ["complete", "complete", "complete", "complete"],
    }
    assert "exit status: 1" in builds["null.a"]["provisioners"][0]["error"]
    again = cli("plan", "t.pkr.hcl")
    failed = first_of_two_failed("provisioner 1 (shell-local)")
    assert f"null.a: build (last run {failed})" in again.out


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ('provisioner "shell-local" { inline = ["exit 3"] }', "at provisioner 1 (shell-local)"),
        (
            """
            provisioner "shell-local" { inline = ["true"] }
            post-processor "shell-local" { inline = ["exit 3"] }
            """,
            "at post-processor 1 (shell-local)",
        ),
        (
            """
            provisioner "shell-local" {
              inline = ["echo 'Running local shell script: b.sh'; exit 3"]
            }
            provisioner "shell-local" { script = "b.sh" }
            """,
            "at provisioner 1 (shell-local)",
        ),
    ],
)
def test_plan_names_the_step_that_failed(
    cli: Cli, project: Project, steps: str, expected: str
) -> None:
    """From Packer 1.13 on the last of these may be either step, and before 1.13 the first."""
    project.write("b.sh", "#!/bin/sh\n").chmod(0o755)
    source = 'source "null" "n" { communicator = "none" }'
    project.write("t.pkr.hcl", f'{source}\nbuild {{\n  sources = ["null.n"]\n{steps}\n}}\n')
    assert cli("build", "t.pkr.hcl").rc == 1
    said = cli("plan", "t.pkr.hcl").out
    assert (
        f"(last run failed {expected})" in said
        or f"failed, probably {expected})" in said
        or ("b.sh" in steps and "(last run failed)" in said)
    )
    assert "provisioner 2" not in said


def test_plan_says_that_a_run_has_not_ended(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    running = begun(cli, project, "t.pkr.hcl")
    (project.root / "begun").unlink()  # its script names it: an input that would have changed
    eventually(lambda: states.state(cli)["builds"]["null.n"].get("status") == "provisioning")
    planned = cli("plan", "t.pkr.hcl")
    assert "null.n: build (run 1 has not ended)" in planned.out
    assert "Run 1 is marked running" in planned.err
    go_on(project.root)
    assert running.wait().rc == 0
    assert cli("plan", "t.pkr.hcl").err == ""


def test_a_failure_that_never_started_spoils_no_earlier_result(cli: Cli, project: Project) -> None:
    """Packer does not begin a source whose script is missing; here the script is no input."""
    project.write("packer-fork.toml", 'ignore = ["ignored.sh"]\n')
    project.write(
        "t.pkr.hcl",
        """
        source "null" "a" { communicator = "none" }
        source "null" "b" { communicator = "none" }
        build {
          sources = ["null.a", "null.b"]
          provisioner "shell-local" {
            only   = ["null.a"]
            script = "ignored.sh"
          }
        }
        """,
    )
    script = project.write("ignored.sh", "#!/bin/sh\n")
    script.chmod(0o755)
    assert cli("build", "t.pkr.hcl").rc == 0
    script.rename(project.root / "away")
    assert cli("build", "--rebuild", "t.pkr.hcl").rc == 1
    assert states.statuses(cli) == {"null.a": "failed", "null.b": "complete"}
    assert "Packer never started this source" in states.state(cli)["builds"]["null.a"]["error"]
    (project.root / "away").rename(script)
    planned = cli("plan", "t.pkr.hcl").out
    assert "null.a: up to date (run 1" in planned
    assert "null.b: up to date (run 2" in planned
