"""Packer's own log fails while Packer lives: the lock stays with Packer, and nothing is lost."""

import os

import pytest

from packer_fork.errors import EXIT_DONE, EXIT_LOCKED, EXIT_STORE
from tests.conftest import Cli, Project, eventually
from tests.support import states
from tests.support.templates import GATED, go_on

pytestmark = pytest.mark.usefixtures("packer", "strace")


def test_a_log_that_cannot_be_read_leaves_the_lock_to_packer(cli: Cli, project: Project) -> None:
    project.write("t.pkr.hcl", GATED)
    raw = states.folder(project.root) / "logs" / "1-1.raw"
    fault = "inject=pread64:error=EIO:when=3+"
    under = ("strace", "-qq", "-o", os.devnull, "-P", str(raw), "-e", "trace=pread64", "-e", fault)
    ended = cli("build", "t.pkr.hcl", under=under)
    assert ended.rc == EXIT_STORE, ended
    assert f"{raw} cannot be read" in ended.err
    eventually((project.root / "begun").exists)
    assert states.status(cli) == "orphaned"
    assert cli("build", "t.pkr.hcl").rc == EXIT_LOCKED
    go_on(project.root)
    eventually(lambda: states.status(cli) == "abandoned")
    assert cli("state", "recover", "t.pkr.hcl").rc == EXIT_DONE
    assert set(states.statuses(cli).values()) == {"complete"}
