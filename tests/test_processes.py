"""Real processes, told apart by start, session, mark and open files."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from packer_fork import host, processes
from packer_fork.locks import ProcessId
from packer_fork.model import CiJob, Git
from tests.conftest import descendants, eventually

pytestmark = pytest.mark.processes

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, marked, with a child and an open file."""
    with (tmp_path / "held").open("wb") as held:
        process = subprocess.Popen(
            ["sh", "-c", "sleep 600 & wait"],
            env={**os.environ, "MARK": str(tmp_path)},
            stdout=held,
            start_new_session=True,
        )
    # A child bears its parent's name until it has become its own program.
    eventually(lambda: {child.command for child in descendants(process.pid)} == {"sleep"})
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def identity_of(process: subprocess.Popen[bytes]) -> ProcessId:
    return host.identify(process.pid)


def dead(pid: int) -> bool:
    return pid not in {process.pid for process in processes.all_processes()}


def test_this_process() -> None:
    me = host.this_process()
    assert me.pid == os.getpid()
    assert processes.alive(me)
    assert processes.same_system(me)
    found = next(process for process in processes.all_processes() if process.pid == me.pid)
    assert (found.ppid, found.session) == (os.getppid(), os.getsid(0))


@linux_only
@pytest.mark.parametrize("change", [{"boot": "other"}, {"namespace": "pid:[1]"}, {"started": 1}])
def test_another_process_of_the_same_pid(change: dict[str, str | int]) -> None:
    assert not processes.alive(structs.replace(host.this_process(), **change))


@linux_only
def test_pid_that_is_not_in_use() -> None:
    assert not processes.alive(structs.replace(host.this_process(), pid=2**22 + 1))
    assert host.identify(2**22 + 1).started == 0


@linux_only
def test_session_and_descendants(sleeper: subprocess.Popen[bytes]) -> None:
    session = {process.command for process in processes.in_session(sleeper.pid)}
    assert session == {"sh", "sleep"}
    (child,) = descendants(sleeper.pid)
    assert (child.command, child.ppid, child.session) == ("sleep", sleeper.pid, sleeper.pid)
    assert child.pid in {process.pid for process in descendants(os.getpid())}


@linux_only
def test_marked(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    marked = {process.pid for process in processes.marked("MARK", str(tmp_path))}
    assert marked == {process.pid for process in processes.in_session(sleeper.pid)}
    assert processes.marked("MARK", str(tmp_path)[:-1]) == []


@linux_only
def test_holders(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    held = tmp_path / "held"
    holders = {process.pid for process in processes.holders_of(held)}
    assert holders == {process.pid for process in processes.in_session(sleeper.pid)}
    held.unlink()
    assert processes.holders_of(held) == []
    held.touch()
    assert processes.holders_of(held) == []


@linux_only
def test_zombie_is_dead(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper)
    assert processes.alive(identity)
    os.kill(sleeper.pid, signal.SIGKILL)
    eventually(lambda: dead(sleeper.pid))
    assert not processes.alive(identity)
    assert processes.zombies(os.getpid(), sleeper.pid) == [sleeper.pid]


@linux_only
def test_names_that_are_hard_to_read(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b\nc"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        found = next(each for each in processes.all_processes() if each.pid == process.pid)
        process.kill()
    assert (found.ppid, found.command) == (os.getpid(), program.name)


@linux_only
def test_arguments_are_never_shown(tmp_path: Path) -> None:
    program = tmp_path / "packer"
    program.symlink_to("/bin/bash")
    argv = [str(program), "-c", "sleep 600 & wait", "packer", "password=hunter2"]
    process = subprocess.Popen(argv, start_new_session=True)

    def shown() -> set[str]:
        return {found.command for found in processes.in_session(process.pid)}

    try:
        eventually(lambda: shown() == {"packer", "sleep"})
        assert processes.arguments(process.pid)[-1] == "password=hunter2"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_actor() -> None:
    actor = host.this_actor()
    assert (actor.pid, actor.host) == (os.getpid(), os.uname().nodename)
    assert actor.user


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({}, None),
        ({"CI": "false"}, None),
        ({"CI": "true"}, CiJob(service="CI")),
        (
            {
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_JOB": "images",
                "GITHUB_SERVER_URL": "https://forge.example",
                "GITHUB_REPOSITORY": "a/b",
                "GITHUB_RUN_ID": "7",
            },
            CiJob(
                service="GitHub Actions",
                job="images",
                url="https://forge.example/a/b/actions/runs/7",
            ),
        ),
        (
            {"GITLAB_CI": "true", "CI_JOB_NAME": "j", "CI_JOB_URL": "https://x/1"},
            CiJob(service="GitLab CI", job="j", url="https://x/1"),
        ),
        (
            {"JENKINS_URL": "https://j", "JOB_NAME": "n", "BUILD_URL": "https://j/1"},
            CiJob(service="Jenkins", job="n", url="https://j/1"),
        ),
        ({"BUILDKITE": "true"}, CiJob(service="Buildkite")),
        (
            {"CIRCLECI": "true", "CIRCLE_JOB": "j", "CIRCLE_BUILD_URL": "https://c/1"},
            CiJob(service="CircleCI", job="j", url="https://c/1"),
        ),
        (
            {
                "TF_BUILD": "True",
                "SYSTEM_COLLECTIONURI": "https://d/o/",
                "SYSTEM_TEAMPROJECT": "p",
                "BUILD_BUILDID": "9",
            },
            CiJob(service="Azure Pipelines", url="https://d/o/p/_build/results?buildId=9"),
        ),
    ],
)
def test_ci_job(environ: dict[str, str], job: CiJob | None) -> None:
    assert host.ci_job(environ) == job


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git(tmp_path: Path) -> None:
    assert host.git_of(tmp_path) is None
    git(tmp_path, "init", "--quiet", "--initial-branch", "topic")
    assert host.git_of(tmp_path) is None
    tracked = tmp_path / "file"
    tracked.write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert host.git_of(tmp_path) == Git(commit=commit, branch="topic")
    tracked.write_text("two")
    assert host.git_of(tmp_path) == Git(commit=commit, branch="topic", dirty=True)
    git(tmp_path, "checkout", "--quiet", "--detach", "--force", "HEAD")
    assert host.git_of(tmp_path) == Git(commit=commit)
    assert host.git_of(tmp_path / "missing") is None


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.git_of(Path(__file__).parent) is None
