"""Real Packer, its sessions and signals. Members are looked at, never only counted."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from packer_fork import processes
from packer_fork.errors import PackerError, StoreError
from packer_fork.packer.process import Launch, PackerProcess, start
from packer_fork.packer.signals import SignalWatch
from packer_fork.packer.tail import Tail
from tests.conftest import Project, eventually
from tests.support.packer_versions import plugin_processes

pytestmark = pytest.mark.processes

MARKER = "PACKER_FORK_TEST_MARK"


class Ground(NamedTuple):
    """A folder to build in, a lock that Packer inherits, and what was started."""

    project: Project
    packer: Path
    lock: Path
    descriptor: int
    started: list[PackerProcess]

    @property
    def mark(self) -> str:
        return str(self.project.root)

    @property
    def output(self) -> str:
        return (self.project.root / "out").read_text(encoding="utf-8")

    def template(self, script: str) -> None:
        self.project.write(
            "t.pkr.hcl",
            f"""
            source "null" "a" {{ communicator = "none" }}
            build {{
              sources = ["null.a"]
              provisioner "shell-local" {{ inline = [{script}] }}
            }}
            """,
        )

    def start(self, *command: str, directory: Path | None = None) -> PackerProcess:
        launch = Launch(
            command=command or (str(self.packer), "build", "-machine-readable", "t.pkr.hcl"),
            directory=directory or self.project.root,
            environ={**os.environ, "CHECKPOINT_DISABLE": "1"},
            lock=self.descriptor,
            marker=(MARKER, self.mark),
            die_with_parent=False,
        )
        packer = start(launch, stdout=self.project.root / "out", stderr=self.project.root / "err")
        self.started.append(packer)
        return packer

    def locked(self) -> bool:
        with self.lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False


@pytest.fixture
def ground(project: Project, packer: Path) -> Iterator[Ground]:
    lock = project.root / "lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    ground = Ground(project, packer, lock, descriptor, [])
    ground.template('"echo going", "sleep 60 & wait"')
    yield ground
    for packer_process in ground.started:
        packer_process.kill()
        packer_process.reap()
    for left in processes.marked(MARKER, ground.mark):
        os.kill(left.pid, signal.SIGKILL)


def names(members: list[processes.Process]) -> set[str]:
    return {member.command for member in members}


def in_provisioner(ground: Ground, packer: PackerProcess) -> None:
    """Wait until the provisioner's own process runs."""
    eventually(lambda: "sleep" in names(packer.members()), 20)
    assert packer.poll() is None, ground.output


def ended(packer: PackerProcess) -> int:
    assert eventually(lambda: packer.poll() is not None, 20)
    code = packer.poll()
    assert code is not None
    return code


def inner_of(packer: PackerProcess) -> int:
    inner = [member for member in packer.members() if member.ppid == packer.pid]
    assert [member.command for member in inner] == ["packer build"]
    return inner[0].pid


def test_orderly_end(ground: Ground) -> None:
    ground.template('"echo going"')
    packer = ground.start()
    assert ended(packer) == 0
    assert packer.members() == []
    assert "Builds finished" in ground.output
    assert (ground.project.root / "out").stat().st_mode & 0o777 == 0o600


def test_output_is_appended(ground: Ground) -> None:
    ground.project.write("out", "before\n")
    ground.template('"echo going"')
    assert ended(ground.start()) == 0
    assert ground.output.startswith("before\n")
    assert "going" in ground.output


def test_identity_and_session(ground: Ground) -> None:
    packer = ground.start()
    in_provisioner(ground, packer)
    assert packer.identity.pid == packer.pid
    assert processes.alive(packer.identity)
    assert {member.session for member in packer.members()} == {packer.pid}
    assert names(packer.members()) == {
        "packer build",
        *plugin_processes("packer-builder-null", "packer-provisioner-shell-local"),
        "sh",
        "sleep",
    }
    marked = {process.pid for process in processes.marked(MARKER, ground.mark)}
    assert marked == {member.pid for member in packer.members()}


def test_terminate_cancels_gracefully_and_leftovers_are_seen(ground: Ground) -> None:
    packer = ground.start()
    in_provisioner(ground, packer)
    packer.terminate()
    assert ended(packer) == 1
    assert "Cleanly cancelled builds" in ground.output
    assert not packer.outlived_by_inner()
    assert "sleep" in names(packer.members())  # Packer 1.6.6 leaves a quiet script behind
    packer.kill()
    assert packer.members() == []


def test_inner_killed_is_no_failure_for_the_outer(ground: Ground) -> None:
    packer = ground.start()
    in_provisioner(ground, packer)
    os.kill(inner_of(packer), signal.SIGKILL)
    assert ended(packer) == 0
    assert "Builds finished" not in ground.output
    assert not packer.outlived_by_inner()
    assert "sleep" in names(packer.members())


def test_outer_killed_leaves_the_inner(ground: Ground) -> None:
    packer = ground.start()
    in_provisioner(ground, packer)
    inner = inner_of(packer)
    os.kill(packer.pid, signal.SIGKILL)
    assert ended(packer) == -signal.SIGKILL
    assert inner in {member.pid for member in packer.members()}
    assert packer.outlived_by_inner()
    assert ground.locked()
    # Its output went through the outer one: it dies of its next line (SIGPIPE).
    packer.terminate_members()
    assert eventually(lambda: not packer.members(), 20)
    assert "Builds finished" not in ground.output


def test_lock_is_held_while_only_the_inner_lives(ground: Ground) -> None:
    packer = ground.start()
    in_provisioner(ground, packer)
    os.close(ground.descriptor)
    inner = inner_of(packer)
    os.kill(inner, signal.SIGSTOP)  # or it would end as soon as its plugins do
    for member in packer.members():
        if member.pid != inner:
            os.kill(member.pid, signal.SIGKILL)
    eventually(lambda: [member.pid for member in packer.members()] == [inner])
    holders = {process.pid for process in processes.holders_of(ground.lock)}
    assert holders == {inner}
    numbers = [
        int(link.name)
        for link in Path(f"/proc/{inner}/fd").iterdir()
        if link.readlink() == ground.lock
    ]
    assert numbers
    assert min(numbers) >= 200
    assert ground.locked()
    packer.kill()
    assert not ground.locked()


def test_daemon_in_its_own_session_is_no_member(ground: Ground) -> None:
    ground.template('"setsid sleep 60 > /dev/null 2>&1 &", "echo going"')
    packer = ground.start()
    assert ended(packer) == 0
    # A child bears its parent's name until it has become its own program.
    eventually(lambda: names(processes.marked(MARKER, ground.mark)) == {"sleep"})
    daemons = processes.marked(MARKER, ground.mark)
    assert packer.members() == []
    packer.kill()
    assert processes.marked(MARKER, ground.mark) == daemons


def test_child_in_another_session_is_a_member_and_killed(ground: Ground) -> None:
    ground.template('"setsid -w sleep 60"')
    packer = ground.start()
    in_provisioner(ground, packer)
    sleeper = next(member for member in packer.members() if member.command == "sleep")
    assert sleeper.session != packer.pid
    packer.kill()
    assert processes.marked(MARKER, ground.mark) == []


def test_reap_buries_adopted_processes(ground: Ground) -> None:
    packer = ground.start()
    in_provisioner(ground, packer)
    packer.kill()
    packer.reap()
    assert processes.zombies(os.getpid(), packer.pid) == []
    assert packer.poll() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), ("", "Exec format"), ("#!/no/sh", "No such")]
)
def test_program_that_cannot_be_started(ground: Ground, content: str | None, reason: str) -> None:
    program = ground.project.root / "broken"
    if content is not None:
        program.write_text(content)
        program.chmod(0o700)
    with pytest.raises(PackerError, match=f"broken cannot be started .*{reason}"):
        ground.start(str(program))


def test_program_that_may_not_be_executed(ground: Ground) -> None:
    with pytest.raises(PackerError, match="Permission denied"):
        ground.start(str(ground.lock))


def test_directory_that_is_gone(ground: Ground) -> None:
    with pytest.raises(PackerError, match="no such directory"):
        ground.start(directory=ground.project.root / "gone")


def test_log_that_cannot_be_opened(ground: Ground) -> None:
    (ground.project.root / "out").mkdir()
    with pytest.raises(StoreError, match="out cannot be opened"):
        ground.start()


CHILD = """
import os, signal, sys
from pathlib import Path
from packer_fork.packer.process import Launch, start

signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
here = Path.cwd()
launch = Launch(
    command=tuple(sys.argv[1:]), directory=here, environ=os.environ,
    lock=os.open("lock", os.O_RDWR), marker=("A", "b"), die_with_parent=True,
)
packer = start(launch, stdout=here / "out", stderr=here / "err")
print(packer.pid, flush=True)
sys.stdin.read()
"""


def wrapper(ground: Ground, *command: str) -> tuple[subprocess.Popen[bytes], int]:
    """A Python of its own that started `command` with die_with_parent, and its child's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *command],
        cwd=ground.project.root,
        env={**os.environ, MARKER: ground.mark, "PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_packer_is_cancelled_when_its_wrapper_is_killed(ground: Ground) -> None:
    ground.template('"echo going", "while :; do sleep 0.1; echo still; done"')
    process, pid = wrapper(ground, str(ground.packer), "build", "-machine-readable", "t.pkr.hcl")
    eventually(lambda: "going" in ground.output, 20)
    assert processes.in_session(pid)
    end(process)
    eventually(lambda: "Cleanly cancelled builds" in ground.output, 20)
    eventually(lambda: pid not in {found.pid for found in processes.all_processes()}, 20)


def test_child_has_default_signals(ground: Ground) -> None:
    process, pid = wrapper(ground, "sleep", "60")
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    end(process)
    caught_or_hidden = int(masks["SigBlk"], 16) | int(masks["SigIgn"], 16)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD):
        assert not caught_or_hidden & 1 << (number - 1), number


def test_tail_reads_what_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    with Tail(path, 4) as tail:
        assert tail.read() == b"456789"
        assert tail.read() == b""
        with path.open("ab") as file:
            file.write(b"x" * (3 << 20))
        path.unlink()
        sizes = [len(tail.read()) for _ in range(4)]
        assert sizes == [1 << 20, 1 << 20, 1 << 20, 0]


def handlers() -> Mapping[int, object]:
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    return {number: signal.getsignal(number) for number in watched}


def test_watch_counts_signals_and_restores() -> None:
    before = handlers()
    with SignalWatch() as watch:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
            watch.wait(60)
        assert watch.signals == [15, 2, 1, 15]
    assert handlers() == before
    assert signal.set_wakeup_fd(-1) == -1


def wakes(watch: SignalWatch, action: Callable[[], object]) -> bool:
    """Whether a wait far longer than a test may last returns after `action`."""
    timer = threading.Timer(0.05, action)
    timer.start()
    watch.wait(100)
    timer.join()
    return True


def test_watch_wakes_for_a_signal_and_for_a_child() -> None:
    with SignalWatch() as watch:
        assert wakes(watch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert watch.signals == [signal.SIGTERM]
        child = subprocess.Popen(["sleep", "60"])
        assert wakes(watch, child.kill)
        child.wait()
        assert watch.signals == [signal.SIGTERM]


def test_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalWatch() as watch:
            os.kill(os.getpid(), signal.SIGHUP)
            assert watch.signals == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_watch_in_another_thread_only_waits() -> None:
    before, seen = handlers(), []

    def body() -> None:
        with SignalWatch() as watch:
            begun = time.monotonic()
            watch.wait(0.02)
            seen.append((watch.signals, time.monotonic() - begun >= 0.02, handlers() == before))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [([], True, True)]
