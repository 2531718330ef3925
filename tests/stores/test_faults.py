"""A disk that fails at any write, sync or rename: nothing acknowledged is lost."""

import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from packer_fork.model import Actor, Build, Draft
from packer_fork.stores.local import mutex
from packer_fork.stores.local.layout import Layout
from tests.support import committer
from tests.support.hammer import commit, committed, ignore, open_journal
from tests.support.strace import read_calls, under_strace

CALLS = ("write", "pwrite64", "fdatasync", "fsync", "rename")
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("strace")


def run(folder: Path, injection: str, call: str) -> tuple[dict[int, str], str]:
    """What the committer says was acknowledged, and what strace saw; `call` fails or kills."""
    trace = folder / "trace"
    calls = "trace=write,pwrite64,fdatasync,fsync,rename,close"
    done = subprocess.run(
        [
            *under_strace(trace, "-y", "-e", calls, "-e", f"inject={call}:{injection}"),
            *(sys.executable, "-m", "tests.support.committer", str(folder / "state")),
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    lines = (line.split() for line in done.stdout.splitlines())
    return {int(serial): mark for serial, mark in lines}, read_calls(trace)


def each_time(
    tmp_path: Path, injection: str, call: str
) -> Iterator[tuple[Path, dict[int, str], str]]:
    """A fresh folder for each n, for as long as there is an nth call to inject into."""
    for number in range(1, 200):
        folder = tmp_path / f"{number}"
        (folder / "state").mkdir(parents=True)
        noted, trace = run(folder, f"{injection}:when={number}", call)
        if "INJECTED" not in trace and "killed by SIGKILL" not in trace:
            assert len(noted) == committer.COMMITS
            assert number > 1
            return
        yield folder / "state", noted, trace
    pytest.fail("there is always one more")


def assert_kept(folder: Path, noted: dict[int, str]) -> None:
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
    tmp_path: Path, call: str, error: str
) -> None:
    for folder, noted, trace in each_time(tmp_path, f"error={error}", call):
        assert_kept(folder, noted)
        assert_given_up(trace)


@pytest.mark.parametrize("call", [*CALLS, "close"])
def test_a_kill_at_any_call_loses_nothing_acknowledged(tmp_path: Path, call: str) -> None:
    if call == "close":  # hundreds before the first commit, in the start of the interpreter
        numbers = range(1, 600, 97)
        for number in numbers:
            folder = tmp_path / f"{number}"
            (folder / "state").mkdir(parents=True)
            noted, _ = run(folder, f"signal=SIGKILL:when={number}", call)
            assert_kept(folder / "state", noted)
        return
    for folder, noted, _ in each_time(tmp_path, "signal=SIGKILL", call):
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


def test_a_failing_sync_is_made_up_for_at_once(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    noted, trace = run(tmp_path, "error=EIO:when=1", "fdatasync")
    assert len(noted) == committer.COMMITS, "the change went into a new inode"
    assert "INJECTED" in trace


def test_the_mutex_is_released_by_an_error(tmp_path: Path) -> None:
    by = Actor(user="test", host="here", pid=1)
    builds: dict[str, Build | None] = {"b": Build(name="b", metadata={"deep": _too_deep()})}
    for _ in range(2):
        with pytest.raises(Exception, match="nested"), mutex.held(Layout(tmp_path).mutex, ignore):
            open_journal(tmp_path).commit(Draft(operation="t", builds=builds), tenure=1, by=by)


def _too_deep() -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(300):
        value = {"k": value}
    return value
