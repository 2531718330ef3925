"""The wrapper killed at every commit point, and at random times: nothing acknowledged is lost."""

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from packer_fork.stores.local import probe
from packer_fork.stores.local.layout import Layout
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.hammer import committed, open_journal
from tests.support.templates import NULL_AND_FILE

pytestmark = pytest.mark.usefixtures("packer", "strace")

KILLS = 6
POINTS = ("fdatasync", "fsync", "rename", "pwrite64", "unlink")


def settled(folder: Path) -> bool:
    """Whether nothing of the last build lives any more."""
    return not any(probe.is_alive(Layout(folder), n) for n in Layout(folder).known_tenures())


def serial(folder: Path) -> int:
    file = open_journal(folder).read()
    return file.state.serial if file else 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", POINTS)
def test_killed_at_every_commit_point(cli: Cli, project: Project, call: str) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    folder = states.folder(project.root)
    for number in range(1, 100, 6):  # `make stress` kills at every one
        fault = f"inject={call}:signal=SIGKILL:when={number}"
        narrowed = ["-P", str(folder / "acked")] if call == "pwrite64" else []
        trace = ["strace", "-qq", "-o", os.devnull, *narrowed, "-e", f"trace={call}", "-e", fault]
        result = cli("build", "--rebuild", "t.pkr.hcl", under=trace)
        eventually(lambda: settled(folder))
        before = serial(folder)
        if result.rc == 0:
            assert number > 1
            break
        assert result.rc == -signal.SIGKILL
        again = cli("build", "--rebuild", "t.pkr.hcl")
        assert again.rc == 0, again
        assert serial(folder) > before
        assert {path.suffix for path in (folder / "logs").iterdir()} == {".log"}
    else:
        pytest.fail("there is always one more")
    assert states.statuses(cli) == {"null.n": "complete", "file.f": "complete"}


def is_held(folder: Path) -> bool:
    return probe.judge(Layout(folder)).verdict == "held"


def build_and_note(root: Path, notes: Path, environment: dict[str, str]) -> None:
    """One build in this process; each change that was acknowledged is noted."""
    from packer_fork.cli.guard import guarded
    from packer_fork.stores.local.tenure import LocalTenure

    original = LocalTenure.commit

    def commit(self: LocalTenure, draft: Any) -> Any:
        state = original(self, draft)
        with notes.open("ab", buffering=0) as noted:
            noted.write(f"{state.serial} {draft.operation}\n".encode())
        return state

    LocalTenure.commit = commit  # type: ignore[method-assign]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(root)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    guarded(["build", "--rebuild", "t.pkr.hcl"])


@pytest.mark.timeout(400)
def test_killed_at_random_times(cli: Cli, project: Project, tmp_path: Path) -> None:
    project.write("t.pkr.hcl", NULL_AND_FILE)
    folder, notes = states.folder(project.root), tmp_path / "notes"
    notes.touch()
    begun = time.monotonic()
    assert cli("build", "t.pkr.hcl").rc == 0
    took = time.monotonic() - begun
    killed = ended = 0
    while killed < KILLS:
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                build_and_note(project.root, notes, dict(cli.environment))
            os._exit(0)
        eventually(lambda: is_held(folder))
        time.sleep(random.uniform(0, took))
        os.kill(pid, signal.SIGKILL)
        dead = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        killed, ended = killed + dead, ended + (not dead)
        assert ended <= 3 * KILLS, "builds end before anything can kill them"
        eventually(lambda: settled(folder))
        open_journal(folder).read()
    assert cli("build", "t.pkr.hcl").rc == 0
    found = committed(folder)
    noted = [line.split() for line in notes.read_text().splitlines()]
    assert len(noted) > KILLS
    assert sorted(found) == list(range(1, max(found) + 1))
    assert not [serial for serial, _ in noted if int(serial) not in found]
    assert states.statuses(cli) == {"null.n": "complete", "file.f": "complete"}
