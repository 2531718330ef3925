"""``logs --follow``: it ends with the run, also if the run was killed."""

from __future__ import annotations

import os
import signal

import pytest

from packer_fork import processes
from tests.conftest import Cli, Project, eventually
from tests.support.templates import GATED, begun, go_on

pytestmark = pytest.mark.usefixtures("packer")

ENV = {"PACKER_FORK_ON_WRAPPER_DEATH": "finish"}


def test_followed_log_ends_with_the_run(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    running = begun(cli, project, "t.pkr.hcl")
    following = cli.start("logs", "--follow", "t.pkr.hcl")
    eventually(lambda: "Running local shell script" in following.out())
    go_on(project.root)
    assert running.wait().rc == 0
    assert following.wait().rc == 0
    assert "Builds finished" in following.out()


def test_followed_log_ends_when_everything_was_killed(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    running = begun(cli, project, "t.pkr.hcl", env=ENV)
    following = cli.start("logs", "--follow", "t.pkr.hcl")
    eventually(lambda: "Running local shell script" in following.out())
    family = processes.below({running.pid}, processes.all_processes())
    for pid in (running.pid, *(each.pid for each in family)):
        os.kill(pid, signal.SIGKILL)
    running.wait()
    assert following.wait().rc == 0
