"""Disks that are full, folders that may not be written, and what is left there: nothing."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer_fork.disk_reserve import SMALLEST_RESERVE
from packer_fork.locks import LockStatus
from packer_fork.model import PendingChange
from packer_fork.stores.local.journal import REST_SIZE
from tests.conftest import Cli, Project, Result, eventually, unavailable
from tests.support import states
from tests.support.local_store import holder, open_store
from tests.support.templates import GATED, NULL_AND_FILE, begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

needs_root = pytest.mark.usefixtures("root")


GARRULOUS = """
    source "null" "n" { communicator = "none" }
    build {
      sources = ["null.n"]
      provisioner "shell-local" { inline = ["yes $(seq 40) | head -c 8000000"] }
    }
"""
"""Prints more than a small disk takes."""


@pytest.fixture(params=["tmpfs", "ext4"])
def filling_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    mount = tmp_path / "filling"
    mount.mkdir()
    options = ["-t", "tmpfs", "-o", "size=4m", "none"]
    if request.param == "ext4":
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(4 << 20)
        made = subprocess.run(
            ["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=False
        )
        if made.returncode:
            unavailable("mkfs.ext4 fails here")
        options = ["-o", "loop", str(image)]
    if subprocess.run(["mount", *options, mount], check=False).returncode:
        unavailable(f"cannot mount {request.param} here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


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
def test_packer_is_cancelled_before_its_output_fills_the_disk(
    cli: Cli, project: Project, filling_disk: Path
) -> None:
    project.write("t.pkr.hcl", GARRULOUS)
    env = {"PACKER_FORK_STATE": str(filling_disk), "PACKER_FORK_GRACE": "1s"}
    result = cli("build", "t.pkr.hcl", env=env)
    assert result.rc == 1, result
    assert result.err.count("the disk of the state is full: Packer is cancelled") == 1
    found = states.state(cli, "t.pkr.hcl", "--state", str(filling_disk))
    assert found["last_run"]["status"] == "cancelled"
    assert found["last_run"]["error"] == "the disk of the state is full"
    assert states.lock(cli, "t.pkr.hcl", "--state", str(filling_disk))["status"] == "free"


@needs_root
def test_run_ends_in_order_on_a_disk_that_others_fill(
    cli: Cli, project: Project, filling_disk: Path
) -> None:
    project.write("t.pkr.hcl", GATED)
    env = {"PACKER_FORK_STATE": str(filling_disk)}
    running = begun(cli, project, "t.pkr.hcl", env=env)
    folder = filling_disk / "t.pkr.hcl" / "default"
    reserved = [folder / "state.json", folder / "logs" / "1-1.raw", folder / "logs" / "1-1.err"]
    eventually(lambda: min(map(allocated, reserved)) >= SMALLEST_RESERVE)
    fill(filling_disk)
    go_on(project.root)
    result = running.wait()
    assert result.rc == 0, result
    found = states.state(cli, "t.pkr.hcl", "--state", str(filling_disk))
    assert found["builds"]["null.n"]["status"] == "complete"
    assert found["last_run"]["status"] == "complete"
    assert states.lock(cli, "t.pkr.hcl", "--state", str(filling_disk))["status"] == "free"


@needs_root
def test_released_reserve_takes_the_results_of_a_lost_lock(
    cli: Cli, project: Project, filling_disk: Path
) -> None:
    project.write("t.pkr.hcl", GATED)
    env = {"PACKER_FORK_STATE": str(filling_disk)}
    running = begun(cli, project, "t.pkr.hcl", env=env)
    logs = filling_disk / "t.pkr.hcl" / "default" / "logs"
    eventually(lambda: allocated(logs / "1-1.err") >= SMALLEST_RESERVE)
    lock_id = states.lock(cli, "t.pkr.hcl", "--state", str(filling_disk))["id"]
    assert cli("force-unlock", lock_id, "--allow-live", "--yes", env=env).rc == 0
    fill(filling_disk)
    go_on(project.root)
    result = running.wait()
    assert result.rc == 13, result
    (path,) = logs.glob("*.late.json")
    assert f"the results are kept in {path}" in result.err


def test_lock_releases_the_reserve_behind_the_state(tmp_path: Path) -> None:
    store = open_store(tmp_path / "default")
    lock = store.try_acquire(holder("build"))
    assert not isinstance(lock, LockStatus)
    lock.commit(PendingChange(operation="create"))
    assert lock.reserve()
    assert allocated(tmp_path / "default" / "state.json") >= SMALLEST_RESERVE
    lock.close()
    assert allocated(tmp_path / "default" / "state.json") < SMALLEST_RESERVE


@needs_root
def test_durable_change_is_acknowledged_where_the_state_cannot_be_compacted(
    filling_disk: Path,
) -> None:
    store = open_store(filling_disk / "default")
    lock = store.try_acquire(holder("build"))
    assert not isinstance(lock, LockStatus)
    change = PendingChange(operation="create", why="x" * 100_000)
    for _ in range(REST_SIZE // 100_000):
        lock.commit(change)
        assert lock.reserve()
    fill(filling_disk)
    for _ in range(4):
        lock.commit(change)
    state = store.read()
    assert state is not None
    assert state.serial == REST_SIZE // 100_000 + 4
    lock.close()


def remove(folder: Path) -> None:
    """Remove a folder that a build may write to at this moment."""
    gone = folder.rename(folder.with_name("gone"))
    shutil.rmtree(gone)


def late_results(result: Result) -> dict[str, str]:
    """The status of each build in the results that a build printed."""
    (line,) = [line for line in result.out.splitlines() if line.startswith("{")]
    return {name: build["status"] for name, build in json.loads(line)["builds"].items()}


@pytest.mark.parametrize("kept_in", ["state folder", "outbox", "stdout"])
def test_results_survive_the_removal_of_the_state_folder(
    cli: Cli, project: Project, kept_in: str
) -> None:
    project.write("t.pkr.hcl", GATED)
    root, spool = project.root / ".packer-fork", project.root / "spool"
    env = {"PACKER_FORK_OUTBOX": str(spool)} if kept_in == "outbox" else {}
    running = begun(cli, project, "t.pkr.hcl", env=env)
    remove(root)
    if kept_in == "stdout":
        root.write_text("no folder can be made here")
    go_on(project.root)
    result = running.wait()
    assert result.rc == 13, result
    assert late_results(result) == {"null.n": "complete"}
    assert "was removed while Packer ran" in result.err
    assert "log:" not in result.err
    assert "state recover" not in result.err, "there is no state that takes them"
    files = list(project.root.rglob("*.late.json"))
    assert [path.is_relative_to(spool) for path in files] == {
        "state folder": [False],
        "outbox": [True],
        "stdout": [],
    }[kept_in]
    for path in files:
        assert f"the results are kept in {path}" in result.err
    if kept_in != "stdout":
        assert cli("build", "t.pkr.hcl").rc == 0


def test_build_in_a_removed_state_folder_harms_no_build_in_the_new_one(
    cli: Cli, project: Project
) -> None:
    project.write("t.pkr.hcl", GATED)
    first = begun(cli, project, "t.pkr.hcl")
    remove(project.root / ".packer-fork")
    elsewhere = project.root / "elsewhere"
    elsewhere.mkdir()
    second = cli.start("build", "../t.pkr.hcl", cwd=elsewhere)
    eventually((elsewhere / "begun").exists)
    go_on(project.root)
    result = first.wait()
    assert result.rc == 13, result
    assert late_results(result) == {"null.n": "complete"}
    assert "and another build took its place" in result.err
    assert "log:" not in result.err
    assert states.status(cli) == "held"
    assert (states.folder(project.root) / "logs" / "1-1.raw").exists()
    go_on(elsewhere)
    assert second.wait().rc == 0
    assert states.statuses(cli) == {"null.n": "complete"}
    assert states.status(cli) == "free"


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
