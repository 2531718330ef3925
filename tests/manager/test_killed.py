"""The wrapper killed at a commit point: nothing acknowledged is lost.

`make stress` kills at each of its calls, and any process of a build at any time.
"""

import os
import signal
from pathlib import Path

import pytest

from packer_fork.stores.local import probe
from packer_fork.stores.local.layout import Layout
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.hammer import open_journal

pytestmark = pytest.mark.usefixtures("packer", "strace")

ALONE = 'source "null" "n" { communicator = "none" }\nbuild { sources = ["null.n"] }\n'
POINTS = ("fdatasync", "fsync", "rename", "pwrite64", "unlink")


def settled(folder: Path) -> bool:
    """Whether nothing of the last build lives any more."""
    return not any(probe.is_alive(Layout(folder), n) for n in Layout(folder).known_tenures())


def serial(folder: Path) -> int:
    file = open_journal(folder).read()
    return file.state.serial if file else 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", POINTS)
def test_killed_at_a_commit_point(cli: Cli, project: Project, call: str) -> None:
    project.write("t.pkr.hcl", ALONE)
    folder = states.folder(project.root)
    for number in range(1, 100, 8):
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
    assert states.statuses(cli) == {"null.n": "complete"}
