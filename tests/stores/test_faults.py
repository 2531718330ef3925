"""A disk that fails at any write, sync or rename: nothing acknowledged is lost."""

import contextlib
import errno
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packer_fork import lock_steps
from packer_fork.errors import StoreError
from packer_fork.lock_steps import MOST_PARTICIPANTS
from packer_fork.locks import LockStatus
from packer_fork.model import Actor, Build, PendingChange
from packer_fork.stores.base import HeldLock
from packer_fork.stores.local import mutex
from packer_fork.stores.local.layout import Layout
from tests.support import committer
from tests.support.forking import COMMITTER, Forking
from tests.support.hammer import commit, committed, ignore, open_journal
from tests.support.local_store import holder, open_store
from tests.support.store_operations import in_a_process, lock_of
from tests.support.strace import read_calls, run_traced, under_strace

CALLS = ("write", "pwrite64", "fdatasync", "fsync", "rename")
ROOT = Path(__file__).parents[2]
CLOSES_IN_A_STEP = 7
"""There are many, also of files that are only read."""

pytestmark = pytest.mark.usefixtures("strace")


Noted = dict[int, str]
Run = Callable[[Path, str, str], tuple[Noted, str]]


@pytest.fixture
def run(forking: Forking) -> Run:
    """What the committer says was acknowledged, and what strace saw; `call` fails or kills."""

    def run(folder: Path, injection: str, call: str) -> tuple[Noted, str]:
        calls = "trace=write,pwrite64,fdatasync,fsync,rename,close"
        options = ("-y", "-e", calls, "-e", f"inject={call}:{injection}")
        done = run_traced(forking, folder, COMMITTER, [str(folder / "state")], *options)
        assert done.returncode in (0, -signal.SIGKILL), done.err
        lines = (line.split() for line in done.out.splitlines())
        return {int(serial): mark for serial, mark in lines}, done.calls

    return run


def each_time(
    run: Run, tmp_path: Path, injection: str, call: str, step: int = 1
) -> Iterator[tuple[Path, Noted, str]]:
    """A fresh folder for each n, in steps, for as long as there is an nth call to inject into."""
    for number in range(1, 200, step):
        folder = tmp_path / f"{number}"
        (folder / "state").mkdir(parents=True)
        noted, trace = run(folder, f"{injection}:when={number}", call)
        if "INJECTED" not in trace and "killed by SIGKILL" not in trace:
            assert len(noted) == committer.COMMITS
            assert number > 1
            return
        yield folder / "state", noted, trace
    pytest.fail("there is always one more")


def assert_kept(folder: Path, noted: Noted) -> None:
    """Everything acknowledged is there, now and after one more commit."""
    for last in (None, "after"):
        if last:
            serial = commit(folder, open_journal(folder), last)
            noted = {**noted, serial: last}
        found = committed(folder) if noted else {}
        assert {serial: found.get(serial) for serial in noted} == noted


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_an_error_at_any_call_loses_nothing_acknowledged(
    run: Run, tmp_path: Path, call: str, error: str
) -> None:
    for folder, noted, trace in each_time(run, tmp_path, f"error={error}", call):
        assert_kept(folder, noted)
        assert_given_up(trace)


@pytest.mark.parametrize("call", [*CALLS, "close"])
def test_a_kill_at_any_call_loses_nothing_acknowledged(run: Run, tmp_path: Path, call: str) -> None:
    step = CLOSES_IN_A_STEP if call == "close" else 1
    for folder, noted, _ in each_time(run, tmp_path, "signal=SIGKILL", call, step):
        assert_kept(folder, noted)


def assert_given_up(trace: str) -> None:
    """After an error a descriptor is closed before anything else is done with it."""
    lines = trace.splitlines()
    for index, line in enumerate(lines):
        failed = re.match(r"(?:write|pwrite64|fdatasync|fsync)\((\d+)<.*INJECTED", line)
        if failed:
            later = (other for other in lines[index + 1 :] if f"({failed[1]}<" in other)
            assert next(later, "close(").startswith("close("), line


def test_a_short_write_is_replaced_by_a_new_inode(tmp_path: Path) -> None:
    here = open_journal(tmp_path)
    commit(tmp_path, here, "one")
    state = tmp_path / "state.json"
    inode, size = state.stat().st_ino, state.stat().st_size
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            commit(tmp_path, here, "two")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert state.stat().st_size == size + 10
    assert committed(tmp_path) == {1: "one"}
    commit(tmp_path, here, "three")
    assert committed(tmp_path) == {1: "one", 2: "three"}
    assert state.stat().st_ino != inode


def test_a_failing_sync_is_made_up_for_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    noted, trace = run(tmp_path, "error=EIO:when=1", "fdatasync")
    assert len(noted) == committer.COMMITS, "the change went into a new inode"
    assert "INJECTED" in trace


def test_token_is_durable_before_the_first_change_that_carries_it(tmp_path: Path) -> None:
    """And before that the end of the lock that it takes over from."""
    folder, trace = tmp_path / "t" / "default", tmp_path / "trace"

    def holding() -> HeldLock:
        lock = open_store(folder).try_acquire(holder("killed"))
        assert not isinstance(lock, LockStatus)
        lock.commit(PendingChange(operation="test"))
        return lock

    with in_a_process(holding):
        pass
    subprocess.run(
        [
            *under_strace(trace, "-y", "-e", "trace=write,fdatasync,fsync,rename"),
            *(sys.executable, "-m", "tests.support.actor", str(folder)),
        ],
        cwd=ROOT,
        input="take\ncommit one\n",
        check=True,
        text=True,
    )
    assert list(on_files(folder, read_calls(trace))) == [
        *("write .lock.*", "fsync .lock.*", "rename lock", "fsync folder"),  # the end of the first
        *("write .lock.*", "rename lock"),
        *("fsync lock", "fsync folder"),
        *("write state.json", "fdatasync state.json"),
    ]


def on_files(folder: Path, calls: str) -> Iterator[str]:
    """Each call with the name of its file in `folder`, or of its new name, one after the other."""
    for line in calls.splitlines():
        call = line.partition("(")[0]
        paths = re.findall(rf"[<\"]{re.escape(str(folder))}/?([^/<>\"]*)[>\"]", line)
        if paths:
            yield f"{call} {re.sub('[0-9a-f]{32}', '*', paths[-1]) or 'folder'}"


class Synced:
    """Notes which inodes are synced, and lets the next sync of one of them fail."""

    def __init__(self) -> None:
        self.inodes: list[int] = []
        self.fails: int | None = None
        self._sync = os.fsync

    def sync(self, descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        self.inodes.append(inode)
        if inode == self.fails:
            self.fails = None
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._sync(descriptor)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Synced:
    synced = Synced()
    monkeypatch.setattr(os, "fsync", synced.sync)
    return synced


def first_commit(lock: HeldLock) -> None:
    lock.commit(PendingChange(operation="test", why="refused"))


def note(lock: HeldLock) -> None:
    lock.note(run=1)


@pytest.mark.parametrize(
    ("fails", "step"), [("lock", first_commit), (".", first_commit), (".", note)]
)
def test_record_whose_sync_failed_is_written_into_a_new_inode(
    tmp_path: Path, synced: Synced, fails: str, step: Callable[[HeldLock], None]
) -> None:
    folder = tmp_path / "t" / "default"
    record = folder / "lock"
    with lock_of(open_store(folder)) as lock:
        if step is note:
            lock.commit(PendingChange(operation="test", why="before"))
        synced.fails = (folder / fails).stat().st_ino
        with pytest.raises(StoreError, match="Input/output error"):
            step(lock)
        suspect = record.stat().st_ino
        synced.inodes.clear()
        lock.commit(PendingChange(operation="test", why="after"))
        assert suspect != record.stat().st_ino
        assert synced.inodes[:2] == [record.stat().st_ino, folder.stat().st_ino]
        assert lock.is_open()
    assert list(committed(folder).values()) == (["before"] if step is note else []) + ["after"]


def test_second_participant_is_in_a_durable_record(tmp_path: Path, synced: Synced) -> None:
    folder = tmp_path / "t" / "default"
    store = open_store(folder)
    first = store.try_acquire(holder("first"), max_participants=MOST_PARTICIPANTS)
    assert not isinstance(first, LockStatus)
    with contextlib.closing(first):
        first.update(lambda share, _: lock_steps.admit(share, inputs="f", run=1, wanted=("a",)))
        synced.inodes.clear()
        second = store.join(holder("second"), lock_id=first.record.id, inputs="f")
        assert second is not None
        with contextlib.closing(second):
            assert synced.inodes == [(folder / "lock").stat().st_ino, folder.stat().st_ino]
            synced.inodes.clear()
            assert first.update(lambda share, _: lock_steps.want(share, ("b",)))
            assert synced.inodes == [(folder / "lock").stat().st_ino, folder.stat().st_ino]


def test_the_mutex_is_released_by_an_error(tmp_path: Path) -> None:
    by = Actor(user="test", host="here", pid=1)
    builds: dict[str, Build | None] = {"b": Build(name="b", metadata={"deep": _too_deep()})}
    for _ in range(2):
        with pytest.raises(Exception, match="nested"), mutex.held(Layout(tmp_path).mutex, ignore):
            open_journal(tmp_path).commit(
                PendingChange(operation="t", builds=builds), token=1, by=by
            )


def _too_deep() -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(300):
        value = {"k": value}
    return value
