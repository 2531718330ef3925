"""Disks that are full, folders that may not be written, and what is left there: nothing."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.templates import GATED, NULL_AND_FILE, begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

needs_root = pytest.mark.usefixtures("root")


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return ballast


@needs_root
def test_a_full_disk_is_told_before_anything_starts(
    cli: Cli, project: Project, small_disk: Path
) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    fill(small_disk)
    result = cli("build", "--state", str(small_disk / "states"), "t.pkr.hcl")
    assert result.rc == 15
    assert "free on its file system" in result.err
    assert "Traceback" not in result.err
    assert not (project.root / "out.txt").exists()
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast"]


@needs_root
def test_a_disk_that_fills_up_during_a_run_loses_nothing_acknowledged(
    cli: Cli, project: Project, small_disk: Path
) -> None:
    project.write("t.pkr.hcl", GATED)
    env = {"PACKER_FORK_STATE": str(small_disk)}
    running = begun(cli, project, "t.pkr.hcl", env=env)
    before = states.state(cli, "t.pkr.hcl", "--state", str(small_disk))
    ballast = fill(small_disk)
    go_on(project.root)
    eventually(lambda: "No space left" in running.err() or running.process.poll() is not None)
    ballast.unlink()
    result = running.wait()
    assert "Traceback" not in result.err
    now = states.state(cli, "t.pkr.hcl", "--state", str(small_disk))
    assert now["serial"] >= before["serial"]
    assert cli("state", "recover", "t.pkr.hcl", env=env).rc == 0
    assert cli("build", "t.pkr.hcl", env=env).rc == 0


@needs_root
def test_a_read_only_folder_is_told_before_anything_starts(
    cli: Cli, project: Project, small_disk: Path
) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = cli("build", "--state", str(small_disk), "t.pkr.hcl")
    assert result.rc == 15
    assert "Read-only file system" in result.err
    assert not (project.root / "out.txt").exists()


def test_a_log_that_cannot_be_written_does_no_harm(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    assert cli("build", "t.pkr.hcl").rc == 0
    (states.folder(project.root) / "logs" / "2-1.log").mkdir()
    result = cli("build", "--rebuild", "t.pkr.hcl")
    assert result.rc == 0
    assert "2-1.log cannot be written" in result.err
    assert states.statuses(cli) == {"null.n": "complete", "file.f": "complete"}


@pytest.mark.parametrize(
    ("arguments", "rc", "says"),
    [
        (["missing.pkr.hcl"], 14, "no template missing.pkr.hcl"),
        (["-"], 14, "standard input"),
        ([".."], 14, "holds no template"),
        (["t.pkr.hcl", "--workspace", "../x"], 2, "not a workspace name"),
        (["t.pkr.hcl", "--lock-timeout", "soon"], 2, "not a duration"),
        (["t.pkr.hcl", "--state", "ftp://x"], 2, "is not the URL of a store"),
        (["t.pkr.hcl", "-var"], 2, "-var needs a value"),
        (["t.pkr.hcl", "-force=maybe"], 2, "neither true nor false"),
        ([], 2, "TEMPLATE"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    cli: Cli, project: Project, arguments: list[str], rc: int, says: str
) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    result = cli("build", *arguments)
    assert result.rc == rc, result
    assert says in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in project.root.iterdir()] == ["t.pkr.hcl"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "was not found"),
        ("#!/bin/sh\necho skipping; cat\n", "another program of that name"),
        ("#!/bin/sh\necho 1.5.6\n", "1.6.0 or later is needed"),
        ("#!/bin/sh\necho 'No $HOME found' >&2\nexit 1\n", "version: No $HOME found"),
        ("not a program", "cannot be started"),
    ],
)
def test_a_packer_that_cannot_be_used_is_told(
    cli: Cli, project: Project, script: str | None, says: str
) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    program = project.root / "tools" / "packer"
    if script is not None:
        project.write("tools/packer", script).chmod(0o755)
    result = cli("build", "t.pkr.hcl", env={"PACKER_FORK_PACKER": str(program)})
    assert result.rc == 14
    assert says in result.err
    assert not (project.root / ".packer-fork").exists()


def test_a_fresh_state_on_ci_is_said_to_end_with_the_job(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    first = cli("build", "t.pkr.hcl", env={"CI": "true"})
    assert "ends with the CI job" in first.err
    second = cli("build", "t.pkr.hcl", env={"CI": "true"})
    assert "ends with the CI job" not in second.err
