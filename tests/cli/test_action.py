"""The action for GitHub: its scripts, run as a step runs them, with real Packer."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from packer_fork.model import Build, BuildStatus, Instance, possibly_left
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.templates import GATED

pytestmark = pytest.mark.usefixtures("packer")

ACTION = Path(__file__).parents[2] / ".github" / "actions" / "packer-fork"

FILE = """
    variable "x" {}
    source "file" "f" {
      content = var.x
      target  = "out.txt"
    }
    build { sources = ["file.f"] }
"""


@pytest.fixture
def step(cli: Cli, tmp_path: Path) -> dict[str, str]:
    """The environment of a step, with packer-fork installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "packer-fork"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m packer_fork "$@"\n')
    command.chmod(0o755)
    return {
        **cli.environment,
        "PATH": f"{folder}:{cli.environment['PATH']}",
        "GITHUB_ACTIONS": "true",
        "TEMPLATE": "t.pkr.hcl",
        "ARGUMENTS": "",
        "CLEANUP_TIMEOUT": "0",
        "PACKER_FORK_ON_WRAPPER_DEATH": "finish",
    }


def run(script: str, project: Project, step: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ACTION / script], cwd=project.root, env=step, capture_output=True, text=True, check=False
    )


@pytest.fixture
def building(project: Project, step: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    project.write("t.pkr.hcl", GATED)
    with subprocess.Popen([ACTION / "build"], cwd=project.root, env=step) as process:
        eventually(lambda: (project.root / "begun").exists() or process.poll() is not None)
        yield process
        process.kill()


def test_arguments_are_one_on_each_line(cli: Cli, project: Project, step: dict[str, str]) -> None:
    project.write("my t.pkr.hcl", FILE)
    hostile = "two words; $(touch injected) `touch injected`"
    step |= {"TEMPLATE": "my t.pkr.hcl", "ARGUMENTS": f"-var\nx={hostile}\n--workspace=w\n"}
    done = run("build", project, step)
    assert done.returncode == 0, done
    assert (project.root / "out.txt").read_text() == hostile
    assert not (project.root / "injected").exists()
    assert states.state(cli, "my t.pkr.hcl", "--workspace", "w")["last_run"]["number"] == 1
    after = run("after", project, step)
    assert after.returncode == 0
    assert "there is nothing to recover" in after.stderr


def test_a_signal_for_the_step_is_one_for_packer_fork(
    cli: Cli, building: subprocess.Popen[bytes]
) -> None:
    assert states.lock(cli)["pid"] == building.pid
    building.send_signal(signal.SIGINT)
    assert building.wait(60) == 128 + signal.SIGINT
    assert states.statuses(cli) == {"null.n": "cancelled"}


def test_afterwards_a_killed_run_is_recovered(
    cli: Cli, project: Project, step: dict[str, str], building: subprocess.Popen[bytes]
) -> None:
    building.kill()
    building.wait()
    waited_in_vain = run("after", project, step)
    assert "::warning title=packer-fork::The state could not" in waited_in_vain.stdout
    (project.root / "go").touch()
    eventually(lambda: states.status(cli) in ("abandoned", "free"))
    done = run("after", project, step)
    assert done.returncode == 0
    assert "recovered run 1" in done.stderr
    assert states.statuses(cli) == {"null.n": "complete"}


OLD, NEW = Instance(id="100%"), Instance(id="i-1", provider="amazon", region="eu-west-1")
BUILDS = [
    Build(name="never.built"),
    Build(name="went.well", status=BuildStatus.COMPLETE, instance=NEW),
    Build(name="went.well.now", status=BuildStatus.COMPLETE, instance=NEW, leftovers=(OLD,)),
    Build(name="failed", status=BuildStatus.FAILED, instance=NEW, leftovers=(OLD,)),
    Build(name="failed.again", status=BuildStatus.FAILED, instance=NEW, leftovers=(NEW,)),
    Build(name="of.no.id", status=BuildStatus.CANCELLED, instance=Instance(provider="amazon")),
]


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_instances_on_record_are_listed(build: Build) -> None:
    document = msgspec.json.encode({"builds": {build.name: build}})
    done = subprocess.run(
        [sys.executable, ACTION / "leaked.py"], input=document, capture_output=True, check=True
    )
    lines = done.stdout.decode().splitlines()
    expected = possibly_left(build)
    assert len(lines) == len(expected)
    for line, instance in zip(lines, expected, strict=True):
        assert line.startswith(f"::warning title=possibly leaked::{build.name} may have left")
        assert line.replace("%25", "%").endswith(f"state rm --instance {instance.id}")


def test_instances_of_an_unreadable_state_are_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, ACTION / "leaked.py"], input=b"", capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "packer-fork: the state could not be read; see the lines above"
    ]


def found(project: Project, step: dict[str, str]) -> dict[str, str]:
    """The outputs of the step that finds the state."""
    output = project.root / "output"
    output.write_text("")
    named = {"GITHUB_OUTPUT": str(output), "GITHUB_WORKSPACE": str(project.root.parent)}
    done = run("find-state", project, step | named)
    assert done.returncode == 0, done
    return dict(line.split("=", 1) for line in output.read_text().splitlines())


def test_state_folder_is_kept_between_jobs(
    cli: Cli, project: Project, step: dict[str, str]
) -> None:
    project.write("t.pkr.hcl", FILE)
    one, other = found(project, step), found(project, step | {"ARGUMENTS": "--workspace=w\n"})
    assert one["folder"] == str(project.root / ".packer-fork/t.pkr.hcl/default")
    assert other["folder"] == str(project.root / ".packer-fork/t.pkr.hcl/w")
    assert len({one["key"], other["key"], found(project, step)["key"]}) == 2
    built = cli("build", "-var=x=1", "t.pkr.hcl", env={"CI": "true"})
    assert built.rc == 0
    assert "ends with the CI job" not in built.err


def test_state_on_a_server_is_not_cached(project: Project, step: dict[str, str]) -> None:
    project.write("t.pkr.hcl", FILE)
    remote = {"PACKER_FORK_STATE": "etcd://127.0.0.1:1/x", "PACKER_FORK_PROJECT": "p"}
    assert found(project, step | remote) == {}


def test_state_is_saved_under_the_key_and_paths_that_it_is_restored_from() -> None:
    text = (ACTION / "action.yml").read_text(encoding="utf-8")
    caches = re.findall(
        r"actions/cache/(\w+)@v\d\n +with:\n +path: \|\n((?: {10}.*\n)+) +(key: .*)\n", text
    )
    assert [step for step, *_ in caches] == ["restore", "save"]
    assert caches[0][1:] == caches[1][1:]
    assert re.search(r"if: \$\{\{ always\(\) && .*\n +uses: actions/cache/save@", text)


def test_the_action_runs_its_scripts_and_nothing_else() -> None:
    text = (ACTION / "action.yml").read_text(encoding="utf-8")
    runs = re.findall(r"^\s+run: (.*)$", text, re.MULTILINE)
    scripts = ("install", "find-state", "build", "after")
    assert runs == [f'exec "$GITHUB_ACTION_PATH/{name}"' for name in scripts]
    assert all(os.access(ACTION / name, os.X_OK) for name in scripts)
